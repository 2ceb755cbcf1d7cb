"""Clinical formats that mne reads, written in their documented layouts."""

from __future__ import annotations

import os
import re
import struct
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

RATE, N = 200, 2000
LABELS = ("Fp1", "Cz", "ECG")


def steps(kind: str = "<i2") -> np.ndarray:
    return np.random.default_rng(6).integers(-3000, 3000, (N, len(LABELS))).astype(kind)


def persyst(folder: Path) -> Path:
    lines = ["[FileInfo]", "File=../rest.dat", "FileType=Interleaved", f"SamplingRate={RATE}", "Calibration=0.25"]
    lines += [f"WaveformCount={len(LABELS)}", "DataType=0", "[ChannelMap]"]
    lines += [f"{label}-Ref={number}" for number, label in enumerate(LABELS, 1)]
    lines += ["[SampleTimes]", "0=0.0", "[Patient]", "First=Ada", "Last=Lovelace", "ID=1", "Sex=f", "Hand=r"]
    lines += [
        "BirthDate=12-10-15",
        "TestDate=06/05/2024",
        "TestTime=07:08:09",
        "[Comments]",
        "2.5,1.5,0,100,stroop, hard",
    ]
    (folder / "rest.lay").write_text("\n".join(lines) + "\n")
    (folder / "rest.dat").write_bytes(steps().tobytes())
    return folder / "rest.lay"


def nicolet(folder: Path) -> Path:
    names = ",".join(LABELS)
    (folder / "rest.head").write_text(
        "start_ts=2024-06-05 07:08:09.000\n"
        f"num_samples={N}\nsample_freq={RATE}\nconversion_factor=0.25\nnum_channels={len(LABELS)}\n"
        f"elec_names=[{names}]\npat_id=1\nadm_id=1\nrec_id=1\nduration_in_sec=10\n"
    )
    (folder / "rest.data").write_bytes(steps().tobytes())
    return folder / "rest.data"


@pytest.mark.parametrize("write", [persyst, nicolet])
def test_samples_are_in_the_unit_that_the_header_gives(tmp_path: Path, write: object) -> None:
    recording = load_recording(write(tmp_path))
    planted = steps("<f8").T * 0.25
    assert [(s.name.upper(), s.modality, s.unit) for s in recording.signals] == [
        ("EEG", "eeg", "uV"),
        ("ECG", "ecg", "mV"),
    ]
    np.testing.assert_allclose(recording.signals[0].read(), planted[:2], rtol=1e-9)
    np.testing.assert_allclose(recording.signals[1].read(100, 300)[0], planted[2, 100:300] * 1e-3, rtol=1e-9)
    assert recording.started_at == datetime(2024, 6, 5, 7, 8, 9)
    assert not any(word in repr(recording) for word in ("Ada", "Lovelace"))


def test_comments_are_intervals_and_the_samples_stay_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    path = persyst(folder)
    (mark,) = load_recording(path).intervals
    assert (mark.onset_seconds, mark.duration_seconds, mark.label) == (2.5, 1.5, "stroop, hard")
    path.with_suffix(".dat").rename(tmp_path / "rest.dat")
    with pytest.raises(RecordingError, match=r"rest\.lay"):
        load_recording(path)


