"""Statistics of paired differences: rank tests, effect sizes, power, and folds that share training subjects.

Wilcoxon's signed ranks (exact also with ties), signs changed at random where every study shall count the same, Holm's
correction, Friedman and Nemenyi.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]
_MOST_EXACT = 1000
_DECIMALS = 12
_TINY = 1e-12
_FLIPS_AT_ONCE = 10_000


def resampled(sizes: Sequence[int], *, seed: int, n: int) -> NDArray[np.int64]:
    """Return ``n`` resamples of subjects as indices, shape (n, n_subjects): each study's are drawn from that study.

    ``sizes`` are the numbers of subjects by study, who stand in this order.
    """
    generator = np.random.default_rng(seed)
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [start + generator.integers(0, size, size=(n, size)) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate(parts, axis=1)


def study_weights(sizes: Sequence[int]) -> Floats:
    """Return each subject's weight in the mean of the studies' means, in which every study counts the same."""
    return np.repeat([1.0 / (len(sizes) * size) for size in sizes], sizes)


def sign_flip_p(differences: Floats, sizes: Sequence[int], *, seed: int, n_flips: int = 100_000) -> float:
    """Return the two-sided p of the mean of the studies' mean differences, over changes of the differences' signs.

    Where models are alike, each subject's difference could as well have had the other sign. Every assignment of signs
    is tried where there are no more than ``n_flips``, else as many random ones, and the data's among them.
    """
    values = without_noise(differences) * study_weights(sizes)
    observed, n = abs(float(values.sum())), len(values)
    if 2**n <= n_flips:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ values) >= observed - _TINY))
    generator = np.random.default_rng(seed)
    n_extreme = 0
    for n_part in [_FLIPS_AT_ONCE] * (n_flips // _FLIPS_AT_ONCE) + [n_flips % _FLIPS_AT_ONCE]:
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(n_part, n))
        n_extreme += int(np.sum(np.abs(signs @ values) >= observed - _TINY))
    return (1 + n_extreme) / (1 + n_flips)


def rank_biserial_interval(
    differences: Floats, *, seed: int, n_resamples: int, sizes: Sequence[int] = ()
) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the matched rank-biserial correlation over subjects.

    Resamples in which every difference is 0 count as 0. None where fewer than 2 subjects differ. ``sizes`` are the
    numbers of subjects by study.
    """
    from scipy.stats import rankdata

    values = without_noise(differences)
    if np.count_nonzero(values) < 2:
        return None
    drawn = values[resampled(sizes or (len(values),), seed=seed, n=n_resamples)]
    ranks = rankdata(np.abs(drawn), axis=1)
    total = np.where(drawn != 0, ranks, 0.0).sum(axis=1)
    rank_sums = np.where(total > 0, (np.sign(drawn) * ranks).sum(axis=1) / np.maximum(total, 1.0), 0.0)
    low, high = np.percentile(rank_sums, [2.5, 97.5])
    return float(low), float(high)


def spread(differences: Floats) -> float:
    """Return the standard deviation (n - 1) of differences; exactly 0 where all are equal or there is one."""
    values = without_noise(differences)
    return float(values.std(ddof=1)) if len(values) > 1 and np.ptp(values) > 0 else 0.0


def cohens_dz(differences: Floats) -> float | None:
    """Return Cohen's dz, the mean of paired differences over their standard deviation; None without spread."""
    sd = spread(differences)
    return float(without_noise(differences).mean()) / sd if sd > 0 else None


def cohens_dz_interval(dz: float, n: int, level: float = 0.95) -> Interval:
    """Return the interval of Cohen's dz from the noncentral t distribution, exact for normal differences.

    The ends are the true dz under which the observed t would lie at the upper and lower (1 - level) / 2.
    """
    from scipy.optimize import brentq

    t, tail = dz * math.sqrt(n), (1.0 - level) / 2.0

    def end(probability: float) -> float:
        width = 6.0 + abs(t)
        while not _probability_below(t, n - 1, t - width) > probability > _probability_below(t, n - 1, t + width):
            width *= 1.5
        centre_of_end = brentq(lambda centre: _probability_below(t, n - 1, centre) - probability, t - width, t + width)
        return float(centre_of_end) / math.sqrt(n)

    return end(1.0 - tail), end(tail)


