"""Encodings that tell the model when, where, what and how fast: time, electrode, modality, sampling rate.

All are computed per sample and per token from physical quantities (seconds, metres, Hz), so two
recordings with different clocks, rates and montages in one batch get what each gets alone.

Codes of time are called ``code(seconds, patch_rate)``: times (B, P) in seconds from the window's start and patch
rates (B,) in Hz become codes (B, P, width). A code depends on the token's own time and on nothing else in the batch,
so windows of any clock, rate and length may lie beside each other. Tokens and output queries are coded by one kind,
made by :meth:`TokenSettings.time_encoding`.

**Rotary time**: the latents are spread evenly over the window, and queries and keys of their self-attention are turned,
pair by pair of a head's numbers, by an angle that grows with the latent's time in seconds; a score then depends on the
difference of two latents' times beside their contents. Reading the tokens and output queries are left as they are:
turning keys of N tokens would end the folded reading that makes them cheap, tokens code their time themselves, and a
query for a whole window has no time.

References
----------
Fourier features with linearly spaced frequencies and the raw position beside them: A. Jaegle et al.,
"Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795 (there on positions scaled to [-1, 1]).
Rotary time: J. Su et al., "RoFormer: Enhanced transformer with rotary position embedding", Neurocomputing 2024,
doi:10.1016/j.neucom.2023.127063. M. Azabou et al., "A unified, scalable framework for neural population decoding"
(POYO), NeurIPS 2023, doi:10.48550/arXiv.2310.16046. Different from POYO here: it turns half of a head's numbers, also
the values (but in its decoder not), and queries and keys of the cross-attentions as well; its latents are several at
each of fewer times.
Sinusoids: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, doi:10.48550/arXiv.1706.03762; sine and cosine
alternate, as there. There the positions are whole numbers, the waves from 2 pi to 10 000 * 2 pi positions long, and the
code is as wide as a token and added to it; here times are seconds, the waves from the shortest to the longest of the
Fourier grid (geometrically spaced, as there), and a linear layer brings them to the width, as it does for the Fourier
features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITY_NAMES
from biopercept.model.layers import CODE_STD
from biopercept.model.settings import TIME_CODES, refuse_odd_heads

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


def sinusoids(positions: Tensor, rates: Tensor) -> Tensor:
    """Return sines and cosines in turn, (..., 2 K), for positions (...) and angular rates (K,) per unit of position."""
    angles = positions[..., None] * rates
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


class SinusoidalTime(nn.Module):
    """Sines and cosines of geometrically spaced waves, and a linear layer; no raw time, no wave is ever silent.

    The slowest wave has a period of ``longest_seconds``, the fastest ``highest_hz``.
    """

    rates: Tensor

    def __init__(self, width: int, n_bands: int, longest_seconds: float, highest_hz: float) -> None:
        super().__init__()
        # The paper's series stops one step short of its longest wave; here the last wave is the longest.
        base = (longest_seconds * highest_hz) ** (n_bands / max(n_bands - 1, 1))
        rates = 2.0 * math.pi * highest_hz * geometric_rates(n_bands, base)
        self.register_buffer("rates", rates, persistent=False)
        self.project = nn.Linear(2 * n_bands, width)

    def forward(self, seconds: Tensor, patch_rate: Tensor) -> Tensor:
        """Return codes (B, P, width) for times (B, P) in seconds; the patch rates (B,) play no part."""
        output: Tensor = self.project(sinusoids(seconds, self.rates))
        return output


class LearnedTime(nn.Module):
    """A learned vector for each bin of time; between the centres of two bins their vectors are blended.

    Times before the first centre and after the last have the vector of that bin: nothing was learnt of what lies beyond
    ``longest_seconds``. :meth:`TokenSettings.require_reach` refuses windows that would reach there.
    """

    def __init__(self, width: int, bin_seconds: float, longest_seconds: float) -> None:
        super().__init__()
        self.bin_seconds = bin_seconds
        n_bins = max(1, math.ceil(longest_seconds / bin_seconds - 1e-6))
        codes = nn.init.trunc_normal_(torch.empty(n_bins, width), 0.0, CODE_STD, -2.0 * CODE_STD, 2.0 * CODE_STD)
        self.table = nn.ParameterDict({"codes": nn.Parameter(codes)})

    def forward(self, seconds: Tensor, patch_rate: Tensor) -> Tensor:
        """Return codes (B, P, width) for times (B, P) in seconds; the patch rates (B,) play no part."""
        codes = self.table["codes"]  # (n_bins, width)
        last = len(codes) - 1
        position = (seconds / self.bin_seconds - 0.5).clamp(0.0, float(last))  # in bins, centre to centre
        below = position.floor()
        fraction = (position - below)[..., None]
        first = below.long()
        blended: Tensor = (1.0 - fraction) * codes[first] + fraction * codes[(first + 1).clamp(max=last)]
        return blended


def time_code(kind: str, width: int, *, n_bands: int, longest_seconds: float, highest_hz: float) -> nn.Module:
    """Return a code of time by name: "fourier", "sinusoidal" or "learned".

    The first two have ``n_bands`` waves from ``longest_seconds`` to ``highest_hz``; the third is a table that reaches
    to ``longest_seconds``, with bins of half the period of ``highest_hz``.

    Raises SettingsError where the kind is unknown.
    """
    if kind == "fourier":
        return TimeEncoding(width, n_bands, longest_seconds, highest_hz)
    if kind == "sinusoidal":
        return SinusoidalTime(width, n_bands, longest_seconds, highest_hz)
    if kind == "learned":
        return LearnedTime(width, 0.5 / highest_hz, longest_seconds)
    raise SettingsError(f"tokens.time_code is {kind!r}; allowed are {', '.join(TIME_CODES)}")


class RotaryTime(nn.Module):
    """Turns heads of latents by the latents' times; has no parameters.

    The L latents are spread evenly over ``seconds``: latent i lies at (i + 1/2) / L of the time. The waves of a head's
    numbers are geometrically spaced, from twice the time between two latents to twice the whole time.

    Raises SettingsError where the head's width is odd or the time not above 0.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, n_latents: int, seconds: float, head_width: int) -> None:
        super().__init__()
        refuse_odd_heads(head_width)
        if not (math.isfinite(seconds) and seconds > 0):
            raise SettingsError(f"Latents cannot be spread over {seconds} seconds; the time must be above 0.")
        n_pairs = head_width // 2
        times = (torch.arange(n_latents, dtype=torch.float32) + 0.5) * (seconds / n_latents)
        shortest = 2.0 * seconds / n_latents
        periods = shortest * float(n_latents) ** (torch.arange(n_pairs) / max(n_pairs - 1, 1))
        angles = 2.0 * math.pi * times[:, None] / periods  # (L, d / 2)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, heads: Tensor) -> Tensor:
        """Return heads (B, H, L, d), each pair (i, i + d/2) of numbers turned by its latent's angle."""
        first, second = heads.chunk(2, -1)
        cosines, sines = self.cosines.to(heads.dtype), self.sines.to(heads.dtype)
        return torch.cat((first * cosines - second * sines, first * sines + second * cosines), -1)


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
