"""Times that no clock gave are left out, clocks that were set are followed, doubt is refused: all on planted times."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.loaders.clock import hour_jumped, put_on, stray_times

RATES = (1.0, 4.0, 32.0, 700.0)
UNIX = 1_685_628_000.0


def plain(rate: float, seconds: float = 600.0, start: float = UNIX) -> np.ndarray:
    return start + np.arange(round(rate * seconds)) / rate


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("share", "wrong"),
    [
        (0.0, 0.0),
        (0.5, 0.0),
        (1.0, 4e9),
        (0.5, UNIX + 5 * 3600),
        (0.3, UNIX - 7200),
        (1.0, UNIX - 3600),
        (0.0, UNIX + 9e3),
    ],
)
def test_one_wild_time_is_left_out_wherever_it_stands(rate: float, share: float, wrong: float) -> None:
    times = plain(rate)
    row = min(round(share * len(times)), len(times) - 1)
    times[row] = wrong
    assert np.flatnonzero(stray_times(times)).tolist() == [row]


@pytest.mark.parametrize("rate", RATES)
def test_rows_before_the_clock_was_set_are_left_out(rate: float) -> None:
    before = np.arange(round(60 * rate)) / rate  # a minute counted from 1970
    times = np.concatenate([before, plain(rate)])
    assert np.flatnonzero(stray_times(times)).tolist() == list(range(len(before)))


def test_many_wild_times_at_once_are_left_out_and_the_others_stay() -> None:
    rng = np.random.default_rng(2)
    times = plain(4.0)
    rows = np.sort(rng.choice(np.arange(1, len(times)), 200, replace=False))
    times[rows] = 0.0  # a logger that writes 0 where it has no time
    assert np.flatnonzero(stray_times(times)).tolist() == rows.tolist()


@pytest.mark.parametrize(
    "times",
    [
        plain(4.0),
        plain(4.0, start=0.0),
        np.concatenate([plain(4.0), plain(4.0, start=UNIX + 1200)]),  # a pause of ten minutes
        np.concatenate([plain(4.0, 5.0), plain(4.0, start=UNIX + 7200)]),  # a short try, then two hours' pause
        np.concatenate([plain(4.0), plain(4.0, start=UNIX + 3 * 86_400)]),  # two days
        np.cumsum(np.random.default_rng(0).exponential(20.0, 500)),  # beats with long gaps
        np.concatenate([np.delete(plain(4.0), slice(400, 404)), plain(4.0)[400:404], plain(4.0, start=UNIX + 600)]),
        np.random.default_rng(1).permutation(plain(10.0)),
        np.array([0.0, 1.0]),
        np.array([np.nan, 5.0, np.nan]),
        np.array([]),
    ],
    ids=["plain", "zero", "pause", "try", "days", "beats", "late", "jumbled", "two", "one", "none"],
)
def test_times_that_can_be_are_all_believed(times: np.ndarray) -> None:
    assert not stray_times(times).any()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [900, 1800, 3600, 10_800])
@pytest.mark.parametrize("after", [150.0, 450.0, 9000.0])
def test_a_clock_set_back_by_quarters_of_an_hour_is_put_on(rate: float, seconds: int, after: float) -> None:
    truth = plain(rate, 300.0 + after)
    times = np.where(np.arange(len(truth)) < 300 * rate, truth, truth - seconds)
    clock = put_on(times)
    np.testing.assert_allclose(clock.times, truth, atol=1e-6)
    assert (clock.seconds, clock.n_times) == (seconds, 1)


def test_a_clock_set_back_with_jitter_and_a_second_time_is_put_on_twice() -> None:
    truth = plain(4.0, 900.0) + np.random.default_rng(3).uniform(-0.05, 0.05, 3600)
    place = np.arange(3600)
    clock = put_on(truth - 3600 * (place >= 1200) - 3600 * (place >= 2400))
    np.testing.assert_allclose(clock.times, truth, atol=1e-6)
    assert (clock.seconds, clock.n_times) == (7200, 2)


def test_blocks_in_another_order_that_meet_are_no_clock_that_was_set() -> None:
    first, second, third = np.split(plain(4.0, 2700.0), 3)
    times = np.concatenate([second, first, third])
    np.testing.assert_array_equal(put_on(times).times, times)


def test_a_step_back_by_any_other_time_to_where_nothing_was_is_refused() -> None:
    with pytest.raises(ValueError, match=r"times go back by 1299.75 s at row 1201 of 2400, to where no row was before"):
        put_on(np.concatenate([plain(4.0, 300.0, 1000.0), plain(4.0, 300.0, 0.0)]))


def test_an_hour_that_is_jumped_to_the_sample_is_found_and_a_pause_is_not() -> None:
    truth = plain(4.0)
    assert hour_jumped(np.where(truth < UNIX + 300, truth, truth + 3600)) == UNIX + 299.75
    assert hour_jumped(np.where(truth < UNIX + 300, truth, truth + 3500)) is None
    assert hour_jumped(truth) is None
