"""What a cross-validation will do, settled before anything is trained: task, windows, normalisation, folds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from biopercept.comparators.catalogue import fitter_for
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.fold_checks import (
    check_classes_per_fold,
    check_numbers_per_fold,
    check_subjects_per_class,
)
from biopercept.evaluation.fold_choice import choose_folds
from biopercept.evaluation.joined_stores import (
    Studies,
    refuse_disagreement,
    seen_subjects,
    store_warnings,
    subjects_by_study,
)
from biopercept.evaluation.joined_tables import tables_of
from biopercept.evaluation.label_counts import count_labels, few_labels
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.evaluation.stacking import require_stackable, stack_size
from biopercept.learning.fitting import FitSettings
from biopercept.learning.inputs import WindowInputs, vocabulary_of
from biopercept.learning.normalisation import PER_RECORDING_MODES, NormalisationSettings
from biopercept.learning.sessions import Sessions
from biopercept.learning.splits import Fold
from biopercept.learning.starting import load_start
from biopercept.learning.task_fitting import needs_queries
from biopercept.learning.task_objective import TaskOutput
from biopercept.learning.task_windows import joint_windows, of_task
from biopercept.learning.windows import WindowTable
from biopercept.model.answering import QueryPerceiver
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.studies.tasks import Task
from biopercept.version import __version__
from biopercept.windowed import WindowedRecording


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
            "task": ",".join(column.task.name for column in self.windows.columns),
            "subjects": list(self.windows.subjects),
            "normalisation": asdict(self.normalisation),
            "fit": fit,
            "split": request.evaluation.identity(),
            "seed": request.seed,
            "version": __version__,
            **labels,
            **begun,
            **stacked,
            **({"tasks": [c.task.name for c in self.windows.columns]} if len(self.windows.columns) > 1 else {}),
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
    normalisation, warnings = normalisation_of_all(tasks, request)
    unscored = _unscored_seconds(recordings, normalisation)
    tables = tables_of(store, recordings, tasks, unscored)
    is_dense = request.model == "perceiver-io" and request.fit.training.dense_weight > 0
    windows = joint_windows(tables, with_grid=is_dense) if is_dense or len(tables) > 1 else tables[0]
    if is_dense and request.more_stores:
        raise SettingsError("training.dense_weight reads the labelled stretches of one study; set it to 0 for several")
    fitter_for(request.model, windows, request.fit.training)
    check_task_settings(tasks, windows, request)
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
        for number in range(len(tasks)):
            own = of_task(windows, number)[0]
            check_subjects_per_class(own)
            check_classes_per_fold(own, folds)
            check_numbers_per_fold(own, folds)
    if evaluation.folds_at_once == "stacked":
        require_stackable(request.model, windows, request.fit)
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
    network: BiosignalPerceiver | QueryPerceiver
    if needs_queries(windows, fit.training):
        specs = [TaskOutput(column.task).spec for column in windows.columns]
        network = QueryPerceiver(fit.model, fit.tokens, vocabulary, specs)
    else:
        network = BiosignalPerceiver(fit.model, fit.tokens, vocabulary, windows.n_classes)
    described = start.described(network)
    seen = seen_subjects(store, start, windows.subjects) if is_tested else ()
    warnings: tuple[str, ...] = ()
    if seen:
        warnings = (
            f"LEAK: the weights started from had seen {len(seen)} of the {len(windows.subjects)} test subjects "
            f"({', '.join(seen)}); pretrain inside each fold with --pretrain instead",
        )
    return {**described, "pretrained_in_each_fold": inside}, warnings


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


def check_task_settings(tasks: Sequence[Task], windows: WindowTable, request: EvaluationRequest) -> None:
    """Refuse weights of tasks that are not learnt, and names that no network of several answers can bear.

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
    if request.model == "perceiver-io" and needs_queries(windows, request.fit.training):
        for task in tasks:
            _ = TaskOutput(task).spec


def normalisation_of_all(
    tasks: Sequence[Task], request: EvaluationRequest
) -> tuple[NormalisationSettings, tuple[str, ...]]:
    """Return the normalisation that suits every task, and the warnings of all; see :func:`resolve_normalisation`."""
    found = [resolve_normalisation(task, request) for task in tasks]
    strictest = next((s for s, _ in found if s != request.normalisation), request.normalisation)
    return strictest, tuple(dict.fromkeys(warning for _, warnings in found for warning in warnings))


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


def _unscored_seconds(recordings: Sequence[WindowedRecording], settings: NormalisationSettings) -> list[float]:
    """Return how much of each recording's start is reference and therefore not scored, seconds."""
    if settings.mode != "reference":
        return [0.0] * len(recordings)
    ends = Sessions.of(recordings, settings.scope).reference_ends(recordings, settings.reference_seconds)
    return [float(end) for end in ends]


def resolve_normalisation(task: Task, request: EvaluationRequest) -> tuple[NormalisationSettings, tuple[str, ...]]:
    """Return the normalisation that will be used, and the warnings every output carries.

    Where each file holds one label, any statistic of a file tells the label: such a task is scored with
    ``global`` unless the user asked otherwise, and then the output says that it leaks.
    """
    settings = request.normalisation
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
        elif settings.mode in PER_RECORDING_MODES and not request.is_normalisation_chosen:
            settings = replace(settings, mode="global")
            warnings.append("normalisation was set to global, because per-file statistics would give the label away")
        elif settings.mode in PER_RECORDING_MODES:
            warnings.append(f"LEAK: {settings.mode} normalisation uses statistics of a file, and the file is the label")
    if settings.is_transductive:
        warnings.append("transductive: each test recording was scaled by the whole of itself, its future included")
    return settings, tuple(warnings)
