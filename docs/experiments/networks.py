"""The networks of the experiments: the Perceiver IO on tokens with places, a convolutional and a linear one.

All are given the same numbers: each token's measured values beside the code of its place. The Perceiver takes
them as a set; the convolutional network takes the order of the tokens for its grid; the linear one has a weight for
each value and shows how far one comes without knowing what is near what.

Codes of places are called ``encoding(positions)``: positions (..., A) along A axes of a grid, each axis from -1 (first
grid point) to 1 (last), become codes (..., ``encoding.width``). A code depends on its own position and on nothing else,
so tokens may be shuffled, dropped, or come from another place in every sample.

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
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.model.encodings import fourier_features, geometric_rates, sinusoids
from biopercept.model.layers import LEARNED_ARRAY_STD, LearnedArray, initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import CoreSettings


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the Perceiver IO; the same for every kind of input.

    Attributes
    ----------
    width : int
        Width of latents and of the output query.
    n_latents, n_layers, n_heads : int
    n_cross_heads : int
        Heads of the cross-attention that reads the tokens.
    widening : int
        Hidden width of the two-layer networks, in multiples of ``width``.
    """

    width: int = 48
    n_latents: int = 16
    n_layers: int = 1
    n_heads: int = 4
    n_cross_heads: int = 2
    widening: int = 2

    def core(self, input_width: int) -> CoreSettings:
        """Return the shape of the Perceiver IO for tokens of this width."""
        return CoreSettings(
            input_width=input_width,
            query_width=self.width,
            output_width=self.width,
            n_latents=self.n_latents,
            latent_width=self.width,
            n_layers=self.n_layers,
            n_cross_heads=self.n_cross_heads,
            n_self_heads=self.n_heads,
            n_decoder_heads=self.n_heads,
            widening=self.widening,
            decoder_widening=self.widening,
            decoder_residual=True,
        )


class PlacedTokens(nn.Module):
    """A network that reads values beside the codes of their places; the interface of all networks here."""

    def __init__(self, encoding: PositionEncoding) -> None:
        super().__init__()
        self.encoding = encoding

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return logits (B, K) for values (B, N, V) at positions (B, N, A)."""
        raise NotImplementedError

    def placed(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return tokens (B, N, V + code width): what was measured, and where."""
        return torch.cat((values, self.encoding(positions)), -1)

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(p.numel() for p in self.parameters())


class PerceiverOnTokens(PlacedTokens):
    """The Perceiver IO with one learned query: which class is it.

    Parameters
    ----------
    n_values : int
        Numbers measured at each place; 0 where the place is all there is, as in a point cloud.
    """

    def __init__(self, n_values: int, encoding: PositionEncoding, n_classes: int, settings: NetworkSettings) -> None:
        super().__init__(encoding)
        self.core = PerceiverIO(settings.core(n_values + encoding.width))
        self.query = LearnedArray(1, settings.width)
        self.head = nn.Linear(settings.width, n_classes)
        for part in (self.query, self.head):
            initialise(part)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return logits (B, K) for values (B, N, V) at positions (B, N, A)."""
        answers = self.core(self.placed(values, positions), self.query())
        return cast(Tensor, self.head(answers[:, 0]))


class ConvolutionsOnGrid(PlacedTokens):
    """Three convolutions with batch norm, maxima over 2 after the first two, the mean over the grid, one linear layer.

    The plainest network of the kind: small kernels (3 x 3 pixels, 5 samples of a line), weights shared over the grid,
    pooling. With 32, 64 and 64 channels it has, on a picture, as many parameters as the Perceiver beside it.

    Parameters
    ----------
    encoding : PositionEncoding
        Its shape is the grid that the tokens are laid out on.
    reads_places : bool
        Whether the codes of the places enter as further channels.
    widths : tuple of int
        Channels of each convolution.
    """

    def __init__(
        self,
        n_values: int,
        encoding: PositionEncoding,
        n_classes: int,
        *,
        reads_places: bool,
        widths: tuple[int, ...] = (32, 64, 64),
    ) -> None:
        super().__init__(encoding)
        self.reads_places = reads_places
        is_line = len(encoding.shape) == 1
        convolution = nn.Conv1d if is_line else nn.Conv2d
        norm = nn.BatchNorm1d if is_line else nn.BatchNorm2d
        pooling = nn.MaxPool1d if is_line else nn.MaxPool2d
        kernel = 5 if is_line else 3
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((n_values + reads_places * encoding.width, *widths)):
            made = convolution(n_in, n_out, kernel, padding=kernel // 2, bias=False)
            layers += [made, norm(n_out), nn.ReLU(), pooling(2)]
        self.layers = nn.Sequential(*layers[:-1])
        self.head = nn.Linear(widths[-1], n_classes)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return logits (B, K) for values (B, N, V) at positions (B, N, A)."""
        tokens = self.placed(values, positions) if self.reads_places else values
        grid = tokens.transpose(1, 2).reshape(
            len(tokens), -1, *self.encoding.shape
        )  # (B, V, N) -> (B, V, rows, columns)
        return cast(Tensor, self.head(self.layers(grid).flatten(2).mean(2)))


class LinearOnTokens(PlacedTokens):
    """One linear layer on all values in their order: a weight for each place, and no notion of what is near what.

    Parameters
    ----------
    encoding : PositionEncoding
        Not read; its shape says how many tokens there are.
    """

    def __init__(self, n_values: int, encoding: PositionEncoding, n_classes: int) -> None:
        super().__init__(encoding)
        self.head = nn.Linear(n_values * math.prod(encoding.shape), n_classes)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return logits (B, K) for values (B, N, V); positions are not read."""
        return cast(Tensor, self.head(values.flatten(1)))


POSITION_CODES = ("fourier", "sinusoidal", "learned")
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
        bands = torch.stack([torch.linspace(1.0, n / 2.0, n_bands) for n in self.shape])
        self.register_buffer("frequencies", bands, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return codes (..., width) of positions (..., A)."""
        return fourier_features(positions, self.frequencies)


class SinusoidalPositions(PositionEncoding):
    """Sines and cosines of geometrically spaced wavelengths of the grid index, from 2 pi to 10 000 * 2 pi points.

    Parameters
    ----------
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

    Raises SettingsError where the kind is unknown, or the shape or the number of bands is not positive.

    Parameters
    ----------
    kind : str
        "fourier", "sinusoidal" or "learned".
    shape : sequence of int
        Grid points along each axis.
    n_bands : int
        Frequencies per axis; sinusoidal and learned codes are 2 A n_bands wide.
    """
    if kind == "fourier":
        return FourierPositions(shape, n_bands)
    if kind == "sinusoidal":
        return SinusoidalPositions(shape, 2 * len(shape) * n_bands)
    if kind == "learned":
        return LearnedPositions(shape, 2 * len(shape) * n_bands)
    raise SettingsError(f"The position encoding is {kind!r}; allowed are {', '.join(POSITION_CODES)}.")
