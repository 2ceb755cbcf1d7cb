"""HDF5 files: OpenSignals, MATLAB 7.3, and any whose attributes or sidecar say the rate of their arrays.

The attributes of an array, of the groups above it and numbers beside it (``fs``) say what it is. OpenSignals
(biosignalsplux, BITalino) has a group for each device, with the header as its attributes and the samples in
``raw/channel_N``: counts of each port, turned into units; lost samples are missing.

A file may point out of itself (external links, external storage, virtual data sets) or ask for code that is not here
(filters): neither is followed. Sizes are compared with what is stored before a sample is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import RecordingError, count
from biopercept.loaders.assembly import BlockReader, RawChannel, assemble_signals
from biopercept.loaders.identity import identity_of_entries
from biopercept.loaders.plux import Device, places_by_counter, plux_device, transfer_of
from biopercept.loaders.readers.arrays import MOST_ARRAYS, Arrays, Index, NamedArray, meaning_of, recording_of_arrays
from biopercept.loaders.recognition import FORMAT, SignalOverride
from biopercept.loaders.time_grid import MOST_SAMPLES
from biopercept.recording import FloatArray, Recording

DEEPEST = 16
MOST_OBJECTS = 20_000
MOST_DEVICES = 16
_FIELDS = ["device", "sampling rate", "channels", "resolution", "date", "time"]
LARGEST_ATTRIBUTE = 4096
LARGEST_RATIO = 1100
"""Bytes of samples from a stored byte: what the strongest usual filter (deflate) can reach, and a little more."""
_SLACK = 1 << 20
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""Filters of the HDF5 library itself and of h5py; any other is code that a file asks to be loaded."""


