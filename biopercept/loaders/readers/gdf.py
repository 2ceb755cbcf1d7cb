"""GDF recordings, version 1 and 2: every channel at its own rate, samples read on demand.

They are read here and not through mne, which brings every channel to the fastest rate and takes units that it does not
know (of version 1 all but microvolts) for volts. The tests compare this reader with mne's output.

References
----------
Schloegl A. GDF: a general dataformat for biosignals. arXiv:cs/0608052; 2006 (version 2.51, 2013). Units: ISO/IEEE
11073-10101, annex A, as listed in section 4 of the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import placed_intervals
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.identity import HIDDEN, identity_notes
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import FloatArray, Recording

MOST_CHANNELS = 4096
FASTEST = 1e6
_FIXED = 256
_CHUNK_BYTES = 1 << 22
_TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<i8", 8: "<u8", 16: "<f4", 17: "<f8"}
_PREFIXES = {0: "", 18: "m", 19: "u", 20: "n"}
_UNITS = {4256: "V", 6048: "degC", 4384: "K", 544: "%"}
"""Codes of version 2; the lowest five bits are the power of ten."""
_NEW_SEGMENT = 0x7FFE
_START_CODE = 0x8000
"""Added to a code where an event ends."""


@dataclass(frozen=True)
class GdfHeader:
    """The checked header; ``n_records`` are the full data records that are there, ``events_at`` where events begin."""

    version: float
    labels: tuple[str, ...]
    units: tuple[str, ...]
    kinds: tuple[np.dtype[np.generic], ...]
    scales: FloatArray
    offsets: FloatArray
    samples_per_record: NDArray[np.int64]
    record_seconds: float
    header_bytes: int
    n_records: int
    events_at: int
    started_at: datetime | None
    notes: tuple[str, ...]

    @property
    def byte_offsets(self) -> NDArray[np.int64]:
        """Return where each channel begins in a record, and the bytes of a record."""
        sizes = self.samples_per_record * np.array([kind.itemsize for kind in self.kinds])
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def load_gdf(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a GDF file, its samples unread; events become intervals called after their code.

    Raises RecordingError where the header is damaged or no channel can be used.
    """
    header = read_gdf_header(path)
    notes = list(header.notes)
    channels: list[RawChannel] = []
    blocks: dict[int, BlockReader] = {}
    for key, label in enumerate(header.labels):
        n = int(header.samples_per_record[key])
        if n < 1 or not (math.isfinite(header.scales[key]) and math.isfinite(header.offsets[key])):
            notes.append(f"{label}: its limits or its samples per record cannot be; the channel is left out")
            continue
        block = blocks.setdefault(n, _block(path, header))
        rate = n / header.record_seconds
        channels.append(RawChannel(label, header.units[key], rate, 0.0, n * header.n_records, key, block, path.name))
    if not channels:
        raise RecordingError(f"{path.name}: no channel of the file can be used ({'; '.join(notes)})")
    signals, more = assemble_signals(channels, overrides)
    duration = header.n_records * header.record_seconds
    intervals = placed_intervals(_events(path, header, notes), duration, notes)
    return Recording("", "", path.stem, signals, intervals, header.started_at, (*notes, *more))


