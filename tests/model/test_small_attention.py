"""Attention with held scores: equal to the plain way for every mask, gradients too, chosen only where it is quicker."""

from __future__ import annotations

import pytest
import torch

from biopercept.model.attention import attend, attend_plainly, attend_to_shared
from biopercept.model.cpu_kernels import is_small

MASKS = ("all read", "some masked", "a mask for each query", "one sample empty")


def _mask(kind: str, n_queries: int) -> torch.Tensor | None:
    generator = torch.Generator().manual_seed(1)
    if kind == "all read":
        return None
    shape = (3, n_queries, 30) if kind == "a mask for each query" else (3, 30)
    mask = torch.rand(shape, generator=generator) > 0.4
    mask[..., 0] = True
    if kind == "one sample empty":
        mask[1] = False
    return mask


def _leaves(*shapes: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def _assert_close(ours: list[torch.Tensor], exact: list[torch.Tensor]) -> None:
    for found, wanted in zip(ours, exact, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MASKS)
def test_outputs_and_gradients_equal_the_plain_way_in_double_precision(kind: str) -> None:
    found = []
    for dtype, way in ((torch.float32, attend), (torch.float64, lambda *a: attend_plainly(*a)[0])):
        leaves = _leaves((3, 2, 20, 8), (3, 2, 30, 8), (3, 2, 30, 5), dtype=dtype)
        output = way(*leaves, _mask(kind, 20), 0.3)
        output.square().sum().backward()
        found.append([output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    assert is_small(torch.zeros(3, 2, 20, 8), torch.zeros(3, 2, 30, 8))
    assert len(found[0]) == 4
    _assert_close(*found)


@pytest.mark.parametrize("kind", MASKS)
def test_shared_queries_equal_the_plain_way_in_double_precision(kind: str) -> None:
    found = []
    for dtype in (torch.float32, torch.float64):
        queries, tokens = _leaves((20, 8), (3, 30, 8), dtype=dtype)
        mask = _mask(kind, 20)
        if dtype == torch.float32:
            output = attend_to_shared(queries, tokens, mask, 0.3)
        else:
            array = tokens[:, None]
            output = attend_plainly(queries.expand(3, 1, -1, -1), array, array, mask, 0.3)[0][:, 0]
        output.square().sum().backward()
        found.append([output.detach(), queries.grad, tokens.grad])
    assert is_small(torch.zeros(20, 8), torch.zeros(3, 30, 8), is_shared=True)
    _assert_close(*found)


def test_a_sample_without_a_token_reads_exactly_zero_and_has_no_gradient() -> None:
    queries, tokens = _leaves((20, 8), (3, 30, 8), dtype=torch.float32)
    output = attend_to_shared(queries, tokens, _mask("one sample empty", 20), 0.3)
    output.square().sum().backward()
    assert (output[1] == 0).all()
    assert tokens.grad is not None
    assert (tokens.grad[1] == 0).all()
    assert tokens.grad[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("n_queries", "n_tokens", "dtype", "is_shared", "is_chosen"),
    [
        (24, 24, torch.float32, False, True),
        (1, 24, torch.float32, False, False),
        (24, 400, torch.float32, False, False),
        (24, 400, torch.float32, True, True),
        (24, 4000, torch.float32, True, False),
        (24, 24, torch.float64, False, False),
    ],
)
def test_scores_are_held_where_that_is_quicker(
    n_queries: int, n_tokens: int, dtype: torch.dtype, is_shared: bool, is_chosen: bool
) -> None:
    query, key = torch.zeros(2, n_queries, 8, dtype=dtype), torch.zeros(2, n_tokens, 8, dtype=dtype)
    assert is_small(query, key, is_shared=is_shared) == is_chosen
