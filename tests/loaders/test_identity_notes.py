"""What a header says of a person is in no part of a recording, and a note says that it is hidden; in each format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pytest
import scipy.io
from loaders import test_avro, test_gdf, test_mne_formats, xdf_writer

from biopercept.errors import RecordingError
from biopercept.loaders.identity import COMMENTS, HIDDEN
from biopercept.loaders.loading import load_recording

NAMES = ("Zebulon", "Quartermain", "Lovelace", "KN-4711-X", "P-SECRET")
WAVE = np.sin(np.arange(3000) / 16)


def _fif(folder: Path, person: dict[str, Any] | None) -> Path:
    info = mne.create_info(["Cz", "Fz"], 100.0, "eeg")
    info["subject_info"] = person
    mne.io.RawArray(np.tile(WAVE, (2, 1)) * 1e-5, info, verbose="error").save(folder / "s_raw.fif", verbose="error")
    return folder / "s_raw.fif"


def _set(folder: Path, subject: str) -> Path:
    place = {"labels": ["Cz", "Fz"], "type": ["EEG", "EEG"]}
    locations = np.array(list(zip(*place.values(), strict=True)), dtype=[("labels", "O"), ("type", "O")])
    fields = {"nbchan": 2, "pnts": 3000, "trials": 1, "srate": 100.0, "xmin": 0.0, "xmax": 29.99, "event": []}
    content = {**fields, "data": np.tile(WAVE, (2, 1)) * 10, "chanlocs": locations, "subject": subject, "setname": "s"}
    scipy.io.savemat(folder / "s.set", {**content, "epoch": [], "icawinv": [], "icaweights": [], "icasphere": []})
    return folder / "s.set"


def _vhdr(folder: Path, comment: str) -> Path:
    (folder / "s.eeg").write_bytes((WAVE * 100).astype("<i2").tobytes())
    (folder / "s.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=s.eeg\nNumberOfChannels=1\n"
        "SamplingInterval=10000\n[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=Cz,,1,uV\n"
        f"[Comment]\n{comment}\n"
    )
    return folder / "s.vhdr"


def _hdf5(folder: Path, attributes: dict[str, str]) -> Path:
    with h5py.File(folder / "s.h5", "w") as file:
        file.attrs.update(attributes)
        file.create_dataset("ecg", data=WAVE).attrs.update({"sampling_rate": 100.0, "units": "mV"})
    return folder / "s.h5"


def _xdf(folder: Path, described: str) -> Path:
    head = xdf_writer.stream_header(1, "ECG", "ECG", 1, 100.0, channels=[("ECG", "mV", "ECG")])
    if described:
        xml = head[head.index(b"<info>") :].replace(b"<desc>", f"<desc>{described}".encode())
        head = xdf_writer.chunk(2, b"\x01\x00\x00\x00" + xml)
    times = np.arange(3000) / 100 + 5
    (folder / "s.xdf").write_bytes(xdf_writer.file_header() + head + xdf_writer.in_chunks(1, times, WAVE))
    return folder / "s.xdf"


def _table(folder: Path, comment: str) -> Path:
    rows = "".join(f"{i / 100:.2f},{value:.3f}\n" for i, value in enumerate(WAVE))
    (folder / "s.csv").write_text(f"{comment}time,ecg\n{rows}")
    (folder / "s.json").write_text(json.dumps({"ecg": {"Units": "mV"}}))
    return folder / "s.csv"


def _avro(folder: Path, person: str) -> Path:
    return test_avro.written(folder / "s.avro", test_avro.session(person=person))


def _gdf(version: int) -> Callable[[Path, bytes], Path]:
    def write(folder: Path, patient: bytes) -> Path:
        path = test_gdf.write(folder, version)
        content = bytearray(path.read_bytes())
        content[8:20] = patient.ljust(12)
        path.write_bytes(bytes(content))
        return path

    return write


def _replaced(make: Callable[[Path], Path], part: str, old: bytes) -> Callable[[Path, bytes], Path]:
    def write(folder: Path, new: bytes) -> Path:
        path = make(folder)
        file = folder / part
        file.write_bytes(file.read_bytes().replace(old, new))
        return path

    return write


PERSON = {"first_name": "Zebulon", "last_name": "Quartermain", "his_id": "KN-4711-X"}
FORMATS: dict[str, tuple[Callable[[Path, Any], Path], Any, Any]] = {
    "fif": (_fif, PERSON, None),
    "eeglab": (_set, "Zebulon", ""),
    "brainvision": (_vhdr, "Patient: Zebulon Quartermain", "Amplifier: 1"),
    "hdf5": (_hdf5, {"subject_name": "Zebulon"}, {"device": "x"}),
    "xdf": (_xdf, "<subject><id>KN-4711-X</id></subject>", ""),
    "table": (_table, "# Patient: Zebulon\n# made by x\n", "# made by x\n# y\n"),
    "avro": (_avro, "P-SECRET", ""),
    "gdf 1": (_gdf(1), b"X Lovelace", b"X X"),
    "gdf 2": (_gdf(2), b"X Lovelace", b"X X"),
    "nicolet": (_replaced(test_mne_formats.nicolet, "rest.head", b"pat_id=1"), b"pat_id=4711", b"pat_id=0"),
    "neuroscan": (_replaced(test_mne_formats.neuroscan, "rest.cnt", b"Lovelace Ada"), b"Lovelace Ada", bytes(12)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_person_in_a_header_is_said_to_be_there_and_not_named(tmp_path: Path, name: str) -> None:
    write, person, nobody = FORMATS[name]
    for part, content in (("with", person), ("without", nobody)):
        (tmp_path / part).mkdir()
        recording = load_recording(write(tmp_path / part, content))
        assert recording.notes.count(HIDDEN) == (part == "with"), (part, recording.notes)
        assert not any(word in repr(recording) for word in NAMES)


def test_a_field_that_the_library_cannot_read_is_not_repeated(tmp_path: Path) -> None:
    path = test_mne_formats.nicolet(tmp_path)
    header = path.with_suffix(".head")
    header.write_text(header.read_text().replace("pat_id=1", "pat_id=Zebulon"))
    with pytest.raises(RecordingError, match=r"^rest\.data: the Nicolet file cannot be read") as fault:
        load_recording(path)
    assert "Zebulon" not in str(fault.value)


def test_a_person_in_a_persyst_header_is_said_to_be_there(tmp_path: Path) -> None:
    recording = load_recording(test_mne_formats.persyst(tmp_path))  # mne refuses one without a day of birth
    assert HIDDEN in recording.notes and not any(word in repr(recording) for word in NAMES)


def test_comments_of_a_wfdb_header_are_said_to_be_hidden(wfdb_record: Path) -> None:
    wfdb_record.write_text(wfdb_record.read_text() + "# Zebulon Quartermain, KN-4711-X\n")
    recording = load_recording(wfdb_record)
    assert COMMENTS in recording.notes and not any(word in repr(recording) for word in NAMES)
