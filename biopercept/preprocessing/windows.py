"""Windows: where a recording is cut, what was left out and why, and summaries of a 4 Hz series over windows.

Two kinds lie in one table. *Labelled* windows start at an interval's onset, follow each other
every step and lie wholly inside that one interval. *Grid* windows cover the recording from
second zero every step, labels or not; they carry the causal normalisation and the predictions.
A window is only an onset: no sample is copied. Summaries (level, spread, trend, roughness) are of all windows at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, SettingsError
from biopercept.modalities import DERIVED_RATE
from biopercept.recording import FloatArray, Interval
from biopercept.typed_values import ABOVE_0, refuse_outside

_TOLERANCE_SECONDS = 1e-6  # onsets are read from text files; a rounding error must not cost a window

NO_DURATION = "interval without a duration"
TOO_SHORT = "interval shorter than one window"
BEFORE_START = "window before the start of the recording"
AFTER_END = "window after the end of the recording"
RECORDING_TOO_SHORT = "recording shorter than one window"
NOT_FINITE = "interval whose onset or duration is not a number"
_MOST_COUNTED = 1_000_000_000
SMALLEST_STEP_SECONDS = 0.05
MOST_WINDOWS = 2_000_000
"""Windows of one recording, labelled and grid together: a day of steps of 0.05 s."""
MIN_COVERAGE = 0.5
"""Fraction of a window's samples that must be valid for a summary to be given."""


@dataclass(frozen=True)
class WindowSettings:
    """How recordings are cut.

    Attributes
    ----------
    length_seconds : float
        Length of a window, seconds.
    step_seconds : float
        Time from one window's onset to the next, seconds.
    """

    length_seconds: float = 60.0
    step_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a window or a step of no length.

        Raises SettingsError: names the setting and its value.
        """
        refuse_outside("windows", self, {ABOVE_0: ("length_seconds", "step_seconds")})
        if self.step_seconds < SMALLEST_STEP_SECONDS:
            raise SettingsError(
                f"windows.step_seconds is {self.step_seconds:g}; it must be at least {SMALLEST_STEP_SECONDS:g}: "
                "windows that begin closer together hold the same"
            )


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one recording: labelled ones first, then the grid, each in time order.

    Onsets are seconds on the recording's clock. A grid window has the label "" and the stage -1; for a labelled window
    the stage is the index of its interval. ``left_out`` says how many windows (or intervals, as the words say) were
    excluded, by reason.
    """

    onset: NDArray[np.float64]
    label: NDArray[np.str_]
    stage: NDArray[np.int64]
    is_labelled: NDArray[np.bool_]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of windows of both kinds."""
        return len(self.onset)


def cut_windows(intervals: Sequence[Interval], duration_seconds: float, settings: WindowSettings) -> Windows:
    """Return the windows of a recording that lasts ``duration_seconds``.

    Intervals may overlap (several tasks on one recording); each is cut on its own.

    Raises RecordingError where there would be more than :data:`MOST_WINDOWS`.

    Examples
    --------
    >>> windows = cut_windows([Interval(10.0, 100.0, "task")], 120.0, WindowSettings())
    >>> windows.onset.tolist(), windows.is_labelled.tolist()
    ([10.0, 40.0, 0.0, 30.0, 60.0], [True, True, False, False, False])
    """
    left_out: dict[str, int] = {}
    onsets: list[float] = []
    labels: list[str] = []
    stages: list[int] = []
    for stage, interval in sorted(enumerate(intervals), key=lambda row: (_sortable(row[1].onset_seconds), row[0])):
        inside = _inside_interval(interval, duration_seconds, settings, left_out)
        _refuse_too_many(len(onsets) + len(inside), settings)
        onsets.extend(inside)
        labels.extend([interval.label] * len(inside))
        stages.extend([stage] * len(inside))
    grid = _onsets(0.0, duration_seconds, settings) if math.isfinite(duration_seconds) else []
    if not grid:
        left_out[RECORDING_TOO_SHORT] = 1
    n_labelled = len(onsets)
    return Windows(
        onset=np.array([*onsets, *grid], dtype=np.float64),
        label=np.array([*labels, *([""] * len(grid))], dtype=np.str_),
        stage=np.array([*stages, *([-1] * len(grid))], dtype=np.int64),
        is_labelled=np.arange(n_labelled + len(grid)) < n_labelled,
        left_out=left_out,
    )


def _refuse_too_many(n_windows: int, settings: WindowSettings) -> None:
    if n_windows > MOST_WINDOWS:
        raise RecordingError(
            f"{n_windows} windows of a recording, at most {MOST_WINDOWS} are cut; a step of {settings.step_seconds:g} "
            "s is too small for its length (windows.step_seconds)"
        )


def _sortable(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else math.inf


def _onsets(start: float, end: float, settings: WindowSettings) -> list[float]:
    """Return every onset from ``start`` whose window ends by ``end``."""
    room = end - start - settings.length_seconds + _TOLERANCE_SECONDS
    if room < 0:
        return []
    n = int(room // settings.step_seconds) + 1
    _refuse_too_many(n, settings)
    return [start + k * settings.step_seconds for k in range(n)]


def _inside_interval(
    interval: Interval, duration_seconds: float, settings: WindowSettings, left_out: dict[str, int]
) -> list[float]:
    """Return the onsets inside one interval and count what is lost, by reason."""

    def count(reason: str, n: int = 1) -> None:
        if n:
            left_out[reason] = left_out.get(reason, 0) + n

    if not (math.isfinite(interval.onset_seconds) and math.isfinite(interval.duration_seconds)):
        count(NOT_FINITE)
        return []
    if interval.duration_seconds <= 0:
        count(NO_DURATION)
        return []
    # An interval may claim to last for ever; only what overlaps the recording is walked.
    end = min(interval.end_seconds, duration_seconds + 10 * settings.length_seconds)
    begin = interval.onset_seconds
    if (before := -begin - 10 * settings.length_seconds) > 0:  # nor is what lies long before it
        begin = -10 * settings.length_seconds - before % settings.step_seconds
        count(BEFORE_START, int(min(before // settings.step_seconds, _MOST_COUNTED)))
    planned = _onsets(begin, end, settings)
    if not planned:
        count(TOO_SHORT if interval.duration_seconds < settings.length_seconds else AFTER_END)
        return []
    early = [t for t in planned if t < -_TOLERANCE_SECONDS]
    late = [t for t in planned if t + settings.length_seconds > duration_seconds + _TOLERANCE_SECONDS]
    count(BEFORE_START, len(early))
    count(AFTER_END, len([t for t in late if t >= -_TOLERANCE_SECONDS]))
    return [
        t
        for t in planned
        if t >= -_TOLERANCE_SECONDS and t + settings.length_seconds <= duration_seconds + _TOLERANCE_SECONDS
    ]


def windowed(series: FloatArray, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return the windows of one series at 4 Hz from second zero: (n_windows, n_samples), NaN outside the series."""
    n = max(round(length_seconds * DERIVED_RATE), 1)
    index = np.round(np.asarray(onsets) * DERIVED_RATE).astype(np.int64)[:, None] + np.arange(n)
    inside = (index >= 0) & (index < len(series))
    out = np.full(index.shape, np.nan)
    out[inside] = series[index[inside]]
    return out


