"""``reconstruct``: a missing or bad sensor from the others, with its error where the recording has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, print_text, progress, say

if TYPE_CHECKING:
    from biopercept.inference.reconstruction_files import ReconstructedOne


@dataclass(frozen=True)
class Wanted:
    """What is reconstructed, and at whose scale."""

    sensor: Annotated[
        str | None,
        options.data_option(
            "--sensor", metavar="NAME", help="A sensor or series (eda, heart_rate); else all that a recording lacks."
        ),
    ] = None
    study: Annotated[
        str | None,
        options.model_option("--study", metavar="NAME", help="Whose scale is used, of a network of several studies."),
    ] = None


def reconstruct(
    model: options.SavedModel,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    wanted: Wanted = Wanted(),
    data: options.PeopleAndChannels = options.PeopleAndChannels(),
    run: options.ModelRun = options.ModelRun(),
) -> None:
    """Write a missing or bad sensor as the others give it, with its error where the recording has the sensor.

    MODEL is a network that pretrain --objective masked wrote. Where a sensor is there it is hidden and reconstructed
    too: its error stands beside those of a straight line and of a mean, so that one sees whether it is worth anything.
    Exit code 1 where a recording could not be reconstructed: it is named.

    Example: biopercept reconstruct pretrained S01.edf --sensor eda -o reconstructed
    """
    from biopercept.files import refuse_existing
    from biopercept.inference.reconstruction_files import ReconstructRequest, reconstruct_files
    from biopercept.report.reconstruction import error_lines, write_page

    refuse_existing(output, overwrite=run.overwrite)
    request = ReconstructRequest(
        model=model,
        paths=tuple(paths),
        sensor=wanted.sensor,
        study=wanted.study,
        subjects=data.chosen,
        excluded=data.excluded,
        device=run.device,
        overrides=data.overrides,
    )
    with progress(quiet=run.quiet) as bar:
        line = bar.add_task("reconstructing: recordings", total=None)

        def show(done: ReconstructedOne) -> None:
            if done.failure:
                say(f"{done.title}: {done.failure}")
            elif bar.disable or run.verbose:
                say(f"{done.title}: {', '.join(done.signals)}", quiet=run.quiet)
            bar.update(line, total=done.n_recordings, advance=1)

        result = reconstruct_files(request, output, on_recording=show)
    page = write_page(result, output)
    for warning in result.warnings:
        say(f"warning: {warning}", quiet=run.quiet)
    if run.as_json:
        print_json(result)
    else:
        for words in error_lines(result):
            print_text(words)
        print_text(str(page))
    if result.n_failed:
        raise typer.Exit(1)
