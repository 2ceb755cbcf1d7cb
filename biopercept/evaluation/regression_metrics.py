"""Scores of predicted numbers and of ordered levels, per subject and pooled, with intervals whose unit is the subject.

A score that is not defined (fewer than two windows, or the same number in all) is None, never 0 or 1.

References
----------
Concordance correlation: L. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 1989,
doi:10.2307/2532051. Weighted kappa: J. Cohen, "Weighted kappa", Psychological Bulletin 1968, doi:10.1037/h0026256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.metrics import Probabilities, Targets, summarise

FloatArray = NDArray[np.float64]
ERROR, AGREEMENT, EXPLAINED = "mae", "ccc", "r2"


@dataclass(frozen=True)
class RegressionScores:
    """Scores of one subject's windows; None where not defined.

    ``mae`` is in the unit of what is predicted; ``ccc`` runs from -1 to 1; ``r2`` is 1 at best, 0 for the subject's own
    mean, and below 0 for worse.
    """

    subject: str
    n_windows: int
    mae: float
    ccc: float | None
    r2: float | None


def score_numbers(subject: str, label: FloatArray, predicted: FloatArray) -> RegressionScores:
    """Return the scores of one subject; ``label`` and ``predicted`` are (n_windows,), in one unit."""
    mae, ccc, r2 = _from_sums(_sums(label, predicted))
    return RegressionScores(subject, len(label), mae or 0.0, ccc, r2)


def numbers_document(
    subject: NDArray[np.str_],
    label: FloatArray,
    predicted: FloatArray,
    per_subject: Sequence[RegressionScores],
    *,
    seed: int,
    n_bootstrap: int = 2000,
) -> dict[str, dict[str, Any]]:
    """Return mean, interval and spread over subjects of each score, and the score over all windows at once.

    Parameters
    ----------
    subject : array of str, shape (n_windows,)
    label, predicted : float64 arrays, shape (n_windows,)
    per_subject : sequence of RegressionScores
    seed : int
        Of the bootstrap.
    n_bootstrap : int
        Resamples of the subjects, for means and for pooled scores alike.
    """
    sums = np.stack([_sums(label[subject == s.subject], predicted[subject == s.subject]) for s in per_subject])
    draws = np.random.default_rng(seed).integers(0, len(sums), size=(n_bootstrap, len(sums)))
    resampled = [_from_sums(sums[draw].sum(axis=0)) for draw in draws]
    pooled = _from_sums(sums.sum(axis=0))
    found = {}
    for place, name in enumerate((ERROR, AGREEMENT, EXPLAINED)):
        values = [getattr(s, name) for s in per_subject]
        document = subjects_document(values, seed=seed, n_bootstrap=n_bootstrap, is_error=name == ERROR)
        defined = [scores[place] for scores in resampled if scores[place] is not None]
        document["pooled"] = pooled[place]
        document["pooled_ci95"] = (
            [float(v) for v in np.percentile(np.array(defined, dtype=np.float64), [2.5, 97.5])]
            if len(sums) > 1 and defined
            else None
        )
        found[name] = document
    return found


def subjects_document(
    values: Sequence[float | None], *, seed: int, n_bootstrap: int, is_error: bool = False
) -> dict[str, Any]:
    """Return mean, 95 % interval, sd, median and worst of a score over subjects; the worst error is the largest."""
    found = summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap)
    defined = [v for v in values if v is not None]
    return {
        "mean": found.mean,
        "ci95": None if found.ci95 is None else list(found.ci95),
        "sd": found.sd,
        "median": found.median,
        "worst": max(defined) if is_error and defined else found.worst,
        "n_subjects": found.n_subjects,
    }


def levels_document(
    subject: NDArray[np.str_], target: Targets, probabilities: Probabilities, *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Return what is scored of an ordinal task beside the scores of its classes.

    Returns
    -------
    dict
        ``levels_mae``: mean distance of the most probable level from the true one, in levels; ``weighted_kappa``:
        agreement beyond chance with squared weights, per subject where the subject has two levels, and pooled.
    """
    predicted = probabilities.argmax(axis=1)
    rows = [subject == name for name in np.unique(subject)]
    errors = [float(np.abs(predicted[r] - target[r]).mean()) for r in rows]
    kappas = [weighted_kappa(target[r], predicted[r], probabilities.shape[1]) for r in rows]
    return {
        "levels_mae": {
            **subjects_document(errors, seed=seed, n_bootstrap=n_bootstrap, is_error=True),
            "pooled": float(np.abs(predicted - target).mean()),
        },
        "weighted_kappa": {
            **subjects_document(kappas, seed=seed, n_bootstrap=n_bootstrap),
            "pooled": weighted_kappa(target, predicted, probabilities.shape[1]),
        },
    }


def weighted_kappa(target: Targets, predicted: Targets, n_levels: int) -> float | None:
    """Return Cohen's kappa with squared weights; None where only one level is there."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(target)) < 2:
        return None
    return float(cohen_kappa_score(target, predicted, labels=np.arange(n_levels), weights="quadratic"))


def _sums(label: FloatArray, predicted: FloatArray) -> FloatArray:
    """Return the sums that all scores follow from, so that a resample of subjects is a sum of rows."""
    error = predicted - label
    parts = (np.ones_like(label), label, predicted, label**2, predicted**2, label * predicted, np.abs(error), error**2)
    return np.array([part.sum() for part in parts])


def _from_sums(sums: FloatArray) -> tuple[float | None, float | None, float | None]:
    """Return mean absolute error, concordance correlation and R2."""
    n, x, y, xx, yy, xy, absolute, squared = (float(value) for value in sums)
    if n < 1:
        return None, None, None
    spread_x, spread_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    if n < 2 or spread_x <= 1e-12 * max(1.0, xx / n):
        return absolute / n, None, None
    concordance = 2 * (xy / n - x * y / n**2) / (spread_x + spread_y + ((x - y) / n) ** 2)
    return absolute / n, concordance, 1 - squared / (n * spread_x)
