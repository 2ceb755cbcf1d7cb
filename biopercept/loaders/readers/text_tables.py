"""Text as columns: encoding, comments on top, delimiter, decimal sign, header and units of a table recognised.

Numbers are parsed by Python's own conversion, never by the quick ones of pandas: those read outside their tables where
an exponent is far too large, and the interpreter dies.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError, count
from biopercept.loaders.archives import unpacked
from biopercept.loaders.identity import identity_in_text
from biopercept.loaders.recognition import quantity_of
from biopercept.loaders.sidecars import without_suffix
from biopercept.recording import FloatArray

LARGEST_TEXT = 384 << 20
"""Bytes of unpacked text: about ten hours of one channel at 1000 Hz. A longer recording belongs in EDF."""
LARGEST_RATIO = 200
MOST_COLUMNS = 4096
LONGEST_LINE = 1 << 20
"""Characters of one line: 4096 columns of long numbers are a tenth of it."""
_DELIMITERS = ("\t", ";", ",", "|")
_HEAD_LINES = 50
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_QUOTED = re.compile(r'"([^"]*)"')
_GROUP_SIGN = {".": ",", ",": "."}
"""The sign between thousands, by the decimal sign."""
_GROUPED = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+") for sign in ".,"}
_THOUSANDS = {
    decimal: re.compile(rf"[+-]?[1-9]\d{{0,2}}(\{sign}\d{{3}})+\{decimal}\d+") for decimal, sign in _GROUP_SIGN.items()
}
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan", "#n/a"})
_MOST_TEXT_SHARE = 0.5
_MOST_ROWS_ABOVE = 4
_DATE_OR_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}:\d{2}")
_COMMENTS = re.compile(r"(?:[#%][^\r\n]*(?:\r\n|\r|\n)|[ \t]*(?:\r\n|\r|\n))+")


@dataclass(frozen=True, eq=False)
class TextTable:
    """Columns of a table: float64 with NaN where a cell is empty or no number; the cells where most of it is text.

    ``units`` are those that a row under the header gives, by name.
    """

    names: tuple[str, ...]
    columns: tuple[FloatArray | list[str], ...]
    notes: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> FloatArray | list[str] | None:
        """Return the first column of a name, in any case; None where there is none."""
        lower = [one.lower() for one in self.names]
        return self.columns[lower.index(name.lower())] if name.lower() in lower else None


@dataclass(frozen=True)
class _Dialect:
    """How the text of a table is divided; ``n_above`` are the lines before the one that ``text`` begins with.

    ``n_header_rows`` are rows of it that hold no data: names, and units.
    """

    delimiter: str
    decimal: str
    n_columns: int
    n_header_rows: int
    n_above: int


def read_text(path: Path, notes: list[str]) -> str:
    """Return the text of a file, plain or gzipped, up to its last line end.

    Raises RecordingError where it is too large, damaged or no text.
    """
    return _without_cut_line(_decoded(path, _content(path), notes), notes)


def read_text_table(path: Path, columns: tuple[str, ...] | None = None) -> TextTable:
    """Return the columns of a CSV or TSV file, plain or gzipped.

    Raises RecordingError where the text is too large, binary, without a header, or its lines differ in length.

    Lines that begin with # or % on top are comments; the last of them is the header where it names as many columns as
    the numbers below have. ``columns`` are the names that a sidecar gives; a file whose first line is not these names
    has no header. A row of units may stand under the header.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    text, hint = _without_hint(text)
    text, comments = _without_comments(text)
    head = _head(path, text)
    if not head:
        raise RecordingError(f"{path.name}: the file holds no complete line of text")
    delimiter = hint or _delimiter(path, head)
    header = _header_in(comments, head[0], delimiter) if columns is None else ""
    if header:
        text, head = f"{header}\n{text}", [header, *head]
    if comments:
        used = "; the last of them names the columns" if header else ""
        notes.append(f"{len(comments)} lines of comment on top are not data{used}")
        notes.extend(identity_in_text("\n".join(comments)))
    decimal = _decimal(head, delimiter)
    names, has_header = _names(path, head, delimiter, columns)
    n_rows_above, units = _rows_above(head, names, delimiter, has_header=has_header)
    n_above = len(comments) + bool(hint) - bool(header)
    dialect = _Dialect(delimiter, decimal, len(names), n_rows_above, n_above)
    return _table(path, text, names, dialect, notes, units)


def table_of_text(path: Path, text: str, names: Sequence[str], delimiter: str, notes: list[str]) -> TextTable:
    """Return the columns of text whose layout is known: no header, a decimal point, lines of ``names`` cells."""
    return _table(path, text, tuple(names), _Dialect(delimiter, ".", len(names), 0, 0), notes, {})


