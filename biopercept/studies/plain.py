"""The tables of a plain study folder: participants.tsv, recordings.tsv and events.tsv into entries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.loaders.clock import LONGEST_DAYS
from biopercept.recording import Interval
from biopercept.studies.structure import Entry, Participant, StudyFile
from biopercept.studies.tables import MISSING, Places, Row, Table, name_fault, read_table, seconds_in, table_in
from biopercept.typed_values import closest, did_you_mean

Key = tuple[str, str, str]
"""Subject, session, recording."""
UNKNOWN = "n/a"
"""The group of those of whom a table does not say it."""
_FIRST_LINES = 200
"""Lines in which a near name is looked for, which is slow."""
_MOST_HINTS = 10


def read_participants(path: Path, faults: list[str]) -> tuple[Participant, ...]:
    """Return the people that participants.tsv lists."""
    table = read_table(path, ("participant_id",), faults)
    people: dict[str, Participant] = {}
    for row in table:
        subject = row.get("participant_id")
        problem = name_fault(subject, "participant_id")
        if problem:
            faults.append(f"{row.at('participant_id')}: {problem}")
        elif subject in people:
            faults.append(f"{row.at('participant_id')}: the participant {subject!r} is listed twice")
        else:
            cells = {k: v for k, v in row.cells.items() if k != "participant_id"}
            people[subject] = Participant(subject, cells, row.where)
    return tuple(people.values())


def groups_by_subject(participants: Path | Iterable[Participant]) -> dict[str, dict[str, str]]:
    """Return the group that each column of participants.tsv puts a subject into, ``n/a`` where the cell says nothing.

    Subjects are under their id with and without ``sub-``, as the tables of BIDS and its files write them.

    Raises StudyError where the file cannot be read, or names somebody twice or not at all.
    """
    faults: list[str] = []
    people = read_participants(participants, faults) if isinstance(participants, Path) else participants
    if faults:
        raise StudyError(f"{faults[0]}{f' (and {len(faults) - 1} more faults)' if len(faults) > 1 else ''}")
    groups: dict[str, dict[str, str]] = {}
    for person in people:
        cells = {column: cell.strip() for column, cell in person.columns.items()}
        of_person = {column: UNKNOWN if cell.lower() in MISSING else cell for column, cell in cells.items()}
        groups[person.subject] = groups[person.subject.removeprefix("sub-")] = of_person
    return groups


def read_entries(folder: Path, faults: list[str], columns: tuple[str, ...] = ()) -> tuple[Entry, ...]:
    """Return one entry per recording of recordings.tsv, with the intervals of events.tsv where there is one.

    Of the columns named the cells of both tables are kept.
    """
    kept: dict[Key, dict[str, str]] = {}
    path = table_in(folder, "recordings", faults) or folder / "recordings.tsv"
    table = read_table(path, ("participant_id", "recording", "path"), faults)
    if not table.columns:
        return ()  # without recordings every event would be a fault of its own
    files, conditions, named = _read_recordings(folder, table, faults, columns, kept)
    lines: dict[Key, dict[Interval, int]] = {}
    cells: dict[Key, dict[Interval, dict[str, str]]] = {}
    events = table_in(folder, "events", faults)
    if events is not None:
        needed = ("participant_id", "recording", "onset", "duration", "trial_type")
        lines = _read_events(read_table(events, needed, faults), set(named), faults, columns, cells)
    return tuple(
        Entry(
            *key,
            files=tuple(listed),
            condition=conditions.get(key),
            intervals=ordered(lines.get(key, {})),
            columns=kept.get(key, {}),
            interval_columns=cells.get(key, {}),
            row=named[key],
            lines=lines.get(key, {}),
            events_table=events.name if events is not None else "",
        )
        for key, listed in files.items()
    )


def ordered(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return the intervals in time order."""
    return tuple(sorted(intervals, key=lambda i: (i.onset_seconds, i.duration_seconds, i.label)))


def _key(row: Row, faults: list[str]) -> Key | None:
    """Return whose and which recording a row is about; None, with a fault, where an id cannot be used."""
    # An empty or "n/a" session is no session; the other two must be there.
    session = "" if row.is_missing("session") else row.get("session")
    key = (row.get("participant_id"), session, row.get("recording"))
    in_row = [
        f"{row.at(what)}: {problem}"
        for value, what in zip(key, ("participant_id", "session", "recording"), strict=True)
        if (what != "session" or value) and (problem := name_fault(value, what))
    ]
    faults.extend(in_row)
    return None if in_row else key


def cells_of(row: Row, columns: tuple[str, ...]) -> dict[str, str]:
    """Return a row's cells in these columns, those that the table has."""
    return {column: row.cells[column] for column in columns if column in row.cells}


def _read_recordings(
    folder: Path, table: Table, faults: list[str], columns: tuple[str, ...], kept: dict[Key, dict[str, str]]
) -> tuple[dict[Key, list[StudyFile]], dict[Key, str], dict[Key, str]]:
    """Return files and condition of each recording, and the first row of each that one names, sound or not."""
    files: dict[Key, list[StudyFile]] = {}
    conditions: dict[Key, str] = {}
    named: dict[Key, str] = {}
    finder = _Finder(folder)
    for row in table:
        key = _key(row, faults)
        path = finder.path(row, faults)
        offset = _offset(row, faults)
        if key is not None:
            named.setdefault(key, row.where)
        if key is None or path is None:
            continue
        if any(finder.is_same(file.path, path) for file in files.get(key, [])):
            faults.append(f"{row.where}: the file {row.get('path')!r} is listed twice for {_title(key)}")
            continue
        files.setdefault(key, []).append(StudyFile(path, offset))
        _keep_cells(row, key, columns, kept, faults)
        if not row.is_missing("condition"):
            _add_condition(row, key, conditions, faults)
    return files, conditions, named


