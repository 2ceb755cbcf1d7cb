"""Corrections by hand as they come with a recording: the table beside it, and annotations that begin with "bad".

``NAME_corrections.tsv`` lies beside the recording that is called NAME (a file without its suffix, a folder, or the
record that a WFDB path names); where two recordings share that name, it is called after the full name of the file,
``NAME.edf_corrections.tsv``. A row is a correction: ``onset`` and ``duration`` in seconds from the recording's start,
``kind`` (:data:`biopercept.recording.CORRECTIONS`), ``channel`` (a signal, SIGNAL/CHANNEL, or n/a for everything),
``who`` and ``when``, and of a stretch whose label was set its ``label``; other columns are nobody's business here.

What can be known to be wrong before anything is cleaned is refused, all of it at once: a correction that is not applied
is a wrong number. What only cleaning can tell (no beat where one is removed) is a note of cleaning.

Annotations that begin with "bad", in any case, are bad stretches, as for mne (``reject_by_annotation``); of EDF also
mne's way to name a channel, ``BAD_muscle@@Fp1``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from biopercept.errors import RecordingError, listed
from biopercept.files import is_file, plain_cell
from biopercept.loaders.recognition import tidy_label
from biopercept.loaders.sidecars import inherited_files, without_suffix
from biopercept.modalities import MODALITIES
from biopercept.recording import (
    BAD,
    BEAT_ADDED,
    BEAT_REMOVED,
    CHANNEL_BAD,
    CORRECTIONS,
    LABEL,
    POLARITY,
    Correction,
    Interval,
    Recording,
    Signal,
    relabelled,
)
from biopercept.typed_values import dialect_of, did_you_mean, read_text

ENDING = "_corrections.tsv"
COLUMNS = ("onset", "duration", "kind", "channel", "who", "when")
LABEL_COLUMN = "label"
"""A column that only a table with labels needs."""
EVERYTHING = "n/a"
HEART_MODALITIES = ("ecg", "bvp", "ibi")
"""What beats are looked for in, the first that a recording has."""
TURNABLE = ("ecg", "bvp")

_NEEDED = ("onset", "duration", "kind")
_MISSING = frozenset({"", "n/a"})
_LARGEST = 64 << 20
_SHOWN = 3
_LATE_SECONDS = 1.0


@dataclass(frozen=True)
class CorrectionRow:
    """A row of the table that is well formed: where it stands, what it says, on the file's own clock, and of what."""

    where: str
    channel: str
    correction: Correction


@dataclass(frozen=True)
class CorrectionTable:
    """A table of corrections as it was read: its columns, its rows, and a sentence for each that is malformed."""

    columns: tuple[str, ...] = ()
    rows: tuple[CorrectionRow, ...] = ()
    faults: tuple[str, ...] = ()


def corrections_paths(path: Path) -> tuple[Path, Path]:
    """Return where the corrections of a recording may lie: by the full name of its file, and without the suffix."""
    whole = path.absolute() if path.name not in ("", "..") else path.resolve()
    name = without_suffix(whole.name) if whole.is_file() else whole.name
    return whole.with_name(f"{whole.name}{ENDING}"), whole.with_name(f"{name}{ENDING}")


def corrections_of(path: Path) -> Path | None:
    """Return the corrections of a recording, None where there are none; those by the full name of a file go first."""
    return next((file for file in corrections_paths(path) if is_file(file)), None)


class CorrectionTables:
    """Finds the corrections of many recordings; made for one reading of a study, for each folder is listed once."""

    def __init__(self) -> None:
        self._has_some: dict[str, bool] = {}

    def of(self, path: Path) -> Path | None:
        """Return what :func:`corrections_of` does."""
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return corrections_of(path)
        if folder not in self._has_some:
            self._has_some[folder] = _holds_corrections(Path(folder))
        return corrections_of(path) if self._has_some[folder] else None


