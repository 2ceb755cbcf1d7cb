"""Tests on ranks: Wilcoxon's signed ranks, exact also with ties, Holm's correction, Friedman and Nemenyi."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_EXACT = 1000
_DECIMALS = 12


@dataclass(frozen=True)
class SignedRanks:
    """Wilcoxon's signed-rank test of paired differences, two-sided.

    Attributes
    ----------
    positive, negative : float
        Sums of the ranks of the differences above and below 0.
    p : float
        Two-sided; 1 where every difference is 0.
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
    """Return Wilcoxon's signed-rank test; zeros are ranked and then left out (Pratt 1959), ties have the mean rank.

    ``scipy.stats.wilcoxon`` is exact without ties and zeros only: with them it takes the normal approximation above 13
    differences without saying so. It is asked where it is exact; else the sums of all 2^n assignments of signs to the
    ranks at hand are counted, which is exact given the ties.

    Parameters
    ----------
    differences : float64 array, shape (n,)
        Finite; one per subject.
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
    shares = np.zeros(int(doubled.sum()) + 1)
    shares[0] = 1.0
    for step in doubled:
        moved = np.zeros_like(shares)
        moved[step:] = shares[: len(shares) - step]
        shares = 0.5 * (shares + moved)
    return float(2.0 * shares[: round(2.0 * smaller) + 1].sum())


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a signed-rank test of ``n`` differences can give."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number by Holm's step-down method (1979), in the order given.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    adjusted = [1.0] * len(p_values)
    reached = 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - step) * p_values[place]))
        adjusted[place] = reached
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
    n_subjects : int
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

    Parameters
    ----------
    scores : float64 array, shape (n_subjects, n_models)
        Finite; at least 3 models and 2 subjects.
    higher_is_better : bool

    Raises
    ------
    ValueError
        Where there are fewer models or subjects.
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
