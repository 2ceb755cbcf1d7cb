"""Matrix products in float32 by the quicker of the libraries that torch carries: oneDNN's where the default's is slow.

torch multiplies float32 matrices on processors with MKL, which does not use AVX-512 on processors of AMD; oneDNN, which
torch carries for convolutions and low precision, does. There the same product takes a half to a third of the time
(measured, docs/speed.md). The choice depends on the machine and on nothing that varies from run to run, so that the
same seed gives the same numbers; both libraries sum in float32 and differ by rounding alone.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

_LEAST_PRODUCTS = 2**19
"""Multiplications below which a call costs more than a quicker product saves."""


@cache
def onednn_is_quicker() -> bool:
    """Return whether this machine multiplies float32 matrices faster with oneDNN than with torch's default."""
    has_operation = torch._C._has_mkldnn and torch._C.has_mkl and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    is_wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_operation and is_wide and "AuthenticAMD" in _processor()


def _processor() -> str:
    """Return what the system says about its processor, the maker's name in it."""
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
    """Return what ``torch.nn.functional.linear`` returns, by the quicker library.

    Parameters
    ----------
    x : Tensor (..., in)
    weight : Tensor (out, in)
    bias : Tensor (out,) or None

    Returns
    -------
    Tensor (..., out)
    """
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
