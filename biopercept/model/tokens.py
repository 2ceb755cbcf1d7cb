"""Early fusion: patches and features of every sensor become tokens of one array, with one mask.

This is the one place where sensors meet. A token is the sum of linear codes of what was
measured (normalised shape, mean, spread, quality), when (seconds within the window), where
(electrode or channel), by what (modality) and how fast (sampling rate). A missing sensor is
absent tokens and nothing else: leaving it out equals masking it. Absolute or session time has
no field here, so it cannot reach the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biopercept.errors import CheckpointError, SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.encodings import ChannelEncoding, ModalityEncoding, RateEncoding
from biopercept.model.patch_embeddings import patch_embedding
from biopercept.model.sensor_dropout import TokenLayout, drop_tokens, sensors_of
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.token_settings import TokenSettings

__all__ = [
    "EarlyFusion",
    "FeatureGroup",
    "SensorPatches",
    "TokenInputs",
    "TokenSettings",
    "TokenVocabulary",
]


class EarlyFusion(nn.Module):
    """Make one array of tokens and one mask from everything that was measured.

    Parameters
    ----------
    width : int
        Width of a token.
    settings : TokenSettings
    vocabulary : TokenVocabulary

    Raises
    ------
    SettingsError
        Where the settings leave nothing of the vocabulary to read.
    """

    def __init__(self, width: int, settings: TokenSettings, vocabulary: TokenVocabulary) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        read = {m: length for m, length in vocabulary.patch_samples.items() if settings.reads(m)}
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
            self.time = settings.time_encoding(width)
            self.channel = ChannelEncoding(width, settings.position_bands, vocabulary.n_channel_codes)
            self.modality = ModalityEncoding(width)
            self.rate = RateEncoding(width)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return the tokens and which of them are real.

        Parameters
        ----------
        inputs : TokenInputs
            Any subset of the vocabulary; what the settings do not read is left aside.
        generator : torch.Generator or None
            In training: source of the dropout draws (None: torch's global one).

        Returns
        -------
        tokens : Tensor (B, N, width), finite everywhere
        mask : bool Tensor (B, N), True = real

        Raises
        ------
        CheckpointError
            Where a modality, a patch length or a feature group is not in the vocabulary.
        ValueError
            Where the inputs hold nothing that the settings read.
        """
        sensors = tuple(s for s in inputs.sensors if self.settings.reads(s.modality))
        features = inputs.features if self.settings.features else ()
        self._check(sensors, features)
        tokens = [self._patch_tokens(s) for s in sensors] + [self._feature_token(g) for g in features]
        masks = [s.is_real.flatten(1) for s in sensors] + [g.is_real.any(-1, keepdim=True) for g in features]
        mask = torch.cat(masks, 1)
        if self.training:
            mask = self._hide(sensors, features, mask, generator)
        return torch.cat(tokens, 1), mask

    def _patch_tokens(self, sensor: SensorPatches) -> Tensor:
        """Return (B, C * P, width), finite whatever a masked place holds."""
        absent = ~sensor.is_real[..., None]  # (B, C, P, 1)
        # One pass gives the normalised shape, the mean and 1 / sqrt(variance + floor^2).
        floor = self.settings.shape_floor**2
        shape, mean, steepness = torch.native_layer_norm(sensor.patches, sensor.patches.shape[-1:], None, None, floor)
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

    def _hide(
        self,
        sensors: tuple[SensorPatches, ...],
        features: tuple[FeatureGroup, ...],
        mask: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        s = self.settings
        probabilities = (s.modality_dropout, s.channel_dropout, s.time_dropout, s.token_dropout)
        if not any(probabilities):
            return mask
        return drop_tokens(
            mask,
            token_layout(sensors, features, mask),
            modality_dropout=s.modality_dropout,
            channel_dropout=s.channel_dropout,
            time_dropout=s.time_dropout,
            token_dropout=s.token_dropout,
            generator=generator,
        )

    def _check(self, sensors: tuple[SensorPatches, ...], features: tuple[FeatureGroup, ...]) -> None:
        if not sensors and not features:
            raise ValueError("The inputs hold no signal and no features that the token settings read.")
        for sensor in sensors:
            length = self.vocabulary.patch_samples.get(sensor.modality)
            if sensor.patches.shape[-1] != length:
                known = ", ".join(f"{m} ({n} samples)" for m, n in self.vocabulary.patch_samples.items())
                raise CheckpointError(
                    f"The model was given {sensor.modality} patches of {sensor.patches.shape[-1]} samples; it reads "
                    f"{known}. Leave the signal out or cut it to the patch length the model was made for."
                )
        for group in features:
            if self.vocabulary.feature_groups.get(group.name) != group.values.shape[-1]:
                known = ", ".join(f"{g} ({n})" for g, n in self.vocabulary.feature_groups.items())
                raise CheckpointError(
                    f"The model was given {group.values.shape[-1]} features of the group {group.name}; it reads "
                    f"{known}. Leave the group out or compute the features the model was made for."
                )


def token_layout(sensors: tuple[SensorPatches, ...], features: tuple[FeatureGroup, ...], mask: Tensor) -> TokenLayout:
    """Return where each token comes from, in the order of the array: signals, then feature groups.

    Parameters
    ----------
    sensors : tuple of SensorPatches
    features : tuple of FeatureGroup
    mask : bool Tensor (B, N)
        Tells the number of samples and the device.
    """
    of_signals, of_groups = sensors_of([(s.modality, s.source) for s in sensors], [g.name for g in features])
    names = tuple(dict.fromkeys(of_signals + of_groups))
    sensor: list[int] = []
    channel: list[int] = []
    seconds: list[Tensor] = []
    n_channels = 0
    for signal, name in zip(sensors, of_signals, strict=True):
        _, c, p = signal.is_real.shape
        sensor += [names.index(name)] * (c * p)
        channel += [n_channels + number for number in range(c) for _ in range(p)]
        seconds.append(signal.times[:, None].expand(-1, c, -1).flatten(1))
        n_channels += c
    for name in of_groups:
        sensor.append(names.index(name))
        channel.append(n_channels)
        n_channels += 1
    seconds.append(mask.new_full((len(mask), len(features)), torch.nan, dtype=torch.float32))
    index = torch.tensor([sensor, channel], device=mask.device)
    return TokenLayout(len(names), n_channels, index[0], index[1], torch.cat(seconds, 1))
