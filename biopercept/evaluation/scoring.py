"""From the folds' predictions to the result files: predictions.csv, scores.csv, scores.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.metrics import (
    SubjectScores,
    Summary,
    auroc_score,
    chance_levels,
    matthews_correlation,
    score_subject,
    summarise,
)
from biopercept.evaluation.missing_scores import MISSING_FILE, missing_document, write_missing_sensors
from biopercept.evaluation.planning import Plan
from biopercept.evaluation.regression_metrics import levels_document
from biopercept.evaluation.run_folder import SCHEMA
from biopercept.evaluation.study_scores import studies_document
from biopercept.evaluation.trust_scoring import prediction_sets, trust_document, trust_warnings
from biopercept.files import write_json, write_table
from biopercept.learning.calibration import set_words
from biopercept.learning.checkpoint import versions
from biopercept.results.reading import few_subjects_warnings
from biopercept.tasks import ORDINAL


def write_scores(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    """Score all folds together, write the three files and return the content of ``scores.json``.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    probabilities, fold_names = joined(plan, results)
    windows = plan.windows
    per_subject = [
        score_subject(subject, windows.only.values[rows], probabilities[rows])
        for subject in windows.subjects
        for rows in [windows.rows_of([subject])]
    ]
    scores = _scores_document(plan, results, probabilities, per_subject)
    fold_of = {subject: result.fold.name for result in results for subject in result.fold.test}
    names = ("n_windows", "balanced_accuracy", "macro_f1", "auroc", "brier")
    columns = ("participant_id", *names, "fold", "mcc", "ece")
    write_table(
        output / "scores.csv",
        columns,
        [(s.subject, *(getattr(s, name) for name in names), fold_of[s.subject], s.mcc, s.ece) for s in per_subject],
    )
    write_missing_sensors(plan, results, output / MISSING_FILE)
    sets = prediction_sets(plan, results)
    _write_predictions(plan, probabilities, fold_names, sets, output / "predictions.csv")
    write_json(output / "scores.json", scores)
    return scores


def joined(plan: Plan, results: Sequence[FoldResult]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the probabilities of every window, (n_windows, n_classes), and the fold that tested it.

    Of a regression the numbers, (n_windows, 1).

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    """
    windows = plan.windows
    probabilities = np.full((len(windows), windows.only.task.n_values), np.nan)
    names = [""] * len(windows)
    for result in results:
        for row, answer in zip(result.rows, result.probabilities, strict=True):
            if names[row]:
                raise StudyError(
                    f"window {row} was tested in folds {names[row]} and {result.fold.name}; start anew with --overwrite"
                )
            names[row], probabilities[row] = result.fold.name, answer
    if "" in names:
        raise StudyError(f"{names.count('')} windows were tested in no fold; start anew with --overwrite")
    return probabilities, names


def _scores_document(
    plan: Plan, results: Sequence[FoldResult], probabilities: NDArray[np.float64], per_subject: Sequence[SubjectScores]
) -> dict[str, Any]:
    windows, request = plan.windows, plan.request
    evaluation = request.evaluation

    def over_subjects(name: str) -> dict[str, Any]:
        values = [getattr(s, name) for s in per_subject]
        chance = {"auroc": 0.5, "mcc": 0.0}.get(name, 1.0 / windows.only.n_classes)
        return _summary_document(
            summarise(values, chance=chance, seed=request.seed, n_bootstrap=evaluation.n_bootstrap)
        )

    auroc = over_subjects("auroc")
    auroc["pooled"] = auroc_score(windows.only.values, probabilities)
    mcc = over_subjects("mcc")
    mcc["pooled"] = matthews_correlation(windows.only.values, probabilities.argmax(axis=1))
    return {
        "schema": SCHEMA,
        "model": request.model,
        "task": plan.task.name,
        "classes": list(windows.only.classes),
        "split": evaluation.split,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "labels": plan.labels(),
        "window_seconds": windows.length_seconds,
        "step_seconds": plan.inputs.step_seconds,
        "normalisation": plan.normalisation.mode,
        "normalisation_scope": plan.normalisation.scope,
        "transductive": plan.normalisation.is_transductive,
        "seeds": evaluation.n_seeds,
        "seed": request.seed,
        "parameters": max(r.n_parameters for r in results),
        "operations_per_window": max((r.operations_per_window or 0 for r in results), default=0) or None,
        "seconds": round(sum(r.seconds for r in results), 1),
        "balanced_accuracy": over_subjects("balanced_accuracy"),
        "macro_f1": over_subjects("macro_f1"),
        "auroc": auroc,
        "mcc": mcc,
        **trust_document(plan, results, probabilities, per_subject),
        "chance": chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=request.seed),
        "n_windows_left_out": windows.excluded,
        **_levels(plan, probabilities),
        **studies_document(plan, per_subject, ("balanced_accuracy", "macro_f1", "auroc")),
        **({} if plan.start is None else {"start_from": plan.start}),
        **missing_document(plan, results),
        "warnings": [*plan.warnings, *_score_warnings(per_subject), *trust_warnings(results)],
        "fingerprint": {"store": plan.store_fingerprint, **versions()},
    }


def _levels(plan: Plan, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return what an ordinal task has beside the scores of its classes."""
    if plan.task.kind != ORDINAL:
        return {}
    windows, request = plan.windows, plan.request
    found = levels_document(
        windows.subject,
        windows.only.values,
        probabilities,
        seed=request.seed,
        n_bootstrap=request.evaluation.n_bootstrap,
    )
    return {"kind": plan.task.kind, **found}


def _summary_document(summary: Summary) -> dict[str, Any]:
    document = asdict(summary)
    document["subjects_below_chance"] = document.pop("below_chance")
    document["ci95"] = None if summary.ci95 is None else list(summary.ci95)
    return document


def _score_warnings(per_subject: Sequence[SubjectScores]) -> list[str]:
    found = []
    undefined = [s.subject for s in per_subject if s.balanced_accuracy is None]
    if undefined:
        found.append(f"{len(undefined)} subjects have windows of one class only and no score: {', '.join(undefined)}")
    return [*found, *few_subjects_warnings(len(per_subject))]


def _write_predictions(
    plan: Plan,
    probabilities: NDArray[np.float64],
    folds: Sequence[str],
    sets: NDArray[np.bool_] | None,
    path: Path,
) -> None:
    windows = plan.windows
    quality = windows.quality()
    columns = ("participant_id", "session", "recording", "onset", "duration", "label", "predicted")
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
                windows.only.classes[windows.only.values[index]],
                windows.only.classes[int(probabilities[index].argmax())],
                *(round(float(p), 6) for p in probabilities[index]),
                folds[index],
                round(float(quality[index]), 4) if np.isfinite(quality[index]) else None,
                *(() if sets is None else (set_words(windows.only.classes, sets[index]),)),
            )
        )
    more = () if sets is None else ("prediction_set",)
    write_table(path, (*columns, *(f"probability_{c}" for c in windows.only.classes), "fold", "quality", *more), rows)
