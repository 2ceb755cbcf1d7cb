"""Intervals are accepted where a heart gives them, on both sides of the middle alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from biopercept.preprocessing.beat_detection import DetectedBeats
from biopercept.preprocessing.cardiac import (
    accepted_intervals,
    are_of_packets,
    beats_with_intervals,
    bvp_beats,
    checked_against_device,
    device_beats,
    ecg_beats,
)
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.gaps import grid_times
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.preprocessing.variability import interval_features, rate_series
from biopercept.recording import Recording, Signal
from measurements.planted_hearts import Heart, ecg_of, pulse_of, regular_heart, with_premature_beats

SETTINGS = CleaningSettings()
Maker = Callable[..., Signal]
Samples = Callable[..., np.ndarray]


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
    rate = rate_series(found, np.ones(480, dtype=bool), grid_times(120), SETTINGS)
    assert np.isnan(rate[(grid_times(120) > 42) & (grid_times(120) < 58)]).all()


def test_device_times_out_of_order_or_repeated_do_no_harm(make_signal: Maker) -> None:
    times = np.array([3.0, 1.0, 2.0, 2.0, 4.0])
    found = device_beats(make_signal("ibi", 4.0, np.ones(5), times=times), np.ones(5), SETTINGS)
    np.testing.assert_array_equal(found.times, [1, 2, 3, 4])


@pytest.mark.parametrize("rate", [50, 72, 130])
@pytest.mark.parametrize("n_lost", [0, 12])
def test_intervals_sent_once_a_second_keep_every_beat_and_its_variability(
    rate: int, n_lost: int, make_signal: Maker, make_recording: Callable[..., Recording]
) -> None:
    """A chest belt sends no, one or two or three intervals a second, all with the time of the packet."""
    heart = regular_heart(300.0, rate)
    times, intervals = heart.times[1:], np.diff(heart.times)
    is_sent = (times < 100.0) | (np.cumsum(times >= 100.0) > n_lost)
    signal = make_signal("ibi", 1.0, intervals[is_sent], times=np.ceil(times[is_sent]) + 0.2)
    clean = clean_recording(make_recording(signal))
    assert np.isfinite(clean.beats.intervals).sum() >= is_sent.sum() - 2
    sent = np.where(is_sent, intervals, np.nan)
    right = 1000 * np.sqrt(np.nanmean(np.diff(sent) ** 2))
    mean, _, rmssd, *_ = interval_features(clean.beats, np.zeros(1), 300.0)[0]
    assert mean == pytest.approx(1000 * np.nanmean(sent), rel=0.002)
    assert np.expm1(rmssd) == pytest.approx(right, rel=0.05)
    # The belt's clock is read once a second: so well the beats can be placed.
    placed = clean.beats.times[np.abs(clean.beats.times[:, None] - times[is_sent]).argmin(axis=0)]
    assert np.abs(placed - times[is_sent]).max() < 1.0
    assert any("times are those of packets" in note for note in clean.notes)


def test_times_of_beats_are_no_packets_however_many_are_missing() -> None:
    heart = regular_heart(300.0, 72)
    is_there = np.random.default_rng(3).random(len(heart.times) - 1) < 0.4
    times, intervals = heart.times[1:][is_there], np.diff(heart.times)[is_there]
    assert not are_of_packets(np.round(times, 3), np.round(intervals, 3))
    assert are_of_packets(np.ceil(times), intervals)


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


def test_a_breathing_heart_does_not_contradict_the_mean_rate_of_its_device(
    make_signal: Maker,
) -> None:
    heart = regular_heart(120.0, 60.0, swing=0.3, breathing_hz=0.15, slow_swing=0.0)
    samples = pulse_of(heart, 120.0, 64.0)
    found, _ = bvp_beats(samples, make_signal("bvp", 64.0, samples), SETTINGS)
    checked = checked_against_device(found, np.full(480, 60.0), grid_times(120), SETTINGS)
    np.testing.assert_array_equal(checked.intervals, found.intervals)


def test_an_interval_unlike_its_neighbours_is_not_accepted() -> None:
    intervals = np.full(40, 0.8)
    intervals[20] = 1.15
    times = np.cumsum(intervals)
    kept = accepted_intervals(times, intervals, SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(kept)), [20])
    assert np.isnan(accepted_intervals(times, np.where(intervals > 1, 9.0, intervals), SETTINGS)[20])


def test_lonely_intervals_are_not_accepted_but_a_devices_are() -> None:
    intervals = np.full(200, np.nan)
    times = np.arange(200) * 0.8
    intervals[100:105] = 0.8
    assert np.isnan(accepted_intervals(times, intervals, SETTINGS)).all()
    alone = accepted_intervals(times, intervals, SETTINGS, needs_coverage=False)
    assert np.isfinite(alone[100:105]).all()


def _accepted(heart: Heart) -> np.ndarray:
    return accepted_intervals(heart.times, np.diff(heart.times, prepend=np.nan), SETTINGS)


@pytest.mark.parametrize("source", ["ecg", "bvp", "ibi"])
@pytest.mark.parametrize("swing", [0.1, 0.2, 0.3])
def test_a_deep_slow_breath_costs_no_interval_long_or_short(source: str, swing: float, make_signal: Maker) -> None:
    heart = regular_heart(300.0, 55.0, swing=swing, breathing_hz=0.15, slow_swing=0.0)
    if source == "ibi":
        intervals = np.diff(heart.times)
        beats = device_beats(make_signal("ibi", 4.0, intervals, times=heart.times[1:]), intervals, SETTINGS)
    else:
        rate, make, find = {"ecg": (250.0, ecg_of, ecg_beats), "bvp": (64.0, pulse_of, bvp_beats)}[source]
        samples = make(heart, 300.0, rate)
        beats, _ = find(samples, make_signal(source, rate, samples), SETTINGS)
    planted = np.diff(heart.times)
    accepted = beats.intervals[np.isfinite(beats.intervals)]
    assert accepted.mean() == pytest.approx(planted.mean(), rel=0.01)
    assert accepted.std() == pytest.approx(planted.std(), rel=0.04)
    assert len(accepted) >= 0.97 * len(planted)


@pytest.mark.parametrize("early", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("seconds", [20.0, 45.0, 300.0])
def test_a_premature_beat_and_its_pause_are_dropped_and_nothing_else(early: float, seconds: float) -> None:
    heart = with_premature_beats(regular_heart(seconds, 65.0, swing=0.02, slow_swing=0.01), 12, early=early)
    is_wrong = ~np.isfinite(heart.intervals)
    accepted = np.isfinite(_accepted(heart))
    assert not accepted[is_wrong].any()
    assert accepted[~is_wrong].mean() > 0.95


def test_every_second_beat_premature_leaves_no_interval() -> None:
    assert np.isnan(_accepted(with_premature_beats(regular_heart(120.0, 65.0), 2))).all()


@pytest.mark.parametrize("fault", ["missed", "found twice", "two missed"])
@pytest.mark.parametrize("swing", [0.0, 0.1, 0.2])
def test_missed_and_doubled_beats_cost_the_intervals_they_touch(fault: str, swing: float) -> None:
    heart = regular_heart(120.0, 60.0, swing=swing, breathing_hz=0.15)
    at = np.arange(10, len(heart.times) - 3, 9)
    if fault == "found twice":
        times = np.sort(np.concatenate((heart.times, heart.times[at] + 0.35)))
        is_false = np.isin(times, heart.times[at] + 0.35)
        is_wrong = is_false | np.concatenate(([False], is_false[:-1]))
    else:
        gone = np.concatenate((at, at + 1)) if fault == "two missed" else at
        times = np.delete(heart.times, gone)
        is_wrong = np.isin(times, heart.times[at + (2 if fault == "two missed" else 1)])
    intervals = np.diff(times, prepend=np.nan)
    accepted = np.isfinite(accepted_intervals(times, intervals, SETTINGS))
    assert not accepted[is_wrong].any()
    assert accepted[~is_wrong][1:].mean() > 0.9
    assert intervals[accepted].mean() == pytest.approx(np.nanmean(intervals[~is_wrong]), rel=0.02)


def test_what_is_dropped_does_not_move_the_mean() -> None:
    """Random intervals with heavy tails on both sides, of which some must be dropped: the rest has the same mean."""
    for spread in (0.05, 0.1, 0.15):
        rng = np.random.default_rng(0)
        intervals = 0.8 * np.exp(spread * rng.standard_t(4, 40_000))
        kept = accepted_intervals(np.cumsum(intervals), intervals, SETTINGS, needs_coverage=False)
        lost = np.isnan(kept) & (intervals > 0.25) & (intervals < 2.4)
        middle = np.median(intervals)
        assert lost.any()
        assert (intervals[lost] > middle).mean() == pytest.approx(0.5, abs=0.15)
        assert np.log(kept[~np.isnan(kept)]).mean() == pytest.approx(np.log(0.8), abs=0.1 * spread)


def test_beats_put_in_or_taken_out_between_detection_and_acceptance_count_as_found_ones() -> None:
    heart = regular_heart(60.0, 70.0)
    whole = _detected(heart.times)
    without = _detected(np.delete(heart.times, 20))
    assert np.isnan(beats_with_intervals(without, "ECG", SETTINGS).intervals[20])
    times = np.insert(without.times, 20, heart.times[20])
    mended = beats_with_intervals(_detected(times), "ECG", SETTINGS)
    np.testing.assert_array_equal(mended.intervals, beats_with_intervals(whole, "ECG", SETTINGS).intervals)


def test_no_interval_spans_two_stretches() -> None:
    times = np.arange(60.0)
    detected = _detected(times, (times >= 30).astype(np.int64))
    beats = beats_with_intervals(detected, "ECG", SETTINGS)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(beats.intervals)), [0, 30])


def _detected(times: np.ndarray, stretches: np.ndarray | None = None) -> DetectedBeats:
    unknown = np.full(len(times), np.nan)
    return DetectedBeats(
        times, unknown, unknown, np.zeros(len(times), dtype=np.int64) if stretches is None else stretches
    )


@pytest.mark.parametrize("ticks", [32, 64, 128])
def test_a_devices_clock_is_the_error_of_its_beats(ticks: int, make_signal: Maker) -> None:
    heart = regular_heart(180.0, 65.0)
    for digits in (4, 12):
        times = np.round(heart.times * ticks) / ticks
        intervals = np.round(np.diff(times), digits)
        beats = device_beats(make_signal("ibi", 4.0, intervals, times=times[1:]), intervals, SETTINGS)
        assert beats.timing_errors == pytest.approx(np.full(len(beats), np.std(times - heart.times)), rel=0.2)
    intervals = np.diff(heart.times)
    exact = device_beats(make_signal("ibi", 4.0, intervals, times=heart.times[1:]), intervals, SETTINGS)
    assert np.isnan(exact.timing_errors).all()


@pytest.mark.parametrize("seed", [2, 24])
def test_no_interval_of_a_minute_of_noise_is_accepted(seed: int) -> None:
    # Peaks of noise in the narrow band of a pulse look alike, and by chance a dozen intervals agree.
    samples = np.random.default_rng(seed).normal(0, 50, 16 * 60)
    signal = Signal.from_samples("BVP", "bvp", "a.u.", 16.0, samples)
    beats, _ = bvp_beats(samples, signal, CleaningSettings())
    assert not np.isfinite(beats.intervals).any()
