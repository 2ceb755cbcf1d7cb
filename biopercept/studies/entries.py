"""Load each recording of a study: its files placed on one clock, with the labels and corrections of the study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from biopercept.errors import RecordingError
from biopercept.loaders.clock import FAR_SECONDS, LONGEST_DAYS, apart
from biopercept.loaders.corrections import ENDING, CorrectionTables, corrections_paths, read_corrections
from biopercept.loaders.sidecars import read_sidecar
from biopercept.recording import AlignedFile, Correction, Interval, Recording, Signal, outside
from biopercept.studies.ratings import rated_signals, with_ratings
from biopercept.studies.structure import Entry, Study, StudyFile

BEYOND = "labelled intervals reach beyond the signals"
_LATE_SECONDS = 1.0
_ESTIMATED = 1.5
"""How many times as long as estimated a recording may be."""
_FAR_BEYOND = 50.0
"""Labels that reach this many times as far as the signals are in another unit."""

_FIRST_YEARS = (1970, 1980, 1984, 1985, 2000)
"""Where clocks begin: unix, DOS and GPS, EDF (which also stands for a date that was removed), devices."""

Loaded = tuple[StudyFile, Recording]


def load_entry(study: Study, entry: Entry) -> Recording:
    """Return one recording: its files' signals on one clock, with intervals from events.tsv and the condition.

    Second zero is the recording's start. A file with ``offset_seconds`` is shifted by it. Files that carry an absolute
    start and no offset are placed by that start against the files placed already, or against the earliest of them. A
    file with neither starts at zero, with a note. Labels come from the study's tables alone: annotations inside a file
    are not taken for labels, and a note says so. A signal name that two files have gets a number. Signals that tasks
    name are ratings of the recording, and none of its signals.

    Raises RecordingError where a file cannot be loaded, or the files cannot be placed on one clock.
    """
    return load_placed(study, entry)[0]


@dataclass(frozen=True)
class PlacedFile:
    """A file of a recording on its clock: seconds to add to its own, and what its signals are called there.

    ``stretch`` is how many seconds of the recording pass in one of the file.
    """

    path: Path
    shift_seconds: float
    names: Mapping[str, str]
    stretch: float = 1.0


@dataclass(frozen=True)
class FilePart:
    """A file of a recording, placed as its start or the study says: its signals, and the events in it."""

    name: str
    signals: tuple[Signal, ...]
    events: tuple[Interval, ...]


@dataclass(frozen=True)
class Clock:
    """What puts a file's times on the recording's clock: ``seconds + stretch * time``, and how that was found."""

    seconds: float = 0.0
    stretch: float = 1.0
    aligned: AlignedFile | None = field(default=None, compare=False)


Aligner = Callable[[Sequence[FilePart]], tuple[list[Clock], list[str]]]
"""What finds the clocks of several files by what they share, and says how in notes."""


def load_placed(study: Study, entry: Entry, aligner: Aligner | None = None) -> tuple[Recording, tuple[PlacedFile, ...]]:
    """Return one recording as :func:`load_entry` does, and where each of its files lies in it.

    ``aligner`` sets the clocks of several files beside each other; without one they lie as their starts say.
    """
    _refuse_shared_corrections(entry, CorrectionTables())
    loaded = [(file, _loaded(study, entry, file)) for file in entry.files]
    shifts, started_at, notes = _shifts(entry, loaded)
    parts = [
        tuple(signal.shifted(shift) for signal in rec.signals) for (_, rec), shift in zip(loaded, shifts, strict=True)
    ]
    _refuse_far_apart(entry, loaded, parts)
    clocks = _clocks(study, loaded, parts, shifts, aligner, notes)
    parts = [tuple(_on_clock(signal, clock) for signal in part) for part, clock in zip(parts, clocks, strict=True)]
    _refuse_far_away(entry, [signal for part in parts for signal in part])
    spans = [(min(s.start_seconds for s in part), max(s.end_seconds for s in part)) for part in parts if part]
    if len(spans) == len(parts):
        notes.extend(apart([(file.path.name, *span) for (file, _), span in zip(loaded, spans, strict=True)], "file"))
    signals, renamed = _with_unique_names([signal for part in parts for signal in part])
    intervals, label_notes = _labels(entry, loaded, signals)
    several = len(loaded) > 1
    own_notes = [f"{file.path.name}: {note}" if several else note for file, rec in loaded for note in rec.notes]
    unique = iter(signal.name for signal in signals)
    placed = tuple(
        PlacedFile(
            file.path,
            clock.seconds + clock.stretch * shift,
            {signal.name: next(unique) for signal in rec.signals},
            clock.stretch,
        )
        for (file, rec), shift, clock in zip(loaded, shifts, clocks, strict=True)
    )
    recording = Recording(
        subject=entry.subject,
        session=entry.session,
        name=entry.recording,
        signals=signals,
        intervals=intervals,
        started_at=started_at,
        notes=(*own_notes, *notes, *renamed, *label_notes),
        corrections=_corrections(loaded, placed),
        aligned=tuple(clock.aligned for clock in clocks if clock.aligned is not None),
    )
    return with_ratings(recording, rated_signals(study.tasks)), placed


def _clocks(
    study: Study,
    loaded: list[Loaded],
    parts: list[tuple[Signal, ...]],
    shifts: list[float],
    aligner: Aligner | None,
    notes: list[str],
) -> list[Clock]:
    """Return what moves each placed file onto the recording's clock: nothing where the study does not align files."""
    still = [Clock() for _ in loaded]
    if not study.is_aligned or len(loaded) < 2:
        return still
    if aligner is None:
        notes.append("align is auto: its files are aligned where it is prepared or measured, and not here")
        return still
    files = [
        FilePart(file.path.name, part, tuple(replace(i, onset_seconds=i.onset_seconds + shift) for i in rec.intervals))
        for (file, rec), part, shift in zip(loaded, parts, shifts, strict=True)
    ]
    clocks, more = aligner(files)
    notes.extend(more)
    return clocks


