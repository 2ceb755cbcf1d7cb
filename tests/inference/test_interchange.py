"""Predictions for other tools: read back by those they are what the table holds, and BIDS is as its schema says."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest
from bids_rules import faults
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.derivatives import entity
from biopercept.errors import SettingsError
from biopercept.inference.familiarity import Familiarity
from biopercept.inference.interchange import FORMATS, Interchange, plain_windows
from biopercept.inference.prediction import Predictions, TaskPredictions
from biopercept.inference.prediction_files import prediction_sidecar
from biopercept.loaders.readers.edf import read_annotation_file
from biopercept.tasks import Task
from biopercept.version import __version__

CLASSES = {"=rest": ("baseline",), "stress": ("stroop",)}


def predictions(**changes: object) -> Predictions:
    """Return three windows: a class whose name a spreadsheet would run, another class, and one that is withheld."""
    familiarity = Familiarity(np.empty(0), np.empty(0, dtype=bool), "", ())
    of_task = TaskPredictions(
        Task("load", classes=CLASSES),
        np.array([[0.75, 0.25], [0.125, 0.875], [np.nan, np.nan]]),
        ("", "", "too noisy"),
        ("=rest", "", ""),
    )
    made = Predictions(
        subject="S 01", session="2", recording="lab", key="S 01_2_lab", onset=np.array([0.0, 10.0, 20.0]),
        length_seconds=20.0, quality=np.array([1.0, 0.5, np.nan]), used=("ecg",), ignored=(), notes=(),
        tasks={"load": of_task}, familiarity=familiarity,
    )  # fmt: skip
    return replace(made, **changes)


def written(folder: Path, *formats: str, of: tuple[Predictions, ...] = (predictions(),)) -> Path:
    others = Interchange(formats, folder, "load", "model")
    for one in of:
        others.take(one, prediction_sidecar(one, one.tasks["load"], "").columns)
    others.close()
    return folder


def test_bids_derivatives_have_the_names_of_the_schema_and_the_numbers_of_the_table(tmp_path: Path) -> None:
    top = written(tmp_path, "bids") / "bids"
    description = json.loads((top / "dataset_description.json").read_text())
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "biopercept")
    assert description["GeneratedBy"][0]["Version"] == __version__
    table = top / "sub-S01" / "ses-2" / "beh" / "sub-S01_ses-2_task-lab_desc-load_events.tsv"
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert list(rows[0])[:3] == ["onset", "duration", "trial_type"]
    assert [row["trial_type"] for row in rows] == ["'=rest", "stress", "n/a"]  # no spreadsheet runs it
    assert [row["probability_stress"] for row in rows] == ["0.25", "0.875", "n/a"]
    assert [row["reason"] for row in rows] == ["n/a", "n/a", "too noisy"]
    sidecar = json.loads(table.with_suffix(".json").read_text())
    assert set(sidecar["trial_type"]["Levels"]) == {"'=rest", "stress"}
    assert "quality" in sidecar["quality"]["Description"]


def test_names_of_bids_derivatives_match_the_schema_package(tmp_path: Path) -> None:
    pytest.importorskip("bidsschematools", reason="needs bidsschematools (pip install 'biopercept[dev]')")
    from bidsschematools.rules import regexify_filename_rules
    from bidsschematools.schema import load_schema

    schema = load_schema()
    groups = (schema.rules.files.deriv.preprocessed_data, schema.rules.files.deriv.tables)
    allowed = [rule["regex"] for group in groups for rule in regexify_filename_rules(group, schema, level=1)]
    top = written(tmp_path, "bids", of=(predictions(), predictions(session="", key="b"))) / "bids"
    names = [path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()]
    assert {name for name in names if not any(re.fullmatch(rule, name) for rule in allowed)} == {
        "README", "dataset_description.json",
    }  # fmt: skip
    assert len(names) == 7


def test_bids_derivatives_are_as_the_schema_package_wants_them(tmp_path: Path) -> None:
    top = written(tmp_path, "bids", of=(predictions(), predictions(session="", key="b"))) / "bids"
    assert faults(top) == []
    [table] = (top / "sub-S01" / "beh").glob("*_events.tsv")
    sidecar = json.loads(table.with_suffix(".json").read_text())
    words = "Predictions of task load by the model in folder model, a row for each window"
    assert (sidecar["TaskName"], sidecar["Description"]) == ("lab", words)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0].replace("onset\tduration", "duration\tonset"), *lines[1:]]))
    table.with_suffix(".json").write_text("{}")
    table.rename(table.with_name("S01_events.tsv"))
    (top / "sub-S01" / "beh" / "S01_events.json").write_text("{}")
    wrong = " / ".join(faults(top))
    for words in ("S01_events.tsv has a name that no rule allows", "begins with ['duration', 'onset'", "not described"):
        assert words in wrong


def test_the_description_of_a_bids_derivative_is_as_the_schema_package_wants_it(tmp_path: Path) -> None:
    pytest.importorskip("bidsschematools", reason="needs bidsschematools (pip install 'biopercept[dev]')")
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (pip install 'biopercept[dev]')")
    from bidsschematools.schema import load_schema

    schema = load_schema()
    description = json.loads((written(tmp_path, "bids") / "bids" / "dataset_description.json").read_text())
    rules = [schema.rules.json.dataset[name] for name in ("dataset_description", "derivative_description")]
    levels = {
        field: how if isinstance(how, str) else how["level"] for rule in rules for field, how in rule.fields.items()
    }
    assert {"Name", "BIDSVersion", "GeneratedBy"} <= {field for field, level in levels.items() if level == "required"}
    assert {field for field, level in levels.items() if level == "required"} <= set(description) <= set(levels)
    for field, value in description.items():
        jsonschema.validate(value, schema.objects.metadata[field].to_dict())
    assert description["DatasetType"] == "derivative"
    assert description["BIDSVersion"].rpartition(".")[0] == schema.bids_version.rpartition(".")[0]


def test_recordings_that_bids_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    assert [entity(text) for text in ("S-01", "S01", "é")] == ["S01", "S01", "x"]
    with pytest.raises(
        SettingsError, match="the recordings S 01 2 lab and S-01 2 lab have one name in BIDS, sub-S01_ses-2_task-"
    ):
        written(tmp_path, "bids", of=(predictions(), predictions(subject="S-01", key="b")))


def test_annotations_are_read_back_by_edfio_mne_and_the_readers_of_this_package(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio", reason="needs edfio (pip install 'biopercept[edf]')")
    written(tmp_path, "edf", "mne")
    expected = [(0.0, 20.0, "load: =rest"), (10.0, 20.0, "load: stress")]  # the withheld one is none
    path = tmp_path / "S 01_2_lab_annotations.edf"
    assert [tuple(one) for one in edfio.read_edf(path).annotations] == expected
    for marks in (mne.read_annotations(path), mne.read_annotations(tmp_path / "S 01_2_lab-annot.fif")):
        read = zip(marks.onset, marks.duration, marks.description, strict=True)
        assert [(float(onset), float(length), str(text)) for onset, length, text in read] == expected
    ours = read_annotation_file(path)
    assert (
        ours is not None
        and [(one.onset_seconds, one.duration_seconds, one.label) for one in ours.intervals] == expected
    )


def test_a_recording_of_which_all_is_withheld_has_empty_annotations(tmp_path: Path) -> None:
    pytest.importorskip("edfio", reason="needs edfio (pip install 'biopercept[edf]')")
    of_task = replace(predictions().only, reason=("noisy",) * 3)
    written(tmp_path, "edf", "mne", of=(predictions(tasks={"load": of_task}),))
    assert len(mne.read_annotations(tmp_path / "S 01_2_lab-annot.fif")) == 0
    assert not (tmp_path / "S 01_2_lab_annotations.edf").exists()  # the format has none


def test_the_tidy_table_has_a_row_per_window_and_class_as_csv_and_as_parquet(tmp_path: Path) -> None:
    import pandas as pd

    pytest.importorskip("pyarrow", reason="needs pyarrow (pip install 'biopercept[parquet]')")
    written(tmp_path, "csv", "parquet", of=(predictions(), predictions(recording="home", key="b")))
    whole = pd.read_parquet(tmp_path / "tidy.parquet")
    assert list(whole["class"][:4]) == ["=rest", "stress", "=rest", "stress"]  # as it is: nothing runs it
    assert whole["probability"][:4].tolist() == [0.75, 0.25, 0.125, 0.875]
    assert len(whole) == 12 and set(whole["recording"]) == {"lab", "home"}
    text = pd.read_csv(tmp_path / "tidy.csv", keep_default_na=False)
    assert list(text["class"][:2]) == ["'=rest", "stress"]
    assert text["onset"].tolist() == whole["onset"].tolist()


def test_numbers_are_one_row_and_their_annotations_are_the_numbers(tmp_path: Path) -> None:
    task = Task("load", kind="regression", column="load")
    of_task = TaskPredictions(task, np.array([[3.5], [4.25], [np.nan]]), ("", "", "noisy"), np.array([3.0, np.nan, 1]))
    made = predictions(tasks={"load": of_task})
    written(tmp_path, "csv", "mne", "bids", of=(made,))
    assert list(mne.read_annotations(tmp_path / "S 01_2_lab-annot.fif").description) == ["load: 3.5", "load: 4.25"]
    with (tmp_path / "tidy.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["predicted"], row["label"]) for row in rows] == [("3.5", "3.0"), ("4.25", ""), ("", "1.0")]
    assert plain_windows(made, "load")["windows"]["predicted"] == [3.5, 4.25, None]


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    seconds = np.arange(0, 300, 0.25)
    values = 3 + np.random.default_rng(1).random(len(seconds))
    path = tmp_path / "S01.csv"
    path.write_text("time,EDA (uS)\n" + "".join(f"{s},{v:.3f}\n" for s, v in zip(seconds, values, strict=True)))
    return path


def test_predict_writes_them_beside_its_tables_and_holds_the_predictions_in_json(recording: Path) -> None:
    output = recording.parent / "out"
    result = run("predict", "stress-wrist", recording, "-o", output, "--also", ",".join(FORMATS), "--json", "-q")
    assert result.exit_code == 0, result.output
    with (output / "S01__S01_predictions.tsv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream, delimiter="\t"))
    [document] = json.loads(result.stdout)["predictions"]
    assert (document["participant_id"], document["task"]) == ("S01", "stress")
    windows = document["windows"]
    assert windows["onset"] == [float(row["onset"]) for row in table]
    assert windows["predicted"] == [row["predicted"] for row in table]
    assert windows["probability_stress"] == pytest.approx([float(row["probability_stress"]) for row in table], abs=1e-5)
    assert {path.name for path in output.iterdir()} >= {"bids", "tidy.csv", "tidy.parquet", "S01__S01-annot.fif"}
    assert run("predict", "stress-wrist", recording, "-o", output, "--overwrite").exit_code == 0
    left = {path.name for path in output.iterdir()}
    tables = {"S01__S01_predictions.tsv", "S01__S01_predictions.json", "summary.csv", "failures.csv"}
    assert left == {*tables, "command.json", "SHA256SUMS"}


def test_a_format_that_is_not_known_is_refused_before_anything_is_written(recording: Path) -> None:
    result = run("predict", "stress-wrist", recording, "-o", recording.parent / "out", "--also", "bids,edff")
    assert str(result.exception) == "--also names 'edff'; allowed are bids, edf, mne, csv, parquet; did you mean edf?"
    assert not (recording.parent / "out").exists()
