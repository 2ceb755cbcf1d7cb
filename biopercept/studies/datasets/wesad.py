"""WESAD: a chest belt (RespiBAN, 700 Hz) and an Empatica E4 in baseline, stress, amusement and meditation; 15 people.

Layout, labels and the clock are those of the data set's readme (wesad_readme.pdf). SX.pkl is read, in which the authors
placed the wrist on the belt's clock by double taps; it is opened by a reader that admits arrays and containers alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.readers.wesad import LABELS, conditions, read_wesad
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_FOLDER = re.compile(r"^S\d{1,2}$")

DEFINITION = {
    "name": "wesad",
    "description": "RespiBAN on the chest (ECG, EDA, EMG, respiration, temperature, acceleration) and Empatica E4 on "
    "the wrist, in baseline, stress (Trier Social Stress Test), amusement (film clips) and meditation.",
    "licence": "for scientific, non-commercial use with the paper cited; see the data set's page",
    "citation": "P. Schmidt, A. Reiss, R. Duerichen, C. Marberger, K. Van Laerhoven, Introducing WESAD, a Multimodal "
    "Dataset for Wearable Stress and Affect Detection, ICMI 2018, doi 10.1145/3242969.3242985",
    "tasks": {
        "stress": {"classes": {"rest": ["baseline", "amusement"], "stress": ["stress"]}, "ignore": ["meditation"]},
        "condition": {
            "classes": {"baseline": ["baseline"], "stress": ["stress"], "amusement": ["amusement"]},
            "ignore": ["meditation"],
        },
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set, a recording "protocol" of each person.

    Raises StudyError where the folder holds no such layout. Raises OutputError where the study cannot be written.
    """
    data = source / "WESAD" if (source / "WESAD").is_dir() else source
    folders = [p for p in data.iterdir() if p.is_dir() and _FOLDER.match(p.name)]
    if not folders:
        raise StudyError(f"{source} holds no SX/SX.pkl; see 'biopercept datasets wesad'")
    tables = StudyTables()
    for folder in sorted(folders, key=lambda p: int(p.name[1:])):
        file = folder / f"{folder.name}.pkl"
        if not file.is_file():
            tables.left_out.append(f"{folder.name}: {file.name} is not there, which holds its labels.")
            continue
        try:
            content = read_wesad(file)
            stages = conditions(file, content)
        except RecordingError as fault:
            tables.left_out.append(f"{folder.name}: {fault}.")
            continue
        if content.get("subject") != folder.name:
            tables.left_out.append(f"{folder.name}: {file.name} says that it is of {content.get('subject')!r}.")
            continue
        absent = [label for label in LABELS.values() if label not in {stage.label for stage in stages}]
        if absent:
            tables.notes.append(f"{folder.name}: no sample is labelled {', '.join(absent)}.")
        tables.add_protocol(folder.name, [file.resolve()], stages, {})
    return tables.write(output, DEFINITION)


DATASET = Dataset(
    name="wesad",
    title="WESAD (Wearable Stress and Affect Detection)",
    content="15 people, RespiBAN on the chest at 700 Hz (ECG, EDA, EMG, respiration, temperature, acceleration) and "
    "Empatica E4 on the wrist (BVP, EDA, temperature, acceleration), about 1.6 h each",
    labels="task 'stress': the Trier Social Stress Test against baseline and amusement; 'condition': the three apart. "
    "Meditation is ignored. Baseline comes first; the stress is spoken and stood, so motion alone tells it",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://archive.ics.uci.edu/dataset/465/wesad+wearable+stress+and+affect+detection (links the archive)",
    layout=("SX/SX.pkl (S2 to S17 without S12)",),
    write_study=write_study,
    dropped="labels 0 (between the conditions) and 5, 6, 7 (to be ignored, its readme says); S1 and S12 are not in the "
    "data set (a sensor failed); a person whose file is damaged or names another person",
    alarms=(
        "three classes above 0.90",
        "a motion-only score close to the model's: motion alone reaches 0.885 for stress",
        "a spread over people below 0.03; n = 15 shows no difference under 0.07",
    ),
    files=("WESAD.zip, about 2.1 GB (unpack it); of each folder only SX.pkl is read",),
)
