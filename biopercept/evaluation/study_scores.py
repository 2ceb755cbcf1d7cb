"""Scores of each of several studies that were evaluated together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from biopercept.evaluation.metrics import summarise
from biopercept.evaluation.planning import Plan


class OfSubject(Protocol):
    """Scores of one subject."""

    @property
    def subject(self) -> str:
        """Id of the participant, after its study's name."""


def studies_document(plan: Plan, per_subject: Sequence[OfSubject], names: Sequence[str]) -> dict[str, Any]:
    """Return what ``scores.json`` says of each study; nothing where one store was evaluated.

    Parameters
    ----------
    plan : Plan
    per_subject : sequence
        Scores of all subjects.
    names : sequence of str
        Scores that are told.
    """
    request = plan.request
    if not request.more_stores:
        return {}
    by_study: dict[str, list[OfSubject]] = {}
    for scored in per_subject:
        by_study.setdefault(scored.subject.rpartition("/")[0], []).append(scored)
    found: dict[str, Any] = {}
    for study, held in sorted(by_study.items()):
        found[study] = {"n_subjects": len(held)}
        for name in names:
            values = [getattr(scored, name) for scored in held]
            told = summarise(values, chance=0.0, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
            found[study][name] = {"mean": told.mean, "ci95": None if told.ci95 is None else list(told.ci95)}
    return {"studies": found}
