"""CSV and TSV recordings: rows at a sampling rate that a sidecar gives, or at the times of a time column.

Encoding, delimiter, decimal sign and header are recognised. The JSON sidecar gives the sampling rate, start and
columns, and per column unit, modality (BIDS physio) and, of dates, format. A list of intervals from beat to beat needs
neither rate nor times. Readers of devices that write tables give theirs to :func:`recording_of_table`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, SettingsError, listed
from biopercept.loaders.arrivals import even_grid, second_grid
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory, channel_of_beats
from biopercept.loaders.counters import is_counter_name, sample_numbers
from biopercept.loaders.readers.table_times import Clock, clock_of, time_columns
from biopercept.loaders.readers.text_tables import TextTable, read_text_table
from biopercept.loaders.recognition import (
    ARBITRARY,
    FORMAT,
    SignalOverride,
    convert_unit,
    override_for,
    quantity_of,
    recognise,
)
from biopercept.loaders.sidecars import Sidecar, read_sidecar, without_suffix
from biopercept.loaders.time_grid import TimeGrid, fit_grid
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

_UNIT_IN_NAME = re.compile(r"(?P<label>.*\S)\s*[\[(](?P<unit>[^\[\]()]{1,20})[\])]\s*")
_FAST = {"ecg": 20.0, "bvp": 8.0, "emg": 20.0, "eeg": 20.0, "eog": 10.0}
"""Hz below which a column of this modality cannot be what it says: its times are in another unit."""
_SLOW = {"eda": 0.5, "resp": 0.5, "acc": 0.5, "temp": 0.1, "hr": 0.1, "spo2": 0.1}
"""Hz below which times of no stated unit are as likely milliseconds: they are not taken for seconds."""
_FASTEST = 1e5
_FASTEST_HEART_RATE = 10.0
"""Hz above which a column "hr" without a unit is the wave of a pulse sensor, as some write it, and no heart rate."""
_BEATS_APART = 20.0
"""Beats cannot stand this many times further apart, or closer, than their intervals say."""
_FEWEST_FILLED = 0.5
_COMPUTED = ("hr", "spo2")
"""Modalities whose values devices compute about once a second."""


@dataclass(frozen=True, eq=False)
class TableSource:
    """The file and what its sidecar and the study say about it; the study goes first.

    ``by_format`` are modalities that the format itself gives to columns; the sidecar and the study go before it.
    ``even_rates`` are rates of a device whose rows are taken evenly and stamped when they came; None where rows are
    stamped when they were taken.
    """

    path: Path
    sidecar: Sidecar
    overrides: Mapping[str, SignalOverride] | None
    by_format: Mapping[str, str] | None = None
    even_rates: tuple[float, ...] | None = None


def load_table(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a CSV or TSV file.

    With a column ``time`` (seconds on the recording's clock) or ``timestamp`` (unix, ISO or another date; its
    first row is second zero) the rows are placed on a regular grid and gaps are missing
    samples; otherwise the sidecar's ``SamplingFrequency`` and ``StartTime`` place them, and what a counter among the
    columns leaves out is missing. A column that is filled in fewer than half the rows has a rate of its own. A table of
    intervals from beat to beat alone is a list of beats that follow each other.

    Raises RecordingError where neither a time column nor a sampling rate is given, times cannot be in the unit they
    claim, or the text cannot be read as columns.

    The path is a ``.csv``, ``.tsv``, ``.txt``, ``.log``, ``.asc`` or ``.dat``, plain or ``.gz``; what the study says
    goes before the sidecar.
    """
    sidecar = read_sidecar(path)
    columns = sidecar.columns
    if columns is None and (name := _list_of_beats(path)):
        columns = (name,)
    return recording_of_table(TableSource(path, sidecar, overrides), read_text_table(path, columns))


def _list_of_beats(path: Path) -> str:
    """Return the name of the column of a list of beats without a header; empty where the file is none by its name."""
    if not is_file_named_after_beats(path):
        return ""
    try:
        table = read_text_table(path, ("RR",))
    except RecordingError:
        return ""
    [column] = table.columns
    return "RR" if not isinstance(column, list) and are_beats(column) else ""