def coverage(windows: FloatArray) -> FloatArray:
    """Return the fraction of valid samples of each window: (n_windows,)."""
    return np.asarray(np.isfinite(windows).mean(axis=1), dtype=np.float64)


def level(windows: FloatArray) -> FloatArray:
    """Return the mean of each window: (n_windows,), NaN where less than half is valid."""
    return _guarded(windows, _mean(windows))


def spread(windows: FloatArray) -> FloatArray:
    """Return the standard deviation of each window: (n_windows,), NaN where less than half is valid."""
    return _guarded(windows, np.sqrt(_mean(np.square(windows - _mean(windows)[:, None]))))


def lowest(windows: FloatArray) -> FloatArray:
    """Return the minimum of each window: (n_windows,), NaN where less than half is valid."""
    return _guarded(windows, np.where(np.isfinite(windows), windows, np.inf).min(axis=1))


def highest(windows: FloatArray) -> FloatArray:
    """Return the maximum of each window: (n_windows,), NaN where less than half is valid."""
    return _guarded(windows, np.where(np.isfinite(windows), windows, -np.inf).max(axis=1))


def trend(windows: FloatArray) -> FloatArray:
    """Return the least-squares slope of each window, per minute: (n_windows,), NaN where less than half is valid."""
    is_valid = np.isfinite(windows)
    minutes = np.arange(windows.shape[1]) / DERIVED_RATE / 60.0
    n = np.maximum(is_valid.sum(axis=1), 1)
    mean_minutes = (is_valid * minutes).sum(axis=1) / n
    away = np.where(is_valid, minutes - mean_minutes[:, None], 0.0)
    up = (away * np.where(is_valid, windows - _mean(windows)[:, None], 0.0)).sum(axis=1)
    across = np.square(away).sum(axis=1)
    slope = np.divide(up, across, out=np.full(len(windows), np.nan), where=across > 0)
    return _guarded(windows, slope)


def roughness(windows: FloatArray) -> FloatArray:
    """Return the mean absolute change per sample (1/4 s): (n_windows,), NaN where less than half is valid."""
    return _guarded(windows, _mean(np.abs(np.diff(windows, axis=1))))


def _mean(windows: FloatArray) -> FloatArray:
    is_valid = np.isfinite(windows)
    n = is_valid.sum(axis=1)
    total = np.where(is_valid, windows, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, n, out=np.full(len(windows), np.nan), where=n > 0), dtype=np.float64)


def _guarded(windows: FloatArray, values: FloatArray) -> FloatArray:
    return np.where(coverage(windows) >= MIN_COVERAGE, values, np.nan)
