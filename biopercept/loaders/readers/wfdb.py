"""WFDB (PhysioNet) records: several rates in one record, several records on one clock, the annotators' notes.

A record's header is checked against its signal files before a sample is read.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, library_words, listed
from biopercept.files import temporary_prefix, visible_members
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.clock import FAR_SECONDS
from biopercept.loaders.readers.wfdb_annotators import wfdb_beats, wfdb_words
from biopercept.loaders.readers.wfdb_header import (
    WfdbHeader,
    WfdbSegment,
    WfdbSignal,
    header_lines,
    read_wfdb_header,
    segment_names,
)
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import FloatArray, Interval, Recording

MOST_RECORDS = 64
_CHECKSUM_MODULUS = 1 << 16
_SUMMED_AT_ONCE = 1 << 16


def wfdb_headers(path: Path) -> tuple[Path, ...]:
    """Return the header files that a path without suffix names: ``PATH.hea``, or all of ``PATH_*.hea``."""
    if path.suffix == ".hea" or not path.parent.is_dir():
        return ()
    single = path.with_name(f"{path.name}.hea")
    if single.is_file():
        return (single,)
    return tuple(
        file for file in visible_members(path.parent) if file.name.startswith(f"{path.name}_") and file.suffix == ".hea"
    )


def is_wfdb_folder(path: Path) -> bool:
    """Return whether a folder holds WFDB headers."""
    return any(file.suffix == ".hea" for file in visible_members(path))


def load_wfdb(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a WFDB record, or of several records of one person on one clock.

    Second zero is the first sample. The notes of an ``.atr`` annotator become intervals, each
    from its note to the next, the last to the end of its record. Beats of an annotator are a signal of intervals.

    Raises RecordingError where a header is damaged, names files outside its folder, or no signal is left.

    Parameters
    ----------
    path : Path
        A ``.hea`` file; a record's path without suffix; the common first part of several
        records' names (``Subject1`` for ``Subject1_AccTempEDA`` and ``Subject1_SpO2HR``); or a
        folder that holds records of one such name.
    """
    headers = _headers_of(path)
    channels: list[RawChannel] = []
    intervals: list[Interval] = []
    notes: list[str] = []
    started: list[datetime] = []
    for file in headers:
        header = read_wfdb_header(file)
        of_samples = _wrong_checksums(header)
        more_than_one = len(headers) > 1
        notes.extend(f"{header.name}: {n}" if more_than_one else n for n in (*header.notes, *of_samples))
        channels.extend(_channels(header))
        intervals.extend(wfdb_words(header.path, header.frame_rate, header.n_frames, notes))
        beats = wfdb_beats(header.path, header.frame_rate, header.n_frames, notes)
        channels.extend([] if beats is None else [beats])
        if header.started_at is not None:
            started.append(header.started_at)
    if not channels:
        raise RecordingError(f"{path.name}: no signal of the record can be used ({'; '.join(notes) or 'it has none'})")
    zero = min(started) if len(started) == len(headers) else None
    if zero is not None and (max(started) - zero).total_seconds() > FAR_SECONDS:
        days = ", ".join(f"{file.stem} on {start:%Y-%m-%d}" for file, start in zip(headers, started, strict=True))
        raise RecordingError(
            f"{path.name}: records that start on different days ({days}); name one, or correct the dates in the headers"
        )
    if zero is not None and len(headers) > 1:
        offsets = {file.stem: (start - zero).total_seconds() for file, start in zip(headers, started, strict=True)}
        channels = [_later(c, offsets[c.source]) for c in channels]
    elif len(headers) > 1:
        notes.append(f"{len(headers)} records without a common clock; taken to start together")
    signals, more = assemble_signals(channels, overrides)
    intervals.sort(key=lambda interval: interval.onset_seconds)
    name = headers[0].stem if len(headers) == 1 else _common_name(headers)
    return Recording("", "", name, signals, tuple(intervals), zero, (*notes, *more))


def _later(channel: RawChannel, seconds: float) -> RawChannel:
    times = None if channel.times is None else channel.times + seconds
    return replace(channel, start_seconds=channel.start_seconds + seconds, times=times)


def _headers_of(path: Path) -> list[Path]:
    """Return the headers that a path means: one record, or several that share their first word."""
    if path.is_dir():
        headers = [file for file in visible_members(path) if file.suffix == ".hea"]
        # A segment is part of its record, not a recording of its own.
        parts = {name for file in headers for name in segment_names(file)}
        headers = [file for file in headers if file.stem not in parts]
        words = sorted({file.stem.rsplit("_", 1)[0] for file in headers})
        if len(words) > 1:
            raise RecordingError(
                f"{path.name}: records of {len(words)} names ({listed(words, 5)}); name one, for example "
                f"{path / headers[0].name}"
            )
    elif path.suffix == ".hea":
        headers = [path]
    elif path.is_file() and path.with_suffix(".hea").is_file():
        headers = [path.with_suffix(".hea")]  # a signal file or an annotator of it was given
    else:
        headers = list(wfdb_headers(path))
    if not 0 < len(headers) <= MOST_RECORDS:
        raise RecordingError(f"{path.name}: {len(headers)} WFDB records, expected 1 to {MOST_RECORDS}")
    return headers


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
    """Return frames ``first`` to ``last`` of signals in physical units."""
    values = _decoded_frames(header, keys, (first, last), is_physical=True)
    return [np.asarray(one, dtype=np.float64) for one in values]


