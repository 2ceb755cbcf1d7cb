"""Heart rate and variability from accepted intervals: series on the 4 Hz grid, and measures of windows.

A measure that rests on differences between beats is only as good as the times of the beats: where their errors would
make it more than a tenth larger, it is missing (see :data:`MAX_INFLATION`), though the heart rate is still known.

References
----------
Task Force of the ESC and NASPE (1996), doi:10.1161/01.CIR.93.5.1043 (measures and bands). We differ in giving the
frequency measures from 60 s on (the Task Force asks for two minutes): short windows are what is classified, and they
are compared with other windows of the same length only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biopercept.preprocessing.beat_detection import IntArray
from biopercept.preprocessing.cardiac import LONGEST_INTERVAL, Beats
from biopercept.preprocessing.gaps import BoolArray
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

NAMES = ("mean_nn", "log_sdnn", "log_rmssd", "pnn50", "log_lf", "log_hf", "log_lf_hf", "coverage")
"""Columns of :func:`interval_features`, in order; intervals in ms, powers in ms^2."""

LF_HZ, HF_HZ = (0.04, 0.15), (0.15, 0.40)
"""Bands of the intervals' spectrum, Hz."""

MAX_INFLATION = 1.1
"""A measure of variability that timing errors would make larger than this many times itself is missing."""

SPECTRUM_RATE = 4.0
"""Rate at which intervals are read for their spectrum, Hz."""

_MEAN_DIFFERENCE_SECONDS = 10.0
_MIN_DIFFERENCES = 3
_MIN_INTERVALS = 10
_MIN_SPECTRUM_SECONDS = 60.0
_MIN_SPECTRUM_COVERAGE = 0.8
_NOISE_SHARE = 1.0 - 1.0 / MAX_INFLATION**2  # of a mean square, as errors add in squares
_NO_NOISE = 6.0 * (1000.0 / 250.0) ** 2 / 12.0
"""Squared error of a difference, ms^2, between beats read off samples at 250 Hz, which the Task Force calls enough."""


def rate_series(beats: Beats, is_measured: BoolArray, times: FloatArray, settings: CleaningSettings) -> FloatArray:
    """Return heart rate at grid ``times``, beats per minute: shape (n_times,).

    Linear between the middles of accepted intervals; NaN outside them, over holes longer than
    ``heart_max_hole_seconds``, and wherever the source has no sample (``is_measured``).
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
    difference is often zero at a wearable's resolution, and the log of zero says nothing. NaN where the errors of the
    beats' times would inflate it (:data:`MAX_INFLATION`).
    """
    differences = 1000.0 * np.abs(beats.successive_differences)
    is_used = np.isfinite(differences)
    at, values, noise = beats.times[is_used], differences[is_used], _noise(beats)[1][is_used]
    if len(at) == 0:
        return np.full(len(times), np.nan)
    first = np.searchsorted(at, times - _MEAN_DIFFERENCE_SECONDS / 2)
    last = np.searchsorted(at, times + _MEAN_DIFFERENCE_SECONDS / 2)
    n = last - first
    with np.errstate(invalid="ignore", divide="ignore"):
        size, error = (_sums(row, first, last) / n for row in (values, noise))
        out = np.log(size + 1.0)
        out[error > _tolerated(values, noise)] = np.nan
    out[n < _MIN_DIFFERENCES] = np.nan
    out[~_is_near(at, times, settings.heart_max_hole_seconds) | ~is_measured] = np.nan
    return np.asarray(out, dtype=np.float64)


def _sums(values: FloatArray, first: IntArray, last: IntArray) -> FloatArray:
    """Return the sum of ``values[first:last]`` for each pair."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray(total[last] - total[first], dtype=np.float64)


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


def interval_features(beats: Beats, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return :data:`NAMES` for every window: (n_windows, 8), NaN where too few intervals were accepted.

    SDNN has n - 1 in its divisor. What the errors of the beats' times would inflate by more than
    :data:`MAX_INFLATION` is NaN: RMSSD, pNN50, HF and LF/HF by the errors of differences, SDNN and LF by those of
    intervals.
    """
    out = np.full((len(onsets), len(NAMES)), np.nan)
    out[:, -1] = 0.0
    if len(beats) == 0:
        out[:, -1] = np.nan
        return out
    first = np.searchsorted(beats.times, onsets)
    last = np.searchsorted(beats.times, np.asarray(onsets) + length_seconds)
    table = np.stack([beats.times, 1000.0 * beats.intervals, 1000.0 * beats.successive_differences, *_noise(beats)])
    is_step = np.isfinite(table[2])
    tolerated = _tolerated(table[2, is_step], table[4, is_step])
    for row, (low, high) in enumerate(zip(first, last, strict=True)):
        out[row] = _of_window(table[:, low:high], length_seconds, tolerated)
    return out


