"""Scores of classes, levels and numbers, per subject and over subjects, with bootstrap intervals over subjects.

Metrics come from scikit-learn. A score that is not defined (one class only, fewer than two windows, or the same number
in all) is None, never 0 or 1.

References
----------
Concordance correlation: L. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 1989,
doi:10.2307/2532051. Weighted kappa: J. Cohen, "Weighted kappa", Psychological Bulletin 1968, doi:10.1037/h0026256.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Targets = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ERROR, AGREEMENT, EXPLAINED = "mae", "ccc", "r2"


@dataclass(frozen=True)
class SubjectScores:
    """Scores of one subject's windows; None where not defined.

    ``brier`` is half the mean squared distance of the probabilities from the label (0 is perfect, 1 worst;
    for two classes the usual Brier score). ``mcc`` is Matthews' correlation, ``ece`` the calibration error of the
    predicted class, which is rough with few windows.
    """

    subject: str
    n_windows: int
    balanced_accuracy: float | None
    macro_f1: float | None
    auroc: float | None
    brier: float
    mcc: float | None
    ece: float


@dataclass(frozen=True)
class Summary:
    """A score over subjects.

    Attributes
    ----------
    mean, median, sd, worst : float or None
        Over subjects for whom the score is defined; ``sd`` with n - 1.
    ci95 : tuple of two floats, or None
        Percentile bootstrap over subjects.
    n_subjects : int
        Subjects for whom it is defined.
    below_chance : int
        Subjects below the chance level given to :func:`summarise`.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    sd: float | None
    median: float | None
    worst: float | None
    n_subjects: int
    below_chance: int


def score_subject(subject: str, target: Targets, probabilities: Probabilities) -> SubjectScores:
    """Return the scores of one subject.

    Parameters
    ----------
    target : int64 array, shape (n_windows,)
        Class index of each window.
    probabilities : float64 array, shape (n_windows, n_classes)
    """
    from sklearn.metrics import f1_score, recall_score

    predicted = probabilities.argmax(axis=1)
    present = np.unique(target)
    brier, ece = brier_score(target, probabilities), calibration_error(target, probabilities)
    if len(present) < 2:
        return SubjectScores(subject, len(target), None, None, None, brier, None, ece)
    recalls = recall_score(target, predicted, labels=present, average=None, zero_division=0)
    f1 = f1_score(target, predicted, labels=present, average="macro", zero_division=0)
    return SubjectScores(
        subject,
        len(target),
        float(np.mean(recalls)),
        float(f1),
        auroc_score(target, probabilities),
        brier,
        matthews_correlation(target, predicted),
        ece,
    )


def matthews_correlation(target: Targets, predicted: Targets) -> float | None:
    """Return Matthews' correlation of classes, -1 to 1 (0 for one constant answer); None with one true class only."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(target, predicted)) if len(np.unique(target)) > 1 else None


def auroc_score(target: Targets, probabilities: Probabilities) -> float | None:
    """Return the area under the ROC curve; over more than two classes the mean of each class against the rest."""
    from sklearn.metrics import roc_auc_score

    n_classes = probabilities.shape[1]
    classes = [1] if n_classes == 2 else range(n_classes)
    areas = [
        float(roc_auc_score(target == k, probabilities[:, k])) for k in classes if 0 < np.sum(target == k) < len(target)
    ]
    return float(np.mean(areas)) if areas else None


def brier_score(target: Targets, probabilities: Probabilities) -> float:
    """Return half the mean squared distance between probabilities and one-hot labels, in [0, 1]."""
    return float(squared_distances(target, probabilities).mean())


def squared_distances(target: Targets, probabilities: Probabilities) -> NDArray[np.float64]:
    """Return half the squared distance between each window's probabilities and its one-hot label, shape (n,)."""
    labels = np.eye(probabilities.shape[1])[target]
    return np.asarray(0.5 * np.sum((probabilities - labels) ** 2, axis=1), dtype=np.float64)


def calibration_error(target: Targets, probabilities: Probabilities, *, n_bins: int = 15) -> float:
    """Return the expected calibration error of the top class, bins of equal mass (Guo 2017, arXiv:1706.04599)."""
    confidence = probabilities.max(axis=1)
    is_right = (probabilities.argmax(axis=1) == target).astype(np.float64)
    order = np.argsort(confidence, kind="stable")
    return binned_error(confidence[order], is_right[order], n_bins=n_bins)


def binned_error(
    said: NDArray[np.float64],
    happened: NDArray[np.float64],
    *,
    weights: NDArray[np.float64] | None = None,
    n_bins: int = 15,
) -> float:
    """Return the mean gap between what probabilities say and how often it happens, in bins of equal mass.

    Parameters
    ----------
    said : float64 array, shape (n,)
        Probabilities, sorted.
    happened : float64 array, shape (n,)
        0 or 1.
    weights : float64 array, shape (n,), optional
        Times that each window counts.
    """
    mass = np.ones(len(said)) if weights is None else weights
    middle = np.cumsum(mass) - 0.5 * mass
    members = np.minimum((middle / mass.sum() * n_bins).astype(np.int64), n_bins - 1)
    return float(np.abs(np.bincount(members, weights=mass * (said - happened))).sum() / mass.sum())


def summarise(
    values: Sequence[float | None], *, chance: float, seed: int, n_bootstrap: int = 2000, higher_is_better: bool = True
) -> Summary:
    """Return mean, interval, spread and worst of one score over subjects.

    Parameters
    ----------
    values : sequence of float or None
        One per subject; None where not defined.
    chance : float
        Level that ``below_chance`` counts against.
    seed : int
        Of the bootstrap.
    n_bootstrap : int
        Resamples of the subjects.
    higher_is_better : bool
        Whether the worst is the lowest.
    """
    defined = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
    if not len(defined):
        return Summary(None, None, None, None, None, 0, 0)
    interval = bootstrap_interval(defined, seed=seed, n_bootstrap=n_bootstrap) if len(defined) > 1 else None
    return Summary(
        float(defined.mean()),
        interval,
        float(defined.std(ddof=1)) if len(defined) > 1 else None,
        float(np.median(defined)),
        float(defined.min() if higher_is_better else defined.max()),
        len(defined),
        int(np.sum(defined < chance)),
    )


def bootstrap_interval(values: NDArray[np.float64], *, seed: int, n_bootstrap: int = 2000) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the mean over resampled subjects."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(values), size=(n_bootstrap, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def chance_levels(subject: NDArray[np.str_], target: Targets, n_classes: int, *, seed: int) -> dict[str, float]:
    """Return what costs nothing to reach.

    Returns
    -------
    dict
        ``majority``: accuracy of always answering the most frequent class; ``dummy``: mean per-subject
        balanced accuracy of answers drawn from the class shares (100 draws).
    """
    counts = np.bincount(target, minlength=n_classes)
    shares = counts / counts.sum()
    generator = np.random.default_rng(seed)
    draws = generator.choice(n_classes, size=(100, len(target)), p=shares)
    per_subject = []
    for name in np.unique(subject):
        rows = subject == name
        present = np.unique(target[rows])
        if len(present) > 1:
            hits = draws[:, rows] == target[rows]
            per_subject.append(np.mean([hits[:, target[rows] == k].mean() for k in present]))
    return {"majority": float(shares.max()), "dummy": float(np.mean(per_subject)) if per_subject else 1.0 / n_classes}


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
