"""``compare``: which of several cross-validations are better, and which differences nobody can claim."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import console, print_json, print_text, safe_text, say


@dataclass(frozen=True)
class Statistics:
    """What is compared with what, and how."""

    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="balanced_accuracy, macro_f1, auroc, mcc, brier or ece.")
    ] = "balanced_accuracy"
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="DIR|NAME", help="Compare every other one with this one, not all pairs."),
    ] = None
    resamples: Annotated[int, typer.Option("--resamples", min=2000, help="Bootstrap resamples of the subjects.")] = (
        10_000
    )


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="What cross-validate wrote, or parents of several.")
    ],
    output: options.Output,
    statistics: Statistics = Statistics(),
    seed: options.Seed = 0,
    run: options.Run = options.Run(),
) -> None:
    """Compare cross-validations of the same study, or of the same models in several studies, paired over subjects.

    Of several studies (compare A B C, a folder of cross-validations each) models are matched by name, the subjects of
    all are tested together, and each study stands beside it by itself. Scores with missing sensors, where there are
    any, are compared, too.

    Example: biopercept compare scores-a scores-b -o compared
    """
    from biopercept.comparison import comparison
    from biopercept.files import refuse_existing
    from biopercept.report.comparison import brief_pair_table, contender_table, sensor_cost_table, study_tables
    from biopercept.report.text import terminal_table

    refuse_existing(output, overwrite=run.overwrite)
    result = comparison.compare(
        folders,
        metric=statistics.metric,
        reference=statistics.reference,
        n_resamples=statistics.resamples,
        seed=seed,
    )
    comparison.write_comparison(result, output)
    for caution in result.cautions:
        say(f"caution: {caution}", quiet=run.quiet)
    if run.as_json:
        print_json(result)
        return
    screen = console()
    screen.print(terminal_table(contender_table(result)))
    screen.print(terminal_table(brief_pair_table(result)))
    for table in study_tables(result):
        screen.print(terminal_table(table))
    if (sensors := sensor_cost_table(result)) is not None:
        screen.print(terminal_table(sensors))
    for finding in result.findings:
        screen.print(safe_text(finding), soft_wrap=True)
    print_text(str(output / "compare.md"))
