"""Signals as columns of pixels: the range of each signal under every pixel of a screen, from few numbers.

Nothing here knows Qt. What lies under a pixel is read from the level of the pyramid that is next finer than it, or from
the samples; what was read is kept in tiles, so that a step to the side reads no more than what it brings in.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import MODALITIES
from biopercept.recording import FloatArray, Signal
from biopercept.viewing.pyramids import FINEST, Level, Pyramid, binned
from biopercept.viewing.timeline import RATING, SPOILT, Quality, Timeline

_TILE = 512
"""Bins, or samples, of a tile."""
_MOST_KEPT_BYTES = 96 << 20
_SIZES = (1, 4, 16)
"""Samples of a bin of tiles that are finer than any level of a pyramid."""
_USUAL_SECONDS = 10.0
_SLOW_HZ = 20.0
_SHOWN_AT_FIRST = ("hr",)

Range = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Columns:
    """The lowest and highest value of each channel under each pixel, both (n_channels, n_pixels), NaN in a gap.

    ``is_fine`` is False where time was short, and bins are wider than pixels for now.
    """

    lowest: Range
    highest: Range
    is_fine: bool = True


@dataclass(frozen=True)
class Row:
    """One channel of a signal on the screen; ``name`` is as corrections by hand name it: SIGNAL, or SIGNAL/CHANNEL."""

    signal: str
    channel: int
    name: str
    title: str
    unit: str
    modality: str


class Budget:
    """The time that may be spent on reading for one frame; one tile is read in any case, so that frames become fine."""

    def __init__(self, seconds: float = np.inf) -> None:
        self._until = time.perf_counter() + seconds
        self._n_read = 0

    def may_read(self) -> bool:
        """Return whether one more tile may be read, and count it."""
        if self._n_read and time.perf_counter() >= self._until:
            return False
        self._n_read += 1
        return True


class Trace:
    """One signal of a timeline, to be drawn at any zoom; ``pyramid`` is None of an irregular one."""

    def __init__(self, signal: Signal, pyramid: Pyramid | None) -> None:
        self.signal = signal
        self._levels: tuple[Level, ...] = () if pyramid is None else pyramid.levels
        self._tiles: OrderedDict[tuple[int, int], tuple[Range, Range]] = OrderedDict()
        self._n_kept = max(_MOST_KEPT_BYTES // (8 * _TILE * max(signal.n_channels, 1)), 8)
        self._points: tuple[FloatArray, FloatArray] | None = None
        if not signal.is_regular:
            order = np.argsort(signal.sample_times(), kind="stable")
            self._points = signal.sample_times()[order], signal.read()[:, order]
        self.centre, self.half, self.offset = self._usual()

    def columns(self, start: float, stop: float, n_pixels: int, budget: Budget | None = None) -> Columns:
        """Return what lies under each of ``n_pixels`` between two seconds of the recording's clock.

        What there is no ``budget`` to read for is drawn from wider bins.
        """
        budget = budget or Budget()
        edges = np.linspace(start, stop, n_pixels + 1)
        if self._points is not None:
            times, values = self._points
            first, last = np.searchsorted(times, [start, stop])
            part = slice(max(first - 1, 0), last + 1)
            return Columns(*columns_of_line(times[part], values[:, part], edges))
        per_second = self.signal.sampling_rate
        size = self._size_for((stop - start) * per_second / n_pixels)
        begin = (edges[[0, -1]] - self.signal.start_seconds) * per_second / size
        span = max(int(np.floor(begin[0])) - 1, 0), min(int(np.ceil(begin[1])) + 2, self._n_bins(size))
        if span[1] <= span[0]:
            nothing = np.full((self.signal.n_channels, n_pixels), np.nan, dtype=np.float32)
            return Columns(nothing, nothing)
        if self._read(size, span, budget):
            return Columns(*self._between(size, span, edges))
        wide = (span[0] * size // FINEST, min(span[1] * size // FINEST + 1, self._n_bins(FINEST)))
        self._read(FINEST, wide, Budget())
        return Columns(*self._between(FINEST, wide, edges), is_fine=False)

    def known_level(self, seconds: float) -> Level:
        """Return the whole signal in bins of about some seconds, in memory, for what is usual in it."""
        wanted = seconds * self.signal.sampling_rate
        finer = [level for level in self._levels if level.size <= wanted]
        level = finer[-1] if finer else self._levels[0]
        return level.part(0, level.n_bins).coarser(max(round(wanted / level.size), 1))

    def _size_for(self, samples_per_pixel: float) -> int:
        sizes = [*_SIZES, *(level.size for level in self._levels)]
        return max((size for size in sizes if size <= samples_per_pixel), default=1)

    def _n_bins(self, size: int) -> int:
        return -(-self.signal.n_samples // size)

    def _between(self, size: int, span: tuple[int, int], edges: FloatArray) -> tuple[Range, Range]:
        """Return columns from bins that are read: a line between samples, else the range of all bins of a column."""
        lowest, highest = (np.concatenate(parts, axis=1) for parts in zip(*self._parts(size, span), strict=True))
        begin = self.signal.start_seconds + span[0] * size / self.signal.sampling_rate
        if size == 1:
            times = begin + np.arange(lowest.shape[1]) / self.signal.sampling_rate
            return columns_of_line(times, lowest, edges)
        return columns_of_bins(lowest, highest, (edges - begin) * self.signal.sampling_rate / size)

    def _parts(self, size: int, span: tuple[int, int]) -> Iterator[tuple[Range, Range]]:
        for tile in range(span[0] // _TILE, (span[1] - 1) // _TILE + 1):
            first = tile * _TILE
            part = slice(max(span[0] - first, 0), span[1] - first)
            lowest, highest = self._tiles[size, tile]
            yield lowest[:, part], highest[:, part]

    def _read(self, size: int, span: tuple[int, int], budget: Budget) -> bool:
        """Read the tiles of bins that are not kept; return whether time was long enough for all of them."""
        tiles = range(span[0] // _TILE, (span[1] - 1) // _TILE + 1)
        for tile in tiles:
            if (size, tile) in self._tiles:
                self._tiles.move_to_end((size, tile))
                continue
            if not budget.may_read():
                return False
            self._tiles[size, tile] = self._tile(size, tile * _TILE, (tile + 1) * _TILE)
        while len(self._tiles) > max(self._n_kept, 2 * len(tiles)):
            self._tiles.popitem(last=False)
        return True

    def _tile(self, size: int, first: int, last: int) -> tuple[Range, Range]:
        kept = next((level for level in self._levels if level.size == size), None)
        if kept is not None:
            part = kept.part(first, min(last, kept.n_bins))
            return part.lowest, part.highest
        samples = self.signal.read(first * size, last * size)
        if size == 1:
            values = np.where(np.isfinite(samples), samples, np.nan).astype(np.float32)
            return values, values
        part = binned(samples, size)
        return part.lowest, part.highest

    def _usual(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return middle and half the usual range of each channel, and how far the middle lies above the baseline.

        Of waves that is in stretches of some seconds, of levels in all.
        """
        if self._points is not None:
            lowest = highest = self._points[1].astype(np.float32)
            is_slow = True
        else:
            is_slow = self.signal.sampling_rate < _SLOW_HZ
            level = self.known_level(_USUAL_SECONDS)
            lowest, highest = level.lowest, level.highest
        n_channels = self.signal.n_channels
        centre, half, offset = np.zeros(n_channels), np.ones(n_channels), np.zeros(n_channels)
        for channel, (low, high) in enumerate(zip(lowest, highest, strict=True)):
            low, high = (row[np.isfinite(row)].astype(np.float64) for row in (low, high))
            if not len(low):
                continue
            bottom, top = np.percentile(low, 1.0), np.percentile(high, 99.0)
            centre[channel] = (bottom + top) / 2 if is_slow else np.median(low + high) / 2
            if not is_slow and n_channels == 1:
                offset[channel] = float(np.nanmedian((lowest[channel] + highest[channel]) / 2 - level.mean[channel]))
            half[channel] = (top - bottom) / 2 if is_slow else np.percentile(high - low, 75.0) / 2
        known = half[half > 0]
        if not is_slow and n_channels > 1 and len(known):
            half[:] = np.median(known)  # channels of one sensor at one scale, or they could not be compared
        return centre, np.where(half > 0, half, np.maximum(np.abs(centre), 1.0) * 1e-3), offset

    @property
    def cost(self) -> float:
        """Return how much there is to read of a second: what costs little is read first."""
        return self.signal.n_channels * self.signal.sampling_rate if self.signal.is_regular else 0.0

    @property
    def is_wave(self) -> bool:
        """Return whether it goes up and down about a level that matters little."""
        return self.signal.is_regular and self.signal.sampling_rate >= _SLOW_HZ


