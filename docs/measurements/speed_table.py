"""The committed table of speeds: rows, the file that keeps them, what fell since, and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from biopercept.files import write_text

TOLERANCE = 0.15
"""By what fraction a row may be slower than in the committed table: ratios of a busy machine vary by a tenth."""


@dataclass(frozen=True)
class Row:
    """One thing that was timed.

    ``speed`` is what is compared from run to run: more is better, and it is a ratio within one run (to the fastest
    peer, or to a fixed piece of work), so that another day of the same processor can be set beside it. ``shown`` is in
    words what was measured, ``bar`` what is wanted of it (empty: nothing), and ``is_met`` whether it is so.
    """

    name: str
    speed: float
    shown: str
    bar: str = ""
    is_met: bool = True
    processor: str = ""


Rows = dict[tuple[str, str], Row]


def read_rows(path: Path) -> Rows:
    """Return the rows of a committed table by name and processor, none where there is no table."""
    if not path.exists():
        return {}
    rows = (Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"])
    return {(row.name, row.processor): row for row in rows}


def keep(path: Path, row: Row) -> None:
    """Put a row into the table in place of that of its name and processor, and write the page beside it."""
    rows = read_rows(path) | {(row.name, row.processor): replace(row, speed=float(f"{row.speed:.4g}"))}
    document = {"schema": 1, "rows": [asdict(one) for one in rows.values()]}
    write_text(path, json.dumps(document, indent=1) + "\n")
    write_text(path.with_suffix(".md"), page(list(rows.values())))


def fallen(rows: Iterable[Row], committed: Rows, tolerance: float = TOLERANCE) -> list[str]:
    """Return a sentence for each row that is slower than in the committed table, by how much.

    Rows of another processor are not compared: what is quicker by how much depends on it.
    """
    sentences = []
    for row in rows:
        before = committed.get((row.name, row.processor))
        if before is None or row.speed >= (1 - tolerance) * before.speed:
            continue
        sentences.append(
            f"{row.name}: {1 - row.speed / before.speed:.0%} slower than in the committed table ({row.shown}; "
            f"there {before.shown})"
        )
    return sentences


def page(rows: Sequence[Row]) -> str:
    """Return the page: every row with its bar, a table for each processor."""
    lines = [
        "# Speed",
        "",
        "Written by `make bench DATA=DIR SAVE=1`; the code is `docs/measurements`. `make bench` compares a run with",
        "this table and says which row fell, and by how much. Quiet: nothing else was running; processor time beside",
        "that of the fastest peer. Busy: two other processes used a core each; time by the clock. Commands: processor",
        "time of the command and its children, best of some runs.",
    ]
    if not rows:
        lines += ["", "No row is kept yet."]
    for processor in dict.fromkeys(row.processor for row in rows):
        lines += ["", f"## {processor}", "", "| what | measured | bar | met |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row.name} | {row.shown} | {row.bar} | {'' if not row.bar else 'yes' if row.is_met else 'no'} |"
            for row in rows
            if row.processor == processor
        ]
    return "\n".join([*lines, ""])
