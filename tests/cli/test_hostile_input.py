"""Files made to harm, from outside: nothing in them is run, followed or unpacked without end; each is a sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

MOST_SECONDS, MOST_BYTES = 20, 1 << 30


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _yaml(folder: Path, canary: Path) -> Path:
    study = folder / "evil_study"
    study.mkdir()
    (study / "study.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{canary}']\n")
    for table in ("participants", "recordings", "events"):
        (study / f"{table}.tsv").write_text("participant_id\n")
    return study


def _hdf5(folder: Path, canary: Path) -> Path:
    path = folder / "evil.h5"
    with h5py.File(path, "w") as file:
        file.attrs["biopercept"] = np.void(pickle.dumps(Canary(canary)))
        file["signal"] = np.zeros(100)
    return path


def _archive(folder: Path, canary: Path) -> Path:
    path = folder / "evil.npz"
    np.savez(path, EDA=np.array([Canary(canary)], dtype=object))
    return path


def _dumped(name: str, dump: Callable[[Any, Path], None]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, canary: Path) -> Path:
        dump(Canary(canary), folder / name)
        return folder / name

    return write


CODE: dict[str, Callable[[Path, Path], Path]] = {
    "pickle": _dumped("S1.pkl", lambda evil, path: path.write_bytes(pickle.dumps(evil)) and None),
    "pickle in a list": _dumped(
        "S1.pkl", lambda evil, path: path.write_bytes(pickle.dumps({"signal": [evil]})) and None
    ),
    "old pickle": _dumped("S2.pkl", lambda evil, path: path.write_bytes(pickle.dumps(evil, 0)) and None),
    "dat": _dumped("s01.dat", lambda evil, path: path.write_bytes(pickle.dumps({"data": evil})) and None),
    "npy": _dumped("evil.npy", lambda evil, path: np.save(path, np.array([evil], dtype=object))),
    "npz": _archive,
    "torch": _dumped("evil.pt", lambda evil, path: torch.save(evil, path)),
    "old torch": _dumped("evil.pth", lambda evil, path: torch.save(evil, path, _use_new_zipfile_serialization=False)),
    "yaml": _yaml,
    "hdf5": _hdf5,
}


@pytest.mark.parametrize("kind", CODE)
def test_nothing_in_a_file_is_run_by_any_command(kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = CODE[kind](tmp_path, canary)
    for words in (
        ["inspect", path],
        ["check", path],
        ["prepare", path, "-o", tmp_path / "out.h5"],
        ["train", path, "-o", tmp_path / "model"],
        ["predict", path, path, "-o", tmp_path / "predictions"],
        ["predict", "stress-wrist", path, "-o", tmp_path / "predictions"],
        ["report", path],
    ):
        result = run(*words)
        code = getattr(result.exception, "exit_code", result.exit_code)
        is_known = isinstance(result.exception, SystemExit) or hasattr(result.exception, "exit_code")
        assert code in (1, 2) or (kind == "hdf5" and words[0] == "inspect"), (words[0], result.output)
        assert result.exception is None or is_known, (words[0], repr(result.exception))
        assert not canary.exists(), words[0]


def _linked_hdf5(folder: Path, secret: Path) -> Path:
    path = folder / "link.h5"
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["EDA"] = np.full(400, 7.25)
    with h5py.File(path, "w") as file:
        file["EDA"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "EDA")
    return path


def _external_storage(folder: Path, secret: Path) -> Path:
    path = folder / "external.h5"
    np.full(400, 7.25).tofile(secret)
    with h5py.File(path, "w") as file:
        file.create_dataset("EDA", shape=(400,), dtype="<f8", external=[(str(secret), 0, 3200)])
        file.attrs["sampling_rate"] = 4.0
    return path


def _virtual(folder: Path, secret: Path) -> Path:
    path = folder / "virtual.h5"
    with h5py.File(secret.with_suffix(".h5"), "w") as file:
        file["EDA"] = np.full(400, 7.25)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((400,), "<f8")
        layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "EDA", (400,))
        file.create_virtual_dataset("EDA", layout)
        file.attrs["sampling_rate"] = 4.0
    return path


def _brainvision(name: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, secret: Path) -> Path:
        np.full(400, 725, dtype="<i2").tofile(secret)
        there = str(secret) if name == "absolute" else f"../{secret.parent.name}/{secret.name}"
        path = folder / "out.vhdr"
        path.write_text(
            "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
            f"DataFile={there}\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=1\n"
            "SamplingInterval=250000\n[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=EDA,,0.01,uS\n"
        )
        return path

    return write


def _wfdb(name: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, secret: Path) -> Path:
        np.full(400, 725, dtype="<i2").tofile(secret)
        there = str(secret) if name == "absolute" else f"../{secret.parent.name}/{secret.name}"
        path = folder / "out.hea"
        path.write_text(f"out 1 4 400\n{there} 16 100/uS 16 0 725 0 0 EDA\n")
        return path

    return write


OUTSIDE: dict[str, Callable[[Path, Path], Path]] = {
    "external link": _linked_hdf5,
    "external storage": _external_storage,
    "virtual data set": _virtual,
    "BrainVision, absolute": _brainvision("absolute"),
    "BrainVision, up": _brainvision("up"),
    "WFDB, absolute": _wfdb("absolute"),
    "WFDB, up": _wfdb("up"),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_nothing_outside_of_a_recording_is_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = OUTSIDE[kind](tmp_path / "in", tmp_path / "elsewhere" / "secret.bin")
    result = run("inspect", path)
    assert result.exit_code == 1, result.output
    assert path.name in result.stderr and "7.25" not in result.output and "Traceback" not in result.output


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/x.edf", "s3://bucket/x.edf", "simplecache::http://127.0.0.1:9/x.edf", "file:///x.csv"],
)
def test_addresses_are_not_opened(address: str) -> None:
    result = run("inspect", address)
    assert result.exit_code == 1 and "Traceback" not in result.output


def _gzip(path: Path, head: bytes, piece: bytes, n_pieces: int) -> Path:
    """Write a head and many pieces; each piece is a member of its own, packed once."""
    path.write_bytes(gzip.compress(head) + gzip.compress(piece, 9) * n_pieces)
    return path


def _zip_of(path: Path, name: str, head: bytes, piece: bytes, n_pieces: int) -> Path:
    """Write a zip of one member; its blocks are packed once and repeated, and its sum is of the first alone."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    content = first + block * n_pieces + packer.flush()
    n_bytes, crc = len(head) + len(piece) * n_pieces, zlib.crc32(head)
    both = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(content), n_bytes, len(name), 0)
    local = b"PK\x03\x04" + both + name.encode() + content
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + both + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    path.write_bytes(local + entry + end)
    return path


