"""Feature baselines: linear models and ensembles of trees, on the Perceiver's own windows, features and normalisation.

On wearable stress data linear models, LDA and boosted trees tie (Schmidt et al. 2018,
doi:10.1145/3242969.3242985, and our own runs), so few of each kind are enough.

References
----------
Boosting: J. Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001,
doi:10.1214/aos/1013203451, on binned features. Shrinkage of the covariance: O. Ledoit and M. Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis 2004,
doi:10.1016/S0047-259X(03)00096-4. Bagging: L. Breiman, "Bagging Predictors", Machine Learning 1996,
doi:10.1007/BF00058655. Different here: whole subjects are drawn with replacement, not windows, since windows of one
person are no independent samples; trees answer with probabilities, which are averaged; leaves hold at least ten
windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray
from biopercept.errors import SettingsError
from biopercept.training.loop import FitRequest
from biopercept.training.objective import cell_weights

N_TREES = 100
SMALLEST_LEAF = 10


class FeatureModel:
    """What all models of features have in common: no network, and fitted on the validation windows, too."""

    operations_per_window = None
    fell_back = False
    is_fitted_to_validation = True


def no_sensors(model: str) -> SettingsError:
    """Return the refusal to predict with fewer sensors, of a model that reads none."""
    return SettingsError(f"{model} reads no sensors; use evaluation.missing_sensors=none")


def visible_values(values: FloatArray, visible: WindowInputs, columns: IntArray | slice) -> FloatArray:
    """Return the normalised values of some windows where the features of ``visible`` are still defined, NaN elsewhere.

    Parameters
    ----------
    values : float64 array, shape (n, n_columns)
    columns : int64 array or slice
        Which feature each column is.
    """
    return np.where(np.isfinite(visible.raw_features[:, columns]), values, np.nan)


@dataclass(frozen=True, eq=False)
class FittedFeatureModel(FeatureModel):
    """A scikit-learn classifier with the feature matrix it answers from.

    Attributes
    ----------
    estimator : a fitted scikit-learn classifier or pipeline
    values : float64 array, shape (n_windows, n_columns)
        Normalised features of every window of the study.
    columns : int64 array, shape (n_columns,), or None
        Which feature each column of ``values`` is; None where they are no features of the window table.
    """

    estimator: Any
    values: FloatArray
    n_classes: int
    n_parameters: int
    columns: IntArray | None = None

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes); 0 for an untrained class.

        With fewer sensors, the features that are gone are as undefined features are.
        """
        if visible is None:
            return self._probabilities(self.values[rows])
        if self.columns is None:
            raise no_sensors("a probe")
        values = visible_values(self.values[rows], visible, self.columns)
        return np.where(np.isfinite(values).any(axis=1, keepdims=True), self._probabilities(values), np.nan)

    def _probabilities(self, values: FloatArray) -> FloatArray:
        known = np.asarray(self.estimator.classes_, dtype=np.int64)
        probabilities = np.zeros((len(values), self.n_classes))
        if len(values):
            probabilities[:, known] = self.estimator.predict_proba(values)
        return probabilities


def fit_logistic(request: FitRequest) -> FittedFeatureModel:
    """Return a ridge-penalised multinomial logistic regression on the features.

    Missing features take the training windows' median; columns are scaled by the training windows. Subjects, and
    classes within a subject, weigh the same.
    """
    values, target, weights = training_data(request)
    columns = np.flatnonzero(columns_with_data(values, request.fitting))
    values = values[:, columns]
    pipeline = logistic_pipeline()
    pipeline.fit(values[request.fitting], target, logisticregression__sample_weight=weights)
    linear = pipeline[-1]
    return FittedFeatureModel(
        pipeline,
        values,
        request.inputs.windows.only.n_classes,
        int(linear.coef_.size + linear.intercept_.size),
        columns,
    )


def logistic_pipeline() -> Any:
    """Return an unfitted ridge-penalised logistic regression behind median imputation and scaling."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=0.05, max_iter=2000, random_state=0)
    )


def fit_lda(request: FitRequest) -> FittedFeatureModel:
    """Return linear discriminant analysis on the features, its covariance shrunk after Ledoit and Wolf.

    Missing features take the training windows' median; columns are scaled by the training windows. Classes have
    equal priors; windows weigh the same, since the method knows no weights (unlike ``logistic``).
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, target, _ = training_data(request)
    columns = np.flatnonzero(columns_with_data(values, request.fitting))
    values = values[:, columns]
    n_classes = len(np.unique(target))
    line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(n_classes, 1.0 / n_classes))
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), line)
    pipeline.fit(values[request.fitting], target)
    n_parameters = int(line.coef_.size + line.intercept_.size)
    return FittedFeatureModel(pipeline, values, request.inputs.windows.only.n_classes, n_parameters, columns)


