"""Baseline networks of attention: the original Perceiver, a transformer, the Informer, and a transformer on the ECG.

Each is a class whose docstring names its source and what differs here; the first three read the tokens that
Perceiver IO reads, by the same early fusion.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.attention import AttentionWidths, MultiHeadAttention, attend
from biopercept.model.dropout import drop, hide_keys, random_uniform
from biopercept.model.layers import LatentLayer, initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion, hide_tokens

LEAST_READS = 2
"""Times the input is read at least: with a single read nothing would be iterated."""

SAMPLING_FACTOR = 5.0
"""c in u = c ln N, the paper's choice."""

WAVES = ("ecg", "bvp")
"""Modalities that are read, the preferred first."""

FIELD_SAMPLES, STEP_SAMPLES = 632, 128
"""Samples that a token sees, and from one token to the next: what the two convolutions and poolings amount to."""

_SAMPLES_A_PATCH = MODALITIES["ecg"].patch_samples


def _full_attention(settings: PerceiverSettings) -> MultiHeadAttention:
    return MultiHeadAttention(AttentionWidths.all(settings.width), settings.n_heads, settings.attention_dropout)


def _layer(settings: PerceiverSettings, attention: MultiHeadAttention) -> LatentLayer:
    return LatentLayer(attention, settings.widening, settings.feedforward_dropout, settings.path_dropout)


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real tokens: (B, D) from ``x`` (B, N, D) and ``mask`` (B, N); 0 where none is real."""
    real = mask[..., None].to(x.dtype)
    total: Tensor = (x * real).sum(1)
    return total / real.sum(1).clamp(min=1.0)


class Perceiver(nn.Module):
    """The original Perceiver: latents read the tokens again and again, their mean is classified, no output queries.

    The tokens are read before each of ``settings.n_blocks`` latent blocks, of which there are at least two.

    References
    ----------
    A. Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021,
    doi:10.48550/arXiv.2103.03206. Different here: all reads of the input share their weights, the first included, as do
    the latent blocks (the paper shares all but the first); tokens, time codes and sensor dropout are the house's own
    (``EarlyFusion``), so that the two Perceivers differ in the core alone; sizes suit tens of subjects.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings = settings
        n_reads = max(LEAST_READS, settings.n_blocks)
        self.core = PerceiverIO(replace(settings.core(token_settings), n_blocks=n_reads, n_cross_attentions=n_reads))
        del self.core.decoder  # no output queries: the mean of the latents is classified
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        tokens, mask = self.fusion(inputs, generator)
        latents = self.core.encode(tokens, mask, generator)  # (B, L, D)
        output: Tensor = self.head(drop(latents.mean(1), self.settings.head_dropout, self.training, generator))
        return output


