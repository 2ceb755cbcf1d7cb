"""What a cross-validation will do, settled before anything is trained: tasks, windows, normalisation, folds, stacks.

Whether folds are fitted one by one or in stacks follows what was measured (``docs/experiments/speed.md``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from biopercept.baselines.catalogue import NETWORKS, fitter_for
from biopercept.data.batches import vocabulary_of
from biopercept.data.duplicates import blocks_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.joined import Studies, refuse_strangers, subjects_by_study, tables_of, usual_task
from biopercept.data.normalisation import NormalisationSettings, Sessions
from biopercept.data.splits import STUDY, Fold
from biopercept.data.windows import IntArray, WindowTable, joint_windows
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.folds import (
    check_classes_per_fold,
    check_numbers_per_fold,
    check_subjects_per_class,
    choose_folds,
    count_labels,
    few_labels,
)
from biopercept.evaluation.metrics import Bootstrap
from biopercept.evaluation.missing_sensors import check_missing_sensors
from biopercept.evaluation.settings import NONE, EvaluationSettings
from biopercept.planning.scaling import normalisation_of_all
from biopercept.results.cross_validation import ExternalModel
from biopercept.results.plan import SettingsPlan
from biopercept.store.prepared import WindowedRecording
from biopercept.tasks import Task
from biopercept.training.checkpoint import PRETRAINED, TRAINED, StartingPoint, load_start, start_words, versions
from biopercept.training.engine import engine_for
from biopercept.training.fitting import Fitter, perceiver_io
from biopercept.training.known_inputs import KnownInputs
from biopercept.training.settings import FitSettings, PersonalisationSettings
from biopercept.typed_values import did_you_mean, not_among
from biopercept.version import __version__

AnyPlan = TypeVar("AnyPlan", bound="Plan")
_ON_CUDA, _ON_PROCESSORS = 64, 8
_SMALL_BATCH = 2**15
"""Numbers in a batch of latents up to which stacks of 8 took less processor time than single fits (measured)."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to cross-validate and how.

    Attributes
    ----------
    task : str or None
        The study's task, or several with commas between them; None is its first, of several stores the first that
        all have.
    is_normalisation_chosen : bool
        Whether the user asked for this normalisation; if not, a task whose label is constant in a file is
        scored with ``global``.
    subjects, excluded : tuple of str, or None
        Only these subjects; without these.
    more_stores : tuple of Path
        Further stores that are evaluated together with the first; subjects are then named "study/subject".
    folds_from : Path or None
        Result folder or ``folds.json`` of an earlier run whose folds are taken.
    personalisation : PersonalisationSettings
        How a model is made a person's own; used by split ``time`` and by the curve over labels.
    settings_plan : SettingsPlan or None
        Why the settings are what they are, where they follow from the data: written beside them.
    people_folder : Path or None
        Where the curve over labels keeps what is finished of a fold, a file for each person, until all of it is.
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
    settings_plan: SettingsPlan | None = field(default=None, compare=False)
    people_folder: Path | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything settled: what the folds are and what they read.

    ``task`` is the first of several; ``start`` is where the network's weights begin, as plain values (None: new ones).
    """

    request: EvaluationRequest
    task: Task
    normalisation: NormalisationSettings
    inputs: WindowInputs
    folds: tuple[Fold, ...]
    warnings: tuple[str, ...]
    store_fingerprint: str
    start: dict[str, Any] | None = None
    study: str = ""

    def extended(self, kind: type[AnyPlan], **values: Any) -> AnyPlan:
        """Return the plan as one of a further kind, with other or more ``values``."""
        return kind(**{part.name: getattr(self, part.name) for part in fields(self)} | values)

    @property
    def windows(self) -> WindowTable:
        """Return the labelled windows."""
        return self.inputs.windows

    @property
    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of what was prepared, and versions."""
        return {"store": self.store_fingerprint, **versions()}

    @property
    def split(self) -> str:
        """Return how people who are scored were kept from the model."""
        return self.request.evaluation.split

    @property
    def external(self) -> ExternalModel | None:
        """Return which saved model is scored; None where models are fitted in folds."""
        return None

    def training_mean(self, fold: Fold) -> float:
        """Return the mean number of a fold's training side, every subject weighing the same."""
        windows, numbers = self.windows, self.windows.only.values
        means = [float(numbers[rows].mean()) for s in fold.fitting if len(rows := windows.rows_of([s]))]
        return float(np.mean(means))

    @property
    def bootstrap(self) -> Bootstrap:
        """Return the resamples of subjects for intervals."""
        return Bootstrap(self.request.seed, self.request.evaluation.n_bootstrap)

    @cached_property
    def stack_size(self) -> int:
        """Return how many networks are fitted at once; 0 where each is fitted on its own."""
        request = self.request
        if any(task.lags for task in self.windows.tasks):
            return 0  # each fold has the lag of its own training subjects
        return stack_size(request.model, request.fit, request.evaluation, request.device)

    def units(self) -> list[tuple[Fold, ...]]:
        """Return the folds by what is fitted in one go: stacks of them, or each alone."""
        return in_stacks(self.folds, self.stack_size, self.request.evaluation)

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

    @property
    def is_transductive(self) -> bool:
        """Return whether predictions rest on what came after them."""
        return self.normalisation.is_transductive

    @property
    def scored_rows(self) -> IntArray | None:
        """Return the rows of the windows that are scored; None where all are."""
        return None

    def warnings_after(self, n_fallen_back: Mapping[str, int]) -> tuple[str, ...]:
        """Return the warnings once all is fitted, given how often each fold's adaptation fell back to its start."""
        return self.warnings

    def labels(self) -> dict[str, Any]:
        """Return the share of labels asked for, and lowest and highest number of subjects over the folds."""
        return {"share": self.request.evaluation.label_share, **count_labels(self.folds)}


