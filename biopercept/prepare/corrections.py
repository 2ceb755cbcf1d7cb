"""Corrections written: what a person saw, checked against the recording, and put into the table beside its file.

Nothing is lost that is there: rows are added below, columns and words that are not ours stay as they are, and the table
is replaced whole or not at all. A correction that would not be applied is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import OutputError, RecordingError, SettingsError
from biopercept.files import guarded_cell, only_writer, write_text
from biopercept.loaders.corrections import (
    COLUMNS,
    EVERYTHING,
    HEART_MODALITIES,
    LABEL_COLUMN,
    corrections_of,
    corrections_paths,
    placed_correction,
    read_corrections,
    span_of,
)
from biopercept.loaders.folders import recordings_beside
from biopercept.loaders.readers.wfdb import wfdb_headers
from biopercept.prepare.sources import Source, placed_recording_of, recording_at
from biopercept.recording import (
    BAD,
    BEAT_ADDED,
    BEAT_REMOVED,
    CHANNEL_BAD,
    LABEL,
    POLARITY,
    Correction,
    Recording,
    Signal,
)
from biopercept.studies.entries import PlacedFile
from biopercept.studies.labels import label_fault
from biopercept.typed_values import path_meant

if TYPE_CHECKING:
    import pandas as pd

_ORDER = (BAD, CHANNEL_BAD, POLARITY, BEAT_REMOVED, BEAT_ADDED, LABEL)
_BEATS = (BEAT_ADDED, BEAT_REMOVED)


@dataclass(frozen=True)
class CorrectionTables:
    """What is in the tables of corrections of a recording: of each its path and its rows, cell by column.

    ``changed`` are the tables that were written or removed, ``notes`` what else there is to say, ``faults`` what is
    malformed in them.
    """

    rows: Mapping[Path, tuple[Mapping[str, str], ...]]
    changed: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return a row per correction, as text, with the table that it stands in."""
        import pandas as pd

        listed = [{"table": path.name, **row} for path, rows in self.rows.items() for row in rows]
        return pd.DataFrame(listed, columns=None if listed else ["table", *COLUMNS])


def corrections_in(source: Source) -> CorrectionTables:
    """Return the corrections that lie beside the files of a recording, which is not opened.

    Raises RecordingError where a path leads nowhere.
    """
    return _tables(_files(source))


def write_corrections(source: Source, wanted: Sequence[Correction], who: str = "") -> CorrectionTables:
    """Add corrections, times on the recording's clock, to the tables beside the files of a recording.

    Channels are names in any case of signals or channels; a beat of none is one of the signal that the heart features
    rest on. A beat to be removed is moved to the nearest that was detected, which is noted. Who says it, and when, is
    written beside each.

    Raises RecordingError where the recording cannot be read. Raises SettingsError where a correction would not be
    applied to it. Raises OutputError where the table cannot be written, BusyError where another process writes it.
    """
    if not wanted:
        raise SettingsError("nothing to correct was given")
    recording, files = _opened(source)
    notes: list[str] = []
    placed = [_placed(one, recording) for one in sorted(wanted, key=lambda one: _ORDER.index(one.kind))]
    placed = _with_beats(placed, recording, notes)
    _refuse_labels(source, placed)
    _refuse_repeated(placed, recording.corrections)
    notes += [words for one in placed if (words := _beyond(one, recording))]
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    new: dict[Path, list[dict[str, str]]] = {}
    for one in placed:
        cells = list(_cells(replace(one, who=who, when=when), recording, files))
        for path, row in cells:
            new.setdefault(path, []).append(row)
    with ExitStack() as stack:
        for path in new:
            stack.enter_context(_only_writer(path))
        for path, rows in new.items():
            write_text(path, _text_with(path, rows))
    return replace(_tables(_files(source)), changed=tuple(new), notes=tuple(notes))


