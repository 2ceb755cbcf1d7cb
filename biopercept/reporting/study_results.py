"""What a cross-validation over several studies says of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True)
class StudyScore:
    """The scores of the held-out subjects of one study.

    Attributes
    ----------
    study : str
    n_subjects : int
    scores : mapping of name to (mean, interval)
        Mean over the study's subjects and its 95 % bootstrap interval over them; None where not defined.
    """

    study: str
    n_subjects: int
    scores: Mapping[str, tuple[float | None, Interval | None]]
