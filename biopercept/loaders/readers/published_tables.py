"""Tables of public data sets that do not say what is in them: units and the clock are those of each data set's readme.

CASE: data/interpolated/physiological/sub_N.csv, as its README says (daqtime in ms, ecg in mV, gsr in uS, skt in degC,
emg in uV, bvp and rsp in per cent). K-EmoCon: e4_data/N/E4_*.csv, with unix times in ms and a column "value", as the
code reads it that its authors published; the unit is the Empatica E4's. A file is known by its name and its header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.readers.text_tables import TextTable, read_text_table
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.loaders.time_grid import fit_grid
from biopercept.recording import FloatArray, Recording


@dataclass(frozen=True)
class _Layout:
    """A kind of table: how its file is called, its column of times in ms, and column -> label, modality and unit."""

    name: str
    time: str
    signals: Mapping[str, tuple[str, str, str]]


_CASE = {
    "ecg": ("ECG", "ecg", "mV"),
    "bvp": ("BVP", "bvp", "a.u."),
    "gsr": ("GSR", "eda", "uS"),
    "rsp": ("RSP", "resp", "a.u."),
    "skt": ("SKT", "temp", "degC"),
    "emg_zygo": ("EMG zygomaticus", "emg", "uV"),
    "emg_coru": ("EMG corrugator", "emg", "uV"),
    "emg_trap": ("EMG trapezius", "emg", "uV"),
}
_E4 = {"BVP": ("bvp", "a.u."), "EDA": ("eda", "uS"), "TEMP": ("temp", "degC"), "HR": ("hr", "bpm")}

LAYOUTS = (
    _Layout(r"sub_\d+\.csv", "daqtime", _CASE),
    *(_Layout(rf"E4_{sensor}\.csv", "timestamp", {"value": (sensor, *what)}) for sensor, what in _E4.items()),
)
_SERIAL = "device_serial"
_UNIX_MS = 1e12


def _layout_of(name: str, header: Sequence[str]) -> _Layout | None:
    for layout in LAYOUTS:
        if re.fullmatch(layout.name, name) and {layout.time, *layout.signals} <= set(header):
            return layout
    return None


def is_published_table(path: Path, first_bytes: bytes) -> bool:
    """Return whether a file is such a table, by its name and the columns that its first line names."""
    first = first_bytes.split(b"\n", 1)[0].decode("latin-1")
    return _layout_of(path.name, [cell.strip(' "\r') for cell in first.split(",")]) is not None


def load_published_table(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of one table: rows at the times that they give, in the units that the data set states.

    Second zero is the zero of the table's clock, or its first row where the clock is that of the wall.

    Raises RecordingError where the columns are not those of the data set, times are no numbers, or the rows are of
    several devices.
    """
    table = read_text_table(path)
    layout = _layout_of(path.name, table.names)
    if layout is None:
        raise RecordingError(f"{path.name}: its columns are {', '.join(table.names)}, not those of the data set")
    _refuse_several_devices(path, table)
    notes = list(table.notes)
    columns = {name: _numbers(path, table, name) for name in (layout.time, *layout.signals)}
    times = columns.pop(layout.time) / 1000
    if not np.isfinite(times).all():
        raise RecordingError(f"{path.name}: {int((~np.isfinite(times)).sum())} rows of {layout.time} are no number")
    zero = float(times.min()) if times.min() * 1000 > _UNIX_MS else 0.0
    grid = fit_grid(times - zero)
    if grid is None:
        raise RecordingError(f"{path.name}: fewer than two rows with different times")
    notes.extend(grid.notes)
    block = block_in_memory(np.array([grid.placed(values) for values in columns.values()]))
    channels = []
    for key, name in enumerate(columns):
        label, modality, unit = layout.signals[name]
        channels.append(
            RawChannel(
                label=label,
                unit=unit,
                sampling_rate=grid.sampling_rate,
                start_seconds=grid.start_seconds,
                n_samples=grid.n_samples,
                key=key,
                block=block,
                source=path.name,
                modality=modality,
                recognised_by=FORMAT,
                times=grid.times if grid.cells is None else None,
            )
        )
    signals, more = assemble_signals(channels, overrides)
    started_at = datetime.fromtimestamp(zero, tz=UTC) if zero else None
    return Recording("", "", path.stem, signals, (), started_at, (*notes, *more))


def _numbers(path: Path, table: TextTable, name: str) -> FloatArray:
    column = table.columns[table.names.index(name)]
    if isinstance(column, list):
        raise RecordingError(f"{path.name}: column {name!r} holds text ({column[0][:20]!r} the first)")
    return column


def _refuse_several_devices(path: Path, table: TextTable) -> None:
    if _SERIAL not in table.names:
        return
    column = table.columns[table.names.index(_SERIAL)]
    serials = sorted({str(cell) for cell in column})
    if len(serials) > 1:
        raise RecordingError(
            f"{path.name}: rows of {len(serials)} devices ({', '.join(serials[:3])}), and nothing says whose each is"
        )
