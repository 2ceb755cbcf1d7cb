"""``models``: trained models that come with the package, with what their training data allow, and their cards."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options
from .terminal import print_json, print_text, say


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show the card of one model.")] = None,
    run: options.Printing = options.Printing(),
) -> None:
    """List the models that come with the package: tasks, sensors, windows, scores, licence of their training data.

    Example: biopercept models stress-wrist
    """
    from biopercept.resources import shipped_model, shipped_models

    chosen = list(shipped_models().values()) if name is None else [shipped_model(name)]
    if run.as_json:
        print_json([row.to_json() for row in chosen])
    elif name is not None:
        say(f"folder: {chosen[0].folder}")
        print_text(chosen[0].card.rstrip("\n"))
    else:
        for row in chosen:
            _print_row(row.to_json())
        print_text("'biopercept models NAME' shows a card; 'biopercept predict NAME RECORDING -o DIR' uses it.")


def _print_row(row: dict[str, Any]) -> None:
    fields = {
        "predicts": "; ".join(f"{task}: {', '.join(classes)}" for task, classes in row["tasks"].items()),
        "sensors": f"{', '.join(row['sensors'])}; any of them may be missing",
        "windows": f"{row['window_seconds']:g} s",
        "fitted on": ", ".join(f"{part['n_subjects']} people of {part['study']}" for part in row["data"]),
        "scores": row["scored"],
        "data licence": ", ".join(dict.fromkeys(part["licence"] for part in row["data"])),
        "cite": "; ".join(part["citation"] for part in row["data"]),
        "size": f"{row['bytes'] / 1e6:.1f} MB, {row['parameters']} parameters",
    }
    print_text(f"{row['name']}: {row['title']}")
    for title, value in fields.items():
        print_text(f"  {title}: {value}")
    print_text("")
