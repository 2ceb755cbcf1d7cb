"""``cross-validate``: honest scores of a model, every fold resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import print_json, progress, say, settings_for

if TYPE_CHECKING:
    from biopercept.config import Config
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.training.settings import FitSettings


def cross_validate(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="A store that prepare wrote; several are joined.")
    ],
    output: options.Output,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            help="perceiver-io, perceiver, transformer, ecg-transformer, informer, lstm, cnn-late-fusion, hourglass, "
            "majority-vote, probability-mean, stacking, bagging, boosting, logistic, lda, ridge (numbers); or a probe: "
            "clock-only, motion-only, quality-only, dummy.",
        ),
    ] = "perceiver-io",
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="subject|k-fold|study|time",
            help="Leave one subject out, grouped folds, leave one of several stores out, or (time) later windows of "
            "each subject by its own earlier ones.",
        ),
    ] = None,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Number of folds of k-fold.")] = None,
    stratify: options.Stratify = False,
    folds_from: options.FoldsFrom = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Repetitions that are averaged.")] = None,
    start_from: options.StartFrom = None,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Pretrain inside each fold, on its training subjects' signals alone.")
    ] = False,
    label_share: Annotated[
        float | None,
        typer.Option("--label-share", metavar="SHARE", help="Part of the training subjects whose labels are used."),
    ] = None,
    missing_sensors: Annotated[
        bool, typer.Option("--missing-sensors", help="Ask the fitted models again with every subset of the sensors.")
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
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Score a model on subjects it was not trained on, or (--split time) on later windows of each subject.

    An interrupted run goes on where it stopped.
    """
    from biopercept.config import config_text
    from biopercept.evaluation.cross_validation import cross_validate as run
    from biopercept.report.page import print_scores, write_figures
    from biopercept.training.settings import FitSettings

    settings = effective_settings(
        config, overrides, split, folds, stratify, folds_from, seeds, label_share, normalisation, missing_sensors,
        store=stores[0], quiet=quiet,
    )  # fmt: skip
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

        def tell(fold: Any, was_done: bool, n_folds: int) -> None:
            bar.update(line, total=n_folds, advance=1)
            if bar.disable or verbose:
                aside = f"; set aside for early stopping: {', '.join(fold.validation) or 'nobody'}" if verbose else ""
                aside += f"; labels of {', '.join(fold.fitting)}" if verbose and fold.unlabelled else ""
                state = "was done before" if was_done else "done"
                say(f"fold {fold.name} {state} ({n_folds} in all){aside}", quiet=quiet)

        scores = run(request, output, n_jobs=jobs, config_text=config_text(settings), overwrite=overwrite, on_fold=tell)
    write_figures(output)
    for warning in scores["warnings"]:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json(scores)
    else:
        print_scores(output)


def effective_settings(
    config: str | None,
    overrides: list[str] | None,
    split: str | None,
    folds: int | None,
    stratify: bool,
    folds_from: Path | None,
    seeds: int | None,
    label_share: float | None,
    normalisation: str | None,
    missing_sensors: bool = False,
    *,
    store: Path,
    quiet: bool = False,
) -> Config:
    """Return the effective settings: the file's, then ``--set``, then the options that have a name of their own."""
    from biopercept.evaluation.folds import given_settings

    given = {
        "evaluation.split": split,
        "evaluation.n_folds": folds,
        "evaluation.stratify": stratify or None,
        "evaluation.n_seeds": seeds,
        "evaluation.label_share": label_share,
        "evaluation.missing_sensors": "all" if missing_sensors else None,
        "normalisation.mode": normalisation,
    }
    named = {
        **({} if folds_from is None else given_settings(folds_from)),
        **{name: value for name, value in given.items() if value is not None},
    }
    return settings_for(
        store, config, [*(overrides or []), *(f"{key}={value}" for key, value in named.items())], quiet=quiet
    )


def evaluation_request(
    stores: list[Path],
    model: str,
    task: str | None,
    settings: Config,
    fit: FitSettings,
    normalisation: str | None,
    subjects: str | None,
    exclude_subjects: str | None,
    seed: int,
    device: str,
    folds_from: Path | None = None,
) -> EvaluationRequest:
    """Return what is to be cross-validated, as the options say it."""
    from biopercept.evaluation.plan import EvaluationRequest

    return EvaluationRequest(
        stores[0],
        model,
        task,
        fit,
        settings.normalisation,
        settings.evaluation,
        normalisation is not None,
        options.listed(subjects),
        options.listed(exclude_subjects) or (),
        seed,
        device,
        more_stores=tuple(stores[1:]),
        folds_from=folds_from,
        personalisation=settings.personalisation,
    )
