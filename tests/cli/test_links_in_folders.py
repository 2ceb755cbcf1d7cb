"""Folders with links, from outside: one that leads up is not entered, and a recording with two names is used once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

TASKS = "name: x\ntasks: {t: {classes: {rest: [calm], work: [count]}}}\n"


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two recordings with links: to where it lies, to itself, to each other, and to nothing."""
    folder = tmp_path / "lab" / "recordings"
    (folder / "more").mkdir(parents=True)
    for place, path in enumerate((folder / "A.csv", folder / "more" / "B.csv", tmp_path / "lab" / "beside.csv")):
        rows = "".join(f"{k / 4},{2 + (k + place) % 9 / 50}\n" for k in range(4 * 120))
        path.write_text("time,EDA (uS)\n" + rows)
    for link, target in {
        "up": "..",
        "root": "/",
        "more/here": "..",
        "C.csv": "A.csv",
        "gone.csv": "nothing.csv",
        "round.csv": "round.csv",
    }.items():
        (folder / link).symlink_to(target)
    (folder / "more" / "D.csv").hardlink_to(folder / "more" / "B.csv")
    return folder


def test_commands_on_a_folder_use_each_recording_once(folder: Path, tmp_path: Path) -> None:
    told = "links to other recordings of the folder are left out: C.csv, more/D.csv"
    shown = run("inspect", folder, "--json")
    assert shown.exit_code == 0 and told in shown.stderr
    assert sorted(one["recording"] for one in json.loads(shown.stdout)["recordings"]) == ["A", "B"]

    assert run("predict", "stress-wrist", folder, "-o", tmp_path / "out", "--device", "cpu", "-q").exit_code == 0
    with (tmp_path / "out" / "summary.csv").open() as stream:
        assert [row["recording"] for row in csv.DictReader(stream)] == ["A", "B"]

    begun = run("init", tmp_path / "study", folder, "--pattern", "{participant}")
    assert begun.exit_code == 0 and told in begun.stderr
    assert "2 participants, 2 recordings, 2 files" in begun.stdout


@pytest.mark.parametrize("path", ["C.csv", "up/recordings/A.csv", "more/here/A.csv", "hard.csv"])
def test_a_recording_that_a_study_lists_twice_is_refused_with_both_rows(
    path: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "hard.csv").hardlink_to(folder / "A.csv")
    (folder / "study.yaml").write_text(TASKS)
    (folder / "participants.tsv").write_text("participant_id\nA\nB\nC\n")
    rows = ["participant_id\trecording\tpath\tcondition", "A\tlab\tA.csv\tcalm", "B\tlab\tmore/B.csv\tcount"]
    (folder / "recordings.tsv").write_text("\n".join(rows) + "\n")
    assert run("check", folder).exit_code in (0, 2)
    assert "two recordings" not in run("check", folder).output
    (folder / "recordings.tsv").write_text("\n".join([*rows, f"C\tlab\t{path}\tcalm"]) + "\n")
    for words in (["check", folder], ["prepare", folder, "-o", tmp_path / "x.h5"], ["features", folder, "-o", "out"]):
        result = run(*words)
        said = " ".join((str(result.exception) + result.output).split())
        assert getattr(result.exception, "exit_code", result.exit_code) == 2
        assert "A lab (recordings.tsv line 2) and " in said and "C lab (recordings.tsv line 4)" in said, said
    assert not (tmp_path / "x.h5").exists()
