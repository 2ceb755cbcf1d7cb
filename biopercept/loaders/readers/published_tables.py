"""Tables of public data sets that do not say what is in them: units and the clock are those of each data set's readme.

CASE: data/interpolated/physiological/sub_N.csv, as its README says (daqtime in ms, ecg in mV, gsr in uS, skt in degC,
emg in uV, bvp and rsp in per cent). K-EmoCon: e4_data/N/E4_*.csv, with unix times in ms and a column "value", as the
code reads it that its authors published; the unit is the Empatica E4's. AffectiveROAD: Subj_metric/SM_ID.csv, one
column of ratings, 4 a second, as three public programs take them. MAUS: NNN/{inf_ecg,inf_gsr,inf_ppg,pixart}.csv, a
column for each trial, at the rates of its authors' code; in which unit ECG and GSR are, nothing says. A file is known
by its name and its header.
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
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Recording


@dataclass(frozen=True)
class _Layout:
    """A kind of table: how its file is called, its column of times in ms, and column -> label, modality and unit."""

    name: str
    time: str
    signals: Mapping[str, tuple[str, str, str]]


RATING = "stress rating"
_RATINGS, _RATINGS_HZ = re.compile(r"SM_[A-Z]+\d+\.csv"), 4.0

TRIALS = {
    "Trial 1:0back": "0-back",
    "Trial 2:2back": "2-back",
    "Trial 3:3back": "3-back",
    "Trial 4:2back": "2-back",
    "Trial 5:3back": "3-back",
    "Trial 6:0back": "0-back",
}
"""Columns of MAUS in the order of the trials."""
TRIAL_APART_SECONDS = 360.0
"""The trials of MAUS last five minutes; how long after each other they were is not published."""
_TRIAL_SIGNALS = {
    "inf_ecg.csv": ("ECG", "ecg", ""),
    "inf_gsr.csv": ("GSR", "eda", ""),
    "inf_ppg.csv": ("PPG finger", "bvp", "a.u."),
    "pixart.csv": ("PPG wrist", "bvp", "a.u."),
}
_TRIAL_HZ, _WRIST_HZ, _FIRST_WRIST_HZ = 256.0, 102.5, 100.0
_FIRST_PEOPLE = frozenset({"002", "003", "004", "005", "006"})
"""People of MAUS whose wristband sampled at 100 Hz."""


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
    header = [cell.strip(' "\r') for cell in first.split(",")]
    return _holds_ratings(path, header) or _holds_trials(path, header) or _layout_of(path.name, header) is not None


def _holds_ratings(path: Path, header: Sequence[str]) -> bool:
    is_one_column = len(header) == 1 and not re.search(r"[;\t|]", header[0])
    return bool(_RATINGS.fullmatch(path.name)) and path.absolute().parent.name == "Subj_metric" and is_one_column


def _holds_trials(path: Path, header: Sequence[str]) -> bool:
    return path.name in _TRIAL_SIGNALS and set(TRIALS) <= set(header)


def load_published_table(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of one table: rows at the times that they give, in the units that the data set states.

    Second zero is the zero of the table's clock, or its first row where the clock is that of the wall.

    Raises RecordingError where the columns are not those of the data set, times are no numbers, or the rows are of
    several devices.
    """
    table = read_text_table(path)
    if _holds_ratings(path, table.names):
        ratings = _numbers(path, table, table.names[0])
        return _at_rate(path, table, (RATING, UNKNOWN, ""), ratings, _RATINGS_HZ, overrides)
    if _holds_trials(path, table.names):
        rate = _trial_rate(path)
        return _at_rate(path, table, _TRIAL_SIGNALS[path.name], _trials(path, table, rate), rate, overrides)
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


def _trial_rate(path: Path) -> float:
    """Return the rate of a file of MAUS. Raises RecordingError where it is the person's and the folder names none."""
    if path.name != "pixart.csv":
        return _TRIAL_HZ
    person = path.absolute().parent.name
    if not re.fullmatch(r"\d{3}", person):
        raise RecordingError(
            f"{path.name}: the rate of this wristband differs from person to person, and the folder {person!r} is none "
            "of a person (002, 003, ...)"
        )
    return _FIRST_WRIST_HZ if person in _FIRST_PEOPLE else _WRIST_HZ


def _trials(path: Path, table: TextTable, rate: float) -> FloatArray:
    """Return the trials of MAUS one after the other, so many seconds apart; what lies between them is missing."""
    columns = [_numbers(path, table, name) for name in TRIALS]
    lengths = [
        int(np.flatnonzero(np.isfinite(column))[-1]) + 1 if np.isfinite(column).any() else 0 for column in columns
    ]
    apart = round(TRIAL_APART_SECONDS * rate)
    if max(lengths) > apart:
        raise RecordingError(
            f"{path.name}: a trial lasts {max(lengths) / rate:.0f} s, those of MAUS are of 300 s; its rate is not "
            f"{rate:g} Hz, or it is another table"
        )
    samples = np.full((len(columns) - 1) * apart + lengths[-1], np.nan)
    for number, (column, length) in enumerate(zip(columns, lengths, strict=True)):
        samples[number * apart : number * apart + length] = column[:length]
    return samples


def _at_rate(
    path: Path,
    table: TextTable,
    signal: tuple[str, str, str],
    samples: FloatArray,
    rate: float,
    overrides: Mapping[str, SignalOverride] | None,
) -> Recording:
    """Return the recording of one signal (label, modality, unit) whose table has no times."""
    if not len(samples):
        raise RecordingError(f"{path.name}: a header and no rows")
    label, modality, unit = signal
    block = block_in_memory(samples[None, :])
    channel = RawChannel(label, unit, rate, 0.0, len(samples), 0, block, path.name, modality, FORMAT)
    signals, more = assemble_signals([channel], overrides)
    return Recording("", "", path.stem, signals, (), None, (*table.notes, *more))


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
