"""Heart: beats from ECG, blood volume pulse or a device's own intervals, the heart rate, and heart-rate variability.

neurokit2 is called on gap-free segments only, on signals that have passed the screening, and
what it returns is believed only where beats look alike and follow each other as a heart's do.

References
----------
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2; its R-peak detector);
Elgendi et al. (2013), doi:10.1371/journal.pone.0076585 (pulse peaks); Lipponen & Tarvainen (2019),
doi:10.1080/03091902.2019.1640306 (correction of R-peaks). We differ in that corrected beats and
intervals are dropped where the local rhythm does not bear them out.
Task Force of the ESC and NASPE (1996), doi:10.1161/01.CIR.93.5.1043 (variability). We differ in giving the
frequency measures from 60 s on (the Task Force asks for two minutes): short windows are what is
classified, and they are compared with other windows of the same length only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.preprocessing.gaps import BoolArray, bridged, segments
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

MIN_ECG_RATE = 80.0
"""Sampling rate below which R-peaks are not looked for, Hz."""

MIN_BVP_RATE = 16.0
"""Sampling rate below which pulse peaks are not looked for, Hz."""

IntArray = NDArray[np.int64]

_MIN_BEATS = 4
_NEIGHBOURS = 31  # beats in the mean shape that a beat is compared with
_PeakFinder = Callable[[FloatArray, float, CleaningSettings], tuple[FloatArray, IntArray]]
SHORTEST_INTERVAL, LONGEST_INTERVAL = MODALITIES["ibi"].plausible
_MEDIAN_BEATS = 11
_COVERAGE_SECONDS = 20.0
_MEAN_DIFFERENCE_SECONDS = 10.0
NAMES = ("mean_nn", "log_sdnn", "log_rmssd", "pnn50", "log_lf", "log_hf", "log_lf_hf", "coverage")
"""Columns of :func:`interval_features`, in order; intervals in ms, powers in ms^2."""

_MIN_INTERVALS = 10
_MIN_SPECTRUM_SECONDS = 60.0
_MIN_SPECTRUM_COVERAGE = 0.8
_SPECTRUM_RATE = 4.0
_LF_HZ, _HF_HZ = (0.04, 0.15), (0.15, 0.40)


def ecg_beats(raw: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened ECG channel, and notes.

    ``raw`` are its screened samples at the signal's own rate, (n_samples,) in mV, NaN where masked.
    """
    if signal.sampling_rate < MIN_ECG_RATE:
        return no_beats(signal.name), (_too_slow(signal, MIN_ECG_RATE),)
    return _beats(raw, signal, settings, _PeakSearch(_r_peaks, 0.12, 0.2, smallest=settings.ecg_min_mv))