def plan_evaluation(store: Studies, request: EvaluationRequest, *, needs_folds: bool = True) -> Plan:
    """Return the plan of a cross-validation, or (without folds) of a final training.

    Raises StudyError where the task is unknown, or windows or subjects do not suffice for it. Raises SettingsError
    where the split does not fit the subjects, or a model cannot start from another's weights. Raises CheckpointError
    where the model to start from cannot be read.
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
        raise SettingsError("training.dense_weight reads the labelled segments of one study; set it to 0 for several")
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
        if evaluation.split == STUDY:
            refuse_strangers(store, windows.subjects)
        for task in tasks:
            table = windows.of_task(task.name)[0]
            check_subjects_per_class(table)
            check_classes_per_fold(table, folds)
            check_numbers_per_fold(table, folds)
    if evaluation.folds_at_once == "stacked":
        require_stackable(request.model, request.fit)
    check_missing_sensors(evaluation.missing_sensors if needs_folds else NONE, request.model, windows)
    start, more = describe_start(store, request, windows, is_tested=needs_folds)
    warnings = (
        *warnings,
        *_not_named(store, request.task, tasks[0].name),
        *store.warnings,
        *few_labels(evaluation.label_share, folds, is_pretrained=request.fit.pretraining is not None),
        *more,
    )
    return Plan(request, tasks[0], normalisation, inputs, folds, warnings, store.fingerprint(), start, store.name)


def describe_start(
    store: Studies, request: EvaluationRequest, windows: WindowTable, *, is_tested: bool
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return where the network's weights begin (None: new ones), and what is to be said of it.

    That is, where they have seen who is tested, by identity or by samples, and what of the model was not taken.

    Raises SettingsError where the model is not the Perceiver, which alone can start from weights. Raises
    CheckpointError where the model to start from cannot be read.
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
    # Weights that are pretrained on in each fold lose what belongs to tasks.
    tasks = windows.tasks if fit.pretraining is None else ()
    sensors = {s.modality for r in windows.recordings for s in r.signals if not s.derived_from}
    described = start.described(perceiver_io(fit, vocabulary, windows.tasks), tasks, fit.tokens, sensors)
    warnings = list(leak_warnings(store, start, windows, "test subjects")) if is_tested else []
    is_trained = start.kind == TRAINED and fit.pretraining is None
    is_other = "sensors_not_seen" in described or "other_tokens" in described
    if is_other or (is_trained and (described["new"] or described["unused"])):
        warnings.append(f"weights started from: {start_words(described)}")
    return {**described, "pretrained_in_each_fold": inside}, tuple(warnings)


def _seen(store: Studies, start: StartingPoint, windows: WindowTable) -> tuple[str, ...]:
    """Return whom a model to start from was fitted to: by study and own id, or by the samples of their recordings."""
    copies = () if start.known is None else copied_subjects(start.known, windows)
    return tuple(sorted({*seen_subjects(store, start, windows.subjects), *copies}))


def leak_warnings(store: Studies, start: StartingPoint, windows: WindowTable, whom: str) -> tuple[str, ...]:
    """Return the sentence on subjects of a table whom a model to start from was fitted to; nothing where it was not.

    ``whom`` is what they are here, such as "test subjects".
    """
    if not (seen := _seen(store, start, windows)):
        return ()
    instead = (
        "pretrain inside each fold with --pretrain instead"
        if start.kind == PRETRAINED
        else "their labels, too: start from a model that was trained without them (train --exclude-subjects)"
    )
    return (
        f"LEAK: the weights started from had seen {len(seen)} of the {len(windows.subjects)} {whom} "
        f"({', '.join(seen)}); {instead}",
    )


def copied_subjects(known: KnownInputs, windows: WindowTable) -> dict[str, str]:
    """Return the subjects of a table whose recordings hold samples that a model was fitted to, with which recording."""
    here = [windows.recordings[i] for i in np.unique(windows.recording)]
    return {r.subject: r.key for r in here if known.is_copy(blocks_of(r))}


def check_calibration(tasks: Sequence[Task], evaluation: EvaluationSettings, what: str = "") -> None:
    """Refuse calibration and prediction sets of anything but the classes of one task.

    ``what`` names what is never calibrated, whatever its task, such as "a model of one person"; empty for all else.

    Raises SettingsError naming the setting and the task.
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
    """Refuse weights of tasks that are not learnt, and tasks whose names cannot be folders: raises SettingsError."""
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


