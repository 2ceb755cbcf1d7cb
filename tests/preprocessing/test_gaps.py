"""Filters equal scipy called plainly, and no gap is filled or crossed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfiltfilt, sosfreqz

from biopercept.preprocessing.gaps import (
    at_rate,
    block_means,
    block_medians,
    bridged,
    edges_of_two_passes,
    filtered,
    grid_times,
    local_noise,
    moving_mean,
    on_grid,
    segments,
    size_in_band,
)

RNG = np.random.default_rng(1)


@pytest.mark.parametrize(("low", "high"), [(0.5, 8.0), (None, 1.0), (2.0, None)])
def test_a_filter_equals_scipy_called_plainly(low: float | None, high: float | None) -> None:
    samples = RNG.normal(size=(2, 3000)) + 7
    kind, edges = {
        (True, True): ("bandpass", (low, high)),
        (False, True): ("lowpass", high),
        (True, False): ("highpass", low),
    }[(low is not None, high is not None)]
    sections = butter(4, edges, kind, fs=64.0, output="sos")
    expected = sosfiltfilt(sections, samples, axis=1)
    got = filtered(samples, 64.0, low, high, bridge_seconds=0.0)
    # Away from the rims, where padding differs.
    np.testing.assert_allclose(got[:, 600:-600], expected[:, 600:-600], atol=1e-4)


def test_each_stretch_beside_a_long_gap_is_filtered_as_if_alone() -> None:
    samples = RNG.normal(size=(1, 4000))
    samples[0, 1500:1700] = np.nan
    whole = filtered(samples, 64.0, 0.5, 8.0, bridge_seconds=1.0)
    np.testing.assert_array_equal(whole[:, :1500], filtered(samples[:, :1500], 64.0, 0.5, 8.0, bridge_seconds=1.0))
    np.testing.assert_array_equal(whole[:, 1700:], filtered(samples[:, 1700:], 64.0, 0.5, 8.0, bridge_seconds=1.0))


@pytest.mark.parametrize("gap", [5, 200])
def test_missing_samples_stay_missing_and_only_those_when_the_gap_is_bridged(gap: int) -> None:
    samples = RNG.normal(size=(1, 4000))
    samples[0, 1500 : 1500 + gap] = np.nan
    got = filtered(samples, 64.0, 0.5, 8.0, bridge_seconds=0.25)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(samples))


def test_what_lies_in_a_gap_cannot_reach_the_other_side() -> None:
    samples = RNG.normal(size=(1, 4000))
    samples[0, 1500:1700] = np.nan
    louder = samples.copy()
    louder[0, :1500] *= 100
    a, b = (filtered(x, 64.0, 0.5, 8.0, bridge_seconds=1.0) for x in (samples, louder))
    np.testing.assert_array_equal(a[:, 1700:], b[:, 1700:])


def test_a_stretch_too_short_for_the_filter_is_masked() -> None:
    samples = np.full((1, 1000), np.nan)
    samples[0, 100:120] = 1.0
    assert np.isnan(filtered(samples, 64.0, 0.5, 8.0, bridge_seconds=0.25)).all()


def test_a_low_pass_above_what_the_rate_holds_changes_nothing() -> None:
    samples = RNG.normal(size=(1, 100))
    np.testing.assert_array_equal(filtered(samples, 4.0, None, 15.0, bridge_seconds=1.0), samples)


def test_resampling_equals_scipy_and_keeps_time() -> None:
    samples = np.sin(2 * np.pi * 3 * np.arange(5000) / 500)[None]
    got = at_rate(samples, 500.0, 128.0)
    np.testing.assert_allclose(got[0], resample_poly(samples[0], 32, 125, padtype="line"))
    t = np.arange(got.shape[1]) / 128
    np.testing.assert_allclose(got[0, 30:-30], np.sin(2 * np.pi * 3 * t)[30:-30], atol=0.01)


def test_an_odd_rate_keeps_time_over_an_hour() -> None:
    rate, n = 256.41, round(256.41 * 3600)
    samples = np.sin(2 * np.pi * 0.5 * np.arange(n) / rate)[None]
    got = at_rate(samples, rate, 4.0)
    np.testing.assert_allclose(
        got[0, -200:-100], np.sin(2 * np.pi * 0.5 * np.arange(got.shape[1]) / 4.0)[-200:-100], atol=0.01
    )


def test_resampling_never_fills_a_gap() -> None:
    samples = RNG.normal(size=(1, 5000))
    samples[0, 1000:1500] = np.nan
    got = at_rate(samples, 500.0, 128.0)
    t = np.arange(got.shape[1]) / 128
    assert np.isnan(got[0, (t >= 2.0) & (t < 3.0)]).all()
    assert np.isfinite(got[0, (t < 1.99) | (t > 3.01)]).all()


def test_the_grid_starts_at_zero_and_reads_by_time() -> None:
    times = grid_times(10.1)
    assert times[0] == 0 and times[-1] == 10.0 and len(times) == 41
    signal = np.arange(20, dtype=float)[None]
    got = on_grid(signal, 2.0, 1.0, times)
    assert np.isnan(got[0, times < 1.0]).all()
    np.testing.assert_allclose(got[0, (times >= 1) & (times <= 10)], (times[(times >= 1) & (times <= 10)] - 1.0) * 2)


def test_the_grid_is_missing_wherever_a_neighbour_is() -> None:
    signal = np.ones((1, 10))
    signal[0, 4] = np.nan
    got = on_grid(signal, 1.0, 0.0, grid_times(10.0))[0]
    times = grid_times(10.0)
    np.testing.assert_array_equal(np.isnan(got), (times > 3) & (times < 5))


def test_stretches_join_over_short_gaps_only() -> None:
    row = np.ones(100)
    row[20:23] = np.nan
    row[50:60] = np.nan
    assert segments(row, 3, 1) == [(0, 50), (60, 100)]
    assert segments(row, 2, 25) == [(23, 50), (60, 100)]


def test_a_bridge_is_a_straight_line() -> None:
    np.testing.assert_allclose(bridged(np.array([1.0, np.nan, np.nan, 4.0])), [1, 2, 3, 4])


def test_a_moving_mean_counts_valid_samples_only() -> None:
    row = np.array([[1.0, 2.0, np.nan, 4.0, 5.0]])
    np.testing.assert_allclose(moving_mean(row, 3)[0], [1.5, 1.5, np.nan, 4.5, 4.5])


@pytest.mark.parametrize("rate", [102.0, 128.0, 512.0])
@pytest.mark.parametrize("edges", [(1.0, 4.0), (8.0, 13.0), (30.0, 45.0)])
def test_a_band_of_two_passes_halves_the_power_at_its_edges(edges: tuple[float, float], rate: float) -> None:
    sections = butter(6, edges_of_two_passes(rate, *edges, 6), "bandpass", fs=rate, output="sos")
    _, response = sosfreqz(sections, worN=list(edges), fs=rate)
    np.testing.assert_allclose(np.abs(response) ** 4, 0.5, rtol=1e-6)


def test_blocks_know_only_valid_samples() -> None:
    row = np.array([1.0, 9.0, np.nan, 4.0, np.nan, np.nan, np.nan, np.nan, 5.0, 7.0])
    np.testing.assert_array_equal(block_medians(row, 4), [4.0, np.nan, 6.0])
    np.testing.assert_allclose(block_means(row, 4), [14 / 3, np.nan])
    np.testing.assert_array_equal(block_means(row, 1), row)


def test_noise_is_that_of_the_minute_and_neither_outliers_nor_slow_changes_are() -> None:
    row = RNG.normal(size=1200) * np.repeat([1.0, 5.0], 600) + 100 * np.sin(np.arange(1200) / 500)
    row[::50] = 1e6
    np.testing.assert_allclose(local_noise(row, 10.0), np.repeat([1.0, 5.0], 600), rtol=0.15)


def test_the_rims_of_noise_have_no_more_slow_power_than_its_middle() -> None:
    """Turned over around its last sample (scipy's default), noise goes on at another level, and the filter follows."""
    noise = np.random.default_rng(5).normal(size=(400, 1600)) + np.linspace(1e4, 2e4, 1600)
    slow = np.square(filtered(noise, 16.0, 0.05, 0.5, bridge_seconds=0.0)).mean(axis=0)
    assert slow[:80].mean() < 1.6 * slow[700:900].mean() and slow[-80:].mean() < 1.6 * slow[700:900].mean()


@pytest.mark.parametrize(
    ("rate", "low", "high"), [(64.0, 0.5, 8.0), (16.0, 0.05, 3.0), (32.0, 0.5, 8.0), (64.0, 0.1, 15.0)]
)
@pytest.mark.parametrize("shape", ["noise", "drift", "wave"])
def test_the_size_in_a_band_is_estimated_without_running_the_filter(
    rate: float, low: float, high: float, shape: str
) -> None:
    random = np.random.default_rng(3)
    t = np.arange(int(600 * rate)) / rate
    row = {"noise": random.normal(size=len(t)), "drift": 50 * np.sin(t / 200), "wave": np.sin(2 * np.pi * 1.1 * t)}[
        shape
    ]
    samples = np.stack([row, row, np.full_like(row, np.nan)])
    samples[1, 1000:1300] = np.nan
    exact = np.nanmedian(np.abs(filtered(samples[:2], rate, low, high, bridge_seconds=1.0)), axis=1)
    estimated = size_in_band(samples, rate, low, high, bridge_seconds=1.0)
    assert estimated[2] == 0.0
    if shape == "drift":  # nearly nothing is left of it, in either way
        assert (np.maximum(estimated[:2], exact) < 0.01).all()
    else:
        assert estimated[:2] == pytest.approx(exact, rel=0.1)


def test_without_a_low_edge_all_that_a_filter_can_be_run_over_is_left() -> None:
    samples = np.full((3, 400), np.nan)
    samples[0, 100:300] = 1.0
    samples[1, 100:105] = 1.0  # too short for the filter
    estimated = size_in_band(samples, 4.0, None, 1.0, bridge_seconds=1.0)
    left = np.isfinite(filtered(samples, 4.0, None, 1.0, bridge_seconds=1.0)).any(axis=1)
    assert estimated.tolist() == [np.inf, 0.0, 0.0]
    assert left.tolist() == [True, False, False]


def test_a_filter_is_designed_once_for_all_who_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.signal

    from biopercept.preprocessing.beat_detection import _pulse_peaks
    from biopercept.preprocessing.electrodermal import tonic_and_phasic
    from biopercept.preprocessing.settings import CleaningSettings

    designs: list[tuple[object, ...]] = []
    butter = scipy.signal.butter

    def counted(*words: object, **more: object) -> object:
        designs.append(words)
        return butter(*words, **more)

    monkeypatch.setattr(scipy.signal, "butter", counted)
    rate, settings = 67.0, CleaningSettings()  # a rate that nothing else has
    pulse = np.sin(2 * np.pi * 1.1 * np.arange(4000) / rate)
    for _ in range(3):
        _pulse_peaks(pulse, rate, settings)
        _, phasic = tonic_and_phasic(2 + pulse, rate, settings)
    assert len(designs) == 2
    sections = butter(2, settings.eda_tonic_hz, "highpass", fs=rate, output="sos")
    assert phasic.tobytes() == np.asarray(scipy.signal.sosfiltfilt(sections, 2 + pulse)).tobytes()
