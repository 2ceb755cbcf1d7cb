"""Measures of stretches of a cleaned recording: what models read, and what studies publish, in its usual units.

Whatever is not defined in a stretch is NaN: too little of a sensor, too few beats, no response, no alpha peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.measures.columns import EEG_BANDS, PUBLISHED
from biopercept.measures.variability import heart_variability
from biopercept.modalities import MODALITIES
from biopercept.preprocessing.cardiac import Beats
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.eeg import REGIONS, region_of
from biopercept.preprocessing.electrodermal import SkinResponses
from biopercept.preprocessing.features import FEATURE_NAMES, compute_features, window_means
from biopercept.preprocessing.respiration import Breaths
from biopercept.preprocessing.variability import interval_features
from biopercept.preprocessing.windows import coverage, windowed
from biopercept.recording import FloatArray, Signal

_MIN_COVERAGE = 0.5
_PEAK_SEGMENT_SECONDS = 4.0
_MIN_PEAK_SEGMENTS = 5
_PEAK_HZ = (7.0, 13.0)
_BACKGROUND_HZ = (2.0, 40.0)
_PEAK_OVER_CHANCE, _PEAK_OVER_MISFIT = 4.0, 2.0
_OVERLAP_VARIANCE = 1.06  # of the mean of spectra of Hann windows that overlap by half, beside independent ones


@dataclass(frozen=True, eq=False)
class Measures:
    """Values of stretches, (n_stretches, n_names), NaN where undefined; ``onset`` and ``duration`` are in seconds."""

    names: tuple[str, ...]
    onset: FloatArray
    duration: FloatArray
    values: FloatArray


def measure(clean: CleanRecording, onset: FloatArray, duration: FloatArray, *, hrv: bool = False) -> Measures:
    """Return everything that is measured of stretches, in the order given; absent sensors have no columns.

    ``hrv`` adds the full set of heart rate variability, which takes up to a minute for a row.
    """
    names: tuple[str, ...] = ()
    values = np.empty((len(onset), 0))
    for length in np.unique(np.round(duration, 6)):
        rows = np.flatnonzero(np.round(duration, 6) == length)
        columns = dict(_of_length(clean, onset[rows], float(length), hrv=hrv))
        if not names:
            names = tuple(columns)
            values = np.full((len(onset), len(names)), np.nan)
        values[rows] = np.stack(list(columns.values()), axis=1)
    return Measures(names, onset, duration, values)


def _of_length(
    clean: CleanRecording, onset: FloatArray, length: float, *, hrv: bool
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Give name and values of every measure of stretches of one length."""
    yield from _quality(clean, onset, length)
    present = _groups(clean)
    features = compute_features(clean, onset, length)
    for column, name in enumerate(FEATURE_NAMES):
        if name.split("/")[0] in present:
            yield name, features[:, column]
    published = {
        **(_of_beats(clean.beats, onset, length) if len(clean.beats) else {}),
        **(_of_responses(clean.responses, onset, length) if len(clean.responses.searched) else {}),
        **(_of_breaths(clean.breaths, onset, length) if len(clean.breaths) else {}),
    }
    for name in PUBLISHED:
        if name in published:
            yield name, published[name]
    if hrv and len(clean.beats):
        yield from heart_variability(clean.beats, onset, length, published).items()
    yield from _of_brain(clean, onset, length)


def _groups(clean: CleanRecording) -> set[str]:
    """Return the groups of features whose sensors the recording has."""
    group_of = {"ecg": "heart", "bvp": "heart", "ibi": "heart", "hr": "heart", "spo2": "resp", "acc": "motion"}
    return {group_of.get(s.modality, s.modality) for s in clean.recording.signals if not s.derived_from}


def _quality(clean: CleanRecording, onset: FloatArray, length: float) -> Iterator[tuple[str, FloatArray]]:
    """Give the mean quality of each measured modality, and how much of it is left."""
    for modality in MODALITIES:
        rated = [clean.ratings[s.name] for s in clean.recording.signals_of(modality) if s.name in clean.ratings]
        if rated:
            index = [window_means(one.index, onset, length) for one in rated]
            valid = [window_means(one.valid, onset, length) for one in rated]
            yield f"quality_{modality}", np.mean(index, axis=0)
            yield f"coverage_{modality}", np.mean(valid, axis=0)


