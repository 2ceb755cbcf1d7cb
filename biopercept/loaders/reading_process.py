"""The one door through which commands read recordings: in a process apart, so that a bad file costs itself alone.

Whatever loads a recording comes through it: a command, the plan of a study, the import of a data set.

The process is started once and reads one recording after the other; where one crashes it, hangs or eats all memory, it
is started again for the next. Samples stay there until they are asked for, in pieces, as the reader gives them: nothing
is rounded, and a long recording needs no more memory than before. Where no process was opened, as in a notebook,
recordings are read where they are asked for; in a child process, which is apart already, within the limits.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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
_WAITING = 10.0
_LATE_SECONDS = 20.0
"""The process has so long to start and to keep its limits by itself; it is killed where it does not."""
_MOST_MEMBERS = 10_000
_PIECE = 1 << 24
_END_SECONDS = 2.0
_GLANCE_SECONDS = 0.002
_READERS = "biopercept.prepare.sources", "numpy.ma"
"""What reads recordings, and what numpy imports at its first median."""


@dataclass(frozen=True, eq=False)
class Reading(Generic[Loaded]):
    """A recording that is to be read: what messages call it, its files, by whose size the limits are chosen, and how.

    ``load`` gives a recording, or a tuple that begins with one; it can be sent to another process.
    """

    title: str
    paths: tuple[Path, ...]
    load: Callable[[], Loaded]


def read_apart(reading: Reading[Loaded]) -> Loaded:
    """Return what a reading gives; read apart where a process was opened.

    Raises RecordingError where the recording cannot be read, or its process ended over it.
    """
    if _process is not None:
        return _process.load(reading)
    if not is_child():
        return reading.load()
    return _within(reading.title, ReadingLimits.of(reading.paths), reading.load)


def read_ahead(reading: Reading[Any]) -> None:
    """Have a recording read while this process does something else, where a process was opened; read it next.

    What is wrong with it is said when it is read.
    """
    if _process is not None:
        _process.ask(reading)


@contextmanager
def reading_apart(*, is_started: bool = False, meanwhile: Sequence[str] = ()) -> Iterator[None]:
    """Have recordings read in a process apart while the block runs.

    It starts with the first recording, or at once. ``meanwhile`` are modules that this process imports while the other
    one reads the first recording.
    """
    global _process
    before, _process = _process, ReadingProcess(meanwhile)
    try:
        if is_started:
            _process.start()
        yield
    finally:
        _process.close()
        _process = before


def end_reading() -> None:
    """End the process that reads, where one was opened, until the next recording: for work that reads elsewhere.

    Samples of recordings that were loaded before cannot be read any more.
    """
    if _process is not None:
        _process.close()


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
        timers = ((signal.ITIMER_PROF, signal.SIGPROF, 1.0), (signal.ITIMER_REAL, signal.SIGALRM, _WAITING))
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
            return f"reading it took more than {self.seconds * _WAITING:.1f} s; {SECONDS}=N allows more"
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


def _fresh_process(stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    flags = ["-I"] if sys.flags.isolated else ["-P"]  # nothing is imported from the folder that a user is in
    code = f"from {serve.__module__} import {serve.__name__}; {serve.__name__}()"
    return subprocess.Popen([sys.executable, *flags, "-c", code], stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)


def _can_be_split() -> bool:
    """Return whether this process may be split in two: alone of its threads, and before torch, whose threads die of it.

    A twin has all that is imported already, which saves a third of a second of processor time.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules


class _Twin:
    """A process that reads recordings, split off from this one; to be waited for and ended as one of ``subprocess``."""

    def __init__(self, theirs: tuple[int, int], ours: tuple[int, int]) -> None:
        for module in _READERS:
            import_module(module)
        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid:
            return
        try:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            for end, place in zip((*theirs, os.open(os.devnull, os.O_WRONLY)), range(3), strict=True):
                os.dup2(end, place)
            for end in {*theirs, *ours} - {0, 1, 2}:
                os.close(end)
            serve()
        finally:
            os._exit(1)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended. Raises TimeoutExpired where that takes longer."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self._pid, 0 if timeout is None else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("reading", timeout or 0.0)
            else:
                time.sleep(_GLANCE_SECONDS)

    def kill(self) -> None:
        """End it now."""
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)


