"""A saved model applied to prepared recordings: a prediction for every window and task, or a reason why there is none.

A prediction at a single time is asked of every window that holds the time, and the windows' outputs are averaged; a
time near a window's start is thus predicted with up to a window's length of what comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.windows import DenseLabels, IntArray, WindowTable, grid_windows, target_of
from biopercept.errors import RecordingError, SettingsError
from biopercept.inference.familiarity import Familiarity, familiarity_of
from biopercept.inference.shift import ALL, NONE, caution, log_odds_of, require_adaptable, shift_at, shifted
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.preprocessing.features import FEATURE_NAMES
from biopercept.recording import Interval, RecordingLabels
from biopercept.store.prepared import WindowedRecording, title_of
from biopercept.tasks import Task, disagreement
from biopercept.training.calibration import Calibration, set_words, undecided_words
from biopercept.training.checkpoint import Checkpoint, require_features
from biopercept.training.engine import Engine
from biopercept.training.objective import predict_windows, values_of

if TYPE_CHECKING:
    import pandas as pd

ALONE = (
    "given by itself, and the model scales a recording by the past of its session: one that holds a single condition "
    "may be called the other; give the recordings of the session as a study, rest first"
)
NO_SIGNAL = "no usable signal of a sensor that the model knows"
IN_REFERENCE = "inside the reference period"
UNLIKE = "unlike the windows that the model knows"
OUTSIDE = "a signal outside the range that the model knows"
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trace:
    """Predictions of one task at single times of a recording.

    ``onset`` is in seconds on the recording's clock; ``values``, (n_times, n_values), are probabilities of the classes,
    or the number, the mean over ``n_windows``. ``label`` is the true class or number, as of :class:`TaskPredictions`.
    """

    every_seconds: float
    onset: FloatArray
    values: FloatArray
    n_windows: NDArray[np.int64]
    label: tuple[str, ...] | FloatArray


@dataclass(frozen=True, eq=False)
class TaskPredictions:
    """Predictions of one task for the windows of a recording.

    ``values``, (n_windows, n_values), are probabilities of the classes or levels, or the number in the unit of the
    study's column; NaN where withheld, and ``reason`` then says why. ``label`` is the true class of the labelled
    interval that a window lies wholly inside (empty where there is none), or the true number (NaN where it is not
    known); of a rating it is that of ``lag_seconds`` later. ``sets`` are the classes in each window's prediction set,
    joined by `` | ``; empty where the model makes no sets. ``shift``, (n_windows,), was added to the log odds of the
    second class; None where nothing was to be adapted.
    """

    task: Task
    values: FloatArray
    reason: tuple[str, ...]
    label: tuple[str, ...] | FloatArray
    sets: tuple[str, ...] = ()
    trace: Trace | None = None
    lag_seconds: float = 0.0
    shift: FloatArray | None = None

    @property
    def predicted(self) -> tuple[str, ...] | FloatArray:
        """Return the most probable class of each window, empty where withheld; of a regression the number, or NaN."""
        if not self.task.is_classification:
            return self.values[:, 0]
        best = np.nan_to_num(self.values, nan=-1.0).argmax(axis=1)
        classes = self.task.class_names
        return tuple("" if why else classes[k] for k, why in zip(best, self.reason, strict=True))

    @property
    def confidence(self) -> FloatArray | None:
        """Return the highest probability of each window, NaN where it has none; None for numbers, which have none."""
        return np.asarray(self.values.max(axis=1), dtype=np.float64) if self.task.is_classification else None

    @property
    def n_abstained(self) -> int:
        """Return how many predictions are withheld for want of sureness, and not of signals."""
        return sum(why not in ("", NO_SIGNAL, IN_REFERENCE) for why in self.reason)

    def abstaining(self, below: float | None, unlike: Mapping[str, NDArray[np.bool_]]) -> TaskPredictions:
        """Return the predictions without those less sure than ``below`` and those of windows that are ``unlike``.

        The latter are given by the reason to withhold them. A class is withheld by its reason and its probabilities
        stay; a number is removed.
        """
        reasons = list(self.reason)
        for why, rows in unlike.items():
            for row in np.flatnonzero(rows):
                reasons[row] = reasons[row] or why
        if below is not None and (confidence := self.confidence) is not None:
            for row in np.flatnonzero(confidence < below):
                reasons[row] = reasons[row] or f"less sure than {below:g}"
        is_removed = np.array([bool(why) for why in reasons], dtype=bool)[:, None] & (not self.task.is_classification)
        return replace(self, reason=tuple(reasons), values=np.where(is_removed, np.nan, self.values))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts of one recording, by task; ``key`` is unique in a study and safe in file names.

    ``onset`` is in seconds on the recording's clock, ``quality`` the mean signal quality of each window in [0, 1], NaN
    where no signal is present. ``used`` are the modalities that the model read, ``ignored`` those it was not trained
    with; ``notes`` were made while the recording was prepared. ``familiarity`` says how like the recording is to what
    the model knows, and whether it was fitted to the person; ``is_alone`` that a model which scales by the past of a
    session was given this recording of it alone.
    """

    subject: str
    session: str
    recording: str
    key: str
    onset: FloatArray
    length_seconds: float
    quality: FloatArray
    used: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    tasks: dict[str, TaskPredictions]
    familiarity: Familiarity
    adapt: str = NONE
    is_alone: bool = False

    @property
    def is_transductive(self) -> bool:
        """Return whether predictions rest on what came after them: their threshold was moved by the whole recording."""
        return self.adapt == ALL

    @property
    def only(self) -> TaskPredictions:
        """Return the predictions of a model of one task."""
        [predictions] = self.tasks.values()
        return predictions

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user of the predictions should know, a sentence each.

        That is what is unlike what the model knows, whether it was fitted to the person, whether a threshold was moved
        of what may be one class alone, and whether the rest of the session is missing by which inputs are scaled.
        """
        moved = [(of.shift, of.label) for of in self.tasks.values() if of.shift is not None]
        cautions = (caution(shift, label) for shift, label in moved if isinstance(label, tuple))
        alone = (ALONE,) if self.is_alone else ()
        return (*alone, *self.familiarity.remarks, *dict.fromkeys(filter(None, cautions)))

    def abstaining(self, below: float | None = None, *, unlike: bool = False) -> Predictions:
        """Return the predictions without those less sure than ``below``, and with ``unlike`` those of unlike windows.

        Windows are unlike by the distance of their features, or by a signal outside the range known. A prediction is as
        sure as its highest probability. Withheld ones say why in ``reason``.

        Raises SettingsError where ``below`` is no probability or no task has probabilities, or the model does not keep
        what it knows.
        """
        require_abstention([of_task.task for of_task in self.tasks.values()], below)
        if unlike and not self.familiarity.is_known:
            raise SettingsError(NO_DISTANCE)
        familiarity = self.familiarity
        rows = {UNLIKE: familiarity.is_unlike, OUTSIDE: familiarity.is_outside} if unlike else {}
        return replace(self, tasks={name: task.abstaining(below, rows) for name, task in self.tasks.items()})

    def to_frame(self, task: str | None = None) -> pd.DataFrame:
        """Return a row per window: the columns of ``predict``'s table of a task; None: the only one, or the first."""
        import pandas as pd

        return pd.DataFrame(self.columns(next(iter(self.tasks)) if task is None else task))

    def columns(self, task: str) -> dict[str, Any]:
        """Return the columns of the table of a task: a value per window in each."""
        predictions = self.tasks[task]
        columns: dict[str, Any] = {
            "onset": self.onset,
            "duration": np.full(len(self.onset), self.length_seconds),
            "predicted": predictions.predicted,
        }
        for number, name in enumerate(predictions.task.class_names):
            columns[f"probability_{name}"] = predictions.values[:, number]
        columns |= {"quality": self.quality, "reason": predictions.reason, "label": predictions.label}
        if predictions.sets:
            columns["prediction_set"] = predictions.sets
        if (confidence := predictions.confidence) is not None:
            columns["confidence"] = confidence
        if self.familiarity.is_known:
            columns["distance"] = self.familiarity.distance
            columns["unlike"] = self.familiarity.is_unlike.astype(np.int64)
            columns["outside_range"] = self.familiarity.is_outside.astype(np.int64)
        if predictions.shift is not None:
            columns["shift"] = predictions.shift
        return columns


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a recording beside its signals, and the tasks that turn it into true classes and numbers.

    The tasks are those of the ``study``, whose words its labels are. A file by itself has none of both: its labels are
    read in the words of the study that the model was trained on.
    """

    labels: RecordingLabels = field(default_factory=RecordingLabels)
    study: str = ""
    tasks: Mapping[str, Task] | None = None

    def task_for(self, task: Task) -> Task | None:
        """Return the task whose words the labels are; None where the study has none that predicts the same."""
        if self.tasks is None:
            return task
        return None if self.lacking(task) else self.tasks[task.name]

    def lacking(self, task: Task) -> str:
        """Return why the study knows no truth for a task of the model; empty where it does."""
        if self.tasks is None:
            return ""
        why = disagreement(task, self.tasks.get(task.name), self.study)
        return why and f"{why}, so no truth is written beside its predictions"


NO_TRUTH = Truth()
NO_DISTANCE = (
    "the model does not keep what it knows, so no window can be called unlike it; train it again, or leave "
    "--abstain-unlike out"
)


def require_abstention(tasks: Sequence[Task], below: float | None) -> None:
    """Refuse a least sureness that is no probability, or that no task has. Raises SettingsError."""
    if below is None:
        return
    if not 0 < below <= 1:
        raise SettingsError(f"--abstain-below is {below:g}; it must be a probability above 0 and at most 1")
    if not any(task.is_classification for task in tasks):
        raise SettingsError(
            f"the model predicts numbers ({', '.join(task.name for task in tasks)}), which have no probability; leave "
            "--abstain-below out"
        )


def require_this_version(checkpoint: Checkpoint, name: str) -> None:
    """Refuse a model, called ``name``, that reads other features than this version makes. Raises SettingsError."""
    require_features(name, checkpoint.feature_names, FEATURE_NAMES, "this version")


@dataclass(frozen=True)
class Ways:
    """What is predicted beside a model's plain answers, and how these are changed.

    ``every_seconds``: distance of single times at which every task is predicted, too. ``adapt``: none, past or all, as
    :mod:`biopercept.inference.shift` says: the windows that the threshold of a recording is moved by.
    """

    every_seconds: float | None = None
    adapt: str = NONE

    def require(self, checkpoint: Checkpoint) -> None:
        """Refuse ways that the model does not have. Raises SettingsError."""
        require_adaptable(checkpoint.tasks, self.adapt)
        if self.every_seconds is None:
            return
        require_dense(checkpoint, self.every_seconds)
        if self.adapt != NONE:
            raise SettingsError(
                "--every predicts at single times and --adapt moves those of windows; leave one of them out"
            )


PLAIN = Ways()


def predict(
    checkpoint: Checkpoint,
    recording: WindowedRecording,
    engine: Engine,
    *,
    truth: Truth = NO_TRUTH,
    before: Sequence[WindowedRecording] | None = None,
    ways: Ways = PLAIN,
) -> Predictions:
    """Return a model's predictions for one recording that was prepared with the model's own settings.

    ``truth`` is what the study says, only to write it beside the predictions. Earlier recordings ``before`` of the same
    session are read where the model's normalisation reaches over the session; each, and ``recording``, must then know
    its ``place``. None: the recording is given by itself, which is then remarked.

    Raises RecordingError where the recording is shorter than a window, or has no sensor that the model was trained
    with. Raises SettingsError where single times are wanted of a model that was not trained for them, or no window
    holds one; or where the threshold of a task cannot be moved.
    """
    ways.require(checkpoint)
    every_seconds, adapt = ways.every_seconds, ways.adapt
    read = read_for(checkpoint, recording, engine, before or ())
    network, windows = checkpoint.network.to(engine.device), read.windows
    rows = np.arange(len(windows), dtype=np.int64)
    values = predict_windows(network, checkpoint.tasks, read.source, rows)
    traces = {} if every_seconds is None else _traces(checkpoint, read, every_seconds, truth)
    is_withheld = np.array([bool(why) for why in read.reasons], dtype=bool)[:, None]
    tasks = {}
    for task in checkpoint.tasks:
        name = task.name
        shift = None
        if adapt != NONE:
            shift = read.shift_at(windows.onset, values[name], adapt)
            values[name] = shifted(values[name], shift)
        given, sets, reasons = calibrated(checkpoint.calibration, task, values[name], read.reasons)
        known = _lagged(task, truth)
        tasks[name] = TaskPredictions(
            task=task,
            values=np.where(is_withheld, np.nan, given),
            reason=reasons,
            label=_labels(task, known, truth.labels, windows),
            sets=sets,
            trace=traces.get(name),
            lag_seconds=0.0 if known is None else known.lag_seconds,
            shift=shift,
        )
    return Predictions(
        subject=recording.subject,
        session=recording.session,
        recording=recording.recording,
        key=recording.key,
        onset=windows.onset,
        length_seconds=windows.length_seconds,
        quality=windows.quality(),
        used=read.used,
        ignored=read.ignored,
        notes=recording.notes,
        tasks=tasks,
        familiarity=familiarity_of(checkpoint, read.inputs, None if truth.tasks is None else truth.study),
        adapt=adapt,
        is_alone=before is None and checkpoint.normalisation.scope == "session",
    )


@dataclass(frozen=True, eq=False)
class ReadRecording:
    """The windows of a recording as a model reads them, scaled, and in batches.

    ``reasons`` say why a window's prediction is withheld; empty where it is given. ``used`` are the modalities that the
    model reads, ``ignored`` those it was not trained with.
    """

    windows: WindowTable
    inputs: WindowInputs
    source: TokenSource
    reasons: tuple[str, ...]
    used: tuple[str, ...]
    ignored: tuple[str, ...]

    def shift_at(self, onset: FloatArray, values: FloatArray, adapt: str) -> FloatArray:
        """Return what is added to the log odds of windows that begin at ``onset``, given ``values`` of all windows."""
        is_given = np.array([not why for why in self.reasons], dtype=bool)
        seen = np.where(is_given, log_odds_of(values), np.nan)
        weight = min(1.0, self.inputs.step_seconds / self.windows.length_seconds)
        return shift_at(adapt, onset, self.windows.onset, seen, weight)


def read_for(
    checkpoint: Checkpoint, recording: WindowedRecording, engine: Engine, before: Sequence[WindowedRecording] = ()
) -> ReadRecording:
    """Return a recording as a model reads it; ``before`` as for :func:`predict`.

    Raises RecordingError where the recording is shorter than a window, or has no sensor that the model was trained
    with.
    """
    length, tokens = checkpoint.window_seconds, checkpoint.tokens
    windows = grid_windows(
        [*before, recording], length_seconds=length, feature_names=checkpoint.feature_names, n_before=len(before)
    )
    if not len(windows):
        raise RecordingError(
            f"{title_of(recording)} lasts {recording.duration_seconds:.1f} s, less than the model's window of "
            f"{length:g} s"
        )
    present = sorted({s.modality for s in recording.signals if not s.derived_from})
    known = checkpoint.training["modalities"]
    used, ignored = (tuple(m for m in present if (m in known) is is_known) for is_known in (True, False))
    if not used:
        raise RecordingError(
            f"{title_of(recording)} has {', '.join(ignored) or 'no sensor'} and the model was trained with "
            f"{', '.join(known)}; they share none"
        )
    step = float(checkpoint.prepare["windows"]["step_seconds"])
    inputs = WindowInputs(windows, checkpoint.normalisation, step, raw=tokens.raw, derived=tokens.derived)
    source = TokenSource(inputs, checkpoint.population, tokens, engine.device)
    has_tokens = source.has_tokens(np.arange(len(windows), dtype=np.int64))
    is_reference = windows.onset < inputs.reference_ends[windows.recording]
    is_reference &= checkpoint.normalisation.mode == "reference"
    reasons = tuple(
        IN_REFERENCE if early else ("" if real else NO_SIGNAL)
        for early, real in zip(is_reference, has_tokens, strict=True)
    )
    return ReadRecording(windows, inputs, source, reasons, used, ignored)


def calibrated(
    calibration: Calibration | None, task: Task, values: FloatArray, reasons: tuple[str, ...]
) -> tuple[FloatArray, tuple[str, ...], tuple[str, ...]]:
    """Return calibrated probabilities, the prediction set of each window, and why predictions are withheld.

    Where the model makes sets, a set that is not one class is an abstention; its probabilities stay.
    """
    if calibration is None:
        return values, (), reasons
    if not calibration.coverage:
        return calibration.apply(values), (), reasons
    members = calibration.sets(values)
    sets = tuple("" if why else set_words(task.class_names, row) for why, row in zip(reasons, members, strict=True))
    undecided = tuple(
        why or ("" if n == 1 else undecided_words(words, calibration.coverage))
        for why, n, words in zip(reasons, members.sum(axis=1).tolist(), sets, strict=True)
    )
    return calibration.apply(values), sets, undecided


def _labels(
    task: Task, known: Task | None, labels: RecordingLabels, windows: WindowTable
) -> tuple[str, ...] | FloatArray:
    """Return what the study says of each window in its task: a class or a number, as of :class:`TaskPredictions`."""
    length = windows.length_seconds
    if known is not None and known.signal is not None:
        return _rated(known, labels, windows)
    if task.is_classification:
        return tuple(_class_at(known, float(onset), length, labels.intervals) for onset in windows.onset)
    column = "" if known is None else known.column or ""
    values = [labels.value_of(column, "", float(onset), length) for onset in windows.onset]
    return np.array(values, dtype=np.float64)


def _lagged(task: Task, truth: Truth) -> Task | None:
    """Return the study's task; a lag that the study leaves open is that which training estimated."""
    known = truth.task_for(task)
    return replace(known, lag_seconds=task.lag_seconds) if known is not None and known.lags else known


