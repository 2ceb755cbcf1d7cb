"""The one interface that every model is fitted through: the Perceiver, its rivals and the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopercept.learning.engine import seed_for
from biopercept.learning.operations import operations_per_window
from biopercept.learning.pretraining import pretrained_weights
from biopercept.learning.stacked import fit_stacked
from biopercept.learning.starting import load_start
from biopercept.learning.task_objective import Objective, SingleTimes, predict_windows, scaled_tasks
from biopercept.learning.token_source import TokenSource
from biopercept.learning.training import FitRequest, FittedNetwork, fit_network
from biopercept.learning.training_settings import FitSettings
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver, Outputs, PerceiverSettings
from biopercept.model.tokens import TokenInputs, TokenSettings, TokenVocabulary
from biopercept.tasks import CLASSIFICATION, Task

__all__ = ["FitRequest", "FitSettings", "Fitted", "Fitter", "NetworkFitter", "NetworkOnStudy", "fit_perceiver_io"]


class Fitted(Protocol):
    """A fitted model."""

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""
        ...

    @property
    def operations_per_window(self) -> int | None:
        """Return the multiply-adds that answering one window takes; None where the model is no network."""
        ...

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes); rows sum to 1.

        Of a regression the number of each, (len(rows), 1); of several tasks their predictions side by side.
        """
        ...


Fitter = Callable[[FitRequest], Fitted]

MakeNetwork = Callable[[FitSettings, TokenVocabulary, Sequence[Task]], nn.Module]
"""Makes a network for tasks; it gives :class:`Outputs` of ``(TokenInputs, generator)``."""


def perceiver_io(settings: FitSettings, vocabulary: TokenVocabulary, tasks: Sequence[Task]) -> BiosignalPerceiver:
    """Return a new Perceiver IO with a query for each task; with ``training.dense_weight`` at single times, too."""
    n_outputs = {task.name: task.n_outputs for task in tasks}
    is_dense = settings.training.dense_weight > 0
    return BiosignalPerceiver(settings.model, settings.tokens, vocabulary, n_outputs, traces=is_dense)


class OfOneTask(nn.Module):
    """A network that maps ``(TokenInputs, generator)`` to a tensor (B, n_outputs), with the name of its task."""

    def __init__(self, network: nn.Module, task: str) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Outputs:
        """Return the tensor by the task's name."""
        output: Tensor = self.network(inputs, generator)
        return Outputs({self.task: output})

    @property
    def tokens_read(self) -> Callable[[TokenInputs], TokenInputs] | None:
        """Return what gives the part of a batch that the network reads; None where it reads all."""
        return getattr(self.network, "tokens_read", None)


@dataclass(frozen=True, eq=False)
class NetworkOnStudy:
    """A fitted network with the batches of the study it predicts.

    Attributes
    ----------
    fitted : FittedNetwork
    tasks : tuple of Task
        With the scales on which numbers were learnt.
    source : TokenSource
    rows : int64 array
        Windows it was fitted on.
    """

    fitted: FittedNetwork[Any]
    tasks: tuple[Task, ...]
    source: TokenSource
    rows: IntArray

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers; parts for sensors that the study lacks do not count."""
        return self.fitted.n_trained

    @cached_property
    def operations_per_window(self) -> int:
        """Return the multiply-adds of one window with all its tasks, counted on training windows."""
        return operations_per_window(self.fitted.network, self.source, self.rows)

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return the predictions of the windows at ``rows``, tasks side by side, (len(rows), sum of n_values).

        Probabilities of classes or levels; of a regression its number, in the unit of the study's column.
        """
        predicted = predict_windows(self.fitted.network, self.tasks, self.source, rows)
        return np.concatenate([predicted[task.name] for task in self.tasks], axis=1)


