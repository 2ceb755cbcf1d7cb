"""``tune``: settings and models compared inside the training subjects, and an honest score of having chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, work_sharing
from .terminal import print_json, print_text, progress, say

if TYPE_CHECKING:
    from biopercept.config.settings import Purpose
    from biopercept.tuning.candidates import Draft
    from biopercept.tuning.design import Candidate


@dataclass(frozen=True)
class Choice:
    """What is chosen from, and in which folds."""

    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", metavar="FILE", help="YAML: NAME: {section.key: value, model: NAME, ...} a line."),
    ] = None
    trials: Annotated[
        int, typer.Option("--trials", min=0, help="Random draws from the search space, beside the settings as given.")
    ] = 0
    folds: Annotated[
        int, typer.Option("--folds", min=3, help="Outer folds over subjects; K (K - 1) / 2 fits for each candidate.")
    ] = 5


@dataclass(frozen=True)
class _Given:
    """All that a candidate is fitted with beside what it changes."""

    store: Path
    n_folds: int
    data: options.Data
    preset: options.Preset
    run: options.FoldRun
    purposes: tuple[Purpose, ...]


def tune(
    store: options.Store,
    output: options.Output,
    choice: Choice = Choice(),
    data: options.Data = options.Data(),
    preset: options.Preset = options.Preset(),
    run: work_sharing.SharedFoldRun = work_sharing.SharedFoldRun(),
) -> None:
    """Choose settings inside the training subjects and score the choice on subjects that it did not see.

    An interrupted run goes on where it stopped; candidates added later are fitted and the others used again.

    Example: biopercept tune my-study.h5 -o tuned --trials 8
    """
    from biopercept.errors import SettingsError
    from biopercept.tuning import selection
    from biopercept.tuning.candidates import random_trials, read_candidates

    if choice.candidates is None and not choice.trials:
        raise SettingsError("tune needs something to choose from: --candidates FILE, --trials N, or both")
    sharing, executor = run.sharing(*run.anew), run.executor(run.jobs, output)
    drafts = [
        *(read_candidates(choice.candidates) if choice.candidates is not None else ()),
        *(random_trials(choice.trials, run.seed) if choice.trials else ()),
    ]
    purposes = tuple(data.of(_purpose(draft, data.task)) for draft in drafts if not draft.members)
    given = _Given(store, choice.folds, data, preset, run, purposes)
    n_done: dict[int, int] = {}
    with progress(quiet=run.quiet) as bar:
        line = bar.add_task("inner fits", total=None)

        def show(candidate: str, fold: str, was_done: bool, n_fits: int) -> None:
            n_done[n_fits] = n_done.get(n_fits, 0) % n_fits + 1
            bar.update(line, total=n_fits, completed=n_done[n_fits])
            if bar.disable or run.verbose:
                state = "was done before" if was_done else "done"
                say(f"{n_done[n_fits]}/{n_fits} {candidate} without {fold} {state}", quiet=run.quiet)

        candidates = [_candidate(draft, given) for draft in drafts]
        first = next((one.request for one in candidates if one.request is not None), None)
        options.say_plan(None if first is None else first.settings_plan, quiet=run.quiet)
        result = selection.tune(
            candidates, output, n_jobs=executor, overwrite=run.overwrite, sharing=sharing, on_fit=show
        )
    for failed in result.failed:
        say(f"warning: candidate {failed.name} could not be fitted: {failed.reason}", quiet=run.quiet)
    if run.as_json:
        print_json(result)
        return
    for sentence in result.findings:
        print_text(sentence)
    print_text(str(output / "tuning.md"))


def _purpose(draft: Draft, task: str | None) -> Purpose:
    from biopercept.config.settings import Purpose

    return Purpose.of("tune", draft.model, task, pretrain=draft.is_pretrained)


def _candidate(draft: Draft, given: _Given) -> Candidate:
    """Return what is fitted for a draft: the command's settings, and over them what the draft changes."""
    from biopercept.config.settings import unread_sentence
    from biopercept.errors import SettingsError
    from biopercept.tuning.design import Candidate

    if draft.members:
        return Candidate(draft.name, draft.changes(), members=draft.members)
    store = draft.store or given.store
    changes = [f"{key}={value}" for key, value in draft.settings]
    preset = options.ModelPreset(draft.config or given.preset.config, [*(given.preset.overrides or ()), *changes])
    try:
        usual = ("evaluation.split=k-fold",)
        settings = preset.of_store(store, purposes=given.purposes, quiet=True, usual=usual)
        for key, _ in draft.settings:  # the command's settings are for whichever candidate reads them
            if sentence := unread_sentence(key, [_purpose(draft, given.data.task)], settings):
                raise SettingsError(sentence)
    except SettingsError as fault:
        raise SettingsError(f"candidate {draft.name}: {fault}") from fault
    request = options.evaluation_request(
        settings,
        [store],
        given.data,
        preset,
        given.run,
        model=draft.model,
        task=given.data.task,
        fit=settings.fit(is_pretrained=draft.is_pretrained),
        evaluation=replace(settings.evaluation, split="k-fold", n_folds=given.n_folds),
    )
    return Candidate(draft.name, draft.changes(), request, settings.text)
