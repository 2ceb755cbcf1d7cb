"""CSV and TSV recordings: rows at a sampling rate that a sidecar gives, or at the times of a time column.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, SettingsError
from biopercept.loaders.assembly import RawChannel, TimeGrid, assemble_signals, block_in_memory, fit_grid
from biopercept.loaders.recognition import SignalOverride, override_for, recognise
from biopercept.recording import FloatArray, Recording

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_TIME = re.compile(
    r"(?P<word>time|timestamp|datetime)s?\s*([\[(_ ]\s*(?P<unit>s|sec|seconds?|ms|us|ns)\s*[\])]?)?", re.IGNORECASE
)
_UNIT_IN_NAME = re.compile(r"(?P<label>.*\S)\s*[\[(](?P<unit>[^\[\]()]{1,20})[\])]\s*")
_FAST = {"ecg": 20.0, "bvp": 8.0, "emg": 20.0, "eeg": 20.0, "eog": 10.0}
"""Hz below which a column of this modality cannot be what it says: its times are in another unit."""
_FASTEST = 1e5
_FEWEST_FILLED = 0.5
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
LARGEST_SIDECAR = 4 << 20


@dataclass(frozen=True, eq=False)
class _Clock:
    """Times of the rows in seconds, and the wall-clock time of their zero where it is known."""

    times: FloatArray
    started_at: datetime | None


@dataclass(frozen=True, eq=False)
class _Source:
    """The file and what its sidecar and the study say about it; the study goes first."""

    path: Path
    sidecar: Sidecar
    overrides: Mapping[str, SignalOverride] | None


def load_table(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a CSV or TSV file.

    With a column ``time`` (seconds on the recording's clock) or ``timestamp`` (unix or ISO; its
    first row is second zero) the rows are placed on a regular grid and gaps are missing
    samples; otherwise the sidecar's ``SamplingFrequency`` and ``StartTime`` place them. A
    column that is filled in fewer than half the rows has a rate of its own.

    Raises RecordingError where neither a time column nor a sampling rate is given, times cannot be in the unit they
    claim, or the text cannot be read as columns.

    The path is a ``.csv``, ``.tsv`` or ``.txt``, plain or ``.gz``; what the study says goes before the sidecar.
    """
    sidecar = read_sidecar(path)
    source = _Source(path, sidecar, overrides)
    table = read_text_table(path, sidecar.columns)
    notes = list(table.notes)
    repeated = sorted({name for name in table.names if table.names.count(name) > 1})
    if repeated:
        notes.append(f"columns of the same name: {', '.join(repeated)}; each is kept under its own number")
    time_column = _time_column(path, table)
    columns = {i: c for i, c in enumerate(table.columns) if i != time_column and not isinstance(c, list)}
    text = [table.names[i] for i, c in enumerate(table.columns) if isinstance(c, list) and i != time_column]
    if text:
        notes.append(f"columns of text are not signals: {', '.join(text[:12])}")
    if not columns:
        raise RecordingError(f"{path.name}: no column of numbers beside the time")
    clock = None if time_column is None else _clock(path, table, time_column, notes)
    channels = _by_rate(source, table, columns) if clock is None else _by_time(source, table, columns, clock, notes)
    channels = [_described(source, channel) for channel in channels]
    _check_rates(path, channels, overrides)
    signals, more = assemble_signals(channels, overrides)
    name = path.name.removesuffix(".gz")
    started_at = None if clock is None else clock.started_at
    return Recording("", "", Path(name).stem, signals, (), started_at, (*notes, *more))


def _time_column(path: Path, table: TextTable) -> int | None:
    columns = [i for i, name in enumerate(table.names) if _TIME.fullmatch(name.strip())]
    if len(columns) > 1:
        raise RecordingError(
            f"{path.name}: more than one time column ({', '.join(table.names[i] for i in columns)}); keep one"
        )
    return columns[0] if columns else None


def _clock(path: Path, table: TextTable, column: int, notes: list[str]) -> _Clock:
    name, cells = table.names[column], table.columns[column]
    match = _TIME.fullmatch(name.strip())
    unit = (match["unit"] or "").lower() if match else ""
    if isinstance(cells, list):
        stamps = _iso_seconds(path, name, cells)
        return _from_zero(path, name, stamps)
    divisor = {"ms": 1e3, "us": 1e6, "ns": 1e9}.get(unit, 1.0)
    known = cells[np.isfinite(cells)]
    if not len(known):
        raise RecordingError(f"{path.name}: column {name!r} holds no readable time")
    typical = float(np.median(known)) / divisor
    scales = {1.0: (1e9, 4e9), 1e3: (1e12, 4e12), 1e6: (1e15, 4e15), 1e9: (1e18, 4e18)}
    scale = next((scale for scale, (low, high) in scales.items() if low < typical < high), None)
    if scale is not None:
        if scale > 1:
            words = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}[scale]
            notes.append(f"column {name!r} holds unix times in {words}; they were turned into seconds")
        return _from_zero(path, name, cells / divisor / scale)
    if name.strip().lower().startswith(("timestamp", "datetime")) and not unit:
        raise RecordingError(
            f"{path.name}: column {name!r} holds neither unix times nor ISO dates ({known[0]:g} the first);"
            " name it 'time' if it is seconds from the recording's start"
        )
    return _Clock(cells / divisor, None)


