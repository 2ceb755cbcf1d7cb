"""Signals packed for a page that is sent by mail: an overview of each, and as deep a level as a number of bytes allows.

Numbers become whole steps of a size that is chosen so that nobody sees the rounding (:func:`step_of`), and what is
written is the difference from the bin before, byte by byte, deflated: ``viewer.js`` undoes it. The levels deepen by
halves, always of the signal whose next half costs least, so that slow signals are there whole before a fast one takes
the rest.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.recording import FloatArray, Signal
from biopercept.viewing.predictions import PredictionTrack
from biopercept.viewing.pyramids import Level, Pyramid
from biopercept.viewing.timeline import Marks, Quality

OVERVIEW_BINS = 1024
MEAN_BINS = 8
"""Bins that share one mean: means cost room, and are of stretches anyway."""

VIEWED_BINS = 256
"""Bins that fill a narrow plot: by their usual range the rounding is chosen."""

_TIME_STEP = 1e-4
_MOST_POINTS = 200_000
_MOST_STEPS = 1 << 29
_MOST_BINS = 12_000_000  # of all channels: what a browser has room for, however little space flat signals take
_GROWTH, _GROWTH_TO_SAMPLES = 2.1, 1.6
_NATIVE_SAMPLE, _NATIVE_TOLERANCE = 20_000, 0.05


@dataclass
class Blob:
    """Arrays of whole numbers as deflated bytes, with what is needed to read them back."""

    streams: list[dict[str, Any]] = field(default_factory=list)
    _parts: list[bytes] = field(default_factory=list)

    def add(self, name: str, values: NDArray[Any], *, is_delta: bool = False) -> None:
        """Append an array (n_rows, n_columns) of whole numbers from 0, or of any below 2**30 as differences."""
        rows, columns = len(np.atleast_2d(values)), np.atleast_2d(values).shape[1]
        numbers = np.empty((rows, columns), dtype="<u4")
        for place, row in enumerate(np.atleast_2d(values)):
            steps = np.diff(row.astype(np.int64), prepend=0) if is_delta else row.astype(np.int64)
            numbers[place] = (steps << 1) ^ (steps >> 63) if is_delta else steps
        n_planes = max((int(numbers.max(initial=0)).bit_length() + 7) // 8, 1)
        planes = numbers.reshape(-1, 1).view(np.uint8)[:, :n_planes]
        self._parts.append(np.ascontiguousarray(planes.T).tobytes())
        self.streams.append({"name": name, "planes": n_planes, "rows": rows, "columns": columns, "delta": is_delta})

    def add_floats(self, name: str, values: FloatArray) -> None:
        """Append an array of numbers as float32, (n_rows, n_columns)."""
        self.add(name, np.atleast_2d(values).astype("<f4").view("<u4"))
        self.streams[-1]["float"] = True

    def bytes(self) -> bytes:
        """Return all of it, deflated."""
        return zlib.compress(b"".join(self._parts), 6)


@dataclass(frozen=True, eq=False)
class Packed:
    """One level of a signal: ``head`` says what is in ``data``; ``error`` is the largest rounding of each channel.

    ``ends`` are the lowest and the highest sample, NaN where none is known.
    """

    head: dict[str, Any]
    data: bytes
    error: FloatArray
    ends: tuple[float, float]

    @property
    def size(self) -> int:
        """Return what it takes in a page, where bytes are written as base64 letters."""
        return 4 * len(self.data) // 3 + 200


@dataclass(frozen=True, eq=False)
class PackedSignal:
    """A signal as the page has it: an overview, and the deepest level there was room for, which may be the same."""

    overview: Packed
    deepest: Packed


def packed_signals(
    pyramids: Mapping[str, Pyramid], irregular: Mapping[str, Signal], budget: int
) -> dict[str, PackedSignal]:
    """Return signals by name, all that was wanted in at most ``budget`` letters, as long as the overviews fit in."""
    overviews = {name: _packed(one.at(size), one.signal) for name, one in pyramids.items() for size in (_widest(one),)}
    points = {name: _points(signal) for name, signal in irregular.items()}
    deepest = dict(overviews)
    sizes = {name: _widest(one) for name, one in pyramids.items()}
    left = budget - sum(one.size for one in (*overviews.values(), *points.values()))
    queue = [(_next_cost(deepest[name], sizes[name]), name) for name in sizes if sizes[name] > 1]
    heapq.heapify(queue)
    bins = {name: one.head["n"] * pyramids[name].signal.n_channels for name, one in overviews.items()}
    while queue:
        cost, name = heapq.heappop(queue)
        if sum(bins.values()) + bins[name] > _MOST_BINS:
            continue
        freed = 0 if deepest[name] is overviews[name] else deepest[name].size
        if cost > left + freed:
            continue
        one = _packed(pyramids[name].at(sizes[name] // 2), pyramids[name].signal)
        if one.size > left + freed:
            continue
        left += freed - one.size
        deepest[name], sizes[name] = one, sizes[name] // 2
        bins[name] *= 2
        if sizes[name] > 1:
            heapq.heappush(queue, (_next_cost(one, sizes[name]), name))
    packed = {name: PackedSignal(overviews[name], deepest[name]) for name in pyramids}
    return packed | {name: PackedSignal(one, one) for name, one in points.items()}


def _widest(one: Pyramid) -> int:
    size = 1
    while one.signal.n_samples > size * OVERVIEW_BINS:
        size *= 2
    return size


def _next_cost(one: Packed, size: int) -> int:
    return round(one.size * (_GROWTH_TO_SAMPLES if size == 2 else _GROWTH))


def _packed(level: Level, signal: Signal) -> Packed:
    """Return a level of a regular signal."""
    blob = Blob()
    steps, offsets, error = _add_values(blob, level, is_range=level.size > 1)
    if level.size > 1:
        whole = level.coarser(MEAN_BINS)
        means = _filled((whole.mean - offsets[:, None]) / steps[:, None])
        blob.add("mean", _whole(means), is_delta=True)
        blob.add("count", whole.known)
    head = {
        "seconds": level.size / signal.sampling_rate,
        "samples": level.size,
        "n": level.n_bins,
        "range": level.size > 1,
        "meanBins": MEAN_BINS,
        "step": steps.tolist(),
        "offset": offsets.tolist(),
        "streams": blob.streams,
    }
    return Packed(head, blob.bytes(), error, _ends(level))


def _points(signal: Signal) -> Packed:
    """Return an irregular signal: every sample at its time, or of very many the range of equal times."""
    assert signal.times is not None
    order = np.argsort(signal.times, kind="stable")
    times, samples = signal.times[order], signal.read()[:, order]
    blob = Blob()
    n = len(times)
    is_range = n > _MOST_POINTS
    seconds = 0.0
    if is_range:
        seconds = max((times[-1] - times[0]) / (_MOST_POINTS // 4), 1e-9)
        level = _in_time(times, samples, seconds)
    else:
        blob.add("times", np.rint((times - signal.start_seconds) / _TIME_STEP), is_delta=True)
        known = np.isfinite(samples)
        values = np.where(known, samples, np.nan).astype(np.float32)
        level = Level(1, values, values, values, known.astype(np.uint32))
    steps, offsets, error = _add_values(blob, level, is_range=is_range)
    head = {
        "seconds": seconds,
        "samples": 1,
        "n": level.n_bins,
        "range": is_range,
        "meanBins": 1,
        "timeStep": _TIME_STEP,
        "step": steps.tolist(),
        "offset": offsets.tolist(),
        "streams": blob.streams,
    }
    return Packed(head, blob.bytes(), error, _ends(level))


def _in_time(times: FloatArray, samples: FloatArray, seconds: float) -> Level:
    """Return samples at irregular times in bins of equal length."""
    bins = ((times - times[0]) / seconds).astype(np.int64)
    shape = (len(samples), int(bins[-1]) + 1)
    lowest, highest = np.full(shape, np.nan), np.full(shape, np.nan)
    known, total = np.zeros(shape), np.zeros(shape)
    for channel, row in enumerate(samples):
        is_known = np.isfinite(row)
        at, values = bins[is_known], row[is_known]
        np.fmin.at(lowest[channel], at, values)
        np.fmax.at(highest[channel], at, values)
        np.add.at(known[channel], at, 1)
        np.add.at(total[channel], at, values)
    mean = np.divide(total, known, out=np.full(shape, np.nan), where=known > 0)
    low, high, middle = (one.astype(np.float32) for one in (lowest, highest, mean))
    return Level(1, low, high, middle, known.astype(np.uint32))


def _add_values(blob: Blob, level: Level, *, is_range: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Add lowest (and highest) of each bin, and where there is none; return steps, offsets and errors by channel."""
    is_gap = level.known == 0
    if is_gap.any():
        blob.add("gap", is_gap)
    rounding = [step_of(level, channel) for channel in range(len(level.lowest))]
    steps, offsets = (np.array(values, dtype=np.float64) for values in zip(*rounding, strict=True))
    whole = np.empty((2, *level.lowest.shape), dtype=np.int32)
    errors = np.zeros((2, len(steps)))
    for end, rows in enumerate((level.lowest, level.highest)):
        for channel, row in enumerate(rows.astype(np.float64)):
            whole[end, channel] = _whole(_filled((row - offsets[channel])[None] / steps[channel]))[0]
            off = np.abs(whole[end, channel] * steps[channel] + offsets[channel] - row)
            errors[end, channel] = np.max(off, where=~is_gap[channel], initial=0.0)
    blob.add("lowest", whole[0], is_delta=True)
    if is_range:
        blob.add("width", whole[1] - whole[0])
    return steps, offsets, errors.max(axis=0)


