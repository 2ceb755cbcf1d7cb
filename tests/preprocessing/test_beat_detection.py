"""Beats are found where they were planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.cardiac import Beats, bvp_beats, ecg_beats
from biopercept.preprocessing.gaps import grid_times
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import rate_series
from biopercept.recording import Signal
from measurements.planted_hearts import Heart, ecg_of, pulse_of, regular_heart, with_premature_beats

SETTINGS = CleaningSettings()
Maker = Callable[..., Signal]
Samples = Callable[..., np.ndarray]


def _found(modality: str, rate: float, samples: np.ndarray, make_signal: Maker) -> Beats:
    return {"ecg": ecg_beats, "bvp": bvp_beats}[modality](samples, make_signal(modality, rate, samples), SETTINGS)[0]


def _away(planted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Seconds from each planted beat, but for those near the ends, to the nearest beat found."""
    inner = planted[(planted > 1.0) & (planted < planted[-1] - 1.0)]
    return np.abs(found[:, None] - inner[None]).min(axis=0)


@pytest.mark.parametrize("rate", [128.0, 256.41, 500.0])
def test_r_peaks_lie_within_8_ms_of_the_planted_times(
    rate: float, make_ecg: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    planted = make_beats(120)
    samples = make_ecg(planted, 120, rate)
    found, notes = ecg_beats(samples, make_signal("ecg", rate, samples, start_seconds=5.0), SETTINGS)
    assert notes == ()
    assert len(found) >= len(planted) - 2
    away = np.abs(found.times[:, None] - (planted + 5.0)[None]).min(axis=1)
    assert away.max() < 0.008


def test_pulse_peaks_and_amplitudes_are_the_planted_ones(
    make_pulse: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    planted = make_beats(120)
    small = make_pulse(planted, 120, 64.0)
    for scale in (1.0, 3.0):
        found, _ = bvp_beats(small * scale, make_signal("bvp", 64.0, small), SETTINGS)
        inner = planted[2:-2]
        assert np.abs(found.times[:, None] - inner[None]).min(axis=0).max() < 0.03
        middle = np.nanmedian(found.amplitudes) / scale
        assert 30 < middle < 80


def test_no_beat_is_found_inside_a_gap_and_no_interval_spans_it(
    make_ecg: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    samples = make_ecg(make_beats(120), 120, 250.0)
    samples[250 * 50 : 250 * 60] = np.nan
    found, _ = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    assert not ((found.times >= 50) & (found.times < 60)).any()
    first_after = np.flatnonzero(found.times >= 60)[0]
    assert np.isnan(found.intervals[first_after])
    times = grid_times(120)
    is_measured = (times < 50) | (times >= 60)
    rate = rate_series(found, is_measured, times, SETTINGS)
    assert np.isnan(rate[~is_measured]).all()
    assert np.isfinite(rate[(times > 2) & (times < 48)]).all() and np.isfinite(rate[(times > 63) & (times < 117)]).all()


NOISES = {
    "white noise": lambda rng, n: rng.normal(0, 0.5, n),
    "hum": lambda rng, n: np.sin(2 * np.pi * 50 * np.arange(n) / 250.0),
    "hum and a little noise": lambda rng, n: np.sin(2 * np.pi * 50 * np.arange(n) / 250.0) + rng.normal(0, 0.001, n),
    "a random walk": lambda rng, n: np.cumsum(rng.normal(0, 0.01, n)),
    "a ramp": lambda rng, n: np.linspace(0, 1, n),
    "nothing": lambda rng, n: np.zeros(n),
    "one spike": lambda rng, n: np.eye(1, n, n // 2)[0],
}


@pytest.mark.parametrize("kind", NOISES)
def test_what_is_no_ecg_gives_no_rate_and_a_reason(kind: str, make_signal: Maker) -> None:
    for seed in range(5):
        samples = NOISES[kind](np.random.default_rng(seed), 250 * 60)
        found, notes = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
        assert not np.isfinite(found.intervals).any()
        assert notes


def test_white_noise_is_no_pulse(make_signal: Maker) -> None:
    for seed in range(5):
        samples = np.random.default_rng(seed).normal(0, 50, 64 * 120)
        found, _ = bvp_beats(samples, make_signal("bvp", 64.0, samples), SETTINGS)
        assert not np.isfinite(found.intervals).any()


def test_a_lead_that_falls_off_gives_a_rate_only_while_it_was_on(
    make_ecg: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    samples = make_ecg(make_beats(120), 120, 250.0)
    samples[250 * 60 :] = np.random.default_rng(0).normal(0, 0.02, 250 * 60)
    found, _ = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    assert (found.times[np.isfinite(found.intervals)] < 63).all()
    assert np.isfinite(found.intervals[found.times < 58]).mean() > 0.9


@pytest.mark.parametrize("rate", [4.0, 25.0])
def test_a_rate_too_low_for_r_peaks_is_said(rate: float, make_signal: Maker) -> None:
    samples = np.random.default_rng(0).normal(size=round(60 * rate))
    found, notes = ecg_beats(samples, make_signal("ecg", rate, samples), SETTINGS)
    assert len(found) == 0
    assert notes == (
        f"ECG: no beats were looked for, because it is sampled at {rate:g} Hz and at least 80 Hz is needed.",
    )


def test_a_beat_in_a_gap_short_enough_to_bridge_is_not_found(
    make_ecg: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    planted = make_beats(60)
    samples = make_ecg(planted, 60, 250.0)
    t = np.arange(len(samples)) / 250.0
    # Only the samples at the peak itself are lost: the bridge leaves enough of the wave to find.
    samples[np.abs(t - planted[30]) < 0.005] = np.nan
    found, _ = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    assert np.abs(found.times - planted[30]).min() > 0.004
    assert np.abs(found.times[:, None] - np.delete(planted, 30)[None]).min(axis=0).max() < 0.008


@pytest.mark.parametrize("heart_rate", [35, 60, 100, 180, 200, 210, 220])
@pytest.mark.parametrize(
    ("modality", "rate"), [("ecg", 80.0), ("ecg", 128.0), ("ecg", 700.0), ("bvp", 32.0), ("bvp", 64.0)]
)
def test_every_plausible_heart_rate_is_found_as_planted(
    modality: str, rate: float, heart_rate: int, make_signal: Maker
) -> None:
    heart = regular_heart(90.0, heart_rate)
    samples = {"ecg": ecg_of, "bvp": pulse_of}[modality](heart, 90.0, rate)
    beats = _found(modality, rate, samples, make_signal)
    assert (_away(heart.times, beats.times) < 0.05).mean() > 0.98
    assert 60.0 / np.nanmean(beats.intervals) == pytest.approx(heart_rate, rel=0.01)
    assert np.isfinite(beats.intervals).sum() > 0.9 * len(heart.times) - 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("rate", [100.0, 128.0, 250.0])
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2])
def test_r_peaks_of_an_inverted_or_noisy_ecg_are_the_planted_ones(
    noise: float, rate: float, sign: float, make_signal: Maker
) -> None:
    heart = regular_heart(120.0, 70.0)
    beats = _found("ecg", rate, sign * ecg_of(heart, 120.0, rate, noise=noise), make_signal)
    away = _away(heart.times, beats.times)
    assert (away < 0.075).mean() >= (1.0 if noise < 0.2 else 0.98)
    assert np.median(away) < 0.006
    assert len(beats) <= len(heart.times) * (1.0 if noise < 0.2 else 1.04)
    accepted, planted = (row[np.isfinite(row)] for row in (beats.intervals, heart.intervals))
    assert accepted.mean() == pytest.approx(planted.mean(), rel=0.005)
    assert accepted.std() == pytest.approx(planted.std(), rel=0.08)
    assert len(accepted) > 0.85 * len(planted)


@pytest.mark.parametrize(
    ("modality", "rate", "noises"),
    [("ecg", 128.0, (0.02, 0.1, 0.2)), ("bvp", 64.0, (1.0, 3.0, 6.0)), ("bvp", 32.0, (1.0, 4.0))],
)
def test_the_timing_error_is_the_one_that_beats_have(
    modality: str, rate: float, noises: tuple[float, ...], make_signal: Maker
) -> None:
    heart = regular_heart(300.0, 65.0)
    for noise in noises:
        samples = {"ecg": ecg_of, "bvp": pulse_of}[modality](heart, 300.0, rate, noise=noise)
        beats = _found(modality, rate, samples, make_signal)
        nearest = np.abs(beats.times[:, None] - heart.times[None]).argmin(axis=1)
        away = beats.times - heart.times[nearest]
        real = np.std(away[np.abs(away) < 0.05])  # without the few that are no beats
        stated = np.sqrt(np.mean(beats.timing_errors**2))
        assert real / 1.6 < stated < 1.6 * real


def test_wide_beats_are_left_out_and_cost_no_sinus_beat(make_signal: Maker) -> None:
    heart = with_premature_beats(regular_heart(120.0, 70.0), 10)
    beats = _found("ecg", 250.0, ecg_of(heart, 120.0, 250.0), make_signal)
    sinus = heart.times[heart.is_sinus & (heart.times > 1) & (heart.times < 119)]
    assert np.abs(beats.times[:, None] - sinus[None]).min(axis=0).max() < 0.02
    assert np.nanmax(np.abs(beats.intervals - 60 / 70)) < 0.15


def test_a_tall_t_wave_is_no_beat(make_signal: Maker) -> None:
    heart = Heart(np.arange(0.5, 119.0, 1.4), np.ones(85, dtype=bool))
    samples = ecg_of(heart, 120.0, 250.0)
    t = np.arange(len(samples)) / 250.0
    for beat in heart.times:
        samples += 0.6 * np.exp(-0.5 * ((t - beat - 0.36) / 0.05) ** 2)
    beats = _found("ecg", 250.0, samples, make_signal)
    assert len(beats) == len(heart.times)
    np.testing.assert_allclose(np.nanmean(beats.intervals), 1.4, rtol=1e-3)


def test_amplitudes_follow_a_pulse_that_grows(make_signal: Maker) -> None:
    heart = regular_heart(120.0, 70.0)
    growing = np.linspace(1.0, 2.0, 120 * 64)
    beats = _found("bvp", 64.0, growing * pulse_of(heart, 120.0, 64.0), make_signal)
    slope = np.polyfit(beats.times[1:], beats.amplitudes[1:] / np.median(beats.amplitudes[1:]), 1)[0]
    assert slope == pytest.approx(1 / 180, rel=0.1)
