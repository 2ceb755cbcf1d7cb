"""``train``: the final model, fitted on everybody it is given, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say


def train(
    store: Annotated[Path, typer.Argument(help="A store that prepare wrote.")],
    output: options.Output,
    task: options.TaskName = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="DIR", help="A cross-validation whose scores go in the card.")
    ] = None,
    normalisation: options.Normalisation = None,
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
    """Train the final model and save it as a folder."""
    import json

    from biopercept.config import load_config
    from biopercept.errors import StudyError
    from biopercept.evaluation.planning import EvaluationRequest, plan_evaluation
    from biopercept.files import only_writer
    from biopercept.learning.final import Provenance, measured_modalities, model_scores_sentence, train_final
    from biopercept.learning.fitting import FitSettings
    from biopercept.store import open_store

    refuse_existing(output, overwrite=overwrite)
    chosen = [] if normalisation is None else [f"normalisation.mode={normalisation}"]
    settings = load_config(config, [*(overrides or []), *chosen])
    fit = FitSettings(
        settings.tokens, settings.model, settings.training, start_from="" if start_from is None else str(start_from)
    )
    request = EvaluationRequest(
        store,
        task=task,
        fit=fit,
        normalisation=settings.normalisation,
        is_normalisation_chosen=normalisation is not None,
        subjects=options.listed(subjects),
        excluded=options.listed(exclude_subjects) or (),
        seed=seed,
        device=device,
    )
    known_scores = None
    if scores is not None:
        try:
            known_scores = json.loads((scores / "scores.json").read_text(encoding="utf-8"))
            model_scores_sentence(known_scores)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
            raise StudyError(f"{scores} has no readable scores.json; give what cross-validate wrote") from fault
    with open_store(store) as opened, only_writer(output), progress(quiet=quiet) as bar:
        plan = plan_evaluation(opened, request, needs_folds=False)
        provenance = Provenance(
            opened.name,
            plan.store_fingerprint,
            dict(opened.settings),
            measured_modalities(plan.windows.recordings),
            known_scores,
            plan.warnings,
        )
        line = bar.add_task("training: epochs", total=settings.training.n_epochs)

        def tell(epoch: int, loss: float, validation: float) -> None:
            bar.update(line, advance=1)
            if bar.disable or verbose:
                say(f"epoch {epoch}: training loss {loss:.4f}, validation loss {validation:.4f}", quiet=quiet)

        fitted = train_final(
            plan.inputs,
            plan.task,
            plan.normalisation,
            fit,
            provenance,
            output,
            seed=seed,
            device=device,
            calibrating=settings.evaluation.calibrating,
            on_epoch=tell,
        )
    for warning in plan.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json({"model": str(output), "parameters": fitted.n_parameters, "best_epoch": fitted.best_epoch})
    else:
        typer.echo(str(output))
