"""Tables (.tsv, .csv, .xlsx) read with their line numbers, every cell as text, every fault reported at once.

The paths in a study's tables are resolved here, links followed; each folder is looked up once, so that large tables
stay fast.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from biopercept.errors import library_words, listed
from biopercept.typed_values import dialect_of, did_you_mean, read_text

ENDINGS = (".tsv", ".csv", ".xlsx")
"""What a table of a study may end with; the first is what is written."""
TABLES = ("participants", "recordings", "events")
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
        return f"{self.table} {'row' if self.table.endswith('.xlsx') else 'line'} {self.number}"

    def at(self, column: str) -> str:
        """Return where a cell stands: of a sheet by its letter and number, as the program that shows it does."""
        if not self.table.endswith(".xlsx") or column not in self.cells:
            return self.where
        place, letters = list(self.cells).index(column) + 1, ""
        while place:
            place, rest = divmod(place - 1, 26)
            letters = chr(ord("A") + rest) + letters
        return f"{self.table} cell {letters}{self.number}"

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


def table_in(folder: Path, name: str, faults: list[str] | None = None) -> Path | None:
    """Return the table of a name in a folder, whatever it ends with; None where there is none.

    A fault is added where there are two, and where something of that name is no file.
    """
    named = [folder / f"{name}{ending}" for ending in ENDINGS]
    there = [path for path in named if path.is_file()]
    if faults is not None:
        if len(there) > 1:
            faults.append(f"{listed(path.name for path in there)} are all the table {name}; keep one of them")
        faults += [f"{path.name} is no file; a table is needed there" for path in named if _is_no_file(path)]
    return next(iter(there), None)


def _is_no_file(path: Path) -> bool:
    """Return whether something is at a path, or a link that leads nowhere, and is not a file."""
    return os.path.lexists(path) and not path.is_file()


def table_like(folder: Path, name: str) -> str:
    """Return "; did you mean X?" with a file of a folder that could be meant for a table that is not there."""
    others = [path.name for path in folder.iterdir() if path.is_file() and path.stem not in TABLES]
    return did_you_mean(f"{name}.tsv", others)


def read_table(path: Path, needed: tuple[str, ...], faults: list[str], *, name: str = "") -> Table:
    """Return the rows of a table; faults are added to ``faults``, and rows that have one are left out.

    ``needed`` are columns that must be there; ``name`` is what messages call the table, the file's name where empty.
    """
    title = name or path.name
    lines = _lines(path, title, needed, faults)
    if lines is None:
        return Table(title)
    top = next((place for place, (_, line) in enumerate(lines) if not line.startswith("#")), 0)  # comments on top
    number, header = lines[top] if lines else (1, "")
    columns = tuple(cell.strip() for cell in header.rstrip("\t").split("\t"))
    where = Row(title, number, {}).where
    if not _check_header(columns, needed, where, faults):
        return Table(title)
    kept = []
    for number, line in lines[top + 1 :]:
        if not line.strip():
            continue
        n_cells = line.count("\t") + 1
        if n_cells < len(columns) and title.endswith(".xlsx"):  # a sheet does not keep empty cells at the end of a row
            line, n_cells = line + "\t" * (len(columns) - n_cells), len(columns)
        if n_cells > len(columns):
            # Empty cells beyond the header hold nothing that could be lost.
            n_cells = max(len(line.rstrip().split("\t")), len(columns))
        if n_cells != len(columns):
            mark = "; cells are separated by tabs" if path.suffix.lower() not in ENDINGS[1:] else ""
            where = Row(title, number, {}).where
            faults.append(f"{where}: {n_cells} cells where the header has {len(columns)}{mark}")
        else:
            kept.append((number, line))
    if not kept:
        faults.append(f"{title} has no rows below its header")
    return Table(title, columns, tuple(kept))


def _lines(path: Path, title: str, needed: tuple[str, ...], faults: list[str]) -> list[tuple[int, str]] | None:
    """Return the rows of a table as lines of cells between tabs, each with its number; None with a fault."""
    ending = path.suffix.lower()
    if ending == ".xlsx":
        return _lines_of_sheet(path, title, faults)
    text = read_text(path, MAX_BYTES, faults)
    if text is None:
        return None
    if ending != ".csv":
        return list(enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1))
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    mark = max(";,\t", key=lambda one: len({cell.strip(' "') for cell in first.split(one)} & set(needed)))
    lines, before = [], 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    try:
        for cells in reader:
            lines.append((before + 1, _line_of(cells, Row(title, before + 1, {}).where, faults)))
            before = reader.line_num
    except csv.Error as fault:
        faults.append(f"{title} line {reader.line_num}: not a row of cells ({library_words(fault)})")
        return None
    return lines


def _line_of(cells: Iterable[str], where: str, faults: list[str]) -> str:
    """Return cells as a line with tabs between them; none can hold a tab or a line's end itself."""
    each = list(cells)
    if any(mark in cell for cell in each for mark in "\t\n\r"):
        faults.append(f"{where}: a cell holds a tab or a line's end; remove it")
    return "\t".join(" ".join(cell.split()) if any(m in cell for m in "\t\n\r") else cell for cell in each)