def read_gdf_header(path: Path) -> GdfHeader:
    """Return the header, checked against the size of the file. Raises RecordingError where it cannot be trusted."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        fixed = stream.read(_FIXED)
        if len(fixed) < _FIXED:
            raise _fault(path, "the header is cut")
        version = _version(path, fixed)
        n = int.from_bytes(fixed[252 : 254 if version >= 1.9 else 256], "little")
        if not 1 <= n <= MOST_CHANNELS:
            raise _fault(path, f"{n} channels, read are 1 to {MOST_CHANNELS}")
        table = stream.read(_FIXED * n)
    stated = (
        int.from_bytes(fixed[184:186], "little") * 256 if version >= 1.9 else int.from_bytes(fixed[184:192], "little")
    )
    if len(table) < _FIXED * n or not _FIXED * (n + 1) <= stated <= size:
        raise _fault(path, f"the header of {n} channels does not fit into {size} bytes")
    steps, per = np.frombuffer(fixed[244:252], dtype="<u4").tolist()
    record_seconds = steps / per if steps and per else math.nan
    samples = np.frombuffer(table[216 * n : 220 * n], dtype="<i4").astype(np.int64)
    if not 0 < record_seconds <= 86400 or samples.max() / record_seconds > FASTEST or samples.min() < 0:
        raise _fault(path, "the duration of a data record, or its number of samples, cannot be")
    codes = np.frombuffer(table[220 * n : 224 * n], dtype="<i4").tolist()
    if strange := sorted({code for code in codes if code not in _TYPES}):
        raise RecordingError(f"{path.name}: samples of type {strange[0]} are not read; convert the GDF file to EDF")
    kinds = tuple(np.dtype(_TYPES[code]) for code in codes)
    record_bytes = int(sum(int(s) * kind.itemsize for s, kind in zip(samples, kinds, strict=True)))
    notes: list[str] = []
    n_records = _n_records(
        path, int.from_bytes(fixed[236:244], "little", signed=True), size - stated, record_bytes, notes
    )
    notes.extend(_identity(fixed, version))
    scales, offsets = _calibration(table, n, version)
    return GdfHeader(
        version=version,
        labels=tuple(_text(table[16 * i : 16 * i + 16]) for i in range(n)),
        units=_units(table, n, version),
        kinds=kinds,
        scales=scales,
        offsets=offsets,
        samples_per_record=samples,
        record_seconds=record_seconds,
        header_bytes=stated,
        n_records=n_records,
        events_at=stated + n_records * record_bytes,
        started_at=_start(fixed, version),
        notes=tuple(notes),
    )


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the GDF file is damaged, export it again")


def _text(field: bytes) -> str:
    return field.split(b"\x00")[0].decode("latin-1").strip()


def _identity(fixed: bytes, version: float) -> tuple[str, ...]:
    """Return the note that the header names a person or a day of birth, where it does."""
    if version >= 1.9 and any(fixed[176:184]):
        return (HIDDEN,)
    return identity_notes(_text(fixed[8:74] if version >= 1.9 else fixed[8:88]))


def _version(path: Path, fixed: bytes) -> float:
    try:
        return float(fixed[4:8])
    except ValueError:
        raise _fault(path, f"version {fixed[4:8]!r} is none") from None


def _n_records(path: Path, stated: int, n_bytes: int, record_bytes: int, notes: list[str]) -> int:
    n_there = n_bytes // record_bytes if record_bytes else 0
    if n_there < 1:
        raise _fault(path, f"{n_bytes} bytes of data do not fill one data record")
    if stated < 0:
        notes.append(f"the recorder did not say how many data records there are; {n_there} were found")
    elif stated > n_there:
        notes.append(f"the file is cut: {n_there} of {stated} data records are there and used")
    elif stated == 0:
        raise _fault(path, "the header says that there are no data")
    return min(stated, n_there) if stated > 0 else n_there


def _calibration(table: bytes, n: int, version: float) -> tuple[FloatArray, FloatArray]:
    """Return scale and offset of each channel, NaN where its limits cannot be."""
    kind = "<f8" if version >= 1.9 else "<i8"
    low, high = (np.frombuffer(table[at * n : (at + 8) * n], dtype="<f8") for at in (104, 112))
    first, last = (np.frombuffer(table[at * n : (at + 8) * n], dtype=kind).astype(np.float64) for at in (120, 128))
    with np.errstate(all="ignore"):
        scales = np.where(last > first, (high - low) / (last - first), np.nan)
        scales[scales == 0] = np.nan
        return scales, low - first * scales


def _units(table: bytes, n: int, version: float) -> tuple[str, ...]:
    if version < 1.9:
        return tuple(_text(table[(96 * n) + 8 * i : (96 * n) + 8 * i + 8]) for i in range(n))
    codes = np.frombuffer(table[102 * n : 104 * n], dtype="<u2").tolist()
    return tuple(_unit(code) for code in codes)


def _unit(code: int) -> str:
    """Return the unit of a code; one that is not known is named by its number, and an open one is empty."""
    base, prefix = code & ~31, _PREFIXES.get(code & 31)
    if base in _UNITS and prefix is not None:
        return prefix + _UNITS[base]
    return "" if code in (0, 512) else f"code {code}"


def _start(fixed: bytes, version: float) -> datetime | None:
    """Return the start on the recorder's clock, None where it is impossible or not given."""
    try:
        if version < 1.9:
            text = fixed[168:182].decode("ascii")
            return datetime.strptime(text, "%Y%m%d%H%M%S")
        days = int.from_bytes(fixed[168:176], "little") / 2**32
        return datetime(1, 1, 1) + timedelta(days - 367) if days else None
    except (ValueError, OverflowError):
        return None


