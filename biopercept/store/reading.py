"""The store of a prepared study, opened for reading: one HDF5 file of cleaned signals, masks, windows and features.

Windows are an index into continuous signals; samples are mapped from the file, so reading a window costs one
small copy and a store larger than memory can be learnt from. A recording of an open store is a
:class:`~biopercept.store.prepared.WindowedRecording` that is read on demand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError, StudyError
from biopercept.recording import Rating, RecordingLabels, labels_from_text, labels_text
from biopercept.store.layout import (
    RATINGS,
    REASONS,
    SCHEMA,
    SIGNAL_ATTRIBUTES,
    child,
    datasets_of,
    is_intact,
    read_attribute,
)
from biopercept.store.prepared import (
    FloatSamples,
    Mask,
    ReasonMask,
    StoredSignal,
    StoredWindows,
    channels_from_json,
    clipped,
    labels_of_windows,
    link_name,
    require_signal,
)
from biopercept.tasks import Task
from biopercept.typed_values import path_meant

if TYPE_CHECKING:
    import pandas as pd


def open_store(path: Path, *, verify: bool = False) -> StudyStore:
    """Return the store of a prepared study, open for reading; ``verify`` compares every recording with its hash first.

    Raises StoreError where the file is missing, no HDF5 file, cut, damaged, no store of biopercept, or of a newer
    schema.
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

    It may be handed to worker processes: each opens the file for itself. ``settings`` are those it was prepared with,
    as plain values by section ("windows", "cleaning"). ``recordings`` stand in the order of their keys, ``order`` are
    the keys as the study lists them; ``labels`` are what the study says, by key; ``about`` is what it says of itself
    ("description", "licence", "citation"). All three are empty in a store of an older version.
    """

    disagreements: Mapping[str, str] = MappingProxyType({})
    warnings: tuple[str, ...] = ()

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
        about = json.loads(read_attribute(root, "about")) if "about" in root.attrs else {}
        self.about: Mapping[str, str] = MappingProxyType({str(key): str(text) for key, text in about.items()})
        group = child(root, "recordings", is_group=True)
        self.recordings: tuple[StoredRecording, ...] = tuple(StoredRecording(self, key) for key in sorted(group))

    def __enter__(self) -> StudyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def parts(self) -> Mapping[str, StudyStore]:
        """Return the store itself, its recordings called as they are; joined stores have several parts."""
        return {"": self}

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.path,)

    def hdf5(self) -> Any:
        """Return the open HDF5 file. Raises StoreError where the store was closed."""
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

    def to_frame(self) -> pd.DataFrame:
        """Return a row per recording: whose it is, its windows, its signals, what spoils most of each, corrections."""
        import pandas as pd

        rows = [
            {
                "participant_id": recording.subject,
                "session": recording.session,
                "recording": recording.recording,
                "duration_seconds": recording.duration_seconds,
                "windows_labelled": int(recording.windows.is_labelled.sum()),
                "windows_grid": int((~recording.windows.is_labelled).sum()),
                "signals": ", ".join(signal.name for signal in recording.signals),
                "spoilt": ", ".join(
                    f"{name}: {reason} ({100 * share:.2g} %)"
                    for name, (reason, share) in recording.main_reasons().items()
                ),
                "corrections": len(recording.corrections),
            }
            for recording in self.recordings
        ]
        return pd.DataFrame(rows)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Return the place of each key in :attr:`order`."""
        return {key: place for place, key in enumerate(self.order)}

    def recording(self, key: str) -> StoredRecording:
        """Return the recording of that key. Raises StoreError where the store has none."""
        for recording in self.recordings:
            if recording.key == key:
                return recording
        raise StoreError(f"{self.path.name} has no recording {key!r}; it has {len(self.recordings)} others")

    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) over study, tasks, settings and every recording's content hash.

        It does not depend on when, where or by how many processes the store was prepared. Numbers that regression
        tasks predict are in it; labelled intervals are, through each recording's own hashes.
        """
        rows = [[r.key, r.content_hash] for r in self.recordings]
        tasks = [task.to_json() for task in self.tasks.values()]
        order = [list(self.order)] if self.order else []
        hashed = [SCHEMA, self.name, tasks, dict(self.settings), self.feature_names, rows, *order]
        numbered = {key: labels for key, labels in self.labels.items() if labels.values or any(labels.interval_values)}
        if numbered:
            hashed.append(labels_text(numbered))
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode("utf-8")).hexdigest()

    def verify(self) -> None:
        """Read everything once. Raises StoreError, naming each recording that is not what was written."""
        damaged = [r.key for r in self.recordings if not r.is_intact()]
        if damaged:
            raise StoreError(
                f"{self.path.name} is damaged in {len(damaged)} of {len(self.recordings)} recordings "
                f"({', '.join(damaged[:5])}{', ...' if len(damaged) > 5 else ''}); 'prepare' redoes only these"
            )


def _open_file(path: Path) -> tuple[Any, NDArray[np.uint8]]:
    """Return the HDF5 file and the same bytes mapped into memory."""
    import h5py

    from biopercept.studies.loading import is_study

    os.environ["HDF5_PLUGIN_PATH"] = ""  # no filter code may be loaded because a file asks for it
    if not path.exists():
        how = path_meant(path) or f"; make it with 'biopercept prepare STUDY -o {path.name}'"
        raise StoreError(f"there is no store {path}{how}")
    if is_study(path):
        raise StoreError(
            f"{path} is a study; prepare it first, with 'biopercept prepare {path} -o {path.resolve().name}.h5'"
        )
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


_INTACT: set[tuple[int, int, int, int, str]] = set()
"""Recordings that this process has found to be what was written, by file (device, number, time, size) and key."""


class StoredRecording:
    """One recording of a store; everything is read on demand, and only while the store is open."""

    def __init__(self, store: StudyStore, key: str) -> None:
        self._store = store
        self._maps: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self.key = key

    def __repr__(self) -> str:
        return f"StoredRecording({self.key!r})"

    @cached_property
    def _group(self) -> Any:
        return child(child(self._store.hdf5(), "recordings", is_group=True), self.key, is_group=True)

    @cached_property
    def subject(self) -> str:
        """Id of the participant."""
        return str(read_attribute(self._group, "subject"))

    @cached_property
    def session(self) -> str:
        """Session; may be empty."""
        return str(read_attribute(self._group, "session"))

    @cached_property
    def recording(self) -> str:
        """The recording's own name."""
        return str(read_attribute(self._group, "recording"))

    @property
    def place(self) -> int | None:
        """Place among the study's recordings in the order it lists them; None in stores that do not say."""
        return self._store.places.get(self.key)

    @cached_property
    def duration_seconds(self) -> float:
        """Time from second zero to the end of the last signal, seconds."""
        return float(read_attribute(self._group, "duration_seconds"))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything the recording holds, as it was written."""
        return str(read_attribute(self._group, "content_hash"))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a careful reader must know about the recording."""
        return tuple(str(note) for note in self._json("notes"))

    @cached_property
    def labels(self) -> RecordingLabels:
        """What the study says of the recording; what its windows tell, in a store that does not hold the labels."""
        labels = self._store.labels.get(self.key)
        if labels is None:
            labels = labels_of_windows(self.windows, self._store.window_length_seconds)
        return replace(labels, ratings=self._ratings()) if RATINGS in self._group else labels

    def _ratings(self) -> dict[str, Rating]:
        group = child(self._group, RATINGS, is_group=True)
        ratings = {}
        for link in sorted(group):
            dataset = child(group, link, is_group=False)
            name, values = str(read_attribute(dataset, "name")), self._array(group, link)
            rate, start = (float(read_attribute(dataset, what)) for what in ("sampling_rate", "start_seconds"))
            if values.ndim != 2 or len(values) != 2 or not rate > 0:
                raise StoreError(f"the rating {name!r} of recording {self.key} is damaged; prepare the study again")
            ratings[name] = Rating(np.where(values[1] != 0, values[0], np.nan).astype(np.float64), rate, start)
        return ratings

    @cached_property
    def left_out(self) -> Mapping[str, int]:
        """How many windows were left out, by reason."""
        return MappingProxyType({str(reason): int(n) for reason, n in self._json("left_out").items()})

    @cached_property
    def corrections(self) -> tuple[Mapping[str, Any], ...]:
        """What was corrected by hand: of each its kind, onset, duration, channels, who, when and source."""
        return tuple(self._json("corrections")) if "corrections" in self._group.attrs else ()

    def _json(self, attribute: str) -> Any:
        try:
            return json.loads(read_attribute(self._group, attribute))
        except ValueError as fault:
            raise StoreError(f"recording {self.key} has damaged {attribute!r}; prepare the study again") from fault

    @cached_property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Every prepared signal, measured and derived, in the order they were prepared."""
        group = child(self._group, "signals", is_group=True)
        return tuple(_read_signal(child(group, link_name(name), is_group=False)) for name in self._json("signal_names"))

    @cached_property
    def windows(self) -> StoredWindows:
        """The windows, in memory. Raises StoreError where their columns do not fit together."""
        columns = child(self._group, "windows", is_group=True)
        windows = StoredWindows(
            onset=self._array(columns, "onset").astype(np.float64),
            label=np.char.decode(self._array(columns, "label"), "utf-8", "replace"),
            stage=self._array(columns, "stage").astype(np.int32),
            is_labelled=self._array(columns, "is_labelled").astype(np.bool_),
            features=self._array(self._group, "features").astype(np.float32),
            quality=self._array(self._group, "window_quality").astype(np.float32),
        )
        n = len(windows)
        is_whole = windows.features.shape == (n, len(self._store.feature_names)) and windows.quality.shape == (
            n,
            len(self.signals),
        )
        if not is_whole or {c.shape for c in (windows.label, windows.stage, windows.is_labelled)} != {(n,)}:
            raise StoreError(
                f"the window table of recording {self.key} has columns that do not fit; prepare the study again"
            )
        return windows

    def _array(self, group: Any, name: str) -> NDArray[Any]:
        self._require_intact()
        return np.array(_mapped(self._store.mapped(), child(group, name, is_group=False)))

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples, 0 where masked, and mask (True = real) of a signal: (n_channels, n), clipped to the signal.

        Raises StoreError where the recording has no signal of that name, or the store was closed.
        """
        samples, mask = self._open_maps(signal_name)
        first, last = clipped(start, stop, samples.shape[1])
        return np.array(samples[:, first:last], dtype=np.float32), mask[:, first:last] != 0

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of a signal at 1 Hz: (n_channels, n_seconds), no seconds where it was not measured.

        Raises StoreError where the recording has no signal of that name.
        """
        signal = require_signal(self, signal_name)
        group = child(self._group, "quality", is_group=True)
        if link_name(signal_name) not in group:
            return np.zeros((signal.n_channels, 0), dtype=np.float32)
        return self._array(group, link_name(signal_name)).astype(np.float32)

    @property
    def reason_names(self) -> tuple[str, ...]:
        """Return the reasons by their bits in :meth:`read_reasons`; none in a store of an older version."""
        known = "reason_names" in self._group.attrs
        return tuple(json.loads(read_attribute(self._group, "reason_names"))) if known else ()

    def read_reasons(self, signal_name: str) -> ReasonMask | None:
        """Return what is wrong with a signal in each second, as bits by place in :attr:`reason_names`.

        (n_channels, n_seconds); None where it is not known: of derived signals, and in a store of an older version.
        Raises StoreError where the recording has no signal of that name.
        """
        require_signal(self, signal_name)
        if REASONS not in self._group or link_name(signal_name) not in child(self._group, REASONS, is_group=True):
            return None
        return self._array(child(self._group, REASONS, is_group=True), link_name(signal_name)).astype(np.uint32)

    def main_reasons(self) -> dict[str, tuple[str, float]]:
        """Return what spoils most of each signal, by its name, and the share of channels and seconds that it is in.

        Signals that nothing spoils are absent, and all are where reasons are not known.
        """
        out: dict[str, tuple[str, float]] = {}
        for signal in self.signals:
            bits = self.read_reasons(signal.name)
            if bits is not None and bits.any():
                shares = [float(((bits >> bit) & 1).mean()) for bit in range(len(self.reason_names))]
                worst = int(np.argmax(shares))
                out[signal.name] = self.reason_names[worst], shares[worst]
        return out

    def _open_maps(self, signal_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return samples and mask of a signal as they lie in the file, mapped and not copied."""
        self._store.hdf5()  # refuses a closed store
        if signal_name not in self._maps:
            signal = require_signal(self, signal_name)
            self._require_intact()
            samples, mask = (
                _mapped(
                    self._store.mapped(),
                    child(child(self._group, part, is_group=True), link_name(signal_name), is_group=False),
                )
                for part in ("signals", "masks")
            )
            if not samples.shape == mask.shape == (signal.n_channels, signal.n_samples):
                raise StoreError(
                    f"signal {signal_name} of recording {self.key} has a mask of another size; prepare again"
                )
            self._maps[signal_name] = samples, mask
        return self._maps[signal_name]

    def _require_intact(self) -> None:
        """Refuse content that is not what was written: looked at once in a process, when it is first read."""
        if self._place in _INTACT:
            return
        for _, dataset in datasets_of(self._group):
            _mapped(self._store.mapped(), dataset)  # refuses a size that the file does not hold, before it is read
        if not self.is_intact():
            raise StoreError(
                f"recording {self.key} in {self._store.path.name} is damaged: it is not what was written; run "
                "'prepare' again, it redoes only what is damaged"
            )

    def is_intact(self) -> bool:
        """Return whether everything the recording holds is what was written, by reading it once."""
        try:
            whole = is_intact(self._group)
        except StoreError:
            return False
        if whole:
            _INTACT.add(self._place)
        return whole

    @property
    def _place(self) -> tuple[int, int, int, int, str]:
        about = os.fstat(self._store.hdf5().id.get_vfd_handle())
        return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size, self.key


