"""What a store's log says of each recording: status, windows kept, windows left out with their reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .prediction_results import RecordingKey
from .results import PrepareLog

_KEPT = ("windows_labelled", "windows_kept")
_DROPPED = ("left_out", "windows_dropped")
_FINE = ("prepared", "reused")
_REASON = re.compile(r"^\s*(?P<reason>.+?)\s*[:=]\s*(?P<n>\d+)\s*$")


@dataclass(frozen=True)
class Preparation:
    """How the preparation of one recording went.

    Attributes
    ----------
    key : (participant, session, recording)
    status, message : str
    is_failed : bool
        It was not prepared, or not yet.
    kept : int or None
        Labelled windows in the store; None where the log does not say.
    left_out : mapping of reason to number of windows
    """

    key: RecordingKey
    status: str
    message: str
    is_failed: bool
    kept: int | None
    left_out: Mapping[str, int]


def preparations_of(log: PrepareLog) -> tuple[Preparation, ...]:
    """Return a row per recording of a store's log.

    Windows left out are read from a column of "reason: n" pairs joined by semicolons, or from a plain number.

    Raises
    ------
    StudyError
        Where the log has no column of subjects or of status, or a count is not a number.
    """
    table = log.table
    subjects = table.texts("subject" if table.has("subject") and not table.has("participant_id") else "participant_id")
    keys = zip(subjects, table.texts("session", ""), table.texts("recording", ""), strict=True)
    status = table.texts("status")
    kept = next((table.numbers(name) for name in _KEPT if table.has(name)), np.full(len(table), np.nan))
    left_out = _left_out(log)
    return tuple(
        Preparation(
            key=key,
            status=status[place],
            message=table.texts("message", "")[place],
            is_failed=status[place].lower() not in _FINE,
            kept=None if np.isnan(kept[place]) else int(kept[place]),
            left_out=left_out[place],
        )
        for place, key in enumerate(keys)
    )


def _left_out(log: PrepareLog) -> list[dict[str, int]]:
    cells = next((log.table.texts(name) for name in _DROPPED if log.table.has(name)), ("",) * len(log.table))
    return [_reasons(cell) for cell in cells]


def _reasons(cell: str) -> dict[str, int]:
    """Return {reason: n} of "reason: n; reason: n", or of a plain number."""
    if cell.strip().isdigit():
        return {"left out": int(cell)} if int(cell) else {}
    found = [_REASON.match(part) for part in cell.split(";") if part.strip()]
    return {match["reason"]: int(match["n"]) for match in found if match}
