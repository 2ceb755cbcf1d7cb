"""Scores of numbers and of ordered levels equal scikit-learn and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, r2_score

from biopercept.evaluation.metrics import Bootstrap, level_scores, number_scores, score_numbers, weighted_kappa


def test_error_and_explained_variance_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    label = random.normal(40, 12, 50)
    predicted = label + random.normal(2, 5, 50)
    found = score_numbers("S1", label, predicted)
    assert found.mae == pytest.approx(mean_absolute_error(label, predicted))
    assert found.r2 == pytest.approx(r2_score(label, predicted))


def test_concordance_by_hand() -> None:
    # Lin 1989: 2 cov / (var + var + squared distance of the means), all with n: cov 2/3, var 2/3 and 2/3, distance 1.
    assert score_numbers("S1", np.array([1.0, 2, 3]), np.array([2.0, 3, 4])).ccc == pytest.approx(4 / 7)
    assert score_numbers("S1", np.array([1.0, 2, 3]), np.array([3.0, 2, 1])).ccc == pytest.approx(-1)


def test_one_number_only_has_an_error_and_no_agreement() -> None:
    found = score_numbers("S1", np.array([3.0, 3.0]), np.array([1.0, 4.0]))
    assert (found.mae, found.ccc, found.r2) == (1.5, None, None)


def test_pooled_scores_are_those_of_all_windows_and_their_interval_resamples_whole_subjects() -> None:
    random = np.random.default_rng(1)
    subject = np.repeat(np.array(["A", "B", "C"]), [10, 20, 30])
    label = random.normal(0, 1, 60)
    predicted = label + np.repeat([0.0, 1.0, 3.0], [10, 20, 30])
    each = [score_numbers(s, label[subject == s], predicted[subject == s]) for s in "ABC"]
    found = number_scores(subject, label, predicted, each, Bootstrap(0, 500))
    assert found["mae"].pooled == pytest.approx(mean_absolute_error(label, predicted))
    assert found["r2"].pooled == pytest.approx(r2_score(label, predicted))
    assert found["mae"].mean == pytest.approx((0 + 1 + 3) / 3)
    assert found["mae"].worst == pytest.approx(3)
    draws = np.random.default_rng(0).integers(0, 3, size=(500, 3))
    sizes, errors = np.array([10, 20, 30]), np.array([0.0, 20.0, 90.0])
    expected = np.percentile(errors[draws].sum(1) / sizes[draws].sum(1), [2.5, 97.5])
    assert found["mae"].pooled_ci95 == pytest.approx(tuple(expected))


def test_levels_are_scored_by_distance_and_weighted_agreement() -> None:
    subject = np.array(["A"] * 4 + ["B"] * 2)
    target = np.array([0, 1, 2, 2, 1, 1])
    predicted = np.array([0, 2, 2, 0, 1, 2])
    found = level_scores(subject, target, np.eye(3)[predicted], Bootstrap(0, 100))
    assert found["levels_mae"].mean == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["levels_mae"].worst == pytest.approx(3 / 4)
    assert found["levels_mae"].pooled == pytest.approx(4 / 6)
    assert found["weighted_kappa"].pooled == pytest.approx(cohen_kappa_score(target, predicted, weights="quadratic"))
    assert found["weighted_kappa"].n_subjects == 1
    assert weighted_kappa(np.array([1, 1]), np.array([0, 1]), 3) is None


@pytest.mark.parametrize("constant", [3.2, 0.1 + 0.2, 1e6 / 3])
def test_a_prediction_that_is_always_the_same_agrees_by_exactly_nothing(constant: float) -> None:
    draw = np.random.default_rng(0)
    for n in (2, 7, 53):
        label, subject = draw.normal(5, 2, n), np.array(["S1", "S2"] * n)[:n]
        predicted = np.full(n, constant)
        assert score_numbers("S1", label, predicted).ccc == 0.0
        each = [score_numbers(s, label[subject == s], predicted[subject == s]) for s in np.unique(subject)]
        agreement = number_scores(subject, label, predicted, each, Bootstrap(0, 50))["ccc"]
        assert (agreement.pooled, agreement.pooled_ci95) == (0.0, (0.0, 0.0))
    levels = draw.integers(0, 3, 41)
    assert weighted_kappa(levels, np.full(41, 1), 3) == 0.0


@pytest.mark.parametrize(("middle", "spread"), [(0.0, 1e-7), (1e7, 0.5), (-4e9, 1e3), (36.6, 1e-4)])
def test_scores_do_not_depend_on_the_unit_or_on_where_zero_lies(middle: float, spread: float) -> None:
    draw = np.random.default_rng(1)
    label, predicted = draw.normal(0, 1, (2, 40))
    plain, moved = (
        score_numbers("S1", middle + spread * label, middle + spread * predicted),
        score_numbers("S1", label, predicted),
    )
    assert (plain.ccc, plain.r2) == (pytest.approx(moved.ccc, rel=1e-5), pytest.approx(moved.r2, rel=1e-5))
