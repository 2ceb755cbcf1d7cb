"""``biopercept config``: the presets, and what a preset or a file comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .panels import PanelCommand, PanelGroup, with_options
from .terminal import print_json, print_text, say

ABOUT_AUTO = "The default: what follows from the study or store, with reasons (check STUDY shows them)."

app = typer.Typer(
    cls=PanelGroup, no_args_is_help=True, rich_markup_mode=None, help="List the presets, or show all settings of one."
)


@app.command("list", cls=PanelCommand)
@with_options
def list_presets(run: options.Printing = options.Printing()) -> None:
    """List the presets with one line on each.

    Example: biopercept config list
    """
    from biopercept.resources import preset_names, preset_text

    presets = {"auto": ABOUT_AUTO} | {name: _first_comment(preset_text(name)) for name in preset_names()}
    if run.as_json:
        print_json({"presets": [{"name": name, "about": about} for name, about in presets.items()]})
        return
    width = max(map(len, presets), default=0)
    for name, about in presets.items():
        print_text(f"{name:<{width}}  {about}")


@app.command("show", cls=PanelCommand)
@with_options
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE", help="A preset or a YAML file; general, or with --store auto, unless given."
        ),
    ] = None,
    store: Annotated[
        Path | None, options.data_option("--store", metavar="STORE", help="Of which auto is the plan.")
    ] = None,
    overrides: options.Overrides = None,
    run: options.Printing = options.Printing(),
) -> None:
    """Show every setting that a preset, a file or the plan of a store comes to, as YAML that --config takes.

    Example: biopercept config show stress-wrist
    """
    from biopercept.config.loading import load_config, load_config_for
    from biopercept.config.settings import config_dict

    if store is None:
        config = load_config("general" if name is None else name, overrides or ())
    else:
        config, warnings = load_config_for(store, name, overrides or ())
        for warning in warnings:
            say(f"warning: {warning}")
        options.say_plan(getattr(config, "plan", None), quiet=False)
    if run.as_json:
        print_json(config_dict(config))
    else:
        print_text(config.text.rstrip("\n"))


def _first_comment(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first.removeprefix("#").strip() if first.startswith("#") else ""
