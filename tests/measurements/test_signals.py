"""Breathing, skin responses and EEG band power beside what was planted, and beside mne's Welch method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import clean_recording
from biopercept.recording import Channel, Recording, Signal
from measurements import brain, breathing, skin
from measurements.planted_signals import PEAK_SECONDS, breath_peaks, chest_of, half_recovery_seconds, response

# --- what is planted is what it says ---


def test_a_planted_response_has_its_height_peak_and_half_recovery() -> None:
    t = np.arange(0, 20, 1e-3)
    assert response(t).max() == pytest.approx(1.0, abs=1e-6)
    assert t[response(t).argmax()] == pytest.approx(PEAK_SECONDS, abs=1e-3)
    assert response(np.array([PEAK_SECONDS + half_recovery_seconds()]))[0] == pytest.approx(0.5, abs=1e-4)


def test_planted_breaths_peak_where_they_say() -> None:
    peaks = breath_peaks(12.0, 60.0, irregular=0.1)
    chest = chest_of(peaks, 60.0, 100.0, inspiration=0.33)
    np.testing.assert_allclose(chest[np.round(peaks * 100).astype(int)], 1.0, atol=1e-3)
    assert chest.min() == pytest.approx(-1.0, abs=1e-3)


# --- breathing ---


@pytest.mark.parametrize("name", breathing.DIFFICULTIES)
@pytest.mark.parametrize("per_minute", [4.9, 15.0, 42.0])
def test_breaths_a_minute_are_the_planted_ones(per_minute: float, name: str) -> None:
    for rate in (4, 25, 250):
        got = breathing.outcome(per_minute, rate, breathing.DIFFICULTIES[name])
        assert abs(got.error) < 0.3, rate
        assert got.coverage > 0.8, rate


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("path", "column", "rate"),
    [
        ("neurokit_csv/bio_eventrelated_100hz.csv", "RSP", 100.0),
        ("neurokit_csv/bio_resting_5min_100hz.csv", "RSP", 100.0),
        ("neurokit_csv/bio_resting_8min_100hz.csv", "RSP", 100.0),
        ("wfdb_multifreq_drivedb/drive17a.hea", "RESP", 31.0),
        ("wfdb_multifreq_drivedb/drive17b.hea", "RESP", 31.0),
    ],
)
def test_breathing_of_people_is_that_of_neurokit(path: str, column: str, rate: float, reference_data: Path) -> None:
    """The typical breath: neurokit2 takes every extremum for one where a person holds the breath or talks."""
    import neurokit2 as nk
    import pandas as pd

    from biopercept.loaders.loading import load_recording

    file = reference_data / "formats" / path
    if file.suffix == ".csv":
        signal = Signal.from_samples("RESP", "resp", "a.u.", rate, pd.read_csv(file)[column].to_numpy(dtype=float))
    else:
        signal = load_recording(file).signals_of("resp")[0]
    clean = clean_recording(Recording("S1", "", "r", (signal,)))
    smooth = nk.rsp_clean(signal.read()[0], sampling_rate=signal.sampling_rate)
    peaks = nk.rsp_findpeaks(smooth, sampling_rate=signal.sampling_rate)["RSP_Peaks"]
    theirs = 60.0 * signal.sampling_rate / np.median(np.diff(peaks))
    assert 60.0 / np.nanmedian(clean.breaths.periods) == pytest.approx(theirs, abs=0.5)
    assert np.isfinite(clean.recording.signal("resp_rate").read()).mean() > 0.8


# --- skin responses ---


@pytest.mark.parametrize("name", skin.DIFFICULTIES)
@pytest.mark.parametrize("rate", [4, 15.4, 64, 700])
def test_skin_responses_are_the_planted_ones(rate: float, name: str) -> None:
    got = skin.outcome(rate, skin.DIFFICULTIES[name])
    assert (got.missed, got.extra) == (0, 0)
    is_steep = abs(skin.DIFFICULTIES[name].rise) == 3
    assert abs(got.height) < (20 if is_steep else 10)
    assert abs(got.onset) < 0.3 and abs(got.rise) < 0.4
    assert abs(got.half_recovery) < (2.5 if is_steep else 1.3)


@pytest.mark.parametrize("rate", [4, 64, 700])
@pytest.mark.parametrize("noise", [0.0005, 0.005, 0.02])
def test_noise_and_spikes_without_a_response_have_none(noise: float, rate: float) -> None:
    rng = np.random.default_rng(3)
    samples = 2 + noise * rng.normal(size=300 * rate)
    samples[rng.choice(len(samples), 20, replace=False)] += 5.0
    clean = skin.cleaned(samples, rate)
    assert len(clean.responses) <= 1
    np.testing.assert_allclose(clean.responses.searched, [[0.0, 300.0]], atol=0.2)


# --- band power ---


@pytest.fixture(scope="module")
def powers_at() -> dict[int, dict[str, np.ndarray]]:
    return {rate: brain.powers(brain.made_eeg(rate)) for rate in brain.SAMPLING_RATES}


@pytest.mark.parametrize("rate", [rate for rate in brain.SAMPLING_RATES if rate != 128])
def test_band_power_does_not_depend_on_the_sampling_rate(
    rate: int, powers_at: dict[int, dict[str, np.ndarray]]
) -> None:
    for band, at_128 in powers_at[128].items():
        np.testing.assert_allclose(powers_at[rate][band], at_128, atol=0.02, err_msg=band)


@pytest.mark.parametrize("rate", [128, 500, 2048])
def test_band_power_of_made_eeg_is_that_of_mne(rate: int) -> None:
    for band, off in brain.differences(brain.made_eeg(rate)).items():
        assert len(off) == len(brain.NAMES)
        np.testing.assert_allclose(off, 0.0, atol=0.1, err_msg=band)


def test_an_even_spectrum_has_the_power_of_its_bandwidth() -> None:
    """White noise of 1 uV^2 a hertz: the power of a band is its width, also by Parseval's theorem alone."""
    rng = np.random.default_rng(0)
    rate, names = 256.0, ("F3", "P4")  # two channels are not referenced
    white = np.sqrt(rate / 2) * rng.normal(size=(2, round(300 * rate)))
    got = brain.powers(Signal.from_samples("EEG", "eeg", "uV", rate, white, tuple(Channel(n) for n in names)))
    for band, (low, high) in brain.BANDS.items():
        np.testing.assert_allclose(got[band], np.log(high - low), atol=0.06, err_msg=band)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["Subject00_1", "Subject05_2", "Subject11_1"])
