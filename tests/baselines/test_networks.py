"""The rival networks: what each must equal, what must not matter to it, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_inputs import Classifier
from torch import nn

from biopercept.baselines.attention_networks import (
    Distilling,
    EcgTransformer,
    Informer,
    Perceiver,
    PostNormLayer,
    ProbSparseAttention,
    Transformer,
    real_first,
    sinusoids,
)
from biopercept.baselines.sensor_networks import CnnLateFusion, Hourglass, LongShortTermMemory, steps_of
from biopercept.errors import SettingsError
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.training.fitting import count_operations, operations_per_window

SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=2, n_heads=2)
VOCABULARY = TokenVocabulary(
    {"ecg": 128, "bvp": 64, "eda": 20, "temp": 40, "heart_rate": 20, "tonic": 20}, {"heart": 3, "eda": 2}, 8
)
NETWORKS = {
    "perceiver-io": Classifier,
    "perceiver": Perceiver,
    "transformer": Transformer,
    "informer": Informer,
    "ecg-transformer": EcgTransformer,
    "lstm": LongShortTermMemory,
    "cnn-late-fusion": CnnLateFusion,
    "hourglass": Hourglass,
}
SECONDS = {"ecg": 1.0, "bvp": 1.0, "eda": 5.0, "temp": 10.0, "heart_rate": 5.0, "tonic": 5.0}
RATES = {"ecg": 128.0, "bvp": 64.0, "eda": 4.0, "temp": 4.0, "heart_rate": 4.0, "tonic": 4.0}


def sensor(modality: str, *, n_samples: int = 3, seconds: float = 20.0, channels: int = 1, seed: int = 0):
    random = torch.Generator().manual_seed(seed + sum(modality.encode()))
    n_patches = int(seconds / SECONDS[modality])
    shape = (n_samples, channels, n_patches)
    return SensorPatches(
        modality=modality,
        patches=torch.randn(*shape, VOCABULARY.patch_samples[modality], generator=random),
        is_real=torch.ones(shape, dtype=torch.bool),
        times=((torch.arange(n_patches) + 0.5) * SECONDS[modality]).expand(n_samples, -1),
        positions=torch.full((n_samples, channels, 3), torch.nan),
        channels=torch.ones(n_samples, channels, dtype=torch.int64),
        rate=torch.full((n_samples,), RATES[modality]),
        quality=torch.ones(shape),
    )


def group(name: str, *, n_samples: int = 3) -> FeatureGroup:
    random = torch.Generator().manual_seed(len(name))
    values = torch.randn(n_samples, VOCABULARY.feature_groups[name], generator=random)
    return FeatureGroup(name, values, torch.ones_like(values, dtype=torch.bool))


def everything() -> TokenInputs:
    return TokenInputs(tuple(sensor(m) for m in VOCABULARY.patch_samples), (group("heart"), group("eda")))


def made(name: str, settings: PerceiverSettings = SMALL, **changes) -> nn.Module:
    torch.manual_seed(1)
    network = NETWORKS[name](settings, TokenSettings(**changes), VOCABULARY, 2).eval()
    for parameter in network.parameters():  # biases are zero at the start and would hide what they add to nothing
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return network


def masked(held):
    """The same sensor or group, nothing of it real, its numbers replaced by rubbish."""
    fill = torch.full_like(held.patches if isinstance(held, SensorPatches) else held.values, 7.0)
    name = "patches" if isinstance(held, SensorPatches) else "values"
    return replace(held, is_real=torch.zeros_like(held.is_real), **{name: fill})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_missing_sensor_masked_equals_the_sensor_absent(name: str) -> None:
    network, whole = made(name), everything()
    for gone in ("ecg", "eda", "heart_rate"):
        kept = tuple(s for s in whole.sensors if s.modality != gone)
        absent = network(TokenInputs(kept, whole.features))
        hidden = tuple(masked(s) if s.modality == gone else s for s in whole.sensors)
        assert torch.allclose(absent, network(TokenInputs(hidden, whole.features)), atol=1e-5)
    absent = network(TokenInputs(whole.sensors, whole.features[1:]))
    hidden = network(TokenInputs(whole.sensors, (masked(whole.features[0]), whole.features[1])))
    assert torch.allclose(absent, hidden, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sensor_that_is_read_changes_the_answer(name: str) -> None:
    read = {"ecg-transformer": "ecg", "lstm": "tonic", "hourglass": None}.get(name, "temp")
    network, whole = made(name), everything()
    sensors = tuple(replace(s, patches=s.patches.flip(3) + 1) if s.modality == read else s for s in whole.sensors)
    features = (
        whole.features if read else (replace(whole.features[0], values=whole.features[0].values + 1), group("eda"))
    )
    assert not torch.allclose(network(whole), network(TokenInputs(sensors, features)), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("features", [True, False])
def test_a_network_reads_what_it_says_and_nothing_else(name: str, features: bool) -> None:
    if (name, features) == ("hourglass", False):
        pytest.skip("it reads nothing but features")
    network, whole = made(name, features=features), everything()
    for part in (*whole.sensors, *(whole.features if features or hasattr(network, "tokens_read") else ())):
        if isinstance(part, SensorPatches):
            alone, other = (TokenInputs((s,)) for s in (part, replace(part, patches=part.patches.flip(3) + 1)))
        else:
            alone, other = (TokenInputs((), (g,)) for g in (part, replace(part, values=part.values + 1)))
        said = network.tokens_read(alone) if hasattr(network, "tokens_read") else alone
        is_read = not torch.allclose(network(alone), network(other), atol=1e-5)
        assert is_read == bool(said.n_samples)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_window_is_told_the_same_whatever_else_is_in_its_batch(name: str) -> None:
    network, whole = made(name), everything()
    part = slice(1, 2)
    alone = TokenInputs(
        tuple(replace(s, **{k: v[part] for k, v in vars(s).items() if torch.is_tensor(v)}) for s in whole.sensors),
        tuple(replace(g, values=g.values[part], is_real=g.is_real[part]) for g in whole.features),
    )
    assert torch.allclose(network(whole)[part], network(alone), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_training_the_draws_come_from_the_generator_and_every_gradient_is_finite(name: str) -> None:
    network, whole = made(name).train(), everything()
    same = [network(whole, torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])
    same[0].sum().backward()
    found = [p.grad for p in network.parameters() if p.grad is not None]
    assert found and all(g.isfinite().all() for g in found)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_window_without_anything_real_gets_a_finite_answer(name: str) -> None:
    whole = everything()
    empty = TokenInputs(tuple(map(masked, whole.sensors)), tuple(map(masked, whole.features)))
    answer = made(name)(empty)
    assert answer.shape == (3, 2) and answer.isfinite().all()


def test_perceiver_reads_twice_with_one_set_of_weights_and_holds_no_decoder() -> None:
    network = made("perceiver")
    reads = []
    network.core.cross_attentions[0].register_forward_hook(lambda *_: reads.append(1))
    network(everything())
    assert len(reads) == 2 and len(network.core.cross_attentions) == 1
    assert not [name for name, _ in network.named_parameters() if "decoder" in name or "quer" in name.split(".")[-1]]


def test_a_transformer_layer_equals_torchs_own_with_the_same_weights() -> None:
    layer = PostNormLayer(PerceiverSettings(width=16, n_heads=2)).eval()
    theirs = nn.TransformerEncoderLayer(16, 2, dim_feedforward=8, dropout=0.0, batch_first=True).eval()
    ours = layer.attention
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(
            torch.cat([ours.to_query.weight, ours.to_key.weight, ours.to_value.weight])
        )
        theirs.self_attn.in_proj_bias.copy_(torch.cat([ours.to_query.bias, ours.to_key.bias, ours.to_value.bias]))
    pairs = (
        (theirs.self_attn.out_proj, ours.to_output), (theirs.linear1, layer.narrow), (theirs.linear2, layer.widen),
        (theirs.norm1, layer.norm_attention), (theirs.norm2, layer.norm),
    )  # fmt: skip
    for their, our in pairs:
        their.load_state_dict(our.state_dict())
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    want, got = theirs(x, src_key_padding_mask=~mask), layer(x, mask)
    assert torch.allclose(got[mask], want[mask], atol=1e-5)


def test_the_ecg_transformer_at_width_1024_has_the_sizes_of_the_paper() -> None:
    paper = PerceiverSettings(width=1024, n_layers=4, n_heads=4)
    network = EcgTransformer(paper, TokenSettings(), VOCABULARY, 2)
    encoder = nn.TransformerEncoderLayer(1024, 4, dim_feedforward=512)
    convolutions = (64 + 1) * 64 + (64 * 32 + 1) * 128
    head = (1024 + 1) * 512 + (512 + 1) * 256 + (256 + 1) * 2
    one_layer = sum(p.numel() for p in encoder.parameters())
    assert sum(p.numel() for p in network.parameters()) == convolutions + 129 * 1024 + 4 * one_layer + head


def test_the_ecg_transformer_reads_the_pulse_wave_where_there_is_no_ecg_and_only_there() -> None:
    network, ecg, bvp = made("ecg-transformer"), sensor("ecg"), sensor("bvp")
    ecg.is_real[0] = False
    both, changed = network(TokenInputs((ecg, bvp))), network(TokenInputs((ecg, replace(bvp, patches=-bvp.patches))))
    assert not torch.allclose(both[0], changed[0], atol=1e-4)
    assert torch.equal(both[1:], changed[1:])
    assert torch.allclose(both[0], network(TokenInputs((bvp,)))[0], atol=1e-5)


def test_sinusoids_are_those_of_the_formula() -> None:
    found = sinusoids(9, 6)
    assert found[5, 2].item() == pytest.approx(math.sin(5 / 10000 ** (2 / 6)), abs=1e-6)
    assert found[5, 3].item() == pytest.approx(math.cos(5 / 10000 ** (2 / 6)), abs=1e-6)


def test_probsparse_attention_with_all_queries_active_equals_full_attention() -> None:
    sparse, x = ProbSparseAttention(16, 2, factor=1e6).eval(), torch.randn(2, 11, 16)
    mask = torch.arange(11) < torch.tensor([[11], [6]])
    want = sparse.read_with_weights(x, x, mask)[0]
    assert torch.allclose(sparse(x, x, mask)[mask], want[mask], atol=1e-5)


def test_probsparse_attention_lets_the_most_active_queries_attend_and_gives_others_the_mean() -> None:
    """Against a double loop over heads and queries that follows the paper's formula."""
    sparse, n = ProbSparseAttention(8, 2, factor=1.0).eval(), 20
    x = torch.randn(1, n, 8, generator=torch.Generator().manual_seed(2))
    query, key, value = (layer(x[0]).view(n, 2, 4) for layer in (sparse.to_query, sparse.to_key, sparse.to_value))
    n_active = math.ceil(math.log(n))
    sampled = [int((j + 0.5) / n_active * n) for j in range(n_active)]
    rows = torch.zeros(n, 2, 4)
    for head in range(2):
        scores = query[:, head] @ key[:, head].T  # (N, N)
        activity = scores[:, sampled].amax(1) - scores[:, sampled].mean(1)
        for place in range(n):
            is_active = int((activity > activity[place]).sum()) < n_active
            weights = (scores[place] / 2.0).softmax(0) if is_active else torch.full((n,), 1 / n)
            rows[place, head] = weights @ value[:, head]
    assert torch.allclose(sparse(x, x)[0], sparse.to_output(rows.flatten(1)), atol=1e-5)