@dataclass(frozen=True)
class NetworkFitter:
    """Fits one kind of network by the one training loop, alone or several folds at once.

    Attributes
    ----------
    make : callable
    can_stack : bool
        Whether several can be fitted at once: the network runs under ``torch.func.vmap``.
    knows_tasks : bool
        Whether several tasks, the order of levels and single times are learnt; if not, levels are learnt as classes.
    """

    make: MakeNetwork
    can_stack: bool = False
    knows_tasks: bool = False

    def __call__(self, request: FitRequest) -> NetworkOnStudy:
        """Return the network fitted as the request says.

        Raises
        ------
        TrainingError
            Where the loss is not finite.
        CheckpointError
            Where the weights to start from have nothing in common with the network.
        """
        objective, labelled = self._objective(request), _labelled(request)
        fitted = fit_network(labelled, self._maker(request, objective.tasks), objective, starting_weights(request))
        return _on_study(labelled, fitted, objective.tasks)

    def together(self, requests: Sequence[FitRequest]) -> list[NetworkOnStudy]:
        """Return the networks of several requests, fitted at once; they share inputs, settings and engine."""
        objectives = [self._objective(request) for request in requests]
        labelled = [_labelled(request) for request in requests]
        weights = [starting_weights(request) for request in requests]
        fitted = fit_stacked(labelled, self._maker(requests[0], objectives[0].tasks), objectives, weights)
        return [
            _on_study(request, own, objective.tasks)
            for request, own, objective in zip(labelled, fitted, objectives, strict=True)
        ]

    def _objective(self, request: FitRequest) -> Objective:
        windows, training = request.inputs.windows, request.settings.training
        tasks = scaled_tasks(windows, request.training)
        if not self.knows_tasks:
            tasks = tuple(replace(task, kind=CLASSIFICATION) if task.is_ordinal else task for task in tasks)
        times = None
        if self.knows_tasks and training.dense_weight > 0:
            times = SingleTimes(
                windows, request.training, request.validation, weight=training.dense_weight, seed=request.seed
            )
        return Objective(windows, tasks, training.label_smoothing, training.weight_by_task(), times)

    def _maker(self, request: FitRequest, tasks: Sequence[Task]) -> Callable[[TokenVocabulary], nn.Module]:
        return lambda vocabulary: self.make(request.settings, vocabulary, tasks)


def _labelled(request: FitRequest) -> FitRequest:
    """Return the request without the windows that no task labels: those of the grid."""
    is_labelled = request.inputs.windows.is_labelled
    training, validation = request.training, request.validation
    return replace(request, training=training[is_labelled[training]], validation=validation[is_labelled[validation]])


def _on_study(request: FitRequest, fitted: FittedNetwork[Any], tasks: tuple[Task, ...]) -> NetworkOnStudy:
    source = TokenSource(request.inputs, fitted.population, request.settings.tokens, request.engine.device)
    return NetworkOnStudy(fitted, tasks, source, request.fitting)


def starting_weights(request: FitRequest) -> dict[str, torch.Tensor] | None:
    """Return the weights that the request's network starts from; None for new ones.

    With ``pretraining`` set they are pretrained here and now on the signals of the training subjects, labelled or not:
    validation and test subjects stay unseen.

    Raises
    ------
    CheckpointError
        Where the model to start from cannot be read.
    """
    settings = request.settings
    start = dict(load_start(Path(settings.start_from)).weights) if settings.start_from else None
    if settings.pretraining is None:
        return start
    return pretrained_weights(
        request.inputs,
        {str(s) for s in request.inputs.windows.subject[request.training]} | set(request.unlabelled),
        tokens=settings.tokens,
        model=settings.model,
        settings=settings.pretraining,
        engine=request.engine,
        seed=seed_for(request.seed, "pretraining"),
        start_from=start,
    )


NetworkFactory = Callable[[PerceiverSettings, TokenSettings, TokenVocabulary, int], nn.Module]


def fitter_of_one_task(network: NetworkFactory, *, can_stack: bool = False) -> NetworkFitter:
    """Return what fits a network of one task.

    Parameters
    ----------
    network : callable
        Makes it from the model and token settings, what it must be able to read, and its number of outputs.
    can_stack : bool
        See :class:`NetworkFitter`.
    """

    def make(settings: FitSettings, vocabulary: TokenVocabulary, tasks: Sequence[Task]) -> nn.Module:
        [task] = tasks
        return OfOneTask(network(settings.model, settings.tokens, vocabulary, task.n_outputs), task.name)

    return NetworkFitter(make, can_stack)


fit_perceiver_io = NetworkFitter(perceiver_io, can_stack=True, knows_tasks=True)
