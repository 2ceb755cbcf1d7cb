"""CSV and TSV recordings: rows at a sampling rate that a sidecar gives, or at the times of a time column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError, SettingsError
from biopercept.loaders.assembly import RawChannel, assemble_signals, held_block
from biopercept.loaders.recognition import SignalOverride, override_for, recognise
from biopercept.loaders.text_tables import Sidecar, TextTable, read_sidecar, read_text_table
from biopercept.loaders.time_grid import TimeGrid, fit_grid
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


@dataclass(frozen=True, eq=False)
class _Clock:
    """Times of the rows in seconds, and the wall-clock time of their zero where it is known."""

    times: FloatArray
    started_at: datetime | None


def load_table(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a CSV or TSV file.

    With a column ``time`` (seconds on the recording's clock) or ``timestamp`` (unix or ISO; its
    first row is second zero) the rows are placed on a regular grid and gaps are missing
    samples; otherwise the sidecar's ``SamplingFrequency`` and ``StartTime`` place them. A
    column that is filled in fewer than half the rows has a rate of its own.

    Parameters
    ----------
    path : Path
        ``.csv``, ``.tsv`` or ``.txt``, plain or ``.gz``.
    overrides : mapping or None
        What the study says about columns; goes before the sidecar.

    Raises
    ------
    RecordingError
        Where neither a time column nor a sampling rate is given, times cannot be in the unit
        they claim, or the text cannot be read as columns.
    """
    sidecar = read_sidecar(path)
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
    if clock is None:
        channels = _by_rate(path, table, columns, sidecar)
    else:
        channels = _by_time(path, table, columns, clock, sidecar, overrides, notes)
    channels = [_described(path, channel, sidecar, overrides) for channel in channels]
    _check_rates(path, channels, overrides)
    signals, more = assemble_signals(channels, overrides)
    name = path.name.removesuffix(".gz")
    started_at = None if clock is None else clock.started_at
    return Recording("", "", Path(name).stem, signals, (), started_at, (*notes, *more))


def _time_column(path: Path, table: TextTable) -> int | None:
    found = [i for i, name in enumerate(table.names) if _TIME.fullmatch(name.strip())]
    if len(found) > 1:
        raise RecordingError(
            f"{path.name}: more than one time column ({', '.join(table.names[i] for i in found)}); keep one"
        )
    return found[0] if found else None


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


def _by_rate(path: Path, table: TextTable, columns: Mapping[int, FloatArray], sidecar: Sidecar) -> list[RawChannel]:
    if sidecar.sampling_rate is None:
        raise RecordingError(
            f"{path.name}: no time column ('time' in seconds or 'timestamp') and no sampling rate; add one, or a JSON"
            " sidecar of the same name with SamplingFrequency"
        )
    held = np.array(list(columns.values()))
    if held.shape[1] < 1:
        raise RecordingError(f"{path.name}: a header and no rows")
    block = held_block(held)
    return [
        RawChannel(
            label=table.names[i],
            unit="",
            sampling_rate=sidecar.sampling_rate,
            start_seconds=sidecar.start_seconds,
            n_samples=held.shape[1],
            key=key,
            block=block,
            source=path.name,
        )
        for key, i in enumerate(columns)
    ]


def _by_time(
    path: Path,
    table: TextTable,
    columns: Mapping[int, FloatArray],
    clock: _Clock,
    sidecar: Sidecar,
    overrides: Mapping[str, SignalOverride] | None,
    notes: list[str],
) -> list[RawChannel]:
    """Return channels on the grid of their rows' times; sparsely filled columns and beat intervals on their own."""
    if sidecar.start_seconds:
        notes.append("the sidecar's StartTime is not used, the time column places the rows")
    beats = {i for i in columns if _declared(path, table.names[i], sidecar, overrides) == "ibi"}
    is_filled = {i: np.isfinite(column) for i, column in columns.items()}
    own = [i for i in columns if i in beats or 0 < is_filled[i].mean() < _FEWEST_FILLED]
    channels: list[RawChannel] = []
    for members in [[i for i in columns if i not in own], *([i] for i in own)]:
        if not members:
            continue
        rows = np.flatnonzero(is_filled[members[0]]) if members[0] in own else np.arange(len(clock.times))
        grid = fit_grid(clock.times[rows])
        if grid is None:
            notes.append(f"{table.names[members[0]]}: fewer than two rows with different times; left out")
            continue
        prefix = "" if members[0] not in own else f"{table.names[members[0]]}: "
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
    said = sidecar.sampling_rate
    if said is not None and abs(grid.sampling_rate / said - 1) > 0.001:
        notes.append(
            f"{prefix}the sidecar says {said:g} Hz, the times say {grid.sampling_rate:g} Hz; the times were used"
        )


def _placed(path: Path, table: TextTable, columns: Mapping[int, FloatArray], grid: TimeGrid) -> list[RawChannel]:
    held = np.array([grid.placed(column) for column in columns.values()])
    block = held_block(held)
    return [
        RawChannel(
            label=table.names[i],
            unit="",
            sampling_rate=grid.sampling_rate,
            start_seconds=grid.start_seconds,
            n_samples=held.shape[1],
            key=key,
            block=block,
            source=path.name,
            times=grid.times if grid.cells is None else None,
        )
        for key, i in enumerate(columns)
    ]


def _described(
    path: Path, channel: RawChannel, sidecar: Sidecar, overrides: Mapping[str, SignalOverride] | None
) -> RawChannel:
    """Return a channel with the unit and modality that the sidecar, or the brackets in its name, give it."""
    label, unit = _label_and_unit(channel.label, sidecar)
    if override_for(channel.label, overrides) and not override_for(label, overrides):
        label = channel.label  # the study's pattern was written for the name with its unit
    modality = _sidecar_modality(path, channel.label, sidecar)
    return replace(channel, label=label, unit=unit, modality=modality, recognised_by="sidecar" if modality else "")


def _label_and_unit(name: str, sidecar: Sidecar) -> tuple[str, str]:
    match = _UNIT_IN_NAME.fullmatch(name)
    label, unit = (match["label"], match["unit"]) if match else (name, "")
    return label, sidecar.units.get(name, sidecar.units.get(label, unit))


def _sidecar_modality(path: Path, name: str, sidecar: Sidecar) -> str:
    said = sidecar.modalities.get(name, sidecar.modalities.get(_label_and_unit(name, sidecar)[0], ""))
    if not said:
        return ""
    try:
        return SignalOverride(modality=said).modality or ""
    except SettingsError as fault:
        raise RecordingError(f"{path.name}: the sidecar's entry for {name!r}: {fault}") from fault


def _declared(path: Path, name: str, sidecar: Sidecar, overrides: Mapping[str, SignalOverride] | None) -> str:
    """Return the modality of a column before its rate is known: the study's word, the sidecar's, or the label's."""
    label, unit = _label_and_unit(name, sidecar)
    override = override_for(name, overrides) or override_for(label, overrides)
    if override is not None and override.modality is not None:
        return override.modality
    return _sidecar_modality(path, name, sidecar) or recognise(label, unit, 1.0)[0]


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
