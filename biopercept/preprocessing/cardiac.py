"""Heart beats of a recording, from ECG, blood volume pulse or a device's own intervals; which intervals are accepted.

Beats go one way: detected in a wave (:mod:`biopercept.preprocessing.beat_detection`), given their intervals, judged
here, and only then used (:mod:`biopercept.preprocessing.variability`). Between the first two lies
:func:`beats_with_intervals`: whoever knows better where a beat is changes :class:`DetectedBeats` before it.

References
----------
Lipponen & Tarvainen (2019), doi:10.1080/03091902.2019.1640306: differences of intervals judged by 5.2 times their local
quartile deviation, so that a strong sinus arrhythmia widens its own limits. We differ in that doubtful intervals are
dropped and never corrected, in using the median of the absolute differences (the same for symmetric ones, and safe with
a quarter of them wrong, as in short recordings), and in the cap of 20 %, the rule of Kleiger et al. (1987),
doi:10.1016/0002-9149(87)90795-8, without which every second beat being premature would justify itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.preprocessing.beat_detection import (
    BeatSearch,
    DetectedBeats,
    detected_beats,
    ecg_search,
    no_detected_beats,
    pulse_search,
)
from biopercept.preprocessing.corrections import ByHand
from biopercept.preprocessing.gaps import BoolArray
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import FloatArray, Signal

MIN_ECG_RATE = 80.0
"""Sampling rate below which R-peaks are not looked for, Hz."""

MIN_BVP_RATE = 16.0
"""Sampling rate below which pulse peaks are not looked for, Hz."""

SHORTEST_INTERVAL, LONGEST_INTERVAL = MODALITIES["ibi"].plausible
_LEVEL_BEATS = 11
_SPREAD_BEATS = 91
_MIN_AROUND = 4
_SPREAD_FACTOR = 5.2  # Lipponen & Tarvainen's alpha
_MIN_STEP = 0.05  # of the local median: changes of this size are no fault of a heart, however regular it was
_COVERAGE_SECONDS = 20.0
_FEWEST_TOGETHER = 4  # even 35 beats a minute give as many in the shortest segment; noise gives pairs that look alike
_MIN_FOR_STEP = 10  # so many intervals are multiples of one step by a clock and not by chance
_ROUNDING_SECONDS = 0.00025  # a step of 1/64 s is often printed as 0.0156
_DEVICE_SECONDS = 10.0
_EARLY, _MOST_EARLY = 0.9, 0.01  # a beat cannot come sooner than its interval after the one before, save by rounding
_FEWEST_EARLY, _PACKET_BEATS = 3, 31


@dataclass(frozen=True, eq=False)
class Beats:
    """Heart beats of one recording.

    Attributes
    ----------
    times : array, shape (n,)
        Seconds on the recording's clock, increasing.
    intervals : array, shape (n,)
        Seconds since the beat before; NaN where there is none, or it lies beyond a gap, or the
        interval was not accepted.
    amplitudes : array, shape (n,)
        Pulse amplitude in the signal's unit; NaN where not measured.
    source : str
        Name of the signal the beats were found in.
    timing_errors : array, shape (n,)
        Standard error of each time, seconds; NaN where nobody can say, as of a device's intervals.
    by_hand : array, shape (n,)
        Which beats a person added.
    """

    times: FloatArray
    intervals: FloatArray
    amplitudes: FloatArray
    source: str
    timing_errors: FloatArray = field(default_factory=lambda: np.empty(0))
    by_hand: BoolArray = field(default_factory=lambda: np.empty(0, dtype=bool))

    def __post_init__(self) -> None:
        """Take errors that are not given as unknown, and beats as detected."""
        if len(self.timing_errors) == 0:
            object.__setattr__(self, "timing_errors", np.full(len(self.times), np.nan))
        if len(self.by_hand) == 0:
            object.__setattr__(self, "by_hand", np.zeros(len(self.times), dtype=bool))

    def __len__(self) -> int:
        """Return the number of beats."""
        return len(self.times)

    @property
    def successive_differences(self) -> FloatArray:
        """Return each interval less the one before, seconds: shape (n,).

        NaN unless both were accepted and follow each other without a missing beat between.
        """
        out = np.full(len(self), np.nan)
        out[1:] = np.where(_follows(self.times, self.intervals)[1:], np.diff(self.intervals), np.nan)
        return out


def no_beats(source: str = "") -> Beats:
    """Return a set of no beats."""
    empty = np.empty(0)
    return Beats(empty, empty, empty, source)


def ecg_beats(
    raw: FloatArray, signal: Signal, settings: CleaningSettings, by_hand: ByHand | None = None
) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened ECG channel, as they were corrected by hand, and notes.

    ``raw`` are its screened samples at the signal's own rate, (n_samples,) in mV, NaN where masked.
    """
    by_hand = by_hand or ByHand(signal)
    search = ecg_search(settings, is_upright=by_hand.is_turned)
    detected, notes = _detected(raw, signal, settings, search, MIN_ECG_RATE)
    return beats_with_intervals(by_hand.beats(detected), signal.name, settings), notes


