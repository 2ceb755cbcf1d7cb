"""The network's speed beside its peers as ratios within one run, with nothing else running and with two busy processes.

Every implementation is called once in a round, in turn, so that what else the machine does falls on all alike. Quiet,
processor time is compared; busy, time by the clock, which waiting threads lose there. Of each peer the median over
rounds of its ratio to ours is taken, and the fastest peer counts.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from biopercept.benchmarks.peers import N_CHANNELS, N_SAMPLES, OURS
from biopercept.benchmarks.speed import TOKENS, step
from measurements.speed_table import Row

N_BUSY = 2
LONG = 16384
_BUSY_BAR, _LONG_BAR = 1.0, 3.0
_QUIET_BARS = {("forward", LONG): 5.9, ("training", LONG): 5.4}
"""How many times as fast as the fastest peer the network is to be: measured on an AMD EPYC with AVX-512."""


def processor() -> str:
    """Return the model of this machine's processor, and how many of its cores may be used."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"


@contextmanager
def busy(n_processes: int) -> Iterator[None]:
    """Have processes run beside that do nothing but use a core each, until the block ends."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_processes)]
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def network_rows(
    modules: Mapping[str, nn.Module], *, tokens: Iterable[int] = TOKENS, n_rounds: int = 7, n_busy: int = N_BUSY
) -> Iterator[Row]:
    """Give a row for forward and training at each size, quiet and (where ``n_busy`` is not 0) busy.

    ``modules`` are by name, ours and one peer at least among them.
    """
    for is_training in (False, True):
        for n_tokens in tokens:
            yield _row(modules, n_tokens, n_rounds, is_training=is_training, is_busy=False)
            if n_busy:
                with busy(n_busy):
                    yield _row(modules, n_tokens, n_rounds, is_training=is_training, is_busy=True)


def _row(modules: Mapping[str, nn.Module], n_tokens: int, n_rounds: int, *, is_training: bool, is_busy: bool) -> Row:
    tokens = torch.randn(N_SAMPLES, n_tokens, N_CHANNELS, generator=torch.Generator().manual_seed(n_tokens))
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in modules}
    for number in range(n_rounds + 1):
        for name, module in modules.items():
            module.train(is_training)
            of_processor, by_clock = time.process_time(), time.perf_counter()
            step(module, tokens, is_training=is_training)
            if number:  # the first round makes what is made once
                seconds[name].append((time.process_time() - of_processor, time.perf_counter() - by_clock))
    ratios = {name: _ratios(rounds, seconds[OURS]) for name, rounds in seconds.items() if name != OURS}
    kind, which = ("training" if is_training else "forward"), 1 if is_busy else 0
    fastest = min(ratios, key=lambda name: ratios[name][which])
    of_processor, by_clock = ratios[fastest]
    ours = 1000 * statistics.median(row[which] for row in seconds[OURS])
    bar = (_LONG_BAR if n_tokens >= LONG else _BUSY_BAR) if is_busy else _QUIET_BARS.get((kind, n_tokens), 1.0)
    return Row(
        name=f"{kind}, {n_tokens} tokens, {'busy' if is_busy else 'quiet'}",
        speed=(of_processor, by_clock)[which],
        shown=f"{ours:.0f} ms; {fastest} {by_clock:.2f}x by the clock, {of_processor:.2f}x of processor time",
        bar=f"at least {bar:g}x",
        is_met=(of_processor, by_clock)[which] >= bar,
    )


def _ratios(theirs: list[tuple[float, float]], ours: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median ratios over rounds: of processor time, and of time by the clock."""
    pairs = list(zip(theirs, ours, strict=True))
    of_processor, by_clock = (statistics.median(a[which] / b[which] for a, b in pairs) for which in (0, 1))
    return of_processor, by_clock
