"""The part of ``scores.json`` about probabilities: their calibration, risk against coverage, prediction sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.metrics import SubjectScores, brier_score, calibration_error, summarise
from biopercept.evaluation.planning import Plan
from biopercept.evaluation.probability_scores import pooled_probability_scores, scores_by_class
from biopercept.evaluation.selective import selective_document, set_document


def trust_document(
    plan: Plan,
    results: Sequence[FoldResult],
    probabilities: NDArray[np.float64],
    per_subject: Sequence[SubjectScores],
) -> dict[str, Any]:
    """Return what is known of the probabilities as named values, to be joined with the other scores.

    ``brier`` and ``ece`` are over all windows; ``brier_ci95`` and ``ece_ci95`` are bootstrap intervals over subjects,
    and ``brier_over_subjects`` and ``ece_over_subjects`` the same scores within subjects.
    """
    windows, evaluation, seed = plan.windows, plan.request.evaluation, plan.request.seed
    again = {"seed": seed, "n_bootstrap": evaluation.n_bootstrap}
    pooled = pooled_probability_scores(windows.subject, windows.only.values, probabilities, **again)
    document: dict[str, Any] = {}
    for name in ("brier", "ece"):
        within = asdict(summarise([getattr(s, name) for s in per_subject], chance=0.0, higher_is_better=False, **again))
        del within["below_chance"]
        document |= {
            name: pooled[name]["value"],
            f"{name}_ci95": pooled[name]["ci95"],
            f"{name}_over_subjects": within,
        }
    document["scores_by_class"] = scores_by_class(windows.only.classes, windows.only.values, probabilities)
    document["risk_coverage"] = selective_document(
        windows.subject,
        windows.only.values,
        probabilities,
        windows.quality(),
        least_quality=evaluation.least_quality,
        **again,
    )
    return document | _calibration_document(plan, results) | _conformal_document(plan, results)


def _calibration_document(plan: Plan, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Return how probabilities were calibrated, and what they were before; nothing where they were not."""
    held = [result.calibration for result in results if result.calibration is not None]
    if not held or held[0].method == "none":
        return {}
    before = uncalibrated(plan, results)
    return {
        "calibration": {
            "method": held[0].method,
            "learnt_from": held[0].source,
            "n_subjects": [len(calibration.subjects) for calibration in held],
            "temperatures": [c.temperature for c in held] if held[0].method == "temperature" else None,
            "uncalibrated": {
                "brier": brier_score(plan.windows.only.values, before),
                "ece": calibration_error(plan.windows.only.values, before),
            },
        }
    }


def _conformal_document(plan: Plan, results: Sequence[FoldResult]) -> dict[str, Any]:
    sets = prediction_sets(plan, results)
    if sets is None:
        return {}
    windows, evaluation = plan.windows, plan.request.evaluation
    held = [result.calibration for result in results if result.calibration is not None]
    measured = set_document(
        windows.subject,
        windows.only.values,
        sets,
        windows.only.classes,
        target_coverage=evaluation.conformal_coverage,
        seed=plan.request.seed,
        n_bootstrap=evaluation.n_bootstrap,
    )
    return {
        "conformal": {
            **measured,
            "learnt_from": held[0].source,
            "n_subjects": [len(calibration.subjects) for calibration in held],
            "thresholds": [calibration.threshold for calibration in held],
        }
    }


def trust_warnings(results: Sequence[FoldResult]) -> list[str]:
    """Return a warning where the subjects to learn from were too few for the coverage asked for."""
    short = [r for r in results if r.calibration and r.calibration.coverage > 0 and r.calibration.threshold is None]
    if not short:
        return []
    fewest = min(len(r.calibration.subjects) for r in short if r.calibration)
    asked = short[0].calibration.coverage if short[0].calibration else 0.0
    return [
        f"{len(short)} of {len(results)} folds had too few subjects ({fewest}) to learn prediction sets of {asked:.0%} "
        "coverage from, and every class is in every set there; set evaluation.calibration_folds to 2 or more, or ask "
        "for less coverage"
    ]


def uncalibrated(plan: Plan, results: Sequence[FoldResult]) -> NDArray[np.float64]:
    """Return the probabilities of every window before calibration, (n_windows, n_classes)."""
    values = np.full((len(plan.windows), plan.windows.only.n_classes), np.nan)
    for result in results:
        values[result.rows] = result.probabilities if result.uncalibrated is None else result.uncalibrated
    return values


def prediction_sets(plan: Plan, results: Sequence[FoldResult]) -> NDArray[np.bool_] | None:
    """Return which classes each window's set holds, (n_windows, n_classes); None where no sets were asked for."""
    if not plan.request.evaluation.conformal_coverage:
        return None
    before = uncalibrated(plan, results)
    sets = np.ones(before.shape, dtype=bool)
    for result in results:
        if result.calibration is not None:
            sets[result.rows] = result.calibration.sets(before[result.rows])
    return sets
