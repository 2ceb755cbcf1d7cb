"""Multi-head attention over a masked set of tokens, plain, fused (SDPA) and folded.

Masks are bool with True = real. A sample in which no token is real gives an attention output
of exactly zero (before the output projection), as the original Perceiver IO code does: a mean
over padding would let absent data speak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.model.cpu_kernels import Linear, attend_held, attend_shared, is_small, linear, read_normalised
from biopercept.model.dropout import hide_keys

_COST_OF_A_NUMBER = 160
"""Multiplications that writing one number of a key or a value and reading it again costs (measured on CPUs)."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums (B, H, L, e) of ``value``, by the fused kernel, without ever holding the weights.

    Queries are (B, H, L, d), keys (B, H, N, d) and values (B, H, N, e). The mask is (B, N), or (B, L, N) where queries
    may read different tokens; None: all are read. A query without a token to read gets zero.
    """
    is_held = is_small(query, key)
    if mask is None:
        if is_held:
            return attend_held(query, key, value, None, scale)
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    readable = _by_query(mask)
    is_empty = ~readable.any(-1, keepdim=True)
    # Not every kernel gives zeros for a row without a key: score such a row as if full, then wipe it.
    keys = readable | is_empty
    if is_held:
        return attend_held(query, key, value, keys, scale).masked_fill(is_empty, 0.0)
    keys = keys.expand(-1, -1, query.shape[-2], -1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=keys, scale=scale).masked_fill(is_empty, 0.0)


def attend_to_shared(queries: Tensor, tokens: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums (B, R, C) of tokens (B, N, C) for queries (R, C) that all samples share.

    ``mask`` (B, N) or (B, R, N) as in :func:`attend`; zero where there is no token to read.
    """
    if not is_small(queries, tokens, is_shared=True):
        array = tokens[:, None]  # (B, 1, N, C)
        return attend(queries.expand(len(tokens), 1, -1, -1), array, array, mask, scale)[:, 0]
    if mask is None:
        return attend_shared(queries, tokens, None, scale)
    is_empty = ~mask.any(-1, keepdim=True)  # (B, 1) or (B, R, 1)
    summed = attend_shared(queries, tokens, mask | is_empty, scale)
    return summed.masked_fill(is_empty if mask.ndim == 3 else is_empty[..., None], 0.0)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return what :func:`attend` returns, and the weights (B, H, L, N), zero at tokens not read."""
    scores = query @ key.transpose(-1, -2) * scale
    if mask is None:
        weights = scores.softmax(-1)
    else:
        readable = _by_query(mask)
        is_empty = ~readable.any(-1, keepdim=True)
        weights = scores.masked_fill(~readable & ~is_empty, -math.inf).softmax(-1).masked_fill(~readable, 0.0)
    return weights @ value, weights


def _by_query(mask: Tensor) -> Tensor:
    """Return a mask (B, N) or (B, L, N) as (B, 1, 1 or L, N)."""
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]


def _is_any(mask: Tensor | None, n_axes: int = 3) -> Tensor | float:
    """Return 1 for samples with a real token and 0 for others, (B, 1, ...) with ``n_axes`` axes."""
    return 1.0 if mask is None else mask.any(-1).view(-1, *[1] * (n_axes - 1))


@dataclass(frozen=True)
class AttentionWidths:
    """Widths of what queries, of what is read, of queries/keys and values (all heads together), and of the output."""

    query: int
    input: int
    qk: int
    v: int
    output: int

    @staticmethod
    def all(width: int) -> AttentionWidths:
        """Return one width for everything."""
        return AttentionWidths(query=width, input=width, qk=width, v=width, output=width)


class MultiHeadAttention(nn.Module):
    """Multi-head attention with query/key and value widths of their own, which are multiples of ``n_heads``.

    ``dropout`` is the chance of a token to be hidden from a query in training (see :func:`hide_keys`).

    Raises ValueError where ``n_heads`` does not divide a width.
    """

    def __init__(self, widths: AttentionWidths, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if widths.qk % n_heads or widths.v % n_heads:
            raise ValueError(
                f"{n_heads} attention heads do not divide the query/key width {widths.qk} and the value width "
                f"{widths.v}; choose widths that are multiples of the number of heads."
            )
        self.n_heads = n_heads
        self.dropout = dropout
        self.rotary: nn.Module | None = None  # turns queries and keys by their times, where set (see ``encodings``)
        self.scale = 1.0 / math.sqrt(widths.qk // n_heads)
        self.to_query = Linear(widths.query, widths.qk)
        self.to_key = Linear(widths.input, widths.qk)
        self.to_value = Linear(widths.input, widths.v)
        self.to_output = Linear(widths.v, widths.output)

    def forward(
        self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return what queries (B or 1, L, query_width) read from inputs (B, N, input_width): (B, L, output_width).

        The mask (B, N) is True = real; the generator gives the dropout draws in training.
        """
        query, key, value = self._heads_of(queries, inputs)
        return self._output(attend(query, key, value, self._read_mask(queries, inputs, mask, generator), self.scale))

    def read_with_weights(self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output and the weights (B, H, L, N) behind it, the plain way, without dropout."""
        query, key, value = self._heads_of(queries, inputs)
        summed, weights = attend_plainly(query, key, value, mask, self.scale)
        return self._output(summed), weights

    def read_folded(
        self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return :meth:`forward`'s output for queries (1, L, query_width) that samples share, without keys or values.

        The key projection moves into the queries and the value projection behind the weighted sum, so nothing of size N
        x width is made. Exact: the key bias adds one number to every score of a row, which softmax ignores; weights sum
        to one, so the value bias is added once, or to an empty sample never.
        """
        readable = self._read_mask(queries, inputs, mask, generator)
        if readable is not None and readable.ndim == 3:
            readable = readable.repeat(1, self.n_heads, 1)  # (B, H L, N)
        return self._unfolded(attend_to_shared(self._folded(queries), inputs, readable, self.scale), mask)

    def read_streamed(
        self,
        queries: Tensor,
        inputs: Tensor,
        norm: nn.LayerNorm,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return what :meth:`read_folded` gives of ``norm(inputs)``, without a normalised copy of the inputs.

        The norm's scale moves into the queries and behind the weighted sum; its offset adds one number to every score
        of a row, which softmax ignores, and is added once behind the sum.
        """
        readable = self._read_mask(queries, inputs, mask, generator)
        scaled_queries = self._folded(queries) * (norm.weight * self.scale)
        summed = read_normalised(scaled_queries, inputs, readable, norm.eps) * norm.weight  # (B, H L, C)
        return self._unfolded(summed + norm.bias * _is_any(mask), mask)

    def _folded(self, queries: Tensor) -> Tensor:
        """Return the queries (1, L, query_width) of all heads with the key projection in them: (H L, C)."""
        query = self.to_query(queries[0]).view(queries.shape[1], self.n_heads, -1).transpose(0, 1)  # (H, L, d)
        key_maps = self.to_key.weight.view(self.n_heads, -1, self.to_key.in_features)  # (H, d, C)
        folded: Tensor = (query @ key_maps).flatten(0, 1)
        return folded

    def _unfolded(self, summed: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output (B, L, output_width) from weighted sums of inputs (B, H L, C): the value projection."""
        value_maps = self.to_value.weight.view(self.n_heads, -1, self.to_value.in_features)  # (H, e, C)
        value_bias = self.to_value.bias.view(self.n_heads, 1, -1)  # (H, 1, e)
        heads = torch.unflatten(summed, 1, (self.n_heads, -1)) @ value_maps.transpose(1, 2)  # (B, H, L, e)
        # The key bias has no effect; it keeps its (zero) gradient, as in the plain way.
        value_bias = value_bias + 0.0 * self.to_key.bias.sum()
        return self._output(heads + value_bias * _is_any(mask, 4))

    def prefers_folding(self, n_latents: int) -> bool:
        """Return whether folding costs less per token than making and reading keys and values does."""
        input_width = self.to_key.in_features
        projected = self.to_key.out_features + self.to_value.out_features
        plain = (input_width + n_latents + _COST_OF_A_NUMBER) * projected
        return 2 * self.n_heads * n_latents * input_width < plain

    def _read_mask(
        self, queries: Tensor, inputs: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> Tensor | None:
        if not self.training or self.dropout == 0.0:
            return mask
        return hide_keys(queries.shape[1], inputs, mask, self.dropout, generator)

    def _heads_of(self, queries: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers = (self.to_query, self.to_key, self.to_value)
        if queries is inputs:  # one product for all three
            widths = [layer.out_features for layer in layers]
            joined = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
            parts = torch.split(linear(inputs, *joined), widths, -1)
        else:
            parts = (self.to_query(queries), self.to_key(inputs), self.to_value(inputs))
        query, key, value = (torch.unflatten(part, -1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        if self.rotary is not None:
            query, key = self.rotary(query), self.rotary(key)
        return query.expand(len(inputs), -1, -1, -1), key, value

    def _output(self, summed: Tensor) -> Tensor:
        output: Tensor = self.to_output(summed.transpose(1, 2).flatten(2))  # (B, H, L, e) -> (B, L, H e)
        return output
