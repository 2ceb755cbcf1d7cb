"""``score-generation``: how well a sensor that is taken away can be told from the others, by subjects never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import print_json, print_text, progress, say, settings_for


def score_generation(
    store: Annotated[Path, typer.Argument(help="A store that prepare wrote.")],
    output: options.Output,
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="Number of folds of k-fold.")] = None,
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
    """Hide each sensor in turn from subjects not pretrained on, and score what the network says of it.

    An interrupted run goes on where it stopped.
    """
    from biopercept.config import config_text
    from biopercept.evaluation.generation import PAGE
    from biopercept.evaluation.generation import score_generation as run
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.results.reading import document_of
    from biopercept.training.settings import FitSettings

    named = {"evaluation.n_folds": folds, "normalisation.mode": normalisation}
    chosen = [f"{key}={value}" for key, value in named.items() if value is not None]
    settings = settings_for(store, config, [*(overrides or []), *chosen], quiet=quiet)
    request = EvaluationRequest(
        store,
        fit=FitSettings(settings.tokens, settings.model, settings.training, settings.pretraining),
        normalisation=settings.normalisation,
        evaluation=settings.evaluation,
        is_normalisation_chosen=True,
        subjects=options.listed(subjects),
        excluded=options.listed(exclude_subjects) or (),
        seed=seed,
        device=device,
    )
    with progress(quiet=quiet) as bar:
        line = bar.add_task("generation: folds", total=None)

        def tell(fold: Any, was_done: bool, n_folds: int) -> None:
            bar.update(line, total=n_folds, advance=1)
            if bar.disable:
                say(f"fold {fold.name} {'was done before' if was_done else 'done'} ({n_folds} in all)", quiet=quiet)

        found = run(request, output, n_jobs=jobs, config_text=config_text(settings), overwrite=overwrite, on_fold=tell)
    for warning in found.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json(document_of(found))
    else:
        print_text((output / PAGE).read_text(encoding="utf-8").rstrip("\n"))
