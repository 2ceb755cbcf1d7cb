"""A fit that is stopped goes on at its last whole epoch: its state lies in a file until what it is part of is done.

States are kept inside :func:`resuming` alone. What a state belongs to is its name: a hash over everything that the fit
depends on, so that another fit never takes it. Files are safetensors, which cannot hold code, with a hash over all of
it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biopercept.errors import SettingsError, TrainingError, UnfinishedError
from biopercept.files import replacing
from biopercept.version import __version__

SECONDS = 10.0
"""States are written no more often than this, and once when the fit is stopped."""


@dataclass(eq=False)
class LongWork:
    """What fits are part of: the folder of their states, and how long it took in this process and in those before.

    ``states`` are the files of its fits.
    """

    folder: Path
    states: list[Path] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    before: float = 0.0

    @property
    def seconds(self) -> float:
        """Return how long it took until now, seconds."""
        return self.before + time.perf_counter() - self.started


_PLACE: ContextVar[Path | None] = ContextVar("folder for states of work that is done piece by piece", default=None)
_WORK: ContextVar[LongWork | None] = ContextVar("work whose fits are kept", default=None)


@contextmanager
def keeping_pieces(folder: Path) -> Iterator[None]:
    """Name the folder for the states of work that is done piece by piece, each in :func:`resuming` of its own.

    It is removed where the block ends well; what is left in it then was of pieces of other settings.
    """
    before = _PLACE.set(folder)
    try:
        yield
    finally:
        _PLACE.reset(before)
    shutil.rmtree(folder, ignore_errors=True)


def place_of_pieces() -> Path | None:
    """Return the folder that :func:`keeping_pieces` named; None outside of it."""
    return _PLACE.get()


@contextmanager
def resuming(folder: Path) -> Iterator[LongWork]:
    """Keep the states of fits in a folder while the block runs, and take those that are there.

    They are removed where the block ends well, or by a fault that the same fit would meet again.
    """
    work = LongWork(folder)
    before = _WORK.set(work)
    is_over = True
    try:
        yield work
    except (TrainingError, SettingsError):
        raise
    except BaseException:
        is_over = False
        raise
    finally:
        _WORK.reset(before)
        if is_over:
            with suppress(OSError):
                for state in work.states:
                    state.unlink(missing_ok=True)
                folder.rmdir()  # states of other pieces, or of other settings, stay


@contextmanager
def resuming_until_written(output: Path) -> Iterator[LongWork]:
    """Do as :func:`resuming` for what becomes an output, in a folder beside it with a name like ``.m.fit``.

    Once it is written, states of fits with other settings that were never ended go as well.
    """
    place = output.resolve()
    folder = place.with_name(f".{place.name}.fit")
    with resuming(folder) as work:
        yield work
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(eq=False)
class KeptFit:
    """The state of one fit: arrays by name, and plain values; see :func:`kept_fit`."""

    path: Path | None
    work: LongWork | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    _written: float = field(default_factory=time.monotonic)
    _is_new: bool = False

    @property
    def is_on(self) -> bool:
        """Return whether states are kept at all."""
        return self.path is not None

    def note(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Take the state after an epoch, and write it where the last was written long ago.

        Raises OutputError where it cannot be written.
        """
        if self.work is None:
            return
        copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        # Values may hold a list that grows before the next state, and a stop may come at any moment.
        plain = deepcopy({**values, "seconds": self.work.seconds})
        self.tensors, self.values, self._is_new = copies, plain, True
        if time.monotonic() - self._written >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write the last state that was noted, unless it is written. Raises OutputError where it cannot be."""
        from safetensors.torch import save

        if self.path is None or not self._is_new:
            return
        text = json.dumps(self.values)
        content = save(self.tensors, {"values": text, "sha256": _hash(self.tensors, text)})
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)
        self._is_new, self._written = False, time.monotonic()

    def read(self) -> bool:
        """Read the state that an earlier process wrote; return whether there is one that is whole."""
        from safetensors import SafetensorError, safe_open

        if self.path is None or self.work is None or not self.path.is_file():
            return False
        try:
            with safe_open(self.path, framework="pt") as opened:
                kept = opened.metadata() or {}
                self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            kept = {}
        if kept.get("sha256") != _hash(self.tensors, kept.get("values", "")):
            self.tensors, self.values = {}, {}
            return False
        self.values = json.loads(kept["values"])
        self.work.before = max(self.work.before, self.values["seconds"])
        return True

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays whose names begin with ``prefix.``, by the rest."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


@contextmanager
def kept_fit(network: nn.Module, *of_what: object) -> Iterator[KeptFit]:
    """Give the state of a fit, by the weights it begins with and everything else that it depends on.

    ``of_what``: arrays, and what its ``repr`` tells apart. The last state is written when the block is stopped.
    """
    if (work := _WORK.get()) is None:
        yield KeptFit(None)
        return
    path = work.folder / f"{_identity(network, of_what)}.safetensors"
    work.states.append(path)
    one = KeptFit(path, work)
    try:
        yield one
    except (KeyboardInterrupt, SystemExit, UnfinishedError):
        with _undisturbed():
            one.write()
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore further stops while the block runs, which ends what was stopped: torchrun and hasty users stop twice."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def random_states(generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
    """Return the states of generators, and of torch's global ones, as arrays by name."""
    states = {f"random.{k}": generator.get_state() for k, generator in enumerate(generators)}
    states["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        states |= {f"random.cuda{k}": state for k, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_states(kept: KeptFit, generators: Sequence[torch.Generator]) -> None:
    """Set generators to the states that :func:`random_states` gave."""
    states = kept.under("random")
    for k, generator in enumerate(generators):
        generator.set_state(states[str(k)])
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([states[f"cuda{k}"] for k in range(torch.cuda.device_count())])


def _identity(network: nn.Module, of_what: Sequence[object]) -> str:
    digest = hashlib.sha256(repr((__version__, torch.__version__, torch.get_num_threads())).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    for one in of_what:
        is_array = isinstance(one, np.ndarray)
        digest.update(np.ascontiguousarray(one).tobytes() if is_array else repr(one).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def _hash(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
