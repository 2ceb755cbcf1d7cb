"""Shapes of a recording, to judge it by eye: kinds of beats, Poincare plot, spectra, mean beats, aligned responses.

Everything is of a cleaned recording and in the units of its signals; nothing is computed again that the tables hold.

References
----------
Brennan, Palaniswami and Kamen (2001), doi:10.1109/10.959330 (SD1 and SD2 of a Poincare plot); Task Force of the ESC and
NASPE (1996), doi:10.1161/01.CIR.93.5.1043 (spectra of stretches of five minutes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.measures.variability import plane_spread
from biopercept.preprocessing.cardiac import LONGEST_INTERVAL, Beats
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.eeg import REGIONS, region_of
from biopercept.preprocessing.electrodermal import SkinResponses
from biopercept.preprocessing.gaps import BoolArray, mean_of_known
from biopercept.preprocessing.variability import SPECTRUM_RATE, even_intervals, interval_features
from biopercept.recording import FloatArray, Signal

ACCEPTED, REJECTED, FIRST = "accepted", "rejected", "first"
BEAT_KINDS = {
    ACCEPTED: "interval accepted",
    REJECTED: "interval not accepted",
    FIRST: f"no interval (first, or over {LONGEST_INTERVAL:g} s after the last)",
}
"""Kinds of beats, by the interval that ends with each."""

SPECTRUM_SECONDS = 300.0
"""Length of the stretches whose spectra of intervals are averaged, seconds."""

BEAT_SECONDS = {"ecg": (-0.3, 0.5), "bvp": (-0.4, 0.8)}
"""Time around a beat that its shape is drawn in, seconds, by sensor."""

RESPONSE_SECONDS = (-2.0, 12.0)
"""Time around the onset of a skin response that it is drawn in, seconds."""

_SHORTEST_SPECTRUM_SECONDS = 60.0
_EEG_SECONDS = 4.0
_MOST_WAVES = 5000


def beat_kinds(beats: Beats) -> NDArray[np.str_]:
    """Return the kind of every beat, a key of :data:`BEAT_KINDS`: (n,)."""
    since = intervals_before(beats)
    kinds = np.where(np.isfinite(beats.intervals), ACCEPTED, np.where(np.isfinite(since), REJECTED, FIRST))
    return np.asarray(kinds, dtype=np.str_)


def intervals_before(beats: Beats) -> FloatArray:
    """Return the time since the beat before, accepted or not, seconds; NaN of a first one or after a gap: (n,)."""
    since = np.concatenate(([np.nan], np.diff(beats.times)))[: len(beats)]
    since = np.where(since <= LONGEST_INTERVAL, since, np.nan)
    return np.where(np.isfinite(beats.intervals), beats.intervals, since)


@dataclass(frozen=True, eq=False)
class Poincare:
    """Each accepted interval over the one before, ms; SD1 across and SD2 along the line of equal ones (n - 1), ms."""

    before: FloatArray
    after: FloatArray
    sd1: float
    sd2: float


def poincare(beats: Beats) -> Poincare:
    """Return the Poincare plot of the intervals that follow each other; SD1 and SD2 are NaN with fewer than two."""
    steps = 1000.0 * beats.successive_differences
    is_pair = np.isfinite(steps)
    after = 1000.0 * beats.intervals[is_pair]
    return Poincare(after - steps[is_pair], after, *plane_spread(after, steps[is_pair]))


@dataclass(frozen=True, eq=False)
class IntervalSpectrum:
    """Mean spectrum of the intervals, ms^2/Hz, and powers, ms^2: NaN where the beats' times are too inexact for one."""

    frequency: FloatArray
    density: FloatArray
    low: float
    high: float
    n_stretches: int
    stretch_seconds: float


def interval_spectrum(beats: Beats, duration_seconds: float) -> IntervalSpectrum | None:
    """Return the mean over stretches of five minutes, half of each shared with the next; of all where it is shorter.

    A stretch counts in which the power of the intervals is known (:func:`interval_features`); None where there is none.
    """
    from scipy.signal import periodogram

    length = min(SPECTRUM_SECONDS, duration_seconds)
    if length < _SHORTEST_SPECTRUM_SECONDS or len(beats) == 0:
        return None
    starts = np.arange(0.0, duration_seconds - length + 1e-6, length / 2.0)
    of_stretch = interval_features(beats, starts, length)
    low, high = (np.expm1(of_stretch[:, column]) for column in (4, 5))
    is_used = np.isfinite(low)
    n, densities, frequency = round(length * SPECTRUM_RATE), [], np.empty(0)
    for start in starts[is_used]:
        inside = (beats.times >= start) & (beats.times < start + length) & np.isfinite(beats.intervals)
        even = even_intervals(beats.times[inside], 1000.0 * beats.intervals[inside])
        frequency, density = periodogram(even, fs=SPECTRUM_RATE, window="hann", detrend="linear", nfft=n)
        densities.append(density)
    if not densities:
        return None
    mean_high = float(high[is_used & np.isfinite(high)].mean()) if np.isfinite(high[is_used]).any() else np.nan
    mean = np.asarray(np.mean(densities, axis=0), dtype=np.float64)
    return IntervalSpectrum(frequency, mean, float(low[is_used].mean()), mean_high, len(densities), length)


