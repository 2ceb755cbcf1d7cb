"""`datasets`, `import` and `check` answer on stdout, explain on stderr, and leave with the agreed exit codes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import typer
from made_datasets import MADE
from typer.testing import CliRunner, Result

from biopercept.cli.check import check
from biopercept.cli.datasets import datasets
from biopercept.cli.import_study import import_study
from biopercept.cli.panels import with_options
from biopercept.errors import OutputError, RecordingError, StudyError
from biopercept.resources import sample_study
from biopercept.studies.loading import load_study


def run(*words: str) -> Result:
    app = typer.Typer()
    app.command("datasets")(with_options(datasets))
    app.command("import")(with_options(import_study))
    app.command("check")(with_options(check))
    return CliRunner().invoke(app, words)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "eegmat"
    folder.mkdir()
    for name in ("Subject00_1.edf", "Subject00_2.edf", "Subject01_2.edf"):
        (folder / name).write_text(name)
    return folder


def test_datasets_lists_every_data_set_and_shows_one_in_full() -> None:
    assert all(name in run("datasets").stdout for name in ("stress-predict", "eegmat", "noneeg", "flight"))
    one = run("datasets", "noneeg").stdout
    assert "ODC-BY 1.0" in one
    assert "SubjectN_AccTempEDA" in one
    assert json.loads(run("datasets", "--json").stdout)[1]["name"] == "eegmat"


def test_datasets_says_what_was_tried_on_real_data_and_what_is_not_offered() -> None:
    rows = {row["name"]: row for row in json.loads(run("datasets", "--json").stdout)}
    assert {name for name, row in rows.items() if row["checked_on"] == "the data themselves"} >= {"noneeg", "eegmat"}
    assert rows["wesad"]["checked_on"] == "a made folder in the documented layout"
    assert all(row["alarms"] and row["files"] and row["dropped"] and row["licence"] for row in rows.values())
    listed = " ".join(run("datasets").stdout.split())
    assert "not offered: drivedb" in listed
    assert "people cannot be kept apart" in listed
    one = run("datasets", "wesad").stdout
    for part in ("files:", "WESAD.zip", "left out by the import:", "a leak is likely at:", "three classes above 0.90"):
        assert part in one


def test_import_writes_tables_and_says_what_was_left_out(source: Path, tmp_path: Path) -> None:
    result = run("import", "eegmat", str(source), "-o", str(tmp_path / "study"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 subject, 2 recordings -> ")
    assert "left out: Subject01: Subject01_1.edf is not there" in result.stderr
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == [
        "import_report.txt",
        "participants.tsv",
        "recordings.tsv",
        "study.yaml",
    ]


def test_import_as_json_prints_one_document(source: Path, tmp_path: Path) -> None:
    result = run("import", "eegmat", str(source), "-o", str(tmp_path / "study"), "--json")
    assert json.loads(result.stdout)["n_recordings"] == 2


def test_import_refuses_an_output_that_is_not_empty(source: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.txt").write_text("precious")
    result = run("import", "eegmat", str(source), "-o", str(tmp_path / "study"))
    assert isinstance(result.exception, OutputError)
    assert result.exception.exit_code == 2
    assert run("import", "eegmat", str(source), "-o", str(tmp_path / "study"), "--overwrite").exit_code == 0
    assert (tmp_path / "study" / "mine.txt").read_text() == "precious"


def test_import_of_an_unknown_data_set_names_the_known_ones(tmp_path: Path) -> None:
    result = run("import", "drivedb", str(tmp_path), "-o", str(tmp_path / "study"))
    assert isinstance(result.exception, StudyError)
    assert "known are stress-predict, eegmat, noneeg, flight" in str(result.exception)


def test_check_of_the_sample_study_finds_no_fault_and_counts_people_per_class() -> None:
    with sample_study() as folder:
        result = run("check", str(folder))
    assert result.exit_code == 0, result.output
    assert "sample: 10 subjects, 10 recordings, 20 files" in result.stdout
    assert "task stress: rest in 10, stress in 10 subjects" in result.stdout


def test_check_lists_all_faults_of_study_and_settings_at_once_and_leaves_with_2(tmp_path: Path) -> None:
    (tmp_path / "recordings.tsv").write_text("participant_id\trecording\tpath\nS01\ta\tgone.edf\n")
    result = run("check", str(tmp_path), "--set", "windows.length_secnds=3", "--json")
    assert result.exit_code == 2
    faults = json.loads(result.stdout)["faults"]
    assert faults[:3] == [
        "study.yaml is missing; it gives the study's name and tasks",
        "participants.tsv is missing; it lists every participant_id",
        "recordings.tsv line 2: the file 'gone.edf' is not there",
    ]
    assert faults[3].startswith("settings: ")
    assert "length_seconds" in faults[3]


def test_check_names_two_classes_for_the_same_time_and_leaves_with_2(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    (tmp_path / "participants.tsv").write_text("participant_id\nS01\n")
    (tmp_path / "recordings.tsv").write_text("participant_id\trecording\tpath\nS01\tr\tx.csv\n")
    header = "participant_id\trecording\tonset\tduration\ttrial_type\n"
    (tmp_path / "events.tsv").write_text(header + "S01\tr\t0\t9\ta\nS01\tr\t5\t9\tb\n")
    rows = (f"{i / 4},{1 + i % 7 / 10}" for i in range(60))
    (tmp_path / "x.csv").write_text("\n".join(["time,EDA (uS)", *rows]) + "\n")
    result = run("check", str(tmp_path))
    assert result.exit_code == 2
    assert (
        "fault: events.tsv line 3, S01 r: 'b' (b) from 5 to 14 s and 'a' (a) from 0 to 9 s of events.tsv line 2 are "
        "two classes of task 't' for the same time; correct one, or list one of the labels under ignore\n"
    ) in result.stdout
    assert result.stdout.strip().endswith(f"1 fault in {tmp_path}")


def test_check_of_recordings_names_what_only_their_files_tell(tmp_path: Path) -> None:
    """Labels in milliseconds, a file of local time beside one with a zone, a file that is no recording; once each."""
    (tmp_path / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    names = [f"S{number}" for number in range(1, 7)]
    (tmp_path / "participants.tsv").write_text("participant_id\n" + "".join(f"{name}\n" for name in names))
    files = [(name, f"{name}.csv") for name in names] + [("S5", "zoned.csv")]
    rows = "".join(f"{name}\tr\t{file}\n" for name, file in files)
    (tmp_path / "recordings.tsv").write_text("participant_id\trecording\tpath\n" + rows)
    scales = {"S1": 1000, "S2": 1000, "S3": 1000}
    rows = "".join(
        f"{name}\tr\t{onset * scales.get(name, 1)}\t{40 * scales.get(name, 1)}\t{label}\n"
        for name in names
        for onset, label in ((0, "a"), (40, "b"), (80, "a"))
    )
    (tmp_path / "events.tsv").write_text("participant_id\trecording\tonset\tduration\ttrial_type\n" + rows)
    for number, name in enumerate(names, 1):
        (tmp_path / f"{name}.csv").write_text("time,EDA (uS)\n" + "".join(f"{i},{i % number}\n" for i in range(120)))
    for name, zone in (("S5", ""), ("zoned", "Z")):
        stamps = "".join(f"2024-03-01T12:00:{i:02d}{zone},{i}\n" for i in range(60))
        (tmp_path / f"{name}.csv").write_text(f"timestamp,EDA (uS)\n{stamps}")
    (tmp_path / "S6.csv").write_text("EDA\n1\n2\n")
    result = run("check", str(tmp_path), "--recordings", "--json")
    assert result.exit_code == 2
    labels, clocks, table = json.loads(result.stdout)["faults"]
    assert labels.startswith(
        "recordings.tsv line 2, S1 r: 'a' (events.tsv line 4) is stated to span 80000 to 120000 s and the signals end "
        "at 120 s"
    )
    assert labels.endswith("like milliseconds (so too in 2 more: lines 3, 4)")
    assert clocks.startswith(
        "recordings.tsv line 6, S5 r: of S5.csv, zoned.csv, some give their start with a time zone and some without"
    )
    assert table.startswith("recordings.tsv line 7, S6 r: S6.csv: no time column")


def test_check_tells_of_a_class_that_nobody_has(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    (tmp_path / "participants.tsv").write_text("participant_id\nS01\n")
    (tmp_path / "recordings.tsv").write_text("participant_id\trecording\tpath\tcondition\nS01\tr\tx.csv\ta\n")
    (tmp_path / "x.csv").write_text("time,EDA\n0,1\n")
    result = run("check", str(tmp_path))
    assert result.exit_code == 2
    assert "fault: task 't': the class 'b' has no labelled interval in any recording" in result.stdout


def test_a_made_folder_of_a_public_data_set_is_imported_and_checked_with_its_recordings(tmp_path: Path) -> None:
    MADE["wesad"](tmp_path / "source")
    study = str(tmp_path / "study")
    result = run("import", "wesad", str(tmp_path / "source"), "-o", study)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 subjects, 2 recordings -> ")
    assert "cite: P. Schmidt" in result.stderr
    checked = run("check", study, "--recordings")
    assert checked.exit_code == 0, checked.output
    assert "condition" in checked.stdout


def zipped(folder: Path, archive: Path, top: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            target.write(file, f"{top}{file.relative_to(folder)}")
    return archive


def test_a_zip_of_a_data_set_is_unpacked_into_the_study(source: Path, tmp_path: Path) -> None:
    archive = zipped(source, tmp_path / "eegmat-main.zip", top="eegmat-main/")
    study = tmp_path / "study"
    result = run("import", "eegmat", str(archive), "-o", str(study))
    assert result.exit_code == 0, result.output
    paths = [entry.files[0].path for entry in load_study(study).entries]
    home = study.resolve() / "source" / "eegmat-main"
    assert paths == [home / "Subject00_1.edf", home / "Subject00_2.edf"]
    again = run("import", "eegmat", str(archive), "-o", str(study), "--overwrite")
    assert str(again.exception) == f"{study / 'source'} is there already; remove it, or choose another output"
    assert paths[0].is_file()


@pytest.mark.parametrize(
    ("name", "link", "message"),
    [
        ("../Subject00_1.edf", False, "leads out of the archive, which no device writes"),
        ("/tmp/Subject00_1.edf", False, "has an absolute name, which no device writes"),
        ("Subject00_1.edf", True, "is a link or a device and no file"),
    ],
)
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str, link: bool, message: str) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr = (0o120777 if link else 0o100644) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as target:
        target.writestr(info, "/etc/passwd")
    result = run("import", "eegmat", str(tmp_path / "set.zip"), "-o", str(tmp_path / "out" / "study"))
    assert isinstance(result.exception, RecordingError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir()) in (["set.zip"], ["out", "set.zip"])


def test_a_zip_that_is_damaged_too_large_or_of_something_else_leaves_nothing(source: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    archive = zipped(source, tmp_path / "set.zip")
    archive.write_bytes(archive.read_bytes()[:-30])
    cut = run("import", "eegmat", str(archive), "-o", str(study))
    assert str(cut.exception) == "set.zip: the zip file is damaged (File is not a zip file); download it again"
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("Subject00_1.edf", bytes(80 << 20))
    bomb = run("import", "eegmat", str(tmp_path / "bomb.zip"), "-o", str(study))
    assert str(bomb.exception) == ("bomb.zip: 83886080 bytes unpacked, more than 200 times the zip; no data set is so")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("a")
    other = run("import", "eegmat", str(zipped(tmp_path / "other", tmp_path / "other.zip")), "-o", str(study))
    assert "see 'biopercept datasets eegmat'" in str(other.exception)
    assert not study.exists()


def test_a_folder_of_something_else_is_answered_with_the_layout(tmp_path: Path) -> None:
    result = run("import", "wesad", str(tmp_path), "-o", str(tmp_path / "study"))
    assert isinstance(result.exception, StudyError)
    assert str(result.exception) == f"{tmp_path} holds no SX/SX.pkl; see 'biopercept datasets wesad'"
    absent = run("import", "wesad", str(tmp_path / "absent"), "-o", str(tmp_path / "study"))
    assert str(absent.exception) == (
        f"there is no folder or .zip {tmp_path / 'absent'}; SOURCE is the folder that holds SX/SX.pkl (S2 to S17 "
        "without S12), and SX/SX_quest.csv for the ratings, or, for a person without it, "
        "SX/{SX_respiban.txt,SX_quest.csv,SX_E4_Data.zip}"
    )
