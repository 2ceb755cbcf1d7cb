"""The plan of a study: settings that follow from what it is made of, each with its reason, and what cannot work.

The rules rest on what is known of the signals and on inner folds (``docs/planning.md``, ``docs/tuning.md``), and on no
score of the study itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biopercept.modalities import MODALITIES
from biopercept.planning.network import Size, network_settings
from biopercept.planning.scaling import planned_scaling
from biopercept.planning.windows import Windowing, n_windows_of, planned_windows
from biopercept.results.plan import Fingerprint, PlanLine, SettingsPlan, TaskMakeUp

_CHEST_HZ = 100.0
"""Sampling rate from which an ECG's waves can be read directly."""
_LONGEST_SECONDS = 120.0


def plan_of(study: Fingerprint, length_seconds: float | None = None) -> SettingsPlan:
    """Return the plan of a study, or of a store, whose windows are settled.

    ``length_seconds`` is the length of a window where the user gives it: the rest follows from it.
    """
    windowing = _windowing(study, length_seconds)
    n_windows = study.n_windows
    if n_windows is None:
        n_windows = n_windows_of(windowing.length_seconds, windowing.step_seconds, study.lengths)
    lines = [*_window_lines(study, windowing), *_scaling_lines(study)]
    lines += _token_lines(study, windowing.length_seconds)
    if n_windows:
        n_people = max((task.n_subjects for task in study.tasks), default=study.n_subjects)
        size = Size(n_people, n_windows, _raw_tokens(study, windowing.length_seconds))
        lines += [PlanLine(setting=s, value=value, because=why) for s, value, why in network_settings(size)]
    warnings = [sentence for task in study.tasks for sentence in _task_warnings(task)]
    return SettingsPlan(
        lines=tuple(lines),
        losses=windowing.losses,
        warnings=tuple(dict.fromkeys([*warnings, *_study_warnings(study)])),
        faults=windowing.faults,
        study=study,
    )


def _windowing(study: Fingerprint, length_seconds: float | None) -> Windowing:
    if study.window_seconds is not None and study.step_seconds is not None:
        settled = "the store was prepared with it"
        return Windowing(study.window_seconds, study.step_seconds, settled, settled)
    return planned_windows(study, length_seconds)


def _window_lines(study: Fingerprint, windowing: Windowing) -> Iterator[PlanLine]:
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


def _token_lines(study: Fingerprint, length: float) -> Iterator[PlanLine]:
    wave = _readable_wave(study)
    why = (
        f"{wave} can be read directly"
        if wave
        else f"{_sensor_words(study)} carry nothing beyond their series and features"
    )
    yield PlanLine(setting="tokens.raw", value=bool(wave), because=why)
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


def _raw_tokens(study: Fingerprint, length: float) -> int:
    if not _readable_wave(study):
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