def _tolerated(differences: FloatArray, noise: FloatArray) -> float:
    """Return the largest mean squared error, ms^2, with which differences are still used.

    It is judged by how much the heart varies over the whole recording (differences less their errors): a limit from the
    window itself would leave out the windows in which a heart varies least, and so tell what happened in them.
    """
    if len(differences) == 0:
        return _NO_NOISE
    return max((MAX_INFLATION**2 - 1.0) * float(np.mean(differences**2 - noise)), _NO_NOISE)


def _noise(beats: Beats) -> tuple[FloatArray, FloatArray]:
    """Return the squared error of each interval and of each successive difference, ms^2: 0 where nobody can say."""
    square = np.nan_to_num(np.square(1000.0 * beats.timing_errors))
    of_interval, of_difference = square.copy(), square.copy()
    of_interval[1:] += square[:-1]
    of_difference[1:] += 4.0 * square[:-1]
    of_difference[2:] += square[:-2]
    return of_interval, of_difference


def _of_window(beats: FloatArray, length: float, tolerated: float) -> FloatArray:
    """Return one row of features; ``beats`` holds times, intervals, differences and the squared errors of both."""
    out = np.full(len(NAMES), np.nan)
    times, intervals, differences, interval_noise, difference_noise = beats
    is_used = np.isfinite(intervals)
    nn = intervals[is_used]
    fraction = min(float(nn.sum()) / 1000.0 / length, 1.0)
    out[-1] = fraction
    if len(nn) < _MIN_INTERVALS:
        return out
    out[0] = nn.mean()
    is_sdnn_known = bool(interval_noise[is_used].mean() <= max(_NOISE_SHARE * nn.var(), _NO_NOISE))
    if is_sdnn_known:
        out[1] = np.log(nn.std(ddof=1) + 1.0)
    is_step = np.isfinite(differences)
    steps = differences[is_step]
    is_rmssd_known = len(steps) >= _MIN_INTERVALS and bool(difference_noise[is_step].mean() <= tolerated)
    if is_rmssd_known:
        out[2] = np.log(np.sqrt(np.mean(np.square(steps))) + 1.0)
        out[3] = np.mean(np.abs(steps) > 50.0)
    if length >= _MIN_SPECTRUM_SECONDS and fraction >= _MIN_SPECTRUM_COVERAGE:
        low, high = _spectrum(times[is_used], nn)
        out[4] = low if is_sdnn_known else np.nan
        out[5] = high if is_rmssd_known else np.nan
        out[6] = out[4] - out[5]
    return out


def _spectrum(times: FloatArray, intervals: FloatArray) -> tuple[float, float]:
    """Return log LF and log HF, log ms^2."""
    low, high = (float(np.log(power + 1.0)) for power in band_powers(times, intervals, (LF_HZ, HF_HZ)))
    return low, high


def band_powers(times: FloatArray, intervals: FloatArray, bands: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Return the power in each band, ms^2, of :func:`even_intervals`; NaN where the intervals reach over under 42 s."""
    from scipy.signal import periodogram

    if len(np.arange(times[0], times[-1], 1.0 / SPECTRUM_RATE)) < SPECTRUM_RATE * 0.7 * _MIN_SPECTRUM_SECONDS:
        return (np.nan,) * len(bands)
    even = even_intervals(times, intervals)
    frequency, power = periodogram(even, fs=SPECTRUM_RATE, window="hann", detrend="linear")
    step = frequency[1] - frequency[0]
    return tuple(float(power[(frequency >= low) & (frequency < high)].sum() * step) for low, high in bands)


def even_intervals(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return accepted intervals that end at some times, read at 4 Hz from the first to the last from a cubic spline."""
    from scipy.interpolate import CubicSpline

    grid = np.arange(times[0], times[-1], 1.0 / SPECTRUM_RATE)
    return np.asarray(CubicSpline(*_with_holes_crossed(times, intervals))(grid), dtype=np.float64)


def _with_holes_crossed(times: FloatArray, intervals: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return times and intervals with points on a straight line where beats are missing: a spline would swing there."""
    n_missing = np.maximum(np.round(1000.0 * np.diff(times) / intervals[1:]).astype(int) - 1, 0)
    if not n_missing.any():
        return times, intervals
    place = np.concatenate(([0], np.cumsum(n_missing + 1)))
    every = np.arange(place[-1] + 1)
    return np.interp(every, place, times), np.interp(every, place, intervals)
