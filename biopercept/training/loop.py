"""Fit a network on the windows of some subjects, stopping early on others; short, seeded, one loop for all networks.

AdamW on a cosine with warm-up; the running mean of the weights is what is evaluated and kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from biopercept.data.batches import TokenSource, vocabulary_of
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics
from biopercept.data.windows import IntArray
from biopercept.errors import SettingsError, TrainingError, listed
from biopercept.model.token_inputs import TokenVocabulary
from biopercept.progress import notice
from biopercept.store.prepared import title_of
from biopercept.training.checkpoint import take_weights
from biopercept.training.engine import Engine, Group, seeded
from biopercept.training.resuming import KeptFit, kept_fit, random_states, set_random_states
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

EpochReport = Callable[[int, float, float], None]
Network = TypeVar("Network", bound=nn.Module, covariant=True)
State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Everything a model may use to be fitted.

    * ``inputs``: inputs of all windows of the study; only those of ``training`` and ``validation`` may touch the model.
    * ``training``, ``validation``: rows of the window table; their subjects must not overlap, and ``validation`` may be
      empty. A model without early stopping fits on both.
    * ``seed``: of initialisation, sampling, dropout; the same seed on the same machine gives the same weights.
    * ``on_epoch``: given ``(epoch, training_loss, validation_loss)`` after each epoch.
    * ``unlabelled``: more subjects whose signals, and nothing else, pretraining may read.
    """

    inputs: WindowInputs
    training: IntArray
    validation: IntArray
    settings: FitSettings
    engine: Engine
    seed: int
    on_epoch: EpochReport | None = None
    unlabelled: tuple[str, ...] = ()

    @property
    def fitting(self) -> IntArray:
        """Return the rows of training and validation together, in order."""
        return np.sort(np.concatenate([self.training, self.validation]))

    @property
    def fitting_subjects(self) -> tuple[str, ...]:
        """Return the subjects of the fitting rows, sorted."""
        return tuple(sorted({str(s) for s in self.inputs.windows.subject[self.fitting]}))

    @property
    def n_steps(self) -> int:
        """Return the training steps of an epoch."""
        return max(1, math.ceil(len(self.training) / self.settings.training.batch_size))


@dataclass(frozen=True, eq=False)
class FittedNetwork(Generic[Network]):
    """A trained network, and how its training went.

    * ``network``: in evaluation mode.
    * ``population``: of the training and validation subjects; it scaled the inputs.
    * ``history`` (tuple of (epoch, training loss, validation loss)): the validation loss is NaN where no subject was
      set aside.
    * ``n_trained``: numbers that training ever touched: parts for sensors that the study lacks are not among them.
    """

    network: Network
    population: TrainingStatistics
    history: tuple[tuple[int, float, float], ...]
    best_epoch: int
    n_trained: int

    @property
    def n_parameters(self) -> int:
        """Return the number of all numbers of the network, trained or not."""
        return sum(parameter.numel() for parameter in self.network.parameters())


