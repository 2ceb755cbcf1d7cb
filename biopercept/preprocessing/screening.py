"""Screening: samples that no body gave are masked, each under one reason, before any filter sees them.

A filter spreads what it is given: a spike of one sample becomes a wave of seconds. So spikes and jumps are looked for
here, in the samples as they were recorded, at the file's own rate.

References
----------
Kleckner et al. (2018), doi:10.1109/TBME.2017.2758643 (skin conductance: range, slope, and what comes around a fault);
IEC 60601-2-25:2011, 201.12.4 (an electrocardiograph works with electrode offsets of up to 300 mV, and does not take
pulses of a pacemaker, 0.1 to 2 ms long and 2 to 250 mV high, for QRS complexes).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.gaps import (
    BoolArray,
    block_medians,
    bridged,
    local_noise,
    long_runs,
    median_around,
    runs_of,
)
from biopercept.preprocessing.quality import (
    BY_HAND,
    CLIPPED,
    DISCONNECTED,
    FLAT,
    JUMP,
    MISSING,
    OUT_OF_RANGE,
    SPIKE,
    Losses,
)
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

MIN_REPORTED_FRACTION = 0.001
"""Fraction of a channel's samples below which masking is not worth a sentence."""

LARGEST_OFFSET = {"mV": 500.0, "uV": 500_000.0, "a.u.": 1e10}
"""Level beyond which a signal that is high-passed is no signal, by unit.

Electrodes give up to 300 mV, and amplifiers of DC-coupled EEG hold up to 262 mV; raw counts of a converter lie above.
"""

COARSE_HZ = 8.0
"""Rate from which slow signals are looked at in blocks, Hz: nothing that skin does is faster."""

MIN_SPIKE_RATE = 3.0
"""Sampling rate below which one sample may be a whole response of the skin, Hz."""

_MAY_STAND_STILL = frozenset({"temp", "hr", "spo2", "ibi", "acc"})
_SATURATES = frozenset({"ecg", "bvp", "emg", "eeg", "eog"})
_SMOOTH = frozenset({"ecg", "bvp", "eeg", "eog", "resp"})
_TOP_SECONDS, _FEWEST_TOPS, _LONG_TOP_SECONDS = 1.0, 3, 10.0
_SPIKE_SECONDS = 0.6  # a median over this long drops what comes and goes within half of it
_SPIKE_NOISE, _SPIKE_SHARE = 5.0, 0.3
_GLITCH_SECONDS = 0.004  # a pacemaker's pulse of 2 ms is spread to twice that by what limits the band of a recorder
_GLITCH_SIZE, _GLITCH_NOISE = 1.5, 8.0
_NARROW_QRS_HZ, _NARROW_QRS_SIZE = 200.0, 4.0  # below this rate the top of a narrow QRS complex is one sample
_BLOCK_SECONDS, _BREATH_BLOCK_SECONDS, _BLOCKS = 2.5, 10.0, 7
_SAMPLES_AT_ONCE = 1 << 18  # of a long row: what is computed of each sample alone, or beside its neighbours
_MOST_G = 3.0  # nobody lives for long in more, and m/s2 taken for g give 9.8
_SMALLEST_TEMPERATURE_SPIKE = 0.5  # degC: skin does not warm by that and cool again within a second


class Fault(NamedTuple):
    """What is wrong with some samples of a channel: the reason, in words, and which they are."""

    reason: str
    words: str
    is_bad: BoolArray


