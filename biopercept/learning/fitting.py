"""The one interface that every model is fitted through: the Perceiver, its rivals and the probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.learning.engine import Engine
from biopercept.learning.inputs import TokenSource, WindowInputs
from biopercept.learning.training import (
    EpochReport,
    FittedPerceiver,
    TrainingSettings,
    fit_perceiver,
    predict_probabilities,
)
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.tokens import TokenSettings


@dataclass(frozen=True)
class FitSettings:
    """What is read, the network, and how it is fitted; models take what concerns them."""

    tokens: TokenSettings = field(default_factory=TokenSettings)
    model: PerceiverSettings = field(default_factory=PerceiverSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


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
    """

    inputs: WindowInputs
    training: IntArray
    validation: IntArray
    settings: FitSettings
    engine: Engine
    seed: int
    on_epoch: EpochReport | None = None

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

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes); rows sum to 1."""
        ...


Fitter = Callable[[FitRequest], Fitted]


@dataclass(frozen=True, eq=False)
class PerceiverOnStudy:
    """A fitted Perceiver with the batches of the study it is asked about."""

    fitted: FittedPerceiver
    source: TokenSource

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers."""
        return self.fitted.n_parameters

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes)."""
        return predict_probabilities(self.fitted.network, self.source, rows)


def fit_perceiver_io(request: FitRequest) -> PerceiverOnStudy:
    """Return a Perceiver IO fitted as the request says.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """
    fitted = fit_perceiver(
        request.inputs,
        request.training,
        request.validation,
        tokens=request.settings.tokens,
        model=request.settings.model,
        settings=request.settings.training,
        engine=request.engine,
        seed=request.seed,
        on_epoch=request.on_epoch,
    )
    source = TokenSource(request.inputs, fitted.population, request.settings.tokens, request.engine.device)
    return PerceiverOnStudy(fitted, source)