def _ends(level: Level) -> tuple[float, float]:
    if not level.known.any():
        return np.nan, np.nan
    return float(np.nanmin(level.lowest)), float(np.nanmax(level.highest))


def _whole(values: FloatArray) -> NDArray[np.int64]:
    return np.clip(np.rint(values), -_MOST_STEPS, _MOST_STEPS).astype(np.int64)


def _filled(values: FloatArray) -> FloatArray:
    """Return values with those that are missing as the one before them, which costs nothing."""
    is_known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(is_known, np.arange(values.shape[1]), 0), axis=1)
    out = np.take_along_axis(values, last, axis=1)
    return np.where(np.isfinite(out), out, 0.0)


def step_of(level: Level, channel: int) -> tuple[float, float]:
    """Return the step that values of a channel are rounded to, and the value that is zero steps.

    It is the step in which the device wrote them, where there is one that is not much finer than needed: nothing is
    rounded then. Otherwise a step is a small part of the range that a narrow view of :data:`VIEWED_BINS` has, at the
    calmest twentieth of the recording: a quarter of a thousandth of samples, which can be zoomed into, else 1 in 256.
    """
    lowest, highest = level.lowest[channel], level.highest[channel]
    known = lowest[np.isfinite(lowest)].astype(np.float64)
    if len(known) == 0:
        return 1.0, 0.0
    offset = float(np.median(known))
    top = float(np.nanmax(highest))
    bottom = float(known.min())
    low, high = np.percentile(known, 0.5), np.nanpercentile(highest, 99.5)
    usual = float(high - low) or top - bottom
    if usual == 0.0:
        return max(abs(offset), 1.0) * 1e-6, offset
    parts = 1024 if level.size == 1 else VIEWED_BINS
    starts = np.arange(0, level.n_bins, VIEWED_BINS)
    ranges = np.fmax.reduceat(highest, starts) - np.fmin.reduceat(lowest, starts)
    ranges = ranges[ranges > 0]
    calm = float(np.percentile(ranges, 5)) if len(ranges) else usual
    step = float(np.clip(calm / parts, usual / (1 << 17), usual / parts))
    # Beyond what can be written: a spike so far out costs the rest some of its digits.
    step = max(step, max(top - offset, offset - bottom) / (_MOST_STEPS - 1))
    native = _native_step(known[:_NATIVE_SAMPLE])
    if native is not None and native >= step / 4:
        return native, float(known[0])
    return step, offset