def _rated(task: Task, labels: RecordingLabels, windows: WindowTable) -> tuple[str, ...] | FloatArray:
    """Return the class or the number of each window in a task of a rating; empty or NaN where it has none."""
    given = [target_of(task, labels, "", float(onset), windows.length_seconds) for onset in windows.onset]
    if not task.is_classification:
        return np.array([np.nan if isinstance(value, str) else value for value in given], dtype=np.float64)
    return tuple("" if isinstance(value, str) else task.class_names[int(value)] for value in given)


def _class_at(task: Task | None, onset: float, length: float, intervals: tuple[Interval, ...]) -> str:
    """Return the class of the intervals that a window lies wholly inside; empty where they have none, or several."""
    if task is None:
        return ""
    inside = [i for i in intervals if i.onset_seconds <= onset + 1e-6 and onset + length <= i.end_seconds + 1e-6]
    names = {task.class_of(i.label) for i in inside} - {None}
    return str(names.pop()) if len(names) == 1 else ""


def require_dense(checkpoint: Checkpoint, every_seconds: float) -> None:
    """Refuse single times of a model that was not trained to predict at them.

    Raises SettingsError: which says how to train one that is; also where the times are no positive number of seconds
    apart.
    """
    if not (np.isfinite(every_seconds) and every_seconds > 0):
        raise SettingsError(f"--every is {every_seconds:g}; it must be a positive number of seconds")
    if not checkpoint.is_dense:
        raise SettingsError(
            "the model was not trained to predict at single times; train a model with --set training.dense_weight=1 "
            "for --every, or leave --every out"
        )


