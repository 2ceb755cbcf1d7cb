"""A network of one subject alone: the ordinary fit, with enough steps for few windows, that sees its windows only."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from biopercept.learning.engine import Engine
from biopercept.learning.fitting import FitRequest, FitSettings, NetworkOnStudy, fit_perceiver_io
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.training import EpochReport
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray
from biopercept.personalising.visible import visible_inputs


def enough_steps(training: TrainingSettings, n_windows: int, n_steps: int) -> TrainingSettings:
    """Return the settings with as many epochs as ``n_steps`` need; the patience grows in proportion.

    An epoch over the few windows of one person is a step or two: as many epochs as for a study would hardly begin.

    >>> enough_steps(TrainingSettings(n_epochs=16, batch_size=64, patience=6), 100, 200).n_epochs
    100
    """
    n_epochs = max(training.n_epochs, math.ceil(n_steps / max(1, math.ceil(n_windows / training.batch_size))))
    patience = max(training.patience, math.ceil(training.patience * n_epochs / training.n_epochs))
    return replace(training, n_epochs=n_epochs, patience=patience)


def fit_scratch(
    inputs: WindowInputs,
    fitting: IntArray,
    checking: IntArray,
    settings: FitSettings,
    n_steps: int,
    *,
    engine: Engine,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> NetworkOnStudy:
    """Return a network fitted from new weights on one subject's windows.

    Parameters
    ----------
    inputs : WindowInputs
    fitting, checking : int64 arrays
        Rows of the table, fitted on and checked on to stop early; all of one subject. ``checking`` may be empty.
        The population part of the scaling is that of these windows.
    settings : FitSettings
        ``start_from`` and ``pretraining`` are not used.
    n_steps : int
        Steps, at least.
    engine : Engine
    seed : int
    on_epoch : callable, optional

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """
    training = enough_steps(settings.training, len(fitting), n_steps)
    own = replace(settings, training=training, start_from="", pretraining=None)
    seen = visible_inputs(inputs, np.concatenate([fitting, checking]))
    return fit_perceiver_io(FitRequest(seen, fitting, checking, own, engine, seed, on_epoch))
