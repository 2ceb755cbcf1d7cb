"""NumPy, MATLAB and Parquet files written by their own libraries come back equal; pickles, bombs are refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording

RNG = np.random.default_rng(8)
ECG = RNG.normal(0, 1, 1000)
RATE = '{"SamplingFrequency": 100, "ecg": {"Units": "mV"}}'


def refusal(path: Path) -> str:
    with pytest.raises(RecordingError) as fault:
        load_recording(path)
    return str(fault.value)


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    content = text.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(content))
    return b"\x93NUMPY" + bytes([version, 0]) + size + content + data


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive_are_signals(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "made.npz"
    acc = RNG.normal(0, 1, (1000, 3)).astype(np.float32)
    save(path, ecg=ECG, acc=np.asfortranarray(acc), fs=100.0, unit="mV", taken_with=np.array(["x", "y"]))
    recording = load_recording(path)
    assert [(s.name, s.channel_names, s.sampling_rate) for s in recording.signals] == [
        ("ecg", ("ecg",), 100.0),
        ("ACC", ("x", "y", "z"), 100.0),
    ]
    np.testing.assert_array_equal(recording.signals[0].read()[0], ECG)
    np.testing.assert_array_equal(recording.signals[1].read(), acc.T.astype(float))
    assert "the three columns of acc are taken for x, y and z in their order" in recording.notes
    assert "left out are arrays of text, of records or of another shape: taken_with" in recording.notes


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_single_array_is_read_piece_by_piece(tmp_path: Path, order: Any) -> None:
    eeg = np.array(RNG.integers(-50, 50, (2, 5000)), dtype=np.int16, order=order)
    np.save(tmp_path / "made.npy", eeg)
    (tmp_path / "made.json").write_text('{"SamplingFrequency": 250, "Columns": ["Fp1", "Cz"], "made": {"Units": "uV"}}')
    (signal,) = load_recording(tmp_path / "made.npy").signals
    assert (signal.channel_names, signal.unit, signal.sampling_rate) == (("Fp1", "Cz"), "uV", 250.0)
    np.testing.assert_array_equal(signal.read(1000, 1100), eeg[:, 1000:1100])
    assert signal.n_samples == 5000


@pytest.mark.parametrize("axis", [0, 1])
def test_channels_that_do_not_lie_beside_each_other_are_their_own_rows(tmp_path: Path, axis: int) -> None:
    samples = RNG.normal(0, 10, (4, 1000))
    np.save(tmp_path / "made.npy", samples if axis else samples.T)
    (tmp_path / "made.json").write_text(
        '{"SamplingFrequency": 250, "Columns": ["Fp1", "ECG", "Cz", "Pz"], "made": {"Units": "uV"}}'
    )
    recording = load_recording(tmp_path / "made.npy")
    eeg, ecg = recording.signal("EEG"), recording.signal("ECG")
    np.testing.assert_array_equal(eeg.read(10, 20), samples[[0, 2, 3], 10:20])
    np.testing.assert_array_equal(eeg.read(10, 20, slice(1, 2)), samples[[2], 10:20])
    np.testing.assert_allclose(ecg.read(10, 20)[0], samples[1, 10:20] / 1000)


def test_an_archive_with_times_is_a_table(tmp_path: Path) -> None:
    times = np.arange(100) / 4
    np.savez(tmp_path / "made.npz", time=times, eda_uS=times + 1)
    (eda,) = load_recording(tmp_path / "made.npz").signals
    assert (eda.modality, eda.unit, eda.sampling_rate) == ("eda", "uS", 4.0)
    np.testing.assert_array_equal(eda.read()[0], times + 1)


def test_a_pickle_in_an_array_is_refused_and_never_loaded(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    objects = np.array([Hostile()], dtype=object)
    np.savez(tmp_path / "made.npz", ecg=objects)
    np.save(tmp_path / "one.npy", objects)
    ending = "is an array of objects, a pickle, which could run code and is not opened; save arrays of numbers"
    assert refusal(tmp_path / "made.npz") == f"made.npz: ecg.npy {ending}"
    assert refusal(tmp_path / "one.npy") == f"one.npy: one.npy {ending}"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header("(" * 3000), "made.npz: ecg.npy has a header that is not one of an array of numbers"),
        (header("-" * 4000 + "1"), "made.npz: ecg.npy has a header that is not one of an array of numbers"),
        (
            header("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"),
            "made.npz: ecg.npy has a header that is not one of an array of numbers",
        ),
        (
            header("{'descr': '<q9', 'fortran_order': False, 'shape': (1,), }"),
            "made.npz: ecg.npy has the type '<q9', which is none",
        ),
        (
            header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }", bytes(80)),
            "made.npz: ecg.npy promises 8000000000000 bytes of samples, the archive holds 80; save it again",
        ),
        (header("{}", version=3), "made.npz: ecg.npy has not the header of an array of numbers (NumPy 1.0 or 2.0)"),
    ],
)
def test_a_header_that_is_none_is_refused_unevaluated(tmp_path: Path, content: bytes, sentence: str) -> None:
    assert refusal(zipped(tmp_path / "made.npz", ecg=content)) == sentence


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    piece = bytes(1 << 24)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("ecg.npy", "w") as stream,
    ):
        for _ in range(66):
            stream.write(piece)
    assert path.stat().st_size < 10 << 20
    assert refusal(path) == (
        "made.npz: 1056 MB unpacked, allowed are 1024; save its arrays as .npy, which are read piece by piece, or "
        "split it"
    )


def test_an_archive_with_another_file_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    np.savez(path, ecg=ECG, fs=100)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../run.sh", "x")
    assert refusal(path) == "made.npz: '../run.sh' in it is no array of NumPy"


@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
def test_a_cut_array_is_refused(tmp_path: Path, share: float) -> None:
    buffer = io.BytesIO()
    np.save(buffer, ECG)
    (tmp_path / "made.npy").write_bytes(buffer.getvalue()[: int(8128 * share)])
    (tmp_path / "made.json").write_text(RATE)
    n_there = int(8128 * share) - 128
    assert refusal(tmp_path / "made.npy") == (
        f"made.npy: the header promises 8000 bytes of samples, the file holds {n_there}; copy it again"
    )


@pytest.mark.parametrize(("version", "compressed"), [("4", False), ("5", False), ("5", True)])
def test_variables_of_matlab_are_signals(tmp_path: Path, version: Any, compressed: bool) -> None:
    path = tmp_path / "made.mat"
    scipy.io.savemat(path, {"ecg": ECG, "fs": 100, "unit": "mV"}, format=version, do_compression=compressed)
    (ecg,) = load_recording(path).signals
    assert (ecg.name, ecg.unit, ecg.sampling_rate) == ("ecg", "mV", 100.0)
    np.testing.assert_array_equal(ecg.read()[0], ECG)


def test_a_structure_is_taken_apart_and_objects_in_it_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "made.mat"
    cells = np.array([1.0, "text", ECG], dtype=object)
    eeg = RNG.normal(0, 10, (2, 1000))
    chest = {"srate": 250.0, "data": eeg, "chnames": np.array(["Fz", "Cz"], dtype=object), "cells": cells}
    scipy.io.savemat(path, {"chest": chest, "wrist": {"fs": 4, "eda": np.arange(80.0)}})
    recording = load_recording(path)
    assert [(s.name, s.sampling_rate, s.channel_names) for s in recording.signals] == [
        ("EEG", 250.0, ("Fz", "Cz")),
        ("eda", 4.0, ("eda",)),
    ]
    np.testing.assert_array_equal(recording.signals[0].read(), eeg)
    assert recording.notes[0] == "left out are variables that are no arrays of numbers: chest/cells"


def test_a_matlab_file_without_a_rate_says_what_to_write(reference_data: Path, tmp_path: Path) -> None:
    real = reference_data / "formats/heartpy_csv_mat_log/data.mat"
    assert refusal(real) == (
        "data.mat: nothing says the sampling rate of hr; write it in Hz into data.json beside the file: "
        '{"SamplingFrequency": 256}'
    )
    path = tmp_path / "data.mat"
    path.symlink_to(real)
    (tmp_path / "data.json").write_text('{"SamplingFrequency": 100, "hr": {"Modality": "bvp"}}')
    (bvp,) = load_recording(path).signals
    table = np.loadtxt(reference_data / "formats/heartpy_csv_mat_log/data.csv")
    assert (bvp.modality, bvp.sampling_rate, bvp.recognised_by) == ("bvp", 100.0, "sidecar")
    np.testing.assert_array_equal(bvp.read()[0], table)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def _cell(inner: bytes) -> bytes:
    """Return a cell of one element, after the format of MAT-file version 5."""
    flags = _element(6, struct.pack("<II", 1, 0))
    return _element(14, flags + _element(5, struct.pack("<ii", 1, 1)) + _element(1, b"") + inner)


def test_variables_nested_without_end_and_packed_without_end_are_refused(tmp_path: Path) -> None:
    start = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    content = _element(14, _element(6, struct.pack("<II", 6, 0)))
    for _ in range(40):
        content = _cell(content)
    path = tmp_path / "made.mat"
    for packed in (content, _element(15, zlib.compress(content))):
        path.write_bytes(start + packed)
        assert refusal(path) == "made.mat: variables in variables, deeper than 32; store the arrays further up"


@pytest.mark.parametrize(("mark", "order"), [(b"IM", "<"), (b"MI", ">"), (b"??", ">")])  # scipy takes >, too
def test_variables_that_unpack_to_too_much_are_refused_in_each_byte_order(
    tmp_path: Path, mark: bytes, order: str
) -> None:
    lie = zlib.compress(struct.pack(f"{order}6I", 14, 2 << 30, 6, 8, 6, 0))
    path = tmp_path / "made.mat"
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + mark
    path.write_bytes(head + struct.pack(f"{order}II", 15, len(lie)) + lie)
    assert refusal(path) == (
        "made.mat: variables of more than 1024 MB unpacked; save them as version 7.3, which is read piece by piece, or "
        "split the file"
    )


@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_a_cut_matlab_file_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "made.mat"
    scipy.io.savemat(path, {"ecg": ECG, "fs": 100}, do_compression=True)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(path).startswith("made.mat: ")


def test_columns_of_parquet_are_channels_at_the_rate_of_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "made.parquet"
    fields = [pa.field("ecg", pa.float64(), metadata={"units": "uV"}), pa.field("counter", pa.int32())]
    schema = pa.schema(fields, metadata={"SamplingFrequency": "100"})
    ecg: list[float | None] = [*ECG[:-1], None]
    pq.write_table(pa.table({"ecg": ecg, "counter": list(range(1000))}, schema=schema), path)
    signal = load_recording(path).signal("ecg")
    assert (signal.unit, signal.sampling_rate) == ("mV", 100.0)
    np.testing.assert_allclose(signal.read()[0, :-1], ECG[:-1] / 1000)
    assert np.isnan(signal.read()[0, -1])
    path.with_suffix(".json").write_text('{"SamplingFrequency": 50}')
    assert load_recording(path).signal("ecg").sampling_rate == 50


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_dates_of_parquet_place_the_rows(tmp_path: Path, zone: str | None) -> None:
    path = tmp_path / "made.parquet"
    stamps = 1_714_550_400_000 + np.delete(np.arange(200) * 250, slice(50, 70))
    table = pa.table({"timestamp": pa.array(stamps, pa.timestamp("ms", zone)), "eda_uS": np.arange(180.0)})
    pq.write_table(table, path)
    recording = load_recording(path)
    (eda,) = recording.signals
    assert (eda.sampling_rate, eda.n_samples) == (4.0, 200)
    assert np.flatnonzero(np.isnan(eda.read()[0])).tolist() == list(range(50, 70))
    assert recording.started_at is not None
    assert recording.started_at.isoformat() == "2024-05-01T08:00:00" + ("+00:00" if zone else "")


def test_parquet_that_says_no_rate_or_a_wrong_one_or_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "made.parquet"
    pq.write_table(pa.table({"ecg": ECG}), path)
    assert refusal(path) == (
        "made.parquet: no time column ('time' in seconds or 'timestamp') and no sampling rate; write the rate and the "
        "units in made.json beside it in this form, with the file's own values: "
        '{"SamplingFrequency": 100, "ecg": {"Units": "mV"}}'
    )
    pq.write_table(pa.table({"ecg": ECG}, metadata={"fs": "often"}), path)
    assert refusal(path) == (
        "made.parquet: the sampling rate in its metadata is 'often', allowed is more than 0 up to 1000000 Hz"
    )
    path.write_bytes(path.read_bytes()[:500])
    assert refusal(path).startswith("made.parquet: cannot be read as Parquet (")
