"""The continuous signals of many recordings, laid end to end once; a window is a slice of them, never a copy.

Signals of one modality and one sampling rate form a *bank*: one long array of samples, one of
masks, and for every (recording, channel) where its segment begins. A batch of windows is one
gather, on whatever device holds the bank; where windows lie in it and how they are scaled is prepared once.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.normalisation import Affine, FloatArray, Moments, cumulative_moments, moments_until
from biopercept.data.windows import IntArray, WindowTable
from biopercept.modalities import MODALITIES
from biopercept.model.token_inputs import SensorPatches
from biopercept.recording import Channel
from biopercept.store.prepared import StoredSignal, WindowedRecording

N_CHANNEL_CODES = 64
"""Codes for channels whose position is not known; 0 is no code."""

ABSENT = -1
MIN_REAL_FRACTION = 0.5
"""A patch is a token where at least this part of its samples is real."""


@dataclass(frozen=True, eq=False)
class SignalArrays:
    """Every signal of one modality and rate in a set of recordings.

    Attributes
    ----------
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

    def to(self, device: torch.device) -> SignalArrays:
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


def build_banks(recordings: Sequence[WindowedRecording], *, raw: bool, derived: bool) -> tuple[SignalArrays, ...]:
    """Return one bank per modality and sampling rate, modalities in the table's order.

    Parameters
    ----------
    raw, derived : bool
        Whether measured signals, and derived series, are wanted.
    """
    by_sensor: dict[tuple[str, float], list[tuple[int, StoredSignal]]] = {}
    for index, recording in enumerate(recordings):
        for signal in recording.signals:
            row = MODALITIES.get(signal.modality)
            if row is not None and (derived if row.is_derived else raw):
                by_sensor.setdefault((signal.modality, float(signal.sampling_rate)), []).append((index, signal))
    order = list(MODALITIES)
    keys = sorted(by_sensor, key=lambda key: (order.index(key[0]), key[1]))
    return tuple(_build_bank(recordings, *key, by_sensor[key]) for key in keys)


def _build_bank(
    recordings: Sequence[WindowedRecording],
    modality: str,
    sampling_rate: float,
    members: Sequence[tuple[int, StoredSignal]],
) -> SignalArrays:
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
    return SignalArrays(
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
    bank: SignalArrays, windows: WindowTable, mode: str, reference_ends: FloatArray
) -> tuple[Moments, Moments, Moments]:
    """Return what each window may know of its own recording, and the moments of every recording and its reference.

    Parameters
    ----------
    mode : str
        Of normalisation.
    reference_ends : float64 array (n_recordings,)
        Where the reference ends in each recording, seconds.

    Returns
    -------
    own : Moments
        Shape (n_windows, n_channels): up to the window's end for ``causal`` (and for the modes that
        use no own statistics), the reference stretch for ``reference``, all for ``recording``.
    whole : Moments
        Shape (n_recordings, n_channels).
    reference : Moments
        Of the values up to ``reference_ends``, shape (n_recordings, n_channels).
    """
    n_windows, n_recordings, n_channels = len(windows), len(windows.recordings), bank.n_channels
    past = Moments(*(np.zeros((n_windows, n_channels)) for _ in range(3)))
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
            _place(past, rows, channel, moments_until(running, known))
            at = np.array([index])
            _place(whole, at, channel, moments_until(running, np.array([length])))
            _place(reference, at, channel, moments_until(running, _samples_until(bank, limit, index, channel)))
    return past, whole, reference


def _samples_until(bank: SignalArrays, seconds: FloatArray, index: int, channel: int) -> NDArray[np.int64]:
    """Return how many samples of a recording's channel lie before these times."""
    length = int(bank.n_samples[index, channel])
    stop = np.floor((seconds - bank.start_seconds[index, channel]) * bank.sampling_rate).astype(np.int64)
    known: NDArray[np.int64] = np.clip(stop, 0, length)
    return known


def _place(into: Moments, rows: NDArray[np.int64], channel: int, values: Moments) -> None:
    into.count[rows, channel] = values.count
    into.mean[rows, channel] = values.mean
    into.variance[rows, channel] = values.variance


