"""Cleaning: a whole recording once, every signal at its own rate, derived series beside them.

The steps, for each signal:

1. leave out what cannot be understood (unknown modality, unit that is not the modality's), with a note;
2. screen: mask samples that no body gave, each with its reason, before any filter sees them;
3. filter segment by segment: gaps up to ``bridge_seconds`` are bridged for the filter and stay masked,
   longer gaps end the segment (:mod:`biopercept.preprocessing.gaps`);
4. bring a signal that is faster than its modality's model rate to that rate;
5. derive the 4 Hz series (:mod:`biopercept.preprocessing.derived`);
6. rate the quality of each second.

Nothing is filled: a masked sample is NaN in every output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from biopercept.errors import RecordingError
from biopercept.modalities import DERIVED_RATE, MODALITIES, UNKNOWN
from biopercept.preprocessing.cardiac import Beats, device_beats
from biopercept.preprocessing.derived import Derived, Measured, derive
from biopercept.preprocessing.eeg import average_referenced, bad_channels, without_hum
from biopercept.preprocessing.electrodermal import SkinResponses, without_jumps
from biopercept.preprocessing.gaps import BoolArray, at_rate, band_fits, filtered, grid_times, long_runs, moving_mean
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import interval_series
from biopercept.recording import FloatArray, Recording, Signal

_SLOW = frozenset({"eda", "resp", "temp", "spo2", "hr"})
_NOTCHED = frozenset({"eeg", "emg", "ecg"})
_MAY_STAND_STILL = frozenset({"temp", "hr", "spo2", "ibi", "acc"})
_SATURATES = frozenset({"ecg", "bvp", "emg", "eeg", "eog"})
MISSING = "missing"
_RHYTHM_SECONDS = 11  # beats and breaths come one by one: whether they are there is judged over this many
MIN_REPORTED_FRACTION = 0.001
"""Fraction of a channel's samples below which masking is not worth a sentence."""


@dataclass(frozen=True, eq=False)
class CleanRecording:
    """A recording after cleaning, in memory.

    Attributes
    ----------
    recording : Recording
        The cleaned measured signals, then the derived ones; every signal is regular, NaN where masked.
    quality : dict of str to array, shape (n_channels, n_seconds)
        For every signal by name: quality in [0, 1] of each second of the recording's clock.
    notes : tuple of str
        What was left out, masked or chosen, and why; one sentence each.
    beats : Beats
        Heart beats that the heart features rest on; empty where none were found.
    responses : SkinResponses
        Skin conductance responses; empty where none were found.
    """

    recording: Recording
    quality: dict[str, FloatArray]
    notes: tuple[str, ...]
    beats: Beats
    responses: SkinResponses


def clean_recording(recording: Recording, settings: CleaningSettings | None = None) -> CleanRecording:
    """Return the recording cleaned as a whole, with derived series, quality and notes.

    Raises RecordingError where nothing is left: no signal that is understood has a valid sample.

    Irregular inter-beat intervals become a regular 4 Hz series.
    """
    settings = settings or CleaningSettings()
    notes: list[str] = []
    duration_seconds = _duration(recording)
    times = grid_times(duration_seconds)
    measured: list[Measured] = []
    for signal in recording.signals:
        reason = _why_left_out(signal)
        if reason:
            notes.append(f"{signal.name}: left out, {reason}.")
            continue
        one, its_notes = _clean_signal(signal, times, settings)
        measured.append(one)
        notes.extend(its_notes)
    if not any(np.isfinite(one.cleaned.read()).any() for one in measured):
        raise RecordingError(_nothing_left(recording, notes))
    derived = derive(measured, times, settings)
    notes.extend(derived.notes)
    signals = tuple(one.cleaned for one in measured) + tuple(_unique(derived, measured))
    cleaned = replace(recording, signals=signals, notes=(*recording.notes, *notes))
    quality = _recording_quality(cleaned, derived.is_understood, settings, duration_seconds)
    return CleanRecording(cleaned, quality, tuple(notes), derived.beats, derived.responses)


def _duration(recording: Recording) -> float:
    """Return the recording's length, seconds; a signal whose rate is no rate has none."""
    timed = (
        s for s in recording.signals if not s.is_regular or (math.isfinite(s.sampling_rate) and s.sampling_rate > 0)
    )
    return max((signal.end_seconds for signal in timed), default=0.0)


