"""``pretrain``: a network taught by the signals themselves, without labels, of one study or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from . import options
from .terminal import epoch_progress, print_json


@dataclass(frozen=True)
class Pretext:
    """What is learnt without labels, and what the network begins with."""

    objective: Annotated[
        str | None, typer.Option("--objective", metavar="masked|contrastive|alignment", help="What is learnt.")
    ] = None
    start_from: options.StartFrom = None


def pretrain(
    stores: options.Stores,
    output: options.Output,
    pretext: Pretext = Pretext(),
    people: options.People = options.People(),
    preset: options.ModelPreset = options.ModelPreset(),
    run: options.FitRun = options.FitRun(),
) -> None:
    """Pretrain a network on unlabelled windows and save it for --start-from.

    Several processes do it together under torchrun --nproc-per-node N -m biopercept.cli pretrain ...

    Example: biopercept pretrain my-study.h5 -o pretrained
    """
    from biopercept.config.settings import Purpose
    from biopercept.files import refuse_existing
    from biopercept.results.reading import document_of
    from biopercept.training.pretraining import StoresRequest, pretrain_on_stores

    refuse_existing(output, overwrite=run.overwrite)
    named = {"pretraining.objective": pretext.objective}
    settings = preset.of_store(stores, named, purposes=[people.of(Purpose("pretrain"))], quiet=run.quiet)
    plan = getattr(settings, "plan", None)
    request = StoresRequest(
        stores=tuple(stores),
        fit=settings.fit(pretext.start_from, is_pretrained=True),
        normalisation=settings.normalisation,
        subjects=people.chosen,
        excluded=people.excluded,
        seed=run.seed,
        device=run.device,
        plan=None if plan is None else document_of(plan),
    )
    with epoch_progress("pretraining", settings.pretraining.n_epochs, quiet=run.quiet, verbose=run.verbose) as show:
        done = pretrain_on_stores(request, output, on_epoch=show)
    if not done.is_written:
        return
    if run.as_json:
        print_json({"model": str(output), "studies": list(done.studies), "loss": done.history[-1][1]})
    else:
        typer.echo(str(output))
