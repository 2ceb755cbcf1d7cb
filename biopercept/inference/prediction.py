"""A saved model applied to prepared recordings: a prediction for every window and task, or a reason why there is none.

A prediction at a single time is asked of every window that holds the time, and the windows' outputs are averaged; a
time near a window's start is thus predicted with up to a window's length of what comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.windows import IntArray, WindowTable, grid_windows
from biopercept.errors import RecordingError, SettingsError
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.recording import Interval, RecordingLabels
from biopercept.store.prepared import WindowedRecording
from biopercept.tasks import Task
from biopercept.training.calibration import Calibration, set_words, undecided_words
from biopercept.training.checkpoint import Checkpoint, TaskCheckpoint
from biopercept.training.engine import Engine
from biopercept.training.objective import predict_windows, values_of

NO_SIGNAL = "no usable signal of a sensor that the model knows"
IN_REFERENCE = "inside the reference period"
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a recording beside its signals, and which tasks turn it into true classes and numbers.

    Attributes
    ----------
    study : str
        Name of the study that the recording belongs to; empty for a file by itself.
    tasks : mapping of str to Task, or None
        The study's own tasks, whose words its labels are; None for a file by itself, whose labels are read in the
        words of the study that the model was trained on.
    """

    labels: RecordingLabels = field(default_factory=RecordingLabels)
    study: str = ""
    tasks: Mapping[str, Task] | None = None

    def task_for(self, task: Task) -> Task | None:
        """Return the task whose words the labels are; None where the study has none that answers as the model's."""
        if self.tasks is None:
            return task
        return None if self.lacking(task) else self.tasks[task.name]

    def lacking(self, task: Task) -> str:
        """Return why the study knows no truth for a task of the model; empty where it does."""
        own = (self.tasks or {}).get(task.name)
        if self.tasks is None:
            return ""
        if own is None:
            return f"study {self.study!r} has no task {task.name!r}, so no truth is written beside its predictions"
        if own.kind != task.kind:
            return (
                f"task {task.name!r} of study {self.study!r} is a {own.kind} and the model's is a {task.kind}, so no "
                "truth is written beside its predictions"
            )
        if set(own.classes) != set(task.classes):
            return (
                f"task {task.name!r} of study {self.study!r} has the classes {', '.join(own.classes)} and the model's "
                f"are {', '.join(task.classes)}, so no truth is written beside its predictions"
            )
        return ""


NO_TRUTH = Truth()


@dataclass(frozen=True, eq=False)
class PredictedRecording:
    """The answers for one recording.

    Attributes
    ----------
    key : str
        Unique among the recordings of a study and safe in file names.
    onset : float64 array, shape (n_windows,)
        Start of each window, seconds on the recording's clock.
    probabilities : float64 array, shape (n_windows, n_classes)
        NaN where withheld.
    quality : float64 array, shape (n_windows,)
        Mean signal quality in [0, 1]; NaN where no signal is present.
    label : tuple of str
        Class of the labelled interval that a window lies wholly inside; empty where there is none.
    reason : tuple of str
        Why a window's answer is withheld; empty where it is given.
    used, ignored : tuple of str
        Modalities of the recording that the model read, and those it was not trained with.
    sets : tuple of str
        Classes in each window's prediction set, joined by `` | ``; empty where the model makes no sets.
    """

    subject: str
    session: str
    recording: str
    key: str
    classes: tuple[str, ...]
    onset: NDArray[np.float64]
    length_seconds: float
    probabilities: NDArray[np.float64]
    quality: NDArray[np.float64]
    label: tuple[str, ...]
    reason: tuple[str, ...]
    used: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    sets: tuple[str, ...] = ()

    @property
    def predicted(self) -> tuple[str, ...]:
        """Return the most probable class of each window; empty where withheld."""
        best = np.nan_to_num(self.probabilities, nan=-1.0).argmax(axis=1)
        return tuple("" if why else self.classes[k] for k, why in zip(best, self.reason, strict=True))


