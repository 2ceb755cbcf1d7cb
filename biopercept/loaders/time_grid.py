"""Rows at times put on a grid of one rate, where their times allow it; gaps are missing samples, nothing is filled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biopercept.loaders.packets import spread_packets
from biopercept.recording import FloatArray

MOST_SAMPLES = 1 << 28
_GAP_STEPS = 2.5
_MOST_TOGETHER = 0.05
_MOST_MISFITS = 0.2
_MOST_EMPTY = 200
_RUN_ENDS = 5
_JITTER = 0.2


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """Where rows lie.

    Attributes
    ----------
    rows, times : arrays
        Rows that are used, in time order, and their times in seconds.
    sampling_rate : float
        Hz; a typical rate where the times are irregular.
    cells : array of int, or None
        Sample number of each row, -1 for a row whose time it shares with another; None where no grid fits.
    n_samples : int
        Length of the grid, or the number of rows where none fits.
    """

    rows: NDArray[np.intp]
    times: FloatArray
    sampling_rate: float
    start_seconds: float
    cells: NDArray[np.int64] | None
    n_samples: int
    notes: tuple[str, ...]

    def placed(self, values: FloatArray) -> FloatArray:
        """Return values of all rows, shape (n_rows,), as samples of the grid: (n_samples,), NaN where none lies."""
        ordered = values[self.rows]
        if self.cells is None:
            return ordered
        samples = np.full(self.n_samples, np.nan)
        is_used = self.cells >= 0
        samples[self.cells[is_used]] = ordered[is_used]
        return samples


def fit_grid(times: FloatArray) -> TimeGrid | None:
    """Return how rows at ``times`` lie on a grid of one rate; None where fewer than two rows have different times.

    Rows out of order are sorted. Segments that the clock went through twice are left out, and
    rows whose times fall together are not used, neither one, for nothing says which is right.
    Stamps coarser than the rows (a clock that ticks once a second, packets of a wireless sensor) are spread evenly if
    the rows come evenly (:mod:`biopercept.loaders.packets`). Where too many rows do not fit, the times are kept and the
    signal is irregular. Each of these is said in the notes.

    Examples
    --------
    >>> grid = fit_grid(np.array([0.0, 0.5, 1.0, 3.0]))
    >>> grid.sampling_rate, grid.placed(np.array([1.0, 2, 3, 4]))
    (2.0, array([ 1.,  2.,  3., nan, nan, nan,  4.]))
    """
    notes: list[str] = []
    rows = np.flatnonzero(np.isfinite(times))
    if len(rows) < len(times):
        notes.append(f"{len(times) - len(rows)} rows have no readable time and are left out")
    n_back = int((np.diff(times[rows]) < 0).sum())
    is_passed_twice = _passed_twice(times[rows])
    order = np.argsort(times[rows], kind="stable")
    rows, is_passed_twice = rows[order], is_passed_twice[order]
    if len(rows) < 2 or times[rows[0]] == times[rows[-1]]:
        return None
    if not n_back:
        return _on_grid(rows, times[rows], notes)
    notes.append(f"times go back {n_back} times; rows were put in time order")
    grid = _on_grid(rows, times[rows], [])
    n_clashes = len(rows) if grid.cells is None else int((grid.cells[is_passed_twice] < 0).sum())
    if n_clashes <= _MOST_TOGETHER * is_passed_twice.sum():
        return replace(grid, notes=(*notes, *grid.notes))
    notes.append(f"{int(is_passed_twice.sum())} rows lie where the clock passed twice (set back) and are left out")
    rows = rows[~is_passed_twice]
    if len(rows) < 2 or times[rows[0]] == times[rows[-1]]:
        return None
    return _on_grid(rows, times[rows], notes)


def _passed_twice(times: FloatArray) -> NDArray[np.bool_]:
    """Return which rows have a later row before them or an earlier row after them."""
    if not len(times):
        return np.zeros(0, dtype=bool)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(times)[:-1]])
    after = np.concatenate([np.minimum.accumulate(times[::-1])[::-1][1:], [np.inf]])
    is_twice: NDArray[np.bool_] = (before > times) | (after < times)
    return is_twice


def _on_grid(rows: NDArray[np.intp], times: FloatArray, notes: list[str]) -> TimeGrid:
    """Return the grid of rows that are in time order."""
    in_packets = _from_packets(rows, times, notes)
    if in_packets is not None:
        return in_packets
    step, counts = _steps(times)
    irregular = TimeGrid(rows, times, 1 / step, float(times[0]), None, len(rows), tuple(notes))
    if (times[-1] - times[0]) / step > min(MOST_SAMPLES, _MOST_EMPTY * len(rows) + 1e4):
        return _with_note(irregular, f"times span {times[-1] - times[0]:g} s for {len(rows)} rows; kept as irregular")
    cells = _numbered(times, step, counts)
    start = float(np.median(times - cells * step))
    is_off = np.abs(times - cells * step - start) > step
    is_alone = _alone(cells)
    n_together, n_off = int((~is_alone).sum()), int(is_off.sum())
    # Single empty samples are what bursts leave between rows; a gap is longer, or rare.
    n_skipped = int(np.isin(counts, (2, 3)).sum())
    if n_together + n_off > _MOST_TOGETHER * len(rows) or n_together + n_skipped > _MOST_MISFITS * len(rows):
        return _with_note(
            irregular,
            f"times are irregular: {n_together} of {len(rows)} rows fall together, {n_skipped} leave a sample out and"
            f" {n_off} are off at {1 / step:g} Hz; they are kept as they are, and only beat intervals are used so",
        )
    n_samples = int(cells[-1]) + 1
    _describe(notes, n_together, n_samples - len(np.unique(cells)), n_samples, times - cells * step - start, step)
    return TimeGrid(rows, times, 1 / step, start, np.where(is_alone & ~is_off, cells, -1), n_samples, tuple(notes))


def _numbered(times: FloatArray, step: float, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a sample number for each row: by count within a run, by time from one run to the next."""
    numbers = np.concatenate([[0], np.cumsum(counts)])
    run = np.concatenate([[0], np.cumsum(counts >= _RUN_ENDS)])
    firsts = np.flatnonzero(np.diff(run, prepend=-1))
    offset = (times - times[0]) / step - numbers
    start = 0
    for first, last in zip(firsts, [*firsts[1:], len(times)], strict=True):
        # A device that starts again does so at any phase: the run lies where most of it lies.
        wanted = int(np.round(np.median(offset[first:last]))) + int(numbers[first])
        if first:
            start = max(wanted, int(numbers[first - 1]) + 1)
        numbers[first:last] += start - int(numbers[first])
        offset[first:last] = 0
    return numbers


