"""How far probabilities can be trusted: calibration, risk against coverage and prediction sets, by subject.

Calibration is over all classes and by class; intervals are over subjects. ``scores.json`` has a part for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.fold_fits import FoldResult
from biopercept.evaluation.metrics import (
    Bootstrap,
    Probabilities,
    Targets,
    binned_error,
    brier_score,
    calibration_error,
    percentile_interval,
    squared_distances,
)
from biopercept.evaluation.plan import Plan
from biopercept.results.cross_validation import Calibrated, PooledErrors, PredictionSets, RiskCoverage, RiskCurve
from biopercept.results.reading import CountedEstimate

N_BINS = 15
Floats = NDArray[np.float64]
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
RISKS = (0.05, 0.1, 0.2)


def calibrated(plan: Plan, results: Sequence[FoldResult]) -> Calibrated | None:
    """Return how probabilities were calibrated, and what they were before; None where they were not."""
    folds = [result.calibration for result in results if result.calibration is not None]
    if not folds or folds[0].method == "none":
        return None
    before, target = uncalibrated(plan, results), plan.windows.only.values
    return Calibrated(
        method=folds[0].method,
        learnt_from=folds[0].source,
        n_subjects=tuple(len(calibration.subjects) for calibration in folds),
        temperatures=tuple(c.temperature for c in folds) if folds[0].method == "temperature" else None,
        uncalibrated=PooledErrors(brier=brier_score(target, before), ece=calibration_error(target, before)),
    )


def set_scores(plan: Plan, results: Sequence[FoldResult], bootstrap: Bootstrap) -> PredictionSets | None:
    """Return how prediction sets did on held-out subjects; None where none were asked for."""
    sets = prediction_sets(plan, results)
    if sets is None:
        return None
    windows = plan.windows
    folds = [result.calibration for result in results if result.calibration is not None]
    return PredictionSets(
        target=plan.request.evaluation.conformal_coverage,
        learnt_from=folds[0].source,
        n_subjects=tuple(len(calibration.subjects) for calibration in folds),
        thresholds=tuple(calibration.threshold for calibration in folds),
        **set_measures(windows.subject, windows.only.values, sets, windows.only.classes, bootstrap),
    )


def trust_warnings(results: Sequence[FoldResult]) -> list[str]:
    """Return a warning where the subjects to learn from were too few for the coverage asked for."""
    short = [r for r in results if r.calibration and r.calibration.coverage > 0 and r.calibration.threshold is None]
    if not short:
        return []
    fewest = min(len(r.calibration.subjects) for r in short if r.calibration)
    wanted = short[0].calibration.coverage if short[0].calibration else 0.0
    return [
        f"{len(short)} of {len(results)} folds had too few subjects ({fewest}) to learn prediction sets of "
        f"{wanted:.0%} coverage from, and every class is in every set there; set evaluation.calibration_folds to 2 or "
        "more, or ask for less coverage"
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


class PooledError(NamedTuple):
    """An error over all windows, and its interval over subjects (None for fewer than 2)."""

    value: float
    ci95: tuple[float, float] | None


def pooled_probability_scores(
    subject: NDArray[np.str_], target: Targets, probabilities: Probabilities, bootstrap: Bootstrap
) -> dict[str, PooledError]:
    """Return Brier score and calibration error over all windows, each with a bootstrap interval over subjects.

    Whole subjects are drawn, so that the windows of one person stay together. Resampling raises a calibration error,
    which noise alone raises too: its interval can lie above the value itself.
    """
    names, owner = np.unique(subject, return_inverse=True)
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    is_right = (probabilities.argmax(axis=1) == target).astype(np.float64)
    distances, sizes = np.bincount(owner, weights=squared_distances(target, probabilities)), np.bincount(owner)
    drawn: dict[str, list[float]] = {"brier": [], "ece": []}
    generator = np.random.default_rng(bootstrap.seed)
    for _ in range(bootstrap.n if len(names) > 1 else 0):
        times = np.bincount(generator.integers(0, len(names), size=len(names)), minlength=len(names))
        drawn["brier"].append(float((times * distances).sum() / (times * sizes).sum()))
        weights = times[owner[order]].astype(np.float64)
        drawn["ece"].append(binned_error(confidence[order], is_right[order], weights=weights, n_bins=N_BINS))
    values = {"brier": brier_score(target, probabilities), "ece": calibration_error(target, probabilities)}
    return {
        name: PooledError(values[name], percentile_interval(resampled) if resampled else None)
        for name, resampled in drawn.items()
    }


def scores_by_class(
    classes: Sequence[str], target: Targets, probabilities: Probabilities
) -> dict[str, dict[str, int | float | None]]:
    """Return for every class over all windows: windows, recall, precision, and how its probability is calibrated.

    ``calibration_error`` is that of the class's own probability against how often the class is true, in 15 bins of
    equal mass (class-wise ECE, Nixon 2019, arXiv:1904.01685).
    """
    predicted = probabilities.argmax(axis=1)
    table: dict[str, dict[str, int | float | None]] = {}
    for index, name in enumerate(classes):
        is_true, is_predicted = target == index, predicted == index
        order = np.argsort(probabilities[:, index], kind="stable")
        hits = int((is_true & is_predicted).sum())
        table[name] = {
            "windows": int(is_true.sum()),
            "recall": hits / int(is_true.sum()) if is_true.any() else None,
            "precision": hits / int(is_predicted.sum()) if is_predicted.any() else None,
            "share": float(is_true.mean()),
            "mean_probability": float(probabilities[:, index].mean()),
            "calibration_error": binned_error(
                probabilities[order, index], is_true[order].astype(np.float64), n_bins=N_BINS
            ),
        }
    return table


def selective_risks(is_wrong: NDArray[np.bool_], trust: Floats) -> Floats:
    """Return the fraction of wrong predictions among the most trusted 1, 2, ... n windows, (n,).

    Windows of equal trust count as one block: within it errors are spread evenly, as if its order were drawn at random.
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
    """Return the largest fraction of windows with a risk of at most ``most``; 0 where there is none."""
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


