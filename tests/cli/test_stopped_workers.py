"""Processes of a command that are stopped or killed, from outside: what they worked on is lost, and nothing else."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

N_FILES = 12
SECONDS = 240.0


def tables(folder: Path) -> list[str]:
    for place in range(N_FILES):
        rows = "".join(f"{i / 4},{2 + (i + place) % 9 / 50}\n" for i in range(4 * 180))
        (folder / f"p{place:02}.csv").write_text(f"time,EDA (uS)\n{rows}")
    return [str(path) for path in sorted(folder.glob("p*.csv"))]


def children_of(process: int) -> list[int]:
    """Return the processes that another started, and that do its work."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = status.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == process and "resource_tracker" not in words:
            found.append(int(status.parent.name))
    return found


def disturbed(words: list[str], is_time: Callable[[], bool], number: int, **environment: str) -> subprocess.Popen[str]:
    """Run a command, and send one of its processes a signal once it is time; return it ended."""
    line = [sys.executable, "-m", "biopercept.cli", *words]
    with subprocess.Popen(line, env=os.environ | environment, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + SECONDS
        while not (is_time() and children_of(process.pid)):
            assert process.poll() is None and time.monotonic() < end, "it ended before it could be disturbed"
            time.sleep(0.005)
        os.kill(children_of(process.pid)[-1], number)
        try:
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert "Traceback" not in said and "of ours" not in said, said
    return process


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_process_that_reads_and_stops_costs_one_recording(number: int, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["predict", "stress-wrist", *tables(tmp_path), "-o", str(output), "--device", "cpu", "-q"]
    ended = disturbed(words, lambda: any(output.glob("*_predictions.tsv")), number, BIOPERCEPT_READ_SECONDS="1")
    assert ended.returncode == 1
    with (output / "failures.csv").open(encoding="utf-8") as stream:
        (failure,) = csv.DictReader(stream)
    assert "reading it" in failure["message"]
    assert len(list(output.glob("*_predictions.tsv"))) == N_FILES - 1