def _with_note(grid: TimeGrid, note: str) -> TimeGrid:
    return replace(grid, notes=(*grid.notes, note))


def _from_packets(rows: NDArray[np.intp], times: FloatArray, notes: list[str]) -> TimeGrid | None:
    """Return the grid of rows that came in packets, or whose stamps are only too coarse; None where they did not."""
    packets = spread_packets(times)
    if packets is None:
        return None
    step = _whole_rate(packets.step_seconds, float(times[-1] - times[0]))
    n_samples = int(packets.numbers[-1]) + 1
    if n_samples > MOST_SAMPLES:
        return None
    remarks = [
        f"times tick every {packets.packet_seconds:.3g} s, coarser than the rows; the rows come evenly and were placed "
        f"at {1 / step:g} Hz, the first at its own time"
    ]
    _describe(remarks, 0, n_samples - len(times), n_samples, np.zeros(1), step)
    return TimeGrid(rows, times, 1 / step, float(times[0]), packets.numbers, n_samples, (*notes, *remarks))


def _steps(times: FloatArray) -> tuple[float, NDArray[np.int64]]:
    """Return the seconds between samples, and how many samples lie from each row to the next (0: the same time).

    A median alone would take the rounding of millisecond stamps for the step (4 ms at 256 Hz),
    so the step is the slope of time over count, in the runs between gaps.
    """
    differences = np.diff(times)
    step = float(np.median(differences[differences > 0]))
    is_near = (differences > 0) & (differences < _GAP_STEPS * step)
    step = float(differences[is_near].mean())
    counts = np.round(differences / step).astype(np.int64)
    spread = np.std((differences / step - counts)[differences > 0])
    if spread > _JITTER:  # a lost sample cannot be told from jitter, a gap can
        counts[(differences > 0) & (differences < _GAP_STEPS * step)] = 1
    numbers = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    run = np.concatenate([[0], np.cumsum(counts >= _RUN_ENDS)])
    sizes = np.bincount(run)
    numbers -= (np.bincount(run, numbers) / sizes)[run]
    centred = times - (np.bincount(run, times) / sizes)[run]
    weight = float(numbers @ numbers)
    slope = float(numbers @ centred) / weight if weight > 0 else step
    return _whole_rate(slope if slope > 0 else step, float(times[-1] - times[0])), counts


def _whole_rate(step: float, span: float) -> float:
    """Return the step of a whole-number rate, or a whole step, where it moves no sample of the span by half a step."""
    for whole in (1 / round(1 / step) if step < 1 else round(step), step):
        if abs(span / whole - span / step) < 0.5:
            return whole
    return step


def _alone(cells: NDArray[np.int64]) -> NDArray[np.bool_]:
    is_same = np.diff(cells) == 0
    is_shared: NDArray[np.bool_] = np.concatenate([[False], is_same]) | np.concatenate([is_same, [False]])
    return ~is_shared


def _describe(
    notes: list[str], n_together: int, n_empty: int, n_samples: int, deviation: FloatArray, step: float
) -> None:
    if n_together:
        notes.append(f"{n_together} rows have times that fall together; nothing says which is right, they are missing")
    if n_empty:
        notes.append(f"gaps: {n_empty} of {n_samples} samples ({n_empty * step:.1f} s) have no row and are missing")
    jitter = float(np.sqrt(np.mean(deviation**2))) / step
    if jitter > 0.1:
        notes.append(f"times jitter by {100 * jitter:.0f} % of a sample (root mean square)")
