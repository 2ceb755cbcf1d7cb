"""Named arrays of a file (HDF5, MATLAB, NumPy) as channels: what says their rate, start, units and names.

The JSON sidecar goes first, then the attributes of an array, then those of the groups that it lies in; a number under
one of these names counts as an attribute of its group (``fs`` beside ``ecg``). No rate is ever guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, SettingsError, listed
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.clock import FAR_SECONDS, LONGEST_DAYS
from biopercept.loaders.readers.table_times import is_time
from biopercept.loaders.readers.tables import recording_of_columns
from biopercept.loaders.readers.text_tables import TextTable
from biopercept.loaders.recognition import FORMAT, SignalOverride, recognise
from biopercept.loaders.sidecars import Sidecar, read_sidecar, without_suffix
from biopercept.recording import FloatArray, Recording

MOST_CHANNELS = 4096
MOST_ARRAYS = 4096
FASTEST = 1e6
_RATE, _START, _UNIT, _COLUMNS, _MODALITY = "rate", "start", "unit", "columns", "modality"
_WORDS = {
    _RATE: "samplingrate samplerate samplingfrequency samplefrequency samplingratehz fs sfreq srate",
    _START: "start starttime startseconds t0",
    _UNIT: "unit units",
    _COLUMNS: "columns columnnames channels channelnames chnames labels channellabels",
    _MODALITY: "modality",
}
_MEANING = {word: meaning for meaning, words in _WORDS.items() for word in words.split()}
_UNIX = (1e9, 4e9)
"""A start between these is seconds since 1970, not since the recording's start."""

