"""Train the final model of several tasks, ordered levels, numbers or single times, and save it with a model card."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.final import Provenance, card_text, model_scores_sentence, training_description
from biopercept.learning.fitting import FitRequest, FitSettings, NetworkOnStudy, fit_perceiver_io
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import NormalisationSettings
from biopercept.learning.splits import choose_validation
from biopercept.learning.starting import load_start
from biopercept.learning.task_checkpoint import TaskCheckpoint, save_task_checkpoint
from biopercept.learning.token_source import vocabulary_of
from biopercept.learning.training import EpochReport
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import WindowTable
from biopercept.tasks import CLASSIFICATION, Task


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
