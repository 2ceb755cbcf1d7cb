"""Made result folders: small, seeded, written as INTERFACE section 3 says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biopercept.files import guarded_cell

HOSTILE = (
    "<script>alert(1)</script>",
    "=1+1",
    "[bold]x[/bold]",
    r"$\zzz$",
    "a\x1b[31mb",
    "r\u202etxt",
    "{{7*7}} %s {0}",
    "_x",
)
SUBJECTS = tuple(f"S{number:02d}" for number in range(1, 9))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows([[guarded_cell(c) if isinstance(c, str) else c for c in row] for row in rows])


def make_windows(generator: np.random.Generator, classes: Sequence[str], n: int, skill: float) -> list[dict[str, Any]]:
    rows = []
    for place in range(n):
        truth = (place // 6) % len(classes)
        logits = generator.normal(0, 1, len(classes))
        logits[truth] += skill
        share = np.exp(logits) / np.exp(logits).sum()
        probabilities = [round(float(p), 6) for p in share[:-1]]
        rows.append(
            {
                "onset": 30.0 * place + 120.0 * (place // 6),
                "duration": 60.0,
                "label": classes[truth],
                "predicted": classes[int(np.argmax(share))],
                "probabilities": [*probabilities, round(1 - sum(probabilities), 6)],
                "quality": round(float(generator.uniform(0.4, 1)), 3),
            }
        )
    return rows


def write_cross_validation(
    folder: Path,
    *,
    model: str = "perceiver-io",
    subjects: Sequence[str] = SUBJECTS,
    classes: Sequence[str] = ("rest", "stress"),
    skill: float = 1.0,
    seed: int = 1,
    **changes: Any,
) -> Path:
    """Write a finished cross-validation; ``changes`` replace keys of scores.json."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    windows, per_subject = [], []
    for fold, subject in enumerate(subjects):
        rows = make_windows(generator, classes, 24, skill)
        recalls = [np.mean([row["predicted"] == name for row in rows if row["label"] == name]) for name in classes]
        per_subject.append([subject, len(rows), round(float(np.mean(recalls)), 4), 0.7, 0.75, 0.2, fold])
        windows += [
            [
                subject,
                "",
                "run1",
                r["onset"],
                r["duration"],
                r["label"],
                r["predicted"],
                *r["probabilities"],
                fold,
                r["quality"],
            ]
            for r in rows
        ]
    columns = ["participant_id", "session", "recording", "onset", "duration", "label", "predicted"]
    columns += [*(f"probability_{name}" for name in classes), "fold", "quality"]
    write_table(folder / "predictions.csv", columns, windows)
    names = ("participant_id", "n_windows", "balanced_accuracy", "macro_f1", "auroc", "brier", "fold")
    write_table(folder / "scores.csv", names, per_subject)
    values = np.array([row[2] for row in per_subject])
    mean = round(float(values.mean()), 4)
    scores = {
        "schema": 1,
        "model": model,
        "task": "stress",
        "classes": list(classes),
        "split": "subject",
        "n_subjects": len(subjects),
        "n_windows": len(windows),
        "n_folds": len(subjects),
        "window_seconds": 60.0,
        "step_seconds": 30.0,
        "normalisation": "causal",
        "transductive": False,
        "seeds": 3,
        "parameters": 250000,
        "seconds": 812.4,
        "balanced_accuracy": {
            "mean": mean,
            "ci95": [round(mean - 0.05, 4), round(mean + 0.04, 4)],
            "sd": 0.08,
            "median": 0.72,
            "worst": float(values.min()),
            "subjects_below_chance": int((values < 1 / len(classes)).sum()),
        },
        "macro_f1": {"mean": 0.7012, "ci95": [0.66, 0.74]},
        "auroc": {"mean": 0.8034, "ci95": [0.76, 0.84], "pooled": 0.7921},
        "brier": 0.1834,
        "ece": 0.0456,
        "chance": {"majority": 0.6901, "dummy": 0.4987},
        "warnings": [],
        "n_windows_left_out": {"unlabelled": 41, "too short": 7},
        "fingerprint": {"store": "ab" * 32, "biopercept": "0.1.0", "torch": "2.13.0"},
    }
    scores.update(changes)
    (folder / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    (folder / "folds.json").write_text(json.dumps({"folds": []}), encoding="utf-8")
    (folder / "config.yaml").write_text(
        "windows:\n  length_seconds: 60\n  step_seconds: 30\nevaluation:\n  n_bootstrap: 2000\n", encoding="utf-8"
    )
    return folder


def write_predictions(
    folder: Path, *, subjects: Sequence[str] = ("S31", "S32"), failures: Sequence[Sequence[str]] = ()
) -> Path:
    """Write what ``predict`` leaves: one table with sidecar per recording, the summary, the failures."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    for number, subject in enumerate(subjects):
        rows = make_windows(generator, ("rest", "stress"), 30, 1.0)
        table = [[r["onset"], 60.0, r["predicted"], *r["probabilities"], r["quality"], ""] for r in rows]
        table[3][2:5] = ["n/a", "n/a", "n/a"]
        table[3][6] = "too little of the signal is usable"
        columns = ("onset", "duration", "predicted", "probability_rest", "probability_stress", "quality", "reason")
        write_table(folder / f"{number}__run1_predictions.tsv", columns, table)
        sidecar = {"participant_id": subject, "session": "", "recording": "run1"}
        (folder / f"{number}__run1_predictions.json").write_text(json.dumps(sidecar), encoding="utf-8")
    summary = [[subject, "run1", 30, 0.61] for subject in subjects]
    write_table(folder / "summary.csv", ("participant_id", "recording", "n_windows", "share_stress"), summary)
    write_table(folder / "failures.csv", ("path", "message"), failures)
    return folder


def write_log(path: Path, *, subjects: Sequence[str] = SUBJECTS, failed: Sequence[str] = ()) -> Path:
    """Write a store's log table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in subjects:
        row = [subject, "", "run1", "prepared", 3.1, 24, 40, "outside every interval: 5; too short: 1", "EDA", "", ""]
        if subject in failed:
            row[3:10] = ["failed", 0.2, 0, 0, "", "", "the file is empty"]
        rows.append(row)
    columns = ("participant_id", "session", "recording", "status", "seconds", "windows_labelled", "windows_grid")
    columns += ("left_out", "signals", "message", "notes")
    write_table(path, columns, rows)
    return path


def write_demo(folder: Path, subjects: Sequence[str] = SUBJECTS) -> Path:
    """Write a parent folder with a store's log, three cross-validations and predictions."""
    write_log(folder / "study.log.csv", subjects=subjects, failed=subjects[:1])
    write_cross_validation(folder / "cross-validation" / "perceiver-io", subjects=subjects)
    write_cross_validation(
        folder / "cross-validation" / "logistic", model="logistic", subjects=subjects, skill=0.8, seed=2
    )
    write_cross_validation(
        folder / "cross-validation" / "clock-only", model="clock-only", subjects=subjects, skill=2.5, seed=3
    )
    write_predictions(folder / "predictions", failures=[("broken.edf", "broken.edf is empty")])
    return folder


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A parent folder of results of eight subjects."""
    return write_demo(tmp_path / "demo-output")


@pytest.fixture
def hostile_demo(tmp_path: Path) -> Path:
    """The same with hostile subject ids."""
    return write_demo(tmp_path / "demo-output", HOSTILE)


@pytest.fixture
def hostile_ids() -> tuple[str, ...]:
    """Names that must come out as text."""
    return HOSTILE


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """One finished cross-validation."""
    return write_cross_validation(tmp_path / "perceiver")


@pytest.fixture
def write_validation() -> Callable[..., Path]:
    """The builder of a cross-validation's folder."""
    return write_cross_validation


@pytest.fixture
def write_prediction_folder() -> Callable[..., Path]:
    """The builder of a folder of predictions."""
    return write_predictions


@pytest.fixture
def write_store_log() -> Callable[..., Path]:
    """The builder of a store's log."""
    return write_log
