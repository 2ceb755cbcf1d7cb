"""AVRO files of the Empatica EmbracePlus: one file, or a folder of consecutive files of one participant.

Each file holds some minutes of every sensor, with its start in microseconds and its rate. Decoded by fastavro, after
the container and its schema were checked: a schema may describe data that need no bytes and fill any memory, or refer
to itself without end. Names, serial numbers and the ids of site and study are in the files and are not taken.

References
----------
Apache Avro specification 1.11.1, object container files, https://avro.apache.org/docs/1.11.1/specification/.
Empatica, "Raw data in the Empatica Cloud" (naming of files, UTC), https://support.empatica.com, and the schema
``empatica.format.avro.Session`` that every file carries: acceleration in g is the value times the physical range over
the digital range of ``imuParams``.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, library_words
from biopercept.loaders.annotations import outside_note, plain_label
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_of_rows, channel_of_beats
from biopercept.loaders.clock import FAR_SECONDS, LONGEST_DAYS
from biopercept.loaders.identity import identity_of_entries
from biopercept.loaders.libraries import library_for, quiet
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

MAGIC = b"Obj\x01"
LARGEST_UNPACKED = 48 << 20
"""Bytes of one file's data: half an hour of all sensors is 2 MB; as objects in memory they need ten times more."""
LARGEST_DESCRIPTION = 1 << 20
DEEPEST_NESTING = 24
MOST_FILES = 2000
_FASTEST = 10_000.0
_EARLIEST, _LATEST = 1.4e9, 4e9  # unix seconds, 2014 to 2096
_PLAIN = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
"""Types of Avro, and the fewest bytes that they take."""
_MOST_VALUES, _MOST_VALUES_IN_LISTS = 4096, 8
_SENSORS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "accelerometer": ("acc", "g", ("x", "y", "z")),
    "gyroscope": (UNKNOWN, "deg/s", ("x", "y", "z")),
    "eda": ("eda", "uS", ("values",)),
    "temperature": ("temp", "degC", ("values",)),
    "bvp": ("bvp", "a.u.", ("values",)),
    "steps": (UNKNOWN, "", ("values",)),
}
"""Field of the raw data -> modality, unit, fields of its samples."""
_LABELS = {"eda": "EDA", "temperature": "TEMP", "bvp": "BVP"}
_TOGETHER = 1.5
"""A file that begins this many samples from the end of the one before goes on with it."""


