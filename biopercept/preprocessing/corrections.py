"""Corrections by hand, applied: stretches and channels marked bad, waves turned, beats added and removed.

Whoever looked at a recording knows better than a detector, so what was corrected is used as it stands:

- a stretch or channel marked bad is masked before anything looks at the samples, as if they had not been recorded;
- a wave that was turned is upright, and no rule turns it again; its level stays, as it is turned around its median;
- a beat removed is no beat. The interval that is left is judged like any other: where the beat was a false one it is an
  ordinary interval; where it was a premature one it holds the pause after it, is no interval of a regular heart, and is
  not used;
- a beat added is a beat, and the intervals on both sides of it are used whatever those around are like, if a heart can
  give them at all (0.25 to 2.4 s). Its time is taken as it was given.

Beats that were corrected are those that heart rate and variability rest on, also where another sensor has more of them.
What could not be applied is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from biopercept.errors import listed
from biopercept.modalities import MODALITIES
from biopercept.preprocessing.beat_detection import DetectedBeats
from biopercept.preprocessing.gaps import BoolArray
from biopercept.recording import (
    BAD,
    BEAT_ADDED,
    BEAT_REMOVED,
    CHANNEL_BAD,
    LABEL,
    POLARITY,
    Correction,
    FloatArray,
    Recording,
    Signal,
)

NEAR_SECONDS = 0.15
"""A beat is removed where one was detected this near: well within half an interval of the fastest heart."""

_SHORTEST, _LONGEST = MODALITIES["ibi"].plausible
_HEART = ("ecg", "bvp", "ibi")
_TURNABLE = frozenset({"ecg", "bvp"})
_LISTED = 4


class CorrectionLog:
    """The corrections of one recording: which were applied to it, and which could not be, and why."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        # Labels are set where the labels are read: nothing is left to do for them.
        self._applied = {number for number, one in enumerate(recording.corrections) if one.kind == LABEL}
        self._refused: dict[int, str] = {}

    def of(self, signal: Signal) -> ByHand:
        """Return the corrections of one signal."""
        numbered = enumerate(self._recording.corrections)
        mine = {n: one for n, one in numbered if one.rows_in(signal) and self._is_read(one, signal)}
        return ByHand(signal, mine, self)

    def _is_read(self, correction: Correction, signal: Signal) -> bool:
        """Return whether a correction has a meaning for a signal that it is about."""
        if correction.kind == POLARITY:
            return signal.modality in _TURNABLE
        if correction.kind not in (BEAT_ADDED, BEAT_REMOVED):
            return True
        named = [s.modality for s in self._recording.signals if correction.rows_in(s)]
        return signal.modality == next((modality for modality in _HEART if modality in named), None)

    def apply(self, number: int) -> None:
        """Note that a correction was applied."""
        self._applied.add(number)

    def refuse(self, number: int, why: str) -> None:
        """Note why a correction is not applied."""
        self._refused[number] = why

    @property
    def applied(self) -> tuple[Correction, ...]:
        """Return the corrections that were applied, in their order."""
        return tuple(one for number, one in enumerate(self._recording.corrections) if number in self._applied)

    def notes(self) -> list[str]:
        """Return a sentence on all that was applied, and one on each correction that was not."""
        notes = [f"corrected by hand: {summary(self.applied, self._recording)}."] if self._applied else []
        for number, one in enumerate(self._recording.corrections):
            if number not in self._applied:
                why = self._refused.get(number, f"{', '.join(one.channels) or 'its signal'} is not used")
                notes.append(f"not corrected, {described(one)}: {why}.")
        return notes


