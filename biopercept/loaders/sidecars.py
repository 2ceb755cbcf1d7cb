"""JSON sidecars of tables, beside them or inherited from above, after BIDS: rate, start, columns, units, modalities."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from biopercept.errors import RecordingError, library_words
from biopercept.files import is_file

Value = TypeVar("Value")
LARGEST_SIDECAR = 4 << 20
_ENTITY = re.compile(r"([a-zA-Z]+)-([0-9A-Za-z+]+)")
_DEEPEST = 4
"""Folders from a file of a BIDS data set to its subject's: data type, session, subject; and one to spare."""


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; every part may be absent.

    ``start_seconds`` is ``StartTime``: from the recording's start to the first row. Units and modalities are by column,
    or by array of a file that has several; rates, starts and columns in the entry of an array are that array's. So are
    formats: how a column of text writes its dates ("%d/%m/%Y %H:%M:%S").
    """

    sampling_rate: float | None = None
    start_seconds: float | None = None
    columns: tuple[str, ...] | None = None
    units: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    sampling_rates: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)
    columns_of: dict[str, tuple[str, ...]] = field(default_factory=dict)


def sidecars_of(path: Path) -> tuple[Path, ...]:
    """Return the sidecars of a table that are there, the nearest first.

    That is the JSON file of the same name beside it; and, where the table's name has the entities of BIDS (sub-01 ...),
    those that it inherits: JSON files of the same suffix, in its folder and up to the top of the data set, whose
    entities are all among its own (BIDS, the inheritance principle).
    """
    path = path.absolute()
    name = without_suffix(path.name)
    beside = path.with_name(f"{name}.json")
    inherited = [file for file in inherited_files(path, ".json") if file != beside]
    return (*([beside] if is_file(beside) and beside != path else []), *inherited)


def inherited_files(path: Path, suffix: str, kind: str = "") -> tuple[Path, ...]:
    """Return the files of a BIDS data set that apply to one of its files, the nearest first.

    They end with ``_KIND`` and ``suffix`` (KIND is the file's own where empty), lie in its folder or above, up to the
    top of the data set, and their entities are all among the file's own. Empty where its name has no entities.
    """
    stem, _, ending = without_suffix(path.name).rpartition("_")
    entities = set(_ENTITY.findall(stem))
    subject = dict(entities).get("sub")
    if subject is None:
        return ()
    files: list[Path] = []
    for folder in _up_to_top(path.absolute().parent, subject):
        applying = [
            (-len(theirs), file)
            for file in folder.glob(f"*{kind or ending}{suffix}")
            if (theirs := _entities_of(file.name.removesuffix(suffix), kind or ending)) is not None
            and theirs <= entities
            and is_file(file)
            and not file.name.startswith(".")
        ]
        files += [file for _, file in sorted(applying)]
    return tuple(files)


def _entities_of(stem: str, kind: str) -> set[tuple[str, str]] | None:
    """Return the entities of a name such as "task-rest_physio"; None where it is of another kind or has other parts."""
    *parts, ending = stem.split("_")
    matches = [_ENTITY.fullmatch(part) for part in parts]
    if ending != kind or not all(matches):
        return None
    return {(match[1], match[2]) for match in matches if match}


def _up_to_top(folder: Path, subject: str) -> Iterator[Path]:
    """Give a folder and those above it up to the one that holds the subject's folder."""
    for _ in range(_DEEPEST):
        yield folder
        if folder.name == f"sub-{subject}":
            yield folder.parent
            return
        folder = folder.parent


def without_suffix(name: str) -> str:
    """Return the name of a file without its suffix, and without that below a .gz."""
    return Path(name[:-3] if name.lower().endswith(".gz") else name).stem


def read_sidecar(path: Path) -> Sidecar:
    """Return what the sidecars of a table say; an empty one where there is none.

    Of inherited ones the nearest goes first, value by value. Raises RecordingError where one is not JSON, or a value in
    it is not allowed.
    """
    content: dict[str, Any] = {}
    homes: dict[str, Path] = {}
    for file in reversed(sidecars_of(path)):
        values = _read_json(file)
        content.update(values)
        homes.update(dict.fromkeys(values, file))
    entries = {name: entry for name, entry in content.items() if isinstance(entry, dict)}
    return Sidecar(
        sampling_rate=_sampling_rate(homes, content),
        start_seconds=_number(homes, content, "StartTime"),
        columns=_columns(homes, content.get("Columns")),
        units={name: str(entry["Units"]) for name, entry in entries.items() if entry.get("Units") is not None},
        modalities={
            name: str(entry["Modality"]) for name, entry in entries.items() if entry.get("Modality") is not None
        },
        formats={name: str(entry["Format"]) for name, entry in entries.items() if entry.get("Format") is not None},
        sampling_rates=_of_entries(homes, entries, _sampling_rate),
        starts=_of_entries(homes, entries, lambda home, entry: _number(home, entry, "StartTime")),
        columns_of=_of_entries(homes, entries, lambda home, entry: _columns(home, entry.get("Columns"))),
    )


def _of_entries(
    homes: Mapping[str, Path],
    entries: Mapping[str, dict[str, Any]],
    value_of: Callable[[Mapping[str, Path], dict[str, Any]], Value | None],
) -> dict[str, Value]:
    """Return a value of each entry that has it."""
    values = {name: value_of(dict.fromkeys(entry, homes[name]), entry) for name, entry in entries.items()}
    return {name: value for name, value in values.items() if value is not None}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_SIDECAR:
            raise RecordingError(f"{file.name}: larger than {LARGEST_SIDECAR >> 20} MB, which no sidecar is")
        content: Any = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as fault:
        raise RecordingError(f"{file.name}: cannot be read ({fault.strerror})") from fault
    except (ValueError, RecursionError) as fault:
        raise RecordingError(f"{file.name}: not valid JSON ({library_words(fault)}); correct the sidecar") from fault
    if not isinstance(content, dict):
        raise RecordingError(f"{file.name}: a sidecar is one JSON object, this is a {type(content).__name__}")
    return content


def _number(homes: Mapping[str, Path], content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordingError(f"{homes[key].name}: {key} is {value!r}, which is not a number; correct the sidecar")
    return float(value)


def _sampling_rate(homes: Mapping[str, Path], content: dict[str, Any]) -> float | None:
    rate = _number(homes, content, "SamplingFrequency")
    if rate is not None and not 0 < rate <= 1e6:
        raise RecordingError(
            f"{homes['SamplingFrequency'].name}: SamplingFrequency is {rate:g}, allowed is more than 0 up to 1000000 Hz"
        )
    return rate


def _columns(homes: Mapping[str, Path], value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise RecordingError(f"{homes['Columns'].name}: Columns is not a list of names; correct the sidecar")
    return tuple(value)
