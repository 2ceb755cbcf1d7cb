"""Cleaning: a whole recording once, every signal at its own rate, derived series beside them.

The steps, for each signal:

1. leave out what cannot be understood (unknown modality, unit that is not the modality's), with a note;
2. apply what was corrected by hand (:mod:`biopercept.preprocessing.corrections`; beats are, where they are detected);
3. screen: mask samples that no body gave, each with its reason, before any filter sees them
   (:mod:`biopercept.preprocessing.screening`);
4. bring a signal that is faster than its modality's model rate to that rate, before it is filtered: so the filter, and
   what it leaves near its edges, is the same whatever the rate of the file;
5. filter segment by segment: gaps up to ``bridge_seconds`` are bridged for the filter and stay masked,
   longer gaps end the segment (:mod:`biopercept.preprocessing.gaps`);
6. derive the 4 Hz series (:mod:`biopercept.preprocessing.derived`);
7. rate the quality of each second.

Nothing is filled: a masked sample is NaN in every output.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, listed
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.preprocessing.cardiac import Beats, device_beats
from biopercept.preprocessing.corrections import ByHand, CorrectionLog
from biopercept.preprocessing.derived import LET_GO, Derived, Measured, derive
from biopercept.preprocessing.eeg import (
    BROAD_LOW_HZ,
    MIN_CHANNELS_FOR_REFERENCE,
    bad_channels,
    doubtful_electrodes,
    reference_to_average,
    sharing_one_reference,
    without_hum,
)
from biopercept.preprocessing.electrodermal import SkinResponses
from biopercept.preprocessing.gaps import BoolArray, at_rate, band_fits, filtered, grid_times, size_in_band
from biopercept.preprocessing.quality import (
    BAD_CHANNEL,
    NO_REFERENCE,
    NO_SIGNAL,
    TOO_SHORT,
    Losses,
    SignalQuality,
    model_quality,
    seconds_of,
)
from biopercept.preprocessing.rating import hum_by_second, ratings
from biopercept.preprocessing.respiration import Breaths
from biopercept.preprocessing.screening import MIN_REPORTED_FRACTION, Screen, screened
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import interval_series
from biopercept.recording import Correction, FloatArray, Recording, Signal

LEFT_OUT = ": left out, "
"""In the note on a signal that is not used, between its name and the reason."""
_LONGEST_WORDS = 160
_MOST_AT_ONCE = 1 << 21
"""Samples of a signal that are cleaned at once to see what is left: 16 MB a copy, an hour of ECG at 500 Hz."""
_MOST_IN_GROUP = 1 << 21
"""Samples of channels that are cleaned at once at the rate of their file: 16 MB a copy."""
_PLAINLY = 4.0
"""How many times as much as is needed must be left in a signal's band, where that is estimated without its filter."""
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
        For every signal by name: quality in [0, 1] of each second of the recording's clock, as models read it.
    ratings : dict of str to SignalQuality
        For every measured signal by name: quality as people read it, with the reasons of what was lost.
    notes : tuple of str
        What was left out, masked or chosen, and why; one sentence each.
    beats : Beats
        Heart beats that the heart features rest on; empty where none were found.
    responses : SkinResponses
        Skin conductance responses; empty where none were found.
    breaths : Breaths
        Breaths that the respiration features rest on; empty where none were found.
    corrections : tuple of Correction
        The corrections by hand that were applied.
    used_channel : dict of str to int
        Of a signal by name: the channel that beats, responses or breaths were looked for in.
    """

    recording: Recording
    quality: dict[str, FloatArray]
    notes: tuple[str, ...]
    beats: Beats
    responses: SkinResponses
    breaths: Breaths
    ratings: dict[str, SignalQuality] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    used_channel: Mapping[str, int] = field(default_factory=dict)


def clean_recording(recording: Recording, settings: CleaningSettings | None = None) -> CleanRecording:
    """Return the recording cleaned as a whole, with derived series, quality and notes.

    Raises RecordingError where nothing is left: no signal that is understood has a valid sample.

    Irregular inter-beat intervals become a regular 4 Hz series.
    """
    settings = settings or CleaningSettings()
    notes: list[str] = []
    times = grid_times(_duration(recording))
    measured: list[Measured] = []
    log = CorrectionLog(recording)
    for signal in recording.signals:
        reason = why_left_out(signal)
        if reason:
            notes.append(f"{signal.name}{LEFT_OUT}{reason}.")
            continue
        one, its_notes = _clean_signal(signal, times, settings, log.of(signal))
        measured.append(one)
        notes.extend(its_notes)
    if not any(np.isfinite(one.cleaned.read()).any() for one in measured):
        raise RecordingError(_nothing_left(recording, [*notes, *log.notes()]))
    derived = derive(measured, times, settings)
    notes = [*log.notes(), *notes, *derived.notes]
    signals = tuple(one.cleaned for one in measured) + tuple(_unique(derived, measured))
    cleaned = replace(recording, signals=signals, notes=(*recording.notes, *notes))
    quality = model_quality(cleaned, derived.is_understood, settings, seconds_of(times))
    rated = ratings(measured, derived, seconds_of(times), settings)
    return CleanRecording(
        cleaned,
        quality,
        tuple(notes),
        derived.beats,
        derived.responses,
        derived.breaths,
        ratings=rated,
        corrections=log.applied,
        used_channel=derived.used_channel,
    )


def _duration(recording: Recording) -> float:
    """Return the recording's length, seconds; a signal whose rate is no rate has none."""
    timed = (
        s for s in recording.signals if not s.is_regular or (math.isfinite(s.sampling_rate) and s.sampling_rate > 0)
    )
    return max((signal.end_seconds for signal in timed), default=0.0)


