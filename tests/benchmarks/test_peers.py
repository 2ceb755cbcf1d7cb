"""Forward and training beside the peers, as ratios (``make bench``; elsewhere each runs once, small and unmeasured)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from biopercept.benchmarks.peers import N_CHANNELS, N_SAMPLES, OURS, PEERS, build, installed
from biopercept.benchmarks.speed import step

Benchmark = Callable[..., Any]


@pytest.mark.filterwarnings("ignore")  # what the peers warn of is theirs
@pytest.mark.parametrize("name", [OURS, *PEERS])
@pytest.mark.parametrize("n_tokens", [256, 4096, 16384])
@pytest.mark.parametrize("kind", ["forward", "training"])
def test_beside_the_peers(
    benchmark: Benchmark, kind: str, n_tokens: int, name: str, pytestconfig: pytest.Config
) -> None:
    if name != OURS and not pytestconfig.getoption("benchmark_enable"):
        pytest.skip("peers run in make bench")
    try:
        module = build(name).train(kind == "training")
    except ImportError:
        pytest.skip(f"{name} is not installed")
    is_measured = pytestconfig.getoption("benchmark_enable")
    tokens = torch.randn(N_SAMPLES if is_measured else 1, n_tokens if is_measured else 64, N_CHANNELS)
    benchmark.group = f"{kind}, {n_tokens} tokens, batch 16"  # type: ignore[attr-defined]
    benchmark.pedantic(  # type: ignore[attr-defined]
        step, (module, tokens), {"is_training": kind == "training"}, rounds=3, warmup_rounds=1
    )


def test_a_peer_that_cannot_be_imported_is_absent_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> torch.nn.Module:
        raise ImportError("no module of that name")

    monkeypatch.setitem(PEERS, "transformers", fail)
    found, absent = installed(["transformers"])
    assert list(found) == [OURS]
    assert absent == [
        "transformers is left out, it cannot be imported (no module of that name); to have it: "
        "pip install 'biopercept[bench]'"
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["transformers", "perceiver-io"])
def test_faithful_peers_have_as_many_parameters_as_ours(name: str) -> None:
    try:
        peer = build(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")
    size = sum(p.numel() for p in build(OURS).parameters())
    assert sum(p.numel() for p in peer.parameters()) == pytest.approx(size, rel=0.02)
    assert peer.eval()(torch.randn(2, 5, N_CHANNELS)).numel() == 8


def test_ours_has_the_size_of_the_common_set_up() -> None:
    assert sum(p.numel() for p in build(OURS).parameters()) == 1_579_012
