"""Cross-validation in time: a subject's later windows by its earlier ones, and nothing of the later part before."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.baselines.catalogue import MODELS
from biopercept.data.batches import TokenSource
from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import CheckpointError, SettingsError, StudyError
from biopercept.evaluation import cross_validation
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.evaluation.time_split import TimePlan, plan_in_time
from biopercept.model.settings import PerceiverSettings
from biopercept.report.scores import methods_text
from biopercept.results.cross_validation import load_cross_validation
from biopercept.store.prepared import PreparedRecording
from biopercept.store.reading import open_store
from biopercept.training.engine import engine_for
from biopercept.training.final import Provenance, TrainingRequest, train
from biopercept.training.loop import FitRequest
from biopercept.training.objective import predict_windows
from biopercept.training.settings import FitSettings, PersonalisationSettings, PretrainingSettings, TrainingSettings

SMALL = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)
BRIEF = PersonalisationSettings(n_steps=6, check_every=3, batch_size=8, scratch_steps=3)


def request(store: Path, model: str = "logistic", **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="time", n_bootstrap=200, **changes.pop("evaluation", {}))
    fit = replace(SMALL, **changes.pop("fit", {}))
    return EvaluationRequest(store, model, fit=fit, evaluation=evaluation, personalisation=BRIEF, **changes)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(4))


@pytest.fixture(scope="module")
def model(made: ModuleType, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of P02, P03 and P04."""
    return trained(store, tmp_path_factory.mktemp("model") / "model", excluded=("P01",))


def trained(store: Path, folder: Path, **changes: object) -> Path:
    with open_store(store) as opened:
        asked = EvaluationRequest(store, fit=SMALL, **changes)
        plan = plan_evaluation(opened, asked, needs_folds=False)
        origin = Provenance(opened.name, plan.store_fingerprint, dict(opened.settings), ("eda",))
        train(TrainingRequest(plan.inputs, SMALL, origin, device="cpu"), folder)
    return folder


