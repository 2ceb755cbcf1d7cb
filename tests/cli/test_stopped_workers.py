"""Processes of a command that are stopped or killed, from outside: what they worked on is lost, and nothing else."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app

N_FILES = 12
SECONDS = 120.0
SOONER = (
    "from biopercept import parallel; parallel.LOOK_SECONDS, parallel.STOPPED_SECONDS = 0.2, 1.0\n"
    "from biopercept.report import drawing; drawing.rendered = lambda _: b'<svg/>'\n"
    "from biopercept.cli.main import main; main()"
)
"""The command line, which gives up a stopped process after a second, and renders no figures."""
SIGNALS = {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}


def tables(folder: Path) -> list[str]:
    for place in range(N_FILES):
        rows = "".join(f"{i / 4},{2 + (i + place) % 9 / 50}\n" for i in range(4 * 180))
        (folder / f"p{place:02}.csv").write_text(f"time,EDA (uS)\n{rows}")
    return [str(path) for path in sorted(folder.glob("p*.csv"))]


def children_of(process: int, kind: str = "") -> list[int]:
    """Return the processes that another started, and that do its work; ``kind`` is a word of their command lines."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = status.with_name("cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == process and "resource_tracker" not in words and kind in words:
            found.append(int(status.parent.name))
    return found


def disturbed(
    words: list[str], is_time: Callable[[], bool], number: int, kind: str = "", **environment: str
) -> tuple[int, str]:
    """Run a command, and send one of its processes a signal once it is time; return its code and what it said."""
    line = [sys.executable, "-c", SOONER, *words]
    surroundings = os.environ | environment
    with subprocess.Popen(line, env=surroundings, stdout=subprocess.DEVNULL, stderr=-1, text=True) as process:
        end = time.monotonic() + SECONDS
        while not (is_time() and children_of(process.pid, kind)):
            assert process.poll() is None and time.monotonic() < end, "it ended before it could be disturbed"
            time.sleep(0.005)
        os.kill(children_of(process.pid, kind)[-1], number)
        try:
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert "Traceback" not in said and "of ours" not in said, said
    return process.returncode, said


@pytest.mark.parametrize("how", SIGNALS)
def test_a_process_that_reads_and_stops_costs_one_recording(how: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["predict", "stress-wrist", *tables(tmp_path), "-o", str(output), "--device", "cpu", "-q"]
    is_time = lambda: any(output.glob("*_predictions.tsv"))  # noqa: E731
    code, _ = disturbed(words, is_time, SIGNALS[how], BIOPERCEPT_READ_SECONDS="1")
    assert code == 1
    with (output / "failures.csv").open(encoding="utf-8") as stream:
        (failure,) = csv.DictReader(stream)
    assert "reading it" in failure["message"]
    assert len(list(output.glob("*_predictions.tsv"))) == N_FILES - 1


@pytest.mark.parametrize("how", SIGNALS)
def test_a_fold_whose_process_is_lost_is_named_and_fitted_again(how: str, made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(4))
    words = ["cross-validate", str(store), "--model", "logistic", "--split", "subject", "--seeds", "1", "-q"]
    code, said = disturbed([*words, "-j", "2", "-o", str(tmp_path / "two")], lambda: True, SIGNALS[how], "spawn_main")
    assert code == 0, said
    reason = r"was stopped for \d+ s and was given up" if how == "stopped" else r"was ended by signal \d+"
    assert re.search(rf"P0\d is done again after all others: the process that worked on it {reason}\n", said), said
    assert CliRunner().invoke(build_app(), [*words, "-o", str(tmp_path / "one")]).exit_code == 0
    for name in ("predictions.csv", "scores.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("how", SIGNALS)
def test_a_recording_whose_process_is_lost_is_a_row_and_the_same_command_prepares_it(how: str, tmp_path: Path) -> None:
    study, log = tmp_path / "study", tmp_path / "made.log.csv"
    study.mkdir()
    tables(study)
    rows = "".join(f"S{place}\tlab\tp{place:02}.csv\tcalm\n" for place in range(4))
    (study / "participants.tsv").write_text("participant_id\n" + "".join(f"S{place}\n" for place in range(4)))
    (study / "recordings.tsv").write_text("participant_id\trecording\tpath\tcondition\n" + rows)
    (study / "study.yaml").write_text("name: x\ntasks: {t: {classes: {rest: [calm], work: [count]}}}\n")
    words = ["prepare", str(study), "-o", str(tmp_path / "made.h5"), "-j", "2", "-q"]
    code, said = disturbed([*words, "--set", "windows.length_seconds=30"], lambda: True, SIGNALS[how], "spawn_main")
    assert code == 1, said
    lost = [row for row in rows_of(log) if row["status"] == "failed"]
    assert len(lost) == 1 and ": the process that worked on it was " in lost[0]["message"], lost
    assert lost[0]["participant_id"] in said
    words[words.index("-j") + 1] = "1"
    assert CliRunner().invoke(build_app(), [*words, "--set", "windows.length_seconds=30"]).exit_code == 0
    assert sorted(row["status"] for row in rows_of(log)) == ["prepared", "reused", "reused", "reused"]


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
