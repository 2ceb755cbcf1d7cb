"""A study as if only some of its sensors had been worn, without preparing it anew.

A sensor goes with all that is computed from it: signal, derived series and features.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biopercept.learning.inputs import WindowInputs, feature_groups
from biopercept.modalities import MODALITIES
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
    """Return the measured modality that each signal, and each feature group, of a recording comes from.

    What a device computed is followed to the sensor it computed it with: a heart rate that comes from the rate of a
    pulse oximeter belongs to the oximeter, so that nothing of a sensor stays behind when it is taken away.
    """
    modality = {signal.name: signal.modality for signal in recording.signals}
    asked = [(signal.modality, modality.get(signal.derived_from, "")) for signal in recording.signals]
    groups = list(feature_groups(feature_names))
    of_signals, of_groups = sensors_of(asked, groups)
    behind = {
        signal.modality: sensor
        for signal, sensor in zip(recording.signals, of_signals, strict=True)
        if not MODALITIES[signal.modality].is_derived
    }
    by_signal = {name: behind.get(s, s) for name, s in zip(modality, of_signals, strict=True)}
    return by_signal, {group: behind.get(s, s) for group, s in zip(groups, of_groups, strict=True)}


def restricted(inputs: WindowInputs, kept: Collection[str]) -> WindowInputs:
    """Return the same windows as if only the sensors ``kept`` had been worn."""
    table = inputs.windows
    recordings = tuple(
        RestrictedRecording(recording, frozenset(kept), table.feature_names) for recording in table.recordings
    )
    return replace(inputs, windows=replace(table, recordings=recordings))


def measured_sensors(recordings: Sequence[WindowedRecording], feature_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the measured modalities of some recordings, sorted, each with the signals that come from it."""
    found: dict[str, set[str]] = {}
    for recording in recordings:
        for signal, sensor in sensors_of_recording(recording, feature_names)[0].items():
            found.setdefault(sensor, set()).add(signal)
    return {sensor: sorted(found[sensor]) for sensor in sorted(found)}


def sensor_sets(sensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return what is asked about: all sensors, all but each, and each alone; what is the same is asked once.

    >>> sensor_sets(["ecg", "eda"])
    {'all': ('ecg', 'eda'), 'without ecg': ('eda',), 'without eda': ('ecg',)}
    """
    worn = tuple(sensors)
    sets = {"all": worn}
    if len(worn) > 1:
        sets |= {f"without {gone}": tuple(s for s in worn if s != gone) for gone in worn}
    if len(worn) > 2:
        sets |= {f"only {kept}": (kept,) for kept in worn}
    return sets
