"""XDF files of the Lab Streaming Layer: streams at the rate that their stamps show, their clocks brought together.

Decoded by pyxdf, after every chunk was checked (:mod:`biopercept.loaders.readers.xdf_chunks`). Clock offsets are
applied, clock resets and breaks are gaps, and jitter is removed between them only. The nominal rate of a stream is what
its maker announced; samples lie where their stamps say.

References
----------
C. Kothe et al., "The lab streaming layer for synchronized multimodal recording", Imaging Neuroscience 3 (2025),
doi:10.1162/IMAG.a.136. XDF specification 1.0, https://github.com/sccn/xdf/wiki/Specifications; names of channel types
and units: https://github.com/sccn/xdf/wiki/Meta-Data.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, count, library_words, listed
from biopercept.loaders.annotations import LONGEST_LABEL, plain_words
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals, block_of_rows, block_on_grid
from biopercept.loaders.clock import FAR_SECONDS, LONGEST_DAYS, stray_times
from biopercept.loaders.libraries import library_for, quiet
from biopercept.loaders.readers.xdf_chunks import SoundChunks, XdfContent, XdfStream, opened, walk
from biopercept.loaders.recognition import FORMAT, SignalOverride, is_cap_grid, is_grid_socket, is_reference, recognise
from biopercept.loaders.time_grid import fit_grid
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

MOST_EVENTS = 200_000
_BREAK_SECONDS, _BREAK_SAMPLES = 0.9, 5
"""A pause this long is a break, over which no jitter is smoothed; the library's own 500 samples are minutes at 4 Hz."""
_RATE_TOLERANCE = 1e-3
_FAR_BYTES, _PIECE_BYTES = 1 << 16, 1 << 24
_MOST_ASTRAY_SECONDS = 0.5
_KINDS = {
    "eeg": "eeg",
    "ecg": "ecg",
    "ekg": "ecg",
    "eda": "eda",
    "gsr": "eda",
    "ppg": "bvp",
    "bvp": "bvp",
    "pulse": "bvp",
    "resp": "resp",
    "rsp": "resp",
    "respiration": "resp",
    "emg": "emg",
    "eog": "eog",
    "acc": "acc",
    "accelerometer": "acc",
    "temp": "temp",
    "temperature": "temp",
    "hr": "hr",
    "heartrate": "hr",
    "spo2": "spo2",
    "ibi": "ibi",
    "rr": "ibi",
}
"""Types of streams and channels, in lower case without blanks and signs, and what they measure."""
_OF_VOLTS, _VOLTS = ("eeg", "ecg", "ekg", "emg", "eog"), {"0": "V", "-3": "mV", "-6": "uV", "-9": "nV"}
_EVENT_KINDS = ("marker", "markers", "event", "events", "stim", "trigger", "triggers", "stringmarker")
_BESIDE = re.compile(
    r".*(aux|trig|stim|status|marker|event|count|index|time|batter|quality|impedance|valid|gyro|acc|packet|button).*"
)
"""Labels of channels that amplifiers send among those of the stream's type."""
_NO_LABEL = re.compile(r"(?i)(ch(an(nel)?)?)?[ _:.#-]*\d*")


