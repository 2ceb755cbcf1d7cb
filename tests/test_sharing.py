"""Work shared through a folder: whose a unit is, locks that outlive nobody, and what is said of what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from biopercept import sharing
from biopercept.errors import SettingsError, UnfinishedError
from biopercept.files import MACHINE
from biopercept.sharing import EXPIRES_SECONDS, FOLDER, Locks, Part, Sharing, Units, joining

ENDED = int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True).stdout)
TITLES = {f"{number:03d}": f"S{number:02d}" for number in range(1, 6)}


def foreign(folder: Path, name: str = "001", *, machine: str = "another", process: int = 1, age: float = 0.0) -> Path:
    """Write the lock of another process, last touched so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.0.lock"
    path.write_text(json.dumps({"host": "node7", "machine": machine, "process": process}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def units(output: Path, part: Part | None, done: set[str], **options: object) -> Units:
    return Units(Sharing(part, **options), output, TITLES, done.__contains__, "folds")  # type: ignore[arg-type]


def test_every_unit_belongs_to_one_part() -> None:
    owners = [[part for part in range(1, 5) if Part(part, 4).has(index)] for index in range(10)]
    assert owners == [[1], [2], [3], [4], [1], [2], [3], [4], [1], [2]]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    sentence = f"--part {text}: I/N is needed, from 1/N to N/N, such as 2/4; or slurm, in an array job"
    with pytest.raises(SettingsError, match=f"^{re.escape(sentence)}$"):
        Part.of(text)


@pytest.mark.parametrize(
    ("task", "count", "more", "part"),
    [
        ("0", "4", {"MIN": "0"}, Part(1, 4)),
        ("5", "4", {"MIN": "2"}, Part(4, 4)),
        ("8", "4", {"MIN": "2", "STEP": "2"}, Part(4, 4)),
        ("3", "4", {}, Part(4, 4)),
        ("7", "1", {"MIN": "7"}, None),
    ],
)
def test_the_part_of_an_array_job(task: str, count: str, more: dict[str, str], part: Part | None) -> None:
    values = {"ID": task, "COUNT": count, **more}
    assert Part.of_slurm({f"SLURM_ARRAY_TASK_{name}": value for name, value in values.items()}) == part


def test_an_array_that_does_not_tell_the_part_is_refused_and_no_array_is_none() -> None:
    irregular = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}
    with pytest.raises(SettingsError, match=r"^which part of the work this is does not follow from .*; give --part"):
        Part.of_slurm(irregular)
    assert Part.of_slurm({"SLURM_ARRAY_TASK_ID": "7"}) is None


@pytest.mark.parametrize(
    ("lock", "is_taken"),
    [
        ({}, False),
        ({"age": EXPIRES_SECONDS / 2}, False),
        ({"age": EXPIRES_SECONDS + 5}, True),
        ({"age": -2 * EXPIRES_SECONDS}, True),  # a clock was set back
        ({"machine": MACHINE, "process": ENDED}, True),
        ({"machine": MACHINE, "process": os.getppid()}, False),
        ({"machine": "another", "process": ENDED}, False),  # the number means nothing on another machine
    ],
)
def test_a_lock_counts_while_its_process_works(tmp_path: Path, lock: dict[str, object], is_taken: bool) -> None:
    foreign(tmp_path, **lock)  # type: ignore[arg-type]
    with Locks(tmp_path) as locks:
        assert locks.take("001") is is_taken
        holder = locks.holder("001")
        assert holder.startswith(
            f"process {os.getpid()} on" if is_taken else f"process {lock.get('process', 1)} on node7"
        )
        assert locks.take("002")
    assert [path.name for path in tmp_path.glob("*")] == ([] if is_taken else ["001.0.lock"])


def test_a_lock_that_is_just_being_written_counts_and_an_empty_one_of_old_does_not(tmp_path: Path) -> None:
    for name, age in (("001", 0.0), ("002", EXPIRES_SECONDS + 5)):
        foreign(tmp_path, name, age=age).write_text("")
        os.utime(tmp_path / f"{name}.0.lock", (time.time() - age,) * 2)
    with Locks(tmp_path) as locks:
        assert (locks.take("001"), locks.take("002")) == (False, True)


def test_what_is_held_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "BEAT_SECONDS", 0.01)
    with Locks(tmp_path) as locks:
        assert locks.take("001")
        path = tmp_path / "001.0.lock"
        os.utime(path, (1.0, 1.0))
        until = time.monotonic() + 10
        while path.stat().st_mtime == 1.0 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1.0


