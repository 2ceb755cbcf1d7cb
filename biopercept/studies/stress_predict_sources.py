"""The files of the Stress-Predict authors: labels by the second, the hand-written time log, E4 tags and start times."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from biopercept.errors import StudyError

_BORDER_COLUMNS = (8, 9, 12, 13, 16, 17)
"""Columns of Time_logs.xlsx: start and end of the Stroop test, the interview and hyperventilation."""

_BORDER_TITLES = {8: "Stroop Test", 12: "Interview", 16: "Hyperventilation"}


def read_labels(path: Path) -> dict[int, tuple[list[int], list[int]]]:
    """Return for each participant number the unix seconds and the labels (0 or 1), in time order.

    Raises
    ------
    StudyError
        Where the table cannot be read.
    """
    found: dict[int, tuple[list[int], list[int]]] = {}
    number = 1  # the header, should it be at fault
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):  # noqa: B007
                seconds, labels = found.setdefault(int(row["Participant"]), ([], []))
                seconds.append(int(row["Time(sec)"]))
                labels.append(int(row["Label"]))
    except OSError as fault:
        raise StudyError(f"{path} cannot be read ({fault.strerror}); it holds the labels") from fault
    except (KeyError, TypeError, ValueError, csv.Error) as fault:
        raise StudyError(
            f"{path.name} line {number}: whole numbers are needed in Participant, Time(sec) and Label ({fault})"
        ) from fault
    return found


def read_log(path: Path) -> dict[str, tuple[float, ...]]:
    """Return for each subject the six borders of the stress tasks by the hand-written log, unix seconds.

    The log's clock has 12 hours and no am or pm: a time is right only up to 12 hours. It is Irish time, which is UTC
    in February and March, when all recordings were made.

    Raises
    ------
    StudyError
        Where the file cannot be read or has another layout.
    """
    import zipfile

    import openpyxl

    try:
        with path.open("rb") as stream:
            sheet = openpyxl.load_workbook(stream, read_only=True, data_only=True).worksheets[0]
            rows = list(sheet.iter_rows(values_only=True, max_row=200, max_col=30))
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as fault:
        raise StudyError(f"{path} cannot be read ({fault}); it holds the authors' time log") from fault
    if not rows or any(str(rows[0][column]).strip() != title for column, title in _BORDER_TITLES.items()):
        raise StudyError(f"{path.name}: columns I, M and Q must be {', '.join(_BORDER_TITLES.values())}")
    found = {}
    for row in rows[1:]:
        moments = [_moment(row[-1] if len(row) < 26 else row[25], row[column]) for column in _BORDER_COLUMNS]
        if isinstance(row[0], str) and all(moment is not None for moment in moments):
            found[row[0].strip()] = tuple(moment for moment in moments if moment is not None)
    return found


def _moment(day: Any, clock: Any) -> float | None:
    if not isinstance(day, datetime) or not isinstance(clock, time):
        return None
    return datetime.combine(day.date(), clock, tzinfo=UTC).timestamp()


def read_tags(path: Path) -> list[float]:
    """Return the unix times of the E4's button presses; empty where there is no such file.

    Raises
    ------
    StudyError
        Where a line is not a number.
    """
    if not path.is_file():
        return []
    tags = []
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").split(), 1):
        try:
            tags.append(float(line))
        except ValueError as fault:
            raise StudyError(f"{path.name} line {number}: {line[:40]!r} is not a unix time") from fault
    return tags


def read_zero(path: Path) -> float | None:
    """Return the unix time of the first sample of an E4 signal file, or None where it cannot be told."""
    try:
        with path.open(encoding="ascii", errors="replace") as stream:
            return float(stream.readline(200).split(",")[0])
    except (OSError, ValueError):
        return None
