"""Data sets of tables that do not say their units: made folders in the documented layout, imported and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import CASE_HEADER, MAUS_LEVELS, START, write_case, write_cogwear, write_kemocon, write_maus

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.loading import load_recording
from biopercept.studies.datasets import case, cogwear, k_emocon, maus
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study

CLIPS = [10, 3, 11, 1, 11, 7, 11, 5, 11, 2, 11, 8, 11, 4, 11, 6, 12]


def test_case_signals_are_in_the_units_of_its_readme_and_clips_in_the_order_seen(tmp_path: Path) -> None:
    write_case(tmp_path, 1, CLIPS)
    summary = case.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (1, 1, ())
    study = load_study(tmp_path / "study")
    (entry,) = study.entries
    assert [(i.onset_seconds, i.label) for i in entry.intervals] == [
        (2.0, "boring"),
        (6.0, "amusing"),
        (10.0, "scary"),
        (14.0, "relaxing"),
        (18.0, "amusing"),
        (22.0, "scary"),
        (26.0, "boring"),
        (30.0, "relaxing"),
    ]
    assert all(1.9 <= i.duration_seconds <= 2.0 for i in entry.intervals)
    cells = list(entry.interval_columns.values())
    assert [float(cell["arousal"]) for cell in cells] == [3, 1, 7, 5, 2, 8, 4, 6]
    assert [float(cell["valence"]) for cell in cells] == pytest.approx([5.3, 5.1, 5.7, 5.5, 5.2, 5.8, 5.4, 5.6])
    recording = load_entry(study, entry)
    means = {s.name: (s.modality, s.unit, s.sampling_rate, float(s.read().mean())) for s in recording.signals}
    assert means["ECG"] == ("ecg", "mV", 1000.0, 0.25)
    assert means["GSR"] == ("eda", "uS", 1000.0, 21.0)
    assert means["SKT"] == ("temp", "degC", 1000.0, 31.25)
    assert means["EMG corrugator"][:3] == ("emg", "mV", 1000.0)
    assert means["EMG corrugator"][3] == pytest.approx(0.006)
    assert {means["BVP"][0], means["RSP"][0]} == {"bvp", "resp"}
    assert "video" not in means
    assert recording.duration_seconds == 34.0


def test_case_people_without_each_clip_once_are_left_out(tmp_path: Path) -> None:
    write_case(tmp_path, 1, CLIPS, seconds=1)
    write_case(tmp_path, 2, [10, 1, 11, 1, 12], seconds=1)
    write_case(tmp_path, 3, CLIPS, seconds=1)
    (tmp_path / "data/interpolated/annotations/sub_3.csv").unlink()
    summary = case.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "sub02: its clips are 1, 1, not each of 1 to 8 once.",
        "sub03: annotations/sub_3.csv is not there, which says when each clip was.",
    )
    assert load_study(tmp_path / "study").subjects == ("sub01",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jstime,valence,video\n", "annotations/sub_1.csv has no column arousal; it holds the ratings"),
        (
            "jstime,valence,arousal,video\n0,5,x,1\n",
            "annotations/sub_1.csv line 2: a cell is no number (could not convert string to float: 'x')",
        ),
    ],
)
def test_case_ratings_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sub_1.csv").write_text(text)
    with pytest.raises(StudyError) as fault:
        case.read_clips(tmp_path / "sub_1.csv")
    assert str(fault.value) == message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,1,1,1,1,1,1,1,1,1\n", "sub_1.csv: fewer than two rows with different times"),
        ("0,1,1,1,1,1,1,1,1,1\n,1,1,1,1,1,1,1,1,1\n", "sub_1.csv: 1 rows of daqtime are no number"),
        ("0,a,1,1,1,1,1,1,1,1\n1,b,1,1,1,1,1,1,1,1\n", "sub_1.csv: column 'ecg' holds text ('a' the first)"),
    ],
)
def test_a_table_of_case_that_cannot_be_trusted_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "sub_1.csv").write_text(f"{CASE_HEADER}\n{rows}")
    with pytest.raises(RecordingError) as fault:
        load_recording(tmp_path / "sub_1.csv")
    assert str(fault.value) == message


def test_a_table_of_that_name_with_other_columns_is_read_as_any_table(tmp_path: Path) -> None:
    (tmp_path / "sub_1.csv").write_text("time,ecg (mV)\n" + "".join(f"{n / 250},0.5\n" for n in range(500)))
    assert load_recording(tmp_path / "sub_1.csv").signal("ecg").sampling_rate == 250.0


EIGHT_STEPS = [(3, 2), (3, 2), (3, 2), (4, 2), (4, 2), (1, 5), (1, 5), (1, 5)]


def test_kemocon_debates_and_ratings_lie_where_its_authors_put_them(tmp_path: Path) -> None:
    write_kemocon(tmp_path, 1, EIGHT_STEPS)
    write_kemocon(tmp_path, 4, [(5, 5), (5, 5), *EIGHT_STEPS])
    summary = k_emocon.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (2, 2, ())
    study = load_study(tmp_path / "study")
    for entry in study.entries:
        assert [(i.onset_seconds, i.duration_seconds, i.label) for i in entry.intervals] == [
            (10.0, 120.0, "baseline"),
            (150.0, 15.0, "rated"),
            (150.0, 40.0, "debate"),
            (165.0, 10.0, "rated"),
            (175.0, 15.0, "rated"),
        ]
        rated = [cells for i, cells in entry.interval_columns.items() if i.label == "rated"]
        assert [(cells["arousal"], cells["valence"]) for cells in rated] == [("3", "2"), ("4", "2"), ("1", "5")]
    recording = load_entry(study, study.entries[1])
    means = {s.name: (s.modality, s.unit, round(s.sampling_rate, 3), float(s.read().mean())) for s in recording.signals}
    assert means == {
        "BVP": ("bvp", "a.u.", 64.0, 3.5),
        "EDA": ("eda", "uS", 4.0, 4.5),
        "TEMP": ("temp", "degC", 4.0, 32.5),
        "HR": ("hr", "bpm", 1.0, 71.0),
    }
    assert recording.started_at is not None
    assert recording.started_at.timestamp() == START


def test_kemocon_ratings_and_files_that_cannot_be_placed_are_left_out(tmp_path: Path) -> None:
    write_kemocon(tmp_path, 1, EIGHT_STEPS[:3])
    write_kemocon(tmp_path, 31, EIGHT_STEPS, n_devices=2)
    summary = k_emocon.write_study(tmp_path, tmp_path / "study")
    assert "P1: its ratings lack 25 s of the debate, and nothing says which; they are left out." in summary.notes
    assert "P31: E4_BVP.csv holds rows of 2 devices and is left out." in summary.notes
    assert summary.left_out == ("P31: no sensor's file can be used.",)
    assert [i.label for i in load_study(tmp_path / "study").entries[0].intervals] == ["baseline", "debate"]
    with pytest.raises(
        RecordingError,
        match=r"^E4_EDA.csv: rows of 2 devices \(A00000, A00001\), and nothing says whose each is$",
    ):
        load_recording(tmp_path / "e4_data" / "31" / "E4_EDA.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seconds,arousal\n5,1\n", "P1.self.csv line 2: numbers are needed in seconds, arousal, valence ('valence')"),
        ("seconds,arousal,valence\n5,6,1\n", "P1.self.csv line 2: ratings are from 1 to 5"),
        (
            "seconds,arousal,valence\n5,1,1\n15,1,1\n",
            "P1.self.csv line 3: the steps are not of 5 s, one after the other",
        ),
    ],
)
def test_kemocon_ratings_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "P1.self.csv").write_text(text)
    with pytest.raises(StudyError) as fault:
        k_emocon.read_ratings(tmp_path / "P1.self.csv")
    assert str(fault.value) == message


def test_kemocon_without_the_times_of_the_debates_is_refused(tmp_path: Path) -> None:
    write_kemocon(tmp_path, 1, EIGHT_STEPS)
    (tmp_path / "metadata" / "subjects.csv").write_text("pid,initTime\n1,5\n")
    with pytest.raises(
        StudyError,
        match=r"^subjects.csv line 2: numbers are needed in pid, initTime, startTime, endTime \('startTime'\)$",
    ):
        k_emocon.write_study(tmp_path, tmp_path / "study")
    (tmp_path / "metadata" / "subjects.csv").unlink()
    with pytest.raises(
        StudyError, match=r"cannot be read \(No such file or directory\); it says when each debate was$"
    ):
        k_emocon.write_study(tmp_path, tmp_path / "study")


def test_cogwear_conditions_are_recordings_of_one_person_in_sessions(tmp_path: Path) -> None:
    write_cogwear(tmp_path / "pilot" / "0" / "baseline", START + 400, 0.25)
    write_cogwear(tmp_path / "pilot" / "0" / "cognitive_load", START, 0.75, names="emda")
    for number, session in enumerate(("pre", "post")):
        for step, condition in enumerate(("baseline", "cognitive_load")):
            folder = tmp_path / "survey_gamification" / "11" / session / condition
            write_cogwear(folder, START + 5000 + 1000 * number - 100 * step, 1.0 + 2 * number + step)
    write_cogwear(tmp_path / "pilot" / "3" / "baseline", START, 9.0)
    summary = cogwear.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings) == (2, 6)
    assert summary.left_out == (
        "03: cognitive_load has no file of the wristband, and one condition alone cannot be told from the person.",
    )
    study = load_study(tmp_path / "study")
    assert study.tasks["effort"].label_is_file
    read = {}
    for entry in study.entries:
        recording = load_entry(study, entry)
        assert {(s.modality, s.unit) for s in recording.signals} == {("bvp", "a.u."), ("eda", "uS"), ("temp", "degC")}
        assert recording.intervals[0].label == entry.condition
        read[entry.subject, entry.session, entry.recording] = float(recording.signal("eda").read().mean())
    assert read == {
        ("00", "pilot", "baseline"): 0.25,
        ("00", "pilot", "cognitive_load"): 0.75,
        ("11", "pre", "baseline"): 1.0,
        ("11", "pre", "cognitive_load"): 2.0,
        ("11", "post", "baseline"): 3.0,
        ("11", "post", "cognitive_load"): 4.0,
    }


def test_maus_trials_lie_one_after_the_other_at_the_rates_of_its_authors(tmp_path: Path) -> None:
    for person in ("006", "008"):
        write_maus(tmp_path / "MAUS", person, seconds=12)
    summary = maus.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (2, 2, ())
    study = load_study(tmp_path / "study")
    assert [(i.onset_seconds, i.label) for i in study.entries[0].intervals] == [
        (0.0, "0-back"),
        (360.0, "2-back"),
        (720.0, "3-back"),
        (1080.0, "2-back"),
        (1440.0, "3-back"),
        (1800.0, "0-back"),
    ]
    for entry, wrist in zip(study.entries, (100.0, 102.5), strict=True):
        recording = load_entry(study, entry)
        person = int(entry.subject) / 1000
        kinds = {s.name: (s.modality, s.unit, s.sampling_rate) for s in recording.signals}
        assert kinds == {
            "ECG": ("ecg", "", 256.0),
            "GSR": ("eda", "", 256.0),
            "PPG finger": ("bvp", "a.u.", 256.0),
            "PPG wrist": ("bvp", "a.u.", wrist),
        }
        for signal, level in zip(recording.signals, MAUS_LEVELS.values(), strict=True):
            rate = signal.sampling_rate
            for number in range(6):
                trial = signal.read(round(number * 360 * rate), round((number * 360 + 10) * rate))
                assert trial.mean() == pytest.approx((number + 1) * (level + person), abs=1e-3)
            between = signal.read(round(12 * rate), round(360 * rate))
            assert np.isnan(between).all()
        assert np.isnan(recording.signals[0].read(10 * 256, 12 * 256)).all()  # the first trial is shorter
        assert sum("cannot be turned into" in note for note in recording.notes) == 2


def test_maus_people_without_the_columns_of_the_trials_are_left_out(tmp_path: Path) -> None:
    write_maus(tmp_path, "008", seconds=2)
    raw = tmp_path / "Data" / "Raw_data"
    (raw / "008" / "inf_gsr.csv").unlink()
    (raw / "009").mkdir()
    (raw / "010").mkdir()
    (raw / "010" / "inf_ecg.csv").write_text("Trial 1:0back,Trial 2:2back\n1,2\n")
    summary = maus.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "009: it holds none of inf_ecg.csv, inf_gsr.csv, inf_ppg.csv, pixart.csv.",
        "010: inf_ecg.csv has no columns Trial 1:0back, Trial 2:2back, Trial 3:3back, Trial 4:2back, Trial 5:3back, "
        "Trial 6:0back.",
    )
    assert "008: inf_gsr.csv is not there." in summary.notes


def test_maus_tables_whose_rate_cannot_be_right_are_refused(tmp_path: Path) -> None:
    write_maus(tmp_path, "008", seconds=2)
    wrist = tmp_path / "Data" / "Raw_data" / "008" / "pixart.csv"
    other = tmp_path / "copies" / "pixart.csv"
    other.parent.mkdir()
    other.write_text(wrist.read_text())
    with pytest.raises(RecordingError) as fault:
        load_recording(other)
    assert str(fault.value) == (
        "pixart.csv: the rate of this wristband differs from person to person, and the folder 'copies' is none of a "
        "person (002, 003, ...)"
    )
    row = "1,2,3,4,5,6\n"
    wrist.write_text(wrist.read_text().splitlines()[0] + "\n" + row * 40_000)
    with pytest.raises(RecordingError) as fault:
        load_recording(wrist)
    assert str(fault.value) == (
        "pixart.csv: a trial lasts 390 s, those of MAUS are of 300 s; its rate is not 102.5 Hz, or it is another table"
    )
