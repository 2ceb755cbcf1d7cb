"""EDF, EDF+, BDF and BDF+ files: every channel at its own rate, samples read on demand.

The header is checked field by field before a sample is read: EDF has no checksum and lenient readers turn a damaged
field into wrong amplitudes, so a field that cannot be trusted refuses its channel, and a file whose geometry does not
hold is refused whole. The samples are read here, not through a library: libraries join the parts of a discontinuous
file without a word and read whole signals. The tests compare this reader with another's output.

References
----------
Kemp B, Olivan J. European data format 'plus' (EDF+). Clin Neurophysiol 2003;114:1755-61.
doi:10.1016/S1388-2457(03)00123-8. Annotations: EDF+ specification, section 2.2 (time-stamped annotation lists),
https://www.edfplus.info/specs/edfplus.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, count
from biopercept.loaders.annotations import MOST_ANNOTATIONS, outside_note, plain_label
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.clock import stray_times
from biopercept.loaders.identity import identity_notes
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import FloatArray, Interval, Recording

_CHUNK_BYTES = 1 << 22
LONGEST_DAYS = 14
"""A discontinuous file that claims to span more is refused: no recording does, a damaged onset does."""
FASTEST = 1e6
MOST_CHANNELS = 4096
LONGEST_RECORD_SECONDS = 86400.0
_FIXED = 256
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_MAGIC_EDF, _MAGIC_BDF = b"0       ", b"\xffBIOSEMI"


def load_edf(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an EDF, EDF+, BDF or BDF+ file, its samples unread.

    Second zero is the first sample. Gaps of a discontinuous file are NaN.
    Annotations become intervals.

    Raises RecordingError where the header cannot be trusted or no signal is left.
    """
    header = read_edf_header(path)
    notes = list(header.notes)
    annotations = read_annotations(path, header)
    notes.extend(annotations.notes)
    starts, kept = _record_starts(path, header, annotations.record_onsets, notes)
    raw: list[RawChannel] = []
    for key, channel in enumerate(header.channels):
        if _is_usable(channel, notes):
            raw.append(_raw_channel(path, header, key, channel, starts, kept))
    if not raw:
        raise RecordingError(f"{path.name}: no channel of the file can be used ({'; '.join(notes)})")
    blocks = {channel.sampling_rate: channel.block for channel in raw}  # one reader per rate, so that EEG is one group
    raw = [replace(channel, block=blocks[channel.sampling_rate]) for channel in raw]
    signals, more = assemble_signals(raw, overrides)
    duration = max(signal.end_seconds for signal in signals)
    intervals = _within(annotations.intervals, duration, notes)
    started_at = header.started_at
    if started_at is not None:
        started_at += timedelta(seconds=annotations.first_onset)
    return Recording("", "", path.stem, signals, intervals, started_at, (*notes, *more))


def read_triggers(path: Path) -> tuple[tuple[float, int], ...]:
    """Return seconds and code of each trigger in the last channel of a BDF: where its low byte changes, but for 0.

    Raises RecordingError where the header cannot be trusted, or the last channel cannot be read.
    """
    header = read_edf_header(path)
    channel = header.channels[-1]
    if channel.fault or channel.is_annotation:
        raise RecordingError(f"{path.name}: its last channel ({channel.label!r}) is no trigger channel")
    raw = _raw_channel(path, header, len(header.channels) - 1, channel, None, np.arange(header.n_records))
    digital = np.rint((raw.block([raw.key], 0, raw.n_samples)[0] - channel.offset) / channel.scale)
    codes = digital.astype(np.int64) & 0xFF
    changes = np.flatnonzero(np.diff(codes, prepend=0))
    return tuple((float(at) / raw.sampling_rate, int(codes[at])) for at in changes if codes[at])


@dataclass(frozen=True)
class AnnotationFile:
    """What an EDF+ file of annotations alone says (a hypnogram): intervals from ``started_at``, in time order."""

    started_at: datetime | None
    intervals: tuple[Interval, ...]
    notes: tuple[str, ...]


