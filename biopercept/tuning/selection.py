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
from biopercept.files import only_writer, write_json
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.progress import steps
from biopercept.results.tuning import Tuning
from biopercept.sharing import Sharing, Units, joining
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for
from biopercept.tuning.design import Candidate, Design, make_designs
from biopercept.tuning.ranking import NESTED_FOLDER, Nested, Selection, ensemble_result, inner_scores, ranked
from biopercept.tuning.writing import FILES, write_tuning

Fault = SettingsError | TrainingError
FitDone = Callable[[str, str, bool, int], None]
"""Called with ``(candidate, fold, was_done_before, n_fits)``."""

_FAILED = ".failed.json"

Wanted = Sequence[tuple[Design, Sequence[Fold]]]
FitWinners = Callable[[Wanted], "Fits"]


def tune(
    candidates: Sequence[Candidate],
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    overwrite: bool = False,
    sharing: Sharing | None = None,
    on_fit: FitDone | None = None,
) -> Tuning:
    """Run or resume a selection and return what its ``tuning.json`` holds.

    Names of candidates are unique; more may be added in a later run into the same folder. ``n_jobs`` are fits at once,
    each in a process of its own, or what fits them elsewhere; results do not depend on it. ``overwrite`` removes an
    earlier run, its fits included, once it is sure that this one can begin. ``on_fit`` is called with ``(candidate,
    fold, was_done_before, n_fits)``: for the inner fits, then for the winners'. With ``sharing`` the inner fits of one
    part are done; who joins them fits the winners.

    Raises SettingsError where there is nothing to choose from, candidates differ in subjects or task, no candidate
    could be fitted, or the folder holds something else or other folds. Raises StudyError where the task is unknown, or
    windows or subjects do not suffice. Raises BusyError where another process is writing there. Raises UnfinishedError
    where inner fits are missing that other processes do.
    """
    _require_candidates(candidates)
    stores: dict[object, StudyStore] = {}
    with ExitStack() as open_stores, only_writer(output, is_shared=sharing is not None):
        for request in (c.request for c in candidates if c.request is not None):
            engine_for(request.device)
            if request.store not in stores:
                stores[request.store] = open_stores.enter_context(open_store(request.store))
        designs = make_designs(candidates, stores)
        _begin(output, next(iter(designs.values())), overwrite=overwrite)
        pairs = [(design, tuple(design.pairs.values())) for design in designs.values()]
        inner = fit_all(pairs, output, n_jobs=n_jobs, on_fit=on_fit, sharing=sharing)
        with joining(sharing, output):
            selection = _select(candidates, designs, inner, partial(_fit_winners, output, n_jobs, on_fit))
            result = write_tuning(selection, output)
            for failure in selection_folder(output).file("").parent.glob(f"*{_FAILED}"):
                failure.unlink()  # it is in the result, and a later run tries again
            return result


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
    candidates: Sequence[Candidate], designs: dict[str, Design], fits: Fits, fit_winners: FitWinners
) -> Selection:
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
    nested = _use_winners(winners, {c.name: c for c in able}, designs, fit_winners)
    reasons = {name: str(why) for name, why in failures.items()}
    return Selection(tuple(candidates), designs, inner, reasons, winners, nested)


def _use_winners(
    winners: Sequence[str],
    candidates: dict[str, Candidate],
    designs: dict[str, Design],
    fit_winners: FitWinners,
) -> Nested:
    """Fit each outer fold's winner, or its members, on the fold's training side and predict the test subjects once."""
    members = [candidates[name].members or (name,) for name in winners]
    wanted: dict[str, list[Fold]] = {}
    for fold, names in enumerate(members):
        for name in names:
            wanted.setdefault(name, []).append(designs[name].outer[fold])
    fits = fit_winners([(designs[name], folds) for name, folds in wanted.items()])
    if fits.failures:
        name, why = next(iter(fits.failures.items()))
        raise type(why)(f"candidate {name} was chosen and cannot be fitted on a whole training side: {why}")
    of_winners = [designs[names[0]] for names in members]
    results = [
        ensemble_result([fits.results[name, design.outer[fold].name] for name in names])
        for fold, (names, design) in enumerate(zip(members, of_winners, strict=True))
    ]
    return Nested(tuple(of_winners), tuple(results))


