"""Answering only some windows: risk against coverage, and prediction sets of one or more classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.metrics import Probabilities, Targets, bootstrap_interval

Floats = NDArray[np.float64]
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))
RISKS = (0.05, 0.1, 0.2)


def selective_risks(is_wrong: NDArray[np.bool_], trust: Floats) -> Floats:
    """Return the share of wrong answers among the most trusted 1, 2, ... n windows.

    Windows of equal trust count as one block: within it errors are spread evenly, as if its order were drawn at random.

    Parameters
    ----------
    is_wrong : bool array, shape (n,)
    trust : float64 array, shape (n,)
        The higher, the sooner answered.

    Returns
    -------
    float64 array, shape (n,)
    """
    order = np.argsort(-trust, kind="stable")
    blocks = np.flatnonzero(np.diff(trust[order], append=np.nan) != 0) + 1
    wrong = np.cumsum(is_wrong[order])[blocks - 1]
    n_answered = np.arange(1, len(trust) + 1)
    errors = np.interp(n_answered, np.concatenate([[0], blocks]), np.concatenate([[0], wrong]))
    return np.asarray(errors / n_answered, dtype=np.float64)


def area_under_risk(risks: Floats) -> float:
    """Return the area under the risk-coverage curve (AURC; Geifman 2019, arXiv:1805.08206): the mean over coverages."""
    return float(risks.mean())


def coverage_at_risk(risks: Floats, most: float) -> float:
    """Return the largest share of windows that can be answered with a risk of at most ``most``; 0 where none can."""
    allowed = np.flatnonzero(risks <= most + 1e-12)
    return float((allowed[-1] + 1) / len(risks)) if len(allowed) else 0.0


def orders_of_trust(probabilities: Probabilities, quality: Floats, least_quality: float) -> dict[str, Floats]:
    """Return how much each window is trusted, by three rules.

    ``confidence``: the highest probability; ``quality``: the mean signal quality (0 where unknown); ``gated``: the
    confidence, windows below ``least_quality`` last of all.
    """
    known = np.nan_to_num(np.asarray(quality, dtype=np.float64), nan=0.0)
    confidence = probabilities.max(axis=1)
    return {
        "confidence": confidence,
        "quality": known,
        "gated": np.where(known >= least_quality, confidence, confidence - 1.0),
    }


def selective_document(
    subject: NDArray[np.str_],
    target: Targets,
    probabilities: Probabilities,
    quality: Floats,
    *,
    least_quality: float,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Return risk against coverage as plain values: over all windows, and the area within each subject.

    Returns
    -------
    dict
        ``coverage``: shares of windows; per rule of :func:`orders_of_trust` the ``risk`` there, the ``aurc`` over all
        windows, its mean over subjects with interval, and the ``coverage_at_risk``.
    """
    is_wrong = probabilities.argmax(axis=1) != target
    n = len(target)
    rows_at = [max(1, round(share * n)) - 1 for share in COVERAGES]
    document: dict[str, Any] = {"coverage": list(COVERAGES), "least_quality": least_quality}
    for rule, trust in orders_of_trust(probabilities, quality, least_quality).items():
        risks = selective_risks(is_wrong, trust)
        within = np.array([
            area_under_risk(selective_risks(is_wrong[rows], trust[rows]))
            for name in np.unique(subject)
            for rows in [subject == name]
        ])  # fmt: skip
        document[rule] = {
            "risk": [float(risks[row]) for row in rows_at],
            "aurc": area_under_risk(risks),
            "aurc_over_subjects": _over_subjects(within, seed=seed, n_bootstrap=n_bootstrap),
            "coverage_at_risk": {str(most): coverage_at_risk(risks, most) for most in RISKS},
        }
    return document


def _over_subjects(values: Floats, *, seed: int, n_bootstrap: int) -> dict[str, Any]:
    interval = bootstrap_interval(values, seed=seed, n_bootstrap=n_bootstrap) if len(values) > 1 else None
    return {
        "mean": float(values.mean()),
        "ci95": None if interval is None else list(interval),
        "n_subjects": len(values),
    }


def set_document(
    subject: NDArray[np.str_],
    target: Targets,
    sets: NDArray[np.bool_],
    classes: Sequence[str],
    *,
    target_coverage: float,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Return how prediction sets did on held-out subjects: coverage with its interval, sizes, abstentions.

    Parameters
    ----------
    subject, target : arrays, shape (n,)
    sets : bool array, shape (n, n_classes)
        Which classes each window's set holds.
    classes : sequence of str
    target_coverage : float
        What was asked for.
    seed, n_bootstrap : int
        Of the intervals over subjects.
    """
    is_covered = sets[np.arange(len(target)), target]
    size = sets.sum(axis=1)
    is_single = size == 1
    per_subject = np.array([is_covered[subject == name].mean() for name in np.unique(subject)])
    is_right = is_covered & is_single
    return {
        "target": target_coverage,
        "coverage": _over_subjects(per_subject, seed=seed, n_bootstrap=n_bootstrap),
        "coverage_of_windows": float(is_covered.mean()),
        "worst_subject": float(per_subject.min()),
        "coverage_by_class": {
            name: float(is_covered[target == k].mean()) for k, name in enumerate(classes) if (target == k).any()
        },
        "mean_size": float(size.mean()),
        "answered": float(is_single.mean()),
        "abstained": float((~is_single).mean()),
        "empty": float((size == 0).mean()),
        "accuracy_of_answered": float(is_right.sum() / is_single.sum()) if is_single.any() else None,
    }
