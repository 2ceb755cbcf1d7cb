"""Early fusion: patches and features of every sensor become tokens of one array, with one mask.

This is the one place where sensors meet. A token is the sum of linear codes of what was
measured (normalised shape, mean, spread, quality), when (seconds within the window), where
(electrode or channel), by what (modality) and how fast (sampling rate). A missing sensor is
absent tokens and nothing else: leaving it out equals masking it. Absolute or session time has
no field here, so it cannot reach the model.

The samples of a patch become a vector by one linear map, or by two convolutions. Both read the normalised shape of a
patch and have no offset, so that a patch in which nothing was measured (all zero) becomes zero. What a network is to
predict (patches of signals, labels) does not depend on the choice.

References
----------
A few small convolutions in place of the one large linear map of patches: T. Xiao et al., "Early convolutions help
transformers see better", NeurIPS 2021, doi:10.48550/arXiv.2106.14881. There five layers with batch norm read the whole
picture; here two layers without it read each patch alone, so that a patch never knows of its neighbours (gaps stay
gaps, and causal masks stay causal).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.errors import CheckpointError, SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.dropout import TokenLayout, drop_tokens, sensors_of
from biopercept.model.encodings import ChannelEncoding, ModalityEncoding, RateEncoding, time_code
from biopercept.model.layers import _TRUNCATED_STD, _truncated_normal
from biopercept.model.settings import PATCH_EMBEDDINGS, TokenDropout, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary

_N_PLACES = 16  # at most: what the first convolution leaves of a patch, of any length
_N_FILTERS = 16


class EarlyFusion(nn.Module):
    """Make one array of tokens and one mask from everything that was measured.

    Raises SettingsError where the settings leave nothing of the vocabulary to read.
    """

    def __init__(self, width: int, settings: TokenSettings, vocabulary: TokenVocabulary) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        read = settings.lengths_read(vocabulary)
        groups = dict(vocabulary.feature_groups) if settings.features else {}
        if not read and not groups:
            signals, named = ", ".join(vocabulary.patch_samples), ", ".join(vocabulary.feature_groups)
            raise SettingsError(
                f"The token settings leave nothing to read of the signals ({signals}) and the feature groups "
                f"({named}); switch raw, derived or features on."
            )
        embedding = settings.patch_embedding
        self.shapes = nn.ModuleDict({m: patch_embedding(embedding, length, width) for m, length in read.items()})
        self.amplitudes = nn.ModuleDict({m: nn.Linear(3, width) for m in read})
        self.features = nn.ModuleDict({group: nn.Linear(2 * n, width) for group, n in groups.items()})
        if read:
            self.time = time_encoding(settings, width)
            self.channel = ChannelEncoding(width, settings.position_bands, vocabulary.n_channel_codes)
            self.modality = ModalityEncoding(width)
            self.rate = RateEncoding(width)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens (B, N, width), finite everywhere, and the mask (B, N) of those that are real.

        What the settings do not read is left aside; the generator gives the dropout draws in training.

        Raises CheckpointError where a modality, a patch length or a feature group is not in the vocabulary. Raises
        ValueError where the inputs hold nothing that the settings read.
        """
        read = self.settings.part_read(inputs)
        self._check(read)
        tokens = [self._patch_tokens(s) for s in read.sensors] + [self._feature_token(g) for g in read.features]
        mask = torch.cat(read.masks(), 1)
        if self.training and self.settings.dropout != TokenDropout():
            mask = drop_tokens(mask, token_layout(read, mask), self.settings.dropout, generator)
        return torch.cat(tokens, 1), mask

    def _patch_tokens(self, sensor: SensorPatches) -> Tensor:
        """Return (B, C * P, width), finite whatever a masked place holds."""
        absent = ~sensor.is_real[..., None]  # (B, C, P, 1)
        # One pass gives the normalised shape, the mean and 1 / sqrt(variance + floor^2).
        floor = self.settings.shape_floor**2
        shape, mean, steepness = torch.native_layer_norm(sensor.patches, sensor.patches.shape[-1:], None, None, floor)
        if sensor.patches.requires_grad:  # an explanation: the pass above has a gradient for its first result alone
            mean = sensor.patches.mean(-1, keepdim=True)
            steepness = (sensor.patches.var(-1, correction=0, keepdim=True) + floor).rsqrt()
        shape = shape.masked_fill_(absent, 0.0)
        amplitude = torch.cat((mean, -steepness.log(), sensor.quality[..., None]), -1)
        rate = sensor.rate.masked_fill(~sensor.is_real.any(2).any(1), 1.0)  # (B,)
        seconds = sensor.times.masked_fill(~sensor.is_real.any(1), 0.0)
        channels = sensor.channels.masked_fill(~sensor.is_real.any(2), 0)
        patch_rate = torch.full_like(rate, 1.0 / MODALITIES[sensor.modality].patch_seconds)
        time = self.time(seconds, patch_rate)  # (B, P, D)
        channel = self.channel(sensor.positions, channels)  # (B, C, D)
        signal = self.modality(sensor.modality) + self.rate(rate)  # (B, D)
        context = time[:, None] + (channel + signal[:, None])[:, :, None]  # (B, C, P, D)
        measured = self.shapes[sensor.modality](shape)
        measured = measured + self.amplitudes[sensor.modality](amplitude.masked_fill_(absent, 0.0))
        tokens: Tensor = (measured + context).flatten(1, 2)
        return tokens

    def _feature_token(self, group: FeatureGroup) -> Tensor:
        """Return (B, 1, width)."""
        values = group.values.masked_fill(~group.is_real, 0.0)
        token: Tensor = self.features[group.name](torch.cat((values, group.is_real.to(values.dtype)), -1))
        return token[:, None]

    def _check(self, inputs: TokenInputs) -> None:
        if not inputs.sensors and not inputs.features:
            raise ValueError("The inputs hold no signal and no features that the token settings read.")
        for sensor in inputs.sensors:
            length = self.vocabulary.patch_samples.get(sensor.modality)
            if sensor.patches.shape[-1] != length:
                known = ", ".join(f"{m} ({n} samples)" for m, n in self.vocabulary.patch_samples.items())
                raise CheckpointError(
                    f"The model was given {sensor.modality} patches of {sensor.patches.shape[-1]} samples; it reads "
                    f"{known}. Leave the signal out or cut it to the patch length the model was made for."
                )
        for group in inputs.features:
            if self.vocabulary.feature_groups.get(group.name) != group.values.shape[-1]:
                known = ", ".join(f"{g} ({n})" for g, n in self.vocabulary.feature_groups.items())
                raise CheckpointError(
                    f"The model was given {group.values.shape[-1]} features of the group {group.name}; it reads "
                    f"{known}. Leave the group out or compute the features the model was made for."
                )


