"""Probes that no honest model should need: a guess from class shares, and a clock that reads only the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.comparators.features import FittedFeatureModel
from biopercept.learning.fitting import FitRequest
from biopercept.learning.training import cell_weights
from biopercept.learning.windows import IntArray


@dataclass(frozen=True, eq=False)
class FittedDummy:
    """The same probabilities for every window: the class shares of the training windows."""

    shares: NDArray[np.float64]

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""
        return len(self.shares)

    def probabilities(self, rows: IntArray) -> NDArray[np.float64]:
        """Return the class shares for each of ``rows``, (len(rows), n_classes)."""
        return np.tile(self.shares, (len(rows), 1))


def fit_dummy(request: FitRequest) -> FittedDummy:
    """Return the guesser that always answers the most frequent class of the training windows."""
    windows = request.inputs.windows
    counts = np.bincount(windows.target[request.fitting], minlength=windows.n_classes)
    return FittedDummy(counts / counts.sum())


def fit_clock(request: FitRequest) -> FittedFeatureModel:
    """Return boosted trees that see only the seconds since the recording began.

    Where it scores well the protocol's order gives the label away, and any model that can tell the time
    (by drift, by position) looks better than it is.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    windows, rows = request.inputs.windows, request.fitting
    values = windows.onset[:, None]
    weights = cell_weights(windows.subject[rows], windows.target[rows]).numpy()
    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, early_stopping=False, random_state=0)
    trees.fit(values[rows], windows.target[rows], sample_weight=weights / weights.mean())
    n_leaves = sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage)
    return FittedFeatureModel(trees, values, windows.n_classes, int(n_leaves))
