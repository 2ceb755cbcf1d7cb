"""The PhysioNet non-EEG study: wrist acceleration, temperature, EDA, SpO2 and heart rate in four states; WFDB."""

from __future__ import annotations

import re
from pathlib import Path

from biopercept.errors import RecordingError, StudyError, library_words
from biopercept.recording import Interval
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_RECORD = re.compile(r"^(Subject)(\d+)_(AccTempEDA|SpO2HR)\.hea$")
_STATES = ("Relax", "PhysicalStress", "EmotionalStress", "CognitiveStress")
_N_STAGES = 8

DEFINITION = {
    "name": "noneeg",
    "description": "Wrist acceleration, temperature and EDA at 8 Hz, SpO2 and heart rate at 1 Hz, in relaxation, "
    "physical, emotional and cognitive stress; the order of the states is the same for everybody.",
    "licence": "ODC-BY 1.0",
    "citation": "J. Birjandtalab, D. Cogan, M. Baran Pouyan, M. Nourani, A Non-EEG Biosignals Dataset for Assessment "
    "and Visualization of Neurological Status, IEEE SiPS 2016, doi 10.1109/SiPS.2016.27; PhysioNet noneeg 1.0.0",
    "tasks": {
        "state": {
            "classes": {
                "relax": ["Relax"],
                "physical": ["PhysicalStress"],
                "emotional": ["EmotionalStress"],
                "cognitive": ["CognitiveStress"],
            }
        },
        "stress": {
            "classes": {"rest": ["Relax"], "stress": ["CognitiveStress", "EmotionalStress"]},
            "ignore": ["PhysicalStress"],
        },
    },
    "signals": {
        "a[xyz]": {"modality": "acc", "unit": "g"},
        "temp": {"modality": "temp", "unit": "degC"},
        "EDA": {"modality": "eda", "unit": "uS"},
        "SpO2": {"modality": "spo2", "unit": "%"},
        "hr": {"modality": "hr", "unit": "bpm"},
    },
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set; the two records of a subject are two files of one recording.

    The states come from the ``.atr`` notes, each of which holds until the next or until the record ends. Labels of a
    subject whose notes are not the eight of the protocol are left out.

    Raises StudyError where the folder holds no such records. Raises OutputError where the study cannot be written.
    """
    folder = source / "Dataset" if (source / "Dataset").is_dir() else source
    by_number: dict[int, dict[str, Path]] = {}
    for path in folder.glob("Subject*.hea"):
        if match := _RECORD.match(path.name):
            by_number.setdefault(int(match[2]), {})[match[3]] = path.resolve()
    if not by_number:
        raise StudyError(f"{source} holds no SubjectN_AccTempEDA.hea; see 'biopercept datasets noneeg'")
    tables = StudyTables()
    for number, parts in sorted(by_number.items()):
        _add_subject(f"Subject{number}", parts, tables)
    tables.notes.append(
        "The two records of a subject carry no start time; both are taken to start together, as their nearly equal "
        "lengths suggest."
    )
    tables.notes.append(
        "The first EmotionalStress of each subject lasts only some 40 s (the instructions before the cognitive task), "
        "so windows of 60 s find none in it."
    )
    return tables.write(output, DEFINITION)


def _add_subject(subject: str, parts: dict[str, Path], tables: StudyTables) -> None:
    main = parts.get("AccTempEDA")
    if main is None:
        tables.left_out.append(f"{subject}: the AccTempEDA record, which carries the labels, is not there.")
        return
    try:
        comments, stages = _read_notes(main)
    except RecordingError as fault:
        tables.left_out.append(f"{subject}: {fault}.")
        return
    states = [stage.label for stage in stages]
    if len(states) != _N_STAGES or states[0] != "Relax" or set(states) != set(_STATES):
        tables.left_out.append(f"{subject}: its notes are {', '.join(states)}, not the protocol's eight stages.")
        return
    if "SpO2HR" not in parts:
        tables.notes.append(f"{subject} has no SpO2HR record.")
    paths = [parts[record] for record in ("AccTempEDA", "SpO2HR") if record in parts]
    tables.add_protocol(subject, paths, stages, _about(comments))


def _about(comments: list[str]) -> dict[str, str]:
    """Return age, sex, height and weight from header comments such as "age: 23"."""
    pairs = dict(part.split(":", 1) for part in comments if ":" in part)
    cells = {key.strip(): value.strip() for key, value in pairs.items()}
    wanted = {"age": "age", "gender": "sex", "height/cm": "height_cm", "weight/kg": "weight_kg"}
    return {column: cells.get(key, "") for key, column in wanted.items()}


def _read_notes(header: Path) -> tuple[list[str], list[Interval]]:
    """Return the header's comments and the stages.

    Raises RecordingError where the header or the annotations cannot be read.
    """
    import wfdb

    record = str(header.with_suffix(""))
    try:
        head = wfdb.rdheader(record)
        notes = wfdb.rdann(record, "atr")
        length = head.sig_len / head.fs
        onsets = [sample / head.fs for sample in notes.sample]
        states = [note.strip().strip("\x00") for note in notes.aux_note]
    # wfdb raises errors of many kinds on damaged files; this is its one door here.
    except Exception as fault:
        raise RecordingError(f"{header.name} and its .atr cannot be read ({library_words(fault)})") from fault
    ends = [*onsets[1:], length]
    return list(head.comments), [Interval(a, b - a, state) for a, b, state in zip(onsets, ends, states, strict=True)]
