"""Branches beside the network: simpler models that are learnt for themselves and averaged with it.

With few people a linear model of the features, and a late fusion by convolutions (a baseline of its own, too), err
differently than the Perceiver; the mean of all was better than each (docs/experiments/tuning.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import hide_tokens

LINEAR, CONV = "linear", "conv"
"""Names of the branches beside the network; before a task's name, with a slash, their outputs."""

KERNEL, STRIDE = 7, 4
MOST_LAYERS = 3


class Sizes(Protocol):
    """What a two-layer branch reads of the network's settings (``PerceiverSettings``)."""

    @property
    def width(self) -> int:
        """Width of the second layer."""

    @property
    def widening(self) -> int:
        """Width of the first, in multiples of the second."""

    @property
    def feedforward_dropout(self) -> float:
        """Chance that an element of the first layer is dropped."""

    @property
    def head_dropout(self) -> float:
        """Chance that an element of the second layer is dropped."""


class FeatureCode(nn.Module):
    """One vector from all feature groups (name to number of features): maps of values and which are real, summed."""

    def __init__(self, width: int, groups: Mapping[str, int]) -> None:
        super().__init__()
        self.width = width
        self.groups = nn.ModuleDict({name: nn.Linear(2 * n, width) for name, n in groups.items()})

    def forward(self, features: tuple[FeatureGroup, ...], n_samples: int, like: Tensor) -> Tensor:
        """Return (n_samples, width), of dtype and device of ``like``; a group without a real feature adds exactly 0."""
        total = like.new_zeros(n_samples, self.width)
        for group in features:
            values = group.values.masked_fill(~group.is_real, 0.0)
            code = self.groups[group.name](torch.cat((values, group.is_real.to(values.dtype)), -1))
            total = total + code.masked_fill(~group.is_real.any(-1, keepdim=True), 0.0)
        return total


