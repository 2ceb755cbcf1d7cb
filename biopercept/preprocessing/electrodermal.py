"""Skin conductance: tonic level, phasic changes and single responses.

References
----------
Boucsein et al. (2012), doi:10.1111/j.1469-8986.2012.01384.x (onset, amplitude, rise time and half recovery of a
response; rises last 0.5 to 5 s); Kleckner et al. (2018), doi:10.1109/TBME.2017.2758643 (what is not a response);
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2's high-pass decomposition). We
differ in the smallest response, which is absolute (uS) and not relative to the largest of the recording:
a relative one would change with what comes later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.preprocessing.gaps import (
    apply_by_segment,
    block_means,
    bridged,
    filter_sections,
    local_noise,
    segments,
)
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray

IntArray = NDArray[np.int64]

LOWEST_TONIC = 1e-3
"""Tonic level below which the logarithm is not followed, uS."""

MIN_RESPONSE_RATE = 3.0
"""Sampling rate below which responses are not looked for, Hz: their rise would lie between two samples."""

_TONIC_ORDER = 2  # of neurokit2's decomposition
_COARSE_HZ = 8.0
_MIN_RISE_SECONDS, _MAX_RISE_SECONDS = 0.25, 10.0
_MEDIAN_SECONDS, _SMOOTH_SECONDS = 0.6, 0.25
_TREND_SECONDS = 60.0
_FOOT_SHARE = 0.2  # of the steepest slope: where a rise has begun
_FALL_SECONDS, _FALL_SHARE = 0.25, 0.9  # a sensor that was pressed falls by the whole height within this
_NOISE_HEIGHTS = 5.0  # a made hour of white noise has fewer than ten peaks that high
_MIN_SAMPLES = 16


@dataclass(frozen=True, eq=False)
class SkinResponses:
    """Skin conductance responses of one recording.

    Attributes
    ----------
    onsets, times : array, shape (n,)
        Where the rise begins and where its peak is, seconds on the recording's clock, increasing.
    amplitudes : array, shape (n,)
        Rise from onset to peak, uS, without what the level itself rose by in the time.
    half_recovery_seconds : array, shape (n,)
        From the peak until half of the rise is lost; NaN where the next response or the end comes before.
    searched : array, shape (n_stretches, 2)
        Start and end of the stretches in which responses were looked for, seconds.
    smallest : float
        What a response had to rise by, uS: the setting, or more where noise is larger; NaN where none were looked for.
    """

    onsets: FloatArray
    times: FloatArray
    amplitudes: FloatArray
    half_recovery_seconds: FloatArray
    searched: FloatArray
    smallest: float = np.nan

    def __len__(self) -> int:
        """Return the number of responses."""
        return len(self.times)

    @property
    def rise_seconds(self) -> FloatArray:
        """Return the time from onset to peak, seconds: (n,)."""
        return self.times - self.onsets

    def searched_seconds(self, onsets: FloatArray, length_seconds: float) -> FloatArray:
        """Return for how long responses were looked for in each window: (n_windows,)."""
        starts, stops = self.searched[:, 0], self.searched[:, 1]
        ends = np.asarray(onsets)[:, None] + length_seconds
        shared = np.minimum(ends, stops) - np.maximum(np.asarray(onsets)[:, None], starts)
        return np.asarray(np.maximum(shared, 0.0).sum(axis=1), dtype=np.float64)


def no_responses() -> SkinResponses:
    """Return a set of no responses, looked for nowhere."""
    empty = np.empty(0)
    return SkinResponses(empty, empty, empty, empty, np.empty((0, 2)))


def tonic_and_phasic(
    cleaned: FloatArray, sampling_rate: float, settings: CleaningSettings
) -> tuple[FloatArray, FloatArray]:
    """Return tonic and phasic skin conductance of one channel, both uS, NaN where masked.

    The phasic part is that of ``neurokit2.eda_phasic(method="highpass")``, without that library's long import.
    """
    from scipy.signal import sosfiltfilt

    sections = filter_sections(sampling_rate, settings.eda_tonic_hz, None, order=_TONIC_ORDER)

    def phasic_of(segment: FloatArray) -> FloatArray:
        if np.ptp(segment) == 0:
            return np.zeros_like(segment)
        return np.asarray(sosfiltfilt(sections, segment), dtype=np.float64)

    phasic = apply_by_segment(
        cleaned[None, :],
        phasic_of,
        max_gap_samples=int(settings.slow_bridge_seconds * sampling_rate),
        min_samples=int(settings.eda_min_seconds * sampling_rate),
    )[0]
    return cleaned - phasic, phasic


def skin_responses(
    screened: FloatArray, sampling_rate: float, start_seconds: float, settings: CleaningSettings
) -> SkinResponses:
    """Return the responses in one screened channel: peaks that rise at least ``scr_min_us`` in 0.25-10 s.

    ``screened`` are its samples at the sensor's own rate, (n_samples,) in uS, NaN where masked. They are smoothed by
    medians and a Gaussian alone, which make no peak where there was none: a low-pass with a sharp edge rings before
    every steep rise, and a high-pass answers every large response with a rebound that looks like a small one. Where the
    level rises steadily (median slope of the minute around), its rise is taken off first: on it a response has no peak.

    Skin that sweats dries slowly: what falls by its whole height within 0.25 s is no response. Gaps of up to
    ``slow_bridge_seconds`` are crossed, but a rise that was mostly not measured is no response. Where noise is larger
    than ``scr_min_us``, so is the smallest response.
    """
    if sampling_rate < MIN_RESPONSE_RATE:
        return no_responses()
    n = max(int(sampling_rate // _COARSE_HZ), 1)
    rate = sampling_rate / n
    coarse = block_means(screened, n)
    first = start_seconds + 0.5 * (n - 1) / sampling_rate
    parts: list[_Responses] = []
    searched: list[tuple[float, float]] = []
    shortest = max(int(settings.eda_min_seconds * rate), _MIN_SAMPLES)
    for start, stop in segments(coarse, int(settings.slow_bridge_seconds * rate), shortest):
        parts.append(_responses_of_segment(coarse[start:stop], rate, first + start / rate, settings))
        searched.append((start_seconds + start / rate, start_seconds + stop / rate))
    if not parts:
        return no_responses()
    onsets, peaks, heights, recoveries = np.concatenate([part.rows for part in parts]).T
    smallest = float(np.median(np.concatenate([part.smallest for part in parts])))
    return SkinResponses(onsets, peaks, heights, recoveries, np.array(searched), smallest)


@dataclass(frozen=True, eq=False)
class _Responses:
    """Responses of one segment: onset, peak, amplitude and half recovery by row; and the smallest height by sample."""

    rows: FloatArray
    smallest: FloatArray


def _responses_of_segment(
    measured: FloatArray, rate: float, start_seconds: float, settings: CleaningSettings
) -> _Responses:
    from scipy.ndimage import gaussian_filter1d, median_filter
    from scipy.signal import find_peaks

    level = bridged(measured)
    smallest = np.maximum(settings.scr_min_us, _told_from_noise(level, rate))
    calm = median_filter(level, max(round(_MEDIAN_SECONDS * rate) | 1, 3), mode="nearest")
    skin = gaussian_filter1d(calm, _SMOOTH_SECONDS * rate, mode="nearest")
    slope = np.gradient(skin) * rate
    rising = np.maximum(median_filter(slope, round(_TREND_SECONDS * rate), mode="reflect"), 0.0)
    skin = skin - np.cumsum(rising) / rate
    peaks, bases = find_peaks(skin, prominence=smallest, wlen=int(4 * _MAX_RISE_SECONDS * rate) | 1)
    # A rise begins after the peak before, and its fall ends before the peak after.
    starts = np.maximum(bases["left_bases"], np.concatenate(([0], peaks[:-1])))
    stops = np.minimum(bases["right_bases"], np.append(peaks[1:], len(skin) - 1))
    feet, onsets = _onsets(skin, slope, starts, peaks)
    heights = skin[peaks] - np.interp(feet, np.arange(len(skin)), skin)
    rises = (peaks - onsets) / rate
    is_response = (feet > 0) & (rises >= _MIN_RISE_SECONDS) & (rises <= _MAX_RISE_SECONDS)
    is_response &= (heights >= smallest[peaks]) & (_measured_share(measured, feet, peaks) >= 0.5)
    is_response &= _steepest_fall(calm, peaks, stops, rate) <= _FALL_SHARE * heights
    peaks, onsets, heights = peaks[is_response], onsets[is_response], heights[is_response]
    recovery = _half_recovery(skin, onsets, peaks, heights) / rate
    rows = np.stack([start_seconds + onsets / rate, start_seconds + peaks / rate, heights, recovery], axis=1)
    return _Responses(rows, smallest)


def _told_from_noise(level: FloatArray, rate: float) -> FloatArray:
    """Return the height from which a peak of the smoothed signal is none of its noise, uS: (n_samples,)."""
    # What a Gaussian leaves of white noise: the root of the sum of its squared weights.
    left = min(1.0 / np.sqrt(2.0 * np.sqrt(np.pi) * _SMOOTH_SECONDS * rate), 1.0)
    return np.asarray(_NOISE_HEIGHTS * left * local_noise(level, rate), dtype=np.float64)


def detection_limit(screened: FloatArray, sampling_rate: float) -> tuple[FloatArray, float]:
    """Return the smallest response that stands out of the noise of one channel, uS, by time; and the rate of these.

    (n,), NaN where nothing was measured.
    """
    n = max(int(sampling_rate // _COARSE_HZ), 1)
    coarse = block_means(screened, n)
    if len(coarse) < 3:
        return np.full(len(coarse), np.nan), sampling_rate / n
    return _told_from_noise(coarse, sampling_rate / n), sampling_rate / n


def _onsets(skin: FloatArray, slope: FloatArray, starts: IntArray, peaks: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the foot and the onset of each rise, fractional samples; a foot of 0 where it began before the segment.

    The foot is where the slope last passes a fifth of its steepest (counted from the least slope before, where that
    is a rise already). The onset is where the tangent at the steepest point meets the level of the foot: the foot
    itself is earlier by what the smoothing spreads.
    """
    feet, onsets = np.zeros(len(peaks)), np.zeros(len(peaks))
    for i, (start, peak) in enumerate(zip(starts, peaks, strict=True)):
        steepest = start + int(np.argmax(slope[start : peak + 1]))
        before = max(float(slope[start : steepest + 1].min()), 0.0)
        passed = before + _FOOT_SHARE * (slope[steepest] - before)
        calm = start + np.flatnonzero(slope[start:steepest] <= passed)
        if len(calm):
            foot = int(calm[-1])
            part = (passed - slope[foot]) / max(slope[foot + 1] - slope[foot], np.finfo(float).tiny)
            level = skin[foot] + part * (skin[foot + 1] - skin[foot])
            feet[i] = foot + part
            meeting = steepest - (skin[steepest] - level) / max(_per_sample(skin, steepest), np.finfo(float).tiny)
            onsets[i] = np.clip(meeting, feet[i], steepest)
    return feet, onsets