_RACE = """
import sys, time
from pathlib import Path
from biopercept.sharing import Locks
folder, start = Path(sys.argv[1]), float(sys.argv[2])
with Locks(folder) as locks:
    time.sleep(max(0, start - time.time()))
    print(*(name for name in map(str, range(200)) if locks.take(name)), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("is_stale", [False, True])
def test_of_several_processes_one_takes_each_lock_stale_ones_too(tmp_path: Path, is_stale: bool) -> None:
    for name in range(200 if is_stale else 0):
        foreign(tmp_path, str(name), age=EXPIRES_SECONDS + 5)
    command = [sys.executable, "-c", _RACE, str(tmp_path), str(time.time() + 1.5)]
    racing = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    taken = [process.stdout.readline().split() for process in racing if process.stdout is not None]
    for process in racing:
        process.communicate()
    assert Counter(name for names in taken for name in names) == Counter(map(str, range(200)))


def test_a_part_gets_its_units_and_says_whose_are_missing(tmp_path: Path) -> None:
    done: set[str] = set()
    with units(tmp_path, Part(1, 2), done) as first:
        given = [names for names in first.rounds() if done.update(names) is None]
        assert given == [("001", "003", "005")]
        words = (
            "part 1 of 2 is done; 2 of 5 folds are not done: S02, S04 (part 2 of 2; never begun: 2); the last part "
            "joins all, and so does --collect"
        )
        with pytest.raises(UnfinishedError, match=f"^{re.escape(words)}$") as fault:
            first.require_all()
    assert fault.value.exit_code == 0
    with units(tmp_path, None, done) as collecting:
        assert list(collecting.rounds()) == []
        words = (
            "2 of 5 folds are not done: S02, S04 (part 2 of 2; never begun: 2); run what is missing, then --collect "
            "once more; no result was written"
        )
        with pytest.raises(UnfinishedError, match=f"^{re.escape(words)}$") as fault:
            collecting.require_all()
    assert fault.value.exit_code == 1
    with units(tmp_path, Part(2, 2), done) as second:
        assert [names for names in second.rounds() if done.update(names) is None] == [("002", "004")]
        second.require_all()
    assert not list((tmp_path / FOLDER).glob("*.lock"))


def test_two_parts_of_the_same_unit_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, words = set[str](), list[str]()
    foreign(tmp_path / FOLDER, "003")

    def pause(seconds: float) -> None:
        done.add("003")  # the other process ends

    monkeypatch.setattr(sharing.time, "sleep", pause)
    with units(tmp_path, Part(1, 2), done, on_wait=words.append) as shared:
        given = [names for names in shared.rounds() if done.update(names) is None]
    assert given == [("001", "005")]
    assert words == ["waiting for folds that process 1 on node7 is doing: S03"]


def test_a_unit_that_another_process_gave_up_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, done = foreign(tmp_path / FOLDER, "003"), set[str]()
    monkeypatch.setattr(sharing.time, "sleep", lambda seconds: os.utime(lock, (1.0, 1.0)))
    with units(tmp_path, Part(1, 2), done) as shared:
        assert [names for names in shared.rounds() if done.update(names) is None] == [("001", "005"), ("003",)]


def test_locks_are_given_back_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), units(tmp_path, Part(1, 2), set()) as shared:
        for _ in shared.rounds():
            assert list((tmp_path / FOLDER).glob("*.lock"))
            raise ZeroDivisionError
    assert not list((tmp_path / FOLDER).glob("*.lock"))


def test_without_sharing_all_units_are_ours_and_nothing_is_written(tmp_path: Path) -> None:
    with Units(None, tmp_path, TITLES, {"002"}.__contains__, "folds") as alone:
        assert list(alone.rounds()) == [("001", "003", "004", "005")]
        alone.require_all()
    (tmp_path / FOLDER).mkdir()
    with joining(None, tmp_path):
        pass
    assert not list(tmp_path.glob("*"))


def test_one_process_joins_and_what_told_of_parts_goes(tmp_path: Path) -> None:
    with joining(Sharing(Part(2, 2)), tmp_path):
        (tmp_path / FOLDER / "part-2-of-2").touch()
        with (
            pytest.raises(UnfinishedError, match="and so are all others; process") as fault,
            joining(Sharing(Part(1, 2)), tmp_path),
        ):
            pass
        assert fault.value.exit_code == 0
    assert not list(tmp_path.iterdir())
