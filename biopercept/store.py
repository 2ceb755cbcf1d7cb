"""The store of a prepared study, opened for reading: one HDF5 file of cleaned signals, masks, windows and features.

Windows are an index into continuous signals; samples are mapped from the file, so reading a window costs one
small copy and a store larger than memory can be learnt from. Writing is in ``store_writing.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError, StudyError
from biopercept.recording_labels import RecordingLabels, labels_from_text, labels_text
from biopercept.store_layout import SCHEMA, child, read_attribute
from biopercept.stored_recording import StoredRecording
from biopercept.tasks import Task
from biopercept.windowed import (
    FloatSamples,
    Mask,
    PreparedRecording,
    StoredSignal,
    StoredWindows,
    WindowedRecording,
)

__all__ = [
    "PreparedRecording",
    "StoredRecording",
    "StoredSignal",
    "StoredWindows",
    "StudyStore",
    "WindowedRecording",
    "open_store",
]


def open_store(path: Path, *, verify: bool = False) -> StudyStore:
    """Return the store of a prepared study, open for reading.

    Parameters
    ----------
    path : Path
        The file that ``prepare`` wrote.
    verify : bool
        Whether every recording's content is read once and compared with its hash.

    Raises
    ------
    StoreError
        Where the file is missing, no HDF5 file, cut, damaged, no store of biopercept, or of a newer schema.
    """
    store = StudyStore(Path(path))
    if verify:
        try:
            store.verify()
        except StoreError:
            store.close()
            raise
    return store


class StudyStore:
    """A prepared study, open for reading; use it in a ``with`` block or call :meth:`close`.

    It may be handed to worker processes: each opens the file for itself.

    Attributes
    ----------
    path : Path
    name : str
        Name of the study.
    tasks : dict of str to Task
    settings : mapping
        The settings it was prepared with, as plain values by section ("windows", "cleaning").
    feature_names : tuple of str
        Columns of the feature table of every recording.
    biopercept_version : str
        The version that wrote it.
    recordings : tuple of StoredRecording
        In the order of their keys.
    order : tuple of str
        Keys of the recordings in the order in which the study lists them; empty in stores of versions that did not
        keep it.
    labels : mapping of str to RecordingLabels
        What the study says of each recording, by key; empty in a store of an older version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self._map = _open_file(path)
        try:
            self._read_root()
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, StudyError) as fault:
            self.close()
            raise StoreError(f"{path.name} is damaged ({type(fault).__name__}); prepare the study again") from fault
        except StoreError:
            self.close()
            raise

    def _read_root(self) -> None:
        root = self._file
        if "schema" not in root.attrs:
            raise StoreError(
                f"{self.path.name} is an HDF5 file but no store of biopercept; give the file 'prepare' wrote"
            )
        schema = int(read_attribute(root, "schema"))
        if schema != SCHEMA:
            wrote = read_attribute(root, "biopercept_version")
            advice = f"use biopercept {wrote} or newer" if schema > SCHEMA else "prepare the study again"
            raise StoreError(f"{self.path.name} has schema {schema}, this biopercept reads schema {SCHEMA}; {advice}")
        self.biopercept_version = str(read_attribute(root, "biopercept_version"))
        self.name = str(read_attribute(root, "study"))
        tasks = [Task.from_json(row) for row in json.loads(read_attribute(root, "tasks"))]
        self.tasks: dict[str, Task] = {task.name: task for task in tasks}
        self.settings: Mapping[str, Any] = MappingProxyType(json.loads(read_attribute(root, "settings")))
        self.feature_names: tuple[str, ...] = tuple(json.loads(read_attribute(root, "feature_names")))
        self.order: tuple[str, ...] = tuple(json.loads(read_attribute(root, "order"))) if "order" in root.attrs else ()
        self.window_length_seconds = float(self.settings["windows"]["length_seconds"])
        self.step_seconds = float(self.settings["windows"]["step_seconds"])
        text = str(read_attribute(root, "labels")) if "labels" in root.attrs else "{}"
        self.labels: Mapping[str, RecordingLabels] = MappingProxyType(labels_from_text(text))
        group = child(root, "recordings", is_group=True)
        self.recordings: tuple[StoredRecording, ...] = tuple(StoredRecording(self, key) for key in sorted(group))

    def __enter__(self) -> StudyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.path,)

    def hdf5(self) -> Any:
        """Return the open HDF5 file.

        Raises
        ------
        StoreError
            Where the store was closed.
        """
        if not self._file:
            raise StoreError(f"{self.path.name} was closed; read it inside the 'with' block or before close()")
        return self._file

    def mapped(self) -> NDArray[np.uint8]:
        """Return the bytes of the file, mapped into memory."""
        return self._map

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        self._file.close()
        self._map = np.zeros(0, dtype=np.uint8)

    def recording(self, key: str) -> StoredRecording:
        """Return the recording of that key.

        Raises
        ------
        StoreError
            Where the store has none.
        """
        for recording in self.recordings:
            if recording.key == key:
                return recording
        raise StoreError(f"{self.path.name} has no recording {key!r}; it has {len(self.recordings)} others")

    def read(
        self, recording_key: str, signal_name: str, start: int = 0, stop: int | None = None
    ) -> tuple[FloatSamples, Mask]:
        """Return samples and mask of a signal; see :meth:`StoredRecording.read`.

        Raises
        ------
        StoreError
            Where the recording or the signal is not there.
        """
        return self.recording(recording_key).read(signal_name, start, stop)

    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) over study, tasks, settings and every recording's content hash.

        It does not depend on when, where or by how many processes the store was prepared. Numbers that regression
        tasks predict are in it; labelled stretches are, through each recording's own hashes.
        """
        rows = [[r.key, r.content_hash] for r in self.recordings]
        tasks = [task.to_json() for task in self.tasks.values()]
        order = [list(self.order)] if self.order else []
        held = [SCHEMA, self.name, tasks, dict(self.settings), self.feature_names, rows, *order]
        numbered = {key: labels for key, labels in self.labels.items() if labels.values or any(labels.interval_values)}
        if numbered:
            held.append(labels_text(numbered))
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode("utf-8")).hexdigest()

    def verify(self) -> None:
        """Read everything once and compare it with the hashes written beside it.

        Raises
        ------
        StoreError
            Where a recording is not what was written; the message names every such recording.
        """
        damaged = [r.key for r in self.recordings if not r.is_intact()]
        if damaged:
            raise StoreError(
                f"{self.path.name} is damaged in {len(damaged)} of {len(self.recordings)} recordings "
                f"({', '.join(damaged[:5])}{', ...' if len(damaged) > 5 else ''}); 'prepare' redoes only these"
            )


def _open_file(path: Path) -> tuple[Any, NDArray[np.uint8]]:
    """Return the HDF5 file and the same bytes mapped into memory."""
    import h5py

    os.environ["HDF5_PLUGIN_PATH"] = ""  # no filter code may be loaded because a file asks for it
    if not path.exists():
        raise StoreError(f"there is no store {path}; make it with 'biopercept prepare STUDY -o {path.name}'")
    if not path.is_file():
        raise StoreError(f"{path} is not a file; give the .h5 file that 'prepare' wrote")
    try:
        if not h5py.is_hdf5(path):
            raise StoreError(f"{path.name} is not an HDF5 file; give the .h5 file that 'prepare' wrote")
        opened = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as fault:
        raise StoreError(
            f"{path.name} cannot be read as HDF5, it may be cut or damaged; prepare the study again"
        ) from fault
    # The same open file is mapped, not the path: a new store may have been renamed over it meanwhile.
    with os.fdopen(os.dup(opened.id.get_vfd_handle()), "rb") as stream:
        return opened, np.memmap(stream, dtype=np.uint8, mode="r")
