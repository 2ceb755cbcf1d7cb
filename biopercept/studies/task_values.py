"""The numbers that regression tasks predict: found in one of the study's tables, every cell checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from biopercept.recording_labels import RecordingLabels
from biopercept.studies.structure import Entry, Study
from biopercept.studies.tables import MISSING
from biopercept.tasks import REGRESSION, Task


def wanted_columns(tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Return the columns that the study's regression tasks name."""
    return tuple(dict.fromkeys(task.column for task in tasks.values() if task.kind == REGRESSION and task.column))


def labels_of(study: Study, entry: Entry) -> RecordingLabels:
    """Return what the study says of a recording: its stretches, and the numbers its regression tasks ask for.

    A column of participants.tsv or recordings.tsv is a number of the whole recording, one of events.tsv a number of
    each stretch. A missing cell ("n/a") is left out.
    """
    columns = wanted_columns(study.tasks)
    person = next((p.columns for p in study.participants if p.subject == entry.subject), {})
    values = {c: number for held in (person, entry.columns) for c, number in _numbers(held, columns)}
    each = tuple(dict(_numbers(entry.interval_columns.get(i, {}), columns)) for i in entry.intervals)
    return RecordingLabels(entry.intervals, each if any(each) else (), entry.condition or "", values)


def check_values(study: Study, faults: list[str]) -> None:
    """Add a sentence for each column that no table has, that two tables have, or that holds no numbers."""
    for task in study.tasks.values():
        if task.kind != REGRESSION or not task.column:
            continue
        homes = _homes(study, task.column)
        if not homes:
            known = sorted({name for person in study.participants for name in person.columns})
            close = get_close_matches(task.column, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(
                f"the column {task.column!r} of task {task.name!r} is in none of participants.tsv, recordings.tsv and "
                f"events.tsv{hint}"
            )
        elif len(homes) > 1:
            faults.append(
                f"the column {task.column!r} of task {task.name!r} is in {' and in '.join(homes)}; rename all but one"
            )
        for where, text in _cells(study, task.column):
            if text.strip().lower() not in MISSING and _number(text) is None:
                faults.append(
                    f"{where}: {task.column} is {text!r}; a number is needed for task {task.name!r}, or n/a where it "
                    "is missing"
                )


def n_subjects_with_value(study: Study, task: Task) -> int:
    """Return how many subjects have at least one number for a regression task."""
    column = task.column or ""
    found = set()
    for entry in study.entries:
        held = labels_of(study, entry)
        if column in held.values or held.numbers(column):
            found.add(entry.subject)
    return len(found)


def is_constant_in_files(study: Study, column: str) -> bool:
    """Return whether no recording has two numbers in a column, so that any statistic of a file tells its number."""
    found = [labels_of(study, entry) for entry in study.entries]
    each = [
        {value for _, value in held.numbers(column)} | {v for c, v in held.values.items() if c == column}
        for held in found
    ]
    known = [values for values in each if values]
    return len(known) > 1 and all(len(values) == 1 for values in known)


def _homes(study: Study, column: str) -> list[str]:
    homes = {
        "participants.tsv": any(column in person.columns for person in study.participants),
        "recordings.tsv": any(column in entry.columns for entry in study.entries),
        "events.tsv": any(column in held for entry in study.entries for held in entry.interval_columns.values()),
    }
    return [name for name, is_there in homes.items() if is_there]


def _cells(study: Study, column: str) -> Iterator[tuple[str, str]]:
    """Give where and what each cell of a column is."""
    for person in study.participants:
        if column in person.columns:
            yield f"participants.tsv, {person.subject}", person.columns[column]
    for entry in study.entries:
        if column in entry.columns:
            yield f"recordings.tsv, {entry.title}", entry.columns[column]
        for interval, held in entry.interval_columns.items():
            if column in held:
                yield f"events.tsv, {entry.title} at {interval.onset_seconds:g} s", held[column]


def _numbers(cells: Mapping[str, str], columns: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for column in columns:
        value = _number(cells[column]) if column in cells else None
        if value is not None:
            yield column, value


def _number(text: str) -> float | None:
    """Return a cell as a finite number; None where it is none. "1_000" and other scripts' digits are none."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
