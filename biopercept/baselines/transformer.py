"""A transformer encoder: full self-attention over the same tokens that the Perceiver reads; cost grows with N^2.

References
----------
A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, doi:10.48550/arXiv.1706.03762. Different here:
encoder only; layer norm before each branch instead of after it (R. Xiong et al., ICML 2020,
doi:10.48550/arXiv.2002.04745), tanh GELU, dropped residual paths, and positions from the token's own codes
(time in seconds, electrode, modality, rate) instead of its place in the array. The mean of the real tokens is
classified.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biopercept.baselines.masked_layers import SelfAttentionLayer, masked_mean
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion, TokenSettings


class Transformer(nn.Module):
    """Early fusion, ``n_layers`` layers of self-attention, mean of the real tokens, linear layer.

    Parameters
    ----------
    settings : PerceiverSettings
        Of it: width, n_layers, n_heads, widening and the dropouts.
    n_outputs : int
        Classes.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings = settings
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.layers = nn.ModuleList(SelfAttentionLayer(settings) for _ in range(settings.n_layers))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        x, mask = self.fusion(inputs, generator)  # (B, N, D), (B, N)
        for layer in self.layers:
            x = layer(x, generator, mask)
        answer = drop(masked_mean(self.norm(x), mask), self.settings.head_dropout, self.training, generator)
        output: Tensor = self.head(answer)
        return output