def _holds_corrections(folder: Path) -> bool:
    try:
        return any(member.name.lower().endswith(ENDING) for member in folder.iterdir())
    except OSError:
        return False


def read_corrections(file: Path) -> CorrectionTable:
    """Return the rows of a table of corrections; what is malformed is among its faults, a sentence each."""
    faults: list[str] = []
    text = read_text(file, _LARGEST, faults)
    if text is None:
        return CorrectionTable(faults=tuple(faults))
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    columns = tuple(cell.strip() for cell in lines[0].rstrip("\t").split("\t"))
    if fault := _header_fault(columns):
        return CorrectionTable(columns, faults=(f"{file.name} line 1: {fault}",))
    rows: list[CorrectionRow] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        while len(cells) > len(columns) and not cells[-1].strip():
            cells.pop()  # tabs after the last cell hold nothing
        where = f"{file.name} line {number}"
        if len(cells) != len(columns):
            faults.append(
                f"{where}: {len(cells)} cells where the header has {len(columns)}; cells are separated by tabs"
            )
            continue
        row = _row(dict(zip(columns, map(str.strip, cells), strict=True)), where, file.name)
        if isinstance(row, str):
            faults.append(f"{where}: {row}")
        else:
            rows.append(row)
    return CorrectionTable(columns, tuple(rows), tuple(faults))


def _header_fault(columns: tuple[str, ...]) -> str:
    if columns == ("",):
        return f"no header; the first line must name the columns {', '.join(COLUMNS)}"
    if "kind" not in columns and (words := dialect_of(columns)):
        return f"{words}; save the table as tab-separated text"
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        return f"the column {', '.join(twice)} is there twice"
    absent = [column for column in _NEEDED if column not in columns]
    return f"the column {', '.join(absent)} is missing (there are: {', '.join(columns)})" if absent else ""


def _row(cells: dict[str, str], where: str, source: str) -> CorrectionRow | str:
    """Return a row, or what is wrong with it."""
    kind = cells["kind"]
    if kind not in CORRECTIONS:
        return f"kind is {kind!r}; allowed are {', '.join(CORRECTIONS)}{did_you_mean(kind, CORRECTIONS)}"
    channel, who, when = (_text(cells.get(column, "")) for column in ("channel", "who", "when"))
    if kind in (CHANNEL_BAD, POLARITY) and not channel:
        return f"a row of kind {kind} must name its channel"
    label = _text(cells.get(LABEL_COLUMN, ""))
    if kind == LABEL and LABEL_COLUMN not in cells:
        return f"a row of kind label needs a column {LABEL_COLUMN} (n/a in it: no label)"
    if kind == LABEL and channel:
        return "a row of kind label is about the recording; write n/a as its channel"
    onset, duration = _seconds(cells["onset"]), _seconds(cells["duration"])
    for column, seconds in (("onset", onset), ("duration", duration)):
        if isinstance(seconds, float) and not math.isfinite(seconds):
            return f"{column} is {cells[column]!r}; a number of seconds is needed"
    if duration is not None and duration < 0:
        return f"duration is {duration:g}; it must not be below 0"
    if fault := _time_fault(kind, onset, duration):
        return fault
    is_whole = kind == CHANNEL_BAD or (kind == POLARITY and not duration)
    times = (0.0, math.inf) if is_whole else (onset or 0.0, duration or 0.0)
    named = label if kind == LABEL else ""
    return CorrectionRow(where, channel, Correction(kind, *times, (), who, when, source, named))


def _text(cell: str) -> str:
    return "" if cell.lower() in _MISSING else plain_cell(cell)


def _seconds(text: str) -> float | None:
    """Return a number of seconds, None where it is left open, NaN where it is no number."""
    if text.lower() in _MISSING:
        return None
    try:
        # float() would take "1_000" and other scripts' digits: a table means neither.
        return float(text) if "_" not in text and text.isascii() else math.nan
    except ValueError:
        return math.nan


