"""Fit the networks of several folds at once: stacked weights, one program, each fold on its own subjects alone.

1. Every fold draws its own batch, with its own generator, from its own training windows.
2. Folds whose batches have the same sensors are gathered in one call, each scaled by its own statistics.
3. What the network draws (dropout, hidden sensors) comes from each fold's own generator, in the network's order.
4. The network runs for all of them at once (see ``stacked_network``); nothing it computes mixes folds.
5. One optimiser step for all (see ``stacked_weights``). A fold whose epoch ends is validated; one that has stopped
   early leaves the stack with its best weights.

Results are those of :func:`biopercept.learning.training.fit_network` within rounding (tested), but for dropout draws
where a single fit would read its batches in parts (mixed studies, see ``layouts``; here they stay whole). It pays where
a single fit leaves the machine idle: on a GPU, and for small networks on processors (measured: ``docs/speed.md``).

References
----------
Ensembles by ``vmap`` over stacked parameters: H. He and R. Zou, "functorch: JAX-like composable function transforms
for PyTorch", 2021.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biopercept.errors import TrainingError
from biopercept.learning.class_objective import ClassObjective
from biopercept.learning.engine import Engine, seeded
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.normalisation import Population
from biopercept.learning.optimisation import rate_at
from biopercept.learning.stacked_inputs import Present, StackedSource
from biopercept.learning.stacked_network import StackedNetwork, together
from biopercept.learning.stacked_weights import StackedWeights
from biopercept.learning.starting import take_weights
from biopercept.learning.token_source import vocabulary_of
from biopercept.learning.training import EpochReport, FittedNetwork, Network, not_finite
from biopercept.learning.training_settings import TrainingSettings
from biopercept.learning.windows import IntArray
from biopercept.model.tokens import TokenSettings, TokenVocabulary

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class FoldFit:
    """One of the fits that are made together; the fields are those of :func:`fit_network`."""

    training: IntArray
    validation: IntArray
    seed: int
    start_from: Mapping[str, Tensor] | None = None
    on_epoch: EpochReport | None = None


@dataclass(eq=False)
class _Course:
    """How far one fold has come."""

    number: int  # in the order asked for
    fold: FoldFit
    generator: torch.Generator
    noise: torch.Generator
    weights: Tensor
    n_steps: int
    losses: list[Tensor] = field(default_factory=list)
    rows: list[IntArray] = field(default_factory=list)
    history: list[tuple[int, float, float]] = field(default_factory=list)
    best: tuple[float, int, Tensor] | None = None

    def draw(self, batch_size: int) -> IntArray:
        drawn = torch.multinomial(self.weights, batch_size, replacement=True, generator=self.generator)
        self.rows.append(self.fold.training[drawn.numpy()])
        return self.rows[-1]


def fit_stacked(
    inputs: WindowInputs,
    folds: Sequence[FoldFit],
    make: Callable[[TokenVocabulary, int], Network],
    *,
    tokens: TokenSettings,
    settings: TrainingSettings,
    engine: Engine,
) -> list[FittedNetwork[Network]]:
    """Return, in order, what :func:`fit_network` would return for each fold, fitted together.

    Parameters
    ----------
    inputs, make, tokens, settings, engine
        As for :func:`fit_network`. The network must run under ``torch.func.vmap`` and keep no state but parameters.
    folds : sequence of FoldFit

    Raises
    ------
    TrainingError
        Where the loss of a fold is not finite; told when the fold's epoch ends.
    CheckpointError
        Where ``start_from`` has nothing in common with the network.
    """
    return _StackedFit(inputs, folds, make, tokens, settings, engine).run()


class _StackedFit(Generic[Network]):
    def __init__(
        self,
        inputs: WindowInputs,
        folds: Sequence[FoldFit],
        make: Callable[[TokenVocabulary, int], Network],
        tokens: TokenSettings,
        settings: TrainingSettings,
        engine: Engine,
    ) -> None:
        self._inputs, self._settings = inputs, settings
        self._objective = ClassObjective(inputs.windows, settings.label_smoothing)
        self._populations = [_population(inputs, fold) for fold in folds]
        self._source = StackedSource(inputs, self._populations, tokens, engine.device)
        networks, self._courses = [], []
        for number, fold in enumerate(folds):
            with seeded(fold.seed) as generator:
                network = make(vocabulary_of(inputs.windows.feature_names), inputs.windows.n_classes)
            if fold.start_from is not None:
                take_weights(network, fold.start_from)
            networks.append(network.to(engine.device))
            noise = torch.Generator(engine.device).manual_seed(fold.seed)
            weights = self._objective.sampling_weights(fold.training)
            n_steps = max(1, math.ceil(len(fold.training) / settings.batch_size))
            self._courses.append(_Course(number, fold, generator, noise, weights, n_steps))
        self._network = StackedNetwork(networks[0], self._source, self._objective, engine)
        self._stack = StackedWeights(networks, weight_decay=settings.weight_decay, average_decay=settings.average_decay)
        self._done: dict[int, FittedNetwork[Network]] = {}

    def run(self) -> list[FittedNetwork[Network]]:
        step = 0
        with together():
            while self._courses:
                self._step(step)
                step += 1
                ended = [place for place, course in enumerate(self._courses) if step % course.n_steps == 0]
                if ended:
                    self._end_epochs(ended)
        return [self._done[number] for number in range(len(self._done))]

    def _step(self, step: int) -> None:
        s = self._settings
        rows = [course.draw(s.batch_size) for course in self._courses]  # 1.
        gradients, has_gradient = self._stack.no_gradients()
        for present, places in self._alike(range(len(rows)), rows).items():
            courses = [self._courses[place] for place in places]
            weights = self._stack.leaves(places)
            losses = self._network.losses(
                weights, present, [c.number for c in courses], [c.rows[-1] for c in courses], [c.noise for c in courses]
            )
            found = torch.autograd.grad(losses.sum(), list(weights.values()), allow_unused=True)
            for course, loss in zip(courses, losses.detach(), strict=True):
                course.losses.append(loss)
            gradients[places], has_gradient[places] = self._stack.rows_of(found)
        rates = [
            s.learning_rate * rate_at(step, course.n_steps * s.n_epochs, s.warmup_fraction) for course in self._courses
        ]
        self._stack.step(gradients, has_gradient, rates, s.gradient_clip)  # 5.

    def _alike(self, places: Sequence[int], rows: Sequence[IntArray]) -> dict[Present, list[int]]:
        """Return which of the folds at ``places`` (numbers into it) have the same present in their rows."""
        alike: dict[Present, list[int]] = {}
        for number, (place, own) in enumerate(zip(places, rows, strict=True)):
            if len(own):
                alike.setdefault(self._source.present(self._courses[place].number, own), []).append(number)
        return alike

    def _end_epochs(self, ended: Sequence[int]) -> None:
        """Close the epoch of the folds at these places; those that are through leave the stack."""
        means = self._stack.means(ended)
        scores = self._validated(ended, means)
        over = []
        for place, mean, score in zip(ended, means, scores, strict=True):
            course = self._courses[place]
            epoch = len(course.history) + 1
            losses = torch.stack(course.losses).tolist()
            for step, loss in enumerate(losses):
                if not math.isfinite(loss):
                    raise TrainingError(not_finite(self._inputs, course.rows[step], epoch, step))
            has_validation = len(course.fold.validation) > 0
            if has_validation and not math.isfinite(score):
                raise TrainingError(
                    f"the validation loss is not finite after epoch {epoch}; lower training.learning_rate"
                )
            course.losses, course.rows = [], []
            course.history.append((epoch, sum(losses) / course.n_steps, score))
            if course.fold.on_epoch is not None:
                course.fold.on_epoch(*course.history[-1])
            is_out = False
            if course.best is None or not has_validation or score < course.best[0]:
                course.best = (score, epoch, mean.clone())
            else:
                is_out = epoch - course.best[1] >= self._settings.patience
            if is_out or epoch == self._settings.n_epochs:
                self._done[course.number] = self._finished(course, self._stack.n_trained(place))
                over.append(place)
        if over:
            kept = [place for place in range(len(self._courses)) if place not in over]
            self._courses = [self._courses[place] for place in kept]
            self._stack.keep(kept)

    def _finished(self, course: _Course, n_trained: int) -> FittedNetwork[Network]:
        assert course.best is not None
        network = copy.deepcopy(self._network.template)
        with torch.no_grad():
            own = self._stack.views(course.best[2][None])
            for name, parameter in network.named_parameters():
                parameter.copy_(own[name][0])
        network.eval()
        population = self._populations[course.number]
        return FittedNetwork(network, population, tuple(course.history), course.best[1], n_trained)

    def _validated(self, places: Sequence[int], means: Tensor) -> list[float]:
        """Return the validation losses of folds under the weights ``means``; NaN for those without such windows."""
        rows = [self._courses[place].fold.validation for place in places]
        n_classes = self._inputs.windows.n_classes
        probabilities: list[NDArray[np.float64]] = [np.zeros((len(own), n_classes)) for own in rows]
        for start in range(0, max(len(own) for own in rows), _CHUNK):
            parts = [own[start : start + _CHUNK] for own in rows]
            for present, alike in self._alike(places, parts).items():
                numbers = [self._courses[places[i]].number for i in alike]
                own = self._stack.views(means[alike])
                told = self._network.probabilities(own, present, numbers, [parts[i] for i in alike])
                for i, values in zip(alike, told, strict=True):
                    probabilities[i][start : start + len(parts[i])] = values[: len(parts[i])]
        return [
            self._objective.log_loss(told, own) if len(own) else math.nan
            for told, own in zip(probabilities, rows, strict=True)
        ]


def _population(inputs: WindowInputs, fold: FoldFit) -> Population:
    return inputs.fit(
        sorted({str(s) for s in inputs.windows.subject[np.concatenate([fold.training, fold.validation])]})
    )
