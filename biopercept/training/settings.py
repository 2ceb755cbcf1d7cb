"""How a model is fitted, pretrained and adapted to a person: the settings, checked, and all those of a fit together."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from biopercept.errors import SettingsError
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.typed_values import (
    ABOVE_0,
    BELOW_1,
    BETWEEN_0_AND_1,
    FROM_0,
    at_least,
    between,
    refuse_other_than,
    refuse_outside,
)

MASKED, CONTRASTIVE, ALIGNMENT = "masked", "contrastive", "alignment"
OBJECTIVES = (MASKED, CONTRASTIVE, ALIGNMENT)

MOST_EPOCHS, MOST_IN_BATCH, MOST_THREADS = 100_000, 1_000_000, 1_000
"""Beyond these a number is a slip."""

HEAD, LOW_RANK, FULL = "head", "low-rank", "full"
ADAPTATIONS = (HEAD, LOW_RANK, FULL)
"""Ways to adapt a fitted network to a person."""

REFERENCE, SCRATCH = "reference", "scratch"
METHODS = (REFERENCE, *ADAPTATIONS, SCRATCH)
"""What the curve compares: no label at all, the adaptations, and a network of the person alone."""

SUBJECT, CLASS = "subject", "class"
CHRONOLOGIES = (SUBJECT, CLASS)

KEEP, ADAPT = "keep", "adapt"
UNCHECKED = (KEEP, ADAPT)
"""What is done where the labels are too few to set any aside: the starting model is kept, or adapted unchecked."""


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is fitted.

    * ``n_epochs``: passes over the training windows, at most.
    * ``batch_size``: windows in a batch, drawn so that subjects, and classes within a subject, weigh the same.
    * ``learning_rate``: peak of a cosine schedule with warm-up (AdamW).
    * ``weight_decay``: decoupled decay of weight matrices.
    * ``warmup_fraction``: part of all steps in which the rate rises.
    * ``label_smoothing``: probability moved from the label to the other classes.
    * ``gradient_clip``: largest norm of the gradient.
    * ``patience``: epochs without a better validation loss before training stops.
    * ``average_decay``: decay per step of the running mean of the weights that is evaluated and kept; 0 keeps the last
      weights.
    * ``validation_fraction``: part of the training side's subjects that early stopping looks at.
    * ``precision``: float32 or bfloat16.
    * ``task_weights``: ``NAME=WEIGHT`` of each task's loss where several are learnt at once; a task not named weighs 1.
    * ``dense_weight``: weight of the loss at single times, from windows that cross segments; 0: not trained.
    * ``n_threads``: processor threads of one fit. Weights are promised equal only for equal threads.
    """

    n_epochs: int = 24
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.05
    gradient_clip: float = 1.0
    patience: int = 6
    average_decay: float = 0.98
    validation_fraction: float = 0.15
    precision: str = "float32"
    task_weights: tuple[str, ...] = ()
    dense_weight: float = 0.0
    n_threads: int = 1

    def __post_init__(self) -> None:
        ranges = {
            between(1, MOST_EPOCHS): ("n_epochs", "patience"),
            between(1, MOST_IN_BATCH): ("batch_size",),
            between(1, MOST_THREADS): ("n_threads",),
            ABOVE_0: ("learning_rate", "gradient_clip"),
            BELOW_1: (
                "weight_decay", "warmup_fraction", "label_smoothing", "average_decay", "validation_fraction",
            ),
            FROM_0: ("dense_weight",),
        }  # fmt: skip
        refuse_outside("training", self, ranges)
        refuse_other_than("training", self, {"precision": ("float32", "bfloat16")})
        self.weight_by_task()

    def weight_by_task(self) -> dict[str, float]:
        """Return the weights of ``task_weights`` by task.

        Raises SettingsError where one is not written as NAME=WEIGHT with a weight above 0.
        """
        weights = {}
        for text in self.task_weights:
            name, _, value = text.rpartition("=")
            try:
                weights[name.strip()] = float(value)
            except ValueError:
                weights[name.strip()] = math.nan
            if not (name.strip() and math.isfinite(weights[name.strip()]) and weights[name.strip()] > 0):
                raise SettingsError(
                    f"training.task_weights holds {text!r}; NAME=WEIGHT is needed, the weight above 0, such as load=0.5"
                )
        return weights

    def described(self) -> dict[str, Any]:
        """Return the settings as plain values; those of several tasks and of single times only where they are used."""
        described = asdict(self)
        for name, default in (("task_weights", ()), ("dense_weight", 0.0)):
            if described[name] == default:
                del described[name]
        return described


