"""How far probabilities can be trusted: calibration, risk against coverage and prediction sets, by subject.

Calibration is over all classes and by class; intervals are over subjects. ``scores.json`` has a part for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.fold_fits import FoldResult
from biopercept.evaluation.metrics import (
    Probabilities,
    SubjectScores,
    Targets,
    binned_error,
    bootstrap_interval,
    brier_score,
    calibration_error,
    squared_distances,
    summarise,
)
from biopercept.evaluation.plan import Plan

N_BINS = 15
Floats = NDArray[np.float64]
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
RISKS = (0.05, 0.1, 0.2)


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


def pooled_probability_scores(
    subject: NDArray[np.str_], target: Targets, probabilities: Probabilities, *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Return Brier score and calibration error over all windows, each with a bootstrap interval over subjects.

    Whole subjects are drawn, so that the windows of one person stay together. Resampling raises a calibration error,
    which noise alone raises too: its interval can lie above the value itself.

    Returns
    -------
    dict
        ``brier`` and ``ece``, each with ``value`` and ``ci95`` (None for fewer than 2 subjects).
    """
    names, place = np.unique(subject, return_inverse=True)
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    is_right = (probabilities.argmax(axis=1) == target).astype(np.float64)
    distances, sizes = np.bincount(place, weights=squared_distances(target, probabilities)), np.bincount(place)
    drawn: dict[str, list[float]] = {"brier": [], "ece": []}
    generator = np.random.default_rng(seed)
    for _ in range(n_bootstrap if len(names) > 1 else 0):
        times = np.bincount(generator.integers(0, len(names), size=len(names)), minlength=len(names))
        drawn["brier"].append(float((times * distances).sum() / (times * sizes).sum()))
        weights = times[place[order]].astype(np.float64)
        drawn["ece"].append(binned_error(confidence[order], is_right[order], weights=weights, n_bins=N_BINS))
    values = {"brier": brier_score(target, probabilities), "ece": calibration_error(target, probabilities)}
    return {name: {"value": values[name], "ci95": _percentiles(held)} for name, held in drawn.items()}


def _percentiles(values: Sequence[float]) -> list[float] | None:
    return [float(end) for end in np.percentile(values, [2.5, 97.5])] if len(values) else None


def scores_by_class(
    classes: Sequence[str], target: Targets, probabilities: Probabilities
) -> dict[str, dict[str, float | None]]:
    """Return for every class over all windows: windows, recall, precision, and how its probability is calibrated.

    ``calibration_error`` is that of the class's own probability against how often the class is true, in 15 bins of
    equal mass (class-wise ECE, Nixon 2019, arXiv:1904.01685).
    """
    predicted = probabilities.argmax(axis=1)
    table: dict[str, dict[str, float | None]] = {}
    for place, name in enumerate(classes):
        is_true, is_said = target == place, predicted == place
        order = np.argsort(probabilities[:, place], kind="stable")
        hits = int((is_true & is_said).sum())
        table[name] = {
            "windows": int(is_true.sum()),
            "recall": hits / int(is_true.sum()) if is_true.any() else None,
            "precision": hits / int(is_said.sum()) if is_said.any() else None,
            "share": float(is_true.mean()),
            "mean_probability": float(probabilities[:, place].mean()),
            "calibration_error": binned_error(
                probabilities[order, place], is_true[order].astype(np.float64), n_bins=N_BINS
            ),
        }
    return table


def selective_risks(is_wrong: NDArray[np.bool_], trust: Floats) -> Floats:
    """Return the share of wrong answers among the most trusted 1, 2, ... n windows.

    Windows of equal trust count as one block: within it errors are spread evenly, as if its order were drawn at random.

    Parameters
    ----------
    is_wrong : bool array, shape (n,)
    trust : float64 array, shape (n,)
        The higher, the sooner answered.

    Returns
    -------
    float64 array, shape (n,)
    """
    order = np.argsort(-trust, kind="stable")
    blocks = np.flatnonzero(np.diff(trust[order], append=np.nan) != 0) + 1
    wrong = np.cumsum(is_wrong[order])[blocks - 1]
    n_answered = np.arange(1, len(trust) + 1)
    errors = np.interp(n_answered, np.concatenate([[0], blocks]), np.concatenate([[0], wrong]))
    return np.asarray(errors / n_answered, dtype=np.float64)


