"""Work that several processes or machines share through one folder: whose each unit is, its lock, and what is missing.

Unit k (of 0, 1, ...) belongs to part k mod n + 1 of n. A lock is a file, made by one process alone, that says which
process of which machine works on the unit and is touched while it does; one that was not touched for
:data:`EXPIRES_SECONDS`, or whose process on this machine has ended, does not count. It is never removed by another
process: who takes over makes the next generation of it. Locks only save work. Results are written whole, and two
processes that do the same unit write the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from biopercept.errors import OutputError, SettingsError, UnfinishedError, listed
from biopercept.files import MACHINE, is_running

BEAT_SECONDS, EXPIRES_SECONDS = 15.0, 180.0
"""A lock is touched so often; it counts as long: longer than NFS may show an old time of a file (60 s)."""

FOLDER = ".shared"
"""The folder, within that of the results, of locks and of what says which parts were begun."""

_PAUSE_SECONDS = 1.0
_JOIN = "join"
_ID, _COUNT, _FIRST, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))


def _say_nothing(sentence: str) -> None:
    pass


@dataclass(frozen=True)
class Part:
    """One of ``n_parts`` parts of some work; ``number`` is 1 for the first."""

    number: int
    n_parts: int

    def __str__(self) -> str:
        """Return how messages call it."""
        return f"part {self.number} of {self.n_parts}"

    @staticmethod
    def of(text: str) -> Part:
        """Return the part that is meant by "2/4". Raises SettingsError where none is."""
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise SettingsError(
                f"--part {text}: I/N is needed, from 1/N to N/N, such as 2/4; or slurm, in an array job"
            )
        return Part(int(match[1]), int(match[2]))

    @staticmethod
    def of_slurm(environment: Mapping[str, str]) -> Part | None:
        """Return which task of an array job of SLURM this is; None outside such a job, or where it is the only one.

        Raises SettingsError where the variables of SLURM do not tell, as for an array such as 1,3,7.
        """
        if _ID not in environment or _COUNT not in environment:
            return None
        values = {name: environment.get(name, usual) for name, usual in ((_ID, ""), (_COUNT, ""), (_STEP, "1"))}
        values[_FIRST] = environment.get(_FIRST, "0")
        try:
            task, count, first, step = (int(values[name]) for name in (_ID, _COUNT, _FIRST, _STEP))
            place, rest = divmod(task - first, step)
        except (ValueError, ZeroDivisionError):
            place, rest, count = 0, 1, 0
        if rest or not 0 <= place < count:
            given = ", ".join(f"{name}={value}" for name, value in values.items())
            raise SettingsError(f"which part of the work this is does not follow from {given}; give --part I/N")
        return Part(place + 1, count) if count > 1 else None

    def has(self, index: int) -> bool:
        """Return whether the unit in this place, from 0, belongs to the part."""
        return index % self.n_parts == self.number - 1


@dataclass(frozen=True)
class Sharing:
    """What one process does of shared work: the units of its part; None does none, and joins what is there.

    ``on_wait`` is called with a sentence where units of the part are being done by another process.
    """

    part: Part | None = None
    on_wait: Callable[[str], None] = field(default=_say_nothing, compare=False)


class Locks:
    """Locks of units by name, as files in a folder; those of this process are touched until the block ends.

    Names are names of files. Raises OutputError where the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: dict[str, Path] = {}
        self._clock = folder / f"clock-{MACHINE}-{os.getpid()}"
        self._is_over = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        """Begin to touch what is taken."""
        self._make_folder()
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what was taken."""
        self._is_over.set()
        for name in (*self._mine,):
            self.release(name)
        with suppress(OSError):
            self._clock.unlink(missing_ok=True)
            self._folder.rmdir()  # not while anything is in it

    def take(self, name: str) -> bool:
        """Take the lock of a unit, or one whose process has ended; return False where another process holds it.

        Raises OutputError where nothing can be written.
        """
        generation, path = self._newest(name)
        if path is not None and self._counts(path):
            return False
        fresh = self._path(name, generation + 1)
        about = {"host": socket.gethostname(), "machine": MACHINE, "process": os.getpid()}
        self._make_folder()
        try:
            handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:  # another process was quicker
            return False
        except OSError as fault:
            raise OutputError(f"cannot write in {self._folder}: {fault.strerror}") from fault
        try:
            os.write(handle, json.dumps(about).encode())
        finally:
            os.close(handle)
        self._mine[name] = fresh
        return True

    def release(self, name: str) -> None:
        """Give a lock back, with the generations of it that it took over."""
        if self._mine.pop(name, None) is None:
            return
        generation, _ = self._newest(name)
        for number in range(generation, -1, -1):  # there is none without the one before it
            with suppress(OSError):  # already swept away with the folder
                self._path(name, number).unlink(missing_ok=True)

    def holder(self, name: str) -> str:
        """Return which process holds a lock, as half a sentence; empty where none does."""
        _, path = self._newest(name)
        if path is None or not self._counts(path):
            return ""
        about = _read(path)
        return f"process {about.get('process', 'unknown')} on {about.get('host', 'an unknown host')}"

    def _make_folder(self) -> None:
        """Make the folder where it is not there; who joins removes it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise OutputError(f"cannot write in {self._folder.parent}: {fault.strerror}") from fault

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation}.lock"

    def _newest(self, name: str) -> tuple[int, Path | None]:
        """Return the newest generation of a lock and its file; -1 and None where there is none."""
        generation = -1
        while self._path(name, generation + 1).exists():
            generation += 1
        return generation, None if generation < 0 else self._path(name, generation)

    def _counts(self, path: Path) -> bool:
        """Return whether the process that made a lock still works."""
        about = _read(path)
        if about.get("machine") == MACHINE and not is_running(int(about.get("process", 0))):
            return False
        try:
            return abs(self._now() - path.stat().st_mtime) <= EXPIRES_SECONDS  # a clock set back expires, too
        except OSError:  # given back meanwhile, with the folder perhaps
            return False

    def _now(self) -> float:
        """Return the time by the clock of the file system, which is not that of every machine."""
        self._make_folder()
        self._clock.touch()
        return self._clock.stat().st_mtime

    def _beat(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            for path in (*self._mine.values(),):
                with suppress(OSError):
                    os.utime(path)


def _read(path: Path) -> dict[str, Any]:
    """Return what a lock says of its process; nothing where it is just being made, or was when its process ended."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


class Units:
    """The units of work of a command: those that this process is to do now, and in the end whether all are done.

    ``titles`` are what messages call the units, by a name that a file can have, in their order; ``what`` is the plural
    of their kind ("folds"). ``is_done`` says of a name whether its result is there. Without ``sharing`` all units that
    are not done are this process's, and there are no locks.
    """

    def __init__(
        self,
        sharing: Sharing | None,
        output: Path,
        titles: Mapping[str, str],
        is_done: Callable[[str], bool],
        what: str,
    ) -> None:
        self._sharing = sharing
        self._folder = output / FOLDER
        self._titles = titles
        self._is_done = is_done
        self._what = what
        self._locks: Locks | None = None

    def __enter__(self) -> Self:
        """Say which part was begun."""
        if self._sharing is not None and self._sharing.part is not None:
            self._locks = Locks(self._folder).__enter__()
            part = self._sharing.part
            (self._folder / f"part-{part.number}-of-{part.n_parts}").touch()
        return self

    def __exit__(self, *fault: object) -> None:
        """Give back the locks."""
        if self._locks is not None:
            self._locks.__exit__(*fault)

    def rounds(self) -> Iterator[tuple[str, ...]]:
        """Give the names of units to be done now, until none is left; each is locked until :meth:`done`.

        Units of the part that another process is doing come last, where it ended without a result.
        """
        if self._sharing is None:
            if waiting := tuple(name for name in self._titles if not self._is_done(name)):
                yield waiting
            return
        if self._locks is None or self._sharing.part is None:
            return
        left = [name for index, name in enumerate(self._titles) if self._sharing.part.has(index)]
        has_waited = False
        while left := [name for name in left if not self._is_done(name)]:
            taken = tuple(name for name in left if self._locks.take(name))
            for name in taken:
                if self._is_done(name):  # between the question and the lock
                    self._locks.release(name)
            if now := tuple(name for name in taken if not self._is_done(name)):
                yield now
                for name in now:
                    self._locks.release(name)
                left = [name for name in left if name not in now]
            elif not taken:
                if not has_waited:
                    self._sharing.on_wait(self._waiting_words(left))
                has_waited = True
                time.sleep(_PAUSE_SECONDS)

    def done(self, name: str) -> None:
        """Say that the result of a unit is there."""
        if self._locks is not None:
            self._locks.release(name)

    def _waiting_words(self, names: Sequence[str]) -> str:
        assert self._locks is not None
        titles = listed(self._titles[name] for name in names)
        holder = next(filter(None, map(self._locks.holder, names)), "another process")
        return f"waiting for {self._what} that {holder} is doing: {titles}"

    def require_all(self) -> None:
        """Raise UnfinishedError where results are missing, saying whose they are; its exit code is 0 for a part."""
        missing = [name for name in self._titles if not self._is_done(name)] if self._sharing is not None else []
        if self._sharing is None or not missing:
            return
        words = f"{len(missing)} of {len(self._titles)} {self._what} are not done"
        words += f": {listed(self._titles[name] for name in missing)}{self._whose(missing)}"
        if self._sharing.part is None:
            raise UnfinishedError(f"{words}; run what is missing, then --collect once more; no result was written")
        fault = UnfinishedError(
            f"{self._sharing.part} is done; {words}; the last part joins all, and so does --collect"
        )
        fault.exit_code = 0
        raise fault

    def _whose(self, missing: Sequence[str]) -> str:
        """Return in brackets whose the units are; nothing where that is not known, or parts were begun of several n."""
        begun, order = _parts_begun(self._folder), [*self._titles]
        counts = {part.n_parts for part in begun}
        if len(counts) != 1:
            return ""
        n_parts = counts.pop()
        parts = [Part(number, n_parts) for number in sorted({order.index(name) % n_parts + 1 for name in missing})]
        never = listed(str(part.number) for part in parts if part not in begun)
        words = f"part{'s' if len(parts) > 1 else ''} {listed(str(part.number) for part in parts)} of {n_parts}"
        return f" ({words}; never begun: {never})" if never else f" ({words})"


def is_begun(output: Path) -> bool:
    """Return whether parts of what lies in a folder were begun and are not joined yet."""
    return bool(_parts_begun(output / FOLDER))


def _parts_begun(folder: Path) -> set[Part]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    matches = (re.fullmatch(r"part-(\d+)-of-(\d+)", name) for name in names)
    return {Part(int(match[1]), int(match[2])) for match in matches if match is not None}


@contextmanager
def joining(sharing: Sharing | None, output: Path) -> Iterator[None]:
    """Be the only process that joins the results of all parts; what tells of parts is removed once it has.

    Raises UnfinishedError, with exit code 0, where this is a part and another process is joining.
    """
    if sharing is None:
        yield
        shutil.rmtree(output / FOLDER, ignore_errors=True)  # of parts that this run has made up for
        return
    with Locks(output / FOLDER) as locks:
        while not locks.take(_JOIN):
            if sharing.part is not None:
                holder = locks.holder(_JOIN) or "another process"
                fault = UnfinishedError(f"{sharing.part} is done, and so are all others; {holder} is joining them")
                fault.exit_code = 0
                raise fault
            time.sleep(_PAUSE_SECONDS)
        yield
        shutil.rmtree(output / FOLDER, ignore_errors=True)
