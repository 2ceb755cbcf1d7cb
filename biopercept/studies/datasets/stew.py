"""STEW: EEG of an Emotiv EPOC at rest and in the multitasking test SIMKAP, with each person's ratings of workload.

Files are those of its page at IEEE DataPort (doi 10.21227/44r8-ya50). What was confirmed of them: 14 columns and 19200
rows of microvolts on the headset's offset, in steps of its converter (0.51 uV), in files of the data set that a public
repository holds (Chimue32/INEL4998-EEG-Workload-Pipeline); the lines of ratings.txt (person, at rest, in the test) in
the loaders of three others; licence and scale (1 to 9) in the card of the benchmark MONSTER (monster-monash/STEW).
"""

from __future__ import annotations

from pathlib import Path

from biopercept.errors import StudyError
from biopercept.loaders.readers.stew import FILE
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_CONDITIONS = {"lo": "rest", "hi": "multitasking"}
_SCALE = (1.0, 9.0)

DEFINITION = {
    "name": "stew",
    "description": "EEG (14 channels) at rest and in a test of simultaneous capacity, one file each; rest came first.",
    "licence": "CC BY 4.0",
    "citation": "W. L. Lim, O. Sourina, L. P. Wang, STEW: Simultaneous Task EEG Workload Data Set, IEEE Transactions "
    "on Neural Systems and Rehabilitation Engineering 26(11):2106-2114, 2018, doi 10.1109/TNSRE.2018.2872924",
    "tasks": {
        "workload": {"classes": {"rest": ["rest"], "multitasking": ["multitasking"]}},
        "rating": {"kind": "regression", "column": "rating"},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; a person has the recordings "rest" and "multitasking".

    Raises StudyError where the folder holds no such files, or ratings.txt cannot be read. Raises OutputError where the
    study cannot be written.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(source.glob("sub*.txt")):
        if match := FILE.fullmatch(path.name):
            files.setdefault(match[1], {})[match[2]] = path.resolve()
    if not files:
        raise StudyError(f"{source} holds no subNN_lo.txt and subNN_hi.txt; see 'biopercept datasets stew'")
    ratings = read_ratings(source / "ratings.txt")
    tables = StudyTables()
    for number, parts in files.items():
        subject = f"sub{number}"
        absent = [f"{subject}_{part}.txt" for part in _CONDITIONS if part not in parts]
        if absent:
            tables.left_out.append(
                f"{subject}: {absent[0]} is not there, and one condition alone cannot be told from the person."
            )
            continue
        rated = ratings.get(int(number), {})
        if not rated:
            tables.notes.append(f"{subject} has no ratings in ratings.txt.")
        tables.participants.append({"participant_id": subject})
        tables.recordings += [
            {
                "participant_id": subject,
                "recording": condition,
                "path": parts[part],
                "condition": condition,
                "rating": rated.get(part),
            }
            for part, condition in _CONDITIONS.items()
        ]
    tables.notes.append("Each file has one label and rest was recorded first: scores use 'global' normalisation.")
    return tables.write(output, DEFINITION)


def read_ratings(path: Path) -> dict[int, dict[str, float]]:
    """Return each person's ratings at rest ("lo") and in the test ("hi"); empty where there is no such file.

    Raises StudyError where a line is not a person and two ratings from 1 to 9.
    """
    if not path.is_file():
        return {}
    ratings: dict[int, dict[str, float]] = {}
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            person, low, high = (float(cell) for cell in line.split(","))
        except ValueError as fault:
            raise StudyError(
                f"{path.name} line {number}: a person and two ratings are needed, such as '1, 2, 8' "
                f"({line.strip()[:40]!r})"
            ) from fault
        if not all(_SCALE[0] <= value <= _SCALE[1] for value in (low, high)):
            raise StudyError(f"{path.name} line {number}: ratings are from 1 to 9 ({line.strip()[:40]!r})")
        ratings[int(person)] = {"lo": low, "hi": high}
    return ratings


DATASET = Dataset(
    name="stew",
    title="STEW (Simultaneous Task EEG Workload)",
    content="48 people, 14 EEG channels of an Emotiv EPOC at 128 Hz, 150 s of rest and 150 s of a multitasking test "
    "(SIMKAP)",
    labels="task 'workload': the test against rest; 'rating': what the person said the load was, 1 to 9, one number "
    "for each file. Each file has one label and rest was recorded first",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://ieee-dataport.org/open-access/stew-simultaneous-task-eeg-workload-dataset (an account is needed)",
    layout=("subNN_lo.txt, subNN_hi.txt", "ratings.txt (for the ratings; may be absent)"),
    write_study=write_study,
    dropped="people with one of the two files; EEG that does not lie on the headset's offset has no unit and is not "
    "used. Ratings are cut into no classes: one number for a file, high in the test and low at rest, is the condition "
    "again",
    alarms=(
        "a rating predicted far better across all files than among those of the test alone: it is the condition",
        "one label for a file: whoever recognises the person knows it, so read the audit's identity probe",
        "rest comes first: compare with the clock-only score",
        "three levels of the rating above 0.75: published ones reach 0.69 to 0.75",
    ),
    files=("sub01_hi.txt to sub48_lo.txt, 4.3 MB each (19200 rows of 14 columns)", "ratings.txt"),
)
