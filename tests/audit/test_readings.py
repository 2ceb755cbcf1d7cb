"""Reading time and subjects: against numpy called plainly, at chance on noise, and blind to what the label explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biopercept.audit.data import FoldValues, ProbeScore
from biopercept.audit.readings import (
    _without_label,
    associate,
    cells_of,
    halves_of,
    read_time,
    recognise,
    stages_of,
    within_cells,
)

NOBODY = np.empty(0, dtype=np.int64)


def as_folds(data, values: np.ndarray) -> list[FoldValues]:
    return [FoldValues(fold.training, fold.test, values) for fold in data.fold_features]


def test_cells_hold_one_recording_and_one_label_in_the_order_of_time(gathered) -> None:
    windows = gathered("").windows
    cells = cells_of(windows)
    assert sum(len(cell) for cell in cells) == len(windows)
    for cell in cells:
        assert len(set(windows.recording[cell])) == len(set(windows.label[cell])) == 1
        assert (np.diff(windows.onset[cell]) >= 0).all()


def test_the_association_is_the_mean_over_subjects_of_correlations_within_cells(gathered) -> None:
    data = gathered("")
    windows = data.windows
    values = np.random.default_rng(1).normal(size=len(windows)) + 0.01 * windows.onset
    found = associate(data, values[:, None], windows.onset[:, None])
    expected = []
    for subject in windows.subjects:
        left = []
        for label in np.unique(windows.label):
            rows = (windows.subject == subject) & (windows.label == label)
            both = np.stack([values[rows], windows.onset[rows]])
            left.append(both - both.mean(axis=1, keepdims=True))
        expected.append(np.corrcoef(np.concatenate(left, axis=1))[0, 1])
    assert found.value == pytest.approx(np.mean(expected))
    assert found.is_readable(0.15)


def test_time_is_readable_only_where_the_whole_interval_and_the_shifts_agree() -> None:
    assert ProbeScore(0.3, (0.2, 0.4), 0.0, 12, 480, p_value=0.01).is_readable(0.15)
    assert not ProbeScore(0.3, (0.1, 0.5), 0.0, 12, 480, p_value=0.01).is_readable(0.15)
    assert not ProbeScore(0.3, (0.2, 0.4), 0.0, 12, 480, p_value=0.2).is_readable(0.15)


@pytest.mark.parametrize("seed", range(3))
def test_time_is_not_read_from_what_each_subject_drifts_by_alone(gathered, seed: int) -> None:
    """Smooth drifts, of another direction in each subject: large correlations that agree with nothing."""
    data = gathered("order")
    windows = data.windows
    random = np.random.default_rng(seed)
    slopes = dict(zip(windows.subjects, random.permutation([-1.0, 1.0] * 6), strict=True))
    values = np.array([slopes[str(s)] for s in windows.subject]) * windows.onset / 100
    found = read_time(data, as_folds(data, np.stack([values, random.normal(size=len(windows))], 1))).overall
    assert not found.is_readable(data.settings.association)


def test_time_is_not_read_from_the_label(gathered) -> None:
    data = gathered("order")  # the label follows time, and is all there is
    label = data.windows.only.values[:, None] + 0.1 * np.random.default_rng(0).normal(size=(len(data.windows), 1))
    found = read_time(data, as_folds(data, label)).overall
    assert abs(found.value) < 0.15


def test_stages_are_cells_cut_where_another_label_lies_between(gathered) -> None:
    windows = gathered("").windows  # four minutes of each label, in an order of each subject's own
    stages = stages_of(windows)
    assert sorted(np.concatenate(stages)) == list(range(len(windows)))
    for stage in stages:
        inside = (windows.recording == windows.recording[stage[0]]) & (windows.onset >= windows.onset[stage[0]])
        inside &= windows.onset <= windows.onset[stage[-1]]
        assert sorted(np.flatnonzero(inside)) == sorted(stage)
        assert len(set(windows.label[stage])) == 1
    assert len(stages) > len(cells_of(windows))


def test_what_differs_between_stages_of_a_label_is_told_from_what_drifts_within_them(gathered) -> None:
    data = gathered("")
    windows = data.windows
    noise = 0.3 * np.random.default_rng(2).normal(size=len(windows))
    level = np.zeros(len(windows))  # the same all through a stage, more from stage to stage
    for stage in stages_of(windows):
        level[stage] = windows.onset[stage[0]] / 60.0
    carried = read_time(data, as_folds(data, (level + noise)[:, None]))
    assert carried.overall.is_readable(0.15)
    assert not carried.in_stages.is_readable(0.05)
    drifting = read_time(data, as_folds(data, (windows.onset / 60.0 + noise)[:, None]))
    assert drifting.overall.is_readable(0.15)
    assert drifting.in_stages.is_readable(0.15)


def test_windows_that_lie_far_apart_in_one_stretch_are_one_stage_and_stretches_that_touch_are_one(gathered) -> None:
    windows = gathered("order").windows  # four touching minutes of one label, then four of the other
    assert [len(stage) for stage in stages_of(windows)] == [len(cell) for cell in cells_of(windows)]
    sparse = replace(windows, length_seconds=1.0)  # steps of ten lengths
    assert [len(stage) for stage in stages_of(sparse)] == [5] * (len(windows) // 5)


def test_where_every_cell_is_one_stage_nothing_is_said_of_stages(gathered) -> None:
    data = gathered("order")
    found = read_time(data, as_folds(data, data.windows.onset[:, None]))
    assert found.overall.is_readable(0.15)
    assert not found.is_cut
    assert found.in_stages is None


def test_within_cells_takes_off_the_mean_and_nothing_else() -> None:
    values = np.array([[1.0], [3.0], [10.0]])
    np.testing.assert_array_equal(within_cells(values, [np.array([0, 1])]), [[-1.0], [1.0], [0.0]])


def test_halves_do_not_overlap_in_time(gathered) -> None:
    whole = gathered("").windows
    kept = np.flatnonzero(np.arange(len(whole)) % 40 > 1)  # without two windows, halves end inside a stage
    windows = whole.at(np.flatnonzero(kept))
    early, late = halves_of(windows)
    for recording in np.unique(windows.recording):
        for label in np.unique(windows.label):
            own = (windows.recording == recording) & (windows.label == label)
            a, b = early[own[early]], late[own[late]]
            assert len(a) and len(b)
            assert windows.onset[a].max() + windows.length_seconds <= windows.onset[b].min() + 1e-6


def test_what_the_label_explains_within_people_is_taken_off_and_nothing_else() -> None:
    subject = np.repeat(["a", "b"], 40)
    target = np.concatenate([np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [10, 30])])
    level = np.where(subject == "a", 0.0, 100.0)
    values = (level + 5.0 * target)[:, None]
    left = _without_label(values, target, np.arange(80), subject)
    np.testing.assert_allclose(left[:, 0], level, atol=1e-9)
    np.testing.assert_array_equal(_without_label(values, (subject == "a").astype(int), np.arange(80), subject), values)


def test_people_are_recognised_by_an_offset_and_not_by_noise_or_label(gathered) -> None:
    data = gathered("constant")
    windows = data.windows
    random = np.random.default_rng(3)
    level = dict(zip(windows.subjects, range(len(windows.subjects)), strict=True))
    noise = random.normal(size=len(windows))
    everybody = np.arange(len(windows))
    offset = np.array([level[str(s)] for s in windows.subject]) + 0.01 * noise

    def reached(values: np.ndarray) -> float:
        return recognise(data, [FoldValues(NOBODY, everybody, values[:, None])]).value

    assert reached(offset) == 1.0
    assert reached(noise) < 0.2
    assert reached(gathered("").windows.only.values + 0.01 * noise) < 0.2


def test_people_are_not_recognised_by_having_more_of_one_label(gathered) -> None:
    data = gathered("")
    windows = data.windows
    random = np.random.default_rng(4)
    rare = {"P01": 1, "P02": 0}
    kept = [windows.subject == s for s in rare]
    is_rare = np.array([rare.get(str(s), -1) == t for s, t in zip(windows.subject, windows.only.values, strict=True)])
    rows = np.flatnonzero((kept[0] | kept[1]) & (~is_rare | (random.random(len(windows)) < 0.3)))
    values = windows.only.values[:, None] + 0.01 * random.normal(size=(len(windows), 1))
    found = recognise(data, [FoldValues(NOBODY, rows, values)])
    assert found.chance == 0.5
    assert found.value < 0.65
