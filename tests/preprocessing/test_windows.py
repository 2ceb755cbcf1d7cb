"""Windows lie inside one interval, and what is left out is counted."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from biopercept.errors import SettingsError
from biopercept.preprocessing import windows as w
from biopercept.preprocessing.windows import WindowSettings, cut_windows
from biopercept.recording import Interval


def test_every_labelled_window_lies_wholly_inside_its_interval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        edges = np.sort(rng.uniform(0, 2000, 8))
        intervals = [Interval(a, b - a, f"stage{i}") for i, (a, b) in enumerate(pairwise(edges))]
        settings = WindowSettings(float(rng.uniform(5, 120)), float(rng.uniform(1, 60)))
        cut = cut_windows(intervals, 2000.0, settings)
        for onset, label, stage in zip(
            cut.onset[cut.is_labelled], cut.label[cut.is_labelled], cut.stage[cut.is_labelled], strict=True
        ):
            assert label == intervals[stage].label
            assert onset >= intervals[stage].onset_seconds - 1e-6
            assert onset + settings.length_seconds <= intervals[stage].end_seconds + 1e-6


def test_windows_start_at_the_onset_and_follow_every_step() -> None:
    cut = cut_windows([Interval(100.3, 150.0, "task")], 400.0, WindowSettings(60, 30))
    np.testing.assert_allclose(cut.onset[cut.is_labelled], [100.3, 130.3, 160.3, 190.3])


def test_the_grid_covers_the_recording_whatever_the_labels() -> None:
    settings = WindowSettings(60, 30)
    bare, labelled = (cut_windows(i, 305.0, settings) for i in ([], [Interval(0, 300, "a")]))
    for cut in (bare, labelled):
        grid = ~cut.is_labelled
        np.testing.assert_array_equal(cut.onset[grid], np.arange(0, 241, 30.0))
        assert set(cut.label[grid]) == {""} and set(cut.stage[grid]) == {-1}


def test_a_window_that_just_fits_survives_rounding_of_the_table() -> None:
    assert cut_windows([Interval(0.1, 0.7 - 0.1 + 59.4, "a")], 60.1, WindowSettings(60, 30)).is_labelled.sum() == 1


def test_everything_left_out_is_counted_with_its_reason() -> None:
    intervals = [
        Interval(10, 0, "tag"),
        Interval(20, 59, "short"),
        Interval(-30, 120, "early"),
        Interval(150, 200, "late"),
        Interval(500, 100, "beyond"),
        Interval(math.nan, 60, "unknown"),
    ]
    cut = cut_windows(intervals, 300.0, WindowSettings(60, 30))
    assert cut.left_out == {
        w.NO_DURATION: 1,
        w.TOO_SHORT: 1,
        w.BEFORE_START: 1,
        w.AFTER_END: 1 + 2,
        w.NOT_FINITE: 1,
    }
    assert set(cut.label[cut.is_labelled]) == {"early", "late"}


def test_a_recording_shorter_than_a_window_gives_none_and_says_so() -> None:
    cut = cut_windows([], 59.0, WindowSettings(60, 30))
    assert len(cut) == 0 and cut.left_out == {w.RECORDING_TOO_SHORT: 1}


def test_an_interval_that_never_ends_is_cut_at_the_recording() -> None:
    cut = cut_windows([Interval(0, 1e12, "for ever")], 120.0, WindowSettings(60, 30))
    np.testing.assert_array_equal(cut.onset[cut.is_labelled], [0, 30, 60])


@pytest.mark.parametrize(("name", "length", "step"), [("length", 0, 30), ("step", 60, -1), ("length", math.nan, 30)])
def test_impossible_settings_are_refused_by_name_and_value(name: str, length: float, step: float) -> None:
    value = {"length": length, "step": step}[name]
    message = f"windows.{name}_seconds is {value!r}; it must be a number above 0"
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        WindowSettings(length, step)
