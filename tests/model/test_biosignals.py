"""The whole model: masks, subsets, mixed batches, seeds, and what can and cannot reach the output."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest
import torch
from made_inputs import Classifier

from biopercept.errors import CheckpointError, SettingsError
from biopercept.model.biosignals import BiosignalPerceiver, perceiver_for
from biopercept.model.branches import CONV, LINEAR
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.tasks import Task

VOCABULARY = TokenVocabulary(
    {"eeg": 16, "eda": 8, "acc": 10, "tonic": 8, "heart_rate": 8}, {"heart": 5, "eda": 3}, n_channel_codes=6
)


def _sensor(modality: str, n_samples: int = 3, n_channels: int = 1, n_patches: int = 4, seed: int = 0) -> SensorPatches:
    g = torch.Generator().manual_seed(seed + 100 * list(VOCABULARY.patch_samples).index(modality))
    length, rate = VOCABULARY.patch_samples[modality], torch.rand(n_samples, generator=g) * 8 + 4
    positions = torch.full((n_samples, n_channels, 3), torch.nan)
    if modality == "eeg":
        positions = torch.randn(n_samples, n_channels, 3, generator=g) * 0.06
    is_real = torch.rand(n_samples, n_channels, n_patches, generator=g) > 0.2
    is_real[:, :, 0] = True
    return SensorPatches(
        modality=modality,
        patches=torch.randn(n_samples, n_channels, n_patches, length, generator=g),
        is_real=is_real,
        times=(torch.arange(n_patches) + 0.5) * length / rate[:, None],
        positions=positions,
        channels=torch.arange(n_channels).expand(n_samples, -1).clone(),
        rate=rate,
        quality=torch.rand(n_samples, n_channels, n_patches, generator=g),
    )


def _features(name: str, n_samples: int = 3) -> FeatureGroup:
    g = torch.Generator().manual_seed(7)
    shape = (n_samples, VOCABULARY.feature_groups[name])
    return FeatureGroup(name, torch.randn(shape, generator=g), torch.rand(shape, generator=g) > 0.3)


def _inputs() -> TokenInputs:
    sensors = (_sensor("eeg", n_channels=5), _sensor("eda"), _sensor("acc", n_channels=3), _sensor("tonic"))
    return TokenInputs((*sensors, _sensor("heart_rate")), (_features("heart"), _features("eda")))


@pytest.fixture
def model() -> BiosignalPerceiver:
    torch.manual_seed(0)
    made = Classifier(PerceiverSettings(width=32, n_latents=8, n_layers=2), TokenSettings(), VOCABULARY, 3)
    made.queries.values.data.normal_()  # so that the answer depends strongly on what is read
    return made.eval()


def _junk(sensor: SensorPatches, fill: float) -> SensorPatches:
    """Return the sensor with everything at masked places replaced."""
    gone = ~sensor.is_real
    return replace(
        sensor,
        patches=sensor.patches.masked_fill(gone[..., None], fill),
        quality=sensor.quality.masked_fill(gone, fill),
        times=sensor.times.masked_fill(gone.all(1), fill),
        positions=sensor.positions.masked_fill(gone.all(2)[..., None], fill),
        channels=sensor.channels.masked_fill(gone.all(2), 10**6),
        rate=sensor.rate.masked_fill(gone.all(2).all(1), fill),
    )


@pytest.mark.parametrize("fill", [1e6, float("nan"), float("inf"), -3.0])
def test_what_lies_at_masked_places_changes_no_bit(model: BiosignalPerceiver, fill: float) -> None:
    inputs = _inputs()
    eeg, eda = inputs.sensors[0], inputs.sensors[1]
    eeg.is_real[0, 2] = False  # one channel absent
    eeg.is_real[:, :, 3] = False  # one stretch absent
    eda.is_real[1] = False  # one sensor of one sample absent
    groups = tuple(replace(g, values=g.values.masked_fill(~g.is_real, fill)) for g in inputs.features)
    junk = TokenInputs(tuple(_junk(s, fill) for s in inputs.sensors), groups)
    assert torch.equal(model(inputs), model(junk))
    model(junk).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_real_value_changes_its_own_sample_only(model: BiosignalPerceiver) -> None:
    before = model(_inputs())
    for change in ("patches", "quality", "times", "rate", "values", "is_real"):
        inputs = _inputs()
        sensor = inputs.sensors[1]
        if change == "values":
            place = inputs.features[0].is_real[1].nonzero()[0]
            inputs.features[0].values[1, place] += 1.0
        elif change == "is_real":
            sensor.is_real[1, 0, 0] = False
        else:
            getattr(sensor, change).view(3, -1)[1, 0] += 0.7
        moved = (model(inputs) - before).abs().amax(1)
        assert moved[1] > 1e-5, change
        assert moved[0] == moved[2] == 0, change


def test_the_amplitude_of_a_patch_reaches_the_output() -> None:
    torch.manual_seed(0)
    # With a tiny floor the shape is wholly normalised, so amplitude has only its own way in.
    model = Classifier(PerceiverSettings(), TokenSettings(shape_floor=1e-4), VOCABULARY, 3).eval()
    model.queries.values.data.normal_()
    inputs = _inputs()
    inputs.sensors[0].patches.sub_(inputs.sensors[0].patches.mean(-1, keepdim=True))
    louder = replace(inputs.sensors[0], patches=3.0 * inputs.sensors[0].patches)
    higher = replace(inputs.sensors[0], patches=3.0 + inputs.sensors[0].patches)
    before = model(inputs)
    for changed in (louder, higher):
        assert (model(TokenInputs((changed, *inputs.sensors[1:]), inputs.features)) - before).abs().max() > 1e-3


@pytest.mark.parametrize("gone", range(5))
def test_leaving_a_sensor_out_equals_masking_it(model: BiosignalPerceiver, gone: int) -> None:
    inputs = _inputs()
    without = TokenInputs(inputs.sensors[:gone] + inputs.sensors[gone + 1 :], inputs.features)
    masked = replace(inputs.sensors[gone], is_real=torch.zeros_like(inputs.sensors[gone].is_real))
    hidden = TokenInputs((*inputs.sensors[:gone], masked, *inputs.sensors[gone + 1 :]), inputs.features)
    torch.testing.assert_close(model(without), model(hidden), rtol=0, atol=2e-6)
    assert (model(without) - model(inputs)).abs().max() > 1e-4


def test_leaving_a_feature_group_out_equals_masking_it(model: BiosignalPerceiver) -> None:
    inputs = _inputs()
    heart, eda = inputs.features
    hidden = TokenInputs(inputs.sensors, (replace(heart, is_real=torch.zeros_like(heart.is_real)), eda))
    torch.testing.assert_close(model(TokenInputs(inputs.sensors, (eda,))), model(hidden), rtol=0, atol=2e-6)


def test_order_of_sensors_channels_and_patches_plays_no_part(model: BiosignalPerceiver) -> None:
    inputs = _inputs()
    eeg = inputs.sensors[0]
    c, p = torch.tensor([3, 1, 0, 4, 2]), torch.tensor([2, 0, 3, 1])
    shuffled = replace(
        eeg,
        patches=eeg.patches[:, c][:, :, p],
        is_real=eeg.is_real[:, c][:, :, p],
        quality=eeg.quality[:, c][:, :, p],
        times=eeg.times[:, p],
        positions=eeg.positions[:, c],
        channels=eeg.channels[:, c],
    )
    moved = TokenInputs((*inputs.sensors[:0:-1], shuffled), inputs.features[::-1])
    torch.testing.assert_close(model(moved), model(inputs), rtol=0, atol=2e-6)
    wrong = replace(shuffled, positions=eeg.positions)
    assert (model(TokenInputs((*inputs.sensors[1:], wrong), inputs.features)) - model(inputs)).abs().max() > 1e-4


def test_a_batch_of_mixed_montages_rates_and_durations_equals_single_runs(model: BiosignalPerceiver) -> None:
    alone = [_sensor("eeg", 1, n_channels, n_patches, seed) for n_channels, n_patches, seed in ((2, 6, 1), (5, 3, 2))]
    single = [model(TokenInputs((sensor,))) for sensor in alone]
    padded = []
    for sensor in alone:
        c, p = 5 - sensor.patches.shape[1], 6 - sensor.patches.shape[2]
        pad = torch.nn.functional.pad
        padded.append(
            {
                "patches": pad(sensor.patches, (0, 0, 0, p, 0, c), value=torch.nan),
                "is_real": pad(sensor.is_real, (0, p, 0, c), value=False),
                "quality": pad(sensor.quality, (0, p, 0, c), value=torch.nan),
                "times": pad(sensor.times, (0, p), value=torch.nan),
                "positions": pad(sensor.positions, (0, 0, 0, c), value=torch.nan),
                "channels": pad(sensor.channels, (0, c)),
                "rate": sensor.rate,
            }
        )
    together = SensorPatches("eeg", **{name: torch.cat([held[name] for held in padded]) for name in padded[0]})
    torch.testing.assert_close(model(TokenInputs((together,))), torch.cat(single), rtol=0, atol=2e-6)
    assert (single[0] - single[1]).abs().max() > 1e-3


def test_a_sample_without_any_token_gets_a_defined_answer(model: BiosignalPerceiver) -> None:
    inputs = _inputs()
    for held in (*inputs.sensors, *inputs.features):
        held.is_real[1] = False
    before = model(inputs)
    assert before.isfinite().all()
    inputs.sensors[0].patches[1] = 5.0
    assert torch.equal(model(inputs), before)


def test_nothing_but_time_within_the_window_can_reach_the_model(model: BiosignalPerceiver) -> None:
    """The same window at another onset is the same input: there is no field that could tell."""
    assert [f.name for f in fields(SensorPatches)] == [
        "modality", "patches", "is_real", "times", "positions", "channels", "rate", "quality", "source",
    ]  # fmt: skip
    assert [f.name for f in fields(FeatureGroup)] == ["name", "values", "is_real"]
    assert [f.name for f in fields(TokenInputs)] == ["sensors", "features"]
    assert list(inspect.signature(BiosignalPerceiver.forward).parameters)[1:] == [
        "inputs", "generator", "traces", "patches",
    ]  # fmt: skip
    at_onset = {}
    for onset in (0.0, 1800.0):
        inputs = _inputs()
        clock = [sensor.times + onset for sensor in inputs.sensors]
        within = tuple(replace(s, times=t - onset) for s, t in zip(inputs.sensors, clock, strict=True))
        at_onset[onset] = model(TokenInputs(within, inputs.features))
    torch.testing.assert_close(at_onset[0.0], at_onset[1800.0], rtol=0, atol=1e-4)


def test_the_source_of_a_series_plays_no_part_in_evaluation(model: BiosignalPerceiver) -> None:
    inputs = _inputs()
    named = (*inputs.sensors[:4], replace(inputs.sensors[4], source="ecg"))
    assert torch.equal(model(TokenInputs(named, inputs.features)), model(inputs))


def test_training_draws_follow_the_generator_alone(model: BiosignalPerceiver) -> None:
    model.train()
    runs = []
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)  # the global generator must not matter
        runs.append(model(_inputs(), torch.Generator().manual_seed(seed)))
    assert torch.equal(runs[0], runs[1])
    assert (runs[0] - runs[2]).abs().max() > 1e-3
    model.eval()
    assert torch.equal(model(_inputs(), torch.Generator().manual_seed(1)), model(_inputs()))


@pytest.mark.parametrize("n_latents", [2, 24])  # few latents: the folded way
def test_gradients_reach_every_parameter(n_latents: int) -> None:
    torch.manual_seed(0)
    settings = PerceiverSettings(width=32, n_latents=n_latents)
    model = Classifier(settings, TokenSettings(), VOCABULARY, 3)
    inputs = _inputs()
    model(inputs, torch.Generator().manual_seed(0)).square().sum().backward()
    bare = [name for name, p in model.named_parameters() if p.grad is None]
    assert bare == []
    model.eval().zero_grad()
    model(inputs).square().sum().backward()
    still = [name for name, p in model.named_parameters() if not p.grad.abs().any() and "to_key.bias" not in name]
    assert still == []


def test_the_folded_model_equals_the_plain(monkeypatch: pytest.MonkeyPatch, model: BiosignalPerceiver) -> None:
    got = []
    for is_folded in (False, True):
        monkeypatch.setattr(model.core.cross_attentions[0].attention, "prefers_folding", lambda n, f=is_folded: f)
        got.append(model(_inputs()))
    torch.testing.assert_close(got[0], got[1], rtol=0, atol=5e-6)


def test_the_attention_map_covers_the_real_tokens(model: BiosignalPerceiver) -> None:
    weights, mask = model.token_attention(_inputs())
    assert weights.shape == (3, 4, 8, mask.shape[1])
    assert (weights.amax((1, 2))[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 8))


def test_the_default_size_suits_small_studies() -> None:
    sizes = {"eda": 20, "bvp": 64, "temp": 40, "acc": 64, "heart_rate": 20, "tonic": 20, "phasic": 20, "activity": 20}
    vocabulary = TokenVocabulary(sizes, {"heart": 15, "eda": 8, "temp": 3, "motion": 4}, 8)
    model = Classifier(PerceiverSettings(), TokenSettings(), vocabulary, 2)
    assert 150_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 400_000


def test_what_the_model_cannot_read_is_refused(model: BiosignalPerceiver) -> None:
    eda = _sensor("eda")
    with pytest.raises(CheckpointError, match=r"given eda patches of 7 samples; it reads eeg \(16 samples\), eda"):
        model(TokenInputs((replace(eda, patches=eda.patches[..., :7]),)))
    with pytest.raises(CheckpointError, match="given temp patches of 8 samples"):
        model(TokenInputs((replace(eda, modality="temp"),)))
    with pytest.raises(CheckpointError, match=r"given 3 features of the group emg; it reads heart \(5\), eda \(3\)"):
        model(TokenInputs((), (replace(_features("eda"), name="emg"),)))
    with pytest.raises(ValueError, match="hold no signal and no features"):
        model(TokenInputs())
    with pytest.raises(SettingsError, match="give 0 outputs for stress; it must give at least 1"):
        Classifier(PerceiverSettings(), TokenSettings(), VOCABULARY, 0)
    with pytest.raises(SettingsError, match=r"head_dropout is 1\.5"):
        Classifier(PerceiverSettings(head_dropout=1.5), TokenSettings(), VOCABULARY, 2)


LINEAR_TASK = Task("stress", classes={"rest": ("a",), "stress": ("b",), "other": ("c",)})


def _with_branches(**chosen: bool) -> BiosignalPerceiver:
    torch.manual_seed(0)
    settings = PerceiverSettings(width=32, n_latents=8, n_layers=2, head_dropout=0.0, **chosen)
    network = perceiver_for([LINEAR_TASK], settings, TokenSettings(), VOCABULARY)
    for weights in network.branches.parameters():
        weights.data.normal_()
    return network


def test_the_output_is_the_mean_of_the_network_and_of_a_linear_model_of_the_features() -> None:
    network, inputs = _with_branches(linear_branch=True), _inputs()
    linear = network.branches[LINEAR]
    alone = BiosignalPerceiver.read_out(network.eval(), network.encode(inputs)).tasks["stress"]
    expected = linear.bias.expand(3, -1)
    for group in inputs.features:
        expected = expected + torch.nan_to_num(group.values * group.is_real) @ linear.groups[group.name].weight.T
    torch.testing.assert_close(network(inputs).tasks["stress"], 0.5 * (alone + expected))
    assert not network(inputs).branches


def test_the_output_is_the_mean_of_all_branches() -> None:
    network, inputs = _with_branches(linear_branch=True, conv_branch=True).eval(), _inputs()
    alone = network.read_out(network.encode(inputs)).tasks["stress"]
    linear, conv = (network.branches[name](inputs)["stress"] for name in (LINEAR, CONV))
    torch.testing.assert_close(network(inputs).tasks["stress"], (alone + linear + conv) / 3)


def test_the_convolutional_branch_reads_signals_and_features_and_says_the_same_whatever_absent_ones_hold() -> None:
    network, inputs = _with_branches(conv_branch=True).eval(), _inputs()
    branch = network.branches[CONV]
    whole = branch(inputs)["stress"]
    for part in (replace(inputs, features=()), replace(inputs, sensors=())):
        assert not torch.allclose(branch(part)["stress"], whole)
    junk = tuple(replace(s, patches=s.patches.masked_fill(~s.is_real[..., None], 9.0)) for s in inputs.sensors)
    torch.testing.assert_close(branch(replace(inputs, sensors=junk))["stress"], whole)


def test_in_training_network_and_branches_are_apart_and_gradients_do_not_cross() -> None:
    network, inputs = _with_branches(linear_branch=True, conv_branch=True).train(), _inputs()
    outputs = network(inputs, torch.Generator().manual_seed(0))
    assert list(outputs.learnt()) == ["stress", "linear/stress", "conv/stress"]
    for name in (LINEAR, CONV):
        network.zero_grad(set_to_none=True)
        outputs.branches[f"{name}/stress"].sum().backward(retain_graph=True)
        reached = {tuple(n.split(".")[:2]) for n, p in network.named_parameters() if p.grad is not None}
        assert reached == {("branches", name)}
    network.zero_grad(set_to_none=True)
    outputs.tasks["stress"].sum().backward()
    assert all(parameter.grad is None for parameter in network.branches.parameters())


def test_sensors_are_hidden_from_the_convolutional_branch_in_training_too() -> None:
    hidden = TokenSettings(modality_dropout=0.9)
    network = perceiver_for([LINEAR_TASK], PerceiverSettings(conv_branch=True), hidden, VOCABULARY).train()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([network.branches[CONV](_inputs(), generator)["stress"] for _ in range(8)])
    assert len(torch.unique(draws[:, 0], dim=0)) > 1


@pytest.mark.parametrize("branch", ["linear_branch", "conv_branch"])
def test_a_window_gets_the_same_from_a_branch_whatever_others_of_its_batch_have(branch: str) -> None:
    network, inputs = _with_branches(**{branch: True}).eval(), _inputs()
    heart, eda = inputs.features
    gone = replace(eda, is_real=eda.is_real & torch.tensor([[True], [False], [True]]))
    beside = network(replace(inputs, features=(heart, gone))).tasks["stress"][1]
    alone = network(replace(inputs, features=(heart,)).rows(slice(1, 2))).tasks["stress"][0]
    torch.testing.assert_close(beside, alone)


def test_a_linear_branch_without_features_is_refused_and_the_other_reads_signals_alone() -> None:
    without = TokenSettings(features=False)
    with pytest.raises(SettingsError, match=r"^model\.linear_branch reads features; set tokens\.features to true"):
        perceiver_for([LINEAR_TASK], PerceiverSettings(linear_branch=True), without, VOCABULARY)
    network = perceiver_for([LINEAR_TASK], PerceiverSettings(conv_branch=True), without, VOCABULARY).eval()
    assert torch.isfinite(network(_inputs()).tasks["stress"]).all()