def why_left_out(signal: Signal) -> str:
    """Return why a signal cannot be cleaned; empty where it can."""
    if signal.modality == UNKNOWN or signal.modality not in MODALITIES:
        return (
            "what it measures was not recognised (name its modality: of a file alone with --signals FILE, in a study "
            "under 'signals' in study.yaml)"
        )
    modality = MODALITIES[signal.modality]
    if modality.is_derived:
        return f"{modality.title} is computed here, not read from a file"
    if signal.unit != modality.unit:
        unit = repr(signal.unit) if signal.unit else "not given"
        return (
            f"its unit is {unit} and {modality.title} needs {modality.unit!r} (say its unit: "
            "of a file alone with --unit NAME=UNIT, in a study under 'signals' in study.yaml)"
        )
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


def why_unused(
    signal: Signal, settings: CleaningSettings | None = None, corrections: tuple[Correction, ...] = ()
) -> str:
    """Return why nothing of a signal is left after cleaning; empty where something is.

    This is what :func:`clean_recording` decides of it, ``corrections`` being those of its recording. A signal of many
    samples is cleaned piece by piece, until something of one is left: what is looked at over the whole recording (the
    rail, the usual size) may differ there.
    """
    settings = settings or CleaningSettings()
    reason = why_left_out(signal)
    if reason:
        return reason
    step = max(_MOST_AT_ONCE // signal.n_channels, 1) if signal.is_regular else signal.n_samples
    for start in range(0, signal.n_samples, step):
        piece = signal if step >= signal.n_samples else _piece(signal, start, step)
        read = piece.with_samples(piece.read(), piece.sampling_rate)  # once, for it may be looked at twice
        reason = _why_masked(ByHand.masking(read, corrections), settings)
        if not reason:
            return ""
    return reason


def _piece(signal: Signal, start: int, n_samples: int) -> Signal:
    """Return some samples of a regular signal as a signal of their own."""
    return replace(
        signal,
        start_seconds=signal.start_seconds + start / signal.sampling_rate,
        n_samples=min(n_samples, signal.n_samples - start),
        reader=lambda first, last, rows: signal.read(start + first, start + last, rows),
    )


def _why_masked(by_hand: ByHand, settings: CleaningSettings) -> str:
    signal, is_marked = by_hand.signal, by_hand.bad()
    if is_marked is not None and is_marked.all():
        return "it is marked bad by hand"
    if _is_plainly_left(by_hand, settings):
        return ""
    cleaned, notes = _clean_signal(signal, grid_times(signal.end_seconds), settings, by_hand)
    if np.isfinite(cleaned.cleaned.read()).any():
        return ""
    words = [note.removeprefix(signal.name).lstrip(":, ").removesuffix(".") for note in notes]
    shown = "; ".join(one if len(one) <= _LONGEST_WORDS else f"{one[:_LONGEST_WORDS]} ..." for one in words[:2])
    more = f"; and {len(words) - 2} more reasons" if len(words) > 2 else ""
    return f"nothing is left after cleaning ({shown or 'no sample is valid'}{more})"


def _is_plainly_left(by_hand: ByHand, settings: CleaningSettings) -> bool:
    """Return whether so much is left of a signal that no filter need be run to see it; filters take long to import."""
    signal = by_hand.signal
    modality = MODALITIES[signal.modality]
    is_simple = signal.is_regular and signal.modality not in _NOTCHED and signal.sampling_rate <= modality.model_rate
    if not is_simple:
        return False
    screen = Screen(signal, settings)
    raw = screen.of(by_hand.turned(signal.read()), by_hand.bad())
    bridge = settings.slow_bridge_seconds if signal.modality in _SLOW else settings.bridge_seconds
    size = size_in_band(raw, signal.sampling_rate, *modality.band_hz, bridge_seconds=bridge)
    least = np.array([_usual_change(row) for row in raw]) * settings.in_band_share
    return bool((size > _PLAINLY * least).any())


def signals_left_out(notes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return which signals are not used and why, given the notes of each recording: each sentence once, the most first.

    >>> signals_left_out([["EDA: left out, no unit."], ["EDA: left out, no unit.", "ECG: 1 % masked."]])
    ('EDA: left out, no unit (in 2 of 2 recordings)',)
    """
    counts = Counter(note.rstrip(".") for each in notes for note in each if LEFT_OUT in note)
    return tuple(
        note if len(notes) == 1 else f"{note} (in {count} of {len(notes)} recordings)"
        for note, count in counts.most_common()
    )


def _nothing_left(recording: Recording, notes: list[str]) -> str:
    who = recording.subject or recording.name or "the recording"
    why = " ".join(notes) if notes else "It has no signals."
    return f"Nothing is left of {who} after cleaning: no signal has a valid sample. {why}"


def _unique(derived: Derived, measured: list[Measured]) -> list[Signal]:
    """Return the derived signals; a measured signal of the same name must not be shadowed."""
    taken = {one.cleaned.name for one in measured}
    return [replace(s, name=f"{s.name} (derived)") if s.name in taken else s for s in derived.signals]


def _clean_signal(
    signal: Signal, times: FloatArray, settings: CleaningSettings, by_hand: ByHand
) -> tuple[Measured, tuple[str, ...]]:
    """Return one signal corrected, screened, filtered and at its stored rate."""
    if signal.modality == "ibi":
        signal = by_hand.intervals()
        by_hand = replace(by_hand, signal=signal)
    losses = Losses(signal, seconds_of(times))
    if signal.modality == "ibi":
        raw, notes = screened(by_hand.turned(signal.read()), signal, settings, by_hand=by_hand.bad())
        regular = _regular_intervals(signal, raw, times, settings, by_hand)
        losses.add_rejected_intervals(raw[0], regular, times, by_hand.bad_at(times))
        return Measured(signal, raw, np.isfinite(raw).sum(axis=1), regular, losses, by_hand=by_hand), notes
    screen = Screen(signal, settings, losses)
    whole = _filtered_in_groups(signal, screen, settings, by_hand)
    samples, rate = whole.samples, whole.rate
    losses.charge(TOO_SHORT, samples, rate)
    notes = screen.notes() + _short_segments(whole, signal) + _narrow_band(samples, signal)
    notes += _mask_empty(samples, whole.change, signal, settings)
    losses.charge(NO_SIGNAL, samples, rate)
    cleaned = signal.with_samples(samples, rate)
    if whole.broad is not None:
        notes += _reference(cleaned, whole.broad, losses, settings)
    parts = whole.raw, whole.n_screened, cleaned, losses, whole.broad
    return Measured(signal, *parts, by_hand=by_hand, hum=whole.hum), notes


@dataclass(frozen=True, eq=False)
class _Filtered:
    """Channels screened, brought to the ``rate`` that is stored, and filtered.

    ``raw``, ``broad`` and ``hum`` are what :class:`Measured` has; by channel, ``change`` is the usual difference of
    neighbouring samples before the filter, and of samples ``n_screened`` are left by the screening, ``n_slower`` at the
    stored rate, and ``n_short`` of these in segments that no filter could be run over.
    """

    rate: float
    raw: FloatArray
    samples: FloatArray
    broad: FloatArray | None
    hum: tuple[FloatArray, ...]
    change: FloatArray
    n_screened: FloatArray
    n_slower: FloatArray
    n_short: FloatArray


def _filtered_in_groups(signal: Signal, screen: Screen, settings: CleaningSettings, by_hand: ByHand) -> _Filtered:
    """Return all channels filtered, some at a time: at the rate of a file an hour of 64 channels takes gigabytes."""
    at_once = signal.n_channels if signal.modality == "acc" else max(_MOST_IN_GROUP // signal.n_samples, 1)
    if at_once >= signal.n_channels:
        return _filtered_group(screen.of(by_hand.turned(signal.read()), by_hand.bad()), signal, settings)
    arrays: dict[str, FloatArray] = {}
    group: dict[str, Any] = {}
    for first in range(0, signal.n_channels, at_once):
        part = signal.of_rows(slice(first, first + at_once))
        there = replace(by_hand, signal=part)
        group = vars(_filtered_group(screen.of(there.turned(part.read()), there.bad(), first), part, settings))
        group |= {f"hum {place}": power for place, power in enumerate(group["hum"])}
        for name, piece in group.items():
            if isinstance(piece, np.ndarray):
                if name not in arrays:
                    arrays[name] = np.empty((signal.n_channels, *piece.shape[1:]))
                arrays[name][first : first + len(piece)] = piece
    hum = tuple(arrays.pop(name) for name in group if name.startswith("hum "))
    return _Filtered(**{"rate": group["rate"], "broad": None, "hum": hum, **arrays})


def _filtered_group(raw: FloatArray, signal: Signal, settings: CleaningSettings) -> _Filtered:
    modality = MODALITIES[signal.modality]
    bridge = settings.slow_bridge_seconds if signal.modality in _SLOW else settings.bridge_seconds
    rate = signal.sampling_rate
    slower = without_hum(raw, rate, settings) if signal.modality in _NOTCHED else raw
    if rate > modality.model_rate:
        slower, rate = at_rate(slower, rate, modality.model_rate), modality.model_rate
    samples = filtered(slower, rate, *modality.band_hz, bridge_seconds=bridge)
    is_eeg = signal.modality == "eeg"
    is_known = np.isfinite(slower)
    return _Filtered(
        rate=rate,
        raw=raw[:, :0].copy() if signal.modality in LET_GO else raw,
        samples=samples,
        broad=filtered(slower, rate, BROAD_LOW_HZ, None, bridge_seconds=bridge) if is_eeg else None,
        hum=tuple(hum_by_second(raw, signal, settings)),
        change=np.array([0.0 if modality.band_hz[0] is None else _usual_change(row) for row in raw]),
        n_screened=np.isfinite(raw).sum(axis=1, dtype=np.float64),
        n_slower=is_known.sum(axis=1, dtype=np.float64),
        n_short=(is_known & ~np.isfinite(samples)).sum(axis=1, dtype=np.float64),
    )


def _usual_change(row: FloatArray) -> float:
    """Return the median difference of neighbouring samples, 0 without any."""
    change = np.abs(np.diff(row))
    change = change[np.isfinite(change)]
    return float(np.median(change)) if len(change) else 0.0


def _regular_intervals(
    signal: Signal, raw: FloatArray, times: FloatArray, settings: CleaningSettings, by_hand: ByHand
) -> Signal:
    series = interval_series(device_beats(signal, raw[0], settings, by_hand.added), times, settings)
    regular = replace(signal, start_seconds=0.0, times=None, channels=signal.channels[:1])
    return regular.with_samples(series, MODALITIES["ibi"].model_rate)


def _short_segments(whole: _Filtered, signal: Signal) -> tuple[str, ...]:
    """Return a note on the samples that no filter could be run over."""
    fraction = float(whole.n_short.sum()) / max(whole.samples.size, 1)
    if not whole.n_slower.any():
        fraction = float(whole.n_screened.sum()) / (signal.n_channels * signal.n_samples)
    if fraction < MIN_REPORTED_FRACTION:
        return ()
    return (f"{signal.name}: {100 * fraction:.1f} % masked, in segments too short to be filtered.",)


def _narrow_band(samples: FloatArray, signal: Signal) -> tuple[str, ...]:
    """Return a note where muscle activity is sampled too slowly for its band: its level depends on the rate then."""
    high = MODALITIES["emg"].band_hz[1]
    if signal.modality != "emg" or high is None or signal.sampling_rate >= 2 * high or not np.isfinite(samples).any():
        return ()
    return (
        f"{signal.name}: sampled at {signal.sampling_rate:g} Hz, so that muscle activity above "
        f"{signal.sampling_rate / 2:g} Hz is not in it; compare it with recordings of the same rate only.",
    )


def _mask_empty(samples: FloatArray, change: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[str, ...]:
    """Mask channels of which the filter left almost nothing, in place: they hold hum or drift, not the signal."""
    modality = MODALITIES[signal.modality]
    if modality.band_hz[0] is None:
        return ()
    smallest = {"ecg": settings.ecg_min_mv, "emg": settings.emg_min_mv}.get(signal.modality, 0.0)
    notes: list[str] = []
    for channel, name in enumerate(signal.channel_names):
        if not np.isfinite(samples[channel]).any():
            continue
        # Medians: the filter's transients at the rims must not pass for a signal. Differences: drift is no fault.
        left = float(np.nanmedian(np.abs(samples[channel])))
        where = f"{signal.name}, channel {name}: masked, after filtering"
        if left <= settings.in_band_share * change[channel]:
            samples[channel] = np.nan
            notes.append(f"{where} almost nothing is left of it.")
        elif float(np.nanstd(samples[channel])) < smallest:
            samples[channel] = np.nan
            notes.append(f"{where} its standard deviation is below {smallest:g} {modality.unit}.")
    return tuple(notes)


def _reference(signal: Signal, broad: FloatArray, losses: Losses, settings: CleaningSettings) -> tuple[str, ...]:
    """Put EEG and its broad version against the average of its good channels, in place; bad ones are masked, named."""
    samples = signal.read()
    faults = bad_channels(samples, signal.sampling_rate, settings)
    is_good = np.array([channel not in faults for channel in range(signal.n_channels)])
    notes = [
        f"{signal.name}, channel {signal.channel_names[channel]}: masked as bad, {reason}."
        for channel, reason in sorted(faults.items())
    ]
    is_shared = sharing_one_reference(signal.channel_names)
    notes += _as_recorded(signal, is_good, is_shared)
    losses.doubts |= doubtful_electrodes(signal, losses.n_seconds, settings)
    samples[~is_good] = np.nan
    losses.charge(BAD_CHANNEL, samples, signal.sampling_rate)
    for one in (samples, broad):
        reference_to_average(one, is_good, is_shared)
    losses.charge(NO_REFERENCE, samples, signal.sampling_rate)
    return tuple(notes)


def _as_recorded(signal: Signal, is_good: BoolArray, is_shared: BoolArray) -> list[str]:
    """Return a note on the channels that cannot be given the reference of the others."""
    if is_shared.all() or is_good.sum() < MIN_CHANNELS_FOR_REFERENCE:
        return []
    names = [name for name, shared in zip(signal.channel_names, is_shared, strict=True) if not shared]
    which = listed(names, 3)
    if not is_shared.any():
        return [
            f"{signal.name}: kept as recorded, without an average reference, because its channels are measured against "
            f"different electrodes ({which})."
        ]
    return [
        f"{signal.name}, channel {which}: kept as recorded and out of the average reference, because the other "
        "channels are measured against another electrode."
    ]