@pytest.mark.parametrize("write", [persyst, nicolet])
def test_headers_that_lie_are_refused_or_conform(
    tmp_path: Path, write: object, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    header = path.with_suffix(".head") if path.suffix == ".data" else path
    content = header.read_bytes()
    rng = np.random.default_rng(2)
    for place in range(0, len(content), 9):
        changed = bytearray(content)
        changed[place] = int(rng.choice(np.frombuffer(b"0129-+./ xN\x00\xb5,=[\n", dtype=np.uint8)))
        header.write_bytes(bytes(changed))
        try:
            for signal in load_recording(path).signals:
                assert signal.read(signal.n_samples - 5).shape == (signal.n_channels, 5)
        except RecordingError as fault:
            assert "rest" in str(fault)
            assert "\n" not in str(fault)
    assert capfd.readouterr() == ("", "")


def neuroscan(folder: Path, *, kind: int = 1, wide: bool = False) -> Path:
    """Write the fields that are read: counts, rate, calibration and events behind the samples.

    Events of code 7 at samples 0 and 400, a bad stretch from 600 to 700, and a key that was pressed at 900.
    """
    head = bytearray(900 + 75 * len(LABELS))
    head[:12] = b"Version 3.0\x00"
    head[121:133] = b"Lovelace Ada"
    head[225:235], head[235:243] = b"06/05/24\x00\x00", b"07:08:09"
    head[370:372] = struct.pack("<H", len(LABELS))
    head[376:378] = struct.pack("<H", RATE)
    data = steps("<i4" if wide else "<i2").tobytes()
    head[864:868] = struct.pack("<i", N)
    head[886:890] = struct.pack("<i", len(head) + len(data))
    for row, label in enumerate(LABELS):
        at = 900 + 75 * row
        head[at : at + len(label)] = label.encode()
        head[at + 59 : at + 63] = struct.pack("<f", 1.0)
        head[at + 71 : at + 75] = struct.pack("<f", 51.2)  # sensitivity * calibration / 204.8 microvolts a step
    events = b""
    for sample, code, key, pad in ((0, 7, 0, 0), (400, 7, 0, 0), (600, 0, 0, 0xC0), (700, 0, 0, 0xD0), (900, 0, 3, 0)):
        place = sample if kind == 3 else len(head) + sample * (4 if wide else 2) * len(LABELS)
        events += struct.pack("<HBBl", code, key, pad, place) + (b"" if kind == 1 else bytes(11))
    path = folder / "rest.cnt"
    path.write_bytes(bytes(head) + data + struct.pack("<Bll", kind, len(events), 0) + events)
    return path


def test_neuroscan_files_are_read_without_their_ambiguous_date(tmp_path: Path) -> None:
    recording = load_recording(neuroscan(tmp_path))
    planted = steps("<f8").T * 0.25
    np.testing.assert_allclose(recording.signal("EEG").read(), planted[:2], rtol=1e-5)
    np.testing.assert_allclose(recording.signal("ECG").read()[0], planted[2] * 1e-3, rtol=1e-5)
    assert recording.started_at is None
    assert not any(word in repr(recording) for word in ("Ada", "Lovelace"))


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("wide", [False, True])
def test_events_of_neuroscan_lie_where_their_byte_or_sample_lies(tmp_path: Path, kind: int, wide: bool) -> None:
    recording = load_recording(neuroscan(tmp_path, kind=kind, wide=wide))
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [
        (0.0, "7"),
        (2.0, "7"),
        (4.5, "Keyboard Response 3"),
    ]
    (bad,) = recording.corrections
    assert bad.span == (3.0, 3.5)


def nihon(folder: Path) -> Path:
    """Write one block of samples, multiplexed with the mark channel behind them, and its table of electrodes."""
    head = bytearray(0x1800)
    head[:16] = head[0x81:0x91] = b"EEG-1100C V01.00"
    head[0x91] = 1
    head[0x92:0x96] = struct.pack("<I", 0x400)
    head[0x400 + 17] = 1
    head[0x400 + 18 : 0x400 + 22] = struct.pack("<I", 0x1800)
    head[0x17FE] = 1
    block = bytearray(0x27 + 10 * len(LABELS))
    block[0x1A:0x1C] = struct.pack("<H", RATE | 0xC000)
    block[0x1C:0x20] = struct.pack("<I", N * 10 // RATE)
    block[0x26] = len(LABELS)
    for row in range(len(LABELS)):
        block[0x27 + 10 * row] = row
    stored = np.column_stack([steps("<i4") + 0x8000, np.zeros(N)]).astype("<u2")
    (folder / "rest.21E").write_text("[ELECTRODE]\n" + "".join(f"{i:04}={name}\n" for i, name in enumerate(LABELS)))
    (folder / "rest.eeg").write_bytes(bytes(head + block) + stored.tobytes())
    return folder / "rest.eeg"


def test_nihon_kohden_files_are_read_in_the_range_of_their_converter(tmp_path: Path) -> None:
    path = nihon(tmp_path)
    recording = load_recording(path)
    planted = (steps("<f8").T + 32768) * (6399.902 / 65535) - 3200
    np.testing.assert_allclose(recording.signal("EEG").read(), planted[:2], atol=1e-6)
    np.testing.assert_allclose(recording.signal("ECG").read(50, 90)[0], planted[2, 50:90] * 1e-3, atol=1e-9)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(RecordingError, match=r"rest\.eeg"):
        load_recording(path)


@pytest.mark.parametrize("write", [persyst, nicolet, nihon])
def test_a_pipe_beside_a_file_is_refused_and_not_waited_for(tmp_path: Path, write: object) -> None:
    path = write(tmp_path)
    part = {".lay": ".dat", ".data": ".head", ".eeg": ".21E"}[path.suffix]
    path.with_suffix(part).unlink()
    os.mkfifo(path.with_suffix(part))
    with pytest.raises(RecordingError, match=r"^rest\.\w+: (rest\.\w+ beside it is not a regular file|not a format)"):
        load_recording(path)


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.1, 0.5])
def test_what_a_library_says_of_a_cut_file_is_told_without_its_code(tmp_path: Path, fraction: float) -> None:
    path = neuroscan(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(RecordingError, match=r"^rest\.cnt: ") as refused:
        load_recording(path)
    assert not re.search(r"Error|File |line \d|\^\^|Traceback", str(refused.value))