def _offset(row: Row, faults: list[str]) -> float | None:
    """Return the offset of a row's file, None where none is given; with a fault where no recording is as long.

    ``nan`` is what a computation without a result leaves, and not a word for "not given".
    """
    if row.is_missing("offset_seconds") and row.get("offset_seconds").strip().lower() != "nan":
        return None
    offset = seconds_in(row, "offset_seconds", faults)
    if offset is None or abs(offset) <= LONGEST_DAYS * 86_400:
        return offset
    faults.append(
        f"{row.at('offset_seconds')}: offset_seconds is {row.get('offset_seconds').strip()!r}, more than "
        f"{LONGEST_DAYS} days; it is in seconds from the recording's start, and no date"
    )
    return None


def _title(key: Key) -> str:
    return " ".join(part for part in key if part)


def _keep_cells(
    row: Row, key: Key, columns: tuple[str, ...], kept: dict[Key, dict[str, str]], faults: list[str]
) -> None:
    for column, text in cells_of(row, columns).items():
        first = kept.setdefault(key, {}).setdefault(column, text)
        if text != first:
            faults.append(f"{row.at(column)}: the {column} {text!r} differs from {first!r} of the same recording")


def _add_condition(row: Row, key: Key, conditions: dict[Key, str], faults: list[str]) -> None:
    condition = row.get("condition").strip()
    if not condition.isprintable():
        faults.append(f"{row.at('condition')}: condition {condition!a} holds characters that cannot be shown")
    first = conditions.setdefault(key, condition)
    if condition != first:
        faults.append(
            f"{row.at('condition')}: the condition {condition!r} differs from {first!r} of the same recording"
        )


class _Finder:
    """Finds the files that recordings.tsv names, within the study or by an absolute path."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.resolve()
        self._root_text = f"{self._root}/".replace("//", "/")
        self._places = Places()
        self._n_hints = 0

    def is_same(self, first: Path, second: Path) -> bool:
        return self._places.real(first) == self._places.real(second)

    def path(self, row: Row, faults: list[str]) -> Path | None:
        """Return the absolute path of a row's file; None, with a fault, where it cannot be used."""
        text = row.get("path").strip()
        if row.is_missing("path") or not text.isprintable():
            faults.append(f"{row.at('path')}: the path is {text!r}; the path of a recording is needed")
            return None
        # The name that the study uses is kept: the suffix and the files beside it belong to it.
        path = self._root / text
        try:
            problem = self._problem(path, is_relative=not os.path.isabs(text))  # noqa: PTH117
        except (OSError, RuntimeError) as fault:
            problem = f"cannot be followed ({type(fault).__name__})"
        if problem:
            faults.append(f"{row.at('path')}: the file {text!r} {problem}")
            return None
        return path

    def _problem(self, path: Path, *, is_relative: bool) -> str:
        real = self._places.real(path)
        if is_relative and not f"{real}/".startswith(self._root_text):
            return "leads out of the study folder; write it as an absolute path"
        if os.access(real, os.R_OK):
            return ""
        if not real.exists():
            return "" if _is_wfdb_name(path) else f"is not there{self._hint(path)}"
        return "may not be read; check its permissions"

    def _hint(self, path: Path) -> str:
        """Return what a path that leads nowhere could mean: where it first leads nowhere, the nearest name there."""
        self._n_hints += 1
        above = next((folder for folder in path.parents if folder.is_dir()), None)
        if above is None or self._n_hints > _MOST_HINTS:
            return ""
        wrong, *rest = path.relative_to(above).parts
        near = closest(wrong, (member.name for member in above.iterdir()))
        meant = above.joinpath(near, *rest)
        if not near or not meant.exists():
            return ""
        return f"; did you mean {meant.relative_to(self._root) if meant.is_relative_to(self._root) else meant}?"


def _is_wfdb_name(path: Path) -> bool:
    """Return whether the path is a WFDB record name, which stands for name.hea and its data files."""
    return path.with_name(path.name + ".hea").is_file()


def _read_events(
    table: Table,
    named: set[Key],
    faults: list[str],
    columns: tuple[str, ...],
    cells: dict[Key, dict[Interval, dict[str, str]]],
) -> dict[Key, dict[Interval, int]]:
    """Return the intervals of each recording, with their lines."""
    lines: dict[Key, dict[Interval, int]] = {}
    for row in table:
        key = _key(row, faults)
        interval = interval_of(row, faults)
        if key is None or interval is None:
            continue
        if key not in named:
            hint = did_you_mean(_title(key), map(_title, named)) if row.number < _FIRST_LINES else ""
            faults.append(f"{row.where}: no recording {_title(key)!r} in recordings.tsv{hint}")
            continue
        if (first := lines.setdefault(key, {}).setdefault(interval, row.number)) != row.number:
            faults.append(f"{row.where}: the same row as {row.table} line {first}")
            continue
        if values := cells_of(row, columns):
            cells.setdefault(key, {})[interval] = values
    return lines


def interval_of(row: Row, faults: list[str]) -> Interval | None:
    """Return the labelled interval that an events row states, or None with its faults added."""
    onset = seconds_in(row, "onset", faults)
    duration = seconds_in(row, "duration", faults, at_least=0.0)
    label = row.get("trial_type").strip()
    if row.is_missing("trial_type"):
        faults.append(f"{row.at('trial_type')}: trial_type is {label!r}; a label is needed, or remove the row")
        return None
    if not label.isprintable():
        faults.append(f"{row.at('trial_type')}: trial_type {label!a} holds characters that cannot be shown")
        return None
    if onset is None or duration is None:
        return None
    return Interval(onset, duration, sys.intern(label))  # a table has thousands of rows and some labels
