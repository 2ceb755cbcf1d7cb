"""Quality is the valid share, and lower where the rhythm was not found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from biopercept.modalities import MODALITIES
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.features import window_quality
from biopercept.preprocessing.quality import (
    FLAT,
    IMPLAUSIBLE_BEATS,
    MISSING,
    NO_REFERENCE,
    REASONS,
    SignalQuality,
    valid_share,
)
from biopercept.recording import Channel, Recording, Signal

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


@pytest.mark.parametrize("modality", ["ecg", "bvp", "eda", "resp", "emg", "eog", "temp", "acc", "hr", "spo2"])
@pytest.mark.parametrize("rate", [1.0, 4.0, 31.25, 100.0, 700.0])
def test_nothing_is_masked_without_a_reason(
    modality: str, rate: float, make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    low, high = MODALITIES[modality].plausible
    rng = np.random.default_rng(4)
    n = round(90.3 * rate)
    samples = 0.5 * (max(low, -100.0) + min(high, 100.0)) + rng.normal(0, 0.3, n)
    for start, damage in ((5.0, np.nan), (12.0, 3 * high), (20.0, samples[0]), (26.1, np.inf), (31.0, -0.5)):
        samples[round(start * rate) : round((start + rng.uniform(0.1, 3.0)) * rate)] = damage
    samples[rng.random(n) < 0.01] = np.nan
    steady = make_signal("temp", 4.0, 33 + 0.01 * np.sin(np.arange(400)), name="STEADY")
    signal = make_signal(modality, rate, samples, name="SPOILT", start_seconds=2.4)
    clean = clean_recording(make_recording(signal, steady))
    if "SPOILT" in clean.ratings:
        shares = clean.ratings["SPOILT"].shares
        lost = 1.0 - valid_share(clean.recording.signal("SPOILT"), len(clean.quality["STEADY"][0]))
        assert lost.sum() > 3
        assert (sum(shares.values()) >= lost - 1e-9).all()
        assert set(shares) <= set(REASONS)


def test_eeg_that_loses_its_reference_or_a_channel_says_so(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_recording: Callable[..., Recording]
) -> None:
    samples = made_eeg.copy()
    samples[3] = 0.0
    samples[2:, 20 * 256 : 23 * 256] = np.nan
    eeg = Signal.from_samples("EEG", "eeg", "uV", 256.0, samples, eeg_channels)
    clean = clean_recording(make_recording(eeg))
    shares = clean.ratings["EEG"].shares
    assert (shares[FLAT][3, :20] == 1).all() and (shares[NO_REFERENCE][:2, 20:23] > 0.9).all()
    assert (shares[MISSING][4:, 20:23] == 1).all()
    lost = 1.0 - valid_share(clean.recording.signal("EEG"), 60)
    assert (sum(shares.values()) >= lost - 1e-9).all()


def test_intervals_of_a_device_are_missing_or_implausible(
    make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    intervals = np.full(120, 0.8)
    intervals[50:54] = 2.3
    times = np.cumsum(intervals)
    times[80:] += 30.0
    signal = replace(make_signal("ibi", 1.25, intervals), times=times)
    clean = clean_recording(make_recording(signal, make_signal("temp", 4.0, 33 + 0.01 * np.sin(np.arange(600)))))
    shares = clean.ratings["IBI"].shares
    assert set(np.flatnonzero(shares[IMPLAUSIBLE_BEATS][0])) <= set(range(39, 51))
    assert (shares[IMPLAUSIBLE_BEATS][0, 41:48] == 1).all()
    assert (shares[MISSING][0, 71:98] == 1).all()


def test_a_stored_mask_has_the_bits_of_the_reasons() -> None:
    shares = {FLAT: np.array([[0, 1, 0.04, 1]]), MISSING: np.array([[0, 0, 0, 0.05]])}
    quality = SignalQuality(np.ones((1, 4)), shares, np.ones((1, 4)))
    names = list(REASONS)
    flat, missing = 1 << names.index(FLAT), 1 << names.index(MISSING)
    np.testing.assert_array_equal(quality.reasons(), [[0, flat, 0, flat | missing]])