def screened(
    samples: FloatArray,
    signal: Signal,
    settings: CleaningSettings,
    losses: Losses | None = None,
    by_hand: BoolArray | None = None,
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return a copy of ``samples`` with impossible segments as NaN, and one note per reason; ``losses`` are added to.

    Masked are: samples that a person marked as bad (``by_hand``, of the shape of the samples), before all others;
    samples that are not finite, outside the modality's plausible range, in a flat run
    (no sensor is so still), or in a run at the channel's highest or lowest value (saturation); of skin
    conductance and temperature also spikes, and of skin conductance jumps; of fast signals single samples that leave
    its course (:func:`glitches`). Acceleration that is not in g is masked whole.

    The plausible range of a modality whose filter removes an offset is that around the signal's own slow level, so
    that DC-coupled recordings are not masked for it; the level itself may not lie beyond :data:`LARGEST_OFFSET`.
    """
    screen = Screen(signal, settings, losses)
    return screen.of(samples, by_hand), screen.notes()


class Screen:
    """The screening of one signal as :func:`screened` does it, some channels at a time."""

    def __init__(self, signal: Signal, settings: CleaningSettings, losses: Losses | None = None) -> None:
        self._signal = signal
        self._settings = settings
        self._losses = losses
        self._fractions: dict[str, dict[str, float]] = {}

    def of(self, samples: FloatArray, by_hand: BoolArray | None = None, first: int = 0) -> FloatArray:
        """Return a copy of the samples of channels from the ``first`` on, with impossible segments as NaN."""
        out = samples.copy()
        of_all = _not_in_g(samples, self._signal)
        for place, row in enumerate(out):
            channel, name = first + place, self._signal.channel_names[first + place]
            is_marked = np.zeros(len(row), dtype=bool) if by_hand is None else by_hand[place]
            row[is_marked] = np.nan  # nothing else may be judged by it, as a rail or a usual size
            if self._losses is not None:
                self._losses.add(BY_HAND, is_marked, channel)
            for reason, words, is_bad in of_all or _faults(row.copy(), self._signal, self._settings):
                # A sample is counted under the first reason only; what was marked by hand is told by who applies it.
                is_bad = is_bad & (~is_marked if reason == MISSING else np.isfinite(row))
                fraction = float(is_bad.sum()) / max(len(row), 1)
                row[is_bad] = np.nan
                if self._losses is not None:
                    self._losses.add(reason, is_bad, channel)
                if fraction >= MIN_REPORTED_FRACTION:
                    self._fractions.setdefault(words, {})[name] = fraction
        return out

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each reason, about all channels that were screened."""
        return tuple(_note(self._signal, words, by_channel) for words, by_channel in self._fractions.items())


def _note(signal: Signal, words: str, by_channel: dict[str, float]) -> str:
    """Return one sentence for all the channels with the same fault."""
    worst = 100 * max(by_channel.values())
    if signal.n_channels == 1:
        return f"{signal.name}: {worst:.1f} % masked, {words}."
    if len(by_channel) == signal.n_channels:
        return f"{signal.name}, all {signal.n_channels} channels: up to {worst:.1f} % masked, {words}."
    return f"{signal.name}, channel {', '.join(by_channel)}: up to {worst:.1f} % masked, {words}."


def _faults(row: FloatArray, signal: Signal, settings: CleaningSettings) -> list[Fault]:
    modality = MODALITIES[signal.modality]
    low, high = modality.plausible
    is_finite = np.isfinite(row)
    implausible, around = _implausible(row, signal)
    faults = [
        Fault(MISSING, MISSING, ~is_finite),
        Fault(OUT_OF_RANGE, f"outside the plausible {low:g} to {high:g} {modality.unit}{around}", implausible),
    ]
    usable = np.where(is_finite & ~implausible, row, np.nan)
    if not signal.is_regular:
        return faults
    rate = signal.sampling_rate
    if signal.modality == "eda":
        is_off = _below(usable, settings.eda_min_us)
        faults.append(Fault(DISCONNECTED, f"below {settings.eda_min_us:g} uS (electrode off the skin)", is_off))
        usable = np.where(is_off, np.nan, usable)
    smallest = {"eda": settings.scr_min_us, "temp": _SMALLEST_TEMPERATURE_SPIKE}.get(signal.modality)
    if smallest is not None:
        is_spike = spikes(usable, rate, smallest)
        faults.append(Fault(SPIKE, "spikes that come and go within 0.3 s", is_spike))
        usable = np.where(is_spike, np.nan, usable)
    if signal.modality in _SMOOTH:
        is_glitch = glitches(usable, rate, signal.modality)
        faults.append(Fault(SPIKE, "single samples that leave its course", is_glitch))
        usable = np.where(is_glitch, np.nan, usable)
    if signal.modality == "eda":
        is_jump = jumps(usable, rate, settings)
        faults.append(Fault(JUMP, f"jumps of more than {settings.eda_max_slope:g} uS/s", is_jump))
        usable = np.where(is_jump, np.nan, usable)
    if signal.modality not in _MAY_STAND_STILL:
        slow = {"resp": settings.resp_flat_seconds, "eda": settings.eda_flat_seconds}
        seconds = slow.get(signal.modality, settings.flat_seconds)
        faults.append(Fault(FLAT, f"flat for {seconds:g} s or more", _flat(usable, round(seconds * rate))))
    if signal.modality in _SATURATES:
        n = round(settings.clip_seconds * rate)
        faults.append(
            Fault(CLIPPED, f"at the rail for {settings.clip_seconds:g} s or more", _clipped(usable, max(n, 4)))
        )
    if signal.modality == "eda":
        words = f"at its highest value for {_TOP_SECONDS:g} s or more, again and again (the device's upper limit)"
        faults.append(Fault(CLIPPED, words, _cut_off_at_top(usable, rate)))
    return faults


def _not_in_g(samples: FloatArray, signal: Signal) -> list[Fault]:
    """Return the fault of acceleration that cannot be in g: a body at rest measures 1 g, or 0 less gravity."""
    if signal.modality != "acc":
        return []
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.sqrt(np.square(samples).sum(axis=0))
    lengths = lengths[np.isfinite(lengths)]
    usual = float(np.median(lengths)) if len(lengths) else 0.0
    if usual <= _MOST_G:
        return []
    words = (
        f"half of the time more than {usual:.3g} g where a body at rest measures 1 g; say its unit (m/s2, mg): "
        "of a file alone with --unit NAME=UNIT, in a study under 'signals' in study.yaml"
    )
    return [Fault(OUT_OF_RANGE, words, np.ones(samples.shape[1], dtype=bool))]


def _implausible(row: FloatArray, signal: Signal) -> tuple[BoolArray, str]:
    """Return where a row is outside its modality's range, and what that range is around."""
    modality = MODALITIES[signal.modality]
    low, high = modality.plausible
    edge = modality.band_hz[0]
    with np.errstate(invalid="ignore"):
        if edge is None or not signal.is_regular:
            return np.asarray((row < low) | (row > high)), ""
        is_wild = np.abs(row) > LARGEST_OFFSET[modality.unit]
        usable = np.where(np.isfinite(row) & ~is_wild, row, np.nan)
        away = usable - slow_level(usable, signal.sampling_rate, max(1.0 / edge, 1.0))
        return np.asarray(is_wild | (away < low) | (away > high)), " around its level"


def slow_level(row: FloatArray, sampling_rate: float, block_seconds: float) -> FloatArray:
    """Return the level that a high-pass would remove: medians of blocks, joined by straight lines; NaN of nothing.

    ``row`` is (n_samples,), NaN where missing. Medians, because a level that followed a spike would hide it.
    """
    n = max(round(block_seconds * sampling_rate), 1)
    step = max(n // 64, 1)  # some samples tell the median of a block
    middles = block_medians(row[::step], max(n // step, 1))
    at = (np.arange(len(middles)) + 0.5) * max(n // step, 1) * step - 0.5
    known = np.isfinite(middles)
    if not known.any():
        return np.full(len(row), np.nan)
    return np.interp(np.arange(len(row)), at[known], middles[known])


def spikes(row: FloatArray, sampling_rate: float, smallest: float) -> BoolArray:
    """Return where a slow signal leaves its course and is back within 0.3 s (or the next sample).

    A spike is further from the median of the 0.6 s around it than ``smallest``, than five times the noise there, and
    than 0.3 of what that median itself changes over twice the time: the peak of a response of the skin is not.
    """
    none = np.zeros(len(row), dtype=bool)
    if sampling_rate < MIN_SPIKE_RATE or np.isfinite(row).sum() < 5:
        return none
    n = max(int(sampling_rate // COARSE_HZ), 1)
    coarse = bridged(block_medians(row, n))
    size = max(round(_SPIKE_SECONDS * sampling_rate / n) | 1, 3)
    middle = np.median(_around(coarse, size, "edge"), axis=1)
    around = _around(middle, 2 * size + 1, "symmetric")
    change = around.max(axis=1) - around.min(axis=1)
    at = np.arange(len(coarse)) * n + (n - 1) / 2
    index = np.arange(len(row))
    away = row - np.interp(index, at, middle)
    bound = np.maximum(smallest, _SPIKE_NOISE * local_noise(row, sampling_rate))
    bound = np.maximum(bound, _SPIKE_SHARE * np.interp(index, at, change))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(away) > bound)


def _around(row: FloatArray, size: int, beyond: Literal["edge", "symmetric"]) -> FloatArray:
    """Return the ``size`` (odd) values around each, (n, size); without the import of scipy."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(row, size // 2, mode=beyond), size)


def glitches(row: FloatArray, sampling_rate: float, modality: str) -> BoolArray:
    """Return which samples of a fast signal leave its course alone, or with what follows within 4 ms: (n_samples,).

    They are further from the median of those around than 1.5 times what the signal without them usually spans (its
    range in blocks of 2.5 s, of 10 s for breathing; the median of seven); of an ECG below 200 Hz, by four times, for
    the top of a narrow QRS complex may be one sample there. Nor is anything a glitch within eight times the noise.
    """
    n_glitch = max(int(_GLITCH_SECONDS * sampling_rate), 1)
    if np.isfinite(row).sum() < 4 * n_glitch + 5:
        return np.zeros(len(row), dtype=bool)
    samples = bridged(row)
    calm = _median_of_three(samples) if n_glitch == 1 else _median(samples, 2 * n_glitch + 1)
    n_block = max(round((_BREATH_BLOCK_SECONDS if modality == "resp" else _BLOCK_SECONDS) * sampling_rate), 3)
    size = _NARROW_QRS_SIZE if modality == "ecg" and sampling_rate < _NARROW_QRS_HZ else _GLITCH_SIZE
    range_of_blocks = median_around(_block_highest(calm, n_block) + _block_highest(-calm, n_block), _BLOCKS)
    np.subtract(samples, calm, out=samples)
    noise_of_blocks = median_around(block_medians(np.abs(samples, out=samples), n_block), _BLOCKS)
    out = np.zeros(len(row), dtype=bool)
    for start in range(0, len(row), _SAMPLES_AT_ONCE):
        piece = slice(start, min(start + _SAMPLES_AT_ONCE, len(row)))
        block = np.arange(piece.start, piece.stop) // n_block
        bound = size * range_of_blocks[np.minimum(block, len(range_of_blocks) - 1)]
        noise = noise_of_blocks[np.minimum(block, len(noise_of_blocks) - 1)]
        bound = np.maximum(bound, _GLITCH_NOISE * 1.4826 * noise)
        with np.errstate(invalid="ignore"):
            out[piece] = (bound > 0) & (np.abs(row[piece] - calm[piece]) > bound)
    return out


def _median_of_three(samples: FloatArray) -> FloatArray:
    out = samples.copy()
    for start in range(1, len(samples) - 1, _SAMPLES_AT_ONCE):
        stop = min(start + _SAMPLES_AT_ONCE, len(samples) - 1)
        before, after = samples[start - 1 : stop - 1], samples[start + 1 : stop + 1]
        out[start:stop] = np.clip(samples[start:stop], np.minimum(before, after), np.maximum(before, after))
    return out


def _median(samples: FloatArray, size: int) -> FloatArray:
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(samples, size, mode="nearest"), dtype=np.float64)


def _block_highest(samples: FloatArray, n_block: int) -> FloatArray:
    """Return the highest sample of each block; a short block at the end belongs to the one before."""
    n_blocks = max(len(samples) // n_block, 1)
    return np.asarray(np.maximum.reduceat(samples, np.arange(n_blocks) * n_block), dtype=np.float64)


def jumps(row: FloatArray, sampling_rate: float, settings: CleaningSettings) -> BoolArray:
    """Return where skin conductance changes faster than ``eda_max_slope``, with so much around that no filter spans it.

    The slope is that of blocks of an eighth of a second, so that noise of a fast recording is no slope.
    """
    n = max(int(sampling_rate // COARSE_HZ), 1)
    out = np.zeros(len(row), dtype=bool)
    if np.isfinite(row).sum() < 2:
        return out
    level = bridged(block_medians(row, n))
    margin = int(0.5 * settings.slow_bridge_seconds * sampling_rate)
    for block in np.flatnonzero(np.abs(np.diff(level)) * sampling_rate / n > settings.eda_max_slope):
        out[max(block * n - margin, 0) : (block + 2) * n + margin] = True
    return out


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


def _cut_off_at_top(row: FloatArray, sampling_rate: float) -> BoolArray:
    """Return where a slow signal lies at its highest value because the device gives no higher one.

    The top of one response may be flat for some seconds in a coarse converter; several tops at the very same value, or
    a long one, are a limit.
    """
    if not np.isfinite(row).any():
        return np.zeros(len(row), dtype=bool)
    with np.errstate(invalid="ignore"):
        tops = long_runs(row >= np.nanmax(row), max(round(_TOP_SECONDS * sampling_rate), 3))
    lengths = [(stop - start) / sampling_rate for start, stop in runs_of(tops)]
    is_limit = len(lengths) >= _FEWEST_TOPS or max(lengths, default=0.0) >= _LONG_TOP_SECONDS
    return tops if is_limit else np.zeros(len(row), dtype=bool)


def _clipped(row: FloatArray, min_samples: int) -> BoolArray:
    """Return the runs at the row's own highest or lowest value."""
    if not np.isfinite(row).any():
        return np.zeros(len(row), dtype=bool)
    with np.errstate(invalid="ignore"):
        at_top = row >= np.nanmax(row)
        at_bottom = row <= np.nanmin(row)
    return long_runs(at_top, min_samples) | long_runs(at_bottom, min_samples)
