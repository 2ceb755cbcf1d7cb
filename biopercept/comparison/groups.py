"""Scores of groups of people (sex, age group, site), and whether they differ by more than people do.

People are what is resampled and permuted, never windows. A difference is tested by dealing the people of two groups
anew (every deal where there are few, random ones else), which asks no more than that people can change places where
groups do not matter; p-values are Holm's over all differences of a task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StudyError, listed
from biopercept.evaluation.cross_validation import tasks_with_folder
from biopercept.evaluation.metrics import binned_error, percentile_interval
from biopercept.evaluation.trust import N_BINS
from biopercept.measures.statistics import holm
from biopercept.results.cross_validation import CrossValidation, load_validation
from biopercept.results.groups import GROUP_WORDS, GroupDifference, Groups, GroupScore
from biopercept.results.reading import write_result, write_rows
from biopercept.studies.plain import UNKNOWN, groups_by_subject
from biopercept.studies.structure import Participant
from biopercept.typed_values import did_you_mean

LEAST_PEOPLE = 5
"""People whom a group needs to be compared with another."""
MOST_GROUPS = 12
N_PERMUTATIONS = 10_000
_SIGNIFICANT = 0.05
_ROUNDING = 1e-12

Floats = NDArray[np.float64]
Levels = Mapping[str, Mapping[str, str]]
"""By column, the group of each person."""


def levels_of(participants: Path | Sequence[Participant], columns: Sequence[str]) -> Levels:
    """Return the group of each person in each column of participants.tsv, given as a file or as read with a study.

    Raises StudyError where the file cannot be read. Raises SettingsError where a column is not there.
    """
    groups = groups_by_subject(participants)
    known = sorted({name for of_person in groups.values() for name in of_person})
    for column in columns:
        if column not in known:
            raise SettingsError(
                f"--by names the column {column!r}, which participants.tsv lacks{did_you_mean(column, known)}; it has: "
                f"{', '.join(known) or 'no column but participant_id'}"
            )
    return {
        column: {subject: of_person.get(column, UNKNOWN) for subject, of_person in groups.items()} for column in columns
    }


def refuse_unlisted(levels: Levels, subjects: Sequence[str]) -> None:
    """Refuse people whose group is not known. Raises StudyError."""
    for column, group_of in levels.items():
        if strangers := [subject for subject in subjects if subject not in group_of]:
            raise StudyError(
                f"participants.tsv does not list {listed(strangers)}, whose group --by {column} needs; add them there, "
                "or leave them out with --exclude-subjects"
            )


def write_groups(folder: Path, levels: Levels, *, seed: int = 0, n_bootstrap: int = 2000) -> tuple[str, ...]:
    """Score groups in a finished folder of scores (of several tasks in each), write them, and return the warnings.

    Raises StudyError where the folder is not finished, or somebody is not in participants.tsv. Raises SettingsError
    where a column has too many values. Raises OutputError where a file cannot be written.
    """
    warnings: dict[str, None] = {}
    for place in [folder / name for name in tasks_with_folder(folder)] or [folder]:
        groups = score_groups(place, levels, seed=seed, n_bootstrap=n_bootstrap)
        write_rows(place / "groups.csv", groups.scores)
        write_result(place / Groups.FILE, groups)
        warnings.update(dict.fromkeys(groups.warnings))
    return tuple(warnings)


def score_groups(folder: Path, levels: Levels, *, seed: int = 0, n_bootstrap: int = 2000) -> Groups:
    """Return the scores of groups of the people in a finished folder of one task.

    Raises StudyError where the folder is not finished, or somebody is not in participants.tsv. Raises SettingsError
    where a column has too many values.
    """
    run = load_validation(folder)
    subjects = [scored.participant for scored in run.subjects]
    n_windows = np.array([scored.n_windows for scored in run.subjects])
    parts = []
    for column, group_of in levels.items():
        refuse_unlisted({column: group_of}, subjects)
        group = np.array([group_of[subject] for subject in subjects])
        if len(set(group.tolist())) > MOST_GROUPS:
            raise SettingsError(
                f"the column {column!r} has {len(set(group.tolist()))} different values for {len(subjects)} people, "
                f"and at most {MOST_GROUPS} groups are compared; add a column of few groups, such as age_group"
            )
        parts.append(_Column(column, group))
    positive = run.classes[1] if isinstance(run, CrossValidation) and len(run.classes) == 2 else None
    measures = _measures_of_classes(run, subjects) if isinstance(run, CrossValidation) else _measures_of_numbers(run)
    drawn = _Drawn(seed, n_bootstrap)
    scores = [score for part in parts for score in part.scores(measures, n_windows, drawn)]
    differences = [difference for part in parts for difference in part.differences(measures, drawn)]
    adjusted = holm([difference.p for difference in differences])
    differences = [replace(d, p_holm=p) for d, p in zip(differences, adjusted, strict=True)]
    return Groups(
        task=run.task,
        positive=positive,
        n_bootstrap=n_bootstrap,
        n_permutations=N_PERMUTATIONS,
        seed=seed,
        least_people=LEAST_PEOPLE,
        scores=tuple(scores),
        differences=tuple(differences),
        warnings=(*(words for part in parts for words in part.warnings()), *_found_words(differences)),
    )


@dataclass(frozen=True, eq=False)
class _Measure:
    """One score: its name, for whom it is defined (n_people,), and its value if each person counts so many times."""

    name: str
    is_defined: NDArray[np.bool_]
    of: Callable[[Floats], float]


@dataclass(frozen=True)
class _Drawn:
    """How people are drawn: by which seed, and how often for an interval."""

    seed: int
    n: int

    def interval(self, sides: Sequence[NDArray[np.int64]], value: Callable[[Floats], float]) -> tuple[float, float]:
        """Return the 95 % interval of a value of the people of groups, each resampled within itself."""
        generator, n_people = np.random.default_rng(self.seed), 1 + max(int(side.max()) for side in sides)
        values = []
        for _ in range(self.n):
            drawn = [side[generator.integers(0, len(side), size=len(side))] for side in sides]
            times = [np.bincount(side, minlength=n_people).astype(np.float64) for side in drawn]
            values.append(value(np.stack(times)))
        return percentile_interval(values)


@dataclass(frozen=True, eq=False)
class _Column:
    """A column of participants.tsv, and the group of each person (n_people,)."""

    name: str
    group: NDArray[np.str_]

    @property
    def names(self) -> list[str]:
        """Return the groups, those of unknown people last."""
        return sorted(set(self.group.tolist()), key=lambda name: (name == UNKNOWN, name))

    def scores(self, measures: Sequence[_Measure], n_windows: NDArray[np.int64], drawn: _Drawn) -> Iterator[GroupScore]:
        """Give each score of each group."""
        for name in self.names:
            is_in = self.group == name
            for measure in measures:
                side = np.flatnonzero(is_in & measure.is_defined)
                yield GroupScore(
                    column=self.name,
                    group=name,
                    n_subjects=int(is_in.sum()),
                    n_windows=int(n_windows[is_in].sum()),
                    score=measure.name,
                    n_defined=len(side),
                    value=measure.of(_once(side)) if len(side) else None,
                    ci95=_interval_of(measure, side, drawn) if len(side) > 1 else None,
                )

    def differences(self, measures: Sequence[_Measure], drawn: _Drawn) -> Iterator[GroupDifference]:
        """Give each difference of two groups that are both large enough; ``p_holm`` is not yet corrected."""
        for measure in measures:
            sides = {n: np.flatnonzero((self.group == n) & measure.is_defined) for n in self.names if n != UNKNOWN}
            large = {name: side for name, side in sides.items() if len(side) >= LEAST_PEOPLE}
            for (first, one), (second, other) in combinations(large.items(), 2):
                p = permutation_p(measure.of, one, other, seed=drawn.seed)
                yield GroupDifference(
                    column=self.name,
                    score=measure.name,
                    first=first,
                    second=second,
                    n_first=len(one),
                    n_second=len(other),
                    difference=measure.of(_once(one)) - measure.of(_once(other)),
                    ci95=drawn.interval((one, other), partial(_difference, measure)),
                    p=p,
                    p_holm=p,
                )

    def warnings(self) -> Iterator[str]:
        """Give a sentence on each group that is too small, and on people whose group is not known."""
        sizes = {name: int((self.group == name).sum()) for name in self.names}
        small = [f"{name} ({n})" for name, n in sizes.items() if n < LEAST_PEOPLE and name != UNKNOWN]
        if small:
            yield (
                f"groups by {self.name} of fewer than {LEAST_PEOPLE} people are too small to be compared: "
                f"{listed(small)}"
            )
        if sizes.get(UNKNOWN):
            yield f"{sizes[UNKNOWN]} of {len(self.group)} people have no {self.name} in participants.tsv"


def _difference(measure: _Measure, times: Floats) -> float:
    return measure.of(times[0]) - measure.of(times[1])


def _interval_of(measure: _Measure, side: NDArray[np.int64], drawn: _Drawn) -> tuple[float, float]:
    return drawn.interval((side,), lambda times: measure.of(times[0]))


def _once(side: NDArray[np.int64]) -> Floats:
    """Return how often each person counts where those of a group count once."""
    return np.bincount(side).astype(np.float64)


def permutation_p(
    of: Callable[[Floats], float], one: NDArray[np.int64], other: NDArray[np.int64], *, seed: int = 0
) -> float:
    """Return the two-sided p of the difference between two groups of people, by dealing them anew.

    ``of`` gives the score of people by how often each counts. All deals are tried where there are at most as many as
    random ones would be drawn; of random ones the deal as it is counts as one more.
    """
    everyone, n = np.concatenate([one, other]), len(one)
    n_people = 1 + int(everyone.max())

    def away(first: NDArray[np.int64]) -> float:
        counts = np.zeros((2, n_people))
        counts[1, everyone] = 1.0
        counts[:, everyone[first]] = [[1.0], [0.0]]
        return abs(of(counts[0]) - of(counts[1]))

    observed = away(np.arange(n)) - _ROUNDING
    n_deals = math.comb(len(everyone), n)
    if n_deals <= N_PERMUTATIONS:
        deals = (np.array(deal) for deal in combinations(range(len(everyone)), n))
        return sum(away(deal) >= observed for deal in deals) / n_deals
    generator = np.random.default_rng(seed)
    reached = sum(away(generator.permutation(len(everyone))[:n]) >= observed for _ in range(N_PERMUTATIONS))
    return (1 + reached) / (1 + N_PERMUTATIONS)


def _mean_of(name: str, values: Sequence[float | None]) -> _Measure:
    """Return a score that every person has alone, and whose group has the mean."""
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    is_defined = np.isfinite(known)
    filled = np.where(is_defined, known, 0.0)

    def of(times: Floats) -> float:
        weights = times * is_defined[: len(times)]
        return float(weights @ filled[: len(times)] / weights.sum())

    return _Measure(name, is_defined, of)


def _measures_of_classes(run: CrossValidation, subjects: Sequence[str]) -> list[_Measure]:
    number = {subject: place for place, subject in enumerate(subjects)}
    owner = np.array([number[key[0]] for key in run.predictions.keys])
    classes = {name: place for place, name in enumerate(run.classes)}
    label = np.array([classes[name] for name in run.predictions.label])
    predicted = np.array([classes[name] for name in run.predictions.predicted])
    confidence = run.predictions.probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    sorted_owner, sorted_confidence = owner[order], confidence[order]
    is_right = (label == predicted)[order].astype(np.float64)

    def pooled_error(times: Floats) -> float:
        weights = np.pad(times, (0, len(subjects) - len(times)))[sorted_owner]
        return binned_error(sorted_confidence, is_right, weights=weights, n_bins=N_BINS)

    positives = [1] if len(classes) == 2 else list(classes.values())
    false_positives = [
        _false_positive_rate(label[owner == place], predicted[owner == place], positives)
        for place in range(len(subjects))
    ]
    means = [
        _mean_of(name, [getattr(s, name) for s in run.subjects]) for name in ("balanced_accuracy", "auroc", "brier")
    ]
    ece = _Measure("ece", np.ones(len(subjects), dtype=bool), pooled_error)
    return [*means, ece, _mean_of("false_positive_rate", false_positives)]


def _false_positive_rate(
    label: NDArray[np.int64], predicted: NDArray[np.int64], positives: Sequence[int]
) -> float | None:
    """Return the fraction of windows of other classes that were predicted as a class, the mean over some classes."""
    rates = [float((predicted[label != k] == k).mean()) for k in positives if (label != k).any()]
    return float(np.mean(rates)) if rates else None


def _measures_of_numbers(run: object) -> list[_Measure]:
    rows = getattr(run, "subjects", ())
    return [_mean_of(name, [getattr(row, name) for row in rows]) for name in ("mae", "ccc")]


def _found_words(differences: Sequence[GroupDifference]) -> list[str]:
    return [
        f"by {d.column}, {d.first} and {d.second} differ in {GROUP_WORDS[d.score]} by {d.difference:+.3f} "
        f"(permutation of people, Holm-adjusted p = {d.p_holm:.3g})"
        for d in differences
        if d.p_holm < _SIGNIFICANT
    ]
