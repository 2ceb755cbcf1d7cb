"""Growth of a process's peak memory by one call of an implementation, measured in a process of its own.

``python -m biopercept.benchmarks.memory NAME TOKENS forward|training`` prints MiB.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from biopercept.benchmarks.peers import N_CHANNELS, N_SAMPLES, build
from biopercept.errors import BioperceptError


def step(module: nn.Module, tokens: Tensor, *, is_training: bool) -> None:
    """Run ``module`` forward once, or forward and backward with gradients cleared before."""
    if not is_training:
        with torch.inference_mode():
            module(tokens)
        return
    module.zero_grad(set_to_none=True)
    module(tokens).square().sum().backward()


def peak_growth(name: str, n_tokens: int, *, is_training: bool) -> float | None:
    """Return by how many MiB one call of a peer grows the peak memory of a fresh process, or None outside Linux.

    Raises BioperceptError where the process fails.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    kind = "training" if is_training else "forward"
    command = [sys.executable, "-m", "biopercept.benchmarks.memory", name, str(n_tokens), kind]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise BioperceptError(f"The memory of {name} at {n_tokens} tokens could not be measured: {last}")
    return float(run.stdout)


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
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _kibibytes("VmRSS")
    step(module, tokens, is_training=kind == "training")
    print((_kibibytes("VmHWM") - before) / 1024)  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
