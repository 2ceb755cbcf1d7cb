"""Encodings that tell the model when, where, what and how fast: time, electrode, modality, sampling rate.

All are computed per sample and per token from physical quantities (seconds, metres, Hz), so two
recordings with different clocks, rates and montages in one batch get what each gets alone.

References
----------
Fourier features with linearly spaced frequencies and the raw position beside them: A. Jaegle et al.,
"Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795 (there on positions scaled to [-1, 1]).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from biopercept.modalities import MODALITY_NAMES

POSITION_SCALE = 0.1
"""Metres that count as one unit of electrode position: about the radius of a head."""

_TIME_SCALE = 60.0  # seconds that count as one unit of the raw time beside its waves
_RATE_SCALE = 5.0  # octaves of sampling rate that count as one unit


def fourier_features(positions: Tensor, frequencies: Tensor) -> Tensor:
    """Return raw positions, sines and cosines, in the layout of the original code.

    They are (..., A + 2 A K): the A positions (..., A), then A K sines, then A K cosines (axis by axis), for
    frequencies (A, K) in half-cycles per unit of position.
    """
    angles = (positions[..., None] * (math.pi * frequencies)).flatten(-2)  # (..., A K)
    return torch.cat((positions, angles.sin(), angles.cos()), -1)


def geometric_rates(n: int, longest: float) -> Tensor:
    """Return the angular rates 1, longest^(-1/n), longest^(-2/n), ... of "Attention Is All You Need": (n,).

    ``longest`` is the wavelength that the next rate after the last would have, in multiples of the first.
    """
    return torch.exp(-math.log(longest) * (torch.arange(n, dtype=torch.float32) / n))


def sinusoids(places: Tensor, rates: Tensor) -> Tensor:
    """Return sines and cosines in turn, (..., 2 K), for places (...) and angular rates (K,) per unit of place."""
    angles = places[..., None] * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


class TimeEncoding(nn.Module):
    """Code of a patch's time: waves of linearly spaced frequencies, up to the Nyquist of the patch's own rate.

    The ``n_bands`` frequencies, from 1 / ``longest_seconds`` to ``highest_hz``, are shared by all modalities; waves
    above half the patch rate of a signal are silent for it.
    """

    frequencies: Tensor

    def __init__(self, width: int, n_bands: int, longest_seconds: float, highest_hz: float) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.linspace(1.0 / longest_seconds, highest_hz, n_bands), persistent=False
        )
        self.project = nn.Linear(2 * n_bands + 1, width)

    def forward(self, seconds: Tensor, patch_rate: Tensor) -> Tensor:
        """Return codes (B, P, width) for times (B, P) in seconds from the window start and patch rates (B,) in Hz."""
        angles = seconds[..., None] * (2.0 * math.pi * self.frequencies)  # (B, P, K)
        is_audible = self.frequencies <= 0.5 * patch_rate[:, None, None] * (1.0 + 1e-6)
        waves = torch.cat((angles.sin() * is_audible, angles.cos() * is_audible), -1)
        output: Tensor = self.project(torch.cat((seconds[..., None] / _TIME_SCALE, waves), -1))
        return output


class ChannelEncoding(nn.Module):
    """Code of a channel: Fourier features of its electrode's position, or a learned vector where none is known.

    Positions are absolute head coordinates on a fixed scale, never relative to the channels that happen to be present,
    so an electrode has the same code in every montage. ``n_bands`` are the frequencies per axis.
    """

    frequencies: Tensor

    def __init__(self, width: int, n_bands: int, n_codes: int) -> None:
        super().__init__()
        grid = torch.linspace(0.5, 0.5 * n_bands, n_bands).expand(3, n_bands)
        self.register_buffer("frequencies", grid.clone(), persistent=False)
        self.place = nn.Linear(3 + 6 * n_bands, width)
        self.codes = nn.Embedding(n_codes, width)

    def forward(self, positions: Tensor, channels: Tensor) -> Tensor:
        """Return codes (B, C, width) for positions (B, C, 3) in metres, NaN unknown, and channel codes (B, C)."""
        is_known = positions.isfinite().all(-1, keepdim=True)  # (B, C, 1)
        placed = self.place(fourier_features(positions.masked_fill(~is_known, 0.0) / POSITION_SCALE, self.frequencies))
        return torch.where(is_known, placed, self.codes(channels))


class ModalityEncoding(nn.Module):
    """Learned vector of each modality, from the fixed vocabulary :data:`MODALITY_NAMES`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.codes = nn.Embedding(len(MODALITY_NAMES), width)

    def forward(self, modality: str) -> Tensor:
        """Return the vector (width,) of a modality given by name; what else is present plays no part."""
        return self.codes.weight[MODALITY_NAMES.index(modality)]


class RateEncoding(nn.Module):
    """Code of a signal's sampling rate, linear in log2 Hz."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(1, width)

    def forward(self, rate: Tensor) -> Tensor:
        """Return codes (B, width) for sampling rates (B,) in Hz."""
        output: Tensor = self.project(rate[:, None].log2() / _RATE_SCALE)
        return output
