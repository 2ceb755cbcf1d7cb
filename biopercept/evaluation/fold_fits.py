"""Fit a fold on its own subjects, alone or in a stack, here or in a worker; its result as plain values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch

from biopercept.baselines.catalogue import NETWORKS
from biopercept.data.inputs import WindowInputs
from biopercept.data.joined import open_studies
from biopercept.data.splits import Fold
from biopercept.data.windows import FloatArray, IntArray
from biopercept.evaluation.missing_sensors import (
    SensorPredictions,
    calibrated_part,
    plain_predictions,
    predictions_without,
    read_predictions,
    sensor_views,
)
from biopercept.evaluation.plan import EvaluationRequest, Plan
from biopercept.evaluation.runs import fit_each
from biopercept.evaluation.settings import NONE
from biopercept.evaluation.time_split import plan_any
from biopercept.parallel import Executor
from biopercept.progress import each, notice, steps
from biopercept.results.folder import FoldsFile
from biopercept.training.calibration import Calibration
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import FittedModel, calibration_from, held_out_predictions
from biopercept.training.lag import estimated_lags, with_lags
from biopercept.training.loop import FitRequest
from biopercept.typed_values import from_plain, to_plain


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Predictions of one fold's test subjects.

    Attributes
    ----------
    rows : int64 array, shape (n_test,)
        Rows of the window table.
    probabilities : float64 array, shape (n_test, n_classes)
        Mean over the repetitions. Of a regression its number, of several tasks their predictions side by side.
    seconds : float
        Wall-clock time of fitting and predicting.
    history : list
        Per repetition, (epoch, training loss, validation loss) of each epoch.
    operations_per_window : int or None
        Multiply-adds of one prediction; None where the model is no network.
    calibration, uncalibrated
        What was learnt from training-side subjects outside the fit, and the probabilities before it, which the
        prediction sets rest on; None where nothing was to be learnt.
    n_fallen_back : int
        Repetitions in which adapting a model was no better than the model, which was kept.
    fewer_sensors : dict of str to float64 array, shape (n_test, n_classes), or None
        By the name of the set of sensors that was left, NaN where a window has nothing of it; None where not tried.
    lags : mapping of str to float or None
        By task, the lag of its rating as estimated on the fold's training subjects, None where they tell none; empty
        where none was to be estimated.
    """

    fold: Fold
    rows: IntArray
    probabilities: FloatArray
    n_parameters: int
    seconds: float
    history: list[list[tuple[int, float, float | None]]]
    operations_per_window: int | None = None
    calibration: Calibration | None = None
    uncalibrated: FloatArray | None = None
    n_fallen_back: int = 0
    fewer_sensors: SensorPredictions | None = None
    lags: Mapping[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "schema": FoldsFile.SCHEMA,
            "fold": self.fold.name,
            "rows": self.rows.tolist(),
            "probabilities": self.probabilities.tolist(),
            "n_parameters": self.n_parameters,
            "seconds": self.seconds,
            "history": self.history,
            "operations_per_window": self.operations_per_window,
            "calibration": to_plain(self.calibration),
            "uncalibrated": None if self.uncalibrated is None else self.uncalibrated.tolist(),
            **({"n_fallen_back": self.n_fallen_back} if self.n_fallen_back else {}),
            **({"lags": dict(self.lags)} if self.lags else {}),
            **({} if self.fewer_sensors is None else {"fewer_sensors": plain_predictions(self.fewer_sensors)}),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], fold: Fold) -> Self:
        """Return the result that :meth:`to_json` wrote."""
        calibration, uncalibrated = document.get("calibration"), document.get("uncalibrated")
        fewer = document.get("fewer_sensors")
        return cls(
            fold=fold,
            rows=np.asarray(document["rows"], dtype=np.int64),
            probabilities=np.asarray(document["probabilities"], dtype=np.float64),
            n_parameters=document["n_parameters"],
            seconds=document["seconds"],
            history=document["history"],
            operations_per_window=document.get("operations_per_window"),
            calibration=None if calibration is None else from_plain(Calibration, calibration),
            uncalibrated=None if uncalibrated is None else np.asarray(uncalibrated, dtype=np.float64),
            n_fallen_back=document.get("n_fallen_back", 0),
            lags=document.get("lags", {}),
            fewer_sensors=None if fewer is None else read_predictions(fewer, np.shape(document["probabilities"])[-1]),
        )


