"""OpenSignals text files of PLUX devices (biosignalsplux, BITalino): counts of a converter, turned into units.

The header is one line of JSON per file. Samples that a device's counter leaves out are missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, library_words
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.plux import Device, Port, places_by_counter, plux_device, transfer_of
from biopercept.loaders.readers.text_tables import TextTable, read_text, table_of_text
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.loaders.sidecars import without_suffix
from biopercept.recording import FloatArray, Recording

FIRST_WORDS = b"# OpenSignals Text File Format"
_COUNTER = "nSeq"
_LONGEST_HEADER = 1 << 18


def load_opensignals_text(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an OpenSignals text file; its start is the local time of the computer.

    Several devices of one file have the same rows. A sensor without a published transfer function keeps its counts,
    which have no unit, and so does a column that holds other numbers than counts.

    Raises RecordingError where the header is damaged, or names other columns than there are.
    """
    notes: list[str] = []
    text = read_text(path, notes)
    header, body = _divided(path, text)
    devices, names = [], []
    for fields in header:
        devices.append(_device(path, fields))
        names += _strings(path, fields, "column")
    table = table_of_text(path, body, names, "\t", notes)
    channels: list[RawChannel] = []
    first = 0
    for device, fields in zip(devices, header, strict=True):
        columns = _strings(path, fields, "column")
        part = TextTable(tuple(columns), table.columns[first : first + len(columns)], ())
        channels += _channels(path, device, part, notes)
        first += len(columns)
    signals, more = assemble_signals(channels, overrides)
    started_at = devices[0].started_at
    remarks = (*table.notes, *notes[len(table.notes) :], *(note for one in devices for note in one.notes))
    return Recording("", "", without_suffix(path.name), signals, (), started_at, (*remarks, *more))


def read_device(path: Path) -> Device:
    """Return what the header of a file says of its first device, without reading the samples.

    Raises RecordingError where the file cannot be read, or its header is damaged.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_LONGEST_HEADER).decode("utf-8", errors="replace")
    except OSError as fault:
        raise RecordingError(f"{path.name}: cannot be read ({fault.strerror})") from fault
    return _device(path, _divided(path, head)[0][0])


def _divided(path: Path, text: str) -> tuple[list[dict[str, Any]], str]:
    """Return what the header says of each device, and the lines under it."""
    head = text[:_LONGEST_HEADER]
    end = head.find("# EndOfHeader")
    if end < 0:
        raise RecordingError(f"{path.name}: the header of OpenSignals has no end (# EndOfHeader); export it again")
    begin = head.find("{", 0, end)
    content = head[begin:end].strip() if begin >= 0 else ""
    try:
        devices = json.loads(content)
    except (ValueError, RecursionError) as fault:
        raise RecordingError(
            f"{path.name}: the header of OpenSignals is damaged ({library_words(fault)}); export it again"
        ) from fault
    fields = list(devices.values()) if isinstance(devices, dict) else []
    if not fields or not all(isinstance(one, dict) for one in fields):
        raise RecordingError(f"{path.name}: the header of OpenSignals names no device; export it again")
    return fields, text[end:].partition("\n")[2]


def _strings(path: Path, fields: Mapping[str, Any], key: str) -> list[str]:
    values = fields.get(key)
    if not isinstance(values, list) or not values:
        raise RecordingError(f"{path.name}: the header of OpenSignals gives no {key}; export it again")
    return [str(value) for value in values]


def _device(path: Path, fields: Mapping[str, Any]) -> Device:
    return plux_device(path.name, fields, _strings(path, fields, "sensor"), _strings(path, fields, "label"))


def _channels(path: Path, device: Device, table: TextTable, notes: list[str]) -> list[RawChannel]:
    """Return the channels of one device; samples that its counter leaves out are missing."""
    ports = [(port, table.column(port.label)) for port in device.ports]
    columns = [(port, column) for port, column in ports if column is not None and not isinstance(column, list)]
    if len(columns) < len(ports):
        raise RecordingError(
            f"{path.name}: the header of OpenSignals names the channels {', '.join(p.label for p in device.ports)}, "
            f"and columns of numbers are {', '.join(table.names)}; export it again"
        )
    n_rows = len(columns[0][1])
    if not n_rows:
        raise RecordingError(f"{path.name}: a header and no rows")
    places = _places(device, table.column(_COUNTER), n_rows, notes)
    samples, converted = [], []
    for port, column in columns:
        values, unit, modality = _values(port, device, column, notes)
        placed = np.full(int(places[-1]) + 1, np.nan)
        placed[places] = values
        samples.append(placed)
        converted.append((port.name, unit, modality))
    block = block_in_memory(np.array(samples))
    return [
        RawChannel(
            label=name,
            unit=unit,
            sampling_rate=device.sampling_rate,
            start_seconds=0.0,
            n_samples=len(samples[0]),
            key=key,
            block=block,
            source=path.name,
            modality=modality,
            recognised_by=FORMAT if modality else "",
        )
        for key, (name, unit, modality) in enumerate(converted)
    ]


def _places(
    device: Device, counter: FloatArray | list[str] | None, n_rows: int, notes: list[str]
) -> Sequence[int] | np.ndarray:
    """Return the sample number of each row."""
    every_row = np.arange(n_rows)
    if counter is None or isinstance(counter, list):
        return every_row
    is_whole = bool(np.isfinite(counter).all()) and bool((counter == np.round(counter)).all())
    places = places_by_counter(counter.astype(np.int64), device.device) if is_whole else None
    if places is None:
        notes.append(f"the counter {_COUNTER} does not go on from row to row; lost samples cannot be seen")
        return every_row
    n_lost = int(places[-1]) + 1 - n_rows
    if n_lost:
        notes.append(
            f"gaps: the counter leaves out {n_lost} of {int(places[-1]) + 1} samples "
            f"({n_lost / device.sampling_rate:.1f} s); they are missing"
        )
    return places


def _values(port: Port, device: Device, column: FloatArray, notes: list[str]) -> tuple[FloatArray, str, str]:
    """Return a port's values, their unit and modality; counts without a unit where no function is known."""
    transfer = transfer_of(port.sensor, device.device, port.bits)
    known = column[np.isfinite(column)]
    if transfer is None:
        return column, "", ""
    if np.any(known != np.round(known)) or np.any(known < 0):
        notes.append(f"{port.name}: the numbers are no counts of a converter; their unit is not known")
        return column, "", ""
    return transfer.to_unit(column), transfer.unit, transfer.modality
