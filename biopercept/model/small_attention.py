"""Attention over few tokens on a processor: two products and a softmax, quicker there than the fused kernel.

The fused kernel of processors is made for long inputs: over some tens of tokens, forth and back, two plain products
take half its time, and their scores are small enough to be held (measured, docs/speed.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from biopercept.model.products import is_plain, linear

_LEAST_QUERIES = 16
_MOST_OF_ITS_OWN = 128  # tokens up to which holding scores is quicker where each sample has queries of its own
_MOST_SHARED = 512  # and where all samples ask the same


def is_small(query: Tensor, key: Tensor, *, is_shared: bool = False) -> bool:
    """Return whether holding the scores of queries (..., L, d) on keys (..., N, d) is quicker than the fused kernel."""
    most = _MOST_SHARED if is_shared else _MOST_OF_ITS_OWN
    # In this order: sizes that are asked for while a graph is captured would bind those of the exported network.
    return is_plain(query, key) and query.shape[-2] >= _LEAST_QUERIES and key.shape[-2] <= most


def attend_held(query: Tensor, key: Tensor, value: Tensor, readable: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums of ``value`` (B, H, L, e), the scores held.

    Parameters
    ----------
    query, key, value : Tensor (B, H, L, d), (B, H, N, d), (B, H, N, e)
    readable : bool Tensor that broadcasts to (B, H, L, N), True = read, or None
        At least one in every row.
    scale : float
    """
    scores = (query * scale) @ key.transpose(-1, -2)
    if readable is not None:
        scores = scores + _hidden(readable)
    return scores.softmax(-1) @ value


def attend_shared(queries: Tensor, tokens: Tensor, readable: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums (B, R, C) of tokens that all samples ask with the same queries, the scores held.

    Parameters
    ----------
    queries : Tensor (R, C)
    tokens : Tensor (B, N, C)
        Keys and values at once.
    readable : bool Tensor (B, N), or (B, R, N), True = read, or None
        At least one in every row.
    scale : float
    """
    scores = linear(tokens, queries * scale)  # (B, N, R): one product for the whole batch
    if readable is not None:
        scores = scores + _hidden(readable[:, :, None] if readable.ndim == 2 else readable.transpose(1, 2))
    return scores.softmax(1).transpose(1, 2) @ tokens


def _hidden(readable: Tensor) -> Tensor:
    """Return what is added to scores: 0 where they count, minus infinity where not."""
    return torch.zeros(readable.shape).masked_fill_(~readable, -math.inf)
