"""Mistakes that users make, from outside: each is answered where it is made, in words that say what to change."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

STUDY = "name: x\ntasks: {t: {classes: {rest: [calm, idle], work: [count]}}}\n"
TABLES = ("participants", "recordings", "events")
NOT_LISTED = "who is not in participants.tsv"
PEOPLE = ("S01", "S02", "S03", "S04")


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def faults_of(folder: Path, *more: object) -> list[str]:
    """Return the faults that ``check`` gives, and see that its exit code agrees."""
    result = run("check", folder, "--json", *more)
    assert result.exit_code in (0, 2), result.output
    faults: list[str] = json.loads(result.stdout)["faults"]
    assert (result.exit_code == 2) == bool(faults)
    return faults


def notes_of(folder: Path) -> list[str]:
    result = run("check", folder, "--json")
    assert result.exit_code == 0, result.output
    notes: list[str] = json.loads(result.stdout)["notes"]
    return notes


def write_csv(path: Path, seed: int, seconds: int = 130, head: str = "time,EDA (uS)") -> None:
    random = np.random.default_rng(seed)
    is_timed = head.startswith("time")
    rows = (f"{i / 4}," * is_timed + f"{1 + value:.4f}" for i, value in enumerate(random.random(4 * seconds)))
    path.write_text("\n".join([head, *rows]) + "\n")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a study of four people, of two minutes each, in which everything is right."""
    folder = tmp_path / "study"
    (folder / "data").mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    rows: dict[str, list[str]] = {
        "participants": ["participant_id\tage"],
        "recordings": ["participant_id\trecording\tpath"],
        "events": ["participant_id\trecording\tonset\tduration\ttrial_type"],
    }
    for number, name in enumerate(PEOPLE):
        write_csv(folder / "data" / f"{name}.csv", number)
        rows["participants"].append(f"{name}\t{20 + number}")
        rows["recordings"].append(f"{name}\tlab\tdata/{name}.csv")
        for onset, label in ((0, "calm"), (40, "count"), (80, "idle")):
            rows["events"].append(f"{name}\tlab\t{onset}\t40\t{label}")
    for table, lines in rows.items():
        (folder / f"{table}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def change(folder: Path, table: str, wrong: str, right: str = "", count: int = -1) -> None:
    path = folder / table
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, count))


def each_line(folder: Path, table: str, of_line: Callable[[str], str]) -> None:
    path = folder / f"{table}.tsv"
    path.write_text("".join(f"{of_line(line)}\n" for line in path.read_text().splitlines()))


def scaled(line: str, onset: float, duration: float) -> str:
    cells = line.split("\t")
    if cells[2] != "onset":
        cells[2], cells[3] = f"{float(cells[2]) * onset:g}", f"{float(cells[3]) * duration:g}"
    return "\t".join(cells)


def test_the_study_itself_has_no_fault(study: Path) -> None:
    assert faults_of(study) == []
    assert run("check", study).stdout.rstrip().splitlines()[-1].startswith(f"no fault in {study}")


@pytest.mark.parametrize(("onset", "duration"), [(1000, 1000), (1000, 1), (1e6, 1e6)])
def test_times_in_another_unit_are_seen_without_opening_recordings(study: Path, onset: float, duration: float) -> None:
    each_line(study, "events", lambda line: scaled(line, onset, duration))
    (fault,) = faults_of(study)
    assert fault.startswith(
        "events.tsv line 4, S01 lab: 2 of 3 labelled intervals lie wholly beyond its signals, which span 0"
    )
    unit = "milliseconds" if onset == 1000 else "microseconds"
    assert f"onset and duration are seconds from the recording's start, these look like {unit}" in fault
    assert fault.endswith("(so too in 3 more: lines 7, 10, 13)")


