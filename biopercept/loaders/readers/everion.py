"""Biovotion Everion CSV: one line per value, with a code (tag) for what it is; a folder of them, or one.

Codes are those of devicely's reader. Of what the device computes, heart rate, oxygen saturation and beat intervals are
used, of what it measures, the temperature of the skin (its "object") and acceleration. A second value is the quality in
per cent: values of quality 0 are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory, channel_of_beats
from biopercept.loaders.readers.text_tables import numbers_of, read_text, table_of_text
from biopercept.loaders.recognition import FORMAT, SignalOverride, counts_of_one_g
from biopercept.loaders.sidecars import without_suffix
from biopercept.loaders.time_grid import fit_grid
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Recording

HEADER = b"count,streamType,tag,time,values"
_COLUMNS = ("count", "streamType", "tag", "time", "values")
_SIGNALS, _FEATURES, _RAW = 2, 4, 16
_STREAMS = {5: "means of minutes", 6: "events", 7: "events", 8: "daily values"}
"""Stream types that hold no signals."""
_TAGS: Mapping[int, tuple[str, str, str]] = {
    6: ("HR", "bpm", "hr"),
    7: ("SpO2", "%", "spo2"),
    11: ("HRV", "ms", UNKNOWN),
    12: ("respiration rate", "1/min", UNKNOWN),
    15: ("core temperature (computed)", "degC", UNKNOWN),
    19: ("temperature of the device", "degC", UNKNOWN),
    20: ("barometer", "hPa", UNKNOWN),
    21: ("GSR electrode", "", UNKNOWN),
    70: ("blood pulse wave", "", UNKNOWN),
    118: ("TEMP", "degC", "temp"),
    119: ("temperature of the barometer", "degC", UNKNOWN),
}
"""Our name, unit and modality by code."""
_BEATS = 14
_RAW_TAGS: Mapping[int, str] = {80: "LED1", 81: "LED2", 82: "LED3", 83: "LED4"}
_AXES: Mapping[int, str] = {84: "ACC_x", 85: "ACC_y", 86: "ACC_z"}
_RAW_RATE = 51.2
_COUNTS_OF_G = (4096.0,)
_BETWEEN_BEATS = 3.0
"""Seconds by which a beat may be stamped off the intervals around it; beyond, beats are missing."""


@dataclass(frozen=True, eq=False)
class _Lines:
    """Lines of one stream in the order of their counter: values and qualities (NaN where none is given)."""

    source: str
    counts: NDArray[np.int64]
    tags: NDArray[np.int64]
    seconds: FloatArray
    values: FloatArray
    qualities: FloatArray

    def of(self, tag: int) -> _Lines:
        """Return the lines of one tag, each counter once."""
        rows = np.flatnonzero(self.tags == tag)
        _, first = np.unique(self.counts[rows], return_index=True)
        rows = rows[first]
        return _Lines(
            self.source,
            self.counts[rows],
            self.tags[rows],
            self.seconds[rows],
            self.values[rows],
            self.qualities[rows],
        )


def is_everion_folder(path: Path) -> bool:
    """Return whether a folder holds CSV files of an Everion."""
    return any(_begins_so(file) for file in sorted(path.glob("CsvData_*.csv"))[:20])


def _begins_so(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return file.is_file() and stream.read(64).startswith(HEADER)
    except OSError:
        return False


def load_everion(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an Everion folder or file; its start is unix time, and its stamps are whole seconds.

    Raises RecordingError where no file holds values of a sensor, or lines are damaged.
    """
    files = sorted(one for one in path.glob("CsvData_*.csv") if _begins_so(one)) if path.is_dir() else [path]
    notes: list[str] = []
    streams: dict[int, _Lines] = {}
    for file in files:
        for stream, lines in _read(file, notes).items():
            if stream in streams:
                notes.append(f"{file.name}: a second file of stream type {stream}; left out")
            elif stream in (_SIGNALS, _FEATURES, _RAW):
                streams[stream] = lines
            elif len(files) == 1:
                raise RecordingError(
                    f"{path.name}: holds {_STREAMS.get(stream, f'values of stream type {stream}')} and no signals; "
                    "give the folder, or its file of signals, features or sensor_data"
                )
            else:
                notes.append(f"{file.name}: {_STREAMS.get(stream, f'stream type {stream}')}, no signals; left out")
    if not streams:
        raise RecordingError(f"{path.name}: no file with rows of signals, features or sensor data of an Everion")
    zero = min(float(lines.seconds.min()) for lines in streams.values())
    channels: list[RawChannel] = []
    if (signals := streams.get(_SIGNALS)) is not None:
        channels += _signal_channels(signals, zero, notes)
    if (features := streams.get(_FEATURES)) is not None:
        channels += _beat_channels(features, zero, notes)
    if (raw := streams.get(_RAW)) is not None:
        channels += _raw_channels(raw, zero, notes)
    if not channels:
        raise RecordingError(f"{path.name}: no code of a sensor that is known among its values")
    made, more = assemble_signals(channels, overrides)
    name = path.name if path.is_dir() else without_suffix(path.name)
    return Recording("", "", name, made, (), datetime.fromtimestamp(zero, tz=UTC), (*notes, *more))


