"""``learning-curve``: scores against the number of subjects whose labels are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import print_json, print_text, progress, say


def learning_curve(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="A store that prepare wrote; several are joined.")
    ],
    output: options.Output,
    shares: Annotated[
        str,
        typer.Option("--shares", metavar="SHARE,SHARE...", help="Parts of the training subjects that keep labels."),
    ] = "0.1,0.25,0.5,1",
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="As of cross-validate.")] = "perceiver-io",
    split: Annotated[
        str | None, typer.Option("--split", metavar="subject|k-fold|study", help="As of cross-validate.")
    ] = None,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Number of folds of k-fold.")] = None,
    stratify: options.Stratify = False,
    folds_from: options.FoldsFrom = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Repetitions that are averaged.")] = None,
    start_from: options.StartFrom = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Pretrain inside each fold, on its training subjects' signals alone.")
    ] = False,
    task: options.TaskName = None,
    normalisation: options.Normalisation = None,
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    jobs: options.Jobs = 1,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Score a model with the labels of few, more and all training subjects.

    Each share has a folder of its own, and an interrupted run goes on where it stopped.
    """
    from biopercept.config import config_text
    from biopercept.evaluation.learning_curve import learning_curve as run
    from biopercept.evaluation.learning_curve import parse_shares
    from biopercept.report.curves import learning_page
    from biopercept.results.reading import document_of
    from biopercept.training.settings import FitSettings

    from .cross_validate import effective_settings, evaluation_request

    asked = parse_shares(shares)
    settings = effective_settings(config, overrides, split, folds, stratify, folds_from, seeds, None, normalisation,
                                  store=stores[0], quiet=quiet)  # fmt: skip
    fit = FitSettings(
        settings.tokens,
        settings.model,
        settings.training,
        settings.pretraining if pretrain else None,
        "" if start_from is None else str(start_from),
    )
    request = evaluation_request(
        stores, model, task, settings, fit, normalisation, subjects, exclude_subjects, seed, device, folds_from
    )
    with progress(quiet=quiet) as bar:
        line = bar.add_task(f"{model}: folds", total=None)

        def tell(share: float, fold: Any, was_done: bool, n_folds: int) -> None:
            bar.update(line, total=n_folds * len(asked), advance=1)
            if bar.disable:
                say(f"share {share:g}, fold {fold.name} {'was done before' if was_done else 'done'}", quiet=quiet)

        found = run(
            request,
            asked,
            output,
            n_jobs=jobs,
            config_text=config_text(settings),
            overwrite=overwrite,
            on_fold=tell,
        )
    for warning in found.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json(document_of(found))
    else:
        print_text(learning_page(found).rstrip())
