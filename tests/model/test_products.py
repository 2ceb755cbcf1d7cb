"""Products by the quicker library: equal to torch's own within rounding, gradients too, and left to torch elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)
from torch.utils.flop_counter import FlopCounterMode

from biopercept.model import cpu_kernels

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this build of torch carries no oneDNN",
)


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have every product made by oneDNN, whatever the machine; count them."""
    calls: list[int] = []
    plain = cpu_kernels.multiply

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        calls.append(1)
        return plain(x, weight, bias)

    for place in (cpu_kernels, cpu_kernels):
        monkeypatch.setattr(place, "onednn_is_quicker", lambda: True)
        monkeypatch.setattr(place, "multiply", counted)
    monkeypatch.setattr(cpu_kernels, "_LEAST_PRODUCTS", 0)
    return calls


def _given(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 12), (3, 5, 12), (2, 1, 4, 12)])
def test_outputs_and_gradients_equal_those_in_double_precision(
    onednn: list[int], shape: tuple[int, ...], has_bias: bool
) -> None:
    given = [_given(*shape), _given(9, 12), _given(9) if has_bias else None]
    got, exact = [], []
    for found, dtype, function in ((got, torch.float32, cpu_kernels.linear), (exact, torch.float64, F.linear)):
        leaves = [None if g is None else g.detach().to(dtype).requires_grad_() for g in given]
        output = function(*leaves)
        (output * _given(*output.shape).to(dtype)).sum().backward()
        found += [output.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]
    assert len(onednn) == 3
    assert len(got) == 3 + has_bias
    for ours, theirs in zip(got, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_only_the_gradients_that_are_wanted_are_computed(onednn: list[int]) -> None:
    weight = _given(9, 12).requires_grad_()
    cpu_kernels.linear(_given(7, 12), weight).sum().backward()
    assert len(onednn) == 2
    with torch.no_grad():
        cpu_kernels.linear(_given(7, 12), weight)
    assert len(onednn) == 3


@needs_onednn
def test_a_bias_that_alone_is_learnt_gets_its_gradient(onednn: list[int]) -> None:
    bias = _given(9).requires_grad_()
    cpu_kernels.linear(_given(7, 12), _given(9, 12), bias).sum().backward()
    assert len(onednn) == 1
    assert bias.grad.tolist() == [7.0] * 9


@needs_onednn
def test_a_layer_keeps_the_names_and_numbers_of_a_plain_one(onednn: list[int]) -> None:
    layer, plain = cpu_kernels.Linear(12, 9), nn.Linear(12, 9)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(_given(7, 12)), plain(_given(7, 12)))
    assert onednn


@needs_onednn
def test_what_oneDNN_cannot_be_used_for_is_left_to_torch(onednn: list[int]) -> None:
    weight = _given(9, 12)
    cpu_kernels.linear(_given(7, 12).double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert cpu_kernels.linear(_given(7, 12), weight).dtype == torch.bfloat16
    with FlopCounterMode(display=False) as counter:
        cpu_kernels.linear(_given(7, 12), weight)
    assert counter.get_total_flops() == 2 * 7 * 12 * 9
    x = _given(7, 12)
    of_several = torch.func.vmap(lambda w: cpu_kernels.linear(x, w))(torch.stack([weight, 2 * weight]))
    torch.testing.assert_close(of_several[1], 2 * F.linear(x, weight))
    assert not onednn


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cpu_kernels, "onednn_is_quicker", lambda: pytest.fail("asked for a product of 84 multiplications")
    )
    cpu_kernels.linear(_given(7, 12), _given(1, 12))


@needs_onednn
@pytest.mark.parametrize("kind", ["all read", "some masked", "one sample empty", "a mask for each query"])
def test_weighted_sums_by_products_equal_the_fused_kernel(onednn: list[int], kind: str) -> None:
    queries, tokens = _given(6, 8), 3 * _given(4, 50, 8) + 2
    readable = None if kind == "all read" else _given(4, 50) > 0
    if readable is not None and kind == "one sample empty":
        readable[2] = False
    if readable is not None and kind == "a mask for each query":
        readable = (_given(4, 3, 50) > 0) | readable[:, None]
    by_products = cpu_kernels._read_by_products(queries, tokens, readable, 1e-5)
    assert onednn
    for ours, theirs in zip(by_products, cpu_kernels._read_fused(queries, tokens, readable, 1e-5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_gradients_by_products_equal_those_in_double_precision(onednn: list[int]) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        queries, tokens = (x.to(dtype).requires_grad_() for x in (_given(6, 8), 3 * _given(4, 50, 8) + 2))
        readable = _given(4, 50) > 0
        (cpu_kernels.read_normalised(queries, tokens, readable, 1e-5) * _given(4, 6, 8).to(dtype)).sum().backward()
        found.append((queries.grad, tokens.grad))
    assert onednn
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_scores_too_large_for_plain_exponentials_go_to_the_fused_kernel(onednn: list[int]) -> None:
    tokens = _given(2, 50, 8)
    assert cpu_kernels._suits_products(_given(6, 8), tokens)
    assert not cpu_kernels._suits_products(40 * _given(6, 8), tokens)
    assert not cpu_kernels._suits_products(_given(6, 8) / 0, tokens)
    assert cpu_kernels.read_normalised(40 * _given(6, 8), tokens, None, 1e-5).isfinite().all()
