"""Where samples come from: what a running stream and a recording that is replayed have in common, and the replay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from biopercept.errors import RecordingError, SettingsError
from biopercept.recording import FloatArray, Recording, Signal
from biopercept.streaming.buffers import ENDLESS, RingBuffer, Stream, TimedBuffer

_ROUNDING = 1e-6
_AHEAD_SECONDS = 5.0
"""What is kept beyond a window: samples may come before the window that they belong to is due."""
_READ_SECONDS = 60.0


class Source(Protocol):
    """Streams on one clock, in seconds since they were first listened to."""

    @property
    def streams(self) -> Sequence[Stream]:
        """Every stream."""

    @property
    def notes(self) -> Sequence[str]:
        """What was guessed or not understood of their channels."""

    @property
    def is_running(self) -> bool:
        """Whether time goes on by itself, so that what is late must be left out."""

    def reach(self, end: float) -> bool:
        """Take in samples until all before ``end`` are there, or have been waited for; False where the source ended."""

    def now(self) -> float:
        """Return the time on the streams' clock, seconds."""

    def close(self) -> None:
        """Let go of what is open."""


def buffer_for(n_channels: int, sampling_rate: float, seconds: float) -> RingBuffer | TimedBuffer:
    """Return what keeps the last ``seconds`` of a stream; a rate of 0 is of samples at times of their own."""
    if sampling_rate > 0:
        return RingBuffer(n_channels, sampling_rate, seconds + _AHEAD_SECONDS)
    return TimedBuffer(n_channels, seconds + _AHEAD_SECONDS)


class Replay:
    """A recording given out as if it came now, ``speed`` times as fast; infinite: as fast as it is taken."""

    is_running = False

    def __init__(self, recording: Recording, speed: float, kept_seconds: float) -> None:
        """Begin at the recording's second zero.

        Raises SettingsError where the speed is no positive number. Raises RecordingError where it has no signal.
        """
        if not speed > 0:
            raise SettingsError(f"--speed is {speed:g}; it must be a number above 0, 1 for the recording's own pace")
        if not recording.signals:
            raise RecordingError("the recording has no signal, so there is nothing to replay")
        self.recording = recording
        self.notes = recording.notes
        self._speed = speed
        self._begun = time.monotonic()
        self._until = 0.0
        self._given = [_Given(signal) for signal in recording.signals]
        self.streams = [_stream_of(signal, kept_seconds) for signal in recording.signals]

    def now(self) -> float:
        """Return the time of the recording that has come."""
        return self._until

    def reach(self, end: float) -> bool:
        """Wait for ``end`` and give out what lies before it; False where the recording ends sooner."""
        if end > self.recording.duration_seconds + _ROUNDING:
            return False
        wait = self._begun + end / self._speed - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        for stream, given in zip(self.streams, self._given, strict=True):
            given.give(stream, end)
        self._until = end
        return True

    def close(self) -> None:
        """Do nothing: a recording is no connection."""


def _stream_of(signal: Signal, kept_seconds: float) -> Stream:
    """Return a stream of one signal, whose samples have their unit already."""
    rate = signal.sampling_rate if signal.is_regular else 0.0
    buffer = buffer_for(signal.n_channels, rate, kept_seconds)
    if isinstance(buffer, RingBuffer):
        buffer.start_seconds = signal.start_seconds

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        return buffer.read(range(signal.n_channels)[rows], start, stop)

    template = replace(signal, n_samples=ENDLESS if signal.is_regular else 0, reader=read)
    return Stream(signal.name, buffer, (template,))


class _Given:
    """How much of a signal was given out; its samples are read some time ahead, for each reading has its cost."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._n = 0
        self._piece, self._first = np.empty((signal.n_channels, 0)), 0

    def give(self, stream: Stream, end: float) -> None:
        """Put the samples before ``end`` that were not given yet into a stream."""
        signal, buffer = self._signal, stream.buffer
        if isinstance(buffer, RingBuffer):
            stop = int(np.ceil((end - signal.start_seconds) * signal.sampling_rate - _ROUNDING))
            stop = min(max(stop, self._n), signal.n_samples)
            while self._n < stop:
                n = min(stop - self._n, buffer.capacity)
                buffer.put(self._n, self._samples(n))
                self._n += n
            return
        times = signal.sample_times()
        stop = int(np.searchsorted(times, end))
        if stop > self._n:
            buffer.put(times[self._n : stop], signal.read(self._n, stop))
            self._n = stop

    def _samples(self, n: int) -> FloatArray:
        begin = self._n - self._first
        if begin + n > self._piece.shape[1]:
            ahead = max(n, round(_READ_SECONDS * self._signal.sampling_rate))
            self._piece, self._first, begin = self._signal.read(self._n, self._n + ahead), self._n, 0
        return self._piece[:, begin : begin + n]
