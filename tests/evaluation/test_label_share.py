"""Few labels: who keeps them, that nobody else's are read, and that every output says so."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.data.splits import Fold, choose_labelled, choose_validation, make_folds
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.report.scores import methods_text, score_table
from biopercept.results.folder import load_results
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)
BRIEF = PretrainingSettings(n_epochs=1, batch_size=32, n_queries=4)
PEOPLE = [f"P{i:02d}" for i in range(40)]


def request(store: Path, share: float, model: str = "perceiver-io", **fit: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=2, n_bootstrap=200, label_share=share)
    return EvaluationRequest(store, model, fit=replace(SMALL, **fit), evaluation=evaluation)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(9))


def test_smaller_shares_are_parts_of_larger_ones_and_folds_draw_anew() -> None:
    drawn = [set(choose_labelled(PEOPLE, share, "salt")) for share in (0.01, 0.1, 0.25, 0.5, 1.0)]
    assert [len(held) for held in drawn] == [2, 4, 10, 20, 40]
    assert all(small < large for small, large in pairwise(drawn))
    assert choose_labelled(PEOPLE[::-1], 0.1, "salt") == tuple(sorted(drawn[1])) != choose_labelled(PEOPLE, 0.1, "x")
    folds = {share: make_folds(PEOPLE, "k-fold", n_folds=4, label_share=share) for share in (0.1, 0.25, 1.0)}
    for few, some, whole in zip(*folds.values(), strict=True):
        assert few.test == some.test == whole.test
        assert set(few.fitting) < set(some.fitting) < set(whole.fitting)
        assert set(whole.fitting) == {*few.fitting, *few.unlabelled} == {*some.fitting, *some.unlabelled}
    assert len({fold.fitting for fold in folds[0.1]}) == 4


def test_all_labels_leave_the_folds_as_they_were() -> None:
    assert make_folds(PEOPLE, "subject", label_share=1.0) == make_folds(PEOPLE, "subject")
    assert "unlabelled" not in make_folds(PEOPLE, "subject")[0].to_json()


def test_early_stopping_looks_at_labelled_subjects_and_is_dropped_where_they_are_few() -> None:
    for share, n_labelled in ((0.05, 2), (0.1, 3), (0.125, 4), (0.25, 8), (1.0, 30)):
        fold = make_folds(PEOPLE, "k-fold", n_folds=4, label_share=share, seed=1)[0]
        assert len(fold.fitting) == n_labelled
        assert fold.validation == (choose_validation(fold.fitting, 0.15, f"1-{fold.name}") if n_labelled > 3 else ())
        assert (len(fold.validation) > 0) == (n_labelled > 3)
        assert not set(fold.validation) & set(fold.unlabelled)
    # Three subjects of a study of four, all labelled: as before.
    assert [len(fold.validation) for fold in make_folds(PEOPLE[:4], "subject")] == [1] * 4


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(SettingsError, match=r"evaluation\.label_share is .*; it must be above 0 and at most 1"):
        EvaluationSettings(label_share=share)


@pytest.mark.parametrize("model", ["perceiver-io", "logistic", "boosting"])
def test_an_unlabelled_subject_never_changes_a_fit_and_its_signals_only_pretraining(
    made: ModuleType, tmp_path: Path, model: str
) -> None:
    recordings = made.study(9)

    def told(name: str, held, **fit: object) -> tuple[np.ndarray, Fold]:
        store = made.store(tmp_path / f"{name}.h5", held)
        with open_store(store) as opened:
            plan = plan_evaluation(opened, request(store, 0.5, model, **fit))
            return fit_fold(plan, plan.folds[0]).probabilities, plan.folds[0]

    before, fold = told("plain", recordings)
    who = fold.unlabelled[0]
    strange = made.recording(who, seed=99, offset=300.0)
    other_labels = made.study(9)
    for held in (strange, next(r for r in other_labels if r.subject == who)):
        labels = held.windows.label
        labels[labels == "stroop"], labels[labels == "baseline"] = "baseline", "stroop"
    other_signals = [strange if r.subject == who else r for r in recordings]
    assert np.array_equal(told("labels", other_labels)[0], before)
    assert np.array_equal(told("signals", other_signals)[0], before)
    if model == "perceiver-io":
        begun = told("begun", recordings, pretraining=BRIEF)[0]
        assert not np.array_equal(begun, before)
        assert np.array_equal(told("begun-labels", other_labels, pretraining=BRIEF)[0], begun)
        assert not np.array_equal(told("begun-signals", other_signals, pretraining=BRIEF)[0], begun)


def test_folds_scores_and_report_say_how_many_had_labels(store: Path, tmp_path: Path) -> None:
    few = cross_validate(request(store, 0.5, "logistic"), tmp_path / "all" / "few")
    assert few["labels"] == {
        "share": 0.5,
        "subjects_labelled": [2, 2],
        "subjects_of_training_side": [4, 5],
        "subjects_for_early_stopping": [0, 0],
    }
    said = "labels of 2 of 4 to 5 training subjects per fold were used (label share 0.5); too few to set any aside"
    assert any(warning.startswith(said) for warning in few["warnings"])
    folds = json.loads((tmp_path / "all" / "few" / "folds.json").read_text())["folds"]
    assert sorted(len(fold["unlabelled"]) for fold in folds) == [2, 3]
    whole = cross_validate(request(store, 1.0, "logistic"), tmp_path / "all" / "whole")
    assert (whole["labels"]["share"], whole["labels"]["subjects_labelled"]) == (1.0, [4, 5])
    assert not any("label share" in warning for warning in whole["warnings"])
    held = {v.name: v for v in load_results(tmp_path / "all").cross_validations}
    table = score_table(list(held.values()))
    column = table.columns.index("Labels of training subjects")
    assert {row[0].split()[1]: row[column] for row in table.rows} == {
        "(few)": "2 of 4 to 5",
        "(whole)": "4 to 5 of 4 to 5",
    }
    assert "Labels of training subjects" not in score_table([held["whole"]]).columns
    assert any("the labels of 2 of 4 to 5 training subjects were used" in line for line in methods_text(held["few"]))
    assert not any("label share" in line for line in methods_text(held["whole"]))


def test_a_run_of_another_share_is_refused_and_one_of_the_same_goes_on(store: Path, tmp_path: Path) -> None:
    for begun, later in ((0.5, 0.9), (0.5, 1.0), (1.0, 0.5)):
        folder = tmp_path / f"{begun}-{later}"
        first = cross_validate(request(store, begun, "logistic"), folder)
        with pytest.raises(SettingsError, match="holds a run with another label_share; choose another output"):
            cross_validate(request(store, later, "logistic"), folder)
        (folder / "folds" / "002.json").unlink()
        told: list[bool] = []
        again = cross_validate(
            request(store, begun, "logistic"), folder, on_fold=lambda f, was, n, t=told: t.append(was)
        )
        assert (told, again["brier"]) == ([True, False], first["brier"])
