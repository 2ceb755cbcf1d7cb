"""Quality: how much of each second, and of each window, can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import DERIVED_RATE
from biopercept.preprocessing.gaps import BoolArray, moving_mean
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Recording, Signal

_RHYTHM_SECONDS = 11  # beats and breaths come one by one: whether they are there is judged over this many


class _HasQuality(Protocol):
    @property
    def recording(self) -> Recording: ...

    @property
    def quality(self) -> Mapping[str, FloatArray]: ...


def recording_quality(
    cleaned: Recording, is_understood: Mapping[str, BoolArray], settings: CleaningSettings, duration_seconds: float
) -> dict[str, FloatArray]:
    """Return, for every signal by name, the quality of each second: (n_channels, n_seconds) in [0, 1].

    Quality is the share of the second's samples that is valid. For a signal that should carry a rhythm
    (ECG, pulse, respiration) it is multiplied by the share of the 11 s around in which that rhythm was
    found; a second of EEG with a value beyond ``eeg_artefact_uv`` counts half. Seconds outside a signal have
    quality 0.

    Parameters
    ----------
    cleaned : Recording
        Cleaned signals, NaN where masked.
    is_understood : mapping of str to array of bool
        By signal name: where, on the 4 Hz grid, the rhythm was found.
    duration_seconds : float
        Length of the recording.
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
            quality = quality * _rhythm_share(is_understood[signal.name], n_seconds)
        out[signal.name] = quality
    return out


def _per_second(values: FloatArray, signal: Signal, n_seconds: int, gather: np.ufunc) -> FloatArray:
    """Return the sum as a share of the second's samples, or the maximum, of each second: (n_channels, n_seconds)."""
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


def _rhythm_share(is_understood: BoolArray, n_seconds: int) -> FloatArray:
    """Return the share of the 11 s around each second in which the rhythm was found: (n_seconds,)."""
    per_second = np.zeros(n_seconds)
    n = np.zeros(n_seconds)
    second = (np.arange(len(is_understood)) / DERIVED_RATE).astype(np.int64)
    np.add.at(per_second, second, is_understood)
    np.add.at(n, second, 1.0)
    return moving_mean(per_second / np.maximum(n, 1.0), _RHYTHM_SECONDS)


def window_quality(
    clean: _HasQuality, onsets: Sequence[float] | FloatArray, length_seconds: float
) -> NDArray[np.float32]:
    """Return the mean quality of every signal in every window: (n_windows, n_signals) float32 in [0, 1].

    Columns follow ``clean.recording.signals``; channels of a signal are averaged.

    Parameters
    ----------
    onsets : sequence of float
        Seconds on the recording's clock.
    length_seconds : float
        Length of a window.
    """
    starts = np.asarray(onsets, dtype=np.float64)
    out = np.zeros((len(starts), len(clean.recording.signals)), dtype=np.float32)
    for column, signal in enumerate(clean.recording.signals):
        per_second = clean.quality[signal.name].mean(axis=0)
        total = np.concatenate(([0.0], np.cumsum(per_second)))
        n = len(per_second)
        first = np.clip(np.floor(starts + 1e-9).astype(int), 0, n)
        last = np.clip(np.maximum(np.floor(starts + length_seconds + 1e-9).astype(int), first + 1), 0, n)
        out[:, column] = (total[last] - total[first]) / np.maximum(last - first, 1)
    return out
