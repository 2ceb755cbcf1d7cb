"""How long commands take from the shell: processor time of the process and its children, best of some runs.

A fixed piece of work in a fresh Python is timed in the same run, so that rows of other days can be compared.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from biopercept.errors import BioperceptError
from measurements.speed_table import Row

_YARDSTICK = "import numpy as np; a = np.arange(3e6); [np.sort(np.sin(a)) for _ in range(3)]; sum(range(10**7))"
_SCORES = ("-c", "stress-wrist", "--device", "cpu", "--overwrite")


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time, all processes together, and by the clock."""

    processor: float
    clock: float


@dataclass(frozen=True)
class Place:
    """Where public data sets lie, each by its name, and the folder that is worked in; what is there is kept."""

    data: Path
    folder: Path

    @property
    def hour(self) -> Path:
        """Return one hour of an Empatica E4."""
        return self.data / "stress-predict" / "Raw_data" / "S31"

    def study(self, name: str) -> Path:
        """Return the study of a data set, imported where it is not there."""
        study = self.folder / name
        if not study.exists():
            _run("import", name, self.data / name, "-o", study)
        return study

    def store(self, name: str) -> Path:
        """Return the store of a data set, prepared where it is not there."""
        store = self.folder / f"{name}.h5"
        if not store.exists():
            _run("prepare", self.study(name), "-o", store, "-j", "2")
        return store


def _run(*words: str | Path) -> Cost:
    """Return what a command of biopercept takes. Raises BioperceptError where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-m", "biopercept.cli", *map(str, words)], env=environment, capture_output=True, text=True
    )
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise BioperceptError(f"{' '.join(map(str, words))} ended with {run.returncode}: {run.stderr.strip()[-300:]}")
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock)


def yardstick() -> float:
    """Return the processor time of the fixed piece of work, seconds; best of five."""
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", _YARDSTICK], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(costs)


def _best(work: Callable[[], Cost], n_runs: int) -> Cost:
    costs = [work() for _ in range(n_runs)]
    return Cost(min(cost.processor for cost in costs), min(cost.clock for cost in costs))


def _row(name: str, cost: Cost, unit: float, bar: float | None = None, *, is_by_clock: bool = False) -> Row:
    measured = cost.clock if is_by_clock else cost.processor
    return Row(
        name=name,
        speed=unit / measured,
        shown=f"{cost.processor:.2f} s of processor time, {cost.clock:.1f} s by the clock",
        bar="" if bar is None else f"at most {bar:g} s{' by the clock' if is_by_clock else ''}",
        is_met=bar is None or measured <= bar,
    )


def command_rows(place: Place) -> Iterator[Row]:
    """Give a row for each command that a user waits for: check, doctor, inspect, predict and prepare; minutes."""
    unit, out = yardstick(), place.folder / "out"
    hour, study = place.hour, place.study("stress-predict")
    yield _row("check, 34 recordings", _best(partial(_run, "check", study), 5), unit, 1.5)
    yield _row("doctor", _best(partial(_run, "doctor"), 5), unit, 1.5)
    yield _row("inspect, one hour of E4", _best(partial(_run, "inspect", hour), 5), unit, 0.6)
    predict = partial(_run, "predict", "stress-wrist", hour, "-o", out, "--overwrite")
    yield _row("predict, one hour of E4", _best(predict, 5), unit, 4.0, is_by_clock=True)
    predict = partial(_run, "predict", "stress-wrist", study, "-o", out, "--overwrite")
    yield _row("predict, 34 hours of E4", _best(predict, 1), unit, 15.0, is_by_clock=True)
    for name, hours, least in (("stress-predict", 33.5, 12_000), ("eegmat", 1.22, 240)):
        store = out.with_name("timed.h5")
        cost = _best(partial(_run, "prepare", place.study(name), "-o", store, "-j", "1", "--overwrite"), 1)
        times = 3600 * hours / cost.processor
        row = _row(f"prepare, {name}, one process", cost, unit)
        shown = f"{row.shown}: {times:,.0f} times as fast as it was recorded"
        yield Row(row.name, row.speed, shown, f"at least {least:,} times", times >= least)
    shutil.rmtree(out, ignore_errors=True)


def long_rows(place: Place) -> Iterator[Row]:
    """Give the rows of fits: what a second process gains, the first result of personalise, and a whole LOSO."""
    unit, store = yardstick(), place.store("stress-predict")
    short = (*_SCORES, "--split", "k-fold", "--folds", "4", "--set", "training.n_epochs=4")
    one, two = (
        _run("cross-validate", store, "-o", place.folder / f"jobs-{jobs}", "-j", str(jobs), *short) for jobs in (1, 2)
    )
    gain = one.clock / two.clock
    shown = f"{gain:.2f}x ({one.clock:.0f} and {two.clock:.0f} s by the clock)"
    yield Row("cross-validate, -j 2 beside -j 1", gain, shown, "at least 1.7x", gain >= 1.7)
    seconds = _first_person(store, place.folder / "personal")
    shown = f"{seconds:.0f} s by the clock"
    yield Row(
        "personalise, first of 34 people, -j 2", unit / seconds, shown, "at most 60 s by the clock", seconds <= 60
    )
    whole = ("cross-validate", store, "--split", "subject", "--seeds", "1", "-j", "2", "--device", "cpu", "--overwrite")
    for settings, name in (((), "auto"), (("-c", "stress-wrist"), "stress-wrist")):
        cost = _run(*whole, *settings, "-o", place.folder / f"loso-{name}")
        yield _row(f"cross-validate, LOSO of 34, one seed, -j 2, {name}", cost, unit, 360.0, is_by_clock=True)


def _first_person(store: Path, output: Path) -> float:
    """Return the seconds until ``personalise`` has adapted to one person; it is stopped then.

    Raises BioperceptError where it ends before.
    """
    words = (*_SCORES, "-j", "2", "-o", str(output), "-q")
    shutil.rmtree(output, ignore_errors=True)
    start = time.perf_counter()
    run = subprocess.Popen([sys.executable, "-m", "biopercept.cli", "personalise", str(store), *words])
    try:
        while not any(output.glob("folds/people/*.json")):
            if run.poll() is not None:
                raise BioperceptError(f"personalise ended with {run.returncode} before it had adapted to anybody")
            time.sleep(0.1)
        return time.perf_counter() - start
    finally:
        run.send_signal(signal.SIGINT)
        run.wait()
        shutil.rmtree(output, ignore_errors=True)


PARTS = ("network", "commands", "memory", "long")


def chosen_parts(names: Sequence[str]) -> list[str]:
    """Return the parts in their order; the first two where none is named."""
    return [name for name in PARTS if name in (names or ("network", "commands"))]
