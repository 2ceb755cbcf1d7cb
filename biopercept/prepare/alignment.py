"""The files of one recording put on one clock by what they share, where study.yaml says so, and never by itself.

Shared are events (markers of one name in both files), motion and heart rate. The first file of a recording is the
reference; another is moved, and stretched where its clock drifts, or left where it is with the reason.

Two clocks are set beside each other by what both devices measured: offset and drift, with their uncertainty.

1. Pieces of one series are looked for in all of the other (masked normalised cross-correlation). Unrelated series give
   lags anywhere; of one body they lie on a line, whose slope is the drift.
2. Along that line each piece is looked for again at the full rate, to a part of a sample.
3. The line through these lags is the clock; how they scatter about it is its uncertainty.

References
----------
Masked normalised cross-correlation: D. Padfield, "Masked object registration in the Fourier domain", IEEE Transactions
on Image Processing 21(5), 2012, doi:10.1109/TIP.2011.2181402.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.recording import AlignedFile, Alignment, FloatArray, Recording
from biopercept.studies.entries import Clock, FilePart, PlacedFile, load_placed
from biopercept.studies.structure import Entry, Study

EVENTS, MOTION, HEART_RATE = "events", "motion", "heart rate"
_HEART = ("ecg", "bvp", "ibi", "hr")
_LOWEST_MOTION_HZ = 8.0
_MOTION_HZ = 32.0
_FEWEST_EVENTS = 2
MOST_OFFSET_SECONDS = 600.0
"""How far clocks may be apart: what is further is a wrong date, and not for a correlation to mend."""
MOST_DRIFT_PPM = 1000.0
"""Quartz clocks drift by up to some 100 ppm; ten times as much is a wrong sampling rate."""
LOWEST_CORRELATION = 0.5
"""Pieces that are less alike than this do not tell where they lie."""
_FEWEST_PIECES = 4
_MOST_PIECES = 40
_SHORTEST_PIECE, _LONGEST_PIECE = 45.0, 300.0
_COARSE_HZ = 4.0
_NEAR_SECONDS = 2.0
"""Pieces that agree on one line lie no further from it: a slow series tells no better where it lies."""
_FEWEST_KNOWN = 0.3

_Estimate = Callable[[], "Alignment"]


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


@dataclass(frozen=True, eq=False)
class Series:
    """A quantity at a fixed rate on its device's clock, NaN where it is not known: (n,)."""

    values: FloatArray = field(repr=False)
    sampling_rate: float
    start_seconds: float = 0.0

    @property
    def end_seconds(self) -> float:
        """Return the time after the last sample."""
        return self.start_seconds + len(self.values) / self.sampling_rate

    def at(self, times: FloatArray) -> FloatArray:
        """Return the values at these times, interpolated between neighbours that are both known."""
        its_times = self.start_seconds + np.arange(len(self.values)) / self.sampling_rate
        if not len(its_times):
            return np.full(len(times), np.nan)
        is_known = np.isfinite(self.values).astype(np.float64)
        sums = np.interp(times, its_times, np.where(is_known > 0, self.values, 0.0), left=np.nan, right=np.nan)
        share = np.interp(times, its_times, is_known, left=0.0, right=0.0)
        values: FloatArray = np.where(share > 1 - 1e-9, sums, np.nan)
        return values

    def slower(self, rate: float) -> Series:
        """Return the means around each sample of a lower rate; the series itself where it is no faster."""
        if self.sampling_rate <= rate * (1 + 1e-9) or not len(self.values):
            return self
        # Each sample stands for the time around it, so that a mean around a time is not early or late.
        edges = self.start_seconds + (np.arange(len(self.values) + 1) - 0.5) / self.sampling_rate
        is_known = np.isfinite(self.values)
        middle = float(np.mean(self.values[is_known])) if is_known.any() else 0.0
        amounts = is_known.astype(np.float64), np.where(is_known, self.values - middle, 0.0)
        n = max(1, int((self.end_seconds - self.start_seconds) * rate))
        times = self.start_seconds + np.arange(n) / rate
        known, sums = (
            np.interp(times + 0.5 / rate, edges, so_far) - np.interp(times - 0.5 / rate, edges, so_far)
            for so_far in (np.concatenate([[0.0], np.cumsum(one)]) / self.sampling_rate for one in amounts)
        )
        means = middle + np.divide(sums, known, out=np.full(n, np.nan), where=known >= 0.5 / rate - 1e-9)
        return Series(means, rate, self.start_seconds)