def load_xdf(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an XDF file, its samples unread; those of a compressed one are kept in memory.

    Second zero is the first sample of any stream. Streams at a nominal rate become regular signals, with their breaks
    as missing samples; irregular ones are put on a grid where their stamps allow it. Strings, and numbers of
    marker streams, become intervals of duration 0.

    Raises RecordingError where the file cannot be trusted, or no stream has samples.
    """
    content = walk(path)
    decoded = _decoded(path, content)
    notes = list(content.notes)
    decoded = _on_one_clock(decoded, notes)
    if not decoded:
        raise RecordingError(f"{path.name}: no stream of the XDF file has samples ({'; '.join(notes[:3])})")
    raw: list[RawChannel] = []
    intervals: list[Interval] = []
    for one in decoded:
        if _is_events(one.stream):
            intervals.extend(_events(one, notes))
        else:
            raw.extend(_channels(path, one, notes))
    starts = [channel.start_seconds for channel in raw] + [interval.onset_seconds for interval in intervals]
    zero = min(starts, default=0.0)
    raw = [_moved(channel, -zero) for channel in raw]
    intervals = [replace(interval, onset_seconds=interval.onset_seconds - zero) for interval in intervals]
    if not raw:
        raise RecordingError(
            f"{path.name}: the XDF file holds no stream of numbers, so no signal ({'; '.join(notes[:3])})"
        )
    signals, more = assemble_signals(raw, overrides)
    intervals = _in_order(intervals, notes)
    started_at = _started_at(content.started, notes)
    return Recording("", "", _stem(path), signals, tuple(intervals), started_at, (*notes, *more))


def _moved(channel: RawChannel, seconds: float) -> RawChannel:
    times = None if channel.times is None else channel.times + seconds
    return replace(channel, start_seconds=channel.start_seconds + seconds, times=times)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


@dataclass(eq=False)
class _Decoded:
    """A stream with its samples: numbers (n, n_channels), or a list of lists of strings; times in seconds.

    ``segments`` are the first and last row of each run without a break; ``wobble`` is by how much, in seconds, the
    stamps differed from an even rate before jitter was removed.
    """

    stream: XdfStream
    samples: Any
    times: FloatArray
    segments: list[tuple[int, int]]
    rate: float
    wobble: float = 0.0

    @property
    def begin(self) -> float:
        """Return the time of the earliest sample."""
        return float(self.times.min())


def _decoded(path: Path, content: XdfContent) -> list[_Decoded]:
    """Return the streams that have samples, in the order of the file.

    Raises RecordingError where they cannot be read.
    """
    pyxdf = library_for(path, "pyxdf")
    store = _Store(path, content)
    with opened(path) as stream, quiet("pyxdf.pyxdf"), np.errstate(all="ignore"):
        options: dict[str, Any] = {
            "jitter_break_threshold_seconds": _BREAK_SECONDS,
            "jitter_break_threshold_samples": _BREAK_SAMPLES,
        }
        if content.has_broken_times:  # no line can be laid through times that are no numbers
            options = {"dejitter_timestamps": False}
            content.notes.append("some stamps are no numbers, so jitter was not removed")
        try:
            loaded = pyxdf.load_xdf(_sound(stream, content), on_chunk=store.keep, **options)[0]
        except Exception as fault:
            raise RecordingError(
                f"{path.name}: the streams of the XDF file cannot be decoded ({library_words(fault)})"
            ) from fault
    decoded = [one for stream in loaded if (one := store.decoded(stream, content.notes)) is not None]
    with_samples = {one.stream.stream_id for one in decoded}
    empty = [stream.name for key, stream in content.streams.items() if key not in with_samples]
    if empty:
        content.notes.append(f"no samples in the streams: {listed(empty)}")
    return decoded


def _sound(stream: Any, content: XdfContent) -> io.BufferedReader:
    return io.BufferedReader(SoundChunks(stream, content.pieces), 1 << 20)


def _kind(stream: XdfStream) -> np.dtype[Any]:
    return np.dtype(stream.channel_format.replace("double", "float")).newbyteorder("<")


class _SamplesInFile:
    """Samples of a stream of numbers, by row, read from a file that is not compressed, each at its place there."""

    def __init__(self, path: Path, stream: XdfStream, places: NDArray[np.int64]) -> None:
        self._path = path
        self._stream = stream
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def without(self, is_bad: NDArray[np.bool_]) -> _SamplesInFile:
        """Return the samples that are not bad."""
        return _SamplesInFile(self._path, self._stream, self._places[~is_bad])

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of values, (n, n_channels), as the file has them; what lies far apart is read apart."""
        places, size, kind = self._places[rows], self._stream.sample_bytes, _kind(self._stream)
        values = np.empty((len(places), self._stream.n_channels), dtype=kind)
        steps = np.diff(places)
        ends = [*(np.flatnonzero((steps < 0) | (steps > size + _FAR_BYTES)) + 1).tolist(), len(places)]
        first = 0
        with self._path.open("rb") as stream:
            for end in ends:
                while first < end:
                    last = int(np.searchsorted(places[first:end], places[first] + _PIECE_BYTES, side="right")) + first
                    begin = int(places[first])
                    stream.seek(begin)
                    content = stream.read(int(places[last - 1]) + size - begin)
                    if len(content) < int(places[last - 1]) + size - begin:
                        raise RecordingError(
                            f"{self._path.name}: the file became shorter while it was read; load it again"
                        )
                    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(content, np.uint8), size)
                    values[first:last] = windows[places[first:last] - begin].view(kind)
                    first = last
        return values


