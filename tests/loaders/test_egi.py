"""EGI simple binary files, written in the documented layout and real."""

from __future__ import annotations

import struct
import time
from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

N_CHANNELS, N_SAMPLES, RATE = 5, 500, 250
CODES = (b"DIN1", b"resp")


def steps(kind: str) -> np.ndarray:
    return np.random.default_rng(4).integers(-2000, 2000, (N_SAMPLES, N_CHANNELS)).astype(kind)


def write(folder: Path, *, version: int = 2, bits: int = 0, span: int = 0, n_samples: int = N_SAMPLES) -> Path:
    kind = {2: ">i2", 4: ">f4", 6: ">f8", 3: ">i2"}[version]
    head = struct.pack(
        ">i6hi5hih", version, 2023, 4, 5, 6, 7, 8, 9, RATE, N_CHANNELS, 1, bits, span, n_samples, len(CODES)
    )
    events = np.zeros((N_SAMPLES, len(CODES)), dtype=kind)
    events[100, 0] = events[300, 1] = 1
    path = folder / "rest.raw"
    path.write_bytes(head + b"".join(CODES) + np.hstack([steps(kind), events]).astype(kind).tobytes())
    return path


@pytest.mark.parametrize(
    ("version", "bits", "span", "microvolts"),
    [(2, 12, 5000, 5000 / 4096), (4, 0, 0, 1.0), (6, 0, 0, 1.0), (2, 0, 0, 1.0)],
)
def test_a_calibrated_file_is_in_microvolts_as_one_that_is_not(
    tmp_path: Path, version: int, bits: int, span: int, microvolts: float
) -> None:
    path = write(tmp_path, version=version, bits=bits, span=span)
    recording = load_recording(path)
    eeg = recording.signal("EEG")
    assert (eeg.unit, eeg.channel_names, eeg.recognised_by) == ("uV", ("E1", "E2", "E3", "E4", "E5"), "format")
    np.testing.assert_allclose(eeg.read(), steps(">f8").T * microvolts, rtol=1e-6)
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [(0.4, "DIN1"), (1.2, "resp")]
    assert recording.started_at == datetime(2023, 4, 5, 6, 7, 8, 9000)


def test_the_start_is_the_header_s_in_every_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert load_recording(path).started_at == datetime(2023, 4, 5, 6, 7, 8, 9000), zone
    monkeypatch.undo()
    time.tzset()


def test_a_file_that_is_cut_or_of_segments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"rest\.raw: EGI segments"):
        load_recording(write(tmp_path, version=3))
    with pytest.raises(RecordingError, match=r"rest\.raw: 500 of 2000000000 samples"):
        load_recording(write(tmp_path, n_samples=2_000_000_000))
    path = write(tmp_path)
    for length in (30, 37, 60, path.stat().st_size - 1):
        write(tmp_path).write_bytes(path.read_bytes()[:length])
        with pytest.raises(RecordingError, match=r"rest\.raw"):
            load_recording(path)


def test_real_samples_are_those_of_mne(reference_data: Path) -> None:
    path = reference_data / "formats/egi_raw/test_egi.raw"
    raw = mne.io.read_raw_egi(path, verbose="error")
    recording = load_recording(path)
    eeg = recording.signal("EEG")
    np.testing.assert_allclose(eeg.read(), raw.get_data(picks="eeg") * 1e6, rtol=1e-12)
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [
        (float(a["onset"]), a["description"]) for a in raw.annotations
    ]
