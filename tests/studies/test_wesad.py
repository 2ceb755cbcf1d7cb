"""WESAD in the documented layout: imported, checked, loaded in right units with the authors' labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import QUEST, START, wesad_person, write_e4, write_respiban, write_wesad, zip_folder

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.loading import load_recording
from biopercept.prepare.sources import load_aligned
from biopercept.studies.datasets import wesad
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study

PROTOCOL = {0: 3, 1: 20, 5: 2, 2: 10, 6: 2, 3: 8, 7: 1, 4: 7}


def test_chest_and_wrist_are_read_in_their_units_on_one_clock(tmp_path: Path) -> None:
    recording = load_recording(write_wesad(tmp_path, "S2", wesad_person("S2", PROTOCOL)))
    means = {s.name: (s.modality, s.unit, s.sampling_rate, s.read().mean(axis=1).tolist()) for s in recording.signals}
    assert means["chest ACC"] == ("acc", "g", 700.0, [0.5, 0.25, -1.0])
    assert means["wrist ACC"] == ("acc", "g", 32.0, [1.0, 0.0, -0.5])
    assert means["chest EDA"] == ("eda", "uS", 700.0, [5.25])
    assert means["wrist EDA"] == ("eda", "uS", 4.0, [0.75])
    assert means["chest EMG"][:3] == ("emg", "mV", 700.0)
    assert means["chest Temp"] == ("temp", "degC", 700.0, [30.5])
    assert means["wrist TEMP"] == ("temp", "degC", 4.0, [33.5])
    assert means["chest ECG"][:3] == ("ecg", "mV", 700.0)
    assert means["wrist BVP"][:3] == ("bvp", "a.u.", 64.0)
    assert means["chest Resp"][:3] == ("resp", "a.u.", 700.0)
    assert {signal.end_seconds for signal in recording.signals} == {53.0}
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (3.0, 20.0, "baseline"),
        (25.0, 10.0, "stress"),
        (37.0, 8.0, "amusement"),
        (46.0, 7.0, "meditation"),
    ]


def test_import_takes_the_labels_and_leaves_out_who_cannot_be_trusted(tmp_path: Path) -> None:
    write_wesad(tmp_path / "WESAD", "S2", wesad_person("S2", PROTOCOL))
    write_wesad(tmp_path / "WESAD", "S10", wesad_person("S10", {1: 21, 2: 10, 0: 1}), protocol=0)
    write_wesad(tmp_path / "WESAD", "S3", wesad_person("S4", PROTOCOL))
    write_wesad(tmp_path / "WESAD", "S5", {"signal": {}, "label": np.array([9])})
    (tmp_path / "WESAD" / "S6").mkdir()
    summary = wesad.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "S3: S3.pkl says that it is of 'S4'.",
        "S5: S5.pkl: 'label' holds values that are no labels of WESAD (0 to 7).",
        "S6: neither S6.pkl is there nor S6_respiban.txt with S6_quest.csv.",
    )
    assert "S10: no sample is labelled amusement, meditation." in summary.notes
    study = load_study(tmp_path / "study")
    assert study.subjects == ("S2", "S10")
    assert [i.label for i in study.entries[0].intervals] == ["baseline", "stress", "amusement", "meditation"]
    recording = load_entry(study, study.entries[1])
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (0.0, 21.0, "baseline"),
        (21.0, 10.0, "stress"),
    ]
    assert {"classes": study.tasks["stress"].classes, "ignore": study.tasks["stress"].ignore} == {
        "classes": {"rest": ("baseline", "amusement"), "stress": ("stress",)},
        "ignore": ("meditation",),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": 3}, "S2.pkl: not as WESAD's files are: a dictionary with 'signal', 'label' and 'subject'"),
        ({"label": 3, "signal": {"wrist": {"EDA": np.ones(8)}}}, "S2.pkl: 'label' is no array of numbers"),
        ({"signal": {"chest": {"ACC": np.zeros((5, 2))}}}, "S2.pkl: chest ACC has the shape (5, 2), not (samples, 3)"),
        ({"signal": {"chest": {"ECG": [1.0]}}}, "S2.pkl: chest ECG is no array"),
        ({"signal": {"chest": {}}}, "S2.pkl: none of WESAD's signals is in the file"),
    ],
)
def test_a_file_in_another_layout_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_wesad(tmp_path, "S2", {"subject": "S2", "signal": {}, "label": np.array([1]), **change})
    with pytest.raises(RecordingError) as fault:
        load_recording(path)
    assert str(fault.value) == message


def test_devices_of_different_length_are_said(tmp_path: Path) -> None:
    content = wesad_person("S2", PROTOCOL)
    content["signal"]["wrist"] = {"EDA": np.full((400, 1), 0.5)}  # type: ignore[index]
    notes = load_recording(write_wesad(tmp_path, "S2", content)).notes
    assert "the chest's signals last 53 s, the wrist's 100 s: they may not be on one clock" in notes
    assert "wrist BVP: not in the file" in notes


def write_devices(folder: Path, subject: str, *, started: str = "18:55:29.0") -> Path:
    """Write the devices' files of a person, the belt begun 10 s after the wristband by German time."""
    home = folder / subject
    write_respiban(home / f"{subject}_respiban.txt", [28000] * (90 * 700), started=started)
    write_e4(home / "wrist", seconds=120)
    zip_folder(home / "wrist", home / f"{subject}_E4_Data.zip")
    (home / f"{subject}_quest.csv").write_text(QUEST)
    return home


