"""Studies left out: thresholds moved by hand, folds that are the same for every beginning, and a page that says no."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from biopercept.data.splits import Fold
from biopercept.evaluation.plan import plan_evaluation
from biopercept.store.reading import open_store
from biopercept.tasks import Task
from experiments.units import Unit
from measurements import studies_page
from measurements.studies import (
    ARMS,
    BASE_AND_SIGNALS,
    FROM_BASE,
    NETWORK,
    NEW,
    STUDIES,
    WINDOWS,
    AcrossStudies,
    FromBase,
    Place,
    chosen_windows,
    moved_accuracies,
)

HEAD = ("participant_id", "session", "recording", "onset", "label", "probability_rest", "probability_stress")


@pytest.fixture(scope="module")
def place(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Stores of made people under the names of the shared studies; the third has other words for its classes."""
    folder = tmp_path_factory.mktemp("studies")
    words = Task("stress", classes={"rest": ("baseline", "break"), "stress": ("stroop",)})
    for seed, study in enumerate(STUDIES):
        people = made.study(8, seed=seed)
        made.store(folder / f"{study}-30.h5", people, name=study, task=words if seed == 2 else made.TASK)
    return Place(folder, folder)


def write_predictions(folder: Path, log_odds: Mapping[str, Sequence[tuple[str, str, float]]]) -> Path:
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for person, windows in log_odds.items():
            for place, (recording, label, odds) in enumerate(windows):
                chance = 1 / (1 + math.exp(-odds))
                writer.writerow([person, "", recording, 10.0 * place, label, 1 - chance, chance])
    return folder


def test_a_threshold_is_moved_where_a_recording_holds_two_classes_and_nowhere_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = ["rest"] * 30 + ["stress"] * 30
    odds = [2.2 + (1.8 if label == "stress" else -1.8) + 0.3 * random.normal() for label in labels]
    shifted = [("whole", label, value) for label, value in zip(labels, odds, strict=True)]
    by_file = [("one" if label == "rest" else "other", label, value) for _, label, value in shifted]
    folder = write_predictions(tmp_path, {"a/P1": shifted, "b/P1": by_file})
    as_it_is = np.mean(
        [
            np.mean([(o > 0) == (name == "stress") for n, o in zip(labels, odds, strict=True) if n == name])
            for name in ("rest", "stress")
        ]
    )
    assert as_it_is < 0.7
    assert moved_accuracies(folder, "all", 1 / 3) == {"a/P1": 1.0}
    past = moved_accuracies(folder, "past", 1 / 3)
    assert set(past) == {"a/P1"}
    assert as_it_is <= past["a/P1"] < 1.0


def test_every_study_is_tested_by_the_others_under_its_name(place: Place) -> None:
    result = AcrossStudies("logistic", WINDOWS[0], place).run()
    assert sorted(person.partition("/")[0] for person in result["people"]) == [
        s for s in sorted(STUDIES) for _ in range(8)
    ]
    assert np.mean(result["balanced_accuracy"]) > 0.7
    assert set(result["moved"]["all"]) == set(result["people"])
    pair = AcrossStudies("logistic", WINDOWS[0], place, left_out=STUDIES[1])
    assert pair.studies == (STUDIES[0], STUDIES[2])
    assert pair.identity() != AcrossStudies("logistic", WINDOWS[0], place).identity()


def folds_of(unit: FromBase) -> tuple[Fold, ...]:
    store = unit.place.store(unit.study, WINDOWS[0])
    with open_store(store) as opened:
        return plan_evaluation(opened, unit.request).folds


