"""A folder of results: one command at a time, marked until it is whole, gone on with by the same command line alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from biopercept.cli.claims import claim, claiming, nothing_done
from biopercept.cli.main import build_app
from biopercept.errors import BusyError, OutputError
from biopercept.resources import sample_study

LINE = ("predict", "model", "a.csv", "-o", "out")
KILLED = """
import os, sys
from pathlib import Path
from biopercept.cli.claims import claim, claiming, nothing_done
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


def test_what_failed_for_every_recording_does_not_stand_in_the_way_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    out = tmp_path / "out"
    with sample_study() as study:
        good = str(study / "recordings" / "S01_chest.edf")
        for command in (["predict", "workload-eeg"], ["quality"], ["features"]):
            failed = CliRunner().invoke(build_app(), [*command, str(tmp_path / "bad.edf"), "-o", str(out)])
            assert (failed.exit_code, failed.stdout) == (1, "")
            assert failed.stderr.endswith("no recording succeeded\n")
        assert (out / "failures.csv").is_file()
        whole = ["features", good, "-o", str(out), "--whole"]
        assert CliRunner().invoke(build_app(), whole).exit_code == 0
        assert not (out / "failures.csv").read_text().count("bad.edf") and not (out / "quality.html").exists()
        assert isinstance(CliRunner().invoke(build_app(), whole).exception, OutputError)  # now there are results
        for words in ([], ["--overwrite"]):
            kept = ["features", str(tmp_path / "bad.edf"), "-o", str(tmp_path / "kept"), *words]
            CliRunner().invoke(build_app(), kept)
            assert isinstance(CliRunner().invoke(build_app(), kept[:4]).exception, OutputError)
        assert (tmp_path / "kept" / "notes.txt").read_text() == "mine"


def test_what_somebody_laid_beside_a_list_of_failures_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(typer.Exit), claiming(LINE):
        claim(out, overwrite=False)
        (out / "failures.csv").write_text("")
        nothing_done(quiet=True)
        raise typer.Exit(1)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not empty"), claiming(LINE):
        claim(out, overwrite=False)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_command_that_fails_over_finished_results_leaves_them_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with claiming(LINE):
        claim(out, overwrite=False)
        (out / "summary.csv").write_text("good")
    with pytest.raises(ValueError, match="no model"), claiming((*LINE, "--overwrite")):
        claim(out, overwrite=True)
        raise ValueError("no model")
    with pytest.raises(OutputError, match="exists and is not empty"), claiming(LINE):
        claim(out, overwrite=False)
    assert [path.name for path in out.iterdir()] == ["summary.csv"]


def test_a_refused_command_leaves_the_mark_of_the_one_that_was_killed(killed: Path) -> None:
    with pytest.raises(OutputError), claiming((*LINE, "--json", "--adapt", "past")):
        claim(killed, overwrite=False)
    with claiming(LINE):
        claim(killed, overwrite=False)
