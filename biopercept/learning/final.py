"""Train the final model on every wanted subject of a store and save it with a model card."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biopercept.errors import SettingsError
from biopercept.learning.calibration import Calibration, CalibrationSettings
from biopercept.learning.checkpoint import Checkpoint, save_checkpoint
from biopercept.learning.engine import engine_for, seed_for, threads
from biopercept.learning.fitting import FitRequest, FitSettings, NetworkOnStudy, fit_perceiver_io
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import NormalisationSettings
from biopercept.learning.out_of_fold import calibration_from, held_out_answers
from biopercept.learning.splits import choose_validation
from biopercept.learning.starting import StartingPoint, load_start
from biopercept.learning.token_source import vocabulary_of
from biopercept.learning.training import EpochReport, FittedNetwork
from biopercept.learning.windows import WindowTable
from biopercept.tasks import Task


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where the training data came from, and what is known of the model's scores.

    Attributes
    ----------
    study : str
    store_fingerprint : str
    prepare : dict
        Window and cleaning settings of the store.
    modalities : tuple of str
        Measured modalities of the training recordings.
    scores : dict or None
        Content of the ``scores.json`` of a cross-validation with the same settings, for the card.
    warnings : tuple of str
    """

    study: str
    store_fingerprint: str
    prepare: dict[str, Any]
    modalities: tuple[str, ...]
    scores: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def train_final(
    inputs: WindowInputs,
    task: Task,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    provenance: Provenance,
    output: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    calibrating: CalibrationSettings | None = None,
    on_epoch: EpochReport | None = None,
) -> FittedNetwork[Any]:
    """Fit on the windows of all subjects in ``inputs`` and write the model folder of one classification.

    A few subjects (``training.validation_fraction``) are held out for early stopping; they are named in the card. With
    ``calibrating`` the model's answers are calibrated on subjects outside a fit: these few, or inner folds of all.

    Raises
    ------
    SettingsError
        Where there are fewer than 2 subjects, or nobody to learn the calibration from.
    CheckpointError
        Where the model to start from cannot be read, or has nothing in common with the network.
    TrainingError
        Where the loss is not finite.
    OutputError
        Where the model cannot be written.
    """
    windows = inputs.windows
    if len(windows.subjects) < 2:
        raise SettingsError("one subject has labelled windows; a model for unseen people needs at least 2 to train on")
    engine = engine_for(device, settings.training.precision)
    start = load_start(Path(settings.start_from)) if settings.start_from else None
    wished = calibrating or CalibrationSettings()
    validation = choose_validation(windows.subjects, settings.training.validation_fraction, seed)
    training = [s for s in windows.subjects if s not in validation]
    started = time.perf_counter()
    request = FitRequest(
        inputs,
        windows.rows_of(training),
        windows.rows_of(validation),
        settings,
        engine,
        seed_for(seed, "final"),
        on_epoch,
    )
    with threads(settings.training.n_threads):
        on_study = fit_perceiver_io(request)
        calibration = _calibration(request, on_study, wished) if wished.is_wanted else None
    fitted = on_study.fitted
    description = training_description(
        inputs, settings, provenance, fitted, training, validation, seed=seed, started=started, start=start
    )
    checkpoint = Checkpoint(
        network=fitted.network,
        task=task,
        feature_names=windows.feature_names,
        population=fitted.population,
        normalisation=normalisation,
        tokens=settings.tokens,
        model=settings.model,
        vocabulary=vocabulary_of(windows.feature_names),
        prepare=provenance.prepare,
        training=description,
        calibration=calibration,
    )
    save_checkpoint(checkpoint, output, model_card(checkpoint))
    return fitted


def training_description(
    inputs: WindowInputs,
    settings: FitSettings,
    provenance: Provenance,
    fitted: FittedNetwork[Any],
    training: Sequence[str],
    validation: Sequence[str],
    *,
    seed: int,
    started: float,
    start: StartingPoint | None,
) -> dict[str, Any]:
    """Return what a model folder says of its training, as plain values.

    ``training`` and ``validation`` are subjects; ``started`` is ``time.perf_counter()`` before the fit.
    """
    windows = inputs.windows
    return {
        "study": provenance.study,
        "store": provenance.store_fingerprint,
        "modalities": list(provenance.modalities),
        "subjects": training,
        "validation_subjects": list(validation),
        "n_windows": len(windows),
        "windows_per_class": _windows_per_class(windows),
        "n_windows_left_out": windows.excluded,
        "step_seconds": inputs.step_seconds,
        "settings": settings.training.described(),
        "seed": seed,
        "best_epoch": fitted.best_epoch,
        "history": [[e, a, b if b == b else None] for e, a, b in fitted.history],
        "seconds": round(time.perf_counter() - started, 1),
        "parameters": fitted.n_parameters,
        "scores": provenance.scores,
        "warnings": list(provenance.warnings),
        "start_from": None if start is None else {**start.described(fitted.network), "seen": list(start.studies)},
    }


def _windows_per_class(windows: WindowTable) -> dict[str, int]:
    """Return the windows of each class of the one task; nothing for several tasks."""
    if len(windows.targets) > 1:
        return {}
    return {name: int((windows.only.values == number).sum()) for number, name in enumerate(windows.only.classes)}


def _calibration(request: FitRequest, fitted: NetworkOnStudy, settings: CalibrationSettings) -> Calibration:
    """Return what is learnt from answers about subjects outside the fit."""
    answers = held_out_answers(replace(request, on_epoch=None), fit_perceiver_io, fitted, settings.n_folds)
    return calibration_from(request.inputs.windows, [answers], settings)


