"""Several stores read as one: alike windows, tasks, features and sensors of any, subjects named by their study.

What one study has and another lacks is missing there, as a sensor that was not worn: features are NaN, signals absent,
and its windows carry no label of a task that it does not have. Features and derived series have one name whatever they
were measured with: heart rate is heart rate, of an ECG, a pulse wave or a device.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from biopercept.data.windows import WINDOW_COLUMNS, IntArray, Targets, WindowTable, labelled_windows
from biopercept.errors import StudyError
from biopercept.store.prepared import RecordingView, StoredWindows, WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.tasks import ORDINAL, Task


class JoinedStores(AbstractContextManager["JoinedStores"]):
    """Several open stores that read like one, with the features and tasks of any, in the order of the stores."""

    def __init__(self, parts: Sequence[StudyStore]) -> None:
        names = [store.name for store in parts]
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise StudyError(f"{names.count(twice[0])} stores are of study {twice[0]!r}; give each study once")
        self.parts = {f"{store.name}/": store for store in parts}
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
        self.feature_names = tuple(dict.fromkeys(name for store in parts for name in store.feature_names))
        self.tasks, self.disagreements = _all_tasks(parts)
        self.recordings = tuple(
            RecordingOfStudy(
                recording,
                store.name,
                tuple(self.feature_names.index(name) for name in store.feature_names),
                len(self.feature_names),
            )
            for store in parts
            for recording in store.recordings
        )
        self.warnings = _differences(parts)

    def fingerprint(self) -> str:
        """Return the SHA-256 over the fingerprints of all stores."""
        return hashlib.sha256("".join(store.fingerprint() for store in self.parts.values()).encode()).hexdigest()

    def close(self) -> None:
        """Close all stores."""
        for store in self.parts.values():
            store.close()

    def __exit__(self, *fault: object) -> None:
        self.close()


class Studies(AbstractContextManager["Studies"], Protocol):
    """What an evaluation reads: one store, or several joined."""

    name: str
    window_length_seconds: float
    step_seconds: float
    feature_names: tuple[str, ...]
    tasks: dict[str, Task]

    @property
    def recordings(self) -> Sequence[WindowedRecording]:
        """The recordings of all studies."""

    @property
    def parts(self) -> Mapping[str, StudyStore]:
        """The stores, by what stands before the keys and subjects of their recordings: "" for one, else "study/"."""

    @property
    def disagreements(self) -> Mapping[str, str]:
        """Why a task that several stores have by name cannot be evaluated over them, by task."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every output says of the stores."""

    def fingerprint(self) -> str:
        """Return the SHA-256 of what was prepared."""


def _differences(parts: Sequence[StudyStore]) -> tuple[str, ...]:
    """Return warnings of sensors and features that some studies lack, and of settings that differ."""
    sensors = [{s.modality for r in store.recordings for s in r.signals if not s.derived_from} for store in parts]
    features = [set(store.feature_names) for store in parts]
    warnings = []
    for store, has, names in zip(parts, sensors, features, strict=True):
        lacking = [*sorted(set().union(*sensors) - has), *sorted(set().union(*features) - names)]
        if lacking:
            warnings.append(
                f"study {store.name} lacks {', '.join(lacking)}, which others have: missing there, as if not worn"
            )
    first = parts[0]
    differing = {
        key
        for s in parts[1:]
        for key in {*first.settings, *s.settings}
        if first.settings.get(key) != s.settings.get(key)
    }
    if differing:
        warnings.append(f"the studies were prepared with different settings ({', '.join(sorted(differing))})")
    return tuple(warnings)


def _all_tasks(parts: Sequence[StudyStore]) -> tuple[dict[str, Task], dict[str, str]]:
    """Return the tasks of any store, and why some that several have by name cannot be joined."""
    joined: dict[str, Task] = {}
    disagreements: dict[str, str] = {}
    for name in dict.fromkeys(name for store in parts for name in store.tasks):
        (first, task), *others = [(store.name, store.tasks[name]) for store in parts if name in store.tasks]
        for study, other in others:
            are_alike = (
                list(task.classes) == list(other.classes)
                if task.kind == ORDINAL
                else set(task.classes) == set(other.classes)
            )
            if _predicted(task) != _predicted(other) or not are_alike:
                disagreements[name] = (
                    f"task {name!r} is {_shown(task)} in study {first} and {_shown(other)} in study {study}; "
                    "its kind and classes must be the same in all stores"
                )
        tasks = [task, *(other for _, other in others)]
        classes = {c: tuple(dict.fromkeys(w for t in tasks for w in t.classes.get(c, ()))) for c in task.classes}
        joined[name] = replace(task, classes=classes, label_is_file=any(t.label_is_file for t in tasks))
    return joined, disagreements


def usual_task(store: Studies) -> str | None:
    """Return the task that is meant where none is named: the first, of several studies the first that all have."""
    return next((name for name in store.tasks if all(name in part.tasks for part in store.parts.values())), None)


def refuse_strangers(store: Studies, subjects: Collection[str]) -> None:
    """Refuse to test a study by models of the others where it shares no sensor, measured or derived, with them.

    Raises StudyError naming the first such study.
    """
    has = {
        part.name: {s.modality for r in part.recordings if prefix + r.subject in subjects for s in r.signals}
        for prefix, part in store.parts.items()
    }
    for name, sensors in has.items():
        if sensors and not sensors & set().union(*(others for other, others in has.items() if other != name)):
            raise StudyError(
                f"study {name} has only {', '.join(sorted(sensors))}, of which the other studies have nothing: their "
                "models could not read it; leave its store out"
            )


