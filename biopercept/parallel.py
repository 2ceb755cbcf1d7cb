"""Jobs run one after the other, in child processes, or by another executor such as a cluster.

A job in a child process that crashes, hangs or eats all memory costs itself and nothing else. Children are spawned, not
forked; each makes its context once, takes one job at a time, ignores Ctrl-C (the parent decides) and ends when its
parent dies. One that was stopped, or no longer uses any processor time, is given up, where the system tells (Linux).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from biopercept.errors import UnfinishedError
from biopercept.progress import Progress, Share, listening, notice, noticing, show_others

Request = TypeVar("Request")
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
_IDLE_SECONDS = 60.0
_REPORT_SECONDS = 0.5
"""A child reports how far it is no more often than this."""

LOOK_SECONDS, STOPPED_SECONDS, STILL_SECONDS = 5.0, 30.0, 600.0
"""A child at work is looked at so often; it is given up once it was stopped, or used no processor time, for so long."""

_waiting = ""
_is_child = False


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


def is_child() -> bool:
    """Return whether this process works for another one of ours, and may be ended for what it works on."""
    return _is_child


def become_child() -> None:
    """Let this process, which works for another one, be ended for what it works on."""
    global _is_child
    _is_child = True


def machine_memory() -> int:
    """Return nine tenths of the machine's memory, in bytes: what one process may use of it."""
    return int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@dataclass(frozen=True)
class Limits:
    """What one job may use: wall-clock time, not counting the start of its process, and memory of a child process.

    ``memory_bytes`` None takes nine tenths of the machine's.
    """

    seconds: float = 1800.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Lost:
    """What comes back for a job without a result: the reason, half a sentence, and what the work raised.

    ``fault`` is None where its process died or was stopped. ``is_with_worker``: what worked on it was lost, so that
    another may do it.
    """

    reason: str
    fault: Exception | None = field(default=None, compare=False)
    is_with_worker: bool = False


@dataclass(frozen=True)
class Work(Generic[Request, Context, Job, Result]):
    """What is done with each of many jobs; everything in it can be sent to another process.

    ``do(context, job)`` gives the result; ``open_context(request)`` makes the context, once in each process, None takes
    the request itself. Both are functions of a module. ``limits`` are kept for each job, and ``environment`` is set,
    where it runs in a child process of this machine: None and {} leave both to the executor.
    """

    do: Callable[[Context, Job], Result]
    open_context: Callable[[Request], Context] | None
    request: Request
    limits: Limits | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Executor(Protocol):
    """Where jobs run: anything with this method can stand in for child processes."""

    def run(self, work: Work[Any, Any, Job, Result], jobs: Sequence[Job]) -> Iterator[tuple[int, Result | Lost]]:
        """Yield the index of each job and its result, in any order; Lost where it has none."""
        ...


def run_jobs(
    work: Work[Request, Context, Job, Result], jobs: Sequence[Job], n_jobs: int | Executor, context: Context
) -> Iterator[tuple[Job, Result]]:
    """Give each job and its result as it is done; results do not depend on where.

    Jobs run in this process, in ``context``, where ``n_jobs`` is 1; otherwise each in a child process without a time
    limit, or in the executor. A job that is lost with its child process is done once more, after all others.

    Raises UnfinishedError: once all others are done, where jobs were lost with their process. Raises Exception: at
    once, what the work itself raised.
    """
    if isinstance(n_jobs, int) and (n_jobs == 1 or len(jobs) < 2):
        for job in jobs:
            yield job, work.do(context, job)
        return
    executor: Executor
    if isinstance(n_jobs, int):
        executor = Again(ChildProcesses(n_jobs, Limits(seconds=math.inf)), n_attempts=2)
    else:
        executor = n_jobs
    lost = dict.fromkeys(range(len(jobs)), "its executor gave nothing back")
    results = executor.run(work, jobs)
    try:
        for index, result in results:
            if not isinstance(result, Lost):
                del lost[index]
                yield jobs[index], result
            elif result.fault is not None:
                raise result.fault
            else:
                lost[index] = result.reason
    finally:
        if hasattr(results, "close"):  # children end now, and not when the generator is collected
            results.close()
    for index, reason in lost.items():
        raise UnfinishedError(
            f"{len(lost)} of {len(jobs)} jobs were not done, the first ({_title(jobs, index)}) because {reason}; run "
            "the same command again, perhaps with fewer --jobs (what was finished is kept)"
        )


def _title(jobs: Sequence[Any], index: int) -> str:
    return str(getattr(jobs[index], "name", f"number {index + 1}"))