def _read(file: Path, notes: list[str]) -> dict[int, _Lines]:
    """Return the lines of a file by stream type."""
    remarks: list[str] = []
    text = read_text(file, remarks)
    table = table_of_text(file, text.partition("\n")[2], _COLUMNS, ",", remarks)
    notes += [f"{file.name}: {note}" for note in table.notes if not note.startswith("values:")]
    numbers = [column for column in table.columns[:4] if not isinstance(column, list)]
    if len(numbers) < 4:
        raise RecordingError(f"{file.name}: columns {', '.join(_COLUMNS[:4])} are not numbers; export it again")
    values, qualities = _values(text)
    count, stream, tag, seconds = numbers
    n = min(len(count), len(values))
    is_whole = np.all([np.isfinite(column[:n]) & (np.abs(column[:n]) < 2**53) for column in numbers], axis=0)
    is_whole &= (seconds[:n] > 1e9) & (seconds[:n] < 4e9)
    rows = np.flatnonzero(is_whole)
    if len(rows) < n:
        notes.append(f"{file.name}: {n - len(rows)} of {n} lines have no counter, code or unix time; they are left out")
    rows = rows[np.argsort(count[rows], kind="stable")]
    streams = stream[rows].astype(np.int64)
    return {
        int(kind): _Lines(
            file.name,
            count[part].astype(np.int64),
            tag[part].astype(np.int64),
            seconds[part],
            values[part],
            qualities[part],
        )
        for kind in np.unique(streams)
        for part in [rows[streams == kind]]
    }


def _values(text: str) -> tuple[FloatArray, FloatArray]:
    """Return the first and the second value of each line; the second is NaN where there is none."""
    cells = [line.rsplit(",", 1)[-1] for line in text.splitlines()[1:] if line.strip()]
    pairs = [cell.partition(";")[::2] for cell in cells]
    return numbers_of([first for first, _ in pairs]), numbers_of([second for _, second in pairs])


def _signal_channels(lines: _Lines, zero: float, notes: list[str]) -> list[RawChannel]:
    """Return a channel for each code of the vital signs, about one value a second."""
    channels = []
    for tag, (name, unit, modality) in _TAGS.items():
        part = lines.of(tag)
        if len(part.counts) < 2:
            continue
        is_doubtful = part.qualities == 0
        if is_doubtful.any():
            share = 100 * float(is_doubtful.mean())
            notes.append(f"{name}: {share:.0f} % of its values have quality 0 by the device; they are missing")
        values = np.where(is_doubtful, np.nan, part.values)
        grid = fit_grid(part.seconds - zero)
        if grid is None:
            notes.append(f"{name}: fewer than two rows with different times; left out")
            continue
        notes += [f"{name}: {note}" for note in grid.notes]
        samples = grid.placed(values)
        channels.append(
            RawChannel(
                label=name,
                unit=unit,
                sampling_rate=grid.sampling_rate,
                start_seconds=grid.start_seconds,
                n_samples=len(samples),
                key=0,
                block=block_in_memory(samples[None]),
                source=lines.source,
                modality=modality,
                recognised_by=FORMAT if modality != UNKNOWN else "",
                times=grid.times if grid.cells is None else None,
            )
        )
    return channels


