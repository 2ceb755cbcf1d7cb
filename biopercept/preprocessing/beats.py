"""Beats: times, accepted intervals and the 4 Hz series that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.gaps import BoolArray
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

SHORTEST_INTERVAL, LONGEST_INTERVAL = MODALITIES["ibi"].plausible
_MEDIAN_BEATS = 11
_COVERAGE_SECONDS = 20.0
_MEAN_DIFFERENCE_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Beats:
    """Heart beats of one recording.

    Attributes
    ----------
    times : array, shape (n,)
        Seconds on the recording's clock, increasing.
    intervals : array, shape (n,)
        Seconds since the beat before; NaN where there is none, or it lies beyond a gap, or the
        interval was not accepted.
    amplitudes : array, shape (n,)
        Pulse amplitude in the signal's unit; NaN where not measured.
    source : str
        Name of the signal the beats were found in.
    """

    times: FloatArray
    intervals: FloatArray
    amplitudes: FloatArray
    source: str

    def __len__(self) -> int:
        """Return the number of beats."""
        return len(self.times)

    @property
    def successive_differences(self) -> FloatArray:
        """Return each interval less the one before, seconds: shape (n,).

        NaN unless both were accepted and follow each other without a missing beat between.
        """
        out = np.full(len(self), np.nan)
        with np.errstate(invalid="ignore"):
            follows = np.abs(np.diff(self.times) - self.intervals[1:]) <= 0.1 * self.intervals[1:]
        out[1:] = np.where(follows, np.diff(self.intervals), np.nan)
        return out


def no_beats(source: str = "") -> Beats:
    """Return a set of no beats."""
    empty = np.empty(0)
    return Beats(empty, empty, empty, source)


def accepted_intervals(
    times: FloatArray, intervals: FloatArray, settings: CleaningSettings, *, needs_coverage: bool = True
) -> FloatArray:
    """Return the intervals with NaN for every one that no regular heart gives.

    An interval must be plausible (0.25-2.4 s), within ``heart_max_deviation`` of the median of the
    11 around it, and stand where accepted intervals cover ``heart_min_coverage`` of the 20 s around
    (not asked of a device's intervals: it has left out the doubtful ones itself).
    """
    with np.errstate(invalid="ignore"):
        kept = np.where((intervals >= SHORTEST_INTERVAL) & (intervals <= LONGEST_INTERVAL), intervals, np.nan)
        typical = _running_median(kept)
        kept = np.where(np.abs(kept - typical) <= settings.heart_max_deviation * typical, kept, np.nan)
    for _ in range(2 if needs_coverage else 0):  # dropping the loneliest intervals can leave their neighbours alone
        kept = np.where(_coverage(times, kept) >= settings.heart_min_coverage, kept, np.nan)
    return kept


def _running_median(values: FloatArray) -> FloatArray:
    """Return the median of the valid values among the 11 around each; NaN with fewer than 4."""
    if len(values) == 0:
        return values.copy()
    half = _MEDIAN_BEATS // 2
    padded = np.concatenate((np.full(half, np.nan), values, np.full(half, np.nan)))
    around = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_BEATS)
    out = np.full(len(values), np.nan)
    is_enough = np.isfinite(around).sum(axis=1) >= 4
    out[is_enough] = np.nanmedian(around[is_enough], axis=1)
    return out


def _coverage(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return the share of the 20 s around each interval's middle that accepted intervals cover.

    At the ends of the run only the time that the run has counts.
    """
    if len(times) == 0:
        return times.copy()
    covered = np.concatenate(([0.0], np.cumsum(np.nan_to_num(intervals))))
    middle = times - np.nan_to_num(intervals) / 2
    first = max(times[0] - (intervals[0] if np.isfinite(intervals[0]) else 0.0), times[0] - LONGEST_INTERVAL)
    low = np.maximum(middle - _COVERAGE_SECONDS / 2, first)
    high = np.minimum(middle + _COVERAGE_SECONDS / 2, times[-1])
    total = covered[np.searchsorted(times, high, side="right")] - covered[np.searchsorted(times, low, side="right")]
    return np.asarray(total / np.maximum(high - low, LONGEST_INTERVAL), dtype=np.float64)


def rate_series(beats: Beats, is_measured: BoolArray, times: FloatArray, settings: CleaningSettings) -> FloatArray:
    """Return heart rate at grid ``times``, beats per minute: shape (n_times,).

    Linear between the middles of accepted intervals; NaN outside them, over holes longer than
    ``heart_max_hole_seconds``, and wherever the source has no sample.

    Parameters
    ----------
    beats : Beats
    is_measured : array of bool, shape (n_times,)
        Whether the source was measured (not masked) at that time.
    times : array, shape (n_times,)
        Seconds on the recording's clock.
    settings : CleaningSettings
    """
    is_used = np.isfinite(beats.intervals)
    middles = beats.times[is_used] - beats.intervals[is_used] / 2
    rate = _between(middles, 60.0 / beats.intervals[is_used], times, settings.heart_max_hole_seconds)
    rate[~is_measured] = np.nan
    return rate


def interval_series(beats: Beats, times: FloatArray, settings: CleaningSettings) -> FloatArray:
    """Return the beat interval at grid ``times``, seconds: shape (n_times,), NaN where unknown."""
    is_used = np.isfinite(beats.intervals)
    middles = beats.times[is_used] - beats.intervals[is_used] / 2
    return _between(middles, beats.intervals[is_used], times, settings.heart_max_hole_seconds)


def variability_series(
    beats: Beats, is_measured: BoolArray, times: FloatArray, settings: CleaningSettings
) -> FloatArray:
    """Return the log of the successive difference of intervals at grid ``times``, log ms: shape (n_times,).

    The absolute difference is averaged over the 10 s around before the logarithm: a single
    difference is often zero at a wearable's resolution, and the log of zero says nothing.
    """
    differences = 1000.0 * np.abs(beats.successive_differences)
    is_used = np.isfinite(differences)
    at, values = beats.times[is_used], differences[is_used]
    if len(at) == 0:
        return np.full(len(times), np.nan)
    total = np.concatenate(([0.0], np.cumsum(values)))
    first = np.searchsorted(at, times - _MEAN_DIFFERENCE_SECONDS / 2)
    last = np.searchsorted(at, times + _MEAN_DIFFERENCE_SECONDS / 2)
    n = last - first
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total[last] - total[first]) / n
        out = np.log(mean + 1.0)
    out[n < 3] = np.nan
    out[~_is_near(at, times, settings.heart_max_hole_seconds) | ~is_measured] = np.nan
    return np.asarray(out, dtype=np.float64)


