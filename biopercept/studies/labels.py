"""Labels of a study: the numbers that regression tasks predict, and whether labels, tasks and recordings agree.

Every cell is checked. No recording may stand under two names, which would be a leak across folds.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from biopercept.errors import RecordingError, listed
from biopercept.files import visible_members
from biopercept.loaders.corrections import CorrectionTables, read_corrections
from biopercept.loaders.folders import companions
from biopercept.recording import LABEL, Interval, RecordingLabels, relabelled
from biopercept.studies.structure import EVENTS_WIN, Entry, Study
from biopercept.studies.tables import MISSING, Places, finite_number, folded, point_words, table_in, table_like
from biopercept.tasks import REGRESSION, Task
from biopercept.typed_values import closest, did_you_mean

_HEAD = 1 << 20
_HINTS = 10
Valued = tuple[Interval, object]
"""A labelled interval with its class, or number, in a task."""
_ROUNDING_SECONDS = 0.1
"""Onsets and durations are written with a digit or two: a shorter overlap is no statement."""


def wanted_columns(tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Return the columns that the study's regression tasks name."""
    return tuple(dict.fromkeys(task.column for task in tasks.values() if task.kind == REGRESSION and task.column))


def labels_without_task(study: Study) -> tuple[str, ...]:
    """Return the sentence on a study that names no task, with the labels that it has; nothing where it names one."""
    labels = sorted({label for entry in study.entries for label in entry.labels})
    if study.tasks:
        return ()
    if not labels:
        return (
            f"{study.name} has no labels and its study.yaml names no task: it can be looked at and measured, and "
            "nothing can be scored or learnt until it has both (events.tsv or conditions, and tasks in study.yaml)",
        )
    return (
        f"{study.name} has labels ({listed(labels, 6)}) and its study.yaml names no task: nothing can be scored or "
        "learnt until it has tasks: with classes of these labels",
    )


def labels_of(study: Study, entry: Entry) -> RecordingLabels:
    """Return what the study says of a recording: its intervals, and the numbers that its regression tasks predict.

    A column of participants.tsv or recordings.tsv is a number of the full recording, one of events.tsv a number of
    each interval. A missing cell ("n/a") is left out.
    """
    columns = wanted_columns(study.tasks)
    person = next((p.columns for p in study.participants if p.subject == entry.subject), {})
    values = {c: number for row in (person, entry.columns) for c, number in _numbers(row, columns)}
    each = tuple(dict(_numbers(entry.interval_columns.get(i, {}), columns)) for i in entry.intervals)
    return RecordingLabels(entry.intervals, each if any(each) else (), entry.condition or "", values)


def with_labels_by_hand(study: Study, start_of: Callable[[Entry], float], faults: list[str]) -> Study:
    """Return the study with the labels that were set by hand beside the files of its recordings.

    They stand in the table of a recording's first file, on its clock: ``start_of`` is where that begins on the
    recording's. Adds a fault where the label of a recording is its condition, which holds throughout. A table that is
    malformed costs its recording alone, when it is read.
    """
    tables = CorrectionTables()
    return replace(study, entries=tuple(_with_labels(entry, tables, start_of, faults) for entry in study.entries))


def _with_labels(
    entry: Entry, tables: CorrectionTables, start_of: Callable[[Entry], float], faults: list[str]
) -> Entry:
    table = tables.of(entry.files[0].path) if entry.files else None
    rows = () if table is None else read_corrections(table).rows
    corrections = [row.correction for row in rows if row.correction.kind == LABEL]
    if table is None or not corrections:
        return entry
    if entry.condition is not None:
        faults.append(f"{table.name}, {entry.title}: {of_condition(entry.condition)}; take the row of kind label out")
        return entry
    try:
        begin = start_of(entry)
    except RecordingError:
        return entry  # it is refused for this when it is read
    placed = (replace(one, onset_seconds=one.onset_seconds + begin) for one in corrections)
    parts = relabelled(entry.intervals, placed)
    columns = {part: entry.interval_columns.get(origin, {}) for part, origin in parts.items() if origin is not None}
    return replace(
        entry, intervals=tuple(parts), interval_columns={part: cells for part, cells in columns.items() if cells}
    )


def of_condition(condition: str) -> str:
    """Return why no stretch of a recording is labelled by hand whose label is its condition."""
    return (
        f"its label is the condition {condition!r} of recordings.tsv, which holds throughout: no stretch of it is set "
        "by hand"
    )


