"""The Stress-Predict study: an Empatica E4 on the wrist through Stroop test, interview, hyperventilation and rests.

The authors' labels are 0 or 1 for each second; their changes give seven stages. Two more sources tell when stages
changed: buttons pressed on the E4 (``tags_SXX.csv``; some are 12 hours early) and a hand-written log to the minute
(``Time_logs.xlsx``; a 12-hour clock without am or pm, Irish time, which in February and March is UTC). A change that
neither of the two supports is not believed, and the subject is left out.
"""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError, StudyError
from biopercept.loaders.archives import members_of_table
from biopercept.recording import Interval
from biopercept.studies.datasets.writing import ImportSummary, StudyTables

STAGES = ("baseline", "stroop", "relax", "interview", "relax", "hyperventilation", "relax")
"""The protocol, in order; the authors' labels are 0 and 1 by turns."""

TAG_SECONDS = 15.0
"""A label border this near to a button press is believed."""

LOG_SECONDS = 120.0
"""A label border this near to the hand-written minute is believed; borders that a tag confirms are up to 163 s off."""

_HALF_DAY = 43_200.0
_LARGEST_LOG = 16 << 20
_FOLDER = re.compile(r"^S(\d+)$")

DEFINITION = {
    "name": "stress-predict",
    "description": "Empatica E4 (BVP, EDA, skin temperature, acceleration, heart rate) at rest and in a Stroop colour "
    "word test, an interview and hyperventilation; the order of the stages is the same for everybody.",
    "licence": "MIT",
    "citation": "T. Iqbal et al., Stress Monitoring Using Wearable Sensors: A Pilot Study and Stress-Predict Dataset, "
    "Sensors 22(21):8135, 2022, doi 10.3390/s22218135",
    "tasks": {
        "stress": {
            "classes": {"rest": ["baseline", "relax"], "stress": ["stroop", "interview"]},
            "ignore": ["hyperventilation"],
        }
    },
}
_BORDER_COLUMNS = (8, 9, 12, 13, 16, 17)
"""Columns of Time_logs.xlsx: start and end of the Stroop test, the interview and hyperventilation."""

_BORDER_TITLES = {8: "Stroop Test", 12: "Interview", 16: "Hyperventilation"}


def write_study(source: Path, output: Path) -> ImportSummary:
    """Write a study folder for the data set, from the authors' own layout (Raw_data, Processed_data).

    Raises StudyError where the folder holds no such layout, or a table in it cannot be read. Raises OutputError where
    the study cannot be written.
    """
    raw, processed = source / "Raw_data", source / "Processed_data"
    folders = [p for p in sorted(raw.glob("S*")) if p.is_dir() and _FOLDER.match(p.name)] if raw.is_dir() else []
    if not folders:
        raise StudyError(f"{source} holds no Raw_data/SXX folders; see 'biopercept datasets stress-predict'")
    labels = read_labels(processed / "Improved_All_Combined_hr_rsp_binary.csv")
    log = read_log(processed / "Time_logs.xlsx")
    tables = StudyTables()
    for folder in folders:
        _add_subject(folder, labels.get(int(folder.name[1:])), log.get(folder.name, ()), tables)
    return tables.write(output, DEFINITION)


def _add_subject(
    folder: Path, labels: tuple[list[int], list[int]] | None, log: tuple[float, ...], tables: StudyTables
) -> None:
    subject = folder.name
    if labels is None:
        tables.left_out.append(f"{subject}: the authors give no labels (S01 did not follow the protocol's order).")
        return
    zero = read_zero(folder / "EDA.csv")
    if zero is None:
        tables.left_out.append(f"{subject}: EDA.csv has no start time, so its labels cannot be placed.")
        return
    stages, problem = stages_of(*labels, zero)
    if problem:
        tables.left_out.append(f"{subject}: {problem}.")
        return
    tags = read_tags(folder / f"tags_{subject}.csv")
    doubts, notes = _compare(stages, [tag - zero for tag in tags], [moment - zero for moment in log])
    if doubts:
        tables.left_out.append(f"{subject}: {'; '.join(doubts)}.")
        return
    tables.notes.extend(f"{subject}: {note}." for note in notes)
    tables.add_protocol(subject, [folder.resolve()], stages, {})


def stages_of(seconds: list[int], labels: list[int], zero: float) -> tuple[list[Interval], str]:
    """Return the seven stages from the authors' label of each second, or what is wrong with those labels.

    Labels are 0 (rest) or 1 (stress) at unix ``seconds``; ``zero`` is the unix time of the recording's second zero.
    """
    if any(later - earlier != 1 for earlier, later in pairwise(seconds)):
        return [], "the authors' labels do not run second by second"
    begins = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
    values = [labels[i] for i in begins]
    if values != [0, 1, 0, 1, 0, 1, 0]:
        return [], f"the authors' labels run {values}, not rest and stress by turns in seven stages"
    ends = [*begins[1:], len(labels)]
    onsets = [seconds[i] - zero for i in begins]
    durations = [float(end - begin) for begin, end in zip(begins, ends, strict=True)]
    return [Interval(*stage) for stage in zip(onsets, durations, STAGES, strict=True)], ""


