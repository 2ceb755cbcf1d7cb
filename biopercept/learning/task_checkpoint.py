"""A saved model of several answers: a model folder as of one classification, with its tasks and their scales."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import CheckpointError, SettingsError, StudyError
from biopercept.learning.checkpoint import (
    ANSWERING,
    DESCRIPTION,
    SCHEMA,
    Checkpoint,
    load_checkpoint,
    read_description,
    read_weights,
    require_finite,
    require_use,
    write_model_folder,
)
from biopercept.learning.normalisation import NormalisationSettings, Population
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary
from biopercept.tasks import Task


@dataclass(frozen=True, eq=False)
class TaskCheckpoint:
    """A trained model of several tasks, ordered levels, numbers or single times, with all that its use needs.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode, on the CPU.
    tasks : tuple of Task
        What it predicts, in the order of its queries, numbers with their scale.
    feature_names, population, normalisation, tokens, model, vocabulary, prepare, training
        As of :class:`~biopercept.learning.checkpoint.Checkpoint`.
    """

    network: BiosignalPerceiver
    tasks: tuple[Task, ...]
    feature_names: tuple[str, ...]
    population: Population
    normalisation: NormalisationSettings
    tokens: TokenSettings
    model: PerceiverSettings
    vocabulary: TokenVocabulary
    prepare: dict[str, Any]
    training: dict[str, Any]

    @property
    def is_dense(self) -> bool:
        """Return whether it was trained to answer at single times."""
        return float(self.training["settings"].get("dense_weight", 0.0)) > 0


def save_task_checkpoint(checkpoint: TaskCheckpoint, folder: Path, card: str) -> None:
    """Write a trained model as a folder, whole or not at all.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    """
    description = {
        "schema": SCHEMA,
        "kind": ANSWERING,
        "tasks": [task.to_json() for task in checkpoint.tasks],
        "feature_names": list(checkpoint.feature_names),
        "normalisation": asdict(checkpoint.normalisation),
        "tokens": asdict(checkpoint.tokens),
        "model": asdict(checkpoint.model),
        "vocabulary": checkpoint.vocabulary.to_json(),
        "prepare": checkpoint.prepare,
        "population": checkpoint.population.to_json(),
        "training": checkpoint.training,
    }
    write_model_folder(folder, checkpoint.network.state_dict(), description, card)


def load_model(folder: Path) -> Checkpoint | TaskCheckpoint:
    """Return a saved model, of one classification or of several answers.

    Raises
    ------
    CheckpointError
        Where the folder is no model, is damaged, or is of a newer schema.
    """
    description = read_description(folder)
    if description["kind"] != ANSWERING:
        return load_checkpoint(folder)
    weights = read_weights(folder, description)
    try:
        tasks = tuple(Task.from_json(row) for row in description["tasks"])
        tokens, model = TokenSettings(**description["tokens"]), PerceiverSettings(**description["model"])
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        is_dense = float(description["training"]["settings"].get("dense_weight", 0.0)) > 0
        n_outputs = {task.name: task.n_outputs for task in tasks}
        network = BiosignalPerceiver(model, tokens, vocabulary, n_outputs, traces=is_dense)
        network.load_state_dict(weights)
        checkpoint = TaskCheckpoint(
            network=network.eval(),
            tasks=tasks,
            feature_names=tuple(description["feature_names"]),
            population=Population.from_json(description["population"]),
            normalisation=NormalisationSettings(**description["normalisation"]),
            tokens=tokens,
            model=model,
            vocabulary=vocabulary,
            prepare=description["prepare"],
            training=description["training"],
        )
        require_use(checkpoint.prepare, checkpoint.training)
        _ = checkpoint.is_dense
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StudyError, SettingsError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); train the model again"
        ) from fault
    require_finite(network, folder)
    return checkpoint
