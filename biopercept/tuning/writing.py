"""The files of a selection: ``tuning.json``, tables, page, settings to go on with, and the nested score as results."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from biopercept.evaluation.run_folder import SCHEMA
from biopercept.evaluation.scoring import write_scores
from biopercept.files import write_json, write_table, write_text
from biopercept.reporting.tuning import tuning_page
from biopercept.results.reading import write_result
from biopercept.results.tuning import Tuning
from biopercept.tuning.document import tuning_of
from biopercept.tuning.ranking import METRICS
from biopercept.tuning.selected import NESTED_FOLDER, Selection

FILES = (Tuning.FILE, "tuning.csv", "tuning.md", "inner_scores.csv")
CHOSEN = "chosen.yaml"


def write_tuning(selection: Selection, output: Path) -> Tuning:
    """Write every file of a selection and return the content of ``tuning.json``, which is written last.

    Raises
    ------
    OutputError
        Where a file cannot be written.
    """
    found = tuning_of(selection)
    _write_table(found, output / "tuning.csv")
    _write_inner_scores(selection, output / "inner_scores.csv")
    write_text(output / "tuning.md", tuning_page(found))
    _write_chosen(selection, output)
    _write_nested(selection, output / NESTED_FOLDER)
    write_result(output / Tuning.FILE, found)
    return found


def _write_table(found: Tuning, path: Path) -> None:
    """Write a row per candidate, best first; those that could not be fitted last, without scores."""
    names = ("inner_balanced_accuracy", "inner_auroc", "difference_to_best")
    columns = ["name", "model", "store", "changes"]
    for name in names:
        columns += [name, f"{name}_low", f"{name}_high"]
    rows: list[list[object]] = []
    for candidate in found.candidates:
        row: list[object] = [candidate.name, candidate.model, candidate.store, _changes(candidate.changes)]
        for estimate in (candidate.inner_balanced_accuracy, candidate.inner_auroc, candidate.difference_to_best):
            row += [estimate.mean, *(estimate.ci95 or (None, None))]
        rows.append([*row, candidate.parameters, candidate.seconds, candidate.times_chosen, ""])
    rows += [[failed.name, *[None] * 15, failed.reason] for failed in found.failed]
    write_table(path, [*columns, "parameters", "seconds", "times_chosen", "failure"], rows)


def _changes(changes: Mapping[str, str]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in changes.items())


def _write_inner_scores(selection: Selection, path: Path) -> None:
    """Write every inner score: candidate, outer fold that sees it, subject."""
    rows = []
    for name, scores in selection.inner.items():
        design = selection.design_of(name)
        for number, fold in enumerate(design.outer):
            for place, subject in enumerate(design.windows.subjects):
                if subject not in fold.test:
                    values = (float(getattr(scores, metric)[number, place]) for metric in METRICS)
                    rows.append((name, fold.name, subject, *values))
    write_table(path, ("candidate", "outer_fold", "participant_id", *METRICS), rows)


def _write_chosen(selection: Selection, output: Path) -> None:
    """Write the recommended settings; of an ensemble those of each member, and of the best single candidate."""
    for path in output.glob("chosen*.yaml"):
        path.unlink()
    best, single = selection.best, selection.best_single
    members = selection.candidate(best).members
    for member in members:
        write_text(output / f"chosen-{member}.yaml", _settings(selection, member, f"chosen-{member}.yaml", best))
    if single is not None:
        write_text(output / CHOSEN, _settings(selection, single, CHOSEN, best))


def _settings(selection: Selection, name: str, file: str, best: str) -> str:
    candidate = selection.candidate(name)
    request = candidate.request
    assert request is not None  # no ensemble
    words = f"biopercept cross-validate {request.store.name} -c {file}"
    words += f" --model {request.model}" if request.model != "perceiver-io" else ""
    words += " --pretrain" if request.fit.pretraining is not None else ""
    place = "the best" if name == best else f"the best was the ensemble {best}"
    lines = [
        f"# Candidate {name} of {len(selection.candidates)} that biopercept tune compared ({place}); used with",
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
    warnings = dict.fromkeys(warning for design in nested.designs for warning in design.plan.warnings)
    folds = tuple(answer.fold for answer in nested.answers)
    plan = replace(plan, folds=folds, warnings=tuple(warnings))
    dealt = next(iter(selection.designs.values())).plan.request  # the first candidate's outer folds are all's
    run = {"tuned": list(selection.winners), "split": dealt.evaluation.identity(), "seed": dealt.seed}
    write_json(folder / "folds.json", {"schema": SCHEMA, "run": run, "folds": [fold.to_json() for fold in folds]})
    single = selection.best_single
    text = "" if single is None else selection.candidate(single).config_text
    head = "# Each fold used the settings that it chose itself (see ../tuning.json); these are the best single ones.\n"
    write_text(folder / "config.yaml", head + text)
    write_scores(plan, nested.answers, folder)
