"""Beats are found where they were planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing import cardiac as series
from biopercept.preprocessing.cardiac import bvp_beats, checked_against_device, device_beats, ecg_beats
from biopercept.preprocessing.gaps import grid_times
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import Signal

SETTINGS = CleaningSettings()
Maker = Callable[..., Signal]
Samples = Callable[..., np.ndarray]


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
    rate = series.rate_series(found, is_measured, times, SETTINGS)
    assert np.isnan(rate[~is_measured]).all()
    assert np.isfinite(rate[(times > 2) & (times < 48)]).all() and np.isfinite(rate[(times > 63) & (times < 117)]).all()


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
    rate = series.rate_series(found, everywhere, times, SETTINGS)
    assert np.abs(rate - expected)[inner].max() < 1.0
    variability = series.variability_series(found, everywhere, times, SETTINGS)
    typical = np.log(1000 * np.abs(np.diff(intervals)).mean() + 1)
    assert abs(variability[inner].mean() - typical) < 0.3


def test_an_early_beat_costs_its_own_intervals_only(make_ecg: Samples, make_beats: Samples, make_signal: Maker) -> None:
    planted = make_beats(60)
    moved = planted.copy()
    moved[30] -= 0.35
    samples = make_ecg(moved, 60, 250.0)
    found, _ = ecg_beats(samples, make_signal("ecg", 250.0, samples), SETTINGS)
    lost = found.times[np.isnan(found.intervals)]
    assert len(lost) <= 4
    assert np.abs(lost[1:] - planted[30]).max() < 2.0
    assert np.nanmax(found.intervals) < 1.0 and np.nanmin(found.intervals) > 0.7


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


def test_device_intervals_keep_their_gaps(make_signal: Maker, make_beats: Samples) -> None:
    planted = make_beats(120)
    times, intervals = planted[1:], np.diff(planted)
    kept = (times < 40) | (times > 60)
    signal = make_signal("ibi", 4.0, intervals[kept], times=times[kept])
    found = device_beats(signal, intervals[kept], SETTINGS)
    np.testing.assert_allclose(found.intervals, intervals[kept])
    # The first interval after the silence follows no other.
    after = np.flatnonzero(found.times > 60)[0]
    assert np.isnan(found.successive_differences[after])
    rate = series.rate_series(found, np.ones(480, dtype=bool), grid_times(120), SETTINGS)
    assert np.isnan(rate[(grid_times(120) > 42) & (grid_times(120) < 58)]).all()


def test_device_times_out_of_order_or_repeated_do_no_harm(make_signal: Maker) -> None:
    times = np.array([3.0, 1.0, 2.0, 2.0, 4.0])
    found = device_beats(make_signal("ibi", 4.0, np.ones(5), times=times), np.ones(5), SETTINGS)
    np.testing.assert_array_equal(found.times, [1, 2, 3, 4])


def test_pulse_intervals_that_contradict_the_device_are_dropped(
    make_pulse: Samples, make_beats: Samples, make_signal: Maker
) -> None:
    samples = make_pulse(make_beats(120), 120, 64.0)
    found, _ = bvp_beats(samples, make_signal("bvp", 64.0, samples), SETTINGS)
    times = grid_times(120)
    rate = np.where(times < 60, 71.0, 140.0)
    rate[times < 10] = np.nan
    checked = checked_against_device(found, rate, times, SETTINGS)
    np.testing.assert_array_equal(checked.intervals[found.times < 59], found.intervals[found.times < 59])
    assert np.isnan(checked.intervals[found.times > 61]).all()


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


def test_an_interval_unlike_its_neighbours_is_not_accepted() -> None:
    intervals = np.full(40, 0.8)
    intervals[20] = 1.15
    times = np.cumsum(intervals)
    kept = series.accepted_intervals(times, intervals, SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(kept)), [20])
    assert np.isnan(series.accepted_intervals(times, np.where(intervals > 1, 9.0, intervals), SETTINGS)[20])


def test_lonely_intervals_are_not_accepted_but_a_devices_are() -> None:
    intervals = np.full(200, np.nan)
    times = np.arange(200) * 0.8
    intervals[100:105] = 0.8
    assert np.isnan(series.accepted_intervals(times, intervals, SETTINGS)).all()
    alone = series.accepted_intervals(times, intervals, SETTINGS, needs_coverage=False)
    assert np.isfinite(alone[100:105]).all()
