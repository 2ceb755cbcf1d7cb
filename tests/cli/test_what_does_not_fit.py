"""Recordings without a model's sensors, studies without labels, more folds than people, outputs that are links."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def table(path: Path, name: str) -> Path:
    path.write_text(f"time,{name}\n" + "".join(f"{k / 4},{2 + k % 9 / 50}\n" for k in range(4 * 130)))
    return path


def test_a_recording_that_shares_no_sensor_with_the_model_is_a_row_with_both_lists(tmp_path: Path) -> None:
    files = table(tmp_path / "breath.csv", "RSP (a.u.)"), table(tmp_path / "skin.csv", "EDA (uS)")
    result = run("predict", "stress-wrist", *files, "-o", tmp_path / "out", "--device", "cpu")
    said = " ".join(result.stderr.split())
    assert result.exit_code == 1
    reason = "breath has resp and the model was trained with acc, bvp, eda, hr, ibi, temp; they share none"
    assert reason in said
    assert "not usable there, and the model was trained with it: acc, bvp, hr, ibi, temp" in said  # of the other
    with (tmp_path / "out" / "failures.csv").open() as stream:
        assert [row["message"] for row in csv.DictReader(stream)] == [reason]
    assert len([*(tmp_path / "out").glob("*_predictions.tsv")]) == 1


def test_a_study_without_labels_is_predicted(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    table(study / "a.csv", "EDA (uS)")
    (study / "study.yaml").write_text("name: x\n")
    (study / "participants.tsv").write_text("participant_id\nS1\n")
    (study / "recordings.tsv").write_text("participant_id\trecording\tpath\nS1\tlab\ta.csv\n")
    result = run("predict", "stress-wrist", study, "-o", tmp_path / "out", "--device", "cpu", "-q")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").glob("*.tsv")] == ["S1__lab_predictions.tsv"]


@pytest.mark.parametrize(
    ("n_folds", "sentence"),
    [("5", "5 folds for 4 subjects; allowed are 2 to 4"), ("1", "'1': at least 2"), ("0", "'0': at least 2")],
)
def test_folds_that_nobody_can_be_dealt_to_are_refused(
    n_folds: str, sentence: str, made: ModuleType, tmp_path: Path
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(4))
    words = ["cross-validate", store, "-o", tmp_path / "out", "--model", "lda", "--split", "k-fold"]
    result = run(*words, "--folds", n_folds)
    assert getattr(result.exception, "exit_code", result.exit_code) == 2
    assert sentence in str(result.exception) + " ".join(result.stderr.split())
    assert not [*tmp_path.glob("out/*")]


def test_links_with_names_of_outputs_are_replaced_and_never_written_through(tmp_path: Path) -> None:
    path, outside, output = table(tmp_path / "skin.csv", "EDA (uS)"), tmp_path / "outside.txt", tmp_path / "out"
    outside.write_text("mine")
    words = ["predict", "stress-wrist", path, "-o", output, "--device", "cpu", "-q"]
    assert run(*words).exit_code == 0
    names = sorted(one.name for one in output.iterdir())
    for name in names:
        (output / name).unlink()
        (output / name).symlink_to(outside)
    assert run(*words, "--overwrite").exit_code == 0
    assert outside.read_text() == "mine"
    assert [(name, (output / name).is_symlink()) for name in names] == [(name, False) for name in names]