def test_a_label_beyond_the_end_of_its_file_is_a_note_that_is_counted(study: Path) -> None:
    change(study, "events.tsv", "S02\tlab\t900\t40\tidle", "S02\tlab\t80\t40\tidle")
    change(study, "events.tsv", "S03\tlab\t80\t400\tidle", "S03\tlab\t80\t40\tidle")
    wholly, partly = (note for note in notes_of(study) if note.startswith("events.tsv"))
    assert wholly.startswith("events.tsv line 7, S02 lab: 1 labelled interval of 3 lies wholly beyond its signals, ")
    assert wholly.endswith("('idle' is stated to span 900 to 940 s)")
    assert "S03 lab: 1 labelled interval of 3 lies partly beyond its signals" in partly
    assert re.search(r"; \d notes to read$", run("check", study).stdout.rstrip())


def test_prepare_says_whose_labels_lie_beyond_the_signals(study: Path, tmp_path: Path) -> None:
    change(study, "events.tsv", "S02\tlab\t900\t40\tidle", "S02\tlab\t80\t40\tidle")
    result = run("prepare", study, "-o", tmp_path / "x.h5", "--subjects", "S02", "--set", "windows.length_seconds=30")
    assert result.exit_code == 0, result.output
    assert "warning: labels lie beyond the signals of S02 lab, and nothing is cut there" in " ".join(
        result.stderr.split()
    )


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    ("of_line", "words"),
    [
        (lambda line: line.replace("\t", ";"), "the columns are separated by semicolons and not by tabs"),
        (lambda line: line.replace("\t", ","), "the columns are separated by commas and not by tabs"),
        (lambda line: line.replace("\t", "  "), "the columns are separated by blanks and not by tabs"),
        (lambda line: "\t".join(f'"{cell}"' for cell in line.split("\t")), "the cells stand in quotation marks"),
    ],
    ids=["semicolons", "commas", "blanks", "quotes"],
)
def test_a_table_written_another_way_is_named_as_what_it_is(
    study: Path, table: str, of_line: Callable[[str], str], words: str
) -> None:
    each_line(study, table, of_line)
    assert faults_of(study) == [f"{table}.tsv line 1: {words}; save it as tab-separated text, or call it {table}.csv"]
    (study / f"{table}.tsv").rename(study / f"{table}.csv")
    if "blanks" not in words:
        assert faults_of(study) == []


@pytest.mark.parametrize("table", TABLES)
def test_tabs_after_the_last_cell_are_no_fault(study: Path, table: str) -> None:
    before = (study / f"{table}.tsv").read_text()
    for n_below in (0, 1, 2):
        lines = before.splitlines()
        (study / f"{table}.tsv").write_text(
            "\n".join([lines[0] + "\t", *(line + "\t" * n_below for line in lines[1:])])
        )
        assert faults_of(study) == []


def test_a_decimal_comma_is_answered_with_the_point(study: Path) -> None:
    change(study, "events.tsv", "S01\tlab\t0\t40,5\tcalm", "S01\tlab\t0\t40\tcalm")
    assert faults_of(study) == [
        "events.tsv line 2: duration is '40,5'; a number of seconds is needed, with a point: 40.5"
    ]


def test_decimal_commas_in_several_columns_of_a_table_are_one_fault(study: Path) -> None:
    one = "events.tsv line 2: onset is '0,5'; a number of seconds is needed, with a point: 0.5"
    change(study, "events.tsv", "S01\tlab\t0,5\t39,5\tcalm", "S01\tlab\t0\t40\tcalm")
    assert faults_of(study) == [f"{one} (so too in 1 more cell: line 2)"]
    change(study, "events.tsv", "S02\tlab\t0,5\t39,5\tcalm", "S02\tlab\t0\t40\tcalm")
    assert faults_of(study) == [f"{one} (so too in 3 more cells: lines 2, 5)"]
    change(
        study, "recordings.tsv", "participant_id\trecording\tpath\toffset_seconds", "participant_id\trecording\tpath"
    )
    each_line(study, "recordings", lambda line: line if "offset" in line else f"{line}\t1,5")
    assert [fault.partition(" line")[0] for fault in faults_of(study)] == ["recordings.tsv", "events.tsv"]


