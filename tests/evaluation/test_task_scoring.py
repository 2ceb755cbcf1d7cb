"""Numbers, ordered levels and several tasks at once: cross-validated, scored, resumed, and nothing leaks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.baselines.catalogue import REGRESSORS
from biopercept.errors import SettingsError, StudyError, ranged
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.fold_fits import fit_fold
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.recording import RecordingLabels
from biopercept.store.reading import open_store
from biopercept.training.settings import FitSettings, TrainingSettings

FIT = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
    training=TrainingSettings(n_epochs=2, batch_size=32, learning_rate=3e-3),
)
DENSE = replace(FIT, training=replace(FIT.training, dense_weight=0.5))


def request(store: Path, model: str = "perceiver-io", **changes: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=200)
    return EvaluationRequest(store, model, **{"fit": FIT, "evaluation": evaluation, **changes})


def tasks_of(made: ModuleType):
    return (made.TASK, made.LOAD, made.LEVEL)


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("tasks") / "made.h5", made.numbered(made.study(6)), task=tasks_of(made))


@pytest.mark.parametrize("model", list(REGRESSORS))
def test_every_model_of_numbers_writes_its_files_in_the_unit_of_the_column(
    store: Path, tmp_path: Path, model: str
) -> None:
    scores = cross_validate(request(store, model, task="load"), tmp_path / "cv", config_text="windows: {}\n")
    with (tmp_path / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == scores["n_windows"] == 150
    label, told = (np.array([float(r[name]) for r in rows]) for name in ("label", "predicted"))
    assert label.min() > 40
    assert label.max() < 90
    assert scores["mae"]["pooled"] == pytest.approx(np.abs(label - told).mean(), rel=1e-4)
    assert scores["kind"] == "regression"
    assert scores["n_windows_left_out"] == {"no number in column 'load'": 30}
    assert json.loads((tmp_path / "cv" / "scores.json").read_text()) == json.loads(json.dumps(scores))


def test_ridge_finds_the_planted_numbers_and_the_mean_does_not(store: Path, tmp_path: Path) -> None:
    ridge, dummy = (cross_validate(request(store, m, task="load"), tmp_path / m) for m in ("ridge", "dummy"))
    assert ridge["r2"]["pooled"] > 0.7
    assert dummy["r2"]["pooled"] < 0.01
    assert dummy["mae"]["mean"] == pytest.approx(dummy["chance"]["training_mean_mae"])
    assert (ridge["chance"]["subjects_better_than_mean"], dummy["chance"]["subjects_better_than_mean"]) == (6, 0)


@pytest.mark.parametrize("model", ["perceiver-io", "logistic"])
def test_an_ordinal_task_has_the_scores_of_classes_and_those_of_levels(store: Path, tmp_path: Path, model: str) -> None:
    scores = cross_validate(request(store, model, task="level"), tmp_path / "cv")
    assert scores["kind"] == "ordinal"
    assert scores["classes"] == ["low", "middle", "high"]
    assert 0 <= scores["levels_mae"]["pooled"] <= 2
    with (tmp_path / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    order = scores["classes"]
    distance = [abs(order.index(r["label"]) - order.index(r["predicted"])) for r in rows]
    assert scores["levels_mae"]["pooled"] == pytest.approx(np.mean(distance))


def test_several_tasks_have_a_folder_each_and_go_on_where_they_stopped(store: Path, tmp_path: Path) -> None:
    asked = request(store, task="stress,load", fit=DENSE)
    first = cross_validate(asked, tmp_path / "cv", config_text="a: {}\n")
    assert list(first["tasks"]) == ["stress", "load"]
    for name in ("stress", "load"):
        found = {path.name for path in (tmp_path / "cv" / name).iterdir()}
        assert found == {"scores.json", "scores.csv", "predictions.csv", "config.yaml"}
    assert (first["tasks"]["stress"]["n_windows"], first["tasks"]["load"]["n_windows"]) == (150, 150)
    with (tmp_path / "cv" / "load" / "predictions.csv").open() as stream:
        written = {round(float(row["predicted"]), 3) for row in csv.DictReader(stream)}
    fold = json.loads((tmp_path / "cv" / "folds" / "001.json").read_text())
    assert {len(answers) for answers in fold["probabilities"]} == {3}  # rest, stress, and the number
    assert written & {round(answers[2], 3) for answers in fold["probabilities"]}
    assert not written & {round(answers[0], 3) for answers in fold["probabilities"]}
    told = []
    again = cross_validate(asked, tmp_path / "cv", on_fold=lambda fold, was, n: told.append(was))
    assert told == [True, True, True]
    assert again == first
    assert cross_validate(replace(asked, seed=1), tmp_path / "cv", overwrite=True)["tasks"]["load"]["seed"] == 1


def test_a_task_has_the_same_windows_alone_and_beside_others(store: Path, tmp_path: Path) -> None:
    cross_validate(request(store, "logistic", task="stress"), tmp_path / "alone")
    cross_validate(request(store, task="level,stress,load"), tmp_path / "joint")
    columns = ("participant_id", "recording", "onset", "label", "fold")
    tables = []
    for place in (tmp_path / "alone", tmp_path / "joint" / "stress"):
        with (place / "predictions.csv").open() as stream:
            tables.append([[row[c] for c in columns] for row in csv.DictReader(stream)])
    assert tables[0] == tables[1]


CASES = [("load", FIT, m) for m in REGRESSORS] + [(t, f, "perceiver-io") for t, f in (
    ("level", FIT), ("stress,load,level", FIT), ("stress,load", DENSE), ("stress", DENSE))]  # fmt: skip


@pytest.mark.parametrize(("task", "fit", "model"), CASES)
def test_a_test_subjects_data_and_labels_never_change_what_another_subject_is_told(
    made: ModuleType, tmp_path: Path, task: str, fit: FitSettings, model: str
) -> None:
    recordings = made.numbered(made.study(6))

    def answers(path: Path):
        with open_store(path) as opened:
            plan = plan_evaluation(opened, request(path, model, task=task, fit=fit))
            found = fit_fold(plan, plan.folds[0])
            return plan.folds[0], found.probabilities[plan.windows.subject[found.rows] == plan.folds[0].test[0]]

    fold, before = answers(made.store(tmp_path / "plain.h5", recordings, task=tasks_of(made)))
    strange = made.numbered([made.recording(fold.test[1], seed=99, offset=300.0)])[0]
    strange.windows.label[strange.windows.is_labelled] = "stroop"
    intervals = tuple(replace(i, label="stroop") for i in strange.labels.intervals)
    wild = RecordingLabels(intervals, tuple({"load": 1e6 + i} for i in range(len(intervals))))
    changed = [replace(strange, labels=wild) if r.subject == fold.test[1] else r for r in recordings]
    again, after = answers(made.store(tmp_path / "changed.h5", changed, task=tasks_of(made)))
    assert again == fold
    assert len(before) > 0
    assert np.array_equal(before, after)
    if model != "clock-only" and model != "dummy":  # the training subjects' labels do count
        trained = [r if r.subject != fold.training[0] else replace(r, labels=wild) for r in recordings]
        for held in trained:
            if held.subject == fold.training[0]:
                held.windows.label[held.windows.is_labelled] = "stroop"
        _, moved = answers(made.store(tmp_path / "moved.h5", trained, task=tasks_of(made)))
        assert not np.array_equal(before, moved) or model in ("motion-only", "quality-only")


@pytest.mark.parametrize(
    ("model", "changes", "error", "sentence"),
    [
        ("logistic", {"task": "load"}, SettingsError, "logistic cannot predict the number that task 'load' asks for"),
        ("ridge", {"task": "stress"}, SettingsError, "ridge, boosting, .* predict a number"),
        ("logistic", {"task": "stress,load"}, SettingsError, "logistic answers one task at a time"),
        ("perceiver-io", {"task": "stress,stress"}, StudyError, "names a task twice"),
        ("perceiver-io", {"task": "stress,joy"}, StudyError, "task 'joy' is not in study"),
        (
            "perceiver-io",
            {"task": "load", "fit": replace(FIT, training=TrainingSettings(task_weights=("joy=2",)))},
            SettingsError,
            "task_weights weighs the task 'joy', which is not learnt; learnt are load",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(
    store: Path, tmp_path: Path, model: str, changes: dict[str, object], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        cross_validate(request(store, model, **changes), tmp_path / "cv")
    assert not (tmp_path / "cv" / "folds.json").exists()


@pytest.mark.parametrize("text", ["stress", "stress=", "=2", "stress=0", "stress=nan"])
def test_a_weight_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="NAME=WEIGHT is needed"):
        TrainingSettings(task_weights=(text,))


@pytest.mark.parametrize(("model", "fit"), [("ridge", FIT), ("perceiver-io", FIT), ("perceiver-io", DENSE)])
def test_the_lag_of_a_rating_is_estimated_without_who_is_tested_and_written(
    made: ModuleType, tmp_path: Path, model: str, fit: FitSettings
) -> None:
    """With and without a person whose data are noise: the fold that tests it has the same lag, others another."""
    lags, sentences, people = {}, {}, made.rated(4.0, noise=25.0, seed=2)
    for wild in ("", "P06"):
        folder = tmp_path / (wild or "all")
        folder.mkdir()
        path = made.store(folder / "made.h5", made.rated(4.0, noise=25.0, seed=2, wild=wild), task=made.JOY)
        scores = cross_validate(request(path, model, fit=fit), folder / "cv")
        documents = [json.loads(file.read_text()) for file in sorted((folder / "cv" / "folds").iterdir())]
        lags[wild] = {document["fold"]: document["lags"]["joy"] for document in documents}
        sentences[wild] = [warning for warning in scores["warnings"] if "lag of rating 'Joy'" in warning]
    with (tmp_path / "all" / "cv" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    testing = {row["fold"] for row in rows if row["participant_id"] == "P06"}
    assert [lags["P06"][fold] for fold in testing] == [lags[""][fold] for fold in testing]
    assert lags["P06"] != lags[""], "a person who is fitted to must count, or this test could not fail"
    for row in rows[::7]:
        rating = next(one for one in people if one.subject == row["participant_id"]).labels.ratings["Joy"]
        mean = rating.means(float(row["onset"]) + (lags[""][row["fold"]] or 0.0), made.LENGTH)
        assert float(row["label"]) == pytest.approx(float(mean[0]))
    [sentence] = sentences[""]
    known = [lag for lag in lags[""].values() if lag is not None]
    low, high = min(known), max(known)
    assert sentence.startswith(
        "the lag of rating 'Joy' was estimated on the training subjects of each fold: "
        f"{ranged(f'{low:g}', f'{high:g}')} s of at most 10 s"
    )
    assert ("folds disagree" in sentence) == (high - low > 2)
    n_untold = len(lags[""]) - len(known)
    assert (f"; in {n_untold} of {len(lags[''])} folds no lag can be told; 0 s is used" in sentence) == (n_untold > 0)
