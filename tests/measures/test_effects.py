"""Effect sizes and power against published values, hand computations and simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct, ttest_1samp

from biopercept.measures.statistics import (
    cohens_dz,
    cohens_dz_interval,
    corrected_resampled_t,
    power_of_paired_t,
    rank_biserial_interval,
    smallest_detectable_difference,
)


def test_dz_is_the_mean_over_the_spread() -> None:
    assert cohens_dz(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert cohens_dz(np.array([0.1, 0.1, 0.1])) is None


@pytest.mark.parametrize(("dz", "n"), [(0.5, 34), (-0.8, 10), (0.0, 5), (8.0, 20), (30.0, 3)])
def test_the_ends_of_dzs_interval_put_the_observed_t_at_the_tails(dz: float, n: int) -> None:
    low, high = cohens_dz_interval(dz, n)
    root = math.sqrt(n)
    assert nct.sf(dz * root, n - 1, low * root) == pytest.approx(0.025, abs=1e-6)
    assert nct.cdf(dz * root, n - 1, high * root) == pytest.approx(0.025, abs=1e-6)
    assert low < dz < high


def test_dzs_interval_covers_the_true_effect() -> None:
    random = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        low, high = cohens_dz_interval(cohens_dz(random.normal(0.6, 1.0, 15)) or 0.0, 15)
        hits += low <= 0.6 <= high
    assert 180 <= hits <= 199


@pytest.mark.parametrize(("dz", "n", "power"), [(0.5, 34, 0.8078), (0.8, 15, 0.8213), (0.2, 199, 0.8017)])
def test_power_is_that_of_gpowers_paired_t_test(dz: float, n: int, power: float) -> None:
    assert power_of_paired_t(dz, n) == pytest.approx(power, abs=2e-4)
    assert power_of_paired_t(-dz, n) == pytest.approx(power, abs=2e-4)


def test_without_an_effect_the_power_is_the_level() -> None:
    assert power_of_paired_t(0.0, 20) == pytest.approx(0.05)


def test_the_smallest_detectable_difference_is_found_in_four_studies_of_five() -> None:
    sd, n = 0.07, 12
    least = smallest_detectable_difference(sd, n)
    assert least is not None
    studies = np.random.default_rng(5).normal(least, sd, size=(4000, n))
    found = ttest_1samp(studies, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_a_stricter_level_needs_a_larger_difference_and_more_subjects_a_smaller_one() -> None:
    base = smallest_detectable_difference(0.1, 20) or 0.0
    assert (smallest_detectable_difference(0.1, 20, alpha=0.05 / 190) or 0.0) > 1.4 * base
    assert (smallest_detectable_difference(0.1, 80) or 1.0) < 0.55 * base
    assert smallest_detectable_difference(0.1, 3, alpha=0.05 / 190) is not None


def test_without_spread_or_subjects_nothing_is_claimed_to_be_detectable() -> None:
    assert smallest_detectable_difference(0.0, 20) is None
    assert smallest_detectable_difference(0.1, 2) is None


def test_the_interval_of_the_rank_biserial_holds_it_and_is_seeded() -> None:
    values = np.random.default_rng(6).normal(0.5, 1, 25)
    low, high = rank_biserial_interval(values, seed=1, n_resamples=2000) or (1.0, -1.0)
    from biopercept.measures.statistics import signed_rank_test

    assert -1 <= low < (signed_rank_test(values).rank_biserial or 2.0) < high <= 1
    assert (low, high) == rank_biserial_interval(values, seed=1, n_resamples=2000)
    assert rank_biserial_interval(np.array([0.0, 0.0, 0.2]), seed=1, n_resamples=2000) is None
    assert rank_biserial_interval(np.array([0.1, 0.2, 0.2]), seed=1, n_resamples=2000) == (1.0, 1.0)


def test_the_corrected_resampled_t_equals_a_computation_by_hand() -> None:
    """Differences 0.02, 0.04, 0.03, 0.05, 0.01: mean 0.03, variance 0.00025; 1/5 + 1/4 = 0.45."""
    found = corrected_resampled_t(np.array([0.02, 0.04, 0.03, 0.05, 0.01]), n_test=4, n_train=16)
    assert found is not None
    assert found.t == pytest.approx(0.03 / math.sqrt(0.45 * 0.00025))
    assert (found.df, found.n_splits, found.ratio) == (4, 5, 0.25)
    assert found.p == pytest.approx(0.0474, abs=2e-4)


def test_without_the_correction_it_would_be_the_plain_t_test() -> None:
    values = np.array([0.02, 0.04, -0.03, 0.05, 0.01])
    found, plain = corrected_resampled_t(values, n_test=0, n_train=16), ttest_1samp(values, 0.0)
    assert found is not None
    assert (found.t, found.p) == pytest.approx((plain.statistic, plain.pvalue))


def test_folds_that_all_differ_alike_or_one_fold_give_no_test() -> None:
    assert corrected_resampled_t(np.array([0.1, 0.1, 0.1]), 1, 4) is None
    assert corrected_resampled_t(np.array([0.1]), 1, 4) is None