Index = tuple[slice, ...]
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class NamedArray:
    """An array of numbers of a file, of one or two dimensions, not yet read; groups in ``place`` end with a slash.

    ``samples(index)`` reads a part of it; ``attributes`` are what the file says of it, by :func:`meaning_of` their
    names, the nearest first merged with those of the groups above.
    """

    place: str
    shape: tuple[int, ...]
    samples: Callable[[Index], NDArray[Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the array's name without its groups."""
        return self.place.rsplit("/", 1)[-1]

    def entry(self, values: Mapping[str, Value]) -> Value | None:
        """Return what is said of the array under its name, with its groups or without; None where nothing is."""
        return values.get(self.place, values.get(self.name))


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a file, columns of text beside them (dates), and what is to be noted."""

    arrays: tuple[NamedArray, ...]
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def meaning_of(name: str) -> str:
    """Return what an attribute says by its name; empty where it says nothing that is used.

    >>> meaning_of("SamplingFrequency"), meaning_of("sampling_rate"), meaning_of("Fs"), meaning_of("history")
    ('rate', 'rate', 'rate', '')
    """
    return _MEANING.get(re.sub(r"[\s_\-()\[\]]", "", name).lower(), "")


def recording_of_arrays(
    path: Path, content: Arrays, overrides: Mapping[str, SignalOverride] | None = None
) -> Recording:
    """Return the recording of a file's arrays.

    An array ``time`` or ``timestamp`` places those of its length as the time column of a table does. Without one, each
    array has the sampling rate that the sidecar or the file says; the longer axis of a two-dimensional one is time.

    Raises RecordingError where nothing says a rate, or what is said cannot be.
    """
    sidecar = read_sidecar(path)
    clocks = [a.place for a in content.arrays if len(_plain(a.shape)) == 1 and is_time(a.name)]
    clocks += [name for name in content.texts if is_time(name)]
    if len(clocks) > 1:
        raise RecordingError(f"{path.name}: more than one array of times ({listed(clocks, 5)}); keep one in a file")
    if clocks:
        return _by_time(path, content, clocks[0].rsplit("/", 1)[-1], sidecar, overrides)
    notes = [*content.notes]
    channels: list[RawChannel] = []
    starts: dict[int, datetime] = {}
    without_rate = []
    for array in content.arrays:
        members, start = _channels(path, array, sidecar, notes)
        if not members:
            without_rate.append(array.place)
        if start is not None:
            starts.update(dict.fromkeys(range(len(channels), len(channels) + len(members)), start))
        channels.extend(members)
    if without_rate:
        sentence = _no_rate(path, without_rate)
        if not channels:
            raise RecordingError(sentence)
        notes.append(sentence.removeprefix(f"{path.name}: ") + "; left out")
    if not channels:
        raise RecordingError(f"{path.name}: no array of numbers that could be a signal" + _because(notes))
    channels, zero = _on_one_clock(path, channels, starts)
    signals, more = assemble_signals(channels, overrides)
    return Recording("", "", without_suffix(path.name), signals, (), zero, (*notes, *more))


def _because(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes[:4])})" if notes else ""


def _no_rate(path: Path, names: Sequence[str]) -> str:
    return (
        f"{path.name}: nothing says the sampling rate of {listed(names, 5)}; write it in Hz into "
        f"{without_suffix(path.name)}.json "
        'beside the file: {"SamplingFrequency": 256}'
    )


def _by_time(
    path: Path, content: Arrays, clock: str, sidecar: Sidecar, overrides: Mapping[str, SignalOverride] | None
) -> Recording:
    """Return the recording of the arrays that are as long as the time, as columns of one table."""
    columns: dict[str, FloatArray | list[str]] = dict(content.texts)
    for array in content.arrays:
        if len(_plain(array.shape)) == 1:
            columns[array.name] = np.ravel(array.samples(_everything(array))).astype(np.float64)
    n_rows = len(columns[clock])
    table = {name: column for name, column in columns.items() if len(column) == n_rows}
    wide: dict[str, FloatArray] = {}
    for array in content.arrays:
        if len(_plain(array.shape)) == 2 and n_rows in array.shape:
            labels, axis = _layout(path, array, sidecar)
            if array.shape[axis] == n_rows:
                whole = np.asarray(array.samples(_everything(array)), dtype=np.float64)
                wide.update(zip(labels, whole.T if axis == 0 else whole, strict=True))
    others = [a.name for a in content.arrays if n_rows not in a.shape]
    notes = [*content.notes, *([f"not as long as {clock!r}, left out: {listed(others)}"] if others else [])]
    attributes = {array.name: array.attributes for array in content.arrays}
    units = {name: str(a[_UNIT]) for name, a in attributes.items() if isinstance(a.get(_UNIT), str)}
    modalities = {name: str(a[_MODALITY]) for name, a in attributes.items() if isinstance(a.get(_MODALITY), str)}
    sidecar = replace(sidecar, units=units | sidecar.units, modalities=modalities | sidecar.modalities)
    named = {**table, **wide}
    return recording_of_columns(path, TextTable(tuple(named), tuple(named.values()), tuple(notes)), sidecar, overrides)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of one element: a column of a matrix is a list of numbers."""
    return tuple(size for size in shape if size != 1)


def _everything(array: NamedArray) -> Index:
    return (slice(None),) * len(array.shape)


def _layout(path: Path, array: NamedArray, sidecar: Sidecar) -> tuple[list[str], int]:
    """Return the names of an array's channels, and its axis of time: that which the names do not count, or the longer.

    Raises RecordingError where neither tells.
    """
    shape = array.shape
    if len(_plain(shape)) < 2:
        return [array.name], int(np.argmax(shape))
    stated = _column_names(array, sidecar)
    if stated and len(stated) in shape and shape[0] != shape[1]:
        axis = 1 - shape.index(len(stated))
        return list(stated), axis
    if shape[0] == shape[1]:
        raise RecordingError(
            f"{path.name}: {array.name} has {shape[0]} rows and as many columns, so nothing tells which are times; "
            "store the channels as arrays of their own"
        )
    axis = int(np.argmax(shape))
    width = shape[1 - axis]
    if width > MOST_CHANNELS:
        raise RecordingError(
            f"{path.name}: {array.name} would have {width} channels by its shape {shape}, allowed are {MOST_CHANNELS}"
        )
    if width == 3 and recognise(array.name, "", 32.0)[0] == "acc":
        return [f"{array.name}_{letter}" for letter in "xyz"], axis
    return [f"{array.name} {i + 1}" for i in range(width)], axis


def _column_names(array: NamedArray, sidecar: Sidecar) -> tuple[str, ...]:
    if (columns := array.entry(sidecar.columns_of)) is not None:
        return columns
    if sidecar.columns is not None and len(sidecar.columns) in array.shape:
        return sidecar.columns
    names = array.attributes.get(_COLUMNS)
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def _channels(
    path: Path, array: NamedArray, sidecar: Sidecar, notes: list[str]
) -> tuple[list[RawChannel], datetime | None]:
    """Return the channels of an array, none where nothing says its rate, and when it began, where that is said."""
    rate = _rate(path, array, sidecar)
    if rate is None:
        return [], None
    labels, axis = _layout(path, array, sidecar)
    n_samples = array.shape[axis]
    if n_samples / rate > LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{path.name}: {array.name} would last {n_samples / rate / 86_400:.0f} days at {rate:g} Hz, at most "
            f"{LONGEST_DAYS} are read; correct the rate"
        )
    start, started_at = _start(path, array, sidecar)
    stated_units = array.attributes.get(_UNIT)
    units = [""] * len(labels)
    if isinstance(stated_units, str):
        units = [stated_units] * len(labels)
    elif isinstance(stated_units, list | tuple) and len(stated_units) == len(labels):
        units = [str(unit) for unit in stated_units]
    block = _block(array, axis)
    if len(labels) == 3 and labels[0] == f"{array.name}_x":
        notes.append(f"the three columns of {array.name} are taken for x, y and z in their order")
    channels = []
    for key, (label, unit) in enumerate(zip(labels, units, strict=True)):
        modality, how = _modality(path, array, label, sidecar)
        channels.append(
            RawChannel(
                label=label,
                unit=sidecar.units.get(label, array.entry(sidecar.units) or unit),
                sampling_rate=rate,
                start_seconds=start,
                n_samples=n_samples,
                key=key,
                block=block,
                source=path.name,
                modality=modality,
                recognised_by=how,
            )
        )
    return channels, started_at


def _modality(path: Path, array: NamedArray, label: str, sidecar: Sidecar) -> tuple[str, str]:
    """Return the modality that the sidecar or an attribute states, and which of them; empty where neither does."""
    attribute = array.attributes.get(_MODALITY)
    stated = sidecar.modalities.get(label, array.entry(sidecar.modalities) or "")
    how = "sidecar" if stated else FORMAT
    stated = stated or (attribute if isinstance(attribute, str) else "")
    if not stated:
        return "", ""
    try:
        return SignalOverride(modality=stated).modality or "", how
    except SettingsError as fault:
        raise RecordingError(f"{path.name}: the modality of {label}: {fault}") from fault


def _block(array: NamedArray, axis: int) -> BlockReader:
    """Return a reader of an array's channels; an axis of one element is no axis."""
    whole = len(array.shape)

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        index = tuple(slice(start, stop) if one == axis else slice(None) for one in range(whole))
        piece = np.asarray(array.samples(index), dtype=np.float64)
        rows = np.moveaxis(piece, axis, -1).reshape(-1, max(stop - start, 0))
        return rows[list(keys)]

    return read


def _rate(path: Path, array: NamedArray, sidecar: Sidecar) -> float | None:
    stated = (array.entry(sidecar.sampling_rates), sidecar.sampling_rate, array.attributes.get(_RATE))
    value = next((one for one in stated if one is not None), None)
    if value is None:
        return None
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate <= FASTEST:
        raise RecordingError(
            f"{path.name}: the sampling rate of {array.name} is {str(value)[:40]!r}, allowed is more than 0 up to "
            f"{FASTEST:.0f} Hz"
        )
    return rate


def _start(path: Path, array: NamedArray, sidecar: Sidecar) -> tuple[float, datetime | None]:
    """Return the second at which an array starts, or 0 and the date at which it does."""
    stated = array.entry(sidecar.starts)
    stated = sidecar.start_seconds if stated is None else stated
    if stated is not None:
        return stated, None
    value = array.attributes.get(_START)
    if value is None or value == "":
        return 0.0, None
    try:
        if isinstance(value, str) and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", value.strip(), re.IGNORECASE):
            return 0.0, datetime.fromisoformat(value.strip())
        seconds = float(value)
        if _UNIX[0] < seconds < _UNIX[1]:
            return 0.0, datetime.fromtimestamp(seconds, tz=UTC)
    except (TypeError, ValueError) as fault:
        raise RecordingError(
            f"{path.name}: the start of {array.name} is {str(value)[:40]!r}, which is neither seconds nor an ISO date"
        ) from fault
    if not abs(seconds) <= LONGEST_DAYS * 86_400:
        raise RecordingError(
            f"{path.name}: the start of {array.name} is {seconds:g} s, allowed is up to {LONGEST_DAYS} days"
        )
    return seconds, None


def _on_one_clock(
    path: Path, channels: list[RawChannel], starts: Mapping[int, datetime]
) -> tuple[list[RawChannel], datetime | None]:
    """Return the channels placed by their dates, and the first date; as they are where not every one has a date."""
    if not starts:
        return channels, None
    if len(starts) < len(channels) or len({start.tzinfo is None for start in starts.values()}) > 1:
        raise RecordingError(
            f"{path.name}: some arrays start at a date and others do not, or without a zone; give all a date, "
            "or all seconds"
        )
    zero = min(starts.values())
    if (max(starts.values()) - zero).total_seconds() > FAR_SECONDS:
        raise RecordingError(f"{path.name}: arrays that start on different days; correct their starts")
    return [
        replace(channel, start_seconds=(starts[i] - zero).total_seconds()) for i, channel in enumerate(channels)
    ], zero
