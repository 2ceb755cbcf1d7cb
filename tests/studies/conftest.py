"""A small study folder that tests change in one place and read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

STUDY = """\
name: pilot
description: a pilot
licence: CC0
tasks:
  stress:
    classes: {rest: [baseline, relax], stress: [stroop]}
    ignore: [break]
"""
PARTICIPANTS = "participant_id\tage\nS01\t31\nS02\t28\n"
RECORDINGS = "participant_id\trecording\tpath\nS01\tlab\tdata/S01.csv\nS02\tlab\tdata/S02.csv\n"
EVENTS = (
    "participant_id\trecording\tonset\tduration\ttrial_type\n"
    "S01\tlab\t0\t60\tbaseline\nS01\tlab\t60\t60\tstroop\nS02\tlab\t0\t60\trelax\nS02\tlab\t60.5\t59.5\tstroop\n"
)

Writer = Callable[..., Path]


def write_table(path: Path, value: float, *, seconds: int = 120, start: str = "") -> None:
    """Write a CSV of EDA at 4 Hz, with a time column, whose every sample is ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{i / 4},{value}\n" for i in range(4 * seconds))
    path.write_text("time,EDA (uS)\n" + rows)


@pytest.fixture
def write_study(tmp_path: Path) -> Writer:
    """Give a function that writes the study with some of its tables replaced, and returns the folder."""

    def write(**replaced: str | None) -> Path:
        tables = {
            "study.yaml": STUDY,
            "participants.tsv": PARTICIPANTS,
            "recordings.tsv": RECORDINGS,
            "events.tsv": EVENTS,
        }
        names = {name.partition(".")[0]: name for name in tables}
        tables.update({names[key]: text for key, text in replaced.items()})
        folder = tmp_path / "pilot"
        folder.mkdir(exist_ok=True)
        for name, text in tables.items():
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_text(text, encoding="utf-8")
        write_table(folder / "data" / "S01.csv", 1.0)
        write_table(folder / "data" / "S02.csv", 2.0)
        return folder

    return write
