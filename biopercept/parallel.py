"""Jobs in child processes, so that one that crashes, hangs or eats all memory costs itself and nothing else.

Children are spawned, not forked; each has one thread for numerical libraries, takes one job at a time, ignores
Ctrl-C (the parent decides) and ends when its parent dies. Folds have a pool of their own, :func:`each_fold`, whose
processes make the plan once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from biopercept.errors import SettingsError

Context = TypeVar("Context")
Job = TypeVar("Job")
Result = TypeVar("Result")

_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
ONE_THREAD = dict.fromkeys(_THREAD_COUNTS, "1")
"""Environment under which a numerical library uses one thread, and so gives the same sums everywhere."""

_START_SECONDS = 120.0
_END_SECONDS = 5.0

_waiting = ""
Plan = TypeVar("Plan")
Request = TypeVar("Request")
Work = TypeVar("Work")


def wait_passively() -> str:
    """Let idle threads of numerical libraries sleep rather than spin, and return what is in force and who set it.

    Spinning threads take the processor from whatever else runs on the machine, other fits of ``--jobs`` included. The
    policy is read once, when OpenMP is loaded, so it must be set before torch is.
    """
    global _waiting
    if _waiting:
        return _waiting
    policy = os.environ.get("OMP_WAIT_POLICY")
    if policy is not None:
        _waiting = f"{policy}, as OMP_WAIT_POLICY was set before biopercept was started"
    elif "torch" in sys.modules:
        _waiting = "as OpenMP chose; torch was loaded before biopercept, so passive waiting could no longer be set"
    else:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        _waiting = "passive, the default of biopercept; set OMP_WAIT_POLICY to change it"
    return _waiting


@dataclass(frozen=True)
class Limits:
    """What one job may use.

    Attributes
    ----------
    seconds : float
        Wall-clock time of one job, not counting the start of its process.
    memory_bytes : int or None
        Address space of a child process; None takes nine tenths of the machine's memory.
    """

    seconds: float = 1800.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Lost:
    """What comes back for a job whose process died or was stopped.

    Attributes
    ----------
    reason : str
        Half a sentence: "the process that read it was killed (signal 9)".
    """

    reason: str


def run_in_children(
    work: Callable[[Context, Job], Result],
    context: Context,
    jobs: Sequence[Job],
    *,
    n_processes: int,
    limits: Limits,
) -> Iterator[tuple[int, Result | Lost]]:
    """Yield the index of each job and its result, as they come.

    Parameters
    ----------
    work : callable
        A function of a module, ``work(context, job)``. It raises nothing that matters: an exception is a result.
    context : object
        Handed to every process once.
    n_processes : int
        How many run at a time.

    Yields
    ------
    result : what ``work`` returned, or Lost
        Lost where the process died, ran out of time, or ``work`` raised.
    """
    from multiprocessing.connection import wait

    waiting = deque(enumerate(jobs))
    children: list[_Child] = []
    try:
        while waiting or any(child.index is not None for child in children):
            while waiting and len(children) < n_processes:
                children.append(_Child(work, context, limits))
            for child in children:
                if child.index is None and waiting:
                    child.give(*waiting.popleft())
            busy = [child for child in children if child.index is not None]
            pause = max(0.0, min(child.deadline for child in busy) - time.monotonic())
            wait([child.connection for child in busy], timeout=pause)
            for child in busy:
                answer = child.answer()
                if answer is not None:
                    yield answer
                    if not child.is_alive:
                        children.remove(child)
        for child in children:
            child.dismiss()
    finally:
        for child in children:
            child.kill()


class _Child:
    """A process that waits for jobs."""

    def __init__(self, work: Callable[[Any, Any], Any], context: Any, limits: Limits) -> None:
        from multiprocessing import get_context

        spawning = get_context("spawn")
        self.connection, inner = spawning.Pipe()
        memory = _memory_limit(limits)
        self._process = spawning.Process(target=_serve, args=(inner, work, context, memory), daemon=True)
        self._limits = limits
        self._has_answered = False
        self.index: int | None = None
        self.deadline = 0.0
        self.is_alive = True
        with _environment(ONE_THREAD):
            self._process.start()
        inner.close()

    def give(self, index: int, job: Any) -> None:
        """Hand over one job."""
        self.index = index
        self.deadline = time.monotonic() + self._limits.seconds + (0.0 if self._has_answered else _START_SECONDS)
        with contextlib.suppress(OSError):  # it died already: answer() says so
            self.connection.send(job)

    def answer(self) -> tuple[int, Any] | None:
        """Return what became of the job, or None while it is worked on."""
        index = self.index
        if index is None:
            return None
        if self.connection.poll():
            try:
                result = self.connection.recv()
            except (EOFError, OSError):
                return index, self._lost_because()
            self.index, self._has_answered = None, True
            return index, result
        if time.monotonic() >= self.deadline:
            self.kill()
            return index, Lost(f"it took longer than {self._limits.seconds:g} s and was stopped")
        return None

    def _lost_because(self) -> Lost:
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        self.kill()
        if code is not None and code < 0:
            return Lost(f"the process that worked on it was ended by signal {-code}")
        return Lost(f"the process that worked on it ended with code {code}")

    def dismiss(self) -> None:
        """Let the process end by itself."""
        with contextlib.suppress(OSError):
            self.connection.send(None)
        self._process.join(_END_SECONDS)

    def kill(self) -> None:
        """End the process now."""
        self.is_alive = False
        self.index = None
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Any, work: Callable[[Any, Any], Any], context: Any, memory_bytes: int) -> None:
    """Answer jobs until the parent has no more, in the child process."""
    import signal
    import threading
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # third-party warnings; what matters comes back as notes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(memory_bytes)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        if job is None:
            return
        try:
            result = work(context, job)
        except MemoryError:
            result = Lost(f"it needs more than the {memory_bytes / 1e9:.0f} GB of memory that a process may use")
        except Exception as fault:
            result = Lost(f"it met {type(fault).__name__}: {fault}")
        connection.send(result)


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _memory_limit(limits: Limits) -> int:
    if limits.memory_bytes is not None:
        return limits.memory_bytes
    return int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _limit_memory(memory_bytes: int) -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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