def test_distilling_halves_the_sequence_and_padding_leaves_real_tokens_alone() -> None:
    distilling, x = Distilling(4).eval(), torch.randn(1, 9, 4)
    mask = torch.ones(1, 9, dtype=torch.bool)
    short, is_real = distilling(x, mask)
    assert short.shape == (1, 5, 4) and is_real.all()
    padded = torch.cat([x, torch.full((1, 3, 4), 9.0)], 1)
    longer, still = distilling(padded, torch.arange(12)[None] < 9)
    assert torch.allclose(longer[:, :5], short, atol=1e-6) and still.tolist() == [[True] * 5 + [False]]


def test_real_tokens_come_first_in_their_order() -> None:
    tokens, mask = torch.arange(5.0)[None, :, None], torch.tensor([[False, True, False, True, True]])
    found, is_real = real_first(tokens, mask)
    assert found.flatten().tolist() == [1, 3, 4] and is_real.all()


def test_the_lstm_ignores_padding_after_the_window_and_order_matters_within_it() -> None:
    network, tonic = made("lstm"), sensor("tonic")
    longer = replace(sensor("tonic", seconds=30.0, seed=5))
    longer.is_real[:, :, 4:] = False
    longer.patches[:, :, :4] = tonic.patches
    assert torch.allclose(network(TokenInputs((tonic,))), network(TokenInputs((longer,))), atol=1e-6)
    turned = replace(tonic, patches=tonic.patches.flip(2))
    assert not torch.allclose(network(TokenInputs((tonic,))), network(TokenInputs((turned,))), atol=1e-4)


