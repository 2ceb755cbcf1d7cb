"""``train``: the final model, fitted on everybody in one store or several, with its card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import epoch_progress, print_json, say


@dataclass(frozen=True)
class FinalModel:
    """Whose model is made, what it begins with, and what its card says of scores."""

    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="DIR", help="A cross-validation whose scores go in the card.")
    ] = None
    subject: Annotated[
        str | None,
        typer.Option("--subject", metavar="ID", help="Make a personal model: of this subject's windows alone."),
    ] = None
    start_from: options.StartFrom = None


def train(
    stores: options.Stores,
    output: options.Output,
    final: FinalModel = FinalModel(),
    data: options.Data = options.Data(),
    preset: options.ModelPreset = options.ModelPreset(),
    run: options.FitRun = options.FitRun(),
) -> None:
    """Train the final model, of one study or several, one task or several, or one subject, and save it as a folder.

    Example: biopercept train my-study.h5 -o model --task stress
    """
    from biopercept.config.settings import Purpose
    from biopercept.errors import SettingsError
    from biopercept.evaluation.cross_validation import read_scores, train_on_store
    from biopercept.files import refuse_existing
    from biopercept.training.model_card import personal_sentence

    is_personal = final.subject is not None
    if is_personal and data.subjects is not None:
        raise SettingsError("--subject is one personal model, --subjects are the people of a common one; give one")
    if is_personal and data.excluded:
        raise SettingsError("--subject is of one person, of whom --exclude-subjects can leave nobody out; give one")
    if is_personal and len(options.listed(final.subject) or ()) != 1:
        raise SettingsError(f"--subject {final.subject}: one person is needed; --subjects trains a model of several")
    refuse_existing(output, overwrite=run.overwrite)
    scores = None if final.scores is None else read_scores(final.scores)
    purpose = data.of(Purpose.of("train", task=data.task, subject=final.subject, start_from=final.start_from))
    if final.subject is not None:
        purpose = replace(purpose, subjects=(final.subject,))
    settings = preset.of_store(stores, purposes=[purpose], quiet=run.quiet)
    fit = settings.fit(final.start_from)
    request = options.evaluation_request(settings, stores, data, preset, run, task=data.task, fit=fit)
    if final.subject is not None:
        request = replace(request, subjects=(final.subject,))
    work, n, what = "training", settings.training.n_epochs, "epochs"
    if is_personal and final.start_from is not None:
        work, n, what = "adapting", settings.personalisation.n_steps, "steps"
    with epoch_progress(work, n, quiet=run.quiet, verbose=run.verbose, what=what) as show:
        model = train_on_store(request, output, is_personal=is_personal, scores=scores, on_epoch=show)
    if is_personal:
        say(personal_sentence(model.training["personal"]), quiet=run.quiet)
    for warning in model.training["warnings"]:
        say(f"warning: {warning}", quiet=run.quiet)
    if run.as_json:
        keys = ("parameters", "best_epoch", "warnings", *(("personal",) if is_personal else ()))
        print_json({"model": str(output), **{key: model.training[key] for key in keys}})
    else:
        say("written; model.json and card.md in it say what it is:", quiet=run.quiet)
        typer.echo(str(output))