def _fit_winners(output: Path, n_jobs: int | Executor, on_fit: FitDone | None, wanted: Wanted) -> Fits:
    """Return the fits of folds one at a time, even where networks could be stacked.

    They are then those of cross-validate, and do not depend on what other folds chose.
    """
    return fit_all(wanted, output, n_jobs=n_jobs, on_fit=on_fit, is_single=True)


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
    wanted: Wanted,
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    is_single: bool = False,
    on_fit: FitDone | None = None,
    sharing: Sharing | None = None,
) -> Fits:
    """Return the results of folds of each design: earlier ones from their files, the others fitted now.

    ``n_jobs`` are fits at once, each in a process of its own, or what fits them elsewhere; results do not depend on it.
    ``is_single``: never stack networks. With ``sharing`` only the stacks of one part are fitted.

    Raises SettingsError where a process was lost; finished fits are kept. Raises UnfinishedError where stacks of other
    parts are missing.
    """
    report = on_fit or (lambda candidate, fold, was_done, n: None)
    fits = _KeptFits(output, wanted, is_single=is_single, is_shared=sharing is not None)
    for name, fold in fits.results:
        report(name, fold, True, fits.n_fits)
    with (
        Units(sharing, output, fits.titles, fits.is_done, "inner fits") as shared,
        closing(Plans()) as plans,
        steps("inner fits", fits.n_fits, done=len(fits.results), is_kept=True) as done,
    ):
        for names in shared.rounds():
            stacks = {fits.stacks[name]: name for name in names}
            for stack, outcome in run_jobs(Work(_fit, _no_plans, None), list(stacks), n_jobs, plans):
                for candidate, fold in fits.keep(stacks[stack], outcome):
                    done.advance()
                    report(candidate, fold, False, fits.n_fits)
                shared.done(stacks[stack])
        shared.require_all()
    fits.read_others()
    return Fits(fits.results, fits.failures)


class _KeptFits:
    """The fits that are wanted, by name, and the files that keep them; candidates of equal settings share fits.

    Why settings cannot be fitted is kept where the work is shared, until it is joined: who joins it must know.
    """

    def __init__(self, output: Path, wanted: Wanted, *, is_single: bool, is_shared: bool) -> None:
        self._folder = selection_folder(output)
        self._keeper = Keeper(self._folder)
        self._is_shared = is_shared
        self._failed: set[str] = set()
        self.n_fits = sum(len(folds) for _, folds in wanted)
        self.stacks: dict[str, Stack] = {}
        self._designs: dict[str, list[Design]] = {}
        for design, folds in wanted:
            size = 0 if is_single else design.plan.stack_size
            for stack in in_stacks(folds, size, design.plan.request.evaluation):
                name = _fit_name(design, stack, stack[0])
                self.stacks[name] = Stack(design.plan.request, stack)
                self._designs.setdefault(name, []).append(design)
        self.results: dict[tuple[str, str], FoldResult] = {}
        self.failures: dict[str, Fault] = {}
        for name in self.stacks:
            self._read(name)

    @property
    def titles(self) -> dict[str, str]:
        """Return what messages call each stack."""
        return {name: f"{self._designs[name][0].candidate.name} without {s.name}" for name, s in self.stacks.items()}

    def is_done(self, name: str) -> bool:
        """Return whether all results of a stack are kept, or it is known why there are none."""
        first, stack = self._designs[name][0], self.stacks[name].folds
        files = [self._folder.file(_fit_name(first, stack, fold)) for fold in stack]
        is_failed = name in self._failed or (self._is_shared and self._failure_file(name).is_file())
        return is_failed or (all(file.is_file() for file in files) and self._read(name))

    def keep(self, name: str, outcome: list[FoldResult] | Fault) -> list[tuple[str, str]]:
        """Keep what became of a stack and return candidate and fold of each fit that it has given."""
        designs, stack = self._designs[name], self.stacks[name].folds
        if isinstance(outcome, SettingsError | TrainingError):
            self._note_failure(name, outcome)
            if self._is_shared:
                write_json(self._failure_file(name), {"error": type(outcome).__name__, "message": str(outcome)})
            return []
        for fold, result in zip(stack, outcome, strict=True):
            file_name = _fit_name(designs[0], stack, fold)
            kept = self._keeper.keep(file_name, fold, result, candidate=designs[-1].candidate.name)
            self.results |= {(design.candidate.name, fold.name): kept for design in designs}
        return [(design.candidate.name, fold.name) for fold in stack for design in designs]

    def read_others(self) -> None:
        """Read what other processes have kept."""
        for name in self.stacks:
            if name not in self._failed and not self._read(name):
                self._note_failure(name, self._read_failure(name))

    def _read(self, name: str) -> bool:
        """Read a stack's results, where all of them are there."""
        designs, stack = self._designs[name], self.stacks[name].folds
        if all((design.candidate.name, fold.name) in self.results for design in designs for fold in stack):
            return True
        kept = [(fold, self._folder.find(_fit_name(designs[0], stack, fold), fold)) for fold in stack]
        results = {fold.name: result for fold, result in kept if result is not None}
        if len(results) < len(stack):
            return False
        self.results |= {(d.candidate.name, fold): result for d in designs for fold, result in results.items()}
        return True

    def _note_failure(self, name: str, fault: Fault) -> None:
        self._failed.add(name)
        for design in self._designs[name]:
            self.failures.setdefault(design.candidate.name, fault)

    def _failure_file(self, name: str) -> Path:
        return self._folder.file(name).with_suffix(_FAILED)

    def _read_failure(self, name: str) -> Fault:
        try:
            document = json.loads(self._failure_file(name).read_text(encoding="utf-8"))
            kind = TrainingError if document["error"] == TrainingError.__name__ else SettingsError
            return kind(document["message"])
        except (OSError, ValueError, LookupError, TypeError) as fault:
            raise SettingsError(
                f"{self._failure_file(name)} is damaged; delete it and run the same part again"
            ) from fault


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
