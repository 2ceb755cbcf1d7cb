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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.annotations import bad_at_joins, placed_intervals
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.identity import identity_in_text
from biopercept.loaders.readers.mne_raws import FASTEST, MOST_CHANNELS, check_size
from biopercept.loaders.readers.text_tables import numbers_of, read_text
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.stored_samples import StoredSamples
from biopercept.recording import FloatArray, Recording

LARGEST_TEXT = 64 << 20
_FIRST_LINE = re.compile(rb"Brain ?Vision( Core| V-Amp)? Data( Exchange)? (Header|Marker) File")
_TYPES = {"INT_16": "i2", "UINT_16": "u2", "INT_32": "i4", "IEEE_FLOAT_32": "f4"}
_BESIDE = (".eeg", ".vmrk", ".dat", ".avg", ".seg")
_DATE_DIGITS = 20


@dataclass(frozen=True)
class BrainVisionHeader:
    """The checked header: channels with their resolution (file unit per step) and the reader of their samples.

    ``n_samples`` are the samples of every channel that are really there.
    """

    markers_file: Path | None
    labels: tuple[str, ...]
    units: tuple[str, ...]
    resolutions: tuple[float, ...]
    sampling_rate: float
    n_samples: int
    block: BlockReader
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
    channels = [
        RawChannel(label, unit, header.sampling_rate, 0.0, header.n_samples, key, header.block, file.name)
        for key, (label, unit) in enumerate(zip(header.labels, header.units, strict=True))
        if _is_usable(label, header.resolutions[key], notes)
    ]
    if not channels:
        raise RecordingError(f"{file.name}: no channel of the header can be used ({'; '.join(notes)})")
    signals, more = assemble_signals(channels, overrides)
    duration = header.n_samples / header.sampling_rate
    markers = read_markers(header)
    if markers.is_start_wrong:
        notes.append("the date and time of the first segment cannot be; the start is not known")
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


def header_text(path: Path) -> str:
    """Return the text of a header or a marker file: UTF-8, or the Latin-1 of older recorders.

    Raises RecordingError where it cannot be read, or is larger than any.
    """
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
    text = header_text(path)
    sections = _sections(text)
    notes.extend(identity_in_text(text))
    common = sections.get("common infos", {})
    _check_kind(path, common)
    n_channels = _whole(path, common.get("numberofchannels", ""), "NumberOfChannels", MOST_CHANNELS)
    interval = _number(common.get("samplinginterval", ""))
    if not 1e6 / FASTEST <= interval < math.inf:
        raise _fault(path, f"SamplingInterval is {common.get('samplinginterval', '')!r}, not a number of microseconds")
    labels, units, resolutions = _channels(path, sections.get("channel infos", {}), n_channels, notes)
    samples_file = _named_file(path, common.get("datafile", ""), (".eeg", ".dat"), notes)
    if samples_file is None:
        raise RecordingError(
            f"{path.name}: the samples {common.get('datafile', '')!r} are not beside the header; copy them"
        )
    orientation = common.get("dataorientation", "MULTIPLEXED").upper()
    scales, points = np.array(resolutions), common.get("datapoints", "")
    if common.get("dataformat", "BINARY").upper() == "ASCII":
        layout = {**sections.get("ascii infos", {}), "dataorientation": orientation}
        samples = _samples_of_text(path, samples_file, layout, n_channels, notes)
        n_samples, block = samples.shape[1], block_in_memory(samples * scales[:, None])
        notes.extend(_other_number(n_samples, points))
    else:
        binary, is_vectorized = sections.get("binary infos", {}), orientation == "VECTORIZED"
        stored, more = _stored(path, samples_file, binary, scales, points, is_vectorized)
        notes += more
        n_samples, block = stored.n_samples, stored.block()
    check_size(path, 1e6 / interval, n_samples, n_channels)
    marker = common.get("markerfile", "")
    markers_file = _named_file(path, marker, (".vmrk",), notes) if marker else None
    if marker and markers_file is None:
        notes.append("the marker file that the header names is not there: no markers, and no start time")
    return BrainVisionHeader(markers_file, labels, units, resolutions, 1e6 / interval, n_samples, block, tuple(notes))


def _stored(
    path: Path, file: Path, binary: Mapping[str, str], scales: FloatArray, points: str, is_vectorized: bool
) -> tuple[StoredSamples, list[str]]:
    """Return where binary samples lie, and notes. Raises RecordingError where the header does not match them."""
    name = binary.get("binaryformat", "INT_16").upper()
    if name not in _TYPES:
        raise _fault(path, f"BinaryFormat is {name!r}; read are {', '.join(_TYPES)}")
    kind = np.dtype((">" if binary.get("usebigendianorder", "").upper() == "YES" else "<") + _TYPES[name])
    notes: list[str] = []
    n_samples = _n_samples(path, file.stat().st_size, len(scales) * kind.itemsize, points, is_vectorized, notes)
    return StoredSamples(file, kind, scales, n_samples, is_vectorized), notes


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
    if common.get("dataformat", "BINARY").upper() not in ("BINARY", "ASCII"):
        raise _fault(path, f"DataFormat is {common['dataformat'][:40]!r}, neither BINARY nor ASCII")
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


