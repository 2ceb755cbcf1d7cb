"""Attention and matrix products that are quicker on processors than torch's own: streamed, small, or by oneDNN.

**Streamed**: the first cross-attention over many tokens, a segment at a time, without a normalised copy, keys, values
or scores. Latents that all samples share are folded into the width of the tokens (see ``attention``), so what is left
to compute is the softmax-weighted sum of layer-normalised tokens. Each segment is normalised while it lies in the
processor's cache, read by the fused kernel and forgotten; two numbers per latent and head (the sum of its weights, as
a logarithm) join the segments exactly. Masked tokens are left out rather than scored. Training keeps only those sums
and goes through the segments once more. Where oneDNN multiplies quicker than the fused kernel does, a segment is two
such products with an exponential between them. A layer-normalised token is no longer than the square root of its width,
which bounds every score beforehand: where the bound is small, weights need no maximum to be taken off, and their sums
simply add up.

**Small**: the fused kernel of processors is made for long inputs: over some tens of tokens, forward and backward, two
plain products and a softmax take half its time, and their scores are small enough to be kept (measured,
docs/experiments/speed.md).

**Products**: torch multiplies float32 matrices on processors with MKL, which does not use AVX-512 on processors of AMD;
oneDNN, which torch carries for convolutions and low precision, does. There the same product takes a half to a third of
the time (measured, docs/experiments/speed.md). The choice depends on the machine and on nothing that varies from run to
run, so that the same seed gives the same numbers; both libraries sum in float32 and differ by rounding alone.

References
----------
Online softmax and recomputation in the backward pass: T. Dao et al., "FlashAttention", NeurIPS 2022,
doi:10.48550/arXiv.2205.14135. Here queries are shared by the samples, keys and values are one array, and the layer
norm is part of the pass.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

SEGMENT_VALUES = 2**18
"""Numbers in one segment of tokens: one MiB of float32. Training's way back, which holds scores, takes a quarter."""

_LEAST_VALUES = 2**20  # below this the whole input lies in the cache anyway, and one call for all is quicker
_LEAST_TOKENS = 1024
_SCORE_VALUES = 2**18  # scores in one segment and thread where they are held: one MiB, which stays in the cache
_LARGEST_SCORE = 60.0  # exponentials up to e**60, and their sums, are far from the ends of float32
_LOG2_E = math.log2(math.e)
_is_whole: ContextVar[bool] = ContextVar("_is_whole", default=False)
_LEAST_QUERIES = 16
_MOST_OF_ITS_OWN = 128  # tokens up to which holding scores is quicker where each sample has queries of its own
_MOST_SHARED = 512  # and where all samples ask the same
_LEAST_PRODUCTS = 2**19
"""Multiplications below which a call costs more than a quicker product saves."""


@contextmanager
def whole() -> Iterator[None]:
    """Have inputs read in one call however long they are: the segments cannot run for several networks at once."""
    token = _is_whole.set(True)
    try:
        yield
    finally:
        _is_whole.reset(token)


def pays(tokens: Tensor, queries: Tensor) -> bool:
    """Return whether reading tokens (B, N, C) in segments is possible here and quicker than one call for all.

    Tokens and queries must be float32 or float64 on a CPU, outside autocast and graph capture.
    """
    if torch.compiler.is_compiling() or _is_whole.get():  # in this order: graph capture cannot ask for the second
        return False
    if tokens.device.type != "cpu" or tokens.dtype not in (torch.float32, torch.float64):
        return False
    if tokens.dtype != queries.dtype or tokens.shape[1] < _LEAST_TOKENS or tokens.numel() < _LEAST_VALUES:
        return False
    return not torch.is_autocast_enabled("cpu")


def read_normalised(queries: Tensor, tokens: Tensor, readable: Tensor | None, eps: float) -> Tensor:
    """Return the attention-weighted sums (B, R, C) of layer-normalised tokens (without the norm's scale and offset).

    They are exactly zero for samples without a token to read, and differentiable once, in queries and tokens.

    Parameters
    ----------
    queries : Tensor (R, C)
        One row per head and latent, the attention's scale and the norm's scale already in it.
    tokens : Tensor (B, N, C)
        Finite everywhere, also where not readable.
    readable : bool Tensor (B, N), or (B, L, N) with R a multiple of L, or None
    """
    summed: Tensor = _ReadNormalised.apply(queries, tokens, readable, eps)  # type: ignore[no-untyped-call]
    return summed


