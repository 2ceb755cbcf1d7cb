"""Train the final model on every wanted subject of a store and save it with a model card."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biopercept.data.batches import vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.splits import choose_validation
from biopercept.data.windows import WindowTable
from biopercept.errors import SettingsError
from biopercept.tasks import CLASSIFICATION, Task
from biopercept.training.calibration import Calibration, CalibrationSettings
from biopercept.training.checkpoint import (
    Checkpoint,
    StartingPoint,
    TaskCheckpoint,
    load_start,
    save_checkpoint,
    save_task_checkpoint,
)
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import NetworkOnStudy, calibration_from, fit_perceiver_io, held_out_answers
from biopercept.training.loop import EpochReport, FitRequest, FittedNetwork
from biopercept.training.model_card import card_text, model_card, model_scores_sentence
from biopercept.training.settings import FitSettings, TrainingSettings


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the training data came from, and what is known of the model's scores.

    Attributes
    ----------
    prepare : dict
        Window and cleaning settings of the store.
    modalities : tuple of str
        Measured modalities of the training recordings.
    scores : dict or None
        Content of the ``scores.json`` of a cross-validation with the same settings, for the card.
    """

    study: str
    store_fingerprint: str
    prepare: dict[str, Any]
    modalities: tuple[str, ...]
    scores: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def train_final(
    inputs: WindowInputs,
    task: Task,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    provenance: Provenance,
    output: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    calibrating: CalibrationSettings | None = None,
    on_epoch: EpochReport | None = None,
) -> FittedNetwork[Any]:
    """Fit on the windows of all subjects in ``inputs`` and write the model folder of one classification.

    A few subjects (``training.validation_fraction``) are held out for early stopping; they are named in the card. With
    ``calibrating`` the model's answers are calibrated on subjects outside a fit: these few, or inner folds of all.

    Raises
    ------
    SettingsError
        Where there are fewer than 2 subjects, or nobody to learn the calibration from.
    CheckpointError
        Where the model to start from cannot be read, or has nothing in common with the network.
    TrainingError
        Where the loss is not finite.
    OutputError
        Where the model cannot be written.
    """
    windows = inputs.windows
    if len(windows.subjects) < 2:
        raise SettingsError("one subject has labelled windows; a model for unseen people needs at least 2 to train on")
    engine = engine_for(device, settings.training.precision)
    start = load_start(Path(settings.start_from)) if settings.start_from else None
    wished = calibrating or CalibrationSettings()
    validation = choose_validation(windows.subjects, settings.training.validation_fraction, seed)
    training = [s for s in windows.subjects if s not in validation]
    started = time.perf_counter()
    request = FitRequest(
        inputs,
        windows.rows_of(training),
        windows.rows_of(validation),
        settings,
        engine,
        seed_for(seed, "final"),
        on_epoch,
    )
    with threads(settings.training.n_threads):
        on_study = fit_perceiver_io(request)
        calibration = _calibration(request, on_study, wished) if wished.is_wanted else None
    fitted = on_study.fitted
    description = training_description(
        inputs, settings, provenance, fitted, training, validation, seed=seed, started=started, start=start
    )
    checkpoint = Checkpoint(
        network=fitted.network,
        task=task,
        feature_names=windows.feature_names,
        population=fitted.population,
        normalisation=normalisation,
        tokens=settings.tokens,
        model=settings.model,
        vocabulary=vocabulary_of(windows.feature_names),
        prepare=provenance.prepare,
        training=description,
        calibration=calibration,
    )
    save_checkpoint(checkpoint, output, model_card(checkpoint))
    return fitted


def training_description(
    inputs: WindowInputs,
    settings: FitSettings,
    provenance: Provenance,
    fitted: FittedNetwork[Any],
    training: Sequence[str],
    validation: Sequence[str],
    *,
    seed: int,
    started: float,
    start: StartingPoint | None,
) -> dict[str, Any]:
    """Return what a model folder says of its training, as plain values.

    ``training`` and ``validation`` are subjects; ``started`` is ``time.perf_counter()`` before the fit.
    """
    windows = inputs.windows
    return {
        "study": provenance.study,
        "store": provenance.store_fingerprint,
        "modalities": list(provenance.modalities),
        "subjects": training,
        "validation_subjects": list(validation),
        "n_windows": len(windows),
        "windows_per_class": _windows_per_class(windows),
        "n_windows_left_out": windows.excluded,
        "step_seconds": inputs.step_seconds,
        "settings": settings.training.described(),
        "seed": seed,
        "best_epoch": fitted.best_epoch,
        "history": [[e, a, b if b == b else None] for e, a, b in fitted.history],
        "seconds": round(time.perf_counter() - started, 1),
        "parameters": fitted.n_parameters,
        "scores": provenance.scores,
        "warnings": list(provenance.warnings),
        "start_from": None if start is None else {**start.described(fitted.network), "seen": list(start.studies)},
    }


