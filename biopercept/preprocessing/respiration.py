"""Breathing: breaths with their rate and amplitude, from a chest or abdomen signal.

A breath is a peak that stands out of what is around it (prominence): a third of the height that the breaths of the 30 s
around have, as Khodadad et al. (2018), doi:10.1088/1361-6579/aad7e6, ask of extrema. We differ in what the third is of:
there it is the median difference between all extrema, which in a noisy signal are the ripples of the noise, and slow
breathing then gets the rate of the ripples. A segment whose power is not at breathing frequencies gives no rate at all,
and breaths far from their neighbours' period, far smaller than the others, or as irregular as noise are not used.

Breathing is expected from 3 to 60 a minute. The band of the cleaned signal (0.05-3 Hz) is not narrowed at its lower
edge again: a second high-pass would take paced breathing for drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.gaps import BoolArray, bridged, filter_sections, segments
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

MIN_BREATHING_RATE = 3.0
"""Sampling rate below which breaths are not looked for, Hz: the fastest breathing has three samples then."""

_LOWEST_RATE, _HIGHEST_RATE = MODALITIES["resp_rate"].plausible
_SLOWEST_HZ, _FASTEST_HZ = _LOWEST_RATE / 60.0, _HIGHEST_RATE / 60.0
_ORDER = 8  # at 42 breaths a minute, 0.7 of the edge, nothing is lost
_AROUND_SECONDS = 30.0
_PROMINENCE = 0.3 * 2.0 * np.sqrt(2.0)  # of the standard deviation: 0.3 of a sine's height from trough to peak
_REACH_SECONDS = 5.0
_MIN_BREATHS = 3
_MEDIAN_BREATHS = 7
_RHYTHM_BREATHS = 11
_MAX_IRREGULARITY = 0.5


@dataclass(frozen=True, eq=False)
class Breaths:
    """Breaths of one recording.

    Attributes
    ----------
    times : array, shape (n,)
        Where each is fullest, seconds on the recording's clock, increasing.
    heights : array, shape (n,)
        Height above the trough before, in the signal's unit.
    periods : array, shape (n,)
        Seconds since the breath before; NaN where there is none, or it lies beyond a gap, or the period or the height
        was not accepted.
    """

    times: FloatArray
    heights: FloatArray
    periods: FloatArray

    def __len__(self) -> int:
        """Return the number of breaths."""
        return len(self.times)


def no_breaths() -> Breaths:
    """Return a set of no breaths."""
    return Breaths(np.empty(0), np.empty(0), np.empty(0))


def breaths_in(
    cleaned: FloatArray, sampling_rate: float, start_seconds: float, settings: CleaningSettings
) -> tuple[Breaths, BoolArray]:
    """Return the breaths, and whether each sample lies where there is breathing: (n_samples,).

    ``cleaned`` is (n_samples,), band-passed 0.05-3 Hz, NaN where masked.
    """
    is_breathing = np.zeros(len(cleaned), dtype=bool)
    if sampling_rate < MIN_BREATHING_RATE:
        return no_breaths(), is_breathing
    runs: list[Breaths] = []
    gap = int(settings.slow_bridge_seconds * sampling_rate)
    for start, stop in segments(cleaned, gap, int(settings.resp_min_seconds * sampling_rate)):
        segment = bridged(cleaned[start:stop])
        slow = _without_ripples(segment, sampling_rate)
        is_breathing[start:stop] = _is_breathing(segment, slow, sampling_rate, settings)
        peaks, heights = _breaths(slow, sampling_rate)
        is_kept = is_breathing[start + np.round(peaks).astype(np.int64)]
        at = start_seconds + (start + peaks) / sampling_rate
        periods = np.concatenate(([np.nan], np.diff(at)))[: len(at)]
        periods[1:][~(is_kept[1:] & is_kept[:-1])] = np.nan
        if np.isfinite(periods).sum() >= _MIN_BREATHS - 1:
            runs.append(Breaths(at[is_kept], heights[is_kept], periods[is_kept]))
    is_breathing &= np.isfinite(cleaned)
    return (_accepted(runs, settings) if runs else no_breaths()), is_breathing


def rate_and_amplitude(breaths: Breaths, is_breathing: BoolArray, times: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return respiration rate (1/min) and log amplitude at ``times``, each (n_times,), NaN where unknown.

    ``is_breathing`` says at which of the times there is breathing; over gaps nothing is given.
    """
    is_used = np.isfinite(breaths.periods)
    periods, heights = breaths.periods[is_used], breaths.heights[is_used]
    middles = breaths.times[is_used] - periods / 2
    rate = np.full(len(times), np.nan)
    amplitude = np.full(len(times), np.nan)
    if len(middles) >= _MIN_BREATHS - 1:
        rate[is_breathing] = _between(times[is_breathing], middles, 60.0 / periods, periods)
        amplitude[is_breathing] = _between(times[is_breathing], middles, np.log(heights), periods)
    return rate, amplitude


