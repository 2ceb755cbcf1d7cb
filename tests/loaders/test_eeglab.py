"""EEGLAB sets that scipy writes, against planted values and mne; sets that lie."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from biopercept.errors import RecordingError
from biopercept.loaders.loading import load_recording
from biopercept.recording import BAD

RATE = 128
POINTS = 128 * 20
NO_PLACE = np.zeros((0, 0))
CHANNELS = (
    ("Cz", "", (1.0, 2.0, 85.0)),
    ("E17", "EEG", NO_PLACE),
    ("E18", "", (10.0, 30.0, 80.0)),
    ("X1", "", NO_PLACE),
    ("left", "EOG", NO_PLACE),
    ("chest", "EKG", NO_PLACE),
    ("trig", "Trigger", NO_PLACE),
)
"""Label, type and place on the head, as the table of channels has them."""


def values() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 20, (len(CHANNELS), POINTS)).astype(np.float32)


def table(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return a MATLAB table: a structured array of objects."""
    array = np.zeros((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for number, row in enumerate(rows):
        for name, cell in row.items():
            array[0, number][name] = cell
    return array


EVENTS = [
    {"type": "stroop", "latency": 129.0, "duration": 256.0},
    {"type": "boundary", "latency": 1280.5, "duration": 640.0},
    {"type": 7.0, "latency": 2000.0, "duration": 0.0},
    {"type": "late", "latency": 9e6, "duration": 0.0},
]


def write(folder: Path, *, embedded: bool = False, flat: bool = False, packed: bool = True, **changes: Any) -> Path:
    """Write a set with its samples beside or in it; its fields in a struct EEG or, ``flat``, as variables."""
    axes = [
        {"X": NO_PLACE, "Y": NO_PLACE, "Z": NO_PLACE} if p is NO_PLACE else dict(zip("XYZ", p, strict=True))
        for *_, p in CHANNELS
    ]
    rows = [
        {"labels": label, "type": kind or NO_PLACE, **xyz} for (label, kind, _), xyz in zip(CHANNELS, axes, strict=True)
    ]
    fields: dict[str, Any] = {
        "setname": "rest of Ada",
        "subject": "Ada Lovelace",
        "nbchan": float(len(CHANNELS)),
        "trials": 1.0,
        "pnts": float(POINTS),
        "srate": float(RATE),
        "xmin": 0.0,
        "xmax": (POINTS - 1) / RATE,
        "data": values() if embedded else "rest.fdt",
        "chanlocs": table(rows),
        "event": table(EVENTS),
        "chaninfo": {"plotrad": 0.5},
        **changes,
    }
    values().T.astype("<f4").tofile(folder / "rest.fdt")
    if embedded:
        (folder / "rest.fdt").unlink()
    savemat(folder / "rest.set", fields if flat else {"EEG": fields}, do_compression=packed, appendmat=False)
    return folder / "rest.set"


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_samples_are_the_planted_microvolts_wherever_they_lie(tmp_path: Path, embedded: bool, flat: bool) -> None:
    recording = load_recording(write(tmp_path, embedded=embedded, flat=flat))
    planted = values()
    eeg = recording.signal("EEG")
    assert eeg.channel_names == ("Cz", "E17", "E18")
    assert eeg.unit == "uV"
    np.testing.assert_allclose(eeg.read(), planted[:3], rtol=1e-6)
    np.testing.assert_allclose(eeg.read(1001, 1101), planted[:3, 1001:1101], rtol=1e-6)
    np.testing.assert_allclose(recording.signal("chest").read()[0], planted[5] * 1e-3, rtol=1e-6)
    assert {s.name: s.modality for s in recording.signals} == {
        "EEG": "eeg",
        "X1": "unknown",
        "left": "eog",
        "chest": "ecg",
    }
    assert eeg.channels[1].position is None, "a place on EEGLAB's sphere is none in the frame of the head"
    assert eeg.channels[0].position is not None


def test_events_are_intervals_and_a_boundary_is_masked(tmp_path: Path) -> None:
    recording = load_recording(write(tmp_path))
    marks = [(i.onset_seconds, i.duration_seconds, i.label) for i in recording.intervals]
    assert [label for *_, label in marks] == ["stroop", "7.0"]
    np.testing.assert_allclose([mark[:2] for mark in marks], [(1.0, 2.0), (1999 / RATE, 0.0)])
    (cut,) = recording.corrections
    assert cut.kind == BAD
    np.testing.assert_allclose(cut.span, [1279.5 / RATE - 0.5, 1279.5 / RATE + 0.5])
    notes = " ".join(recording.notes)
    assert "joined" in notes
    assert "5.0 s were cut out" in notes
    assert "1 annotation lies outside" in notes
    assert "Ada" not in repr(recording)


def test_a_fdt_finds_its_set_and_epochs_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert load_recording(path.with_suffix(".fdt")).signal("EEG").n_samples == POINTS
    with pytest.raises(RecordingError, match=r"rest\.set: 80 epochs have no time of a recording; save the continuous"):
        load_recording(write(tmp_path, trials=80.0))
    path.unlink()
    with pytest.raises(RecordingError, match=r"rest\.fdt.*name the \.set"):
        load_recording(path.with_suffix(".fdt"))


@pytest.mark.parametrize("name", ["/etc/passwd.fdt", "../secret.fdt", "sub/x.fdt", "..\\secret.fdt"])
def test_samples_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    values().T.astype("<f4").tofile(tmp_path / "secret.fdt")
    with pytest.raises(RecordingError, match=r"rest\.set.*outside its folder"):
        load_recording(write(folder, data=name))


def test_samples_that_are_cut_are_used_as_far_as_they_go(tmp_path: Path) -> None:
    path = write(tmp_path)
    samples = path.with_suffix(".fdt")
    samples.write_bytes(samples.read_bytes()[: 4 * len(CHANNELS) * 1000 + 13])
    recording = load_recording(path)
    assert recording.signal("EEG").n_samples == 1000
    np.testing.assert_allclose(recording.signal("EEG").read(), values()[:3, :1000], rtol=1e-6)
    assert any("cut" in note for note in recording.notes)
    samples.unlink()
    with pytest.raises(RecordingError, match="not beside it"):
        load_recording(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nbchan": 2e9}, "nbchan"),
        ({"nbchan": -1.0}, "nbchan"),
        ({"pnts": 0.5}, "pnts"),
        ({"pnts": 1e18}, "pnts"),
        ({"srate": 0.0}, "rest.set"),
        ({"srate": 1e-9}, "days"),
        ({"srate": np.nan}, "rest.set"),
    ],
)
def test_counts_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecordingError, match=words) as fault:
        load_recording(write(tmp_path, **change))
    assert "rest.set" in str(fault.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("packed", [False, True])
def test_a_set_that_is_cut_is_refused(tmp_path: Path, share: float, packed: bool) -> None:
    path = write(tmp_path, embedded=True, packed=packed)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RecordingError, match=r"rest\.set"):
        load_recording(path)


