"""Training sessions exported from Polar Flow (.CSV): two lines on the session, then heart rate and more by the second.

Who was recorded is in the first lines, and is not taken. Beats are not in these files: heart rate is the device's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import TextTable, numbers_of, read_text
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import read_sidecar
from biopercept.recording import Recording

_SAMPLES = "sample rate,time,hr (bpm)"
_MOST_LINES_ABOVE = 8
_DATES = ("%d-%m-%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S")


def load_polar_flow(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a session; its start is local time, seconds without heart rate are missing.

    Raises RecordingError where the table of samples is missing, or none of its rows has a time.
    """
    notes: list[str] = []
    lines = read_text(path, notes).splitlines()
    top = next((i for i, line in enumerate(lines[:_MOST_LINES_ABOVE]) if line.lower().startswith(_SAMPLES)), None)
    if top is None:
        raise RecordingError(
            f"{path.name}: a session of Polar Flow without samples (no line 'Sample rate,Time,HR (bpm),...' below the"
            " summary); export a session with heart rate"
        )
    rows = [line.split(",") for line in lines[top + 1 :] if line.strip(" ,")]
    times = np.array([_seconds(row[1]) if len(row) > 1 else np.nan for row in rows])
    rates = numbers_of([row[2].strip() if len(row) > 2 else "" for row in rows])
    if not np.isfinite(times).any():
        raise RecordingError(f"{path.name}: no row of samples has a time (hours:minutes:seconds); export it again")
    rates[rates <= 0] = np.nan
    others = [name.strip() for name in lines[top].split(",")[3:] if name.strip()]
    notes.append(f"left out: {', '.join(others)}" if others else "")
    table = TextTable(("time (s)", "HR"), (times, rates), tuple(note for note in notes if note), {"HR": "bpm"})
    source = TableSource(path, read_sidecar(path), overrides, {"HR": "hr"})
    return recording_of_table(source, table, started_at=_started_at(lines[:top]))


def _seconds(text: str) -> float:
    """Return seconds since the start of the session; NaN where the text is no time."""
    parts = text.strip().split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        return np.nan
    hours, minutes, seconds = map(int, parts)
    return 3600.0 * hours + 60.0 * minutes + seconds


def _started_at(lines: list[str]) -> datetime | None:
    """Return when the session began, without a zone; None where its summary does not say."""
    names, values = (line.split(",") for line in (*lines, "", "")[:2])
    session = dict(zip((name.strip().lower() for name in names), (value.strip() for value in values), strict=False))
    text = f"{session.get('date', '')} {session.get('start time', '')}"
    for form in _DATES:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None
