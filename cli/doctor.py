"""``biopercept doctor``: what is installed, what is missing, and the line that installs it."""

from __future__ import annotations

import typer

from . import options
from .terminal import print_json, print_text


def doctor(run: options.Printing = options.Printing()) -> None:
    """Show versions, the device that would be used, and what is missing with the line that installs it.

    Example: biopercept doctor
    """
    from biopercept.resources import describe_installation

    installation = describe_installation()
    if run.as_json:
        print_json(installation.to_json())
    else:
        for line in installation.lines():
            print_text(line)
    if installation.is_broken:
        raise typer.Exit(1)