class SpoiltSeconds:
    """Which seconds of a signal are spoilt, by channel, counted once so that any stretch is looked up."""

    def __init__(self, quality: Quality) -> None:
        is_spoilt = quality.index < SPOILT
        self._before = np.zeros((len(is_spoilt), is_spoilt.shape[1] + 1), dtype=np.int32)
        np.cumsum(is_spoilt, axis=1, out=self._before[:, 1:])

    def shares(self, start: float, stop: float, n_pixels: int) -> Range:
        """Return the share of spoilt seconds under each pixel, (n_channels, n_pixels); 0 where nothing was rated."""
        edges = np.linspace(start, stop, n_pixels + 1)
        last = self._before.shape[1] - 1
        first = np.clip(np.floor(edges[:-1]).astype(np.int64), 0, last)
        end = np.clip(np.ceil(edges[1:]).astype(np.int64), 0, last)
        n_spoilt = self._before[:, end] - self._before[:, first]
        return np.asarray(n_spoilt / np.maximum(end - first, 1), dtype=np.float32)


def columns_of_bins(lowest: Range, highest: Range, edges: FloatArray) -> tuple[Range, Range]:
    """Return the range of bins between edges, which are places among the bins, joined to that of the column before.

    A bin that is wider than a column is drawn in each that it covers. Columns outside the bins are gaps.
    """
    n_bins = lowest.shape[1]
    first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    last = np.maximum(np.ceil(edges[1:] - 1e-9).astype(np.int64), first + 1)
    is_inside = (last > 0) & (first < n_bins)
    starts = np.clip(first, 0, n_bins - 1)
    end = int(min(max(last[-1], starts[-1] + 1), n_bins))
    across = np.clip(last - 1, 0, n_bins - 1)  # a bin across an edge is in both columns
    low = np.fmin(np.fmin.reduceat(lowest[:, :end], starts, axis=1), lowest[:, across])
    high = np.fmax(np.fmax.reduceat(highest[:, :end], starts, axis=1), highest[:, across])
    low[:, ~is_inside], high[:, ~is_inside] = np.nan, np.nan
    return _joined(low, high)