def _time_fault(kind: str, onset: float | None, duration: float | None) -> str:
    """Return what is wrong with the times of a row of a kind; empty where nothing is."""
    if kind in (BEAT_ADDED, BEAT_REMOVED):
        if onset is None:
            return f"a row of kind {kind} needs an onset, the time of the beat"
        return f"duration is {duration:g}; a beat has none, write 0" if duration else ""
    if kind == BAD and (onset is None or not duration):
        return "a row of kind bad needs an onset and a duration above 0 (a channel that is bad throughout: channel-bad)"
    if kind == LABEL and (onset is None or not duration):
        return "a row of kind label needs an onset and a duration above 0"
    if kind == CHANNEL_BAD and (onset or duration):
        return "a row of kind channel-bad is about the full recording, write n/a; of a stretch the kind is bad"
    if kind == POLARITY and ((duration and onset is None) or (onset and not duration)):
        return "a row of kind polarity needs onset and duration of the stretch, or n/a in both for the full recording"
    return ""


def with_corrections(recording: Recording, path: Path) -> Recording:
    """Return the recording at a path with the corrections that come with it: of its table, and of its annotations.

    Annotations that are taken for corrections are no labels any more.

    Raises RecordingError where the table is malformed, or names a channel or a time that the recording does not have.
    """
    marked, labels, notes = _from_annotations(recording)
    notes += _notes_on_files(path)
    file = corrections_of(path)
    rows: list[Correction] = []
    if file is not None:
        table = read_corrections(file)
        faults = list(table.faults)
        for row in table.rows:
            placed = placed_correction(row.correction, row.channel, recording)
            if isinstance(placed, str):
                faults.append(f"{row.where}: {placed}")
                continue
            rows.append(placed)
            notes += _reaching_beyond(row.where, placed, recording)
        if faults:
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise RecordingError(f"{'; '.join(faults[:_SHOWN])}{more}")
    if not (rows or marked or notes):
        return recording
    return replace(
        recording,
        intervals=labels,
        notes=(*recording.notes, *notes),
        corrections=(*recording.corrections, *rows, *marked),
    )


def with_labels_by_hand(recording: Recording) -> Recording:
    """Return a recording, of files alone, with the labels that were set by hand among its intervals."""
    if not any(one.kind == LABEL for one in recording.corrections):
        return recording
    return replace(recording, intervals=tuple(relabelled(recording.intervals, recording.corrections)))


def placed_correction(correction: Correction, channel: str, recording: Recording) -> Correction | str:
    """Return a correction of a channel as it is written (empty: everything), or why there is no such place."""
    signals = recording.signals
    if channel:
        named = _named(channel, signals)
        if isinstance(named, str):
            return named
        correction = replace(correction, channels=(named[0],))
        signals = (named[1],)
    if correction.kind in (BEAT_ADDED, BEAT_REMOVED) and not any(s.modality in HEART_MODALITIES for s in signals):
        what = f"{signals[0].name} is {_title(signals[0])}" if channel else "the recording has none of them"
        return f"beats are those of ECG, a pulse wave or inter-beat intervals, and {what}"
    if correction.kind == POLARITY and signals[0].modality not in TURNABLE:
        return f"only ECG and pulse waves can be turned, and {signals[0].name} is {_title(signals[0])}"
    (begin, end), (first, last) = correction.span, span_of(recording)
    if begin > last or end < first:
        return f"{_seconds_text(begin)} s lies outside the recording, which spans {first:g} to {last:.3f} s"
    return correction


def span_of(recording: Recording) -> tuple[float, float]:
    """Return where a recording begins and ends, seconds on its clock; it begins at 0 or with an earlier signal."""
    first = min((signal.start_seconds for signal in recording.signals), default=0.0)
    return min(first, 0.0), recording.duration_seconds


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _title(signal: Signal) -> str:
    return MODALITIES[signal.modality].title if signal.modality in MODALITIES else "not recognised"


