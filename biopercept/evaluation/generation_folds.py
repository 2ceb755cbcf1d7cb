"""One fold of the experiment on generation: pretrain on its training subjects, hide each sensor, ask for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from biopercept.errors import SettingsError
from biopercept.evaluation.fillers import fit_fillers
from biopercept.evaluation.generation_errors import subject_errors
from biopercept.evaluation.planning import EvaluationRequest
from biopercept.evaluation.task_choice import choose_recordings
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import Population
from biopercept.learning.pretext import MASKED, PretrainingSettings
from biopercept.learning.pretraining import pretrain, unlabelled_inputs
from biopercept.learning.restriction import measured_sensors, restricted
from biopercept.learning.splits import K_FOLD, Fold, make_folds
from biopercept.learning.token_source import TokenSource
from biopercept.model.biosignals import BiosignalPerceiver
from biopercept.store import StudyStore
from biopercept.version import __version__
from biopercept.windowed import WindowedRecording


@dataclass(frozen=True, eq=False)
class GenerationPlan:
    """What is pretrained on and asked for, settled before anything is fitted.

    Attributes
    ----------
    request : EvaluationRequest
        Its ``fit.pretraining`` is set; its model and task are not used.
    recordings : tuple of WindowedRecording
    folds : tuple of Fold
    sensors : tuple of str
        Measured modalities, each hidden in turn.
    length_seconds, step_seconds : float
        Of the windows.
    feature_names : tuple of str
    study, fingerprint : str
        Of the store.
    """

    request: EvaluationRequest
    recordings: tuple[WindowedRecording, ...]
    folds: tuple[Fold, ...]
    sensors: tuple[str, ...]
    length_seconds: float
    step_seconds: float
    feature_names: tuple[str, ...]
    study: str
    fingerprint: str

    @property
    def pretraining(self) -> PretrainingSettings:
        """Return the settings of pretraining."""
        assert self.request.fit.pretraining is not None  # plan_generation saw to it
        return self.request.fit.pretraining

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        request = self.request
        return {
            "store": self.fingerprint,
            "subjects": sorted({r.subject for r in self.recordings}),
            "normalisation": asdict(request.normalisation),
            "tokens": asdict(request.fit.tokens),
            "model": asdict(request.fit.model),
            "pretraining": asdict(self.pretraining),
            "precision": request.fit.training.precision,
            "n_folds": request.evaluation.n_folds,
            "seed": request.seed,
            "version": __version__,
        }

    def inputs_of(self, subjects: Sequence[str]) -> WindowInputs:
        """Return the unlabelled windows of these subjects."""
        return unlabelled_inputs(
            tuple(r for r in self.recordings if r.subject in set(subjects)),
            self.request.normalisation,
            self.request.fit.tokens,
            length_seconds=self.length_seconds,
            step_seconds=self.step_seconds,
            feature_names=self.feature_names,
        )


@dataclass(frozen=True, eq=False)
class GenerationFold:
    """What one fold found: a row for each test subject, hidden sensor and signal.

    Attributes
    ----------
    fold : Fold
    rows : tuple of dict
        ``subject``, ``sensor``, ``signal``, ``n_windows``, ``n_patches``; ``rmse`` and ``mae`` (normalised),
        ``rmse_unit`` and ``mae_unit`` (in the signal's unit) by what was said; ``correlation`` of the network's.
    n_parameters : int
    seconds : float
        Of pretraining and asking, wall clock.
    seconds_pretraining : float
    history : tuple of (epoch, loss)
    """

    fold: Fold
    rows: tuple[dict[str, Any], ...]
    n_parameters: int
    seconds: float
    seconds_pretraining: float
    history: tuple[tuple[int, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {**asdict(self), "fold": self.fold.name}

    @staticmethod
    def from_json(document: dict[str, Any], fold: Fold) -> GenerationFold:
        """Return the result that :meth:`to_json` wrote."""
        history = tuple((int(epoch), float(loss)) for epoch, loss in document["history"])
        numbers = (document["n_parameters"], document["seconds"], document["seconds_pretraining"])
        return GenerationFold(fold, tuple(document["rows"]), *numbers, history)


def plan_generation(store: StudyStore, request: EvaluationRequest) -> GenerationPlan:
    """Return the plan of the experiment.

    Raises
    ------
    SettingsError
        Where pretraining is not set or not masked, there are too few subjects, or only one sensor.
    StudyError
        Where a named subject has no recording.
    """
    settings = request.fit.pretraining
    if settings is None or settings.objective != MASKED:
        raise SettingsError(
            "generation asks a network for what is hidden; set pretraining.objective=masked, which teaches that"
        )
    if request.evaluation.stratify:
        raise SettingsError("generation deals subjects by identity, not by label; set evaluation.stratify to false")
    recordings = choose_recordings(store.recordings, request.subjects, request.excluded)
    subjects = sorted({r.subject for r in recordings})
    folds = make_folds(subjects, K_FOLD, n_folds=request.evaluation.n_folds, seed=request.seed, validation_fraction=0.0)
    sensors = measured_sensors(recordings, store.feature_names)
    if len(sensors) < 2:
        raise SettingsError(
            f"{store.name} has one sensor ({', '.join(sensors)}); with it hidden nothing is left to tell it from"
        )
    return GenerationPlan(
        request,
        recordings,
        folds,
        sensors,
        store.window_length_seconds,
        store.step_seconds,
        tuple(store.feature_names),
        store.name,
        store.fingerprint(),
    )


def fit_generation_fold(plan: GenerationPlan, fold: Fold) -> GenerationFold:
    """Return what a network pretrained on the fold's training subjects says of its test subjects' hidden sensors."""
    request, fit = plan.request, plan.request.fit
    engine = engine_for(request.device, fit.training.precision)
    started = time.perf_counter()
    with threads(fit.training.n_threads):
        training, test = plan.inputs_of(fold.training), plan.inputs_of(fold.test)
        done = pretrain(
            [training],
            tokens=fit.tokens,
            model=fit.model,
            settings=plan.pretraining,
            engine=engine,
            seed=seed_for(request.seed, fold.name, "generation"),
        )
        pretrained = time.perf_counter()
        network, population = done.network.to(engine.device), training.fit(fold.training)
        rows: list[dict[str, Any]] = []
        for sensor in plan.sensors:
            found = _ask_for(sensor, plan, fold, training, test, network, population)
            rows += [{"sensor": sensor, **row} for row in found]
    ended = time.perf_counter()
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    return GenerationFold(fold, tuple(rows), n_parameters, ended - started, pretrained - started, done.history)


def _ask_for(
    sensor: str,
    plan: GenerationPlan,
    fold: Fold,
    training: WindowInputs,
    test: WindowInputs,
    network: BiosignalPerceiver,
    population: Population,
) -> Iterator[dict[str, Any]]:
    """Give the rows of every test subject with this sensor hidden."""
    device, tokens = next(network.parameters()).device, plan.request.fit.tokens
    rest = [name for name in plan.sensors if name != sensor]
    signals_alone = replace(tokens, features=False)  # features cannot be asked for
    fitted_on = TokenSource(restricted(training, [sensor]), population, signals_alone, device)
    fillers = fit_fillers(fitted_on, np.arange(len(training.windows), dtype=np.int64))
    hidden = TokenSource(restricted(test, [sensor]), population, signals_alone, device)
    shown = TokenSource(restricted(test, rest), population, tokens, device)
    for subject in fold.test:
        for row in subject_errors(network, shown, hidden, fillers, test.windows.rows_of([subject])):
            yield {"subject": subject, **row}
