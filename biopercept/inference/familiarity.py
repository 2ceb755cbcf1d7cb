"""How like a recording is to what a model knows, in numbers and in words, and whether the model was fitted to it.

Every kind of difference is one sentence for the recording, never one for each window; the windows have columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.duplicates import blocks_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import FloatArray
from biopercept.errors import listed, ranged
from biopercept.measures.columns import column_of
from biopercept.store.prepared import StoredSignal, WindowedRecording
from biopercept.training.checkpoint import Checkpoint, has_subject, studies_seen
from biopercept.training.known_inputs import UNLIKE_FRACTION, KnownInputs, KnownSensor, largest_of, window_sizes
from biopercept.typed_values import Interval

NOT_KNOWN = (
    "whether its signals and features are like those that the model was trained on is not known for this model, which "
    "was made before that was kept; train it again to know"
)
BY_SUBJECT, BY_SAMPLES, BY_ID = "study and subject", "samples", "id alone"
"""How it is known that a model was fitted to somebody; the last is a doubt."""
_FAR = 2.0  # times lower or higher is another sampling rate
_MANY = 0.2  # of the windows outside a range are worth a sentence
_MOST_FEATURES = 3


@dataclass(frozen=True, eq=False)
class Familiarity:
    """How like a recording's windows are to those that a model knows.

    * ``distance``, (n_windows,): in the space of scaled features; above 1 a window is unlike, NaN where it has no
      feature that the model knows. Empty where the model does not keep what it knows.
    * ``is_outside``, (n_windows,): whether a signal is outside the range known; empty likewise.
    * ``fitted_by``: how it is known that the model was fitted to this person; empty where it is not.
    * ``remarks``: sentences for people.
    """

    distance: FloatArray
    is_outside: NDArray[np.bool_]
    fitted_by: str
    remarks: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        """Return whether the model keeps what it knows."""
        return len(self.distance) > 0

    @property
    def is_unlike(self) -> NDArray[np.bool_]:
        """Return which windows are unlike those that the model knows, (n_windows,)."""
        return np.asarray(np.nan_to_num(self.distance) > 1.0)


def distances_of(checkpoint: Checkpoint, inputs: WindowInputs) -> Familiarity:
    """Return how like the windows of a table's last recording are to those that a model knows, without any words."""
    windows, known = inputs.windows, checkpoint.known
    if known is None:
        return Familiarity(np.empty(0), np.empty(0, dtype=bool), "", ())
    by_sensor = known.distances_by_sensor(inputs.features(checkpoint.population), windows.feature_names)
    is_outside, _ = _signal_remarks(known, windows.recordings[-1], windows.onset, windows.length_seconds)
    return Familiarity(largest_of(by_sensor, len(windows)), is_outside, "", ())


def familiarity_of(checkpoint: Checkpoint, inputs: WindowInputs, study: str | None) -> Familiarity:
    """Return how like the last recording of a table of its windows is to what a model knows.

    ``study`` is the name of the one that the recording lies in; None for a file by itself.
    """
    windows = inputs.windows
    recording, known = windows.recordings[-1], checkpoint.known
    fitted_by, warning = fitted_to(checkpoint, recording, study)
    remarks = [*warning, *_sensor_remarks(checkpoint.training["modalities"], recording)]
    if known is None:
        return Familiarity(np.empty(0), np.empty(0, dtype=bool), fitted_by, (*remarks, NOT_KNOWN))
    is_outside, of_signals = _signal_remarks(known, recording, windows.onset, windows.length_seconds)
    by_sensor = known.distances_by_sensor(inputs.features(checkpoint.population), windows.feature_names)
    of_features = feature_remarks(known, windows.raw_features(), windows.feature_names)
    distance = largest_of(by_sensor, len(windows))
    return Familiarity(
        distance=distance,
        is_outside=is_outside,
        fitted_by=fitted_by,
        remarks=(*remarks, *of_signals, *of_features, *distance_remarks(known, by_sensor, distance)),
    )


def fitted_to(checkpoint: Checkpoint, recording: WindowedRecording, study: str | None) -> tuple[str, tuple[str, ...]]:
    """Return how it is known that a model was fitted to the person of a recording (empty: it is not), and a warning."""
    seen, subject = studies_seen(checkpoint.training), recording.subject
    known = checkpoint.known
    if known is not None and known.fingerprints and known.is_copy(blocks_of(recording)):
        return BY_SAMPLES, (
            "the model was fitted to this recording, or to a part of it (the samples are the same): its predictions "
            "say nothing about people whom the model has not seen",
        )
    named = [part["study"] for part in seen if has_subject(part, subject)]
    if study is not None and study in named:
        return BY_SUBJECT, (
            f"the model was fitted to {subject} (the same study and subject): its predictions say nothing about people "
            "whom the model has not seen",
        )
    if study is None and named:
        return BY_ID, (
            f"the model was fitted to somebody of study {named[0]} whose id is {subject}, too; if that is the same "
            "person, its predictions say nothing about people whom the model has not seen",
        )
    return "", ()


def _sensor_remarks(modalities: Sequence[str], recording: WindowedRecording) -> list[str]:
    present = sorted({s.modality for s in recording.signals if not s.derived_from})
    absent, ignored = [m for m in modalities if m not in present], [m for m in present if m not in modalities]
    remarks = []
    if absent:
        remarks.append(
            f"not in the recording, or not usable there, and the model was trained with it: {listed(absent)}"
        )
    if ignored:
        remarks.append(f"not read, for the model was trained without it: {listed(ignored)}")
    return remarks


