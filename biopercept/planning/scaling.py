"""How inputs may be scaled, given where the labels lie: a statistic of a file gives away a label that is the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from biopercept.data.normalisation import PER_RECORDING_MODES, NormalisationSettings
from biopercept.results.plan import TaskMakeUp
from biopercept.tasks import Task


class Scaling(NamedTuple):
    """A normalisation mode and scope, and why."""

    mode: str
    scope: str
    because: str


def planned_scaling(tasks: Sequence[TaskMakeUp]) -> Scaling:
    """Return the scaling that gives none of the tasks' labels away."""
    if not any(task.n_subjects for task in tasks):
        return Scaling("causal", "recording", "nothing is labelled, and a recording's own past is an honest scale")
    for task in tasks:
        if task.is_subject_label and task.n_subjects > 1:
            return Scaling(
                "global", "recording", f"each person has one {_word(task)} only: a scale of their own hides it"
            )
    of_files = [task for task in tasks if task.is_file_label]
    if not of_files:
        return Scaling("causal", "recording", "a recording holds several labels, so its own past is an honest scale")
    fewest = min(of_files, key=lambda task: task.n_subjects_of_files)
    n_people = fewest.n_subjects_of_file_labels or fewest.n_subjects
    if 2 * fewest.n_subjects_of_files < n_people or not n_people:
        return Scaling(
            "global",
            "recording",
            "the label is the file, and few people have two files of a session: a file's scale is it",
        )
    return Scaling(
        "causal",
        "session",
        f"the label is the file, and {fewest.n_subjects_of_files} of {n_people} people have several in a "
        "session: its past reaches over them",
    )


def _word(task: TaskMakeUp) -> str:
    return "class" if task.classes else "number"


def normalisation_of_all(
    tasks: Sequence[Task], settings: NormalisationSettings, *, is_chosen: bool
) -> tuple[NormalisationSettings, tuple[str, ...]]:
    """Return the normalisation that suits every task, and the warnings of all; see :func:`resolve_normalisation`."""
    resolved = [resolve_normalisation(task, settings, is_chosen=is_chosen) for task in tasks]
    strictest = next((s for s, _ in resolved if s != settings), settings)
    return strictest, tuple(dict.fromkeys(warning for _, warnings in resolved for warning in warnings))


def resolve_normalisation(
    task: Task, settings: NormalisationSettings, *, is_chosen: bool
) -> tuple[NormalisationSettings, tuple[str, ...]]:
    """Return the normalisation that will be used, and the warnings every output carries.

    Where each file holds one label, any statistic of a file tells the label: such a task is scored with
    ``global`` unless the user asked otherwise (``is_chosen``), and then the output says that it leaks.
    """
    warnings: list[str] = []
    if task.label_is_file:
        warnings.append(
            f"the label of task {task.name!r} is constant within each file: it cannot be told from file effects"
        )
        if settings.mode in PER_RECORDING_MODES and settings.scope == "session":
            warnings.append(
                f"{settings.mode} normalisation reaches over the recordings of a session: where one label always comes "
                "first, drift over the session can pass for the label"
            )
        elif settings.mode in PER_RECORDING_MODES and not is_chosen:
            settings = replace(settings, mode="global")
            warnings.append("normalisation was set to global, because per-file statistics would give the label away")
        elif settings.mode in PER_RECORDING_MODES:
            warnings.append(f"LEAK: {settings.mode} normalisation uses statistics of a file, and the file is the label")
    if settings.is_transductive:
        warnings.append("transductive: each test recording was scaled by the whole of itself, its future included")
    return settings, tuple(warnings)