@dataclass(frozen=True, eq=False)
class ByHand:
    """What was corrected by hand in one signal; ``corrections`` are those about it, by their number in the recording.

    ``log`` is where what was applied is noted, if anywhere.
    """

    signal: Signal
    corrections: dict[int, Correction] = field(default_factory=dict)
    log: CorrectionLog | None = None

    @staticmethod
    def masking(signal: Signal, corrections: Sequence[Correction]) -> ByHand:
        """Return what a recording's corrections mask and turn of a signal by itself; its beats are not looked at."""
        others = tuple(one for one in corrections if one.kind not in (BEAT_ADDED, BEAT_REMOVED))
        return CorrectionLog(Recording("", "", "", (signal,), corrections=others)).of(signal)

    def _of(self, *kinds: str) -> list[tuple[int, Correction]]:
        return [(number, one) for number, one in self.corrections.items() if one.kind in kinds]

    def _applied(self, number: int) -> None:
        if self.log is not None:
            self.log.apply(number)

    def _refused(self, number: int, why: str) -> None:
        if self.log is not None:
            self.log.refuse(number, why)

    @property
    def is_turned(self) -> bool:
        """Return whether somebody said which way up the wave is."""
        return bool(self._of(POLARITY))

    @property
    def has_beats(self) -> bool:
        """Return whether beats were added to it or removed."""
        return bool(self._of(BEAT_ADDED, BEAT_REMOVED))

    @property
    def names_beats(self) -> bool:
        """Return whether beats were added to it or removed, and the signal named."""
        return any(one.channels for _, one in self._of(BEAT_ADDED, BEAT_REMOVED))

    def turned(self, samples: FloatArray) -> FloatArray:
        """Return samples with what was upside down turned around its median: (n_channels, n_samples).

        What several rows say is upside down is turned once.
        """
        turns = self._of(POLARITY)
        if not turns:
            return samples
        out = samples.copy()
        is_turned = np.zeros(samples.shape, dtype=bool)
        for number, one in turns:
            columns = _columns(self.signal, one)
            for row in one.rows_in(self.signal):
                stretch = samples[row, columns]
                if np.isfinite(stretch).any():
                    turned = 2.0 * np.nanmedian(stretch) - stretch
                    out[row, columns] = np.where(is_turned[row, columns], out[row, columns], turned)
                    is_turned[row, columns] = True
                    self._applied(number)
        return out

    def bad(self) -> BoolArray | None:
        """Return which samples are marked bad, (n_channels, n_samples); None where no one is."""
        marks = self._of(BAD, CHANNEL_BAD)
        if not marks:
            return None
        is_bad = np.zeros((self.signal.n_channels, self.signal.n_samples), dtype=bool)
        for number, one in marks:
            columns = _columns(self.signal, one)
            for row in one.rows_in(self.signal):
                is_bad[row, columns] = True
            if is_bad[:, columns].any():
                self._applied(number)
        return is_bad if is_bad.any() else None

    def bad_at(self, times: FloatArray) -> BoolArray:
        """Return which times, seconds, lie in a stretch that is marked bad."""
        out = np.zeros(len(times), dtype=bool)
        for _, one in self._of(BAD, CHANNEL_BAD):
            begin, end = one.span
            out |= (times >= begin) & (times < end)
        return out

    def beats(self, detected: DetectedBeats) -> DetectedBeats:
        """Return detected beats without those that were removed, and with those that were added.

        Removed is the nearest, be it detected or added by an earlier row.
        """
        if not self.has_beats:
            return detected
        is_kept = np.ones(len(detected), dtype=bool)
        additions = dict(self._of(BEAT_ADDED))
        for number, one in self._of(BEAT_REMOVED):
            where, apart = _nearest(np.where(is_kept, detected.times, np.nan), one.onset_seconds)
            earlier = [n for n in additions if n < number]
            place, beside = _nearest(np.array([additions[n].onset_seconds for n in earlier]), one.onset_seconds)
            if min(apart, beside) > NEAR_SECONDS:
                self._refused(number, f"no beat was detected within {NEAR_SECONDS:g} s")
                continue
            if beside < apart:  # somebody took back what was added before
                self._applied(earlier[place])
                del additions[earlier[place]]
            else:
                is_kept[where] = False
            self._applied(number)
        kept = DetectedBeats(*(column[is_kept] for column in detected.columns))
        added: list[float] = []
        for number, one in additions.items():
            if why := self._why_not_added(one.onset_seconds, np.concatenate((kept.times, added))):
                self._refused(number, why)
            else:
                added.append(one.onset_seconds)
                self._applied(number)
        return _with_added(kept, np.array(added))

    def _why_not_added(self, seconds: float, times: FloatArray) -> str:
        if self.bad_at(np.array([seconds])).any():
            return "it lies in a stretch that is marked bad"
        apart = np.abs(times - seconds).min(initial=np.inf)
        if apart < _SHORTEST:
            return f"there is a beat {apart:.3f} s from it, nearer than any heart beats; remove that one, too"
        return ""

    @property
    def added(self) -> FloatArray:
        """Return the times of beats that somebody said are there, seconds."""
        return np.array([one.onset_seconds for _, one in self._of(BEAT_ADDED)])

    def intervals(self) -> Signal:
        """Return a device's inter-beat intervals with beats removed and added.

        A removed beat joins the intervals on both sides of it. An added one splits the interval that it lies in; in a
        hole it ends one that begins at the beat before.
        """
        if not self.has_beats:
            return self.signal
        order = np.argsort(self.signal.sample_times(), kind="stable")
        times, values = self.signal.sample_times()[order], self.signal.read()[0, order]
        unknown = np.full(len(times), np.nan)
        beats = self.beats(DetectedBeats(times, unknown, unknown, np.zeros(len(times), dtype=np.int64)))
        rows = list(zip(times.tolist(), (times - values).tolist(), values.tolist(), strict=True))
        for beat in np.setdiff1d(times, beats.times[~beats.by_hand]).tolist():
            rows = _without(rows, beat)
        for beat in beats.times[beats.by_hand].tolist():
            rows = _with(rows, beat)
        ends, lengths = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
        edited = replace(self.signal, times=ends, channels=self.signal.channels[:1])
        return edited.with_samples(lengths, self.signal.sampling_rate)


