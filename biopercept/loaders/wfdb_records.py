"""WFDB (PhysioNet) records: several rates in one record, several records on one clock, notes of the annotator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.recording import FloatArray, Interval, Recording

from .assembly import BlockReader, RawChannel, assemble_signals
from .recognition import SignalOverride
from .wfdb_header import WfdbHeader, WfdbSegment, read_wfdb_header

MOST_RECORDS = 64


def wfdb_headers(path: Path) -> tuple[Path, ...]:
    """Return the header files that a path without suffix names: ``PATH.hea``, or all of ``PATH_*.hea``."""
    if path.suffix == ".hea" or not path.parent.is_dir():
        return ()
    single = path.with_name(f"{path.name}.hea")
    if single.is_file():
        return (single,)
    return tuple(
        sorted(
            file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}_") and file.suffix == ".hea"
        )
    )


def is_wfdb_folder(path: Path) -> bool:
    """Return whether a folder holds WFDB headers."""
    return any(file.suffix == ".hea" for file in path.iterdir())


def load_wfdb(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a WFDB record, or of several records of one person on one clock.

    Second zero is the first sample. The notes of an ``.atr`` annotator become intervals, each
    from its note to the next, the last to the end of its record.

    Parameters
    ----------
    path : Path
        A ``.hea`` file; a record's path without suffix; the common first part of several
        records' names (``Subject1`` for ``Subject1_AccTempEDA`` and ``Subject1_SpO2HR``); or a
        folder that holds records of one such name.
    overrides : mapping or None
        What the study says about signals.

    Raises
    ------
    RecordingError
        Where a header is damaged, names files outside its folder, or no signal is left.
    """
    headers = _headers_of(path)
    channels: list[RawChannel] = []
    intervals: list[Interval] = []
    notes: list[str] = []
    started: list[datetime] = []
    for file in headers:
        header = read_wfdb_header(file)
        notes.extend(f"{header.name}: {note}" if len(headers) > 1 else note for note in header.notes)
        channels.extend(_channels(header))
        intervals.extend(_intervals(header, notes))
        if header.started_at is not None:
            started.append(header.started_at)
    if not channels:
        raise RecordingError(f"{path.name}: no signal of the record can be used ({'; '.join(notes) or 'it has none'})")
    zero = min(started) if len(started) == len(headers) else None
    if zero is not None and len(headers) > 1:
        offsets = {file.stem: (start - zero).total_seconds() for file, start in zip(headers, started, strict=True)}
        channels = [replace(c, start_seconds=c.start_seconds + offsets[c.source]) for c in channels]
    elif len(headers) > 1:
        notes.append(f"{len(headers)} records without a common clock; taken to start together")
    signals, more = assemble_signals(channels, overrides)
    intervals.sort(key=lambda interval: interval.onset_seconds)
    name = headers[0].stem if len(headers) == 1 else _common_name(headers)
    return Recording("", "", name, signals, tuple(intervals), zero, (*notes, *more))


def _headers_of(path: Path) -> list[Path]:
    """Return the headers that a path means: one record, or several that share their first word."""
    if path.is_dir():
        headers = sorted(file for file in path.iterdir() if file.suffix == ".hea")
        # A segment is part of its record, not a recording of its own.
        parts = {name for file in headers for name in _segment_names(file)}
        headers = [file for file in headers if file.stem not in parts]
        words = sorted({file.stem.rsplit("_", 1)[0] for file in headers})
        if len(words) > 1:
            shown = ", ".join(words[:5]) + (" ..." if len(words) > 5 else "")
            raise RecordingError(
                f"{path.name}: records of {len(words)} names ({shown}); name one, for example {path / headers[0].name}"
            )
    elif path.suffix == ".hea":
        headers = [path]
    else:
        headers = list(wfdb_headers(path))
    if not 0 < len(headers) <= MOST_RECORDS:
        raise RecordingError(f"{path.name}: {len(headers)} WFDB records, expected 1 to {MOST_RECORDS}")
    return headers


def _segment_names(file: Path) -> set[str]:
    with file.open("rb") as stream:
        lines = [
            line
            for line in stream.read(1 << 16).decode("latin-1").splitlines()
            if line.strip() and not line.startswith("#")
        ]
    if not lines or "/" not in lines[0].split()[0]:
        return set()
    return {line.split()[0] for line in lines[1:]}


def _common_name(headers: Sequence[Path]) -> str:
    return headers[0].stem.rsplit("_", 1)[0]


