"""Whether session time can be read from numbers about windows beyond what the label gives away.

A cell is the windows of one recording with one of the study's own labels: within a cell the label is constant, and
whatever still tells the time is not the label. A ridge regression is fitted on the cells of the training subjects
and read out on the test subjects, whose correlations are averaged over subjects. Neighbouring windows resemble each
other, which makes single correlations large but not their mean over subjects, each of whom drifts their own way; so
the interval resamples subjects, and a null shifts the reading in time, by a circle within each cell, which keeps
its smoothness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.auditing.material import FoldValues, Material, has_all_values
from biopercept.evaluation.metrics import bootstrap_interval
from biopercept.learning.normalisation import FloatArray
from biopercept.learning.windows import IntArray, WindowTable

_LEAST_IN_CELL = 4
_LEAST_WINDOWS = 8
_RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Association:
    """A correlation within cells, averaged over subjects.

    Attributes
    ----------
    value : float
        Mean over subjects.
    ci95 : tuple of two floats
        Bootstrap over subjects.
    p_value : float
        Share of circular shifts whose mean is at least as high.
    n_subjects, n_windows : int
    per_subject : mapping of subject to float
    """

    value: float
    ci95: tuple[float, float]
    p_value: float
    n_subjects: int
    n_windows: int
    per_subject: Mapping[str, float]

    def is_readable(self, least: float) -> bool:
        """Return whether the whole interval passes ``least`` and few shifts reach as far (p < 0.05)."""
        return self.ci95[0] > least and self.p_value < 0.05


def cells_of(windows: WindowTable) -> tuple[IntArray, ...]:
    """Return the rows of each cell (one recording, one of the study's own labels) in the order of time."""
    keys: dict[tuple[int, str], list[int]] = {}
    for row in np.argsort(windows.onset, kind="stable"):
        keys.setdefault((int(windows.recording[row]), str(windows.label[row])), []).append(int(row))
    return tuple(np.array(rows, dtype=np.int64) for rows in keys.values() if len(rows) >= _LEAST_IN_CELL)


def stages_of(windows: WindowTable) -> tuple[IntArray, ...]:
    """Return the rows of each unbroken stage: cells, cut between labelled stretches that lie a window or more apart."""
    stage, stages = windows.stages(), []
    for rows in cells_of(windows):
        is_other = np.diff(stage[rows]) != 0
        is_far = np.diff(windows.onset[rows]) >= 2 * windows.length_seconds  # from end to onset: a length
        stages += np.split(rows, np.flatnonzero(is_other & is_far) + 1)
    return tuple(rows for rows in stages if len(rows) >= _LEAST_IN_CELL)


def within_cells(values: FloatArray, cells: Sequence[IntArray]) -> FloatArray:
    """Return values (n_windows, n_columns) less the mean of their cell; 0 outside all cells."""
    left = np.zeros_like(values)
    for rows in cells:
        left[rows] = values[rows] - values[rows].mean(axis=0)
    return left


@dataclass(frozen=True, eq=False)
class TimeReading:
    """How well session time is read from numbers about windows.

    Attributes
    ----------
    found : Association or None
        Of the test subjects' readings with time within cells; None where no subject has enough windows in cells.
    is_cut : bool
        Whether some cell holds several stages.
    in_stages : Association or None
        The same readings within unbroken stages; None where no cell is cut, or too few windows are left in stages.
    each : tuple of float64 arrays, shape (n_windows,)
        The direction each fold learnt from time alone, applied to all its windows; NaN outside the fold.
    """

    found: Association | None
    is_cut: bool
    in_stages: Association | None
    each: tuple[FloatArray, ...]


def read_time(material: Material, folds: Sequence[FoldValues]) -> TimeReading:
    """Return how well session time is read within cells, and within the unbroken stages that they consist of.

    Parameters
    ----------
    material : Material
    folds : sequence of FoldValues
        Numbers about windows; each fold's training and test subjects differ.
    """
    windows = material.windows
    cells, stages = cells_of(windows), stages_of(windows)
    joined = np.full(len(windows), np.nan)
    readings = []
    for fold in folds:
        reading = _reading(windows, fold, cells)
        readings.append(reading)
        joined[fold.test] = reading[fold.test]
    found = associate(material, joined[:, None], windows.onset[:, None])
    is_cut = [len(stage) for stage in stages] != [len(cell) for cell in cells]
    own = associate(material, joined[:, None], windows.onset[:, None], stages) if is_cut else None
    return TimeReading(found, is_cut, own, tuple(readings))


def _reading(windows: WindowTable, fold: FoldValues, cells: Sequence[IntArray]) -> FloatArray:
    """Return one number per window: a direction fitted on training cells, in which time is all that varies."""
    from sklearn.linear_model import Ridge

    rows = np.concatenate([fold.training, fold.test])
    values = filled_and_scaled(fold)
    own = [cell for cell in cells if np.isin(cell[0], fold.training)]
    reading = np.full(len(windows), np.nan)
    if not own:
        return reading
    at = np.concatenate(own)
    inputs = within_cells(values, own)[at]
    time = within_cells(windows.onset[:, None], own)[at, 0]
    _, owner, n_own = np.unique(windows.subject[at], return_inverse=True, return_counts=True)
    weights = len(at) / (len(n_own) * n_own[owner])
    line = Ridge(alpha=_RIDGE * len(at)).fit(inputs, time / max(time.std(), 1e-9), sample_weight=weights)
    reading[rows] = line.predict(values[rows])
    return reading


def filled_and_scaled(fold: FoldValues) -> FloatArray:
    """Return a fold's values with gaps filled by the training median and columns scaled by the training windows.

    Columns without a value, or without spread, in training are 0 everywhere.
    """
    training = fold.values[fold.training]
    has = np.isfinite(training).any(axis=0)
    values = np.zeros_like(fold.values)
    if has.any():
        median = np.nanmedian(training[:, has], axis=0)
        values[:, has] = np.where(np.isfinite(fold.values[:, has]), fold.values[:, has], median)
    mean, spread = values[fold.training].mean(axis=0), values[fold.training].std(axis=0)
    scaled: FloatArray = np.where(spread > 1e-9, (values - mean) / np.where(spread > 1e-9, spread, 1.0), 0.0)
    return np.clip(scaled, -10.0, 10.0)


def associate(
    material: Material, one: FloatArray, other: FloatArray, within: Sequence[IntArray] | None = None
) -> Association | None:
    """Return the correlation within cells of two sets of columns (n_windows, d), pairwise, averaged over subjects.

    Windows in which either is NaN are left out. ``within`` gives other cells than :func:`cells_of`. None where no
    subject has enough windows.
    """
    windows = material.windows
    is_given = has_all_values(one) & has_all_values(other)
    cells = cells_of(windows) if within is None else within
    cells = [kept for cell in cells for kept in [cell[is_given[cell]]] if len(kept) >= _LEAST_IN_CELL]
    a = within_cells(np.where(is_given[:, None], one, 0.0), cells)
    b = within_cells(np.where(is_given[:, None], other, 0.0), cells)
    by_subject: dict[str, list[IntArray]] = {}
    for cell in cells:
        by_subject.setdefault(str(windows.subject[cell[0]]), []).append(cell)
    random = np.random.default_rng([material.seed, 11])
    found, null, n_windows = {}, np.zeros(material.settings.n_shifts), 0
    for subject, own in sorted(by_subject.items()):
        rows = np.concatenate(own)
        scale = np.sqrt((a[rows] ** 2).sum() * (b[rows] ** 2).sum())
        if len(rows) < _LEAST_WINDOWS or (b[rows] ** 2).sum() <= 1e-12:
            continue
        scale = scale if scale > 1e-9 else np.inf  # a constant reading tells nothing
        found[subject] = float((a[rows] * b[rows]).sum() / scale)
        null += sum(_shifted_products(a[cell], b[cell], len(null), random) for cell in own) / scale
        n_windows += len(rows)
    if len(found) < 2:
        return None
    values = np.array(list(found.values()))
    interval = bootstrap_interval(values, seed=material.seed, n_bootstrap=material.n_bootstrap)
    reached = int(np.sum(null / len(found) >= values.mean()))
    p_value = (1 + reached) / (1 + len(null))
    return Association(float(values.mean()), interval, p_value, len(found), n_windows, found)


def _shifted_products(a: FloatArray, b: FloatArray, n: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return ``n`` sums of products of ``a``, shifted by a circle, with ``b``."""
    length = len(a)
    shifts = random.integers(1, length, size=n)
    every = np.array([(np.roll(a, shift, axis=0) * b).sum() for shift in range(length)])
    drawn: NDArray[np.float64] = every[shifts]
    return drawn
