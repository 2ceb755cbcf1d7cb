"""What a person corrects in a window before it is saved: corrections by hand with undo, redo and their commands.

Nothing here knows Qt. Each step is what the command ``correct`` writes, in its own classes; what would have no effect
is refused at once, with the reason that cleaning would give.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import SettingsError
from biopercept.loaders.corrections import HEART_MODALITIES, TURNABLE
from biopercept.preprocessing.beat_detection import DetectedBeats
from biopercept.preprocessing.corrections import NEAR_SECONDS, CorrectionLog, described
from biopercept.recording import (
    BAD,
    BEAT_ADDED,
    BEAT_REMOVED,
    CHANNEL_BAD,
    LABEL,
    POLARITY,
    Correction,
    FloatArray,
    Interval,
    Recording,
    Signal,
    contradicted,
    relabelled,
)
from biopercept.studies.labels import label_fault
from biopercept.viewing.timeline import BEATS, RECORDED, Timeline

if TYPE_CHECKING:
    from biopercept.prepare.sources import Source

_DIGITS = 3
Pending = tuple[Correction, ...]


class Edits:
    """The corrections of one recording that are not saved yet; every change is a step that can be undone.

    ``source`` is the recording that they are of, None where nothing can be corrected (a store).
    """

    def __init__(self, timeline: Timeline, source: Source | None) -> None:
        self._timeline = timeline
        self._source = source
        self._signals = {signal.name: signal for signal in timeline.signals if not signal.derived_from}
        self._steps: list[Pending] = [()]
        self._place = 0

    @property
    def pending(self) -> Pending:
        """Return what is not saved yet, in the order in which it was done."""
        return self._steps[self._place]

    @property
    def can_undo(self) -> bool:
        """Return whether there is a step to undo."""
        return self._place > 0

    @property
    def can_redo(self) -> bool:
        """Return whether a step was undone."""
        return self._place + 1 < len(self._steps)

    def undo(self) -> None:
        """Take the last step back, if there is one."""
        self._place = max(self._place - 1, 0)

    def redo(self) -> None:
        """Do the step again that was undone last, if one was."""
        self._place = min(self._place + 1, len(self._steps) - 1)

    def why_not(self) -> str:
        """Return why the recording cannot be corrected; empty where it can."""
        if self._source is None or self._timeline.form != RECORDED:
            return "a store is not corrected: view the study or file that it was made of"
        return ""

    def mark_bad(self, begin: float, end: float, name: str = "") -> None:
        """Mark a stretch bad, in a signal or channel, or in everything."""
        self._step(Correction(BAD, *self._stretch(begin, end), self._named(name)))

    def mark_channel_bad(self, name: str) -> None:
        """Mark a signal, or a channel of one, bad throughout; where that is not saved yet, take it back."""
        self._toggle(Correction(CHANNEL_BAD, channels=self._named(name)))

    def turn(self, signal: str) -> None:
        """Say that an ECG or pulse wave is upside down; where that is not saved yet, take it back.

        Raises SettingsError where the signal is neither.
        """
        modality = self._signal(signal).modality
        if modality not in TURNABLE:
            raise SettingsError(f"only ECG and pulse waves can be turned, and {signal} is neither")
        self._toggle(Correction(POLARITY, channels=(signal,)))

    def set_label(self, begin: float, end: float, label: str) -> None:
        """Set the label of a stretch; empty: it has none.

        Raises SettingsError where the study does not take it.
        """
        study, entry = (None, None) if self._source is None else (self._source.study, self._source.entry)
        if study is not None and entry is not None and (fault := label_fault(study, entry, label)):
            raise SettingsError(fault)
        self._step(Correction(LABEL, *self._stretch(begin, end), label=label))

    def add_beat(self, seconds: float, signal: str) -> None:
        """Add a beat. Raises SettingsError where there is one already, or none can be."""
        self._refuse_other(signal)
        self._step(Correction(BEAT_ADDED, round(seconds, _DIGITS), 0.0, (signal,)))

    def remove_beat(self, seconds: float, signal: str) -> None:
        """Remove the beat that is nearest; one that was added and is not saved yet just goes.

        Raises SettingsError where none is near.
        """
        self._refuse_other(signal)
        self._step(*self._without_beat(seconds, signal))

    def move_beat(self, origin: float, target: float, signal: str) -> None:
        """Move the beat that is nearest to a time to another: removed here, added there, in one step."""
        self._refuse_other(signal)
        self._step(*self._without_beat(origin, signal), Correction(BEAT_ADDED, round(target, _DIGITS), 0.0, (signal,)))

    def beats(self, signal: str) -> FloatArray:
        """Return the times of the beats of a signal with what is not saved yet; those saved are among the detected."""
        log, detected = self._log(self.pending), self._detected(signal)
        return log.of(self._signal(signal)).beats(detected).times

    def beat_signal(self) -> str:
        """Return the signal that beats were detected in, empty where there is none."""
        return next((one.signal for one in self._timeline.marks if one.kind == BEATS), "")

    def can_have_beats(self, signal: str) -> bool:
        """Return whether beats can be corrected in a signal: where they were detected, or could have been."""
        there = self.beat_signal()
        return signal in self._signals and (
            signal == there if there else self._signals[signal].modality in HEART_MODALITIES
        )

    def labels(self) -> tuple[Interval, ...]:
        """Return the labels with those that are not saved yet."""
        return tuple(relabelled(self._timeline.labels, self.pending))

    def label_names(self) -> tuple[str, ...]:
        """Return the labels that can be set: those of the study's tasks, or those that are there."""
        names = [label.label for label in self._timeline.labels]
        if self._source is not None and self._source.study is not None:
            names += [n for task in self._source.study.tasks.values() for n in (*task.labels, *task.ignore)]
        return tuple(dict.fromkeys(names))

    def is_turned(self, signal: str) -> bool:
        """Return whether somebody said that a signal is upside down throughout, saved or not."""
        everything = (*self._timeline.by_hand, *self.pending)
        return any(one.kind == POLARITY and signal in one.channels and np.isinf(one.span[0]) for one in everything)

    def commands(self, who: str = "") -> tuple[str, ...]:
        """Return the command lines that do what is not saved yet."""
        if self._source is None:
            return ()
        return tuple(commands_of(self.pending, self._source, who))

    def _step(self, *new: Correction) -> None:
        """Do a step. Raises SettingsError where one of the corrections would have no effect."""
        if why := self.why_not():
            raise SettingsError(why)
        removed = [one for one in new if one in self.pending and one.kind == BEAT_ADDED]
        kept = [one for one in self.pending if one not in removed]
        added = [one for one in new if one not in removed]
        if not removed and all(one in kept for one in added):
            raise SettingsError("that is done already")
        wanted = (*kept, *(one for one in added if one not in kept))
        self._refuse_without_effect(wanted)
        self._push(wanted)

    def _push(self, wanted: Pending) -> None:
        self._steps[self._place + 1 :] = [wanted]
        self._place += 1

    def _toggle(self, one: Correction) -> None:
        if one in self.pending:
            self._push(tuple(other for other in self.pending if other != one))
            return
        if any(one.kind == other.kind and one.channels == other.channels for other in self._timeline.by_hand):
            raise SettingsError(f"{one.kind} of {', '.join(one.channels)} is saved already")
        self._step(one)

    def _refuse_without_effect(self, wanted: Pending) -> None:
        turned = {name for one in wanted if one.kind == POLARITY for name in one.channels}
        if any(_is_of_beat(one) and turned.intersection(one.channels) for one in wanted):
            raise SettingsError("beats are looked for anew in a wave that was turned: save one before the other")
        log = self._log(wanted)
        for signal in self._signals.values():
            if any(_is_of_beat(one) and signal.name in one.channels for one in wanted):
                log.of(signal).beats(self._detected(signal.name))
        for one in wanted:
            opening = f"not corrected, {described(one)}: "
            why = [note.removeprefix(opening) for note in log.notes() if note.startswith(opening)]
            if why and _is_of_beat(one):
                raise SettingsError(f"{described(one)}: {why[0].rstrip('.')}")

    def _log(self, corrections: Pending) -> CorrectionLog:
        """Return the log in which corrections are applied to what was detected, in the order of the table."""
        masked = [one for one in self._timeline.by_hand if one.kind in (BAD, CHANNEL_BAD)]
        ordered = (*masked, *sorted(corrections, key=lambda one: one.kind == BEAT_ADDED))
        return CorrectionLog(Recording("", "", "", tuple(self._signals.values()), corrections=ordered))

    def _detected(self, signal: str) -> DetectedBeats:
        marks = [one for one in self._timeline.marks if one.kind == BEATS and one.signal == signal]
        times = np.sort(np.concatenate([one.times for one in marks])) if marks else np.zeros(0)
        unknown = np.full(len(times), np.nan)
        return DetectedBeats(times, unknown, unknown, np.zeros(len(times), dtype=np.int64))

    def _without_beat(self, seconds: float, signal: str) -> tuple[Correction, ...]:
        """Return what removes the nearest beat: the addition of it that is not saved yet, or a removal."""
        times = self.beats(signal)
        apart = np.abs(times - seconds)
        if apart.min(initial=np.inf) > NEAR_SECONDS:
            raise SettingsError(f"no beat of {signal} within {NEAR_SECONDS:g} s of {seconds:.3f} s")
        time = float(times[np.argmin(apart)])
        added = [one for one in self.pending if one.kind == BEAT_ADDED and one.onset_seconds == time]
        return (added[0],) if added else (Correction(BEAT_REMOVED, round(time, 6), 0.0, (signal,)),)

    def _refuse_other(self, signal: str) -> None:
        if not self.can_have_beats(signal):
            there = self.beat_signal()
            raise SettingsError(
                f"the beats are those of {there}, and not of {signal}"
                if there
                else f"beats are those of ECG, a pulse wave or inter-beat intervals, and {signal} is none of them"
            )

    def _signal(self, name: str) -> Signal:
        if name not in self._signals:
            raise SettingsError(f"{name} was not measured, but derived: correct the signal that it comes from")
        return self._signals[name]

    def _named(self, name: str) -> tuple[str, ...]:
        if name:
            self._signal(name.partition("/")[0])
        return (name,) if name else ()

    def _stretch(self, begin: float, end: float) -> tuple[float, float]:
        """Return onset and duration, cut to the recording."""
        first = min((signal.start_seconds for signal in self._signals.values()), default=0.0)
        begin, end = max(begin, min(first, 0.0)), min(end, self._timeline.duration_seconds)
        begin, end = round(begin, _DIGITS), round(end, _DIGITS)
        if end <= begin:
            raise SettingsError("the stretch lies outside the recording, or is empty")
        return begin, round(end - begin, _DIGITS)


