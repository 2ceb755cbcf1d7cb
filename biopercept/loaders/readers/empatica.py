"""Empatica E4 exports: the folder, the zip or single files of the E4 web site, each sensor at its own rate.

Files are read by name, in memory and of bounded size. Times are unix seconds, or dates of UTC in their place.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np

from biopercept.errors import RecordingError, count
from biopercept.loaders.archives import checked_members, opened_zip
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory, channel_of_beats
from biopercept.loaders.clock import FAR_SECONDS, stray_times
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.modalities import MODALITIES
from biopercept.recording import FloatArray, Interval, Recording

# File -> modality, unit, columns.
_SENSORS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "EDA": ("eda", "uS", ("EDA",)),
    "BVP": ("bvp", "a.u.", ("BVP",)),
    "ACC": ("acc", "1/64 g", ("x", "y", "z")),
    "TEMP": ("temp", "degC", ("TEMP",)),
    "HR": ("hr", "bpm", ("HR",)),
}
_CLOCK = ("EDA", "BVP", "ACC", "TEMP")
"""The sensors that run from the start; HR and IBI are computed by the device and come later."""

_EARLIEST, _LATEST = 1e9, 4e9  # unix seconds, 2001 to 2096: anything else is not a time in seconds
_FASTEST = 1000.0
_GRACE_SECONDS = 60.0
"""The device says a beat up to this long after the sensors' last sample, for its files end at different times."""
_BLANKS = bytes(code for code in range(256) if chr(code).isspace())
LARGEST_MEMBER = 256 << 20
"""Bytes of one sensor's file: a session may last 48 h, which is 90 MB of BVP."""

