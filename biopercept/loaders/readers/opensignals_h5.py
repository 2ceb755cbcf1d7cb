"""OpenSignals HDF5 (biosignalsplux, BITalino): counts of each port turned into units, lost samples missing.

A file has a group for each device, with the header as its attributes and the samples in ``raw/channel_N``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.plux import Device, places_by_counter, plux_device, transfer_of
from biopercept.loaders.readers.hdf5_files import attributes_of, checked, members, opened
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.recording import FloatArray, Recording

MOST_DEVICES = 16
MOST_SAMPLES = 1 << 28
_FIELDS = ["device", "sampling rate", "channels", "resolution", "date", "time"]


def is_opensignals(file: Any) -> bool:
    """Return whether an open HDF5 file is one of OpenSignals."""
    return bool(_devices(file))


def _devices(file: Any) -> list[str]:
    import h5py

    groups = {name: file[name] for name in members(file) if isinstance(file[name], h5py.Group)}
    return [name for name, one in groups.items() if "sampling rate" in one.attrs and "raw" in members(one)]


def recording_of_opensignals(path: Path, file: Any, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an open file; devices are placed by the dates in their headers.

    Raises RecordingError where a header contradicts itself or the samples.
    """
    names = _devices(file)
    if len(names) > MOST_DEVICES:
        raise RecordingError(f"{path.name}: {len(names)} devices, allowed are {MOST_DEVICES}")
    channels: list[RawChannel] = []
    notes: list[str] = []
    devices = [_device(path, file[name]) for name in names]
    dates = [device.started_at for device in devices if device.started_at is not None]
    zero = min(dates) if len(dates) == len(devices) else None
    for i, (name, device) in enumerate(zip(names, devices, strict=True)):
        start = (device.started_at - zero).total_seconds() if zero is not None and device.started_at else 0.0
        suffix = f" device {i + 1}" if len(names) > 1 else ""
        notes.extend(device.notes)
        channels.extend(_channels(path, file[name], device, suffix, start, notes))
    if zero is None and len(devices) > 1:
        notes.append(f"{len(devices)} devices without a date; taken to start together")
    signals, more = assemble_signals(channels, overrides)
    return Recording("", "", path.stem, signals, (), zero, (*notes, *more))


def _device(path: Path, group: Any) -> Device:
    """Return what a device's header says; sensors and labels stand at its channels."""
    fields = attributes_of(group, _FIELDS)
    fields["channels"] = _numbers(fields.get("channels"))
    fields["resolution"] = _numbers(fields.get("resolution"))
    raw = group["raw"]
    sensors, labels = [], []
    for number in fields["channels"]:
        name = f"channel_{number}"
        if name not in members(raw):
            raise RecordingError(
                f"{path.name}: the header of OpenSignals names channel {number}, and raw has no {name}"
            )
        described = attributes_of(raw[name], ["sensor", "label"])
        sensors.append(str(described.get("sensor") or ""))
        labels.append(str(described.get("label") or f"CH{number}"))
    return plux_device(path.name, fields, sensors, labels)


def _numbers(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _channels(path: Path, group: Any, device: Device, suffix: str, start: float, notes: list[str]) -> list[RawChannel]:
    """Return the channels of a device."""
    sets = [group[f"raw/channel_{port.number}"] for port in device.ports]
    lengths = []
    for one in sets:
        checked(path, one)
        shape = tuple(size for size in one.shape if size != 1)
        if len(shape) > 1 or one.dtype.kind not in "iuf" or not one.shape or one.shape[0] != one.size:
            raise RecordingError(f"{path.name}: {one.name} has the shape {one.shape}, expected is a column of counts")
        lengths.append(int(one.size))
    n_rows = min(lengths)
    if n_rows < 1:
        raise RecordingError(f"{path.name}: {group.name.strip('/')} holds no samples")
    if n_rows > MOST_SAMPLES:
        raise RecordingError(f"{path.name}: {n_rows} samples of a channel, allowed are {MOST_SAMPLES}; split the file")
    if max(lengths) > n_rows:
        notes.append(f"channels of {n_rows} to {max(lengths)} samples; those beyond the shortest are left out")
    places = _places(path, group, device, n_rows, notes)
    n_samples = n_rows if places is None else int(places[-1]) + 1
    block = _block(path, [one.name for one in sets], device, places)
    channels = []
    for key, port in enumerate(device.ports):
        transfer = transfer_of(port.sensor, device.device, port.bits)
        channels.append(
            RawChannel(
                label=port.name + suffix,
                unit=transfer.unit if transfer is not None else "",
                sampling_rate=device.sampling_rate,
                start_seconds=start,
                n_samples=n_samples,
                key=key,
                block=block,
                source=path.name,
                modality=transfer.modality if transfer is not None else "",
                recognised_by=FORMAT if transfer is not None else "",
            )
        )
    return channels


def _places(path: Path, group: Any, device: Device, n_rows: int, notes: list[str]) -> NDArray[np.int64] | None:
    """Return the sample number of each row where samples were lost, by the counter; None where none were."""
    raw = group["raw"]
    if "nSeq" not in members(raw):
        return None
    counter = raw["nSeq"]
    checked(path, counter)
    if counter.size < n_rows or counter.dtype.kind not in "iu":
        return None
    places = places_by_counter(np.ravel(counter[:])[:n_rows], device.device)
    if places is None:
        notes.append("the counter nSeq of the device does not count the samples; whether some were lost cannot be told")
        return None
    n_lost = int(places[-1]) + 1 - n_rows
    if not n_lost:
        return None
    notes.append(f"{n_lost} samples were lost on their way from the device, by its counter; they are missing")
    return places


def _block(path: Path, names: Sequence[str], device: Device, places: NDArray[np.int64] | None) -> BlockReader:
    """Return a reader of ports in their units, NaN where samples were lost."""
    transfers = [transfer_of(port.sensor, device.device, port.bits) for port in device.ports]

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        samples = np.full((len(keys), max(stop - start, 0)), np.nan)
        first, last = (start, stop) if places is None else np.searchsorted(places, [start, stop]).tolist()
        with opened(path) as file:
            for row, key in enumerate(keys):
                counts = np.ravel(file[names[key]][first:last]).astype(np.float64)
                transfer = transfers[key]
                values = counts if transfer is None else transfer.to_unit(counts)
                if places is None:
                    samples[row] = values
                else:
                    samples[row, places[first:last] - start] = values
        return samples

    return read
