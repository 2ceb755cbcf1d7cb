"""A Perceiver fitted by the audit itself, in few folds: its answers and its latents for every window, kept per fold."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopercept.auditing.material import FoldValues, Material
from biopercept.auditing.model_outputs import ModelOutputs
from biopercept.auditing.settings import AuditSettings
from biopercept.errors import SettingsError
from biopercept.evaluation.folds import fit_folds
from biopercept.evaluation.planning import EvaluationRequest, Plan, plan_evaluation
from biopercept.files import write_bytes, write_json
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.fitting import FitRequest, fit_perceiver_io
from biopercept.learning.splits import K_FOLD, Fold
from biopercept.store import StudyStore

if TYPE_CHECKING:
    from biopercept.learning.inputs import TokenSource
    from biopercept.model.biosignals import BiosignalPerceiver

MODEL = "perceiver-io"
FOLDER, RUN_FILE = "model-folds", "run.json"


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
            latents_of(network, fitted.source, len(windows)),  # type: ignore[arg-type]
        )


def latents_of(
    network: BiosignalPerceiver, source: TokenSource, n_windows: int, *, batch_size: int = 256
) -> NDArray[np.float32]:
    """Return the mean latent and the decoder's answer of each window, (n_windows, 2 * width)."""
    import torch

    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, n_windows, batch_size):
            rows = np.arange(start, min(start + batch_size, n_windows), dtype=np.int64)
            tokens, mask = network.fusion(source.batch(rows))
            latents = network.core.encode(tokens, mask)
            answer = network.core.decode(latents, network.queries())[:, 0]
            parts.append(torch.cat([latents.mean(1), answer], 1).float().cpu().numpy())
    joined: NDArray[np.float32] = np.concatenate(parts)
    return joined


def fit_model(
    store: StudyStore,
    request: EvaluationRequest,
    settings: AuditSettings,
    material: Material,
    output: Path,
    *,
    n_jobs: int,
    on_fold: Callable[[str, bool, int], None],
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
    on_fold : callable
        Told ``(fold, was_done_before, n_folds)``.

    Raises
    ------
    SettingsError
        Where the folder holds folds of other settings or data, or one that is damaged.
    """
    n_folds = min(settings.fit_folds, len(material.windows.subjects))
    evaluation = replace(request.evaluation, split=K_FOLD, n_folds=n_folds, n_seeds=1)
    plan = plan_evaluation(store, replace(request, model=MODEL, evaluation=evaluation))
    folder = output / FOLDER
    _begin(plan, folder)
    paths = {fold.name: folder / f"{index:03d}.npz" for index, fold in enumerate(plan.folds, 1)}
    waiting = [fold for fold in plan.folds if not paths[fold.name].is_file()]
    for fold in plan.folds:
        if fold not in waiting:
            on_fold(fold.name, True, len(plan.folds))
    for fold, result in fit_folds(plan, waiting, n_jobs, fit_with_latents):
        _write(paths[fold.name], result)
        on_fold(fold.name, False, len(plan.folds))
    held = {fold: _read(paths[fold.name], plan) for fold in plan.folds}
    windows = plan.windows
    probabilities = np.full((len(windows), windows.n_classes), np.nan)
    names = np.full(len(windows), "", dtype=object)
    values = []
    for fold, result in held.items():
        rows = windows.rows_of(fold.test)
        probabilities[rows], names[rows] = result.probabilities[rows], fold.name
        values.append(FoldValues(windows.rows_of(fold.fitting), rows, result.latents.astype(np.float64)))
    training = {fold.name: fold.fitting for fold in plan.folds}
    return ModelOutputs(MODEL, probabilities, tuple(names.tolist()), training), tuple(values)


def _begin(plan: Plan, folder: Path) -> None:
    """Write what the folds are of, or check that those of an earlier run are the same."""
    path = folder / RUN_FILE
    document = json.loads(json.dumps({"run": plan.identity(), "folds": [asdict(fold) for fold in plan.folds]}))
    if not path.is_file():
        write_json(path, document)
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise SettingsError(f"{path} is damaged; add --overwrite to start anew") from fault
    if earlier != document:
        raise SettingsError(
            f"{folder.parent} holds a model fitted with other settings or data; choose another output, or add "
            "--overwrite to start anew"
        )


def _write(path: Path, result: FoldLatents) -> None:
    content = io.BytesIO()
    np.savez(content, probabilities=result.probabilities, latents=result.latents)
    write_bytes(path, content.getvalue())


def _read(path: Path, plan: Plan) -> FoldLatents:
    n_windows, n_classes = len(plan.windows), plan.windows.n_classes
    try:
        with np.load(path, allow_pickle=False) as held:
            result = FoldLatents(held["probabilities"], held["latents"])
        is_whole = result.probabilities.shape == (n_windows, n_classes) and len(result.latents) == n_windows
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        is_whole = False
    if not is_whole:
        raise SettingsError(f"{path} is damaged; delete it and run the same command again to fit this fold")
    return result
