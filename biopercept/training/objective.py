"""What a network of any tasks is trained by: which windows are drawn, the loss, and what early stopping looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.data.batches import TokenSource, in_order
from biopercept.data.windows import DenseLabels, IntArray, WindowTable
from biopercept.model.biosignals import BiosignalPerceiver, Outputs
from biopercept.tasks import Task

FloatArray = NDArray[np.float64]
_LATENTS = "/latents"
TIMES_PER_WINDOW = 16
"""Single times queried in each window of a training batch."""


def scaled_tasks(windows: WindowTable, training: IntArray) -> tuple[Task, ...]:
    """Return the tasks of a table, each regression with the mean and scale of the training windows alone.

    Subjects weigh the same in both, however many windows they have.
    """
    tasks = []
    for targets in windows.targets.values():
        task = targets.task
        if task.is_regression:
            rows = training[targets.is_known[training]]
            values, weights = targets.values[rows], cell_weights(windows.subject[rows], targets.groups[rows]).numpy()
            mean = float(np.average(values, weights=weights))
            scale = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
            task = replace(task, mean=mean, scale=scale if scale > 0 else 1.0)
        tasks.append(task)
    return tuple(tasks)


@dataclass(frozen=True, eq=False)
class Objective:
    """What training makes small, of one task or several.

    A window is drawn as often as the tasks that label it would draw it, on average over tasks; within a task subjects
    weigh the same, and so do a subject's classes. A window that a task does not label is masked from it.

    * ``tasks``: those of the table, numbers with the scale on which they are learnt (:func:`scaled_tasks`).
    * ``label_smoothing``: of classifications.
    * ``weights``: of each task's loss beside the others'; 1 where not named.
    * ``times``: what is learnt of single times beside whole windows.
    """

    windows: WindowTable
    tasks: tuple[Task, ...]
    label_smoothing: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)
    times: SingleTimes | None = None

    def sampling_weights(self, rows: IntArray) -> Tensor:
        """Return how often each of the training windows ``rows`` is drawn, (len(rows),)."""
        chances = []
        for task in self.tasks:
            targets, chance = self.windows.targets[task.name], np.zeros(len(rows))
            known = targets.is_known[rows]
            labelled = rows[known]
            chance[known] = cell_weights(self.windows.subject[labelled], targets.groups[labelled]).numpy()
            chances.append(chance)
        if len(chances) > 1:  # tasks weigh the same, however many subjects each has
            chances = [chance / max(float(chance.sum()), 1e-300) for chance in chances]
        return torch.from_numpy(np.mean(chances, axis=0))

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """Return what it draws from itself: times within windows."""
        return () if self.times is None else (self.times.generator,)

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> Tensor:
        """Return the loss of a batch of windows, read in parts of like sensors, with its graph."""
        parts = source.layouts.parts(rows)
        if self.times is not None:
            return self._loss_with_times(cast(BiosignalPerceiver, network), source, rows, noise)

        def read(part: IntArray) -> dict[str, Tensor]:
            outputs: Outputs = network(source.batch(rows[part]), noise)
            return outputs.learnt()

        truths, masks = self.truths(rows, source.device)
        return self.loss_of(in_order(parts, read), truths, masks, self.label_smoothing)

    def loss_of(
        self,
        outputs: Mapping[str, Tensor],
        truths: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        label_smoothing: float,
    ) -> Tensor:
        """Return the sum over tasks of each one's weight times the mean loss of what it labels.

        Outputs are (B, n_outputs) by task, those of branches beside them (:meth:`Outputs.learnt`): each has a loss for
        itself. Truths and masks are (B,) as :meth:`truths` gives them.
        """
        losses = []
        for task in self.tasks:
            name = task.name
            for output in (value for key, value in outputs.items() if name in (key, key.partition("/")[2])):
                loss = task_loss(task, output, truths[name], masks.get(name), label_smoothing=label_smoothing)
                losses.append(self.weights.get(name, 1.0) * loss)
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def truths(self, rows: IntArray, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return of each task what is true of the windows, (len(rows),), and of those with gaps where that is known."""
        values = {task.name: self.windows.targets[task.name].at(rows) for task in self.tasks}
        known = {name: targets.is_known for name, targets in values.items()}
        return self._on_device({name: targets.values for name, targets in values.items()}, known, device)

    def _on_device(
        self, values: Mapping[str, NDArray[np.float64]], known: Mapping[str, NDArray[np.bool_]], device: torch.device
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        truths, masks = {}, {}
        for task in self.tasks:
            truths[task.name] = _as_learnt(task, values[task.name], known[task.name]).to(device)
            if not known[task.name].all():
                masks[task.name] = torch.from_numpy(known[task.name]).to(device)
        return truths, masks

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss that early stopping looks at, each task's windows weighing as they would be drawn."""
        total = self.loss_of_outputs(read_windows(network, self.tasks, source, rows), rows)
        if self.times is not None and len(self.times.validation):
            total += self.times.weight * self._loss_at_times(cast(BiosignalPerceiver, network), source)
        return total

    def loss_of_outputs(self, outputs: Mapping[str, Tensor], rows: IntArray) -> float:
        """Return the validation loss of the network's outputs (len(rows), n_outputs) for whole windows.

        Of classes it is their log loss, without smoothing.
        """
        total = 0.0
        for task in self.tasks:
            targets = self.windows.targets[task.name].at(rows)
            known = targets.is_known
            if known.any():
                of_known = outputs[task.name][torch.from_numpy(known)]
                truth = _as_learnt(task, targets.values[known], known[known])
                if task.is_classification and not task.is_ordinal:
                    chances = np.asarray(values_of(task, of_known.double()).numpy())
                    losses = -np.log(np.clip(chances[np.arange(len(truth)), truth.numpy()], 1e-7, 1.0))
                else:
                    losses = task_losses(task, of_known, truth).double().numpy()
                cells = cell_weights(self.windows.subject[rows[known]], targets.groups[known])
                total += self.weights.get(task.name, 1.0) * float(np.average(losses, weights=cells.numpy()))
        return total

    def _loss_with_times(
        self, network: BiosignalPerceiver, source: TokenSource, rows: IntArray, noise: torch.Generator
    ) -> Tensor:
        times = cast(SingleTimes, self.times)
        chosen, at = times.draw(rows, self.windows.length_seconds)

        def read(part: IntArray) -> dict[str, Tensor]:
            batch = source.batch(chosen[part])
            return {_LATENTS: network.encode(batch, noise), **network.of_branches(batch, noise)}

        parts = in_order(source.layouts.parts(chosen), read)
        outputs = network.read_out(parts.pop(_LATENTS), noise, traces=self._queried(at, source))
        learnt = replace(outputs, branches=parts).learnt()
        of_windows = self.loss_of(learnt, *self.truths(chosen, source.device), self.label_smoothing)
        return of_windows + times.weight * self._time_loss(outputs, chosen, at, source.device)

    def _queried(self, times: Tensor, source: TokenSource) -> dict[str, Tensor]:
        return {task.name: times.to(source.device) for task in self.tasks}

    def _time_loss(self, outputs: Outputs, rows: IntArray, times: Tensor, device: torch.device) -> Tensor:
        """Return the loss at single times (n, Q), seconds from each window's start."""
        at = self.windows.onset[rows][:, None] + times.numpy().astype(np.float64)
        labels = cast(SingleTimes, self.times).labels
        values = {task.name: labels[task.name].at(self.windows.recording[rows], at) for task in self.tasks}
        truths, masks = self._on_device(values, {name: np.isfinite(v) for name, v in values.items()}, device)
        return self.loss_of(outputs.traces, truths, masks, 0.0)

    def _loss_at_times(self, network: BiosignalPerceiver, source: TokenSource) -> float:
        """Return the mean loss at evenly spread times of the validation subjects' grid windows."""
        rows, losses = cast(SingleTimes, self.times).validation, []
        spread = (torch.arange(TIMES_PER_WINDOW) + 0.5) / TIMES_PER_WINDOW * self.windows.length_seconds
        network.eval()
        with torch.inference_mode():
            for start in range(0, len(rows), 256):
                part = rows[start : start + 256]
                times = spread.expand(len(part), -1)
                outputs = network(source.batch(part), traces=self._queried(times, source))
                losses.append(len(part) * float(self._time_loss(outputs, part, times, source.device)))
        return sum(losses) / len(rows)


class SingleTimes:
    """Single times that are learnt beside whole windows: in windows of the grid, which cross the borders of segments.

    Every batch takes half as many windows again from the grid, evenly over subjects, and each task is queried at times
    drawn at random within all of them. Training and validation are rows of the table, the grid's included; ``weight``
    is that of the loss at single times beside that of windows.
    """

    def __init__(
        self, windows: WindowTable, training: IntArray, validation: IntArray, *, weight: float, seed: int
    ) -> None:
        self.weight = weight
        labels = [(recording.labels, recording.duration_seconds) for recording in windows.recordings]
        self.labels = {task.name: DenseLabels(labels, task) for task in windows.tasks}
        is_grid = _is_grid(windows)
        self._training, self.validation = training[is_grid[training]], validation[is_grid[validation]]
        self._chance = cell_weights(windows.subject[self._training], np.zeros(len(self._training), dtype=np.int64))
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, rows: IntArray, length_seconds: float) -> tuple[IntArray, Tensor]:
        """Return a batch's windows with those of the grid, and times (n, Q) within them, seconds."""
        n_more = max(1, len(rows) // 2)
        more = torch.multinomial(self._chance, n_more, replacement=True, generator=self.generator)
        chosen = np.concatenate([rows, self._training[more.numpy()]])
        return chosen, length_seconds * torch.rand(len(chosen), TIMES_PER_WINDOW, generator=self.generator)


def cell_weights(subject: NDArray[np.str_], target: IntArray) -> Tensor:
    """Return sampling weights under which subjects, and the classes within a subject, are drawn equally often."""
    cells, index = np.unique(np.array([f"{s}\0{t}" for s, t in zip(subject, target, strict=True)]), return_inverse=True)
    in_cell = np.bincount(index, minlength=len(cells)).astype(np.float64)
    cells_of_subject: dict[str, int] = {}
    for cell in cells:
        owner = str(cell).split("\0")[0]
        cells_of_subject[owner] = cells_of_subject.get(owner, 0) + 1
    chance = np.array([1.0 / cells_of_subject[str(s)] for s in subject])
    return torch.from_numpy(chance / in_cell[index])


def read_windows(
    network: nn.Module, tasks: Sequence[Task], source: TokenSource, rows: IntArray, *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Return the network's outputs for the windows at ``rows`` by task, float32 (len(rows), n_outputs) on the CPU.

    The network is left in evaluation mode. Where a card has not the memory for a batch, it is read in halves.
    """
    network.eval()
    outputs = {task.name: torch.zeros((len(rows), task.n_outputs)) for task in tasks}
    with torch.inference_mode():
        left = list(reversed(list(source.layouts.parts(rows, most=batch_size))))
        while left:
            part = left.pop()
            try:
                given = network(source.batch(rows[part])).tasks
            except torch.cuda.OutOfMemoryError:
                if len(part) == 1:
                    raise
                torch.cuda.empty_cache()
                left += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            for name, of_task in outputs.items():
                of_task[torch.from_numpy(part)] = given[name].float().cpu()
    return outputs


def predict_windows(
    network: nn.Module, tasks: Sequence[Task], source: TokenSource, rows: IntArray, *, batch_size: int = 256
) -> dict[str, FloatArray]:
    """Return what a network predicts for the windows at ``rows`` by task, each (len(rows), n_values).

    Probabilities of classes or levels; of a regression its number, in the unit of the study's column.
    """
    outputs = read_windows(network, tasks, source, rows, batch_size=batch_size)
    return {task.name: np.asarray(values_of(task, outputs[task.name].double()).numpy()) for task in tasks}


def _is_grid(windows: WindowTable) -> NDArray[np.bool_]:
    return np.array(
        [not windows.recordings[i].windows.is_labelled[j] for i, j in zip(windows.recording, windows.row, strict=True)],
        dtype=bool,
    )


def _as_learnt(task: Task, values: NDArray[np.float64], known: NDArray[np.bool_]) -> Tensor:
    """Return classes as int64, numbers scaled as float32; 0 where unknown."""
    if task.is_regression:
        return torch.from_numpy(np.where(known, (values - task.mean) / task.scale, 0.0).astype(np.float32))
    return torch.from_numpy(np.where(known, values, 0).astype(np.int64))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values whose mask is True; 0, with its graph, where there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)


def task_loss(
    task: Task, outputs: Tensor, truth: Tensor, mask: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean loss of a network's outputs for one task where the mask is True (None: everywhere)."""
    if mask is None:
        return task_losses(task, outputs, truth, label_smoothing=label_smoothing, reduction="mean")
    return masked_mean(task_losses(task, outputs, truth, label_smoothing=label_smoothing), mask)


def task_losses(
    task: Task, outputs: Tensor, truth: Tensor, *, label_smoothing: float = 0.0, reduction: str = "none"
) -> Tensor:
    """Return the loss of each of a network's outputs (..., n_outputs) for one task, or their mean ("mean").

    The truth (...) is a class or level, int64, or a scaled number; what stands where nothing is known must be a class,
    or finite. Of a classification the loss is the cross-entropy, ``label_smoothing`` the probability moved from the
    label to the other classes; of an ordinal scale it is the mean binary cross-entropy of "above level j" for each step
    j; of a regression Huber's loss.

    References
    ----------
    Ordinal by cumulative steps: E. Frank and M. Hall, "A simple approach to ordinal classification", ECML 2001,
    doi:10.1007/3-540-44795-4_13.
    """
    outputs = outputs.float()
    if task.is_regression:
        return F.smooth_l1_loss(outputs[..., 0], truth.float(), reduction=reduction)
    if task.is_ordinal:
        above = truth[..., None] > torch.arange(task.n_outputs, device=truth.device)
        losses = F.binary_cross_entropy_with_logits(outputs, above.float(), reduction=reduction)
        return losses.mean(-1) if reduction == "none" else losses
    losses = F.cross_entropy(
        outputs.flatten(0, -2), truth.flatten(), reduction=reduction, label_smoothing=label_smoothing
    )
    return losses.view(truth.shape) if reduction == "none" else losses


def values_of(task: Task, outputs: Tensor) -> Tensor:
    """Return the values (..., n_values) that a network's outputs (..., n_outputs) for a task stand for.

    Probabilities of classes, or of the levels of an ordinal scale, of which the chance to be above a level never rises
    with the level: where the steps disagree, the lower one counts. Of a regression the number in its column's unit.
    """
    if task.is_regression:
        return outputs * task.scale + task.mean
    if not task.is_ordinal:
        return outputs.softmax(-1)
    above = outputs.sigmoid().cummin(-1).values
    edge = torch.ones_like(above[..., :1])
    return torch.cat((edge, above), -1) - torch.cat((above, 0.0 * edge), -1)


def answer_of(task: Task, outputs: Tensor, target: Tensor | None) -> Tensor:
    """Return one number (B,) for a network's outputs (B, n_outputs): what an explanation is of.

    The log odds of the class ``target`` (B,) against all others; the expected level of an ordinal scale, counted from
    0; the number of a regression in its column's unit.
    """
    if task.is_regression:
        return values_of(task, outputs)[..., 0]
    if task.is_ordinal or target is None:
        levels = values_of(task, outputs)
        return (levels * torch.arange(levels.shape[-1], device=levels.device)).sum(-1)
    is_target = torch.arange(outputs.shape[-1], device=outputs.device) == target[:, None]
    others = outputs.masked_fill(is_target, -torch.inf).logsumexp(-1)
    return outputs.gather(-1, target[:, None])[:, 0] - others


def patch_loss(reconstructed: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return Huber's loss between patches (B, Q, L), mean over samples and over the patches whose mask (B, Q) is True.

    Huber rather than squared: an artefact of many spreads must not be all that is learnt from.
    """
    truth = truth.masked_fill(~mask[..., None], 0.0)
    return masked_mean(F.smooth_l1_loss(reconstructed.float(), truth.float(), reduction="none").mean(-1), mask)


def contrastive_loss(predicted: Tensor, truth: Tensor, temperature: float, *, both_ways: bool = False) -> Tensor:
    """Return how hard it is to find each row's own truth among all rows' (InfoNCE); 0 for fewer than two rows.

    Rows (R, D) are compared by their cosine; ``both_ways`` also finds each truth's own row and averages the two, as
    CLIP does.

    References
    ----------
    A. van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    doi:10.48550/arXiv.1807.03748. A. Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", ICML 2021, doi:10.48550/arXiv.2103.00020.
    """
    if len(predicted) < 2:
        return 0.0 * (predicted.sum() + truth.sum())
    likeness = F.normalize(predicted.float(), dim=-1) @ F.normalize(truth.float(), dim=-1).T / temperature
    index = torch.arange(len(predicted), device=predicted.device)
    loss = F.cross_entropy(likeness, index)
    return 0.5 * (loss + F.cross_entropy(likeness.T, index)) if both_ways else loss