def _npz_bomb(path: Path) -> Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 28,)})
    return _zip_of(path, "EDA.npy", head.getvalue(), bytes(1 << 20), 2047)


def _hdf5_bomb(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("EDA", shape=(1 << 33,), dtype="<f8", chunks=(1 << 20,), compression="gzip")
        data.attrs["sampling_rate"] = 4.0
    return path


def _npy_shape(path: Path) -> Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    path.write_bytes(head.getvalue() + bytes(800))
    return path


def _xdf(path: Path, header: bytes) -> Path:
    stream = struct.pack("<I", 1) + header
    chunk = b"\x04" + struct.pack("<I", len(stream) + 2) + struct.pack("<H", 2) + stream
    path.write_bytes(b"XDF:" + b"\x01\x04\x01\x00<v/>"[:0] + chunk)
    return path


_ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE i [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b"]><info><name>&j;</name></info>"
)


def _yaml_bomb(folder: Path) -> Path:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"] + [
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)
    ]
    folder.mkdir()
    (folder / "study.yaml").write_text("\n".join(lines))
    return folder


def _deep(path: Path, text: str) -> Path:
    path.with_suffix(".csv").write_text("time,EDA (uS)\n" + "".join(f"{i / 4},1\n" for i in range(80)))
    path.write_text(text)
    return path.with_suffix(".csv")


