"""Recordings that the tests write themselves: through other libraries, or as plain text."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

START = 1_600_000_000


def sine(rate: float, seconds: float, hz: float = 1.0, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


@pytest.fixture
def edf_file(tmp_path: Path) -> Path:
    """10 s: two EEG electrodes and a reference pair at 128 Hz, ECG at 256 Hz in mV, EDA at 4 Hz, two annotations."""
    import edfio

    def signal(label: str, unit: str, rate: float, hz: float, amplitude: float) -> edfio.EdfSignal:
        limits = (-2 * amplitude, 2 * amplitude)
        data = sine(rate, 10, hz, amplitude)
        return edfio.EdfSignal(data, rate, label=label, physical_dimension=unit, physical_range=limits)

    signals = [
        signal("EEG Fp1", "uV", 128, 10, 50),
        signal("EEG T3", "mV", 128, 7, 0.04),
        signal("EEG A2-A1", "uV", 128, 3, 20),
        signal("ECG ECG", "mV", 256, 1, 1),
        signal("EDA", "uS", 4, 0.1, 5),
    ]
    annotations = [edfio.EdfAnnotation(2, 3, "stroop"), edfio.EdfAnnotation(6.5, None, "press")]
    path = tmp_path / "made.edf"
    edfio.Edf(signals, annotations=annotations).write(path)
    return path


@pytest.fixture
def e4_files() -> dict[str, str]:
    """The files of an E4 session of 20 s: heart rate 10 s late, beats with gaps, one button press inside."""
    rng = np.random.default_rng(3)

    def single(rate: float, values: np.ndarray, start: float = START) -> str:
        return "".join([f"{start:.6f}\n", f"{rate:.6f}\n", *(f"{value:.6f}\n" for value in values)])

    acc = rng.integers(-64, 64, (640, 3))
    head = ", ".join([f"{START:.6f}"] * 3) + "\n" + ", ".join(["32.000000"] * 3) + "\n"
    beats = "".join(f"{t:.6f},{i:.6f}\n" for t, i in [(3.5, 0.8), (4.4, 0.9), (9.0, 0.85)])
    return {
        "ACC.csv": head + "".join(f"{x},{y},{z}\n" for x, y, z in acc),
        "BVP.csv": single(64, rng.normal(0, 50, 1280)),
        "EDA.csv": single(4, np.concatenate([[0.0], rng.uniform(0.2, 0.4, 79)])),
        "HR.csv": single(1, rng.uniform(60, 80, 10), START + 10),
        "IBI.csv": f"{START:.6f}, IBI\n" + beats,
        "TEMP.csv": single(4, rng.uniform(30, 32, 80)),
        "tags.csv": f"{START + 5:.2f}\n",
        "info.txt": "made\n",
    }


@pytest.fixture
def e4_folder(tmp_path: Path, e4_files: dict[str, str]) -> Path:
    folder = tmp_path / "S01"
    folder.mkdir()
    for name, text in e4_files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def e4_zip(tmp_path: Path, e4_files: dict[str, str]) -> Path:
    path = tmp_path / "S01.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in e4_files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def wfdb_record(tmp_path: Path) -> Path:
    """Three rates in one record of 10 s: ECG 256 Hz, RESP 32 Hz, TEMP 8 Hz; notes at 0.5 s and 4 s."""
    import wfdb

    parts = [
        np.round(sine(256, 10, 1, 0.9), 3),
        np.round(sine(32, 10, 0.3, 2), 3),
        32 + np.round(sine(8, 10, 0.1, 1), 3),
    ]
    wfdb.wrsamp(
        "p1_all",
        fs=8,
        units=["mV", "NU", "degC"],
        sig_name=["ECG", "RESP", "TEMP"],
        e_p_signal=parts,
        samps_per_frame=[32, 4, 1],
        fmt=["16", "16", "16"],
        adc_gain=[1000.0, 1000.0, 500.0],
        baseline=[0, 0, -16000],
        write_dir=str(tmp_path),
    )
    notes = np.array([4, 32])
    wfdb.wrann("p1_all", "atr", notes, symbol=['"', '"'], aux_note=["Relax", "Stress"], fs=8, write_dir=str(tmp_path))
    return tmp_path / "p1_all.hea"


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes bytes or text as a table and, if given, a JSON sidecar beside it."""
    import json

    def write(content: str | bytes, sidecar: dict[str, object] | None = None, name: str = "made.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if sidecar is not None:
            (tmp_path / "made.json").write_text(json.dumps(sidecar))
        return path

    return write
