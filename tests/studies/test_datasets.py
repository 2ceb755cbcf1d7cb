"""Public data sets become studies whose labels agree with what others derived, and doubtful labels are left out."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from made_datasets import MADE

from biopercept.errors import StudyError
from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import PrepareRun, prepare_study
from biopercept.preprocessing.windows import WindowSettings
from biopercept.studies.datasets import eegmat, flight, noneeg, stress_predict
from biopercept.studies.datasets.catalogue import DATASETS, dataset_named
from biopercept.studies.datasets.writing import source_folder
from biopercept.studies.entries import load_entry
from biopercept.studies.labels import training_faults
from biopercept.studies.loading import load_study
from biopercept.studies.ratings import rating_faults

LABELS = "Improved_All_Combined_hr_rsp_binary.csv"


@pytest.fixture
def three_subjects(reference_data: Path, tmp_path: Path) -> Path:
    """Give a copy of the stress-predict layout with S02, S06 and S17, small enough to be changed."""
    source, copy = reference_data / "stress-predict", tmp_path / "source"
    (copy / "Processed_data").mkdir(parents=True)
    shutil.copy(source / "Processed_data" / "Time_logs.xlsx", copy / "Processed_data")
    for subject in ("S02", "S06", "S17"):
        (copy / "Raw_data" / subject).mkdir(parents=True)
        for name in ("EDA.csv", f"tags_{subject}.csv"):
            shutil.copy(source / "Raw_data" / subject / name, copy / "Raw_data" / subject)
    with (source / "Processed_data" / LABELS).open() as table:
        kept = [line for line in table if line.split(",")[0] in ("Participant", "2", "6", "17")]
    (copy / "Processed_data" / LABELS).write_text("".join(kept))
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy


@pytest.mark.realdata
def test_stress_predict_stages_equal_those_derived_by_others(reference_data: Path, tmp_path: Path) -> None:
    summary = stress_predict.write_study(reference_data / "stress-predict", tmp_path)
    study = load_study(tmp_path)
    with (reference_data / "stress-predict" / "segments_derived.csv").open() as table:
        oracle = [
            (row["subject"], float(row["start_s"]), float(row["end_s"]), row["phase"].rstrip("123"))
            for row in csv.DictReader(table)
        ]
    ours = [(e.subject, i.onset_seconds, i.end_seconds, i.label) for e in study.entries for i in e.intervals]
    assert ours == oracle
    assert summary.n_subjects == 34
    assert [sentence.split(":")[0] for sentence in summary.left_out] == ["S01"]


@pytest.mark.realdata
def test_stress_predict_notes_name_the_known_oddities(reference_data: Path, tmp_path: Path) -> None:
    notes = stress_predict.write_study(reference_data / "stress-predict", tmp_path).notes
    early = {note.split(":")[0] for note in notes if "12 hours early" in note}
    assert early == {"S17", "S18", "S30"}
    # Moved by 12 hours, the early tags of S18 and S30 confirm their borders.
    assert {note.split(":")[0] for note in notes if "far from every tag" in note} == {"S06", "S17"}
    assert any(note.startswith("S06: borders far from every tag but confirmed by the time log") for note in notes)


@pytest.mark.realdata
def test_labels_start_with_the_first_eda_sample(reference_data: Path, tmp_path: Path) -> None:
    stress_predict.write_study(reference_data / "stress-predict", tmp_path)
    study = load_study(tmp_path)
    recording = load_entry(study, study.entries[0])
    assert recording.signal("EDA").start_seconds == 0.0
    assert recording.intervals[0].onset_seconds == 9.0


@pytest.mark.realdata
def test_a_label_border_that_neither_tag_nor_log_supports_costs_the_subject(
    three_subjects: Path, tmp_path: Path
) -> None:
    path = three_subjects / "Processed_data" / LABELS
    lines = path.read_text().splitlines()
    zero = float((three_subjects / "Raw_data" / "S02" / "EDA.csv").read_text().splitlines()[0])
    moved = [
        line[:-1] + "0" if line.startswith("2,") and 622 <= int(line.split(",")[3]) - zero < 822 else line
        for line in lines
    ]
    path.write_text("\n".join(moved))
    summary = stress_predict.write_study(three_subjects, tmp_path / "study")
    assert summary.left_out == (
        "S02: the label border baseline to stroop at 822 s is 176 s from the nearest tag and 216 s from the time log.",
    )
    assert load_study(tmp_path / "study").subjects == ("S06", "S17")
    assert "S02: the label border" in (tmp_path / "study" / "import_report.txt").read_text()


@pytest.mark.realdata
def test_labels_that_do_not_make_seven_stages_are_left_out(three_subjects: Path, tmp_path: Path) -> None:
    path = three_subjects / "Processed_data" / LABELS
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("6,"))
    lines[first + 5] = lines[first + 5][:-1] + "1"
    second = next(i for i, line in enumerate(lines) if line.startswith("17,"))
    del lines[second + 5]
    path.write_text("\n".join(lines))
    summary = stress_predict.write_study(three_subjects, tmp_path / "study")
    assert summary.left_out == (
        "S06: the authors' labels run [0, 1, 0, 1, 0, 1, 0, 1, 0], not rest and stress by turns in seven stages.",
        "S17: the authors' labels do not run second by second.",
    )


@pytest.mark.realdata
def test_eegmat_files_are_rest_and_arithmetic_of_one_person(reference_data: Path, tmp_path: Path) -> None:
    summary = eegmat.write_study(reference_data / "eegmat", tmp_path)
    study = load_study(tmp_path)
    assert (summary.n_subjects, summary.n_recordings) == (18, 36)
    assert {e.files[0].path.name[-5]: e.condition for e in study.entries} == {"1": "rest", "2": "arithmetic"}
    assert study.tasks["workload"].label_is_file
    assert study.participants[13].columns == {"age": "24", "sex": "M", "count_quality": "good"}
    recording = load_entry(study, study.entries[1])
    assert recording.intervals[0].label == "arithmetic"
    assert recording.intervals[0].duration_seconds == recording.duration_seconds == 62.0


def test_a_person_with_one_condition_only_is_left_out(tmp_path: Path) -> None:
    for name in ("Subject00_1.edf", "Subject00_2.edf", "Subject01_1.edf"):
        (tmp_path / name).write_text(name)
    summary = eegmat.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "Subject01: Subject01_2.edf is not there, and one condition alone cannot be told from the person.",
    )


@pytest.mark.realdata
def test_noneeg_records_are_two_files_of_one_recording_with_four_states(reference_data: Path, tmp_path: Path) -> None:
    import wfdb

    summary = noneeg.write_study(reference_data / "noneeg", tmp_path)
    study = load_study(tmp_path)
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (20, 20, ())
    entry = next(e for e in study.entries if e.subject == "Subject11")
    assert [file.path.name for file in entry.files] == ["Subject11_AccTempEDA.hea", "Subject11_SpO2HR.hea"]
    notes = wfdb.rdann(str(entry.files[0].path.with_suffix("")), "atr")
    assert [i.label for i in entry.intervals] == notes.aux_note
    assert [i.onset_seconds for i in entry.intervals] == pytest.approx([s / 8 for s in notes.sample])
    recording = load_entry(study, entry)
    assert {s.modality for s in recording.signals} == {"acc", "temp", "eda", "spo2", "hr"}
    assert {s.unit for s in recording.signals} == {"g", "degC", "uS", "%", "bpm"}
    assert study.participants[0].columns["sex"] == "M"


@pytest.mark.realdata
def test_noneeg_notes_that_are_not_the_protocol_cost_the_subject(reference_data: Path, tmp_path: Path) -> None:
    source = tmp_path / "Dataset"
    source.mkdir()
    for number in (1, 2):
        for ending in ("AccTempEDA.hea", "AccTempEDA.dat", "AccTempEDA.atr"):
            shutil.copy(reference_data / "noneeg" / "Dataset" / f"Subject{number}_{ending}", source)
    damaged = source / "Subject2_AccTempEDA.atr"
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:60])
    summary = noneeg.write_study(tmp_path, tmp_path / "study")
    assert summary.n_subjects == 1
    assert len(summary.left_out) == 1
    assert summary.left_out[0].startswith("Subject2: ")


def test_a_damaged_time_log_is_refused_by_name(three_subjects: Path) -> None:
    log = three_subjects / "Processed_data" / "Time_logs.xlsx"
    with zipfile.ZipFile(log) as packed:
        sheet = next(info for info in packed.infolist() if "sheet1" in info.filename)
    content = bytearray(log.read_bytes())
    first = sheet.header_offset + 32 + len(sheet.filename)
    content[first : first + 40] = b"\xff" * 40
    for damaged, words in (
        (content, " cannot be read (Error"),
        (content[:1000], ": the zip file is damaged (File is not"),
    ):
        log.write_bytes(bytes(damaged))
        with pytest.raises(StudyError, match=rf"Time_logs\.xlsx{re.escape(words)}.*; it .* the authors' time log$"):
            stress_predict.read_log(log)


@pytest.mark.realdata
def test_flight_scenarios_are_recordings_of_one_day_with_a_rating_beside_the_ecg(
    reference_data: Path, tmp_path: Path
) -> None:
    import pandas as pd

    summary = flight.write_study(reference_data / "flight", tmp_path)
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (10, 48, ())
    assert summary.notes[:2] == ("P01 has no Sc1.", "P05 has no Sc3.")
    study = load_study(tmp_path)
    assert [(e.session, e.recording) for e in study.entries if e.subject == "P05"] == [
        ("day", "Sc1"), ("day", "Sc2"), ("day", "Sc4"), ("day", "Sc5"),
    ]  # fmt: skip
    entry = next(e for e in study.entries if (e.subject, e.recording) == ("P09", "Sc3"))
    table = pd.read_csv(entry.files[0].path, sep=";")
    recording = load_entry(study, entry)
    [ecg] = recording.signals
    assert (ecg.modality, ecg.unit, ecg.n_samples) == ("ecg", "mV", len(table))
    assert ecg.sampling_rate == pytest.approx(300.0, rel=1e-4)
    assert abs(ecg.read()[0] - table["Value"]).max() < 1e-12
    seconds = table["Time"].to_numpy()
    for onset in (0.0, 100.0, 250.0):
        inside = (seconds >= onset) & (seconds < onset + 60.0)
        mean = table["Stress"][inside].mean()
        assert recording.ratings["Stress"].means(onset, 60.0)[0] == pytest.approx(mean, abs=5e-3)


def test_flight_files_of_other_columns_or_of_one_scenario_are_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{i / 300};1.6;{i % 10}\n" for i in range(600))
    (tmp_path / "P01Sc1MRF_mV.csv").write_text(f"Time;Value;Stress\n{rows}")
    (tmp_path / "P01Sc1MRF_mV.csv.gz").write_bytes(gzip.compress(f"Time;Value;Stress\n{rows}".encode()))
    (tmp_path / "P01Sc2MRF_mV.csv").write_text(f"Time,Value,Stress\n{rows}")
    (tmp_path / "P02Sc1MRF_mV.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "P02Sc2MRF_mV.csv.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 99)
    summary = flight.write_study(tmp_path, tmp_path / "study")
    assert summary.n_recordings == 1
    assert summary.left_out == (
        "P01Sc1MRF_mV.csv.gz: P01Sc1MRF_mV.csv is the same scenario.",
        "P01Sc2MRF_mV.csv: its first line is 'Time,Value,Stress', not 'Time;Value;Stress'.",
        "P02Sc1MRF_mV.csv.gz: it cannot be read (BadGzipFile).",
        "P02Sc2MRF_mV.csv.gz: it cannot be read (damaged gzip file).",
        "P02: none of the files can be used.",
    )


@pytest.mark.parametrize("made", MADE)
def test_a_made_folder_of_two_people_is_imported_checked_and_prepared(made: str, tmp_path: Path) -> None:
    MADE[made](tmp_path / "source")
    summary = DATASETS[made.split(" ")[0]].write_study(tmp_path / "source", tmp_path / "study")
    assert summary.n_subjects == 2
    study = load_study(tmp_path / "study")
    assert list(training_faults(study)) == []
    for entry in study.entries:
        assert list(rating_faults(load_entry(study, entry), study.tasks)) == []
    settings = PrepareSettings(WindowSettings(3.0, 3.0))
    prepared = prepare_study(study, tmp_path / "study.h5", settings, run=PrepareRun(isolate=False))
    assert [(row.recording, row.status, row.message) for row in prepared.rows] == [
        (entry.recording, "prepared", "") for entry in study.entries
    ]
    assert all(row.windows_labelled > 0 for row in prepared.rows)


@pytest.mark.realdata
def test_stress_predict_is_the_same_from_its_zip(three_subjects: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "Stress-Predict-Dataset-main"), "zip", three_subjects))
    plain = stress_predict.write_study(three_subjects, tmp_path / "plain")
    with source_folder(archive, tmp_path / "study") as folder:
        summary = stress_predict.write_study(folder, tmp_path / "study")
    assert summary == plain
    assert (tmp_path / "study" / "events.tsv").read_text() == (tmp_path / "plain" / "events.tsv").read_text()
    [*files] = (entry.files[0].path for entry in load_study(tmp_path / "study").entries)
    assert all(path.is_relative_to((tmp_path / "study" / "source").resolve()) for path in files)


def test_a_time_log_that_unpacks_to_too_much_or_holds_a_link_is_not_opened(tmp_path: Path) -> None:
    log = tmp_path / "Time_logs.xlsx"
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("xl/worksheets/sheet1.xml", bytes(17 << 20))
    with pytest.raises(StudyError) as fault:
        stress_predict.read_log(log)
    assert str(fault.value) == (
        "Time_logs.xlsx: 17825792 bytes unpacked, at most 16777216 are read; it is the authors' time log"
    )
    link = zipfile.ZipInfo("xl/workbook.xml")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(log, "w") as target:
        target.writestr(link, "/etc/passwd")
    with pytest.raises(
        StudyError, match=r"the member 'xl/workbook.xml' of the zip is a link or a device and no file; "
    ):
        stress_predict.read_log(log)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_a_folder_of_something_else_is_refused(dataset: object, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no .*; see 'biopercept datasets"):
        dataset.write_study(tmp_path, tmp_path / "study")  # type: ignore[attr-defined]
    assert not (tmp_path / "study").exists()


def test_a_misspelt_data_set_is_answered_with_the_names() -> None:
    with pytest.raises(
        StudyError, match=r"no data set 'eegmatt'; known are stress-predict, eegmat, noneeg, .*; did you mean eegmat\?"
    ):
        dataset_named("eegmatt")


def test_rows_longer_than_the_header_are_refused_with_their_line(tmp_path: Path) -> None:
    labels, people = tmp_path / LABELS, tmp_path / "subject-info.csv"
    labels.write_text("Participant,HR,Time(sec),Label\n2,70,1644227574,0\n2,70,9,1644227575,0\n")
    with pytest.raises(StudyError, match=rf"{LABELS} line 3: .* \(more cells than the header names\)"):
        stress_predict.read_labels(labels)
    people.write_text("Subject,Age,Gender,Count quality\nSubject00,21,F,1\nSubject01,18,0,F,1\n")
    for number in "12":
        (tmp_path / f"Subject00_{number}.edf").touch()
    with pytest.raises(
        StudyError, match=r"subject-info.csv line 3: more cells than the header names; correct the table"
    ):
        eegmat.write_study(tmp_path, tmp_path / "study")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_tags_and_starts_that_a_spreadsheet_saved_again_are_the_same(tmp_path: Path, line_end: str) -> None:
    tags, sensor = tmp_path / "tags_S02.csv", tmp_path / "EDA.csv"
    tags.write_bytes(b"\xef\xbb\xbf" + f"1644227600.5{line_end}1644227700{line_end}".encode())
    sensor.write_bytes(b"\xef\xbb\xbf" + f"1644227574{line_end}4{line_end}0.1{line_end}".encode())
    assert stress_predict.read_tags(tags) == [1644227600.5, 1644227700.0]
    assert stress_predict.read_zero(sensor) == 1644227574.0
