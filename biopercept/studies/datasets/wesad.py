"""WESAD: a chest belt (RespiBAN, 700 Hz) and an Empatica E4 in baseline, stress, amusement and meditation; 15 people.

Layout, labels, units and the clock are those of the data set's readme (wesad_readme.pdf). Of each person either SX.pkl
is read, in which the authors placed the wrist on the belt's clock by double taps (it is opened by a reader that admits
arrays and containers alone), or the devices' own files with SX_quest.csv, which gives each condition in minutes and
seconds from the belt's start and was compared with the tables of all 15 people. The wristband then lies where the two
clocks say, the belt's computer in German time (in which alone the devices of S2 overlap), until `align: auto` has moved
it by what both moved. The terms are those of the data set's disclaimer as two public programs quote it; the size is
that which a third downloads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.loading import load_recording
from biopercept.loaders.readers.opensignals_text import read_device
from biopercept.loaders.readers.wesad import LABELS, conditions, read_wesad
from biopercept.recording import Interval
from biopercept.studies.datasets.description import Dataset
from biopercept.studies.datasets.writing import Cells, ImportSummary, StudyTables

_FOLDER = re.compile(r"^S\d{1,2}$")
_CONDITIONS = {
    "Base": "baseline",
    "TSST": "stress",
    "Fun": "amusement",
    "Medi 1": "meditation",
    "Medi 2": "meditation",
}
"""Words of SX_quest.csv; bRead, fRead and sRead are to be ignored, the readme says."""
_MINUTES = re.compile(r"(?P<minute>\d{1,3})(?:\.(?P<second>\d{1,2}))?")
_UNRATED: Cells = {"valence": None, "arousal": None}
_ZONE = "Europe/Berlin"
_LARGEST_TABLE = 1 << 20

DEFINITION = {
    "name": "wesad",
    "description": "RespiBAN on the chest (ECG, EDA, EMG, respiration, temperature, acceleration) and Empatica E4 on "
    "the wrist, in baseline, stress (Trier Social Stress Test), amusement (film clips) and meditation.",
    "licence": "for scientific, non-commercial purposes, with credit to the owners",
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
_RATED = {
    "valence": {"kind": "regression", "column": "valence"},
    "arousal": {"kind": "regression", "column": "arousal"},
}
_OF_DEVICES = {"align": "auto", "signals": {"HR": {"modality": "unknown"}, "IBI": {"modality": "unknown"}}}
"""What a study of the devices' own files says: clocks are to be matched, and HR and IBI are derived, to be ignored."""


@dataclass(frozen=True)
class Quest:
    """What SX_quest.csv says: the conditions in time order, and of each the valence and arousal (1 to 9), if any."""

    stages: tuple[Interval, ...]
    ratings: tuple[Cells, ...]


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
        quest = _quest(folder, tables)
        if _add_placed(folder, quest, tables):
            continue
        _add_devices(folder, quest, tables)
    definition = dict(DEFINITION)
    if any(row.get("valence") is not None for row in tables.events):
        definition["tasks"] = {**DEFINITION["tasks"], **_RATED}  # type: ignore[dict-item]
    if any("offset_seconds" in row for row in tables.recordings):
        definition.update(_OF_DEVICES)
    return tables.write(output, definition)


def _quest(folder: Path, tables: StudyTables) -> Quest | None:
    """Return what a person's table says; None, with a note, where it is not there or cannot be read."""
    try:
        return read_quest(folder / f"{folder.name}_quest.csv")
    except StudyError as fault:
        tables.notes.append(f"{folder.name}: {fault}.")
        return None


def _add_placed(folder: Path, quest: Quest | None, tables: StudyTables) -> bool:
    """Add a person by SX.pkl; return whether that is done, or the person is left out for what the file says."""
    file = folder / f"{folder.name}.pkl"
    belt = folder / f"{folder.name}_respiban.txt"
    if not file.is_file():
        return False
    try:
        content = read_wesad(file)
        stages = conditions(file, content)
    except RecordingError as fault:
        if belt.is_file() and quest is not None:
            tables.notes.append(f"{folder.name}: {fault}; the devices' own files are used.")
            return False
        tables.left_out.append(f"{folder.name}: {fault}.")
        return True
    if content.get("subject") != folder.name:
        tables.left_out.append(f"{folder.name}: {file.name} says that it is of {content.get('subject')!r}.")
        return True
    absent = [label for label in LABELS.values() if label not in {stage.label for stage in stages}]
    if absent:
        tables.notes.append(f"{folder.name}: no sample is labelled {', '.join(absent)}.")
    tables.add_protocol(folder.name, [file.resolve()], stages, {}, _ratings(folder.name, quest, stages, tables))
    return True


def _ratings(subject: str, quest: Quest | None, stages: Sequence[Interval], tables: StudyTables) -> Sequence[Cells]:
    """Return the ratings of each stage; empty cells, with a note, where the table has other conditions."""
    if quest is not None and [stage.label for stage in quest.stages] == [stage.label for stage in stages]:
        return quest.ratings
    if quest is not None:
        tables.notes.append(f"{subject}: its table has other conditions than its labels, so that none is rated.")
    return [_UNRATED] * len(stages)


