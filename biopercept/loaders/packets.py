"""Rows that a device sent in packets: stamped with the packet's time, though their samples were taken evenly.

Wireless sensors and loggers stamp what arrives: all rows of a packet carry one time, or times a moment apart, and then
nothing comes until the next packet. Clocks that tick once a second do the same to every sensor. The rows are counted,
and only the packets are timed; a lost packet shows as time that no row accounts for, and stays a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biopercept.recording import FloatArray

IntArray = NDArray[np.int64]

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


def _slope(firsts: IntArray, at: FloatArray, run: IntArray, step: float) -> float:
    """Return seconds per row by least squares within the runs; ``step`` where they are too short to tell."""
    sizes = np.bincount(run)
    numbers = firsts - (np.bincount(run, firsts) / sizes)[run]
    seconds = at - (np.bincount(run, at) / sizes)[run]
    weight = float(numbers @ numbers)
    slope = float(numbers @ seconds) / weight if weight > 0 else step
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
