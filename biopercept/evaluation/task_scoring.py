"""Result files of any tasks: classes, ordered levels and numbers; a sub-folder for each where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.planning import Plan
from biopercept.evaluation.regression_metrics import RegressionScores, numbers_document, score_numbers
from biopercept.evaluation.run_folder import SCHEMA
from biopercept.evaluation.scoring import joined, write_scores
from biopercept.evaluation.study_scores import studies_document
from biopercept.files import write_json, write_table, write_text
from biopercept.learning.checkpoint import versions
from biopercept.results.reading import few_subjects_warnings
from biopercept.tasks import Task


def write_all_scores(
    plan: Plan, results: Sequence[FoldResult], output: Path, *, config_text: str = ""
) -> dict[str, Any]:
    """Score every task of a cross-validation and return what its ``scores.json`` holds.

    One task is written into ``output`` itself. Of several, each has a folder of its name with the same files and the
    settings, so that it is read and reported like any cross-validation; folds and log are shared.

    Returns
    -------
    dict
        The scores; of several tasks ``tasks`` with the scores of each by name, and all their ``warnings``.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    parts = [(task.name, *_one_task(plan, results, task)) for task in plan.windows.tasks]
    if len(parts) == 1:
        return _write_task(parts[0][1], parts[0][2], output)
    found = {}
    for name, part, own in parts:
        write_text(output / name / "config.yaml", config_text)
        found[name] = _write_task(part, own, output / name)
    warnings = dict.fromkeys(warning for scores in found.values() for warning in scores["warnings"])
    return {"tasks": found, "warnings": list(warnings)}


def _write_task(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    return (write_number_scores if plan.task.is_regression else write_scores)(plan, results, output)


def _one_task(plan: Plan, results: Sequence[FoldResult], task: Task) -> tuple[Plan, list[FoldResult]]:
    """Return the plan and the folds' answers of one task: its own windows and its own columns of the answers."""
    table, rows = plan.windows.of_task(task.name)
    place = np.full(len(plan.windows), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    first = sum(other.n_values for other in plan.windows.tasks[: plan.windows.tasks.index(task)])
    columns = slice(first, first + task.n_values)
    own = [
        replace(r, rows=place[r.rows][place[r.rows] >= 0], probabilities=r.probabilities[place[r.rows] >= 0, columns])
        for r in results
    ]
    return replace(plan, task=task, inputs=replace(plan.inputs, windows=table)), own


def write_number_scores(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    """Score a regression, write ``scores.csv``, ``predictions.csv`` and ``scores.json`` and return the last one.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    answers, folds = joined(plan, results)
    windows, label, predicted = plan.windows, plan.windows.only.values, answers[:, 0]
    per_subject = [
        score_numbers(subject, label[rows], predicted[rows])
        for subject in windows.subjects
        for rows in [windows.rows_of([subject])]
    ]
    document = _document(plan, results, per_subject, numbers_document(
        windows.subject, label, predicted, per_subject,
        seed=plan.request.seed, n_bootstrap=plan.request.evaluation.n_bootstrap,
    ))  # fmt: skip
    fold_of = {subject: result.fold.name for result in results for subject in result.fold.test}
    write_table(
        output / "scores.csv",
        ("participant_id", "n_windows", "mae", "ccc", "r2", "fold"),
        [(s.subject, s.n_windows, s.mae, s.ccc, s.r2, fold_of[s.subject]) for s in per_subject],
    )
    _write_predictions(plan, predicted, folds, output / "predictions.csv")
    write_json(output / "scores.json", document)
    return document


def _document(
    plan: Plan,
    results: Sequence[FoldResult],
    per_subject: Sequence[RegressionScores],
    scores: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    windows, request = plan.windows, plan.request
    guessed = _error_of_the_mean(plan, per_subject)
    better = sum(s.mae < error * (1 - 1e-9) for s, error in zip(per_subject, guessed, strict=True))
    return {
        "schema": SCHEMA,
        "kind": plan.task.kind,
        "model": request.model,
        "task": plan.task.name,
        "column": plan.task.column,
        "split": request.evaluation.split,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "window_seconds": windows.length_seconds,
        "step_seconds": plan.inputs.step_seconds,
        "normalisation": plan.normalisation.mode,
        "normalisation_scope": plan.normalisation.scope,
        "transductive": plan.normalisation.is_transductive,
        "seeds": request.evaluation.n_seeds,
        "seed": request.seed,
        "parameters": max(r.n_parameters for r in results),
        "operations_per_window": max((r.operations_per_window or 0 for r in results), default=0) or None,
        "seconds": round(sum(r.seconds for r in results), 1),
        **scores,
        **studies_document(plan, per_subject, ("mae", "ccc")),
        "chance": {"training_mean_mae": float(np.mean(guessed)), "subjects_better_than_mean": better},
        "n_windows_left_out": windows.excluded,
        **({} if plan.start is None else {"start_from": plan.start}),
        "warnings": [*plan.warnings, *_warnings(per_subject)],
        "fingerprint": {"store": plan.store_fingerprint, **versions()},
    }


def _error_of_the_mean(plan: Plan, per_subject: Sequence[RegressionScores]) -> list[float]:
    """Return each subject's mean absolute error if the mean of its fold's training subjects were answered."""
    windows, value = plan.windows, plan.windows.only.values
    means = {s: float(value[windows.rows_of([s])].mean()) for s in windows.subjects}
    errors = []
    for scored in per_subject:
        fold = next(fold for fold in plan.folds if scored.subject in fold.test)
        guess = float(np.mean([means[s] for s in fold.fitting if s in means]))
        errors.append(float(np.abs(value[windows.rows_of([scored.subject])] - guess).mean()))
    return errors


def _warnings(per_subject: Sequence[RegressionScores]) -> list[str]:
    found = []
    constant = [s.subject for s in per_subject if s.r2 is None]
    if constant:
        found.append(f"{len(constant)} subjects have one number only, so they have no ccc and r2; read the pooled ones")
    return [*found, *few_subjects_warnings(len(per_subject))]


def _write_predictions(plan: Plan, predicted: np.ndarray, folds: Sequence[str], path: Path) -> None:
    windows, quality = plan.windows, plan.windows.quality()
    columns = ("participant_id", "session", "recording", "onset", "duration", "label", "predicted", "fold", "quality")
    rows = []
    for index in range(len(windows)):
        recording = windows.recordings[windows.recording[index]]
        rows.append(
            (
                recording.subject,
                recording.session,
                recording.recording,
                float(windows.onset[index]),
                windows.length_seconds,
                float(windows.only.values[index]),
                float(f"{predicted[index]:.7g}"),
                folds[index],
                round(float(quality[index]), 4) if np.isfinite(quality[index]) else None,
            )
        )
    write_table(path, columns, rows)