def predict_recording(
    checkpoint: Checkpoint,
    recording: WindowedRecording,
    engine: Engine,
    *,
    truth: Truth = NO_TRUTH,
    before: Sequence[WindowedRecording] = (),
) -> PredictedRecording:
    """Return a model's answers for one recording that was prepared with the model's own settings.

    Parameters
    ----------
    recording : WindowedRecording
        With windows, cleaning and features as ``checkpoint.prepare`` says.
    truth : Truth
        What the study says, where known: only to write it beside the answer.
    before : sequence of WindowedRecording
        Earlier recordings of the same session; read where the model's normalisation reaches over the session. Each,
        and ``recording``, must then know its ``place``.

    Raises
    ------
    RecordingError
        Where the recording is shorter than a window, or has no sensor that the model was trained with.
    """
    read = read_for(checkpoint, recording, engine, before)
    network = checkpoint.network.to(engine.device)
    rows = np.arange(len(read.windows), dtype=np.int64)
    probabilities = predict_windows(network, (checkpoint.task,), read.source, rows)[checkpoint.task.name]
    return predicted_classes(read, recording, checkpoint.task, probabilities, truth, checkpoint.calibration)


@dataclass(frozen=True, eq=False)
class ReadRecording:
    """A recording as a model reads it.

    Attributes
    ----------
    windows : WindowTable
        Its grid.
    source : TokenSource
        Batches of these windows.
    reasons : tuple of str
        Why a window's answer is withheld; empty where it is given.
    used, ignored : tuple of str
        Modalities that the model reads, and those it was not trained with.
    """

    windows: WindowTable
    source: TokenSource
    reasons: tuple[str, ...]
    used: tuple[str, ...]
    ignored: tuple[str, ...]


def read_for(
    checkpoint: Checkpoint | TaskCheckpoint,
    recording: WindowedRecording,
    engine: Engine,
    before: Sequence[WindowedRecording] = (),
) -> ReadRecording:
    """Return a recording as a model reads it; ``before`` as for :func:`predict_recording`.

    Raises
    ------
    RecordingError
        Where the recording is shorter than a window, or has no sensor that the model was trained with.
    """
    length = float(checkpoint.prepare["windows"]["length_seconds"])
    windows = grid_windows(
        [*before, recording], length_seconds=length, feature_names=checkpoint.feature_names, n_before=len(before)
    )
    if not len(windows):
        raise RecordingError(
            f"{recording.key} lasts {recording.duration_seconds:.1f} s, less than the model's window of {length:g} s"
        )
    used, ignored = _sensors(checkpoint, recording)
    if not used:
        raise RecordingError(
            f"{recording.key} has {', '.join(ignored) or 'no sensor'} and the model was trained with "
            f"{', '.join(checkpoint.training['modalities'])}; they share none"
        )
    step = float(checkpoint.prepare["windows"]["step_seconds"])
    tokens = checkpoint.tokens
    inputs = WindowInputs(windows, checkpoint.normalisation, step, raw=tokens.raw, derived=tokens.derived)
    source = TokenSource(inputs, checkpoint.population, tokens, engine.device)
    rows = np.arange(len(windows), dtype=np.int64)
    return ReadRecording(windows, source, _reasons(checkpoint, inputs, source.has_tokens(rows)), used, ignored)


def predicted_classes(
    read: ReadRecording,
    recording: WindowedRecording,
    task: Task,
    probabilities: NDArray[np.float64],
    truth: Truth,
    calibration: Calibration | None = None,
) -> PredictedRecording:
    """Return probabilities of a recording's windows, (n_windows, n_classes), with all that is written beside them."""
    windows, length = read.windows, read.windows.length_seconds
    probabilities, sets, reasons = _calibrated(calibration, tuple(task.classes), probabilities, read.reasons)
    return PredictedRecording(
        recording.subject,
        recording.session,
        recording.recording,
        recording.key,
        tuple(task.classes),
        windows.onset,
        length,
        probabilities,
        windows.quality(),
        _known_labels(truth.task_for(task), windows.onset, length, truth.labels.intervals),
        reasons,
        read.used,
        read.ignored,
        recording.notes,
        sets,
    )


