"""Small folders in the documented layouts of public data sets, with values that the tests know."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

START = 1_361_382_919.0
"""2013-02-20 17:55:19 in UTC."""


def e4_time(seconds: float, *, is_date: bool) -> str:
    """Return a time as an E4 file gives it: unix seconds, or the date that stands in PhysioNet's copies."""
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S}" if is_date else f"{seconds:.6f}"


def write_e4(folder: Path, *, seconds: int, start: float = START, is_date: bool = False, eda: float = 1.5) -> None:
    """Write ACC, BVP, EDA, HR, IBI and TEMP of a session with a constant EDA of ``eda`` uS and 33 degC."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = e4_time(start, is_date=is_date)
    pulse = np.sin(2 * np.pi * 1.2 * np.arange(64 * seconds) / 64) * 50
    (folder / "EDA.csv").write_text(f"{begin}\n4.000000\n" + f"{eda}\n" * (4 * seconds))
    (folder / "TEMP.csv").write_text(f"{begin}\n4.000000\n" + "33.0\n" * (4 * seconds))
    (folder / "BVP.csv").write_text(f"{begin}\n64.000000\n" + "".join(f"{v:.3f}\n" for v in pulse))
    axes = f"{begin}, {begin}, {begin}\n32.000000, 32.000000, 32.000000\n"
    (folder / "ACC.csv").write_text(axes + "64,0,-32\n" * (32 * seconds))
    (folder / "HR.csv").write_text(f"{e4_time(start + 10, is_date=is_date)}\n1.000000\n" + "72.0\n" * (seconds - 10))
    beats = "".join(f"{0.8 * n + 5:.4f},0.8\n" for n in range(20))
    (folder / "IBI.csv").write_text(f"{begin}, IBI\n{beats}")


def write_tags(folder: Path, presses: list[float], *, start: float = START, is_date: bool = False) -> None:
    """Write tags.csv with presses of the button, given in seconds from the start."""
    (folder / "tags.csv").write_text("".join(f"{e4_time(start + press, is_date=is_date)}\n" for press in presses))


def wesad_person(subject: str, seconds: dict[int, int]) -> dict[str, object]:
    """Return what SX.pkl holds: labels of so many seconds each, in this order, and constant signals that differ."""
    labels = np.concatenate([np.full(700 * n, label, dtype=np.int32) for label, n in seconds.items()])
    n, total = len(labels), sum(seconds.values())
    chest = {
        "ACC": np.tile([0.5, 0.25, -1.0], (n, 1)),
        "ECG": np.sin(2 * np.pi * 1.2 * np.arange(n) / 700)[:, None],
        "EMG": np.full((n, 1), 0.01),
        "EDA": np.full((n, 1), 5.25),
        "Temp": np.full((n, 1), 30.5),
        "Resp": np.full((n, 1), 2.5),
    }
    wrist = {
        "ACC": np.tile([64.0, 0.0, -32.0], (32 * total, 1)),
        "BVP": np.sin(2 * np.pi * 1.2 * np.arange(64 * total) / 64)[:, None],
        "EDA": np.full((4 * total, 1), 0.75),
        "TEMP": np.full((4 * total, 1), 33.5),
    }
    return {"subject": subject, "signal": {"chest": chest, "wrist": wrist}, "label": labels}


def write_wesad(folder: Path, subject: str, content: object, protocol: int = 2) -> Path:
    """Write SX/SX.pkl below a folder and return it."""
    file = folder / subject / f"{subject}.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file