class Objective(Protocol):
    """What a fit makes small, and how it draws its windows."""

    def sampling_weights(self, rows: IntArray) -> torch.Tensor:
        """Return how often each of the training windows ``rows`` is drawn, (len(rows),)."""

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> torch.Tensor:
        """Return the loss of a batch of windows, with its graph."""

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the loss that early stopping looks at."""

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """Return the generators that it draws from itself."""


@dataclass
class EarlyStopping(Generic[State]):
    """The epochs of one fit: their losses, the best one's weights, and whether training is over.

    ``history`` holds (epoch, training loss, validation loss), ``best`` (validation loss, epoch, weights); without
    validation windows the last epoch is the best. ``words`` are the last epoch's losses, for who watches.
    """

    request: FitRequest
    history: list[tuple[int, float, float]] = field(default_factory=list)
    best: tuple[float, int, State] | None = None
    words: str = ""

    def is_over(self, loss: float, score: float, state: State) -> bool:
        """Note an epoch's training and validation loss, keep its weights where they are the best; say whether to stop.

        Raises TrainingError where the validation loss is not finite.
        """
        epoch, has_validation = len(self.history) + 1, len(self.request.validation) > 0
        settings = self.request.settings.training
        if has_validation and not math.isfinite(score):
            raise TrainingError(f"the validation loss is not finite after epoch {epoch}; lower training.learning_rate")
        self.history.append((epoch, loss, score))
        if self.request.on_epoch is not None:
            self.request.on_epoch(*self.history[-1])
        self.words = f"loss {loss:.3f}" + (f", validation {score:.3f}" if has_validation else "")
        if self.best is None or not has_validation or score < self.best[0]:
            self.best = (score, epoch, state)
            return epoch == settings.n_epochs
        return epoch == settings.n_epochs or epoch - self.best[1] >= settings.patience

    def take(self, history: Sequence[tuple[int, float, float]], score: float, epoch: int, state: State) -> None:
        """Go on behind the epochs of an earlier process: their losses, and the best one with its weights."""
        self.history = [(int(number), loss, validation) for number, loss, validation in history]
        self.best = (score, epoch, state)
        if self.request.on_epoch is not None:
            for row in self.history:
                self.request.on_epoch(*row)

    @property
    def kept(self) -> tuple[int, State]:
        """Return the best epoch and its weights."""
        assert self.best is not None  # there is at least one epoch
        return self.best[1], self.best[2]


def fit_network(
    request: FitRequest,
    make: Callable[[TokenVocabulary], Network],
    objective: Objective,
    start_from: Mapping[str, torch.Tensor] | None = None,
) -> FittedNetwork[Network]:
    """Return a network fitted on the training windows, kept at the epoch that is best on the validation windows.

    ``make`` gives a new network for a vocabulary, which maps ``(TokenInputs, generator)`` to what the objective reads
    and takes its draws from the generator. It begins with the weights of ``start_from`` where name and shape agree.

    Where the memory of a card is too small for a batch, the fit begins anew with half as many windows in one, with a
    notice that says so.

    Raises TrainingError where the loss is not finite. Raises CheckpointError where ``start_from`` has nothing in common
    with the network. Raises SettingsError where not even one window has room on the card.
    """
    states = [generator.get_state() for generator in objective.generators]
    while True:
        try:
            return _fitted(request, make, objective, start_from)
        except torch.cuda.OutOfMemoryError as fault:
            fewer = fewer_windows(request.settings.training.batch_size, "training", fault)
            training = replace(request.settings.training, batch_size=fewer)
            request = replace(request, settings=replace(request.settings, training=training))
        for generator, state in zip(objective.generators, states, strict=True):
            generator.set_state(state)


def fewer_windows(batch_size: int, section: str, fault: torch.cuda.OutOfMemoryError) -> int:
    """Return half of a batch that the card has no memory for, and say so; ``section`` has the setting of its size.

    Raises SettingsError of a batch of a single window.
    """
    torch.cuda.empty_cache()
    if batch_size == 1:
        raise SettingsError(
            "the card has not the memory for a single window; take a smaller network (model.width, model.n_latents), "
            "shorter windows, or --device cpu"
        ) from fault
    fewer = batch_size // 2
    notice(
        f"the card has not the memory for batches of {batch_size} windows: the fit begins anew with {fewer} "
        f"({section}.batch_size={fewer} does so at once)"
    )
    return fewer


def _fitted(
    request: FitRequest,
    make: Callable[[TokenVocabulary], Network],
    objective: Objective,
    start_from: Mapping[str, torch.Tensor] | None,
) -> FittedNetwork[Network]:
    inputs, settings, engine = request.inputs, request.settings.training, request.engine
    population = inputs.fit(request.fitting_subjects)
    source = TokenSource(inputs, population, request.settings.tokens, engine.device)
    epochs: EarlyStopping[dict[str, torch.Tensor]] = EarlyStopping(request)
    with ExitStack() as stack:
        generator = stack.enter_context(seeded(request.seed))
        network = new_network(request, make, start_from).to(engine.device)
        noise = torch.Generator(engine.device).manual_seed(request.seed)
        weights = objective.sampling_weights(request.training)
        optimisation = Optimisation(network, engine, settings, request.n_steps * settings.n_epochs)
        average = RunningMean(network, settings.average_decay)
        kept = stack.enter_context(kept_fit(network, *what_a_fit_depends_on(request, population, weights)))
        course = _Course(network, optimisation, average, epochs, (generator, noise, *objective.generators))
        is_over = course.take(kept) if kept.read() else False
        done = stack.enter_context(kept.epochs(settings.n_epochs, done=len(epochs.history)))
        while not is_over:
            network.train()
            total = 0.0
            for step in range(request.n_steps):
                drawn = torch.multinomial(weights, settings.batch_size, replacement=True, generator=generator)
                rows = request.training[drawn.numpy()]
                loss = optimisation.step(partial(objective.loss, network, source, rows, noise))
                if not math.isfinite(loss):
                    raise TrainingError(not_finite(inputs, rows, len(epochs.history) + 1, step))
                average.update()
                total += loss
            state = average.state()
            score = _validation_loss(network, state, source, request.validation, objective)
            is_over = epochs.is_over(total / request.n_steps, score, state)
            course.give(kept, is_over=is_over)
            done.advance(epochs.words)
    best_epoch, state = epochs.kept
    network.load_state_dict(state)
    network.eval()
    return FittedNetwork(network, population, tuple(epochs.history), best_epoch, optimisation.n_trained)


@dataclass(frozen=True, eq=False)
class _Course:
    """Everything that changes while a network is fitted, as one state to be kept and taken up again."""

    network: nn.Module
    optimisation: Optimisation
    average: RunningMean
    epochs: EarlyStopping[dict[str, torch.Tensor]]
    generators: tuple[torch.Generator, ...]

    def give(self, kept: KeptFit, *, is_over: bool) -> None:
        """Note the state after an epoch."""
        if not kept.is_on:
            return
        assert self.epochs.best is not None
        score, epoch, best = self.epochs.best
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in best.items()}
        tensors |= self.average.kept() | self.optimisation.kept() | random_states(self.generators)
        values = {"history": self.epochs.history, "best": [score, epoch], "is_over": is_over}
        kept.note(tensors, values, len(self.epochs.history))

    def take(self, kept: KeptFit) -> bool:
        """Go on where a state was noted, and return whether it is the last."""
        self.network.load_state_dict(kept.under("network"))
        self.average.take(kept)
        self.optimisation.take(kept)
        set_random_states(kept.under("random"), self.generators)
        score, epoch = kept.values["best"]
        self.epochs.take(kept.values["history"], score, epoch, kept.under("best"))
        return bool(kept.values["is_over"])


def what_a_fit_depends_on(
    request: FitRequest, population: TrainingStatistics, weights: torch.Tensor
) -> tuple[object, ...]:
    """Return what names a fit's state beside its first weights: the data by their windows, labels and statistics."""
    windows = request.inputs.windows
    labels = [targets.values for targets in windows.targets.values()]
    rows = (request.training, request.validation, windows.recording, windows.onset, weights.numpy(), *labels)
    data = (population.to_json(), request.inputs.settings, request.inputs.step_seconds)
    return (*rows, *data, request.settings, request.engine, request.seed)


