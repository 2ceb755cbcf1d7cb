"""K-EmoCon: an Empatica E4 in debates of two people, who rated their own arousal and valence afterwards, every 5 s.

Folders, tables and how ratings are placed are those of the code that its authors published (Kaist-ICLab,
K-EmoCon_SupplementaryCodes): a baseline of two minutes from initTime, the debate from startTime to endTime, unix times
in milliseconds; ratings that last longer than the debate lose their beginning.
"""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_SENSORS = ("BVP", "EDA", "TEMP", "HR")
_TIMES = ("initTime", "startTime", "endTime")
_BASELINE_SECONDS = 120.0
_STEP_SECONDS = 5.0
_MOST_MISSING_SECONDS = 10.0

DEFINITION = {
    "name": "k-emocon",
    "description": "Empatica E4 (BVP, EDA, skin temperature, heart rate) at rest and in a debate of two people, with "
    "each person's own ratings of arousal and valence, every 5 s.",
    "licence": "for academic research, on request; see the data set's page",
    "citation": "C. Y. Park et al., K-EmoCon, a multimodal sensor dataset for continuous emotion recognition in "
    "naturalistic conversations, Scientific Data 7:293, 2020, doi 10.1038/s41597-020-00630-y",
    "tasks": {
        "arousal": {"kind": "regression", "column": "arousal", "ignore": ["baseline", "debate"]},
        "valence": {"kind": "regression", "column": "valence", "ignore": ["baseline", "debate"]},
        "state": {"classes": {"baseline": ["baseline"], "debate": ["debate"]}, "ignore": ["rated"]},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set: a recording "debate" of each person.

    Raises StudyError where the folder holds no such layout, or a table cannot be read. Raises OutputError where the
    study cannot be written.
    """
    raw = source / "raw" if (source / "raw").is_dir() else source
    people = {int(p.name): p for p in (raw / "e4_data").glob("*") if p.is_dir() and p.name.isdigit()}
    if not people:
        raise StudyError(f"{source} holds no e4_data/N/E4_BVP.csv; see 'biopercept datasets k-emocon'")
    moments = read_moments(source / "metadata" / "subjects.csv")
    tables = StudyTables()
    for number, folder in sorted(people.items()):
        if number not in moments:
            tables.left_out.append(f"P{number}: metadata/subjects.csv does not say when its debate was.")
            continue
        ratings = raw / "emotion_annotations" / "self_annotations" / f"P{number}.self.csv"
        _add_person(number, folder, moments[number], ratings, tables)
    tables.notes.append(
        "Steps of 5 s with the same arousal and valence are one interval; windows longer than that find none in it."
    )
    return tables.write(output, DEFINITION)


def _add_person(number: int, folder: Path, moments: tuple[float, ...], ratings: Path, tables: StudyTables) -> None:
    subject = f"P{number}"
    starts: dict[Path, float] = {}
    for sensor in _SENSORS:
        file = folder / f"E4_{sensor}.csv"
        first, n_devices = _first_time(file)
        if first is None:
            tables.notes.append(f"{subject}: {file.name} is not there, or has no time.")
        elif n_devices > 1:
            tables.notes.append(f"{subject}: {file.name} holds rows of {n_devices} devices and is left out.")
        else:
            starts[file] = first
    if not starts:
        tables.left_out.append(f"{subject}: no sensor's file can be used.")
        return
    zero = min(starts.values())
    begin, start, end = ((moment - zero) / 1000 for moment in moments)
    spans = [(begin, min(begin + _BASELINE_SECONDS, start), "baseline"), (start, end, "debate")]
    events: list[dict[str, object]] = [
        {"onset": max(a, 0.0), "duration": b - max(a, 0.0), "trial_type": label, "arousal": None, "valence": None}
        for a, b, label in spans
        if b > max(a, 0.0)
    ]
    if ratings.is_file():
        steps = read_ratings(ratings)[-int((end - start) // _STEP_SECONDS) :]
        missing = end - start - _STEP_SECONDS * len(steps)
        if missing > _MOST_MISSING_SECONDS:
            tables.notes.append(
                f"{subject}: its ratings lack {missing:.0f} s of the debate, and nothing says which; they are left out."
            )
        else:
            events += _rated(steps, start) if start >= 0 else []
    else:
        tables.notes.append(f"{subject}: {ratings.name} is not there.")
    ids = {"participant_id": subject, "recording": "debate"}
    tables.participants.append({"participant_id": subject})
    tables.recordings += [{**ids, "path": file.resolve()} for file in starts]
    tables.events += [{**ids, **event} for event in events]


def _rated(steps: list[tuple[float, float]], start: float) -> list[dict[str, object]]:
    """Return an interval for each run of equal ratings."""
    borders = [0, *(i for i, (a, b) in enumerate(pairwise(steps), 1) if a != b), len(steps)]
    return [
        {
            "onset": start + _STEP_SECONDS * a,
            "duration": _STEP_SECONDS * (b - a),
            "trial_type": "rated",
            "arousal": steps[a][0],
            "valence": steps[a][1],
        }
        for a, b in pairwise(borders)
        if b > a
    ]


def _first_time(file: Path) -> tuple[float | None, int]:
    """Return the earliest time in a sensor's file, unix ms, and of how many devices its rows are."""
    first, devices = None, set()
    if not file.is_file():
        return None, 0
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                time = float(row.get("timestamp") or "nan")
            except ValueError:
                continue
            if first is None or time < first:
                first = time
            devices.add(row.get("device_serial") or "")
    return first, len(devices)


def read_moments(path: Path) -> dict[int, tuple[float, ...]]:
    """Return for each person when baseline and debate began and the debate ended, unix ms.

    Raises StudyError where the table cannot be read, or lacks a time.
    """
    moments: dict[int, tuple[float, ...]] = {}
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):  # noqa: B007
                moments[int(row["pid"])] = tuple(float(row[name]) for name in _TIMES)
    except OSError as fault:
        raise StudyError(f"{path} cannot be read ({fault.strerror}); it says when each debate was") from fault
    except (KeyError, TypeError, ValueError, csv.Error) as fault:
        raise StudyError(
            f"{path.name} line {number}: numbers are needed in pid, {', '.join(_TIMES)} ({fault})"
        ) from fault
    return moments


def read_ratings(path: Path) -> list[tuple[float, float]]:
    """Return arousal and valence of each step of 5 s, in order.

    Raises StudyError where a rating is no number from 1 to 5, or the steps are not 5 s.
    """
    steps: list[tuple[float, float]] = []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            try:
                seconds, arousal, valence = (float(row[name]) for name in ("seconds", "arousal", "valence"))
            except (KeyError, TypeError, ValueError) as fault:
                raise StudyError(
                    f"{path.name} line {number}: numbers are needed in seconds, arousal, valence ({fault})"
                ) from fault
            if not (1 <= arousal <= 5 and 1 <= valence <= 5):
                raise StudyError(f"{path.name} line {number}: ratings are from 1 to 5")
            if seconds != _STEP_SECONDS * (len(steps) + 1):
                raise StudyError(f"{path.name} line {number}: the steps are not of 5 s, one after the other")
            steps.append((arousal, valence))
    return steps


DATASET = Dataset(
    name="k-emocon",
    title="K-EmoCon",
    content="32 people in 16 debates of about 10 min, Empatica E4 on the wrist (BVP 64 Hz, EDA and temperature 4 Hz, "
    "heart rate 1 Hz) and two minutes of baseline",
    labels="tasks 'arousal' and 'valence' (1 to 5): the person's own ratings, given afterwards from a video; 'state': "
    "debate against baseline, which is speech against silence",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://doi.org/10.5281/zenodo.3931963",
    layout=(
        "e4_data/N/E4_{BVP,EDA,TEMP,HR}.csv",
        "metadata/subjects.csv",
        "emotion_annotations/self_annotations/PN.self.csv",
    ),
    write_study=write_study,
    dropped="files whose rows are of two devices (P29 to P32), ratings that do not cover the debate, the ratings by "
    "the partner and by others, acceleration and beats (their units could not be confirmed), the headband and the belt",
    alarms=(
        "two people of one debate share what was talked about: keep them in one fold",
        "own ratings predicted far better than by their mean: they agree with physiology at kappa 0.34 at most",
    ),
    files=("e4_data.tar.gz, emotion_annotations.tar.gz, metadata.tar.gz (unpack them side by side)",),
)
