"""Models of features: linear models, ensembles of trees, and probes that no honest model should need.

The models read the Perceiver's own windows, features and normalisation; probes read the time, movement alone, signal
quality alone, or nothing. On wearable stress data linear models, LDA and boosted trees tie (Schmidt et al. 2018,
doi:10.1145/3242969.3242985, and our own runs), so few of each kind are enough. Subjects, and classes within a subject,
weigh the same where nothing else is said.

References
----------
Boosting: J. Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001,
doi:10.1214/aos/1013203451, on binned features. Shrinkage of the covariance: O. Ledoit and M. Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis 2004,
doi:10.1016/S0047-259X(03)00096-4. Bagging: L. Breiman, "Bagging Predictors", Machine Learning 1996,
doi:10.1007/BF00058655. Different here: whole subjects are drawn with replacement, not windows, since windows of one
person are no independent samples; trees give probabilities, which are averaged; leaves hold at least ten windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import SettingsError
from biopercept.modalities import MODALITY_NAMES
from biopercept.training.loop import FitRequest
from biopercept.training.objective import cell_weights

N_TREES = 100
SMALLEST_LEAF = 10


class FeatureModel:
    """What all models of features have in common: no network, and fitted on the validation windows, too."""

    operations_per_window = None
    fell_back = False
    is_fitted_to_validation = True


def visible_values(values: FloatArray, visible: WindowInputs, columns: IntArray | slice) -> FloatArray:
    """Return normalised values (n, n_columns), NaN where the feature of the column is undefined in ``visible``."""
    return np.where(np.isfinite(visible.raw_features[:, columns]), values, np.nan)


@dataclass(frozen=True, eq=False)
class FittedFeatureModel(FeatureModel):
    """A scikit-learn classifier with the feature matrix that it reads.

    * ``values`` (float64 array, shape (n_windows, n_columns)): normalised features of every window of the study.
    * ``columns`` (int64 array, shape (n_columns,), or None): which feature each column of ``values`` is; None where
      they are no features of the window table.
    """

    estimator: Any
    values: FloatArray
    n_classes: int
    n_parameters: int
    columns: IntArray | None = None

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return class probabilities of the windows at ``rows``, (len(rows), n_classes); 0 for an untrained class.

        With fewer sensors, the features that are gone are as undefined features are.

        Raises SettingsError where a probe, which reads no sensors, is to predict with fewer.
        """
        if visible is None:
            return self._probabilities(self.values[rows])
        if self.columns is None:
            raise SettingsError(_NO_SENSORS.format("a probe"))
        values = visible_values(self.values[rows], visible, self.columns)
        return np.where(np.isfinite(values).any(axis=1, keepdims=True), self._probabilities(values), np.nan)

    def _probabilities(self, values: FloatArray) -> FloatArray:
        known = np.asarray(self.estimator.classes_, dtype=np.int64)
        probabilities = np.zeros((len(values), self.n_classes))
        if len(values):
            probabilities[:, known] = self.estimator.predict_proba(values)
        return probabilities


_NO_SENSORS = "{} reads no sensors; use evaluation.missing_sensors=none"


@dataclass(frozen=True, eq=False)
class FittedRegressor(FeatureModel):
    """A scikit-learn regressor with the feature matrix (n_windows, n_columns) that it reads."""

    estimator: Any
    values: FloatArray
    n_parameters: int

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return the number of each of the windows at ``rows``, (len(rows), 1), in the unit of the study's column.

        Raises SettingsError where sensors are missing.
        """
        if visible is not None:
            raise SettingsError(_NO_SENSORS.format("a model of numbers"))
        numbers = self.estimator.predict(self.values[rows]) if len(rows) else np.zeros(0)
        return np.asarray(numbers, dtype=np.float64)[:, None]


@dataclass(frozen=True, eq=False)
class FittedDummy(FeatureModel):
    """The same prediction for every window: the class fractions, or the mean number, of the training windows."""

    prediction: FloatArray

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""
        return len(self.prediction)

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return the prediction for each of ``rows``, (len(rows), n_values); SettingsError with fewer sensors."""
        if visible is not None:
            raise SettingsError(_NO_SENSORS.format("a probe"))
        return np.tile(self.prediction, (len(rows), 1))


