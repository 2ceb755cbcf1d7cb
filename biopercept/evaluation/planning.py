"""What a cross-validation will do, settled before anything is trained: task, windows, normalisation, folds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from biopercept.comparators.catalogue import fitter_for
from biopercept.errors import SettingsError
from biopercept.evaluation.fold_checks import (
    check_classes_per_fold,
    check_numbers_per_fold,
    check_subjects_per_class,
)
from biopercept.evaluation.fold_choice import choose_folds
from biopercept.evaluation.joined_stores import (
    Studies,
    seen_subjects,
    store_warnings,
    subjects_by_study,
)
from biopercept.evaluation.joined_tables import tables_of
from biopercept.evaluation.label_counts import count_labels, few_labels
from biopercept.evaluation.sensor_subsets import NONE, check_missing_sensors
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.evaluation.stacking import require_stackable, stack_size
from biopercept.evaluation.task_choice import (
    choose_recordings,
    choose_tasks,
    normalisation_of_all,
    unscored_seconds,
)
from biopercept.learning.fitting import FitSettings, Fitter, perceiver_io
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import NormalisationSettings
from biopercept.learning.splits import Fold
from biopercept.learning.starting import load_start
from biopercept.learning.token_source import vocabulary_of
from biopercept.learning.windows import WindowTable, joint_windows
from biopercept.personalising.settings import PersonalisationSettings
from biopercept.tasks import Task
from biopercept.version import __version__


@dataclass(frozen=True)
class EvaluationRequest:
    """What to cross-validate and how.

    Attributes
    ----------
    store : Path
    model : str
        A name of :data:`biopercept.comparators.catalogue.MODELS`.
    task : str or None
        The study's task, or several with commas between them; None where the study has only one.
    fit, normalisation, evaluation
        Settings.
    is_normalisation_chosen : bool
        Whether the user asked for this normalisation; if not, a task whose label is constant in a file is
        scored with ``global``.
    subjects, excluded : tuple of str, or None
        Only these subjects; without these.
    seed : int
    device : str
    more_stores : tuple of Path
        Further stores that are evaluated together with the first; subjects are then named "study/subject".
    folds_from : Path or None
        Result folder or ``folds.json`` of an earlier run whose folds are taken.
    personalisation : PersonalisationSettings
        How a model is made a person's own; used by split ``time`` and by the curve over labels.
    """

    store: Path
    model: str = "perceiver-io"
    task: str | None = None
    fit: FitSettings = field(default_factory=FitSettings)
    normalisation: NormalisationSettings = field(default_factory=NormalisationSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    is_normalisation_chosen: bool = False
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    seed: int = 0
    device: str = "auto"
    more_stores: tuple[Path, ...] = ()
    folds_from: Path | None = None
    personalisation: PersonalisationSettings = field(default_factory=PersonalisationSettings)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything settled: what the folds are and what they read.

    Attributes
    ----------
    request, task, normalisation, inputs, folds, warnings, store_fingerprint
    start : dict or None
        Where the network's weights begin, as plain values; None for new ones.

    ``task`` is the first of several.
    """

    request: EvaluationRequest
    task: Task
    normalisation: NormalisationSettings
    inputs: WindowInputs
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...]
    store_fingerprint: str
    start: dict[str, Any] | None = None

    @property
    def windows(self) -> WindowTable:
        """Return the labelled windows."""
        return self.inputs.windows

    @cached_property
    def stack_size(self) -> int:
        """Return how many networks are fitted at once; 0 where each is fitted on its own."""
        request = self.request
        return stack_size(request.model, self.windows, request.fit, request.evaluation, request.device)

    def fitter(self) -> Fitter:
        """Return what fits a fold's model."""
        return fitter_for(self.request.model, self.windows)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        request = self.request
        fit = {**asdict(request.fit), "training": request.fit.training.described()}
        del fit["start_from"]  # the weights count, not the folder they lie in
        if request.fit.pretraining is None:
            del fit["pretraining"]
        begun = {} if self.start is None else {"start_from": self.start}
        share = request.evaluation.label_share
        stacked = {"stack_size": self.stack_size} if self.stack_size else {}
        labels = {} if share == 1 else {"label_share": share}
        return {
            "store": self.store_fingerprint,
            "model": request.model,
            "task": ",".join(self.windows.targets),
            "subjects": list(self.windows.subjects),
            "normalisation": asdict(self.normalisation),
            "fit": fit,
            "split": request.evaluation.identity(),
            "seed": request.seed,
            "version": __version__,
            **labels,
            **begun,
            **stacked,
            **({"tasks": list(self.windows.targets)} if len(self.windows.targets) > 1 else {}),
        }

    def labels(self) -> dict[str, Any]:
        """Return the share of labels asked for, and lowest and highest number of subjects over the folds."""
        return {"share": self.request.evaluation.label_share, **count_labels(self.folds)}