def recording_of_table(
    source: TableSource,
    table: TextTable,
    *,
    started_at: datetime | None = None,
    intervals: tuple[Interval, ...] = (),
) -> Recording:
    """Return the recording of columns, named and with units as :func:`load_table` says.

    ``started_at`` is used where the columns give no wall-clock time. Raises RecordingError where they cannot be placed
    in time, or none is of numbers.
    """
    path = source.path
    source = replace(source, sidecar=replace(source.sidecar, units={**table.units, **source.sidecar.units}))
    notes = list(table.notes)
    repeated = sorted({name for name in table.names if table.names.count(name) > 1})
    if repeated:
        notes.append(f"columns of the same name: {', '.join(repeated)}; each is kept under its own number")
    of_time = time_columns(path, table, source.sidecar)
    columns = {i: c for i, c in enumerate(table.columns) if i not in of_time and not isinstance(c, list)}
    text = [table.names[i] for i, c in enumerate(table.columns) if isinstance(c, list) and i not in of_time]
    if text:
        notes.append(f"columns of text are not signals: {listed(text)}")
    counter = _counter(table, columns)
    if counter is not None and len(columns) > 1:
        notes.append(f"column {table.names[counter]!r} counts rows and is no signal")
        numbers = sample_numbers(columns.pop(counter))
    else:
        numbers = None
    if not columns:
        raise RecordingError(f"{path.name}: no column of numbers beside the time")
    clock = None
    if of_time:
        clock, is_used = clock_of(path, table, of_time, source.sidecar, notes)
        channels = _by_time(source, table, {i: c[is_used] for i, c in columns.items()}, clock, notes)
    elif (beats := _only_beats(source, table, columns)) is not None:
        channels = [_beats_alone(source, table.names[beats], columns[beats], notes)]
    else:
        channels = _by_rate(source, table, columns, numbers, notes)
    channels = [_described(source, channel) for channel in channels]
    channels = _without_false_heart_rates(source, channels, notes)
    _check_rates(source, channels, clock)
    signals, more = assemble_signals(channels, source.overrides)
    name = without_suffix(path.name)
    if clock is not None and clock.started_at is not None:
        started_at = clock.started_at
    end = max((signal.end_seconds for signal in signals), default=0.0)
    kept = tuple(sorted((i for i in intervals if 0 <= i.onset_seconds <= end), key=lambda i: i.onset_seconds))
    return Recording("", "", name, signals, kept, started_at, (*notes, *more))


def recording_of_columns(
    path: Path, table: TextTable, sidecar: Sidecar, overrides: Mapping[str, SignalOverride] | None = None
) -> Recording:
    """Return the recording of columns that were read from arrays of one length.

    Raises RecordingError as :func:`load_table`.
    """
    return recording_of_table(TableSource(path, sidecar, overrides), table)


def _counter(table: TextTable, columns: Mapping[int, FloatArray]) -> int | None:
    """Return the column that counts rows; None where none does."""
    return next(
        (i for i, c in columns.items() if is_counter_name(table.names[i]) and sample_numbers(c) is not None), None
    )


def _only_beats(source: TableSource, table: TextTable, columns: Mapping[int, FloatArray]) -> int | None:
    """Return the column of intervals of a table that measures nothing else; None where it does."""
    if source.sidecar.sampling_rate is not None:
        return None
    known = [i for i in columns if _declared(source, table.names[i]) != UNKNOWN]
    beats = [i for i in columns if _is_beats(source, table.names[i])]
    return beats[0] if len(beats) == 1 and set(known) <= set(beats) else None


def _is_beats(source: TableSource, name: str) -> bool:
    declared = _declared(source, name)
    return declared == "ibi" or (declared == UNKNOWN and is_name_of_beats(_label_and_unit(name, source.sidecar)[0]))


def _beats_alone(source: TableSource, name: str, values: FloatArray, notes: list[str]) -> RawChannel:
    """Return the channel of a list of intervals, each at the time at which it ended."""
    label, unit = _label_and_unit(name, source.sidecar)
    override = override_for(label, source.overrides) or override_for(name, source.overrides)
    unit = override.unit if override is not None and override.unit else unit
    beats = beats_of(source.path, label, values, unit, source.sidecar.start_seconds or 0.0)
    notes.extend(beats.notes)
    return channel_of_beats(f"{label} (s)", source.path.name, beats.times, beats.intervals, unit="")


def _by_rate(
    source: TableSource,
    table: TextTable,
    columns: Mapping[int, FloatArray],
    numbers: NDArray[np.int64] | None,
    notes: list[str],
) -> list[RawChannel]:
    """Return channels at the sidecar's rate; ``numbers`` are those of the rows' samples, where a column counts them."""
    path, sidecar = source.path, source.sidecar
    if sidecar.sampling_rate is None:
        raise RecordingError(_no_rate(source, [table.names[i] for i in columns]))
    n_rows = len(next(iter(columns.values())))
    if n_rows < 1:
        raise RecordingError(f"{path.name}: a header and no rows")
    rows = np.arange(n_rows)
    cells = rows if numbers is None else numbers
    start, n_samples = sidecar.start_seconds or 0.0, int(cells[-1]) + 1
    if n_samples > n_rows:
        n_lost = n_samples - n_rows
        notes.append(
            f"gaps: the counter leaves out {n_lost} of {n_samples} samples ({n_lost / sidecar.sampling_rate:.1f} s); "
            "they are missing"
        )
    times = start + cells / sidecar.sampling_rate
    return _placed(path, table, columns, TimeGrid(rows, times, sidecar.sampling_rate, start, cells, n_samples, ()))


