"""CSV and TSV recordings: rows at a sampling rate that a sidecar gives, or at the times of a time column.

Encoding, delimiter, decimal sign and header are recognised. The JSON sidecar gives the sampling rate, start and
columns, and per column unit and modality (BIDS physio).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, SettingsError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.clock import LONGEST_DAYS, hour_jumped, put_on, stray_times
from biopercept.loaders.readers.text_tables import TextTable, read_text_table
from biopercept.loaders.recognition import (
    ARBITRARY,
    SignalOverride,
    convert_unit,
    override_for,
    quantity_of,
    recognise,
)
from biopercept.loaders.sidecars import Sidecar, read_sidecar
from biopercept.loaders.time_grid import TimeGrid, fit_grid
from biopercept.modalities import MODALITIES
from biopercept.recording import FloatArray, Recording

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_TIME = re.compile(
    r"(?P<word>time|timestamp|datetime)s?\s*"
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
_UNIT_IN_NAME = re.compile(r"(?P<label>.*\S)\s*[\[(](?P<unit>[^\[\]()]{1,20})[\])]\s*")
_FAST = {"ecg": 20.0, "bvp": 8.0, "emg": 20.0, "eeg": 20.0, "eog": 10.0}
"""Hz below which a column of this modality cannot be what it says: its times are in another unit."""
_SLOW = {"eda": 0.5, "resp": 0.5, "acc": 0.5, "temp": 0.1, "hr": 0.1, "spo2": 0.1}
"""Hz below which times of no stated unit are as likely milliseconds: they are not taken for seconds."""
_FASTEST = 1e5
_BEATS_APART = 20.0
"""Beats cannot stand this many times further apart, or closer, than their intervals say."""
_FEWEST_FILLED = 0.5


@dataclass(frozen=True, eq=False)
class _Clock:
    """Times of the rows in seconds; the wall-clock time of their zero where known; whether seconds are assumed."""

    times: FloatArray
    started_at: datetime | None = None
    is_unit_assumed: bool = False


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
    return recording_of_columns(path, read_text_table(path, sidecar.columns), sidecar, overrides)


def recording_of_columns(
    path: Path, table: TextTable, sidecar: Sidecar, overrides: Mapping[str, SignalOverride] | None = None
) -> Recording:
    """Return the recording of columns that were read from a table, or from arrays of one length.

    Raises RecordingError as :func:`load_table`.
    """
    source = _Source(path, sidecar, overrides)
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
    if time_column is None:
        clock, channels = None, _by_rate(source, table, columns)
    else:
        clock, is_used = _clock(source, table, time_column, notes)
        channels = _by_time(source, table, {i: c[is_used] for i, c in columns.items()}, clock, notes)
    channels = [_described(source, channel) for channel in channels]
    _check_rates(source, channels, clock)
    signals, more = assemble_signals(channels, overrides)
    name = path.name.removesuffix(".gz")
    started_at = None if clock is None else clock.started_at
    return Recording("", "", Path(name).stem, signals, (), started_at, (*notes, *more))


def is_time(name: str) -> bool:
    """Return whether a column of this name is the time of the rows."""
    return _TIME.fullmatch(name.strip()) is not None


def _time_column(path: Path, table: TextTable) -> int | None:
    columns = [i for i, name in enumerate(table.names) if is_time(name)]
    if len(columns) > 1:
        raise RecordingError(
            f"{path.name}: more than one time column ({', '.join(table.names[i] for i in columns)}); keep one"
        )
    return columns[0] if columns else None


def _clock(source: _Source, table: TextTable, column: int, notes: list[str]) -> tuple[_Clock, NDArray[np.bool_]]:
    """Return the clock of the rows that are used, and which those are: all but rows whose time no other supports."""
    path, name, cells = source.path, table.names[column], table.columns[column]
    if isinstance(cells, list):
        stamps, has_zone = _iso_seconds(path, name, cells)
        times, is_used = _believed(path, name, stamps, notes, is_local=not has_zone)
        return _from_zero(path, name, times, has_zone=has_zone), is_used
    match = _TIME.fullmatch(name.strip())
    unit = (match["unit"] if match and match["unit"] else source.sidecar.units.get(name, "")).strip().lower()
    divisor = next((number for word, number in _PER_SECOND.items() if unit.startswith(word)), None if unit else 1.0)
    if divisor is None:
        raise RecordingError(
            f"{path.name}: column {name!r} is in {unit!r} by its sidecar; s, ms, us, ns, min and h are read"
        )
    known = cells[np.isfinite(cells)]
    if not len(known):
        raise RecordingError(f"{path.name}: column {name!r} holds no readable time")
    typical = float(np.median(known)) / divisor
    scales = {1.0: (1e9, 4e9), 1e3: (1e12, 4e12), 1e6: (1e15, 4e15), 1e9: (1e18, 4e18)}
    scale = next((scale for scale, (low, high) in scales.items() if low < typical < high), None)
    if scale is None and name.strip().lower().startswith(("timestamp", "datetime")) and not unit:
        raise RecordingError(
            f"{path.name}: column {name!r} holds neither unix times nor ISO dates ({known[0]:g} the first);"
            " name it 'time' if it is seconds from the recording's start"
        )
    times, is_used = _believed(path, name, cells / divisor / (scale or 1.0), notes)
    if scale is None:
        return _Clock(times, is_unit_assumed=not unit), is_used
    if scale > 1:
        words = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}[scale]
        notes.append(f"column {name!r} holds unix times in {words}; they were turned into seconds")
    return _from_zero(path, name, times, has_zone=True), is_used


def _believed(
    path: Path, name: str, times: FloatArray, notes: list[str], *, is_local: bool = False
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the times of the rows that are used, a clock that was set back put on, and which rows those are."""
    is_stray = stray_times(times)
    if is_stray.any():
        example = float(times[is_stray][0])
        shown = f"{example:.10g} s" if abs(example) < 1e8 else f"{np.datetime64(round(example), 's')}"
        notes.append(
            f"column {name!r}: {int(is_stray.sum())} of {len(times)} rows have a time that all others contradict "
            f"({shown} the first); they are left out"
        )
    is_finite = np.isfinite(times)
    believed = times[~is_stray]
    is_known = is_finite[~is_stray]
    try:
        clock = put_on(believed[is_known])
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
    believed = believed.copy()
    believed[is_known] = clock.times
    return believed, ~is_stray


