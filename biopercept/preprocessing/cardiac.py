"""Heart: beats from ECG, blood volume pulse or a device's own intervals, and the rate they give.

neurokit2 is called on gap-free stretches only, on signals that have passed the screening, and
what it returns is believed only where beats look alike and follow each other as a heart's do.

References
----------
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2; its R-peak detector);
Elgendi et al. (2013), doi:10.1371/journal.pone.0076585 (pulse peaks); Lipponen & Tarvainen (2019),
doi:10.1080/03091902.2019.1640306 (correction of R-peaks). We differ in that corrected beats and
intervals are dropped where the local rhythm does not bear them out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import DERIVED_RATE
from biopercept.preprocessing.beats import Beats, accepted_intervals, no_beats
from biopercept.preprocessing.gaps import bridged, stretches
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


def ecg_beats(raw: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened ECG channel, and notes.

    Parameters
    ----------
    raw : array, shape (n_samples,)
        Screened samples at the signal's own rate, mV, NaN where masked.
    signal : Signal
        Gives rate, start and name.
    settings : CleaningSettings
    """
    if signal.sampling_rate < MIN_ECG_RATE:
        return no_beats(signal.name), (_too_slow(signal, MIN_ECG_RATE),)
    return _beats(raw, signal, settings, _r_peaks, before_seconds=0.12, after_seconds=0.2, smallest=settings.ecg_min_mv)


def bvp_beats(raw: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened pulse channel with their amplitudes, and notes.

    Parameters as in :func:`ecg_beats`, in the device's own unit.
    """
    if signal.sampling_rate < MIN_BVP_RATE:
        return no_beats(signal.name), (_too_slow(signal, MIN_BVP_RATE),)
    return _beats(raw, signal, settings, _pulse_peaks, before_seconds=0.3, after_seconds=0.4)


def device_beats(signal: Signal, intervals: FloatArray, settings: CleaningSettings) -> Beats:
    """Return the beats that a device reported as inter-beat intervals.

    Parameters
    ----------
    signal : Signal
        Irregular; ``times`` are the ends of the intervals.
    intervals : array, shape (n,)
        Seconds, NaN where not plausible.
    settings : CleaningSettings
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


def _beats(
    raw: FloatArray,
    signal: Signal,
    settings: CleaningSettings,
    find: _PeakFinder,
    *,
    before_seconds: float,
    after_seconds: float,
    smallest: float = 0.0,
) -> tuple[Beats, tuple[str, ...]]:
    """Find, check and time the beats of every stretch of one channel."""
    rate = signal.sampling_rate
    parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    notes: list[str] = []
    for start, stop in stretches(raw, int(settings.bridge_seconds * rate), int(settings.heart_min_seconds * rate)):
        shape = (round(before_seconds * rate), round(after_seconds * rate))
        found = _beats_of_stretch(raw[start:stop], rate, settings, find, shape, smallest)
        if isinstance(found, str):
            notes.append(f"{signal.name}: no beats used in {start / rate:.0f}-{stop / rate:.0f} s, {found}.")
            continue
        peaks, amplitudes = found
        times = signal.start_seconds + (start + peaks) / rate
        intervals = np.concatenate(([np.nan], np.diff(times)))
        parts.append((times, accepted_intervals(times, intervals, settings), amplitudes))
    if not parts:
        return no_beats(signal.name), tuple(notes)
    times, intervals, amplitudes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Beats(times, intervals, amplitudes, signal.name), tuple(notes)


def _beats_of_stretch(
    raw: FloatArray,
    rate: float,
    settings: CleaningSettings,
    find: _PeakFinder,
    shape: tuple[int, int],
    smallest: float,
) -> tuple[FloatArray, FloatArray] | str:
    """Return peak positions (fractional samples) and amplitudes of a stretch, or why there are none."""
    whole = bridged(raw)
    if np.ptp(whole) == 0:
        return "the signal is flat"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cleaned, peaks = find(whole, rate, settings)
        except (ValueError, IndexError, ZeroDivisionError, TypeError, np.linalg.LinAlgError) as error:
            return f"the detector could not work on it ({type(error).__name__})"
    if np.std(cleaned) < smallest:
        return f"what is left after filtering is too small ({np.std(cleaned):.2g})"
    if np.std(cleaned) < settings.in_band_share * np.std(whole):
        return "almost nothing is left after filtering"
    peaks = peaks[np.isfinite(raw[np.clip(peaks, 0, len(raw) - 1)])]
    if len(peaks) < _MIN_BEATS:
        return f"only {len(peaks)} peaks were found"
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
    """Return peaks as sorted distinct positions inside the stretch."""
    given = np.asarray(peaks, dtype=np.float64)
    whole = np.unique(given[np.isfinite(given)].astype(np.int64))
    return whole[(whole >= 0) & (whole < n_samples)]


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
