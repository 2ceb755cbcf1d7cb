"""A saved model to be made a person's own: it must answer the same question from the same kind of windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import CheckpointError, SettingsError
from biopercept.learning.checkpoint import PRETRAINED, Checkpoint, load_checkpoint, read_description
from biopercept.learning.engine import Engine
from biopercept.learning.fitting import FitRequest, Fitted
from biopercept.learning.normalisation import Population
from biopercept.learning.operations import operations_per_window
from biopercept.learning.task_objective import predict_windows
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.personalising.adaptation import Adapted, adapt
from biopercept.personalising.low_rank import LowRankUpdate
from biopercept.personalising.settings import HEAD, LOW_RANK, PersonalisationSettings
from biopercept.tasks import Task


def load_starting_model(folder: Path) -> Checkpoint:
    """Return a model that can be adapted to a person.

    Raises
    ------
    CheckpointError
        Where the folder is no model of one classification, or is damaged.
    """
    if read_description(folder)["kind"] == PRETRAINED:
        raise CheckpointError(
            f"{folder} was pretrained and answers no task yet, so there is nothing to adapt or to fall back to; train "
            "it on other people first (train STORE --start-from MODEL --exclude-subjects ID)"
        )
    return load_checkpoint(folder)


def require_fitting(checkpoint: Checkpoint, windows: WindowTable, folder: Path) -> None:
    """Refuse a model that answers another question, or reads other windows than these.

    Raises
    ------
    SettingsError
        Naming what differs.
    """
    length = float(checkpoint.prepare["windows"]["length_seconds"])
    if tuple(checkpoint.task.classes) != windows.only.classes:
        raise SettingsError(
            f"the model {folder} tells {', '.join(checkpoint.task.classes)} and this task has "
            f"{', '.join(windows.only.classes)}; they must be the same classes in the same order"
        )
    if length != windows.length_seconds:
        raise SettingsError(
            f"the model {folder} reads windows of {length:g} s and the store has windows of "
            f"{windows.length_seconds:g} s; prepare the store with the model's settings"
        )
    if checkpoint.feature_names != windows.feature_names:
        raise SettingsError(
            f"the model {folder} and the store have different features; prepare the store with the biopercept and the "
            "settings that the model was trained with"
        )
    if checkpoint.normalisation.is_transductive:
        raise SettingsError(
            f"the model {folder} scales by whole recordings (normalisation recording), and a person's later windows "
            "lie in the recordings that it would adapt to; start from a model with another normalisation"
        )


@dataclass(frozen=True, eq=False)
class AdaptedOnStudy:
    """A network adapted to one subject, with the batches of the study it is asked about.

    Attributes
    ----------
    adapted : Adapted
    task : Task
    source : TokenSource
    population : Population
        Of the starting model, by which the batches are scaled.
    rows : int64 array
        Windows it was adapted to.
    n_parameters : int
        Numbers that the adaptation learnt; 0 where it fell back to its start.
    """

    adapted: Adapted
    task: Task
    source: TokenSource
    population: Population
    rows: IntArray
    n_parameters: int

    @property
    def fell_back(self) -> bool:
        """Return whether the starting model was kept."""
        return self.adapted.fell_back

    @property
    def operations_per_window(self) -> int:
        """Return the multiply-adds of one window."""
        return operations_per_window(self.adapted.network, self.source, self.rows)

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes)."""
        return predict_windows(self.adapted.network, (self.task,), self.source, rows)[self.task.name]


@dataclass(frozen=True, eq=False)
class AdaptingFitter:
    """Fits a request by adapting a saved model to its windows; scaling and sensors are the model's own.

    Attributes
    ----------
    checkpoint : Checkpoint
    settings : PersonalisationSettings
    """

    checkpoint: Checkpoint
    settings: PersonalisationSettings

    def __call__(self, request: FitRequest) -> Fitted:
        """Return the model adapted to the request's windows."""
        source = TokenSource(request.inputs, self.checkpoint.population, self.checkpoint.tokens, request.engine.device)
        adapted = adapt_checkpoint(
            self.checkpoint,
            source,
            request.inputs.windows,
            request.training,
            request.validation,
            settings=self.settings,
            engine=request.engine,
            seed=request.seed,
        )
        n = 0 if adapted.fell_back else n_learnt(adapted, self.settings)
        return AdaptedOnStudy(
            adapted, request.inputs.windows.only.task, source, self.checkpoint.population, request.fitting, n
        )


def adapt_checkpoint(
    checkpoint: Checkpoint,
    source: TokenSource,
    windows: WindowTable,
    fitting: IntArray,
    checking: IntArray,
    *,
    settings: PersonalisationSettings,
    engine: Engine,
    seed: int,
) -> Adapted:
    """Return a saved model adapted by ``settings.method``; smoothing and clipping are those it was trained with."""
    trained = checkpoint.training.get("settings", {})
    return adapt(
        checkpoint.network,
        source,
        windows,
        fitting,
        checking,
        method=settings.method,
        settings=settings,
        label_smoothing=float(trained.get("label_smoothing", 0.0)),
        gradient_clip=float(trained.get("gradient_clip", 1.0)),
        engine=engine,
        seed=seed,
    )


def n_learnt(adapted: Adapted, settings: PersonalisationSettings) -> int:
    """Return how many numbers the method learns."""
    import torch
    from torch import nn

    network = adapted.network
    if settings.method == LOW_RANK:
        generator = torch.Generator()
        layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
        updates = [LowRankUpdate(x.out_features, x.in_features, settings.rank, generator) for x in layers]
        n = sum(parameter.numel() for update in updates for parameter in update.parameters())
        return n + int(network.get_submodule("heads").get_parameter("0.bias").numel())
    part = network.get_submodule("heads") if settings.method == HEAD else network
    return sum(parameter.numel() for parameter in part.parameters())
