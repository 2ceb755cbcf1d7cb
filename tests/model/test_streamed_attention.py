"""Reading in stretches against the plain way: outputs, gradients, masks, memory and when it is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biopercept.model import cpu_kernels, layers
from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.model.layers import CrossAttention

WAYS = ("plain", "streamed")
MASKS = ("all real", "some masked", "one sample empty")


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernels, "SEGMENT_VALUES", 6 * 16)  # 16 tokens forth, 4 back


@pytest.fixture
def reader() -> CrossAttention:
    torch.manual_seed(0)
    attention = MultiHeadAttention(AttentionWidths(10, 6, qk=12, v=9, output=10), n_heads=3)
    made = CrossAttention(attention, 2, 0.0, residual=True).double()
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def _given(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(1, 5, 10, generator=generator, dtype=torch.float64)
    tokens = 3 * torch.randn(4, 41, 6, generator=generator, dtype=torch.float64) + 2
    mask = torch.rand(4, 41, generator=generator) > 0.4
    mask[0] = True
    if kind == "one sample empty":
        mask[2] = False
    return queries, tokens, None if kind == "all real" else mask


def _read(
    way: str, reader: CrossAttention, queries: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    asked, generator = reader.norm_queries(queries), torch.Generator().manual_seed(7)
    if way == "plain":
        return reader.attention(asked, reader.norm_inputs(tokens), mask, generator)
    return reader.attention.read_streamed(asked, tokens, reader.norm_inputs, mask, generator)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", MASKS)
def test_outputs_and_gradients_equal_the_plain_way(reader: CrossAttention, kind: str, dropout: float) -> None:
    queries, tokens, mask = _given(kind)
    reader.attention.dropout = dropout
    got = []
    for way in WAYS:
        reader.zero_grad()
        given = [queries.clone().requires_grad_(), tokens.clone().requires_grad_()]
        output = _read(way, reader, *given, mask)
        output.square().sum().backward()
        named = {name: p.grad for name, p in reader.named_parameters() if p.grad is not None}
        got.append({"output": output.detach(), "queries": given[0].grad, "tokens": given[1].grad, **named})
    assert got[0].keys() == got[1].keys()
    assert len(got[0]) == 3 + 12
    for name, plain in got[0].items():
        torch.testing.assert_close(got[1][name], plain, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", MASKS)
def test_float32_stays_within_the_tolerance(reader: CrossAttention, kind: str) -> None:
    queries, tokens, mask = _given(kind)
    exact = _read("plain", reader, queries, tokens, mask)
    got = _read("streamed", reader.float(), queries.float(), tokens.float(), mask)
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=1e-5)


def test_a_sample_without_a_real_token_reads_exactly_zero_and_moves_nothing(reader: CrossAttention) -> None:
    queries, tokens, mask = _given("one sample empty")
    reader.attention.to_output.bias.data.zero_()
    tokens.requires_grad_()
    got = _read("streamed", reader, queries, tokens, mask)
    assert torch.equal(got[2], torch.zeros_like(got[2]))
    got.sum().backward()
    assert torch.equal(tokens.grad[~mask], torch.zeros_like(tokens.grad[~mask]))
    assert tokens.grad[mask].abs().amax() > 0


def test_masked_tokens_have_no_say_at_all(reader: CrossAttention) -> None:
    queries, tokens, mask = _given("some masked")
    before = _read("streamed", reader, queries, tokens, mask)
    other = tokens.masked_fill(~mask[..., None], 99.0)
    assert torch.equal(_read("streamed", reader, queries, other, mask), before)
    real = mask[1].nonzero()[0, 0]
    other[1, real, 0] += 1.0
    assert not torch.equal(_read("streamed", reader, queries, other, mask)[1], before[1])


def test_inputs_without_gradients_are_given_none(reader: CrossAttention) -> None:
    queries, tokens, mask = _given("some masked")
    got = []
    for needs in (False, True):
        reader.zero_grad()
        _read("streamed", reader, queries, tokens.clone().requires_grad_(needs), mask).square().sum().backward()
        got.append(reader.attention.to_key.weight.grad.clone())
    torch.testing.assert_close(got[0], got[1], rtol=0, atol=0)


def test_scores_far_apart_do_not_overflow(reader: CrossAttention) -> None:
    queries, tokens, mask = _given("some masked")
    reader.attention.to_key.weight.data *= 1e4
    torch.testing.assert_close(
        _read("streamed", reader, queries, tokens, mask), _read("plain", reader, queries, tokens, mask)
    )


@pytest.mark.parametrize(
    ("tokens", "is_chosen"),
    [
        (torch.zeros(16, 1024, 64), True),
        (torch.zeros(16, 256, 64), False),
        (torch.zeros(1, 1024, 64), False),
        (torch.zeros(16, 1024, 64, dtype=torch.bfloat16), False),
        (torch.zeros(16, 1024, 64, device="meta"), False),
    ],
    ids=["many tokens", "few tokens", "a small batch", "half precision", "another device"],
)
def test_stretches_are_chosen_where_they_pay(tokens: torch.Tensor, is_chosen: bool) -> None:
    assert cpu_kernels.pays(tokens, torch.zeros(1, dtype=tokens.dtype)) is is_chosen
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not cpu_kernels.pays(tokens, torch.zeros(1, dtype=tokens.dtype))


def test_the_cross_attention_streams_where_it_pays_and_only_there(
    reader: CrossAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, tokens, mask = _given("some masked")
    whole = reader(queries, tokens, mask)
    called: list[nn.Module] = []
    read = MultiHeadAttention.read_streamed
    monkeypatch.setattr(
        MultiHeadAttention, "read_streamed", lambda self, *given: called.append(self) or read(self, *given)
    )
    assert torch.equal(reader(queries, tokens, mask), whole)
    assert called == []
    monkeypatch.setattr(layers, "pays", lambda inputs, asked: True)
    torch.testing.assert_close(reader(queries, tokens, mask), whole)
    assert called == [reader.attention]
    reader(queries.expand(4, -1, -1), tokens, mask)
    assert len(called) == 1
