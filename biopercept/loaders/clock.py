"""Times that no clock gave, and clocks that were set: what a reader may believe of the times in a file.

A time that all around it contradict is left out, never followed: one of them would make a recording of an hour last for
years. Where a clock was set back, rows follow each other in the order of the file if nothing else explains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from biopercept.recording import FloatArray

LONGEST_DAYS = 31
"""No recording that is read here spans more; what claims to holds a damaged time."""
FAR_SECONDS = 86_400.0
"""Sensors of one recording start within a day of each other, and no pause in it is longer without a doubt."""
_JUMP_SECONDS = 60.0
"""Rows that a device writes out of order are seconds late, not a minute."""
_JUMP_STEPS = 20
_FEW = 0.01
_MOST_BLOCKS = 200
_LONELY_SECONDS = 3600.0
_SET_SECONDS = 1.0 - 1e-3
_UNSET_BEFORE = 1e9
"""Unix time of September 2001, before which no clock of these devices stood."""
_MOST_NOTES = 3
_AROUND = 500
"""Rows of some packets, of the two clocks of a file."""
_ZONE_SECONDS = 900.0
"""All civil clocks differ by whole quarters of an hour, and are set by such."""


@dataclass(frozen=True)
class _Block:
    """Rows ``first`` to ``last`` of a file between two jumps of its clock, with the times at both ends."""

    first: int
    last: int
    begin: float
    end: float

    @property
    def n_rows(self) -> int:
        return self.last - self.first + 1


def stray_times(times: FloatArray) -> NDArray[np.bool_]:
    """Return which finite times, in the order of the file, the others contradict: (n,).

    Those are times more than a day from all others that are few, or more than :data:`LONGEST_DAYS` from a majority;
    short runs that jump away and back, or stand out of order at either end; and a row or two there, an hour from the
    rest.
    """
    is_stray = np.zeros(len(times), dtype=bool)
    rows = np.flatnonzero(np.isfinite(times))
    if len(rows) < 3:
        return is_stray
    is_far = _far_from_most(times[rows])
    is_stray[rows[is_far]] = True
    rows = rows[~is_far]
    believed = times[rows]
    blocks = _blocks(believed)
    for block in _out_of_order(blocks, len(rows), _longest_step(believed)):
        if not _fills_a_hole(block, blocks, believed):
            is_stray[rows[block.first : block.last + 1]] = True
    return is_stray


def _fills_a_hole(block: _Block, blocks: list[_Block], times: FloatArray) -> bool:
    """Return whether a short run that is out of order lies where long ones have left room: late rows."""
    if block.n_rows > _FEW * len(times):
        return False
    long_ones = [one for one in blocks if one.n_rows > _FEW * len(times)]
    begin, end = (min(one.begin for one in long_ones), max(one.end for one in long_ones)) if long_ones else (0.0, 0.0)
    steps = np.abs(np.diff(times))
    half = float(np.median(steps[steps > 0])) / 2
    n_there = int(((times > block.begin - half) & (times < block.end + half)).sum())
    return begin < block.begin and block.end < end and n_there == block.n_rows


def _far_from_most(times: FloatArray) -> NDArray[np.bool_]:
    """Return which times lie more than a day from the largest group of times and are too few to be believed."""
    order = np.argsort(times, kind="stable")
    group = np.concatenate([[0], np.cumsum(np.diff(times[order]) > FAR_SECONDS)])
    sizes = np.bincount(group)
    main = int(np.argmax(sizes))
    if len(sizes) == 1 or 2 * sizes[main] <= len(times):
        return np.zeros(len(times), dtype=bool)
    ordered = times[order]
    low, high = ordered[group == main][[0, -1]]
    distance = np.maximum(low - ordered, ordered - high)
    is_far = (group != main) & ((sizes[group] <= _FEW * len(times)) | (distance > LONGEST_DAYS * FAR_SECONDS))
    out = np.zeros(len(times), dtype=bool)
    out[order[is_far]] = True
    return out


def _longest_step(times: FloatArray) -> float:
    """Return the seconds from row to row beyond which a clock has jumped: a minute, or 20 usual steps."""
    steps = np.abs(np.diff(times))
    steps = steps[steps > 0]
    return max(_JUMP_SECONDS, _JUMP_STEPS * float(np.median(steps))) if len(steps) else _JUMP_SECONDS


def _blocks(times: FloatArray) -> list[_Block]:
    """Return the runs of rows between jumps; none where rows are so jumbled that no run can be told."""
    jumps = np.flatnonzero(np.abs(np.diff(times)) > _longest_step(times))
    if not 0 < len(jumps) < _MOST_BLOCKS:
        return []
    firsts = [0, *(jumps + 1).tolist()]
    lasts = [*jumps.tolist(), len(times) - 1]
    return [
        _Block(a, b, float(times[a : b + 1].min()), float(times[a : b + 1].max()))
        for a, b in zip(firsts, lasts, strict=True)
    ]


def _out_of_order(blocks: list[_Block], n_rows: int, longest_step: float) -> list[_Block]:
    """Return the short runs that are in nobody's order: without them the runs beside them fit, or the end is whole."""
    strays = []
    few_inside, few_at_ends = max(1.0, _FEW * n_rows), max(3.0, _FEW / 10 * n_rows)
    kept = list(blocks)
    place = 0
    while place < len(kept) and len(kept) > 1:
        block = kept[place]
        before = kept[place - 1] if place else None
        after = kept[place + 1] if place + 1 < len(kept) else None
        is_behind = before is not None and block.begin <= before.end
        is_ahead = after is not None and after.begin <= block.end
        # Between two runs only what they close over is a stray; at the ends there is nothing to close.
        is_inside = before is not None and after is not None
        is_closed = before is None or after is None or 0 <= after.begin - before.end <= 2 * longest_step
        if block.n_rows <= (few_inside if is_inside else few_at_ends) and (is_behind or is_ahead) and is_closed:
            strays.append(kept.pop(place))
            place = max(place - 1, 0)
        else:
            place += 1
    lonely = min(3.0, _FEW * n_rows)
    for end, beside in ((0, 1), (-1, -2)):
        # A row or two and then a pause of hours are no recording: the clock was set in between.
        while len(kept) > 1 and kept[end].n_rows <= lonely and _pause(kept[end], kept[beside]) > _LONELY_SECONDS:
            strays.append(kept.pop(end))
    return strays


