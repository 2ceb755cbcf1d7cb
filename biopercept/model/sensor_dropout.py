"""Hiding sensors, channels, stretches and tokens in training, so that the model can do without them.

A sensor is hidden with everything that is computed from it: its raw patches, its derived series
and its feature group; otherwise the heart rate would betray the hidden electrocardiogram.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biopercept.modalities import MODALITIES
from biopercept.model.dropout import random_uniform

FEATURE_SOURCES: dict[str, tuple[str, ...]] = {
    "heart": ("ecg", "bvp", "ibi", "hr"),
    "eda": ("eda",),
    "resp": ("resp",),
    "temp": ("temp",),
    "motion": ("acc",),
    "emg": ("emg",),
    "eeg": ("eeg",),
}
"""Measured modalities that a feature group can come from, the preferred first."""

DEVICE_SOURCES: dict[str, tuple[str, ...]] = {"ibi": ("bvp", "ecg"), "hr": ("bvp", "ecg", "spo2")}
"""Modalities that a device computes itself, and the sensors it does that with: hidden together if both are present."""


def sensors_of(modalities: Sequence[tuple[str, str]], groups: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which sensor each signal and each feature group belongs to.

    Parameters
    ----------
    modalities : sequence of (modality, source)
        Of each signal; the source is the measured modality it came from, empty where not said.
    groups : sequence of str
        Names of the feature groups.

    Returns
    -------
    signal_sensors, group_sensors : tuple of str
        Names of measured modalities (a group without a known source is a sensor of its own). Of several
        possible sources the first that is present counts: measured, named as a source, or the
        only possible source of something present.

    Examples
    --------
    >>> sensors_of([("bvp", ""), ("heart_rate", ""), ("tonic", "")], ["heart", "motion"])
    (('bvp', 'bvp', 'eda'), ('bvp', 'acc'))
    """
    possible = [_possible(source or modality) for modality, source in modalities]
    possible += [FEATURE_SOURCES.get(group, (f"features {group}",)) for group in groups]
    present = {sources[0] for sources in possible if len(sources) == 1}
    present |= {modality for modality, _ in modalities if not MODALITIES[modality].is_derived}
    chosen = [next((s for s in sources if s in present), sources[0]) for sources in possible]
    # Computed from what a device computed itself (features of a device's heart rate): the device's sensor.
    chosen = [next((s for s in DEVICE_SOURCES.get(name, ()) if s in present), name) for name in chosen]
    return tuple(chosen[: len(modalities)]), tuple(chosen[len(modalities) :])


def _possible(modality: str) -> tuple[str, ...]:
    if modality in DEVICE_SOURCES:
        return (*DEVICE_SOURCES[modality], modality)
    return MODALITIES[modality].sources or (modality,)


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Where each of N tokens comes from.

    Attributes
    ----------
    n_sensors, n_channels : int
        A channel is a channel of a signal, or a feature group.
    sensor, channel : int64 Tensor (N,)
    seconds : float Tensor (B, N)
        Time within the window; NaN for tokens without a time.
    """

    n_sensors: int
    n_channels: int
    sensor: Tensor
    channel: Tensor
    seconds: Tensor


def drop_tokens(
    mask: Tensor,
    layout: TokenLayout,
    *,
    modality_dropout: float,
    channel_dropout: float,
    time_dropout: float,
    token_dropout: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mask with tokens hidden at random; a sample that had tokens keeps at least one.

    Parameters
    ----------
    mask : bool Tensor (B, N), True = real
    layout : TokenLayout
    modality_dropout, channel_dropout, time_dropout, token_dropout : float
        As in ``TokenSettings``.
    generator : torch.Generator or None
        Source of all draws, on the mask's device; None: torch's global one.

    Returns
    -------
    bool Tensor (B, N); never True where ``mask`` is False.
    """

    def uniform(*shape: int) -> Tensor:
        return random_uniform((len(mask), *shape), mask.device, generator)

    mask = mask & ~_hidden_sensors(mask, layout, modality_dropout, uniform)[:, layout.sensor]
    hidden = (uniform(layout.n_channels) < channel_dropout)[:, layout.channel]
    hidden |= _hidden_stretches(mask, layout, time_dropout, uniform)
    hidden |= uniform(mask.shape[1]) < token_dropout
    kept = mask & ~hidden
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def _hidden_sensors(mask: Tensor, layout: TokenLayout, chance: float, uniform: Callable[..., Tensor]) -> Tensor:
    """Return which sensors of which sample go (B, S): none, or 1 to all but one of those present."""
    counts = mask.new_zeros((len(mask), layout.n_sensors), dtype=torch.float32)
    is_present = counts.index_add_(1, layout.sensor, mask.float()) > 0
    n_present = is_present.sum(1, keepdim=True)
    n_hidden = torch.where(uniform(1) < chance, 1 + (uniform(1) * (n_present - 1)).floor(), 0.0)
    n_hidden = torch.minimum(n_hidden, n_present - 1.0)
    order = uniform(layout.n_sensors).masked_fill(~is_present, 2.0).argsort(1).argsort(1)
    return order < n_hidden


def _hidden_stretches(mask: Tensor, layout: TokenLayout, share: float, uniform: Callable[..., Tensor]) -> Tensor:
    """Return which tokens lie in their sensor's hidden stretch (B, N); a stretch may wrap round the window's end."""
    start = uniform(layout.n_sensors)[:, layout.sensor]
    length = 2.0 * share * uniform(layout.n_sensors)[:, layout.sensor]
    last = layout.seconds.masked_fill(~mask | layout.seconds.isnan(), 0.0).amax(1, keepdim=True)
    place = layout.seconds / last.clamp_min(1e-6)
    return (place - start) % 1.0 < length  # NaN (no time) is in no stretch
