"""Formats that are known and not read: each is named, with what to do instead, as a file, a folder and in a folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from biopercept.errors import RecordingError
from biopercept.loaders.folders import recordings_in
from biopercept.loaders.loading import load_recording

FILES: tuple[tuple[str, bytes, str], ...] = (
    ("x.cnt", b"RIFF" + bytes(90), "ANT Neuro"),
    ("x.sqd", bytes(range(200)), "KIT"),
    ("x.con", bytes(range(200)), "KIT"),
    ("sub-1_meg.bin", bytes(90), "magnetometers"),
    ("x.nedf", b"<?xml version='1.0'?>", "Neuroelectrics"),
    ("x.nxe", bytes(256), "eXimia"),
    ("x.dat", b"BCI2000V= 1.1 HeaderLen= 512 SourceCh= 2 StatevectorLen= 1\r\n", "BCI2000"),
    ("x.snirf", b"\x89HDF\r\n\x1a\n" + bytes(90), "SNIRF"),
    ("x.wl1", b"1.0 2.0\n", "NIRx"),
    ("x.txt", b"BOXY.EXE Version 0.84\r\n", "BOXY"),
    ("x.csv", b"Header\r\nFile Version,1.08\r\n", "Hitachi"),
    ("x.ns3", b"NEURALCD" + bytes(90), "Blackrock"),
    ("x.ncs", b"######## Neuralynx Data File Header\r\n", "Neuralynx"),
    ("x.asc", b"** CONVERTED FROM x.edf using edfapi\n", "EyeLink"),
    ("x.edf", b"SR_RESEARCH_COMBINED_FILE" + bytes(90), "EyeLink"),
    ("x.adicht", bytes(90), "LabChart"),
    ("x.smrx", bytes(90), "Spike2"),
    ("x.mwx", bytes(90), "MindWare"),
    ("x.Poly5", b"POLY SAMPLE FILEversion 2.03\r\n\x1a" + bytes(90), "Poly5"),
    ("x.trc", b"* MICROMED  Brain-Quick file *" + bytes(90), "Micromed"),
    (
        "1-1_eda.csv",
        b"timestamp_unix,timestamp_iso,participant_full_id,eda_scl_usiemens,missing_value_reason\n",
        "Embrace",
    ),
    ("x.pkl", pickle.dumps([1]), "pickle"),
)


@pytest.mark.parametrize(("name", "content", "words"), FILES, ids=[name for name, *_ in FILES])
def test_a_file_says_its_format_and_what_to_do(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=rf"^{name}: .*{words}.*, which is not read; \w+") as fault:
        load_recording(path)
    assert "\n" not in str(fault.value)
    assert recordings_in(tmp_path).paths == (path,), "inspect of the folder says it, too"


def ctf(folder: Path) -> Path:
    return _members(folder / "sub_01.ds", "sub_01.meg4", "sub_01.res4", "MarkerFile.mrk")


def bti(folder: Path) -> Path:
    return _members(folder / "run1", "config", "c,rfDC", "hs_file")


def nirx(folder: Path) -> Path:
    return _members(folder / "2024-01-01_001", "a.hdr", "a.wl1", "a.wl2", "a_config.txt", "a.csv")


def mef(folder: Path) -> Path:
    return _members(folder / "x.mefd", "a.csv")


def _members(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("time,EDA (uS)\n" + "".join(f"{i},1\n" for i in range(50)))
    return folder


@pytest.mark.parametrize(
    ("write", "words"),
    [(ctf, "CTF"), (bti, "BTi or 4D"), (nirx, "NIRx"), (mef, "MEF")],
    ids=["ctf", "bti", "nirx", "mef"],
)
def test_a_folder_that_is_one_recording_is_not_taken_for_a_folder_of_files(
    tmp_path: Path, write: object, words: str
) -> None:
    path = write(tmp_path)
    with pytest.raises(RecordingError, match=rf"^{path.name}: .*{words}.*, which is not read; "):
        load_recording(path)
    assert recordings_in(tmp_path).paths == (path,)
    table = tmp_path / "eda.csv"
    table.write_text("time,EDA (uS)\n" + "".join(f"{i},1\n" for i in range(50)))
    assert recordings_in(tmp_path).paths == tuple(sorted((path, table)))


def test_a_spreadsheet_is_no_recording_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "protocol.xlsx").write_bytes(b"PK\x03\x04" + bytes(90))
    table = tmp_path / "eda.csv"
    table.write_text("time,EDA (uS)\n" + "".join(f"{i},1\n" for i in range(50)))
    listing = recordings_in(tmp_path)
    assert listing.paths == (table,)
    assert [one.name for one in listing.others] == ["protocol.xlsx"]
