"""WFDB (PhysioNet) records: several rates in one record, several records on one clock, the annotators' notes.

A record's header is checked against its signal files before a sample is read.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, library_words, listed
from biopercept.files import visible_members
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.clock import FAR_SECONDS, LONGEST_DAYS
from biopercept.loaders.identity import COMMENTS
from biopercept.loaders.readers.wfdb_annotators import wfdb_beats, wfdb_words
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import FloatArray, Interval, Recording

MOST_RECORDS = 64
MOST_CHANNELS = 4096
MOST_SEGMENTS = 100_000
FASTEST = 1e6
LARGEST_HEADER = 16 << 20

_LARGEST_LIE = 100
"""A file with this many times fewer frames than its header says is of another record, or one of them is damaged."""
_CHECKSUM_MODULUS = 1 << 16
_SUMMED_AT_ONCE = 1 << 16
_PACKED = frozenset({"508", "516", "524"})
"""Storage formats in FLAC, whose file says itself how many samples it holds."""
# Bytes of one sample by storage format.
_SAMPLE_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}


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


def segment_names(file: Path) -> set[str]:
    """Return the names of the segments that a header puts together; none where it is that of a plain record."""
    lines = _first_lines(file)
    if not lines or "/" not in lines[0].split()[0]:
        return set()
    return {line.split()[0] for line in lines[1:]} - {file.stem}


def named_in_header(file: Path) -> set[str]:
    """Return the names with which the lines below a header's first begin: its signal files, or its segments."""
    return {line.split()[0] for line in _first_lines(file)[1:]}


def _first_lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            text = _decoded(stream.read(1 << 16))
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _decoded(content: bytes) -> str:
    """Return a header's text, without the mark that an editor may have put before it."""
    return content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


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
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        lines = _lines(header.path.with_name(f"{header.name}.hea"))
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


@dataclass(frozen=True)
class WfdbSignal:
    """One signal line: label, unit ("" where it is not calibrated), samples per frame, file, frames held there.

    ``checksum`` is that of all its samples; None where the header says none, or the signal is cut.
    """

    label: str
    unit: str
    samples_per_frame: int
    file_name: str
    n_frames: int
    checksum: int | None = None


@dataclass(frozen=True)
class WfdbSegment:
    """A part of a record: where it starts (frames), how long it is, and its header; None where it is missing."""

    first_frame: int
    n_frames: int
    header: WfdbHeader | None


@dataclass(frozen=True)
class WfdbHeader:
    """A checked header; a signal that cannot be used has ``n_frames`` 0, a plain record no segments.

    Attributes
    ----------
    path : Path
        The record's path without suffix, absolute.
    frame_rate : float
        Frames per second; a signal has ``samples_per_frame`` times as many samples.
    started_at : datetime or None
        On the clock of the device (WFDB keeps no zone); None unless both date and time are given.
    has_length : bool
        Whether the header says how many frames there are; ``n_frames`` then is what the signal files hold.
    """

    path: Path
    frame_rate: float
    n_frames: int
    signals: tuple[WfdbSignal, ...]
    segments: tuple[WfdbSegment, ...]
    started_at: datetime | None
    notes: tuple[str, ...]
    has_length: bool = True

    @property
    def name(self) -> str:
        """Return the record's name."""
        return self.path.name


def read_wfdb_header(file: Path, *, allow_segments: bool = True) -> WfdbHeader:
    """Return the checked header of a WFDB record.

    Raises RecordingError where the header is damaged, or names a file outside its folder.

    ``allow_segments`` is False for the header of a segment, which must not itself have segments.
    """
    path = file.absolute().with_suffix("")
    lines = _lines(file)
    parsed = _parsed(file, path)
    rate = float(parsed.fs or 0)
    if not 0 < rate <= FASTEST:
        raise RecordingError(
            f"{file.name}: the sampling rate {parsed.fs} is not a positive number of Hz; correct the header"
        )
    notes = [COMMENTS] if any(parsed.comments or ()) else []
    record_line = lines[0].split()
    if len(record_line) < 3:
        notes.append("the header gives no sampling rate; 250 Hz by the WFDB standard")
    elif not _says(record_line[2], rate):
        raise RecordingError(f"{file.name}: the sampling rate {record_line[2]!r} cannot be read; correct the header")
    if record_line[0].split("/")[0] != path.name:
        notes.append(f"the header calls the record by another name than its file, {path.name!r}")
    started_at = _start(parsed)
    if getattr(parsed, "n_seg", None) is not None and parsed.n_seg > 0 and hasattr(parsed, "seg_name"):
        if not allow_segments:
            raise RecordingError(f"{file.name}: a segment of a record must not have segments of its own")
        segments, signals, n_frames = _segments(file, parsed, rate, notes)
        return WfdbHeader(path, rate, n_frames, signals, segments, started_at, tuple(notes))
    signals = _signals(file, parsed, lines[1:], notes)
    n_frames = max((signal.n_frames for signal in signals), default=0)
    return WfdbHeader(path, rate, n_frames, signals, (), started_at, tuple(notes), has_length=bool(parsed.sig_len))