def _block(path: Path, header: GdfHeader) -> BlockReader:
    """Return the reader of channels that have the same number of samples in a record."""
    offsets = header.byte_offsets
    record_bytes = int(offsets[-1])

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        samples: FloatArray = np.empty((len(keys), max(stop - start, 0)))
        if stop <= start:
            return samples
        n = int(header.samples_per_record[keys[0]])
        last = -(-stop // n)
        step = max(1, _CHUNK_BYTES // record_bytes)
        for first in range(start // n, last, step):
            records = _records(path, header, first, min(step, last - first), record_bytes)
            begin, end = max(first * n, start), min((first + len(records)) * n, stop)
            for row, key in enumerate(keys):
                field = np.ascontiguousarray(records[:, offsets[key] : offsets[key + 1]])
                digital = field.view(header.kinds[key]).ravel().astype(np.float64)
                physical = digital * header.scales[key] + header.offsets[key]
                samples[row, begin - start : end - start] = physical[begin - first * n : end - first * n]
        return samples

    return read


def _records(path: Path, header: GdfHeader, first: int, n: int, record_bytes: int) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as stream:
            stream.seek(header.header_bytes + first * record_bytes)
            content = stream.read(n * record_bytes)
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    if len(content) < n * record_bytes:
        raise RecordingError(f"{path.name}: the file became shorter while it was read; load it again")
    return np.frombuffer(content, dtype=np.uint8).reshape(n, record_bytes)


def _events(path: Path, header: GdfHeader, notes: list[str]) -> list[tuple[float, float, str]]:
    """Return the table of events behind the samples: (onset, duration, code); those that mark an end are left out."""
    with path.open("rb") as stream:
        stream.seek(header.events_at)
        head = stream.read(8)
        if len(head) < 8:
            return []
        if header.version < 1.94:
            rate, n_events = float(int.from_bytes(head[1:4], "little")), int.from_bytes(head[4:8], "little")
        else:
            rate, n_events = float(np.frombuffer(head[4:8], dtype="<f4")[0]), int.from_bytes(head[1:4], "little")
        width = 12 if head[0] == 3 else 6
        if n_events * width > path.stat().st_size - header.events_at - 8 or head[0] not in (1, 3):
            notes.append("the table of events is cut or damaged: no events")
            return []
        content = stream.read(n_events * width)
    if not (math.isfinite(rate) and rate > 0):
        rate = float(header.samples_per_record.max() / header.record_seconds)
    places = np.frombuffer(content[: 4 * n_events], dtype="<u4").astype(np.float64) - 1  # the first sample is number 1
    codes = np.frombuffer(content[4 * n_events : 6 * n_events], dtype="<u2")
    lengths = np.zeros(n_events)
    if head[0] == 3:
        lengths = np.frombuffer(content[8 * n_events :], dtype="<u4").astype(np.float64)
    is_used = (codes < _START_CODE) & (codes != _NEW_SEGMENT)
    return [
        (float(place / rate), float(length / rate), str(code))
        for place, length, code in zip(places[is_used], lengths[is_used], codes[is_used], strict=True)
    ]
