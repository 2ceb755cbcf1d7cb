"""Breathing: rate and amplitude from a chest or abdomen signal.

References
----------
Khodadad et al. (2018), doi:10.1088/1361-6579/aad7e6 (extrema), through neurokit2. We differ in that a
segment whose power is not at breathing frequencies gives no rate at all, and that breaths far from
their neighbours' period or far smaller than the others are not used.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.gaps import BoolArray, bridged, segments
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

_LOWEST_RATE, _HIGHEST_RATE = MODALITIES["resp_rate"].plausible
_LONGEST_BREATH = 60.0 / _LOWEST_RATE
_BREATHING_HZ = (0.08, 0.7)
_FRACTION_SECONDS = 30.0
_REACH_SECONDS = 5.0
_MIN_BREATHS = 3
_MEDIAN_BREATHS = 7


def rate_and_amplitude(
    cleaned: FloatArray, sampling_rate: float, times: FloatArray, start_seconds: float, settings: CleaningSettings
) -> tuple[FloatArray, FloatArray]:
    """Return respiration rate (1/min) and log amplitude at grid ``times``, each (n_times,), NaN where unknown.

    ``cleaned`` is (n_samples,), band-passed 0.05-3 Hz, NaN where masked.
    """
    runs: list[tuple[int, int, FloatArray, FloatArray]] = []
    is_breathing = np.zeros(len(cleaned), dtype=bool)
    gap = int(settings.slow_bridge_seconds * sampling_rate)
    for start, stop in segments(cleaned, gap, int(settings.resp_min_seconds * sampling_rate)):
        segment = bridged(cleaned[start:stop])
        is_breathing[start:stop] = _is_breathing(segment, sampling_rate, settings)
        peaks, heights = _breaths(segment, sampling_rate)
        if len(peaks) >= _MIN_BREATHS:
            runs.append((start, stop, start_seconds + (start + peaks) / sampling_rate, heights))
    rate = np.full(len(times), np.nan)
    amplitude = np.full(len(times), np.nan)
    if not runs:
        return rate, amplitude
    is_breathing &= np.isfinite(cleaned)
    smallest = settings.resp_min_amplitude * _large_breath(runs)
    index = np.round((times - start_seconds) * sampling_rate).astype(np.int64)
    for start, stop, at, heights in runs:
        here = np.flatnonzero((index >= start) & (index < stop))
        here = here[is_breathing[index[here]]]
        periods = np.diff(at)
        is_used = _accepted(periods, settings) & (heights[1:] >= smallest)
        middles = at[1:] - periods / 2
        rate[here] = _interpolated(times[here], middles[is_used], 60.0 / periods[is_used], periods[is_used])
        amplitude[here] = _interpolated(times[here], middles[is_used], np.log(heights[1:][is_used]), periods[is_used])
    return rate, amplitude


def _breaths(segment: FloatArray, sampling_rate: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Return sample positions of breath peaks in a gap-free segment, and their heights above the trough before."""
    import neurokit2 as nk

    none = np.empty(0, dtype=np.int64), np.empty(0)
    if np.ptp(segment) == 0:
        return none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            info = nk.rsp_findpeaks(segment, sampling_rate=sampling_rate, method="khodadad2018")
        except (ValueError, IndexError, ZeroDivisionError, TypeError):
            return none
    peaks, troughs = (np.asarray(info[key], dtype=np.float64) for key in ("RSP_Peaks", "RSP_Troughs"))
    ends = np.unique(peaks[np.isfinite(peaks)].astype(np.int64))
    starts = np.unique(troughs[np.isfinite(troughs)].astype(np.int64))
    before = np.searchsorted(starts, ends) - 1
    ends, before = ends[before >= 0], before[before >= 0]
    heights = segment[ends] - segment[starts[before]]
    return ends[heights > 0], heights[heights > 0]


def _large_breath(runs: list[tuple[int, int, FloatArray, FloatArray]]) -> float:
    """Return the upper quartile of breath heights, each counted as long as it lasts.

    Noise after a lost belt gives more, shorter and smaller "breaths" than breathing does: by number they would win.
    """
    heights = np.concatenate([heights[1:] for *_, heights in runs])
    periods = np.concatenate([np.diff(at) for _, _, at, _ in runs])
    order = np.argsort(heights)
    passed = np.cumsum(periods[order])
    return float(heights[order][np.searchsorted(passed, 0.75 * passed[-1])])


def _accepted(periods: FloatArray, settings: CleaningSettings) -> BoolArray:
    """Return which breath periods are plausible and like those of the breaths around: shape (n,)."""
    half = _MEDIAN_BREATHS // 2
    around = (
        np.lib.stride_tricks.sliding_window_view(np.pad(periods, half, mode="reflect"), _MEDIAN_BREATHS)
        if (len(periods) > half)
        else np.tile(periods, (len(periods), 1))
    )
    typical = np.median(around, axis=1)
    is_alike = (periods <= settings.resp_max_deviation * typical) & (periods * settings.resp_max_deviation >= typical)
    return is_alike & (periods <= 60.0 / _LOWEST_RATE) & (periods >= 60.0 / _HIGHEST_RATE)


def _is_breathing(segment: FloatArray, sampling_rate: float, settings: CleaningSettings) -> BoolArray:
    """Return where most of the power of the 30 s around lies at breathing frequencies."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import butter, sosfiltfilt

    high = min(_BREATHING_HZ[1], 0.45 * sampling_rate)
    sections = butter(2, (_BREATHING_HZ[0], high), "bandpass", fs=sampling_rate, output="sos")
    pad = min(int(5 * sampling_rate), len(segment) - 1)
    inside = sosfiltfilt(sections, segment, padlen=pad)
    size = min(int(_FRACTION_SECONDS * sampling_rate), len(segment))
    power = uniform_filter1d(np.square(segment - segment.mean()), size, mode="nearest")
    in_band = uniform_filter1d(np.square(inside), size, mode="nearest")
    return np.asarray((power > 0) & (in_band >= settings.resp_min_share * power))


def _interpolated(times: FloatArray, at: FloatArray, values: FloatArray, periods: FloatArray) -> FloatArray:
    """Return values between breaths; NaN further than half a breath and 5 s from the middle of any."""
    out = np.full(len(times), np.nan)
    if len(at) < 2:
        return out
    right = np.clip(np.searchsorted(at, times), 1, len(at) - 1)
    left = right - 1
    near = (np.abs(times - at[left]) <= periods[left] / 2 + _REACH_SECONDS) | (
        np.abs(times - at[right]) <= periods[right] / 2 + _REACH_SECONDS
    )
    out[near] = np.interp(times[near], at, values)
    return out
