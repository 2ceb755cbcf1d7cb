"""Rows around events: the numbers of neurokit2's event-related functions, planted responses, and what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

import biopercept as bp
from biopercept.errors import SettingsError
from biopercept.measures.around import Around, courses_around, measure_around, notes_around
from biopercept.measures.averages import averages, mean_courses
from biopercept.measures.columns import column_of
from biopercept.measures.recording import RecordingFeatures, around_features
from biopercept.preprocessing.cardiac import no_beats
from biopercept.preprocessing.cleaning import CleanRecording
from biopercept.preprocessing.electrodermal import SkinResponses, no_responses
from biopercept.preprocessing.respiration import no_breaths
from biopercept.recording import Channel, Interval, Recording, Signal
from measurements.planted_hearts import Heart, ecg_of
from measurements.planted_signals import skin_of

Values = NDArray[np.float64]


def series(modality: str, unit: str, values: Values, names: tuple[str, ...] = ("one",)) -> Signal:
    """Return a derived series at 4 Hz."""
    made = Signal.from_samples(modality, modality, unit, 4.0, values, tuple(Channel(name) for name in names))
    return replace(made, derived_from="made")


def cleaned(*signals: Signal, responses: SkinResponses | None = None) -> CleanRecording:
    """Return a cleaned recording of these series alone."""
    recording = Recording("S1", "", "lab", signals)
    return CleanRecording(recording, {}, (), no_beats(), responses or no_responses(), no_breaths())


def events_at(*onsets: float, label: str = "tone") -> tuple[Interval, ...]:
    return tuple(Interval(onset, 0.0, label) for onset in onsets)


def rows(clean: CleanRecording, events: tuple[Interval, ...], around: Around) -> pd.DataFrame:
    measured = measure_around(clean, events, around)
    return pd.DataFrame(measured.values, columns=list(measured.names))


@pytest.fixture(scope="module")
def wandering() -> Values:
    random = np.random.default_rng(5)
    return 70.0 + np.cumsum(random.normal(0, 0.4, 480))


@pytest.mark.parametrize(("before", "after"), [(2.0, 10.0), (1.0, 5.5), (3.25, 20.0)])
@pytest.mark.parametrize(("modality", "name"), [("heart_rate", "ECG_Rate"), ("resp_rate", "RSP_Rate")])
def test_rates_are_those_of_neurokit(wandering: Values, modality: str, name: str, before: float, after: float) -> None:
    import neurokit2 as nk

    level = wandering if name == "ECG_Rate" else wandering / 5
    onsets = np.array([10.0, 31.25, 60.5, 88.75])
    ours = rows(cleaned(series(modality, "bpm", level)), events_at(*onsets), Around(("tone",), before, after))
    frame = pd.DataFrame({name: level})
    epochs = nk.epochs_create(frame, (onsets * 4).astype(int), 4, epochs_start=-before, epochs_end=after)
    related = nk.ecg_eventrelated if name == "ECG_Rate" else nk.rsp_eventrelated
    with pytest.warns(Warning):
        theirs = related(epochs, silent=True).sort_values("Event_Onset")
    for key in ("Baseline", "Max", "Min", "Mean", "SD"):
        assert ours[f"{name}_{key}"].to_numpy() == pytest.approx(theirs[f"{name}_{key}"].to_numpy()), key
    for key in ("Max_Time", "Min_Time"):  # neurokit2 stretches the time of an epoch by up to one sample
        assert ours[f"{name}_{key}"].to_numpy() == pytest.approx(theirs[f"{name}_{key}"].to_numpy(), abs=0.25), key
    assert (ours[f"{name}_Coverage"] == 1.0).all()


def test_times_are_exact_between_samples() -> None:
    rate = 60.0 + np.maximum(0.0, 10.0 - np.abs(np.arange(400) / 4 - 50.0))  # a tent with its top at 50 s
    row = rows(cleaned(series("heart_rate", "bpm", rate)), events_at(44.1), Around(("tone",))).iloc[0]
    assert row["ECG_Rate_Baseline"] == pytest.approx(64.1)
    assert row["ECG_Rate_Max_Time"] == pytest.approx(6.0)  # 5.9 by the tent, read every quarter of a second
    assert row["ECG_Rate_Max"] == pytest.approx(5.8)
    assert row["ECG_Rate_Min"] == pytest.approx(0.25)


def test_what_leaves_the_recording_or_is_masked_is_missing_and_counted() -> None:
    rate = np.full(400, 70.0)  # 100 s
    rate[160:172] = np.nan  # 40 to 43 s
    rate[240:250] = np.nan  # 60 to 62.5 s
    clean = cleaned(series("heart_rate", "bpm", rate))
    events, around = events_at(1.0, 20.0, 36.0, 52.0, 61.0, 95.0), Around(("tone",))
    table = rows(clean, events, around)
    assert table["ECG_Rate_Mean"].isna().tolist() == [True, False, True, False, True, True]
    assert table["ECG_Rate_Coverage"].tolist() == pytest.approx([44 / 48, 1.0, 36 / 48, 40 / 48, 38 / 48, 28 / 48])
    assert "2 of 6 events have no values: 2 s before to 10 s after them leaves the recording." in notes_around(
        clean, events, around
    )
    change = courses_around(clean, events, around).series["heart_rate"]
    assert np.isnan(change).all(axis=1).tolist() == [True, False, True, False, True, True]


def test_events_in_each_others_stretch_are_counted_and_noted() -> None:
    clean = cleaned(series("heart_rate", "bpm", np.full(400, 70.0)))
    events, around = events_at(20.0, 29.9, 50.0, 60.0, 80.0), Around(("tone",))
    assert rows(clean, events, around)["Other_Events"].tolist() == [1, 0, 0, 0, 0]
    assert rows(clean, events_at(20.0, 22.0), around)["Other_Events"].tolist() == [1, 1]
    (note,) = notes_around(clean, events, around)
    assert note.startswith("1 of 5 events have another one 2 s before to 10 s after them")


def test_a_skin_response_is_the_first_that_begins_one_to_five_seconds_after_the_event() -> None:
    onsets = np.array([10.5, 21.0, 33.0, 34.5, 45.0, 56.0])
    planted = SkinResponses(
        onsets, onsets + 1.5, np.arange(6) / 10 + 0.1, np.full(6, 2.5), np.array([[0.0, 62.0], [64.0, 80.0]])
    )
    clean = cleaned(series("tonic", "log uS", np.zeros(400)), responses=planted)
    table = rows(clean, events_at(10.0, 20.0, 30.0, 40.0, 50.9, 60.0, 70.0, 85.0), Around(("tone",)))
    assert table["EDA_SCR"].tolist() == pytest.approx([0, 1, 1, 1, 0, np.nan, 0, np.nan], nan_ok=True)
    assert table["SCR_Peak_Amplitude"][1:4].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert table["SCR_Peak_Amplitude_Time"][1:4].tolist() == pytest.approx([2.5, 4.5, 6.5])
    assert table["SCR_RiseTime"][1] == pytest.approx(1.5) and table["SCR_RecoveryTime"][1] == pytest.approx(2.5)
    assert table["SCR_Peak_Amplitude"][[0, 4, 5, 6, 7]].isna().all()
    assert table["SCR_Coverage"][5] == pytest.approx(0.25 + 0.25)


def test_skin_responses_are_those_of_neurokit() -> None:
    import neurokit2 as nk

    rate, seconds = 8.0, 150.0
    stimuli = np.array([20.0, 45.0, 70.0, 95.0, 120.0])
    answered = np.array([20.0, 70.0, 120.0])
    skin = skin_of(answered + 2.0, 0.5, seconds, rate)
    signal = Signal.from_samples("EDA", "eda", "uS", rate, skin)
    one = Recording("S1", "", "lab", (signal,), events_at(*stimuli))
    ours = around_features(one, Around(("tone",))).to_frame()
    table, _ = nk.eda_process(skin, sampling_rate=8)
    epochs = nk.epochs_create(table, (stimuli * rate).astype(int), 8, epochs_start=-2, epochs_end=10)
    theirs = nk.eda_eventrelated(epochs, silent=True).sort_values("Event_Onset")
    assert ours["EDA_SCR"].tolist() == [1, 0, 1, 0, 1] == theirs["EDA_SCR"].tolist()
    seen = ours["EDA_SCR"] == 1
    assert ours["SCR_Peak_Amplitude"][seen].to_numpy() == pytest.approx(0.5, rel=0.1)
    assert ours["SCR_Peak_Amplitude_Time"][seen].to_numpy() == pytest.approx(
        theirs["SCR_Peak_Amplitude_Time"].to_numpy()[seen], abs=0.6
    )


def test_heart_rate_that_jumps_after_an_event_is_found_in_an_ecg() -> None:
    stimuli = np.arange(30.0, 150.0, 30.0)
    times = [0.4]
    while times[-1] < 170.0:
        late = times[-1] - stimuli
        rate = 60.0 + 12.0 * float(((late > 3.0) & (late < 6.0)).any())
        times.append(times[-1] + 60.0 / rate)
    heart = Heart(np.array(times[:-1]), np.ones(len(times) - 1, dtype=bool))
    signal = Signal.from_samples("ECG", "ecg", "mV", 250.0, ecg_of(heart, 170.0, 250.0))
    one = Recording("S1", "", "lab", (signal,), events_at(*stimuli))
    table = bp.features(one, around="tone").to_frame()
    assert table["onset"].tolist() == stimuli.tolist() and (table["duration"] == 0).all()
    assert table["label"].tolist() == ["tone"] * 4
    assert table["ECG_Rate_Baseline"].to_numpy() == pytest.approx(60.0, abs=0.5)
    assert table["ECG_Rate_Max"].to_numpy() == pytest.approx(12.0, abs=1.0)
    assert table["ECG_Rate_Max_Time"].between(3.0, 6.5).all()
    other = around_features(one, Around(("other",)))
    assert other.to_frame().empty and other.measures.names and len(other.detected["beats"].columns["time"]) > 150
    assert "no event is labelled 'other': the recording has no rows." in other.notes


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_band_power_changes_by_what_was_planted_in_its_band_and_region_alone(factor: float) -> None:
    rate, seconds = 250.0, 120.0
    random = np.random.default_rng(2)
    t = np.arange(round(seconds * rate)) / rate
    stimuli = np.arange(20.0, 110.0, 20.0)
    gain = np.ones_like(t)
    for at in stimuli:
        gain[(t >= at) & (t < at + 8.0)] = np.sqrt(factor)
    names = ("F3", "F4", "C3", "C4", "O1", "O2")
    shared = np.cumsum(random.normal(0, 1.0, len(t)))  # neighbours share a part, which the average reference takes away
    shared -= np.convolve(shared, np.ones(250) / 250, mode="same")
    samples = random.normal(0, 6.0, (6, len(t))) + 3.0 * shared
    alpha = gain * 15.0 * np.sin(2 * np.pi * 10.0 * t)
    samples[4] += alpha
    samples[5] -= alpha  # no average takes it to other channels
    eeg = Signal.from_samples("EEG", "eeg", "uV", rate, samples, tuple(Channel(name) for name in names))
    one = Recording("S1", "", "lab", (eeg,), events_at(*stimuli))
    table = around_features(one, Around(("tone",), 4.0, 7.0)).to_frame()
    assert table["EEG_occipital_alpha_Change"].mean() == pytest.approx(10 * np.log10(factor), abs=0.4)
    assert abs(table["EEG_frontal_beta_Change"].mean()) < 0.5
    assert abs(table["EEG_occipital_beta_Change"].mean()) < 0.5
    assert table["EEG_occipital_alpha_Baseline"].mean() == pytest.approx(15.0**2 / 2, rel=0.1)
    assert table["EEG_Coverage"].min() > 0.95


def test_band_power_before_and_after_is_of_the_same_channels() -> None:
    power = np.log(np.array([[1.0], [100.0]]) * np.ones((2, 400)))
    power[1, 100:160] = np.nan  # the strong channel is lost after the event
    row = rows(cleaned(series("eeg_alpha", "log uV^2", power, ("O1", "O2"))), events_at(25.0), Around(("tone",))).iloc[
        0
    ]
    assert row["EEG_occipital_alpha_Change"] == pytest.approx(0.0, abs=1e-9)
    assert row["EEG_occipital_alpha_Baseline"] == pytest.approx(1.0)


def test_every_column_is_described() -> None:
    values = np.full(400, 15.0)
    clean = cleaned(
        series("heart_rate", "bpm", values * 4), series("resp_rate", "bpm", values),
        series("eeg_alpha", "log uV^2", values / 10, ("Fz",)),
        responses=SkinResponses(*(np.array([float(x)]) for x in (22, 24, 1, 2)), np.array([[0.0, 100.0]])),
    )  # fmt: skip
    table = rows(clean, events_at(20.0), Around(("tone",)))
    assert len(table.columns) == 1 + 8 + 8 + 6 + 5
    for name in table.columns:
        column = column_of(name)
        assert column.unit and column.definition, name
        assert column.lowest is None or (table[name].dropna() >= column.lowest).all(), name
        assert column.highest is None or (table[name].dropna() <= column.highest).all(), name


def features_of(subject: str, label: tuple[str, ...], values: Values) -> RecordingFeatures:
    """Return rows around events whose highest heart rate, and whose course throughout, is as given."""
    clean, around = cleaned(series("heart_rate", "bpm", np.full(4000, 70.0))), Around(("a",))
    events = events_at(*np.arange(20.0, 20.0 + 15 * len(label), 15.0))
    measured, courses = measure_around(clean, events, around), courses_around(clean, events, around)
    filled = measured.values.copy()
    filled[:, measured.names.index("ECG_Rate_Max")] = values
    change = courses.series["heart_rate"] + values[:, None]
    courses = replace(courses, series={"heart_rate": change})
    return RecordingFeatures(subject, "", "lab", replace(measured, values=filled), label, {}, (), courses)


def test_averages_are_over_subjects_and_not_over_events() -> None:
    nan = np.nan
    recordings = [
        ("A", features_of("A", ("loud", "loud", "loud", "soft"), np.array([1.0, 2.0, 3.0, 7.0]))),
        ("B", features_of("B", ("loud", "loud", "loud"), np.array([5.0, nan, nan]))),
        ("C", features_of("C", ("loud",), np.array([9.0]))),
        ("C", features_of("C", ("loud",), np.array([11.0]))),
    ]
    table = {
        (a.condition, a.measure): a for a in averages(recordings, ("ECG_Rate_Max", "ECG_Rate_Min", "RSP_Rate_Max"))
    }
    loud = table["loud", "ECG_Rate_Max"]
    means = [2.0, 5.0, 10.0]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (loud.mean, loud.low, loud.high) == pytest.approx((np.mean(means), low, high))
    assert (loud.n_subjects, loud.n_events) == (3, 6)
    soft = table["soft", "ECG_Rate_Max"]
    assert (soft.mean, soft.low, soft.high, soft.sd, soft.n_subjects, soft.n_events) == (7.0, None, None, None, 1, 1)
    assert (table["loud", "RSP_Rate_Max"].mean, table["loud", "RSP_Rate_Max"].n_subjects) == (None, 0)
    course = {c.condition: c for c in mean_courses(recordings)}
    assert course["loud"].mean == pytest.approx(np.full(48, np.mean(means)))
    assert course["loud"].low == pytest.approx(np.full(48, low))
    assert np.isnan(course["soft"].low).all() and course["soft"].n_subjects == 1


def test_a_label_that_no_event_has_is_refused_with_those_there_are() -> None:
    clean = cleaned(series("heart_rate", "bpm", np.full(400, 70.0)))
    one = Recording("S1", "", "lab", clean.recording.signals, (*events_at(20.0), Interval(0.0, 90.0, "rest")))
    with pytest.raises(
        SettingsError, match=r"^no event is labelled 'tones'; there are: rest, tone; did you mean tone\?$"
    ):
        bp.features(one, around=["tone", "tones"])
    with pytest.raises(SettingsError, match="around has rows of its own"):
        bp.features(one, around=["tone"], rows="whole")
    with pytest.raises(SettingsError, match=r"--after is 0; it must be a number of seconds from 1 to 3600"):
        bp.features(one, around=["tone"], after=0.0)
    with pytest.raises(SettingsError, match="before and after are of events; name the events with around"):
        bp.features(one, before=3.0)


def test_a_label_that_is_named_twice_is_measured_once_and_times_not_given_are_the_usual_ones() -> None:
    assert Around.of(["tone", "light", "tone"], after=5.0) == Around(("tone", "light"), after_seconds=5.0)
