"""What a terminal shows and a file does not: bars that follow the work down to its epochs, times, sparklines."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from biopercept.cli import terminal
from biopercept.cli.terminal import seconds_left, short_time, sparkline
from biopercept.progress import steps


def test_the_time_left_is_that_of_this_run_and_not_told_too_early() -> None:
    assert seconds_left(100.0, 0.0, 0.25) == pytest.approx(300.0)
    assert seconds_left(100.0, 0.5, 0.75) == pytest.approx(100.0)  # half was there before
    assert seconds_left(100.0, 0.5, 0.505) is None
    assert seconds_left(1.0, 0.0, 0.5) is None
    assert [short_time(seconds) for seconds in (0.2, 89.5, 91, 3599, 5400)] == [
        "1 s",
        "90 s",
        "2 min",
        "60 min",
        "1.5 h",
    ]


def test_a_bar_follows_the_steps_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 5.0))
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    with terminal.progress() as bar:
        line = bar.add_task("folds", total=None)
        with steps("folds", 4) as folds:
            assert bar.tasks[0].total == 4  # before the first is done
            with steps("epoch", 10) as epochs:
                for number in range(5):
                    epochs.advance(f"loss {number}")
                task = bar.tasks[line]
                assert task.completed == pytest.approx(0.5)
                assert task.fields["part"] == "epoch 6 of 10, loss 4"
                assert re.fullmatch(r"about \d+ min left", task.fields["left"])
            folds.advance()
        with steps("probes", 3, done=-1) as probes:  # other work on the same line
            probes.advance("copies")
            assert (bar.tasks[line].total, bar.tasks[line].completed) == (3, 0)
            assert bar.tasks[line].fields["part"] == "copies"


def test_a_sparkline_reaches_from_the_lowest_to_the_highest_and_leaves_gaps_blank() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == terminal.BARS
    assert sparkline([3.0, float("nan"), 3.0]) == f"{terminal.BARS[0]} {terminal.BARS[0]}"
    assert sparkline([float("nan")] * 3) == "   "


@pytest.mark.parametrize(("columns", "is_shown"), [(150, True), (90, False)])
def test_inspect_draws_a_sparkline_on_a_wide_terminal_alone(columns: int, is_shown: bool, tmp_path: Path) -> None:
    seconds = np.arange(0, 120, 0.25)
    path = tmp_path / "ramp.csv"
    path.write_text("time,EDA (uS)\n" + "".join(f"{s},{1 + s / 10:.3f}\n" for s in seconds))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "biopercept.cli", "inspect", str(path)]
    subprocess.run(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += chunk
        if not chunk:
            break
    os.close(ours)
    line = "".join(bar * 3 for bar in terminal.BARS)  # a ramp in 24 parts
    assert (line in shown.decode()) == is_shown, shown.decode()