def area_under_risk(risks: Floats) -> float:
    """Return the area under the risk-coverage curve (AURC; Geifman 2019, arXiv:1805.08206): the mean over coverages."""
    return float(risks.mean())


def coverage_at_risk(risks: Floats, most: float) -> float:
    """Return the largest share of windows that can be answered with a risk of at most ``most``; 0 where none can."""
    allowed = np.flatnonzero(risks <= most + 1e-12)
    return float((allowed[-1] + 1) / len(risks)) if len(allowed) else 0.0


def orders_of_trust(probabilities: Probabilities, quality: Floats, least_quality: float) -> dict[str, Floats]:
    """Return how much each window is trusted, by three rules.

    ``confidence``: the highest probability; ``quality``: the mean signal quality (0 where unknown); ``gated``: the
    confidence, windows below ``least_quality`` last of all.
    """
    known = np.nan_to_num(np.asarray(quality, dtype=np.float64), nan=0.0)
    confidence = probabilities.max(axis=1)
    return {
        "confidence": confidence,
        "quality": known,
        "gated": np.where(known >= least_quality, confidence, confidence - 1.0),
    }


def selective_document(
    subject: NDArray[np.str_],
    target: Targets,
    probabilities: Probabilities,
    quality: Floats,
    *,
    least_quality: float,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Return risk against coverage as plain values: over all windows, and the area within each subject.

    Returns
    -------
    dict
        ``coverage``: shares of windows; per rule of :func:`orders_of_trust` the ``risk`` there, the ``aurc`` over all
        windows, its mean over subjects with interval, and the ``coverage_at_risk``.
    """
    is_wrong = probabilities.argmax(axis=1) != target
    n = len(target)
    rows_at = [max(1, round(share * n)) - 1 for share in COVERAGES]
    document: dict[str, Any] = {"coverage": list(COVERAGES), "least_quality": least_quality}
    for rule, trust in orders_of_trust(probabilities, quality, least_quality).items():
        risks = selective_risks(is_wrong, trust)
        within = np.array([
            area_under_risk(selective_risks(is_wrong[rows], trust[rows]))
            for name in np.unique(subject)
            for rows in [subject == name]
        ])  # fmt: skip
        document[rule] = {
            "risk": [float(risks[row]) for row in rows_at],
            "aurc": area_under_risk(risks),
            "aurc_over_subjects": _over_subjects(within, seed=seed, n_bootstrap=n_bootstrap),
            "coverage_at_risk": {str(most): coverage_at_risk(risks, most) for most in RISKS},
        }
    return document


def _over_subjects(values: Floats, *, seed: int, n_bootstrap: int) -> dict[str, Any]:
    interval = bootstrap_interval(values, seed=seed, n_bootstrap=n_bootstrap) if len(values) > 1 else None
    return {
        "mean": float(values.mean()),
        "ci95": None if interval is None else list(interval),
        "n_subjects": len(values),
    }


def set_document(
    subject: NDArray[np.str_],
    target: Targets,
    sets: NDArray[np.bool_],
    classes: Sequence[str],
    *,
    target_coverage: float,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Return how prediction sets did on held-out subjects: coverage with its interval, sizes, abstentions.

    Parameters
    ----------
    subject, target : arrays, shape (n,)
    sets : bool array, shape (n, n_classes)
        Which classes each window's set holds.
    target_coverage : float
        What was asked for.
    seed, n_bootstrap : int
        Of the intervals over subjects.
    """
    is_covered = sets[np.arange(len(target)), target]
    size = sets.sum(axis=1)
    is_single = size == 1
    per_subject = np.array([is_covered[subject == name].mean() for name in np.unique(subject)])
    is_right = is_covered & is_single
    return {
        "target": target_coverage,
        "coverage": _over_subjects(per_subject, seed=seed, n_bootstrap=n_bootstrap),
        "coverage_of_windows": float(is_covered.mean()),
        "worst_subject": float(per_subject.min()),
        "coverage_by_class": {
            name: float(is_covered[target == k].mean()) for k, name in enumerate(classes) if (target == k).any()
        },
        "mean_size": float(size.mean()),
        "answered": float(is_single.mean()),
        "abstained": float((~is_single).mean()),
        "empty": float((size == 0).mean()),
        "accuracy_of_answered": float(is_right.sum() / is_single.sum()) if is_single.any() else None,
    }