def test_beginnings_share_folds_and_labelled_people_and_few_are_among_more(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Place, "base_without", lambda _, study: tmp_path / f"without-{study}")
    monkeypatch.setattr("biopercept.evaluation.plan.describe_start", lambda *_, **__: (None, ()))
    study = STUDIES[0]
    few, more = (FromBase(study, NEW, n, 0, place) for n in (3, 5))
    based, signals = (FromBase(study, arm, 3, 0, place) for arm in (FROM_BASE, BASE_AND_SIGNALS))
    assert folds_of(few) == folds_of(based) == folds_of(signals)
    assert folds_of(few) != folds_of(FromBase(study, NEW, 3, 1, place))
    for one, other in zip(folds_of(few), folds_of(more), strict=True):
        assert one.test == other.test
        assert len(one.fitting) < len(other.fitting)
        assert set(one.fitting) < set(other.fitting)
    assert [unit.request.fit.start_from for unit in (few, based, signals)] == [
        "",
        *[str(tmp_path / f"without-{study}")] * 2,
    ]
    assert [unit.request.fit.pretraining is None for unit in (few, based, signals)] == [True, True, False]
    assert few.request.fit.training.n_epochs == based.request.fit.training.n_epochs
    assert few.request.fit.training.n_epochs >= more.request.fit.training.n_epochs


def test_windows_are_chosen_by_the_studies_that_are_not_scored() -> None:
    scores = {WINDOWS[0]: {"a": 0.7, "b": 0.6}, WINDOWS[1]: {"a": 0.6, "b": 0.8}}
    results = {
        ("m", w, study): {"balanced_accuracy": [x, None]} for w, row in scores.items() for study, x in row.items()
    }
    assert [chosen_windows(results, "m", study) for study in ("a", "b")] == [WINDOWS[0], WINDOWS[1]]


class Played:
    """Results in the place of fits: the network leads by ``lead`` points, the base by ``gain``."""

    def __init__(self, lead: float, gain: float) -> None:
        self.lead, self.gain = lead, gain

    def __call__(self, units: Sequence[Unit], *_: object, **__: object) -> list[dict[str, Any]]:
        return [{"result": self.result(unit)} for unit in units]

    def result(self, unit: Unit) -> dict[str, Any]:
        if isinstance(unit, FromBase):
            people, better = [f"P{i}" for i in range(9)], 0.0 if unit.arm == NEW else self.gain
            values = [0.7 + 0.01 * (i % 3) + better + 0.002 * (i % 2) * (unit.arm != NEW) for i in range(9)]
            return {"people": people, "balanced_accuracy": values, "auroc": values, "labelled": [unit.n_labelled] * 2}
        assert isinstance(unit, AcrossStudies)
        people = [f"{study}/P{i}" for study in unit.studies for i in range(9)]
        ahead = self.lead if unit.model == NETWORK else 0.0
        values = [0.6 + 0.01 * (i % 5) + ahead + 0.003 * (i % 2) * (unit.model == NETWORK) for i in range(len(people))]
        moved = {person: 0.9 for person in people if not person.startswith(STUDIES[-1])}
        return {"people": people, "balanced_accuracy": values, "auroc": values, "moved": {"past": moved, "all": moved}}


def page(place: Place, monkeypatch: pytest.MonkeyPatch, lead: float, gain: float) -> str:
    monkeypatch.setattr(studies_page, "run_units", Played(lead, gain))
    monkeypatch.setattr(Place, "base_without", lambda _, study: Path(study))
    wanted = studies_page.Wanted((NETWORK, "logistic"), (), ARMS[:2], 2)
    return studies_page.page(place, wanted, lambda *_: None)


def test_the_page_advertises_only_what_is_better_with_its_interval(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = page(place, monkeypatch, 0.1, 0.05)
    assert "`--start-from base` is worth trying on few people." in better
    assert "Worse: nowhere. No difference shown: nowhere." in better
    none = page(place, monkeypatch, 0.1, -0.001)
    assert "Better than new weights (interval above 0): nowhere." in none
    assert "So `--start-from base` is not recommended by these figures" in none
    worse = page(place, monkeypatch, 0.1, -0.05)
    assert "No difference shown: nowhere." in worse
    assert "not recommended" in worse


def test_rows_are_of_one_study_and_what_cannot_be_moved_has_no_figure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(place, monkeypatch, 0.1, 0.05)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "| logistic |" in line]
    assert [row[0] for row in rows] == [*STUDIES, "all"]
    assert [row[2] for row in rows] == ["9", "9", "9", "27"]
    assert [row[6] for row in rows] == ["90.0", "90.0", "–", "–"]
    assert all(row[5].startswith("+10.") for row in rows)
    [first] = [line for line in text.splitlines() if line.startswith(f"| {STUDIES[0]} | 9 | 5 |")]
    assert first.count("+5.") >= 1
