"""The missing-sensor matrix: one fit, asked with every set of sensors, as if the others had not been recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.baselines.catalogue import MODELS, PROBES
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold, fit_together
from biopercept.evaluation.missing_sensors import every_sensor_set, sensor_sets
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.evaluation.time_split import plan_in_time
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.recording import Channel
from biopercept.report.page import write_report
from biopercept.report.score_sections import write_figures
from biopercept.report.scores import sensor_table
from biopercept.results.cross_validation import load_cross_validation
from biopercept.store.prepared import PreparedRecording, StoredSignal
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=1, batch_size=32, learning_rate=3e-3),
)


def request(store: Path, model: str = "logistic", **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=200, missing_sensors="all")
    return EvaluationRequest(store, model, fit=SMALL, evaluation=replace(evaluation, **changes))


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6))


def test_every_set_is_asked_once_and_named_as_elsewhere() -> None:
    for n in range(1, 6):
        every = every_sensor_set("abcde"[:n])
        assert len(every) == len({tuple(kept) for kept in every.values()}) == 2**n - 1
        assert sensor_sets("abcde"[:n]).items() <= every.items()


def with_wave(recordings: Sequence[PreparedRecording]) -> list[PreparedRecording]:
    """Return the recordings with an electrocardiogram at 128 Hz, of which their heart rate comes."""
    found = []
    for held in recordings:
        n = int(held.duration_seconds * 128)
        wave = np.random.default_rng([*held.subject.encode()]).normal(size=(1, n)).astype(np.float32)
        signal = StoredSignal("ECG", "ecg", "mV", 128.0, 128.0, 0.0, (Channel("ECG"),), n, "")
        quality = np.asarray(held.windows.quality)
        windows = replace(held.windows, quality=np.concatenate([quality, np.ones_like(quality[:, :1])], axis=1))
        found.append(
            replace(
                held,
                signals=(*held.signals, signal),
                samples={**held.samples, "ECG": wave},
                masks={**held.masks, "ECG": np.ones((1, n), dtype=bool)},
                windows=windows,
                quality={**held.quality, "ECG": np.ones((1, int(held.duration_seconds)), dtype=np.float32)},
            )
        )
    return found


@pytest.mark.parametrize("model", [m for m in MODELS if m not in PROBES])
def test_answers_without_a_sensor_are_those_of_a_recording_that_never_had_it(
    made: ModuleType, tmp_path: Path, model: str
) -> None:
    """Oracle: the same fit asked about a study in which the test subjects' skin conductance was never recorded."""
    waves = with_wave if model == "ecg-transformer" else list  # it reads nothing else
    recordings = made.study(6)
    whole = made.store(tmp_path / "whole.h5", waves(recordings))
    with open_store(whole) as opened:
        plan = plan_evaluation(opened, request(whole, model))
        fold = plan.folds[0]
        asked = fit_fold(plan, fold)
    gone = ("EDA", "tonic")
    fewer = [made.recording(r.subject, seed=0, missing=gone) if r.subject in fold.test else r for r in recordings]
    bare = made.store(tmp_path / "bare.h5", waves(fewer))
    with open_store(bare) as opened:
        plain = replace(request(bare, model), evaluation=replace(request(bare).evaluation, missing_sensors="none"))
        expected = fit_fold(plan_evaluation(opened, plain), fold)
    assert expected.fewer_sensors is None
    assert asked.fewer_sensors is not None
    assert np.array_equal(asked.fewer_sensors["all"], asked.probabilities)
    answers = asked.fewer_sensors["without eda"]
    has = np.isfinite(answers).all(axis=1)
    assert has.any()
    assert np.allclose(answers[has], expected.probabilities[has], atol=1e-5)
    changed = np.abs(answers - asked.probabilities)[has].max()
    # One reads the heart alone; the other's leaves of thirty windows leave no split on skin conductance here.
    if model not in ("ecg-transformer", "boosting"):
        assert changed > 1e-4, "a sensor that the model reads must count"


def test_windows_with_nothing_left_are_no_answers_and_no_zeros(store: Path) -> None:
    """The last subject has no skin conductance: with that alone there is nothing to say about it."""
    for model in ("perceiver-io", "logistic", "majority-vote"):
        with open_store(store) as opened:
            plan = plan_evaluation(opened, request(store, model))
            fold = next(fold for fold in plan.folds if "P06" in fold.test)
            found = fit_fold(plan, fold)
        is_last = plan.windows.subject[found.rows] == "P06"
        only = found.fewer_sensors["without ecg"]
        assert np.isnan(only[is_last]).all()
        assert np.isfinite(only[~is_last]).all()


def test_sensors_that_a_network_does_not_read_are_nothing_left(made: ModuleType, tmp_path: Path) -> None:
    """One network reads the wave of the heart alone: of skin conductance alone it can say nothing."""
    store = made.store(tmp_path / "made.h5", with_wave(made.study(6)))
    scores = cross_validate(request(store, "ecg-transformer"), tmp_path / "cv")
    subsets = {held["sensors"]: held for held in scores["missing_sensors"]["subsets"]}
    assert subsets["without eda"]["n_windows"] == subsets["all"]["n_windows"] == scores["n_windows"]
    lost = subsets["without ecg"]
    assert lost["n_windows"] == 0
    for name in ("balanced_accuracy", "auroc", "difference", "auroc_difference"):
        assert lost[name] == {"mean": None, "ci95": None, "n_subjects": 0}
    rows = list(csv.DictReader((tmp_path / "cv" / "missing_sensors.csv").read_text().splitlines()))
    empty = [row for row in rows if row["sensors"] == "without ecg"]
    assert len(empty) == 6
    assert {(row["n_windows_answered"], row["balanced_accuracy"], row["difference"]) for row in empty} == {
        ("0", "", "")
    }
    table = sensor_table(load_cross_validation(tmp_path / "cv"))
    assert table is not None
    assert table.rows[2][:4] == ("without ecg", "0", "0", "n/a")
    assert write_report(tmp_path / "cv").is_file()


