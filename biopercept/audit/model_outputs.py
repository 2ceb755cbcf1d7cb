"""Outputs and latents of the audited model for every window: of a finished cross-validation, or fitted by the audit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.data import AuditData, FoldValues
from biopercept.data.splits import K_FOLD, Fold
from biopercept.data.windows import FloatArray
from biopercept.errors import SettingsError, StudyError, count
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.runs import FoldDone, RunFolder
from biopercept.parallel import Work, run_jobs
from biopercept.report.text import listed
from biopercept.results.audit import LEAK, OK, Finding
from biopercept.results.cross_validation import CrossValidation, load_cross_validation
from biopercept.results.reading import read_json, read_table
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.typed_values import path_meant

if TYPE_CHECKING:
    from biopercept.data.batches import TokenSource
    from biopercept.model.biosignals import BiosignalPerceiver


MODEL = "perceiver-io"
FOLDER = "model-folds"


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Out-of-fold predictions of a model.

    Attributes
    ----------
    probabilities : float64 array, shape (n_windows, n_classes)
        NaN for windows that it did not predict.
    fold : tuple of str
        The fold that tested each window; empty where none did.
    training : mapping of fold to tuple of str
        Subjects that were fitted on, or looked at for early stopping.
    """

    name: str
    probabilities: FloatArray
    fold: tuple[str, ...]
    training: Mapping[str, Sequence[str]]


def require_scores(folder: Path) -> None:
    """Refuse a folder that is no cross-validation. Raises StudyError, with those that are in it."""
    if (folder / CrossValidation.FILE).is_file():
        return
    inside = [str(path.parent) for path in sorted(folder.glob(f"*/{CrossValidation.FILE}"))]
    raise StudyError(
        f"--model-scores {folder} holds no {CrossValidation.FILE}; give what cross-validate wrote"
        f"{f', one of: {listed(inside)}' if inside else path_meant(folder)}"
    )


def read_outputs(folder: Path, data: AuditData) -> ModelOutputs:
    """Return the predictions in a folder of ``cross-validate``.

    Raises StudyError where the folder is no finished cross-validation or is damaged. Raises SettingsError where it is
    of another task, store or set of windows.
    """
    run = load_cross_validation(folder)
    plan, windows = data.plan, data.windows
    if run.task != plan.task.name or run.classes != windows.only.classes:
        raise SettingsError(
            f"{folder} is of task {run.task!r} ({', '.join(run.classes)}) and the audit of {plan.task.name!r} "
            f"({', '.join(windows.only.classes)}); give the scores of the same task"
        )
    store = run.fingerprint.get("store")
    if store != plan.store_fingerprint:
        raise SettingsError(f"{folder} was scored on another store; cross-validate on this store again")
    table = read_table(folder / "predictions.csv")
    folds = table.texts("fold", "")
    row_of = {}
    for row in range(len(windows)):
        recording = windows.recordings[windows.recording[row]]
        row_of[_key(recording.subject, recording.session, recording.recording, windows.onset[row])] = row
    probabilities = np.full((len(windows), windows.only.n_classes), np.nan)
    fold = [""] * len(windows)
    predictions = run.predictions
    for index, key in enumerate(predictions.keys):
        at = row_of.get(_key(*key, predictions.onset[index]))
        if at is not None:
            probabilities[at], fold[at] = predictions.probabilities[index], folds[index]
    n_given = int(np.isfinite(probabilities).all(axis=1).sum())
    if n_given < len(windows) / 2:
        raise SettingsError(
            f"{folder} has answers for {n_given} of {len(windows)} windows under audit; audit the subjects that were "
            "scored, with --subjects"
        )
    return ModelOutputs(run.model, probabilities, tuple(fold), _training(folder))


def _key(subject: str, session: str, recording: str, onset: float) -> tuple[str, str, str, int]:
    return subject, session, recording, round(float(onset) * 1000)


def _training(folder: Path) -> dict[str, Sequence[str]]:
    """Return the subjects of each fold that touched the model; empty where the folder does not say."""
    path = folder / "folds.json"
    rows = read_json(path).get("folds", []) if path.is_file() else []
    return {str(r["name"]): [*r.get("training", ()), *r.get("validation", ())] for r in rows if isinstance(r, dict)}


def probe_folds(data: AuditData, outputs: ModelOutputs) -> Finding:
    """Return whether a tested person, or a window that overlaps a tested one, was on the training side."""
    windows = data.windows
    leaked = sorted(
        {
            str(windows.subject[row])
            for row, name in enumerate(outputs.fold)
            if name and str(windows.subject[row]) in set(outputs.training.get(name, ()))
        }
    )
    n_torn = _n_torn(data, outputs)
    if leaked:
        end = f"{count(len(leaked), 'subject')} ({listed(leaked)}) are on both sides of a fold."
    elif n_torn:
        end = f"{count(n_torn, 'window')} overlap in time with a window of another fold."
    else:
        end = "no subject is on both sides of a fold, and no window overlaps one of another fold."
    sentence = f"In the folds of {outputs.name}, {end}"
    return Finding(
        probe="folds-of-model",
        subject_matter="evaluation",
        verdict=LEAK if leaked or n_torn else OK,
        sentence=sentence,
        score_name="subjects on both sides",
        score=float(len(leaked)),
        chance=0.0,
        n_subjects=len(windows.subjects),
        n_windows=len(windows),
        details={"subjects": leaked, "n_windows_overlapping_other_folds": n_torn},
    )


