"""Channels that are cleaned in groups, because all of them at the rate of the file do not fit, come out as together."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from biopercept.preprocessing import cleaning
from biopercept.preprocessing.cleaning import CleanRecording, clean_recording
from biopercept.recording import Channel, Correction, Recording, Signal

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Cz")
BY_HAND = (
    Correction("bad", 8, 3, ("EEG/F3",)),
    Correction("channel-bad", channels=("EEG/O1",)),
    Correction("bad", 14, 1),
    Correction("polarity", channels=("ECG/b",)),
)


def damaged(modality: str, unit: str, size: float, names: tuple[str, ...]) -> Signal:
    """Channels with something in common, lost samples, a flat stretch, a dead channel and one with hum."""
    rng = np.random.default_rng(len(names))
    times = np.arange(20_000) / 500
    rhythm = np.sin(2 * np.pi * (10 if modality == "eeg" else 1.2) * times) ** 9
    samples = size * (rhythm + 0.4 * rng.normal(size=(len(names), len(times))))
    samples[0, 3000:3900] = np.nan
    samples[1, 9000:12000] = samples[1, 9000]
    samples[2] += 9 * size * np.sin(2 * np.pi * 50 * times)
    samples[-1] = 0.0
    signal = Signal.from_samples(modality.upper(), modality, unit, 500, samples, tuple(map(Channel, names)))
    return replace(signal, start_seconds=0.25)


def cleaned() -> CleanRecording:
    signals = damaged("eeg", "uV", 30, NAMES), damaged("ecg", "mV", 1, ("a", "b", "c", "d"))
    return clean_recording(Recording("S", "", "r", signals, corrections=BY_HAND))


@pytest.mark.parametrize("n_in_group", [1, 3])
def test_no_value_reason_or_note_depends_on_the_groups(n_in_group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = cleaned()
    monkeypatch.setattr(cleaning, "_MOST_IN_GROUP", 20_000 * n_in_group)
    apart = cleaned()
    assert apart.notes == together.notes and apart.corrections == together.corrections == BY_HAND
    for ours, theirs in zip(apart.recording.signals, together.recording.signals, strict=True):
        assert (ours.name, ours.channels) == (theirs.name, theirs.channels)
        np.testing.assert_array_equal(ours.read(), theirs.read())
        np.testing.assert_array_equal(apart.quality[ours.name], together.quality[ours.name])
    for name, rating in together.ratings.items():
        np.testing.assert_array_equal(apart.ratings[name].index, rating.index)
        np.testing.assert_array_equal(apart.ratings[name].reasons(), rating.reasons())


def test_eeg_is_never_in_memory_as_a_whole_at_the_rate_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n_channels, n_samples = np.random.default_rng(0), 24, 30_000

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        common = 40 * np.sin(np.arange(start, stop) / 16)
        return common + rng.normal(0, 20, (len(range(n_channels)[rows]), stop - start))

    channels = tuple(Channel(f"c{number}") for number in range(n_channels))
    empty = Signal.from_samples("EEG", "eeg", "uV", 1000, np.zeros((n_channels, 1)), channels)
    recording = Recording("S", "", "r", (replace(empty, n_samples=n_samples, reader=read),))
    monkeypatch.setattr(cleaning, "_MOST_IN_GROUP", 2 * n_samples)
    tracemalloc.start()
    clean_recording(recording)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_channels * n_samples * 8


def test_channels_of_a_signal_are_read_alone() -> None:
    samples = np.arange(40.0).reshape(4, 10)
    signal = Signal.from_samples("EEG", "eeg", "uV", 10, samples).of_rows(slice(1, 4))
    assert signal.channel_names == ("EEG2", "EEG3", "EEG4")
    np.testing.assert_array_equal(signal.read(2, 5, slice(1, 9)), samples[2:4, 2:5])
    np.testing.assert_array_equal(signal.of_rows(slice(2, 3)).read(), samples[3:4])
