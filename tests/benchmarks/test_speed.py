"""Speed as ratios: ours beside the plainest way to do it (``make bench``; elsewhere each runs once, unmeasured)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from biopercept.model.attention import AttentionWidths, MultiHeadAttention
from biopercept.store.reading import open_store

Benchmark = Callable[..., Any]


@pytest.mark.benchmark(group="24 latents read 512 tokens of width 64, batch 32")
@pytest.mark.parametrize("kind", ["torch's own", "ours"])
def test_cross_attention(benchmark: Benchmark, kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    latents, tokens = (torch.randn(32, n, 64, generator=random) for n in (24, 512))
    mask = torch.rand(32, 512, generator=random) > 0.2
    with torch.no_grad():
        if kind == "ours":
            ours = MultiHeadAttention(AttentionWidths.all(64), n_heads=4).eval()
            benchmark(ours, latents, tokens, mask)
        else:
            plain = nn.MultiheadAttention(64, 4, batch_first=True).eval()
            benchmark(plain, latents, tokens, tokens, key_padding_mask=~mask, need_weights=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, made: Any) -> Path:
    """A store of one made recording: three signals at 4 Hz, six minutes."""
    path: Path = made.store(tmp_path_factory.mktemp("speed") / "study.h5", made.study(2)[:1])
    return path


@pytest.mark.benchmark(group="64 windows of 20 s from the store")
@pytest.mark.parametrize("kind", ["h5py alone", "ours"])
def test_windows_from_the_store(benchmark: Benchmark, store: Path, kind: str) -> None:
    starts = np.random.default_rng(1).integers(0, 1000, size=64)
    if kind == "ours":
        with open_store(store) as opened:
            key = opened.recordings[0].key
            benchmark(lambda: [opened.recording(key).read("EDA", int(s), int(s) + 80) for s in starts])
    else:
        with h5py.File(store) as file:
            held = next(iter(file["recordings"].values()))
            samples, mask = held["signals/EDA"], held["masks/EDA"]
            benchmark(lambda: [(samples[:, s : s + 80], mask[:, s : s + 80]) for s in starts])
