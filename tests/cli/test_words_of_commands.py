"""Words of a command line that lead nowhere, contradict each other or would not be read, and how they are answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

SIGNAL = "\n".join(f"{i / 4},{1 + i % 7 / 10},{30 + i % 5 / 10}" for i in range(800))


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def sentence(*words: object) -> str:
    """Return what a command says to a mistake of the user's, which is no fault of ours."""
    result = run(*words)
    assert result.exception is not None and result.exit_code != 0, result.output
    if isinstance(result.exception, SystemExit):
        assert result.exit_code in (1, 2)
        return " ".join((result.stdout + result.stderr).split()).removeprefix("biopercept: ")
    assert type(result.exception).__module__.startswith("biopercept."), repr(result.exception)
    return str(result.exception)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a table whose signal ``eda`` has no unit, and a study of it."""
    monkeypatch.chdir(tmp_path)
    Path("one.csv").write_text(f"time,eda,temp (degC)\n{SIGNAL}\n")
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text("name: study\ntasks: {t: {classes: {rest: [calm], work: [count]}}}\n")
    (study / "participants.tsv").write_text("participant_id\tsex\nS01\tF\nS02\tM\n")
    (study / "recordings.tsv").write_text(
        "participant_id\trecording\tpath\n"
        + "".join(
            f"{who}\t{tmp_path}/{name}.csv\n"
            for who, name in (("S01\tlab", "one"), ("S02\tlab", "two"), ("S02\thome", "three"))
        )
    )
    for number, name in enumerate(("two", "three"), 2):
        Path(f"{name}.csv").write_text(f"time,eda,temp (degC)\n{SIGNAL.replace(',1', f',{number}')}\n")
    (study / "events.tsv").write_text(
        "participant_id\trecording\tonset\tduration\ttrial_type\n"
        + "".join(f"S0{n}\tlab\t{t}\t60\t{w}\n" for n in (1, 2) for t, w in ((0, "calm"), (70, "count")))
    )
    return tmp_path


@pytest.fixture
def store(made: ModuleType, work: Path) -> str:
    made.store(work / "made.h5", made.study(4))
    return "made.h5"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("check", "study", "-c", ""), "--config"),
        (("check", ""), "STUDY"),
        (("inspect", "one.csv", ""), "PATH..."),
        (("predict", "stress-wrist", "one.csv", "-o", ""), "--output"),
        (("init", "new", "one.csv", "--pattern", ""), "--pattern"),
        (("correct", "one.csv", "--bad-channel", "temp", "--bad-channel", ""), "--bad-channel"),
        (("config", "show", ""), "NAME|FILE"),
    ],
)
def test_an_empty_word_is_refused_by_name(words: tuple[str, ...], name: str, work: Path) -> None:
    assert sentence(*words).startswith(f"{name} is empty; give a value")
    assert not (work / "one_corrections.tsv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "a.h5", "-o", "b", "--output", "c"), "--output is given with 2 values (b, c); give one"),
        (("train", "a.h5", "-o", "b", "--seed=1", "--seed", "2"), "--seed is given with 2 values (2, 1); give one"),
        (
            ("train", "a.h5", "-o", "b", "--set", "model.width=8", "--set", "model.width=16"),
            "--set gives model.width two values, 8 and 16; give one",
        ),
        (
            ("inspect", "one.csv", "--unit", "eda=uS", "--unit", "eda=mS"),
            "--unit gives eda two units, uS and mS; give one",
        ),
    ],
)
def test_two_values_of_one_thing_are_refused(words: tuple[str, ...], said: str, work: Path) -> None:
    assert sentence(*words) == said


def test_the_same_value_twice_is_no_contradiction(work: Path) -> None:
    assert run("inspect", "one.csv", "--unit", "eda=uS", "--unit", "eda=uS").exit_code == 0
    assert "there is no store a.h5" in sentence("train", "a.h5", "-o", "b", "--seed", "1", "--seed", "1")


def test_an_option_and_a_setting_that_contradict_each_other_are_refused(store: str) -> None:
    words = ("train", store, "-o", "out", "--normalisation", "causal", "--set", "normalisation.mode=global")
    assert sentence(*words) == (
        "--normalisation gives normalisation.mode the value causal, and --set gives it global; give one"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--split", "kfold"), "--split is 'kfold'; allowed are subject, k-fold, study, time; did you mean k-fold?"),
        (("--folds", 3), "--folds 3: cross-validate reads evaluation.n_folds only where evaluation.split is k-fold"),
        (("--stratify",), "--stratify balances the folds of k-fold; evaluation.split is 'subject'"),
        (("--label-share", 2), "--label-share is 2.0; it must be above 0 and at most 1"),
        (("--normalisation", "globl"), "--normalisation is 'globl'; allowed are raw, global, "),
        (("--participants", "study/participants.tsv"), "--participants is read with --by COLUMN, which"),
        (("--subjects", "P01 P02"), "no recording of subject P01 P02; names are separated by commas: P01,P02"),
        (("--subjects", ","), "--subjects ',' names nobody; give names with commas between, such as S01,S02"),
        (("--set", "quality.x=1"), "--set quality.x=1: the section 'quality' is unknown; known are windows, "),
        (("--by", "sex", "--participants", "made.h5"), "made.h5 is no text file"),
    ],
)  # fmt: skip
def test_options_are_called_as_they_were_typed(words: tuple[object, ...], said: str, store: str) -> None:
    assert sentence("cross-validate", store, "-o", "out", "--model", "dummy", *words).startswith(said)


def test_people_without_a_group_are_named_before_anything_is_fitted(store: str) -> None:
    groups = ("--by", "sex", "--participants", "study/participants.tsv")
    result = run("cross-validate", store, "-o", "out", "--model", "dummy", *groups)
    assert str(result.exception) == (
        "participants.tsv does not list P01, P02, P03, P04, whose group --by sex needs; add them there, or leave them "
        "out with --exclude-subjects"
    )
    assert not Path("out").exists() and "fold P01 done" not in result.stderr


def test_a_saved_model_is_told_from_a_kind_of_model(store: str) -> None:
    words = sentence("cross-validate", store, "-o", "out", "--model", "stress-wrist")
    assert words.endswith("; stress-wrist is a saved model, which evaluate scores on people whom it has not seen, and "
                          "--start-from begins with")  # fmt: skip


def test_what_a_command_never_reads_is_the_mistake_whatever_its_value(work: Path) -> None:
    words = sentence("prepare", "study", "-o", "s.h5", "--set", "model.width=3")
    assert words.startswith("--set model.width=3: prepare does not read model.width, which is for ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jobs", "1.5"), "'1.5': a whole number is needed."),
        (("--jobs", "0"), "'0': at least 1 is needed."),
        (("--window", "long"), "'long': a number is needed."),
    ],
)
def test_numbers_are_answered_with_what_was_given_and_what_is_needed(
    words: tuple[str, str], said: str, work: Path
) -> None:
    assert f"Invalid value for '{words[0]}'" in (answer := sentence("features", "one.csv", "-o", "out", *words))
    assert answer.endswith(said)


@pytest.mark.parametrize("option", ["--window", "--step"])
def test_a_length_that_an_option_and_a_setting_give_is_refused(option: str, work: Path) -> None:
    setting = {"--window": "windows.length_seconds", "--step": "windows.step_seconds"}[option]
    words = sentence("features", "one.csv", "-o", "out", option, "20", "--set", f"{setting}=30")
    assert words == f"{option} gives {setting} the value 20.0, and --set gives it 30; give one"


@pytest.mark.parametrize("option", ["--window", "--step"])
def test_a_length_is_called_by_its_option(option: str, work: Path) -> None:
    assert sentence("features", "one.csv", "-o", "out", option, "0") == (
        f"{option} is 0; it must be a number of seconds above 0"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inspect onee.csv", "onee.csv: no such file or folder; did you mean one.csv?"),
        ("inspect one.cvs", "one.cvs: no such file or folder; did you mean one.csv?"),
        ("init new onee.csv", "onee.csv: no such file or folder; did you mean one.csv?"),
        ("correct onee.csv --list", "onee.csv: no such file or folder; did you mean one.csv?"),
        ("deidentify onee.csv -o new", "onee.csv: no such file or folder; did you mean one.csv?"),
        ("inspect stdy/x.csv", "stdy/x.csv: no such file or folder"),
        ("inspect S05.edf", "S05.edf: no such file or folder"),  # S04.edf is of somebody else
        ("inspect one.csv --signals study/stdy.yaml", "no file study/stdy.yaml; did you mean study/study.yaml?"),
        ("check stuyd", "there is no folder stuyd; a study folder or a BIDS data set is needed; did you mean study?"),
        ("prepare stud -o s.h5", "a study folder or a BIDS data set is needed; did you mean study?"),
        ("import eegmat stdy -o out", "there is no folder or .zip stdy; did you mean study?"),
        ("train mode.h5 -o out", "there is no store mode.h5; did you mean made.h5?"),
        ("train study -o out", "is a study; prepare it first, with 'biopercept prepare study -o study.h5'"),
        ("evaluate stress-wrist stdy -o out", "neither a study folder nor a store stdy; did you mean study?"),
        ("report stdy", "cross-validate, predict or demo has written; did you mean study?"),
        ("report made.h5", "predict or demo has written (a store is added with --with)"),
        ("compare stdy study -o out", "that cross-validate wrote, or a parent of several; did you mean study?"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_answered_with_what_lies_there(words: str, said: str, store: str) -> None:
    Path("S04.edf").touch()
    assert sentence(*words.split()).removesuffix(" 1 fault in stuyd").endswith(said)


def test_a_name_without_a_folder_is_answered_with_models_and_folders(work: Path) -> None:
    (work / "mymodel").mkdir()
    assert sentence("predict", "mymodle", "one.csv", "-o", "out").endswith("; did you mean mymodel?")
    assert sentence("predict", "stress-wirst", "one.csv", "-o", "out").endswith("; did you mean stress-wrist?")


@pytest.mark.parametrize("command", ["features", "quality", "predict", "explain", "view"])
def test_a_recording_that_fails_is_named_once(command: str, work: Path) -> None:
    model = ("stress-wrist",) if command in ("predict", "explain") else ()
    output = ("--html", "out.html") if command == "view" else ("-o", "out")
    result = run(command, *model, "absent.csv", *output)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "absent.csv: no such file or folder"
    assert not result.stdout  # no page of nothing is named
    assert command == "quality" or not list(work.glob("out/*.html"))  # which shows what failed


def test_a_signal_that_is_not_used_is_said_with_the_reason(work: Path) -> None:
    reason = (
        "warning: eda: left out, its unit is not given and electrodermal activity needs 'uS' (say its unit: of a file "
        "alone with --unit NAME=UNIT, in a study under 'signals' in study.yaml)"
    )
    result = run("features", "one.csv", "-o", "one")
    assert reason in result.stderr.splitlines()
    result = run("features", "one.csv", "two.csv", "-o", "both")
    assert f"{reason} (in 2 of 2 recordings)" in result.stderr.splitlines()
    assert "left out" not in run("features", "one.csv", "-o", "right", "--unit", "eda=uS").stderr
    result = run("predict", "stress-wrist", "one.csv", "-o", "predicted")
    assert reason in result.stderr.splitlines()
    assert (
        "not in the recording, or not usable there, and the model was trained with it: acc, bvp, eda" in result.stderr
    )
    result = run("prepare", "study", "-o", "s.h5", "--set", "windows.length_seconds=20")
    assert f"{reason} (in 3 of 3 recordings)" in result.stderr.splitlines()


def test_windows_that_no_task_uses_are_counted_with_their_unit(work: Path) -> None:
    text = (
        (work / "study" / "study.yaml")
        .read_text()
        .replace("work: [count]", "work: [other]")
        .replace("}}}", "}, ignore: [count]}}")
    )
    (work / "study" / "study.yaml").write_text(text)  # fmt: skip
    lines = run("prepare", "study", "-o", "s.h5", "--set", "windows.length_seconds=20").stdout.splitlines()
    assert any(re.fullmatch(r"left out: the label 'count' is in no task: \d+ windows", line) for line in lines)


def test_a_study_without_labels_is_said_to_be_one(work: Path) -> None:
    (work / "study" / "events.tsv").unlink()
    (work / "study" / "study.yaml").write_text("name: study\n")
    notes = json.loads(run("check", "study", "--json").stdout)["notes"]
    assert (
        "study has no labels and its study.yaml names no task: it can be looked at and measured, and nothing can be "
        "scored or learnt until it has both (events.tsv or conditions, and tasks in study.yaml)"
    ) in notes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--subject S1 --list", "--subject: the study has no subject S1; there are: S01, S02; did you mean S01?"),
        ("--subject S01 --recording hom --list", "--recording: the study has no recording hom; there are: lab"),
        ("--subject S01 --session x --list", "--session: the study has no session x; there are none"),
        ("--subject S02 --list", "2 recordings are meant, and one is corrected at a time; choose it with --subject, "),
        ("--list --undo", "--list and --undo cannot be done in one go; give one of them"),
        ("--list --bad 1:2", "--list and a correction cannot be done in one go; give one of them"),
    ],
)
def test_correct_says_which_of_its_words_is_wrong(words: str, said: str, work: Path) -> None:
    assert sentence("correct", "study", *words.split()).startswith(said)


def test_init_takes_a_file_once_and_sees_half_a_brace(work: Path) -> None:
    assert run("init", "new", "one.csv", "./one.csv").stdout.count("1 participant, 1 recording, 1 file") == 1
    assert sentence("init", "other", "one.csv", "--pattern", "{participant") == (
        "the pattern '{participant' has a { without its other half"
    )


def test_a_recording_named_twice_is_measured_once(work: Path) -> None:
    result = run("features", "one.csv", "./one.csv", "-o", "out", "--unit", "eda=uS", "--json")
    assert json.loads(result.stdout)["n_recordings"] == 1


def test_import_says_which_word_comes_first_and_writes_into_no_source(work: Path) -> None:
    assert sentence("import", "study", "eegmat", "-o", "out") == (
        "the name comes first, as in biopercept import eegmat study -o out"
    )
    (work / "source").mkdir()
    words = ("import", "eegmat", "source", "-o", "source", "--overwrite")
    assert sentence(*words) == "source is what is read; choose another output"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "live stress-wrist one.csv -o out",
            "(one.csv). A recording is given with --replay FILE, streams with --stream",
        ),
        ("live one.csv --replay stress-wrist -o out", "as in biopercept live stress-wrist --replay one.csv -o DIR"),
        (
            "live stress-wrist --replay study -o out",
            "--replay study is a study; give the file of one of its recordings",
        ),
        ("explain stress-wrist one.csv -o out --class stres", "it has: stress: rest, stress; did you mean stress?"),
        ("explain stress-wrist one.csv -o out --task sterss", "'sterss'; name one of these; did you mean stress?"),
        ("predict stress-wrist one.csv -o out --adapt pst", "allowed are none, past, all; did you mean past?"),
        ("config stress-wrist", "'biopercept config show stress-wrist' shows the settings of a preset or a file."),
        ("check study -c big.h5", "settings: big.h5 is no text file"),
        ("train made.h5 -o out --subject P01,P02", "one person is needed; --subjects trains a model of several"),
        ("train made.h5 -o out --subject P01 --exclude-subjects P02", "--exclude-subjects can leave nobody out"),
        (
            "learning-curve made.h5 -o out --split time --model logistic",
            "is evaluation.earlier_share of cross-validate",
        ),
        ("personalise made.h5 -o out --split study", "personalise deals subjects into folds; set evaluation.split to"),
        ("audit made.h5 -o out --model-scores scores", "give what cross-validate wrote, one of: scores/logistic"),
        ("audit made.h5 -o out --device tpu", "device is 'tpu'; allowed are auto, cpu, cuda and cuda:N"),
        ("view made.h5 --html out --subjects P1", "there are: P01, P02, P03, P04; did you mean P01?"),
        ("view study --html out.html --recording hme", "did you mean home?"),
        ("inspect empty", "empty: there is no file in the folder"),
        ("deidentify nothing.edf -o new.edf", "nothing.edf: the file is empty (0 bytes)"),
    ],
)
def test_a_slip_is_answered_where_it_was_made(words: str, said: str, store: str) -> None:
    Path("big.h5").write_bytes(bytes(2 << 20))
    Path("empty").mkdir()
    Path("nothing.edf").touch()
    Path("scores/logistic").mkdir(parents=True)
    Path("scores/logistic/scores.json").touch()
    assert said in sentence(*words.split())


def test_a_preset_says_what_a_store_has_in_its_place(store: str) -> None:
    result = run("config", "show", "stress-wrist", "--store", store)
    assert result.exit_code == 0
    assert "warning: made.h5 was prepared with windows.length_seconds=20" in result.stderr


def test_annotations_that_are_kept_are_like_something(work: Path) -> None:
    edfio = pytest.importorskip("edfio")
    signal = edfio.EdfSignal(np.arange(256.0) % 7, 64, label="ECG", physical_range=(-10, 10))
    edfio.Edf([signal], annotations=[edfio.EdfAnnotation(1, None, "Sleep stage W")]).write(work / "a.edf")
    warning = "warning: no annotation is like what --keep names, and none is kept"
    assert warning in run("deidentify", "a.edf", "-o", "b.edf", "--keep", "sleep").stderr
    assert warning not in run("deidentify", "a.edf", "-o", "c.edf", "--keep", "sleep*").stderr


def test_the_audit_says_what_each_score_is_of(store: str) -> None:
    result = run("audit", store, "-o", "out", "--set", "audit.n_permutations=20")
    assert result.exit_code == 0, result.output
    header = next(line for line in result.stdout.splitlines() if "Verdict" in line)
    assert header.split()[-2:] == ["Score", "of"] and "balanced accuracy" in result.stdout


def test_train_says_what_it_wrote(store: str) -> None:
    quick = [word for one in ("training.n_epochs=1", "model.width=8", "model.n_latents=2") for word in ("--set", one)]
    result = run("train", store, "-o", "out", *quick)
    assert result.exit_code == 0, result.output
    assert result.stdout == "out\n" and "written; model.json and card.md in it say what it is:" in result.stderr