def _of_beats(beats: Beats, onset: FloatArray, length: float) -> dict[str, FloatArray]:
    mean_nn, sdnn, rmssd, pnn50, low, high, _, covered = interval_features(beats, onset, length).T
    first, last = _between(beats.times, onset, length)
    return {
        "HRV_MeanNN": mean_nn,
        "HRV_SDNN": np.expm1(sdnn),
        "HRV_RMSSD": np.expm1(rmssd),
        "HRV_pNN50": 100.0 * pnn50,
        "HRV_LF": np.expm1(low),
        "HRV_HF": np.expm1(high),
        "HRV_LFHF": np.divide(np.expm1(low), np.expm1(high), out=np.full(len(low), np.nan), where=high > 0),
        "HRV_Beats": (last - first).astype(np.float64),
        "HRV_Coverage": covered,
    }


def _of_responses(responses: SkinResponses, onset: FloatArray, length: float) -> dict[str, FloatArray]:
    first, last = _between(responses.times, onset, length)
    searched = responses.searched_seconds(onset, length)
    is_known = searched >= _MIN_COVERAGE * length
    measures = {
        "SCR_Peaks_N": (last - first).astype(np.float64),
        "SCR_Peaks_Amplitude_Mean": _means(responses.amplitudes, first, last),
        "SCR_RiseTime_Mean": _means(responses.rise_seconds, first, last),
        "SCR_RecoveryTime_Mean": _means(responses.half_recovery_seconds, first, last),
    }
    return {name: np.where(is_known, row, np.nan) for name, row in measures.items()} | {"SCR_Searched": searched}


def _of_breaths(breaths: Breaths, onset: FloatArray, length: float) -> dict[str, FloatArray]:
    first, last = _between(breaths.times, onset, length)
    mean = _means(breaths.periods, first, last)
    n = _sums(np.isfinite(breaths.periods).astype(np.float64), first, last)
    square = _means(np.square(breaths.periods), first, last)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(square - mean**2, 0.0) * n / (n - 1.0))
        is_known = mean * n >= _MIN_COVERAGE * length
    measures = {
        "RSP_Breaths_N": (last - first).astype(np.float64),
        "RSP_Period_Mean": mean,
        "RSP_Period_SD": np.where(n > 1, spread, np.nan),
        "RSP_Amplitude_Mean": _means(breaths.heights, first, last),
    }
    return {name: np.where(is_known, row, np.nan) for name, row in measures.items()}


def _between(times: FloatArray, onset: FloatArray, length: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first event of each stretch and the first after it."""
    return np.searchsorted(times, onset), np.searchsorted(times, onset + length)


def _sums(values: FloatArray, first: NDArray[np.int64], last: NDArray[np.int64]) -> FloatArray:
    total = np.concatenate(([0.0], np.cumsum(np.nan_to_num(values))))
    return np.asarray(total[last] - total[first], dtype=np.float64)


def _means(values: FloatArray, first: NDArray[np.int64], last: NDArray[np.int64]) -> FloatArray:
    """Return the mean of the known values of each stretch; NaN where none is."""
    n = _sums(np.isfinite(values).astype(np.float64), first, last)
    mean = np.divide(_sums(values, first, last), n, out=np.full(len(n), np.nan), where=n > 0)
    return np.asarray(mean, dtype=np.float64)


def _of_brain(clean: CleanRecording, onset: FloatArray, length: float) -> Iterator[tuple[str, FloatArray]]:
    """Give absolute and relative band power by channel and region, then the alpha peak by region."""
    bands = {s.modality.removeprefix("eeg_"): s for s in clean.recording.signals if s.modality.startswith("eeg_")}
    power = {band: _band_powers(bands[band], onset, length) for band in EEG_BANDS if band in bands}
    if not power:
        return
    names = next(iter(bands.values())).channel_names
    places = places_of(names)
    is_whole = len(power) == len(EEG_BANDS)
    for place, rows in places.items():
        of_place = {band: _nan_mean(values[rows]) for band, values in power.items()}
        for band, values in of_place.items():
            yield f"EEG_{place}_{band}_Absolute", values
        for band, values in of_place.items() if is_whole else ():
            yield f"EEG_{place}_{band}_Relative", values / np.sum(list(of_place.values()), axis=0)
    eeg = [s for s in clean.recording.signals if s.modality == "eeg"]
    if len(eeg) == 1:
        peaks = _alpha_peaks(eeg[0], {p: rows for p, rows in places.items() if p not in names}, onset, length)
        yield from ((f"EEG_{place}_AlphaPeak", row) for place, row in peaks.items())


def places_of(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the channels of every place: each channel by itself, then all of them, then regions that have any."""
    places = {name: [row] for row, name in enumerate(names)}
    regions = {region: [row for row, name in enumerate(names) if region_of(name) == region] for region in REGIONS}
    return places | {"global": list(range(len(names)))} | {region: rows for region, rows in regions.items() if rows}


def _band_powers(series: Signal, onset: FloatArray, length: float) -> FloatArray:
    """Return the mean power of every channel in every stretch, uV^2: (n_channels, n_stretches)."""
    out = []
    for row in series.read():
        cut = windowed(row, onset, length)
        with np.errstate(invalid="ignore"):
            power = _nan_mean(np.exp(cut).T)
        out.append(np.where(coverage(cut) >= _MIN_COVERAGE, power, np.nan))
    return np.stack(out)


def _nan_mean(values: FloatArray) -> FloatArray:
    """Return the mean over the first axis of what is known; NaN where nothing is."""
    n = np.isfinite(values).sum(axis=0)
    total = np.where(np.isfinite(values), values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0), dtype=np.float64)


