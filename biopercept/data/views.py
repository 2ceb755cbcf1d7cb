"""Recordings seen in part: as if only some sensors had been worn, or with the statistics of some windows alone.

A sensor goes with all that is computed from it. Where the windows that are scored lie in the recordings that are learnt
from, statistics of whole recordings would hold the scored part; the second view takes them of the fitted windows only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from biopercept.data.batches import feature_groups
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics
from biopercept.data.windows import IntArray
from biopercept.model.dropout import sensors_of
from biopercept.store.prepared import FloatSamples, Mask, RecordingView, StoredSignal, StoredWindows, WindowedRecording


@dataclass(frozen=True, eq=False)
class RestrictedRecording(RecordingView):
    """A recording as if only the measured modalities ``kept`` had been worn; features of others are NaN."""

    kept: frozenset[str]
    feature_names: tuple[str, ...]

    @property
    def signals(self) -> tuple[StoredSignal, ...]:
        """Return the signals that remain."""
        by_signal, _ = sensors_of_recording(self.whole, self.feature_names)
        return tuple(s for s in self.whole.signals if by_signal[s.name] in self.kept)

    @property
    def windows(self) -> StoredWindows:
        """Return the windows with the features and the quality of the sensors that remain."""
        windows = self.whole.windows
        by_signal, by_group = sensors_of_recording(self.whole, self.feature_names)
        features = np.array(windows.features, copy=True)
        for group, columns in feature_groups(self.feature_names).items():
            if by_group[group] not in self.kept:
                features[:, columns] = np.nan
        is_left = np.array([by_signal[s.name] in self.kept for s in self.whole.signals], dtype=bool)
        return replace(windows, features=features, quality=np.asarray(windows.quality)[:, is_left])


def sensors_of_recording(
    recording: WindowedRecording, feature_names: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the measured modality that each signal, and each feature group, of a recording comes from."""
    modality = {signal.name: signal.modality for signal in recording.signals}
    sources = [(signal.modality, modality.get(signal.derived_from, "")) for signal in recording.signals]
    groups = list(feature_groups(feature_names))
    of_signals, of_groups = sensors_of(sources, groups)
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


@dataclass(frozen=True, eq=False)
class VisibleRecording(RecordingView):
    """A recording of which only the windows at ``rows`` of its table count as recorded."""

    rows: IntArray
    length_seconds: float

    @property
    def windows(self) -> StoredWindows:
        """Return the visible windows, as windows of the unlabelled grid, of which statistics are taken."""
        windows = self.whole.windows
        columns = ("onset", "label", "stage", "features", "quality")
        chosen = {name: np.asarray(getattr(windows, name))[self.rows] for name in columns}
        return replace(windows, is_labelled=np.zeros(len(self.rows), dtype=bool), **chosen)

    def read(self, signal_name: str, start: int = 0, stop: int | None = None) -> tuple[FloatSamples, Mask]:
        """Return samples and mask of a signal; real are those inside a visible window."""
        samples, mask = self.whole.read(signal_name, start, stop)
        signal = next(s for s in self.whole.signals if s.name == signal_name)
        is_seen = np.zeros(max(0, start) + samples.shape[1], dtype=bool)
        for onset in np.asarray(self.whole.windows.onset)[self.rows]:
            first = round((float(onset) - signal.start_seconds) * signal.sampling_rate)
            last = first + round(self.length_seconds * signal.sampling_rate)
            is_seen[max(0, first) : max(0, last)] = True
        is_seen = is_seen[max(0, start) :]
        return np.where(is_seen, samples, 0.0).astype(samples.dtype), np.asarray(mask & is_seen, dtype=bool)


@dataclass(frozen=True, eq=False)
class VisibleInputs(WindowInputs):
    """Window inputs whose population is fitted on the windows of the training subjects, and nothing around them.

    Of these windows only those at ``granted`` count; None: all.
    """

    granted: IntArray | None = None

    def fit(self, training_subjects: Collection[str]) -> TrainingStatistics:
        """Return the statistics of the windows whose subject, in the table, is one of these."""
        rows = self.windows.rows_of(training_subjects)
        return visible_population(self, rows if self.granted is None else np.intersect1d(rows, self.granted))


_READ_ONCE = ("banks", "bank_moments", "sessions", "reference_ends", "raw_features", "feature_moments")


def visible_inputs(inputs: WindowInputs, granted: IntArray | None = None) -> VisibleInputs:
    """Return the same inputs with a population fitted on windows; what was read already is not read again."""
    fresh = VisibleInputs(
        inputs.windows, inputs.settings, inputs.step_seconds, raw=inputs.raw, derived=inputs.derived, granted=granted
    )
    vars(fresh).update({name: vars(inputs)[name] for name in _READ_ONCE if name in vars(inputs)})
    return fresh


def visible_population(inputs: WindowInputs, rows: IntArray) -> TrainingStatistics:
    """Return the population's statistics from the windows at ``rows`` alone, each recording weighing the same."""
    table = inputs.windows
    parts = tuple(
        VisibleRecording(
            table.recordings[index], np.unique(table.row[rows[table.recording[rows] == index]]), table.length_seconds
        )
        for index in np.unique(table.recording[rows]).tolist()
    )
    seen = replace(table.at(rows[:0]), recordings=parts)
    settings = replace(inputs.settings, scope="recording")  # the parts are no whole session
    plain = WindowInputs(seen, settings, inputs.step_seconds, raw=inputs.raw, derived=inputs.derived)
    return plain.fit({part.subject for part in parts})