def _iso_seconds(path: Path, name: str, cells: Sequence[str]) -> tuple[FloatArray, bool]:
    """Return seconds of ISO dates, NaN where a cell is not one, and whether they say their zone; unix seconds if so."""
    import pandas as pd

    cells = [cell.replace(",", ".") for cell in cells]  # ISO 8601 allows both before the fraction of a second
    stamps = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, errors="coerce", format="ISO8601")
    is_date = stamps.notna().to_numpy()
    if is_date.mean() < 0.5:
        example = next((cell for cell in cells if cell), "")
        raise RecordingError(
            f"{path.name}: column {name!r} holds {example[:40]!r}, which is neither a number nor an ISO date"
        )
    # A zone stands behind the date of ten characters: Z, +02:00, -0500.
    n_zones = sum(
        any(mark in cell[10:] for mark in "Zz+-") for cell, is_one in zip(cells, is_date, strict=True) if is_one
    )
    if 0 < n_zones < is_date.sum():
        raise RecordingError(
            f"{path.name}: column {name!r} gives a time zone in {n_zones} of {int(is_date.sum())} rows; give it in all "
            "or in none"
        )
    seconds = stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64) / 1e9
    return np.where(is_date, seconds, np.nan), n_zones > 0


def _from_zero(path: Path, name: str, stamps: FloatArray, *, has_zone: bool) -> _Clock:
    """Return times from the first; the start is local time, without a zone, where the stamps give none."""
    zero = float(np.nanmin(stamps))
    try:
        started_at = datetime.fromtimestamp(zero, tz=UTC)
    except (ValueError, OverflowError, OSError) as fault:
        raise RecordingError(f"{path.name}: column {name!r} begins at {zero:g} s, which is not a date") from fault
    return _Clock(stamps - zero, started_at if has_zone else started_at.replace(tzinfo=None))


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
    start = sidecar.start_seconds or 0.0
    times = start + rows / sidecar.sampling_rate
    return _placed(path, table, columns, TimeGrid(rows, times, sidecar.sampling_rate, start, rows, n_rows, ()))


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
    label, unit = (match["label"], match["unit"]) if match else _unit_behind(name)
    return label, sidecar.units.get(name, sidecar.units.get(label, unit))


