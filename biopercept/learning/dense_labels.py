"""What a task says at single times of a recording: from the study's labelled stretches, not from windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biopercept.learning.windows import IntArray
from biopercept.recording import Interval
from biopercept.recording_labels import RecordingLabels
from biopercept.tasks import Task
from biopercept.windowed import WindowedRecording

FloatArray = NDArray[np.float64]


class DenseLabels:
    """The answers of one task at any time of any of its recordings.

    A time in no stretch that the task knows, or in stretches that disagree, has no answer. A stretch holds its onset
    and not its end.

    Parameters
    ----------
    recordings : sequence of WindowedRecording
    task : Task
    """

    def __init__(self, recordings: Sequence[WindowedRecording], task: Task) -> None:
        self._steps = [_step_function(r.labels, r.duration_seconds, task) for r in recordings]

    def at(self, recording: IntArray, times: FloatArray) -> FloatArray:
        """Return the class, level or number at each time; NaN where there is none.

        Parameters
        ----------
        recording : int64 array, shape (n,)
            Index of the recording of each row.
        times : float64 array, shape (n, Q)
            Seconds on the recording's clock.
        """
        found = np.full(times.shape, np.nan)
        for index in np.unique(recording):
            rows = recording == index
            edges, values = self._steps[index]
            found[rows] = values[np.searchsorted(edges, times[rows], side="right")]
        return found


def _step_function(labels: RecordingLabels, duration: float, task: Task) -> tuple[FloatArray, FloatArray]:
    """Return the moments at which the answer may change, (n,), and the answer before, between and after them, (n + 1,).

    Where stretches overlap, an answer holds only where all that have one agree.
    """
    stretches = _answered(labels, duration, task)
    edges = np.unique([moment for i, _ in stretches for moment in (i.onset_seconds, i.end_seconds)])
    lowest, highest = np.full(len(edges) + 1, np.inf), np.full(len(edges) + 1, -np.inf)
    for interval, answer in stretches:
        first, last = np.searchsorted(edges, [interval.onset_seconds, interval.end_seconds])
        covered = slice(first + 1, last + 1)
        lowest[covered], highest[covered] = np.minimum(lowest[covered], answer), np.maximum(highest[covered], answer)
    return edges, np.where(lowest == highest, lowest, np.nan)


def _answered(labels: RecordingLabels, duration: float, task: Task) -> list[tuple[Interval, float]]:
    """Return the stretches of a recording that the task has an answer for, with it."""
    whole = Interval(0.0, duration, labels.condition)
    if task.is_regression:
        column = task.column or ""
        every = [(whole, labels.values[column])] if column in labels.values else []
        return [(i, v) for i, v in (*labels.numbers(column), *every) if i.label not in task.ignore]
    order = {name: place for place, name in enumerate(task.classes)}
    named = [(i, task.class_of(i.label)) for i in (*labels.intervals, whole)]
    return [(i, float(order[name])) for i, name in named if name is not None]
