"""Attention against a double loop, and its masks, folding and dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.dropout import drop, hide_keys, random_hits


@pytest.fixture
def attention() -> MultiHeadAttention:
    torch.manual_seed(0)
    made = MultiHeadAttention(AttentionWidths(10, 6, qk=12, v=9, output=7), n_heads=3)
    return made.double().eval()


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(1, 5, 10, generator=generator, dtype=torch.float64)
    tokens = torch.randn(4, 8, 6, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 8, generator=generator) > 0.4
    mask[2] = False
    return queries, tokens, mask


def _double_loop(
    attention: MultiHeadAttention, queries: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor
) -> np.ndarray:
    """Return the output by loops over samples, heads, queries and tokens."""
    state = {name: value.numpy() for name, value in attention.state_dict().items()}
    output = np.zeros((len(tokens), queries.shape[1], 7))
    for b, token in enumerate(tokens.numpy()):
        q = queries[0].numpy() @ state["to_query.weight"].T + state["to_query.bias"]
        k = token @ state["to_key.weight"].T + state["to_key.bias"]
        v = token @ state["to_value.weight"].T + state["to_value.bias"]
        for i in range(len(q)):
            summed = np.zeros(9)
            for h in range(3):
                scores = {
                    n: math.exp(q[i, 4 * h : 4 * h + 4] @ k[n, 4 * h : 4 * h + 4] / 2) for n in range(8) if mask[b, n]
                }
                for n, score in scores.items():
                    summed[3 * h : 3 * h + 3] += score / sum(scores.values()) * v[n, 3 * h : 3 * h + 3]
            output[b, i] = summed @ state["to_output.weight"].T + state["to_output.bias"]
    return output


@pytest.mark.parametrize("way", ["forward", "read_folded", "read_with_weights"])
def test_attention_equals_a_double_loop(attention: MultiHeadAttention, way: str) -> None:
    queries, tokens, mask = _inputs()
    got = getattr(attention, way)(queries, tokens, mask)
    got = got[0] if isinstance(got, tuple) else got
    want = _double_loop(attention, queries, tokens, mask)
    np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-12)
    got = getattr(attention, way)(queries, tokens)
    got = got[0] if isinstance(got, tuple) else got
    want = _double_loop(attention, queries, tokens, torch.ones_like(mask))
    np.testing.assert_allclose(got.detach().numpy(), want, atol=1e-12)


@pytest.mark.parametrize("way", ["forward", "read_folded"])
def test_a_sample_without_a_real_token_reads_exactly_zero(attention: MultiHeadAttention, way: str) -> None:
    queries, tokens, mask = _inputs()
    attention.to_output.bias.data.zero_()
    got = getattr(attention, way)(queries, tokens, mask)
    assert torch.equal(got[2], torch.zeros_like(got[2]))
    assert (got[[0, 1, 3]].abs().amax((1, 2)) > 0.01).all()


def test_weights_sum_to_one_over_real_tokens(attention: MultiHeadAttention) -> None:
    queries, tokens, mask = _inputs()
    weights = attention.read_with_weights(queries, tokens, mask)[1]
    assert weights.shape == (4, 3, 5, 8)
    assert (weights.transpose(1, 3)[~mask] == 0).all()
    totals = weights.sum(-1)
    torch.testing.assert_close(totals, mask.any(1).double()[:, None, None].expand_as(totals))


def test_gradients_of_the_folded_way_equal_the_plain(attention: MultiHeadAttention) -> None:
    queries, tokens, mask = _inputs()
    got = []
    for way in (attention.forward, attention.read_folded):
        attention.zero_grad()
        way(queries, tokens, mask).square().sum().backward()
        got.append({name: value.grad.clone() for name, value in attention.named_parameters()})
    for name in got[0]:
        torch.testing.assert_close(got[0][name], got[1][name], rtol=1e-9, atol=1e-9)


def test_folding_is_chosen_where_it_costs_less() -> None:
    narrow = MultiHeadAttention(AttentionWidths(64, 64, qk=128, v=128, output=128), n_heads=4)
    wide = MultiHeadAttention(AttentionWidths(64, 704, qk=128, v=128, output=128), n_heads=4)
    assert narrow.prefers_folding(24)
    assert not wide.prefers_folding(64)


@pytest.mark.parametrize("way", ["forward", "read_folded"])
def test_hidden_keys_in_training_follow_the_generator(attention: MultiHeadAttention, way: str) -> None:
    queries, tokens, mask = _inputs()
    attention.dropout = 0.5
    attention.train()
    runs = [getattr(attention, way)(queries, tokens, mask, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])
    attention.eval()
    again = getattr(attention, way)(queries, tokens, mask, torch.Generator().manual_seed(1))
    assert torch.equal(again, getattr(attention, way)(queries, tokens, mask))


def test_folded_and_plain_are_equal_with_the_same_hidden_keys(attention: MultiHeadAttention) -> None:
    queries, tokens, mask = _inputs()
    attention.dropout = 0.5
    attention.train()
    plain = attention(queries, tokens, mask, torch.Generator().manual_seed(3))
    folded = attention.read_folded(queries, tokens, mask, torch.Generator().manual_seed(3))
    torch.testing.assert_close(plain, folded)


@pytest.mark.parametrize("is_masked", [False, True])
def test_hidden_keys_never_leave_a_query_without_a_token(is_masked: bool) -> None:
    mask = torch.rand(50, 3, generator=torch.Generator().manual_seed(4)) > 0.3
    given = mask if is_masked else None
    readable = hide_keys(6, torch.zeros(50, 3, 2), given, 0.5, torch.Generator().manual_seed(0))
    allowed = mask if is_masked else torch.ones_like(mask)
    assert not (readable & ~allowed[:, None]).any()
    assert torch.equal(readable.any(-1), allowed.any(-1)[:, None].expand(-1, 6))
    assert readable.sum() < 0.8 * 6 * allowed.sum()


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_mean_and_hits_as_often_as_asked(probability: float) -> None:
    generator = torch.Generator().manual_seed(0)
    hits, exact = random_hits((1000, 401), probability, torch.device("cpu"), generator)
    assert exact == pytest.approx(probability, abs=1 / 512)
    assert hits.float().mean().item() == pytest.approx(exact, abs=0.004)
    # Every byte of the random words is used alike.
    per_byte = hits.flatten()[:400_000].view(-1, 8).float().mean(0)
    assert per_byte.tolist() == pytest.approx([exact] * 8, abs=0.01)
    dropped = drop(torch.ones(1000, 400), probability, True, generator)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert drop(dropped, probability, False) is dropped


def test_heads_that_do_not_divide_a_width_are_refused() -> None:
    with pytest.raises(
        ValueError, match="5 attention heads do not divide the query/key width 12 and the value width 9"
    ):
        MultiHeadAttention(AttentionWidths(10, 6, qk=12, v=9, output=7), n_heads=5)


def test_self_attention_in_one_product_equals_three() -> None:
    torch.manual_seed(5)
    attention = MultiHeadAttention(AttentionWidths(10, 10, qk=12, v=9, output=7), n_heads=3).double()
    x = torch.randn(2, 5, 10, dtype=torch.float64)
    got = []
    for inputs in (x, x.clone()):  # the same array, or one that only equals it
        attention.zero_grad()
        output = attention(x, inputs)
        output.square().sum().backward()
        got.append([output.detach(), *(p.grad.clone() for p in attention.parameters())])
    for one, three in zip(*got, strict=True):
        torch.testing.assert_close(one, three, rtol=1e-12, atol=1e-12)
    assert torch.unique(torch.stack([p.abs().sum() for p in got[0][1:] if p.ndim == 2])).numel() == 4


def test_folding_pays_for_its_size_at_equal_multiplications() -> None:
    # 4 heads x 64 latents over 64 channels: as many multiplications either way, but no keys and values to write.
    attention = MultiHeadAttention(AttentionWidths(128, 64, qk=128, v=128, output=128), n_heads=4)
    assert attention.prefers_folding(64)
