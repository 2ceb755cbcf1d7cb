"""Reading from ``scores.json`` what a cross-validation says of missing sensors."""

from __future__ import annotations

from .fields import Fields
from .sensor_results import SensorSubset


def subsets_of(scores: Fields) -> tuple[SensorSubset, ...]:
    """Return the rows of ``missing_sensors`` in their order; none where it was not asked.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    if "missing_sensors" not in scores.content:
        return ()
    return tuple(_subset(held) for held in scores.part("missing_sensors").parts("subsets"))


def _subset(held: Fields) -> SensorSubset:
    parts = [held.part(name) for name in ("balanced_accuracy", "auroc", "difference")]
    (accuracy, accuracy_ci95), (auroc, auroc_ci95), (difference, difference_ci95) = (
        (part.number("mean"), part.interval("ci95")) for part in parts
    )
    return SensorSubset(
        held.text("sensors"),
        held.whole("n_windows") or 0,
        parts[0].whole("n_subjects") or 0,
        accuracy,
        accuracy_ci95,
        auroc,
        auroc_ci95,
        difference,
        difference_ci95,
    )