class PreparedArrays:
    """A bank on its device with the windows' sample indices and affine maps as tensors."""

    def __init__(self, bank: SignalArrays, affine: Affine, windows: WindowTable, device: torch.device) -> None:
        self.bank = bank.to(device)
        self.modality = MODALITIES[bank.modality]
        first, begin = bank.window_starts(windows)
        as_tensor = torch.from_numpy
        self.first = as_tensor(first).to(device)
        self.begin = as_tensor(begin).to(device)
        self.length = as_tensor(bank.n_samples[windows.recording]).to(device)
        self.centre = as_tensor(affine.centre.astype(np.float32)).to(device)
        self.spread = as_tensor(affine.spread.astype(np.float32)).to(device)
        self.quality_begin = as_tensor(bank.quality_offset[windows.recording]).to(device)
        self.quality_length = as_tensor(bank.n_quality[windows.recording]).to(device)
        self.positions = bank.positions().to(device)
        self.codes = bank.codes().to(device)

    def shape(self, length_seconds: float) -> tuple[int, int, int]:
        """Return samples of a patch as stored, patches of a window, and samples of the window."""
        n_native = max(1, round(self.modality.patch_seconds * self.bank.sampling_rate))
        n_window = max(1, int(length_seconds * self.bank.sampling_rate + 1e-6))
        return n_native, max(1, n_window // n_native), n_window

    def patches(
        self, at: torch.Tensor, length_seconds: float, clip: float, channels: IntArray | None = None
    ) -> SensorPatches:
        """Return the patches of the windows at ``at``: gather, normalise, cut, bring to the model's patch length.

        Of some channels (numbers in the bank), or of all.
        """
        only = None if channels is None else torch.from_numpy(channels).to(at.device)

        def of(table: torch.Tensor) -> torch.Tensor:
            return table[at] if only is None else table[at][:, only]

        n_native, n_patches, n_window = self.shape(length_seconds)
        step = torch.arange(n_patches * n_native, device=at.device)
        first, begin = of(self.first), of(self.begin)
        index = first[..., None] + step  # (B, C, T)
        inside = (index >= 0) & (index < of(self.length)[..., None]) & (begin[..., None] >= 0)
        inside &= step < n_window  # a window shorter than a patch: nothing after its end is read
        flat = torch.where(inside, index + begin[..., None], torch.zeros_like(index))
        is_real = inside & self.bank.is_real[flat]
        values = (self.bank.samples[flat] - of(self.centre)[..., None]) / of(self.spread)[..., None]
        values = values.clamp(-clip, clip).reshape(*index.shape[:2], n_patches, n_native)  # (B, C, P, L)
        is_real = is_real.reshape(values.shape)
        fraction = is_real.float().sum(dim=-1) / min(n_native, n_window)
        values = _resized(_filled(values, is_real), self.modality.patch_samples)
        is_token = fraction >= MIN_REAL_FRACTION
        n_windows, n_channels = is_token.shape[:2]
        seconds = n_native / self.bank.sampling_rate
        times = (torch.arange(n_patches, device=at.device, dtype=torch.float32) + 0.5) * seconds
        positions, codes = (t if only is None else t[only] for t in (self.positions, self.codes))
        return SensorPatches(
            modality=self.modality.name,
            patches=values * is_token[..., None],
            is_real=is_token,
            times=times.expand(n_windows, -1),
            positions=positions.expand(n_windows, -1, -1),
            channels=codes.expand(n_windows, n_channels),
            rate=torch.full((n_windows,), self.bank.sampling_rate, device=at.device),
            quality=fraction * self._quality(first, of(self.quality_begin), of(self.quality_length), times),
        )

    def _quality(
        self, first: torch.Tensor, begin: torch.Tensor, n_seconds: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """Return the stored quality at the centre of each patch, (B, C, P); 1 where none was measured.

        From where each window begins in its signal (samples), and where the signal's quality begins and how long it is
        (seconds), all (B, C).
        """
        n_seconds = n_seconds[..., None]
        second = (first[..., None] / self.bank.sampling_rate + times).floor().long()
        is_known = (second >= 0) & (second < n_seconds)
        if not len(self.bank.quality):
            return torch.ones(second.shape, device=second.device)
        index = torch.where(is_known, second + begin[..., None], torch.zeros_like(second))
        return torch.where(is_known, self.bank.quality[index].nan_to_num(0.0), torch.ones((), device=second.device))


def _filled(values: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
    """Return patches whose missing samples hold the mean of their real ones, so that filling adds no shape."""
    real = is_real.to(values.dtype)
    mean = (values * real).sum(-1, keepdim=True) / real.sum(-1, keepdim=True).clamp(min=1.0)
    return torch.where(is_real, values, mean)


def _resized(patches: torch.Tensor, n_samples: int) -> torch.Tensor:
    """Return patches brought to ``n_samples`` by linear interpolation; a no-op at the modality's own rate."""
    if patches.shape[-1] == n_samples:
        return patches
    flat = patches.reshape(-1, 1, patches.shape[-1])
    resized = torch.nn.functional.interpolate(flat, size=n_samples, mode="linear", align_corners=False)
    return resized.reshape(*patches.shape[:-1], n_samples)