def _alpha_peaks(eeg: Signal, places: dict[str, list[int]], onset: FloatArray, length: float) -> dict[str, FloatArray]:
    """Return the frequency of the alpha peak in every stretch, by place, Hz."""
    from scipy.signal import get_window

    n = round(_PEAK_SEGMENT_SECONDS * eeg.sampling_rate)
    samples, taper = eeg.read(), get_window("hann", n)
    frequency = np.fft.rfftfreq(n, 1.0 / eeg.sampling_rate)
    out = {place: np.full(len(onset), np.nan) for place in places}
    for stretch, start in enumerate(onset):
        first = max(round((start - eeg.start_seconds) * eeg.sampling_rate), 0)
        last = min(round((start + length - eeg.start_seconds) * eeg.sampling_rate), samples.shape[1])
        if last - first < _MIN_PEAK_SEGMENTS * n // 2:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(samples[:, first:last], n, axis=1)[:, :: n // 2]
        spectrum = np.fft.rfft((cut - cut.mean(axis=2, keepdims=True)) * taper)
        power = np.asarray(np.square(np.abs(spectrum)), dtype=np.float64)
        for place, rows in places.items():
            whole = power[rows][np.isfinite(power[rows, :, 1])]
            if len(whole) >= _MIN_PEAK_SEGMENTS:
                chance = float(np.sqrt(_OVERLAP_VARIANCE * len(rows) / len(whole)))  # channels are not independent
                out[place][stretch] = _alpha_peak(np.asarray(frequency, dtype=np.float64), whole.mean(axis=0), chance)
    return out


def _alpha_peak(frequency: FloatArray, power: FloatArray, chance: float) -> float:
    """Return the frequency of the highest local maximum in 7-13 Hz over the line of log power on log frequency.

    The line is fitted to 2-40 Hz without the alpha band. A peak must stand above it by four times ``chance``, the
    standard error of log power (Welch 1967, doi:10.1109/TAU.1967.1161901), and by twice what the rest of the spectrum
    lies off the line (1.4826 of the median distance, as beta makes it). NaN where none does.
    """
    is_used = (frequency >= _BACKGROUND_HZ[0]) & (frequency <= _BACKGROUND_HZ[1])
    is_alpha = (frequency >= _PEAK_HZ[0]) & (frequency <= _PEAK_HZ[1])
    x, y = np.log(np.where(frequency > 0, frequency, 1.0)), np.log(np.maximum(power, np.finfo(float).tiny))
    line = np.polynomial.Polynomial.fit(x[is_used & ~is_alpha], y[is_used & ~is_alpha], 1)
    above = y - line(x)
    misfit = 1.4826 * np.median(np.abs(above[is_used & ~is_alpha]))
    is_inside = (frequency > _PEAK_HZ[0]) & (frequency < _PEAK_HZ[1])
    inner = np.flatnonzero(is_inside[1:-1] & (above[1:-1] > above[:-2]) & (above[1:-1] >= above[2:])) + 1
    if len(inner) == 0:
        return np.nan
    best = inner[np.argmax(above[inner])]
    if above[best] <= max(_PEAK_OVER_CHANCE * chance, _PEAK_OVER_MISFIT * misfit):
        return np.nan
    bend = above[best - 1] - 2.0 * above[best] + above[best + 1]
    shift = 0.5 * (above[best - 1] - above[best + 1]) / bend if bend else 0.0
    return float(frequency[best] + shift * (frequency[1] - frequency[0]))
