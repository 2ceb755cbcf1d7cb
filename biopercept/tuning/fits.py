"""Fits of many candidates: each kept whole under a name made of all that it depends on, the missing ones fitted.

Because a fit's file is named after its settings, data, folds and version, and not after its candidate, candidates can
be added, renamed or removed later, and what is done is used again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError, TrainingError
from biopercept.evaluation.fold_fits import FoldResult, fit_fold, fit_together, fold_from_json, fold_to_json
from biopercept.evaluation.plan import EvaluationRequest, Plan, in_stacks, plan_evaluation
from biopercept.files import write_json
from biopercept.parallel import each_fold
from biopercept.store.reading import StudyStore, open_store
from biopercept.tuning.design import Design

FOLDER = "fits"

Fault = SettingsError | TrainingError
FitDone = Callable[[str, str, bool, int], None]
"""Told ``(candidate, fold, was_done_before, n_fits)``."""


@dataclass(frozen=True)
class Work:
    """Folds of one candidate that are fitted in one go."""

    request: EvaluationRequest
    folds: tuple[Fold, ...]


class Plans:
    """Plans made where they are needed; the last one is held, because work comes candidate by candidate."""

    def __init__(self) -> None:
        self._held: tuple[EvaluationRequest, Plan, StudyStore] | None = None

    def of(self, request: EvaluationRequest) -> Plan:
        """Return the request's plan."""
        if self._held is None or self._held[0] != request:
            self.close()  # before the next one is made: two would need twice the memory
            store = open_store(request.store)
            self._held = (request, plan_evaluation(store, request), store)
        return self._held[1]

    def close(self) -> None:
        """Let go of the plan and close its store."""
        if self._held is not None:
            self._held[2].close()
        self._held = None


@dataclass(frozen=True, eq=False)
class Fits:
    """What came of fitting.

    Attributes
    ----------
    results : dict of (candidate, fold name) to FoldResult
    failures : dict of candidate to error
        Why candidates could not be fitted, such as numbers that were not finite.
    """

    results: dict[tuple[str, str], FoldResult]
    failures: dict[str, Fault]


def fit_path(output: Path, design: Design, stack: Sequence[Fold], fold: Fold) -> Path:
    """Return the file of a fold's fit; networks fitted in one program depend, by rounding, on each other."""
    together = [own.to_json() for own in stack] if len(stack) > 1 else []
    held = json.dumps([design.plan.identity(), fold.to_json(), together], sort_keys=True)
    return output / FOLDER / f"{fold.name}-{hashlib.sha256(held.encode()).hexdigest()[:16]}.json"


def fit_all(
    asked: Sequence[tuple[Design, Sequence[Fold]]],
    output: Path,
    *,
    n_jobs: int = 1,
    is_single: bool = False,
    on_fit: FitDone | None = None,
) -> Fits:
    """Return the results of the folds asked of each design: earlier ones from their files, the others fitted now.

    Parameters
    ----------
    asked : sequence of (Design, folds)
    output : Path
        Folder; files lie in its folder ``fits``.
    n_jobs : int
        Fits at once, each in a process of its own; results do not depend on it.
    is_single : bool
        Never stack networks.

    Raises
    ------
    SettingsError
        Where a worker process was killed; finished fits are kept.
    """
    tell = on_fit or (lambda candidate, fold, was_done, n: None)
    n_fits = sum(len(folds) for _, folds in asked)
    results: dict[tuple[str, str], FoldResult] = {}
    failures: dict[str, Fault] = {}
    waiting: dict[Work, list[tuple[Design, tuple[Fold, ...]]]] = {}
    for design, folds in asked:
        name = design.candidate.name
        size = 0 if is_single else design.plan.stack_size
        for stack in in_stacks(folds, size, design.plan.request.evaluation):
            found = [_read(fit_path(output, design, stack, fold), fold) for fold in stack]
            if any(result is None for result in found):
                waiting.setdefault(Work(design.plan.request, stack), []).append((design, stack))
                continue
            for fold, result in zip(stack, found, strict=True):
                assert result is not None  # asked above
                results[name, fold.name] = result
                tell(name, fold.name, True, n_fits)
    for work, done in _each(list(waiting), n_jobs):
        for design, stack in waiting[work]:  # candidates of equal settings share the fit
            name = design.candidate.name
            if isinstance(done, SettingsError | TrainingError):
                failures.setdefault(name, done)
                continue
            for fold, result in zip(stack, done, strict=True):
                write_json(fit_path(output, design, stack, fold), {"candidate": name, **fold_to_json(result)})
                results[name, fold.name] = result
                tell(name, fold.name, False, n_fits)
    return Fits(results, failures)


def _each(works: Sequence[Work], n_jobs: int) -> Iterator[tuple[Work, list[FoldResult] | Fault]]:
    plans = Plans()
    try:
        yield from each_fold(works, n_jobs, _fit, plan=plans, make_plan=_open, request=None)
    finally:
        plans.close()


def _open(request: None) -> Plans:
    return Plans()


def _fit(plans: Plans, work: Work) -> list[FoldResult] | Fault:
    """Return the folds' results, or why these settings cannot be fitted: others still can."""
    try:
        plan = plans.of(work.request)
        return fit_together(plan, work.folds) if len(work.folds) > 1 else [fit_fold(plan, work.folds[0])]
    except (SettingsError, TrainingError) as fault:
        return fault


def _read(path: Path, fold: Fold) -> FoldResult | None:
    """Return a kept result; None where it is absent or damaged, and will be fitted again."""
    try:
        return fold_from_json(json.loads(path.read_text(encoding="utf-8")), fold)
    except (OSError, ValueError, KeyError, TypeError):
        return None
