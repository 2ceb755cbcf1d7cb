"""Planted offsets and drifts are found again to a part of a sample, and what is not alike is not aligned."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.prepare.alignment import Alignment, Series, alignment_by_events, estimate_alignment
from biopercept.recording import Signal

SECONDS = 3600.0


def body(seed: int, rate: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Something that a body does, of unit spread."""
    from scipy.signal import butter, sosfiltfilt

    draws = np.random.default_rng(seed).normal(size=int(SECONDS * rate))
    moving = sosfiltfilt(butter(2, [low_hz, high_hz], "bandpass", fs=rate, output="sos"), draws)
    return moving / moving.std()


def two_devices(
    seed: int, rates: tuple[float, float], band: tuple[float, float], offset: float, ppm: float, noise: float = 0.3
) -> tuple[Series, Series]:
    """The same body seen by a reference and by a device whose clock is off and drifts, each with noise of its own."""
    fine = 4 * max(rates)
    moving, times = body(seed, fine, *band), np.arange(int(SECONDS * fine)) / fine
    rng = np.random.default_rng(1000 + seed)
    ours = np.arange(0.0, SECONDS - 1, 1 / rates[0])
    theirs = np.arange(0.0, (SECONDS - abs(offset) - 1) / (1 + abs(ppm) * 1e-6), 1 / rates[1])
    seen = np.interp(ours, times, moving), np.interp(offset + (1 + ppm * 1e-6) * theirs, times, moving)
    noisy = [one + noise * rng.normal(size=len(one)) for one in seen]
    return Series(noisy[0], rates[0]), Series(noisy[1], rates[1])


def errors(found: Alignment, offset: float, ppm: float) -> list[float]:
    """How far the found clock is from the planted one, at both ends."""
    return [abs(found.offset_seconds - offset + (found.drift_ppm - ppm) * 1e-6 * at) for at in (0.0, SECONDS)]


@pytest.mark.parametrize(
    ("rates", "band", "offset", "ppm"),
    [
        ((4.0, 1.0), (0.01, 0.2), 1.2, 80.0),
        ((4.0, 4.0), (0.01, 0.2), 1.2, 80.0),
        ((32.0, 64.0), (0.3, 8.0), 1.2, 80.0),
        ((25.6, 32.0), (0.3, 8.0), -217.3, -150.0),
    ],
)
def test_a_planted_clock_is_found_within_a_sample_of_the_slower_series(
    rates: tuple[float, float], band: tuple[float, float], offset: float, ppm: float
) -> None:
    found = estimate_alignment(*two_devices(1, rates, band, offset, ppm))
    assert max(errors(found, offset, ppm)) < 1 / min(rates)
    assert abs(found.drift_ppm - ppm) < 4 * found.drift_sd + 1
    assert abs(found.offset_seconds - offset) < 4 * found.offset_sd + 0.1 / min(rates)
    assert found.residual_seconds < 1 / min(rates)
    assert len(found.pieces) == found.n >= 4


def test_a_clock_that_does_not_drift_is_not_made_to() -> None:
    drifts = []
    for seed in range(8):
        found = estimate_alignment(*two_devices(seed, (4.0, 4.0), (0.01, 0.2), 3.0, 0.0))
        assert abs(found.offset_seconds - 3.0) < 0.1
        drifts.append(found.drift_ppm)
    assert drifts.count(0.0) >= 6
    assert "no drift beyond its uncertainty" in found.text() or found.drift_ppm


def test_the_uncertainty_is_that_of_repeated_trials() -> None:
    """Offsets from eight pairs scatter as much as each pair says its offset does."""
    found = [estimate_alignment(*two_devices(seed, (4.0, 4.0), (0.01, 0.2), 1.2, 80.0, 0.5)) for seed in range(8)]
    scatter = np.std([one.offset_seconds for one in found], ddof=1)
    assert 0.4 < scatter / np.mean([one.offset_sd for one in found]) < 2.5


