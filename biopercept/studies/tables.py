"""Tab-separated tables read with their line numbers, every cell as text, every fault reported at once.

The paths in a study's tables are resolved here, links followed; each folder is looked up once, so that large tables
stay fast.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from biopercept.typed_values import did_you_mean, read_text

MAX_BYTES = 256 << 20
MAX_NAME = 64
MISSING = frozenset({"", "n/a", "nan"})
"""Words (in lower case) that BIDS and common tools write for a missing value; "none" may be a label."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: its cells by column, and the number of the line, counted from 1."""

    table: str
    number: int
    cells: dict[str, str]

    @property
    def where(self) -> str:
        """Return where it stands, as messages say it."""
        return f"{self.table} line {self.number}"

    def get(self, column: str) -> str:
        """Return the cell's text, empty where the table lacks the column."""
        return self.cells.get(column, "")

    def is_missing(self, column: str) -> bool:
        """Return whether the cell is empty or says so in the words of BIDS ("n/a")."""
        return self.get(column).strip().lower() in MISSING


@dataclass(frozen=True)
class Table:
    """A table's columns, and its lines by their number; rows are made of them as they are drawn, to save memory."""

    name: str
    columns: tuple[str, ...] = ()
    lines: tuple[tuple[int, str], ...] = field(default=(), repr=False)

    def __iter__(self) -> Iterator[Row]:
        for number, line in self.lines:
            cells = line.split("\t")
            yield Row(self.name, number, dict(zip(self.columns, cells, strict=False)))


def read_table(path: Path, needed: tuple[str, ...], faults: list[str], *, name: str = "") -> Table:
    """Return the rows of a .tsv file; faults are added to ``faults``, and rows that have one are left out.

    ``needed`` are columns that must be there; ``name`` is what messages call the table, the file's name where empty.
    """
    title = name or path.name
    text = read_text(path, MAX_BYTES, faults)
    if text is None:
        return Table(title)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    top = next((place for place, line in enumerate(lines) if not line.startswith("#")), 0)  # comments may stand on top
    columns = tuple(cell.strip() for cell in lines[top].split("\t"))
    if not _check_header(columns, needed, f"{title} line {top + 1}", faults):
        return Table(title)
    kept = []
    for number, line in enumerate(lines[top + 1 :], top + 2):
        if not line.strip():
            continue
        n_cells = line.count("\t") + 1
        if n_cells > len(columns):
            # Empty cells beyond the header hold nothing that could be lost.
            n_cells = max(len(line.rstrip().split("\t")), len(columns))
        if n_cells != len(columns):
            faults.append(
                f"{title} line {number}: {n_cells} cells where the header has {len(columns)}; cells are separated by "
                "tabs"
            )
        else:
            kept.append((number, line))
    if not kept:
        faults.append(f"{title} has no rows below its header")
    return Table(title, columns, tuple(kept))


def _check_header(columns: tuple[str, ...], needed: tuple[str, ...], where: str, faults: list[str]) -> bool:
    if columns == ("",):
        table = where.rpartition(" line ")[0]
        faults.append(f"{table} is empty; its first line must name the columns {', '.join(needed)}")
        return False
    if len(columns) == 1 and any(mark in columns[0] for mark in ",; ") and len(needed) > 1:
        faults.append(f"{where}: the columns are not separated by tabs; save the table as tab-separated text")
        return False
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        faults.append(f"{where}: the column {', '.join(twice)} is there twice")
        return False
    absent = [column for column in needed if column not in columns]
    if absent:
        names = f"column {absent[0]!r} is" if len(absent) == 1 else f"columns {', '.join(map(repr, absent))} are"
        hint = "".join(did_you_mean(column, columns) for column in absent)
        faults.append(f"{where}: the {names} missing (there are: {', '.join(columns)}){hint}")
    return not absent


_PLACE = re.compile(r"(?P<table>[^:,]*?\.(?:tsv|yaml|json|csv|gz|edf|bdf))(?:,[^:]*| line (?P<line>\d+))?: ")
_FEWEST_ALIKE = 3
_PLACES_SHOWN = 10
_NAMES_SHOWN = 40
"""Each name asks for a decision of its own, a line only for a look."""