def _native_step(values: FloatArray) -> float | None:
    """Return the step that all values are multiples of, apart from an offset; None where there is none."""
    distinct = np.unique(values)
    if len(distinct) < 3:
        return None
    rise, steps = distinct - distinct[0], np.diff(distinct)
    step = float(steps[steps < 1.5 * steps.min()].mean())
    # A small difference carries an error of its digits; over more and more steps the mean one is told better.
    for most in (32.0, 1024.0, 32768.0, np.inf):
        near = rise[rise <= most * step]
        count = np.rint(near / step)
        step = float((near * count).sum() / max(np.square(count).sum(), 1.0)) or step
    count = rise / step
    return step if np.abs(count - np.rint(count)).max() <= _NATIVE_TOLERANCE else None


def packed_quality(quality: Quality) -> tuple[list[dict[str, Any]], bytes]:
    """Return a signal's quality by channel and second: per cent, and bits of reasons where they are known."""
    blob = Blob()
    blob.add("index", np.rint(100.0 * np.nan_to_num(quality.index)).clip(0, 100))
    if quality.reasons is not None:
        blob.add("reasons", quality.reasons)
    return blob.streams, blob.bytes()


def packed_marks(marks: Marks) -> tuple[list[dict[str, Any]], bytes]:
    """Return times and values of what was detected."""
    blob = Blob()
    blob.add("times", np.rint(marks.times / _TIME_STEP), is_delta=True)
    blob.add_floats("values", marks.values[None])
    return blob.streams, blob.bytes()


def packed_track(track: PredictionTrack) -> tuple[list[dict[str, Any]], bytes]:
    """Return windows and single times of predictions; classes by their place, -1 of none as 0, and so one more."""
    blob = Blob()
    places = {name: place + 1 for place, name in enumerate(track.classes)}
    blob.add_floats("onset", track.onset[None])
    blob.add_floats("duration", track.duration[None])
    blob.add_floats("values", track.values.T)
    blob.add("predicted", np.array([[places.get(name, 0) for name in track.predicted]], dtype=np.int64))
    blob.add("label", np.array([[places.get(name, 0) for name in track.label]], dtype=np.int64))
    blob.add("unlike", track.is_unlike[None])
    blob.add_floats("truth", track.truth[None])
    blob.add_floats("traceSeconds", track.trace_seconds[None])
    blob.add_floats("traceValues", track.trace_values.T)
    return blob.streams, blob.bytes()