def _why_left_out(signal: Signal) -> str:
    """Return why a signal cannot be cleaned; empty where it can."""
    if signal.modality == UNKNOWN or signal.modality not in MODALITIES:
        return "what it measures was not recognised (name its modality under 'signals' in study.yaml)"
    modality = MODALITIES[signal.modality]
    if modality.is_derived:
        return f"{modality.title} is computed here, not read from a file"
    if signal.unit != modality.unit:
        return f"its unit is {signal.unit or 'not given'!r} and {modality.title} needs {modality.unit!r}"
    if not (math.isfinite(signal.sampling_rate) and signal.sampling_rate > 0) and signal.is_regular:
        return f"its sampling rate is {signal.sampling_rate!r} Hz"
    if signal.n_samples == 0 or signal.n_channels == 0:
        return "it has no samples"
    if signal.modality == "ibi" and signal.is_regular:
        return "inter-beat intervals must come with the time of each beat"
    if signal.modality != "ibi" and not signal.is_regular:
        return f"{modality.title} at irregular times cannot be filtered"
    if not band_fits(signal.sampling_rate, modality.band_hz[0]):
        return (
            f"{modality.title} is looked for above {modality.band_hz[0]:g} Hz "
            f"and it is sampled at only {signal.sampling_rate:g} Hz"
        )
    return ""


def _nothing_left(recording: Recording, notes: list[str]) -> str:
    who = recording.subject or recording.name or "the recording"
    why = " ".join(notes) if notes else "It has no signals."
    return f"Nothing is left of {who} after cleaning: no signal has a valid sample. {why}"


def _unique(derived: Derived, measured: list[Measured]) -> list[Signal]:
    """Return the derived signals; a measured signal of the same name must not be shadowed."""
    taken = {one.cleaned.name for one in measured}
    return [replace(s, name=f"{s.name} (derived)") if s.name in taken else s for s in derived.signals]


def _clean_signal(signal: Signal, times: FloatArray, settings: CleaningSettings) -> tuple[Measured, tuple[str, ...]]:
    """Return one signal screened, filtered and at its stored rate."""
    raw, notes = screened(signal.read(), signal, settings)
    if signal.modality == "ibi":
        return Measured(signal, raw, _regular_intervals(signal, raw, times, settings)), notes
    modality = MODALITIES[signal.modality]
    bridge = settings.slow_bridge_seconds if signal.modality in _SLOW else settings.bridge_seconds
    rate = signal.sampling_rate
    low, high = modality.band_hz
    samples = without_hum(raw, rate, settings) if signal.modality in _NOTCHED else raw
    samples = filtered(samples, rate, low, high, bridge_seconds=bridge)
    notes += _short_segments(raw, samples, signal)
    samples, more = _empty_masked(raw, samples, signal, settings)
    notes += more
    if signal.modality == "eda":
        samples = without_jumps(samples, rate, settings)
    if signal.modality == "eeg":
        samples, more = _referenced(samples, signal, settings)
        notes += more
    if rate > modality.model_rate:
        samples, rate = at_rate(samples, rate, modality.model_rate), modality.model_rate
    return Measured(signal, raw, signal.with_samples(samples, rate)), notes


def _regular_intervals(signal: Signal, raw: FloatArray, times: FloatArray, settings: CleaningSettings) -> Signal:
    series = interval_series(device_beats(signal, raw[0], settings), times, settings)
    regular = replace(signal, start_seconds=0.0, times=None, channels=signal.channels[:1])
    return regular.with_samples(series, MODALITIES["ibi"].model_rate)


def _short_segments(raw: FloatArray, samples: FloatArray, signal: Signal) -> tuple[str, ...]:
    """Return a note on the samples that no filter could be run over."""
    fraction = float((np.isfinite(raw) & ~np.isfinite(samples)).mean())
    if fraction < MIN_REPORTED_FRACTION:
        return ()
    return (f"{signal.name}: {100 * fraction:.1f} % masked, in segments too short to be filtered.",)


