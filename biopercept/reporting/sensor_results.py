"""What a cross-validation says of missing sensors: one row per set of sensors."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True)
class SensorSubset:
    """Scores of the fitted models with one set of sensors.

    Attributes
    ----------
    name : str
        Such as "all", "without eda", "only ecg", "ecg + temp".
    n_windows : int
        Windows that had something left that the model reads; 0 where it cannot answer from these sensors at all.
    n_subjects : int
    balanced_accuracy, auroc, difference : float or None
        Means over subjects; the difference is in balanced accuracy, paired, to all sensors on the same windows.
    balanced_accuracy_ci95, auroc_ci95, difference_ci95 : tuple of two floats, or None
    """

    name: str
    n_windows: int
    n_subjects: int
    balanced_accuracy: float | None
    balanced_accuracy_ci95: Interval | None
    auroc: float | None
    auroc_ci95: Interval | None
    difference: float | None
    difference_ci95: Interval | None