def _table(
    path: Path, text: str, names: tuple[str, ...], dialect: _Dialect, notes: list[str], units: Mapping[str, str]
) -> TextTable:
    cells = _parsed(path, text, dialect)
    values = tuple(
        _column(one.tolist() if one.dtype == object else one, name, dialect.decimal, notes)
        for one, name in zip(cells, names, strict=True)
    )
    n_short = _n_short_lines(text, dialect)
    if n_short:
        notes.append(
            f"{count(n_short, 'line has fewer', 'lines have fewer')}"
            f" than {len(names)} cells; those that lack are missing"
        )
    return TextTable(names, values, tuple(notes), units)


def _head(path: Path, text: str) -> list[str]:
    """Return the first lines, those within quotes joined. Raises RecordingError where a line has no end in sight."""
    head = text[: _HEAD_LINES * LONGEST_LINE]
    lines: list[str] = []
    for line in head.splitlines()[: 2 * _HEAD_LINES]:
        if len(line) > LONGEST_LINE:
            raise RecordingError(
                f"{path.name}: a line of {len(line) >> 10} kB, allowed are {LONGEST_LINE >> 10}; this is no table"
            )
        if lines and lines[-1].count('"') % 2:
            lines[-1] = f"{lines[-1]} {line}"
        elif line.strip():
            lines.append(line)
    return lines[: _HEAD_LINES + 1]


def _without_comments(text: str) -> tuple[str, list[str]]:
    """Return the text from its first line that is no comment, and the comments above it."""
    match = _COMMENTS.match(text)
    if match is None:
        return text, []
    return text[match.end() :], [line.strip() for line in match.group().splitlines() if line.strip()]


def _header_in(comments: list[str], first: str, delimiter: str) -> str:
    """Return the last comment as a header line where it names the columns of a first line of numbers; else nothing."""
    last = comments[-1].lstrip("#% ") if comments else ""
    names, cells = _cells(last, delimiter), _cells(first, delimiter)
    are_names = not any(_NUMBER.fullmatch(name) for name in names) and (len(names) > 1 or len(last.split()) == 1)
    return last if are_names and len(names) == len(cells) and _are_numbers(cells) else ""


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if they are gzip, never more than the limit."""
    limit, advice = LARGEST_TEXT, "MB of text; store recordings of this length as EDF or WFDB"
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if content[:2] == b"\x1f\x8b":
        limit = min(limit, max(LARGEST_RATIO * len(content), 1 << 26))
        return b"".join(unpacked(path, limit, f"more than {limit >> 20} {advice}"))
    if len(content) > limit:
        raise RecordingError(f"{path.name}: more than {limit >> 20} {advice}")
    return content


def _decoded(path: Path, content: bytes, notes: list[str]) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as fault:
            raise RecordingError(f"{path.name}: begins as UTF-16 text but is not; save it as UTF-8") from fault
    if b"\x00" in content:
        raise RecordingError(f"{path.name}: holds zero bytes, so it is not a text table")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        notes.append("the text is not UTF-8 and was read as Latin-1")
        return content.decode("latin-1")


def _without_cut_line(text: str, notes: list[str]) -> str:
    """Return the text up to its last line end: a file cut inside its last number looks whole otherwise."""
    if not text or text.endswith(("\n", "\r")):
        return text
    at = max(text.rfind("\n"), text.rfind("\r"))
    if at < 0:
        return text
    notes.append("the last line has no line end, so it may be cut and is left out")
    return text[: at + 1]


def _without_hint(text: str) -> tuple[str, str]:
    """Return the text without Excel's first line ``sep=;``, and the delimiter that the line names."""
    match = re.match(r'"?sep=(.)"?\r?\n', text)
    return (text[match.end() :], match[1]) if match else (text, "")


def _delimiter(path: Path, head: list[str]) -> str:
    """Return the delimiter that gives most lines the same number of cells, more than one; one column has none."""
    best, cells = ",", 1
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in head)
        usual, n_lines = counts.most_common(1)[0]
        # A comma inside decimal numbers divides data lines but not the header.
        if usual > 0 and n_lines >= 0.8 * len(head) and head[0].count(delimiter) == usual and usual + 1 > cells:
            best, cells = delimiter, usual + 1
            if delimiter in "\t;":
                break
    if cells == 1 and any(delimiter in head[0] for delimiter in _DELIMITERS):
        best = next(delimiter for delimiter in _DELIMITERS if delimiter in head[0])
        cells = head[0].count(best) + 1
    if cells > MOST_COLUMNS:
        raise RecordingError(f"{path.name}: {cells} columns, allowed are {MOST_COLUMNS}")
    return best


