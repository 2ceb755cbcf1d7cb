"""MAUS: pulse at a finger and at the wrist, ECG and skin conductance in six n-back trials; 22 people.

Folders, columns, rates, the trials and which of them are 0-, 2- and 3-back are those of the code that its authors
published (rickwu11/MAUS_dataset_baseline_system); licence and checksum are those that a public program gives which
reads the archive. Nothing found says in which unit ECG and GSR are, nor how long after each other the trials were.
"""

from __future__ import annotations

import re
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.loaders.readers.published_tables import TRIAL_APART_SECONDS, TRIALS
from biopercept.recording import Interval
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_FILES = ("inf_ecg.csv", "inf_gsr.csv", "inf_ppg.csv", "pixart.csv")
_TRIAL_SECONDS = 300.0
_PERSON = re.compile(r"^\d{3}$")

DEFINITION = {
    "name": "maus",
    "description": "Pulse at a finger and at the wrist, ECG and skin conductance in six n-back trials of five minutes.",
    "licence": "CC BY 4.0",
    "citation": "W.-K. Beh, Y.-H. Wu, A.-Y. Wu, MAUS: A Dataset for Mental Workload Assessment on N-back Task Using "
    "Wearable Sensor, arXiv 2111.02561, 2021; IEEE DataPort, doi 10.21227/q4td-yd35",
    "tasks": {
        "workload": {"classes": {"low": ["0-back"], "high": ["2-back", "3-back"]}},
        "n-back": {"kind": "ordinal", "classes": {"0": ["0-back"], "2": ["2-back"], "3": ["3-back"]}},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set, a recording "protocol" of each person.

    Raises StudyError where the folder holds no such layout. Raises OutputError where the study cannot be written.
    """
    places = [source, source / "MAUS", source / "Data" / "Raw_data", source / "MAUS" / "Data" / "Raw_data"]
    folders = [p for place in places if place.is_dir() for p in sorted(place.iterdir()) if _PERSON.match(p.name)]
    if not folders:
        raise StudyError(f"{source} holds no Data/Raw_data/NNN folders; see 'biopercept datasets maus'")
    tables = StudyTables()
    for folder in folders:
        paths = [folder / name for name in _FILES if (folder / name).is_file()]
        faults = [f"{path.name} has no columns {', '.join(TRIALS)}" for path in paths if not _has_trials(path)]
        if not paths or faults:
            tables.left_out.append(
                f"{folder.name}: {faults[0] if faults else 'it holds none of ' + ', '.join(_FILES)}."
            )
            continue
        absent = [name for name in _FILES if not (folder / name).is_file()]
        if absent:
            tables.notes.append(f"{folder.name}: {', '.join(absent)} is not there.")
        trials = [
            Interval(number * TRIAL_APART_SECONDS, _TRIAL_SECONDS, label)
            for number, label in enumerate(TRIALS.values())
        ]
        tables.add_protocol(folder.name, [path.resolve() for path in paths], trials, {})
    tables.notes.append(
        f"How long after each other the trials were is not published: they lie {TRIAL_APART_SECONDS:.0f} s apart, in "
        "their order."
    )
    tables.notes.append(
        "Nothing published says in which unit ECG and GSR are, so they are not used; whoever knows it writes it in "
        "study.yaml (signals: {ECG: {unit: ...}, GSR: {unit: ...}})."
    )
    return tables.write(output, DEFINITION)


def _has_trials(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            header = stream.readline(4096)
    except OSError:
        return False
    return set(TRIALS) <= {cell.strip(' "\r\n') for cell in header.split(",")}


DATASET = Dataset(
    name="maus",
    title="MAUS (Mental workload Assessment on n-back task Using wearable Sensor)",
    content="22 people, pulse at a finger (256 Hz) and at the wrist (100 or 102.5 Hz), ECG and skin conductance "
    "(256 Hz, unit not published), six n-back trials of five minutes",
    labels="task 'workload': 0-back against 2- and 3-back; 'n-back': the three in their order. Each trial has one "
    "label, and 0-back was first and last for everybody: read the clock-only score beside every other",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://ieee-dataport.org/open-access/maus-dataset-mental-workload-assessment-n-back-task-using-wearable-"
    "sensor",
    layout=("[MAUS/]Data/Raw_data/NNN/{inf_ecg,inf_gsr,inf_ppg,pixart}.csv, columns Trial 1:0back ... Trial 6:0back",),
    write_study=write_study,
    dropped="the resting recordings (no trial, and one person has none); the questionnaires (NASA-TLX, sleep: the form "
    "of their tables could not be confirmed)",
    alarms=(
        "accuracy of 0.67: it is that of the majority, for four of six trials are of high workload; read the balanced "
        "accuracy",
        "accuracy far above 0.72 across people, which its authors reach with the ECG",
        "a clock-only score close to the model's: the order of the trials is the same for everybody",
    ),
    files=("MAUS.zip, sha256 c15fb4f7b54ceb63fea46166215891cedadd444b02b9c17f29252087aa5be08f (unpack it)",),
)