def _is_of_beat(one: Correction) -> bool:
    return one.kind in (BEAT_ADDED, BEAT_REMOVED)


def commands_of(corrections: Sequence[Correction], source: Source, who: str = "") -> Iterator[str]:
    """Give the command lines of ``correct`` that write corrections; one for each channel that some are of.

    A label that goes before another of these begins a command of its own.
    """
    plain = [one for one in corrections if not one.channels or one.kind in (CHANNEL_BAD, POLARITY)]
    groups: list[tuple[str, list[Correction]]] = []
    for one in plain:
        if not groups or contradicted(one, groups[-1][1]):
            groups.append(("", []))
        groups[-1][1].append(one)
    for name in dict.fromkeys(one.channels[0] for one in corrections if one not in plain):
        groups.append((name, [one for one in corrections if one not in plain and one.channels[0] == name]))
    for name, group in groups:
        words = ["biopercept", "correct", *_which(source)]
        words += [word for one in group for word in _option(one)]
        words += ["--channel", name] if name else []
        yield shlex.join([*words, *(["--who", who] if who else [])])


def _which(source: Source) -> list[str]:
    entry = source.entry
    if entry is None:
        return [str(source.path)]
    study = source.study.folder if source.study is not None else Path()
    session = ["--session", entry.session] if entry.session else []
    return [str(study), "--subject", entry.subject, *session, "--recording", entry.recording]


def _option(one: Correction) -> list[str]:
    begin, end = (f"{edge:.6f}".rstrip("0").rstrip(".") for edge in one.span)
    match one.kind:
        case "bad":
            return ["--bad", f"{begin}:{end}"]
        case "label":
            return ["--label", f"{begin}:{end}={one.label}"]
        case "beat-added":
            return ["--add-beat", begin]
        case "beat-removed":
            return ["--remove-beat", begin]
        case "polarity":
            return ["--polarity", one.channels[0]]
    return ["--bad-channel", one.channels[0]]
