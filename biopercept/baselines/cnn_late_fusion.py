"""Late fusion of networks: a convolutional network for each modality, and a network on top of their answers.

References
----------
After J. Ngiam et al., "Multimodal Deep Learning", ICML 2011 (a network per modality, joined at the top), with the
plain convolutional networks of Z. Wang, W. Yan and T. Oates, "Time Series Classification from Scratch", IJCNN 2017,
doi:10.1109/IJCNN.2017.7966039 (convolutions, then the mean over time). Different here: strides instead of full
resolution, so that a 128 Hz wave is affordable; layer norm over channels instead of batch norm, so that batch-mates
and padding do not count; channels of one modality (leads, electrodes) pass the same network and are averaged; the
mean runs over real time only, and a missing modality adds exactly nothing on top. Feature groups join at the top.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from biopercept.baselines.masked_layers import FeatureCode, hidden
from biopercept.errors import SettingsError
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings

KERNEL, STRIDE = 7, 4
MOST_LAYERS = 3


class SignalNetwork(nn.Module):
    """Strided convolutions over one channel's wave; how many depends on the samples of a patch.

    Parameters
    ----------
    width : int
        Channels after the last layer; each layer before has half as many as the next.
    patch_samples : int
        A patch is brought to a few positions: one layer for each factor of four in it, at most three.
    """

    def __init__(self, width: int, patch_samples: int) -> None:
        super().__init__()
        n_layers = next(n for n in range(1, MOST_LAYERS + 1) if n == MOST_LAYERS or STRIDE ** (n + 1) > patch_samples)
        widths = [1, *(max(1, width >> (n_layers - 1 - n)) for n in range(n_layers))]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, KERNEL, STRIDE, KERNEL // 2) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(b) for b in widths[1:])

    def forward(self, sensor: SensorPatches) -> tuple[Tensor, Tensor]:
        """Return the sum over real positions of all channels (B, width) and their number (B,)."""
        b, c, p, length = sensor.patches.shape
        is_real = sensor.is_real[..., None].expand(-1, -1, -1, length).reshape(b * c, 1, p * length)
        x = sensor.patches.reshape(b * c, 1, p * length).masked_fill(~is_real, 0.0)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.gelu(norm(layer(x).transpose(1, 2)).transpose(1, 2))
            is_real = is_real[..., ::STRIDE]
            x = x.masked_fill(~is_real, 0.0)
        return x.sum(2).view(b, c, -1).sum(1), is_real.sum((1, 2)).view(b, c).sum(1)


class CnnLateFusion(nn.Module):
    """A :class:`SignalNetwork` for each modality, features, and a two-layer network on top.

    Raises SettingsError where neither raw nor derived signals are read.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, widening, feedforward_dropout and head_dropout.
    n_outputs : int
        Classes.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings, self.token_settings = settings, token_settings
        read = {m: length for m, length in vocabulary.patch_samples.items() if token_settings.reads(m)}
        if not read:
            raise SettingsError("The model cnn-late-fusion reads signals; set tokens.raw or tokens.derived to true.")
        width = settings.width
        self.networks = nn.ModuleDict({m: SignalNetwork(width, length) for m, length in read.items()})
        # A linear layer on the joined vectors, written as one part per modality: a missing one adds nothing.
        self.joints = nn.ModuleDict({m: nn.Linear(width, settings.widening * width) for m in read})
        groups = vocabulary.feature_groups if token_settings.features else {}
        self.features = FeatureCode(settings.widening * width, groups)
        self.top = nn.Linear(settings.widening * width, width)
        self.head = nn.Linear(width, n_outputs)
        initialise(self)

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read: signals with a network of their own, and features."""
        sensors = tuple(s for s in inputs.sensors if s.modality in self.networks)
        return TokenInputs(sensors, inputs.features if self.token_settings.features else ())

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        kept = self.tokens_read(inputs)
        if self.training:
            kept = hidden(kept, self.token_settings, generator)
        joined = self.features(kept.features, inputs.n_samples, self.head.weight)
        for modality in dict.fromkeys(s.modality for s in kept.sensors):
            joined = joined + self._answer(modality, kept.sensors)
        chance = self.settings.feedforward_dropout
        answer = F.gelu(self.top(drop(F.gelu(joined), chance, self.training, generator)))
        output: Tensor = self.head(drop(answer, self.settings.head_dropout, self.training, generator))
        return output

    def _answer(self, modality: str, sensors: tuple[SensorPatches, ...]) -> Tensor:
        """Return a modality's part of the first layer on top (B, widening * width); 0 where it is missing."""
        outputs = [self.networks[modality](s) for s in sensors if s.modality == modality]
        total = torch.stack([x for x, _ in outputs]).sum(0)
        n_real = torch.stack([n for _, n in outputs]).sum(0)[:, None]
        part: Tensor = self.joints[modality](total / n_real.clamp(min=1))
        return part.masked_fill(n_real == 0, 0.0)
