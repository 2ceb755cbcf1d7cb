"""Branches beside the network: simpler models that are learnt for themselves and averaged with it.

With few people a linear model of the features, and a late fusion by convolutions, err differently than the Perceiver;
the mean of all was better than each (docs/experiments/tuning.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from biopercept.model.late_fusion import LateFusion, Sizes
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings

LINEAR, CONV = "linear", "conv"
"""Names of the branches beside the network; before a task's name, with a slash, their outputs."""


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


class ConvBranch(nn.Module):
    """Late fusion of signals and features (:class:`LateFusion`): plain means over time, which the Perceiver lacks.

    In training whole sensors are hidden from it as from the network, by draws of its own.
    """

    def __init__(
        self, vocabulary: TokenVocabulary, tasks: Mapping[str, int], settings: Sizes, tokens: TokenSettings
    ) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        self.fusion = LateFusion(settings, tokens, vocabulary, sum(tasks.values()))

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the output (B, n_outputs) of every task."""
        outputs = self.fusion(inputs, generator)
        return dict(zip(self._tasks, torch.split(outputs, list(self._tasks.values()), -1), strict=True))