def _n_torn(data: AuditData, outputs: ModelOutputs) -> int:
    """Return how many windows overlap in time with a window of their recording that another fold tested."""
    windows = data.windows
    by_recording: dict[int, list[int]] = defaultdict(list)
    for row in np.argsort(windows.onset, kind="stable"):
        if outputs.fold[row]:
            by_recording[int(windows.recording[row])].append(int(row))
    torn = set()
    for rows in by_recording.values():
        if len({outputs.fold[row] for row in rows}) < 2:
            continue
        for index, row in enumerate(rows):
            for other in rows[index + 1 :]:
                if windows.onset[other] >= windows.onset[row] + windows.length_seconds - 1e-6:
                    break
                if outputs.fold[other] != outputs.fold[row]:
                    torn |= {row, other}
    return len(torn)


@dataclass(frozen=True, eq=False)
class FoldLatents:
    """What a fold's network makes of every window, as (n_windows, n_classes) and (n_windows, 2 * width).

    The latents are the mean latent, and the decoder's output that the output layer reads.
    """

    probabilities: NDArray[np.float64]
    latents: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return both as lists."""
        return {"probabilities": self.probabilities.tolist(), "latents": self.latents.tolist()}

    @classmethod
    def from_json(cls, document: dict[str, Any], fold: Fold) -> Self:
        """Return what :meth:`to_json` wrote."""
        probabilities = np.asarray(document["probabilities"], dtype=np.float64)
        latents = np.asarray(document["latents"], dtype=np.float32)
        if probabilities.ndim != 2 or latents.ndim != 2 or len(probabilities) != len(latents):
            raise ValueError("rows are missing")
        return cls(probabilities, latents)


def fit_with_latents(plan: Plan, fold: Fold) -> FoldLatents:
    """Return the predictions and latents of a Perceiver fitted on the fold's training subjects alone."""
    request, windows = plan.request, plan.windows
    with threads(request.fit.training.n_threads):
        fitted = fit_perceiver_io(
            FitRequest(
                inputs=plan.inputs,
                training=windows.rows_of(fold.training),
                validation=windows.rows_of(fold.validation),
                settings=request.fit,
                engine=engine_for(request.device, request.fit.training.precision),
                seed=seed_for(request.seed, fold.name, 0),
            )
        )
        network = fitted.fitted.network
        return FoldLatents(
            fitted.predict(np.arange(len(windows), dtype=np.int64)),
            latents_of(network, fitted.source, len(windows)),
        )


def latents_of(
    network: BiosignalPerceiver, source: TokenSource, n_windows: int, *, batch_size: int = 256
) -> NDArray[np.float32]:
    """Return the mean latent and the decoder's output of each window, (n_windows, 2 * width)."""
    import torch

    network.eval()
    latents_by_window = np.zeros((n_windows, 2 * network.settings.width), dtype=np.float32)
    with torch.inference_mode():
        for rows in source.layouts.parts(np.arange(n_windows, dtype=np.int64), most=batch_size):
            tokens, mask = network.fusion(source.batch(rows))
            latents = network.core.encode(tokens, mask)
            decoded = network.core.decode(latents, network.queries())[:, 0]
            latents_by_window[rows] = torch.cat([latents.mean(1), decoded], 1).float().cpu().numpy()
    return latents_by_window


def fit_model(
    store: StudyStore,
    request: EvaluationRequest,
    data: AuditData,
    output: Path,
    *,
    n_jobs: int,
    on_fold: FoldDone | None = None,
) -> tuple[ModelOutputs, tuple[FoldValues, ...]]:
    """Fit a Perceiver in each of few folds, or take up what an earlier run left, and return predictions and latents.

    Folds are kept in ``output/model-folds``.

    Raises SettingsError where the folder holds folds of other settings or data, or one that is damaged.
    """
    n_folds = min(data.settings.fit_folds, len(data.windows.subjects))
    training = replace(request.fit.training, dense_weight=0.0)
    evaluation = replace(request.evaluation, split=K_FOLD, n_folds=n_folds, n_seeds=1, label_share=1.0)
    fit = replace(request.fit, training=training)
    plan = plan_evaluation(store, replace(request, model=MODEL, evaluation=evaluation, fit=fit))
    kept = RunFolder(output / FOLDER, "fitted model", FoldLatents)
    kept.begin(plan.identity(), plan.folds)

    def work(waiting: Sequence[Fold]) -> Iterator[tuple[Fold, FoldLatents]]:
        return run_jobs(Work(fit_with_latents, _plan_of, plan.request), waiting, n_jobs, plan)

    results = kept.results([(fold,) for fold in plan.folds], work, on_fold)
    windows = plan.windows
    probabilities = np.full((len(windows), windows.only.n_classes), np.nan)
    names = np.full(len(windows), "", dtype=object)
    values = []
    for fold, result in zip(plan.folds, results, strict=True):
        rows = windows.rows_of(fold.test)
        probabilities[rows], names[rows] = result.probabilities[rows], fold.name
        values.append(FoldValues(windows.rows_of(fold.fitting), rows, result.latents.astype(np.float64)))
    fitted_on = {fold.name: fold.fitting for fold in plan.folds}
    return ModelOutputs(MODEL, probabilities, tuple(names.tolist()), fitted_on), tuple(values)


def _plan_of(request: EvaluationRequest) -> Plan:
    return plan_evaluation(open_store(request.store), request)
