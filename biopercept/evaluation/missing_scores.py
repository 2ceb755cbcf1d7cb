"""The missing-sensor matrix: scores of the fitted models with every set of sensors, and what each absence costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.metrics import score_subject, summarise
from biopercept.evaluation.planning import Plan
from biopercept.evaluation.sensor_subsets import NONE, WHOLE, asked_sets
from biopercept.files import write_table
from biopercept.learning.restriction import measured_sensors

MISSING_FILE = "missing_sensors.csv"

_Row = tuple[str, str, int, int, int, float | None, float | None, float | None, float | None]


def missing_document(plan: Plan, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Return what ``scores.json`` says of missing sensors; nothing where that was not asked.

    Returns
    -------
    dict
        ``missing_sensors``: ``mode``, ``sensors``, and ``subsets``, each with its name, the sensors ``kept``, windows
        that had something left that the model reads, and over subjects balanced accuracy, AUROC and the paired
        ``difference`` in balanced accuracy to all sensors (and ``auroc_difference``) on the same windows, with 95 %
        bootstrap intervals. The difference is of the subjects who lost something.
    """
    if plan.request.evaluation.missing_sensors == NONE:
        return {}
    rows = _rows(plan, results)
    n_classes, request = plan.windows.only.n_classes, plan.request
    subsets = []
    for name, kept in asked_sets(request.evaluation.missing_sensors, plan.windows).items():
        own = [row for row in rows if row[1] == name]

        def over_subjects(column: int, chance: float, own: Sequence[_Row] = own) -> dict[str, Any]:
            values = [row[column] for row in own]
            found = summarise(values, chance=chance, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)  # type: ignore[arg-type]
            return {
                "mean": found.mean,
                "ci95": None if found.ci95 is None else list(found.ci95),
                "n_subjects": found.n_subjects,
            }

        subsets.append(
            {
                "sensors": name,
                "kept": list(kept),
                "n_windows": sum(row[4] for row in own),
                "balanced_accuracy": over_subjects(5, 1.0 / n_classes),
                "auroc": over_subjects(6, 0.5),
                "difference": over_subjects(7, 0.0),
                "auroc_difference": over_subjects(8, 0.0),
            }
        )
    sensors = measured_sensors(plan.windows.recordings, plan.windows.feature_names)
    held = {"mode": request.evaluation.missing_sensors, "sensors": list(sensors), "subsets": subsets}
    return {"missing_sensors": held}


def write_missing_sensors(plan: Plan, results: Sequence[FoldResult], path: Path) -> None:
    """Write a row per subject and set of sensors; no file, and none of an earlier run, where that was not asked.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    if plan.request.evaluation.missing_sensors == NONE:
        return
    columns = (
        "participant_id", "sensors", "n_sensors", "n_windows", "n_windows_answered",
        "balanced_accuracy", "auroc", "difference", "auroc_difference",
    )  # fmt: skip
    write_table(path, columns, _rows(plan, results))


def _rows(plan: Plan, results: Sequence[FoldResult]) -> list[_Row]:
    sets = asked_sets(plan.request.evaluation.missing_sensors, plan.windows)
    rows: list[_Row] = []
    for result in results:
        assert result.fewer_sensors is not None  # part of what a finished fold of this run is
        for subject in result.fold.test:
            worn = _worn_by(plan, subject)
            own = plan.windows.subject[result.rows] == subject
            target = plan.windows.only.values[result.rows[own]]
            whole = result.fewer_sensors[WHOLE][own]
            for name, kept in sets.items():
                row = _row(subject, name, len(kept), target, result.fewer_sensors[name][own], whole)
                is_compared = name == WHOLE or not worn <= set(kept)
                rows.append(row if is_compared else (*row[:7], None, None))
    return sorted(rows, key=lambda row: row[0])  # a stable sort: sets stay in their order


def _worn_by(plan: Plan, subject: str) -> set[str]:
    """Return the sensors that a subject has: who never had what a set lacks cannot say what losing it costs."""
    recordings = [held for held in plan.windows.recordings if held.subject == subject]
    return set(measured_sensors(recordings, plan.windows.feature_names))


def _row(
    subject: str,
    name: str,
    n_sensors: int,
    target: NDArray[np.int64],
    answers: NDArray[np.float64],
    whole: NDArray[np.float64],
) -> _Row:
    """Return one subject's scores with a set of sensors, and less those with all sensors on the windows it answers."""
    has = np.isfinite(answers).all(axis=1)
    if not has.any():
        return subject, name, n_sensors, len(target), 0, None, None, None, None
    mine = score_subject(subject, target[has], answers[has])
    best = score_subject(subject, target[has], whole[has])
    return (
        subject,
        name,
        n_sensors,
        len(target),
        int(has.sum()),
        mine.balanced_accuracy,
        mine.auroc,
        _less(mine.balanced_accuracy, best.balanced_accuracy),
        _less(mine.auroc, best.auroc),
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
