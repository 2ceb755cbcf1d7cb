"""The text of a CSV or TSV file as named columns of numbers, and its sidecar.

Encoding, delimiter, decimal sign and header are recognised. The JSON sidecar gives the sampling rate, start and
columns, and per column unit and modality (BIDS physio).
"""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError
from biopercept.recording import FloatArray

LARGEST_TEXT = 384 << 20
"""Bytes of unpacked text: about ten hours of one channel at 1000 Hz. A longer recording belongs in EDF."""
LARGEST_RATIO = 200
MOST_COLUMNS = 4096
_DELIMITERS = ("\t", ";", ",", "|")
_HEAD_LINES = 50
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-nan", "#n/a"})
_MOST_TEXT_SHARE = 0.5
LARGEST = 4 << 20


@dataclass(frozen=True, eq=False)
class TextTable:
    """Columns of a table.

    Attributes
    ----------
    names : tuple of str
        As the header gives them.
    columns : tuple of array or list of str
        float64 (n_rows,) with NaN where a cell is empty or not a number; the cells themselves
        where most of a column is text.
    """

    names: tuple[str, ...]
    columns: tuple[FloatArray | list[str], ...]
    notes: tuple[str, ...]


def read_text_table(path: Path, columns: tuple[str, ...] | None = None) -> TextTable:
    """Return the columns of a CSV or TSV file, plain or gzipped.

    Parameters
    ----------
    columns : tuple of str or None
        Names that a sidecar gives; a file whose first line is not these names has no header.

    Raises
    ------
    RecordingError
        Where the text is too large, binary, without a header, or its lines differ in length.
    """
    notes: list[str] = []
    text = _decoded(path, _content(path), notes)
    text = _without_cut_line(text, notes)
    text, hint = _without_hint(text)
    head = [line for line in text[: 1 << 18].splitlines()[: _HEAD_LINES + 1] if line.strip()]
    if not head:
        raise RecordingError(f"{path.name}: the file holds no complete line of text")
    delimiter = hint or _delimiter(path, head)
    decimal = _decimal(head, delimiter)
    names, has_header = _names(path, head[0], delimiter, columns)
    frame = _parsed(path, text, delimiter, decimal, len(names), has_header)
    held = tuple(
        _column(frame[i].tolist() if frame[i].dtype == object else frame[i], names[i], notes) for i in range(len(names))
    )
    n_short = _n_short_lines(text, delimiter, len(names), has_header)
    if n_short:
        notes.append(f"{n_short} lines have fewer than {len(names)} cells; those that lack are missing")
    return TextTable(names, held, tuple(notes))


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if they are gzip, never more than the limit."""
    with path.open("rb") as stream:
        packed = stream.read(LARGEST_TEXT + 1)
    if packed[:2] != b"\x1f\x8b":
        if len(packed) > LARGEST_TEXT:
            raise RecordingError(_too_large(path))
        return packed
    unpacked = bytearray()
    rest = packed
    try:
        while rest:
            engine = zlib.decompressobj(wbits=31)
            unpacked += engine.decompress(rest, LARGEST_TEXT + 1 - len(unpacked))
            if len(unpacked) > LARGEST_TEXT or engine.unconsumed_tail:
                raise RecordingError(_too_large(path))
            if not engine.eof:
                raise RecordingError(f"{path.name}: the gzip file is cut; copy it again")
            rest = engine.unused_data.lstrip(b"\x00")
            if len(unpacked) > max(LARGEST_RATIO * len(packed), 1 << 26):
                raise RecordingError(_too_large(path))
    except zlib.error as fault:
        raise RecordingError(f"{path.name}: the gzip file is damaged ({fault}); copy it again") from fault
    return bytes(unpacked)


def _too_large(path: Path) -> str:
    return f"{path.name}: more than {LARGEST_TEXT >> 20} MB of text; store recordings of this length as EDF or WFDB"


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
    if cells > MOST_COLUMNS:
        raise RecordingError(f"{path.name}: {cells} columns, allowed are {MOST_COLUMNS}")
    return best


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(delimiter)]


def _decimal(head: list[str], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    cells = [cell for line in head[1:] for cell in _cells(line, delimiter)]
    with_comma = sum(bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in cells)
    with_point = sum("." in cell and bool(_NUMBER.fullmatch(cell)) for cell in cells)
    return "," if with_comma > with_point else "."


def _names(path: Path, first: str, delimiter: str, columns: tuple[str, ...] | None) -> tuple[tuple[str, ...], bool]:
    """Return the column names and whether the first line holds them."""
    cells = _cells(first, delimiter)
    is_numbers = 2 * sum(bool(_NUMBER.fullmatch(cell)) or cell.lower() in _MISSING - {""} for cell in cells) >= len(
        cells
    )
    if columns is not None:
        if len(columns) != len(cells):
            raise RecordingError(
                f"{path.name}: the sidecar names {len(columns)} columns ({', '.join(columns)}),"
                f" the file has {len(cells)}; correct the sidecar"
            )
        return columns, not is_numbers
    if is_numbers:
        raise RecordingError(
            f"{path.name}: the first line holds numbers and no column names; add a header line, or a JSON sidecar"
            " with Columns"
        )
    return tuple(cell or f"column {i + 1}" for i, cell in enumerate(cells)), True


def _parsed(path: Path, text: str, delimiter: str, decimal: str, n_columns: int, has_header: bool) -> list[np.ndarray]:
    import pandas as pd

    try:
        frame = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            decimal=decimal,
            header=None,
            names=range(n_columns),
            skiprows=1 if has_header else 0,
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=True,
            low_memory=False,
            on_bad_lines="error",
        )
    except (ValueError, OverflowError, pd.errors.ParserWarning) as fault:  # a ParserError is a ValueError
        reason = " ".join(str(fault).replace("Error tokenizing data. C error:", "").split())
        raise RecordingError(
            f"{path.name}: lines cannot be divided into {n_columns} columns ({reason}); correct them"
        ) from fault
    return [frame[i].to_numpy() for i in range(n_columns)]


def _column(cells: np.ndarray | list[object], name: str, notes: list[str]) -> FloatArray | list[str]:
    """Return a column as numbers with NaN for the rest, or as text where most of it is text."""
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64)
    import pandas as pd

    text = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    values = pd.to_numeric(pd.Series(text, dtype=object), errors="coerce").to_numpy(np.float64)
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


def _n_short_lines(text: str, delimiter: str, n_columns: int, has_header: bool) -> int:
    """Return how many lines have too few cells; 0 without looking where cells are quoted."""
    if n_columns == 1 or '"' in text:
        return 0
    lines = text.splitlines()[1 if has_header else 0 :]
    return sum(line.count(delimiter) < n_columns - 1 for line in lines if line.strip())


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; every part may be absent.

    Attributes
    ----------
    sampling_rate : float or None
        Hz.
    start_seconds : float
        ``StartTime``: seconds from the recording's start to the first row.
    columns : tuple of str or None
    units, modalities : dict
        Column name -> what its entry says.
    """

    sampling_rate: float | None = None
    start_seconds: float = 0.0
    columns: tuple[str, ...] | None = None
    units: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a table lies: the same name with ``.json``."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return path.with_name(name).with_suffix(".json")


