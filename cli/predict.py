"""``predict``: recordings or a study in, timelines of predictions out; one that fails costs one row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biopercept.errors import count

from . import options
from .claims import claim, nothing_done
from .terminal import print_json, recording_progress, say

if TYPE_CHECKING:
    from biopercept.inference.prediction_files import RecordingDone


def predict(
    model: options.SavedModel,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    predicting: options.Predicting = options.Predicting(),
    data: options.PeopleAndChannels = options.PeopleAndChannels(),
    run: options.ModelRun = options.ModelRun(),
) -> None:
    """Write a table of predictions for every recording, with a summary; of several tasks in a folder for each.

    Example: biopercept predict stress-wrist S01.edf -o predictions
    """
    from biopercept.inference.interchange import plain_windows
    from biopercept.inference.prediction import Ways
    from biopercept.inference.prediction_files import PredictionRequest, predict_files
    from biopercept.preprocessing.cleaning import signals_left_out

    options.refuse_swapped("predict", model, paths)
    claim(output, overwrite=run.overwrite, inputs=paths)
    request = PredictionRequest(
        model=model,
        paths=tuple(paths),
        subjects=data.chosen,
        excluded=data.excluded,
        ways=Ways(predicting.every, predicting.adapt),
        abstain_below=predicting.abstain_below,
        abstain_unlike=predicting.abstain_unlike,
        device=run.device,
        overrides=data.overrides,
        also=options.listed(predicting.also) or (),
    )
    windows: list[dict[str, Any]] = []
    remarks: dict[str, list[str]] = {}
    notes: list[Sequence[str]] = []
    n_abstained = 0
    with recording_progress("predicting", quiet=run.quiet, verbose=run.verbose) as show:

        def on_recording(done: RecordingDone) -> None:
            nonlocal n_abstained
            n_abstained += done.n_abstained
            if run.as_json and done.predictions is not None:
                windows.extend(plain_windows(done.predictions, task) for task in done.predictions.tasks)
            if not done.failure:
                notes.append(done.notes)
            if done.remarks:
                remarks[done.title] = list(done.remarks)
            show(done.title, done.n_recordings, f"{done.n_windows} windows", done.failure)
            for words in (*done.remarks, *(done.notes if run.verbose else ())):
                say(f"{done.title}: {words}", quiet=run.quiet)

        written = predict_files(request, output, on_recording=on_recording)
    if not written.n_recordings:
        nothing_done(quiet=run.quiet)
    for sentence in () if run.verbose else signals_left_out(notes):
        say(f"warning: {sentence}", quiet=run.quiet)
    for warning in written.warnings if written.n_recordings else ():
        say(f"warning: {warning}", quiet=run.quiet)
    if n_abstained:
        say(
            f"{count(n_abstained, 'prediction was', 'predictions were')} withheld, see the column reason",
            quiet=run.quiet,
        )
    if run.as_json:
        n_done, n_failed = written.n_recordings, len(written.failures)
        counts = {"n_recordings": n_done, "n_failed": n_failed, "n_abstained": n_abstained}
        words = {"remarks": remarks, "warnings": list(written.warnings)}
        print_json({"output": str(output) if n_done else None, **counts, **words, "predictions": windows})
    elif written.n_recordings:
        for folder in written.folders.values():
            typer.echo(str(folder / "summary.csv"))
    if written.failures:
        raise typer.Exit(1)
