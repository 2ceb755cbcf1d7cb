"""Train a model to be kept, of everybody in a store or several, or of one person, and save it with its card.

A model of everybody holds out a few subjects to stop early. A model of one person is fitted from new weights or adapted
from a saved model, and checked on the last labelled windows of each class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.data.batches import vocabulary_of
from biopercept.data.duplicates import blocks_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.splits import choose_validation
from biopercept.data.windows import WindowTable
from biopercept.errors import SettingsError
from biopercept.tasks import Task
from biopercept.training.adaptation import AdaptingFitter, fit_scratch, load_starting_model, require_fitting
from biopercept.training.calibration import Calibration, CalibrationSettings
from biopercept.training.checkpoint import Checkpoint, StartingPoint, load_start, save_checkpoint
from biopercept.training.engine import engine_for, seed_for, threads
from biopercept.training.fitting import calibration_from, fit_perceiver_io, held_out_predictions
from biopercept.training.known_inputs import learn_known_inputs
from biopercept.training.lag import estimated_lags, lag_words, with_lags
from biopercept.training.loop import EpochReport, FitRequest, FittedNetwork
from biopercept.training.model_card import model_card
from biopercept.training.resuming import LongWork, resuming_until_written
from biopercept.training.settings import FitSettings, PersonalisationSettings
from biopercept.training.time_split import course_of, set_aside


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the training data came from, and what is known of the model's scores.

    * ``prepare``: window and cleaning settings of the store.
    * ``modalities``: measured modalities of the training recordings.
    * ``scores``: content of the ``scores.json`` of a cross-validation with the same settings, for the card; of several
      tasks under ``tasks`` by name.
    * ``plan``: the document that says why the settings are what they are, where they follow from the data.
    * ``about``: of each study by its name, what it says of itself ("description", "licence", "citation").
    * ``parts``: of several stores joined, the fingerprint of each by its study; subjects are "study/subject" then.
    """

    study: str
    store_fingerprint: str
    prepare: dict[str, Any]
    modalities: tuple[str, ...]
    scores: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    plan: dict[str, Any] | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def studies(self, subjects: Collection[str]) -> list[dict[str, Any]]:
        """Return of several stores each study, its store and those of the subjects that are its own, by their ids."""
        return [
            {
                "study": study,
                "store": store,
                "subjects": [s.removeprefix(f"{study}/") for s in subjects if s.startswith(f"{study}/")],
            }
            for study, store in self.parts.items()
        ]


def measured_modalities(recordings: Collection[Any]) -> tuple[str, ...]:
    """Return the measured modalities of prepared recordings, sorted."""
    return tuple(sorted({s.modality for r in recordings for s in r.signals if not s.derived_from}))


@dataclass(frozen=True, eq=False)
class TrainingRequest:
    """What a model is trained on, and how.

    * ``inputs``: of the windows of everybody who is trained on; their table's tasks are learnt.
    * ``calibrating``: of a model of one classification of everybody; learnt on subjects outside a fit.
    * ``personalisation``: how a model of the one subject in ``inputs`` is made; None: of everybody.
    * ``on_epoch``: given ``(epoch, training_loss, validation_loss)`` after each epoch.
    """

    inputs: WindowInputs
    settings: FitSettings
    provenance: Provenance
    seed: int = 0
    device: str = "auto"
    calibrating: CalibrationSettings = field(default_factory=CalibrationSettings)
    personalisation: PersonalisationSettings | None = None
    on_epoch: EpochReport | None = None

    def fit_request(self, training: np.ndarray, validation: np.ndarray, purpose: str) -> FitRequest:
        """Return what is fitted: rows of the table, with a seed of its own for each purpose."""
        return FitRequest(
            inputs=self.inputs,
            training=training,
            validation=validation,
            settings=self.settings,
            engine=engine_for(self.device, self.settings.training.precision),
            seed=seed_for(self.seed, purpose),
            on_epoch=self.on_epoch,
        )


@dataclass(frozen=True, eq=False)
class _Trained:
    """A trained network with what belongs into its folder beside it.

    * ``inputs``: as the network reads them, scaled by its own normalisation.
    * ``personal``: whose model it is and how it was made; None for a model of everybody.
    """

    fitted: FittedNetwork[Any]
    tasks: tuple[Task, ...]
    inputs: WindowInputs
    settings: FitSettings
    training: tuple[str, ...]
    validation: tuple[str, ...]
    modalities: tuple[str, ...]
    calibration: Calibration | None = None
    personal: dict[str, Any] | None = None


