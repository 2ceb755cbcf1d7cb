"""A saved model scored on labelled people whom it was not fitted to: an external validation, written as one fold.

1. The store has the windows and cleaning of the model, or a study folder is prepared with them for the occasion.
2. The study's own tasks say which labels belong to which of the model's classes, by the names of the classes.
3. Whoever the model was fitted to is refused (``external_people``).
4. Nothing is fitted: scaling, weights and calibration are the model's. Scores and files are those of a cross-validation
   of one fold.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import Fold
from biopercept.data.windows import FloatArray, IntArray, WindowTable, joint_windows, labelled_windows
from biopercept.errors import (
    BioperceptError,
    BusyError,
    OutputError,
    RecordingError,
    SettingsError,
    StudyError,
    the_model,
)
from biopercept.evaluation.cross_validation import run_and_score
from biopercept.evaluation.external_people import (
    SAME,
    ExternalRequest,
    compared_people,
    refuse_seen,
    sensor_words,
    unlike_words,
)
from biopercept.evaluation.fold_fits import FoldResult, calibrated_result
from biopercept.evaluation.missing_sensors import check_missing_sensors, predictions_without, sensor_views
from biopercept.evaluation.plan import (
    EvaluationRequest,
    Plan,
    choose_recordings,
    unscored_seconds,
)
from biopercept.evaluation.runs import require_own_folder
from biopercept.evaluation.settings import NONE
from biopercept.files import only_writer
from biopercept.inference.prediction import NO_SIGNAL, read_for
from biopercept.inference.shift import ALL, caution, require_adaptable, shifted, words_of
from biopercept.inference.shift import NONE as UNMOVED
from biopercept.planning.scaling import normalisation_of_all
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.reuse import log_path
from biopercept.prepare.study import OnProgress, PrepareRun, chosen_subjects, prepare_study
from biopercept.results.cross_validation import ExternalModel
from biopercept.results.folder import FoldsFile
from biopercept.store.prepared import WindowedRecording
from biopercept.store.reading import StudyStore, open_store
from biopercept.studies.structure import Study
from biopercept.tasks import Task, disagreement
from biopercept.training.checkpoint import Checkpoint, load_model, load_start, require_features
from biopercept.training.engine import engine_for
from biopercept.training.final import measured_modalities
from biopercept.training.fitting import NetworkOnStudy
from biopercept.training.loop import FittedNetwork
from biopercept.training.objective import predict_windows
from biopercept.training.settings import FitSettings
from biopercept.typed_values import did_you_mean, to_plain

EXTERNAL = "external"
"""The split of an external validation, and its one fold."""
PREPARATION_LOG = "preparation.log.csv"
_PREPARED = ".prepared"


@dataclass(frozen=True, eq=False)
class ExternalPlan(Plan):
    """The plan of an external validation: one fold, tested by a model that is there already.

    ``shift`` is what is added to the log odds of every window, (n_windows,), by task; empty where nothing is adapted.
    """

    checkpoint: Checkpoint | None = None
    model: ExternalModel | None = None
    shift: Mapping[str, FloatArray] = field(default_factory=dict)

    @cached_property
    def stack_size(self) -> int:
        """Return 0: nothing is fitted."""
        return 0

    @property
    def split(self) -> str:
        """Return that people of another study are scored."""
        return EXTERNAL

    @property
    def external(self) -> ExternalModel | None:
        """Return which saved model is scored."""
        return self.model

    @property
    def is_transductive(self) -> bool:
        """Return whether scaling, or the threshold, rests on the whole of each recording."""
        return super().is_transductive or (self.model is not None and self.model.adapt == ALL)

    def training_mean(self, fold: Fold) -> float:
        """Return the mean number of the people that the model was fitted to."""
        return self.task.mean

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a finished run to be used again."""
        assert self.model is not None
        whole = super().identity()
        kept = {name: whole[name] for name in ("store", "model", "task", "subjects", "normalisation", "version")}
        split = {"split": EXTERNAL, "n_folds": 1, "missing_sensors": self.request.evaluation.missing_sensors}
        tasks = {"tasks": whole["tasks"]} if "tasks" in whole else {}
        moved = {} if self.model.adapt is None else {"adapt": self.model.adapt}
        return {
            **kept,
            **moved,
            "weights": self.model.weights_sha256,
            "split": split,
            "seed": self.request.seed,
            **tasks,
        }