def _decoded_frames(
    header: WfdbHeader, keys: list[int], span: tuple[int, int], *, is_physical: bool
) -> list[NDArray[Any]]:
    """Return frames of signals as numbers of the converter or in physical units: the one door to the library."""
    import wfdb

    n_frames = header.signals[keys[0]].n_frames
    how: dict[str, Any] = {"channels": keys, "physical": is_physical, "smooth_frames": False}
    try:
        with warnings.catch_warnings(), _with_length(header, n_frames) as path:
            warnings.simplefilter("ignore")
            record = wfdb.rdrecord(str(path), sampfrom=span[0], sampto=span[1], **how)
    except Exception as fault:  # the library raises whatever its decoding runs into
        raise RecordingError(f"{header.name}: samples cannot be read ({library_words(fault)})") from fault
    return list(record.e_p_signal if is_physical else record.e_d_signal)


def _wrong_checksums(header: WfdbHeader) -> Iterator[str]:
    """Give a note on the signals whose samples do not add up to what the header says, of each record or segment.

    The sum is all that the format has against damage. Signals that are cut, or whose header says no sum, have none.
    """
    if header.segments:
        for segment in {s.header.name: s.header for s in header.segments if s.header is not None}.values():
            yield from (f"segment {segment.name}: {note}" for note in _wrong_checksums(segment))
        return
    wrong: list[str] = []
    for name in dict.fromkeys(signal.file_name for signal in header.signals if signal.checksum is not None):
        keys = [k for k, s in enumerate(header.signals) if s.file_name == name and s.checksum is not None]
        for key, total in zip(keys, _sums(header, keys), strict=True):
            if (total - (header.signals[key].checksum or 0)) % _CHECKSUM_MODULUS:
                wrong.append(header.signals[key].label)
    if wrong:
        yield (
            f"the checksum of {listed(wrong, 5)} is not that of its samples: some changed after they were written; "
            "copy the record again, or do not trust them"
        )


def _sums(header: WfdbHeader, keys: list[int]) -> NDArray[np.int64]:
    """Return the sum of all samples of signals of one file, as numbers of the converter: (len(keys),)."""
    n_frames = header.signals[keys[0]].n_frames
    step = max(_SUMMED_AT_ONCE // sum(header.signals[key].samples_per_frame for key in keys), 1)
    total = np.zeros(len(keys), dtype=np.int64)
    for first in range(0, n_frames, step):
        pieces = _decoded_frames(header, keys, (first, min(first + step, n_frames)), is_physical=False)
        total += np.array([piece.astype(np.int64).sum() for piece in pieces])
    return total


@contextmanager
def _with_length(header: WfdbHeader, n_frames: int) -> Iterator[Path]:
    """Give a record's path for the library, which reads no samples by a header that does not say how many there are.

    Where it does not, the path is that of a temporary header that says ``n_frames``, beside links to the signal files.
    """
    if header.has_length:
        yield header.path
        return
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        place = Path(folder)
        lines = header_lines(header.path.with_name(f"{header.name}.hea"))
        name, n_signals, *rest = lines[0].split()
        rate = rest[0] if rest else f"{header.frame_rate:g}"
        lines[0] = " ".join([name, n_signals, rate, str(n_frames), *rest[2:]])
        (place / f"{header.name}.hea").write_text("\n".join(lines) + "\n", encoding="latin-1")
        for data in {signal.file_name for signal in header.signals} - {"~"}:
            source = header.path.with_name(data)
            if source.is_file():
                _link(source, place / data)
        yield place / header.name


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # a system without links
        shutil.copyfile(source, target)


def _segmented(header: WfdbHeader) -> BlockReader:
    """Return a reader over the segments of a record: NaN where a segment, or a signal in it, is missing."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        samples = np.full((len(keys), max(stop - start, 0)), np.nan)
        for row, key in enumerate(keys):
            wanted = header.signals[key]
            for segment in header.segments:
                _fill(samples[row], segment, wanted, start, stop)
        return samples

    return read


def _fill(row: FloatArray, segment: WfdbSegment, wanted: WfdbSignal, start: int, stop: int) -> None:
    """Write a segment's part of samples ``start`` to ``stop`` of one signal into ``row``."""
    if segment.header is None:
        return
    per_frame = wanted.samples_per_frame
    for key, signal in enumerate(segment.header.signals):
        if (signal.label, signal.samples_per_frame, signal.unit) != (wanted.label, per_frame, wanted.unit):
            continue
        offset = segment.first_frame * per_frame
        low = max(start, offset)
        high = min(stop, offset + min(segment.n_frames, signal.n_frames) * per_frame)
        if low < high:
            row[low - start : high - start] = _block(segment.header)([key], low - offset, high - offset)[0]
        return
