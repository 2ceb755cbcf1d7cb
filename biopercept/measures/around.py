"""What follows an event: heart rate, skin response, breathing and EEG power, each beside what was before it.

A stretch reaches from ``before_seconds`` ahead of an event's onset to ``after_seconds`` behind it, and is read every
quarter of a second from the onset on. Names and conventions are those of neurokit2's event-related functions: the
baseline of a rate is its value at the onset, and its highest, lowest and mean value count from that. We differ in that
times are exact (neurokit2 stretches them, up to one sample at the end), in the latency of a skin response (its onset,
1 to 5 s after the event), and in what is missing: everything of a stretch that leaves the recording or of which a fifth
is masked.

References
----------
Makowski et al. (2021), doi:10.3758/s13428-020-01516-y (neurokit2); Boucsein et al. (2012),
doi:10.1111/j.1469-8986.2012.01384.x (latency of a skin response); Pfurtscheller & Lopes da Silva (1999),
doi:10.1016/S1388-2457(99)00141-8 (power against its baseline: below zero is desynchronisation). We differ in the unit:
dB, because a fall to half and a rise to twice are of one size then, and means over events are not led by the rises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, listed
from biopercept.measures.columns import EEG_BANDS
from biopercept.measures.stretches import Measures, places_of
from biopercept.modalities import DERIVED_RATE
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.electrodermal import SkinResponses
from biopercept.preprocessing.gaps import mean_of_known, on_grid
from biopercept.recording import FloatArray, Interval, Signal
from biopercept.typed_values import did_you_mean

HEART_RATE, SKIN = "heart_rate", "skin_conductance"
COURSE_UNITS = {HEART_RATE: "1/min", SKIN: "uS"}
"""Series of which a course over time is given, with their units."""

_RATES = {"ECG_Rate": "heart_rate", "RSP_Rate": "resp_rate"}
_LATENCY_SECONDS = (1.0, 5.0)
_MIN_COVERAGE = 0.8
_SMEARED_SECONDS = 0.5  # band power is the mean of the second around: nearer to the onset it knows both sides
_LONGEST_SECONDS = 3600.0
_MOST_NAMED = 12
_EDGE = 1e-6


@dataclass(frozen=True)
class Around:
    """Events by label, and how much of the time before and after them is looked at, seconds."""

    labels: tuple[str, ...]
    before_seconds: float = 2.0
    after_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Refuse times that are no stretch."""
        for name, value in (("--before", self.before_seconds), ("--after", self.after_seconds)):
            if not (math.isfinite(value) and 1.0 <= value <= _LONGEST_SECONDS):
                raise SettingsError(
                    f"{name} is {value:g}; it must be a number of seconds from 1 to {_LONGEST_SECONDS:g}"
                )

    @staticmethod
    def of(labels: Iterable[str], before: float | None = None, after: float | None = None) -> Around:
        """Return events by label, each once, with times that are the usual ones where they are None."""
        times = {"before_seconds": before, "after_seconds": after}
        return Around(tuple(dict.fromkeys(labels)), **{name: t for name, t in times.items() if t is not None})

    @property
    def offsets(self) -> FloatArray:
        """Return when a stretch is read, seconds from the onset: every 0.25 s, the end left out."""
        first = -math.floor(self.before_seconds * DERIVED_RATE + _EDGE)
        return np.arange(first, math.ceil(self.after_seconds * DERIVED_RATE - _EDGE)) / DERIVED_RATE

    def events_in(self, intervals: Iterable[Interval]) -> tuple[Interval, ...]:
        """Return the intervals of these labels in time order, those without a duration too."""
        return tuple(sorted((i for i in intervals if i.label in self.labels), key=lambda one: one.onset_seconds))

    def refuse_unknown(self, labels: Iterable[str]) -> None:
        """Raise SettingsError where one of the labels is not among those there are."""
        known = sorted(set(labels))
        for label in self.labels:
            if label not in known:
                there = f"there are: {listed(known, _MOST_NAMED)}" if known else "there are no events at all"
                raise SettingsError(f"no event is labelled {label!r}; {there}{did_you_mean(label, known)}")


@dataclass(frozen=True, eq=False)
class Courses:
    """Series around each event, less their mean before it: (n_events, n_offsets), NaN where unknown."""

    offsets: FloatArray
    series: dict[str, FloatArray]


