"""Scores of classes, levels and numbers, per subject and over subjects, with bootstrap intervals over subjects.

Metrics come from scikit-learn. A score that is not defined (one class only, fewer than two windows, or the same number
in all) is None, never 0 or 1; the agreement of a prediction that is always the same is 0, and not its rounding.

References
----------
Concordance correlation: L. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 1989,
doi:10.2307/2532051. Weighted kappa: J. Cohen, "Weighted kappa", Psychological Bulletin 1968, doi:10.1037/h0026256.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biopercept.results.cross_validation import (
    ClassScore,
    NumberScore,
    NumberSubjectScore,
    PooledScore,
    Score,
    SubjectScore,
)
from biopercept.tasks import Task

Probabilities = NDArray[np.float64]
Targets = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ERROR, AGREEMENT, EXPLAINED = "mae", "ccc", "r2"
_ROUNDING = 1e-12
"""A variance below this share of the mean square is a constant, and rounding."""


def score_subject(subject: str, target: Targets, probabilities: Probabilities) -> SubjectScore:
    """Return the scores of one subject; those of classes are None where there is one class only.

    Targets (n_windows,) are class indices; probabilities have shape (n_windows, n_classes).
    """
    from sklearn.metrics import f1_score, recall_score

    predicted, present = probabilities.argmax(axis=1), np.unique(target)
    scores: dict[str, Any] = {"balanced_accuracy": None}  # where there is one class only
    if len(present) > 1:
        recalls = recall_score(target, predicted, labels=present, average=None, zero_division=0)
        scores = {
            "balanced_accuracy": float(np.mean(recalls)),
            "macro_f1": float(f1_score(target, predicted, labels=present, average="macro", zero_division=0)),
            "auroc": auroc_score(target, probabilities),
            "mcc": matthews_correlation(target, predicted),
        }
    return SubjectScore(
        participant=subject,
        n_windows=len(target),
        brier=brier_score(target, probabilities),
        ece=calibration_error(target, probabilities),
        **scores,
    )


def matthews_correlation(target: Targets, predicted: Targets) -> float | None:
    """Return Matthews' correlation of classes, -1 to 1 (0 where constant); None with one true class only."""
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
    probability: NDArray[np.float64],
    happened: NDArray[np.float64],
    *,
    weights: NDArray[np.float64] | None = None,
    n_bins: int = 15,
) -> float:
    """Return the mean gap between what probabilities (n,), sorted, say and how often it happens, in bins of equal mass.

    ``happened`` (n,) is 0 or 1; ``weights`` (n,) are the times that each window counts.
    """
    mass = np.ones(len(probability)) if weights is None else weights
    middle = np.cumsum(mass) - 0.5 * mass
    members = np.minimum((middle / mass.sum() * n_bins).astype(np.int64), n_bins - 1)
    return float(np.abs(np.bincount(members, weights=mass * (probability - happened))).sum() / mass.sum())


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of whole subjects, the same for every score of a run."""

    seed: int
    n: int = 2000

    def score(
        self, values: Sequence[float | None], *, chance: float = 0.0, higher_is_better: bool = True
    ) -> ClassScore:
        """Return mean, 95 % interval, standard deviation, median and worst of one score over subjects.

        Values of subjects for whom it is not defined are None; ``subjects_below_chance`` counts against ``chance``.
        """
        defined = np.array([v for v in values if v is not None and math.isfinite(v)], dtype=np.float64)
        if not len(defined):
            return ClassScore(n_subjects=0, subjects_below_chance=0)
        has_several = len(defined) > 1
        return ClassScore(
            mean=float(defined.mean()),
            ci95=bootstrap_interval(defined, seed=self.seed, n_bootstrap=self.n) if has_several else None,
            sd=float(defined.std(ddof=1)) if has_several else None,
            median=float(np.median(defined)),
            worst=float(defined.min() if higher_is_better else defined.max()),
            n_subjects=len(defined),
            subjects_below_chance=int(np.sum(defined < chance)),
        )


def bootstrap_interval(values: NDArray[np.float64], *, seed: int, n_bootstrap: int = 2000) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the mean over resampled subjects."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(values), size=(n_bootstrap, len(values)))
    return percentile_interval(values[draws].mean(axis=1))


def percentile_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of values."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [2.5, 97.5])
    return float(low), float(high)


def chance_levels(subject: NDArray[np.str_], target: Targets, n_classes: int, *, seed: int) -> dict[str, float]:
    """Return what costs nothing to reach.

    ``majority``: accuracy of always predicting the most frequent class; ``dummy``: mean per-subject balanced accuracy
    of predictions drawn from the class fractions (100 draws).
    """
    counts = np.bincount(target, minlength=n_classes)
    fractions = counts / counts.sum()
    generator = np.random.default_rng(seed)
    draws = generator.choice(n_classes, size=(100, len(target)), p=fractions)
    per_subject = []
    for name in np.unique(subject):
        rows = subject == name
        present = np.unique(target[rows])
        if len(present) > 1:
            hits = draws[:, rows] == target[rows]
            per_subject.append(np.mean([hits[:, target[rows] == k].mean() for k in present]))
    return {
        "majority": float(fractions.max()),
        "dummy": float(np.mean(per_subject)) if per_subject else 1.0 / n_classes,
    }


def score_numbers(subject: str, label: FloatArray, predicted: FloatArray) -> NumberSubjectScore:
    """Return the scores of one subject; ``label`` and ``predicted`` are (n_windows,), in one unit."""
    mae, ccc, r2 = _from_sums(_sums(label, predicted, float(label.mean()) if len(label) else 0.0))
    return NumberSubjectScore(participant=subject, n_windows=len(label), mae=mae or 0.0, ccc=ccc, r2=r2)


def number_scores(
    subject: NDArray[np.str_],
    label: FloatArray,
    predicted: FloatArray,
    per_subject: Sequence[NumberSubjectScore],
    bootstrap: Bootstrap,
) -> dict[str, NumberScore]:
    """Return each score of numbers over subjects, and over all windows at once with whole subjects resampled."""
    middle = float(label.mean())
    rows = [subject == s.participant for s in per_subject]
    sums = np.stack([_sums(label[r], predicted[r], middle) for r in rows])
    draws = np.random.default_rng(bootstrap.seed).integers(0, len(sums), size=(bootstrap.n, len(sums)))
    resampled = [_from_sums(sums[draw].sum(axis=0)) for draw in draws]
    pooled = _from_sums(sums.sum(axis=0))
    scores = {}
    for index, name in enumerate((ERROR, AGREEMENT, EXPLAINED)):
        within = bootstrap.score([getattr(s, name) for s in per_subject], higher_is_better=name != ERROR)
        defined = [value for values in resampled if (value := values[index]) is not None]
        scores[name] = NumberScore(
            **vars(Score.of(within)),
            pooled=pooled[index],
            pooled_ci95=percentile_interval(defined) if len(sums) > 1 and defined else None,
        )
    return scores


def level_scores(
    subject: NDArray[np.str_], target: Targets, probabilities: Probabilities, bootstrap: Bootstrap
) -> dict[str, PooledScore]:
    """Return what is scored of an ordinal task beside the scores of its classes.

    ``levels_mae``: mean distance of the most probable level from the true one, in levels; ``weighted_kappa``: agreement
    beyond chance with squared weights, per subject where the subject has two levels, and pooled.
    """
    predicted, n_levels = probabilities.argmax(axis=1), probabilities.shape[1]
    rows = [subject == name for name in np.unique(subject)]
    errors = [float(np.abs(predicted[r] - target[r]).mean()) for r in rows]
    kappas = [weighted_kappa(target[r], predicted[r], n_levels) for r in rows]
    pooled_error = float(np.abs(predicted - target).mean())
    return {
        "levels_mae": PooledScore.of(bootstrap.score(errors, higher_is_better=False), pooled=pooled_error),
        "weighted_kappa": PooledScore.of(bootstrap.score(kappas), pooled=weighted_kappa(target, predicted, n_levels)),
    }


def weighted_kappa(target: Targets, predicted: Targets, n_levels: int) -> float | None:
    """Return Cohen's kappa with squared weights, 0 of a constant prediction; None where only one level is there."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(target)) < 2:
        return None
    if len(np.unique(predicted)) < 2:
        return 0.0
    return float(cohen_kappa_score(target, predicted, labels=np.arange(n_levels), weights="quadratic"))


