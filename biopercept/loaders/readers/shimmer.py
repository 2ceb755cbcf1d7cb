"""Shimmer CSV of Consensys and ShimmerCapture: two to four header lines with device, names, CAL or RAW, and units.

The unit row decides: calibrated columns are read in their units, uncalibrated ones (RAW) are left without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biopercept.errors import RecordingError
from biopercept.loaders.readers.tables import TableSource, recording_of_table
from biopercept.loaders.readers.text_tables import read_text, table_of_text
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import read_sidecar
from biopercept.modalities import UNKNOWN
from biopercept.recording import Recording

_HINT = re.compile(r'"?sep=(?P<sign>.|\\t)"?[ \t]*\r?\n')
_DEVICE = re.compile(r"^(shimmer|id)[ _]?[0-9A-Fa-f]{3,5}_", re.IGNORECASE)
_STATE = re.compile(r"_(CAL|RAW|UNCAL)$")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
_MOST_HEADER_ROWS = 5
_STAMPS = (
    "timestamp unix",
    "timestamp sync unix",
    "timestamp sync",
    "timestamp",
    "system timestamp",
    "real time clock",
)
"""Columns of times, the best first: the others are left out."""
_MODALITIES: tuple[tuple[str, str], ...] = (
    (r"gsr skin conductance|gsr conductance", "eda"),
    (r"(wide range |low noise )?acc(el(erometer)?)?( ln| wr| low noise| wide range)? [xyz]", "acc"),
    (r"ecg.*(rate|hr)$|ppg ?to ?hr.*", "hr"),
    (r"ppg ?ibi.*|ecg ?ibi.*", "ibi"),
    (r"ecg .*resp.*", "resp"),
    (r"ecg .*", "ecg"),
    (r"emg .*", "emg"),
    (r"ppg.*", "bvp"),
)
"""What is measured, by the tidied name; everything else keeps its name and is not used, skin resistance among it."""
_RATES = (10.24, 51.2, 64.0, 102.4, 128.0, 170.67, 200.05, 204.8, 250.14, 256.0, 504.12, 512.0, 1024.0, 2048.0)
"""Hz that the programs offer; the device divides 32768 Hz."""
_UNITS = {"degrees celsius": "degC", "kohms": "kOhm", "no units": "", "no_units": "", "beats/min": "bpm"}


def is_shimmer(first_bytes: bytes) -> bool:
    """Return whether a file begins as Shimmer's programs write: devices before the names of the columns."""
    text = first_bytes.decode("latin-1")
    match = _HINT.match(text)
    line = text[match.end() :].partition("\n")[0] if match else text.partition("\n")[0]
    cells = [cell.strip().strip('"') for cell in re.split(r"[\t;,]", line)]
    return len(cells) > 1 and bool(re.match(r"shimmer[ _]?[0-9A-Fa-f]{3,5}(_|$)", cells[0], re.IGNORECASE))


def load_shimmer(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a Shimmer CSV: skin conductance, acceleration, ECG, EMG and pulse in their units.

    Acceleration of both sensors is read. Pressure, gyroscope, magnetometer, battery and the board's own temperature
    are kept under their names and not used.

    Raises RecordingError where the header lines are not those of Shimmer, or no column of times is there.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    match = _HINT.match(text)
    body = text[match.end() :] if match else text
    lines = body[: 1 << 18].splitlines()
    sign = match["sign"].replace("\\t", "\t") if match else next(s for s in "\t;," if s in lines[0])
    header = _header_rows(path, lines, sign)
    raw_names, units, states = _described(header)
    names = [_tidy(name) for name in raw_names]
    spare = len(names) - 1 if not names[-1] else len(names)
    data = "\n".join(body.split("\n")[len(header) :])
    table = table_of_text(path, data, [name or "column" for name in names[:spare]], sign, notes)
    stamp = next((word for word in _STAMPS if word in names), "")
    if not stamp:
        raise RecordingError(f"{path.name}: no column of times among those of Shimmer ({', '.join(names[:6])}, ...)")
    left_out = {i for i in range(spare) if names[i] in _STAMPS and names[i] != stamp}
    kept = [i for i in range(spare) if i not in left_out]
    stamp_unit = units[names.index(stamp)] or "ms"
    shown = ["timestamp (ms)" if names[i] == stamp and stamp_unit == "ms" else names[i] for i in kept]
    sidecar = read_sidecar(path)
    given = {names[i]: units[i] if states[i] != "RAW" else "" for i in kept}
    table = replace(table, names=tuple(shown), columns=tuple(table.columns[i] for i in kept), units=given)
    modalities = {name: _modality(name) for name in shown if not name.startswith("timestamp")}
    return recording_of_table(TableSource(path, sidecar, overrides, modalities, _RATES), table)


def _header_rows(path: Path, lines: Sequence[str], sign: str) -> list[list[str]]:
    """Return the cells of the rows above the first row of numbers."""
    rows: list[list[str]] = []
    for line in lines[: _MOST_HEADER_ROWS + 1]:
        cells = [cell.strip().strip('"') for cell in line.split(sign)]
        if _NUMBER.fullmatch(cells[0]):
            break
        rows.append(cells)
    if not rows or len(rows) > _MOST_HEADER_ROWS or len({len(row) for row in rows}) > 1:
        raise RecordingError(f"{path.name}: the header lines of Shimmer differ in length; export it again")
    return rows


def _described(header: Sequence[Sequence[str]]) -> tuple[list[str], list[str], list[str]]:
    """Return names, units and states (CAL, RAW) of the columns."""
    n = len(header[0])
    states, units = [""] * n, [""] * n
    rows = [list(row) for row in header]
    if len(rows) > 1:
        units = [_UNITS.get(cell.lower(), cell) for cell in rows.pop()]
    for row in [row for row in rows if any(cell in ("CAL", "RAW", "UNCAL") for cell in row)]:
        states = ["RAW" if cell in ("RAW", "UNCAL") else cell for cell in row]
        rows.remove(row)
    names = rows[-1]
    states = [
        "RAW" if (match := _STATE.search(name)) and match[1] != "CAL" else state
        for name, state in zip(names, states, strict=True)
    ]
    return names, units, states


def _tidy(name: str) -> str:
    """Return a name without device and state: "Shimmer_40AC_Accel_LN_X_CAL" gives "accel ln x".

    >>> _tidy("Shimmer_40AC_Accel_LN_X_CAL"), _tidy("Skin Conductance")
    ('accel ln x', 'skin conductance')
    """
    return " ".join(_STATE.sub("", _DEVICE.sub("", name)).replace("_", " ").split()).lower()


def _modality(name: str) -> str:
    return next((modality for pattern, modality in _MODALITIES if re.fullmatch(pattern, name)), UNKNOWN)