def _on_clock(signal: Signal, clock: Clock) -> Signal:
    return signal if clock == Clock() else signal.on_clock(clock.seconds, clock.stretch)


def _loaded(study: Study, entry: Entry, file: StudyFile) -> Recording:
    from biopercept.loaders.loading import load_recording
    from biopercept.studies.bids_tables import load_bids_file

    names = {"subject": entry.subject, "session": entry.session, "name": entry.recording}
    if file.is_bids:
        return load_bids_file(file.path, names, study.overrides)
    return load_recording(file.path, **names, overrides=study.overrides)


def strange_corrections(study: Study) -> tuple[str, ...]:
    """Return a note for each table of corrections in the folders of a study's files that is of none of them."""
    files = [file.path for entry in study.entries for file in entry.files]
    tables = CorrectionTables()
    read = {table for path in files if (table := tables.of(path)) is not None}
    folders = dict.fromkeys(path.absolute().parent for path in files)
    strange = [table for folder in folders for table in sorted(folder.glob(f"*{ENDING}")) if table not in read]
    return tuple(f"{one.name} is read with no recording of the study; its name is that of none" for one in strange)


def n_corrected(study: Study) -> int:
    """Return how many recordings have corrections by hand beside their files."""
    tables = CorrectionTables()
    return sum(any(tables.of(file.path) is not None for file in entry.files) for entry in study.entries)


def correction_faults(study: Study) -> Iterator[str]:
    """Give a sentence for each thing that is malformed in the corrections of a study; no recording is opened."""
    tables = CorrectionTables()
    for entry in study.entries:
        try:
            _refuse_shared_corrections(entry, tables)
        except RecordingError as fault:
            yield str(fault)
            continue
        for file in entry.files:
            table = tables.of(file.path)
            yield from read_corrections(table).faults if table is not None else ()


def _refuse_shared_corrections(entry: Entry, tables: CorrectionTables) -> None:
    """Refuse corrections that two files of one recording would both read, as they have one name without suffix."""
    places: dict[Path, Path] = {}
    for file in entry.files:
        corrections = tables.of(file.path)
        if corrections is not None and (other := places.get(corrections)) is not None:
            full = corrections_paths(file.path)[0].name
            raise RecordingError(
                f"{entry.title}: {corrections.name} could be of {other.name} or of {file.path.name}; call it "
                f"{corrections_paths(other)[0].name} or {full}"
            )
        if corrections is not None:
            places[corrections] = file.path


def _corrections(loaded: list[Loaded], placed: tuple[PlacedFile, ...]) -> tuple[Correction, ...]:
    """Return what was corrected by hand in the files, on the recording's clock; each file's own signals alone."""
    corrections = []
    for (_, rec), place in zip(loaded, placed, strict=True):
        for one in rec.corrections:
            channels = one.channels or (tuple(place.names) if len(loaded) > 1 else ())
            named = tuple("/".join([place.names[name.split("/")[0]], *name.split("/")[1:]]) for name in channels)
            is_whole = math.isinf(one.duration_seconds)
            onset = one.onset_seconds if is_whole else place.shift_seconds + place.stretch * one.onset_seconds
            corrections.append(replace(one, onset_seconds=onset, channels=named))
    return tuple(corrections)


