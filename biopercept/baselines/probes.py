"""Probes that no honest model should need: class shares, the time, movement alone, and signal quality alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.baselines.features import (
    FeatureModel,
    FittedFeatureModel,
    FittedRegressor,
    columns_with_data,
    no_sensors,
    regression_data,
    training_data,
)
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.data.windows import IntArray, WindowTable
from biopercept.modalities import MODALITY_NAMES
from biopercept.training.loop import FitRequest
from biopercept.training.objective import cell_weights


@dataclass(frozen=True, eq=False)
class FittedDummy(FeatureModel):
    """The same answer for every window: the class shares, or the mean number, of the training windows."""

    shares: NDArray[np.float64]

    @property
    def n_parameters(self) -> int:
        """Return the number of fitted numbers."""
        return len(self.shares)

    def predict(self, rows: IntArray, visible: WindowInputs | None = None) -> FloatArray:
        """Return the class shares for each of ``rows``, (len(rows), n_classes)."""
        if visible is not None:
            raise no_sensors("a probe")
        return np.tile(self.shares, (len(rows), 1))


def fit_dummy(request: FitRequest) -> FittedDummy:
    """Return the guesser that always answers the most frequent class of the training windows."""
    windows = request.inputs.windows
    counts = np.bincount(windows.only.values[request.fitting], minlength=windows.only.n_classes)
    return FittedDummy(counts / counts.sum())


def fit_mean(request: FitRequest) -> FittedDummy:
    """Return the guesser that always answers the mean number of the training windows, subjects weighing the same."""
    _, number, weights = regression_data(request)
    return FittedDummy(np.array([np.average(number, weights=weights)]))


def fit_clock(request: FitRequest) -> FittedFeatureModel | FittedRegressor:
    """Return boosted trees that see only the seconds since the recording began.

    Where it scores well the protocol's order gives the label away, and any model that can tell the time
    (by drift, by position) looks better than it is.
    """
    return fit_trees(request, request.inputs.windows.onset[:, None])


def fit_motion(request: FitRequest) -> FittedFeatureModel | FittedRegressor | FittedDummy:
    """Return boosted trees on the features of movement alone; the class shares where a study has none.

    Where it scores well people moved differently in the classes (sat, stood, typed), and a model may tell the
    postures apart and not the states of mind.
    """
    names = request.inputs.windows.feature_names
    columns = [i for i, name in enumerate(names) if name.startswith("motion/")]
    values = training_data(request)[0][:, columns]
    values = values[:, columns_with_data(values, request.fitting)]
    return fit_trees(request, values) if values.shape[1] else _guesser(request)


def fit_quality(request: FitRequest) -> FittedFeatureModel | FittedRegressor | FittedDummy:
    """Return boosted trees on the quality of each modality's signals, and on which are absent; no sample is read.

    Where it scores well the recordings of the classes were made differently, or differently well.
    """
    values = quality_by_modality(request.inputs.windows)
    values = values[:, columns_with_data(values, request.fitting)]
    return fit_trees(request, values) if values.shape[1] else _guesser(request)


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


def _guesser(request: FitRequest) -> FittedDummy:
    """Return what answers where a probe has nothing to read."""
    return fit_mean(request) if not request.inputs.windows.only.task.is_classification else fit_dummy(request)


def fit_trees(request: FitRequest, values: FloatArray) -> FittedFeatureModel | FittedRegressor:
    """Return boosted trees that see only ``values``, (n_windows, n_columns)."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    windows, rows = request.inputs.windows, request.fitting
    weights = cell_weights(windows.subject[rows], windows.only.groups[rows]).numpy()
    if not windows.only.task.is_classification:
        grown = HistGradientBoostingRegressor(max_iter=100, learning_rate=0.1, early_stopping=False, random_state=0)
        grown.fit(values[rows], windows.only.values[rows], sample_weight=weights / weights.mean())
        n_grown = sum(tree.get_n_leaf_nodes() for stage in grown._predictors for tree in stage)
        return FittedRegressor(grown, values, int(n_grown))
    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, early_stopping=False, random_state=0)
    trees.fit(values[rows], windows.only.values[rows], sample_weight=weights / weights.mean())
    n_leaves = sum(tree.get_n_leaf_nodes() for stage in trees._predictors for tree in stage)
    return FittedFeatureModel(trees, values, windows.only.n_classes, int(n_leaves))