def _says(field: str, rate: float) -> bool:
    """Return whether a rate field says what the library understood: it skips signs and stray characters."""
    try:
        return float(re.split(r"[/(]", field)[0]) == rate
    except ValueError:
        return False


def _lines(file: Path) -> list[str]:
    """Return the header's lines without comments and empty lines."""
    try:
        if file.stat().st_size > LARGEST_HEADER:
            raise RecordingError(f"{file.name}: larger than {LARGEST_HEADER >> 20} MB, which no WFDB header is")
        text = _decoded(file.read_bytes())
    except OSError as fault:
        raise RecordingError(f"{file.name}: cannot be read ({fault.strerror})") from fault
    lines = [line for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]
    if not lines:
        raise RecordingError(f"{file.name}: the header is empty")
    return lines


def _parsed(file: Path, path: Path) -> Any:
    import wfdb

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = wfdb.rdheader(str(path))
    except Exception as fault:  # the library raises whatever its parsing runs into
        raise RecordingError(
            f"{file.name}: not a WFDB header ({library_words(fault)}); correct or replace it"
        ) from fault
    if not isinstance(parsed.n_sig, int) or not 0 <= parsed.n_sig <= MOST_CHANNELS:
        raise RecordingError(f"{file.name}: {parsed.n_sig} signals, allowed are 0 to {MOST_CHANNELS}")
    return parsed


def _start(parsed: Any) -> datetime | None:
    date, time = getattr(parsed, "base_date", None), getattr(parsed, "base_time", None)
    return None if date is None or time is None else datetime.combine(date, time)


def _checked_name(file: Path, name: str) -> str:
    """Return a file name that a header gives, once it is sure that it lies in the header's own folder."""
    if not name or name != Path(name).name or name in (".", "..", "-") or "\\" in name or ":" in name:
        raise RecordingError(f"{file.name}: names the file {name!r}, which is not in its own folder; it is not opened")
    return name


def _signals(file: Path, parsed: Any, lines: list[str], notes: list[str]) -> tuple[WfdbSignal, ...]:
    if not parsed.n_sig:
        return ()
    if parsed.sig_name is None or len(lines) < parsed.n_sig or len(parsed.file_name) != parsed.n_sig:
        raise RecordingError(
            f"{file.name}: {parsed.n_sig} signals are announced, {len(lines)} described; correct the header"
        )
    frames = {name: _frames_held(file, parsed, name, notes) for name in dict.fromkeys(parsed.file_name)}
    signals = []
    uncalibrated: list[str] = []
    unitless: list[str] = []
    for i in range(parsed.n_sig):
        label = (parsed.sig_name[i] or f"signal {i + 1}").strip()
        per_frame = parsed.samps_per_frame[i] or 1
        unit = _unit(lines[i], parsed, i)
        if unit is None:
            uncalibrated.append(label)
        elif "/" not in lines[i].split()[2]:
            unitless.append(label)
        name, n_frames = parsed.file_name[i], frames[parsed.file_name[i]]
        checksum = parsed.checksum[i] if 0 < n_frames == parsed.sig_len and not parsed.skew[i] else None
        signals.append(WfdbSignal(label, unit or "", per_frame, name, n_frames, checksum))
    if uncalibrated:
        notes.append(f"the header gives no gain for {', '.join(uncalibrated)}, so their amplitude is not calibrated")
    if unitless:
        notes.append(f"the header gives no unit for {', '.join(unitless)}; mV by the WFDB standard")
    return tuple(signals)


def _unit(line: str, parsed: Any, i: int) -> str | None:
    """Return a signal's unit; None where the header does not calibrate it."""
    fields = line.split()
    gain, baseline = parsed.adc_gain[i], parsed.baseline[i]
    is_given = len(fields) > 2 and not re.match(r"[+-]?0*\.?0*([(/]|$)", fields[2])
    if not is_given or gain is None or not math.isfinite(gain) or gain == 0 or baseline is None:
        return None
    return str(parsed.units[i] or "")


