"""Prepare: the same bytes however a study was prepared, nothing finished lost, and one bad recording costs itself."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from biopercept.cli.panels import with_options
from biopercept.cli.prepare import prepare as prepare_command
from biopercept.errors import BusyError, OutputError, SettingsError, StoreError, UnfinishedError
from biopercept.files import only_writer
from biopercept.parallel import ChildProcesses, Limits, Lost, Work
from biopercept.prepare import study as study_module
from biopercept.prepare.recording import PrepareSettings, prepare_recording
from biopercept.prepare.reuse import LogRow, log_path, source_hash, used_and_ignored, write_log
from biopercept.prepare.study import (
    PrepareJob,
    PrepareRun,
    PrepareSummary,
    chosen_subjects,
    prepare_one,
    prepare_study,
)
from biopercept.preprocessing.derived import DEVICE_DISAGREES
from biopercept.preprocessing.windows import WindowSettings
from biopercept.recording import Interval, Recording, Signal
from biopercept.sharing import Part, Sharing
from biopercept.store.reading import open_store
from biopercept.studies.loading import load_study
from biopercept.studies.structure import Entry
from biopercept.tasks import Task

SUBJECTS = ("S01", "S02", "S03")


def write_study(folder: Path, subjects: tuple[str, ...] = SUBJECTS) -> Path:
    """Write a study of EDA and skin temperature at 4 Hz, 150 s each, with two labelled stretches; return it."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    tasks = "tasks: {stress: {classes: {rest: [rest], stress: [task]}}}\n"
    (folder / "study.yaml").write_text(f"name: tiny\ndescription: made\nlicence: CC0\n{tasks}")
    tables = {
        "participants": ["participant_id", *subjects],
        "recordings": ["participant_id\trecording\tpath", *(f"{s}\tlab\tdata/{s}.csv" for s in subjects)],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type"]
        + [f"{s}\tlab\t{row}" for s in subjects for row in ("0\t70\trest", "75\t70\ttask")],
    }
    for name, lines in tables.items():
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    for subject in subjects:
        write_recording(folder, subject)
    return folder


def write_recording(folder: Path, subject: str, *, seconds: int = 150, seed: int = 0) -> None:
    """Write one recording's table and sidecar."""
    random = np.random.default_rng([seed, int(subject[1:])])
    at = np.arange(seconds * 4) / 4
    eda = 2 + 0.3 * np.sin(at / 20) + 0.002 * random.normal(size=len(at)).cumsum()
    temp = 33 + 0.2 * np.sin(at / 60) + 0.001 * random.normal(size=len(at))
    rows = [f"{a:.5f},{b:.4f}" for a, b in zip(eda, temp, strict=True)]
    (folder / "data" / f"{subject}.csv").write_text("\n".join(["EDA,TEMP", *rows]) + "\n")
    sidecar = {"SamplingFrequency": 4, "StartTime": 0, "Columns": ["EDA", "TEMP"]}
    sidecar |= {"EDA": {"Units": "uS", "Modality": "eda"}, "TEMP": {"Units": "degC", "Modality": "temp"}}
    (folder / "data" / f"{subject}.json").write_text(json.dumps(sidecar))


def run(study: Path, output: Path, settings: PrepareSettings | None = None, **options: object) -> PrepareSummary:
    """Prepare a study in this process, which saves the start of another."""
    loaded = load_study(study)
    exclude, on_progress = options.pop("exclude_subjects", None), options.pop("on_progress", None)
    subjects = chosen_subjects(loaded, options.pop("subjects", None), exclude)  # type: ignore[arg-type]
    how = PrepareRun(**{"isolate": False, **options})  # type: ignore[arg-type]
    return prepare_study(loaded, output, settings, subjects=subjects, run=how, on_progress=on_progress)  # type: ignore[arg-type]