def _sums(label: FloatArray, predicted: FloatArray, middle: float) -> FloatArray:
    """Return the sums that all scores follow from, so that a resample of subjects is a sum of rows.

    Numbers are counted from ``middle``, which no score depends on: small spreads about large numbers are not rounded.
    """
    x, y, error = label - middle, predicted - middle, predicted - label
    parts = (np.ones_like(x), x, y, x**2, y**2, x * y, np.abs(error), error**2)
    return np.array([part.sum() for part in parts])


def _from_sums(sums: FloatArray) -> tuple[float | None, float | None, float | None]:
    """Return mean absolute error, concordance correlation (0 of a constant prediction) and R2."""
    n, x, y, xx, yy, xy, absolute, squared = (float(value) for value in sums)
    if n < 1:
        return None, None, None
    spread_x, spread_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    if n < 2 or spread_x <= _ROUNDING * xx / n:
        return absolute / n, None, None
    shared = 0.0 if spread_y <= _ROUNDING * yy / n else xy / n - x * y / n**2
    return absolute / n, 2 * shared / (spread_x + spread_y + ((x - y) / n) ** 2), 1 - squared / (n * spread_x)


@dataclass(frozen=True)
class TaskMetrics:
    """How a kind of task is scored.

    ``score`` gives a row of ``scores.csv`` for (subject, true values, predicted values) of one subject's windows;
    ``columns`` gives those of ``predictions.csv`` for (classes, true values, predicted values) of all windows;
    ``of_studies`` names the scores that are given for each of several studies.
    """

    score: Callable[[str, NDArray[Any], FloatArray], SubjectScore | NumberSubjectScore]
    columns: Callable[[Sequence[str], NDArray[Any], FloatArray], dict[str, list[object]]]
    of_studies: tuple[str, ...]


def metrics_of(task: Task) -> TaskMetrics:
    """Return how a task is scored."""
    return _OF_NUMBERS if task.is_regression else _OF_CLASSES


def _class_columns(classes: Sequence[str], target: Targets, probabilities: FloatArray) -> dict[str, list[object]]:
    return {
        "label": [classes[index] for index in target],
        "predicted": [classes[index] for index in probabilities.argmax(axis=1)],
        **{
            f"probability_{name}": [round(float(p), 6) for p in column]
            for name, column in zip(classes, probabilities.T, strict=True)
        },
    }


def _number_columns(_: Sequence[str], label: FloatArray, predicted: FloatArray) -> dict[str, list[object]]:
    return {
        "label": [float(number) for number in label],
        "predicted": [float(f"{number:.7g}") for number in predicted[:, 0]],
    }


_OF_CLASSES = TaskMetrics(score_subject, _class_columns, ("balanced_accuracy", "macro_f1", "auroc"))
_OF_NUMBERS = TaskMetrics(lambda s, y, p: score_numbers(s, y, p[:, 0]), _number_columns, (ERROR, AGREEMENT))
