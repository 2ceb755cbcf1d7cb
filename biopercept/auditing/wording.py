"""Numbers in sentences: each with its interval, its n and what guessing gives."""

from __future__ import annotations

from biopercept.auditing.identity_reading import Recognition
from biopercept.auditing.material import LabelScore
from biopercept.auditing.time_reading import Association
from biopercept.reporting.text import count, score, with_interval


def accuracy(held: LabelScore) -> str:
    """Return "a balanced accuracy of 0.935 [0.905, 0.960] in 34 subjects (guessing: 0.500)"."""
    pooled = " over all windows together" if held.is_pooled else ""
    return (
        f"a balanced accuracy of {with_interval(held.value, held.ci95)}{pooled} in "
        f"{count(held.n_subjects, 'subject')} (guessing: {score(held.chance)})"
    )


def correlation(held: Association) -> str:
    """Return "r = 0.41 [0.35, 0.47] in 34 subjects, p = 0.002"."""
    return (
        f"r = {with_interval(held.value, held.ci95, 2)} in {count(held.n_subjects, 'subject')}, "
        f"p = {score(held.p_value)} against circular shifts"
    )


def recognition(held: Recognition) -> str:
    """Return "0.21 [0.17, 0.25] of the windows in 34 subjects (guessing: 0.03)"."""
    return (
        f"{with_interval(held.value, held.ci95, 2)} of the windows of {count(held.n_subjects, 'subject')} "
        f"(guessing: {score(held.chance, 2)})"
    )