def _pause(one: _Block, other: _Block) -> float:
    return max(one.begin, other.begin) - min(one.end, other.end)


@dataclass(frozen=True, eq=False)
class SetClock:
    """Times with a clock that was set back put on again, by how many seconds in all, and how often it was set."""

    times: FloatArray
    seconds: float = 0.0
    n_times: int = 0


def put_on(times: FloatArray) -> SetClock:
    """Return times, finite and in the order of the file, moved on from where a clock was set back.

    A clock is set back by whole quarters of an hour (end of summer time, another zone), and rows go on one step later.
    Runs that meet without a gap once they are sorted are rows out of order and stay as they are, as do runs of a clock
    that passed a stretch twice by any other step; both are seen to where rows are put on a grid.

    Raises ValueError where times go back by any other step to a stretch with no time in common: nothing tells whether
    the clock was set or the rows are in another order.
    """
    blocks, longest_step = _blocks(times), _longest_step(times)
    if len(blocks) < 2 or _meet_when_sorted(blocks, longest_step):
        return SetClock(times)
    steps = np.diff(times)
    step = float(np.median(steps[steps > 0]))
    moved = times.copy()
    seconds, n_times = 0.0, 0
    for place, block in enumerate(blocks[1:], 1):
        back = blocks[place - 1].end + step - block.begin
        n_quarters = round(back / _ZONE_SECONDS)
        if back <= longest_step or _fills_a_hole(block, blocks, times):
            pass
        elif n_quarters and abs(back - n_quarters * _ZONE_SECONDS) <= min(max(2.0, 2 * step), 30.0):
            seconds += n_quarters * _ZONE_SECONDS
            n_times += 1
        elif not any(block.begin <= one.end and one.begin <= block.end for one in blocks[:place]):
            raise ValueError(
                f"times go back by {back - step:g} s at row {block.first + 1} of {len(times)}, to where no row was "
                "before, and nothing tells whether the clock was set or the rows are in another order; correct the "
                "times, or sort the rows"
            )
        moved[block.first : block.last + 1] += seconds
    return SetClock(moved, seconds, n_times)