def _iso_seconds(path: Path, name: str, cells: Sequence[str]) -> FloatArray:
    """Return unix seconds of ISO dates, NaN where a cell is not one; a date without a zone is taken as UTC."""
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, errors="coerce", format="ISO8601")
    if stamps.isna().mean() > 0.5:
        example = next((cell for cell in cells if cell), "")
        raise RecordingError(
            f"{path.name}: column {name!r} holds {example[:40]!r}, which is neither a number nor an ISO date"
        )
    values = stamps.to_numpy(dtype="datetime64[ns]")
    seconds = values.astype(np.int64) / 1e9
    return np.where(np.isnat(values), np.nan, seconds)


def _from_zero(path: Path, name: str, stamps: FloatArray) -> _Clock:
    zero = float(np.nanmin(stamps))
    try:
        started_at = datetime.fromtimestamp(zero, tz=UTC)
    except (ValueError, OverflowError, OSError) as fault:
        raise RecordingError(f"{path.name}: column {name!r} begins at {zero:g} s, which is not a date") from fault
    return _Clock(stamps - zero, started_at)


def _by_rate(source: _Source, table: TextTable, columns: Mapping[int, FloatArray]) -> list[RawChannel]:
    path, sidecar = source.path, source.sidecar
    if sidecar.sampling_rate is None:
        raise RecordingError(
            f"{path.name}: no time column ('time' in seconds or 'timestamp') and no sampling rate; add one, or a JSON"
            " sidecar of the same name with SamplingFrequency"
        )
    n_rows = len(next(iter(columns.values())))
    if n_rows < 1:
        raise RecordingError(f"{path.name}: a header and no rows")
    rows = np.arange(n_rows)
    times = sidecar.start_seconds + rows / sidecar.sampling_rate
    return _placed(
        path, table, columns, TimeGrid(rows, times, sidecar.sampling_rate, sidecar.start_seconds, rows, n_rows, ())
    )


def _by_time(
    source: _Source, table: TextTable, columns: Mapping[int, FloatArray], clock: _Clock, notes: list[str]
) -> list[RawChannel]:
    """Return channels on the grid of their rows' times; sparsely filled columns and beat intervals on their own."""
    path, sidecar = source.path, source.sidecar
    if sidecar.start_seconds:
        notes.append("the sidecar's StartTime is not used, the time column places the rows")
    beats = {i for i in columns if _declared(source, table.names[i]) == "ibi"}
    is_filled = {i: np.isfinite(column) for i, column in columns.items()}
    apart = [i for i in columns if i in beats or 0 < is_filled[i].mean() < _FEWEST_FILLED]
    channels: list[RawChannel] = []
    for members in [[i for i in columns if i not in apart], *([i] for i in apart)]:
        if not members:
            continue
        rows = np.flatnonzero(is_filled[members[0]]) if members[0] in apart else np.arange(len(clock.times))
        grid = fit_grid(clock.times[rows])
        if grid is None:
            notes.append(f"{table.names[members[0]]}: fewer than two rows with different times; left out")
            continue
        prefix = "" if members[0] not in apart else f"{table.names[members[0]]}: "
        if members[0] in beats:  # each interval stands at its own beat, however evenly they come
            grid = replace(grid, cells=None, notes=())
        else:
            _compare_rates(grid, sidecar, notes, prefix)
        notes.extend(f"{prefix}{note}" for note in grid.notes)
        channels.extend(_placed(path, table, {i: columns[i][rows] for i in members}, grid))
    if not channels:
        raise RecordingError(f"{path.name}: fewer than two rows with different times")
    return channels


def _compare_rates(grid: TimeGrid, sidecar: Sidecar, notes: list[str], prefix: str) -> None:
    stated_rate = sidecar.sampling_rate
    if stated_rate is not None and abs(grid.sampling_rate / stated_rate - 1) > 0.001:
        notes.append(
            f"{prefix}the sidecar says {stated_rate:g} Hz, the times say {grid.sampling_rate:g} Hz; the times were used"
        )


