"""How much memory commands take on recordings of a day and of many channels: all their processes together, at most.

Made recordings: one minute is drawn and repeated, so that a day is made in seconds. What a process shares with others
counts once (proportional set size), and is looked at every tenth of a second.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from biopercept.errors import BioperceptError
from biopercept.studies.datasets.writing import StudyTables
from measurements.command_speed import Place
from measurements.speed_table import Row

_EEG = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")
_DAY_MINUTES = 24 * 60
_E4_START = 1361382919.0
_LOOK_SECONDS = 0.1


def memory_rows(place: Place) -> Iterator[Row]:
    """Give a row for each command on a day of EEG, a day of a wristband, and ten minutes of 256 channels."""
    day, wide, worn = place.folder / "day.edf", place.folder / "wide.edf", place.folder / "worn"
    if not day.exists():
        write_edf(day, _EEG, 256, _DAY_MINUTES)
    if not wide.exists():
        write_edf(wide, [f"E{n + 1}" for n in range(256)], 1000, 10)
    if not worn.exists():
        write_e4(worn, _DAY_MINUTES)
    for name, path, words, bar in (
        ("inspect, a day of E4", worn, ("inspect",), None),
        ("prepare, a day of E4", worn, ("prepare",), 700),
        ("predict, a day of E4", worn, ("predict", "stress-wrist"), 700),
        ("inspect, a day of EDF (8 channels, 256 Hz)", day, ("inspect",), None),
        ("prepare, a day of EDF (8 channels, 256 Hz)", day, ("prepare",), 1000),
        ("predict, a day of EDF (8 channels, 256 Hz)", day, ("predict", "workload-eeg"), 1000),
        ("prepare, 10 min of EDF (256 channels, 1 kHz)", wide, ("prepare",), 1500),
    ):
        yield _row(name, _words(words, path, place.folder / "out"), bar)


def _words(command: Sequence[str], path: Path, output: Path) -> list[str]:
    if command[0] == "inspect":
        return ["inspect", str(path)]
    if command[0] == "predict":
        return [*command, str(path), "-o", str(output), "--overwrite", "--device", "cpu"]
    return ["prepare", str(study_of(path)), "-o", f"{output}.h5", "--overwrite", "-j", "1"]


def study_of(path: Path) -> Path:
    """Return a study of one person and this recording, two minutes of each class in every ten."""
    study, tables = path.with_name(f"study-{path.stem}"), StudyTables()
    ids = {"participant_id": "P1", "recording": "all"}
    tables.participants.append({"participant_id": "P1"})
    tables.recordings.append({**ids, "path": path.resolve()})
    minutes = 10 if path.stem == "wide" else _DAY_MINUTES
    for first in range(0, minutes, 10):
        for label, onset in (("rest", first), ("work", first + 5)):
            tables.events.append({**ids, "onset": 60 * onset, "duration": 120, "trial_type": label})
    tables.write(study, {"name": path.stem, "tasks": {"load": {"classes": {"rest": ["rest"], "work": ["work"]}}}})
    return study


def _row(name: str, words: Sequence[str], bar: int | None) -> Row:
    peak, of_files = peak_memory([sys.executable, "-m", "biopercept.cli", *words])
    wanted = "" if bar is None else f"at most {bar:,} MB"
    return Row(
        f"memory of {name}",
        1000 / peak,
        f"{peak:.0f} MB, of which {of_files:.0f} of files",
        wanted,
        bar is None or peak <= bar,
    )


def peak_memory(command: Sequence[str]) -> tuple[float, float]:
    """Return the largest memory (MB) of a command and all its descendants together, and how much of it was of files.

    Raises BioperceptError where the command fails.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        ended, peak = threading.Event(), [(0.0, 0.0)]
        looking = threading.Thread(target=_look, args=(process.pid, ended, peak))
        looking.start()
        printed, _ = process.communicate()
        ended.set()
        looking.join()
    if process.returncode:
        raise BioperceptError(f"{' '.join(command)} ended with {process.returncode}: {printed.strip()[-300:]}")
    return peak[0]


