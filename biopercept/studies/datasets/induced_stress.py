"""The PhysioNet study of induced stress and structured exercise: an Empatica E4, 36 people, three sessions each.

Files and protocols are those of the data set's README (physionet.org/content/wearable-device-dataset/1.0.1): people
S01 to S18 followed the first version, f01 to f18 the second. Which presses of the button (tags.csv) begin and end a
stage was read in three analyses of the data that follow the authors' notebook; they agree on every stage but the
baseline, which is taken from the presses only where it lasts as long as the protocol says. The faults are those of
data_constraints.txt.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.e4_sessions import button_presses, session_start
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_SESSIONS = ("STRESS", "AEROBIC", "ANAEROBIC")
_FOLDER = re.compile(r"^(?P<subject>[Sf]\d\d)(?P<part>_[ab])?$")

_STAGES = {
    "S": {
        (3, 4): "stroop",
        (4, 5): "first rest",
        (5, 6): "mental arithmetic",
        (6, 7): "second rest",
        (7, 8): "real opinion",
        (9, 10): "opposite opinion",
        (11, 12): "subtraction",
    },
    "f": {
        (2, 3): "mental arithmetic",
        (3, 4): "first rest",
        (4, 5): "real opinion",
        (6, 7): "opposite opinion",
        (7, 8): "second rest",
        (8, 9): "subtraction",
    },
}
"""Presses of the button that begin and end each stage, counted from 1, by the version of the protocol."""

_N_PRESSES = {"S": 13, "f": 9}
_BASELINE = {"S": ((1, 2), (2, 3)), "f": ((1, 2),)}
_BASELINE_SECONDS = (150.0, 240.0)
"""Three minutes by the protocol, ended by hand."""

_REPEATED_FROM = {("STRESS", "S02"): 1548.0}
"""Second from which a recording is a copy of its own beginning."""

_COVERED = {("STRESS", "f07")}
"""Sessions with the sensors of pulse and temperature under the dock's cover: EDA and acceleration alone are valid."""

_INCOMPLETE = {("AEROBIC", "S03"), ("AEROBIC", "S07"), ("ANAEROBIC", "S06")}
_RATINGS = {
    "Baseline": "baseline",
    "Stroop": "stroop",
    "First Rest": "first rest",
    "TMCT": "mental arithmetic",
    "Second Rest": "second rest",
    "Real Opinion": "real opinion",
    "Opposite Opinion": "opposite opinion",
    "Subtract": "subtraction",
}
"""Columns of Stress_Level_v1.csv and Stress_Level_v2.csv -> stage."""

_REST = ["baseline", "first rest", "second rest"]
_STRESS = ["stroop", "mental arithmetic", "real opinion", "opposite opinion", "subtraction"]
_EXERCISE = ["aerobic", "anaerobic"]