def bvp_beats(
    raw: FloatArray, signal: Signal, settings: CleaningSettings, by_hand: ByHand | None = None
) -> tuple[Beats, tuple[str, ...]]:
    """Return the beats of one screened pulse channel with their amplitudes, and notes.

    Parameters as in :func:`ecg_beats`, in the device's own unit.
    """
    by_hand = by_hand or ByHand(signal)
    detected, notes = _detected(raw, signal, settings, pulse_search(), MIN_BVP_RATE)
    return beats_with_intervals(by_hand.beats(detected), signal.name, settings), notes


def _detected(
    raw: FloatArray, signal: Signal, settings: CleaningSettings, search: BeatSearch, min_rate: float
) -> tuple[DetectedBeats, tuple[str, ...]]:
    if signal.sampling_rate < min_rate:
        why = (
            f"{signal.name}: no beats were looked for, because it is sampled at {signal.sampling_rate:g} Hz "
            f"and at least {min_rate:g} Hz is needed."
        )
        return no_detected_beats(), (why,)
    return detected_beats(raw, signal, settings, search)


def beats_with_intervals(detected: DetectedBeats, source: str, settings: CleaningSettings) -> Beats:
    """Return detected beats with the accepted intervals between them; none spans a gap of the signal.

    Intervals that begin or end with a beat that a person added are accepted wherever they are plausible.
    """
    intervals = np.full(len(detected), np.nan)
    for stretch in np.unique(detected.stretches):
        inside = np.flatnonzero(detected.stretches == stretch)
        times = detected.times[inside]
        raw = np.concatenate(([np.nan], np.diff(times)))
        intervals[inside] = _with_confirmed(accepted_intervals(times, raw, settings), raw, detected.by_hand[inside])
    return Beats(detected.times, intervals, detected.amplitudes, source, detected.timing_errors, detected.by_hand)


def _with_confirmed(accepted: FloatArray, raw: FloatArray, by_hand: BoolArray) -> FloatArray:
    """Return accepted intervals and, of all, those on both sides of beats added by hand that a heart can give."""
    with np.errstate(invalid="ignore"):
        is_plausible = (raw >= SHORTEST_INTERVAL) & (raw <= LONGEST_INTERVAL)
    return np.where(_beside(by_hand) & is_plausible, raw, accepted)


def _beside(by_hand: BoolArray) -> BoolArray:
    """Return which intervals begin or end with one of those beats."""
    return np.asarray(by_hand | np.concatenate((np.zeros(1, dtype=bool), by_hand[:-1]))[: len(by_hand)])


