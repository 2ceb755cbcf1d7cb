"""Predictions of two classes moved to a person whom they fit badly, without labels: a shift of the log odds.

A network ranks the windows of new people better than its threshold divides them. The log odds of a recording are read
as one class, or as a mixture of two of the same width:

    one class:   l ~ N(c - d/2, s^2) or N(c + d/2, s^2)
    two classes: l ~ share * N(c + d/2, s^2) + (1 - share) * N(c - d/2, s^2)

with distributions over middle c, distance d, width s and share that hold before any window is seen. Where two classes
are the likelier reading, the middle that is expected under it is subtracted; where they are not (one class alone, too
few windows, classes that overlap too far), nothing is changed. ``past`` reads, for every window, those that begin
before it; ``all`` reads the whole recording, its future included: transductive.

References
----------
M. Saerens, P. Latinne, C. Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple
procedure", Neural Computation 14(1), 2002, doi:10.1162/089976602753284446, estimate the share of the classes by EM and
leave the log odds where they are. That is right where a study differs in its shares alone; where its log odds are
shifted, EM takes the shift for a share and moves the threshold the wrong way (measured: docs/evaluation.md). Here the
share is estimated beside the shift, and only the shift is taken out. The mixture: G. McLachlan, D. Peel, "Finite
Mixture Models", Wiley 2000; its posterior is summed over a grid instead of climbed, so that every past has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.tasks import CLASSIFICATION, Task
from biopercept.typed_values import did_you_mean

FloatArray = NDArray[np.float64]
NONE, PAST, ALL = "none", "past", "all"
ADAPTATIONS = (NONE, PAST, ALL)
SMALLEST_EVIDENCE = 0.5
"""Chance of two classes, given the windows, from which on a shift is made."""
_LEAST = 1e-6
_BLOCK = 256  # windows at a time: the grid times these lie in memory


@dataclass(frozen=True, eq=False)
class _Grid:
    """Readings of log odds, one entry each: middle, distance, width, share of the second class, log chance before."""

    middle: FloatArray
    distance: FloatArray
    width: FloatArray
    share: FloatArray
    log_prior: FloatArray

    @property
    def has_two(self) -> NDArray[np.bool_]:
        return (self.share > 0) & (self.share < 1)

    def log_likelihood(self, log_odds: FloatArray) -> FloatArray:
        """Return the log density of each value under each reading, (n, n_readings)."""
        from_middle = log_odds[:, None] - self.middle
        above = -0.5 * ((from_middle - self.distance / 2) / self.width) ** 2
        below = -0.5 * ((from_middle + self.distance / 2) / self.width) ** 2
        with np.errstate(divide="ignore"):
            mixed = np.logaddexp(above + np.log(self.share), below + np.log1p(-self.share))
        return np.asarray(mixed - np.log(self.width), dtype=np.float64)


@cache
def _grid() -> _Grid:
    """Return the readings; the figures were settled on one half of stress-predict (docs/evaluation.md).

    Middles are normal around 0 with deviation 1; distances lie around 3, widths around 1.3, as those of networks and
    logistic regressions do that were trained with classes of equal weight; one class and two are as likely.
    """
    from scipy.stats import beta

    steps = np.array([-1.2, 0.0, 1.2])
    middles, distances, widths = np.linspace(-3.5, 3.5, 22), 3.0 * np.exp(0.35 * steps), 1.3 * np.exp(0.25 * steps)
    shares = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 1.0])
    of_two = beta.pdf(shares[1:-1], 2.4, 3.6)
    chances = np.concatenate([[0.25], 0.5 * of_two / of_two.sum(), [0.25]])
    axes = np.meshgrid(middles, np.arange(3), np.arange(3), np.arange(len(shares)), indexing="ij")
    middle, (d, s, p) = np.asarray(axes[0].ravel(), dtype=np.float64), (axis.ravel() for axis in axes[1:])
    log_prior = -0.5 * middle**2 - 0.5 * steps[d] ** 2 - 0.5 * steps[s] ** 2 + np.log(chances[p])
    return _Grid(middle, distances[d], widths[s], shares[p], np.asarray(log_prior, dtype=np.float64))


def shifts_of(log_odds: FloatArray, weight: float) -> FloatArray:
    """Return what is to be added to log odds once 0, 1, ... n windows of a recording are known, (n + 1,).

    0 where the windows so far are no evidence of two classes. NaN, a withheld prediction, tells nothing. ``weight`` is
    how much of each window is new: the step over the length of windows that overlap.
    """
    grid, n = _grid(), len(log_odds)
    known, shifts = grid.log_prior, [_shift(grid, grid.log_prior[None])]
    for start in range(0, n, _BLOCK):
        block = log_odds[start : start + _BLOCK]
        is_missing = ~np.isfinite(block)
        likelihood = weight * grid.log_likelihood(np.where(is_missing, 0.0, block))
        likelihood[is_missing] = 0.0
        after = known + np.cumsum(likelihood, axis=0)
        shifts.append(_shift(grid, after))
        known = after[-1]
    return np.concatenate(shifts)


class RunningShift:
    """What is to be added to log odds that come one by one, by those before: see :func:`shifts_of`."""

    def __init__(self) -> None:
        """Begin where nothing is known."""
        self._known = _grid().log_prior

    @property
    def now(self) -> FloatArray:
        """Return what is to be added to the next one, (1,)."""
        return _shift(_grid(), self._known[None])

    def add(self, log_odds: float, weight: float) -> None:
        """Take one in; NaN tells nothing. ``weight`` is how much of its window is new."""
        if np.isfinite(log_odds):
            self._known = self._known + weight * _grid().log_likelihood(np.array([log_odds]))[0]


def _shift(grid: _Grid, log_chances: FloatArray) -> FloatArray:
    """Return minus the expected middle of two classes, (n,); 0 where one class is the likelier reading."""
    chances = np.exp(log_chances - log_chances.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    of_two = chances[:, grid.has_two]
    evidence = of_two.sum(axis=1)
    # Row by row, not as a product of matrices, whose bits depend on how many rows come after.
    middle = (of_two * grid.middle[grid.has_two]).sum(axis=1) / np.maximum(evidence, _LEAST)
    # The chance before any window is exactly at the border, where nothing is known.
    return np.asarray(np.where(evidence > SMALLEST_EVIDENCE + 1e-9, -middle, 0.0), dtype=np.float64)


def log_odds_of(probabilities: FloatArray) -> FloatArray:
    """Return the log odds of the second of two classes, (n,), from probabilities (n, 2)."""
    logs = np.log(np.clip(probabilities, _LEAST, 1.0))
    return np.asarray(logs[:, 1] - logs[:, 0], dtype=np.float64)


def shifted(probabilities: FloatArray, shift: FloatArray) -> FloatArray:
    """Return probabilities (n, 2) whose log odds are moved by ``shift`` (n,); where it is 0 they are the same bits."""
    second = 1.0 / (1.0 + np.exp(-(log_odds_of(probabilities) + shift)))
    moved = np.stack([1.0 - second, second], axis=1)
    return np.where((shift == 0)[:, None], probabilities, moved)


def shift_at(adapt: str, onset: FloatArray, seen_onset: FloatArray, seen: FloatArray, weight: float) -> FloatArray:
    """Return the shift of each window that begins at ``onset``, (n,), given those seen of the same recording.

    ``seen`` are log odds of windows in order of time, which begin at ``seen_onset``. With ``past`` those are read that
    begin earlier.
    """
    shifts = shifts_of(seen, weight)
    if adapt == ALL:
        return np.full(len(onset), shifts[-1])
    return np.asarray(shifts[np.searchsorted(seen_onset, onset - 1e-6)], dtype=np.float64)


def require_adaptable(tasks: Sequence[Task], adapt: str) -> None:
    """Refuse an adaptation that is unknown, or of predictions that it has no meaning for. Raises SettingsError."""
    if adapt not in ADAPTATIONS:
        raise SettingsError(
            f"--adapt is {adapt!r}; allowed are {', '.join(ADAPTATIONS)}{did_you_mean(adapt, ADAPTATIONS)}"
        )
    for task in tasks if adapt != NONE else ():
        if task.kind != CLASSIFICATION or len(task.classes) != 2:
            what = f"{len(task.classes)} classes" if task.kind == CLASSIFICATION else f"the kind {task.kind}"
            raise SettingsError(
                f"--adapt is for two classes, whose middle windows without labels can show; task {task.name!r} has "
                f"{what}: leave --adapt out, or adapt with labels (biopercept personalise)"
            )
        if task.label_is_file:
            raise SettingsError(
                f"--adapt reads two classes in one recording, and in task {task.name!r} each file has one; leave it out"
            )


def caution(shift: FloatArray, label: Sequence[str]) -> str:
    """Return what is to be said of a recording that was moved and may hold one class alone; empty where it holds two.

    ``shift`` and the true class ``label``, empty where it is not known, have an entry per window.
    """
    classes = sorted(set(label) - {""})
    if not shift.any() or len(classes) > 1:
        return ""
    if classes:
        return (
            f"every labelled window is {classes[0]!r}, and --adapt read two classes and moved the threshold: the "
            "predictions are worse for it; leave --adapt out for recordings of one class"
        )
    return (
        "--adapt read two classes here and moved the threshold, as it sometimes does where there is one class alone, "
        "whose predictions are then worse; leave --adapt out unless the recording is known to hold both"
    )


def words_of(adapt: str, n_moved: int, n_all: int, what: str) -> str:
    """Return the sentence that outputs carry: of ``n_all`` recordings or windows, ``n_moved`` were moved."""
    rest = "the others show one class, or too little" if n_moved < n_all else "all showed two classes"
    done = f"the threshold was moved without labels for {n_moved} of {n_all} {what}, {rest} (--adapt {adapt})"
    if adapt == ALL:
        return f"transductive: {done}; each rests on the whole recording, its future included"
    return f"{done}; each rests on earlier windows of the recording alone"
