"""The parts a Perceiver IO is made of, and the one place where parameters get their starting values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.model.attention import MultiHeadAttention
from biopercept.model.cpu_kernels import Linear, pays
from biopercept.model.dropout import drop

LEARNED_ARRAY_STD = 0.02
"""Spread of latents and queries at the start, as in the original."""

CODE_STD = 0.5
"""Spread of learned codes at the start: they are added to tokens of about unit spread and must be seen beside them."""

_TRUNCATED_STD = 0.87962566103423978  # standard deviation of a unit normal cut off at +-2


class LearnedArray(nn.Module):
    """A learned array (n, width): latents, or output queries."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(n, width))

    def forward(self) -> Tensor:
        """Return the array with a batch axis of one: (1, n, width)."""
        return self.values[None]


def _gelu(x: Tensor) -> Tensor:
    """Return the tanh approximation of GELU.

    It is x sigmoid(2 u), with u what tanh is taken of. Without gradients and on a CPU that form takes half the time.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    doubled = 2.0 * math.sqrt(2.0 / math.pi)
    gate = torch.addcmul(x.new_tensor(doubled), x, x, value=0.044715 * doubled)
    return gate.mul_(x).sigmoid_().mul_(x)


class FeedForward(nn.Module):
    """Layer norm, then two linear layers with tanh GELU between them."""

    def __init__(self, width: int, widening: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)
        self.widen = Linear(width, widening * width)
        self.narrow = Linear(widening * width, width)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the branch's output for ``x`` (B, L, D), same shape, without the residual."""
        return drop(self.narrow(_gelu(self.widen(self.norm(x)))), self.dropout, self.training, generator)


class CrossAttention(nn.Module):
    """Queries read an input array: norm on both sides, attention, residual if set, feed-forward."""

    def __init__(self, attention: MultiHeadAttention, widening: int, dropout: float, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.norm_queries = nn.LayerNorm(attention.to_query.in_features)
        self.norm_inputs = nn.LayerNorm(attention.to_key.in_features)
        self.attention = attention
        self.feed_forward = FeedForward(attention.to_output.out_features, widening, dropout)

    def forward(
        self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return (B, L, D) from queries (B or 1, L, Dq), inputs (B, N, C) and mask (B, N), True = real."""
        normed = self.norm_queries(queries)
        if len(queries) > 1 or not self.attention.prefers_folding(queries.shape[1]):
            read = self.attention(normed, self.norm_inputs(inputs), mask, generator)
        elif pays(inputs, normed):
            read = self.attention.read_streamed(normed, inputs, self.norm_inputs, mask, generator)
        else:
            read = self.attention.read_folded(normed, self.norm_inputs(inputs), mask, generator)
        x = queries + read if self.residual else read
        output: Tensor = x + self.feed_forward(x, generator)
        return output

    def weights(self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights (B, H, L, N) of the same call."""
        return self.attention.read_with_weights(self.norm_queries(queries), self.norm_inputs(inputs), mask)[1]


class LatentLayer(nn.Module):
    """One transformer layer: self-attention and a two-layer network, a layer norm before and a residual around each."""

    def __init__(self, attention: MultiHeadAttention, widening: int, dropout: float, path_dropout: float) -> None:
        super().__init__()
        self.path_dropout = path_dropout
        self.norm = nn.LayerNorm(attention.to_query.in_features)
        self.attention = attention
        self.feed_forward = FeedForward(attention.to_query.in_features, widening, dropout)

    def forward(self, x: Tensor, generator: torch.Generator | None = None, mask: Tensor | None = None) -> Tensor:
        """Return (B, L, D) from (B, L, D), of which those of the mask (B, L) are read; None: all."""
        normed = self.norm(x)
        x = x + self._path(self.attention(normed, normed, mask, generator), generator)
        return x + self._path(self.feed_forward(x, generator), generator)

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention weights (B, H, L, L) of the same call."""
        normed = self.norm(x)
        return self.attention.read_with_weights(normed, normed, None)[1]

    def _path(self, branch: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.path_dropout == 0.0:
            return branch
        return branch * drop(branch.new_ones(len(branch), 1, 1), self.path_dropout, True, generator)


def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Set every parameter of ``module`` to its starting value, as the original code does.

    Linear layers: truncated normal of standard deviation 1/sqrt(fan-in), biases zero. Latents and queries: truncated
    normal of scale 0.02. Learned codes (embeddings, not in the original): truncated normal of scale :data:`CODE_STD`.
    Layer norms: scale one, offset zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            _truncated_normal(part.weight, 1.0 / math.sqrt(part.in_features) / _TRUNCATED_STD, generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, LearnedArray):
            _truncated_normal(part.values, LEARNED_ARRAY_STD, generator)
        elif isinstance(part, nn.Embedding):
            _truncated_normal(part.weight, CODE_STD, generator)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()


def _truncated_normal(weight: Tensor, std: float, generator: torch.Generator | None) -> None:
    nn.init.trunc_normal_(weight, 0.0, std, -2.0 * std, 2.0 * std, generator=generator)