def undo_corrections(source: Source) -> CorrectionTables:
    """Take back what was written last: the last row of the newest table, with those that were written together.

    A table of which nothing but our own header is left is removed.

    Raises SettingsError where there is nothing to take back. Raises OutputError where the table cannot be written.
    """
    paths = [path for file in _files(source) if (path := corrections_of(file)) is not None]
    newest = max((_last(path) for path in paths), default="")
    changed = []
    for path in paths:
        with _only_writer(path):
            columns, rows, lines = _parsed(path)
            stamp = rows[-1].get("when", "") if rows else ""
            if not rows or stamp != newest:
                continue
            n_last = 1
            while stamp and n_last < len(rows) and rows[-1 - n_last].get("when") == stamp:
                n_last += 1
            kept = [line for line in lines if line.strip()][:-n_last]
            if len(kept) == 1 and columns in (COLUMNS, (*COLUMNS, LABEL_COLUMN)):
                _remove(path)
            else:
                write_text(path, "\n".join(kept) + "\n")
            changed.append(path)
            if not stamp:
                break
    if not changed:
        raise SettingsError(f"{source.title}: no corrections by hand to take back")
    return replace(_tables(_files(source)), changed=tuple(changed))


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as fault:
        raise OutputError(f"cannot remove {path}: {fault.strerror}; nothing was changed") from fault


def _files(source: Source) -> tuple[Path, ...]:
    """Return the files of a recording. Raises RecordingError where a path leads nowhere."""
    if source.entry is not None:
        return tuple(file.path for file in source.entry.files)
    if not (source.path.exists() or wfdb_headers(source.path)):
        raise RecordingError(f"{source.path}: no such file or folder{path_meant(source.path)}")
    return (source.path,)


def _opened(source: Source) -> tuple[Recording, tuple[PlacedFile, ...]]:
    """Return the recording, and where its files lie in it."""
    if source.study is not None and source.entry is not None:
        return placed_recording_of(source.study, source.entry)
    recording = recording_at(source.path)
    return recording, (PlacedFile(source.path, 0.0, {signal.name: signal.name for signal in recording.signals}),)


def _placed(one: Correction, recording: Recording) -> Correction:
    """Return a correction with the channel's own name; refused where the recording has no such place."""
    if len(one.channels) > 1:
        raise SettingsError(f"a correction is of one channel or of all, and not of {', '.join(one.channels)}")
    if not math.isfinite(one.onset_seconds):
        raise SettingsError(f"{one.kind}: the time is {one.onset_seconds}; a number of seconds is needed")
    if one.kind == LABEL and one.channels:
        raise SettingsError(f"label: it is about the recording, and not of {one.channels[0]}")
    if one.kind in (CHANNEL_BAD, POLARITY) and not one.channels:
        raise SettingsError(f"{one.kind}: the channel must be named")
    if one.kind == CHANNEL_BAD and math.isfinite(one.duration_seconds):
        raise SettingsError("channel-bad: it is about the full recording; of a stretch the kind is bad")
    placed = placed_correction(one, one.channels[0] if one.channels else "", recording)
    if isinstance(placed, str):
        raise SettingsError(f"{one.kind}: {placed}")
    return placed


def _refuse_repeated(placed: Sequence[Correction], earlier: Sequence[Correction]) -> None:
    """Refuse what the table says already, or the call says twice: it would change nothing."""
    from biopercept.preprocessing.corrections import described

    said_before = {_what(one) for one in earlier}
    for one in placed:
        if _what(one) in said_before:
            raise SettingsError(f"{described(one)}: it is in the table already; nothing was changed")
        said_before.add(_what(one))


def _what(one: Correction) -> tuple[object, ...]:
    return (one.kind, one.onset_seconds, one.duration_seconds, one.channels, one.label)