def _windows_per_class(windows: WindowTable) -> dict[str, int]:
    """Return the windows of each class of the one task; nothing for several tasks."""
    if len(windows.targets) > 1:
        return {}
    return {name: int((windows.only.values == number).sum()) for number, name in enumerate(windows.only.classes)}


def _calibration(request: FitRequest, fitted: NetworkOnStudy, settings: CalibrationSettings) -> Calibration:
    """Return what is learnt from answers about subjects outside the fit."""
    answers = held_out_answers(replace(request, on_epoch=None), fit_perceiver_io, fitted, settings.n_folds)
    return calibration_from(request.inputs.windows, [answers], settings)


def measured_modalities(recordings: Collection[Any]) -> tuple[str, ...]:
    """Return the measured modalities of prepared recordings, sorted."""
    return tuple(sorted({s.modality for r in recordings for s in r.signals if not s.derived_from}))


def needs_tasks(windows: WindowTable, training: TrainingSettings) -> bool:
    """Return whether the windows or settings ask for more than one classification of whole windows."""
    return [task.kind for task in windows.tasks] != [CLASSIFICATION] or training.dense_weight > 0


def train_tasks(
    inputs: WindowInputs,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    provenance: Provenance,
    output: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    on_epoch: EpochReport | None = None,
) -> NetworkOnStudy:
    """Fit every task of the table ``inputs`` on all its subjects and write the model folder.

    A few subjects (``training.validation_fraction``) are held out for early stopping; they are named in the card.

    Raises
    ------
    SettingsError
        Where there are fewer than 2 subjects.
    CheckpointError
        Where the model to start from cannot be read, or has nothing in common with the network.
    TrainingError
        Where the loss is not finite.
    OutputError
        Where the model cannot be written.
    """
    windows = inputs.windows
    if len(windows.subjects) < 2:
        raise SettingsError("one subject has labelled windows; a model for unseen people needs at least 2 to train on")
    validation = choose_validation(windows.subjects, settings.training.validation_fraction, seed)
    training = [s for s in windows.subjects if s not in validation]
    start = load_start(Path(settings.start_from)) if settings.start_from else None
    started = time.perf_counter()
    request = FitRequest(
        inputs,
        windows.rows_of(training),
        windows.rows_of(validation),
        settings,
        engine_for(device, settings.training.precision),
        seed_for(seed, "final"),
        on_epoch,
    )
    with threads(settings.training.n_threads):
        fitted = fit_perceiver_io(request)
    description: dict[str, Any] = {
        **training_description(
            inputs, settings, provenance, fitted.fitted, training, validation, seed=seed, started=started, start=start
        ),
        "n_windows": int(windows.is_labelled.sum()),
        "windows_per_task": {name: int(targets.is_known.sum()) for name, targets in windows.targets.items()},
    }
    checkpoint = TaskCheckpoint(
        network=fitted.fitted.network,
        tasks=fitted.tasks,
        feature_names=windows.feature_names,
        population=fitted.fitted.population,
        normalisation=normalisation,
        tokens=settings.tokens,
        model=settings.model,
        vocabulary=vocabulary_of(windows.feature_names),
        prepare=provenance.prepare,
        training=description,
    )
    save_task_checkpoint(checkpoint, output, _card(checkpoint))
    return fitted


def _card(checkpoint: TaskCheckpoint) -> str:
    training = checkpoint.training
    length = checkpoint.prepare["windows"]["length_seconds"]
    answers = [f"- {task.name}: {_answer(task)}" for task in checkpoint.tasks]
    if checkpoint.is_dense:
        answers.append("- the same at any time within a window (`predict --every SECONDS`)")
    return card_text(
        " and ".join(task.name for task in checkpoint.tasks),
        "\n".join([f"For each window of {length:g} s:", *answers]),
        ", ".join(f"{name} {n}" for name, n in training["windows_per_task"].items()),
        _scores(training["scores"], checkpoint),
        checkpoint.normalisation.mode,
        training,
    )


def _answer(task: Task) -> str:
    if not task.is_classification:
        return f"a number, the study's {task.column} ({task.mean:.4g} +- {task.scale:.4g} among training subjects)"
    return f"one of {', '.join(task.classes)}{', in order' if task.is_ordinal else ''}"


def _scores(scores: dict[str, Any] | None, checkpoint: TaskCheckpoint) -> str:
    """Return what the card says of the scores of one task, or of each of several by name."""
    if scores is None or "tasks" not in scores:
        return model_scores_sentence(scores)
    names = [task.name for task in checkpoint.tasks]
    return "\n".join(f"- {name}: {model_scores_sentence(scores['tasks'].get(name))}" for name in names)
