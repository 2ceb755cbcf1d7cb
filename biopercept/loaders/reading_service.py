"""The process that reads recordings, from its own side: it answers requests, each within limits of time and memory.

The limits grow with the files. They are kept where a recording is read, in this process or in one that runs ``serve``.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from biopercept.errors import BioperceptError, RecordingError, SettingsError, fault_of_ours
from biopercept.parallel import become_child, is_child, machine_memory, portable

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from biopercept.recording import FloatArray, Recording, SampleReader

Loaded = TypeVar("Loaded")

SECONDS, GIGABYTES = "BIOPERCEPT_READ_SECONDS", "BIOPERCEPT_READ_GB"
"""Environment variables that replace the limits of processor time and memory."""
_FEWEST_SECONDS, _SECONDS_PER_BYTE = 15.0, 2e-6
_FEWEST_BYTES, _BYTES_PER_BYTE = 2 << 30, 20
WAITING = 10.0
"""How many times as long as its processor time reading may take by the clock."""
_MOST_MEMBERS = 10_000
_PIECE = 1 << 24
READERS = "biopercept.prepare.sources", "numpy.ma"
"""What reads recordings, and what numpy imports at its first median."""


@dataclass(frozen=True)
class ReadingLimits:
    """What reading one recording may use, by the size of its files: seconds of processor time and bytes of memory.

    By the clock it may take ten times as long. The kernel keeps the limits, so that they hold in the midst of a library
    that never comes back; in child processes alone, for nothing is stopped in the process of a notebook or a script.
    Each call of the reader begins anew: one to open a recording, one for each piece of its samples.
    """

    seconds: float
    memory_bytes: int

    @staticmethod
    def of(paths: Iterable[Path]) -> ReadingLimits:
        """Return the limits of a recording's files; folders count with what lies in them.

        Raises SettingsError where an environment variable that sets one is no positive number.
        """
        size = sum(_size(path) for path in paths)
        seconds = _set_by(SECONDS) or _FEWEST_SECONDS + _SECONDS_PER_BYTE * size
        memory = (_set_by(GIGABYTES) or 0.0) * 1e9 or _FEWEST_BYTES + _BYTES_PER_BYTE * size
        return ReadingLimits(seconds, int(min(memory, machine_memory())))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the limits while the block runs, by the end of the process or a MemoryError; in a child process only."""
        if not is_child():
            yield
            return
        timers = ((signal.ITIMER_PROF, signal.SIGPROF, 1.0), (signal.ITIMER_REAL, signal.SIGALRM, WAITING))
        for timer, number, factor in timers:
            signal.signal(number, signal.SIG_DFL)
            signal.setitimer(timer, self.seconds * factor)
        try:
            with _memory(self.memory_bytes):
                yield
        finally:
            for timer, _, _ in timers:
                signal.setitimer(timer, 0.0)

    def why_lost(self, code: int | None) -> str:
        """Return why a process that ended with this code read no recording, and what to do, as half a sentence."""
        if code == -signal.SIGPROF:
            return f"reading it took more than {self.seconds:g} s of processor time; {SECONDS}=N allows more"
        if code == -signal.SIGALRM:
            return f"reading it took more than {self.seconds * WAITING:.1f} s; {SECONDS}=N allows more"
        if code == -signal.SIGKILL:
            return "reading it ended the process (signal 9), most often for want of memory"
        what = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"reading it ended the process ({what}); the file is damaged, or its reader is: export it again"

    def out_of_memory(self) -> str:
        """Return that reading needed too much memory, and what to do, as half a sentence."""
        return f"reading it needs more than {self.memory_bytes / 1e9:.1f} GB of memory; {GIGABYTES}=N allows more"


