"""What the answers of a model to one recording rested on: each time, channel, modality, sensor and feature.

Three methods side by side, with a measurement of how faithful each is (see ``attribution``). Of a classification the
answer is the log odds of the most probable class of each window, or of one class; the output is explained before
calibration, which keeps the order of classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from biopercept.data.batches import feature_groups
from biopercept.data.windows import IntArray
from biopercept.errors import RecordingError, SettingsError
from biopercept.inference.attribution import (
    Deletions,
    FloatArray,
    Question,
    TokenMap,
    attention_map,
    called,
    deletions,
    integrated_gradients,
    named,
    without_feature,
    without_tokens,
)
from biopercept.inference.prediction import ReadRecording, read_for
from biopercept.modalities import MODALITIES
from biopercept.model.token_inputs import TokenInputs
from biopercept.results.explanation import ATTENTION, CHANNEL, FEATURE, GRADIENTS, MODALITY, OCCLUSION, SENSOR, TIME
from biopercept.store.prepared import WindowedRecording, title_of
from biopercept.tasks import Task
from biopercept.training.checkpoint import Checkpoint
from biopercept.training.engine import Engine
from biopercept.training.objective import predict_windows
from biopercept.typed_values import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

N_TIMES = 10
"""Parts of equal length into which a window is divided."""
MOST_WINDOWS = 100
BRANCH = "branches"
_COLUMNS = (ATTENTION, GRADIENTS, BRANCH, OCCLUSION)
_BATCH = 16


@dataclass(frozen=True)
class ExplainSettings:
    """Which of a recording's windows are explained, and what of them.

    At most ``n_windows``, evenly spread. ``of_class`` is the class whose log odds are explained in every window; None:
    the most probable of each. ``seed`` is that of the random deletions.
    """

    n_windows: int = MOST_WINDOWS
    of_class: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_windows < 1:
            raise SettingsError(f"--n-windows is {self.n_windows}; it must be at least 1")


@dataclass(frozen=True)
class Part:
    """A part of a model's input: one of the ``KINDS``, its name, and where it comes from.

    Parts of time lie from ``start`` to ``stop``, seconds from the window's start; a channel may have a ``position``,
    metres in head coordinates.
    """

    kind: str
    name: str
    sensor: str = ""
    modality: str = ""
    start: float | None = None
    stop: float | None = None
    position: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the answers to n of a recording's windows rested on, for one task.

    * ``onset``: seconds on the recording's clock. ``left_out`` counts the windows that are not explained, by reason.
    * ``answers``, ``usual``: what is explained, and the same of inputs at their usual value, in ``unit``; ``target``
      the class whose log odds it is, "" of a number or level.
    * ``parts``: for each column (``attention``, ``integrated_gradients``, ``branches``, ``occlusion``) the values
      of every part (n,), NaN where a window has nothing of it or the method does not see it.
    * ``gap``: what integrated gradients lack.
    * ``faithfulness``: of each method, by window.
    """

    task: str
    unit: str
    onset: FloatArray
    length_seconds: float
    target: tuple[str, ...]
    answers: FloatArray
    usual: FloatArray
    gap: FloatArray
    parts: dict[Part, dict[str, FloatArray]]
    faithfulness: dict[str, Deletions]
    left_out: dict[str, int]

    def __len__(self) -> int:
        """Return the number of windows explained."""
        return len(self.onset)

    def apart(self) -> IntArray:
        """Return windows that do not overlap, from the first on: those that an interval may count."""
        chosen: list[int] = []
        for row in np.argsort(self.onset, kind="stable").tolist():
            if not chosen or self.onset[row] >= self.onset[chosen[-1]] + self.length_seconds - 1e-6:
                chosen.append(row)
        return np.array(chosen, dtype=np.int64)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per window and part: onset, duration, target, answer, what the part is, and what it did."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def columns(self) -> dict[str, list[object]]:
        """Return the columns of that table."""
        rows = [(row, part) for row in range(len(self)) for part in self.parts]
        table: dict[str, list[object]] = {
            "onset": [float(self.onset[row]) for row, _ in rows],
            "duration": [self.length_seconds] * len(rows),
            "task": [self.task] * len(rows),
            "target": [self.target[row] for row, _ in rows],
            "answer": [float(self.answers[row]) for row, _ in rows],
        }
        table |= {name: [getattr(part, name) for _, part in rows] for name in ("kind", "name", "sensor", "modality")}
        table["unit"] = [self.unit] * len(rows)
        return table | {name: [float(self.parts[part][name][row]) for row, part in rows] for name in _COLUMNS}


