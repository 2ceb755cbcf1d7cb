"""Windows of several tasks in one table, each task with its own answers and its own gaps; and one task's part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biopercept.learning.windows import IntArray, TaskColumn, WindowTable, window_table


def joint_windows(tables: Sequence[WindowTable], *, with_grid: bool = False) -> WindowTable:
    """Return the windows that any of several tasks labels, once each, with what every task says of them.

    Parameters
    ----------
    tables : sequence of WindowTable
        One for each task, of the same recordings.
    with_grid : bool
        Whether the windows that cover these recordings without regard to labels come along; no task has an answer for
        them as a whole, but their single times may lie in labelled stretches.
    """
    first = tables[0]
    places: dict[tuple[int, int], int] = {}
    for key in sorted({key for table in tables for key in _keys(table)}):
        places[key] = len(places)
    if with_grid:
        for index in sorted({index for index, _ in places}):
            for row in np.flatnonzero(~np.asarray(first.recordings[index].windows.is_labelled)):
                places.setdefault((index, int(row)), len(places))
    rows = [(index, row, -1) for index, row in places]
    left_out = {f"{t.columns[0].task.name}: {why}": n for t in tables for why, n in t.left_out.items()}
    joint = window_table(first.recordings, rows, (), first.length_seconds, first.feature_names, left_out)
    columns = []
    for table in tables:
        own = np.array([places[key] for key in _keys(table)], dtype=np.int64)
        target, value = np.full(len(joint), -1, dtype=np.int64), np.full(len(joint), np.nan)
        target[own], value[own] = table.columns[0].target, table.columns[0].value
        columns.append(TaskColumn(table.columns[0].task, target, value, table.left_out))
    return replace(joint, columns=tuple(columns))


def _keys(table: WindowTable) -> list[tuple[int, int]]:
    return list(zip(table.recording.tolist(), table.row.tolist(), strict=True))


def is_answered(windows: WindowTable) -> NDArray[np.bool_]:
    """Return which windows any task has an answer for, bool (n_windows,)."""
    return np.asarray(np.any([column.is_known for column in windows.columns], axis=0))


def of_task(windows: WindowTable, number: int) -> tuple[WindowTable, IntArray]:
    """Return the windows that one task of the table labels, as a table of that task alone, and their rows."""
    column = windows.columns[number]
    rows = np.flatnonzero(column.is_known).astype(np.int64)
    own = column.at(rows)
    return (
        replace(
            windows,
            classes=tuple(column.task.classes),
            recording=windows.recording[rows],
            row=windows.row[rows],
            onset=windows.onset[rows],
            subject=windows.subject[rows],
            target=own.target,
            label=windows.label[rows],
            left_out=dict(column.left_out),
            columns=(own,),
        ),
        rows,
    )