def plan_evaluation(store: Studies, request: EvaluationRequest, *, needs_folds: bool = True) -> Plan:
    """Return the plan of a cross-validation, or (without folds) of a final training.

    Raises
    ------
    StudyError
        Where the task is unknown, or windows or subjects do not suffice for it.
    SettingsError
        Where the split does not fit the subjects, or a model cannot start from another's weights.
    CheckpointError
        Where the model to start from cannot be read.
    """
    tasks = choose_tasks(store, request.task)
    recordings = choose_recordings(store.recordings, request.subjects, request.excluded)
    normalisation, warnings = normalisation_of_all(
        tasks, request.normalisation, is_chosen=request.is_normalisation_chosen
    )
    unscored = unscored_seconds(recordings, normalisation)
    tables = tables_of(store, recordings, tasks, unscored)
    is_dense = request.model == "perceiver-io" and request.fit.training.dense_weight > 0
    windows = joint_windows(tables, with_grid=is_dense) if is_dense or len(tables) > 1 else tables[0]
    if is_dense and request.more_stores:
        raise SettingsError("training.dense_weight reads the labelled stretches of one study; set it to 0 for several")
    fitter_for(request.model, windows)
    check_task_settings(tasks, request)
    check_calibration(tasks, request.evaluation)
    if is_dense:
        at_times = f"a network of single times (training.dense_weight is {request.fit.training.dense_weight:g})"
        check_calibration(tasks, request.evaluation, at_times)
    tokens = request.fit.tokens
    inputs = WindowInputs(windows, normalisation, store.step_seconds, raw=tokens.raw, derived=tokens.derived)
    evaluation = request.evaluation
    folds: tuple[Fold, ...] = ()
    if needs_folds:
        folds, more = choose_folds(
            windows,
            evaluation,
            seed=request.seed,
            validation_fraction=request.fit.training.validation_fraction,
            studies=subjects_by_study(store),
            folds_from=request.folds_from,
        )
        warnings = (*warnings, *more)
        for task in tasks:
            own = windows.of_task(task.name)[0]
            check_subjects_per_class(own)
            check_classes_per_fold(own, folds)
            check_numbers_per_fold(own, folds)
    if evaluation.folds_at_once == "stacked":
        require_stackable(request.model, windows, request.fit)
    check_missing_sensors(evaluation.missing_sensors if needs_folds else NONE, request.model, windows)
    start, more = describe_start(store, request, windows, is_tested=needs_folds)
    warnings = (
        *warnings,
        *store_warnings(store),
        *few_labels(evaluation.label_share, folds, is_pretrained=request.fit.pretraining is not None),
        *more,
    )
    return Plan(request, tasks[0], normalisation, inputs, folds, warnings, store.fingerprint(), start)


def describe_start(
    store: Studies, request: EvaluationRequest, windows: WindowTable, *, is_tested: bool
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return where the network's weights begin (None: new ones), and a warning where they have seen who is tested.

    Raises
    ------
    SettingsError
        Where the model is not the Perceiver, which alone can start from weights.
    CheckpointError
        Where the model to start from cannot be read.
    """
    fit = request.fit
    if not fit.start_from and fit.pretraining is None:
        return None, ()
    if request.model != "perceiver-io":
        raise SettingsError(f"--start-from and --pretrain are for perceiver-io; the model is {request.model}")
    inside = None if fit.pretraining is None else fit.pretraining.objective
    if not fit.start_from:
        return {"pretrained_in_each_fold": inside}, ()
    start = load_start(Path(fit.start_from))
    vocabulary = vocabulary_of(windows.feature_names)
    described = start.described(perceiver_io(fit, vocabulary, windows.tasks))
    seen = seen_subjects(store, start, windows.subjects) if is_tested else ()
    warnings: tuple[str, ...] = ()
    if seen:
        warnings = (
            f"LEAK: the weights started from had seen {len(seen)} of the {len(windows.subjects)} test subjects "
            f"({', '.join(seen)}); pretrain inside each fold with --pretrain instead",
        )
    return {**described, "pretrained_in_each_fold": inside}, warnings


def check_calibration(tasks: Sequence[Task], evaluation: EvaluationSettings, what: str = "") -> None:
    """Refuse calibration and prediction sets of anything but the classes of one task.

    Parameters
    ----------
    tasks : sequence of Task
    evaluation : EvaluationSettings
    what : str
        What is never calibrated, whatever its task, such as "a model of one person"; empty for everything else.

    Raises
    ------
    SettingsError
        Naming the setting and the task.
    """
    wanted = []
    if evaluation.calibration != "none":
        wanted.append(f"evaluation.calibration is {evaluation.calibration}")
    if evaluation.conformal_coverage > 0:
        wanted.append(f"evaluation.conformal_coverage is {evaluation.conformal_coverage:g}")
    if not wanted:
        return
    undo = "set evaluation.calibration=none and evaluation.conformal_coverage=0"
    if what:
        raise SettingsError(f"{' and '.join(wanted)}, and {what} has no calibration; {undo}")
    if len(tasks) > 1:
        names = ", ".join(task.name for task in tasks)
        raise SettingsError(
            f"{' and '.join(wanted)}, which is learnt for one task of classes, and {len(tasks)} tasks are learnt "
            f"({names}); give --task one, or {undo}"
        )
    if not tasks[0].is_classification:
        raise SettingsError(
            f"{' and '.join(wanted)}, which is for probabilities of classes, and the task {tasks[0].name!r} is a "
            f"regression; {undo}"
        )


def check_task_settings(tasks: Sequence[Task], request: EvaluationRequest) -> None:
    """Refuse weights of tasks that are not learnt, and of several tasks names that cannot be those of folders.

    Raises
    ------
    SettingsError
        Naming the task.
    """
    weights = request.fit.training.weight_by_task()
    known = [task.name for task in tasks]
    for name in weights:
        if name not in known:
            raise SettingsError(
                f"training.task_weights weighs the task {name!r}, which is not learnt; learnt are {', '.join(known)}"
            )
    for task in tasks:
        if len(tasks) > 1 and not re.fullmatch(r"[\w-]+", task.name):
            raise SettingsError(f"A task is called {task.name!r}; letters, digits, _ and - are allowed.")
