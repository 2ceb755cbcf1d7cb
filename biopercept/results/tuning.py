"""``tuning.json``: candidates with their inner scores, what each outer fold chose, and the score of having chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from biopercept.results.reading import Estimate
from biopercept.typed_values import Count


@dataclass(frozen=True, kw_only=True)
class TunedScore(Estimate):
    """A score over subjects, or a paired difference; ``sd`` is over subjects, with n - 1."""

    sd: float | None
    worst: float | None
    n_subjects: Count


@dataclass(frozen=True, kw_only=True)
class CandidateScore:
    """A candidate and how it did inside.

    ``members`` are those of an ensemble; ``changes`` what it changes of the command's settings. Inner scores are over
    subjects; a subject's is the mean over the outer folds that see it. ``difference_to_best`` is in inner balanced
    accuracy, paired. ``parameters`` are of its largest fit, of an ensemble those of all members; ``seconds`` of all its
    inner fits.
    """

    name: str
    model: str
    members: tuple[str, ...]
    store: str
    changes: Mapping[str, str]
    normalisation: str
    window_seconds: float
    inner_balanced_accuracy: TunedScore
    inner_auroc: TunedScore
    difference_to_best: TunedScore
    parameters: Count
    seconds: float
    times_chosen: Count
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FailedCandidate:
    """A candidate that could not be fitted, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RankedCandidate:
    """A candidate as one outer fold sees it: mean inner scores over the subjects that it may choose by."""

    name: str
    balanced_accuracy: float | None
    auroc: float | None


@dataclass(frozen=True, kw_only=True)
class OuterFold:
    """What an outer fold chose, without its test subjects, and what it chose from, the best first."""

    fold: str
    test: tuple[str, ...]
    chosen: str
    ranking: tuple[RankedCandidate, ...]


@dataclass(frozen=True, kw_only=True)
class NestedSubject:
    """How the winner of a subject's outer fold did on the subject."""

    participant_id: str
    fold: str
    n_windows: Count
    balanced_accuracy: float | None
    auroc: float | None
    chosen: str


@dataclass(frozen=True, kw_only=True)
class NestedScore:
    """The score of tuning and then using what was chosen, on subjects that neither saw."""

    balanced_accuracy: TunedScore
    auroc: TunedScore
    inner_balanced_accuracy_of_winners: float | None
    seconds: float
    subjects: tuple[NestedSubject, ...]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A finished selection; ``chosen`` has the best inner score over all outer folds.

    ``chosen_times`` of these chose it too. ``n_candidates`` includes those that could not be fitted; ``candidates``
    stand with the best first.
    """

    FILE: ClassVar[str] = "tuning.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "tune"

    biopercept: str
    task: str
    classes: tuple[str, ...]
    n_subjects: Count
    n_folds: Count
    seed: Count
    n_candidates: Count
    n_inner_fits: Count
    chance: Mapping[str, float]
    chosen: str
    chosen_times: Count
    candidates: tuple[CandidateScore, ...]
    failed: tuple[FailedCandidate, ...]
    outer_folds: tuple[OuterFold, ...]
    nested: NestedScore
    findings: tuple[str, ...]