def is_hdf5(first_bytes: bytes) -> bool:
    """Return whether a file begins as HDF5 or as MATLAB 7.3, which is HDF5 behind a header of its own."""
    return first_bytes.startswith((b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-file"))


def load_hdf5(path: Path, *, overrides: Mapping[str, SignalOverride] | None = None) -> Recording:
    """Return the recording of an HDF5 file: OpenSignals where it has that layout, else its arrays.

    Raises RecordingError where the file is damaged or hostile, or nothing says the rate of an array.
    """
    with opened(path) as file:
        if "biopercept_version" in file.attrs:  # cleaned series of many people would pass for the signals of one
            raise RecordingError(f"{path.name}: a store that prepare wrote, and no recording; give its study's folder")
        if _is_opensignals(file):
            return _recording_of_opensignals(path, file, overrides)
        content = _arrays(path, file)
    return recording_of_arrays(path, content, overrides)


def _meanings(thing: Any) -> dict[str, Any]:
    names = [name for name in list(thing.attrs)[:LARGEST_ATTRIBUTE] if meaning_of(name)]
    return {meaning_of(name): value for name, value in attributes_of(thing, names).items()}


def _arrays(path: Path, file: Any) -> Arrays:
    """Return the arrays of numbers in a file, and what is left out."""
    import h5py

    arrays: list[NamedArray] = []
    left_out: dict[str, list[str]] = {}
    seen: set[Any] = {h5py.h5o.get_info(file.id).addr}

    def visit(group: Any, above: dict[str, Any], depth: int) -> None:
        if depth > DEEPEST:
            raise RecordingError(f"{path.name}: groups in groups, deeper than {DEEPEST}; store the arrays further up")
        names = members(group)
        links = [name for name in group if name not in set(names)]
        if links:
            left_out.setdefault("links, which are not followed", []).extend(
                f"{group.name.rstrip('/')}/{one}" for one in links
            )
        # An array may have several names, and a group contain itself: each thing is looked at once.
        here = {}
        for name in names:
            address = h5py.h5o.get_info(group[name].id).addr
            if address not in seen:
                seen.add(address)
                here[name] = group[name]
        if len(seen) > MOST_OBJECTS or len(arrays) > MOST_ARRAYS:
            raise RecordingError(f"{path.name}: more than {MOST_ARRAYS} arrays, which no recording has")
        datasets = {name: one for name, one in here.items() if isinstance(one, h5py.Dataset)}
        around = {**above, **_meanings(group), **_numbers(datasets)}
        for dataset in datasets.values():
            why = _why_not(dataset)
            if why:
                left_out.setdefault(why, []).append(dataset.name)
            elif dataset.size > 1:
                checked(path, dataset)
                place = dataset.name.strip("/")
                arrays.append(
                    NamedArray(place, dataset.shape, _reader(path, dataset.name), {**around, **_meanings(dataset)})
                )
        for name, inner in here.items():
            if isinstance(inner, h5py.Group) and name != "#refs#":
                visit(inner, around, depth + 1)

    visit(file, {}, 0)
    notes = [f"left out are {why}: {', '.join(n[:80] for n in names[:8])}" for why, names in left_out.items()]
    whose = identity_of_entries(attributes_of(file, list(file.attrs)[:LARGEST_ATTRIBUTE]))
    return Arrays(tuple(arrays), notes=(*notes, *whose))


def _numbers(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data sets of one number whose name says what it means, as attributes of their group."""
    return {
        meaning_of(name): text_of(one[()])
        for name, one in datasets.items()
        if one.shape is not None and one.size == 1 and one.dtype.kind in "iuf" and meaning_of(name) and not one.external
    }


def _why_not(dataset: Any) -> str:
    """Return why a data set is no array of numbers, in words that follow "left out are"; empty where it is one."""
    if dataset.shape is None or dataset.size == 0:
        return "empty data sets"
    if dataset.dtype.kind not in "iufb" or "MATLAB_empty" in dataset.attrs:
        return "data sets of text, times, references or records"
    if text_of(dataset.attrs.get("MATLAB_class", "")) == "char":
        return "data sets of text, times, references or records"
    if len([size for size in dataset.shape if size != 1]) > 2:
        return "data sets of more than two dimensions"
    return ""


def _reader(path: Path, name: str) -> Any:
    def samples(index: Index) -> NDArray[Any]:
        with opened(path) as file:
            return np.asarray(file[name][index])

    return samples


def _is_opensignals(file: Any) -> bool:
    """Return whether an open HDF5 file is one of OpenSignals."""
    return bool(_devices(file))


def _devices(file: Any) -> list[str]:
    import h5py

    groups = {name: file[name] for name in members(file) if isinstance(file[name], h5py.Group)}
    return [name for name, one in groups.items() if "sampling rate" in one.attrs and "raw" in members(one)]


def _recording_of_opensignals(
    path: Path, file: Any, overrides: Mapping[str, SignalOverride] | None = None
) -> Recording:
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
    fields["channels"] = _as_list(fields.get("channels"))
    fields["resolution"] = _as_list(fields.get("resolution"))
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


def _as_list(value: Any) -> list[Any]:
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
    notes.append(
        f"{count(n_lost, 'sample was', 'samples were')}"
        " lost on their way from the device, by its counter; they are missing"
    )
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


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give an open file: the one door to the HDF5 library, whose errors become RecordingError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except RecordingError:
        raise
    except Exception as fault:  # the library raises whatever the damage runs into
        words = str(fault).splitlines()[0][:200] if str(fault) else ""
        raise RecordingError(
            f"{path.name}: cannot be read as HDF5 ({words}); it is cut or damaged, copy it again"
        ) from fault


def members(group: Any) -> list[str]:
    """Return the names in a group that are its own, in order: links to elsewhere are no part of it."""
    import h5py

    return [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]


def checked(path: Path, dataset: Any) -> None:
    """Refuse a data set that is not in the file, needs a foreign filter, or promises more than is stored.

    Raises RecordingError.
    """
    name = f"{path.name}: data set {dataset.name[:80]!r}"
    if dataset.external:
        raise RecordingError(f"{name} lies in other files ({dataset.external[0][0][:80]!r}), which are not opened")
    if dataset.is_virtual:
        raise RecordingError(f"{name} is put together from other files, which are not opened; export it as one file")
    properties = dataset.id.get_create_plist()
    codes = [int(properties.get_filter(i)[0]) for i in range(properties.get_nfilters())]
    foreign = [code for code in codes if code not in _FILTERS]
    if foreign:
        raise RecordingError(
            f"{name} is packed by filter {foreign[0]}, which is not part of HDF5; store it with gzip or unpacked"
        )
    n_promised = float(np.prod([float(size) for size in dataset.shape])) * dataset.dtype.itemsize
    n_stored = dataset.id.get_storage_size()
    if n_promised > LARGEST_RATIO * n_stored + _SLACK:
        raise RecordingError(
            f"{name} promises {n_promised:.3g} bytes by its shape {dataset.shape}, and {n_stored} are stored; export "
            "it again"
        )


def text_of(value: Any) -> Any:
    """Return an attribute's value as plain Python: text, a number, or a list of them; None for anything else."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return text_of(value.item())
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return text_of(value.reshape(-1)[0])
        return [text_of(one) for one in value.reshape(-1)] if value.ndim == 1 else None
    return value if isinstance(value, str | int | float) else None


def attributes_of(thing: Any, names: list[str] | None = None) -> dict[str, Any]:
    """Return the attributes of these names that are small: of all that are there where none are given."""
    values = {}
    for name in list(thing.attrs) if names is None else [one for one in names if one in thing.attrs]:
        stored = thing.attrs.get_id(name)
        if int(np.prod(stored.shape, dtype=float)) <= LARGEST_ATTRIBUTE and stored.dtype.kind in "iufSUO":
            values[name] = text_of(thing.attrs[name])
    return values
