"""Streams of the Lab Streaming Layer: found by name, placed on one clock, taken up again when they come back.

A sample lies where its stamp says, on this machine's clock by the stream's own ``time_correction``. Stamps are uneven:
samples of a stream at a rate follow each other while their stamps agree with that to a quarter of a second, are moved
by a sample where they drift away, and a longer pause is a gap.

References
----------
C. Kothe et al., "The lab streaming layer for synchronized multimodal recording", Imaging Neuroscience 3 (2025),
doi:10.1162/IMAG.a.136; names of channel types and units: https://github.com/sccn/xdf/wiki/Meta-Data.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import SettingsError, listed
from biopercept.loaders.assembly import assemble_signals
from biopercept.loaders.readers.xdf import Placed, are_beats, channels_of
from biopercept.loaders.readers.xdf_chunks import XdfStream, stream_of_header
from biopercept.loaders.recognition import SignalOverride
from biopercept.progress import notice
from biopercept.recording import FloatArray
from biopercept.streaming.buffers import ENDLESS, RingBuffer, Stream, TimedBuffer
from biopercept.streaming.following import Followed
from biopercept.streaming.sources import buffer_for
from biopercept.training.checkpoint import Checkpoint
from biopercept.typed_values import not_among

GAP_SECONDS = 0.25
"""A delay shorter than this passes in any wireless link."""
SILENT_SECONDS = 5.0
"""Streams that gave nothing for so long are not waited for."""

_DRIFT_SECONDS, _SET_BACK_SECONDS = 10.0, 2.0
_LOOK_SECONDS, _POLL_SECONDS, _ASK_SECONDS, _ANSWER_SECONDS = 1.0, 0.005, 2.0, 10.0
_AT_ONCE = 1024
_ROUNDING = 1e-6


def library() -> Any:
    """Return the library of the Lab Streaming Layer. Raises SettingsError, with the line that installs it."""
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as fault:  # the package, or the library that it brings
        raise SettingsError(
            "streams are read through pylsl, which is not installed; python3 -m pip install 'biopercept[live]'"
        ) from fault
    _quieten(pylsl)
    return pylsl


def _quieten(pylsl: Any) -> None:
    """Have the library say nothing on stderr, where nobody configured it: it says what it does in many lines."""
    places = (Path("lsl_api.cfg"), Path("~/lsl_api/lsl_api.cfg"), Path("/etc/lsl_api/lsl_api.cfg"))
    if "LSLAPICFG" in os.environ or any(place.expanduser().is_file() for place in places):
        return
    if (configure := getattr(pylsl.util, "set_config_content", None)) is not None:
        with suppress(NotImplementedError):
            configure("[log]\nlevel = -3\n")


class Placement:
    """Numbers the samples of a stream at a rate by their stamps, seconds on one clock.

    Samples that are late by a pause leave a gap. Where the clock was set back they follow those before.
    """

    def __init__(self, sampling_rate: float) -> None:
        self._rate = sampling_rate
        self._gap = max(GAP_SECONDS, 2.5 / sampling_rate)
        self._next = 0
        self._late = self._set_back = 0.0
        self.start_seconds: float | None = None
        """Time of sample 0; None before it came."""

    def pieces(self, times: FloatArray) -> list[tuple[int, slice]]:
        """Return which samples follow each other, each piece with the number of its first one."""
        if self.start_seconds is None:
            self.start_seconds = float(times[0])
        breaks = np.flatnonzero(np.abs(np.diff(times) - 1 / self._rate) > self._gap) + 1
        edges = [0, *breaks.tolist(), len(times)]
        return [(self._number(times[first:stop]), slice(first, stop)) for first, stop in pairwise(edges)]

    def _number(self, times: FloatArray) -> int:
        """Return the number of the first of samples that follow each other."""
        n, start = len(times), self.start_seconds or 0.0
        late = times + self._set_back - start - (self._next + np.arange(n)) / self._rate
        least = float(late.min())  # of many samples the one that came soonest is hardly late
        shift = 0
        if least < -_SET_BACK_SECONDS:
            self._set_back -= least
        elif abs(least) > self._gap:
            shift, self._late = round(least * self._rate), 0.0
        else:
            self._late += (1 - math.exp(-n / self._rate / _DRIFT_SECONDS)) * (float(np.median(late)) - self._late)
            if abs(self._late) * self._rate > 1:
                shift = 1 if self._late > 0 else -1
                self._late -= shift / self._rate
        first = max(self._next + shift, 0)
        self._next = first + n
        return first


@dataclass(eq=False)
class _Connection:
    """An inlet of one stream, with what brings its stamps to this machine's clock; None until that is known."""

    name: str
    inlet: Any
    uid: str
    offset: float | None
    asked_at: float = 0.0