def _shown(task: Task) -> str:
    words = f"{task.kind} of {', '.join(task.classes)}" if task.classes else f"a regression of {task.quantity!r}"
    return f"{words} (ranges of {task.signal!r})" if task.ranges else words


def _predicted(task: Task) -> tuple[object, ...]:
    return task.kind, task.column, task.signal, task.ranges, task.lags


def open_studies(path: Path, *more: Path) -> Studies:
    """Return the open store, or several joined; use it in a ``with`` block.

    Raises StoreError where one is no store or is damaged. Raises StudyError where several cannot be joined.
    """
    if not more:
        return open_store(path)
    with ExitStack() as stack:
        joined = JoinedStores([stack.enter_context(open_store(each)) for each in (path, *more)])
        stack.pop_all()
        return joined


def subjects_by_study(store: Studies) -> dict[str, list[str]]:
    """Return the subjects of each study, as they are named here."""
    return {
        part.name: sorted({prefix + recording.subject for recording in part.recordings})
        for prefix, part in store.parts.items()
    }


def indices_by_study(store: Studies, recordings: Sequence[WindowedRecording]) -> Iterator[tuple[StudyStore, IntArray]]:
    """Give each study that has any of the recordings, with where they stand."""
    for prefix, part in store.parts.items():
        keys = {prefix + recording.key for recording in part.recordings}
        index = np.array([i for i, r in enumerate(recordings) if r.key in keys], dtype=np.int64)
        if len(index):
            yield part, index


def task_of_study(part: StudyStore, task: Task) -> Task | None:
    """Return what a study says of a task, its classes in the order of all studies; None where it has no such task."""
    if (of_study := part.tasks.get(task.name)) is None:
        return None
    return replace(of_study, classes={name: of_study.classes[name] for name in task.classes})


def tables_of(
    store: Studies, recordings: Sequence[WindowedRecording], tasks: Sequence[Task], unscored_seconds: Sequence[float]
) -> list[WindowTable]:
    """Return the labelled windows of each task; of several stores each by its own study's labels.

    Raises StudyError where a study has a task and no window of it, or windows of one class only, or a study has none
    of the tasks.
    """
    table_of = partial(labelled_windows, length_seconds=store.window_length_seconds, feature_names=store.feature_names)
    studies = list(indices_by_study(store, recordings))
    names = " or ".join(repr(task.name) for task in tasks)
    for part, _ in studies:
        if not any(task.name in part.tasks for task in tasks):
            has = ", ".join(part.tasks) or "none"
            raise StudyError(
                f"study {part.name} has no task {names}; it has: {has}; name it with --task, or leave it out"
            )
    joined = []
    for task in tasks:
        tables, indices = [], []
        for part, index in studies:
            if (of_study := task_of_study(part, task)) is not None:
                unscored = [unscored_seconds[i] for i in index]
                try:
                    table = table_of([recordings[i] for i in index], of_study, unscored_seconds=unscored)
                except StudyError as fault:
                    raise StudyError(f"study {part.name}: {fault}" if len(store.parts) > 1 else str(fault)) from fault
                tables.append(table)
                indices.append(index)
        if not tables:
            raise StudyError(f"no study of the chosen subjects has task {task.name!r}")
        joined.append(_joined_table(tables, indices, recordings, task))
    return joined


def _joined_table(
    tables: Sequence[WindowTable],
    indices: Sequence[IntArray],
    recordings: Sequence[WindowedRecording],
    task: Task,
) -> WindowTable:
    """Return one table of tables whose recordings are at ``indices`` among ``recordings``."""
    excluded: Counter[str] = Counter()
    for table in tables:
        excluded.update(table.excluded)

    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables]) for name in WINDOW_COLUMNS
    }
    columns["recording"] = np.concatenate([at[table.recording] for table, at in zip(tables, indices, strict=True)])
    values = np.concatenate([table.only.values for table in tables])
    lagged = None
    if task.lags:
        lagged = np.concatenate([one for table in tables if (one := table.only.lagged) is not None])
    targets = {task.name: Targets(task, values, dict(excluded), lagged)}
    return replace(tables[0], recordings=tuple(recordings), targets=targets, **columns)


@dataclass(frozen=True, eq=False)
class RecordingOfStudy(RecordingView):
    """A recording of one of several studies under a unique name, its features at ``columns`` of ``n_features``."""

    study: str
    columns: tuple[int, ...]
    n_features: int

    @property
    def key(self) -> str:
        """Return study and key."""
        return f"{self.study}/{self.whole.key}"

    @property
    def subject(self) -> str:
        """Return study and subject: people of two studies with one id are different people."""
        return f"{self.study}/{self.whole.subject}"

    @cached_property
    def windows(self) -> StoredWindows:
        """Return the windows, NaN where the study lacks a feature."""
        windows = self.whole.windows
        features = np.full((len(windows), self.n_features), np.nan, dtype=np.float32)
        features[:, list(self.columns)] = windows.features
        return replace(windows, features=features)
