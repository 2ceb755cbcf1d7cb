"""One fold: fitted anew on its own subjects, in this process or in a worker, kept as a file when it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.comparators.catalogue import fitter_for
from biopercept.evaluation.planning import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.run_folder import SCHEMA
from biopercept.evaluation.workers import each_fold
from biopercept.learning.calibration import Calibration
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.fitting import FitRequest
from biopercept.learning.out_of_fold import calibration_from, held_out_answers
from biopercept.learning.splits import Fold
from biopercept.store import open_store


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Predictions of one fold's test subjects.

    Attributes
    ----------
    fold : Fold
    rows : int64 array, shape (n_test,)
        Rows of the window table.
    probabilities : float64 array, shape (n_test, n_classes)
        Mean over the repetitions. Of a regression its number, of several tasks their answers side by side.
    n_parameters : int
    seconds : float
        Wall-clock time of fitting and predicting.
    history : list
        Per repetition, (epoch, training loss, validation loss) of each epoch.
    operations_per_window : int or None
        Multiply-adds of one answer; None where the model is no network.
    calibration : Calibration or None
        What was learnt from answers about training-side subjects outside the fit; None where nothing was asked.
    uncalibrated : float64 array, shape (n_test, n_classes), or None
        Probabilities before calibration, on which the prediction sets rest.
    """

    fold: Fold
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    n_parameters: int
    seconds: float
    history: list[list[tuple[int, float, float | None]]]
    operations_per_window: int | None = None
    calibration: Calibration | None = None
    uncalibrated: NDArray[np.float64] | None = None


def fit_fold(plan: Plan, fold: Fold) -> FoldResult:
    """Return one fold's predictions; they depend on the plan and the fold's subjects, not on what ran before."""
    request, windows = plan.request, plan.windows
    engine = engine_for(request.device, request.fit.training.precision)
    started = time.perf_counter()
    rows = windows.rows_of(fold.test)
    answers, held_out, histories, n_parameters = [], [], [], 0
    settings, fitter = request.evaluation.calibrating, fitter_for(request.model, windows, request.fit.training)
    for repetition in range(request.evaluation.n_seeds):
        history: list[tuple[int, float, float | None]] = []

        def keep(epoch: int, loss: float, validation: float, into: list[Any] = history) -> None:
            into.append((epoch, loss, validation if validation == validation else None))

        with threads(request.fit.training.n_threads):
            wanted = FitRequest(
                plan.inputs,
                windows.rows_of(fold.training),
                windows.rows_of(fold.validation),
                request.fit,
                engine,
                seed_for(request.seed, fold.name, repetition),
                keep,
                fold.unlabelled,
            )
            fitted = fitter(wanted)
            answers.append(fitted.probabilities(rows))
            if settings.is_wanted:
                held_out.append(held_out_answers(wanted, fitter, fitted, settings.n_folds))
        histories.append(history)
        n_parameters = fitted.n_parameters
    seconds = time.perf_counter() - started
    operations, probabilities = fitted.operations_per_window, np.mean(answers, axis=0)
    plain = FoldResult(fold, rows, probabilities, n_parameters, seconds, histories, operations)
    if not settings.is_wanted:
        return plain
    learnt = calibration_from(windows, held_out, settings)
    return replace(plain, probabilities=learnt.apply(probabilities), calibration=learnt, uncalibrated=probabilities)


def fit_folds(plan: Plan, folds: Sequence[Fold], n_jobs: int) -> Iterator[tuple[Fold, FoldResult]]:
    """Give each fold's result as it is done, ``n_jobs`` folds at once; see :func:`~.workers.each_fold`."""
    return each_fold(folds, n_jobs, fit_fold, plan=plan, make_plan=_plan_of, request=plan.request)


def _plan_of(request: EvaluationRequest) -> Plan:
    return plan_evaluation(open_store(request.store), request)


def fold_to_json(result: FoldResult) -> dict[str, Any]:
    """Return a fold's result as plain values."""
    return {
        "schema": SCHEMA,
        "fold": result.fold.name,
        "rows": result.rows.tolist(),
        "probabilities": result.probabilities.tolist(),
        "n_parameters": result.n_parameters,
        "seconds": result.seconds,
        "history": result.history,
        "operations_per_window": result.operations_per_window,
        "calibration": None if result.calibration is None else result.calibration.to_json(),
        "uncalibrated": None if result.uncalibrated is None else result.uncalibrated.tolist(),
    }


def fold_from_json(document: dict[str, Any], fold: Fold) -> FoldResult:
    """Return the result that :func:`fold_to_json` wrote."""
    rows = np.asarray(document["rows"], dtype=np.int64)
    calibration, uncalibrated = document.get("calibration"), document.get("uncalibrated")
    return FoldResult(
        fold,
        rows,
        np.asarray(document["probabilities"], dtype=np.float64),
        document["n_parameters"],
        document["seconds"],
        document["history"],
        document.get("operations_per_window"),
        None if calibration is None else Calibration.from_json(calibration),
        None if uncalibrated is None else np.asarray(uncalibrated, dtype=np.float64),
    )