def train(request: TrainingRequest, output: Path) -> Checkpoint:
    """Fit the tasks of a table and write the model folder; return the model as it was written.

    Raises SettingsError where there are fewer than 2 subjects, or nobody to learn the calibration from; where a person
    lacks a class, or the model to start from does not predict the same from the same kind of windows. Raises
    CheckpointError where the model to start from cannot be read, or has nothing in common with the network. Raises
    TrainingError where the loss is not finite. Raises OutputError where the model cannot be written.
    """
    with resuming_until_written(output) as work:
        checkpoint = _trained(request, work)
        save_checkpoint(checkpoint, output, model_card(checkpoint))
    return checkpoint


def _trained(request: TrainingRequest, work: LongWork) -> Checkpoint:
    """Return the model that ``work`` is for."""
    start_from, provenance = request.settings.start_from, request.provenance
    with threads(request.settings.training.n_threads):
        trained = _of_everybody(request) if request.personalisation is None else _of_one_person(request)
    start = load_start(Path(start_from)) if start_from else None
    training = _description(request, trained, start, round(work.seconds, 1))
    return Checkpoint(
        network=trained.fitted.network.cpu(),
        tasks=trained.tasks,
        feature_names=request.inputs.windows.feature_names,
        population=trained.fitted.population,
        normalisation=trained.inputs.settings,
        tokens=trained.settings.tokens,
        model=trained.settings.model,
        vocabulary=vocabulary_of(request.inputs.windows.feature_names),
        prepare=provenance.prepare,
        training=training,
        calibration=trained.calibration,
        known=learn_known_inputs(trained.inputs, trained.fitted.population, trained.modalities),
    )


def _of_everybody(request: TrainingRequest) -> _Trained:
    windows, settings = request.inputs.windows, request.settings
    if len(windows.subjects) < 2:
        raise SettingsError("one subject has labelled windows; a model for unseen people needs at least 2 to train on")
    validation = choose_validation(windows.subjects, settings.training.validation_fraction, request.seed)
    training = tuple(s for s in windows.subjects if s not in validation)
    everybody = np.arange(len(windows), dtype=np.int64)
    request = replace(request, inputs=with_lags(request.inputs, everybody))
    fit_request = request.fit_request(windows.rows_of(training), windows.rows_of(validation), "final")
    model = fit_perceiver_io(fit_request)
    calibration = None
    if request.calibrating.is_wanted:
        silent = replace(fit_request, on_epoch=None)
        predictions = held_out_predictions(silent, fit_perceiver_io, model, request.calibrating.n_folds)
        calibration = calibration_from(windows, [predictions], request.calibrating)
    return _Trained(
        fitted=model.fitted,
        tasks=model.tasks,
        inputs=request.inputs,
        settings=settings,
        training=training,
        validation=tuple(validation),
        modalities=request.provenance.modalities,
        calibration=calibration,
    )


def _of_one_person(request: TrainingRequest) -> _Trained:
    """Return the model of the one subject, from new weights or a saved model; all its labelled windows are used."""
    windows, personalisation = request.inputs.windows, request.personalisation
    assert personalisation is not None
    [subject] = windows.subjects
    course = course_of(windows, subject)
    everything = np.arange(len(course.rows), dtype=np.int64)
    if lacking := course.lacking(everything, 1):
        raise SettingsError(
            f"subject {subject} has no window of {', '.join(lacking)}; a personal model needs every class"
        )
    fitting, checking = set_aside(course, everything, personalisation.validation_fraction)
    fit_request = request.fit_request(course.rows[fitting], course.rows[checking], "personal")
    if request.settings.start_from:
        trained = _adapted(request, fit_request, personalisation)
    else:
        model = fit_scratch(fit_request, personalisation.scratch_steps)
        trained = _Trained(
            fitted=model.fitted,
            tasks=windows.tasks,
            inputs=request.inputs,
            settings=request.settings,
            training=(subject,),
            validation=(),
            modalities=request.provenance.modalities,
            personal={"method": "scratch", "fell_back": False, "is_checked": bool(len(checking))},
        )
    minutes = {"label": everything, "fitting": fitting, "checking": checking}
    labels = {f"{name}_minutes": round(course.minutes(windows), 2) for name, windows in minutes.items()}
    return replace(trained, personal={"subject": subject, **labels, **(trained.personal or {})})


