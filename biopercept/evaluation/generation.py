"""Generation of a hidden sensor, measured: pretrain on some people, take a sensor from others, ask for it.

1. Subjects are dealt into folds. In each, a network is pretrained by masked reconstruction on the unlabelled windows of
   the training subjects alone; no label is read anywhere.
2. For each measured sensor in turn, everything that comes from it (signal, derived series, features) is hidden in the
   windows of the test subjects, and the network is asked for each patch of its signals and series.
3. What it says is compared, sample by sample, with what was measured, beside fillers that see no sensor at all.

The scale of a hidden signal (centre and spread of the window) is known to network and fillers alike: this measures what
is told about the course of a signal around a known level, and not the level of a person never measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from biopercept.evaluation.generation_folds import (
    GenerationFold,
    GenerationPlan,
    fit_generation_fold,
    plan_generation,
)
from biopercept.evaluation.generation_scores import generation_scores
from biopercept.evaluation.planning import EvaluationRequest
from biopercept.evaluation.run_folder import FoldDone, RunFolder
from biopercept.evaluation.workers import each_fold
from biopercept.files import only_writer, write_text
from biopercept.learning.checkpoint import versions
from biopercept.learning.engine import engine_for
from biopercept.learning.splits import K_FOLD, Fold, missing_folds
from biopercept.reporting.generation import generation_page
from biopercept.results.generation import FILLERS, Generation, SubjectErrors
from biopercept.results.reading import few_subjects_warnings, write_result
from biopercept.store import open_store
from biopercept.typed_values import from_plain

PAGE = "generation.md"


def score_generation(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: FoldDone | None = None,
) -> Generation:
    """Run or resume the experiment and return what ``generation.json`` holds.

    Parameters
    ----------
    request : EvaluationRequest
        With ``fit.pretraining`` set to masked reconstruction; its folds are those of ``k-fold``.
    output : Path
        Folder: ``generation.json``, ``generation.md``, a file for each finished fold.
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
        Where the folder holds something else or folds of other settings or data, or pretraining is not masked.
    StudyError
        Where subjects or windows do not suffice.
    BusyError
        Where another process is writing there.
    """
    kept = RunFolder(
        output,
        "scores of generation",
        "generation_folds.json",
        "folds",
        GenerationFold.to_json,
        GenerationFold.from_json,
    )
    with open_store(request.store) as store, only_writer(output):
        plan = plan_generation(store, request)
        engine_for(request.device)
        kept.require_own(overwrite=overwrite)
        if overwrite:
            kept.clear((Generation.FILE, PAGE, "config.yaml"))
        kept.begin(plan.identity(), plan.folds)
        write_text(output / "config.yaml", config_text)
        results = kept.results(plan.folds, lambda waiting: _fit_folds(plan, waiting, n_jobs), on_fold)
        found = _document(plan, results)
        write_result(output / Generation.FILE, found)
        write_text(output / PAGE, generation_page(found))
        return found


def _plan_of(request: EvaluationRequest) -> GenerationPlan:
    return plan_generation(open_store(request.store), request)


def _fit_folds(plan: GenerationPlan, folds: Sequence[Fold], n_jobs: int) -> Iterator[tuple[Fold, GenerationFold]]:
    return each_fold(folds, n_jobs, fit_generation_fold, plan=plan, make_plan=_plan_of, request=plan.request)


def _document(plan: GenerationPlan, results: Sequence[GenerationFold]) -> Generation:
    request = plan.request
    rows = [row for result in results for row in result.rows]
    signals = generation_scores(rows, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
    windows = sum(int((~np.asarray(r.windows.is_labelled)).sum()) for r in plan.recordings)
    subjects = {r.subject for r in plan.recordings}
    asked = {signal.sensor for signal in signals}
    warnings = [
        f"the sensor {name} has no signal that the network reads (tokens.raw, tokens.derived), so it was not asked for"
        for name in plan.sensors
        if name not in asked
    ]
    warnings += missing_folds(plan.folds, K_FOLD, request.evaluation.n_folds)
    warnings += few_subjects_warnings(len(subjects))
    return Generation(
        study=plan.study,
        n_subjects=len(subjects),
        n_windows=windows,
        window_seconds=plan.length_seconds,
        step_seconds=plan.step_seconds,
        n_folds=len(plan.folds),
        normalisation=request.normalisation.mode,
        seed=request.seed,
        n_epochs=plan.pretraining.n_epochs,
        parameters=max(result.n_parameters for result in results),
        seconds=round(sum(result.seconds for result in results), 1),
        seconds_pretraining=round(sum(result.seconds_pretraining for result in results), 1),
        fillers=FILLERS,
        signals=signals,
        subjects=tuple(from_plain(SubjectErrors, row) for row in rows),
        warnings=tuple(warnings),
        fingerprint={"store": plan.fingerprint, **versions()},
    )