class _ReadNormalised(torch.autograd.Function):
    """The weighted sums, and their gradients by a second pass over the segments."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, tokens: Tensor, readable: Tensor | None, eps: float) -> Tensor:
        read = _read_by_products if _suits_products(queries, tokens) else _read_fused
        summed, level = read(queries, tokens, readable, eps)
        ctx.save_for_backward(queries, tokens, readable, summed, level)
        ctx.eps = eps
        return summed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, tokens, readable, summed, level = ctx.saved_tensors
        n_rows, width = queries.shape
        shared = (gradient * summed).sum(-1, keepdim=True)  # (B, R, 1): what softmax takes from every score
        of_queries = -(shared * summed).sum(0)
        of_tokens = torch.zeros_like(tokens) if ctx.needs_input_grad[1] else None
        multiplied = _product_for(queries, tokens)
        for sample in range(len(tokens)):
            forth = torch.cat((queries * _LOG2_E, gradient[sample]))  # (2 R, C)
            back = torch.cat((gradient[sample] - shared[sample] * queries, queries)).T.contiguous()
            for segment, position, mask in _segments(tokens[sample], readable, sample, n_rows, SEGMENT_VALUES // 4):
                given, mean, steepness = torch.native_layer_norm(segment, (width,), None, None, ctx.eps)
                both = multiplied(forth, given)  # scores and gradients of the weights: (2 R, n)
                weights = both[:n_rows].sub_(level[sample] * _LOG2_E)
                if mask is not None:
                    weights.masked_fill_(~mask, -torch.inf)
                weights.exp2_()
                weighted = both[n_rows:].mul_(weights)
                of_queries += multiplied(weighted, given.T)
                if of_tokens is not None:
                    of_tokens[sample, position] = torch.ops.aten.native_layer_norm_backward(
                        multiplied(both.T, back), segment, (width,), mean, steepness, None, None, (True, False, False)
                    )[0]
        return of_queries, of_tokens, None, None


def _read_fused(queries: Tensor, tokens: Tensor, readable: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return the sums (B, R, C), and the logarithms (B, R, 1) of the sums of exponentiated scores."""
    n_samples, n_rows, width = len(tokens), *queries.shape
    summed = queries.new_zeros(n_samples, n_rows, width)
    level = queries.new_zeros(n_samples, n_rows, 1)
    query = queries[None, None]
    for sample in range(n_samples):
        is_first = True
        for segment, _, mask in _segments(tokens[sample], readable, sample, n_rows, SEGMENT_VALUES):
            given = torch.native_layer_norm(segment, (width,), None, None, eps)[0][None, None]
            bias = None if mask is None else given.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
            read, log_sum = _fused(query, given, bias)
            if is_first:
                summed[sample], level[sample] = read, log_sum
            else:
                joined = torch.logaddexp(level[sample], log_sum)
                summed[sample].mul_((level[sample] - joined).exp_()).addcmul_(read, (log_sum - joined).exp_())
                level[sample] = joined
            is_first = False
    return summed, level


