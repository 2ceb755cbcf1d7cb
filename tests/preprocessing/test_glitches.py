"""Single samples that no body gave are masked where they are planted, and nowhere in signals without them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.screening import glitches
from biopercept.preprocessing.variability import interval_features
from biopercept.recording import Channel, Recording, Signal

Samples = np.ndarray


def planted_pacing(ecg: Samples, beats: Samples, rate: float, height_mv: float) -> Samples:
    """Return an ECG with a pulse of one sample before each P wave and each QRS complex."""
    out = ecg.copy()
    at = np.round((beats[:, None] - np.array([0.2, 0.05])) * rate).astype(int).ravel()
    out[at[(at >= 0) & (at < len(out))]] += height_mv
    return out


@pytest.mark.parametrize("rate", [80.0, 128.0, 250.0, 500.0, 1000.0])
def test_a_paced_heart_has_its_own_rate_and_variability(
    rate: float,
    make_beats: Callable[..., Samples],
    make_ecg: Callable[..., Samples],
    make_signal: Callable[..., Signal],
    make_recording: Callable[..., Recording],
) -> None:
    beats = make_beats(90.0)
    ecg = planted_pacing(make_ecg(beats, 90.0, rate), beats, rate, 8.0)
    clean = clean_recording(make_recording(make_signal("ecg", rate, ecg)))
    mean, _, rmssd, *_, coverage = interval_features(clean.beats, np.array([10.0]), 60.0)[0]
    inside = beats[(beats >= 10) & (beats < 70)]
    assert mean == pytest.approx(1000 * np.diff(inside).mean(), rel=0.005)
    assert np.expm1(rmssd) == pytest.approx(1000 * np.sqrt(np.mean(np.diff(np.diff(inside)) ** 2)), rel=0.15)
    assert coverage > 0.95


@pytest.mark.parametrize("rate", [80.0, 100.0, 128.0, 180.0, 200.0, 500.0])
@pytest.mark.parametrize("width", [0.005, 0.008, 0.012])
def test_the_top_of_a_narrow_qrs_complex_is_no_glitch(rate: float, width: float) -> None:
    t = np.arange(round(60 * rate)) / rate
    out = np.random.default_rng(2).normal(0, 0.005, len(t))
    for beat in np.arange(0.5, 60, 0.8571):
        for delay, spread, height in (
            (-0.028, 0.009, -0.12),
            (0.0, width, 1.0),
            (0.03, 0.01, -0.2),
            (0.2, 0.035, 0.25),
        ):
            out += height * np.exp(-0.5 * ((t - beat - delay) / spread) ** 2)
    assert not glitches(out, rate, "ecg").any()


@pytest.mark.parametrize(
    ("modality", "rate", "hz"), [("bvp", 64.0, 1.2), ("bvp", 16.0, 3.0), ("resp", 25.0, 0.2), ("resp", 4.0, 0.7)]
)
def test_lost_samples_are_found_in_waves_and_only_they(modality: str, rate: float, hz: float) -> None:
    rng = np.random.default_rng(4)
    wave = np.sin(2 * np.pi * hz * np.arange(round(120 * rate)) / rate) + rng.normal(0, 0.02, round(120 * rate))
    assert not glitches(wave, rate, modality).any()
    planted = np.sort(rng.choice(np.arange(2, len(wave) - 2, 5), 8, replace=False))
    wave[planted] = -9.0
    np.testing.assert_array_equal(np.flatnonzero(glitches(wave, rate, modality)), planted)


def test_breathing_with_wild_samples_has_its_rate(
    make_signal: Callable[..., Signal], make_recording: Callable[..., Recording]
) -> None:
    rng = np.random.default_rng(5)
    belt = np.sin(2 * np.pi * 0.25 * np.arange(25 * 180) / 25) + rng.normal(0, 0.02, 25 * 180)
    belt[rng.choice(len(belt), 40, replace=False)] = 50.0
    clean = clean_recording(make_recording(make_signal("resp", 25.0, belt)))
    rate = clean.recording.signal("resp_rate").read()[0]
    assert np.nanmedian(rate) == pytest.approx(15.0, abs=0.1)
    assert np.isfinite(rate).mean() > 0.9
    assert any("single samples" in note for note in clean.notes)


def test_lost_samples_of_one_electrode_do_not_pass_for_gamma(
    made_eeg: Samples, eeg_channels: tuple[Channel, ...]
) -> None:
    def gamma(samples: Samples) -> Samples:
        signal = Signal.from_samples("EEG", "eeg", "uV", 256.0, samples, eeg_channels)
        clean = clean_recording(Recording("S1", "", "rest", (signal,)))
        return np.nanmean(clean.recording.signal("eeg_gamma").read(), axis=1)

    damaged = made_eeg.copy()
    damaged[4, np.random.default_rng(6).choice(made_eeg.shape[1], 30, replace=False)] = -1000.0
    np.testing.assert_allclose(gamma(damaged), gamma(made_eeg), atol=0.05)
