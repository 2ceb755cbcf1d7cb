"""``audit``: what could make scores on a store better than they are, probe by probe, each with a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import print_json, progress, say


@dataclass(frozen=True)
class Audited:
    """What else is audited beside the store, and what a verdict does."""

    model_scores: Annotated[
        Path | None,
        typer.Option(
            "--model-scores", metavar="DIR", help="Audit the predictions of this finished cross-validation too."
        ),
    ] = None
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit perceiver-io in few folds and audit its predictions and latents too.")
    ] = False
    participants: options.Participants = None
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where any verdict is not ok.")] = False


def audit(
    store: options.Store,
    output: options.Output,
    audited: Audited = Audited(),
    data: options.Data = options.Data(),
    preset: options.ModelPreset = options.ModelPreset(),
    run: options.FoldRun = options.FoldRun(),
) -> None:
    """Look for leaks and confounds: ok, warning or leak per probe.

    Each verdict comes with a sentence that can be quoted.

    Example: biopercept audit my-study.h5 -o audit
    """
    from biopercept.audit import audit as auditing
    from biopercept.config.settings import Purpose
    from biopercept.files import only_writer
    from biopercept.report.audit import print_audit
    from biopercept.results.audit import OK
    from biopercept.results.plan import write_settings

    purpose = data.of(Purpose.of("audit", "perceiver-io" if audited.fit else "logistic", data.task, fit=audited.fit))
    settings = preset.of_store(store, purposes=[purpose], quiet=run.quiet)
    request = auditing.AuditRequest(
        options.evaluation_request(settings, [store], data, preset, run, model="logistic", task=data.task),
        settings.audit,
        audited.model_scores,
        audited.fit,
        audited.participants,
    )
    with only_writer(output), progress(quiet=run.quiet) as bar:
        auditing.claim(output, overwrite=run.overwrite)
        line = bar.add_task("audit", total=None)

        def show(name: str) -> None:
            bar.update(line, description=name)
            if bar.disable or run.verbose:
                say(f"looking at: {name}", quiet=run.quiet)

        def show_fold(fold: Any, was_done: bool, n_folds: int) -> None:
            show(f"perceiver-io, fold {fold.name} {'was done before' if was_done else 'done'} ({n_folds} in all)")

        result = auditing.audit(request, output, n_jobs=run.jobs, on_probe=show, on_fold=show_fold)
        auditing.write_audit(result, output)
        write_settings(output, settings.text, request.evaluation.settings_plan)
    if run.as_json:
        print_json(result)
    else:
        print_audit(result)
    say(f"written: {output}", quiet=run.quiet)
    if audited.strict and result.verdict != OK:
        raise typer.Exit(1)
