"""A recording: signals that each keep their own rate, start and unit, labels, and what was corrected in it by hand.

Nothing here knows a file format. Times are seconds on the recording's own clock (zero is
the recording's start), amplitudes are in the unit that the signal names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StoreError

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
SampleReader = Callable[[int, int, slice], FloatArray]
"""``reader(start, stop, rows)`` gives samples of some channels: (n_rows, stop - start), NaN where missing."""

EVERY = slice(None)
"""All channels of a signal."""

_TOLERANCE_SECONDS = 1e-6  # onsets are sums of floats
_KNOWN_FRACTION = 0.5
"""Fraction of a window in which a rating must be known for the window to have one."""


@dataclass(frozen=True)
class Channel:
    """One channel of a signal: its name, tidied ("Fp1", "x", "ECG"), and where its electrode is.

    The position is in metres in mne's ``head`` frame, None where not known.
    """

    name: str
    position: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A labelled part of a recording, on the recording's clock; the label is its ``trial_type`` in the study."""

    onset_seconds: float
    duration_seconds: float
    label: str

    @property
    def end_seconds(self) -> float:
        """Return the end in seconds on the recording's clock."""
        return self.onset_seconds + self.duration_seconds


def outside(whole: Interval, others: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return the parts of an interval in which none of the others lies, under its label, in time order.

    >>> [(i.onset_seconds, i.duration_seconds) for i in outside(Interval(0, 100, "rest"), [Interval(20, 30, "task")])]
    [(0, 20), (50, 50)]
    """
    parts = []
    free = whole.onset_seconds
    for other in sorted(others, key=lambda one: one.onset_seconds):
        if free < min(other.onset_seconds, whole.end_seconds):
            parts.append(Interval(free, min(other.onset_seconds, whole.end_seconds) - free, whole.label))
        free = max(free, other.end_seconds)
    if free < whole.end_seconds:
        parts.append(Interval(free, whole.end_seconds - free, whole.label))
    return tuple(parts)


@dataclass(frozen=True, eq=False)
class Signal:
    """Channels of one sensor with one sampling rate, one start and one unit.

    Samples are read on demand by ``reader(start, stop, rows)``, (n_rows, stop - start) float64; a missing sample is
    NaN, never a filled value. ``name`` is unique within the recording ("BVP", "EEG"); ``modality`` a key of
    :data:`biopercept.modalities.MODALITIES`, or "unknown". An *irregular* signal (inter-beat intervals) has ``times``,
    seconds of each sample on the recording's clock, and its ``sampling_rate`` (Hz) is the median one, for information
    only. ``source`` is the name of the file that it came from, without folder; ``recognised_by`` how the modality was
    found ("label", "unit", "study", "format", "derived"); ``derived_from`` the signal that it was computed from, empty
    for a measured one.
    """

    name: str
    modality: str
    unit: str
    sampling_rate: float
    start_seconds: float
    channels: tuple[Channel, ...]
    n_samples: int
    reader: SampleReader = field(repr=False)
    times: FloatArray | None = field(default=None, repr=False)
    source: str = ""
    recognised_by: str = ""
    derived_from: str = ""

    @property
    def n_channels(self) -> int:
        """Return the number of channels."""
        return len(self.channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Return the names of the channels, in order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def is_regular(self) -> bool:
        """Return whether samples come at a fixed rate."""
        return self.times is None

    @property
    def duration_seconds(self) -> float:
        """Return the time from the first sample to the end of the last, seconds."""
        if self.times is not None:
            return float(self.times[-1] - self.times[0]) if len(self.times) else 0.0
        return self.n_samples / self.sampling_rate

    @property
    def end_seconds(self) -> float:
        """Return the end of the last sample in seconds on the recording's clock."""
        if self.times is not None:
            return float(self.times[-1]) if len(self.times) else self.start_seconds
        return self.start_seconds + self.duration_seconds

    def read(self, start: int = 0, stop: int | None = None, rows: slice = EVERY) -> FloatArray:
        """Return samples ``start`` to ``stop`` of channels ``rows``: (n_channels, n) float64, NaN where missing.

        Bounds outside the signal are clipped to it.
        """
        last = self.n_samples if stop is None else min(stop, self.n_samples)
        first = min(max(start, 0), last)
        return self.reader(first, last, rows)

    def of_rows(self, rows: slice) -> Signal:
        """Return the signal with some of its channels."""
        places, reader = range(self.n_channels)[rows], self.reader

        def read(start: int, stop: int, inner: slice) -> FloatArray:
            chosen = places[inner]
            return reader(start, stop, slice(chosen.start, chosen.stop, chosen.step))

        return replace(self, channels=self.channels[rows], reader=read)

    def sample_times(self) -> FloatArray:
        """Return the time of every sample, seconds on the recording's clock: (n_samples,)."""
        if self.times is not None:
            return self.times
        return self.start_seconds + np.arange(self.n_samples) / self.sampling_rate

    def shifted(self, seconds: float) -> Signal:
        """Return the same signal moved by ``seconds`` on the recording's clock."""
        times = None if self.times is None else self.times + seconds
        return replace(self, start_seconds=self.start_seconds + seconds, times=times)

    def on_clock(self, seconds: float, stretch: float) -> Signal:
        """Return the signal on another clock, on which what was at ``t`` is at ``seconds + stretch * t``.

        A regular signal keeps its rate: of a clock that drifts each new sample is the nearest old one, at most half a
        sample away, so that no value is made up.
        """
        if self.times is not None:
            times = seconds + stretch * self.times
            return replace(self, start_seconds=seconds + stretch * self.start_seconds, times=times)
        start = seconds + stretch * self.start_seconds
        n_samples = round(self.n_samples * stretch)
        if n_samples == self.n_samples:  # by less than a sample at its end
            return replace(self, start_seconds=start)
        reader, last = self.reader, self.n_samples - 1

        def read(first: int, stop: int, rows: slice) -> FloatArray:
            places = np.minimum(np.rint(np.arange(first, stop) / stretch).astype(np.int64), last)
            if not len(places):
                return reader(0, 0, rows)
            return reader(int(places[0]), int(places[-1]) + 1, rows)[:, places - places[0]]

        return replace(self, start_seconds=start, n_samples=n_samples, reader=read)

    def with_samples(self, samples: NDArray[np.floating], sampling_rate: float) -> Signal:
        """Return the signal with other samples, (n_channels, n_samples) in memory, at another rate."""
        array = np.atleast_2d(np.asarray(samples, dtype=np.float64))
        return replace(
            self,
            sampling_rate=float(sampling_rate),
            n_samples=array.shape[1],
            reader=lambda start, stop, rows: array[rows, start:stop],
        )

    @staticmethod
    def from_samples(
        name: str,
        modality: str,
        unit: str,
        sampling_rate: float,
        samples: NDArray[np.floating],
        channels: tuple[Channel, ...] | None = None,
    ) -> Signal:
        """Return a signal from second zero that holds ``samples``, (n_channels, n_samples) or (n_samples,), in memory.

        ``dataclasses.replace`` gives it another start, times or origin.
        """
        array = np.atleast_2d(samples)
        if channels is None:
            names = (name,) if len(array) == 1 else tuple(f"{name}{i + 1}" for i in range(len(array)))
            channels = tuple(Channel(n) for n in names)
        empty = Signal(name, modality, unit, 0.0, 0.0, channels, n_samples=0, reader=lambda start, stop, rows: array)
        return empty.with_samples(array, sampling_rate)


@dataclass(frozen=True, eq=False)
class Rating:
    """What a person stated continuously (slider, joystick): a label of a recording, and never one of its signals.

    ``values``, (n,), NaN where nothing is known: each holds from its own time to that of the next, ``1 /
    sampling_rate`` later, from ``start_seconds`` on, on the recording's clock.
    """

    values: FloatArray = field(repr=False)
    sampling_rate: float
    start_seconds: float = 0.0

    def means(self, onsets: FloatArray | float, length_seconds: float) -> FloatArray:
        """Return the mean over the known time of each window from its onset; NaN where less than half of it is known.

        A value counts for as much of its time as lies in the window.
        """
        begins = np.atleast_1d(np.asarray(onsets, dtype=np.float64))
        edges, known_so_far, sum_so_far, middle = self._integrals

        def between(so_far: FloatArray) -> FloatArray:
            ends = [np.interp(times - self.start_seconds, edges, so_far) for times in (begins, begins + length_seconds)]
            return np.asarray(ends[1] - ends[0], dtype=np.float64)

        known, sums = between(known_so_far), between(sum_so_far)
        is_enough = known >= max(_KNOWN_FRACTION * length_seconds - _TOLERANCE_SECONDS, _TOLERANCE_SECONDS)
        means: FloatArray = middle + np.divide(sums, known, out=np.full(len(begins), np.nan), where=is_enough)
        return means

    @cached_property
    def _integrals(self) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        """Return times, the known time and the sum (of differences from the middle) up to each, and the middle.

        Differences, so that long recordings cost no digits.
        """
        is_known = np.isfinite(self.values)
        middle = float(np.mean(self.values[is_known])) if is_known.any() else 0.0
        amounts = is_known.astype(np.float64), np.where(is_known, self.values - middle, 0.0)
        known, sums = (np.concatenate([[0.0], np.cumsum(one)]) / self.sampling_rate for one in amounts)
        return np.arange(len(self.values) + 1) / self.sampling_rate, known, sums, middle

    def at(self, times: FloatArray) -> FloatArray:
        """Return the value that holds at each time, (n,); NaN where none is known."""
        place = np.floor((times - self.start_seconds) * self.sampling_rate + _TOLERANCE_SECONDS).astype(np.int64)
        is_inside = (place >= 0) & (place < len(self.values))
        values_at = np.full(np.shape(times), np.nan)
        values_at[is_inside] = self.values[place[is_inside]]
        return values_at


BAD, CHANNEL_BAD, POLARITY, BEAT_ADDED, BEAT_REMOVED = "bad", "channel-bad", "polarity", "beat-added", "beat-removed"
LABEL = "label"
CORRECTIONS = (BAD, CHANNEL_BAD, POLARITY, BEAT_ADDED, BEAT_REMOVED, LABEL)
"""What can be corrected by hand: a bad stretch or channel, a wave upside down, a missed beat, a false one, a label."""


@dataclass(frozen=True)
class Correction:
    """What a person corrected by hand, having looked at a recording.

    Raises SettingsError where the kind is none, or a bad stretch has no end.

    ``kind`` is one of :data:`CORRECTIONS`; times are on the recording's clock, an infinite ``duration_seconds`` is the
    full recording, and a beat has none, whatever is given. ``channels`` are names of signals ("ECG") or of their
    channels ("EEG/Fp1"); none means everything, and of a beat the signal that beats are looked for in. ``who`` and
    ``when`` (ISO 8601) are as they were written, ``source`` is the name of the file, or the words of the annotation.
    ``label`` is that of a stretch whose label was set, empty where it has none.
    """

    kind: str
    onset_seconds: float = 0.0
    duration_seconds: float = math.inf
    channels: tuple[str, ...] = ()
    who: str = ""
    when: str = ""
    source: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.kind not in CORRECTIONS:
            raise SettingsError(f"a correction is of kind {', '.join(CORRECTIONS)}, and not {self.kind!r}")
        if self.kind in (BEAT_ADDED, BEAT_REMOVED):
            object.__setattr__(self, "duration_seconds", 0.0)
        if self.kind == BAD and not 0 < self.duration_seconds < math.inf:
            raise SettingsError(
                f"a bad stretch lasts {self.duration_seconds:g} s; a duration above 0 is needed (of a channel that is "
                "bad throughout the kind is channel-bad)"
            )
        if self.kind == LABEL and not 0 < self.duration_seconds < math.inf:
            raise SettingsError(f"a labelled stretch lasts {self.duration_seconds:g} s; a duration above 0 is needed")

    @property
    def span(self) -> tuple[float, float]:
        """Return begin and end in seconds on the recording's clock; infinite of the full recording."""
        if math.isinf(self.duration_seconds):
            return -math.inf, math.inf
        return self.onset_seconds, self.onset_seconds + self.duration_seconds

    def rows_in(self, signal: Signal) -> tuple[int, ...]:
        """Return the places of the channels of a signal that it is about; none where it is about others."""
        if not self.channels or signal.name in self.channels:
            return tuple(range(signal.n_channels))
        return tuple(row for row, name in enumerate(signal.channel_names) if f"{signal.name}/{name}" in self.channels)

    def to_json(self) -> dict[str, str | float | list[str] | None]:
        """Return plain JSON values; onset and duration are None where it is about the full recording."""
        is_whole = math.isinf(self.duration_seconds)
        return {
            "kind": self.kind,
            "onset": None if is_whole else self.onset_seconds,
            "duration": None if is_whole else self.duration_seconds,
            "channels": list(self.channels),
            "who": self.who,
            "when": self.when,
            "source": self.source,
            **({"label": self.label} if self.kind == LABEL else {}),
        }


def relabelled(intervals: Iterable[Interval], corrections: Iterable[Correction]) -> dict[Interval, Interval | None]:
    """Return the labels that hold after some were set by hand, each with the one it is a part of, None where it is new.

    Of an earlier label what lies outside the stretch stays; a later correction goes before an earlier one.

    >>> [one.label for one in relabelled([Interval(0, 9, "rest")], [Correction(LABEL, 3, 2, label="task")])]
    ['rest', 'task', 'rest']
    """
    parts: dict[Interval, Interval | None] = {one: one for one in intervals}
    for correction in corrections:
        if correction.kind != LABEL:
            continue
        stretch = Interval(correction.onset_seconds, correction.duration_seconds, correction.label)
        cut: dict[Interval, Interval | None] = {}
        for one, origin in parts.items():
            is_apart = one.end_seconds <= stretch.onset_seconds or one.onset_seconds >= stretch.end_seconds
            cut |= dict.fromkeys([one] if is_apart else outside(one, [stretch]), origin)
        parts = cut | ({stretch: None} if stretch.label else {})
    return dict(
        sorted(parts.items(), key=lambda pair: (pair[0].onset_seconds, pair[0].duration_seconds, pair[0].label))
    )


def contradicted(new: Correction, earlier: Iterable[Correction]) -> Correction | None:
    """Return the first earlier correction that gives some of the same stretch another label; None where none does."""
    begin, end = new.span
    of_labels = (one for one in earlier if new.kind == one.kind == LABEL and one.label != new.label)
    return next((one for one in of_labels if one.span[0] < end and begin < one.span[1]), None)


@dataclass(frozen=True)
class Alignment:
    """How another clock is turned into the reference's: ``reference = offset_seconds + (1 + drift) * other``.

    ``drift_ppm`` is in parts per million, 0 where it is within its uncertainty; ``offset_sd`` (at second zero of the
    other) and ``drift_sd`` are standard deviations; ``residual_seconds`` is the root mean square distance of ``n``
    pieces (or events) from the line, ``correlation`` their median likeness (1 for events). ``pieces`` are the times on
    the other clock and each one's distance from the line, seconds; ``n_sought`` counts those that were looked for, of
    which the others are unlike everything or lie far from the line (0 for events, which are all there).
    """

    offset_seconds: float
    drift_ppm: float
    offset_sd: float
    drift_sd: float
    residual_seconds: float
    n: int
    correlation: float = 1.0
    pieces: tuple[tuple[float, float], ...] = ()
    n_sought: int = 0

    @property
    def stretch(self) -> float:
        """Return how many seconds of the reference pass in one of the other."""
        return 1.0 + self.drift_ppm * 1e-6

    def text(self) -> str:
        """Return offset, drift, their uncertainty and what is left, in words."""
        drift = (
            f"drift {self.drift_ppm:+.1f} ppm (sd {self.drift_sd:.1f})"
            if self.drift_ppm
            else f"no drift beyond its uncertainty (sd {self.drift_sd:.1f} ppm)"
            if np.isfinite(self.drift_sd)
            else "drift not known"
        )
        of_all = f"of {self.n_sought} pieces" if self.n_sought else "events"
        return (
            f"offset {self.offset_seconds:+.3f} s (sd {self.offset_sd:.3f}), {drift}, residual "
            f"{self.residual_seconds:.3f} s over {self.n} {of_all}"
        )

    def line(self, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return seconds to add to times on the other clock, and their standard deviation, which grows from the middle.

        >>> clock = Alignment(2.0, 100.0, 0.05, 30.0, 0.01, 3, pieces=((0.0, 0.0), (2e3, 0.0)))
        >>> [round(float(number), 3) for numbers in clock.line(np.array([1e3])) for number in numbers]
        [2.1, 0.04]
        """
        middle = float(np.mean([time for time, _ in self.pieces])) if self.pieces else 0.0
        slope_sd = self.drift_sd * 1e-6 if self.drift_ppm else 0.0
        at_middle = max(self.offset_sd**2 - (middle * slope_sd) ** 2, 0.0)
        seconds = np.asarray(self.offset_seconds + self.drift_ppm * 1e-6 * times, dtype=np.float64)
        return seconds, np.sqrt(at_middle + ((times - middle) * slope_sd) ** 2)


@dataclass(frozen=True)
class AlignedFile:
    """A file of a recording whose clock was set by what it shares with another file: a quantity such as motion."""

    name: str
    reference: str
    quantity: str
    alignment: Alignment


@dataclass(frozen=True, eq=False)
class Recording:
    """Everything that was measured on one subject in one go, on one clock.

    ``started_at`` is the wall-clock time of second zero, used only to place several files on one clock and never
    written to any output; with a zone where the format gives absolute time (E4, unix stamps, ISO dates with a zone),
    without one where it gives the device's local time (EDF, WFDB, other ISO dates): the two cannot be placed on each
    other. ``notes`` are what a careful
    reader must know: gaps, guesses, repairs refused, labels left out. ``corrections`` were made by hand; cleaning
    applies them, and nothing before it. ``ratings`` are continuous labels by name, which no signal is read from.
    ``aligned`` are its files whose clocks were set by what they share.
    """

    subject: str
    session: str
    name: str
    signals: tuple[Signal, ...]
    intervals: tuple[Interval, ...] = ()
    started_at: datetime | None = None
    notes: tuple[str, ...] = ()
    corrections: tuple[Correction, ...] = ()
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    aligned: tuple[AlignedFile, ...] = ()

    @property
    def duration_seconds(self) -> float:
        """Return the time from second zero to the end of the last signal."""
        return max((signal.end_seconds for signal in self.signals), default=0.0)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per signal: what it is, its unit, rate and time, and how it was recognised."""
        import pandas as pd

        names = ("name", "modality", "unit", "sampling_rate", "start_seconds", "duration_seconds", "recognised_by")
        rows = [[getattr(signal, name) for name in names] for signal in self.signals]
        return pd.DataFrame(rows, columns=list(names))

    def signals_of(self, modality: str) -> tuple[Signal, ...]:
        """Return the signals of one modality, in order."""
        return tuple(signal for signal in self.signals if signal.modality == modality)

    def signal(self, name: str) -> Signal:
        """Return the signal of that name. Raises KeyError, with the names there are, where there is none."""
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(f"no signal {name!r}; there are: {', '.join(s.name for s in self.signals)}")


@dataclass(frozen=True)
class RecordingLabels:
    """The labels of one recording, as its study's tables give them.

    ``condition`` is the label of the full recording, ``values`` are its (or its participant's) numbers by column;
    ``interval_values`` are those of each interval without the missing ones, empty where no task uses any. ``ratings``
    are read from the recording's files and kept beside it: they are no part of the tables' JSON.
    """

    intervals: tuple[Interval, ...] = ()
    interval_values: tuple[Mapping[str, float], ...] = ()
    condition: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    ratings: Mapping[str, Rating] = field(default_factory=dict)

    def is_empty(self) -> bool:
        """Return whether the study says nothing of the recording."""
        return not (self.intervals or self.condition or self.values)

    def numbers(self, column: str) -> tuple[tuple[Interval, float], ...]:
        """Return the intervals that have a number in a column, with it."""
        pairs = zip(self.intervals, self.interval_values, strict=False)
        return tuple((interval, cells[column]) for interval, cells in pairs if column in cells)

    def value_of(self, column: str, label: str, onset: float, length_seconds: float) -> float:
        """Return the number of a window in a column; NaN where the study gives none, or two that differ.

        ``label`` is of the interval that the window was cut from; a window that was cut without regard to labels
        (empty) is given the number of any interval it lies fully inside.
        """
        if column in self.values:
            return self.values[column]
        values = {
            value
            for interval, value in self.numbers(column)
            if label in ("", interval.label)
            and interval.onset_seconds <= onset + _TOLERANCE_SECONDS
            and onset + length_seconds <= interval.end_seconds + _TOLERANCE_SECONDS
        }
        return values.pop() if len(values) == 1 else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that :meth:`from_json` reads back."""
        rows: list[list[Any]] = [[i.onset_seconds, i.duration_seconds, i.label] for i in self.intervals]
        for row, cells in zip(rows, self.interval_values, strict=False):
            if cells:
                row.append(dict(cells))
        return {"intervals": rows, "condition": self.condition, "values": dict(self.values)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> RecordingLabels:
        """Return the labels that :meth:`to_json` wrote. Raises StoreError where the document is not of that form."""
        try:
            rows = document["intervals"]
            return RecordingLabels(
                tuple(Interval(float(row[0]), float(row[1]), str(row[2])) for row in rows),
                tuple({str(k): float(v) for k, v in (row[3] if len(row) > 3 else {}).items()} for row in rows),
                str(document["condition"]),
                {str(k): float(v) for k, v in document["values"].items()},
            )
        except (KeyError, TypeError, ValueError, LookupError, AttributeError) as fault:
            raise StoreError(f"the stored labels are damaged ({fault}); prepare the study again") from fault


def labels_text(labels: Mapping[str, RecordingLabels]) -> str:
    """Return the labels of several recordings, by key, as one JSON text."""
    return json.dumps({key: one.to_json() for key, one in sorted(labels.items())}, sort_keys=True)


def labels_from_text(text: str) -> dict[str, RecordingLabels]:
    """Return the labels that :func:`labels_text` wrote. Raises StoreError where the text is not of that form."""
    try:
        documents = json.loads(text).items()
    except (ValueError, AttributeError, RecursionError) as fault:
        raise StoreError(f"the stored labels are damaged ({fault}); prepare the study again") from fault
    return {str(key): RecordingLabels.from_json(document) for key, document in documents}