class LslSource:
    """Running streams by their names, on this machine's clock from when all of them were there."""

    is_running = True

    def __init__(
        self,
        names: Sequence[str],
        kept_seconds: float,
        waits: tuple[float, float],
        overrides: Mapping[str, SignalOverride] | None = None,
    ) -> None:
        """Find the streams and open them.

        ``waits`` are how long to look for them, and how long samples that are late are waited for, seconds.

        Raises SettingsError where a stream is not there, is there twice, holds text, or does not answer.
        """
        self._pylsl = library()
        self._patience = waits[1]
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise SettingsError(f"--stream {listed(twice)} is given twice; give each stream once")
        infos = self._found(names, waits[0])
        self._connections: dict[str, _Connection | None] = {}
        described = {}
        for name in names:
            self._connections[name], described[name] = self._opened(name, infos[name])
        self._described = described
        self._resolvers: dict[str, Any] = {}
        self._others: set[str] = set()  # announced under the name of a lost stream, and not it
        self.streams, self.notes = _streams(described, kept_seconds, overrides)
        self._placements = {
            stream.name: Placement(stream.buffer.sampling_rate)
            for stream in self.streams
            if isinstance(stream.buffer, RingBuffer)
        }
        self._zero = float(self._pylsl.local_clock())

    def now(self) -> float:
        """Return the seconds since all streams were there."""
        return float(self._pylsl.local_clock()) - self._zero

    def reach(self, end: float) -> bool:
        """Take in what comes until every stream that is not silent reaches ``end``, or patience is over."""
        while True:
            self._pull()
            now = self.now()
            awaited = [
                stream
                for stream in self.streams
                if isinstance(stream.buffer, RingBuffer)
                and stream.is_there
                and stream.buffer.end_seconds > now - SILENT_SECONDS
            ]
            is_complete = all(one.buffer.end_seconds >= end - _ROUNDING for one in awaited)
            if (now >= end and is_complete) or now >= end + self._patience:
                return True
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Let go of the streams."""
        self._connections = dict.fromkeys(self._connections)
        self._resolvers.clear()

    def _found(self, names: Sequence[str], wait_seconds: float) -> dict[str, Any]:
        """Return what is announced of each stream. Raises SettingsError where one is not, or twice."""
        until = time.monotonic() + wait_seconds
        while True:
            every = {info.uid(): info for info in self._pylsl.resolve_streams(_LOOK_SECONDS)}
            by_name: dict[str, list[Any]] = {}
            for info in every.values():
                by_name.setdefault(info.name(), []).append(info)
            if set(names) <= set(by_name) or time.monotonic() >= until:
                break
        absent = [name for name in names if name not in by_name]
        if absent:
            if not by_name:
                raise SettingsError(
                    f"no stream is on the network, and {listed(absent)} was looked for during {wait_seconds:g} s; "
                    "start its program, or wait longer (--wait)"
                )
            raise SettingsError(f"no stream on the network is called {not_among(absent, sorted(by_name))}")
        for name in names:
            if len(by_name[name]) > 1:
                hosts = listed(sorted({info.hostname() for info in by_name[name]}))
                raise SettingsError(
                    f"{len(by_name[name])} streams are called {name!r} (from {hosts}); give each a name of its own"
                )
        return {name: by_name[name][0] for name in names}

    def _opened(self, name: str, info: Any) -> tuple[_Connection, XdfStream]:
        """Return an open stream and its description. Raises SettingsError where it does not answer or is no signal."""
        pylsl = self._pylsl
        try:
            inlet = pylsl.StreamInlet(info, recover=False)
            described = stream_of_header(inlet.info(timeout=_ANSWER_SECONDS).as_xml())
            inlet.open_stream(timeout=_ANSWER_SECONDS)
            offset = float(inlet.time_correction(timeout=_ANSWER_SECONDS))
        except (RuntimeError, ValueError, UnicodeDecodeError) as fault:
            raise SettingsError(
                f"the stream {name!r} is announced and does not answer ({type(fault).__name__}); see that its program "
                "runs, and that no firewall is between"
            ) from fault
        if isinstance(described, str):
            raise SettingsError(f"the stream {name!r} cannot be read: {described}")
        if described.is_text:
            raise SettingsError(f"the stream {name!r} gives texts (markers), which are no signal; leave it out")
        return _Connection(name, inlet, info.uid(), offset, time.monotonic()), described

    def _pull(self) -> None:
        for stream in self.streams:
            connection = self._connections[stream.name] or self._again(stream.name)
            self._connections[stream.name] = connection
            stream.is_there = connection is not None
            if connection is None or not self._correct(connection):
                continue
            try:
                while len(self._take(stream, connection)) == _AT_ONCE:
                    pass
            except RuntimeError:  # lost: it is missing until it is announced again
                self._connections[stream.name] = None
                stream.is_there = False

    def _take(self, stream: Stream, connection: _Connection) -> FloatArray:
        """Put what came of a stream into its buffer, and return its stamps."""
        rows, stamps = connection.inlet.pull_chunk(timeout=0.0, max_samples=_AT_ONCE, as_numpy=True)
        if not len(stamps):
            return np.empty(0)
        times = np.asarray(stamps, dtype=np.float64) + (connection.offset or 0.0) - self._zero
        samples = np.asarray(rows, dtype=np.float64).T
        keep(stream, self._placements.get(stream.name), times, samples)
        return np.asarray(stamps)

    def _correct(self, connection: _Connection) -> bool:
        """Ask for the clock of a stream from time to time; return whether it is known."""
        now = time.monotonic()
        if connection.offset is None or now - connection.asked_at > _ASK_SECONDS:
            try:
                connection.offset, connection.asked_at = float(connection.inlet.time_correction(timeout=0.0)), now
            except RuntimeError:  # not known yet, or no answer now: the last one holds
                connection.asked_at = now
        return connection.offset is not None

    def _again(self, name: str) -> _Connection | None:
        """Return a stream that was lost and is announced again with the same channels; None while it is not."""
        resolver = self._resolvers.get(name)
        if resolver is None:
            self._resolvers[name] = self._pylsl.ContinuousResolver(prop="name", value=name)
            return None
        before = self._described[name]
        for info in resolver.results():
            if info.channel_count() == before.n_channels and info.nominal_srate() == before.rate:
                del self._resolvers[name]
                return _Connection(name, self._pylsl.StreamInlet(info, recover=False), info.uid(), None)
            if info.uid() not in self._others:
                self._others.add(info.uid())
                notice(
                    f"the stream {name!r} is back with {_shape(info.channel_count(), info.nominal_srate())}, and had "
                    f"{_shape(before.n_channels, before.rate)}: it stays missing until it is as before; begin the run "
                    "again to follow it"
                )
        return None


def _shape(n_channels: int, rate: float) -> str:
    """Return how many channels a stream has, and its rate, in words."""
    return f"{n_channels} channel{'s' if n_channels > 1 else ''} {f'at {rate:g} Hz' if rate else 'without a rate'}"


def keep(stream: Stream, placement: Placement | None, times: FloatArray, samples: FloatArray) -> None:
    """Put samples, (n_channels, n), into a stream's buffer at their times; those of before second zero are dropped."""
    is_usable = np.isfinite(times) & (times >= 0)
    times, samples = times[is_usable], samples[:, is_usable]
    if not len(times):
        return
    if placement is None:
        assert isinstance(stream.buffer, TimedBuffer)
        stream.buffer.put(times, samples)
        return
    assert isinstance(stream.buffer, RingBuffer)
    for first, piece in placement.pieces(times):
        stream.buffer.put(first, samples[:, piece])
    stream.buffer.start_seconds = placement.start_seconds or 0.0