def fit_boosting(request: FitRequest) -> FittedFeatureModel:
    """Return gradient-boosted trees on the features; missing values go their own way in each tree."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    values, target, weights = training_data(request)
    columns = np.flatnonzero(columns_with_data(values, request.fitting))
    values = values[:, columns]
    trees = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=30, l2_regularization=1.0,
        early_stopping=False, random_state=request.seed % 2**31,
    )  # fmt: skip
    trees.fit(values[request.fitting], target, sample_weight=weights)
    n_leaves = sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage)
    return FittedFeatureModel(trees, values, request.inputs.windows.only.n_classes, int(n_leaves), columns)


@dataclass(frozen=True, eq=False)
class FittedRegressor(FeatureModel):
    """A scikit-learn regressor with the feature matrix it answers from.

    Attributes
    ----------
    estimator : a fitted scikit-learn regressor or pipeline
    values : float64 array, shape (n_windows, n_columns)
        Normalised features of every window of the study.
    """

    estimator: Any
    values: FloatArray
    n_parameters: int

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return the number of each of the windows at ``rows``, (len(rows), 1), in the unit of the study's column."""
        if visible is not None:
            raise no_sensors("a model of numbers")
        answers = self.estimator.predict(self.values[rows]) if len(rows) else np.zeros(0)
        return np.asarray(answers, dtype=np.float64)[:, None]


def fit_ridge(request: FitRequest) -> FittedRegressor:
    """Return a ridge regression of a number on the features, its penalty chosen within the training subjects.

    Missing features take the training windows' median; columns are scaled by the training windows. Subjects weigh the
    same. The penalty is the best of a few by the error on whole training subjects left out in turn.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, number, weights = regression_data(request)
    values = values[:, columns_with_data(values, request.fitting)]
    line = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), Ridge())
    owners = request.inputs.windows.subject[request.fitting]
    n_groups = min(5, len(np.unique(owners)))
    if n_groups > 1:
        penalties = {"ridge__alpha": [1.0, 10.0, 100.0, 1000.0]}
        line = GridSearchCV(line, penalties, scoring="neg_mean_absolute_error", cv=GroupKFold(n_groups))
        line.fit(values[request.fitting], number, groups=owners, ridge__sample_weight=weights)
        line = line.best_estimator_
    else:
        line.fit(values[request.fitting], number, ridge__sample_weight=weights)
    return FittedRegressor(line, values, int(line[-1].coef_.size + 1))


def fit_boosted_numbers(request: FitRequest) -> FittedRegressor:
    """Return gradient-boosted regression trees on the features; settings as of ``boosting``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    values, number, weights = regression_data(request)
    values = values[:, columns_with_data(values, request.fitting)]
    trees = HistGradientBoostingRegressor(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=30, l2_regularization=1.0,
        early_stopping=False, random_state=request.seed % 2**31,
    )  # fmt: skip
    trees.fit(values[request.fitting], number, sample_weight=weights)
    return FittedRegressor(trees, values, sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage))


def regression_data(request: FitRequest) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return all windows' normalised features, and number and weights of the fitting windows (weights average 1)."""
    values, _, weights = training_data(request)
    return values, request.inputs.windows.only.values[request.fitting], weights


def training_data(request: FitRequest) -> tuple[FloatArray, IntArray, FloatArray]:
    """Return all windows' normalised features, and target and weights of the fitting windows (weights average 1)."""
    windows = request.inputs.windows
    rows = request.fitting
    values = request.inputs.features(request.inputs.fit(request.fitting_subjects))
    weights = cell_weights(windows.subject[rows], windows.only.groups[rows]).numpy()
    return values, windows.only.values[rows], weights / weights.mean()


def columns_with_data(values: FloatArray, rows: IntArray) -> NDArray[np.bool_]:
    """Return which columns have at least one value among the training windows."""
    present = np.isfinite(values[rows]).any(axis=0)
    return np.asarray(present, dtype=bool)


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
