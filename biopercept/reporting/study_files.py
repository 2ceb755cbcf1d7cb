"""Reading from ``scores.json`` what a cross-validation says of each of several studies."""

from __future__ import annotations

from .fields import Fields
from .study_results import StudyScore


def studies_of(scores: Fields) -> tuple[StudyScore, ...]:
    """Return the studies of ``studies`` in their order; none where one store was evaluated.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    studies = scores.part("studies", optional=True)
    return tuple(_study(name, studies.part(name)) for name in studies.content)


def _study(name: str, held: Fields) -> StudyScore:
    parts = {key: held.part(key) for key in held.content if key != "n_subjects"}
    found = {key: (part.number("mean"), part.interval("ci95")) for key, part in parts.items()}
    return StudyScore(name, held.whole("n_subjects") or 0, found)
