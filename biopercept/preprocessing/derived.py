"""Derived series: what the body did, at 4 Hz, computed from the cleaned signals of one recording.

Every series starts at second zero and covers the whole recording; it is NaN wherever its source
gives no ground for a value. Where several signals could give one series, the choice is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.preprocessing import variability as beat_series
from biopercept.preprocessing.cardiac import (
    Beats,
    are_of_packets,
    bvp_beats,
    checked_against_device,
    device_beats,
    ecg_beats,
    no_beats,
)
from biopercept.preprocessing.corrections import ByHand
from biopercept.preprocessing.eeg import BANDS, band_power
from biopercept.preprocessing.electrodermal import (
    MIN_RESPONSE_RATE,
    SkinResponses,
    log_tonic,
    no_responses,
    skin_responses,
    tonic_and_phasic,
)
from biopercept.preprocessing.gaps import BoolArray, band_fits, filtered, moving_mean, on_grid
from biopercept.preprocessing.quality import Losses
from biopercept.preprocessing.respiration import (
    MIN_BREATHING_RATE,
    Breaths,
    breaths_in,
    no_breaths,
    rate_and_amplitude,
)
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import Channel, FloatArray, Signal

MOVEMENT_HZ = (0.5, 15.0)
"""Band of movement: below lies gravity's slow turn, above lies nothing a wrist does."""

LOWEST_ACTIVITY = 1e-3
"""Added before the logarithm, g: the resolution of a wearable's sensor is ten times coarser."""

LET_GO = frozenset({"eeg", "eog", "emg", "acc", "temp", "spo2"})
"""Modalities in which nothing is looked for at the file's own rate: an hour of EEG takes gigabytes there."""

DEVICE_DISAGREES = "the device's own heart rate and the beats disagree"
"""Begins what a note says of a recording in which one of the two is wrong."""

_MEAN_SECONDS = 1.0
_COMPARED_SECONDS = 10.0
_FEWEST_COMPARED = 3
_CLEARLY_APART = 10.0  # 1/min: a device's rate lags and is smoothed, and differs by 1 to 5 from that of the same beats
_MENTIONED_SHARE = 0.01
LOWEST_ENVELOPE = 1e-6
"""Added before the logarithm, mV: far below any amplifier's noise."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One measured signal on its way: screened at its own rate, and cleaned as it will be stored.

    Of :data:`LET_GO` ``screened`` has no samples; ``n_screened`` are how many of each channel it left. ``losses`` are
    what was lost on the way, ``by_hand`` the corrections of the signal. ``broad`` is EEG as cleaned, but before it is
    limited to its band: what band power is measured in. ``hum`` is the power of mains hum of each second, (n_channels,
    n_seconds), by each frequency that it may have.
    """

    original: Signal
    screened: FloatArray
    n_screened: FloatArray
    cleaned: Signal
    losses: Losses
    broad: FloatArray | None = None
    by_hand: ByHand | None = None
    hum: Sequence[FloatArray] = ()

    @property
    def has_beats_by_hand(self) -> bool:
        """Return whether a person added or removed beats."""
        return self.by_hand is not None and self.by_hand.has_beats