def _without_ripples(segment: FloatArray, sampling_rate: float) -> FloatArray:
    """Return a gap-free segment without what is faster than any breath."""
    from scipy.signal import sosfiltfilt

    sections = filter_sections(sampling_rate, None, _FASTEST_HZ, order=_ORDER)
    if sections is None:
        return segment
    pad = min(int(5 * sampling_rate), len(segment) - 1)
    return np.asarray(sosfiltfilt(sections, segment, padtype="even", padlen=pad), dtype=np.float64)


def _is_breathing(segment: FloatArray, slow: FloatArray, sampling_rate: float, settings: CleaningSettings) -> BoolArray:
    """Return where enough of the power of the 30 s around is that of the slow part.

    Some of an even noise is slow as well, the more the less room the sampling rate leaves above breathing: what is
    needed is a share of the power that such noise would leave to others.
    """
    # Butterworth filters run forth and back let through the noise of nine tenths of their low-pass edge.
    edge = MODALITIES["resp"].band_hz[1]
    top = 0.9 * edge if edge is not None and edge <= 0.45 * sampling_rate else 0.5 * sampling_rate
    of_noise = (_FASTEST_HZ - _SLOWEST_HZ) / (top - _SLOWEST_HZ)
    needed = of_noise + settings.resp_min_share * (1.0 - of_noise)
    power = _power(segment - segment.mean(), sampling_rate)
    return np.asarray((power > 0) & (_power(slow - slow.mean(), sampling_rate) >= needed * power))


def _power(samples: FloatArray, sampling_rate: float) -> FloatArray:
    """Return the mean square of the 30 s around each sample."""
    from scipy.ndimage import uniform_filter1d

    size = max(min(int(_AROUND_SECONDS * sampling_rate), len(samples)), 1)
    # A running sum of squares may end a little below zero.
    power = np.maximum(uniform_filter1d(np.square(samples), size, mode="reflect"), 0.0)
    return np.asarray(power, dtype=np.float64)


def _breaths(slow: FloatArray, sampling_rate: float) -> tuple[FloatArray, FloatArray]:
    """Return positions (fractional samples) of the peaks in a gap-free segment, and heights above the trough before."""
    from scipy.signal import find_peaks

    spread = np.sqrt(_power(slow - slow.mean(), sampling_rate))
    reach = int(2 * sampling_rate / _SLOWEST_HZ) | 1
    peaks, _ = find_peaks(slow, prominence=np.maximum(_PROMINENCE * spread, np.finfo(float).tiny), wlen=reach)
    if len(peaks) == 0:
        return np.empty(0), np.empty(0)
    lowest = np.minimum.reduceat(slow[: peaks[-1] + 1], np.concatenate(([0], peaks[:-1])))
    left, middle, right = slow[peaks - 1], slow[peaks], slow[peaks + 1]
    bend = left - 2 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(len(peaks)), where=np.abs(bend) > 0)
    return peaks + np.clip(shift, -0.5, 0.5), middle - lowest