def _named(name: str, signals: Sequence[Signal]) -> tuple[str, Signal] | str:
    """Return the signal, or SIGNAL/CHANNEL, that a name in any case means, with its signal; or why it means none."""
    for fold in (str, str.lower):
        for signal in signals:
            if fold(signal.name) == fold(name):
                return signal.name, signal
        both = [(f"{s.name}/{c}", s, c) for s in signals for c in s.channel_names]
        alike = [one for one in both if fold(name) in (fold(one[0]), fold(one[2]))]
        if len(alike) == 1:
            return alike[0][:2]
        if alike:
            return f"the channel {name!r} is in several signals; write {' or '.join(one[0] for one in alike[:3])}"
    names = [signal.name for signal in signals]
    parts = [f"{s.name} ({', '.join(s.channel_names)})" if s.n_channels > 1 else s.name for s in signals]
    channels = [f"{s.name}/{c}" for s in signals if s.n_channels > 1 for c in s.channel_names]
    hint = did_you_mean(name, (*names, *channels))
    return f"there is no signal or channel {name!r} (there are: {', '.join(parts)}){hint}"


def _reaching_beyond(where: str, correction: Correction, recording: Recording) -> Iterator[str]:
    begin, end = correction.span
    if math.isfinite(end) and end > recording.duration_seconds + _LATE_SECONDS:
        yield (
            f"{where}: the stretch from {_seconds_text(begin)} to {_seconds_text(end)} s reaches beyond the recording, "
            f"which ends at {recording.duration_seconds:.1f} s"
        )


def _notes_on_files(path: Path) -> list[str]:
    """Return a note on each table of corrections that looks as if it were this recording's and is not read."""
    full, short = corrections_paths(path)
    notes = [f"{full.name} is read, and not {short.name}"] if full != short and is_file(full) and is_file(short) else []
    for file in inherited_files(path, ".tsv", "corrections") if path.is_file() else ():
        notes.append(f"{file.name} is not read: corrections are of one file, and of this one called {short.name}")
    return notes


def _from_annotations(recording: Recording) -> tuple[list[Correction], tuple[Interval, ...], list[str]]:
    """Return what annotations mark as bad, the annotations that are left as labels, and notes."""
    marks = [i for i in recording.intervals if i.label.lower().startswith(BAD)]
    if not marks:
        return [], recording.intervals, []
    labels = tuple(i for i in recording.intervals if not i.label.lower().startswith(BAD))
    grouped: dict[tuple[float, float, str], list[str]] = {}
    notes: list[str] = []
    n_instants = 0
    for mark in marks:
        words, _, channel = mark.label.partition("@@")
        if mark.duration_seconds <= 0:
            n_instants += 1
            continue
        names = grouped.setdefault((mark.onset_seconds, mark.duration_seconds, words.strip()), [])
        names.append(channel.strip())
    if n_instants:
        notes.append(
            f"annotations that begin with 'bad' and have no duration ({n_instants}): nothing is masked for them"
        )
    corrections = []
    for (onset, duration, words), names in grouped.items():
        channels, strange = _channels_named(names, recording.signals)
        if strange:
            notes.append(f"the annotation {words!r} at {onset:g} s names {', '.join(strange)}, which is not there")
        if channels is not None:
            corrections.append(Correction(BAD, onset, duration, channels, source=words))
    if corrections:
        shown = list(dict.fromkeys(one.source for one in corrections))
        notes.append(
            f"annotations that begin with 'bad' ({len(corrections)}) are taken for bad stretches: {listed(shown, 5)}"
        )
    return corrections, labels, notes


def _channels_named(names: Sequence[str], signals: Sequence[Signal]) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return the channels that annotations name (none: everything; None: nothing that is there), and the unknown."""
    if "" in names:
        return (), []
    channels, strange = [], []
    for name in names:
        named = _named(name, signals)
        if isinstance(named, str):
            named = _named(tidy_label(name), signals)
        if isinstance(named, str):
            strange.append(name)
        else:
            channels.append(named[0])
    return (tuple(channels) or None), strange