def risk_coverage(
    subject: NDArray[np.str_],
    target: Targets,
    probabilities: Probabilities,
    quality: Floats,
    least_quality: float,
    bootstrap: Bootstrap,
) -> RiskCoverage:
    """Return risk against coverage by each rule of :func:`orders_of_trust`: over all windows, and within subjects."""
    is_wrong = probabilities.argmax(axis=1) != target
    n = len(target)
    rows_at = [max(1, round(coverage * n)) - 1 for coverage in COVERAGES]
    curves = {}
    for rule, trust in orders_of_trust(probabilities, quality, least_quality).items():
        risks = selective_risks(is_wrong, trust)
        within = [
            area_under_risk(selective_risks(is_wrong[rows], trust[rows]))
            for name in np.unique(subject)
            for rows in [subject == name]
        ]
        curves[rule] = RiskCurve(
            risk=tuple(float(risks[row]) for row in rows_at),
            aurc=area_under_risk(risks),
            aurc_over_subjects=CountedEstimate.of(bootstrap.score(within)),
            coverage_at_risk={str(most): coverage_at_risk(risks, most) for most in RISKS},
        )
    return RiskCoverage(coverage=COVERAGES, least_quality=least_quality, **curves)


def set_measures(
    subject: NDArray[np.str_],
    target: Targets,
    sets: NDArray[np.bool_],
    classes: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return coverage, sizes and abstentions of sets (n, n_classes), as fields of :class:`PredictionSets`."""
    is_covered = sets[np.arange(len(target)), target]
    size = sets.sum(axis=1)
    is_single = size == 1
    per_subject = [float(is_covered[subject == name].mean()) for name in np.unique(subject)]
    return {
        "coverage": CountedEstimate.of(bootstrap.score(per_subject)),
        "coverage_of_windows": float(is_covered.mean()),
        "worst_subject": min(per_subject),
        "coverage_by_class": {
            name: float(is_covered[target == k].mean()) for k, name in enumerate(classes) if (target == k).any()
        },
        "mean_size": float(size.mean()),
        "answered": float(is_single.mean()),
        "abstained": float((~is_single).mean()),
        "empty": float((size == 0).mean()),
        "accuracy_of_answered": float((is_covered & is_single).sum() / is_single.sum()) if is_single.any() else None,
    }