def label_fault(study: Study, entry: Entry, label: str) -> str:
    """Return why a label cannot be set by hand in a recording of a study; empty where it can."""
    if entry.condition is not None:
        return of_condition(entry.condition)
    for task in study.tasks.values():
        known = (*task.labels, *task.ignore)
        if label and task.is_of_labels and known and not task.knows(label):
            return (
                f"the label {label!r} is under no class of task {task.name!r} (known are {', '.join(known)}): add it "
                f"to a class or to ignore in study.yaml{did_you_mean(label, known)}"
            )
    return ""


def check_values(study: Study, faults: list[str]) -> None:
    """Add a sentence for each column that no table has, that two tables have, or that holds no numbers."""
    for task in study.tasks.values():
        if task.kind != REGRESSION or not task.column:
            continue
        homes = _homes(study, task.column)
        if not homes:
            known = sorted({name for person in study.participants for name in person.columns})
            faults.append(
                f"the column {task.column!r} of task {task.name!r} is in none of participants.tsv, recordings.tsv and "
                f"events.tsv{did_you_mean(task.column, known)}"
            )
        elif len(homes) > 1:
            faults.append(
                f"the column {task.column!r} of task {task.name!r} is in {' and in '.join(homes)}; rename all but one"
            )
        for where, text in _cells(study, task.column):
            if text.strip().lower() not in MISSING and finite_number(text) is None:
                faults.append(
                    f"{where}: {task.column} is {text!r}; a number is needed for task {task.name!r}, or n/a where it "
                    f"is missing{point_words(text)}"
                )


def n_subjects_with_value(study: Study, task: Task) -> int:
    """Return how many subjects have at least one number for a regression task."""
    column = task.column or ""
    subjects = set()
    for entry in study.entries:
        labels = labels_of(study, entry)
        if column in labels.values or labels.numbers(column):
            subjects.add(entry.subject)
    return len(subjects)


def is_constant_in_files(study: Study, column: str) -> bool:
    """Return whether no recording has two numbers in a column, so that any statistic of a file tells its number."""
    recordings = [labels_of(study, entry) for entry in study.entries]
    each = [
        {value for _, value in labels.numbers(column)} | {v for c, v in labels.values.items() if c == column}
        for labels in recordings
    ]
    known = [values for values in each if values]
    return len(known) > 1 and all(len(values) == 1 for values in known)


def _homes(study: Study, column: str) -> list[str]:
    homes = {
        "participants.tsv": any(column in person.columns for person in study.participants),
        "recordings.tsv": any(column in entry.columns for entry in study.entries),
        "events.tsv": any(column in cells for entry in study.entries for cells in entry.interval_columns.values()),
    }
    return [name for name, is_there in homes.items() if is_there]


def _cells(study: Study, column: str) -> Iterator[tuple[str, str]]:
    """Give where and what each cell of a column is."""
    for person in study.participants:
        if column in person.columns:
            yield f"{person.row or 'participants.tsv'}, {person.subject}", person.columns[column]
    for entry in study.entries:
        if column in entry.columns:
            yield entry.where, entry.columns[column]
        for interval, cells in entry.interval_columns.items():
            if column in cells:
                yield f"{entry.row_of(interval)}, {entry.title} at {interval.onset_seconds:g} s", cells[column]


