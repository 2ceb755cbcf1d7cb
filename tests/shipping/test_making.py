"""Models made to be given away: commands that exist, names and places that are refused, a page that is written."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from biopercept.cli.main import build_app
from biopercept.errors import OutputError
from biopercept.evaluation.cross_validation import cross_validate, train_on_store
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.resources import ShippedModel, shipped_model, shipped_models
from biopercept.studies.datasets.catalogue import DATASETS
from biopercept.training.checkpoint import load_start, read_description, subject_digest
from biopercept.training.settings import FitSettings, TrainingSettings
from shipping import making
from shipping.cards import END, START, page_with_table
from shipping.making import refuse_unfit, without_names
from shipping.recipes import RECIPES, Recipe


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_commands_of_a_recipe_are_understood_by_the_command_line(recipe: Recipe) -> None:
    group = get_command(build_app())
    steps = recipe.steps("DATA", "WORK", ("--split", "k-fold", "--folds", "5"), 2)
    n = len(recipe.studies)
    scored, audited = (1, 1) if n == 1 else (2, n)
    order = {"import": n, "prepare": n, "cross-validate": scored, "audit": audited, "train": 1}
    assert [words[0] for words in steps.values()] == [word for word, times in order.items() for _ in range(times)]
    for command, *words in steps.values():
        context = group.commands[command].make_context(command, list(words))  # type: ignore[attr-defined]
        assert context.args == []
    assert set(recipe.studies) <= DATASETS.keys()
    task = recipe.task.partition(",")[0]
    modules = [import_module(f"biopercept.studies.datasets.{study.replace('-', '_')}") for study in recipe.studies]
    assert all(task in module.DEFINITION["tasks"] for module in modules)


def test_names_become_digests_and_sentences_lose_them() -> None:
    people = {"made": ("S02", "S021", "1")}
    given = {
        "study": "made",
        "subjects": ["S02", "S021"],
        "warnings": ["S02 and S021 lack a class (S02-3, 12 windows)"],
        "n": 1,
    }
    digests = [subject_digest("made", person) for person in ("S02", "S021")]
    assert without_names(given, people) == {
        "study": "made",
        "subjects": digests,
        "warnings": ["a person and a person lack a class (S02-3, 12 windows)"],
        "n": 1,
    }
    assert len({*digests, subject_digest("other", "S02")}) == 3


def test_one_identifier_in_two_studies_becomes_two_digests() -> None:
    people = {"alpha": ("P01", "P02"), "beta": ("P01",)}
    parts = [{"study": "alpha", "subjects": ["P01"]}, {"study": "beta", "subjects": ["P01"]}]
    given = {
        "study": "alpha+beta",
        "subjects": ["alpha/P01", "beta/P01"],
        "studies": parts,
        "warnings": ["alpha/P02 lacks a class", "P01 too", "gamma/P03 stays"],
    }
    alpha, beta = subject_digest("alpha", "P01"), subject_digest("beta", "P01")
    assert alpha != beta
    assert without_names(given, people) == {
        "study": "alpha+beta",
        "subjects": [alpha, beta],
        "studies": [{"study": "alpha", "subjects": [alpha]}, {"study": "beta", "subjects": [beta]}],
        "warnings": ["a person lacks a class", "a person too", "gamma/P03 stays"],
    }


def test_a_folder_that_names_somebody_or_a_place_or_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped_model("states-wrist").folder, folder)
    sha256 = read_description(folder)["weights_sha256"]
    refuse_unfit(folder, {"noneeg": ("Subject1",)}, sha256)
    card = (folder / "card.md").read_text()
    (folder / "card.md").write_text(f"{card}\nSubject1 slept.\n")
    with pytest.raises(OutputError, match=r"card\.md names a person of the study \(Subject1\); it must not be shipped"):
        refuse_unfit(folder, {"noneeg": ("Subject1",)}, sha256)
    (folder / "card.md").write_text(f"{card}\nsee /home/me/study\n")
    with pytest.raises(OutputError, match=r"names a place on this machine \(/home/me/study\)"):
        refuse_unfit(folder, {"noneeg": ("Subject1",)}, sha256)
    monkeypatch.setattr(making, "LARGEST_BYTES", 1000)
    with pytest.raises(OutputError, match=r"takes \d+ bytes; a model that is shipped may take 1000"):
        refuse_unfit(folder, {}, sha256)
    with pytest.raises(OutputError, match="are not those that were trained"):
        refuse_unfit(folder, {}, "0" * 64)


def test_the_rows_of_the_page_are_replaced_and_nothing_else() -> None:
    models: list[ShippedModel] = list(shipped_models().values())
    page = f"before\n{START}old row\n{END}after\n"
    once = page_with_table(page, models)
    assert once == page_with_table(once, models)
    assert once.startswith(f"before\n{START}| model |")
    assert once.endswith(f"{END}after\n")
    assert "old row" not in once
    assert once.count("\n| `") == len(models)
    packaged = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert page_with_table(packaged, models) == packaged


@pytest.fixture
def made_of_two(made: ModuleType, tmp_path: Path) -> tuple[Recipe, Path]:
    """A model of two studies with the same identifiers, made small, and all that is written before it is shipped."""
    fit = FitSettings(
        model=PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2),
        training=TrainingSettings(n_epochs=1, batch_size=64),
    )
    recipe = Recipe("pair", "two studies", ("alpha", "beta"), "stress,level", "First.", ("Not.",), ("Unknown: all.",))
    tasks = {"alpha": (made.TASK,), "beta": (made.TASK, made.LEVEL)}
    for seed, (study, of_study) in enumerate(tasks.items()):
        folder = tmp_path / study
        folder.mkdir()
        lacking = ("EDA", "tonic") if study == "beta" else ()
        people = [made.recording(f"P0{i}", seed=seed, missing=lacking) for i in range(1, 5)]
        made.store(tmp_path / f"{study}.h5", people, name=study, task=of_study)
        about = f"name: {study}\nlicence: {study.upper()} 1.0\ncitation: the people of {study}\n"
        (folder / "study.yaml").write_text(about)
        rows = "".join(f"{person.subject}\n" for person in people)
        (folder / "participants.tsv").write_text(f"participant_id\n{rows}")
        findings = [{"probe": "clock-only", "verdict": "leak", "sentence": f"P01 of {study}."}]
        (tmp_path / f"audit-{study}").mkdir()
        (tmp_path / f"audit-{study}" / "audit.json").write_text(json.dumps({"findings": findings}))
    request = EvaluationRequest(
        tmp_path / "alpha.h5", task=recipe.task, fit=fit, more_stores=(tmp_path / "beta.h5",), device="cpu"
    )
    by_people = EvaluationSettings("k-fold", n_folds=2, n_bootstrap=100)
    across = EvaluationSettings("study", n_bootstrap=100, missing_sensors="single")
    scores = cross_validate(replace(request, evaluation=by_people), tmp_path / "scores")
    cross_validate(replace(request, task="stress", evaluation=across), tmp_path / "across-studies")
    train_on_store(request, tmp_path / "model", scores=scores)
    return recipe, tmp_path


def test_a_model_of_two_studies_is_shipped_with_what_each_allows_and_nobody_named(
    made_of_two: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, work = made_of_two
    sha256 = making.ship(recipe, work, tmp_path / "shipped", ("--split", "k-fold", "--folds", "2"))
    model = ShippedModel("pair", tmp_path / "shipped" / "pair")
    start = load_start(model.folder)
    assert (start.sha256, [task.name for task in start.tasks]) == (sha256, ["stress", "level"])
    for study in recipe.studies:  # by study and own identifier, from digests
        assert start.overlap(study, "another store", ["P01", "P04", "P09"]) == ("P01", "P04")
    assert start.overlap("gamma", "another store", ["P01"]) == ()
    text = (model.folder / "model.json").read_text() + model.card
    assert re.findall(r"(?<!\w)P0\d(?!\w)", text) == []
    assert "- alpha: **leak**, clock-only: a person of alpha." in model.card
    assert [(one["study"], one["licence"], one["n_subjects"]) for one in model.to_json()["data"]] == [
        ("alpha", "ALPHA 1.0", 4),
        ("beta", "BETA 1.0", 4),
    ]
    for words in ("licence ALPHA 1.0", "licence BETA 1.0", "the people of alpha.", "the people of beta."):
        assert words in model.card
    rows = re.findall(r"^\| (\w+) \| (people|the study) \| (\w+) \| (\d) \|", model.card, flags=re.M)
    assert sorted(rows) == [
        ("level", "people", "beta", "4"),
        ("stress", "people", "alpha", "4"),
        ("stress", "people", "beta", "4"),
        ("stress", "the study", "alpha", "4"),
        ("stress", "the study", "beta", "4"),
    ]
    assert "Task stress, each study tested by models of the others:" in model.card
    assert "| without eda | " in model.card
    [row] = [line for line in page_with_table(f"{START}{END}", [model]).splitlines() if "pair" in line]
    assert "4 people of alpha (ALPHA 1.0); 4 people of beta (BETA 1.0)" in row
    assert re.search(r"stress 0\.\d+ .*\(k-fold, 2 folds\); level 0\.\d+ .*; stress 0\.\d+ .*\(study, 2 folds\)", row)