def _beat_channels(lines: _Lines, zero: float, notes: list[str]) -> list[RawChannel]:
    """Return the intervals between pulses; each ends where the one before ended, and its interval later."""
    part = lines.of(_BEATS)
    is_beat = np.isfinite(part.values) & (part.values > 0)
    counts, seconds, intervals = part.counts[is_beat], part.seconds[is_beat] - zero, part.values[is_beat] / 1000
    if len(counts) < 2:
        return []
    times = _beat_times(counts, seconds, intervals)
    notes.append("IBI: stamps are whole seconds; beats that follow each other were placed by their intervals")
    return [channel_of_beats("IBI", lines.source, times, intervals)]


def _beat_times(counts: NDArray[np.int64], seconds: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return when each interval ended: within a run by the intervals, and the run where its stamps lie."""
    ends = np.cumsum(intervals)
    late = seconds - ends
    is_new = (np.diff(counts) != 1) | (np.abs(np.diff(late)) > _BETWEEN_BEATS)
    run = np.concatenate([[0], np.cumsum(is_new)])
    offsets = np.array([np.median(late[run == one]) for one in range(int(run[-1]) + 1)])
    times: FloatArray = ends + offsets[run] + 0.5  # a stamp in whole seconds is half a second early in the middle
    return np.maximum.accumulate(times)


def _raw_channels(lines: _Lines, zero: float, notes: list[str]) -> list[RawChannel]:
    """Return light and acceleration, counted by the device at 51.2 Hz."""
    parts = {tag: lines.of(tag) for tag in (*_RAW_TAGS, *_AXES)}
    parts = {tag: part for tag, part in parts.items() if len(part.counts) > 1}
    if not parts:
        return []
    first = min(int(part.counts[0]) for part in parts.values())
    n_samples = max(int(part.counts[-1]) for part in parts.values()) - first + 1
    n_rows = max(len(part.counts) for part in parts.values())
    if n_samples > 1000 * n_rows + 100_000:
        notes.append(f"{lines.source}: its counter leaves out nearly all samples; left out")
        return []
    if n_samples > n_rows:
        notes.append(f"{lines.source}: gaps: {n_samples - n_rows} of {n_samples} samples have no row and are missing")
    samples = np.full((len(parts), n_samples), np.nan)
    for row, part in enumerate(parts.values()):
        samples[row, part.counts - first] = part.values
    is_axis = [tag in _AXES for tag in parts]
    scale = counts_of_one_g(samples[is_axis], _COUNTS_OF_G) if sum(is_axis) == 3 else None
    if scale is None:
        notes.append("acceleration: gravity does not tell its scale; it is not used")
    else:
        notes.append(f"acceleration: gravity in the middle of it is {scale:g} counts, so that is 1 g")
        samples[is_axis] /= scale
    notes.append(f"{lines.source}: samples are placed by their counter at {_RAW_RATE} Hz, as the device is made")
    start = float(min(part.seconds.min() for part in parts.values())) - zero
    block = block_in_memory(samples)
    return [
        RawChannel(
            label=_AXES.get(tag) or _RAW_TAGS[tag],
            unit="g" if tag in _AXES and scale is not None else "",
            sampling_rate=_RAW_RATE,
            start_seconds=start,
            n_samples=n_samples,
            key=key,
            block=block,
            source=lines.source,
            modality="acc" if tag in _AXES and scale is not None else UNKNOWN,
            recognised_by=FORMAT if tag in _AXES and scale is not None else "",
        )
        for key, tag in enumerate(parts)
    ]
