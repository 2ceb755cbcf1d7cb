"""Models made to be given away: commands that exist, names and places that are refused, a page that is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from biopercept.cli.main import build_app
from biopercept.errors import OutputError
from biopercept.resources import ShippedModel, shipped_model, shipped_models
from biopercept.studies.datasets.catalogue import DATASETS
from biopercept.training.checkpoint import read_description, subject_digest
from shipping import making
from shipping.cards import END, START, page_with_table
from shipping.making import refuse_unfit, without_names
from shipping.recipes import RECIPES, Recipe


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_commands_of_a_recipe_are_understood_by_the_command_line(recipe: Recipe) -> None:
    group = get_command(build_app())
    steps = recipe.steps("DATA", "WORK", ("--split", "k-fold", "--folds", "5"), 2)
    assert [words[0] for words in steps.values()] == ["import", "prepare", "cross-validate", "audit", "train"]
    for command, *words in steps.values():
        context = group.commands[command].make_context(command, list(words))  # type: ignore[attr-defined]
        assert context.args == []
    assert recipe.study in DATASETS


def test_names_become_digests_and_sentences_lose_them() -> None:
    people = ("S02", "S021", "1")
    given = {"subjects": ["S02", "S021"], "warnings": ["S02 and S021 lack a class (S02-3, 12 windows)"], "n": 1}
    digests = [subject_digest("made", person) for person in ("S02", "S021")]
    assert without_names(given, people, "made") == {
        "subjects": digests,
        "warnings": ["a person and a person lack a class (S02-3, 12 windows)"],
        "n": 1,
    }
    assert len({*digests, subject_digest("other", "S02")}) == 3


def test_a_folder_that_names_somebody_or_a_place_or_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shipped_model("states-wrist").folder, folder)
    sha256 = read_description(folder)["weights_sha256"]
    refuse_unfit(folder, ("Subject1",), sha256)
    card = (folder / "card.md").read_text()
    (folder / "card.md").write_text(f"{card}\nSubject1 slept.\n")
    with pytest.raises(OutputError, match=r"card\.md names a person of the study \(Subject1\); it must not be shipped"):
        refuse_unfit(folder, ("Subject1",), sha256)
    (folder / "card.md").write_text(f"{card}\nsee /home/me/study\n")
    with pytest.raises(OutputError, match=r"names a place on this machine \(/home/me/study\)"):
        refuse_unfit(folder, ("Subject1",), sha256)
    monkeypatch.setattr(making, "LARGEST_BYTES", 1000)
    with pytest.raises(OutputError, match=r"takes \d+ bytes; a model that is shipped may take 1000"):
        refuse_unfit(folder, (), sha256)
    with pytest.raises(OutputError, match="are not those that were trained"):
        refuse_unfit(folder, (), "0" * 64)


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
