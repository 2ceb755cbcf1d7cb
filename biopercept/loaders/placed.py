"""Samples that a file holds as rows, placed on a grid where they are asked for; what lies between them is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.loaders.assembly import BlockReader
from biopercept.loaders.time_grid import TimeGrid
from biopercept.recording import FloatArray

_ROWS_AT_ONCE = 1 << 16


class Rows(Protocol):
    """Rows that are read where they are asked for, as an array of them gives them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, rows: NDArray[np.intp], /) -> NDArray[np.generic]:
        """Return rows, (n, n_channels)."""


def block_of_rows(
    samples: NDArray[np.generic] | Rows, cells: NDArray[np.int64] | None = None, rows: NDArray[np.intp] | None = None
) -> BlockReader:
    """Return a block reader over rows as a file holds them, shape (n_rows, n_channels), of any numeric type.

    Row ``rows[i]`` is sample ``cells[i]``; cells increase, and a sample without a row is NaN. Without cells, row i is
    sample i. Nothing larger than what is asked for is made, so a recording of few rows with long gaps stays small.
    """
    places = np.arange(len(samples)) if rows is None else rows

    def read(keys: Sequence[int], start: int, stop: int) -> FloatArray:
        block = np.full((len(keys), max(stop - start, 0)), np.nan)
        if cells is None:
            first, last = min(start, len(places)), min(stop, len(places))
            at = np.arange(first, last) - start
        else:
            first, last = (int(one) for one in np.searchsorted(cells, (start, stop)))
            at = cells[first:last] - start
        for some in range(first, last, _ROWS_AT_ONCE):
            stop_of_some = min(some + _ROWS_AT_ONCE, last)
            piece = samples[places[some:stop_of_some]][:, list(keys)].T
            block[:, at[some - first : stop_of_some - first]] = piece
        return block

    return read


def block_on_grid(samples: NDArray[np.generic] | Rows, grid: TimeGrid) -> BlockReader:
    """Return a block reader over rows, (n_rows, n_channels), as they lie on a grid; in time order where none fits."""
    if grid.cells is None:
        return block_of_rows(samples, rows=grid.rows)
    is_used = grid.cells >= 0
    return block_of_rows(samples, grid.cells[is_used], grid.rows[is_used])