_Row = tuple[float, float, float]
"""A device's interval: where it ends and begins, and how long it is, seconds; NaN where the last two are not known."""


def _without(rows: list[_Row], beat: float) -> list[_Row]:
    """Return intervals without the beat at the end of one: the next, where it follows, begins where that one did."""
    place = next(number for number, row in enumerate(rows) if row[0] == beat)
    _, begin, _ = rows[place]
    after = rows[place + 1 : place + 2]
    if after and abs(after[0][1] - beat) < 0.1 * _SHORTEST:
        after = [(after[0][0], begin, after[0][0] - begin)]
    return [*rows[:place], *after, *rows[place + 2 :]]


def _with(rows: list[_Row], beat: float) -> list[_Row]:
    """Return intervals with one more beat, which splits the interval that it lies in, or follows the beat before."""
    place = sum(row[0] < beat for row in rows)
    before = rows[place - 1][0] if place else -np.inf
    after = rows[place : place + 1]
    begin = before if beat - before <= _LONGEST else np.nan
    if after and after[0][1] < beat:
        begin = after[0][1]
        after = [(after[0][0], beat, after[0][0] - beat)]
    return [*rows[:place], (beat, begin, beat - begin), *after, *rows[place + 1 :]]


def _columns(signal: Signal, correction: Correction) -> slice | BoolArray:
    """Return the samples of a signal whose time a correction touches; of a beat's interval, if it touches any of it."""
    begin, end = correction.span
    if signal.times is not None:
        times = signal.sample_times()
        lengths = np.nan_to_num(signal.read()[0]) if signal.modality == "ibi" else np.zeros(len(times))
        return np.asarray((times >= begin) & (times - lengths < end))
    if not np.isfinite(end):
        return slice(None)
    first, last = ((edge - signal.start_seconds) * signal.sampling_rate for edge in (begin, end))
    return slice(max(int(np.floor(first + 1e-6)), 0), max(int(np.ceil(last - 1e-6)), 0))


