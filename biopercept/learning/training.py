"""Fit a Perceiver IO on the windows of some subjects, stopping early on others; short, seeded, one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from biopercept.errors import SettingsError, TrainingError
from biopercept.learning.engine import Engine, seeded
from biopercept.learning.inputs import TokenSource, WindowInputs, vocabulary_of
from biopercept.learning.normalisation import Population
from biopercept.learning.starting import take_weights
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.tokens import TokenSettings

EpochReport = Callable[[int, float, float], None]


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


@dataclass(frozen=True, eq=False)
class FittedPerceiver:
    """A trained network, and how its training went.

    Attributes
    ----------
    network : BiosignalPerceiver
        In evaluation mode.
    population : Population
        Statistics of training and validation subjects that scaled its inputs.
    history : tuple of (epoch, training loss, validation loss)
        The validation loss is NaN where no subject was set aside.
    best_epoch : int
        Epoch whose weights are kept.
    """

    network: BiosignalPerceiver
    population: Population
    history: tuple[tuple[int, float, float], ...]
    best_epoch: int

    @property
    def n_parameters(self) -> int:
        """Return the number of trained numbers."""
        return self.network.n_parameters


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
    """Return a network fitted on the windows ``training``, kept at the epoch that is best on ``validation``.

    Parameters
    ----------
    inputs : WindowInputs
    training, validation : int64 arrays
        Rows of the window table; their subjects must not overlap. ``validation`` may be empty.
    tokens, model, settings
        What is read, the network, and how it is fitted.
    engine : Engine
        Device and precision.
    seed : int
        Of initialisation, sampling, dropout; the same seed on the same machine gives the same weights.
    start_from : mapping of str to Tensor, optional
        Weights to begin with, where name and shape agree.
    on_epoch : callable, optional
        Told ``(epoch, training_loss, validation_loss)`` after each epoch.

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
    target = torch.from_numpy(inputs.windows.target).to(engine.device)
    with seeded(seed) as generator:
        network = BiosignalPerceiver(
            model, tokens, vocabulary_of(inputs.windows.feature_names), inputs.windows.n_classes
        )
        if start_from is not None:
            take_weights(network, start_from)
        network.to(engine.device)
        noise = torch.Generator(engine.device).manual_seed(seed)
        weights = cell_weights(inputs.windows.subject[training], inputs.windows.target[training])
        n_steps = max(1, math.ceil(len(training) / settings.batch_size))
        optimiser, schedule = _optimiser(network, settings, n_steps * settings.n_epochs)
        average = _RunningMean(network, settings.average_decay)
        history: list[tuple[int, float, float]] = []
        best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        for epoch in range(1, settings.n_epochs + 1):
            network.train()
            total = 0.0
            for step in range(n_steps):
                drawn = torch.multinomial(weights, settings.batch_size, replacement=True, generator=generator)
                rows = training[drawn.numpy()]
                loss = _training_step(network, source, rows, target, optimiser, settings, engine, noise)
                if not math.isfinite(loss):
                    raise TrainingError(_not_finite(inputs, rows, epoch, step))
                schedule.step()
                average.update(network)
                total += loss
            state = average.state()
            score = _validation_loss(network, state, source, validation, inputs) if len(validation) else math.nan
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
    return FittedPerceiver(network, population, tuple(history), best[1])


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
    network: BiosignalPerceiver, source: TokenSource, rows: IntArray, *, batch_size: int = 256
) -> NDArray[np.float64]:
    """Return class probabilities of the windows at ``rows``, (len(rows), n_classes).

    The network is left in evaluation mode.
    """
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            logits = network(source.batch(rows[start : start + batch_size]))
            parts.append(torch.softmax(logits.double(), dim=-1).cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, network.head.out_features))


def _training_step(
    network: BiosignalPerceiver,
    source: TokenSource,
    rows: IntArray,
    target: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
    engine: Engine,
    noise: torch.Generator,
) -> float:
    with engine.autocast():
        logits = network(source.batch(rows), noise)
        labels = target[torch.from_numpy(rows).to(target.device)]
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)
    optimiser.zero_grad(set_to_none=True)
    engine.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
    optimiser.step()
    return float(loss.detach())


def _optimiser(
    network: nn.Module, settings: TrainingSettings, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    plain = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
    warmup = max(1, round(settings.warmup_fraction * n_steps))

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)


class _RunningMean:
    """Exponential running mean of the weights, corrected for its short start."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._seen = 0
        self._mean = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}

    def update(self, network: nn.Module) -> None:
        self._seen += 1
        with torch.no_grad():
            state = network.state_dict()
            names = list(state)
            torch._foreach_lerp_([self._mean[n] for n in names], [state[n] for n in names], 1.0 - self._decay)

    def state(self) -> dict[str, torch.Tensor]:
        correction = 1.0 - self._decay**self._seen
        return {name: value / correction for name, value in self._mean.items()}


def _validation_loss(
    network: BiosignalPerceiver,
    state: dict[str, torch.Tensor],
    source: TokenSource,
    rows: IntArray,
    inputs: WindowInputs,
) -> float:
    """Return the log loss of averaged weights on the validation windows, every (subject, class) weighing the same."""
    current = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    probabilities = predict_probabilities(network, source, rows)
    network.load_state_dict(current)
    target = inputs.windows.target[rows]
    weights = cell_weights(inputs.windows.subject[rows], target).numpy()
    losses = -np.log(np.clip(probabilities[np.arange(len(rows)), target], 1e-7, 1.0))
    return float(np.average(losses, weights=weights))


def _not_finite(inputs: WindowInputs, rows: IntArray, epoch: int, step: int) -> str:
    windows = inputs.windows
    names = sorted({windows.recordings[i].key for i in windows.recording[rows]})
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"the training loss is not finite at epoch {epoch}, step {step + 1}, in a batch of {shown}; "
        "lower training.learning_rate or look at these recordings with inspect"
    )
