"""What each task says of a window and of a single time, what is masked, and on which scale numbers are learnt."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.windows import DenseLabels, joint_windows, labelled_windows
from biopercept.errors import StudyError
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.recording import Interval, RecordingLabels
from biopercept.tasks import Task
from biopercept.training.objective import Objective, SingleTimes, scaled_tasks


def tables(made: ModuleType, recordings, tasks):
    names = {"length_seconds": made.LENGTH, "feature_names": made.FEATURES}
    return [labelled_windows(recordings, task, **names) for task in tasks]


def test_a_window_has_the_number_of_the_stretch_it_was_cut_from_and_none_where_it_is_missing(made: ModuleType) -> None:
    recordings = made.numbered(made.study(3))
    table = tables(made, recordings, [made.LOAD])[0]
    assert table.excluded == {"no number in column 'load'": 15}
    for row in range(len(table)):
        labels = recordings[table.recording[row]].labels
        stage = int(table.onset[row] // made.STAGE_SECONDS)
        assert table.only.values[row] == labels.interval_values[stage]["load"]


def test_a_number_of_the_whole_recording_goes_to_its_labelled_windows_or_to_its_grid(made: ModuleType) -> None:
    first, second = made.study(3)[:2]
    age = Task("age", kind="regression", column="age", ignore=("break",))
    second.windows.is_labelled[:] = False
    second.windows.label[:] = ""
    known = [replace(r, labels=RecordingLabels(values={"age": v})) for r, v in ((first, 30.0), (second, 40.0))]
    table = tables(made, known, [age])[0]
    assert set(table.label[table.recording == 0]) == {"baseline", "stroop"}
    assert (table.recording == 1).sum() == len(second.windows)
    assert set(zip(table.recording.tolist(), table.only.values.tolist(), strict=True)) == {(0, 30.0), (1, 40.0)}


def test_stretches_that_disagree_about_a_number_give_none(made: ModuleType) -> None:
    twice = RecordingLabels((Interval(0, 60, "a"), Interval(10, 60, "a")), ({"load": 1.0}, {"load": 2.0}))
    assert twice.value_of("load", "a", 0.0, 20.0) == 1.0
    assert np.isnan(twice.value_of("load", "a", 20.0, 20.0))
    assert twice.value_of("load", "", 50.0, 20.0) == 2.0


def test_one_number_everywhere_is_refused(made: ModuleType) -> None:
    same = [replace(r, labels=RecordingLabels(values={"load": 5.0})) for r in made.study(2)]
    with pytest.raises(StudyError, match=r"all 60 windows of task 'load' are 5; they must differ"):
        tables(made, same, [made.LOAD])
    with pytest.raises(StudyError, match=r"no window has a number for task 'load'; check the column 'load'"):
        tables(made, made.study(2), [made.LOAD])


def test_a_joint_table_holds_each_window_once_and_gives_every_task_its_own_back(made: ModuleType) -> None:
    single = tables(made, made.numbered(made.study(3)), [made.TASK, made.LOAD, made.LEVEL])
    joint = joint_windows(single, with_grid=True)
    keys = list(zip(joint.recording.tolist(), joint.row.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert joint.is_labelled.sum() == len(single[2])
    for table in single:
        own, rows = joint.of_task(table.only.task.name)
        assert np.array_equal(own.row, table.row)
        assert np.array_equal(own.only.values, table.only.values)
        assert np.array_equal(joint.onset[rows], table.onset)
        assert (own.only.classes, own.excluded) == (table.only.classes, table.excluded)


def test_single_times_take_the_label_of_their_stretch_and_none_between_or_where_stretches_disagree(
    made: ModuleType,
) -> None:
    held = replace(made.study(2)[0], labels=RecordingLabels(
        (Interval(0, 10, "baseline"), Interval(5, 10, "stroop"), Interval(20, 5, "baseline"), Interval(22, 9, "break")),
        ({"load": 1.0}, {}, {"load": 3.0}, {"load": 3.0}),
    ))  # fmt: skip
    times = np.array([[0.0, 4.9, 5.0, 9.9, 10.0, 14.9, 15.0, 20.0, 24.9, 25.0, 30.9, 31.0]])
    at = np.zeros(1, dtype=np.int64)
    rest, stress, none = 0.0, 1.0, np.nan
    expected = [rest, rest, none, none, stress, stress, none, rest, rest, none, none, none]
    assert np.array_equal(
        DenseLabels([(held.labels, held.duration_seconds)], made.TASK).at(at, times)[0], expected, equal_nan=True
    )
    numbers = [1, 1, 1, 1, none, none, none, 3, 3, 3, 3, none]
    assert np.array_equal(
        DenseLabels([(held.labels, held.duration_seconds)], made.LOAD).at(at, times)[0], numbers, equal_nan=True
    )


def objective(made: ModuleType, recordings, dense_weight: float = 0.0):
    joint = joint_windows(tables(made, recordings, [made.TASK, made.LOAD]), with_grid=True)
    training, validation = joint.rows_of(("P01", "P02")), joint.rows_of(("P03",))
    tasks = scaled_tasks(joint, training)
    times = SingleTimes(joint, training, validation, weight=dense_weight, seed=0) if dense_weight else None
    return joint, tasks, Objective(joint, tasks, weights={"load": 0.5}, times=times)


def test_numbers_are_standardised_with_the_training_subjects_alone(made: ModuleType) -> None:
    recordings = made.numbered(made.study(4))
    joint, tasks, _ = objective(made, recordings)
    own = joint.targets["load"].values[joint.rows_of(("P01", "P02"))]
    own = own[np.isfinite(own)]
    assert (tasks[1].mean, tasks[1].scale) == pytest.approx((own.mean(), own.std()))
    wild = [
        r if r.subject in ("P01", "P02") else replace(r, labels=RecordingLabels(values={"load": 1e9 + i}))
        for i, r in enumerate(recordings)
    ]
    assert objective(made, wild)[1] == tasks


def test_every_task_and_subject_is_drawn_alike_and_unlabelled_windows_never(made: ModuleType) -> None:
    joint, _, found = objective(made, made.numbered(made.study(4)))
    rows = np.arange(len(joint))
    weights = found.sampling_weights(rows).numpy()
    assert weights.sum() == pytest.approx(1.0)
    assert (weights[~joint.is_labelled] == 0).all()
    per_subject = [weights[joint.subject == s].sum() for s in joint.subjects]
    assert per_subject == pytest.approx([1 / len(per_subject)] * len(per_subject))


def loss_and_gradient(made: ModuleType, recordings, *, known_only: bool = False, dense_weight: float = 0.0):
    joint, tasks, found = objective(made, recordings, dense_weight)
    inputs = WindowInputs(joint, NormalisationSettings("global"), made.STEP)
    source = TokenSource(inputs, inputs.fit(("P01", "P02")), TokenSettings(), torch.device("cpu"))
    torch.manual_seed(0)
    network = BiosignalPerceiver(
        PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2), TokenSettings(),
        vocabulary_of(made.FEATURES), {task.name: task.n_outputs for task in tasks}, traces=True,
    ).eval()  # fmt: skip
    rows = joint.rows_of(("P01",))[:40]
    known = joint.targets["load"].is_known[rows]
    assert 0 < known.sum() < len(rows)
    loss = found.loss(network, source, rows[known] if known_only else rows, torch.Generator().manual_seed(0))
    loss.backward()
    return float(loss.detach()), network.heads[1].weight.grad.clone(), found, network, source, joint


def test_a_window_without_a_number_adds_nothing_to_the_gradient(made: ModuleType) -> None:
    recordings = made.numbered(made.study(4))
    every = loss_and_gradient(made, recordings)[1]
    known = loss_and_gradient(made, recordings, known_only=True)[1]
    assert every.abs().sum() > 0
    torch.testing.assert_close(every, known)


def test_single_times_add_to_the_loss_only_where_they_are_trained(made: ModuleType) -> None:
    recordings = made.numbered(made.study(4))
    plain = loss_and_gradient(made, recordings)[0]
    dense, _, found, network, source, joint = loss_and_gradient(made, recordings, dense_weight=2.0)
    assert dense > plain
    validation = joint.rows_of(("P03",))
    total = found.validation_loss(network, source, validation[joint.is_labelled[validation]])
    without = replace(found, times=None).validation_loss(network, source, validation[joint.is_labelled[validation]])
    assert total > without > 0