def _lines_of_sheet(path: Path, title: str, faults: list[str]) -> list[tuple[int, str]] | None:
    """Return the rows of the one sheet of a workbook, or of that with the table's name, as it shows values."""
    import zipfile

    import openpyxl

    if path.stat().st_size > MAX_BYTES:
        faults.append(f"{title} has {path.stat().st_size} bytes; {MAX_BYTES} are allowed")
        return None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            filled = {sheet.title: sheet for sheet in book.worksheets if sheet.max_row and any(_values(sheet, 1))}
            sheet = filled.get(path.stem) or (next(iter(filled.values())) if len(filled) == 1 else None)
            if sheet is None and not filled:
                return []
            if sheet is None:
                faults.append(
                    f"{title} has {len(filled)} sheets ({listed(filled)}); keep one, or name the one meant {path.stem}"
                )
                return None
            rows = enumerate(sheet.iter_rows(values_only=True), 1)
            return [(n, _line_of(map(_text_of, row), f"{title} row {n}", faults).rstrip("\t")) for n, row in rows]
        finally:
            book.close()
    except (OSError, KeyError, ValueError, TypeError, AttributeError, SyntaxError, zipfile.BadZipFile) as fault:
        faults.append(f"{title}: cannot be read as a workbook ({library_words(fault)}); save it again as .xlsx")
        return None


def _values(sheet: Any, n_rows: int) -> Iterator[Any]:
    for row in sheet.iter_rows(max_row=n_rows, values_only=True):
        yield from (value for value in row if value is not None)


def _text_of(value: Any) -> str:
    """Return a cell of a workbook as text: whole numbers without a point, times as ISO 8601 writes them."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _check_header(columns: tuple[str, ...], needed: tuple[str, ...], where: str, faults: list[str]) -> bool:
    table = re.split(" (?:line|row) ", where)[0]
    if columns == ("",):
        faults.append(f"{table} is empty; its first line must name the columns {', '.join(needed)}")
        return False
    absent = [column for column in needed if column not in columns]
    if absent and (words := dialect_of(columns)):
        advice = f"save it as tab-separated text, or call it {Path(table).stem}.csv"
        faults.append(
            f"{where}: {words}; {advice if table.endswith('.tsv') else 'save the table as tab-separated text'}"
        )
        return False
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        names = ", ".join(column or "without a name" for column in twice)
        faults.append(f"{where}: the column {names} is there twice")
        return False
    if absent:
        names = f"column {absent[0]!r} is" if len(absent) == 1 else f"columns {', '.join(map(repr, absent))} are"
        hint = "".join(did_you_mean(column, columns) for column in absent)
        faults.append(f"{where}: the {names} missing (there are: {', '.join(columns)}){hint}")
    return not absent


_PLACE = re.compile(
    r"(?P<table>[^:,]*?\.(?:tsv|yaml|json|csv|xlsx|gz|edf|bdf))"
    r"(?: (?:line |row |cell [A-Z]+)(?P<line>\d+))?(?:,[^:]*)?: "
)
_FEWEST_ALIKE = 3
_WITH_A_POINT = ", with a point: "
_DECIMAL_COMMAS = "decimal commas"
"""What all such cells of a table share, whatever their column: the program that wrote it, so it is one fault."""
_PLACES_SHOWN = 10
_NAMES_SHOWN = 40
"""Each name asks for a decision of its own, a line only for a look."""


def told_once(faults: Iterable[str]) -> tuple[str, ...]:
    """Return faults, each kind once: of three or more that differ only in place and values, the first with the count.

    Places are the lines of one table, or the tables of a data set that has one for each recording. Decimal commas are
    one fault of a table from the second on.

    >>> told_once(f"a.tsv line {n}: onset is 'x{n}'; a number of seconds is needed" for n in (2, 3, 4))
    ("a.tsv line 2: onset is 'x2'; a number of seconds is needed (so too in 2 more: lines 3, 4)",)
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in dict.fromkeys(faults):
        kinds.setdefault(_kind_of(fault), []).append(fault)
    once = []
    for (_, words), alike in kinds.items():
        fewest = 2 if words == _DECIMAL_COMMAS else _FEWEST_ALIKE
        n_more = len(alike) - 1
        what = "" if words != _DECIMAL_COMMAS else " cell" if n_more == 1 else " cells"
        once += alike if len(alike) < fewest else [f"{alike[0]} (so too in {n_more} more{what}: {_others(alike)})"]
    return tuple(once)


