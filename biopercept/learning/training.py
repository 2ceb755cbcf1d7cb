"""Fit a network on the windows of some subjects, stopping early on others; short, seeded, one loop for all networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from biopercept.errors import TrainingError
from biopercept.learning.class_objective import ClassObjective
from biopercept.learning.engine import Engine, seeded
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import Population
from biopercept.learning.optimisation import RunningMean, make_optimiser
from biopercept.learning.starting import take_weights
from biopercept.learning.token_source import TokenSource, vocabulary_of
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary

EpochReport = Callable[[int, float, float], None]
Network = TypeVar("Network", bound=nn.Module, covariant=True)


@dataclass(frozen=True, eq=False)
class FittedNetwork(Generic[Network]):
    """A trained network, and how its training went.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode.
    population : Population
        Statistics of training and validation subjects that scaled its inputs.
    history : tuple of (epoch, training loss, validation loss)
        The validation loss is NaN where no subject was set aside.
    best_epoch : int
        Epoch whose weights are kept.
    n_trained : int
        Numbers that training ever touched: parts for sensors that the study lacks are not among them.
    """

    network: Network
    population: Population
    history: tuple[tuple[int, float, float], ...]
    best_epoch: int
    n_trained: int

    @property
    def n_parameters(self) -> int:
        """Return the number of all numbers of the network, trained or not."""
        return sum(parameter.numel() for parameter in self.network.parameters())


FittedPerceiver = FittedNetwork[BiosignalPerceiver]


class Objective(Protocol):
    """What a fit makes small, and how it draws its windows."""

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each of the training windows ``rows`` is drawn, (len(rows),)."""
        ...

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the loss of a batch of windows, with its graph."""
        ...

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss that early stopping looks at."""
        ...


def fit_perceiver(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    settings: TrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
    on_epoch: EpochReport | None = None,
) -> FittedPerceiver:
    """Return a Perceiver IO fitted by :func:`fit_network`; ``model`` are its settings.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """

    def make(vocabulary: TokenVocabulary, n_classes: int) -> BiosignalPerceiver:
        return BiosignalPerceiver(model, tokens, vocabulary, n_classes)

    return fit_network(
        inputs,
        training,
        validation,
        make,
        tokens=tokens,
        settings=settings,
        engine=engine,
        seed=seed,
        start_from=start_from,
        on_epoch=on_epoch,
    )


def fit_network(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    make: Callable[[TokenVocabulary, int], Network],
    *,
    tokens: TokenSettings,
    settings: TrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
    on_epoch: EpochReport | None = None,
    objective: Objective | None = None,
) -> FittedNetwork[Network]:
    """Return a network fitted on the windows ``training``, kept at the epoch that is best on ``validation``.

    Parameters
    ----------
    inputs : WindowInputs
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    make : callable
        Gives a new network for a vocabulary and a number of classes. The network maps ``(TokenInputs, generator)``
        to logits (B, n_classes) by a last linear layer called ``head``, and takes its draws from the generator.
    tokens, settings
        What is read, and how it is fitted.
    engine : Engine
        Device and precision.
    seed : int
        Of initialisation, sampling, dropout; the same seed on the same machine gives the same weights.
    start_from : mapping of str to Tensor, optional
        Weights to begin with, where name and shape agree.
    on_epoch : callable, optional
        Told ``(epoch, training_loss, validation_loss)`` after each epoch.
    objective : Objective, optional
        What is made small; None: the cross-entropy of the table's classes.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    CheckpointError
        Where ``start_from`` has nothing in common with the network.
    """
    subjects = sorted({str(s) for s in inputs.windows.subject[np.concatenate([training, validation])]})
    population = inputs.fit(subjects)
    source = TokenSource(inputs, population, tokens, engine.device)
    objective = objective or ClassObjective(inputs.windows, settings.label_smoothing)
    with seeded(seed) as generator:
        network = make(vocabulary_of(inputs.windows.feature_names), inputs.windows.n_classes)
        if start_from is not None:
            take_weights(network, start_from)
        network.to(engine.device)
        noise = torch.Generator(engine.device).manual_seed(seed)
        weights = objective.sampling_weights(training)
        n_steps = max(1, math.ceil(len(training) / settings.batch_size))
        optimiser, schedule = make_optimiser(
            network,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_fraction=settings.warmup_fraction,
            n_steps=n_steps * settings.n_epochs,
        )
        average = RunningMean(network, settings.average_decay)
        history: list[tuple[int, float, float]] = []
        best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        for epoch in range(1, settings.n_epochs + 1):
            network.train()
            total = 0.0
            for step in range(n_steps):
                drawn = torch.multinomial(weights, settings.batch_size, replacement=True, generator=generator)
                rows = training[drawn.numpy()]
                loss = _training_step(network, source, rows, objective, optimiser, settings, engine, noise)
                if not math.isfinite(loss):
                    raise TrainingError(not_finite(inputs, rows, epoch, step))
                schedule.step()
                average.update(network)
                total += loss
            state = average.state()
            score = _validation_loss(network, state, source, validation, objective) if len(validation) else math.nan
            if len(validation) and not math.isfinite(score):
                raise TrainingError(
                    f"the validation loss is not finite after epoch {epoch}; lower training.learning_rate"
                )
            history.append((epoch, total / n_steps, score))
            if on_epoch is not None:
                on_epoch(*history[-1])
            if best is None or not len(validation) or score < best[0]:
                best = (score, epoch, state)
            elif epoch - best[1] >= settings.patience:
                break
    assert best is not None  # n_epochs >= 1
    network.load_state_dict(best[2])
    network.eval()
    n_trained = sum(parameter.numel() for parameter in network.parameters() if parameter in optimiser.state)
    return FittedNetwork(network, population, tuple(history), best[1], n_trained)


def _training_step(
    network: nn.Module,
    source: TokenSource,
    rows: IntArray,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    engine: Engine,
    noise: torch.Generator,
) -> float:
    with engine.autocast():
        loss = objective.loss(network, source, rows, noise)
    optimiser.zero_grad(set_to_none=True)
    engine.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
    optimiser.step()
    return float(loss.detach())


def _validation_loss(
    network: nn.Module,
    state: dict[str, torch.Tensor],
    source: TokenSource,
    rows: IntArray,
    objective: Objective,
) -> float:
    """Return the loss of averaged weights on the validation windows."""
    current = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    score = objective.validation_loss(network, source, rows)
    network.load_state_dict(current)
    return score


def not_finite(inputs: WindowInputs, rows: IntArray, epoch: int, step: int) -> str:
    """Return the sentence for a training loss that is not finite, naming the recordings of the batch."""
    windows = inputs.windows
    names = sorted({windows.recordings[i].key for i in windows.recording[rows]})
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"the training loss is not finite at epoch {epoch}, step {step + 1}, in a batch of {shown}; "
        "lower training.learning_rate or look at these recordings with inspect"
    )
