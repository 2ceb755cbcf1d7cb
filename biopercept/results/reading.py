"""Result files, written from and read into frozen dataclasses: JSON, YAML and tables, every fault one sentence."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast, get_type_hints

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.files import plain_cell, write_json, write_table
from biopercept.typed_values import FieldError, Interval, from_plain, omitted, to_plain, words_for
from biopercept.version import version_needed

_LARGEST_BYTES = 512 << 20
_MISSING = frozenset({"", "n/a", "nan", "NaN"})


def read_text(path: Path) -> str:
    """Return a whole UTF-8 text file, without its byte order mark.

    Raises StudyError where it is missing, not a plain file, over 512 MiB, unreadable or not UTF-8.
    """
    if not path.is_file():
        raise StudyError(f"{path} is missing; run the command that writes this folder again")
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise StudyError(f"{path} has {size:,} bytes; a result file has at most {_LARGEST_BYTES:,}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as fault:
        raise StudyError(f"cannot read {path}: {fault.strerror or fault}") from fault
    except UnicodeDecodeError as fault:
        raise StudyError(f"{path} is not UTF-8 text (byte {fault.start}); result files are written in UTF-8") from fault


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises StudyError where the file cannot be read, is not JSON, or holds something other than an object.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as fault:
        raise StudyError(f"{path} is not valid JSON ({fault}); run the command that writes it again") from fault
    except RecursionError as fault:
        raise StudyError(f"{path} is nested too deeply to be a result file") from fault
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds a JSON {type(content).__name__}; an object with named values is needed")
    return content


class ResultFile(Protocol):
    """A frozen dataclass whose fields are a JSON file of results, in order; ``COMMAND`` writes it.

    ``SCHEMA`` stands first in the file; another one is not read.
    """

    FILE: ClassVar[str]
    SCHEMA: ClassVar[int]
    COMMAND: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=ResultFile)
T = TypeVar("T")


def document_of(result: ResultFile) -> dict[str, Any]:
    """Return what the file of a result holds, as plain values."""
    return {"schema": result.SCHEMA, **to_plain(result)}


def write_result(path: Path, result: ResultFile) -> None:
    """Write a result as JSON, whole or not at all. Raises OutputError where it cannot be written."""
    write_json(path, document_of(result))


def read_result(path: Path, kind: type[R]) -> R:
    """Return the result that a file holds.

    Raises StudyError where the file is missing, of another schema, lacks a field or holds a value of another type.
    """
    content = read_json(path)
    require_schema(path, content, kind.SCHEMA)
    return read_document(path, kind, content, kind.COMMAND)


def require_schema(path: Path, content: Mapping[str, Any], schema: int) -> None:
    """Refuse what a file holds where it is of another schema. Raises StudyError, with the version that is needed."""
    if content.get("schema") != schema:
        newer = version_needed(content, schema)
        raise StudyError(
            f"{path} has schema {content.get('schema')!r}; this version of biopercept reads schema {schema}"
            f"{newer and f'; {newer}'}"
        )


def read_document(path: Path, kind: type[T], content: dict[str, Any], command: str) -> T:
    """Return what a file holds as a dataclass. Raises StudyError, with the file and the command that writes it."""
    try:
        return from_plain(kind, content)
    except FieldError as fault:
        again = f", run {command} again" if fault.is_absent else ""
        raise StudyError(fault.sentence(path) + again) from fault


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score, or a difference of two, over subjects with its 95 % bootstrap interval; None where it is not defined."""

    mean: float | None = None
    ci95: Interval | None = None

    @classmethod
    def of(cls, score: Estimate, **values: Any) -> Self:
        """Return an estimate of this kind from one that has its fields, but for those given as ``values``."""
        names = (part.name for part in fields(cls) if part.name not in values)
        return cls(**{name: getattr(score, name) for name in names}, **values)


@dataclass(frozen=True, kw_only=True)
class CountedEstimate(Estimate):
    """The same, with the number of subjects for whom it is defined."""

    n_subjects: int | None = omitted()


