"""Fit the networks of several folds at once: stacked weights, one program, each fold on its own subjects alone.

1. Every fold draws its own batch, with its own generator, from its own training windows.
2. Folds whose batches have the same sensors are gathered in one call, each scaled by its own statistics.
3. What the network draws (dropout, hidden sensors) comes from each fold's own generator, in the network's order.
4. The network runs for all of them at once (see ``stacked_network``); nothing it computes mixes folds, whose numbers
   are scaled by their own training subjects.
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

import torch
from torch import Tensor

from biopercept.errors import TrainingError
from biopercept.learning.engine import seeded
from biopercept.learning.optimisation import rate_at
from biopercept.learning.stacked_inputs import Present, StackedSource
from biopercept.learning.stacked_network import StackedNetwork, together
from biopercept.learning.stacked_weights import StackedWeights
from biopercept.learning.task_objective import Objective
from biopercept.learning.training import EarlyStopping, FitRequest, FittedNetwork, Network, new_network, not_finite
from biopercept.learning.windows import IntArray
from biopercept.model.tokens import TokenVocabulary

_CHUNK = 256


@dataclass(eq=False)
class _Course:
    """How far one fold has come."""

    number: int  # in the order of the requests
    request: FitRequest
    objective: Objective
    generator: torch.Generator
    noise: torch.Generator
    weights: Tensor
    epochs: EarlyStopping[Tensor]
    losses: list[Tensor] = field(default_factory=list)
    rows: list[IntArray] = field(default_factory=list)

    def draw(self, batch_size: int) -> IntArray:
        drawn = torch.multinomial(self.weights, batch_size, replacement=True, generator=self.generator)
        self.rows.append(self.request.training[drawn.numpy()])
        return self.rows[-1]


def fit_stacked(
    requests: Sequence[FitRequest],
    make: Callable[[TokenVocabulary], Network],
    objectives: Sequence[Objective],
    start_from: Sequence[Mapping[str, Tensor] | None],
) -> list[FittedNetwork[Network]]:
    """Return, in order, what :func:`fit_network` would return for each request, fitted together.

    Parameters
    ----------
    requests : sequence of FitRequest
        Of the same inputs, settings and engine.
    make, objectives, start_from
        As for :func:`fit_network`, the last two for each request. The network must run under ``torch.func.vmap`` and
        keep no state but parameters; objectives may differ in the scales of numbers alone, and have no single times.

    Raises
    ------
    TrainingError
        Where the loss of a fold is not finite; raised when the fold's epoch ends.
    CheckpointError
        Where ``start_from`` has nothing in common with the network.
    """
    return _StackedFit(requests, make, objectives, start_from).run()


class _StackedFit(Generic[Network]):
    def __init__(
        self,
        requests: Sequence[FitRequest],
        make: Callable[[TokenVocabulary], Network],
        objectives: Sequence[Objective],
        start_from: Sequence[Mapping[str, Tensor] | None],
    ) -> None:
        first = requests[0]
        device = first.engine.device
        self._inputs, self._settings = first.inputs, first.settings.training
        self._populations = [request.inputs.fit(request.fitting_subjects) for request in requests]
        self._source = StackedSource(first.inputs, self._populations, first.settings.tokens, device)
        networks, self._courses = [], []
        for number, (request, objective, start) in enumerate(zip(requests, objectives, start_from, strict=True)):
            with seeded(request.seed) as generator:
                networks.append(new_network(request, make, start).to(device))
            noise = torch.Generator(device).manual_seed(request.seed)
            weights = objective.sampling_weights(request.training)
            course = _Course(number, request, objective, generator, noise, weights, EarlyStopping(request))
            self._courses.append(course)
        self._network = StackedNetwork(networks[0], self._source, objectives, first.engine)
        self._stack = StackedWeights(
            networks, weight_decay=self._settings.weight_decay, average_decay=self._settings.average_decay
        )
        self._done: dict[int, FittedNetwork[Network]] = {}

    def run(self) -> list[FittedNetwork[Network]]:
        step = 0
        with together():
            while self._courses:
                self._step(step)
                step += 1
                ended = [place for place, course in enumerate(self._courses) if step % course.request.n_steps == 0]
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
            s.learning_rate * rate_at(step, course.request.n_steps * s.n_epochs, s.warmup_fraction)
            for course in self._courses
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
            losses = torch.stack(course.losses).tolist()
            for step, loss in enumerate(losses):
                if not math.isfinite(loss):
                    epoch = len(course.epochs.history) + 1
                    raise TrainingError(not_finite(self._inputs, course.rows[step], epoch, step))
            course.losses, course.rows = [], []
            if course.epochs.is_over(sum(losses) / course.request.n_steps, score, mean.clone()):
                self._done[course.number] = self._finished(course, self._stack.n_trained(place))
                over.append(place)
        if over:
            kept = [place for place in range(len(self._courses)) if place not in over]
            self._courses = [self._courses[place] for place in kept]
            self._stack.keep(kept)

    def _finished(self, course: _Course, n_trained: int) -> FittedNetwork[Network]:
        best_epoch, weights = course.epochs.kept
        network = copy.deepcopy(self._network.template)
        with torch.no_grad():
            own = self._stack.views(weights[None])
            for name, parameter in network.named_parameters():
                parameter.copy_(own[name][0])
        network.eval()
        population = self._populations[course.number]
        return FittedNetwork(network, population, tuple(course.epochs.history), best_epoch, n_trained)

    def _validated(self, places: Sequence[int], means: Tensor) -> list[float]:
        """Return the validation losses of folds under the weights ``means``; NaN for those without such windows."""
        courses = [self._courses[place] for place in places]
        rows = [course.request.validation for course in courses]
        outputs = [
            {task.name: torch.zeros((len(own), task.n_outputs)) for task in course.objective.tasks}
            for own, course in zip(rows, courses, strict=True)
        ]
        for start in range(0, max(len(own) for own in rows), _CHUNK):
            parts = [own[start : start + _CHUNK] for own in rows]
            for present, alike in self._alike(places, parts).items():
                numbers = [courses[i].number for i in alike]
                weights = self._stack.views(means[alike])
                given = self._network.outputs(weights, present, numbers, [parts[i] for i in alike])
                for name, values in given.items():
                    for i, own_values in zip(alike, values, strict=True):
                        outputs[i][name][start : start + len(parts[i])] = own_values[: len(parts[i])]
        return [
            course.objective.loss_of_outputs(outputs[i], course.request.validation) if len(rows[i]) else math.nan
            for i, course in enumerate(courses)
        ]