def estimate_alignment(
    reference: Series, other: Series, *, most_offset_seconds: float = MOST_OFFSET_SECONDS
) -> Alignment:
    """Return where a clock lies on another, from one quantity that both devices measured.

    Raises RecordingError where the series are too short, too little alike, or alike at lags that no one clock explains:
    nothing is aligned then.
    """
    rate = min(reference.sampling_rate, other.sampling_rate)
    places, piece = _pieces(other)
    slow = min(rate, _COARSE_HZ)
    pair = other.slower(slow), reference.slower(slow)
    coarse = [lag for place in places if (lag := _look_for(*pair, place, piece, (0.0, most_offset_seconds)))]
    line, n_alike = _common_line([one for one in coarse if one.is_alike])
    n_needed = max(_FEWEST_PIECES, -(-len(coarse) // 2))
    if n_alike < n_needed:
        raise RecordingError(
            f"only {n_alike} of {len(coarse)} pieces of {piece:.0f} s agree on where they lie within "
            f"{most_offset_seconds:.0f} s, at least {n_needed} are needed"
        )
    pair = other.slower(rate), reference.slower(rate)
    for reach in (_NEAR_SECONDS + 1 / rate, _NEAR_SECONDS / 2 + 1 / rate):
        expected = [(place, float(np.polyval(line, place))) for place in places]
        fine = [lag for place, near in expected if (lag := _look_for(*pair, place, piece, (near, reach)))]
        kept = _without_outliers([one for one in fine if one.is_alike])
        if len(kept) < _FEWEST_PIECES:
            raise RecordingError(f"only {len(kept)} of {len(places)} pieces are alike at the full rate")
        line = np.polyfit([one.place for one in kept], [one.lag for one in kept], 1)
    fitted = _fitted([(one.place, one.lag) for one in kept], float(np.median([one.likeness for one in kept])))
    return replace(fitted, n_sought=len(places))


def alignment_by_events(reference: Sequence[float], other: Sequence[float]) -> Alignment:
    """Return where a clock lies on another, from the times of the same events on both, in order.

    Raises RecordingError where the events are not the same in number, or their intervals differ by more than a second.
    """
    if len(reference) != len(other) or not len(other):
        raise RecordingError(f"{len(reference)} and {len(other)} shared events cannot be paired")
    lags = [(theirs, ours - theirs) for ours, theirs in zip(reference, other, strict=True)]
    if len(lags) == 1:
        return Alignment(lags[0][1], 0.0, np.nan, np.nan, 0.0, 1)
    fitted = _fitted(lags, 1.0)
    if fitted.residual_seconds > 1.0:
        raise RecordingError(
            f"the {len(lags)} shared events lie {fitted.residual_seconds:.1f} s from any one clock: not the same"
        )
    return fitted


@dataclass(frozen=True)
class _Lag:
    """Where a piece was found: its middle on the other clock, seconds to add, and how alike it is there."""

    place: float
    lag: float
    likeness: float
    is_alike: bool = True


def _pieces(other: Series) -> tuple[list[float], float]:
    """Return the middles of the pieces that are looked for, and their length, seconds."""
    length = other.end_seconds - other.start_seconds
    piece = float(np.clip(length / 8, _SHORTEST_PIECE, _LONGEST_PIECE))
    n = min(int(length // piece), _MOST_PIECES)
    if n < _FEWEST_PIECES:
        raise RecordingError(f"{length:.0f} s are too short, {_FEWEST_PIECES * _SHORTEST_PIECE:.0f} s are needed")
    firsts = other.start_seconds + np.linspace(0.0, length - piece, n)
    return [float(first + piece / 2) for first in firsts], piece


def _look_for(other: Series, reference: Series, place: float, piece: float, around: tuple[float, float]) -> _Lag | None:
    """Return where a piece lies in the reference within a reach of a lag; None where too little is known to tell."""
    rate, (centre, reach) = other.sampling_rate, around
    times = place - piece / 2 + np.arange(round(piece * rate)) / rate
    template = other.at(times)
    n_lags = int(np.ceil(reach * rate))
    field_times = times[0] + centre - n_lags / rate + np.arange(len(times) + 2 * n_lags) / rate
    alike = _likeness(template, reference.at(field_times))
    if not np.isfinite(alike).any():
        return None
    best = int(np.nanargmax(alike))
    if not alike[best] >= LOWEST_CORRELATION or best in (0, len(alike) - 1):
        return _Lag(place, np.nan, float(alike[best]), is_alike=False)
    before, at, after = alike[best - 1], alike[best], alike[best + 1]
    bend = before - 2 * at + after
    part = 0.5 * (before - after) / bend if np.isfinite(bend) and bend < 0 else 0.0
    return _Lag(place, centre + (best - n_lags + float(np.clip(part, -0.5, 0.5))) / rate, float(at))


def _likeness(template: FloatArray, whole: FloatArray) -> FloatArray:
    """Return the correlation of a template with each stretch of a longer series, over samples known in both.

    (len(whole) - len(template) + 1,); NaN where less than most of the template is known in both, or nothing varies.
    """
    from scipy.signal import correlate

    known_t, known_w = np.isfinite(template), np.isfinite(whole)
    if not known_t.any() or not known_w.any():
        return np.full(len(whole) - len(template) + 1, np.nan)
    x = np.where(known_t, template - np.mean(template[known_t]), 0.0)
    y = np.where(known_w, whole - np.mean(whole[known_w]), 0.0)
    in_t, in_w = known_t.astype(np.float64), known_w.astype(np.float64)

    def slid(fixed: FloatArray, moving: FloatArray) -> FloatArray:
        return np.asarray(correlate(moving, fixed, mode="valid", method="fft"), dtype=np.float64)

    n = np.rint(slid(in_t, in_w))
    is_enough = n >= _FEWEST_KNOWN * len(template)
    n = np.maximum(n, 1.0)
    of_x, of_y = slid(x, in_w), slid(in_t, y)
    spread_x = slid(x * x, in_w) - of_x * of_x / n
    spread_y = slid(in_t, y * y) - of_y * of_y / n
    least = 1e-9 * max(float(np.max(spread_x)), 1e-300), 1e-9 * max(float(np.max(spread_y)), 1e-300)
    is_enough &= (spread_x > least[0]) & (spread_y > least[1])
    shared = slid(x, y) - of_x * of_y / n
    out = np.full(len(n), np.nan)
    out[is_enough] = shared[is_enough] / np.sqrt(spread_x[is_enough] * spread_y[is_enough])
    return out


def _common_line(pieces: Sequence[_Lag]) -> tuple[NDArray[np.float64], int]:
    """Return the line (slope, offset) of possible drift that most pieces lie near, and how many do."""
    best, n_best, spread_best = np.zeros(2), 0, np.inf
    places, lags = np.array([one.place for one in pieces]), np.array([one.lag for one in pieces])
    for one, other in combinations(pieces, 2):
        slope = (other.lag - one.lag) / (other.place - one.place)
        if abs(other.lag - one.lag) <= 2 * _NEAR_SECONDS:  # as near as that they may be of no drift at all
            slope = float(np.clip(slope, -MOST_DRIFT_PPM * 1e-6, MOST_DRIFT_PPM * 1e-6))
        if abs(slope) > MOST_DRIFT_PPM * 1e-6:
            continue
        away = np.abs(lags - one.lag - slope * (places - one.place))
        is_near = away <= _NEAR_SECONDS
        spread = float(away[is_near].sum())
        if (is_near.sum(), -spread) > (n_best, -spread_best):
            best, n_best, spread_best = np.array([slope, one.lag - slope * one.place]), int(is_near.sum()), spread
    return best, n_best


def _without_outliers(pieces: Sequence[_Lag]) -> list[_Lag]:
    """Return the pieces that lie near a robust line through all: within four typical distances."""
    if len(pieces) < _FEWEST_PIECES:
        return list(pieces)
    places, lags = np.array([one.place for one in pieces]), np.array([one.lag for one in pieces])
    slopes = [(lags[j] - lags[i]) / (places[j] - places[i]) for i, j in combinations(range(len(pieces)), 2)]
    slope = float(np.median(slopes))
    away = lags - slope * places
    away = np.abs(away - np.median(away))
    limit = 4 * 1.4826 * float(np.median(away)) + 1e-3
    return [one for one, distance in zip(pieces, away.tolist(), strict=True) if distance <= limit]


def _fitted(lags: Sequence[tuple[float, float]], likeness: float) -> Alignment:
    """Return the clock of pairs of time and lag: with drift where it is more than twice its uncertainty."""
    times, values = np.array(lags).T
    n, middle = len(times), float(np.mean(times))
    spread = float(((times - middle) ** 2).sum())
    slope = float(((times - middle) * (values - values.mean())).sum() / spread) if spread > 0 else 0.0
    left = values - values.mean() - slope * (times - middle)
    variance = float((left**2).sum()) / (n - 2) if n > 2 else np.nan
    slope_sd = float(np.sqrt(variance / spread)) if spread > 0 else np.nan
    is_drifting = bool(n > 2 and abs(slope) > 2 * slope_sd and abs(slope) <= MOST_DRIFT_PPM * 1e-6)
    if not is_drifting:
        slope, left = 0.0, values - values.mean()
        variance = float((left**2).sum()) / (n - 1) if n > 1 else np.nan
    offset_variance = variance * (1 / n + (middle**2 / spread if is_drifting else 0.0))
    return Alignment(
        offset_seconds=float(values.mean() - slope * middle),
        drift_ppm=slope * 1e6,
        offset_sd=float(np.sqrt(offset_variance)),
        drift_sd=slope_sd * 1e6,
        residual_seconds=float(np.sqrt(np.mean(left**2))),
        n=n,
        correlation=likeness,
        pieces=tuple((float(time), float(distance)) for time, distance in zip(times, left, strict=True)),
    )