class _Store:
    """Takes the samples from the library as they are decoded: those of a compressed file are kept, others are not."""

    def __init__(self, path: Path, content: XdfContent) -> None:
        self._path = path
        self._streams = content.streams
        self._numbers = {
            key: np.empty((one.n_samples, one.n_channels), dtype=_kind(one))
            for key, one in self._streams.items()
            if content.is_packed and not one.is_text
        }
        self._stamps = {key: np.empty(one.n_samples) for key, one in self._streams.items()}
        self._n = dict.fromkeys(self._streams, 0)

    def keep(self, values: Any, stamps: FloatArray, info: Any, stream_id: int) -> tuple[Any, FloatArray, Any]:
        """Keep one chunk's samples; the library goes on with their times alone."""
        first = self._n[stream_id]
        self._n[stream_id] += len(stamps)
        self._stamps[stream_id][first : self._n[stream_id]] = stamps
        if stream_id in self._numbers:
            self._numbers[stream_id][first : self._n[stream_id]] = values
        if not self._streams[stream_id].is_text:
            values = np.empty((len(values), 0), dtype=values.dtype)  # a part of the values would keep all of them
        return values, stamps, info

    def decoded(self, loaded: Any, notes: list[str]) -> _Decoded | None:
        """Return a stream of the library with its samples; None where it has none."""
        info = loaded["info"]
        stream = self._streams[info["stream_id"]]
        times = np.asarray(loaded["time_stamps"], dtype=np.float64)
        n = len(times)
        if n < stream.n_samples:
            notes.append(
                f"{stream.name}: {stream.n_samples - n} samples after the {n} that its end states came with a broken "
                "clock offset and are left out"
            )
        if not n:
            return None
        samples = loaded["time_series"][:n] if stream.is_text else self._numbers.get(stream.stream_id)
        if samples is None:
            samples = _SamplesInFile(self._path, stream, np.array(stream.places, dtype=np.int64)[:n])
        samples = samples[:n] if isinstance(samples, np.ndarray) else samples
        segments = [(int(first), int(last)) for first, last in info["segments"]]
        wobble = _wobble(self._stamps[stream.stream_id][:n], segments) if stream.rate else 0.0
        return _Decoded(stream, samples, times, segments, float(info["effective_srate"]), wobble)


def _wobble(stamps: FloatArray, segments: list[tuple[int, int]]) -> float:
    """Return the largest distance in seconds of stamps from a straight line through each segment."""
    most = 0.0
    for first, last in segments:
        y = stamps[first : last + 1]
        if len(y) > 2 and np.isfinite(y).all():
            x = np.arange(len(y)) - (len(y) - 1) / 2
            y = y - y.mean()
            most = max(most, float(np.abs(y - x * float(x @ y) / float(x @ x)).max()))
    return most


