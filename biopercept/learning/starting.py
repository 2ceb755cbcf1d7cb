"""Weights that a network starts from: taken where name and shape agree, and said so; whom they have seen is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biopercept.errors import CheckpointError
from biopercept.learning.checkpoint import DESCRIPTION, PRETRAINED, read_description, read_weights


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A saved network, trained or pretrained, to start from.

    Attributes
    ----------
    kind : str
        ``pretrained`` or ``perceiver-io``.
    sha256 : str
        Of its weights.
    weights : mapping of str to Tensor
        By name, on the CPU.
    studies : tuple of dict
        ``study``, ``store`` (fingerprint) and ``subjects`` that its weights were fitted to.
    """

    kind: str
    sha256: str
    weights: Mapping[str, torch.Tensor]
    studies: tuple[dict[str, Any], ...]

    def described(self, network: nn.Module) -> dict[str, Any]:
        """Return, as plain values for an output, where the weights of ``network`` began."""
        taken = matching(network, self.weights)
        return {
            "kind": self.kind,
            "weights_sha256": self.sha256,
            "studies": [study["study"] for study in self.studies],
            "n_taken": len(taken),
            "new": [name for name in network.state_dict() if name not in taken],
        }

    def overlap(self, study: str, store: str, subjects: Collection[str]) -> tuple[str, ...]:
        """Return which of the subjects of a store (by study name or fingerprint) its weights were fitted to, sorted."""
        seen: set[str] = set()
        for used in self.studies:
            if used["study"] == study or used["store"] == store:
                seen |= set(used["subjects"])
        return tuple(sorted(seen & set(subjects)))


def load_start(folder: Path) -> StartingPoint:
    """Return the starting point in a model folder that ``pretrain`` or ``train`` wrote.

    Raises
    ------
    CheckpointError
        Where the folder is no model or is damaged.
    """
    description = read_description(folder)
    try:
        if description["kind"] == PRETRAINED:
            studies = [{key: row[key] for key in ("study", "store", "subjects")} for row in description["studies"]]
            weights = transferable(read_weights(folder, description))
        else:
            training = description["training"]
            subjects = [*training["subjects"], *training["validation_subjects"]]
            studies = [{"study": training["study"], "store": training["store"], "subjects": subjects}]
            if (before := training.get("start_from")) is not None:
                studies += before["seen"]
            weights = read_weights(folder, description)
        return StartingPoint(description["kind"], description["weights_sha256"], weights, tuple(studies))
    except (KeyError, TypeError) as fault:
        raise CheckpointError(
            f"{DESCRIPTION} in {folder} does not say what its weights were fitted to ({fault}); train the model again"
        ) from fault


def transferable(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a pretrained network that others can start from: not the query and head of its own task."""
    return {name: value for name, value in weights.items() if not name.startswith(("queries.", "heads."))}


def matching(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the names of the weights that the network has with the same shape."""
    return {name for name, own in network.state_dict().items() if name in weights and weights[name].shape == own.shape}


def take_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> set[str]:
    """Copy into the network every weight that has its name and shape; the others stay as they are.

    Returns
    -------
    set of str
        Names of what was taken.

    Raises
    ------
    CheckpointError
        Where nothing matches: the networks have nothing in common.
    """
    names = matching(network, weights)
    if not names:
        raise CheckpointError(
            "no weight of the model to start from has the name and shape of one here; use its model settings "
            "(width, n_latents, n_heads) or leave --start-from out"
        )
    own = network.state_dict()
    with torch.no_grad():
        for name in names:
            own[name].copy_(weights[name])
    return names