def _traces(checkpoint: Checkpoint, read: ReadRecording, every: float, truth: Truth) -> dict[str, Trace]:
    """Return every task's predictions at the multiples of ``every`` that lie in a window whose prediction is given."""
    tasks = {task.name: task for task in checkpoint.tasks}
    duration = read.windows.recordings[-1].duration_seconds
    windows, length = read.windows, read.windows.length_seconds
    rows = np.flatnonzero([not why for why in read.reasons]).astype(np.int64)
    first = np.ceil(windows.onset[rows] / every - 1e-9).astype(np.int64)  # the first multiple in each window
    after = np.ceil((windows.onset[rows] + length) / every - 1e-9).astype(np.int64)
    n_times = int((after - first).max(initial=0))
    multiple = first[:, None] + np.arange(n_times)  # (n, Q)
    is_inside = multiple < after[:, None]
    if not is_inside.any():
        raise SettingsError(
            f"--every is {every:g} s and no window of {length:g} s holds such a time; choose a smaller one"
        )
    times = np.where(is_inside, multiple * every - windows.onset[rows][:, None], 0.0).clip(0.0, length)
    predicted = predict_times(checkpoint.network, checkpoint.tasks, read.source, rows, times.astype(np.float32))
    inside = multiple[is_inside]
    n_windows = np.bincount(inside)
    given = np.flatnonzero(n_windows)
    traces = {}
    for name, values in predicted.items():
        sums = [np.bincount(inside, weights=column) for column in values[is_inside].T]
        mean: FloatArray = np.stack(sums, axis=1)[given] / n_windows[given][:, None]
        onset = np.asarray(given * every, dtype=np.float64)
        label = _labels_at(tasks[name], truth, duration, onset)
        traces[name] = Trace(every_seconds=every, onset=onset, values=mean, n_windows=n_windows[given], label=label)
    return traces