def _kind_of(fault: str) -> tuple[str, str]:
    """Return what a fault shares with those that differ only in place and values."""
    place = _PLACE.match(fault)
    if fault.startswith("task "):
        return "", fault  # tasks are few, and each is a matter of its own
    table = "" if place is None else re.split(r"[_/]", place["table"])[-1]
    if _WITH_A_POINT in fault:
        return table, _DECIMAL_COMMAS
    words = re.sub(r"; did you mean [^?]*\?", "", fault if place is None else fault[place.end() :])
    if place is not None and place["line"] == "1":
        return table, words  # of a header the names are what is at fault
    return table, re.sub(r"\d+(\.\d+)?", "#", re.sub(r"'[^']*'", "*", words))


def _others(alike: Sequence[str]) -> str:
    """Return where the second fault and those after it are, in a few words."""
    places = [_PLACE.match(fault) for fault in alike]
    if all(place is not None and place["line"] for place in places) and len({p["table"] for p in places if p}) == 1:
        head = "rows " if places[0] and places[0]["table"].endswith(".xlsx") else "lines "
        names, most = [place["line"] for place in places[1:] if place], _PLACES_SHOWN
    elif all(places):
        head, names, most = "", [place.group().removesuffix(": ") for place in places[1:] if place], _PLACES_SHOWN
        if len({place["table"] for place in places if place}) == 1:  # it has been named
            names = [name.partition(", ")[2] or name for name in names]
    else:
        names = [
            next(iter(re.findall(r"'[^']*'", fault)), shorten(fault, 60, placeholder=" ...")) for fault in alike[1:]
        ]
        head, most = "", _NAMES_SHOWN
    names = list(dict.fromkeys(names))
    head = f"{head[:-2]} " if head and len(names) == 1 else head
    return f"{head}{listed(names, most)}"


def seconds_in(row: Row, column: str, faults: list[str], *, at_least: float | None = None) -> float | None:
    """Return a cell as finite seconds, or None with a fault added."""
    text = row.get(column).strip()
    try:
        # float() would take "1_000" and other scripts' digits: a table means neither.
        if "_" in text or not text.isascii():
            raise ValueError(text)
        value = float(text)
    except ValueError:
        faults.append(f"{row.at(column)}: {column} is {text!r}; a number of seconds is needed{point_words(text)}")
        return None
    if not math.isfinite(value) or (at_least is not None and value < at_least):
        allowed = "a finite number" if at_least is None else f"a finite number of at least {at_least:g}"
        faults.append(f"{row.at(column)}: {column} is {text!r}; {allowed} is needed")
        return None
    return value


def point_words(text: str) -> str:
    """Return how a number with a decimal comma is to be written, for the end of its fault; empty for other text."""
    with_point = text.strip().replace(",", ".")
    return "" if "," not in text or finite_number(with_point) is None else f"{_WITH_A_POINT}{with_point}"


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