@dataclass(frozen=True)
class PretrainingSettings:
    """How a network is pretrained on unlabelled windows.

    * ``objective``: masked, contrastive or alignment.
    * ``n_epochs``: passes over the windows of all studies.
    * ``batch_size``: windows in a batch, all of one study, drawn so that subjects weigh the same.
    * ``learning_rate``: peak of a cosine schedule with warm-up (AdamW).
    * ``weight_decay``: decoupled decay of weight matrices.
    * ``warmup_fraction``: part of all steps in which the rate rises.
    * ``gradient_clip``: largest norm of the gradient.
    * ``sensor_masking``: chance that a window has whole sensors hidden: 1 to all but one, each number equally likely.
    * ``stretch_masking``: mean fraction of each sensor's time that is hidden as one segment.
    * ``patch_masking``: chance that a single patch is hidden.
    * ``n_queries``: hidden patches queried, per window and signal.
    * ``temperature``: of the contrastive losses.
    """

    objective: str = MASKED
    n_epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    gradient_clip: float = 1.0
    sensor_masking: float = 0.5
    stretch_masking: float = 0.2
    patch_masking: float = 0.3
    n_queries: int = 16
    temperature: float = 0.1

    def __post_init__(self) -> None:
        refuse_other_than("pretraining", self, {"objective": OBJECTIVES})
        ranges = {
            between(1, MOST_EPOCHS): ("n_epochs",),
            between(1, MOST_IN_BATCH): ("batch_size", "n_queries"),
            ABOVE_0: ("learning_rate", "gradient_clip", "temperature"),
            BELOW_1: (
                "weight_decay", "warmup_fraction", "sensor_masking", "stretch_masking", "patch_masking",
            ),
        }  # fmt: skip
        refuse_outside("pretraining", self, ranges)
        if self.objective != ALIGNMENT and not (self.sensor_masking or self.stretch_masking or self.patch_masking):
            raise SettingsError(
                f"pretraining.sensor_masking, stretch_masking and patch_masking are all 0; {self.objective} "
                "pretraining needs something hidden"
            )


@dataclass(frozen=True)
class FitSettings:
    """What is read, the network, and how it is fitted; models take what concerns them.

    * ``pretraining``: how the network is pretrained, without labels, on each fit's own training subjects; None: not.
    * ``start_from``: folder of a model whose weights a network starts from; empty: from new ones.
    """

    tokens: TokenSettings = field(default_factory=TokenSettings)
    model: PerceiverSettings = field(default_factory=PerceiverSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    pretraining: PretrainingSettings | None = None
    start_from: str = ""


@dataclass(frozen=True)
class PersonalisationSettings:
    """How a network is adapted to one subject, and how the curve over labels is made.

    * ``methods``: of the curve: reference (no label: a network that scales by each recording's first seconds), head,
      low-rank, full, scratch (a network fitted on the subject alone).
    * ``k``: labelled windows of each class, the first ones in time, that the curve grants.
    * ``method``: adaptation of ``train`` and ``cross-validate`` with a model to start from: head, low-rank or full.
    * ``rank``: of the update of each weight matrix (low-rank).
    * ``n_steps``: steps of an adaptation, at most; the best of them on the subject's validation windows is kept.
    * ``learning_rate``: peak of its cosine with warm-up (AdamW, no weight decay).
    * ``batch_size``: windows in a step, drawn so that the classes weigh the same.
    * ``check_every``: steps between two looks at the validation windows.
    * ``unchecked``: where the labels are too few to set validation windows aside: keep (the starting model, as it is)
      or adapt (a part of the steps is made, and what comes of it is stamped as unchecked).
    * ``unchecked_share``: part of ``n_steps`` that ``unchecked`` adapt makes.
    * ``validation_fraction``: part of each class's labelled windows, the last in time, that decides whether and when to
      stop.
    * ``scratch_steps``: steps that a network of one subject alone is given, at least.
    * ``gap_seconds``: between labelled and scored windows; 0 is one window's length, and less is refused.
    * ``earlier_share``: part of the subject's windows that lies before the scored part, at least, where that can be.
    * ``chronology``: subject (every labelled window comes before every scored one) or class (within each class alone:
      for protocols that show a class once; a stage then has windows on both sides).
    """

    methods: tuple[str, ...] = METHODS
    k: tuple[int, ...] = (1, 3, 5, 10)
    method: str = LOW_RANK
    rank: int = 4
    n_steps: int = 40
    learning_rate: float = 5e-4
    batch_size: int = 16
    check_every: int = 5
    unchecked: str = KEEP
    unchecked_share: float = 0.25
    validation_fraction: float = 0.3
    scratch_steps: int = 200
    gap_seconds: float = 0.0
    earlier_share: float = 0.5
    chronology: str = SUBJECT

    def __post_init__(self) -> None:
        choices = {"methods": METHODS, "method": ADAPTATIONS, "unchecked": UNCHECKED, "chronology": CHRONOLOGIES}
        refuse_other_than("personalisation", self, choices)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise SettingsError("personalisation.methods must name at least one method, each once")
        if not self.k or list(self.k) != sorted(set(self.k)) or self.k[0] < 1:
            raise SettingsError(f"personalisation.k is {list(self.k)}; rising whole numbers from 1 are needed")
        ranges = {
            at_least(1): ("rank", "n_steps", "batch_size", "check_every", "scratch_steps"),
            ABOVE_0: ("learning_rate",),
            BETWEEN_0_AND_1: ("validation_fraction", "earlier_share", "unchecked_share"),
            FROM_0: ("gap_seconds",),
        }
        refuse_outside("personalisation", self, ranges)

    def described(self) -> dict[str, Any]:
        """Return the settings of one adaptation as plain values."""
        of_curve = ("methods", "k", "earlier_share", "chronology", "gap_seconds")
        return {name: value for name, value in asdict(self).items() if name not in of_curve}
