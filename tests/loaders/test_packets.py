"""Rows in packets: each sample stands where it was taken, and what was lost on the way is a gap of its own length."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.loaders.time_grid import TimeGrid, fit_grid, spread_packets

RNG = np.random.default_rng(11)


def sent(n_rows: int, rate: float, size: int, jitter_seconds: float = 0.0) -> np.ndarray:
    """Return the stamps of rows taken at a rate and sent by the packet, each stamped when it arrived."""
    last = (np.arange(n_rows) // size + 1) * size / rate
    return last + np.repeat(RNG.exponential(jitter_seconds or 1e-12, -(-n_rows // size)), size)[:n_rows]


def without_packets(stamps: np.ndarray, size: int, lost: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the stamps without some packets, and the samples that are left, by number."""
    is_there = ~np.isin(np.arange(len(stamps)) // size, lost)
    return stamps[is_there], np.flatnonzero(is_there)


def fitted(times: np.ndarray) -> TimeGrid:
    grid = fit_grid(times)
    assert grid is not None
    return grid


@pytest.mark.parametrize(("rate", "size"), [(130.0, 73), (250.0, 12), (64.0, 64), (52.0, 2), (4.0, 4)])
@pytest.mark.parametrize("n_lost", [0, 1, 2, 3, 10])
def test_lost_packets_are_a_gap_of_their_length_and_the_rate_stays(rate: float, size: int, n_lost: int) -> None:
    stamps = sent(120 * size, rate, size)
    times, number = without_packets(stamps, size, list(range(50, 50 + n_lost)))
    grid = fitted(times)
    assert grid.sampling_rate == pytest.approx(rate, rel=1e-6)
    placed = grid.placed(number.astype(float))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(placed)), number)
    assert any("coarser than the rows" in note for note in grid.notes)
    assert any(f"gaps: {n_lost * size} of" in note for note in grid.notes) == (n_lost > 0)


def test_packets_that_are_only_late_leave_no_gap() -> None:
    stamps = sent(9_000, 130.0, 73, jitter_seconds=0.05)
    stamps[73 * 60 : 73 * 64] = stamps[73 * 64]  # four packets wait for the fifth
    grid = fitted(stamps)
    assert grid.sampling_rate == pytest.approx(130.0, rel=1e-3)
    np.testing.assert_array_equal(grid.placed(np.arange(9_000.0)), np.arange(9_000.0))


def test_many_single_losses_with_jitter_are_all_found() -> None:
    lost = [20, 41, 55, 90, 140, 141, 170]
    times, number = without_packets(sent(12 * 200, 250.0, 12, jitter_seconds=0.004), 12, lost)
    placed = fitted(times).placed(number.astype(float))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(placed)), number)


def test_packets_of_different_size_are_spread_to_within_a_packet() -> None:
    taken = np.arange(6_000) / 250.0
    ends = np.cumsum(RNG.integers(9, 15, 600))
    stamps = taken[np.minimum(ends[np.searchsorted(ends, np.arange(6_000), side="right")], 6_000) - 1]
    times, number = stamps[np.r_[0:3_000, 3_250:6_000]], np.r_[0:3_000, 3_250:6_000]
    grid = fitted(times)
    assert grid.sampling_rate == pytest.approx(250.0, rel=2e-3)
    assert grid.cells is not None
    np.testing.assert_allclose(grid.cells, number, atol=15)


def test_stamps_of_hundredths_of_a_second_at_250_hertz_are_told_apart() -> None:
    grid = fitted(np.floor(np.arange(20_000) / 250.0 * 100.0) / 100.0)
    assert grid.sampling_rate == 250
    np.testing.assert_array_equal(grid.placed(np.arange(20_000.0)), np.arange(20_000.0))


@pytest.mark.parametrize(
    "times",
    [
        np.arange(4_000) / 128.0,
        np.arange(4_000) / 30.0 + RNG.uniform(-0.4, 0.4, 4_000) / 30.0,  # a phone's jitter
        (np.arange(3_000)[:, None] * 1.0 + np.arange(20) / 250.0).ravel(),  # a sensor that sleeps between bursts
        np.cumsum(RNG.exponential(1.0, 4_000)),
    ],
)
def test_rows_with_times_of_their_own_are_no_packets(times: np.ndarray) -> None:
    assert spread_packets(times) is None