def device_beats(
    signal: Signal, intervals: FloatArray, settings: CleaningSettings, added: FloatArray | None = None
) -> Beats:
    """Return the beats that a device reported as inter-beat intervals.

    The signal's times are the ends of the intervals; ``intervals`` are in seconds, NaN where not plausible. Where they
    are the times of packets, that a belt sends about once a second with the intervals since the last, beats stand where
    the sum of the intervals puts them. The errors of the times are those of rounding to the device's clock, where its
    steps show in the intervals. ``added`` are the times of beats among them that a person added.
    """
    times = signal.sample_times()
    order = np.argsort(times, kind="stable")
    at, values = times[order], intervals[order]
    by_hand = np.isin(at, np.empty(0) if added is None else added)
    if are_of_packets(at, values):
        at = _times_of_beats(at, values)
    is_new = np.concatenate(([True], np.diff(at) > 0)) if len(at) else np.zeros(0, dtype=bool)
    at, values, by_hand = at[is_new], values[is_new], by_hand[is_new]
    kept = accepted_intervals(at, values, settings, needs_coverage=False)
    kept = _with_confirmed(kept, values, by_hand)
    unknown = np.full(len(at), np.nan)
    errors = np.full(len(at), _clock_step(values[~_beside(by_hand)]) / np.sqrt(12.0))
    return Beats(at, kept, unknown, signal.name, errors, by_hand)


def are_of_packets(times: FloatArray, intervals: FloatArray) -> bool:
    """Return whether times are not those of beats: too many come sooner than the intervals at both ends last."""
    order = np.argsort(times, kind="stable")
    values = intervals[order]
    with np.errstate(invalid="ignore"):
        is_early = np.diff(times[order]) < _EARLY * np.minimum(values[1:], values[:-1])
    return int(is_early.sum()) >= max(_MOST_EARLY * len(is_early), _FEWEST_EARLY)