SENSOR_FILES = ("EDA", "BVP", "ACC", "TEMP", "HR", "IBI")
_DATE = re.compile(rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?")
"""A time in UTC as PhysioNet's copies write it, in place of unix seconds."""

Members = Mapping[str, Callable[[], bytes]]


@dataclass(frozen=True, eq=False)
class _Sensor:
    """One sensor's file: start in unix seconds, rate in Hz, samples (n_channels, n_samples)."""

    started: float
    sampling_rate: float
    samples: FloatArray

    @property
    def ended(self) -> float:
        """Return the end of the last sample in unix seconds."""
        return float(self.started + self.samples.shape[1] / self.sampling_rate)


def is_empatica_folder(path: Path) -> bool:
    """Return whether a folder holds at least one file that looks like an E4 sensor's."""
    return any(_looks_like_sensor(file) for file in path.iterdir() if sensor_of(file.name) in _SENSORS)


def is_empatica_file(path: Path, first_bytes: bytes) -> bool:
    """Return whether a single file is an E4 sensor's, by its name and its first two lines."""
    return sensor_of(path.name) in _SENSORS and _is_head(first_bytes)


def _looks_like_sensor(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return _is_head(stream.read(256))
    except OSError:
        return False


def _is_head(first_bytes: bytes) -> bool:
    first = unix_seconds(_plain_lines(first_bytes).split(b"\n", 1)[0]).split(b",")[0]
    try:
        return _EARLIEST < float(first) < _LATEST * 1000
    except ValueError:
        return False


def _plain_lines(content: bytes) -> bytes:
    """Return text as the web site writes it: without the mark and the line ends that a spreadsheet adds."""
    return content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def unix_seconds(text: bytes) -> bytes:
    """Return text with its dates of UTC as unix seconds; a date that no calendar has stays as it is.

    >>> unix_seconds(b"2013-02-20 17:55:19,2013-02-20 17:55:19"), unix_seconds(b"1361382919.5")
    (b'1361382919.0,1361382919.0', b'1361382919.5')
    """

    def seconds(match: re.Match[bytes]) -> bytes:
        try:
            moment = datetime.fromisoformat(match[0].decode()[:26])
        except ValueError:
            return match[0]
        return str(moment.replace(tzinfo=UTC).timestamp()).encode()

    return _DATE.sub(seconds, text)


def load_empatica(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an E4 folder, zip, or single sensor file.

    Second zero is the earliest start of EDA, BVP, ACC and TEMP; heart rate and inter-beat
    intervals lie at their own times. Acceleration is turned from 1/64 g into g. Presses of
    the button become intervals "tag" of duration 0. Members of a zip are read by name in
    memory and never written to disk.

    Raises RecordingError where no sensor's file can be used, or a zip is damaged or too large.
    """
    notes: list[str] = []
    with open_members(path) as members:
        sensors = {name: sensor for name in _SENSORS if (sensor := _sensor(members, name, notes)) is not None}
        ibi = _ibi(members, notes)
        tags = _tags(members, notes)
    _leave_out_far(path, sensors, notes)
    zero = min((sensors[name].started for name in _CLOCK if name in sensors), default=None)
    if zero is None:
        zero = min((sensor.started for sensor in sensors.values()), default=None if ibi is None else ibi[0])
    if zero is None:
        detail = "; ".join(notes) or "it has no ACC, BVP, EDA, TEMP, HR or IBI file"
        raise RecordingError(f"{path.name}: no Empatica sensor can be used ({detail})")
    channels = [channel for name, sensor in sensors.items() for channel in _channels(name, sensor, zero, notes)]
    if ibi is not None:
        ends = [sensor.ended for sensor in sensors.values()]
        channels.extend(_ibi_channels(ibi, zero, max(ends, default=None), notes))
    if not channels:
        raise RecordingError(f"{path.name}: no Empatica sensor can be used ({'; '.join(notes)})")
    signals, more = assemble_signals(channels, overrides)
    end = max((signal.end_seconds for signal in signals), default=0.0)
    intervals = _tag_intervals(tags, zero, end, notes)
    started_at = datetime.fromtimestamp(zero, tz=UTC)
    return Recording(
        "", "", path.name.removesuffix(".zip").removesuffix(".csv"), signals, intervals, started_at, (*notes, *more)
    )


def _sensor(members: Members, name: str, notes: list[str]) -> _Sensor | None:
    """Return one sensor, or None with a note where its file cannot be used."""
    content = member_content(members, name, notes)
    if content is None:
        if name not in members and len(members) > 1:
            notes.append(f"{name}: no file")
        return None
    columns = len(_SENSORS[name][2])
    values, remarks = read_numbers(content, columns)
    if len(values) < 3:
        notes.append(f"{name}: the file holds no samples and is left out")
        return None
    started, rate = float(values[0, 0]), float(values[1, 0])
    if not _EARLIEST < started < _LATEST:
        notes.append(f"{name}: the first line ({started:g}) is not a unix time in seconds; the file is left out")
        return None
    if not 0 < rate <= _FASTEST:
        notes.append(f"{name}: the second line ({rate:g}) is not a sampling rate in Hz; the file is left out")
        return None
    notes.extend(f"{name}: {remark}" for remark in remarks)
    return _Sensor(started, rate, np.ascontiguousarray(values[2:].T))


def _leave_out_far(path: Path, sensors: dict[str, _Sensor], notes: list[str]) -> None:
    """Leave out sensors that start more than a day from most others: their clock was not set.

    Raises RecordingError where as many sensors say one day as say others.
    """
    starts = {name: sensor.started for name, sensor in sensors.items()}
    near = [[name for name, start in starts.items() if abs(start - here) <= FAR_SECONDS] for here in starts.values()]
    most = max(near, key=len, default=[])
    if len(most) == len(starts):
        return
    if 2 * len(most) <= len(starts):
        days = ", ".join(
            f"{name} on {datetime.fromtimestamp(start, tz=UTC):%Y-%m-%d}" for name, start in starts.items()
        )
        raise RecordingError(
            f"{path.name}: the sensors start on different days ({days}) and nothing tells which is right; remove the "
            "files of the wrong session"
        )
    for name in [name for name in starts if name not in most]:
        hours = (starts[name] - min(starts[one] for one in most)) / 3600
        notes.append(
            f"{name}: starts {abs(hours):.1f} h {'after' if hours > 0 else 'before'} the other sensors; left out"
        )
        del sensors[name]


def _channels(name: str, sensor: _Sensor, zero: float, notes: list[str]) -> list[RawChannel]:
    modality, unit, labels = _SENSORS[name]
    if name == "EDA" and sensor.samples[0, 0] == 0 and (sensor.samples[0, 1:2] > 0).all():
        notes.append("EDA: the first sample is 0, which the device writes before it measures")
    samples = sensor.samples
    if unit == "1/64 g":
        samples /= 64
    block = block_in_memory(samples)
    return [
        RawChannel(
            label=label,
            unit=MODALITIES[modality].unit,
            sampling_rate=sensor.sampling_rate,
            start_seconds=sensor.started - zero,
            n_samples=samples.shape[1],
            key=key,
            block=block,
            source=f"{name}.csv",
            modality=modality,
            recognised_by=FORMAT,
        )
        for key, label in enumerate(labels)
    ]


def _ibi(members: Members, notes: list[str]) -> tuple[float, FloatArray] | None:
    """Return the start in unix seconds and (time since it, interval) of every beat, in order, or None."""
    content = member_content(members, "IBI", notes)
    if content is None:
        return None
    head, _, rest = content.partition(b"\n")
    try:
        started = float(head.split(b",")[0])
    except ValueError:
        started = np.nan
    if not _EARLIEST < started < _LATEST:
        notes.append("IBI: the first line is not a unix time in seconds; the file is left out")
        return None
    beats, remarks = read_numbers(rest, 2)
    notes.extend(f"IBI: {remark}" for remark in remarks)
    beats = beats[np.isfinite(beats).all(axis=1)]
    is_stray = stray_times(beats[:, 0])
    if is_stray.any():
        first = float(beats[is_stray][0, 0])
        notes.append(
            f"IBI: {int(is_stray.sum())} beats have a time that all others contradict ({first:g} s the first) and are "
            "left out"
        )
    beats = beats[~is_stray]
    is_later = (
        np.concatenate([[True], np.diff(np.maximum.accumulate(beats[:, 0])) > 0]) if len(beats) else np.ones(0, bool)
    )
    if not is_later.all():
        notes.append(f"IBI: {int((~is_later).sum())} beats do not come after the one before and are left out")
    beats = beats[is_later]
    if not len(beats):
        notes.append("IBI: no beats")
        return None
    return started, beats


def _ibi_channels(
    ibi: tuple[float, FloatArray], zero: float, ended: float | None, notes: list[str]
) -> list[RawChannel]:
    """Return the beats as a channel, none where no beat lies in the time of the sensors that they were computed from.

    ``ended`` is the end of those sensors in unix seconds, None where the beats are alone.
    """
    started, beats = ibi
    times = beats[:, 0] + (started - zero)
    if ended is not None:
        is_inside = (times >= -_GRACE_SECONDS) & (times <= ended - zero + _GRACE_SECONDS)
        if not is_inside.all():
            far = float(times[~is_inside][0])
            notes.append(
                f"IBI: {int((~is_inside).sum())} beats lie outside the time of the sensors (the first at {far:.0f} s) "
                "and are left out"
            )
        times, beats = times[is_inside], beats[is_inside]
    if not len(times):
        return []
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return [channel_of_beats("IBI", "IBI.csv", times, beats[:, 1], rate=1 / step)]


def _tags(members: Members, notes: list[str]) -> FloatArray:
    content = member_content(members, "tags", notes)
    if not content:
        return np.zeros(0)
    values, remarks = read_numbers(content, 1)
    notes.extend(f"tags: {remark}" for remark in remarks)
    return np.sort(values[np.isfinite(values)])


def _tag_intervals(tags: FloatArray, zero: float, end: float, notes: list[str]) -> tuple[Interval, ...]:
    onsets = tags - zero
    is_inside = (onsets >= 0) & (onsets <= end)
    if not is_inside.all():
        far = float(onsets[~is_inside][0])
        notes.append(
            f"{int((~is_inside).sum())} tags lie outside the recording (the first at {far:.0f} s) and are left out"
        )
    return tuple(Interval(float(onset), 0.0, "tag") for onset in onsets[is_inside])


def sensor_of(file_name: str) -> str:
    """Return "EDA" for "EDA.csv" in any case, "tags" for "tags.csv" and "tags_S02.csv", or an empty string."""
    stem, dot, suffix = file_name.rpartition(".")
    if not dot or suffix.lower() != "csv":
        return ""
    if stem.upper() in SENSOR_FILES:
        return stem.upper()
    return "tags" if stem.lower() == "tags" or stem.lower().startswith("tags_") else ""


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """Give sensor -> a function that returns the file's bytes; counts and sizes are checked before anything is kept.

    Raises RecordingError where a zip is damaged or has too many members, or a sensor has several files.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and sensor_of(file.name)]
        yield _by_sensor(path, [(file.name, _file_reader(file)) for file in files])
    elif not zipfile.is_zipfile(path):
        if not sensor_of(path.name):
            raise RecordingError(f"{path.name}: the zip file is damaged; download it again")
        yield {sensor_of(path.name): _file_reader(path)}
    else:
        with opened_zip(path) as archive:
            members = checked_members(path, archive)
            names = [PurePosixPath(info.filename).name for info in members]
            readers = [
                (name, _member_reader(archive, info))
                for name, info in zip(names, members, strict=True)
                if sensor_of(name)
            ]
            if not readers and any(name.lower().endswith(".zip") for name in names):
                raise RecordingError(f"{path.name}: the zip holds other zip files; unpack it and give one of those")
            yield _by_sensor(path, readers)


def _by_sensor(path: Path, readers: list[tuple[str, Callable[[], bytes]]]) -> dict[str, Callable[[], bytes]]:
    by_sensor: dict[str, Callable[[], bytes]] = {}
    for name, reader in readers:
        if sensor_of(name) in by_sensor:
            raise RecordingError(
                f"{path.name}: more than one file for {sensor_of(name)}; give one E4 session at a time"
            )
        by_sensor[sensor_of(name)] = reader
    return by_sensor


def _file_reader(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        if file.stat().st_size > LARGEST_MEMBER:
            raise ValueError(f"larger than {LARGEST_MEMBER >> 20} MB")
        return file.read_bytes()

    return read


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as stream:
            content = stream.read(LARGEST_MEMBER + 1)  # the size that the zip declares may be a lie
        if len(content) > LARGEST_MEMBER:
            raise ValueError(f"larger than {LARGEST_MEMBER >> 20} MB unpacked")
        return content

    return read


def member_content(members: Members, name: str, notes: list[str]) -> bytes | None:
    """Return the bytes of a sensor's file; None, with a note where one is due, if it is absent or cannot be read."""
    if name not in members:
        return None
    try:
        content = _plain_lines(members[name]())
        head, line_end, rest = content.partition(b"\n")
        return unix_seconds(content) if name == "tags" else unix_seconds(head) + line_end + rest
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as fault:
        notes.append(f"{name}: the file cannot be read ({fault}) and is left out")
    except Exception as fault:  # zlib.error and kin have no common base
        notes.append(f"{name}: the file is damaged ({type(fault).__name__}) and is left out")
    return None


def read_numbers(content: bytes, n_columns: int) -> tuple[FloatArray, tuple[str, ...]]:
    """Return lines of comma-separated numbers, (n_lines, n_columns), and remarks on what could not be read.

    A file that does not end with a line end may have been cut inside its last number, so its
    last line is left out. A line that cannot be read keeps its place in time, as NaN.
    """
    remarks: list[str] = []
    if content and not content.endswith((b"\n", b"\r")):
        whole, _, cut = content.rpartition(b"\n")
        content = whole
        remarks.append(f"the last line ({len(cut)} bytes) has no line end, may be cut and is left out")
    content = content.rstrip(_BLANKS)
    if not content:
        return np.zeros((0, n_columns)), tuple(remarks)
    values = _fast(content, n_columns)
    if values is None:
        values = np.array([_line(line, n_columns) for line in content.decode("latin-1").splitlines()])
    n_unreadable = int(np.isnan(values).any(axis=1).sum())
    if n_unreadable:
        remarks.append(f"{count(n_unreadable, 'line is', 'lines are')} not {n_columns} plain numbers: missing")
    return values, tuple(remarks)


def _fast(content: bytes, n_columns: int) -> FloatArray | None:
    """Return the numbers where every line is well formed, None where one is not."""
    n_lines = content.count(b"\n") + 1
    if content.count(b",") != (n_columns - 1) * n_lines:
        return None
    try:
        values = np.loadtxt(io.BytesIO(content), delimiter=",", comments=None, ndmin=2, encoding="latin-1")
    except ValueError:
        return None
    return values if values.shape == (n_lines, n_columns) else None  # it passes over empty lines


def _line(line: str, n_columns: int) -> list[float]:
    fields = line.split(",")
    if len(fields) != n_columns:
        return [np.nan] * n_columns
    try:
        return [float(field) for field in fields]
    except ValueError:
        return [np.nan] * n_columns
