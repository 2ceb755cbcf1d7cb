"""Data sets of Empatica E4 sessions: made folders in the documented layout, imported, checked and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import FIRST_VERSION, NINE, SECOND_VERSION, START, write_affective_road, write_exams, write_session

from biopercept.errors import StudyError
from biopercept.studies.datasets import affective_road, exam_stress, induced_stress
from biopercept.studies.entries import load_entry
from biopercept.studies.loading import load_study


def test_stages_of_both_versions_lie_between_their_presses(tmp_path: Path) -> None:
    write_session(tmp_path, "STRESS", "S01", FIRST_VERSION)
    write_session(tmp_path, "STRESS", "f01", SECOND_VERSION)
    write_session(tmp_path, "AEROBIC", "f01", [30.0, 100.0, 200.0, 300.0])
    (tmp_path / "Stress_Level_v1.csv").write_text(",Baseline,Stroop,TMCT\nS01,2,7.5,\n")
    summary = induced_stress.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (2, 3, ())
    study = load_study(tmp_path / "study")
    stages = {
        (e.subject, e.recording): [(i.onset_seconds, i.end_seconds, i.label) for i in e.intervals]
        for e in study.entries
    }
    assert stages["S01", "stress"] == [
        (20.0, 200.0, "baseline"),
        (200.0, 260.0, "stroop"),
        (260.0, 320.0, "first rest"),
        (320.0, 380.0, "mental arithmetic"),
        (380.0, 440.0, "second rest"),
        (440.0, 500.0, "real opinion"),
        (560.0, 620.0, "opposite opinion"),
        (680.0, 740.0, "subtraction"),
    ]
    assert stages["f01", "stress"] == [
        (10.0, 190.0, "baseline"),
        (190.0, 250.0, "mental arithmetic"),
        (250.0, 310.0, "first rest"),
        (310.0, 370.0, "real opinion"),
        (430.0, 490.0, "opposite opinion"),
        (490.0, 550.0, "second rest"),
        (550.0, 610.0, "subtraction"),
    ]
    assert stages["f01", "aerobic"] == [(30.0, 200.0, "aerobic")]
    first = next(e for e in study.entries if e.subject == "S01")
    ratings = {i.label: cells["rating"] for i, cells in first.interval_columns.items()}
    assert (ratings["baseline"], ratings["stroop"], ratings["mental arithmetic"]) == ("2", "7.5", "n/a")
    assert {task: len(study.tasks[task].classes) for task in ("stress", "state")} == {"stress": 2, "state": 3}


def test_a_session_with_dates_for_unix_times_is_read_in_right_units(tmp_path: Path) -> None:
    write_session(tmp_path, "STRESS", "S01", FIRST_VERSION)
    induced_stress.write_study(tmp_path, tmp_path / "study")
    study = load_study(tmp_path / "study")
    recording = load_entry(study, study.entries[0])
    assert recording.started_at is not None
    assert recording.started_at.timestamp() == START
    assert recording.signal("EDA").read().tolist() == [[1.5] * 3600]
    assert np.array_equal(recording.signal("ACC").read()[:, 0], [1.0, 0.0, -0.5])
    assert (recording.signal("EDA").unit, recording.signal("ACC").unit) == ("uS", "g")
    assert recording.signal("HR").start_seconds == 10.0
    assert recording.signal("IBI").read()[0].tolist() == [0.8] * 20


def test_a_baseline_that_does_not_last_three_minutes_has_no_label(tmp_path: Path) -> None:
    write_session(tmp_path, "STRESS", "f01", [10.0, 60.0, *SECOND_VERSION[2:]])
    summary = induced_stress.write_study(tmp_path, tmp_path / "study")
    assert (
        "f01 stress: no presses of the button are three minutes apart, so its baseline has no label." in summary.notes
    )
    labels = [i.label for i in load_study(tmp_path / "study").entries[0].intervals]
    assert "baseline" not in labels
    assert "subtraction" in labels


def test_the_known_faults_cost_what_they_spoil(tmp_path: Path) -> None:
    write_session(tmp_path, "STRESS", "S02", [1100.0 + press for press in FIRST_VERSION])
    write_session(tmp_path, "STRESS", "f07", SECOND_VERSION)
    write_session(tmp_path, "STRESS", "f14_a", [])
    write_session(tmp_path, "STRESS", "f14_b", SECOND_VERSION)
    write_session(tmp_path, "AEROBIC", "S03", [30.0, 100.0, 200.0, 300.0])
    write_session(tmp_path, "ANAEROBIC", "S16_a", [30.0, 100.0, 200.0, 300.0])
    write_session(tmp_path, "STRESS", "S05", FIRST_VERSION[:-2])
    write_session(tmp_path, "AEROBIC", "S05", [30.0, 100.0])
    summary = induced_stress.write_study(tmp_path, tmp_path / "study")
    cut = "the session was cut in two, so the presses of the button are not those of its stages."
    assert sorted(summary.left_out) == [
        "S03 aerobic: the protocol was not completed, so the presses of the button are not those of its stages.",
        "S05 aerobic: 2 presses of the button do not tell when the exercise began and ended.",
        "S05 stress: 11 presses of the button, the protocol has 13.",
        f"S16_a anaerobic: {cut}",
        f"f14_a stress: {cut}",
    ]
    assert (
        "S02 stress: from 1548 s on it is a copy of itself; left out are real opinion, opposite opinion, subtraction. "
        "" in f"{' '.join(summary.notes)} "
    )
    entries = {e.subject: e for e in load_study(tmp_path / "study").entries}
    assert set(entries) == {"S02", "f07", "f14"}
    assert max(i.end_seconds for i in entries["S02"].intervals) <= 1548.0
    assert [file.path.name for file in entries["f07"].files] == ["EDA.csv", "ACC.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ",Stroop\nS01,high\n",
            "Stress_Level_v1.csv line 2: a rating is no number (could not convert string to float:",
        ),
        (",Stroop\nS01,1,2\n", "Stress_Level_v1.csv line 2: more cells than the header names; correct the table"),
    ],
)
def test_ratings_that_are_none_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "Stress_Level_v1.csv"
    table.write_text(text)
    with pytest.raises(StudyError) as fault:
        induced_stress.read_ratings(table)
    assert str(fault.value).startswith(message)


def test_a_line_that_is_no_press_of_the_button_is_refused(tmp_path: Path) -> None:
    folder = write_session(tmp_path, "STRESS", "S01", FIRST_VERSION)
    (folder / "tags.csv").write_text("2013-02-20 17:55:19\nnoon\n")
    with pytest.raises(StudyError, match=r"^tags.csv line 2: 'noon' is no time of a button press$"):
        induced_stress.write_study(tmp_path, tmp_path / "study")


def test_exams_begin_at_nine_and_have_the_grade_in_per_cent(tmp_path: Path) -> None:
    write_exams(tmp_path)
    summary = exam_stress.write_study(tmp_path, tmp_path / "study")
    study = load_study(tmp_path / "study")
    exam = {
        (e.subject, e.recording): (e.intervals[0].onset_seconds, e.intervals[0].duration_seconds, cells["grade"])
        for e in study.entries
        for cells in e.interval_columns.values()
    }
    assert exam == {
        ("S1", "midterm1"): (30.0, 30.0, "78"),
        ("S1", "final"): (0.0, 60.0, "91"),
        ("S2", "final"): (10.0, 50.0, "90"),
    }
    assert summary.left_out == (
        "S1 Midterm 2: no sensor's file is there with a start time.",
        "S2 Midterm 1: the wristband was not worn in the exam, by its clock.",
        "S2 Midterm 2: StudentGrades.txt has no grade for it.",
    )
    recording = load_entry(study, study.entries[0])
    assert recording.signal("EDA").read().tolist() == [[1.0] * 240]
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [(30.0, "exam")]


def test_the_hour_of_the_exam_follows_summer_time() -> None:
    assert exam_stress.exam_start(NINE - 1200) == NINE
    in_winter = 1_544_194_800.0  # 2018-12-07 09:00 in US central standard time
    assert exam_stress.exam_start(in_winter + 500) == in_winter


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S01 - 78\n", "StudentGrades.txt line 1: a grade under none of Midterm 1, Midterm 2, Final"),
        ("GRADES - MIDTERM 1\nS01 - 178\n", "StudentGrades.txt line 2: 178 is more than the 100 marks of Midterm 1"),
        (
            "nothing\n",
            "StudentGrades.txt: no line such as 'S01 - 78' under 'GRADES - MIDTERM 1'; it holds the grades",
        ),
    ],
)
def test_grades_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "StudentGrades.txt").write_text(text)
    with pytest.raises(StudyError) as fault:
        exam_stress.read_grades(tmp_path / "StudentGrades.txt")
    assert str(fault.value) == message


def test_exams_without_the_grades_are_refused(tmp_path: Path) -> None:
    write_exams(tmp_path)
    (tmp_path / "StudentGrades.txt").unlink()
    with pytest.raises(StudyError, match=r"StudentGrades.txt cannot be read \(No such file or directory\); it holds"):
        exam_stress.write_study(tmp_path, tmp_path / "study")


def test_ratings_lie_where_the_drive_begins_on_the_wristband(tmp_path: Path) -> None:
    write_affective_road(tmp_path, {"GM1": 12, "GM2": 100, "KSG1": 40})
    summary = affective_road.write_study(tmp_path, tmp_path / "study")
    assert (summary.n_subjects, summary.n_recordings, summary.left_out) == (2, 3, ())
    study = load_study(tmp_path / "study")
    assert [(entry.subject, entry.recording) for entry in study.entries] == [
        ("GM", "drive1"),
        ("GM", "drive2"),
        ("KSG", "drive1"),
    ]
    for entry, number in zip(study.entries, (1, 2, 3), strict=True):
        assert [(i.onset_seconds, i.end_seconds, i.label) for i in entry.intervals] == [(20.0, 200.0, "drive")]
        recording = load_entry(study, entry)
        rating = recording.ratings["stress rating"]
        halves = [float(rating.means(onset, 90.0)[0]) for onset in (20.0, 110.0)]
        assert halves == pytest.approx([0.25, 0.75], abs=1e-9)
        assert [float(recording.signal(name).read().mean()) for name in ("EDA", "EDA_2")] == [
            1.5 + number,
            5.5 + number,
        ]
        assert all(signal.modality != "unknown" for signal in recording.signals)


def test_drives_that_cannot_be_placed_are_left_out(tmp_path: Path) -> None:
    write_affective_road(tmp_path, {"GM1": 12, "GM2": 100, "AD1": 40, "SJ1": 0})
    data = tmp_path / "Database"
    (data / "E4" / "2-E4-GM2" / "Left").rename(data / "E4" / "2-E4-GM2" / "Left1")
    (data / "E4" / "2-E4-GM2" / "Right").rename(data / "E4" / "2-E4-GM2" / "Right1")
    (data / "E4" / "1-E4-GM1" / "Left" / "EDA.csv").unlink()
    for old, new in (("AD1,40,80,80,720,720,760", "AD1,40,80,80,720,720,960"), ("SJ1,", "XX1,")):
        table = data / "Subj_metric" / "Annot_Subjective_metric.csv"
        assert old in table.read_text()
        table.write_text(table.read_text().replace(old, new))
    summary = affective_road.write_study(tmp_path, tmp_path / "study")
    assert summary.left_out == (
        "AD1: the drive lasts 180 s on the wristband and 230 s in the ratings, so they cannot be put on one clock.",
        "GM2: none of its wristbands can be used.",
        "SJ1: Annot_Subjective_metric.csv does not say when its drive was.",
    )
    assert (
        "GM1: there is no folder E4/N-E4-GM1/Left with a start time; the left wristband is left out." in summary.notes
    )
    assert [len(entry.files) for entry in load_study(tmp_path / "study").entries] == [2]


def test_drives_without_their_drivers_are_refused(tmp_path: Path) -> None:
    write_affective_road(tmp_path, {"GM1": 12})
    ratings = tmp_path / "Database" / "Subj_metric"
    (ratings / "SM_GM1.csv").rename(ratings / "SM_Drv1.csv")
    with pytest.raises(StudyError) as fault:
        affective_road.write_study(tmp_path, tmp_path / "study")
    assert str(fault.value) == (
        f"{tmp_path} numbers its drives (SM_Drv1.csv ...), and nothing in this release says who drove, so that people "
        "cannot be kept apart; import the release whose files carry the drivers' letters (SM_AD1.csv ...)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Drive,Z_Start,Z_End\n", "a.csv has no columns Drive_id, Z_Start and Z_End; they say when a drive was"),
        (
            "Drive_id,Z_Start,Z_End\nAD1,5,x\n",
            "a.csv line 2: Z_Start and Z_End must be the rows of a drive's begin and end (invalid literal for int() "
            "with base 10: 'x')",
        ),
        (
            "Drive_id,Z_Start,Z_End\n\nAD1,9,5\n",
            "a.csv line 3: Z_Start and Z_End must be the rows of a drive's begin and end (rows 9 to 5)",
        ),
    ],
)
def test_annotations_that_say_no_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(StudyError) as fault:
        affective_road.read_route(tmp_path / "a.csv")
    assert str(fault.value) == message