def _placed(path: Path, table: TextTable, columns: Mapping[int, FloatArray], grid: TimeGrid) -> list[RawChannel]:
    samples = np.array([grid.placed(column) for column in columns.values()])
    block = block_in_memory(samples)
    return [
        RawChannel(
            label=table.names[i],
            unit="",
            sampling_rate=grid.sampling_rate,
            start_seconds=grid.start_seconds,
            n_samples=samples.shape[1],
            key=key,
            block=block,
            source=path.name,
            times=grid.times if grid.cells is None else None,
        )
        for key, i in enumerate(columns)
    ]


def _described(source: _Source, channel: RawChannel) -> RawChannel:
    """Return a channel with the unit and modality that the sidecar, or the brackets in its name, give it."""
    label, unit = _label_and_unit(channel.label, source.sidecar)
    if override_for(channel.label, source.overrides) and not override_for(label, source.overrides):
        label = channel.label  # the study's pattern was written for the name with its unit
    modality = _sidecar_modality(source, channel.label)
    return replace(channel, label=label, unit=unit, modality=modality, recognised_by="sidecar" if modality else "")


def _label_and_unit(name: str, sidecar: Sidecar) -> tuple[str, str]:
    match = _UNIT_IN_NAME.fullmatch(name)
    label, unit = (match["label"], match["unit"]) if match else (name, "")
    return label, sidecar.units.get(name, sidecar.units.get(label, unit))


def _sidecar_modality(source: _Source, name: str) -> str:
    sidecar = source.sidecar
    modality = sidecar.modalities.get(name, sidecar.modalities.get(_label_and_unit(name, sidecar)[0], ""))
    if not modality:
        return ""
    try:
        return SignalOverride(modality=modality).modality or ""
    except SettingsError as fault:
        raise RecordingError(f"{source.path.name}: the sidecar's entry for {name!r}: {fault}") from fault


def _declared(source: _Source, name: str) -> str:
    """Return the modality of a column before its rate is known: the study's word, the sidecar's, or the label's."""
    label, unit = _label_and_unit(name, source.sidecar)
    override = override_for(name, source.overrides) or override_for(label, source.overrides)
    if override is not None and override.modality is not None:
        return override.modality
    return _sidecar_modality(source, name) or recognise(label, unit, 1.0)[0]


def _check_rates(path: Path, channels: Sequence[RawChannel], overrides: Mapping[str, SignalOverride] | None) -> None:
    """Refuse rates that no such signal can have: times in milliseconds called seconds, or the reverse."""
    for channel in channels:
        override = override_for(channel.label, overrides)
        modality = channel.modality or recognise(channel.label, channel.unit, channel.sampling_rate)[0]
        if override is not None and override.modality is not None:
            modality = override.modality
        if channel.times is None and not _FAST.get(modality, 0.0) <= channel.sampling_rate <= _FASTEST:
            raise RecordingError(
                f"{path.name}: {channel.label} as {modality} would have {channel.sampling_rate:g} Hz, which it cannot"
                " have; say the unit of the time column in its name, for example 'time (ms)', or correct the rate"
            )


@dataclass(frozen=True, eq=False)
class TextTable:
    """Columns of a table: float64 with NaN where a cell is empty or no number; the cells where most of it is text."""

    names: tuple[str, ...]
    columns: tuple[FloatArray | list[str], ...]
    notes: tuple[str, ...]


def read_text_table(path: Path, columns: tuple[str, ...] | None = None) -> TextTable:
    """Return the columns of a CSV or TSV file, plain or gzipped.

    Raises RecordingError where the text is too large, binary, without a header, or its lines differ in length.

    ``columns`` are the names that a sidecar gives; a file whose first line is not these names has no header.
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
    values = tuple(
        _column(frame[i].tolist() if frame[i].dtype == object else frame[i], names[i], notes) for i in range(len(names))
    )
    n_short = _n_short_lines(text, delimiter, len(names), has_header)
    if n_short:
        notes.append(f"{n_short} lines have fewer than {len(names)} cells; those that lack are missing")
    return TextTable(names, values, tuple(notes))


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

    ``start_seconds`` is ``StartTime``: from the recording's start to the first row. Units and modalities are by column.
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

    Raises RecordingError where it is not JSON, or a value in it is not allowed.
    """
    file = sidecar_path(path)
    if not file.is_file():
        return Sidecar()
    try:
        if file.stat().st_size > LARGEST_SIDECAR:
            raise RecordingError(f"{file.name}: larger than {LARGEST_SIDECAR >> 20} MB, which no sidecar is")
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
