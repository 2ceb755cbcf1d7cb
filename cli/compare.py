"""``compare``: which of several cross-validations are better, and which differences nobody can claim."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import console, print_json, print_text, refuse_existing, safe_text, say


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="What cross-validate wrote, or parents of several.")
    ],
    output: options.Output,
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="balanced_accuracy, macro_f1, auroc, mcc, brier or ece.")
    ] = "balanced_accuracy",
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="DIR|NAME", help="Compare every other one with this one, not all pairs."),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=2000, help="Bootstrap resamples of the subjects.")
    ] = 10_000,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare cross-validations of the same study, paired over subjects."""
    from biopercept.comparison.comparison import compare as run
    from biopercept.comparison.comparison import write_comparison
    from biopercept.report.comparison import brief_pair_table, contender_table
    from biopercept.report.tables import terminal_table
    from biopercept.results.reading import document_of

    refuse_existing(output, overwrite=overwrite)
    held = run(folders, metric=metric, reference=reference, n_resamples=resamples, seed=seed)
    write_comparison(held, output)
    for caution in held.cautions:
        say(f"caution: {caution}", quiet=quiet)
    if as_json:
        print_json(document_of(held))
        return
    screen = console()
    screen.print(terminal_table(contender_table(held)))
    screen.print(terminal_table(brief_pair_table(held)))
    for finding in held.findings:
        screen.print(safe_text(finding), soft_wrap=True)
    print_text(str(output / "compare.md"))
