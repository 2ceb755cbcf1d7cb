"""Prepare where a run was stopped, damaged or shared: what is finished is used, and the bytes are those of one run."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from tiny_study import run, statuses, write_recording

from biopercept.errors import BusyError, OutputError, UnfinishedError
from biopercept.files import only_writer
from biopercept.prepare import study as study_module
from biopercept.prepare.reuse import LogRow, log_path, source_hash
from biopercept.prepare.study import (
    PrepareJob,
    PrepareSummary,
    prepare_one,
)
from biopercept.progress import noticing
from biopercept.sharing import Part, Sharing
from biopercept.store.reading import open_store
from biopercept.studies.structure import Entry


def test_a_damaged_recording_in_the_store_is_prepared_again(study: Path, tmp_path: Path, uninterrupted: bytes) -> None:
    output = tmp_path / "made.h5"
    run(study, output)
    with open_store(output) as store:
        place = store.hdf5()["recordings/S02__lab/signals/EDA"].id.get_offset() + 9
    content = bytearray(uninterrupted)
    content[place] ^= 1
    output.write_bytes(content)
    assert statuses(run(study, output)) == ["reused", "prepared", "reused"]
    assert output.read_bytes() == uninterrupted
    output.write_bytes(uninterrupted[: len(uninterrupted) // 2])
    assert statuses(run(study, output)) == ["prepared"] * 3
    assert output.read_bytes() == uninterrupted


def test_damaged_foreign_and_leftover_files_among_the_parts_are_not_used(
    study: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "made.h5"
    stop_after(study, output, 2)
    first, second = sorted((tmp_path / "made.h5.parts").glob("S*.h5"))
    content = bytearray(first.read_bytes())
    with h5py.File(first) as part:
        content[part["recordings/S01__lab/signals/EDA"].id.get_offset()] ^= 1
    first.write_bytes(content)
    second.write_bytes(bytes(content))  # another recording's part under this name
    (tmp_path / "made.h5.parts" / ".x.h5.99.tmp").write_bytes(b"left by a dead run")
    assert statuses(run(study, output)) == ["prepared"] * 3
    assert output.read_bytes() == uninterrupted
    assert not (tmp_path / "made.h5.parts").exists()


def stop_after(study: Path, output: Path, n: int) -> None:
    """Prepare a study and press Ctrl-C after ``n`` recordings."""

    def press(n_done: int, _n_all: int, _row: LogRow) -> None:
        if n_done == n:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, output, on_progress=press)


def test_an_interrupt_keeps_what_is_finished_and_says_what_is_not(
    study: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    output = tmp_path / "made.h5"
    stop_after(study, output, 2)
    assert not output.exists()
    with (tmp_path / "made.log.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["prepared", "prepared", "not done"]
    assert statuses(run(study, output)) == ["reused", "reused", "prepared"]
    assert output.read_bytes() == uninterrupted


def test_a_full_disk_ends_the_run_with_its_own_reason(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _content: memoryview, _place: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=r"cannot write S01__lab-\w+\.h5 in .*: No space left on device"):
        run(study, tmp_path / "made.h5")
    monkeypatch.undo()
    assert statuses(run(study, tmp_path / "made.h5")) == ["prepared"] * 3


_PREPARE = """
import sys
from pathlib import Path
from biopercept.prepare.study import prepare_study
from biopercept.studies.loading import load_study
if __name__ == "__main__":
    show = lambda n, of, row: print(n, flush=True)
    prepare_study(load_study(Path(sys.argv[1])), Path(sys.argv[2]), on_progress=show)