def evaluate_store(request: ExternalRequest, path: Path, output: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Score a saved model on the people of a store and return what a cross-validation returns.

    Raises CheckpointError where the folder is no model. Raises StoreError where the file is no store. Raises StudyError
    where the study has no task that the model's stands for, or no window that the model can read. Raises SettingsError
    where the store was cut or cleaned in another way than the model's, somebody was among those it was fitted to, or
    the folder holds something else.
    """
    with open_store(path) as store, only_writer(output):
        plan = plan_external(store, request)
        text = yaml.safe_dump(_settings_of(plan), sort_keys=False, allow_unicode=True)
        return run_and_score(plan, _predicted, output, config_text=text, overwrite=overwrite)


def evaluate_data(
    request: ExternalRequest,
    data: Study | Path,
    output: Path,
    *,
    run: PrepareRun,
    on_progress: OnProgress | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Score a saved model on a study, which is prepared for the occasion, or on a store.

    Returned are the scores as of :func:`evaluate_store`, and a sentence for each recording that could not be prepared.

    Raises SettingsError where jobs are given for a store. Raises as :func:`prepared_for` and :func:`evaluate_store`.
    """
    if isinstance(data, Path):
        if run.n_jobs != 1:
            raise SettingsError("--jobs is for preparing a study folder, and a store is prepared; leave it out")
        return evaluate_store(request, data, output, overwrite=run.overwrite), ()
    with prepared_for(request, data, output, run=run, on_progress=on_progress) as (settled, store, failures):
        return evaluate_store(settled, store, output, overwrite=run.overwrite), failures


@contextmanager
def prepared_for(
    request: ExternalRequest,
    study: Study,
    output: Path,
    *,
    run: PrepareRun,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[ExternalRequest, Path, tuple[str, ...]]]:
    """Prepare the wanted people of a study as the model reads them; give what is evaluated, on which store.

    Given with it is a sentence for each recording that failed. The store lies in ``output`` while the block runs, and
    after an interruption until the same command goes on; its log stays. ``run.overwrite`` is about the output.

    Raises StudyError where no recording could be prepared. Raises SettingsError as :func:`evaluate_store`.
    """
    is_own = (output / FoldsFile.FILE).is_file()
    require_own_folder(output, "cross-validation", is_own=is_own, overwrite=run.overwrite)
    checkpoint = load_model(request.model)
    people = chosen_subjects(study, request.subjects, request.excluded)
    _shared_tasks(checkpoint, study.name, study.tasks, request.task)  # what can be refused is, before minutes of work
    refuse_seen(request, dict.fromkeys(load_start(request.model).overlap(study.name, "", people), SAME), len(people))
    folder = output / _PREPARED
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(repr(people).encode()).hexdigest()[:12]}.h5"
    settings = PrepareSettings.from_plain_values(checkpoint.prepare)
    try:
        summary = prepare_study(
            study, path, settings, subjects=people, run=replace(run, overwrite=True), on_progress=on_progress
        )
        failures = tuple(row.message for row in summary.rows if row.status == "failed")
        if summary.store is None:
            why = f"could be prepared as the model reads it: {failures[0]}"
            raise StudyError(f"no recording of study {study.name!r} {why}")
        yield replace(request, subjects=None, excluded=()), path, failures
        shutil.copyfile(log_path(path), output / PREPARATION_LOG)
        shutil.rmtree(folder)
    except (OutputError, BusyError):  # what is prepared is kept until there is room; or is another process's
        raise
    except BioperceptError:
        shutil.rmtree(folder)
        with suppress(OSError):
            output.rmdir()  # where nothing else is in it
        raise


