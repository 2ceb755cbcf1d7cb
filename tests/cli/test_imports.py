"""What short commands import: torch takes 1.7 s of processor time, scipy.signal 1, pandas a half; none for nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from made_datasets import write_e4

FITTING = ("torch", "sklearn", "matplotlib", "neurokit2", "captum")
MEASURING = ("scipy.signal", "scipy.stats", "scipy.ndimage")
READING = ("pandas", "mne", "wfdb", "pyarrow")
_SHOWN = """
import sys
from biopercept.cli.main import main
try:
    main({words!r})
except SystemExit as leaving:
    assert leaving.code == 0, leaving.code
print(*sorted({{*{heavy!r}}} & {{*sys.modules}}), file=sys.stderr)
"""
_READ = """
import sys
from pathlib import Path
from biopercept.loaders.loading import load_recording
for signal in load_recording(Path({path!r})).signals:
    signal.read()
print(*sorted({{*{heavy!r}}} & {{*sys.modules}}), file=sys.stderr)
"""


def write_worn(folder: Path, level: float) -> None:
    """Write a session whose skin conductance moves as that of a body does."""
    write_e4(folder, seconds=300)
    rows = "".join(f"{level + 0.3 * math.sin(n / 40):.4f}\n" for n in range(1200))
    (folder / "EDA.csv").write_text(f"1361382919.0\n4.000000\n{rows}")


@pytest.fixture(scope="module")
def e4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("e4") / "S01"
    write_worn(folder, 2.0)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for subject, level in (("S01", 2.0), ("S02", 3.0)):
        write_worn(folder / subject, level)
    (folder / "study.yaml").write_text("name: two\ntasks:\n  load: {classes: {low: [rest], high: [work]}}\n")
    (folder / "participants.tsv").write_text("participant_id\nS01\nS02\n")
    (folder / "recordings.tsv").write_text("participant_id\trecording\tpath\nS01\tr\tS01\nS02\tr\tS02\n")
    events = "".join(f"{one}\tr\t0\t100\trest\n{one}\tr\t150\t100\twork\n" for one in ("S01", "S02"))
    (folder / "events.tsv").write_text(f"participant_id\trecording\tonset\tduration\ttrial_type\n{events}")
    return folder


def imported(code: str) -> list[str]:
    """Return which of the heavy modules a fresh Python imported."""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stderr.splitlines()[-1].split() if outcome.stderr.strip() else []


@pytest.mark.parametrize("words", [["doctor"], ["datasets"], ["config", "list"], ["models"], ["train", "--help"]])
def test_commands_that_read_no_recording_import_nothing_heavy(words: list[str]) -> None:
    assert imported(_SHOWN.format(words=words, heavy=(*FITTING, *MEASURING, *READING, "h5py"))) == []


def test_inspect_of_an_e4_imports_no_filter_and_no_tables(e4: Path) -> None:
    heavy = (*FITTING, *MEASURING, *READING, "h5py")
    assert imported(_SHOWN.format(words=["inspect", str(e4)], heavy=heavy)) == []
    assert imported(_READ.format(path=str(e4), heavy=heavy)) == []  # what the process that reads imports


def test_check_imports_neither_torch_nor_filters(study: Path) -> None:
    assert imported(_SHOWN.format(words=["check", str(study)], heavy=(*FITTING, *MEASURING, *READING))) == []


@pytest.mark.parametrize(("command", "output"), [("prepare", "s.h5"), ("features", "features")])
def test_what_fits_nothing_imports_no_torch(study: Path, tmp_path: Path, command: str, output: str) -> None:
    words = [command, str(study), "-o", str(tmp_path / output)]
    assert imported(_SHOWN.format(words=words, heavy=FITTING)) == []


def test_the_guard_sees_what_is_imported() -> None:
    assert imported("import pandas\n" + _SHOWN.format(words=["datasets"], heavy=READING))[-1:] != []