def _points(points: str) -> int | None:
    return int(points) if points.isascii() and points.isdigit() and len(points) < 16 else None


def _other_number(n_there: int, points: str) -> Iterator[str]:
    """Give a note where the header states another number of samples than there are."""
    n_stated = _points(points)
    if n_stated is not None and n_stated > n_there:
        yield f"the file of samples is cut: {n_there} of {n_stated} samples are there and used"
    elif n_stated is not None and n_stated < n_there:
        yield f"the header says {n_stated} samples but {n_there} are there; all are used"


def _n_samples(path: Path, n_bytes: int, frame_bytes: int, points: str, is_vectorized: bool, notes: list[str]) -> int:
    """Return the samples of each channel that are there; a channel-by-channel file must match its header exactly."""
    n_there, stray = divmod(n_bytes, frame_bytes)
    if n_there < 1:
        raise RecordingError(f"{path.name}: {n_bytes} bytes of samples do not fill one sample of every channel")
    n_stated = _points(points)
    if is_vectorized and (stray or n_stated not in (None, n_there)):
        raise RecordingError(
            f"{path.name}: {n_bytes} bytes of samples, channel by channel, do not match the header"
            f" ({points or 'no'} DataPoints), so no channel can be told from the next; copy the files again"
        )
    notes.extend(_other_number(n_there, points))
    if stray:
        notes.append(f"{stray} bytes after the last whole sample are left out")
    return n_there


def _samples_of_text(
    path: Path, samples_file: Path, layout: Mapping[str, str], n_channels: int, notes: list[str]
) -> FloatArray:
    """Return the numbers of a file of samples as text, (n_channels, n_samples); ``layout`` says how they lie there.

    Raises RecordingError where its lines are not those that the header promises.
    """
    skipped = [layout.get(key, "0") for key in ("skiplines", "skipcolumns")]
    if not all(one.isascii() and one.isdigit() and len(one) < 5 for one in skipped):
        raise _fault(path, f"SkipLines and SkipColumns are {skipped[0][:40]!r} and {skipped[1][:40]!r}, no counts")
    text = read_text(samples_file, notes).replace("\r\n", "\n").replace("\r", "\n")
    if layout.get("decimalsymbol", ".") == ",":
        text = text.replace(",", ".")
    n_lines, n_columns = map(int, skipped)
    lines = [line.split()[n_columns:] for line in text.split("\n")[n_lines:] if line.strip()]
    is_vectorized = layout["dataorientation"] == "VECTORIZED"
    n_cells = len(lines[0]) if lines and is_vectorized else n_channels
    strange = next((f"line {i + n_lines} has {len(one)}" for i, one in enumerate(lines, 1) if len(one) != n_cells), "")
    if strange or not lines or not n_cells or (is_vectorized and len(lines) != n_channels):
        raise RecordingError(
            f"{path.name}: {samples_file.name} does not hold {n_channels} channels as the header says"
            f" ({strange or f'{len(lines)} lines of {n_cells}'} numbers); export it again"
        )
    samples = np.array([numbers_of(line) for line in lines])
    n_missing = int(np.isnan(samples).sum())
    if n_missing:
        notes.append(f"{n_missing} cells of {samples_file.name} are no numbers and count as missing")
    return samples if is_vectorized else samples.T


@dataclass(frozen=True)
class BrainVisionMarkers:
    """What a marker file says: (onset, duration, text) in seconds, joins in seconds, and the device's start time."""

    marks: tuple[tuple[float, float, str], ...] = ()
    joins: tuple[float, ...] = ()
    started_at: datetime | None = None
    is_start_wrong: bool = False


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
    is_wrong = False
    for line in _sections(header_text(header.markers_file)).get("marker infos", {}).values():
        fields = [field.strip() for field in line.split(",")] + [""] * 6
        kind, description, position, size, channel, date = (field.replace("\\1", ",") for field in fields[:6])
        onset = (_number(position) - 1) / rate  # the first sample is number 1
        if kind.lower() == "new segment":
            if onset > 0:
                joins.append(onset)
            if started_at is None:
                started_at = _start(date, onset)
                is_wrong = started_at is None and bool(date.strip("0"))
            continue
        points = _number(size)
        duration = points / rate if points > 1 else 0.0  # every marker has one point at least
        text = f"{kind}/{description}"
        if kind.lower().startswith("bad") and channel.isascii() and channel.isdigit():
            number = int(channel[:6])
            text += f"@@{header.labels[number - 1]}" if 1 <= number <= len(header.labels) else ""
        marks.append((onset, duration, text))
    return BrainVisionMarkers(tuple(marks), tuple(joins), started_at, is_wrong)


def _start(date: str, onset: float) -> datetime | None:
    """Return the time of the first sample on the recorder's clock, without a zone; None where none is given."""
    if len(date) != _DATE_DIGITS or not date.isdigit() or not date.strip("0") or not math.isfinite(onset):
        return None
    try:
        return datetime.strptime(date, "%Y%m%d%H%M%S%f") - timedelta(seconds=max(onset, 0.0))
    except (ValueError, OverflowError):
        return None
