"""A selection as plain values: what ``tuning.json`` holds, and the sentences that go with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from biopercept.evaluation.metrics import chance_levels, summarise
from biopercept.tuning.design import Candidate
from biopercept.tuning.ranking import METRICS, InnerScores, Scores, ranked
from biopercept.tuning.selected import Selection
from biopercept.version import __version__

SCHEMA = 1


def tuning_document(selection: Selection) -> dict[str, Any]:
    """Return the content of ``tuning.json``.

    Returns
    -------
    dict
        ``candidates``: best first, each with its inner scores over subjects (a subject's score is the mean over the
        outer folds that see it), the paired difference to the best, parameters, seconds and times chosen; ``failed``;
        ``outer_folds``: test subjects, ranking and choice of each; ``nested``: the score of tuning and then using,
        with a row per subject; ``chosen``: the recommendation; ``findings``: sentences.
    """
    design = next(iter(selection.designs.values()))
    request, windows = design.plan.request, design.windows
    order = ranked(list(selection.inner.values()))
    candidates = [_candidate(selection, scores, order[0]) for scores in order]
    nested = _nested(selection)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "biopercept": __version__,
        "task": design.plan.task.name,
        "classes": list(windows.classes),
        "n_subjects": len(windows.subjects),
        "n_folds": len(design.outer),
        "seed": request.seed,
        "n_candidates": len(selection.candidates),
        "n_inner_fits": sum(len(d.pairs) for name, d in selection.designs.items() if name in selection.inner),
        "chance": chance_levels(windows.subject, windows.target, windows.n_classes, seed=request.seed),
        "chosen": order[0].name,
        "chosen_times": selection.winners.count(order[0].name),
        "candidates": candidates,
        "failed": [{"name": name, "reason": why} for name, why in selection.failures.items()],
        "outer_folds": _outer_folds(selection),
        "nested": nested,
    }
    return document | {"findings": _findings(document)}


def _over_subjects(selection: Selection, values: Sequence[float] | Scores, chance: float) -> dict[str, Any]:
    request = next(iter(selection.designs.values())).plan.request
    found = summarise(
        [float(v) for v in values], chance=chance, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap
    )
    return {
        "mean": found.mean,
        "ci95": None if found.ci95 is None else list(found.ci95),
        "sd": found.sd,
        "worst": found.worst,
        "n_subjects": found.n_subjects,
    }


def _candidate(selection: Selection, scores: InnerScores, best: InnerScores) -> dict[str, Any]:
    held, design = selection.candidate(scores.name), selection.design_of(scores.name)
    n_classes = design.windows.n_classes
    mine, other = scores.by_subject("balanced_accuracy"), best.by_subject("balanced_accuracy")
    request = design.plan.request
    return {
        "name": scores.name,
        "model": "ensemble" if held.members else request.model,
        "members": list(held.members),
        "store": request.store.name,
        "changes": dict(held.changes),
        "normalisation": design.plan.normalisation.mode,
        "window_seconds": design.windows.length_seconds,
        "inner_balanced_accuracy": _over_subjects(selection, mine, 1.0 / n_classes),
        "inner_auroc": _over_subjects(selection, scores.by_subject("auroc"), 0.5),
        "difference_to_best": _over_subjects(selection, mine - other, 0.0),
        "parameters": scores.n_parameters,
        "seconds": round(scores.seconds, 1),
        "times_chosen": selection.winners.count(scores.name),
        "warnings": list(_warnings(selection, held)),
    }


def _warnings(selection: Selection, candidate: Candidate) -> dict[str, None]:
    names = candidate.members or (candidate.name,)
    return dict.fromkeys(warning for name in names for warning in selection.designs[name].plan.warnings)


def _outer_folds(selection: Selection) -> list[dict[str, Any]]:
    rows = []
    for number, winner in enumerate(selection.winners):
        fold = selection.nested.answers[number].fold
        order = ranked(list(selection.inner.values()), number)
        rows.append(
            {
                "fold": fold.name,
                "test": list(fold.test),
                "chosen": winner,
                "ranking": [
                    {"name": s.name} | {metric: _plain(s.of_fold(metric, number)) for metric in METRICS} for s in order
                ],
            }
        )
    return rows


def _nested(selection: Selection) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "participant_id": scores.subject,
            "fold": fold,
            "n_windows": scores.n_windows,
            "balanced_accuracy": scores.balanced_accuracy,
            "auroc": scores.auroc,
        }
        for fold, scores in sorted(selection.nested.per_subject(), key=lambda held: held[1].subject)
    ]
    chosen = {a.fold.name: w for a, w in zip(selection.nested.answers, selection.winners, strict=True)}
    values = {m: [math.nan if row[m] is None else row[m] for row in rows] for m in METRICS}
    inner = [selection.inner[winner].of_fold("balanced_accuracy", i) for i, winner in enumerate(selection.winners)]
    chance = 1.0 / next(iter(selection.designs.values())).windows.n_classes
    return {
        "balanced_accuracy": _over_subjects(selection, values["balanced_accuracy"], chance),
        "auroc": _over_subjects(selection, values["auroc"], 0.5),
        "inner_balanced_accuracy_of_winners": _plain(float(np.mean(inner))),
        "seconds": round(sum(answer.seconds for answer in selection.nested.answers), 1),
        "subjects": [row | {"chosen": chosen[row["fold"]]} for row in rows],
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _findings(found: dict[str, Any]) -> list[str]:
    """Return what a reader has to know, in sentences."""
    tried, n_failed = found["n_candidates"], len(found["failed"])
    lost = f" ({n_failed} of them could not be fitted)" if n_failed else ""
    sentences = [
        f"{tried} candidate{'s were' if tried != 1 else ' was'} tried{lost} inside the training side of each of "
        f"{found['n_folds']} outer folds over {found['n_subjects']} subjects, with {found['n_inner_fits']} fits in "
        "all; no score that a fold chose by came from a fit, or was of a subject, of its own test group."
    ]
    nested = found["nested"]
    mean, inner = nested["balanced_accuracy"]["mean"], nested["inner_balanced_accuracy_of_winners"]
    if mean is not None:
        sentences.append(
            f"Tuning and then using what was chosen reaches a balanced accuracy of {mean:.3f}"
            f"{_interval(nested['balanced_accuracy'])} on subjects that neither fitting nor choosing saw: this is the "
            "score to report."
        )
    if mean is not None and inner is not None:
        sentences.append(
            f"Inside, the winners had {inner:.3f}, which is no score to report: the best of many is too good by having "
            "been chosen."
        )
    best = found["candidates"][0]
    sentences.append(
        f"Recommended is {best['name']}, with the best inner score over all folds; "
        f"{found['chosen_times']} of {found['n_folds']} outer folds chose it."
    )
    close = [c["name"] for c in found["candidates"][1:] if _reaches_zero(c["difference_to_best"])]
    if close:
        sentences.append(f"Not told apart from it (the interval of the paired difference reaches 0): {_listed(close)}.")
    return sentences


def _interval(estimate: dict[str, Any]) -> str:
    edges = estimate["ci95"]
    return "" if edges is None else f" [{edges[0]:.3f}, {edges[1]:.3f}]"


def _reaches_zero(difference: dict[str, Any]) -> bool:
    return difference["ci95"] is None or difference["ci95"][1] >= 0


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