"""


@pytest.mark.parametrize(("n_lines", "delay"), [(0, 0.3), (1, 0.0), (2, 0.02), (3, 0.0)])
def test_kill_9_at_any_moment_and_the_same_command_again_gives_the_uninterrupted_bytes(
    study: Path, tmp_path: Path, uninterrupted: bytes, n_lines: int, delay: float
) -> None:
    script = tmp_path / "prepare_it.py"
    script.write_text(_PREPARE)
    output = tmp_path / "made.h5"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, study, output]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(n_lines):
            process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    if output.exists():
        assert output.read_bytes() == uninterrupted
    with noticing([].append):  # its lock was left
        summary = run(study, output)
    assert summary.count("reused") >= min(n_lines, 3)
    assert output.read_bytes() == uninterrupted
    assert {p.name for p in tmp_path.iterdir()} >= {"made.h5", "made.log.csv"}
    assert not [p for p in tmp_path.iterdir() if p.name.endswith((".tmp", ".parts"))]


def test_only_one_process_prepares_into_a_store(study: Path, tmp_path: Path) -> None:
    with only_writer(tmp_path / "made.h5"), pytest.raises(BusyError, match=r"another process is writing made\.h5"):
        run(study, tmp_path / "made.h5")


def shared(study: Path, output: Path, part: Part | None, **options: object) -> PrepareSummary:
    return run(study, output, sharing=Sharing(part), **options)


def test_parts_of_a_study_give_the_store_and_the_log_of_one_process(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(whole: object, entry: Entry, finder: object) -> str:
        if entry.subject == "S03":
            raise PermissionError(13, "Permission denied")
        return source_hash(whole, entry, finder)  # type: ignore[arg-type]

    monkeypatch.setattr(study_module, "source_hash", hashed)
    (study / "data" / "S02.csv").write_text("EDA,TEMP\nnot,numbers\n")
    alone, together = tmp_path / "alone" / "made.h5", tmp_path / "together" / "made.h5"
    run(study, alone)
    with pytest.raises(
        UnfinishedError, match=r"^part 2 of 2 is done; 2 of 3 recordings are not done: S01 lab, S03 lab"
    ):
        shared(study, together, Part(2, 2))
    assert not together.exists()
    assert not log_path(together).exists()
    with pytest.raises(UnfinishedError, match=r"^2 of 3 recordings are not done: .* --collect once more; no result"):
        shared(study, together, None)
    assert statuses(shared(study, together, Part(1, 2))) == ["prepared", "failed", "failed"]
    assert together.read_bytes() == alone.read_bytes()
    tables = [
        [{**row, "seconds": ""} for row in csv.DictReader(log_path(path).read_text().splitlines())]
        for path in (alone, together)
    ]
    assert tables[0] == tables[1]
    assert sorted(path.name for path in together.parent.iterdir()) == ["made.h5", "made.log.csv"]
    log = log_path(together).read_text()
    for _ in range(2):  # all is written: what failed is said again, and nothing is missing
        again = shared(study, together, None)
        assert statuses(again) == ["reused", "failed", "failed"]
        assert "not one" in again.rows[1].message or "S02" in again.rows[1].message
    assert [row["message"] for row in csv.DictReader(log_path(together).read_text().splitlines())][1:] == [
        row["message"] for row in csv.DictReader(log.splitlines())
    ][1:]
    assert together.read_bytes() == alone.read_bytes()
    with pytest.raises(UnfinishedError, match=r"^part 1 of 2 is done; 1 of 3 recordings are not done: S02 lab"):
        shared(study, together, Part(1, 2))
    with pytest.raises(UnfinishedError, match=r"^1 of 3 recordings are not done: S02 lab"):
        shared(study, together, None)  # a part was begun again, so what failed before is being tried


def test_a_part_does_not_do_again_what_is_finished_even_where_it_ended_before_it_said_so(
    study: Path, tmp_path: Path, uninterrupted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, done = tmp_path / "made.h5", list[str]()

    def count(context: object, job: PrepareJob) -> object:
        done.append(job.entry.subject)
        return prepare_one(context, job)  # type: ignore[arg-type]

    monkeypatch.setattr(study_module, "prepare_one", count)
    with pytest.raises(UnfinishedError):
        shared(study, output, Part(1, 2))
    rows = sorted((tmp_path / "made.h5.parts").glob("*.json"))
    rows[0].unlink()
    with pytest.raises(UnfinishedError, match="1 of 3 recordings are not done: S02 lab"):
        shared(study, output, Part(1, 2))
    assert done == ["S01", "S03"]
    assert statuses(shared(study, output, Part(2, 2))) == ["prepared"] * 3
    assert output.read_bytes() == uninterrupted


def test_a_recording_that_changed_since_a_part_prepared_it_is_prepared_again(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.h5"
    with pytest.raises(UnfinishedError):
        shared(study, output, Part(1, 2))
    write_recording(study, "S01", seed=1)
    with pytest.raises(UnfinishedError, match="1 of 3 recordings are not done: S01 lab"):
        shared(study, output, Part(2, 2))
    assert statuses(shared(study, output, Part(1, 2))) == ["prepared"] * 3
