"""Made folders of cross-validations whose per-subject scores are given, beside the files a comparison reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

SUBJECTS = tuple(f"S{number:02d}" for number in range(1, 21))
CLASSES = ("rest", "stress")


def _table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def write_run(
    folder: Path,
    scores: Sequence[float | None],
    *,
    subjects: Sequence[str] = SUBJECTS,
    model: str = "logistic",
    folds: Sequence[Sequence[str]] | None = None,
    onsets: Sequence[float] = (0.0, 60.0, 120.0, 180.0),
    labels: Mapping[float, str] | None = None,
    **changes: Any,
) -> Path:
    """Write a finished cross-validation with these balanced accuracies; ``changes`` replace keys of scores.json."""
    folder.mkdir(parents=True)
    subjects = subjects[: len(scores)]
    groups = [[s] for s in subjects] if folds is None else [list(f) for f in folds]
    known = labels or {}
    windows = [
        [s, "", "run", onset, 60.0, known.get(onset, CLASSES[place % 2]), "rest", 0.6, 0.4, s, 1.0]
        for s in subjects
        for place, onset in enumerate(onsets)
    ]
    columns = ["participant_id", "session", "recording", "onset", "duration", "label", "predicted"]
    _table(folder / "predictions.csv", [*columns, *(f"probability_{c}" for c in CLASSES), "fold", "quality"], windows)
    _table(
        folder / "scores.csv",
        ("participant_id", "n_windows", "balanced_accuracy", "macro_f1", "auroc", "brier", "fold"),
        [
            [s, len(onsets), "" if v is None else repr(float(v)), 0.5, "", "" if v is None else repr(1.0 - float(v)), s]
            for s, v in zip(subjects, scores, strict=True)
        ],
    )
    document = {
        "schema": 1,
        "model": model,
        "task": "stress",
        "classes": list(CLASSES),
        "split": "subject" if folds is None else "k-fold",
        "n_subjects": len(subjects),
        "n_windows": len(windows),
        "n_folds": len(groups),
        "normalisation": "causal",
        "transductive": False,
        "seeds": 1,
        "balanced_accuracy": {"mean": 0.7},
        "warnings": [],
        "fingerprint": {"store": "ab" * 32, "biopercept": "0.1.0"},
    }
    (folder / "scores.json").write_text(json.dumps({**document, **changes}), encoding="utf-8")
    rows = [
        {"name": str(i), "test": test, "validation": [], "training": [s for s in subjects if s not in test]}
        for i, test in enumerate(groups)
    ]
    (folder / "folds.json").write_text(json.dumps({"schema": 1, "run": {}, "folds": rows}), encoding="utf-8")
    (folder / "config.yaml").write_text("{}\n", encoding="utf-8")
    return folder


@pytest.fixture
def run() -> Callable[..., Path]:
    """The builder of a cross-validation's folder."""
    return write_run


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A parent of three: good is 0.1 above fair for all but one of 20, fair and twin differ by nothing that lasts."""
    fair = [0.6 + 0.01 * place for place in range(20)]
    good = [value + 0.1 + 0.001 * place if place else value - 0.05 for place, value in enumerate(fair)]
    twin = [value + 0.003 * (-1) ** place * (1 + place % 7) for place, value in enumerate(fair)]
    write_run(tmp_path / "runs" / "fair", fair, model="logistic")
    write_run(tmp_path / "runs" / "good", good, model="perceiver-io")
    write_run(tmp_path / "runs" / "twin", twin, model="boosting")
    return tmp_path / "runs"
