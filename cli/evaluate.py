"""``evaluate``: a saved model scored on labelled people it has not seen, with the files of a cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, progress, safe_text, say

if TYPE_CHECKING:
    from biopercept.prepare.reuse import LogRow


@dataclass(frozen=True)
class Unseen(options.GroupedData):
    """Who is scored in which of the model's tasks (all that the study has), and who must not have been seen."""

    trained_on: Annotated[
        Path | None,
        options.data_option(
            "--trained-on", metavar="STORE", help="The model's training store: recordings are compared with it."
        ),
    ] = None
    allow_seen: Annotated[
        bool,
        options.data_option("--allow-seen", help="Score people that the model was fitted to, and mark it as a leak."),
    ] = False
    missing_sensors: options.MissingSensors = False
    adapt: options.Adapt = "none"


@contextmanager
def preparing(*, quiet: bool, verbose: bool) -> Iterator[Callable[[int, int, LogRow], None]]:
    """Give what shows the progress of preparing, on a bar or in lines."""
    with progress(quiet=quiet) as bar:
        line = bar.add_task("preparing", total=None)

        def show(n_done: int, n_all: int, row: LogRow) -> None:
            bar.update(line, completed=n_done, total=n_all, description=safe_text(row.title))
            if bar.disable or verbose:
                say(f"[{n_done}/{n_all}] {row.title}: {row.status}", quiet=quiet)

        yield show


def evaluate(
    model: options.SavedModel,
    data: Annotated[
        Path, typer.Argument(metavar="STUDY|STORE", help="A study folder, or a store with the model's windows.")
    ],
    output: options.Output,
    people: Unseen = Unseen(),
    run: options.FoldRun = options.FoldRun(),
) -> None:
    """Score a saved model on labelled people it has not seen: an external validation. Nothing is fitted.

    A study folder is prepared with the windows and cleaning of the model. The study's tasks say which of its labels
    belong to the model's classes. report and compare read the results as those of a cross-validation.

    Exit code 1 where some recordings could not be prepared: they are named, and the others are scored.

    Example: biopercept evaluate stress-wrist other-study -o external
    """
    from biopercept.comparison.groups import write_groups
    from biopercept.errors import StudyError
    from biopercept.evaluation.external import evaluate_data
    from biopercept.evaluation.external_people import ExternalRequest
    from biopercept.evaluation.settings import EvaluationSettings
    from biopercept.prepare.study import PrepareRun
    from biopercept.report.page import print_scores
    from biopercept.report.score_sections import write_figures
    from biopercept.studies.loading import load_study
    from biopercept.typed_values import path_meant

    options.refuse_swapped("evaluate", model, [data])
    request = ExternalRequest(
        model,
        task=people.task,
        trained_on=people.trained_on,
        is_seen_allowed=people.allow_seen,
        adapt=people.adapt,
        subjects=people.chosen,
        excluded=people.excluded,
        evaluation=EvaluationSettings(missing_sensors="all" if people.missing_sensors else "none"),
        seed=run.seed,
        device=run.device,
    )
    if not data.exists():
        raise StudyError(f"there is neither a study folder nor a store {data}{path_meant(data)}")
    study = load_study(data) if data.is_dir() else None
    levels = people.levels(study)
    how = PrepareRun(n_jobs=run.jobs, overwrite=run.overwrite)
    with ExitStack() as stack:
        shown = None if study is None else stack.enter_context(preparing(quiet=run.quiet, verbose=run.verbose))
        scores, failures = evaluate_data(request, study or data, output, run=how, on_progress=shown)
    compared = () if levels is None else write_groups(output, levels, seed=run.seed)
    write_figures(output)
    for failure in failures:
        say(f"failed: {failure}")
    for warning in (*scores["warnings"], *compared):
        say(f"warning: {warning}", quiet=run.quiet)
    if run.as_json:
        print_json(scores)
    else:
        print_scores(output)
    say(f"written: {output}", quiet=run.quiet)
    if failures:
        raise typer.Exit(1)
