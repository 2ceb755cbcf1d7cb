"""``tune``: settings and models compared inside the training subjects, and an honest score of having chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, print_text, progress, say, settings_for

if TYPE_CHECKING:
    from biopercept.tuning.candidates import Draft
    from biopercept.tuning.design import Candidate


def tune(
    store: Annotated[Path, typer.Argument(help="A store that prepare wrote.")],
    output: options.Output,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", metavar="FILE", help="YAML: NAME: {section.key: value, model: NAME, ...} a line."),
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", min=0, help="Random draws from the search space, beside the settings as given.")
    ] = 0,
    folds: Annotated[
        int, typer.Option("--folds", min=3, help="Outer folds over subjects; K (K - 1) / 2 fits for each candidate.")
    ] = 5,
    task: options.TaskName = None,
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
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Choose settings inside the training subjects and score the choice on subjects that it did not see.

    An interrupted run goes on where it stopped; candidates added later are fitted and the others used again.
    """
    from biopercept.errors import SettingsError
    from biopercept.results.reading import document_of
    from biopercept.tuning.candidates import random_trials, read_candidates
    from biopercept.tuning.selection import tune as run

    if candidates is None and not trials:
        raise SettingsError("tune needs something to choose from: --candidates FILE, --trials N, or both")
    drafts = [
        *(read_candidates(candidates) if candidates is not None else ()),
        *(random_trials(trials, seed) if trials else ()),
    ]

    def made(draft: Draft) -> Candidate:
        return _candidate(draft, store, task, folds, config, overrides, subjects, exclude_subjects, seed, device)

    n_done: dict[int, int] = {}
    with progress(quiet=quiet) as bar:
        line = bar.add_task("inner fits", total=None)

        def tell(candidate: str, fold: str, was_done: bool, n_fits: int) -> None:
            n_done[n_fits] = n_done.get(n_fits, 0) % n_fits + 1
            bar.update(line, total=n_fits, completed=n_done[n_fits])
            if bar.disable or verbose:
                state = "was done before" if was_done else "done"
                say(f"{n_done[n_fits]}/{n_fits} {candidate} without {fold} {state}", quiet=quiet)

        found = run([made(draft) for draft in drafts], output, n_jobs=jobs, overwrite=overwrite, on_fit=tell)
    for failed in found.failed:
        say(f"warning: candidate {failed.name} could not be fitted: {failed.reason}", quiet=quiet)
    if as_json:
        print_json(document_of(found))
        return
    for sentence in found.findings:
        print_text(sentence)
    print_text(str(output / "tuning.md"))


def _candidate(
    draft: Draft,
    store: Path,
    task: str | None,
    folds: int,
    config: str | None,
    overrides: list[str] | None,
    subjects: str | None,
    exclude_subjects: str | None,
    seed: int,
    device: str,
) -> Candidate:
    """Return what is fitted for a draft: the command's settings, and over them what the draft changes."""
    from dataclasses import replace

    from biopercept.config import config_text
    from biopercept.errors import SettingsError
    from biopercept.evaluation.plan import EvaluationRequest
    from biopercept.training.settings import FitSettings
    from biopercept.tuning.design import Candidate

    if draft.members:
        return Candidate(draft.name, draft.changes(), members=draft.members)
    changed = [f"{key}={value}" for key, value in draft.settings]
    try:
        settings = settings_for(
            draft.store or store, draft.config or config, [*(overrides or []), *changed], quiet=True
        )
    except SettingsError as fault:
        raise SettingsError(f"candidate {draft.name}: {fault}") from fault
    pretraining = settings.pretraining if draft.is_pretrained else None
    request = EvaluationRequest(
        draft.store or store,
        draft.model,
        task,
        FitSettings(settings.tokens, settings.model, settings.training, pretraining),
        settings.normalisation,
        replace(settings.evaluation, split="k-fold", n_folds=folds),
        False,
        options.listed(subjects),
        options.listed(exclude_subjects) or (),
        seed,
        device,
    )
    return Candidate(draft.name, draft.changes(), request, config_text(settings))
