"""Stress in flight crews (University of Stuttgart, DLR): one ECG lead and a continuous rating in a simulator; CSV."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_FILE = re.compile(r"^(?P<person>P\d+)(?P<scenario>Sc\d+)MRF_mV\.csv(\.gz)?$")
_COLUMNS = "Time;Value;Stress"
_SCENARIOS = tuple(f"Sc{number}" for number in range(1, 6))

DEFINITION = {
    "name": "flight",
    "description": "One ECG lead at 300 Hz and the person's own stress rating (slider, 0 to 10) in scenarios of a "
    "flight simulator, 5 to 7 minutes each, flown one after the other on one day.",
    "licence": "MIT",
    "citation": "P. Lorrig, Stress Detection in Flight Crews, University of Stuttgart and DLR, 2022-2023, "
    "https://github.com/0Patrice/StressDetectionInFlightCrews",
    "tasks": {
        "rating": {"kind": "regression", "signal": "Stress"},
        "level": {"kind": "classification", "signal": "Stress", "classes": {"low": [0, 4], "high": [6, 10]}},
    },
    "signals": {"Value": {"modality": "ecg", "unit": "mV"}},
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; the scenarios of a person are recordings of one session, in their order.

    Every rating is used as it stands: it is on each row of the files, and nothing says which of it to doubt. A file
    that is not of three columns ``Time;Value;Stress`` is left out.

    Raises StudyError where the folder holds no such files. Raises OutputError where the study cannot be written.
    """
    people: dict[str, dict[str, Path]] = {}
    tables = StudyTables()
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        match = _FILE.match(path.name)
        if match is None or not path.is_file():
            continue
        scenarios = people.setdefault(match["person"], {})
        if match["scenario"] in scenarios:
            tables.left_out.append(f"{path.name}: {scenarios[match['scenario']].name} is the same scenario.")
        elif fault := _header_fault(path):
            tables.left_out.append(f"{path.name}: {fault}.")
        else:
            scenarios[match["scenario"]] = path.resolve()
    if not people:
        raise StudyError(f"{source} holds no PNNScNMRF_mV.csv.gz; see 'biopercept datasets flight'")
    for person, scenarios in sorted(people.items()):
        _add_person(person, scenarios, tables)
    tables.notes.append(
        "The rating is the person's own and follows the body by some seconds: lag_seconds of a task in study.yaml says "
        "by how many, 0 where it is not given."
    )
    tables.notes.append(
        "The rating drifts as a scenario goes on, so that a clock tells low from high: read the clock-only score "
        "beside every other."
    )
    return tables.write(output, DEFINITION)


def _add_person(person: str, scenarios: dict[str, Path], tables: StudyTables) -> None:
    if not scenarios:
        tables.left_out.append(f"{person}: none of the files can be used.")
        return
    tables.participants.append({"participant_id": person})
    tables.recordings += [
        {"participant_id": person, "session": "day", "recording": name, "path": path}
        for name, path in sorted(scenarios.items())
    ]
    if absent := [name for name in _SCENARIOS if name not in scenarios]:
        tables.notes.append(f"{person} has no {', '.join(absent)}.")


def _header_fault(path: Path) -> str:
    """Return what is wrong with a file's first line; empty where it names the three columns."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            line = stream.readline(200).decode("utf-8-sig", "replace").strip()
    except zlib.error:
        return "it cannot be read (damaged gzip file)"
    except (OSError, EOFError) as fault:
        return f"it cannot be read ({type(fault).__name__})"
    return "" if line == _COLUMNS else f"its first line is {line[:60]!r}, not {_COLUMNS!r}"
