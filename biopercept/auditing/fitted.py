"""A Perceiver fitted by the audit itself, in few folds: its answers and its latents for every window, kept per fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biopercept.auditing.material import FoldValues, Material
from biopercept.auditing.model_outputs import ModelOutputs
from biopercept.auditing.settings import AuditSettings
from biopercept.evaluation.planning import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.run_folder import RunFolder
from biopercept.evaluation.workers import each_fold
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.fitting import FitRequest, fit_perceiver_io
from biopercept.learning.splits import K_FOLD, Fold
from biopercept.store import StudyStore, open_store

if TYPE_CHECKING:
    from biopercept.learning.token_source import TokenSource
    from biopercept.model.biosignals import BiosignalPerceiver

MODEL = "perceiver-io"
FOLDER = "model-folds"


@dataclass(frozen=True, eq=False)
class FoldLatents:
    """What a fold's network makes of every window.

    Attributes
    ----------
    probabilities : float64 array, shape (n_windows, n_classes)
    latents : float32 array, shape (n_windows, 2 * width)
        The mean of the latents, and the decoder's answer that the output layer reads.
    """

    probabilities: NDArray[np.float64]
    latents: NDArray[np.float32]


def fit_with_latents(plan: Plan, fold: Fold) -> FoldLatents:
    """Return the answers and latents of a Perceiver fitted on the fold's training subjects alone."""
    request, windows = plan.request, plan.windows
    engine = engine_for(request.device, request.fit.training.precision)
    with threads(request.fit.training.n_threads):
        fitted = fit_perceiver_io(
            FitRequest(
                plan.inputs,
                windows.rows_of(fold.training),
                windows.rows_of(fold.validation),
                request.fit,
                engine,
                seed_for(request.seed, fold.name, 0),
            )
        )
        network = fitted.fitted.network
        return FoldLatents(
            fitted.probabilities(np.arange(len(windows), dtype=np.int64)),
            latents_of(network, fitted.source, len(windows)),
        )


def latents_of(
    network: BiosignalPerceiver, source: TokenSource, n_windows: int, *, batch_size: int = 256
) -> NDArray[np.float32]:
    """Return the mean latent and the decoder's answer of each window, (n_windows, 2 * width)."""
    import torch

    network.eval()
    found = np.zeros((n_windows, 2 * network.settings.width), dtype=np.float32)
    with torch.inference_mode():
        for rows in source.layouts.parts(np.arange(n_windows, dtype=np.int64), most=batch_size):
            tokens, mask = network.fusion(source.batch(rows))
            latents = network.core.encode(tokens, mask)
            answer = network.core.decode(latents, network.queries())[:, 0]
            found[rows] = torch.cat([latents.mean(1), answer], 1).float().cpu().numpy()
    return found


def fit_model(
    store: StudyStore,
    request: EvaluationRequest,
    settings: AuditSettings,
    material: Material,
    output: Path,
    *,
    n_jobs: int,
    on_fold: Callable[[Fold, bool, int], None] | None = None,
) -> tuple[ModelOutputs, tuple[FoldValues, ...]]:
    """Fit a Perceiver in each of few folds, or take up what an earlier run left, and return answers and latents.

    Parameters
    ----------
    store, request, settings, material
        As of the audit.
    output : Path
        Folds are kept in ``output/model-folds``.
    n_jobs : int
        Folds fitted at once.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)``.

    Raises
    ------
    SettingsError
        Where the folder holds folds of other settings or data, or one that is damaged.
    """
    n_folds = min(settings.fit_folds, len(material.windows.subjects))
    training = replace(request.fit.training, dense_weight=0.0)
    evaluation = replace(request.evaluation, split=K_FOLD, n_folds=n_folds, n_seeds=1, label_share=1.0)
    fit = replace(request.fit, training=training)
    plan = plan_evaluation(store, replace(request, model=MODEL, evaluation=evaluation, fit=fit))
    kept = RunFolder(output / FOLDER, "fitted model", "folds.json", "folds", _to_json, _from_json)
    kept.begin(plan.identity(), plan.folds)

    def work(waiting: Sequence[Fold]) -> Iterator[tuple[Fold, FoldLatents]]:
        return each_fold(waiting, n_jobs, fit_with_latents, plan=plan, make_plan=_plan_of, request=plan.request)

    held = kept.results(plan.folds, work, on_fold)
    windows = plan.windows
    probabilities = np.full((len(windows), windows.only.n_classes), np.nan)
    names = np.full(len(windows), "", dtype=object)
    values = []
    for fold, result in zip(plan.folds, held, strict=True):
        rows = windows.rows_of(fold.test)
        probabilities[rows], names[rows] = result.probabilities[rows], fold.name
        values.append(FoldValues(windows.rows_of(fold.fitting), rows, result.latents.astype(np.float64)))
    fitted_on = {fold.name: fold.fitting for fold in plan.folds}
    return ModelOutputs(MODEL, probabilities, tuple(names.tolist()), fitted_on), tuple(values)


def _plan_of(request: EvaluationRequest) -> Plan:
    return plan_evaluation(open_store(request.store), request)


def _to_json(result: FoldLatents) -> dict[str, Any]:
    return {"probabilities": result.probabilities.tolist(), "latents": result.latents.tolist()}


def _from_json(document: dict[str, Any], _fold: Fold) -> FoldLatents:
    probabilities = np.asarray(document["probabilities"], dtype=np.float64)
    latents = np.asarray(document["latents"], dtype=np.float32)
    if probabilities.ndim != 2 or latents.ndim != 2 or len(probabilities) != len(latents):
        raise ValueError("rows are missing")
    return FoldLatents(probabilities, latents)
