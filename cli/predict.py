"""``predict``: recordings or a study in, timelines of predictions out; one that fails costs one row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say

if TYPE_CHECKING:
    from biopercept.inference.prediction_files import RecordingDone


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that train wrote.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", help="Also predict at times this far apart (densely trained models)."
        ),
    ] = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write a table of predictions for every recording, with a summary; of several tasks in a folder for each."""
    from biopercept.inference.prediction_files import PredictionRequest, predict_files

    refuse_existing(output, overwrite=overwrite)
    request = PredictionRequest(
        model=model,
        paths=tuple(paths),
        subjects=options.listed(subjects),
        excluded=options.listed(exclude_subjects) or (),
        every_seconds=every,
        device=device,
    )
    with progress(quiet=quiet) as bar:
        line = bar.add_task("predicting: recordings", total=None)

        def show(done: RecordingDone) -> None:
            if done.failure:
                say(f"{done.title}: {done.failure}")
            elif bar.disable or verbose:
                say(f"{done.title}: {done.n_windows} windows", quiet=quiet)
            for note in done.notes if verbose else ():
                say(f"{done.title}: {note}", quiet=quiet)
            bar.update(line, total=done.n_recordings, advance=1)

        written = predict_files(request, output, on_recording=show)
    for warning in written.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        n_done, n_failed = written.n_recordings, len(written.failures)
        print_json({"output": str(output), "n_recordings": n_done, "n_failed": n_failed})
    else:
        for folder in written.folders.values():
            typer.echo(str(folder / "summary.csv"))
    if written.failures:
        raise typer.Exit(1)
