"""Counters that devices write beside their samples: what was lost shows where a counter jumps.

A counter of few bits begins anew at its end (255, 65535), so that a loss of a full turn cannot be seen.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from biopercept.recording import FloatArray

_NAME = re.compile(
    r"(sample|packet|frame|row|seq|sequence)?[ _.-]*(index|number|num|no|nr|count|counter|id)?"
    r"|n ?seq|#|column 1|unnamed.*",
    re.IGNORECASE,
)
_FEWEST_ONES = 0.5
_MOST_LOST = 0.5


def is_counter_name(name: str) -> bool:
    """Return whether a column's name says that it counts rows, or samples.

    >>> is_counter_name("Sample Index"), is_counter_name("nSeq"), is_counter_name("ECG")
    (True, True, False)
    """
    return bool(_NAME.fullmatch(name.strip()))


def sample_numbers(counter: FloatArray) -> NDArray[np.int64] | None:
    """Return the sample number of each row, from 0, by a column that counts; None where it does not count.

    Two rows that changed places have each its own number.

    It does where most rows have the number of the row before and one more. What it begins anew at is the largest number
    that was seen, or the power of two after it where that is near.

    >>> sample_numbers(np.array([253.0, 254, 255, 0, 1, 4])), sample_numbers(np.array([3.0, 3, 3]))
    (array([0, 1, 2, 3, 4, 7]), None)
    """
    if len(counter) < 2 or not np.isfinite(counter).all() or np.any(counter != np.round(counter)):
        return None
    if np.abs(counter).max() > 2**53:
        return None
    numbers = counter.astype(np.int64)
    steps = np.diff(numbers)
    usual = _usual_step(steps)
    if usual is None:
        return None
    # Two rows that changed places: a step of two, one back, and two again; else it is a turn that lost nearly all.
    is_swapped = np.zeros(len(steps), dtype=bool)
    is_swapped[1:-1] = (steps[1:-1] == -usual) & (steps[:-2] == 2 * usual) & (steps[2:] == 2 * usual)
    is_back = (steps < 0) & ~is_swapped
    if is_back.any():
        modulus = _modulus(numbers)
        steps = np.where(is_back, steps + modulus, steps)
    if (steps[~is_swapped] < 1).any() or np.any(steps % usual):
        return None
    places: NDArray[np.int64] = np.concatenate([[0], np.cumsum(steps // usual)])
    return places if places[-1] + 1 <= len(counter) / (1 - _MOST_LOST) else None


def _usual_step(steps: NDArray[np.int64]) -> int | None:
    """Return by how much a counter goes on from row to row: 1, or 2 where every other sample was taken; else None."""
    for step in (1, 2):
        if (steps == step).mean() >= _FEWEST_ONES:
            return step
    return None


def _modulus(numbers: NDArray[np.int64]) -> int:
    """Return what a counter's turn holds: from the least number to the largest, or the power of two that is near."""
    low, top = int(numbers.min()), int(numbers.max())
    power = 1 << max(top, 1).bit_length()
    is_near = low == 0 and power - 1 - top <= max(2, power // 64)
    return power if is_near else top - low + 1


def counter_turn(counter: FloatArray) -> int:
    """Return after how many samples a counter begins anew; 0 where it never did."""
    numbers = counter.astype(np.int64)
    steps = np.diff(numbers)
    usual = _usual_step(steps)
    return _modulus(numbers) // usual if usual is not None and (steps < 0).any() else 0
