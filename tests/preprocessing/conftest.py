"""Signals with planted events that the preprocessing tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from biopercept.modalities import MODALITIES
from biopercept.recording import Channel, Recording, Signal

Samples = NDArray[np.float64]


def planted_ecg(beat_times: Samples, duration_seconds: float, sampling_rate: float, noise: float = 0.01) -> Samples:
    """Return an ECG-like signal, mV: a QRS and a T wave at every planted time, wander and noise."""
    t = np.arange(round(duration_seconds * sampling_rate)) / sampling_rate
    out = 0.1 * np.sin(2 * np.pi * 0.2 * t) + np.random.default_rng(5).normal(0, noise, len(t))
    for beat in beat_times:
        for delay, width, height in ((0.0, 0.012, 1.0), (-0.03, 0.01, -0.15), (0.03, 0.01, -0.2), (0.25, 0.05, 0.25)):
            near = np.abs(t - beat - delay) < 6 * width
            out[near] += height * np.exp(-0.5 * ((t[near] - beat - delay) / width) ** 2)
    return out


def planted_pulse(beat_times: Samples, duration_seconds: float, sampling_rate: float) -> Samples:
    """Return a pulse-like signal: a wave whose peak lies at every planted time, of growing height."""
    t = np.arange(round(duration_seconds * sampling_rate)) / sampling_rate
    out = np.random.default_rng(6).normal(0, 0.2, len(t))
    for beat in beat_times:
        out += 50 * np.exp(-0.5 * ((t - beat) / 0.1) ** 2) + 15 * np.exp(-0.5 * ((t - beat - 0.3) / 0.1) ** 2)
    return out


def beats_of_a_heart(duration_seconds: float, mean_interval: float = 0.85) -> Samples:
    """Return beat times whose interval breathes between 0.8 and 0.9 s."""
    times = [0.7]
    while times[-1] < duration_seconds - 1.0:
        times.append(times[-1] + mean_interval + 0.05 * np.sin(2 * np.pi * 0.1 * times[-1]))
    return np.array(times)


@pytest.fixture(scope="session")
def make_ecg() -> Callable[..., Samples]:
    return planted_ecg


@pytest.fixture(scope="session")
def make_pulse() -> Callable[..., Samples]:
    return planted_pulse


@pytest.fixture(scope="session")
def make_beats() -> Callable[..., Samples]:
    return beats_of_a_heart


@pytest.fixture(scope="session")
def make_signal() -> Callable[..., Signal]:
    """Return a maker of signals: name, modality, rate, samples."""

    def make(modality: str, sampling_rate: float, samples: Samples, name: str = "", **more: object) -> Signal:
        unit = str(more.pop("unit", MODALITIES[modality].unit)) if modality in MODALITIES else "a.u."
        signal = Signal.from_samples(name or modality.upper(), modality, unit, sampling_rate, samples)
        return replace(signal, **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_recording() -> Callable[..., Recording]:
    """Return a maker of recordings from signals."""

    def make(*signals: Signal) -> Recording:
        return Recording("S1", "", "rest", tuple(signals))

    return make


@pytest.fixture(scope="session")
def eeg_channels() -> tuple[Channel, ...]:
    names = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "T7", "T8", "Fz", "Cz", "Pz")
    return tuple(Channel(name) for name in names)


@pytest.fixture(scope="session")
def made_eeg(eeg_channels: tuple[Channel, ...]) -> Samples:
    """EEG-like channels, uV, 60 s at 256 Hz: shared and own noise; alpha of 20 uV at the back."""
    rng = np.random.default_rng(3)
    n = 60 * 256
    t = np.arange(n) / 256
    shared = np.cumsum(rng.normal(size=n)) * 2.0
    own = np.cumsum(rng.normal(size=(len(eeg_channels), n)), axis=1) * 1.5
    out = rng.uniform(0.5, 1.5, (len(eeg_channels), 1)) * shared + own
    out += rng.normal(0, 2.0, out.shape)
    back = [i for i, channel in enumerate(eeg_channels) if channel.name in ("O1", "O2", "P3", "P4", "Pz")]
    out[back] += 20 * np.sin(2 * np.pi * 10 * t)
    return out - out.mean(axis=1, keepdims=True)
