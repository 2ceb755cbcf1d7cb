"""The log of ``prepare``: one row per recording, with what became of it and every window left out, by reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from biopercept.files import guarded_cell, write_text

Status = Literal["prepared", "reused", "failed", "not done"]

COLUMNS = (
    "participant_id",
    "session",
    "recording",
    "status",
    "seconds",
    "windows_labelled",
    "windows_grid",
    "left_out",
    "signals",
    "message",
    "notes",
)


@dataclass(frozen=True)
class LogRow:
    """What became of one recording: "prepared", "reused", "failed" or, the run having been interrupted, "not done".

    A recording is reused where an earlier run had prepared it from the same files and settings; it then took 0
    ``seconds``. Windows lie inside labelled intervals or in the grid over the full recording; ``left_out`` counts
    others, by reason. ``message`` says why it failed.
    """

    subject: str
    session: str
    recording: str
    status: Status
    seconds: float = 0.0
    windows_labelled: int = 0
    windows_grid: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    signals: tuple[str, ...] = ()
    message: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return subject, session and recording as one phrase for messages."""
        return " ".join(part for part in (self.subject, self.session, self.recording) if part)


def log_path(store: Path) -> Path:
    """Return where the log of a store lies: STORE.log.csv beside STORE.h5."""
    return store.with_name(f"{store.stem if store.suffix in ('.h5', '.hdf5') else store.name}.log.csv")


def write_log(path: Path, rows: Sequence[LogRow]) -> None:
    """Write the log, whole or not at all. Raises OutputError where it cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        ids = [guarded_cell(cell) for cell in (row.subject, row.session, row.recording)]
        counts = [row.status, f"{row.seconds:.2f}", row.windows_labelled, row.windows_grid]
        left_out = "; ".join(f"{reason}: {n}" for reason, n in sorted(row.left_out.items()))
        words = [left_out, " ".join(row.signals), row.message, "; ".join(row.notes)]
        table.writerow([*ids, *counts, *(guarded_cell(cell) for cell in words)])
    write_text(path, text.getvalue())
