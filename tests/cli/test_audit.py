"""The command `audit` as a user types it: files, JSON, exit codes, and folders that are not its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from read_settings import run_command as run

QUICK = [
    word
    for setting in ("n_permutations=20", "n_shifts=100", "n_trees=10", "n_folds=3")
    for word in ("--set", f"audit.{setting}")
]


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "made.h5"
    return made.store(path, made.planted("length", n_subjects=8), features=made.AUDIT_FEATURES)


def test_an_audit_ends_well_whatever_it_finds_unless_strict(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "audit"
    code, out, err = run(capsys, "audit", store, "-o", output, "--normalisation", "global", *QUICK)
    assert code == 0, err
    assert "leak: file-only: The length of the file, and when its signals begin and end, tells the label" in out
    written = {"audit.json", "audit.md", "config.yaml", "plan.json", "command.json", "SHA256SUMS"}
    assert {p.name for p in output.iterdir()} == written
    first = json.loads((output / "audit.json").read_text())
    code, out, err = run(
        capsys, "audit", store, "-o", output, "--normalisation", "global", "--strict", "--json", "-q", *QUICK
    )
    assert (code, err) == (1, "")
    assert json.loads(out) == first
    code, out, _ = run(capsys, "report", output)
    assert code == 0
    assert "file-only" in (output / "report.html").read_text()


def test_a_folder_of_something_else_is_refused_without_overwrite(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    code, out, err = run(capsys, "audit", store, "-o", tmp_path / "mine")
    assert (code, out) == (2, "")
    assert "is not empty and holds no audit; choose another output or add --overwrite" in err
    assert not (tmp_path / "mine" / "audit.json").exists()
    code, _, err = run(capsys, "audit", store, "-o", tmp_path / "mine" / "notes", "--overwrite")
    assert code == 2
    assert "is a file; choose a folder for the results" in err


def test_mistakes_are_one_sentence(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "audit", store, "-o", tmp_path / "a", "--fit", "--model-scores", tmp_path)
    assert code == 2
    assert "--model-scores and --fit are both given; audit one model at a time" in err
    code, _, err = run(capsys, "audit", store, "-o", tmp_path / "b", "--model-scores", tmp_path)
    assert code == 2
    assert "holds no scores.json; give what cross-validate wrote" in err
    code, _, err = run(capsys, "audit", store, "-o", tmp_path / "c", "--subjects", "P01,nobody")
    assert code == 2
    assert "no recording of subject nobody" in err
