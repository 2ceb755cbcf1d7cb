"""Garmin CSV of a watch's app, without headers: lines of ``time;NAME;value``, or of acceleration, ``time;x;y;z``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import TextTable, read_text, table_of_text
from biopercept.loaders.recognition import SignalOverride, counts_of_one_g
from biopercept.loaders.sidecars import read_sidecar, without_suffix
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Recording

_STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"
_LONG = re.compile(_STAMP + rb";[A-Z][A-Z_]+;[-+0-9.eE]*\r?\n")
_AXES = re.compile(_STAMP + rb";-?\d+(\.\d+)?;-?\d+(\.\d+)?;-?\d+(\.\d+)?\r?\n")
_KINDS: Mapping[str, tuple[str, str, str]] = {
    "HEART_RATE": ("HR", "bpm", "hr"),
    "HEART_RATE_VARIABILITY": ("IBI", "ms", "ibi"),
    "SPO2": ("SpO2", "%", "spo2"),
    "PULSE_OX": ("SpO2", "%", "spo2"),
}
"""Our name, unit and modality; of the variability the watch gives the interval of each beat."""
_MG = 1000.0


def is_garmin(first_bytes: bytes) -> bool:
    """Return whether a file begins with such a line: a time with its date, and a name or three numbers."""
    return bool(_LONG.match(first_bytes)) or (bool(_AXES.match(first_bytes)))


def load_garmin(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a Garmin CSV.

    Of the long form heart rate and beat intervals are used, each at its own times; acceleration is in thousandths of g,
    which gravity must confirm.

    Raises RecordingError where acceleration does not feel gravity so: it may be in another unit, or no acceleration.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    sidecar = read_sidecar(path)
    if _LONG.match(text[:200].encode("utf-8", "replace")):
        table = table_of_text(path, text, ("timestamp", "name", "value"), ";", notes)
        table, modalities = _wide(path, table)
        return recording_of_table(TableSource(path, sidecar, overrides, modalities), table)
    names = sidecar.columns or ("timestamp", "ACC_x", "ACC_y", "ACC_z")
    if len(names) != 4:
        raise RecordingError(
            f"{path.name}: the sidecar names {len(names)} columns ({', '.join(names)}), the file has 4; correct the "
            "sidecar"
        )
    table = table_of_text(path, text, names, ";", notes)
    if sidecar.columns is not None:
        return recording_of_table(TableSource(path, sidecar, overrides), table)
    axes = [column for column in table.columns[1:] if not isinstance(column, list)]
    if len(axes) != 3 or counts_of_one_g(np.array(axes), (_MG,)) is None:
        raise RecordingError(
            f"{path.name}: lines of a time and three numbers without a header, which are no acceleration in mg; write "
            f'what they are in {without_suffix(path.name)}.json beside it: {{"Columns": ["timestamp", "...", "...", '
            '"..."]}'
        )
    units = dict.fromkeys(names[1:], "mg")
    remark = "acceleration without a header: gravity in the middle of it is 1000, so it is in mg"
    table = TextTable(table.names, table.columns, (*table.notes, remark), units)
    return recording_of_table(TableSource(path, sidecar, overrides, dict.fromkeys(names[1:], "acc")), table)


def _wide(path: Path, table: TextTable) -> tuple[TextTable, dict[str, str]]:
    """Return a table with a column for each name, empty where a line is of another, and their modalities."""
    stamps, names, values = table.columns
    if not isinstance(stamps, list) or not isinstance(names, list) or isinstance(values, list):
        raise RecordingError(f"{path.name}: lines are not 'time;NAME;number' throughout; export it again")
    kinds = np.array(names)
    columns: list[FloatArray] = []
    shown: list[str] = []
    units: dict[str, str] = {}
    modalities: dict[str, str] = {}
    for kind in dict.fromkeys(names):
        name, unit, modality = _KINDS.get(kind, (kind.lower().replace("_", " "), "", UNKNOWN))
        if not kind or name in shown:
            continue
        is_kind: NDArray[np.bool_] = kinds == kind
        columns.append(np.where(is_kind, values, np.nan))
        shown.append(name)
        units[name], modalities[name] = unit, modality
    return TextTable(("timestamp", *shown), (stamps, *columns), table.notes, units), modalities