def _frames_held(file: Path, parsed: Any, name: str, notes: list[str]) -> int:
    """Return how many frames of the record a signal file really holds."""
    n_stated = parsed.sig_len
    if name == "~":
        return 0
    data = file.absolute().parent / _checked_name(file, name)
    if not data.is_file():
        notes.append(f"the signal file {name} is missing; its signals are left out")
        return 0
    members = [i for i in range(parsed.n_sig) if parsed.file_name[i] == name]
    widths = {_SAMPLE_BYTES.get(str(parsed.fmt[i])) for i in members}
    width = widths.pop() if len(widths) == 1 else None
    per_frame = sum(parsed.samps_per_frame[i] or 1 for i in members)
    if all(str(parsed.fmt[i]) in _PACKED for i in members):
        n_there = _frames_of_flac(file, data, [parsed.samps_per_frame[i] or 1 for i in members])
    elif width is None or per_frame < 1:
        formats = ", ".join(sorted({str(parsed.fmt[i]) for i in members}))
        notes.append(f"{name} is stored in the formats {formats}, which one file cannot have; its signals are left out")
        return 0
    else:
        offset = parsed.byte_offset[members[0]] or 0
        n_there = max(int((data.stat().st_size - offset) / (width * per_frame) + 1e-9), 0)
    if n_there and n_stated and n_stated > _LARGEST_LIE * n_there:
        raise RecordingError(
            f"{file.name}: the header promises {n_stated} frames and {name} holds {n_there}; one of them is damaged or "
            "of another record, copy both again"
        )
    if n_stated is None or n_stated <= 0:
        notes.append(f"the header gives no length; {name} holds {n_there} frames")
        return max(n_there, 0)
    if n_there < n_stated:
        # A signal that lags in the file has its last frames behind the others', in the part that is gone.
        n_there = max(n_there - max(parsed.skew[i] or 0 for i in members), 0)
        notes.append(f"{name} is cut: {n_there} of {n_stated} frames are there and used")
    elif n_there > n_stated + 1:
        notes.append(f"{name} holds {n_there} frames, the header says {n_stated}; those beyond are left out")
    return max(min(n_there, int(n_stated)), 0)


def _frames_of_flac(file: Path, data: Path, samples_per_frame: Sequence[int]) -> int:
    """Return how many frames a FLAC file says that it holds: one channel a signal, all of one rate."""
    import soundfile

    try:
        info = soundfile.info(data)
    except RuntimeError as fault:  # that of the library
        raise RecordingError(f"{file.name}: {data.name} cannot be read as FLAC ({fault})") from fault
    if info.channels != len(samples_per_frame) or len(set(samples_per_frame)) > 1:
        raise RecordingError(
            f"{file.name}: {data.name} holds {info.channels} channels, the header has {len(samples_per_frame)} signals "
            f"of {len(set(samples_per_frame))} rates; correct the header"
        )
    return int(info.frames // samples_per_frame[0])


def _segments(
    file: Path, parsed: Any, rate: float, notes: list[str]
) -> tuple[tuple[WfdbSegment, ...], tuple[WfdbSignal, ...], int]:
    """Return the segments of a record, the signals that they share by name, and the frames of the record."""
    if len(parsed.seg_name) > MOST_SEGMENTS:
        raise RecordingError(f"{file.name}: {len(parsed.seg_name)} segments, allowed are {MOST_SEGMENTS}")
    segments: list[WfdbSegment] = []
    first = 0
    for name, length in zip(parsed.seg_name, parsed.seg_len, strict=True):
        header = None
        if name != "~":
            header = _segment(file.absolute().parent / f"{_checked_name(file, name)}.hea", rate, notes)
        if int(length) < 0:
            raise RecordingError(f"{file.name}: segment {name} has {length} frames; correct the header")
        segments.append(WfdbSegment(first, int(length), header))
        first += int(length)
    if first / rate > LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{file.name}: the record spans {first / rate / 86_400:.0f} days by its segments, at most {LONGEST_DAYS} "
            "are read; correct their lengths, or name a segment"
        )
    for note in dict.fromkeys(n for s in segments if s.header is not None for n in s.header.notes):
        notes.append(note if note == COMMENTS else f"segments: {note}")
    known: dict[str, WfdbSignal] = {}
    for segment in segments:
        for signal in segment.header.signals if segment.header is not None else ():
            known.setdefault(signal.label, signal)
    return tuple(segments), tuple(known.values()), first


def _segment(file: Path, rate: float, notes: list[str]) -> WfdbHeader | None:
    try:
        header = read_wfdb_header(file, allow_segments=False)
    except RecordingError as fault:
        notes.append(f"segment {file.stem} cannot be used and is missing samples ({fault})")
        return None
    if header.frame_rate != rate:
        notes.append(f"segment {file.stem} has {header.frame_rate:g} Hz, the record {rate:g} Hz; it is missing samples")
        return None
    return header
