"""Jobs on workers: a real Dask scheduler on loopback, submitit, any pool of futures; workers that are lost."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from child_work import DYING_ONCE, WORK, numbered_process

from biopercept import cluster
from biopercept.cluster import Futures, Order, do_job, executor_of, submitit_pool
from biopercept.errors import SettingsError, TrainingError, UnfinishedError
from biopercept.parallel import Again, ChildProcesses, Limits, Lost, Work, run_jobs
from biopercept.progress import noticing

needs_dask = pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="distributed is not installed")
needs_submitit = pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="submitit is not installed")
ADDRESS = "--host 127.0.0.1 --no-dashboard"


@contextmanager
def threads() -> Iterator[Any]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def dask() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two worker processes of one thread: the scheduler's address and the workers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    address = f"tcp://127.0.0.1:{port}"
    lines = [
        f"distributed.cli.dask_scheduler --port {port} {ADDRESS}",
        *[f"distributed.cli.dask_worker {address} --nthreads 1 --no-nanny --death-timeout 60 {ADDRESS}"] * 2,
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    started = [subprocess.Popen([sys.executable, "-m", *line.split()], **quiet) for line in lines]  # type: ignore[call-overload]
    try:
        yield address.replace("tcp", "dask"), started[1:]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def wait_until_busy(process: subprocess.Popen[bytes]) -> None:
    """Wait until a worker has begun a job of ours, for which it loads the network's library."""
    until = time.monotonic() + 120
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text() and time.monotonic() < until:
        time.sleep(0.02)


@needs_dask
def test_a_worker_of_dask_that_is_killed_costs_nothing(
    dask: tuple[str, list[subprocess.Popen[bytes]]], made: ModuleType, tmp_path: Path
) -> None:
    address, workers = dask
    store = made.store(tmp_path / "made.h5", made.study(6))
    words = f"cross-validate {store} -o scores --model logistic --split subject --seeds 1 --json -q"
    command = [sys.executable, "-m", "biopercept.cli", *words.split()]
    results = {}
    for name, more in (("alone", []), ("dask", ["--cluster", address])):
        (tmp_path / name).mkdir()
        with subprocess.Popen([*command, *more], cwd=tmp_path / name, stdout=-1, stderr=-1, text=True) as running:
            if more:
                wait_until_busy(workers[0])
                workers[0].kill()
            _, errors = running.communicate()
        assert (running.returncode, errors) == (0, "")
        folder = tmp_path / name / "scores"
        results[name] = [
            (folder / file).read_bytes() for file in ("predictions.csv", "scores.csv", "folds.json", "command.json")
        ]
    assert results["dask"] == results["alone"]


@needs_dask
def test_what_kills_every_worker_of_dask_is_given_up(
    dask: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    executor = executor_of(dask[0], tmp_path / "out")
    jobs = [tmp_path / "a.once", tmp_path / "b", tmp_path / "c"]
    for path in jobs[1:]:
        path.touch()
    assert dict(run_jobs(DYING_ONCE, jobs, executor, None)) == {path: path.name for path in jobs}
    assert sum(worker.poll() is not None for worker in dask[1]) == 1


@needs_dask
def test_without_a_scheduler_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    executor = executor_of("dask://127.0.0.1:1", tmp_path / "out")
    with pytest.raises(SettingsError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:1 within 0\.5 s$"):
        dict(run_jobs(WORK, ["1"], executor, [10]))


@pytest.mark.parametrize(
    ("words", "module", "library"), [("dask://a:1", "distributed", "Dask"), ("slurm", "submitit", "submitit")]
)
def test_what_is_not_installed_is_named(
    words: str, module: str, library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"needs {library}: pip install 'biopercept\[cluster\]'$"):
        dict(run_jobs(WORK, ["1"], executor_of(words, tmp_path / "out"), [10]))


@needs_submitit
def test_jobs_of_submitit_and_its_folder_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    executor = Futures(partial(submitit_pool, tmp_path / "jobs", "local"))
    assert dict(run_jobs(WORK, ["1", "2"], executor, [10])) == {"1": 10, "2": 20}
    assert not (tmp_path / "jobs").exists()


SBATCH = """
import os, re, subprocess, sys
text = open(sys.argv[-1]).read()
for task in range(int(re.search(r"--array=0-(\\d+)", text)[1]) + 1):
    values = {"JOB_ID": f"{70 + task}", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": f"{task}", "NTASKS": "1"}
    values |= {"JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0", "JOB_NODELIST": "here"}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in values.items()}}
    quiet = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
    subprocess.Popen(["bash", sys.argv[-1]], env=environment, start_new_session=True, **quiet)
print("Submitted batch job 7")
"""
SRUN = """
import os, sys
words = sys.argv[1:]
command = words[next(i for i, word in enumerate(words) if "python" in os.path.basename(word)) :]
os.execv(command[0], command)
"""
SACCT = "print('JobID|State|NodeList\\n7_0|RUNNING|here\\n7_1|RUNNING|here')"


@needs_submitit
def test_jobs_of_slurm_are_one_array_submitted_by_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, program in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "")):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{program}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    executor = executor_of("slurm", tmp_path / "out" / "scores")
    assert dict(run_jobs(WORK, ["1", "2"], executor, [10])) == {"1": 10, "2": 20}
    assert not list((tmp_path / "out").iterdir())


