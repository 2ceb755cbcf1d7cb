"""Fits of many candidates: each kept whole under a name made of all that it depends on, the missing ones fitted.

Because a fit's file is named after its settings, data, folds and version, and not after its candidate, candidates can
be added, renamed or removed later, and what is done is used again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError, TrainingError
from biopercept.evaluation.fold_fits import FoldResult, fit_fold, fit_together, fold_from_json, fold_to_json
from biopercept.evaluation.plan import EvaluationRequest, Plan, in_stacks, plan_evaluation
from biopercept.evaluation.runs import Keeper, RunFolder
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.store.reading import StudyStore, open_store
from biopercept.tuning.design import Design

Fault = SettingsError | TrainingError
FitDone = Callable[[str, str, bool, int], None]
"""Called with ``(candidate, fold, was_done_before, n_fits)``."""


@dataclass(frozen=True)
class Stack:
    """Folds of one candidate that are fitted in one go."""

    request: EvaluationRequest
    folds: tuple[Fold, ...]

    @property
    def name(self) -> str:
        """Return the folds' names."""
        return ", ".join(fold.name for fold in self.folds)


class Plans:
    """Plans made where they are needed; the last one is held, because stacks come candidate by candidate."""

    def __init__(self) -> None:
        self._last: tuple[EvaluationRequest, Plan, StudyStore] | None = None

    def of(self, request: EvaluationRequest) -> Plan:
        """Return the request's plan."""
        if self._last is None or self._last[0] != request:
            self.close()  # before the next one is made: two would need twice the memory
            store = open_store(request.store)
            self._last = (request, plan_evaluation(store, request), store)
        return self._last[1]

    def close(self) -> None:
        """Let go of the plan and close its store."""
        if self._last is not None:
            self._last[2].close()
        self._last = None


@dataclass(frozen=True, eq=False)
class Fits:
    """What came of fitting: results by candidate and fold, and why candidates could not be fitted."""

    results: dict[tuple[str, str], FoldResult]
    failures: dict[str, Fault]


def selection_folder(output: Path) -> RunFolder[FoldResult]:
    """Return how a selection keeps its outer folds and its fits."""
    return RunFolder(output, "selection", "outer-folds.json", "fits", fold_to_json, fold_from_json)


def fit_all(
    wanted: Sequence[tuple[Design, Sequence[Fold]]],
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    is_single: bool = False,
    on_fit: FitDone | None = None,
) -> Fits:
    """Return the results of folds of each design: earlier ones from their files, the others fitted now.

    ``n_jobs`` are fits at once, each in a process of its own, or what fits them elsewhere; results do not depend on it.
    ``is_single``: never stack networks.

    Raises SettingsError where a process was lost; finished fits are kept.
    """
    report = on_fit or (lambda candidate, fold, was_done, n: None)
    folder, n_fits = selection_folder(output), sum(len(folds) for _, folds in wanted)
    results: dict[tuple[str, str], FoldResult] = {}
    failures: dict[str, Fault] = {}
    missing: dict[Stack, list[Design]] = {}
    for design, folds in wanted:
        size = 0 if is_single else design.plan.stack_size
        for stack in in_stacks(folds, size, design.plan.request.evaluation):
            earlier = {fold.name: folder.find(_fit_name(design, stack, fold), fold) for fold in stack}
            if None in earlier.values():
                missing.setdefault(Stack(design.plan.request, stack), []).append(design)
                continue
            for name, result in earlier.items():
                assert result is not None  # none is missing
                results[design.candidate.name, name] = result
                report(design.candidate.name, name, True, n_fits)
    keeper = Keeper(folder)
    plans = Plans()
    with closing(plans):
        for work, outcome in run_jobs(Work(_fit, _no_plans, None), list(missing), n_jobs, plans):
            names = [design.candidate.name for design in missing[work]]  # candidates of equal settings share the fit
            if isinstance(outcome, SettingsError | TrainingError):
                failures |= {name: failures.get(name, outcome) for name in names}
                continue
            for fold, result in zip(work.folds, outcome, strict=True):
                file_name = _fit_name(missing[work][0], work.folds, fold)
                kept = keeper.keep(file_name, fold, result, candidate=names[-1])
                for name in names:
                    results[name, fold.name] = kept
                    report(name, fold.name, False, n_fits)
    return Fits(results, failures)


def _fit_name(design: Design, stack: Sequence[Fold], fold: Fold) -> str:
    """Return the name of a fold's fit; networks fitted in one program depend, by rounding, on each other."""
    together = [other.to_json() for other in stack] if len(stack) > 1 else []
    text = json.dumps([design.plan.identity(), fold.to_json(), together], sort_keys=True)
    return f"{fold.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _no_plans(request: None) -> Plans:
    return Plans()


def _fit(plans: Plans, stack: Stack) -> list[FoldResult] | Fault:
    """Return the folds' results, or why these settings cannot be fitted: others still can."""
    try:
        plan = plans.of(stack.request)
        return fit_together(plan, stack.folds) if len(stack.folds) > 1 else [fit_fold(plan, stack.folds[0])]
    except (SettingsError, TrainingError) as fault:
        return fault
