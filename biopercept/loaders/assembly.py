"""From what a file holds to the signals of a recording: channels recognised, grouped and converted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import listed
from biopercept.loaders.recognition import (
    FORMAT,
    STUDY,
    Conversion,
    Position,
    SignalOverride,
    common_reference,
    convert_unit,
    eeg_electrode,
    electrode_position,
    is_cap_grid,
    is_grid_socket,
    is_mangled,
    is_reference_pair,
    override_for,
    recognise,
    tidy_label,
    tidy_unit,
)
from biopercept.loaders.time_grid import TimeGrid
from biopercept.modalities import MODALITIES, UNKNOWN
from biopercept.recording import Channel, FloatArray, SampleReader, Signal

BlockReader = Callable[[Sequence[int], int, int], FloatArray]
"""``reader(keys, start, stop)`` gives samples of channels: (len(keys), stop - start), NaN where missing."""

LONGEST_NAME = 64
_ROWS_AT_ONCE = 1 << 16
_AXIS = re.compile(r"(?i)^(?P<stem>.*?)(?P<joint>[ _.\-]*)(?P<axis>[xyz])(?P<tail>[ _.\-].*)?$")


@dataclass(frozen=True, eq=False)
class RawChannel:
    """One channel as a file holds it.

    Attributes
    ----------
    key : int
        What ``block`` calls this channel.
    block : callable
        Reads this channel and the others of the same block, in the file's unit.
    source : str
        Name of the file.
    modality, recognised_by : str
        Set where the format itself says what the channel is; otherwise empty.
    times : array (n_samples,) or None
        Seconds on the recording's clock, for irregular samples.
    position : tuple or None
        Where the electrode was measured to be, metres in mne's head frame; None takes the place that its name has.
    """

    label: str
    unit: str
    sampling_rate: float
    start_seconds: float
    n_samples: int
    key: int
    block: BlockReader
    source: str
    modality: str = ""
    recognised_by: str = ""
    times: FloatArray | None = None
    position: Position | None = None


@dataclass(frozen=True, eq=False)
class _Known:
    """A channel after recognition: what it is, how to convert it, where it belongs."""

    raw: RawChannel
    name: str
    modality: str
    recognised_by: str
    unit: str
    conversion: Conversion
    group: str = ""
    reference: str = ""


@dataclass(frozen=True)
class _Cap:
    """How labels name electrodes: by the sockets of a cap, or as pairs with one reference ("CPz"; empty for none)."""

    on_grid: bool
    reference: str


def assemble_signals(
    channels: Sequence[RawChannel], overrides: Mapping[str, SignalOverride] | None = None
) -> tuple[tuple[Signal, ...], tuple[str, ...]]:
    """Return the signals that a file's channels make up, and notes on what was guessed or not understood.

    EEG channels of one rate become one signal "EEG", the axes of one accelerometer one signal "ACC"; every other
    channel is a signal of its own. Signals are in the modality's own unit wherever the table of units knows the way.
    ``overrides`` (pattern of the label -> what the study says) go before the label and the unit.
    """
    notes: list[str] = []
    labels = tuple(channel.label for channel in channels)
    cap = _Cap(is_cap_grid(labels), common_reference(labels))
    known = [_recognised(channel, overrides, cap, notes) for channel in channels]
    notes.extend(_unit_notes(known))
    strange = [one.name for one in known if not one.raw.label.strip("\x00 \t\r\n").isprintable()]
    if strange:
        notes.append(f"labels hold characters that cannot be printed, which are left out: {listed(strange)}")
    if cap.on_grid:
        notes.append(
            "labels number the sockets of a cap (A1, B1, ...), so C3 or F4 is not taken for the 10-20 electrode"
        )
    strangers = [one.name for one in known if one.modality == UNKNOWN]
    if strangers:
        notes.append(f"not recognised and not used: {listed(strangers)}")
    signals: list[Signal] = []
    for group in _grouped(known):
        signals.append(_signal(group, {signal.name for signal in signals}))
    return tuple(signals), tuple(notes)


def _recognised(
    channel: RawChannel, overrides: Mapping[str, SignalOverride] | None, cap: _Cap, notes: list[str]
) -> _Known:
    """Return what a channel is; say so in ``notes`` where its unit is not understood."""
    override = override_for(channel.label, overrides)
    unit = override.unit if override is not None and override.unit is not None else channel.unit
    modality, how = channel.modality, channel.recognised_by
    if not modality:
        modality, how = recognise(channel.label, unit, channel.sampling_rate)
        if cap.on_grid and is_grid_socket(channel.label):
            modality, how = UNKNOWN, ""
        if modality == "eeg" and is_reference_pair(channel.label, cap.reference):
            modality, how = UNKNOWN, ""  # an earlobe or a mastoid is no more EEG for being named with its reference
    if override is not None and override.modality is not None:
        modality, how = override.modality, STUDY
    name = tidy_label(channel.label) or f"channel {channel.key + 1}"
    if modality == UNKNOWN:
        return _Known(channel, name, UNKNOWN, how, tidy_unit(unit), Conversion(1.0))
    wanted = MODALITIES[modality].unit
    conversion = convert_unit(unit, wanted)
    if conversion is None:
        return _Known(channel, name, modality, how, tidy_unit(unit), Conversion(1.0))
    if is_mangled(unit):
        notes.append(f"{name}: unit {unit.strip()!r} was read as {tidy_unit(unit)}")
    return _Known(channel, name, modality, how, wanted, conversion, reference=cap.reference)


def _unit_notes(known: Sequence[_Known]) -> list[str]:
    """Return a note for each unit that could not be turned into its modality's, with the channels that have it."""
    strange: dict[tuple[str, str], list[str]] = {}
    for one in known:
        if one.modality != UNKNOWN and one.unit != MODALITIES[one.modality].unit:
            strange.setdefault((one.modality, one.unit), []).append(one.name)
    return [
        f"{listed(names)}: {f'unit {unit!r}' if unit else 'no unit'} in the file, which cannot be turned into"
        f" {MODALITIES[modality].unit} for {modality}; not used until somebody says it"
        f" (--unit {names[0]}=UNIT; in a study signals: {{{names[0]}: {{unit: ...}}}})"
        for (modality, unit), names in strange.items()
    ]