def _on_one_clock(decoded: list[_Decoded], notes: list[str]) -> list[_Decoded]:
    """Return the streams whose times can be believed: finite, and within a day of where most samples begin."""
    usable = []
    for one in decoded:
        is_bad = ~np.isfinite(one.times)
        is_bad |= stray_times(np.where(is_bad, np.nan, one.times))
        if is_bad.any():
            notes.append(
                f"{one.stream.name}: {int(is_bad.sum())} samples have a time that is no number, or that all others "
                "contradict; they are left out"
            )
            one = _without(one, is_bad)
        if len(one.times):
            usable.append(one)
    if not usable:
        return []
    main = max(usable, key=lambda one: len(one.times)).begin
    near = [one for one in usable if abs(one.begin - main) <= FAR_SECONDS]
    for one in usable:
        if one not in near:
            notes.append(
                f"{one.stream.name}: begins {abs(one.begin - main) / 3600:.1f} h from the largest stream, on a clock "
                "of its own; the stream is left out"
            )
    with_clock = [one for one in near if one.stream.n_offsets]
    alone = [one.stream.name for one in near if not one.stream.n_offsets]
    if with_clock and alone:
        notes.append(f"{listed(alone)}: no clock offsets in the file, so its times are not brought to the others'")
    return near


def _without(one: _Decoded, is_bad: NDArray[np.bool_]) -> _Decoded:
    rows = np.flatnonzero(~is_bad)
    if isinstance(one.samples, _SamplesInFile):
        samples: Any = one.samples.without(is_bad)
    else:
        samples = [one.samples[row] for row in rows] if isinstance(one.samples, list) else one.samples[rows]
    # Where a row is gone, a segment ends: its samples are counted, so none may be missing within.
    segment = np.searchsorted([last for _, last in one.segments], rows)
    ends = np.flatnonzero((np.diff(rows) > 1) | (np.diff(segment) > 0))
    lasts = [*ends.tolist(), len(rows) - 1] if len(rows) else []
    firsts = [0, *(last + 1 for last in lasts[:-1])][: len(lasts)]
    return _Decoded(one.stream, samples, one.times[rows], list(zip(firsts, lasts, strict=True)), one.rate, one.wobble)


def _is_events(stream: XdfStream) -> bool:
    kind = re.sub(r"[^a-z]", "", stream.kind.lower())
    return stream.is_text or (stream.rate == 0 and stream.n_channels == 1 and kind in _EVENT_KINDS)


def _events(one: _Decoded, notes: list[str]) -> list[Interval]:
    """Return the samples of a marker stream as intervals of duration 0, at their stamps."""
    intervals = []
    n_empty = 0
    samples = one.samples[np.arange(len(one.samples))] if isinstance(one.samples, _SamplesInFile) else one.samples
    for sample, time in zip(samples, one.times, strict=True):
        label = _label([str(part) if isinstance(part, str) else f"{part:g}" for part in sample])
        if label:
            intervals.append(Interval(float(time), 0.0, label))
        else:
            n_empty += 1
    if n_empty:
        notes.append(
            f"{one.stream.name}: {count(n_empty, 'marker is empty and is', 'markers are empty and are')} left out"
        )
    return intervals


def _label(parts: list[str]) -> str:
    return plain_words(", ".join(part for part in parts if part.strip())[: 4 * LONGEST_LABEL])


def _in_order(intervals: list[Interval], notes: list[str]) -> list[Interval]:
    if len(intervals) > MOST_EVENTS:
        notes.append(f"{len(intervals)} markers; only the first {MOST_EVENTS} are used")
    return sorted(intervals, key=lambda interval: interval.onset_seconds)[:MOST_EVENTS]


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the samples of a stream lie: a rate in Hz, the first one's time, a block reader, times where irregular."""

    rate: float
    start: float
    n_samples: int
    block: BlockReader
    times: FloatArray | None = None


def _channels(path: Path, one: _Decoded, notes: list[str]) -> list[RawChannel]:
    """Return the channels of a stream of numbers; none, with a note, where it has no rate."""
    stream = one.stream
    rate = one.rate or stream.rate
    is_beats = are_beats(stream, rate)
    placed = _by_segment(one, notes) if stream.rate and not is_beats else _by_time(one, is_beats, notes)
    return [] if placed is None else channels_of(stream, placed, path.name, rate)


