"""``audit``: what could make scores on a store better than they are, probe by probe, each with a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import print_json, progress, say, settings_for

if TYPE_CHECKING:
    from biopercept.audit.audit import AuditRequest
    from biopercept.config import Config


def audit(
    store: Annotated[Path, typer.Argument(help="A store that prepare wrote.")],
    output: options.Output,
    model_scores: Annotated[
        Path | None,
        typer.Option("--model-scores", metavar="DIR", help="Audit the answers of this finished cross-validation too."),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit perceiver-io in few folds and audit its answers and latents too.")
    ] = False,
    participants: Annotated[
        Path | None,
        typer.Option("--participants", metavar="FILE", help="A participants.tsv; its columns are looked at as sets."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any verdict is not ok.")] = False,
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
    """Look for leaks and confounds: ok, warning or leak per probe.

    Each verdict comes with a sentence that can be quoted.
    """
    from biopercept.audit.audit import audit as run
    from biopercept.audit.audit import claim, write_audit
    from biopercept.config import config_text
    from biopercept.files import only_writer, write_text
    from biopercept.report.audit import print_audit
    from biopercept.results.audit import OK
    from biopercept.results.reading import document_of

    named = [] if normalisation is None else [f"normalisation.mode={normalisation}"]
    settings = settings_for(store, config, [*(overrides or []), *named], quiet=quiet)
    request = _request(
        store, settings, task, normalisation, subjects, exclude_subjects, seed, device, model_scores, fit, participants
    )
    with only_writer(output), progress(quiet=quiet) as bar:
        claim(output, overwrite=overwrite)
        line = bar.add_task("audit", total=None)

        def tell(name: str) -> None:
            bar.update(line, description=name)
            if bar.disable:
                say(f"looking at: {name}", quiet=quiet)

        def tell_fold(fold: Any, was_done: bool, n_folds: int) -> None:
            tell(f"perceiver-io, fold {fold.name} {'was done before' if was_done else 'done'} ({n_folds} in all)")

        result = run(request, output, n_jobs=jobs, on_probe=tell, on_fold=tell_fold)
        write_text(output / "config.yaml", config_text(settings))
        found = write_audit(result, output)
    if as_json:
        print_json(document_of(found))
    else:
        print_audit(found)
    if strict and result.verdict != OK:
        raise typer.Exit(1)


def _request(
    store: Path,
    settings: Config,
    task: str | None,
    normalisation: str | None,
    subjects: str | None,
    exclude_subjects: str | None,
    seed: int,
    device: str,
    model_scores: Path | None,
    fit: bool,
    participants: Path | None,
) -> AuditRequest:
    from biopercept.audit.audit import AuditRequest
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.training.settings import FitSettings

    evaluation = EvaluationRequest(
        store,
        "logistic",
        task,
        FitSettings(settings.tokens, settings.model, settings.training),
        settings.normalisation,
        settings.evaluation,
        normalisation is not None,
        options.listed(subjects),
        options.listed(exclude_subjects) or (),
        seed,
        device,
    )
    return AuditRequest(evaluation, settings.audit, model_scores, fit, participants)
