"""Make the models of the package, from the top of a checkout: ``PYTHONPATH=docs python -m shipping DATA``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import biopercept
from biopercept.cli.terminal import print_text, say
from biopercept.errors import BioperceptError
from biopercept.files import write_text
from biopercept.resources import shipped_models
from shipping.cards import packaged_card, page_with_table
from shipping.making import run_steps, ship
from shipping.recipes import RECIPES

PACKAGED = Path(biopercept.__file__).parent / "shipped"


def make(
    data: Annotated[Path, typer.Argument(help="Folder with the public data sets, each in a folder of its name.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Models to make; all if none.")] = None,
    work: Annotated[Path, typer.Option("-o", "--output", help="Where studies, stores, scores lie.")] = Path(
        "models-output"
    ),
    split: Annotated[str, typer.Option(help="Folds of the scores: subject, or k-fold with --folds.")] = "subject",
    folds: Annotated[int | None, typer.Option(help="Number of folds of k-fold.")] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="Worker processes.")] = 1,
    cards: Annotated[bool, typer.Option("--cards", help="Only write the cards of the packaged models again.")] = False,
) -> None:
    """Score, audit and train each model, and write it into the package; hours, and a run that was stopped goes on."""
    if unknown := sorted(set(names or ()) - {recipe.name for recipe in RECIPES}):
        raise typer.BadParameter(f"no recipe is called {unknown[0]!r}")
    words = ("--split", split, *(() if folds is None else ("--folds", str(folds))))
    for recipe in RECIPES:
        if names and recipe.name not in names:
            continue
        if cards:
            write_text(PACKAGED / recipe.name / "card.md", packaged_card(recipe, PACKAGED))
            continue
        try:
            run_steps(recipe, data, work / recipe.name, words, jobs)
            sha256 = ship(recipe, work / recipe.name, PACKAGED, words)
        except BioperceptError as fault:
            say(str(fault))
            raise typer.Exit(fault.exit_code) from fault
        print_text(f"{sha256}  {PACKAGED.name}/{recipe.name}")
    page = Path("docs/models.md")
    write_text(page, page_with_table(page.read_text(encoding="utf-8"), shipped_models().values()))


if __name__ == "__main__":
    typer.run(make)