def _streams(
    described: Mapping[str, XdfStream], kept_seconds: float, overrides: Mapping[str, SignalOverride] | None
) -> tuple[list[Stream], tuple[str, ...]]:
    """Return streams with their buffers and what their channels are, and notes on these."""
    buffers, channels = {}, []
    for name, stream in described.items():
        rate = 0.0 if are_beats(stream, stream.rate) else stream.rate
        buffer = buffers[name] = buffer_for(stream.n_channels, rate, kept_seconds)
        times = None if isinstance(buffer, RingBuffer) else np.empty(0)
        placed = Placed(rate or 1.0, 0.0, ENDLESS if rate else 0, buffer.read, times)
        channels += channels_of(stream, placed, name, stream.rate)
    signals, notes = assemble_signals(channels, overrides)
    streams = [Stream(name, buffer, tuple(s for s in signals if s.source == name)) for name, buffer in buffers.items()]
    return streams, notes


class PredictionOutlet:
    """Gives predictions out as a stream of type ``Predictions``, one sample each, stamped with the end of its window.

    Its channels, described as XDF has them, are by task the probabilities of the classes or the number, then quality
    and distance. What is withheld or not known is NaN.
    """

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        """Announce the stream. Raises SettingsError where the library is not installed."""
        self._pylsl = library()
        self._checkpoint = checkpoint
        channels = [row for task in checkpoint.tasks for row in _channels_of_task(task)]
        channels += [("quality", "1", "Quality"), ("distance", "1", "Distance")]
        info = self._pylsl.StreamInfo(name, "Predictions", len(channels), 0.0, "double64", f"biopercept-{name}")
        described = info.desc().append_child("channels")
        for row in channels:
            channel = described.append_child("channel")
            for key, value in zip(("label", "unit", "type"), row, strict=True):
                channel.append_child_value(key, value)
        self._outlet = self._pylsl.StreamOutlet(info)

    def give(self, one: Followed) -> None:
        """Give out one prediction."""
        values: list[float] = []
        for task in one.predictions.tasks.values():
            is_withheld = bool(task.reason[0])
            values += [math.nan if is_withheld else float(value) for value in task.values[0]]
        familiarity = one.predictions.familiarity
        values += [
            float(one.predictions.quality[0]),
            float(familiarity.distance[0]) if familiarity.is_known else math.nan,
        ]
        self._outlet.push_sample(values, self._pylsl.local_clock())


def _channels_of_task(task: Any) -> list[tuple[str, str, str]]:
    if not task.is_classification:
        return [(task.name, task.quantity, "Prediction")]
    return [(f"{task.name} {name}", "probability", "Prediction") for name in task.class_names]