def _adapted(request: TrainingRequest, fit_request: FitRequest, personalisation: PersonalisationSettings) -> _Trained:
    """Return the saved model adapted; it scales as it did, and reads the sensors that it was trained with."""
    folder = Path(request.settings.start_from)
    start, inputs = load_starting_model(folder), request.inputs
    require_fitting(start, inputs.windows, folder)
    tokens = start.tokens
    own_scale = WindowInputs(
        inputs.windows, start.normalisation, inputs.step_seconds, raw=tokens.raw, derived=tokens.derived
    )
    fitter = AdaptingFitter(start, personalisation)
    adapted, _ = fitter.adapt(replace(fit_request, inputs=own_scale))
    n_parameters = sum(parameter.numel() for parameter in adapted.network.parameters())
    return _Trained(
        fitted=FittedNetwork(adapted.network, start.population, (), adapted.n_steps, n_parameters),
        tasks=inputs.windows.tasks,
        inputs=own_scale,
        settings=replace(request.settings, tokens=tokens, model=start.model),
        training=inputs.windows.subjects,
        validation=(),
        modalities=tuple(m for m in request.provenance.modalities if m in start.training["modalities"]),
        personal={
            "method": personalisation.method,
            "settings": personalisation.described(),
            "fell_back": adapted.fell_back,
            "is_checked": adapted.is_checked,
            "checks": [list(check) for check in adapted.checks],
        },
    )


def _beginning(start: StartingPoint, trained: _Trained) -> dict[str, Any]:
    """Return where a model's weights began, and whom these had seen."""
    described = start.described(trained.fitted.network, trained.tasks, trained.settings.tokens, trained.modalities)
    return {**described, "seen": list(start.studies)}


def _lag_sentences(lags: Mapping[str, float | None], windows: WindowTable) -> list[str]:
    return [
        f"the lag of rating {task.signal!r} was estimated on the training subjects: {lag_words(lags[name], task)}"
        for name, task in ((name, windows.targets[name].task) for name in lags)
    ]


def _description(
    request: TrainingRequest, trained: _Trained, start: StartingPoint | None, seconds: float
) -> dict[str, Any]:
    """Return what a model folder says of its training, as plain values."""
    windows, provenance, fitted = request.inputs.windows, request.provenance, trained.fitted
    lags = estimated_lags(windows, trained.inputs.windows)
    description = {
        "study": provenance.study,
        "store": provenance.store_fingerprint,
        **({"studies": provenance.studies((*trained.training, *trained.validation))} if provenance.parts else {}),
        "about": {study: dict(texts) for study, texts in provenance.about.items()},
        "modalities": list(trained.modalities),
        "subjects": list(trained.training),
        "validation_subjects": list(trained.validation),
        "n_windows": int(windows.is_labelled.sum()),
        "windows_per_task": {name: int(targets.is_known.sum()) for name, targets in windows.targets.items()},
        "windows_per_class": {
            name: {c: int((targets.values == k).sum()) for k, c in enumerate(targets.classes)}
            for name, targets in windows.targets.items()
            if targets.task.is_classification
        },
        "n_windows_left_out": windows.excluded,
        "step_seconds": request.inputs.step_seconds,
        "settings": trained.settings.training.described(),
        "seed": request.seed,
        "best_epoch": fitted.best_epoch,
        "history": [[epoch, loss, score if score == score else None] for epoch, loss, score in fitted.history],
        "seconds": seconds,
        "parameters": fitted.n_parameters,
        "scores": provenance.scores,
        "warnings": [*provenance.warnings, *_lag_sentences(lags, windows)],
        **({"estimated_lags": dict(lags)} if lags else {}),
        "start_from": None if start is None else _beginning(start, trained),
    }
    if provenance.plan is not None:
        description["plan"] = provenance.plan
    if trained.personal is None:
        return description
    personal = dict(trained.personal)
    if start is not None:
        seen = start.overlap(provenance.study, provenance.store_fingerprint, trained.training)
        is_copy = start.known is not None and any(start.known.is_copy(blocks_of(r)) for r in windows.recordings)
        personal["had_seen_subject"] = bool(seen) or is_copy
    return {**description, "personal": personal}
