"""``biopercept doctor``: what is installed, what is missing, and the line that installs it."""

from __future__ import annotations

import typer

from .options import AsJson, Debug
from .terminal import print_json, print_text


def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Show versions, the device that would be used, and what is missing with the line that installs it."""
    from biopercept.installation import describe_installation

    found = describe_installation()
    if as_json:
        print_json(found.to_json())
    else:
        for line in found.lines():
            print_text(line)
    if found.is_broken:
        raise typer.Exit(1)
