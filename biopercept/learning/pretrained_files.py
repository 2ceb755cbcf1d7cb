"""A pretrained network as a model folder: weights, settings, and whom they have seen; it answers no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from biopercept.errors import CheckpointError
from biopercept.learning.checkpoint import (
    DESCRIPTION,
    PRETRAINED,
    SCHEMA,
    read_description,
    read_weights,
    write_model_folder,
)
from biopercept.learning.normalisation import NormalisationSettings, Population
from biopercept.learning.pretext import PretrainingSettings, pretext_perceiver
from biopercept.learning.pretraining import PretrainedNetwork
from biopercept.learning.starting import StartingPoint
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A pretrained network with all it takes to ask it about a new recording.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode, on the CPU.
    objective : str
    tokens : TokenSettings
    normalisation : NormalisationSettings
    study : str
        Whose preparation and population these are.
    prepare : dict
        Window and cleaning settings of the study's store.
    population : Population
        Statistics of the study's subjects.
    """

    network: BiosignalPerceiver
    objective: str
    tokens: TokenSettings
    normalisation: NormalisationSettings
    study: str
    prepare: dict[str, Any]
    population: Population


def save_pretrained(
    done: PretrainedNetwork,
    folder: Path,
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    normalisation: NormalisationSettings,
    settings: PretrainingSettings,
    studies: Sequence[dict[str, Any]],
    seed: int,
    start: StartingPoint | None = None,
) -> None:
    """Write a pretrained network as a model folder of kind ``pretrained``, for ``--start-from``.

    Parameters
    ----------
    done : PretrainedNetwork
    folder : Path
        Created where absent.
    tokens, model, normalisation, settings
        The settings it was pretrained with.
    studies : sequence of dict
        Per study: ``study``, ``store`` (fingerprint), ``subjects``, ``n_windows``, ``prepare`` (settings) and
        ``population`` (what scaled its inputs, :meth:`Population.to_json`).
    seed : int
    start : StartingPoint, optional
        What it began with; whom that has seen is handed on.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    """
    names = ", ".join(f"{row['study']} ({len(row['subjects'])} subjects)" for row in studies)
    card = (
        f"# A network pretrained without labels ({settings.objective})\n\nIt answers no task. Its weights have seen "
        f"signals of {names}: scores on these people are no scores on unseen people.\n"
    )
    unknown = {"n_windows": None, "prepare": None, "population": None}
    seen = [] if start is None else [{**row, **unknown} for row in start.studies]
    description = {
        "schema": SCHEMA,
        "kind": PRETRAINED,
        "normalisation": asdict(normalisation),
        "tokens": asdict(tokens),
        "model": asdict(model),
        "vocabulary": done.vocabulary.to_json(),
        "pretraining": asdict(settings),
        "studies": [*studies, *seen],
        "start_from": None if start is None else start.described(done.network),
        "seed": seed,
        "history": [list(row) for row in done.history],
    }
    write_model_folder(folder, done.weights, description, card)


def load_pretrained(folder: Path) -> PretrainedNetwork:
    """Return a pretrained network with its queries, for generation of signals or further pretraining.

    Raises
    ------
    CheckpointError
        Where the folder holds no pretrained network or is damaged.
    """
    description = read_description(folder)
    if description["kind"] != PRETRAINED:
        raise CheckpointError(f"{folder} holds a trained model; a pretrained network is needed: run pretrain")
    weights = read_weights(folder, description)
    try:
        model = PerceiverSettings(**description["model"])
        vocabulary = TokenVocabulary.from_json(description["vocabulary"])
        tokens, objective = TokenSettings(**description["tokens"]), description["pretraining"]["objective"]
        network = pretext_perceiver(model, tokens, vocabulary, objective)
        network.load_state_dict(weights)
        history = tuple((int(epoch), float(loss)) for epoch, loss in description["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its weights ({fault}); pretrain the network again"
        ) from fault
    return PretrainedNetwork(network.eval(), vocabulary, history)


def load_pretrained_model(folder: Path, study: str | None = None) -> PretrainedModel:
    """Return a pretrained network with the preparation and the scale of one of its studies.

    Parameters
    ----------
    folder : Path
    study : str, optional
        One of those it was pretrained on; None: the first.

    Raises
    ------
    CheckpointError
        Where the folder holds no pretrained network, is damaged, lacks the study, or does not keep its scale.
    """
    network, description = load_pretrained(folder).network, read_description(folder)
    held = {row["study"]: row for row in reversed(description["studies"]) if row.get("population")}
    if not held:
        raise CheckpointError(f"{folder} does not keep the scale of its studies; pretrain the network again")
    first = next(row["study"] for row in description["studies"] if row.get("population"))
    if (name := study or first) not in held:
        raise CheckpointError(f"{folder} was not pretrained on {name!r}; it was on {', '.join(held)}")
    try:
        return PretrainedModel(
            network,
            description["pretraining"]["objective"],
            TokenSettings(**description["tokens"]),
            NormalisationSettings(**description["normalisation"]),
            name,
            dict(held[name]["prepare"]),
            Population.from_json(held[name]["population"]),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not describe its study ({fault}); pretrain the network again"
        ) from fault