def read_sidecar(path: Path) -> Sidecar:
    """Return the sidecar of a table; an empty one where there is none.

    Raises
    ------
    RecordingError
        Where it is not JSON, or a value in it is not allowed.
    """
    file = sidecar_path(path)
    if not file.is_file():
        return Sidecar()
    try:
        if file.stat().st_size > LARGEST:
            raise RecordingError(f"{file.name}: larger than {LARGEST >> 20} MB, which no sidecar is")
        content: Any = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as fault:
        raise RecordingError(f"{file.name}: cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise RecordingError(f"{file.name}: not valid JSON ({fault}); correct the sidecar") from fault
    if not isinstance(content, dict):
        raise RecordingError(f"{file.name}: a sidecar is one JSON object, this is a {type(content).__name__}")
    entries = {name: entry for name, entry in content.items() if isinstance(entry, dict)}
    return Sidecar(
        sampling_rate=_sampling_rate(file, content),
        start_seconds=_number(file, content, "StartTime") or 0.0,
        columns=_columns(file, content.get("Columns")),
        units={name: str(entry["Units"]) for name, entry in entries.items() if entry.get("Units") is not None},
        modalities={
            name: str(entry["Modality"]) for name, entry in entries.items() if entry.get("Modality") is not None
        },
    )


def _number(file: Path, content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordingError(f"{file.name}: {key} is {value!r}, which is not a number; correct the sidecar")
    return float(value)


def _sampling_rate(file: Path, content: dict[str, Any]) -> float | None:
    rate = _number(file, content, "SamplingFrequency")
    if rate is not None and not 0 < rate <= 1e6:
        raise RecordingError(f"{file.name}: SamplingFrequency is {rate:g}, allowed is more than 0 up to 1000000 Hz")
    return rate


def _columns(file: Path, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RecordingError(f"{file.name}: Columns is not a list of names; correct the sidecar")
    return tuple(value)
