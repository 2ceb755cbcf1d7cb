"""The JSON sidecar of a table: sampling rate, start, columns, and per column unit and modality (BIDS physio)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biopercept.errors import RecordingError

LARGEST = 4 << 20


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; every part may be absent.

    Attributes
    ----------
    sampling_rate : float or None
        Hz.
    start_seconds : float
        ``StartTime``: seconds from the recording's start to the first row.
    columns : tuple of str or None
    units, modalities : dict
        Column name -> what its entry says.
    """

    sampling_rate: float | None = None
    start_seconds: float = 0.0
    columns: tuple[str, ...] | None = None
    units: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of a table lies: the same name with ``.json``."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return path.with_name(name).with_suffix(".json")


def read_sidecar(path: Path) -> Sidecar:
    """Return the sidecar of a table; an empty one where there is none.

    Raises
    ------
    RecordingError
        Where it is not JSON, or a value in it is not allowed.
    """
    file = sidecar_path(path)
    if not file.is_file():
        return Sidecar()
    try:
        if file.stat().st_size > LARGEST:
            raise RecordingError(f"{file.name}: larger than {LARGEST >> 20} MB, which no sidecar is")
        content: Any = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as fault:
        raise RecordingError(f"{file.name}: cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise RecordingError(f"{file.name}: not valid JSON ({fault}); correct the sidecar") from fault
    if not isinstance(content, dict):
        raise RecordingError(f"{file.name}: a sidecar is one JSON object, this is a {type(content).__name__}")
    entries = {name: entry for name, entry in content.items() if isinstance(entry, dict)}
    return Sidecar(
        sampling_rate=_sampling_rate(file, content),
        start_seconds=_number(file, content, "StartTime") or 0.0,
        columns=_columns(file, content.get("Columns")),
        units={name: str(entry["Units"]) for name, entry in entries.items() if entry.get("Units") is not None},
        modalities={
            name: str(entry["Modality"]) for name, entry in entries.items() if entry.get("Modality") is not None
        },
    )


def _number(file: Path, content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordingError(f"{file.name}: {key} is {value!r}, which is not a number; correct the sidecar")
    return float(value)


def _sampling_rate(file: Path, content: dict[str, Any]) -> float | None:
    rate = _number(file, content, "SamplingFrequency")
    if rate is not None and not 0 < rate <= 1e6:
        raise RecordingError(f"{file.name}: SamplingFrequency is {rate:g}, allowed is more than 0 up to 1000000 Hz")
    return rate


def _columns(file: Path, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RecordingError(f"{file.name}: Columns is not a list of names; correct the sidecar")
    return tuple(value)
