"""Fit a network on the windows of some subjects, stopping early on others; short, seeded, one loop for all networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopercept.errors import SettingsError, TrainingError
from biopercept.learning.engine import Engine, seeded
from biopercept.learning.inputs import TokenSource, WindowInputs, vocabulary_of
from biopercept.learning.layouts import in_order
from biopercept.learning.normalisation import Population
from biopercept.learning.optimisation import RunningMean, make_optimiser
from biopercept.learning.starting import take_weights
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings, TokenVocabulary

EpochReport = Callable[[int, float, float], None]
Network = TypeVar("Network", bound=nn.Module, covariant=True)


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

    n_epochs: int = 16
    batch_size: int = 64
    learning_rate: float = 1e-3
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

        Raises
        ------
        SettingsError
            Where one is not written as NAME=WEIGHT with a weight above 0.
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
        held = asdict(self)
        for name, default in (("task_weights", ()), ("dense_weight", 0.0)):
            if held[name] == default:
                del held[name]
        return held


@dataclass(frozen=True, eq=False)
class FittedNetwork(Generic[Network]):
    """A trained network, and how its training went.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode.
    population : Population
        Statistics of training and validation subjects that scaled its inputs.
    history : tuple of (epoch, training loss, validation loss)
        The validation loss is NaN where no subject was set aside.
    best_epoch : int
        Epoch whose weights are kept.
    n_trained : int
        Numbers that training ever touched: parts for sensors that the study lacks are not among them.
    """

    network: Network
    population: Population
    history: tuple[tuple[int, float, float], ...]
    best_epoch: int
    n_trained: int

    @property
    def n_parameters(self) -> int:
        """Return the number of all numbers of the network, trained or not."""
        return sum(parameter.numel() for parameter in self.network.parameters())


FittedPerceiver = FittedNetwork[BiosignalPerceiver]


class Objective(Protocol):
    """What a fit makes small, and how it draws its windows."""

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each of the training windows ``rows`` is drawn, (len(rows),)."""
        ...

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the loss of a batch of windows, with its graph."""
        ...

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss that early stopping looks at."""
        ...