def _add_devices(folder: Path, quest: Quest | None, tables: StudyTables) -> None:
    """Add a person by the files of the two devices, the wristband where the clocks say, or say why not."""
    subject = folder.name
    belt = folder / f"{subject}_respiban.txt"
    if not belt.is_file() or quest is None:
        tables.left_out.append(f"{subject}: neither {subject}.pkl is there nor {belt.name} with {subject}_quest.csv.")
        return
    try:
        started_at = read_device(belt).started_at
    except RecordingError as fault:
        tables.left_out.append(f"{subject}: {fault}.")
        return
    offsets = {belt.resolve(): 0.0}
    wrists = [path for path in (folder / f"{subject}_E4_Data", folder / f"{subject}_E4_Data.zip") if path.exists()]
    try:
        wrist = load_recording(wrists[0]) if wrists else None
    except RecordingError as fault:
        wrist = None
        tables.notes.append(f"{subject}: {fault}.")
    begun = wrist.started_at if wrist is not None else None
    if wrist is not None and begun is not None and started_at is not None:
        offset = (begun - started_at.replace(tzinfo=ZoneInfo(_ZONE))).total_seconds()
        if -wrist.duration_seconds < offset < max(stage.end_seconds for stage in quest.stages):
            offsets[wrists[0].resolve()] = offset
    if len(offsets) == 1:
        tables.notes.append(f"{subject}: no wristband that was worn while the belt recorded, by the clocks of both.")
    tables.add_protocol(subject, offsets, quest.stages, {}, quest.ratings)


def read_quest(path: Path) -> Quest:
    """Return the conditions and ratings of a person by SX_quest.csv.

    Times are minutes and seconds with a point between them, of which a last 0 is not written: 50.3 is 50 min 30 s.

    Raises StudyError where the table cannot be read, or a line of it is not as the readme says.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_TABLE).decode("utf-8-sig", errors="replace")
    except OSError as fault:
        raise StudyError(f"{path.name} cannot be read ({fault.strerror})") from fault
    lines: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        word, *cells = (cell.strip() for cell in line.split(";"))
        lines.setdefault(word.lstrip("# ").rstrip(":").upper(), []).append([cell for cell in cells if cell])
    order, starts, ends = (lines.get(word, [[]])[0] for word in ("ORDER", "START", "END"))
    if not order or not len(order) == len(starts) == len(ends):
        raise StudyError(f"{path.name}: ORDER, START and END must be lines of as many cells each")
    rated = [place for place, name in enumerate(order) if not name.endswith("Read")]
    strange = next((order[place] for place in rated if order[place] not in _CONDITIONS), None)
    if strange is not None:
        raise StudyError(f"{path.name}: ORDER names {strange[:40]!r}, known are {', '.join(_CONDITIONS)}")
    answers = lines.get("DIM", [])
    ratings = [_rating(path, answer) for answer in answers] if len(answers) == len(rated) else []
    stages: list[tuple[Interval, Cells]] = []
    for number, place in enumerate(rated):
        begin, end = (_seconds(path, cell) for cell in (starts[place], ends[place]))
        if end <= begin:
            raise StudyError(f"{path.name}: {order[place]} ends at {ends[place]}, before its start at {starts[place]}")
        interval = Interval(begin, end - begin, _CONDITIONS[order[place]])
        stages.append((interval, ratings[number] if ratings else _UNRATED))
    stages.sort(key=lambda stage: stage[0].onset_seconds)
    return Quest(tuple(stage for stage, _ in stages), tuple(rating for _, rating in stages))


def _seconds(path: Path, cell: str) -> float:
    match = _MINUTES.fullmatch(cell)
    second = int((match["second"] or "0").ljust(2, "0")) if match else 60
    if match is None or second >= 60:
        raise StudyError(f"{path.name}: {cell[:40]!r} is no time in minutes.seconds")
    return 60.0 * int(match["minute"]) + second


def _rating(path: Path, cells: Sequence[str]) -> Cells:
    if len(cells) != 2 or not all(cell.isdigit() and 1 <= int(cell) <= 9 for cell in cells):
        raise StudyError(f"{path.name}: a line DIM holds {';'.join(cells)[:40]!r}, not valence and arousal from 1 to 9")
    return {"valence": int(cells[0]), "arousal": int(cells[1])}


DATASET = Dataset(
    name="wesad",
    title="WESAD (Wearable Stress and Affect Detection)",
    content="15 people, RespiBAN on the chest at 700 Hz (ECG, EDA, EMG, respiration, temperature, acceleration) and "
    "Empatica E4 on the wrist (BVP, EDA, temperature, acceleration), about 1.6 h each",
    labels="task 'stress': the Trier Social Stress Test against baseline and amusement; 'condition': the three apart. "
    "Meditation is ignored. 'valence' and 'arousal': what a person stated after each condition, 1 to 9, one number "
    "each. Baseline comes first; the stress is spoken and stood, so motion alone tells it",
    licence=str(DEFINITION["licence"]),
    citation=str(DEFINITION["citation"]),
    where="https://archive.ics.uci.edu/dataset/465/wesad+wearable+stress+and+affect+detection (links the archive)",
    layout=(
        "SX/SX.pkl (S2 to S17 without S12), and SX/SX_quest.csv for the ratings",
        "or, for a person without it, SX/{SX_respiban.txt,SX_quest.csv,SX_E4_Data.zip}",
    ),
    write_study=write_study,
    dropped="labels 0 (between the conditions) and 5, 6, 7 (to be ignored, its readme says), of SX_quest.csv bRead, "
    "fRead and sRead; the wristband's HR, IBI and tags of a person read by the devices' own files; the other "
    "questionnaires; S1 and S12 are not in the data set (a sensor failed); a person whose file is damaged or names "
    "another person",
    alarms=(
        "three classes above 0.90",
        "a motion-only score close to the model's: motion alone reaches 0.885 for stress",
        "a spread over people below 0.03; n = 15 shows no difference under 0.07",
    ),
    files=("WESAD.zip, 2249444501 bytes (unpack it); SX.pkl of each folder is enough, with SX_quest.csv for ratings",),
)