def _signal_remarks(
    known: KnownInputs, recording: WindowedRecording, onset: FloatArray, length: float
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which windows have a signal outside the ranges, and a sentence for each kind of difference."""
    sizes = window_sizes(recording, onset, length)
    is_outside = np.zeros(len(onset), dtype=bool)
    outside, silent, rates, units, channels = [], [], [], [], []
    for signal in recording.signals:
        sensor = known.sensors.get(signal.modality)
        if signal.derived_from or sensor is None:
            continue
        size, spread = sizes[signal.name]
        beyond = {}
        for what, values, interval in (("size", size, sensor.size), ("spread", spread, sensor.spread)):
            if interval is not None:
                beyond[what] = (values < interval[0]) | (values > interval[1])
                is_outside |= beyond[what]
        outside += _outside_words(signal, sensor, {"size": size, "spread": spread}, beyond)
        present = float(np.isfinite(size).mean()) if len(size) else 0.0
        if present < sensor.present - _MANY:
            silent.append(f"{signal.name} in {1 - present:.0%} of them")
        low, high = sensor.sampling_rate
        if not low / _FAR <= signal.native_sampling_rate <= high * _FAR:
            rates.append(f"{signal.name} at {signal.native_sampling_rate:g} Hz, known at {_between((low, high))} Hz")
        if signal.unit not in sensor.units:
            units.append(f"{signal.name} in {signal.unit}, known in {', '.join(sensor.units)}")
        strange = [channel.name for channel in signal.channels if channel.name not in sensor.channels]
        if strange and len(sensor.channels) > 1:
            channels.append(f"{listed(strange)} of {signal.name}")
    return is_outside, [
        *([f"windows without enough usable samples, more than known: {'; '.join(silent)}"] if silent else []),
        *([f"the sampling rate is far from those known: {'; '.join(rates)}"] if rates else []),
        *([f"the unit is not one that the model knows: {'; '.join(units)}"] if units else []),
        *([f"channels that the model does not know: {'; '.join(channels)}"] if channels else []),
        *([f"signals outside the range known: {'; '.join(outside)}"] if outside else []),
    ]


def _outside_words(
    signal: StoredSignal, sensor: KnownSensor, sizes: Mapping[str, FloatArray], beyond: Mapping[str, Any]
) -> list[str]:
    """Return one phrase for a signal of which many windows are outside: of root mean square or standard deviation."""
    fractions = {what: float(rows.mean()) if len(rows) else 0.0 for what, rows in beyond.items()}
    worst = max(fractions, key=lambda what: fractions[what], default=None)
    if worst is None or fractions[worst] < _MANY:
        return []
    interval = sensor.size if worst == "size" else sensor.spread
    assert interval is not None
    what = "root mean square" if worst == "size" else "standard deviation"
    middle = float(np.median(sizes[worst][beyond[worst]]))
    return [
        f"{signal.name} in {fractions[worst]:.0%} of the windows ({what} about {middle:.3g} {signal.unit}, known "
        f"{_between(interval)})"
    ]


def _between(interval: Interval) -> str:
    low, high = interval
    return ranged(f"{low:.3g}", f"{high:.3g}")


def _unit_of(feature: str) -> str:
    """Return a space and the unit of a feature as the tables of features have it, such as "log ms^2"; empty of none."""
    try:
        unit = column_of(feature).unit
    except KeyError:  # of another version
        return ""
    return "" if unit in ("", "fraction") else f" {unit}"


def feature_remarks(known: KnownInputs, raw: FloatArray, names: Sequence[str]) -> list[str]:
    """Return a sentence on the features that are outside their range in most windows that have them."""
    outside = []
    for name, (low, high) in known.features.items():
        values = raw[:, names.index(name)]
        values = values[np.isfinite(values)]
        fraction = float(((values < low) | (values > high)).mean()) if len(values) else 0.0
        if fraction > 0.5:
            unit = _unit_of(name)
            outside.append(
                (fraction, f"{name} (about {np.median(values):.3g}{unit}, known {_between((low, high))}{unit})")
            )
    if not outside:
        return []
    words = [words for _, words in sorted(outside, key=lambda row: -row[0])]
    return [f"features outside the range known in most windows: {listed(words, _MOST_FEATURES)}"]


def distance_remarks(known: KnownInputs, by_sensor: Mapping[str, FloatArray], distance: FloatArray) -> list[str]:
    """Return a sentence where windows have no distance, or more of them than is usual are unlike those known."""
    if not np.isfinite(distance).any():
        return ["no window has a feature that the model knows, so how like they are to those known cannot be said"]
    fraction = float((np.nan_to_num(distance) > 1.0).mean())
    if fraction <= known.usual:
        return []
    most = max(by_sensor, key=lambda sensor: int((np.nan_to_num(by_sensor[sensor]) > 1.0).sum()))
    return [
        f"{fraction:.0%} of the windows are unlike those that the model knows, most by the features of {most}; of a "
        f"new person like those that it was trained on, about {UNLIKE_FRACTION:.0%} are, and of 19 such people in 20 "
        f"at most {known.usual:.0%}"
    ]