class Transformer(nn.Module):
    """A transformer encoder: full self-attention over the tokens that the Perceiver reads; cost grows with N^2.

    Of the settings it reads width, n_layers, n_heads, widening and the dropouts.

    References
    ----------
    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, doi:10.48550/arXiv.1706.03762. Different here: encoder
    only; layer norm before each branch instead of after it (R. Xiong et al., ICML 2020, doi:10.48550/arXiv.2002.04745),
    tanh GELU, dropped residual paths, and positions from the token's own codes (time in seconds, electrode, modality,
    rate) instead of its index in the array. The mean of the real tokens is classified.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings = settings
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.layers = nn.ModuleList(_layer(settings, _full_attention(settings)) for _ in range(settings.n_layers))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        x, mask = self.fusion(inputs, generator)  # (B, N, D), (B, N)
        for layer in self.layers:
            x = layer(x, generator, mask)
        x = drop(_masked_mean(self.norm(x), mask), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(x)
        return output


class ProbSparseAttention(MultiHeadAttention):
    """Self-attention in which only the most active queries of each head attend; the others get the mean value.

    Both the active queries and the sampled keys of N tokens number ceil(``factor`` ln N), at most N. ``dropout`` is the
    chance of a token to be hidden from an active query in training.
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
    """The Informer's encoder: only the queries that stand out attend (ProbSparse), and layers halve the sequence.

    1. A few keys are sampled; a query whose largest score on them lies far above its mean score is *active*.
    2. The u = c ln N most active queries attend to all keys; every other query gets the mean of the values.
    3. Between layers, a convolution over neighbours and max-pooling halve the sequence (distilling).

    Of the settings it reads width, n_layers, n_heads, widening and the dropouts.

    References
    ----------
    H. Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021,
    doi:10.1609/aaai.v35i12.17325, arXiv:2012.07436. Different here: the encoder alone, and the mean of what is left is
    classified; all queries of a sample share one draw of keys (the authors' code draws for each, which needs N x u keys
    in memory), and in evaluation the keys are evenly spaced, so that outputs do not change from call to call; layer
    norm instead of batch norm and zeros instead of circular padding in the distilling, so that neither batch-mates nor
    padding count; layer norm before each branch. The sequence is the house's tokens in the order of signals and time,
    real ones first.
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
            _layer(settings, ProbSparseAttention(settings.width, settings.n_heads, settings.attention_dropout, factor))
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
        x = drop(_masked_mean(self.norm(x), mask), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(x)
        return output


def real_first(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens (B, M, D) and mask (B, M) with the real ones first, in their order; M is the most of a sample."""
    n_kept = max(1, int(mask.sum(1).max()))
    order = (~mask).long().argsort(dim=1, stable=True)[:, :n_kept]
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1])), mask.gather(1, order)


