"""FIT: files written byte by byte after the protocol, and real ones beside the library that decodes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from loaders.test_conformance import check_recording

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

BEGIN = 1_000_000_000  # seconds of the FIT clock
EPOCH = datetime(1989, 12, 31, tzinfo=UTC)
RECORD, HRV, LAP, EVENT, FILE_ID = 20, 78, 19, 21, 0
_CRC = (0x0, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401, 0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01)
_CRC += (0x8801, 0x4400)


def crc_of(content: bytes) -> int:
    """The checksum of the FIT protocol, a nibble at a time."""
    crc = 0
    for byte in content:
        for nibble in (byte & 0xF, byte >> 4):
            crc = (crc >> 4) & 0xFFF ^ _CRC[crc & 0xF] ^ _CRC[nibble]
    return crc


def definition(local: int, message: int, fields: Sequence[tuple[int, int, int]]) -> bytes:
    """A definition message; fields are (number, bytes, base type)."""
    body = b"".join(bytes(one) for one in fields)
    return bytes([0x40 | local, 0, 0]) + struct.pack("<HB", message, len(fields)) + body


def fit_file(body: bytes, *, size: int | None = None) -> bytes:
    header = struct.pack("<BBHI4s", 14, 0x20, 2132, len(body) if size is None else size, b".FIT")
    content = header + struct.pack("<H", crc_of(header)) + body
    return content + struct.pack("<H", crc_of(content))


DEFINITIONS = (
    definition(0, FILE_ID, [(0, 1, 0x00)])
    + definition(1, RECORD, [(253, 4, 0x86), (3, 1, 0x02), (0, 4, 0x85), (13, 1, 0x01)])
    + definition(2, HRV, [(0, 10, 0x84)])
    + definition(3, LAP, [(253, 4, 0x86), (2, 4, 0x86), (7, 4, 0x86)])
    + definition(4, EVENT, [(253, 4, 0x86), (0, 1, 0x00), (1, 1, 0x00)])
)


def record(stamp: int, heart_rate: int, latitude: int = 703410450) -> bytes:
    return b"\x01" + struct.pack("<IBib", stamp, heart_rate, latitude, 21)


def hrv(*milliseconds: int) -> bytes:
    return b"\x02" + struct.pack("<5H", *milliseconds, *[0xFFFF] * (5 - len(milliseconds)))


def activity() -> bytes:
    """100 s of records with a pause of 30 s, beats of 0.8 s in each second, a lap and the timer's stop and start."""
    body = DEFINITIONS + b"\x00\x04"
    for second in range(100):
        if not 40 <= second < 70:
            body += record(BEGIN + second, 60 + second % 40) + (hrv(800) if second % 5 else hrv(800, 800))
    body += b"\x03" + struct.pack("<III", BEGIN + 99, BEGIN + 2, 50_500)
    body += b"\x04" + struct.pack("<IBB", BEGIN + 39, 0, 4) + b"\x04" + struct.pack("<IBB", BEGIN + 70, 0, 0)
    return body


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "made.fit"
    path.write_bytes(content)
    return path


def test_heart_rate_lies_at_its_seconds_and_pauses_are_gaps(tmp_path: Path) -> None:
    recording = load_recording(written(tmp_path, fit_file(activity())))
    check_recording(recording)
    rate = recording.signal("heart rate")
    expected = np.array([60.0 + second % 40 for second in range(100)])
    expected[40:70] = np.nan
    np.testing.assert_array_equal(rate.read()[0], expected)
    assert (rate.modality, rate.unit, rate.sampling_rate) == ("hr", "bpm", 1.0)
    assert recording.started_at == EPOCH + timedelta(seconds=BEGIN)
    assert "gaps: 30 of 100 s have no record and are missing samples" in recording.notes


def test_laps_and_pauses_are_intervals(tmp_path: Path) -> None:
    recording = load_recording(written(tmp_path, fit_file(activity())))
    assert [(one.onset_seconds, one.duration_seconds, one.label) for one in recording.intervals] == [
        (2.0, 50.5, "lap 1"),
        (39.0, 31.0, "pause"),
    ]


def test_beats_follow_each_other_and_begin_anew_after_a_pause(tmp_path: Path) -> None:
    beats = load_recording(written(tmp_path, fit_file(activity()))).signal("IBI")
    times = beats.sample_times()
    np.testing.assert_allclose(beats.read()[0], 0.8)
    n_before = 40 + 8
    np.testing.assert_allclose(times[:n_before], 0.8 * np.arange(1, n_before + 1))
    np.testing.assert_allclose(times[n_before], 70.8)
    assert len(times) == n_before + 30 + 6


def test_no_position_and_no_profile_is_anywhere(tmp_path: Path) -> None:
    recording = load_recording(written(tmp_path, fit_file(activity())))
    assert recording.signal("device temperature").modality == "unknown"
    assert {signal.name for signal in recording.signals} == {"heart rate", "device temperature", "IBI"}
    assert "703410450" not in repr(recording)


def test_a_heart_rate_of_zero_is_missing_and_records_that_differ_are_said(tmp_path: Path) -> None:
    body = DEFINITIONS + record(BEGIN, 0) + record(BEGIN + 1, 70) + record(BEGIN + 1, 90) + record(BEGIN + 2, 255)
    recording = load_recording(written(tmp_path, fit_file(body + record(BEGIN + 3, 71) + record(BEGIN + 3, 71))))
    np.testing.assert_array_equal(recording.signal("heart rate").read()[0], [np.nan, np.nan, np.nan, 71])
    assert "1 second has records that differ; nothing says which is right, they are missing" in recording.notes