def test_the_lstm_reads_a_window_that_ends_early_at_its_own_end() -> None:
    network, tonic = made("lstm"), sensor("tonic", n_samples=2)
    tonic.is_real[0, :, 2:] = False
    alone = replace(tonic, **{k: v[:1] for k, v in vars(tonic).items() if torch.is_tensor(v)})
    cut = {name: getattr(alone, name)[:, :, :2] for name in ("patches", "is_real", "quality")}
    short = replace(alone, times=alone.times[:, :2], **cut)
    assert torch.allclose(network(TokenInputs((tonic,)))[:1], network(TokenInputs((short,))), atol=1e-6)


def test_steps_of_the_lstm_are_means_over_a_second_at_the_patchs_own_time() -> None:
    tonic = sensor("tonic", n_samples=1, seconds=10.0)
    late = replace(tonic, times=tonic.times + 5.0)
    values, is_real = steps_of(late)
    assert is_real.tolist() == [[False] * 5 + [True] * 10]
    assert torch.allclose(values[0, 5:], tonic.patches.reshape(10, 4).mean(1), atol=1e-6)
    apart = replace(tonic, times=torch.tensor([[7.5, 2.5]]))
    assert torch.allclose(steps_of(apart)[0][0, :5], tonic.patches[0, 0, 1].view(5, 4).mean(1), atol=1e-6)


