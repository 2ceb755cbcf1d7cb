"""How far ratings lag behind the body, estimated on the people a model is fitted to, and on nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from biopercept.data.inputs import WindowInputs
from biopercept.data.windows import FloatArray, IntArray, Targets, WindowTable
from biopercept.tasks import Task

_MOST_FOLDS = 5
_PENALTY = 0.1
"""Ridge penalty, in units of the number of windows: features are correlated, and people few."""
_MOST_SPREADS = 5.0
_SURE = 0.95
"""Chance that noise alone stays below the gain that is asked of a lag, one-sided, over people."""


def with_lags(inputs: WindowInputs, rows: IntArray) -> WindowInputs:
    """Return the inputs with every rating at its lag, where a task asks for that to be estimated on these rows.

    Tasks have the lag then, and the numbers of all windows are those at it.
    """
    windows = inputs.windows
    open_tasks = {name: targets for name, targets in windows.targets.items() if targets.lagged is not None}
    if not open_tasks:
        return inputs
    targets = dict(windows.targets)
    for name, one in open_tasks.items():
        assert one.lagged is not None
        place = _best_lag(inputs, one, rows[one.is_known[rows]])
        task = replace(one.task, lag_seconds=one.task.lags[place or 0], max_lag_seconds=0.0)
        values = one.lagged[:, place or 0]
        targets[name] = replace(one, task=task, values=values, lagged=None, is_lag_untold=place is None)
    return replace(inputs, windows=replace(windows, targets=targets))


def estimated_lags(before: WindowTable, after: WindowTable) -> Mapping[str, float | None]:
    """Return the lag by task of those whose lag was open in a table and is not in another; None where none is told."""
    open_tasks = [name for name, one in before.targets.items() if one.lagged is not None]
    return {
        name: None if after.targets[name].is_lag_untold else after.targets[name].task.lag_seconds for name in open_tasks
    }


def lag_words(lag: float | None, task: Task) -> str:
    """Return what was estimated of a rating's lag: "2.5 s of at most 10 s", or that none can be told."""
    if lag is None:
        return "no lag can be told; 0 s is used"
    return f"{lag:g} s of at most {task.max_lag_seconds:g} s"


def _best_lag(inputs: WindowInputs, targets: Targets, rows: IntArray) -> int | None:
    """Return the place of the lag at which the rating is best told from features of people who were not fitted to.

    A ridge regression is fitted at each lag to all but a part of the people and tells the rest. Features and ratings
    are taken as differences from the recording's mean, for a lag shows within recordings alone, and not as normalised
    by what came before, which would lag itself. None where the best lag tells the rating no better than the mean
    does, or than no lag (where no lag is best: than the worst), beyond what differs from person to person.
    """
    assert targets.lagged is not None
    windows = inputs.windows
    subjects = sorted({str(subject) for subject in windows.subject[rows]})
    recording = windows.recording[rows]
    features = np.nan_to_num(_from_mean(inputs.raw_features[rows], recording))
    numbers = _from_mean(targets.lagged[rows], recording)
    spread = features.std(axis=0)
    features = np.clip(features[:, spread > 1e-9] / spread[spread > 1e-9], -_MOST_SPREADS, _MOST_SPREADS)
    left = np.zeros((len(subjects), numbers.shape[1]))
    person = np.array([subjects.index(str(subject)) for subject in windows.subject[rows]])
    part = person % _MOST_FOLDS
    for fold in np.unique(part):
        is_out = part == fold
        if is_out.all():
            return None
        predicted = features[is_out] @ _ridge(features[~is_out], numbers[~is_out])
        np.add.at(left, person[is_out], np.square(numbers[is_out] - predicted))
    whole = np.zeros_like(left)
    np.add.at(whole, person, np.square(numbers))
    share = left.sum(axis=0) / np.maximum(whole.sum(axis=0), 1e-300)
    best = int(np.argmin(share))
    beside = int(np.argmax(share)) if best == 0 else 0
    of_person = left / np.maximum(whole, 1e-300)
    is_told = all(_is_gain(gains) for gains in (1 - of_person[:, best], of_person[:, beside] - of_person[:, best]))
    return best if is_told and share[best] < 1.0 else None


def _is_gain(gains: FloatArray) -> bool:
    """Return whether a gain, one number for each person, is larger than its noise over people lets expect."""
    from scipy.stats import t as student

    if len(gains) < 2:
        return False
    noise = float(np.std(gains, ddof=1)) / np.sqrt(len(gains))
    return bool(gains.mean() > student.ppf(_SURE, len(gains) - 1) * noise)


def _ridge(features: FloatArray, numbers: FloatArray) -> FloatArray:
    """Return the coefficients of a ridge regression of each column of numbers: (n_features, n_columns)."""
    gram = features.T @ features + _PENALTY * len(features) * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(gram, features.T @ numbers), dtype=np.float64)


def _from_mean(values: FloatArray, recording: IntArray) -> FloatArray:
    """Return columns as differences from their means over each recording's known values."""
    out = np.full(values.shape, np.nan)
    for index in np.unique(recording):
        rows = recording == index
        known = np.isfinite(values[rows])
        sums = np.where(known, values[rows], 0.0).sum(axis=0)
        out[rows] = values[rows] - sums / np.maximum(known.sum(axis=0), 1)
    return out
