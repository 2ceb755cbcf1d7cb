"""The PhysioNet study of EEG in mental arithmetic: rest and counting, one EDF file each, 19 EEG channels and ECG."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_FILE = re.compile(r"^(Subject\d+)_([12])\.edf$")
_CONDITIONS = {"1": "rest", "2": "arithmetic"}

DEFINITION = {
    "name": "eegmat",
    "description": "EEG and ECG at rest and during mental arithmetic (serial subtraction), one file per condition; "
    "rest was always recorded first.",
    "licence": "ODC-BY 1.0",
    "citation": "I. Zyma et al., Electroencephalograms during Mental Arithmetic Task Performance, Data 4(1):14, 2019, "
    "doi 10.3390/data4010014; PhysioNet eegmat 1.0.0, doi 10.13026/C2JQ1P",
    "tasks": {
        "workload": {"classes": {"rest": ["rest"], "arithmetic": ["arithmetic"]}},
        "stress": {"classes": {"rest": ["rest"], "stress": ["arithmetic"]}},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; files ``SubjectNN_1.edf`` are rest, ``SubjectNN_2.edf`` arithmetic.

    The count quality of ``subject-info.csv`` is one value per person, so it goes to participants.tsv and is no label.

    Raises StudyError where the folder holds no such files. Raises OutputError where the study cannot be written.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(source.glob("*.edf")):
        if match := _FILE.match(path.name):
            files.setdefault(match[1], {})[match[2]] = path.resolve()
    if not files:
        raise StudyError(f"{source} holds no SubjectNN_1.edf and SubjectNN_2.edf; see 'biopercept datasets eegmat'")
    about = _read_subjects(source / "subject-info.csv")
    tables = StudyTables()
    for subject, parts in files.items():
        absent = [f"{subject}_{number}.edf" for number in _CONDITIONS if number not in parts]
        if absent:
            tables.left_out.append(
                f"{subject}: {absent[0]} is not there, and one condition alone cannot be told from the person."
            )
            continue
        row = about.get(subject)
        if row is None:
            tables.notes.append(f"{subject} is not in subject-info.csv; age, sex and count quality are unknown.")
        tables.participants.append({"participant_id": subject, **(row or {})})
        for number, condition in _CONDITIONS.items():
            tables.recordings.append(
                {"participant_id": subject, "recording": condition, "path": parts[number], "condition": condition}
            )
    n_absent = len(set(about) - set(files))
    if n_absent:
        tables.notes.append(
            f"{n_absent} of the {len(about)} people in subject-info.csv have no recording in this folder."
        )
    tables.notes.append("Each file has one label and rest was recorded first: scores use 'global' normalisation.")
    return tables.write(output, DEFINITION)


def _read_subjects(path: Path) -> dict[str, dict[str, str]]:
    """Return age, sex and count quality of each person in subject-info.csv; empty where there is no such file.

    Raises StudyError where a row has more cells than the header.
    """
    if not path.is_file():
        return {}
    about = {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            if None in row:
                raise StudyError(f"{path.name} line {number}: more cells than the header names; correct the table")
            about[(row.get("Subject") or "").strip()] = {
                "age": (row.get("Age") or "").strip(),
                "sex": (row.get("Gender") or "").strip(),
                "count_quality": {"0": "bad", "1": "good"}.get((row.get("Count quality") or "").strip(), ""),
            }
    return about