def _grouped(known: Sequence[_Known]) -> list[list[_Known]]:
    """Return channels gathered into signals, in order of their first channel."""
    groups: dict[object, list[_Known]] = {}
    for position, one in enumerate(known):
        stem = {"eeg": "EEG", "acc": _axis_stem(one.name)}.get(one.modality)
        key: object = position
        if stem is not None and one.raw.times is None:
            raw = one.raw
            key = (one.modality, stem, one.unit, raw.sampling_rate, raw.start_seconds, raw.n_samples, id(raw.block))
        groups.setdefault(key, []).append(replace(one, group=stem or ""))
    return [_in_axis_order(group) for group in groups.values()]


def _axis_stem(name: str) -> str | None:
    """Return an accelerometer label without its axis ("chest_ACC_x" gives "chest_ACC"); None where it names no axis."""
    match = _AXIS.match(name)
    if match is None:
        return None
    return f"{match['stem']}{match['tail'] or ''}" or "ACC"


def _in_axis_order(group: list[_Known]) -> list[_Known]:
    if group[0].modality != "acc" or not group[0].group:
        return group
    return sorted(group, key=lambda one: _axis_of(one.name))


def _axis_of(name: str) -> str:
    match = _AXIS.match(name)
    return match["axis"].lower() if match else name


def _signal(group: list[_Known], taken: set[str]) -> Signal:
    """Return one signal of the channels of a group, under a name not yet taken."""
    first = group[0]
    is_axes = first.modality == "acc" and bool(first.group)
    if first.modality == "eeg":
        wanted = "EEG"
    elif is_axes:
        wanted = "ACC" if first.group.lower() in ("a", "acc", "accel", "accelerometer", "acceleration") else first.group
    else:
        wanted = first.name
    channels = tuple(Channel(_axis_of(one.name) if is_axes else one.name, _position(one)) for one in group)
    return Signal(
        name=_unique(_plain_name(wanted), taken),
        modality=first.modality,
        unit=first.unit,
        sampling_rate=first.raw.sampling_rate,
        start_seconds=first.raw.start_seconds,
        channels=_distinct(channels),
        n_samples=first.raw.n_samples,
        reader=_reader(group),
        times=first.raw.times,
        source=first.raw.source,
        recognised_by=first.recognised_by,
    )


