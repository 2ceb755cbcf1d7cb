"""Jobs in this process, in child processes, or by another executor: equal results, and nothing lost in silence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from child_work import DYING_ONCE, EATING, HALVES, WORK

from biopercept.errors import TrainingError, UnfinishedError
from biopercept.evaluation.cross_validation import cross_validate
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.parallel import ChildProcesses, Limits, Lost, Work, run_jobs
from biopercept.progress import listening, noticing, steps


class InLine:
    """An executor that does every job at once where it is asked, with a context of its own, the last job first."""

    def __init__(self) -> None:
        self.jobs: list[object] = []

    def run(self, work: Work[Any, Any, Any, Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        context = work.request if work.open_context is None else work.open_context(work.request)
        for index in reversed(range(len(jobs))):
            self.jobs.append(jobs[index])
            yield index, work.do(context, jobs[index])


class Failing(InLine):
    """An executor that loses the first job, and forgets the second where there are three."""

    def run(self, work: Work[Any, Any, Any, Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, result in super().run(work, jobs):
            if index == 0:
                yield index, Lost("the node was taken away")
            elif len(jobs) < 3 or index != 1:
                yield index, result


@pytest.mark.parametrize("n_jobs", [1, 2, InLine()])
def test_each_job_comes_with_its_result_wherever_it_ran(n_jobs: int | InLine) -> None:
    assert dict(run_jobs(WORK, ["1", "2", "3"], n_jobs, [10])) == {"1": 10, "2": 20, "3": 30}


def test_a_job_whose_process_dies_costs_itself_and_is_named_at_once_and_in_the_end() -> None:
    done, told = {}, []
    sentence = (
        r"^1 of 3 jobs were not done, the first \(number 1\) because the process that worked on it was ended by signal "
        r"9, 2 times in all; run the same command again, perhaps with fewer --jobs \(what was finished is kept\)$"
    )
    with noticing(told.append), pytest.raises(UnfinishedError, match=sentence):
        for job, result in run_jobs(WORK, ["die", "2", "3"], 2, [10]):
            done[job] = result
    assert done == {"2": 20, "3": 30}
    assert told == ["number 1 is done again after all others: the process that worked on it was ended by signal 9"]


def test_a_job_that_is_lost_with_its_process_is_done_again(tmp_path: Path) -> None:
    jobs = [tmp_path / "a.once", tmp_path / "b.once"]
    jobs[1].touch()
    with noticing([].append):
        assert dict(run_jobs(DYING_ONCE, jobs, 2, None)) == {job: job.name for job in jobs}


@pytest.mark.parametrize(
    ("job", "reason"),
    [("stop", r"was stopped for \d s and was given up"), ("hang", r"used no processor time for \d s and was given up")],
)
def test_a_process_that_does_not_go_on_is_given_up(job: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"LOOK": 0.1, "STOPPED": 0.3 if job == "stop" else 600, "STILL": 1.0}.items():
        monkeypatch.setattr(f"biopercept.parallel.{name}_SECONDS", seconds)
    results = dict(ChildProcesses(2, Limits(seconds=600)).run(WORK, [job, "busy", "2"]))
    assert (results[1], results[2]) == (10, 20)  # what works goes on, for longer than that
    assert isinstance(results[0], Lost) and results[0].is_with_worker
    assert re.fullmatch(f"the process that worked on it {reason}", results[0].reason)


def test_what_the_work_raises_in_a_child_is_raised_here_as_it_is_with_where_it_came_from() -> None:
    with pytest.raises(TrainingError) as caught:
        list(run_jobs(WORK, ["not finite", "2"], 2, [10]))
    assert str(caught.value) == "the loss is not finite"
    assert "in _work" in "".join(caught.value.__notes__)


def test_how_far_children_are_counts_before_they_are_done() -> None:
    shown = []
    with listening(lambda progress: shown.append((progress.fraction, progress.words))), steps("folds", 2) as folds:
        for _ in run_jobs(HALVES, ["a", "b"], 2, None):
            folds.advance()
    fractions = [fraction for fraction, _ in shown]
    assert any("loss 0.50" in words and 0.25 <= fraction <= 0.75 for fraction, words in shown)
    assert fractions == sorted(fractions)
    assert shown[-1] == (1.0, "")


def test_what_another_executor_loses_or_forgets_is_named() -> None:
    done = []
    with pytest.raises(
        UnfinishedError, match=r"^2 of 3 jobs were not done, the first \(number 1\) because the node was"
    ):
        done += [job for job, _ in run_jobs(WORK, ["1", "2", "3"], Failing(), [10])]
    with pytest.raises(UnfinishedError, match=r"1 of 2 jobs were not done"):
        list(run_jobs(WORK, ["1", "2"], Failing(), [10]))


def test_more_memory_than_allowed_is_the_job_s_own_loss() -> None:
    results = dict(ChildProcesses(1, Limits(memory_bytes=4 * 10**9)).run(EATING, [10**10, 10**6]))
    assert results == {0: Lost("it needs more than the 4 GB of memory that a process may use"), 1: 10**6}


def test_children_end_at_once_when_their_results_are_no_longer_wanted() -> None:
    results = run_jobs(WORK, ["1", "hang", "hang"], 2, [10])
    began = time.monotonic()
    assert next(results) == ("1", 10)
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 60


def test_ctrl_c_ends_the_parent_and_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from child_work import WORK\nfrom biopercept.parallel import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background\n"
        "    for job, _ in run_jobs(WORK, ['1', 'hang', 'hang'], 2, [10]): print('done', flush=True)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    words = [sys.executable, str(script), str(Path(__file__).parent)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"done\n"
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the children as well
        parent.communicate(timeout=60)
        assert parent.returncode != 0
        with pytest.raises(ProcessLookupError):  # soon nobody of the group is left
            for _ in range(100):
                os.killpg(parent.pid, 0)
                time.sleep(0.1)


def _request(store: Path) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=3, n_bootstrap=200)
    return EvaluationRequest(store, "logistic", evaluation=evaluation)


def test_folds_can_be_fitted_by_another_executor_and_what_it_loses_is_fitted_later(
    made: ModuleType, tmp_path: Path
) -> None:
    store, elsewhere = made.store(tmp_path / "made.h5", made.study(6)), InLine()
    here = cross_validate(_request(store), tmp_path / "here")
    there = cross_validate(_request(store), tmp_path / "there", n_jobs=elsewhere)
    assert len(elsewhere.jobs) == here["n_folds"] == 3
    assert {**here, "seconds": 0} == {**there, "seconds": 0}
    with pytest.raises(
        UnfinishedError, match=r"2 of 3 jobs were not done, the first \(01-of-03\) because the node was"
    ):
        cross_validate(_request(store), tmp_path / "lost", n_jobs=Failing())
    assert [path.name for path in (tmp_path / "lost" / "folds").iterdir()] == ["003.json"]
    cross_validate(_request(store), tmp_path / "lost")
    for name in ("predictions.csv", "scores.csv"):
        assert (tmp_path / "lost" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_seconds_are_those_that_the_run_took_and_not_the_sum_of_what_ran_side_by_side(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(6))
    clock = iter([100.0, 101.0, 103.0, 500.0, 504.0])  # begin, two folds; begin again, the third
    monkeypatch.setattr("biopercept.evaluation.runs.time.monotonic", lambda: next(clock))

    class Stopping(InLine):
        def run(self, work: Work[Any, Any, Any, Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            results = list(super().run(work, jobs))
            yield from results[:2]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(_request(store), tmp_path / "cv", n_jobs=Stopping())
    assert cross_validate(_request(store), tmp_path / "cv")["seconds"] == 1.0 + 2.0 + 4.0