@needs_submitit
def test_without_sbatch_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"^--cluster slurm: there is no sbatch here; give the command where jobs"):
        dict(run_jobs(WORK, ["1"], executor_of("slurm", tmp_path / "out"), [10]))


@pytest.mark.parametrize("words", ["local:0", "local:", "local", "dask://host", "slurm:4", "ray://a:1", ""])
def test_words_that_name_no_cluster_are_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^--cluster {words}: local:N, dask://HOST:PORT or slurm is needed$"):
        executor_of(words, tmp_path / "out")


def test_any_pool_of_futures_does_and_what_the_work_raises_comes_as_it_is() -> None:
    assert dict(run_jobs(WORK, ["1", "2", "3"], Futures(threads), [10])) == {"1": 10, "2": 20, "3": 30}
    with pytest.raises(TrainingError, match=r"^the loss is not finite"):
        dict(run_jobs(WORK, ["1", "not finite"], Futures(threads), [10]))


def test_a_job_lost_with_its_worker_is_done_again_and_not_for_ever(tmp_path: Path) -> None:
    executor = executor_of("local:2", tmp_path / "out")
    jobs = [tmp_path / "a.once", tmp_path / "b.once"]
    told: list[str] = []
    with noticing(told.append):
        assert dict(run_jobs(DYING_ONCE, jobs, executor, None)) == {path: path.name for path in jobs}
        outcomes = dict(
            Again(ChildProcesses(2), n_attempts=2).run(DYING_ONCE, [tmp_path / "a.always", tmp_path / "b.once"])
        )
    lost = "is done again after all others: the process that worked on it was ended by signal 9"
    assert sorted(told) == [f"{name} {lost}" for name in ("a.always", "a.once", "b.once")]
    assert outcomes == {
        0: Lost("the process that worked on it was ended by signal 9, 2 times in all", is_with_worker=True),
        1: "b.once",
    }


class Lossy:
    """A pool whose first workers are lost, by an exception that its library would raise."""

    def __init__(self, n_lost: int, kind: str) -> None:
        self.n_lost, self.kind, self.n_submitted = n_lost, kind, 0

    @contextmanager
    def opened(self) -> Iterator[Lossy]:
        yield self

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.n_submitted += 1
        if self.n_submitted > self.n_lost:
            future.set_result(function(*arguments))
        else:
            future.set_exception(type(self.kind, (Exception,), {})("gone"))
        return future


def test_futures_that_fail_are_lost_workers_and_dask_does_not_do_them_again() -> None:
    pool = Lossy(2, "BrokenProcessPool")
    with noticing([].append):
        assert dict(run_jobs(WORK, ["1", "2"], Again(Futures(pool.opened)), [10])) == {"1": 10, "2": 20}
    assert pool.n_submitted == 4
    sentence = (
        r"because the worker that did it was lost \(BrokenProcessPool: gone\), 3 times in all; run the same command"
    )
    with noticing([].append), pytest.raises(UnfinishedError, match=sentence):
        dict(run_jobs(WORK, ["1"], Again(Futures(Lossy(9, "BrokenProcessPool").opened)), [10]))
    pool = Lossy(9, "KilledWorker")
    with pytest.raises(UnfinishedError, match="because each worker that was given it was lost"):
        dict(run_jobs(WORK, ["1"], Again(Futures(pool.opened)), [10]))
    assert pool.n_submitted == 1


@needs_dask
def test_a_recording_that_kills_its_process_costs_no_worker_of_dask(
    dask: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = dask
    work = replace(WORK, limits=Limits())
    assert dict(executor_of(address, tmp_path / "out").run(work, ["1", "die", "2"])) == {
        0: 10,
        1: Lost("the process that worked on it was ended by signal 9"),
        2: 20,
    }
    assert [worker.poll() for worker in workers] == [None, None]


def test_jobs_with_limits_are_done_in_one_process_apart_and_a_lost_one_is_followed_by_another(tmp_path: Path) -> None:
    work = Work(numbered_process, None, None, Limits(seconds=3.0))
    order = Order(work, "limited", str(tmp_path), cluster.__version__)
    daemon = importlib.import_module("multiprocessing").current_process()
    daemon._config["daemon"] = True
    try:
        first, second = do_job(order, 0.0), do_job(order, 0.0)
        assert daemon._config["daemon"]
    finally:
        daemon._config["daemon"] = False
    assert first == second != os.getpid()
    assert do_job(order, 600.0) == Lost("it took longer than 3 s and was stopped")
    assert do_job(order, -1.0) == Lost("the process that worked on it was ended by signal 9")
    third = do_job(order, 0.0)
    assert third not in (first, os.getpid())
    do_job(Order(WORK, "another", str(tmp_path), cluster.__version__), "1")
    with pytest.raises(ProcessLookupError):
        os.kill(third, 0)


def test_a_worker_works_where_the_command_was_given_and_refuses_another_version(tmp_path: Path) -> None:
    order = Order(WORK, "a name", str(tmp_path), "0.0.1")
    assert do_job(order, "1") == Lost(
        f"its worker has biopercept {cluster.__version__} and not 0.0.1; install the same everywhere"
    )
    order = replace(order, version=cluster.__version__, folder=str(tmp_path / "absent"))
    reason = (
        f"its worker cannot work in {tmp_path / 'absent'} (No such file or directory), which all machines must share"
    )
    assert do_job(order, "1") == Lost(reason)