def targets_and_weights(request: FitRequest) -> tuple[NDArray[Any], FloatArray]:
    """Return class or number, and weight, of the fitting windows; weights average 1."""
    windows, rows = request.inputs.windows, request.fitting
    weights = cell_weights(windows.subject[rows], windows.only.groups[rows]).numpy()
    return windows.only.values[rows], weights / weights.mean()


def normalised_features(request: FitRequest) -> FloatArray:
    """Return the features of all windows, (n_windows, n_features), normalised as the fitting subjects say."""
    return request.inputs.features(request.inputs.fit(request.fitting_subjects))


def columns_with_data(values: FloatArray, rows: IntArray) -> NDArray[np.bool_]:
    """Return which columns have at least one value among the training windows."""
    present = np.isfinite(values[rows]).any(axis=0)
    return np.asarray(present, dtype=bool)


def _readable(request: FitRequest) -> tuple[FloatArray, IntArray]:
    """Return the features that have data in the fitting windows, of all windows, and which ones they are."""
    values = normalised_features(request)
    columns = np.flatnonzero(columns_with_data(values, request.fitting))
    return values[:, columns], columns


def linear_pipeline(estimator: Any) -> Any:
    """Return an unfitted linear model behind median imputation and scaling, both by the training windows."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), estimator)


def logistic_pipeline() -> Any:
    """Return an unfitted ridge-penalised logistic regression behind :func:`linear_pipeline`."""
    from sklearn.linear_model import LogisticRegression

    return linear_pipeline(LogisticRegression(C=0.05, max_iter=2000, random_state=0))


def n_coefficients(line: Any) -> int:
    """Return the number of fitted numbers of a linear model."""
    return int(line.coef_.size + line.intercept_.size)


def fit_logistic(request: FitRequest) -> FittedFeatureModel:
    """Return a ridge-penalised multinomial logistic regression on the features."""
    target, weights = targets_and_weights(request)
    return _fitted_line(request, logistic_pipeline(), target, logisticregression__sample_weight=weights)


def fit_lda(request: FitRequest) -> FittedFeatureModel:
    """Return linear discriminant analysis on the features, its covariance shrunk after Ledoit and Wolf.

    Classes have equal priors; windows weigh the same, since the method knows no weights (unlike ``logistic``).
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    target, _ = targets_and_weights(request)
    n_classes = len(np.unique(target))
    line = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(n_classes, 1.0 / n_classes))
    return _fitted_line(request, linear_pipeline(line), target)


def _fitted_line(request: FitRequest, pipeline: Any, target: IntArray, **weights: FloatArray) -> FittedFeatureModel:
    values, columns = _readable(request)
    pipeline.fit(values[request.fitting], target, **weights)
    n_classes = request.inputs.windows.only.n_classes
    return FittedFeatureModel(pipeline, values, n_classes, n_coefficients(pipeline[-1]), columns)


def fit_ridge(request: FitRequest) -> FittedRegressor:
    """Return a ridge regression of a number on the features.

    The penalty is the best of a few by the error on whole training subjects excluded in turn.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold

    number, weights = targets_and_weights(request)
    values, _ = _readable(request)
    line = linear_pipeline(Ridge())
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


def fit_boosting(request: FitRequest) -> FittedFeatureModel | FittedRegressor:
    """Return gradient-boosted trees on the features; missing values go their own way in each tree."""
    values, columns = _readable(request)
    return fit_trees(
        request, values, columns, max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=30,
        l2_regularization=1.0, random_state=request.seed % 2**31,
    )  # fmt: skip


def fit_trees(
    request: FitRequest, values: FloatArray, columns: IntArray | None = None, **changes: float
) -> FittedFeatureModel | FittedRegressor:
    """Return boosted trees that see only ``values`` (n_windows, n_columns), of classes or of a number as the task says.

    ``columns`` are the features that the values are (None: none), ``changes`` scikit-learn's settings.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    targets = request.inputs.windows.only
    kind = HistGradientBoostingClassifier if targets.task.is_classification else HistGradientBoostingRegressor
    settings = {"max_iter": 100, "learning_rate": 0.1, "random_state": 0, **changes}
    trees = kind(early_stopping=False, **settings)
    target, weights = targets_and_weights(request)
    trees.fit(values[request.fitting], target, sample_weight=weights)
    n_leaves = int(sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage))
    if not targets.task.is_classification:
        return FittedRegressor(trees, values, n_leaves)
    return FittedFeatureModel(trees, values, targets.n_classes, n_leaves, columns)


