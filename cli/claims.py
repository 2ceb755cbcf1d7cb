"""The folder of results that a command fills: nobody else writes there meanwhile, and it is marked until it is whole.

A command that was killed leaves the mark, and the same command line is then not refused for what it wrote before. One
that succeeded for no recording leaves it, too, and no command is then refused for the failures that are listed there.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import typer

_UNFINISHED, _NO_RESULT = ".unfinished", b"no recording succeeded"
_SAID_ANEW = frozenset(["--overwrite", "--json", "--debug", "-q", "--quiet", "-v", "--verbose"])
"""Options that may differ when a command is given again."""


@dataclass(frozen=True)
class _Taken:
    """A folder that a command took: its open, locked mark, whether it is new, and what was in it."""

    output: Path
    handle: int
    is_new: bool
    before: Mapping[str, tuple[int, int]]


class Claims:
    """The folders that one command took, until it ends."""

    def __init__(self) -> None:
        self._taken: list[_Taken] = []
        self._is_nothing_done = False

    def take(self, output: Path, line: str, *, overwrite: bool) -> None:
        """Take a folder for a command line; refuse one with something in it, unless this line left it unfinished.

        Raises OutputError where it is refused or cannot be written to, BusyError where another process writes there.
        """
        from biopercept.errors import OutputError
        from biopercept.files import locked, refuse_existing

        is_new, mark = not output.is_dir(), output / _UNFINISHED
        if not mark.is_file():
            refuse_existing(output, overwrite=overwrite)
        try:
            output.mkdir(parents=True, exist_ok=True)
            handle = locked(mark, output)
        except OSError as fault:
            raise OutputError(f"cannot write in {output}: {fault.strerror}; choose another output") from fault
        left, wanted = os.pread(handle, os.fstat(handle).st_size, 0), line.encode("utf-8", "surrogateescape")
        try:
            if left.startswith(_NO_RESULT):
                _remove(output, left.decode("utf-8", "surrogateescape").splitlines()[1:])
            if left != wanted:
                refuse_existing(output, overwrite=overwrite, beside=_UNFINISHED)
        except OutputError:
            os.close(handle)
            raise
        _write(handle, wanted)
        self._taken.append(_Taken(output, handle, is_new, _content(output)))

    def note_no_result(self) -> None:
        """Note that what is written are no results: of a folder that was empty the next command may replace it."""
        self._is_nothing_done = True

    def end(self, *, is_whole: bool) -> None:
        """Give the folders back: what is whole loses its mark, and so does a folder in which nothing was written."""
        for one in self._taken:
            now = _content(one.output)
            if self._is_nothing_done and not one.before and now:
                _write(one.handle, "\n".join([_NO_RESULT.decode(), *now]).encode("utf-8", "surrogateescape"))
            elif is_whole or now == one.before:
                (one.output / _UNFINISHED).unlink(missing_ok=True)
            if one.is_new and not now:
                with suppress(OSError):
                    one.output.rmdir()
            os.close(one.handle)


def _content(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what lies in a folder beside the mark, by name, with time and size; nothing where there is none."""
    members = [path for path in folder.iterdir() if path.name != _UNFINISHED] if folder.is_dir() else []
    return {path.name: ((about := path.lstat()).st_mtime_ns, about.st_size) for path in sorted(members)}


def _write(handle: int, content: bytes) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, content, 0)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove what a command that succeeded for no recording wrote, and nothing else that lies there."""
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


_RUNNING: list[tuple[str, Claims]] = []


def claim(output: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Take the folder of results for the command that runs; where none does, only refuse one with something in it.

    Raises OutputError with exit code 2 where something is in it and ``overwrite`` is not set, or where it is one of the
    ``inputs`` or lies among recordings that are read. Raises BusyError where another process writes there.
    """
    from biopercept.files import refuse_existing, refuse_inputs

    refuse_inputs(output, inputs)
    if _RUNNING:
        line, claims = _RUNNING[-1]
        claims.take(output, line, overwrite=overwrite)
    else:
        refuse_existing(output, overwrite=overwrite)


def nothing_done(*, quiet: bool = False) -> None:
    """Say that no recording succeeded; the list of failures is then nothing that the next command must not replace."""
    from .terminal import say

    if _RUNNING:
        _RUNNING[-1][1].note_no_result()
    say("no recording succeeded", quiet=quiet)


@contextmanager
def claiming(words: Sequence[str]) -> Iterator[None]:
    """Run a command, given its name and words; what it takes is given back when it ends, whole or not."""
    claims, is_whole = Claims(), False
    _RUNNING.append((shlex.join(word for word in words if word not in _SAID_ANEW), claims))
    try:
        yield
        is_whole = True
    except typer.Exit:  # some of many recordings failed: the results are there
        is_whole = True
        raise
    finally:
        _RUNNING.pop()
        claims.end(is_whole=is_whole)
