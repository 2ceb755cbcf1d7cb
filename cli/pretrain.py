"""``pretrain``: a network taught by the signals themselves, without labels, of one study or several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say, settings_for


def pretrain(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Stores that prepare wrote.")],
    output: options.Output,
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="masked|contrastive|alignment", help="What is learnt.")
    ] = None,
    start_from: options.StartFrom = None,
    normalisation: options.Normalisation = None,
    config: options.ConfigName = None,
    overrides: options.Overrides = None,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Pretrain a network on unlabelled windows and save it for --start-from."""
    from biopercept.config import Purpose
    from biopercept.training.pretraining import StoresRequest, pretrain_on_stores
    from biopercept.training.settings import FitSettings

    refuse_existing(output, overwrite=overwrite)
    named = {"pretraining.objective": objective, "normalisation.mode": normalisation}
    chosen = [f"{key}={value}" for key, value in named.items() if value is not None]
    purposes = [Purpose("pretrain")]
    settings = settings_for(stores[0], config, [*(overrides or []), *chosen], purposes=purposes, quiet=quiet)
    start = str(start_from or "")
    request = StoresRequest(
        stores=tuple(stores),
        fit=FitSettings(settings.tokens, settings.model, settings.training, settings.pretraining, start_from=start),
        normalisation=settings.normalisation,
        subjects=options.listed(subjects),
        excluded=options.listed(exclude_subjects) or (),
        seed=seed,
        device=device,
    )
    with progress(quiet=quiet) as bar:
        line = bar.add_task("pretraining: epochs", total=settings.pretraining.n_epochs)

        def show(epoch: int, loss: float) -> None:
            bar.update(line, advance=1)
            if bar.disable:
                say(f"epoch {epoch}: loss {loss:.4f}", quiet=quiet)

        done = pretrain_on_stores(request, output, on_epoch=show)
    if as_json:
        print_json({"model": str(output), "studies": list(done.studies), "loss": done.history[-1][1]})
    else:
        typer.echo(str(output))