def are_beats(stream: XdfStream, rate: float) -> bool:
    """Return whether a channel of a stream gives intervals between heart beats, which come at times of their own."""
    return any(
        _modality(stream, place, rate) == "ibi" or recognise(label, channel.unit, stream.rate)[0] == "ibi"
        for place, (label, channel) in enumerate(zip(_labels(stream), stream.channels, strict=True))
    )


def channels_of(stream: XdfStream, placed: Placed, source: str, rate: float) -> list[RawChannel]:
    """Return the channels of a stream of numbers as its description has them, with samples where they were placed.

    ``rate`` is what the stamps show, in Hz, by which unnamed channels are recognised; ``source`` is what the signals
    say they came from.
    """
    labels = _labels(stream)
    modalities = [_modality(stream, place, rate) for place in range(stream.n_channels)]
    return [
        RawChannel(
            label=label,
            unit=_unit(channel.unit, channel.kind or stream.kind),
            sampling_rate=placed.rate,
            start_seconds=placed.start,
            n_samples=placed.n_samples,
            key=key,
            block=placed.block,
            source=source,
            modality=modality,
            recognised_by=FORMAT if modality else "",
            times=placed.times,
        )
        for key, (label, channel, modality) in enumerate(zip(labels, stream.channels, modalities, strict=True))
    ]


def _unit(unit: str, kind: str) -> str:
    """Return a channel's unit; of a voltage it may be given as the power of ten of a volt, as mne does (FIFF)."""
    return _VOLTS.get(unit, unit) if re.sub(r"[^a-z]", "", kind.lower()) in _OF_VOLTS else unit


def _labels(stream: XdfStream) -> list[str]:
    """Return a label for each channel; where it says no more than a number, with the name of the stream before it."""
    labels = [channel.label for channel in stream.channels]
    if stream.n_channels == 1 and not labels[0]:
        return [stream.name]
    return [
        f"{stream.name} {label or number}" if _NO_LABEL.fullmatch(label) else label
        for number, label in enumerate(labels, 1)
    ]


def _modality(stream: XdfStream, place: int, rate: float) -> str:
    """Return what the type of a channel or stream says it measures, where its label does not; else empty."""
    channel = stream.channels[place]
    if channel.label and recognise(channel.label, channel.unit, rate)[0] != UNKNOWN:
        return ""
    labels = tuple(one.label for one in stream.channels)
    is_socket = is_cap_grid(labels) and is_grid_socket(channel.label)
    if is_socket or is_reference(channel.label) or _BESIDE.fullmatch(channel.label.lower()):
        return ""
    kind = channel.kind or stream.kind
    return _KINDS.get(re.sub(r"[^a-z0-9]", "", kind.lower()), "")