def _cells(line: str, delimiter: str) -> list[str]:
    if '"' in line:
        quoted = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        return [" ".join(cell.split()) for cell in quoted]
    return [cell.strip() for cell in line.split(delimiter)]


def _decimal(head: list[str], delimiter: str) -> str:
    """Return the decimal sign; a comma that also divides cells can only be one within quotes.

    "1,234" within quotes may be either thousands or decimals: that alone makes no comma the decimal sign.
    """
    if delimiter == ",":
        quoted = [cell.strip() for line in head[1:] for cell in _QUOTED.findall(line)]
        are_decimals = [bool(_DECIMAL_COMMA.fullmatch(cell)) and not _GROUPED[","].fullmatch(cell) for cell in quoted]
        return "," if any(are_decimals) else "."
    cells = [cell for line in head[1:] for cell in _cells(line, delimiter)]
    with_comma = sum(bool(_DECIMAL_COMMA.fullmatch(cell) or _THOUSANDS[","].fullmatch(cell)) for cell in cells)
    with_point = sum(
        "." in cell and bool(_NUMBER.fullmatch(cell)) and not _GROUPED["."].fullmatch(cell) for cell in cells
    )
    return "," if with_comma > with_point else "."


def _are_numbers(cells: list[str]) -> bool:
    return 2 * sum(bool(_NUMBER.fullmatch(cell)) or cell.lower() in _MISSING - {""} for cell in cells) >= len(cells)


def _names(
    path: Path, head: Sequence[str], delimiter: str, columns: tuple[str, ...] | None
) -> tuple[tuple[str, ...], bool]:
    """Return the column names and whether the first line holds them; an empty cell at the end of lines is no column."""
    cells = _cells(head[0], delimiter)
    is_numbers = _are_numbers(cells)
    is_spare = len(cells) > 1 and not any(_cells(line, delimiter)[-1] for line in head if len(line.strip()) > 1)
    if is_spare and (columns is None or len(columns) == len(cells) - 1):
        cells = cells[:-1]
    if columns is not None:
        if len(columns) != len(cells):
            raise RecordingError(
                f"{path.name}: the sidecar names {len(columns)} columns ({', '.join(columns)}),"
                f" the file has {len(cells)}; correct the sidecar"
            )
        return columns, not is_numbers
    if is_numbers or _begins_with_a_date(cells):
        raise RecordingError(_no_names(path, len(cells)))
    return tuple(cell or f"column {i + 1}" for i, cell in enumerate(cells)), True


def _begins_with_a_date(cells: Sequence[str]) -> bool:
    """Return whether a line is data although its numbers are few: a date, or a time of day, is no column's name."""
    return any(_DATE_OR_TIME.match(cell) for cell in cells) and any(_NUMBER.fullmatch(cell) for cell in cells)


def _no_names(path: Path, n_columns: int) -> str:
    """Return what to write where nothing names the columns."""
    sidecar = f"{without_suffix(path.name)}.json"
    first = f"{path.name}: the first line holds numbers and no column names; write "
    if n_columns == 1:
        return (
            f'{first}what the column is, and its rate, in {sidecar} beside it, for example {{"Columns": ["PPG"], '
            '"SamplingFrequency": 100}, or {"Columns": ["RR (ms)"]} of intervals from beat to beat'
        )
    shown = ", ".join(['"time (s)"', '"ECG (mV)"', '"EDA (uS)"', '"RESP"'][: min(n_columns, 4)])
    more = ", ..." if n_columns > 4 else ""
    return (
        f"{first}the names of the {n_columns} columns in {sidecar} beside it, for example "
        f'{{"Columns": [{shown}{more}]}}; without a column of times "SamplingFrequency" belongs there too'
    )


def _rows_above(
    head: Sequence[str], names: Sequence[str], delimiter: str, *, has_header: bool
) -> tuple[int, dict[str, str]]:
    """Return how many rows on top hold no data, and the units that one of them gives, by column."""
    if not has_header:
        return 0, {}
    units: dict[str, str] = {}
    for number, line in enumerate(head[1 : 1 + _MOST_ROWS_ABOVE], 1):
        cells = _cells(line, delimiter)
        if any(_NUMBER.fullmatch(cell) for cell in cells) or not any(cells):
            return (number, units) if units else (1, {})
        if not units and any(quantity_of(cell) for cell in cells):
            units = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
    return 1, {}


