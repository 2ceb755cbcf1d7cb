"""The files of one recording put on one clock by what they share, where study.yaml says so, and never by itself.

Shared are events (markers of one name in both files), motion and heart rate. The first file of a recording is the
reference; another is moved, and stretched where its clock drifts, or left where it is with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from biopercept.errors import RecordingError
from biopercept.preprocessing.alignment import Series, alignment_by_events, estimate_alignment
from biopercept.recording import AlignedFile, Alignment, FloatArray, Recording
from biopercept.studies.loading import Clock, FilePart, PlacedFile, load_placed
from biopercept.studies.structure import Entry, Study

EVENTS, MOTION, HEART_RATE = "events", "motion", "heart rate"
_HEART = ("ecg", "bvp", "ibi", "hr")
_LOWEST_MOTION_HZ = 8.0
_MOTION_HZ = 32.0
_FEWEST_EVENTS = 2

_Estimate = Callable[[], Alignment]


def load_aligned(study: Study, entry: Entry) -> Recording:
    """Return one recording of a study, its files on one clock, aligned by what they share where the study says so.

    Raises RecordingError where a file cannot be loaded, or the files cannot be placed on one clock.
    """
    return load_placed_aligned(study, entry)[0]


def load_placed_aligned(study: Study, entry: Entry) -> tuple[Recording, tuple[PlacedFile, ...]]:
    """Return one recording as :func:`load_aligned` does, and where each of its files lies in it."""
    return load_placed(study, entry, clocks_of if study.is_aligned else None)


def clocks_of(parts: Sequence[FilePart]) -> tuple[list[Clock], list[str]]:
    """Return the clock of each file, the first being the reference, and a note on each of the others.

    A file that shares nothing with the first, or is too little like it, keeps its clock.
    """
    clocks, notes = [Clock()], []
    for part in parts[1:]:
        aligned, words = _aligned(parts[0], part)
        clocks.append(Clock() if aligned is None else _clock_of(aligned))
        notes.append(words)
    return clocks, notes


def _clock_of(aligned: AlignedFile) -> Clock:
    return Clock(aligned.alignment.offset_seconds, aligned.alignment.stretch, aligned)


def _aligned(reference: FilePart, other: FilePart) -> tuple[AlignedFile | None, str]:
    """Return where a file's clock lies on the reference's, by the first quantity that tells, and a note."""
    refusals = []
    for quantity, estimate in _estimates(reference, other):
        try:
            alignment = estimate()
        except RecordingError as fault:
            refusals.append(f"by {quantity}: {fault}")
            continue
        alike = f", median correlation {alignment.correlation:.2f}" if quantity != EVENTS else ""
        aligned = AlignedFile(other.name, reference.name, quantity, alignment)
        return aligned, f"{other.name} is aligned to {reference.name} by {quantity}: {alignment.text()}{alike}"
    why = "; ".join(refusals) or "they share neither events nor motion nor heart rate"
    return None, f"{other.name} is not aligned to {reference.name}, its clock stays as it is ({why})"


def _estimates(reference: FilePart, other: FilePart) -> Iterator[tuple[str, _Estimate]]:
    """Give each quantity that both files have, and what estimates the clock by it, the surest first."""
    ours, theirs = _shared_events(reference, other)
    if len(ours) >= _FEWEST_EVENTS:
        yield EVENTS, lambda: alignment_by_events(ours, theirs)
    moved = motion(reference), motion(other)
    if moved[0] is not None and moved[1] is not None:
        pair = moved[0], moved[1]
        yield MOTION, lambda: estimate_alignment(*pair)
    if _has_heart(reference) and _has_heart(other):
        yield HEART_RATE, lambda: estimate_alignment(heart_rate(reference), heart_rate(other))


def _shared_events(reference: FilePart, other: FilePart) -> tuple[list[float], list[float]]:
    """Return the onsets of the events that both files name as often, in each file's order."""
    counts = [Counter(event.label for event in part.events) for part in (reference, other)]
    labels = [label for label, n in counts[0].items() if counts[1][label] == n]
    onsets = [
        [event.onset_seconds for label in labels for event in part.events if event.label == label]
        for part in (reference, other)
    ]
    return onsets[0], onsets[1]


def motion(part: FilePart) -> Series | None:
    """Return how strongly a device is moved, from its first accelerometer that is fast enough; None without one.

    The size of the acceleration beside its mean over a second: free of gravity, and of how the device is worn.
    """
    from biopercept.preprocessing.gaps import moving_mean

    signals = [s for s in part.signals if s.modality == "acc" and s.is_regular and s.sampling_rate >= _LOWEST_MOTION_HZ]
    if not signals:
        return None
    signal = signals[0]
    size: FloatArray = np.sqrt(np.square(signal.read()).sum(axis=0))
    moves = np.abs(size - moving_mean(size[None], round(signal.sampling_rate))[0])
    return Series(moves, signal.sampling_rate, signal.start_seconds).slower(_MOTION_HZ)


def heart_rate(part: FilePart) -> Series:
    """Return the heart rate at 4 Hz as a file by itself tells it.

    Raises RecordingError where it tells none.
    """
    from biopercept.preprocessing.cleaning import clean_recording

    signals = tuple(signal for signal in part.signals if signal.modality in _HEART)
    cleaned = clean_recording(Recording("", "", part.name, signals)).recording
    rates = cleaned.signals_of("heart_rate")
    if not rates:
        raise RecordingError(f"{part.name}: no heart rate")
    return Series(rates[0].read()[0], rates[0].sampling_rate, rates[0].start_seconds)


def _has_heart(part: FilePart) -> bool:
    return any(signal.modality in _HEART for signal in part.signals)
