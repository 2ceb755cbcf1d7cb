"""The times of a table's rows: which column holds them, as numbers of some unit or as text, and which are believed.

Text may be ISO dates, dates of other orders, or times of day; numbers may be the days of a spreadsheet.
A date is read where there is one reading of it. 03/04/2023 has two, and what a file says elsewhere may decide: a day
above 12, or which of the two numbers moves on at midnight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.clock import LONGEST_DAYS, hour_jumped, put_on, stray_times
from biopercept.loaders.readers.text_tables import TextTable
from biopercept.loaders.sidecars import Sidecar, without_suffix
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray

ZONED, LOCAL, OF_DAY = "zoned", "local", "of day"
"""What seconds count from: unix time, unix time of a local clock that names no zone, or midnight of some day."""

_DAY_SECONDS = 86_400.0
_FEWEST_READ = 0.5
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
)
_TIME_OF_DAY = re.compile(_CLOCK)
_DATE = re.compile(r"(?P<a>\d{1,4})(?P<sign>[./-])(?P<b>\d{1,2})(?P=sign)(?P<c>\d{1,4})(?:[T\s]+" + _CLOCK + r")?")
_SPREADSHEET = (25_569.0, 73_051.0)
"""Days that a spreadsheet counts from 30 December 1899 for the years 1970 to 2099."""
_SPREADSHEET_ZERO = 25_569


@dataclass(frozen=True, eq=False)
class Stamps:
    """Seconds of a column's cells, NaN where one is no time; what they count from; what a reader must know."""

    seconds: FloatArray
    kind: str
    notes: tuple[str, ...] = ()


def stamps_of(path: Path, name: str, cells: Sequence[str], form: str = "") -> Stamps:
    """Return the times that a column of text gives.

    Raises RecordingError where most cells are no time, where a date has two readings, or where a zone is given in some
    rows only. ``form`` is the format that the sidecar gives for the column, in the words of strptime.
    """
    if form:
        return _by_format(path, name, cells, form)
    iso = _iso(path, name, cells)
    if iso is not None:
        return iso
    of_day = [_TIME_OF_DAY.fullmatch(cell) for cell in cells]
    if sum(one is not None for one in of_day) >= _FEWEST_READ * len(cells):
        return _of_day(path, name, of_day)
    dates = [_DATE.fullmatch(cell) for cell in cells]
    if sum(one is not None for one in dates) >= _FEWEST_READ * len(cells):
        return _dated(path, name, dates)
    example = next((cell for cell in cells if cell), "")
    raise RecordingError(
        f"{path.name}: column {name!r} holds {example[:40]!r}, which is neither a number nor an ISO date, nor another "
        f"date or time of day; {_hint(path, name, '%d %b %Y %H:%M:%S')}"
    )


def _hint(path: Path, name: str, form: str) -> str:
    return f'write how to read it in {without_suffix(path.name)}.json beside it: {{"{name}": {{"Format": "{form}"}}}}'


def _by_format(path: Path, name: str, cells: Sequence[str], form: str) -> Stamps:
    import pandas as pd

    try:
        moments = pd.to_datetime(pd.Series(cells, dtype=object), format=form, errors="coerce", utc=True)
    except (ValueError, TypeError) as fault:
        raise RecordingError(
            f"{path.name}: the sidecar's Format of {name!r} is {form!r} ({fault}); correct it"
        ) from fault
    is_date = moments.notna().to_numpy()
    if is_date.mean() < _FEWEST_READ:
        example = next((cell for cell in cells if cell), "")
        raise RecordingError(
            f"{path.name}: column {name!r} holds {example[:40]!r}, which is not as its Format says: {form!r}"
        )
    seconds = _unix(moments)
    if not re.search(r"%[dDxcjsmbByY]", form):
        return _over_midnight(np.where(is_date, seconds % _DAY_SECONDS, np.nan))
    return Stamps(np.where(is_date, seconds, np.nan), ZONED if "%z" in form else LOCAL)


def _unix(moments: object) -> FloatArray:
    stamps: NDArray[np.datetime64] = moments.to_numpy(dtype="datetime64[ns]")  # type: ignore[attr-defined]
    return stamps.astype(np.int64) / 1e9


def _iso(path: Path, name: str, cells: Sequence[str]) -> Stamps | None:
    """Return ISO dates; None where most cells are none."""
    import pandas as pd

    cells = [cell.replace(",", ".") for cell in cells]  # ISO 8601 allows both before the fraction of a second
    moments = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, errors="coerce", format="ISO8601")
    is_date = moments.notna().to_numpy() & np.array([cell[:4].isdigit() and len(cell) > 7 for cell in cells], bool)
    if is_date.mean() < _FEWEST_READ:
        return None
    # A zone stands behind the date of ten characters: Z, +02:00, -0500.
    n_zones = sum(
        any(mark in cell[10:] for mark in "Zz+-") for cell, is_one in zip(cells, is_date, strict=True) if is_one
    )
    if 0 < n_zones < is_date.sum():
        raise RecordingError(
            f"{path.name}: column {name!r} gives a time zone in {n_zones} of {int(is_date.sum())} rows; give it in all "
            "or in none"
        )
    return Stamps(np.where(is_date, _unix(moments), np.nan), ZONED if n_zones else LOCAL)


def _seconds_of_day(match: re.Match[str]) -> float:
    """Return the seconds since midnight; NaN where no clock shows it."""
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    half = (match["half"] or "")[:1].lower()
    if minute > 59 or second > 60 or hour > 24 or (half and not 1 <= hour <= 12):
        return float("nan")
    if half:
        hour = hour % 12 + 12 * (half == "p")
    return 3600.0 * hour + 60.0 * minute + second + float(f"0.{match['fraction'] or 0}")


def _of_day(path: Path, name: str, matches: Sequence[re.Match[str] | None]) -> Stamps:
    """Return times of day, the day going on over midnight."""
    if any(match is not None and match["second"] is None for match in matches):
        example = next(match.group() for match in matches if match is not None)
        raise RecordingError(
            f"{path.name}: column {name!r} holds {example!r}, which may be hours and minutes or minutes and seconds; "
            + _hint(path, name, "%H:%M")
        )
    return _over_midnight(np.array([np.nan if match is None else _seconds_of_day(match) for match in matches]))


def _over_midnight(seconds: FloatArray) -> Stamps:
    """Return times of day that go on after 24 h where they fall back by more than half a day."""
    known = np.flatnonzero(np.isfinite(seconds))
    steps = np.diff(seconds[known])
    days = np.concatenate([[0], np.cumsum((steps < -_DAY_SECONDS / 2).astype(int) - (steps > _DAY_SECONDS / 2))])
    moved = seconds.copy()
    moved[known] += _DAY_SECONDS * days[: len(known)]
    notes = (f"times of day without a date pass midnight {int(days.max())} times",) if days.any() else ()
    return Stamps(moved, OF_DAY, notes)


