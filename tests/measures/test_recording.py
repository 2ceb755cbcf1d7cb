"""Measures of stretches: against neurokit2, mne and planted events, in their units, and missing where undefined."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from biopercept.errors import RecordingError
from biopercept.measures.columns import GROUP_OF_PREFIX, OF_A_ROW, SAME_MEASURES, column_of
from biopercept.measures.recording import recording_features
from biopercept.prepare.recording import PrepareSettings
from biopercept.preprocessing.features import FEATURE_GROUPS, FEATURE_NAMES
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import Channel, Interval, Recording, Signal
from measurements.planted_hearts import ecg_of, regular_heart
from measurements.planted_signals import breath_peaks, chest_of, skin_of

RATE = 250.0


def recording(*signals: Signal, intervals: tuple[Interval, ...] = ()) -> Recording:
    return Recording("S1", "", "lab", signals, intervals)


def ecg(seconds: float = 300.0) -> tuple[Signal, NDArray[np.float64]]:
    heart = regular_heart(seconds, 66.0)
    return Signal.from_samples("ECG", "ecg", "mV", RATE, ecg_of(heart, seconds, RATE)), heart.times


def eeg(seconds: float = 120.0, peak_hz: float | None = 10.3) -> Signal:
    random = np.random.default_rng(3)
    n = round(seconds * RATE)
    shape = 1.0 / np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5))
    pink = [np.fft.irfft(np.fft.rfft(random.normal(size=n)) * shape, n) * 40.0 for _ in range(7)]
    rows = [pink[-1] + row for row in pink[:-1]]  # neighbours share a part, which the average reference takes away
    if peak_hz is not None:
        drift = np.cumsum(random.normal(0, 0.02, n))
        turn = 2 * np.pi * peak_hz * np.arange(n) / RATE + drift
        rows = [row + 15.0 * np.sin(turn + place) for place, row in enumerate(rows)]  # no average takes it away
    channels = tuple(Channel(name) for name in ("F3", "F4", "C3", "C4", "O1", "O2"))
    return Signal.from_samples("EEG", "eeg", "uV", RATE, np.stack(rows), channels)


def test_variability_is_that_of_neurokit_on_the_planted_beats() -> None:
    import neurokit2 as nk

    signal, beats = ecg()
    row = recording_features(recording(signal), rows="whole").to_frame().iloc[0]
    expected = nk.hrv_time(np.round(beats * 10_000).astype(int), sampling_rate=10_000).iloc[0]
    for name, tolerance in (("HRV_MeanNN", 0.002), ("HRV_SDNN", 0.03), ("HRV_RMSSD", 0.05)):
        assert row[name] == pytest.approx(expected[name], rel=tolerance), name
    assert row["HRV_pNN50"] == pytest.approx(expected["HRV_pNN50"], abs=3.0)
    assert row["HRV_LFHF"] == pytest.approx(row["HRV_LF"] / row["HRV_HF"])
    assert row["HRV_Beats"] == pytest.approx(len(beats), abs=2)
    assert row["HRV_Coverage"] > 0.98


def test_skin_responses_and_breaths_are_those_planted() -> None:
    onsets = np.arange(20.0, 280.0, 20.0)
    skin = Signal.from_samples("EDA", "eda", "uS", 8.0, skin_of(onsets, 0.4, 300.0, 8.0))
    peaks = breath_peaks(12.0, 300.0)
    chest = Signal.from_samples("RESP", "resp", "a.u.", 25.0, chest_of(peaks, 300.0, 25.0))
    features = recording_features(recording(skin, chest), rows="whole")
    row = features.to_frame().iloc[0]
    assert row["SCR_Peaks_N"] == len(onsets)
    assert row["SCR_Peaks_Amplitude_Mean"] == pytest.approx(0.4, rel=0.1)
    assert row["RSP_Period_Mean"] == pytest.approx(5.0, rel=0.02)
    assert row["RSP_Breaths_N"] == pytest.approx(60, abs=3)
    responses, breaths = (features.detected[name].to_frame() for name in ("responses", "breaths"))
    assert len(responses) == row["SCR_Peaks_N"]
    assert (responses["time"] - responses["onset"]).to_numpy() == pytest.approx(responses["rise_time"].to_numpy())
    assert row["SCR_RiseTime_Mean"] == pytest.approx(responses["rise_time"].mean())
    assert row["RSP_Period_SD"] == pytest.approx(breaths["period"].std(), rel=0.02, abs=0.01)


def test_band_power_is_that_of_welch_and_bands_make_up_the_whole() -> None:
    from mne.time_frequency import psd_array_welch

    signal = eeg()
    row = recording_features(recording(signal), rows="whole").to_frame().iloc[0]
    samples = signal.read()
    samples = samples - samples.mean(axis=0)
    n = int(2 * RATE)
    power, frequency = psd_array_welch(samples, RATE, 1.0, 45.0, n_fft=n, n_overlap=n // 2, verbose="error")
    step = frequency[1] - frequency[0]
    for band, low, high in (("theta", 4, 8), ("alpha", 8, 13), ("beta", 13, 30)):
        for channel, name in enumerate(signal.channel_names):
            welch = power[channel, (frequency >= low) & (frequency < high)].sum() * step
            assert row[f"EEG_{name}_{band}_Absolute"] == pytest.approx(welch, rel=0.1), (band, name)
    bands = ("delta", "theta", "alpha", "beta", "gamma")
    for place in ("O1", "occipital", "global"):
        assert sum(row[f"EEG_{place}_{band}_Relative"] for band in bands) == pytest.approx(1.0)
    two = (row["EEG_O1_alpha_Absolute"] + row["EEG_O2_alpha_Absolute"]) / 2
    assert row["EEG_occipital_alpha_Absolute"] == pytest.approx(two)


def test_an_alpha_peak_is_where_it_was_planted_and_missing_where_none_was() -> None:
    with_peak = recording_features(recording(eeg()), rows="whole").to_frame().iloc[0]
    assert with_peak["EEG_global_AlphaPeak"] == pytest.approx(10.3, abs=0.2)
    without = recording_features(recording(eeg(peak_hz=None)), rows="whole").to_frame().iloc[0]
    assert np.isnan(without["EEG_global_AlphaPeak"])


def test_rows_are_windows_events_or_the_whole_and_say_their_label() -> None:
    signal, _ = ecg(180.0)
    intervals = (Interval(0.0, 90.0, "rest"), Interval(90.0, 60.0, "task"), Interval(100.0, 0.0, "button"))
    one = recording(signal, intervals=intervals)
    windows = PrepareSettings(WindowSettings(60.0, 30.0))
    by_window = recording_features(one, windows).to_frame()
    assert by_window["onset"].tolist() == [0.0, 30.0, 60.0, 90.0, 120.0]
    assert by_window["label"].tolist() == ["rest", "rest", "", "task", ""]
    events = recording_features(one, rows="events")
    assert events.to_frame()[["onset", "duration", "label"]].to_numpy().tolist() == [
        [0.0, 90.0, "rest"],
        [90.0, 60.0, "task"],
    ]
    assert "1 event has no row: they have no duration, or lie outside the recording." in events.notes
    assert recording_features(one, rows="whole").to_frame()["duration"].tolist() == [180.0]
    same = by_window.drop(columns=["label"]).iloc[3]
    of_event = events.to_frame().drop(columns=["label"]).iloc[1]
    assert of_event[same.index].to_list()[3:] == pytest.approx(same.to_list()[3:], nan_ok=True)


def test_what_cannot_have_rows_is_refused_by_name() -> None:
    signal, _ = ecg(40.0)
    with pytest.raises(RecordingError, match=r"S1 lab lasts 40\.0 s and a window 60 s; give a shorter --window"):
        recording_features(recording(signal))
    with pytest.raises(RecordingError, match="S1 lab has no event that lasts and lies in the recording"):
        recording_features(recording(signal, intervals=(Interval(50.0, 5.0, "late"),)), rows="events")


def test_every_column_says_what_it_is_and_stays_in_its_range() -> None:
    signal, _ = ecg(120.0)
    skin = Signal.from_samples("EDA", "eda", "uS", 8.0, skin_of(np.arange(20.0, 100.0, 20.0), 0.4, 120.0, 8.0))
    frame = recording_features(recording(signal, skin, eeg())).to_frame()
    for name in frame.columns[6:]:
        column = column_of(name)
        assert column.definition and column.unit, name
        known = frame[name].dropna()
        assert (known >= (-np.inf if column.lowest is None else column.lowest) - 1e-9).all(), name
        assert (known <= (np.inf if column.highest is None else column.highest) + 1e-9).all(), name
    assert not [name for name in frame.columns if name.startswith(("resp/", "RSP", "emg/", "motion/"))]


def test_every_column_is_named_by_one_of_two_rules_and_what_stands_twice_is_one_number() -> None:
    skin = Signal.from_samples("EDA", "eda", "uS", 8.0, skin_of(np.arange(20.0, 280.0, 20.0), 0.4, 300.0, 8.0))
    breath = Signal.from_samples("RESP", "resp", "a.u.", 25.0, chest_of(breath_peaks(15.0, 300.0), 300.0, 25.0))
    table = recording_features(recording(ecg()[0], skin, breath, eeg(300.0)), rows="windows", hrv=False).to_frame()
    names = [name for name in table.columns if name not in OF_A_ROW]
    for name in names:
        if "/" in name:
            assert name in FEATURE_NAMES and name.split("/")[0] in FEATURE_GROUPS, name
        else:
            prefix = name.split("_")[0]
            assert GROUP_OF_PREFIX.get(prefix) in FEATURE_GROUPS or prefix in ("quality", "coverage"), name
    assert {GROUP_OF_PREFIX.get(name.split("_")[0]) for name in names} >= {"heart", "eda", "resp", "eeg"}
    for feature, published in SAME_MEASURES.items():
        numbers = table[published]
        assert numbers.notna().sum() > 3, published
        expected = numbers / 100 if feature == "heart/pnn50" else np.log1p(numbers) if "/log_" in feature else numbers
        np.testing.assert_allclose(table[feature], expected, rtol=1e-5, err_msg=feature)
