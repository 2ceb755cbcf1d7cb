"""``init``: tables of a study from names of files, which ``check`` takes; nothing that exists is written over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import OutputError, RecordingError, StudyError
from biopercept.resources import sample_study
from biopercept.studies.beginning import guessed_pattern
from biopercept.studies.loading import load_study


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def write(folder: Path, names: Sequence[str], head: str = "time,EDA (uS)") -> Path:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).random(600)
        path.write_text("\n".join([head, *(f"{i / 4},{value:.4f}" for i, value in enumerate(values))]) + "\n")
    return folder


NAMES = [f"S{number:02d}_{label}.csv" for number in (1, 2, 3) for label in ("rest", "stress")]


@pytest.mark.parametrize("pattern", [("--pattern", "S{participant}_{condition}.csv"), ()], ids=["given", "guessed"])
def test_a_folder_of_files_becomes_a_study_that_check_takes(pattern: tuple[str, ...], tmp_path: Path) -> None:
    data = write(tmp_path / "study" / "data", NAMES)
    result = run("init", tmp_path / "study", data, *pattern)
    assert result.exit_code == 0, result.output
    assert ("guessed: check it" in result.stdout) == (not pattern)
    assert "3 participants, 6 recordings, 6 files\nconditions: rest 3, stress 3\n" in result.stdout
    study = load_study(tmp_path / "study")
    people = ("01", "02", "03") if pattern else ("S01", "S02", "S03")
    assert study.subjects == people
    assert [(entry.recording, entry.condition) for entry in study.entries[:2]] == [("rest", "rest"), ("stress",) * 2]
    assert (tmp_path / "study" / "recordings.tsv").read_text().splitlines()[1].split("\t")[2] == "data/S01_rest.csv"
    checked = run("check", tmp_path / "study")
    assert checked.exit_code == 0, checked.output
    assert "task condition: rest in 3, stress in 3 subjects" in checked.stdout


def test_nothing_is_written_over(tmp_path: Path) -> None:
    data = write(tmp_path / "data", NAMES)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "events.xlsx").write_bytes(b"mine")
    result = run("init", tmp_path / "study", data)
    assert isinstance(result.exception, OutputError)
    assert result.exception.exit_code == 2
    assert str(result.exception) == f"{tmp_path / 'study'} has a study already (events.xlsx); nothing is written"
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["events.xlsx"]


def test_files_of_several_devices_are_one_recording_and_strangers_are_named(tmp_path: Path) -> None:
    names = [f"p{n}/ses{s}_{device}.csv" for n in (1, 2) for s in (1, 2) for device in ("chest", "wrist")]
    data = write(tmp_path / "data", [*names, "p1/old.csv"])
    pattern = "{participant}/ses{session}_{device}.csv"
    result = run("init", tmp_path / "study", data, "--pattern", pattern, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["n_participants"], told["n_recordings"], told["conditions"], told["faults"]) == (2, 4, {}, [])
    assert told["notes"] == ["old.csv is not called as the pattern says, and is left out"]
    entries = load_study(tmp_path / "study").entries
    assert [(e.subject, e.session, e.recording, len(e.files)) for e in entries][:2] == [
        ("p1", "1", "recording", 2),
        ("p1", "2", "recording", 2),
    ]
    assert [file.path.name for file in entries[0].files] == ["ses1_chest.csv", "ses1_wrist.csv"]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["S01_rest", "S01_stress", "S02_rest"], "{participant}_{condition}"),
        (
            ["study_S01_rest_E4", "study_S02_rest_polar", "study_S02_work_E4"],
            "study_{participant}_{condition}_{device}",
        ),
        (["rest_S01", "stress_S01", "rest_S02"], "{condition}_{participant}"),
        (["pilot 1", "pilot 2"], "pilot {participant}"),
        (["anna", "bert"], "{participant}"),
        (["sub-01_task-rest_eeg", "sub-02_task-nback_eeg"], "sub-{participant}_task-{condition}_*"),
        (["a/ECG", "a/EDA", "b/ECG", "b/EDA"], "{participant}/{device}"),
        (["S1_a_1", "S1_b_2", "S2_a_1"], "{participant}_{condition}_{recording}"),
    ],
)
def test_patterns_are_guessed(names: list[str], pattern: str) -> None:
    assert guessed_pattern([Path("/data") / f"{name}.csv" for name in names]) == pattern


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("{subject}_{condition}", "names {subject}; allowed are {participant}, {session}, {recording}, {condition}"),
        ("S01_{condition}", "has no {participant}: whose a file is must be in its name"),
        ("{participant}.edf", "no file is called as the pattern '{participant}.edf' says; the first is S01_rest.csv"),
        ("{participant}{recording}_{condition}.csv", "would be one recording of two conditions"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(pattern: str, sentence: str, tmp_path: Path) -> None:
    data = write(tmp_path / "data", NAMES)
    result = run("init", tmp_path / "study", data, "--pattern", pattern)
    assert isinstance(result.exception, StudyError)
    assert sentence in str(result.exception)
    assert not (tmp_path / "study").exists()


def test_channels_whose_unit_is_not_known_stand_in_study_yaml_as_comments(tmp_path: Path) -> None:
    data = write(tmp_path / "data", ["S1.csv", "S2.csv"], head="time,GSR")
    result = run("init", tmp_path / "study", data)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "study" / "study.yaml").read_text()
    assert "#   GSR: {modality: , unit: }  # its unit is not given" in text
    uncommented = text.replace("# signals:", "signals:").replace("#   GSR: {modality: , unit: }", "  GSR: {unit: uS}")
    assert yaml.safe_load(uncommented)["signals"] == {"GSR": {"unit": "uS"}}


def test_files_of_one_recording_with_the_same_signal_and_files_that_are_empty_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with sample_study() as study:
        for name in ("S01_rest", "S01_task", "S02_rest", "S02_task"):
            shutil.copy(study / "recordings" / "S01_chest.edf", data / f"{name}.edf")
    (data / "S04_rest.edf").write_text("")
    said = run("init", tmp_path / "study", data, "--pattern", "{participant}_*.edf").stderr
    assert "S01_rest.edf and S01_task.edf are files of one recording by the pattern, and both hold " in said
    assert "write {condition} or {recording} into the pattern" in said
    assert "S04_rest.edf: it is no recording that can be read (empty?)" in said
    for number, part in enumerate(("condition", "device")):
        clean = run("init", tmp_path / f"other{number}", data, "--pattern", f"{{participant}}_{{{part}}}.edf")
        assert "files of one recording" not in clean.stderr


def test_labels_that_no_task_names_are_said_by_check_and_prepare(tmp_path: Path) -> None:
    run("init", tmp_path / "study", write(tmp_path / "data", NAMES))
    about = yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())
    del about["tasks"]
    (tmp_path / "study" / "study.yaml").write_text(yaml.safe_dump(about))
    sentence = "has labels (rest, stress) and its study.yaml names no task: nothing can be scored or learnt"
    assert sentence in run("check", tmp_path / "study").stdout
    assert sentence in run("prepare", tmp_path / "study", "-o", tmp_path / "s.h5").stderr


def test_files_that_cannot_be_read_are_named_get_no_row_and_the_exit_code_says_so(tmp_path: Path) -> None:
    data = write(tmp_path / "data", NAMES)
    (data / "S04_rest.csv").write_bytes(b"\x00\x01garbage" * 99)
    (data / "S04_stress.csv").write_text("")
    (data / "S01_stress.csv").write_text("time,EDA (uS)\n")
    result = run("init", tmp_path / "study", data)
    assert result.exit_code == 1
    for sentence in (
        "S04_rest.csv: holds zero bytes, so it is not a text table",
        "S04_stress.csv: the file is empty (0 bytes)",
        "S01_stress.csv: column 'time' holds no readable time",
        "exit code 1: 3 files could not be read (named above) and stand in no table; mend what you need and add "
        "its row to recordings.tsv, or begin again in another folder",
    ):
        assert result.stderr.splitlines().count(sentence) == 1, result.stderr
    assert "3 participants, 5 recordings, 5 files\n" in result.stdout
    entries = load_study(tmp_path / "study").entries
    assert [(e.subject, e.recording) for e in entries] == [
        ("S01", "rest"), ("S02", "rest"), ("S02", "stress"), ("S03", "rest"), ("S03", "stress"),
    ]  # fmt: skip
    document = run("init", tmp_path / "again", data, "--json")
    assert document.exit_code == 1
    assert [Path(one["path"]).name for one in json.loads(document.stdout)["failed"]] == [
        "S01_stress.csv", "S04_rest.csv", "S04_stress.csv",
    ]  # fmt: skip


def test_a_study_of_nothing_that_can_be_read_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in NAMES[:2]:
        (tmp_path / "data" / name).write_text("")
    result = run("init", tmp_path / "study", tmp_path / "data")
    assert isinstance(result.exception, RecordingError)
    assert str(result.exception) == (
        "nothing is written: no file can be read (2 in all), first S01_rest.csv: the file is empty (0 bytes)"
    )
    assert not (tmp_path / "study").exists()