def _labels_at(task: Task, truth: Truth, duration: float, onset: FloatArray) -> tuple[str, ...] | FloatArray:
    """Return what the study says of single times, as training reads it: a class or a number."""
    known = _lagged(task, truth)
    values = np.full(len(onset), np.nan)
    if known is not None:
        values = DenseLabels([(truth.labels, duration)], known).at(np.zeros(len(onset), dtype=np.int64), onset)
    if not task.is_classification:
        return values
    return tuple("" if known is None or np.isnan(value) else known.class_names[int(value)] for value in values)


def predict_times(
    network: BiosignalPerceiver,
    tasks: Sequence[Task],
    source: TokenSource,
    rows: IntArray,
    times: NDArray[np.float32],
    *,
    batch_size: int = 64,
) -> Mapping[str, FloatArray]:
    """Return what is predicted at single times (n, Q), seconds from each window's start: by task (n, Q, n_values)."""
    predicted: dict[str, list[FloatArray]] = {task.name: [] for task in tasks}
    parts = source.layouts.parts(rows, most=batch_size)
    network.eval()
    with torch.inference_mode():
        for part in parts:
            queried = torch.from_numpy(times[part]).to(source.device)
            outputs = network(source.batch(rows[part]), traces={task.name: queried for task in tasks}).traces
            for task in tasks:
                predicted[task.name].append(np.asarray(values_of(task, outputs[task.name].double()).cpu().numpy()))
    back = np.argsort(np.concatenate(parts), kind="stable")
    return {name: np.concatenate(values)[back] for name, values in predicted.items()}