def told_once(faults: Iterable[str]) -> tuple[str, ...]:
    """Return faults, each kind once: of three or more that differ only in place and values, the first with the count.

    Places are the lines of one table, or the tables of a data set that has one for each recording.

    >>> told_once(f"a.tsv line {n}: onset is 'x{n}'; a number of seconds is needed" for n in (2, 3, 4))
    ("a.tsv line 2: onset is 'x2'; a number of seconds is needed (so too in 2 more: lines 3, 4)",)
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in dict.fromkeys(faults):
        kinds.setdefault(_kind_of(fault), []).append(fault)
    once = []
    for alike in kinds.values():
        once += (
            alike if len(alike) < _FEWEST_ALIKE else [f"{alike[0]} (so too in {len(alike) - 1} more: {_others(alike)})"]
        )
    return tuple(once)


def _kind_of(fault: str) -> tuple[str, str]:
    """Return what a fault shares with those that differ only in place and values."""
    place = _PLACE.match(fault)
    if fault.startswith("task "):
        return "", fault  # tasks are few, and each is a matter of its own
    table = "" if place is None else re.split(r"[_/]", place["table"])[-1]
    words = re.sub(r"; did you mean [^?]*\?", "", fault if place is None else fault[place.end() :])
    if place is not None and place["line"] == "1":
        return table, words  # of a header the names are what is at fault
    return table, re.sub(r"\d+(\.\d+)?", "#", re.sub(r"'[^']*'", "*", words))


def _others(alike: Sequence[str]) -> str:
    """Return where the second fault and those after it are, in a few words."""
    places = [_PLACE.match(fault) for fault in alike]
    if all(place is not None and place["line"] for place in places) and len({p["table"] for p in places if p}) == 1:
        head, names, most = "lines ", [place["line"] for place in places[1:] if place], _PLACES_SHOWN
    elif all(places):
        head, names, most = "", [place.group().removesuffix(": ") for place in places[1:] if place], _PLACES_SHOWN
    else:
        names = [next(iter(re.findall(r"'[^']*'", fault)), fault[:60]) for fault in alike[1:]]
        head, most = "", _NAMES_SHOWN
    return f"{head}{', '.join(names[:most])}{', ...' if len(names) > most else ''}"


def seconds_in(row: Row, column: str, faults: list[str], *, at_least: float | None = None) -> float | None:
    """Return a cell as finite seconds, or None with a fault added."""
    text = row.get(column).strip()
    try:
        # float() would take "1_000" and other scripts' digits: a table means neither.
        if "_" in text or not text.isascii():
            raise ValueError(text)
        value = float(text)
    except ValueError:
        faults.append(f"{row.where}: {column} is {text!r}; a number of seconds is needed")
        return None
    if not math.isfinite(value) or (at_least is not None and value < at_least):
        allowed = "a finite number" if at_least is None else f"a finite number of at least {at_least:g}"
        faults.append(f"{row.where}: {column} is {text!r}; {allowed} is needed")
        return None
    return value


@lru_cache(maxsize=1 << 16)
def name_fault(value: str, what: str) -> str | None:
    """Return what is wrong with an id (subject, session, recording), or None where it can be used everywhere.

    Ids end up in file names on any system, so they must be 1 to 64 visible characters without separators.
    """
    shown = ascii(value if len(value) <= MAX_NAME else value[:20] + "...")
    if value.strip().lower() in MISSING:
        return f"the {what} is missing ({shown})"
    if value != value.strip():
        return f"the {what} {shown} has blanks around it; remove them"
    if len(value) > MAX_NAME:
        return f"the {what} {shown} has {len(value)} characters; {MAX_NAME} are allowed"
    if value in (".", "..") or value[0] == "-" or any(c in '/\\:*?"<>|' or not c.isprintable() for c in value):
        return f"the {what} {shown} cannot be part of a file name; use letters, digits, '_', '.' and '-' (not first)"
    if unicodedata.normalize("NFC", value) != value:
        return f"the {what} {shown} is not in composed Unicode form (NFC); retype it"
    return None


def folded(value: str) -> str:
    """Return the form in which two ids count as the same: on disks that do not tell case, and to the eye."""
    return unicodedata.normalize("NFKC", value).casefold()


class Places:
    """Follows paths; made for one reading of a study and thrown away, so nothing it remembers grows old."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def real(self, path: Path) -> Path:
        """Return the path with every link followed.

        Raises OSError where links go round in a circle.
        """
        text = os.fspath(path)
        parent, name = os.path.split(text)
        # "..", "." and links at the end mean something only to the system.
        if name in ("", ".", "..") or os.path.islink(text):  # noqa: PTH114
            return path.resolve(strict=False)
        if parent not in self._folders:
            self._folders[parent] = os.path.realpath(parent)
        return Path(self._folders[parent], name)


def finite_number(text: str) -> float | None:
    """Return a cell as a finite number; None where it is none. "1_000" and other scripts' digits are none."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
