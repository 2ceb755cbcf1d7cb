"""The PhysioNet study of wearable sensors in exams: an Empatica E4 through two midterms and a final, and the grades.

The layout, the shift of the dates, and the times of the exams (9:00 in US central time; 1.5 h for a midterm, 3 h for
the final) are those of the notes that come with the data (physionet.org/content/wearable-exam-stress/1.0.0); the form
of StudentGrades.txt was seen in copies of it in public repositories. Dates are shifted, the time of day is not.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.e4_sessions import session_seconds, session_start
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_EXAMS = {"Midterm 1": (5400.0, 100.0), "Midterm 2": (5400.0, 100.0), "Final": (10_800.0, 200.0)}
"""Length in seconds and full marks of each exam."""

_ZONE = "America/Chicago"
_HOUR = 9
_SUBJECT = re.compile(r"^S\d+$")
_GRADE = re.compile(r"^S(?P<number>\d+)\D+(?P<grade>\d+(\.\d+)?)\s*$")

DEFINITION = {
    "name": "exam-stress",
    "description": "Empatica E4 (BVP, EDA, skin temperature, acceleration, heart rate) before, during and after three "
    "university exams of each person, with the grade.",
    "licence": "ODC-BY 1.0",
    "citation": "M. R. Amin, D. Wickramasuriya, R. T. Faghih, A Wearable Exam Stress Dataset for Predicting Cognitive "
    "Performance in Real-World Settings (version 1.0.0), PhysioNet 2022, doi 10.13026/kvkb-aj90",
    "tasks": {"grade": {"kind": "regression", "column": "grade"}},
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set: three recordings a person, each with the exam and its grade in per cent.

    Raises StudyError where the folder holds no such layout, or the grades cannot be read. Raises OutputError where the
    study cannot be written.
    """
    data = source / "Data" if (source / "Data").is_dir() else source
    folders = [p for p in data.iterdir() if _SUBJECT.match(p.name) and any((p / exam).is_dir() for exam in _EXAMS)]
    if not folders:
        raise StudyError(
            f"{source} holds no Data/SN/{{Midterm 1,Midterm 2,Final}} folders; see 'biopercept datasets exam-stress'"
        )
    grades = read_grades(source / "StudentGrades.txt")
    tables = StudyTables()
    for folder in sorted(folders, key=lambda p: int(p.name[1:])):
        _add_person(folder, grades, tables)
    tables.notes.append(
        "Dates are shifted; the exam is taken to begin at 9:00 in US central time, as the data set's notes say, and to "
        "last 1.5 h (final: 3 h), or until the recording ends. The time before and after it has no label."
    )
    return tables.write(output, DEFINITION)


def _add_person(folder: Path, grades: dict[tuple[str, int], float], tables: StudyTables) -> None:
    subject = folder.name
    rows = []
    for exam, (length, _) in _EXAMS.items():
        path = folder / exam
        zero = session_start(path)
        grade = grades.get((exam, int(subject[1:])))
        if zero is None:
            tables.left_out.append(f"{subject} {exam}: no sensor's file is there with a start time.")
            continue
        if grade is None:
            tables.left_out.append(f"{subject} {exam}: StudentGrades.txt has no grade for it.")
            continue
        ids = {"participant_id": subject, "recording": exam.lower().replace(" ", "")}
        begin = exam_start(zero) - zero
        onset, end = max(begin, 0.0), min(begin + length, session_seconds(path))
        if end <= onset:
            tables.left_out.append(f"{subject} {exam}: the wristband was not worn in the exam, by its clock.")
            continue
        event = {"onset": onset, "duration": end - onset, "trial_type": "exam", "grade": grade}
        rows.append(({**ids, "path": path.resolve()}, {**ids, **event}))
    if rows:
        tables.participants.append({"participant_id": subject})
        tables.recordings += [recording for recording, _ in rows]
        tables.events += [event for _, event in rows]


def exam_start(zero: float) -> float:
    """Return the unix time of 9:00 in US central time on the day on which a recording began.

    >>> datetime.fromtimestamp(exam_start(1539434423.0), tz=UTC).isoformat()
    '2018-10-13T14:00:00+00:00'
    """
    day = datetime.fromtimestamp(zero, tz=UTC).astimezone(ZoneInfo(_ZONE))
    return day.replace(hour=_HOUR, minute=0, second=0, microsecond=0).timestamp()


def read_grades(path: Path) -> dict[tuple[str, int], float]:
    """Return the grade of each exam and person in per cent of the full marks.

    Raises StudyError where the file cannot be read, or a section or grade in it is not of the known form.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as fault:
        raise StudyError(f"{path} cannot be read ({fault.strerror}); it holds the grades") from fault
    grades: dict[tuple[str, int], float] = {}
    exam = ""
    for number, line in enumerate(text.splitlines(), 1):
        if "GRADES" in line.upper():
            exam = next((one for one in _EXAMS if one.upper() in line.upper()), "")
        elif match := _GRADE.match(line.strip()):
            if not exam:
                raise StudyError(f"{path.name} line {number}: a grade under none of {', '.join(_EXAMS)}")
            full = _EXAMS[exam][1]
            if float(match["grade"]) > full:
                raise StudyError(
                    f"{path.name} line {number}: {match['grade']} is more than the {full:g} marks of {exam}"
                )
            grades[exam, int(match["number"])] = 100.0 * float(match["grade"]) / full
    if not grades:
        raise StudyError(f"{path.name}: no line such as 'S01 - 78' under 'GRADES - MIDTERM 1'; it holds the grades")
    return grades


DATASET = Dataset(
    name="exam-stress",
    title="A Wearable Exam Stress Dataset for Predicting Cognitive Performance (PhysioNet)",
    content="10 students, Empatica E4 on the wrist (BVP 64 Hz, EDA and temperature 4 Hz, acceleration 32 Hz), three "
    "exams each of 1.5 or 3 h",
    labels="task 'grade': the grade in per cent, one number for each exam. There are 30 numbers of 10 people: no "
    "model can be told from another on so few",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://physionet.org/content/wearable-exam-stress/1.0.0/",
    layout=("StudentGrades.txt", "Data/SN/{Midterm 1,Midterm 2,Final}/{ACC,BVP,EDA,HR,IBI,TEMP,tags}.csv"),
    write_study=write_study,
    dropped="what was recorded before and after the exam (it is another place and another activity, and no label is "
    "given for it); exams without a grade",
    alarms=(
        "one label for a recording: whoever recognises the person predicts much of the grade, so read the audit's "
        "identity probe beside every score",
    ),
    files=("StudentGrades.txt", "Data.zip (unpack it: S1 to S10)"),
)
