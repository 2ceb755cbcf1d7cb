"""Cleaning: a whole recording once, every signal at its own rate, derived series beside them.

The steps, for each signal:

1. leave out what cannot be understood (unknown modality, unit that is not the modality's), with a note;
2. screen: mask samples that no body gave (:mod:`biopercept.preprocessing.screening`);
3. filter stretch by stretch: gaps up to ``bridge_seconds`` are bridged for the filter and stay masked,
   longer gaps end the stretch (:mod:`biopercept.preprocessing.gaps`);
4. bring a signal that is faster than its modality's model rate to that rate;
5. derive the 4 Hz series (:mod:`biopercept.preprocessing.derived`).

Nothing is filled: a masked sample is NaN in every output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from biopercept.errors import RecordingError
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.preprocessing.beats import Beats, interval_series
from biopercept.preprocessing.brain import average_referenced, bad_channels, without_hum
from biopercept.preprocessing.cardiac import device_beats
from biopercept.preprocessing.derived import Derived, Measured, derive
from biopercept.preprocessing.electrodermal import SkinResponses, without_jumps
from biopercept.preprocessing.gaps import at_rate, band_fits, filtered, grid_times
from biopercept.preprocessing.quality import recording_quality
from biopercept.preprocessing.screening import MIN_REPORTED_SHARE, screened
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Recording, Signal

_SLOW = frozenset({"eda", "resp", "temp", "spo2", "hr"})
_NOTCHED = frozenset({"eeg", "emg", "ecg"})


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

    Parameters
    ----------
    recording : Recording
        As loaded. Irregular inter-beat intervals become a regular 4 Hz series.
    settings : CleaningSettings, optional
        None means the default settings.

    Raises
    ------
    RecordingError
        Where nothing is left: no signal that is understood has a valid sample.
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
    quality = recording_quality(cleaned, derived.is_understood, settings, duration_seconds)
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
    notes += _short_stretches(raw, samples, signal)
    samples, more = _empty_masked(raw, samples, signal, settings)
    notes += more
    if signal.modality == "eda":
        samples = without_jumps(samples, rate, settings)
    if signal.modality == "eeg":
        samples, more = _referenced(samples, signal, settings)
        notes += more
    if rate > modality.model_rate:
        samples, rate = at_rate(samples, rate, modality.model_rate), modality.model_rate
    cleaned = Signal.from_samples(
        signal.name,
        signal.modality,
        signal.unit,
        rate,
        samples,
        start_seconds=signal.start_seconds,
        channels=signal.channels,
        source=signal.source,
        recognised_by=signal.recognised_by,
        derived_from=signal.derived_from,
    )
    return Measured(signal, raw, cleaned), notes


def _regular_intervals(signal: Signal, raw: FloatArray, times: FloatArray, settings: CleaningSettings) -> Signal:
    beats = device_beats(signal, raw[0], settings)
    return Signal.from_samples(
        signal.name,
        signal.modality,
        signal.unit,
        MODALITIES["ibi"].model_rate,
        interval_series(beats, times, settings),
        channels=signal.channels[:1],
        source=signal.source,
        recognised_by=signal.recognised_by,
    )


def _short_stretches(raw: FloatArray, samples: FloatArray, signal: Signal) -> tuple[str, ...]:
    """Return a note on the samples that no filter could be run over."""
    share = float((np.isfinite(raw) & ~np.isfinite(samples)).mean())
    if share < MIN_REPORTED_SHARE:
        return ()
    return (f"{signal.name}: {100 * share:.1f} % masked, in stretches too short to be filtered.",)


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


__all__ = ["CleanRecording", "CleaningSettings", "clean_recording"]
