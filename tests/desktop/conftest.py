"""A recording of ECG, EDA and EEG as an EDF file, in a study of its own, for what is corrected in a window."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np
import pytest

BEATS = np.round(0.7 + np.cumsum(0.8 + 0.04 * np.sin(np.arange(70) / 3)), 3)
ELECTRODES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def ecg_of(beats: np.ndarray, seconds: float = 60.0, rate: int = 250) -> np.ndarray:
    at = np.arange(int(seconds * rate)) / rate
    waves = [np.exp(-0.5 * ((at - beat) / 0.012) ** 2) for beat in beats]
    return np.asarray(np.sum(waves, axis=0) + np.random.default_rng(2).normal(0, 0.01, len(at)))


@pytest.fixture
def recording_file(tmp_path: Path) -> Path:
    """A minute in which a false beat lies 0.4 s after the 50th, and the 30th is missing."""
    beats = BEATS[BEATS < 59]
    beats = np.sort([*np.delete(beats, 30), beats[50] + 0.4])
    noise = np.random.default_rng(3).normal(0, 12, (len(ELECTRODES), 60 * 128))
    signals = [
        edfio.EdfSignal(ecg_of(beats), 250, label="ECG", physical_dimension="mV"),
        edfio.EdfSignal(2 + 0.3 * np.sin(np.arange(240) / 15), 4, label="EDA", physical_dimension="uS"),
        *(
            edfio.EdfSignal(row, 128, label=f"EEG {name}", physical_dimension="uV")
            for row, name in zip(noise, ELECTRODES, strict=True)
        ),
    ]
    path = tmp_path / "study" / "one.edf"
    path.parent.mkdir()
    edfio.Edf(signals).write(path)
    return path


@pytest.fixture
def study(recording_file: Path) -> Path:
    """The study of that recording: half a minute of rest, half a minute of task."""
    tables = {
        "study.yaml": "name: made\ntasks: {load: {classes: {low: [rest], high: [task]}, ignore: [break]}}\n",
        "participants.tsv": "participant_id\nP1\n",
        "recordings.tsv": "participant_id\trecording\tpath\nP1\tlab\tone.edf\n",
        "events.tsv": "participant_id\trecording\tonset\tduration\ttrial_type\n"
        "P1\tlab\t0\t30\trest\nP1\tlab\t30\t30\ttask\n",
    }
    for name, text in tables.items():
        (recording_file.parent / name).write_text(text)
    return recording_file.parent
