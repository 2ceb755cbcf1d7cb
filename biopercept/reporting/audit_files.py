"""Reading ``audit.json`` into a checked :class:`Audit`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from biopercept.errors import StudyError
from biopercept.results.reading import read_json

from .audit_results import Audit, AuditFinding

FILE = "audit.json"
SCHEMA = 1
VERDICTS = ("leak", "warning", "ok")
"""From bad to good, as they are shown."""


def load_audit(folder: Path, name: str = "") -> Audit:
    """Return what an audit found.

    Parameters
    ----------
    folder : Path
        Holds ``audit.json``.
    name : str
        What the report calls it; the folder's own name where empty.

    Raises
    ------
    StudyError
        Where the file is missing, damaged or of another schema.
    """
    path = folder / FILE
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has schema {content.get('schema')!r}; this version of biopercept reads schema {SCHEMA}"
        )
    model = content.get("model")
    return Audit(
        name or folder.resolve().name,
        str(content.get("task", "")),
        None if model is None else str(model),
        str(content.get("normalisation", "")),
        _whole(path, content, "n_subjects"),
        _whole(path, content, "n_windows"),
        tuple(_finding(path, row) for row in _rows(path, content, "findings")),
        tuple((str(row.get("probe", "")), str(row.get("reason", ""))) for row in _rows(path, content, "skipped")),
    )


def _rows(path: Path, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = content.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StudyError(f"{path} has no list of {name}; run audit again")
    return rows


def _whole(path: Path, content: dict[str, Any], name: str) -> int:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StudyError(f"{path} has {value!r} for {name!r}; a whole number of 0 or more is needed")
    return value


def _finding(path: Path, row: dict[str, Any]) -> AuditFinding:
    probe, verdict, sentence = (row.get(key) for key in ("probe", "verdict", "sentence"))
    if not isinstance(probe, str) or not isinstance(sentence, str) or verdict not in VERDICTS:
        raise StudyError(f"{path} has a finding without probe, sentence or known verdict; run audit again")
    ends = row.get("ci95")
    is_interval = isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) for end in ends)
    return AuditFinding(
        probe,
        verdict,
        sentence,
        str(row.get("score_name", "")),
        _number(row.get("score")),
        (float(ends[0]), float(ends[1])) if isinstance(ends, list) and is_interval else None,
        _number(row.get("chance")),
        _whole(path, row, "n_subjects"),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and _is_number(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
