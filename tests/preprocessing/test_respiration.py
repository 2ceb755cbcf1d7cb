"""Breathing has the planted rate and amplitude, and noise has none."""

from __future__ import annotations

import numpy as np
import pytest

from biopercept.preprocessing.gaps import filtered, grid_times
from biopercept.preprocessing.respiration import rate_and_amplitude
from biopercept.preprocessing.settings import CleaningSettings

SETTINGS = CleaningSettings()
RATE = 25.0
T = np.arange(180 * RATE) / RATE


def _derive(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times = grid_times(180)
    cleaned = filtered(raw[None], RATE, 0.05, 3.0, bridge_seconds=2.0)[0]
    return times, *rate_and_amplitude(cleaned, RATE, times, 0.0, SETTINGS)


@pytest.mark.parametrize("per_minute", [8.0, 15.0, 28.0])
@pytest.mark.parametrize("height", [0.5, 40.0])
def test_rate_and_amplitude_are_the_planted_ones(per_minute: float, height: float) -> None:
    breathing = height * np.sin(2 * np.pi * per_minute / 60 * T) + np.random.default_rng(0).normal(0, 0.01, len(T))
    times, rate, amplitude = _derive(100 + breathing)
    inner = (times > 15) & (times < 165)
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
