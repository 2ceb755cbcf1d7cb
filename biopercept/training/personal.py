"""A model of one subject as a model folder: adapted from a saved model, or fitted from new weights.

A fit from new weights is the ordinary one on the subject's windows alone, with enough steps for few windows.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.data.views import visible_inputs
from biopercept.data.windows import IntArray
from biopercept.errors import SettingsError
from biopercept.tasks import Task
from biopercept.training.adaptation import (
    PersonalisationSettings,
    adapt_checkpoint,
    load_starting_model,
    require_fitting,
)
from biopercept.training.checkpoint import Checkpoint, load_start, save_checkpoint
from biopercept.training.engine import Engine, engine_for, seed_for, threads
from biopercept.training.final import Provenance, training_description
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import EpochReport, FitRequest, FittedNetwork
from biopercept.training.model_card import model_card
from biopercept.training.settings import FitSettings, TrainingSettings
from biopercept.training.time_split import course_of, set_aside


@dataclass(frozen=True, eq=False)
class _Made:
    """A network of one subject, with what its scaling rests on and how it came about."""

    fitted: FittedNetwork[Any]
    normalisation: NormalisationSettings
    settings: FitSettings
    modalities: tuple[str, ...]
    how: dict[str, Any]


def train_personal(
    inputs: WindowInputs,
    task: Task,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    personalisation: PersonalisationSettings,
    provenance: Provenance,
    output: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    on_epoch: EpochReport | None = None,
) -> tuple[FittedNetwork[Any], dict[str, Any]]:
    """Make a model of the one subject in ``inputs``, from new weights or ``settings.start_from``, and write its folder.

    The last labelled windows of each class are checked on: to stop early, and to fall back to the starting model where
    adapting is not better there. All labelled windows of the subject are used; score it on a later recording.

    Returns
    -------
    personal : dict
        Whose it is, what labels it has seen and how it was made; ``training["personal"]`` of ``model.json``.

    Raises
    ------
    SettingsError
        Where the subject lacks a class, or the model to start from answers another question.
    CheckpointError
        Where the model to start from cannot be read.
    TrainingError
        Where the loss is not finite.
    OutputError
        Where the model cannot be written.
    """
    windows = inputs.windows
    [subject] = windows.subjects
    course = course_of(windows, subject)
    everything = np.arange(len(course.rows), dtype=np.int64)
    if lacking := course.lacking(everything, 1):
        raise SettingsError(
            f"subject {subject} has no window of {', '.join(lacking)}; a personal model needs every class"
        )
    fitting, checking = set_aside(course, everything, personalisation.validation_fraction)
    rows = course.rows[fitting], course.rows[checking]
    started = time.perf_counter()
    with threads(settings.training.n_threads):
        if settings.start_from:
            made = _adapted(inputs, normalisation, settings, personalisation, *rows, seed=seed, device=device)
        else:
            made = _from_scratch(
                inputs, normalisation, settings, personalisation, *rows, seed=seed, device=device, on_epoch=on_epoch
            )
    start = load_start(Path(settings.start_from)) if settings.start_from else None
    described = training_description(
        inputs, made.settings, provenance, made.fitted, [subject], [], seed=seed, started=started, start=start
    )
    personal = {
        "subject": subject,
        "label_minutes": round(course.minutes(everything), 2),
        "fitting_minutes": round(course.minutes(fitting), 2),
        "checking_minutes": round(course.minutes(checking), 2),
        **made.how,
        **({} if start is None else {"had_seen_subject": bool(start.overlap(*_origin(provenance), [subject]))}),
    }
    checkpoint = Checkpoint(
        network=made.fitted.network,
        task=task,
        feature_names=windows.feature_names,
        population=made.fitted.population,
        normalisation=made.normalisation,
        tokens=made.settings.tokens,
        model=made.settings.model,
        vocabulary=vocabulary_of(windows.feature_names),
        prepare=provenance.prepare,
        training={
            **described,
            "modalities": [name for name in described["modalities"] if name in (made.modalities or (name,))],
            "personal": personal,
        },
    )
    save_checkpoint(checkpoint, output, personal_card(checkpoint))
    return made.fitted, personal


def _origin(provenance: Provenance) -> tuple[str, str]:
    return provenance.study, provenance.store_fingerprint


def _from_scratch(
    inputs: WindowInputs,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    personalisation: PersonalisationSettings,
    fitting: IntArray,
    checking: IntArray,
    *,
    seed: int,
    device: str,
    on_epoch: EpochReport | None,
) -> _Made:
    made = fit_scratch(
        inputs,
        fitting,
        checking,
        settings,
        personalisation.scratch_steps,
        engine=engine_for(device, settings.training.precision),
        seed=seed_for(seed, "personal"),
        on_epoch=on_epoch,
    )
    how = {"method": "scratch", "fell_back": False, "is_checked": bool(len(checking))}
    fitted = replace(made.fitted, network=made.fitted.network.cpu())
    return _Made(fitted, normalisation, settings, (), how)


def _adapted(
    inputs: WindowInputs,
    normalisation: NormalisationSettings,
    settings: FitSettings,
    personalisation: PersonalisationSettings,
    fitting: IntArray,
    checking: IntArray,
    *,
    seed: int,
    device: str,
) -> _Made:
    """Return the saved model adapted; it scales as it did, and reads the sensors that it was trained with."""
    folder = Path(settings.start_from)
    start = load_starting_model(folder)
    require_fitting(start, inputs.windows, folder)
    engine = engine_for(device, settings.training.precision)
    own = WindowInputs(
        inputs.windows, start.normalisation, inputs.step_seconds, raw=start.tokens.raw, derived=start.tokens.derived
    )
    source = TokenSource(own, start.population, start.tokens, engine.device)
    adapted = adapt_checkpoint(
        start,
        source,
        inputs.windows,
        fitting,
        checking,
        settings=personalisation,
        engine=engine,
        seed=seed_for(seed, "personal"),
    )
    how = {
        "method": personalisation.method,
        "settings": personalisation.described(),
        "fell_back": adapted.fell_back,
        "is_checked": adapted.is_checked,
        "checks": [list(check) for check in adapted.checks],
    }
    network = adapted.network.cpu()
    n = sum(parameter.numel() for parameter in network.parameters())
    fitted = FittedNetwork(network, start.population, (), adapted.n_steps, n)
    fit = replace(settings, tokens=start.tokens, model=start.model)
    return _Made(fitted, start.normalisation, fit, tuple(start.training["modalities"]), how)


def personal_card(checkpoint: Checkpoint) -> str:
    """Return the model card of a personal model (Markdown): the ordinary one, and whose it is and what it has seen."""
    head, rest = model_card(checkpoint).split("\n", 1)
    return f"{head}\n\n## A personal model\n{personal_sentence(checkpoint.training['personal'])}\n{rest}"


def personal_sentence(personal: dict[str, Any]) -> str:
    """Return whose a model is, what labels it has seen, and whether it fell back."""
    seen = (
        f"This model is for {personal['subject']} alone and says nothing about anybody else. It has seen "
        f"{personal['label_minutes']:.1f} minutes of that person's labels: {personal['fitting_minutes']:.1f} to fit, "
        f"{personal['checking_minutes']:.1f}, the last of each class, to check on."
    )
    if personal["method"] == "scratch":
        return f"{seen} It was fitted from new weights."
    is_kept_unchecked = personal["fell_back"] and not personal["is_checked"]
    if is_kept_unchecked:
        seen = (
            f"This model is for {personal['subject']} alone. Of that person's labels there were "
            f"{personal['label_minutes']:.1f} minutes, too few to set any aside to check on."
        )
    if personal["had_seen_subject"]:
        seen += " The starting model had seen this person before."
    if is_kept_unchecked:
        return (
            f"{seen} Nothing was adapted: this is the starting model, unchanged (personalisation.unchecked=adapt "
            "would adapt it without a check)."
        )
    if personal["fell_back"]:
        return f"{seen} Adapting ({personal['method']}) was not better there: this is the starting model, unchanged."
    checked = (
        "It was better there than the starting model."
        if personal["is_checked"]
        else "UNCHECKED: they were too few to check on; only a few steps were made, and nothing shows a gain."
    )
    return f"{seen} It was adapted ({personal['method']}) from the starting model. {checked}"


def enough_steps(training: TrainingSettings, n_windows: int, n_steps: int) -> TrainingSettings:
    """Return the settings with as many epochs as ``n_steps`` need; the patience grows in proportion.

    An epoch over the few windows of one person is a step or two: as many epochs as for a study would hardly begin.

    >>> enough_steps(TrainingSettings(n_epochs=16, batch_size=64, patience=6), 100, 200).n_epochs
    100
    """
    n_epochs = max(training.n_epochs, math.ceil(n_steps / max(1, math.ceil(n_windows / training.batch_size))))
    patience = max(training.patience, math.ceil(training.patience * n_epochs / training.n_epochs))
    return replace(training, n_epochs=n_epochs, patience=patience)


def fit_scratch(
    inputs: WindowInputs,
    fitting: IntArray,
    checking: IntArray,
    settings: FitSettings,
    n_steps: int,
    *,
    engine: Engine,
    seed: int,
    on_epoch: EpochReport | None = None,
) -> NetworkOnStudy:
    """Return a network fitted from new weights on one subject's windows.

    Parameters
    ----------
    fitting, checking : int64 arrays
        Rows of the table, fitted on and checked on to stop early; all of one subject. ``checking`` may be empty.
        The population part of the scaling is that of these windows.
    settings : FitSettings
        ``start_from`` and ``pretraining`` are not used.
    n_steps : int
        Steps, at least.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """
    training = enough_steps(settings.training, len(fitting), n_steps)
    own = replace(settings, training=training, start_from="", pretraining=None)
    seen = visible_inputs(inputs, np.concatenate([fitting, checking]))
    return fit_perceiver_io(FitRequest(seen, fitting, checking, own, engine, seed, on_epoch))
