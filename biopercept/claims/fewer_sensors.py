"""Which sensors a study has, each with its signals."""

from __future__ import annotations

from collections.abc import Sequence

from biopercept.data.views import sensors_of_recording
from biopercept.store.prepared import WindowedRecording


def signals_by_sensor(recordings: Sequence[WindowedRecording], feature_names: Sequence[str]) -> dict[str, list[str]]:
    """Return the measured modalities of some recordings, sorted, each with the signals that come from it."""
    found: dict[str, set[str]] = {}
    for recording in recordings:
        for signal, sensor in sensors_of_recording(recording, feature_names)[0].items():
            found.setdefault(sensor, set()).add(signal)
    return {sensor: sorted(found[sensor]) for sensor in sorted(found)}
