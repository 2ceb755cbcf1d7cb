"""Work shared by parts, from outside: an array job of SLURM, one part killed, all joined; equal to one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ARGUMENTS = "cross-validate ../made.h5 -o scores --model logistic --split subject --seeds 1 -q"


def started(folder: Path, *more: str, task: int | None = None) -> subprocess.Popen[str]:
    """Start the command in a folder; as a task, 3 to 6, of an array job of SLURM, where one is given."""
    folder.mkdir(exist_ok=True)
    array = {"ID": str(task), "COUNT": "4", "MIN": "3", "MAX": "6", "STEP": "1"} if task is not None else {}
    environment = {**os.environ, **{f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}}
    command = [sys.executable, "-m", "biopercept.cli", *ARGUMENTS.split(), *more]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int | None, str]:
    """Return exit code and standard error."""
    _, words = process.communicate()
    return process.returncode, words


def killed_at_work(folder: Path, task: int) -> None:
    """Begin a part and end it with -9 while it holds the locks of its folds."""
    locks = folder / "scores" / ".shared"
    with started(folder, task=task) as process:
        while not list(locks.glob("*.lock")):
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.communicate()
    assert list(locks.glob("*.lock"))


def content(folder: Path) -> dict[str, Any]:
    """Return all that a folder of results holds, by name, without the times that were measured."""
    return {
        str(path.relative_to(folder)): dict(_timeless(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"  # of files that hold times
    }


def _timeless(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix not in (".json", ".jsonl"):
        yield 0, path.read_bytes()
        return
    text = path.read_text()
    for number, line in enumerate(text.splitlines() if path.suffix == ".jsonl" else [text]):
        document = json.loads(line)
        yield number, {key: value for key, value in document.items() if key not in ("seconds", "sha256")}


@pytest.fixture(scope="module")
def folder(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    made.store(folder / "made.h5", made.study(6))
    return folder


def test_four_parts_one_of_them_killed_give_what_one_process_gives(folder: Path) -> None:
    killed_at_work(folder / "parts", 4)
    code, words = ended(started(folder / "parts", "--collect"))
    assert code == 1
    assert words.startswith("biopercept: 6 of 6 folds are not done: ") or "(parts 1, 2, 3, 4 of 4; " in words
    assert "never begun: 1, 3, 4)" in words
    assert words.endswith("; run what is missing, then --collect once more; no result was written\n")
    assert not (folder / "parts" / "scores" / "scores.json").exists()

    outcomes = [ended(part) for part in [started(folder / "parts", task=task) for task in (3, 4, 5, 6)]]
    assert [code for code, _ in outcomes] == [0] * 4
    for number, (_, words) in enumerate(outcomes, 1):
        assert words.startswith(
            f"part {number} of 4, by the array job of SLURM; all of the work in this process: --part 1/1\n"
        )
    assert ended(started(folder / "parts", "--collect")) == (0, "")

    assert ended(started(folder / "alone", "--part", "1/1", task=4)) == (0, "")
    assert content(folder / "parts" / "scores") == content(folder / "alone" / "scores")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            "--part 2/2 --overwrite",
            "--overwrite would remove what other parts have done; to begin anew, remove the output",
        ),
        (
            "--collect --overwrite",
            "--overwrite would remove what the parts have done; to begin anew, remove the output",
        ),
        ("--part 2/2 --collect", "--part does a part of the work and --collect none; give one of them"),
        ("--part slurm", "--part slurm: this is no task of an array job of SLURM; give --part I/N"),
        ("--jobs 2 --cluster local:2", "--jobs and --cluster both say where the work is done; give one of them"),
        ("--cluster ray", "--cluster ray: local:N, dask://HOST:PORT or slurm is needed"),
        ("--part 3/2", "--part 3/2: I/N is needed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from biopercept.cli.main import main

    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(SystemExit) as left:
        main(["cross-validate", str(tmp_path / "absent.h5"), "-o", str(tmp_path / "out"), *options.split()])
    assert (left.value.code, capsys.readouterr().err.startswith(f"biopercept: {sentence}")) == (2, True)
    assert not (tmp_path / "out").exists()
