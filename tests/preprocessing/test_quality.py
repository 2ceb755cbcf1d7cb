"""Quality is the valid share, and lower where the rhythm was not found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.features import window_quality
from biopercept.recording import Recording, Signal

Maker = Callable[..., Signal]


def test_quality_is_the_valid_share_of_each_second(
    make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    samples = 33 + 0.01 * np.sin(np.arange(400) / 20)
    samples[100:140] = np.nan
    clean = clean_recording(make_recording(make_signal("temp", 4.0, samples)))
    expected = np.ones(100)
    expected[25:35] = 0
    np.testing.assert_array_equal(clean.quality["TEMP"], expected[None])


def test_a_signal_that_starts_late_has_no_quality_before(
    make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    clean = clean_recording(make_recording(make_signal("hr", 1.0, np.full(50, 70.0), start_seconds=10.0)))
    np.testing.assert_array_equal(clean.quality["HR"][0], np.r_[np.zeros(10), np.ones(50)])


def test_window_quality_is_the_mean_over_its_seconds_in_signal_order(
    make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    temp = 33 + 0.01 * np.sin(np.arange(480) / 20)
    temp[240:360] = np.nan
    clean = clean_recording(make_recording(make_signal("temp", 4.0, temp), make_signal("hr", 1.0, np.full(120, 70.0))))
    got = window_quality(clean, [0.0, 30.0, 60.0], 60.0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[:, 0], [1.0, 0.5, 0.5])
    assert [s.name for s in clean.recording.signals] == ["TEMP", "HR", "heart_rate"]
    np.testing.assert_allclose(got[:, 1:], 1.0, atol=0.02)


def test_an_ecg_of_noise_has_no_quality_and_a_good_one_has(
    make_signal: Maker,
    make_recording: Callable[..., Recording],
    make_ecg: Callable[..., np.ndarray],
    make_beats: Callable[..., np.ndarray],
) -> None:
    good = make_ecg(make_beats(120), 120, 250.0)
    half = good.copy()
    half[250 * 60 :] = np.random.default_rng(0).normal(0, 0.3, 250 * 60)
    quality = clean_recording(make_recording(make_signal("ecg", 250.0, half))).quality["ECG"][0]
    assert quality[5:50].min() > 0.9 and quality[70:].max() < 0.1