def _accepted(runs: list[Breaths], settings: CleaningSettings) -> Breaths:
    """Return the breaths of all runs, with NaN for the periods that no regular breathing has.

    Breaths far smaller than the recording's large ones are left out.
    """
    smallest = settings.resp_min_amplitude * _large_breath(runs)
    parts: list[Breaths] = []
    for run in runs:
        periods = np.where(run.heights >= smallest, run.periods, np.nan)
        known = np.flatnonzero(np.isfinite(periods))
        is_breath = _is_alike(run.periods[known], settings) & _is_rhythm(run.periods[known], run.heights[known])
        periods[known[~is_breath]] = np.nan
        is_large = run.heights >= smallest
        parts.append(Breaths(run.times[is_large], run.heights[is_large], periods[is_large]))
    return Breaths(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("times", "heights", "periods"))
    )


def _large_breath(runs: list[Breaths]) -> float:
    """Return the upper quartile of breath heights, each counted as long as it lasts.

    Noise after a lost belt gives more, shorter and smaller "breaths" than breathing does: by number they would win.
    """
    heights, periods = (np.concatenate([getattr(run, name) for run in runs]) for name in ("heights", "periods"))
    is_known = np.isfinite(periods)
    heights, periods = heights[is_known], periods[is_known]
    order = np.argsort(heights)
    passed = np.cumsum(periods[order])
    return float(heights[order][np.searchsorted(passed, 0.75 * passed[-1])])


def _is_alike(periods: FloatArray, settings: CleaningSettings) -> BoolArray:
    """Return which breath periods are plausible and like those of the breaths around: shape (n,)."""
    typical = np.median(_around(periods, _MEDIAN_BREATHS), axis=1)
    is_alike = (periods <= settings.resp_max_deviation * typical) & (periods * settings.resp_max_deviation >= typical)
    return is_alike & (periods <= 60.0 / _LOWEST_RATE) & (periods >= 60.0 / _HIGHEST_RATE)


def _is_rhythm(periods: FloatArray, heights: FloatArray) -> BoolArray:
    """Return where breaths follow each other as regularly as no noise does: shape (n,).

    Their irregularity is the mean distance of the logarithms of periods and of heights from the medians of the breaths
    around. Drift without breathing, whose waves no spectrum tells from slow breaths, has 0.6 (random walk, 1/f noise).
    """
    irregular = np.zeros(len(periods))
    for values in (periods, heights):
        around = np.log(_around(values, _MEDIAN_BREATHS))
        irregular += np.abs(around - np.median(around, axis=1, keepdims=True)).mean(axis=1)
    return np.asarray(np.median(_around(irregular, _RHYTHM_BREATHS), axis=1) <= _MAX_IRREGULARITY)


def _around(values: FloatArray, n: int) -> FloatArray:
    """Return the ``n`` values around each, mirrored at the ends: (len(values), n); all of them where they are few."""
    if len(values) <= n // 2:
        return np.tile(values, (len(values), 1))
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, n // 2, mode="reflect"), n)


def _between(times: FloatArray, at: FloatArray, values: FloatArray, periods: FloatArray) -> FloatArray:
    """Return values between breaths; NaN further than half a breath and 5 s from the middle of any.

    Over a breath that was not used, or a gap, the nearest breath speaks.
    """
    right = np.clip(np.searchsorted(at, times), 1, len(at) - 1)
    left = right - 1
    to_left, to_right = np.abs(times - at[left]), np.abs(times - at[right])
    follows = at[right] - at[left] <= 0.5 * (periods[left] + periods[right]) + 1e-6
    line = np.interp(times, at, values)
    nearest = np.where(to_left <= to_right, values[left], values[right])
    near = (to_left <= periods[left] / 2 + _REACH_SECONDS) | (to_right <= periods[right] / 2 + _REACH_SECONDS)
    return np.where(near, np.where(follows, line, nearest), np.nan)
