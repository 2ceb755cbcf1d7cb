"""Inputs of which a fit sees the statistics of its own windows alone, and nothing else of the same recordings.

Within one subject the windows that are scored lie in the recordings that are learnt from. Statistics of whole
recordings, on which the population part of every normalisation rests, would then hold the scored part; here they are
taken of the fitted windows only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import Population
from biopercept.learning.windows import IntArray
from biopercept.windowed import FloatSamples, Mask, StoredWindows, WindowedRecording


@dataclass(frozen=True, eq=False)
class VisibleRecording:
    """A recording of which only some windows were ever recorded, so to say.

    Attributes
    ----------
    whole : WindowedRecording
    rows : int64 array
        Rows of its window table that are visible.
    length_seconds : float
        Of a window.
    """

    whole: WindowedRecording
    rows: IntArray
    length_seconds: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def windows(self) -> StoredWindows:
        """Return the visible windows, as windows of the unlabelled grid, of which statistics are taken."""
        held = self.whole.windows
        columns = ("onset", "label", "stage", "features", "quality")
        chosen = {name: np.asarray(getattr(held, name))[self.rows] for name in columns}
        return replace(held, is_labelled=np.zeros(len(self.rows), dtype=bool), **chosen)

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

    Attributes
    ----------
    granted : int64 array or None
        Of these subjects' windows, only these rows of the table; None: all.
    """

    granted: IntArray | None = None

    def fit(self, training_subjects: Collection[str]) -> Population:
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


def visible_population(inputs: WindowInputs, rows: IntArray) -> Population:
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
