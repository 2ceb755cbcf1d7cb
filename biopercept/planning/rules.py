"""The plan of a study: settings that follow from what it is made of, each with its reason, and what cannot work.

The rules rest on what is known of the signals and on inner folds (``docs/planning.md``,
``docs/experiments/tuning.md``), and on no score of the study itself.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from biopercept.errors import ranged
from biopercept.modalities import MODALITIES
from biopercept.planning.network import Size, is_few, network_settings
from biopercept.planning.scaling import planned_scaling
from biopercept.results.plan import Fingerprint, PlanLine, SettingsPlan, TaskMakeUp

_CHEST_HZ = 100.0
"""Sampling rate from which an ECG's waves can be read directly."""
_LONGEST_SECONDS = 120.0

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


def plan_of(study: Fingerprint, length_seconds: float | None = None) -> SettingsPlan:
    """Return the plan of a study, or of a store, whose windows are settled.

    ``length_seconds`` is the length of a window where the user gives it: the rest follows from it.
    """
    windowing = _windowing(study, length_seconds)
    n_windows = study.n_windows
    if n_windows is None:
        n_windows = _n_windows_of(windowing.length_seconds, windowing.step_seconds, study.lengths)
    lines = [*_window_lines(study, windowing), *_scaling_lines(study)]
    n_people = max((task.n_subjects for task in study.tasks), default=study.n_subjects)
    lines += _token_lines(study, windowing.length_seconds, n_people)
    if n_windows:
        size = Size(n_people, n_windows, _raw_tokens(study, windowing.length_seconds, n_people))
        lines += [PlanLine(setting=s, value=value, because=why) for s, value, why in network_settings(size)]
    warnings = [sentence for task in study.tasks for sentence in _task_warnings(task)]
    return SettingsPlan(
        lines=tuple(lines),
        losses=windowing.losses,
        warnings=tuple(dict.fromkeys([*warnings, *_study_warnings(study)])),
        faults=windowing.faults,
        study=replace(study, lengths={}),
    )


def _windowing(study: Fingerprint, length_seconds: float | None) -> _Windowing:
    if study.window_seconds is not None and study.step_seconds is not None:
        settled = "the store was prepared with it"
        return _Windowing(study.window_seconds, study.step_seconds, settled, settled)
    return _planned_windows(study, length_seconds)


def _window_lines(study: Fingerprint, windowing: _Windowing) -> Iterator[PlanLine]:
    origin: Any = "plan" if study.window_seconds is None else "store"
    for key, value, because in (
        ("length_seconds", windowing.length_seconds, windowing.because),
        ("step_seconds", windowing.step_seconds, windowing.because_of_step),
    ):
        yield PlanLine(setting=f"windows.{key}", value=value, because=because, origin=origin)


def _scaling_lines(study: Fingerprint) -> Iterator[PlanLine]:
    mode, scope, because = planned_scaling(study.tasks)
    yield PlanLine(setting="normalisation.mode", value=mode, because=because)
    yield PlanLine(setting="normalisation.scope", value=scope, because=because)


def _token_lines(study: Fingerprint, length: float, n_people: int) -> Iterator[PlanLine]:
    wave = _readable_wave(study)
    if not wave:
        why = f"{_sensor_words(study)} carry nothing beyond their series and features"
    elif is_few(n_people):
        why = f"of {n_people} people little can be learnt from raw {wave} that their series and features lack"
    else:
        why = f"{wave} can be read directly"
    yield PlanLine(setting="tokens.raw", value=bool(wave) and not is_few(n_people), because=why)
    longest = max(min(2 * length, _LONGEST_SECONDS), length)
    because = f"the slowest wave of the time code covers a window of {length:g} s"
    yield PlanLine(setting="tokens.longest_seconds", value=longest, because=because)


def _readable_wave(study: Fingerprint) -> str:
    """Return in words the measured waves that a network reads itself: EEG, and ECG of a chest's quality; else empty."""
    words = []
    if "eeg" in study.modalities and (eeg := study.sensor("eeg")):
        words.append(f"{eeg.n_channels} channel{'s' * (eeg.n_channels > 1)} of EEG at {eeg.sampling_rate:g} Hz")
    ecg = study.sensor("ecg")
    if "ecg" in study.modalities and ecg and ecg.sampling_rate >= _CHEST_HZ:
        words.append(f"ECG at {ecg.sampling_rate:g} Hz")
    return " and ".join(words)


def _sensor_words(study: Fingerprint) -> str:
    if not study.modalities:
        return "sensors that are not known yet"
    return "raw samples of " + ", ".join(sorted(study.modalities))


def _raw_tokens(study: Fingerprint, length: float, n_people: int) -> int:
    if is_few(n_people) or not _readable_wave(study):
        return 0
    sensors = (s for s in study.sensors or () if s.modality in study.modalities)
    return round(sum(s.n_channels * length / MODALITIES[s.modality].patch_seconds for s in sensors))


