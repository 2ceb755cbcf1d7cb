"""The one interface that every model is fitted through: the Perceiver, its rivals and the probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopercept.learning.class_objective import predict_probabilities
from biopercept.learning.engine import Engine, seed_for
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.operations import operations_per_window
from biopercept.learning.pretext import PretrainingSettings
from biopercept.learning.pretraining import pretrained_weights
from biopercept.learning.stacked import FoldFit, fit_stacked
from biopercept.learning.starting import load_start
from biopercept.learning.token_source import TokenSource
from biopercept.learning.training import EpochReport, FittedNetwork, fit_network
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary


@dataclass(frozen=True)
class FitSettings:
    """What is read, the network, and how it is fitted; models take what concerns them.

    Attributes
    ----------
    tokens, model, training
        Settings.
    pretraining : PretrainingSettings or None
        How the network is pretrained, without labels, on each fit's own training subjects; None: not.
    start_from : str
        Folder of a model whose weights a network starts from; empty: from new ones.
    """

    tokens: TokenSettings = field(default_factory=TokenSettings)
    model: PerceiverSettings = field(default_factory=PerceiverSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    pretraining: PretrainingSettings | None = None
    start_from: str = ""


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Everything a model may use to be fitted.

    Attributes
    ----------
    inputs : WindowInputs
        Inputs of all windows of the study; only those of ``training`` and ``validation`` may touch the model.
    training, validation : int64 arrays
        Rows of the window table. A model without early stopping fits on both.
    settings : FitSettings
    engine : Engine
    seed : int
    on_epoch : callable or None
    unlabelled : tuple of str
        More subjects whose signals, and nothing else, pretraining may read.
    """

    inputs: WindowInputs
    training: IntArray
    validation: IntArray
    settings: FitSettings
    engine: Engine
    seed: int
    on_epoch: EpochReport | None = None
    unlabelled: tuple[str, ...] = ()

    @property
    def fitting(self) -> IntArray:
        """Return the rows of training and validation together, in order."""
        return np.sort(np.concatenate([self.training, self.validation]))

    @property
    def fitting_subjects(self) -> tuple[str, ...]:
        """Return the subjects of the fitting rows, sorted."""
        return tuple(sorted({str(s) for s in self.inputs.windows.subject[self.fitting]}))


class Fitted(Protocol):
    """A fitted model."""

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""
        ...

    @property
    def operations_per_window(self) -> int | None:
        """Return the multiply-adds that answering one window takes; None where the model is no network."""
        ...

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes); rows sum to 1.

        Of a regression the number of each, (len(rows), 1); of several tasks their answers side by side.
        """
        ...


Fitter = Callable[[FitRequest], Fitted]


NetworkFactory = Callable[[PerceiverSettings, TokenSettings, TokenVocabulary, int], nn.Module]
"""Makes a network from the model and token settings, what it must be able to read, and the number of classes."""


@dataclass(frozen=True, eq=False)
class NetworkOnStudy:
    """A fitted network with the batches of the study it is asked about.

    Attributes
    ----------
    fitted : FittedNetwork
    source : TokenSource
    rows : int64 array
        Windows it was fitted on.
    """

    fitted: FittedNetwork[nn.Module]
    source: TokenSource
    rows: IntArray

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers; parts for sensors that the study lacks do not count."""
        return self.fitted.n_trained

    @cached_property
    def operations_per_window(self) -> int:
        """Return the multiply-adds of one window, counted on training windows."""
        return operations_per_window(self.fitted.network, self.source, self.rows)

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes)."""
        return predict_probabilities(self.fitted.network, self.source, rows)


@dataclass(frozen=True)
class NetworkFitter:
    """Fits one kind of network by the one training loop, alone or several folds at once.

    Attributes
    ----------
    network : callable
    can_stack : bool
        Whether several can be fitted at once: the network runs under ``torch.func.vmap``.
    """

    network: NetworkFactory
    can_stack: bool = False

    def __call__(self, request: FitRequest) -> NetworkOnStudy:
        """Return the network fitted as the request says."""
        fitted = fit_network(
            request.inputs,
            request.training,
            request.validation,
            self._maker(request.settings),
            tokens=request.settings.tokens,
            settings=request.settings.training,
            engine=request.engine,
            seed=request.seed,
            start_from=starting_weights(request),
            on_epoch=request.on_epoch,
        )
        return _on_study(request, fitted)

    def together(self, requests: Sequence[FitRequest]) -> list[NetworkOnStudy]:
        """Return the networks of several requests, fitted at once; they share inputs, settings and engine."""
        first = requests[0]
        fitted = fit_stacked(
            first.inputs,
            [FoldFit(r.training, r.validation, r.seed, starting_weights(r), r.on_epoch) for r in requests],
            self._maker(first.settings),
            tokens=first.settings.tokens,
            settings=first.settings.training,
            engine=first.engine,
        )
        return [_on_study(request, own) for request, own in zip(requests, fitted, strict=True)]

    def _maker(self, settings: FitSettings) -> Callable[[TokenVocabulary, int], nn.Module]:
        def make(vocabulary: TokenVocabulary, n_classes: int) -> nn.Module:
            return self.network(settings.model, settings.tokens, vocabulary, n_classes)

        return make


def _on_study(request: FitRequest, fitted: FittedNetwork[nn.Module]) -> NetworkOnStudy:
    source = TokenSource(request.inputs, fitted.population, request.settings.tokens, request.engine.device)
    return NetworkOnStudy(fitted, source, request.fitting)


def starting_weights(request: FitRequest) -> dict[str, torch.Tensor] | None:
    """Return the weights that the request's network starts from; None for new ones.

    With ``pretraining`` set they are pretrained here and now on the signals of the training subjects, labelled or not:
    validation and test subjects stay unseen.

    Raises
    ------
    CheckpointError
        Where the model to start from cannot be read.
    """
    settings = request.settings
    start = dict(load_start(Path(settings.start_from)).weights) if settings.start_from else None
    if settings.pretraining is None:
        return start
    return pretrained_weights(
        request.inputs,
        {str(s) for s in request.inputs.windows.subject[request.training]} | set(request.unlabelled),
        tokens=settings.tokens,
        model=settings.model,
        settings=settings.pretraining,
        engine=request.engine,
        seed=seed_for(request.seed, "pretraining"),
        start_from=start,
    )


fit_perceiver_io = NetworkFitter(BiosignalPerceiver, can_stack=True)