def read_annotation_file(path: Path) -> AnnotationFile | None:
    """Return what a file of annotations alone says; None where it is no EDF, or has a signal.

    Raises RecordingError where its header cannot be trusted.
    """
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        if not is_edf(stream.read(_FIXED)):
            return None
    header = read_edf_header(path, only_annotations=True)
    if not all(channel.is_annotation for channel in header.channels):
        return None
    annotations = read_annotations(path, header)
    started_at = header.started_at
    if started_at is not None:
        started_at += timedelta(seconds=annotations.first_onset)
    return AnnotationFile(started_at, annotations.intervals, (*header.notes, *annotations.notes))


def _is_usable(channel: EdfChannel, notes: list[str]) -> bool:
    if channel.is_annotation:
        return False
    if channel.fault:
        notes.append(
            f"{channel.label or 'a channel without label'}: {channel.fault} cannot be used; the channel is left out"
        )
        return False
    if channel.label.lower() in ("status", "bdf status"):
        notes.append(f"{channel.label}: trigger channel, not a sensor; left out")
        return False
    return True


def _record_starts(
    path: Path, header: EdfHeader, onsets: FloatArray | None, notes: list[str]
) -> tuple[FloatArray | None, NDArray[np.intp]]:
    """Return the start of each record kept, seconds from the first, or None where they follow each other; and which."""
    everything = np.arange(header.n_records)
    if onsets is None:
        if header.is_discontinuous:
            raise RecordingError(
                f"{path.name}: the file says it is discontinuous but its records carry no onsets, so gaps cannot be"
                " placed; export it as continuous EDF+C"
            )
        return None, everything
    is_known = np.isfinite(onsets)
    starts = onsets - onsets[is_known][0]
    late = starts - everything * header.record_seconds
    if np.all(np.abs(late) < 1e-3 * header.record_seconds + 1e-6):
        return None, everything
    starts, everything = starts[is_known], everything[is_known]
    if starts.max() > LONGEST_DAYS * 86400:
        raise RecordingError(
            f"{path.name}: a data record starts {starts.max():g} s after the first; the onsets are damaged"
        )
    end = np.maximum.accumulate(np.concatenate([[-np.inf], starts[:-1] + header.record_seconds]))
    is_forward = starts >= end - 1e-3 * header.record_seconds
    if not is_forward.all():
        first = int(np.flatnonzero(~is_forward)[0])
        notes.append(
            f"{int((~is_forward).sum())} data records start before the one before them ends and are left out (the "
            f"first is number {everything[first] + 1}, {starts[first]:g} s from the beginning)"
        )
    kept = everything[is_forward]
    starts = starts[is_forward]
    gaps = np.diff(starts) - header.record_seconds
    is_gap = gaps > 1e-3 * header.record_seconds
    if is_gap.any():
        notes.append(
            f"discontinuous: {count(int(is_gap.sum()), 'gap')}, {gaps[is_gap].sum():.1f} s in all, are missing samples"
        )
    return starts, kept


def _raw_channel(
    path: Path,
    header: EdfHeader,
    key: int,
    channel: EdfChannel,
    starts: FloatArray | None,
    kept: NDArray[np.intp],
) -> RawChannel:
    rate = channel.samples_per_record / header.record_seconds
    if starts is None:
        firsts = np.arange(header.n_records) * channel.samples_per_record
    else:
        firsts = np.round(starts * rate).astype(np.int64)
    return RawChannel(
        label=channel.label,
        unit=channel.unit,
        sampling_rate=rate,
        start_seconds=0.0,
        n_samples=int(firsts[-1]) + channel.samples_per_record,
        key=key,
        block=_block(path, header, firsts, kept),
        source=path.name,
    )


