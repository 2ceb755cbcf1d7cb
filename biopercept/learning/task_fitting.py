"""Fit one network to several tasks, to an ordinal scale, a number, or answers at single times; and ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.learning.fitting import FitRequest, starting_weights
from biopercept.learning.objectives import answer_probabilities
from biopercept.learning.operations import operations_per_window
from biopercept.learning.task_objective import TaskObjective, TaskOutput, ask, fitted_outputs
from biopercept.learning.task_windows import is_answered
from biopercept.learning.token_source import TokenSource
from biopercept.learning.training import FittedNetwork, fit_network
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.model.answering import QueryPerceiver
from biopercept.model.tokens import TokenVocabulary
from biopercept.studies.tasks import CLASSIFICATION

FloatArray = NDArray[np.float64]


def needs_queries(windows: WindowTable, training: TrainingSettings) -> bool:
    """Return whether the windows or settings ask for more than one classification of whole windows."""
    kinds = [column.task.kind for column in windows.columns]
    return kinds != [CLASSIFICATION] or training.dense_weight > 0


@dataclass(frozen=True, eq=False)
class TaskNetworkOnStudy:
    """A fitted network of several answers, with the batches of the study it is asked about.

    Attributes
    ----------
    fitted : FittedNetwork
    outputs : tuple of TaskOutput
    source : TokenSource
    rows : int64 array
        Windows it was fitted on.
    """

    fitted: FittedNetwork[QueryPerceiver]
    outputs: tuple[TaskOutput, ...]
    source: TokenSource
    rows: IntArray

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers; parts that nothing asked for do not count."""
        return self.fitted.n_trained

    @cached_property
    def operations_per_window(self) -> int:
        """Return the multiply-adds of one window with all its tasks, counted on training windows."""
        return operations_per_window(self.fitted.network, self.source, self.rows)

    def probabilities(self, rows: IntArray) -> FloatArray:
        """Return the answers of the windows at ``rows``, tasks side by side, (len(rows), sum of answers).

        Probabilities of classes or levels; of a regression its number, in the unit of the study's column.
        """
        return window_answers(self.fitted.network, self.outputs, self.source, rows)


def fit_tasks(request: FitRequest) -> TaskNetworkOnStudy:
    """Return a Perceiver IO fitted to every task of the request's table, one learned query each.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    CheckpointError
        Where the weights to start from have nothing in common with the network.
    """
    settings, windows = request.settings, request.inputs.windows
    answered = is_answered(windows)
    outputs = fitted_outputs(windows, request.training, settings.training.weight_by_task())
    objective = TaskObjective(
        windows,
        outputs,
        request.training,
        request.validation,
        dense_weight=settings.training.dense_weight,
        label_smoothing=settings.training.label_smoothing,
        seed=request.seed,
    )

    def make(vocabulary: TokenVocabulary, n_classes: int) -> QueryPerceiver:
        return QueryPerceiver(settings.model, settings.tokens, vocabulary, [output.spec for output in outputs])

    training = request.training[answered[request.training]]
    fitted = fit_network(
        request.inputs,
        training,
        request.validation[answered[request.validation]],
        make,
        tokens=settings.tokens,
        settings=settings.training,
        engine=request.engine,
        seed=request.seed,
        start_from=starting_weights(request),
        on_epoch=request.on_epoch,
        objective=objective,
    )
    source = TokenSource(request.inputs, fitted.population, settings.tokens, request.engine.device)
    return TaskNetworkOnStudy(fitted, outputs, source, training)


def window_answers(
    network: QueryPerceiver, outputs: Sequence[TaskOutput], source: TokenSource, rows: IntArray
) -> FloatArray:
    """Return the answers of whole windows, tasks side by side, (len(rows), sum of answers)."""
    told = ask(network, source, rows)
    return np.concatenate([plain_answers(output, told[output.task.name]) for output in outputs], axis=1)


def plain_answers(output: TaskOutput, told: torch.Tensor) -> FloatArray:
    """Return what a network told of a task, (..., n_outputs), as probabilities or numbers in the column's unit."""
    values = np.asarray(answer_probabilities(output.spec, told.double()).cpu().numpy(), dtype=np.float64)
    return values * output.spread + output.mean if output.task.is_regression else values


def trace_answers(
    network: QueryPerceiver,
    outputs: Sequence[TaskOutput],
    source: TokenSource,
    rows: IntArray,
    times: NDArray[np.float32],
    *,
    batch_size: int = 64,
) -> dict[str, FloatArray]:
    """Return the answers at single times of windows, by task: (len(rows), Q, answers).

    Parameters
    ----------
    network, outputs, source
        Of one fit.
    rows : int64 array, shape (n,)
    times : float32 array, shape (n, Q)
        Seconds from the start of each window.
    batch_size : int
    """
    found: dict[str, list[FloatArray]] = {output.task.name: [] for output in outputs}
    parts = source.layouts.parts(rows, most=batch_size)
    with torch.inference_mode():
        for part in parts:
            asked = torch.from_numpy(times[part]).to(source.device)
            answers = network.eval()(source.batch(rows[part]), traces={o.task.name: asked for o in outputs})
            for output in outputs:
                found[output.task.name].append(plain_answers(output, answers.traces[output.task.name]))
    back = np.argsort(np.concatenate(parts), kind="stable")
    return {name: np.concatenate(told)[back] for name, told in found.items()}