def amplitude_series(beats: Beats, is_measured: BoolArray, times: FloatArray, settings: CleaningSettings) -> FloatArray:
    """Return the log of the pulse amplitude at grid ``times``: shape (n_times,), NaN where unknown."""
    with np.errstate(invalid="ignore"):
        is_used = np.isfinite(beats.amplitudes) & (beats.amplitudes > 0) & np.isfinite(beats.intervals)
    values = np.log(beats.amplitudes[is_used])
    amplitude = _between(beats.times[is_used], values, times, settings.heart_max_hole_seconds)
    amplitude[~is_measured] = np.nan
    return amplitude


def _is_near(at: FloatArray, times: FloatArray, seconds: float) -> BoolArray:
    """Return whether some event lies within ``seconds`` of each time."""
    if len(at) == 0:
        return np.zeros(len(times), dtype=bool)
    right = np.clip(np.searchsorted(at, times), 0, len(at) - 1)
    left = np.clip(right - 1, 0, len(at) - 1)
    return np.minimum(np.abs(at[right] - times), np.abs(at[left] - times)) <= seconds


def _between(at: FloatArray, values: FloatArray, times: FloatArray, max_hole_seconds: float) -> FloatArray:
    """Return values interpolated between events; NaN inside holes that are too long, half a beat from their rims."""
    out = np.full(len(times), np.nan)
    if len(at) < 2:
        return out
    after = np.clip(np.searchsorted(at, times), 1, len(at) - 1)
    hole = at[after] - at[after - 1]
    inside = (times >= at[0]) & (times <= at[-1])
    # Events lie an interval apart even where no beat is missing: that much is no hole.
    is_known = inside & (hole <= max_hole_seconds + LONGEST_INTERVAL / 2)
    is_known |= _is_near(at, times, LONGEST_INTERVAL / 2)
    out[is_known] = np.interp(times[is_known], at, values)
    return out
