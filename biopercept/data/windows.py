"""The windows of prepared recordings and what each task says of them, as one table; every excluded window is counted.

A row names a window by recording and position in that recording's own window table, so nothing is copied. The onset
stays in this table for scores and timelines; no model sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StudyError
from biopercept.recording import Interval, RecordingLabels, outside
from biopercept.store.prepared import StoredWindows, WindowedRecording
from biopercept.tasks import Task

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
WINDOW_COLUMNS = ("recording", "row", "onset", "subject", "label")
"""Arrays of a :class:`WindowTable` with a value for each window."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What one task says of each window of a table.

    Attributes
    ----------
    values : array, shape (n_windows,)
        Class or level as int64, -1 where the task gives none; of a regression the number in the unit of the study's
        column as float64, NaN where there is none.
    excluded : mapping of str to int
        Windows to which the task gives nothing, by reason.
    lagged : array, shape (n_windows, n_lags), or None
        The numbers by each of the lags of a rating whose lag is yet to be estimated; ``values`` are then the first.
    is_lag_untold : bool
        Whether a lag was to be estimated and these data tell none; it is 0 s then.
    """

    task: Task
    values: NDArray[Any]
    excluded: Mapping[str, int] = field(default_factory=dict)
    lagged: FloatArray | None = None
    is_lag_untold: bool = False

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Return where the task gives a class or a number, (n_windows,)."""
        return np.asarray(np.isfinite(self.values) if self._are_numbers else self.values >= 0)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names that ``values`` count; empty for a regression."""
        return self.task.class_names

    @property
    def n_classes(self) -> int:
        """Return the number of classes; 0 for a regression."""
        return len(self.task.classes)

    @property
    def groups(self) -> IntArray:
        """Return the class of each window, or -1 everywhere for a regression: a subject's groups weigh the same."""
        return np.full(len(self.values), -1, dtype=np.int64) if self._are_numbers else self.values

    @property
    def _are_numbers(self) -> bool:
        return self.values.dtype.kind == "f"

    def at(self, rows: IntArray) -> Targets:
        """Return the targets of some windows."""
        return replace(self, values=self.values[rows], lagged=None if self.lagged is None else self.lagged[rows])


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Windows chosen for learning or prediction.

    Attributes
    ----------
    feature_names : tuple of str
        Names of the feature columns, "group/name".
    recording, row : int64 arrays, shape (n_windows,)
        Index into ``recordings``, and row in that recording's window table.
    onset : float64 array, shape (n_windows,)
        Seconds on the recording's clock.
    label : array of str, shape (n_windows,)
        The stage's own word (``trial_type``); empty where there is none.
    targets : mapping of str to Targets
        By task; empty for prediction.
    """

    recordings: tuple[WindowedRecording, ...]
    length_seconds: float
    feature_names: tuple[str, ...]
    recording: IntArray
    row: IntArray
    onset: NDArray[np.float64]
    subject: NDArray[np.str_]
    label: NDArray[np.str_]
    targets: Mapping[str, Targets] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.recording)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks in order."""
        return tuple(targets.task for targets in self.targets.values())

    @property
    def only(self) -> Targets:
        """Return what the one task says; raises SettingsError where there are several tasks, or none."""
        if len(self.targets) != 1:
            raise SettingsError(f"one task is needed here, and there are {len(self.targets)}; give --task one name")
        return next(iter(self.targets.values()))

    @property
    def excluded(self) -> dict[str, int]:
        """Return the windows to which tasks give nothing, by reason; of several tasks each with its name."""
        if len(self.targets) == 1:
            return dict(self.only.excluded)
        return {f"{name}: {why}": n for name, targets in self.targets.items() for why, n in targets.excluded.items()}

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Return to which windows any task gives a class or a number, (n_windows,)."""
        return np.asarray(np.any([targets.is_known for targets in self.targets.values()], axis=0))

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects that have at least one window, sorted."""
        return tuple(sorted({str(s) for s in self.subject}))

    def rows_of(self, subjects: Collection[str]) -> IntArray:
        """Return the positions of the windows of these subjects, in order."""
        return np.flatnonzero(np.isin(self.subject, sorted(subjects))).astype(np.int64)

    def at(self, rows: IntArray) -> WindowTable:
        """Return the table of some windows, in the order of ``rows``."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in WINDOW_COLUMNS}
        return replace(self, **columns, targets={name: targets.at(rows) for name, targets in self.targets.items()})

    def of_task(self, name: str) -> tuple[WindowTable, IntArray]:
        """Return the windows that one task labels, as a table of that task alone, and their rows in this one."""
        rows = np.flatnonzero(self.targets[name].is_known).astype(np.int64)
        return replace(self, targets={name: self.targets[name]}).at(rows), rows

    def raw_features(self) -> NDArray[np.float64]:
        """Return the un-normalised features, (n_windows, n_features), NaN where undefined."""
        return self._gather("features")

    def quality(self) -> NDArray[np.float64]:
        """Return the mean signal quality of each window in [0, 1], (n_windows,); NaN where no signal is present."""
        values = [_row_means(np.asarray(r.windows.quality, dtype=np.float64)) for r in self.recordings]
        return self._pick(values)

    def stages(self) -> IntArray:
        """Return the labelled segment of its recording that each window was cut from, (n_windows,); -1 for none."""
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
    """Return the windows to which the task gives a class or a number.

    A number of a segment goes to the windows cut from it, one of a whole recording to all its labelled windows, or to
    its grid where it has no labelled segment. Windows that begin before ``unscored_seconds`` (of all, or of each
    recording) are excluded: they fitted the ``reference`` normalisation.

    Raises StudyError where no window is left, or only one class or number.
    """
    unscored = np.broadcast_to(np.asarray(unscored_seconds, dtype=np.float64), len(recordings))
    excluded: Counter[str] = Counter()
    positions: list[tuple[int, int]] = []
    values: list[float] = []
    lagged: list[FloatArray] = []
    for index, recording in enumerate(recordings):
        windows = recording.windows
        for row in candidates(windows, task):
            label, onset = str(windows.label[row]), float(windows.onset[row])
            if not task.uses(label):
                excluded[f"label {label!r} is ignored by the task"] += 1
            elif onset < unscored[index]:
                excluded["inside the reference period"] += 1
            elif task.lags:
                numbers = _at_every_lag(task, recording.labels, onset, length_seconds)
                if np.isfinite(numbers).all():
                    positions.append((index, row))
                    values.append(float(numbers[0]))
                    lagged.append(numbers)
                else:
                    excluded[f"rating {task.signal!r} mostly missing at some lag up to {task.lags[-1]:g} s"] += 1
            elif isinstance(value := target_of(task, recording.labels, label, onset, length_seconds), str):
                excluded[value] += 1
            else:
                positions.append((index, row))
                values.append(value)
    _require_two(task, values)
    targets = Targets(task, np.array(values, dtype=np.int64 if task.is_classification else np.float64), dict(excluded))
    if task.lags:
        targets = replace(targets, lagged=np.array(lagged))
    return replace(_window_table(recordings, positions, length_seconds, feature_names), targets={task.name: targets})


def _at_every_lag(task: Task, labels: RecordingLabels, onset: float, length_seconds: float) -> FloatArray:
    rating = labels.ratings.get(task.signal or "")
    lags = np.array(task.lags)
    return np.full(len(lags), np.nan) if rating is None else rating.means(onset + lags, length_seconds)


def target_of(task: Task, labels: RecordingLabels, label: str, onset: float, length_seconds: float) -> float | str:
    """Return the class (by its place) or the number of a window under a label that the task uses, or why it has none.

    A rating is that of ``lag_seconds`` later: it follows the body.
    """
    if task.is_of_labels:
        return task.class_names.index(str(task.class_of(label)))
    if task.signal is None:
        number = labels.value_of(task.column or "", label, onset, length_seconds)
        return number if np.isfinite(number) else f"no number in column {task.column!r}"
    rating = labels.ratings.get(task.signal)
    if rating is None:
        return f"no rating {task.signal!r} in the recording"
    mean = float(rating.means(onset + task.lag_seconds, length_seconds)[0])
    if not np.isfinite(mean):
        return f"rating {task.signal!r} mostly missing"
    place = task.place_of(mean) if task.is_classification else None
    if task.is_classification and place is None:
        return f"rating {task.signal!r} in no class"
    return mean if place is None else place


def candidates(windows: StoredWindows, task: Task) -> list[int]:
    """Return the windows that a task looks at: the labelled ones, or for a number or rating the grid without any."""
    is_labelled = np.asarray(windows.is_labelled)
    is_of_whole = not task.is_of_labels and not is_labelled.any()
    rows: list[int] = np.flatnonzero(~is_labelled if is_of_whole else is_labelled).tolist()
    return rows


def _require_two(task: Task, values: Sequence[float]) -> None:
    name, n = task.name, len(values)
    if not task.is_classification:
        if not values:
            what = "column" if task.signal is None else "rating"
            raise StudyError(f"no window has a number for task {name!r}; check the {what} {task.quantity!r}")
        if len(set(values)) < 2:
            raise StudyError(f"all {n} windows of task {name!r} are {values[0]:g}; they must differ")
    elif not values and task.signal is not None:
        raise StudyError(
            f"no window has a rating in a class of task {name!r}; check the signal {task.signal!r} and the classes"
        )
    elif not values:
        raise StudyError(f"no window has a label of task {name!r}; check events.tsv and the classes in study.yaml")
    elif len(set(values)) < 2:
        only = task.class_names[int(values[0])]
        raise StudyError(f"all {n} windows of task {name!r} are {only!r}; two classes are needed")


def joint_windows(tables: Sequence[WindowTable], *, with_grid: bool = False) -> WindowTable:
    """Return the windows that any of several tasks labels, once each, with what every task says of them.

    There is a table for each task, all of the same recordings. With ``with_grid`` the windows that cover these
    recordings without regard to labels come along: no task has a target for them as a whole, but their single times may
    lie in labelled segments.
    """
    first = tables[0]
    positions: dict[tuple[int, int], int] = {}
    for key in sorted({key for table in tables for key in _keys(table)}):
        positions[key] = len(positions)
    if with_grid:
        for index in sorted({index for index, _ in positions}):
            for row in np.flatnonzero(~np.asarray(first.recordings[index].windows.is_labelled)):
                positions.setdefault((index, int(row)), len(positions))
    joint = _window_table(first.recordings, list(positions), first.length_seconds, first.feature_names)
    targets = {}
    for table in tables:
        single = table.only
        values = np.full(len(joint), -1 if single.task.is_classification else np.nan, dtype=single.values.dtype)
        rows = [positions[key] for key in _keys(table)]
        values[rows] = single.values
        lagged = None if single.lagged is None else np.full((len(joint), single.lagged.shape[1]), np.nan)
        if lagged is not None:
            lagged[rows] = single.lagged
        targets[single.task.name] = replace(single, values=values, lagged=lagged)
    return replace(joint, targets=targets)


def _keys(table: WindowTable) -> list[tuple[int, int]]:
    return list(zip(table.recording.tolist(), table.row.tolist(), strict=True))


def grid_windows(
    recordings: Sequence[WindowedRecording],
    *,
    length_seconds: float,
    feature_names: Sequence[str],
    n_before: int = 0,
) -> WindowTable:
    """Return the unlabelled windows that cover every recording but the first ``n_before``, for predictions."""
    positions = [
        (index, int(row))
        for index, recording in enumerate(recordings)
        for row in np.flatnonzero(~np.asarray(recording.windows.is_labelled))
        if index >= n_before
    ]
    return _window_table(recordings, positions, length_seconds, feature_names)


def _window_table(
    recordings: Sequence[WindowedRecording],
    positions: Sequence[tuple[int, int]],
    length_seconds: float,
    feature_names: Sequence[str],
) -> WindowTable:
    """Return the table, without targets, of windows each given as (index of its recording, row there)."""
    columns = np.asarray(positions, dtype=np.int64).reshape(-1, 2)
    return WindowTable(
        recordings=tuple(recordings),
        length_seconds=length_seconds,
        feature_names=tuple(feature_names),
        recording=columns[:, 0],
        row=columns[:, 1],
        onset=np.array([float(recordings[i].windows.onset[j]) for i, j in positions], dtype=np.float64),
        subject=np.array([recordings[i].subject for i, _ in positions], dtype=np.str_),
        label=np.array([str(recordings[i].windows.label[j]) for i, j in positions], dtype=np.str_),
    )


class DenseLabels:
    """The classes or numbers of one task at any time of any of its recordings.

    A time in no segment that the task knows, or in segments that disagree, has none. A segment holds its onset and not
    its end. A rating is that of the task's lag later, and has no value in segments that the task ignores.
    """

    def __init__(self, recordings: Sequence[tuple[RecordingLabels, float]], task: Task) -> None:
        """Keep the labels of recordings, each with its duration in seconds."""
        self._task = task
        self._labels = [labels for labels, _ in recordings]
        self._steps = [_step_function(labels, duration, task) for labels, duration in recordings]

    def at(self, recording: IntArray, times: FloatArray) -> FloatArray:
        """Return the class, level or number at each time of recordings by index, (n,); NaN where there is none."""
        values_at = np.full(times.shape, np.nan)
        for index in np.unique(recording):
            rows = recording == index
            edges, values = self._steps[index]
            stepped = values[np.searchsorted(edges, times[rows], side="right")]
            values_at[rows] = stepped if self._task.signal is None else self._rated(index, times[rows], stepped)
        return values_at

    def _rated(self, index: int, times: FloatArray, is_ignored: FloatArray) -> FloatArray:
        """Return the number or the class of a rating at each time, where ``is_ignored`` is NaN."""
        task = self._task
        rating = self._labels[index].ratings.get(task.signal or "")
        if rating is None:
            return np.full(times.shape, np.nan)
        stated = np.where(np.isnan(is_ignored), rating.at(times + task.lag_seconds), np.nan)
        if not task.is_classification:
            return stated
        places = [None if np.isnan(value) else task.place_of(float(value)) for value in stated.ravel()]
        return np.array([np.nan if place is None else place for place in places]).reshape(times.shape)


def _step_function(labels: RecordingLabels, duration: float, task: Task) -> tuple[FloatArray, FloatArray]:
    """Return the times at which the value may change, (n,), and the value before, between and after them, (n + 1,).

    Where segments overlap, a value holds only where all that have one agree.
    """
    segments = _segments_of(labels, duration, task)
    edges = np.unique([moment for i, _ in segments for moment in (i.onset_seconds, i.end_seconds)])
    lowest, highest = np.full(len(edges) + 1, np.inf), np.full(len(edges) + 1, -np.inf)
    for interval, value in segments:
        first, last = np.searchsorted(edges, [interval.onset_seconds, interval.end_seconds])
        covered = slice(first + 1, last + 1)
        lowest[covered], highest[covered] = np.minimum(lowest[covered], value), np.maximum(highest[covered], value)
    return edges, np.where(lowest == highest, lowest, np.nan)


def _segments_of(labels: RecordingLabels, duration: float, task: Task) -> list[tuple[Interval, float]]:
    """Return the segments of a recording that the task has a value for, with it; of a rating those it ignores."""
    whole = Interval(0.0, duration, labels.condition)
    if task.signal is not None:
        return [(i, 1.0) for i in (*labels.intervals, whole) if i.label in task.ignore]
    if task.column is not None:
        every = [(whole, labels.values[task.column])] if task.column in labels.values else []
        return [(i, v) for i, v in (*labels.numbers(task.column), *every) if i.label not in task.ignore]
    order = {name: place for place, name in enumerate(task.classes)}
    condition = task.class_of(labels.condition)
    events = [(i, task.class_of(i.label)) for i in labels.intervals]
    rest = outside(whole, [i for i, name in events if name not in (None, condition)])  # events go before a condition
    named = [*events, *((i, condition) for i in rest)]
    return [(i, float(order[name])) for i, name in named if name is not None]
