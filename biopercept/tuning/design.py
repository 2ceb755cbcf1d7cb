"""The nested design: outer folds of subjects, and for each pair of them a fit that saw neither.

A fit without the subjects of folds i and j predicts both. Its predictions of j are an inner score for outer fold
i, those of i one for outer fold j. The K (K - 1) / 2 fits of a candidate so give every outer fold a whole inner
cross-validation of K - 1 folds, in which its own subjects had no part; fitting each of them again would take K (K - 1).

References
----------
Why the choice needs folds of its own: G. Cawley and N. Talbot, "On Over-fitting in Model Selection and Subsequent
Selection Bias in Performance Evaluation", JMLR 11, 2010; S. Varma and R. Simon, BMC Bioinformatics 7, 2006,
doi:10.1186/1471-2105-7-91. Sharing the fits of pairs between outer folds is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from biopercept.data.splits import Fold, choose_validation
from biopercept.data.windows import WindowTable
from biopercept.errors import BioperceptError, SettingsError
from biopercept.evaluation.folds import check_classes_per_fold
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.settings import NONE
from biopercept.store.reading import StudyStore

MIN_FOLDS = 3
"""With two, the fit of their pair would have nobody to learn from."""

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One set of settings, or an ensemble of ``members``, of which nothing is fitted.

    * ``changes``: what it changes, for tables.
    * ``config_text``: all its settings as a YAML file; empty for an ensemble.
    """

    name: str
    changes: Mapping[str, str] = field(default_factory=dict)
    request: EvaluationRequest | None = None
    config_text: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Design:
    """What is fitted of one candidate: outer folds, each testing one group of subjects, and pairs testing two at once.

    Pairs are named by their indices into ``outer``.
    """

    candidate: Candidate
    plan: Plan
    outer: tuple[Fold, ...]
    pairs: dict[Pair, Fold]

    @property
    def windows(self) -> WindowTable:
        """Return the candidate's labelled windows."""
        return self.plan.windows


def make_designs(candidates: Sequence[Candidate], stores: Mapping[object, StudyStore]) -> dict[str, Design]:
    """Return what is fitted of each candidate that is no ensemble, by name; the first one's outer folds are all's.

    Stores are open, by the path in the requests.

    Raises BioperceptError where a candidate cannot be planned, naming it. Raises SettingsError where candidates differ
    in subjects, task or classes, ensembles in windows, or a pair of folds leaves a class without a training subject.
    """
    designs: dict[str, Design] = {}
    for candidate in candidates:
        if candidate.request is None:
            continue
        require_tunable(candidate.request)
        try:
            plan = plan_evaluation(stores[candidate.request.store], candidate.request)
        except BioperceptError as fault:
            raise type(fault)(f"candidate {candidate.name}: {fault}") from fault
        first = next(iter(designs.values()), None)
        groups = [(fold.name, fold.test) for fold in (plan.folds if first is None else first.outer)]
        _require_classes(plan, candidate.name)
        if first is not None:
            _require_same_question(first, plan, candidate.name)
        designs[candidate.name] = _design(candidate, plan, groups)
    for candidate in candidates:
        for member in candidate.members[1:]:
            _require_same_windows(designs[candidate.members[0]], designs[member], candidate.name)
    return designs


def require_tunable(request: EvaluationRequest) -> None:
    """Refuse settings of evaluation that the design cannot heed. Raises SettingsError naming the setting."""
    settings = request.evaluation
    if settings.n_folds < MIN_FOLDS:
        raise SettingsError(
            f"tune has {settings.n_folds} folds; at least {MIN_FOLDS} are needed, because each fit leaves "
            "two of them out"
        )
    for name, needed, why in (
        ("label_share", 1, "uses all labels of the training side"),
        ("conformal_coverage", 0, "makes no prediction sets"),
        ("missing_sensors", NONE, "asks with all sensors"),
    ):
        if (value := getattr(settings, name)) != needed:
            raise SettingsError(f"tune {why}; evaluation.{name} is {value}, which must be {needed}")


def _design(candidate: Candidate, plan: Plan, groups: Sequence[tuple[str, tuple[str, ...]]]) -> Design:
    """Return the folds; an outer one is that of cross-validate with the same seed wherever subjects are dealt alike."""
    subjects, seed = plan.windows.subjects, plan.request.seed
    dealt = {(fold.name, fold.test): fold for fold in plan.folds}  # the name, too: results are kept by it
    fraction = plan.request.fit.training.validation_fraction

    def fold(name: str, test: tuple[str, ...]) -> Fold:
        rest = [s for s in subjects if s not in test]
        validation = choose_validation(rest, fraction, f"{seed}-{name}")
        return Fold(name, tuple(s for s in rest if s not in validation), validation, test)

    outer = tuple(dealt.get(group) or fold(*group) for group in groups)
    pairs = {
        (i, j): fold(f"{i + 1:02d}+{j + 1:02d}-of-{len(groups):02d}", tuple(sorted((*one.test, *other.test))))
        for (i, one), (j, other) in combinations(enumerate(outer), 2)
    }
    check_classes_per_fold(plan.windows, (*outer, *pairs.values()), instead="more --folds, another --seed")
    return Design(candidate, plan, outer, pairs)


def _require_classes(plan: Plan, name: str) -> None:
    if len(plan.windows.tasks) > 1 or not plan.task.is_classification:
        what = "several tasks at once" if len(plan.windows.tasks) > 1 else f"the number of task {plan.task.name!r}"
        raise SettingsError(
            f"candidate {name}: tune ranks by balanced accuracy and cannot by {what}; name one task of classes"
        )


def _require_same_question(first: Design, plan: Plan, name: str) -> None:
    mine, other = plan.windows, first.windows
    if mine.subjects != other.subjects:
        odd = sorted(set(mine.subjects) ^ set(other.subjects))
        raise SettingsError(
            f"candidate {name} has other subjects than {first.candidate.name} ({', '.join(odd)}); stores of the same "
            "subjects are needed, or leave some out with --subjects or --exclude-subjects"
        )
    classes, others = mine.only.classes, other.only.classes
    if (plan.task.name, classes) != (first.plan.task.name, others):
        raise SettingsError(
            f"candidate {name} has another task or other classes ({plan.task.name}: {', '.join(classes)}) than "
            f"{first.candidate.name} ({first.plan.task.name}: {', '.join(others)}); scores would not compare"
        )


def windows_equal(first: WindowTable, second: WindowTable) -> bool:
    """Return whether two tables hold the same windows in the same order."""
    return (
        len(first) == len(second)
        and first.length_seconds == second.length_seconds
        and np.array_equal(first.subject, second.subject)
        and np.array_equal(first.onset, second.onset)
        and np.array_equal(first.only.values, second.only.values)
        and [r.key for r in first.recordings] == [r.key for r in second.recordings]
    )


def _require_same_windows(first: Design, second: Design, name: str) -> None:
    if not windows_equal(first.windows, second.windows):
        raise SettingsError(
            f"ensemble {name} joins {first.candidate.name} and {second.candidate.name}, which answer about different "
            "windows; members need one store and one way of leaving windows out"
        )
