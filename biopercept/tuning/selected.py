"""What a selection found, as one value: who was tried, how they did inside, what each outer fold chose and scored."""

from __future__ import annotations

from dataclasses import dataclass

from biopercept.evaluation.folds import FoldResult
from biopercept.evaluation.metrics import SubjectScores, score_subject
from biopercept.tuning.design import Candidate, Design, windows_equal
from biopercept.tuning.ranking import InnerScores, ranked

NESTED_FOLDER = "nested"


@dataclass(frozen=True, eq=False)
class Nested:
    """What each outer fold's winner said about the fold's test subjects.

    Attributes
    ----------
    designs : tuple of Design
        Of the winner of each outer fold, or of its first member.
    answers : tuple of FoldResult
    """

    designs: tuple[Design, ...]
    answers: tuple[FoldResult, ...]

    def per_subject(self) -> list[tuple[str, SubjectScores]]:
        """Return the outer fold's name and the scores of each subject, fold by fold."""
        found = []
        for design, result in zip(self.designs, self.answers, strict=True):
            windows = design.windows
            for subject in result.fold.test:
                own = windows.subject[result.rows] == subject
                scores = score_subject(subject, windows.only.values[result.rows[own]], result.probabilities[own])
                found.append((result.fold.name, scores))
        return found

    def is_of_one_table(self) -> bool:
        """Return whether all winners answered about the same windows."""
        first = self.designs[0]
        return all(design is first or windows_equal(first.windows, design.windows) for design in self.designs)


@dataclass(frozen=True, eq=False)
class Selection:
    """Everything a selection found.

    Attributes
    ----------
    candidates : tuple of Candidate
    designs : dict of str to Design
        Of the candidates that are fitted.
    inner : dict of str to InnerScores
        Of every candidate that could be fitted, in their order.
    failures : dict of str to str
        Of the others, why not.
    winners : tuple of str
        What each outer fold chose.
    nested : Nested
        What the winners said about their test subjects.
    """

    candidates: tuple[Candidate, ...]
    designs: dict[str, Design]
    inner: dict[str, InnerScores]
    failures: dict[str, str]
    winners: tuple[str, ...]
    nested: Nested

    @property
    def best(self) -> str:
        """Return the candidate with the best inner score over all outer folds."""
        return ranked(list(self.inner.values()))[0].name

    @property
    def best_single(self) -> str | None:
        """Return the best candidate that is no ensemble."""
        singles = [scores for name, scores in self.inner.items() if name in self.designs]
        return ranked(singles)[0].name if singles else None

    def candidate(self, name: str) -> Candidate:
        """Return a candidate by its name."""
        return next(held for held in self.candidates if held.name == name)

    def design_of(self, name: str) -> Design:
        """Return what was fitted of a candidate, or of an ensemble's first member."""
        members = self.candidate(name).members
        return self.designs[members[0] if members else name]