def in_another_order(times: FloatArray) -> bool:
    """Return whether a file has runs of rows in another order than their times, which follow each other once sorted."""
    blocks = _blocks(times)
    return len(blocks) > 1 and bool((np.diff(times) < 0).any()) and _meet_when_sorted(blocks, _longest_step(times))


def _meet_when_sorted(blocks: list[_Block], longest_step: float) -> bool:
    """Return whether runs, sorted, follow each other without overlap or gap: the file has them in another order."""
    ordered = sorted(blocks, key=lambda block: block.begin)
    gaps = [after.begin - before.end for before, after in pairwise(ordered)]
    return all(0 < gap <= longest_step for gap in gaps)


def hour_jumped(times: FloatArray) -> float | None:
    """Return the time before a jump of exactly an hour, as where a local clock begins summer time; None without one."""
    steps = np.diff(times)
    if not (steps > 0).any():
        return None
    step = float(np.median(steps[steps > 0]))
    jumps = np.flatnonzero(np.abs(steps - step - 3600.0) <= max(0.5 * step, 0.05))
    return float(times[jumps[0]]) if len(jumps) and step < 60.0 else None


@dataclass(frozen=True)
class ClockOffset:
    """By how many seconds one clock is ahead of another where a file begins, and what to say of it.

    ``seconds`` is None where the one was not set (before 2001) in any row.
    """

    seconds: float | None
    notes: tuple[str, ...] = ()


def offset_of_clocks(arrivals: FloatArray, taken: FloatArray, clock: str) -> ClockOffset:
    """Return by how much the unix times at which rows came are ahead of the seconds at which they were taken.

    Packets come late, so that the least delay is the best; but only of the rows where the file begins: a clock that is
    set later, or runs faster, must not move the start. Rows from before the clock was set are not asked. ``clock``
    names the one of the arrivals.
    """
    is_known = np.isfinite(arrivals) & np.isfinite(taken)
    is_set = is_known & (arrivals > _UNSET_BEFORE)
    rows = np.flatnonzero(is_set)
    notes = []
    if len(rows) < is_known.sum():
        notes.append(f"{clock} was not set in {int(is_known.sum()) - len(rows)} rows, which say nothing of the start")
    if not len(rows):
        return ClockOffset(None, tuple(notes))
    delay = arrivals[rows] - taken[rows]
    first, end = 0, len(delay)
    for place in np.flatnonzero(np.abs(np.diff(delay)) > _SET_SECONDS) + 1:
        # What is only late is made up for; the least of the rows on each side is hardly late.
        before = float(delay[max(first, place - _AROUND) : place].min())
        after = float(delay[place : place + _AROUND].min())
        if abs(after - before) > _SET_SECONDS:
            end, first = min(end, int(place)), int(place)
            way = "ahead of" if after > before else "behind"
            notes.append(
                f"from row {rows[place] + 1} on {clock} is {abs(after - before):.6g} s {way} where it was beside the "
                "clock that places the samples: one of the two was set; no sample was moved for it, and events by the "
                "other clock lie so far off from there on"
            )
    return ClockOffset(float(delay[: min(end, _AROUND)].min()), tuple(notes[:_MOST_NOTES]))


def apart(spans: Sequence[tuple[str, float, float]], what: str) -> list[str]:
    """Return a note for each file or signal (name, begin, end) that overlaps no other: most often a clock set wrong."""
    return [
        f"{name} spans {begin:.0f} to {end:.0f} s and overlaps no other {what}; check its clock"
        for number, (name, begin, end) in enumerate(spans)
        if len(spans) > 1
        and all(end <= other[1] or begin >= other[2] for place, other in enumerate(spans) if place != number)
    ]