def _per_sample(skin: FloatArray, index: int) -> float:
    """Return the rise of the skin from sample to sample around one of them, uS."""
    return float(skin[min(index + 1, len(skin) - 1)] - skin[max(index - 1, 0)]) / 2.0


def _measured_share(measured: FloatArray, feet: FloatArray, peaks: IntArray) -> FloatArray:
    """Return the fraction of each rise's samples that was measured."""
    first = np.ceil(feet).astype(np.int64)
    total = np.concatenate(([0], np.cumsum(np.isfinite(measured))))
    return np.asarray((total[peaks + 1] - total[first]) / np.maximum(peaks + 1 - first, 1), dtype=np.float64)


def _steepest_fall(calm: FloatArray, peaks: IntArray, stops: IntArray, rate: float) -> FloatArray:
    """Return the largest fall within a quarter of a second on the way down from each peak, uS."""
    lag = max(round(_FALL_SECONDS * rate), 1)
    fall = np.concatenate((calm[:-lag] - calm[lag:], np.zeros(lag)))
    first = np.maximum(peaks - lag, 0)
    return np.array([fall[start : stop + 1].max() for start, stop in zip(first, stops, strict=True)])


def _half_recovery(skin: FloatArray, onsets: FloatArray, peaks: IntArray, heights: FloatArray) -> FloatArray:
    """Return the samples (fractional) from each peak to the loss of half its height; NaN where not reached."""
    out = np.full(len(peaks), np.nan)
    ends = np.append(np.floor(onsets[1:]), len(skin) - 1).astype(np.int64)[: len(peaks)]
    for i, (peak, end, height) in enumerate(zip(peaks, ends, heights, strict=True)):
        half = skin[peak] - 0.5 * height
        below = np.flatnonzero(skin[peak : end + 1] <= half)
        if len(below):
            after = peak + int(below[0])
            out[i] = after - peak - (half - skin[after]) / (skin[after - 1] - skin[after])
    return out


def log_tonic(tonic: FloatArray) -> FloatArray:
    """Return the logarithm of the tonic level, log uS; levels under 0.001 uS count as 0.001."""
    return np.asarray(np.log(np.fmax(tonic, np.where(np.isfinite(tonic), LOWEST_TONIC, np.nan))), dtype=np.float64)
