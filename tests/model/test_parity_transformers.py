"""The core against Hugging Face's PerceiverModel with the same random weights (``pip install 'biopercept[bench]'``).

Faithful there with the tanh GELU (``gelu_new``; its default is the exact one) and the paper's width of the first
cross-attention, that of the input (``shape_for_attention="kv"``). Partly masked samples agree. A sample of which every
token is masked does not: Hugging Face reads the mean of what is masked, the original and we read exactly nothing.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from biopercept.model.layers import CrossAttention, LatentLayer
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import CoreSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it warns of at its import is its own
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install 'biopercept[bench]'"
    )
    from transformers.models.perceiver.modeling_perceiver import PerceiverClassificationDecoder

INPUT, WIDTH, N_LATENTS, N_LAYERS, N_BLOCKS, N_CLASSES, WIDENING = 24, 32, 7, 2, 2, 5, 3


def _theirs(*, residual: bool, hidden_act: str = "gelu_new") -> torch.nn.Module:
    config = transformers.PerceiverConfig(
        num_latents=N_LATENTS,
        d_latents=WIDTH,
        d_model=INPUT,
        num_blocks=N_BLOCKS,
        num_self_attends_per_block=N_LAYERS,
        num_self_attention_heads=8,
        num_cross_attention_heads=4,
        self_attention_widening_factor=WIDENING,
        cross_attention_widening_factor=WIDENING,
        cross_attention_shape_for_attention="kv",
        attention_probs_dropout_prob=0.0,
        hidden_act=hidden_act,
        num_labels=N_CLASSES,
    )
    decoder = PerceiverClassificationDecoder(
        config,
        trainable_position_encoding_kwargs={"num_channels": WIDTH, "index_dims": 1},
        num_channels=WIDTH,
        num_heads=4,
        widening_factor=1,
        use_query_residual=residual,
    )
    torch.manual_seed(0)
    model = transformers.PerceiverModel(config, decoder=decoder).eval()
    for parameter in model.parameters():  # also norms and biases, so that each one counts
        parameter.data.normal_(0.0, 0.3)
    return model


def _ours(theirs: torch.nn.Module, *, residual: bool) -> tuple[PerceiverIO, torch.nn.Linear, torch.Tensor]:
    """Return the core, output layer and query with the weights of a PerceiverModel."""
    core = PerceiverIO(
        CoreSettings(
            input_width=INPUT,
            query_width=WIDTH,
            output_width=WIDTH,
            n_latents=N_LATENTS,
            latent_width=WIDTH,
            n_blocks=N_BLOCKS,
            n_layers=N_LAYERS,
            n_cross_heads=4,
            n_self_heads=8,
            n_decoder_heads=4,
            cross_qk_width=INPUT,
            cross_v_width=INPUT,
            widening=WIDENING,
            decoder_residual=residual,
        )
    ).eval()
    core.latents.values.data = theirs.embeddings.latents.data
    _copy(core.cross_attentions[0], theirs.encoder.cross_attention)
    for own, their in zip(core.blocks[0], theirs.encoder.self_attends, strict=True):
        _copy(own, their)
    decoder = theirs.decoder.decoder
    _copy(core.decoder, decoder.decoding_cross_attention)
    return core, decoder.final_layer, decoder.output_position_encodings.position_embeddings.data[None]


def _copy(own: CrossAttention | LatentLayer, their: torch.nn.Module) -> None:
    reading, attention = their.attention.self, own.attention
    pairs = [
        (attention.to_query, reading.query),
        (attention.to_key, reading.key),
        (attention.to_value, reading.value),
        (attention.to_output, their.attention.output.dense),
        (own.feed_forward.norm, their.layernorm),
        (own.feed_forward.widen, their.mlp.dense1),
        (own.feed_forward.narrow, their.mlp.dense2),
    ]
    if isinstance(own, CrossAttention):
        pairs += [(own.norm_queries, reading.layernorm1), (own.norm_inputs, reading.layernorm2)]
    else:
        pairs += [(own.norm, reading.layernorm1)]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
        assert getattr(mine, "eps", 1e-5) == getattr(other, "eps", 1e-5) == 1e-5


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(3, 40, INPUT, generator=generator)
    mask = torch.rand(3, 40, generator=generator) > 0.4
    return tokens, mask


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_equals_hugging_face_with_its_weights(
    residual: bool, is_masked: bool, is_folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = _theirs(residual=residual)
    core, output, queries = _ours(theirs, residual=residual)
    monkeypatch.setattr(core.cross_attentions[0].attention, "prefers_folding", lambda n_latents: is_folded)
    tokens, mask = _inputs()
    with torch.no_grad():
        want = theirs(inputs=tokens, attention_mask=mask.long() if is_masked else None)
        latents = core.encode(tokens, mask if is_masked else None)
        got = output(core.decode(latents, queries))[:, 0]
    torch.testing.assert_close(latents, want.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(got, want.logits, rtol=0, atol=1e-5)


def test_the_exact_gelu_that_it_defaults_to_is_another_function() -> None:
    theirs = _theirs(residual=True, hidden_act="gelu")
    core, output, queries = _ours(theirs, residual=True)
    tokens, _ = _inputs()
    with torch.no_grad():
        difference = output(core(tokens, queries))[:, 0] - theirs(inputs=tokens).logits
    assert difference.abs().max() > 1e-4


def test_a_fully_masked_sample_reads_nothing_here_and_the_masked_tokens_there() -> None:
    theirs = _theirs(residual=True)
    core, output, queries = _ours(theirs, residual=True)
    tokens, mask = _inputs()
    mask[1] = False
    other = tokens.clone()
    other[1] = other[1].flip(-1)
    with torch.no_grad():
        ours = [output(core(given, queries, mask))[:, 0] for given in (tokens, other)]
        read = [theirs(inputs=given, attention_mask=mask.long()).logits for given in (tokens, other)]
    assert torch.equal(ours[0], ours[1])
    assert (read[0][1] - read[1][1]).abs().max() > 1e-2
    torch.testing.assert_close(ours[0][[0, 2]], read[0][[0, 2]], rtol=0, atol=1e-5)
    assert (ours[0][1] - read[0][1]).abs().max() > 1e-2