def test_devices_without_the_pickle_are_placed_by_their_clocks_and_labelled_by_the_table(tmp_path: Path) -> None:
    write_devices(tmp_path, "S2")
    summary = wesad.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_recordings, summary.left_out, summary.notes) == (1, (), ())
    study = load_study(tmp_path / "study")
    assert study.is_aligned
    [entry] = study.entries
    assert [(file.path.name, file.offset_seconds) for file in entry.files] == [
        ("S2_respiban.txt", 0.0),
        ("S2_E4_Data.zip", -10.0),
    ]
    stages = [(i.onset_seconds, i.end_seconds, i.label) for i in entry.intervals]
    assert stages == [
        (2.0, 22.0, "baseline"),
        (30.0, 50.0, "stress"),
        (55.0, 60.0, "meditation"),
        (70.0, 78.0, "amusement"),
        (80.0, 85.0, "meditation"),
    ]
    rated = [(cells["valence"], cells["arousal"]) for cells in entry.interval_columns.values()]
    assert rated == [("7", "2"), ("5", "4"), ("7", "1"), ("8", "3"), ("6", "2")]
    recording = load_entry(study, entry)
    means = {s.name: (s.modality, s.unit, s.read().mean(axis=1).round(3).tolist()) for s in recording.signals}
    # The readme's formulas: (49152 / 65536 - 0.5) * 3 is 0.75 mV, 10 kOhm of the thermistor are 25 degC.
    assert means["ECG"] == ("ecg", "mV", [0.75])
    assert means["EMG"] == ("emg", "mV", [0.75])
    assert means["EDA"] == ("eda", "uS", [10.0])
    assert means["TEMP"] == ("temp", "degC", [25.0])
    assert means["RESPIRATION"] == ("resp", "a.u.", [25.0])
    assert means["ACC"] == ("acc", "g", [0.0, 1.0, -1.0])
    assert means["EDA_2"] == ("eda", "uS", [1.5])
    assert {s.name for s in recording.signals if s.modality in ("hr", "ibi")} == set()