@pytest.mark.parametrize("seed", range(5))
def test_strangers_are_not_aligned(seed: int) -> None:
    ours, _ = two_devices(seed, (4.0, 4.0), (0.005, 0.1), 0.0, 0.0)
    _, theirs = two_devices(seed + 50, (4.0, 4.0), (0.005, 0.1), 0.0, 0.0)
    with pytest.raises(RecordingError, match=r"only \d of \d+ pieces of 300 s agree on where they lie within 600 s"):
        estimate_alignment(ours, theirs)


def test_short_and_flat_series_are_not_aligned() -> None:
    ours, theirs = two_devices(0, (4.0, 4.0), (0.01, 0.2), 0.0, 0.0)
    with pytest.raises(RecordingError, match="100 s are too short, 180 s are needed"):
        estimate_alignment(ours, Series(theirs.values[:400], 4.0))
    with pytest.raises(RecordingError, match="only 0 of 0 pieces"):
        estimate_alignment(ours, Series(np.full(8000, 70.0), 4.0))
    with pytest.raises(RecordingError, match="only 0 of 0 pieces"):
        estimate_alignment(ours, Series(np.full(8000, np.nan), 4.0))


def test_gaps_in_both_cost_pieces_and_no_exactness() -> None:
    ours, theirs = two_devices(2, (4.0, 4.0), (0.01, 0.2), 1.2, 80.0)
    rng = np.random.default_rng(0)
    for series in (ours, theirs):
        for start in rng.integers(0, len(series.values), 40):
            series.values[start : start + 100] = np.nan
    assert max(errors(estimate_alignment(ours, theirs), 1.2, 80.0)) < 0.25


def test_shared_events_tell_the_clock_and_others_are_refused() -> None:
    theirs = [10.0, 500.0, 1500.0, 3000.0]
    found = alignment_by_events([7.5 + 1.0001 * at for at in theirs], theirs)
    assert (found.offset_seconds, found.drift_ppm) == (pytest.approx(7.5), pytest.approx(100.0))
    assert found.residual_seconds < 1e-9
    assert alignment_by_events([3.0], [1.0]).offset_seconds == 2.0
    with pytest.raises(RecordingError, match=r"the 3 shared events lie .* s from any one clock"):
        alignment_by_events([0.0, 50.0, 100.0], [0.0, 80.0, 100.0])
    with pytest.raises(RecordingError, match="1 and 2 shared events cannot be paired"):
        alignment_by_events([0.0], [0.0, 80.0])


def test_means_of_a_slower_series_stand_where_their_samples_did() -> None:
    ramp = Series(np.arange(0.0, 100.0, 1 / 32), 32.0)
    slow = ramp.slower(4.0)
    times = slow.start_seconds + np.arange(len(slow.values)) / 4.0
    assert np.allclose(slow.values[1:-1], times[1:-1])


@pytest.mark.parametrize("ppm", [80.0, -80.0])
def test_a_signal_on_another_clock_has_its_own_values_at_most_half_a_sample_away(ppm: float) -> None:
    values = np.arange(64.0 * 3600)
    signal = Signal.from_samples("BVP", "bvp", "a.u.", 64.0, values)
    stretch = 1 + ppm * 1e-6
    moved = signal.on_clock(1.2, stretch)
    assert moved.sampling_rate == 64.0
    assert moved.start_seconds == 1.2
    exact = (moved.sample_times() - 1.2) / stretch * 64.0  # where each new sample lies among the old
    assert np.abs(moved.read()[0] - exact).max() <= 0.5 + 1e-6
    assert abs(moved.duration_seconds - 3600.0 * stretch) <= 1 / 64
    assert np.array_equal(moved.read(1000, 2000)[0], moved.read()[0][1000:2000])
    beats = Signal("IBI", "ibi", "s", 1.0, 0.0, signal.channels, 2, signal.reader, times=np.array([1.0, 1001.0]))
    assert np.allclose(beats.on_clock(1.2, stretch).times, [1.2 + stretch, 1.2 + 1001.0 * stretch])
