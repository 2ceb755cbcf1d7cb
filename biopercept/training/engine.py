"""The one seam where device, precision and group of processes of training are set."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from biopercept.errors import SettingsError, UnfinishedError
from biopercept.ranks import ALONE, Ranks
from biopercept.typed_values import did_you_mean

T = TypeVar("T")


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


def engine_for(device: str, precision: str = "float32", ranks: Ranks = ALONE) -> Engine:
    """Return the engine for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; of several ranks each gets a GPU in turn.

    Raises SettingsError where the device is unknown or absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and ranks is not ALONE and torch.cuda.is_available():
        device = f"cuda:{ranks.local % torch.cuda.device_count()}"
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


@dataclass(eq=False)
class Group:
    """The processes that do one fit together: whose which rows of a batch are, and what they tell each other.

    All see the same batches and the same weights; each reads its own rows of a batch, with dropout from its own
    ``generator``. What they exchange goes through main memory, by gloo. Its methods raise UnfinishedError where another
    process has ended.
    """

    ranks: Ranks
    generator: torch.Generator | None = None

    def seed(self, device: torch.device, *parts: object) -> None:
        """Begin this process's own draws anew, from the parts of a seed."""
        self.generator = torch.Generator(device).manual_seed(seed_for(*parts, self.ranks.rank))

    def rows(self, n_rows: int) -> slice:
        """Return which rows of a batch are this process's: every ``n_ranks``-th."""
        return slice(self.ranks.rank, n_rows, self.ranks.n_ranks)

    def parts(self, parts: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return parts of a batch, as positions in it, as positions in the rows of this process."""
        number, n = self.ranks.rank, self.ranks.n_ranks
        return [mine for part in parts if len(mine := part[part % n == number] // n)]

    def gathered(self, values: Sequence[Tensor], n_rows: int) -> list[Tensor]:
        """Return arrays of the whole batch, of which each process has computed its own rows.

        Each process then computes the loss of the whole batch. Gradients of what it computed itself come back times the
        number of processes, so that :meth:`average` gives those of one process that had computed all.
        """
        mine = torch.cat([one.flatten(1) for one in values], 1)
        whole = mine.new_zeros((n_rows, mine.shape[1]))
        whole[self.rows(n_rows)] = mine
        fixed = whole.detach()
        whole = self._summed(fixed) + self.ranks.n_ranks * (whole - fixed)
        split = torch.split(whole, [one[0].numel() for one in values], 1)
        return [part.reshape(n_rows, *one.shape[1:]) for part, one in zip(split, values, strict=True)]

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Set the gradient of each parameter to the mean over all processes; None where it is None in all."""
        every = list(parameters)
        device = every[0].device
        known = torch.tensor([float(one.grad is not None) for one in every], device=device)
        flat = [(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in every]
        summed = self._summed(torch.cat([*flat, known]))
        *gradients, known = torch.split(summed, [*(one.numel() for one in every), len(every)])
        for one, gradient, count in zip(every, gradients, known.tolist(), strict=True):
            one.grad = (gradient / self.ranks.n_ranks).view_as(one) if count else None

    def same(self, value: T) -> T:
        """Return what the first process gives."""
        from torch.distributed import broadcast_object_list

        box = [value]
        self._told(lambda: broadcast_object_list(box, src=0))
        return box[0]

    def _summed(self, values: Tensor) -> Tensor:
        from torch.distributed import all_reduce

        copy = values.detach().to("cpu", torch.float32, copy=True)
        self._told(lambda: all_reduce(copy))
        return copy.to(values)

    def _told(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as fault:
            _end_undisturbed()
            raise UnfinishedError(
                f"another of the {self.ranks.n_ranks} processes has ended, so this one ends, too; the same command "
                "goes on behind the last epoch that was finished"
            ) from fault


def _end_undisturbed() -> None:
    """Ignore the stops with which torchrun ends those that are left: they end by themselves, and say why."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def group_of(ranks: Ranks) -> Iterator[Group | None]:
    """Give the group that the processes of torchrun form while the block runs; None where there is one process.

    Raises SettingsError where they do not reach each other.
    """
    if ranks is ALONE:
        yield None
        return
    from torch import distributed

    try:
        distributed.init_process_group("gloo", rank=ranks.rank, world_size=ranks.n_ranks)
    except (RuntimeError, ValueError) as fault:
        raise SettingsError(
            f"{ranks} does not reach the others at MASTER_ADDR and MASTER_PORT; start all of them with torchrun"
        ) from fault
    try:
        yield Group(ranks)
    finally:
        distributed.destroy_process_group()
