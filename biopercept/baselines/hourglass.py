"""A dense hourglass on the features: narrowing to a quarter and widening again, with a bridge at each width.

References
----------
After A. Newell, K. Yang and J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016,
doi:10.1007/978-3-319-46484-8_29. Different here: dense layers instead of convolutions, since features have no
neighbours; two halvings; ``n_blocks`` hourglasses are stacked with a residual around each, without the
supervision between them.
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
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings

N_HALVINGS = 2


class DenseHourglass(nn.Module):
    """Layers of width W, W/2, W/4, W/2, W; each on the way back adds the one of its width on the way in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [max(1, width >> n) for n in range(N_HALVINGS + 1)]
        self.norm = nn.LayerNorm(width)
        self.narrowing = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.bridges = nn.ModuleList(nn.Linear(a, a) for a in widths[:-1])
        self.widening = nn.ModuleList(nn.Linear(b, a) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, W) from (B, W)."""
        kept = []
        hidden_values = self.norm(x)
        for narrow, bridge in zip(self.narrowing, self.bridges, strict=True):
            kept.append(bridge(hidden_values))
            hidden_values = F.gelu(narrow(hidden_values))
        for widen in reversed(self.widening):
            hidden_values = F.gelu(widen(hidden_values)) + kept.pop()
        output: Tensor = x + hidden_values
        return output


class Hourglass(nn.Module):
    """Features of all groups, ``n_blocks`` dense hourglasses, linear layer.

    Raises SettingsError where features are switched off.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, n_blocks, feedforward_dropout and head_dropout.
    n_outputs : int
        Classes.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        if not token_settings.features:
            raise SettingsError("The model hourglass reads features; set tokens.features to true.")
        self.settings, self.token_settings = settings, token_settings
        self.features = FeatureCode(settings.width, vocabulary.feature_groups)
        self.hourglasses = nn.ModuleList(DenseHourglass(settings.width) for _ in range(settings.n_blocks))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def tokens_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the part of the inputs that is read: features alone."""
        return TokenInputs((), inputs.features)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        kept = self.tokens_read(inputs)
        if self.training:
            kept = hidden(kept, self.token_settings, generator)
        x = self.features(kept.features, inputs.n_samples, self.head.weight)
        for hourglass in self.hourglasses:
            x = hourglass(drop(x, self.settings.feedforward_dropout, self.training, generator))
        output: Tensor = self.head(drop(self.norm(x), self.settings.head_dropout, self.training, generator))
        return output
