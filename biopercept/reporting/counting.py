"""The little that a report counts by itself: the confusion matrix and the bins of the reliability curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .prediction_results import Predictions

N_BINS = 15
"""Bins of the reliability curve, of equal mass."""


def confusion_counts(predictions: Predictions) -> NDArray[np.int64]:
    """Return how many windows of each true class (rows) were predicted as each class (columns): (K, K).

    Windows without a true class or with a withheld prediction are not counted.
    """
    place = {name: number for number, name in enumerate(predictions.classes)}
    counts = np.zeros((len(place), len(place)), dtype=np.int64)
    for label, predicted in zip(predictions.label, predictions.predicted, strict=True):
        if label and predicted:
            counts[place[label], place[predicted]] += 1
    return counts


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Windows sorted by probability and cut into bins of about equal size.

    Attributes
    ----------
    predicted, observed : array of float64, shape (n_bins,)
        Mean probability and share of windows where it came true.
    n : array of int64, shape (n_bins,)
        Windows in each bin.
    values : array of float64, shape (n_windows,)
        Every probability.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    n: NDArray[np.int64]
    values: NDArray[np.float64]


def reliability_bins(predictions: Predictions, n_bins: int = N_BINS) -> ReliabilityBins | None:
    """Return the reliability curve: for two classes of the second one's probability, else of the predicted class's.

    Equal probabilities are never divided between bins, so a model that says one thing has one bin.
    None where no window has both a true class and a probability.
    """
    place = {name: number for number, name in enumerate(predictions.classes)}
    given = [row for row, (t, p) in enumerate(zip(predictions.label, predictions.predicted, strict=True)) if t and p]
    if not given:
        return None
    truth = np.array([place[predictions.label[row]] for row in given])
    chosen = np.array([place[predictions.predicted[row]] for row in given])
    if len(place) == 2:
        chosen = np.ones_like(chosen)
    values = predictions.probabilities[given, chosen]
    is_true = truth == chosen
    edges = np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1])
    _, members = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    n = np.bincount(members)
    return ReliabilityBins(
        predicted=np.bincount(members, weights=values) / n,
        observed=np.bincount(members, weights=is_true) / n,
        n=n.astype(np.int64),
        values=values,
    )
