"""Times that no clock gave are left out, clocks that were set are followed, doubt is refused: all on planted times."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.loaders.arrivals import even_grid
from biopercept.loaders.clock import apart, hour_jumped, offset_of_clocks, put_on, stray_times
from biopercept.loaders.counters import sample_numbers

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


def in_packets(rate: float, size: int, seconds: float = 600.0) -> np.ndarray:
    """Return the stamps of rows that come by the packet, each when its last row was taken."""
    return UNIX + (np.arange(round(rate * seconds)) // size + 1) * size / rate


@pytest.mark.parametrize(("rate", "size"), [(51.2, 1), (256.0, 12)])
@pytest.mark.parametrize("seconds", [1.0, 7.3, 90.0])
def test_a_clock_set_back_moves_neither_the_start_nor_a_row_of_evenly_taken_ones(
    rate: float, size: int, seconds: float
) -> None:
    stamps = in_packets(rate, size)
    half = len(stamps) // 2
    grid, plain_grid = (
        even_grid(stamps - seconds * (np.arange(len(stamps)) >= half), (rate,)),
        even_grid(stamps, (rate,)),
    )
    assert grid is not None and plain_grid is not None
    assert grid.start_seconds == pytest.approx(plain_grid.start_seconds, abs=1.5 * size / rate)
    assert grid.cells is not None and grid.cells.tolist() == list(range(len(stamps)))
    [note] = [note for note in grid.notes if "set back" in note]
    by, row = float(note.split(" by ")[1].split()[0]), int(note.split("row ")[1].split(";")[0])
    assert by == pytest.approx(seconds, abs=1.5 * size / rate)
    assert row == half + 1


@pytest.mark.parametrize("rate", [51.2, 256.0])
def test_stamps_of_whole_seconds_tell_the_rate_of_evenly_taken_rows_and_lose_none(rate: float) -> None:
    grid = even_grid(np.floor(plain(rate)), (50.0, 51.2, 250.0, 256.0))
    assert grid is not None and grid.sampling_rate == pytest.approx(rate)
    assert grid.n_samples == round(600 * rate)


def test_losses_of_a_second_are_gaps_and_no_delay() -> None:
    is_lost = np.isin(np.arange(30_720), [*range(10_000, 10_051), *range(20_000, 20_051)])
    grid = even_grid(in_packets(51.2, 1)[~is_lost], (51.2,))
    assert grid is not None and grid.cells is not None
    assert grid.cells.tolist() == np.flatnonzero(~is_lost).tolist()


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 3600.0, -UNIX])
def test_the_start_is_that_of_the_rows_that_begin_the_file_whatever_a_clock_does_later(step: float) -> None:
    taken = np.arange(20_000) / 130.0
    arrivals = in_packets(130.0, 73, 200.0)[:20_000]
    late = np.arange(20_000) >= 12_000
    offset = offset_of_clocks(arrivals + np.where(late, step, 0.0), taken, "the phone's clock")
    assert offset.seconds == pytest.approx(UNIX, abs=0.05)
    [note] = offset.notes
    unset = "the phone's clock was not set in 8000 rows, which say nothing of the start"
    assert note == unset if step == -UNIX else note.startswith("from row 12001 on the phone's clock is ")
    assert not offset_of_clocks(arrivals, taken, "the phone's clock").notes
    assert offset_of_clocks(arrivals - UNIX, taken, "the phone's clock").seconds is None


def test_packets_that_are_late_and_made_up_for_are_no_clock_that_was_set() -> None:
    arrivals = in_packets(130.0, 73, 200.0)
    arrivals[7300:7592] = arrivals[7592] + 2.0  # four packets wait for three seconds
    assert not offset_of_clocks(arrivals, np.arange(len(arrivals)) / 130.0, "the phone's clock").notes


def test_what_overlaps_nothing_else_is_named() -> None:
    spans = [("EDA", 0.0, 20.0), ("BVP", 3600.0, 3620.0), ("ACC", 3600.0, 3625.0)]
    assert apart(spans, "signal") == ["EDA spans 0 to 20 s and overlaps no other signal; check its clock"]
    assert apart(spans[1:], "signal") == apart(spans[:1], "signal") == []


def test_two_rows_that_changed_places_keep_their_numbers_and_a_turn_stays_a_turn() -> None:
    counter = np.arange(1000) % 256
    counter[[500, 501]] = counter[[501, 500]]
    places = np.arange(1000)
    places[[500, 501]] = [501, 500]
    assert (sample_numbers(counter.astype(float)) == places).all()
    lost = np.delete(np.arange(1000), slice(300, 300 + 254)) % 256  # nearly a turn
    numbers = sample_numbers(lost.astype(float))
    assert numbers is not None and numbers[-1] == 999
