"""Scores of predicted numbers, for tasks whose target is a rating or a load and not a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RegressionScores:
    """Scores of one subject, or of all windows.

    Attributes
    ----------
    n : int
        Windows.
    mae : float
        Mean absolute error, in the target's unit.
    ccc : float or None
        Lin's concordance correlation; None where neither the target nor the prediction varies.
    r2 : float or None
        Share of the target's variance explained; below 0 where the mean would do better, None where it is constant.
    """

    n: int
    mae: float
    ccc: float | None
    r2: float | None


def score_regression(target: Floats, predicted: Floats) -> RegressionScores:
    """Return the scores of predicted numbers.

    Parameters
    ----------
    target, predicted : float64 arrays, shape (n,)
        Finite, in the same unit.

    Raises
    ------
    ValueError
        Where they are empty, of different lengths or not finite.
    """
    from sklearn.metrics import mean_absolute_error, r2_score

    if target.shape != predicted.shape or target.ndim != 1 or not len(target):
        raise ValueError(f"target and prediction have shapes {target.shape} and {predicted.shape}; one row each")
    if not (np.isfinite(target).all() and np.isfinite(predicted).all()):
        raise ValueError("target or prediction holds numbers that are not finite")
    is_constant = np.ptp(target) == 0
    return RegressionScores(
        len(target),
        float(mean_absolute_error(target, predicted)),
        concordance(target, predicted),
        None if is_constant else float(r2_score(target, predicted)),
    )


def concordance(target: Floats, predicted: Floats) -> float | None:
    """Return Lin's concordance correlation coefficient (1989, Biometrics 45, 255-268), variances over n.

    1 where both are equal; a constant shift or another scale lowers it, unlike a correlation. None where neither
    varies.
    """
    if np.ptp(target) == 0 and np.ptp(predicted) == 0:
        return None
    covariance = float(np.mean((target - target.mean()) * (predicted - predicted.mean())))
    apart = float(target.mean() - predicted.mean()) ** 2
    return 2.0 * covariance / (float(target.var()) + float(predicted.var()) + apart)
