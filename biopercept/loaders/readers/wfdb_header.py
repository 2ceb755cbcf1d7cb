"""The header of a WFDB record: its signals, rates and segments, checked against the signal files that it names."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError, library_words
from biopercept.loaders.clock import LONGEST_DAYS
from biopercept.loaders.identity import COMMENTS

MOST_CHANNELS = 4096
MOST_SEGMENTS = 100_000
FASTEST = 1e6
LARGEST_HEADER = 16 << 20

_LARGEST_LIE = 100
"""A file with this many times fewer frames than its header says is of another record, or one of them is damaged."""
_PACKED = frozenset({"508", "516", "524"})
"""Storage formats in FLAC, whose file says itself how many samples it holds."""
# Bytes of one sample by storage format.
_SAMPLE_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5, "310": 4 / 3, "311": 4 / 3}


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
    lines = header_lines(file)
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


def header_lines(file: Path) -> list[str]:
    """Return the header's lines without comments and empty lines.

    Raises RecordingError where it cannot be read, is empty, or is larger than any header is.
    """
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