def _times_of_beats(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return where the sum of the intervals puts beats, kept near the times of the packets of the 31 beats around."""
    from scipy.ndimage import median_filter

    elapsed = np.cumsum(np.nan_to_num(intervals))
    return np.asarray(elapsed + median_filter(times - elapsed, _PACKET_BEATS, mode="nearest"), dtype=np.float64)


def _clock_step(intervals: FloatArray) -> float:
    """Return the step that every interval is a multiple of, seconds; NaN where there is none above 1 ms."""
    known = intervals[np.isfinite(intervals)]
    differences = np.diff(np.unique(np.round(known, 4)))
    step = differences[differences > _ROUNDING_SECONDS].min(initial=np.inf)
    if not (0.001 < step < np.inf) or len(known) < _MIN_FOR_STEP:
        return np.nan
    steps = known / step
    return float(step) if (np.abs(steps - np.round(steps)) * step < _ROUNDING_SECONDS * steps).all() else np.nan


def checked_against_device(
    beats: Beats, device_rate: FloatArray, times: FloatArray, settings: CleaningSettings
) -> Beats:
    """Return the beats without the intervals around which the mean over 10 s contradicts the device's own heart rate.

    A device's rate is a mean over seconds, which single intervals of a breathing heart leave far on both sides. Where
    the device gives no rate nothing is dropped.
    """
    is_known = np.isfinite(device_rate)
    if len(beats) == 0 or not is_known.any():
        return beats
    expected = np.interp(beats.times, times[is_known], device_rate[is_known])
    nearest = np.clip(np.round((beats.times - times[0]) * DERIVED_RATE).astype(int), 0, len(times) - 1)
    with np.errstate(invalid="ignore"):
        rate = 60.0 / _mean_around(beats.times, beats.intervals, _DEVICE_SECONDS)
        contradicts = np.abs(rate - expected) > settings.pulse_agreement * expected
    kept = np.where(contradicts & is_known[nearest], np.nan, beats.intervals)
    return replace(beats, intervals=_with_confirmed(kept, beats.intervals, beats.by_hand))


def accepted_intervals(
    times: FloatArray, intervals: FloatArray, settings: CleaningSettings, *, needs_coverage: bool = True
) -> FloatArray:
    """Return the intervals with NaN for every one that no regular heart gives.

    An interval is dropped where

    - it is not plausible (0.25-2.4 s);
    - it is longer than the median of the 11 around by ``heart_max_deviation``, or as many times shorter: beats were
      missed, or found twice;
    - half of it would be nearer to the mean of those before and after (a beat was missed), or it and the one beside are
      together nearer to that mean than either is alone (a false beat splits them);
    - it stands out from the intervals before and after, on the same side of both, by more than the limit: a premature
      beat and its pause, a beat in the wrong place. The limit is 5.2 times the median difference of the 91 around, at
      least 5 % and at most ``heart_max_step`` of the median interval, and for an interval longer than the median as
      many times wider: the waves in which breathing changes intervals are sampled more coarsely where they are long;
    - a dropped one lies beside it and it differs from the median by more than the limit;
    - accepted intervals cover less than ``heart_min_coverage`` of the 20 s around, or are fewer than four there (not
      asked of a device's intervals: it has left out the doubtful ones itself).

    Every limit treats long and short alike, so that the mean of what is left is not pulled to one side.
    """
    follows = _follows(times, intervals)
    with np.errstate(invalid="ignore"):
        is_good = (intervals >= SHORTEST_INTERVAL) & (intervals <= LONGEST_INTERVAL)
        level = _running_median(np.where(is_good, intervals, np.nan), _LEVEL_BEATS)
        ratio = intervals / level
        is_good &= (ratio <= 1 + settings.heart_max_deviation) & (ratio >= 1 / (1 + settings.heart_max_deviation))
        before, after = _differences(intervals, level, follows, is_good)
        limit = _limit(before, level, follows, settings)
        reach = limit * np.fmax(1.0, ratio)  # a long interval is followed by a longer wait for its neighbour
        stands_out = (before * after > 0) & (np.minimum(np.abs(before), np.abs(after)) > reach)
        is_good &= ~stands_out & ~_spans_two(intervals, before, after)
        is_good &= ~_is_part(intervals, *_differences(intervals, level, follows, is_good), follows)
        level = _running_median(np.where(is_good, intervals, np.nan), _LEVEL_BEATS)  # no longer pulled by the dropped
        is_good &= ~(_is_beside(~is_good, follows) & (np.abs(intervals - level) > reach))
    kept = np.where(is_good, intervals, np.nan)
    for _ in range(2 if needs_coverage else 0):  # dropping the loneliest intervals can leave their neighbours alone
        kept = np.where(_coverage(times, kept) >= settings.heart_min_coverage, kept, np.nan)
    if needs_coverage:
        kept = np.where(_n_near(times, kept) >= _FEWEST_TOGETHER, kept, np.nan)
    return kept


def _spans_two(intervals: FloatArray, before: FloatArray, after: FloatArray) -> BoolArray:
    """Return which intervals are so long that half is nearer to the mean of their neighbours: a beat was missed."""
    neighbours = intervals - 0.5 * (before + after)
    return np.asarray(np.abs(0.5 * intervals - neighbours) < np.abs(intervals - neighbours))


def _is_part(intervals: FloatArray, before: FloatArray, after: FloatArray, follows: BoolArray) -> BoolArray:
    """Return which intervals are, with the one beside, nearer to the mean of those around than either: a false beat."""
    out = np.zeros(len(intervals), dtype=bool)
    first = np.flatnonzero(follows[1:])
    one, other = intervals[first], intervals[first + 1]
    around = 0.5 * (one - before[first] + other - after[first + 1])
    is_split = np.abs(one + other - around) < np.minimum(np.abs(one - around), np.abs(other - around))
    out[first[is_split]] = out[first[is_split] + 1] = True
    return out


def _is_beside(is_true: BoolArray, follows: BoolArray) -> BoolArray:
    """Return which intervals follow, or are followed by, one of those."""
    out = np.zeros(len(is_true), dtype=bool)
    out[1:] |= follows[1:] & is_true[:-1]
    out[:-1] |= follows[1:] & is_true[1:]
    return out


def _follows(times: FloatArray, intervals: FloatArray) -> BoolArray:
    """Return whether each interval, and one before it, are known and follow each other without a beat between: (n,)."""
    out = np.zeros(len(times), dtype=bool)
    with np.errstate(invalid="ignore"):
        starts_there = np.abs(np.diff(times) - intervals[1:]) <= 0.1 * intervals[1:]
    out[1:] = starts_there & np.isfinite(intervals[:-1])
    return out


def _differences(
    intervals: FloatArray, level: FloatArray, follows: BoolArray, is_good: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return each interval less the one before, and less the one after; less the local median where that is no good."""
    before, after = intervals - level, intervals - level
    steps = np.diff(intervals)
    before[1:] = np.where(follows[1:] & is_good[:-1], steps, before[1:])
    after[:-1] = np.where(follows[1:] & is_good[1:], -steps, after[:-1])
    return before, after


def _limit(before: FloatArray, level: FloatArray, follows: BoolArray, settings: CleaningSettings) -> FloatArray:
    """Return by how much an interval may stand out from both neighbours, seconds: (n,)."""
    typical = _running_median(np.where(follows, np.abs(before), np.nan), _SPREAD_BEATS)
    limit = np.where(np.isfinite(typical), _SPREAD_FACTOR * typical, np.inf)
    return np.clip(limit, _MIN_STEP * level, max(settings.heart_max_step, _MIN_STEP) * level)


def _running_median(values: FloatArray, n_around: int) -> FloatArray:
    """Return the median of the valid values among the ``n_around`` around each; NaN with fewer than 4."""
    if len(values) == 0:
        return values.copy()
    half = n_around // 2
    padded = np.concatenate((np.full(half, np.nan), values, np.full(half, np.nan)))
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, n_around), axis=1)  # NaN last
    n = np.isfinite(around).sum(axis=1)
    row, middle = np.arange(len(values)), np.maximum(n, 1)
    median = 0.5 * (around[row, (middle - 1) // 2] + around[row, middle // 2])
    return np.where(n >= _MIN_AROUND, median, np.nan)


def _mean_around(times: FloatArray, intervals: FloatArray, seconds: float) -> FloatArray:
    """Return the mean of the accepted intervals that end in the ``seconds`` around each beat; NaN where none does."""
    low = np.searchsorted(times, times - seconds / 2)
    high = np.searchsorted(times, times + seconds / 2)
    total, n = (np.concatenate(([0.0], np.cumsum(x))) for x in (np.nan_to_num(intervals), np.isfinite(intervals)))
    with np.errstate(invalid="ignore"):
        return np.asarray((total[high] - total[low]) / (n[high] - n[low]), dtype=np.float64)


def _n_near(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return the number of accepted intervals that end within 10 s of each beat."""
    n = np.concatenate(([0], np.cumsum(np.isfinite(intervals))))
    low, high = (np.searchsorted(times, times + side * _COVERAGE_SECONDS / 2) for side in (-1, 1))
    return np.asarray(n[high] - n[low], dtype=np.float64)


def _coverage(times: FloatArray, intervals: FloatArray) -> FloatArray:
    """Return the fraction of the 20 s around each interval's middle that accepted intervals cover.

    At the ends of the run only the time that the run has counts.
    """
    if len(times) == 0:
        return times.copy()
    covered = np.concatenate(([0.0], np.cumsum(np.nan_to_num(intervals))))
    middle = times - np.nan_to_num(intervals) / 2
    first = max(times[0] - (intervals[0] if np.isfinite(intervals[0]) else 0.0), times[0] - LONGEST_INTERVAL)
    low = np.maximum(middle - _COVERAGE_SECONDS / 2, first)
    high = np.minimum(middle + _COVERAGE_SECONDS / 2, times[-1])
    total = covered[np.searchsorted(times, high, side="right")] - covered[np.searchsorted(times, low, side="right")]
    return np.asarray(total / np.maximum(high - low, LONGEST_INTERVAL), dtype=np.float64)