class ReadingProcess:
    """A process that reads recordings, from the side of the one that needs them."""

    def __init__(self, meanwhile: Sequence[str] = ()) -> None:
        self._meanwhile = tuple(meanwhile)
        self._child: subprocess.Popen[bytes] | _Twin | None = None
        self._pipes: tuple[Connection, Connection] | None = None
        self._n_loaded = 0
        self._n_started = 0
        self._released: list[int] = []
        self._ahead: _Requested | None = None

    def start(self) -> None:
        """Start the process, where it is not running."""
        if self._child is not None:
            return
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        try:
            if _can_be_split():
                self._child = _Twin((theirs_in, theirs_out), (ours_in, ours_out))
            else:
                self._child = _fresh_process(theirs_in, theirs_out)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        from multiprocessing.connection import Connection  # while the other process starts

        self._pipes = Connection(ours_in, writable=False), Connection(ours_out, readable=False)
        self._n_started += 1
        self._released.clear()
        with contextlib.suppress(OSError):  # it died already: the first recording says so
            self._pipes[1].send(sys.path)

    def load(self, reading: Reading[Loaded]) -> Loaded:
        """Return what a reading gives there; the samples of its recording are fetched when they are read.

        Raises RecordingError where the recording cannot be read, or the process ended over it.
        """
        title, wanted, self._ahead = reading.title, self._ahead, None
        if wanted is not None and wanted.load != _pickled(reading.load):
            self._settle(wanted)  # another recording is to be read now
            wanted = None
        try:
            wanted = wanted or _Requested(self._send_load(reading))
        except OSError as fault:  # too many files are open, or there is no room for a process
            why = fault.strerror or type(fault).__name__
            raise RecordingError(f"{title}: the process that reads recordings cannot be started ({why})") from fault
        self._settle(wanted)
        if wanted.fault is not None:
            raise wanted.fault
        request, loaded = wanted.request, wanted.answer
        recording, *rest = loaded if isinstance(loaded, tuple) else (loaded,)
        place = _Place(self, self._n_started, request.number, title, request.limits)
        weakref.finalize(place, self._released.append, request.number)
        signals = tuple(replace(s, reader=_Samples(place, n)) for n, s in enumerate(recording.signals))
        recording = replace(recording, signals=signals)
        return (recording, *rest) if isinstance(loaded, tuple) else recording  # type: ignore[return-value]

    def ask(self, reading: Reading[Any]) -> None:
        """Have a recording read that will be loaded next, without waiting for it."""
        if self._ahead is None:
            with contextlib.suppress(OSError, SettingsError):  # said when it is loaded
                self._ahead = _Requested(self._send_load(reading), _pickled(reading.load))

    def _send_load(self, reading: Reading[Any]) -> _Load:
        """Send for a recording. Raises OSError where the process cannot be started."""
        limits = ReadingLimits.of(reading.paths)
        self.start()
        self._n_loaded += 1
        released = tuple(self._released)
        self._released.clear()
        request = _Load(self._n_loaded, reading.title, limits, reading.load, released)
        self._send(request)
        return request

    def _settle(self, wanted: _Requested) -> None:
        """Take the answer to what was asked for, where it was not taken, so that the next is for the next request."""
        if wanted.is_answered:
            return
        wanted.is_answered = True
        try:
            wanted.answer = self._answer(wanted.request.title, wanted.request.limits)
        except BioperceptError as fault:
            wanted.fault = fault

    def samples(self, place: _Place, signal: int, span: tuple[int, int], rows: slice) -> FloatArray:
        """Return samples, from the first to before the last of a span, of a recording that was loaded there.

        Raises RecordingError where they cannot be read, or the process ended over them, or over another recording.
        """
        import numpy as np

        if place.n_started != self._n_started or self._pipes is None:
            raise RecordingError(f"{place.title}: the process that it was read in has ended")
        if self._ahead is not None:
            self._settle(self._ahead)
        self._send(_Read(place.number, signal, span, rows))
        shape, kind = self._answer(place.title, place.limits)
        samples = np.empty(shape, dtype=kind)
        if samples.size:
            left = _bytes_of(samples)
            try:
                while len(left):
                    left = left[self._pipes[0].recv_bytes_into(left) :]
            except (EOFError, OSError) as fault:
                raise self._lost(place.title, place.limits) from fault
        return samples

    def _send(self, request: _Load | _Read) -> None:
        assert self._pipes is not None
        with contextlib.suppress(BrokenPipeError):  # said when the answer does not come
            self._pipes[1].send(request)

    def _answer(self, title: str, limits: ReadingLimits) -> Any:
        """Return what comes back for the request that was sent. Raises what it raised there."""
        assert self._pipes is not None
        try:
            self._import_meanwhile()
            if not self._pipes[0].poll(limits.seconds * _WAITING + _LATE_SECONDS):
                raise self._stopped(title, limits)
            is_well, answer = self._pipes[0].recv()
        except (EOFError, OSError) as fault:
            raise self._lost(title, limits) from fault
        except BaseException:
            self.close()  # an answer that nobody took would be the next request's
            raise
        if not is_well:
            raise answer
        return answer

    def _import_meanwhile(self) -> None:
        """Import what will be needed, without looking for garbage: there is none, and it takes a tenth of the time."""
        modules, self._meanwhile = self._meanwhile, ()
        if not modules:
            return
        was_looking = gc.isenabled()
        gc.disable()
        try:
            for module in modules:
                import_module(module)
        finally:
            if was_looking:
                gc.enable()

    def _lost(self, title: str, limits: ReadingLimits) -> RecordingError:
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_SECONDS)
        code = self._child.returncode
        self.close()
        return RecordingError(f"{title}: {limits.why_lost(code)}")

    def _stopped(self, title: str, limits: ReadingLimits) -> RecordingError:
        """End a process that neither answers nor keeps its limits: it was stopped, or waits for a disk."""
        assert self._child is not None
        self._child.kill()
        return RecordingError(f"{title}: {limits.why_lost(-signal.SIGALRM)}")

    def close(self) -> None:
        """End the process now."""
        child, pipes, self._child, self._pipes, self._ahead = self._child, self._pipes, None, None, None
        for pipe in pipes or ():
            pipe.close()
        if child is not None:
            try:
                child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


