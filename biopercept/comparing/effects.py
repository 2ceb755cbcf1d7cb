"""How large a difference is, and how large it would have to be: effect sizes, power, and folds that share training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.comparing.rank_tests import without_noise

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def rank_biserial_interval(differences: Floats, *, seed: int, n_resamples: int) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the matched rank-biserial correlation over subjects.

    Resamples in which every difference is 0 count as 0. None where fewer than 2 subjects differ.
    """
    from scipy.stats import rankdata

    values = without_noise(differences)
    if np.count_nonzero(values) < 2:
        return None
    generator = np.random.default_rng(seed)
    drawn = values[generator.integers(0, len(values), size=(n_resamples, len(values)))]
    ranks = rankdata(np.abs(drawn), axis=1)
    total = np.where(drawn != 0, ranks, 0.0).sum(axis=1)
    held = np.where(total > 0, (np.sign(drawn) * ranks).sum(axis=1) / np.maximum(total, 1.0), 0.0)
    low, high = np.percentile(held, [2.5, 97.5])
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

    def end(share: float) -> float:
        width = 6.0 + abs(t)
        while not _share_below(t, n - 1, t - width) > share > _share_below(t, n - 1, t + width):
            width *= 1.5
        found = brentq(lambda centre: _share_below(t, n - 1, centre) - share, t - width, t + width)
        return float(found) / math.sqrt(n)

    return end(1.0 - tail), end(tail)


def _share_below(t: float, df: int, centre: float) -> float:
    """Return the noncentral t distribution's share below ``t``; scipy gives NaN in its far tails, 0 or 1."""
    from scipy.stats import nct

    share = float(nct.cdf(t, df, centre))
    return share if math.isfinite(share) else float(centre < t)


def power_of_paired_t(effect: float, n: int, alpha: float = 0.05) -> float:
    """Return the chance that a two-sided paired t-test of ``n`` pairs finds a true dz of ``effect``."""
    from scipy.stats import nct
    from scipy.stats import t as t_distribution

    bound = float(t_distribution.ppf(1.0 - alpha / 2.0, n - 1))
    centre = abs(effect) * math.sqrt(n)
    return float(nct.sf(bound, n - 1, centre)) + _share_below(-bound, n - 1, centre)


def smallest_detectable_difference(sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest true mean difference that ``n`` pairs would show with this power.

    Parameters
    ----------
    sd : float
        Standard deviation of the paired differences over subjects.
    n : int
        Subjects.
    alpha, power : float
        Of a two-sided paired t-test; the power is that of the noncentral t distribution, not of the normal.

    Returns
    -------
    float or None
        In units of the score; None with fewer than 3 subjects or no spread.
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
    """Nadeau and Bengio's corrected resampled t-test.

    Attributes
    ----------
    mean : float
        Mean difference over splits.
    t, p : float
        Two-sided.
    df, n_splits : int
    ratio : float
        Tested over trained subjects: the term by which the variance is corrected.
    """

    mean: float
    t: float
    p: float
    df: int
    n_splits: int
    ratio: float


def corrected_resampled_t(differences: Floats, n_test: float, n_train: float) -> ResampledT | None:
    """Return Nadeau and Bengio's test of differences between splits whose training sets overlap.

    The variance of the mean is ``(1 / J + n_test / n_train) * s^2`` over J splits (Nadeau and Bengio 2003, Machine
    Learning 52, 239-281); repeated k-fold gives all its k * r splits at once (Bouckaert and Frank 2004).

    Parameters
    ----------
    differences : float64 array, shape (n_splits,)
    n_test, n_train : float
        Sizes of the two sides of a split, the mean where they differ.

    Returns
    -------
    ResampledT or None
        None with fewer than 2 splits or no spread between them.
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