def _parsed(path: Path, text: str, dialect: _Dialect) -> list[np.ndarray]:
    """Return the cells of each column; a line with more cells than the header is refused, unless those are empty."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # The parser only warns where it cuts cells off, and then the columns that are left are not those named.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text),
                sep=dialect.delimiter,
                decimal=dialect.decimal,
                header=None,
                names=range(dialect.n_columns),
                skiprows=dialect.n_header_rows,
                index_col=False,
                skipinitialspace=True,
                skip_blank_lines=True,
                low_memory=False,
                on_bad_lines="error",
                float_precision="round_trip",
            )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as fault:  # a ParserError is a ValueError
        reason = _long_line(text, dialect) or " ".join(
            str(fault).replace("Error tokenizing data. C error:", "").split()
        )
        raise RecordingError(
            f"{path.name}: lines cannot be divided into {dialect.n_columns} columns ({reason}); correct them"
        ) from fault
    return [frame[i].to_numpy() for i in range(dialect.n_columns)]


def _long_line(text: str, dialect: _Dialect) -> str:
    """Return the first line with more cells than the header, in words; empty where cells are quoted or none has."""
    if '"' in text:
        return ""
    for number, line in enumerate(text.splitlines(), 1 + dialect.n_above):
        n_cells = line.rstrip(dialect.delimiter).count(dialect.delimiter) + 1
        if n_cells > dialect.n_columns:
            is_decimal = dialect.delimiter == "," and n_cells == 2 * dialect.n_columns
            hint = "; are these decimal commas? Then divide the cells by semicolons or tabs" if is_decimal else ""
            return f"line {number} has {n_cells}: {line.strip()[:40]!r}{hint}"
    return ""


def _column(cells: np.ndarray | list[object], name: str, decimal: str, notes: list[str]) -> FloatArray | list[str]:
    """Return a column as numbers with NaN for the rest, or as text where most of it is text."""
    if isinstance(cells, np.ndarray):
        numbers = cells.astype(np.float64)
        is_infinite = np.isinf(numbers)
        if is_infinite.any():
            notes.append(f"{name}: {int(is_infinite.sum())} cells are infinite and count as missing")
            numbers[is_infinite] = np.nan
        return numbers
    text = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    values = numbers_of(_plain(text, name, decimal, notes))
    is_text = np.isnan(values) & np.array([cell.lower() not in _MISSING for cell in text], dtype=bool)
    if is_text.sum() > _MOST_TEXT_SHARE * len(text):
        return text
    if not is_text.any():
        return values
    example = text[int(np.argmax(is_text))]
    notes.append(
        f"{name}: {int(is_text.sum())} cells are not numbers ({example[:20]!r} the first) and count as missing"
    )
    return values


def numbers_of(cells: Sequence[str]) -> FloatArray:
    """Return cells as numbers, (n,); NaN where one is none, or is larger than any number."""
    values = np.full(len(cells), np.nan)
    for place, cell in enumerate(cells):
        if cell.isascii() and "_" not in cell:  # float() would take "1_000" and other scripts' digits
            try:
                values[place] = float(cell)
            except ValueError:
                continue
    values[np.isinf(values)] = np.nan
    return values


def _plain(text: list[str], name: str, decimal: str, notes: list[str]) -> list[str]:
    """Return cells with a point as the decimal sign and nothing between thousands.

    Where the decimal sign is a comma, a point between groups of three digits can only divide thousands; the reverse is
    believed of columns in which a number has both.
    """
    sign = _GROUP_SIGN[decimal]
    full = [cell for cell in text if _THOUSANDS[decimal].fullmatch(cell)]
    grouped = full or ([cell for cell in text if _GROUPED[sign].fullmatch(cell)] if decimal == "," else [])
    if grouped:
        notes.append(f"{name}: {sign!r} in {grouped[0][:20]!r} divides thousands")
        is_grouped = [_THOUSANDS[decimal].fullmatch(cell) or _GROUPED[sign].fullmatch(cell) for cell in text]
        text = [cell.replace(sign, "") if grouped else cell for cell, grouped in zip(text, is_grouped, strict=True)]
    if decimal == ".":
        return text
    return [cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in text]


def _n_short_lines(text: str, dialect: _Dialect) -> int:
    """Return how many lines have too few cells; 0 without looking where cells are quoted."""
    if dialect.n_columns == 1 or '"' in text:
        return 0
    lines = text.splitlines()[dialect.n_header_rows :]
    return sum(line.count(dialect.delimiter) < dialect.n_columns - 1 for line in lines if line.strip())
