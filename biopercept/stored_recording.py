"""One recording of an open store: a :class:`~biopercept.windowed.WindowedRecording` that is read when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StoreError
from biopercept.recording_labels import RecordingLabels
from biopercept.store_layout import channels_from_json, child, is_intact, read_attribute
from biopercept.windowed import (
    FloatSamples,
    Mask,
    StoredSignal,
    StoredWindows,
    clipped,
    labels_of_windows,
    link_name,
    require_signal,
)


class OpenFile(Protocol):
    """What a recording needs of the store it lies in."""

    feature_names: tuple[str, ...]
    order: tuple[str, ...]
    labels: Mapping[str, RecordingLabels]
    window_length_seconds: float

    def hdf5(self) -> Any:
        """Return the open HDF5 file; StoreError where it was closed."""

    def mapped(self) -> NDArray[np.uint8]:
        """Return the bytes of the file, mapped into memory."""


class StoredRecording:
    """One recording of a store; everything is read when asked for, and only while the store is open."""

    def __init__(self, store: OpenFile, key: str) -> None:
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
        return self._store.order.index(self.key) if self.key in self._store.order else None

    @cached_property
    def duration_seconds(self) -> float:
        """Time from second zero to the end of the last signal, seconds."""
        return float(read_attribute(self._group, "duration_seconds"))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of everything the recording holds, as it was written."""
        return str(read_attribute(self._group, "content_hash"))

    @cached_property
    def source_hash(self) -> str:
        """SHA-256 of the files, labels and unit overrides it was prepared from."""
        return str(read_attribute(self._group, "source_hash"))

    @cached_property
    def settings_hash(self) -> str:
        """SHA-256 of the settings and the version of the cleaning it was prepared with."""
        return str(read_attribute(self._group, "settings_hash"))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a careful reader must know about the recording."""
        return tuple(str(note) for note in self._json("notes"))

    @cached_property
    def labels(self) -> RecordingLabels:
        """What the study says of the recording; what its windows tell, in a store that does not hold the labels."""
        held = self._store.labels.get(self.key)
        return labels_of_windows(self.windows, self._store.window_length_seconds) if held is None else held

    @cached_property
    def left_out(self) -> Mapping[str, int]:
        """How many windows were left out, by reason."""
        return MappingProxyType({str(reason): int(n) for reason, n in self._json("left_out").items()})

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
        """The windows, with features and quality in memory.

        Raises
        ------
        StoreError
            Where their columns do not fit together.
        """
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
        return np.array(_mapped(self._store.mapped(), child(group, name, is_group=False)))

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples ``start`` to ``stop`` of a signal and their mask.

        Parameters
        ----------
        signal_name : str
        start, stop : int
            Sample numbers, clipped to the signal; ``stop`` None reads to the end.

        Returns
        -------
        samples : array of float32, shape (n_channels, n)
            0 where masked.
        mask : array of bool, shape (n_channels, n)
            True where the sample is real.

        Raises
        ------
        StoreError
            Where the recording has no signal of that name, or the store was closed.
        """
        samples, mask = self._open_maps(signal_name)
        first, last = clipped(start, stop, samples.shape[1])
        return np.array(samples[:, first:last], dtype=np.float32), mask[:, first:last] != 0

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of a signal at 1 Hz: (n_channels, n_seconds), no seconds where it was not measured.

        Raises
        ------
        StoreError
            Where the recording has no signal of that name.
        """
        signal = require_signal(self, signal_name)
        group = child(self._group, "quality", is_group=True)
        if link_name(signal_name) not in group:
            return np.zeros((signal.n_channels, 0), dtype=np.float32)
        return self._array(group, link_name(signal_name)).astype(np.float32)

    def _open_maps(self, signal_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return samples and mask of a signal as they lie in the file, mapped and not copied."""
        self._store.hdf5()  # refuses a closed store
        if signal_name not in self._maps:
            signal = require_signal(self, signal_name)
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

    def is_intact(self) -> bool:
        """Return whether everything the recording holds is what was written, by reading it once."""
        try:
            return is_intact(self._group)
        except StoreError:
            return False


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
    return StoredSignal(
        name=str(read_attribute(dataset, "name")),
        modality=str(read_attribute(dataset, "modality")),
        unit=str(read_attribute(dataset, "unit")),
        sampling_rate=float(read_attribute(dataset, "sampling_rate")),
        native_sampling_rate=float(read_attribute(dataset, "native_sampling_rate")),
        start_seconds=float(read_attribute(dataset, "start_seconds")),
        channels=channels,
        n_samples=int(dataset.shape[1]),
        derived_from=str(read_attribute(dataset, "derived_from")),
    )
