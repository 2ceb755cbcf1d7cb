"""``compare``: which of several cross-validations are better, and which differences nobody can claim."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from biopercept.errors import StudyError

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
    from biopercept.files import refuse_existing, refuse_inputs
    from biopercept.report.comparison import brief_pair_table, contender_table, sensor_cost_table, study_tables
    from biopercept.report.text import terminal_table

    refuse_inputs(output, folders, is_within_allowed=True)
    refuse_existing(output, overwrite=run.overwrite)
    for folder in folders:
        _refuse_other(folder)
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


def _refuse_other(folder: Path) -> None:
    """Refuse what holds no cross-validation by its kind: a store, a study, a model, a file of results.

    Raises StudyError with the commands that lead from there to a comparison.
    """
    from biopercept.baselines.catalogue import MODELS, REGRESSORS
    from biopercept.resources import shipped_models
    from biopercept.results.cross_validation import CrossValidation
    from biopercept.studies.loading import is_study
    from biopercept.typed_values import path_meant

    score = "cross-validate {} -o scores/NAME --model NAME"
    if folder.is_file() and folder.name == CrossValidation.FILE:
        raise StudyError(f"{folder} is a file of results; give its folder, {folder.parent}")
    if folder.is_file():
        raise StudyError(
            f"{folder} is a file, and compare reads folders that cross-validate wrote; of a store each model has one: "
            f"biopercept {score.format(folder)}"
        )
    if folder.is_dir() and is_study(folder):
        raise StudyError(
            f"{folder} is a study, and compare reads folders that cross-validate wrote; first biopercept prepare "
            f"{folder} -o STORE.h5, then for each model biopercept {score.format('STORE.h5')}"
        )
    if (folder / "model.json").is_file() or (not folder.exists() and str(folder) in shipped_models()):
        raise StudyError(
            f"{folder} is a saved model, and compare reads folders that cross-validate wrote; 'biopercept evaluate "
            f"{folder} DATA -o DIR' scores it on people it has not seen"
        )
    if not folder.exists() and str(folder) in {*MODELS, *REGRESSORS}:
        raise StudyError(
            f"{folder} is a kind of model; first biopercept cross-validate STORE -o scores/{folder} --model {folder}, "
            f"then compare scores/{folder} with another"
        )
    if not folder.exists():
        raise StudyError(
            f"{folder}: no such folder; give folders that cross-validate wrote, or a parent of several"
            f"{path_meant(folder)}"
        )