def _unit_behind(name: str) -> tuple[str, str]:
    """Return label and unit of a name like "eda_uS" or "RR_ms"; no unit where what is behind is none of its modality.

    >>> _unit_behind("eda_uS"), _unit_behind("temp_C"), _unit_behind("EEG_C3"), _unit_behind("ppg_ms")
    (('eda', 'uS'), ('temp', 'C'), ('EEG_C3', ''), ('ppg_ms', ''))
    """
    label, _, unit = name.rpartition("_")
    wanted = MODALITIES.get(recognise(label, unit, 1.0)[0]) if label and quantity_of(unit) else None
    is_its_unit = wanted is not None and wanted.unit != ARBITRARY and convert_unit(unit, wanted.unit) is not None
    return (label, unit) if is_its_unit else (name, "")


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


def _check_rates(source: _Source, channels: Sequence[RawChannel], clock: _Clock | None) -> None:
    """Refuse rates that no such signal can have: times in milliseconds called seconds, or the reverse."""
    for channel in channels:
        override = override_for(channel.label, source.overrides)
        modality = channel.modality or recognise(channel.label, channel.unit, channel.sampling_rate)[0]
        if override is not None and override.modality is not None:
            modality = override.modality
        rate, where = channel.sampling_rate, f"{source.path.name}: {channel.label} as {modality}"
        if modality == "ibi":
            unit = channel.unit if override is None or override.unit is None else override.unit
            _check_beats(source.path, channel, unit)
        elif channel.times is None and not _FAST.get(modality, 0.0) <= rate <= _FASTEST:
            raise RecordingError(
                f"{where} would have {rate:g} Hz, which it cannot have; say the unit of the time column in its name, "
                "for example 'time (ms)', or correct the rate"
            )
        elif clock is not None and clock.is_unit_assumed and rate < _SLOW.get(modality, 0.0):
            raise RecordingError(
                f"{where} would have {rate:.2g} Hz if its times are seconds, and {1000 * rate:.4g} Hz if they are "
                "milliseconds; say the unit of the time column in its name: 'time (s)' or 'time (ms)'"
            )


def _check_beats(path: Path, channel: RawChannel, unit: str) -> None:
    """Refuse beats whose times are in another unit than seconds, told by the intervals between them."""
    conversion = convert_unit(unit, "s")
    if channel.times is None or conversion is None or channel.n_samples < 3:
        return
    intervals = channel.block([channel.key], 0, channel.n_samples)[0] * conversion.scale
    steps = np.diff(channel.times)
    # Beats of one packet share its time: in a fast heart most steps are none, and only their mean says how far apart.
    interval, apart = float(np.nanmedian(intervals)), float(np.median(steps) or steps.mean())
    if interval > 0 and not 1 / _BEATS_APART <= apart / interval <= _BEATS_APART:
        raise RecordingError(
            f"{path.name}: {channel.label} holds intervals of {interval:.3g} s and its times are {apart:.3g} s apart; "
            "say the units in the names of the columns, for example 'time (ms)' and 'ibi (s)'"
        )