def measure_around(clean: CleanRecording, events: tuple[Interval, ...], around: Around) -> Measures:
    """Return a row per event: rates, skin response and band power, each with its coverage; absent sensors none."""
    onset = np.array([event.onset_seconds for event in events])
    duration = np.array([event.duration_seconds for event in events])
    is_inside = _is_inside(clean, onset, around)
    columns: dict[str, NDArray[np.floating]] = {"Other_Events": _n_others(onset, around)}
    for name, series in _rates(clean).items():
        columns |= _of_rate(name, _locked(series, onset, around.offsets)[0], around.offsets, is_inside)
    if len(clean.responses.searched):
        columns |= _of_skin(clean.responses, onset, is_inside)
    columns |= _of_brain(clean, onset, around, is_inside)
    return Measures(tuple(columns), onset, duration, np.stack(list(columns.values()), axis=1))


def courses_around(clean: CleanRecording, events: tuple[Interval, ...], around: Around) -> Courses:
    """Return the course of heart rate and skin conductance around each event.

    A course that leaves the recording, or of which a fifth is masked, is missing as a whole: else a mean over events
    would be of other events from one time to the next.
    """
    onset = np.array([event.onset_seconds for event in events])
    is_inside = _is_inside(clean, onset, around)
    out = {}
    for name, rows in _course_series(clean, onset, around.offsets):
        before = rows[:, around.offsets < 0]
        is_known = is_inside & (_share(rows) >= _MIN_COVERAGE) & (_share(before) >= _MIN_COVERAGE)
        change = np.full(rows.shape, np.nan)
        change[is_known] = rows[is_known] - np.nanmean(before[is_known], axis=1, keepdims=True)
        out[name] = change
    return Courses(around.offsets, out)


def notes_around(clean: CleanRecording, events: tuple[Interval, ...], around: Around) -> tuple[str, ...]:
    """Return notes on stretches that leave the recording, and on those that hold another of the events."""
    onset = np.array([event.onset_seconds for event in events])
    n_outside, n_close = int((~_is_inside(clean, onset, around)).sum()), int((_n_others(onset, around) > 0).sum())
    stretch = f"{around.before_seconds:g} s before to {around.after_seconds:g} s after"
    notes = []
    if n_outside:
        notes.append(f"{n_outside} of {len(events)} events have no values: {stretch} them leaves the recording.")
    if n_close:
        notes.append(
            f"{n_close} of {len(events)} events have another one {stretch} them, so that what follows one may be of "
            "the other; column Other_Events counts them."
        )
    return tuple(notes)


def _is_inside(clean: CleanRecording, onset: FloatArray, around: Around) -> NDArray[np.bool_]:
    end = clean.recording.duration_seconds
    return (onset - around.before_seconds >= -_EDGE) & (onset + around.after_seconds <= end + _EDGE)


def _n_others(onset: FloatArray, around: Around) -> FloatArray:
    first = np.searchsorted(onset, onset - around.before_seconds - _EDGE)
    last = np.searchsorted(onset, onset + around.after_seconds)
    return np.asarray(last - first - 1, dtype=np.float64)


def _rates(clean: CleanRecording) -> dict[str, Signal]:
    derived = {s.modality: s for s in clean.recording.signals if s.derived_from}
    return {name: derived[modality] for name, modality in _RATES.items() if modality in derived}


