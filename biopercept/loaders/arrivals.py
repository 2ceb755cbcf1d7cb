"""Rows that a device took evenly, stamped when they came: a wireless sensor's rows at the phone, or at the computer.

A format says that its rows are of this kind; from the times alone it cannot be told. Stamps then only say how many
rows come in a second, and where rows were lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biopercept.loaders.clock import in_another_order
from biopercept.loaders.time_grid import MOST_SAMPLES, TimeGrid
from biopercept.recording import FloatArray

_LAG = 500
_AROUND = 100
_LEAST_LOSS_SECONDS = 0.25
"""A delay shorter than this passes in any wireless link."""
_SPREADS = 6.0
_FEW = 20
_NEAR_RATE = 0.06


def even_grid(times: FloatArray, known_rates: tuple[float, ...] = ()) -> TimeGrid | None:
    """Return how rows that were taken evenly lie, by count, with gaps where stamps show that rows were lost.

    The rate is one of ``known_rates``, those that the device has, where it is that of the rows within what their stamps
    can tell; else the rate of the rows. None where fewer than ten rows have a time, or half of the samples were lost.
    """
    rows = np.flatnonzero(np.isfinite(times))
    if len(rows) < 10 or times[rows[-1]] <= times[rows[0]] or in_another_order(times[rows]):
        return None
    n_back = int((np.diff(times[rows]) < 0).sum())
    stamps, notes = _put_on(times[rows], rows)
    step = _step(stamps, known_rates)
    if not step > 0:
        return None
    numbers = _numbered(stamps, step)
    n_samples = int(numbers[-1]) + 1
    if n_samples > min(MOST_SAMPLES, 2 * len(rows) + 1000):
        return None
    late = stamps - numbers * step
    start = float(late.min()) if len(late) else 0.0
    notes = [
        *notes,
        f"rows are stamped when they came, up to {1000 * float(late.max() - late.min()):.0f} ms late; they come evenly "
        f"and were placed at {1 / step:g} Hz",
    ]
    if len(rows) < len(times):
        notes.insert(0, f"{len(times) - len(rows)} rows have no readable time and are left out")
    if n_back:
        notes.append(f"stamps go back {n_back} times; the rows keep the order of the file")
    if n_samples > len(rows):
        lost = n_samples - len(rows)
        notes.append(f"gaps: {lost} of {n_samples} samples ({lost * step:.1f} s) have no row and are missing")
    return TimeGrid(rows, stamps, 1 / step, start, numbers, n_samples, tuple(notes))


def _put_on(stamps: FloatArray, rows: NDArray[np.intp]) -> tuple[FloatArray, list[str]]:
    """Return stamps put on again from where their clock was set back, and what to say of it.

    Rows that were taken evenly follow each other in the order of the file, whatever their clock does; without this the
    whole recording would begin earlier by as much as the clock was set back.
    """
    notes: list[str] = []
    step = _step(stamps, ())
    backs = np.flatnonzero(np.diff(stamps) < -_LEAST_LOSS_SECONDS) + 1
    if not step > 0:
        return stamps, notes
    stamps = stamps.copy()
    places = np.arange(len(stamps))
    for row in backs:
        # A row that stands out alone is late or early; where a clock was set, all rows from there on are behind.
        near = slice(max(row - _FEW, 0), row), slice(row, row + _FEW)
        before, after = (float(np.median(stamps[one] - step * places[one])) for one in near)
        if before - after > _LEAST_LOSS_SECONDS:
            stamps[row:] += before - after
            notes.append(
                f"the clock was set back by {before - after:.3g} s at row {rows[row] + 1}; the rows from there on "
                "follow those before"
            )
    return stamps, notes


def _step(stamps: FloatArray, known_rates: tuple[float, ...]) -> float:
    """Return the seconds from sample to sample: of a rate of the device where one fits, else as rows come."""
    lag = max(1, min(_LAG, len(stamps) // 2))
    spans = stamps[lag:] - stamps[:-lag]
    middle = float(np.median(spans))
    steps = np.diff(stamps)
    tick = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    # Stamps of a clock that ticks slowly make spans of so many ticks or one more: their mean is right, no median is.
    step = float(spans[np.abs(spans - middle) <= 1.5 * tick].mean()) / lag if tick > 0 else 0.0
    if not step > 0:
        return 0.0
    # Rows come in packets: over a span their number is certain to a packet, some tenths of a second.
    blur = _LEAST_LOSS_SECONDS / (float(stamps[-1] - stamps[0]) or 1.0)
    tolerance = min(max(blur, 0.002), _NEAR_RATE)
    fitting = [rate for rate in known_rates if abs(step * rate - 1) <= tolerance]
    return 1 / min(fitting, key=lambda rate: abs(step * rate - 1)) if fitting else step


def _numbered(stamps: FloatArray, step: float) -> NDArray[np.int64]:
    """Return the sample number of each row; what was lost shows as a delay that is not made up for."""
    numbers = np.arange(len(stamps))
    late = stamps - numbers * step
    # By how much rows are late is told by their neighbours: over a whole file a loss, and a wrong rate, add to it.
    steps = np.diff(stamps)
    around = max(_AROUND, 2 * round(float(np.median(steps[steps > 0])) / step))  # of packets, two
    whole = late[: len(late) // around * around].reshape(-1, around) if len(late) >= around else late[None]
    spread = float(np.median(np.abs(whole - np.median(whole, axis=1, keepdims=True))))
    least = max(_LEAST_LOSS_SECONDS, _SPREADS * step, _SPREADS * spread)
    for row in np.flatnonzero(np.diff(stamps) > least) + 1:
        # Of many rows the one that came soonest is hardly late.
        before, after = float(np.min(late[max(row - around, 0) : row])), float(np.min(late[row : row + around]))
        n_lost = round((after - before) / step)
        if n_lost * step > least / 2:
            numbers[row:] += n_lost
            late[row:] -= n_lost * step
    return numbers


def second_grid(times: FloatArray) -> TimeGrid | None:
    """Return how values that are computed about once a second lie on a grid of whole seconds, the nearest to each.

    Of values of one second the last is used. None where they come more seldom than every ten seconds, or faster than
    twice a second.
    """
    rows = np.flatnonzero(np.isfinite(times))
    rows = rows[np.argsort(times[rows], kind="stable")]
    if len(rows) < 2 or not 0.5 <= float(np.median(np.diff(times[rows]))) <= 10:
        return None
    start = float(times[rows[0]])
    cells = np.round(times[rows] - start).astype(np.int64)
    n_samples = int(cells[-1]) + 1
    if n_samples > MOST_SAMPLES:
        return None
    is_last = np.append(np.diff(cells) > 0, True)
    n_empty = n_samples - int(is_last.sum())
    note = (
        f"values come about once a second and lie on the nearest whole second; {n_empty} of {n_samples} seconds have "
        "none and are missing"
    )
    return TimeGrid(rows, times[rows], 1.0, start, np.where(is_last, cells, -1), n_samples, (note,))