def explain(
    checkpoint: Checkpoint,
    recording: WindowedRecording,
    engine: Engine,
    *,
    task: str | None = None,
    before: Sequence[WindowedRecording] = (),
    settings: ExplainSettings | None = None,
) -> Explanation:
    """Return what a model's answers for one recording rested on: of ``task``, or of its first where None.

    ``recording`` and ``before`` are as for :func:`biopercept.inference.prediction.predict`.

    Raises SettingsError where the model does not predict the task or the class. Raises RecordingError where the
    recording is shorter than a window, has no sensor that the model was trained with, or no window that it reads.
    """
    settings = settings or ExplainSettings()
    [chosen] = tasks_of(checkpoint, None if task is None else [task], settings.of_class)[: 1 if task is None else None]
    read = read_for(checkpoint, recording, engine, before)
    rows = np.flatnonzero([not why for why in read.reasons]).astype(np.int64)
    left_out = {why: read.reasons.count(why) for why in dict.fromkeys(read.reasons) if why}
    if not len(rows):
        reasons = ", ".join(f"{why}: {n}" for why, n in left_out.items())
        raise RecordingError(f"{title_of(recording)} has no window to explain ({reasons})")
    if len(rows) > settings.n_windows:
        left_out[f"no more than {settings.n_windows} of a recording are taken"] = len(rows) - settings.n_windows
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, settings.n_windows).round().astype(np.int64))]
    return _Explainer(checkpoint, read, chosen, settings, engine).explain(rows, left_out)


def tasks_of(checkpoint: Checkpoint, names: Sequence[str] | None, of_class: str | None) -> tuple[Task, ...]:
    """Return the tasks of a model that are explained; None: all, or where a class is named those that have it.

    Raises SettingsError where there is none of that name, or a task has no such class.
    """
    known = {task.name: task for task in checkpoint.tasks}
    for name in names or ():
        if name not in known:
            raise SettingsError(
                f"the model predicts {', '.join(known)}, and not {name!r}; name one of these{did_you_mean(name, known)}"
            )
    chosen = [known[name] for name in (known if names is None else names)]
    if of_class is None:
        return tuple(chosen)
    having = tuple(t for t in chosen if t.is_classification and not t.is_ordinal and of_class in t.classes)
    if len(having) < (1 if names is None else len(chosen)):
        classes = [
            f"{t.name}: {', '.join(t.classes)}" for t in known.values() if t.is_classification and not t.is_ordinal
        ]
        names_of_classes = [name for t in known.values() for name in t.classes]
        raise SettingsError(
            f"the model has no class {of_class!r} whose odds could be explained; it has: {'; '.join(classes) or 'none'}"
            f"{did_you_mean(of_class, names_of_classes)}"
        )
    return having


def unit_of(task: Task) -> str:
    """Return the unit of the answers to a task: what all but attention is given in."""
    if not task.is_classification:
        return f"unit of {task.quantity}"
    return "levels" if task.is_ordinal else "log odds"


