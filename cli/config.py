"""``biopercept config``: the presets, and what a preset or a file comes to."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import AsJson, Debug, Overrides
from .terminal import print_json, print_text

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List the presets, or show all settings of one.")


@app.command("list")
def list_presets(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the presets with one line on each."""
    from biopercept.resources import preset_names, preset_text

    presets = {name: _first_comment(preset_text(name)) for name in preset_names()}
    if as_json:
        print_json({"presets": [{"name": name, "about": about} for name, about in presets.items()]})
        return
    width = max(map(len, presets), default=0)
    for name, about in presets.items():
        print_text(f"{name:<{width}}  {about}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A preset or a YAML file.")] = "general",
    overrides: Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show every setting that a preset or a file comes to, as YAML that --config takes."""
    from biopercept.config import config_dict, config_text, load_config

    config = load_config(name, overrides or ())
    if as_json:
        print_json(config_dict(config))
    else:
        print_text(config_text(config).rstrip("\n"))


def _first_comment(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first.removeprefix("#").strip() if first.startswith("#") else ""