def _locked(signal: Signal, onset: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return every channel of a regular signal around events, linear between samples: (n_channels, n_events, n)."""
    times = onset[:, None] + offsets
    read = on_grid(signal.read(), signal.sampling_rate, signal.start_seconds, times.ravel())
    return read.reshape(len(read), *times.shape)


def _share(rows: FloatArray) -> FloatArray:
    return np.asarray(np.isfinite(rows).mean(axis=-1), dtype=np.float64)


def _of_rate(
    name: str, rows: FloatArray, offsets: FloatArray, is_inside: NDArray[np.bool_]
) -> dict[str, NDArray[np.floating]]:
    """Return the baseline of a rate, and its changes from it after the event."""
    zero = int(np.flatnonzero(offsets == 0.0)[0])
    baseline, after, times = rows[:, zero], rows[:, zero + 1 :], offsets[zero + 1 :]
    covered = _share(rows)
    is_known = is_inside & np.isfinite(baseline) & (covered >= _MIN_COVERAGE) & np.isfinite(after).any(axis=1)
    out = {key: np.full(len(rows), np.nan) for key in ("Baseline", "Max", "Min", "Mean", "SD", "Max_Time", "Min_Time")}
    if is_known.any():
        known, base = after[is_known], baseline[is_known]
        values = (
            base,
            np.nanmax(known, axis=1) - base,
            np.nanmin(known, axis=1) - base,
            np.nanmean(known, axis=1) - base,
            np.nanstd(known, axis=1),
            times[np.nanargmax(known, axis=1)],
            times[np.nanargmin(known, axis=1)],
        )
        for column, value in zip(out.values(), values, strict=True):
            column[is_known] = value
    return {f"{name}_{key}": column for key, column in out.items()} | {f"{name}_Coverage": covered}


def _of_skin(
    responses: SkinResponses, onset: FloatArray, is_inside: NDArray[np.bool_]
) -> dict[str, NDArray[np.floating]]:
    """Return whether a response begins in the time of latency, and the first that does."""
    earliest, latest = _LATENCY_SECONDS
    covered = responses.searched_seconds(onset + earliest, latest - earliest) / (latest - earliest)
    is_known = is_inside & (covered >= _MIN_COVERAGE)
    first = np.searchsorted(responses.onsets, onset + earliest - _EDGE)
    has_one = is_known & (first < np.searchsorted(responses.onsets, onset + latest + _EDGE))
    row = first[has_one]
    values = {
        "SCR_Peak_Amplitude": responses.amplitudes[row],
        "SCR_Peak_Amplitude_Time": responses.times[row] - onset[has_one],
        "SCR_RiseTime": responses.rise_seconds[row],
        "SCR_RecoveryTime": responses.half_recovery_seconds[row],
    }
    out: dict[str, NDArray[np.floating]] = {"EDA_SCR": np.where(is_known, has_one.astype(np.float64), np.nan)}
    for name, value in values.items():
        out[name] = np.full(len(onset), np.nan)
        out[name][has_one] = value
    return out | {"SCR_Coverage": covered}


def _of_brain(
    clean: CleanRecording, onset: FloatArray, around: Around, is_inside: NDArray[np.bool_]
) -> dict[str, NDArray[np.floating]]:
    """Return the power before each event and its change after it, by region and band."""
    bands = {s.modality.removeprefix("eeg_"): s for s in clean.recording.signals if s.modality.startswith("eeg_")}
    bands = {band: bands[band] for band in EEG_BANDS if band in bands}
    if not bands:
        return {}
    offsets = around.offsets
    is_before, is_after = offsets <= -_SMEARED_SECONDS, offsets >= _SMEARED_SECONDS
    parts: dict[str, tuple[FloatArray, FloatArray]] = {}
    shares = []
    for band, series in bands.items():
        power = np.exp(_locked(series, onset, offsets))
        is_used = np.isfinite(series.read()).any(axis=1)
        shares.append(_share(power[is_used]).mean(axis=0))
        before, after = _means(power[..., is_before]), _means(power[..., is_after])
        is_whole = np.isfinite(before) & np.isfinite(after) & is_inside  # both are of the same channels
        parts[band] = np.where(is_whole, before, np.nan), np.where(is_whole, after, np.nan)
    names = next(iter(bands.values())).channel_names
    out: dict[str, NDArray[np.floating]] = {}
    for place, rows in places_of(names).items():
        for band, (before, after) in parts.items() if place not in names else ():
            baseline = mean_of_known(before[rows], axis=0)
            out[f"EEG_{place}_{band}_Baseline"] = baseline
            out[f"EEG_{place}_{band}_Change"] = 10.0 * np.log10(mean_of_known(after[rows], axis=0) / baseline)
    return out | {"EEG_Coverage": np.mean(shares, axis=0)}


def _means(power: FloatArray) -> FloatArray:
    """Return the mean over time of each channel and event; NaN where a fifth of it is masked."""
    return np.where(_share(power) >= _MIN_COVERAGE, mean_of_known(power, axis=-1), np.nan)


def _course_series(clean: CleanRecording, onset: FloatArray, offsets: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    """Give heart rate and skin conductance around each event, in their units."""
    derived = {s.modality: s for s in clean.recording.signals if s.derived_from}
    if HEART_RATE in derived:
        yield HEART_RATE, _locked(derived[HEART_RATE], onset, offsets)[0]
    if "tonic" in derived and "phasic" in derived:
        tonic, phasic = (_locked(derived[name], onset, offsets)[0] for name in ("tonic", "phasic"))
        yield SKIN, np.exp(tonic) + phasic
