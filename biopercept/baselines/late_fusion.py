"""Late fusion of decisions: a logistic regression for each feature group, joined by vote, mean or stacking.

The model on all features at once is ``logistic``; these differ from it in the place of fusion alone. A group
without a feature in a window abstains there.

References
----------
Majority vote and mean of probabilities: J. Kittler et al., "On Combining Classifiers", IEEE TPAMI 1998,
doi:10.1109/34.667881. Stacking: D. Wolpert, "Stacked Generalization", Neural Networks 1992,
doi:10.1016/S0893-6080(05)80023-1; the second level sees out-of-fold probabilities of training subjects only, whole
subjects at a time (the paper leaves out single samples), and its regression is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.baselines.features import (
    FeatureModel,
    columns_with_data,
    logistic_pipeline,
    n_coefficients,
    normalised_features,
    targets_and_weights,
    visible_values,
)
from biopercept.data.batches import feature_groups
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.data.splits import identity_rank
from biopercept.data.windows import IntArray
from biopercept.training.fitting import Fitter
from biopercept.training.loop import FitRequest
from biopercept.training.objective import cell_weights

N_INNER_FOLDS = 5
"""Folds of training subjects behind the second level of stacking."""

Rule = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Members:
    """One fitted model for each feature group.

    * ``values`` (float64 array, shape (n_windows, n_features)): normalised features of every window of the study.
    * ``columns``: columns of each group.
    * ``estimators``: None where the group has no data, or data of one
      class only.
    * ``fractions`` (float64 array, shape (n_classes,)): of the classes among the training windows: the prediction where
      every member abstains.
    """

    values: FloatArray
    columns: tuple[IntArray, ...]
    estimators: tuple[Any, ...]
    fractions: NDArray[np.float64]

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers of all members."""
        return sum(n_coefficients(estimator[-1]) for estimator in self.estimators if estimator is not None)

    def probabilities(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return each member's class probabilities, (n_members, len(rows), n_classes); NaN where it abstains."""
        values = self.values[rows]
        if visible is not None:
            values = visible_values(values, visible, slice(None))
        votes = np.full((len(self.columns), len(rows), len(self.fractions)), np.nan)
        for vote, columns, estimator in zip(votes, self.columns, self.estimators, strict=True):
            of_group = values[:, columns]
            has = np.isfinite(of_group).any(axis=1)
            if estimator is not None and has.any():
                vote[has] = 0.0
                vote[np.ix_(has, estimator.classes_)] = estimator.predict_proba(of_group[has])
        return votes


@dataclass(frozen=True, eq=False)
class FittedFusion(FeatureModel):
    """Members whose probabilities (n_members, n, n_classes) are joined by a rule, fixed or fitted."""

    members: Members
    join: Rule
    n_parameters: int

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes).

        Where every member abstains and the rule gives nothing they are the class fractions; with fewer sensors NaN.
        """
        votes = self.members.probabilities(rows, visible)
        joined = self.join(votes)
        joined = np.where(np.isfinite(joined), joined, self.members.fractions)
        if visible is None:
            return joined
        has_vote = np.asarray(np.isfinite(votes).any(axis=(0, 2)))
        return np.where(has_vote[:, None], joined, np.nan)


def majority_vote(probabilities: FloatArray) -> FloatArray:
    """Return the fractions of votes, with the members' mean probability as one vote more: it decides ties, no majority.

    They are (n_windows, n_classes), NaN where all abstain, from probabilities (n_members, n_windows, n_classes), NaN
    where a member abstains.
    """
    given = np.isfinite(probabilities[..., 0])  # (M, R)
    best = np.where(given[..., None], probabilities, 0.0).argmax(axis=2)
    votes = (np.eye(probabilities.shape[2])[best] * given[..., None]).sum(axis=0)
    fractions: FloatArray = (votes + probability_mean(probabilities)) / (given.sum(axis=0) + 1)[:, None]
    return fractions


def probability_mean(probabilities: FloatArray) -> FloatArray:
    """Return the mean probabilities of the members that do not abstain; shapes as in :func:`majority_vote`."""
    given = np.isfinite(probabilities)
    n_given = given.sum(axis=0)
    total = np.where(given, probabilities, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, n_given, out=np.full(total.shape, np.nan), where=n_given > 0)
    return mean


def fit_by_rule(rule: Rule) -> Fitter:
    """Return the function that fits the members and joins them by ``rule``."""

    def fit(request: FitRequest) -> FittedFusion:
        members = fit_members(request)
        return FittedFusion(members, rule, members.n_parameters)

    return fit


def fit_stacking(request: FitRequest) -> FittedFusion:
    """Return the members, and a logistic regression on their out-of-fold probabilities for the training subjects."""
    from sklearn.linear_model import LogisticRegression

    windows, subjects = request.inputs.windows, request.fitting_subjects
    rows = request.fitting
    votes = np.full((len(feature_groups(windows.feature_names)), len(rows), windows.only.n_classes), np.nan)
    for test in inner_folds(subjects, request.seed):
        inner = windows.rows_of([s for s in subjects if s not in test])
        inner_members = fit_members(replace(request, training=inner, validation=inner[:0]))
        index = np.flatnonzero(np.isin(windows.subject[rows], test))
        votes[:, index] = inner_members.probabilities(rows[index])
    target, weights = targets_and_weights(request)
    second = LogisticRegression(C=0.1, max_iter=2000, random_state=0)
    second.fit(second_level_table(votes), target, sample_weight=weights)
    members = fit_members(request)

    def join(votes: FloatArray) -> FloatArray:
        joined = np.zeros(votes.shape[1:])
        if len(joined):
            joined[:, second.classes_] = second.predict_proba(second_level_table(votes))
        return joined

    return FittedFusion(members, join, members.n_parameters + n_coefficients(second))


def inner_folds(subjects: tuple[str, ...], seed: int) -> list[list[str]]:
    """Return up to five groups of whole subjects, dealt by identity; together they are everyone once."""
    ranked = sorted(subjects, key=lambda s: identity_rank(s, f"stacking-{seed}"))
    n_folds = min(N_INNER_FOLDS, len(ranked))
    return [ranked[i::n_folds] for i in range(n_folds)] if n_folds > 1 else []


def second_level_table(probabilities: FloatArray) -> FloatArray:
    """Return what the second level reads, (n_windows, n_members * n_classes): log probabilities less their mean.

    A member that abstains is as one that finds all classes equally probable: 0 everywhere.
    """
    logs = np.log(np.clip(probabilities, 1e-3, 1.0))
    centred = np.nan_to_num(logs - logs.mean(axis=2, keepdims=True), nan=0.0)
    table: FloatArray = np.moveaxis(centred, 0, 1).reshape(probabilities.shape[1], -1)
    return table


def fit_members(request: FitRequest) -> Members:
    """Return a logistic regression for each feature group, fitted on the windows in which the group has a feature."""
    windows = request.inputs.windows
    values, rows = normalised_features(request), request.fitting
    target = windows.only.values[rows]
    columns: list[IntArray] = []
    estimators: list[Any] = []
    for of_sensor in feature_groups(windows.feature_names).values():
        group = np.asarray(of_sensor, dtype=np.int64)
        group = group[columns_with_data(values[:, group], rows)]
        has = np.isfinite(values[np.ix_(rows, group)]).any(axis=1)
        columns.append(group)
        if not has.any() or len(np.unique(target[has])) < 2:
            estimators.append(None)
            continue
        weights = cell_weights(windows.subject[rows[has]], target[has]).numpy()
        pipeline = logistic_pipeline()
        pipeline.fit(
            values[np.ix_(rows[has], group)], target[has], logisticregression__sample_weight=weights / weights.mean()
        )
        estimators.append(pipeline)
    counts = np.bincount(target, minlength=windows.only.n_classes)
    return Members(values, tuple(columns), tuple(estimators), counts / counts.sum())
