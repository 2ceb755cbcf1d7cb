"""One network class on a picture, a point cloud, a sound and a biosignal study: only the tokens differ.

Picture, cloud and sound go through :class:`PerceiverOnTokens` at one size: values beside Fourier features of the
place (a pixel's row and column, a point's own coordinates, a patch's time). The study goes through the package's
own :class:`BiosignalPerceiver`, which makes tokens of all sensors at once. Inside both is the same
:class:`PerceiverIO`, with the same width, latents and layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from biopercept.data.splits import Fold
from biopercept.evaluation.fold_fits import FoldResult, fit_fold
from biopercept.evaluation.metrics import Bootstrap, chance_levels, score_subject
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.settings import PerceiverSettings
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.engine import seed_for, seeded
from biopercept.training.settings import FitSettings, TrainingSettings
from experiments.classification import (
    FitSchedule,
    LabelledTokens,
    answers,
    fit_network,
    over_seeds,
    score_answers,
)
from experiments.networks import FourierPositions, NetworkSettings, PerceiverOnTokens
from experiments.samples import N_SOUND_PATCHES, digit_tokens, shape_tokens, sound_tokens

VERSION = 2
"""Raised whenever what this experiment does changes, so that no older result is taken for a new one."""


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


LEARNING_RATE = 1e-3
"""Peak rate on the sample study, as the documented results were made with."""

SENSES = (
    Sense("picture", "a pixel of a handwritten digit", (8, 8), 4),
    Sense("point cloud", "a point of a solid's surface; nothing but its place", (16, 16, 16), 4),
    Sense("sound", "16 samples of the raw waveform", (N_SOUND_PATCHES,), 8),
)


@dataclass(frozen=True)
class SenseFit:
    """A picture, point cloud or sound, fitted with one seed, as a unit of work.

    Attributes
    ----------
    n_made : int
        Made samples; 70 % of them train.
    """

    sense: Sense
    seed: int
    n_made: int
    schedule: FitSchedule

    @property
    def name(self) -> str:
        """Return what the fit is called."""
        return f"architecture {self.sense.name} seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        return {"experiment": VERSION, "size": asdict(NetworkSettings()), **asdict(self)}

    def run(self) -> dict[str, Any]:
        """Fit and score."""
        return fit_sense(self.sense, seed=self.seed, n_made=self.n_made, schedule=self.schedule)


@dataclass(frozen=True)
class StudyFold:
    """One fold of the biosignal study, as a unit of work.

    Attributes
    ----------
    plan_identity : str
        JSON of the plan's identity.
    """

    request: EvaluationRequest
    fold: Fold
    plan_identity: str

    @property
    def name(self) -> str:
        """Return what the fold is called."""
        return f"architecture biosignals {self.fold.name} seed {self.request.seed}"

    def identity(self) -> dict[str, Any]:
        """Return everything that the result depends on."""
        return {"experiment": VERSION, "plan": json.loads(self.plan_identity), "fold": asdict(self.fold)}

    def run(self) -> dict[str, Any]:
        """Fit the fold and predict its test subjects."""
        with open_store(self.request.store) as store:
            return fit_fold(plan_evaluation(store, self.request), self.fold).to_json()


def sense_fits(*, seeds: Sequence[int], n_made: int, schedule: FitSchedule) -> list[SenseFit]:
    """Return the fits of picture, point cloud and sound."""
    return [SenseFit(sense, seed, n_made, schedule) for sense in SENSES for seed in seeds]


def study_plan(store: StudyStore, *, seed: int, n_folds: int, n_epochs: int) -> Plan:
    """Return the plan of the biosignal study, for a network of the same size as the others."""
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
    return plan_evaluation(store, request)


def study_folds(plan: Plan) -> list[StudyFold]:
    """Return the plan's folds as units."""
    return [StudyFold(plan.request, fold, json.dumps(plan.identity(), sort_keys=True)) for fold in plan.folds]


def fit_sense(sense: Sense, *, seed: int, n_made: int, schedule: FitSchedule) -> dict[str, Any]:
    """Return the score of a picture, point cloud or sound, its test samples unseen in training."""
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
        "seed": seed,
        **score_answers(answers(network, tokens), tokens).to_json(),
    }


def sense_row(fits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of one kind of input: the mean over its seeds with Student's 95 % interval."""
    first = fits[0]
    kept = {key: first[key] for key in ("input", "token", "core", "n_tokens", "n_training", "classes", "parameters")}
    over = over_seeds([fit["accuracy"] for fit in fits])
    return {
        **kept,
        "chance": float(np.mean([fit["chance"] for fit in fits])),
        "score": "accuracy",
        "accuracy": over["mean"],
        "ci95": over["ci95"],
        "n": first["n"],
        "n_seeds": len(fits),
        "by_seed": [fit["accuracy"] for fit in fits],
    }


def study_row(plan: Plan, folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of the biosignal study: every subject tested once by a network that never saw them."""
    windows, seed = plan.windows, plan.request.seed
    results = [FoldResult.from_json(dict(held), fold) for held, fold in zip(folds, plan.folds, strict=True)]
    scores: list[float | None] = []
    for result in results:
        for who in result.fold.test:
            mine = windows.subject[result.rows] == who
            target = windows.only.values[result.rows][mine]
            scores.append(score_subject(who, target, result.probabilities[mine]).balanced_accuracy)
    summary = Bootstrap(seed).score(scores, chance=1.0 / windows.only.n_classes)
    chance = chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=seed)
    return {
        "input": "biosignals",
        "token": "a patch of any sensor, or its features",
        "core": "PerceiverIO",
        "n_tokens": None,
        "n_training": round(float(np.mean([len(windows.rows_of(fold.training)) for fold in plan.folds]))),
        "classes": list(windows.only.classes),
        "chance": chance["dummy"],
        "parameters": results[0].n_parameters,
        "score": "balanced accuracy, mean over subjects",
        "accuracy": summary.mean,
        "ci95": list(summary.ci95) if summary.ci95 else None,
        "n": len(windows),
        "n_seeds": 1,
        "n_subjects": summary.n_subjects,
    }


def same_core(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether all rows were answered by one network class."""
    return len({row["core"] for row in rows}) == 1
