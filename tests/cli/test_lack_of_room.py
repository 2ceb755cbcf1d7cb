"""Disks that are full or may not be written to, and no room for temporary files: a sentence, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import edfio
import numpy as np
import pytest
from typer.testing import CliRunner

from biopercept.cli.main import build_app

sys.path.append(str(Path(__file__).parents[1]))
from forked_commands import ForkedCommands

PACKAGE = Path(__file__).parents[2]
TINY = [word for text in ("batch_size=8", "n_epochs=1") for word in ("--set", f"training.{text}")] + [
    word for text in ("width=8", "n_latents=2", "n_heads=1", "n_layers=1") for word in ("--set", f"model.{text}")
]
WINDOWS = ["--set", "windows.length_seconds=20", "--set", "windows.step_seconds=10"]
FOLDS = ["--split", "k-fold", "--folds", "3"]


def can_mount(folder: Path) -> bool:
    script = 'mount -t tmpfs none "$1" && mount --bind -o ro "$1" "$1"'
    line = ["unshare", "--mount", "bash", "-ec", script, "bash", str(folder)]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of six people, its store, a model, two cross-validations and an EDF file."""
    folder = tmp_path_factory.mktemp("work")
    if not can_mount(folder):
        pytest.skip("file systems cannot be mounted here")
    for name in ("study", "home", "full", "frozen", "little", "roomy", "fonts"):
        (folder / name).mkdir()
    people = [f"S{number}" for number in range(6)]
    for place, who in enumerate(people):
        times = np.arange(800) / 4
        eda = 3 + place / 5 + (times > 95) / 2 + np.random.default_rng(place).normal(size=800).cumsum() / 100
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(times, eda, strict=True))
        (folder / "study" / f"{who}.csv").write_text(f"time,EDA (uS)\n{rows}")
    labels = [f"{who}\tr\t{at}\t90\t{label}" for who in people for at, label in ((0, "a"), (95, "b"))]
    for name, lines in {
        "participants": ["participant_id", *people],
        "recordings": ["participant_id\trecording\tpath", *(f"{who}\tr\t{who}.csv" for who in people)],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type", *labels],
    }.items():
        (folder / "study" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "study" / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    edfio.Edf([edfio.EdfSignal(np.sin(np.arange(99840)), 256, label="ECG")]).write(folder / "heart.edf")
    store = folder / "made.h5"
    for words in (
        ["prepare", folder / "study", "-o", store, *WINDOWS],
        ["train", store, "-o", folder / "model", *TINY, "--device", "cpu"],
        ["cross-validate", store, "-o", folder / "scores", "--model", "logistic", *FOLDS],
    ):
        ended = CliRunner().invoke(build_app(), [*map(str, words), "-q"])
        assert ended.exit_code == 0, (ended.output, ended.exception)
    return folder


@pytest.fixture(scope="module")
def machine(work: Path) -> Iterator[ForkedCommands]:
    """A machine where only "roomy" has room; the source, the home and the package may not be written to."""
    frozen = "".join(
        f"mount --bind {path} {path}; mount -o remount,bind,ro {path}; ! touch {path}/x 2>/dev/null\n"
        for path in map(str, (work / "study", work / "model", work / "home", PACKAGE))
    )
    mounts = f"""
        mount -t tmpfs -o size=64k none {work}/full
        mount -t tmpfs -o ro none {work}/frozen
        mount -t tmpfs -o size=4k none {work}/little; dd if=/dev/zero of={work}/little/x bs=4k count=1 status=none
        mount -t tmpfs -o size=64k none /dev/shm
        export HOME={work}/home TMPDIR={work}/little MPLCONFIGDIR={work}/fonts; unset PYTHONDONTWRITEBYTECODE
        {frozen}"""
    commands = ForkedCommands(work, None, mounts)
    yield commands
    commands.close()


def into(work: Path, place: Path) -> dict[str, list[object]]:
    """Return commands that write into a place, by what they are called here."""
    cpu = ["--device", "cpu"]
    study, store, model, file = work / "study", work / "made.h5", work / "model", work / "study" / "S0.csv"
    return {
        "prepare": ["prepare", study, "-o", place / "x.h5", *WINDOWS],
        "train": ["train", store, "-o", place / "x", *TINY, *cpu],
        "cross-validate": ["cross-validate", store, "-o", place / "x", "--model", "logistic", *FOLDS],
        "predict": ["predict", model, study, "-o", place / "x", *cpu],
        "evaluate": ["evaluate", model, study, "-o", place / "x", "--allow-seen", *cpu],
        "report": ["report", work / "scores", "-o", place / "x.html"],
        "deidentify": ["deidentify", work / "heart.edf", "-o", place / "x"],
        "init": ["init", place / "x", file, study / "S1.csv"],
        "demo": ["demo", "-o", place / "x"],
    }


def left(place: Path) -> list[str]:
    return [str(path.relative_to(place)) for path in place.rglob("*")]


@pytest.mark.parametrize("name", sorted(into(Path(), Path())))
def test_a_place_without_room_is_a_write_that_failed(name: str, work: Path, machine: ForkedCommands) -> None:
    for place, why in (("full", "No space left on device"), ("frozen", "Read-only file system")):
        words, seen = into(work, work / place)[name], machine.seen(work / place)
        ended = machine.run([*map(str, words)])
        last = [line for line in ended.words.splitlines() if line.startswith("biopercept: ")]
        if (name, place) == ("init", "full"):  # three short tables have room
            assert ended.code == 0
        else:
            assert ended.code == 74 and any(why in line for line in last), (place, ended)
            assert len(last) <= 2 and "[Errno" not in ended.words, ended.words
            is_kept = re.search(r"kept are (\d+) of", ended.words)
            n_parts = len([*seen.glob("x*.parts/*"), *seen.glob("x/**/folds/*"), *seen.glob("x/.prepared/*.parts/*")])
            assert is_kept is None or 0 < int(is_kept[1]) <= n_parts, (ended.words, left(seen))
        assert [one for one in left(seen) if one.endswith((".tmp", ".old", ".copying"))] == []
        for path in [] if place == "frozen" else seen.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["prepare", "cross-validate", "predict"])
def test_only_the_output_needs_room(name: str, work: Path, machine: ForkedCommands) -> None:
    place = work / "roomy" / name
    place.mkdir()
    at_once = [] if name == "predict" else ["-j", "2"]
    ended = machine.run([*map(str, into(work, place)[name]), *at_once, "-q"])
    assert ended.code == 0, ended
    if name == "prepare":
        assert (place / "x.h5").read_bytes() == (work / "made.h5").read_bytes()


def test_a_home_where_a_library_keeps_nothing_is_no_news(work: Path) -> None:
    words = [sys.executable, "-m", "biopercept.cli", "quality", work / "study" / "S0.csv", "-o", work / "q", "-q"]
    surroundings = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "MPLCONFIGDIR")}
    ended = subprocess.run(
        words, env=surroundings | {"HOME": "/proc/none"}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_page_that_cannot_be_replaced_is_what_it_was(work: Path, machine: ForkedCommands) -> None:
    page = machine.seen(work / "full") / "x.html"
    page.write_text("old")
    ended = machine.run([*map(str, into(work, work / "full")["report"]), "--overwrite"])
    assert (ended.code, page.read_text()) == (74, "old"), ended
    page.unlink()