def _no_rate(source: TableSource, names: Sequence[str]) -> str:
    """Return what to write where nothing says when rows were measured: the rate, and units that are missing as well."""
    wanted: dict[str, object] = {"SamplingFrequency": 100}
    for name in names:
        label, unit = _label_and_unit(name, source.sidecar)
        row = MODALITIES.get(_declared(source, name))
        if row is not None and row.unit != ARBITRARY and convert_unit(unit, row.unit) is None:
            wanted[label] = {"Units": row.unit}
    units = " and the units" if len(wanted) > 1 else ""
    return (
        f"{source.path.name}: no time column ('time' in seconds or 'timestamp') and no sampling rate; write the rate"
        f"{units} in {without_suffix(source.path.name)}.json beside it in this form, with the file's own values: "
        f"{json.dumps(dict(list(wanted.items())[:4]), ensure_ascii=False)}"
    )


def _by_time(
    source: TableSource, table: TextTable, columns: Mapping[int, FloatArray], clock: Clock, notes: list[str]
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
        grid = _grid(source, clock.times[rows], [table.names[i] for i in members])
        if grid is None:
            notes.append(f"{table.names[members[0]]}: fewer than two rows with different times; left out")
            continue
        prefix = "" if members[0] not in apart else f"{table.names[members[0]]}: "
        if members[0] in beats:  # each interval stands at its own beat, however evenly they come
            n_same = int((np.diff(grid.times) == 0).sum())
            same = (f"{n_same} beats have the time of the one before",) if n_same else ()
            grid = replace(grid, cells=None, notes=(*grid.order_notes, *same))
        else:
            _compare_rates(grid, sidecar, notes, prefix)
        notes.extend(f"{prefix}{note}" for note in grid.notes)
        channels.extend(_placed(path, table, {i: columns[i][rows] for i in members}, grid))
    if not channels:
        raise RecordingError(f"{path.name}: fewer than two rows with different times")
    return channels


def _grid(source: TableSource, times: FloatArray, names: Sequence[str]) -> TimeGrid | None:
    """Return how rows lie; values that a device computes about once a second lie on a grid of seconds."""
    if source.even_rates is not None:
        return even_grid(times, source.even_rates) or fit_grid(times)
    grid = fit_grid(times)
    is_computed = all(_declared(source, name) in _COMPUTED for name in names)
    return second_grid(times) or grid if grid is not None and grid.cells is None and is_computed else grid


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


def _described(source: TableSource, channel: RawChannel) -> RawChannel:
    """Return a channel with the unit and modality that the sidecar, or the brackets in its name, give it."""
    label, unit = _label_and_unit(channel.label, source.sidecar)
    if override_for(channel.label, source.overrides) and not override_for(label, source.overrides):
        label = channel.label  # the study's pattern was written for the name with its unit
    modality = _sidecar_modality(source, channel.label)
    if modality or channel.modality:
        how = "sidecar" if modality not in ("", UNKNOWN) else channel.recognised_by
        return replace(channel, label=label, unit=unit, modality=modality or channel.modality, recognised_by=how)
    by_format = (source.by_format or {}).get(channel.label, "")
    how = FORMAT if by_format not in ("", UNKNOWN) else ""
    return replace(channel, label=label, unit=unit, modality=by_format, recognised_by=how)


def _without_false_heart_rates(
    source: TableSource, channels: Sequence[RawChannel], notes: list[str]
) -> list[RawChannel]:
    """Return channels, those called a heart rate that are the wave of a pulse sensor as unknown, with a note."""
    kept = []
    for channel in channels:
        override = override_for(channel.label, source.overrides)
        is_said = bool(channel.modality or channel.unit) or override is not None
        is_fast = channel.times is None and channel.sampling_rate > _FASTEST_HEART_RATE
        if is_fast and not is_said and recognise(channel.label, "", channel.sampling_rate)[0] == "hr":
            notes.append(
                f"{channel.label}: {channel.sampling_rate:g} Hz without a unit is no heart rate but may be the wave of "
                f"a pulse sensor; if it is, write in {without_suffix(source.path.name)}.json "
                f'{{"{channel.label}": {{"Modality": "ppg"}}}}'
            )
            channel = replace(channel, modality=UNKNOWN)
        kept.append(channel)
    return kept


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


def _sidecar_modality(source: TableSource, name: str) -> str:
    sidecar = source.sidecar
    modality = sidecar.modalities.get(name, sidecar.modalities.get(_label_and_unit(name, sidecar)[0], ""))
    if not modality:
        return ""
    try:
        return SignalOverride(modality=modality).modality or ""
    except SettingsError as fault:
        raise RecordingError(f"{source.path.name}: the sidecar's entry for {name!r}: {fault}") from fault


def _declared(source: TableSource, name: str) -> str:
    """Return the modality of a column before its rate is known: the study's word, the sidecar's, or the label's."""
    label, unit = _label_and_unit(name, source.sidecar)
    override = override_for(name, source.overrides) or override_for(label, source.overrides)
    if override is not None and override.modality is not None:
        return override.modality
    by_format = (source.by_format or {}).get(name, "")
    return _sidecar_modality(source, name) or by_format or recognise(label, unit, 1.0)[0]


def _check_rates(source: TableSource, channels: Sequence[RawChannel], clock: Clock | None) -> None:
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


_NAME = re.compile(r"(rr|rri|r-r|nn|nni|ibi|ppi|pp)s?([ _-]*intervals?)?|inter[ _-]?beat.*", re.IGNORECASE)
_WORDS_OF_FILES = re.compile(r"(rr|rri|rrs|ibi|ibis|nn|nni|interbeat|intervals)", re.IGNORECASE)
_BODY_SECONDS = (0.25, 2.5)
"""Between them lies the middle interval of every heart."""
_LONGEST_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Beats:
    """Intervals in seconds, when each ended (s from the start), and what a reader must know."""

    times: FloatArray
    intervals: FloatArray
    notes: tuple[str, ...]


def is_name_of_beats(name: str) -> bool:
    """Return whether a column's name, without its unit, says intervals from beat to beat.

    >>> is_name_of_beats("RR"), is_name_of_beats("RR-interval"), is_name_of_beats("ECG")
    (True, True, False)
    """
    return bool(_NAME.fullmatch(name.strip()))


def is_file_named_after_beats(path: Path) -> bool:
    """Return whether a word of a file's name says intervals from beat to beat ("S01_RR.txt")."""
    return any(_WORDS_OF_FILES.fullmatch(word) for word in re.split(r"[^A-Za-z]+", path.name))


def are_beats(values: FloatArray) -> bool:
    """Return whether numbers can be intervals from beat to beat: none is missing, and the middle one is a heart's."""
    return len(values) > 0 and bool((values > 0).all()) and _unit_of(values) != ""


def _unit_of(values: FloatArray) -> str:
    """Return s or ms, in whichever the middle interval is one of a heart; empty where it is in neither."""
    low, high = _BODY_SECONDS
    middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    return "s" if low <= middle <= high else "ms" if 1000 * low <= middle <= 1000 * high else ""


def beats_of(path: Path, name: str, values: FloatArray, unit: str, start_seconds: float) -> Beats:
    """Return the beats of a list of intervals: each ends where the one before ended, and its interval later.

    Raises RecordingError where an interval is missing, none, or longer than a minute, for nothing tells when the beats
    after it were, and where the unit cannot be told.
    """
    notes: list[str] = []
    usual = _unit_of(values)
    if not unit and not usual:
        raise RecordingError(
            f"{path.name}: {name} holds intervals of {float(np.nanmedian(values)):g}, which are none of a heart in s "
            "or in ms; say the unit in the name of the column, for example 'RR (ms)'"
        )
    if not unit:
        unit = usual
        notes.append(f"{name}: no unit in the file; they are intervals of a heart in {unit} alone")
    conversion = convert_unit(unit, "s")
    if conversion is None:
        raise RecordingError(f"{path.name}: {name} is in {unit!r}, which is no unit of time; s and ms are read")
    if usual and unit in ("s", "ms") and unit != usual:
        raise RecordingError(
            f"{path.name}: {name} is in {unit} by what the file or its sidecar says, and its intervals "
            f"({float(np.nanmedian(values)):g} in the middle) are those of a heart in {usual}; correct the unit"
        )
    intervals = values * conversion.scale
    is_wrong = ~((intervals > 0) & (intervals <= _LONGEST_SECONDS))
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise RecordingError(
            f"{path.name}: {name} holds {values[row]:g} in row {row + 1} of {len(values)}, which is no interval, and "
            "nothing tells when the beats after it were; correct it, or add a column of times"
        )
    if len(intervals) < 2:
        raise RecordingError(f"{path.name}: {name} holds {len(intervals)} interval; at least two are needed")
    notes.append(f"{name}: no times in the file; the beats follow each other, the first interval begins at the start")
    return Beats(start_seconds + np.cumsum(intervals), intervals, tuple(notes))
