"""Times to a grid: planted rates are found, planted gaps are where they were, doubt is said."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.loaders.time_grid import TimeGrid, fit_grid

RNG = np.random.default_rng(7)


def fitted(times: np.ndarray) -> TimeGrid:
    grid = fit_grid(times)
    assert grid is not None
    return grid


@pytest.mark.parametrize("rate", [0.1, 1.0, 4.0, 31.25, 100.0, 256.0, 256.41, 333.0, 1000.0])
@pytest.mark.parametrize("decimals", [3, 9])
def test_the_rate_is_found_to_a_ten_thousandth_and_every_row_has_its_sample(rate: float, decimals: int) -> None:
    grid = fitted(np.round(5 + np.arange(4000) / rate, decimals))
    assert grid.sampling_rate == pytest.approx(rate, rel=1e-4)
    np.testing.assert_array_equal(grid.placed(np.arange(4000.0)), np.arange(4000.0))


def test_a_clock_that_drifts_is_followed_and_not_rounded_away() -> None:
    assert fitted(np.arange(100_000) / 64 * 1.002).sampling_rate == pytest.approx(64 / 1.002, rel=1e-7)


def test_jitter_of_forty_percent_keeps_every_row_and_is_said() -> None:
    times = np.arange(5000) / 128 + RNG.uniform(-0.4, 0.4, 5000) / 128
    grid = fitted(times)
    assert grid.sampling_rate == 128
    np.testing.assert_array_equal(grid.placed(np.arange(5000.0)), np.arange(5000.0))
    assert any("jitter by 23 %" in note for note in grid.notes)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_a_gap_is_missing_samples_and_what_follows_is_within_half_a_sample(jitter: float) -> None:
    times = np.delete(np.arange(6000) / 128 + RNG.uniform(-jitter, jitter, 6000) / 128, slice(2000, 3000))
    grid = fitted(times)
    placed = grid.placed(np.delete(np.arange(6000.0), slice(2000, 3000)))
    assert np.isnan(placed[2000:3000]).all()
    np.testing.assert_array_equal(placed[:2000], np.arange(2000))
    np.testing.assert_array_equal(placed[3000:], np.arange(3000, 6000))
    assert any("1000 of 6000 samples" in note for note in grid.notes)


def test_single_lost_rows_are_single_missing_samples() -> None:
    lost = np.sort(RNG.choice(np.arange(1, 4999), 60, replace=False))
    grid = fitted(np.delete(np.arange(5000) / 50, lost))
    placed = grid.placed(np.delete(np.arange(5000.0), lost))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(placed)), lost)


def test_rows_out_of_order_are_sorted_and_it_is_said() -> None:
    order = RNG.permutation(1000)
    grid = fitted(np.arange(1000)[order] / 10)
    np.testing.assert_array_equal(grid.placed(order.astype(float)), np.arange(1000.0))
    assert any("times go back" in note for note in grid.notes)


def test_what_a_clock_passed_twice_is_left_out() -> None:
    times = np.arange(0, 4 * 3600, 0.25)
    grid = fitted(np.where(times > 2 * 3600, times - 3600, times))
    placed = grid.placed(np.arange(len(times), dtype=float))
    assert grid.sampling_rate == 4
    assert np.isnan(placed[3601 * 4 : 7199 * 4]).all()
    assert placed[3599 * 4] == 3599 * 4
    assert placed[7201 * 4] == (7201 + 3600) * 4
    assert any("clock passed twice" in note for note in grid.notes)


def test_of_rows_with_the_same_time_neither_is_used() -> None:
    times = np.arange(100) / 10
    grid = fitted(np.insert(times, 50, times[49]))
    placed = grid.placed(np.arange(101.0))
    assert np.flatnonzero(np.isnan(placed)).tolist() == [49]
    assert any("fall together" in note for note in grid.notes)


def test_stamps_of_whole_seconds_at_four_hertz_are_spread_evenly_and_it_is_said() -> None:
    grid = fitted(np.floor(np.arange(2000) / 4))
    assert grid.sampling_rate == 4
    np.testing.assert_array_equal(grid.placed(np.arange(2000.0)), np.arange(2000.0))
    assert any("times tick every 1 s" in note for note in grid.notes)


def test_times_without_a_rate_are_kept_as_they_are() -> None:
    times = np.cumsum(RNG.exponential(1.0, 400))
    grid = fitted(times)
    assert grid.cells is None
    np.testing.assert_array_equal(grid.times, times)
    assert any("irregular" in note for note in grid.notes)


def test_one_time_far_away_makes_no_huge_array() -> None:
    grid = fitted(np.array([0.0, 1.0, 2.0, 3.0, 1e12]))
    assert grid.cells is None
    assert grid.n_samples == 5


def test_rows_without_a_time_are_counted() -> None:
    times = np.arange(50.0)
    times[10] = np.nan
    grid = fitted(times)
    assert np.flatnonzero(np.isnan(grid.placed(np.arange(50.0)))).tolist() == [10]
    assert any("1 row has no readable time" in note for note in grid.notes)


@pytest.mark.parametrize("times", [[], [1.0], [2.0, 2.0, 2.0], [np.nan, np.nan], [1.0, np.nan]])
def test_fewer_than_two_different_times_give_no_grid(times: list[float]) -> None:
    assert fit_grid(np.array(times, dtype=float)) is None
