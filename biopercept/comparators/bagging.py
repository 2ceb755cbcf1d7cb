"""Bagging: the mean of many trees, each grown on a bootstrap of the training subjects.

References
----------
L. Breiman, "Bagging Predictors", Machine Learning 1996, doi:10.1007/BF00058655. Different here: whole subjects are
drawn with replacement, not windows, since windows of one person are no independent samples; trees answer with
probabilities, which are averaged; leaves hold at least ten windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.comparators.features import FittedFeatureModel, columns_with_data, training_data
from biopercept.learning.fitting import FitRequest
from biopercept.learning.normalisation import FloatArray
from biopercept.learning.windows import IntArray

N_TREES = 100
SMALLEST_LEAF = 10


@dataclass(frozen=True, eq=False)
class Bag:
    """Fitted trees that answer together.

    Attributes
    ----------
    trees : tuple of fitted scikit-learn trees
    classes_ : int64 array
        Classes of the answer's columns, as a scikit-learn classifier names them.
    """

    trees: tuple[Any, ...]
    classes_: IntArray

    def predict_proba(self, values: FloatArray) -> NDArray[np.float64]:
        """Return the trees' mean probabilities, (n_windows, n_classes); 0 from a tree that never met a class."""
        total = np.zeros((len(values), len(self.classes_)))
        for tree in self.trees:
            total[:, np.searchsorted(self.classes_, tree.classes_)] += tree.predict_proba(values)
        mean: NDArray[np.float64] = total / len(self.trees)
        return mean


def fit_bagging(request: FitRequest) -> FittedFeatureModel:
    """Return bagged trees on the features; missing values go their own way in each tree.

    Within a draw, subjects weigh as often as they were drawn, and classes within a subject the same.
    """
    from sklearn.tree import DecisionTreeClassifier

    windows, rows = request.inputs.windows, request.fitting
    values, target, weights = training_data(request)
    columns = np.flatnonzero(columns_with_data(values, rows))
    values = values[:, columns]
    random = np.random.default_rng(request.seed)
    subjects = np.array(request.fitting_subjects)
    owner = np.searchsorted(subjects, windows.subject[rows])
    trees = []
    for _ in range(N_TREES):
        drawn = np.bincount(random.integers(len(subjects), size=len(subjects)), minlength=len(subjects))
        chosen = drawn[owner] > 0
        tree = DecisionTreeClassifier(min_samples_leaf=SMALLEST_LEAF, random_state=int(random.integers(2**31)))
        tree.fit(values[rows[chosen]], target[chosen], sample_weight=(weights * drawn[owner])[chosen])
        trees.append(tree)
    n_leaves = sum(int(tree.get_n_leaves()) for tree in trees)
    return FittedFeatureModel(Bag(tuple(trees), np.unique(target)), values, windows.only.n_classes, n_leaves, columns)