@dataclass(frozen=True, eq=False)
class Waves:
    """Pieces of a signal around events: seconds from the event (n_times,), and values (n_events, n_times)."""

    seconds: FloatArray
    values: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Return the mean of the known values at each time; NaN where there is none: (n_times,)."""
        return mean_of_known(self.values, axis=0)


def waves_around(times: FloatArray, signal: Signal, channel: int, seconds: tuple[float, float]) -> Waves:
    """Return a regular signal around every event, between samples by straight lines, NaN where masked or not recorded.

    Of more than 5000 events so many are taken, evenly.
    """
    if len(times) > _MOST_WAVES:
        times = times[np.linspace(0, len(times) - 1, _MOST_WAVES).round().astype(np.int64)]
    rate = signal.sampling_rate
    offsets = np.arange(np.ceil(seconds[0] * rate), np.floor(seconds[1] * rate) + 1)
    row = signal.read()[channel]
    at = (times[:, None] - signal.start_seconds) * rate + offsets
    inside = (at >= 0) & (at <= len(row) - 1)
    before = np.clip(np.floor(at), 0, max(len(row) - 2, 0)).astype(np.int64)
    part = at - before
    values = (1.0 - part) * row[before] + part * row[np.minimum(before + 1, len(row) - 1)]
    return Waves(offsets / rate, np.where(inside, values, np.nan))


def beat_waves(clean: CleanRecording, is_chosen: BoolArray) -> Waves | None:
    """Return the cleaned wave around some of the beats; None where they come from no wave."""
    signal = heart_wave(clean)
    if signal is None:
        return None
    channel = clean.used_channel.get(signal.name, 0)
    return waves_around(clean.beats.times[is_chosen], signal, channel, BEAT_SECONDS[signal.modality])


def heart_wave(clean: CleanRecording) -> Signal | None:
    """Return the cleaned signal that the beats were found in; None where there are none, or a device reported them."""
    waves = [s for s in clean.recording.signals if s.name == clean.beats.source and s.modality in BEAT_SECONDS]
    return waves[0] if waves and len(clean.beats) else None


def likeness(waves: Waves) -> FloatArray:
    """Return the correlation of every wave with the mean of all; 0 where it is not wholly known: (n_events,)."""
    shape = waves.mean - np.nanmean(waves.mean) if np.isfinite(waves.mean).any() else waves.mean
    rows = waves.values - waves.values.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = rows @ shape / np.sqrt((rows**2).sum(axis=1) * float(shape @ shape))
    return np.asarray(np.nan_to_num(alike), dtype=np.float64)


def response_waves(responses: SkinResponses, skin: Signal, channel: int) -> Waves:
    """Return cleaned skin conductance around the onset of every response, less the value at the onset."""
    waves = waves_around(responses.onsets, skin, channel, RESPONSE_SECONDS)
    at_onset = waves_around(responses.onsets, skin, channel, (0.0, 0.0)).values
    return Waves(waves.seconds, waves.values - at_onset)


def eeg_spectra(eeg: Signal) -> tuple[FloatArray, dict[str, FloatArray], int]:
    """Return frequencies, the mean density of every region, uV^2/Hz, and how many stretches of 4 s it was taken from.

    Welch's method with Hann windows, half of each shared with the next; a stretch of a channel with a masked sample is
    left out. A region without a channel, or without a whole stretch, has no density; channels that lie in no region are
    "other".
    """
    from scipy.signal import get_window

    n = round(_EEG_SECONDS * eeg.sampling_rate)
    taper = get_window("hann", n)
    frequency = np.fft.rfftfreq(n, 1.0 / eeg.sampling_rate)
    by_region: dict[str, list[FloatArray]] = {region: [] for region in (*REGIONS, "other")}
    most = 0
    for name, row in zip(eeg.channel_names, eeg.read(), strict=True):
        if len(row) < n:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(row, n)[:: max(n // 2, 1)]
        cut = cut[np.isfinite(cut).all(axis=1)]
        if len(cut) == 0:
            continue
        power = np.square(np.abs(np.fft.rfft((cut - cut.mean(axis=1, keepdims=True)) * taper, axis=1))).mean(axis=0)
        density = np.asarray(2.0 * power / (eeg.sampling_rate * np.square(taper).sum()), dtype=np.float64)
        by_region[region_of(name) or "other"].append(density)
        most = max(most, len(cut))
    means = {region: np.mean(rows, axis=0) for region, rows in by_region.items() if rows}
    return np.asarray(frequency, dtype=np.float64), means, most