def _channels(header: WfdbHeader) -> list[RawChannel]:
    """Return the channels of a record; those of one signal file and one rate share a reader."""
    blocks: dict[tuple[str, int], BlockReader] = {}
    channels = []
    for key, signal in enumerate(header.signals):
        n_frames = header.n_frames if header.segments else signal.n_frames
        if n_frames == 0:
            continue
        place = (signal.file_name if not header.segments else "", signal.samples_per_frame)
        if place not in blocks:
            blocks[place] = _segmented(header) if header.segments else _block(header)
        channels.append(
            RawChannel(
                label=signal.label,
                unit=signal.unit,
                sampling_rate=header.frame_rate * signal.samples_per_frame,
                start_seconds=0.0,
                n_samples=n_frames * signal.samples_per_frame,
                key=key,
                block=blocks[place],
                source=header.name,
            )
        )
    return channels


def _block(header: WfdbHeader) -> BlockReader:
    """Return a reader of signals that have the same number of samples per frame."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        per_frame = header.signals[keys[0]].samples_per_frame
        first, last = start // per_frame, -(-stop // per_frame)
        samples = np.full((len(keys), max(stop - start, 0)), np.nan)
        if stop > start:
            for row, values in enumerate(_frames(header, list(keys), first, last)):
                samples[row] = values[start - first * per_frame : stop - first * per_frame]
        return samples

    return read


def _frames(header: WfdbHeader, keys: list[int], first: int, last: int) -> list[FloatArray]:
    """Return frames ``first`` to ``last`` of signals in physical units: the one door to the reading library."""
    import wfdb

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record = wfdb.rdrecord(
                str(header.path), sampfrom=first, sampto=last, channels=keys, physical=True, smooth_frames=False
            )
    except Exception as fault:  # the library raises whatever its decoding runs into
        raise RecordingError(f"{header.name}: samples cannot be read ({type(fault).__name__}: {fault})") from fault
    return [np.asarray(values, dtype=np.float64) for values in record.e_p_signal]


def _segmented(header: WfdbHeader) -> BlockReader:
    """Return a reader over the segments of a record: NaN where a segment, or a signal in it, is missing."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        samples = np.full((len(keys), max(stop - start, 0)), np.nan)
        for row, key in enumerate(keys):
            wanted = header.signals[key]
            for segment in header.segments:
                _fill(samples[row], segment, wanted.label, wanted.samples_per_frame, wanted.unit, start, stop)
        return samples

    return read


def _fill(row: FloatArray, segment: WfdbSegment, label: str, per_frame: int, unit: str, start: int, stop: int) -> None:
    """Write a segment's part of samples ``start`` to ``stop`` of one signal into ``row``."""
    if segment.header is None:
        return
    for key, signal in enumerate(segment.header.signals):
        if (signal.label, signal.samples_per_frame, signal.unit) != (label, per_frame, unit):
            continue
        offset = segment.first_frame * per_frame
        low = max(start, offset)
        high = min(stop, offset + min(segment.n_frames, signal.n_frames) * per_frame)
        if low < high:
            row[low - start : high - start] = _block(segment.header)([key], low - offset, high - offset)[0]
        return


def _intervals(header: WfdbHeader, notes: list[str]) -> list[Interval]:
    """Return the stretches between the notes of the ``.atr`` annotator, in seconds from the record's start."""
    file = header.path.with_name(f"{header.name}.atr")
    if not file.is_file():
        return []
    import wfdb

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            annotation = wfdb.rdann(str(header.path), "atr")
    except Exception as fault:  # the library raises whatever its parsing runs into
        notes.append(f"{file.name}: the annotations cannot be read ({type(fault).__name__}) and are left out")
        return []
    rate = float(annotation.fs or header.frame_rate)
    end = header.n_frames / header.frame_rate
    labels = [_label(text) for text in annotation.aux_note]
    marks = [(sample / rate, label) for sample, label in zip(annotation.sample, labels, strict=True) if label]
    kept = [(float(onset), label) for onset, label in marks if 0 <= onset < end]
    if len(kept) < len(marks):
        notes.append(f"{file.name}: {len(marks) - len(kept)} annotations lie outside the record and are left out")
    if not kept:
        return []
    ends = [onset for onset, _ in kept[1:]] + [end]
    return [Interval(onset, max(stop - onset, 0.0), label) for (onset, label), stop in zip(kept, ends, strict=True)]


def _label(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text or "").strip()[:256]
