"""Whole files and folders or nothing: what was there stays until the new one is complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from biopercept import files
from biopercept.errors import BusyError, OutputError
from biopercept.files import (
    only_writer,
    refuse_inputs,
    refuse_other_than_page,
    replacing,
    replacing_folder,
    write_table,
    write_text,
)
from biopercept.progress import noticing


def test_a_new_folder_takes_the_place_of_the_old_and_keeps_what_it_does_not_write(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    (target / "notes.txt").write_text("mine")
    with replacing_folder(target) as fresh:
        (fresh / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert (target / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path, fault: type[BaseException]) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")
    with pytest.raises((KeyboardInterrupt, OutputError)), replacing_folder(target) as fresh:
        (fresh / "weights").write_text("half")
        raise fault
    assert (target / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"cannot write scores\.json"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with (
        only_writer(tmp_path / "out"),
        pytest.raises(BusyError, match="another process is writing out"),
        only_writer(tmp_path / "out"),
    ):
        pass


def test_no_cell_of_a_table_is_a_formula(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ("=id", "x"), [("+1", -1.5), ("@a", None), ("ok", float("nan"))])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["'=id,x", "'+1,-1.5", "'@a,", "ok,"]


WRITES = """
import os, sys
from pathlib import Path
from biopercept import files

target, at = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3:]:
    files._exchanged = lambda fresh, target: False
n_steps = 0

def counted(step):
    def run(*words, **options):
        global n_steps
        n_steps += 1
        if n_steps == at:
            os.kill(os.getpid(), 9)
        return step(*words, **options)
    return run

for name in ("_carry_over", "_sync", "_exchanged"):
    setattr(files, name, counted(getattr(files, name)))
Path.replace = counted(Path.replace)
files.shutil.rmtree = counted(files.shutil.rmtree)
with files.replacing_folder(target) as fresh:
    (fresh / "weights").write_text("new")
print(n_steps)
"""


@pytest.mark.parametrize("how", [(), ("no exchange",)], ids=["exchange", "two steps"])
def test_killed_at_any_step_one_of_the_two_folders_is_there_and_nothing_is_left_over(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    for at in range(1, 30):
        target = tmp_path / f"{at}" / "model"
        target.mkdir(parents=True)
        (target / "weights").write_text("old")
        words = [sys.executable, "-c", WRITES, str(target), str(at), *how]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            break
        assert run.returncode == -9, run.stderr
        if not how:
            assert (target / "weights").read_text() in ("old", "new")
        files._SWEPT.clear()
        write_text(target.parent / "other", "")  # the next that writes there puts it in order
        assert (target / "weights").read_text() in ("old", "new")
        assert sorted(path.name for path in target.parent.iterdir()) == ["model", "other"]
    assert at > 5 and (target / "weights").read_text() == "new"


def test_what_a_running_process_or_another_machine_writes_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = f".a.{files.MACHINE}-{os.getpid()}.tmp", ".a.000000-1.tmp"
    for name in (ours, theirs, ".notes.tmp"):
        (tmp_path / name).write_text("at work")
    write_text(tmp_path / "b", "")
    assert {path.name for path in tmp_path.iterdir()} == {ours, theirs, ".notes.tmp", "b"}


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "E4").mkdir()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.yaml").write_text("name: s\n")
    for output, inputs in (("a.edf", "a.edf"), ("E4", "E4"), ("E4/out", "E4"), ("study", "study")):
        with pytest.raises(OutputError, match=r"which is read|is what is read") as caught:
            refuse_inputs(tmp_path / output, [tmp_path / "other.edf", tmp_path / inputs])
        assert caught.value.exit_code == 2
    refuse_inputs(tmp_path / "study" / "results", [tmp_path / "study"])
    (tmp_path / "E4" / "dataset_description.json").write_text("{}")  # then it is a BIDS data set
    refuse_inputs(tmp_path / "E4" / "derivatives" / "out", [tmp_path / "E4"])
    with pytest.raises(OutputError, match="which is read"):
        refuse_inputs(tmp_path / "study" / "results", [tmp_path / "study"], is_in_study_allowed=False)


def test_a_page_replaces_pages_alone(tmp_path: Path) -> None:
    of_what: Any = {"what": "report", "source": tmp_path}
    (tmp_path / "a.edf").write_text("samples")
    (tmp_path / "a.html").write_text("old")
    with pytest.raises(OutputError, match=r"a\.edf is there and is no page \(\.html\)"):
        refuse_other_than_page(tmp_path / "a.edf", overwrite=True, **of_what)
    with pytest.raises(OutputError, match="exists and is not empty"):
        refuse_other_than_page(tmp_path / "a.html", overwrite=False, **of_what)
    refuse_other_than_page(tmp_path / "a.html", overwrite=True, **of_what)
    refuse_other_than_page(tmp_path / "new", overwrite=False, **of_what)


def test_the_lock_goes_with_the_last_line_and_never_from_under_another(tmp_path: Path) -> None:
    target, lock = tmp_path / "out", tmp_path / ".out.lock"
    with only_writer(target):
        assert lock.is_file()
        with pytest.raises(BusyError, match="another process is writing out"), only_writer(target):
            pass
        assert lock.is_file()  # whoever was refused has not removed it
    assert not lock.exists()
    with only_writer(target):
        lock.unlink()
        with only_writer(target):  # by hand removed, so another took it
            pass
        lock.touch()
    assert lock.is_file()


def test_a_lock_that_a_killed_process_left_is_taken_over_with_a_word(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from biopercept.files import only_writer\n"
        "with only_writer(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    told: list[str] = []
    for _ in range(2):  # once
        with noticing(told.append), only_writer(tmp_path / "out"):
            pass
    assert told == ["a process that was killed left the lock of out behind; it is taken over"]
    assert list(tmp_path.iterdir()) == []


_WRITE_ALONE = """
import sys, time
from pathlib import Path
from biopercept.errors import BusyError
from biopercept.files import only_writer
target = Path(sys.argv[1])
inside = target.with_name("inside")
for _ in range(300):
    try:
        with only_writer(target):
            inside.touch(exist_ok=False)  # a second within would fail here
            inside.unlink()
    except BusyError:
        pass
"""


def test_processes_that_make_and_remove_one_lock_are_never_inside_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITE_ALONE, str(tmp_path / "out")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    faults = [process.communicate()[1] for process in processes]
    assert faults == ["", "", ""]
    assert [*tmp_path.iterdir()] == []