@dataclass(frozen=True)
class ChildProcesses:
    """Jobs in at most ``n_processes`` child processes of this machine, with limits.

    ``environment`` are variables that are set while children start, such as :data:`ONE_THREAD`.
    """

    n_processes: int
    limits: Limits = field(default_factory=Limits)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, work: Work[Any, Any, Job, Result], jobs: Sequence[Job]) -> Generator[tuple[int, Result | Lost]]:
        """Yield the index of each job and its result, as they come."""
        from multiprocessing.connection import wait

        limits, environment = work.limits or self.limits, {**self.environment, **work.environment}
        waiting = deque(enumerate(jobs))
        children: list[_Child] = []
        try:
            while waiting or any(child.index is not None for child in children):
                while waiting and len(children) < min(self.n_processes, len(jobs)):
                    children.append(_Child(work, limits, environment))
                for child in children:
                    if child.index is None and waiting:
                        child.give(*waiting.popleft())
                busy = [child for child in children if child.index is not None]
                wait([child.connection for child in busy], timeout=min(child.pause for child in busy))
                for child in busy:
                    outcome = child.outcome()
                    shares = [other.share for other in children if other.index is not None]
                    show_others(shares, is_one_done=outcome is not None)
                    if outcome is not None:
                        yield outcome
                        if not child.is_alive:
                            children.remove(child)
            for child in children:
                child.dismiss()
        finally:
            for child in children:
                child.kill()


@dataclass(frozen=True)
class Again:
    """Jobs that were lost with their worker done again, by another executor, at most ``n_attempts`` times each."""

    executor: Executor
    n_attempts: int = 3

    def run(self, work: Work[Any, Any, Job, Result], jobs: Sequence[Job]) -> Generator[tuple[int, Result | Lost]]:
        """Yield the index of each job and its result, as they come; what is done again comes last."""
        left = [*range(len(jobs))]
        for attempt in range(1, self.n_attempts + 1):
            lost: list[int] = []
            results = self.executor.run(work, [jobs[index] for index in left])
            try:
                for place, outcome in results:
                    if not (isinstance(outcome, Lost) and outcome.is_with_worker):
                        yield left[place], outcome
                    elif attempt < self.n_attempts:
                        lost.append(left[place])
                        notice(f"{_title(jobs, left[place])} is done again after all others: {outcome.reason}")
                    else:
                        reason = f"{outcome.reason}, {self.n_attempts} times in all"
                        yield left[place], replace(outcome, reason=reason)
            finally:
                if hasattr(results, "close"):
                    results.close()
            if not lost:
                return
            left = lost


class WithinLimits:
    """Jobs one after the other in a child process of this one, which the limits of the work end; another follows it.

    It ends as well when it has had nothing to do for a minute.
    """

    def __init__(self, work: Work[Any, Any, Any, Any], limits: Limits) -> None:
        self._work, self._limits = work, limits
        self._child: _Child | None = None
        self._one_at_a_time = threading.Lock()
        self._idle = threading.Timer(0.0, self.end)

    def do(self, job: Any) -> Any:
        """Return the result of a job; Lost where it was ended: by its own fault, as this process goes on."""
        self._idle.cancel()
        with self._one_at_a_time:
            result = self._outcome_of(job)
        self._idle = threading.Timer(_IDLE_SECONDS, self.end)
        self._idle.daemon = True
        self._idle.start()
        return replace(result, is_with_worker=False) if isinstance(result, Lost) else result

    def _outcome_of(self, job: Any) -> Any:
        from multiprocessing.connection import wait

        if self._child is None or not self._child.is_alive:
            with _with_children_allowed():
                self._child = _Child(self._work, self._limits, self._work.environment)
        child = self._child
        child.give(0, job)
        while (outcome := child.outcome()) is None:
            wait([child.connection], timeout=child.pause)
        return outcome[1]

    def end(self) -> None:
        """End the child process."""
        self._idle.cancel()
        with self._one_at_a_time:
            if self._child is not None and self._child.is_alive:
                self._child.dismiss()
                self._child.kill()


@contextmanager
def _with_children_allowed() -> Iterator[None]:
    """Let this process start others although it is one that multiprocessing calls daemonic, as workers of Dask are.

    Our children end with their parent by themselves.
    """
    from multiprocessing import current_process

    settings = current_process()._config  # type: ignore[attr-defined]
    before = settings.pop("daemon", None)
    try:
        yield
    finally:
        if before is not None:
            settings["daemon"] = before


