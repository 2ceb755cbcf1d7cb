"""Signal banks made ready for batches: where windows lie in them, how they are scaled, all patches from one gather."""

from __future__ import annotations

import numpy as np
import torch

from biopercept.learning.normalisation import Affine
from biopercept.learning.signals import SignalBank
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.modalities import MODALITIES
from biopercept.model.tokens import SensorPatches

MIN_REAL_FRACTION = 0.5
"""A patch is a token where at least this part of its samples is real."""


class PreparedBank:
    """A bank on its device with the windows' sample indices and affine maps as tensors."""

    def __init__(self, bank: SignalBank, affine: Affine, windows: WindowTable, device: torch.device) -> None:
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