def _shifts(entry: Entry, loaded: list[Loaded]) -> tuple[list[float], datetime | None, list[str]]:
    """Return seconds to add to each file's clock, the wall-clock time of second zero if known, and notes."""
    starts = [rec.started_at for _, rec in loaded]
    placed_by_start = [s for (file, rec), s in zip(loaded, starts, strict=True) if file.offset_seconds is None and s]
    zero = _zero(entry, loaded, placed_by_start)
    notes = []
    shifts = []
    for file, rec in loaded:
        if file.offset_seconds is not None:
            shifts.append(file.offset_seconds)
        elif rec.started_at is not None and zero is not None:
            shifts.append((rec.started_at - zero).total_seconds())
        else:
            shifts.append(0.0)
            if len(loaded) > 1 and not _states_start(file.path):
                notes.append(
                    f"{file.path.name} has no start time and the study gives no offset_seconds: it is taken to start "
                    "with the recording"
                )
    unset = [file.path.name for file, rec in loaded if file.offset_seconds is None and _is_unset(rec.started_at)]
    if len(unset) > 1:
        notes.append(
            f"{', '.join(unset)}: each starts at the first moment that a clock without a date shows; they are taken to "
            "start together, give offset_seconds where they did not"
        )
    return shifts, zero, notes


def _is_unset(started_at: datetime | None) -> bool:
    """Return whether a start is midnight of a date that clocks begin with, or that stands where one was removed."""
    if started_at is None or (started_at.hour, started_at.minute, started_at.second) != (0, 0, 0):
        return False
    return (started_at.month, started_at.day) == (1, 1) and started_at.year in _FIRST_YEARS


def _states_start(path: Path) -> bool:
    """Return whether a table's sidecar gives StartTime, which counts from the recording's start."""
    try:
        return path.is_file() and read_sidecar(path).start_seconds is not None
    except RecordingError:
        return False


def _zero(entry: Entry, loaded: list[Loaded], placed_by_start: list[datetime]) -> datetime | None:
    """Return the wall-clock time of the recording's second zero, or None where no file tells."""
    stated = [
        rec.started_at - timedelta(seconds=file.offset_seconds)
        for file, rec in loaded
        if file.offset_seconds is not None and rec.started_at is not None
    ]
    together = [*stated, *placed_by_start]
    if placed_by_start and len({moment.tzinfo is None for moment in together}) > 1:
        files = ", ".join(file.path.name for file, _ in loaded)
        raise RecordingError(
            f"{entry.title}: of {files}, some give their start with a time zone and some without, so they cannot be "
            "put on one clock; give offset_seconds in recordings.tsv"
        )
    if stated:
        return stated[0]
    return min(placed_by_start, default=None)


def _refuse_far_apart(entry: Entry, loaded: list[Loaded], parts: list[tuple[Signal, ...]]) -> None:
    """Refuse files that lie more than a day apart: one start date is not real (de-identified, clock unset)."""
    begins = [min((s.start_seconds for s in part), default=0.0) for part in parts]
    if begins and max(begins) - min(begins) > FAR_SECONDS:
        first, last = begins.index(min(begins)), begins.index(max(begins))
        raise RecordingError(
            f"{entry.title}: {loaded[last][0].path.name} starts {(max(begins) - min(begins)) / 86_400:.0f} days after "
            f"{loaded[first][0].path.name} by their start dates; give offset_seconds in recordings.tsv"
        )


def _refuse_far_away(entry: Entry, signals: list[Signal]) -> None:
    """Refuse signals weeks from second zero, or none near it: offsets that are dates, grids that fill the memory."""
    nearest = min((s.start_seconds for s in signals), key=abs, default=0.0)
    if abs(nearest) > FAR_SECONDS:
        raise RecordingError(
            f"{entry.title}: its signals begin {abs(nearest) / 86_400:.1f} days {'after' if nearest > 0 else 'before'} "
            "second zero, at most 1 is read; give the offset_seconds in recordings.tsv that make it begin at zero"
        )
    furthest = max((max(abs(s.start_seconds), abs(s.end_seconds)) for s in signals), default=0.0)
    if furthest > LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{entry.title}: its signals reach {furthest / 86_400:.0f} days from second zero, at most {LONGEST_DAYS} "
            "are read; offset_seconds and StartTime are seconds from the recording's start, and no dates"
        )


def _with_unique_names(signals: list[Signal]) -> tuple[tuple[Signal, ...], list[str]]:
    taken: set[str] = set()
    unique, notes = [], []
    for signal in signals:
        name, number = signal.name, 2
        while name in taken:
            name, number = f"{signal.name}_{number}", number + 1
        if name != signal.name:
            notes.append(
                f"the signal {signal.name} of {signal.source or 'a file'} is called {name}: the name was taken"
            )
        taken.add(name)
        unique.append(signal if name == signal.name else replace(signal, name=name))
    return tuple(unique), notes


