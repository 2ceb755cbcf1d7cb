"""Early against late fusion, and sensors that are missing when the model is asked.

*Early*: one Perceiver IO reads the tokens of all sensors. *Late*: one Perceiver IO for each sensor, fitted on it
alone, and the mean of their probabilities. Both are fitted once for each fold of subjects, with every sensor there
is, and then asked about the test subjects with all sensors, without each one, and with each one alone. Nothing is
fitted anew for that: in early fusion a missing sensor is absent tokens, in late fusion an absent vote.

A sensor goes with all that is computed from it: signal, derived series and features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.evaluation.metrics import score_subject, summarise
from biopercept.evaluation.planning import EvaluationRequest, plan_evaluation
from biopercept.learning.engine import Engine, engine_for, seed_for, threads
from biopercept.learning.fitting import FitRequest, FitSettings, NetworkOnStudy, fit_perceiver_io
from biopercept.learning.inputs import TokenSource, WindowInputs
from biopercept.learning.restriction import measured_sensors, restricted
from biopercept.learning.splits import Fold
from biopercept.learning.training import predict_probabilities
from biopercept.learning.windows import IntArray
from biopercept.store import StudyStore

Answers = NDArray[np.float64]

EARLY, LATE = "early", "late"


def run_fusion(store: StudyStore, *, seed: int, n_folds: int = 5, fit: FitSettings | None = None) -> dict[str, Any]:
    """Return early and late fusion's scores with all sensors, without each one and with each one alone.

    Parameters
    ----------
    store : StudyStore
        With one task.
    seed : int
    n_folds : int
        Folds over whole subjects.
    fit : FitSettings, optional
        Of every network, early and late alike.

    Returns
    -------
    dict
        ``sensors``, ``folds``, ``n_windows``, ``parameters`` of both, and ``scores``: a row for each set of sensors
        with mean balanced accuracy per subject [95 % bootstrap interval over subjects] of both, and their paired
        differences. Windows in which none of the set's sensors is present are not scored.

    Raises
    ------
    StudyError
        Where the study has no task, or windows or subjects do not suffice.
    """
    from biopercept.evaluation.settings import EvaluationSettings

    chosen = fit or FitSettings()
    request = EvaluationRequest(
        store.path, fit=chosen, evaluation=EvaluationSettings(split="k-fold", n_folds=n_folds), seed=seed
    )
    plan = plan_evaluation(store, request)
    windows, engine = plan.windows, engine_for("cpu")
    sensors = measured_sensors(windows.recordings, windows.feature_names)
    views = {name: restricted(plan.inputs, kept) for name, kept in sensor_sets(sensors).items()}
    answers = {
        way: {name: np.full((len(windows), windows.n_classes), np.nan) for name in views} for way in (EARLY, LATE)
    }
    n_parameters = {EARLY: 0, LATE: 0}
    for fold in plan.folds:
        with threads(chosen.training.n_threads):
            fitted = _fit_fold(plan.inputs, views, sensors, fold, chosen, engine, seed)
            rows = windows.rows_of(fold.test)
            for way, models in fitted.items():
                n_parameters[way] = sum(model.n_parameters for model in models.values())
                for name, kept in sensor_sets(sensors).items():
                    asked = models if way == EARLY else {s: models[s] for s in kept if s in models}
                    answers[way][name][rows] = _mean_answer(asked, views, name, way, rows, chosen, engine)
    return {
        "store": store.name,
        "task": plan.task.name,
        "sensors": list(sensors),
        "folds": len(plan.folds),
        "n_windows": len(windows),
        "parameters": n_parameters,
        "scores": _scores(answers, windows.subject, windows.target, seed),
    }


def sensor_sets(sensors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what is asked about: all sensors, all but each, and each alone.

    >>> sensor_sets(["ecg", "eda"])["without ecg"]
    ('eda',)
    """
    sets = {"all": tuple(sensors)}
    sets |= {f"without {gone}": tuple(s for s in sensors if s != gone) for gone in sensors}
    return sets | {f"only {kept}": (kept,) for kept in sensors}


def _fit_fold(
    inputs: WindowInputs,
    views: Mapping[str, WindowInputs],
    sensors: Sequence[str],
    fold: Fold,
    fit: FitSettings,
    engine: Engine,
    seed: int,
) -> dict[str, dict[str, NetworkOnStudy]]:
    """Return the fold's fitted models: early fusion's one, and late fusion's by sensor."""

    def fitted(read: WindowInputs, name: str) -> NetworkOnStudy:
        training, validation = inputs.windows.rows_of(fold.training), inputs.windows.rows_of(fold.validation)
        return fit_perceiver_io(FitRequest(read, training, validation, fit, engine, seed_for(seed, fold.name, name)))

    late = {sensor: fitted(views[f"only {sensor}"], sensor) for sensor in sensors}
    return {EARLY: {"all": fitted(inputs, "all")}, LATE: late}


def _mean_answer(
    models: Mapping[str, NetworkOnStudy],
    views: Mapping[str, WindowInputs],
    name: str,
    way: str,
    rows: IntArray,
    fit: FitSettings,
    engine: Engine,
) -> Answers:
    """Return the mean probabilities (len(rows), K) of the models that have a token to read; NaN where none has."""
    total = np.zeros((len(rows), 0))
    votes = np.zeros((len(rows), 1))
    for sensor, model in models.items():
        read = views[name if way == EARLY else f"only {sensor}"]
        source = TokenSource(read, model.fitted.population, fit.tokens, engine.device)
        has_vote = source.has_tokens(rows)[:, None]
        answer = predict_probabilities(model.fitted.network, source, rows) * has_vote
        total = answer if not total.size else total + answer
        votes += has_vote
    return np.where(votes > 0, total / np.maximum(votes, 1), np.nan)


def _scores(
    answers: Mapping[str, Mapping[str, Answers]], subject: NDArray[np.str_], target: IntArray, seed: int
) -> list[dict[str, Any]]:
    """Return a row per set of sensors: both ways' balanced accuracy over subjects, and paired differences."""
    by_subject = {
        (way, name): _by_subject(found, subject, target)
        for way, sets in answers.items()
        for name, found in sets.items()
    }

    def over_subjects(values: Sequence[float]) -> dict[str, Any]:
        found = summarise(values, chance=0.5, seed=seed)
        return {"mean": found.mean, "ci95": list(found.ci95) if found.ci95 else None, "n_subjects": found.n_subjects}

    rows = []
    for name in answers[EARLY]:
        early, late = by_subject[EARLY, name], by_subject[LATE, name]
        row: dict[str, Any] = {"sensors": name, EARLY: over_subjects(list(early.values()))}
        row[LATE] = over_subjects(list(late.values()))
        row["early_minus_late"] = over_subjects([early[s] - late[s] for s in early if s in late])
        for way in (EARLY, LATE):
            mine, whole = by_subject[way, name], by_subject[way, "all"]
            row[f"{way}_minus_all"] = over_subjects([mine[s] - whole[s] for s in mine if s in whole])
        rows.append(row)
    return rows


def _by_subject(answers: Answers, subject: NDArray[np.str_], target: IntArray) -> dict[str, float]:
    found = {}
    is_answered = np.isfinite(answers).all(1)
    for who in np.unique(subject):
        rows = (subject == who) & is_answered
        if rows.any():
            score = score_subject(str(who), target[rows], answers[rows]).balanced_accuracy
            if score is not None:
                found[str(who)] = score
    return found
