"""Work for child processes of the tests, in a module that is quick to import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError, TrainingError
from biopercept.parallel import Work
from biopercept.progress import steps
from biopercept.recording import Channel, Interval, Recording, Signal


def _open(request: int) -> list[int]:
    return [request]


def _work(context: list[int], job: str) -> int:
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "not finite":
        raise TrainingError("the loss is not finite")
    if job == "hang":
        time.sleep(600)
    context.append(1)  # a context is made once in each process, and kept
    return int(job) * context[0]


def _eat(context: None, n_bytes: int) -> int:
    return len(bytearray(n_bytes))


def _halves(context: None, job: str) -> str:
    with steps("halves", 2) as halves:
        time.sleep(0.6)  # longer than between two reports
        halves.advance("loss 0.50")
        time.sleep(0.3)
        halves.advance()
    return job


def _die_once(context: None, marker: Path) -> str:
    if marker.suffix == ".always" or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def numbered_process(context: None, seconds: float) -> int:
    """Sleep, or die where that is negative, and return the number of this process."""
    if seconds < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return os.getpid()


WORK = Work(_work, _open, 10)
HALVES: Work[None, None, str, str] = Work(_halves, None, None)
DYING_ONCE: Work[None, None, Path, str] = Work(_die_once, None, None)
EATING: Work[None, None, int, int] = Work(_eat, None, None)


def recording() -> Recording:
    """A recording of two signals: a lazy one, which says what it was asked for, and an irregular one."""
    samples = np.random.default_rng(3).normal(size=(2, 1_200_000))
    samples[0, 7] = np.nan
    eda = replace(Signal.from_samples("EDA", "eda", "uS", 4.0, np.arange(9.0)), times=np.arange(9.0) ** 2)
    acc = Signal.from_samples("ACC", "acc", "g", 1000.0, samples)
    return Recording("S1", "", "r1", (acc, eda), (Interval(1.0, 2.0, "rest"),), notes=("a note",))


def unreadable() -> Recording:
    raise RecordingError("r1.edf: the header is cut")


def buggy() -> Recording:
    raise ZeroDivisionError("patient Jane Doe")


def dying() -> Recording:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hanging() -> Recording:
    while True:
        pass


def sleeping() -> Recording:
    time.sleep(600)
    raise AssertionError


def eating() -> Recording:
    bytearray(10**10)
    raise AssertionError


def _in_its_samples(work: Callable[[], object]) -> Recording:
    signal = Signal("ECG", "ecg", "mV", 250.0, 0.0, (Channel("ECG"),), 100, reader=lambda start, stop, rows: work())  # type: ignore
    return Recording("S1", "", "r1", (signal,))


dying_later, hanging_later, eating_later, buggy_later = (
    partial(_in_its_samples, work) for work in (dying, hanging, eating, buggy)
)


_N_COUNTED: list[None] = []


def counted() -> tuple[Recording, int]:
    """Return a recording, and how often this process was asked for it."""
    _N_COUNTED.append(None)
    return recording(), len(_N_COUNTED)


def process() -> tuple[Recording, int]:
    return Recording("S1", "", "r1", ()), os.getpid()


def memory() -> tuple[Recording, int]:
    """Bytes that this process may write to, beside a recording."""
    import resource

    return Recording("S1", "", "r1", ()), resource.getrlimit(resource.RLIMIT_DATA)[0]