def choose_tasks(store: Studies, names: str | None) -> tuple[Task, ...]:
    """Return the named tasks in order, or the usual one; raises StudyError where a name is unknown or given twice."""
    if names is None or names in store.tasks or "," not in names:
        return (choose_task(store, names),)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if len(set(wanted)) < len(wanted):
        raise StudyError(f"--task {names} names a task twice; name each once")
    return tuple(choose_task(store, name) for name in wanted)


def choose_task(store: Studies, name: str | None) -> Task:
    """Return the named task or the usual one; raises StudyError where it is unknown, or stores have none in common."""
    tasks = store.tasks
    if not tasks:
        raise StudyError(f"study {store.name!r} has no task; add tasks to its study.yaml and prepare again")
    chosen = usual_task(store) if name is None else name
    if chosen is None:
        names = "; ".join(f"{part.name} has {', '.join(part.tasks) or 'none'}" for part in store.parts.values())
        raise StudyError(
            f"the stores have no task of one name: {names}; name the task alike in each study.yaml, or give several "
            "with --task NAME,NAME"
        )
    if chosen in store.disagreements:
        raise StudyError(store.disagreements[chosen])
    if chosen not in tasks:
        near = did_you_mean(chosen, tasks)
        raise StudyError(f"task {chosen!r} is not in study {store.name!r}; it has: {', '.join(tasks)}{near}")
    return tasks[chosen]


def _not_named(store: Studies, name: str | None, chosen: str) -> tuple[str, ...]:
    """Return what every output says where no task was named and there are several."""
    others = [task for task in store.tasks if task != chosen]
    if name is not None or not others:
        return ()
    return (f"no task was named, so {chosen!r} was taken; others: {', '.join(others)} (--task)",)