@dataclass(frozen=True, eq=False)
class ClassObjective:
    """Cross-entropy of one classification; subjects, and classes within a subject, weigh the same.

    Attributes
    ----------
    windows : WindowTable
    label_smoothing : float
    """

    windows: WindowTable
    label_smoothing: float

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each window is drawn, (len(rows),)."""
        return cell_weights(self.windows.subject[rows], self.windows.target[rows])

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the mean cross-entropy of a batch."""
        logits = in_order(source.layouts.parts(rows), lambda part: network(source.batch(rows[part]), noise))
        labels = torch.from_numpy(self.windows.target[rows]).to(source.device)
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the log loss of the windows, every (subject, class) weighing the same."""
        return self.log_loss(predict_probabilities(network, source, rows), rows)

    def log_loss(self, probabilities: NDArray[np.float64], rows: IntArray) -> float:
        """Return the log loss of probabilities (len(rows), n_classes), every (subject, class) weighing the same."""
        target = self.windows.target[rows]
        losses = -np.log(np.clip(probabilities[np.arange(len(rows)), target], 1e-7, 1.0))
        return float(np.average(losses, weights=self.sampling_weights(rows).numpy()))


def fit_perceiver(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    *,
    tokens: TokenSettings,
    model: PerceiverSettings,
    settings: TrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
    on_epoch: EpochReport | None = None,
) -> FittedPerceiver:
    """Return a Perceiver IO fitted by :func:`fit_network`; ``model`` are its settings.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """

    def make(vocabulary: TokenVocabulary, n_classes: int) -> BiosignalPerceiver:
        return BiosignalPerceiver(model, tokens, vocabulary, n_classes)

    return fit_network(
        inputs,
        training,
        validation,
        make,
        tokens=tokens,
        settings=settings,
        engine=engine,
        seed=seed,
        start_from=start_from,
        on_epoch=on_epoch,
    )


def fit_network(
    inputs: WindowInputs,
    training: IntArray,
    validation: IntArray,
    make: Callable[[TokenVocabulary, int], Network],
    *,
    tokens: TokenSettings,
    settings: TrainingSettings,
    engine: Engine,
    seed: int,
    start_from: Mapping[str, torch.Tensor] | None = None,
    on_epoch: EpochReport | None = None,
    objective: Objective | None = None,
) -> FittedNetwork[Network]:
    """Return a network fitted on the windows ``training``, kept at the epoch that is best on ``validation``.

    Parameters
    ----------
    inputs : WindowInputs
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    make : callable
        Gives a new network for a vocabulary and a number of classes. The network maps ``(TokenInputs, generator)``
        to logits (B, n_classes) by a last linear layer called ``head``, and takes its draws from the generator.
    tokens, settings
        What is read, and how it is fitted.
    engine : Engine
        Device and precision.
    seed : int
        Of initialisation, sampling, dropout; the same seed on the same machine gives the same weights.
    start_from : mapping of str to Tensor, optional
        Weights to begin with, where name and shape agree.
    on_epoch : callable, optional
        Told ``(epoch, training_loss, validation_loss)`` after each epoch.
    objective : Objective, optional
        What is made small; None: the cross-entropy of the table's classes.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    CheckpointError
        Where ``start_from`` has nothing in common with the network.
    """
    subjects = sorted({str(s) for s in inputs.windows.subject[np.concatenate([training, validation])]})
    population = inputs.fit(subjects)
    source = TokenSource(inputs, population, tokens, engine.device)
    objective = objective or ClassObjective(inputs.windows, settings.label_smoothing)
    with seeded(seed) as generator:
        network = make(vocabulary_of(inputs.windows.feature_names), inputs.windows.n_classes)
        if start_from is not None:
            take_weights(network, start_from)
        network.to(engine.device)
        noise = torch.Generator(engine.device).manual_seed(seed)
        weights = objective.sampling_weights(training)
        n_steps = max(1, math.ceil(len(training) / settings.batch_size))
        optimiser, schedule = make_optimiser(
            network,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_fraction=settings.warmup_fraction,
            n_steps=n_steps * settings.n_epochs,
        )
        average = RunningMean(network, settings.average_decay)
        history: list[tuple[int, float, float]] = []
        best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        for epoch in range(1, settings.n_epochs + 1):
            network.train()
            total = 0.0
            for step in range(n_steps):
                drawn = torch.multinomial(weights, settings.batch_size, replacement=True, generator=generator)
                rows = training[drawn.numpy()]
                loss = _training_step(network, source, rows, objective, optimiser, settings, engine, noise)
                if not math.isfinite(loss):
                    raise TrainingError(not_finite(inputs, rows, epoch, step))
                schedule.step()
                average.update(network)
                total += loss
            state = average.state()
            score = _validation_loss(network, state, source, validation, objective) if len(validation) else math.nan
            if len(validation) and not math.isfinite(score):
                raise TrainingError(
                    f"the validation loss is not finite after epoch {epoch}; lower training.learning_rate"
                )
            history.append((epoch, total / n_steps, score))
            if on_epoch is not None:
                on_epoch(*history[-1])
            if best is None or not len(validation) or score < best[0]:
                best = (score, epoch, state)
            elif epoch - best[1] >= settings.patience:
                break
    assert best is not None  # n_epochs >= 1
    network.load_state_dict(best[2])
    network.eval()
    n_trained = sum(parameter.numel() for parameter in network.parameters() if parameter in optimiser.state)
    return FittedNetwork(network, population, tuple(history), best[1], n_trained)


def cell_weights(subject: NDArray[np.str_], target: IntArray) -> torch.Tensor:
    """Return sampling weights under which subjects, and the classes within a subject, are drawn equally often."""
    cells, index = np.unique(np.array([f"{s}\0{t}" for s, t in zip(subject, target, strict=True)]), return_inverse=True)
    in_cell = np.bincount(index, minlength=len(cells)).astype(np.float64)
    cells_of_subject: dict[str, int] = {}
    for cell in cells:
        owner = str(cell).split("\0")[0]
        cells_of_subject[owner] = cells_of_subject.get(owner, 0) + 1
    share = np.array([1.0 / cells_of_subject[str(s)] for s in subject])
    return torch.from_numpy(share / in_cell[index])


def predict_probabilities(
    network: nn.Module, source: TokenSource, rows: IntArray, *, batch_size: int = 256
) -> NDArray[np.float64]:
    """Return class probabilities of the windows at ``rows``, (len(rows), n_classes).

    The network is left in evaluation mode.
    """
    network.eval()
    found = np.empty((len(rows), cast(nn.Linear, network.head).out_features))
    with torch.inference_mode():
        for part in source.layouts.parts(rows, most=batch_size):
            logits = network(source.batch(rows[part]))
            found[part] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
    return found


def _training_step(
    network: nn.Module,
    source: TokenSource,
    rows: IntArray,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    engine: Engine,
    noise: torch.Generator,
) -> float:
    with engine.autocast():
        loss = objective.loss(network, source, rows, noise)
    optimiser.zero_grad(set_to_none=True)
    engine.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
    optimiser.step()
    return float(loss.detach())


def _validation_loss(
    network: nn.Module,
    state: dict[str, torch.Tensor],
    source: TokenSource,
    rows: IntArray,
    objective: Objective,
) -> float:
    """Return the loss of averaged weights on the validation windows."""
    current = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    score = objective.validation_loss(network, source, rows)
    network.load_state_dict(current)
    return score


def not_finite(inputs: WindowInputs, rows: IntArray, epoch: int, step: int) -> str:
    """Return the sentence for a training loss that is not finite, naming the recordings of the batch."""
    windows = inputs.windows
    names = sorted({windows.recordings[i].key for i in windows.recording[rows]})
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"the training loss is not finite at epoch {epoch}, step {step + 1}, in a batch of {shown}; "
        "lower training.learning_rate or look at these recordings with inspect"
    )
