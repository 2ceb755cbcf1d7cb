"""Screening: samples that no body gave are masked before any filter sees them, each with its reason."""

from __future__ import annotations

import numpy as np

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.gaps import BoolArray, long_runs
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

_MAY_STAND_STILL = frozenset({"temp", "hr", "spo2", "ibi", "acc"})
_SATURATES = frozenset({"ecg", "bvp", "emg", "eeg", "eog"})
MISSING = "missing"
MIN_REPORTED_SHARE = 0.001
"""Share of a channel's samples below which masking is not worth a sentence."""


def screened(samples: FloatArray, signal: Signal, settings: CleaningSettings) -> tuple[FloatArray, tuple[str, ...]]:
    """Return a copy of ``samples`` with impossible stretches as NaN, and one note per reason.

    Masked are: samples that are not finite, outside the modality's plausible range, in a flat run
    (no sensor is so still), or in a run at the channel's highest or lowest value (saturation).

    Parameters
    ----------
    samples : array, shape (n_channels, n_samples)
        In the modality's unit.
    signal : Signal
        Gives modality, rate and channel names.
    settings : CleaningSettings
        Lengths of runs.
    """
    out = samples.copy()
    shares: dict[str, dict[str, float]] = {}
    for channel, name in enumerate(signal.channel_names):
        row = out[channel]
        for reason, is_bad in _faults(row.copy(), signal, settings):
            if reason != MISSING:
                is_bad = is_bad & np.isfinite(row)  # a sample is counted under the first reason only
            share = float(is_bad.mean())
            row[is_bad] = np.nan
            if share >= MIN_REPORTED_SHARE:
                shares.setdefault(reason, {})[name] = share
    return out, tuple(_note(signal, reason, by_channel) for reason, by_channel in shares.items())


def _note(signal: Signal, reason: str, by_channel: dict[str, float]) -> str:
    """Return one sentence for all the channels that share a fault."""
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
