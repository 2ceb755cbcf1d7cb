"""The one step of training (AdamW on a cosine with warm-up), and the running mean of weights that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from biopercept.learning.engine import Engine


class Optimisation:
    """The one step of training: loss, gradients, clipping, AdamW (which decays matrices only) on its schedule.

    Parameters
    ----------
    network : nn.Module
    engine : Engine
    learning_rate : float
        Highest rate, reached after the warm-up.
    weight_decay : float
        Decoupled decay of parameters with two axes or more.
    warmup_fraction : float
        Part of all steps in which the rate rises.
    gradient_clip : float
        Largest norm of the gradient.
    n_steps : int
        Of the whole training.
    """

    def __init__(
        self,
        network: nn.Module,
        engine: Engine,
        *,
        learning_rate: float,
        weight_decay: float,
        warmup_fraction: float,
        gradient_clip: float,
        n_steps: int,
    ) -> None:
        self._network, self._engine, self._gradient_clip = network, engine, gradient_clip
        decayed = [p for p in network.parameters() if p.ndim >= 2]
        plain = [p for p in network.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=learning_rate, fused=True)  # a third of the time of the default
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: rate_at(step, n_steps, warmup_fraction)
        )

    def step(self, loss_of_batch: Callable[[], torch.Tensor]) -> float:
        """Take one step on the loss that ``loss_of_batch`` computes, and return the loss, finite or not."""
        with self._engine.autocast():
            loss = loss_of_batch()
        self._optimiser.zero_grad(set_to_none=True)
        self._engine.backward(loss)
        nn.utils.clip_grad_norm_(self._network.parameters(), self._gradient_clip)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())

    @property
    def n_trained(self) -> int:
        """Return how many numbers of the network ever had a gradient."""
        state = self._optimiser.state
        return sum(parameter.numel() for parameter in self._network.parameters() if parameter in state)


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
