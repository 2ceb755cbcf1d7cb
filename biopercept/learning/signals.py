"""The continuous signals of many recordings, laid end to end once; a window is a slice of them, never a copy.

Signals of one modality and one sampling rate form a *bank*: one long array of samples, one of
masks, and for every (recording, channel) where its stretch begins. A batch of windows is one
gather, on whatever device holds the bank.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.learning.normalisation import FloatArray, Moments, cumulative_moments, moments_until
from biopercept.learning.windows import WindowTable
from biopercept.modalities import MODALITIES
from biopercept.recording import Channel
from biopercept.windowed import StoredSignal, WindowedRecording

N_CHANNEL_CODES = 64
"""Codes for channels whose position is not known; 0 is no code."""

ABSENT = -1


@dataclass(frozen=True, eq=False)
class SignalBank:
    """Every signal of one modality and rate in a set of recordings.

    Attributes
    ----------
    modality : str
    sampling_rate : float
        Hz, of the stored samples.
    channels : tuple of Channel
        Union over the recordings, in order of first appearance.
    samples, is_real : tensors, shape (n_samples_in_all,), float32 and bool
    quality : float32 tensor
        Quality in [0, 1], one value a second, laid end to end in the same order.
    offset, n_samples : int64 arrays, shape (n_recordings, n_channels)
        Where a stretch begins (-1 where absent) and how long it is.
    quality_offset, n_quality : int64 arrays, shape (n_recordings, n_channels)
        The same for the stretches of quality; no seconds where it was not measured.
    start_seconds : float64 array, shape (n_recordings, n_channels)
        Time of the first sample on the recording's clock.
    """

    modality: str
    sampling_rate: float
    channels: tuple[Channel, ...]
    samples: torch.Tensor
    is_real: torch.Tensor
    quality: torch.Tensor
    offset: NDArray[np.int64]
    n_samples: NDArray[np.int64]
    quality_offset: NDArray[np.int64]
    n_quality: NDArray[np.int64]
    start_seconds: FloatArray

    @property
    def n_channels(self) -> int:
        """Return the number of channels in the union."""
        return len(self.channels)

    def to(self, device: torch.device) -> SignalBank:
        """Return the bank with its samples on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("samples", "is_real", "quality")}
        return replace(self, **moved)

    def window_starts(self, windows: WindowTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, per window and channel, the first sample within its stretch and the stretch's own begin.

        Both have shape (n_windows, n_channels); the begin is -1 where the recording lacks the channel.
        """
        relative = windows.onset[:, None] - self.start_seconds[windows.recording]
        first = np.rint(relative * self.sampling_rate).astype(np.int64)
        return first, self.offset[windows.recording]

    def positions(self) -> torch.Tensor:
        """Return electrode positions, (n_channels, 3) metres, NaN where unknown."""
        nowhere = (float("nan"),) * 3
        return torch.tensor([c.position or nowhere for c in self.channels], dtype=torch.float32).reshape(-1, 3)

    def codes(self) -> torch.Tensor:
        """Return the channel codes, (n_channels,) int64: a name has the same code in every recording and study."""
        return torch.tensor([channel_code(c.name) for c in self.channels], dtype=torch.int64)


def channel_code(name: str) -> int:
    """Return a code in 1 .. N_CHANNEL_CODES - 1 that depends on the channel's name alone.

    >>> channel_code("x") == channel_code("X")
    True
    """
    return 1 + zlib.crc32(name.strip().lower().encode()) % (N_CHANNEL_CODES - 1)


def build_banks(recordings: Sequence[WindowedRecording], *, raw: bool, derived: bool) -> tuple[SignalBank, ...]:
    """Return one bank per modality and sampling rate, modalities in the table's order.

    Parameters
    ----------
    recordings : sequence of WindowedRecording
    raw, derived : bool
        Whether measured signals, and derived series, are wanted.
    """
    found: dict[tuple[str, float], list[tuple[int, StoredSignal]]] = {}
    for index, recording in enumerate(recordings):
        for signal in recording.signals:
            row = MODALITIES.get(signal.modality)
            if row is not None and (derived if row.is_derived else raw):
                found.setdefault((signal.modality, float(signal.sampling_rate)), []).append((index, signal))
    order = list(MODALITIES)
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1]))
    return tuple(_build_bank(recordings, *key, found[key]) for key in keys)


def _build_bank(
    recordings: Sequence[WindowedRecording],
    modality: str,
    sampling_rate: float,
    members: Sequence[tuple[int, StoredSignal]],
) -> SignalBank:
    channels: dict[str, Channel] = {}
    for _, signal in members:
        for channel in signal.channels:
            channels.setdefault(channel.name, channel)
    column = {name: i for i, name in enumerate(channels)}
    shape = (len(recordings), len(channels))
    start = np.zeros(shape)
    samples, masks, quality = _Stretches(shape), _Stretches(shape), _Stretches(shape)
    for index, signal in members:
        values, is_real = recordings[index].read(signal.name)
        each_second = recordings[index].read_quality(signal.name)
        for row, channel in enumerate(signal.channels):
            place = (index, column[channel.name])
            start[place] = signal.start_seconds
            samples.add(place, np.where(is_real[row], values[row], 0.0).astype(np.float32))
            masks.add(place, np.asarray(is_real[row], dtype=bool))
            quality.add(place, np.asarray(each_second[row], dtype=np.float32))
    return SignalBank(
        modality,
        sampling_rate,
        tuple(channels.values()),
        samples.joined(np.float32),
        masks.joined(np.bool_),
        quality.joined(np.float32),
        samples.offset,
        samples.length,
        quality.offset,
        quality.length,
        start,
    )


class _Stretches:
    """Arrays laid end to end, with where each begins and how long it is by (recording, channel)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.offset = np.full(shape, ABSENT, dtype=np.int64)
        self.length = np.zeros(shape, dtype=np.int64)
        self._pieces: list[NDArray[Any]] = []
        self._n = 0

    def add(self, place: tuple[int, int], values: NDArray[Any]) -> None:
        self.offset[place], self.length[place] = self._n, len(values)
        self._pieces.append(values)
        self._n += len(values)

    def joined(self, dtype: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(self._pieces) if self._pieces else np.zeros(0, dtype=dtype))


def bank_moments(
    bank: SignalBank, windows: WindowTable, mode: str, reference_ends: FloatArray
) -> tuple[Moments, Moments, Moments]:
    """Return what each window may know of its own recording, and the moments of every recording and its reference.

    Parameters
    ----------
    bank : SignalBank
    windows : WindowTable
    mode : str
        A rung of the normalisation ladder.
    reference_ends : float64 array (n_recordings,)
        Where the reference ends in each recording, seconds.

    Returns
    -------
    own : Moments
        Shape (n_windows, n_channels): up to the window's end for ``causal`` (and for the rungs that
        use no own statistics), the reference stretch for ``reference``, all for ``recording``.
    whole : Moments
        Shape (n_recordings, n_channels).
    reference : Moments
        Of the values up to ``reference_ends``, shape (n_recordings, n_channels).
    """
    n_windows, n_recordings, n_channels = len(windows), len(windows.recordings), bank.n_channels
    own = Moments(*(np.zeros((n_windows, n_channels)) for _ in range(3)))
    whole, reference = (Moments(*(np.zeros((n_recordings, n_channels)) for _ in range(3))) for _ in range(2))
    samples, is_real = bank.samples.cpu().numpy(), bank.is_real.cpu().numpy()
    for index in range(n_recordings):
        rows = np.flatnonzero(windows.recording == index)
        for channel in np.flatnonzero(bank.offset[index] != ABSENT).tolist():
            begin, length = bank.offset[index, channel], bank.n_samples[index, channel]
            stretch = slice(begin, begin + length)
            running = cumulative_moments(samples[stretch].astype(np.float64), is_real[stretch])
            ends, limit = windows.onset[rows] + windows.length_seconds, reference_ends[index : index + 1]
            seconds = np.repeat(limit, len(rows)) if mode == "reference" else ends
            known = _samples_until(bank, seconds, index, channel)
            if mode == "recording":
                known = np.full(len(rows), length, dtype=np.int64)
            _place(own, rows, channel, moments_until(running, known))
            at = np.array([index])
            _place(whole, at, channel, moments_until(running, np.array([length])))
            _place(reference, at, channel, moments_until(running, _samples_until(bank, limit, index, channel)))
    return own, whole, reference


def _samples_until(bank: SignalBank, seconds: FloatArray, index: int, channel: int) -> NDArray[np.int64]:
    """Return how many samples of a recording's channel lie before these times."""
    length = int(bank.n_samples[index, channel])
    stop = np.floor((seconds - bank.start_seconds[index, channel]) * bank.sampling_rate).astype(np.int64)
    known: NDArray[np.int64] = np.clip(stop, 0, length)
    return known


def _place(into: Moments, rows: NDArray[np.int64], channel: int, values: Moments) -> None:
    into.count[rows, channel] = values.count
    into.mean[rows, channel] = values.mean
    into.variance[rows, channel] = values.variance
