"""The core against the original implementation, and its settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from biopercept.errors import SettingsError
from biopercept.model.encodings import fourier_features
from biopercept.model.layers import CrossAttention, LatentLayer, initialise
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import CoreSettings

REFERENCE = np.load(Path(__file__).with_name("perceiver_reference.npz"))
ENCODER, DECODER = "perceiver_encoder/~/", "classification_decoder/~/basic_decoder/"


def _tensor(name: str) -> torch.Tensor:
    return torch.from_numpy(REFERENCE[name])


def _set_linear(linear: torch.nn.Linear, name: str) -> None:
    linear.weight.data, linear.bias.data = _tensor(f"{name}|w").T.contiguous(), _tensor(f"{name}|b")


def _set_norm(norm: torch.nn.LayerNorm, name: str) -> None:
    norm.weight.data, norm.bias.data = _tensor(f"{name}|scale"), _tensor(f"{name}|offset")


def _set_layer(layer: CrossAttention | LatentLayer, name: str) -> None:
    attention = layer.attention
    for number, linear in enumerate((attention.to_query, attention.to_key, attention.to_value, attention.to_output)):
        _set_linear(linear, f"{name}/attention/linear" + (f"_{number}" if number else ""))
    _set_linear(layer.feed_forward.widen, f"{name}/mlp/linear")
    _set_linear(layer.feed_forward.narrow, f"{name}/mlp/linear_1")
    if isinstance(layer, CrossAttention):
        norms = (layer.norm_queries, layer.norm_inputs, layer.feed_forward.norm)
    else:
        norms = (layer.norm, layer.feed_forward.norm)
    for number, norm in enumerate(norms):
        _set_norm(norm, f"{name}/layer_norm" + (f"_{number}" if number else ""))


def _original(kind: str) -> tuple[PerceiverIO, torch.nn.Linear, torch.Tensor]:
    """Return the core, output layer and queries with the original's parameters."""
    _, _, n_channels, n_latents, width, cross_heads, self_heads, n_layers, n_classes = (
        int(n) for n in REFERENCE["dims"]
    )
    core = PerceiverIO(
        CoreSettings(
            input_width=n_channels,
            query_width=width,
            output_width=width,
            n_latents=n_latents,
            latent_width=width,
            n_layers=n_layers,
            n_cross_heads=cross_heads,
            n_self_heads=self_heads,
            n_decoder_heads=cross_heads,
            widening=4,
            decoder_residual=kind == "res",
        )
    ).eval()
    core.latents.values.data = _tensor(f"{kind}|{ENCODER}trainable_position_encoding|pos_embs")
    _set_layer(core.cross_attentions[0], f"{kind}|{ENCODER}cross_attention")
    for number, layer in enumerate(core.blocks[0]):
        _set_layer(layer, f"{kind}|{ENCODER}self_attention" + (f"_{number}" if number else ""))
    _set_layer(core.decoder, f"{kind}|{DECODER}cross_attention")
    output = torch.nn.Linear(width, n_classes)
    _set_linear(output, f"{kind}|{DECODER}output")
    return core, output, _tensor(f"{kind}|{DECODER}~/trainable_position_encoding|pos_embs")[None]


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("case", ["plain", "mask", "mask_junk", "mask_junk2"])
@pytest.mark.parametrize("kind", ["res", "nores"])
def test_equals_the_original_implementation(
    kind: str, case: str, is_folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, output, queries = _original(kind)
    monkeypatch.setattr(core.cross_attentions[0].attention, "prefers_folding", lambda n_latents: is_folded)
    x, mask = _tensor("x").clone(), _tensor("mask").bool()
    if case == "mask_junk":
        x[0][~mask[0]] = 99.0
    if case == "mask_junk2":
        x[2] = -57.0
    with torch.no_grad():
        got = output(core(x, queries, None if case == "plain" else mask))[:, 0]
    np.testing.assert_allclose(got.numpy(), REFERENCE[f"{kind}_{case}"], atol=1e-5, rtol=0)


def test_fourier_features_equal_the_original() -> None:
    frequencies = torch.linspace(1.0, 25.0, 4)[None]  # half-cycles per unit, up to half of 50 points
    got = fourier_features(_tensor("ff_pos"), frequencies)
    np.testing.assert_allclose(got.numpy(), REFERENCE["ff"], atol=2e-5, rtol=0)
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 5))
    got = fourier_features(grid, torch.stack((torch.linspace(1.0, 10.0, 4), torch.linspace(1.0, 25.0, 4))))
    np.testing.assert_allclose(got.numpy(), REFERENCE["ff2d"][0], atol=2e-5, rtol=0)