def _empty_masked(
    raw: FloatArray, samples: FloatArray, signal: Signal, settings: CleaningSettings
) -> tuple[FloatArray, tuple[str, ...]]:
    """Mask channels of which the filter left almost nothing: they hold hum or drift, not the signal."""
    modality = MODALITIES[signal.modality]
    if modality.band_hz[0] is None:
        return samples, ()
    smallest = {"ecg": settings.ecg_min_mv, "emg": settings.emg_min_mv}.get(signal.modality, 0.0)
    out = samples.copy()
    notes: list[str] = []
    for channel, name in enumerate(signal.channel_names):
        if not np.isfinite(samples[channel]).any():
            continue
        # Medians: the filter's transients at the rims must not pass for a signal. Differences: drift is no fault.
        left = float(np.nanmedian(np.abs(samples[channel])))
        change = np.abs(np.diff(raw[channel]))
        change = change[np.isfinite(change)]
        before = float(np.median(change)) if len(change) else 0.0
        where = f"{signal.name}, channel {name}: masked, after filtering"
        if left <= settings.in_band_share * before:
            out[channel] = np.nan
            notes.append(f"{where} almost nothing is left of it.")
        elif float(np.nanstd(samples[channel])) < smallest:
            out[channel] = np.nan
            notes.append(f"{where} its standard deviation is below {smallest:g} {modality.unit}.")
    return out, tuple(notes)