class SignalNetwork(nn.Module):
    """Strided convolutions over one channel's wave: one layer for each factor of four in a patch, at most three.

    The last layer has ``width`` channels; each layer before has half as many as the next. A convolution of few channels
    is quicker as a product of overlapping stretches and its weights, which sums the same numbers.
    """

    def __init__(self, width: int, patch_samples: int) -> None:
        super().__init__()
        n_layers = next(n for n in range(1, MOST_LAYERS + 1) if n == MOST_LAYERS or STRIDE ** (n + 1) > patch_samples)
        widths = [1, *(max(1, width >> (n_layers - 1 - n)) for n in range(n_layers))]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, KERNEL, STRIDE, KERNEL // 2) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in widths[1:])

    def forward(self, sensor: SensorPatches) -> tuple[Tensor, Tensor]:
        """Return the sum over real positions of all channels (B, width) and their number (B,)."""
        b, c, p, length = sensor.patches.shape
        is_real = sensor.is_real[..., None].expand(-1, -1, -1, length).reshape(b * c, p * length, 1)
        x = sensor.patches.reshape(b * c, p * length, 1).masked_fill(~is_real, 0.0)
        for layer, norm in zip(cast(Iterable[nn.Conv1d], self.layers), self.norms, strict=True):
            stretches = F.pad(x, (0, 0, KERNEL // 2, KERNEL // 2)).unfold(1, KERNEL, STRIDE)  # (B C, T, channels, K)
            x = F.gelu(norm(F.linear(stretches.flatten(2), layer.weight.flatten(1), layer.bias)))
            is_real = is_real[:, ::STRIDE]
            x = x.masked_fill(~is_real, 0.0)
        return x.sum(1).view(b, c, -1).sum(1), is_real.sum((1, 2)).view(b, c).sum(1)


class LateFusion(nn.Module):
    """A convolutional network for each modality, a code of the features, and a two-layer network on top of them.

    References
    ----------
    After J. Ngiam et al., "Multimodal Deep Learning", ICML 2011 (a network per modality, joined at the top), with the
    plain convolutional networks of Z. Wang, W. Yan and T. Oates, "Time Series Classification from Scratch", IJCNN 2017,
    doi:10.1109/IJCNN.2017.7966039 (convolutions, then the mean over time). Different here: strides instead of full
    resolution, so that a 128 Hz wave is affordable; layer norm over channels instead of batch norm, so that batch-mates
    and padding do not count; channels of one modality (leads, electrodes) pass the same network and are averaged; the
    mean runs over real time only, and a missing modality adds exactly nothing on top. Feature groups join at the top.
    """

    def __init__(
        self, settings: Sizes, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings, self.token_settings = settings, token_settings
        read = token_settings.lengths_read(vocabulary)
        width = settings.width
        self.networks = nn.ModuleDict({m: SignalNetwork(width, length) for m, length in read.items()})
        # A linear layer on the joined vectors, written as one part per modality: a missing one adds nothing.
        self.joints = nn.ModuleDict({m: nn.Linear(width, settings.widening * width) for m in read})
        groups = vocabulary.feature_groups if token_settings.features else {}
        self.features = FeatureCode(settings.widening * width, groups)
        self.top = nn.Linear(settings.widening * width, width)
        self.head = nn.Linear(width, n_outputs)
        initialise(self)

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read: signals with a network of their own, and features."""
        sensors = tuple(s for s in inputs.sensors if s.modality in self.networks)
        return TokenInputs(sensors, inputs.features if self.token_settings.features else ())

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        kept = hide_tokens(self.tokens_read(inputs), self.token_settings.dropout, self.training, generator)
        joined = self.features(kept.features, inputs.n_samples, self.head.weight)
        for modality in dict.fromkeys(s.modality for s in kept.sensors):
            joined = joined + self._part(modality, kept.sensors)
        x = F.gelu(self.top(drop(F.gelu(joined), self.settings.feedforward_dropout, self.training, generator)))
        output: Tensor = self.head(drop(x, self.settings.head_dropout, self.training, generator))
        return output

    def _part(self, modality: str, sensors: tuple[SensorPatches, ...]) -> Tensor:
        """Return a modality's part of the first layer on top (B, widening * width); 0 where it is missing."""
        outputs = [self.networks[modality](s) for s in sensors if s.modality == modality]
        total = torch.stack([x for x, _ in outputs]).sum(0)
        n_real = torch.stack([n for _, n in outputs]).sum(0)[:, None]
        part: Tensor = self.joints[modality](total / n_real.clamp(min=1))
        return part.masked_fill(n_real == 0, 0.0)


class LinearBranch(nn.Module):
    """A linear map of the features to the output of every task, from zero: beside the network, not through it.

    A missing feature counts as 0, its mean.

    References
    ----------
    H.-T. Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, doi:10.1145/2988450.2988454. There
    both parts are learnt by their sum; here each has a loss for itself, so that they err differently
    (docs/experiments/tuning.md).
    """

    def __init__(self, groups: Mapping[str, int], tasks: Mapping[str, int]) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        n_outputs = sum(tasks.values())
        self.groups = nn.ModuleDict({name: nn.Linear(n, n_outputs, bias=False) for name, n in groups.items()})
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        for weights in self.groups.parameters():
            nn.init.zeros_(weights)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the output (B, n_outputs) of every task; nothing is drawn."""
        total: Tensor = self.bias.expand(inputs.n_samples, -1)
        for group in inputs.features:
            total = total + self.groups[group.name](group.values.masked_fill(~group.is_real, 0.0))
        return dict(zip(self._tasks, torch.split(total, list(self._tasks.values()), -1), strict=True))


class ConvBranch(nn.Module):
    """Late fusion of signals and features (:class:`LateFusion`): plain means over time, which the Perceiver lacks.

    In training whole sensors are hidden from it as from the network, by draws of its own.
    """

    def __init__(
        self, vocabulary: TokenVocabulary, tasks: Mapping[str, int], settings: Sizes, tokens: TokenSettings
    ) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        self.fusion = LateFusion(settings, tokens, vocabulary, sum(tasks.values()))

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the output (B, n_outputs) of every task."""
        outputs = self.fusion(inputs, generator)
        return dict(zip(self._tasks, torch.split(outputs, list(self._tasks.values()), -1), strict=True))
