"""Continuous ratings of a study's recordings: the signals that tasks name are labels, and are read by no model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from biopercept.errors import RecordingError, ranged, recording_title
from biopercept.recording import EVERY, FloatArray, Rating, Recording, Signal
from biopercept.tasks import Task

FASTEST_HZ = 4.0
"""A hand moves a slider no faster: of more values a second the means of quarters of a second are kept."""
_BLOCK = 1 << 20
_FEWEST_KNOWN = 0.5
_NOT_USED = re.compile(r"(?P<head>(?:[^:]*: )?not recognised and not used: )(?P<names>.*)")


def rated_signals(tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Return the signals that tasks take for ratings, each once."""
    return tuple(dict.fromkeys(task.signal for task in tasks.values() if task.signal is not None))


def with_ratings(recording: Recording, names: Collection[str]) -> Recording:
    """Return the recording with the signals (or channels) of these names as ratings, and no longer as signals.

    A name is that of a signal, of one of its channels ("x"), or both ("ACC/x"). A note says which names it lacks.

    Raises RecordingError where two channels could be meant, or the rating has no sampling rate.
    """
    if not names:
        return recording
    ratings = dict(recording.ratings)
    signals = list(recording.signals)
    notes = []
    for name in names:
        place = _place_of(recording, signals, name)
        if place is None:
            notes.append(f"the rating {name!r} is in none of its files")
            continue
        signal, row = signals[place], _row_of(signals[place], name)
        ratings[name] = _rating(recording, signal, row)
        signals[place : place + 1] = _without(signal, row)
    known = [words for note in recording.notes if (words := _still_true(note, ratings))]
    return replace(recording, signals=tuple(signals), ratings=ratings, notes=(*known, *notes))


def without_labels(recording: Recording, tasks: Sequence[Task]) -> Recording:
    """Return a recording with what a model's tasks predict taken out of its signals, whoever loaded it.

    What a model was trained to tell is no input of it, also where a study, or a file alone, does not say that it is a
    rating.
    """
    names = rated_signals({task.name: task for task in tasks})
    there = [n for n in names if n not in recording.ratings and _place_of(recording, recording.signals, n) is not None]
    return with_ratings(recording, there)


def rating_faults(recording: Recording, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Give a sentence for each rating that the recording lacks, or that a task's classes do not fit."""
    for name in rated_signals(tasks):
        rating = recording.ratings.get(name)
        of_tasks = [task for task in tasks.values() if task.signal == name]
        words = ", ".join(repr(task.name) for task in of_tasks)
        if rating is None:
            there = ", ".join(signal.name for signal in recording.signals) or "none"
            yield f"no signal {name!r}, the rating of task {words} (its signals: {there})"
        elif not np.isfinite(rating.values).any():
            yield f"the rating {name!r} of task {words} holds no number"
        else:
            yield from _range_faults(name, rating, of_tasks)


def _range_faults(name: str, rating: Rating, tasks: Sequence[Task]) -> Iterator[str]:
    lowest, highest = float(np.nanmin(rating.values)), float(np.nanmax(rating.values))
    for task in tasks:
        ends = [end for span in task.ranges.values() for end in span]
        if ends and (lowest < min(ends) or highest > max(ends)):
            values = ranged(f"{lowest:g}", f"{highest:g}")
            yield (
                f"the rating {name!r} spans {values} and the classes of task {task.name!r} "
                f"{min(ends):g} to {max(ends):g}; correct the classes, or the values that no rating can have"
            )


def _place_of(recording: Recording, signals: Sequence[Signal], name: str) -> int | None:
    """Return the place of the signal that holds a rating; a whole signal's name goes before those of channels."""
    whole = [place for place, signal in enumerate(signals) if signal.name == name and signal.n_channels == 1]
    places = whole or [
        place
        for place, signal in enumerate(signals)
        if any(name in (channel, f"{signal.name}/{channel}") for channel in signal.channel_names)
    ]
    if len(places) > 1:
        among = ", ".join(f"{signals[place].name}/{name}" for place in places)
        raise RecordingError(f"{_title(recording)}: {name!r} could be {among}; write one of these into study.yaml")
    if not places and any(signal.name == name for signal in signals):
        raise RecordingError(f"{_title(recording)}: the rating {name!r} has several channels; name one ({name}/...)")
    return places[0] if places else None


def _row_of(signal: Signal, name: str) -> int:
    if signal.n_channels == 1:
        return 0
    return next(row for row, one in enumerate(signal.channel_names) if name in (one, f"{signal.name}/{one}"))


def _without(signal: Signal, row: int) -> list[Signal]:
    """Return the signal without one of its channels; nothing where it has no other."""
    rows = [other for other in range(signal.n_channels) if other != row]
    if not rows:
        return []

    def read(start: int, stop: int, among: slice) -> FloatArray:
        return signal.reader(start, stop, EVERY)[rows[among]]

    return [replace(signal, channels=tuple(signal.channels[other] for other in rows), reader=read)]


def _rating(recording: Recording, signal: Signal, row: int) -> Rating:
    """Return one channel as a rating, at its own rate or, where that is higher, at :data:`FASTEST_HZ`."""
    rate = signal.sampling_rate
    if not signal.is_regular or not (np.isfinite(rate) and rate > 0):
        raise RecordingError(
            f"{_title(recording)}: the rating {signal.name!r} has no sampling rate; give it in rows at even times"
        )
    if rate <= FASTEST_HZ:
        return Rating(signal.read()[row], rate, signal.start_seconds)
    n = int(np.ceil(signal.n_samples / rate * FASTEST_HZ))
    sums, counts, every = np.zeros(n), np.zeros(n), np.zeros(n)
    for start in range(0, signal.n_samples, _BLOCK):
        values = signal.read(start, start + _BLOCK)[row]
        quarter = ((start + np.arange(len(values))) / rate * FASTEST_HZ + 1e-9).astype(np.int64).clip(max=n - 1)
        is_known = np.isfinite(values)
        every += np.bincount(quarter, minlength=n)
        counts += np.bincount(quarter[is_known], minlength=n)
        sums += np.bincount(quarter[is_known], weights=values[is_known], minlength=n)
    is_enough = counts >= np.maximum(_FEWEST_KNOWN * every, 1)
    return Rating(np.divide(sums, counts, out=np.full(n, np.nan), where=is_enough), FASTEST_HZ, signal.start_seconds)


def _still_true(note: str, ratings: Mapping[str, Rating]) -> str:
    """Return a note without ratings among the channels that are not used; empty where no other is."""
    match = _NOT_USED.fullmatch(note)
    if match is None:
        return note
    names = [name for name in match["names"].split(", ") if name not in ratings]
    return f"{match['head']}{', '.join(names)}" if names else ""


def _title(recording: Recording) -> str:
    return recording_title(recording.subject, recording.session, recording.name) or "the recording"
