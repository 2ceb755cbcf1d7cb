"""Writing a store: each recording as a part of its own, and the parts joined in one pass.

No file is ever opened for writing under its final name. The store is streamed into a temporary file, part after part
in the order of their keys, so that its bytes depend on what it holds and on nothing else.

A new file is written through Python, so that a full disk is an ordinary error and not a crash of the interpreter.
HDF5's own drivers try to write again when the library shuts down after a failed write, which has ended in a
segmentation fault; h5py's driver for Python files does not survive an exception inside a callback. So the file
here lets nothing out: it keeps its first fault, plays a working disk until HDF5 has closed, and then gives it up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError
from biopercept.files import replacing
from biopercept.recording import Rating, RecordingLabels, labels_text
from biopercept.store.layout import (
    FORMAT,
    RATINGS,
    REASONS,
    SCHEMA,
    SIGNAL_ATTRIBUTES,
    blocks,
    child,
    content_hash,
    datasets_of,
    read_attribute,
    read_attributes,
)
from biopercept.store.prepared import PreparedRecording, StoredSignal, channels_to_json, link_name
from biopercept.tasks import Task
from biopercept.version import __version__


@dataclass(frozen=True)
class StoreHeader:
    """What a store says of the whole study.

    Settings are plain values by section ("windows", "cleaning"), labels are by key of the recording, and ``order``
    holds the keys as the study lists them. ``about`` is what the study says of itself: "description", "licence",
    "citation", where it does; it is no part of a fingerprint.
    """

    study: str
    tasks: tuple[Task, ...]
    settings: Mapping[str, Any]
    feature_names: tuple[str, ...]
    labels: Mapping[str, RecordingLabels] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    def attributes(self) -> dict[str, str | int]:
        """Return the attributes of the store's root."""
        return {
            "schema": SCHEMA,
            "biopercept_version": __version__,
            "study": self.study,
            "tasks": json.dumps([task.to_json() for task in self.tasks]),
            "settings": json.dumps(self.settings, sort_keys=True),
            "feature_names": json.dumps(self.feature_names),
            "order": json.dumps(self.order),
            **({"labels": labels_text(self.labels)} if self.labels else {}),
            **({"about": json.dumps(self.about)} if self.about else {}),
        }


def write_recording_part(path: Path, recording: PreparedRecording, *, source_hash: str, settings_hash: str) -> None:
    """Write one prepared recording as a part, whole or not at all; it is used again while both hashes match.

    Raises OutputError where it cannot be written.
    """
    with replacing(path) as temporary, hdf5_writer(temporary) as part:
        group = part.create_group("recordings").create_group(recording.key)
        _fill(group, recording)
        _set_attributes(
            group,
            {
                "subject": recording.subject,
                "session": recording.session,
                "recording": recording.recording,
                "duration_seconds": float(recording.duration_seconds),
                "signal_names": json.dumps([signal.name for signal in recording.signals]),
                "left_out": json.dumps(dict(recording.left_out), sort_keys=True),
                "notes": json.dumps(list(recording.notes)),
                **({"reason_names": json.dumps(recording.reason_names)} if recording.reason_names else {}),
                **_corrections(recording),
                "source_hash": source_hash,
                "settings_hash": settings_hash,
            },
        )
        _set_attributes(group, {"content_hash": content_hash(group)})
        _set_attributes(part, {"schema": SCHEMA})


def _corrections(recording: PreparedRecording) -> dict[str, str]:
    """Return the attribute that says what was corrected by hand; none where nothing was."""
    made = [one.to_json() for one in recording.corrections]
    return {"corrections": json.dumps(made)} if made else {}


def _fill(group: Any, recording: PreparedRecording) -> None:
    signals, masks, quality, reasons = (group.create_group(name) for name in ("signals", "masks", "quality", REASONS))
    for signal in recording.signals:
        name = link_name(signal.name)
        samples, mask = recording.read(signal.name)
        if not samples.shape == mask.shape == (signal.n_channels, signal.n_samples):
            raise StoreError(f"signal {signal.name} of {recording.key} does not have the shape it names")
        if not np.isfinite(samples).all():
            raise StoreError(f"signal {signal.name} of {recording.key} holds numbers that are not finite")
        _put(signals, name, samples.astype("<f4", copy=False), _signal_attributes(signal))
        _put(masks, name, mask.astype("u1"))
        if signal.name in recording.quality:
            _put(quality, name, recording.quality[signal.name].astype("<f4", copy=False))
        if signal.name in recording.reasons:
            _put(reasons, name, recording.reasons[signal.name].astype("<u4", copy=False))
    windows = group.create_group("windows")
    _put(windows, "onset", recording.windows.onset.astype("<f8"))
    _put(windows, "label", _text_column(recording.windows.label))
    _put(windows, "stage", recording.windows.stage.astype("<i4"))
    _put(windows, "is_labelled", recording.windows.is_labelled.astype("u1"))
    if recording.labels.ratings:
        _put_ratings(group.create_group(RATINGS), recording.labels.ratings)
    _put(group, "features", recording.windows.features.astype("<f4", copy=False))
    _put(group, "window_quality", recording.windows.quality.astype("<f4", copy=False))


