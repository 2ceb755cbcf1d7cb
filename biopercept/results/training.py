"""``log.jsonl``: how the fits of a cross-validation went, epoch by epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.results.reading import read_text

LOG_FILE = "log.jsonl"


@dataclass(frozen=True)
class TrainingCourse:
    """The losses of one fit; ``validation`` is None in an epoch after which nobody set aside was looked at."""

    fold: str
    repetition: int
    epochs: tuple[int, ...]
    training: tuple[float, ...]
    validation: tuple[float | None, ...]


def training_courses(folder: Path) -> tuple[TrainingCourse, ...]:
    """Return the course of each fit that has epochs; none of models without, or where no log was written.

    Raises StudyError where the log is damaged.
    """
    path = folder / LOG_FILE
    if not path.is_file():
        return ()
    courses = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            history = [(int(epoch), float(loss), None if v is None else float(v)) for epoch, loss, v in row["history"]]
            fold, repetition = str(row["fold"]), int(row["repetition"])
        except (ValueError, TypeError, KeyError) as fault:
            raise StudyError(f"{path} is damaged in line {number}; run cross-validate again") from fault
        if history:
            epochs, training, validation = zip(*history, strict=True)
            courses.append(TrainingCourse(fold, repetition, epochs, training, validation))
    return tuple(courses)