def test_band_power_of_real_eeg_is_that_of_mne(name: str, reference_data: Path) -> None:
    off = brain.differences(brain.real_eeg(reference_data / "eegmat" / f"{name}.edf"))
    for band, values in off.items():
        assert len(values) >= 15
        assert abs(np.median(values)) < 0.15 and np.abs(values).max() < 0.3, band


# --- offsets ---

RATE, SECONDS = 256.0, 60.0


def _signal(modality: str, offset: float) -> Signal:
    rng = np.random.default_rng(4)
    t = np.arange(round(SECONDS * RATE)) / RATE
    beat = sum(np.exp(-0.5 * ((t - b) / 0.011) ** 2) for b in np.arange(0.5, SECONDS, 0.85))
    pulse = sum(np.exp(-0.5 * ((t - b) / 0.1) ** 2) for b in np.arange(0.5, SECONDS, 0.85))
    samples, unit = {
        "ecg": (beat + 0.01 * rng.normal(size=len(t)), "mV"),
        "bvp": (2e4 * pulse + 10 * rng.normal(size=len(t)), "a.u."),
        "resp": (2e4 * np.sin(2 * np.pi * 0.25 * t) + 200 * rng.normal(size=len(t)), "a.u."),
        "emg": (0.05 * rng.normal(size=len(t)), "mV"),
        "eeg": (10 * rng.normal(size=len(t)), "uV"),
        "eog": (30 * np.sin(2 * np.pi * 0.5 * t) + rng.normal(size=len(t)), "uV"),
    }[modality]
    return Signal.from_samples(modality.upper(), modality, unit, RATE, samples + offset * (1 + 0.05 * t / SECONDS))


@pytest.mark.parametrize(
    ("modality", "offsets"),
    [
        ("ecg", (40.0, -150.0, 290.0)),
        ("emg", (60.0, -290.0)),
        ("eeg", (4200.0, -15_000.0, 250_000.0)),
        ("eog", (7000.0, -200_000.0)),
        ("bvp", (2.6e6, -1.6e7)),
        ("resp", (2.6e6, -1.6e7)),
    ],
)
def test_a_signal_is_the_same_with_and_without_an_offset_that_drifts(modality: str, offsets: tuple[float, ...]) -> None:
    plain = clean_recording(Recording("S1", "", "r", (_signal(modality, 0.0),)))
    for offset in offsets:
        moved = clean_recording(Recording("S1", "", "r", (_signal(modality, offset),)))
        assert moved.notes == plain.notes
        for one, other in zip(moved.recording.signals, plain.recording.signals, strict=True):
            inner = slice(round(20 * one.sampling_rate), -round(20 * one.sampling_rate))
            a, b = one.read()[:, inner], other.read()[:, inner]
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
            scale = np.nanstd(b) if not one.derived_from else 1.0
            np.testing.assert_allclose(a, b, atol=0.02 * scale, err_msg=f"{one.name} {offset}")
