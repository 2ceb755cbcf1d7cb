"""Heart features of a window: intervals, their variability in time and frequency.

References
----------
Task Force of the ESC and NASPE (1996), doi:10.1161/01.CIR.93.5.1043. We differ in giving the
frequency measures from 60 s on (the Task Force asks for two minutes): short windows are what is
classified, and they are compared with other windows of the same length only.
"""

from __future__ import annotations

import numpy as np

from biopercept.preprocessing.beats import Beats
from biopercept.recording import FloatArray

NAMES = ("mean_nn", "log_sdnn", "log_rmssd", "pnn50", "log_lf", "log_hf", "log_lf_hf", "coverage")
"""Columns of :func:`interval_features`, in order; intervals in ms, powers in ms^2."""

_MIN_INTERVALS = 10
_MIN_SPECTRUM_SECONDS = 60.0
_MIN_SPECTRUM_COVERAGE = 0.8
_SPECTRUM_RATE = 4.0
_LF_HZ, _HF_HZ = (0.04, 0.15), (0.15, 0.40)


def interval_features(beats: Beats, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return :data:`NAMES` for every window: (n_windows, 8), NaN where too few intervals were accepted.

    Parameters
    ----------
    beats : Beats
    onsets : array, shape (n_windows,)
        Seconds on the recording's clock.
    length_seconds : float
    """
    out = np.full((len(onsets), len(NAMES)), np.nan)
    out[:, -1] = 0.0
    if len(beats) == 0:
        out[:, -1] = np.nan
        return out
    intervals = 1000.0 * beats.intervals
    differences = 1000.0 * beats.successive_differences
    first = np.searchsorted(beats.times, onsets)
    last = np.searchsorted(beats.times, np.asarray(onsets) + length_seconds)
    for row, (low, high) in enumerate(zip(first, last, strict=True)):
        out[row] = _of_window(beats.times[low:high], intervals[low:high], differences[low:high], length_seconds)
    return out


def _of_window(times: FloatArray, intervals: FloatArray, differences: FloatArray, length: float) -> FloatArray:
    out = np.full(len(NAMES), np.nan)
    is_used = np.isfinite(intervals)
    share = min(float(intervals[is_used].sum()) / 1000.0 / length, 1.0)
    out[-1] = share
    if is_used.sum() < _MIN_INTERVALS:
        return out
    nn = intervals[is_used]
    out[0], out[1] = nn.mean(), np.log(nn.std() + 1.0)
    steps = differences[np.isfinite(differences)]
    if len(steps) >= _MIN_INTERVALS:
        out[2] = np.log(np.sqrt(np.mean(np.square(steps))) + 1.0)
        out[3] = np.mean(np.abs(steps) > 50.0)
    if length >= _MIN_SPECTRUM_SECONDS and share >= _MIN_SPECTRUM_COVERAGE:
        out[4:7] = _spectrum(times[is_used], nn)
    return out


def _spectrum(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return log LF, log HF and their difference, of intervals interpolated to 4 Hz (log ms^2)."""
    from scipy.signal import periodogram

    grid = np.arange(times[0], times[-1], 1.0 / _SPECTRUM_RATE)
    if len(grid) < _SPECTRUM_RATE * 0.7 * _MIN_SPECTRUM_SECONDS:
        return np.full(3, np.nan)
    frequency, power = periodogram(
        np.interp(grid, times, intervals), fs=_SPECTRUM_RATE, window="hann", detrend="linear"
    )
    step = frequency[1] - frequency[0]
    low, high = (np.log(power[(frequency >= a) & (frequency < b)].sum() * step + 1.0) for a, b in (_LF_HZ, _HF_HZ))
    return np.array([low, high, low - high])