def _by_segment(one: _Decoded, notes: list[str]) -> Placed | None:
    """Return a stream at a rate: within a segment its samples follow each other, the segments lie at their stamps."""
    name, stream = one.stream.name, one.stream
    if stream.can_drop_samples or not one.rate > 0:
        return _by_time(one, False, notes)
    _say_rates(one, notes)
    segments = sorted(one.segments, key=lambda segment: one.times[segment[0]])
    middles = [(one.times[first] + one.times[last]) / 2 for first, last in segments]
    span = float(one.times.max() - one.times.min())
    if span > LONGEST_DAYS * 86400:
        notes.append(f"{name}: its times span {span / 86400:.0f} days; the stream is left out")
        return None
    rate = stream.rate if span * abs(one.rate - stream.rate) < 0.5 else one.rate
    start = middles[0] - (segments[0][1] - segments[0][0]) / 2 / rate
    cells, rows, astray, n_over = [], [], 0.0, 0
    end = 0
    for (first, last), middle in zip(segments, middles, strict=True):
        n = last - first + 1
        cell = round((middle - start) * rate - (n - 1) / 2)
        over = end - cell
        if over > max(_MOST_ASTRAY_SECONDS * rate, 1):
            n_over += min(over, n)
            if over >= n:
                continue
            first, n, cell = first + over, n - over, end
        cell = max(cell, end)
        off = np.abs(start + (cell + np.array([0, n - 1])) / rate - one.times[[first, last]]).max()
        astray = max(astray, float(off))
        cells.append(np.arange(cell, cell + n))
        rows.append(np.arange(first, last + 1))
        end = cell + n
    if astray > _MOST_ASTRAY_SECONDS:
        notes.append(f"{name}: its rate changes by so much that no one rate holds; the stamps are kept")
        return _by_time(one, False, notes)
    if n_over:
        notes.append(f"{name}: {n_over} samples lie where others lie already (its clock was set back); left out")
    firsts = [one.times[first] for first, _ in one.segments]
    backs = [place for place in range(1, len(firsts)) if firsts[place] < one.times[one.segments[place - 1][1]]]
    if backs:
        back, row = one.times[one.segments[backs[0] - 1][1]] - firsts[backs[0]], one.segments[backs[0]][0]
        notes.append(
            f"{name}: its clock goes back {len(backs)} times (the first by {back:.3g} s at sample {row + 1}); the "
            "parts lie in the order of their times"
        )
    _say_gaps(one, np.concatenate(cells), rate, astray, notes)
    block = block_of_rows(one.samples, np.concatenate(cells), np.concatenate(rows))
    return Placed(rate, float(start), end, block)


def _say_rates(one: _Decoded, notes: list[str]) -> None:
    stream = one.stream
    if abs(one.rate / stream.rate - 1) > _RATE_TOLERANCE:
        notes.append(
            f"{stream.name}: the header says {stream.rate:g} Hz, the stamps say {one.rate:.6g} Hz; the stamps were used"
        )


def _say_gaps(one: _Decoded, cells: NDArray[np.int64], rate: float, astray: float, notes: list[str]) -> None:
    name = one.stream.name
    gaps = np.diff(cells) - 1
    if (gaps > 0).any():
        notes.append(
            f"{name}: {count(int((gaps > 0).sum()), 'gap')} (breaks or clock resets), {gaps.sum() / rate:.1f} s in "
            "all, are missing samples"
        )
    if astray > 1.5 / rate:
        notes.append(f"{name}: parts ran at different rates; samples lie up to {astray:.3f} s from their stamps")
    if one.wobble > max(0.02, 2 / rate):
        notes.append(
            f"{name}: stamps lie up to {one.wobble:.3f} s from an even rate, which was taken for jitter and removed; "
            "samples lost in between would look the same"
        )


def _by_time(one: _Decoded, is_beats: bool, notes: list[str]) -> Placed | None:
    """Return a stream at its own stamps, on a grid where they are even enough and are not those of beats."""
    name = one.stream.name
    order = np.argsort(one.times, kind="stable")
    grid = None if is_beats else fit_grid(one.times)
    if grid is not None and (grid.cells is not None or not one.stream.rate):
        notes.extend(f"{name}: {note}" for note in grid.notes)
        block = block_on_grid(one.samples, grid)
        times = grid.times if grid.cells is None else None
        return Placed(grid.sampling_rate, grid.start_seconds, grid.n_samples, block, times)
    steps = np.diff(one.times[order])
    steps = steps[steps > 0]
    if not len(steps):
        notes.append(f"{name}: {len(one.times)} samples at one time, so no rate; the stream is left out")
        return None
    times = one.times[order]
    return Placed(
        1 / float(np.median(steps)), float(times[0]), len(times), block_of_rows(one.samples, rows=order), times
    )


def _started_at(text: str, notes: list[str]) -> datetime | None:
    """Return the date and time of the file's header, with its zone if it has one; None where there is none."""
    if not text:
        return None
    try:
        started = datetime.fromisoformat(text)
        started + timedelta(days=LONGEST_DAYS)
    except (ValueError, OverflowError):
        notes.append("the date and time of the header cannot be read and are left out")
        return None
    notes.append("the start is the time of the file's header, some seconds before the first sample")
    return started
