"""How long windows are and how often one begins: the longest that the labelled stretches of everybody allow."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biopercept.results.plan import Fingerprint

AUTONOMIC = frozenset({"ecg", "bvp", "eda", "resp", "hr", "ibi", "temp", "spo2"})
"""What heart, skin and breath change: over tens of seconds."""
_SLOW, _FAST, _FELT = (120.0, 60.0, 30.0, 20.0, 10.0, 5.0), (10.0, 5.0, 2.0), (30.0, 20.0, 10.0, 5.0)
_LONG_SECONDS = 60.0
_APART = 3
"""Windows that share no second, of each class of most people, below which a shorter one is taken."""
_WANTED = 8
"""Windows of each class of most people, below which they begin more often."""
_MOST_STRETCHES_LOST = 0.2
_LONGEST_STEP = 30.0
_MOST_NAMED = 4
_TOLERANCE = 1e-6

Lengths = Mapping[tuple[str, str], Sequence[float]]


@dataclass(frozen=True)
class Windowing:
    """Length and step of windows, seconds, each with why, and what is lost by them."""

    length_seconds: float
    step_seconds: float
    because: str
    because_of_step: str
    losses: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Led:
    """What the windows follow: lengths to choose from, and the sensors in words."""

    lengths: tuple[float, ...]
    words: str


def planned_windows(study: Fingerprint, length_seconds: float | None = None) -> Windowing:
    """Return the windows that suit what is measured and how long the labelled stretches are.

    With ``length_seconds`` their length is settled, and the step follows from it.
    """
    led = _led_by(study)
    lengths = {name: groups for name, groups in study.lengths.items() if groups}
    if not lengths:
        length = length_seconds or (led.lengths[0] if led.lengths is _FAST else _LONG_SECONDS)
        why = f"{led.words}; how long the labelled stretches are is not known before the recordings are opened"
        return Windowing(length, _usual_step(length), why, "half a window, at most 30 s")
    length, why_not_longer = (length_seconds, "") if length_seconds else _longest(led, lengths)
    spans = [task.stretch_seconds for task in study.tasks if task.stretch_seconds]
    shortest, longest = min(s[0] for s in spans), max(s[2] for s in spans)
    because = f"{led.words}; {why_not_longer or f'labelled stretches last {_range(shortest, longest)}'}"
    step, because_of_step = _step(length, lengths)
    return Windowing(length, step, because, because_of_step, *_losses(length, study))


def _losses(length: float, study: Fingerprint) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what windows of a length leave out, a sentence for each class or number, and what cannot work at all."""
    losses, faults = [], []
    for name, groups in study.lengths.items():
        by_class: dict[str, dict[str, float]] = defaultdict(dict)
        for (subject, group), seconds in groups.items():
            by_class[group][subject] = max(seconds)
        for group, longest in by_class.items():
            lost = sorted(subject for subject, most in longest.items() if most + _TOLERANCE < length)
            what = f"class {group!r} of task {name!r}" if group else f"task {name!r}"
            if len(lost) == len(longest):
                faults.append(
                    f"windows of {length:g} s are longer than every labelled stretch of {what}, which last at most "
                    f"{max(longest.values()):.5g} s: none would be cut; set windows.length_seconds below that"
                )
            elif lost:
                most = max(longest[subject] for subject in lost)
                losses.append(
                    f"windows of {length:g} s lose {what} of {_names(lost)} ({len(lost)} of {len(longest)} people), "
                    f"whose stretches last at most {most:.5g} s"
                )
    return tuple(losses), tuple(faults)


def n_windows_of(length: float, step: float, lengths: Mapping[str, Lengths]) -> int:
    """Return how many labelled windows there will be, of the task that has most."""
    return max((sum(_n(s, length, step) for s in groups.values()) for groups in lengths.values()), default=0)


