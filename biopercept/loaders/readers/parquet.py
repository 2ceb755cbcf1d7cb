"""Parquet: a column is a channel, a time column places the rows, the metadata of the schema may say the rate.

Rows lie where a CSV of the same columns would have them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError
from biopercept.loaders.libraries import library_for
from biopercept.loaders.readers.arrays import meaning_of
from biopercept.loaders.readers.tables import recording_of_columns
from biopercept.loaders.readers.text_tables import MOST_COLUMNS, TextTable
from biopercept.loaders.recognition import SignalOverride
from biopercept.loaders.sidecars import Sidecar, read_sidecar
from biopercept.recording import FloatArray, Recording

LARGEST_TABLE = 1 << 30
"""Bytes of the table in memory."""


def load_parquet(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a Parquet file; the sidecar goes before the metadata of its schema and of its fields.

    Raises RecordingError where the file is damaged or too large, or neither a time column nor a rate is there.
    """
    pa = library_for(path, "pyarrow", "parquet")
    pq = library_for(path, "pyarrow.parquet", "parquet")
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            _check(path, file.metadata, file.schema_arrow)
            table = file.read()
    except (pa.ArrowException, OSError) as fault:
        words = str(fault).splitlines()[0][:200] if str(fault) else ""
        raise RecordingError(
            f"{path.name}: cannot be read as Parquet ({words}); it is cut or damaged, copy it again"
        ) from fault
    notes: list[str] = []
    names, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        values = _values(column)
        if values is None:
            notes.append(f"column {field.name!r} of type {field.type} is no signal")
        else:
            names.append(field.name)
            columns.append(values)
    sidecar = _with_metadata(path, read_sidecar(path), table.schema)
    return recording_of_columns(path, TextTable(tuple(names), tuple(columns), tuple(notes)), sidecar, overrides)


def _check(path: Path, metadata: Any, schema: Any) -> None:
    """Refuse a table that is too wide or too large, by its own account, before it is read."""
    if len(schema) > MOST_COLUMNS:
        raise RecordingError(f"{path.name}: {len(schema)} columns, allowed are {MOST_COLUMNS}")
    n_bytes = metadata.num_rows * max(len(schema), 1) * 8
    if metadata.num_rows < 1:
        raise RecordingError(f"{path.name}: a header and no rows")
    if n_bytes > LARGEST_TABLE:
        raise RecordingError(
            f"{path.name}: {metadata.num_rows} rows of {len(schema)} columns need {n_bytes >> 20} MB, allowed are "
            f"{LARGEST_TABLE >> 20}; split it"
        )


def _values(column: Any) -> FloatArray | list[str] | None:
    """Return a column as numbers, NaN where a cell is null, or as texts (dates too); None for any other type."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if pa.types.is_decimal(kind):
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        instants = column.cast(pa.timestamp("ns")).to_numpy().astype("datetime64[ns]")
        return ["" if text == "NaT" else f"{text}{zone}" for text in np.datetime_as_string(instants)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [text or "" for text in column.to_pylist()]
    return None


def _with_metadata(path: Path, sidecar: Sidecar, schema: Any) -> Sidecar:
    """Return what the sidecar says and, where it is silent, the metadata: the schema the rate, a field its unit."""
    units: dict[str, str] = {}
    modalities: dict[str, str] = {}
    for field in schema:
        for name, value in _texts(field.metadata).items():
            if meaning_of(name) == "unit":
                units[field.name] = value
            elif meaning_of(name) == "modality":
                modalities[field.name] = value
    rate = sidecar.sampling_rate
    if rate is None:
        stated = [value for name, value in _texts(schema.metadata).items() if meaning_of(name) == "rate"]
        rate = _rate(path, stated[0]) if stated else None
    return replace(sidecar, sampling_rate=rate, units=units | sidecar.units, modalities=modalities | sidecar.modalities)


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {
        name.decode("utf-8", "replace"): value[:200].decode("utf-8", "replace")
        for name, value in (metadata or {}).items()
        if len(name) < 100
    }


def _rate(path: Path, text: str) -> float:
    try:
        rate = float(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        rate = 0.0
    if not 0 < rate <= 1e6:
        raise RecordingError(
            f"{path.name}: the sampling rate in its metadata is {text[:40]!r}, allowed is more than 0 up to 1000000 Hz"
        )
    return rate