def new_network(
    request: FitRequest,
    make: Callable[[TokenVocabulary], Network],
    start_from: Mapping[str, torch.Tensor] | None = None,
) -> Network:
    """Return a network with its starting weights, drawn from torch's global generator; see :func:`fit_network`."""
    network = make(vocabulary_of(request.inputs.windows.feature_names))
    if start_from is not None:
        take_weights(network, start_from)
    return network


def _validation_loss(
    network: nn.Module,
    state: dict[str, torch.Tensor],
    source: TokenSource,
    rows: IntArray,
    objective: Objective,
) -> float:
    """Return the loss of averaged weights on the validation windows; NaN where there are none."""
    if not len(rows):
        return math.nan
    current = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    score = objective.validation_loss(network, source, rows)
    network.load_state_dict(current)
    return score


def not_finite(inputs: WindowInputs, rows: IntArray, epoch: int, step: int) -> str:
    """Return the sentence for a training loss that is not finite, naming the recordings of the batch."""
    windows = inputs.windows
    names = sorted({title_of(windows.recordings[i]) for i in windows.recording[rows]})
    return (
        f"the training loss is not finite at epoch {epoch}, step {step + 1}, in a batch of {listed(names, 5)}; "
        "lower training.learning_rate or look at these recordings with inspect"
    )


