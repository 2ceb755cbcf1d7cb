"""A fold is fitted anew on its own subjects, alone or in a stack, here or in a worker; its result as plain values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biopercept.data.joined import open_studies
from biopercept.data.splits import Fold
from biopercept.errors import SettingsError
from biopercept.evaluation.missing_sensors import (
    NONE,
    SensorAnswers,
    answers_without,
    calibrated_part,
    plain_answers,
    read_answers,
    sensor_views,
)
from biopercept.evaluation.plan import EvaluationRequest, Plan, in_stacks
from biopercept.evaluation.runs import SCHEMA
from biopercept.evaluation.time_split import plan_any
from biopercept.parallel import each_fold
from biopercept.training.calibration import Calibration
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import Fitted, Fitter, NetworkFitter, calibration_from, held_out_answers
from biopercept.training.loop import FitRequest


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Predictions of one fold's test subjects.

    Attributes
    ----------
    rows : int64 array, shape (n_test,)
        Rows of the window table.
    probabilities : float64 array, shape (n_test, n_classes)
        Mean over the repetitions. Of a regression its number, of several tasks their answers side by side.
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
    n_fallen_back : int
        Repetitions in which adapting a model was no better than the model, which was kept.
    fewer_sensors : dict of str to float64 array, shape (n_test, n_classes), or None
        Probabilities by the name of the set of sensors that was left, NaN where a window has nothing of it; None where
        that was not asked.
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
    n_fallen_back: int = 0
    fewer_sensors: SensorAnswers | None = None


_History = list[tuple[int, float, float | None]]
_HeldOut = tuple[NDArray[np.int64], NDArray[np.float64]]


def fit_fold(plan: Plan, fold: Fold) -> FoldResult:
    """Return one fold's predictions; they depend on the plan and the fold's subjects, not on what ran before."""
    started = time.perf_counter()
    rows = plan.windows.rows_of(fold.test)
    fitted, answers, held_out, histories, fewer, n_fallen = None, [], [], [], [], 0
    views = sensor_views(plan.inputs, rows, plan.request.evaluation.missing_sensors)
    for repetition in range(plan.request.evaluation.n_seeds):
        asked, history = _asked(plan, fold, repetition)
        with threads(plan.request.fit.training.n_threads):
            fitted = _fitter(plan)(asked)
            answers.append(fitted.probabilities(rows))
            n_fallen += bool(getattr(fitted, "fell_back", False))
            fewer.append(answers_without(fitted, views, rows, answers[-1], plan.request.fit.tokens))
            if plan.request.evaluation.calibrating.is_wanted:
                held_out.append(_held_out(plan, asked, fitted))
        histories.append(history)
    assert fitted is not None  # n_seeds >= 1
    result = _result(plan, fold, fitted, answers, held_out, histories, fewer, time.perf_counter() - started)
    return replace(result, n_fallen_back=n_fallen)


def fit_together(plan: Plan, folds: Sequence[Fold]) -> list[FoldResult]:
    """Return the predictions of several folds, all repetitions of all of them fitted in one program.

    They are those of :func:`fit_fold` within rounding; ``seconds`` shares the time evenly.

    Raises
    ------
    SettingsError
        Where they do not fit into the memory of the device.
    """
    started = time.perf_counter()
    fitter = _fitter(plan)
    assert isinstance(fitter, NetworkFitter)  # plan.stack_size > 0
    n_seeds = plan.request.evaluation.n_seeds
    asked = [_asked(plan, fold, repetition) for fold in folds for repetition in range(n_seeds)]
    told = []
    with threads(plan.request.fit.training.n_threads):
        try:
            fitted = fitter.together([request for request, _ in asked])
        except torch.OutOfMemoryError as fault:
            raise SettingsError(
                f"{len(asked)} networks at once do not fit into the memory of the device; set evaluation.stack_size "
                "lower (which begins another run: choose another output or add --overwrite)"
            ) from fault
        for number, fold in enumerate(folds):
            rows = plan.windows.rows_of(fold.test)
            own = slice(number * n_seeds, (number + 1) * n_seeds)
            answers = [network.probabilities(rows) for network in fitted[own]]
            views = sensor_views(plan.inputs, rows, plan.request.evaluation.missing_sensors)
            fewer = [
                answers_without(network, views, rows, answer, plan.request.fit.tokens)
                for network, answer in zip(fitted[own], answers, strict=True)
            ]
            held_out = [
                _held_out(plan, request, network)
                for (request, _), network in zip(asked[own], fitted[own], strict=True)
                if plan.request.evaluation.calibrating.is_wanted
            ]
            told.append((fold, fitted[own][-1], answers, held_out, [history for _, history in asked[own]], fewer))
    seconds = (time.perf_counter() - started) / len(folds)
    return [_result(plan, *parts, seconds) for parts in told]


def _held_out(plan: Plan, asked: FitRequest, fitted: Fitted) -> _HeldOut:
    """Return answers about training-side subjects outside the fit, for calibration."""
    return held_out_answers(asked, _fitter(plan), fitted, plan.request.evaluation.calibrating.n_folds)


def _asked(plan: Plan, fold: Fold, repetition: int) -> tuple[FitRequest, _History]:
    """Return what is asked of the model in one repetition of a fold, and where the course of its training is noted."""
    request, windows = plan.request, plan.windows
    history: _History = []

    def keep(epoch: int, loss: float, validation: float) -> None:
        history.append((epoch, loss, validation if validation == validation else None))

    asked = FitRequest(
        plan.inputs,
        windows.rows_of(fold.training),
        windows.rows_of(fold.validation),
        request.fit,
        engine_for(request.device, request.fit.training.precision),
        seed_for(request.seed, fold.name, repetition),
        keep,
        fold.unlabelled,
    )
    return asked, history


def _result(
    plan: Plan,
    fold: Fold,
    fitted: Fitted,
    answers: Sequence[NDArray[np.float64]],
    held_out: Sequence[_HeldOut],
    histories: list[_History],
    fewer: Sequence[SensorAnswers],
    seconds: float,
) -> FoldResult:
    probabilities = np.mean(answers, axis=0)
    n_operations, rows = fitted.operations_per_window, plan.windows.rows_of(fold.test)
    plain = FoldResult(fold, rows, probabilities, fitted.n_parameters, seconds, histories, n_operations)
    settings = plan.request.evaluation.calibrating
    if plan.request.evaluation.missing_sensors != NONE:
        plain = replace(plain, fewer_sensors={name: np.mean([own[name] for own in fewer], axis=0) for name in fewer[0]})
    if not settings.is_wanted:
        return plain
    learnt = calibration_from(plan.windows, held_out, settings)
    calibrated = replace(
        plain, probabilities=learnt.apply(probabilities), calibration=learnt, uncalibrated=probabilities
    )
    if plain.fewer_sensors is None:
        return calibrated
    return replace(calibrated, fewer_sensors={n: calibrated_part(learnt, p) for n, p in plain.fewer_sensors.items()})


def _fitter(plan: Plan) -> Fitter:
    return plan.fitter()


def fit_folds(plan: Plan, folds: Sequence[Fold], n_jobs: int) -> Iterator[tuple[Fold, FoldResult]]:
    """Give each fold's result as it is done, ``n_jobs`` folds (or stacks of folds) at once; see :mod:`~.workers`."""
    if not plan.stack_size:
        yield from each_fold(folds, n_jobs, fit_fold, plan=plan, make_plan=_plan_of, request=plan.request)
        return
    # Stacks of all folds, so that a resumed run ends with equal bytes: one of which some are done is fitted again.
    every = in_stacks(plan.folds, plan.stack_size, plan.request.evaluation)
    stacks = [stack for stack in every if any(fold in folds for fold in stack)]
    for stack, results in each_fold(stacks, n_jobs, fit_together, plan=plan, make_plan=_plan_of, request=plan.request):
        yield from ((fold, result) for fold, result in zip(stack, results, strict=True) if fold in folds)


def _plan_of(request: EvaluationRequest) -> Plan:
    return plan_any(open_studies(request.store, *request.more_stores), request)


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
        **({"n_fallen_back": result.n_fallen_back} if result.n_fallen_back else {}),
        **({} if result.fewer_sensors is None else {"fewer_sensors": plain_answers(result.fewer_sensors)}),
    }


def fold_from_json(document: dict[str, Any], fold: Fold) -> FoldResult:
    """Return the result that :func:`fold_to_json` wrote."""
    rows = np.asarray(document["rows"], dtype=np.int64)
    calibration, uncalibrated = document.get("calibration"), document.get("uncalibrated")
    fewer = document.get("fewer_sensors")
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
        document.get("n_fallen_back", 0),
        None if fewer is None else read_answers(fewer, np.shape(document["probabilities"])[-1]),
    )