@dataclass(frozen=True)
class Span:
    """Where the signals of a recording begin and end, seconds; ``is_exact`` is False where the end is estimated."""

    start: float
    end: float
    is_exact: bool = True


def label_faults(entry: Entry, span: Span) -> tuple[list[str], list[str]]:
    """Return why the labels of a recording cannot be its own, and which reach beyond its signals.

    The first is a fault, the second happens where a recording was cut short.
    """
    until = f"its signals, which span {span.start:.0f} to {span.end:.0f} s"
    end = span.end + _LATE_SECONDS if span.is_exact else _ESTIMATED * span.end
    late = [i for i in entry.intervals if i.end_seconds > end or i.onset_seconds < span.start - _LATE_SECONDS]
    beyond = [i for i in late if i.onset_seconds >= end or i.end_seconds <= span.start - _LATE_SECONDS]
    if not late:
        return [], []
    worst = max(beyond or late, key=lambda i: max(i.end_seconds - end, span.start - i.onset_seconds))
    where = f"{entry.row_of(worst)}, {entry.title}"
    stated = f"{worst.label!r} is stated to span {worst.onset_seconds:.0f} to {worst.end_seconds:.0f} s"
    if 2 * len(beyond) > len(entry.intervals) or (beyond and _unit_of(worst, span.end)):
        unit = _unit_of(worst, span.end)
        advice = f", these look like {unit}" if unit else ""
        return [
            f"{where}: {len(beyond)} of {len(entry.intervals)} labelled intervals lie wholly beyond {until} ({stated});"
            f" onset and duration are seconds from the recording's start{advice}"
        ], []
    n = len(beyond or late)
    words = f"{n} labelled interval{'s' * (n > 1)} of {len(entry.intervals)} {'lies' if n == 1 else 'lie'} "
    return [], [f"{where}: {words}{'wholly' if beyond else 'partly'} beyond {until} ({stated})"]


def _unit_of(worst: Interval, end: float) -> str:
    """Return what the times of a label that lies far beyond the signals look like; empty where they look like none."""
    scales = {"milliseconds": 1e3, "microseconds": 1e6}
    fitting = [word for word, scale in scales.items() if worst.end_seconds / scale <= 1.05 * end + 60]
    unit = "unix times" if worst.onset_seconds > 1e9 else next(iter(fitting), "")
    return unit if worst.end_seconds > _FAR_BEYOND * end else ""


def _refuse_other_unit(entry: Entry, worst: Interval, end: float, *, is_most: bool) -> None:
    """Refuse labels whose times are no seconds from the start: the first would cover it all, the rest be lost."""
    if is_most and (unit := _unit_of(worst, end)):
        raise RecordingError(
            f"{entry.title}: {worst.label!r} ({entry.row_of(worst)}) is stated to span {worst.onset_seconds:.0f} to "
            f"{worst.end_seconds:.0f} s and the signals end at {end:.0f} s; onset and duration are seconds "
            f"from the recording's start, these look like {unit}"
        )


def _labels(entry: Entry, loaded: list[Loaded], signals: tuple[Signal, ...]) -> tuple[tuple[Interval, ...], list[str]]:
    """Return the study's labels as intervals and notes on labels not used or lying beyond the signals."""
    notes = []
    end = max((signal.end_seconds for signal in signals), default=0.0)
    start = min((signal.start_seconds for signal in signals), default=0.0)
    late = [
        i for i in entry.intervals if i.end_seconds > end + _LATE_SECONDS or i.onset_seconds < start - _LATE_SECONDS
    ]
    if late:
        worst = max(late, key=lambda i: i.end_seconds - end)
        _refuse_other_unit(entry, worst, end, is_most=2 * len(late) > len(entry.intervals))
        notes.append(
            f"{len(late)} {BEYOND}, which span {start:.0f} to {end:.0f} s "
            f"({worst.label!r} is stated to span {worst.onset_seconds:.0f} to {worst.end_seconds:.0f} s)"
        )
    unused = sum(len(rec.intervals) for _, rec in loaded)
    if unused:
        notes.append(f"annotations inside the files ({unused}) are not taken for labels; the study's tables give those")
    intervals = list(entry.intervals)
    if entry.condition is not None and signals:
        intervals.extend(outside(Interval(start, end - start, entry.condition), entry.exceptions))
    intervals.sort(key=lambda i: (i.onset_seconds, i.duration_seconds, i.label))
    return tuple(intervals), notes
