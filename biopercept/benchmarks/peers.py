"""Other implementations of Perceiver IO at one common size, and ours, each as a module from tokens to class scores.

A peer that is not installed is absent with a sentence that says how to get it; the rest goes on.

References
----------
``perceiver-pytorch`` (lucidrains), ``transformers`` (Hugging Face), ``perceiver-io`` (M. Krasser). The first has gated
two-layer networks and so a third more parameters; the other two and ours have the same number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from biopercept.model.layers import LearnedArray, initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import CoreSettings

OURS = "biopercept"
N_SAMPLES, N_CHANNELS, N_LATENTS, WIDTH, N_LAYERS, N_CLASSES = 16, 64, 64, 128, 6, 4
CROSS_HEADS, SELF_HEADS, WIDENING = 4, 8, 4


class _Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = PerceiverIO(
            CoreSettings(
                input_width=N_CHANNELS,
                query_width=WIDTH,
                output_width=WIDTH,
                n_latents=N_LATENTS,
                latent_width=WIDTH,
                n_layers=N_LAYERS,
                n_cross_heads=CROSS_HEADS,
                n_self_heads=SELF_HEADS,
                n_decoder_heads=CROSS_HEADS,
                widening=WIDENING,
                decoder_widening=WIDENING,
                decoder_residual=True,
            )
        )
        self.queries = LearnedArray(1, WIDTH)
        self.output = nn.Linear(WIDTH, N_CLASSES)
        initialise(self)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.output(self.core(tokens, self.queries()))
        return scores


class _Called(nn.Module):
    """A peer's module with a function that calls it."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.call(self.module, tokens)
        return scores


def _perceiver_pytorch() -> nn.Module:
    from perceiver_pytorch import PerceiverIO as Peer

    module = Peer(
        depth=N_LAYERS,
        dim=N_CHANNELS,
        queries_dim=WIDTH,
        logits_dim=N_CLASSES,
        num_latents=N_LATENTS,
        latent_dim=WIDTH,
        cross_heads=CROSS_HEADS,
        latent_heads=SELF_HEADS,
        cross_dim_head=WIDTH // CROSS_HEADS,
        latent_dim_head=WIDTH // SELF_HEADS,
        decoder_ff=True,
    )
    module.register_parameter("queries", nn.Parameter(0.02 * torch.randn(1, WIDTH)))
    return _Called(module, lambda peer, tokens: peer(tokens, queries=peer.queries))


def _transformers() -> nn.Module:
    from transformers import PerceiverConfig, PerceiverModel
    from transformers.models.perceiver.modeling_perceiver import PerceiverClassificationDecoder

    config = PerceiverConfig(
        num_latents=N_LATENTS,
        d_latents=WIDTH,
        d_model=N_CHANNELS,
        num_blocks=1,
        num_self_attends_per_block=N_LAYERS,
        num_self_attention_heads=SELF_HEADS,
        num_cross_attention_heads=CROSS_HEADS,
        qk_channels=WIDTH,
        v_channels=WIDTH,
        self_attention_widening_factor=WIDENING,
        cross_attention_widening_factor=WIDENING,
        attention_probs_dropout_prob=0.0,
        num_labels=N_CLASSES,
    )
    decoder = PerceiverClassificationDecoder(
        config,
        trainable_position_encoding_kwargs={"num_channels": WIDTH, "index_dims": 1},
        num_channels=WIDTH,
        num_heads=CROSS_HEADS,
        widening_factor=WIDENING,
        qk_channels=WIDTH,
        v_channels=WIDTH,
        use_query_residual=True,
    )
    return _Called(PerceiverModel(config, decoder=decoder), lambda peer, tokens: peer(inputs=tokens).logits)


def _perceiver_io() -> nn.Module:
    from perceiver.model.core import (
        ClassificationOutputAdapter,
        InputAdapter,
        PerceiverDecoder,
        PerceiverEncoder,
        TrainableQueryProvider,
    )

    class Given(InputAdapter):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(num_input_channels=N_CHANNELS)

        def forward(self, tokens: Tensor) -> Tensor:
            return tokens

    encoder = PerceiverEncoder(
        Given(),
        num_latents=N_LATENTS,
        num_latent_channels=WIDTH,
        num_cross_attention_heads=CROSS_HEADS,
        num_cross_attention_qk_channels=WIDTH,
        num_cross_attention_v_channels=WIDTH,
        cross_attention_widening_factor=WIDENING,
        num_self_attention_heads=SELF_HEADS,
        num_self_attention_layers_per_block=N_LAYERS,
        self_attention_widening_factor=WIDENING,
    )
    decoder = PerceiverDecoder(
        ClassificationOutputAdapter(num_classes=N_CLASSES, num_output_query_channels=WIDTH),
        TrainableQueryProvider(num_queries=1, num_query_channels=WIDTH),
        num_latent_channels=WIDTH,
        num_cross_attention_heads=CROSS_HEADS,
        num_cross_attention_qk_channels=WIDTH,
        num_cross_attention_v_channels=WIDTH,
        cross_attention_widening_factor=WIDENING,
    )
    return _Called(nn.Sequential(encoder, decoder), lambda peer, tokens: peer(tokens))


PEERS: dict[str, Callable[[], nn.Module]] = {
    "perceiver-pytorch": _perceiver_pytorch,
    "transformers": _transformers,
    "perceiver-io": _perceiver_io,
}
_HOW = {
    "perceiver-pytorch": "pip install 'biopercept[bench]'",
    "transformers": "pip install 'biopercept[bench]'",
    "perceiver-io": "pip install --no-deps --ignore-requires-python perceiver-io==0.11.0 fairscale einops",
}


def build(name: str) -> nn.Module:
    """Return the implementation of this name at the common size, from tokens (B, N, 64) to 4 class scores a sample.

    Raises ImportError where the peer, or something it imports, is not installed.
    """
    if name == OURS:
        return _Ours()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what others' code warns of at its import is theirs
        return PEERS[name]()


def installed(names: Iterable[str] = PEERS) -> tuple[dict[str, nn.Module], list[str]]:
    """Return ours and the peers that can be imported, and one sentence for each that cannot."""
    modules, absent = {OURS: build(OURS)}, []
    for name in names:
        try:
            modules[name] = build(name)
        except ImportError as error:
            absent.append(f"{name} is left out, it cannot be imported ({error}); to have it: {_HOW[name]}")
    return modules, absent
