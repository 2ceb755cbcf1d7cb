"""Studies of made tables with sidecars, of any shape: people, stages, sensors, labels of stages or of files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

WRIST = {"EDA": ("uS", 4), "TEMP": ("degC", 4)}
Stages = Sequence[tuple[str, float]]
TWO = "{t: {classes: {rest: [rest], task: [task]}}}"


def write_study(
    folder: Path,
    people: Mapping[str, Stages],
    *,
    tasks: str = TWO,
    sensors: Mapping[str, tuple[str, float]] = WRIST,
    are_files: bool = False,
    columns: str = "",
    seed: int = 1,
) -> Path:
    """Write a study of tables with sidecars and return it; each stage is an event, or a file of its own.

    Studies of one seed have the same samples.
    """
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(f"name: made\ntasks: {tasks}\n")
    (folder / "participants.tsv").write_text("participant_id\n" + "".join(f"{name}\n" for name in people))
    recordings, events = ["participant_id\trecording\tpath\tcondition"], []
    random = np.random.default_rng(seed)
    for name, stages in people.items():
        names = [f"{i}" for i in range(len(stages))] if are_files else ["all"]
        for number, recording in enumerate(names):
            seconds = stages[number][1] if are_files else sum(length for _, length in stages)
            condition = stages[number][0] if are_files else "n/a"
            recordings.append(f"{name}\t{recording}\t{name}_{recording}.csv\t{condition}")
            _write_table(folder / f"{name}_{recording}.csv", sensors, seconds, random)
        onset = 0.0
        for label, seconds in [] if are_files else stages:
            events.append(f"{name}\tall\t{onset:g}\t{seconds:g}\t{label}")
            onset += seconds
    (folder / "recordings.tsv").write_text("\n".join(recordings) + "\n")
    if events:
        cells = [f"{row}\t{i % 9}" if columns else row for i, row in enumerate(events)]
        head = "participant_id\trecording\tonset\tduration\ttrial_type" + (f"\t{columns}" if columns else "")
        (folder / "events.tsv").write_text("\n".join([head, *cells]) + "\n")
    return folder


def _write_table(
    path: Path, sensors: Mapping[str, tuple[str, float]], seconds: float, random: np.random.Generator
) -> None:
    rate = next(iter(sensors.values()))[1]
    units = {name: {"Units": unit} for name, (unit, _) in sensors.items()}
    path.with_suffix(".json").write_text(
        json.dumps({"SamplingFrequency": rate, "StartTime": 0, "Columns": list(sensors), **units})
    )
    values = 30 + random.normal(size=(round(seconds * rate), len(sensors)))
    np.savetxt(path, values, fmt="%.3f", delimiter=",", header=",".join(sensors), comments="")


def people(n: int, *stages: tuple[str, float]) -> dict[str, Stages]:
    return {f"P{i:02d}": stages for i in range(1, n + 1)}
