"""Perceiver IO: a small latent array reads a set of tokens; output queries read the latents.

The original Perceiver and Perceiver IO are two settings of this one network. The steps, which
:meth:`PerceiverIO.encode` and :meth:`PerceiverIO.decode` follow by number:

1. A learned latent array (L, D), the same for every sample.
2. Encoder cross-attention: latents are the queries, the N input tokens are read. Cost grows with N, not N^2.
3. A block of latent transformer layers (self-attention over L latents).
4. Steps 2 (where repeated cross-attentions are set) and 3 again for each further block.
5. Decoder cross-attention: output queries read the latents; one output per query.

Every attention is followed by a two-layer network; layer norm comes before each and on both
sides of a cross-attention; residuals go around each (around the decoder's attention only where
set). GELU is the tanh approximation, which the original code uses.

References
----------
A. Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021,
doi:10.48550/arXiv.2103.03206. A. Jaegle et al., "Perceiver IO: A General Architecture for
Structured Inputs & Outputs", ICLR 2022, doi:10.48550/arXiv.2107.14795. Equal to the authors'
code within 1e-5 (tested). Added here: dropped residual paths, rotary time (see ``encodings``), folding
and reading in segments (see ``attention``, ``cpu_kernels``); attention dropout hides keys instead of dropping weights
(see ``dropout``).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.encodings import RotaryTime
from biopercept.model.layers import CrossAttention, LatentLayer, LearnedArray, initialise
from biopercept.model.settings import CoreSettings, refuse_out_of_range


class PerceiverIO(nn.Module):
    """The network of the module's numbered steps, for tokens of any origin.

    Raises SettingsError where a count is below one, a probability outside [0, 1), heads do not divide a width, or more
    cross-attentions than blocks are asked for.
    """

    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        _check(settings)
        self.settings = settings
        try:
            n_cross = 1 if settings.share_cross_attentions else settings.n_cross_attentions
            n_blocks = 1 if settings.share_blocks else settings.n_blocks
            self.latents = LearnedArray(settings.n_latents, settings.latent_width)
            self.cross_attentions = nn.ModuleList(_encoder(settings) for _ in range(n_cross))
            self.blocks = nn.ModuleList(
                nn.ModuleList(_latent_layer(settings) for _ in range(settings.n_layers)) for _ in range(n_blocks)
            )
            self.decoder = _decoder(settings)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        initialise(self)

    def encode(self, tokens: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return the latents (B, n_latents, latent_width) of tokens (B, N, input_width), finite also where masked.

        The mask (B, N) is True = real, None: all. The generator gives the dropout draws in training; None: torch's own.
        """
        x: Tensor = self.latents()  # 1. (1, L, D), broadcast over the batch by the first cross-attention
        for number in range(self.settings.n_blocks):
            if number < self.settings.n_cross_attentions:
                cross_attention = self.cross_attentions[min(number, len(self.cross_attentions) - 1)]
                x = cross_attention(x, tokens, mask, generator)  # 2. (B, N, C) -> (B, L, D)
            for layer in cast(nn.ModuleList, self.blocks[min(number, len(self.blocks) - 1)]):
                x = layer(x, generator)  # 3., 4. (B, L, D) -> (B, L, D)
        return x

    def decode(self, latents: Tensor, queries: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return an output (B, Q, output_width) for each query (B, Q, query_width); (1, Q, ...): the same for all."""
        output: Tensor = self.decoder(queries, latents, None, generator)  # 5. (B, L, D) -> (B, Q, O)
        return output

    def forward(
        self, tokens: Tensor, queries: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the outputs (B, Q, output_width) of ``queries`` about ``tokens``; see encode and decode."""
        return self.decode(self.encode(tokens, mask, generator), queries, generator)

    def input_attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the first cross-attention's weights on the input tokens: (B, H, n_latents, N)."""
        first = cast(CrossAttention, self.cross_attentions[0])
        return first.weights(self.latents(), tokens, mask)


def _encoder(s: CoreSettings) -> CrossAttention:
    d = s.latent_width
    widths = AttentionWidths(d, s.input_width, qk=s.cross_qk_width or d, v=s.cross_v_width or d, output=d)
    attention = MultiHeadAttention(widths, s.n_cross_heads, s.attention_dropout)
    return CrossAttention(attention, s.widening, s.feedforward_dropout, residual=True)


def _latent_layer(s: CoreSettings) -> LatentLayer:
    d = s.latent_width
    widths = AttentionWidths(d, d, qk=s.self_qk_width or d, v=s.self_v_width or d, output=d)
    attention = MultiHeadAttention(widths, s.n_self_heads, s.attention_dropout)
    if s.rotary_seconds is not None:
        attention.rotary = RotaryTime(s.n_latents, s.rotary_seconds, attention.to_query.out_features // s.n_self_heads)
    return LatentLayer(attention, s.widening, s.feedforward_dropout, s.path_dropout)


def _decoder(s: CoreSettings) -> CrossAttention:
    if s.decoder_residual and s.query_width != s.output_width:
        raise SettingsError(
            f"The decoder adds its query of width {s.query_width} to an output of width {s.output_width}; "
            "make the two equal or switch the query residual off."
        )
    d, qk, v = s.latent_width, s.decoder_qk_width, s.decoder_v_width
    widths = AttentionWidths(s.query_width, d, qk=qk or d, v=v or d, output=s.output_width)
    attention = MultiHeadAttention(widths, s.n_decoder_heads, s.attention_dropout)
    return CrossAttention(attention, s.decoder_widening, s.feedforward_dropout, residual=s.decoder_residual)


def _check(s: CoreSettings) -> None:
    refuse_out_of_range(s)
    if s.n_cross_attentions > s.n_blocks:
        raise SettingsError(
            f"The model is to read its input {s.n_cross_attentions} times but has {s.n_blocks} latent blocks; "
            "a cross-attention begins a block, so set n_blocks to at least n_cross_attentions."
        )
