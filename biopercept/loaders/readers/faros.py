"""Bittium Faros as a folder of CSV files (ECG, ACC, HRV, Marker) whose meta.json gives start, rates and units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import RecordingError, library_words
from biopercept.loaders.assembly import RawChannel, assemble_signals, block_in_memory
from biopercept.loaders.readers.text_tables import read_text_table
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.modalities import UNKNOWN
from biopercept.recording import FloatArray, Interval, Recording

META = "meta.json"
_LARGEST_META = 1 << 20
_FASTEST = 1e5
_MODALITIES = {"ECG": "ecg", "ACC": "acc", "HRV": "ibi"}
_MARKER = "Marker"


@dataclass(frozen=True)
class _Meta:
    """What meta.json says: local time of the start, Hz and unit by file."""

    started_at: datetime | None
    rates: Mapping[str, float]
    units: Mapping[str, str]


def is_faros_folder(path: Path) -> bool:
    """Return whether a folder holds a meta.json with rates, and one of the files that it names."""
    try:
        rates = _read(path / META).get("sample_freqs")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(rates, dict) and any((path / f"{name}.csv").is_file() for name in _names(rates))


def is_faros_file(path: Path) -> bool:
    """Return whether a CSV file lies beside a meta.json that gives its rate."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        rates = _read(path.parent / META).get("sample_freqs")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(rates, dict) and path.stem in rates


def _read(file: Path) -> dict[str, Any]:
    """Return the object in a meta.json. Raises OSError, ValueError or RecursionError where there is none."""
    if not file.is_file() or file.stat().st_size > _LARGEST_META:
        raise ValueError("no file of its size")
    content = json.loads(file.read_bytes().decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError("not one JSON object")
    return content


def _names(rates: Mapping[str, Any]) -> list[str]:
    """Return the names that can be those of files beside meta.json."""
    return [name for name in rates if name.replace("_", "").isalnum()]


def load_faros(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of a Faros folder, or of one of its CSV files; its start is local time.

    Beat intervals (HRV) stand at the samples where the device wrote one, zeros are none. Markers become intervals of
    duration 0.

    Raises RecordingError where meta.json gives no rate that can be, or no file has rows.
    """
    folder = path if path.is_dir() else path.parent
    meta = _meta(folder)
    names = _names(meta.rates) if path.is_dir() else [path.stem]
    notes: list[str] = []
    channels: list[RawChannel] = []
    markers: list[Interval] = []
    for name in names:
        file = folder / f"{name}.csv"
        if not file.is_file():
            notes.append(f"{name}: no file {name}.csv, though {META} gives its rate")
            continue
        table = read_text_table(file)
        notes += [f"{name}: {note}" for note in table.notes]
        columns = [column for column in table.columns if not isinstance(column, list)]
        if not columns or not len(columns[0]):
            notes.append(f"{name}: no rows of numbers; left out")
        elif name == _MARKER:
            rows = np.flatnonzero(np.isfinite(columns[0]) & (columns[0] != 0))
            markers += [Interval(float(row) / meta.rates[name], 0.0, "marker") for row in rows]
        else:
            channels += _channels(file, name, table.names, np.array(columns), meta)
    if not channels:
        raise RecordingError(f"{path.name}: no file of the folder has rows of a sensor ({', '.join(names)})")
    signals, more = assemble_signals(channels, overrides)
    end = max(signal.end_seconds for signal in signals)
    kept = tuple(sorted((one for one in markers if one.onset_seconds <= end), key=lambda one: one.onset_seconds))
    name = path.name if path.is_dir() else path.stem
    return Recording("", "", name, signals, kept, meta.started_at, (*notes, *more))


def _meta(folder: Path) -> _Meta:
    where = f"{folder.name}/{META}"
    try:
        content = _read(folder / META)
    except (OSError, ValueError, RecursionError) as fault:
        raise RecordingError(f"{where}: cannot be read ({library_words(fault)}); export the recording again") from fault
    rates = content.get("sample_freqs")
    if not isinstance(rates, dict):
        raise RecordingError(f"{where}: no sample_freqs; export the recording again")
    for name, rate in rates.items():
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate)
        if not is_number or not 0 < rate <= _FASTEST:
            raise RecordingError(
                f"{where}: the rate of {name} is {rate!r}, allowed is more than 0 up to {_FASTEST:g} Hz"
            )
    units = content.get("units")
    units = {str(k): str(v) for k, v in units.items()} if isinstance(units, dict) else {}
    return _Meta(_started_at(content.get("start_time")), {str(k): float(v) for k, v in rates.items()}, units)


def _started_at(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)).replace(tzinfo=None)
    except ValueError:
        return None


def _channels(file: Path, name: str, columns: tuple[str, ...], samples: FloatArray, meta: _Meta) -> list[RawChannel]:
    """Return the channels of one file."""
    rate, unit = meta.rates[name], meta.units.get(name, "")
    modality = _MODALITIES.get(name, UNKNOWN)
    times = None
    if modality == "ibi":
        rows = np.flatnonzero(np.isfinite(samples[0]) & (samples[0] > 0))
        if not len(rows):
            return []
        samples, times = samples[:1, rows], rows / rate
    labels = [name] if len(samples) == 1 else [f"{name}_{column.lower()}" for column in columns]
    block = block_in_memory(samples)
    return [
        RawChannel(
            label=label,
            unit=unit,
            sampling_rate=rate,
            start_seconds=0.0 if times is None else float(times[0]),
            n_samples=samples.shape[1],
            key=key,
            block=block,
            source=file.name,
            modality=modality,
            recognised_by=FORMAT if modality != UNKNOWN else "",
            times=times,
        )
        for key, label in enumerate(labels[: len(samples)])
    ]