def _beyond(one: Correction, recording: Recording) -> str:
    """Return a note on a stretch that reaches beyond the recording; empty where it does not."""
    from biopercept.preprocessing.corrections import described

    begin, end = one.span
    first, last = span_of(recording)
    if not (math.isfinite(begin) and math.isfinite(end)) or (begin >= first and end <= last):
        return ""
    return f"{described(one)} reaches beyond the recording, which spans {first:g} to {last:.3f} s"


def _refuse_labels(source: Source, placed: Sequence[Correction]) -> None:
    """Refuse labels that the study of a recording does not take."""
    if source.study is None or source.entry is None:
        return
    for label in dict.fromkeys(one.label for one in placed if one.kind == LABEL):
        if fault := label_fault(source.study, source.entry, label):
            raise SettingsError(f"label: {fault}")


def _with_beats(placed: list[Correction], recording: Recording, notes: list[str]) -> list[Correction]:
    """Return corrections with those of beats named and moved to where beats are; refused where one is not applied."""
    from biopercept.preprocessing.cleaning import clean_recording
    from biopercept.preprocessing.corrections import CorrectionLog

    if not any(one.kind in _BEATS for one in placed):
        return placed
    of_heart = tuple(s for s in recording.signals if s.modality in (*HEART_MODALITIES, "hr"))
    # Beats are looked for in the wave as this call leaves it: turned, and without what it marks bad.
    others = [one for one in placed if one.kind not in (*_BEATS, LABEL)]
    heart = replace(recording, signals=of_heart, notes=(), corrections=(*recording.corrections, *others))
    usual = ""
    if any(one.kind in _BEATS and not one.channels for one in placed):
        usual = clean_recording(heart).beats.source
        if not usual:
            raise SettingsError("no beats were found in any signal; name the signal that the beats are of (--channel)")
    named = [replace(one, channels=(usual,)) if one.kind in _BEATS and not one.channels else one for one in placed]
    log = CorrectionLog(heart)
    for signal in of_heart:
        earlier = tuple(log.of(signal).corrections.values())
        alone = replace(heart, signals=(signal,), corrections=earlier)
        named = [_snapped(one, alone, notes) if _is_of(one, signal) else one for one in named]
        new = [one for one in named if _is_of(one, signal)]
        if new:
            _refuse_without_effect(new, replace(alone, corrections=(*earlier, *new)))
    return named


def _refuse_without_effect(new: Sequence[Correction], recording: Recording) -> None:
    from biopercept.preprocessing.cleaning import clean_recording
    from biopercept.preprocessing.corrections import described

    clean = clean_recording(recording)
    for one in new:
        if one not in clean.corrections:
            opening = f"not corrected, {described(one)}: "
            why = next(
                (note.removeprefix(opening) for note in clean.notes if note.startswith(opening)), "it has no effect"
            )
            raise SettingsError(f"{described(one)}: {why.rstrip('.')}")


def _is_of(one: Correction, signal: Signal) -> bool:
    return one.kind in _BEATS and bool(one.rows_in(signal))


def _snapped(one: Correction, alone: Recording, notes: list[str]) -> Correction:
    """Return a removal with the time of the beat that it is of; refused where none is near."""
    from biopercept.preprocessing.cleaning import clean_recording
    from biopercept.preprocessing.corrections import NEAR_SECONDS

    if one.kind != BEAT_REMOVED:
        return one
    times = clean_recording(alone).beats.times
    apart = np.abs(times - one.onset_seconds)
    if apart.min(initial=np.inf) > NEAR_SECONDS:
        around = [f"{time:.3f}" for time in np.sort(times[np.argsort(apart)[:2]])]
        where = f"the nearest are at {' and '.join(around)} s" if around else f"{one.channels[0]} has none"
        raise SettingsError(
            f"no beat of {one.channels[0]} within {NEAR_SECONDS:g} s of {one.onset_seconds:g} s; {where}"
        )
    time = round(float(times[np.argmin(apart)]), 6)
    if abs(time - one.onset_seconds) >= 0.0005:
        notes.append(
            f"the beat that is removed is at {time:.3f} s, {abs(time - one.onset_seconds):.3f} s from what was given"
        )
    return replace(one, onset_seconds=time)


