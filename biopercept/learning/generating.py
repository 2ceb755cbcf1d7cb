"""Asking a pretrained network for patches of signals that it is not shown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.queries import PatchQueries, queries_of
from biopercept.model.tokens import SensorPatches, TokenInputs


def told_patches(
    network: BiosignalPerceiver, shown: TokenInputs, wanted: Sequence[SensorPatches]
) -> tuple[Tensor, ...]:
    """Return what the network says of every patch of some signals, (B, C, P, L) each, in normalised units.

    Parameters
    ----------
    network : BiosignalPerceiver
        Left in evaluation mode.
    shown : TokenInputs
        What it reads of B windows; at least one token in each.
    wanted : sequence of SensorPatches
        Where and when patches are wanted; what was measured in them is not read.

    Raises
    ------
    CheckpointError
        Where the network's vocabulary lacks a signal.
    """
    network.eval()
    with torch.inference_mode():
        latents = network.encode(shown)
        told = network.read_out(latents, patches=[_queries_of_all(sensor) for sensor in wanted]).patches
    return tuple(answer.float().reshape(*sensor.is_real.shape, -1) for answer, sensor in zip(told, wanted, strict=True))


def _queries_of_all(sensor: SensorPatches) -> PatchQueries:
    """Return queries for every patch, real or not, so that what is real cannot change an answer."""
    return queries_of(sensor, is_asked=torch.ones_like(sensor.is_real.flatten(1)))
