"""Early against late fusion, and sensors that are missing when the model is asked: one fold of subjects at a time.

*Early*: one Perceiver IO reads the tokens of all sensors. *Late*: one Perceiver IO for each sensor, fitted on it
alone, and the mean of their probabilities. Both are fitted once for each fold of subjects, with every sensor there
is, and then asked about the test subjects with all sensors, without each one, and with each one alone. Nothing is
fitted anew for that: in early fusion a missing sensor is absent tokens, in late fusion an absent vote.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import Fold
from biopercept.data.views import measured_sensors, restricted
from biopercept.data.windows import IntArray
from biopercept.evaluation.missing_sensors import sensor_sets
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import predict_windows

Answers = NDArray[np.float64]

VERSION = 1
"""Raised whenever what this experiment does changes, so that no older result is taken for a new one."""

EARLY, LATE = "early", "late"
WAYS = (EARLY, LATE)


@dataclass(frozen=True)
class FusionFold:
    """One fold of a study, both ways, as a unit of work.

    Attributes
    ----------
    request : EvaluationRequest
    fold : Fold
    plan_identity : str
        JSON of the plan's identity.
    """

    request: EvaluationRequest
    fold: Fold
    plan_identity: str

    @property
    def name(self) -> str:
        """Return what the fold is called."""
        return f"fusion {self.request.store.stem} {self.fold.name} seed {self.request.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        return {"experiment": VERSION, "plan": json.loads(self.plan_identity), "fold": asdict(self.fold)}

    def run(self) -> dict[str, Any]:
        """Fit both ways and ask them about the test subjects."""
        with open_store(self.request.store) as store:
            return fuse_fold(plan_evaluation(store, self.request), self.fold)


def fusion_plan(store: StudyStore, request: EvaluationRequest) -> Plan:
    """Return the plan, once it is sure that there is something to fuse.

    Raises
    ------
    StudyError
        Where the study has no task or several and none is named, or windows, subjects or sensors do not suffice.
    SettingsError
        Where the split does not fit the subjects.
    """
    from biopercept.errors import StudyError

    plan = plan_evaluation(store, request)
    sensors = measured_sensors(plan.windows.recordings, plan.windows.feature_names)
    if len(sensors) < 2:
        raise StudyError(f"study {store.name!r} has one sensor ({', '.join(sensors)}); fusion needs at least two")
    return plan


def fusion_folds(plan: Plan) -> list[FusionFold]:
    """Return the plan's folds as units."""
    return [FusionFold(plan.request, fold, json.dumps(plan.identity(), sort_keys=True)) for fold in plan.folds]


def fuse_fold(plan: Plan, fold: Fold) -> dict[str, Any]:
    """Return what both ways say about a fold's test windows, with each set of sensors.

    Parameters
    ----------
    plan : Plan
    fold : Fold

    Returns
    -------
    dict
        ``rows`` of the window table; ``answers`` by way and set of sensors, probabilities (len(rows), K), None where
        a window has nothing that the asked models read; ``parameters`` and ``cpu_seconds`` of fitting by way;
        ``without_model``, sensors with too little in the training windows for a network of their own.
    """
    windows, sets = plan.windows, sensor_sets(measured_sensors(plan.windows.recordings, plan.windows.feature_names))
    views = {kept: restricted(plan.inputs, kept) for kept in [*sets.values(), *((s,) for s in sets["all"])]}
    rows = windows.rows_of(fold.test)
    with threads(plan.request.fit.training.n_threads):
        started = time.process_time()
        early = _fitted(plan, plan.inputs, fold, "all")
        between = time.process_time()
        tried = {sensor: _fitted(plan, views[sensor,], fold, sensor) for sensor in sets["all"]}
        seconds = {EARLY: between - started, LATE: time.process_time() - between}
        if early is None:
            raise RuntimeError("the plan lets no fold pass whose training windows lack a class")
        late = {sensor: model for sensor, model in tried.items() if model is not None}
        votes = {sensor: _answer(plan, model, views[sensor,], rows) for sensor, model in late.items()}
        answers = {
            EARLY: {name: _answer(plan, early, views[kept], rows) for name, kept in sets.items()},
            LATE: {
                name: mean_of_votes([votes[s] for s in kept if s in votes], (len(rows), windows.only.n_classes))
                for name, kept in sets.items()
            },
        }
    return {
        "fold": fold.name,
        "rows": rows.tolist(),
        "answers": {way: {name: _plain(found) for name, found in said.items()} for way, said in answers.items()},
        "parameters": {EARLY: early.n_parameters, LATE: sum(model.n_parameters for model in late.values())},
        "cpu_seconds": seconds,
        "without_model": sorted(set(sets["all"]) - set(late)),
    }


def _fitted(plan: Plan, read: WindowInputs, fold: Fold, name: str) -> NetworkOnStudy | None:
    """Return a network fitted on the windows that have something to read; None where those lack a class."""
    request, windows = plan.request, plan.windows
    engine = engine_for("cpu")
    population = read.fit(sorted({*fold.training, *fold.validation}))
    source = TokenSource(read, population, request.fit.tokens, engine.device)
    training, validation = (
        rows[source.has_tokens(rows)] for rows in (windows.rows_of(fold.training), windows.rows_of(fold.validation))
    )
    if len(np.unique(windows.only.values[training])) < windows.only.n_classes:
        return None
    seed = seed_for(request.seed, fold.name, name)
    return fit_perceiver_io(FitRequest(read, training, validation, request.fit, engine, seed))


def _answer(plan: Plan, model: NetworkOnStudy, read: WindowInputs, rows: IntArray) -> Answers:
    """Return probabilities (len(rows), K) from the sensors of ``read``; NaN for windows that have none of them."""
    source = TokenSource(read, model.fitted.population, plan.request.fit.tokens, engine_for("cpu").device)
    [answer] = predict_windows(model.fitted.network, model.tasks, source, rows).values()
    return np.where(source.has_tokens(rows)[:, None], answer, np.nan)


def mean_of_votes(votes: list[Answers], shape: tuple[int, int]) -> Answers:
    """Return the mean over the votes that are there, window by window; NaN where there is none."""
    held = np.stack([*votes, np.full(shape, np.nan)])
    n_votes = np.isfinite(held).sum(0)
    return np.where(n_votes > 0, np.nansum(held, axis=0) / np.maximum(n_votes, 1), np.nan)


def _plain(found: Answers) -> list[list[float] | None]:
    return [row.tolist() if np.isfinite(row).all() else None for row in found]


def answers_of(folds: list[Mapping[str, Any]], n_windows: int, n_classes: int) -> dict[str, dict[str, Answers]]:
    """Return the answers of all folds by way and set of sensors, (n_windows, K), NaN where there is none."""
    joined: dict[str, dict[str, Answers]] = {way: {} for way in WAYS}
    for fold in folds:
        for way, sets in fold["answers"].items():
            for name, rows in sets.items():
                whole = joined[way].setdefault(name, np.full((n_windows, n_classes), np.nan))
                whole[fold["rows"]] = [[np.nan] * n_classes if row is None else row for row in rows]
    return joined