class _Child:
    """A process that waits for jobs."""

    def __init__(self, work: Work[Any, Any, Any, Any], limits: Limits, environment: Mapping[str, str]) -> None:
        from multiprocessing import get_context

        spawning = get_context("spawn")
        self.connection, inner = spawning.Pipe()
        memory = machine_memory() if limits.memory_bytes is None else limits.memory_bytes
        self._process = spawning.Process(target=_serve, args=(inner, work, memory), daemon=True)
        self._limits = limits
        self._has_worked = False
        self.index: int | None = None
        self.share = Share(0.0)
        self._deadline = 0.0
        self.is_alive = True
        with _environment(environment):
            self._process.start()
        inner.close()
        self._watch = _Watch(self._process.pid)

    def give(self, index: int, job: Any) -> None:
        """Hand over one job."""
        self.index, self.share = index, Share(0.0)
        self._deadline = time.monotonic() + self._limits.seconds + (0.0 if self._has_worked else _START_SECONDS)
        self._watch = _Watch(self._process.pid)
        with contextlib.suppress(OSError):  # it died already: outcome() says so
            self.connection.send(job)

    @property
    def pause(self) -> float:
        """Return for how many seconds nothing but a message can tell what became of the job."""
        return min(LOOK_SECONDS, max(0.0, self._deadline - time.monotonic()))

    def outcome(self) -> tuple[int, Any] | None:
        """Return what became of the job, or None while it is worked on."""
        index = self.index
        if index is None:
            return None
        if self.connection.poll():
            try:
                result = self.connection.recv()
            except (EOFError, OSError):
                return index, self._lost_because()
            if isinstance(result, Share):
                self.share = result
                return None
            if isinstance(result, _Notice):
                notice(result.sentence)
                return None
            self.index, self._has_worked = None, True
            return index, result
        if time.monotonic() >= self._deadline:
            self.kill()
            return index, Lost(f"it took longer than {self._limits.seconds:g} s and was stopped")
        if reason := self._watch.reason():
            self.kill()
            return index, Lost(f"the process that worked on it {reason} and was given up", is_with_worker=True)
        return None

    def _lost_because(self) -> Lost:
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        self.kill()
        if code in (-signal.SIGPROF, -signal.SIGALRM):
            return Lost("reading it took longer than files of its size may take")
        if code is not None and code < 0:
            return Lost(f"the process that worked on it was ended by signal {-code}", is_with_worker=True)
        return Lost(f"the process that worked on it ended with code {code}", is_with_worker=True)

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


class _Watch:
    """Whether a process goes on: for how long it was stopped, or used no processor time, while this one ran."""

    def __init__(self, process: int | None) -> None:
        self._process = process
        self._looked = time.monotonic()
        self._ticks = -1
        self._stopped = self._still = 0.0

    def reason(self) -> str:
        """Return why it is to be given up, as words that follow its name; empty where it is not, or nobody knows."""
        passed = time.monotonic() - self._looked
        if passed < LOOK_SECONDS:
            return ""
        self._looked += passed
        passed = min(passed, 2 * LOOK_SECONDS)  # longer where this process, and its children perhaps, was stopped
        state, ticks = _state_of(self._process)
        self._stopped = self._stopped + passed if state == "T" else 0.0
        self._still = self._still + passed if ticks == self._ticks >= 0 else 0.0
        self._ticks = ticks
        if self._stopped >= STOPPED_SECONDS:
            return f"was stopped for {self._stopped:.0f} s"
        return f"used no processor time for {self._still:.0f} s" if self._still >= STILL_SECONDS else ""


def _state_of(process: int | None) -> tuple[str, int]:
    """Return the state of a process by its letter, and the ticks of processor time that it used; "" and -1 unknown."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return "", -1


def _serve(connection: Any, work: Work[Any, Any, Any, Any], memory_bytes: int) -> None:
    """Do jobs until the parent has no more, in the child process."""
    import warnings

    become_child()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # third-party warnings; what matters comes back as notes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(memory_bytes)
    reporting, contexts = _Reporting(connection), list[Any]()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        if job is None:
            return
        with listening(reporting), noticing(reporting.notice):
            outcome = outcome_of(work, contexts, job, memory_bytes)
        connection.send(outcome)


def outcome_of(work: Work[Any, Any, Job, Result], contexts: list[Any], job: Job, memory_bytes: int) -> Result | Lost:
    """Return what comes of a job in this process, whatever it raises; the context is made where ``contexts`` is empty.

    ``memory_bytes`` is what the process may use, for the words where that is too little.
    """
    try:
        if not contexts:
            contexts.append(work.request if work.open_context is None else work.open_context(work.request))
        return work.do(contexts[0], job)
    except Exception as fault:
        is_memory = isinstance(fault, MemoryError) or "can't allocate memory" in str(fault)  # the latter is torch's
        limit = f"it needs more than the {memory_bytes / 1e9:.0f} GB of memory that a process may use"
        return Lost(limit) if is_memory else Lost(f"it met {type(fault).__name__}: {fault}", portable(fault))


class _Reporting:
    """Tells the parent now and then how far this process is with its job."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_SECONDS
            with contextlib.suppress(OSError):  # the parent died, and with it this process
                self._connection.send(progress.share)

    def notice(self, sentence: str) -> None:
        """Hand a sentence on to the parent."""
        with contextlib.suppress(OSError):
            self._connection.send(_Notice(sentence))


@dataclass(frozen=True)
class _Notice:
    """A sentence from a child for whoever waits."""

    sentence: str


def portable(fault: Exception) -> Exception:
    """Return a fault that can be made again in another process from its arguments, with its traceback as a note."""
    import traceback

    note = "".join(traceback.format_exception(fault))
    try:
        type(fault)(*fault.args)
    except Exception:
        fault = RuntimeError(f"{type(fault).__name__}: {fault}")
    fault.add_note(note)
    return fault


def _end_with_parent() -> None:
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _limit_memory(memory_bytes: int) -> None:
    """Limit what can be written to, not the address space, of which CUDA reserves more than there is memory."""
    import resource

    with contextlib.suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
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
