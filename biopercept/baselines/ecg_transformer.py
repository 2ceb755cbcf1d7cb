"""Behinaein's stress transformer on the raw electrocardiogram, or on the pulse wave where there is none.

1. Two convolutions, each with ReLU and max-pooling, turn the wave into one token a second (128 Hz).
2. A linear embedding, and sinusoidal positions added to it.
3. Transformer encoder layers (norm after each branch, ReLU).
4. Three linear layers with ReLU and dropout.

References
----------
B. Behinaein, A. Bhatti, D. Rodenburg, P. Hungler, A. Etemad, "A Transformer Architecture for Stress Detection
from ECG", ISWC 2021, doi:10.1145/3460421.3480427, arXiv:2108.09737. The sizes are those of a public
re-implementation: convolutions 1-64 (kernel 64, stride 8) and 64-128 (kernel 32, stride 4), width 1024, 4 layers,
4 heads, hidden width 512, head 512-256. Different here: the width is a setting (with 1024 and 4 layers the paper's
sizes come out; 64 by default, for 30 to 60 million numbers and 15 subjects are what not to copy); the head reads
the mean over time, where the original flattens time (39 of its 60 million numbers, and one window length for good);
a window without ECG is read from its pulse wave, brought to the same rate; gaps are masked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.baselines.masked_layers import full_attention, hidden, masked_mean
from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings

WAVES = ("ecg", "bvp")
"""Modalities that are read, the preferred first."""

FIELD_SAMPLES, STEP_SAMPLES = 632, 128
"""Samples that a token sees, and from one token to the next: what the two convolutions and poolings amount to."""

_SAMPLES_A_PATCH = MODALITIES["ecg"].patch_samples


class EcgTransformer(nn.Module):
    """The network of the module's numbered steps.

    Raises SettingsError where raw signals are switched off.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, n_layers, n_heads and the dropouts.
    n_outputs : int
        Classes.
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
        waves = self.tokens_read(inputs).sensors
        if self.training:
            waves = hidden(TokenInputs(waves), self.token_settings, generator).sensors
        wave, is_real = wave_of(waves, inputs)
        answer = masked_mean(*self._encode(wave, is_real, generator)) if wave.shape[1] else self._nothing(inputs)
        for layer in self.hidden_layers:
            answer = drop(F.relu(layer(answer)), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(answer)
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

    def _nothing(self, inputs: TokenInputs) -> Tensor:
        return self.head.weight.new_zeros(inputs.n_samples, self.settings.width)


class PostNormLayer(nn.Module):
    """A transformer encoder layer with the norm after each branch, ReLU, and a hidden width of half the width."""

    def __init__(self, settings: PerceiverSettings) -> None:
        super().__init__()
        self.dropout = settings.feedforward_dropout
        self.attention = full_attention(settings)
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


def wave_of(waves: tuple[SensorPatches, ...], inputs: TokenInputs) -> tuple[Tensor, Tensor]:
    """Return one wave per window at 128 Hz and which samples are real, both (B, T); T is 0 where there is no signal.

    Parameters
    ----------
    waves : tuple of SensorPatches
        Preferred first: a window is read from the first that has a real patch in it, and of that from the channel
        with the most.
    inputs : TokenInputs
        Tells the number of windows.
    """
    if not waves:
        return torch.zeros(inputs.n_samples, 0), torch.zeros(inputs.n_samples, 0, dtype=torch.bool)
    n_patches = max(s.is_real.shape[2] for s in waves)
    like = waves[0].patches
    wave = like.new_zeros(len(like), n_patches, _SAMPLES_A_PATCH)
    real = torch.zeros(len(like), n_patches, dtype=torch.bool, device=like.device)
    for signal in waves:
        best = signal.is_real.sum(2).argmax(1)  # (B,)
        row = torch.arange(len(best), device=best.device)
        patches, is_held = signal.patches[row, best], signal.is_real[row, best]  # (B, P, L), (B, P)
        patches = patches.masked_fill(~is_held[..., None], 0.0)
        if patches.shape[2] != _SAMPLES_A_PATCH:
            flat = patches.flatten(1)[:, None]
            size = patches.shape[1] * _SAMPLES_A_PATCH
            patches = F.interpolate(flat, size=size, mode="linear").view(len(patches), -1, _SAMPLES_A_PATCH)
        more = n_patches - patches.shape[1]
        is_next = is_held.any(1) & ~real.any(1)
        wave = torch.where(is_next[:, None, None], F.pad(patches, (0, 0, 0, more)), wave)
        real = torch.where(is_next[:, None], F.pad(is_held, (0, more)), real)
    return wave.flatten(1), real.repeat_interleave(_SAMPLES_A_PATCH, 1)


def sinusoids(n: int, width: int) -> Tensor:
    """Return the fixed positions (n, width) of Vaswani et al. 2017: sines at even places, cosines at odd ones."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(n)[:, None] * rate
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width]