def measured_modalities(recordings: Collection[Any]) -> tuple[str, ...]:
    """Return the measured modalities of prepared recordings, sorted."""
    return tuple(sorted({s.modality for r in recordings for s in r.signals if not s.derived_from}))


def model_card(checkpoint: Checkpoint) -> str:
    """Return the model card: data, subjects, scores with intervals, limits, intended use (Markdown)."""
    training, task = checkpoint.training, checkpoint.task
    return card_text(
        task.name,
        f"One of {', '.join(task.classes)} for each window of {checkpoint.prepare['windows']['length_seconds']:g} s.",
        ", ".join(f"{name} {n}" for name, n in training["windows_per_class"].items()),
        model_scores_sentence(training["scores"]),
        checkpoint.normalisation.mode,
        training,
        checkpoint.calibration,
    )


def card_text(
    title: str,
    answers: str,
    counts: str,
    scores: str,
    mode: str,
    training: dict[str, Any],
    calibration: Calibration | None = None,
) -> str:
    """Return a model card (Markdown) of any model.

    Parameters
    ----------
    title : str
        What it answers, in a word.
    answers : str
        What it answers, in sentences.
    counts : str
        Windows by class or task.
    scores : str
        What is known of its scores.
    mode : str
        Rung of the normalisation ladder.
    training : dict
        Of :func:`training_description`.
    calibration : Calibration, optional
    """
    lines = [
        f"# {title}: a Perceiver IO for {', '.join(training['modalities'])}",
        "",
        "## Intended use",
        "Research on human factors. It is no medical device; nobody should be judged, diagnosed or hired by it.",
        "",
        "## What it answers",
        answers,
        f"Inputs are scaled by the `{mode}` rung of the normalisation ladder.",
        "",
        "## Data",
        f"Study {training['study']}: {len(training['subjects'])} training subjects, "
        f"{len(training['validation_subjects'])} more for early stopping; {training['n_windows']} windows ({counts}).",
        *(f"- left out: {n} windows, {reason}" for reason, n in training["n_windows_left_out"].items()),
        *_start_sentence(training.get("start_from")),
        *_calibration_sentence(calibration),
        "",
        "## Scores",
        scores,
        "",
        "## Limits",
        "Known for the devices, protocol and people of its study only. Exercise, other devices and other "
        "stressors were not seen unless the study had them. Scores of a fixed protocol may rest on its order: read the "
        "clock-only probe beside them.",
        *(f"- {warning}" for warning in training["warnings"]),
        "",
        f"{training['parameters']} parameters, seed {training['seed']}, best epoch {training['best_epoch']}, "
        f"{training['seconds']} s of training.",
    ]
    return "\n".join(lines) + "\n"


def _start_sentence(start: dict[str, Any] | None) -> list[str]:
    if start is None:
        return []
    return [
        f"It started from the weights of a {start['kind']} network ({start['n_taken']} taken by name and shape, "
        f"{len(start['new'])} new) that had seen signals of {', '.join(start['studies'])}."
    ]


def _calibration_sentence(held: Calibration | None) -> list[str]:
    if held is None:
        return ["", "## Calibration", "None: read a probability as a score, not as a chance."]
    learnt = f"learnt from {held.source} ({len(held.subjects)} subjects, {held.n_windows} windows)"
    how = {
        "none": "Probabilities are not calibrated",
        "temperature": f"Probabilities are calibrated by temperature {held.temperature:.3f}",
        "isotonic": "Probabilities are calibrated by isotonic regression",
    }[held.method]
    sets = ""
    if held.coverage > 0 and held.threshold is None:
        sets = f" The subjects were too few for prediction sets of {held.coverage:.0%} coverage: every window abstains."
    elif held.coverage > 0:
        sets = (
            f" Prediction sets hold the true class in {held.coverage:.0%} of windows of people like these; a set of "
            "more than one class, or of none, is an abstention."
        )
    return ["", "## Calibration", f"{how}, {learnt}.{sets}"]


def model_scores_sentence(scores: dict[str, Any] | None) -> str:
    """Return what the card says of a ``scores.json``; None for a model that was not evaluated."""
    if scores is None:
        return "Not evaluated: this model was trained on everybody it was given. Run `cross-validate` for its scores."
    if scores.get("kind") == "regression":
        error, agreement = scores["mae"], scores["ccc"]
        return (
            f"Cross-validated over {scores['n_subjects']} subjects ({scores['split']}, {scores['n_folds']} folds): "
            f"mean absolute error {_with_interval(error)} in the unit of {scores['column']} (mean over subjects, 95% "
            "bootstrap over subjects; always answering the training mean has "
            f"{scores['chance']['training_mean_mae']:.3f}), pooled concordance {_number(agreement['pooled'])}, "
            f"worst subject {error['worst']:.3f}."
        )
    accuracy = scores["balanced_accuracy"]
    if accuracy["mean"] is None:
        return "Not evaluated: no subject of the cross-validation had windows of two classes."
    interval = "" if accuracy["ci95"] is None else f" [{accuracy['ci95'][0]:.3f}, {accuracy['ci95'][1]:.3f}]"
    return (
        f"Cross-validated over {scores['n_subjects']} subjects ({scores['split']}, {scores['n_folds']} folds): "
        f"balanced accuracy {accuracy['mean']:.3f}{interval} (mean over subjects, 95% bootstrap over subjects), "
        f"worst subject {accuracy['worst']:.3f}."
    )


def _with_interval(score: dict[str, Any]) -> str:
    interval = "" if score["ci95"] is None else f" [{score['ci95'][0]:.3f}, {score['ci95'][1]:.3f}]"
    return f"{_number(score['mean'])}{interval}"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
