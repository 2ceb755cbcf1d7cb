"""``explain``: what a model's answers rested on, by time, channel, modality and feature, and whether to believe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.errors import count

from . import options
from .claims import claim, nothing_done
from .terminal import print_result, recording_progress

if TYPE_CHECKING:
    from biopercept.inference.explanation_files import ExplainedOne


@dataclass(frozen=True)
class Explaining:
    """What is explained."""

    of_class: Annotated[
        str | None,
        options.model_option("--class", metavar="NAME", help="Explain this class in every window, not the predicted."),
    ] = None
    n_windows: Annotated[
        int,
        options.data_option("--n-windows", metavar="N", min=1, help="At most so many windows of each, evenly spread."),
    ] = 100


@dataclass(frozen=True)
class ExplainedData(options.PeopleAndChannels):
    """Whose recordings are explained, and which tasks of the model."""

    task: options.TaskName = None


@dataclass(frozen=True)
class ExplainRun(options.ModelRun):
    """How the command runs; the seed is of the random deletions."""

    seed: options.Seed = 0


def explain(
    model: options.SavedModel,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    data: ExplainedData = ExplainedData(),
    explaining: Explaining = Explaining(),
    run: ExplainRun = ExplainRun(),
) -> None:
    """Write what a model's answers rested on: tables and a page, by sensor, modality, channel, time and feature.

    Three methods stand side by side (attention roll-out, integrated gradients, occlusion), each with its faithfulness:
    whether what it calls important matters more than as much taken at random. Exit code 1 where a recording could not
    be explained: it is named.

    Example: biopercept explain stress-wrist S01.edf -o explained
    """
    from biopercept.inference.explanation import ExplainSettings
    from biopercept.inference.explanation_files import ExplainRequest, explain_files
    from biopercept.report.explanation import faithfulness_lines, write_page

    options.refuse_swapped("explain", model, paths)
    claim(output, overwrite=run.overwrite, inputs=paths)
    request = ExplainRequest(
        model=model,
        paths=tuple(paths),
        settings=ExplainSettings(explaining.n_windows, explaining.of_class, run.seed),
        tasks=options.listed(data.task),
        subjects=data.chosen,
        excluded=data.excluded,
        device=run.device,
        overrides=data.overrides,
    )
    n_done = 0
    with recording_progress("explaining", quiet=run.quiet, verbose=run.verbose) as show:

        def on_recording(done: ExplainedOne) -> None:
            nonlocal n_done
            n_done += not done.failure
            show(done.title, done.n_recordings, count(done.n_windows, "window"), done.failure)

        result = explain_files(request, output, on_recording=on_recording)
    if not n_done and not run.as_json:  # a page of nothing
        nothing_done(quiet=run.quiet)
        raise typer.Exit(1)
    page = "\n".join((*faithfulness_lines(result), str(write_page(result, output))))
    print_result(result, page, output, as_json=run.as_json, quiet=run.quiet)
    if result.n_failed:
        raise typer.Exit(1)