def _position(one: _Known) -> Position | None:
    if one.modality == "eeg" and one.raw.position is not None:
        return one.raw.position
    electrode = eeg_electrode(one.raw.label, one.reference) if one.modality == "eeg" else None
    return None if electrode is None else electrode_position(electrode)


def _reader(group: Sequence[_Known]) -> SampleReader:
    """Return the reader of a group: its channels in one pass, converted, with infinities as missing."""
    keys = [one.raw.key for one in group]
    block = group[0].raw.block
    scale = np.array([[one.conversion.scale] for one in group])
    offset = np.array([[one.conversion.offset] for one in group])

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        with np.errstate(over="ignore", invalid="ignore"):
            samples: FloatArray = block(keys[rows], start, stop) * scale[rows]
            samples += offset[rows]
        samples[~np.isfinite(samples)] = np.nan
        return samples

    return read


def _plain_name(name: str) -> str:
    """Return a name that can stand in a file or an HDF5 group: no slash, no control characters, not too long."""
    plain = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name).strip()[:LONGEST_NAME]
    return plain if plain.strip(".") else "_"


def _unique(name: str, taken: set[str]) -> str:
    """Return the name, or the name with the first number that is free, comparing without case."""
    lower = {one.lower() for one in taken}
    if name.lower() not in lower:
        return name
    number = 2
    while f"{name}_{number}".lower() in lower:
        number += 1
    return f"{name}_{number}"


def _distinct(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """Return channels whose names differ, numbering repeated ones."""
    taken: set[str] = set()
    distinct = []
    for channel in channels:
        name = _unique(channel.name, taken)
        taken.add(name)
        distinct.append(replace(channel, name=name))
    return tuple(distinct)


def block_in_memory(samples: FloatArray) -> BlockReader:
    """Return a block reader over samples held in memory, shape (n_channels, n_samples)."""

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        return np.asarray(samples[list(keys), start:stop], dtype=np.float64)

    return read


class Rows(Protocol):
    """Rows that are read where they are asked for, as an array of them gives them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, rows: NDArray[np.intp], /) -> NDArray[np.generic]:
        """Return rows, (n, n_channels)."""


def block_of_rows(
    samples: NDArray[np.generic] | Rows, cells: NDArray[np.int64] | None = None, rows: NDArray[np.intp] | None = None
) -> BlockReader:
    """Return a block reader over rows as a file holds them, shape (n_rows, n_channels), of any numeric type.

    Row ``rows[i]`` is sample ``cells[i]``; cells increase, and a sample without a row is NaN. Without cells, row i is
    sample i. Nothing larger than what is asked for is made, so a recording of few rows with long gaps stays small.
    """
    places = np.arange(len(samples)) if rows is None else rows

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        block = np.full((len(keys), max(stop - start, 0)), np.nan)
        if cells is None:
            first, last = min(start, len(places)), min(stop, len(places))
            at = np.arange(first, last) - start
        else:
            first, last = (int(one) for one in np.searchsorted(cells, (start, stop)))
            at = cells[first:last] - start
        for some in range(first, last, _ROWS_AT_ONCE):
            stop_of_some = min(some + _ROWS_AT_ONCE, last)
            piece = samples[places[some:stop_of_some]][:, list(keys)].T
            block[:, at[some - first : stop_of_some - first]] = piece
        return block

    return read


def block_on_grid(samples: NDArray[np.generic] | Rows, grid: TimeGrid) -> BlockReader:
    """Return a block reader over rows, (n_rows, n_channels), as they lie on a grid; in time order where none fits."""
    if grid.cells is None:
        return block_of_rows(samples, rows=grid.rows)
    is_used = grid.cells >= 0
    return block_of_rows(samples, grid.cells[is_used], grid.rows[is_used])


def channel_of_beats(
    label: str, source: str, times: FloatArray, intervals: FloatArray, *, unit: str = "s", rate: float | None = None
) -> RawChannel:
    """Return intervals of a heart (s), (n,), as a channel at the times (s) at which they end; NaN where none is known.

    ``unit`` is empty where the label says it; ``rate`` is that of the middle interval where none is given.
    """
    return RawChannel(
        label=label,
        unit=unit,
        sampling_rate=1 / float(np.nanmedian(intervals)) if rate is None else rate,
        start_seconds=float(times[0]),
        n_samples=len(times),
        key=0,
        block=block_in_memory(intervals[None]),
        source=source,
        modality="ibi",
        recognised_by=FORMAT,
        times=times,
    )
