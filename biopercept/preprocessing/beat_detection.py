"""Beats in a wave: R-peaks of an ECG of either polarity and pulse peaks, timed between samples, and how exactly.

Beats are looked for in gap-free segments that have passed the screening: pulse waves as neurokit2 does (without its
import, which takes longer than an hour of pulse), QRS complexes where the power of their band peaks (scipy; neurokit2's
finder keeps the first of two peaks within 0.3 s and not the higher, which halves rates of 200 and more and loses beats
to noise before them). What is found is believed only where it looks alike.

A peak is a poor clock: noise moves it, and a pulse is flat on top. So every beat is timed by its whole wave:
it is moved to where it fits the mean shape of its neighbours best, and what does not fit says how far the time
may be off (the lower bound of Cramer and Rao for the time of a known shape in noise of that size and band).

References
----------
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2); Pan & Tompkins (1985),
doi:10.1109/TBME.1985.325532 (power of a band, heights judged by those around); Elgendi, Jonkman and De Boer (2010),
Frequency bands effects on QRS detection, BIOSIGNALS (8-20 Hz); Elgendi et al. (2013), doi:10.1371/journal.pone.0076585
(pulse peaks); Kay (1993), Fundamentals of statistical signal processing, chapter 3 (bound of a time of arrival);
Woody (1967), doi:10.1007/BF02474247 (alignment to a running mean).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.eeg import without_hum
from biopercept.preprocessing.gaps import BoolArray, bridged, filter_sections, filtered, median_around, segments
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

IntArray = NDArray[np.int64]

_MIN_BEATS = 4
_NEIGHBOURS = 31  # beats in the mean shape that a beat is compared with
_REFRACTORY_SECONDS = 0.9 * MODALITIES["ibi"].plausible[0]
"""Least time between two peaks: below the shortest plausible interval by the unevenness of a heart."""
_QRS_HZ = (8.0, 20.0)
_QRS_SECONDS = 0.1
_BEAT_SECONDS, _OVER_MEAN = 0.667, 0.02  # Elgendi's window of a beat, and what a wave stands above it by
_PULSE_SECONDS = 0.08  # least width of a systolic wave; 0.111, for hearts up to 160, loses the waves of 220
_NOISE_CORRELATION = 0.7
"""Mean correlation of 31 pulse waves below which they may be noise: peaks of noise in so narrow a band have 0.65."""
_MIN_HEIGHT = 0.4  # of what is usual around: T waves (in the QRS band), waves of a long pause and most noise are lower
_BLOCK_SECONDS, _BLOCKS = 2.5, 7
_ALIGNMENTS = 3
_PARAMETERS = 3  # height, level and time of a beat are fitted to its samples


@dataclass(frozen=True, eq=False)
class DetectedBeats:
    """Beats as found in one channel, before any interval is judged.

    ``times`` are seconds on the recording's clock, increasing; ``amplitudes`` the height above the lowest point since
    the beat before, in the signal's unit, NaN for the first; ``timing_errors`` the standard error of each time,
    seconds, NaN where nobody can say; ``stretches`` the number of the gap-free stretch that a beat lies in: no interval
    spans two; ``by_hand`` which a person added. All (n,).
    """

    times: FloatArray
    amplitudes: FloatArray
    timing_errors: FloatArray
    stretches: IntArray
    by_hand: BoolArray = field(default_factory=lambda: np.empty(0, dtype=bool))

    def __post_init__(self) -> None:
        """Take beats of which nothing is given as detected."""
        if len(self.by_hand) == 0:
            object.__setattr__(self, "by_hand", np.zeros(len(self.times), dtype=bool))

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return what is known of the beats, in the order of the attributes."""
        return self.times, self.amplitudes, self.timing_errors, self.stretches, self.by_hand

    def __len__(self) -> int:
        """Return the number of beats."""
        return len(self.times)


