"""Folds in worker processes: each process makes the plan once and fits one fold at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from biopercept.errors import SettingsError

Plan = TypeVar("Plan")
Request = TypeVar("Request")
Result = TypeVar("Result")
Work = TypeVar("Work")


def each_fold(
    folds: Sequence[Work],
    n_jobs: int,
    fit: Callable[[Plan, Work], Result],
    *,
    plan: Plan,
    make_plan: Callable[[Request], Plan],
    request: Request,
) -> Iterator[tuple[Work, Result]]:
    """Give each fold's result as it is done.

    Parameters
    ----------
    folds : sequence of Fold
        Or of any other work that a process can be given, such as stacks of folds.
    n_jobs : int
        Folds fitted at once, each in a process of its own; results do not depend on it.
    fit : callable
        Gives a fold's result from the plan; a function of a module, so that processes can be given it.
    plan : Plan
        For folds that are fitted in this process.
    make_plan : callable
        Makes the same plan of ``request`` in a worker process; a function of a module.
    request : Request
        What ``make_plan`` is given.

    Raises
    ------
    SettingsError
        Where a worker process was killed.
    """
    if n_jobs == 1 or len(folds) < 2:
        for fold in folds:
            yield fold, fit(plan, fold)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    with ProcessPoolExecutor(
        min(n_jobs, len(folds)),
        mp_context=get_context("spawn"),
        initializer=_open_worker,
        initargs=(make_plan, request),
    ) as pool:
        waiting = {pool.submit(_fit_in_worker, fit, fold): fold for fold in folds}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool as fault:
            raise SettingsError(
                "a worker process ended before its fold was done, perhaps for want of memory; run the same command "
                "again with fewer --jobs (finished folds are kept)"
            ) from fault
        except BaseException:
            for worker in active_children():  # the pool itself would wait for the folds that have begun
                worker.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker_plan: Any = None


def _open_worker(make_plan: Callable[[Any], Any], request: Any) -> None:
    """Make the plan once per worker process; it is the same in each."""
    global _worker_plan
    _worker_plan = make_plan(request)


def _fit_in_worker(fit: Callable[[Any, Work], Result], fold: Work) -> Result:
    if _worker_plan is None:
        raise RuntimeError("the worker process was not opened")
    return fit(_worker_plan, fold)
