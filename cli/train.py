"""``train``: the final model, fitted on everybody it is given, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say, settings_for

if TYPE_CHECKING:
    from biopercept.training.loop import FittedNetwork


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
    from biopercept.evaluation.plan import EvaluationRequest, check_calibration, plan_evaluation
    from biopercept.evaluation.settings import EvaluationSettings
    from biopercept.evaluation.time_split import plan_personal
    from biopercept.files import only_writer
    from biopercept.store.reading import open_store
    from biopercept.training.final import Provenance, measured_modalities, needs_tasks, train_final, train_tasks
    from biopercept.training.personal import personal_sentence, train_personal
    from biopercept.training.settings import FitSettings

    if subject is not None and subjects is not None:
        raise typer.BadParameter("--subject is one personal model, --subjects are the people of a common one; give one")
    refuse_existing(output, overwrite=overwrite)
    known_scores = None if scores is None else _scores(scores)
    chosen = [] if normalisation is None else [f"normalisation.mode={normalisation}"]
    settings = settings_for(store, config, [*(overrides or []), *chosen], quiet=quiet)
    fit = FitSettings(
        settings.tokens, settings.model, settings.training, start_from="" if start_from is None else str(start_from)
    )
    request = EvaluationRequest(
        store,
        task=task,
        fit=fit,
        normalisation=settings.normalisation,
        is_normalisation_chosen=normalisation is not None,
        subjects=options.listed(subjects) if subject is None else (subject,),
        excluded=options.listed(exclude_subjects) or (),
        seed=seed,
        device=device,
        personalisation=settings.personalisation,
        evaluation=EvaluationSettings(
            calibration=settings.evaluation.calibration,
            calibration_folds=settings.evaluation.calibration_folds,
            conformal_coverage=settings.evaluation.conformal_coverage,
        ),
    )
    with open_store(store) as opened, only_writer(output), progress(quiet=quiet) as bar:
        if subject is None:
            plan = plan_evaluation(opened, request, needs_folds=False)
        else:
            plan = plan_personal(opened, request)
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

        fitted: FittedNetwork[Any]
        if subject is not None:
            fitted, personal = train_personal(
                plan.inputs, plan.task, plan.normalisation, fit, settings.personalisation, provenance, output,
                seed=seed, device=device, on_epoch=tell,
            )  # fmt: skip
            say(personal_sentence(personal), quiet=quiet)
        elif needs_tasks(plan.windows, settings.training):
            names = " and ".join(f"{task.kind} task {task.name!r}" for task in plan.windows.tasks)
            is_dense = " with training.dense_weight" if settings.training.dense_weight > 0 else ""
            check_calibration([plan.task], settings.evaluation, f"the final model of the {names}{is_dense}")
            fitted = train_tasks(
                plan.inputs, plan.normalisation, fit, provenance, output, seed=seed, device=device, on_epoch=tell
            ).fitted
        else:
            fitted = train_final(
                plan.inputs, plan.task, plan.normalisation, fit, provenance, output,
                seed=seed, device=device, calibrating=settings.evaluation.calibrating, on_epoch=tell,
            )  # fmt: skip
    for warning in plan.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json({"model": str(output), "parameters": fitted.n_parameters, "best_epoch": fitted.best_epoch})
    else:
        typer.echo(str(output))


def _scores(folder: Path) -> dict[str, Any]:
    """Return the scores that a cross-validation wrote, of several tasks under ``tasks`` by name."""
    import json

    from biopercept.errors import StudyError
    from biopercept.evaluation.cross_validation import tasks_with_folder
    from biopercept.training.model_card import model_scores_sentence

    def read(place: Path) -> dict[str, Any]:
        held: dict[str, Any] = json.loads((place / "scores.json").read_text(encoding="utf-8"))
        model_scores_sentence(held)
        return held

    try:
        names = tasks_with_folder(folder)
        return {"tasks": {name: read(folder / name) for name in names}} if names else read(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        raise StudyError(f"{folder} has no readable scores.json; give what cross-validate wrote") from fault
