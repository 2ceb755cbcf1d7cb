"""Damaged recordings from outside: each is a sentence that names the file and the fault, and costs nobody else."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest
import wfdb
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A table of 20 s that every command can read, beside which the damaged file lies."""
    path = tmp_path / "good.csv"
    path.write_text("time,EDA (uS)\n" + "".join(f"{i / 4},{2 + i % 7 / 100}\n" for i in range(80)))
    return path


def edf(path: Path, *, samples: bytes = b"128", n_more: int = 0) -> Path:
    """Write an EDF of 20 records of 1 s; ``samples`` per record of its first channel as the header says it."""
    random = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(random.normal(0, 50, 20 * rate), rate, label=label, physical_range=(-500, 500))
        for label, rate in (("ECG", 128), ("EDA", 16), ("Temp", 16))
    ]
    edfio.Edf(signals).write(path)
    content = bytearray(path.read_bytes())
    at = 256 + 3 * (16 + 80 + 8 * 5 + 80)
    content[at : at + 8] = samples.ljust(8)
    path.write_bytes(bytes(content) + bytes(n_more))
    return path


def e4_zip(path: Path, damage: Callable[[bytearray, int], None]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("EDA.csv", "1500000000.0\n4.0\n" + "".join(f"{1 + i % 9 / 100}\n" for i in range(80)))
    content = bytearray(path.read_bytes())
    damage(content, content.find(b"PK\x01\x02"))
    path.write_bytes(bytes(content))
    return path


def no_directory(content: bytearray, at: int) -> None:
    content[at] = 0x51


def of_the_future(content: bytearray, at: int) -> None:
    content[at + 6] = 239


def beyond_the_end(content: bytearray, at: int) -> None:
    content[-6:-2] = b"\xff\xff\xff\x7f"


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda p: edf(p / "bad.edf", samples=b"0"), "bad.edf: the samples per data record of a channel contradict"),
        (lambda p: edf(p / "bad.edf", samples=b"120"), "bad.edf: the samples per data record of a channel contradict"),
        (lambda p: edf(p / "bad.edf", samples=b"130"), "bad.edf: the samples per data record of a channel contradict"),
        (lambda p: e4_zip(p / "bad.zip", no_directory), "bad.zip: the zip file is damaged"),
        (lambda p: e4_zip(p / "bad.zip", of_the_future), "bad.zip: the zip file is damaged"),
        (lambda p: e4_zip(p / "bad.zip", beyond_the_end), "bad.zip: no Empatica sensor can be used"),
    ],
    ids=["no samples", "too few", "too many", "directory", "version", "offset"],
)
@pytest.mark.parametrize("command", [["inspect"], ["features", "--whole", "-o", "out"]], ids=lambda words: words[0])
def test_a_contradiction_or_a_damaged_zip_costs_the_file(
    write: Callable[[Path], Path],
    sentence: str,
    command: list[str],
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(command[0], write(tmp_path), good, *command[1:])
    assert result.exit_code == 1, result.output
    assert sentence in " ".join(result.stderr.split()) and "ours" not in result.output
    is_done = "good" in result.stdout if command[0] == "inspect" else "good" in Path("out/features.csv").read_text()
    assert is_done


@pytest.mark.parametrize("n_more", [0, 7, 320, 330])
def test_records_beyond_those_that_the_header_says_are_a_note_and_no_contradiction(tmp_path: Path, n_more: int) -> None:
    result = run("inspect", edf(tmp_path / "more.edf", n_more=n_more), "--json")
    assert result.exit_code == 0, result.output
    notes = json.loads(result.stdout)["recordings"][0]["notes"]
    assert any("data records but 21 are there" in note for note in notes) == (n_more >= 320)


@pytest.mark.parametrize("format", ["16", "212", "80", "24"])
def test_a_wfdb_record_whose_samples_were_changed_says_so(tmp_path: Path, format: str) -> None:
    samples = np.random.default_rng(0).integers(-100, 100, (5000, 2))
    wfdb.wrsamp(
        "rec",
        fs=250,
        units=["mV", "mV"],
        sig_name=["ECG", "resp"],
        d_signal=samples,
        fmt=[format] * 2,
        adc_gain=[200.0] * 2,
        baseline=[0, 0],
        write_dir=str(tmp_path),
    )
    words = "the checksum of ECG is not that of its samples"
    assert words not in run("inspect", tmp_path / "rec.hea").output
    content = bytearray((tmp_path / "rec.dat").read_bytes())
    content[1200] ^= 0x08  # a sample of the first signal in every format
    (tmp_path / "rec.dat").write_bytes(bytes(content))
    result = run("inspect", tmp_path / "rec.hea")
    assert result.exit_code == 0 and words in " ".join(result.output.split())
    shutil.copy(tmp_path / "rec.dat", tmp_path / "whole.dat")
    (tmp_path / "rec.dat").write_bytes(bytes(content[:-300]))  # a signal that is cut has no sum to compare
    assert words not in " ".join(run("inspect", tmp_path / "rec.hea").output.split())
