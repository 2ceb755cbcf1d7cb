"""Reconstruction of a masked sensor, measured: pretrain on some people, mask a sensor of others, reconstruct it.

1. Subjects are dealt into folds. In each, a network is pretrained by masked reconstruction on the unlabelled windows of
   the training subjects alone; no label is read anywhere.
2. For each measured sensor in turn, everything that comes from it (signal, derived series, features) is hidden in the
   windows of the test subjects, and the network reconstructs each patch of its signals and series.
3. The reconstruction is compared, sample by sample, with what was measured, beside imputation baselines that see no
   sensor at all.

Mean and scale of a masked signal's window are known to network and baselines alike: this measures how a signal's course
around a known level is reconstructed, and not the level of a person never measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.data.splits import K_FOLD, Fold, missing_folds
from biopercept.evaluation.generation_folds import GenerationFold, GenerationPlan, fit_generation_fold, plan_generation
from biopercept.evaluation.metrics import summarise
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.runs import FoldDone, RunFolder
from biopercept.files import only_writer, write_text
from biopercept.modalities import MODALITIES
from biopercept.parallel import Executor, Work, run_jobs
from biopercept.report.generation import generation_page
from biopercept.results.generation import (
    BETTER,
    ERRORS,
    FILLERS,
    LEVEL,
    NETWORK,
    WORSE,
    Difference,
    Generation,
    SignalError,
    SignalScore,
    SubjectErrors,
    Verdict,
)
from biopercept.results.reading import CountedEstimate, few_subjects_warnings, write_result
from biopercept.store.reading import open_store
from biopercept.training.checkpoint import versions
from biopercept.training.engine import engine_for
from biopercept.typed_values import from_plain

PAGE = "generation.md"


def score_generation(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int | Executor = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: FoldDone | None = None,
) -> Generation:
    """Run or resume the experiment and return what ``generation.json`` holds.

    Raises SettingsError where the folder holds something else or folds of other settings or data, or pretraining is not
    masked. Raises StudyError where subjects or windows do not suffice. Raises BusyError where another process is
    writing there.

    Parameters
    ----------
    request : EvaluationRequest
        With ``fit.pretraining`` set to masked reconstruction; its folds are those of ``k-fold``.
    output : Path
        Folder: ``generation.json``, ``generation.md``, a file for each finished fold.
    n_jobs : int or Executor
        Folds at once, each in a process of its own, or what fits them elsewhere; results do not depend on it.
    config_text : str
        Effective settings (YAML), kept beside the results.
    overwrite : bool
        Remove the results of an earlier run, once it is sure that this one can begin.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)`` as folds finish.
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
        own_files = (Generation.FILE, PAGE, "config.yaml")
        kept.begin(plan.identity(), plan.folds, partial(kept.clear, own_files) if overwrite else None)
        write_text(output / "config.yaml", config_text)
        results = kept.results(plan.folds, lambda waiting: _fit_folds(plan, waiting, n_jobs), on_fold)
        result = _document(plan, results)
        write_result(output / Generation.FILE, result)
        write_text(output / PAGE, generation_page(result))
        return result


def _plan_of(request: EvaluationRequest) -> GenerationPlan:
    return plan_generation(open_store(request.store), request)


def _fit_folds(
    plan: GenerationPlan, folds: Sequence[Fold], n_jobs: int | Executor
) -> Iterator[tuple[Fold, GenerationFold]]:
    return run_jobs(Work(fit_generation_fold, _plan_of, plan.request), folds, n_jobs, plan)


def _document(plan: GenerationPlan, results: Sequence[GenerationFold]) -> Generation:
    request = plan.request
    rows = [row for result in results for row in result.rows]
    signals = generation_scores(rows, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
    windows = sum(int((~np.asarray(r.windows.is_labelled)).sum()) for r in plan.recordings)
    subjects = {r.subject for r in plan.recordings}
    queried = {signal.sensor for signal in signals}
    warnings = [
        f"the sensor {name} has no signal that the network reads (tokens.raw, tokens.derived), so it was not "
        "reconstructed"
        for name in plan.sensors
        if name not in queried
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


def generation_scores(rows: Sequence[Mapping[str, Any]], *, seed: int, n_bootstrap: int) -> tuple[SignalScore, ...]:
    """Return a row for each hidden sensor and signal: errors and the paired difference to a baseline.

    The baseline compared with is the one with the lowest mean error on these very test subjects, for each error again:
    a choice in the baselines' favour.

    Parameters
    ----------
    rows : sequence of mapping
        Of :func:`~.generation_errors.subject_errors`, with ``subject`` and ``sensor``.
    seed, n_bootstrap : int
        Of the bootstrap over subjects.
    """

    def over_subjects(values: Sequence[float | None]) -> CountedEstimate:
        return CountedEstimate.of(summarise(values, chance=0.0, seed=seed, n_bootstrap=n_bootstrap))

    def error_of(rows: Sequence[Mapping[str, Any]], error: str) -> SignalError:
        errors = {name: over_subjects([row[error][name] for row in rows]) for name in (NETWORK, *FILLERS)}
        best = min(FILLERS, key=lambda name: errors[name].mean or 0.0)
        differences = [row[error][NETWORK] - row[error][best] for row in rows]
        return SignalError(
            **{name.replace(" ", "_"): estimate for name, estimate in errors.items()},
            best_filler=best,
            network_minus_best_filler=Difference.of(
                over_subjects(differences), n_better=sum(value < 0 for value in differences)
            ),
        )

    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["sensor"], row["signal"]), []).append(row)
    order = list(MODALITIES)
    table = []
    for sensor, signal in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        subjects = sorted(groups[sensor, signal], key=lambda row: str(row["subject"]))
        known = MODALITIES[signal]
        errors = {error: error_of(subjects, error) for error in ERRORS}
        table.append(
            SignalScore(
                sensor=sensor,
                signal=signal,
                title=known.title,
                unit=known.unit,
                is_derived=known.is_derived,
                n_subjects=len(subjects),
                n_windows=sum(row["n_windows"] for row in subjects),
                n_patches=sum(row["n_patches"] for row in subjects),
                **errors,
                correlation=over_subjects([row["correlation"] for row in subjects]),
                verdict=_verdict(errors["rmse"].network_minus_best_filler.ci95),
            )
        )
    return tuple(table)


def _verdict(interval: Sequence[float] | None) -> Verdict:
    if interval is None or interval[0] <= 0 <= interval[1]:
        return LEVEL
    return BETTER if interval[1] < 0 else WORSE
