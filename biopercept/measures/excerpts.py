"""Excerpts of a recording to look at: the best, an ordinary and the worst stretch, by a rule and not by hand.

Every sensor has a score of its own; a stretch of which less than half was measured has none and is not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from biopercept.measures.shapes import beat_waves, likeness
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.gaps import mean_of_known
from biopercept.recording import FloatArray, Signal

BEST, ORDINARY, WORST, MIDDLE = "Best", "Ordinary", "Worst", "Middle"
_MIN_MEASURED = 0.5


@dataclass(frozen=True)
class Excerpt:
    """A stretch to look at: why it was chosen, when, seconds on the recording's clock, and its score."""

    word: str
    start_seconds: float
    length_seconds: float
    score: float

    @property
    def end_seconds(self) -> float:
        """Return its end, seconds on the recording's clock."""
        return self.start_seconds + self.length_seconds


def excerpts_of(
    signal: Signal, channel: int, length_seconds: float, scores_of: Callable[[FloatArray, float], FloatArray]
) -> tuple[Excerpt, ...]:
    """Return the best, an ordinary and the worst stretch of a signal, which do not overlap.

    Stretches start every half of their length. ``scores_of`` gives the scores of stretches that start at some times and
    have a length; the ordinary one is nearest to their median. Among equals the one nearest to the middle of the
    recording is taken. Where all are equal, or the signal is no longer than a stretch, only the middle one is returned.
    """
    length = min(length_seconds, signal.duration_seconds)
    last = signal.end_seconds - length
    starts = signal.start_seconds + np.arange(0.0, last - signal.start_seconds + 1e-6, length / 2.0)
    measured = measured_fraction(signal, channel, starts, length)
    starts = starts[measured >= _MIN_MEASURED]
    if len(starts) == 0:
        return ()
    scores = scores_of(starts, length)
    middle = 0.5 * (signal.start_seconds + last)
    from_middle = np.abs(starts - middle)

    def excerpt(word: str, index: int) -> Excerpt:
        return Excerpt(word, float(starts[index]), length, float(scores[index]))

    if np.ptp(scores) == 0:
        return (excerpt(MIDDLE, int(np.argmin(from_middle))),)
    distances = {BEST: -scores, WORST: scores, ORDINARY: np.abs(scores - np.median(scores))}
    chosen: dict[str, Excerpt] = {}
    for word, distance in distances.items():
        is_free = np.ones(len(starts), dtype=bool)
        for one in chosen.values():
            is_free &= np.abs(starts - one.start_seconds) >= length - 1e-6
        order = np.lexsort((from_middle, distance))
        order = order[is_free[order]]
        if len(order):
            chosen[word] = excerpt(word, int(order[0]))
    return tuple(chosen[word] for word in (BEST, ORDINARY, WORST) if word in chosen)


def measured_fraction(signal: Signal, channel: int, starts: FloatArray, length: float) -> FloatArray:
    """Return the fraction of the samples of each stretch that are not masked: (n_stretches,)."""
    is_known = np.isfinite(signal.read()[channel])
    total = np.concatenate(([0], np.cumsum(is_known)))
    first, stop = (
        np.clip(np.round((edge - signal.start_seconds) * signal.sampling_rate), 0, len(is_known)).astype(np.int64)
        for edge in (starts, starts + length)
    )
    return np.asarray((total[stop] - total[first]) / np.maximum(stop - first, 1), dtype=np.float64)


def heart_scores(clean: CleanRecording) -> Callable[[FloatArray, float], FloatArray]:
    """Return what scores stretches of a heart wave: accepted intervals' share of the time, times likeness of beats.

    The likeness is the mean correlation of the stretch's beats with the mean beat of the recording.
    """
    beats = clean.beats
    waves = beat_waves(clean, np.ones(len(beats), dtype=bool))
    alike = np.ones(len(beats)) if waves is None else np.maximum(likeness(waves), 0.0)
    # Of very many beats the waves are a sample: a beat is then as alike as the nearest of them.
    of_beat = alike[np.linspace(0, max(len(alike) - 1, 0), len(beats)).round().astype(np.int64)]
    total = np.concatenate(([0.0], np.cumsum(of_beat)))

    def scores(starts: FloatArray, length: float) -> FloatArray:
        first, stop = np.searchsorted(beats.times, starts), np.searchsorted(beats.times, starts + length)
        mean = (total[stop] - total[first]) / np.maximum(stop - first, 1)
        return np.asarray(covered_share(beats.times, beats.intervals, starts, length) * mean, dtype=np.float64)

    return scores


def covered_share(ends: FloatArray, lengths: FloatArray, starts: FloatArray, length: float) -> FloatArray:
    """Return the share of each stretch that known intervals cover, which end at some times: (n_stretches,)."""
    is_known = np.isfinite(lengths)
    last, first = ends[is_known], ends[is_known] - lengths[is_known]
    if len(last) == 0:
        return np.zeros(len(starts))
    out = np.empty(len(starts))
    for place, start in enumerate(starts):
        near = slice(np.searchsorted(last, start), np.searchsorted(first, start + length))
        shared = np.minimum(last[near], start + length) - np.maximum(first[near], start)
        out[place] = np.maximum(shared, 0.0).sum() / length
    return np.minimum(out, 1.0)


def eeg_scores(clean: CleanRecording, eeg: Signal) -> Callable[[FloatArray, float], FloatArray]:
    """Return what scores stretches of EEG: mean quality index of all channels, divided by how much larger waves are.

    How much larger is the mean over channels of the stretch's standard deviation by the median of all seconds'; where
    waves are no larger than usual it counts as 1.
    """
    samples, per_second = eeg.read(), max(round(eeg.sampling_rate), 1)
    n = samples.shape[1] // per_second
    squares = np.square(samples[:, : n * per_second]).reshape(len(samples), n, per_second)
    size = np.sqrt(mean_of_known(squares, axis=2))
    usual = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in size])
    larger = np.maximum(mean_of_known(size / usual[:, None], axis=0), 1.0)
    quality = clean.ratings[eeg.name].index.mean(axis=0)

    def scores(starts: FloatArray, length: float) -> FloatArray:
        out = np.zeros(len(starts))
        for place, start in enumerate(starts):
            of_quality = quality[int(start) : max(int(start + length), int(start) + 1)]
            first = int(start - eeg.start_seconds)
            of_size = larger[first : max(int(start + length - eeg.start_seconds), first + 1)]
            known = of_size[np.isfinite(of_size)]
            if len(of_quality) and len(known):
                out[place] = of_quality.mean() / known.mean()
        return out

    return scores
