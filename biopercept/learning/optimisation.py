"""AdamW on a cosine with warm-up, and the running mean of the weights that is evaluated and kept."""

from __future__ import annotations

import math

import torch
from torch import nn


def make_optimiser(
    network: nn.Module, *, learning_rate: float, weight_decay: float, warmup_fraction: float, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW, which decays matrices only, and its schedule over ``n_steps`` steps.

    Parameters
    ----------
    network : nn.Module
    learning_rate : float
        Highest rate, reached after the warm-up.
    weight_decay : float
        Decoupled decay of parameters with two axes or more.
    warmup_fraction : float
        Part of all steps in which the rate rises.
    n_steps : int
    """
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    plain = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=learning_rate, fused=True)  # a third of the time of the default
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: rate_at(s, n_steps, warmup_fraction))


def rate_at(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Return the learning rate of a step, counted from 0, as a part of the highest: a rise, then a cosine to 0."""
    warmup = max(1, round(warmup_fraction * n_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))


class RunningMean:
    """Exponential running mean of the weights, corrected for its short start.

    Parameters
    ----------
    network : nn.Module
        Its state must hold floating-point numbers only.
    decay : float
        Share of the old mean that a step keeps; 0 keeps the last weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._seen = 0
        self._mean = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        """Take the network's present weights into the mean."""
        self._seen += 1
        with torch.no_grad():
            state = network.state_dict()
            names = list(state)
            torch._foreach_lerp_([self._mean[n] for n in names], [state[n] for n in names], 1.0 - self._decay)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the mean as a state that the network can load."""
        correction = 1.0 - self._decay**self._seen
        return {name: value / correction for name, value in self._mean.items()}
