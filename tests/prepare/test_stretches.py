"""A long recording prepared in stretches: what a whole one gives, with less memory; what a stretch lacks is missing."""

from __future__ import annotations

import mmap
from dataclasses import replace

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.prepare import recording as preparing
from biopercept.prepare.recording import PrepareSettings, _Rows, prepare_recording
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import Correction, Interval, Recording, Signal
from biopercept.store.prepared import give_back_pages

SECONDS, RATE = 1800, 200.0
SETTINGS = PrepareSettings(WindowSettings(60.0, 30.0))


def made() -> Recording:
    """Half an hour of a heart at 200 Hz, which is brought to 128 Hz, breaths, skin that starts late, and intervals."""
    random = np.random.default_rng(0)
    at = np.arange(int(SECONDS * RATE)) / RATE
    beats = np.cumsum(0.8 + 0.05 * random.standard_normal(int(SECONDS / 0.75)))
    beats = beats[beats < SECONDS - 1]
    ecg = random.normal(0, 0.01, len(at))
    for beat in beats:
        near = slice(int((beat - 0.1) * RATE), int((beat + 0.1) * RATE))
        ecg[near] += np.exp(-0.5 * ((at[near] - beat) / 0.012) ** 2)
    ecg[int(500 * RATE) : int(520 * RATE)] = np.nan
    slow = np.arange(SECONDS * 25) / 25
    skin = np.arange((SECONDS - 700) * 4) / 4
    signals = (
        Signal.from_samples("ECG", "ecg", "mV", RATE, ecg),
        Signal.from_samples("Resp", "resp", "a.u.", 25.0, np.sin(1.6 * slow) + random.normal(0, 0.01, len(slow))),
        replace(
            Signal.from_samples("EDA", "eda", "uS", 4.0, 3 + np.sin(skin / 40) + random.normal(0, 0.002, len(skin))),
            start_seconds=700.0,
        ),
        replace(Signal.from_samples("IBI", "ibi", "s", 0.0, np.diff(beats)), sampling_rate=0.0, times=beats[1:].copy()),
    )
    labels = tuple(Interval(start, 300.0, name) for start, name in ((0.0, "rest"), (450.0, "work"), (1400.0, "rest")))
    return Recording("S1", "", "r", signals, labels, notes=("a note of the file",))


@pytest.fixture
def in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "_SHORTEST_SECONDS", 400)
    monkeypatch.setattr(preparing, "_STORED_SAMPLES", 10)
    monkeypatch.setattr(preparing, "_AROUND_SECONDS", 200)
    monkeypatch.setattr(preparing, "_KEPT_IN_MEMORY", 1 << 16)  # so that some lies in files and some does not


def test_stretches_give_what_the_whole_gives(request: pytest.FixtureRequest) -> None:
    marks = (
        Correction("bad", 650.0, 30.0, ("ECG",)),
        Correction("bad", 1200.0, 20.0, ("Resp",)),
        Correction("polarity", channels=("ECG",)),
    )
    recording = replace(made(), corrections=marks)
    whole = prepare_recording(recording, SETTINGS)
    request.getfixturevalue("in_stretches")
    parts = prepare_recording(recording, SETTINGS)
    assert parts.notes[1].startswith("prepared in 5 stretches") and parts.notes[0] == "a note of the file"
    assert parts.signals == whole.signals and parts.corrections == whole.corrections
    assert parts.left_out == whole.left_out and parts.duration_seconds == whole.duration_seconds
    for signal in whole.signals:
        (samples, mask), (same, its_mask) = whole.read(signal.name), parts.read(signal.name)
        assert np.array_equal(mask, its_mask), signal.name
        spread = max(float(samples[mask].std()), 1e-3)
        assert np.abs(samples - same).max() < 2e-2 * spread, signal.name
        assert np.allclose(whole.read_quality(signal.name), parts.read_quality(signal.name), atol=1e-6), signal.name
    for name, reasons in whole.reasons.items():
        assert np.array_equal(reasons, parts.reasons[name]), name
    ours, theirs = whole.windows, parts.windows
    assert np.array_equal(ours.onset, theirs.onset) and np.array_equal(ours.label, theirs.label)
    assert np.array_equal(np.isnan(ours.features), np.isnan(theirs.features))
    spreads = np.nanstd(np.where(np.isfinite(ours.features).any(axis=0), ours.features, 0.0), axis=0) + 1e-3
    assert np.nanmax(np.abs(ours.features - theirs.features) / spreads) < 0.02
    assert np.allclose(ours.quality, theirs.quality, atol=1e-6)


