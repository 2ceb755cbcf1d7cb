"""The command ``evaluate`` as a user types it: a study prepared as the model reads, groups, failures, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_tables import write_study
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import BioperceptError

QUICK = ("training.n_epochs=1", "training.batch_size=16", "model.width=8", "model.n_latents=2", "model.n_heads=1",
         "model.n_layers=1")  # fmt: skip
SETTINGS = [word for text in QUICK for word in ("--set", text)]
WINDOWS = ("--set", "windows.length_seconds=20", "--set", "windows.step_seconds=20")
STAGES = (("rest", 60.0), ("task", 60.0))


def run(*words: object, exit_code: int = 0) -> Result:
    outcome = CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == exit_code, outcome.output
    return outcome


def refusal(*words: object) -> str:
    fault = CliRunner().invoke(build_app(), [str(word) for word in words]).exception
    assert isinstance(fault, BioperceptError)
    return str(fault)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model of three people, their store, and a study of three others, of whom one file is no table."""
    folder = tmp_path_factory.mktemp("evaluate")
    first = write_study(folder / "first", dict.fromkeys(("A1", "A2", "A3"), STAGES))
    run("prepare", first, "-o", folder / "first.h5", *WINDOWS, "-q")
    run("train", folder / "first.h5", "-o", folder / "model", *SETTINGS, "-q")
    other = write_study(folder / "other", dict.fromkeys(("B1", "B2", "B3"), STAGES), seed=2)
    text = (other / "study.yaml").read_text()
    (other / "study.yaml").write_text(text.replace("name: made", "name: other"))
    (other / "participants.tsv").write_text("participant_id\tsite\nB1\tnorth\nB2\tsouth\nB3\tsouth\n")
    (other / "B3_all.csv").write_text("no table")
    return folder


def test_a_study_is_prepared_with_the_models_windows_and_failures_are_named(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ("evaluate", folder / "model", folder / "other", "-o", output, "--by", "site", "--json", "-q")
    outcome = run(*words, exit_code=1)
    document = json.loads(outcome.stdout)
    assert (document["n_subjects"], document["n_windows"], document["window_seconds"]) == (2, 12, 20.0)
    assert "failed: B3_all.csv: the sidecar names 2 columns" in outcome.stderr
    assert {path.name for path in output.iterdir()} >= {"groups.json", "groups.csv", "preparation.log.csv"}
    assert not (output / ".prepared").exists()
    assert "other" not in [part["study"] for part in document["external"]["fitted_on"]]
    page = run("report", output, "-q") and (output / "report.html").read_text()
    assert "Groups of people in task t" in page
    assert "1 recording of preparation.log.csv failed" in page


def test_what_can_be_refused_is_before_anything_is_prepared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("biopercept.evaluation.external.prepare_study")
    output = tmp_path / "out"
    begin = ("evaluate", folder / "model")
    assert refusal(*begin, folder / "first", "-o", output).startswith(
        "the model in folder model was fitted to 3 of the 3 subjects to be scored: A1, A2, A3 (the same study "
        "and subject); "
    )
    assert refusal(*begin, folder / "first.h5", "-o", output, "--by", "site") == (
        "--by site needs to know who is who, which no store holds; add --participants participants.tsv"
    )
    assert refusal(*begin, folder / "first.h5", "-o", output, "-j", 2) == (
        "--jobs is for preparing a study folder, and a store is prepared; leave it out"
    )
    assert "which participants.tsv lacks" in refusal(*begin, folder / "other", "-o", output, "--by", "age")
    assert "the model has no task 'x'; it predicts: t" in refusal(*begin, folder / "other", "-o", output, "--task", "x")
    assert not output.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    assert "is not empty" in refusal(*begin, folder / "other", "-o", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_groups_of_a_cross_validation(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "people.tsv").write_text("participant_id\tsex\nA1\tf\nA2\tm\nA3\tf\n")
    groups = ("--by", "sex", "--participants", tmp_path / "people.tsv")
    run("cross-validate", folder / "first.h5", "-o", tmp_path / "cv", "--model", "dummy", *groups, "-q")
    document = json.loads((tmp_path / "cv" / "groups.json").read_text())
    assert {(row["group"], row["n_subjects"]) for row in document["scores"]} == {("f", 2), ("m", 1)}
    assert document["warnings"] == ["groups by sex of fewer than 5 people are too small to be compared: f (2), m (1)"]
