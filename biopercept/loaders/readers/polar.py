"""Polar Sensor Logger text files: ECG, acceleration, pulse waves, beat intervals and heart rate of a belt or armband.

Each file has two clocks. The sensor's own says how samples follow each other; it is often unset, so that the phone's,
at which packets came, says when the recording began.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.clock import offset_of_clocks, put_on, stray_times
from biopercept.loaders.readers.table_times import stamps_of
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import TextTable, read_text_table
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import read_sidecar
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Recording

FIRST_WORDS = b"Phone timestamp;"
_PHONE, _SENSOR = "phone timestamp", "sensor timestamp [ns]"
_COLUMNS: Mapping[str, tuple[str, str, str]] = {
    "ecg [uv]": ("ECG", "uV", "ecg"),
    "x [mg]": ("ACC_x", "mg", "acc"),
    "y [mg]": ("ACC_y", "mg", "acc"),
    "z [mg]": ("ACC_z", "mg", "acc"),
    "channel 0": ("PPG 0", "a.u.", "bvp"),
    "channel 1": ("PPG 1", "a.u.", "bvp"),
    "channel 2": ("PPG 2", "a.u.", "bvp"),
    "rr-interval [ms]": ("RR", "ms", "ibi"),
    "pp-interval [ms]": ("PP", "ms", "ibi"),
    "hr [bpm]": ("HR", "bpm", "hr"),
    "hr": ("HR", "bpm", "hr"),
}
"""Our name, unit and modality of a column."""


def load_polar(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a text file of Polar Sensor Logger; its start is local time of the phone.

    Raises RecordingError where no column is known, or neither clock goes on.
    """
    table = read_text_table(path)
    lower = [name.lower().strip() for name in table.names]
    phone = table.columns[lower.index(_PHONE)]
    if not isinstance(phone, list):
        raise RecordingError(f"{path.name}: the column 'Phone timestamp' holds no dates; export it again")
    by_phone = stamps_of(path, table.names[lower.index(_PHONE)], phone)
    by_sensor = _by_sensor(table, lower)
    known = [i for i, name in enumerate(lower) if name in _COLUMNS]
    if not known:
        raise RecordingError(f"{path.name}: no column that Polar Sensor Logger is known to write ({', '.join(lower)})")
    described = [_COLUMNS[lower[i]] for i in known]
    columns = [table.columns[i] for i in known]
    if any(isinstance(column, list) for column in columns):
        raise RecordingError(f"{path.name}: a column of samples holds text; export it again")
    is_even = by_sensor is not None and all(modality not in ("ibi", "hr") for _, _, modality in described)
    times = by_sensor if is_even and by_sensor is not None else by_phone.seconds
    is_stray = stray_times(times)
    offset = offset_of_clocks(by_phone.seconds, np.where(is_stray, np.nan, times), "the phone's clock")
    notes = [*table.notes, *offset.notes]
    if is_even:
        notes.append("samples are placed by the sensor's clock, the start by the phone's, at which the first came")
    rest = [table.names[i] for i in range(len(lower)) if i not in known and "timestamp" not in lower[i]]
    if rest:
        notes.append(f"left out: {', '.join(rest)}")
    names = ("time (s)", *(name for name, _, _ in described))
    # Where a clock is set back, the least of the times is none that was; else rows may stand in any order.
    placed = times[np.isfinite(times) & ~is_stray]
    with suppress(ValueError):  # times that go back for no reason are refused where rows are placed, by column
        placed = put_on(placed).times
    zero = float(placed.min()) if len(placed) else 0.0
    start = None if offset.seconds is None else datetime(1970, 1, 1) + timedelta(seconds=offset.seconds + zero)
    ours = replace(
        table,
        names=names,
        columns=(times - zero, *columns),
        units={name: unit for name, unit, _ in described},
        notes=tuple(notes),
    )
    modalities = {name: modality or UNKNOWN for name, _, modality in described}
    source = TableSource(path, read_sidecar(path), overrides, modalities)
    return recording_of_table(source, ours, started_at=start)


def _by_sensor(table: TextTable, lower: list[str]) -> FloatArray | None:
    """Return seconds by the sensor's clock; None where it stands still, or is not there."""
    if _SENSOR not in lower:
        return None
    column = table.columns[lower.index(_SENSOR)]
    if isinstance(column, list) or len(column) < 2 or not (np.diff(column) > 0).mean() > 0.9:
        return None
    seconds: FloatArray = (column - column[np.isfinite(column)][0]) / 1e9
    return seconds
