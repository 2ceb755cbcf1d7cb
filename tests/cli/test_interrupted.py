"""Commands that are stopped, and given again, from outside: what is said is true, and nothing is lost or mixed."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from biopercept.files import content_hash, only_writer

sys.path.append(str(Path(__file__).parents[1]))
from forked_commands import STATE_SECONDS, Ended, ForkedCommands

N_EPOCHS = 40
SMALL = (
    f"training.n_epochs={N_EPOCHS}", "training.patience=40", "training.batch_size=8", "model.width=8",
    "model.n_latents=2", "model.n_heads=1", "model.n_layers=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedCommands]:
    started = ForkedCommands(tmp_path_factory.mktemp("words"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def store(commands: ForkedCommands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    events, files = ["participant_id\trecording\tonset\tduration\ttrial_type"], ["participant_id\trecording\tpath"]
    for place in range(3):
        times = np.arange(4 * 120) / 4
        eda = 3 + place + (times > 60) + 0.05 * np.random.default_rng(place).normal(size=len(times)).cumsum() / 9
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(times, eda, strict=True))
        (folder / f"S{place}.csv").write_text("time,EDA (uS)\n" + rows)
        files.append(f"S{place}\tlab\tS{place}.csv")
        events += [f"S{place}\tlab\t{60 * k}\t60\t{stage}" for k, stage in enumerate(("baseline", "stroop"))]
    (folder / "participants.tsv").write_text("participant_id\nS0\nS1\nS2\n")
    (folder / "recordings.tsv").write_text("\n".join(files) + "\n")
    (folder / "events.tsv").write_text("\n".join(events) + "\n")
    (folder / "study.yaml").write_text(
        "name: made\ntasks:\n  stress: {classes: {rest: [baseline], stress: [stroop]}}\n"
    )
    assert commands.run(prepare(folder / "made.h5")) == Ended(0, "")
    return folder / "made.h5"


def prepare(store: Path) -> list[str]:
    windows = [word for text in ("length_seconds=20", "step_seconds=10") for word in ("--set", f"windows.{text}")]
    return ["prepare", str(store.parent), "-o", str(store), *windows, "-q"]


def train(store: Path, output: Path, *more: str) -> list[str]:
    settings = [word for text in SMALL for word in ("--set", text)]
    return ["train", str(store), "-o", str(output), *settings, "--device", "cpu", "-q", *more]


@pytest.fixture(scope="module")
def weights(commands: ForkedCommands, store: Path) -> dict[str, str]:
    """The hash of the weights of a training that nobody stopped, by its seed."""
    hashes = {}
    for seed in ("0", "1"):
        assert commands.run(train(store, store.parent / f"model{seed}", "--seed", seed)).code == 0
        hashes[seed] = content_hash(store.parent / f"model{seed}" / "weights.safetensors")
    assert hashes["0"] != hashes["1"]
    return hashes


def stopped(commands: ForkedCommands, words: list[str], number: int) -> Ended:
    """Stop a command with a signal in the midst of its epochs: later, where it was stopped before the first."""
    output = Path(words[words.index("-o") + 1])
    kept = output.with_name(f".{output.name}.fit")
    for seconds in (0.05, 0.1, 0.2, 0.35, 0.6, 0.9, 1.4, 2.5, 5.0, 10.0, 25.0):
        ended = commands.run(words, kill_after=seconds, kill_with=number, kill_when=kept)
        assert ended.code != 0, "it ended before it could be stopped"
        if kept.is_dir():
            return ended
    pytest.fail("it kept nothing")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
)
def test_a_training_that_is_stopped_ends_as_one_that_was_not(
    commands: ForkedCommands, store: Path, weights: dict[str, str], tmp_path: Path, number: int, code: int
) -> None:
    words = train(store, tmp_path / "model", "--seed", "0")
    ended = stopped(commands, words, number)
    assert ended.code == code
    kept = re.search(rf"stopped; kept are (\d+) of {N_EPOCHS} epochs: the same command goes on there", ended.words)
    assert kept is not None, ended.words
    assert 0 < int(kept[1]) < N_EPOCHS
    assert commands.run(words) == Ended(0, "")
    assert content_hash(tmp_path / "model" / "weights.safetensors") == weights["0"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # no state, no lock


@pytest.mark.parametrize("change", ["seed", "state"])
def test_another_fit_and_a_damaged_state_are_said_and_nothing_of_them_is_used(
    commands: ForkedCommands, store: Path, weights: dict[str, str], tmp_path: Path, change: str
) -> None:
    stopped(commands, train(store, tmp_path / "model", "--seed", "0"), signal.SIGTERM)
    seed, sentence = "0", "of a fit in .* is damaged; the fit begins again"
    if change == "seed":
        seed, sentence = "1", r"what is kept of an unfinished run in .*\.model\.fit is not of this one .*begins anew"
    else:
        for state in (tmp_path / ".model.fit").iterdir():
            content = bytearray(state.read_bytes())
            content[len(content) // 2] ^= 1
            state.write_bytes(content)
    ended = commands.run(train(store, tmp_path / "model", "--seed", seed))
    assert ended.code == 0
    assert re.fullmatch(f"biopercept: .*{sentence}\n", ended.words), ended.words
    assert content_hash(tmp_path / "model" / "weights.safetensors") == weights[seed]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_training_that_is_killed_before_anything_is_kept_begins_anew_and_says_so(
    commands: ForkedCommands, store: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    words, kept = train(store, tmp_path / "model", "--seed", "0"), tmp_path / ".model.fit"
    for seconds in (0.5, 0.8, 1.2, 2.0, 4.0, 8.0):
        ended = commands.run(words, kill_after=seconds)
        assert ended.code == -signal.SIGKILL, "it ended before it could be killed"
        if kept.is_dir() and not [*kept.iterdir()]:
            break
    again = commands.run(words)
    assert again.code == 0
    assert "a process that was killed left the lock of model behind; it is taken over" in again.words
    assert "what wrote model before was killed before anything was kept; the fit begins anew" in again.words
    assert content_hash(tmp_path / "model" / "weights.safetensors") == weights["0"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_training_that_is_killed_in_epochs_validations_and_saves_ends_as_one_that_was_not(
    commands: ForkedCommands, store: Path, tmp_path: Path
) -> None:
    more = ("--seed", "0", "--set", "training.validation_fraction=0.34")
    straight, words = train(store, tmp_path / "straight", *more), train(store, tmp_path / "killed", *more)
    started = time.monotonic()
    assert commands.run(straight, {STATE_SECONDS: "0"}).code == 0
    seconds, n_kept = time.monotonic() - started, 0
    for fraction in np.random.default_rng(0).uniform(0.3, 0.6, 6):
        commands.run(words, {STATE_SECONDS: "0"}, kill_after=seconds * fraction)
        if (tmp_path / "killed").exists():  # written before it was killed
            break
        n_kept += any((tmp_path / ".killed.fit").glob("*"))
    else:
        assert commands.run(words, {STATE_SECONDS: "0"}).code == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "straight"]
    assert n_kept
    one, other = (content_hash(tmp_path / name / "weights.safetensors") for name in ("straight", "killed"))
    assert one == other


def test_a_store_that_is_being_written_can_be_read(commands: ForkedCommands, store: Path, tmp_path: Path) -> None:
    with only_writer(store):
        assert commands.run(train(store, tmp_path / "model")) == Ended(0, "")


def test_what_another_process_writes_is_left_to_it(commands: ForkedCommands, store: Path, tmp_path: Path) -> None:
    for words, output in ((train(store, tmp_path / "model"), tmp_path / "model"), (prepare(store), store)):
        with only_writer(output):
            ended = commands.run(words)
        assert ended.code == 75
        assert f"another process is writing {output.name}; wait for it or choose another output" in ended.words
    assert not (tmp_path / "model").exists()


_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long long *by;
__attribute__((constructor)) static void begin(void) {
    by = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("CLOCK_SHIFT"), O_RDONLY), 0);
}
int clock_gettime(clockid_t which, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(which, now);
    if (by && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += *by;
    return code;
}
time_t time(time_t *there) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (there) *there = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *there, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    there->tv_sec = now.tv_sec, there->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ForkedCommands, Path]]:
    """Commands whose clock goes wrong by the seconds that a file says at any moment, and that file."""
    if shutil.which("cc") is None:
        pytest.skip("there is no compiler")
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "clock.c").write_text(_CLOCK)
    library, shift = folder / "clock.so", folder / "shift"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True)
    shift.write_bytes(bytes(8))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_SHIFT", str(shift))
    started = ForkedCommands(folder)
    monkeypatch.delenv("LD_PRELOAD")
    yield started, shift
    started.close()


def test_a_clock_that_is_set_back_between_and_within_runs_changes_nothing(
    clock: tuple[ForkedCommands, Path], store: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    commands, shift = clock

    def set_to(hours: int) -> None:
        shift.write_bytes(struct.pack("q", 3600 * hours))

    place = tmp_path / "place"
    words = train(store, place / "model", "--seed", "0")
    stopped(commands, words, signal.SIGTERM)
    set_to(-48)
    assert commands.run(words) == Ended(0, "")
    assert content_hash(place / "model" / "weights.safetensors") == weights["0"]
    assert [path.name for path in place.iterdir()] == ["model"]  # no state, no lock
    words = prepare(store)
    words[words.index("-o") + 1] = str(place / "made.h5")
    timers = [threading.Timer(k / 5, set_to, (-48 - k,)) for k in (1, 2, 3)]
    for timer in timers:
        timer.start()
    assert commands.run(words) == Ended(0, "")
    for timer in timers:
        timer.join()
    assert (place / "made.h5").read_bytes() == store.read_bytes()


def test_what_was_prepared_is_known_by_its_content_and_not_by_its_times(commands: ForkedCommands, store: Path) -> None:
    def statuses() -> list[str]:
        assert commands.run(prepare(store)).code == 0
        with store.with_suffix(".log.csv").open(encoding="utf-8") as stream:
            return [row["status"] for row in csv.DictReader(stream)]

    for seconds in (-3600, 3600):  # a clock that was set back, and one that was put on
        for path in store.parent.glob("S*.csv"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + seconds))
        assert statuses() == ["reused"] * 3
    changed = store.parent / "S1.csv"
    times, content = (changed.stat().st_atime_ns, changed.stat().st_mtime_ns), changed.read_text(encoding="utf-8")
    changed.write_text(content[:-3] + ("1" if content[-3] != "1" else "2") + content[-2:], encoding="utf-8")
    os.utime(changed, ns=times)  # as long and as old as before
    assert statuses() == ["reused", "prepared", "reused"]