DEFINITION = {
    "name": "induced-stress",
    "description": "Empatica E4 (BVP, EDA, skin temperature, acceleration, heart rate) in mental stress, and in "
    "aerobic and anaerobic cycling; the order of the stages is the same for everybody of one version.",
    "licence": "ODC-BY 1.0",
    "citation": "A. Hongn, F. Bosch, L. Prado, P. Bonomini, Wearable Device Dataset from Induced Stress and Structured "
    "Exercise Sessions (version 1.0.1), PhysioNet 2025, doi 10.13026/he0v-tf17",
    "tasks": {
        "stress": {"classes": {"rest": _REST, "stress": _STRESS}, "ignore": _EXERCISE},
        "state": {"classes": {"rest": _REST, "stress": _STRESS, "exercise": _EXERCISE}},
        "rating": {"kind": "regression", "column": "rating"},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; a person has up to three recordings: stress, aerobic and anaerobic.

    Raises StudyError where the folder holds no such layout, or a table in it cannot be read. Raises OutputError where
    the study cannot be written.
    """
    data = source / "Wearable_Dataset" if (source / "Wearable_Dataset").is_dir() else source
    people: dict[str, list[tuple[str, Path]]] = {}
    for session in _SESSIONS:
        for folder in sorted((data / session).glob("*")):
            if folder.is_dir() and (match := _FOLDER.match(folder.name)):
                people.setdefault(match["subject"], []).append((session, folder))
    if not people:
        raise StudyError(
            f"{source} holds no Wearable_Dataset/{{STRESS,AEROBIC,ANAEROBIC}}/{{SNN,fNN}} folders; "
            "see 'biopercept datasets induced-stress'"
        )
    ratings = {version: read_ratings(source / f"Stress_Level_v{n}.csv") for version, n in (("S", 1), ("f", 2))}
    tables = StudyTables()
    for subject, folders in sorted(people.items()):
        n_before = len(tables.recordings)
        for session, folder in folders:
            _add_session(session, folder, ratings[subject[0]].get(subject, {}), tables)
        if len(tables.recordings) > n_before:
            tables.participants.append({"participant_id": subject, "protocol_version": 1 if subject[0] == "S" else 2})
    tables.notes.append(
        "Exercise is labelled from the first press of the button to the last but one: warming up and cooling down are "
        "in it."
    )
    return tables.write(output, DEFINITION)


def _add_session(session: str, folder: Path, ratings: Mapping[str, float], tables: StudyTables) -> None:
    """Add one session's recording and labels, or the sentence that says why it is left out."""
    match = _FOLDER.match(folder.name)
    if match is None:
        return
    subject, part = match["subject"], match["part"] or ""
    title = f"{folder.name} {session.lower()}"
    problem = ""
    if (session, subject) in _INCOMPLETE:
        problem = "the protocol was not completed, so the presses of the button are not those of its stages"
    elif part and not (session == "STRESS" and folder.name == "f14_b"):
        problem = "the session was cut in two, so the presses of the button are not those of its stages"
    zero = session_start(folder)
    if not problem and zero is None:
        problem = "no sensor's file gives a start time"
    if problem or zero is None:
        tables.left_out.append(f"{title}: {problem}.")
        return
    presses = [press - zero for press in button_presses(folder / "tags.csv")]
    stages, problem = _stages(session, subject, presses, tables.notes)
    if problem:
        tables.left_out.append(f"{title}: {problem}.")
        return
    end = _REPEATED_FROM.get((session, subject))
    if end is not None:
        lost = [label for _, stop, label in stages if stop > end]
        stages = [stage for stage in stages if stage[1] <= end]
        tables.notes.append(f"{title}: from {end:.0f} s on it is a copy of itself; left out are {', '.join(lost)}.")
    ids = {"participant_id": subject, "recording": session.lower()}
    paths = [folder]
    if (session, subject) in _COVERED:
        paths = [folder / "EDA.csv", folder / "ACC.csv"]
        tables.notes.append(
            f"{title}: a cover was left on the pulse and temperature sensors; EDA and ACC alone are used."
        )
    tables.recordings += [{**ids, "path": path.resolve()} for path in paths]
    tables.events += [
        {**ids, "onset": start, "duration": stop - start, "trial_type": label, "rating": ratings.get(label)}
        for start, stop, label in stages
    ]


def _stages(
    session: str, subject: str, presses: Sequence[float], notes: list[str]
) -> tuple[list[tuple[float, float, str]], str]:
    """Return the labelled stages (start, end, label), or what is wrong with the presses."""
    if session != "STRESS":
        if len(presses) < 3 or presses[0] < 0 or presses[-2] <= presses[0]:
            return [], f"{len(presses)} presses of the button do not tell when the exercise began and ended"
        return [(presses[0], presses[-2], session.lower())], ""
    version = subject[0]
    if len(presses) != _N_PRESSES[version]:
        return [], f"{len(presses)} presses of the button, the protocol has {_N_PRESSES[version]}"
    if presses[0] < 0:
        return [], "a press of the button is before the recording's start"
    stages = [(presses[a - 1], presses[b - 1], label) for (a, b), label in _STAGES[version].items()]
    low, high = _BASELINE_SECONDS
    fitting = [(presses[a - 1], presses[b - 1]) for a, b in _BASELINE[version]]
    fitting = [(start, stop) for start, stop in fitting if low <= stop - start <= high]
    if len(fitting) == 1:
        stages.insert(0, (*fitting[0], "baseline"))
    else:
        notes.append(
            f"{subject} stress: no presses of the button are three minutes apart, so its baseline has no label."
        )
    return [stage for stage in stages if stage[1] > stage[0]], ""


def read_ratings(path: Path) -> dict[str, dict[str, float]]:
    """Return each person's rating of each stage (0 to 10); empty where there is no such table.

    Raises StudyError where a row has more cells than the header, or a rating is no number.
    """
    if not path.is_file():
        return {}
    ratings: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.reader(stream)
        header = [cell.strip() for cell in next(rows, [])]
        for number, row in enumerate(rows, 2):
            if len(row) > len(header):
                raise StudyError(f"{path.name} line {number}: more cells than the header names; correct the table")
            cells = {name: cell.strip() for name, cell in zip(header[1:], row[1:], strict=False) if cell.strip()}
            try:
                known = {_RATINGS[name]: float(cell) for name, cell in cells.items() if name in _RATINGS}
            except ValueError as fault:
                raise StudyError(f"{path.name} line {number}: a rating is no number ({fault})") from fault
            if row and _FOLDER.match(row[0].strip()):
                ratings[row[0].strip()] = known
    return ratings


DATASET = Dataset(
    name="induced-stress",
    title="Wearable Device Dataset from Induced Stress and Structured Exercise Sessions (PhysioNet)",
    content="36 people, Empatica E4 on the wrist (BVP 64 Hz, EDA and temperature 4 Hz, acceleration 32 Hz): a session "
    "of mental stress, and for 31 of them aerobic and anaerobic cycling",
    labels="task 'stress': five stressors against baseline and rests; 'state': the same with exercise as a third "
    "class, which is what tells whether a model takes effort for stress; 'rating': self-reported stress, 0 to 10, by "
    "stage. The order is fixed: read the clock-only score beside every other",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://physionet.org/content/wearable-device-dataset/1.0.1/",
    layout=(
        "Wearable_Dataset/{STRESS,AEROBIC,ANAEROBIC}/{SNN,fNN}/{ACC,BVP,EDA,HR,IBI,TEMP,tags}.csv",
        "Stress_Level_v1.csv, Stress_Level_v2.csv (for the ratings; may be absent)",
    ),
    write_study=write_study,
    dropped="sessions cut in two by a lost connection (f14_a, S11, S16: their presses cannot be counted), exercise "
    "that was not completed (S03, S07, S06), stages of S02 after 1548 s (a copy), pulse and temperature of f07 (under "
    "a cover), the minutes between the opinions, and baselines that the presses do not show",
    alarms=(
        "a motion-only score close to the model's in the task 'state': effort moves the wrist",
        "a clock-only score close to the model's in the task 'stress'",
        "a model of rest and stress alone calls most of exercise stress (69 % of windows in one study)",
    ),
    files=("the whole folder",),
)
