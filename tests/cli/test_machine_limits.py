"""What a machine may lack, from outside: files that may be open, memory, room, a home, a locale, a working folder."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app, main
from biopercept.files import temporary_prefix

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


@pytest.mark.parametrize("mask", [0o077, 0o022], ids=oct)
def test_modes_of_what_is_written_are_those_that_the_user_wants(mask: int, study: Path) -> None:
    place = study.parent / "results"
    tiny = [f"training.{one}" for one in ("n_epochs=1", "batch_size=4")] + [
        f"model.{one}=1" for one in ("n_latents", "n_heads", "n_layers")
    ]
    before = os.umask(mask)
    try:
        for words in (
            ["prepare", study, "-o", place / "made.h5"],
            ["train", place / "made.h5", "-o", place / "model", *(w for one in tiny for w in ("--set", one))],
            ["predict", place / "model", study / "S0.csv", "-o", place / "predictions"],
            ["quality", study / "S0.csv", "-o", place / "quality"],
        ):
            result = CliRunner().invoke(build_app(), [*map(str, words), "-q"])
            assert result.exit_code == 0, (words, result.output, result.exception)
    finally:
        os.umask(before)
    modes = {str(path.relative_to(place)): path.stat().st_mode & 0o777 for path in [place, *place.rglob("*")]}
    assert {name: mode for name, mode in modes.items() if mode & mask} == {}
    files = {mode for name, mode in modes.items() if (place / name).is_file()}
    assert files == {0o666 & ~mask}, modes


def test_samples_that_a_killed_process_unpacked_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unpack = "import tempfile; from biopercept.files import temporary_prefix as p; print(tempfile.mkdtemp(prefix=p()))"
    killed = subprocess.run(
        [sys.executable, "-c", f"{unpack}; import os; os._exit(9)"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    left, mine = Path(killed.stdout.strip()), Path(tempfile.mkdtemp(prefix=temporary_prefix()))
    (left / "samples.fif").write_bytes(b"x")
    with pytest.raises(SystemExit):
        main(["models"])
    assert capsys.readouterr().out
    assert (left.exists(), mine.exists()) == (False, True)


@pytest.mark.parametrize("n_letters", [300, 5000])
def test_names_that_are_too_long_are_a_sentence(
    n_letters: int, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, file, out = str(study.parent / ("x" * n_letters)), str(study / "S0.csv"), str(study.parent / "out")
    read = ["inspect", "check", "prepare", "features", "quality", "view", "deidentify", "report", "audit", "train"]
    read += ["pretrain", "cross-validate", "tune", "learning-curve", "personalise", "score-generation", "compare"]
    without = {"inspect", "check", "view", "report"}
    for words, codes in (
        *(([command, name, *([] if command in without else ["-o", out])], (1, 2)) for command in read),
        *(([command, name, file, "-o", out], (2,)) for command in ("predict", "explain", "reconstruct", "evaluate")),
        *(([command, "stress-wrist", name, "-o", out], (1, 2)) for command in ("predict", "explain", "evaluate")),
        *(([command, "stress-wrist", file, "-o", name], (2, 74)) for command in ("predict", "explain", "evaluate")),
        *((["prepare", str(study), *more], (2, 74)) for more in (["-o", f"{name}.h5"], ["-o", out, "-c", name])),
        *(([command, file, "-o", name], (2, 74)) for command in ("features", "quality")),
        (["view", file, "--html", f"{name}.html"], (2, 74)),
        (["init", name, file], (2, 74)),
        (["init", out, name], (2,)),
        (["import", "wesad", name, "-o", out], (2,)),
        (["demo", "-o", name], (2, 74)),
    ):
        with pytest.raises(SystemExit) as left:
            main(words)
        said = capsys.readouterr().err
        assert left.value.code in codes and "of ours" not in said and said.strip(), (words[0], left.value.code, said)
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
