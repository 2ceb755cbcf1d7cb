"""The networks of the experiments: the Perceiver IO on tokens with places, a convolutional and a linear one.

All are given the same numbers: each token's measured values beside the code of its place. The Perceiver takes
them as a set; the convolutional network takes the order of the tokens for its grid; the linear one has a weight for
each value and shows how far one comes without knowing what is near what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from biopercept.model.layers import LearnedArray, initialise
from biopercept.model.perceiver import CoreSettings, PerceiverIO
from biopercept.model.time_codes import PositionEncoding


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
    """A network that reads values beside the codes of their places; the interface of all networks here.

    Parameters
    ----------
    encoding : PositionEncoding
    """

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
    encoding : PositionEncoding
    n_classes : int
    settings : NetworkSettings
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
    n_values : int
    encoding : PositionEncoding
        Its shape is the grid that the tokens are laid out on.
    n_classes : int
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
    n_values : int
    encoding : PositionEncoding
        Not read; its shape says how many tokens there are.
    n_classes : int
    """

    def __init__(self, n_values: int, encoding: PositionEncoding, n_classes: int) -> None:
        super().__init__(encoding)
        self.head = nn.Linear(n_values * math.prod(encoding.shape), n_classes)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """Return logits (B, K) for values (B, N, V); positions are not read."""
        return cast(Tensor, self.head(values.flatten(1)))
