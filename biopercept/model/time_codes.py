"""Codes of time by name: Fourier features, sinusoids or a learned table, all of seconds within the window.

All are asked the same way, ``code(seconds, patch_rate)``: times (B, P) in seconds from the window's start and patch
rates (B,) in Hz become codes (B, P, width). A code depends on the token's own time and on nothing else in the batch,
so windows of any clock, rate and length may lie beside each other. Tokens and output queries are coded by one kind,
made by :meth:`TokenSettings.time_encoding`.

References
----------
Fourier features: A. Jaegle et al., "Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795 (``encodings``).
Sinusoids: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, doi:10.48550/arXiv.1706.03762. There the
places are whole numbers, the waves from 2 pi to 10 000 * 2 pi places long, and the code is as wide as a token and added
to it; here places are seconds, the waves from the shortest to the longest of the Fourier grid (geometrically spaced, as
there), and a linear layer brings them to the width, as it does for the Fourier features.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.model.encodings import TimeEncoding, geometric_rates, sinusoids
from biopercept.model.layers import CODE_STD
from biopercept.model.positions import KINDS, LearnedPositions

TIME_CODES = KINDS
"""Names that :func:`time_code` knows."""


class SinusoidalTime(nn.Module):
    """Sines and cosines of geometrically spaced waves, and a linear layer; no raw time, no wave is ever silent.

    Parameters
    ----------
    width : int
    n_bands : int
        Number of waves.
    longest_seconds : float
        Period of the slowest, seconds.
    highest_hz : float
        Frequency of the fastest.
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

    Times before the first centre and after the last have the vector of that bin: nothing was learnt of what lies
    beyond the table. :meth:`TokenSettings.require_reach` refuses windows that would reach there.

    Parameters
    ----------
    width : int
    bin_seconds : float
        Width of a bin, seconds.
    longest_seconds : float
        Time that the bins cover from the window's start, seconds.
    """

    def __init__(self, width: int, bin_seconds: float, longest_seconds: float) -> None:
        super().__init__()
        self.bin_seconds = bin_seconds
        n_bins = max(1, math.ceil(longest_seconds / bin_seconds - 1e-6))
        self.table = LearnedPositions((n_bins,), width, CODE_STD)

    def forward(self, seconds: Tensor, patch_rate: Tensor) -> Tensor:
        """Return codes (B, P, width) for times (B, P) in seconds; the patch rates (B,) play no part."""
        last = self.table.shape[0] - 1
        place = (seconds / self.bin_seconds - 0.5).clamp(0.0, float(last))  # in bins, centre to centre
        below = place.floor()
        share = (place - below)[..., None]
        first = below.long()
        codes = self.table.codes
        blended: Tensor = (1.0 - share) * codes[first] + share * codes[(first + 1).clamp(max=last)]
        return blended


def time_code(kind: str, width: int, *, n_bands: int, longest_seconds: float, highest_hz: float) -> nn.Module:
    """Return a code of time by name.

    Parameters
    ----------
    kind : str
        "fourier", "sinusoidal" or "learned".
    width : int
        Of a code.
    n_bands : int
        Waves of the first two.
    longest_seconds : float
        Their slowest period; the reach of the learned table.
    highest_hz : float
        Their fastest wave; a bin of the learned table is half its period long.

    Raises
    ------
    SettingsError
        Where the kind is unknown.
    """
    if kind == "fourier":
        return TimeEncoding(width, n_bands, longest_seconds, highest_hz)
    if kind == "sinusoidal":
        return SinusoidalTime(width, n_bands, longest_seconds, highest_hz)
    if kind == "learned":
        return LearnedTime(width, 0.5 / highest_hz, longest_seconds)
    raise SettingsError(f"The token setting time_code is {kind!r}; allowed are {', '.join(TIME_CODES)}.")
