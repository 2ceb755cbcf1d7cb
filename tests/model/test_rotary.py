"""Rotary time on latents: against a double loop, exact where off, and only between latents."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_inputs import OPEN, SMALL, VOCABULARY, Classifier, inputs

from biopercept.errors import SettingsError
from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.encodings import RotaryTime
from biopercept.model.perceiver import PerceiverIO
from biopercept.model.settings import CoreSettings, PerceiverSettings


def _attention(n_latents: int = 6, seconds: float = 60.0) -> MultiHeadAttention:
    torch.manual_seed(0)
    attention = MultiHeadAttention(AttentionWidths.all(8), n_heads=2)
    attention.rotary = RotaryTime(n_latents, seconds, 4)
    return attention


def test_scores_equal_a_double_loop_over_complex_pairs_turned_by_the_difference_of_times() -> None:
    attention = _attention()
    x = torch.randn(1, 6, 8)
    weights = attention.read_with_weights(x, x)[1][0].detach().numpy()
    times = (np.arange(6) + 0.5) * 10.0
    periods = (20.0, 120.0)  # twice the time between latents, and twice the whole
    query, key = (layer(x)[0].view(6, 2, 4).detach().numpy() for layer in (attention.to_query, attention.to_key))
    for head in range(2):
        scores = np.zeros((6, 6))
        for a in range(6):
            for b in range(6):
                for pair, period in enumerate(periods):
                    q = complex(query[a, head, pair], query[a, head, pair + 2])
                    k = complex(key[b, head, pair], key[b, head, pair + 2])
                    turn = 2.0 * math.pi * (times[a] - times[b]) / period
                    scores[a, b] += (q * np.exp(1j * turn) * k.conjugate()).real
        want = np.exp(scores / 2.0)
        np.testing.assert_allclose(weights[head], want / want.sum(1, keepdims=True), atol=1e-5)


def test_the_fused_way_equals_the_plain() -> None:
    attention, x = _attention(), torch.randn(3, 6, 8)
    torch.testing.assert_close(attention(x, x), attention.read_with_weights(x, x)[0])


def test_latents_of_equal_content_attend_by_the_time_between_them_alone() -> None:
    attention = _attention()
    x = torch.randn(1, 1, 8).expand(1, 6, 8).contiguous()
    weights = attention.read_with_weights(x, x)[1][0]
    ratio = weights[:, :-1, :-1] / weights[:, 1:, 1:]  # the same differences of time, up to a row's sum
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
    attention.rotary = None
    torch.testing.assert_close(attention.read_with_weights(x, x)[1], torch.full((1, 2, 6, 6), 1 / 6))


def test_off_by_default_and_exact_where_off() -> None:
    assert not PerceiverSettings().rotary_latents
    models = []
    for changes in ({}, {"rotary_latents": True}):
        torch.manual_seed(0)
        models.append(Classifier(replace(SMALL, **changes), OPEN, VOCABULARY, 2).eval())
    plain, turned = models
    assert list(plain.state_dict()) == list(turned.state_dict())  # nothing to learn, nothing to save
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), turned.parameters(), strict=True))
    assert all(m.rotary is None for m in plain.modules() if isinstance(m, MultiHeadAttention))
    assert (plain(inputs()) - turned(inputs())).abs().max() > 1e-6
    n_turned = sum(m.rotary is not None for m in turned.modules() if isinstance(m, MultiHeadAttention))
    assert n_turned == SMALL.n_layers  # neither the reading of tokens nor the decoder
    for layer in turned.core.blocks[0]:
        layer.attention.rotary = None
    assert torch.equal(plain(inputs()), turned(inputs()))


def test_latents_are_spread_over_the_time_that_the_time_code_knows() -> None:
    model = Classifier(replace(SMALL, rotary_latents=True), replace(OPEN, longest_seconds=30.0), VOCABULARY, 2)
    found = model.core.blocks[0][0].attention.rotary
    want = RotaryTime(SMALL.n_latents, 30.0, SMALL.width // SMALL.n_heads)
    assert torch.equal(found.cosines, want.cosines)
    assert found.cosines.shape == (6, 4)


def test_gradients_pass_and_a_window_is_answered_as_alone() -> None:
    torch.manual_seed(0)
    model = Classifier(replace(SMALL, rotary_latents=True), OPEN, VOCABULARY, 2).eval()
    together = model(inputs())
    together.square().sum().backward()
    assert all(p.grad is not None for p in model.core.parameters())
    torch.testing.assert_close(model(inputs().rows(torch.tensor([1])))[0], together[1], rtol=0, atol=2e-6)


def test_odd_heads_and_impossible_times_are_refused() -> None:
    words = "turns the numbers of a head in pairs, and a head is 5 wide; choose a width that is an even multiple of n_h"
    with pytest.raises(SettingsError, match=words):
        PerceiverSettings(width=20, n_heads=4, rotary_latents=True)
    PerceiverSettings(width=20, n_heads=4)
    shape = CoreSettings(6, 8, 8, 4, 8, n_self_heads=8, rotary_seconds=60.0)
    with pytest.raises(SettingsError, match="a head is 1 wide"):
        PerceiverIO(shape)
    with pytest.raises(SettingsError, match=r"spread over 0\.0 seconds; the time must be above 0"):
        PerceiverIO(replace(shape, n_self_heads=2, rotary_seconds=0.0))
