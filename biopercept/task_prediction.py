"""A saved model of several answers applied to recordings: each task for every window, and at single times.

An answer at a time is asked of every window that holds the time, and the windows' answers are averaged; a time near a
window's start is thus told with up to a window's length of what comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.files import write_json, write_table
from biopercept.learning.checkpoint import Checkpoint
from biopercept.learning.engine import Engine
from biopercept.learning.objectives import values_of
from biopercept.learning.task_checkpoint import TaskCheckpoint
from biopercept.learning.task_objective import predict_windows
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.prediction import NO_TRUTH, PredictedRecording, ReadRecording, Truth, predicted_classes, read_for
from biopercept.tasks import Task
from biopercept.windowed import WindowedRecording

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PredictedNumbers:
    """The numbers predicted for one recording.

    Attributes
    ----------
    subject, session, recording, key : str
    column : str
        The study's column that is predicted, whose unit the numbers have.
    onset : float64 array, shape (n_windows,)
        Start of each window, seconds on the recording's clock.
    length_seconds : float
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
    key : str
    classes : tuple of str
        Empty for a regression.
    every_seconds : float
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
    checkpoint : TaskCheckpoint
    recording : WindowedRecording
        With windows, cleaning and features as ``checkpoint.prepare`` says.
    engine : Engine
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


def write_numbers(predicted: PredictedNumbers, folder: Path, model: str) -> Path:
    """Write ``KEY_predictions.tsv`` of a regression with its JSON sidecar and return the table's path.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    path = folder / f"{predicted.key}_predictions.tsv"
    rows = [
        (
            float(predicted.onset[i]),
            predicted.length_seconds,
            _cell(predicted.values[i]),
            None if np.isnan(predicted.quality[i]) else round(float(predicted.quality[i]), 4),
            predicted.reason[i],
            _cell(predicted.label[i]),
        )
        for i in range(len(predicted.onset))
    ]
    write_json(path.with_suffix(".json"), {
        "participant_id": predicted.subject,
        "session": predicted.session,
        "recording": predicted.recording,
        "model": model,
        "column": predicted.column,
        "modalities_used": list(predicted.used),
        "modalities_ignored": list(predicted.ignored),
        "columns": {
            "onset": "start of the window, seconds from the recording's start",
            "duration": "length of the window, seconds",
            "predicted": f"in the unit of {predicted.column}; empty where withheld",
            "quality": "mean signal quality, 0 (useless) to 1",
            "reason": "why no answer is given; empty where one is",
            "label": f"{predicted.column} as the study gives it, where known",
        },
    })  # fmt: skip
    write_table(path, ("onset", "duration", "predicted", "quality", "reason", "label"), rows, delimiter="\t")
    return path


def write_trace(trace: Trace, folder: Path, model: str) -> Path:
    """Write ``KEY_trace.tsv`` with its JSON sidecar and return the table's path.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    path = folder / f"{trace.key}_trace.tsv"
    names = [f"probability_{name}" for name in trace.classes] or ["predicted"]
    rows = [
        (round(float(onset), 6), *(_cell(value) for value in answers), int(n))
        for onset, answers, n in zip(trace.onset, trace.answers, trace.n_windows, strict=True)
    ]
    write_json(path.with_suffix(".json"), {
        "model": model,
        "every_seconds": trace.every_seconds,
        "columns": {
            "onset": "the time that is answered for, seconds from the recording's start",
            "n_windows": "windows that hold the time, whose answers were averaged; each reads up to its own end",
        },
    })  # fmt: skip
    write_table(path, ("onset", *names, "n_windows"), rows, delimiter="\t")
    return path


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")


_COLUMNS = ("participant_id", "session", "recording", "windows", "withheld", "modalities_used", "modalities_ignored")
NUMBER_COLUMNS = (*_COLUMNS, "mean", "lowest", "highest")


def number_row(predicted: PredictedNumbers) -> tuple[object, ...]:
    """Return the recording's row of ``summary.csv``: counts, sensors, and mean, lowest and highest number."""
    given = predicted.values[~np.isnan(predicted.values)]
    numbers = [_cell(float(v)) for v in (given.mean(), given.min(), given.max())] if len(given) else [None] * 3
    return (
        predicted.subject,
        predicted.session,
        predicted.recording,
        len(predicted.values),
        len(predicted.values) - len(given),
        " ".join(predicted.used),
        " ".join(predicted.ignored),
        *numbers,
    )
