"""A saved model of several answers: the same after a round trip, in the column's unit, and at single times."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.errors import CheckpointError, SettingsError
from biopercept.evaluation.plan import EvaluationRequest, plan_evaluation
from biopercept.inference.prediction import Truth, Ways, predict, predict_times, read_for, require_dense
from biopercept.inference.prediction_files import summary_row, write_predictions
from biopercept.model.settings import PerceiverSettings
from biopercept.recording import Rating, RecordingLabels
from biopercept.store.reading import open_store
from biopercept.tasks import Task
from biopercept.training.adaptation import load_starting_model
from biopercept.training.checkpoint import DESCRIPTION, load_model, load_start
from biopercept.training.engine import Engine
from biopercept.training.final import Provenance, TrainingRequest, measured_modalities, train
from biopercept.training.settings import FitSettings, TrainingSettings

ENGINE = Engine(torch.device("cpu"))
SETTINGS = FitSettings(
    model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2, linear_branch=True, conv_branch=True),
    training=TrainingSettings(n_epochs=12, batch_size=32, learning_rate=5e-3, dense_weight=1.0),
)


def trained(made: ModuleType, folder: Path, task: str, settings: FitSettings = SETTINGS) -> Path:
    store = made.store(folder / "made.h5", made.numbered(made.study(6)), task=(made.TASK, made.LOAD, made.LEVEL))
    with open_store(store) as opened:
        request = EvaluationRequest(store, task=task, fit=settings, device="cpu")
        plan = plan_evaluation(opened, request, needs_folds=False)
        provenance = Provenance(
            "made", plan.store_fingerprint, dict(opened.settings), measured_modalities(plan.windows.recordings)
        )
        train(TrainingRequest(plan.inputs, settings, provenance, device="cpu"), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def model(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(made, tmp_path_factory.mktemp("tasks"), "stress,load")


def test_the_linear_branch_is_learnt_beside_single_times_and_saved(model: Path) -> None:
    linear = load_model(model).network.branches["linear"]
    assert all(float(weights.detach().abs().max()) > 0 for weights in linear.groups["heart"].parameters())


def test_a_new_subject_is_answered_in_classes_and_in_the_unit_of_the_column(made: ModuleType, model: Path) -> None:
    held = made.numbered([made.recording("NEW", seed=5)])[0]
    first, second = (predict(load_model(model), held, ENGINE, truth=Truth(held.labels)) for _ in range(2))
    load = first.tasks["load"]
    for name, predictions in first.tasks.items():
        assert np.array_equal(predictions.values, second.tasks[name].values)
    known = np.isfinite(load.label)
    assert known.sum() > 15
    assert np.abs(load.predicted - load.label)[known].mean() < 10  # always predicting the mean errs by 15
    assert load.values.max() > 50


def test_predictions_are_a_table_of_their_windows(made: ModuleType, model: Path) -> None:
    held = made.numbered([made.recording("NEW", seed=5)])[0]
    predictions = predict(load_model(model), held, ENGINE, truth=Truth(held.labels))
    frame = predictions.to_frame("stress")
    columns = ["onset", "duration", "predicted", "probability_rest", "probability_stress", "quality", "reason", "label"]
    columns += ["confidence", "distance", "unlike", "outside_range"]
    assert list(frame.columns) == columns
    assert np.array_equal(frame["probability_stress"], predictions.tasks["stress"].values[:, 1])
    assert set(frame["predicted"]) <= {"rest", "stress"}
    assert frame["duration"].unique().tolist() == [made.LENGTH]
    numbers = predictions.to_frame("load")
    assert np.array_equal(numbers["predicted"], predictions.tasks["load"].values[:, 0])
    of_numbers = ["onset", "duration", "predicted", "quality", "reason", "label"]
    assert list(numbers.columns) == [*of_numbers, "distance", "unlike", "outside_range"]
    columns += ["confidence", "distance", "unlike", "outside_range"]


def test_single_times_follow_the_stretches_and_average_the_windows_that_hold_them(
    made: ModuleType, model: Path, tmp_path: Path
) -> None:
    checkpoint = load_model(model)
    held = made.numbered([made.recording("NEW", seed=5)])[0]
    predictions = predict(checkpoint, held, ENGINE, truth=Truth(held.labels), ways=Ways(2.0))
    trace = predictions.tasks["stress"].trace
    assert trace.onset.tolist() == [2.0 * k for k in range(180)]
    assert np.allclose(trace.values.sum(axis=1), 1, atol=1e-6)
    assert trace.n_windows[:6].tolist() == [1, 1, 1, 1, 1, 2]
    is_stress = np.repeat([s == "stroop" for s in made.STAGES], 30)
    is_known = np.repeat([s != "break" for s in made.STAGES], 30)
    right = (trace.values[:, 1] > 0.5) == is_stress
    assert right[is_known].mean() > 0.8
    read = read_for(checkpoint, held, ENGINE)
    by_hand = [
        predict_times(checkpoint.network, checkpoint.tasks, read.source, np.array([row]), np.array([[t]], np.float32))
        for row, t in ((0, 14.0), (1, 4.0))
    ]
    for task, found in predictions.tasks.items():
        expected = np.mean([values[task][0, 0] for values in by_hand], axis=0)
        np.testing.assert_allclose(found.trace.values[7], expected, rtol=1e-4)
    write_predictions(predictions, "stress", tmp_path, "model")
    with (tmp_path / f"{predictions.key}_trace.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert list(rows[0]) == ["onset", "probability_rest", "probability_stress", "n_windows", "label"]
    assert float(rows[7]["onset"]) == 14.0
    stages = {"baseline": "rest", "stroop": "stress", "break": ""}
    assert [row["label"] for row in rows] == [stages[s] for s in np.repeat(made.STAGES, 30)]


def test_a_rating_is_answered_at_single_times_beside_what_was_stated_a_lag_later(
    made: ModuleType, tmp_path: Path
) -> None:
    """People state the level of their stage six seconds late; a new person's course is followed between the stages."""
    lag, joy = 6.0, Task("joy", kind="regression", signal="Joy", max_lag_seconds=10.0)
    level = np.repeat([{"baseline": 2.0, "break": 2.0, "stroop": 8.0}[s] for s in made.STAGES], int(60 * made.RATE))
    labels = RecordingLabels(ratings={"Joy": Rating(level, made.RATE, start_seconds=lag)})
    people = [replace(one, labels=labels) for one in made.study(7, effect=3.0)]
    store = made.store(tmp_path / "made.h5", people[:6], task=joy)
    settings = replace(SETTINGS, training=replace(SETTINGS.training, n_epochs=40))
    with open_store(store) as opened:
        plan = plan_evaluation(opened, EvaluationRequest(store, fit=settings, device="cpu"), needs_folds=False)
        provenance = Provenance("made", plan.store_fingerprint, dict(opened.settings), ("eda",))
        checkpoint = train(TrainingRequest(plan.inputs, settings, provenance, device="cpu"), tmp_path / "model")
    assert checkpoint.tasks[0].lag_seconds == lag
    assert "stated 6 s later (estimated on the training subjects)" in (tmp_path / "model" / "card.md").read_text()
    predictions = predict(checkpoint, made.study(7, effect=3.0)[2], ENGINE, truth=Truth(labels), ways=Ways(1.0))
    trace = predictions.tasks["joy"].trace
    now = level[(trace.onset * made.RATE).astype(int)]
    assert np.array_equal(trace.label, now)
    assert np.corrcoef(trace.values[:, 0], now)[0, 1] > 0.8
    write_predictions(predictions, "joy", tmp_path, "model")
    described = json.loads((tmp_path / f"{predictions.key}_trace.json").read_text())["columns"]["label"]
    assert described == "Joy as the study gives it, stated 6 s later, where known, at the time"