def _probability_below(t: float, df: int, centre: float) -> float:
    """Return the noncentral t distribution's share below ``t``; scipy gives NaN in its far tails, 0 or 1."""
    from scipy.stats import nct

    probability = float(nct.cdf(t, df, centre))
    return probability if math.isfinite(probability) else float(centre < t)


def power_of_paired_t(effect: float, n: int, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided paired t-test of ``n`` pairs finds a true dz of ``effect``."""
    from scipy.stats import nct
    from scipy.stats import t as t_distribution

    bound = float(t_distribution.ppf(1.0 - alpha / 2.0, n - 1))
    centre = abs(effect) * math.sqrt(n)
    return float(nct.sf(bound, n - 1, centre)) + _probability_below(-bound, n - 1, centre)


def smallest_detectable_difference(sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest true mean difference that ``n`` pairs would show with this power, in units of the score.

    ``sd`` is that of the paired differences over subjects; alpha and power are of a two-sided paired t-test, by the
    noncentral t distribution and not the normal. None with fewer than 3 subjects or no spread.
    """
    from scipy.optimize import brentq

    if n < 3 or not sd > 0:
        return None
    most = 1.0
    while power_of_paired_t(most, n, alpha) < power:
        most *= 2.0
    return sd * float(brentq(lambda effect: power_of_paired_t(effect, n, alpha) - power, 1e-9, most))


@dataclass(frozen=True)
class ResampledT:
    """Nadeau and Bengio's corrected resampled t-test, two-sided; ``ratio`` is tested over trained subjects."""

    mean: float
    t: float
    p: float
    df: int
    n_splits: int
    ratio: float


def corrected_resampled_t(differences: Floats, n_test: float, n_train: float) -> ResampledT | None:
    """Return Nadeau and Bengio's test of differences between splits whose training sets overlap.

    The variance of the mean is ``(1 / J + n_test / n_train) * s^2`` over J splits (Nadeau and Bengio 2003, Machine
    Learning 52, 239-281); repeated k-fold gives all its k * r splits at once (Bouckaert and Frank 2004). Sizes of a
    split's sides may be means. None with fewer than 2 splits or no spread between them.
    """
    from scipy.stats import t as t_distribution

    values = without_noise(differences)
    n = len(values)
    variance = spread(differences) ** 2
    if not variance > 0:
        return None
    ratio = n_test / n_train
    t = float(values.mean()) / math.sqrt((1.0 / n + ratio) * variance)
    return ResampledT(float(values.mean()), t, float(2.0 * t_distribution.sf(abs(t), n - 1)), n - 1, n, ratio)


@dataclass(frozen=True)
class SignedRanks:
    """Wilcoxon's signed-rank test of paired differences, two-sided.

    Attributes
    ----------
    positive, negative : float
        Sums of the ranks of the differences above and below 0.
    p : float
        1 where every difference is 0.
    n, n_zero : int
        Differences, and how many of them are 0.
    has_ties : bool
        Some differences other than 0 have the same size.
    method : str
        ``exact``: from the distribution over all signs, given the ranks. ``normal``: the normal approximation, beyond
        1000 differences only.
    """

    positive: float
    negative: float
    p: float
    n: int
    n_zero: int
    has_ties: bool
    method: Literal["exact", "normal"]

    @property
    def rank_biserial(self) -> float | None:
        """Return the matched rank-biserial correlation, -1 to 1 (Kerby 2014); None where every difference is 0."""
        total = self.positive + self.negative
        return (self.positive - self.negative) / total if total else None


def without_noise(differences: Floats) -> Floats:
    """Return differences of scores without the last digits, which hold rounding and would break ties."""
    return np.asarray(np.round(differences, _DECIMALS) + 0.0, dtype=np.float64)


def signed_rank_test(differences: Floats) -> SignedRanks:
    """Return Wilcoxon's signed-rank test; zeros are ranked and then dropped (Pratt 1959), ties have the mean rank.

    ``scipy.stats.wilcoxon`` is exact without ties and zeros only: with them it takes the normal approximation above 13
    differences without saying so. It is used where it is exact; else the sums of all 2^n assignments of signs to the
    ranks at hand are counted, which is exact given the ties.
    """
    from scipy.stats import rankdata, wilcoxon

    values = without_noise(differences)
    is_zero = values == 0.0
    ranks = rankdata(np.abs(values))
    positive, negative = float(ranks[values > 0].sum()), float(ranks[values < 0].sum())
    left = np.abs(values[~is_zero])
    n_zero, has_ties = int(is_zero.sum()), len(np.unique(left)) < len(left)
    method: Literal["exact", "normal"] = "exact"
    if not len(left):
        p = 1.0
    elif len(left) > _MOST_EXACT:
        p, method = float(wilcoxon(values, zero_method="pratt", method="asymptotic").pvalue), "normal"
    elif n_zero or has_ties:
        p = _exact_p(ranks[~is_zero], min(positive, negative))
    else:
        p = float(wilcoxon(values, method="exact").pvalue)
    return SignedRanks(positive, negative, min(p, 1.0), len(values), n_zero, has_ties, method)


def _exact_p(ranks: Floats, smaller: float) -> float:
    """Return the two-sided p of a sum of ranks as small as ``smaller``, each rank being in the sum or not.

    Ranks are whole or half numbers, so that twice the sum is whole: the distribution is built rank by rank.
    """
    doubled = np.rint(2.0 * ranks).astype(np.int64)
    probabilities = np.zeros(int(doubled.sum()) + 1)
    probabilities[0] = 1.0
    for step in doubled:
        moved = np.zeros_like(probabilities)
        moved[step:] = probabilities[: len(probabilities) - step]
        probabilities = 0.5 * (probabilities + moved)
    return float(2.0 * probabilities[: round(2.0 * smaller) + 1].sum())


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a signed-rank test of ``n`` differences can give."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number by Holm's step-down method (1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    adjusted = [1.0] * len(p_values)
    reached = 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - step) * p_values[index]))
        adjusted[index] = reached
    return tuple(adjusted)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that several models rank alike over subjects, with Nemenyi's critical difference.

    Attributes
    ----------
    average_ranks : tuple of float
        Per model; 1 is best, ties share the mean rank.
    chi_square, p : float
        Corrected for ties; p from the chi-square distribution with ``n_models - 1`` degrees of freedom.
    f, p_f : float or None
        Iman and Davenport's F and its p; None where all subjects rank alike.
    critical_difference : float
        Average ranks that lie further apart differ at the 0.05 level (Nemenyi; Demsar 2006).
    """

    average_ranks: tuple[float, ...]
    chi_square: float
    p: float
    f: float | None
    p_f: float | None
    critical_difference: float
    n_subjects: int


def friedman_test(scores: Floats, *, higher_is_better: bool = True) -> Friedman:
    """Return Friedman's test with average ranks and the critical difference (Demsar 2006, JMLR 7, 1-30).

    Raises ValueError with fewer than 3 models or 2 subjects; ``scores`` are finite, (n_subjects, n_models).
    """
    from scipy.stats import chi2, friedmanchisquare, rankdata
    from scipy.stats import f as f_distribution

    n, k = scores.shape
    if k < 3 or n < 2:
        raise ValueError(f"{n} subjects and {k} models; Friedman's test needs at least 2 and 3")
    values = without_noise(-scores if higher_is_better else scores)
    ranks = rankdata(values, axis=1)
    is_flat = bool((np.ptp(values, axis=1) == 0).all())
    chi_square = 0.0 if is_flat else float(friedmanchisquare(*values.T).statistic)
    left = n * (k - 1) - chi_square
    f = None if left <= 1e-9 else (n - 1) * chi_square / left
    return Friedman(
        tuple(float(rank) for rank in ranks.mean(axis=0)),
        chi_square,
        float(chi2.sf(chi_square, k - 1)),
        f,
        None if f is None else float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1))),
        critical_difference(k, n),
        n,
    )


def critical_difference(n_models: int, n_subjects: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of average ranks (Demsar 2006, equation before table 5)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1.0 - alpha, n_models, np.inf)) / math.sqrt(2.0)
    return q * math.sqrt(n_models * (n_models + 1) / (6.0 * n_subjects))
