"""Operations of full self-attention and of the Perceiver as the input grows: counted on modules, not assumed.

Modules run on torch's ``meta`` device, which carries shapes and no numbers, so a million tokens cost nothing to count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from biopercept.benchmarks.peers import N_CHANNELS, OURS, WIDENING, WIDTH, build
from biopercept.benchmarks.speed import cpu_seconds
from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.layers import LatentLayer

INPUTS = (256, 1024, 4096, 16384, 65536, 262_144, 1_000_000)


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one sample with ``n_tokens`` tokens."""

    n_tokens: int
    self_attention: int
    perceiver: int


def count_multiply_adds(call: Callable[[], object]) -> int:
    """Return the multiply-adds of the matrix products that ``call`` makes."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    total: int = counter.get_total_flops()
    return total // 2  # the counter takes a multiply-add for two


def full_self_attention(width: int, n_heads: int, *, n_layers: int, widening: int) -> torch.nn.Module:
    """Return transformer layers over all tokens (B, N, width), on the meta device."""
    with torch.device("meta"):
        attentions = (MultiHeadAttention(AttentionWidths.all(width), n_heads) for _ in range(n_layers))
        return torch.nn.Sequential(*(LatentLayer(attention, widening, 0.0, 0.0) for attention in attentions))


def count_costs(inputs: Iterable[int] = INPUTS) -> list[Cost]:
    """Return the multiply-adds of both networks for one sample of each size.

    The Perceiver is the one of the speed benchmark; full self-attention has as many layers over the tokens, as wide
    as the Perceiver's latents.
    """
    perceiver = build(OURS).to("meta").eval().requires_grad_(False)
    attention = full_self_attention(WIDTH, 8, n_layers=6, widening=WIDENING).eval().requires_grad_(False)
    costs = []
    for n in inputs:
        wide = torch.empty(1, n, WIDTH, device="meta")
        tokens = torch.empty(1, n, N_CHANNELS, device="meta")
        of_all, of_latents = partial(attention, wide), partial(perceiver, tokens)
        costs.append(Cost(n, count_multiply_adds(of_all), count_multiply_adds(of_latents)))
    return costs


def picture_scores(side: int = 512, width: int = 512, n_layers: int = 10) -> int:
    """Return the multiply-adds that full self-attention over side x side pixels takes for its scores alone, n^2 d."""
    query = torch.empty(side * side, width, device="meta")
    return sum(count_multiply_adds(lambda: query @ query.T) for _ in range(n_layers))


def measured_exponent(shortest: int = 4096, longest: int = 65536, *, n_samples: int = 4, n_rounds: int = 5) -> float:
    """Return the power of the number of tokens with which our forward's CPU time grows between two sizes."""
    module = build(OURS).eval()
    calls = {n: (module, torch.randn(n_samples, n, N_CHANNELS)) for n in (shortest, longest)}
    spent = cpu_seconds(calls, n_rounds, is_training=False)
    growth = statistics.median(spent[longest]) / statistics.median(spent[shortest])
    return math.log(growth) / math.log(longest / shortest)


def table(costs: list[Cost]) -> str:
    """Return the costs as Markdown, a row for each size."""
    lines = ["| tokens | full self-attention | Perceiver | times |", "|---:|---:|---:|---:|"]
    lines += [
        f"| {c.n_tokens:,} | {c.self_attention:.2e} | {c.perceiver:.2e} | {c.self_attention / c.perceiver:,.1f} |"
        for c in costs
    ]
    return "\n".join(lines)
