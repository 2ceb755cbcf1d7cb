"""Speed of this network beside other implementations: interleaved rounds in one process, CPU time, medians.

Each round calls every implementation once, in turn, so that what else the machine does falls on all alike; ratios are
taken within a round. CPU time adds up all threads.

Memory is the growth of a process's peak by one call, measured in a process of its own:
``python -m biopercept.benchmarks.speed NAME TOKENS forward|training`` prints MiB.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from biopercept.benchmarks.peers import N_CHANNELS, N_SAMPLES, OURS, build
from biopercept.errors import BioperceptError

Key = TypeVar("Key", str, int)
TOKENS = (256, 1024, 4096, 16384)


@dataclass(frozen=True)
class Speed:
    """One implementation at one size, forward alone or (training) forward and backward.

    * ``cpu_ms``: CPU time of a call, all threads together, milliseconds; median of the rounds.
    * ``times_ours``: median over rounds of the ratio to ours in the same round.
    * ``peak_mib``: growth of peak memory by one call, MiB; None: not measured.
    """

    name: str
    n_parameters: int
    n_tokens: int
    is_training: bool
    cpu_ms: float
    times_ours: float
    peak_mib: float | None


def step(module: nn.Module, tokens: Tensor, *, is_training: bool) -> None:
    """Run ``module`` forward once, or forward and backward with gradients cleared before."""
    if not is_training:
        with torch.inference_mode():
            module(tokens)
        return
    module.zero_grad(set_to_none=True)
    module(tokens).square().sum().backward()


def cpu_seconds(
    calls: Mapping[Key, tuple[nn.Module, Tensor]], n_rounds: int, *, is_training: bool
) -> dict[Key, list[float]]:
    """Return the CPU time of each call in each round, seconds; of all threads, after a round that does not count."""
    rounds: dict[Key, list[float]] = {key: [] for key in calls}
    for number in range(n_rounds + 1):
        for key, (module, tokens) in calls.items():
            start = time.process_time()
            step(module.train(is_training), tokens, is_training=is_training)
            if number:
                rounds[key].append(time.process_time() - start)
    return rounds


def measure(
    modules: Mapping[str, nn.Module],
    *,
    tokens: Iterable[int] = TOKENS,
    n_rounds: int = 7,
    memory_at: Iterable[int] = (16384,),
) -> list[Speed]:
    """Return the speed of each implementation at each size, forward and in training.

    Modules are by name (see ``peers``), ours among them; memory is measured at the sizes ``memory_at`` alone.
    """
    with_memory = set(memory_at)
    speeds = []
    for is_training in (False, True):
        for n_tokens in tokens:
            given = torch.randn(N_SAMPLES, n_tokens, N_CHANNELS, generator=torch.Generator().manual_seed(n_tokens))
            calls = {name: (module, given) for name, module in modules.items()}
            rounds = cpu_seconds(calls, n_rounds, is_training=is_training)
            for name, module in modules.items():
                peak = peak_growth(name, n_tokens, is_training=is_training) if n_tokens in with_memory else None
                ratio = statistics.median(a / b for a, b in zip(rounds[name], rounds[OURS], strict=True))
                size = sum(p.numel() for p in module.parameters())
                cpu_ms = 1000.0 * statistics.median(rounds[name])
                speeds.append(Speed(name, size, n_tokens, is_training, cpu_ms, ratio, peak))
    return speeds


def peak_growth(name: str, n_tokens: int, *, is_training: bool) -> float | None:
    """Return by how many MiB one call of a peer grows the peak memory of a fresh process, or None outside Linux.

    Raises BioperceptError where the process fails.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    kind = "training" if is_training else "forward"
    command = [sys.executable, "-m", "biopercept.benchmarks.speed", name, str(n_tokens), kind]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise BioperceptError(f"The memory of {name} at {n_tokens} tokens could not be measured: {last}")
    return float(run.stdout)


def table(speeds: list[Speed]) -> str:
    """Return the speeds as Markdown: a row for each implementation, CPU ms (times ours), and peak memory."""
    sizes = sorted({s.n_tokens for s in speeds})
    parts = []
    for is_training, title in ((False, "Forward"), (True, "Forward and backward")):
        rows = [s for s in speeds if s.is_training == is_training]
        heads = ["", "parameters", *(f"{n} tokens" for n in sizes), "peak MiB"]
        lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        for name in dict.fromkeys(s.name for s in rows):
            by_size = {s.n_tokens: s for s in rows if s.name == name}
            cells = [
                f"{by_size[n].cpu_ms:.0f} ms ({by_size[n].times_ours:.2f}x)" if n in by_size else "" for n in sizes
            ]
            peaks = [f"{s.peak_mib:.0f} at {n}" for n, s in by_size.items() if s.peak_mib is not None]
            size = next(iter(by_size.values())).n_parameters
            lines.append("| " + " | ".join([name, f"{size:,}", *cells, ", ".join(peaks)]) + " |")
        parts.append(f"{title}: CPU time of a call, batch {N_SAMPLES} (times ours)\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _kibibytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"this system does not tell {field} of a process")


def _main(name: str, n_tokens: str, kind: str) -> None:
    torch.manual_seed(0)
    module = build(name).train(kind == "training")
    # A small call first: libraries set themselves up, and gradients of the parameters get their place.
    step(module, torch.randn(2, 16, N_CHANNELS), is_training=kind == "training")
    tokens = torch.randn(N_SAMPLES, int(n_tokens), N_CHANNELS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = _kibibytes("VmRSS")
    step(module, tokens, is_training=kind == "training")
    print((_kibibytes("VmHWM") - before) / 1024)  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
