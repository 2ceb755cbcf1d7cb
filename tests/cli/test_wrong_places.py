"""Words that stand in each other's place, and options and models that are looked for in the wrong command."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app

ROWS = "\n".join(["time,zzz", *(f"{i / 10},{i % 7}" for i in range(900))])


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    path = tmp_path / "one.csv"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize("command", ["predict", "explain", "reconstruct", "evaluate"])
@pytest.mark.parametrize("is_shipped", [True, False])
def test_a_model_behind_what_it_is_applied_to_is_told_its_place(
    command: str, is_shipped: bool, lone: Path, tmp_path: Path
) -> None:
    model: str | Path = "stress-wrist"
    if not is_shipped:
        model = tmp_path / "model"
        model.mkdir()
        (model / "model.json").write_text("{}")
    result = run(command, lone, model, "-o", tmp_path / "out")
    assert str(result.exception) == (
        f"{model} is a model and {lone} is none: the model comes first, as in biopercept {command} {model} {lone} -o "
        "DIR"
    )
    assert not (tmp_path / "out").exists()


def test_without_any_model_that_is_what_is_said(lone: Path, tmp_path: Path) -> None:
    result = run("predict", lone, lone, "-o", tmp_path / "out")
    assert "is not a model: it has no model.json" in str(result.exception)


@pytest.mark.parametrize("name", ["logistic", "ridge", "perceiver-io"])
def test_a_kind_of_model_is_told_from_a_saved_one(name: str, lone: Path, tmp_path: Path) -> None:
    result = run("predict", name, lone, "-o", tmp_path / "out")
    assert str(result.exception).startswith(
        f"{name!r} is a kind of model, which 'cross-validate --model {name}' fits and scores; here a saved one is "
        "needed: a folder that train wrote, or one of base, states-wrist, "
    )


def test_an_option_of_another_command_is_named_with_what_to_do() -> None:
    result = run("train", "x.h5", "-o", "y", "--model", "logistic")
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "No such option: --model. train fits and saves perceiver-io alone" in words
    assert "'cross-validate --model NAME' fits and scores other models" in words
    words = " ".join(run("report", "x", "--every", "3").stderr.split())
    assert "No such option: --every. It is an option of predict, live, and not of report." in words
    assert "It is an option" not in run("report", "x", "--nonsense").stderr


def test_advice_on_a_channel_of_a_lone_file_needs_no_study(lone: Path) -> None:
    result = run("inspect", lone, "--json")
    assert result.exit_code == 0, result.output
    assert "of a file alone with --signals FILE, in a study under 'signals' in study.yaml" in result.stdout


def test_compare_says_what_leads_to_a_comparison(lone: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text("name: x\n")
    scores = tmp_path / "scores" / "a"
    scores.mkdir(parents=True)
    (scores / "scores.json").write_text("{}")
    for given, words in (
        (tmp_path / "s.h5", "no such folder; give folders that cross-validate wrote"),
        (lone, f"of a store each model has one: biopercept cross-validate {lone} -o scores/NAME --model NAME"),
        (study, f"is a study, and compare reads folders that cross-validate wrote; first biopercept prepare {study}"),
        ("stress-wrist", "'biopercept evaluate stress-wrist DATA -o DIR' scores it"),
        ("logistic", "first biopercept cross-validate STORE -o scores/logistic --model logistic"),
        (scores / "scores.json", f"is a file of results; give its folder, {scores}"),
    ):
        result = run("compare", given, "-o", tmp_path / "out")
        assert words in str(result.exception)
        assert not (tmp_path / "out").exists()
    assert "is what is read" in str(run("compare", scores, "-o", scores, "--overwrite").exception)
    words = " ".join(run("compare", scores, "-o", tmp_path / "out", "--model", "lda").stderr.split())
    assert "No such option: --model. compare reads folders of scores;" in words


def test_init_says_which_comes_first_and_what_is_no_recording(lone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "S01.csv").write_text(ROWS.replace("zzz", "EDA (uS)"))
    study = tmp_path / "study"
    result = run("init", folder, study)
    assert str(result.exception) == (
        f"{study} is not there, and {folder} holds 1 recording; the study's folder comes first, as in biopercept init "
        f"{study} {folder}"
    )
    assert f"{lone} is a file; the study's folder comes first" in str(run("init", lone, study).exception)
    assert "a study is a folder of files" in str(run("init", tmp_path / "study.tsv", folder).exception)
    words = " ".join(run("init", study, folder, "-o", study).stderr.split())
    assert "No such option: -o. The study's folder is the first word" in words
    assert "did you mean participant?" in str(run("init", study, folder, "--pattern", "{subject}.csv").exception)
    assert not study.exists()
    assert run("init", study, folder).exit_code == 0
    assert f"{study} is a study already" in str(run("init", tmp_path / "second", study).exception)
    (tmp_path / "s.log.csv").write_text("participant_id,session,recording,status,\n")
    assert "written by prepare" in str(run("init", tmp_path / "second", tmp_path / "s.log.csv").exception)
    assert not (tmp_path / "second").exists()


def test_deidentify_refuses_results(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text("participant_id\n")
    (tmp_path / "S01__r_predictions.json").write_text("{}")
    (tmp_path / "S01__r_annotations.edf").write_bytes(b"0       ")
    for path in (tmp_path, tmp_path / "S01__r_annotations.edf"):
        result = run("deidentify", path, "-o", tmp_path.parent / "clean")
        assert str(result.exception).startswith(f"{path}: written by predict, and no recordings;")
        assert not (tmp_path.parent / "clean").exists()