def plan_external(store: StudyStore, request: ExternalRequest) -> ExternalPlan:
    """Return the plan of an external validation; raises what :func:`evaluate_store` raises of model, store and task.

    Raises SettingsError where the threshold of a task cannot be moved, or sensors are to be left out as well.
    """
    checkpoint, start = load_model(request.model), load_start(request.model)
    _require_alike(checkpoint, store, request.model)
    tasks, more = _shared_tasks(checkpoint, store.name, store.tasks, request.task)
    recordings = choose_recordings(store.recordings, request.subjects, request.excluded)
    inputs, unread = _readable(checkpoint, store, recordings, tasks, request.device)
    windows = inputs.windows
    evaluation = replace(
        request.evaluation,
        calibration="none" if checkpoint.calibration is None else checkpoint.calibration.method,
        conformal_coverage=0.0 if checkpoint.calibration is None else checkpoint.calibration.coverage,
    )
    check_missing_sensors(evaluation.missing_sensors, "perceiver-io", windows)
    require_adaptable(windows.tasks, request.adapt)
    if request.adapt != UNMOVED and evaluation.missing_sensors != NONE:
        raise SettingsError(
            "--missing-sensors scores the model as it is and --adapt moves its threshold; leave one of them out"
        )
    settled = EvaluationRequest(
        store.path,
        task=",".join(windows.targets),
        fit=FitSettings(tokens=checkpoint.tokens, model=checkpoint.model),
        normalisation=checkpoint.normalisation,
        evaluation=evaluation,
        subjects=request.subjects,
        excluded=request.excluded,
        seed=request.seed,
        device=request.device,
    )
    model, warnings = compared_people(request, store, start, windows, checkpoint.known)
    shift, moved = _shifts(checkpoint, recordings, windows, request)
    _, of_scaling = normalisation_of_all(windows.tasks, checkpoint.normalisation, is_chosen=True)
    return ExternalPlan(
        request=settled,
        task=windows.tasks[0],
        normalisation=checkpoint.normalisation,
        inputs=inputs,
        folds=(_fold(checkpoint, windows),),
        warnings=(
            *warnings,
            *moved,
            *of_scaling,
            *more,
            *unread,
            *sensor_words(checkpoint, recordings),
            *unlike_words(checkpoint, inputs),
        ),
        store_fingerprint=store.fingerprint(),
        study=store.name,
        checkpoint=checkpoint,
        model=model,
        shift=shift,
    )


def _fold(checkpoint: Checkpoint, windows: WindowTable) -> Fold:
    """Return the one fold; whom the model was fitted to is named with the study: here others may have those ids."""
    training = checkpoint.training
    study = "" if "studies" in training else f"{training['study']}/"  # of several studies they are named so already
    fitted, stopped = (
        tuple(f"{study}{subject}" for subject in training[side]) for side in ("subjects", "validation_subjects")
    )
    return Fold(EXTERNAL, fitted, stopped, windows.subjects)


def _settings_of(plan: ExternalPlan) -> dict[str, Any]:
    """Return what the scores rest on, as plain values: the model's settings, and how they were made."""
    checkpoint = plan.checkpoint
    assert checkpoint is not None
    sections = {"normalisation": asdict(checkpoint.normalisation), "tokens": asdict(checkpoint.tokens)}
    sections |= {"model": asdict(checkpoint.model), "training": dict(checkpoint.training["settings"])}
    sections["evaluation"] = asdict(plan.request.evaluation)
    plain: dict[str, Any] = to_plain({**checkpoint.prepare, **sections})
    return plain


def _require_alike(checkpoint: Checkpoint, store: StudyStore, folder: Path) -> None:
    """Refuse a store whose windows, cleaning or features are not those of the model, naming each that differs."""
    theirs, ours = (
        PrepareSettings.from_plain_values(values).as_plain_values() for values in (store.settings, checkpoint.prepare)
    )
    differing = [
        f"{section}.{name} is {value} in the store and {ours[section][name]} in the model"
        for section, values in theirs.items()
        for name, value in values.items()
        if value != ours[section][name]
    ]
    if differing:
        raise SettingsError(
            f"{store.path.name} was not prepared as {the_model(folder.name)} reads recordings: {'; '.join(differing)}; "
            "give the study's folder, which is then prepared as the model was"
        )
    require_features(folder.name, checkpoint.feature_names, store.feature_names, store.path.name)


