"""What is kept of a stream: samples at their numbers and times, gaps as missing, and never more than its seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biopercept.recording import Signal
from biopercept.streaming.buffers import ENDLESS, MOST_EVENTS_PER_SECOND, RingBuffer, Stream, TimedBuffer


def values(buffer: RingBuffer, start: int, stop: int) -> list[float]:
    return buffer.read([0], start, stop)[0].tolist()


def test_a_ring_gives_back_what_was_put_and_nothing_older() -> None:
    ring = RingBuffer(1, 4.0, 2.0)
    for first in range(0, 100, 5):
        ring.put(first, np.arange(first, first + 5.0)[None])
    assert ring.capacity == 9
    assert ring.n_samples == 100
    assert values(ring, 91, 100) == list(range(91, 100))
    assert np.isnan(values(ring, 85, 91)).all()
    assert np.isnan(values(ring, 100, 103)).all()


def test_a_pause_is_missing_and_what_comes_late_replaces_what_is_there() -> None:
    ring = RingBuffer(1, 1.0, 9.0)
    ring.put(0, np.ones((1, 10)))
    ring.put(14, np.full((1, 2), 2.0))
    np.testing.assert_array_equal(values(ring, 8, 16), [1, 1, np.nan, np.nan, np.nan, np.nan, 2, 2])
    ring.put(11, np.full((1, 2), 3.0))
    np.testing.assert_array_equal(values(ring, 10, 16), [np.nan, 3, 3, np.nan, 2, 2])
    assert ring.n_samples == 16
    ring.put(0, np.full((1, 3), 4.0))  # before what is kept
    assert 4.0 not in values(ring, 0, 16)
    ring.put(1_000_000, np.ones((1, 1)))
    assert np.isnan(values(ring, 999_990, 1_000_000)).all()


def test_more_than_fits_at_once_leaves_the_last() -> None:
    ring = RingBuffer(2, 10.0, 1.0)
    ring.put(3, np.vstack([np.arange(50.0), -np.arange(50.0)]))
    np.testing.assert_array_equal(ring.read([1, 0], 43, 53), [-np.arange(40.0, 50), np.arange(40.0, 50)])


def test_memory_does_not_grow_with_time() -> None:
    ring, timed = RingBuffer(3, 64.0, 10.0), TimedBuffer(1, 10.0)
    for second in range(2000):
        ring.put(64 * second, np.zeros((3, 64)))
        timed.put(second + np.arange(200) / 200, np.zeros((1, 200)))  # no heart beats 200 times a second
    assert ring.capacity == 641
    assert len(timed.times) == MOST_EVENTS_PER_SECOND * 10


def test_events_are_kept_for_their_seconds_in_order() -> None:
    timed = TimedBuffer(1, 5.0)
    timed.put(np.array([1.0, 3.0, 2.0]), np.array([[10.0, 30.0, 20.0]]))
    timed.put(np.array([7.5]), np.array([[75.0]]))
    assert timed.times.tolist() == [3.0, 7.5]
    assert timed.read([0], 0, 2).tolist() == [[30.0, 75.0]]


@pytest.mark.parametrize(("begin", "end"), [(0.0, 10.0), (3.0, 9.0), (12.0, 20.0)])
def test_what_lies_between_two_times_is_that_of_the_recording(begin: float, end: float) -> None:
    rate, start = 4.0, 0.1
    ring = RingBuffer(1, rate, 30.0)
    ring.start_seconds = start
    ring.put(0, np.arange(60.0)[None])  # until 15.1 s
    signal = Signal.from_samples("EDA", "eda", "uS", rate, np.zeros((1, 1)))
    signal = replace(signal, n_samples=ENDLESS, reader=lambda a, b, rows: ring.read(range(1)[rows], a, b))
    [cut] = Stream("EDA", ring, (signal,)).between(begin, end)
    times = cut.sample_times() + begin
    assert (times >= begin - 1e-6).all()
    assert (times < end).all()
    is_real = np.isfinite(cut.read()[0])
    np.testing.assert_allclose(cut.read()[0][is_real], ((times - start) * rate)[is_real], atol=1e-6)
    assert end <= begin + cut.end_seconds < end + 1 / rate  # it reaches to the end, whatever has come
    assert is_real.all() == (end <= 15.0)


def test_a_stream_of_which_nothing_came_is_absent() -> None:
    ring = RingBuffer(1, 4.0, 30.0)
    ring.put(0, np.ones((1, 8)))
    signal = Signal.from_samples("EDA", "eda", "uS", 4.0, np.zeros((1, 1)))
    signal = replace(signal, n_samples=ENDLESS, reader=lambda a, b, rows: ring.read(range(1)[rows], a, b))
    stream = Stream("EDA", ring, (signal,))
    assert stream.between(3.0, 10.0) == []
    assert [one.name for one in stream.between(1.0, 10.0)] == ["EDA"]