def hide_tokens(
    inputs: TokenInputs, chances: TokenDropout, training: bool, generator: torch.Generator | None = None
) -> TokenInputs:
    """Return the inputs with tokens hidden at random by :func:`drop_tokens`, themselves where not ``training``."""
    if not training or not (masks := inputs.masks()):
        return inputs
    mask = torch.cat(masks, 1)
    return inputs.with_mask(drop_tokens(mask, token_layout(inputs, mask), chances, generator))


def token_layout(inputs: TokenInputs, mask: Tensor) -> TokenLayout:
    """Return where each token of ``mask`` (B, N) comes from: signals, then feature groups."""
    of_signals, of_groups = sensors_of(
        [(s.modality, s.source) for s in inputs.sensors], [g.name for g in inputs.features]
    )
    names = tuple(dict.fromkeys(of_signals + of_groups))
    sensor: list[int] = []
    channel: list[int] = []
    seconds: list[Tensor] = []
    n_channels = 0
    for signal, name in zip(inputs.sensors, of_signals, strict=True):
        _, c, p = signal.is_real.shape
        sensor += [names.index(name)] * (c * p)
        channel += [n_channels + number for number in range(c) for _ in range(p)]
        seconds.append(signal.times[:, None].expand(-1, c, -1).flatten(1))
        n_channels += c
    for name in of_groups:
        sensor.append(names.index(name))
        channel.append(n_channels)
        n_channels += 1
    seconds.append(mask.new_full((len(mask), len(inputs.features)), torch.nan, dtype=torch.float32))
    index = torch.tensor([sensor, channel], device=mask.device)
    return TokenLayout(len(names), n_channels, index[0], index[1], torch.cat(seconds, 1))


class ConvolutionalPatch(nn.Module):
    """A strided convolution of the samples of a patch, GELU, and a convolution over all that is left."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        stride = math.ceil(length / _N_PLACES)
        n_places = math.ceil(length / stride)
        # A filter sees the samples of its own place and of half a place on both sides and is centred on a sample.
        self.filters = nn.Conv1d(1, _N_FILTERS, 2 * stride + 1, stride, padding=stride, bias=False)
        self.gather = nn.Conv1d(_N_FILTERS, width, n_places, bias=False)
        for convolution in (self.filters, self.gather):  # as the linear layers
            fan_in = convolution.weight[0].numel()
            _truncated_normal(convolution.weight, 1.0 / math.sqrt(fan_in) / _TRUNCATED_STD, None)

    def forward(self, shape: Tensor) -> Tensor:
        """Return (B, C, P, width) from patches (B, C, P, length)."""
        filtered = F.gelu(self.filters(shape.flatten(0, 2)[:, None]), approximate="tanh")  # (B C P, 16, places)
        embedded: Tensor = self.gather(filtered)[..., 0].view(*shape.shape[:3], -1)
        return embedded


def time_encoding(settings: TokenSettings, width: int) -> nn.Module:
    """Return the code of time that the settings name, for tokens and for queries alike."""
    return time_code(
        settings.time_code,
        width,
        n_bands=settings.time_bands,
        longest_seconds=settings.longest_seconds,
        highest_hz=settings.highest_hz,
    )


def patch_embedding(kind: str, length: int, width: int) -> nn.Module:
    """Return an embedding by name, from patches (B, C, P, length) to (B, C, P, width).

    Raises SettingsError where the kind is unknown.
    """
    if kind == "linear":
        return nn.Linear(length, width, bias=False)
    if kind == "convolutional":
        return ConvolutionalPatch(length, width)
    raise SettingsError(f"tokens.patch_embedding is {kind!r}; allowed are {', '.join(PATCH_EMBEDDINGS)}")
