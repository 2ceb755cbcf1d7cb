"""Gaps: runs of valid samples, filters that never cross a long gap, and series on the derived grid.

The rule of the whole room: a missing or masked sample is NaN before and after. Gaps up to a
stated length are bridged by a straight line so that a filter need not restart, and are masked
again afterwards; at longer gaps every segment is filtered on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from biopercept.modalities import DERIVED_RATE
from biopercept.recording import FloatArray

BoolArray = NDArray[np.bool_]


def runs_of(is_true: BoolArray) -> list[tuple[int, int]]:
    """Return (start, stop) of every run of True in a one-dimensional array.

    Examples
    --------
    >>> runs_of(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_true, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def long_runs(is_true: BoolArray, min_samples: int) -> BoolArray:
    """Return a mask that keeps only runs of True of at least ``min_samples``."""
    kept = np.zeros(len(is_true), dtype=bool)
    for start, stop in runs_of(is_true):
        if stop - start >= min_samples:
            kept[start:stop] = True
    return kept


def segments(samples: FloatArray, max_gap_samples: int, min_samples: int) -> list[tuple[int, int]]:
    """Return (start, stop) of the segments of one channel that may be filtered as one.

    Gaps (NaN) of up to ``max_gap_samples`` do not end a segment; segments with fewer than
    ``min_samples`` are not returned. A segment starts and ends on a valid sample.
    """
    merged: list[tuple[int, int]] = []
    for start, stop in runs_of(np.isfinite(samples)):
        if merged and start - merged[-1][1] <= max_gap_samples:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return [(start, stop) for start, stop in merged if stop - start >= max(min_samples, 1)]


def bridged(samples: FloatArray) -> FloatArray:
    """Return one channel with every NaN replaced by the straight line between its neighbours."""
    is_valid = np.isfinite(samples)
    if is_valid.all() or not is_valid.any():
        return samples.copy()
    index = np.arange(len(samples))
    return np.interp(index, index[is_valid], samples[is_valid])


def block_medians(row: FloatArray, n_samples: int) -> FloatArray:
    """Return the median of the valid samples of each block of ``n_samples``; NaN of a block without any."""
    if n_samples <= 1:
        return row.copy()
    n_blocks = math.ceil(len(row) / n_samples)
    blocks = np.full(n_blocks * n_samples, np.nan)
    blocks[: len(row)] = row
    blocks = np.sort(blocks.reshape(n_blocks, n_samples), axis=1)  # NaN last
    n_valid = np.isfinite(blocks).sum(axis=1)
    index = np.arange(n_blocks)
    middles = 0.5 * blocks[index, np.maximum(n_valid - 1, 0) // 2] + 0.5 * blocks[index, np.maximum(n_valid, 1) // 2]
    return np.asarray(np.where(n_valid > 0, middles, np.nan), dtype=np.float64)


def block_means(row: FloatArray, n_samples: int) -> FloatArray:
    """Return the mean of the valid samples of each block of ``n_samples``; NaN where less than half is valid."""
    if n_samples <= 1:
        return row.copy()
    n_blocks = len(row) // n_samples
    blocks = row[: n_blocks * n_samples].reshape(n_blocks, n_samples)
    is_valid = np.isfinite(blocks)
    n_valid = is_valid.sum(axis=1)
    total = np.where(is_valid, blocks, 0.0).sum(axis=1)
    mean = np.divide(total, n_valid, out=np.full(n_blocks, np.nan), where=2 * n_valid >= n_samples)
    return np.asarray(mean, dtype=np.float64)


def local_noise(row: FloatArray, sampling_rate: float) -> FloatArray:
    """Return the standard deviation of a slow signal's noise in the minute that each sample lies in: (n_samples,).

    From the median bend between neighbouring samples, which neither slopes nor outliers move.
    """
    bend = np.full(len(row), np.nan)
    bend[1:-1] = np.abs(row[:-2] - 2.0 * row[1:-1] + row[2:])
    n_blocks = max(round(len(row) / (60.0 * sampling_rate)), 1)
    size = max(math.ceil(len(row) / n_blocks), 1)
    return np.repeat(1.4826 / math.sqrt(6.0) * block_medians(bend, size), size)[: len(row)]


def apply_by_segment(
    samples: FloatArray,
    work: Callable[[FloatArray], FloatArray],
    *,
    max_gap_samples: int,
    min_samples: int,
) -> FloatArray:
    """Return ``work`` applied to every segment of every channel, NaN elsewhere.

    Parameters
    ----------
    samples : array, shape (n_channels, n_samples)
        NaN where missing.
    work : callable
        Takes and returns one gap-free segment, shape (n,).
    max_gap_samples : int
        Longer gaps end a segment; shorter ones are bridged for ``work`` and masked again.
    min_samples : int
        A shorter segment becomes NaN.
    """
    out = np.full(samples.shape, np.nan)
    for channel, row in enumerate(samples):
        for start, stop in segments(row, max_gap_samples, min_samples):
            out[channel, start:stop] = work(bridged(row[start:stop]))
    out[~np.isfinite(samples)] = np.nan
    return out


def filter_sections(
    sampling_rate: float, low_hz: float | None, high_hz: float | None, order: int = 4
) -> FloatArray | None:
    """Return Butterworth sections for a band, or None where there is nothing to filter.

    A low-pass edge above 0.45 of the sampling rate is not needed and is dropped; the
    caller must not ask for a high-pass edge there (see :func:`band_fits`).
    """
    sections = _designed(sampling_rate, low_hz, high_hz, order)
    return None if sections is None else sections.copy()


@lru_cache(maxsize=256)
def _designed(sampling_rate: float, low_hz: float | None, high_hz: float | None, order: int) -> FloatArray | None:
    if high_hz is not None and high_hz > 0.45 * sampling_rate + 1e-9:
        high_hz = None
    if low_hz is None and high_hz is None:
        return None
    from scipy.signal import butter

    if low_hz is None:
        sections = butter(order, high_hz, "lowpass", fs=sampling_rate, output="sos")
    elif high_hz is None:
        sections = butter(order, low_hz, "highpass", fs=sampling_rate, output="sos")
    else:
        sections = butter(order, (low_hz, high_hz), "bandpass", fs=sampling_rate, output="sos")
    return np.asarray(sections, dtype=np.float64)


def edges_of_two_passes(sampling_rate: float, low_hz: float, high_hz: float, order: int) -> tuple[float, float]:
    """Return the edges of a Butterworth band that, run forth and back, halves the power at the edges that are wanted.

    Without this the power there is quartered, and of an even spectrum the band takes less than its width. The edges are
    moved apart in the plane of the bilinear transform, so that it holds at every sampling rate.
    """
    low, high = (math.tan(math.pi * edge / sampling_rate) for edge in (low_hz, high_hz))
    width = (high - low) / (math.sqrt(2.0) - 1.0) ** (0.5 / order)
    lower = 0.5 * (math.sqrt(width**2 + 4.0 * low * high) - width)
    scale = sampling_rate / math.pi
    return scale * math.atan(lower), scale * math.atan(lower + width)


def band_fits(sampling_rate: float, low_hz: float | None) -> bool:
    """Return whether a signal of that rate has anything above the high-pass edge."""
    return low_hz is None or low_hz < 0.4 * sampling_rate


def filtered(
    samples: FloatArray,
    sampling_rate: float,
    low_hz: float | None,
    high_hz: float | None,
    *,
    bridge_seconds: float,
    order: int = 4,
) -> FloatArray:
    """Return the channels band-passed without phase shift, segment by segment.

    A segment too short for the filter (three periods of the high-pass edge, at most 5 s, or the
    filter's own padding) becomes NaN. A straight line is removed before a high-pass, and the segment mirrored at its
    edges, which makes them calm.
    """
    sections = filter_sections(sampling_rate, low_hz, high_hz, order)
    if sections is None:
        return samples.copy()
    from scipy.signal import sosfiltfilt

    padding = _padding(len(sections))

    def work(segment: FloatArray) -> FloatArray:
        # sosfiltfilt's own padding is a few samples; a low edge needs padding of about one period.
        edge = low_hz if low_hz is not None else high_hz
        wanted = int(sampling_rate / edge) if edge else padding
        pad = min(max(padding, wanted), len(segment) - 1)
        if low_hz is None:
            return np.asarray(sosfiltfilt(sections, segment, padlen=pad), dtype=np.float64)
        if np.ptp(segment) == 0:
            return np.zeros_like(segment)
        # Turned over around its last sample, as scipy does by default, noise would go on at another level.
        return np.asarray(sosfiltfilt(sections, _without_line(segment), padtype="even", padlen=pad), dtype=np.float64)

    gap = int(bridge_seconds * sampling_rate)
    shortest = _shortest_filtered(sampling_rate, low_hz, len(sections))
    return apply_by_segment(samples, work, max_gap_samples=gap, min_samples=shortest)


def _padding(n_sections: int) -> int:
    return 3 * (2 * n_sections + 1)


def _shortest_filtered(sampling_rate: float, low_hz: float | None, n_sections: int) -> int:
    """Return how many samples a segment needs for the filter of :func:`filtered`."""
    shortest = _padding(n_sections) + 1
    return shortest if low_hz is None else max(shortest, math.ceil(min(3.0 / low_hz, 5.0) * sampling_rate))


def size_in_band(
    samples: FloatArray,
    sampling_rate: float,
    low_hz: float | None,
    high_hz: float | None,
    *,
    bridge_seconds: float,
    order: int = 4,
) -> FloatArray:
    """Return about how large a sample is of what :func:`filtered` leaves of each channel, (n_channels,).

    It is the median size over the segments that the filter can be run over, infinite where nothing is taken off that
    could be all of it (no low edge), and 0 where there is no such segment. The gain of the filter is laid on the
    spectrum of blocks, which differs from the filter near their edges alone; for this, scipy need not be imported.
    """
    n_sections = order if low_hz is not None and high_hz is not None else math.ceil(order / 2)
    shortest = _shortest_filtered(sampling_rate, low_hz, n_sections)
    sizes = np.zeros(len(samples))
    for channel, row in enumerate(samples):
        pieces = [row[start:stop] for start, stop in segments(row, int(bridge_seconds * sampling_rate), shortest)]
        if pieces and low_hz is None:
            sizes[channel] = np.inf
        elif pieces and low_hz is not None:
            block = max(2 ** math.ceil(math.log2(10.0 * sampling_rate / low_hz)), shortest)
            blocks = (one[start : start + block] for one in pieces for start in range(0, len(one), block))
            left = [_spectrally_filtered(bridged(one), sampling_rate, low_hz, high_hz, order) for one in blocks]
            sizes[channel] = np.median(np.abs(np.concatenate(left)))
    return sizes


def _spectrally_filtered(
    segment: FloatArray, sampling_rate: float, low_hz: float, high_hz: float | None, order: int
) -> FloatArray:
    """Return a segment times the gain of two passes of a Butterworth filter."""
    n = len(segment)
    spectrum = np.fft.rfft(_without_line(segment))
    hz = np.maximum(np.fft.rfftfreq(n, 1.0 / sampling_rate), 1e-9)
    away = low_hz / hz if high_hz is None else (hz**2 - low_hz * high_hz) / (hz * (high_hz - low_hz))
    with np.errstate(over="ignore"):
        spectrum /= 1.0 + away ** (2 * order)
    return np.asarray(np.fft.irfft(spectrum, n), dtype=np.float64)


def _without_line(segment: FloatArray) -> FloatArray:
    """Return a gap-free segment less the straight line that fits it best."""
    at = np.arange(len(segment)) - 0.5 * (len(segment) - 1)
    level = segment - segment.mean()
    at *= (at @ level) / max(float(at @ at), 1.0)
    level -= at
    return np.asarray(level, dtype=np.float64)


def at_rate(samples: FloatArray, sampling_rate: float, new_rate: float) -> FloatArray:
    """Return the channels at a lower rate, low-passed first; NaN where masked samples lay.

    Gaps are bridged for the resampling only: an output sample is valid where more than half of the input samples in
    its time are, so that single lost samples of a fast recording do not become many.
    """
    if new_rate >= sampling_rate:
        return samples.copy()
    from scipy.signal import resample_poly

    ratio = Fraction(new_rate / sampling_rate).limit_denominator(50_000)
    n_out = math.ceil(samples.shape[1] * ratio)
    out = np.full((len(samples), n_out), np.nan)
    position = np.arange(n_out) / new_rate * sampling_rate
    reach = max(0.5 / ratio, 1.0 - 1e-9)  # at least the samples on both sides
    first = np.clip(np.ceil(position - reach).astype(int), 0, samples.shape[1] - 1)
    last = np.clip(np.floor(position + reach).astype(int), 0, samples.shape[1] - 1)
    for channel, row in enumerate(samples):
        is_valid = np.isfinite(row)
        if not is_valid.any():
            continue
        slower = resample_poly(bridged(row), ratio.numerator, ratio.denominator, padtype="line")[:n_out]
        total = np.concatenate(([0], np.cumsum(is_valid)))
        is_kept = 2 * (total[last + 1] - total[first]) > last + 1 - first
        out[channel, is_kept] = slower[is_kept]
    return out


def moving_mean(samples: FloatArray, n_samples: int) -> FloatArray:
    """Return the centred moving mean over valid samples along the last axis; NaN where a sample is NaN."""
    from scipy.ndimage import uniform_filter1d

    size = max(int(n_samples), 1)
    is_valid = np.isfinite(samples)
    total = uniform_filter1d(np.where(is_valid, samples, 0.0), size, axis=-1, mode="constant")
    fraction = uniform_filter1d(is_valid.astype(np.float64), size, axis=-1, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / fraction
    mean[~is_valid] = np.nan
    return np.asarray(mean, dtype=np.float64)


def mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    """Return the mean over an axis of what is not NaN; NaN where all is."""
    is_known = np.isfinite(values)
    n = is_known.sum(axis=axis)
    total = np.where(is_known, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0), dtype=np.float64)


def median_around(values: FloatArray, n_around: int) -> FloatArray:
    """Return the median of the ``n_around`` (odd) values around each, reflected at the ends; of fewer where so many."""
    half = min(n_around // 2, len(values) - 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, mode="reflect"), 2 * half + 1)
    return np.asarray(np.median(around, axis=1), dtype=np.float64)


def grid_times(duration_seconds: float) -> FloatArray:
    """Return the times of the derived grid: every 1/4 s from second zero to the end of the recording."""
    return np.arange(math.ceil(duration_seconds * DERIVED_RATE - 1e-9)) / DERIVED_RATE


def on_grid(samples: FloatArray, sampling_rate: float, start_seconds: float, times: FloatArray) -> FloatArray:
    """Return regular channels read at grid ``times`` by linear interpolation: (n_channels, n_times).

    NaN outside the signal and where either neighbouring sample is NaN. The caller low-passes first
    where the signal is faster than the grid.
    """
    n = samples.shape[1]
    out = np.full((len(samples), len(times)), np.nan)
    if n == 0:
        return out
    position = (times - start_seconds) * sampling_rate
    # Half a sample of grace at the end: the last sample stands for its whole period.
    inside = (position >= -1e-6) & (position <= n - 1 + 0.999)
    position = np.clip(position[inside], 0, n - 1)
    before = np.floor(position + 1e-9).astype(int)
    after = np.minimum(before + 1, n - 1)
    weight = np.clip(position - before, 0.0, 1.0)
    # A weight of zero must not drag in a NaN neighbour.
    after = np.where(weight < 1e-9, before, after)
    out[:, inside] = samples[:, before] * (1 - weight) + samples[:, after] * weight
    return out