def test_what_unpacks_to_more_than_is_read_is_refused_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, embedded=True, packed=True)
    monkeypatch.setattr("biopercept.loaders.readers.matlab.LARGEST_VARIABLES", 10_000)
    with pytest.raises(RecordingError, match=r"more than 0 MB unpacked; save the samples in a \.fdt"):
        load_recording(path)


def test_structures_nested_without_end_are_refused(tmp_path: Path) -> None:
    def matrix(content: bytes) -> bytes:
        return struct.pack("<II", 14, len(content)) + content

    def nested(inner: bytes, name: bytes) -> bytes:
        flags = struct.pack("<IIII", 6, 8, 2, 0) + struct.pack("<IIii", 5, 8, 1, 1)
        padded = name.ljust(8, b"\x00") if name else b""
        named = struct.pack("<II", 1, len(name)) + padded
        fields = struct.pack("<HHi", 5, 4, 8) + struct.pack("<II", 1, 8) + b"EEG\x00\x00\x00\x00\x00"
        return matrix(flags + named + fields + inner)

    inner = matrix(b"")
    for _ in range(600):
        inner = nested(inner, b"")
    path = write(tmp_path)
    head = path.read_bytes()[:128]
    packed = zlib.compress(nested(inner, b"EEG"))
    for element in (nested(inner, b"EEG"), struct.pack("<II", 15, len(packed)) + packed):
        path.write_bytes(head + element)
        with pytest.raises(RecordingError, match=r"rest\.set"):
            load_recording(path)


def test_another_matlab_file_says_what_to_do(tmp_path: Path) -> None:
    savemat(tmp_path / "other.set", {"x": 1.0}, appendmat=False)
    with pytest.raises(RecordingError, match=r"other\.set.*no EEGLAB"):
        load_recording(tmp_path / "other.set")
    (tmp_path / "new.set").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(1000))
    with pytest.raises(RecordingError, match=r"new\.set: cannot be read as HDF5"):
        load_recording(tmp_path / "new.set")


