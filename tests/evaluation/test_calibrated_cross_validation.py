"""Calibration and prediction sets inside a cross-validation: learnt from the training side, never from those tested."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.baselines.catalogue import fitter_named
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import labelled_windows
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import FoldResult, fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.report.page import write_report
from biopercept.report.score_sections import write_figures
from biopercept.results.cross_validation import load_cross_validation
from biopercept.store.reading import open_store
from biopercept.training.engine import engine_for
from biopercept.training.fitting import held_out_predictions, inner_folds
from biopercept.training.loop import FitRequest
from biopercept.training.settings import FitSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)


def request(store: Path, model: str = "logistic", **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=200, **changes)
    return EvaluationRequest(store, model, fit=SMALL, evaluation=evaluation)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(9))


def first_fold(path: Path, asked: EvaluationRequest) -> tuple[FoldResult, np.ndarray]:
    with open_store(path) as opened:
        plan = plan_evaluation(opened, asked)
        result = fit_fold(plan, plan.folds[0])
        return result, plan.windows.only.values[result.rows]


@pytest.mark.parametrize(
    ("model", "n_folds", "method"),
    [
        ("logistic", 0, "temperature"),
        ("logistic", 2, "isotonic"),
        ("perceiver-io", 0, "isotonic"),
        ("perceiver-io", 2, "temperature"),
    ],
)
def test_the_labels_and_data_of_those_tested_change_neither_calibration_nor_threshold(
    made: ModuleType, tmp_path: Path, model: str, n_folds: int, method: str
) -> None:
    recordings = made.study(9)
    plain = made.store(tmp_path / "plain.h5", recordings)
    asked = {"calibration": method, "calibration_folds": n_folds, "conformal_coverage": 0.4}
    before, target = first_fold(plain, request(plain, model, **asked))
    swapped = {"baseline": "stroop", "stroop": "baseline"}
    for held in recordings:
        if held.subject in before.fold.test:
            held.windows.label[:] = [swapped.get(str(label), label) for label in held.windows.label]
            held.windows.features[:] += 5.0
    changed = made.store(tmp_path / "changed.h5", recordings)
    after, new_target = first_fold(changed, request(changed, model, **asked))
    assert after.fold == before.fold
    assert not np.array_equal(new_target, target)
    assert before.calibration is not None and before.calibration.threshold is not None
    assert after.calibration == before.calibration
    assert not set(before.calibration.subjects) & set(before.fold.test)


def test_the_labels_of_the_training_side_do_change_it(made: ModuleType, tmp_path: Path) -> None:
    recordings = made.study(9)
    plain = made.store(tmp_path / "plain.h5", recordings)
    asked = {"calibration": "temperature", "calibration_folds": 3, "conformal_coverage": 0.4}
    before, _ = first_fold(plain, request(plain, **asked))
    for held in recordings:
        if held.subject in before.fold.training[:2]:
            labels = [{"baseline": "stroop", "stroop": "baseline"}.get(str(w), w) for w in held.windows.label]
            held.windows.label[:] = labels
    changed = made.store(tmp_path / "changed.h5", recordings)
    after, _ = first_fold(changed, request(changed, **asked))
    assert before.calibration is not None and after.calibration is not None
    assert after.calibration.temperature != before.calibration.temperature
    assert after.calibration.threshold != before.calibration.threshold


@pytest.fixture(scope="module")
def asked(made: ModuleType) -> FitRequest:
    """A fit on five subjects, P06 set aside for early stopping; P07 is nobody's business."""
    windows = labelled_windows(made.study(7), made.TASK, length_seconds=made.LENGTH, feature_names=made.FEATURES)
    inputs = WindowInputs(windows, NormalisationSettings(), made.STEP)
    training = windows.rows_of([f"P{i:02d}" for i in range(1, 6)])
    return FitRequest(inputs, training, windows.rows_of(["P06"]), SMALL, engine_for("cpu"), 1)


def test_inner_folds_test_every_training_side_subject_once_and_nobody_else(asked: FitRequest) -> None:
    tested = [subject for fold in inner_folds(asked, 3) for subject in fold.test]
    assert sorted(tested) == sorted(asked.fitting_subjects) and len(tested) == len(set(tested))
    rows, answers = held_out_predictions(asked, fitter_named("logistic"), fitter_named("logistic")(asked), 3)
    assert sorted(rows) == sorted(asked.fitting) and answers.shape == (len(rows), 2)


def test_an_answer_is_of_a_fit_without_its_subject(asked: FitRequest) -> None:
    seen = []

    def spying(inner: FitRequest):
        fitted = fitter_named("logistic")(inner)
        subjects = set(inner.fitting_subjects)

        class Spy:
            is_fitted_to_validation = fitted.is_fitted_to_validation

            def predict(self, rows):
                seen.append(subjects & set(inner.inputs.windows.subject[rows].tolist()))
                return fitted.predict(rows)

        return Spy()

    for n_folds in (0, 3):
        held_out_predictions(asked, spying, spying(asked), n_folds)
    assert seen == [set()] * 4


