"""BrainVision recordings: a header (.vhdr), its samples (.eeg) and its markers (.vmrk), samples read on demand.

The three are read here and not through mne, which opens whatever path the header names, takes the samples of a unit
that it does not know for volts, reads a marker file in the encoding of the machine, and gives the wrong channels where
a channel-by-channel file is cut. The tests compare this reader with mne's output.

References
----------
Brain Products. BrainVision Core Data Format 1.0. Gilching: Brain Products GmbH; 2019.
https://www.brainproducts.com/support-resources/brainvision-core-data-format-1-0/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import bad_at_joins, placed_intervals
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.recognition import SignalOverride
from biopercept.recording import FloatArray, Recording

LARGEST_TEXT = 64 << 20
MOST_CHANNELS = 4096
FASTEST = 1e6
_CHUNK_BYTES = 1 << 22
_FIRST_LINE = re.compile(rb"Brain ?Vision( Core| V-Amp)? Data( Exchange)? (Header|Marker) File")
_TYPES = {"INT_16": "i2", "UINT_16": "u2", "INT_32": "i4", "IEEE_FLOAT_32": "f4"}
_BESIDE = (".eeg", ".vmrk", ".dat", ".avg", ".seg")
_DATE_DIGITS = 20


@dataclass(frozen=True)
class BrainVisionHeader:
    """The checked header: channels with their resolution (file unit per step) and where their samples lie.

    ``is_vectorized`` means channel after channel; ``n_samples`` are the samples of every channel that are really there.
    """

    samples_file: Path
    markers_file: Path | None
    labels: tuple[str, ...]
    units: tuple[str, ...]
    resolutions: tuple[float, ...]
    sampling_rate: float
    kind: np.dtype[np.generic]
    is_vectorized: bool
    n_samples: int
    notes: tuple[str, ...]


def is_brainvision(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is the header, the markers or the samples of a BrainVision recording."""
    if _FIRST_LINE.match(first_bytes):
        return True
    return path.suffix.lower() in _BESIDE and _sibling(path, ".vhdr") is not None