def load_avro(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an EmbracePlus file, or of a folder of such files; gaps between them are missing samples.

    Second zero is the first sample of any sensor, the start is in UTC. Systolic peaks become intervals from beat to
    beat, none across a pause longer than a beat can be; presses of the button become intervals "tag" of duration 0.

    Raises RecordingError where no file holds the raw data of an EmbracePlus, or files are of several people or devices.
    """
    notes: list[str] = []
    parts = _parts(path, notes)
    if len({part.owner for part in parts}) > 1:
        raise RecordingError(
            f"{path.name}: the files in the folder are of more than one participant or device; give a folder for each"
        )
    parts = _near(parts, notes)
    zero = min((part.begin for part in parts), default=math.inf)
    if not math.isfinite(zero):
        raise RecordingError(
            f"{path.name}: no sensor of the EmbracePlus has samples ({'; '.join(notes) or 'all are empty'})"
        )
    raw = [channel for name in _SENSORS for channel in _sensor_channels(path, name, parts, zero, notes)]
    raw += _beats(path, parts, zero)
    signals, more = assemble_signals(raw, overrides)
    end = max(signal.end_seconds for signal in signals)
    intervals = _tags(parts, zero, end, notes)
    name = path.name.removesuffix(".avro")
    return Recording("", "", name, signals, intervals, datetime.fromtimestamp(zero, tz=UTC), (*notes, *more))


@dataclass(eq=False)
class _Sensor:
    """One sensor of one file: start in unix seconds, rate in Hz, samples (n, n_channels)."""

    started: float
    rate: float
    samples: NDArray[np.float32]


@dataclass(eq=False)
class _Part:
    """What one file holds; peaks and tags in unix seconds. ``owner`` tells files of different people apart, no more."""

    sensors: dict[str, _Sensor] = field(default_factory=dict)
    peaks: FloatArray = field(default_factory=lambda: np.zeros(0))
    tags: FloatArray = field(default_factory=lambda: np.zeros(0))
    owner: int = 0

    @property
    def begin(self) -> float:
        """Return the start of the earliest sensor in unix seconds; infinite where there is none."""
        return min((sensor.started for sensor in self.sensors.values()), default=math.inf)


def _parts(path: Path, notes: list[str]) -> list[_Part]:
    """Return the parts of a recording. A file of a folder that cannot be read is left out with a note."""
    if not path.is_dir():
        return _read(path, notes)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".avro" and file.is_file())
    if len(files) > MOST_FILES:
        raise RecordingError(f"{path.name}: {len(files)} AVRO files, at most {MOST_FILES} are one recording")
    parts = []
    faults = []
    for file in files:
        try:
            parts.extend(_read(file, notes))
        except RecordingError as fault:
            faults.append(str(fault))
    if not parts:
        raise RecordingError(f"{path.name}: no AVRO file of the folder can be used ({faults[0]})")
    notes.extend(f"left out: {fault}" for fault in faults[:20])
    if len(faults) > 20:
        notes.append(f"{len(faults)} of {len(files)} files are left out")
    return parts


def _near(parts: list[_Part], notes: list[str]) -> list[_Part]:
    """Return the parts that lie within the time that a recording can last from most others."""
    begins = np.array([part.begin for part in parts])
    with np.errstate(invalid="ignore"):  # a part without samples begins nowhere
        is_near = np.abs(begins - np.median(begins)) <= LONGEST_DAYS * FAR_SECONDS / 2
    n_far = int((~is_near).sum())
    if n_far:
        notes.append(f"{n_far} files begin more than {LONGEST_DAYS // 2} days from the others, or are empty; left out")
    return sorted((part for part, near in zip(parts, is_near, strict=True) if near), key=lambda part: part.begin)


# ---- the container ----


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the AVRO file is damaged, download it again")


class _Bytes:
    """Bytes of a container, read by the rules of Avro. Raises ValueError where they end too soon."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    @property
    def n_left(self) -> int:
        """Return how many bytes follow."""
        return len(self._content) - self.at

    def take(self, n: int) -> bytes:
        """Return the next n bytes."""
        if not 0 <= n <= self.n_left:
            raise ValueError(f"{n} bytes are stated where {self.n_left} are left")
        self.at += n
        return self._content[self.at - n : self.at]

    def number(self) -> int:
        """Return a number of variable length."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise ValueError("a number has no end")


def _read(path: Path, notes: list[str]) -> list[_Part]:
    """Return what the records of one file hold.

    Raises RecordingError where it is not an EmbracePlus file, or damaged.
    """
    if path.stat().st_size > LARGEST_UNPACKED:
        raise RecordingError(f"{path.name}: {path.stat().st_size >> 20} MB, an EmbracePlus file has less than 48 MB")
    content = _Bytes(path.read_bytes())
    if content.n_left < len(MAGIC) or content.take(len(MAGIC)) != MAGIC:
        raise RecordingError(f"{path.name}: does not begin as an AVRO container ('Obj'); download it again")
    try:
        about = _about(content)
        sync = content.take(16)
        schema = json.loads(about.get("avro.schema", b"")[:LARGEST_DESCRIPTION])
        _Schema().size(schema)
    except (ValueError, RecursionError) as fault:
        raise _fault(path, f"its header cannot be read ({library_words(fault)})") from fault
    if not set(_raw_data(schema)) & set(_SENSORS):
        raise RecordingError(
            f"{path.name}: an AVRO file of the schema {_schema_name(schema)!r}, of which nothing is known here; read"
            " are the raw data of an Empatica EmbracePlus"
        )
    fastavro = library_for(path, "fastavro")
    parts = []
    try:
        parsed = fastavro.parse_schema(schema)
        for n_records, block in _blocks(content, about.get("avro.codec", b"null").decode("ascii", "replace"), sync):
            stream = io.BytesIO(block)
            with quiet():
                parts += [
                    _part(fastavro.schemaless_reader(stream, parsed, None), path, notes) for _ in range(n_records)
                ]
    except RecordingError:
        raise
    except Exception as fault:
        if not parts:
            raise _fault(path, f"its records cannot be read ({library_words(fault)})") from fault
        notes.append(f"{path.name}: cut or damaged ({fault}); what comes before is used")
    if not parts:
        raise _fault(path, "it holds no record")
    return parts


def _about(content: _Bytes) -> dict[str, bytes]:
    """Return the metadata of a container."""
    about: dict[str, bytes] = {}
    while n := content.number():
        if n < 0:
            n, _ = -n, content.number()
        if n > content.n_left:
            raise ValueError(f"{n} entries are stated where {content.n_left} bytes are left")
        for _ in range(n):
            key = content.take(content.number()).decode("utf-8", "replace")
            about[key] = content.take(content.number())
    return about


def _blocks(content: _Bytes, codec: str, sync: bytes) -> Iterator[tuple[int, bytes]]:
    """Give (number of records, unpacked bytes) of each block.

    Raises ValueError where one does not hold what it says.
    """
    if codec not in ("null", "deflate"):
        raise ValueError(f"the codec {codec!r} is not read")
    unpacked = 0
    while content.n_left:
        n_records, block = content.number(), content.take(content.number())
        if content.take(16) != sync:
            raise ValueError("a block does not end with the file's mark")
        if codec == "deflate":
            unpacker = zlib.decompressobj(-15)
            block = unpacker.decompress(block, LARGEST_UNPACKED - unpacked + 1)
        unpacked += len(block)
        if unpacked > LARGEST_UNPACKED:
            raise ValueError(f"the data unpack to more than {LARGEST_UNPACKED >> 20} MB")
        if not 0 <= n_records <= len(block):
            raise ValueError(f"{n_records} records are stated in {len(block)} bytes")
        yield n_records, block


@dataclass(frozen=True)
class _Size:
    """Of a value of a schema: the fewest bytes that it takes, and how many values it is made of, lists counted once."""

    least: int
    n_values: int


class _Schema:
    """Checks a schema. Raises ValueError where a few bytes, or none, could describe data that fill any memory."""

    def __init__(self) -> None:
        self._named: dict[str, _Size] = {}

    def size(self, schema: Any, depth: int = 0) -> _Size:
        """Return how large a value is at least."""
        if depth > DEEPEST_NESTING:
            raise ValueError("its schema is nested too deeply")
        if isinstance(schema, str):
            return self._size_of_word(schema)
        if isinstance(schema, list):
            sizes = [self.size(one, depth + 1) for one in schema]
            return _Size(1, 1 + max((size.n_values for size in sizes), default=0))
        if not isinstance(schema, dict):
            raise ValueError("its schema is malformed")
        kind = schema.get("type")
        if kind == "record":
            return self._keep(schema, self._size_of_record(schema, depth))
        if kind in ("enum", "fixed"):
            return self._keep(schema, _Size(1, 1))
        if kind in ("array", "map"):
            size = self.size(schema.get("items" if kind == "array" else "values"), depth + 1)
            if not size.least and kind == "array":
                raise ValueError("its schema has lists of what takes no bytes")
            if size.n_values > _MOST_VALUES_IN_LISTS * max(size.least, 1):
                raise ValueError("its schema has lists of records that hardly take bytes")
            return _Size(1, 1 + size.n_values)
        return self.size(kind, depth + 1)

    def _size_of_word(self, word: str) -> _Size:
        if word in _PLAIN:
            return _Size(_PLAIN[word], 1)
        if word not in self._named:
            raise ValueError("its schema refers to itself, or to a type that it does not describe")
        return self._named[word]

    def _size_of_record(self, schema: dict[str, Any], depth: int) -> _Size:
        fields = schema.get("fields")
        if not isinstance(fields, list) or not all(isinstance(one, dict) for one in fields):
            raise ValueError("its schema has a record without fields")
        sizes = [self.size(one.get("type"), depth + 1) for one in fields]
        total = _Size(sum(size.least for size in sizes), 1 + sum(size.n_values for size in sizes))
        if total.n_values > _MOST_VALUES:
            raise ValueError("its schema has records of too many fields")
        return total

    def _keep(self, schema: dict[str, Any], size: _Size) -> _Size:
        """Keep a named type, from here on: it cannot have referred to itself."""
        name, space = str(schema.get("name", "")), str(schema.get("namespace", ""))
        for one in (name, name.rpartition(".")[2], f"{space}.{name}"):
            self._named[one] = size
        return size


def _raw_data(schema: Any) -> list[str]:
    """Return the names of the fields of the raw data that a schema describes; none where it describes none."""
    fields = schema.get("fields", []) if isinstance(schema, dict) else []
    raw = next((one.get("type") for one in fields if one.get("name") == "rawData"), None)
    return [str(one.get("name")) for one in raw.get("fields", [])] if isinstance(raw, dict) else []


def _schema_name(schema: Any) -> str:
    name = schema.get("name") if isinstance(schema, dict) else schema
    return plain_label(str(name or "without a name"))[:80]


# ---- one record ----


def _part(record: Any, path: Path, notes: list[str]) -> _Part:
    """Return what is used of a record."""
    raw, enrolled = record.get("rawData") or {}, record.get("enrollment")
    notes.extend(
        note for note in identity_of_entries(enrolled if isinstance(enrolled, dict) else {}) if note not in notes
    )
    part = _Part(
        owner=hash(json.dumps([record.get("enrollment"), record.get("deviceSn")], sort_keys=True, default=str))
    )
    for name, (_, _, fields) in _SENSORS.items():
        content = raw.get(name) or {}
        columns = [np.asarray(content.get(one) or [], dtype=np.float32) for one in fields]
        n = min(len(column) for column in columns)
        if not n:
            continue
        started, rate = float(content.get("timestampStart") or 0) / 1e6, float(content.get("samplingFrequency") or 0)
        if not _EARLIEST < started < _LATEST or not 0 < rate <= _FASTEST:
            notes.append(f"{path.name}: {name} has no start or rate that can be ({rate:g} Hz); left out")
            continue
        if max(len(column) for column in columns) > n:
            notes.append(f"{path.name}: the axes of {name} differ in length; the longer ones are cut")
        samples = np.stack([column[:n] for column in columns], axis=1)
        if fields[0] == "x":
            scale = _scale(content.get("imuParams"))
            if scale is None:
                notes.append(
                    f"{path.name}: {name} has no usable range (imuParams), so its counts have no unit; left out"
                )
                continue
            samples *= np.float32(scale)
        part.sensors[name] = _Sensor(started, rate, samples)
    part.peaks = _moments((raw.get("systolicPeaks") or {}).get("peaksTimeNanos"), 1e9)
    part.tags = _moments((raw.get("tags") or {}).get("tagsTimeMicros"), 1e6)
    return part


def _scale(ranges: Any) -> float | None:
    """Return physical units per count; None where the ranges give none."""
    if not isinstance(ranges, dict):
        return None
    keys = ("physicalMin", "physicalMax", "digitalMin", "digitalMax")
    low, high, digital_low, digital_high = (float(ranges.get(key) or 0) for key in keys)
    scale = (high - low) / (digital_high - digital_low) if digital_high > digital_low else 0.0
    return scale if 0 < scale < math.inf else None


def _moments(values: Any, per_second: float) -> FloatArray:
    """Return times in unix seconds, in order, each once; those that cannot be are left out."""
    times = np.unique(np.asarray(values or [], dtype=np.float64) / per_second)
    return times[(times > _EARLIEST) & (times < _LATEST)]


# ---- several files as one recording ----


def _sensor_channels(path: Path, name: str, parts: Sequence[_Part], zero: float, notes: list[str]) -> list[RawChannel]:
    """Return a sensor of all parts as channels on one grid."""
    sensors = [part.sensors[name] for part in parts if name in part.sensors]
    if not sensors:
        return []
    modality, unit, fields = _SENSORS[name]
    rate = float(np.median([sensor.rate for sensor in sensors]))
    start = sensors[0].started
    cells: list[NDArray[np.int64]] = []
    kept: list[NDArray[np.float32]] = []
    end = n_over = n_missing = 0
    astray = 0.0
    for sensor in sensors:
        wanted = (sensor.started - start) * rate
        cell = end if abs(wanted - end) <= _TOGETHER else round(wanted)
        skipped = min(max(end - cell, 0), len(sensor.samples))
        n_over += skipped
        n_missing += max(cell - end, 0)
        n = len(sensor.samples)
        astray = max(astray, abs(cell + (n - 1) - wanted - (n - 1) * rate / sensor.rate))
        cells.append(np.arange(cell + skipped, cell + n))
        kept.append(sensor.samples[skipped:])
        end = max(end, cell + n)
    if n_missing:
        notes.append(f"{name}: gaps between files, {n_missing / rate:.1f} s in all, are missing samples")
    if n_over:
        notes.append(
            f"{name}: {n_over} samples of a file lie where the one before has samples already, and are left out"
        )
    if astray > 2:
        notes.append(f"{name}: files state different rates; samples lie up to {astray / rate:.3f} s from their times")
    block = block_of_rows(np.concatenate(kept), np.concatenate(cells))
    return [
        RawChannel(
            label=_LABELS.get(name, name if one == "values" else one if name == "accelerometer" else f"{name} {one}"),
            unit=MODALITIES[modality].unit if modality != UNKNOWN else unit,
            sampling_rate=rate,
            start_seconds=start - zero,
            n_samples=end,
            key=key,
            block=block,
            source=path.name,
            modality=modality,
            recognised_by=FORMAT if modality != UNKNOWN else "",
        )
        for key, one in enumerate(fields)
    ]


def _beats(path: Path, parts: Sequence[_Part], zero: float) -> list[RawChannel]:
    """Return the intervals from peak to peak at the time of the later one; none that is longer than a beat can be."""
    peaks = np.unique(np.concatenate([part.peaks for part in parts]))
    intervals = np.diff(peaks)
    is_beat = intervals <= MODALITIES["ibi"].plausible[1]
    if not is_beat.any():
        return []
    times = peaks[1:][is_beat] - zero
    return [channel_of_beats("IBI", path.name, times, intervals[is_beat])]


def _tags(parts: Sequence[_Part], zero: float, end: float, notes: list[str]) -> tuple[Interval, ...]:
    onsets = np.unique(np.concatenate([part.tags for part in parts])) - zero
    is_inside = (onsets >= 0) & (onsets <= end)
    if not is_inside.all():
        notes.append(outside_note(int((~is_inside).sum()), "tag"))
    return tuple(Interval(float(onset), 0.0, "tag") for onset in onsets[is_inside])