class Optimisation:
    """The one step of training: loss, gradients, clipping, AdamW (which decays matrices only) on its schedule."""

    def __init__(
        self,
        network: nn.Module,
        engine: Engine,
        settings: TrainingSettings | PretrainingSettings,
        n_steps: int,
        group: Group | None = None,
    ) -> None:
        self._network, self._engine, self._gradient_clip = network, engine, settings.gradient_clip
        self._group = group
        decayed = [p for p in network.parameters() if p.ndim >= 2]
        plain = [p for p in network.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        # Fused: a third of the time of the default.
        self._optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimiser, lambda step: rate_at(step, n_steps, settings.warmup_fraction)
        )

    def step(self, loss_of_batch: Callable[[], torch.Tensor]) -> float:
        """Take one step on the loss that ``loss_of_batch`` computes, and return the loss, finite or not."""
        with self._engine.autocast():
            loss = loss_of_batch()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._group is not None:
            self._group.average(self._network.parameters())
        nn.utils.clip_grad_norm_(self._network.parameters(), self._gradient_clip)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())

    def kept(self) -> dict[str, torch.Tensor]:
        """Return its state as arrays by name."""
        state = self._optimiser.state_dict()["state"]
        arrays = {f"optimiser.{k}.{name}": value for k, row in state.items() for name, value in row.items()}
        return {**arrays, "schedule": torch.tensor(self._schedule.last_epoch)}

    def take(self, kept: KeptFit) -> None:
        """Go on from the state that :meth:`kept` gave."""
        rows: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in kept.under("optimiser").items():
            number, _, key = name.partition(".")
            rows.setdefault(int(number), {})[key] = value
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": rows})
        n_steps = int(kept.tensors["schedule"])
        rates = [self._schedule.lr_lambdas[k](n_steps) * base for k, base in enumerate(self._schedule.base_lrs)]
        self._schedule.last_epoch = n_steps
        for group, rate in zip(self._optimiser.param_groups, rates, strict=True):
            group["lr"] = rate

    @property
    def n_trained(self) -> int:
        """Return how many numbers of the network ever had a gradient."""
        state = self._optimiser.state
        return sum(parameter.numel() for parameter in self._network.parameters() if parameter in state)


def rate_at(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Return the learning rate of a step, counted from 0, as a part of the highest: a rise, then a cosine to 0."""
    warmup = max(1, round(warmup_fraction * n_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))


class RunningMean:
    """Exponential running mean of the weights, corrected for its short start; with decay 0 the last weights.

    The network's state must hold floating-point numbers only.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._seen = 0
        weights = network.state_dict()  # looked up once: they are changed in place, and 300 names take 1 ms a step
        self._mean = {name: torch.zeros_like(value) for name, value in weights.items()}
        self._pair = [*self._mean.values()], [*weights.values()]

    def update(self) -> None:
        """Take the network's present weights into the mean."""
        self._seen += 1
        with torch.no_grad():
            torch._foreach_lerp_(*self._pair, 1.0 - self._decay)

    def kept(self) -> dict[str, torch.Tensor]:
        """Return its state as arrays by name."""
        return {**{f"mean.{name}": value for name, value in self._mean.items()}, "seen": torch.tensor(self._seen)}

    def take(self, kept: KeptFit) -> None:
        """Go on from the state that :meth:`kept` gave."""
        self._seen = int(kept.tensors["seen"])
        for name, value in kept.under("mean").items():
            self._mean[name].copy_(value)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the mean as a state that the network can load."""
        correction = 1.0 - self._decay**self._seen
        return {name: value / correction for name, value in self._mean.items()}
