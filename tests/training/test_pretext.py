"""What the three unlabelled objectives hide, ask and learn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, signal

from biopercept.errors import SettingsError
from biopercept.model.settings import PerceiverSettings
from biopercept.model.token_inputs import FeatureGroup, TokenInputs, TokenVocabulary
from biopercept.training.pretraining import PretextNetwork
from biopercept.training.settings import PretrainingSettings

G = torch.Generator().manual_seed(0)
CALM = PerceiverSettings(
    width=32, n_latents=6, n_layers=1, attention_dropout=0, feedforward_dropout=0, head_dropout=0, path_dropout=0
)


def pretext(seed: int = 0, **changes: object) -> PretextNetwork:
    torch.manual_seed(seed)
    return PretextNetwork(CALM, OPEN, VOCABULARY, PretrainingSettings(**changes)).train()


def batch(n_windows: int = 64, seed: int = 0) -> TokenInputs:
    """Return windows in which temperature repeats what EDA does: both follow one level of the window's own."""
    g = torch.Generator().manual_seed(seed)
    level = 2.0 * torch.randn(n_windows, 1, 1, 1, generator=g)
    eda, temp = signal("eda", n_windows, seed=seed), signal("temp", n_windows, n_patches=3, seed=seed)
    heart = FeatureGroup("heart", torch.randn(n_windows, 4, generator=g), torch.ones(n_windows, 4, dtype=torch.bool))
    sensors = (replace(eda, patches=0.2 * eda.patches + level), replace(temp, patches=0.2 * temp.patches + level))
    return TokenInputs(sensors, (heart,))


def after_training(network: PretextNetwork, n_steps: int = 60) -> tuple[float, float]:
    """Return the loss on new windows before and after some steps."""
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    with torch.no_grad():
        before = float(network(batch(seed=999), torch.Generator().manual_seed(1)))
    for step in range(n_steps):
        loss = network(batch(seed=step), torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return before, float(network(batch(seed=999), torch.Generator().manual_seed(1)))


def test_what_is_hidden_is_not_visible_and_what_was_never_measured_is_not_asked() -> None:
    whole = batch(200)
    whole.sensors[0].is_real[:, :, 2] = False
    visible, hidden = pretext().hide(whole, torch.Generator().manual_seed(0))
    for was, now, gone in zip(whole.sensors, visible.sensors, hidden, strict=True):
        assert not (now.is_real & gone).any()
        assert torch.equal(now.is_real | gone, was.is_real)
        assert 0.2 < gone[was.is_real].float().mean() < 0.9


def test_whole_sensors_are_hidden_up_to_all_but_one() -> None:
    visible, _ = pretext(sensor_masking=0.99, stretch_masking=0.0, patch_masking=0.0).hide(
        batch(600), torch.Generator().manual_seed(0)
    )
    left = torch.stack(
        [*(s.is_real.flatten(1).any(1) for s in visible.sensors), visible.features[0].is_real.any(1)], 1
    ).sum(1)
    share = [float((left == n).float().mean()) for n in range(4)]
    assert share[0] == 0
    assert share[1] == pytest.approx(0.5, abs=0.08)
    assert share[2] == pytest.approx(0.5, abs=0.08)


def test_a_hidden_sensor_takes_everything_computed_from_it_along() -> None:
    network = PretextNetwork(
        CALM, OPEN, TokenVocabulary({"eda": 8, "tonic": 8, "temp": 6}, {"eda": 4}, 6),
        PretrainingSettings(sensor_masking=0.99, stretch_masking=0.0, patch_masking=0.0),
    )  # fmt: skip
    eda = signal("eda", 200)
    inputs = TokenInputs(
        (eda, replace(eda, modality="tonic"), signal("temp", 200)), (replace(batch(200).features[0], name="eda"),)
    )
    visible, _ = network.hide(inputs, torch.Generator().manual_seed(0))
    raw, derived = (s.is_real.flatten(1).any(1) for s in visible.sensors[:2])
    assert 0.3 < raw.float().mean() < 0.7
    assert torch.equal(raw, derived)
    assert torch.equal(raw, visible.features[0].is_real.any(1))


@pytest.mark.parametrize("objective", ["masked", "contrastive"])
def test_the_loss_reads_nothing_that_is_hidden_except_as_the_truth(objective: str) -> None:
    network = pretext(objective=objective)
    whole = batch(8)
    _, hidden = network.hide(whole, torch.Generator().manual_seed(3))
    junk = TokenInputs(
        tuple(
            replace(s, patches=s.patches.masked_fill(h[..., None], 7.0))
            for s, h in zip(whole.sensors, hidden, strict=True)
        ),
        whole.features,
    )
    told = [network.network.encode(network.hide(i, torch.Generator().manual_seed(3))[0]) for i in (whole, junk)]
    assert torch.equal(*told)
    losses = [network(i, torch.Generator().manual_seed(3)) for i in (whole, junk)]
    assert losses[0] != losses[1]


def test_masked_pretraining_learns_to_tell_one_sensor_from_another() -> None:
    network = pretext(sensor_masking=0.9, stretch_masking=0.0, patch_masking=0.0)
    before, after = after_training(network)
    assert after < 0.6 * before


def test_contrastive_pretraining_beats_chance() -> None:
    network = pretext(objective="contrastive", sensor_masking=0.0, n_queries=2)
    before, after = after_training(network)
    assert after < before - 0.5


def test_aligned_sensors_find_each_other() -> None:
    network = pretext(objective="alignment")
    held = batch(seed=5)
    before, after = after_training(network, 80)
    assert before > 0.8 * math.log(64)
    assert after < before - 0.4
    one, other = (TokenInputs((s,)) for s in held.sensors)
    codes = [torch.nn.functional.normalize(network.eval().network(i).tasks["summary"], dim=-1) for i in (one, other)]
    own = (codes[0] @ codes[1].T).argsort(1, descending=True).argsort(1).diagonal().float().mean()
    assert own < 20  # of 64; chance is 31.5


def test_alignment_needs_windows_with_two_sensors_and_otherwise_teaches_nothing() -> None:
    network = pretext(objective="alignment")
    loss = network(TokenInputs((signal("eda", 4),)))
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "magic"}, "objective is 'magic'; allowed are masked, contrastive, alignment"),
        ({"n_epochs": 0}, "n_epochs is 0; it must be at least 1"),
        ({"temperature": 0.0}, r"temperature is 0\.0; it must be a number above 0"),
        ({"patch_masking": 1.0}, r"patch_masking is 1\.0; it must be at least 0 and below 1"),
        (
            {"sensor_masking": 0.0, "stretch_masking": 0.0, "patch_masking": 0.0},
            "masked pretraining needs something hidden",
        ),
    ],
)
def test_impossible_settings_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        PretrainingSettings(**changes)


def test_settings_of_token_dropout_are_not_applied_a_second_time() -> None:
    torch.manual_seed(0)
    network = PretextNetwork(SMALL, replace(OPEN, token_dropout=0.9), VOCABULARY, PretrainingSettings()).train()
    _, mask = network.network.fusion(batch(8), G)
    assert mask.all()
