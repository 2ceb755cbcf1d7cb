"""GDF files of both versions, written in the documented layout: planted values, mne, and headers that lie."""

from __future__ import annotations

import struct
from datetime import datetime
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

RECORDS = 20
CHANNELS = (
    ("Cz", "uV", 4275, 250, (-200.0, 200.0)),
    ("Fp1", "uV", 4275, 250, (-3200.0, 3200.0)),
    ("ECG", "mV", 4274, 500, (-5.0, 5.0)),
    ("Temp", "degC", 6048, 1, (0.0, 50.0)),
    ("EMG", "furlong", 9999, 250, (-1.0, 1.0)),
)
"""Label, unit of version 1, code of version 2, samples in a record of 1 s, physical limits of -2048 to 2047."""
EVENTS = ((251, 768, 0), (501, 0x8300, 0), (1001, 7, 500))
"""Sample (from 1, at 250 Hz), code and length: a start, its end, an event of 2 s."""


def digital() -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    return [rng.integers(-2000, 2000, (RECORDS, n)).astype("<i2") for *_, n, _ in CHANNELS]


def planted(row: int) -> np.ndarray:
    low, high = CHANNELS[row][4]
    return (digital()[row].ravel() + 2048.0) * (high - low) / 4095 + low


def write(folder: Path, version: int, channels: tuple = CHANNELS) -> Path:
    n = len(channels)
    head = bytearray(256)
    head[:8] = b"GDF 1.25" if version == 1 else b"GDF 2.20"
    head[8:20] = b"X Lovelace  "
    if version == 1:
        head[168:184] = b"2024050607080900"
        head[184:192] = struct.pack("<q", 256 * (n + 1))
    else:
        days = (datetime(2024, 5, 6, 7, 8, 9) - datetime(1, 1, 1)).total_seconds() / 86400 + 367
        head[168:176] = struct.pack("<Q", round(days * 2**32))
        head[184:186] = struct.pack("<H", n + 1)
    head[236:244] = struct.pack("<q", RECORDS)
    head[244:252] = struct.pack("<II", 1, 1)
    head[252:256] = struct.pack("<I", n)
    limit = "<q" if version == 1 else "<d"
    columns = [
        b"".join(label.encode().ljust(16) for label, *_ in channels),
        bytes(80 * n),
        b"".join(unit.encode().ljust(8) for _, unit, *_ in channels)
        if version == 1
        else bytes(6 * n) + b"".join(struct.pack("<H", code) for _, _, code, *_ in channels),
        b"".join(struct.pack("<d", limits[0]) for *_, limits in channels),
        b"".join(struct.pack("<d", limits[1]) for *_, limits in channels),
        struct.pack(limit, -2048) * n,
        struct.pack(limit, 2047) * n,
        bytes(80 * n),
        b"".join(struct.pack("<i", samples) for *_, samples, _ in channels),
        struct.pack("<i", 3) * n,
        bytes(32 * n),
    ]
    values = digital()[:n]
    data = b"".join(values[row][record].tobytes() for record in range(RECORDS) for row in range(n))
    places, codes, lengths = (np.array(column) for column in zip(*EVENTS, strict=True))
    count = struct.pack("<I", len(EVENTS))
    table = b"\x03" + (struct.pack("<I", 250)[:3] + count if version == 1 else count[:3] + struct.pack("<f", 250.0))
    table += places.astype("<u4").tobytes() + codes.astype("<u2").tobytes() + bytes(2 * len(EVENTS))
    table += lengths.astype("<u4").tobytes()
    path = folder / "rest.gdf"
    path.write_bytes(bytes(head) + b"".join(columns) + data + table)
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_every_channel_keeps_its_rate_and_its_unit(tmp_path: Path, version: int) -> None:
    recording = load_recording(write(tmp_path, version))
    found = {s.name: (s.modality, s.unit, s.sampling_rate) for s in recording.signals}
    assert found == {
        "EEG": ("eeg", "uV", 250.0),
        "ECG": ("ecg", "mV", 500.0),
        "Temp": ("temp", "degC", 1.0),
        "EMG": ("emg", "furlong" if version == 1 else "code 9999", 250.0),
    }
    np.testing.assert_allclose(recording.signal("EEG").read(), [planted(0), planted(1)], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(recording.signal("ECG").read(777, 1999)[0], planted(2)[777:1999], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(recording.signal("Temp").read()[0], planted(3), rtol=1e-9)
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals] == [
        (1.0, 0.0, "768"),
        (4.0, 2.0, "7"),
    ]
    assert recording.started_at is not None
    assert abs((recording.started_at - datetime(2024, 5, 6, 7, 8, 9)).total_seconds()) < 1e-3
    assert "Lovelace" not in repr(recording)


@pytest.mark.parametrize("version", [1, 2])
def test_samples_of_one_rate_are_those_of_mne(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, version, CHANNELS[:2])
    raw = mne.io.read_raw_gdf(path, verbose="error")
    np.testing.assert_allclose(load_recording(path).signal("EEG").read(), raw.get_data() * 1e6, rtol=1e-9, atol=1e-6)


def test_a_file_that_is_cut_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    content = path.read_bytes()
    record = 2 * sum(n for *_, n, _ in CHANNELS)
    path.write_bytes(content[: 256 * (len(CHANNELS) + 1) + 7 * record + 5])
    recording = load_recording(path)
    assert recording.signal("EEG").n_samples == 7 * 250
    np.testing.assert_allclose(recording.signal("ECG").read()[0], planted(2)[:3500], atol=1e-9)
    assert any("cut: 7 of 20" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (4, b"x.xx"),
        (184, b"\xff\xff"),
        (236, b"\x00" * 8),
        (244, b"\x00" * 8),
        (252, b"\xff\xff"),
        (252, b"\x00\x00"),
        (256 + 216 * 5, b"\xff\xff\xff\x7f"),
        (256 + 216 * 5, b"\xff\xff\xff\xff"),
        (256 + 220 * 5, b"\x63\x00\x00\x00"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_name(tmp_path: Path, place: int, content: bytes) -> None:
    path = write(tmp_path, 2)
    changed = bytearray(path.read_bytes())
    changed[place : place + len(content)] = content
    path.write_bytes(bytes(changed))
    with pytest.raises(RecordingError, match=r"rest\.gdf"):
        load_recording(path)


def test_a_table_of_events_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    content = bytearray(path.read_bytes())
    at = len(content) - 8 - 12 * len(EVENTS)
    content[at + 1 : at + 4] = b"\xff\xff\xff"
    path.write_bytes(bytes(content))
    recording = load_recording(path)
    assert recording.intervals == ()
    assert any("events" in note for note in recording.notes)
