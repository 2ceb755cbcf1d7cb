"""Breathing, skin conductance and EEG of which everything is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

RISE_SECONDS, DECAY_SECONDS = 0.75, 4.0
"""Time constants of a planted response: sweat that is let out, and that dries (Alexander et al. 2005)."""

PEAK_SECONDS = float(
    np.log(DECAY_SECONDS / RISE_SECONDS) * DECAY_SECONDS * RISE_SECONDS / (DECAY_SECONDS - RISE_SECONDS)
)
"""Time from the onset of a planted response to its peak."""


def response(seconds: Samples) -> Samples:
    """Return a skin response of height 1 at the given times after its onset."""
    after = np.clip(seconds, 0.0, None)
    shape = np.exp(-after / DECAY_SECONDS) - np.exp(-after / RISE_SECONDS)
    return np.asarray(shape / (np.exp(-PEAK_SECONDS / DECAY_SECONDS) - np.exp(-PEAK_SECONDS / RISE_SECONDS)))


def half_recovery_seconds() -> float:
    """Return the time from a planted response's peak to half of its height."""
    after = np.linspace(PEAK_SECONDS, 20.0, 200_001)
    return float(after[response(after) <= 0.5][0]) - PEAK_SECONDS


def skin_of(onsets: Samples, height: float, seconds: float, rate: float, rise_per_minute: float = 0.0) -> Samples:
    """Return skin conductance, uS: a level of 2 that rises steadily, and a response at each onset."""
    t = np.arange(round(seconds * rate)) / rate
    out = 2.0 + rise_per_minute / 60.0 * t
    for onset in onsets:
        out += height * response(t - onset)
    return out


def breath_peaks(per_minute: float, seconds: float, irregular: float = 0.0, seed: int = 0) -> Samples:
    """Return when each breath is fullest, seconds; periods differ by a fraction ``irregular`` (standard deviation)."""
    rng = np.random.default_rng(seed)
    n = int(seconds * per_minute / 60.0 * 1.5) + 4
    periods = 60.0 / per_minute * np.clip(1.0 + irregular * rng.normal(size=n), 0.5, 1.5)
    peaks = 0.3 * 60.0 / per_minute + np.cumsum(periods)
    return np.asarray(peaks[peaks < seconds])


def chest_of(peaks: Samples, seconds: float, rate: float, inspiration: float = 0.5) -> Samples:
    """Return a chest band's signal of height 2 from trough to peak; breathing in takes a fraction of each breath."""
    t = np.arange(round(seconds * rate)) / rate
    periods = np.diff(peaks)
    first, last = peaks[0] - periods[0] * np.arange(3, 0, -1), peaks[-1] + periods[-1] * np.arange(1, 4)
    at = np.concatenate((first, peaks, last))
    breath = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
    passed = (t - at[breath]) / (at[breath + 1] - at[breath])  # 0 at a peak, 1 at the next
    out_share = 1.0 - inspiration
    phase = np.where(passed < out_share, 0.5 * passed / out_share, 0.5 + 0.5 * (passed - out_share) / inspiration)
    return np.asarray(np.cos(2 * np.pi * phase))


def pink_eeg(n_channels: int, seconds: float, rate: float, seed: int = 0) -> Samples:
    """Return EEG-like noise, uV, whose density falls with frequency (1/f), shared and own parts: (n_channels, n)."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    frequency = np.fft.rfftfreq(n, 1.0 / rate)
    shape = 1.0 / np.sqrt(np.maximum(frequency, 0.5))
    rows = [np.fft.irfft(shape * np.fft.rfft(rng.normal(size=n)), n) for _ in range(n_channels + 1)]
    mixed = np.stack(rows[:-1]) + rows[-1]
    return np.asarray(10.0 * mixed / mixed.std())
