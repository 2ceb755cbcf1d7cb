"""Files of annotations alone (EDF+ hypnograms) as labels: a further file of a recording, placed on its clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from biopercept.errors import RecordingError
from biopercept.loaders.glance import EDF_SUFFIXES
from biopercept.loaders.readers.edf import AnnotationFile, read_annotation_file
from biopercept.recording import Interval, Recording
from biopercept.studies.structure import Entry, Study, StudyFile

Loader = Callable[[Study, Entry], Recording]


def with_annotation_files(study: Study, faults: list[str], load: Loader) -> Study:
    """Return the study in which the annotations of such files are intervals of their recordings, and no files of them.

    They are placed by ``offset_seconds``, or by the start that both headers state; what lies outside the signals is
    left out and noted. ``load`` gives the recording of an entry. Adds a fault where a file has no signal beside it, or
    nothing says when it starts.
    """
    notes: list[str] = []
    entries = tuple(_labelled(study, entry, load, faults, notes) for entry in study.entries)
    return replace(study, entries=entries, notes=(*study.notes, *notes))


def _labelled(study: Study, entry: Entry, load: Loader, faults: list[str], notes: list[str]) -> Entry:
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
        zero, span = _clock(load(study, replace(entry, files=others, condition=None, intervals=())))
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
