"""``biopercept report``: one self-contained HTML page from a folder of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import print_text, say


@dataclass(frozen=True)
class Shown:
    """What stands on the page beside the results."""

    title: Annotated[
        str,
        typer.Option("--title", metavar="TEXT", help="What stands on top of the page; the folder's name otherwise."),
    ] = ""
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="PATH",
            help="A store, a study's folder or a folder of 'explain' that lies elsewhere and says more of the results.",
        ),
    ] = None


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="What cross-validate, audit, learning-curve, personalise, predict, explain, reconstruct, prepare or "
            "demo wrote, or their parent.",
        ),
    ],
    output: options.PageOutput = None,
    shown: Shown = Shown(),
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write one HTML page that opens offline: warnings, scores with intervals, figures, methods, provenance.

    An earlier page of the same folder is replaced, unless somebody has changed it since.

    Example: biopercept report scores
    """
    from biopercept.files import refuse_other_than_page
    from biopercept.report.layout import PAGE_KIND
    from biopercept.report.page import write_report

    target = folder / "report.html" if output is None else output
    refuse_other_than_page(target, overwrite=overwrite, what=PAGE_KIND, source=folder)
    path = write_report(folder, target, title=shown.title, beside=shown.beside or ())
    say("written; open it in any browser", quiet=quiet)
    print_text(str(path))
