"""Skin responses beside planted ones: a grid of sampling rates and difficulties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biopercept.preprocessing.cleaning import CleanRecording, clean_recording
from biopercept.recording import Recording, Signal
from measurements.planted_signals import PEAK_SECONDS, Samples, half_recovery_seconds, skin_of

SAMPLING_RATES = (4, 8, 15.4, 32, 64, 128, 256, 700)
SECONDS = 300.0
MATCH_SECONDS = 1.5
"""A peak found this near a planted one is that response."""


@dataclass(frozen=True)
class Difficulty:
    """What is planted and what is done to it; heights and noise in uS, the rise of the level in uS a minute."""

    height: float = 0.3
    every_seconds: float = 20.0
    noise: float = 0.0005
    rise: float = 0.0
    spike: float = 0.0
    lost_every: int = 0
    lost: tuple[tuple[float, float], ...] = ()


DIFFICULTIES: dict[str, Difficulty] = {
    "nothing": Difficulty(),
    "heights of 0.03 uS": Difficulty(height=0.03),
    "heights of 3 uS": Difficulty(height=3.0),
    "one every 8 s": Difficulty(every_seconds=8.0),
    "level rises 0.6 uS a minute": Difficulty(rise=0.6),
    "level rises 3 uS a minute": Difficulty(rise=3.0),
    "level falls 0.6 uS a minute, from 5 uS": Difficulty(rise=-0.6),
    "level falls 3 uS a minute, from 17 uS": Difficulty(rise=-3.0),
    "noise of 0.01 uS": Difficulty(noise=0.01),
    "20 single samples 0.5 uS too high": Difficulty(spike=0.5),
    "20 single samples 5 uS too high": Difficulty(spike=5.0),
    "every 10th sample lost": Difficulty(lost_every=10),
    "gaps of 0.5, 1.5 and 8 s": Difficulty(lost=((40.0, 40.5), (60.0, 61.5), (100.0, 108.0))),
    "spikes, losses and a rising level": Difficulty(rise=0.6, spike=0.5, lost_every=10, noise=0.002),
}


@dataclass(frozen=True)
class Outcome:
    """Responses missed and false, and the median errors of those found: percent of height, seconds."""

    missed: int
    extra: int
    height: float
    onset: float
    rise: float
    half_recovery: float


def outcome(rate: float, difficulty: Difficulty) -> Outcome:
    """Return what is measured of planted responses that were sampled at ``rate``."""
    onsets = np.arange(12.0, SECONDS - 10.0, difficulty.every_seconds) + 0.13
    measured = cleaned(damaged(onsets, rate, difficulty), rate).responses
    seen = np.array([not any(a - 3 <= t <= b + 1 for a, b in difficulty.lost) for t in onsets])
    distance = np.abs(measured.times[:, None] - onsets[None] - PEAK_SECONDS)
    is_true = distance.min(axis=1) <= MATCH_SECONDS
    missed = int((distance.min(axis=0)[seen] > MATCH_SECONDS).sum()) if len(measured) else int(seen.sum())
    nearest = distance.argmin(axis=1)[is_true]
    return Outcome(
        missed,
        int((~is_true).sum()),
        100.0 * _error(measured.amplitudes[is_true] / true_heights(onsets, difficulty)[nearest], 1.0),
        _error(measured.onsets[is_true], onsets[nearest]),
        _error(measured.rise_seconds[is_true], PEAK_SECONDS),
        _error(measured.half_recovery_seconds[is_true], half_recovery_seconds()),
    )


def _error(values: Samples, truth: float | Samples) -> float:
    """Return the median error of the values that are given; NaN of none."""
    off = (values - truth)[np.isfinite(values)]
    return float(np.median(off)) if len(off) else np.nan


def true_heights(onsets: Samples, difficulty: Difficulty) -> Samples:
    """Return the height of each planted response from its onset to its peak, uS.

    By this convention what earlier responses lose in the time, and the fall of a level, are part of it.
    """
    fine = skin_of(onsets, difficulty.height, SECONDS, 100.0, min(difficulty.rise, 0.0))
    starts = np.round(100.0 * onsets).astype(int)
    return np.array([fine[start : start + 250].max() - fine[start] for start in starts])


def damaged(onsets: Samples, rate: float, difficulty: Difficulty) -> Samples:
    """Return planted skin conductance with noise, spikes and losses."""
    rng = np.random.default_rng(2)
    out = skin_of(onsets, difficulty.height, SECONDS, rate, difficulty.rise)
    out += max(-difficulty.rise, 0.0) * SECONDS / 60.0
    out += difficulty.noise * rng.normal(size=len(out))
    if difficulty.spike:
        out[rng.choice(len(out), 20, replace=False)] += difficulty.spike
    if difficulty.lost_every:
        out[:: difficulty.lost_every] = np.nan
    t = np.arange(len(out)) / rate
    for start, stop in difficulty.lost:
        out[(t >= start) & (t < stop)] = np.nan
    return out


def cleaned(samples: Samples, rate: float) -> CleanRecording:
    """Return skin conductance cleaned as a recording of its own."""
    signal = Signal.from_samples("EDA", "eda", "uS", rate, samples)
    return clean_recording(Recording("S1", "", "skin", (signal,)))


def grid() -> dict[tuple[str, float], Outcome]:
    """Return the outcome of every difficulty and sampling rate."""
    return {
        (name, rate): outcome(rate, difficulty) for name, difficulty in DIFFICULTIES.items() for rate in SAMPLING_RATES
    }
