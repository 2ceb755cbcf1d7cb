"""Codes of the places of a grid with any number of axes: Fourier features, sinusoids, or learned vectors.

All three are asked the same way, ``encoding(positions)``: positions (..., A) along A axes, each axis from -1 (first
grid point) to 1 (last), become codes (..., ``encoding.width``). A code depends on its own position and on nothing
else, so tokens may be shuffled, dropped, or come from another place in every sample.

References
----------
Fourier features: A. Jaegle et al., "Perceiver IO", ICLR 2022, doi:10.48550/arXiv.2107.14795; equal to the authors'
code (tested). Sinusoids: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017,
doi:10.48550/arXiv.1706.03762; sine and cosine alternate, as there. For several axes, where that paper says nothing,
the width is shared evenly among the axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.model.encodings import fourier_features, geometric_rates, linear_frequencies, sinusoids
from biopercept.model.layers import LEARNED_ARRAY_STD

KINDS = ("fourier", "sinusoidal", "learned")
"""Names that :func:`position_encoding` knows."""

_LONGEST_WAVE = 10_000.0  # of the sinusoids, in grid points over 2 pi, as in the paper


def grid_positions(shape: Sequence[int]) -> Tensor:
    """Return the position of every point of a grid, the last axis running fastest.

    Parameters
    ----------
    shape : sequence of int
        Grid points along each axis.

    Returns
    -------
    Tensor (N, A)
        N the product of ``shape``; each axis from -1 to 1. An axis of one point lies at -1.
    """
    axes = [torch.linspace(-1.0, 1.0, n) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


class PositionEncoding(nn.Module):
    """The interface of all position encodings.

    Attributes
    ----------
    shape : tuple of int
        Grid points along each axis.
    width : int
        Width of a code.
    """

    def __init__(self, shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.width = width
        if not self.shape or min(self.shape) < 1:
            raise SettingsError(f"The grid of positions has the shape {self.shape}; it must have axes of at least 1.")

    def forward(self, positions: Tensor) -> Tensor:
        """Return codes (..., width) of positions (..., A), each axis from -1 to 1."""
        raise NotImplementedError

    def _indices(self, positions: Tensor) -> Tensor:
        """Return positions counted in grid points from 0, (..., A), not rounded."""
        last = torch.tensor([n - 1 for n in self.shape], dtype=positions.dtype, device=positions.device)
        return (positions + 1.0) / 2.0 * last


class FourierPositions(PositionEncoding):
    """Raw positions beside sines and cosines of linearly spaced frequencies, up to the Nyquist of each axis.

    Parameters
    ----------
    shape : sequence of int
        Grid points along each axis; half of it is the highest frequency.
    n_bands : int
        Frequencies per axis; the code is A + 2 A n_bands wide.
    """

    frequencies: Tensor

    def __init__(self, shape: Sequence[int], n_bands: int) -> None:
        super().__init__(shape, len(shape) * (1 + 2 * n_bands))
        if n_bands < 1:
            raise SettingsError(f"Fourier positions were asked for {n_bands} bands; they need at least 1.")
        bands = torch.stack([linear_frequencies(n_bands, float(n)) for n in self.shape])
        self.register_buffer("frequencies", bands, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return codes (..., width) of positions (..., A)."""
        return fourier_features(positions, self.frequencies)


class SinusoidalPositions(PositionEncoding):
    """Sines and cosines of geometrically spaced wavelengths of the grid index, from 2 pi to 10 000 * 2 pi points.

    Parameters
    ----------
    shape : sequence of int
    width : int
        A multiple of twice the number of axes.
    """

    rates: Tensor

    def __init__(self, shape: Sequence[int], width: int) -> None:
        super().__init__(shape, width)
        if width < 1 or width % (2 * len(self.shape)):
            raise SettingsError(
                f"Sinusoidal positions on {len(self.shape)} axes cannot be {width} wide; "
                f"the width must be a multiple of {2 * len(self.shape)}."
            )
        per_axis = width // len(self.shape)
        self.register_buffer("rates", geometric_rates(per_axis // 2, _LONGEST_WAVE), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return codes (..., width) of positions (..., A)."""
        return sinusoids(self._indices(positions), self.rates).flatten(-2)  # (..., A, 2 K) -> (..., A K 2)


class LearnedPositions(PositionEncoding):
    """A learned vector for each grid point; a position between points takes that of the nearest.

    Parameters
    ----------
    shape : sequence of int
    width : int
    std : float
        Spread of the vectors at the start.
    """

    def __init__(self, shape: Sequence[int], width: int, std: float = LEARNED_ARRAY_STD) -> None:
        super().__init__(shape, width)
        if width < 1:
            raise SettingsError(f"Learned positions cannot be {width} wide; the width must be at least 1.")
        self.codes = nn.Parameter(torch.empty(math.prod(self.shape), width))
        nn.init.trunc_normal_(self.codes, 0.0, std, -2.0 * std, 2.0 * std)

    def forward(self, positions: Tensor) -> Tensor:
        """Return codes (..., width) of positions (..., A)."""
        nearest = self._indices(positions).round().long()
        index = torch.zeros_like(nearest[..., 0])
        for axis, n in enumerate(self.shape):
            index = index * n + nearest[..., axis].clamp(0, n - 1)
        return self.codes[index]


def position_encoding(kind: str, shape: Sequence[int], *, n_bands: int) -> PositionEncoding:
    """Return an encoding by name, all of about the width of the Fourier features with ``n_bands``.

    Parameters
    ----------
    kind : str
        "fourier", "sinusoidal" or "learned".
    shape : sequence of int
        Grid points along each axis.
    n_bands : int
        Frequencies per axis; sinusoidal and learned codes are 2 A n_bands wide.

    Raises
    ------
    SettingsError
        Where the kind is unknown, or the shape or the number of bands is not positive.
    """
    if kind == "fourier":
        return FourierPositions(shape, n_bands)
    if kind == "sinusoidal":
        return SinusoidalPositions(shape, 2 * len(shape) * n_bands)
    if kind == "learned":
        return LearnedPositions(shape, 2 * len(shape) * n_bands)
    raise SettingsError(f"The position encoding is {kind!r}; allowed are {', '.join(KINDS)}.")
