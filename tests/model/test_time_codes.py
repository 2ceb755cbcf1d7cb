"""Codes of time by name: against their formulas, per token, the same for tokens and queries, saved with the model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, Classifier, inputs, signal

from biopercept.errors import SettingsError
from biopercept.model.biosignals import BiosignalPerceiver, queries_of
from biopercept.model.encodings import LearnedTime, SinusoidalTime, TimeEncoding, time_code
from biopercept.model.settings import TIME_CODES, TokenSettings
from biopercept.model.token_inputs import TokenInputs
from biopercept.model.tokens import time_encoding

RATE = torch.ones(2)


def _code(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return time_code(kind, 12, n_bands=8, longest_seconds=120.0, highest_hz=0.5)


def test_the_default_is_the_fourier_code() -> None:
    assert TokenSettings().time_code == "fourier"
    assert type(time_encoding(TokenSettings(), 8)) is TimeEncoding


def test_sinusoids_are_those_of_the_paper_on_seconds_from_the_fastest_wave_to_the_slowest() -> None:
    code = SinusoidalTime(16, 8, 120.0, 0.5)
    code.project.weight.data, code.project.bias.data = torch.eye(16), torch.zeros(16)
    seconds = torch.tensor([[0.5, 2.5, 59.5]])
    want = np.zeros((3, 16))
    for row, t in enumerate(seconds[0].tolist()):
        for i in range(8):
            period = 2.0 * 60.0 ** (i / 7)  # seconds: 2 (0.5 Hz), ..., 120
            want[row, 2 * i], want[row, 2 * i + 1] = (
                math.sin(2 * math.pi * t / period),
                math.cos(2 * math.pi * t / period),
            )
    np.testing.assert_allclose(code(seconds, torch.ones(1))[0].detach().numpy(), want, atol=5e-5)


def test_a_learned_code_is_its_bins_vector_at_the_centre_and_a_blend_between_centres() -> None:
    code = LearnedTime(3, 2.0, 10.0)
    codes = code.table.codes
    assert codes.shape == (5, 3)
    at = code(torch.tensor([[1.0, 3.0, 9.0, 2.5, -4.0, 0.2, 11.0]]), torch.ones(1))[0]
    torch.testing.assert_close(at[:3], codes[[0, 1, 4]])
    torch.testing.assert_close(at[3], 0.25 * codes[0] + 0.75 * codes[1])
    torch.testing.assert_close(at[4:], codes[[0, 0, 4]])  # held beyond the first and the last centre
    at[:2].sum().backward()
    assert code.table.codes.grad.any(1).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("kind", TIME_CODES)
def test_a_code_is_of_the_tokens_own_seconds_and_tells_neighbouring_seconds_apart(kind: str) -> None:
    code = _code(kind)
    seconds = torch.stack((torch.arange(60.0) + 0.5, torch.arange(60.0).flip(0) + 0.5))
    found = code(seconds, RATE)
    torch.testing.assert_close(found[0], found[1].flip(0))  # two clocks in one batch
    torch.testing.assert_close(code(seconds[1:, 7:9], RATE[1:]), found[1:, 7:9])  # alone, and another length
    assert (torch.cdist(found[0], found[0]) + 10.0 * torch.eye(60)).min() > 0.05


@pytest.mark.parametrize("kind", TIME_CODES)
def test_tokens_and_queries_are_coded_by_one_kind_and_agree_where_their_weights_do(kind: str) -> None:
    torch.manual_seed(0)
    model = BiosignalPerceiver(SMALL, replace(OPEN, time_code=kind), VOCABULARY, {"stress": 2}, reconstructs=True)
    model.query_codes.time.load_state_dict(model.fusion.time.state_dict())
    asked = queries_of(signal("eda"))
    patch_rate = torch.full((2,), 0.2)
    assert torch.equal(
        model.query_codes.time(asked.times, patch_rate), model.fusion.time(signal("eda").times, patch_rate)
    )
    later = replace(asked, times=asked.times + 3.0)
    told = [model.eval()(inputs(), patches=(a,)).patches[0] for a in (asked, later)]
    assert (told[0] - told[1]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", TIME_CODES)
def test_time_reaches_the_answer_and_padding_does_not(kind: str) -> None:
    torch.manual_seed(0)
    model = Classifier(SMALL, replace(OPEN, time_code=kind), VOCABULARY, 2).eval()
    model.queries.values.data.normal_()
    before = model(inputs())
    moved = TokenInputs(tuple(replace(s, times=s.times + 4.0) for s in inputs().sensors))
    assert (model(moved) - model(TokenInputs(inputs().sensors))).abs().max() > 1e-4
    hidden = inputs()
    for sensor in hidden.sensors:
        sensor.is_real[:, :, 2] = False
    junk = TokenInputs(
        tuple(replace(s, times=s.times.masked_fill(~s.is_real.any(1), torch.nan)) for s in hidden.sensors),
        hidden.features,
    )
    assert torch.equal(model(junk), model(hidden))
    assert not torch.equal(model(hidden), before)


def test_times_beyond_a_learned_table_are_refused_and_waves_go_on() -> None:
    short = TokenSettings(time_code="learned", longest_seconds=30.0)
    short.require_reach(30.0)
    words = (
        r"The learned time code \(time_code\) has codes up to 30 s, and times up to 60 s are to be coded; "
        "set longest_seconds to at least that or choose another time_code"
    )
    with pytest.raises(SettingsError, match=words):
        short.require_reach(60.0)
    for kind in ("fourier", "sinusoidal"):
        replace(short, time_code=kind).require_reach(60.0)


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(SettingsError, match="time_code is 'rotary'; allowed are fourier, sinusoidal, learned"):
        TokenSettings(time_code="rotary")
    with pytest.raises(SettingsError, match="time_code is 'x'; allowed are fourier, sinusoidal, learned"):
        time_code("x", 8, n_bands=4, longest_seconds=60.0, highest_hz=0.5)
