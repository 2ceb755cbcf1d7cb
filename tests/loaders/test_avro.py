"""AVRO of the EmbracePlus: files written by fastavro in the schema that Empatica documents."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loaders.test_conformance import check_recording

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

BEGIN = 1_700_000_000  # unix seconds


def _record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": value} for key, value in fields.items()]}


def _list(items: str) -> dict[str, str]:
    return {"type": "array", "items": items}


_TIMED = {"timestampStart": "long", "samplingFrequency": "float"}
_IMU = _record("ImuParams", physicalMin="int", physicalMax="int", digitalMin="int", digitalMax="int")
_AXES = {"x": _list("int"), "y": _list("int"), "z": _list("int")}
SCHEMA = {
    "namespace": "empatica.format.avro",
    **_record(
        "Session",
        schemaVersion=_record("Version", major="int", minor="int", patch="int"),
        fwVersion="empatica.format.avro.Version",
        timezone="int",
        enrollment=_record("Enrollment", participantID="string", siteID="string"),
        deviceSn="string",
        rawData=_record(
            "RawData",
            accelerometer=_record("Accelerometer", **_TIMED, imuParams=_IMU, **_AXES),
            gyroscope=_record("Gyroscope", **_TIMED, imuParams="ImuParams", **_AXES),
            eda=_record("EDA", **_TIMED, values=_list("float")),
            temperature=_record("Temperature", **_TIMED, values=_list("float")),
            tags=_record("Tags", tagsTimeMicros=_list("long")),
            bvp=_record("BVP", **_TIMED, values=_list("float")),
            systolicPeaks=_record("SystolicPeaks", peaksTimeNanos=_list("long")),
            steps=_record("Steps", **_TIMED, values=_list("int")),
        ),
    ),
}


def session(begin: float = BEGIN, seconds: int = 60, person: str = "P-SECRET", seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    micros = int(begin * 1e6)

    def timed(rate: float, **columns: Any) -> dict[str, Any]:
        return {"timestampStart": micros, "samplingFrequency": rate, **columns}

    axes = {axis: rng.integers(-2048, 2048, 64 * seconds).tolist() for axis in "xyz"}
    imu = {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32768}
    version = {"major": 6, "minor": 4, "patch": 0}
    return {
        "schemaVersion": version,
        "fwVersion": version,
        "timezone": 3600,
        "enrollment": {"participantID": person, "siteID": "1"},
        "deviceSn": "3YK-SERIAL",
        "rawData": {
            "accelerometer": timed(64.0, imuParams=imu, **axes),
            "gyroscope": timed(0.0, imuParams=imu, x=[], y=[], z=[]),
            "eda": timed(4.0, values=rng.uniform(0.2, 2, 4 * seconds).tolist()),
            "temperature": timed(1.0, values=rng.uniform(31, 33, seconds).tolist()),
            "tags": {"tagsTimeMicros": [micros + 5_500_000]},
            "bvp": timed(64.0, values=rng.normal(0, 20, 64 * seconds).tolist()),
            "systolicPeaks": {"peaksTimeNanos": [micros * 1000 + int(0.8e9 * i) for i in range(int(seconds / 0.8))]},
            "steps": timed(0.2, values=[0] * (seconds // 5)),
        },
    }


def written(path: Path, *records: dict[str, Any], codec: str = "deflate", schema: Any = None) -> Path:
    import fastavro

    with path.open("wb") as stream:
        fastavro.writer(stream, fastavro.parse_schema(schema or SCHEMA), list(records), codec=codec)
    return path


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_every_sensor_lies_at_its_start_and_rate_in_its_unit(tmp_path: Path, codec: str) -> None:
    content = session()
    recording = load_recording(written(tmp_path / "made.avro", content, codec=codec))
    check_recording(recording)
    raw = content["rawData"]
    for name, modality, key in (("EDA", "eda", "eda"), ("TEMP", "temp", "temperature"), ("BVP", "bvp", "bvp")):
        signal = recording.signal(name)
        assert (signal.modality, signal.sampling_rate) == (modality, raw[key]["samplingFrequency"])
        np.testing.assert_array_equal(signal.read()[0], np.float32(raw[key]["values"]))
    acceleration = recording.signal("ACC")
    assert acceleration.channel_names == ("x", "y", "z")
    np.testing.assert_allclose(acceleration.read()[1], np.array(raw["accelerometer"]["y"]) * 32 / 65536, rtol=1e-6)
    assert recording.started_at == datetime.fromtimestamp(BEGIN, tz=UTC)
    assert [(one.onset_seconds, one.label) for one in recording.intervals] == [(5.5, "tag")]
    assert recording.signal("steps").modality == "unknown"


def test_peaks_are_beats_and_a_pause_is_none(tmp_path: Path) -> None:
    content = session()
    peaks = content["rawData"]["systolicPeaks"]["peaksTimeNanos"]
    del peaks[30:40]
    beats = load_recording(written(tmp_path / "made.avro", content)).signal("IBI")
    assert beats.n_samples == len(peaks) - 2
    np.testing.assert_allclose(beats.read()[0], 0.8, atol=1e-6)
    np.testing.assert_allclose(beats.sample_times()[:29], 0.8 * np.arange(1, 30), atol=1e-6)
    np.testing.assert_allclose(beats.sample_times()[29], 0.8 * 41, atol=1e-6)


def folder(tmp_path: Path, *begins: float, person: str = "P-SECRET") -> Path:
    where = tmp_path / "files"
    where.mkdir(exist_ok=True)
    for number, begin in enumerate(begins):
        written(where / f"1-1-{person}_{begin:.0f}.avro", session(begin, person=person, seed=number))
    return where


def test_files_of_a_folder_are_one_recording_with_gaps_between(tmp_path: Path) -> None:
    # The second goes on with the first, 4 ms late; the third begins 40 s after the end of the second.
    recording = load_recording(folder(tmp_path, BEGIN, BEGIN + 60.004, BEGIN + 160))
    check_recording(recording)
    bvp = recording.signal("BVP")
    samples = bvp.read()[0]
    assert bvp.n_samples == 220 * 64
    np.testing.assert_array_equal(
        np.isnan(samples), (np.arange(220 * 64) >= 120 * 64) & (np.arange(220 * 64) < 160 * 64)
    )
    for number, first in enumerate((0, 60 * 64, 160 * 64)):
        expected = np.float32(session(seed=number)["rawData"]["bvp"]["values"])
        np.testing.assert_array_equal(samples[first : first + 60 * 64], expected)
    assert "bvp: gaps between files, 40.0 s in all, are missing samples" in recording.notes
    assert [one.onset_seconds for one in recording.intervals] == pytest.approx([5.5, 65.504, 165.5])
    assert recording.signal("IBI").read()[0].max() < 2.4


def test_samples_that_two_files_share_are_used_once_and_said(tmp_path: Path) -> None:
    recording = load_recording(folder(tmp_path, BEGIN, BEGIN + 50))
    assert recording.signal("BVP").n_samples == 110 * 64
    note = "bvp: 640 samples of a file lie where the one before has samples already, and are left out"
    assert note in recording.notes


def test_files_of_two_people_are_refused_without_naming_them(tmp_path: Path) -> None:
    folder(tmp_path, BEGIN)
    with pytest.raises(
        RecordingError, match=r"files: the files in the folder are of more than one participant"
    ) as fault:
        load_recording(folder(tmp_path, BEGIN + 60, person="Q-SECRET"))
    assert "SECRET" not in str(fault.value)


def test_a_damaged_file_of_a_folder_costs_itself(tmp_path: Path) -> None:
    where = folder(tmp_path, BEGIN, BEGIN + 60, BEGIN + 120)
    victim = sorted(where.iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:900])
    recording = load_recording(where)
    assert np.isnan(recording.signal("BVP").read()[0]).sum() == 60 * 64
    assert any(note.startswith("left out: ") and victim.name in note for note in recording.notes)


def test_ids_are_nowhere(tmp_path: Path) -> None:
    recording = load_recording(written(tmp_path / "made.avro", session()))
    assert "SECRET" not in repr(recording)
    assert "SERIAL" not in repr(recording)


def test_counts_without_a_range_are_left_out_and_said(tmp_path: Path) -> None:
    content = session()
    content["rawData"]["accelerometer"]["imuParams"]["digitalMax"] = -32768
    recording = load_recording(written(tmp_path / "made.avro", content))
    assert not recording.signals_of("acc")
    assert any("accelerometer has no usable range" in note for note in recording.notes)


def test_another_schema_is_named(tmp_path: Path) -> None:
    schema = _record("weather.Report", station="string")
    path = written(tmp_path / "made.avro", {"station": "X"}, schema=schema)
    with pytest.raises(
        RecordingError, match=r"made\.avro: an AVRO file of the schema 'weather\.Report', of which nothing"
    ):
        load_recording(path)


# ---- files that lie ----


def number(value: int) -> bytes:
    value = value << 1 if value >= 0 else (-value << 1) - 1
    content = b""
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


def container(schema: Any, block: bytes, n_records: int = 1, codec: str = "null", size: int | None = None) -> bytes:
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    about = b"".join(
        number(len(key)) + key + number(len(value)) + value
        for key, value in ((b"avro.schema", text), (b"avro.codec", codec.encode()))
    )
    head = b"Obj\x01" + number(2) + about + number(0) + b"S" * 16
    return head + number(n_records) + number(len(block) if size is None else size) + block + b"S" * 16


def _with_raw(**fields: Any) -> dict[str, Any]:
    return _record("Session", rawData=_record("RawData", eda=_record("EDA", **_TIMED, values=_list("float"), **fields)))


def _doubled() -> dict[str, Any]:
    """Records of two records of two records ...: 2^20 values that take no bytes."""
    fields: dict[str, Any] = {"r0": _record("R0", nothing="null")}
    for level in range(1, 21):
        fields[f"r{level}"] = _record(f"R{level}", a=f"R{level - 1}", b=f"R{level - 1}")
    return _with_raw(**fields)


_EDA = number(BEGIN * 1_000_000) + np.float32(4).tobytes()
LIES = {
    "list of nothings": container(_with_raw(nothing=_list("null")), _EDA + number(0) + number(1 << 40) + number(0)),
    "list of empty records": container(
        _with_raw(nothing={"type": "array", "items": _record("E")}), _EDA + number(0) + number(1 << 40)
    ),
    "records of records": container(_doubled(), _EDA + number(0)),
    "refers to itself": container(_with_raw(me=["null", "EDA"]), _EDA + number(0) + number(1) * 100_000),
    "deep schema": container(b'{"type":' * 50_000 + b'"null"' + b"}" * 50_000, b""),
    "deep lists": container(b"[" * 100_000 + b"]" * 100_000, b""),
    "count of samples 2^60": container(_with_raw(), _EDA + number(1 << 60) + b"\x00" * 400),
    "count of records 2^60": container(_with_raw(), _EDA + number(0), n_records=1 << 60),
    "records -1": container(_with_raw(), _EDA + number(0), n_records=-1),
    "block size 2^62": container(_with_raw(), _EDA + number(0), size=1 << 62),
    "block size -1": container(_with_raw(), _EDA + number(0), size=-1),
    "string 2^60": container(_with_raw(text="string"), _EDA + number(0) + number(1 << 60)),
    "codec": container(_with_raw(), _EDA + number(0), codec="snappy"),
    "metadata 2^60": b"Obj\x01" + number(1 << 60) + b"\x00" * 40,
    "number without end": b"Obj\x01" + b"\xff" * 40,
    "no schema": container(b"", b""),
    "null schema": container(b"null", b""),
}


@pytest.mark.parametrize("what", LIES)
def test_what_lies_is_refused_by_name_and_fills_no_memory(tmp_path: Path, what: str) -> None:
    import resource

    path = tmp_path / "made.avro"
    path.write_bytes(LIES[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RecordingError, match=r"made\.avro: (?!cannot be read)"):
        load_recording(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(20_000_000)) + packer.flush()
    path = tmp_path / "made.avro"
    path.write_bytes(container(_with_raw(), block, codec="deflate"))
    monkeypatch.setattr("biopercept.loaders.readers.avro.LARGEST_UNPACKED", 1 << 20)
    with pytest.raises(RecordingError, match=r"made\.avro: its records cannot be read .*unpack to more than 1 MB"):
        load_recording(path)


def test_cut_and_changed_files_are_read_in_part_or_refused_by_name(tmp_path: Path) -> None:
    content = written(tmp_path / "made.avro", session(seconds=10), session(BEGIN + 10, seconds=10)).read_bytes()
    rng = np.random.default_rng(2)
    altered = [content[: int(share * len(content))] for share in np.linspace(0.001, 0.999, 20)]
    for place in [*range(0, 200, 5), *rng.integers(200, len(content), 30)]:
        changed = bytearray(content)
        changed[place] = int(rng.integers(0, 256))
        altered.append(bytes(changed))
    altered.append(b"Obj\x01" + rng.bytes(4000))
    for one in altered:
        (tmp_path / "made.avro").write_bytes(one)
        try:
            recording = load_recording(tmp_path / "made.avro")
            for signal in recording.signals:
                assert signal.read(0, 20).shape == (signal.n_channels, min(20, signal.n_samples))
        except RecordingError as fault:
            assert "made.avro" in str(fault)
            assert "made.avro: cannot be read (" not in str(fault)  # the net under all readers


def test_samples_are_those_of_the_library(tmp_path: Path) -> None:
    import fastavro

    path = written(tmp_path / "made.avro", session())
    raw = next(iter(fastavro.reader(io.BytesIO(path.read_bytes()))))["rawData"]
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.signal("EDA").read()[0], raw["eda"]["values"])
    np.testing.assert_array_equal(recording.signal("TEMP").read()[0], raw["temperature"]["values"])
