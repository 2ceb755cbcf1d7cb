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
    training_data,
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

Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Members:
    """One fitted model for each feature group.

    Attributes
    ----------
    values : float64 array, shape (n_windows, n_features)
        Normalised features of every window of the study.
    columns : tuple of int64 arrays
        Columns of each group.
    estimators : tuple of fitted scikit-learn pipelines, or None
        None where the group has no data, or data of one class only.
    shares : float64 array, shape (n_classes,)
        Class shares of the training windows: the answer where every member abstains.
    """

    values: FloatArray
    columns: tuple[IntArray, ...]
    estimators: tuple[Any, ...]
    shares: NDArray[np.float64]

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers of all members."""
        lines = [e[-1] for e in self.estimators if e is not None]
        return sum(int(line.coef_.size + line.intercept_.size) for line in lines)

    def probabilities(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return each member's class probabilities, (n_members, len(rows), n_classes); NaN where it abstains."""
        values = self.values[rows]
        if visible is not None:
            values = visible_values(values, visible, slice(None))
        answers = np.full((len(self.columns), len(rows), len(self.shares)), np.nan)
        for answer, columns, estimator in zip(answers, self.columns, self.estimators, strict=True):
            of_group = values[:, columns]
            has = np.isfinite(of_group).any(axis=1)
            if estimator is not None and has.any():
                answer[has] = 0.0
                answer[np.ix_(has, estimator.classes_)] = estimator.predict_proba(of_group[has])
        return answers


def _where_voted(probabilities: FloatArray, votes: FloatArray, visible: WindowInputs | None) -> FloatArray:
    """Return probabilities (n, n_classes), with fewer sensors NaN where no member votes (n_members, n, n_classes)."""
    if visible is None:
        return probabilities
    has_vote = np.asarray(np.isfinite(votes).any(axis=(0, 2)))
    return np.where(has_vote[:, None], probabilities, np.nan)


@dataclass(frozen=True, eq=False)
class FittedByRule(FeatureModel):
    """Members whose probabilities are joined by a fixed rule."""

    members: Members
    rule: Rule

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers of all members."""
        return self.members.n_parameters

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes).

        They are the class shares where every member abstains.
        """
        votes = self.members.probabilities(rows, visible)
        joined = self.rule(votes)
        return _where_voted(np.where(np.isfinite(joined), joined, self.members.shares), votes, visible)


@dataclass(frozen=True, eq=False)
class FittedStack(FeatureModel):
    """Members whose log probabilities are read by a fitted regression."""

    members: Members
    second: Any

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers of the members and the second level."""
        return self.members.n_parameters + int(self.second.coef_.size + self.second.intercept_.size)

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes)."""
        votes = self.members.probabilities(rows, visible)
        answers = np.zeros((len(rows), len(self.members.shares)))
        if len(rows):
            answers[:, self.second.classes_] = self.second.predict_proba(second_level_table(votes))
        return _where_voted(answers, votes, visible)


def majority_vote(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of votes, with the members' mean probability as one vote more: it decides ties, no majority.

    Parameters
    ----------
    answers : float64 array, shape (n_members, n_windows, n_classes)
        NaN where a member abstains.

    Returns
    -------
    float64 array, shape (n_windows, n_classes); NaN where all abstain.
    """
    given = np.isfinite(answers[..., 0])  # (M, R)
    best = np.where(given[..., None], answers, 0.0).argmax(axis=2)
    votes = (np.eye(answers.shape[2])[best] * given[..., None]).sum(axis=0)
    voices: NDArray[np.float64] = (votes + probability_mean(answers)) / (given.sum(axis=0) + 1)[:, None]
    return voices


def probability_mean(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean probabilities of the members that do not abstain; shapes as in :func:`majority_vote`."""
    given = np.isfinite(answers)
    n_given = given.sum(axis=0)
    total = np.where(given, answers, 0.0).sum(axis=0)
    mean: NDArray[np.float64] = np.divide(total, n_given, out=np.full(total.shape, np.nan), where=n_given > 0)
    return mean


def fit_by_rule(rule: Rule) -> Fitter:
    """Return the function that fits the members and joins them by ``rule``."""

    def fit(request: FitRequest) -> FittedByRule:
        return FittedByRule(fit_members(request), rule)

    return fit


def fit_stacking(request: FitRequest) -> FittedStack:
    """Return the members, and a logistic regression on their out-of-fold probabilities for the training subjects."""
    from sklearn.linear_model import LogisticRegression

    windows, subjects = request.inputs.windows, request.fitting_subjects
    rows = request.fitting
    answers = np.full((len(feature_groups(windows.feature_names)), len(rows), windows.only.n_classes), np.nan)
    for held_out in inner_folds(subjects, request.seed):
        inner = windows.rows_of([s for s in subjects if s not in held_out])
        inner_members = fit_members(replace(request, training=inner, validation=inner[:0]))
        place = np.flatnonzero(np.isin(windows.subject[rows], held_out))
        answers[:, place] = inner_members.probabilities(rows[place])
    weights = cell_weights(windows.subject[rows], windows.only.values[rows]).numpy()
    second = LogisticRegression(C=0.1, max_iter=2000, random_state=0)
    second.fit(second_level_table(answers), windows.only.values[rows], sample_weight=weights / weights.mean())
    return FittedStack(fit_members(request), second)


def inner_folds(subjects: tuple[str, ...], seed: int) -> list[list[str]]:
    """Return up to five groups of whole subjects, dealt by identity; together they are everyone once."""
    ranked = sorted(subjects, key=lambda s: identity_rank(s, f"stacking-{seed}"))
    n_folds = min(N_INNER_FOLDS, len(ranked))
    return [ranked[i::n_folds] for i in range(n_folds)] if n_folds > 1 else []


def second_level_table(answers: NDArray[np.float64]) -> FloatArray:
    """Return what the second level reads, (n_windows, n_members * n_classes): log probabilities less their mean.

    A member that abstains is as one that finds all classes equally probable: 0 everywhere.
    """
    logs = np.log(np.clip(answers, 1e-3, 1.0))
    centred = np.nan_to_num(logs - logs.mean(axis=2, keepdims=True), nan=0.0)
    table: FloatArray = np.moveaxis(centred, 0, 1).reshape(answers.shape[1], -1)
    return table


def fit_members(request: FitRequest) -> Members:
    """Return a logistic regression for each feature group, fitted on the windows in which the group has a feature."""
    windows = request.inputs.windows
    values, target, _ = training_data(request)
    rows = request.fitting
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
