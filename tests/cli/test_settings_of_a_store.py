"""Windows and cleaning are those of the store: written as such, and refused where a user asks for others."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import SettingsError

QUICK = [word for text in ("training.n_epochs=1", "model.width=8", "model.n_latents=2", "model.n_heads=1")
         for word in ("--set", text)]  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def store(made: ModuleType, tmp_path: Path) -> Path:
    return made.store(tmp_path / "made.h5", made.study(3))  # windows of 20 s every 10 s


def test_what_is_written_beside_the_scores_is_what_the_store_was_prepared_with(store: Path, tmp_path: Path) -> None:
    outcome = run("cross-validate", store, "-o", tmp_path / "cv", "-c", "stress-wrist", "--model", "logistic")
    assert outcome.exit_code == 0, outcome.output
    written = yaml.safe_load((tmp_path / "cv" / "config.yaml").read_text())
    assert written["windows"] == {"length_seconds": 20.0, "step_seconds": 10.0}
    warning = (
        "warning: made.h5 was prepared with windows.length_seconds=20, windows.step_seconds=10, which is used here; "
        "stress-wrist has other values, which are for prepare alone"
    )
    assert " ".join(outcome.stderr.split()).count(warning) == 1
    plain = run("cross-validate", store, "-o", tmp_path / "plain", "--model", "logistic")
    assert "made.h5 was prepared with" not in plain.stderr  # nobody asked for a preset


@pytest.mark.parametrize(
    "command",
    ["cross-validate", "train", "audit", "personalise", "learning-curve", "pretrain", "score-generation", "tune"],
)
def test_windows_that_the_store_has_not_are_refused(command: str, store: Path, tmp_path: Path) -> None:
    trials = ("--trials", 1) if command == "tune" else ()
    outcome = run(command, store, "-o", tmp_path / "out", "--set", "windows.length_seconds=60", *trials, *QUICK)
    assert isinstance(outcome.exception, SettingsError)
    assert str(outcome.exception).endswith(
        "windows.length_seconds is 60.0 and the store was prepared with 20.0; leave it out, or prepare a store with it"
    )
    assert not (tmp_path / "out").exists()


def test_a_file_of_ones_own_is_held_to_the_store_as_well(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("preset: stress-wrist\nwindows:\n  step_seconds: 30\n")
    outcome = run("train", store, "-o", tmp_path / "model", "-c", own, *QUICK)
    assert str(outcome.exception) == (
        "own.yaml line 3: windows.step_seconds is 30.0 and the store was prepared with 10.0; leave it out, or prepare "
        "a store with it"
    )
    own.write_text("windows: {length_seconds: 20, step_seconds: 10}\n")
    assert run("train", store, "-o", tmp_path / "model", "-c", own, *QUICK).exit_code == 0


def test_cleaning_is_held_to_the_store(made: ModuleType, tmp_path: Path) -> None:
    few = ("--subjects", "S01,S02,S03")
    outcome = run("prepare", _study(tmp_path), "-o", tmp_path / "s.h5", "--set", "cleaning.powerline_hz=60", "-q", *few)
    assert outcome.exit_code == 0, outcome.output
    refused = run("train", tmp_path / "s.h5", "-o", tmp_path / "m", "--set", "cleaning.powerline_hz=50", *QUICK)
    assert "cleaning.powerline_hz is 50.0 and the store was prepared with 60" in str(refused.exception)
    sizes = {"n_permutations": 20, "n_shifts": 100, "n_trees": 10, "n_folds": 3}
    small = [word for name, size in sizes.items() for word in ("--set", f"audit.{name}={size}")]
    same = run("audit", tmp_path / "s.h5", "-o", tmp_path / "a", "--set", "cleaning.powerline_hz=60", "--json", *small)
    assert "powerline_hz: 60" in (tmp_path / "a" / "config.yaml").read_text(), same.output
    assert json.loads(same.stdout)


def _study(tmp_path: Path) -> Path:
    from biopercept.resources import sample_study

    with sample_study() as source:
        import shutil

        return Path(shutil.copytree(source, tmp_path / "study"))
