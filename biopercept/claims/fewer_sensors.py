"""Which sensors a study has, and with which of them a model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biopercept.learning.restriction import sensors_of_recording
from biopercept.windowed import WindowedRecording


def signals_by_sensor(recordings: Sequence[WindowedRecording], feature_names: Sequence[str]) -> dict[str, list[str]]:
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