def test_a_clock_that_was_not_set_gives_no_date(tmp_path: Path) -> None:
    body = DEFINITIONS + b"".join(record(1000 + second, 70) for second in range(20))
    recording = load_recording(written(tmp_path, fit_file(body)))
    assert recording.started_at is None
    assert "the clock of the device was not set; there is no date and no time of day" in recording.notes


def test_a_time_of_another_year_is_left_out(tmp_path: Path) -> None:
    body = DEFINITIONS + b"".join(record(BEGIN + second, 70) for second in range(200)) + record(0xFFFFFFF0, 70)
    recording = load_recording(written(tmp_path, fit_file(body)))
    assert recording.duration_seconds == 200
    assert "1 records have a time that all others contradict and are left out" in recording.notes


@pytest.mark.parametrize("name", ["activity-small-fenix2-run", "garmin-edge-500-activity"])
def test_real_files_hold_what_the_library_reads(reference_data: Path, name: str) -> None:
    import fitdecode

    path = reference_data / "formats" / "garmin_fit" / f"{name}.fit"
    recording = load_recording(path)
    check_recording(recording)
    by_time: dict[datetime, set[int]] = {}
    n_laps = 0
    with fitdecode.FitReader(path) as reader:
        for frame in reader:
            if frame.frame_type == fitdecode.FIT_FRAME_DATA:
                n_laps += frame.name == "lap"
                if frame.name == "record" and (beats := frame.get_value("heart_rate", fallback=None)):
                    by_time.setdefault(frame.get_value("timestamp"), set()).add(beats)
    assert recording.started_at is not None
    samples = recording.signal("heart rate").read()[0]
    expected = np.full(len(samples), np.nan)
    for moment, values in by_time.items():
        if len(values) == 1:
            expected[int((moment - recording.started_at).total_seconds())] = values.pop()
    np.testing.assert_array_equal(samples, expected)
    assert sum(one.label.startswith("lap") for one in recording.intervals) == n_laps


# ---- cut, changed, lying ----


def refused_or_sound(path: Path) -> None:
    try:
        check_recording(load_recording(path))
    except RecordingError as fault:
        assert "made.fit" in str(fault)
        assert "made.fit: cannot be read (" not in str(fault)  # the net under all readers


def test_a_file_cut_at_any_place_is_read_in_part_or_refused(tmp_path: Path) -> None:
    content = fit_file(activity())
    for place in np.linspace(1, len(content) - 1, 22).astype(int):
        refused_or_sound(written(tmp_path, content[:place]))
    recording = load_recording(written(tmp_path, content[: len(content) // 2]))
    assert any("the file is cut or damaged after" in note for note in recording.notes)
    part = recording.signal("heart rate").read()[0]
    whole = load_recording(written(tmp_path, content)).signal("heart rate").read()[0]
    np.testing.assert_array_equal(part, whole[: len(part)])


def test_a_changed_byte_is_said_by_the_checksum(tmp_path: Path) -> None:
    content = bytearray(fit_file(activity()))
    content[-40] ^= 1
    notes = load_recording(written(tmp_path, bytes(content))).notes
    assert "the checksum is wrong: a part of the file was changed, and values may be wrong" in notes


def test_changed_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    content = fit_file(activity())
    rng = np.random.default_rng(3)
    for place in [*range(0, len(DEFINITIONS) + 14), *rng.integers(100, len(content), 20)]:
        changed = bytearray(content)
        changed[place] = int(rng.integers(0, 256))
        refused_or_sound(written(tmp_path, bytes(changed)))


@pytest.mark.parametrize(
    "content",
    [
        fit_file(b""),
        fit_file(DEFINITIONS + b"\x00\x02"),
        fit_file(activity(), size=0xFFFFFFFF)[:60],
        fit_file(definition(1, RECORD, [(253, 0, 0x86)]) + b"\x01"),
        b"\x0e\x20\x54\x08\x00\x00\x00\x00.FIT" + np.random.default_rng(5).bytes(5000),
    ],
)
def test_a_file_without_heart_rate_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RecordingError, match=r"made\.fit: (the|not)"):
        load_recording(written(tmp_path, content))


def test_a_size_that_lies_costs_only_the_end(tmp_path: Path) -> None:
    recording = load_recording(written(tmp_path, fit_file(activity(), size=0xFFFFFFF0)))
    assert recording.signal("heart rate").n_samples == 100
    assert any("the file is cut or damaged" in note for note in recording.notes)


@pytest.mark.parametrize("seconds", [3600, 1000])
def test_a_watch_set_back_by_an_hour_goes_on_and_by_any_other_time_is_refused(tmp_path: Path, seconds: int) -> None:
    body = DEFINITIONS + b"".join(record(BEGIN + k - seconds * (k >= 300), 60 + k % 100) for k in range(600))
    path = written(tmp_path, fit_file(body))
    if seconds != 3600:
        with pytest.raises(RecordingError, match=r"made.fit: records: times go back by 999 s at row 301 of 600"):
            load_recording(path)
        return
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.signal("heart rate").read()[0], 60 + np.arange(600) % 100)
    assert any("the clock was set back by 3600 s" in note for note in recording.notes)
