"""The continuous signals of many recordings, laid end to end once; a window is a slice of them, never a copy.

Signals of one modality and one sampling rate form a *bank*: one long array of samples, one of masks, and for every
(recording, channel) where its segment begins. A batch of windows is one gather, on the device that holds the bank.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.normalisation import Affine, FloatArray, Moments, Running, cumulative_moments, moments_until
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
    """Every signal of one modality and rate (Hz) in a set of recordings.

    Attributes
    ----------
    channels : tuple of Channel
        Union over the recordings, in order of first appearance.
    samples, is_real : tensors, shape (n_samples_in_all,), float32 and bool
    quality : float32 tensor
        Quality in [0, 1], one value a second, laid end to end in the same order.
    offset, n_samples : int64 arrays, shape (n_recordings, n_channels)
        Where a segment begins (-1 where absent) and how long it is.
    quality_offset, n_quality : int64 arrays, shape (n_recordings, n_channels)
        The same for quality; no seconds where it was not measured.
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
        """Return per window and channel the first sample in its segment, and where the segment begins (-1: absent)."""
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
    """Return one bank per modality and rate, modalities in the table's order, of measured or derived signals."""
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
    samples, masks, quality = _Segments(shape), _Segments(shape), _Segments(shape)
    for index, signal in members:
        values, is_real = recordings[index].read(signal.name)
        each_second = recordings[index].read_quality(signal.name)
        for row, channel in enumerate(signal.channels):
            at = (index, column[channel.name])
            start[at] = signal.start_seconds
            samples.add(at, np.where(is_real[row], values[row], 0.0).astype(np.float32))
            masks.add(at, np.asarray(is_real[row], dtype=bool))
            quality.add(at, np.asarray(each_second[row], dtype=np.float32))
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


class _Segments:
    """Arrays laid end to end, with where each begins and how long it is by (recording, channel)."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.offset = np.full(shape, ABSENT, dtype=np.int64)
        self.length = np.zeros(shape, dtype=np.int64)
        self._pieces: list[NDArray[Any]] = []
        self._n = 0

    def add(self, at: tuple[int, int], values: NDArray[Any]) -> None:
        self.offset[at], self.length[at] = self._n, len(values)
        self._pieces.append(values)
        self._n += len(values)

    def joined(self, dtype: type[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(self._pieces) if self._pieces else np.zeros(0, dtype=dtype))


Column = tuple[int, Running, Callable[[FloatArray], IntArray]]
"""Number of a channel or feature, its running sums in one recording, and how many of its values lie before times."""


def known_moments(
    windows: WindowTable,
    mode: str,
    reference_ends: FloatArray,
    n_columns: int,
    columns_of: Callable[[int], Iterable[Column]],
) -> tuple[Moments, Moments, Moments]:
    """Return what each window may know of its own recording, and the moments of every recording and its reference.

    The first are those up to the window's end for ``causal`` (and the modes that use no own statistics), those of the
    reference for ``reference``, all for ``recording``. ``reference_ends`` are in seconds, (n_recordings,);
    ``columns_of`` gives those of one recording.
    """
    n_rows = (len(windows), len(windows.recordings), len(windows.recordings))
    past, whole, reference = (Moments(*(np.zeros((n, n_columns)) for _ in range(3))) for n in n_rows)
    for index in range(len(windows.recordings)):
        rows, at = np.flatnonzero(windows.recording == index), np.array([index])
        limit = reference_ends[index : index + 1]
        times = np.repeat(limit, len(rows)) if mode == "reference" else windows.onset[rows] + windows.length_seconds
        for column, running, n_before in columns_of(index):
            n_all = np.array([len(running[0]) - 1])
            n_known = np.repeat(n_all, len(rows)) if mode == "recording" else n_before(times)
            for into, where, stop in ((past, rows, n_known), (whole, at, n_all), (reference, at, n_before(limit))):
                moments = moments_until(running, stop)
                into.count[where, column], into.mean[where, column] = moments.count, moments.mean
                into.variance[where, column] = moments.variance
    return past, whole, reference


def bank_moments(
    bank: SignalArrays, windows: WindowTable, mode: str, reference_ends: FloatArray
) -> tuple[Moments, Moments, Moments]:
    """Return :func:`known_moments` of the channels of a bank."""
    samples, is_real = bank.samples.cpu().numpy(), bank.is_real.cpu().numpy()

    def channels(index: int) -> Iterator[Column]:
        for channel in np.flatnonzero(bank.offset[index] != ABSENT).tolist():
            begin = bank.offset[index, channel]
            segment = slice(begin, begin + bank.n_samples[index, channel])
            running = cumulative_moments(samples[segment].astype(np.float64), is_real[segment])
            yield channel, running, partial(_samples_until, bank, index, channel)

    return known_moments(windows, mode, reference_ends, bank.n_channels, channels)


def _samples_until(bank: SignalArrays, index: int, channel: int, seconds: FloatArray) -> IntArray:
    """Return how many samples of a recording's channel lie before these times."""
    stop = np.floor((seconds - bank.start_seconds[index, channel]) * bank.sampling_rate).astype(np.int64)
    return np.asarray(np.clip(stop, 0, int(bank.n_samples[index, channel])))


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

        ``first`` is in samples of the signal, ``begin`` and ``n_seconds`` in seconds of its quality, all (B, C).
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