def _block(path: Path, header: EdfHeader, firsts: NDArray[np.int64], records: NDArray[np.intp]) -> BlockReader:
    """Return a reader of the channels that have ``firsts`` as the first sample of each data record."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        channels = [header.channels[key] for key in keys]
        samples = np.full((len(channels), max(stop - start, 0)), np.nan)
        first = max(int(np.searchsorted(firsts, start, side="right")) - 1, 0)
        last = int(np.searchsorted(firsts, stop, side="left"))
        step = max(1, _CHUNK_BYTES // header.record_bytes)
        at = first
        while at < last:
            n = min(step, last - at)
            # Records that were left out lie between: read only runs that follow each other in the file.
            run = int(np.argmax(np.append(np.diff(records[at : at + n]) != 1, True))) + 1
            content = _records(path, header, int(records[at]), run)
            _place(samples, content, header, channels, firsts[at : at + run], start)
            at += run
        return samples

    return read


def _records(path: Path, header: EdfHeader, first: int, n: int) -> NDArray[np.uint8]:
    """Return data records as bytes, shape (n, record_bytes)."""
    try:
        with path.open("rb") as stream:
            stream.seek(header.header_bytes + first * header.record_bytes)
            content = stream.read(n * header.record_bytes)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    if len(content) < n * header.record_bytes:
        raise RecordingError(f"{path.name}: the file became shorter while it was read; load it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(n, header.record_bytes)


def _place(
    samples: FloatArray,
    records: NDArray[np.uint8],
    header: EdfHeader,
    channels: Sequence[EdfChannel],
    firsts: NDArray[np.int64],
    start: int,
) -> None:
    """Write the samples of data records to where they belong in ``samples``, whose first column is sample ``start``."""
    per_record = channels[0].samples_per_record
    first = int(firsts[0]) - start
    last = first + len(firsts) * per_record
    low, high = max(first, 0), min(last, samples.shape[1])
    has_gaps = bool((np.diff(firsts) != per_record).any())
    columns = (firsts[:, None] + np.arange(per_record)).ravel() - start if has_gaps else np.zeros(0, dtype=np.int64)
    is_wanted = (columns >= 0) & (columns < samples.shape[1])
    for row, channel in enumerate(channels):
        field = records[:, channel.byte_offset : channel.byte_offset + per_record * header.sample_bytes]
        physical = _digital(field, header.sample_bytes) * channel.scale + channel.offset
        if has_gaps:
            samples[row, columns[is_wanted]] = physical[is_wanted]
        else:
            samples[row, low:high] = physical[low - first : high - first]


def _digital(field: NDArray[np.uint8], width: int) -> FloatArray:
    """Return little-endian two's complement integers of 2 or 3 bytes as floats, in order."""
    if width == 2:
        return np.ascontiguousarray(field).view("<i2").ravel().astype(np.float64)
    values = np.zeros((field.size // width, 4), dtype=np.uint8)
    values[:, 4 - width :] = field.reshape(-1, width)  # at the top of 32 bits, so that the sign is kept
    return (values.view("<i4").ravel() >> (8 * (4 - width))).astype(np.float64)


def _within(intervals: tuple[Interval, ...], duration: float, notes: list[str]) -> tuple[Interval, ...]:
    kept = tuple(interval for interval in intervals if 0 <= interval.onset_seconds <= duration)
    if len(kept) < len(intervals):
        notes.append(outside_note(len(intervals) - len(kept), "annotation"))
    return kept


@dataclass(frozen=True)
class EdfChannel:
    """One channel of the header: physical value = digital * scale + offset; ``fault`` says why it cannot be used."""

    label: str
    unit: str
    samples_per_record: int
    byte_offset: int
    scale: float
    offset: float
    is_annotation: bool
    fault: str


@dataclass(frozen=True)
class EdfHeader:
    """The geometry of a file, consistent with its size: ``n_records`` are the full data records that it really holds.

    The start is on the clock of the device (EDF keeps no zone), None where the date is impossible.
    """

    is_bdf: bool
    is_discontinuous: bool
    started_at: datetime | None
    header_bytes: int
    record_bytes: int
    record_seconds: float
    n_records: int
    channels: tuple[EdfChannel, ...]
    notes: tuple[str, ...]

    @property
    def sample_bytes(self) -> int:
        """Return the bytes of one sample: 2 in EDF, 3 in BDF."""
        return 3 if self.is_bdf else 2


def is_edf(first_bytes: bytes) -> bool:
    """Return whether a file that begins so is EDF or BDF."""
    return first_bytes[:8] in (_MAGIC_EDF, _MAGIC_BDF)


def read_edf_header(path: Path, *, only_annotations: bool = False) -> EdfHeader:
    """Return the checked header of an EDF, EDF+, BDF or BDF+ file; of annotations alone where ``only_annotations``.

    Raises RecordingError where the header is cut, a count contradicts the file's size, or no data follow.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        fixed = stream.read(_FIXED)
        if len(fixed) < _FIXED or not is_edf(fixed):
            raise _fault(path, f"{size} bytes do not hold the 256-byte header of an EDF or BDF file")
        n_channels = _count(path, fixed[252:256], "number of channels", 1, MOST_CHANNELS)
        header_bytes = _FIXED * (n_channels + 1)
        table = stream.read(header_bytes - _FIXED)
    if len(table) < header_bytes - _FIXED:
        raise _fault(path, f"the header of {n_channels} channels needs {header_bytes} bytes, the file has {size}")
    notes: list[str] = []
    is_bdf = fixed[:8] == _MAGIC_BDF
    record_seconds = _number(fixed[244:252])
    channels = _channels(table, n_channels, is_bdf, notes)
    if not only_annotations:
        _check_record_seconds(path, record_seconds, channels)
    record_bytes = sum(c.samples_per_record for c in channels) * (3 if is_bdf else 2)
    if record_bytes == 0:
        raise _fault(path, "no channel has a valid number of samples per data record")
    _refuse_contradiction(path, _integer(fixed[236:244]), size - header_bytes, channels, 3 if is_bdf else 2)
    n_records = _n_records(path, fixed[236:244], size - header_bytes, record_bytes, notes)
    _note_header_bytes(fixed[184:192], header_bytes, notes)
    notes.extend(identity_notes(_text(fixed[8:88])))
    return EdfHeader(
        is_bdf=is_bdf,
        is_discontinuous=_text(fixed[192:236]).upper().startswith(("EDF+D", "BDF+D")),
        started_at=_start(fixed, notes),
        header_bytes=header_bytes,
        record_bytes=record_bytes,
        record_seconds=record_seconds,
        n_records=n_records,
        channels=channels,
        notes=tuple(notes),
    )


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the file is damaged or not EDF, export it again")


def _text(field: bytes) -> str:
    return field.decode("latin-1").replace("\x00", " ").strip()


def _number(field: bytes) -> float:
    """Return the number of a field, NaN where it holds none (a comma for the decimal point is a known slip)."""
    try:
        value = float(_text(field).replace(",", "."))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _integer(field: bytes) -> int | None:
    text = _text(field)
    return int(text) if text.lstrip("+-").isascii() and text.lstrip("+-").isdigit() else None


def _count(path: Path, field: bytes, what: str, least: int, most: int) -> int:
    value = _integer(field)
    if value is None or not least <= value <= most:
        raise _fault(path, f"the {what} is {_text(field)!r}, which is not a whole number from {least} to {most}")
    return value


def _channels(table: bytes, n_channels: int, is_bdf: bool, notes: list[str]) -> tuple[EdfChannel, ...]:
    columns: list[list[bytes]] = []
    at = 0
    for width in _FIELDS:
        columns.append([table[at + i * width : at + (i + 1) * width] for i in range(n_channels)])
        at += width * n_channels
    channels: list[EdfChannel] = []
    byte_offset = 0
    for row in zip(*columns, strict=True):
        channel = _channel(row, byte_offset, is_bdf)
        byte_offset += channel.samples_per_record * (3 if is_bdf else 2)
        channels.append(channel)
    if any(b > 126 or b < 32 for row in columns[0] for b in row):
        notes.append("labels hold bytes outside printable ASCII, which EDF does not allow; they are shown as Latin-1")
    return tuple(channels)


def _channel(row: tuple[bytes, ...], byte_offset: int, is_bdf: bool) -> EdfChannel:
    label, unit = _text(row[0]), _text(row[2])
    is_annotation = label in ("EDF Annotations", "BDF Annotations")
    samples = _integer(row[8])
    fault = "" if samples is not None and samples > 0 else f"{_text(row[8])!r} samples per data record"
    scale, offset = 1.0, 0.0
    if not is_annotation and not fault:
        scale, offset, fault = _calibration(row, is_bdf)
    return EdfChannel(label, unit, max(samples or 0, 0), byte_offset, scale, offset, is_annotation, fault)


def _calibration(row: tuple[bytes, ...], is_bdf: bool) -> tuple[float, float, str]:
    """Return scale, offset and a fault: digital and physical limits that give no trustworthy amplitude."""
    low, high = _number(row[3]), _number(row[4])
    digital_low, digital_high = _integer(row[5]), _integer(row[6])
    rail = 1 << (23 if is_bdf else 15)
    if digital_low is None or digital_high is None or not -rail <= digital_low < digital_high <= rail:
        return 1.0, 0.0, f"digital limits {_text(row[5])!r} to {_text(row[6])!r}"
    if math.isnan(low) or math.isnan(high) or low == high:
        return 1.0, 0.0, f"physical limits {_text(row[3])!r} to {_text(row[4])!r}"
    # Physical limits the other way round are the standard's way to say that the polarity is turned.
    scale = (high - low) / (digital_high - digital_low)
    return scale, low - digital_low * scale, ""


def _check_record_seconds(path: Path, record_seconds: float, channels: tuple[EdfChannel, ...]) -> None:
    if all(channel.is_annotation for channel in channels):
        raise RecordingError(
            f"{path.name}: the file holds annotations only and no signal; to label a recording with them, name it in "
            "recordings.tsv in a second row of that recording (the same participant_id and recording)"
        )
    if not 0 < record_seconds <= LONGEST_RECORD_SECONDS:
        raise _fault(path, f"the duration of a data record is {record_seconds:g} s, not a positive number of seconds")
    fastest = max(channel.samples_per_record for channel in channels if not channel.is_annotation) / record_seconds
    if fastest > FASTEST:
        raise _fault(path, f"a sampling rate is {fastest:g} Hz (data records of {record_seconds:g} s), which none is")


def _refuse_contradiction(
    path: Path, n_stated: int | None, data_bytes: int, channels: Sequence[EdfChannel], sample_bytes: int
) -> None:
    """Refuse a count of samples that is damaged: channels would be shifted into each other, and look like signals.

    The file's size contradicts the records of this header by a part of one, and would be exactly that of the stated
    number of records of another size; or records are too many, and a channel has none of their samples. A file that was
    cut has the first by chance, once in some tens of cases. Raises RecordingError.
    """
    if n_stated is None or n_stated < 2 or data_bytes < n_stated * sample_bytes:
        return
    n_there, stray = divmod(data_bytes, sum(c.samples_per_record for c in channels) * sample_bytes)
    is_of_another_size = n_there != n_stated and stray and data_bytes % (n_stated * sample_bytes) == 0
    emptied = [c.label for c in channels if not c.samples_per_record]
    if not is_of_another_size and not (n_there > n_stated and emptied):
        return
    counts = f"the size of its data, {data_bytes} bytes, is that of {n_stated} data records, as the header says, of "
    counts += (
        f"{data_bytes // n_stated // sample_bytes} samples, and not of {sum(c.samples_per_record for c in channels)}"
    )
    raise _fault(path, f"the samples per data record of a channel contradict the file's size: {counts}")


def _n_records(path: Path, field: bytes, data_bytes: int, record_bytes: int, notes: list[str]) -> int:
    n_there, stray = divmod(data_bytes, record_bytes)
    if n_there < 1:
        raise _fault(path, f"{data_bytes} bytes of data do not fill one data record of {record_bytes} bytes")
    n_stated = _integer(field)
    if n_stated is None or n_stated < 0:
        notes.append(
            f"the header says {_text(field)!r} data records (the recorder did not finish); {n_there} were found"
        )
    elif n_stated > n_there:
        notes.append(f"the file is cut: {n_there} of {n_stated} data records are there and used")
    elif n_stated < n_there:
        notes.append(f"the header says {n_stated} data records but {n_there} are there; all are used")
    if stray:
        notes.append(f"{stray} bytes after the last whole data record are left out")
    return n_there


def _note_header_bytes(field: bytes, header_bytes: int, notes: list[str]) -> None:
    if _integer(field) != header_bytes:
        notes.append(
            f"the header says it is {_text(field)!r} bytes long, its channels make it {header_bytes}; these were used"
        )


def _start(fixed: bytes, notes: list[str]) -> datetime | None:
    try:
        day, month, year = (int(part) for part in _text(fixed[168:176]).split("."))
        hour, minute, second = (int(part) for part in _text(fixed[176:184]).split("."))
        return datetime(year + (1900 if year >= 85 else 2000), month, day, hour, minute, second)
    except ValueError:
        notes.append("the start date or time in the header is impossible and was left out")
        return None


@dataclass(frozen=True)
class EdfAnnotations:
    """What the annotation channels of a file say.

    ``record_onsets`` are seconds from the header's start time, NaN for an onset that all others contradict, None where
    the file does not say them for every record; intervals are in time order, seconds from the first sample.
    """

    record_onsets: FloatArray | None
    first_onset: float
    intervals: tuple[Interval, ...]
    notes: tuple[str, ...]


def read_annotations(path: Path, header: EdfHeader) -> EdfAnnotations:
    """Return the annotations of a file whose header was checked.

    Raises RecordingError where the file cannot be read.
    """
    channels = [channel for channel in header.channels if channel.is_annotation and channel.samples_per_record]
    if not channels:
        return EdfAnnotations(None, 0.0, (), ())
    onsets = np.full(header.n_records, np.nan)
    annotations: list[tuple[float, float, str]] = []
    n_broken = 0
    for record, position, content in _contents(path, header, channels):
        for number, entry in enumerate(content.split(b"\x00")):
            if not entry:
                continue
            parsed = _entry(entry)
            if parsed is None:
                n_broken += 1
                continue
            onset, duration, texts = parsed
            # The first list of a record's first annotation channel has an empty text and says when the record starts.
            if position == 0 and number == 0 and texts[:1] == [""]:
                onsets[record] = onset
            annotations.extend(
                (onset, duration, text) for text in texts if text and len(annotations) < MOST_ANNOTATIONS
            )
    notes = []
    if n_broken:
        notes.append(
            f"{count(n_broken, 'annotation cannot be read and is', 'annotations cannot be read and are')} left out"
        )
    if len(annotations) >= MOST_ANNOTATIONS:
        notes.append(f"only the first {MOST_ANNOTATIONS} annotations are used")
    is_known = bool(np.isfinite(onsets).all())
    if not is_known and np.isfinite(onsets).any():
        notes.append(f"{int(np.isnan(onsets).sum())} data records do not say when they start")
    is_stray = stray_times(onsets)
    if is_stray.any():
        notes.append(
            f"{int(is_stray.sum())} data records have an onset that all others contradict "
            f"({onsets[is_stray][0]:g} s the first) and are left out"
        )
    first = float(onsets[~is_stray][0]) if np.isfinite(onsets[0]) else 0.0
    onsets[is_stray] = np.nan
    intervals = sorted((Interval(onset - first, duration, text) for onset, duration, text in annotations), key=_when)
    return EdfAnnotations(onsets if is_known else None, first, tuple(intervals), tuple(notes))


def _when(interval: Interval) -> float:
    return interval.onset_seconds


def _contents(path: Path, header: EdfHeader, channels: list[EdfChannel]) -> Iterator[tuple[int, int, bytes]]:
    """Give (record, position of the annotation channel, its bytes) of every data record."""
    try:
        with path.open("rb", buffering=0) as stream:
            for record in range(header.n_records):
                for position, channel in enumerate(channels):
                    stream.seek(header.header_bytes + record * header.record_bytes + channel.byte_offset)
                    yield record, position, stream.read(channel.samples_per_record * header.sample_bytes)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault


def _entry(entry: bytes) -> tuple[float, float, list[str]] | None:
    """Return onset, duration (0 where none is given) and texts of one annotation list; None if it is malformed."""
    head, *texts = entry.split(b"\x14")
    onset_text, _, duration_text = head.partition(b"\x15")
    try:
        onset = float(onset_text)
        duration = float(duration_text) if duration_text else 0.0
    except ValueError:
        return None
    is_sound = onset_text[:1] in b"+-" and texts and math.isfinite(onset) and math.isfinite(duration) and duration >= 0
    if not is_sound:
        return None
    # The bytes after the last separator are empty in a well-formed list.
    return onset, duration, [plain_label(text.decode("utf-8", "replace")) for text in (texts[:-1] or texts)]