def _nearest(times: FloatArray, seconds: float) -> tuple[int, float]:
    """Return the beat that is nearest to a time, and how far it is; infinitely where there is none."""
    apart = np.abs(times - seconds)
    if not np.isfinite(apart).any():
        return 0, np.inf
    where = int(np.nanargmin(apart))
    return where, float(apart[where])


def _with_added(beats: DetectedBeats, added: FloatArray) -> DetectedBeats:
    """Return beats with added ones, in time order; an added beat joins stretches that it is near to."""
    n = len(added)
    unknown = np.full(n, np.nan)
    both = [
        np.concatenate(pair)
        for pair in zip(
            beats.columns,
            (added, unknown, unknown, np.full(n, -1, dtype=np.int64), np.ones(n, dtype=bool)),
            strict=True,
        )
    ]
    order = np.argsort(both[0], kind="stable")
    times, amplitudes, errors, stretches, by_hand = (column[order] for column in both)
    either = by_hand[1:] | by_hand[:-1]
    is_new = np.where(either, np.diff(times) > _LONGEST, np.diff(stretches) != 0)
    stretches = np.concatenate(([0], np.cumsum(is_new))) if len(times) else np.empty(0)
    return DetectedBeats(times, amplitudes, errors, stretches.astype(np.int64), by_hand)


def summary(corrections: Sequence[Correction], recording: Recording) -> str:
    """Return what was corrected in a few words: "2 beats removed, 1 added, 15 s marked bad"."""
    counts = {kind: sum(one.kind == kind for one in corrections) for kind in (BEAT_REMOVED, BEAT_ADDED)}
    parts: list[str] = []
    for kind, word in ((BEAT_REMOVED, "removed"), (BEAT_ADDED, "added")):
        if counts[kind]:
            noun = "" if parts else " beat" if counts[kind] == 1 else " beats"
            parts.append(f"{counts[kind]}{noun} {word}")
    stretches: dict[tuple[str, ...], list[Correction]] = {}
    for one in corrections:
        if one.kind == BAD:
            stretches.setdefault(one.channels, []).append(one)
    for channels, marks in list(stretches.items())[:_LISTED]:
        where = f" in {_distinct(channels)}" if channels else ""
        parts.append(f"{_rounded(_seconds_covered(marks, recording))} s marked bad{where}")
    if len(stretches) > _LISTED:
        parts.append(f"stretches of {len(stretches) - _LISTED} more channels marked bad")
    bad = [name for one in corrections if one.kind == CHANNEL_BAD for name in one.channels]
    turned = [name for one in corrections if one.kind == POLARITY for name in one.channels]
    parts += [f"{_distinct(bad)} marked bad throughout"] if bad else []
    parts += [f"{_distinct(turned)} turned"] if turned else []
    n_labels = sum(one.kind == LABEL for one in corrections)
    parts += [f"{n_labels} label{'s' * (n_labels > 1)} set"] if n_labels else []
    return ", ".join(parts) or "nothing"


def described(one: Correction) -> str:
    """Return one correction in a few words, for messages."""
    of = f" of {_distinct(one.channels)}" if one.channels else ""
    begin, end = one.span
    if one.kind in (BEAT_ADDED, BEAT_REMOVED):
        return f"{one.kind} at {begin:.3f} s{of}"
    if one.kind == LABEL:
        return f"{f'label {one.label!r}' if one.label else 'no label'} from {begin:g} to {end:g} s"
    return f"{one.kind}{of}" if not np.isfinite(end) else f"{one.kind}{of} from {begin:g} to {end:g} s"


def _rounded(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0")


def _distinct(names: Iterable[str]) -> str:
    return listed(dict.fromkeys(names), _LISTED)


def _seconds_covered(marks: Sequence[Correction], recording: Recording) -> float:
    """Return the seconds of the recording that stretches cover; where two overlap, once."""
    total, free = 0.0, min((signal.start_seconds for signal in recording.signals), default=0.0)
    last = recording.duration_seconds
    for begin, end in sorted(one.span for one in marks):
        total += max(min(end, last) - max(begin, free), 0.0)
        free = max(free, min(end, last))
    return total
