"""``reconstruct``: a missing or bad sensor from the others, with its error where the recording has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .claims import claim, nothing_done
from .terminal import print_result, recording_progress

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
    from biopercept.inference.reconstruction_files import ReconstructRequest, reconstruct_files
    from biopercept.report.reconstruction import error_lines, write_page

    options.refuse_swapped("reconstruct", model, paths)
    claim(output, overwrite=run.overwrite, inputs=paths)
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
    n_done = 0
    with recording_progress("reconstructing", quiet=run.quiet, verbose=run.verbose) as show:

        def on_recording(done: ReconstructedOne) -> None:
            nonlocal n_done
            n_done += not done.failure
            show(done.title, done.n_recordings, ", ".join(done.signals), done.failure)

        result = reconstruct_files(request, output, on_recording=on_recording)
    if not n_done and not run.as_json:  # a page of nothing
        nothing_done(quiet=run.quiet)
        raise typer.Exit(1)
    page = "\n".join((*error_lines(result), str(write_page(result, output))))
    print_result(result, page, output, as_json=run.as_json, quiet=run.quiet)
    if result.n_failed:
        raise typer.Exit(1)
