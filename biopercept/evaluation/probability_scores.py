"""How far probabilities can be trusted: calibration over all classes and by class, with intervals over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.metrics import (
    Probabilities,
    Targets,
    binned_error,
    brier_score,
    calibration_error,
    squared_distances,
)

N_BINS = 15


def pooled_probability_scores(
    subject: NDArray[np.str_], target: Targets, probabilities: Probabilities, *, seed: int, n_bootstrap: int
) -> dict[str, dict[str, Any]]:
    """Return Brier score and calibration error over all windows, each with a bootstrap interval over subjects.

    Whole subjects are drawn, so that the windows of one person stay together. Resampling raises a calibration error,
    which noise alone raises too: its interval can lie above the value itself.

    Returns
    -------
    dict
        ``brier`` and ``ece``, each with ``value`` and ``ci95`` (None for fewer than 2 subjects).
    """
    names, place = np.unique(subject, return_inverse=True)
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    is_right = (probabilities.argmax(axis=1) == target).astype(np.float64)
    distances, sizes = np.bincount(place, weights=squared_distances(target, probabilities)), np.bincount(place)
    drawn: dict[str, list[float]] = {"brier": [], "ece": []}
    generator = np.random.default_rng(seed)
    for _ in range(n_bootstrap if len(names) > 1 else 0):
        times = np.bincount(generator.integers(0, len(names), size=len(names)), minlength=len(names))
        drawn["brier"].append(float((times * distances).sum() / (times * sizes).sum()))
        weights = times[place[order]].astype(np.float64)
        drawn["ece"].append(binned_error(confidence[order], is_right[order], weights=weights, n_bins=N_BINS))
    values = {"brier": brier_score(target, probabilities), "ece": calibration_error(target, probabilities)}
    return {name: {"value": values[name], "ci95": _percentiles(held)} for name, held in drawn.items()}


def _percentiles(values: Sequence[float]) -> list[float] | None:
    return [float(end) for end in np.percentile(values, [2.5, 97.5])] if len(values) else None


def scores_by_class(
    classes: Sequence[str], target: Targets, probabilities: Probabilities
) -> dict[str, dict[str, float | None]]:
    """Return for every class over all windows: windows, recall, precision, and how its probability is calibrated.

    ``calibration_error`` is that of the class's own probability against how often the class is true, in 15 bins of
    equal mass (class-wise ECE, Nixon 2019, arXiv:1904.01685).
    """
    predicted = probabilities.argmax(axis=1)
    table: dict[str, dict[str, float | None]] = {}
    for place, name in enumerate(classes):
        is_true, is_said = target == place, predicted == place
        order = np.argsort(probabilities[:, place], kind="stable")
        hits = int((is_true & is_said).sum())
        table[name] = {
            "windows": int(is_true.sum()),
            "recall": hits / int(is_true.sum()) if is_true.any() else None,
            "precision": hits / int(is_said.sum()) if is_said.any() else None,
            "share": float(is_true.mean()),
            "mean_probability": float(probabilities[:, place].mean()),
            "calibration_error": binned_error(
                probabilities[order, place], is_true[order].astype(np.float64), n_bins=N_BINS
            ),
        }
    return table