def _size(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.stat().st_size
        members = (member for member, _ in zip(path.rglob("*"), range(_MOST_MEMBERS), strict=False))
        return sum(member.stat().st_size for member in members if member.is_file())
    except (OSError, ValueError):  # the reader says what is wrong with it
        return 0


def _set_by(name: str) -> float | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SettingsError(f"the environment variable {name} is {text!r}; a number above 0 is needed")
    return value


@contextmanager
def _memory(n_bytes: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (n_bytes, soft, hard) if bound != resource.RLIM_INFINITY]
    with contextlib.suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@dataclass(frozen=True)
class LoadRequest:
    """A recording that is to be read and kept under a number; those ``released`` are let go first."""

    number: int
    title: str
    limits: ReadingLimits
    load: Callable[[], Any]
    released: tuple[int, ...]


@dataclass(frozen=True)
class SampleRequest:
    """Samples that are wanted of a kept recording: those of one signal, from the first to before the last of a span."""

    number: int
    signal: int
    span: tuple[int, int]
    rows: slice


def serve() -> None:
    """Read recordings for the process that started this one, until it ends."""
    import warnings
    from multiprocessing.connection import Connection

    requests, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    become_child()
    threading.Thread(target=_end_with_requests, args=(requests.fileno(),), daemon=True).start()
    kept: dict[int, Recording] = {}
    with contextlib.suppress(EOFError, OSError):
        sys.path[:] = requests.recv()
        import_module(READERS[0])
        while True:
            request = requests.recv()
            if isinstance(request, LoadRequest):
                for number in request.released:
                    kept.pop(number, None)
                answers.send(_loaded(request, kept))
            else:
                _send_samples(request, kept[request.number], answers)
    kept.clear()
    gc.collect()  # files that were unpacked for a recording go with it
    os._exit(0)  # nothing else is left to do, and taking libraries down costs as long as reading an hour


def _end_with_requests(pipe: int) -> None:
    import select

    poll = select.poll()
    poll.register(pipe, 0)  # nothing but that the other end was closed
    poll.poll()
    os._exit(0)


def _loaded(request: LoadRequest, kept: dict[int, Recording]) -> tuple[bool, Any]:
    try:
        loaded = within(request.title, request.limits, request.load)
    except BioperceptError as fault:
        return False, portable(fault)
    recording, *rest = loaded if isinstance(loaded, tuple) else (loaded,)
    kept[request.number] = recording
    bare = replace(recording, signals=tuple(replace(s, reader=_read_elsewhere) for s in recording.signals))
    return True, (bare, *rest) if isinstance(loaded, tuple) else bare


def _read_elsewhere(start: int, stop: int, rows: slice) -> FloatArray:
    raise NotImplementedError("samples are read where the recording is kept")


_is_within = False


def within(title: str, limits: ReadingLimits, load: Callable[[], Loaded]) -> Loaded:
    """Return what ``load`` gives within the limits, which hold for the recording's samples as well."""
    with _named(title, limits):
        loaded: Any = load()
    recording, *rest = loaded if isinstance(loaded, tuple) else (loaded,)
    signals = tuple(replace(s, reader=_limited(title, limits, s.reader)) for s in recording.signals)
    recording = replace(recording, signals=signals)
    return (recording, *rest) if isinstance(loaded, tuple) else recording  # type: ignore[return-value]


def _limited(title: str, limits: ReadingLimits, reader: SampleReader) -> SampleReader:
    def read(start: int, stop: int, rows: slice) -> FloatArray:
        with _named(title, limits):
            return reader(start, stop, rows)

    return read


@contextmanager
def _named(title: str, limits: ReadingLimits) -> Iterator[None]:
    """Keep the limits while the block runs. Raises RecordingError for whatever goes wrong in it.

    Within another such block, as of a file of a recording, those of that one hold.
    """
    global _is_within
    if _is_within:
        yield
        return
    _is_within = True
    try:
        with limits.kept():
            yield
    except BioperceptError as fault:
        if isinstance(fault.__cause__, MemoryError):
            raise RecordingError(f"{title}: {limits.out_of_memory()}") from fault
        raise
    except MemoryError as fault:
        raise RecordingError(f"{title}: {limits.out_of_memory()}") from fault
    except Exception as fault:
        raise RecordingError(f"{title}: {fault_of_ours(fault)}") from fault
    finally:
        _is_within = False


def _send_samples(request: SampleRequest, recording: Recording, answers: Connection) -> None:
    import numpy as np

    try:
        samples = np.ascontiguousarray(recording.signals[request.signal].reader(*request.span, request.rows))
    except BioperceptError as fault:
        answers.send((False, portable(fault)))
        return
    answers.send((True, (samples.shape, samples.dtype.str)))
    if samples.size:
        content = bytes_of(samples)
        for first in range(0, len(content), _PIECE):
            answers.send_bytes(content[first : first + _PIECE])


def bytes_of(samples: FloatArray) -> memoryview:
    """Return the bytes of an array whose samples lie one after the other, as they are sent and received."""
    return memoryview(samples.data).cast("B")
