"""Empatica E4 sessions as data sets distribute them: when one began and when its button was pressed, unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.loaders.readers.empatica import unix_seconds

_CLOCK = ("EDA.csv", "BVP.csv", "ACC.csv", "TEMP.csv")
_LARGEST_TAGS = 1 << 20
_LARGEST_EDA = 64 << 20


def session_start(folder: Path, names: Sequence[str] = _CLOCK) -> float | None:
    """Return the unix time of second zero: the earliest start of EDA, BVP, ACC and TEMP; None where none gives one.

    With other ``names`` it is the earliest start of these files.
    """
    starts = [start for name in names if (start := _start(folder / name)) is not None]
    return min(starts, default=None)


def _start(path: Path) -> float | None:
    try:
        with path.open("rb") as stream:
            head = stream.readline(200).removeprefix(b"\xef\xbb\xbf")
        return float(unix_seconds(head).split(b",")[0])
    except (OSError, ValueError):
        return None


def session_seconds(folder: Path) -> float:
    """Return how long EDA.csv lasts, by its lines and its rate; 0 where it is not there or has no rate."""
    try:
        with (folder / "EDA.csv").open("rb") as stream:
            lines = stream.read(_LARGEST_EDA).splitlines()
        return max(len(lines) - 2, 0) / float(lines[1].split(b",")[0])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return 0.0


def button_presses(path: Path) -> list[float]:
    """Return the unix times of a tags file in time order; empty where there is no such file.

    Raises StudyError where a line is neither a unix time nor a date.
    """
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        text = unix_seconds(stream.read(_LARGEST_TAGS).removeprefix(b"\xef\xbb\xbf")).decode("utf-8", errors="replace")
    presses = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            presses.append(float(line))
        except ValueError as fault:
            raise StudyError(
                f"{path.name} line {number}: {line.strip()[:40]!r} is no time of a button press"
            ) from fault
    return sorted(presses)
