"""The Perceiver IO for biosignals: early fusion of sensors, the core, and an output query per task."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError
from biopercept.model.dropout import drop
from biopercept.model.layers import LearnedArray, initialise
from biopercept.model.perceiver import CoreSettings, PerceiverIO, refuse_out_of_range
from biopercept.model.rotary import refuse_odd_heads
from biopercept.model.tokens import EarlyFusion, TokenInputs, TokenSettings, TokenVocabulary


@dataclass(frozen=True)
class PerceiverSettings:
    """Size and regularisation of the network; the defaults suit tens of subjects (about 200 000 parameters).

    Attributes
    ----------
    width : int
        Width of tokens, latents and queries.
    n_latents : int
    n_blocks, n_layers : int
        Latent blocks (which share their weights) and transformer layers in each.
    n_cross_attentions : int
        Times the latents read the tokens, one before each of the first blocks, with shared weights.
    n_heads : int
        Attention heads everywhere; must divide ``width``.
    widening : int
        Hidden width of the two-layer networks, in multiples of ``width``.
    rotary_latents : bool
        Latents are spread over the time that the time code knows (``tokens.longest_seconds``), and their
        self-attention turns with the time between them (see ``rotary``).
    attention_dropout, feedforward_dropout, head_dropout, path_dropout : float
        Chance in training that a token is hidden from a latent; that an element of a two-layer network's output,
        an element of what the output layer reads, or a residual branch of a latent layer (per sample) is dropped.
    """

    width: int = 64
    n_latents: int = 24
    n_blocks: int = 1
    n_layers: int = 3
    n_cross_attentions: int = 1
    n_heads: int = 4
    widening: int = 2
    rotary_latents: bool = False
    attention_dropout: float = 0.1
    feedforward_dropout: float = 0.2
    head_dropout: float = 0.2
    path_dropout: float = 0.0

    def __post_init__(self) -> None:
        refuse_out_of_range(self)
        if self.width % self.n_heads:
            raise SettingsError(f"The model setting n_heads is {self.n_heads}; it must divide the width {self.width}.")
        if self.rotary_latents:
            refuse_odd_heads(self.width // self.n_heads)

    def core(self, tokens: TokenSettings) -> CoreSettings:
        """Return the shape of the core these settings stand for, for tokens made by the settings ``tokens``."""
        return CoreSettings(
            input_width=self.width,
            query_width=self.width,
            output_width=self.width,
            n_latents=self.n_latents,
            latent_width=self.width,
            n_blocks=self.n_blocks,
            n_layers=self.n_layers,
            n_cross_attentions=self.n_cross_attentions,
            n_cross_heads=self.n_heads,
            n_self_heads=self.n_heads,
            n_decoder_heads=self.n_heads,
            widening=self.widening,
            decoder_widening=self.widening,
            decoder_residual=True,
            rotary_seconds=tokens.longest_seconds if self.rotary_latents else None,
            attention_dropout=self.attention_dropout,
            feedforward_dropout=self.feedforward_dropout,
            path_dropout=self.path_dropout,
        )


class BiosignalPerceiver(nn.Module):
    """Read any subset of sensors over a window and answer one learned query.

    The only time that goes in is seconds within the window: where in a session the window
    lies has no way to reach the model.

    Parameters
    ----------
    settings : PerceiverSettings
    token_settings : TokenSettings
    vocabulary : TokenVocabulary
    n_outputs : int
        Numbers per answer: classes of a classification, 1 for a regression.

    Raises
    ------
    SettingsError
        Where a setting is out of its range.
    """

    def __init__(
        self,
        settings: PerceiverSettings,
        token_settings: TokenSettings,
        vocabulary: TokenVocabulary,
        n_outputs: int,
    ) -> None:
        super().__init__()
        if n_outputs < 1:
            raise SettingsError(f"The model is to give {n_outputs} outputs; it must give at least 1.")
        self.settings = settings
        self.core = PerceiverIO(settings.core(token_settings))
        self.fusion = EarlyFusion(settings.width, token_settings, vocabulary)
        self.queries = LearnedArray(1, settings.width)  # one row per task
        self.head = nn.Linear(settings.width, n_outputs)
        initialise(self)

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def embed(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return the decoder's answer to each query before the output layer: (B, Q, width)."""
        tokens, mask = self.fusion(inputs, generator)
        answers: Tensor = self.core(tokens, self.queries(), mask, generator)
        return answers

    def forward(self, inputs: TokenInputs, generator: torch.Generator | None = None) -> Tensor:
        """Return the outputs of each window.

        Parameters
        ----------
        inputs : TokenInputs
            A batch of B windows; any subset of the vocabulary's sensors and feature groups.
        generator : torch.Generator or None
            In training mode: source of every dropout draw, on the model's device; None: torch's
            global one. Plays no part in evaluation mode.

        Returns
        -------
        Tensor (B, n_outputs)
            Logits of a classification, values of a regression.

        Raises
        ------
        CheckpointError
            Where the inputs hold what the vocabulary does not.
        """
        answer = self.embed(inputs, generator)[:, 0]  # (B, width)
        output: Tensor = self.head(drop(answer, self.settings.head_dropout, self.training, generator))
        return output

    def token_attention(self, inputs: TokenInputs) -> tuple[Tensor, Tensor]:
        """Return the latents' attention to the tokens (B, H, n_latents, N) and the tokens' mask (B, N)."""
        tokens, mask = self.fusion(inputs)
        return self.core.input_attention(tokens, mask), mask
