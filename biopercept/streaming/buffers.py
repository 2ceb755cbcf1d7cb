"""What is kept of a stream: its last seconds, at their places on the clock, in memory that never grows.

Samples at a rate lie in a ring by their number since the stream began, those at times of their own in arrays that are
cut. What did not come is NaN, as in a recording with gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from biopercept.recording import FloatArray, Signal

MOST_EVENTS_PER_SECOND = 50
"""Of samples at times of their own, such as heart beats: more come from no body, and the oldest are dropped."""
ENDLESS = 1 << 53
"""Number of samples of a signal that goes on."""

_ROUNDING = 1e-6


class RingBuffer:
    """The last ``seconds`` of channels at a fixed rate; a sample is named by its number since the stream began."""

    def __init__(self, n_channels: int, sampling_rate: float, seconds: float) -> None:
        self.sampling_rate = sampling_rate
        self.start_seconds = 0.0
        self.n_samples = 0
        self._ring = np.full((n_channels, math.ceil(seconds * sampling_rate) + 1), np.nan)
        self.read = partial(_read_ring, self)
        """``read(keys, start, stop)``: samples of channels, (len(keys), stop - start), NaN where none is kept."""

    @property
    def capacity(self) -> int:
        """Return how many samples of a channel are kept."""
        return self._ring.shape[1]

    @property
    def end_seconds(self) -> float:
        """Return the end of the last sample on the recording's clock."""
        return self.start_seconds + self.n_samples / self.sampling_rate

    def put(self, first: int, samples: FloatArray) -> None:
        """Keep samples, (n_channels, n), from number ``first`` on; what lies between is missing.

        Samples before the last one that is kept replace those there; before what is kept they are dropped.
        """
        stop = first + samples.shape[1]
        if first > self.n_samples:
            self._write(max(self.n_samples, first - self.capacity), first, np.nan)
        oldest = max(stop, self.n_samples) - self.capacity
        if first < oldest:
            samples, first = samples[:, oldest - first :], oldest
        if samples.shape[1]:
            self._write(first, stop, samples)
        self.n_samples = max(self.n_samples, stop)

    def _write(self, first: int, stop: int, samples: FloatArray | float) -> None:
        self._ring[:, np.arange(first, stop) % self.capacity] = samples


def _read_ring(buffer: RingBuffer, keys: Sequence[int], start: int, stop: int) -> FloatArray:
    block = np.full((len(keys), max(stop - start, 0)), np.nan)
    first, last = max(start, buffer.n_samples - buffer.capacity, 0), min(stop, buffer.n_samples)
    if first < last:
        place = np.arange(first, last) % buffer.capacity
        block[:, first - start : last - start] = buffer._ring[np.ix_(np.array(keys, dtype=np.int64), place)]
    return block


class TimedBuffer:
    """The last ``seconds`` of channels whose samples come at times of their own, such as intervals between beats."""

    def __init__(self, n_channels: int, seconds: float) -> None:
        self.times: FloatArray = np.empty(0)
        self._samples: FloatArray = np.empty((n_channels, 0))
        self._seconds = seconds
        self.read = partial(_read_timed, self)
        """``read(keys, start, stop)`` of what is kept, as that of :class:`RingBuffer`."""

    @property
    def end_seconds(self) -> float:
        """Return the time of the last sample on the recording's clock; minus infinity before the first."""
        return float(self.times[-1]) if len(self.times) else -math.inf

    def put(self, times: FloatArray, samples: FloatArray) -> None:
        """Keep samples, (n_channels, n), at their times, seconds on the recording's clock; in order of time."""
        times, samples = np.concatenate([self.times, times]), np.concatenate([self._samples, samples], axis=1)
        order = np.argsort(times, kind="stable")
        most = int(MOST_EVENTS_PER_SECOND * self._seconds)
        first = max(int(np.searchsorted(times[order], times[order[-1]] - self._seconds)), len(order) - most)
        self.times, self._samples = times[order[first:]], samples[:, order[first:]]


def _read_timed(buffer: TimedBuffer, keys: Sequence[int], start: int, stop: int) -> FloatArray:
    return np.asarray(buffer._samples[list(keys), start:stop])


@dataclass(eq=False)
class Stream:
    """A stream that is followed: what is kept of it, and the signals that its channels are.

    ``signals`` read from the buffer, converted to the unit of their modality; those of samples at a rate go on without
    an end. ``is_there`` is whether its source is connected.
    """

    name: str
    buffer: RingBuffer | TimedBuffer
    signals: tuple[Signal, ...]
    is_there: bool = True

    def between(self, begin: float, end: float) -> list[Signal]:
        """Return the signals from ``begin`` to ``end``, seconds on the recording's clock, on a clock from ``begin``.

        They reach to the end whatever has come; one of which nothing came is absent.
        """
        cut = (_at_rate if isinstance(self.buffer, RingBuffer) else _at_times)(self, begin, end)
        return [signal for signal in cut if np.isfinite(signal.read()).any()]


def _at_rate(stream: Stream, begin: float, end: float) -> list[Signal]:
    buffer = stream.buffer
    assert isinstance(buffer, RingBuffer)
    rate, start = buffer.sampling_rate, buffer.start_seconds
    first, stop = (math.ceil((at - start) * rate - _ROUNDING) for at in (begin, end))
    first = max(first, 0)
    if stop <= first:
        return []
    place = start + first / rate - begin
    return [
        replace(signal.with_samples(signal.read(first, stop), rate), start_seconds=place) for signal in stream.signals
    ]


def _at_times(stream: Stream, begin: float, end: float) -> list[Signal]:
    buffer = stream.buffer
    assert isinstance(buffer, TimedBuffer)
    first, stop = (int(np.searchsorted(buffer.times, at)) for at in (begin, end))
    if stop <= first:
        return []
    times, cut = buffer.times[first:stop] - begin, []
    for signal in stream.signals:
        kept = replace(signal, n_samples=len(buffer.times), times=buffer.times)
        one = signal.with_samples(kept.read(first, stop), signal.sampling_rate)
        cut.append(replace(one, times=times, start_seconds=float(times[0])))
    return cut