def _mapped(content: NDArray[np.uint8], dataset: Any) -> NDArray[Any]:
    """Return a contiguous dataset as a view of the mapped file."""
    n_bytes = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if n_bytes == 0:
        return np.zeros(dataset.shape, dtype=dataset.dtype)
    offset = dataset.id.get_offset()
    if offset is None or offset + n_bytes > content.size:
        raise StoreError(f"{dataset.name} claims {n_bytes} bytes that the file does not hold; prepare the study again")
    return np.ndarray(dataset.shape, dtype=dataset.dtype, buffer=content.data, offset=offset)


def _read_signal(dataset: Any) -> StoredSignal:
    if dataset.ndim != 2:
        raise StoreError(f"{dataset.name} has {dataset.ndim} dimensions, a signal has 2; prepare the study again")
    channels = channels_from_json(read_attribute(dataset, "channel_names"), read_attribute(dataset, "positions"))
    if len(channels) != dataset.shape[0]:
        raise StoreError(f"{dataset.name} has {dataset.shape[0]} channels and {len(channels)} names; prepare again")
    plain: dict[str, Any] = {name: kind(read_attribute(dataset, name)) for name, kind in SIGNAL_ATTRIBUTES.items()}
    return StoredSignal(**plain, channels=channels, n_samples=int(dataset.shape[1]))
