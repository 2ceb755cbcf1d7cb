"""A fit that is stopped goes on at its last whole epoch: its state lies in a file until what it is part of is done.

States are kept inside :func:`resuming` alone: the last, and the one before it in case the last is damaged. What a
state belongs to is its name: a hash over everything that the fit depends on, so that another fit never takes it. Files
are safetensors, which cannot hold code, with a hash over all of it.
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

from biopercept.errors import OutputError, SettingsError, TrainingError, UnfinishedError
from biopercept.files import replacing
from biopercept.progress import Steps, notice, steps
from biopercept.version import __version__

SECONDS = 10.0
"""States are written no more often than this, and once when the fit is stopped."""


@dataclass(eq=False)
class LongWork:
    """What fits are part of: the folder of their states, and how long it took in this process and in those before.

    ``states`` are the files of its fits, ``fits`` these themselves; ``is_of_one`` where all states in the folder are of
    the same work.
    """

    folder: Path
    is_of_one: bool = False
    states: list[Path] = field(default_factory=list)
    fits: list[KeptFit] = field(default_factory=list)
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
def resuming(folder: Path, *, is_of_one: bool = False) -> Iterator[LongWork]:
    """Keep the states of fits in a folder while the block runs, and take those that are there.

    They are removed where the block ends well, or by a fault that the same fit would meet again. ``is_of_one``: nothing
    else has its states there, so that it is worth a notice where none of them is of the first fit, or the folder is
    empty, as a process leaves it that was killed before it kept any.
    """
    work = LongWork(folder, is_of_one)
    if is_of_one:
        _begin(folder)
    before = _WORK.set(work)
    is_over = True
    try:
        yield work
    except (TrainingError, SettingsError):
        raise
    except OutputError:  # what the fits are part of could not be written; there may be room for them
        is_over = False
        with suppress(OutputError):
            for fit in work.fits:
                fit.write()
        with suppress(OSError):
            folder.rmdir()  # there was none
        raise
    except BaseException:
        is_over = False
        raise
    finally:
        _WORK.reset(before)
        if not is_over:
            with suppress(OSError):  # it is not empty, mostly
                folder.rmdir()
        else:
            with suppress(OSError):
                for state in work.states:
                    state.unlink(missing_ok=True)
                    _before(state).unlink(missing_ok=True)
                folder.rmdir()  # states of other pieces, or of other settings, stay


def _begin(folder: Path) -> None:
    """Make the folder of the states; say where it was there and empty."""
    try:
        folder.mkdir(parents=True)
    except OSError:  # what is in the way of it is said once a state is written
        if folder.is_dir() and not any(folder.iterdir()):
            name = folder.name.removeprefix(".").removesuffix(".fit")
            notice(f"what wrote {name} before was killed before anything was kept; the fit begins anew")


@contextmanager
def resuming_until_written(output: Path) -> Iterator[LongWork]:
    """Do as :func:`resuming` for what becomes an output, in a folder beside it with a name like ``.m.fit``.

    Once it is written, states of fits with other settings that were never ended go as well.
    """
    place = output.resolve()
    folder = place.with_name(f".{place.name}.fit")
    with resuming(folder, is_of_one=True) as work:
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
    _n_noted: int = 0
    _n_in_file: int = 0

    @property
    def is_on(self) -> bool:
        """Return whether states are kept at all."""
        return self.path is not None

    @contextmanager
    def epochs(self, total: int, *, done: int) -> Iterator[Steps]:
        """Open the epochs of the fit as steps, of which those are kept that are in the file."""
        with steps("epoch", total, done=done, is_kept=self.is_on, is_result=False) as opened:
            self._n_in_file = done
            opened.n_in_files = lambda: self._n_in_file
            yield opened

    def note(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any], n_epochs: int) -> None:
        """Take the state after an epoch, and write it where the last was written long ago.

        Raises OutputError where it cannot be written.
        """
        if self.work is None:
            return
        copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        # Values may hold a list that grows before the next state, and a stop may come at any moment.
        plain = deepcopy({**values, "seconds": self.work.seconds})
        self.tensors, self.values, self._n_noted, self._is_new = copies, plain, n_epochs, True
        if time.monotonic() - self._written >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write the last state that was noted, unless it is written. Raises OutputError where it cannot be."""
        from safetensors.torch import save

        if self.path is None or not self._is_new:
            return
        text = json.dumps(self.values)
        content = save(self.tensors, {"values": text, "sha256": _hash(self.tensors, text)})
        with suppress(OSError):  # there is none, or the disk says so below
            self.path.replace(_before(self.path))
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)
        self._is_new, self._written, self._n_in_file = False, time.monotonic(), self._n_noted

    def read(self) -> bool:
        """Read the last whole state that an earlier process wrote; return whether there is one.

        That one is damaged, or of another fit, is a notice.
        """
        if self.path is None or self.work is None:
            return False
        damaged: list[Path] = []
        for path in (self.path, _before(self.path)):
            if not path.is_file():
                continue
            if self._take(path):
                _notice_damage(damaged, f"the fit goes on with the one before it, {path.name}")
                self.work.before = max(self.work.before, self.values["seconds"])
                return True
            damaged.append(path)
        _notice_damage(damaged, "the fit begins again")
        if self.work.is_of_one and self.work.states == [self.path] and not damaged and any(self.path.parent.glob("*")):
            notice(
                f"what is kept of an unfinished run in {self.path.parent} is not of this one (its data, settings, "
                "seed, versions, threads or device are others); the fit begins anew"
            )
        return False

    def _take(self, path: Path) -> bool:
        """Take the state of a file, and return whether it is whole."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as opened:
                kept = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return False
        if kept.get("sha256") != _hash(tensors, kept.get("values", "")):
            return False
        self.tensors, self.values = tensors, json.loads(kept["values"])
        return True

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the arrays whose names begin with ``prefix.``, by the rest."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


def _before(state: Path) -> Path:
    """Return where the state that was written before the last one is."""
    return state.with_suffix(".before.safetensors")


def _notice_damage(damaged: Sequence[Path], what_now: str) -> None:
    for path in damaged[:1]:
        notice(f"the kept state {path.name} of a fit in {path.parent} is damaged; {what_now}")


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
    work.fits.append(one)
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


def set_random_states(states: Mapping[str, Tensor], generators: Sequence[torch.Generator]) -> None:
    """Set generators to what :func:`random_states` gave, by their names under "random"."""
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