def columns_of_line(times: FloatArray, values: NDArray[np.floating], edges: FloatArray) -> tuple[Range, Range]:
    """Return the range of a line through samples, (n_channels, n), between edges in seconds; gaps stay gaps."""
    shape = (len(values), len(edges) - 1)
    low, high = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    if not len(times):
        return low, high
    column = np.searchsorted(edges, times, side="right") - 1
    inside = (column >= 0) & (column < shape[1])
    used, starts = np.unique(column[inside], return_index=True)
    for channel, row in enumerate(values):
        at_edges = np.interp(edges, times, row, left=np.nan, right=np.nan)
        low[channel] = np.fmin(at_edges[:-1], at_edges[1:])
        high[channel] = np.fmax(at_edges[:-1], at_edges[1:])
        if len(used):
            points = row[inside]
            low[channel, used] = np.fmin(low[channel, used], np.fmin.reduceat(points, starts))
            high[channel, used] = np.fmax(high[channel, used], np.fmax.reduceat(points, starts))
    return low, high


def _joined(low: Range, high: Range) -> tuple[Range, Range]:
    """Return columns that reach to the one before, so that a line that only rises has no holes."""
    before_high, before_low = high[:, :-1], low[:, :-1]
    joined_low, joined_high = low.copy(), high.copy()
    is_known = np.isfinite(low[:, 1:])
    joined_low[:, 1:] = np.where(is_known, np.fmin(low[:, 1:], before_high), np.nan)
    joined_high[:, 1:] = np.where(is_known, np.fmax(high[:, 1:], before_low), np.nan)
    return joined_low, joined_high


