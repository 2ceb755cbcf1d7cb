"""Which tasks and recordings an evaluation is of, and the normalisation that suits the tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from biopercept.errors import StudyError
from biopercept.evaluation.joined_stores import Studies, refuse_disagreement
from biopercept.learning.normalisation import PER_RECORDING_MODES, NormalisationSettings
from biopercept.learning.sessions import Sessions
from biopercept.tasks import Task
from biopercept.windowed import WindowedRecording


def choose_tasks(store: Studies, names: str | None) -> tuple[Task, ...]:
    """Return the named tasks, in the order given; without a name the only one.

    Raises
    ------
    StudyError
        Where a name is unknown or given twice, or several tasks exist and none is named.
    """
    if names is None or names in store.tasks or "," not in names:
        return (choose_task(store, names),)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if len(set(asked)) < len(asked):
        raise StudyError(f"--task {names} names a task twice; name each once")
    return tuple(choose_task(store, name) for name in asked)


def choose_task(store: Studies, name: str | None) -> Task:
    """Return the named task, or the only one.

    Raises
    ------
    StudyError
        Where the name is unknown, or several tasks exist and none is named.
    """
    tasks = store.tasks
    if not tasks:
        raise StudyError(f"study {store.name!r} has no task; add tasks to its study.yaml and prepare again")
    if name is None and len(tasks) > 1:
        raise StudyError(f"study {store.name!r} has {len(tasks)} tasks; choose with --task: {', '.join(tasks)}")
    chosen = next(iter(tasks)) if name is None else name
    refuse_disagreement(store, chosen)
    if chosen not in tasks:
        raise StudyError(f"task {chosen!r} is not in study {store.name!r}; it has: {', '.join(tasks)}")
    return tasks[chosen]


def choose_recordings(
    recordings: Sequence[WindowedRecording], subjects: Collection[str] | None, excluded: Collection[str]
) -> tuple[WindowedRecording, ...]:
    """Return the recordings of the wanted subjects.

    Raises
    ------
    StudyError
        Where a named subject has no recording, or nobody is left.
    """
    known = {r.subject for r in recordings}
    asked = set(subjects or ()) | set(excluded)
    if unknown := sorted(asked - known):
        raise StudyError(
            f"no recording of subject {', '.join(unknown)} in the store; it has: {', '.join(sorted(known))}"
        )
    wanted = (known if subjects is None else set(subjects)) - set(excluded)
    if not wanted:
        raise StudyError("no subject is left; check --subjects and --exclude-subjects")
    return tuple(r for r in recordings if r.subject in wanted)


def normalisation_of_all(
    tasks: Sequence[Task], settings: NormalisationSettings, *, is_chosen: bool
) -> tuple[NormalisationSettings, tuple[str, ...]]:
    """Return the normalisation that suits every task, and the warnings of all; see :func:`resolve_normalisation`."""
    found = [resolve_normalisation(task, settings, is_chosen=is_chosen) for task in tasks]
    strictest = next((s for s, _ in found if s != settings), settings)
    return strictest, tuple(dict.fromkeys(warning for _, warnings in found for warning in warnings))


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


def unscored_seconds(recordings: Sequence[WindowedRecording], settings: NormalisationSettings) -> list[float]:
    """Return how much of each recording's start is reference and therefore not scored, seconds."""
    if settings.mode != "reference":
        return [0.0] * len(recordings)
    ends = Sessions.of(recordings, settings.scope).reference_ends(recordings, settings.reference_seconds)
    return [float(end) for end in ends]
