"""What is dropped at random in training: elements of an array, tokens, channels, segments of time, and whole sensors.

A sensor is dropped with everything that is computed from it: its raw patches, its derived series
and its feature group; otherwise the heart rate would betray the hidden electrocardiogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biopercept.modalities import MODALITIES
from biopercept.model.settings import TokenDropout

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


@dataclass(frozen=True)
class Draw:
    """One draw that a network asks for: events of a probability, or (None) numbers uniform in [0, 1)."""

    shape: tuple[int, ...]
    probability: float | None

    def take(self, device: torch.device, generator: torch.Generator | None) -> Tensor:
        """Return the draw from a generator: bool events, or float32 numbers."""
        if self.probability is None:
            return random_uniform(self.shape, device, generator)
        return random_hits(self.shape, self.probability, device, generator)[0]


class ListedDraws(torch.Generator):
    """Stands in for a generator: notes what a network asks for, and gives out what was drawn before.

    A network that runs for several sets of weights at once (``torch.func.vmap``) cannot draw from a generator of each
    set while it runs; its draws are made beforehand and handed in, in the order in which they are taken. Without
    them it only notes, and gives nothing but zeros.
    """

    def __new__(cls, given: Sequence[Tensor] | None = None) -> ListedDraws:
        """Make the generator that this stands in for; it is never drawn from."""
        return super().__new__(cls)

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        self.noted: list[Draw] = []
        self._given = given

    def next(self, draw: Draw, device: torch.device) -> Tensor:
        """Return the next draw, which the network wants as ``draw`` says."""
        self.noted.append(draw)
        if self._given is not None:
            return self._given[len(self.noted) - 1]
        return torch.zeros(draw.shape, dtype=torch.float32 if draw.probability is None else torch.bool, device=device)


def random_uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return numbers uniform in [0, 1), float32 of ``shape``."""
    if isinstance(generator, ListedDraws):
        return generator.next(Draw(shape, None), device)
    return torch.rand(shape, device=device, generator=generator)


def random_hits(
    shape: tuple[int, ...], probability: float, device: torch.device, generator: torch.Generator | None
) -> tuple[Tensor, float]:
    """Return independent random events of ``shape`` and their exact probability, ``probability`` in steps of 1/256.

    One random byte decides each event: several times quicker on a CPU than a random float each.
    """
    if isinstance(generator, ListedDraws):
        return generator.next(Draw(shape, probability), device), round(256 * probability) / 256
    n_events = math.prod(shape)
    words = torch.empty((n_events + 7) // 8, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)  # the default range would leave one bit in 64 unset
    threshold = round(256 * probability)
    return (words.view(torch.uint8)[:n_events] < threshold).view(shape), threshold / 256


def drop(values: Tensor, probability: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Return ``values`` with elements zeroed at random and the rest scaled up, as dropout does.

    The probability is rounded to a multiple of 1/256. The generator lives on the device of ``values``; None: torch's
    own.
    """
    if not training or probability == 0.0:
        return values
    hits, chance = random_hits(tuple(values.shape), probability, values.device, generator)
    return values * (~hits).to(values.dtype).mul_(1.0 / (1.0 - chance))


def hide_keys(
    n_queries: int, tokens: Tensor, mask: Tensor | None, probability: float, generator: torch.Generator | None
) -> Tensor:
    """Return which tokens (B, N, C) each query may read when some are hidden from it at random, (B, L, N).

    Hiding keys before the softmax is the attention dropout used here: what is left still sums to one, and the fused
    kernel can be used in training. Heads share the draw. A query from which all real tokens would be hidden keeps them
    all.

    References
    ----------
    B. Li et al., "DropKey for Vision Transformer", CVPR 2023, doi:10.1109/CVPR52729.2023.02174.
    """
    shape = (len(tokens), n_queries, tokens.shape[1])
    hidden, _ = random_hits(shape, probability, tokens.device, generator)
    kept = ~hidden if mask is None else mask[:, None] & ~hidden
    is_left = kept.any(-1, keepdim=True)
    return kept | (~is_left if mask is None else ~is_left & mask[:, None])


def sensors_of(modalities: Sequence[tuple[str, str]], groups: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which sensor each signal, given as (modality, source), and each feature group belongs to.

    The source is the measured modality that a signal came from, empty where not said. A group without a known source is
    a sensor of its own. Of several possible sources the first that is present counts: measured, named as a source, or
    the only possible source of something present.

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
    """Where each of N tokens comes from: its sensor and channel (N,), and seconds in the window (B, N), NaN without.

    A channel is a channel of a signal, or a feature group.
    """

    n_sensors: int
    n_channels: int
    sensor: Tensor
    channel: Tensor
    seconds: Tensor


def drop_tokens(
    mask: Tensor,
    layout: TokenLayout,
    chances: TokenDropout,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mask (B, N) with tokens hidden at random; a sample that had tokens keeps at least one."""

    def uniform(*shape: int) -> Tensor:
        return random_uniform((len(mask), *shape), mask.device, generator)

    mask = mask & ~_hidden_sensors(mask, layout, chances.modality, uniform)[:, layout.sensor]
    hidden = (uniform(layout.n_channels) < chances.channel)[:, layout.channel]
    hidden |= _hidden_segments(mask, layout, chances.time, uniform)
    hidden |= uniform(mask.shape[1]) < chances.token
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


def _hidden_segments(mask: Tensor, layout: TokenLayout, fraction: float, uniform: Callable[..., Tensor]) -> Tensor:
    """Return which tokens lie in their sensor's hidden segment (B, N); a segment may wrap round the window's end."""
    start = uniform(layout.n_sensors)[:, layout.sensor]
    length = 2.0 * fraction * uniform(layout.n_sensors)[:, layout.sensor]
    last = layout.seconds.masked_fill(~mask | layout.seconds.isnan(), 0.0).amax(1, keepdim=True)
    position = layout.seconds / last.clamp_min(1e-6)
    return (position - start) % 1.0 < length  # NaN (no time) is in no segment
