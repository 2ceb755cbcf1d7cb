"""Features by condition: a mean per person and condition, and the paired difference between conditions over people.

People are the observations: windows of one person are not independent, so each person counts once, by the mean of the
windows in a condition, and only people with both conditions are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from biopercept.measures.averages import over_rows
from biopercept.measures.statistics import cohens_dz, cohens_dz_interval, holm, signed_rank_test
from biopercept.preprocessing.gaps import mean_of_known
from biopercept.recording import FloatArray

_FEWEST_PEOPLE = 3


@dataclass(frozen=True)
class ConditionEffect:
    """One feature in two conditions: ``second`` minus ``first``, over ``n_people`` who have both.

    ``means`` are over people, in the feature's unit, of the first and the second condition; ``difference`` has a 95 %
    interval of Student's t. ``dz`` is Cohen's dz with its interval from the noncentral t, None without spread. ``p`` is
    of the exact signed-rank test, ``p_holm`` adjusted for all effects returned together.
    """

    feature: str
    first: str
    second: str
    n_people: int
    means: tuple[float, float]
    difference: float
    ci95: tuple[float, float]
    dz: float | None
    dz_ci95: tuple[float, float] | None
    p: float
    p_holm: float = math.nan


def condition_effects(
    features: FloatArray, names: Sequence[str], people: NDArray[np.str_], condition: NDArray[np.str_]
) -> tuple[ConditionEffect, ...]:
    """Return the effect of every two conditions on every feature, the largest dz first.

    ``features`` is (n_windows, n_features), NaN where not defined; ``people`` and ``condition`` say whose window it is
    and in which condition. A feature that fewer than three people have in both conditions has no effect.
    """
    conditions = list(dict.fromkeys(condition.tolist()))
    means = {
        name: np.array([_mean(features[(people == person) & (condition == name)]) for person in np.unique(people)])
        for name in conditions
    }
    effects = [
        effect
        for first, second in combinations(conditions, 2)
        for column, name in enumerate(names)
        if (effect := _effect(name, (first, second), means[first][:, column], means[second][:, column])) is not None
    ]
    adjusted = holm([effect.p for effect in effects])
    effects = [replace(effect, p_holm=p) for effect, p in zip(effects, adjusted, strict=True)]
    return tuple(sorted(effects, key=lambda effect: -abs(effect.dz or 0.0)))


def _mean(rows: FloatArray) -> FloatArray:
    return mean_of_known(rows, axis=0) if len(rows) else np.full(rows.shape[1], np.nan)


def _effect(name: str, conditions: tuple[str, str], first: FloatArray, second: FloatArray) -> ConditionEffect | None:
    is_known = np.isfinite(first) & np.isfinite(second)
    differences = (second - first)[is_known]
    n = len(differences)
    if n < _FEWEST_PEOPLE:
        return None
    mean, low, high, _ = over_rows(differences[:, None])
    dz = cohens_dz(differences)
    return ConditionEffect(
        feature=name,
        first=conditions[0],
        second=conditions[1],
        n_people=n,
        means=(float(first[is_known].mean()), float(second[is_known].mean())),
        difference=float(mean[0]),
        ci95=(float(low[0]), float(high[0])),
        dz=dz,
        dz_ci95=None if dz is None else cohens_dz_interval(dz, n),
        p=signed_rank_test(differences).p,
    )
