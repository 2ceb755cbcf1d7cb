"""What follows from the data is shown before anything runs, is the default, is written, and gives way to the user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from made_tables import people, write_study
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.config.loading import load_config_for
from biopercept.config.settings import Purpose
from biopercept.errors import SettingsError
from biopercept.results.plan import SettingsPlan
from biopercept.results.reading import read_result
from biopercept.store.reading import open_store

MODE = "normalisation.mode"
SMALL = [word for text in ("training.n_epochs=1", "model.width=8", "model.n_latents=2", "model.n_heads=1")
         for word in ("--set", text)]  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("plan") / "study", people(4, ("rest", 100), ("task", 70), ("rest", 70)))


@pytest.fixture(scope="module")
def store(study: Path) -> Path:
    prepared = study.parent / "study.h5"
    outcome = run("prepare", study, "-o", prepared)
    assert outcome.exit_code == 0, outcome.output
    assert "windows.length_seconds  30" in outcome.stderr
    assert "tokens.raw" not in outcome.stderr  # prepare does not read it
    return prepared


def test_check_shows_the_plan_and_its_reasons_before_anything_runs(study: Path) -> None:
    shown = run("check", study)
    assert shown.exit_code == 0, shown.output
    [line] = [line for line in shown.stdout.splitlines() if "windows.length_seconds" in line]
    assert line.split(None, 2)[:2] == ["windows.length_seconds", "30"]
    assert line.endswith("60 s would leave most people 1 window of 'task' that share nothing")
    assert "note: task 't': all people had one order (rest, task, rest)" in shown.stdout
    document = json.loads(run("check", study, "--json").stdout)
    assert document["plan"]["lines"][0]["setting"] == "windows.length_seconds"
    assert document["plan"]["study"]["n_subjects"] == 4


def test_check_says_what_cannot_work_with_the_settings_given(study: Path) -> None:
    for given, seconds in ((("--set", "windows.length_seconds=80"), 80), (("-c", "stress-wrist"), 120)):
        outcome = run("check", study, *given)
        assert outcome.exit_code == 2
        assert (
            f"fault: windows of {seconds} s are longer than every labelled stretch of class 'task' of task 't', which "
            "last at most 70 s: none would be cut; set windows.length_seconds below that"
        ) in outcome.stdout
        assert ("settings that follow from the data" in outcome.stdout) == ("-c" not in given)  # a preset has no plan
    assert run("check", study, "-c", "workload-eeg").exit_code == 0


def test_the_plan_of_one_persons_model_counts_that_person(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Purpose] = []

    def load(stores: object, name: object, changes: object, *, purposes: list[Purpose], **_: object) -> None:
        asked.extend(purposes)
        raise SettingsError("enough")

    monkeypatch.setattr("biopercept.config.loading.load_config_for", load)
    run("train", store, "-o", store.parent / "model", "--subject", "P2")
    run("train", store, "-o", store.parent / "model", "--subjects", "P1,P2")
    assert [purpose.subjects for purpose in asked] == [("P2",), ("P1", "P2")]


def test_prepare_takes_its_windows_from_the_plan_and_the_step_follows_a_length_that_is_given(
    study: Path, store: Path, tmp_path: Path
) -> None:
    with open_store(store) as opened:
        assert (opened.window_length_seconds, opened.step_seconds) == (30.0, 7.5)
    assert run("prepare", study, "-o", tmp_path / "s.h5", "--set", "windows.length_seconds=20", "-q").exit_code == 0
    with open_store(tmp_path / "s.h5") as opened:
        assert (opened.window_length_seconds, opened.step_seconds) == (20.0, 5.0)
    written = read_result(tmp_path / "s.plan.json", SettingsPlan)  # beside the log, of what prepare reads
    assert {line.setting: (line.value, line.origin) for line in written.lines} == {
        "windows.length_seconds": (20.0, "user"),
        "windows.step_seconds": (5.0, "plan"),
    }
    assert written.study.n_subjects == 4
    whole = read_result(store.with_name("study.plan.json"), SettingsPlan)  # what is planned for others is not prepare's
    assert list(whole.values) == ["windows.length_seconds", "windows.step_seconds"]
    outcome = run("prepare", study, "-o", tmp_path / "g.h5", "-c", "general")
    assert outcome.exit_code == 0
    assert "settings from the data" not in outcome.stderr
    with open_store(tmp_path / "g.h5") as opened:
        assert (opened.window_length_seconds, opened.step_seconds) == (60.0, 30.0)
    assert not (tmp_path / "g.plan.json").exists()


def test_what_follows_from_the_store_is_shown_once_and_written_beside_the_scores(store: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("tokens: {longest_seconds: 40}\n")
    words = ("--seeds", 1, "--set", "training.validation_fraction=0.4", *SMALL)
    outcome = run("cross-validate", store, "-o", tmp_path / "cv", "-c", own, *words)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stderr.count("settings from the data") == 1
    plan = read_result(tmp_path / "cv" / SettingsPlan.FILE, SettingsPlan)
    lines = {line.setting: (line.value, line.because, line.origin) for line in plan.lines}
    assert lines["windows.length_seconds"] == (30.0, "the store was prepared with it", "store")
    assert lines["tokens.raw"][0] is False
    assert lines["tokens.longest_seconds"] == (40.0, "own.yaml line 1; the plan has 60", "user")
    assert lines["training.validation_fraction"] == (
        0.4, "--set training.validation_fraction; the plan has 0", "user",
    )  # fmt: skip
    assert lines["training.n_epochs"][1:] == ("--set training.n_epochs; the plan has 96", "user")
    assert lines["evaluation.n_seeds"][0] == 1
    written = yaml.safe_load((tmp_path / "cv" / "config.yaml").read_text())
    for setting, (value, _, _) in lines.items():
        section, _, key = setting.partition(".")
        assert written[section][key] == value, setting
    assert run("report", tmp_path / "cv").exit_code == 0
    page = (tmp_path / "cv" / "report.html").read_text()
    assert "Settings that follow from the data" in page
    assert "own.yaml line 1; the plan has 60" in page


def test_a_preset_has_no_plan_and_a_later_run_leaves_none_of_an_earlier_one(store: Path, tmp_path: Path) -> None:
    words = ("--model", "logistic", "-o", tmp_path / "cv")
    assert run("cross-validate", store, *words).exit_code == 0
    assert (tmp_path / "cv" / "plan.json").is_file()
    outcome = run("cross-validate", store, *words, "-c", "general", "--overwrite")
    assert "settings from the data" not in outcome.stderr
    assert not (tmp_path / "cv" / "plan.json").exists()


def test_a_run_that_goes_on_with_the_same_settings_of_a_file_leaves_no_plan(store: Path, tmp_path: Path) -> None:
    words = ("-o", tmp_path / "cv", "--seeds", 1, *SMALL)
    config, _ = load_config_for(store)
    assert run("cross-validate", store, *words).exit_code == 0
    fixed = tmp_path / "fixed.yaml"
    sections = yaml.safe_load(config.text)
    del sections["biopercept"]
    fixed.write_text(yaml.safe_dump({"preset": "general", **{s: sections[s] for s in ("tokens", "model", "training")}}))
    outcome = run("cross-validate", store, *words, "-c", fixed)
    assert outcome.exit_code == 0, outcome.output
    assert "was done before" in outcome.stderr
    assert not (tmp_path / "cv" / "plan.json").exists()


def test_the_card_of_a_model_says_why_its_settings_are_what_they_are(store: Path, tmp_path: Path) -> None:
    outcome = run("train", store, "-o", tmp_path / "model", *SMALL)
    assert outcome.exit_code == 0, outcome.output
    card = (tmp_path / "model" / "card.md").read_text()
    assert "- tokens.raw = false: raw samples of eda, temp carry nothing beyond their series and features" in card
    assert "evaluation.n_seeds" not in card  # train makes one network
    assert "- licence of the data of made: not stated (licence: in study.yaml)" in card


def test_the_plan_of_a_store_is_shown_as_settings_and_auto_without_data_is_refused(store: Path) -> None:
    shown = run("config", "show", "--store", store)
    assert yaml.safe_load(shown.stdout)["tokens"]["raw"] is False
    assert yaml.safe_load(run("config", "show").stdout)["tokens"]["raw"] is True  # general
    refused = run("config", "show", "auto")
    assert isinstance(refused.exception, SettingsError)
    assert str(refused.exception).startswith(
        "the settings 'auto' follow from a study or a store, and here is neither ("
    )
    assert run("config", "list").stdout.startswith("auto ")


def test_a_planned_linear_branch_goes_with_the_features_and_one_that_is_asked_for_does_not(store: Path) -> None:
    without = ("tokens.features=false", "tokens.raw=true")
    config, _ = load_config_for(store, None, without)
    assert config.model.conv_branch and not config.model.linear_branch
    line = next(line for line in config.plan.lines if line.setting == "model.linear_branch")
    assert (line.value, line.because) == (False, "--set tokens.features; the plan has true")
    assert load_config_for(store, None, (*without, "model.linear_branch=true"))[0].model.linear_branch
    assert load_config_for(store)[0].model.linear_branch


def test_tune_and_pretrain_write_the_plan_that_they_worked_by_and_none_of_an_earlier_run(
    store: Path, tmp_path: Path
) -> None:
    candidates = tmp_path / "candidates.yaml"
    candidates.write_text("line: {model: logistic}\ndiscriminant: {model: lda}\n")
    tune = ("tune", store, "-o", tmp_path / "tune", "--candidates", candidates, "--folds", 3)
    pretrain = ("pretrain", store, "-o", tmp_path / "pretrained", "--set", "pretraining.n_epochs=1", *SMALL[2:])
    for words, setting, origin in ((tune, "normalisation.mode", "plan"), (pretrain, "model.width", "user")):
        outcome = run(*words)
        assert outcome.exit_code == 0, outcome.output
        lines = plan_of(words[3])
        assert lines[setting] == origin
        assert lines["windows.length_seconds"] == "store"
        assert "training.n_epochs" not in lines  # neither reads it
        assert run(*words, "-c", "general", "--overwrite").exit_code == 0
        assert plan_of(words[3]) == {}


def plan_of(folder: Path) -> dict[str, str]:
    """Return where each setting of the plan comes from that a folder, or the description of a model in it, holds."""
    if not (folder / "model.json").is_file():
        path = folder / SettingsPlan.FILE
        return {line.setting: line.origin for line in read_result(path, SettingsPlan).lines} if path.exists() else {}
    plan = json.loads((folder / "model.json").read_text()).get("plan", {"lines": []})
    return {line["setting"]: line.get("origin", "plan") for line in plan["lines"]}


def test_a_scaling_that_would_give_the_label_away_is_written_as_what_is_done(tmp_path: Path) -> None:
    stages = people(6, ("rest", 120), ("task", 120))
    store = tmp_path / "files.h5"
    made = write_study(tmp_path / "files", stages, are_files=True)
    assert run("prepare", made, "-o", store, "-q").exit_code == 0
    assert load_config_for(store, purposes=[Purpose("train")])[0].normalisation.scope == "session"  # the plan
    words = ("cross-validate", store, "--model", "lda", "--set", "normalisation.scope=recording")
    for name, given in {
        "plan": (),
        "preset": ("-c", "general"),
        "mode": ("--set", "normalisation.mode=causal"),
    }.items():
        outcome = run(*words, "-o", tmp_path / name, *given)
        assert outcome.exit_code == 0, outcome.output
        written = yaml.safe_load((tmp_path / name / "config.yaml").read_text())["normalisation"]
        scores = json.loads((tmp_path / name / "scores.json").read_text())
        assert (written["mode"], scores["normalisation"]) == ("global", "global")
    [mode] = [line for line in read_result(tmp_path / "plan" / "plan.json", SettingsPlan).lines if line.setting == MODE]
    assert (mode.value, mode.because, mode.origin) == (
        "global", "the label is the file, and a file's scale would give it away; the plan has causal", "plan",
    )  # fmt: skip
    assert run(*words, "-o", tmp_path / "chosen", "--normalisation", "causal").exit_code == 0
    scores = json.loads((tmp_path / "chosen" / "scores.json").read_text())
    written = yaml.safe_load((tmp_path / "chosen" / "config.yaml").read_text())["normalisation"]
    assert (written["mode"], scores["normalisation"]) == ("causal", "causal")
