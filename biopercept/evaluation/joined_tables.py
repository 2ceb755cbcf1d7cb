"""The labelled windows of one store, or of several joined ones, each study's by its own labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from biopercept.errors import StudyError
from biopercept.evaluation.joined_stores import Studies
from biopercept.evaluation.study_recordings import RecordingOfStudy
from biopercept.learning.windows import IntArray, Targets, WindowTable, labelled_windows
from biopercept.store import StudyStore
from biopercept.tasks import Task
from biopercept.windowed import WindowedRecording


def tables_of(
    store: Studies, recordings: Sequence[WindowedRecording], tasks: Sequence[Task], unscored_seconds: Sequence[float]
) -> list[WindowTable]:
    """Return the labelled windows of each task; of several stores each by its own study's labels.

    Raises
    ------
    StudyError
        Where a study has no window of the task, or windows of one class only.
    """
    asked = partial(labelled_windows, length_seconds=store.window_length_seconds, feature_names=store.feature_names)
    if isinstance(store, StudyStore):
        return [asked(recordings, task, unscored_seconds=unscored_seconds) for task in tasks]
    found = []
    for task in tasks:
        tables, places = [], []
        for part, own_task in zip(store.parts, store.part_tasks(task), strict=True):
            own = [i for i, r in enumerate(recordings) if isinstance(r, RecordingOfStudy) and r.study == part.name]
            if own:
                unscored = [unscored_seconds[i] for i in own]
                try:
                    table = asked([recordings[i] for i in own], own_task, unscored_seconds=unscored)
                except StudyError as fault:
                    raise StudyError(f"study {part.name}: {fault}") from fault
                tables.append(table)
                places.append(np.array(own, dtype=np.int64))
        found.append(_joined_table(tables, places, recordings, task))
    return found


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