def _numbers(cells: Mapping[str, str], columns: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for column in columns:
        value = finite_number(cells[column]) if column in cells else None
        if value is not None:
            yield column, value


def check_agreement(study: Study, faults: list[str]) -> None:
    """Add a sentence to ``faults`` for everything in which a study's tables disagree."""
    listed = {person.subject for person in study.participants}
    # Where nobody is listed, that has been said of the table; it need not be said again of everybody.
    rows = {entry.subject: entry.row for entry in reversed(study.entries)}
    strangers = [subject for subject in study.subjects if listed and subject not in listed]
    for number, subject in enumerate(strangers):
        # Looking for a near name is slow; a few hints are enough.
        near = closest(subject, listed) if number < _HINTS else ""
        if near and near not in study.subjects:  # what events.tsv says of that person is no second fault
            faults[:] = [fault for fault in faults if f": no recording '{near} " not in fault]
        hint = f"; did you mean {near}?" if near else ""
        where = f" ({rows[subject]})" if rows[subject] else ""
        faults.append(f"recordings of {subject!r}{where}, who is not in participants.tsv{hint}")
    _check_twins(((person.subject, person.row) for person in study.participants), "participant_id", faults)
    _check_twins((("_".join((e.subject, e.session, e.recording)), e.row) for e in study.entries), "recording", faults)
    _check_labels(study, faults)
    check_values(study, faults)
    _check_overlaps(study, faults)
    _check_same_recording(study.entries, faults)


def with_file_labels(study: Study) -> Study:
    """Return the study with ``label_is_file`` set for tasks in which no recording holds two classes or numbers."""
    tasks = {
        name: replace(
            task,
            label_is_file=is_constant_in_files(study, task.column)
            if task.column is not None
            else task.is_of_labels and _is_file_label(study.entries, task),
        )
        for name, task in study.tasks.items()
    }
    return replace(study, tasks=tasks)


def with_exceptions(study: Study) -> Study:
    """Return the study with the events in whose time a recording's condition does not hold, where the events win."""
    if study.overlap != EVENTS_WIN:
        return study
    entries = tuple(
        replace(entry, exceptions=tuple(i for i in entry.intervals if _contradicted(study, entry, i)))
        for entry in study.entries
    )
    return replace(study, entries=entries)


def _contradicted(study: Study, entry: Entry, interval: Interval) -> bool:
    """Return whether an event says another class of a task than the condition of its recording."""
    return any(_is_beside(task, entry, interval) for task in study.tasks.values())


def _check_overlaps(study: Study, faults: list[str]) -> None:
    """Add a sentence for each task in which two classes, or two numbers, are stated of the same time."""
    for task in study.tasks.values():
        clashes = [(entry, clash) for entry in study.entries if (clash := _first_clash(_valued(study, entry, task)))]
        for entry, (one, other) in clashes:
            faults.append(
                f"{entry.row_of(other[0])}, {entry.title}: {_span(*other)} and {_span(*one)} of "
                f"{entry.row_of(one[0])} are two {'numbers' if task.column else 'classes'} of task {task.name!r} for "
                "the same time; correct one, or list one of the labels under ignore"
            )
        if study.overlap == EVENTS_WIN or task.column is not None:
            continue
        beside = [(e, i) for e in study.entries for i in e.intervals if _is_beside(task, e, i)]
        for entry, interval in beside:
            condition = entry.condition or ""
            faults.append(
                f"{entry.row_of(interval)}, {entry.title}: {_span(interval, task.class_of(interval.label))} is of "
                f"another class of task {task.name!r} than the condition {condition!r} ({task.class_of(condition)}); "
                "remove the condition, or write 'overlap: events-win' into study.yaml, and it holds for the rest of "
                "the recording"
            )


def _span(interval: Interval, value: object) -> str:
    return f"{interval.label!r} ({value}) from {interval.onset_seconds:g} to {interval.end_seconds:g} s"


def _is_beside(task: Task, entry: Entry, interval: Interval) -> bool:
    classes = task.class_of(entry.condition or ""), task.class_of(interval.label)
    return None not in classes and classes[0] != classes[1] and interval.duration_seconds > _ROUNDING_SECONDS


def _valued(study: Study, entry: Entry, task: Task) -> list[Valued]:
    """Return the events of a recording that have a class, or a number, in a task, with it, in time order."""
    if task.column is not None:
        return [(i, v) for i, v in labels_of(study, entry).numbers(task.column) if i.label not in task.ignore]
    return [(i, name) for i in entry.intervals if (name := task.class_of(i.label)) is not None]


def _first_clash(valued: list[Valued]) -> tuple[Valued, Valued] | None:
    """Return the first two that overlap and differ in value; intervals are in time order."""
    latest: dict[object, Interval] = {}  # by value, the interval that ends last
    for interval, value in valued:
        latest = {v: i for v, i in latest.items() if i.end_seconds > interval.onset_seconds}
        for other_value, other in latest.items():
            overlap = min(other.end_seconds, interval.end_seconds) - interval.onset_seconds
            if other_value != value and overlap > _ROUNDING_SECONDS:
                return (other, other_value), (interval, value)
        if value not in latest or interval.end_seconds > latest[value].end_seconds:
            latest[value] = interval
    return None


def training_faults(study: Study) -> tuple[str, ...]:
    """Return why a task cannot be learnt from the study: no label at all, a class without one, or no number."""
    faults: list[str] = []
    of_labels = [task for task in study.tasks.values() if task.is_of_labels and task.column is None]
    if of_labels and not any(entry.labels for entry in study.entries):
        events = table_in(study.folder, "events")
        there = "events.tsv is missing" if events is None else f"{events.name} has no row of a recording"
        near = table_like(study.folder, "events") if events is None else ""
        return (f"{there}, and recordings.tsv has no column condition: nothing says which label holds when{near}",)
    for task in study.tasks.values():
        if task.column is not None and not n_subjects_with_value(study, task):
            faults.append(f"task {task.name!r}: the column {task.column!r} has no number in any row")
        counts = class_counts(study, task)
        absent = [name for name in task.class_names if task.is_of_labels and not counts[name]]
        for name in absent:
            faults.append(f"task {task.name!r}: the class {name!r} has no labelled interval in any recording")
    return tuple(faults)


def class_counts(study: Study, task: Task) -> Counter[str]:
    """Return how many subjects have a labelled interval of each class."""
    pairs = {(e.subject, task.class_of(label)) for e in study.entries for label in e.labels}
    return Counter(name for _, name in pairs if name is not None)


def _is_file_label(entries: Iterable[Entry], task: Task) -> bool:
    classes = [{task.class_of(label) for label in entry.labels} - {None} for entry in entries]
    labelled = [names for names in classes if names]
    return len(labelled) > 1 and all(len(names) == 1 for names in labelled)


def _check_twins(names: Iterable[tuple[str, str]], what: str, faults: list[str]) -> None:
    """Refuse ids that differ only by case or Unicode form: their outputs would overwrite one another on some disks."""
    seen: dict[str, tuple[str, str]] = {}
    for name, row in names:
        first, its_row = seen.setdefault(folded(name), (name, row))
        if first != name:
            where = f" ({its_row} and {row})" if row else ""
            faults.append(f"the {what}s {first!a} and {name!a}{where} differ only in case or Unicode form; rename one")


def _check_labels(study: Study, faults: list[str]) -> None:
    used = Counter(label for entry in study.entries for label in entry.labels)
    firsts: dict[str, str] = {}
    for entry in study.entries:
        for interval in entry.intervals:
            if interval.label not in firsts:
                firsts[interval.label] = entry.row_of(interval)
        firsts.setdefault(entry.condition or "", entry.row)
    for task in study.tasks.values():
        if not task.is_of_labels:
            continue
        known = (*task.labels, *task.ignore)
        if not known or not all(task.classes.values()):
            continue  # a class without labels is a fault of its own, and they may be these
        for label, count in used.items():
            if not task.knows(label):
                of = f"{count} recording{'s' * (count > 1)}, first {firsts[label]}"
                faults.append(
                    f"the label {label!r} ({of}) is under no class of task {task.name!r} "
                    f"(known are {', '.join(known)}): add it to a class or to ignore{did_you_mean(label, known)}"
                )


class _Listed(NamedTuple):
    """A file of a recording, and the files that hold its samples."""

    entry: Entry
    path: Path
    contents: list[Path]


def _check_same_recording(entries: tuple[Entry, ...], faults: list[str]) -> None:
    """Refuse one file, or one content, under two recordings."""
    owners: dict[str, Entry] = {}
    places = Places()
    same_size: dict[int, list[_Listed]] = {}
    for entry in entries:
        for file in entry.files:
            owner = owners.setdefault(os.path.normcase(places.real(file.path)), entry)
            if owner is not entry:
                faults.append(
                    f"{file.path.name} is listed under two recordings: {owner.titled_row} and {entry.titled_row}"
                )
            elif contents := _contents(file.path):
                size = sum(contents.values())
                same_size.setdefault(size, []).append(_Listed(entry, file.path, [*contents]))
    # Only files of one size can be equal: hash those, first by their beginnings.
    for group in same_size.values():
        for alike in _alike(group, _HEAD):
            for same in _alike(alike, None):
                first, second = same[0], same[1]
                faults.append(
                    f"{first.path.name} of {first.entry.titled_row} and {second.path.name} of "
                    f"{second.entry.titled_row} have the same content; one recording under two names would leak "
                    "across folds"
                )


def _contents(path: Path) -> dict[Path, int]:
    """Return the files that hold a recording's samples, and their sizes.

    Of a file and its parts it is the largest, for headers are alike.
    """
    try:
        about = path.stat()
    except OSError:
        about = None
    if about is not None and S_ISDIR(about.st_mode):
        return _sizes(p for p in visible_members(path) if p.is_file())
    if path.suffix == ".hea" or about is None:
        stem = path.with_suffix("") if path.suffix == ".hea" else path
        return _sizes(p for p in (stem.with_name(stem.name + ".dat"),) if p.is_file())
    if not S_ISREG(about.st_mode):
        return {}
    sizes = {path: about.st_size} | _sizes(companions(path))
    largest = max(sizes, key=sizes.__getitem__)
    return {largest: sizes[largest]}


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    return {path: path.stat().st_size for path in paths}


def _alike(group: list[_Listed], limit: int | None) -> list[list[_Listed]]:
    if len(group) < 2:
        return []
    by_hash: dict[str, list[_Listed]] = {}
    for one in group:
        by_hash.setdefault(_digest(one.contents, limit), []).append(one)
    return [entries for entries in by_hash.values() if len(entries) > 1]


def _digest(contents: Sequence[Path], limit: int | None) -> str:
    digest = hashlib.sha256()
    for member in contents:
        with member.open("rb") as stream:
            left = limit
            while chunk := stream.read(_HEAD if left is None else min(left, _HEAD)):
                digest.update(chunk)
                if left is not None:
                    left -= len(chunk)
    return digest.hexdigest()
