"""The Informer's encoder: only the queries that stand out attend (ProbSparse), and layers halve the sequence.

1. A few keys are sampled; a query whose largest score on them lies far above its mean score is *active*.
2. The u = c ln N most active queries attend to all keys; every other query gets the mean of the values.
3. Between layers, a convolution over neighbours and max-pooling halve the sequence (distilling).

References
----------
H. Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021,
doi:10.1609/aaai.v35i12.17325, arXiv:2012.07436. Different here: the encoder alone, and the mean of what is left
is classified; all queries of a sample share one draw of keys (the authors' code draws for each, which needs
N x u keys in memory), and in evaluation the keys are evenly spaced, so that answers do not change from call to
call; layer norm instead of batch norm and zeros instead of circular padding in the distilling, so that neither
batch-mates nor padding count; layer norm before each branch. The sequence is the house's tokens in the order of
signals and time, real ones first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.baselines.masked_layers import SelfAttentionLayer, masked_mean
from biopercept.model.attention import AttentionWidths, MultiHeadAttention, attend
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop, hide_keys, random_uniform
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion, TokenSettings

SAMPLING_FACTOR = 5.0
"""c in u = c ln N, the paper's choice."""


class ProbSparseAttention(MultiHeadAttention):
    """Self-attention in which only the most active queries of each head attend; the others get the mean value.

    Parameters
    ----------
    dropout : float
        Chance of a token to be hidden from an active query in training.
    factor : float
        c: both the active queries and the sampled keys of N tokens number ceil(c ln N), at most N.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0, factor: float = SAMPLING_FACTOR) -> None:
        super().__init__(AttentionWidths.all(width), n_heads, dropout)
        self.factor = factor

    def forward(
        self, queries: Tensor, inputs: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return (B, N, D) from tokens (B, N, D), given twice, and their mask (B, N), True = real."""
        real = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device) if mask is None else mask
        query, key, value = self._heads_of(queries, inputs)  # (B, H, N, d)
        n_real = real.sum(1)
        n_active = (self.factor * n_real.clamp(min=1).double().log()).ceil().long()
        n_active = torch.minimum(n_active.clamp(min=1), n_real)  # (B,)
        most = max(1, int(n_active.max()))
        sampled = self._sampled(real, n_real, n_active, most, generator)
        activity = _activity(query, key, sampled, n_active)  # (B, H, N)
        chosen = activity.masked_fill(~real[:, None], -math.inf).topk(most, dim=-1).indices  # (B, H, u)
        is_active = torch.arange(most, device=inputs.device) < n_active[:, None]  # (B, u)
        active = query.gather(2, chosen[..., None].expand(-1, -1, -1, query.shape[-1]))
        readable = hide_keys(most, inputs, real, self.dropout, generator) if self._hides else real
        attended = attend(active, key, value, readable, self.scale)  # (B, H, u, e)
        fraction = real / n_real.clamp(min=1)[:, None]
        mean = (fraction[:, None, None].to(value.dtype) @ value).expand_as(value)  # (B, H, N, e)
        index = chosen[..., None].expand_as(attended)
        summed = mean.scatter(2, index, torch.where(is_active[:, None, :, None], attended, mean.gather(2, index)))
        return self._output(summed)

    @property
    def _hides(self) -> bool:
        return self.training and self.dropout > 0.0

    def _sampled(
        self, real: Tensor, n_real: Tensor, n_sampled: Tensor, most: int, generator: torch.Generator | None
    ) -> Tensor:
        """Return the positions of the sampled keys (B, u); of a sample, only the first ``n_sampled`` count."""
        order = (~real).long().argsort(dim=1, stable=True)  # real tokens first, in their order
        number = torch.arange(most, device=real.device).expand(len(real), -1)
        if self.training:
            draw = random_uniform((len(real), most), real.device, generator)
        else:
            draw = (number + 0.5) / n_sampled[:, None].clamp(min=1)
        rank = (draw * n_real[:, None]).long().clamp(max=real.shape[1] - 1)
        return order.gather(1, torch.minimum(rank, (n_real[:, None] - 1).clamp(min=0)))


def _activity(query: Tensor, key: Tensor, sampled: Tensor, n_sampled: Tensor) -> Tensor:
    """Return the largest minus the mean score of each query on sampled keys: (B, H, N)."""
    keys = key.gather(2, sampled[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[-1]))
    scores = query @ keys.transpose(-1, -2)  # (B, H, N, u)
    number = torch.arange(sampled.shape[1], device=sampled.device)
    is_sampled = (number < n_sampled[:, None])[:, None, None]
    highest = scores.masked_fill(~is_sampled, -math.inf).amax(-1)
    mean = scores.masked_fill(~is_sampled, 0.0).sum(-1) / n_sampled[:, None, None].clamp(min=1)
    return highest - mean


class Distilling(nn.Module):
    """Convolution over three neighbours, norm, ELU, and max-pooling that halves the sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, ceil(N / 2), D) and their mask from tokens (B, N, D) and theirs."""
        x = self.neighbours((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)
        x = F.elu(self.norm(x)).masked_fill(~mask[..., None], -math.inf)
        pooled = F.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2)
        is_real = F.max_pool1d(mask[:, None].to(x.dtype), 3, 2, 1)[:, 0] > 0
        return pooled.masked_fill(~is_real[..., None], 0.0), is_real


class Informer(nn.Module):
    """Early fusion, ``n_layers`` ProbSparse layers with distilling between them, mean, linear layer.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, n_layers, n_heads, widening and the dropouts.
    n_outputs : int
        Classes.
    factor : float
        c of :class:`ProbSparseAttention`.
    """

    def __init__(
        self,
        settings: PerceiverSettings,
        token_settings: TokenSettings,
        vocabulary: TokenVocabulary,
        n_outputs: int,
        factor: float = SAMPLING_FACTOR,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(
                settings, ProbSparseAttention(settings.width, settings.n_heads, settings.attention_dropout, factor)
            )
            for _ in range(settings.n_layers)
        )
        self.distillings = nn.ModuleList(Distilling(settings.width) for _ in range(settings.n_layers - 1))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the draws in training."""
        x, mask = real_first(*self.fusion(inputs, generator))
        for number, layer in enumerate(self.layers):
            if number:
                x, mask = self.distillings[number - 1](x, mask)
            x = layer(x, generator, mask)
        answer = drop(masked_mean(self.norm(x), mask), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(answer)
        return output


def real_first(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens (B, M, D) and mask (B, M) with the real ones first, in their order; M is the most of a sample."""
    n_kept = max(1, int(mask.sum(1).max()))
    order = (~mask).long().argsort(dim=1, stable=True)[:, :n_kept]
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1])), mask.gather(1, order)
