"""What a cross-validation will do, settled before anything is trained: task, windows, normalisation, folds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.learning.fitting import FitSettings
from biopercept.learning.inputs import WindowInputs, vocabulary_of
from biopercept.learning.normalisation import PER_RECORDING_MODES, NormalisationSettings
from biopercept.learning.splits import Fold, make_folds
from biopercept.learning.starting import load_start
from biopercept.learning.windows import WindowTable, labelled_windows
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.store import StudyStore
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
        The study's task; None where the study has only one.
    fit, normalisation, evaluation
        Settings.
    is_normalisation_chosen : bool
        Whether the user asked for this normalisation; if not, a task whose label is constant in a file is
        scored with ``global``.
    subjects, excluded : tuple of str, or None
        Only these subjects; without these.
    seed : int
    device : str
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


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything settled: what the folds are and what they read.

    Attributes
    ----------
    request, task, normalisation, inputs, folds, warnings, store_fingerprint
    start : dict or None
        Where the network's weights begin, as plain values; None for new ones.
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

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        request = self.request
        fit = asdict(request.fit)
        del fit["start_from"]  # the weights count, not the folder they lie in
        if request.fit.pretraining is None:
            del fit["pretraining"]
        begun = {} if self.start is None else {"start_from": self.start}
        return {
            "store": self.store_fingerprint,
            "model": request.model,
            "task": self.task.name,
            "subjects": list(self.windows.subjects),
            "normalisation": asdict(self.normalisation),
            "fit": fit,
            "split": request.evaluation.identity(),
            "seed": request.seed,
            "version": __version__,
            **begun,
        }


def plan_evaluation(store: StudyStore, request: EvaluationRequest, *, needs_folds: bool = True) -> Plan:
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
    task = choose_task(store, request.task)
    recordings = choose_recordings(store.recordings, request.subjects, request.excluded)
    normalisation, warnings = resolve_normalisation(task, request)
    windows = labelled_windows(
        recordings,
        task,
        length_seconds=store.window_length_seconds,
        feature_names=store.feature_names,
        unscored_seconds=normalisation.reference_seconds if normalisation.mode == "reference" else 0.0,
    )
    tokens = request.fit.tokens
    inputs = WindowInputs(windows, normalisation, store.step_seconds, raw=tokens.raw, derived=tokens.derived)
    evaluation = request.evaluation
    folds: tuple[Fold, ...] = ()
    if needs_folds:
        folds = make_folds(
            windows.subjects,
            evaluation.split,
            n_folds=evaluation.n_folds,
            seed=request.seed,
            validation_fraction=request.fit.training.validation_fraction,
        )
        check_subjects_per_class(windows)
        check_classes_per_fold(windows, folds)
    start, more = describe_start(store, request, windows, is_tested=needs_folds)
    return Plan(request, task, normalisation, inputs, folds, (*warnings, *more), store.fingerprint(), start)


def describe_start(
    store: StudyStore, request: EvaluationRequest, windows: WindowTable, *, is_tested: bool
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
    described = start.described(BiosignalPerceiver(fit.model, fit.tokens, vocabulary, windows.n_classes))
    seen = start.overlap(store.name, store.fingerprint(), windows.subjects) if is_tested else ()
    warnings: tuple[str, ...] = ()
    if seen:
        warnings = (
            f"LEAK: the weights started from had seen {len(seen)} of the {len(windows.subjects)} test subjects "
            f"({', '.join(seen)}); pretrain inside each fold with --pretrain instead",
        )
    return {**described, "pretrained_in_each_fold": inside}, warnings


def choose_task(store: StudyStore, name: str | None) -> Task:
    """Return the named task, or the only one.

    Raises
    ------
    StudyError
        Where the name is unknown, several tasks exist and none is named, or the task is no classification.
    """
    tasks = store.tasks
    if not tasks:
        raise StudyError(f"study {store.name!r} has no task; add tasks to its study.yaml and prepare again")
    if name is None and len(tasks) > 1:
        raise StudyError(f"study {store.name!r} has {len(tasks)} tasks; choose one with --task: {', '.join(tasks)}")
    chosen = next(iter(tasks)) if name is None else name
    if chosen not in tasks:
        raise StudyError(f"task {chosen!r} is not in study {store.name!r}; it has: {', '.join(tasks)}")
    if tasks[chosen].kind != "classification":
        raise StudyError(
            f"task {chosen!r} is a {tasks[chosen].kind}; only classification can be trained by this version"
        )
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
        if settings.mode in PER_RECORDING_MODES and not request.is_normalisation_chosen:
            settings = replace(settings, mode="global")
            warnings.append("normalisation was set to global, because per-file statistics would give the label away")
        elif settings.mode in PER_RECORDING_MODES:
            warnings.append(f"LEAK: {settings.mode} normalisation uses statistics of a file, and the file is the label")
    if settings.is_transductive:
        warnings.append("transductive: each test recording was scaled by the whole of itself, its future included")
    return settings, tuple(warnings)


def check_classes_per_fold(windows: WindowTable, folds: Sequence[Fold]) -> None:
    """Refuse folds whose training subjects lack a class: no model could learn it.

    Raises
    ------
    SettingsError
        Naming the first such fold and class.
    """
    for fold in folds:
        trained = set(windows.target[windows.rows_of(fold.training)].tolist())
        for index, name in enumerate(windows.classes):
            if index not in trained:
                raise SettingsError(
                    f"fold {fold.name} has no training subject with class {name!r}; use --split subject or more folds, "
                    "another --seed, or set training.validation_fraction=0"
                )


def check_subjects_per_class(windows: WindowTable) -> None:
    """Refuse a class that only one subject has: in the fold that tests this subject nothing could be learnt of it.

    Raises
    ------
    SettingsError
        Naming the class and the subject.
    """
    for index, name in enumerate(windows.classes):
        owners = sorted({str(s) for s in windows.subject[windows.target == index]})
        if len(owners) < 2:
            who = owners[0] if owners else "nobody"
            raise SettingsError(f"class {name!r} has windows of {who} only; each class needs at least 2 subjects")