def spans(plan: TimePlan, subject: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the onsets of the windows that are learnt from and of those that are scored."""
    [fold] = [fold for fold in plan.folds if fold.name == subject]
    windows = plan.windows
    return windows.onset[windows.rows_of(fold.fitting)], windows.onset[windows.rows_of(fold.test)]


@pytest.mark.parametrize("embargo", [0.0, 35.0])
def test_an_embargo_of_a_window_or_more_lies_before_what_is_scored(
    store: Path, made: ModuleType, embargo: float
) -> None:
    plan = plan_in_time(open_store(store), request(store, evaluation={"embargo_seconds": embargo}))
    assert [fold.name for fold in plan.folds] == ["P01", "P02", "P03", "P04"]
    for subject in ("P01", "P04"):
        learnt, scored = spans(plan, subject)
        assert learnt.max() + made.LENGTH + max(embargo, made.LENGTH) <= scored.min()
    assert f"{plan.embargo_seconds:g} s lie between them" in plan.warnings[-1]
    assert plan.embargo_seconds == max(embargo, made.LENGTH)
    counted = [n for reason, n in plan.windows.excluded.items() if "ignored" not in reason]
    assert len(plan.windows) + sum(counted) == 4 * 25


def test_the_files_are_those_of_a_cross_validation_with_the_later_windows_alone(store: Path, tmp_path: Path) -> None:
    scores = cross_validate(request(store), tmp_path / "cv")
    with (tmp_path / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    plan = plan_in_time(open_store(store), request(store))
    for subject in ("P01", "P02", "P03", "P04"):
        onsets = [float(row["onset"]) for row in rows if row["participant_id"] == subject]
        assert onsets == spans(plan, subject)[1].tolist()
    assert (scores["split"], scores["n_subjects"], scores["n_folds"]) == ("time", 4, 4)
    assert scores["n_windows"] == len(rows)
    assert scores["n_windows_left_out"]["in the earlier part, which is learnt from"] == sum(
        len(spans(plan, name)[0]) for name in ("P01", "P02", "P03", "P04")
    )
    assert scores["balanced_accuracy"]["mean"] > 0.75
    assert scores["labels"]["minutes_of_own_labels"] == [3.0, 3.0]
    methods = " ".join(methods_text(load_cross_validation(tmp_path / "cv")))
    assert (
        "looked at the last of the subject's own earlier windows, never at the later ones, which are scored" in methods
    )
    assert "validation subjects" not in methods


def changed_after(held: PreparedRecording, seconds: float, length: float) -> PreparedRecording:
    """Return a recording with other data and swapped labels from a time on."""
    windows = held.windows
    is_after = np.asarray(windows.onset) >= seconds
    reaches_after = np.asarray(windows.onset) + length > seconds
    swap = {"baseline": "stroop", "stroop": "baseline"}
    label = np.array(
        [swap.get(str(w), str(w)) if after else str(w) for w, after in zip(windows.label, is_after, strict=True)]
    )
    features = np.array(windows.features)
    features[reaches_after] = 5.0 - 3.0 * features[reaches_after]
    samples = {}
    for signal in held.signals:
        values = held.samples[signal.name].copy()
        values[:, round(seconds * signal.sampling_rate) :] *= -2.0
        samples[signal.name] = values
    return replace(held, samples=samples, windows=replace(windows, label=label, features=features))


CASES = [(model, "causal") for model in MODELS] + [
    (model, mode) for model in ("perceiver-io", "logistic") for mode in ("raw", "global", "reference")
]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_data_and_labels_of_the_later_part_reach_no_model(
    made: ModuleType, tmp_path: Path, name: str, mode: str
) -> None:
    """A model fitted on the earlier part answers the same about it, whatever the later part holds."""
    assert answers(made, tmp_path, name, mode, replace(SMALL)) == ""


def test_data_and_labels_of_the_later_part_do_not_reach_an_adapted_model(
    made: ModuleType, tmp_path: Path, model: Path
) -> None:
    assert answers(made, tmp_path, "perceiver-io", "causal", replace(SMALL, start_from=str(model))) == ""


def answers(made: ModuleType, folder: Path, name: str, mode: str, fit: FitSettings) -> str:
    """Return what differs between the answers about the earlier part of two studies that differ in the later part."""
    normalisation = NormalisationSettings(mode=mode, reference_seconds=30.0)
    told, begins = [], {}
    plain = made.study(2)
    for number in range(2):
        recordings: Sequence[PreparedRecording] = plain
        if number:
            recordings = [changed_after(held, begins[held.subject], made.LENGTH) for held in plain]
        path = made.store(folder / f"{number}.h5", recordings)
        asked = replace(request(path, name), fit=fit)
        if not fit.start_from:
            asked = replace(asked, normalisation=normalisation, is_normalisation_chosen=True)
        plan = plan_in_time(open_store(path), asked)
        windows = plan.windows
        begins = {held.subject: float(spans(plan, held.subject)[1].min()) for held in plain}
        for fold in plan.folds:
            training, checking = windows.rows_of(fold.training), windows.rows_of(fold.validation)
            fitted = plan.fitter()(FitRequest(plan.inputs, training, checking, plan.request.fit, engine_for("cpu"), 3))
            rows = windows.rows_of(fold.fitting)
            assert number or len(checking)
            told.append(
                (
                    windows.onset[rows].tolist(),
                    fitted.predict(rows),
                    fitted.predict(windows.rows_of(fold.test)),
                )
            )
    for first, second in zip(told[:2], told[2:], strict=True):
        assert first[0] == second[0]
        if not np.array_equal(first[1], second[1]):
            return f"{np.abs(first[1] - second[1]).max()}"
    # The change is one that models see: what is said of the later part is another.
    # Blind are models without their sensor, and trees that too few windows leave without a branch.
    blind = ("dummy", "clock-only", "quality-only", "motion-only", "ecg-transformer", "bagging", "boosting")
    if name not in blind and all(np.array_equal(a[2], b[2]) for a, b in zip(told[:2], told[2:], strict=True)):
        return "nothing was changed"
    return ""


def test_a_run_killed_between_subjects_goes_on_and_ends_the_same(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross_validate(request(store, "perceiver-io"), tmp_path / "straight", n_jobs=2)
    fits = []

    def failing(plan, folds, n_jobs):
        for fold in folds:
            if len(fits) == 2:
                raise KeyboardInterrupt
            fits.append(fold.name)
            yield fold, fit_fold(plan, fold)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cross_validation, "fit_folds", failing)
        cross_validate(request(store, "perceiver-io"), tmp_path / "stopped")
    cross_validate(request(store, "perceiver-io"), tmp_path / "stopped")
    for name in ("scores.csv", "predictions.csv", "folds.json"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "straight" / name).read_text()
    with pytest.raises(SettingsError, match="holds a run with another split"):
        cross_validate(request(store, "perceiver-io", evaluation={"earlier_share": 0.5}), tmp_path / "stopped")


def test_a_model_is_adapted_within_each_subject_and_those_it_has_seen_are_a_leak(
    store: Path, model: Path, tmp_path: Path
) -> None:
    scores = cross_validate(request(store, "perceiver-io", fit={"start_from": str(model)}), tmp_path / "cv")
    [leak] = [w for w in scores["warnings"] if w.startswith("LEAK")]
    assert leak == (
        "LEAK: the model started from had seen 3 of the 4 scored subjects (P02, P03, P04), their scored windows "
        "included; start from a model trained without them (train --exclude-subjects)"
    )
    [how] = [w for w in scores["warnings"] if w.startswith("adapted by low-rank")]
    folds = [json.loads(path.read_text()) for path in sorted((tmp_path / "cv" / "folds").iterdir())]
    fallen = [fold["fold"] for fold in folds if fold.get("n_fallen_back")]
    assert f"for {len(fallen)} of 4 subjects" in how
    assert all(name in how for name in fallen)
    twice = request(store, "perceiver-io", fit={"start_from": str(model)}, subjects=("P01",), evaluation={"n_seeds": 2})
    honest = cross_validate(twice, tmp_path / "honest")
    assert any("check windows in one or more of 2 repetitions, and the" in warning for warning in honest["warnings"])
    assert [w for w in honest["warnings"] if w.startswith("LEAK")] == []


@pytest.mark.parametrize(
    ("unchecked", "done"),
    [
        ("keep", "the starting model was kept (personalisation.unchecked=keep)"),
        ("adapt", "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)"),
    ],
)
def test_where_nothing_can_be_checked_the_starting_model_is_kept_unless_asked_otherwise(
    store: Path, model: Path, tmp_path: Path, unchecked: str, done: str
) -> None:
    few = {"earlier_share": 0.05, "embargo_seconds": 30.0}  # leaves two windows of stress, which overlap
    asked = request(store, "perceiver-io", fit={"start_from": str(model)}, evaluation=few, subjects=("P01",))
    asked = replace(asked, personalisation=replace(BRIEF, unchecked=unchecked))
    scores = cross_validate(asked, tmp_path / "cv")
    told = [w for w in scores["warnings"] if "set aside" in w]
    assert told == [f"no label could be set aside to check on for 1 of 1 subjects (P01); {done}"]
    assert any(w.startswith("adapted by low-rank: for 0 of 1 subjects it was not better") for w in scores["warnings"])
    plan = plan_in_time(open_store(store), asked)
    [fold] = plan.folds
    rows = plan.windows.rows_of(fold.test)
    source = TokenSource(plan.inputs, plan.checkpoint.population, plan.checkpoint.tokens, engine_for("cpu").device)
    start = predict_windows(plan.checkpoint.network, (plan.task,), source, rows)["stress"]
    assert np.array_equal(fit_fold(plan, fold).probabilities, start) is (unchecked == "keep")


def test_an_adapted_model_is_asked_with_fewer_sensors(store: Path, model: Path, tmp_path: Path) -> None:
    asked = request(
        store, "perceiver-io", fit={"start_from": str(model)}, subjects=("P01",), evaluation={"missing_sensors": "all"}
    )
    scores = cross_validate(asked, tmp_path / "cv")
    subsets = {row["sensors"]: row for row in scores["missing_sensors"]["subsets"]}
    assert list(subsets) == ["all", "without eda", "without ecg"]
    assert subsets["all"]["balanced_accuracy"]["mean"] == scores["balanced_accuracy"]["mean"]
    assert all(row["n_windows"] == scores["n_windows"] for row in subsets.values())
    [fold] = [json.loads(path.read_text()) for path in (tmp_path / "cv" / "folds").iterdir()]
    assert not np.allclose(fold["fewer_sensors"]["without eda"], fold["probabilities"], atol=1e-4)


def test_who_cannot_be_split_is_named_and_not_scored(made: ModuleType, tmp_path: Path) -> None:
    short = made.recording("P05", seed=1)
    label = np.array(short.windows.label)
    label[label == "stroop"] = "break"
    windows = replace(short.windows, label=label)
    path = made.store(tmp_path / "made.h5", [*made.study(2), replace(short, windows=windows)])
    scores = cross_validate(request(path), tmp_path / "cv")
    assert (scores["n_subjects"], scores["n_folds"]) == (2, 2)
    assert "1 of 3 subjects cannot be split and are not scored: P05 (too few windows of stress)" in scores["warnings"]


def test_a_study_of_which_nobody_can_be_split_is_refused(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.planted("order", n_subjects=3), features=made.AUDIT_FEATURES)
    with pytest.raises(
        StudyError,
        match=r"^no subject can be split by time: no moment with every class before and after it; use --split subject$",
    ):
        cross_validate(request(path), tmp_path / "cv")


def test_where_each_file_has_one_class_it_is_impossible(made: ModuleType, tmp_path: Path) -> None:
    task = replace(made.TASK, label_is_file=True)
    path = made.store(
        tmp_path / "made.h5", made.planted("length", n_subjects=3), task=task, features=made.AUDIT_FEATURES
    )
    with pytest.raises(
        StudyError,
        match=r"^each file has one class of task 'stress', so within a subject the file tells the label and --split "
        r"time is impossible; use cross-validate --split subject$",
    ):
        cross_validate(request(path), tmp_path / "cv")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"evaluation": {"embargo_seconds": 5.0}},
            r"evaluation.embargo_seconds is 5 s; it must be at least one window \(20 s\)",
        ),
        (
            {"evaluation": {"label_share": 0.5}},
            "--label-share takes labels from subjects; with --split time set evaluation.",
        ),
        (
            {"evaluation": {"calibration": "temperature"}},
            "calibration and prediction sets are learnt from people outside",
        ),
        ({"evaluation": {"folds_at_once": "stacked"}}, "evaluation.folds_at_once is stacked, and a split by time fits"),
        ({"fit": {"pretraining": PretrainingSettings()}}, "--pretrain reads whole recordings, later part included"),
        (
            {"normalisation": NormalisationSettings("recording"), "is_normalisation_chosen": True},
            "normalisation.mode is rec",
        ),
    ],
)
def test_what_makes_no_sense_within_subjects_is_refused(
    store: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        cross_validate(request(store, "perceiver-io", **changes), tmp_path / "cv")


def test_numbers_are_refused(made: ModuleType, tmp_path: Path) -> None:
    path = made.store(tmp_path / "made.h5", made.numbered(made.study(3)), task=made.LOAD)
    with pytest.raises(
        SettingsError, match=r"^--split time asks for one classification of whole windows; give --task one"
    ):
        cross_validate(request(path, "ridge"), tmp_path / "cv")


def test_a_model_of_another_question_is_refused(made: ModuleType, store: Path, model: Path, tmp_path: Path) -> None:
    other = made.store(tmp_path / "made.h5", made.study(3), task=made.LEVEL)
    start = {"start_from": str(model)}
    with pytest.raises(
        SettingsError, match="predicts rest, stress and this task has low, middle, high; they must be the same "
    ):
        cross_validate(request(other, "perceiver-io", fit=start), tmp_path / "cv")
    chosen = {"normalisation": NormalisationSettings("global"), "is_normalisation_chosen": True}
    with pytest.raises(
        SettingsError, match=r"^--normalisation is global and the model to start from scales by causal; leave"
    ):
        cross_validate(request(store, "perceiver-io", fit=start, **chosen), tmp_path / "cv")
    with pytest.raises(CheckpointError, match="is not a model"):
        cross_validate(request(store, "perceiver-io", fit={"start_from": str(tmp_path)}), tmp_path / "cv")
    with pytest.raises(SettingsError, match="are for perceiver-io; the model is logistic"):
        cross_validate(request(store, fit=start), tmp_path / "cv")
