"""A model that follows its streams: one prediction after the other, how long each took, and what is said of the run."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from biopercept.errors import SettingsError
from biopercept.inference.prediction import Predictions, require_abstention
from biopercept.recording import Recording, Signal
from biopercept.results.live import LiveSummary
from biopercept.streaming.sources import Source
from biopercept.streaming.window import WindowPredictor
from biopercept.training.checkpoint import Checkpoint

MOST_BEHIND_SECONDS = 5.0
"""How far predictions may fall behind a running stream before some are left out."""
_MOST_TIMES = 100_000
_ROUNDING = 1e-6


@dataclass(frozen=True)
class FollowSettings:
    """How a stream is followed.

    ``every_seconds`` from one prediction to the next; ``most_seconds`` of the stream, None without an end. Predictions
    less sure than ``abstain_below``, and with ``abstain_unlike`` of windows unlike those that the model knows, are
    withheld. ``subject`` and ``recording`` say whose the stream is.
    """

    every_seconds: float = 1.0
    most_seconds: float | None = None
    abstain_below: float | None = None
    abstain_unlike: bool = False
    subject: str = ""
    recording: str = "live"

    def require(self, checkpoint: Checkpoint) -> None:
        """Refuse what makes no sense. Raises SettingsError."""
        if not (np.isfinite(self.every_seconds) and self.every_seconds > 0):
            raise SettingsError(f"--every is {self.every_seconds:g}; it must be a positive number of seconds")
        if self.most_seconds is not None and not self.most_seconds >= checkpoint.window_seconds:
            raise SettingsError(
                f"--seconds is {self.most_seconds:g} and the model's window is {checkpoint.window_seconds:g} s: "
                "nothing would be predicted"
            )
        require_abstention(checkpoint.tasks, self.abstain_below)


@dataclass(frozen=True, eq=False)
class Followed:
    """One prediction on the way: of the window that ends at ``end``, seconds on the streams' clock.

    ``missing`` are the signals of which no sample lies in the window; ``latency_seconds`` is the time from when its
    last sample was there until the prediction was, ``processor_seconds`` what of it this process worked.
    """

    end: float
    predictions: Predictions
    missing: tuple[str, ...]
    latency_seconds: float
    processor_seconds: float


@dataclass(eq=False)
class Tally:
    """What is counted while a stream is followed; the times are those of the last predictions."""

    n_predictions: int = 0
    n_withheld: int = 0
    n_left_out: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_TIMES))
    processor: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_TIMES))
    missing: dict[str, int] = field(default_factory=dict)

    def count(self, one: Followed) -> None:
        """Count a prediction."""
        self.n_predictions += 1
        self.n_withheld += any(reason for task in one.predictions.tasks.values() for reason in task.reason)
        self.latencies.append(one.latency_seconds)
        self.processor.append(one.processor_seconds)
        for name in one.missing:
            self.missing[name] = self.missing.get(name, 0) + 1

    def summary(self, model: str, seconds: float) -> LiveSummary:
        """Return the counts and times of a run of ``seconds`` of stream."""
        return LiveSummary(
            model=model,
            seconds=round(seconds, 3),
            predictions=self.n_predictions,
            withheld=self.n_withheld,
            left_out=self.n_left_out,
            missing=dict(sorted(self.missing.items())),
            latency_ms=_percentiles(self.latencies),
            processor_ms=_percentiles(self.processor),
        )


def _percentiles(seconds: Sequence[float] | deque[float]) -> dict[str, float]:
    """Return median, 95th and 99th percentile and the largest, milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    values = 1000 * np.percentile(np.array(seconds), [50, 95, 99, 100])
    return {name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)}


class Follower:
    """Predicts from a source, window after window; :meth:`each` gives one prediction after the other."""

    def __init__(
        self, checkpoint: Checkpoint, predictor: WindowPredictor, source: Source, settings: FollowSettings
    ) -> None:
        """Keep what is followed.

        Raises SettingsError where no stream has a sensor that the model reads, or the settings make no sense.
        """
        settings.require(checkpoint)
        signals = [signal for stream in source.streams for signal in stream.signals]
        predictor.require_sensors(signals, source.notes)
        self._predictor, self._source, self._settings = predictor, source, settings
        self._names = [signal.name for signal in signals]
        self.tally = Tally()
        self.seconds = 0.0

    def each(self, take: Callable[[Followed], None] = lambda _: None) -> Generator[Followed, None, None]:
        """Give predictions until the source ends or its time is over; ``take`` is part of the time that each takes."""
        every, length = self._settings.every_seconds, self._predictor.length_seconds
        number, is_first = 0, True
        with _little_garbage():
            while True:
                end = length + number * every
                most = self._settings.most_seconds
                if (most is not None and end > most + _ROUNDING) or not self._source.reach(end):
                    return
                one = self._predicted(end, take, is_first=is_first)
                self.seconds, is_first = end, not any(one.predictions.used)
                self.tally.count(one)
                yield one
                number += 1 + self._n_behind(end)

    def _n_behind(self, end: float) -> int:
        """Return how many predictions are to be left out, for a running stream went on meanwhile."""
        behind = self._source.now() - end
        if not self._source.is_running or behind <= max(MOST_BEHIND_SECONDS, 2 * self._settings.every_seconds):
            return 0
        n = int(behind // self._settings.every_seconds)
        self.tally.n_left_out += n
        return n

    def _predicted(self, end: float, take: Callable[[Followed], None], *, is_first: bool) -> Followed:
        begun, worked = time.perf_counter(), time.process_time()
        begin = self._predictor.begin_of(end)
        signals = tuple(signal for stream in self._source.streams for signal in stream.between(begin, end))
        who = self._settings
        recording = Recording(who.subject, "", who.recording, signals, notes=tuple(self._source.notes))
        predictions = self._predictor.predict(recording, end, with_words=is_first)
        if self._settings.abstain_below is not None or self._settings.abstain_unlike:
            predictions = predictions.abstaining(self._settings.abstain_below, unlike=self._settings.abstain_unlike)
        start = end - self._predictor.length_seconds - begin
        missing = _missing(self._names, signals, start)
        take(Followed(end, predictions, missing, 0.0, 0.0))
        return Followed(end, predictions, missing, time.perf_counter() - begun, time.process_time() - worked)


def _missing(names: Sequence[str], signals: Sequence[Signal], start: float) -> tuple[str, ...]:
    """Return the names of signals without a sample from ``start`` on."""
    there = set()
    for signal in signals:
        is_late = signal.sample_times() >= start - _ROUNDING
        if np.isfinite(signal.read()[:, is_late]).any():
            there.add(signal.name)
    return tuple(name for name in dict.fromkeys(names) if name not in there)


@contextmanager
def _little_garbage() -> Iterator[None]:
    """Keep what was made so far out of the search for garbage, which takes a tenth of a second over all of it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