def test_leads_of_one_modality_are_averaged_in_the_late_fusion() -> None:
    network, one = made("cnn-late-fusion"), sensor("ecg")
    twice = replace(sensor("ecg", channels=2), patches=one.patches.repeat(1, 2, 1, 1))
    assert torch.allclose(network(TokenInputs((one,))), network(TokenInputs((twice,))), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "switched", "words"),
    [
        ("hourglass", {"features": False}, "The model hourglass reads features; set tokens.features to true."),
        ("ecg-transformer", {"raw": False}, "The model ecg-transformer reads raw signals; set tokens.raw to true."),
        (
            "cnn-late-fusion",
            {"raw": False, "derived": False},
            "The model cnn-late-fusion reads signals; set tokens.raw",
        ),
    ],
)
def test_a_network_that_is_left_nothing_to_read_says_so(name: str, switched: dict[str, bool], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        made(name, **switched)


def test_multiply_adds_are_those_of_the_formula() -> None:
    n, d = 20, 16
    inputs = TokenInputs((sensor("ecg", n_samples=1, seconds=float(n)),))
    network = made("transformer")
    a_layer = 4 * n * d * d + 2 * n * n * d + 2 * n * d * SMALL.widening * d
    one, two = (count_operations(made("transformer", replace(SMALL, n_layers=k)), inputs) for k in (1, 2))
    assert two - one == a_layer
    assert count_operations(network, inputs) == two
    linear = nn.ModuleList([nn.Linear(4, 3)])
    linear.forward = lambda inputs: linear[0](inputs)  # type: ignore[method-assign]
    assert count_operations(linear, torch.randn(5, 4)) == 60


def test_the_window_with_the_most_for_the_network_to_read_is_counted() -> None:
    """The first has the most samples, of a signal that this network does not read."""
    wave = TokenInputs((sensor("ecg", n_samples=1, channels=3),))
    short, long = (TokenInputs((sensor("tonic", n_samples=1, seconds=seconds),)) for seconds in (10.0, 20.0))
    held = [wave, short, long, short]
    source = SimpleNamespace(device=torch.device("cpu"), batch=lambda rows: held[int(rows[0])])
    network = made("lstm")
    assert operations_per_window(network, source, np.arange(4)) == count_operations(network, long)
    assert count_operations(network, long) > count_operations(network, short)


def test_multiply_adds_of_the_lstm_count_every_gate_at_every_step() -> None:
    inputs = TokenInputs((sensor("tonic", n_samples=1),))
    one, two = (count_operations(made("lstm", replace(SMALL, n_layers=k)), inputs) for k in (1, 2))
    assert two - one == 20 * 4 * (16 * 16 + 16 * 16)