def _product_for(queries: Tensor, tokens: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what multiplies a matrix with the transpose of another here."""
    return multiply if onednn_is_quicker() and is_plain(queries, tokens) else torch.nn.functional.linear


def _suits_products(queries: Tensor, tokens: Tensor) -> bool:
    """Return whether products are quicker here than the fused kernel, and no score can be too large for them."""
    if not (onednn_is_quicker() and is_plain(queries, tokens)):
        return False
    longest = float(torch.linalg.vector_norm(queries, dim=1).max())
    return longest * math.sqrt(queries.shape[1]) <= _LARGEST_SCORE  # False for what is not finite


def _read_by_products(queries: Tensor, tokens: Tensor, readable: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return what :func:`_read_fused` returns, by products whose scores need no maximum taken off."""
    n_rows, width = queries.shape
    summed = queries.new_zeros(len(tokens), n_rows, width)
    total = queries.new_zeros(len(tokens), n_rows, 1)
    query = queries * _LOG2_E  # powers of two take a quarter of the time of exp
    n_values = max(1, _SCORE_VALUES * torch.get_num_threads() // n_rows) * width
    for sample in range(len(tokens)):
        for segment, _, mask in _segments(tokens[sample], readable, sample, n_rows, n_values):
            given = torch.native_layer_norm(segment, (width,), None, None, eps)[0]
            weights = multiply(query, given).exp2_()  # (R, n)
            if mask is not None:
                weights *= mask
            summed[sample] += multiply(weights, given.T)
            total[sample] += weights.sum(-1, keepdim=True)
    is_empty = total == 0
    return summed / total.masked_fill(is_empty, 1.0), total.log().masked_fill(is_empty, 0.0)


def _fused(query: Tensor, given: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the weighted sums (R, C) and the logarithms (R, 1) of the sums of exponentiated scores."""
    read, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, given, given, 0.0, False, attn_mask=bias, scale=1.0
    )
    return read[0, 0], log_sum[0, 0, :, None].to(read.dtype)


def _segments(
    tokens: Tensor, readable: Tensor | None, sample: int, n_rows: int, n_values: int
) -> Iterator[tuple[Tensor, slice | Tensor, Tensor | None]]:
    """Give the readable tokens (n, C) of a sample, where they lie in it, and which of them each row (R, n) may read.

    Where queries read different tokens there is one segment, so that no row of it is empty.
    """
    if readable is not None and readable.ndim == 3:
        of_latents = readable[sample]
        if of_latents.any():
            yield tokens, slice(None), of_latents.repeat(n_rows // len(of_latents), 1)
        return
    n = max(1, n_values // tokens.shape[-1])
    if readable is None or bool(readable[sample].all()):
        for start in range(0, len(tokens), n):
            yield tokens[start : start + n], slice(start, start + n), None
        return
    for positions in torch.split(readable[sample].nonzero()[:, 0], n):
        if len(positions):
            yield tokens.index_select(0, positions), positions, None


def is_small(query: Tensor, key: Tensor, *, is_shared: bool = False) -> bool:
    """Return whether holding the scores of queries (..., L, d) on keys (..., N, d) is quicker than the fused kernel."""
    most = _MOST_SHARED if is_shared else _MOST_OF_ITS_OWN
    # In this order: sizes that are asked for while a graph is captured would bind those of the exported network.
    return is_plain(query, key) and query.shape[-2] >= _LEAST_QUERIES and key.shape[-2] <= most


def attend_held(query: Tensor, key: Tensor, value: Tensor, readable: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums (B, H, L, e) of ``value``, scores held; ``readable`` has at least one in every row."""
    scores = (query * scale) @ key.transpose(-1, -2)
    if readable is not None:
        scores = scores + _hidden(readable)
    return scores.softmax(-1) @ value


def attend_shared(queries: Tensor, tokens: Tensor, readable: Tensor | None, scale: float) -> Tensor:
    """Return the weighted sums (B, R, C) of tokens (B, N, C) for queries (R, C) that all samples share, scores held.

    ``readable`` (B, N) or (B, R, N) has at least one in every row.
    """
    scores = linear(tokens, queries * scale)  # (B, N, R): one product for the whole batch
    if readable is not None:
        scores = scores + _hidden(readable[:, :, None] if readable.ndim == 2 else readable.transpose(1, 2))
    return scores.softmax(1).transpose(1, 2) @ tokens


def _hidden(readable: Tensor) -> Tensor:
    """Return what is added to scores: 0 where they count, minus infinity where not."""
    return torch.zeros(readable.shape).masked_fill_(~readable, -math.inf)


@cache
def onednn_is_quicker() -> bool:
    """Return whether this machine multiplies float32 matrices faster with oneDNN than with torch's default."""
    has_operation = torch._C._has_mkldnn and torch._C.has_mkl and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    is_wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_operation and is_wide and "AuthenticAMD" in _processor()


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    try:
        return listing.read_text(encoding="utf-8", errors="replace")[:400] if listing.exists() else platform.processor()
    except OSError:
        return platform.processor()


def is_plain(*arrays: Tensor) -> bool:
    """Return whether arrays are float32 on a processor, and nobody traces, counts, casts or maps what is done."""
    return (
        all(a.device.type == "cpu" and a.dtype == torch.float32 for a in arrays)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` by oneDNN, without a gradient: (n, out) from (n, in) and (out, in)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``torch.nn.functional.linear`` returns, by the quicker library."""
    if torch.compiler.is_compiling():  # asked first: what is asked of a size would bind the sizes of an exported graph
        return F.linear(x, weight, bias)
    is_worth_it = x.numel() * len(weight) >= _LEAST_PRODUCTS and onednn_is_quicker() and is_plain(x, weight)
    if not is_worth_it:
        return F.linear(x, weight, bias)
    learns = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if not (learns and torch.is_grad_enabled()):
        return multiply(x, weight, bias)
    product: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class Linear(nn.Linear):
    """A linear layer that multiplies by :func:`linear`; parameters and their names are those of ``nn.Linear``."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., out_features) from (..., in_features)."""
        return linear(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    """The product and its gradients, each by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return multiply(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = multiply(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        rows = gradient.flatten(0, -2)
        of_weight = multiply(rows.t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        of_bias = rows.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias
