"""The clock of a table's rows: which column holds times, in which unit, and which rows have a time to be believed."""

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
from biopercept.loaders.readers.text_times import LOCAL, OF_DAY, ZONED, spreadsheet_seconds, stamps_of
from biopercept.loaders.sidecars import Sidecar, without_suffix
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray

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
                f"it 'time' if it is seconds from the recording's start, or write its unit in "
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
        shown = f"{example:.10g} s" if abs(example) < 1e8 else f"{np.datetime64(round(example), 's')}"
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
