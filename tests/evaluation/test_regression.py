"""Scores of predicted numbers against hand computations and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score

from biopercept.evaluation.regression import concordance, score_regression


def test_scores_are_those_by_hand() -> None:
    """Errors 1/3, 0, 1/3; variances 2/3 and 8/27, covariance 4/9, both means 2."""
    target, predicted = np.array([1.0, 2.0, 3.0]), np.array([4 / 3, 2.0, 8 / 3])
    held = score_regression(target, predicted)
    assert held.mae == pytest.approx(2 / 9)
    assert held.ccc == pytest.approx(2 * (4 / 9) / (2 / 3 + 8 / 27))
    assert held.r2 == pytest.approx(r2_score(target, predicted))
    assert held.n == 3


def test_concordance_is_lowered_by_a_shift_and_a_scale_that_a_correlation_forgives() -> None:
    random = np.random.default_rng(0)
    target = random.normal(5, 2, 200)
    assert concordance(target, target) == pytest.approx(1.0)
    assert concordance(target, target + 2.0) == pytest.approx(2 * target.var() / (2 * target.var() + 4))
    assert concordance(target, 2 * target) < 0.7
    assert concordance(target, -target + 2 * target.mean()) == pytest.approx(-1.0)


def test_where_nothing_varies_nothing_is_claimed() -> None:
    flat = score_regression(np.full(4, 3.0), np.full(4, 3.0))
    assert (flat.mae, flat.ccc, flat.r2) == (0.0, None, None)
    assert score_regression(np.full(4, 3.0), np.array([1.0, 2.0, 3.0, 4.0])).r2 is None
    assert score_regression(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0)).r2 == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("target", "predicted"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0]), ([1.0], [np.inf])]
)
def test_what_cannot_be_scored_is_refused(target: list[float], predicted: list[float]) -> None:
    with pytest.raises(ValueError, match=r"shapes|finite"):
        score_regression(np.array(target), np.array(predicted))
