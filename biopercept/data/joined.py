"""Several stores evaluated as one: same task and windows, features that all have, subjects named by their study."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
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
    """Several open stores that read like one, with the features (in the first one's order), tasks and labels of all."""

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
        self.feature_names = tuple(n for n in first.feature_names if all(n in s.feature_names for s in parts))
        if not self.feature_names:
            raise StudyError(f"{' and '.join(names)} have no feature in common; prepare them with the same features")
        self.tasks, self.disagreements = _common_tasks(parts)
        self.recordings = tuple(
            RecordingOfStudy(
                recording, store.name, tuple(store.feature_names.index(name) for name in self.feature_names)
            )
            for store in parts
            for recording in store.recordings
        )
        self.warnings = _differences(parts, self.feature_names)

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
        """Why a task that all stores have by name cannot be evaluated over them, by task."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every output says of the stores."""

    def fingerprint(self) -> str:
        """Return the SHA-256 of what was prepared."""


def _differences(parts: Sequence[StudyStore], common: Sequence[str]) -> tuple[str, ...]:
    """Return warnings of features that some studies lack, and of settings that differ."""
    warnings = []
    if dropped := sorted({n for s in parts for n in s.feature_names} - set(common)):
        warnings.append(
            f"{len(common)} features that all studies have were used, {len(dropped)} that some lack were not"
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
            if _predicted(task) != _predicted(other) or not are_alike:
                disagreements[name] = (
                    f"task {name!r} is {_shown(task)} in study {first.name} and {_shown(other)} in study {study}; "
                    "its kind and classes must be the same in all stores"
                )
        classes = {c: tuple(dict.fromkeys(w for _, t in tasks for w in t.classes.get(c, ()))) for c in task.classes}
        is_file = any(t.label_is_file for _, t in tasks)
        joined[name] = replace(task, classes=classes, label_is_file=is_file)
    if not joined:
        names = "; ".join(f"{store.name} has {', '.join(store.tasks) or 'none'}" for store in parts)
        raise StudyError(f"the stores have no task of one name: {names}; name the task alike in each study.yaml")
    return joined, disagreements


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


def tables_of(
    store: Studies, recordings: Sequence[WindowedRecording], tasks: Sequence[Task], unscored_seconds: Sequence[float]
) -> list[WindowTable]:
    """Return the labelled windows of each task; of several stores each by its own study's labels.

    Raises StudyError where a study has no window of the task, or windows of one class only.
    """
    table_of = partial(labelled_windows, length_seconds=store.window_length_seconds, feature_names=store.feature_names)
    joined = []
    for task in tasks:
        tables, indices = [], []
        for prefix, part in store.parts.items():
            keys = {prefix + recording.key for recording in part.recordings}
            index = np.array([i for i, r in enumerate(recordings) if r.key in keys], dtype=np.int64)
            if len(index):
                of_study = part.tasks[task.name]
                of_study = replace(of_study, classes={name: of_study.classes[name] for name in task.classes})
                unscored = [unscored_seconds[i] for i in index]
                try:
                    table = table_of([recordings[i] for i in index], of_study, unscored_seconds=unscored)
                except StudyError as fault:
                    raise StudyError(f"study {part.name}: {fault}" if prefix else str(fault)) from fault
                tables.append(table)
                indices.append(index)
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
    """A recording of one of several studies under a unique name; ``columns`` are the features that all studies have."""

    study: str
    columns: tuple[int, ...]

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
        """Return the windows, with the features that all studies have."""
        windows = self.whole.windows
        return replace(windows, features=np.asarray(windows.features)[:, list(self.columns)])
