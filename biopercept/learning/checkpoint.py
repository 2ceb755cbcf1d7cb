"""A saved model: a folder of weights (safetensors) and all that their use needs (JSON), self-checking, no pickle."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biopercept.errors import CheckpointError, SettingsError, StudyError
from biopercept.files import content_hash, replacing_folder, write_json, write_text
from biopercept.learning.calibration import Calibration
from biopercept.learning.normalisation import NormalisationSettings, Population
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary
from biopercept.tasks import Task
from biopercept.version import __version__

SCHEMA = 1
TRAINED, PRETRAINED, ANSWERING = "perceiver-io", "pretrained", "perceiver-io-tasks"
WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "card.md"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model with all that its use needs.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode, on the CPU.
    task : Task
        What it answers; class order is that of ``task.classes``.
    feature_names : tuple of str
        Feature columns it was trained with.
    population : Population
        Statistics of its training subjects.
    normalisation, tokens, model
        Settings of inputs and network.
    prepare : dict
        Window and cleaning settings as plain values: ``predict`` prepares recordings with these.
    training : dict
        Subjects, windows, seed, epochs, store fingerprint and scores as plain values.
    calibration : Calibration or None
        Applied to its probabilities; None where it was trained without.
    """

    network: BiosignalPerceiver
    task: Task
    feature_names: tuple[str, ...]
    population: Population
    normalisation: NormalisationSettings
    tokens: TokenSettings
    model: PerceiverSettings
    vocabulary: TokenVocabulary
    prepare: dict[str, Any]
    training: dict[str, Any]
    calibration: Calibration | None = None


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    import numpy
    import scipy
    import sklearn

    return {
        "biopercept": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
    }


def save_checkpoint(checkpoint: Checkpoint, folder: Path, card: str) -> None:
    """Write a trained model as a folder, whole or not at all.

    Parameters
    ----------
    checkpoint : Checkpoint
    folder : Path
        Created where absent.
    card : str
        The model card, Markdown.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    """
    from dataclasses import asdict

    description = {
        "schema": SCHEMA,
        "kind": TRAINED,
        "task": checkpoint.task.to_json(),
        "feature_names": list(checkpoint.feature_names),
        "normalisation": asdict(checkpoint.normalisation),
        "tokens": asdict(checkpoint.tokens),
        "model": asdict(checkpoint.model),
        "vocabulary": checkpoint.vocabulary.to_json(),
        "prepare": checkpoint.prepare,
        "population": checkpoint.population.to_json(),
        "calibration": None if checkpoint.calibration is None else checkpoint.calibration.to_json(),
        "training": checkpoint.training,
    }
    write_model_folder(folder, checkpoint.network.state_dict(), description, card)


def write_model_folder(
    folder: Path, weights: Mapping[str, torch.Tensor], description: dict[str, Any], card: str
) -> None:
    """Write a model folder; an older one is replaced when the new one is whole, and the user's own files in it stay.

    Parameters
    ----------
    folder : Path
    weights : mapping of str to Tensor
    description : dict
        Plain values; versions and the SHA-256 of the weights and of the description itself are added.
    card : str
        The model card, Markdown.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    from safetensors.torch import save_file

    with replacing_folder(folder) as fresh:
        save_file({name: value.contiguous().cpu() for name, value in weights.items()}, fresh / WEIGHTS)
        write_text(fresh / CARD, card)
        held = {**description, "versions": versions(), "weights_sha256": content_hash(fresh / WEIGHTS)}
        held = json.loads(json.dumps(held))
        write_json(fresh / DESCRIPTION, {**held, "description_sha256": _description_hash(held)})


def _description_hash(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description, its own hash left out."""
    held = {key: value for key, value in description.items() if key != "description_sha256"}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return a saved model.

    Raises
    ------
    CheckpointError
        Where the folder is no model, is damaged, or is of a newer schema.
    """
    description = read_description(folder)
    if description["kind"] == PRETRAINED:
        raise CheckpointError(f"{folder} was pretrained and answers no task yet; give it to train with --start-from")
    if description["kind"] == ANSWERING:
        raise CheckpointError(
            f"{folder} answers several tasks, ordered levels, numbers or single times; here a model of one "
            "classification of whole windows is needed"
        )
    weights = read_weights(folder, description)
    try:
        held = description.get("calibration")
        task = Task.from_json(description["task"])
        tokens = TokenSettings(**description["tokens"])
        model = PerceiverSettings(**description["model"])
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        network = BiosignalPerceiver(model, tokens, vocabulary, {task.name: task.n_outputs})
        network.load_state_dict(weights)
        checkpoint = Checkpoint(
            network=network.eval(),
            task=task,
            feature_names=tuple(description["feature_names"]),
            population=Population.from_json(description["population"]),
            normalisation=NormalisationSettings(**description["normalisation"]),
            tokens=tokens,
            model=model,
            vocabulary=vocabulary,
            prepare=description["prepare"],
            training=description["training"],
            calibration=None if held is None else Calibration.from_json(held),
        )
        require_use(checkpoint.prepare, checkpoint.training)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StudyError, SettingsError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); train the model again"
        ) from fault
    require_finite(network, folder)
    return checkpoint


def require_finite(network: torch.nn.Module, folder: Path) -> None:
    """Refuse weights that are not finite. Raises CheckpointError."""
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise CheckpointError(f"{WEIGHTS} in {folder} holds numbers that are not finite; train the model again")


def require_use(prepare: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Raise KeyError or TypeError where the free parts of a description lack what predictions need."""
    windows = prepare["windows"]
    for name in ("length_seconds", "step_seconds"):
        float(windows[name])
    if not training["modalities"]:
        raise KeyError("modalities")


def read_weights(folder: Path, description: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a model folder by name, once their hash is the one that the description gives.

    Raises
    ------
    CheckpointError
        Where the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS}; the model is incomplete: train it again")
    if content_hash(path) != description.get("weights_sha256"):
        raise CheckpointError(
            f"{path.name} in {folder} is damaged (not the SHA-256 that {DESCRIPTION} gives); train the model again"
        )
    try:
        return dict(load_file(path))
    except SafetensorError as fault:
        raise CheckpointError(
            f"{path.name} in {path.parent} is not a safetensors file ({fault}); train the model again"
        ) from fault


def read_description(folder: Path) -> dict[str, Any]:
    """Return what a model folder says of itself, of a trained model or a pretrained network.

    Raises
    ------
    CheckpointError
        Where the folder is no model, is damaged, or is of another schema.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model: it has no {DESCRIPTION}; give the folder that train wrote")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise CheckpointError(f"{DESCRIPTION} in {folder} is not JSON ({fault}); train the model again") from fault
    if not isinstance(description, dict) or description.get("kind") not in (TRAINED, PRETRAINED, ANSWERING):
        raise CheckpointError(f"{DESCRIPTION} in {folder} is not a biopercept model; give the folder that train wrote")
    if description.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} has schema {description.get('schema')!r} and this biopercept reads {SCHEMA}; "
            f"it was written by biopercept {description.get('versions', {}).get('biopercept', 'of another version')}"
        )
    if description.get("description_sha256") != _description_hash(description):
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} is damaged or was edited (not the SHA-256 it gives); train the model again"
        )
    return description