class EcgTransformer(nn.Module):
    """Behinaein's stress transformer on the raw electrocardiogram, or on the pulse wave where there is none.

    1. Two convolutions, each with ReLU and max-pooling, turn the wave into one token a second (128 Hz).
    2. A linear embedding, and sinusoidal positions added to it.
    3. Transformer encoder layers (norm after each branch, ReLU).
    4. Three linear layers with ReLU and dropout.

    Of the settings it reads width, n_layers, n_heads and the dropouts.

    Raises SettingsError where raw signals are switched off.

    References
    ----------
    B. Behinaein, A. Bhatti, D. Rodenburg, P. Hungler, A. Etemad, "A Transformer Architecture for Stress Detection from
    ECG", ISWC 2021, doi:10.1145/3460421.3480427, arXiv:2108.09737. The sizes are those of a public re-implementation:
    convolutions 1-64 (kernel 64, stride 8) and 64-128 (kernel 32, stride 4), width 1024, 4 layers, 4 heads, hidden
    width 512, head 512-256. Different here: the width is a setting (with 1024 and 4 layers the paper's sizes come out;
    64 by default, for 30 to 60 million numbers and 15 subjects are what not to copy); the head reads the mean over
    time, where the original flattens time (39 of its 60 million numbers, and one window length for good); a window
    without ECG is read from its pulse wave, brought to the same rate; gaps are masked.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        if not token_settings.raw:
            raise SettingsError("The model ecg-transformer reads raw signals; set tokens.raw to true.")
        self.settings, self.token_settings = settings, token_settings
        width = settings.width
        narrow, wide = min(64, width), min(128, 2 * width)
        self.first = nn.Conv1d(1, narrow, 64, stride=8)
        self.second = nn.Conv1d(narrow, wide, 32, stride=4)
        self.embed = nn.Linear(wide, width)
        self.layers = nn.ModuleList(PostNormLayer(settings) for _ in range(settings.n_layers))
        self.hidden_layers = nn.ModuleList((nn.Linear(width, width // 2), nn.Linear(width // 2, width // 4)))
        self.head = nn.Linear(width // 4, n_outputs)
        initialise(self)

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read, the preferred wave first."""
        return TokenInputs(tuple(s for name in WAVES for s in inputs.sensors if s.modality == name))

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        waves = hide_tokens(self.tokens_read(inputs), self.token_settings.dropout, self.training, generator).sensors
        wave, is_real = wave_of(waves, inputs.n_samples)
        x = self.head.weight.new_zeros(inputs.n_samples, self.settings.width)
        if wave.shape[1]:
            x = _masked_mean(*self._encode(wave, is_real, generator))
        for layer in self.hidden_layers:
            x = drop(F.relu(layer(x)), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(x)
        return output

    def _encode(self, wave: Tensor, is_real: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return tokens (B, N, D) and their mask (B, N) from a wave (B, T) and which samples are real (B, T)."""
        missing = max(0, FIELD_SAMPLES - wave.shape[1])
        x = F.pad(wave.masked_fill(~is_real, 0.0), (0, missing))[:, None]  # (B, 1, T)
        x = F.max_pool1d(F.relu(self.first(x)), 2)  # 1.
        x = F.max_pool1d(F.relu(self.second(x)), 2)  # (B, 2 W, N)
        seen = F.max_pool1d(F.pad(is_real.to(wave.dtype), (0, missing))[:, None], FIELD_SAMPLES, STEP_SAMPLES)
        mask = seen[:, 0] > 0
        x = self.embed(x.transpose(1, 2))  # 2. (B, N, D)
        x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        x = drop(x, self.settings.feedforward_dropout, self.training, generator)
        for layer in self.layers:
            x = layer(x, mask, generator)  # 3.
        return x, mask


class PostNormLayer(nn.Module):
    """A transformer encoder layer with the norm after each branch, ReLU, and a hidden width of half the width."""

    def __init__(self, settings: PerceiverSettings) -> None:
        super().__init__()
        self.dropout = settings.feedforward_dropout
        self.attention = _full_attention(settings)
        self.norm_attention = nn.LayerNorm(settings.width)
        self.narrow = nn.Linear(settings.width, settings.width // 2)
        self.widen = nn.Linear(settings.width // 2, settings.width)
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, x: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return tokens (B, N, D) from tokens (B, N, D) and their mask (B, N)."""
        read = self.attention(x, x, mask, generator)
        x = self.norm_attention(x + drop(read, self.dropout, self.training, generator))
        branch = self.widen(drop(F.relu(self.narrow(x)), self.dropout, self.training, generator))
        output: Tensor = self.norm(x + drop(branch, self.dropout, self.training, generator))
        return output


def wave_of(waves: tuple[SensorPatches, ...], n_samples: int) -> tuple[Tensor, Tensor]:
    """Return one wave per window at 128 Hz and which samples are real, both (B, T); T is 0 where there is no signal.

    A window is read from the first of ``waves`` that has a real patch in it, and there from the channel with the most.
    """
    if not waves:
        return torch.zeros(n_samples, 0), torch.zeros(n_samples, 0, dtype=torch.bool)
    n_patches = max(s.is_real.shape[2] for s in waves)
    like = waves[0].patches
    wave = like.new_zeros(len(like), n_patches, _SAMPLES_A_PATCH)
    real = torch.zeros(len(like), n_patches, dtype=torch.bool, device=like.device)
    for signal in waves:
        best = signal.is_real.sum(2).argmax(1)  # (B,)
        row = torch.arange(len(best), device=best.device)
        patches, is_measured = signal.patches[row, best], signal.is_real[row, best]  # (B, P, L), (B, P)
        patches = patches.masked_fill(~is_measured[..., None], 0.0)
        if patches.shape[2] != _SAMPLES_A_PATCH:
            flat = patches.flatten(1)[:, None]
            size = patches.shape[1] * _SAMPLES_A_PATCH
            patches = F.interpolate(flat, size=size, mode="linear").view(len(patches), -1, _SAMPLES_A_PATCH)
        more = n_patches - patches.shape[1]
        is_next = is_measured.any(1) & ~real.any(1)
        wave = torch.where(is_next[:, None, None], F.pad(patches, (0, 0, 0, more)), wave)
        real = torch.where(is_next[:, None], F.pad(is_measured, (0, more)), real)
    return wave.flatten(1), real.repeat_interleave(_SAMPLES_A_PATCH, 1)


def sinusoids(n: int, width: int) -> Tensor:
    """Return the fixed positions (n, width) of Vaswani et al. 2017: sines at even positions, cosines at odd ones."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(n)[:, None] * rate
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width]