def painted(columns: Sequence[tuple[Range, Range]], tops: Sequence[int], image: NDArray[np.uint8], shade: int) -> None:
    """Paint columns in pixels, counted down from the top of each row, into an image.

    ``columns`` are (lowest, highest) in pixels of the row, (n_pixels,) each; what reaches beyond the image is cut. NaN
    paints nothing. ``shade`` is written where there is something.
    """
    n_lines = image.shape[0]
    for (low, high), top in zip(columns, tops, strict=True):
        is_known = np.isfinite(low) & np.isfinite(high)
        if not is_known.any():
            continue
        upper = np.where(is_known, np.clip(low + top, -1, n_lines), n_lines + 1).astype(np.int16)
        lower = np.where(is_known, np.clip(high + top, -1, n_lines), -2).astype(np.int16)
        begin = max(int(upper[is_known].min()), 0)
        end = min(int(lower[is_known].max()) + 1, n_lines)
        if end <= begin:
            continue
        lines = np.arange(begin, end, dtype=np.int16)[:, None]
        np.copyto(image[begin:end], np.uint8(shade), where=(lines >= upper) & (lines <= lower))


def shaded(shares: Range, tops: Sequence[int], height: int, image: NDArray[np.uint8]) -> None:
    """Shade what is spoilt in rows of ``height`` pixels of an image: 1 where a part is, 2 where half of it is."""
    shades = (shares > 0).astype(np.uint8) + (shares >= 0.5)
    for shade, top in zip(shades, tops, strict=True):
        if shade.any():
            image[max(top, 0) : max(top + height, 0)] = shade


def traces_of(timeline: Timeline, pyramids: Mapping[str, Pyramid]) -> dict[str, Trace]:
    """Return the traces of a timeline's signals by name."""
    return {signal.name: Trace(signal, pyramids.get(signal.name)) for signal in timeline.signals}


def rows_of(signals: Sequence[Signal]) -> tuple[Row, ...]:
    """Return a row for each channel of signals, in their order."""
    return tuple(
        Row(
            signal.name,
            channel,
            signal.name if signal.n_channels == 1 else f"{signal.name}/{name}",
            signal.name if signal.n_channels == 1 else name,
            signal.unit,
            signal.modality,
        )
        for signal in signals
        for channel, name in enumerate(signal.channel_names)
    )


def is_shown_at_first(signal: Signal) -> bool:
    """Return whether a signal is drawn before anything is chosen: what was measured, ratings, and the heart rate."""
    return not signal.derived_from or signal.modality in (*_SHOWN_AT_FIRST, RATING)


def words_of(signal: Signal) -> str:
    """Return what a signal is, for a list of signals."""
    title = MODALITIES[signal.modality].title if signal.modality in MODALITIES else signal.modality
    rate = f"{signal.sampling_rate:g} Hz" if signal.is_regular else "irregular"
    return f"{signal.name}: {title}, {rate}"
