"""A whole recording is cleaned once; nothing is filled, and what is left out is said."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError, SettingsError
from biopercept.modalities import DERIVED_RATE, MODALITIES
from biopercept.preprocessing.cleaning import clean_recording
from biopercept.preprocessing.derived import DEVICE_DISAGREES
from biopercept.preprocessing.features import FEATURE_NAMES, compute_features, window_quality
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import Channel, Recording, Signal

Maker = Callable[..., Signal]
RecordingMaker = Callable[..., Recording]


@pytest.fixture(scope="module")
def everything(
    make_signal: Maker,
    make_ecg: Callable[..., np.ndarray],
    make_pulse: Callable[..., np.ndarray],
    make_beats: Callable[..., np.ndarray],
    made_eeg: np.ndarray,
    eeg_channels: tuple[Channel, ...],
) -> Recording:
    """Return 60 s with every sensor there is."""
    rng = np.random.default_rng(0)
    beats = make_beats(60)
    t4 = np.arange(240) / 4
    signals = (
        make_signal("ecg", 250.0, make_ecg(beats, 60, 250.0)),
        make_signal("bvp", 64.0, make_pulse(beats, 60, 64.0)),
        make_signal("ibi", 4.0, np.diff(beats), times=beats[1:]),
        make_signal("hr", 1.0, np.full(60, 70.0)),
        make_signal("eda", 4.0, 3 + 0.2 * np.sin(2 * np.pi * 0.08 * t4) + 0.001 * rng.normal(size=240)),
        make_signal("temp", 4.0, 33 + 0.001 * t4),
        make_signal("resp", 25.0, np.sin(2 * np.pi * 0.25 * np.arange(1500) / 25)),
        make_signal("emg", 1000.0, rng.normal(0, 0.05, 60_000)),
        make_signal("acc", 32.0, rng.normal(0, 0.1, (3, 1920)) + np.array([[0], [0], [1]])),
        make_signal("eeg", 256.0, made_eeg, channels=eeg_channels),
        make_signal("eog", 256.0, rng.normal(0, 30, 256 * 60).cumsum() * 0.1),
        make_signal("spo2", 1.0, np.full(60, 97.0)),
    )
    return Recording("S1", "", "all", signals)


def test_every_sensor_is_cleaned_and_every_series_derived(everything: Recording) -> None:
    clean = clean_recording(everything)
    assert clean.notes == ()
    names = [s.name for s in clean.recording.signals]
    assert names[:12] == [s.name for s in everything.signals]
    assert set(names[12:]) == {name for name, row in MODALITIES.items() if row.is_derived}
    for signal in clean.recording.signals:
        assert signal.is_regular and signal.unit == MODALITIES[signal.modality].unit
        assert signal.sampling_rate <= MODALITIES[signal.modality].model_rate
        assert np.isfinite(signal.read()).mean() > 0.8, signal.name
        assert clean.quality[signal.name].shape == (signal.n_channels, 60)
        if MODALITIES[signal.modality].is_derived:
            assert (signal.sampling_rate, signal.start_seconds, signal.n_samples) == (DERIVED_RATE, 0.0, 240)
            assert signal.derived_from and signal.recognised_by == "derived"


def test_heart_rate_comes_from_the_ecg_first(everything: Recording) -> None:
    clean = clean_recording(everything)
    assert clean.recording.signal("heart_rate").derived_from.split("+")[0] == "ECG"
    assert clean.recording.signal("heart_variability").derived_from == clean.beats.source == "ECG"


def test_without_ecg_and_pulse_the_device_speaks(everything: Recording) -> None:
    for left, expected in ((("IBI", "HR"), "IBI"), (("HR",), "HR")):
        some = replace(everything, signals=tuple(s for s in everything.signals if s.name in left))
        assert clean_recording(some).recording.signal("heart_rate").derived_from.split("+")[0] == expected


def test_cleaning_one_sensor_does_not_depend_on_the_others(everything: Recording) -> None:
    together = clean_recording(everything)
    for name, derived in (("EDA", "phasic"), ("RESP", "resp_rate"), ("ACC", "activity")):
        alone = clean_recording(replace(everything, signals=(everything.signal(name),)))
        for each in (name, derived):
            np.testing.assert_array_equal(alone.recording.signal(each).read(), together.recording.signal(each).read())


def test_holes_of_the_pulse_rate_are_filled_by_the_device_and_nowhere_else(
    make_signal: Maker,
    make_recording: RecordingMaker,
    make_pulse: Callable[..., np.ndarray],
    make_beats: Callable[..., np.ndarray],
) -> None:
    samples = make_pulse(make_beats(120), 120, 64.0)
    samples[64 * 40 : 64 * 80] = np.nan
    pulse, device = make_signal("bvp", 64.0, samples), make_signal("hr", 1.0, np.full(120, 71.5))
    times = np.arange(480) / 4
    alone = clean_recording(make_recording(pulse)).recording.signal("heart_rate").read()[0]
    both = clean_recording(make_recording(pulse, device)).recording.signal("heart_rate")
    assert both.derived_from == "BVP+HR"
    known = np.isfinite(alone)
    assert not known[(times >= 40) & (times < 80)].any()
    np.testing.assert_array_equal(both.read()[0, known], alone[known])
    np.testing.assert_allclose(both.read()[0, (times >= 40) & (times < 80)], 71.5)


@pytest.mark.parametrize(("modality", "rate"), [("ecg", 256.0), ("bvp", 64.0)])
@pytest.mark.parametrize(("of_device", "is_apart"), [(71.5, False), (79.0, False), (110.0, True)])
def test_a_device_whose_heart_rate_is_not_that_of_the_beats_is_said(
    modality: str,
    rate: float,
    of_device: float,
    is_apart: bool,
    make_signal: Maker,
    make_recording: RecordingMaker,
    make_ecg: Callable[..., np.ndarray],
    make_pulse: Callable[..., np.ndarray],
    make_beats: Callable[..., np.ndarray],
) -> None:
    wave = (make_ecg if modality == "ecg" else make_pulse)(make_beats(120), 120, rate)  # about 71 a minute
    signal, device = make_signal(modality, rate, wave), make_signal("hr", 1.0, np.full(120, of_device))
    notes = [note for note in clean_recording(make_recording(signal, device)).notes if DEVICE_DISAGREES in note]
    assert bool(notes) == is_apart
    if is_apart:
        apart = int(re.search(r"differ by (\d+) 1/min in the median of 1[12] windows of 10 s", notes[0])[1])
        assert f"HR and the beats of {signal.name}" in notes[0] and 37 <= apart <= 41


def test_how_much_of_the_heart_rate_is_the_devices_is_said(
    make_signal: Maker,
    make_recording: RecordingMaker,
    make_pulse: Callable[..., np.ndarray],
    make_beats: Callable[..., np.ndarray],
) -> None:
    samples = make_pulse(make_beats(120), 120, 64.0)
    device = make_signal("hr", 1.0, np.full(120, 71.5))
    for hole, low, high in ((0, 0, 10), (60, 50, 60)):
        samples[64 * 40 : 64 * (40 + hole)] = np.nan
        notes = clean_recording(make_recording(make_signal("bvp", 64.0, samples), device)).notes
        shares = [int(m[1]) for n in notes if (m := re.match(r"heart_rate: (\d+) % of it is HR, the device's own", n))]
        assert low <= sum(shares) <= high
    alone = clean_recording(make_recording(device))
    assert alone.recording.signal("heart_rate").derived_from == "HR" and alone.notes == ()


def test_a_bad_eeg_channel_is_masked_named_and_kept_out_of_the_reference(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_signal: Maker, make_recording: RecordingMaker
) -> None:
    eeg = made_eeg.copy()
    eeg[4] = np.random.default_rng(9).normal(0, 15, eeg.shape[1])
    clean = clean_recording(make_recording(make_signal("eeg", 256.0, eeg, channels=eeg_channels)))
    samples = clean.recording.signal("EEG").read()
    assert np.isnan(samples[4]).all()
    np.testing.assert_allclose(np.delete(samples, 4, axis=0).mean(axis=0), 0, atol=1e-6)
    assert len(clean.notes) == 1 and clean.notes[0].startswith(
        "EEG, channel C3: masked as bad, correlates with no other"
    )
    assert clean.quality["EEG"][4].max() == 0 and clean.quality["EEG"][5].min() > 0.4
    assert np.isnan(clean.recording.signal("eeg_alpha").read()[4]).all()


def test_the_same_recording_gives_the_same_numbers(everything: Recording) -> None:
    first, second = clean_recording(everything), clean_recording(everything)
    for a, b in zip(first.recording.signals, second.recording.signals, strict=True):
        assert a.read().tobytes() == b.read().tobytes()


def test_missing_samples_are_never_filled(everything: Recording) -> None:
    """A 10 s gap in every regular signal stays a gap in it and in what is derived from it."""
    cut = []
    for signal in everything.signals:
        if not signal.is_regular:
            continue
        samples = signal.read().copy()
        samples[:, round(20 * signal.sampling_rate) : round(30 * signal.sampling_rate)] = np.nan
        cut.append(
            Signal.from_samples(
                signal.name, signal.modality, signal.unit, signal.sampling_rate, samples, channels=signal.channels
            )
        )
    clean = clean_recording(replace(everything, signals=tuple(cut)))
    for signal in clean.recording.signals:
        times = signal.sample_times()
        inside = (times >= 20) & (times < 30)
        assert np.isnan(signal.read()[:, inside]).all(), signal.name
    assert not ((clean.beats.times >= 20) & (clean.beats.times < 30)).any()


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        ({"modality": "unknown"}, "what it measures was not recognised"),
        ({"unit": "V"}, "its unit is 'V' and skin conductance needs 'uS'"),
        ({"unit": ""}, "its unit is not given and"),
        ({"sampling_rate": math.nan}, "its sampling rate is nan Hz"),
        ({"sampling_rate": 0.0}, "its sampling rate is 0.0 Hz"),
        ({"modality": "heart_rate", "unit": "bpm"}, "instantaneous heart rate is computed here, not read from a file"),
        ({"modality": "emg", "unit": "mV"}, "electromyogram is looked for above 20 Hz and it is sampled at only 4 Hz"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_a_note(
    signal: dict[str, object], reason: str, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    good = make_signal("temp", 4.0, 33 + 0.001 * np.arange(400))
    bad = replace(make_signal("eda", 4.0, 3 + np.sin(np.arange(400) / 30), name="odd"), **signal)  # type: ignore[arg-type]
    clean = clean_recording(make_recording(good, bad))
    assert [s.name for s in clean.recording.signals] == ["TEMP"]
    expected = reason.replace("skin conductance", MODALITIES["eda"].title).replace("'not given'", "'not given'")
    assert any(note.startswith("odd: left out, ") and expected in note for note in clean.notes), clean.notes
    assert set(clean.notes) <= set(clean.recording.notes)


def test_an_error_says_why_nothing_is_left(make_signal: Maker, make_recording: RecordingMaker) -> None:
    message = (
        "Nothing is left of S1 after cleaning: no signal has a valid sample. "
        "ECG: 100.0 % masked, outside the plausible -20 to 20 mV around its level."
    )
    with pytest.raises(RecordingError, match=f"^{re.escape(message)}"):
        clean_recording(make_recording(make_signal("ecg", 250.0, np.full(5000, 1e6))))
    with pytest.raises(RecordingError, match="It has no signals"):
        clean_recording(make_recording())


def test_bad_settings_are_refused_by_name() -> None:
    with pytest.raises(
        SettingsError, match=re.escape("cleaning.flat_seconds is -1; it must be a number of at least 0")
    ):
        CleaningSettings(flat_seconds=-1)
    with pytest.raises(
        SettingsError, match=re.escape("cleaning.powerline_hz is 55; allowed are 50, 60, or 0 for no notch.")
    ):
        CleaningSettings(powerline_hz=55)


def test_settings_reach_the_cleaner(make_signal: Maker, make_recording: RecordingMaker) -> None:
    skin = 0.05 + 0.01 * np.sin(np.arange(400) / 30)
    recording = make_recording(make_signal("eda", 4.0, skin))
    assert np.isfinite(clean_recording(recording).recording.signal("EDA").read()).all()
    with pytest.raises(RecordingError, match=re.escape("below 0.1 uS")):
        clean_recording(recording, CleaningSettings(eda_min_us=0.1))


RATES = {
    "ecg": (128.0, 500.0),
    "bvp": (64.0,),
    "eda": (4.0, 64.0),
    "resp": (25.0,),
    "emg": (256.0, 1000.0),
    "eeg": (128.0,),
    "temp": (4.0,),
    "acc": (32.0,),
    "spo2": (1.0,),
    "hr": (1.0,),
    "eog": (128.0,),
}


def _hostile(modality: str, rate: float, seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    n = max(round(rate * seconds), 1)
    rng = np.random.default_rng(n)
    offset = {"eda": 3.0, "temp": 33.0, "spo2": 96.0, "hr": 70.0}.get(modality, 0.0)
    scale = {"eeg": 20.0, "eog": 50.0, "bvp": 50.0}.get(modality, 0.3)
    t = np.arange(n) / rate
    good = offset + scale * (np.sin(2 * np.pi * 1.1 * t) ** 8 + 0.05 * rng.normal(size=n))
    yield "noise", offset + scale * rng.normal(size=n)
    yield "walk", offset + scale * 0.1 * np.cumsum(rng.normal(size=n))
    yield "hum", offset + scale * np.sin(2 * np.pi * 50 * t)
    yield "constant", np.full(n, 5.0)
    yield "zeros", np.zeros(n)
    yield "half flat", np.where(t < seconds / 2, good, 5.0)
    yield "clipped", np.clip(good, *np.quantile(good, [0.1, 0.9]))
    yield "one NaN", np.where(np.arange(n) == n // 3, np.nan, good)
    yield "a fifth NaN", np.where(rng.random(n) < 0.2, np.nan, good)
    yield "all NaN", np.full(n, np.nan)
    yield "infinite", np.where(np.arange(n) == n // 3, -np.inf, good)
    yield "huge", np.full(n, 1e308) * np.where(np.arange(n) % 2, 1, -1)
    yield "a million times", good * 1e6
    yield "a billionth", good * 1e-9
    yield "integers", np.round(good * 10)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0, 10.0, 60.0])
@pytest.mark.parametrize("modality", RATES)
def test_no_signal_however_bad_brings_the_cleaners_down(
    modality: str, seconds: float, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    """Either a sentence, or numbers that are finite or missing, with a quality between 0 and 1."""
    for rate in RATES[modality]:
        for kind, samples in _hostile(modality, rate, seconds):
            try:
                clean = clean_recording(make_recording(make_signal(modality, rate, samples)))
            except RecordingError as error:
                assert str(error).startswith("Nothing is left of S1 after cleaning")
                assert "%" in str(error) or "masked" in str(error) or "no samples" in str(error)
                continue
            if kind in ("all NaN", "huge", "zeros") and modality not in ("temp", "acc", "bvp", "resp", "hr"):
                pytest.fail(f"{modality} of {kind} passed")
            features = compute_features(clean, [0.0], max(seconds, 1.0))
            assert not np.isinf(features).any()
            quality = window_quality(clean, [0.0], max(seconds, 1.0))
            assert (quality >= 0).all() and (quality <= 1).all()
            for signal in clean.recording.signals:
                values = signal.read()
                assert not np.isinf(values).any()
                bound = max(abs(edge) for edge in MODALITIES[signal.modality].plausible)
                assert np.nanmax(np.abs(values), initial=0.0) <= 3 * bound


@pytest.mark.parametrize("modality", ["ecg", "bvp", "resp"])
@pytest.mark.parametrize("kind", ["noise", "hum", "constant", "zeros"])
def test_no_rate_comes_from_what_has_no_rhythm(
    modality: str, kind: str, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    for rate in RATES[modality]:
        samples = dict(_hostile(modality, rate, 60.0))[kind]
        steady = make_signal("temp", 4.0, 33 + 0.001 * np.arange(240))
        clean = clean_recording(make_recording(make_signal(modality, rate, samples), steady))
        assert not [s.name for s in clean.recording.signals if s.modality in ("heart_rate", "resp_rate")]
        assert clean.quality[modality.upper()].mean() < 0.05
        assert [note for note in clean.notes if note.startswith((modality.upper(), "heart_rate", "resp_rate"))]


@pytest.mark.realdata
def test_real_ecg_gives_a_rate_but_where_it_nearly_vanishes(reference_data: Path) -> None:
    edfio = pytest.importorskip("edfio")
    for name, has_rate in (("Subject00_1", True), ("Subject04_2", True), ("Subject13_1", False)):
        edf = edfio.read_edf(reference_data / "eegmat" / f"{name}.edf")
        ecg = next(s for s in edf.signals if "ECG" in s.label)
        signal = Signal.from_samples("ECG", "ecg", "mV", ecg.sampling_frequency, ecg.data)
        clean = clean_recording(Recording(name, "", name, (signal,)))
        rates = clean.recording.signals_of("heart_rate")
        assert bool(rates) == has_rate, name
        if has_rate:
            values = rates[0].read()
            assert np.isfinite(values).mean() > 0.95 and 50 < np.nanmean(values) < 110


def test_a_bipolar_montage_stays_as_recorded_and_that_is_said(
    make_signal: Maker, make_recording: RecordingMaker
) -> None:
    names = ("FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP2-F8", "F8-T8", "T8-P8", "P8-O2")
    rng = np.random.default_rng(0)
    places = {p: np.cumsum(rng.normal(size=60 * 128)) for name in names for p in name.split("-")}
    eeg = np.stack([places[a] - places[b] for a, b in (name.split("-") for name in names)])
    channels = tuple(Channel(name) for name in names)
    clean = clean_recording(make_recording(make_signal("eeg", 128.0, eeg, channels=channels)))
    assert clean.notes == (
        "EEG: kept as recorded, without an average reference, because its channels are measured against different "
        "electrodes (FP1-F7, F7-T7, T7-P7 and 5 more).",
    )
    alone = clean_recording(make_recording(make_signal("eeg", 128.0, eeg[3], channels=channels[3:4])))
    for name in ("EEG", "eeg_alpha", "eeg_gamma"):
        np.testing.assert_array_equal(clean.recording.signal(name).read()[3], alone.recording.signal(name).read()[0])


def test_one_bipolar_channel_stays_out_of_the_reference_of_the_others(
    made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...], make_signal: Maker, make_recording: RecordingMaker
) -> None:
    names = tuple(Channel("T3-T4") if i == 10 else channel for i, channel in enumerate(eeg_channels))
    clean = clean_recording(make_recording(make_signal("eeg", 256.0, made_eeg, channels=names)))
    assert clean.notes == (
        "EEG, channel T3-T4: kept as recorded and out of the average reference, because the other channels are "
        "measured against another electrode.",
    )
    np.testing.assert_allclose(np.delete(clean.recording.signal("EEG").read(), 10, axis=0).mean(axis=0), 0, atol=1e-6)


def test_muscle_that_is_sampled_too_slowly_for_its_band_is_said_to_be(
    make_signal: Maker, make_recording: RecordingMaker
) -> None:
    rng = np.random.default_rng(0)
    slow, fast, faster = (
        clean_recording(make_recording(make_signal("emg", rate, rng.normal(0, 0.05, round(20 * rate)))))
        for rate in (500.0, 1000.0, 2000.0)
    )
    assert slow.notes == (
        "EMG: sampled at 500 Hz, so that muscle activity above 250 Hz is not in it; "
        "compare it with recordings of the same rate only.",
    )
    assert fast.notes == faster.notes == ()


def test_muscle_activity_does_not_depend_on_a_rate_that_is_fast_enough(
    make_signal: Maker, make_recording: RecordingMaker
) -> None:
    from scipy.signal import resample_poly

    muscle = np.random.default_rng(0).normal(0, 0.05, 60 * 1000)
    levels = []
    for rate in (1000, 2000, 4000):
        samples = resample_poly(muscle, rate // 1000, 1)
        clean = clean_recording(make_recording(make_signal("emg", float(rate), samples)))
        levels.append(np.nanmean(clean.recording.signal("emg_envelope").read()))
    np.testing.assert_allclose(levels, levels[0], atol=0.05)


def test_what_was_found_comes_with_the_recording(everything: Recording) -> None:
    clean = clean_recording(everything)
    assert len(clean.beats) > 60 and len(clean.breaths) == 15
    np.testing.assert_allclose(np.diff(clean.breaths.times), 4.0, atol=0.1)


@pytest.mark.parametrize(
    ("modality", "rate", "note"),
    [
        (
            "eda",
            2.0,
            "EDA: no skin responses were looked for, because it is sampled at 2 Hz and at least 3 Hz is needed.",
        ),
        ("resp", 2.0, "RESP: no breaths were looked for, because it is sampled at 2 Hz and at least 3 Hz is needed."),
    ],
)
def test_what_is_sampled_too_slowly_is_said_and_missing(
    modality: str, rate: float, note: str, make_signal: Maker, make_recording: RecordingMaker
) -> None:
    samples = 3 + np.sin(2 * np.pi * 0.2 * np.arange(240) / rate)
    clean = clean_recording(make_recording(make_signal(modality, rate, samples)))
    assert note in clean.notes
    table = dict(zip(FEATURE_NAMES, compute_features(clean, [0.0], 60.0)[0], strict=True))
    assert np.isnan([table["eda/scr_per_minute"], table["resp/rate_mean"]]).all()


def test_noise_that_hides_small_responses_is_said(make_signal: Maker, make_recording: RecordingMaker) -> None:
    samples = 3 + np.random.default_rng(0).normal(0, 0.02, 1200)
    clean = clean_recording(make_recording(make_signal("eda", 4.0, samples)))
    assert len(clean.notes) == 1 and clean.notes[0].startswith("EDA: skin responses below 0.0")


def test_lost_samples_do_not_change_the_count_of_responses(make_signal: Maker, make_recording: RecordingMaker) -> None:
    t = np.arange(1200) / 4.0
    late = np.clip(t[:, None] - np.arange(12, 290, 20.0), 0, None)
    skin = 2 + 0.3 * np.sum(late / 1.5 * np.exp(1 - late / 1.5), axis=1)
    lossy = np.where(np.arange(1200) % 10 == 0, np.nan, skin)
    for samples in (skin, lossy):
        clean = clean_recording(make_recording(make_signal("eda", 4.0, samples)))
        table = compute_features(clean, [60.0], 120.0)[0]
        assert table[FEATURE_NAMES.index("eda/scr_per_minute")] == pytest.approx(3.0, abs=0.01)
        assert np.exp(table[FEATURE_NAMES.index("eda/scr_log_amplitude")]) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("modality", ["bvp", "resp", "eda", "temp", "acc", "hr", "spo2", "eog"])
@pytest.mark.parametrize("kind", ["wave", "hum", "still", "drift", "short"])
def test_what_is_plainly_left_is_left_by_the_filters(modality: str, kind: str) -> None:
    from biopercept.preprocessing import cleaning
    from biopercept.preprocessing.corrections import ByHand

    row = MODALITIES[modality]
    rate, middle = row.model_rate, sum(row.plausible) / 2 if row.plausible[0] >= 0 else 0.0
    n = 8 if kind == "short" else int(300 * rate)
    t = np.arange(n) / rate
    noise = 1e-3 * np.random.default_rng(0).normal(size=n)
    hz = {"wave": min(1.0, 0.2 * rate), "hum": 0.49 * rate, "drift": 1e-3}.get(kind, 0.3)
    samples = middle + (0.0 if kind == "still" else np.sin(2 * np.pi * hz * t) + noise)
    signal = Signal.from_samples("one", modality, row.unit, rate, np.broadcast_to(samples, (1, n)).copy())
    by_hand, settings = ByHand.masking(signal, ()), CleaningSettings()
    is_plain = cleaning._is_plainly_left(by_hand, settings)
    cleaned, _ = cleaning._clean_signal(signal, cleaning.grid_times(signal.end_seconds), settings, by_hand)
    is_left = bool(np.isfinite(cleaned.cleaned.read()).any())
    assert is_left or not is_plain
    if kind == "wave":
        assert is_plain
