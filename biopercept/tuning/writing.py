"""The files of a selection: ``tuning.json``, tables, page, settings to go on with, and the nested score as results."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from biopercept.evaluation.metrics import chance_levels
from biopercept.evaluation.scoring import write_scores
from biopercept.files import write_table, write_text
from biopercept.report.text import listed, with_interval
from biopercept.report.tuning import tuning_page
from biopercept.results.folder import FoldsFile
from biopercept.results.plan import SettingsPlan, write_plan, write_settings
from biopercept.results.reading import write_result
from biopercept.results.tuning import (
    CandidateScore,
    FailedCandidate,
    NestedScore,
    NestedSubject,
    OuterFold,
    RankedCandidate,
    TunedScore,
    Tuning,
)
from biopercept.tuning.design import Design
from biopercept.tuning.ranking import METRICS, NESTED_FOLDER, InnerScores, Scores, Selection, ranked
from biopercept.version import __version__

FILES = (Tuning.FILE, "tuning.csv", "tuning.md", "inner_scores.csv", SettingsPlan.FILE)
CHOSEN = "chosen.yaml"


def write_tuning(selection: Selection, output: Path) -> Tuning:
    """Write every file of a selection and return the content of ``tuning.json``, which is written last.

    Raises OutputError where a file cannot be written.
    """
    tuning = tuning_of(selection)
    _write_table(tuning, output / "tuning.csv")
    _write_inner_scores(selection, output / "inner_scores.csv")
    write_text(output / "tuning.md", tuning_page(tuning))
    _write_chosen(selection, output)
    _write_nested(selection, output / NESTED_FOLDER)
    write_result(output / Tuning.FILE, tuning)
    return tuning


def _write_table(tuning: Tuning, path: Path) -> None:
    """Write a row per candidate, best first; those that could not be fitted last, without scores."""
    names = ("inner_balanced_accuracy", "inner_auroc", "difference_to_best")
    columns = ["name", "model", "store", "changes"]
    for name in names:
        columns += [name, f"{name}_low", f"{name}_high"]
    rows: list[list[object]] = []
    for candidate in tuning.candidates:
        changes = "; ".join(f"{key}: {value}" for key, value in candidate.changes.items())
        row: list[object] = [candidate.name, candidate.model, candidate.store, changes]
        for estimate in (candidate.inner_balanced_accuracy, candidate.inner_auroc, candidate.difference_to_best):
            row += [estimate.mean, *(estimate.ci95 or (None, None))]
        rows.append([*row, candidate.parameters, candidate.seconds, candidate.times_chosen, ""])
    rows += [[failed.name, *[None] * 15, failed.reason] for failed in tuning.failed]
    write_table(path, [*columns, "parameters", "seconds", "times_chosen", "failure"], rows)


def _write_inner_scores(selection: Selection, path: Path) -> None:
    """Write every inner score: candidate, outer fold that sees it, subject."""
    rows = []
    for name, scores in selection.inner.items():
        design = selection.design_of(name)
        for number, fold in enumerate(design.outer):
            for index, subject in enumerate(design.windows.subjects):
                if subject not in fold.test:
                    values = (float(getattr(scores, metric)[number, index]) for metric in METRICS)
                    rows.append((name, fold.name, subject, *values))
    write_table(path, ("candidate", "outer_fold", "participant_id", *METRICS), rows)


def _write_chosen(selection: Selection, output: Path) -> None:
    """Write the recommended settings; of an ensemble those of each member, and of the best single candidate.

    Beside those of the single one lies the plan that they follow from, where they do.
    """
    for path in output.glob("chosen*.yaml"):
        path.unlink()
    best, single = selection.best, selection.best_single
    members = selection.candidate(best).members
    for member in members:
        write_text(output / f"chosen-{member}.yaml", _settings(selection, member, f"chosen-{member}.yaml", best))
    if single is not None:
        write_text(output / CHOSEN, _settings(selection, single, CHOSEN, best))
    request = None if single is None else selection.candidate(single).request
    write_plan(output / SettingsPlan.FILE, None if request is None else request.settings_plan)


def _settings(selection: Selection, name: str, file: str, best: str) -> str:
    candidate = selection.candidate(name)
    request = candidate.request
    assert request is not None  # no ensemble
    words = f"biopercept cross-validate {request.store.name} -c {file}"
    words += f" --model {request.model}" if request.model != "perceiver-io" else ""
    words += " --pretrain" if request.fit.pretraining is not None else ""
    rank = "the best" if name == best else f"the best was the ensemble {best}"
    lines = [
        f"# Candidate {name} of {len(selection.candidates)} that biopercept tune compared ({rank}); used with",
        f"#     {words} -o OUT",
        "# A cross-validation of the same subjects is no fair score of a choice made on them: tuning.md has one.",
    ]
    return "\n".join(lines) + "\n" + candidate.config_text


def _write_nested(selection: Selection, folder: Path) -> None:
    """Write the nested predictions as results that report and compare read; only where they are of the same windows."""
    shutil.rmtree(folder, ignore_errors=True)
    nested = selection.nested
    if not nested.is_of_one_table():
        return
    first = nested.designs[0]
    plain = replace(first.plan.request.evaluation, calibration="none", conformal_coverage=0.0)
    plan = replace(first.plan, request=replace(first.plan.request, model="tuned", evaluation=plain))
    folds = tuple(result.fold for result in nested.results)
    plan = replace(plan, folds=folds, warnings=_warnings_of(nested.designs))
    dealt = selection.first.plan.request
    run = {"tuned": list(selection.winners), "split": dealt.evaluation.identity(), "seed": dealt.seed}
    write_result(folder / FoldsFile.FILE, FoldsFile(run=run, folds=folds))
    single = selection.best_single
    text = "" if single is None else selection.candidate(single).config_text
    request = None if single is None else selection.candidate(single).request
    head = "# Each fold used the settings that it chose itself (see ../tuning.json); these are the best single ones.\n"
    write_settings(folder, head + text, None if request is None else request.settings_plan)
    write_scores(plan, nested.results, folder)


def tuning_of(selection: Selection) -> Tuning:
    """Return what a selection found as it is written."""
    design = selection.first
    request, windows = design.plan.request, design.windows
    order = ranked(list(selection.inner.values()))
    bare = Tuning(
        biopercept=__version__,
        task=design.plan.task.name,
        classes=windows.only.classes,
        n_subjects=len(windows.subjects),
        n_folds=len(design.outer),
        seed=request.seed,
        n_candidates=len(selection.candidates),
        n_inner_fits=sum(len(d.pairs) for name, d in selection.designs.items() if name in selection.inner),
        chance=chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=request.seed),
        chosen=order[0].name,
        chosen_times=selection.winners.count(order[0].name),
        candidates=tuple(_candidate(selection, scores, order[0]) for scores in order),
        failed=tuple(FailedCandidate(name=name, reason=why) for name, why in selection.failures.items()),
        outer_folds=_outer_folds(selection),
        nested=_nested(selection),
        findings=(),
    )
    return replace(bare, findings=tuple(_findings(bare)))


def _over_subjects(selection: Selection, values: Sequence[float | None] | Scores, chance: float) -> TunedScore:
    numbers = [None if value is None else float(value) for value in values]
    return TunedScore.of(selection.first.plan.bootstrap.score(numbers, chance=chance))


def _candidate(selection: Selection, scores: InnerScores, best: InnerScores) -> CandidateScore:
    candidate, design = selection.candidate(scores.name), selection.design_of(scores.name)
    n_classes = design.windows.only.n_classes
    mine, other = scores.by_subject("balanced_accuracy"), best.by_subject("balanced_accuracy")
    request = design.plan.request
    return CandidateScore(
        name=scores.name,
        model="ensemble" if candidate.members else request.model,
        members=candidate.members,
        store=request.store.name,
        changes=dict(candidate.changes),
        normalisation=design.plan.normalisation.mode,
        window_seconds=design.windows.length_seconds,
        inner_balanced_accuracy=_over_subjects(selection, mine, 1.0 / n_classes),
        inner_auroc=_over_subjects(selection, scores.by_subject("auroc"), 0.5),
        difference_to_best=_over_subjects(selection, mine - other, 0.0),
        parameters=scores.n_parameters,
        seconds=round(scores.seconds, 1),
        times_chosen=selection.winners.count(scores.name),
        warnings=_warnings_of(selection.designs[name] for name in candidate.members or (candidate.name,)),
    )


def _warnings_of(designs: Iterable[Design]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warning for design in designs for warning in design.plan.warnings))


def _outer_folds(selection: Selection) -> tuple[OuterFold, ...]:
    folds = []
    for number, winner in enumerate(selection.winners):
        fold = selection.nested.results[number].fold
        ranking = (
            RankedCandidate(
                name=scores.name,
                balanced_accuracy=_plain(scores.of_fold("balanced_accuracy", number)),
                auroc=_plain(scores.of_fold("auroc", number)),
            )
            for scores in ranked(list(selection.inner.values()), number)
        )
        folds.append(OuterFold(fold=fold.name, test=fold.test, chosen=winner, ranking=tuple(ranking)))
    return tuple(folds)


def _nested(selection: Selection) -> NestedScore:
    chosen = {r.fold.name: w for r, w in zip(selection.nested.results, selection.winners, strict=True)}
    rows = tuple(
        NestedSubject(
            participant_id=scores.participant,
            fold=fold,
            n_windows=scores.n_windows,
            balanced_accuracy=scores.balanced_accuracy,
            auroc=scores.auroc,
            chosen=chosen[fold],
        )
        for fold, scores in sorted(selection.nested.per_subject(), key=lambda scored: scored[1].participant)
    )
    inner = [selection.inner[winner].of_fold("balanced_accuracy", i) for i, winner in enumerate(selection.winners)]
    chance = 1.0 / selection.first.windows.only.n_classes
    return NestedScore(
        balanced_accuracy=_over_subjects(selection, [row.balanced_accuracy for row in rows], chance),
        auroc=_over_subjects(selection, [row.auroc for row in rows], 0.5),
        inner_balanced_accuracy_of_winners=_plain(float(np.mean(inner))),
        seconds=round(sum(result.seconds for result in selection.nested.results), 1),
        subjects=rows,
    )


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _findings(tuning: Tuning) -> list[str]:
    """Return what a reader has to know, in sentences."""
    tried, n_failed = tuning.n_candidates, len(tuning.failed)
    lost = f" ({n_failed} of them could not be fitted)" if n_failed else ""
    sentences = [
        f"{tried} candidate{'s were' if tried != 1 else ' was'} tried{lost} inside the training side of each of "
        f"{tuning.n_folds} outer folds over {tuning.n_subjects} subjects, with {tuning.n_inner_fits} fits in "
        "all; no score that a fold chose by came from a fit, or was of a subject, of its own test group."
    ]
    nested = tuning.nested
    mean, inner = nested.balanced_accuracy.mean, nested.inner_balanced_accuracy_of_winners
    if mean is not None:
        sentences.append(
            "Tuning and then using what was chosen reaches a balanced accuracy of "
            f"{with_interval(mean, nested.balanced_accuracy.ci95)} on subjects that neither fitting nor choosing saw: "
            "this is the score to report."
        )
    if mean is not None and inner is not None:
        sentences.append(
            f"Inside, the winners had {inner:.3f}, which is no score to report: the best of many is too good by having "
            "been chosen."
        )
    best = tuning.candidates[0]
    sentences.append(
        f"Recommended is {best.name}, with the best inner score over all folds; "
        f"{tuning.chosen_times} of {tuning.n_folds} outer folds chose it."
    )
    differences = {candidate.name: candidate.difference_to_best.ci95 for candidate in tuning.candidates[1:]}
    if close := [name for name, interval in differences.items() if interval is None or interval[1] >= 0]:
        names = listed(close, limit=12)
        sentences.append(f"Not told apart from it (the interval of the paired difference reaches 0): {names}.")
    return sentences