def test_a_decimal_comma_in_a_column_of_numbers_is_answered_with_the_point(study: Path) -> None:
    change(study, "study.yaml", "work: [count]}}, u: {kind: regression, column: age}}", "work: [count]}}}")
    change(study, "participants.tsv", "S01\t20,5", "S01\t20")
    change(study, "participants.tsv", "S02\t21,5", "S02\t21")
    assert faults_of(study) == [
        "participants.tsv line 2, S01: age is '20,5'; a number is needed for task 'u', or n/a where it is missing, "
        "with a point: 20.5 (so too in 1 more cell: line 3)"
    ]


def test_a_missing_table_of_events_is_the_one_fault_and_a_file_like_it_is_named(study: Path) -> None:
    (study / "events.tsv").rename(study / "event.tsv")
    assert faults_of(study) == [
        "events.tsv is missing, and recordings.tsv has no column condition: nothing says which label holds when; did "
        "you mean event.tsv?"
    ]
    (study / "participants.tsv").rename(study / "Participant.tsv")
    assert faults_of(study) == [
        "participants.tsv is missing; it lists every participant_id; did you mean Participant.tsv?"
    ]


@pytest.mark.parametrize(
    ("table", "right", "wrong", "expected"),
    [
        (
            "recordings.tsv",
            "S03\t",
            "S3\t",
            f"recordings of 'S3' (recordings.tsv line 4), {NOT_LISTED}; did you mean S03?",
        ),
        (
            "participants.tsv",
            "S03",
            "s03",
            f"recordings of 'S03' (recordings.tsv line 4), {NOT_LISTED}; did you mean s03?",
        ),
        (
            "events.tsv",
            "S03\t",
            "S3\t",
            "events.tsv line 8: no recording 'S3 lab' in recordings.tsv; did you mean S03 lab? (so too in 2 more: "
            "lines 9, 10)",
        ),
        (
            "events.tsv",
            "count",
            "Count",
            "the label 'Count' (4 recordings, first events.tsv line 3) is under no class of task 't' (known are calm, "
            "idle, count): add it to a class or to ignore; did you mean count?",
        ),
        ("study.yaml", "classes", "clases", "study.yaml line 2: unknown key 'tasks.t.clases'; did you mean classes?"),
        (
            "recordings.tsv",
            "data/",
            "Data/",
            "recordings.tsv line 2: the file 'Data/S01.csv' is not there; did you mean data/S01.csv? (so too in 3 "
            "more: lines 3, 4, 5)",
        ),
    ],
)
def test_one_slip_is_one_fault_with_what_was_meant(
    study: Path, table: str, right: str, wrong: str, expected: str
) -> None:
    change(study, table, wrong, right)
    assert faults_of(study) == [expected]


def test_faults_of_every_kind_are_listed_in_one_go_each_with_its_row(study: Path) -> None:
    each_line(study, "events", lambda line: scaled(line, 1000, 1000) if line.startswith("S02") else line)
    change(study, "events.tsv", "S01\tlab\t20\t40\tcount", "S01\tlab\t40\t40\tcount")
    change(study, "events.tsv", "S03\tlab\t40\t40\tcuont", "S03\tlab\t40\t40\tcount")
    change(study, "participants.tsv", "S4\t", "S04\t")
    (study / "data" / "S03.csv").write_text("")
    begins = [
        "recordings of 'S04' (recordings.tsv line 5), who is not in participants.tsv",
        "the label 'cuont' (1 recording, first events.tsv line 9) is under no class",
        "events.tsv line 3, S01 lab: 'count' (work) from 20 to 60 s and 'calm' (rest) from 0 to 40 s of events.tsv",
        "recordings.tsv line 4, S03 lab: S03.csv: the file is empty",
        "events.tsv line 7, S02 lab: 2 of 3 labelled intervals lie wholly beyond its signals",
    ]
    faults = faults_of(study)
    assert len(faults) == len(begins)
    for fault, begin in zip(faults, begins, strict=True):
        assert fault.startswith(begin), fault


