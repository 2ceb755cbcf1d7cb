"""Columns of pixels against brute force over every sample, gaps kept, coarse only while time is short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biopercept.desktop.traces import (
    Budget,
    SpoiltSeconds,
    Trace,
    columns_of_bins,
    columns_of_line,
    painted,
    rows_of,
    shaded,
)
from biopercept.recording import FloatArray, Signal
from biopercept.viewing.pyramids import pyramid_of
from biopercept.viewing.timeline import Quality

RATE = 100


def signal_of(samples: FloatArray, start: float = 0.0, rate: float = RATE) -> Signal:
    return replace(Signal.from_samples("EEG", "eeg", "uV", rate, samples), start_seconds=start)


def trace_of(signal: Signal) -> Trace:
    return Trace(signal, pyramid_of(signal) if signal.is_regular else None)


@pytest.fixture(scope="module")
def noise() -> FloatArray:
    samples = np.random.default_rng(4).normal(0, 10, (3, 90_000)).cumsum(axis=1) / 20
    samples[1, 30_000:34_000] = np.nan
    return samples


@pytest.mark.parametrize("span", [2.0, 7.3, 60.0, 250.0, 900.0])
@pytest.mark.parametrize("begin", [0.0, 123.4, 290.0])
def test_columns_hold_the_range_of_every_sample_under_a_pixel(noise: FloatArray, span: float, begin: float) -> None:
    n = 200
    columns = trace_of(signal_of(noise)).columns(begin, begin + span, n)
    assert columns.is_fine
    edges = begin + span * np.arange(n + 1) / n
    for channel in range(3):
        for pixel in range(n):
            first, last = (int(np.ceil(edge * RATE - 1e-6)) for edge in edges[pixel : pixel + 2])
            inside = noise[channel, first : max(last, first)]
            inside = inside[np.isfinite(inside)]
            if len(inside):
                assert columns.lowest[channel, pixel] <= np.float32(inside.min()) + 1e-4
                assert columns.highest[channel, pixel] >= np.float32(inside.max()) - 1e-4
            # No more than what lies within three bins of the pixel, the widest that is drawn from.
            margin = int(3 * max(span * RATE / n, 1)) + 2
            around = noise[channel, max(first - margin, 0) : last + margin]
            around = around[np.isfinite(around)]
            if np.isfinite(columns.lowest[channel, pixel]):
                assert columns.lowest[channel, pixel] >= np.float32(around.min()) - 1e-4
                assert columns.highest[channel, pixel] <= np.float32(around.max()) + 1e-4


@pytest.mark.parametrize("span", [5.0, 200.0, 900.0])
def test_a_gap_is_a_gap_at_every_zoom_and_nothing_is_drawn_beyond_the_signal(noise: FloatArray, span: float) -> None:
    trace = trace_of(signal_of(noise, start=10.0))
    columns = trace.columns(310.0 + 20.0 - span / 2, 310.0 + 20.0 + span / 2, 301)
    assert np.isnan(columns.lowest[1, 150])
    assert np.isfinite(columns.lowest[0, 150])
    early = trace.columns(0.0, 20.0, 200)
    assert np.isnan(early.lowest[0, :99]).all()
    assert np.isfinite(early.lowest[0, 102:]).all()
    assert np.isnan(trace.columns(2000.0, 2010.0, 50).lowest).all()


def test_where_there_is_no_time_wider_bins_are_drawn_and_each_frame_brings_one_tile(noise: FloatArray) -> None:
    trace, whole = trace_of(signal_of(noise)), trace_of(signal_of(noise))
    exact = whole.columns(0.0, 150.0, 600)
    frames = [trace.columns(0.0, 150.0, 600, Budget(0.0)) for _ in range(9)]
    assert not frames[0].is_fine
    # What is coarse hides nothing: it reaches at least as far as what is fine.
    assert (frames[0].lowest[0] <= exact.lowest[0] + 1e-4).all()
    assert (frames[0].highest[0] >= exact.highest[0] - 1e-4).all()
    assert frames[-1].is_fine
    np.testing.assert_array_equal(frames[-1].lowest, exact.lowest)


def test_a_step_to_the_side_reads_no_more_than_what_it_brings_in(noise: FloatArray) -> None:
    signal = signal_of(noise)
    n_read = []

    def read(start: int, stop: int, rows: slice) -> FloatArray:
        n_read.append(stop - start)
        return signal.reader(start, stop, rows)

    trace = Trace(replace(signal, reader=read), pyramid_of(signal))
    trace.columns(0.0, 100.0, 1000)
    n_read.clear()
    trace.columns(5.0, 105.0, 1000)
    assert sum(n_read) <= 512 * 4
    trace.columns(0.0, 100.0, 1000)
    assert sum(n_read) <= 512 * 4


def test_irregular_samples_are_joined_by_a_line() -> None:
    signal = replace(
        Signal.from_samples("IBI", "ibi", "s", 1.0, np.array([0.8, 1.0, 0.9])), times=np.array([1.0, 2.0, 3.0])
    )
    columns = trace_of(signal).columns(0.0, 4.0, 8)
    np.testing.assert_allclose(columns.lowest[0, 2:6], [0.8, 0.9, 0.95, 0.9], atol=1e-6)
    assert np.isnan(columns.lowest[0, 0])


def test_bins_that_are_wider_than_columns_are_in_each_that_they_cover() -> None:
    low, high = np.array([[0.0, 5.0]], dtype=np.float32), np.array([[1.0, 6.0]], dtype=np.float32)
    lowest, highest = columns_of_bins(low, high, np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5]))
    np.testing.assert_array_equal(lowest[0], [0, 0, 1, 5, np.nan])  # the third reaches down to the one before
    np.testing.assert_array_equal(highest[0], [1, 1, 6, 6, np.nan])


def test_a_line_of_few_samples_is_interpolated() -> None:
    lowest, highest = columns_of_line(np.array([0.0, 1.0]), np.array([[0.0, 8.0]]), np.linspace(0, 1, 5))
    np.testing.assert_allclose(lowest[0], [0, 2, 4, 6])
    np.testing.assert_allclose(highest[0], [2, 4, 6, 8])


def test_waves_are_painted_where_they_are_and_cut_at_the_edge_of_the_image() -> None:
    image = np.zeros((10, 4), dtype=np.uint8)
    low, high = np.array([1.0, np.nan, -9.0, 4.0]), np.array([3.0, np.nan, 1.0, 99.0])
    painted([(low, high)], [2], image, 7)
    assert [np.flatnonzero(column).tolist() for column in image.T] == [[3, 4, 5], [], [0, 1, 2, 3], [6, 7, 8, 9]]
    assert set(np.unique(image)) == {0, 7}


def test_spoilt_seconds_are_counted_under_each_pixel() -> None:
    index = np.ones((2, 100), dtype=np.float32)
    index[1, 10:15] = 0.2
    spoilt = SpoiltSeconds(Quality(index, None, ()))
    np.testing.assert_allclose(spoilt.shares(0.0, 100.0, 10)[1], [0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0])
    assert (spoilt.shares(10.2, 10.8, 3)[1] == 1).all()
    assert (spoilt.shares(90.0, 200.0, 11) == 0).all()
    image = np.zeros((6, 10), dtype=np.uint8)
    shaded(spoilt.shares(0.0, 100.0, 10), [0, 3], 3, image)
    assert image[:3].max() == 0
    assert image[3:, 1].tolist() == [2, 2, 2]


def test_channels_of_one_sensor_have_one_scale_and_rows_the_names_of_corrections(noise: FloatArray) -> None:
    trace = trace_of(signal_of(noise * [[1.0], [1.0], [5.0]]))
    assert len(set(trace.half)) == 1
    names = [row.name for row in rows_of([trace.signal, signal_of(noise[:1])])]
    assert names == ["EEG/EEG1", "EEG/EEG2", "EEG/EEG3", "EEG"]