def _referenced(samples: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[FloatArray, tuple[str, ...]]:
    """Return EEG against the average of its good channels, bad channels masked and named."""
    faults = bad_channels(samples, signal.sampling_rate, settings)
    is_good = np.array([channel not in faults for channel in range(signal.n_channels)])
    notes = tuple(
        f"{signal.name}, channel {signal.channel_names[channel]}: masked as bad, {reason}."
        for channel, reason in sorted(faults.items())
    )
    return average_referenced(samples, is_good), notes


def screened(samples: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[FloatArray, tuple[str, ...]]:
    """Return a copy of ``samples`` with impossible segments as NaN, and one note per reason.

    Masked are: samples that are not finite, outside the modality's plausible range, in a flat run
    (no sensor is so still), or in a run at the channel's highest or lowest value (saturation).
    """
    out = samples.copy()
    fractions: dict[str, dict[str, float]] = {}
    for channel, name in enumerate(signal.channel_names):
        row = out[channel]
        for reason, is_bad in _faults(row.copy(), signal, settings):
            if reason != MISSING:
                is_bad = is_bad & np.isfinite(row)  # a sample is counted under the first reason only
            fraction = float(is_bad.mean())
            row[is_bad] = np.nan
            if fraction >= MIN_REPORTED_FRACTION:
                fractions.setdefault(reason, {})[name] = fraction
    return out, tuple(_note(signal, reason, by_channel) for reason, by_channel in fractions.items())


def _note(signal: Signal, reason: str, by_channel: dict[str, float]) -> str:
    """Return one sentence for all the channels with the same fault."""
    worst = 100 * max(by_channel.values())
    if signal.n_channels == 1:
        return f"{signal.name}: {worst:.1f} % masked, {reason}."
    if len(by_channel) == signal.n_channels:
        return f"{signal.name}, all {signal.n_channels} channels: up to {worst:.1f} % masked, {reason}."
    return f"{signal.name}, channel {', '.join(by_channel)}: up to {worst:.1f} % masked, {reason}."


def _faults(row: FloatArray, signal: Signal, settings: CleaningSettings) -> list[tuple[str, BoolArray]]:
    modality = MODALITIES[signal.modality]
    low, high = modality.plausible
    is_finite = np.isfinite(row)
    with np.errstate(invalid="ignore"):
        implausible = is_finite & ((row < low) | (row > high))
    faults = [
        (MISSING, ~is_finite),
        (f"outside the plausible {low:g} to {high:g} {modality.unit}", implausible),
    ]
    usable = np.where(is_finite & ~implausible, row, np.nan)
    if not signal.is_regular:
        return faults
    if signal.modality == "eda":
        faults.append(
            (f"below {settings.eda_min_us:g} uS (electrode off the skin)", _below(usable, settings.eda_min_us))
        )
    if signal.modality not in _MAY_STAND_STILL:
        slow = {"resp": settings.resp_flat_seconds, "eda": settings.eda_flat_seconds}
        seconds = slow.get(signal.modality, settings.flat_seconds)
        faults.append((f"flat for {seconds:g} s or more", _flat(usable, round(seconds * signal.sampling_rate))))
    if signal.modality in _SATURATES:
        n = round(settings.clip_seconds * signal.sampling_rate)
        faults.append((f"at the rail for {settings.clip_seconds:g} s or more", _clipped(usable, max(n, 4))))
    return faults


def _below(row: FloatArray, threshold: float) -> BoolArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(row < threshold)


def _flat(row: FloatArray, min_samples: int) -> BoolArray:
    """Return where the row repeats one value for at least ``min_samples`` (or for all it has)."""
    min_samples = max(min(min_samples, int(np.isfinite(row).sum())), 2)
    with np.errstate(invalid="ignore"):
        same_as_before = np.concatenate(([False], np.diff(row) == 0))
    steps = long_runs(same_as_before, min_samples - 1)
    # A run of k equal steps spans k + 1 samples: the first of them has no step of its own.
    return steps | np.concatenate((steps[1:], [False]))


def _clipped(row: FloatArray, min_samples: int) -> BoolArray:
    """Return the runs at the row's own highest or lowest value."""
    if not np.isfinite(row).any():
        return np.zeros(len(row), dtype=bool)
    with np.errstate(invalid="ignore"):
        at_top = row >= np.nanmax(row)
        at_bottom = row <= np.nanmin(row)
    return long_runs(at_top, min_samples) | long_runs(at_bottom, min_samples)


def _recording_quality(
    cleaned: Recording, is_understood: Mapping[str, BoolArray], settings: CleaningSettings, duration_seconds: float
) -> dict[str, FloatArray]:
    """Return, for every signal by name, the quality of each second: (n_channels, n_seconds) in [0, 1].

    Quality is the fraction of the second's samples that is valid. For a signal that should carry a rhythm (ECG, pulse,
    respiration) it is multiplied by the fraction of the 11 s around in which that rhythm was found
    (``is_understood``, at 4 Hz, by name); a second of EEG with a value beyond ``eeg_artefact_uv`` counts half.
    Seconds outside a signal have quality 0.
    """
    n_seconds = math.ceil(duration_seconds - 1e-9)
    out: dict[str, FloatArray] = {}
    for signal in cleaned.signals:
        samples = signal.read()
        quality = _per_second(np.isfinite(samples).astype(np.float64), signal, n_seconds, np.add)
        if signal.modality == "eeg":
            largest = _per_second(np.abs(np.nan_to_num(samples)), signal, n_seconds, np.maximum)
            quality = np.where(largest > settings.eeg_artefact_uv, 0.5 * quality, quality)
        if signal.name in is_understood:
            quality = quality * _rhythm_fraction(is_understood[signal.name], n_seconds)
        out[signal.name] = quality
    return out


def _per_second(values: FloatArray, signal: Signal, n_seconds: int, gather: np.ufunc) -> FloatArray:
    """Return the sum as a fraction of the second's samples, or the maximum, of each second: (n_channels, n_seconds)."""
    second = np.floor(signal.sample_times() + 1e-9).astype(np.int64)
    inside = (second >= 0) & (second < n_seconds)
    second = second[inside]
    out = np.zeros((len(values), n_seconds))
    if signal.sampling_rate < 1.0:  # one sample stands for several seconds
        nearest = ((np.arange(n_seconds) + 0.5 - signal.start_seconds) * signal.sampling_rate).astype(np.int64)
        known = (nearest >= 0) & (nearest < values.shape[1])
        out[:, known] = values[:, nearest[known]]
        return out
    for channel, row in enumerate(values):
        gather.at(out[channel], second, row[inside])
    if gather is np.add:
        # The first and last second of a signal may hold few samples: of a whole second, so they count less.
        out /= math.floor(signal.sampling_rate)
    return np.minimum(out, 1.0) if gather is np.add else out


def _rhythm_fraction(is_understood: BoolArray, n_seconds: int) -> FloatArray:
    """Return the fraction of the 11 s around each second in which the rhythm was found: (n_seconds,)."""
    per_second = np.zeros(n_seconds)
    n = np.zeros(n_seconds)
    second = (np.arange(len(is_understood)) / DERIVED_RATE).astype(np.int64)
    np.add.at(per_second, second, is_understood)
    np.add.at(n, second, 1.0)
    return moving_mean(per_second / np.maximum(n, 1.0), _RHYTHM_SECONDS)
