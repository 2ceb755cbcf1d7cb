"""What a cross-validation says of its probabilities: risk against coverage, calibration, prediction sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Interval = tuple[float, float]


@dataclass(frozen=True)
class SetCoverage:
    """How prediction sets did on held-out subjects.

    Attributes
    ----------
    target : float
        Coverage asked for.
    coverage, ci95 : float, tuple of two floats or None
        Mean over subjects of the share of windows whose set holds the true class, with its interval.
    answered, mean_size : float
        Share of windows whose set is one class; classes per set.
    accuracy_of_answered : float or None
    learnt_from : str
    """

    target: float
    coverage: float
    ci95: Interval | None
    answered: float
    mean_size: float
    accuracy_of_answered: float | None
    learnt_from: str


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of the probabilities; every part is empty where a file does not say it.

    Attributes
    ----------
    coverage : tuple of float
        Shares of windows answered.
    risk : mapping of rule to tuple of float
        Share of wrong answers among those answered, at each coverage.
    aurc : mapping of rule to float
        Area under each curve.
    least_quality : float or None
        Of the gated rule.
    brier_ci95, ece_ci95 : tuple of two floats, or None
    calibration : str
        How probabilities were calibrated, in words; empty where they were not.
    sets : SetCoverage or None
    """

    coverage: tuple[float, ...] = ()
    risk: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    aurc: Mapping[str, float] = field(default_factory=dict)
    least_quality: float | None = None
    brier_ci95: Interval | None = None
    ece_ci95: Interval | None = None
    calibration: str = ""
    sets: SetCoverage | None = None