@dataclass(eq=False)
class _Repetition:
    """One fit of a fold: what is fitted, how its training went, and what the fitted model predicts.

    ``values`` are (n_test, n_values), with fewer sensors by the name of the set that is left; ``held_out`` are rows and
    predictions of training-side subjects outside the fit, for calibration.
    """

    request: FitRequest
    history: list[tuple[int, float, float | None]]
    values: FloatArray | None = None
    fell_back: bool = False
    fewer_sensors: SensorPredictions = field(default_factory=dict)
    held_out: tuple[IntArray, FloatArray] | None = None


def fit_fold(plan: Plan, fold: Fold) -> FoldResult:
    """Return one fold's predictions; they depend on the plan and the fold's subjects, not on what ran before."""
    started = time.perf_counter()
    repetitions, views, model = _repetitions(plan, fold), _views(plan, fold), None
    for repetition in each("repetition", repetitions):
        with threads(plan.request.fit.training.n_threads):
            model = plan.fitter()(repetition.request)
            _predict(plan, fold, repetition, model, views)
    assert model is not None  # n_seeds >= 1
    return _result(plan, fold, repetitions, model, time.perf_counter() - started)


def fit_together(plan: Plan, folds: Sequence[Fold]) -> list[FoldResult]:
    """Return the predictions of several folds, all repetitions of all of them fitted in one program.

    They are those of :func:`fit_fold` within rounding; ``seconds`` divides the time evenly. Where the memory of a card
    is too small for all of them, each half of the folds is fitted together, with a notice, and one fold by itself.
    """
    try:
        return _fit_together(plan, folds)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
    middle = len(folds) // 2
    notice(
        f"the card has not the memory for networks of {len(folds)} folds at once: {middle or 'each repetition'} at "
        "once (evaluation.stack_size=1 does not try, which begins another run)"
    )
    if not middle:
        return [fit_fold(plan, fold) for fold in folds]
    return [*fit_together(plan, folds[:middle]), *fit_together(plan, folds[middle:])]


def _fit_together(plan: Plan, folds: Sequence[Fold]) -> list[FoldResult]:
    started = time.perf_counter()
    repetitions = {fold.name: _repetitions(plan, fold) for fold in folds}
    requests = [repetition.request for of_fold in repetitions.values() for repetition in of_fold]
    with threads(plan.request.fit.training.n_threads), steps("stack", 1, weight=len(folds)):
        models = NETWORKS[plan.request.model].together(requests)
        waiting, last = iter(models), {}
        for fold in folds:
            views = _views(plan, fold)
            for repetition in repetitions[fold.name]:
                last[fold.name] = next(waiting)
                _predict(plan, fold, repetition, last[fold.name], views)
    seconds = (time.perf_counter() - started) / len(folds)
    return [_result(plan, fold, repetitions[fold.name], last[fold.name], seconds) for fold in folds]


def _repetitions(plan: Plan, fold: Fold) -> list[_Repetition]:
    request, windows = plan.request, plan.windows
    inputs = with_lags(plan.inputs, windows.rows_of(fold.fitting))
    repetitions = []
    for number in range(request.evaluation.n_seeds):
        history: list[tuple[int, float, float | None]] = []

        def keep(epoch: int, loss: float, score: float, history: list[Any] = history) -> None:
            history.append((epoch, loss, score if score == score else None))

        fit_request = FitRequest(
            inputs=inputs,
            training=windows.rows_of(fold.training),
            validation=windows.rows_of(fold.validation),
            settings=request.fit,
            engine=engine_for(request.device, request.fit.training.precision),
            seed=seed_for(request.seed, fold.name, number),
            on_epoch=keep,
            unlabelled=fold.unlabelled,
        )
        repetitions.append(_Repetition(fit_request, history))
    return repetitions


