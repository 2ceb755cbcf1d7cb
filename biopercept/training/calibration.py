"""Probabilities that can be read as chances, and sets that hold the truth as often as wanted: learnt out of the fit.

Temperature after Guo 2017 (arXiv:1706.04599); isotonic regression by class, rescaled to sum 1 (Zadrozny and Elkan
2002); prediction sets by hierarchical conformal prediction, whose exchangeable unit is the subject (Lee, Barber and
Willett 2023, arXiv:2306.06342).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.typed_values import did_you_mean

Floats = NDArray[np.float64]
Curve = tuple[tuple[float, ...], tuple[float, ...]]
METHODS = ("none", "temperature", "isotonic")
_LEAST = 1e-6
_LOWEST_LOG, _HIGHEST_LOG = -3.0, 3.0


@dataclass(frozen=True)
class CalibrationSettings:
    """How probabilities are calibrated and sets are made.

    * ``method``: none, temperature or isotonic.
    * ``n_folds``: inner folds of the training side whose held-out predictions are used; 0 for those of the validation
      subjects.
    * ``coverage``: of prediction sets; 0 for none.
    """

    method: str = "none"
    n_folds: int = 0
    coverage: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            near = did_you_mean(self.method, METHODS)
            raise SettingsError(f"evaluation.calibration is {self.method!r}; allowed are {', '.join(METHODS)}{near}")
        if self.n_folds < 0 or self.n_folds == 1:
            raise SettingsError(f"evaluation.calibration_folds is {self.n_folds}; it must be 0, or 2 and more")
        if not 0 <= self.coverage < 1:
            raise SettingsError(f"evaluation.conformal_coverage is {self.coverage}; it must be 0, or below 1")

    @property
    def is_wanted(self) -> bool:
        """Return whether anything is to be learnt outside the fit."""
        return self.method != "none" or self.coverage > 0


@dataclass(frozen=True)
class Calibration:
    """What was learnt from predictions for subjects outside the fit.

    * ``method``: none, temperature or isotonic.
    * ``temperature``: divides the logarithms of probabilities; 1 changes nothing.
    * ``curves`` (tuple of (x, y)): isotonic: the steps from predicted to true probability, for each class (for two
      classes the second one's alone).
    * ``coverage``: wanted of the prediction sets; 0 where there are none.
    * ``threshold``: a class is in the set where 1 minus its uncalibrated probability is at most this; None: every class
      always is.
    * ``source``: whose predictions it was learnt from, in words.
    """

    method: str
    temperature: float
    curves: tuple[Curve, ...]
    coverage: float
    threshold: float | None
    source: str
    subjects: tuple[str, ...]
    n_windows: int

    def __post_init__(self) -> None:
        is_rising = all(len(x) == len(y) > 0 and list(x) == sorted(x) for x, y in self.curves)
        has_curves = bool(self.curves) == (self.method == "isotonic")
        if self.method not in METHODS or not self.temperature > 0 or not is_rising or not has_curves:
            raise ValueError("the calibration is damaged")

    def apply(self, probabilities: Floats) -> Floats:
        """Return calibrated probabilities, shape (n, n_classes); rows sum to 1."""
        if self.method == "temperature":
            return tempered(probabilities, self.temperature)
        if self.method == "isotonic":
            return _by_curves(probabilities, self.curves)
        return probabilities

    def sets(self, probabilities: Floats) -> NDArray[np.bool_]:
        """Return which classes are in each window's set, shape (n, n_classes), from uncalibrated probabilities."""
        if self.threshold is None:
            return np.ones(probabilities.shape, dtype=bool)
        return np.asarray(1.0 - probabilities <= self.threshold + 1e-12, dtype=bool)


def learn_calibration(
    settings: CalibrationSettings,
    subject: NDArray[np.str_],
    target: NDArray[np.int64],
    probabilities: Floats,
    source: str,
) -> Calibration:
    """Return the calibration and the sets' threshold learnt from predictions for subjects outside the fit.

    Subject and target are (n,), probabilities (n, n_classes). Every subject weighs the same. The threshold rests on the
    uncalibrated probabilities, so no prediction serves twice.
    """
    names, index = np.unique(subject, return_inverse=True)
    weights = 1.0 / np.bincount(index)[index]
    wrongness = 1.0 - probabilities[np.arange(len(target)), target]
    return Calibration(
        settings.method,
        learn_temperature(target, probabilities, weights) if settings.method == "temperature" else 1.0,
        _learn_curves(target, probabilities, weights) if settings.method == "isotonic" else (),
        settings.coverage,
        subject_threshold(wrongness, weights, len(names), settings.coverage) if settings.coverage > 0 else None,
        source,
        tuple(str(name) for name in names),
        len(target),
    )


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """Return probabilities whose logarithms are divided by ``temperature`` and that sum to 1 again."""
    logits = np.log(np.clip(probabilities, _LEAST, 1.0)) / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def learn_temperature(target: NDArray[np.int64], probabilities: Floats, weights: Floats) -> float:
    """Return the temperature of the smallest weighted log loss, between 0.05 and 20."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(target))

    def loss(log_temperature: float) -> float:
        given = tempered(probabilities, float(np.exp(log_temperature)))[rows, target]
        return float(np.average(-np.log(given), weights=weights))

    return float(np.exp(minimize_scalar(loss, bounds=(_LOWEST_LOG, _HIGHEST_LOG), method="bounded").x))


def _learn_curves(target: NDArray[np.int64], probabilities: Floats, weights: Floats) -> tuple[Curve, ...]:
    from sklearn.isotonic import IsotonicRegression

    n_classes = probabilities.shape[1]
    curves = []
    for index in [1] if n_classes == 2 else range(n_classes):
        steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        steps.fit(probabilities[:, index], (target == index).astype(np.float64), sample_weight=weights)
        curves.append((tuple(steps.X_thresholds_.tolist()), tuple(steps.y_thresholds_.tolist())))
    return tuple(curves)


def _by_curves(probabilities: Floats, curves: tuple[Curve, ...]) -> Floats:
    if len(curves) == 1:
        second = np.clip(np.interp(probabilities[:, 1], *curves[0]), _LEAST, 1.0 - _LEAST)
        return np.stack([1.0 - second, second], axis=1)
    columns = [np.interp(probabilities[:, index], *curve) for index, curve in enumerate(curves)]
    weights = np.clip(np.stack(columns, axis=1), _LEAST, 1.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def set_words(classes: Sequence[str], members: NDArray[np.bool_]) -> str:
    """Return the classes in a prediction set as one text, in the order of the classes.

    >>> set_words(("rest", "stress"), np.array([True, True]))
    'rest | stress'
    """
    return " | ".join(name for name, is_in in zip(classes, members, strict=True) if is_in)


def undecided_words(words: str, coverage: float) -> str:
    """Return why a prediction is withheld whose set, given as :func:`set_words`, is not one class."""
    if not words:
        return f"undecided: no class is likely enough at {coverage:.0%} coverage"
    return f"undecided between {words} at {coverage:.0%} coverage"


def subject_threshold(wrongness: Floats, weights: Floats, n_subjects: int, coverage: float) -> float | None:
    """Return the threshold under which a new window of a new subject is covered with at least this chance.

    Each of the K subjects has mass 1 / (K + 1), spread evenly over its windows by ``weights`` (1 over their number),
    and the new one the rest at infinity; the threshold is the smallest score (1 minus the probability of the true
    class) with mass ``coverage`` at or below it. None where K subjects are too few.
    """
    order = np.argsort(wrongness, kind="stable")
    mass = np.cumsum(weights[order]) / (n_subjects + 1)
    enough = np.flatnonzero(mass >= coverage - 1e-12)
    return float(wrongness[order][enough[0]]) if len(enough) else None
