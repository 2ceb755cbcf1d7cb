"""Recordings read in a process apart: the same to the bit, and one that ends its process costs itself alone."""

from __future__ import annotations

import gc
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import child_work
import numpy as np
import pytest

from biopercept.errors import RecordingError, SettingsError
from biopercept.loaders import reading_process as apart
from biopercept.loaders.reading_process import (
    GIGABYTES,
    SECONDS,
    Reading,
    ReadingLimits,
    read_ahead,
    read_apart,
    reading_apart,
)
from biopercept.parallel import machine_memory
from biopercept.recording import Recording


@pytest.fixture(scope="module", autouse=True, params=["twin", "fresh"])
def process(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "_can_be_split", lambda: request.param == "twin")
        with reading_apart():
            yield


def test_a_process_is_split_in_two_only_where_nothing_runs_beside() -> None:
    split = (
        "import sys, biopercept.loaders.reading_process as apart; sys.modules.update({modules}); "
        "print(apart._can_be_split())"
    )
    for modules, is_split in (("{}", sys.platform == "linux"), ("dict(torch=sys)", False)):
        command = [sys.executable, "-c", split.format(modules=modules)]
        assert subprocess.run(command, capture_output=True, text=True).stdout == f"{is_split}\n"


def test_a_process_that_reads_ends_with_the_one_that_asks() -> None:
    code = (
        "import os, signal, biopercept.loaders.reading_process as apart\n"
        "with apart.reading_apart(is_started=True):\n"
        "    child = apart._process._child\n"
        "    print(getattr(child, '_pid', None) or child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    state = Path(f"/proc/{int(ended.stdout)}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("it goes on without anybody who asks")


def _read(load: Callable[[], Recording], title: str = "S1 r1") -> Recording:
    return read_apart(Reading(title, (), load))


def test_what_is_read_apart_is_the_same_to_the_bit() -> None:
    here, there = child_work.recording(), _read(child_work.recording)
    assert (there.intervals, there.notes, there.name) == (here.intervals, here.notes, here.name)
    for one, other in zip(here.signals, there.signals, strict=True):
        assert other.channels == one.channels
        assert other.read().tobytes() == one.read().tobytes()  # one is longer than what is sent in one piece
        assert np.array_equal(other.read(3, 8), one.read(3, 8), equal_nan=True)
        assert other.read(4, 4).shape == (one.n_channels, 0)
        assert np.array_equal(other.read(3, 8, slice(1, 2)), one.read(3, 8)[1:2], equal_nan=True)
        assert (other.times is None) == (one.times is None)
    assert np.array_equal(there.signals[1].times, here.signals[1].times)  # type: ignore[arg-type]


def test_it_is_read_in_one_other_process_and_without_one_here() -> None:
    pids = {read_apart(Reading("S1 r1", (), child_work.process))[1] for _ in range(3)}
    assert len(pids) == 1 and os.getpid() not in pids
    before, apart._process = apart._process, None
    try:
        assert read_apart(Reading("S1 r1", (), child_work.process))[1] == os.getpid()
    finally:
        apart._process = before


def test_recordings_that_are_kept_are_read_in_any_order_and_let_go_when_nobody_reads_them() -> None:
    first, second = _read(child_work.recording), _read(child_work.recording)
    assert first.signals[1].read().tobytes() == second.signals[1].read().tobytes()
    assert apart._process is not None
    del first, second
    gc.collect()
    assert len(apart._process._released) >= 2


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (child_work.unreadable, r"^r1\.edf: the header is cut$"),
        (child_work.buggy, r"^S1 r1: a fault of ours, ZeroDivisionError in child_work\.py line \d+; please report it$"),
        (child_work.dying, r"^S1 r1: reading it ended the process \(signal 11\); "),
        (child_work.hanging, r"^S1 r1: reading it took more than 0\.3 s of processor time; BIOPERCEPT_READ_SECONDS=N"),
        (child_work.sleeping, r"^S1 r1: reading it took more than 3\.0 s; BIOPERCEPT_READ_SECONDS=N allows more$"),
        (child_work.eating, r"^S1 r1: reading it needs more than 4\.0 GB of memory; BIOPERCEPT_READ_GB=N allows more$"),
    ],
)
@pytest.mark.parametrize("is_later", [False, True])
def test_a_recording_that_cannot_be_read_costs_itself_alone(
    load: Callable[[], Recording], sentence: str, is_later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read(child_work.recording)  # whatever the process imports is no part of the limits below
    monkeypatch.setenv(SECONDS, "0.3")
    monkeypatch.setenv(GIGABYTES, "4")
    with pytest.raises(RecordingError) as caught:
        if is_later:
            later = getattr(child_work, f"{load.__name__}_later", None)
            if later is None:
                pytest.skip("nothing new")
            _read(later).signals[0].read()
        else:
            _read(load)
    monkeypatch.undo()
    assert re.match(sentence, str(caught.value))
    assert _read(child_work.recording).signals[1].read()[0, 8] == 8.0


def test_samples_of_a_process_that_has_ended_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = _read(child_work.recording)
    with pytest.raises(RecordingError, match="signal 11"):
        _read(child_work.dying)
    _read(child_work.recording)
    with pytest.raises(RecordingError, match=r"^S1 r1: the process that it was read in has ended$"):
        earlier.signals[0].read(0, 5)


@pytest.mark.parametrize("ahead", [child_work.recording, child_work.unreadable, child_work.dying])
def test_what_was_read_ahead_is_read_once_and_takes_nothing_from_others(ahead: Callable[[], Recording]) -> None:
    earlier = _read(child_work.recording)
    read_ahead(Reading("next", (), ahead))
    if ahead is not child_work.dying:
        assert earlier.signals[1].read()[0, 8] == 8.0
        assert _read(child_work.recording, "other").signals[1].read()[0, 8] == 8.0
    read_ahead(Reading("next", (), ahead))
    if ahead is child_work.recording:
        assert _read(ahead, "next").signals[1].read()[0, 8] == 8.0
    else:
        with pytest.raises(RecordingError, match=r"^(r1\.edf: the header is cut|next: .*signal 11)"):
            _read(ahead, "next")
    assert _read(child_work.recording).signals[1].read()[0, 8] == 8.0


def test_what_was_read_ahead_is_not_read_again() -> None:
    read_ahead(Reading("S1 r1", (), child_work.counted))
    assert [read_apart(Reading("S1 r1", (), child_work.counted))[1] for _ in range(2)] == [1, 2]
    read_ahead(Reading("S1 r1", (), child_work.counted))
    _read(child_work.recording)
    assert read_apart(Reading("S1 r1", (), child_work.counted))[1] == 4


def test_limits_grow_with_the_files_and_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = tmp_path / "one.edf", tmp_path / "several"
    folder.mkdir()
    file.write_bytes(bytes(1_000_000))
    (folder / "a.csv").write_bytes(bytes(1_000_000))
    least = ReadingLimits.of([tmp_path / "nothing"])
    assert ReadingLimits.of([file]) == ReadingLimits.of([folder])
    assert ReadingLimits.of([file]).seconds == least.seconds + 2.0
    assert ReadingLimits.of([file, folder]).memory_bytes == least.memory_bytes + 40_000_000
    monkeypatch.setenv(GIGABYTES, "0.5")
    assert ReadingLimits.of([file]).memory_bytes == 500_000_000
    assert read_apart(Reading("S1 r1", (file,), child_work.memory))[1] == 500_000_000
    monkeypatch.setenv(GIGABYTES, "1e9")
    assert ReadingLimits.of([file]).memory_bytes == machine_memory()
    for wrong in ("0", "-1", "many", "nan", "inf"):
        monkeypatch.setenv(SECONDS, wrong)
        with pytest.raises(SettingsError, match=r"^the environment variable BIOPERCEPT_READ_SECONDS is '"):
            ReadingLimits.of([file])


_OPENING_ENDS = """
import os, signal, sys
def watch(event, arguments):
    if event != "open" or "crash.csv" not in str(arguments[0]):
        return
    frame = sys._getframe()
    while frame is not None and "/loaders/readers/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is not None:  # a reader opens it, and not who looks at its first bytes
        os.kill(os.getpid(), signal.SIGSEGV)
sys.addaudithook(watch)
"""


@pytest.mark.parametrize(
    "words",
    [["inspect"], ["features", "-j", "1", "-o", "out"], ["features", "-j", "2", "-o", "out"]],
    ids=["inspect", "features", "features of two processes"],
)
def test_a_command_does_all_others_where_opening_one_ends_the_process_that_opens_it(
    words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_OPENING_ENDS)
    rows = "".join(f"{i / 4},{2 + math.sin(i / 40):.4f}\n" for i in range(400))
    for name in ("first.csv", "crash.csv", "last.csv"):
        (tmp_path / name).write_text(f"time,EDA (uS)\n{rows}")
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "biopercept.cli", *words, "first.csv", "crash.csv", "last.csv"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "crash.csv: " in ended.stderr and "signal 11" in ended.stderr and "Traceback" not in ended.stderr
    if words[0] == "inspect":
        assert "first.csv" in ended.stdout and "last.csv" in ended.stdout
    else:
        features = (tmp_path / "out" / "features.csv").read_text()
        assert "\nfirst," in features and "\nlast," in features and "crash" not in features
        assert "crash.csv" in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["check", "study"], 2),
        (["check", "study", "--recordings"], 2),
        (["prepare", "study", "-o", "out.h5"], 1),
        (["init", "made", "first.csv", "crash.csv", "--pattern", "{participant}.csv"], 0),
        (["init", "made", "crash.csv", "--pattern", "{participant}.csv"], 0),
        (["live", "stress-wrist", "--replay", "crash.csv", "-o", "out"], 1),
        (["view", "crash.csv", "--html", "out.html"], 1),
        (["explain", "stress-wrist", "crash.csv", "-o", "out"], 1),
        (["correct", "crash.csv", "--bad", "0:5"], 1),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_no_command_ends_where_a_reader_ends_its_process(words: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_OPENING_ENDS)
    study = tmp_path / "study"
    study.mkdir()
    for place, name in enumerate(("first.csv", "crash.csv")):
        rows = "".join(f"{i / 4},{2 + math.sin(i / 40 + place):.4f}\n" for i in range(800))
        (tmp_path / name).write_text(f"time,EDA (uS)\n{rows}")
        (study / name).write_text(f"time,EDA (uS)\n{rows}")
    (study / "study.yaml").write_text("name: x\ntasks: {t: {classes: {a: [a], b: [b]}}}\n")
    (study / "participants.tsv").write_text("participant_id\nS1\nS2\n")
    (study / "recordings.tsv").write_text("participant_id\trecording\tpath\nS1\tr\tfirst.csv\nS2\tr\tcrash.csv\n")
    lines = "".join(f"{who}\tr\t{at}\t60\t{label}\n" for who in ("S1", "S2") for at, label in ((0, "a"), (60, "b")))
    (study / "events.tsv").write_text(f"participant_id\trecording\tonset\tduration\ttrial_type\n{lines}")
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "biopercept.cli", *words]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said_so = " ".join((ended.stdout + ended.stderr).split())
    assert ended.returncode == code, said_so
    assert "crash.csv" in said_so or "S2" in said_so
    assert ("signal 11" in said_so or words[:2] == ["init", "made"]) and "Traceback" not in said_so


def test_what_a_library_prints_and_what_the_folder_holds_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the folder that the user is in was imported from')")
    (tmp_path / "one.csv").write_text("time,EDA (uS)\n" + "".join(f"{i / 4},{2 + i % 7}\n" for i in range(400)))
    command = [str(Path(sys.executable).with_name("biopercept")), "inspect", "one.csv", "--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("{")