def no_detected_beats() -> DetectedBeats:
    """Return a set of no beats."""
    empty = np.empty(0)
    return DetectedBeats(empty, empty, empty, np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class BeatSearch:
    """How beats of a modality are found, at which rate, and which seconds around a peak make its shape and time it.

    ``find`` returns a segment filtered as beats are compared and timed, and peaks in it. The segment comes at a rate of
    ``working_rate`` or up to twice that, where the signal's is higher, and at least at ``lowest_rate``. Beats are
    believed where their correlation with their neighbours' mean shape is ``least_correlation`` on average.
    """

    find: Callable[[FloatArray, float, CleaningSettings], tuple[FloatArray, IntArray]]
    band_hz: tuple[float, float]
    shape_seconds: tuple[float, float]
    timing_seconds: tuple[float, float]
    working_rate: float
    lowest_rate: float
    smallest: float = 0.0
    least_correlation: float = 0.0


def ecg_search(settings: CleaningSettings, *, is_upright: bool = False) -> BeatSearch:
    """Return how R-peaks are searched for; of either polarity, unless somebody says that the wave is upright."""
    find = partial(_r_peaks, is_upright=is_upright)
    return BeatSearch(find, (0.5, 40.0), (0.12, 0.2), (0.07, 0.07), 250.0, 200.0, settings.ecg_min_mv)


def pulse_search() -> BeatSearch:
    """Return how pulse peaks are searched for; the rising flank times them, as what follows it varies more."""
    timing = (0.25, 0.15)
    return BeatSearch(_pulse_peaks, (0.5, 8.0), (0.3, 0.4), timing, 64.0, 64.0, least_correlation=_NOISE_CORRELATION)


def detected_beats(
    raw: FloatArray, signal: Signal, settings: CleaningSettings, search: BeatSearch
) -> tuple[DetectedBeats, tuple[str, ...]]:
    """Return the beats of every segment of one screened channel, and a note on each segment without.

    ``raw`` is (n_samples,) at the signal's own rate, NaN where masked.
    """
    rate = signal.sampling_rate
    parts: list[tuple[FloatArray, ...]] = []
    notes: list[str] = []
    for start, stop in segments(raw, int(settings.bridge_seconds * rate), int(settings.heart_min_seconds * rate)):
        beats = _beats_of_segment(raw[start:stop], rate, settings, search)
        if isinstance(beats, str):
            notes.append(f"{signal.name}: no beats used in {start / rate:.0f}-{stop / rate:.0f} s, {beats}.")
            continue
        seconds, amplitudes, errors = beats
        times = signal.start_seconds + start / rate + seconds
        parts.append((times, amplitudes, errors, np.full(len(times), len(parts), dtype=np.int64)))
    if not parts:
        return no_detected_beats(), tuple(notes)
    return DetectedBeats(*(np.concatenate(column) for column in zip(*parts, strict=True))), tuple(notes)


def _beats_of_segment(
    raw: FloatArray, rate: float, settings: CleaningSettings, search: BeatSearch
) -> tuple[FloatArray, FloatArray, FloatArray] | str:
    """Return times from the segment's start, amplitudes and timing errors; or why there are none."""
    segment = bridged(raw)
    if np.ptp(segment) == 0:
        return "the signal is flat"
    segment, working_rate = _at_working_rate(segment, rate, search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cleaned, peaks = search.find(segment, working_rate, settings)
        except (ValueError, IndexError, ZeroDivisionError, TypeError, np.linalg.LinAlgError) as error:
            return f"the detector could not work on it ({type(error).__name__})"
    if np.std(cleaned) < search.smallest:
        return f"what is left after filtering is too small ({np.std(cleaned):.2g})"
    if np.std(cleaned) < settings.in_band_share * np.std(segment):
        return "almost nothing is left after filtering"
    where = np.round(peaks * rate / working_rate).astype(np.int64)
    peaks = peaks[np.isfinite(raw[np.clip(where, 0, len(raw) - 1)])]
    if len(peaks) < _MIN_BEATS:
        return f"only {len(peaks)} peaks were found"
    correlation = _shape_correlation(cleaned, peaks, working_rate, search)
    is_alike = correlation >= settings.heart_min_correlation
    is_alike &= _mean_around(is_alike) >= settings.heart_min_coverage
    is_alike &= _mean_around(correlation) >= search.least_correlation
    if is_alike.sum() < _MIN_BEATS:
        return "the peaks do not look alike"
    peaks = peaks[is_alike]
    positions, errors = _timed(cleaned, peaks, working_rate, search)
    return positions / working_rate, _amplitudes(cleaned, peaks), errors


def _at_working_rate(segment: FloatArray, rate: float, search: BeatSearch) -> tuple[FloatArray, float]:
    """Return the segment resampled by a whole number where its rate is far from what the search works at."""
    from scipy.signal import resample_poly

    down = max(int(rate // search.working_rate), 1)
    up = 1 if down > 1 else math.ceil(search.lowest_rate / rate - 1e-9)
    if up == down == 1:
        return segment, rate
    return np.asarray(resample_poly(segment, up, down, padtype="line"), dtype=np.float64), rate * up / down


def _r_peaks(
    samples: FloatArray, rate: float, settings: CleaningSettings, *, is_upright: bool = False
) -> tuple[FloatArray, IntArray]:
    """Return filtered ECG, upright, and its R-peaks: where the power of the QRS band is highest, whatever the sign."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks

    low, high = MODALITIES["ecg"].band_hz
    cleaned = filtered(without_hum(samples[None], rate, settings), rate, low, high, bridge_seconds=0.0)
    qrs = filtered(cleaned, rate, *_QRS_HZ, bridge_seconds=0.0, order=2)[0]
    sign = 1.0 if is_upright else _polarity(qrs, rate)
    cleaned = sign * cleaned[0]
    height = np.sqrt(uniform_filter1d(qrs**2, round(_QRS_SECONDS * rate)))
    peaks, _ = find_peaks(height, distance=max(round(_REFRACTORY_SECONDS * rate), 1))
    return cleaned, _highest_near(cleaned, peaks[_is_high(height, peaks, rate)], round(0.5 * _QRS_SECONDS * rate))


def _is_high(height: FloatArray, peaks: IntArray, rate: float) -> BoolArray:
    """Return which peaks are high beside the highest of each 2.5 s, of which even a slow heart's have one."""
    n = round(_BLOCK_SECONDS * rate)
    blocks = height[: max(len(height) // n, 1) * n]
    highest = np.nanmax(np.pad(blocks, (0, -len(blocks) % n), constant_values=np.nan).reshape(-1, n), axis=1)
    usual = median_around(highest, _BLOCKS)
    return np.asarray(height[peaks] >= _MIN_HEIGHT * usual[np.minimum(peaks // n, len(usual) - 1)])


def _polarity(qrs: FloatArray, rate: float) -> float:
    """Return -1 where most pieces of 2 s reach further down than up, else 1."""
    n = int(2 * rate)
    pieces = qrs[: len(qrs) // n * n].reshape(-1, n)
    return -1.0 if np.mean(-pieces.min(axis=1) > pieces.max(axis=1)) > 0.5 else 1.0


def _pulse_peaks(samples: FloatArray, rate: float, settings: CleaningSettings) -> tuple[FloatArray, IntArray]:
    """Return filtered pulse and its systolic peaks."""
    from scipy.signal import sosfiltfilt

    sections = filter_sections(rate, 0.5, 8.0, order=2)
    cleaned = np.asarray(sosfiltfilt(sections, samples), dtype=np.float64)
    peaks = systolic_peaks(cleaned, rate)
    return cleaned, peaks[_is_high(cleaned, peaks, rate)]


def systolic_peaks(pulse: FloatArray, rate: float) -> IntArray:
    """Return the systolic peaks of a pulse wave that was filtered to 0.5-8 Hz: sorted positions.

    By Elgendi et al. (2013), with the same positions as ``neurokit2.ppg_findpeaks(method="elgendi")``, whose import
    takes seconds: waves are where the squared pulse, averaged over a systole, stands above its mean over a beat; of
    each the local maximum that stands out most is the peak.
    """
    from scipy.signal import find_peaks, peak_prominences

    systole = int(np.rint(_PULSE_SECONDS * rate))
    is_wave = _is_wave(pulse, systole, int(np.rint(_BEAT_SECONDS * rate)))
    starts = np.flatnonzero(~is_wave[:-1] & is_wave[1:])
    stops = np.flatnonzero(is_wave[:-1] & ~is_wave[1:])
    stops = stops[stops > starts[0]] if len(starts) else stops
    pairs = np.stack([starts[: len(stops)], stops[: len(starts)]], axis=1)
    pairs = pairs[pairs[:, 1] - pairs[:, 0] >= systole]
    maxima, plateaus = find_peaks(pulse, plateau_size=1)
    wave = np.searchsorted(pairs[:, 0], maxima, side="right") - 1  # the last that begins before a maximum
    begin, end = pairs[wave].T if len(pairs) else (np.zeros(0), np.zeros(0))
    is_inside = (wave >= 0) & (plateaus["left_edges"] > begin) & (plateaus["right_edges"] < end - 1)
    wave, maxima = wave[is_inside], maxima[is_inside]
    bounds = np.flatnonzero(np.diff(wave, prepend=-1, append=len(pairs)))
    refractory = int(np.rint(_REFRACTORY_SECONDS * rate))
    peaks: list[int] = []
    for low, high in pairwise(bounds.tolist()):
        peak = int(maxima[low])
        if high - low > 1:
            start, stop = pairs[wave[low]]
            inside = maxima[low:high]
            peak = int(inside[np.argmax(peak_prominences(pulse[start:stop], inside - start)[0])])
        if peak - (peaks[-1] if peaks else 0) > refractory:
            peaks.append(peak)
    return np.array(peaks, dtype=np.int64)


def _is_wave(pulse: FloatArray, systole: int, beat: int) -> BoolArray:
    """Return where the squared pulse, averaged over a systole, stands above its mean over a beat."""
    from scipy.ndimage import uniform_filter1d

    square = np.square(np.maximum(pulse, 0.0))
    of_systole, of_beat = (uniform_filter1d(square, size, mode="nearest") for size in (systole, beat))
    of_beat += _OVER_MEAN * square.mean()
    return np.asarray(of_systole > of_beat)


def _highest_near(wave: FloatArray, peaks: IntArray, reach: int) -> IntArray:
    """Return each peak moved to the highest sample within ``reach``."""
    inside = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, len(wave) - 1)
    return np.unique(inside[np.arange(len(peaks)), np.argmax(wave[inside], axis=1)])


def _offsets(peaks: IntArray, rate: float, seconds: tuple[float, float]) -> IntArray:
    """Return the samples around a peak that lie in ``seconds`` before and after, and nearer to it than to the next."""
    typical = float(np.median(np.diff(peaks))) / rate
    before, after = min(seconds[0], 0.45 * typical), min(seconds[1], 0.55 * typical)
    return np.arange(-round(before * rate), round(after * rate) + 1)


def _mean_of_others(waves: FloatArray) -> FloatArray:
    """Return for each row the sum of the 31 rows around it without itself: a lone beat must not be its own proof."""
    total = np.concatenate((np.zeros((1, waves.shape[1])), np.cumsum(waves, axis=0)))
    low, high = _neighbourhood(len(waves))
    return np.asarray((total[high] - total[low] - waves) / (high - low - 1)[:, None], dtype=np.float64)


def _normalised(waves: FloatArray) -> FloatArray:
    """Return the rows with mean 0 and mean square 1."""
    waves = waves - waves.mean(axis=1, keepdims=True)
    norm = np.sqrt((waves**2).mean(axis=1, keepdims=True))
    return np.asarray(waves / np.where(norm > 0, norm, 1.0), dtype=np.float64)


def _shape_correlation(cleaned: FloatArray, peaks: IntArray, rate: float, search: BeatSearch) -> FloatArray:
    """Return each beat's correlation with the mean shape of the 31 beats around it: shape (n,)."""
    at = np.clip(np.add.outer(peaks, _offsets(peaks, rate, search.shape_seconds)), 0, len(cleaned) - 1)
    waves = _normalised(cleaned[at])
    others = _mean_of_others(waves)
    scale = np.sqrt((others**2).mean(axis=1))
    return np.asarray((others * waves).mean(axis=1) / np.where(scale > 0, scale, 1.0), dtype=np.float64)


def _mean_around(values: FloatArray | BoolArray) -> FloatArray:
    """Return the mean of the 31 around each, of booleans the fraction that is true: (n,)."""
    total = np.concatenate(([0], np.cumsum(values)))
    low, high = _neighbourhood(len(values))
    return np.asarray((total[high] - total[low]) / (high - low), dtype=np.float64)


def _neighbourhood(n: int) -> tuple[IntArray, IntArray]:
    """Return the first of the 31 beats around each of ``n``, and the one after the last."""
    index = np.arange(n)
    return np.maximum(index - _NEIGHBOURS // 2, 0), np.minimum(index + _NEIGHBOURS // 2 + 1, n)


def _timed(cleaned: FloatArray, peaks: IntArray, rate: float, search: BeatSearch) -> tuple[FloatArray, FloatArray]:
    """Return positions between samples, and the standard error of each time in seconds: two of shape (n,).

    Each wave is moved to where the mean shape of its neighbours fits best (Gauss-Newton steps on its time, with height
    and level free); the position is that shape's peak.
    """
    from scipy.ndimage import map_coordinates, spline_filter1d

    offsets = _offsets(peaks, rate, search.timing_seconds)
    if len(offsets) < 2 * _PARAMETERS:
        return peaks.astype(np.float64), np.full(len(peaks), np.nan)
    farthest = 0.06 * rate  # less than a third of the refractory time: beats keep their order
    smooth = spline_filter1d(cleaned, order=3, mode="mirror")
    positions = peaks.astype(np.float64)
    for _ in range(_ALIGNMENTS):
        at = positions[:, None] + offsets
        waves = _normalised(map_coordinates(smooth, at[None], order=3, mode="mirror", prefilter=False))
        shape = _mean_of_others(waves)
        fit = _fit(waves, shape)
        positions = np.clip(positions + np.clip(fit.shifts, -farthest, farthest), peaks - farthest, peaks + farthest)
    band = min(search.band_hz[1], rate / 2) - search.band_hz[0]
    errors = fit.timing_errors(rate, band)
    return positions + _peak_shift(shape, -int(offsets[0]), round(farthest)), errors


@dataclass(frozen=True, eq=False)
class _Fit:
    """What a fit of a shape to waves gives: how far each wave lies after it, samples, and what does not fit."""

    shifts: FloatArray
    noise: FloatArray
    information: FloatArray
    n_samples: int

    def timing_errors(self, rate: float, band_hz: float) -> FloatArray:
        """Return the standard error of each time, seconds, for noise that fills a band of that width."""
        n_free = 2.0 * band_hz * self.n_samples / rate  # independent values in so much time of so wide a band
        noise = self.noise * n_free / max(n_free - _PARAMETERS, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.sqrt(noise / (2.0 * band_hz * self.information * rate))
        return np.where(np.isfinite(errors), errors, np.nan)


def _fit(waves: FloatArray, shape: FloatArray) -> _Fit:
    """Return the least-squares fit of height, level and shift of ``shape`` to ``waves``, both (n, n_samples)."""
    shape = shape - shape.mean(axis=1, keepdims=True)
    slope = np.gradient(shape, axis=1)
    slope -= slope.mean(axis=1, keepdims=True)
    size = (shape**2).sum(axis=1)
    size = np.where(size > 0, size, np.inf)
    slope -= ((slope * shape).sum(axis=1) / size)[:, None] * shape  # what is left tells time from height
    gain = (waves * shape).sum(axis=1) / size
    residual = waves - gain[:, None] * shape
    power = (slope**2).sum(axis=1)
    power = np.where(power > 0, power, np.inf)
    along = (residual * slope).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shifts = np.where(gain > 0, -along / (gain * power), 0.0)
    noise = np.maximum((residual**2).sum(axis=1) - along**2 / power, 0.0) / waves.shape[1]
    return _Fit(shifts, noise, gain**2 * power, waves.shape[1])


def _peak_shift(shape: FloatArray, centre: int, reach: int) -> FloatArray:
    """Return how far the peak of each shape lies from its centre, samples, by a parabola: (n,)."""
    low, high = max(centre - reach, 1), min(centre + reach + 1, shape.shape[1] - 1)
    top = low + np.argmax(shape[:, low:high], axis=1)
    row = np.arange(len(shape))
    left, middle, right = shape[row, top - 1], shape[row, top], shape[row, top + 1]
    bend = left - 2 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(len(shape)), where=bend < 0)
    return np.asarray(top - centre + np.clip(shift, -0.5, 0.5), dtype=np.float64)


def _amplitudes(cleaned: FloatArray, peaks: IntArray) -> FloatArray:
    """Return each peak's height above the lowest point since the peak before: (n,), NaN for the first."""
    out = np.full(len(peaks), np.nan)
    if len(peaks) > 1:
        lowest = np.minimum.reduceat(cleaned[: peaks[-1]], peaks[:-1])
        out[1:] = cleaned[peaks[1:]] - lowest
    return out