@dataclass(eq=False)
class _Explainer:
    checkpoint: Checkpoint
    read: ReadRecording
    task: Task
    settings: ExplainSettings
    engine: Engine
    parts: dict[Part, dict[str, FloatArray]] = field(default_factory=dict)

    @cached_property
    def _channels(self) -> dict[tuple[str, float], dict[str, tuple[float, float, float] | None]]:
        """Return the names of the channels of each signal, by modality and rate, with their positions."""
        channels: dict[tuple[str, float], dict[str, tuple[float, float, float] | None]] = {}
        several = Counter(bank.modality for bank in self.read.inputs.banks)
        for bank in self.read.inputs.banks:
            rate = f" at {bank.sampling_rate:g} Hz" if several[bank.modality] > 1 else ""
            is_series = MODALITIES[bank.modality].is_derived  # whose one channel is called as it is
            channels[bank.modality, float(np.float32(bank.sampling_rate))] = {
                (c.name if is_series and c.name == bank.modality else f"{bank.modality} {c.name}") + rate: c.position
                for c in bank.channels
            }
        return channels

    def explain(self, rows: IntArray, left_out: dict[str, int]) -> Explanation:
        network, n = self.checkpoint.network.to(self.engine.device), len(rows)
        values = predict_windows(network, self.checkpoint.tasks, self.read.source, rows)[self.task.name]
        targets = self._targets(values)
        random = np.random.default_rng(self.settings.seed)
        answers, usual, gap = np.zeros(n), np.zeros(n), np.zeros(n)
        done: dict[str, list[Deletions]] = {}
        for start in range(0, n, _BATCH):
            at = slice(start, min(start + _BATCH, n))
            inputs = self.read.source.batch(rows[at], is_whole=True)
            given = None if targets is None else torch.from_numpy(targets[at]).to(self.engine.device)
            question = Question(network, self.task, given)
            answers[at] = question.answers(inputs)
            usual[at], gap[at], importance, slope = self._attribute(question, inputs, (at, n), answers[at])
            for name, of_method in deletions(question, inputs, importance, slope, random).items():
                done.setdefault(name, []).append(of_method)
        names = self.task.class_names
        return Explanation(
            task=self.task.name,
            unit=unit_of(self.task),
            onset=self.read.windows.onset[rows],
            length_seconds=self.read.windows.length_seconds,
            target=("",) * n if targets is None else tuple(names[k] for k in targets),
            answers=answers,
            usual=usual,
            gap=gap,
            parts={part: values for part, values in self.parts.items() if np.isfinite(values[OCCLUSION]).any()},
            faithfulness={name: _joined(batches) for name, batches in done.items()},
            left_out=left_out,
        )

    def _targets(self, values: FloatArray) -> IntArray | None:
        if not self.task.is_classification or self.task.is_ordinal:
            return None
        if self.settings.of_class is not None:
            return np.full(len(values), self.task.class_names.index(self.settings.of_class), dtype=np.int64)
        return np.asarray(values.argmax(axis=1), dtype=np.int64)

    def _attribute(
        self, question: Question, inputs: TokenInputs, place: tuple[slice, int], answers: FloatArray
    ) -> tuple[FloatArray, FloatArray, dict[str, FloatArray], FloatArray]:
        """Fill in the parts of a batch; return usual answers, gaps, importance of tokens by method, and direction."""
        inputs = question.network.fusion.settings.part_read(inputs)
        names = [list(self._channels[signal.modality, float(signal.rate[0])]) for signal in inputs.sensors]
        number = [task.name for task in self.checkpoint.tasks].index(self.task.name)
        looked = named(attention_map(question.network, inputs, number), inputs, names)
        gradients = integrated_gradients(question, inputs)
        added = named(gradients.tokens, inputs, names)
        # A number or a level may lie on either side of the usual one: what is important moved it to where it is.
        direction = np.ones(len(answers)) if question.target is not None else np.sign(answers - gradients.usual)
        direction[direction == 0] = 1.0
        of_channel = np.zeros(looked.weights.shape)
        for part, tokens in self._token_parts(looked):
            has = (looked.is_real & tokens).any(1)
            fall = answers - question.answers(without_tokens(inputs, tokens))
            sums = {ATTENTION: (looked.weights * tokens).sum(1), GRADIENTS: (added.weights * tokens).sum(1)}
            sums[BRANCH] = (gradients.branch_tokens * tokens).sum(1)
            self._keep(part, place, {**sums, OCCLUSION: fall}, has)
            if part.kind == CHANNEL:
                of_channel[:, tokens] = fall[:, None]
        of_group = dict(zip(looked.channel, looked.sensor, strict=True))
        for group, columns in feature_groups(self.checkpoint.feature_names).items():
            if group not in gradients.features:
                continue
            for column, index in enumerate(columns):
                values = gradients.features[group][:, column]
                has = np.isfinite(values)
                if has.any():
                    fall = answers - question.answers(without_feature(inputs, group, column))
                    of_branch = gradients.branch_features[group][:, column]
                    part = Part(FEATURE, self.checkpoint.feature_names[index], of_group[called(group)], "features")
                    self._keep(part, place, {GRADIENTS: values, BRANCH: of_branch, OCCLUSION: fall}, has)
        signed = direction[:, None]
        importance = {ATTENTION: looked.weights, GRADIENTS: added.weights * signed, OCCLUSION: of_channel * signed}
        return gradients.usual, gradients.gap, importance, direction

    def _token_parts(self, tokens: TokenMap) -> Iterator[tuple[Part, np.ndarray]]:
        """Give each part that is made of tokens, with its tokens: (N,), or (B, N) for parts of time."""
        columns = {SENSOR: tokens.sensor, MODALITY: tokens.modality, CHANNEL: tokens.channel}
        positions = {name: position for names in self._channels.values() for name, position in names.items()}
        for kind, column in columns.items():
            for name in dict.fromkeys(column):
                is_in = np.array([other == name for other in column], dtype=bool)
                first = int(np.argmax(is_in))
                sensor = tokens.sensor[first] if kind != MODALITY else ""
                modality = tokens.modality[first] if kind != SENSOR else ""
                position = positions.get(name) if kind == CHANNEL else None
                yield Part(kind, name, sensor, modality, position=position), is_in
        edges = self._times()
        for start, stop, is_in in zip(edges[:-1].tolist(), edges[1:].tolist(), tokens.at_times(edges), strict=True):
            yield Part(TIME, f"{start:g} to {stop:g} s", start=start, stop=stop), is_in

    def _times(self) -> FloatArray:
        """Return the edges of the parts of time, seconds; none is shorter than the shortest token, or some had none."""
        length = self.read.windows.length_seconds
        tokens, population = self.checkpoint.tokens, self.checkpoint.population
        used = [m for m in self.checkpoint.vocabulary.patch_samples if tokens.reads(m) and population.has_modality(m)]
        shortest = min((MODALITIES[name].patch_seconds for name in used), default=length / N_TIMES)
        return np.linspace(0.0, length, max(min(N_TIMES, int(length / shortest + 1e-9)), 1) + 1)

    def _keep(self, part: Part, place: tuple[slice, int], values: Mapping[str, FloatArray], has: np.ndarray) -> None:
        at, n = place
        columns = self.parts.setdefault(part, {name: np.full(n, np.nan) for name in _COLUMNS})
        for name, of_batch in values.items():
            columns[name][at] = np.where(has, of_batch, np.nan)


def _joined(batches: Sequence[Deletions]) -> Deletions:
    return Deletions(*(np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(Deletions)))
