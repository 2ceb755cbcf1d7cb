"""Impossible samples are masked, each under one reason, and possible ones are untouched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.screening import jumps, screened, slow_level, spikes
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import Signal

SETTINGS = CleaningSettings()


def _noise(n: int) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.3, n)


def test_a_good_signal_passes_unchanged_and_without_a_note(make_signal: Callable[..., Signal]) -> None:
    samples = _noise(2000)[None]
    out, notes = screened(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    np.testing.assert_array_equal(out, samples)
    assert notes == ()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda x: np.where(np.arange(len(x)) < 500, np.nan, x), "missing"),
        (lambda x: np.where(np.arange(len(x)) < 500, np.inf, x), "missing"),
        (lambda x: np.where(np.arange(len(x)) < 500, 1e308, x), "outside the plausible -20 to 20 mV around its level"),
        (lambda x: np.where(np.arange(len(x)) < 500, 0.123, x), "flat for 1 s or more"),
        (lambda x: np.where(np.arange(len(x)) % 500 < 50, 5.0, x), "at the rail for 0.1 s or more"),
    ],
)
def test_each_fault_is_masked_and_named(
    damage: Callable[[np.ndarray], np.ndarray], reason: str, make_signal: Callable[..., Signal]
) -> None:
    good = _noise(2000)
    bad = damage(good)
    out, notes = screened(bad[None], make_signal("ecg", 250.0, bad), SETTINGS)
    changed = bad != good
    assert np.isnan(out[0, changed]).all()
    np.testing.assert_array_equal(out[0, ~changed], good[~changed])
    assert notes == (f"ECG: {100 * changed.mean():.1f} % masked, {reason}.",)


def test_the_samples_given_are_not_changed(make_signal: Callable[..., Signal]) -> None:
    samples = np.full((1, 1000), 99.0)
    screened(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    assert (samples == 99.0).all()


def test_a_temperature_may_stand_still(make_signal: Callable[..., Signal]) -> None:
    samples = np.full((1, 4000), 33.0)
    out, notes = screened(samples, make_signal("temp", 4.0, samples), SETTINGS)
    assert np.isfinite(out).all() and notes == ()


def test_skin_conductance_off_the_skin_is_named(make_signal: Callable[..., Signal]) -> None:
    samples = 1 + 0.01 * _noise(400)[None]
    samples[0, :100] = 0.001
    out, notes = screened(samples, make_signal("eda", 4.0, samples), SETTINGS)
    assert np.isnan(out[0, :100]).all() and np.isfinite(out[0, 100:]).all()
    assert notes == ("EDA: 25.0 % masked, below 0.01 uS (electrode off the skin).",)


@pytest.mark.parametrize("rate", [4.0, 15.4, 64.0])
def test_skin_conductance_cut_off_at_the_device_s_limit_is_masked(
    rate: float, make_signal: Callable[..., Signal]
) -> None:
    times = np.arange(round(300 * rate)) / rate
    whole = 5 + np.sin(2 * np.pi * times / 30) + 0.001 * _noise(len(times))
    cut = np.minimum(whole, 5.5)
    out, notes = screened(cut[None], make_signal("eda", rate, cut), SETTINGS)
    assert np.isnan(out[0, whole > 5.52]).mean() > 0.98 and np.isfinite(out[0, whole < 5.5]).all()
    assert "at its highest value for 1 s or more, again and again" in notes[0]


def test_the_flat_top_of_one_response_in_a_coarse_converter_is_kept(make_signal: Callable[..., Signal]) -> None:
    times = np.arange(1200) / 4.0
    coarse = np.round((5 + 0.002 * times + np.exp(-((times - 150) ** 2) / 800)) / 0.01) * 0.01
    assert (coarse == coarse.max()).sum() > 12
    out, notes = screened(coarse[None], make_signal("eda", 4.0, coarse), SETTINGS)
    assert np.isfinite(out).all() and notes == ()


def test_channels_with_the_same_fault_share_one_note(make_signal: Callable[..., Signal]) -> None:
    samples = np.stack([_noise(2000), _noise(2000)[::-1], _noise(2000) * 2])
    samples[:2, :200] = np.nan
    _, notes = screened(samples, make_signal("eeg", 250.0, samples), SETTINGS)
    assert notes == ("EEG, channel EEG1, EEG2: up to 10.0 % masked, missing.",)


def test_a_sample_is_counted_under_one_reason_only(make_signal: Callable[..., Signal]) -> None:
    """A constant is flat, and at its own rail too: one sentence is enough."""
    samples = np.full((1, 2000), 5.0)
    _, notes = screened(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    assert notes == ("ECG: 100.0 % masked, flat for 1 s or more.",)


@pytest.mark.parametrize("rate", [4.0, 15.4, 64.0, 700.0])
@pytest.mark.parametrize("height", [0.02, 0.5, 5.0])
def test_spikes_are_masked_and_nothing_else_is(rate: float, height: float, make_signal: Callable[..., Signal]) -> None:
    t = np.arange(round(200 * rate)) / rate
    late = np.clip(t[:, None] - np.array([20.0, 60.0, 100.0, 140.0]), 0, None)
    skin = 3 + 0.01 * t + np.sum(np.array([0.05, 0.3, 1.0, 3.0]) * (late / 1.0) * np.exp(1 - late / 1.0), axis=1)
    skin += 0.0005 * np.random.default_rng(0).normal(size=len(t))
    at = np.round(np.array([10.0, 40.0, 80.3, 120.0, 170.0]) * rate).astype(int)
    damaged = skin.copy()
    damaged[at] += height * np.array([1, -1, 1, 1, -1])
    out, _ = screened(damaged[None], make_signal("eda", rate, damaged), SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(out[0])), at)


def test_spikes_of_a_quarter_of_a_second_are_masked_and_a_bump_of_a_second_is_not() -> None:
    t = np.arange(400) / 8.0
    short, long = (3 + 0.4 * (np.abs(t - 25.06) < half) for half in (0.13, 0.5))
    assert spikes(short, 8.0, 0.01).sum() == 2
    assert not spikes(long, 8.0, 0.01).any()


def test_a_spike_of_the_temperature_is_masked(make_signal: Callable[..., Signal]) -> None:
    samples = 33 + 0.01 * _noise(400)
    samples[200] += 3.0
    out, notes = screened(samples[None], make_signal("temp", 4.0, samples), SETTINGS)
    assert np.flatnonzero(np.isnan(out[0])).tolist() == [200]
    assert notes == ("TEMP: 0.2 % masked, spikes that come and go within 0.3 s.",)


@pytest.mark.parametrize("rate", [4.0, 64.0])
def test_a_jump_is_masked_with_more_around_than_a_filter_crosses(rate: float) -> None:
    skin = np.full(round(100 * rate), 2.0)
    skin[round(50 * rate) :] = 8.0
    masked = np.flatnonzero(jumps(skin, rate, SETTINGS)) / rate
    assert 48 < masked[0] < 49.5 and 50.5 < masked[-1] < 52
    assert masked[-1] - masked[0] > SETTINGS.slow_bridge_seconds


def test_a_sensor_that_is_noisy_does_not_jump() -> None:
    skin = 3 + np.random.default_rng(0).normal(0, 0.05, 700 * 60)
    assert np.abs(np.diff(skin)).max() * 700 > SETTINGS.eda_max_slope
    assert not jumps(skin, 700.0, SETTINGS).any()


def test_the_slow_level_follows_drift_and_steps_and_no_spike() -> None:
    t = np.arange(256 * 60) / 256
    level = 1e4 + 50 * t + np.where(t > 30, -2e4, 0)
    row = level + 20 * np.sin(2 * np.pi * 10 * t)
    row[5000:5100] = 1e6
    row[8000:9000] = np.nan
    away = np.abs(slow_level(row, 256.0, 1.0) - level)
    assert away[np.abs(t - 30) > 1.5].max() < 60


def test_a_level_that_no_electrode_has_is_masked(make_signal: Callable[..., Signal]) -> None:
    """Raw counts of a converter that were called millivolts."""
    counts = 2048 + 5 * _noise(2000)
    out, notes = screened(counts[None], make_signal("ecg", 250.0, counts), SETTINGS)
    assert np.isnan(out).all() and notes == (
        "ECG: 100.0 % masked, outside the plausible -20 to 20 mV around its level.",
    )


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("n", [5, 9, 200])
def test_values_around_are_those_of_scipy(n: int, size: int) -> None:
    from scipy.ndimage import maximum_filter1d, median_filter

    from biopercept.preprocessing.screening import _around

    row = np.random.default_rng(n).normal(size=n)
    assert np.median(_around(row, size, "edge"), axis=1).tolist() == median_filter(row, size, mode="nearest").tolist()
    assert _around(row, size, "symmetric").max(axis=1).tolist() == maximum_filter1d(row, size).tolist()
