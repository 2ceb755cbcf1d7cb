"""Selection by inner folds, resumable: candidates ranked where test subjects had no part, the procedure scored once.

1. Outer folds of subjects are dealt as in ``cross-validate``; every candidate is fitted on all folds but each pair.
2. Each outer fold ranks the candidates by the predictions of the other folds from fits that its subjects had no part
   in, fits the best on its whole training side, and predicts its test subjects once.
3. Those predictions together are the *nested* score: of tuning and then using what was chosen. The candidate with the
   best inner score over all folds is what is recommended, and ``chosen.yaml`` holds its settings.

Because a fit's file is named after its settings, data, folds and version, and not after its candidate, candidates can
be added, renamed or removed later, and what is done is used again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from biopercept.data.splits import Fold
from biopercept.errors import SettingsError, TrainingError
from biopercept.evaluation.fold_fits import FoldResult, fit_fold, fit_together
from biopercept.evaluation.plan import EvaluationRequest, Plan, in_stacks, plan_evaluation
from biopercept.evaluation.runs import Keeper, RunFolder
from biopercept.files import only_writer
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.progress import steps
from biopercept.results.tuning import Tuning
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for
from biopercept.tuning.design import Candidate, Design, make_designs
from biopercept.tuning.ranking import NESTED_FOLDER, Nested, Selection, ensemble_result, inner_scores, ranked
from biopercept.tuning.writing import FILES, write_tuning

Fault = SettingsError | TrainingError
FitDone = Callable[[str, str, bool, int], None]
"""Called with ``(candidate, fold, was_done_before, n_fits)``."""


def tune(
    candidates: Sequence[Candidate],
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    overwrite: bool = False,
    on_fit: FitDone | None = None,
) -> Tuning:
    """Run or resume a selection and return what its ``tuning.json`` holds.

    Names of candidates are unique; more may be added in a later run into the same folder. ``n_jobs`` are fits at once,
    each in a process of its own, or what fits them elsewhere; results do not depend on it. ``overwrite`` removes an
    earlier run, its fits included, once it is sure that this one can begin. ``on_fit`` is called with ``(candidate,
    fold, was_done_before, n_fits)``: for the inner fits, then for the winners'.

    Raises SettingsError where there is nothing to choose from, candidates differ in subjects or task, no candidate
    could be fitted, or the folder holds something else or other folds. Raises StudyError where the task is unknown, or
    windows or subjects do not suffice. Raises BusyError where another process is writing there.
    """
    _require_candidates(candidates)
    stores: dict[object, StudyStore] = {}
    with ExitStack() as open_stores, only_writer(output):
        for request in (c.request for c in candidates if c.request is not None):
            engine_for(request.device)
            if request.store not in stores:
                stores[request.store] = open_stores.enter_context(open_store(request.store))
        designs = make_designs(candidates, stores)
        _begin(output, next(iter(designs.values())), overwrite=overwrite)
        selection = _select(candidates, designs, output, n_jobs, on_fit)
        return write_tuning(selection, output)


def _require_candidates(candidates: Sequence[Candidate]) -> None:
    names = [candidate.name for candidate in candidates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"candidate {twice[0]} is named twice; give each a name of its own")
    if not any(candidate.request for candidate in candidates):
        raise SettingsError("there is no candidate to fit; give --candidates FILE, or --trials N for random draws")


def _begin(output: Path, first: Design, *, overwrite: bool) -> None:
    """Write the outer folds, or check that those of an earlier run are the same."""
    folder = selection_folder(output)
    windows, request = first.windows, first.plan.request
    tests = [Fold(fold.name, (), (), fold.test) for fold in first.outer]  # training sides are each candidate's own
    identity = {"task": first.plan.task.name, "subjects": list(windows.subjects), "seed": request.seed}
    clear = partial(folder.clear, (*FILES, "chosen*.yaml"), (NESTED_FOLDER,)) if overwrite else None
    folder.begin(identity | {"folds": len(tests)}, tests, clear)


def _select(
    candidates: Sequence[Candidate],
    designs: dict[str, Design],
    output: Path,
    n_jobs: int | Executor,
    on_fit: FitDone | None,
) -> Selection:
    pairs = [(design, tuple(design.pairs.values())) for design in designs.values()]
    fits = fit_all(pairs, output, n_jobs=n_jobs, on_fit=on_fit)
    failures = dict(fits.failures)
    for candidate in candidates:
        failed = next((member for member in candidate.members if member in failures), None)
        if failed is not None:
            failures[candidate.name] = type(failures[failed])(f"its member {failed} could not be fitted")
    able = [c for c in candidates if c.name not in failures]
    if not able:
        name, why = next(iter(failures.items()))
        raise type(why)(f"no candidate could be fitted; {name}: {why}")
    inner = {c.name: inner_scores(c, designs, fits.results) for c in able}
    n_outer = len(next(iter(designs.values())).outer)
    winners = tuple(ranked(list(inner.values()), fold)[0].name for fold in range(n_outer))
    nested = _use_winners(winners, {c.name: c for c in able}, designs, output, n_jobs, on_fit)
    reasons = {name: str(why) for name, why in failures.items()}
    return Selection(tuple(candidates), designs, inner, reasons, winners, nested)


def _use_winners(
    winners: Sequence[str],
    candidates: dict[str, Candidate],
    designs: dict[str, Design],
    output: Path,
    n_jobs: int | Executor,
    on_fit: FitDone | None,
) -> Nested:
    """Fit each outer fold's winner, or its members, on the fold's training side and predict the test subjects once."""
    members = [candidates[name].members or (name,) for name in winners]
    wanted: dict[str, list[Fold]] = {}
    for fold, names in enumerate(members):
        for name in names:
            wanted.setdefault(name, []).append(designs[name].outer[fold])
    # One fold at a time even where networks could be stacked: the fit is then that of cross-validate, and does not
    # depend on what other folds chose.
    fits = fit_all(
        [(designs[name], folds) for name, folds in wanted.items()], output, n_jobs=n_jobs, on_fit=on_fit, is_single=True
    )
    if fits.failures:
        name, why = next(iter(fits.failures.items()))
        raise type(why)(f"candidate {name} was chosen and cannot be fitted on a whole training side: {why}")
    of_winners = [designs[names[0]] for names in members]
    results = [
        ensemble_result([fits.results[name, design.outer[fold].name] for name in names])
        for fold, (names, design) in enumerate(zip(members, of_winners, strict=True))
    ]
    return Nested(tuple(of_winners), tuple(results))


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
    return RunFolder(output, "selection", FoldResult, "outer-folds.json", "fits")


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
    with closing(plans), steps("inner fits", n_fits, done=len(results), is_kept=True) as done:
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
                    done.advance()
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
