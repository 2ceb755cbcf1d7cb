"""CogWear (PhysioNet): an Empatica E4 at rest and in a Stroop task; 24 people, in a pilot and a second study.

Folders and files are those of the data set's README (pilot/N/{baseline,cognitive_load} of people 0 to 10,
survey_gamification/N/{pre,post}/{baseline,cognitive_load} of people 11 to 24); columns and times (unix seconds) are
those that three public analyses read. One file of a person is called empatica_emda.csv. The headband and the watch that
were worn as well are not used: the times of their rows are those of receipt.
"""

from __future__ import annotations

from pathlib import Path

from biopercept.errors import StudyError
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

_CONDITIONS = ("baseline", "cognitive_load")
_FILES = (("empatica_bvp.csv",), ("empatica_eda.csv", "empatica_emda.csv"), ("empatica_temp.csv",))

DEFINITION = {
    "name": "cogwear",
    "description": "Empatica E4 (BVP, EDA, skin temperature) at rest and in a Stroop task, one folder per condition.",
    "licence": "ODC-BY 1.0",
    "citation": "M. K. Grzeszczyk et al., CogWear: Can we detect cognitive effort with consumer-grade wearables? "
    "(version 1.0.0), PhysioNet 2023, doi 10.13026/5f6t-b637",
    "tasks": {"effort": {"classes": {"rest": ["baseline"], "stroop": ["cognitive_load"]}}},
    "signals": {"bvp": {"modality": "bvp"}, "eda": {"modality": "eda", "unit": "uS"}, "temp*": {"unit": "degC"}},
}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set: a recording for each person, part of the study and condition.

    Raises StudyError where the folder holds no such layout. Raises OutputError where the study cannot be written.
    """
    sessions = [("", folder) for folder in (source / "pilot").glob("*")]
    for part in ("pre", "post"):
        sessions += [(part, folder / part) for folder in (source / "survey_gamification").glob("*")]
    by_person: dict[int, list[tuple[str, Path]]] = {}
    for session, folder in sessions:
        name = folder.parent.name if session else folder.name
        if name.isdigit() and any((folder / condition).is_dir() for condition in _CONDITIONS):
            by_person.setdefault(int(name), []).append((session, folder))
    if not by_person:
        raise StudyError(
            f"{source} holds no pilot/N/{{baseline,cognitive_load}} folders; see 'biopercept datasets cogwear'"
        )
    tables = StudyTables()
    for number, folders in sorted(by_person.items()):
        subject = f"{number:02d}"
        n_before = len(tables.recordings)
        for session, folder in folders:
            _add_session(subject, session, folder, tables)
        if len(tables.recordings) > n_before:
            tables.participants.append({"participant_id": subject})
    tables.notes.append("Each recording has one label: scores use 'global' normalisation.")
    return tables.write(output, DEFINITION)


def _add_session(subject: str, session: str, folder: Path, tables: StudyTables) -> None:
    title = " ".join(part for part in (subject, session) if part)
    by_condition: dict[str, list[Path]] = {}
    for condition in _CONDITIONS:
        options = [[folder / condition / name for name in names] for names in _FILES]
        files = [next((path for path in paths if path.is_file()), None) for paths in options]
        by_condition[condition] = [path for path in files if path is not None]
        if 0 < len(by_condition[condition]) < len(_FILES):
            absent = ", ".join(names[0] for names, path in zip(_FILES, files, strict=True) if path is None)
            tables.notes.append(f"{title} {condition}: {absent} is not there.")
    if not all(by_condition.values()):
        empty = next(condition for condition, files in by_condition.items() if not files)
        tables.left_out.append(
            f"{title}: {empty} has no file of the wristband, and one condition alone cannot be told from the person."
        )
        return
    for condition, paths in by_condition.items():
        ids = {"participant_id": subject, "session": session or "pilot", "recording": condition}
        tables.recordings += [{**ids, "path": path.resolve(), "condition": condition} for path in paths]


DATASET = Dataset(
    name="cogwear",
    title="CogWear (PhysioNet)",
    content="24 people, Empatica E4 on the wrist (BVP 64 Hz, EDA and temperature 4 Hz), a Stroop task and a rest of a "
    "few minutes each, 13 of them in two sessions",
    labels="task 'effort': the Stroop task against rest. Each recording has one label, and the task came before the "
    "rest for everybody: read the clock-only score beside every other",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://physionet.org/content/consumer-grade-wearables/1.0.0/",
    layout=(
        "pilot/N/{baseline,cognitive_load}/empatica_{bvp,eda,temp}.csv",
        "survey_gamification/N/{pre,post}/{baseline,cognitive_load}/empatica_{bvp,eda,temp}.csv",
    ),
    write_study=write_study,
    dropped="the survey (no condition), the headband and the watch (their rows carry the times of receipt), people "
    "with one of the two conditions",
    alarms=("a model of temperature alone close to the full one: it tells how long the wristband was worn",),
    files=("the whole folder",),
)
