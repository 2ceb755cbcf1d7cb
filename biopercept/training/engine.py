"""The one seam where device, precision and (later) process group of training are set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from biopercept.errors import SettingsError
from biopercept.typed_values import did_you_mean


@dataclass(frozen=True)
class Engine:
    """Where and how training computes; precision is "float32" or "bfloat16" (autocast; weights stay float32)."""

    device: torch.device
    precision: str = "float32"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def engine_for(device: str, precision: str = "float32") -> Engine:
    """Return the engine for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises SettingsError where the device is unknown or absent.
    """
    if device == "auto":
        return Engine(torch.device("cuda" if torch.cuda.is_available() else "cpu"), precision)
    near = did_you_mean(device, ("auto", "cpu", "cuda"))
    unknown = f"device is {device!r}; allowed are auto, cpu, cuda and cuda:N{near}"
    try:
        chosen = torch.device(device)
    except RuntimeError as fault:
        raise SettingsError(unknown) from fault
    if chosen.type not in ("cpu", "cuda"):
        raise SettingsError(unknown)
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise SettingsError(
            f"device {device!r} was asked for but this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return Engine(chosen, precision)


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Seed torch for a block and give a generator of the same seed; the random state outside is untouched."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch and the numerical libraries use ``number`` threads while the block runs."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(limits=number):
            yield
    finally:
        torch.set_num_threads(before)


def seed_for(*parts: object) -> int:
    """Return a seed that depends on all the parts (run seed, fold, repetition) and on nothing else."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
