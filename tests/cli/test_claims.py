"""A folder of results: one command at a time, marked until it is whole, gone on with by the same command line alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from biopercept.cli.claims import claim, claiming
from biopercept.errors import BusyError, OutputError

LINE = ("predict", "model", "a.csv", "-o", "out")
KILLED = """
import os, sys
from pathlib import Path
from biopercept.cli.claims import claim, claiming
with claiming(sys.argv[2:]):
    claim(Path(sys.argv[1]), overwrite=False)
    (Path(sys.argv[1]) / "first.tsv").write_text("half")
    print("taken", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder that a command left when it was killed."""
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, str(out), *LINE], input="\n", text=True, check=False)
    assert {path.name for path in out.iterdir()} == {"first.tsv", ".unfinished"}
    return out


def test_the_same_line_goes_on_where_it_was_killed_and_no_other(killed: Path) -> None:
    other = (*LINE[:2], "b.csv", *LINE[3:])
    with pytest.raises(OutputError, match="exists and is not empty"), claiming(other):
        claim(killed, overwrite=False)
    with claiming((*LINE, "--quiet")):
        claim(killed, overwrite=False)
    assert [path.name for path in killed.iterdir()] == ["first.tsv"]
    with pytest.raises(OutputError, match="exists and is not empty"), claiming(LINE):  # now it is whole
        claim(killed, overwrite=False)
    with claiming(other):
        claim(killed, overwrite=True)


def test_two_at_once_are_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(out), *LINE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "taken\n"
        for overwrite in (False, True):
            with pytest.raises(BusyError, match="another process is writing out"), claiming(LINE):
                claim(out, overwrite=overwrite)
        process.communicate("\n")
    assert {path.name for path in out.iterdir()} == {"first.tsv", ".unfinished"}


@pytest.mark.parametrize("was_there", [False, True])
def test_a_command_that_fails_before_it_wrote_leaves_nothing(tmp_path: Path, was_there: bool) -> None:
    out = tmp_path / "out"
    if was_there:
        out.mkdir()
    with pytest.raises(ValueError, match="no model"), claiming(LINE):
        claim(out, overwrite=False)
        raise ValueError("no model")
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if was_there else [])
    assert not was_there or not any(out.iterdir())


def test_results_of_which_some_recordings_failed_are_whole(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit), claiming(LINE):
        claim(tmp_path / "out", overwrite=False)
        (tmp_path / "out" / "failures.csv").write_text("")
        raise typer.Exit(1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failures.csv"]
