"""Breaths a minute beside planted breathing: a grid of rates, sampling rates and difficulties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from biopercept.preprocessing.cleaning import clean_recording
from biopercept.recording import Recording, Signal
from measurements.planted_signals import Samples, breath_peaks, chest_of

PER_MINUTE = (4.9, 6.0, 8.0, 12.0, 15.0, 20.0, 28.0, 35.0, 42.0)
SAMPLING_RATES = (4, 10, 25, 32, 64, 250, 700)
SECONDS = 180.0


@dataclass(frozen=True)
class Difficulty:
    """What makes a recording hard: noise as a fraction of the height, drift in heights, losses and irregularity."""

    noise: float = 0.005
    drift: float = 0.0
    wander: float = 0.0
    lost_every: int = 0
    lost: tuple[tuple[float, float], ...] = ()
    inspiration: float = 0.5
    irregular: float = 0.0


DIFFICULTIES: dict[str, Difficulty] = {
    "nothing": Difficulty(),
    "noise, a tenth of the height": Difficulty(noise=0.1),
    "drift of 10 heights, wander of 2": Difficulty(drift=10.0, wander=2.0),
    "every 10th sample lost": Difficulty(lost_every=10),
    "gaps of 0.4, 1.5 and 8 s": Difficulty(lost=((40.0, 40.4), (60.0, 61.5), (100.0, 108.0))),
    "breathing in takes a third": Difficulty(inspiration=0.33),
    "periods differ by 10 %": Difficulty(irregular=0.1),
    "noise, drift and losses": Difficulty(noise=0.05, drift=5.0, wander=1.0, lost_every=10, irregular=0.05),
}


@dataclass(frozen=True)
class Outcome:
    """How far the mean rate is off, per minute, and the fraction of the time for which a rate is given."""

    error: float
    coverage: float


def outcome(per_minute: float, rate: float, difficulty: Difficulty) -> Outcome:
    """Return what is measured of planted breathing that was sampled at ``rate``."""
    peaks = breath_peaks(per_minute, SECONDS, difficulty.irregular)
    samples = damaged(chest_of(peaks, SECONDS, rate, difficulty.inspiration), rate, difficulty)
    signal = Signal.from_samples("RESP", "resp", "a.u.", rate, samples)
    clean = clean_recording(Recording("S1", "", "breathing", (signal,)))
    series = clean.recording.signals_of("resp_rate")
    if not series:
        return Outcome(np.nan, 0.0)
    given = series[0].read()[0]
    times = np.arange(len(given)) / 4.0
    known = np.isfinite(given)
    truth = 60.0 / np.diff(peaks)[np.clip(np.searchsorted(peaks, times[known]) - 1, 0, len(peaks) - 2)]
    return Outcome(float(given[known].mean() - truth.mean()), float(known.mean()))


def damaged(chest: Samples, rate: float, difficulty: Difficulty) -> Samples:
    """Return a chest band's signal with noise, drift and losses."""
    t = np.arange(len(chest)) / rate
    height = 2.0
    out = chest + difficulty.noise * height * np.random.default_rng(1).normal(size=len(chest))
    out += difficulty.drift * height * t / SECONDS + difficulty.wander * height * np.sin(2 * np.pi * 0.01 * t)
    if difficulty.lost_every:
        out[:: difficulty.lost_every] = np.nan
    for start, stop in difficulty.lost:
        out[(t >= start) & (t < stop)] = np.nan
    return 100.0 + out


def grid() -> dict[tuple[str, float, int], Outcome]:
    """Return the outcome of every difficulty, breathing rate and sampling rate."""
    return {
        (name, per_minute, rate): outcome(per_minute, rate, difficulty)
        for name, difficulty in DIFFICULTIES.items()
        for per_minute in PER_MINUTE
        for rate in SAMPLING_RATES
    }
