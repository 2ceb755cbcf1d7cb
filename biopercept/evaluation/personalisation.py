"""What labels of one's own are worth, measured: a curve of gain over the general model against minutes of labels.

1. Subjects are dealt into folds; in each a general model is fitted on the other subjects alone.
2. Of each test subject the later windows are set apart to be scored, the same for all that follows. Before them, with
   a gap, lie the windows whose labels may be used: none (``label-free``: the subject's own first seconds scale the
   inputs), the first k of each class (``few-shot``), or all (``personal``).
3. The general model is adapted by each method, checked on the last of these labels, and kept as it was where that is
   not better or nothing could be checked; then the later windows are scored once.
4. Beside it stands a contrast that is no result: k windows drawn at random from the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from biopercept.errors import SettingsError
from biopercept.evaluation.personal_folds import PersonalFold, fit_personal_fold
from biopercept.evaluation.personal_planning import PersonalPlan, plan_personal_curve
from biopercept.evaluation.personal_scores import curve_of, unchecked_sentences
from biopercept.evaluation.planning import EvaluationRequest
from biopercept.evaluation.run_folder import FoldDone, RunFolder
from biopercept.evaluation.workers import each_fold
from biopercept.files import only_writer, write_table, write_text
from biopercept.learning.checkpoint import versions
from biopercept.learning.engine import engine_for
from biopercept.learning.splits import Fold
from biopercept.reporting.curves import personal_page
from biopercept.results.curves import PersonalCurve, PersonalRow
from biopercept.results.reading import few_subjects_warnings, row_of, write_result
from biopercept.store import open_store
from biopercept.typed_values import from_plain

TABLE, PAGE = "personalisation.csv", "personalisation.md"
LEAST_BOOTSTRAP = 2000


def personalise(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: FoldDone | None = None,
) -> PersonalCurve:
    """Run or resume the curve and return what ``personalisation.json`` holds.

    Parameters
    ----------
    request : EvaluationRequest
        ``evaluation`` gives the folds over subjects, ``personalisation`` the rest.
    output : Path
        Folder: ``personalisation.json``, ``.csv`` (a row per subject, tier, method and k), ``.md``, a file per fold.
    n_jobs : int
        Folds at once, each in a process of its own; results do not depend on it.
    config_text : str
        Effective settings (YAML), kept beside the results.
    overwrite : bool
        Remove the results of an earlier run, once it is sure that this one can begin.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)`` as folds finish.

    Raises
    ------
    SettingsError
        Where a setting does not go with it, or the folder holds something else or folds of other settings or data.
    StudyError
        Where subjects or windows do not suffice, or each file holds one class.
    BusyError
        Where another process is writing there.
    """
    if request.evaluation.n_bootstrap < LEAST_BOOTSTRAP:
        raise SettingsError(
            f"evaluation.n_bootstrap is {request.evaluation.n_bootstrap}; the curve needs at least {LEAST_BOOTSTRAP}"
        )
    kept = RunFolder(
        output,
        "personalisation",
        PersonalCurve.FOLDS,
        "folds",
        PersonalFold.to_json,
        PersonalFold.from_json,
    )
    with open_store(request.store) as store, only_writer(output):
        plan = plan_personal_curve(store, request)
        engine_for(request.device)
        kept.require_own(overwrite=overwrite)
        if overwrite:
            kept.clear((PersonalCurve.FILE, TABLE, PAGE, "config.yaml"))
        kept.begin(plan.identity(), plan.folds)
        write_text(output / "config.yaml", config_text)
        results = kept.results(plan.folds, lambda waiting: _fit_folds(plan, waiting, n_jobs), on_fold)
        found = _document(store.name, plan, results)
        _write_table(found, output / TABLE)
        write_result(output / PersonalCurve.FILE, found)
        write_text(output / PAGE, personal_page(found))
        return found


def _plan_of(request: EvaluationRequest) -> PersonalPlan:
    return plan_personal_curve(open_store(request.store), request)


def _fit_folds(plan: PersonalPlan, folds: Sequence[Fold], n_jobs: int) -> Iterator[tuple[Fold, PersonalFold]]:
    return each_fold(folds, n_jobs, fit_personal_fold, plan=plan, make_plan=_plan_of, request=plan.request)


def _document(study: str, plan: PersonalPlan, results: Sequence[PersonalFold]) -> PersonalCurve:
    request, settings = plan.request, plan.request.personalisation
    rows = sorted((row for result in results for row in result.rows), key=lambda row: str(row["subject"]))
    curve = curve_of(rows, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
    warnings = list(plan.warnings)
    without = {k: [s for s, shots in plan.shots.items() if k not in shots.first] for k in settings.k}
    for k, subjects in without.items():
        if subjects:
            warnings.append(
                f"k = {k} leaves {len(subjects)} of the {len(plan.shots)} scored subjects nothing to score and is not "
                f"asked of them ({', '.join(subjects)}); points of different k are then over different people"
            )
    warnings += unchecked_sentences(rows, settings.unchecked)
    warnings += few_subjects_warnings(len(plan.shots))
    return PersonalCurve(
        study=study,
        task=plan.task.name,
        classes=plan.windows.only.classes,
        split=request.evaluation.split,
        n_folds=len(plan.folds),
        n_subjects=len(plan.shots),
        not_scored=plan.not_scored,
        n_scored_windows=sum(len(shots.scored) for shots in plan.shots.values()),
        window_seconds=plan.windows.length_seconds,
        step_seconds=plan.inputs.step_seconds,
        gap_seconds=plan.gap_seconds,
        chronology=settings.chronology,
        normalisation=plan.normalisation.mode,
        seeds=request.evaluation.n_seeds,
        seed=request.seed,
        n_bootstrap=request.evaluation.n_bootstrap,
        settings=plan.identity()["personalisation"],
        parameters=max(result.n_parameters for result in results),
        seconds=round(sum(result.seconds for result in results), 1),
        start_from=plan.start,
        curve=curve,
        subjects=tuple(from_plain(PersonalRow, row) for row in rows),
        warnings=tuple(warnings),
        fingerprint={"store": plan.store_fingerprint, **versions()},
    )


def _write_table(found: PersonalCurve, target: Path) -> None:
    rows = [row_of(row) for row in found.subjects]
    write_table(target, ("participant_id", *list(rows[0])[1:]), [tuple(row.values()) for row in rows])
