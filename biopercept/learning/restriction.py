"""Recordings and windows as if only some of their sensors had been worn: a sensor goes with all computed from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biopercept.learning.inputs import WindowInputs
from biopercept.learning.token_source import feature_groups
from biopercept.model.sensor_dropout import sensors_of
from biopercept.windowed import FloatSamples, Mask, StoredSignal, StoredWindows, WindowedRecording


@dataclass(frozen=True, eq=False)
class RestrictedRecording:
    """A recording as if only some of its sensors had been worn; otherwise the recording it is made of.

    Attributes
    ----------
    whole : WindowedRecording
    kept : frozenset of str
        Measured modalities that remain.
    feature_names : tuple of str
        Of the columns of its windows, "group/name"; features of sensors that are gone are NaN.
    """

    whole: WindowedRecording
    kept: frozenset[str]
    feature_names: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Return the signals that remain."""
        by_signal, _ = sensors_of_recording(self.whole, self.feature_names)
        return tuple(s for s in self.whole.signals if by_signal[s.name] in self.kept)

    @property
    def windows(self) -> StoredWindows:
        """Return the windows with the features and the quality of the sensors that remain."""
        held = self.whole.windows
        by_signal, by_group = sensors_of_recording(self.whole, self.feature_names)
        features = np.array(held.features, copy=True)
        for group, columns in feature_groups(self.feature_names).items():
            if by_group[group] not in self.kept:
                features[:, columns] = np.nan
        is_left = np.array([by_signal[s.name] in self.kept for s in self.whole.signals], dtype=bool)
        return replace(held, features=features, quality=np.asarray(held.quality)[:, is_left])

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples and mask of a signal, as the whole recording does."""
        return self.whole.read(signal_name, start, stop)


def sensors_of_recording(
    recording: WindowedRecording, feature_names: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the measured modality that each signal, and each feature group, of a recording comes from."""
    modality = {signal.name: signal.modality for signal in recording.signals}
    asked = [(signal.modality, modality.get(signal.derived_from, "")) for signal in recording.signals]
    groups = list(feature_groups(feature_names))
    of_signals, of_groups = sensors_of(asked, groups)
    return dict(zip(modality, of_signals, strict=True)), dict(zip(groups, of_groups, strict=True))


def restricted(inputs: WindowInputs, kept: Collection[str]) -> WindowInputs:
    """Return the same windows as if only the sensors ``kept`` had been worn."""
    table = inputs.windows
    recordings = tuple(
        RestrictedRecording(recording, frozenset(kept), table.feature_names) for recording in table.recordings
    )
    return replace(inputs, windows=replace(table, recordings=recordings))


def measured_sensors(recordings: Sequence[WindowedRecording], feature_names: Sequence[str]) -> tuple[str, ...]:
    """Return the measured modalities of some recordings, sorted."""
    return tuple(sorted({s for r in recordings for s in sensors_of_recording(r, feature_names)[0].values()}))