def test_the_wristband_is_moved_to_where_the_motion_of_both_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    seconds, late = 280, 7.25
    moves = np.repeat(rng.integers(-8, 9, 4 * seconds), 8) * (np.repeat(rng.random(seconds // 10) < 0.5, 320))
    home = tmp_path / "S2"
    times = np.arange(50 * (seconds - 20)) / 50
    seen = np.interp(times + 10, np.arange(32 * seconds) / 32, moves / 64)
    write_respiban(home / "S2_respiban.txt", (33000 + 5000 * seen).astype(int).tolist(), started="18:55:29.0", rate=50)
    write_e4(home / "S2_E4_Data", seconds=seconds, start=START + late)
    axes = "".join(f"0,64,{z}\n" for z in moves)
    (home / "S2_E4_Data" / "ACC.csv").write_text(f"{START + late},{START + late},{START + late}\n32,32,32\n{axes}")
    (home / "S2_quest.csv").write_text(QUEST)
    wesad.write_study(tmp_path, tmp_path / "study")
    study = load_study(tmp_path / "study")
    assert study.entries[0].files[1].offset_seconds == late - 10
    recording = load_aligned(study, study.entries[0])
    [note] = [note for note in recording.notes if "aligned" in note]
    assert note.startswith("S2_E4_Data is aligned to S2_respiban.txt by motion: offset -7.2")
    assert recording.signal("EDA_2").start_seconds == pytest.approx(-10.0, abs=0.06)


def test_a_damaged_pickle_is_replaced_by_the_devices_files_and_a_good_one_is_rated(tmp_path: Path) -> None:
    write_devices(tmp_path, "S2")
    (tmp_path / "S2" / "S2.pkl").write_bytes(b"\x80\x02damaged")
    write_wesad(tmp_path, "S3", wesad_person("S3", {0: 2, 1: 20, 2: 10, 4: 7, 3: 8}))
    (tmp_path / "S3" / "S3_quest.csv").write_text(QUEST)
    content = wesad_person("S4", {1: 20, 2: 10, 4: 7, 3: 8})
    labels = np.concatenate([np.asarray(content["label"]), np.full(700, 5), np.full(2100, 4)])
    write_wesad(tmp_path, "S4", {**content, "label": labels})
    (tmp_path / "S4" / "S4_quest.csv").write_text(QUEST)
    summary = wesad.write_study(tmp_path, tmp_path / "study")
    assert [note.split(";")[-1] for note in summary.notes if note.startswith("S2:")] == [
        " the devices' own files are used."
    ]
    assert "S3: its table has other conditions than its labels, so that none is rated." in summary.notes
    by_person = {entry.subject: entry for entry in load_study(tmp_path / "study").entries}
    assert [file.path.name for file in by_person["S2"].files] == ["S2_respiban.txt", "S2_E4_Data.zip"]
    assert {cells["valence"] for cells in by_person["S3"].interval_columns.values()} == {"n/a"}
    assert [cells["arousal"] for cells in by_person["S4"].interval_columns.values()] == ["2", "4", "1", "3", "2"]


def test_a_wristband_of_another_day_and_a_belt_without_header_are_left_out(tmp_path: Path) -> None:
    write_devices(tmp_path, "S2", started="9:39:1.0")
    home = write_devices(tmp_path, "S3")
    (home / "S3_E4_Data.zip").write_bytes(b"PK\x03\x04cut")
    damaged = write_devices(tmp_path, "S4") / "S4_respiban.txt"
    damaged.write_text(damaged.read_text().replace("# EndOfHeader", ""))
    summary = wesad.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == ("S4: S4_respiban.txt: the header of OpenSignals has no end (# EndOfHeader); export it "
                                "again.",)  # fmt: skip
    assert summary.notes == (
        "S2: no wristband that was worn while the belt recorded, by the clocks of both.",
        "S3: S3_E4_Data.zip: the zip file is damaged; download it again.",
        "S3: no wristband that was worn while the belt recorded, by the clocks of both.",
    )
    assert [len(entry.files) for entry in load_study(tmp_path / "study").entries] == [1, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.02", "0.62", "'0.62' is no time in minutes.seconds"),
        ("0.02", "soon", "'soon' is no time in minutes.seconds"),
        ("END;0.22", "END;0.01", "Base ends at 0.01, before its start at 0.02"),
        ("Fun", "Joke", "ORDER names 'Joke', known are Base, TSST, Fun, Medi 1, Medi 2"),
        ("START;", "STRAT;", "ORDER, START and END must be lines of as many cells each"),
        ("DIM;7;2", "DIM;7;12", "a line DIM holds '7;12', not valence and arousal from 1 to 9"),
    ],
)
def test_a_table_that_is_not_as_the_readme_says_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    table = tmp_path / "S2_quest.csv"
    table.write_text(QUEST.replace(old, new, 1))
    with pytest.raises(StudyError) as fault:
        wesad.read_quest(table)
    assert str(fault.value) == f"S2_quest.csv: {message}"
