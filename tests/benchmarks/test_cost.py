"""The counter of operations against counts by hand, and the tables of the benchmark command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from biopercept.benchmarks import cost, speed
from biopercept.benchmarks.peers import OURS, build
from biopercept.benchmarks.speed import peak_growth
from biopercept.cli.main import main
from biopercept.errors import BioperceptError


def test_a_linear_layer_counts_as_rows_times_its_weights() -> None:
    layer = torch.nn.Linear(7, 5)
    assert cost.count_multiply_adds(lambda: layer(torch.zeros(3, 7))) == 3 * 7 * 5


def test_full_self_attention_counts_as_by_hand() -> None:
    n, d, n_layers = 50, 16, 3
    network = cost.full_self_attention(d, 4, n_layers=n_layers, widening=4).requires_grad_(False)
    tokens = torch.empty(1, n, d, device="meta")
    by_hand = n_layers * (4 * n * d * d + 2 * n * n * d + 8 * n * d * d)
    assert cost.count_multiply_adds(lambda: network(tokens)) == by_hand


def test_the_scores_of_a_picture_are_the_figure_of_the_literature() -> None:
    assert cost.picture_scores() == 10 * (512 * 512) ** 2 * 512
    assert f"{cost.picture_scores():.2e}" == "3.52e+14"


def test_the_perceiver_grows_by_the_same_operations_for_each_token() -> None:
    costs = cost.count_costs([1000, 2000, 3000, 1_000_000])
    steps = [costs[1].perceiver - costs[0].perceiver, costs[2].perceiver - costs[1].perceiver]
    assert steps[0] == steps[1] == 1000 * 2 * 4 * 64 * 64  # scores and sums of 4 heads x 64 latents over 64 channels
    assert costs[3].self_attention > 1e4 * costs[3].perceiver
    assert "| 1,000,000 |" in cost.table(costs)


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    small, large = (peak_growth(OURS, n, is_training=False) for n in (16, 8192))
    if small is None or large is None:
        pytest.skip("this system does not tell a process's peak memory")
    # Which of the two is larger is noise: the network reads its tokens in stretches and keeps next to nothing of them.
    assert 0 <= small < 200
    assert 0 <= large < 200
    with pytest.raises(BioperceptError, match="The memory of nobody at 16 tokens could not be measured: KeyError"):
        peak_growth("nobody", 16, is_training=False)


def test_speeds_come_out_by_name_size_and_kind() -> None:
    modules = {OURS: build(OURS), "twin": build(OURS)}
    found = speed.measure(modules, tokens=[16, 32], n_rounds=1, memory_at=[])
    assert [(s.name, s.n_tokens, s.is_training) for s in found] == [
        (name, n, is_training) for is_training in (False, True) for n in (16, 32) for name in modules
    ]
    assert {s.times_ours for s in found if s.name == OURS} == {1.0}
    assert all(s.cpu_ms > 0 for s in found)
    text = speed.table(found)
    assert "| twin | 1,579,012 |" in text
    assert text.count("| 16 tokens | 32 tokens |") == 2


def test_the_command_prints_and_writes_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "--scaling", "--rounds", "1", "--largest", "256", "--json", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert printed["picture_scores"] == 351843720888320
    assert "3.52e+14" in (tmp_path / "out" / "benchmark.md").read_text()
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 2
