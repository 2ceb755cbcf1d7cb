"""A study of three short recordings as tables, and what prepares it in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from biopercept.prepare.recording import PrepareSettings
from biopercept.prepare.study import (
    PrepareRun,
    PrepareSummary,
    chosen_subjects,
    prepare_study,
)
from biopercept.studies.loading import load_study

SUBJECTS = ("S01", "S02", "S03")


def write_study(folder: Path, subjects: tuple[str, ...] = SUBJECTS) -> Path:
    """Write a study of EDA and skin temperature at 4 Hz, 150 s each, with two labelled stretches; return it."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    tasks = "tasks: {stress: {classes: {rest: [rest], stress: [task]}}}\n"
    (folder / "study.yaml").write_text(f"name: tiny\ndescription: made\nlicence: CC0\n{tasks}")
    tables = {
        "participants": ["participant_id", *subjects],
        "recordings": ["participant_id\trecording\tpath", *(f"{s}\tlab\tdata/{s}.csv" for s in subjects)],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type"]
        + [f"{s}\tlab\t{row}" for s in subjects for row in ("0\t70\trest", "75\t70\ttask")],
    }
    for name, lines in tables.items():
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    for subject in subjects:
        write_recording(folder, subject)
    return folder


def write_recording(folder: Path, subject: str, *, seconds: int = 150, seed: int = 0) -> None:
    """Write one recording's table and sidecar."""
    random = np.random.default_rng([seed, int(subject[1:])])
    at = np.arange(seconds * 4) / 4
    eda = 2 + 0.3 * np.sin(at / 20) + 0.002 * random.normal(size=len(at)).cumsum()
    temp = 33 + 0.2 * np.sin(at / 60) + 0.001 * random.normal(size=len(at))
    rows = [f"{a:.5f},{b:.4f}" for a, b in zip(eda, temp, strict=True)]
    (folder / "data" / f"{subject}.csv").write_text("\n".join(["EDA,TEMP", *rows]) + "\n")
    sidecar = {"SamplingFrequency": 4, "StartTime": 0, "Columns": ["EDA", "TEMP"]}
    sidecar |= {"EDA": {"Units": "uS", "Modality": "eda"}, "TEMP": {"Units": "degC", "Modality": "temp"}}
    (folder / "data" / f"{subject}.json").write_text(json.dumps(sidecar))


def run(study: Path, output: Path, settings: PrepareSettings | None = None, **options: object) -> PrepareSummary:
    """Prepare a study in this process, which saves the start of another."""
    loaded = load_study(study)
    exclude, on_progress = options.pop("exclude_subjects", None), options.pop("on_progress", None)
    subjects = chosen_subjects(loaded, options.pop("subjects", None), exclude)  # type: ignore[arg-type]
    how = PrepareRun(**{"isolate": False, **options})  # type: ignore[arg-type]
    return prepare_study(loaded, output, settings, subjects=subjects, run=how, on_progress=on_progress)  # type: ignore[arg-type]


def statuses(summary: PrepareSummary) -> list[str]:
    return [row.status for row in summary.rows]
