"""``live.json``: what a run of ``live`` did, how long predictions took, and which signals were missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from biopercept.results.predictions import PREFIX, NumberLine
from biopercept.results.reading import read_result, read_table
from biopercept.typed_values import Count

TABLE = "live_predictions.tsv"


@dataclass(frozen=True, kw_only=True)
class LiveSummary:
    """One run of ``live``.

    ``seconds`` of the stream were followed; ``withheld`` counts predictions with a reason for being withheld, and
    ``left_out`` those that were not made because the machine could not keep up. ``missing`` counts the predictions
    without a sample of a signal, by its name. ``latency_ms`` has the percentiles p50, p95, p99 and max of the time from
    the last sample of a window to its prediction, ``processor_ms`` those of the processor time of it.
    """

    FILE: ClassVar[str] = "live.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "live"

    model: str
    seconds: float
    predictions: Count
    withheld: Count
    left_out: Count
    missing: Mapping[str, int]
    latency_ms: Mapping[str, float]
    processor_ms: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class LiveFolder:
    """A folder of ``live``: the summary of its last run, and a line of that run for each task; ``name`` as in a report.

    ``n_runs`` is how often the command was begun for its tables.
    """

    name: str
    summary: LiveSummary
    lines: tuple[NumberLine, ...]
    n_runs: int


def load_live(folder: Path, name: str) -> LiveFolder:
    """Return what ``live`` wrote. Raises StudyError where a file is damaged."""
    lines, n_runs = [], 1
    for path in sorted(folder.glob(f"**/{TABLE}")):
        table = read_table(path)
        runs = table.numbers("run")
        is_last = runs == runs.max(initial=0.0)
        n_runs = max(n_runs, int(runs.max(initial=1.0)))
        names = tuple(column for column in table.columns if column.startswith(PREFIX)) or ("predicted",)
        seconds = table.numbers("onset") + table.numbers("duration")
        values = np.stack([table.numbers(column, optional=True) for column in names], axis=1)
        title = name if path.parent == folder else path.parent.name
        lines.append(NumberLine(title, names, seconds[is_last], values[is_last], is_trace=False))
    return LiveFolder(name, read_result(folder / LiveSummary.FILE, LiveSummary), tuple(lines), n_runs)
