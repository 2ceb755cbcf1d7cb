"""What was corrected by hand is used as it stands: stretches masked, beats there or not, waves the right way up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from biopercept.preprocessing.cleaning import clean_recording, why_unused
from biopercept.preprocessing.quality import BY_HAND
from biopercept.preprocessing.screening import screened
from biopercept.preprocessing.settings import CleaningSettings
from biopercept.recording import (
    BAD,
    BEAT_ADDED,
    BEAT_REMOVED,
    CHANNEL_BAD,
    POLARITY,
    Channel,
    Correction,
    Recording,
    Signal,
)

Samples = Callable[..., np.ndarray]
Maker = Callable[..., Signal]
SECONDS = 120


def corrected(signal: Signal | Recording, *corrections: Correction) -> Recording:
    recording = signal if isinstance(signal, Recording) else Recording("S1", "", "made", (signal,))
    return replace(recording, corrections=corrections)


def added(seconds: float, *channels: str) -> Correction:
    return Correction(BEAT_ADDED, seconds, 0.0, channels)


def removed(seconds: float, *channels: str) -> Correction:
    return Correction(BEAT_REMOVED, seconds, 0.0, channels)


@pytest.fixture
def planted(make_beats: Samples) -> np.ndarray:
    return np.asarray(make_beats(SECONDS))


@pytest.fixture
def ecg(planted: np.ndarray, make_ecg: Samples, make_signal: Maker) -> Signal:
    return make_signal("ecg", 250.0, make_ecg(planted, SECONDS, 250.0))


def test_a_bad_stretch_is_as_if_it_had_not_been_recorded(ecg: Signal, planted: np.ndarray) -> None:
    missing = ecg.read().copy()
    missing[:, 40 * 250 : 55 * 250] = np.nan
    missing[:, 200:210] = 400.0
    wild = ecg.read().copy()
    wild[:, 40 * 250 : 55 * 250] = 50.0  # a rail that would be the channel's highest value
    wild[:, 200:210] = 400.0
    clean = clean_recording(corrected(ecg.with_samples(wild, 250.0), Correction(BAD, 40.0, 15.0)))
    same = clean_recording(corrected(ecg.with_samples(missing, 250.0)))
    for one, other in zip(clean.recording.signals, same.recording.signals, strict=True):
        np.testing.assert_array_equal(one.read(), other.read())
    np.testing.assert_array_equal(clean.beats.times, same.beats.times)
    inside = (planted > 40.1) & (planted < 54.9)
    assert len(clean.beats) == len(planted) - inside.sum()
    assert clean.notes[0] == "corrected by hand: 15 s marked bad."
    assert not any("missing" in note for note in clean.notes) and any("missing" in note for note in same.notes)


def test_a_bad_stretch_of_one_signal_leaves_the_others(ecg: Signal, make_signal: Maker) -> None:
    eda = make_signal("eda", 4.0, 2.0 + 0.3 * np.sin(np.arange(480) / 15))
    recording = corrected(Recording("S1", "", "made", (ecg, eda)), Correction(BAD, 10.1, 0.2, ("EDA",)))
    clean = clean_recording(recording).recording
    np.testing.assert_array_equal(clean.signals[0].read(), clean_recording(corrected(ecg)).recording.signals[0].read())
    # Samples stand for their own quarter of a second: those that the stretch touches are masked.
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(clean.signal("EDA").read()[0])), [40, 41])


def test_a_mask_by_hand_goes_before_all_that_is_judged_by_a_channels_own_values(ecg: Signal) -> None:
    samples = ecg.read().copy()
    samples[:, 1000:1200] = samples.max()
    is_bad = np.zeros(samples.shape, dtype=bool)
    is_bad[:, 900:1300] = True
    masked, notes = screened(samples, ecg, CleaningSettings(), by_hand=is_bad)
    np.testing.assert_array_equal(np.isnan(masked), is_bad)
    assert notes == ()


@pytest.mark.parametrize("modality", ["ecg", "ibi"])
def test_quality_has_what_was_marked_by_hand_under_a_reason_of_its_own(
    modality: str, ecg: Signal, planted: np.ndarray, make_signal: Maker
) -> None:
    ibi = make_signal("ibi", 1.2, np.diff(planted), times=planted[1:])
    signal = {"ecg": ecg, "ibi": ibi}[modality]
    clean = clean_recording(corrected(signal, Correction(BAD, 40.0, 10.0)))
    share = clean.ratings[signal.name].shares[BY_HAND][0]
    first = 41 if modality == "ibi" else 40  # the series of intervals holds for half a beat longer
    np.testing.assert_array_equal(share[first:50], 1.0)
    assert not share[:40].any() and not share[50:].any()
    assert not clean.quality[signal.name][0, first:50].any()


def test_a_false_beat_that_is_removed_leaves_an_ordinary_interval(
    planted: np.ndarray, make_ecg: Samples, make_signal: Maker
) -> None:
    false = planted[60] + 0.4
    signal = make_signal("ecg", 250.0, make_ecg(np.sort([*planted, false]), SECONDS, 250.0))
    before = clean_recording(corrected(signal)).beats
    assert len(before) == len(planted) + 1
    clean = clean_recording(corrected(signal, removed(false + 0.1)))
    assert len(clean.beats) == len(planted)
    np.testing.assert_allclose(clean.beats.intervals[1:], np.diff(planted), atol=0.005)
    assert clean.notes[0] == "corrected by hand: 1 beat removed."
    assert clean.corrections == (removed(false + 0.1),)


def test_a_premature_beat_that_is_removed_leaves_no_long_interval(
    planted: np.ndarray, make_ecg: Samples, make_signal: Maker
) -> None:
    early = planted.copy()
    early[60] -= 0.3
    signal = make_signal("ecg", 250.0, make_ecg(early, SECONDS, 250.0))
    beats = clean_recording(corrected(signal, removed(early[60]))).beats
    assert len(beats) == len(planted) - 1
    assert np.nanmax(beats.intervals) < 1.2


def test_a_missed_beat_that_is_added_gives_both_its_intervals(
    planted: np.ndarray, make_ecg: Samples, make_signal: Maker
) -> None:
    signal = make_signal("ecg", 250.0, make_ecg(np.delete(planted, [60, 61]), SECONDS, 250.0))
    lost = clean_recording(corrected(signal)).beats
    assert len(lost) == len(planted) - 2 and np.isnan(lost.intervals[60])
    clean = clean_recording(corrected(signal, added(planted[60]), added(planted[61], "ECG")))
    np.testing.assert_allclose(clean.beats.times, planted, atol=0.005)
    np.testing.assert_allclose(clean.beats.intervals[1:], np.diff(planted), atol=0.01)
    assert clean.beats.times[clean.beats.by_hand].tolist() == planted[60:62].tolist()
    assert clean.notes[0] == "corrected by hand: 2 beats added."


def test_an_added_beat_counts_where_no_rule_would_have_believed_it(ecg: Signal, planted: np.ndarray) -> None:
    early = planted[60] + 0.35
    beats = clean_recording(corrected(ecg, removed(planted[61]), added(early))).beats
    where = int(np.flatnonzero(beats.by_hand)[0])
    np.testing.assert_allclose(beats.intervals[where : where + 2], [0.35, planted[62] - early], atol=0.005)


def test_beats_that_were_added_where_none_could_be_detected_are_all_there_are(make_signal: Maker) -> None:
    random = np.random.default_rng(5)
    noise = make_signal("ecg", 250.0, 0.2 * random.standard_normal(SECONDS * 250))
    assert len(clean_recording(corrected(noise)).beats) == 0
    times = 10.0 + 0.9 * np.arange(20)
    beats = clean_recording(corrected(noise, *map(added, times))).beats
    np.testing.assert_allclose(beats.intervals[1:], 0.9)
    np.testing.assert_array_equal(beats.times, times)


@pytest.mark.parametrize(
    ("correction", "note"),
    [
        (removed(60.0), "not corrected, beat-removed at 60.000 s: no beat was detected within 0.15 s."),
        (added(50.5), "not corrected, beat-added at 50.500 s: it lies in a stretch that is marked bad."),
        (added(1.0), "not corrected, beat-added at 1.000 s: there is a beat 0."),
        (added(20.0, "II"), "not corrected, beat-added at 20.000 s of II: II is not used."),
    ],
)
def test_what_cannot_be_applied_is_said(
    make_ecg: Samples, make_signal: Maker, correction: Correction, note: str
) -> None:
    beats = np.delete(1.1 + 0.8 * np.arange(148), [73, 74])  # none from 58.7 to 61.1
    signal = make_signal("ecg", 250.0, make_ecg(beats, SECONDS, 250.0))
    clean = clean_recording(corrected(signal, Correction(BAD, 50.0, 1.0), correction))
    assert next(one for one in clean.notes if one.startswith("not corrected")).startswith(note)
    assert clean.corrections == (Correction(BAD, 50.0, 1.0),)
    without = clean_recording(corrected(signal, Correction(BAD, 50.0, 1.0)))
    np.testing.assert_array_equal(clean.beats.intervals, without.beats.intervals)


def test_a_wave_that_was_turned_is_not_turned_again(planted: np.ndarray, make_ecg: Samples, make_signal: Maker) -> None:
    # S waves deeper than the R waves are high: the rule takes such a wave for upside down.
    samples = make_ecg(planted, SECONDS, 250.0) - 1.6 * make_ecg(planted + 0.06, SECONDS, 250.0)
    plain = clean_recording(corrected(make_signal("ecg", 250.0, samples))).beats
    assert np.median(plain.times - planted) > 0.05
    upside_down = make_signal("ecg", 250.0, 3.0 - samples)
    clean = clean_recording(corrected(upside_down, Correction(POLARITY, channels=("ECG",))))
    assert np.abs(np.median(clean.beats.times - planted)) < 0.005
    assert clean.notes[0] == "corrected by hand: ECG turned."
    turned = clean.recording.signals[0].read()
    straight = clean_recording(corrected(make_signal("ecg", 250.0, samples))).recording.signals[0].read()
    np.testing.assert_allclose(turned, straight, atol=0.001)  # the level that is filtered away differs


def test_a_stretch_that_was_turned_is_turned_alone(ecg: Signal, planted: np.ndarray) -> None:
    samples = ecg.read().copy()
    samples[:, 60 * 250 :] *= -1
    clean = clean_recording(corrected(ecg.with_samples(samples, 250.0), Correction(POLARITY, 60.0, 60.0, ("ECG",))))
    np.testing.assert_allclose(clean.beats.times, planted, atol=0.005)


def test_a_bad_channel_is_out_of_the_average_reference(made_eeg: np.ndarray, eeg_channels: tuple[Channel, ...]) -> None:
    loud = made_eeg.copy()
    loud[3] *= 2.0  # not so loud that it would be left out by itself
    signal = Signal.from_samples("EEG", "eeg", "uV", 128.0, loud, eeg_channels)
    name = f"EEG/{eeg_channels[3].name}"
    clean = clean_recording(corrected(signal, Correction(CHANNEL_BAD, channels=(name,)))).recording.signals[0].read()
    assert np.isnan(clean[3]).all()
    others = np.delete(np.arange(len(loud)), 3)
    alone = Signal.from_samples(
        "EEG", "eeg", "uV", 128.0, loud[others], tuple(eeg_channels[channel] for channel in others)
    )
    np.testing.assert_array_equal(clean[others], clean_recording(corrected(alone)).recording.signals[0].read())
    assert np.isfinite(clean_recording(corrected(signal)).recording.signals[0].read()[3]).any()


def test_device_intervals_are_split_and_joined(make_signal: Maker, planted: np.ndarray) -> None:
    ends, lengths = planted[1:], np.diff(planted)
    false = planted[30] + 0.4  # splits an interval
    times = np.sort([*np.delete(ends, [70]), false])  # and one beat is missing, so that an interval is of two
    values = np.diff(np.concatenate((planted[:1], times)))
    signal = make_signal("ibi", 1.2, values, times=times)
    clean = clean_recording(corrected(signal, removed(false), added(planted[71])))
    np.testing.assert_allclose(clean.beats.times, ends)
    np.testing.assert_allclose(clean.beats.intervals, lengths)
    assert clean.notes[0] == "corrected by hand: 1 beat removed, 1 added."


def test_beats_of_a_device_in_a_bad_stretch_are_not_used_nor_intervals_into_it(
    make_signal: Maker, planted: np.ndarray
) -> None:
    signal = make_signal("ibi", 1.2, np.diff(planted), times=planted[1:])
    beats = clean_recording(corrected(signal, Correction(BAD, 50.0, 10.0))).beats
    begins = planted[:-1]
    is_lost = np.isnan(beats.intervals)
    np.testing.assert_array_equal(is_lost, (planted[1:] >= 50.0) & (begins < 60.0))


def test_beats_corrected_by_hand_go_before_those_of_a_sensor_that_has_more(
    ecg: Signal, make_pulse: Samples, make_signal: Maker, planted: np.ndarray
) -> None:
    bvp = make_signal("bvp", 64.0, make_pulse(planted, SECONDS, 64.0))
    recording = Recording("S1", "", "made", (ecg, bvp))
    assert clean_recording(recording).beats.source == "ECG"
    peak = clean_recording(Recording("S1", "", "made", (bvp,))).beats.times[40]
    clean = clean_recording(corrected(recording, removed(peak, "BVP")))
    assert clean.beats.source == "BVP"
    assert "heart_variability: taken from BVP, whose beats were corrected by hand." in clean.notes
    assert clean.recording.signal("heart_rate").derived_from.split("+")[0] == "BVP"
    # Without a name, the ECG is meant, and the pulse wave stays as it is.
    assert clean_recording(corrected(recording, removed(planted[40]))).beats.source == "ECG"


def test_inspect_says_of_a_signal_what_cleaning_makes_of_it(ecg: Signal) -> None:
    whole = Correction(BAD, 0.0, SECONDS, ("ECG",))
    assert why_unused(ecg, corrections=(whole,)) == "it is marked bad by hand"
    assert why_unused(ecg, corrections=(Correction(BAD, 0.0, 60.0),)) == ""


def test_overlapping_stretches_are_counted_once(ecg: Signal) -> None:
    marks = (Correction(BAD, 10.0, 20.0), Correction(BAD, 20.0, 20.0), Correction(BAD, 115.0, 20.0))
    assert clean_recording(corrected(ecg, *marks)).notes[0] == "corrected by hand: 35 s marked bad."


def test_what_was_added_can_be_removed_again_and_what_was_removed_put_elsewhere(
    ecg: Signal, planted: np.ndarray
) -> None:
    plain = clean_recording(corrected(ecg)).beats
    extra = planted[60] + 0.4
    back = clean_recording(corrected(ecg, added(extra), removed(extra)))
    np.testing.assert_array_equal(back.beats.times, plain.times)
    moved = clean_recording(corrected(ecg, added(planted[60] + 0.05), removed(planted[60]))).beats
    assert len(moved) == len(plain) and moved.times[60] == planted[60] + 0.05


def test_two_who_turn_a_wave_turn_it_once(ecg: Signal) -> None:
    once = Correction(POLARITY, channels=("ECG",))
    twice = clean_recording(corrected(ecg, once, replace(once, who="another"))).recording.signals[0].read()
    np.testing.assert_array_equal(twice, clean_recording(corrected(ecg, once)).recording.signals[0].read())


def test_every_beat_of_a_device_may_be_removed(make_signal: Maker, ecg: Signal) -> None:
    ibi = make_signal("ibi", 1.2, np.array([0.8, 0.9]), times=np.array([1.8, 2.7]))
    both = Recording("S1", "", "made", (ecg, ibi))
    clean = clean_recording(corrected(both, removed(1.8, "IBI"), removed(2.7, "IBI")))
    assert clean.notes[0] == "corrected by hand: 2 beats removed."
    assert np.isnan(clean.recording.signal("IBI").read()).all()


def test_every_correction_is_applied_or_said(ecg: Signal, make_signal: Maker, planted: np.ndarray) -> None:
    random = np.random.default_rng(11)
    ibi = make_signal("ibi", 1.2, np.diff(planted), times=planted[1:])
    recording = Recording("S1", "", "made", (ecg, ibi))
    names: list[tuple[str, ...]] = [("ECG",), ("IBI",), ("EEG/T8",), ()]
    for _ in range(12):
        wanted = []
        for _ in range(8):
            at, channels = float(random.choice([*planted, 50.03, 121.0])), names[random.integers(len(names))]
            length = float(random.choice([0.01, 1.0, 30.0]))
            kinds = (added(at, *channels), removed(at, *channels), Correction(BAD, at, length, channels))
            wanted.append(kinds[random.integers(3)])
        clean = clean_recording(corrected(recording, *wanted))
        refused = [note for note in clean.notes if note.startswith("not corrected, ")]
        assert len(refused) + len(clean.corrections) == len(wanted)
        assert (np.diff(clean.beats.times) > 0).all()