def _dated(path: Path, name: str, matches: Sequence[re.Match[str] | None]) -> Stamps:
    """Return dates of the orders 25.12.2023, 25/12/2023, 12/25/2023 and 2023/12/25, with times of day behind them."""
    known = [match for match in matches if match is not None]
    parts = np.array([[int(match[key]) for key in "abc"] for match in known])
    widths = np.array([[len(match[key]) for key in "abc"] for match in known])
    notes: list[str] = []
    if (widths[:, 0] == 4).all():
        order = (0, 1, 2)
    elif (widths[:, 2] == 4).all():
        order = (2, 1, 0) if _is_day_first(path, name, known, parts, notes) else (2, 0, 1)
    else:
        raise RecordingError(
            f"{path.name}: column {name!r} holds {known[0].group()[:40]!r}, a date without a year of four digits; "
            + _hint(path, name, "%d.%m.%y %H:%M:%S")
        )
    years, months, days = (parts[:, place] for place in order)
    seconds = np.full(len(matches), np.nan)
    rows = np.array([row for row, match in enumerate(matches) if match is not None])
    is_date = (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31) & (years >= 1970) & (years < 2262)
    month = (years - 1970).astype("timedelta64[Y]") + np.datetime64("1970", "Y")
    first = month.astype("datetime64[M]") + (months - 1).astype("timedelta64[M]")
    unix = first.astype("datetime64[D]").astype(np.int64) + days - 1
    clock = np.array([_seconds_of_day(match) if match["hour"] else np.nan for match in known])
    if np.isnan(clock).all():
        raise RecordingError(
            f"{path.name}: column {name!r} holds dates without a time of day ({known[0].group()!r}), which place no "
            "row; give the time in the same column or in one called 'time'"
        )
    seconds[rows] = np.where(is_date, unix * _DAY_SECONDS + clock, np.nan)
    return Stamps(seconds, LOCAL, tuple(notes))


def _is_day_first(
    path: Path, name: str, known: Sequence[re.Match[str]], parts: NDArray[np.int_], notes: list[str]
) -> bool:
    """Return whether the day stands before the month. Raises RecordingError where both readings are left."""
    first, second = parts[:, 0], parts[:, 1]
    is_day, is_month = bool((first > 12).any()), bool((second > 12).any())
    moves = (len(np.unique(first)) > 1, len(np.unique(second)) > 1)
    if is_day != is_month:
        return is_day
    if not is_day and moves[0] != moves[1] and not np.any(np.abs(np.diff(first if moves[0] else second)) > 1):
        return moves[0]  # days move on one by one, months do so once in the recordings that are read
    if known[0]["sign"] == "." and not is_day:
        notes.append(f"column {name!r}: dates with points ({known[0].group()[:10]}) were read with the day first")
        return True
    shown = known[0].group()[:40]
    raise RecordingError(
        f"{path.name}: column {name!r} holds {shown!r}, of which the first number may be the day or the month; "
        + _hint(path, name, "%d/%m/%Y %H:%M:%S")
    )


def spreadsheet_seconds(name: str, days: FloatArray) -> Stamps | None:
    """Return the times of a column of numbers that a spreadsheet wrote as days since 1900; None where they are none.

    They are where nothing else is left: as seconds the rows would come faster than any sensor.
    """
    known = days[np.isfinite(days)]
    if len(known) < 2 or not (_SPREADSHEET[0] < known.min() and known.max() < _SPREADSHEET[1]):
        return None
    steps = np.abs(np.diff(known))
    typical = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    if not 0 < typical < 1e-3:  # beyond, rows are seconds apart as seconds, and minutes as days: two readings
        return None
    note = f"column {name!r} holds days since 1900, as spreadsheets write dates; they were turned into seconds"
    return Stamps((days - _SPREADSHEET_ZERO) * _DAY_SECONDS, LOCAL, (note,))


_TIME = re.compile(
    r"(?:(?:unix|epoch|utc|local|system|elapsed|recording|sample|phone)[ _-]*)?"
    r"(?P<word>time[ _-]?stamp|date[ _-]?time|timer|time|date)s?\s*"
    r"([\[(_ ]\s*(?P<unit>h|hours?|min|minutes?|s|secs?|seconds?|ms|msecs?|milliseconds?|[u\u00b5\u03bc]s|ns)"
    r"\s*[\])]?)?",
    re.IGNORECASE,
)
_PER_SECOND = {
    "h": 1 / 3600,
    "min": 1 / 60,
    "mil": 1e3,
    "ms": 1e3,
    "us": 1e6,
    "\u00b5s": 1e6,
    "\u03bcs": 1e6,
    "ns": 1e9,
    "s": 1.0,
}
"""How many of a unit, by how its word begins, make a second."""
_UNIX_SCALES = {1.0: (1e9, 4e9), 1e3: (1e12, 4e12), 1e6: (1e15, 4e15), 1e9: (1e18, 4e18)}
"""Where unix times lie, by how many of their unit make a second: the years 2001 to 2096."""