def _views(plan: Plan, fold: Fold) -> dict[str, WindowInputs]:
    return sensor_views(plan.inputs, plan.windows.rows_of(fold.test), plan.request.evaluation.missing_sensors)


def _predict(
    plan: Plan, fold: Fold, repetition: _Repetition, model: FittedModel, views: dict[str, WindowInputs]
) -> None:
    """Note what a fitted model predicts of the test subjects and, for calibration, of others outside the fit."""
    rows, calibrating = plan.windows.rows_of(fold.test), plan.request.evaluation.calibrating
    repetition.values, repetition.fell_back = model.predict(rows), model.fell_back
    repetition.fewer_sensors = predictions_without(model, views, rows, repetition.values)
    if calibrating.is_wanted:
        repetition.held_out = held_out_predictions(repetition.request, plan.fitter(), model, calibrating.n_folds)


def _result(
    plan: Plan, fold: Fold, repetitions: Sequence[_Repetition], model: FittedModel, seconds: float
) -> FoldResult:
    """Return the means over repetitions, of which ``model`` is the last, calibrated where that is wanted."""
    values = np.mean([repetition.values for repetition in repetitions if repetition.values is not None], axis=0)
    result = FoldResult(
        fold=fold,
        rows=plan.windows.rows_of(fold.test),
        probabilities=values,
        n_parameters=model.n_parameters,
        seconds=seconds,
        history=[repetition.history for repetition in repetitions],
        operations_per_window=model.operations_per_window,
        n_fallen_back=sum(repetition.fell_back for repetition in repetitions),
        lags=estimated_lags(plan.windows, repetitions[0].request.inputs.windows),
    )
    if plan.request.evaluation.missing_sensors != NONE:
        by_set = [repetition.fewer_sensors for repetition in repetitions]
        result = replace(result, fewer_sensors={name: np.mean([p[name] for p in by_set], axis=0) for name in by_set[0]})
    settings = plan.request.evaluation.calibrating
    if not settings.is_wanted:
        return result
    held_out = [repetition.held_out for repetition in repetitions if repetition.held_out is not None]
    return calibrated_result(result, calibration_from(plan.windows, held_out, settings))


def calibrated_result(result: FoldResult, learnt: Calibration) -> FoldResult:
    """Return a fold's result with calibrated probabilities."""
    values = result.probabilities
    calibrated = replace(result, probabilities=learnt.apply(values), calibration=learnt, uncalibrated=values)
    if result.fewer_sensors is None:
        return calibrated
    return replace(calibrated, fewer_sensors={n: calibrated_part(learnt, p) for n, p in result.fewer_sensors.items()})


def fit_folds(plan: Plan, folds: Sequence[Fold], n_jobs: int | Executor) -> Iterator[tuple[Fold, FoldResult]]:
    """Give each fold's result as it is done, ``n_jobs`` folds (or stacks of folds) at once."""
    if not plan.stack_size:
        yield from fit_each(fit_fold, _plan_of, plan, folds, n_jobs)
        return
    # Stacks of all folds, so that a resumed run ends with equal bytes: one of which some are done is fitted again.
    stacks = [stack for stack in plan.units() if any(fold in folds for fold in stack)]
    for stack, results in fit_each(fit_together, _plan_of, plan, stacks, n_jobs):
        yield from ((fold, result) for fold, result in zip(stack, results, strict=True) if fold in folds)


def _plan_of(request: EvaluationRequest) -> Plan:
    return plan_any(open_studies(request.store, *request.more_stores), request)