def as_hdf5(path: Path) -> Path:
    """Write a set again as MATLAB 7.3 does: structures are groups, rows of tables lie apart and are pointed at."""
    fields = loadmat(path, squeeze_me=False)
    record = fields["EEG"][0, 0] if "EEG" in fields else {name: fields[name] for name in fields if name[0] != "_"}
    names = record.dtype.names if "EEG" in fields else tuple(record)
    with h5py.File(path, "w", userblock_size=512) as file:
        apart = file.create_group("#refs#")
        top = file.create_group("EEG") if "EEG" in fields else file
        if top is not file:
            top.attrs["MATLAB_class"] = np.bytes_("struct")
        for name in names:
            put(apart, top, name, record[name])
    with path.open("r+b") as stream:
        stream.write(
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 schema 1.00 .".ljust(
                124
            )
        )
        stream.write(struct.pack("<H", 0x0200) + b"IM")
    return path


def put(apart: h5py.Group, group: h5py.Group, name: str, value: np.ndarray) -> h5py.Dataset:
    """Write a value of MATLAB as 7.3 does: transposed, text as 16-bit numbers, nothing as its shape."""
    if value.dtype.names and value.size == 1 and name == "chaninfo":
        inner = group.create_group(name)
        inner.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in value.dtype.names:
            put(apart, inner, field, value[0, 0][field])
        return inner
    if value.dtype.names:
        inner = group.create_group(name)
        inner.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in value.dtype.names:
            places = [put(apart, apart, f"x{len(apart)}", row[field]).ref for row in value.reshape(-1)]
            inner.create_dataset(field, data=np.array(places, dtype=h5py.ref_dtype)[:, None])
        return inner
    kind = {"U": "char", "f4": "single"}.get("U" if value.dtype.kind == "U" else value.dtype.str[1:], "double")
    if kind == "char":
        text = "".join(value.reshape(-1))
        value = np.array([[ord(c) for c in text]], dtype=np.uint16)
    if value.size == 0:
        dataset = group.create_dataset(name, data=np.array(value.shape or (0, 0), dtype=np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        dataset = group.create_dataset(name, data=value.T)
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    return dataset


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_a_set_of_matlab_7_3_is_read_as_one_of_5(tmp_path: Path, embedded: bool, flat: bool) -> None:
    path = write(tmp_path, embedded=embedded, flat=flat)
    old = load_recording(path)
    planted = {signal.name: (signal.modality, signal.unit, signal.channels, signal.read()) for signal in old.signals}
    new = load_recording(as_hdf5(path))
    assert {s.name: (s.modality, s.unit, s.channels) for s in new.signals} == {n: v[:3] for n, v in planted.items()}
    for signal in new.signals:
        np.testing.assert_allclose(signal.read(), planted[signal.name][3], rtol=1e-6)
    assert [(i.onset_seconds, i.duration_seconds, i.label) for i in new.intervals] == [
        (i.onset_seconds, i.duration_seconds, i.label) for i in old.intervals
    ]
    assert new.corrections == old.corrections
    assert new.notes == old.notes


def test_a_set_of_matlab_7_3_is_checked_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordingError, match=r"rest\.set: 80 epochs"):
        load_recording(as_hdf5(write(tmp_path, trials=80.0)))
    with pytest.raises(RecordingError, match=r"rest\.set.*outside its folder"):
        load_recording(as_hdf5(write(tmp_path, data="../secret.fdt")))
    path = as_hdf5(write(tmp_path))
    with h5py.File(path, "a") as file:
        file["EEG/etc"] = h5py.ExternalLink("/etc/secret.h5", "/x")
    with pytest.raises(RecordingError, match=r"rest\.set: has links to elsewhere"):
        load_recording(path)
    path = as_hdf5(write(tmp_path, embedded=True))
    monkeypatch.setattr("biopercept.loaders.readers.eeglab.LARGEST_VARIABLES", 10_000)
    with pytest.raises(RecordingError, match="unpack to more than"):
        load_recording(path)


def test_real_samples_are_those_of_mne(reference_data: Path) -> None:
    path = reference_data / "formats/eeglab_set/eeglab_data.set"
    raw = mne.io.read_raw_eeglab(path, verbose="error")
    recording = load_recording(path)
    eeg = recording.signal("EEG")
    np.testing.assert_allclose(eeg.read(5000, 6000), raw.get_data(eeg.channel_names, 5000, 6000) * 1e6, rtol=1e-12)
    assert recording.signal("EOG1").modality == "eog"
    assert [i.label for i in recording.intervals] == list(raw.annotations.description)
    np.testing.assert_allclose([i.onset_seconds for i in recording.intervals], raw.annotations.onset)
    with pytest.raises(RecordingError, match="80 epochs"):
        load_recording(path.with_name("eeglab_data_epochs_ica.set"))
