"""``train``: the final model, fitted on everybody it is given, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say, settings_for


def train(
    store: Annotated[Path, typer.Argument(help="A store that prepare wrote.")],
    output: options.Output,
    task: options.TaskName = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="DIR", help="A cross-validation whose scores go in the card.")
    ] = None,
    normalisation: options.Normalisation = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="ID", help="Make a personal model: of this subject's windows alone."),
    ] = None,
    start_from: options.StartFrom = None,
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Train the final model, of one task or several, or of one subject, and save it as a folder."""
    from biopercept.config import Purpose
    from biopercept.evaluation.cross_validation import read_scores, train_on_store
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.training.model_card import personal_sentence
    from biopercept.training.settings import FitSettings

    if subject is not None and subjects is not None:
        raise typer.BadParameter("--subject is one personal model, --subjects are the people of a common one; give one")
    refuse_existing(output, overwrite=overwrite)
    known_scores = None if scores is None else read_scores(scores)
    chosen = [] if normalisation is None else [f"normalisation.mode={normalisation}"]
    purpose = Purpose.of("train", task=task, subject=subject, start_from=start_from)
    settings = settings_for(store, config, [*(overrides or []), *chosen], purposes=[purpose], quiet=quiet)
    request = EvaluationRequest(
        store,
        task=task,
        fit=FitSettings(settings.tokens, settings.model, settings.training, start_from=str(start_from or "")),
        normalisation=settings.normalisation,
        is_normalisation_chosen=normalisation is not None,
        subjects=options.listed(subjects) if subject is None else (subject,),
        excluded=options.listed(exclude_subjects) or (),
        seed=seed,
        device=device,
        personalisation=settings.personalisation,
        evaluation=settings.evaluation,
    )
    with progress(quiet=quiet) as bar:
        line = bar.add_task("training: epochs", total=settings.training.n_epochs)

        def show(epoch: int, loss: float, validation: float) -> None:
            bar.update(line, advance=1)
            if bar.disable or verbose:
                say(f"epoch {epoch}: training loss {loss:.4f}, validation loss {validation:.4f}", quiet=quiet)

        is_personal = subject is not None
        model = train_on_store(request, output, is_personal=is_personal, scores=known_scores, on_epoch=show)
    if is_personal:
        say(personal_sentence(model.training["personal"]), quiet=quiet)
    for warning in model.training["warnings"]:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json({"model": str(output), **{key: model.training[key] for key in ("parameters", "best_epoch")}})
    else:
        typer.echo(str(output))
