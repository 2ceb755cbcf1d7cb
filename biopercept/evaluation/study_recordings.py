"""A recording of one of several studies that are evaluated together: named by its study, with the common features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from biopercept.recording_labels import RecordingLabels
from biopercept.windowed import FloatSamples, Mask, StoredSignal, StoredWindows, WindowedRecording


@dataclass(frozen=True, eq=False)
class RecordingOfStudy:
    """A recording of one of several studies: its own in all but the names, and only some of its features.

    Attributes
    ----------
    study : str
    own : WindowedRecording
    columns : tuple of int
        Columns of its features that all studies have, in their common order.
    """

    study: str
    own: WindowedRecording
    columns: tuple[int, ...]

    @property
    def key(self) -> str:
        """Return the name of the recording, unique among all studies."""
        return f"{self.study}/{self.own.key}"

    @property
    def subject(self) -> str:
        """Return study and subject: people of two studies with one id are different people."""
        return f"{self.study}/{self.own.subject}"

    @property
    def session(self) -> str:
        """Return the session; may be empty."""
        return self.own.session

    @property
    def recording(self) -> str:
        """Return the recording's own name."""
        return self.own.recording

    @property
    def place(self) -> int | None:
        """Return its place in its own study."""
        return self.own.place

    @property
    def duration_seconds(self) -> float:
        """Return its duration, seconds."""
        return self.own.duration_seconds

    @property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Return every prepared signal."""
        return self.own.signals

    @cached_property
    def windows(self) -> StoredWindows:
        """Return the windows, with the features that all studies have."""
        held = self.own.windows
        return replace(held, features=np.asarray(held.features)[:, list(self.columns)])

    @property
    def labels(self) -> RecordingLabels:
        """Return what its study says of it."""
        return self.own.labels

    @property
    def left_out(self) -> Mapping[str, int]:
        """Return how many windows were left out, by reason."""
        return self.own.left_out

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a careful reader must know about it."""
        return self.own.notes

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples and mask of a signal, each (n_channels, stop - start)."""
        return self.own.read(signal_name, start, stop)

    def read_quality(self, signal_name: str) -> FloatSamples:
        """Return the quality of the signal at 1 Hz, (n_channels, n_seconds)."""
        return self.own.read_quality(signal_name)
