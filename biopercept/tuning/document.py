"""A selection as it is written: candidates, outer folds, the nested score, and the sentences that go with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from biopercept.evaluation.metrics import chance_levels, summarise
from biopercept.results.reading import Estimate
from biopercept.results.tuning import (
    CandidateScore,
    FailedCandidate,
    NestedScore,
    NestedSubject,
    OuterFold,
    RankedCandidate,
    TunedScore,
    Tuning,
)
from biopercept.tuning.design import Candidate
from biopercept.tuning.ranking import InnerScores, Scores, ranked
from biopercept.tuning.selected import Selection
from biopercept.version import __version__


def tuning_of(selection: Selection) -> Tuning:
    """Return what a selection found as it is written."""
    design = next(iter(selection.designs.values()))
    request, windows = design.plan.request, design.windows
    order = ranked(list(selection.inner.values()))
    bare = Tuning(
        biopercept=__version__,
        task=design.plan.task.name,
        classes=windows.only.classes,
        n_subjects=len(windows.subjects),
        n_folds=len(design.outer),
        seed=request.seed,
        n_candidates=len(selection.candidates),
        n_inner_fits=sum(len(d.pairs) for name, d in selection.designs.items() if name in selection.inner),
        chance=chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=request.seed),
        chosen=order[0].name,
        chosen_times=selection.winners.count(order[0].name),
        candidates=tuple(_candidate(selection, scores, order[0]) for scores in order),
        failed=tuple(FailedCandidate(name=name, reason=why) for name, why in selection.failures.items()),
        outer_folds=_outer_folds(selection),
        nested=_nested(selection),
        findings=(),
    )
    return replace(bare, findings=tuple(_findings(bare)))


def _over_subjects(selection: Selection, values: Sequence[float] | Scores, chance: float) -> TunedScore:
    request = next(iter(selection.designs.values())).plan.request
    found = summarise(
        [float(v) for v in values], chance=chance, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap
    )
    return TunedScore(mean=found.mean, ci95=found.ci95, sd=found.sd, worst=found.worst, n_subjects=found.n_subjects)


def _candidate(selection: Selection, scores: InnerScores, best: InnerScores) -> CandidateScore:
    candidate, design = selection.candidate(scores.name), selection.design_of(scores.name)
    n_classes = design.windows.only.n_classes
    mine, other = scores.by_subject("balanced_accuracy"), best.by_subject("balanced_accuracy")
    request = design.plan.request
    return CandidateScore(
        name=scores.name,
        model="ensemble" if candidate.members else request.model,
        members=candidate.members,
        store=request.store.name,
        changes=dict(candidate.changes),
        normalisation=design.plan.normalisation.mode,
        window_seconds=design.windows.length_seconds,
        inner_balanced_accuracy=_over_subjects(selection, mine, 1.0 / n_classes),
        inner_auroc=_over_subjects(selection, scores.by_subject("auroc"), 0.5),
        difference_to_best=_over_subjects(selection, mine - other, 0.0),
        parameters=scores.n_parameters,
        seconds=round(scores.seconds, 1),
        times_chosen=selection.winners.count(scores.name),
        warnings=tuple(_warnings(selection, candidate)),
    )


def _warnings(selection: Selection, candidate: Candidate) -> dict[str, None]:
    names = candidate.members or (candidate.name,)
    return dict.fromkeys(warning for name in names for warning in selection.designs[name].plan.warnings)


def _outer_folds(selection: Selection) -> tuple[OuterFold, ...]:
    folds = []
    for number, winner in enumerate(selection.winners):
        fold = selection.nested.answers[number].fold
        ranking = (
            RankedCandidate(
                name=scores.name,
                balanced_accuracy=_plain(scores.of_fold("balanced_accuracy", number)),
                auroc=_plain(scores.of_fold("auroc", number)),
            )
            for scores in ranked(list(selection.inner.values()), number)
        )
        folds.append(OuterFold(fold=fold.name, test=fold.test, chosen=winner, ranking=tuple(ranking)))
    return tuple(folds)


def _nested(selection: Selection) -> NestedScore:
    chosen = {a.fold.name: w for a, w in zip(selection.nested.answers, selection.winners, strict=True)}
    rows = tuple(
        NestedSubject(
            participant_id=scores.subject,
            fold=fold,
            n_windows=scores.n_windows,
            balanced_accuracy=scores.balanced_accuracy,
            auroc=scores.auroc,
            chosen=chosen[fold],
        )
        for fold, scores in sorted(selection.nested.per_subject(), key=lambda scored: scored[1].subject)
    )
    accuracy = [math.nan if row.balanced_accuracy is None else row.balanced_accuracy for row in rows]
    area = [math.nan if row.auroc is None else row.auroc for row in rows]
    inner = [selection.inner[winner].of_fold("balanced_accuracy", i) for i, winner in enumerate(selection.winners)]
    chance = 1.0 / next(iter(selection.designs.values())).windows.only.n_classes
    return NestedScore(
        balanced_accuracy=_over_subjects(selection, accuracy, chance),
        auroc=_over_subjects(selection, area, 0.5),
        inner_balanced_accuracy_of_winners=_plain(float(np.mean(inner))),
        seconds=round(sum(answer.seconds for answer in selection.nested.answers), 1),
        subjects=rows,
    )


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _findings(found: Tuning) -> list[str]:
    """Return what a reader has to know, in sentences."""
    tried, n_failed = found.n_candidates, len(found.failed)
    lost = f" ({n_failed} of them could not be fitted)" if n_failed else ""
    sentences = [
        f"{tried} candidate{'s were' if tried != 1 else ' was'} tried{lost} inside the training side of each of "
        f"{found.n_folds} outer folds over {found.n_subjects} subjects, with {found.n_inner_fits} fits in "
        "all; no score that a fold chose by came from a fit, or was of a subject, of its own test group."
    ]
    nested = found.nested
    mean, inner = nested.balanced_accuracy.mean, nested.inner_balanced_accuracy_of_winners
    if mean is not None:
        sentences.append(
            f"Tuning and then using what was chosen reaches a balanced accuracy of {mean:.3f}"
            f"{_interval(nested.balanced_accuracy)} on subjects that neither fitting nor choosing saw: this is the "
            "score to report."
        )
    if mean is not None and inner is not None:
        sentences.append(
            f"Inside, the winners had {inner:.3f}, which is no score to report: the best of many is too good by having "
            "been chosen."
        )
    best = found.candidates[0]
    sentences.append(
        f"Recommended is {best.name}, with the best inner score over all folds; "
        f"{found.chosen_times} of {found.n_folds} outer folds chose it."
    )
    close = [c.name for c in found.candidates[1:] if _reaches_zero(c.difference_to_best)]
    if close:
        sentences.append(f"Not told apart from it (the interval of the paired difference reaches 0): {_listed(close)}.")
    return sentences


def _interval(estimate: Estimate) -> str:
    edges = estimate.ci95
    return "" if edges is None else f" [{edges[0]:.3f}, {edges[1]:.3f}]"


def _reaches_zero(difference: Estimate) -> bool:
    return difference.ci95 is None or difference.ci95[1] >= 0


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