def test_windows_without_any_signal_are_withheld_and_take_no_part_in_a_trace(
    made: ModuleType, model: Path, tmp_path: Path
) -> None:
    held = made.recording("NEW", seed=5)
    gap = slice(int(100 * made.RATE), int(160 * made.RATE))
    for name in held.masks:
        held.masks[name][:, gap] = False
        held.samples[name][:, gap] = 0
    held.windows.features[(held.windows.onset >= 100) & (held.windows.onset + made.LENGTH <= 160)] = np.nan
    predictions = predict(load_model(model), held, ENGINE, ways=Ways(5.0))
    load = predictions.tasks["load"]
    inside = (predictions.onset >= 100) & (predictions.onset + made.LENGTH <= 160)
    assert np.array_equal(np.isnan(load.predicted), inside)
    assert not ((load.trace.onset > 111) & (load.trace.onset < 149)).any()
    with write_predictions(predictions, "load", tmp_path, "model").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["predicted"] == "" for row in rows] == inside.tolist()
    assert summary_row(predictions, "load")[4] == inside.sum()


def test_single_times_are_refused_of_a_model_that_was_not_trained_for_them(
    made: ModuleType, model: Path, tmp_path: Path
) -> None:
    plain = replace(SETTINGS, training=TrainingSettings(n_epochs=1, batch_size=32))
    folder = trained(made, tmp_path, "level", plain)
    sentence = r"model was not trained to predict at single times; train a model with --set training.dense_weight=1"
    with pytest.raises(SettingsError, match=sentence):
        require_dense(load_model(folder), 1.0)
    with pytest.raises(SettingsError, match="--every is 0; it must be a positive number of seconds"):
        require_dense(load_model(model), 0.0)
    require_dense(load_model(model), 1.0)
    assert [task.kind for task in load_model(folder).tasks] == ["ordinal"]
    found = predict(load_model(folder), made.recording("NEW", seed=5), ENGINE).only
    assert found.values.shape[1] == 3
    assert np.allclose(found.values.sum(axis=1), 1, atol=1e-6)


def test_where_one_classification_is_needed_and_where_a_description_was_edited_it_is_said(
    model: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="here a model of one classification of whole windows is needed"):
        load_starting_model(model)
    copy = tmp_path / "edited"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    text = (copy / DESCRIPTION).read_text()
    (copy / DESCRIPTION).write_text(text.replace('"scale"', '"sclae"'))
    with pytest.raises(CheckpointError, match="is damaged or was edited"):
        load_model(copy)


@pytest.mark.parametrize("load", [load_model, load_start])
def test_a_model_of_an_earlier_schema_is_refused_and_not_read_in_part(
    load: Callable[[Path], object], model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "old"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    text = (copy / DESCRIPTION).read_text()
    (copy / DESCRIPTION).write_text(text.replace('"schema": 2', '"schema": 1'))
    with pytest.raises(CheckpointError, match=r"has schema 1 and this biopercept reads 2; .*make the model again"):
        load(copy)


def test_the_card_names_every_answer(model: Path) -> None:
    card = (model / "card.md").read_text()
    assert "- stress: one of rest, stress" in card
    assert "- load: a number, the study's load" in card
    assert "predict --every" in card
