"""Early against late fusion on a prepared study: all folds, their scores per subject, and a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.claims.fewer_sensors import signals_by_sensor
from biopercept.claims.fusion import EARLY, LATE, WAYS, Answers, answers_of, fusion_folds, fusion_plan
from biopercept.claims.fusion_page import fusion_part
from biopercept.claims.units import UnitDone, run_units
from biopercept.data.windows import IntArray
from biopercept.evaluation.metrics import chance_levels, score_subject, summarise
from biopercept.evaluation.plan import EvaluationRequest, Plan
from biopercept.files import only_writer, write_json, write_text
from biopercept.store.reading import open_store
from biopercept.version import __version__


def run_fusion(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    anew: bool = False,
    command: str = "",
    on_unit: UnitDone | None = None,
) -> dict[str, Any]:
    """Run or resume early against late fusion of one study; write ``fusion-NAME.json`` and ``fusion-NAME.md``.

    Parameters
    ----------
    request : EvaluationRequest
        Store, task, settings, folds and seed; NAME is the store's file name.
    output : Path
        Folder; folds of an earlier run of the same request are used again.
    n_jobs : int
        Folds at a time, each in a child process; results do not depend on it.
    anew : bool
        Fit every fold again.
    command : str
        How it was called, for the page.
    on_unit : callable, optional
        Told ``(fold, was_done_before, n_folds)``.

    Returns
    -------
    dict
        The content of the JSON file; see :func:`fusion_document`.

    Raises
    ------
    StudyError
        Where the study has no task, or windows, subjects or sensors do not suffice.
    SettingsError
        Where the split does not fit the subjects, or folds were lost with their process.
    BusyError
        Where another process is writing there.
    """
    with open_store(request.store) as store, only_writer(output):
        plan = fusion_plan(store, request)
        folds = run_units(fusion_folds(plan), output, n_jobs=n_jobs, anew=anew, on_unit=on_unit)
        found = fusion_document(plan, store.name, folds) | {"command": command}
        stem = f"fusion-{request.store.stem}"
        write_json(output / f"{stem}.json", found)
        write_text(output / f"{stem}.md", fusion_page(found))
    return found


def fusion_page(found: Mapping[str, Any]) -> str:
    """Return the Markdown page of one study."""
    called = f" by `{found['command']}`" if found.get("command") else ""
    head = f"# Early and late fusion: {found['store']}\n\nWritten{called} with biopercept {found['version']}, seed"
    return f"{head} {found['seed']}. Brackets are 95 % intervals.\n" + fusion_part(found)


def fusion_document(plan: Plan, name: str, units: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the study's scores from its folds' files.

    Returns
    -------
    dict
        ``sensors`` with their signals, ``folds``, ``n_windows``, ``chance``, ``parameters`` and ``cpu_seconds`` of
        both ways (parameters of the first fold, seconds of fitting over all folds), and ``scores``: a row for each set
        of sensors with mean balanced accuracy per subject [95 % bootstrap interval over subjects] of both, and their
        paired differences. Windows that either way could not answer count for neither.
    """
    folds = [unit["result"] for unit in units]
    windows, seed = plan.windows, plan.request.seed
    answers = answers_of(folds, len(windows), windows.only.n_classes)
    chance = chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=seed)["dummy"]
    return {
        "version": __version__,
        "store": name,
        "task": plan.task.name,
        "classes": list(windows.only.classes),
        "warnings": list(plan.warnings),
        "normalisation": plan.normalisation.mode,
        "modality_dropout": plan.request.fit.tokens.modality_dropout,
        "n_epochs": plan.request.fit.training.n_epochs,
        "seed": seed,
        "sensors": signals_by_sensor(windows.recordings, windows.feature_names),
        "without_model": {fold["fold"]: fold["without_model"] for fold in folds if fold["without_model"]},
        "folds": len(folds),
        "n_windows": len(windows),
        "n_subjects": len(windows.subjects),
        "chance": chance,
        "parameters": dict(folds[0]["parameters"]),
        "cpu_seconds": {way: sum(fold["cpu_seconds"][way] for fold in folds) for way in WAYS},
        "scores": scores_of(answers, windows.subject, windows.only.values, chance=chance, seed=seed),
    }


def scores_of(
    answers: Mapping[str, Mapping[str, Answers]],
    subject: NDArray[np.str_],
    target: IntArray,
    *,
    chance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row per set of sensors: both ways' balanced accuracy over subjects, and paired differences.

    Parameters
    ----------
    answers : mapping
        By way and set of sensors, probabilities (n, K), NaN where there is none.
    subject, target : arrays (n,)
    chance : float
    seed : int
        Of the bootstrap.
    """

    def over_subjects(values: Sequence[float]) -> dict[str, Any]:
        found = summarise(values, chance=chance, seed=seed)
        return {"mean": found.mean, "ci95": list(found.ci95) if found.ci95 else None, "n_subjects": found.n_subjects}

    by_subject: dict[tuple[str, str], dict[str, float]] = {}
    rows = []
    for name in answers[EARLY]:
        is_answered = np.all([np.isfinite(answers[way][name]).all(1) for way in WAYS], axis=0)
        for way in WAYS:
            by_subject[way, name] = _by_subject(answers[way][name], subject, target, is_answered)
        early, late = by_subject[EARLY, name], by_subject[LATE, name]
        row: dict[str, Any] = {"sensors": name, "n_windows": int(is_answered.sum())}
        row |= {way: over_subjects(list(by_subject[way, name].values())) for way in WAYS}
        row["early_minus_late"] = over_subjects([early[s] - late[s] for s in early])
        for way in WAYS:
            mine, whole = by_subject[way, name], by_subject[way, "all"]
            row[f"{way}_minus_all"] = over_subjects([mine[s] - whole[s] for s in mine if s in whole])
        rows.append(row)
    return rows


def _by_subject(
    answers: Answers, subject: NDArray[np.str_], target: IntArray, is_answered: NDArray[np.bool_]
) -> dict[str, float]:
    found = {}
    for who in np.unique(subject):
        rows = (subject == who) & is_answered
        if rows.any():
            score = score_subject(str(who), target[rows], answers[rows]).balanced_accuracy
            if score is not None:
                found[str(who)] = score
    return found