def test_a_subject_who_never_had_what_is_left_is_not_answered_by_a_network_without_features(store: Path) -> None:
    asked = request(store, "perceiver-io", split="subject")
    asked = replace(asked, fit=replace(SMALL, tokens=TokenSettings(features=False)))
    with open_store(store) as opened:
        plan = plan_evaluation(opened, asked)
        found = fit_fold(plan, next(fold for fold in plan.folds if fold.test == ("P06",)))
    assert np.isnan(found.fewer_sensors["without ecg"]).all()
    assert np.isfinite(found.fewer_sensors["without eda"]).all()


def test_scores_of_all_sensors_are_the_scores_and_differences_are_paired(store: Path, tmp_path: Path) -> None:
    scores = cross_validate(request(store), tmp_path / "cv")
    held = scores["missing_sensors"]
    assert (held["mode"], held["sensors"]) == ("all", ["ecg", "eda"])
    assert [s["sensors"] for s in held["subsets"]] == ["all", "without eda", "without ecg"]
    first = held["subsets"][0]
    for name in ("balanced_accuracy", "auroc"):
        assert first[name]["mean"] == scores[name]["mean"]
        assert first[name]["ci95"] == scores[name]["ci95"]
    assert first["difference"]["mean"] == 0
    rows = list(csv.DictReader((tmp_path / "cv" / "missing_sensors.csv").read_text().splitlines()))
    assert len(rows) == 6 * 3
    by = {(row["participant_id"], row["sensors"]): row for row in rows}
    differences = []
    for subject in ("P01", "P02", "P03", "P04", "P05"):
        mine, best = by[subject, "without ecg"], by[subject, "all"]
        expected = float(mine["balanced_accuracy"]) - float(best["balanced_accuracy"])
        assert float(mine["difference"]) == expected
        differences.append(expected)
    assert held["subsets"][2]["difference"]["mean"] == pytest.approx(np.mean(differences))
    assert held["subsets"][2]["difference"]["n_subjects"] == 5
    assert by["P06", "without ecg"]["n_windows_answered"] == "0"
    lost_nothing = by["P06", "without eda"]  # never had it: a difference of 0 would dilute what it costs the others
    assert lost_nothing["balanced_accuracy"] == by["P06", "all"]["balanced_accuracy"]
    assert (lost_nothing["difference"], lost_nothing["auroc_difference"]) == ("", "")
    assert held["subsets"][1]["difference"]["n_subjects"] == 5
    again = cross_validate(request(store), tmp_path / "cv")
    assert again == scores
    plain = cross_validate(request(store, missing_sensors="none"), tmp_path / "plain")
    assert "missing_sensors" not in plain
    assert plain["balanced_accuracy"] == scores["balanced_accuracy"]
    assert not (tmp_path / "plain" / "missing_sensors.csv").exists()
    with pytest.raises(SettingsError, match="holds a run with another split"):  # its folds kept no answers of that kind
        cross_validate(request(store), tmp_path / "plain")
    page = write_report(tmp_path / "cv").read_text(encoding="utf-8")
    assert "Against all, paired" in page
    assert "With fewer sensors" in page
    assert "without ecg" in page
    assert (tmp_path / "cv" / "figures" / "missing-sensors.svg") in write_figures(tmp_path / "cv")
    assert json.loads((tmp_path / "cv" / "scores.json").read_text())["missing_sensors"] == held


def test_stacked_folds_seeds_and_calibration_are_asked_as_single_ones(store: Path) -> None:
    asked = request(store, "perceiver-io", n_seeds=2, calibration="temperature")
    with open_store(store) as opened:
        plan = plan_evaluation(opened, asked)
        single = [fit_fold(plan, fold) for fold in plan.folds[:2]]
        together = fit_together(plan, plan.folds[:2])
    for one, other in zip(single, together, strict=True):
        assert np.array_equal(one.fewer_sensors["all"], one.probabilities)
        for name, answers in one.fewer_sensors.items():
            assert np.allclose(answers, other.fewer_sensors[name], atol=1e-4, equal_nan=True)


def test_a_split_by_time_refuses_a_probe_before_anything_is_fitted(store: Path) -> None:
    sentence = "evaluation.missing_sensors is all, but clock-only is a probe; use none for it"
    with pytest.raises(SettingsError, match=f"^{sentence}$"), open_store(store) as opened:
        plan_in_time(opened, request(store, "clock-only", split="time"))


@pytest.mark.parametrize(
    ("model", "mode", "sentence"),
    [
        ("clock-only", "all", "evaluation.missing_sensors is all, but clock-only is a probe; use none for it"),
        ("logistic", "some", "evaluation.missing_sensors is 'some'; allowed are none, single, all"),
    ],
)
def test_what_has_no_sensors_to_miss_is_refused(store: Path, model: str, mode: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused, open_store(store) as opened:
        plan_evaluation(opened, request(store, model, missing_sensors=mode))
    assert str(refused.value) == sentence


def test_one_sensor_is_too_few(made: ModuleType, tmp_path: Path) -> None:
    only = [made.recording(f"P{i}", seed=0, missing=("heart_rate",)) for i in range(6)]
    path = made.store(tmp_path / "one.h5", only)
    with pytest.raises(SettingsError) as refused, open_store(path) as opened:
        plan_evaluation(opened, request(path))
    assert str(refused.value) == ("evaluation.missing_sensors is all, but there is one sensor (eda); two are needed")