def _put_ratings(group: Any, ratings: Mapping[str, Rating]) -> None:
    for name, rating in sorted(ratings.items()):
        is_known = np.isfinite(rating.values)
        values = np.stack([np.where(is_known, rating.values, 0.0), is_known]).astype("<f4")
        timing = {"sampling_rate": float(rating.sampling_rate), "start_seconds": float(rating.start_seconds)}
        _put(group, link_name(name), values, {"name": name, **timing})


def _signal_attributes(signal: StoredSignal) -> dict[str, str | float]:
    names, positions = channels_to_json(signal.channels)
    plain = {name: kind(getattr(signal, name)) for name, kind in SIGNAL_ATTRIBUTES.items()}
    return {**plain, "channel_names": names, "positions": positions}


def _text_column(labels: NDArray[np.str_]) -> NDArray[Any]:
    import h5py

    encoded = np.char.encode(labels.astype(np.str_), "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))


def _put(group: Any, name: str, values: NDArray[Any], attributes: Mapping[str, str | float] | None = None) -> None:
    dataset = group.create_dataset(name, data=values)
    _set_attributes(dataset, attributes or {})


def _set_attributes(node: Any, attributes: Mapping[str, Any]) -> None:
    """Write attributes in the order of their names, text at a fixed length so that HDF5 checksums it."""
    import h5py

    for name in sorted(attributes):
        value = attributes[name]
        if isinstance(value, str):
            encoded = value.encode("utf-8", "backslashreplace")
            node.attrs.create(name, np.bytes_(encoded), dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))
        else:
            node.attrs.create(name, value, dtype="<f8" if isinstance(value, float) else "<i8")


def write_store(path: Path, header: StoreHeader, sources: Sequence[tuple[str, Path]]) -> None:
    """Join recordings, (key, part or older store that holds it) each, into a store that replaces what was at ``path``.

    Raises OutputError where the store cannot be written; what was there before is unharmed. Raises StoreError where a
    source is not what was written there.
    """
    with replacing(path) as temporary, hdf5_writer(temporary) as store:
        _set_attributes(store, header.attributes())
        recordings = store.create_group("recordings")
        for key, source in sorted(sources):
            with opened_recording(source, key) as group:
                _copy_recording(group, recordings.create_group(key))


@contextmanager
def opened_recording(source: Path, key: str) -> Iterator[Any]:
    """Give the group of one recording in a part or a store. Raises StoreError where it is damaged or lacks it."""
    import h5py

    try:
        opened = h5py.File(source, "r", locking=False)
    except (OSError, RuntimeError) as fault:
        raise StoreError(f"{source.name} is damaged or cannot be read; run 'prepare' again") from fault
    with opened:
        yield child(child(opened, "recordings", is_group=True), key, is_group=True)


def _copy_recording(source: Any, target: Any) -> None:
    _set_attributes(target, read_attributes(source))
    for path, dataset in datasets_of(source):
        copy = target.create_dataset(path, shape=dataset.shape, dtype=dataset.dtype)
        _set_attributes(copy, read_attributes(dataset))
        for rows, block in blocks(dataset):
            copy[rows] = block
    if read_attribute(source, "content_hash") != content_hash(target):
        raise StoreError(f"recording {source.name} changed while it was copied; run 'prepare' again")


def says(path: Path, header: StoreHeader, keys: Collection[str]) -> bool:
    """Return whether the store at ``path`` bears this header and holds exactly these recordings."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as store:
            return read_attributes(store) == header.attributes() and set(store["recordings"]) == set(keys)
    except (OSError, RuntimeError, KeyError, StoreError):
        return False


@contextmanager
def hdf5_writer(path: Path) -> Iterator[Any]:
    """Give a new, empty HDF5 file at ``path``, a temporary name: nothing is kept of what was there.

    Raises OSError: the first fault of the file system, once HDF5 has closed; and before that where it shows at once.
    """
    import h5py

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    stream = FaultKeepingFile(handle)
    try:
        with h5py.File(stream, "w", libver=FORMAT) as store:
            yield store
    except BaseException as consequence:
        if stream.fault is not None:
            raise stream.fault from consequence
        raise
    finally:
        os.close(handle)
    if stream.fault is not None:
        raise stream.fault


class FaultKeepingFile:
    """A file for h5py's driver that keeps its first fault and goes on as if all were well.

    The fault may also be an interrupt that struck inside a callback.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._place = 0
        self._size = 0
        self.fault: BaseException | None = None

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte; asks nothing of the disk."""
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def read(self, size: int) -> bytes:
        """Return bytes from the place on, as h5py expects a file to have it."""
        content = bytearray(size)
        self.readinto(memoryview(content))
        return bytes(content)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from the place on."""
        try:
            done = 0
            while self.fault is None and done < len(buffer):
                piece = os.preadv(self._handle, [buffer[done:]], self._place + done)
                if piece == 0:
                    break
                done += piece
        except BaseException as fault:
            self.fault = fault
        self._place += len(buffer)
        return len(buffer)

    def write(self, content: memoryview) -> int:
        """Write the whole content at the place; a write may be short and is then continued."""
        try:
            done = 0
            while self.fault is None and done < len(content):
                done += os.pwrite(self._handle, content[done:], self._place + done)
        except BaseException as fault:
            self.fault = fault
        self._place += len(content)
        self._size = max(self._size, self._place)
        return len(content)

    def truncate(self, size: int) -> int:
        """Cut or extend the file."""
        try:
            if self.fault is None:
                os.ftruncate(self._handle, size)
        except BaseException as fault:
            self.fault = fault
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered, and the file is synced once when it is whole."""