def _led_by(study: Fingerprint) -> _Led:
    names = study.modalities
    if "eeg" in names:
        return _Led(_FAST, "EEG changes within seconds, and long windows would average that away")
    if any(task.is_rating for task in study.tasks):
        return _Led(_FELT, "a rating follows what happens, and its mean over a longer window would flatten it")
    if names and not names & AUTONOMIC and "emg" in names:
        return _Led(_FAST, "muscles act within seconds, and long windows would average that away")
    if names and not names & AUTONOMIC:
        return _Led(_SLOW[1:], "movement is measured, which needs no long windows")
    return _Led(
        _SLOW, "heart, skin and breath change over tens of seconds, and their variability needs a minute or two"
    )


def _longest(led: _Led, lengths: Mapping[str, Lengths]) -> tuple[float, str]:
    """Return the longest length that the stretches allow, and what the next longer one would do; empty where none."""
    why = ""
    for length in led.lengths:
        objection = next((text for groups in lengths.values() if (text := _objection(length, led, groups))), "")
        if not objection:
            return length, why
        why = f"{length:g} s {objection}"
    # Nothing suits everybody: the longest that loses nobody whom a shorter one would keep.
    last = led.lengths[-1]
    for length in led.lengths:
        if all(_lost(length, groups) == _lost(last, groups) for groups in lengths.values()):
            return length, "stretches are so short that there are few windows of any length"
    return last, why


def _objection(length: float, led: _Led, groups: Lengths) -> str:
    """Return what speaks against a length beside the shortest one; empty where nothing does."""
    shortest = led.lengths[-1]
    if lost := sorted(_lost(length, groups) - _lost(shortest, groups)):
        names = _names([f"{subject} ({group})" if group else subject for subject, group in lost])
        return f"would leave no window of {names}"
    stretches = [s for each in groups.values() for s in each if s >= shortest]
    too_short = sum(s + _TOLERANCE < length for s in stretches)
    if stretches and too_short > _MOST_STRETCHES_LOST * len(stretches):
        return f"would lose {too_short} of {len(stretches)} labelled stretches"
    least, group = _scarcest(length, length, groups)
    needed = _APART if length >= _LONG_SECONDS or led.lengths is not _SLOW else 1
    if least < needed:
        of_class = f" of {group!r}" if group else ""
        return f"would leave most people {least:g} windows{of_class} that share nothing"
    return ""


def _scarcest(length: float, step: float, groups: Lengths) -> tuple[float, str]:
    """Return the median over people of windows of the class that has fewest, and the class."""
    counts: dict[str, list[int]] = defaultdict(list)
    for (_, group), seconds in groups.items():
        counts[group].append(_n(seconds, length, step))
    return min((statistics.median_low(each), group) for group, each in counts.items())


def _step(length: float, lengths: Mapping[str, Lengths]) -> tuple[float, str]:
    usual = _usual_step(length)
    fewest = min(_scarcest(length, usual, groups)[0] for groups in lengths.values())
    if fewest >= _WANTED or usual <= length / 4:
        return usual, f"most people then have at least {fewest:g} windows of each class"
    often = length / 4
    more = min(_scarcest(length, often, groups)[0] for groups in lengths.values())
    return often, f"every {usual:g} s would leave most people {fewest:g} windows of a class; so there are {more:g}"


def _usual_step(length: float) -> float:
    return min(length / 2, _LONGEST_STEP)


def _n(seconds: Sequence[float], length: float, step: float) -> int:
    return sum(max(0, math.floor((s - length + _TOLERANCE) / step) + 1) for s in seconds)


def _lost(length: float, groups: Lengths) -> frozenset[tuple[str, str]]:
    return frozenset(key for key, seconds in groups.items() if max(seconds) + _TOLERANCE < length)


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _range(shortest: float, longest: float) -> str:
    return f"{shortest:.4g} s" if longest - shortest < 1 else f"{shortest:.4g} to {longest:.4g} s"
