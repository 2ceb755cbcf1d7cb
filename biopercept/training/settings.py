"""How a model is fitted: the settings of training, checked, and all settings of a fit together."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from biopercept.errors import SettingsError
from biopercept.model.biosignals import PerceiverSettings
from biopercept.model.tokens import TokenSettings
from biopercept.training.pretext import PretrainingSettings


@dataclass(frozen=True)
class TrainingSettings:
    """How the network is fitted.

    Attributes
    ----------
    n_epochs : int
        Passes over the training windows, at most.
    batch_size : int
        Windows in a batch, drawn so that subjects, and classes within a subject, weigh the same.
    learning_rate : float
        Peak of a cosine schedule with warm-up (AdamW).
    weight_decay : float
        Decoupled decay of weight matrices.
    warmup_fraction : float
        Part of all steps in which the rate rises.
    label_smoothing : float
        Probability moved from the label to the other classes.
    gradient_clip : float
        Largest norm of the gradient.
    patience : int
        Epochs without a better validation loss before training stops.
    average_decay : float
        Decay per step of the running mean of the weights that is evaluated and kept; 0 keeps the last weights.
    validation_fraction : float
        Part of the training side's subjects that early stopping looks at.
    precision : str
        float32 or bfloat16.
    task_weights : tuple of str
        ``NAME=WEIGHT`` of each task's loss where several are learnt at once; a task not named weighs 1.
    dense_weight : float
        Weight of the loss of answers at single times, from windows that cross stretches; 0: not trained.
    n_threads : int
        Processor threads of one fit. Weights are promised equal only for equal threads.
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
        for name in ("n_epochs", "batch_size", "patience", "n_threads"):
            if getattr(self, name) < 1:
                raise SettingsError(f"training.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "gradient_clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise SettingsError(f"training.{name} is {getattr(self, name)}; it must be a number above 0")
        for name in ("weight_decay", "warmup_fraction", "label_smoothing", "average_decay", "validation_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"training.{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.precision not in ("float32", "bfloat16"):
            raise SettingsError(f"training.precision is {self.precision!r}; allowed are float32 and bfloat16")
        if not (math.isfinite(self.dense_weight) and self.dense_weight >= 0):
            raise SettingsError(f"training.dense_weight is {self.dense_weight}; it must be a number of at least 0")
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
class FitSettings:
    """What is read, the network, and how it is fitted; models take what concerns them.

    Attributes
    ----------
    tokens, model, training
        Settings.
    pretraining : PretrainingSettings or None
        How the network is pretrained, without labels, on each fit's own training subjects; None: not.
    start_from : str
        Folder of a model whose weights a network starts from; empty: from new ones.
    """

    tokens: TokenSettings = field(default_factory=TokenSettings)
    model: PerceiverSettings = field(default_factory=PerceiverSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    pretraining: PretrainingSettings | None = None
    start_from: str = ""