def load_brainvision(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording that a header, or the samples or markers beside it, belong to; samples unread.

    Markers become intervals, called type/description as mne and BIDS call them. A marker for a bad interval of one
    channel is about that channel; a new segment is a join.

    Raises RecordingError where the header is damaged, names a file outside its folder, or does not match its samples.
    """
    file = _header_file(path)
    header = read_brainvision_header(file)
    notes = list(header.notes)
    block = _block(header)
    channels = [
        RawChannel(label, unit, header.sampling_rate, 0.0, header.n_samples, key, block, file.name)
        for key, (label, unit) in enumerate(zip(header.labels, header.units, strict=True))
        if _is_usable(label, header.resolutions[key], notes)
    ]
    if not channels:
        raise RecordingError(f"{file.name}: no channel of the header can be used ({'; '.join(notes)})")
    signals, more = assemble_signals(channels, overrides)
    duration = header.n_samples / header.sampling_rate
    markers = read_markers(header)
    intervals = placed_intervals(markers.marks, duration, notes)
    joins = bad_at_joins(markers.joins, duration, "New Segment", notes)
    return Recording("", "", file.stem, signals, intervals, markers.started_at, (*notes, *more), joins)


def _sibling(path: Path, suffix: str) -> Path | None:
    return next((file for s in (suffix, suffix.upper()) if (file := path.with_suffix(s)).is_file()), None)


def _header_file(path: Path) -> Path:
    """Return the header that a file of a recording belongs to."""
    with path.open("rb") as stream:
        start = stream.read(256).removeprefix(b"\xef\xbb\xbf")
    match = _FIRST_LINE.match(start)
    if match is not None and match[3] == b"Header":
        return path
    header = _sibling(path, ".vhdr")
    if header is None:
        raise RecordingError(
            f"{path.name}: BrainVision markers or samples whose header is not beside them; name the .vhdr"
        )
    return header


def _is_usable(label: str, resolution: float, notes: list[str]) -> bool:
    if not math.isfinite(resolution) or resolution == 0:
        notes.append(f"{label}: its resolution is no number above or below 0; the channel is left out")
        return False
    return True


def _text(path: Path) -> str:
    """Return the text of a header or a marker file: UTF-8, or the Latin-1 of older recorders."""
    if path.stat().st_size > LARGEST_TEXT:
        raise RecordingError(f"{path.name}: larger than {LARGEST_TEXT >> 20} MB, which no header or marker file is")
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _sections(text: str) -> dict[str, dict[str, str]]:
    """Return the key=value lines of each section, sections and keys in lower case, without the free text."""
    sections: dict[str, dict[str, str]] = {}
    lines: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            if line.lower() == "[comment]":
                break
            lines = sections.setdefault(line[1:-1].strip().lower(), {})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            lines.setdefault(key.strip().lower(), value.strip())
    return sections


def read_brainvision_header(path: Path) -> BrainVisionHeader:
    """Return the header at a path, checked against its samples.

    Raises RecordingError where a field cannot be trusted, or names a file outside the folder.
    """
    notes: list[str] = []
    sections = _sections(_text(path))
    common = sections.get("common infos", {})
    _check_kind(path, common)
    n_channels = _whole(path, common.get("numberofchannels", ""), "NumberOfChannels", MOST_CHANNELS)
    interval = _number(common.get("samplinginterval", ""))
    if not 1e6 / FASTEST <= interval < math.inf:
        raise _fault(path, f"SamplingInterval is {common.get('samplinginterval', '')!r}, not a number of microseconds")
    binary = sections.get("binary infos", {})
    name = binary.get("binaryformat", "INT_16").upper()
    if name not in _TYPES:
        raise _fault(path, f"BinaryFormat is {name!r}; read are {', '.join(_TYPES)}")
    order = ">" if binary.get("usebigendianorder", "").upper() == "YES" else "<"
    labels, units, resolutions = _channels(path, sections.get("channel infos", {}), n_channels, notes)
    samples_file = _named_file(path, common.get("datafile", ""), (".eeg", ".dat"), notes)
    if samples_file is None:
        raise RecordingError(
            f"{path.name}: the samples {common.get('datafile', '')!r} are not beside the header; copy them"
        )
    kind = np.dtype(order + _TYPES[name])
    is_vectorized = common.get("dataorientation", "MULTIPLEXED").upper() == "VECTORIZED"
    n_bytes = samples_file.stat().st_size
    n_samples = _n_samples(
        path, n_bytes, n_channels * kind.itemsize, common.get("datapoints", ""), is_vectorized, notes
    )
    marker = common.get("markerfile", "")
    markers_file = _named_file(path, marker, (".vmrk",), notes) if marker else None
    if marker and markers_file is None:
        notes.append("the marker file that the header names is not there: no markers, and no start time")
    return BrainVisionHeader(
        samples_file,
        markers_file,
        labels,
        units,
        resolutions,
        1e6 / interval,
        kind,
        is_vectorized,
        n_samples,
        tuple(notes),
    )


def _fault(path: Path, what: str) -> RecordingError:
    return RecordingError(f"{path.name}: {what}; the BrainVision header is damaged, export it again")


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _whole(path: Path, text: str, what: str, most: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if not 1 <= value <= most:
        raise _fault(path, f"{what} is {text[:40]!r}, not a whole number from 1 to {most}")
    return value


def _check_kind(path: Path, common: Mapping[str, str]) -> None:
    """Refuse what is no continuous recording in binary form."""
    if not common:
        raise _fault(path, "the section [Common Infos] is missing")
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        raise RecordingError(
            f"{path.name}: samples as text (DataFormat=ASCII) are not read; export the recording as binary"
        )
    if common.get("datatype", "TIMEDOMAIN").upper() != "TIMEDOMAIN":
        raise RecordingError(f"{path.name}: spectra (DataType) are not read; export the recording in the time domain")
    is_cut = common.get("segmentationtype", "NOTSEGMENTED").upper() != "NOTSEGMENTED"
    if is_cut or common.get("averaged", "NO").upper() == "YES":
        raise RecordingError(
            f"{path.name}: segments cut around markers, or their average, have no time of a recording;"
            " export the continuous recording"
        )
    orientation = common.get("dataorientation", "MULTIPLEXED").upper()
    if orientation not in ("MULTIPLEXED", "VECTORIZED"):
        raise _fault(path, f"DataOrientation is {orientation[:40]!r}, neither MULTIPLEXED nor VECTORIZED")


def _channels(
    path: Path, lines: Mapping[str, str], n_channels: int, notes: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[float, ...]]:
    """Return labels, units, resolutions of channels in order; an empty unit means microvolts, an empty resolution 1."""
    labels, units, resolutions = [], [], []
    for number in range(1, n_channels + 1):
        line = lines.get(f"ch{number}")
        if line is None:
            raise _fault(path, f"the header names {n_channels} channels and does not describe number {number}")
        name, _, resolution, unit = ([part.strip() for part in line.split(",")] + [""] * 3)[:4]
        labels.append(name.replace("\\1", ","))
        units.append(unit or "uV")
        resolutions.append(_number(resolution) if resolution else 1.0)
    if f"ch{n_channels + 1}" in lines:
        notes.append(f"the header describes more channels than the {n_channels} that it says there are")
    return tuple(labels), tuple(units), tuple(resolutions)


def _named_file(path: Path, name: str, suffixes: Sequence[str], notes: list[str]) -> Path | None:
    """Return the file beside the header that it names, or one called like the header; None where there is neither."""
    name = name.replace("$b", path.stem)
    if "/" in name or "\\" in name or name in (".", "..") or "\x00" in name:
        raise RecordingError(
            f"{path.name}: the header names {name!r}, which may lie outside its folder; it must be a file beside it"
        )
    if name and path.with_name(name).is_file():
        return path.with_name(name)
    alike = next((one for suffix in suffixes if (one := _sibling(path, suffix)) is not None), None)
    if alike is not None:
        notes.append(f"the header names {name!r}, which is not there; {alike.name} is read")
    return alike


def _n_samples(path: Path, n_bytes: int, frame_bytes: int, points: str, is_vectorized: bool, notes: list[str]) -> int:
    """Return the samples of each channel that are there; a channel-by-channel file must match its header exactly."""
    n_there, stray = divmod(n_bytes, frame_bytes)
    if n_there < 1:
        raise RecordingError(f"{path.name}: {n_bytes} bytes of samples do not fill one sample of every channel")
    n_stated = int(points) if points.isascii() and points.isdigit() and len(points) < 16 else None
    if is_vectorized and (stray or n_stated not in (None, n_there)):
        raise RecordingError(
            f"{path.name}: {n_bytes} bytes of samples, channel by channel, do not match the header"
            f" ({points or 'no'} DataPoints), so no channel can be told from the next; copy the files again"
        )
    if n_stated is not None and n_stated > n_there:
        notes.append(f"the file of samples is cut: {n_there} of {n_stated} samples are there and used")
    elif n_stated is not None and n_stated < n_there:
        notes.append(f"the header says {n_stated} samples but {n_there} are there; all are used")
    if stray:
        notes.append(f"{stray} bytes after the last whole sample are left out")
    return n_there


def _block(header: BrainVisionHeader) -> BlockReader:
    """Return the reader of the channels, each in the unit that the header names."""
    resolutions = np.array(header.resolutions)
    n_channels, size = len(resolutions), header.kind.itemsize

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        rows = list(keys)
        samples: FloatArray = np.empty((len(rows), max(stop - start, 0)))
        if header.is_vectorized:
            for row, key in enumerate(rows):
                offset = (key * header.n_samples + start) * size
                samples[row] = _stored(header, offset, samples.shape[1])
            samples *= resolutions[rows, None]
            return samples
        step = max(1, _CHUNK_BYTES // (n_channels * size))
        for first in range(start, stop, step):
            n = min(step, stop - first)
            frames = _stored(header, first * n_channels * size, n * n_channels).reshape(n, n_channels)
            samples[:, first - start : first - start + n] = frames[:, rows].T
        samples *= resolutions[rows, None]
        return samples

    return read


def _stored(header: BrainVisionHeader, offset: int, count: int) -> NDArray[Any]:
    file = header.samples_file
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(count * header.kind.itemsize)
    except OSError as fault:
        raise RecordingError(f"{file.name}: cannot be read ({fault.strerror})") from fault
    if len(content) < count * header.kind.itemsize:
        raise RecordingError(f"{file.name}: the file became shorter while it was read; load it again")
    return np.frombuffer(content, dtype=header.kind)


@dataclass(frozen=True)
class BrainVisionMarkers:
    """What a marker file says: (onset, duration, text) in seconds, joins in seconds, and the device's start time."""

    marks: tuple[tuple[float, float, str], ...] = ()
    joins: tuple[float, ...] = ()
    started_at: datetime | None = None


def read_markers(header: BrainVisionHeader) -> BrainVisionMarkers:
    """Return the markers of a recording; those whose position is no number have the onset NaN.

    Raises RecordingError where the marker file cannot be read.
    """
    if header.markers_file is None:
        return BrainVisionMarkers()
    rate = header.sampling_rate
    marks: list[tuple[float, float, str]] = []
    joins: list[float] = []
    started_at: datetime | None = None
    for line in _sections(_text(header.markers_file)).get("marker infos", {}).values():
        fields = [field.strip() for field in line.split(",")] + [""] * 6
        kind, description, position, size, channel, date = (field.replace("\\1", ",") for field in fields[:6])
        onset = (_number(position) - 1) / rate  # the first sample is number 1
        if kind.lower() == "new segment":
            if onset > 0:
                joins.append(onset)
            if started_at is None:
                started_at = _start(date, onset)
            continue
        points = _number(size)
        duration = points / rate if points > 1 else 0.0  # every marker has one point at least
        text = f"{kind}/{description}"
        if kind.lower().startswith("bad") and channel.isascii() and channel.isdigit():
            number = int(channel[:6])
            text += f"@@{header.labels[number - 1]}" if 1 <= number <= len(header.labels) else ""
        marks.append((onset, duration, text))
    return BrainVisionMarkers(tuple(marks), tuple(joins), started_at)


def _start(date: str, onset: float) -> datetime | None:
    """Return the time of the first sample on the recorder's clock, without a zone; None where none is given."""
    if len(date) != _DATE_DIGITS or not date.isdigit() or not date.strip("0") or not math.isfinite(onset):
        return None
    try:
        return datetime.strptime(date, "%Y%m%d%H%M%S%f") - timedelta(seconds=max(onset, 0.0))
    except (ValueError, OverflowError):
        return None
