"""Jobs on other machines, by whatever has ``concurrent.futures``' submit: Dask, submitit; and the words of --cluster.

A worker does one job at a time, on one thread, in the folder in which the command was given: programs, files and
folders are those that all machines share. A worker of another version refuses.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.parallel import (
    Again,
    ChildProcesses,
    Executor,
    Job,
    Limits,
    Lost,
    Result,
    WithinLimits,
    Work,
    machine_memory,
    outcome_of,
)
from biopercept.version import __version__

_INSTALL = "pip install 'biopercept[cluster]'"
_CONNECT_SECONDS, _FIRST_WORKER_SECONDS = 15, 120
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_MINUTES = 240
"""How long SLURM lets a job run, where SBATCH_TIMELIMIT does not say."""


def executor_of(words: str, output: Path) -> Executor:
    """Return what runs jobs as ``--cluster`` says: local:N, dask://HOST:PORT or slurm.

    Beside ``output`` lies a folder of what SLURM writes while it works. Raises SettingsError where the words cannot be
    read, or what they need is not installed or does not answer.
    """
    if match := re.fullmatch(r"local:(\d{1,4})", words):
        if int(match[1]):
            return Again(ChildProcesses(int(match[1]), Limits(seconds=math.inf)))
    elif re.fullmatch(r"(dask|tcp|tls)://[^\s/]+:\d{1,5}", words):
        return Again(Futures(partial(dask_pool, re.sub(r"^dask", "tcp", words))))
    elif words == "slurm":
        return Again(Futures(partial(submitit_pool, output.absolute().with_name(f".{output.name}.jobs"), "slurm")))
    raise SettingsError(f"--cluster {words}: local:N, dask://HOST:PORT or slurm is needed")


@dataclass(frozen=True)
class Futures:
    """Jobs by a pool that gives a future for each; ``open_pool`` opens it, with ``submit(function, *arguments)``.

    Futures need ``done()``, ``result()`` and ``cancel()``. A pool that has ``batch()`` gets all jobs in one.
    """

    open_pool: Callable[[], AbstractContextManager[Any]]

    def run(self, work: Work[Any, Any, Job, Result], jobs: Sequence[Job]) -> Generator[tuple[int, Result | Lost]]:
        """Yield the index of each job and its result, as they come."""
        order = Order(work, uuid.uuid4().hex, str(Path.cwd()), __version__)
        with self.open_pool() as pool:
            futures: dict[int, Any] = {}
            try:
                with pool.batch() if hasattr(pool, "batch") else nullcontext():
                    for index, job in enumerate(jobs):
                        futures[index] = pool.submit(do_job, order, job)
                for index in _as_done(futures):
                    yield index, _outcome(futures.pop(index))
            finally:
                for future in futures.values():
                    with contextlib.suppress(Exception):  # whatever a pool raises over what has ended by itself
                        future.cancel()


def _as_done(futures: dict[int, Any]) -> Iterator[int]:
    """Give the index of each future once it is done; who takes it removes it."""
    pause = _SHORTEST_PAUSE
    while futures:
        done = [index for index, future in futures.items() if future.done()]
        yield from done
        pause = _SHORTEST_PAUSE if done else min(2 * pause, _LONGEST_PAUSE)
        if not done:
            time.sleep(pause)


def _outcome(future: Any) -> Any:
    """Return the result of a future that is done, or that its worker was lost: what a job raises comes as a result."""
    try:
        return future.result()
    except (Exception, CancelledError) as fault:
        kind = type(fault).__name__
        if kind == "KilledWorker":  # of Dask, which has done it again itself
            return Lost("each worker that was given it was lost, several times in all")
        words = " ".join(str(fault).split())[:200]
        return Lost(f"the worker that did it was lost ({kind}{': ' if words else ''}{words})", is_with_worker=True)


@dataclass(frozen=True)
class Order:
    """What a worker is sent with each job: the work, a name for it, and where and by which version it was ordered."""

    work: Work[Any, Any, Any, Any]
    name: str
    folder: str
    version: str


_ONE_AT_A_TIME = threading.Lock()
_CONTEXTS: dict[str, list[Any]] = {}
_APART: dict[str, WithinLimits] = {}


def do_job(order: Order, job: Any) -> Any:
    """Return what comes of a job, in a worker; the context is kept for further jobs of the same work.

    Work with limits is done in a child process of the worker.
    """
    from threadpoolctl import threadpool_limits

    if order.version != __version__:
        return Lost(f"its worker has biopercept {__version__} and not {order.version}; install the same everywhere")
    with _ONE_AT_A_TIME:  # workers of Dask have several threads, and what is counted and limited is the process's
        if order.name not in _CONTEXTS:
            _CONTEXTS.clear()
            _end_apart()
        contexts = _CONTEXTS.setdefault(order.name, [])
        try:
            with contextlib.chdir(order.folder), threadpool_limits(1):
                if order.work.limits is not None:
                    return _apart(order, order.work.limits).do(job)
                return outcome_of(order.work, contexts, job, machine_memory())
        except OSError as fault:
            return Lost(f"its worker cannot work in {order.folder} ({fault.strerror}), which all machines must share")


def _apart(order: Order, limits: Limits) -> WithinLimits:
    """Return what does the jobs of an order in a child process."""
    if order.name not in _APART:
        _APART[order.name] = WithinLimits(order.work, limits)
    return _APART[order.name]


def _end_apart() -> None:
    for name in (*_APART,):
        _APART.pop(name).end()


@contextmanager
def dask_pool(address: str) -> Iterator[Any]:
    """Give the pool of a Dask scheduler. Raises SettingsError where it does not answer, or no worker comes."""
    try:
        from distributed import Client
    except ImportError as fault:
        raise SettingsError(f"--cluster {address} needs Dask: {_INSTALL}") from fault
    try:
        client: Any = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as fault:
        raise SettingsError(f"no Dask scheduler answers at {address} within {_CONNECT_SECONDS} s") from fault
    logging.getLogger("distributed.client").setLevel(logging.ERROR)  # that a lost result is made again is no news
    with client:
        try:
            client.wait_for_workers(1, timeout=_FIRST_WORKER_SECONDS)
        except OSError as fault:
            raise SettingsError(
                f"the Dask scheduler at {address} has had no worker for {_FIRST_WORKER_SECONDS} s; start some with: "
                f"dask worker {address} --nthreads 1"
            ) from fault
        pool = client.get_executor(pure=False)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False)


@contextmanager
def submitit_pool(folder: Path, kind: str) -> Iterator[Any]:
    """Give the pool of submitit that makes a job of SLURM of each job; ``kind`` "local" runs them on this machine.

    Scripts and logs lie in ``folder``, which goes when all has gone well. Partition, memory and the like are those of
    the environment (SBATCH_PARTITION, ...), which sbatch reads. Raises SettingsError where SLURM is not there.
    """
    try:
        import submitit
    except ImportError as fault:
        raise SettingsError(f"--cluster slurm needs submitit: {_INSTALL}") from fault
    if kind == "slurm" and shutil.which("sbatch") is None:
        raise SettingsError("--cluster slurm: there is no sbatch here; give the command where jobs are submitted")
    pool = submitit.AutoExecutor(folder=folder, cluster=kind)
    pool.update_parameters(name="biopercept", timeout_min=_MINUTES)
    yield pool
    shutil.rmtree(folder, ignore_errors=True)
