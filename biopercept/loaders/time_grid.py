"""Rows at times put on a grid of one rate, where their times allow it; gaps are missing samples, nothing is filled.

Wireless sensors and loggers stamp what arrives: all rows of a packet carry one time, or times a moment apart, and then
nothing comes until the next packet. Clocks that tick once a second do the same to every sensor. There the rows are
counted, and only the packets are timed; a lost packet shows as time that no row accounts for, and stays a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import count
from biopercept.recording import FloatArray

MOST_SAMPLES = 1 << 28
_GAP_STEPS = 2.5
_MOST_TOGETHER = 0.05
_MOST_MISFITS = 0.2
_MOST_EMPTY = 200
_RUN_ENDS = 5
_JITTER = 0.2

# Of packets:
_CLOSE, _FAR = 0.2, 0.5
"""Rows nearer to each other than a fifth of the mean distance share a packet; beyond half of it a new one begins."""
_FEWEST_CLOSE = 0.4
"""Of rows that come two by two, half follow another closely."""
_FEWEST_OF_TICKS = 0.1
_MOST_UNEVEN = 0.05
"""Fewer do where a clock ticks (each 15.6 ms on Windows) hardly slower than rows come; but then its ticks are even."""
_EVEN = 0.1
_FEWEST_PACKETS = 10
_LAG, _AROUND = 10, 20
_MOST_ASTRAY = 0.05
_LATE = 2.0
_MOST_GAPS = 0.2
_ONE_SIZE = 0.9

IntArray = NDArray[np.int64]


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
    notes, order_notes : tuple of str
        What a reader must know; and that part of it that is of the times themselves, and of no grid.
    """

    rows: NDArray[np.intp]
    times: FloatArray
    sampling_rate: float
    start_seconds: float
    cells: IntArray | None
    n_samples: int
    notes: tuple[str, ...]
    order_notes: tuple[str, ...] = ()

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
    the rows come evenly. Where too many rows do not fit, the times are kept and the signal is irregular. Each of these
    is said in the notes.

    Examples
    --------
    >>> grid = fit_grid(np.array([0.0, 0.5, 1.0, 3.0]))
    >>> grid.sampling_rate, grid.placed(np.array([1.0, 2, 3, 4]))
    (2.0, array([ 1.,  2.,  3., nan, nan, nan,  4.]))
    """
    notes: list[str] = []
    rows = np.flatnonzero(np.isfinite(times))
    if len(rows) < len(times):
        n_lost = len(times) - len(rows)
        lost = count(n_lost, "row has", "rows have")
        notes.append(f"{lost} no readable time and {'is' if n_lost == 1 else 'are'} left out")
    known = rows
    n_back = int((np.diff(times[rows]) < 0).sum())
    is_passed_twice = _passed_twice(times[rows])
    order = np.argsort(times[rows], kind="stable")
    rows, is_passed_twice = rows[order], is_passed_twice[order]
    if len(rows) < 2 or times[rows[0]] == times[rows[-1]]:
        return None
    if n_back:
        place = int(np.flatnonzero(np.diff(times[known]) < 0)[0])
        back = float(times[known[place]] - times[known[place + 1]])
        notes.append(
            f"times go back {n_back} times (the first by {back:.3g} s at row {known[place + 1] + 1}); rows were put in "
            "time order"
        )
    grid = _on_grid(rows, times[rows], [])
    n_clashes = len(rows) if grid.cells is None else int((grid.cells[is_passed_twice] < 0).sum())
    if not n_back or n_clashes <= _MOST_TOGETHER * is_passed_twice.sum():
        return replace(grid, notes=(*notes, *grid.notes), order_notes=tuple(notes))
    notes.append(f"{int(is_passed_twice.sum())} rows lie where the clock passed twice (set back) and are left out")
    rows = rows[~is_passed_twice]
    if len(rows) < 2 or times[rows[0]] == times[rows[-1]]:
        return None
    return replace(_on_grid(rows, times[rows], list(notes)), order_notes=tuple(notes))


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


def _numbered(times: FloatArray, step: float, counts: IntArray) -> IntArray:
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


def _steps(times: FloatArray) -> tuple[float, IntArray]:
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
    numbers = np.concatenate([[0], np.cumsum(counts)])
    run = np.concatenate([[0], np.cumsum(counts >= _RUN_ENDS)])
    return _whole_rate(_slope(numbers, times, run, step), float(times[-1] - times[0])), counts


def _whole_rate(step: float, span: float) -> float:
    """Return the step of a whole-number rate, or a whole step, where it moves no sample of the span by half a step."""
    for whole in (1 / round(1 / step) if step < 1 else round(step), step):
        if abs(span / whole - span / step) < 0.5:
            return whole
    return step


def _alone(cells: IntArray) -> NDArray[np.bool_]:
    is_same = np.diff(cells) == 0
    is_shared: NDArray[np.bool_] = np.concatenate([[False], is_same]) | np.concatenate([is_same, [False]])
    return ~is_shared


def _describe(
    notes: list[str], n_together: int, n_empty: int, n_samples: int, deviation: FloatArray, step: float
) -> None:
    if n_together:
        notes.append(
            f"{count(n_together, 'row has times that fall', 'rows have times that fall')}"
            " together; nothing says which is right, they are missing"
        )
    if n_empty:
        notes.append(f"gaps: {n_empty} of {n_samples} samples ({n_empty * step:.1f} s) have no row and are missing")
    jitter = float(np.sqrt(np.mean(deviation**2))) / step
    if jitter > 0.1:
        notes.append(f"times jitter by {100 * jitter:.0f} % of a sample (root mean square)")


@dataclass(frozen=True, eq=False)
class Packets:
    """Where rows lie that came in packets.

    Attributes
    ----------
    numbers : array of int, shape (n_rows,)
        Sample number of each row, from 0, increasing by more than one where packets were lost.
    step_seconds : float
        From sample to sample.
    packet_seconds : float
        From packet to packet: so well is the time of a sample known.
    """

    numbers: IntArray
    step_seconds: float
    packet_seconds: float


def spread_packets(times: FloatArray) -> Packets | None:
    """Return how rows at ``times``, in order, lie if they came in packets of evenly taken samples; None if they do not.

    Bursts of samples that have a distance of their own are no packets: a sensor may sleep between them.
    """
    differences = np.diff(times)
    mean = (times[-1] - times[0]) / max(len(differences), 1)
    is_close = differences < _CLOSE * mean
    fewest = _FEWEST_OF_TICKS if _has_ticks(differences, mean) else _FEWEST_CLOSE
    if not len(differences) or is_close.mean() < fewest or _is_even(differences[is_close]):
        return None
    firsts = np.concatenate([[0], np.flatnonzero(differences > _FAR * mean) + 1])
    if len(firsts) < _FEWEST_PACKETS:
        return None
    at = times[firsts]
    packet_seconds = float(np.median(np.diff(at)))
    step = float(np.median((at[_LAG:] - at[:-_LAG]) / (firsts[_LAG:] - firsts[:-_LAG]))) if len(at) > _LAG else mean
    run = _runs(at - step * firsts, packet_seconds)
    if run[-1] > _MOST_GAPS * len(firsts):
        return None
    step = _slope(firsts, at, run, step)
    late = at - step * firsts
    offsets = np.array([np.median(late[run == one]) for one in range(run[-1] + 1)])
    if np.mean(np.abs(late - offsets[run]) > _LATE * packet_seconds) > _MOST_ASTRAY:
        return None
    lost = _lost(offsets, step, np.diff(np.append(firsts, len(times))))
    sizes = np.diff(np.append(firsts, len(times)))
    return Packets(np.arange(len(times)) + np.repeat(lost[run], sizes), step, packet_seconds)


def _has_ticks(differences: FloatArray, mean: float) -> bool:
    """Return whether rows that do not share a time are whole ticks apart, nearly all of them one."""
    apart = differences[differences > _FAR * mean]
    if len(apart) < _FEWEST_PACKETS:
        return False
    tick = float(np.median(apart))
    n_ticks = np.round(apart / tick)
    is_uneven = (n_ticks < 1) | (np.abs(apart / tick - n_ticks) > _EVEN)
    return bool(is_uneven.mean() <= _MOST_UNEVEN and (n_ticks == 1).mean() >= _ONE_SIZE)


def _is_even(steps: FloatArray) -> bool:
    return bool((steps > 0).all()) and float(np.std(steps)) < _EVEN * float(np.median(steps))


def _runs(late: FloatArray, packet_seconds: float) -> IntArray:
    """Return the number of each packet's run; a run ends where time passed without rows, and was not made up for.

    ``late`` is by how much each packet comes after the rows before it let expect. A packet that is only late is
    followed by others that are not.
    """
    run = np.zeros(len(late), dtype=np.int64)
    begin = 0
    for place in np.flatnonzero(np.diff(late) > 0.5 * packet_seconds) + 1:
        before = float(np.median(late[max(begin, place - _AROUND) : place]))
        if float(late[place : place + _LAG].min()) - before > 0.5 * packet_seconds:
            run[place:] += 1
            begin = int(place)
    return run


def _slope(numbers: IntArray, times: FloatArray, run: IntArray, step: float) -> float:
    """Return seconds per sample by least squares within the runs; ``step`` where they are too short to tell."""
    sizes = np.bincount(run)
    centred = numbers - (np.bincount(run, numbers) / sizes)[run]
    seconds = times - (np.bincount(run, times) / sizes)[run]
    weight = float(centred @ centred)
    slope = float(centred @ seconds) / weight if weight > 0 else step
    return slope if slope > 0 else step


def _lost(offsets: FloatArray, step: float, sizes: IntArray) -> IntArray:
    """Return how many samples were lost before each run; whole packets where packets are of one size."""
    lost = np.zeros(len(offsets), dtype=np.int64)
    size = int(np.bincount(sizes).argmax())
    is_one_size = np.mean(sizes == size) >= _ONE_SIZE
    for place in range(1, len(offsets)):
        n = (offsets[place] - offsets[0]) / step - lost[place - 1]
        whole = round(n / size) * size
        n_lost = whole if is_one_size and abs(n - whole) <= _CLOSE * size else round(n)
        lost[place] = lost[place - 1] + max(n_lost, 0)
    return lost