def test_what_windows_lose_is_said_beside_other_faults(study: Path) -> None:
    (study / "data" / "S03.csv").write_text("")
    faults = faults_of(study, "--set", "windows.length_seconds=60")
    assert faults[0].startswith("recordings.tsv line 4, S03 lab: S03.csv: the file is empty")
    assert [fault.partition(" of task")[0] for fault in faults[1:]] == [
        f"windows of 60 s are longer than every labelled stretch of class {name!r}" for name in ("rest", "work")
    ]


def test_a_label_of_a_class_that_no_window_fits_is_named_with_task_and_class(study: Path, tmp_path: Path) -> None:
    each_line(study, "events", lambda line: re.sub(r"\t40\tidle$", "\t15\tidle", line))
    lost = (
        "windows of 20 s are longer than every stretch of the label 'idle', which last at most 15 s: class 'rest' of "
        "task 't' has windows of its other labels alone"
    )
    longer = ("--set", "windows.length_seconds=20")
    result = run("check", study, "--json", *longer)
    assert result.exit_code == 0 and lost in json.loads(result.stdout)["notes"]
    assert not [note for note in notes_of(study) if "longer than every stretch" in note]  # of windows that follow
    prepared = run("prepare", study, "-o", tmp_path / "x.h5", "--subjects", "S02", *longer)
    assert f"warning: {lost}" in " ".join(prepared.stderr.split())


def test_prepare_counts_what_tasks_use_and_names_what_they_ignore(study: Path, tmp_path: Path) -> None:
    change(study, "study.yaml", "[calm], work: [count]}, ignore: [idle]}}", "[calm, idle], work: [count]}}}")
    for status in ("prepared", "reused"):
        windows = ("--set", "windows.length_seconds=20", "--set", "windows.step_seconds=10")
        result = run("prepare", study, "-o", tmp_path / "x.h5", "--json", *windows)
        document = json.loads(result.stdout)
        assert document["recordings"][status] == 4
        assert document["left_out"] == {"the label 'idle' is in no task": 4 * 3}
        with (tmp_path / "x.log.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        assert [row["windows_labelled"] for row in rows] == ["6"] * 4
        assert rows[0]["left_out"] == "the label 'idle' is in no task: 3"


def test_the_plan_is_of_those_who_are_used(study: Path, tmp_path: Path) -> None:
    each_line(study, "events", lambda line: re.sub(r"\t40\t(?=\w+$)", "\t6\t", line) if "S01" in line else line)
    for given, length in (((), 5.0), (("--exclude-subjects", "S01"), 30.0)):
        result = run("prepare", study, "-o", tmp_path / f"{len(given)}.h5", *given)
        assert result.exit_code == 0, result.output
        plan = json.loads((tmp_path / f"{len(given)}.plan.json").read_text())
        assert plan["study"]["n_subjects"] == (3 if given else 4)
        lengths = [row["value"] for row in plan["lines"] if row["setting"] == "windows.length_seconds"]
        assert lengths == [length]


@pytest.mark.parametrize("option", ["--subjects", "--exclude-subjects"])
@pytest.mark.parametrize("command", ["features", "quality", "prepare", "cross-validate", "pretrain"])
def test_a_person_written_a_little_otherwise_is_suggested(
    command: str, option: str, study: Path, made: ModuleType, tmp_path: Path
) -> None:
    of_store = command in ("cross-validate", "pretrain")
    source = made.store(tmp_path / "made.h5", made.study(3)) if of_store else study  # people P01 to P03
    result = run(command, source, "-o", tmp_path / "out", option, "p3" if of_store else "s3")
    assert str(result.exception).endswith(f"did you mean {'P03' if of_store else 'S03'}?")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--model", "Logistic"), "logistic"),
        (("--model", "perceiver_io"), "perceiver-io"),
        (("--task", "Stress"), "stress"),
        (("--split", "kfold"), "k-fold"),
        (("--config", "General"), "general"),
        (("--normalisation", "Causal"), "causal"),
        (("--set", "training.n_epoch=3"), "training.n_epochs"),
        (("--set", "Evaluation.n_folds=3"), "evaluation"),
        (("--set", "n_epochs=3"), "training.n_epochs"),
    ],
    ids=" ".join,
)
def test_a_word_written_a_little_otherwise_is_suggested(
    words: tuple[str, str], meant: str, made: ModuleType, tmp_path: Path
) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    model = () if "--model" in words else ("--model", "logistic")
    result = run("cross-validate", store, "-o", tmp_path / "cv", *model, *words)
    sentence = str(result.exception)
    assert sentence.endswith(f"; did you mean {meant}?")
    assert not (tmp_path / "cv").exists()


