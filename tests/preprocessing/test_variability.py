"""Heart rate and variability equal what was planted and what others compute; what beats cannot bear is missing."""

from __future__ import annotations

from collections.abc import Callable

import neurokit2
import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.signal import periodogram

from biopercept.preprocessing.cardiac import Beats, bvp_beats, device_beats, ecg_beats
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.gaps import grid_times
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import (
    MAX_INFLATION,
    NAMES,
    interval_features,
    rate_series,
    variability_series,
)
from biopercept.recording import Recording, Signal
from measurements.planted_hearts import ecg_of, pulse_of, regular_heart

SETTINGS = CleaningSettings()
Maker = Callable[..., Signal]
Samples = Callable[..., np.ndarray]
Recorder = Callable[..., Recording]


def _row(beats: Beats, seconds: float, onset: float = 0.0) -> dict[str, float]:
    return dict(zip(NAMES, interval_features(beats, np.array([onset]), seconds)[0], strict=True))


def test_heart_rate_and_variability_equal_what_was_planted(
    make_ecg: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    planted = make_beats(120)
    samples = make_ecg(planted, 120, 500.0)
    found, _ = ecg_beats(samples, make_signal("ecg", 500.0, samples), SETTINGS)
    times = grid_times(120)
    everywhere = np.ones(len(times), dtype=bool)
    inner = (times > 5) & (times < 115)
    middles, intervals = planted[1:] - np.diff(planted) / 2, np.diff(planted)
    expected = np.interp(times, middles, 60 / intervals)
    rate = rate_series(found, everywhere, times, SETTINGS)
    assert np.abs(rate - expected)[inner].max() < 1.0
    variability = variability_series(found, everywhere, times, SETTINGS)
    typical = np.log(1000 * np.abs(np.diff(intervals)).mean() + 1)
    assert abs(variability[inner].mean() - typical) < 0.3


def test_interval_features_equal_those_of_neurokit(make_beats: Callable[..., np.ndarray]) -> None:
    times = make_beats(61.0) + np.random.default_rng(0).normal(0, 0.03, len(make_beats(61.0)))
    intervals = np.concatenate(([np.nan], np.diff(times)))
    got = _row(Beats(times, intervals, times * np.nan, "x"), 61.0)
    peaks = np.round(times * 10_000).astype(int)
    expected = neurokit2.hrv_time(peaks, sampling_rate=10_000).iloc[0]
    assert got["mean_nn"] == pytest.approx(expected["HRV_MeanNN"], rel=1e-4)
    assert np.exp(got["log_rmssd"]) - 1 == pytest.approx(expected["HRV_RMSSD"], rel=1e-3)
    assert np.exp(got["log_sdnn"]) - 1 == pytest.approx(expected["HRV_SDNN"], rel=1e-3)
    assert 100 * got["pnn50"] == pytest.approx(expected["HRV_pNN50"], abs=2.0)


def test_slow_and_fast_variability_fall_into_their_bands() -> None:
    for hertz, sign in ((0.1, 1), (0.25, -1)):
        times = [0.5]
        while times[-1] < 119:
            times.append(times[-1] + 0.8 + 0.05 * np.sin(2 * np.pi * hertz * times[-1]))
        at = np.array(times)
        beats = Beats(at, np.concatenate(([np.nan], np.diff(at))), at * np.nan, "x")
        table = interval_features(beats, np.zeros(1), 120.0)
        assert sign * table[0, NAMES.index("log_lf_hf")] > 1


def test_spectra_are_missing_in_windows_under_a_minute(make_beats: Callable[..., np.ndarray]) -> None:
    times = make_beats(60)
    beats = Beats(times, np.concatenate(([np.nan], np.diff(times))), times * np.nan, "x")
    table = interval_features(beats, np.zeros(1), 59.0)[0]
    assert np.isnan(table[[NAMES.index(n) for n in ("log_lf", "log_hf", "log_lf_hf")]]).all()
    assert np.isfinite(table[NAMES.index("mean_nn")])


@pytest.mark.parametrize("modality", ["ecg", "bvp", "ibi"])
@pytest.mark.parametrize("heart_rate", [45, 75, 120])
def test_time_measures_of_found_beats_equal_neurokits_of_the_planted_ones(
    modality: str, heart_rate: int, make_signal: Maker
) -> None:
    heart = regular_heart(180.0, heart_rate)
    expected = neurokit2.hrv_time(np.round(heart.times * 100_000).astype(int), sampling_rate=100_000).iloc[0]
    if modality == "ibi":
        beats = device_beats(
            make_signal("ibi", 4.0, np.diff(heart.times), times=heart.times[1:]), np.diff(heart.times), SETTINGS
        )
    else:
        rate, make, find = {"ecg": (250.0, ecg_of, ecg_beats), "bvp": (64.0, pulse_of, bvp_beats)}[modality]
        samples = make(heart, 180.0, rate)
        beats, _ = find(samples, make_signal(modality, rate, samples), SETTINGS)
    got = _row(beats, 180.0)
    assert got["mean_nn"] == pytest.approx(expected["HRV_MeanNN"], rel=2e-3)
    assert np.exp(got["log_sdnn"]) - 1 == pytest.approx(expected["HRV_SDNN"], rel=0.03)
    assert np.exp(got["log_rmssd"]) - 1 == pytest.approx(expected["HRV_RMSSD"], rel=0.04)
    # neurokit2 divides the count of differences by the number of intervals, one more than there are differences.
    assert 100 * got["pnn50"] == pytest.approx(expected["HRV_pNN50"], abs=3.0)


@pytest.mark.parametrize("heart_rate", [50, 60, 75, 100])
@pytest.mark.parametrize("breathing_hz", [0.2, 0.25, 0.3])
@pytest.mark.parametrize("modality", ["ecg", "ibi"])
def test_powers_are_those_of_a_cubic_spline_through_the_planted_intervals(
    modality: str, breathing_hz: float, heart_rate: int, make_signal: Maker
) -> None:
    heart = regular_heart(300.0, heart_rate, swing=0.05, breathing_hz=breathing_hz, slow_swing=0.03)
    intervals = np.diff(heart.times)
    even = CubicSpline(heart.times[1:], 1000 * intervals)(np.arange(heart.times[1], heart.times[-1], 0.25))
    frequency, power = periodogram(even, fs=4.0, window="hann", detrend="linear")
    low, high = (power[(frequency >= a) & (frequency < b)].sum() * frequency[1] for a, b in ((0.04, 0.15), (0.15, 0.4)))
    if modality == "ibi":
        beats = device_beats(make_signal("ibi", 4.0, intervals, times=heart.times[1:]), intervals, SETTINGS)
    else:
        samples = ecg_of(heart, 300.0, 250.0)
        beats, _ = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    got = _row(beats, 300.0)
    assert np.exp(got["log_hf"]) - 1 == pytest.approx(high, rel=0.05)
    assert np.exp(got["log_lf"]) - 1 == pytest.approx(low, rel=0.05)
    assert np.exp(got["log_lf_hf"]) == pytest.approx(low / high, rel=0.08)


def test_powers_of_a_sine_are_half_its_square(make_signal: Maker) -> None:
    """An oracle without any interpolation: intervals that follow a sine in time have the sine's power."""
    heart = regular_heart(300.0, 75.0, swing=0.05, breathing_hz=0.25, slow_swing=0.05)
    intervals = np.diff(heart.times)
    beats = device_beats(make_signal("ibi", 4.0, intervals, times=heart.times[1:]), intervals, SETTINGS)
    got, power = _row(beats, 300.0), 0.5 * (0.05 * 800.0) ** 2
    assert np.exp(got["log_hf"]) - 1 == pytest.approx(power, rel=0.1)
    assert np.exp(got["log_lf"]) - 1 == pytest.approx(power, rel=0.1)


def test_a_hole_of_missing_beats_does_not_swing_the_spline(make_signal: Maker) -> None:
    heart = regular_heart(120.0, 70.0)
    intervals, times = np.diff(heart.times), heart.times[1:]
    whole = _row(device_beats(make_signal("ibi", 4.0, intervals, times=times), intervals, SETTINGS), 120.0)
    kept = (times < 50) | (times > 57)
    holed = _row(
        device_beats(make_signal("ibi", 4.0, intervals[kept], times=times[kept]), intervals[kept], SETTINGS), 120.0
    )
    for name in ("log_lf", "log_hf"):
        assert np.exp(holed[name] - whole[name]) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("noise", [1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0])
def test_noise_in_a_pulse_wave_never_passes_for_variability(noise: float, make_signal: Maker) -> None:
    for seed in range(3):
        heart = regular_heart(300.0, 65.0, swing=0.02, slow_swing=0.02, seed=seed)
        samples = pulse_of(heart, 300.0, 64.0, noise=noise, seed=seed)
        beats, _ = bvp_beats(samples, make_signal("bvp", 64.0, samples), SETTINGS)
        true = 1000 * np.sqrt(np.mean(np.diff(heart.times, 2) ** 2))
        assert 15 < true < 25
        got = _row(beats, 300.0)
        assert np.isfinite(got["log_rmssd"]) == (noise <= 2.5) or noise in (5.0, 7.5)
        if np.isfinite(got["log_rmssd"]):
            assert np.exp(got["log_rmssd"]) - 1 == pytest.approx(true, rel=0.15)
        else:
            assert np.isnan([got["pnn50"], got["log_hf"], got["log_lf_hf"]]).all()
            assert 60_000 / got["mean_nn"] == pytest.approx(65, rel=0.02)
            series = variability_series(beats, np.ones(1200, dtype=bool), grid_times(300), SETTINGS)
            assert np.isnan(series).mean() > 0.5


def test_a_measure_is_missing_exactly_where_errors_would_inflate_it_too_far() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(0.8 + 0.02 * rng.normal(size=200))
    intervals = np.diff(times, prepend=np.nan)
    rmssd = np.sqrt(np.nanmean(np.diff(intervals) ** 2))
    limit = rmssd * np.sqrt((1 - MAX_INFLATION**-2) / 6)
    for factor in (0.97, 1.03):
        beats = Beats(times, intervals, times * np.nan, "x", np.full(200, factor * limit))
        assert np.isfinite(_row(beats, times[-1])["log_rmssd"]) == (factor < 1)


def test_errors_that_do_not_matter_cost_nothing_where_a_heart_hardly_varies() -> None:
    times = np.arange(1.0, 100.0)
    intervals = np.diff(times, prepend=np.nan)
    exact = _row(Beats(times, intervals, times * np.nan, "x", np.full(99, 0.001)), 100.0)
    assert exact["log_rmssd"] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(_row(Beats(times, intervals, times * np.nan, "x", np.full(99, 0.002)), 100.0)["log_rmssd"])


def test_variability_comes_from_the_pulse_where_the_ecg_fell_off(make_signal: Maker, make_recording: Recorder) -> None:
    heart = regular_heart(180.0, 65.0)
    ecg, pulse = ecg_of(heart, 180.0, 128.0), pulse_of(heart, 180.0, 64.0)
    both = clean_recording(make_recording(make_signal("ecg", 128.0, ecg), make_signal("bvp", 64.0, pulse)))
    assert both.beats.source == "ECG"
    ecg[128 * 60 :] = np.nan
    clean = clean_recording(make_recording(make_signal("ecg", 128.0, ecg), make_signal("bvp", 64.0, pulse)))
    assert clean.beats.source == "BVP"
    n_ecg = np.isfinite(ecg_beats(ecg, make_signal("ecg", 128.0, ecg), SETTINGS)[0].intervals).sum()
    n_bvp = np.isfinite(clean.beats.intervals).sum()
    assert (
        f"heart_variability: taken from BVP, which has {n_bvp} accepted intervals, "
        f"and not from ECG, which has {n_ecg}." in clean.notes
    )


def test_what_is_missing_does_not_tell_where_a_heart_varies_less() -> None:
    rng = np.random.default_rng(0)
    spread = np.repeat([0.03, 0.008], 300)
    times = np.cumsum(0.8 + spread * rng.normal(size=600))
    beats = Beats(times, np.diff(times, prepend=np.nan), times * np.nan, "x", np.full(600, 0.0045))
    table = interval_features(beats, np.arange(0.0, 420.0, 60.0), 60.0)
    assert np.isfinite(table[:, NAMES.index("log_rmssd")]).all()
    series = variability_series(beats, np.ones(1900, dtype=bool), grid_times(475), SETTINGS)
    assert np.isfinite(series[20:1880]).mean() > 0.98
    errors = np.repeat([0.0045, 0.02], 300)
    moved = times + errors * rng.normal(size=600)
    noisy = Beats(moved, np.diff(moved, prepend=np.nan), beats.amplitudes, "x", errors)
    known = np.isfinite(
        interval_features(noisy, np.array([0.0, 60.0, 300.0, 360.0]), 60.0)[:, NAMES.index("log_rmssd")]
    )
    np.testing.assert_array_equal(known, [True, True, False, False])
