"""The header of an EDF or BDF file, checked field by field before a sample is read.

EDF has no checksum and lenient readers turn a damaged field into wrong amplitudes, so a
field that cannot be trusted refuses its channel here, and a file whose geometry does not
hold is refused whole.

References
----------
Kemp B, Olivan J. European data format 'plus' (EDF+). Clin Neurophysiol 2003;114:1755-61.
doi:10.1016/S1388-2457(03)00123-8
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from biopercept.errors import RecordingError

MOST_CHANNELS = 4096
LONGEST_RECORD_SECONDS = 86400.0
_FIXED = 256
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_MAGIC_EDF, _MAGIC_BDF = b"0       ", b"\xffBIOSEMI"


@dataclass(frozen=True)
class EdfChannel:
    """One channel of the header.

    Attributes
    ----------
    label, unit : str
    samples_per_record : int
    byte_offset : int
        Where the channel's samples start within a data record.
    scale, offset : float
        Physical value = digital * scale + offset, in ``unit``.
    is_annotation : bool
    fault : str
        Why the channel cannot be used; empty where it can.
    """

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
    """The geometry of a file, consistent with its size.

    Attributes
    ----------
    is_bdf, is_discontinuous : bool
    started_at : datetime or None
        Start on the clock of the device (EDF keeps no zone); None where the date is impossible.
    header_bytes, record_bytes : int
    record_seconds : float
        0 only for a file of annotations.
    n_records : int
        Whole data records that the file really holds.
    channels : tuple of EdfChannel
    notes : tuple of str
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


def read_edf_header(path: Path) -> EdfHeader:
    """Return the checked header of an EDF, EDF+, BDF or BDF+ file.

    Raises
    ------
    RecordingError
        Where the header is cut, a count contradicts the file's size, or no data follow.
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
    _check_record_seconds(path, record_seconds, channels)
    record_bytes = sum(c.samples_per_record for c in channels) * (3 if is_bdf else 2)
    if record_bytes == 0:
        raise _fault(path, "no channel has a valid number of samples per data record")
    n_records = _n_records(path, fixed[236:244], size - header_bytes, record_bytes, notes)
    _note_header_bytes(fixed[184:192], header_bytes, notes)
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
            f"{path.name}: the file holds annotations only and no signal; name the recording's own file"
        )
    if not 0 < record_seconds <= LONGEST_RECORD_SECONDS:
        raise _fault(path, f"the duration of a data record is {record_seconds:g} s, not a positive number of seconds")


def _n_records(path: Path, field: bytes, data_bytes: int, record_bytes: int, notes: list[str]) -> int:
    held, stray = divmod(data_bytes, record_bytes)
    if held < 1:
        raise _fault(path, f"{data_bytes} bytes of data do not fill one data record of {record_bytes} bytes")
    said = _integer(field)
    if said is None or said < 0:
        notes.append(f"the header says {_text(field)!r} data records (the recorder did not finish); {held} were found")
    elif said > held:
        notes.append(f"the file is cut: {held} of {said} data records are there and used")
    elif said < held:
        notes.append(f"the header says {said} data records but {held} are there; all are used")
    if stray:
        notes.append(f"{stray} bytes after the last whole data record are left out")
    return held


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