def statuses(summary: PrepareSummary) -> list[str]:
    return [row.status for row in summary.rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the store of the whole study, prepared in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(write_study(folder / "study"), folder / "made.h5")
    return (folder / "made.h5").read_bytes()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


def test_what_a_study_says_of_itself_is_kept_and_is_no_part_of_what_scores_are_of(study: Path, tmp_path: Path) -> None:
    run(study, tmp_path / "made.h5")
    with open_store(tmp_path / "made.h5") as store:
        assert dict(store.about) == {"description": "made", "licence": "CC0"}
        before = store.fingerprint()
    words = (study / "study.yaml").read_text().replace("licence: CC0", "licence: MIT\ncitation: A. Author, 2020")
    (study / "study.yaml").write_text(words)
    assert statuses(run(study, tmp_path / "made.h5")) == ["reused"] * 3
    with open_store(tmp_path / "made.h5") as store:
        assert dict(store.about) == {"description": "made", "licence": "MIT", "citation": "A. Author, 2020"}
        assert store.fingerprint() == before


def test_a_recording_in_memory_holds_what_its_store_holds(study: Path, tmp_path: Path) -> None:
    from biopercept.studies.loading import load_entry

    run(study, tmp_path / "made.h5")
    loaded = load_study(study)
    prepared = prepare_recording(load_entry(loaded, loaded.entries[1]))
    with open_store(tmp_path / "made.h5") as store:
        held = store.recording(prepared.key)
        assert held.signals == prepared.signals
        assert (held.subject, held.duration_seconds, held.notes) == ("S02", 150.0, prepared.notes)
        for one in held.signals:
            for got, expected in zip(held.read(one.name), prepared.read(one.name), strict=True):
                np.testing.assert_array_equal(got, expected)
        for column, values in vars(prepared.windows).items():
            np.testing.assert_array_equal(getattr(held.windows, column), values)
        assert held.windows.onset[held.windows.is_labelled].tolist() == [0.0, 75.0]
        assert held.windows.label.tolist() == ["rest", "task", "", "", "", ""]
        assert "stress" in store.tasks


def test_missing_samples_are_masked_zeros_and_never_values() -> None:
    random = np.random.default_rng(0)
    eda = 2 + 0.01 * random.normal(size=600).cumsum()
    eda[100:160] = np.nan
    made = Signal.from_samples("EDA", "eda", "uS", 4.0, eda)
    prepared = prepare_recording(Recording("S01", "", "lab", (made,), (Interval(0, 150, "rest"),)))
    samples, mask = prepared.read("EDA")
    assert not mask[0, 100:160].any()
    assert mask[0, :90].all()
    assert (samples[~mask] == 0).all()
    assert np.isfinite(samples).all()


def test_a_store_prepared_by_one_or_two_child_processes_has_the_same_bytes(
    study: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    for n_jobs in (1, 2):
        run(study, tmp_path / f"{n_jobs}.h5", isolate=True, n_jobs=n_jobs)
        assert (tmp_path / f"{n_jobs}.h5").read_bytes() == uninterrupted


def test_a_store_keeps_the_order_in_which_the_study_lists_its_recordings(study: Path, tmp_path: Path) -> None:
    header, *rows = (study / "recordings.tsv").read_text().splitlines()
    (study / "recordings.tsv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    run(study, tmp_path / "made.h5")
    with open_store(tmp_path / "made.h5") as store:
        assert [(r.subject, r.place) for r in store.recordings] == [("S01", 2), ("S02", 1), ("S03", 0)]


def test_a_second_run_prepares_nothing_and_writes_nothing_new(study: Path, tmp_path: Path) -> None:
    assert statuses(run(study, tmp_path / "made.h5")) == ["prepared"] * 3
    before = (tmp_path / "made.h5").stat()
    assert statuses(run(study, tmp_path / "made.h5")) == ["reused"] * 3
    assert (tmp_path / "made.h5").stat().st_ino == before.st_ino
    assert statuses(run(study, tmp_path / "made.h5", restart=True)) == ["prepared"] * 3
    assert not (tmp_path / "made.h5.parts").exists()


def test_adding_a_subject_reuses_the_others_and_gives_the_bytes_of_one_run(
    tmp_path: Path, uninterrupted: bytes
) -> None:
    study = write_study(tmp_path / "study", SUBJECTS[1:])
    run(study, tmp_path / "made.h5")
    write_study(study)
    assert statuses(run(study, tmp_path / "made.h5")) == ["prepared", "reused", "reused"]
    assert (tmp_path / "made.h5").read_bytes() == uninterrupted


@pytest.mark.parametrize("what", ["samples", "sidecar", "label", "corrections", "unit override"])
def test_a_changed_source_redoes_only_what_depends_on_it(study: Path, tmp_path: Path, what: str) -> None:
    run(study, tmp_path / "made.h5")
    expected = ["reused", "prepared", "reused"]
    if what == "samples":
        clock = (study / "data" / "S02.csv").stat()
        write_recording(study, "S02", seed=1)
        os.utime(study / "data" / "S02.csv", ns=(clock.st_atime_ns, clock.st_mtime_ns))
    elif what == "sidecar":
        sidecar = study / "data" / "S02.json"
        sidecar.write_text(sidecar.read_text().replace('"StartTime": 0', '"StartTime": 1'))
    elif what == "label":
        events = study / "events.tsv"
        events.write_text(events.read_text().replace("S02\tlab\t75\t70\ttask", "S02\tlab\t76\t70\ttask"))
    elif what == "corrections":
        (study / "data" / "S02_corrections.tsv").write_text("onset\tduration\tkind\n20\t5\tbad\n")
    else:
        with (study / "study.yaml").open("a") as stream:
            stream.write("signals: {TEMP: {modality: temp, unit: degC}}\n")
        expected = ["prepared"] * 3
    assert statuses(run(study, tmp_path / "made.h5")) == expected


def test_a_store_says_what_was_corrected_and_a_changed_table_is_one_recording_prepared_again(
    study: Path, tmp_path: Path, uninterrupted: bytes
) -> None:
    output, table = tmp_path / "made.h5", study / "data" / "S02_corrections.tsv"
    table.write_text("onset\tduration\tkind\tchannel\twho\n20\t5\tbad\tEDA\tAnna\n")
    run(study, output)
    assert statuses(run(study, output)) == ["reused"] * 3
    with open_store(output) as store:
        assert list(store.to_frame()["corrections"]) == [0, 1, 0]
        corrected = store.recordings[1]
        assert corrected.corrections == (
            {"kind": "bad", "onset": 20.0, "duration": 5.0, "channels": ["EDA"]}
            | {"who": "Anna", "when": "", "source": "S02_corrections.tsv"},
        )
        assert "corrected by hand: 5 s marked bad in EDA." in corrected.notes
        _, is_real = corrected.read("EDA")
        np.testing.assert_array_equal(np.flatnonzero(~is_real[0]), np.arange(80, 100))
        assert corrected.read("TEMP")[1].all()
    table.write_text("onset\tduration\tkind\n20\t6\tbad\n")
    assert statuses(run(study, output)) == ["reused", "prepared", "reused"]
    table.write_text("onset\tduration\tkind\n20\t6\tworse\n")
    summary = run(study, output)
    assert statuses(summary) == ["reused", "failed", "reused"]
    assert summary.rows[1].message.startswith("S02_corrections.tsv line 2: kind is 'worse'; allowed are bad, ")
    table.unlink()
    run(study, output)
    assert output.read_bytes() == uninterrupted


def test_changed_settings_redo_everything_and_equal_a_fresh_run(study: Path, tmp_path: Path) -> None:
    settings = PrepareSettings(windows=WindowSettings(30.0, 10.0))
    run(study, tmp_path / "made.h5")
    assert statuses(run(study, tmp_path / "made.h5", settings, overwrite=True)) == ["prepared"] * 3
    run(study, tmp_path / "fresh.h5", settings)
    assert (tmp_path / "made.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_store_of_other_settings_or_of_another_study_is_replaced_only_where_that_is_said(
    study: Path, tmp_path: Path
) -> None:
    store, settings = tmp_path / "made.h5", PrepareSettings(windows=WindowSettings(30.0, 10.0))
    run(study, store)
    before = store.read_bytes()
    sentence = (
        r"^made\.h5 is there already, prepared with windows\.length_seconds 60\.0 \(here 30\.0\), "
        r"windows\.step_seconds 30\.0 \(here 10\.0\); choose another output or add --overwrite$"
    )
    with pytest.raises(SettingsError, match=sentence):
        run(study, store, settings)
    text = (study / "study.yaml").read_text()
    (study / "study.yaml").write_text(text.replace("name: tiny", "name: other"))
    with pytest.raises(SettingsError, match=r"prepared with study tiny \(here other\); choose another output or add"):
        run(study, store)
    assert store.read_bytes() == before and not list(tmp_path.glob("*.parts"))
    assert statuses(run(study, store, overwrite=True)) == ["reused"] * 3
    with open_store(store) as opened:
        assert opened.name == "other"
    command = typer.Typer()
    command.command()(with_options(prepare_command))
    words = [str(study), "-o", str(store), "--set", "windows.length_seconds=30", "-q"]
    assert isinstance(CliRunner().invoke(command, words).exception, SettingsError)
    assert CliRunner().invoke(command, [*words, "--overwrite"]).exit_code == 0


def test_a_bad_recording_is_a_row_and_the_others_are_stored(study: Path, tmp_path: Path) -> None:
    (study / "data" / "S02.csv").write_bytes(b"\x00\x01\x02")
    summary = run(study, tmp_path / "made.h5", isolate=True)
    assert statuses(summary) == ["prepared", "failed", "prepared"]
    assert "S02.csv" in summary.rows[1].message
    with open_store(tmp_path / "made.h5") as store:
        assert [r.subject for r in store.recordings] == ["S01", "S03"]
    with summary.log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["participant_id"], row["status"]) for row in rows] == list(
        zip(SUBJECTS, statuses(summary), strict=True)
    )
    assert (rows[0]["windows_labelled"], rows[0]["windows_grid"]) == ("2", "4")
    write_recording(study, "S02")
    assert statuses(run(study, tmp_path / "made.h5")) == ["reused", "prepared", "reused"]


def test_a_recording_shorter_than_a_window_says_so(study: Path, tmp_path: Path) -> None:
    write_recording(study, "S03", seconds=40)
    summary = run(study, tmp_path / "made.h5")
    assert summary.rows[2].message.startswith("S03 lab is too short: 40.0 s where one window has 60 s")


def test_where_every_recording_fails_the_old_store_stays(study: Path, tmp_path: Path) -> None:
    run(study, tmp_path / "made.h5")
    before = (tmp_path / "made.h5").read_bytes()
    for subject in SUBJECTS:
        (study / "data" / f"{subject}.csv").write_text(f"nothing of {subject}")
    summary = run(study, tmp_path / "made.h5")
    assert (summary.store, statuses(summary)) == (None, ["failed"] * 3)
    assert (tmp_path / "made.h5").read_bytes() == before


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
    summary = run(study, output)
    assert summary.count("reused") >= min(n_lines, 3)
    assert output.read_bytes() == uninterrupted
    assert {p.name for p in tmp_path.iterdir()} >= {"made.h5", "made.log.csv"}
    assert not [p for p in tmp_path.iterdir() if p.name.endswith((".tmp", ".parts"))]


def test_only_one_process_prepares_into_a_store(study: Path, tmp_path: Path) -> None:
    with only_writer(tmp_path / "made.h5"), pytest.raises(BusyError, match=r"another process is writing made\.h5"):
        run(study, tmp_path / "made.h5")


def test_a_file_that_is_no_store_is_never_replaced(study: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"study\.yaml exists and is no store of biopercept"):
        run(study, study / "study.yaml", restart=True)
    with pytest.raises(StoreError, match="is a folder"):
        run(study, study)
    with pytest.raises(OutputError, match="is not a folder, so no parts"):
        (tmp_path / "made.h5.parts").symlink_to(study)
        run(study, tmp_path / "made.h5")


def test_a_selection_that_would_lose_prepared_recordings_is_refused(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "made.h5"
    assert statuses(run(study, output, subjects=["S02"])) == ["prepared"]
    assert statuses(run(study, output, exclude_subjects=["S03"])) == ["prepared", "reused"]
    with pytest.raises(StoreError, match=r"made\.h5 holds 1 recording of subjects that are not selected"):
        run(study, output, subjects=["S01"])
    with pytest.raises(SettingsError, match="the study tiny has no recording of S9; there are: S01, S02, S03"):
        run(study, output, subjects=["S9"])


def test_settings_that_cannot_be_used_end_the_run_before_any_work(study: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"windows\.step_seconds is 0"):
        run(study, tmp_path / "made.h5", PrepareSettings(WindowSettings(60.0, 0.0)))
    assert list(tmp_path.iterdir()) == [study]


def test_no_cell_of_the_log_is_run_by_a_spreadsheet(tmp_path: Path) -> None:
    row = LogRow("=1+1", "@x", "-1", "failed", message="+cmd", notes=("\tx", "y"), left_out={"=a": 1})
    write_log(tmp_path / "log.csv", [row])
    with (tmp_path / "log.csv").open(newline="") as stream:
        cells = list(csv.reader(stream))[1]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert cells[0] == "'=1+1"


def _work(factor: int, job: str) -> int:
    if job == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "leave":
        os._exit(3)
    if job == "hang":
        time.sleep(600)
    if job == "eat":
        return len(bytearray(10**10))
    return factor * int(job)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_job_that_crashes_hangs_or_eats_memory_costs_itself(tmp_path: Path, n_processes: int) -> None:
    jobs = ["1", "crash", "2", "leave", "3", "eat", "4", "x", "5"]
    limits = Limits(memory_bytes=4 * 10**9)
    results = dict(ChildProcesses(n_processes, limits).run(Work(_work, None, 10), jobs))
    reasons = {jobs[i]: result.reason for i, result in results.items() if isinstance(result, Lost)}
    assert [results[i] for i in (0, 2, 4, 6, 8)] == [10, 20, 30, 40, 50]
    assert reasons == {
        "crash": "the process that worked on it was ended by signal 11",
        "leave": "the process that worked on it ended with code 3",
        "eat": "it needs more than the 4 GB of memory that a process may use",
        "x": "it met ValueError: invalid literal for int() with base 10: 'x'",
    }


def test_a_job_that_takes_too_long_is_stopped() -> None:
    jobs = ["1", "hang", "2"]
    results = dict(ChildProcesses(1, Limits(seconds=1.0)).run(Work(_work, None, 1), jobs))
    assert results == {0: 1, 1: Lost("it took longer than 1 s and was stopped"), 2: 2}


def test_one_fault_of_many_recordings_is_told_once_with_the_count(tmp_path: Path) -> None:
    for number in range(1, 6):
        home = tmp_path / f"sub-{number}" / "func"
        home.mkdir(parents=True)
        (home / f"sub-{number}_task-rest_physio.tsv").write_text(f"{number}\n" * 100)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (tmp_path / "task-rest_physio.json").write_text('{"SamplingFrequency": 0, "Columns": ["cardiac"]}')
    app = typer.Typer()
    app.command()(with_options(prepare_command))
    result = CliRunner().invoke(app, [str(tmp_path), "-o", str(tmp_path / "made.h5")])
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if "SamplingFrequency is 0" in line]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("[1/5] failed: task-rest_physio.json: SamplingFrequency is 0")
    assert lines[1].startswith("failed: so too in 4 more: task-rest_physio.json: SamplingFrequency is 0")
    with (tmp_path / "made.log.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["failed"] * 5


def test_the_command_names_what_failed_and_exits_1(study: Path, tmp_path: Path) -> None:
    (study / "data" / "S02.csv").write_text("")
    app = typer.Typer()
    app.command()(with_options(prepare_command))
    result = CliRunner().invoke(app, [str(study), "-o", str(tmp_path / "made.h5"), "--set", "windows.step_seconds=20"])
    assert result.exit_code == 1, result.output
    assert "failed: S02.csv: the file is empty (0 bytes)" in result.stderr
    assert "1 of 3 recordings failed (" in result.stderr
    assert "says why; the others are in the store), which is exit code 1" in result.stderr
    assert "3 recordings: 2 prepared, 0 reused, 1 failed" in result.stdout
    with open_store(tmp_path / "made.h5") as store:
        assert store.step_seconds == 20.0


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


def test_heart_rates_that_disagree_are_a_warning_that_names_whose(tmp_path: Path) -> None:
    note = f"heart_rate: {DEVICE_DISAGREES}: HR and the beats of ECG differ by 40 1/min."
    rows = tuple(LogRow(subject, "", "lab", "prepared", notes=(note,) * (subject != "S2")) for subject in ("S1", "S2"))
    summary = PrepareSummary(tmp_path / "x.h5", tmp_path / "x.log.csv", rows, 1.0)
    assert summary.warnings == (
        "the device's own heart rate and the beats disagree in S1 lab: one of the two is wrong there; the notes in "
        "x.log.csv say by how much",
    )
    assert replace(summary, rows=rows[1:]).warnings == ()


def test_windows_of_labels_that_no_task_uses_are_counted_apart() -> None:
    of_labels = Task("a", classes={"x": ("rest",), "y": ("work",)}, ignore=("break",))
    tasks = (of_labels, Task("b", "regression", column="load"))
    labels = ["rest", "break", "work", "break", "talk"]
    assert used_and_ignored(labels, tasks[:1]) == (
        2,
        {"the label 'break' is in no task": 2, "the label 'talk' is in no task": 1},
    )
    assert used_and_ignored(labels, tasks) == (5, {})  # numbers are of any label
    assert used_and_ignored(labels, ()) == (5, {})
