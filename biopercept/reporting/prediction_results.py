"""Windows with what was predicted for them, and a folder of ``predict``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.results.reading import ResultTable

RecordingKey = tuple[str, str, str]
"""Participant, session, recording."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Windows with what was predicted for them; one entry per window in every field.

    Attributes
    ----------
    classes : tuple of str
        K classes, in the order of the columns of ``probabilities``.
    keys : tuple of (participant, session, recording)
    onset, duration : array of float64, shape (n,)
        Seconds on the recording's clock.
    label : tuple of str
        True class; empty where it is not known.
    predicted : tuple of str
        Predicted class; empty where the prediction was withheld.
    probabilities : array of float64, shape (n, K)
        NaN where withheld.
    quality : array of float64, shape (n,)
        In [0, 1]; NaN where it is not known.
    reason : tuple of str
        Why a prediction was withheld; empty otherwise.
    """

    classes: tuple[str, ...]
    keys: tuple[RecordingKey, ...]
    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    label: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: NDArray[np.float64]
    quality: NDArray[np.float64]
    reason: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.keys)

    @property
    def recordings(self) -> tuple[RecordingKey, ...]:
        """Return the recordings, in the order in which they first appear."""
        return tuple(dict.fromkeys(self.keys))

    @property
    def has_labels(self) -> bool:
        """Return whether any window's true class is known."""
        return any(self.label)

    def of_recording(self, key: RecordingKey) -> Predictions:
        """Return the windows of one recording, in time order."""
        rows = np.array([place for place, held in enumerate(self.keys) if held == key], dtype=np.int64)
        rows = rows[np.argsort(self.onset[rows], kind="stable")]
        return replace(
            self,
            keys=tuple(self.keys[row] for row in rows),
            onset=self.onset[rows],
            duration=self.duration[rows],
            label=tuple(self.label[row] for row in rows),
            predicted=tuple(self.predicted[row] for row in rows),
            probabilities=self.probabilities[rows],
            quality=self.quality[rows],
            reason=tuple(self.reason[row] for row in rows),
        )


@dataclass(frozen=True, eq=False)
class PredictionFolder:
    """A folder of ``predict``: one table per recording, a summary and the failures.

    Attributes
    ----------
    name : str
        The folder's path below the folder that is reported.
    folder : Path
    recordings : tuple of (key, Predictions)
        One per ``*_predictions.tsv``, in the order of file names.
    summary, failures : ResultTable
    """

    name: str
    folder: Path
    recordings: tuple[tuple[RecordingKey, Predictions], ...]
    summary: ResultTable
    failures: ResultTable