def test_check_sees_recordings_that_nothing_can_be_cut_of(study: Path) -> None:
    write_csv(study / "data" / "S02.csv", 1, seconds=4)
    change(study, "events.tsv", "", "S02\tlab\t0\t40\tcalm\nS02\tlab\t40\t40\tcount\nS02\tlab\t80\t40\tidle\n")
    (study / "data" / "S03.csv").write_bytes(b"")
    (study / "data" / "S04.csv").write_text("EDA (uS)\n1\n2\n")
    (study / "data" / "S01.csv").rename(study / "data" / "S01.edf")
    change(study, "recordings.tsv", "S01.edf", "S01.csv")
    no_edf, empty, no_rate, too_short = faults_of(study)
    assert too_short.startswith("recordings.tsv line 3, S02 lab: it lasts 4 s, and one window has")
    assert no_edf.startswith("recordings.tsv line 2, S01 lab: S01.edf: named .edf but does not begin as EDF or BDF")
    assert empty == "recordings.tsv line 4, S03 lab: S03.csv: the file is empty (0 bytes)"
    assert no_rate.startswith(
        "recordings.tsv line 5, S04 lab: S04.csv: no time column ('time' in seconds or 'timestamp')"
    )
    change(study, "recordings.tsv", "S01.csv", "S01.edf")
    write_csv(study / "data" / "S01.csv", 0)
    write_csv(study / "data" / "S03.csv", 2)
    write_csv(study / "data" / "S04.csv", 3)
    (short,) = faults_of(study)
    assert re.fullmatch(
        r"recordings\.tsv line 3, S02 lab: it lasts 4 s, and one window has \d+ s: nothing could be cut of it; leave "
        r"it out, or set windows\.length_seconds below that",
        short,
    )
    assert faults_of(study, "--recordings") == [short]
    assert faults_of(study, "--set", "windows.length_seconds=3", "--set", "windows.step_seconds=1") == []


def test_prepare_says_that_nothing_is_labelled(study: Path, tmp_path: Path) -> None:
    (study / "events.tsv").unlink()
    result = run("prepare", study, "-o", tmp_path / "x.h5", "--subjects", "S01")
    assert result.exit_code == 0, result.output
    assert "warning: events.tsv is missing, and recordings.tsv has no column condition" in result.stderr


def test_models_are_suggested_whatever_their_case(tmp_path: Path) -> None:
    result = run("predict", "Stress_wrist", tmp_path, "-o", tmp_path / "out")
    assert str(result.exception).endswith("did you mean stress-wrist?")


def test_check_says_that_one_person_cannot_be_left_out(study: Path) -> None:
    for table in TABLES:
        path = study / f"{table}.tsv"
        path.write_text("".join(f"{x}\n" for x in path.read_text().splitlines() if x.startswith(("part", "S01"))))
    assert any("one person has labels, so nobody can be left out" in note for note in notes_of(study))