def _task_warnings(task: TaskMakeUp) -> Iterator[str]:
    """Give what anybody who scores this task must know before it is scored."""
    name = f"task {task.name!r}"
    if task.n_subjects == 1:
        yield (
            f"{name}: one person has labels, so nobody can be left out; 'cross-validate --split time' scores later "
            "windows by earlier ones, and 'train --subject' makes a model of that person"
        )
    alone = [c.name for c in task.classes if c.n_subjects == 1]
    if alone and task.n_subjects > 1:
        yield (
            f"{name}: class {', '.join(map(repr, alone))} is of one person only: left out, nobody has shown it; list "
            "its labels under ignore, or join it to another class"
        )
    if task.is_subject_label:
        yield (
            f"{name}: nobody has two {'classes' if task.classes else 'numbers'}, so whatever tells people apart passes "
            "for it, and no score within a person is defined"
        )
    elif task.is_file_label:
        yield (
            f"{name}: the label is the file, so whatever differs between files passes for it"
            + (
                ""
                if task.n_subjects_of_files
                else "; nobody has two labelled files of one session to tell them apart by"
            )
        )
    if task.order and len(task.order) > 1:
        order = ", ".join(task.order[:6]) + (", ..." if len(task.order) > 6 else "")
        yield f"{name}: all people had one order ({order}), so drift over time can pass for the label; see 'audit'"
    elif task.first and not task.is_subject_label:
        yield f"{name}: {task.first!r} comes first for all, so drift over time can pass for the label; see 'audit'"


def _study_warnings(study: Fingerprint) -> Iterator[str]:
    if study.sensors is None:
        yield (
            "which sensors there are cannot be read from headers; prepare opens the first recordings for the plan, "
            "and check --recordings does"
        )
    elif study.has_motion and len(study.modalities) > 1:
        yield "acceleration is measured: what people do with their hands can pass for their state; see 'audit'"


@dataclass(frozen=True)
class _Windowing:
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


def _planned_windows(study: Fingerprint, length_seconds: float | None = None) -> _Windowing:
    """Return the windows that suit what is measured and how long the labelled stretches are.

    With ``length_seconds`` their length is settled, and the step follows from it.
    """
    led = _led_by(study)
    lengths = {name: groups for name, groups in study.lengths.items() if groups}
    if not lengths:
        length = length_seconds or (led.lengths[0] if led.lengths is _FAST else _LONG_SECONDS)
        is_labelled = any(task.n_subjects for task in study.tasks)
        unknown = "how long the labelled stretches are is not known before the recordings are opened"
        why = f"{led.words}; {unknown if is_labelled else 'no labelled stretch says how long they may be'}"
        return _Windowing(length, _usual_step(length), why, "half a window, at most 30 s")
    length, why_not_longer = (length_seconds, "") if length_seconds else _longest(led, lengths)
    spans = [task.stretch_seconds for task in study.tasks if task.stretch_seconds]
    shortest, longest = min(s[0] for s in spans), max(s[2] for s in spans)
    because = f"{led.words}; {why_not_longer or f'labelled stretches last {_range(shortest, longest)}'}"
    step, because_of_step = _step(length, lengths)
    return _Windowing(length, step, because, because_of_step, *_losses(length, study))


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


def _n_windows_of(length: float, step: float, lengths: Mapping[str, Lengths]) -> int:
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
        return f"would leave most people {_windows_in_words(least)}{of_class} that share nothing"
    return ""


def _scarcest(length: float, step: float, groups: Lengths) -> tuple[float, str]:
    """Return the median over people of windows of the class that has fewest, and the class."""
    counts: dict[str, list[int]] = defaultdict(list)
    for (_, group), seconds in groups.items():
        counts[group].append(_n(seconds, length, step))
    return min((statistics.median_low(each), group) for group, each in counts.items())


def _step(length: float, lengths: Mapping[str, Lengths]) -> tuple[float, str]:
    usual = _usual_step(length)
    fewest, group = min(_scarcest(length, usual, groups) for groups in lengths.values())
    if not fewest:
        of_class = f" of {group!r}" if group else ""
        return usual, f"half a window, at most 30 s; most people have {_windows_in_words(0)}{of_class} at any step"
    if fewest >= _WANTED or usual <= length / 4:
        return usual, f"most people then have at least {_windows_in_words(fewest)}{' of each class' if group else ''}"
    often = length / 4
    more, _ = min(_scarcest(length, often, groups) for groups in lengths.values())
    if more == fewest:
        return usual, f"stretches are hardly longer than a window: most people have {_windows_in_words(fewest)} anyhow"
    of_class = " of a class" if group else ""
    return (
        often,
        f"every {usual:g} s would leave most people {_windows_in_words(fewest)}{of_class}; so there are {more:g}",
    )


def _windows_in_words(n: float) -> str:
    return f"{n:g} window{'s' * (n != 1)}" if n else "no window"


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
    longest = shortest if longest - shortest < 1 else longest
    return f"{ranged(f'{shortest:.4g}', f'{longest:.4g}')} s"