_process: ReadingProcess | None = None


@dataclass(eq=False)
class _Requested:
    """A recording that was asked for, how it is read as it was sent ahead, and the answer, where it was taken."""

    request: _Load
    load: bytes = b""
    is_answered: bool = False
    answer: Any = None
    fault: BioperceptError | None = None


def _pickled(load: Callable[[], Any]) -> bytes:
    from multiprocessing.reduction import ForkingPickler  # as it is sent; compared, and never read

    return bytes(ForkingPickler.dumps(load))


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a recording is kept; it is let go there once nothing here reads it any more."""

    process: ReadingProcess
    n_started: int
    number: int
    title: str
    limits: ReadingLimits


@dataclass(frozen=True, eq=False)
class _Samples:
    """Reads the samples of one signal of a recording that is kept elsewhere."""

    place: _Place
    signal: int

    def __call__(self, start: int, stop: int, rows: slice) -> FloatArray:
        return self.place.process.samples(self.place, self.signal, (start, stop), rows)


@dataclass(frozen=True)
class _Load:
    number: int
    title: str
    limits: ReadingLimits
    load: Callable[[], Any]
    released: tuple[int, ...]


@dataclass(frozen=True)
class _Read:
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
        import_module(_READERS[0])
        while True:
            request = requests.recv()
            if isinstance(request, _Load):
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


def _loaded(request: _Load, kept: dict[int, Recording]) -> tuple[bool, Any]:
    try:
        loaded = _within(request.title, request.limits, request.load)
    except BioperceptError as fault:
        return False, portable(fault)
    recording, *rest = loaded if isinstance(loaded, tuple) else (loaded,)
    kept[request.number] = recording
    bare = replace(recording, signals=tuple(replace(s, reader=_read_elsewhere) for s in recording.signals))
    return True, (bare, *rest) if isinstance(loaded, tuple) else bare


def _read_elsewhere(start: int, stop: int, rows: slice) -> FloatArray:
    raise NotImplementedError("samples are read where the recording is kept")


_is_within = False


def _within(title: str, limits: ReadingLimits, load: Callable[[], Loaded]) -> Loaded:
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


def _send_samples(request: _Read, recording: Recording, answers: Connection) -> None:
    import numpy as np

    try:
        samples = np.ascontiguousarray(recording.signals[request.signal].reader(*request.span, request.rows))
    except BioperceptError as fault:
        answers.send((False, portable(fault)))
        return
    answers.send((True, (samples.shape, samples.dtype.str)))
    if samples.size:
        content = _bytes_of(samples)
        for first in range(0, len(content), _PIECE):
            answers.send_bytes(content[first : first + _PIECE])


def _bytes_of(samples: FloatArray) -> memoryview:
    return memoryview(samples.data).cast("B")
