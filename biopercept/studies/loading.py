"""Load a study, checked fully before anything else is done with it, and the annotation files among its recordings.

A study is a plain study folder or a BIDS data set. A file of annotations alone (an EDF+ hypnogram) is a further file of
a recording, placed on its clock, and gives it labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from biopercept.errors import RecordingError, StudyError
from biopercept.files import is_folder
from biopercept.loaders.glance import EDF_SUFFIXES
from biopercept.loaders.readers.edf import AnnotationFile, read_annotation_file
from biopercept.recording import Interval, Recording
from biopercept.studies.bids import is_bids, read_bids
from biopercept.studies.definition import Definition, read_definition
from biopercept.studies.entries import load_entry, load_placed
from biopercept.studies.labels import (
    check_agreement,
    labels_without_task,
    wanted_columns,
    with_exceptions,
    with_file_labels,
    with_labels_by_hand,
)
from biopercept.studies.plain import read_entries, read_participants
from biopercept.studies.structure import Entry, Participant, Study, StudyFaults, StudyFile
from biopercept.studies.tables import TABLES, table_in, table_like, told_once
from biopercept.typed_values import path_meant


def is_study(path: Path) -> bool:
    """Return whether a path is a study folder or a BIDS data set (right or not), and no recording."""
    return is_folder(path) and (
        table_in(path, "recordings") is not None or (path / "study.yaml").is_file() or is_bids(path)
    )


def load_study(folder: Path) -> Study:
    """Return a study whose tables are right; recordings are not opened.

    The folder holds study.yaml, participants.tsv, recordings.tsv and (optionally) events.tsv, or a BIDS data set. Each
    of the tables may be a .csv or .xlsx instead.

    Raises StudyError where the folder is neither, StudyFaults with everything that is wrong, each with table and line.
    """
    if not is_folder(folder):
        near = f"; give its folder, {folder.parent}" if folder.is_file() and is_study(folder.parent) else ""
        near = "; a store is made of a study, and is none" if folder.suffix == ".h5" else near
        if not folder.exists():
            raise StudyError(
                f"there is no folder {folder}; a study folder or a BIDS data set is needed{path_meant(folder)}"
            )
        raise StudyError(f"{folder} is not a folder; a study folder or a BIDS data set is needed{near}")
    faults: list[str] = []
    if table_in(folder, "recordings") is not None:
        study = _read_plain(folder, faults)
    elif is_bids(folder):
        study = read_bids(folder, faults)
    else:
        raise StudyError(
            f"{folder} holds neither recordings.tsv (a study folder) nor dataset_description.json or sub-... folders "
            f"(a BIDS data set){table_like(folder, 'recordings')}; see 'biopercept init' and 'biopercept import' to "
            "write a study folder"
        )
    study = _with_annotation_files(study, faults)
    study = with_labels_by_hand(study, partial(_start_of_first, study), faults)
    check_agreement(study, faults)
    if faults:
        raise StudyFaults(folder, told_once(_with_names_of(folder, faults)), study)
    study = with_exceptions(with_file_labels(study))
    return replace(study, notes=told_once((*study.notes, *labels_without_task(study))))


def _with_names_of(folder: Path, faults: Iterable[str]) -> Iterator[str]:
    """Give faults with the tables called what they are called there, where they are no .tsv."""
    files = {f"{name}.tsv": path.name for name in TABLES if (path := table_in(folder, name)) is not None}
    others = {usual: name for usual, name in files.items() if name != usual}
    for fault in faults:
        for usual, name in others.items():
            fault = fault.replace(usual, name)
        yield fault


def _read_plain(folder: Path, faults: list[str]) -> Study:
    description = folder / "study.yaml"
    definition = Definition()
    if description.is_file():
        definition = read_definition(description, faults)
    else:
        faults.append("study.yaml is missing; it gives the study's name and tasks")
    people: tuple[Participant, ...] = ()
    if (table := table_in(folder, "participants", faults)) is not None:
        people = read_participants(table, faults)
    else:
        faults.append(f"participants.tsv is missing; it lists every participant_id{table_like(folder, 'participants')}")
    return Study(
        folder=folder.resolve(),
        name=definition.name or folder.resolve().name,
        description=definition.description,
        licence=definition.licence,
        citation=definition.citation,
        participants=people,
        entries=read_entries(folder, faults, wanted_columns(definition.tasks)),
        tasks=definition.tasks,
        overrides=definition.overrides,
        overlap=definition.overlap,
        is_aligned=definition.is_aligned,
    )


def _with_annotation_files(study: Study, faults: list[str]) -> Study:
    """Return the study in which the annotations of such files are intervals of their recordings, and no files of them.

    They are placed by ``offset_seconds``, or by the start that both headers state; what lies outside the signals is
    left out and noted. Adds a fault where a file has no signal beside it, or nothing says when it starts.
    """
    notes: list[str] = []
    entries = tuple(_labelled(study, entry, faults, notes) for entry in study.entries)
    return replace(study, entries=entries, notes=(*study.notes, *notes))


def _labelled(study: Study, entry: Entry, faults: list[str], notes: list[str]) -> Entry:
    if len(entry.files) < 2:
        return entry
    annotated = _annotated(entry)
    if not annotated:
        return entry
    others = tuple(file for file in entry.files if file not in annotated)
    if not others:
        names = ", ".join(file.path.name for file in annotated)
        faults.append(
            f"{entry.title}: {names} hold annotations only; name the recording's own file in a row beside them"
        )
        return replace(entry, files=())
    try:
        zero, span = _clock(load_entry(study, replace(entry, files=others, condition=None, intervals=())))
        intervals = [one for file, content in annotated.items() for one in _placed(entry, file, content, zero)]
    except RecordingError as fault:
        faults.append(str(fault))
        return replace(entry, files=others)
    inside = [_within(interval, span) for interval in intervals]
    n_outside = sum(one is None for one in inside)
    if n_outside:
        notes.append(
            f"{entry.title}: {n_outside} of {len(inside)} annotations lie outside its signals and are left out"
        )
    for file, content in annotated.items():
        notes += [f"{entry.title}: {file.path.name}: {note}" for note in content.notes]
    known = [*entry.intervals, *(one for one in inside if one is not None)]
    return replace(
        entry,
        files=others,
        intervals=tuple(sorted(known, key=lambda i: (i.onset_seconds, i.duration_seconds, i.label))),
    )


def _start_of_first(study: Study, entry: Entry) -> float:
    """Return where the clock of a recording's first file begins on the recording's; one file alone is not opened."""
    if len(entry.files) == 1:
        return entry.files[0].offset_seconds or 0.0
    return load_placed(study, replace(entry, condition=None, intervals=()))[1][0].shift_seconds


def _annotated(entry: Entry) -> dict[StudyFile, AnnotationFile]:
    """Return the files of a recording that hold annotations alone, with what they say."""
    annotated = {}
    for file in entry.files:
        if file.path.suffix.lower() not in EDF_SUFFIXES:
            continue
        try:
            content = read_annotation_file(file.path)
        except (RecordingError, OSError):
            continue  # its fault is that of loading it
        if content is not None:
            annotated[file] = content
    return annotated


def _clock(recording: Recording) -> tuple[datetime | None, tuple[float, float]]:
    """Return when the second zero of a recording is, and where its signals begin and end on its clock."""
    first = min((signal.start_seconds for signal in recording.signals), default=0.0)
    return recording.started_at, (first, max((signal.end_seconds for signal in recording.signals), default=0.0))


def _placed(entry: Entry, file: StudyFile, content: AnnotationFile, zero: datetime | None) -> list[Interval]:
    """Return the annotations of a file on the clock of the recording.

    Raises RecordingError where nothing says when they start.
    """
    if file.offset_seconds is not None:
        shift = timedelta(seconds=file.offset_seconds)
    elif zero is None or content.started_at is None or (zero.tzinfo is None) != (content.started_at.tzinfo is None):
        raise RecordingError(
            f"{entry.title}: nothing says when {file.path.name} starts beside the signals; give its offset_seconds in "
            "recordings.tsv"
        )
    else:
        shift = content.started_at - zero
    seconds = shift.total_seconds()
    return [replace(one, onset_seconds=one.onset_seconds + seconds) for one in content.intervals]


def _within(interval: Interval, span: tuple[float, float]) -> Interval | None:
    """Return the part of an interval that lies in a span; None where none does."""
    begin, end = max(interval.onset_seconds, span[0]), min(interval.end_seconds, span[1])
    is_event = interval.duration_seconds == 0 and span[0] <= interval.onset_seconds <= span[1]
    return Interval(begin, end - begin, interval.label) if end > begin or is_event else None
