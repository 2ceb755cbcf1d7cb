"""The windows of prepared recordings that a task labels, as one table; every window left out is counted.

A row names a window by recording and position in that recording's own window table, so
nothing is copied. The onset stays in this table for scores and timelines; no model sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.studies.tasks import Task
from biopercept.windowed import WindowedRecording

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TaskColumn:
    """What one task says of each window of a table.

    Attributes
    ----------
    task : Task
    target : int64 array, shape (n_windows,)
        Class or level; -1 where the task gives none, and for a regression.
    value : float64 array, shape (n_windows,)
        Number in the unit of the study's column; NaN where there is none, and for classes.
    left_out : mapping of str to int
        Windows that the task gives nothing, by reason.
    """

    task: Task
    target: IntArray
    value: NDArray[np.float64]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Return where the task has an answer, (n_windows,)."""
        return np.asarray(np.isfinite(self.value) if self.task.is_regression else self.target >= 0)

    @property
    def n_answers(self) -> int:
        """Return the numbers of one answer: a probability per class, or one value."""
        return 1 if self.task.is_regression else len(self.task.classes)

    def at(self, rows: IntArray) -> TaskColumn:
        """Return the column of some windows."""
        return TaskColumn(self.task, self.target[rows], self.value[rows], self.left_out)


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Windows chosen for learning or prediction.

    Attributes
    ----------
    recordings : tuple of WindowedRecording
        The recordings that rows point into.
    classes : tuple of str
        Names of the classes; ``target`` counts in this order. Empty for prediction without labels.
    length_seconds : float
        Length of every window.
    feature_names : tuple of str
        Names of the feature columns, "group/name".
    recording, row : int64 arrays, shape (n_windows,)
        Index into ``recordings``, and row in that recording's window table.
    onset : float64 array, shape (n_windows,)
        Seconds on the recording's clock.
    subject : array of str, shape (n_windows,)
    target : int64 array, shape (n_windows,)
        Class index; -1 where the window has no label.
    label : array of str, shape (n_windows,)
        The stage's own word (``trial_type``); empty where there is none.
    left_out : mapping of str to int
        Windows not in the table, by reason.
    columns : tuple of TaskColumn
        What each task says of the windows; one for a table of a single task, none for prediction.
    """

    recordings: tuple[WindowedRecording, ...]
    classes: tuple[str, ...]
    length_seconds: float
    feature_names: tuple[str, ...]
    recording: IntArray
    row: IntArray
    onset: NDArray[np.float64]
    subject: NDArray[np.str_]
    target: IntArray
    label: NDArray[np.str_]
    left_out: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[TaskColumn, ...] = ()

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def n_classes(self) -> int:
        """Return the number of classes."""
        return len(self.classes)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects that have at least one window, sorted."""
        return tuple(sorted({str(s) for s in self.subject}))

    def rows_of(self, subjects: Collection[str]) -> IntArray:
        """Return the positions of the windows of these subjects, in order."""
        return np.flatnonzero(np.isin(self.subject, sorted(subjects))).astype(np.int64)

    def raw_features(self) -> NDArray[np.float64]:
        """Return the un-normalised features, (n_windows, n_features), NaN where undefined."""
        return self._gather("features")

    def quality(self) -> NDArray[np.float64]:
        """Return the mean signal quality of each window in [0, 1], (n_windows,); NaN where no signal is present."""
        values = [_row_means(np.asarray(r.windows.quality, dtype=np.float64)) for r in self.recordings]
        return self._pick(values)

    def stages(self) -> IntArray:
        """Return the labelled stretch of its recording that each window was cut from, (n_windows,); -1 for none."""
        return self._gather("stage").astype(np.int64)

    def _gather(self, column: str) -> NDArray[np.float64]:
        return self._pick([np.asarray(getattr(r.windows, column), dtype=np.float64) for r in self.recordings])

    def _pick(self, values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the rows of this table from one array per recording."""
        if not len(self):
            return np.empty((0, *values[0].shape[1:])) if values else np.empty(0)
        starts = np.concatenate([[0], np.cumsum([len(v) for v in values])])
        picked: NDArray[np.float64] = np.concatenate(values)[starts[self.recording] + self.row]
        return picked


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the finite values of each row; NaN for a row without one."""
    is_finite = np.isfinite(values)
    counts = is_finite.sum(axis=1)
    sums = np.where(is_finite, values, 0.0).sum(axis=1)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def labelled_windows(
    recordings: Sequence[WindowedRecording],
    task: Task,
    *,
    length_seconds: float,
    feature_names: Sequence[str],
    unscored_seconds: float | Sequence[float] = 0.0,
) -> WindowTable:
    """Return the windows that the task gives a class or a number.

    A number of a stretch goes to the windows cut from it, one of a whole recording to all its labelled windows, or to
    its grid where it has no labelled stretch. Windows without a number are left out.

    Parameters
    ----------
    recordings : sequence of WindowedRecording
    task : Task
    length_seconds : float
        Length of the windows.
    feature_names : sequence of str
        Names of the feature columns.
    unscored_seconds : float, or one for each recording
        Windows that begin before this time are left out ("reference period"): they fitted the
        ``reference`` normalisation.

    Raises
    ------
    StudyError
        Where no window is left, or only one class or number.
    """
    unscored = np.broadcast_to(np.asarray(unscored_seconds, dtype=np.float64), len(recordings))
    if task.is_regression:
        return _numbered_windows(recordings, task, length_seconds, feature_names, unscored)
    classes = tuple(task.classes)
    left_out: Counter[str] = Counter()
    rows: list[tuple[int, int, int]] = []
    for index, recording in enumerate(recordings):
        windows = recording.windows
        for row in np.flatnonzero(np.asarray(windows.is_labelled)):
            label = str(windows.label[row])
            name = task.class_of(label)
            if name is None:
                left_out[f"label {label!r} is ignored by the task"] += 1
            elif float(windows.onset[row]) < unscored[index]:
                left_out["inside the reference period"] += 1
            else:
                rows.append((index, int(row), classes.index(name)))
    if not rows:
        raise StudyError(f"no window has a label of task {task.name!r}; check events.tsv and the classes in study.yaml")
    if len({target for _, _, target in rows}) < 2:
        only = classes[rows[0][2]]
        raise StudyError(f"all {len(rows)} windows of task {task.name!r} are {only!r}; two classes are needed")
    table = window_table(recordings, rows, classes, length_seconds, feature_names, left_out)
    column = TaskColumn(task, table.target, np.full(len(table), np.nan), table.left_out)
    return replace(table, columns=(column,))


def _numbered_windows(
    recordings: Sequence[WindowedRecording],
    task: Task,
    length_seconds: float,
    feature_names: Sequence[str],
    unscored: NDArray[np.float64],
) -> WindowTable:
    """Return the windows that a regression task gives a number."""
    left_out: Counter[str] = Counter()
    rows: list[tuple[int, int, int]] = []
    numbers: list[float] = []
    for index, recording in enumerate(recordings):
        windows, labels = recording.windows, recording.labels
        is_labelled = np.asarray(windows.is_labelled)
        for row in np.flatnonzero(is_labelled if is_labelled.any() else ~is_labelled):
            label, onset = str(windows.label[row]), float(windows.onset[row])
            value = labels.value_of(task.column or "", label, onset, length_seconds)
            if label in task.ignore:
                left_out[f"label {label!r} is ignored by the task"] += 1
            elif onset < unscored[index]:
                left_out["inside the reference period"] += 1
            elif not np.isfinite(value):
                left_out[f"no number in column {task.column!r}"] += 1
            else:
                rows.append((index, int(row), -1))
                numbers.append(value)
    if not rows:
        raise StudyError(f"no window has a number for task {task.name!r}; check the column {task.column!r}")
    if len(set(numbers)) < 2:
        raise StudyError(f"all {len(rows)} windows of task {task.name!r} are {numbers[0]:g}; they must differ")
    table = window_table(recordings, rows, (), length_seconds, feature_names, left_out)
    return replace(table, columns=(TaskColumn(task, table.target, np.array(numbers), table.left_out),))


def grid_windows(
    recordings: Sequence[WindowedRecording],
    *,
    length_seconds: float,
    feature_names: Sequence[str],
    n_before: int = 0,
) -> WindowTable:
    """Return the windows that cover every recording from its start, labels or not: predictions are made for them.

    The first ``n_before`` recordings give no windows: they are there for what came before in the session.
    """
    rows = [
        (index, int(row), -1)
        for index, recording in enumerate(recordings)
        for row in np.flatnonzero(~np.asarray(recording.windows.is_labelled))
        if index >= n_before
    ]
    return window_table(recordings, rows, (), length_seconds, feature_names, {})


def window_table(
    recordings: Sequence[WindowedRecording],
    rows: Sequence[tuple[int, int, int]],
    classes: tuple[str, ...],
    length_seconds: float,
    feature_names: Sequence[str],
    left_out: Mapping[str, int],
) -> WindowTable:
    """Return the table of some windows, each given as (index of its recording, row there, class or -1)."""
    columns = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
    return WindowTable(
        recordings=tuple(recordings),
        classes=classes,
        length_seconds=length_seconds,
        feature_names=tuple(feature_names),
        recording=columns[:, 0],
        row=columns[:, 1],
        onset=np.array([float(recordings[i].windows.onset[j]) for i, j, _ in rows], dtype=np.float64),
        subject=np.array([recordings[i].subject for i, _, _ in rows], dtype=np.str_),
        target=columns[:, 2],
        label=np.array([str(recordings[i].windows.label[j]) for i, j, _ in rows], dtype=np.str_),
        left_out=dict(left_out),
    )
