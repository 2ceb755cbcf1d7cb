"""What is hidden at random in training: elements of an array, and tokens from the queries that read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """One draw that a network asks for.

    Attributes
    ----------
    shape : tuple of int
    probability : float or None
        Of the events that are drawn; None: numbers uniform in [0, 1).
    """

    shape: tuple[int, ...]
    probability: float | None

    def take(self, device: torch.device, generator: torch.Generator | None) -> Tensor:
        """Return the draw from a generator: bool events, or float32 numbers."""
        if self.probability is None:
            return random_uniform(self.shape, device, generator)
        return random_hits(self.shape, self.probability, device, generator)[0]


class ListedDraws(torch.Generator):
    """Stands in for a generator: notes what a network asks for, and gives out what was drawn before.

    A network that runs for several sets of weights at once (``torch.func.vmap``) cannot draw from a generator of each
    set while it runs; its draws are made beforehand and handed in.

    Parameters
    ----------
    given : sequence of Tensor, optional
        Draws, in the order in which they are asked for. None: only note, and give nothing but zeros.
    """

    def __new__(cls, given: Sequence[Tensor] | None = None) -> ListedDraws:
        """Make the generator that this stands in for; it is never drawn from."""
        return super().__new__(cls)

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        self.asked: list[Draw] = []
        self._given = given

    def next(self, draw: Draw, device: torch.device) -> Tensor:
        """Return the next draw, which the network wants as ``draw`` says."""
        self.asked.append(draw)
        if self._given is not None:
            return self._given[len(self.asked) - 1]
        return torch.zeros(draw.shape, dtype=torch.float32 if draw.probability is None else torch.bool, device=device)


def random_uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return numbers uniform in [0, 1), float32 of ``shape``."""
    if isinstance(generator, ListedDraws):
        return generator.next(Draw(shape, None), device)
    return torch.rand(shape, device=device, generator=generator)


def random_hits(
    shape: tuple[int, ...], probability: float, device: torch.device, generator: torch.Generator | None
) -> tuple[Tensor, float]:
    """Return independent random events and their exact probability.

    One random byte decides each event: several times quicker on a CPU than a random float each, at the
    price of probabilities in steps of 1/256.

    Parameters
    ----------
    shape : tuple of int
    probability : float
        Rounded to a multiple of 1/256.
    device : torch.device
    generator : torch.Generator or None
        Source of the draws, on ``device``; None: torch's global one.

    Returns
    -------
    hits : bool Tensor of ``shape``
    probability : float
        After rounding.
    """
    if isinstance(generator, ListedDraws):
        return generator.next(Draw(shape, probability), device), round(256 * probability) / 256
    n_events = math.prod(shape)
    words = torch.empty((n_events + 7) // 8, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)  # the default range would leave one bit in 64 unset
    threshold = round(256 * probability)
    return (words.view(torch.uint8)[:n_events] < threshold).view(shape), threshold / 256


def drop(values: Tensor, probability: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Return ``values`` with elements zeroed at random and the rest scaled up, as dropout does.

    Parameters
    ----------
    values : Tensor, any shape
    probability : float
        Chance of an element to be zeroed, rounded to a multiple of 1/256.
    training : bool
        False returns ``values`` itself.
    generator : torch.Generator or None
        Where the draws come from; must live on the device of ``values``. None: torch's global one.

    Returns
    -------
    Tensor of the same shape.
    """
    if not training or probability == 0.0:
        return values
    hits, chance = random_hits(tuple(values.shape), probability, values.device, generator)
    return values * (~hits).to(values.dtype).mul_(1.0 / (1.0 - chance))


def hide_keys(
    n_queries: int, tokens: Tensor, mask: Tensor | None, probability: float, generator: torch.Generator | None
) -> Tensor:
    """Return which tokens each query may read when some are hidden from it at random.

    Hiding keys before the softmax is the attention dropout used here: what is left still sums to
    one, and the fused kernel can be used in training. Heads share the draw. A query from which all
    real tokens would be hidden keeps them all.

    Parameters
    ----------
    n_queries : int
    tokens : Tensor (B, N, C)
    mask : bool Tensor (B, N), True = real, or None for all real
    probability : float
    generator : torch.Generator or None

    Returns
    -------
    bool Tensor (B, L, N), True = may be read

    References
    ----------
    B. Li et al., "DropKey for Vision Transformer", CVPR 2023, doi:10.1109/CVPR52729.2023.02174.
    """
    shape = (len(tokens), n_queries, tokens.shape[1])
    hidden, _ = random_hits(shape, probability, tokens.device, generator)
    kept = ~hidden if mask is None else mask[:, None] & ~hidden
    is_left = kept.any(-1, keepdim=True)
    return kept | (~is_left if mask is None else ~is_left & mask[:, None])
