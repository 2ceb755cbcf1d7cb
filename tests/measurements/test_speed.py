"""The table of speeds: what fell is named by how much, rows are kept one by one, and busy processes end."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from biopercept.benchmarks.peers import OURS
from biopercept.errors import BioperceptError
from measurements import command_speed, speed, speed_table
from measurements.speed_table import Row

FORWARD = Row("forward, 256 tokens, busy", 1.31, "60 ms", "at least 1x", True, "EPYC, 2 cores")


class _Times(nn.Module):
    """A network that goes through its tokens so often."""

    def __init__(self, n_times: int) -> None:
        super().__init__()
        self.scale, self.n_times = nn.Parameter(torch.ones(())), n_times

    def forward(self, tokens: Tensor) -> Tensor:
        for _ in range(self.n_times):
            tokens = torch.tanh(self.scale * tokens)
        return tokens


def test_a_row_that_fell_is_named_with_how_much() -> None:
    committed = {(FORWARD.name, FORWARD.processor): FORWARD}
    slower = replace(FORWARD, speed=1.02, shown="75 ms")
    assert speed_table.fallen([slower], committed) == [
        "forward, 256 tokens, busy: 22% slower than in the committed table (75 ms; there 60 ms)"
    ]
    for fine in (FORWARD, replace(FORWARD, speed=1.2), replace(slower, processor="Xeon, 2 cores")):
        assert speed_table.fallen([fine], committed) == []
    assert speed_table.fallen([replace(slower, name="new")], committed) == []


def test_rows_are_kept_one_by_one_and_by_processor(tmp_path: Path) -> None:
    table = tmp_path / "speed.json"
    assert speed_table.read_rows(table) == {}
    for row in (FORWARD, replace(FORWARD, processor="Xeon, 2 cores", is_met=False), replace(FORWARD, speed=1.4)):
        speed_table.keep(table, row)
    assert [(row.speed, row.processor) for row in speed_table.read_rows(table).values()] == [
        (1.4, "EPYC, 2 cores"),
        (1.31, "Xeon, 2 cores"),
    ]
    page = (tmp_path / "speed.md").read_text()
    assert "## Xeon, 2 cores" in page and "| forward, 256 tokens, busy | 60 ms | at least 1x | no |" in page


def test_the_fastest_peer_counts_quiet_and_busy() -> None:
    modules = {OURS: _Times(2), "slow": _Times(24), "fast": _Times(8)}
    rows = list(speed.network_rows(modules, tokens=[256], n_rounds=3, n_busy=1))
    assert [row.name for row in rows] == [
        f"{kind}, 256 tokens, {state}" for kind in ("forward", "training") for state in ("quiet", "busy")
    ]
    assert all("; fast " in row.shown for row in rows)
    assert all(1.2 < row.speed < 20 and row.is_met for row in rows)
    behind = next(speed.network_rows({OURS: _Times(8), "fast": _Times(2)}, tokens=[256], n_rounds=3, n_busy=0))
    assert behind.speed < 1 and not behind.is_met


def test_busy_processes_run_within_the_block_and_no_longer() -> None:
    def children() -> list[str]:
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    before = children()
    with pytest.raises(KeyError), speed.busy(2):
        time.sleep(0.1)
        assert len(children()) == len(before) + 2
        raise KeyError
    assert children() == before


def test_a_command_is_timed_with_its_children_and_a_failing_one_is_no_measurement(tmp_path: Path) -> None:
    cost = command_speed._run("doctor", "--json")
    assert 0.05 < cost.processor < 60 and cost.clock > 0
    with pytest.raises(BioperceptError, match=r"^inspect nowhere ended with [12]: biopercept: "):
        command_speed._run("inspect", "nowhere")


def test_parts_that_are_not_named_leave_the_long_one_out() -> None:
    assert command_speed.chosen_parts([]) == ["network", "commands"]
    assert command_speed.chosen_parts(["long", "commands"]) == ["commands", "long"]
