"""Breathing has the planted rate and amplitude, and noise has none."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.preprocessing.gaps import filtered, grid_times
from biopercept.preprocessing.respiration import Breaths, breaths_in, rate_and_amplitude
from biopercept.preprocessing.settings import CleaningSettings

SETTINGS = CleaningSettings()
RATE = 25.0
T = np.arange(180 * RATE) / RATE


def _derive(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times = grid_times(180)
    breaths, is_breathing = _breaths(raw)
    at = np.clip(np.round(times * RATE).astype(int), 0, len(raw) - 1)
    return times, *rate_and_amplitude(breaths, is_breathing[at], times)


def _breaths(raw: np.ndarray, rate: float = RATE) -> tuple[Breaths, np.ndarray]:
    return breaths_in(filtered(raw[None], rate, 0.05, 3.0, bridge_seconds=2.0)[0], rate, 0.0, SETTINGS)


@pytest.mark.parametrize("per_minute", [4.9, 8.0, 15.0, 28.0, 42.0])
@pytest.mark.parametrize("height", [0.5, 40.0])
def test_rate_and_amplitude_are_the_planted_ones(per_minute: float, height: float) -> None:
    breathing = height * np.sin(2 * np.pi * per_minute / 60 * T) + np.random.default_rng(0).normal(0, 0.01, len(T))
    times, rate, amplitude = _derive(100 + breathing)
    inner = (times > 15) & (times < 165)
    np.testing.assert_allclose(rate[inner].mean(), per_minute, atol=0.1)
    np.testing.assert_allclose(rate[inner], per_minute, rtol=0.05)
    np.testing.assert_allclose(amplitude[inner], np.log(2 * height), atol=0.1)


@pytest.mark.parametrize(
    "raw",
    [np.random.default_rng(0).normal(size=len(T)), np.sin(2 * np.pi * 2 * T), np.full(len(T), 5.0)],
    ids=["white noise", "2 Hz", "constant"],
)
def test_what_is_no_breathing_has_no_rate(raw: np.ndarray) -> None:
    _, rate, amplitude = _derive(raw)
    assert np.isnan(rate).all() and np.isnan(amplitude).all()


def test_a_belt_that_falls_off_ends_the_rate() -> None:
    raw = np.sin(2 * np.pi * 0.25 * T)
    raw[T > 90] = np.random.default_rng(1).normal(0, 0.005, int((T > 90).sum()))
    times, rate, _ = _derive(raw)
    assert np.isfinite(rate[(times > 10) & (times < 85)]).all()
    assert np.isnan(rate[times > 100]).all()


def test_a_gap_has_no_rate() -> None:
    raw = np.sin(2 * np.pi * 0.25 * T)
    raw[(T >= 60) & (T < 75)] = np.nan
    times, rate, amplitude = _derive(raw)
    inside = (times >= 60) & (times < 75)
    assert np.isnan(rate[inside]).all() and np.isnan(amplitude[inside]).all()
    np.testing.assert_allclose(rate[(times > 15) & (times < 55)], 15, rtol=0.05)


def test_breaths_are_where_they_were_planted() -> None:
    breaths, is_breathing = _breaths(100 + 0.5 * np.cos(2 * np.pi * 0.25 * (T - 1.5)))
    planted = np.arange(1.5, 180, 4)
    assert len(breaths) == len(planted) and is_breathing.all()
    np.testing.assert_allclose(breaths.times[1:-1], planted[1:-1], atol=0.1)
    np.testing.assert_allclose(breaths.heights[3:-3], 1.0, atol=0.05)
    assert np.isnan(breaths.periods[0])
    np.testing.assert_allclose(breaths.periods[2:-1], 4.0, atol=0.05)


def test_no_breath_spans_a_gap() -> None:
    raw = np.sin(2 * np.pi * 0.25 * T)
    raw[(T >= 60) & (T < 75)] = np.nan
    breaths, is_breathing = _breaths(raw)
    assert not is_breathing[(T >= 60) & (T < 75)].any()
    assert not ((breaths.times >= 60) & (breaths.times < 75)).any()
    assert np.isnan(breaths.periods[breaths.times > 75][0])


def test_ripples_of_noise_are_no_breaths() -> None:
    """A third of the median difference between extrema would be that of ripples, and each of them a breath."""
    raw = np.sin(2 * np.pi * 0.1 * T) + np.random.default_rng(2).normal(0, 0.3, len(T))
    breaths, _ = _breaths(raw)
    assert len(breaths) == 18


@pytest.mark.parametrize("rate", [3.0, 4.0, 6.0, 10.0, 64.0])
def test_even_noise_is_no_breathing_at_any_sampling_rate(rate: float) -> None:
    given = [
        np.isfinite(_breaths(np.random.default_rng(seed).normal(size=round(600 * rate)), rate)[0].periods).sum()
        for seed in range(5)
    ]
    assert sum(given) < 20  # of some 1500 that would be there


def test_a_signal_that_is_sampled_too_slowly_has_no_breaths() -> None:
    breaths, is_breathing = breaths_in(np.sin(2 * np.pi * 0.2 * np.arange(300) / 2.0), 2.0, 0.0, SETTINGS)
    assert len(breaths) == 0 and not is_breathing.any()


def test_over_a_breath_that_was_not_used_the_nearest_speaks() -> None:
    periods = np.array([np.nan, 4.0, 4.0, np.nan, 5.0, 5.0])
    breaths = Breaths(np.array([0.0, 4.0, 8.0, 14.0, 19.0, 24.0]), np.full(6, 2.0), periods)
    times = np.array([4.0, 7.0, 10.0, 12.0, 19.0])
    rate, amplitude = rate_and_amplitude(breaths, np.array([True, True, True, True, False]), times)
    np.testing.assert_allclose(rate, [15, 15, 15, 12, np.nan])
    np.testing.assert_allclose(amplitude[:4], np.log(2.0))


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_drift_without_breathing_has_hardly_any_rate(power: float) -> None:
    """Noise of density 1/f and a random walk: their slow waves are where slow breathing is, but are no rhythm."""
    given = []
    for seed in range(10):
        spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=round(300 * RATE)))
        drift = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** (power / 2), round(300 * RATE))
        breaths, _ = _breaths(drift / drift.std())
        given.append(np.nansum(breaths.periods) / 300)
    assert np.mean(given) < 0.1


@pytest.mark.parametrize("irregular", [0.1, 0.2])
def test_breathing_that_is_somewhat_irregular_has_its_rate(irregular: float) -> None:
    rng = np.random.default_rng(0)
    at = np.cumsum(4.0 * np.exp(irregular * rng.normal(size=60)))
    phase = np.interp(T, at, 2 * np.pi * np.arange(60))
    depth = np.interp(T, at, np.exp(irregular * rng.normal(size=60)))
    breaths, _ = _breaths(depth * np.cos(phase))
    assert np.nansum(breaths.periods) > 0.85 * 180