def _look(pid: int, ended: threading.Event, peak: list[tuple[float, float]]) -> None:
    while not ended.wait(_LOOK_SECONDS):
        sizes = [_megabytes(one) for one in _with_descendants(pid)]
        peak[0] = max(peak[0], (sum(all_of_it for all_of_it, _ in sizes), sum(of_files for _, of_files in sizes)))


def _with_descendants(pid: int) -> list[int]:
    pids = [pid]
    for one in pids:  # grows while it is walked
        with suppress(OSError):  # it may have gone
            for thread in Path(f"/proc/{one}/task").iterdir():
                pids += [int(child) for child in _read(thread / "children").split()]
    return pids


def _megabytes(pid: int) -> tuple[float, float]:
    """Return the memory of a process, and how much of it is that of files, which the system takes back at need."""
    lines = [line.split() for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()]
    sizes = {line[0]: int(line[1]) / 1024 for line in lines if line[0].startswith("Pss")}
    return sizes.get("Pss:", 0.0), sizes.get("Pss_File:", 0.0)


def _read(path: Path) -> str:
    """Return a file of a process, nothing where the process has gone."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def write_edf(path: Path, channels: Sequence[str], rate: int, minutes: int) -> None:
    """Write EEG of this many minutes: noise and an alpha rhythm of one minute, repeated."""
    import edfio

    random, seconds = np.random.default_rng(0), np.arange(60 * rate) / rate
    signals = []
    for name in channels:
        samples = 10 * np.sin(2 * np.pi * 10 * seconds) + random.normal(0, 10, len(seconds))
        signals.append(
            edfio.EdfSignal(samples, rate, label=f"EEG {name}", physical_dimension="uV", physical_range=(-200, 200))
        )
    minute = path.with_suffix(".minute")
    edfio.Edf(signals, data_record_duration=1).write(minute)
    whole = minute.read_bytes()
    n_header = 256 * (len(channels) + 1)
    header = whole[:236] + f"{60 * minutes:<8}".encode("ascii") + whole[244:n_header]
    with path.open("wb") as file:
        file.write(header)
        for _ in range(minutes):
            file.write(whole[n_header:])
    minute.unlink()


def write_e4(folder: Path, minutes: int) -> None:
    """Write the files of an Empatica E4 of this many minutes; one minute of each, repeated, and beats all the time."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    seconds = np.arange(60 * 64) / 64
    columns: dict[str, tuple[int, Callable[[int], str]]] = {
        "EDA": (4, lambda n: f"{2 + 0.3 * np.sin(2 * np.pi * n / 240) + random.normal(0, 0.002):.6f}"),
        "TEMP": (4, lambda n: f"{33 + 0.1 * np.sin(2 * np.pi * n / 240):.2f}"),
        "BVP": (64, lambda n: f"{60 * np.sin(2 * np.pi * 1.2 * seconds[n]) ** 3 + random.normal(0, 1):.2f}"),
        "HR": (1, lambda n: f"{72 + n % 3}.00"),
    }
    for name, (rate, value) in columns.items():
        minute = "".join(f"{value(n)}\n" for n in range(60 * rate))
        (folder / f"{name}.csv").write_text(f"{_E4_START}\n{rate:.6f}\n" + minute * minutes)
    axes = "".join(f"{64 + n % 3},{n % 2},-32\n" for n in range(60 * 32))
    start, rate_line = ", ".join([f"{_E4_START}"] * 3), ", ".join(["32.000000"] * 3)
    (folder / "ACC.csv").write_text(f"{start}\n{rate_line}\n" + axes * minutes)
    beats = "".join(f"{5 + 0.833 * n:.6f},0.833\n" for n in range(int((60 * minutes - 10) / 0.833)))
    (folder / "IBI.csv").write_text(f"{_E4_START}, IBI\n{beats}")
