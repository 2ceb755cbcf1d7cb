"""One network class on a picture, a point cloud, a sound and a biosignal study: only the tokens differ.

Picture, cloud and sound go through :class:`PerceiverOnTokens` at one size: values beside Fourier features of the
place (a pixel's row and column, a point's own coordinates, a patch's time). The study goes through the package's
own :class:`BiosignalPerceiver`, which makes tokens of all sensors at once. Inside both is the same
:class:`PerceiverIO`, with the same width, latents and layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biopercept.claims.classification import FitSchedule, LabelledTokens, fit_network, score_network
from biopercept.claims.networks import NetworkSettings, PerceiverOnTokens
from biopercept.claims.samples import N_SOUND_PATCHES, digit_tokens, shape_tokens, sound_tokens
from biopercept.evaluation.folds import fit_folds
from biopercept.evaluation.metrics import chance_levels, score_subject, summarise
from biopercept.evaluation.planning import EvaluationRequest, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.learning.engine import seed_for, seeded
from biopercept.learning.fitting import FitSettings
from biopercept.learning.training import TrainingSettings
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.positions import FourierPositions
from biopercept.store import StudyStore


@dataclass(frozen=True)
class Sense:
    """One kind of input and how its places are coded.

    Attributes
    ----------
    name : str
        "picture", "point cloud" or "sound".
    described : str
        What a token is.
    shape : tuple of int
        Points along each axis, for the highest frequency of the code.
    n_bands : int
        Frequencies per axis.
    """

    name: str
    described: str
    shape: tuple[int, ...]
    n_bands: int

    def tokens(self, seed: int, n_made: int) -> LabelledTokens:
        """Return this kind's samples; ``n_made`` is how many are made where they are made."""
        if self.name == "picture":
            return digit_tokens(seed)
        make = shape_tokens if self.name == "point cloud" else sound_tokens
        return make(seed, n_samples=n_made)


SENSES = (
    Sense("picture", "a pixel of a handwritten digit", (8, 8), 4),
    Sense("point cloud", "a point of a solid's surface; nothing but its place", (16, 16, 16), 4),
    Sense("sound", "16 samples of the raw waveform", (N_SOUND_PATCHES,), 8),
)


def run_one_architecture(
    store: StudyStore, *, seed: int, n_made: int = 1400, schedule: FitSchedule, n_folds: int = 5, n_epochs: int = 16
) -> list[dict[str, Any]]:
    """Return a row for each kind of input: accuracy with n and 95 % interval, chance, classes, parameters.

    Parameters
    ----------
    store : StudyStore
        The biosignal study.
    seed : int
    n_made : int
        Made shapes, and made sounds; 70 % of them train.
    schedule : FitSchedule
        For picture, cloud and sound alike.
    n_folds, n_epochs : int
        Folds over subjects, and longest training, on the study.
    """
    rows = [fit_sense(sense, seed=seed, n_made=n_made, schedule=schedule) for sense in SENSES]
    return [*rows, _fit_study(store, seed=seed, n_folds=n_folds, n_epochs=n_epochs)]


def fit_sense(sense: Sense, *, seed: int, n_made: int, schedule: FitSchedule) -> dict[str, Any]:
    """Return the row of a picture, point cloud or sound, its test samples unseen in training."""
    tokens = sense.tokens(seed, n_made)
    with seeded(seed_for(seed, sense.name)):
        places = FourierPositions(sense.shape, sense.n_bands)
        network = PerceiverOnTokens(tokens.values.shape[-1], places, len(tokens.classes), NetworkSettings())
        fit_network(network, tokens, schedule)
    return {
        "input": sense.name,
        "token": sense.described,
        "core": type(network.core).__name__,
        "n_tokens": tokens.values.shape[1],
        "n_training": len(tokens.training),
        "classes": list(tokens.classes),
        "chance": tokens.chance,
        "parameters": network.n_parameters,
        "score": "accuracy",
        **score_network(network, tokens).to_json(),
    }


def _fit_study(store: StudyStore, *, seed: int, n_folds: int, n_epochs: int) -> dict[str, Any]:
    """Return the row of the biosignal study: every subject tested once by a network that never saw them."""
    size = NetworkSettings()
    model = PerceiverSettings(
        width=size.width, n_latents=size.n_latents, n_layers=size.n_layers, n_heads=size.n_heads, widening=size.widening
    )
    request = EvaluationRequest(
        store.path,
        fit=FitSettings(model=model, training=TrainingSettings(n_epochs=n_epochs)),
        evaluation=EvaluationSettings(split="k-fold", n_folds=n_folds),
        seed=seed,
        device="cpu",
    )
    plan = plan_evaluation(store, request)
    windows = plan.windows
    results = [result for _, result in fit_folds(plan, plan.folds, 1)]
    scores: list[float | None] = []
    for result in results:
        for who in result.fold.test:
            mine = windows.subject[result.rows] == who
            target = windows.target[result.rows][mine]
            scores.append(score_subject(who, target, result.probabilities[mine]).balanced_accuracy)
    summary = summarise(scores, chance=1.0 / windows.n_classes, seed=seed)
    chance = chance_levels(windows.subject, windows.target, windows.n_classes, seed=seed)
    return {
        "input": "biosignals",
        "token": "a patch of any sensor, or its features",
        "core": "PerceiverIO",
        "n_tokens": None,
        "n_training": round(float(np.mean([len(windows.rows_of(fold.training)) for fold in plan.folds]))),
        "classes": list(windows.classes),
        "chance": chance["dummy"],
        "parameters": results[0].n_parameters,
        "score": "balanced accuracy, mean over subjects",
        "accuracy": summary.mean,
        "ci95": list(summary.ci95) if summary.ci95 else None,
        "n": len(windows),
        "n_subjects": summary.n_subjects,
    }


def same_core(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether all rows were answered by one network class."""
    return len({row["core"] for row in rows}) == 1
