"""Mind Monitor CSV of a Muse headband: raw EEG in uV, acceleration in g, markers, by local time.

Band powers are computed by the app and left out, as are its marks of how the headband sits. Rows of markers and blinks
stand among those of samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from biopercept.errors import RecordingError, listed
from biopercept.loaders.readers.table_times import stamps_of
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import TextTable, read_text, table_of_text
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import read_sidecar
from biopercept.modalities import UNKNOWN
from biopercept.recording import Interval, Recording

_TIME, _ELEMENTS = "TimeStamp", "Elements"
_BANDS = re.compile(r"(Delta|Theta|Alpha|Beta|Gamma|Mellow|Concentration|HSI)(_.*)?|HeadBandOn|Battery", re.IGNORECASE)
_EEG = re.compile(r"RAW_(?P<electrode>TP9|AF7|AF8|TP10)", re.IGNORECASE)
_ACCELERATION = re.compile(r"Accelerometer_(?P<axis>[XYZ])", re.IGNORECASE)

_RATES = (256.0, 220.0)
"""Hz of the headbands since 2016, and of the first."""


def is_muse(first_bytes: bytes) -> bool:
    """Return whether a file begins with the header of Mind Monitor."""
    header = first_bytes.partition(b"\n")[0]
    return header.lstrip(b'"').lower().startswith(b"timestamp") and b"RAW_TP9" in header


def load_muse(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a Mind Monitor CSV; markers, blinks and clenched jaws become intervals of duration 0.

    Raises RecordingError where it has no column of times, or times cannot be placed.
    """
    notes: list[str] = []
    header, _, body = read_text(path, notes).partition("\n")
    names = tuple(cell.strip().strip('"') for cell in header.split(","))
    table = table_of_text(path, body, names, ",", notes)
    elements = _elements(names, body)
    stamps = table.column(_TIME)
    if not isinstance(stamps, list):
        raise RecordingError(f"{path.name}: the column {_TIME} holds no dates; export it again")
    samples = [i for i, name in enumerate(table.names) if _EEG.fullmatch(name) or _ACCELERATION.fullmatch(name)]
    filled = [column for i in samples if not isinstance(column := table.columns[i], list)]
    is_sample = np.any([np.isfinite(column) for column in filled], axis=0) if filled else np.zeros(len(stamps), bool)
    if not is_sample.any():
        raise RecordingError(f"{path.name}: no row of raw EEG or acceleration; record with 'all data' in the app")
    kept = [i for i, name in enumerate(names) if not _BANDS.fullmatch(name) and name != _ELEMENTS]
    ours = [_shown(names[i]) for i in kept]
    columns = tuple(
        [cell for cell, is_one in zip(column, is_sample, strict=True) if is_one]
        if isinstance(column := table.columns[i], list)
        else column[is_sample]
        for i in kept
    )
    units = {name: "uV" if name.startswith("EEG ") else "g" for name in ours if name.startswith(("EEG ", "ACC_"))}
    modalities = {name: "eeg" if name.startswith("EEG ") else "acc" if name in units else UNKNOWN for name in ours}
    modalities.pop(_TIME, None)
    source = TableSource(path, read_sidecar(path), overrides, modalities, _RATES)
    remarks = (*(note for note in table.notes if "fewer than" not in note and _ELEMENTS not in note), *_left_out(names))
    return recording_of_table(
        source, TextTable(tuple(ours), columns, remarks, units), intervals=_events(path, elements, stamps, is_sample)
    )


def _elements(names: Sequence[str], body: str) -> list[str]:
    """Return what the app marked, a text for each row: only rows of marks have a last cell."""
    lines = (line for line in body.splitlines() if line.strip())
    return [cells[-1].strip() if len(cells := line.split(",")) == len(names) else "" for line in lines]


def _shown(name: str) -> str:
    """Return our name of a column: the electrode's, or the axis'."""
    eeg, axis = _EEG.fullmatch(name), _ACCELERATION.fullmatch(name)
    return f"EEG {eeg['electrode'].upper()}" if eeg else f"ACC_{axis['axis'].lower()}" if axis else name


def _left_out(names: Sequence[str]) -> list[str]:
    bands = [name for name in names if _BANDS.fullmatch(name)]
    return [f"computed by the app and left out: {listed(bands, 4)}"] if bands[4:] else []


def _events(path: Path, elements: Sequence[str], stamps: Sequence[str], is_sample: np.ndarray) -> tuple[Interval, ...]:
    """Return marks as intervals, by the clock of the samples."""
    if len(elements) != len(stamps):
        return ()
    seconds = stamps_of(path, _TIME, stamps).seconds
    zero = float(np.nanmin(seconds[is_sample])) if np.isfinite(seconds[is_sample]).any() else 0.0
    return tuple(
        Interval(float(time - zero), 0.0, element.rpartition("/")[2] or element)
        for element, time in zip(elements, seconds, strict=True)
        if element and np.isfinite(time)
    )
