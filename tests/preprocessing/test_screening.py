"""Impossible samples are masked, each under one reason, and possible ones are untouched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import screened
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
        (lambda x: np.where(np.arange(len(x)) < 500, 1e308, x), "outside the plausible -20 to 20 mV"),
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
