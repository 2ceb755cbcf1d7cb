"""The loss of several tasks at once, of whole windows and of single times, on windows that not every task labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopercept.learning.class_objective import cell_weights
from biopercept.learning.dense_labels import DenseLabels
from biopercept.learning.layouts import in_order
from biopercept.learning.objectives import joint_loss, task_losses
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray, TaskColumn, WindowTable
from biopercept.model.answering import Answers, QueryPerceiver
from biopercept.model.queries import ORDINAL, TaskSpec
from biopercept.studies.tasks import Task

TIMES_PER_WINDOW = 16
"""Single times asked for in each window of a training batch."""


@dataclass(frozen=True)
class TaskOutput:
    """One of the answers of a network, and the scale on which it gives it.

    Attributes
    ----------
    task : Task
    weight : float
        Of its loss beside the other tasks'.
    mean, spread : float
        Of a regression's numbers among the training subjects, in the unit of the study's column; the network answers
        in spreads from the mean. 0 and 1 for classes.
    """

    task: Task
    weight: float = 1.0
    mean: float = 0.0
    spread: float = 1.0

    @property
    def spec(self) -> TaskSpec:
        """Return what the network needs to know of the task."""
        n_outputs = 1 if self.task.is_regression else len(self.task.classes) - (self.task.kind == ORDINAL)
        return TaskSpec(self.task.name, self.task.kind, n_outputs, self.weight)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that :meth:`from_json` reads back."""
        return {**asdict(self), "task": self.task.to_json()}

    @staticmethod
    def from_json(document: dict[str, Any]) -> TaskOutput:
        """Return the output that :meth:`to_json` wrote; StudyError, KeyError or TypeError where it is none."""
        numbers = {name: float(document[name]) for name in ("weight", "mean", "spread")}
        return TaskOutput(Task.from_json(document["task"]), **numbers)


def fitted_outputs(windows: WindowTable, training: IntArray, weights: dict[str, float]) -> tuple[TaskOutput, ...]:
    """Return the outputs of a table's tasks, each regression with the scale of the training windows alone.

    Subjects weigh the same in mean and spread, however many windows they have.
    """
    outputs = []
    for column in windows.columns:
        output = TaskOutput(column.task, weights.get(column.task.name, 1.0))
        if column.task.is_regression:
            rows = training[column.is_known[training]]
            values, share = column.value[rows], cell_weights(windows.subject[rows], column.target[rows]).numpy()
            mean = float(np.average(values, weights=share))
            spread = float(np.sqrt(np.average((values - mean) ** 2, weights=share)))
            output = replace(output, mean=mean, spread=spread if spread > 0 else 1.0)
        outputs.append(output)
    return tuple(outputs)