def _shared_tasks(
    checkpoint: Checkpoint, study: str, tasks: dict[str, Task], names: str | None
) -> tuple[list[Task], tuple[str, ...]]:
    """Return the study's tasks that are scored, as the model has them, and sentences on those that are not.

    Raises StudyError where a task that was named, or every task, differs from the study's.
    """
    known = {task.name: task for task in checkpoint.tasks}
    wanted = list(known) if names is None else [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise StudyError(f"the model has no task {unknown[0]!r}; it predicts: {', '.join(known)}{near}")
    shared, lacking = [], []
    for name in dict.fromkeys(wanted):
        ours, theirs = known[name], tasks.get(name)
        why = disagreement(ours, theirs, study)
        if theirs is None or why:
            lacking.append(why)
        else:
            shared.append(_as_the_model_has_it(ours, theirs))
    if lacking and (names is not None or not shared):
        has = f"; the study's tasks are {', '.join(tasks)}" if tasks and len(tasks) > 1 else ""
        raise StudyError(
            f"{'; '.join(lacking)}{has}; name tasks and classes in its study.yaml as the model does, and which labels "
            "belong to them"
        )
    return shared, tuple(f"not scored: {why}" for why in lacking)


def _as_the_model_has_it(ours: Task, theirs: Task) -> Task:
    """Return the study's task with classes in the model's order, and with the scale and lag that the model learnt."""
    classes = {name: theirs.classes[name] for name in ours.classes}
    scaled = replace(theirs, classes=classes, mean=ours.mean, scale=ours.scale)
    return replace(scaled, lag_seconds=ours.lag_seconds, max_lag_seconds=0.0) if theirs.lags else scaled


def _readable(
    checkpoint: Checkpoint,
    store: StudyStore,
    recordings: Sequence[WindowedRecording],
    tasks: Sequence[Task],
    device: str,
) -> tuple[WindowInputs, tuple[str, ...]]:
    """Return the labelled windows of which the model can read something, and a sentence on the others.

    Raises StudyError where there is none.
    """
    unscored = unscored_seconds(recordings, checkpoint.normalisation)
    tables = [
        labelled_windows(
            recordings,
            task,
            length_seconds=checkpoint.window_seconds,
            feature_names=checkpoint.feature_names,
            unscored_seconds=unscored,
        )
        for task in tasks
    ]
    windows = joint_windows(tables) if len(tables) > 1 else tables[0]
    tokens = checkpoint.tokens
    inputs = WindowInputs(windows, checkpoint.normalisation, store.step_seconds, raw=tokens.raw, derived=tokens.derived)
    source = _network(checkpoint, inputs, device).source
    has_tokens = source.has_tokens(np.arange(len(windows), dtype=np.int64))
    if has_tokens.all():
        return inputs, ()
    n, known = int((~has_tokens).sum()), ", ".join(checkpoint.training["modalities"])
    if not has_tokens.any():
        raise StudyError(
            f"none of the {n} labelled windows has a sensor that the model was trained with ({known}); the study has "
            f"{', '.join(measured_modalities(recordings)) or 'none'}"
        )
    kept = windows.at(np.flatnonzero(has_tokens).astype(np.int64))
    targets = {}
    for name, of_task in kept.targets.items():
        n_of_task = int((windows.targets[name].is_known & ~has_tokens).sum())
        excluded = {**of_task.excluded, NO_SIGNAL: n_of_task} if n_of_task else of_task.excluded
        targets[name] = replace(of_task, excluded=excluded)
    gone = sorted({str(s) for s in windows.subject} - {str(s) for s in kept.subject})
    whole = f", all of {', '.join(gone)}" if gone else ""
    words = f"{n} of {len(windows)} labelled windows have {NO_SIGNAL} ({known}) and were not scored{whole}"
    return replace(inputs, windows=replace(kept, targets=targets)), (words,)


def _network(checkpoint: Checkpoint, inputs: WindowInputs, device: str) -> NetworkOnStudy:
    """Return the model as one that predicts the windows of a study."""
    from biopercept.data.batches import TokenSource

    at = engine_for(device).device
    n_parameters = int(checkpoint.training["parameters"])
    fitted = FittedNetwork(checkpoint.network.to(at), checkpoint.population, (), 0, n_parameters)
    tasks = tuple(task for task in checkpoint.tasks if task.name in inputs.windows.targets)
    source = TokenSource(inputs, checkpoint.population, checkpoint.tokens, at)
    return NetworkOnStudy(fitted, tasks, source, np.arange(len(inputs.windows), dtype=np.int64))


def _shifts(
    checkpoint: Checkpoint, recordings: Sequence[WindowedRecording], windows: WindowTable, request: ExternalRequest
) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """Return what is added to the log odds of every labelled window by task, and sentences on it.

    It rests on every window of a recording, labelled or not, as in ``predict``.
    """
    if request.adapt == UNMOVED:
        return {}, ()
    engine, n_moved = engine_for(request.device), dict.fromkeys(windows.targets, 0)
    of_one_class: dict[str, None] = {}
    shift = {name: np.zeros(len(windows)) for name in windows.targets}
    tasks = [task for task in checkpoint.tasks if task.name in shift]
    scored, earlier = np.unique(windows.recording), dict[tuple[str, str], list[WindowedRecording]]()
    by_key = {windows.recordings[index].key: index for index in scored}
    for recording in recordings:
        before = earlier.setdefault((recording.subject, recording.session), [])
        with suppress(RecordingError):  # predict refuses the recording, so no window of it can be read without labels
            if recording.key in by_key:
                read = read_for(checkpoint, recording, engine, before)
                every = np.arange(len(read.windows), dtype=np.int64)
                values = predict_windows(checkpoint.network.to(engine.device), tasks, read.source, every)
                here = windows.recording == by_key[recording.key]
                for name, of_recording in shift.items():
                    of_recording[here] = read.shift_at(windows.onset[here], values[name], request.adapt)
                    n_moved[name] += bool(of_recording[here].any())
                    targets = windows.targets[name]
                    labels = [targets.classes[value] if value >= 0 else "" for value in targets.values[here]]
                    if caution(of_recording[here], labels):
                        of_one_class[recording.key] = None
        if checkpoint.normalisation.scope == "session":
            before.append(recording)
    several = len(shift) > 1
    sentences = [
        f"{f'task {name}: ' if several else ''}{words_of(request.adapt, n, len(scored), 'recordings')}"
        for name, n in n_moved.items()
    ]
    if of_one_class:
        sentences.append(
            f"{', '.join(of_one_class)}: all labels are of one class, and --adapt read two and moved the threshold: "
            "the predictions are worse for it; leave --adapt out for recordings of one class"
        )
    return shift, tuple(sentences)


def _moved(plan: ExternalPlan, values: FloatArray, rows: IntArray) -> FloatArray:
    """Return predictions, of several tasks side by side, with the log odds of every task moved by its shift."""
    if not plan.shift:
        return values
    first, parts = 0, []
    for task in plan.windows.tasks:
        parts.append(shifted(values[:, first : first + task.n_values], plan.shift[task.name][rows]))
        first += task.n_values
    return np.concatenate(parts, axis=1)


def _predicted(plan: ExternalPlan, folds: Sequence[Fold], n_jobs: object) -> Iterator[tuple[Fold, FoldResult]]:
    for fold in folds:
        yield fold, saved_result(plan, fold)


def saved_result(plan: ExternalPlan, fold: Fold) -> FoldResult:
    """Return what the saved model predicts of the fold's people, calibrated as the model is."""
    started, checkpoint, mode = time.perf_counter(), plan.checkpoint, plan.request.evaluation.missing_sensors
    assert checkpoint is not None
    model, rows = _network(checkpoint, plan.inputs, plan.request.device), plan.windows.rows_of(fold.test)
    values = _moved(plan, model.predict(rows), rows)
    fewer = predictions_without(model, sensor_views(plan.inputs, rows, mode), rows, values)
    result = FoldResult(
        fold=fold,
        rows=rows,
        probabilities=values,
        n_parameters=model.n_parameters,
        seconds=time.perf_counter() - started,
        history=[],
        operations_per_window=model.operations_per_window,
        fewer_sensors=None if mode == NONE else fewer,
    )
    return result if checkpoint.calibration is None else calibrated_result(result, checkpoint.calibration)