def _calibrated(
    held: Calibration | None,
    classes: tuple[str, ...],
    probabilities: NDArray[np.float64],
    reasons: tuple[str, ...],
) -> tuple[NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """Return calibrated probabilities, the prediction set of each window, and why answers are withheld.

    Where the model makes sets, a set that is not one class is an abstention; its probabilities stay.
    """
    is_withheld = np.array([bool(why) for why in reasons], dtype=bool)
    given = probabilities if held is None else held.apply(probabilities)
    given = np.where(is_withheld[:, None], np.nan, given)
    if held is None or not held.coverage:
        return given, (), reasons
    members = held.sets(probabilities)
    sets = tuple("" if no else set_words(classes, row) for no, row in zip(is_withheld, members, strict=True))
    undecided = tuple(
        why or ("" if n == 1 else undecided_words(words, held.coverage))
        for why, n, words in zip(reasons, members.sum(axis=1).tolist(), sets, strict=True)
    )
    return given, sets, undecided


def _sensors(
    checkpoint: Checkpoint | TaskCheckpoint, recording: WindowedRecording
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the measured modalities that the model knows, and those it does not."""
    present = sorted({s.modality for s in recording.signals if not s.derived_from})
    known = set(checkpoint.training["modalities"])
    return tuple(m for m in present if m in known), tuple(m for m in present if m not in known)


def _reasons(
    checkpoint: Checkpoint | TaskCheckpoint, inputs: WindowInputs, has_tokens: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Return why each window's answer is withheld; empty where it is given."""
    ends = inputs.reference_ends[inputs.windows.recording]
    is_reference = (checkpoint.normalisation.mode == "reference") & (inputs.windows.onset < ends)
    return tuple(
        IN_REFERENCE if early else ("" if real else NO_SIGNAL)
        for early, real in zip(is_reference, has_tokens, strict=True)
    )


def _known_labels(
    task: Task | None, onsets: NDArray[np.float64], length: float, intervals: tuple[Interval, ...]
) -> tuple[str, ...]:
    """Return the class of the interval each window lies wholly inside; empty where there is none, or no task."""
    if task is None:
        return ("",) * len(onsets)
    labels = []
    for onset in onsets:
        inside = [i for i in intervals if i.onset_seconds <= onset + 1e-6 and onset + length <= i.end_seconds + 1e-6]
        names = {task.class_of(i.label) for i in inside} - {None}
        labels.append(str(names.pop()) if len(names) == 1 else "")
    return tuple(labels)


@dataclass(frozen=True, eq=False)
class PredictedNumbers:
    """The numbers predicted for one recording.

    Attributes
    ----------
    column : str
        The study's column that is predicted, whose unit the numbers have.
    onset : float64 array, shape (n_windows,)
        Start of each window, seconds on the recording's clock.
    values, label, quality : float64 arrays, shape (n_windows,)
        Predicted number (NaN where withheld), true one where known, and mean signal quality in [0, 1].
    reason : tuple of str
        Why a window's answer is withheld; empty where it is given.
    used, ignored : tuple of str
        Modalities that the model read, and those it was not trained with.
    """

    subject: str
    session: str
    recording: str
    key: str
    column: str
    onset: FloatArray
    length_seconds: float
    values: FloatArray
    label: FloatArray
    quality: FloatArray
    reason: tuple[str, ...]
    used: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """The answers of one task at single times of a recording.

    Attributes
    ----------
    classes : tuple of str
        Empty for a regression.
    onset : float64 array, shape (n_times,)
        Seconds on the recording's clock.
    answers : float64 array, shape (n_times, n_answers)
        Probabilities of the classes, or the number; the mean over windows.
    n_windows : int64 array, shape (n_times,)
        Windows that were averaged.
    """

    key: str
    classes: tuple[str, ...]
    every_seconds: float
    onset: FloatArray
    answers: FloatArray
    n_windows: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TaskPrediction:
    """What a model says of one recording for one task: by window, and at single times where that was asked for."""

    task: Task
    windows: PredictedRecording | PredictedNumbers
    trace: Trace | None = None


def require_dense(checkpoint: Checkpoint | TaskCheckpoint, folder: Path, every_seconds: float) -> None:
    """Refuse single times of a model that was not trained to answer at them.

    Raises
    ------
    SettingsError
        Which says how to train one that is; also where the times are no positive number of seconds apart.
    """
    if not (np.isfinite(every_seconds) and every_seconds > 0):
        raise SettingsError(f"--every is {every_seconds:g}; it must be a positive number of seconds")
    if not (isinstance(checkpoint, TaskCheckpoint) and checkpoint.is_dense):
        raise SettingsError(
            f"{folder} was not trained to answer at single times; train a model with --set training.dense_weight=1 "
            "for --every, or leave --every out"
        )


def predict_tasks(
    checkpoint: TaskCheckpoint,
    recording: WindowedRecording,
    engine: Engine,
    *,
    truth: Truth = NO_TRUTH,
    every_seconds: float | None = None,
    before: Sequence[WindowedRecording] = (),
) -> tuple[TaskPrediction, ...]:
    """Return a model's answers for one recording that was prepared with the model's own settings, by task.

    Parameters
    ----------
    recording : WindowedRecording
        With windows, cleaning and features as ``checkpoint.prepare`` says.
    truth : Truth
        What the study says, where known: only to write it beside the answer.
    every_seconds : float, optional
        Distance of the times at which every task is answered, too.

    Raises
    ------
    RecordingError
        Where the recording is shorter than a window, or has no sensor that the model was trained with.
    """
    read = read_for(checkpoint, recording, engine, before)
    network = checkpoint.network.to(engine.device)
    rows = np.arange(len(read.windows), dtype=np.int64)
    values = predict_windows(network, checkpoint.tasks, read.source, rows)
    traces = {} if every_seconds is None else _traces(checkpoint, read, recording, every_seconds)
    found = []
    for task in checkpoint.tasks:
        own = values[task.name]
        told = (
            predicted_classes(read, recording, task, own, truth)
            if task.is_classification
            else _numbers(read, recording, task, own[:, 0], truth)
        )
        found.append(TaskPrediction(task, told, traces.get(task.name)))
    return tuple(found)


def _numbers(
    read: ReadRecording, recording: WindowedRecording, task: Task, values: FloatArray, truth: Truth
) -> PredictedNumbers:
    windows, length = read.windows, read.windows.length_seconds
    column = (truth.task_for(task) or Task("")).column or ""
    known = [truth.labels.value_of(column, "", float(onset), length) for onset in windows.onset]
    withheld = np.array([bool(why) for why in read.reasons], dtype=bool)
    return PredictedNumbers(
        recording.subject,
        recording.session,
        recording.recording,
        recording.key,
        task.column or "",
        windows.onset,
        length,
        np.where(withheld, np.nan, values),
        np.array(known, dtype=np.float64),
        windows.quality(),
        read.reasons,
        read.used,
        read.ignored,
    )


def _traces(
    checkpoint: TaskCheckpoint, read: ReadRecording, recording: WindowedRecording, every: float
) -> dict[str, Trace]:
    """Return every task's answers at the multiples of ``every`` that lie in a window whose answer is given."""
    windows, length = read.windows, read.windows.length_seconds
    rows = np.flatnonzero([not why for why in read.reasons]).astype(np.int64)
    first = np.ceil(windows.onset[rows] / every - 1e-9).astype(np.int64)  # the first multiple in each window
    after = np.ceil((windows.onset[rows] + length) / every - 1e-9).astype(np.int64)
    n_times = int((after - first).max(initial=0))
    place = first[:, None] + np.arange(n_times)  # (n, Q), numbers of multiples
    is_inside = place < after[:, None]
    if not is_inside.any():
        raise SettingsError(
            f"--every is {every:g} s and no window of {length:g} s holds such a time; choose a smaller one"
        )
    times = np.where(is_inside, place * every - windows.onset[rows][:, None], 0.0).clip(0.0, length)
    told = predict_times(checkpoint.network, checkpoint.tasks, read.source, rows, times.astype(np.float32))
    number = np.bincount(place[is_inside])
    given = np.flatnonzero(number)
    traces = {}
    for task in checkpoint.tasks:
        values = told[task.name][is_inside]  # (n_inside, K)
        sums = [np.bincount(place[is_inside], weights=column) for column in values.T]
        mean: FloatArray = np.stack(sums, axis=1)[given] / number[given][:, None]
        classes = tuple(task.classes)
        traces[task.name] = Trace(
            recording.key, classes, every, np.asarray(given * every, dtype=np.float64), mean, number[given]
        )
    return traces


def predict_times(
    network: BiosignalPerceiver,
    tasks: Sequence[Task],
    source: TokenSource,
    rows: IntArray,
    times: NDArray[np.float32],
    *,
    batch_size: int = 64,
) -> dict[str, FloatArray]:
    """Return what is predicted at single times (n, Q), seconds from each window's start: by task (n, Q, n_values)."""
    found: dict[str, list[FloatArray]] = {task.name: [] for task in tasks}
    parts = source.layouts.parts(rows, most=batch_size)
    network.eval()
    with torch.inference_mode():
        for part in parts:
            queried = torch.from_numpy(times[part]).to(source.device)
            outputs = network(source.batch(rows[part]), traces={task.name: queried for task in tasks}).traces
            for task in tasks:
                found[task.name].append(np.asarray(values_of(task, outputs[task.name].double()).cpu().numpy()))
    back = np.argsort(np.concatenate(parts), kind="stable")
    return {name: np.concatenate(values)[back] for name, values in found.items()}