def row_of(value: Any) -> dict[str, object]:
    """Return a frozen dataclass as a row of a table: an interval as two columns, its lower and its upper end."""
    row: dict[str, object] = {}
    hints = get_type_hints(type(value), include_extras=True)
    for part in fields(value):
        name, hint, cell = part.metadata.get("name", part.name), hints[part.name], getattr(value, part.name)
        if hint == Interval | None:
            low, high = cell or (None, None)
            row |= {f"{name}_low": low, f"{name}_high": high}
        else:
            row[name] = cell
    return row


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write frozen dataclasses of one kind as a table, columns in the order of their fields; one at least.

    Raises OutputError where it cannot be written.
    """
    cells = [row_of(row) for row in rows]
    write_table(path, tuple(cells[0]), [tuple(row.values()) for row in cells])


def read_rows(path: Path, kind: type[T]) -> tuple[T, ...]:
    """Return the rows of a table as frozen dataclasses of text and numbers, as :func:`write_rows` wrote them.

    Raises StudyError where the table cannot be read, lacks the column of a field without default, or a cell is not of
    its field's type.
    """
    table, columns = read_table(path), {}
    hints = get_type_hints(kind)
    for part in fields(cast(Any, kind)):
        name, hint = part.metadata.get("name", part.name), hints[part.name]
        if part.default is MISSING or table.has(name):
            columns[part.name] = table.texts(name) if hint is str else table.values(name, hint)
    return tuple(kind(**dict(zip(columns, cells, strict=True))) for cells in zip(*columns.values(), strict=True))


def read_settings(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file of settings holds, empty where the file is; no tag is ever run.

    Raises StudyError where the file cannot be read, is not YAML, or holds something other than a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        line = getattr(getattr(fault, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise StudyError(f"{path} is not valid YAML{where}; run the command that writes it again") from fault
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds no settings; a mapping of names to values is needed")
    return content


@dataclass(frozen=True)
class ResultTable:
    """A table of a result folder, every cell as text, the guard against spreadsheet formulas taken off."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def has(self, column: str) -> bool:
        """Return whether there is such a column."""
        return column in self.columns

    def texts(self, column: str, default: str | None = None) -> tuple[str, ...]:
        """Return a column as text; ``default`` for every row where the column is optional and absent.

        Raises StudyError where the column is absent and there is no default.
        """
        if column not in self.columns:
            if default is not None:
                return (default,) * len(self.rows)
            raise StudyError(f"{self.path} has no column {column!r}; it has: {', '.join(self.columns)}")
        place = self.columns.index(column)
        return tuple(row[place] for row in self.rows)

    def numbers(self, column: str, *, optional: bool = False) -> NDArray[np.float64]:
        """Return a column as float64, shape (n_rows,), NaN where a cell is empty or "n/a".

        Raises StudyError where a cell is not a finite number, or the column is absent and not ``optional``.
        """
        cells = self.texts(column, "" if optional else None)
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if cell not in _MISSING:
                values[row] = self._number(cell, column, row)
        return values

    def values(self, column: str, hint: Any) -> list[float | None]:
        """Return a column as whole numbers, numbers, or numbers and None, as the annotation ``hint`` says.

        Raises StudyError as :meth:`numbers`, and where a number is missing that the annotation needs.
        """
        numbers = self.numbers(column)
        if hint in (int, float) and np.isnan(numbers).any():
            row = int(np.argmax(np.isnan(numbers))) + 1
            raise StudyError(f"{self.path} has no {column} in row {row}; {words_for(hint)} is needed")
        return [None if np.isnan(value) else int(value) if hint is int else float(value) for value in numbers]

    def _number(self, cell: str, column: str, row: int) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in cell:
            raise StudyError(f"{self.path} has {cell!r} in column {column!r}, row {row + 1}; a number is needed")
        return value


def read_table(path: Path) -> ResultTable:
    """Return a table of a result folder: commas in ``.csv``, tabs in ``.tsv``.

    Raises StudyError where it is missing, empty, has a column twice, or a row of another length than the header.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    try:
        rows = [tuple(plain_cell(cell) for cell in row) for row in reader if row]
    except csv.Error as fault:
        raise StudyError(f"{path} cannot be read as a table: {fault} in line {reader.line_num}") from fault
    if not rows:
        raise StudyError(f"{path} is empty; a header line is needed")
    columns = rows[0]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise StudyError(f"{path} has the column {twice[0]!r} twice; each name must be used once")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(columns):
            raise StudyError(f"{path} has {len(row)} cells in row {number}; its header has {len(columns)}")
    return ResultTable(path, columns, tuple(rows[1:]))


FEW_SUBJECTS = 20
"""Number of subjects below which every result warns that its intervals are rough.

A percentile bootstrap over subjects is too narrow by sqrt((n - 1) / n) and by reading normal instead of Student's t
quantiles: for a 95 % interval of a mean by 18 % with 10 subjects, 9 % with 20, 3 % with 50 (T. Hesterberg, "What
Teachers Should Know About the Bootstrap", The American Statistician 69, 2015, doi:10.1080/00031305.2015.1089789).
"""


def few_subjects_warnings(n_subjects: int) -> list[str]:
    """Return the warning that a result of this many subjects carries; an empty list where they are enough."""
    if n_subjects >= FEW_SUBJECTS:
        return []
    if n_subjects == 1:
        return ["only 1 subject: there is no interval, and nothing is said of other people"]
    return [f"only {n_subjects} subjects: intervals are rough and small differences mean nothing"]
