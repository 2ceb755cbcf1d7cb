"""Rank tests against published tables, against scipy where scipy is exact, and against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import PermutationMethod, friedmanchisquare, rankdata, wilcoxon

from biopercept.measures.statistics import critical_difference, friedman_test, holm, signed_rank_test, smallest_p

# Demsar 2006, table 6: AUC of C4.5, with -m, with -cf, with both, on 14 data sets ("voting" has two that round alike).
DEMSAR = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9755, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip


def enumerated(differences: np.ndarray) -> float:
    """Two-sided p by trying all signs of the ranks, zeros ranked and left out."""
    values = np.round(differences, 12)
    ranks = rankdata(np.abs(values))[values != 0]
    signs = values[values != 0] > 0
    smaller = min(ranks[signs].sum(), ranks[~signs].sum())
    sums = [float(np.dot(ranks, taken)) for taken in product((0, 1), repeat=len(ranks))]
    return min(1.0, 2 * float(np.mean([total <= smaller + 1e-9 for total in sums])))


def test_without_ties_the_test_is_scipys_exact_one() -> None:
    random = np.random.default_rng(0)
    for n in (5, 12, 34, 60):
        values = random.normal(0.2, 1, n)
        found = signed_rank_test(values)
        assert found.p == pytest.approx(wilcoxon(values, method="exact").pvalue, rel=1e-12)
        assert (found.method, found.n_zero, found.has_ties) == ("exact", 0, False)


def test_with_ties_and_zeros_it_equals_the_enumeration_of_all_signs() -> None:
    random = np.random.default_rng(1)
    for trial in range(30):
        values = random.integers(-3, 5, size=4 + trial % 9) / 10
        found = signed_rank_test(values)
        assert found.p == pytest.approx(enumerated(values), rel=1e-12)
        assert found.method == "exact"


def test_with_ties_it_equals_scipys_permutation_of_all_signs() -> None:
    values = np.array([0.1, 0.1, -0.2, 0.3, 0.3, 0.3, 0.0, 0.5, -0.1, 0.4])
    every = wilcoxon(values, zero_method="pratt", method=PermutationMethod(n_resamples=10**6))
    assert signed_rank_test(values).p == pytest.approx(every.pvalue, rel=1e-12)


def test_ties_of_many_subjects_stay_exact_where_scipy_approximates_in_silence() -> None:
    values = np.repeat([0.1, 0.2, -0.1, 0.3], 6)[:23]
    approximate = wilcoxon(values, zero_method="pratt").pvalue
    assert signed_rank_test(values).method == "exact"
    assert signed_rank_test(values).p != pytest.approx(approximate, rel=1e-3)
    assert signed_rank_test(values).p == pytest.approx(approximate, abs=5e-3)


def test_scores_that_differ_by_rounding_alone_are_ties() -> None:
    assert 0.9 - 0.8 != 0.8 - 0.7
    found = signed_rank_test(np.array([0.9 - 0.8, 0.7 - 0.8, 0.3 - 0.2, 0.1 + 0.2 - 0.3]))
    assert (found.has_ties, found.n_zero, found.positive, found.negative) == (True, 1, 6.0, 3.0)


def test_demsars_table_2_gives_his_rank_sums() -> None:
    """His zeros are split between both sums (1.5 each); ours leave their ranks out."""
    differences = DEMSAR[:, 1] - DEMSAR[:, 0]
    found = signed_rank_test(differences)
    assert (found.positive + 1.5, found.negative + 1.5) == (93.0, 12.0)
    assert found.p < 0.05


def test_no_difference_at_all_is_p_1_and_no_effect() -> None:
    found = signed_rank_test(np.zeros(9))
    assert (found.p, found.n_zero, found.rank_biserial) == (1.0, 9, None)


def test_beyond_a_thousand_the_approximation_is_named() -> None:
    values = np.random.default_rng(2).normal(0.02, 1, 1001)
    assert signed_rank_test(values).method == "normal"
    assert signed_rank_test(values[:1000]).method == "exact"


def test_rank_biserial_is_1_when_all_agree_and_kerbys_share_otherwise() -> None:
    assert signed_rank_test(np.array([0.1, 0.2, 0.4])).rank_biserial == 1.0
    assert signed_rank_test(np.array([0.1, -0.2, 0.4])).rank_biserial == pytest.approx((4 - 2) / 6)


def test_the_smallest_p_is_reached_when_all_agree() -> None:
    assert signed_rank_test(np.arange(1.0, 8.0)).p == pytest.approx(smallest_p(7))


def test_holm_steps_down_as_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


def test_friedman_gives_demsars_ranks_statistic_and_critical_difference() -> None:
    found = friedman_test(DEMSAR)
    assert found.average_ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    share_of_ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1))
    assert found.chi_square * share_of_ties == pytest.approx(9.28, abs=0.01)  # he does not correct for ties
    uncorrected = found.chi_square * share_of_ties
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.01)
    assert found.f == pytest.approx(13 * found.chi_square / (14 * 3 - found.chi_square))


def test_friedman_is_scipys_and_lower_can_be_better() -> None:
    scores = np.random.default_rng(3).normal(size=(12, 5))
    found = friedman_test(scores)
    expected = friedmanchisquare(*scores.T)
    assert (found.chi_square, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    turned = friedman_test(-scores, higher_is_better=False)
    assert turned.average_ranks == found.average_ranks


def test_models_that_never_differ_have_no_effect_and_perfect_order_has_no_f() -> None:
    assert friedman_test(np.ones((5, 3))).p == 1.0
    ordered = friedman_test(np.tile([0.9, 0.8, 0.7], (5, 1)))
    assert (ordered.f, ordered.chi_square) == (None, pytest.approx(10.0))


def test_friedman_refuses_two_models() -> None:
    with pytest.raises(ValueError, match="2 models"):
        friedman_test(np.ones((5, 2)))


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table_5(k: int, q: float) -> None:
    assert critical_difference(k, 30) == pytest.approx(q * np.sqrt(k * (k + 1) / 180), abs=1e-3)
