"""Timelines: all there is to see of one recording in one plain structure, whatever it was read from and shows it.

Of a file or a study the signals are as they were recorded, each at its own rate; what cleaning thinks of them lies
beside them. Of a store they are as they were prepared: what was masked is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, recording_title
from biopercept.preprocessing.cleaning import CleanRecording, clean_recording
from biopercept.preprocessing.gaps import runs_of
from biopercept.preprocessing.quality import REASONS
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import LABEL, Correction, FloatArray, Interval, Rating, Recording, Signal
from biopercept.report.drawing import colours
from biopercept.report.stored_signals import signal_of_store
from biopercept.viewing.predictions import PredictionTrack

if TYPE_CHECKING:
    from biopercept.store.reading import StoredRecording

RECORDED, PREPARED = "as recorded", "as prepared"
RATING = "rating"
"""What stands in the place of a modality of what a person stated continuously: a label, drawn as a line."""

BEATS, RESPONSES, BREATHS = "beats", "skin responses", "breaths"
SPOILT = 0.5
"""Quality index below which a second counts as spoilt."""


@dataclass(frozen=True, eq=False)
class Quality:
    """Quality of one signal by channel and second of the recording's clock, both (n_channels, n_seconds).

    ``index`` is from 0 (useless) to 1; ``reasons`` are bits by place in ``names``, None where they are not known.
    """

    index: NDArray[np.float32]
    reasons: NDArray[np.uint32] | None
    names: tuple[str, ...]

    def stretches(self) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
        """Give the stretches that are spoilt: channel, first second, end, and what spoils them, most often first."""
        for channel, index in enumerate(self.index):
            for start, stop in runs_of(index < SPOILT):
                yield channel, start, stop, self._reasons_in(channel, start, stop)

    def _reasons_in(self, channel: int, start: int, stop: int) -> tuple[str, ...]:
        if self.reasons is None:
            return ()
        bits = self.reasons[channel, start:stop]
        counts = [(int(((bits >> place) & 1).sum()), name) for place, name in enumerate(self.names)]
        return tuple(name for n, name in sorted(counts, key=lambda pair: -pair[0]) if n)


@dataclass(frozen=True, eq=False)
class Marks:
    """What was detected in a channel of a signal: times on the recording's clock, and a value of each with its unit.

    ``what`` says what the value is; it is NaN where it is not known.
    """

    kind: str
    signal: str
    channel: int
    times: FloatArray
    values: FloatArray
    what: str
    unit: str


@dataclass(frozen=True, eq=False)
class Timeline:
    """One recording on one clock, with what lies beside its signals.

    ``form`` is :data:`RECORDED` or :data:`PREPARED`. ``quality`` is by name of a signal. ``labels`` are events and
    conditions, in time order. ``corrections`` are the words for what was corrected by hand, ``by_hand`` what it was,
    empty of a store. ``content_hash`` says what a store's recording holds, empty of others. ``classes`` are those of
    the tasks of its study, in their order; empty of a file.
    """

    subject: str
    session: str
    recording: str
    form: str
    duration_seconds: float
    signals: tuple[Signal, ...]
    labels: tuple[Interval, ...] = ()
    quality: Mapping[str, Quality] = field(default_factory=dict)
    marks: tuple[Marks, ...] = ()
    predictions: tuple[PredictionTrack, ...] = ()
    corrections: tuple[str, ...] = ()
    by_hand: tuple[Correction, ...] = ()
    notes: tuple[str, ...] = ()
    content_hash: str = ""
    classes: tuple[str, ...] = ()

    @property
    def shades(self) -> dict[str, str]:
        """Return the colour of each class and label: classes first, in the order in which they were declared."""
        of_predictions = (name for track in self.predictions for name in track.classes)
        labels = (label.label for label in self.labels)
        return {name: shade for name, (shade, _) in colours((*of_predictions, *self.classes), labels).items()}

    @property
    def title(self) -> str:
        """Return the words for the recording."""
        return recording_title(self.subject, self.session, self.recording)


def timeline_of(recording: Recording, cleaning: CleaningSettings | None = None) -> Timeline:
    """Return the timeline of a recording as it was recorded, with quality and marks of its cleaning.

    Where nothing is left after cleaning, the signals are there all the same and a note says why they have no quality.
    """
    signals, notes = _shown(recording.signals)
    whole = Timeline(
        subject=recording.subject,
        session=recording.session,
        recording=recording.name,
        form=RECORDED,
        duration_seconds=max((signal.end_seconds for signal in signals), default=0.0),
        signals=(*signals, *_ratings(recording.ratings)),
        labels=_in_order(recording.intervals),
        corrections=tuple(_words(one) for one in recording.corrections),
        by_hand=recording.corrections,
        notes=(*recording.notes, *notes),
    )
    try:
        clean = clean_recording(recording, cleaning)
    except RecordingError as fault:
        return replace(whole, notes=(*whole.notes, f"No quality, beats or responses: {fault}"))
    taken = {signal.name for signal in whole.signals}
    derived = [s for s in clean.recording.signals if s.derived_from and s.n_channels == 1 and s.name not in taken]
    return replace(
        whole,
        signals=(*whole.signals, *derived),
        quality={name: _rated(rating.index, rating.reasons()) for name, rating in clean.ratings.items()},
        marks=tuple(_marks(clean)),
        notes=(*whole.notes, *clean.notes),
    )


def _rated(index: FloatArray, reasons: NDArray[np.uint32]) -> Quality:
    return Quality(index.astype(np.float32), reasons, tuple(REASONS))


def _shown(signals: tuple[Signal, ...]) -> tuple[tuple[Signal, ...], tuple[str, ...]]:
    """Return the signals that can be drawn, and notes on the others."""
    notes = []
    drawn = []
    for signal in signals:
        is_timed = not signal.is_regular or (math.isfinite(signal.sampling_rate) and signal.sampling_rate > 0)
        if signal.n_samples and signal.n_channels and is_timed:
            drawn.append(signal)
        else:
            why = "it has no samples" if is_timed else f"its sampling rate is {signal.sampling_rate!r} Hz"
            notes.append(f"{signal.name}: not drawn, {why}.")
    return tuple(drawn), tuple(notes)


def _ratings(ratings: Mapping[str, Rating]) -> tuple[Signal, ...]:
    lines = (
        replace(Signal.from_samples(name, RATING, "", one.sampling_rate, one.values), start_seconds=one.start_seconds)
        for name, one in ratings.items()
    )
    return _shown(tuple(lines))[0]


def _in_order(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
    return tuple(sorted(intervals, key=lambda one: (one.onset_seconds, -one.duration_seconds)))


def _words(one: Correction) -> str:
    begin, end = one.span
    when = "throughout" if math.isinf(begin) else f"at {begin:g} s" if begin == end else f"{begin:g} to {end:g} s"
    what = (one.label or "none") if one.kind == LABEL else ", ".join(one.channels) or "everything"
    return f"{one.kind}: {when}, {what}{f', by {one.who}' if one.who else ''}"


def _marks(clean: CleanRecording) -> Iterator[Marks]:
    names = {signal.name: signal for signal in clean.recording.signals}
    beats, responses, breaths = clean.beats, clean.responses, clean.breaths
    if len(beats) and beats.source in names:
        channel = clean.used_channel.get(beats.source, 0)
        intervals = 1000.0 * beats.intervals
        yield Marks(BEATS, beats.source, channel, beats.times, intervals, "interval since the beat before", "ms")
    for kind, modality, times, values, what in (
        (RESPONSES, "eda", responses.times, responses.amplitudes, "amplitude"),
        (BREATHS, "resp", breaths.times, breaths.periods, "period"),
    ):
        used = [name for name, signal in names.items() if signal.modality == modality and name in clean.used_channel]
        if len(times) and used:
            unit = "s" if kind == BREATHS else names[used[0]].unit
            yield Marks(kind, used[0], clean.used_channel[used[0]], times, values, what, unit)


def timeline_of_stored(recording: StoredRecording) -> Timeline:
    """Return the timeline of a recording of an open store, as it was prepared; a store holds no single beats.

    Raises StoreError where the store is damaged or was closed.
    """
    labels = recording.labels
    condition = (Interval(0.0, recording.duration_seconds, labels.condition),) if labels.condition else ()
    names = recording.reason_names
    signals = tuple(signal_of_store(recording, signal) for signal in recording.signals if signal.n_samples)
    quality = {}
    for signal in signals:
        index = recording.read_quality(signal.name)
        if index.shape[1]:
            quality[signal.name] = Quality(index, recording.read_reasons(signal.name), names)
    return Timeline(
        subject=recording.subject,
        session=recording.session,
        recording=recording.recording,
        form=PREPARED,
        duration_seconds=recording.duration_seconds,
        signals=(*signals, *_ratings(labels.ratings)),
        labels=_in_order((*condition, *labels.intervals)),
        quality=quality,
        corrections=tuple(_stored_words(row) for row in recording.corrections),
        notes=recording.notes,
        content_hash=recording.content_hash,
    )


def _stored_words(row: Mapping[str, object]) -> str:
    parts = [f"{name} {value}" for name, value in row.items() if name != "kind" and value not in (None, "", [])]
    return f"{row.get('kind', '')}: {', '.join(parts) or 'throughout, everything'}"
