"""Augmentation by scale: its size, who shares a draw, and that only training sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, inputs

from biopercept.errors import SettingsError
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.model.jitter import jittered
from biopercept.model.tokens import EarlyFusion, FeatureGroup, TokenInputs, TokenSettings


def drawn(gain: float, level: float, n_windows: int = 4000) -> tuple[TokenInputs, TokenInputs]:
    given = inputs(n_windows)
    return given, jittered(given, gain, level, torch.Generator().manual_seed(1))


def test_the_gain_is_one_factor_a_window_and_signal_of_the_asked_spread() -> None:
    given, found = drawn(0.3, 0.0)
    for before, after in zip(given.sensors, found.sensors, strict=True):
        factor = after.patches / before.patches
        assert torch.allclose(factor, factor[:, :1, :1, :1].expand_as(factor), rtol=1e-4)
        logs = factor[:, 0, 0, 0].log()
        assert float(logs.std()) == pytest.approx(0.3, rel=0.05)
        assert abs(float(logs.mean())) < 0.02
    eda, temp = (after.patches[:, 0, 0, 0] / before.patches[:, 0, 0, 0] for before, after in zip(
        given.sensors, found.sensors, strict=True))  # fmt: skip
    assert abs(float(torch.corrcoef(torch.stack((eda.log(), temp.log())))[0, 1])) < 0.05
    factor = found.features[0].values / given.features[0].values
    assert torch.allclose(factor, factor[:, :1].expand_as(factor), rtol=1e-4)


def test_the_level_is_one_shift_a_window_and_signal_and_one_a_feature() -> None:
    given, found = drawn(0.0, 0.5)
    for before, after in zip(given.sensors, found.sensors, strict=True):
        shift = after.patches - before.patches
        assert torch.allclose(shift, shift[:, :1, :1, :1].expand_as(shift), atol=1e-5)
        assert float(shift[:, 0, 0, 0].std()) == pytest.approx(0.5, rel=0.05)
    shift = found.features[0].values - given.features[0].values
    assert float(shift.std()) == pytest.approx(0.5, rel=0.05)
    assert abs(float(torch.corrcoef(shift.T)[0, 1])) < 0.05


def test_answers_outside_training_and_a_jitter_of_nothing_are_as_without() -> None:
    network = BiosignalPerceiver(SMALL, replace(OPEN, gain_jitter=0.5, level_jitter=0.5), VOCABULARY, 2)
    plain = BiosignalPerceiver(SMALL, OPEN, VOCABULARY, 2)
    plain.load_state_dict(network.state_dict())
    given = inputs()
    assert torch.equal(network.eval()(given), plain.eval()(given))
    assert jittered(given, 0.0, 0.0, None) is given


def test_training_reads_the_jittered_inputs_and_leaves_the_given_ones() -> None:
    settings = replace(OPEN, gain_jitter=0.4, level_jitter=0.4)
    fusion = EarlyFusion(16, settings, VOCABULARY).train()
    given = inputs()
    kept = [s.patches.clone() for s in given.sensors]
    tokens, mask = fusion(given, torch.Generator().manual_seed(3))
    expected = jittered(given, 0.4, 0.4, torch.Generator().manual_seed(3))
    same, same_mask = fusion.eval()(expected)
    assert torch.equal(tokens, same)
    assert torch.equal(mask, same_mask)
    assert all(torch.equal(s.patches, before) for s, before in zip(given.sensors, kept, strict=True))


def test_what_is_not_measured_stays_nothing_under_jitter() -> None:
    given = inputs()
    hole = replace(given.sensors[0], is_real=given.sensors[0].is_real.clone())
    hole.is_real[:, :, 2] = False
    missing = FeatureGroup("heart", given.features[0].values, torch.zeros_like(given.features[0].is_real))
    fusion = EarlyFusion(16, replace(OPEN, level_jitter=1.0), VOCABULARY).train()
    with_hole = TokenInputs((hole, given.sensors[1]), (missing,))
    other = replace(hole, patches=hole.patches.clone())
    other.patches[:, :, 2] = 99.0
    first, mask = fusion(with_hole, torch.Generator().manual_seed(5))
    again, _ = fusion(TokenInputs((other, given.sensors[1]), (missing,)), torch.Generator().manual_seed(5))
    assert torch.equal(first[mask], again[mask])
    assert not mask[:, -1].any()


@pytest.mark.parametrize("name", ["gain_jitter", "level_jitter"])
def test_a_jitter_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is -0.1; it must lie within 0 and 2"):
        TokenSettings(**{name: -0.1})