def bvp_beats(raw: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened pulse channel with their amplitudes, and notes.

    Parameters as in :func:`ecg_beats`, in the device's own unit.
    """
    if signal.sampling_rate < MIN_BVP_RATE:
        return no_beats(signal.name), (_too_slow(signal, MIN_BVP_RATE),)
    return _beats(raw, signal, settings, _PeakSearch(_pulse_peaks, 0.3, 0.4))


def device_beats(signal: Signal, intervals: FloatArray, settings: CleaningSettings) -> Beats:
    """Return the beats that a device reported as inter-beat intervals.

    The signal's times are the ends of the intervals; ``intervals`` are in seconds, NaN where not plausible.
    """
    times = signal.sample_times()
    order = np.argsort(times, kind="stable")
    at, values = times[order], intervals[order]
    is_new = np.concatenate(([True], np.diff(at) > 0)) if len(at) else np.zeros(0, dtype=bool)
    at, values = at[is_new], values[is_new]
    kept = accepted_intervals(at, values, settings, needs_coverage=False)
    return Beats(at, kept, np.full(len(at), np.nan), signal.name)


def checked_against_device(
    beats: Beats, device_rate: FloatArray, times: FloatArray, settings: CleaningSettings
) -> Beats:
    """Return the beats without the intervals that contradict the device's own heart rate.

    Where the device gives no rate nothing is dropped.
    """
    is_known = np.isfinite(device_rate)
    if len(beats) == 0 or not is_known.any():
        return beats
    expected = np.interp(beats.times, times[is_known], device_rate[is_known])
    nearest = np.clip(np.round((beats.times - times[0]) * DERIVED_RATE).astype(int), 0, len(times) - 1)
    with np.errstate(invalid="ignore"):
        contradicts = np.abs(60.0 / beats.intervals - expected) > settings.pulse_agreement * expected
    kept = np.where(contradicts & is_known[nearest], np.nan, beats.intervals)
    return Beats(beats.times, kept, beats.amplitudes, beats.source)


def _too_slow(signal: Signal, needed: float) -> str:
    return (
        f"{signal.name}: no beats were looked for, because it is sampled at {signal.sampling_rate:g} Hz "
        f"and at least {needed:g} Hz is needed."
    )


@dataclass(frozen=True)
class _PeakSearch:
    """How the beats of a modality are detected, the seconds around a peak that make its shape, and the least spread."""

    find: _PeakFinder
    before_seconds: float
    after_seconds: float
    smallest: float = 0.0


def _beats(
    raw: FloatArray, signal: Signal, settings: CleaningSettings, search: _PeakSearch
) -> tuple[Beats, tuple[str, ...]]:
    """Find, check and time the beats of every segment of one channel."""
    rate = signal.sampling_rate
    parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    notes: list[str] = []
    for start, stop in segments(raw, int(settings.bridge_seconds * rate), int(settings.heart_min_seconds * rate)):
        beats = _beats_of_segment(raw[start:stop], rate, settings, search)
        if isinstance(beats, str):
            notes.append(f"{signal.name}: no beats used in {start / rate:.0f}-{stop / rate:.0f} s, {beats}.")
            continue
        peaks, amplitudes = beats
        times = signal.start_seconds + (start + peaks) / rate
        intervals = np.concatenate(([np.nan], np.diff(times)))
        parts.append((times, accepted_intervals(times, intervals, settings), amplitudes))
    if not parts:
        return no_beats(signal.name), tuple(notes)
    times, intervals, amplitudes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Beats(times, intervals, amplitudes, signal.name), tuple(notes)


def _beats_of_segment(
    raw: FloatArray, rate: float, settings: CleaningSettings, search: _PeakSearch
) -> tuple[FloatArray, FloatArray] | str:
    """Return peak positions (fractional samples) and amplitudes of a segment, or why there are none."""
    segment = bridged(raw)
    if np.ptp(segment) == 0:
        return "the signal is flat"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cleaned, peaks = search.find(segment, rate, settings)
        except (ValueError, IndexError, ZeroDivisionError, TypeError, np.linalg.LinAlgError) as error:
            return f"the detector could not work on it ({type(error).__name__})"
    if np.std(cleaned) < search.smallest:
        return f"what is left after filtering is too small ({np.std(cleaned):.2g})"
    if np.std(cleaned) < settings.in_band_share * np.std(segment):
        return "almost nothing is left after filtering"
    peaks = peaks[np.isfinite(raw[np.clip(peaks, 0, len(raw) - 1)])]
    if len(peaks) < _MIN_BEATS:
        return f"only {len(peaks)} peaks were found"
    shape = (round(search.before_seconds * rate), round(search.after_seconds * rate))
    is_alike = _shape_correlation(cleaned, peaks, *shape) >= settings.heart_min_correlation
    if is_alike.mean() < settings.heart_min_coverage:
        return "the peaks do not look alike"
    peaks = peaks[is_alike]
    return _refined(cleaned, peaks), _amplitudes(cleaned, peaks)


def _r_peaks(raw: FloatArray, rate: float, settings: CleaningSettings) -> tuple[FloatArray, IntArray]:
    import neurokit2 as nk

    cleaned = nk.ecg_clean(raw, sampling_rate=rate, method="neurokit", powerline=settings.powerline_hz or 50)
    _, info = nk.ecg_peaks(cleaned, sampling_rate=rate, method="neurokit", correct_artifacts=True)
    return np.asarray(cleaned, dtype=np.float64), _tidy(info["ECG_R_Peaks"], len(raw))


def _pulse_peaks(raw: FloatArray, rate: float, settings: CleaningSettings) -> tuple[FloatArray, IntArray]:
    import neurokit2 as nk

    cleaned = nk.ppg_clean(raw, sampling_rate=rate, method="elgendi")
    info = nk.ppg_findpeaks(cleaned, sampling_rate=rate, method="elgendi")
    return np.asarray(cleaned, dtype=np.float64), _tidy(info["PPG_Peaks"], len(raw))


def _tidy(peaks: FloatArray, n_samples: int) -> IntArray:
    """Return peaks as sorted distinct positions inside the segment."""
    given = np.asarray(peaks, dtype=np.float64)
    positions = np.unique(given[np.isfinite(given)].astype(np.int64))
    return positions[(positions >= 0) & (positions < n_samples)]


def _shape_correlation(cleaned: FloatArray, peaks: IntArray, before: int, after: int) -> FloatArray:
    """Return each beat's correlation with the mean shape of the 31 beats around it: shape (n,)."""
    padded = np.pad(cleaned, (before, after), mode="edge")
    beats = padded[peaks[:, None] + np.arange(before + after + 1)]
    beats = beats - beats.mean(axis=1, keepdims=True)
    norm = np.sqrt((beats**2).mean(axis=1, keepdims=True))
    beats = beats / np.where(norm > 0, norm, 1.0)
    total = np.concatenate((np.zeros((1, beats.shape[1])), np.cumsum(beats, axis=0)))
    index = np.arange(len(beats))
    low = np.clip(index - _NEIGHBOURS // 2, 0, len(beats))
    high = np.clip(index + _NEIGHBOURS // 2 + 1, 0, len(beats))
    others = total[high] - total[low] - beats  # without itself: a lone beat must not be its own proof
    scale = np.sqrt((others**2).mean(axis=1))
    return np.asarray((others * beats).mean(axis=1) / np.where(scale > 0, scale, 1.0), dtype=np.float64)


def _refined(cleaned: FloatArray, peaks: IntArray) -> FloatArray:
    """Return peak positions between samples, by a parabola through the three samples around each."""
    inner = np.clip(peaks, 1, len(cleaned) - 2)
    left, middle, right = cleaned[inner - 1], cleaned[inner], cleaned[inner + 1]
    bend = left - 2 * middle + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros(len(peaks)), where=np.abs(bend) > 0)
    return np.asarray(peaks + np.clip(shift, -0.5, 0.5) * (peaks == inner), dtype=np.float64)


def _amplitudes(cleaned: FloatArray, peaks: IntArray) -> FloatArray:
    """Return each peak's height above the lowest point since the peak before (at most 2.4 s): shape (n,)."""
    out = np.full(len(peaks), np.nan)
    if len(peaks) > 1:
        lowest = np.minimum.reduceat(cleaned[: peaks[-1]], peaks[:-1])
        out[1:] = cleaned[peaks[1:]] - lowest
    return out


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
    """Return the fraction of the 20 s around each interval's middle that accepted intervals cover.

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


def interval_features(beats: Beats, onsets: FloatArray, length_seconds: float) -> FloatArray:
    """Return :data:`NAMES` for every window: (n_windows, 8), NaN where too few intervals were accepted."""
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
    fraction = min(float(intervals[is_used].sum()) / 1000.0 / length, 1.0)
    out[-1] = fraction
    if is_used.sum() < _MIN_INTERVALS:
        return out
    nn = intervals[is_used]
    out[0], out[1] = nn.mean(), np.log(nn.std() + 1.0)
    steps = differences[np.isfinite(differences)]
    if len(steps) >= _MIN_INTERVALS:
        out[2] = np.log(np.sqrt(np.mean(np.square(steps))) + 1.0)
        out[3] = np.mean(np.abs(steps) > 50.0)
    if length >= _MIN_SPECTRUM_SECONDS and fraction >= _MIN_SPECTRUM_COVERAGE:
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
