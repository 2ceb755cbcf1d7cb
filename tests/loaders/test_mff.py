"""EGI folders (.mff) in the layout that mffpy documents, against planted values, mffpy's writer and mne's reader."""

from __future__ import annotations

import shutil
import struct
from datetime import datetime, timedelta
from pathlib import Path

import mne
import numpy as np
import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.folders import recordings_in
from biopercept.loaders.loading import load_recording
from biopercept.recording import CHANNEL_BAD

RATE = 250
LENGTHS = (300, 200, 250)
"""Samples of each block; the third begins half a second after the second ends."""
START = "2023-04-05T06:07:08.500000000+02:00"
PLACES = {1: (-3.0, 9.0, 1.0), 2: (3.0, 9.0, 1.0), 3: (0.0, 0.0, 10.0)}
MARKS = {
    "Nasion": (0.0, 10.4, -3.7),
    "Left periauricular point": (-6.7, 0, -3.7),
    "Right periauricular point": (6.7, 0, -3.7),
}


def values(n_channels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(n_channels)
    return [rng.normal(0, 20, (n_channels, n)).astype("<f4") for n in LENGTHS]


def blocks(pieces: list[np.ndarray]) -> bytes:
    content = b""
    for number, piece in enumerate(pieces):
        n_channels, n = piece.shape
        head = struct.pack("<4i", 1, 20 + 8 * n_channels, 4 * piece.size, n_channels)
        head += struct.pack(f"<{n_channels}i", *(4 * n * i for i in range(n_channels)))
        head += struct.pack(f"<{n_channels}i", *([RATE << 8 | 32] * n_channels)) + struct.pack("<i", 0)
        is_alike = number and pieces[number - 1].shape == piece.shape
        content += (struct.pack("<i", 0) if is_alike else head) + piece.tobytes()
    return content


def xml(tag: str, space: str, body: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{tag} xmlns="http://www.egi.com/{space}_mff">{body}</{tag}>'


def sensor(number: int, kind: int, name: str, place: tuple[float, float, float]) -> str:
    axes = "".join(f"<{axis}>{value}</{axis}>" for axis, value in zip("xyz", place, strict=True))
    return f"<sensor><name>{name}</name><number>{number}</number><type>{kind}</type>{axes}</sensor>"


def event(code: str, seconds: float) -> str:
    moment = datetime.fromisoformat(START[:26] + START[29:]) + timedelta(seconds=seconds)
    text = moment.isoformat(timespec="microseconds").replace("+02:00", "000+02:00")
    return f"<event><beginTime>{text}</beginTime><duration>100</duration><code>{code}</code></event>"


def write(folder: Path, *, gain: str = "") -> Path:
    path = folder / "rest.mff"
    path.mkdir()
    (path / "signal1.bin").write_bytes(blocks(values(3)))
    (path / "signal2.bin").write_bytes(blocks(values(2)))
    texts = {
        "info.xml": xml("fileInfo", "info", f"<mffVersion>3</mffVersion><recordTime>{START}</recordTime>"),
        "subject.xml": xml("patient", "subject", "<fields><field><name>Ada Lovelace</name></field></fields>"),
        "info1.xml": xml(
            "dataInfo",
            "info_n",
            "<generalInformation><fileDataType><EEG/></fileDataType></generalInformation>"
            f'{gain}<channels exclusion="badChannels">2</channels>',
        ),
        "info2.xml": xml(
            "dataInfo",
            "info_n",
            "<generalInformation><fileDataType><PNSData/></fileDataType></generalInformation>",
        ),
        "epochs.xml": xml(
            "epochs",
            "epochs",
            "<epoch><beginTime>0</beginTime><endTime>2000000000</endTime>"
            "<firstBlock>1</firstBlock><lastBlock>2</lastBlock></epoch>"
            "<epoch><beginTime>2500000000</beginTime><endTime>3500000000</endTime>"
            "<firstBlock>3</firstBlock><lastBlock>3</lastBlock></epoch>",
        ),
        "sensorLayout.xml": xml(
            "sensorLayout",
            "sensorLayout",
            "<name>net</name><sensors>"
            + "".join(sensor(n, int(n == 3), "VREF" if n == 3 else "", PLACES[n]) for n in PLACES)
            + "</sensors>",
        ),
        "coordinates.xml": xml(
            "coordinates",
            "coordinates",
            "<sensorLayout><name>net</name><sensors>"
            + "".join(sensor(n, int(n == 3), "VREF" if n == 3 else "", PLACES[n]) for n in PLACES)
            + "".join(sensor(9 + i, 2, name, place) for i, (name, place) in enumerate(MARKS.items()))
            + "</sensors></sensorLayout>",
        ),
        "pnsSet.xml": xml(
            "PNSSet",
            "pnsSet",
            "<name>body</name><ampSeries>400</ampSeries><sensors>"
            "<sensor><name>ECG</name><number>0</number><unit>uV</unit></sensor>"
            "<sensor><name>Resp. Effort</name><number>1</number><unit>uV</unit></sensor></sensors>",
        ),
        "Events_DIN.xml": xml(
            "eventTrack",
            "event",
            "<name>DIN</name><trackType>DIN</trackType>"
            + event("stro", 1.0)
            + event("sync", 1.5)
            + event("rest", 2.8)
            + event("late", 1e6),
        ),
    }
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def planted(n_channels: int) -> np.ndarray:
    first, second, third = values(n_channels)
    return np.hstack([first, second, np.full((n_channels, RATE // 2), np.nan), third]).astype(float)


def test_samples_gaps_events_and_places_are_the_planted_ones(tmp_path: Path) -> None:
    path = write(tmp_path)
    recording = load_recording(path)
    eeg = recording.signal("EEG")
    assert (eeg.channel_names, eeg.unit, eeg.sampling_rate, eeg.recognised_by) == (("E1", "E2"), "uV", RATE, "format")
    np.testing.assert_array_equal(eeg.read(), planted(3)[:2])
    np.testing.assert_array_equal(eeg.read(480, 640), planted(3)[:2, 480:640])
    np.testing.assert_allclose(recording.signal("ECG").read()[0], planted(2)[0] * 1e-3, rtol=1e-12)
    assert recording.signal("VREF").modality == "unknown", "the reference is flat, and no EEG"
    assert recording.signal("Resp. Effort").modality == "resp"
    assert [(i.onset_seconds, i.label) for i in recording.intervals] == [(1.0, "stro"), (2.8, "rest")]
    assert recording.started_at == datetime.fromisoformat("2023-04-05T06:07:08.500000+02:00")
    left = eeg.channels[0].position
    assert left is not None
    np.testing.assert_allclose(left, (-0.03, 0.09, 0.047), atol=1e-6)  # 3.7 cm up, from the ears' axis
    (bad,) = recording.corrections
    assert (bad.kind, bad.channels) == (CHANNEL_BAD, ("EEG/E2",))
    assert any(note.startswith("discontinuous: 1 gap, 0.5 s") for note in recording.notes)
    assert "1 annotation lies outside the recording and is left out" in recording.notes
    assert "Ada" not in repr(recording)


def test_the_folder_is_one_recording_and_each_of_its_files_stands_for_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert recordings_in(tmp_path).paths == (path,)
    assert recordings_in(path).paths == (path,)
    assert load_recording(path / "signal1.bin").name == "rest"


def test_gains_of_a_calibration_are_applied(tmp_path: Path) -> None:
    gain = "<calibrations><calibration><beginTime>0</beginTime><type>GCAL</type><channels>"
    gain += '<ch n="1">2.0</ch></channels></calibration></calibrations>'
    recording = load_recording(write(tmp_path, gain=gain))
    np.testing.assert_array_equal(recording.signal("EEG").read(), planted(3)[:2] * [[2.0], [1.0]])


def test_mne_reads_the_same(tmp_path: Path) -> None:
    pytest.importorskip("mffpy")
    path = write(tmp_path)
    raw = mne.io.read_raw_egi(path, verbose="error")
    recording = load_recording(path)
    is_there = ~np.isnan(planted(3)[0])
    ours = np.vstack([recording.signal(name).read()[:, is_there] for name in ("EEG", "VREF")])
    np.testing.assert_allclose(ours[:2], raw.get_data("eeg")[:2, is_there] * 1e6, rtol=1e-5)
    np.testing.assert_allclose(
        recording.signal("ECG").read()[0, is_there], raw.get_data("ecg")[0, is_there] * 1e3, rtol=1e-5
    )
    theirs = {(float(a["onset"]), a["description"]) for a in raw.annotations if not a["description"].startswith("BAD")}
    assert {(i.onset_seconds, i.label) for i in recording.intervals} <= theirs
    assert recording.started_at == raw.info["meas_date"]
    np.testing.assert_allclose(recording.signal("EEG").channels[0].position, raw.info["chs"][0]["loc"][:3], atol=1e-6)


def test_what_the_makers_library_writes_is_read(tmp_path: Path) -> None:
    mffpy = pytest.importorskip("mffpy")
    from mffpy.writer import BinWriter, Writer

    samples = np.random.default_rng(1).normal(0, 20, (33, 2000)).astype(np.float32)
    binary = BinWriter(sampling_rate=500)
    binary.add_block(samples[:, :1200])
    binary.add_block(samples[:, 1200:], offset_us=1_000_000)
    writer = Writer(str(tmp_path / "made.mff"))
    writer.addxml("fileInfo", recordTime=datetime.fromisoformat("2023-04-05T06:07:08.500000+02:00"))
    writer.add_coordinates_and_sensor_layout("HydroCel GSN 32 1.0")
    writer.addbin(binary)
    writer.write()
    eeg = load_recording(tmp_path / "made.mff").signal("EEG")
    assert (eeg.n_channels, eeg.n_samples) == (32, 2500), mffpy.__name__
    np.testing.assert_array_equal(eeg.read(0, 1200), samples[:32, :1200])
    assert np.isnan(eeg.read(1200, 1700)).all()
    np.testing.assert_array_equal(eeg.read(1700), samples[:32, 1200:])
    assert all(channel.position is not None for channel in eeg.channels)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("info.xml", "2023-04-05T", "yesterday", "no date"),
        ("info.xml", "<fileInfo", '<!DOCTYPE x [<!ENTITY a "aaaa">]><fileInfo', "document type"),
        ("info1.xml", "</dataInfo>", "", "no XML"),
        ("epochs.xml", "2500000000", "1500000000", "overlap"),
        ("epochs.xml", "<lastBlock>3", "<lastBlock>4", "not there"),
        ("epochs.xml", "<beginTime>0", "<beginTime>nan", "cannot be"),
        ("sensorLayout.xml", "<type>0", "<type>2", "describes 1 electrodes"),
        ("pnsSet.xml", "<sensor><name>ECG</name><number>0</number><unit>uV</unit></sensor>", "", "describes 1"),
    ],
)
def test_texts_that_lie_are_refused_in_one_sentence(tmp_path: Path, name: str, old: str, new: str, words: str) -> None:
    path = write(tmp_path)
    text = (path / name).read_text()
    assert old in text
    (path / name).write_text(text.replace(old, new))
    with pytest.raises(RecordingError, match=words) as fault:
        load_recording(path)
    assert str(fault.value).startswith("rest.mff: ")
    assert "\n" not in str(fault.value)


def test_samples_that_are_cut_or_changed_are_refused_or_conform(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = path / "signal1.bin"
    content = file.read_bytes()
    for length in (0, 3, 10, 40, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(RecordingError, match=r"^rest\.mff: "):
            load_recording(path)
    rng = np.random.default_rng(5)
    for place in range(48):
        changed = bytearray(content)
        changed[place] = int(rng.integers(0, 256))
        file.write_bytes(bytes(changed))
        try:
            for signal in load_recording(path).signals:
                assert signal.read(signal.n_samples - 5).shape == (signal.n_channels, 5)
        except RecordingError as fault:
            assert str(fault).startswith("rest.mff: ")
    shutil.rmtree(path)
