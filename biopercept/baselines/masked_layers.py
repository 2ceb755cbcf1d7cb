"""Parts that the baseline networks share: masked self-attention layers, means over real tokens, hiding in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop_tokens
from biopercept.model.layers import LatentLayer
from biopercept.model.token_inputs import FeatureGroup, TokenInputs
from biopercept.model.tokens import TokenSettings, token_layout


class SelfAttentionLayer(LatentLayer):
    """One transformer layer over masked tokens: the Perceiver's latent layer, with a mask.

    Parameters
    ----------
    settings : PerceiverSettings
        Width, heads, widening and dropouts.
    attention : MultiHeadAttention or None
        None: all tokens read all real tokens.
    """

    def __init__(self, settings: PerceiverSettings, attention: MultiHeadAttention | None = None) -> None:
        chosen = full_attention(settings) if attention is None else attention
        super().__init__(chosen, settings.widening, settings.feedforward_dropout, settings.path_dropout)

    def forward(self, x: Tensor, generator: torch.Generator | None = None, mask: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, D) from tokens (B, N, D) and their mask (B, N), True = real."""
        normed = self.norm(x)
        x = x + self._path(self.attention(normed, normed, mask, generator), generator)
        return x + self._path(self.feed_forward(x, generator), generator)


def full_attention(settings: PerceiverSettings) -> MultiHeadAttention:
    """Return multi-head attention of the settings' width, heads and dropout."""
    return MultiHeadAttention(AttentionWidths.all(settings.width), settings.n_heads, settings.attention_dropout)


class FeatureCode(nn.Module):
    """One vector from all feature groups: a linear map of each group's values and of which are real, summed.

    Parameters
    ----------
    groups : mapping of str to int
        Number of features, by group.
    """

    def __init__(self, width: int, groups: Mapping[str, int]) -> None:
        super().__init__()
        self.width = width
        self.groups = nn.ModuleDict({name: nn.Linear(2 * n, width) for name, n in groups.items()})

    def forward(self, features: tuple[FeatureGroup, ...], n_samples: int, like: Tensor) -> Tensor:
        """Return (n_samples, width); a group without a real feature adds exactly 0.

        Parameters
        ----------
        like : Tensor
            Gives dtype and device.
        """
        total = like.new_zeros(n_samples, self.width)
        for group in features:
            values = group.values.masked_fill(~group.is_real, 0.0)
            code = self.groups[group.name](torch.cat((values, group.is_real.to(values.dtype)), -1))
            total = total + code.masked_fill(~group.is_real.any(-1, keepdim=True), 0.0)
        return total


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real tokens: (B, D) from ``x`` (B, N, D) and ``mask`` (B, N); 0 where none is real."""
    real = mask[..., None].to(x.dtype)
    total: Tensor = (x * real).sum(1)
    return total / real.sum(1).clamp(min=1.0)


def hidden(inputs: TokenInputs, settings: TokenSettings, generator: torch.Generator | None) -> TokenInputs:
    """Return the inputs with sensors, channels, segments of time and patches hidden as the Perceiver's are in training.

    Parameters
    ----------
    generator : torch.Generator or None
        Source of the draws; None: torch's global one.
    """
    masks = [s.is_real.flatten(1) for s in inputs.sensors] + [g.is_real.any(-1, keepdim=True) for g in inputs.features]
    if not masks:
        return inputs
    mask = torch.cat(masks, 1)
    layout = token_layout(inputs.sensors, inputs.features, mask)
    left = drop_tokens(mask, layout, settings.dropout, generator)
    kept = torch.split(left, [part.shape[1] for part in masks], 1)
    n_signals = len(inputs.sensors)
    return TokenInputs(
        tuple(replace(s, is_real=k.view_as(s.is_real)) for s, k in zip(inputs.sensors, kept[:n_signals], strict=True)),
        tuple(replace(g, is_real=g.is_real & k) for g, k in zip(inputs.features, kept[n_signals:], strict=True)),
    )
