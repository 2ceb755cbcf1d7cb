"""Inner scores of candidates, which one each outer fold chooses, and what a selection found; nothing is fitted here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.fold_fits import FoldResult
from biopercept.evaluation.metrics import score_subject
from biopercept.results.cross_validation import SubjectScore
from biopercept.tuning.design import Candidate, Design, windows_equal

Scores = NDArray[np.float64]

METRICS = ("balanced_accuracy", "auroc")
NESTED_FOLDER = "nested"


@dataclass(frozen=True, eq=False)
class InnerScores:
    """What a candidate's fits reached on subjects that they had not seen.

    * ``balanced_accuracy``, ``auroc`` (float64 arrays, shape (n_outer_folds, n_subjects)): row i holds the scores that
      outer fold i may choose by: of every subject but its own, from fits in which neither the subject's fold nor fold i
      had a part. NaN where there is none or it is not defined.
    * ``n_parameters``: of the largest fit; of an ensemble all members together.
    """

    name: str
    balanced_accuracy: Scores
    auroc: Scores
    n_parameters: int
    seconds: float

    def of_fold(self, metric: str, fold: int) -> float:
        """Return the mean over subjects that outer fold ``fold`` sees; NaN where nobody has a score."""
        return float(mean_of(getattr(self, metric)[fold], axis=0))

    def by_subject(self, metric: str) -> Scores:
        """Return each subject's mean over the outer folds that see it, (n_subjects,)."""
        return mean_of(getattr(self, metric), axis=0)

    def overall(self, metric: str) -> float:
        """Return the mean over subjects of :meth:`by_subject`."""
        return float(mean_of(self.by_subject(metric), axis=0))


def mean_of(values: Scores, *, axis: int) -> Scores:
    """Return the mean of what is there along an axis; NaN where nothing is."""
    is_there = np.isfinite(values)
    n_there = is_there.sum(axis=axis)
    total = np.where(is_there, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, n_there, out=np.full(np.shape(total), np.nan), where=n_there > 0))


def ensemble_result(results: Sequence[FoldResult]) -> FoldResult:
    """Return the predictions of an ensemble: the mean of its members' probabilities for one fold."""
    first = results[0]
    probabilities = np.mean([result.probabilities for result in results], axis=0)
    n_parameters, seconds = sum(r.n_parameters for r in results), sum(r.seconds for r in results)
    return FoldResult(first.fold, first.rows, probabilities, n_parameters, seconds, [])


def _score(design: Design, result: FoldResult, subject: str) -> SubjectScore:
    is_theirs = design.windows.subject[result.rows] == subject
    target = design.windows.only.values[result.rows[is_theirs]]
    return score_subject(subject, target, result.probabilities[is_theirs])


def inner_scores(
    candidate: Candidate, designs: Mapping[str, Design], results: Mapping[tuple[str, str], FoldResult]
) -> InnerScores:
    """Return a candidate's inner scores from the predictions of its pairs of folds, or those of its members.

    Designs are by candidate, results by candidate and name of the fold.
    """
    members = candidate.members or (candidate.name,)
    design = designs[members[0]]
    index = {subject: k for k, subject in enumerate(design.windows.subjects)}
    scores = {metric: np.full((len(design.outer), len(index)), np.nan) for metric in METRICS}
    parameters, seconds = 0, 0.0
    for (i, j), fold in design.pairs.items():
        result = ensemble_result([results[member, fold.name] for member in members])
        parameters, seconds = max(parameters, result.n_parameters), seconds + result.seconds
        for seen_by, tested in ((i, j), (j, i)):
            for subject in design.outer[tested].test:
                subject_scores = _score(design, result, subject)
                for metric in METRICS:
                    value = getattr(subject_scores, metric)
                    scores[metric][seen_by, index[subject]] = math.nan if value is None else value
    return InnerScores(candidate.name, scores["balanced_accuracy"], scores["auroc"], parameters, seconds)


def ranked(scored: Sequence[InnerScores], fold: int | None = None) -> list[InnerScores]:
    """Return candidates best first, as outer fold ``fold`` sees them; over all folds where it is None.

    By balanced accuracy, then AUROC, then fewer parameters, then the order in which they were named.
    """

    def rank(scores: InnerScores) -> tuple[float, float, int]:
        values = [scores.overall(m) if fold is None else scores.of_fold(m, fold) for m in METRICS]
        accuracy, area = (-math.inf if math.isnan(value) else value for value in values)
        return -accuracy, -area, scores.n_parameters

    return sorted(scored, key=rank)


@dataclass(frozen=True, eq=False)
class Nested:
    """What each outer fold's winner predicted for the fold's test subjects, with its design, or its first member's."""

    designs: tuple[Design, ...]
    results: tuple[FoldResult, ...]

    def per_subject(self) -> list[tuple[str, SubjectScore]]:
        """Return the outer fold's name and the scores of each subject, fold by fold."""
        return [
            (result.fold.name, _score(design, result, subject))
            for design, result in zip(self.designs, self.results, strict=True)
            for subject in result.fold.test
        ]

    def is_of_one_table(self) -> bool:
        """Return whether all winners answered about the same windows."""
        first = self.designs[0]
        return all(design is first or windows_equal(first.windows, design.windows) for design in self.designs)


@dataclass(frozen=True, eq=False)
class Selection:
    """Everything a selection came to.

    * ``designs``: of the candidates that are fitted.
    * ``inner``: of every candidate that could be fitted, in their order.
    * ``failures``: of the others, why not.
    * ``winners``: what each outer fold chose.
    """

    candidates: tuple[Candidate, ...]
    designs: dict[str, Design]
    inner: dict[str, InnerScores]
    failures: dict[str, str]
    winners: tuple[str, ...]
    nested: Nested

    @property
    def first(self) -> Design:
        """Return the design of the first candidate that is fitted, whose outer folds are all's."""
        return next(iter(self.designs.values()))

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
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def design_of(self, name: str) -> Design:
        """Return what was fitted of a candidate, or of an ensemble's first member."""
        members = self.candidate(name).members
        return self.designs[members[0] if members else name]
