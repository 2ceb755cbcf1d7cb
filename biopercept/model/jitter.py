"""Augmentation in training: the same body with another scale, drawn for every window, signal and feature group.

People differ in the size and level of what a sensor shows more than states do, also after normalisation. A network that
has seen each window stretched and shifted a little rests less on exact levels.

References
----------
Scaling and shifting against other augmentations on few subjects: T. T. Um et al., "Data augmentation of wearable sensor
data for Parkinson's disease monitoring using convolutional neural networks", ICMI 2017, doi:10.1145/3136755.3136817.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from biopercept.model.dropout import random_uniform
from biopercept.model.token_inputs import TokenInputs

_UNIFORM_REACH = math.sqrt(3.0)  # a uniform variable within +-this has unit variance


def jittered(inputs: TokenInputs, gain: float, level: float, generator: torch.Generator | None) -> TokenInputs:
    """Return the inputs, each signal and feature group stretched and shifted at random.

    Parameters
    ----------
    inputs : TokenInputs
    gain : float
        Standard deviation of the logarithm of the factor, one for each window and signal or feature group.
    level : float
        Standard deviation of the shift in normalised units, one for each window and signal, or each feature.
    generator : torch.Generator or None
        Source of all draws, on the inputs' device; None: torch's global one.
    """
    if gain == 0.0 and level == 0.0:
        return inputs

    def spread(values: Tensor, *axes: int) -> Tensor:
        """Return draws of unit variance, one for each window and place along ``axes``."""
        shape = tuple(n if axis == 0 or axis in axes else 1 for axis, n in enumerate(values.shape))
        return _UNIFORM_REACH * (2.0 * random_uniform(shape, values.device, generator) - 1.0)

    sensors = tuple(
        replace(s, patches=s.patches * (gain * spread(s.patches)).exp() + level * spread(s.patches))
        for s in inputs.sensors
    )
    features = tuple(
        replace(g, values=g.values * (gain * spread(g.values)).exp() + level * spread(g.values, 1))
        for g in inputs.features
    )
    return TokenInputs(sensors, features)