def choose_recordings(
    recordings: Sequence[WindowedRecording], subjects: Collection[str] | None, excluded: Collection[str]
) -> tuple[WindowedRecording, ...]:
    """Return the recordings of the wanted subjects; raises StudyError where one has none, or nobody is left."""
    known = {r.subject for r in recordings}
    named = set(subjects or ()) | set(excluded)
    if unknown := sorted(named - known):
        raise StudyError(f"no recording of subject {not_among(unknown, sorted(known))}")
    wanted = (known if subjects is None else set(subjects)) - set(excluded)
    if not wanted:
        raise StudyError("no subject is left; check --subjects and --exclude-subjects")
    return tuple(r for r in recordings if r.subject in wanted)


def unscored_seconds(recordings: Sequence[WindowedRecording], settings: NormalisationSettings) -> list[float]:
    """Return how much of each recording's start is reference and therefore not scored, seconds."""
    if settings.mode != "reference":
        return [0.0] * len(recordings)
    ends = Sessions.of(recordings, settings.scope).reference_ends(recordings, settings.reference_seconds)
    return [float(end) for end in ends]


def stack_size(model: str, fit: FitSettings, evaluation: EvaluationSettings, device: str) -> int:
    """Return how many networks are fitted at once; 0 where each is fitted on its own.

    With ``auto``, networks are stacked on CUDA, and on processors where they are small.
    """
    if evaluation.folds_at_once == "single" or not _can_stack(model, fit):
        return 0
    is_cuda = engine_for(device).device.type == "cuda"
    if evaluation.folds_at_once == "auto" and not is_cuda and not _is_small(model, fit):
        return 0
    return evaluation.stack_size or (_ON_CUDA if is_cuda else _ON_PROCESSORS)


def in_stacks(folds: Sequence[Fold], size: int, evaluation: EvaluationSettings) -> list[tuple[Fold, ...]]:
    """Return the folds that are fitted together: as few stacks as ``size`` networks allow, alike in size.

    Where the size is that of processors and was not asked for, several stacks are made even in number, so that two
    processes end together.
    """
    if not size:
        return [(fold,) for fold in folds]
    n_stacks = math.ceil(len(folds) / max(1, size // evaluation.n_seeds))
    if not evaluation.stack_size and size == _ON_PROCESSORS and 1 < n_stacks < len(folds):
        n_stacks += n_stacks % 2
    edges = [math.ceil(len(folds) * number / n_stacks) for number in range(n_stacks + 1)] if n_stacks else [0]
    return [tuple(folds[low:high]) for low, high in pairwise(edges)]


def require_stackable(model: str, fit: FitSettings) -> None:
    """Refuse to stack what cannot be; raises SettingsError naming the models that can."""
    if not _can_stack(model, fit):
        able = ", ".join(name for name in NETWORKS if _can_stack(name, FitSettings()))
        raise SettingsError(
            f"evaluation.folds_at_once is stacked, which {model} cannot be here ({able} can, without "
            "training.dense_weight); use auto or single"
        )


def _can_stack(model: str, fit: FitSettings) -> bool:
    is_dense = fit.training.dense_weight > 0  # single times are drawn as training goes on
    return model in NETWORKS and NETWORKS[model].can_stack and not is_dense


def _is_small(model: str, fit: FitSettings) -> bool:
    """Return whether the work of a fit is mostly calling: measured for the Perceiver without long raw signals."""
    latents = fit.training.batch_size * fit.model.n_latents * fit.model.width
    return model == "perceiver-io" and not fit.tokens.raw and latents <= _SMALL_BATCH


def seen_subjects(store: Studies, start: StartingPoint, subjects: Sequence[str]) -> tuple[str, ...]:
    """Return which of the subjects a model to start from was fitted to, by study and own id, sorted."""
    seen: list[str] = []
    for prefix, part in store.parts.items():
        ids = [s.removeprefix(prefix) for s in subjects if s.startswith(prefix)]
        seen += [prefix + s for s in start.overlap(part.name, part.fingerprint(), ids)]
    return tuple(sorted(seen))