@dataclass(frozen=True, eq=False)
class Clock:
    """Times of the rows in seconds; the wall-clock time of their zero where known; whether seconds are assumed."""

    times: FloatArray
    started_at: datetime | None = None
    is_unit_assumed: bool = False


def is_time(name: str) -> bool:
    """Return whether a column of this name is the time of the rows."""
    return _TIME.fullmatch(name.strip()) is not None


def time_columns(path: Path, table: TextTable, sidecar: Sidecar) -> tuple[int, ...]:
    """Return which columns hold the times of the rows: none, one, or a date and the time of that day.

    Raises RecordingError where several do. A column that the sidecar calls unknown is none.
    """
    columns = [i for i, name in enumerate(table.names) if is_time(name) and sidecar.modalities.get(name) != UNKNOWN]
    if len(columns) == 2 and all(isinstance(table.columns[i], list) for i in columns):
        words = [_word(table.names[i]) for i in columns]
        if "date" in words and words.count("time") == 1:
            return tuple(sorted(columns, key=lambda i: _word(table.names[i]) != "date"))
    if len(columns) > 1:
        last = table.names[columns[-1]]
        raise RecordingError(
            f"{path.name}: more than one time column ({', '.join(table.names[i] for i in columns)}); keep one, or "
            f'write of the others in {without_suffix(path.name)}.json beside it {{"{last}": {{"Modality": "unknown"}}}}'
        )
    return tuple(columns)


def _word(name: str) -> str:
    match = _TIME.fullmatch(name.strip())
    return re.sub(r"[ _-]", "", match["word"]).lower() if match else ""


def clock_of(
    path: Path, table: TextTable, columns: Sequence[int], sidecar: Sidecar, notes: list[str]
) -> tuple[Clock, NDArray[np.bool_]]:
    """Return the clock of the rows that are used, and which those are: all but rows whose time no other supports.

    Raises RecordingError where times are in no unit that is known, or span longer than a recording can.
    """
    name, cells = table.names[columns[0]], table.columns[columns[0]]
    if isinstance(cells, list):
        times_of_day = table.columns[columns[1]] if len(columns) > 1 else None
        if isinstance(times_of_day, list):
            cells = [f"{day} {time}" for day, time in zip(cells, times_of_day, strict=True)]
        stamps = stamps_of(path, name, cells, sidecar.formats.get(name, ""))
        return _clock_of_stamps(path, name, stamps.seconds, stamps.kind, (*stamps.notes,), notes)
    match = _TIME.fullmatch(name.strip())
    unit = (match["unit"] if match and match["unit"] else sidecar.units.get(name, "")).strip().lower()
    divisor = next((number for word, number in _PER_SECOND.items() if unit.startswith(word)), None if unit else 1.0)
    if divisor is None:
        raise RecordingError(
            f"{path.name}: column {name!r} is in {unit!r} by its sidecar; s, ms, us, ns, min and h are read"
        )
    known = cells[np.isfinite(cells)]
    if not len(known):
        raise RecordingError(f"{path.name}: column {name!r} holds no readable time")
    typical = float(np.median(known)) / divisor
    scale = next((scale for scale, (low, high) in _UNIX_SCALES.items() if low < typical < high), None)
    if scale is None and not unit:
        if _word(name) in ("timestamp", "datetime", "date"):
            days = spreadsheet_seconds(name, cells)
            if days is not None:
                return _clock_of_stamps(path, name, days.seconds, days.kind, days.notes, notes)
            raise RecordingError(
                f"{path.name}: column {name!r} holds neither unix times nor ISO dates ({known[0]:g} the first); name "
                "it 'time' if it is seconds from the recording's start, or write its unit in "
                f'{without_suffix(path.name)}.json beside it: {{"{name}": {{"Units": "ms"}}}}'
            )
        if _word(name) == "timer":
            raise RecordingError(
                f"{path.name}: column {name!r} gives no unit of time; write it in {without_suffix(path.name)}.json "
                f'beside it: {{"{name}": {{"Units": "ms"}}}}, or "s"'
            )
    times, is_used = believed(path, name, cells / divisor / (scale or 1.0), notes)
    if scale is None:
        return Clock(times, is_unit_assumed=not unit), is_used
    if scale > 1:
        words = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}[scale]
        notes.append(f"column {name!r} holds unix times in {words}; they were turned into seconds")
    return _from_zero(path, name, times, has_zone=True), is_used


