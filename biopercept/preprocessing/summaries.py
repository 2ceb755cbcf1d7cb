"""Summaries of a 4 Hz series over windows: level, spread, trend, roughness, all windows at once."""

from __future__ import annotations

import numpy as np

from biopercept.modalities import DERIVED_RATE
from biopercept.recording import FloatArray

MIN_COVERAGE = 0.5
"""Share of a window's samples that must be valid for a summary to be given."""


def windowed(series: FloatArray, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return the windows of one series on the derived grid: (n_windows, n_samples), NaN outside the series.

    Parameters
    ----------
    series : array, shape (n_times,)
        At 4 Hz from second zero.
    onsets : array, shape (n_windows,)
        Seconds.
    length_seconds : float
    """
    n = max(round(length_seconds * DERIVED_RATE), 1)
    index = np.round(np.asarray(onsets) * DERIVED_RATE).astype(np.int64)[:, None] + np.arange(n)
    inside = (index >= 0) & (index < len(series))
    out = np.full(index.shape, np.nan)
    out[inside] = series[index[inside]]
    return out


def coverage(windows: FloatArray) -> FloatArray:
    """Return the share of valid samples of each window: (n_windows,)."""
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
    centre = (is_valid * minutes).sum(axis=1) / n
    away = np.where(is_valid, minutes - centre[:, None], 0.0)
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
