"""Features by condition: people are the observations, and the tests are those of scipy and of Student's t."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biopercept.measures.conditions import condition_effects
from biopercept.measures.statistics import holm

PEOPLE = tuple(f"P{number}" for number in range(9))


def windows(n_of: dict[str, int], seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of nine people in two conditions, two features; a person has as many windows as ``n_of`` says."""
    random = np.random.default_rng(seed)
    rows, people, condition = [], [], []
    for person in PEOPLE:
        level = random.normal(0, 5, 2)
        for name, shift in (("rest", 0.0), ("stress", 1.0)):
            for _ in range(n_of.get(person, 4)):
                rows.append(level + shift * np.array([1.0, 0.0]) + random.normal(0, 0.7, 2))
                people.append(person)
                condition.append(name)
    return np.array(rows), np.array(people), np.array(condition)


def means(values: np.ndarray, people: np.ndarray, condition: np.ndarray, name: str) -> np.ndarray:
    return np.array([values[(people == p) & (condition == name)].mean() for p in PEOPLE])


def test_effects_are_those_of_paired_tests_over_the_means_of_people() -> None:
    values, people, condition = windows({"P0": 40})  # one person with many windows weighs as the others
    effects = {e.feature: e for e in condition_effects(values, ("up", "same"), people, condition)}
    p_values = []
    for column, name in enumerate(("up", "same")):
        first, second = (means(values[:, column], people, condition, c) for c in ("rest", "stress"))
        effect, difference = effects[name], second - first
        theirs = stats.ttest_rel(second, first).confidence_interval(0.95)
        assert (effect.first, effect.second, effect.n_people) == ("rest", "stress", 9)
        assert effect.means == pytest.approx((first.mean(), second.mean()))
        assert effect.difference == pytest.approx(difference.mean())
        assert effect.ci95 == pytest.approx(tuple(theirs))
        assert effect.dz == pytest.approx(difference.mean() / difference.std(ddof=1))
        assert effect.p == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue)
        p_values.append(effect.p)
    assert [effects[name].p_holm for name in ("up", "same")] == pytest.approx(holm(p_values))


def test_the_largest_effect_comes_first() -> None:
    values, people, condition = windows({})
    effects = condition_effects(values[:, ::-1], ("same", "up"), people, condition)
    assert [effect.feature for effect in effects] == ["up", "same"]
    assert abs(effects[0].dz or 0) > abs(effects[1].dz or 0)


def test_people_without_one_condition_and_unknown_values_are_left_out() -> None:
    values, people, condition = windows({})
    values[(people == "P0") & (condition == "rest"), 0] = np.nan
    is_kept = ~((people == "P1") & (condition == "stress"))
    effects = {
        e.feature: e for e in condition_effects(values[is_kept], ("a", "b"), people[is_kept], condition[is_kept])
    }
    assert (effects["a"].n_people, effects["b"].n_people) == (7, 8)


def test_of_two_people_nothing_is_said_and_of_no_spread_no_dz() -> None:
    values, people, condition = windows({})
    few = np.isin(people, ("P0", "P1"))
    assert condition_effects(values[few], ("a", "b"), people[few], condition[few]) == ()
    flat = np.where(condition == "stress", 1.0, 0.0)[:, None]
    [effect] = condition_effects(flat, ("step",), people, condition)
    assert (effect.difference, effect.dz, effect.dz_ci95) == (1.0, None, None)


def test_every_two_of_several_conditions_are_compared() -> None:
    values, people, condition = windows({})
    condition = np.where(np.arange(len(condition)) % 4 == 0, "calm", condition)
    pairs = {(e.first, e.second) for e in condition_effects(values, ("a", "b"), people, condition)}
    assert len(pairs) == 3
