"""Several stores evaluated as one: same task and windows, features that all have, subjects named by their study.

Labelled windows come from one store or from several joined ones, each study's by its own labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from biopercept.data.windows import IntArray, Targets, WindowTable, labelled_windows
from biopercept.errors import StudyError
from biopercept.recording import RecordingLabels
from biopercept.store.prepared import FloatSamples, Mask, StoredSignal, StoredWindows, WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.tasks import ORDINAL, Task


class JoinedStores:
    """Several open stores that read like one :class:`~biopercept.store.reading.StudyStore`.

    Attributes
    ----------
    name : str
        Names of the studies.
    window_length_seconds, step_seconds : float
        The same in all.
    feature_names : tuple of str
        The features that all have, in the first one's order.
    tasks : dict of str to Task
        The tasks that all have, with the labels of all.
    disagreements : dict of str to str
        Why a task that all have by name cannot be evaluated over them.
    warnings : tuple of str
        What every output says of the stores.
    """

    def __init__(self, parts: Sequence[StudyStore]) -> None:
        self.parts = tuple(parts)
        names = [store.name for store in parts]
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise StudyError(f"{names.count(twice[0])} stores are of study {twice[0]!r}; give each study once")
        self.name = "+".join(names)
        first = parts[0]
        self.window_length_seconds, self.step_seconds = first.window_length_seconds, first.step_seconds
        for store in parts[1:]:
            if (store.window_length_seconds, store.step_seconds) != (self.window_length_seconds, self.step_seconds):
                raise StudyError(
                    f"{first.name} has windows of {self.window_length_seconds:g} s every {self.step_seconds:g} s, "
                    f"{store.name} of {store.window_length_seconds:g} s every {store.step_seconds:g} s; "
                    "prepare them alike"
                )
        self.feature_names = tuple(n for n in first.feature_names if all(n in s.feature_names for s in parts))
        if not self.feature_names:
            raise StudyError(f"{' and '.join(names)} have no feature in common; prepare them with the same features")
        self.tasks, self.disagreements = _common_tasks(self.parts)
        self.recordings = tuple(
            RecordingOfStudy(store.name, recording, tuple(store.feature_names.index(n) for n in self.feature_names))
            for store in parts
            for recording in store.recordings
        )
        self.warnings = self._warnings()

    def _warnings(self) -> tuple[str, ...]:
        warnings = []
        if dropped := sorted({n for s in self.parts for n in s.feature_names} - set(self.feature_names)):
            warnings.append(
                f"{len(self.feature_names)} features that all studies have were used, "
                f"{len(dropped)} that some lack were not"
            )
        first = self.parts[0]
        differing = {
            key
            for s in self.parts[1:]
            for key in {*first.settings, *s.settings}
            if first.settings.get(key) != s.settings.get(key)
        }
        if differing:
            warnings.append(f"the studies were prepared with different settings ({', '.join(sorted(differing))})")
        return tuple(warnings)

    def fingerprint(self) -> str:
        """Return the SHA-256 over the fingerprints of all stores."""
        return hashlib.sha256("".join(store.fingerprint() for store in self.parts).encode()).hexdigest()

    def part_tasks(self, task: Task) -> list[Task]:
        """Return the task as each study says it, classes in the order of the joined one."""
        tasks = [store.tasks[task.name] for store in self.parts]
        return [replace(part, classes={name: part.classes[name] for name in task.classes}) for part in tasks]

    def close(self) -> None:
        """Close all stores."""
        for store in self.parts:
            store.close()

    def __enter__(self) -> JoinedStores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Studies: TypeAlias = StudyStore | JoinedStores


def _common_tasks(parts: Sequence[StudyStore]) -> tuple[dict[str, Task], dict[str, str]]:
    """Return the tasks that all stores have, and why others that all have by name cannot be joined."""
    joined: dict[str, Task] = {}
    disagreements: dict[str, str] = {}
    first = parts[0]
    for name, task in first.tasks.items():
        tasks = [(store.name, store.tasks[name]) for store in parts if name in store.tasks]
        if len(tasks) < len(parts):
            continue
        for study, other in tasks[1:]:
            are_alike = (
                list(task.classes) == list(other.classes)
                if task.kind == ORDINAL
                else set(task.classes) == set(other.classes)
            )
            if (task.kind, task.column) != (other.kind, other.column) or not are_alike:
                disagreements[name] = (
                    f"task {name!r} is {_said(task)} in study {first.name} and {_said(other)} in study {study}; "
                    "its kind and classes must be the same in all stores"
                )
        classes = {c: tuple(dict.fromkeys(w for _, t in tasks for w in t.classes.get(c, ()))) for c in task.classes}
        is_file = any(t.label_is_file for _, t in tasks)
        joined[name] = replace(task, classes=classes, label_is_file=is_file)
    if not joined:
        names = "; ".join(f"{store.name} has {', '.join(store.tasks) or 'none'}" for store in parts)
        raise StudyError(f"the stores have no task of one name: {names}; name the task alike in each study.yaml")
    return joined, disagreements


def _said(task: Task) -> str:
    return f"a regression of {task.column!r}" if task.is_regression else f"{task.kind} of {', '.join(task.classes)}"


def open_studies(path: Path, *more: Path) -> Studies:
    """Return the open store, or several joined; use it in a ``with`` block.

    Raises
    ------
    StoreError
        Where one is no store or is damaged.
    StudyError
        Where several cannot be joined.
    """
    if not more:
        return open_store(path)
    with ExitStack() as stack:
        joined = JoinedStores([stack.enter_context(open_store(each)) for each in (path, *more)])
        stack.pop_all()
        return joined


def refuse_disagreement(store: Studies, task: str) -> None:
    """Refuse a task that the joined stores do not say alike.

    Raises
    ------
    StudyError
        Saying how each has it.
    """
    if isinstance(store, JoinedStores) and task in store.disagreements:
        raise StudyError(store.disagreements[task])


def store_warnings(store: Studies) -> tuple[str, ...]:
    """Return what every output says of the stores."""
    return store.warnings if isinstance(store, JoinedStores) else ()


def subjects_by_study(store: Studies) -> dict[str, list[str]]:
    """Return the subjects of each study, as they are named here."""
    if isinstance(store, StudyStore):
        return {store.name: sorted({r.subject for r in store.recordings})}
    subjects: dict[str, set[str]] = {}
    for recording in store.recordings:
        subjects.setdefault(recording.study, set()).add(recording.subject)
    return {study: sorted(subjects) for study, subjects in subjects.items()}


def tables_of(
    store: Studies, recordings: Sequence[WindowedRecording], tasks: Sequence[Task], unscored_seconds: Sequence[float]
) -> list[WindowTable]:
    """Return the labelled windows of each task; of several stores each by its own study's labels.

    Raises
    ------
    StudyError
        Where a study has no window of the task, or windows of one class only.
    """
    table_of = partial(labelled_windows, length_seconds=store.window_length_seconds, feature_names=store.feature_names)
    if isinstance(store, StudyStore):
        return [table_of(recordings, task, unscored_seconds=unscored_seconds) for task in tasks]
    joined = []
    for task in tasks:
        tables, places = [], []
        for part, own_task in zip(store.parts, store.part_tasks(task), strict=True):
            rows = [i for i, r in enumerate(recordings) if isinstance(r, RecordingOfStudy) and r.study == part.name]
            if rows:
                unscored = [unscored_seconds[i] for i in rows]
                try:
                    table = table_of([recordings[i] for i in rows], own_task, unscored_seconds=unscored)
                except StudyError as fault:
                    raise StudyError(f"study {part.name}: {fault}") from fault
                tables.append(table)
                places.append(np.array(rows, dtype=np.int64))
        joined.append(_joined_table(tables, places, recordings, task))
    return joined


def _joined_table(
    tables: Sequence[WindowTable],
    places: Sequence[IntArray],
    recordings: Sequence[WindowedRecording],
    task: Task,
) -> WindowTable:
    excluded: Counter[str] = Counter()
    for table in tables:
        excluded.update(table.excluded)

    def of_all(name: str) -> Any:
        return np.concatenate([getattr(table, name) for table in tables])

    values = np.concatenate([table.only.values for table in tables])
    return replace(
        tables[0],
        recordings=tuple(recordings),
        recording=np.concatenate([place[table.recording] for table, place in zip(tables, places, strict=True)]),
        row=of_all("row"),
        onset=of_all("onset"),
        subject=of_all("subject"),
        label=of_all("label"),
        targets={task.name: Targets(task, values, dict(excluded))},
    )


@dataclass(frozen=True, eq=False)
class RecordingOfStudy:
    """A recording of one of several studies: its own in all but the names, and only some of its features.

    Attributes
    ----------
    columns : tuple of int
        Columns of its features that all studies have, in their common order.
    """

    study: str
    part: WindowedRecording
    columns: tuple[int, ...]

    @property
    def key(self) -> str:
        """Return the name of the recording, unique among all studies."""
        return f"{self.study}/{self.part.key}"

    @property
    def subject(self) -> str:
        """Return study and subject: people of two studies with one id are different people."""
        return f"{self.study}/{self.part.subject}"

    @property
    def session(self) -> str:
        """Return the session; may be empty."""
        return self.part.session

    @property
    def recording(self) -> str:
        """Return the recording's own name."""
        return self.part.recording

    @property
    def place(self) -> int | None:
        """Return its place in its own study."""
        return self.part.place

    @property
    def duration_seconds(self) -> float:
        """Return its duration, seconds."""
        return self.part.duration_seconds

    @property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Return every prepared signal."""
        return self.part.signals

    @cached_property
    def windows(self) -> StoredWindows:
        """Return the windows, with the features that all studies have."""
        windows = self.part.windows
        return replace(windows, features=np.asarray(windows.features)[:, list(self.columns)])

    @property
    def labels(self) -> RecordingLabels:
        """Return what its study says of it."""
        return self.part.labels

    @property
    def left_out(self) -> Mapping[str, int]:
        """Return how many windows were left out, by reason."""
        return self.part.left_out

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a careful reader must know about it."""
        return self.part.notes

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples and mask of a signal, each (n_channels, stop - start)."""
        return self.part.read(signal_name, start, stop)

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of the signal at 1 Hz, (n_channels, n_seconds)."""
        return self.part.read_quality(signal_name)