def test_a_network_is_not_fitted_again_for_its_validation_subjects(asked: FitRequest) -> None:
    fitted = fitter_named("perceiver-io")(asked)

    def refusing(inner: FitRequest):
        raise AssertionError("fitted again")

    rows, answers = held_out_predictions(asked, refusing, fitted, 0)
    assert np.array_equal(rows, asked.validation)
    assert np.array_equal(answers, fitted.predict(rows))


def test_nobody_to_learn_from_is_one_sentence(asked: FitRequest) -> None:
    alone = replace(asked, validation=asked.validation[:0])
    with pytest.raises(
        SettingsError, match=r"calibration needs validation subjects; set training\.validation_fraction"
    ):
        held_out_predictions(alone, fitter_named("logistic"), fitter_named("logistic")(alone), 0)


def test_an_inner_fold_that_could_not_learn_a_class_is_refused(asked: FitRequest) -> None:
    windows = asked.inputs.windows
    target = windows.only.values.copy()
    target[windows.subject != asked.fitting_subjects[0]] = 0
    few = replace(
        asked,
        inputs=replace(
            asked.inputs, windows=replace(windows, targets={"stress": replace(windows.only, values=target)})
        ),
    )
    with pytest.raises(SettingsError, match="no training subject with class 'stress'"):
        held_out_predictions(few, fitter_named("dummy"), fitter_named("dummy")(few), 3)


def test_scores_tables_and_page_tell_of_calibration_and_sets(store: Path, tmp_path: Path) -> None:
    asked = request(store, calibration="temperature", calibration_folds=3, conformal_coverage=0.8)
    scores = cross_validate(asked, tmp_path / "cv", config_text="windows: {}\n")
    assert scores["calibration"]["learnt_from"] == "inner folds over the training side"
    assert scores["calibration"]["n_subjects"] == [6, 6, 6] and len(scores["calibration"]["temperatures"]) == 3
    assert scores["conformal"]["coverage"]["mean"] >= 0.7 and None not in scores["conformal"]["thresholds"]
    with (tmp_path / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    hits = [row["label"] in row["prediction_set"].split(" | ") for row in rows]
    assert np.mean(hits) == pytest.approx(scores["conformal"]["coverage_of_windows"])
    held = load_cross_validation(tmp_path / "cv")
    assert held.conformal is not None and held.conformal.target == 0.8
    assert held.mcc.mean == scores["mcc"]["mean"] and held.subjects[0].mcc is not None
    assert any(path.name == "risk-coverage.svg" for path in write_figures(tmp_path / "cv"))
    page = write_report(tmp_path / "cv").read_text()
    assert "asked to hold the true class in 80%" in page and "calibrated (temperature)" in page
    assert "risk-coverage" in page and "Calibration error" in page


def test_the_numbers_before_calibration_are_those_of_a_run_without(store: Path, tmp_path: Path) -> None:
    plain = cross_validate(request(store), tmp_path / "plain")
    asked = request(store, calibration="isotonic", calibration_folds=2)
    calibrated = cross_validate(asked, tmp_path / "calibrated")
    assert calibrated["calibration"]["uncalibrated"]["brier"] == pytest.approx(plain["brier"])
    assert calibrated["brier"] != plain["brier"]
    assert "calibration" not in plain and "conformal" not in plain


def test_too_few_subjects_for_the_coverage_asked_is_warned_of(store: Path, tmp_path: Path) -> None:
    scores = cross_validate(request(store, conformal_coverage=0.9), tmp_path / "cv")
    assert any("3 of 3 folds had too few subjects (1)" in warning for warning in scores["warnings"])
    assert scores["conformal"]["mean_size"] == 2.0 and scores["conformal"]["answered"] == 0.0


def test_a_calibrated_fold_reads_back_equal_and_a_resumed_run_ends_the_same(store: Path, tmp_path: Path) -> None:
    asked = request(store, calibration="isotonic", calibration_folds=2, conformal_coverage=0.5)
    result, _ = first_fold(store, asked)
    again = FoldResult.from_json(json.loads(json.dumps(result.to_json())), result.fold)
    assert again.calibration == result.calibration
    assert np.array_equal(again.uncalibrated, result.uncalibrated)
    first = cross_validate(asked, tmp_path / "cv")
    (tmp_path / "cv" / "folds" / "002.json").unlink()
    second = cross_validate(asked, tmp_path / "cv")
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}


def test_only_what_folds_depend_on_makes_another_run(store: Path, tmp_path: Path) -> None:
    cross_validate(request(store), tmp_path / "cv")
    scores = cross_validate(request(store, least_quality=0.9), tmp_path / "cv")
    assert scores["risk_coverage"]["least_quality"] == 0.9
    with pytest.raises(SettingsError, match="another split"):
        cross_validate(request(store, calibration="temperature"), tmp_path / "cv")


def test_repetitions_are_averaged_before_anything_is_learnt_from_them(store: Path) -> None:
    asked = request(store, "perceiver-io", calibration="temperature", n_seeds=2)
    result, _ = first_fold(store, asked)
    one, _ = first_fold(store, replace(asked, evaluation=replace(asked.evaluation, n_seeds=1)))
    assert result.calibration is not None and one.calibration is not None
    assert result.calibration.temperature != one.calibration.temperature
    assert result.calibration.n_windows == one.calibration.n_windows