def described(folder: Path) -> Path:
    """Return a recording whose sidecar says what it is."""
    write_csv(folder / "wrist.csv", 5, head="EDA")
    (folder / "wrist.json").write_text(json.dumps({"SamplingFrequency": 4, "EDA": {"Units": "uS"}}))
    return folder / "wrist.csv"


@pytest.mark.parametrize("command", ["inspect", "features", "quality", "predict"])
def test_a_pattern_that_matches_sidecars_is_taken_for_the_recordings(command: str, study: Path, tmp_path: Path) -> None:
    table = described(study / "data")
    sidecar = table.with_suffix(".json")
    model = ("stress-wrist",) if command == "predict" else ()
    output = () if command == "inspect" else ("-o", tmp_path / "out")
    rows = ("--whole",) if command == "features" else ()
    result = run(command, *model, sidecar, table, *output, *rows)
    assert result.exit_code == 0, result.output
    alone = run(command, *model, sidecar, *output, *rows, *(("--overwrite",) if output else ()))
    assert alone.exit_code == 1
    assert "wrist.json: describes a recording, and is none; name its recording, wrist.csv" in alone.stderr


@pytest.mark.parametrize("command", ["inspect", "features", "predict"])
def test_tables_and_stores_are_no_recordings(command: str, study: Path, made: ModuleType, tmp_path: Path) -> None:
    model = ("stress-wrist",) if command == "predict" else ()
    output = () if command == "inspect" else ("-o", tmp_path / "out")
    result = run(command, *model, study / "events.tsv", *output)
    assert str(result.exception) == (
        f"{study / 'events.tsv'} is a table of a study and no recording; give the folder {study}"
    )
    store = made.store(tmp_path / "made.h5", made.study(3))
    result = run(command, *model, store, *output)
    assert result.exit_code == 1
    assert "made.h5: a store that prepare wrote, and no recording; give its study's folder" in " ".join(
        result.stderr.split()
    )


def test_a_file_of_a_study_given_for_the_study_is_answered_with_its_folder(study: Path) -> None:
    assert faults_of(study / "study.yaml")[0].endswith(f"give its folder, {study}")


def test_inspect_shows_a_study_in_which_a_label_is_wrong(study: Path) -> None:
    change(study, "events.tsv", "cuont", "count")
    result = run("inspect", study)
    assert result.exit_code == 1
    assert "the label 'cuont' (4 recordings, first events.tsv line 3) is under no class of task 't'" in result.stderr
    assert all(name in result.stdout for name in PEOPLE)
    assert "cuont (1x, 40 s)" in result.stdout


def test_what_is_too_short_for_a_model_is_not_answered_with_a_setting_of_prepare(tmp_path: Path) -> None:
    write_csv(tmp_path / "short.csv", 1, seconds=20)
    result = run("predict", "stress-wrist", tmp_path / "short.csv", "-o", tmp_path / "out")
    assert result.exit_code == 1
    sentence = (tmp_path / "out" / "failures.csv").read_text()
    assert "short is too short: 20.0 s where one window has 120 s; the model was fitted on windows of that" in sentence
    assert "windows.length_seconds" not in result.stderr + sentence


def test_settings_that_change_nothing_are_refused(made: ModuleType, tmp_path: Path) -> None:
    store = made.store(tmp_path / "made.h5", made.study(3))
    start = ("--subject", "0", "--start-from", "stress-wrist")
    for command, words, sentence in (
        ("cross-validate", ("--folds", "3"), "reads evaluation.n_folds only where evaluation.split is k-fold"),
        ("cross-validate", ("--set", "windows.length_seconds=30"), "and the store was prepared with 20.0"),
        ("train", (*start, "--set", "training.n_epochs=3"), "train reads training.n_epochs only where"),
    ):
        result = run(command, store, "-o", tmp_path / "out", *words)
        assert sentence in str(result.exception), (command, words)
