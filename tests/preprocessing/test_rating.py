"""Planted faults are named in their seconds and in no others, at every rate; oracles of EEG are mne's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.quality import (
    ARTEFACT,
    BRIDGED_ELECTRODES,
    DEAD_ELECTRODE,
    IMPLAUSIBLE_BEATS,
    MOTION,
    NO_BREATHING,
    NOISE,
    OFF_BODY,
    POWER_LINE,
    SMALLEST_SHARE,
    SignalQuality,
)
from biopercept.preprocessing.rating import power_by_second
from biopercept.recording import Channel, Recording, Signal

Maker = Callable[..., Signal]
RecordingMaker = Callable[..., Recording]
Waves = Callable[..., np.ndarray]


def named(quality: SignalQuality, reason: str, channel: int = 0) -> np.ndarray:
    """Return in which seconds a channel has a reason."""
    share = quality.shares.get(reason)
    n = quality.index.shape[1]
    return np.zeros(n, dtype=bool) if share is None else np.asarray(share[channel] >= SMALLEST_SHARE)


def assert_named(seconds: np.ndarray, start: int, stop: int, slack: int = 1) -> None:
    """Check that a reason has nearly all of its planted seconds and, but for those at the rims, no others."""
    inside, outside = np.zeros(len(seconds), dtype=bool), np.ones(len(seconds), dtype=bool)
    inside[start + slack : stop - slack] = True
    outside[max(start - slack, 0) : stop + slack] = False
    assert seconds[inside].mean() >= 0.95
    assert seconds[outside].mean() <= 0.01


@pytest.mark.parametrize("rate", [128.0, 250.0, 512.5, 700.0])
@pytest.mark.parametrize("hum", [50.0, 60.0])
def test_mains_hum_larger_than_the_ecg_is_named_and_lowers_nothing(
    rate: float, hum: float, make_signal: Maker, make_recording: RecordingMaker, make_ecg: Waves, make_beats: Waves
) -> None:
    from biopercept.preprocessing.settings import CleaningSettings

    ecg = make_ecg(make_beats(60), 60, rate)
    t = np.arange(len(ecg)) / rate
    ecg += np.where((t >= 20) & (t < 35), 1.5, 0.02) * np.sin(2 * np.pi * hum * t)
    clean = clean_recording(make_recording(make_signal("ecg", rate, ecg)), CleaningSettings(powerline_hz=hum))
    assert_named(named(clean.ratings["ECG"], POWER_LINE), 20, 35)
    assert clean.ratings["ECG"].index[0, 22:33].mean() > 0.9


def test_the_power_of_a_second_is_that_of_a_sine_and_nothing_where_samples_are_missing() -> None:
    t = np.arange(1280) / 128.0
    samples = np.stack([3.0 * np.sin(2 * np.pi * 50 * t), 3.0 * np.sin(2 * np.pi * 40 * t)])
    samples[0, 300] = np.nan
    power = power_by_second(samples, 128.0, 50.0)
    np.testing.assert_allclose(power[0, [0, 1, 3, 9]], 4.5, rtol=1e-3)
    assert power[0, 2] == 0 and power[1].max() < 0.01
    np.testing.assert_allclose(power_by_second(samples, 128.0)[1], 4.5, rtol=1e-6)


@pytest.mark.parametrize("rate", [25.0, 32.0, 100.0])
def test_movement_is_named_in_what_is_worn_and_leaves_a_good_signal_its_index(
    rate: float, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    rng = np.random.default_rng(1)
    t = np.arange(round(120 * rate)) / rate
    moving = (t >= 40) & (t < 60)
    acc = np.where(moving, 0.6 * np.sin(2 * np.pi * 2.0 * t), 0) + rng.normal(0, 0.004, (3, len(t))) + [[0], [0], [1]]
    eda = 2 + 0.01 * np.sin(np.arange(480) / 30) + rng.normal(0, 0.001, 480)
    clean = clean_recording(make_recording(make_signal("acc", rate, acc), make_signal("eda", 4.0, eda)))
    assert_named(named(clean.ratings["EDA"], MOTION), 40, 60)
    assert clean.ratings["EDA"].index.min() > 0.95
    assert MOTION not in clean.ratings["ACC"].shares


@pytest.mark.parametrize("rate", [4.0, 32.0, 250.0, 700.0])
def test_noise_that_hides_skin_responses_is_named(
    rate: float, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    rng = np.random.default_rng(2)
    t = np.arange(round(240 * rate)) / rate
    # As much noise in the band of a response, whatever the rate.
    size = np.where((t >= 60) & (t < 120), 0.1, 0.001) * np.sqrt(max(rate, 8.0) / 8.0)
    eda = 3 + 0.1 * np.sin(t / 20) + size * rng.normal(size=len(t))
    quality = clean_recording(make_recording(make_signal("eda", rate, eda))).ratings["EDA"]
    assert_named(named(quality, NOISE), 60, 120)
    assert quality.index[0, 65:115].max() < 0.5 and quality.index[0, 130:].min() > 0.9


@pytest.mark.parametrize(
    ("modality", "rate"), [("ecg", 100.0), ("ecg", 250.0), ("ecg", 700.0), ("bvp", 32.0), ("bvp", 64.0)]
)
def test_noise_among_beats_is_no_heart(
    modality: str,
    rate: float,
    make_signal: Maker,
    make_recording: RecordingMaker,
    make_ecg: Waves,
    make_pulse: Waves,
    make_beats: Waves,
) -> None:
    make = make_ecg if modality == "ecg" else make_pulse
    wave = make(make_beats(120), 120, rate)
    first, last = round(50 * rate), round(80 * rate)
    wave[first:last] = np.random.default_rng(3).normal(0, wave.std(), last - first)
    quality = clean_recording(make_recording(make_signal(modality, rate, wave))).ratings[modality.upper()]
    assert_named(named(quality, IMPLAUSIBLE_BEATS), 50, 80, slack=4)
    assert quality.index[0, 60:70].max() < 0.2 and quality.index[0, 5:40].min() > 0.8


@pytest.mark.parametrize("rate", [4.0, 25.0, 100.0])
def test_a_lost_belt_is_no_breathing(rate: float, make_signal: Maker, make_recording: RecordingMaker) -> None:
    t = np.arange(round(240 * rate)) / rate
    breath = np.sin(2 * np.pi * 0.25 * t) + np.random.default_rng(4).normal(0, 0.02, len(t))
    lost = (t >= 100) & (t < 170)
    breath[lost] = np.random.default_rng(5).normal(0, 0.3, lost.sum())
    quality = clean_recording(make_recording(make_signal("resp", rate, breath))).ratings["RESP"]
    seconds = named(quality, NO_BREATHING)
    assert seconds[115:155].mean() > 0.9 and seconds[:90].mean() <= 0.01 and seconds[185:235].mean() <= 0.01
    assert quality.index[0, 120:150].max() < 0.3 and quality.index[0, 10:80].min() > 0.9


def _wrist(rng: np.random.Generator, off: tuple[int, int], make: Maker, pulse: Waves, beats: Waves) -> list[Signal]:
    t4, t64, t32 = (np.arange(round(420 * rate)) / rate for rate in (4.0, 64.0, 32.0))
    is_off = [(t >= off[0]) & (t < off[1]) for t in (t4, t64, t32)]
    eda = np.where(is_off[0], 0.02, 1.5) + rng.normal(0, 0.001, len(t4))
    temp = np.where(is_off[0], 23 + 10 * np.exp(-(t4 - off[0]) / 60.0), 33.0) + rng.normal(0, 0.01, len(t4))
    bvp = np.where(is_off[1], rng.normal(0, 0.5, len(t64)), pulse(beats(420), 420, 64.0))
    acc = np.where(is_off[2], 0, rng.normal(0, 0.02, (3, len(t32)))) + np.array([[0], [0], [1]])
    signals = (("eda", 4.0, eda), ("temp", 4.0, temp), ("bvp", 64.0, bvp), ("acc", 32.0, acc))
    return [make(modality, rate, samples) for modality, rate, samples in signals]


def test_a_wrist_device_that_lies_on_a_table_is_off_the_body(
    make_signal: Maker, make_recording: RecordingMaker, make_pulse: Waves, make_beats: Waves
) -> None:
    signals = _wrist(np.random.default_rng(6), (150, 300), make_signal, make_pulse, make_beats)
    clean = clean_recording(make_recording(*signals))
    for name in ("EDA", "TEMP", "BVP"):
        assert_named(named(clean.ratings[name], OFF_BODY), 150, 300, slack=6)
        assert clean.ratings[name].index[0, 160:290].max() == 0
    assert OFF_BODY not in clean.ratings["ACC"].shares


@pytest.mark.parametrize("left_out", ["BVP", "ACC", "TEMP"])
def test_three_sensors_of_four_are_enough(
    left_out: str, make_signal: Maker, make_recording: RecordingMaker, make_pulse: Waves, make_beats: Waves
) -> None:
    signals = _wrist(np.random.default_rng(6), (150, 400), make_signal, make_pulse, make_beats)
    clean = clean_recording(make_recording(*(signal for signal in signals if signal.name != left_out)))
    seconds = named(clean.ratings["EDA"], OFF_BODY)
    assert seconds[280:390].all() and not seconds[:140].any()


def test_dry_skin_with_a_pulse_and_a_lost_pulse_in_movement_are_worn(
    make_signal: Maker, make_recording: RecordingMaker, make_pulse: Waves, make_beats: Waves
) -> None:
    rng = np.random.default_rng(7)
    eda, temp, bvp, acc = _wrist(rng, (500, 501), make_signal, make_pulse, make_beats)
    dry = eda.with_samples(0.03 + rng.normal(0, 0.0005, (1, eda.n_samples)), 4.0)
    lost = bvp.with_samples(rng.normal(0, 30, (1, bvp.n_samples)), 64.0)
    for signals in ((dry, temp, bvp, acc), (dry, temp, lost, acc), (eda, temp, lost, acc)):
        clean = clean_recording(make_recording(*signals))
        assert not any(OFF_BODY in quality.shares for quality in clean.ratings.values())


def _eeg(samples: np.ndarray, channels: tuple[Channel, ...], rate: float = 256.0) -> Signal:
    return Signal.from_samples("EEG", "eeg", "uV", rate, samples, channels)


def _raw(eeg: Signal) -> Any:
    import mne

    info = mne.create_info(list(eeg.channel_names), eeg.sampling_rate, "eeg")
    return mne.io.RawArray(eeg.read() * 1e-6, info, verbose="error")


def test_a_dead_electrode_is_named_while_it_is_dead(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_recording: RecordingMaker
) -> None:
    samples = made_eeg.copy()
    rng = np.random.default_rng(8)
    samples[4, 20 * 256 : 32 * 256] = samples[4, 20 * 256] + rng.normal(0, 0.2, 12 * 256)
    quality = clean_recording(make_recording(_eeg(samples, eeg_channels))).ratings["EEG"]
    assert_named(named(quality, DEAD_ELECTRODE, 4), 20, 32, slack=2)
    assert quality.shares[DEAD_ELECTRODE].any(axis=1).sum() == 1
    assert quality.index[4, 23:30].max() == 0


@pytest.mark.parametrize("rate", [128.0, 256.0])
def test_bridged_electrodes_are_those_that_mne_finds(
    rate: float, made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_recording: RecordingMaker
) -> None:
    import mne

    samples = made_eeg[:, :: round(256 / rate)].copy()
    rng = np.random.default_rng(9)
    samples[7] = samples[2] + rng.normal(0, 0.3, samples.shape[1])
    samples[9] = samples[7] + rng.normal(0, 0.3, samples.shape[1])
    eeg = _eeg(samples, eeg_channels, rate)
    pairs, _ = mne.preprocessing.compute_bridged_electrodes(_raw(eeg), verbose="error")
    share = clean_recording(make_recording(eeg)).ratings["EEG"].shares[BRIDGED_ELECTRODES]
    assert set(np.flatnonzero(share.mean(axis=1) > 0.1)) == {place for pair in pairs for place in pair} == {2, 7, 9}


def test_seconds_of_muscle_are_those_that_mne_annotates(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_recording: RecordingMaker
) -> None:
    import mne

    samples = made_eeg + np.random.default_rng(10).normal(0, 1.0, made_eeg.shape)
    burst = slice(30 * 256, 34 * 256)
    samples[:, burst] += np.random.default_rng(11).normal(0, 25.0, samples[:, burst].shape)
    eeg = _eeg(samples, eeg_channels)
    annotations, _ = mne.preprocessing.annotate_muscle_zscore(
        _raw(eeg), ch_type="eeg", filter_freq=(30, 45), threshold=5, min_length_good=0.2, verbose="error"
    )
    theirs = np.zeros(60, dtype=bool)
    for one in annotations:
        theirs[int(one["onset"]) : int(np.ceil(one["onset"] + one["duration"]))] = True
    quality = clean_recording(make_recording(eeg)).ratings["EEG"]
    ours = np.mean([named(quality, ARTEFACT, channel) for channel in range(len(samples))], axis=0) > 0.5
    assert theirs[30:34].all()
    assert_named(ours, 30, 34)
    assert (ours != theirs).sum() <= 2


def test_a_blink_beyond_150_uv_spoils_its_second_alone(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_recording: RecordingMaker
) -> None:
    samples = made_eeg * 0.3
    t = np.arange(samples.shape[1]) / 256.0
    samples[0] += 400 * np.exp(-0.5 * ((t - 25.5) / 0.08) ** 2)
    quality = clean_recording(make_recording(_eeg(samples, eeg_channels))).ratings["EEG"]
    assert np.flatnonzero(named(quality, ARTEFACT, 0)).tolist() == [25]
    assert quality.index[0, 25] == 0
