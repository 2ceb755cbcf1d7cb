"""What reading one recording may use: processor time, wall-clock time and memory, by the size of its files.

The kernel keeps the limits, so that they hold in the midst of a library that never comes back. They are kept in child
processes alone: in the process of a notebook or a script nothing is stopped.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from biopercept.errors import SettingsError
from biopercept.parallel import is_child, machine_memory

SECONDS, GIGABYTES = "BIOPERCEPT_READ_SECONDS", "BIOPERCEPT_READ_GB"
"""Environment variables that replace the limits of processor time and memory."""

_FEWEST_SECONDS, _SECONDS_PER_BYTE = 15.0, 2e-6
_FEWEST_BYTES, _BYTES_PER_BYTE = 2 << 30, 20
_WAITING = 10.0
_MOST_MEMBERS = 10_000


@dataclass(frozen=True)
class ReadingLimits:
    """Seconds of processor time and bytes of memory; by the clock it may take ten times as long.

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