def _clock_of_stamps(
    path: Path, name: str, seconds: FloatArray, kind: str, remarks: Sequence[str], notes: list[str]
) -> tuple[Clock, NDArray[np.bool_]]:
    notes.extend(remarks)
    times, is_used = believed(path, name, seconds, notes, is_local=kind != ZONED)
    if kind == OF_DAY:
        notes.append(f"column {name!r} gives times of day without a date; the first row is second zero")
        return Clock(times - float(np.nanmin(times))), is_used
    return _from_zero(path, name, times, has_zone=kind != LOCAL), is_used


def believed(
    path: Path, name: str, times: FloatArray, notes: list[str], *, is_local: bool = False
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the times of the rows that are used, a clock that was set back put on, and which rows those are.

    Raises RecordingError where no time is left, times go back for no reason, or span longer than a recording can.
    """
    is_stray = stray_times(times)
    if is_stray.any():
        example = float(times[is_stray][0])
        is_date = 1e8 <= abs(example) < 1e11
        shown = f"{np.datetime64(round(example), 's')}" if is_date else f"{example:.10g} s"
        notes.append(
            f"column {name!r}: {int(is_stray.sum())} of {len(times)} rows have a time that all others contradict "
            f"({shown} the first); they are left out"
        )
    is_finite = np.isfinite(times)
    if not (is_finite & ~is_stray).any():
        raise RecordingError(f"{path.name}: column {name!r} holds no readable time")
    used = times[~is_stray]
    is_known = is_finite[~is_stray]
    try:
        clock = put_on(used[is_known])
    except ValueError as fault:
        raise RecordingError(f"{path.name}: column {name!r}: {fault}") from fault
    if clock.n_times:
        notes.append(
            f"column {name!r}: the clock was set back by {clock.seconds:g} s (as at the end of summer time); the rows "
            "after it follow those before, in the order of the file"
        )
    jump = hour_jumped(clock.times) if is_local else None
    if jump is not None:
        notes.append(
            f"column {name!r} is local time and jumps by an hour at {np.datetime64(round(jump), 's')}, as where summer "
            "time begins: if no hour was lost there, all after it is an hour late; give times with their zone"
        )
    span = float(np.ptp(clock.times)) if len(clock.times) else 0.0
    if span > LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{path.name}: column {name!r} spans {span / 86_400:.0f} days, at most {LONGEST_DAYS} are read; correct "
            "the times that are wrong, or split the file"
        )
    used = used.copy()
    used[is_known] = clock.times
    return used, ~is_stray


def _from_zero(path: Path, name: str, stamps: FloatArray, *, has_zone: bool) -> Clock:
    """Return times from the first; the start is local time, without a zone, where the stamps give none."""
    zero = float(np.nanmin(stamps))
    try:
        started_at = datetime.fromtimestamp(zero, tz=UTC)
    except (ValueError, OverflowError, OSError) as fault:
        raise RecordingError(f"{path.name}: column {name!r} begins at {zero:g} s, which is not a date") from fault
    return Clock(stamps - zero, started_at if has_zone else started_at.replace(tzinfo=None))