@dataclass(frozen=True, eq=False)
class Bag:
    """Fitted trees whose probabilities are averaged; ``classes_`` are those of the columns, as scikit-learn has it."""

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
    target, weights = targets_and_weights(request)
    values, columns = _readable(request)
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


def fit_dummy(request: FitRequest) -> FittedDummy:
    """Return what always predicts the class fractions of the training windows, or their mean number."""
    targets = request.inputs.windows.only
    if not targets.task.is_classification:
        number, weights = targets_and_weights(request)
        return FittedDummy(np.array([np.average(number, weights=weights)]))
    counts = np.bincount(targets.values[request.fitting], minlength=targets.n_classes)
    return FittedDummy(counts / counts.sum())


def fit_clock(request: FitRequest) -> FittedFeatureModel | FittedRegressor:
    """Return boosted trees that see only the seconds since the recording began.

    Where it scores well the protocol's order gives the label away, and any model that can tell the time
    (by drift, by position) looks better than it is.
    """
    return fit_trees(request, request.inputs.windows.onset[:, None])


def fit_motion(request: FitRequest) -> FittedFeatureModel | FittedRegressor | FittedDummy:
    """Return boosted trees on the features of movement alone; the dummy where a study has none.

    Where it scores well people moved differently in the classes (sat, stood, typed), and a model may tell the
    postures apart and not the states of mind.
    """
    names = request.inputs.windows.feature_names
    columns = [i for i, name in enumerate(names) if name.startswith("motion/")]
    return fit_probe(request, normalised_features(request)[:, columns])


def fit_quality(request: FitRequest) -> FittedFeatureModel | FittedRegressor | FittedDummy:
    """Return boosted trees on the quality of each modality's signals, and on which are absent; no sample is read.

    Where it scores well the recordings of the classes were made differently, or differently well.
    """
    return fit_probe(request, quality_by_modality(request.inputs.windows))


def fit_probe(request: FitRequest, values: FloatArray) -> FittedFeatureModel | FittedRegressor | FittedDummy:
    """Return boosted trees on those columns of ``values`` that have data to fit on; the dummy where none has."""
    values = values[:, columns_with_data(values, request.fitting)]
    return fit_trees(request, values) if values.shape[1] else fit_dummy(request)


def quality_by_modality(windows: WindowTable) -> FloatArray:
    """Return the mean quality of each modality's signals, (n_windows, n_modalities); NaN where it is absent."""
    values = np.full((len(windows), len(MODALITY_NAMES)), np.nan)
    for index, recording in enumerate(windows.recordings):
        at = np.flatnonzero(windows.recording == index)
        quality = np.asarray(recording.windows.quality, dtype=np.float64)[windows.row[at]]  # (n, n_signals)
        for modality in {s.modality for s in recording.signals}:
            part = quality[:, [s.modality == modality for s in recording.signals]]
            known = np.isfinite(part)
            total, n_known = np.where(known, part, 0.0).sum(axis=1), known.sum(axis=1)
            mean = np.divide(total, n_known, out=np.full(len(at), np.nan), where=n_known > 0)
            values[at, MODALITY_NAMES.index(modality)] = mean
    return values