@dataclass
class Derived:
    """What was derived from one recording; filled group by group."""

    signals: list[Signal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beats: Beats = field(default_factory=no_beats)
    responses: SkinResponses = field(default_factory=no_responses)
    breaths: Breaths = field(default_factory=no_breaths)
    is_understood: dict[str, BoolArray] = field(default_factory=dict)
    """By name of a measured signal: where, on the grid, the rhythm it should carry was found."""
    beats_of: dict[str, Beats] = field(default_factory=dict)
    """By name of a measured signal: the beats that were found in it, used or not."""
    used_channel: dict[str, int] = field(default_factory=dict)
    """By name of a measured signal: the channel that beats, responses or breaths were looked for in."""

    def add(self, modality: str, series: FloatArray, source: str, channels: tuple[Channel, ...] | None = None) -> None:
        """Append one series, unless it has no value at all, which is noted."""
        series = np.atleast_2d(series)
        low, high = MODALITIES[modality].plausible
        with np.errstate(invalid="ignore"):
            series = np.where((series >= low) & (series <= high), series, np.nan)
        if not np.isfinite(series).any():
            self.notes.append(f"{modality}: not derived, {source} gives no usable value.")
            return
        unit, channels = MODALITIES[modality].unit, channels or (Channel(modality),)
        signal = Signal.from_samples(modality, modality, unit, DERIVED_RATE, series, channels)
        self.signals.append(replace(signal, recognised_by="derived", derived_from=source))


def derive(measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> Derived:
    """Return every series that the measured signals allow, on grid ``times`` (seconds, from zero, 4 Hz)."""
    derived = Derived()
    _heart(derived, measured, times, settings)
    _skin(derived, measured, times, settings)
    _breathing(derived, measured, times, settings)
    _muscle(derived, measured, times, settings)
    _movement(derived, measured, times, settings)
    _brain(derived, measured, times, settings)
    return derived


def _of(measured: list[Measured], modality: str) -> list[Measured]:
    return [one for one in measured if one.original.modality == modality]


def _best(derived: Derived, candidates: list[Measured], purpose: str) -> tuple[Measured, int] | None:
    """Return the signal and channel with the largest valid fraction (the first of equals); note the choice."""
    fractions = [
        (float(n) / one.original.sampling_rate, -i, -c)
        for i, one in enumerate(candidates)
        for c, n in enumerate(one.n_screened)
    ]
    if not fractions:
        return None
    _, i, c = max(fractions)
    one = candidates[-i]
    derived.used_channel[one.original.name] = -c
    if len(fractions) > 1:
        derived.notes.append(
            f"{purpose}: taken from {one.original.name}, channel {one.original.channel_names[-c]}, "
            f"the most complete of {len(fractions)} channels."
        )
    return one, -c


def _is_measured(one: Measured, channel: int, times: FloatArray) -> BoolArray:
    """Return whether the screened channel has a sample at each time."""
    index = np.round((times - one.original.start_seconds) * one.original.sampling_rate).astype(np.int64)
    inside = (index >= 0) & (index < one.screened.shape[1])
    out = np.zeros(len(times), dtype=bool)
    out[inside] = np.isfinite(one.screened[channel, index[inside]])
    return out


@dataclass(frozen=True, eq=False)
class _HeartSource:
    """Beats of one signal, where on the grid the signal was measured, and whether a person corrected the beats."""

    beats: Beats
    is_measured: BoolArray
    is_corrected: bool


def _of_heart(measured: list[Measured], modality: str) -> list[Measured]:
    """Return the signals of a modality; those alone of which somebody named one when they corrected beats."""
    signals = _of(measured, modality)
    return [one for one in signals if one.by_hand is not None and one.by_hand.names_beats] or signals


def _heart(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    """Heart rate from ECG, else pulse checked by the device's rate; holes from device intervals, then device rate.

    Beats that a person corrected go before all others.
    """
    device_rate, device_name = _device_rate(measured, times)
    layers: list[tuple[FloatArray, str]] = []
    sources: list[_HeartSource] = []
    compared: list[tuple[FloatArray, str]] = []
    amplitude: FloatArray | None = None
    ecg = _best(derived, _of_heart(measured, "ecg"), "heart_rate")
    if ecg is not None:
        one, channel = ecg
        beats, notes = ecg_beats(one.screened[channel], one.original, settings, one.by_hand)
        derived.notes.extend(notes)
        is_measured = _is_measured(one, channel, times)
        sources.append(_HeartSource(beats, is_measured, one.has_beats_by_hand))
        layers.append((beat_series.rate_series(beats, is_measured, times, settings), one.original.name))
        derived.is_understood[one.original.name] = np.isfinite(layers[-1][0])
        derived.beats_of[one.original.name] = beats
    bvp = _best(derived, _of_heart(measured, "bvp"), "pulse_amplitude")
    if bvp is not None:
        one, channel = bvp
        beats, notes = bvp_beats(one.screened[channel], one.original, settings, one.by_hand)
        derived.notes.extend(notes)
        is_measured = _is_measured(one, channel, times)
        compared.append((beat_series.rate_series(beats, is_measured, times, settings), one.original.name))
        beats = checked_against_device(beats, device_rate, times, settings)
        sources.append(_HeartSource(beats, is_measured, one.has_beats_by_hand))
        layers.append((beat_series.rate_series(beats, is_measured, times, settings), one.original.name))
        derived.is_understood[one.original.name] = np.isfinite(layers[-1][0])
        derived.beats_of[one.original.name] = beats
        amplitude = beat_series.amplitude_series(beats, is_measured, times, settings)
    for one in _of(measured, "ibi"):
        added = None if one.by_hand is None else one.by_hand.added
        beats = device_beats(one.original, one.screened[0], settings, added)
        if are_of_packets(one.original.sample_times(), one.screened[0]):
            derived.notes.append(
                f"{one.original.name}: its times are those of packets of intervals and not of beats; beats were "
                "placed by adding up the intervals."
            )
        is_measured = np.ones(len(times), dtype=bool)  # a device's silence shows as a hole between its beats
        sources.append(_HeartSource(beats, is_measured, one.has_beats_by_hand))
        layers.append((beat_series.rate_series(beats, is_measured, times, settings), one.original.name))
    corrected = [source.beats.source for source in sources if source.is_corrected]
    layers.sort(key=lambda layer: layer[1] not in corrected)
    if device_name:
        compared += [layer for layer in layers if layer[1] not in [name for _, name in compared]]
        derived.notes.extend(_disagreements(device_rate, device_name, compared))
        layers.append((device_rate, device_name))
    _add_rate(derived, layers, times, device_name if sources else "")
    _add_variability(derived, sources, times, settings, has_ecg=ecg is not None)
    if bvp is not None and amplitude is not None:
        derived.add("pulse_amplitude", amplitude, bvp[0].original.name)


def _device_rate(measured: list[Measured], times: FloatArray) -> tuple[FloatArray, str]:
    for one in _of(measured, "hr"):
        signal = one.original
        return on_grid(one.screened[:1], signal.sampling_rate, signal.start_seconds, times)[0], signal.name
    return np.full(len(times), np.nan), ""


def _disagreements(device_rate: FloatArray, name: str, compared: list[tuple[FloatArray, str]]) -> Iterator[str]:
    """Give a note for each signal whose beats, before any is dropped for it, contradict the device's own rate."""
    of_device = _means_of_parts(device_rate)
    for rate, source in compared:
        apart = np.abs(_means_of_parts(rate) - of_device)
        apart = apart[np.isfinite(apart)]
        if len(apart) >= _FEWEST_COMPARED and (middle := float(np.median(apart))) > _CLEARLY_APART:
            yield (
                f"heart_rate: {DEVICE_DISAGREES}: {name} and the beats of {source} differ by {middle:.0f} 1/min in the "
                f"median of {len(apart)} windows of {_COMPARED_SECONDS:g} s; one of the two is wrong, look at both."
            )


def _means_of_parts(series: FloatArray) -> FloatArray:
    """Return the mean of each 10 s of a series of the grid; NaN where less than half of them is known."""
    n = round(_COMPARED_SECONDS * DERIVED_RATE)
    parts = series[: len(series) // n * n].reshape(-1, n)
    n_known = np.isfinite(parts).sum(axis=1)
    is_enough = 2 * n_known >= n
    means = np.divide(np.nansum(parts, axis=1), n_known, out=np.full(len(parts), np.nan), where=is_enough)
    return np.asarray(means, dtype=np.float64)


def _add_rate(
    derived: Derived, layers: list[tuple[FloatArray, str]], times: FloatArray, device_beside_beats: str
) -> None:
    """Add heart rate: the first layer, its holes filled from the next, and so on; note what a device fills."""
    if not layers:
        return
    rate = np.full(len(times), np.nan)
    used: list[str] = []
    for series, name in layers:
        is_filled = np.isnan(rate) & np.isfinite(series)
        if is_filled.any():
            rate[is_filled] = series[is_filled]
            used.append(name)
        share = is_filled.sum() / max(np.isfinite(rate).sum(), 1)
        if name == device_beside_beats and share >= _MENTIONED_SHARE:
            derived.notes.append(
                f"heart_rate: {100 * share:.0f} % of it is {name}, the device's own, where no beats were accepted."
            )
    derived.add("heart_rate", rate, "+".join(used) or "+".join(name for _, name in layers))


def _add_variability(
    derived: Derived,
    sources: list[_HeartSource],
    times: FloatArray,
    settings: CleaningSettings,
    *,
    has_ecg: bool,
) -> None:
    """Add beat-to-beat variability from one source alone: ECG, else, or where that gives far more, the richest.

    Beats that a person corrected go before both.
    """
    if not sources:
        return
    corrected = [source for source in sources if source.is_corrected]
    candidates = corrected or sources
    most = max(candidates, key=_n_accepted)
    best = candidates[0] if has_ecg or corrected else most
    if not corrected and 2 * _n_accepted(best) < _n_accepted(most):
        derived.notes.append(
            f"heart_variability: taken from {most.beats.source}, which has {_n_accepted(most)} accepted intervals, "
            f"and not from {best.beats.source}, which has {_n_accepted(best)}."
        )
        best = most
    if corrected and len(sources) > 1:
        derived.notes.append(f"heart_variability: taken from {best.beats.source}, whose beats were corrected by hand.")
    derived.beats = best.beats
    variability = beat_series.variability_series(derived.beats, best.is_measured, times, settings)
    derived.add("heart_variability", variability, derived.beats.source)


def _n_accepted(source: _HeartSource) -> int:
    return int(np.isfinite(source.beats.intervals).sum())


def _skin(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    best = _best(derived, _of(measured, "eda"), "tonic and phasic")
    if best is None:
        return
    one, channel = best
    signal, original = one.cleaned, one.original
    tonic, phasic = tonic_and_phasic(signal.read()[channel], signal.sampling_rate, settings)
    derived.responses = skin_responses(one.screened[channel], original.sampling_rate, original.start_seconds, settings)
    derived.notes.extend(_skin_notes(derived.responses, original, settings))
    both = on_grid(np.stack([log_tonic(tonic), phasic]), signal.sampling_rate, signal.start_seconds, times)
    derived.add("tonic", both[0], signal.name)
    derived.add("phasic", both[1], signal.name)


def _skin_notes(responses: SkinResponses, signal: Signal, settings: CleaningSettings) -> tuple[str, ...]:
    """Return a note where responses were not looked for, or small ones cannot be told from noise."""
    if signal.sampling_rate < MIN_RESPONSE_RATE:
        return (
            f"{signal.name}: no skin responses were looked for, because it is sampled at {signal.sampling_rate:g} Hz "
            f"and at least {MIN_RESPONSE_RATE:g} Hz is needed.",
        )
    if responses.smallest > 1.5 * settings.scr_min_us:
        return (
            f"{signal.name}: skin responses below {responses.smallest:.2g} uS are not counted, "
            "they cannot be told from its noise.",
        )
    return ()


def _breathing(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    best = _best(derived, _of(measured, "resp"), "resp_rate")
    if best is None:
        return
    one, channel = best
    signal = one.cleaned
    derived.breaths, is_breathing = breaths_in(
        signal.read()[channel], signal.sampling_rate, signal.start_seconds, settings
    )
    if one.original.sampling_rate < MIN_BREATHING_RATE:
        derived.notes.append(
            f"{signal.name}: no breaths were looked for, because it is sampled at {one.original.sampling_rate:g} Hz "
            f"and at least {MIN_BREATHING_RATE:g} Hz is needed."
        )
    rate, amplitude = rate_and_amplitude(derived.breaths, _mostly(is_breathing, signal, times), times)
    derived.is_understood[signal.name] = np.isfinite(rate)
    derived.add("resp_rate", rate, signal.name)
    derived.add("resp_amplitude", amplitude, signal.name)


def _mostly(is_true: BoolArray, signal: Signal, times: FloatArray) -> BoolArray:
    """Return what holds at more than half of a signal's samples in the quarter of a second around each time."""
    total = np.concatenate(([0], np.cumsum(is_true)))
    at = (times - signal.start_seconds) * signal.sampling_rate
    reach = max(0.5 * signal.sampling_rate / DERIVED_RATE, 0.5)
    first, stop = (np.clip(np.ceil(edge).astype(np.int64), 0, len(is_true)) for edge in (at - reach, at + reach))
    return np.asarray(2 * (total[stop] - total[first]) > np.maximum(stop - first, 1), dtype=bool)


def _muscle(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    parts = [
        (log_envelope(one.cleaned.read(), one.cleaned.sampling_rate, times, one.cleaned.start_seconds, settings), one)
        for one in _of(measured, "emg")
    ]
    if parts:
        channels = tuple(channel for _, one in parts for channel in one.cleaned.channels)
        source = "+".join(one.cleaned.name for _, one in parts)
        derived.add("emg_envelope", np.concatenate([series for series, _ in parts]), source, channels)


def _movement(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    candidates = _of(measured, "acc")
    if not candidates:
        return
    best = _best(Derived(), candidates, "activity")
    one = best[0] if best is not None else candidates[0]
    # Axes may come as one signal of three channels or as three signals of one device and rate.
    same = [c for c in candidates if c.original.n_channels == 1] if one.original.n_channels == 1 else [one]
    signal = one.cleaned
    if not band_fits(signal.sampling_rate, MOVEMENT_HZ[0]):
        derived.notes.append(f"activity: not derived from {signal.name}, {signal.sampling_rate:g} Hz is too low.")
        return
    axes = [c.cleaned.read() for c in same if _same_clock(c.cleaned, signal)]
    activity = log_activity(np.concatenate(axes), signal.sampling_rate, times, signal.start_seconds, settings)
    derived.add("activity", activity, "+".join(c.cleaned.name for c in same if _same_clock(c.cleaned, signal)))


def _same_clock(a: Signal, b: Signal) -> bool:
    return (a.sampling_rate, a.start_seconds, a.n_samples) == (b.sampling_rate, b.start_seconds, b.n_samples)


def _brain(derived: Derived, measured: list[Measured], times: FloatArray, settings: CleaningSettings) -> None:
    signals = [(one.cleaned, one.broad) for one in _of(measured, "eeg")]
    for modality, band in BANDS.items():
        series: list[FloatArray] = []
        used: list[Signal] = []
        for signal, broad in signals:
            samples = signal.read() if broad is None else broad
            power = band_power(samples, signal.sampling_rate, band, times, signal.start_seconds, settings)
            if power is None:
                derived.notes.append(
                    f"{modality}: not derived from {signal.name}, {signal.sampling_rate:g} Hz is too low."
                )
                continue
            series.append(power)
            used.append(signal)
        if used:
            channels = tuple(channel for signal in used for channel in signal.channels)
            derived.add(modality, np.concatenate(series), "+".join(signal.name for signal in used), channels)


def log_activity(
    acceleration: FloatArray, sampling_rate: float, times: FloatArray, start_seconds: float, settings: CleaningSettings
) -> FloatArray:
    """Return the log of movement intensity at grid ``times``, log g: shape (1, n_times).

    The root mean square, over one second, of the length of the band-passed acceleration.

    ``acceleration`` is (n_axes, n_samples) in g, NaN where masked; the band's upper edge gives way to what the rate
    allows.
    """
    low, high = MOVEMENT_HZ
    moving = filtered(acceleration, sampling_rate, low, high, bridge_seconds=settings.bridge_seconds, order=2)
    power = moving_mean(np.square(moving).sum(axis=0, keepdims=True), round(_MEAN_SECONDS * sampling_rate))
    activity = np.log(np.sqrt(np.maximum(power, 0.0)) + LOWEST_ACTIVITY)
    return on_grid(activity, sampling_rate, start_seconds, times)


def log_envelope(
    cleaned: FloatArray, sampling_rate: float, times: FloatArray, start_seconds: float, settings: CleaningSettings
) -> FloatArray:
    """Return the log of the moving root mean square at grid ``times``, log mV: (n_channels, n_times).

    ``cleaned`` is (n_channels, n_samples), band-passed, mV, NaN where masked.
    """
    power = moving_mean(np.square(cleaned), round(settings.emg_envelope_seconds * sampling_rate))
    envelope = np.log(np.sqrt(np.maximum(power, 0.0)) + LOWEST_ENVELOPE)
    return on_grid(envelope, sampling_rate, start_seconds, times)
