"""The original Perceiver: latents read the tokens again and again, their mean is classified, no output queries.

References
----------
A. Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021,
doi:10.48550/arXiv.2103.03206. Different here: all reads of the input share their weights, the first
included, as do the latent blocks (the paper shares all but the first); tokens, time codes and sensor
dropout are the house's own (``EarlyFusion``), so that the two Perceivers differ in the core alone; sizes
suit tens of subjects.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.dropout import drop
from biopercept.model.layers import initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.token_inputs import TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion, TokenSettings

LEAST_READS = 2
"""Times the input is read at least: with a single read nothing would be iterated."""


class Perceiver(nn.Module):
    """Repeated cross-attention with shared weights, latent blocks between, mean of the latents, linear layer.

    Parameters
    ----------
    settings : PerceiverSettings
        ``n_blocks`` latent blocks, but at least two; the tokens are read before each of them.
    n_outputs : int
        Classes.
    """

    def __init__(
        self, settings: PerceiverSettings, token_settings: TokenSettings, vocabulary: TokenVocabulary, n_outputs: int
    ) -> None:
        super().__init__()
        self.settings = settings
        n_reads = max(LEAST_READS, settings.n_blocks)
        self.core = PerceiverIO(replace(settings.core(token_settings), n_blocks=n_reads, n_cross_attentions=n_reads))
        del self.core.decoder  # nothing is asked of the latents: their mean is the answer
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return logits (B, n_outputs); ``generator`` gives the dropout draws in training."""
        tokens, mask = self.fusion(inputs, generator)
        latents = self.core.encode(tokens, mask, generator)  # (B, L, D)
        output: Tensor = self.head(drop(latents.mean(1), self.settings.head_dropout, self.training, generator))
        return output
