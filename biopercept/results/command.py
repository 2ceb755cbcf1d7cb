"""``command.json``: the commands that made a folder of results, in the order in which they were given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from biopercept.results.reading import read_result, write_result
from biopercept.version import __version__

_ABSOLUTE = re.compile(r"([^/=]*=)?(/.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class CommandFile:
    """Command lines as a shell takes them; ``biopercept`` is the version of the last one.

    Of a path from the root of the disk its last name alone stands there, so that no folder of a machine is carried.
    """

    FILE: ClassVar[str] = "command.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "biopercept"

    biopercept: str
    commands: tuple[str, ...]


def add_command(folder: Path, words: Sequence[str], *, is_first: bool) -> None:
    """Write down that a command made the results in a folder; one that ``is_first`` replaces what stood there.

    The same line is kept once. Raises OutputError where it cannot be written.
    """
    path = folder / CommandFile.FILE
    line = shlex.join(_without_folders(str(word)) for word in words)
    known = () if is_first else commands_of(folder)
    kept = tuple(other for other in known if other != line)
    write_result(path, CommandFile(biopercept=__version__, commands=(*kept, line)))


def _without_folders(word: str) -> str:
    match = _ABSOLUTE.fullmatch(word)
    return word if match is None else f"{match[1] or ''}{PurePosixPath(match[2]).name}"


def commands_of(folder: Path) -> tuple[str, ...]:
    """Return the commands that made a folder; none where they were not written down.

    Raises StudyError where the file is damaged.
    """
    path = folder / CommandFile.FILE
    return read_result(path, CommandFile).commands if path.is_file() else ()