def _compare(stages: list[Interval], tags: list[float], log: list[float]) -> tuple[list[str], list[str]]:
    """Return doubts that cost the subject its labels, and notes, from borders against tags and log (seconds)."""
    doubts, followed_log, off_log = [], [], []
    moved = sum(abs(tag) > _HALF_DAY / 2 for tag in tags)
    for number, (before, after) in enumerate(pairwise(stages)):
        border = after.onset_seconds
        from_tag = min((abs(_within_half_day(tag - border)) for tag in tags), default=float("inf"))
        from_log = abs(_within_half_day(log[number] - border)) if number < len(log) else float("inf")
        name = f"{before.label} to {after.label} at {border:.0f} s"
        if from_tag > TAG_SECONDS and from_log > LOG_SECONDS:
            doubts.append(
                f"the label border {name} is {from_tag:.0f} s from the nearest tag and {from_log:.0f} s "
                "from the time log"
            )
        elif from_tag > TAG_SECONDS:
            followed_log.append(f"{name} ({from_tag:.0f} s)")
        elif LOG_SECONDS < from_log < float("inf"):
            off_log.append(f"{name} ({from_log:.0f} s)")
    notes = []
    if moved:
        notes.append(
            f"12-hour clock in the tags: {moved} of {len(tags)} are 12 hours early and were compared 12 hours later"
        )
    if followed_log:
        notes.append(f"borders far from every tag but confirmed by the time log: {', '.join(followed_log)}")
    if off_log:
        notes.append(f"borders far from the time log but confirmed by a tag: {', '.join(off_log)}")
    if not log:
        notes.append("no line in the time log, borders are confirmed by tags alone")
    return doubts, notes


def _within_half_day(seconds: float) -> float:
    """Return a difference of two times with whole half days taken off: -6 h to 6 h."""
    return (seconds + _HALF_DAY / 2) % _HALF_DAY - _HALF_DAY / 2


def read_labels(path: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Return for each participant number the unix seconds and the labels (0 or 1), in time order.

    Raises StudyError where the table cannot be read.
    """
    by_participant: dict[int, tuple[list[int], list[int]]] = {}
    number = 1  # the header, should it be at fault
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):  # noqa: B007
                if None in row:
                    raise ValueError("more cells than the header names")
                seconds, labels = by_participant.setdefault(int(row["Participant"]), ([], []))
                seconds.append(int(row["Time(sec)"]))
                labels.append(int(row["Label"]))
    except OSError as fault:
        raise StudyError(f"{path} cannot be read ({fault.strerror}); it holds the labels") from fault
    except (KeyError, TypeError, ValueError, csv.Error) as fault:
        raise StudyError(
            f"{path.name} line {number}: whole numbers are needed in Participant, Time(sec) and Label ({fault})"
        ) from fault
    return by_participant


def read_log(path: Path) -> dict[str, tuple[float, ...]]:
    """Return for each subject the six borders of the stress tasks by the hand-written log, unix seconds.

    The log's clock has 12 hours and no am or pm: a time is right only up to 12 hours. It is Irish time, which is UTC
    in February and March, when all recordings were made.

    Raises StudyError where the file cannot be read or has another layout.
    """
    import openpyxl

    try:
        members_of_table(path, _LARGEST_LOG)
        with path.open("rb") as stream:
            sheet = openpyxl.load_workbook(stream, read_only=True, data_only=True).worksheets[0]
            rows = list(sheet.iter_rows(values_only=True, max_row=200, max_col=30))
    except RecordingError as fault:
        raise StudyError(f"{fault}; it is the authors' time log") from fault
    except Exception as fault:  # the library raises whatever the damage runs into
        raise StudyError(f"{path} cannot be read ({fault}); it holds the authors' time log") from fault
    if not rows or any(str(rows[0][column]).strip() != title for column, title in _BORDER_TITLES.items()):
        raise StudyError(f"{path.name}: columns I, M and Q must be {', '.join(_BORDER_TITLES.values())}")
    marks = {}
    for row in rows[1:]:
        moments = [_moment(row[-1] if len(row) < 26 else row[25], row[column]) for column in _BORDER_COLUMNS]
        if isinstance(row[0], str) and all(moment is not None for moment in moments):
            marks[row[0].strip()] = tuple(moment for moment in moments if moment is not None)
    return marks


def _moment(day: Any, clock: Any) -> float | None:
    if not isinstance(day, datetime) or not isinstance(clock, time):
        return None
    return datetime.combine(day.date(), clock, tzinfo=UTC).timestamp()


def read_tags(path: Path) -> list[float]:
    """Return the unix times of the E4's button presses; empty where there is no such file.

    Raises StudyError where a line is not a number.
    """
    if not path.is_file():
        return []
    tags = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split(), 1):
        try:
            tags.append(float(line))
        except ValueError as fault:
            raise StudyError(f"{path.name} line {number}: {line[:40]!r} is not a unix time") from fault
    return tags


def read_zero(path: Path) -> float | None:
    """Return the unix time of the first sample of an E4 signal file, or None where it has none."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            return float(stream.readline(200).split(",")[0])
    except (OSError, ValueError):
        return None
