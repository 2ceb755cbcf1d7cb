"""`predict` settles what it will read before it writes: names that collide, subjects that are not there."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app
from biopercept.errors import OutputError, SettingsError
from biopercept.prepare.sources import sources_of
from biopercept.resources import sample_study


def test_two_recordings_with_one_output_file_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"a/rec\.csv and b/REC\.edf would both be written under the name REC__REC"):
        sources_of([Path("a/rec.csv"), Path("b/REC.edf")], None, ())


def test_a_subject_that_is_not_there_is_named_with_those_that_are() -> None:
    with sample_study() as study:
        with pytest.raises(SettingsError, match=r"no recording of subject S99; there are: S01, S02"):
            sources_of([study], ("S01", "S99"), ())
        with pytest.raises(SettingsError, match="no recording is left"):
            sources_of([study], ("S01",), ("S01",))
        assert [source.title for source in sources_of([study], ("S02", "S01"), ("S01",))] == ["S02 protocol"]


def test_subjects_choose_among_plain_recordings_too() -> None:
    assert [source.title for source in sources_of([Path("S1.csv"), Path("S2.csv")], ("S2",), ())] == ["S2.csv"]


def test_a_file_is_no_output_folder_even_to_overwrite(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("keep me")
    words = ["train", str(tmp_path / "store.h5"), "-o", str(tmp_path / "thesis"), "--overwrite"]
    fault = CliRunner().invoke(build_app(), words).exception
    assert isinstance(fault, OutputError)
    assert (fault.exit_code, str(fault)) == (2, f"{tmp_path / 'thesis'} is a file; choose a folder for the results")
    assert (tmp_path / "thesis").read_text() == "keep me"


@pytest.mark.parametrize("content", ["{}", "[]", '{"balanced_accuracy": {}}', "no"])
def test_scores_that_no_cross_validation_wrote_are_refused_before_training(tmp_path: Path, content: str) -> None:
    (tmp_path / "scores.json").write_text(content)
    words = ["train", str(tmp_path / "no.h5"), "-o", str(tmp_path / "model"), "--scores", str(tmp_path)]
    fault = CliRunner().invoke(build_app(), words).exception
    assert str(fault) == f"{tmp_path} has no readable scores.json; give what cross-validate wrote"


def test_prepare_into_the_folder_one_stands_in_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sample_study() as study:
        fault = CliRunner().invoke(build_app(), ["prepare", str(study), "-o", "."]).exception
    assert str(fault) == f". is a folder; name the store's file, for example {tmp_path.name}.h5"


def test_a_stretch_in_which_nothing_is_usable_has_no_prediction(tmp_path: Path) -> None:
    chest, out = tmp_path / "chest.edf", tmp_path / "out"
    with sample_study() as study:
        shutil.copy(study / "recordings" / "S01_chest.edf", chest)
    for words in (["correct", chest, "--bad", "120:180"], ["predict", "workload-eeg", chest, "-o", out]):
        run = CliRunner().invoke(build_app(), [*map(str, words)])
        assert run.exit_code == 0
    assert "given by itself, and the model scales a recording by the past of its session" in run.stderr
    [table] = out.glob("*_predictions.tsv")
    with table.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if 120 <= float(row["onset"]) <= 170]
    assert len(rows) == 11
    assert {(row["predicted"], row["reason"]) for row in rows} == {
        ("", "no usable signal of a sensor that the model knows")
    }
