"""Branches of the features beside the network: simple models that are learnt for themselves and averaged with it.

With few people a linear model, and a small network of all features at once, err differently than the Perceiver; the
mean of all was better than each (docs/experiments/tuning.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.model.dropout import TokenDropout, drop
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import FeatureGroup, TokenInputs
from biopercept.model.tokens import hide_tokens

LINEAR, MLP = "linear", "mlp"
"""Names of the branches beside the network; before a task's name, with a slash, their outputs."""


class Sizes(Protocol):
    """What a two-layer branch reads of the network's settings (``PerceiverSettings``)."""

    @property
    def width(self) -> int:
        """Width of the second layer."""

    @property
    def widening(self) -> int:
        """Width of the first, in multiples of the second."""

    @property
    def feedforward_dropout(self) -> float:
        """Chance that an element of the first layer is dropped."""

    @property
    def head_dropout(self) -> float:
        """Chance that an element of the second layer is dropped."""


class FeatureCode(nn.Module):
    """One vector from all feature groups (name to number of features): maps of values and which are real, summed."""

    def __init__(self, width: int, groups: Mapping[str, int]) -> None:
        super().__init__()
        self.width = width
        self.groups = nn.ModuleDict({name: nn.Linear(2 * n, width) for name, n in groups.items()})

    def forward(self, features: tuple[FeatureGroup, ...], n_samples: int, like: Tensor) -> Tensor:
        """Return (n_samples, width), of dtype and device of ``like``; a group without a real feature adds exactly 0."""
        total = like.new_zeros(n_samples, self.width)
        for group in features:
            values = group.values.masked_fill(~group.is_real, 0.0)
            code = self.groups[group.name](torch.cat((values, group.is_real.to(values.dtype)), -1))
            total = total + code.masked_fill(~group.is_real.any(-1, keepdim=True), 0.0)
        return total


class LinearBranch(nn.Module):
    """A linear map of the features to the output of every task, from zero: beside the network, not through it.

    A missing feature counts as 0, its mean.

    References
    ----------
    H.-T. Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, doi:10.1145/2988450.2988454. There
    both parts are learnt by their sum; here each has a loss for itself, so that they err differently
    (docs/experiments/tuning.md).
    """

    def __init__(self, groups: Mapping[str, int], tasks: Mapping[str, int]) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        n_outputs = sum(tasks.values())
        self.groups = nn.ModuleDict({name: nn.Linear(n, n_outputs, bias=False) for name, n in groups.items()})
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        for weights in self.groups.parameters():
            nn.init.zeros_(weights)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the output (B, n_outputs) of every task; nothing is drawn."""
        total: Tensor = self.bias.expand(inputs.n_samples, -1)
        for group in inputs.features:
            total = total + self.groups[group.name](group.values.masked_fill(~group.is_real, 0.0))
        return dict(zip(self._tasks, torch.split(total, list(self._tasks.values()), -1), strict=True))


class MlpBranch(nn.Module):
    """Two layers over all features at once: beside the network, whose tokens each carry one group.

    In training whole sensors are hidden from it as from the network, by draws of its own.
    """

    def __init__(
        self,
        groups: Mapping[str, int],
        tasks: Mapping[str, int],
        settings: Sizes,
        hidden: TokenDropout,
    ) -> None:
        super().__init__()
        self._tasks, self._settings, self._hidden = dict(tasks), settings, hidden
        width = settings.widening * settings.width
        self.code = FeatureCode(width, groups)
        self.top = nn.Linear(width, settings.width)
        self.head = nn.Linear(settings.width, sum(tasks.values()))
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the output (B, n_outputs) of every task."""
        kept = hide_tokens(TokenInputs((), inputs.features), self._hidden, self.training, generator)
        x = F.gelu(self.code(kept.features, inputs.n_samples, self.head.weight))
        x = F.gelu(self.top(drop(x, self._settings.feedforward_dropout, self.training, generator)))
        outputs: Tensor = self.head(drop(x, self._settings.head_dropout, self.training, generator))
        return dict(zip(self._tasks, torch.split(outputs, list(self._tasks.values()), -1), strict=True))