class TaskObjective:
    """What a network of several tasks is trained by.

    1. A window is drawn as often as the tasks that label it would draw it, on average over tasks; within a task
       subjects weigh the same, and so do a subject's classes. A window that a task does not label is masked from it.
    2. With ``dense_weight``, every batch takes half as many windows again from the grid, evenly over subjects; they
       cross the borders of stretches, and each task is asked for its answer at times drawn at random within them.

    Parameters
    ----------
    windows : WindowTable
        Joint table; with the grid where ``dense_weight`` is above 0.
    outputs : sequence of TaskOutput
    training, validation : int64 arrays
        Rows of the table, the grid's included; nothing else is read.
    dense_weight : float
    label_smoothing : float
        Of classifications.
    seed : int
        Of the times and windows that are drawn for single times.
    """

    def __init__(
        self,
        windows: WindowTable,
        outputs: Sequence[TaskOutput],
        training: IntArray,
        validation: IntArray,
        *,
        dense_weight: float,
        label_smoothing: float,
        seed: int,
    ) -> None:
        self.windows, self.outputs, self.dense_weight = windows, tuple(outputs), dense_weight
        self._smoothing = label_smoothing
        self._draws = torch.Generator().manual_seed(seed)
        self._dense: list[DenseLabels] = []
        if dense_weight > 0:
            self._dense = [DenseLabels(windows.recordings, output.task) for output in outputs]
            self._grid, self._validation_grid = (rows[_is_grid(windows)[rows]] for rows in (training, validation))
            self._chance = cell_weights(windows.subject[self._grid], windows.target[self._grid])

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each window is drawn, (len(rows),): the mean over tasks of its share in each."""
        shares = [_share(self.windows, column, rows) for column in self.windows.columns]
        return torch.from_numpy(np.mean(shares, axis=0))

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the weighted loss of a batch: the tasks', and that of single times where it is trained."""
        assert isinstance(network, QueryPerceiver)
        if not self._dense:
            return self._window_loss(network.answer(_latents(network, source, rows, noise), generator=noise), rows)
        extra = torch.multinomial(self._chance, max(1, len(rows) // 2), replacement=True, generator=self._draws)
        chosen = np.concatenate([rows, self._grid[extra.numpy()]])
        times = self.windows.length_seconds * torch.rand(len(chosen), TIMES_PER_WINDOW, generator=self._draws)
        latents = _latents(network, source, chosen, noise)
        answers = network.answer(latents, traces=self._asked(times, source), generator=noise)
        return self._window_loss(answers, chosen) + self.dense_weight * self._time_loss(answers, chosen, times)

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the weighted loss of the validation subjects' windows, weighed as they would be drawn."""
        total = 0.0
        for number, column in enumerate(self.windows.columns):
            known = rows[column.is_known[rows]]
            if len(known):
                losses = self._losses_of(network, source, known, number)
                share = _share(self.windows, column, known)
                total += self.outputs[number].weight * float(np.average(losses, weights=share))
        if self._dense and len(self._validation_grid):
            total += self.dense_weight * self._validation_time_loss(network, source)
        return total

    def _window_loss(self, answers: Answers, rows: IntArray) -> torch.Tensor:
        device = next(iter(answers.tasks.values())).device
        specs = [output.spec for output in self.outputs]
        columns = [column.at(rows) for column in self.windows.columns]
        truths = {s.name: _truth(o, c).to(device) for s, o, c in zip(specs, self.outputs, columns, strict=True)}
        masks = {s.name: torch.from_numpy(c.is_known).to(device) for s, c in zip(specs, columns, strict=True)}
        return joint_loss(specs, answers.tasks, truths, masks, label_smoothing=self._smoothing)

    def _asked(self, times: torch.Tensor, source: TokenSource) -> dict[str, torch.Tensor]:
        return {output.task.name: times.to(source.device) for output in self.outputs}

    def _time_loss(self, answers: Answers, rows: IntArray, times: torch.Tensor) -> torch.Tensor:
        """Return the loss of the answers at single times, times (n, Q) in seconds from each window's start."""
        device = next(iter(answers.traces.values())).device
        at = self.windows.onset[rows][:, None] + times.numpy().astype(np.float64)
        truths, masks = {}, {}
        for output, dense in zip(self.outputs, self._dense, strict=True):
            found = dense.at(self.windows.recording[rows], at)
            truths[output.task.name] = _truth_of(output, found).to(device)
            masks[output.task.name] = torch.from_numpy(np.isfinite(found)).to(device)
        return joint_loss([output.spec for output in self.outputs], answers.traces, truths, masks)

    def _losses_of(self, network: nn.Module, source: TokenSource, rows: IntArray, number: int) -> NDArray[np.float64]:
        """Return the loss of each window for one task, in evaluation mode."""
        output, column = self.outputs[number], self.windows.columns[number]
        losses = np.zeros(len(rows))
        with torch.inference_mode():
            for places in source.layouts.parts(rows, most=256):
                part = rows[places]
                told = network.eval()(source.batch(part)).tasks[output.task.name]
                losses[places] = task_losses(output.spec, told, _truth(output, column.at(part)).to(told.device)).cpu()
        return losses

    def _validation_time_loss(self, network: nn.Module, source: TokenSource) -> float:
        """Return the mean loss at evenly spread times of the validation subjects' grid windows."""
        rows, losses = self._validation_grid, []
        spread = (torch.arange(TIMES_PER_WINDOW) + 0.5) / TIMES_PER_WINDOW * self.windows.length_seconds
        with torch.inference_mode():
            for start in range(0, len(rows), 256):
                part = rows[start : start + 256]
                times = spread.expand(len(part), -1)
                answers = network.eval()(source.batch(part), traces=self._asked(times, source))
                losses.append(len(part) * float(self._time_loss(answers, part, times)))
        return sum(losses) / len(rows)


def ask(network: QueryPerceiver, source: TokenSource, rows: IntArray, batch_size: int = 256) -> dict[str, torch.Tensor]:
    """Return the network's outputs of the windows at ``rows`` by task, each (len(rows), n_outputs) on the CPU."""
    found = {task.name: torch.zeros((len(rows), task.n_outputs)) for task in network.tasks}
    with torch.inference_mode():
        for part in source.layouts.parts(rows, most=batch_size):
            for name, told in network.eval()(source.batch(rows[part])).tasks.items():
                found[name][torch.from_numpy(part)] = told.float().cpu()
    return found


def _latents(network: QueryPerceiver, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
    """Return the latents of a training batch, read in parts of like windows."""
    return in_order(source.layouts.parts(rows), lambda part: network.encode(source.batch(rows[part]), noise))


def _is_grid(windows: WindowTable) -> NDArray[np.bool_]:
    """Return which rows of the table are windows of the grid."""
    return np.array(
        [not windows.recordings[i].windows.is_labelled[j] for i, j in zip(windows.recording, windows.row, strict=True)],
        dtype=bool,
    )


def _share(windows: WindowTable, column: TaskColumn, rows: IntArray) -> NDArray[np.float64]:
    """Return each window's share of a task's draws, summing to 1; 0 where the task does not label it."""
    share = np.zeros(len(rows))
    known = column.is_known[rows]
    if known.any():
        weights = cell_weights(windows.subject[rows][known], column.target[rows][known]).numpy()
        share[known] = weights / weights.sum()
    return share


def _truth(output: TaskOutput, column: TaskColumn) -> torch.Tensor:
    """Return a column as the loss takes it; what is unknown is masked by the caller."""
    known = np.where(column.is_known, column.value if column.task.is_regression else column.target, np.nan)
    return _truth_of(output, known)


def _truth_of(output: TaskOutput, answers: NDArray[np.float64]) -> torch.Tensor:
    """Return classes as int64 (...), numbers as standardised float32 (..., 1); 0 where unknown."""
    if not output.task.is_regression:
        return torch.from_numpy(np.nan_to_num(answers).astype(np.int64))
    scaled = np.nan_to_num((answers - output.mean) / output.spread)
    return torch.from_numpy(scaled.astype(np.float32))[..., None]