def _cells(
    one: Correction, recording: Recording, files: tuple[PlacedFile, ...]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give the table and the row of each file that a correction is about, on the file's clock, in its own names."""
    wanted = one.channels[0] if one.channels else ""
    signal, _, channel = wanted.partition("/")
    for file in files[:1] if one.kind == LABEL else files:
        theirs = {unique: name for name, unique in file.names.items()}
        if wanted and signal not in theirs:
            continue
        own_name = f"{theirs[signal]}/{channel}" if channel else theirs.get(signal, EVERYTHING)
        begin, end = one.span
        spans = [(s.start_seconds, s.end_seconds) for s in recording.signals if s.name in theirs]
        if one.kind != LABEL and not wanted and not any(begin <= last and end >= first for first, last in spans):
            continue  # of a recording of several files, those that were running
        is_whole = math.isinf(one.duration_seconds)
        row = {
            "onset": EVERYTHING if is_whole else _number((one.onset_seconds - file.shift_seconds) / file.stretch),
            "duration": EVERYTHING if is_whole else _number(one.duration_seconds),
            "kind": one.kind,
            "channel": _plain(own_name),
            "who": _plain(one.who),
            "when": one.when,
            **({LABEL_COLUMN: _plain(one.label)} if one.kind == LABEL else {}),
        }
        yield _table_for(file.path), row


def _plain(text: str) -> str:
    """Return text for a cell: without tabs and line ends, and no formula."""
    return guarded_cell(" ".join(text.split()))


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _table_for(path: Path) -> Path:
    """Return the table that rows are written to: the one that is there, or by the full name where others share it."""
    existing = corrections_of(path)
    if existing is not None:
        return existing
    full, short = corrections_paths(path)
    return full if path.is_file() and recordings_beside(path) else short


def _tables(files: Sequence[Path]) -> CorrectionTables:
    rows: dict[Path, tuple[Mapping[str, str], ...]] = {}
    faults: list[str] = []
    for file in files:
        path = corrections_of(file)
        if path is not None:
            rows[path] = tuple(_parsed(path)[1])
            faults.extend(read_corrections(path).faults)
    return CorrectionTables(rows, faults=tuple(faults))


def _parsed(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]], list[str]]:
    """Return columns, rows and the lines of a table, as far as they can be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    columns = tuple(cell.strip() for cell in lines[0].split("\t"))
    rows = [dict(zip(columns, line.split("\t"), strict=False)) for line in lines[1:] if line.strip()]
    return columns, rows, lines


def _last(path: Path) -> str:
    """Return when the last row of a table was written; empty where it does not say."""
    rows = _parsed(path)[1]
    return rows[-1].get("when", "") if rows else ""


def _text_with(path: Path, rows: Sequence[Mapping[str, str]]) -> str:
    """Return the table with rows below those that are there; a column that the table lacks is added to all."""
    columns: tuple[str, ...]
    needed = (*COLUMNS, *((LABEL_COLUMN,) if any(LABEL_COLUMN in row for row in rows) else ()))
    if not path.is_file():
        columns, lines = needed, ["\t".join(needed)]
    else:
        columns, _, lines = _parsed(path)
        lines = [line for line in lines if line.strip()]
        absent = [column for column in needed if column not in columns]
        lines = [
            "\t".join([line, *(absent if number == 0 else [EVERYTHING] * len(absent))])
            for number, line in enumerate(lines)
        ]
        columns = (*columns, *absent)
    new = ["\t".join(row.get(column) or EVERYTHING for column in columns) for row in rows]
    return "\n".join([*lines, *new]) + "\n"


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the right to write a table; the lock lies among temporary files, so that none is left beside recordings."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    with only_writer(Path(tempfile.gettempdir()) / f"biopercept-{os.getuid()}-{digest}-{path.name}"):
        yield