def _groups(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(600):
            group = group.create_group("g")
        group["EDA"] = np.zeros(80)
        group["again"] = file["g"]  # a circle of hard links
    return path


def _segments(path: Path) -> Path:
    path.write_text("loop/2 1 4 800\nloop 400\nloop 400\n")
    return path


def _edf(path: Path, **fields: tuple[int, bytes]) -> Path:
    content = bytearray(b"0".ljust(8) + b"X".ljust(160) + b"01.01.2001.01.01512".ljust(24) + bytes(b" " * 64))
    content[184:192] = b"512".ljust(8)
    content[236:244], content[244:252], content[252:256] = b"1".ljust(8), b"1".ljust(8), b"1".ljust(4)
    table = b"EDA".ljust(96) + b"uS".ljust(8) + b"0".ljust(8) + b"9".ljust(8) + b"-32768".ljust(8) + b"32767".ljust(8)
    content = bytearray(bytes(content[:256]) + table.ljust(216) + b"4".ljust(8) + b" " * 32 + bytes(8))
    for at, value in fields.values():
        content[at : at + len(value)] = value
    path.write_bytes(bytes(content))
    return path


BOMBS: dict[str, Callable[[Path], Path]] = {
    "csv.gz": lambda f: _gzip(f / "b.csv.gz", b"time,EDA (uS)\n", b"0,0\n" * (1 << 18), 6000),
    "one line": lambda f: _gzip(f / "b.csv.gz", b"time,EDA (uS)\n0,", bytes(1 << 20), 4000),
    "zipped csv": lambda f: _zip_of(f / "b.zip", "EDA.csv", b"1500000000.0\n4.0\n", b"0.0\n" * (1 << 18), 3000),
    "fif.gz": lambda f: _gzip(
        f / "b.fif.gz", b"\x00\x00\x00\x64\x00\x00\x00\x1f\x00\x00\x00\x14\x00\x00\x00\x00", bytes(1 << 20), 3000
    ),
    "xdfz": lambda f: _gzip(f / "b.xdfz", b"XDF:", bytes(1 << 20), 3000),
    "npz": lambda f: _npz_bomb(f / "b.npz"),
    "hdf5 gzip": lambda f: _hdf5_bomb(f / "b.h5"),
    "npy shape": lambda f: _npy_shape(f / "b.npy"),
    "xml": lambda f: _xdf(f / "b.xdf", _ENTITIES),
    "yaml": lambda f: _yaml_bomb(f / "study"),
    "json": lambda f: _deep(f / "b.json", '{"a":' * 100_000),
    "json list": lambda f: _deep(f / "b.json", "[" * 100_000),
    "600 groups": lambda f: _groups(f / "b.h5"),
    "self-segment": lambda f: _segments(f / "loop.hea"),
    "2e9 channels": lambda f: _edf(f / "b.edf", n=(252, b"9999")),
    "negative count": lambda f: _edf(f / "b.edf", n=(252, b"-1  ")),
    "record of a day": lambda f: _edf(f / "b.edf", n=(244, b"86400   ")),
    "record of ages": lambda f: _edf(f / "b.edf", n=(244, b"1e300   ")),
    "too many records": lambda f: _edf(f / "b.edf", n=(236, b"99999999")),
    "too many samples": lambda f: _edf(f / "b.edf", n=(256 + 216, b"99999999")),
    "wfdb frames": lambda f: (
        (f / "b.hea").write_text("b 1 4 99999999999\nb.dat 16 100/uS 16 0 0 0 0 EDA\n")
        and (f / "b.dat").write_bytes(bytes(80))
        and f / "b.hea"
    ),  # type: ignore[dict-item]
    "wfdb signals": lambda f: (f / "b.hea").write_text("b 2000000000 4 10\n") and f / "b.hea",  # type: ignore[dict-item]
    "rate": lambda f: _deep(f / "b.json", json.dumps({"SamplingFrequency": 1e-7})),
    "start": lambda f: _deep(f / "b.json", json.dumps({"SamplingFrequency": 4, "StartTime": 1e9})),
    "100,000 columns": lambda f: (
        (f / "b.csv").write_text(",".join(f"c{i}" for i in range(100_000)) + "\n" + "1," * 99_999 + "1\n")
        and f / "b.csv"
    ),  # type: ignore[dict-item]
}


MEASURED = """
import json, resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([ended.returncode, ended.stdout + ended.stderr, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_no_size_that_a_file_states_or_unpacks_to_takes_the_machine(kind: str, tmp_path: Path) -> None:
    path = BOMBS[kind](tmp_path)
    command = [sys.executable, "-m", "biopercept.cli", "inspect", str(path)]
    # Through a small process: of one that is started by a large one the system counts the memory of both.
    ended = subprocess.run([sys.executable, "-c", MEASURED, *command], capture_output=True, text=True, timeout=300)
    code, said_so, seconds, kilobytes = json.loads(ended.stdout)
    assert code in (0, 1, 2), said_so
    assert "of ours" not in said_so and "Traceback" not in said_so and "RecursionError" not in said_so, said_so
    assert re.search(re.escape(path.name.split(".")[0]), said_so), said_so
    assert seconds < MOST_SECONDS, seconds
    assert kilobytes * 1024 <= MOST_BYTES, kilobytes