def _small(**changes: object) -> CoreSettings:
    held = {"input_width": 6, "query_width": 8, "output_width": 8, "n_latents": 4, "latent_width": 8, "n_self_heads": 2}
    return CoreSettings(**{**held, **changes})  # type: ignore[arg-type]


def test_shared_blocks_equal_separate_blocks_with_the_same_weights() -> None:
    shared = PerceiverIO(_small(n_blocks=2, n_cross_attentions=2)).eval()
    apart = PerceiverIO(
        _small(n_blocks=2, n_cross_attentions=2, share_blocks=False, share_cross_attentions=False)
    ).eval()
    assert sum(p.numel() for p in apart.parameters()) > sum(p.numel() for p in shared.parameters())
    apart.latents.load_state_dict(shared.latents.state_dict())
    apart.decoder.load_state_dict(shared.decoder.state_dict())
    for number in range(2):
        apart.cross_attentions[number].load_state_dict(shared.cross_attentions[0].state_dict())
        apart.blocks[number].load_state_dict(shared.blocks[0].state_dict())
    tokens, queries = torch.randn(3, 5, 6), torch.randn(1, 2, 8)
    torch.testing.assert_close(shared(tokens, queries), apart(tokens, queries), rtol=0, atol=0)
    once = PerceiverIO(_small(n_blocks=2)).eval()
    once.load_state_dict(shared.state_dict())
    assert not torch.allclose(shared(tokens, queries), once(tokens, queries))


def test_each_query_is_answered_alone() -> None:
    core = PerceiverIO(_small()).eval()
    tokens, queries = torch.randn(2, 5, 6), torch.randn(1, 3, 8)
    together = core(tokens, queries)
    torch.testing.assert_close(core(tokens, queries[:, 1:2]), together[:, 1:2])


def test_starting_values_have_the_spread_of_the_original() -> None:
    core = PerceiverIO(_small(input_width=200, latent_width=128, n_latents=64, query_width=128, output_width=128))
    attention = core.cross_attentions[0].attention
    assert attention.to_key.weight.std().item() == pytest.approx(200**-0.5, rel=0.03)
    assert attention.to_key.weight.abs().max().item() <= 2 * 200**-0.5 / 0.8796
    assert attention.to_key.bias.abs().max().item() == 0
    assert core.latents.values.std().item() == pytest.approx(0.02 * 0.8796, rel=0.03)


def test_starting_values_follow_the_generator() -> None:
    core = PerceiverIO(_small())
    runs = []
    for seed in (1, 1, 2):
        initialise(core, torch.Generator().manual_seed(seed))
        runs.append(core.blocks[0][0].attention.to_key.weight.detach().clone())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_self_heads": 3}, "3 attention heads do not divide the query/key width 8"),
        ({"n_layers": 0}, "n_layers is 0; it must be at least 1"),
        ({"path_dropout": 1.0}, "path_dropout is 1.0; it must be at least 0 and below 1"),
        ({"n_cross_attentions": 2}, "read its input 2 times but has 1 latent blocks"),
        ({"decoder_residual": True, "output_width": 4}, "query of width 8 to an output of width 4"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PerceiverIO(_small(**changes))