@pytest.mark.usefixtures("in_stretches")
def test_a_stretch_without_anything_is_missing_and_said() -> None:
    recording = made()
    ecg = recording.signals[0].read()
    ecg[:, : int(900 * RATE)] = np.nan
    alone = replace(recording, signals=(Signal.from_samples("ECG", "ecg", "mV", RATE, ecg),))
    prepared = prepare_recording(alone, SETTINGS)
    assert "hours 0.0 to 0.1: nothing is left after cleaning" in prepared.notes
    _, mask = prepared.read("ECG")
    assert not mask[:, : 899 * 128].any() and mask[:, 901 * 128 :].all()
    assert (prepared.read_quality("ECG")[:, :890] == 0).all() and (prepared.reasons["ECG"][:, :100] & 1).all()
    assert np.isnan(prepared.windows.features[prepared.windows.onset < 300]).all()
    with pytest.raises(RecordingError, match="Nothing is left of S1 after cleaning"):
        prepare_recording(
            replace(alone, signals=(Signal.from_samples("ECG", "ecg", "mV", RATE, np.full_like(ecg, np.nan)),)),
            SETTINGS,
        )


def test_usual_recordings_are_prepared_as_a_whole_and_days_in_stretches() -> None:
    def n_stretches(hours: float, *sensors: tuple[str, float, int]) -> int:
        signals = tuple(
            replace(
                Signal.from_samples(f"{name}{place}", name, "", rate, np.zeros((n_channels, 1))),
                n_samples=int(hours * 3600 * rate),
            )
            for place, (name, rate, n_channels) in enumerate(sensors)
        )
        return len(preparing._stretches_of(Recording("", "", "", signals), 300))

    wrist = (("bvp", 64.0, 1), ("acc", 32.0, 3), ("eda", 4.0, 1), ("temp", 4.0, 1))
    night = (("ecg", 256.0, 1), ("eda", 256.0, 1), ("resp", 256.0, 1), ("temp", 256.0, 1), ("eeg", 256.0, 4))
    assert n_stretches(1, *wrist) == n_stretches(8, *wrist) == 1 and n_stretches(24, *wrist) == 3
    assert n_stretches(1, *night) == n_stretches(2.5, *night) == 1 and n_stretches(24, *night) >= 9
    assert n_stretches(1, ("eeg", 1000.0, 256)) == 1 and n_stretches(24, ("eeg", 1000.0, 256)) == 24
    for stretch in preparing._stretches_of(made(), 300):
        assert (stretch.first, stretch.stop) == (-np.inf, np.inf)


def test_rows_of_a_file_leave_memory_and_come_back_and_other_arrays_are_left_alone() -> None:
    rows = _Rows((2, 4_000_000), np.float32)
    rows.put(slice(5, 8), np.ones((2, 3), dtype=np.float32))
    part = rows.array[:, 4:9]
    give_back_pages(part)
    np.testing.assert_array_equal(part, [[0, 1, 1, 1, 0]] * 2)
    anonymous = np.frombuffer(mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
    anonymous[:3] = 7
    give_back_pages(anonymous)  # would be zeros: there is no file that keeps them
    assert anonymous[:3].tolist() == [7, 7, 7]
