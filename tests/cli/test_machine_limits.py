"""What a machine may lack, from outside: files that may be open, memory, room, a home, a locale, a working folder."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app, main

COMMAND = f"{shlex.quote(sys.executable)} -m biopercept.cli"
SECONDS = 240


def table(path: Path, place: int, seconds: int = 200) -> None:
    rows = "".join(f"{i / 4},{2 + math.sin(i / 40 + place):.4f}\n" for i in range(4 * seconds))
    path.write_text(f"time,EDA (uS)\n{rows}")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four people of 200 s, of whom each has two labels."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    people = [f"S{number}" for number in range(4)]
    rows = {
        "participants": ["participant_id", *people],
        "recordings": ["participant_id\trecording\tpath", *(f"{who}\tr\t{who}.csv" for who in people)],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type"]
        + [f"{who}\tr\t{at}\t90\t{label}" for who in people for at, label in ((0, "a"), (95, "b"))],
    }
    for name, lines in rows.items():
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    for place, who in enumerate(people):
        table(folder / f"{who}.csv", place)
    return folder


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={k: v for k, v in (os.environ | environment).items() if v != "UNSET"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )
    assert "Traceback" not in ended.stderr and "of ours" not in ended.stderr, ended.stderr
    return ended


INSPECT, PREPARE = f"{COMMAND} inspect study/S0.csv", f"{COMMAND} prepare study -o out.h5 -q"
PREDICT = f"{COMMAND} predict stress-wrist study/S0.csv -o predictions -q"


_C = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
_NO_HOME = {"HOME": "UNSET", "USER": "UNSET", "LOGNAME": "UNSET"}


@pytest.mark.parametrize(
    ("command", "before", "environment"),
    [
        (PREDICT, "", _NO_HOME),
        (PREPARE, "", _NO_HOME),
        (PREDICT, "", {"HOME": "/nonexistent/home", "XDG_CACHE_HOME": "/nonexistent/cache"}),
        (PREDICT, "", {"TMPDIR": "/nonexistent/tmp"}),
        (INSPECT, "", _C),
        (PREDICT, "", _C),
        (PREPARE, "ulimit -n 64; ", {"TERM": "dumb", "COLUMNS": "20"}),
    ],
    ids=["no home", "no home, prepare", "no such home", "no such TMPDIR", "C", "C, predict", "64 files"],
)
def test_what_a_machine_may_lack_changes_nothing(
    command: str, before: str, environment: dict[str, str], study: Path
) -> None:
    (study / "S0.csv").write_text((study / "S0.csv").read_text().replace("EDA (uS)", "EDA (µS)"))
    ended = shell(before + command, study.parent, **environment)
    assert ended.returncode == 0, ended.stderr


def test_many_recordings_need_no_more_files_at_once_than_few(tmp_path: Path) -> None:
    for place in range(80):
        table(tmp_path / f"p{place:02}.csv", place, seconds=20)
    ended = shell(f"ulimit -n 64; {COMMAND} features *.csv --whole -o out -q", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert len((tmp_path / "out" / "features.csv").read_text().splitlines()) == 81


@pytest.mark.parametrize("command", [INSPECT, PREDICT], ids=["inspect", "predict"])
def test_a_working_folder_that_was_removed_is_no_fault_of_ours(command: str, study: Path) -> None:
    there = command.replace("study", str(study)).replace("-o ", f"-o {study.parent}/")
    ended = shell(f"mkdir gone; cd gone; rmdir ../gone; {there}", study.parent)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", [f"{PREPARE} -j 2", PREDICT], ids=["prepare", "predict"])
@pytest.mark.parametrize("megabytes", [300, 1200])
def test_a_small_address_space_ends_in_a_sentence_and_soon(command: str, megabytes: int, study: Path) -> None:
    ended = shell(f"ulimit -v {megabytes * 1024}; {command}", study.parent)
    assert ended.returncode in (0, 1, 70, 74, -9, -11, 127, 134), ended.stderr
    assert ended.returncode == 0 or ended.stderr.strip()


@pytest.mark.parametrize("command", [PREPARE, PREDICT], ids=["prepare", "predict"])
def test_a_file_that_may_not_grow_is_a_write_that_failed_and_leaves_nothing(command: str, study: Path) -> None:
    ended = shell(f"ulimit -f 1; {command}", study.parent)
    assert ended.returncode == 74, (ended.returncode, ended.stderr)
    assert not list(study.parent.rglob("*.tmp*"))
    again = shell(command, study.parent)
    assert again.returncode == 0, again.stderr


def test_a_full_terminal_is_a_write_that_failed(study: Path) -> None:
    assert shell(f"{INSPECT} > /dev/full", study.parent).returncode == 74


@pytest.mark.parametrize("n_letters", [300, 5000])
def test_names_that_are_too_long_are_a_sentence(n_letters: int, study: Path) -> None:
    name = str(study.parent / ("x" * n_letters))
    for words, codes in (
        (["inspect", f"{name}.csv"], (1, 2)),
        (["check", name], (2,)),
        (["prepare", str(study), "-o", f"{name}.h5"], (2, 74)),
        (["features", str(study / "S0.csv"), "--whole", "-o", name], (2, 74)),
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code in codes, words
    recordings = study / "recordings.tsv"
    recordings.write_text(recordings.read_text().replace("S1.csv", f"{'x' * n_letters}.csv"))
    result = CliRunner().invoke(build_app(), ["check", str(study)])
    assert result.exit_code == 2 and "recordings.tsv line 3" in result.stdout, (result.output, result.exception)


def test_more_processes_than_processors_give_the_same_bytes(study: Path) -> None:
    for n_jobs in (1, 2, 64):
        ended = shell(f"{COMMAND} prepare study -o out{n_jobs}.h5 -q -j {n_jobs}", study.parent)
        assert ended.returncode == 0, ended.stderr
    contents = {(study.parent / f"out{n_jobs}.h5").read_bytes() for n_jobs in (1, 2, 64)}
    assert len(contents) == 1


def test_memory_that_is_used_up_is_said_with_what_to_make_smaller(study: Path) -> None:
    assert shell(PREPARE, study.parent).returncode == 0
    train = f"{COMMAND} train out.h5 -o model -q --set training.n_epochs=1 --set model.width=65536"
    ended = shell(f"ulimit -v 5000000; {train}", study.parent)
    assert (ended.returncode, "training.batch_size" in ended.stderr) == (1, True), ended.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "model.n_latents=1000000000",
        "training.batch_size=1000000001",
        "model.n_layers=1001",
        "windows.step_seconds=1e-9",
        "windows.step_seconds=0.01",
    ],
)
def test_sizes_beyond_any_machine_are_refused_by_name(setting: str, study: Path) -> None:
    result = CliRunner().invoke(build_app(), ["check", str(study), "--set", setting])
    assert result.exit_code == 2 and f"{setting.partition('=')[0]} is" in " ".join(result.stdout.split())
