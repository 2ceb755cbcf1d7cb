"""Fit the networks of several folds at once: stacked weights, one program, each fold on its own subjects alone.

1. Every fold draws its own batch, with its own generator, from its own training windows.
2. Folds whose batches have the same sensors are gathered in one call, each scaled by its own statistics.
3. What the network draws (dropout, hidden sensors) comes from each fold's own generator, in the network's order.
4. The network runs for all of them at once; nothing it computes mixes folds.
5. One optimiser step for all. A fold whose epoch ends is validated; one that has stopped early leaves the stack with
   its best weights.

Every network keeps what it would have alone: its own gradient norm, learning rate and, for each parameter, the number
of steps in which it had a gradient (a parameter without one, of a sensor that a batch lacks, is left as it is).

Results are those of :func:`biopercept.training.loop.fit_network` within rounding (tested), but for dropout draws
where a single fit would read its batches in parts (mixed studies, see ``data/batches.py``; here they stay whole). It
pays where a single fit leaves the machine idle: on a GPU, and for small networks on processors (measured:
``docs/experiments/speed.md``).

References
----------
Ensembles by ``vmap`` over stacked parameters: H. He and R. Zou, "functorch: JAX-like composable function transforms
for PyTorch", 2021. I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
doi:10.48550/arXiv.1711.05101; the constants are those of ``torch.optim.AdamW``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from biopercept.data.batches import TokenSource
from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import TrainingStatistics
from biopercept.data.signals import ABSENT, PreparedArrays
from biopercept.data.windows import IntArray
from biopercept.errors import TrainingError
from biopercept.model.biosignals import Outputs
from biopercept.model.cpu_kernels import whole
from biopercept.model.dropout import Draw, ListedDraws
from biopercept.model.settings import TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.training.engine import Engine, seeded
from biopercept.training.loop import (
    EarlyStopping,
    FitRequest,
    FittedNetwork,
    Network,
    new_network,
    not_finite,
    rate_at,
    what_a_fit_depends_on,
)
from biopercept.training.objective import Objective
from biopercept.training.resuming import KeptFit, kept_fit, random_states, set_random_states

_CHUNK = 256
Present = tuple[tuple[tuple[int, tuple[int, ...]], ...], tuple[int, ...]]
"""Numbers of the signal banks, each with those of its channels, and of the feature groups, that a batch has."""
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


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
    n_trained: int | None = None  # once it is through

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

    The requests are of the same inputs, settings and engine; objectives may differ in the scales of numbers alone, and
    have no single times. The network must run under ``torch.func.vmap`` and keep no state but parameters.

    Raises TrainingError where the loss of a fold is not finite; raised when the fold's epoch ends. Raises
    CheckpointError where ``start_from`` has nothing in common with the network.
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
        self._every = [*self._courses]
        depends = [
            part
            for course, population in zip(self._courses, self._populations, strict=True)
            for part in what_a_fit_depends_on(course.request, population, course.weights)
        ]
        self._kept = kept_fit(nn.ModuleList(networks), "stacked", *depends)

    def run(self) -> list[FittedNetwork[Network]]:
        n_epochs = self._settings.n_epochs
        with together(), self._kept as kept:
            step = self._take(kept) if kept.read() else 0
            self._run(kept, step, n_epochs)
        return [self._finished(course) for course in self._every]

    def _run(self, kept: KeptFit, step: int, n_epochs: int) -> None:
        n_done = min((len(course.epochs.history) for course in self._courses), default=n_epochs)
        with kept.epochs(n_epochs, done=n_done) as done:
            while self._courses:
                self._step(step)
                step += 1
                ended = [i for i, course in enumerate(self._courses) if step % course.request.n_steps == 0]
                if ended:
                    first = self._courses[ended[0]].epochs
                    self._end_epochs(ended)
                    slowest = min((len(course.epochs.history) for course in self._courses), default=n_epochs)
                    self._give(kept, step, slowest)
                    done.advance(first.words, by=slowest - done.done)

    def _give(self, kept: KeptFit, step: int, n_epochs: int) -> None:
        """Note the state after steps at which an epoch of some fold ended; others may be in the midst of theirs."""
        if not kept.is_on:
            return
        tensors, values = self._stack.kept(), list[dict[str, Any]]()
        for course in self._every:
            name, best = f"course{course.number}", course.epochs.best
            if best is not None:
                tensors[f"{name}.best"] = best[2]
            if course.losses:
                tensors[f"{name}.losses"] = torch.stack(course.losses)
                tensors[f"{name}.rows"] = torch.from_numpy(np.stack(course.rows))
            tensors |= {
                f"{name}.{key}": value for key, value in random_states((course.generator, course.noise)).items()
            }
            of_best = None if best is None else [best[0], best[1]]
            values.append({"history": course.epochs.history, "best": of_best, "n_trained": course.n_trained})
        kept.note(tensors, {"step": step, "courses": values}, n_epochs)

    def _take(self, kept: KeptFit) -> int:
        """Go on where a state was noted, and return how many steps were taken."""
        for course, values in zip(self._every, kept.values["courses"], strict=True):
            arrays = kept.under(f"course{course.number}")
            set_random_states(kept.under(f"course{course.number}.random"), (course.generator, course.noise))
            if "losses" in arrays:
                course.losses = [*arrays["losses"].to(self._stack.values.device)]
                course.rows = [*arrays["rows"].numpy()]
            if values["best"] is not None:
                score, epoch = values["best"]
                course.epochs.take(values["history"], score, epoch, arrays["best"].to(self._stack.values.device))
            course.n_trained = values["n_trained"]
        self._courses = [course for course in self._every if course.n_trained is None]
        self._stack.take(kept.under("stack"))
        return int(kept.values["step"])

    def _step(self, step: int) -> None:
        s = self._settings
        rows = [course.draw(s.batch_size) for course in self._courses]  # 1.
        gradients, has_gradient = self._stack.no_gradients()
        for present, positions in self._alike(range(len(rows)), rows).items():
            courses = [self._courses[position] for position in positions]
            weights = self._stack.leaves(positions)
            losses = self._network.losses(
                weights, present, [c.number for c in courses], [c.rows[-1] for c in courses], [c.noise for c in courses]
            )
            gradients_given = torch.autograd.grad(losses.sum(), list(weights.values()), allow_unused=True)
            for course, loss in zip(courses, losses.detach(), strict=True):
                course.losses.append(loss)
            gradients[positions], has_gradient[positions] = self._stack.rows_of(gradients_given)
        rates = [
            s.learning_rate * rate_at(step, course.request.n_steps * s.n_epochs, s.warmup_fraction)
            for course in self._courses
        ]
        self._stack.step(gradients, has_gradient, rates, s.gradient_clip)  # 5.

    def _alike(self, positions: Sequence[int], rows: Sequence[IntArray]) -> dict[Present, list[int]]:
        """Return which of the folds at ``positions`` (numbers into it) have the same present in their rows."""
        alike: dict[Present, list[int]] = {}
        for number, (position, of_course) in enumerate(zip(positions, rows, strict=True)):
            if len(of_course):
                alike.setdefault(self._source.present(self._courses[position].number, of_course), []).append(number)
        return alike

    def _end_epochs(self, ended: Sequence[int]) -> None:
        """Close the epoch of the folds at these positions; those that are through leave the stack."""
        means = self._stack.means(ended)
        scores = self._validated(ended, means)
        over = []
        for position, mean, score in zip(ended, means, scores, strict=True):
            course = self._courses[position]
            losses = torch.stack(course.losses).tolist()
            for step, loss in enumerate(losses):
                if not math.isfinite(loss):
                    epoch = len(course.epochs.history) + 1
                    raise TrainingError(not_finite(self._inputs, course.rows[step], epoch, step))
            course.losses, course.rows = [], []
            if course.epochs.is_over(sum(losses) / course.request.n_steps, score, mean.clone()):
                course.n_trained = self._stack.n_trained(position)
                over.append(position)
        if over:
            kept = [position for position in range(len(self._courses)) if position not in over]
            self._courses = [self._courses[position] for position in kept]
            self._stack.keep(kept)

    def _finished(self, course: _Course) -> FittedNetwork[Network]:
        assert course.n_trained is not None
        best_epoch, weights = course.epochs.kept
        network = copy.deepcopy(self._network.template)
        with torch.no_grad():
            weights_of = self._stack.views(weights[None])
            for name, parameter in network.named_parameters():
                parameter.copy_(weights_of[name][0])
        network.eval()
        population = self._populations[course.number]
        return FittedNetwork(network, population, tuple(course.epochs.history), best_epoch, course.n_trained)

    def _validated(self, positions: Sequence[int], means: Tensor) -> list[float]:
        """Return the validation losses of folds under the weights ``means``; NaN for those without such windows."""
        courses = [self._courses[position] for position in positions]
        rows = [course.request.validation for course in courses]
        outputs = [
            {task.name: torch.zeros((len(of_course), task.n_outputs)) for task in course.objective.tasks}
            for of_course, course in zip(rows, courses, strict=True)
        ]
        for start in range(0, max(len(of_course) for of_course in rows), _CHUNK):
            parts = [of_course[start : start + _CHUNK] for of_course in rows]
            for present, alike in self._alike(positions, parts).items():
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


class StackedNetwork(Generic[Network]):
    """A network as a function of its weights, for K folds at once; the parameters of ``template`` are never read."""

    def __init__(
        self, template: Network, source: StackedSource, objectives: Sequence[Objective], engine: Engine
    ) -> None:
        self.template = template
        self._source, self._objective, self._engine = source, objectives[0], engine
        every = np.arange(len(self._objective.windows), dtype=np.int64)
        known = [objective.truths(every, engine.device) for objective in objectives]
        self._truths = {name: torch.stack([truths[name] for truths, _ in known]) for name in known[0][0]}  # (F, n)
        self._masks = known[0][1]  # (n,)
        self._draws: dict[Present, list[Draw]] = {}

    def losses(
        self,
        weights: dict[str, Tensor],
        present: Present,
        folds: Sequence[int],
        rows: Sequence[IntArray],
        noises: Sequence[torch.Generator],
    ) -> Tensor:
        """Return the training losses (K,) of K folds' batches, each of rows (B,), with their graph.

        ``weights`` are (K, ...) by name; ``present`` is what all these batches have (see :class:`StackedSource`). From
        its noise each fold's network draws in the order in which it would alone.
        """
        self.template.train()
        device = self._engine.device
        tensors, join = split_tensors(self._source.batch(folds, rows, present), len(folds))
        at, number = torch.from_numpy(np.stack(rows)).to(device), torch.tensor(folds, device=device)[:, None]
        truths = {name: values[number, at] for name, values in self._truths.items()}
        masks = {name: values[at] for name, values in self._masks.items()}
        if present not in self._draws:
            self._draws[present] = self._draws_for(join([tensor[0] for tensor in tensors]))
        draws = [torch.stack([draw.take(device, noise) for noise in noises]) for draw in self._draws[present]]

        def loss_of(
            weights_of: dict[str, Tensor],
            parts: list[Tensor],
            drawn: list[Tensor],
            truth: dict[str, Tensor],
            mask: dict[str, Tensor],
        ) -> Tensor:
            given: Outputs = functional_call(self.template, weights_of, (join(parts), ListedDraws(drawn)))
            return self._objective.loss_of(given.learnt(), truth, mask, self._objective.label_smoothing)

        with self._engine.autocast():
            losses: Tensor = vmap(loss_of)(weights, tensors, draws, truths, masks)
        return losses

    def outputs(
        self, weights: dict[str, Tensor], present: Present, folds: Sequence[int], rows: Sequence[IntArray]
    ) -> dict[str, Tensor]:
        """Return outputs (K, longest, n_outputs) by task, on the CPU; fewer rows are filled up with their last."""
        self.template.eval()
        longest = max(len(chunk) for chunk in rows)
        filled = [np.concatenate([chunk, np.repeat(chunk[-1:], longest - len(chunk))]) for chunk in rows]
        tensors, join = split_tensors(self._source.batch(folds, filled, present), len(folds))

        def outputs_of(weights_of: dict[str, Tensor], parts: list[Tensor]) -> dict[str, Tensor]:
            given: Outputs = functional_call(self.template, weights_of, (join(parts),))
            return dict(given.tasks)

        with torch.no_grad():
            return {name: values.float().cpu() for name, values in vmap(outputs_of)(weights, tensors).items()}

    def _draws_for(self, inputs: TokenInputs) -> list[Draw]:
        """Return what the network draws for such a batch; it depends on shapes alone."""
        noted = ListedDraws()
        with torch.no_grad(), self._engine.autocast():
            self.template(inputs, noted)
        return noted.noted


@contextmanager
def together() -> Iterator[None]:
    """Let networks run under ``vmap``: reading in segments cannot, nor can fused attention on processors and CUDA."""
    with whole(), sdpa_kernel(SDPBackend.MATH):
        yield


class StackedSource:
    """What :class:`TokenSource` is for one fold, for several: a table of folds x windows, each scaled its own way.

    The samples lie on the device once. Which sensors a batch has is known beforehand, on the host, so that making a
    batch never waits for the device.
    """

    def __init__(
        self,
        inputs: WindowInputs,
        populations: Sequence[TrainingStatistics],
        tokens: TokenSettings,
        device: torch.device,
    ) -> None:
        self._n_windows = len(inputs.windows)
        self._device = device
        scales: list[dict[tuple[str, float], tuple[Tensor, Tensor]]] = []
        banks: dict[tuple[str, float], PreparedArrays] = {}
        groups: list[list[tuple[str, Tensor, Tensor]]] = []
        for population in populations:
            source = TokenSource(inputs, population, tokens, device)
            by_sensor = {(b.bank.modality, b.bank.sampling_rate): b for b in source._banks}
            scales.append({key: (b.centre, b.spread) for key, b in by_sensor.items()})
            for key, bank in by_sensor.items():
                banks.setdefault(key, bank)
            groups.append(source._groups)
            self._length, self._clip = source._length, source._clip
        keys = [key for b in inputs.banks if (key := (b.modality, b.sampling_rate)) in banks]
        self._banks = [_for_folds(banks[key], [of_fold.get(key) for of_fold in scales]) for key in keys]
        self._groups = [
            (parts[0][0], torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts]))
            for parts in zip(*groups, strict=True)
        ]
        has_bank = np.array([[key in of_fold for key in keys] for of_fold in scales], dtype=bool)
        has_bank = has_bank.reshape(len(scales), 1, len(keys))
        # (F, windows, banks), (F, windows, groups): what is real does not depend on how it is scaled
        self._has_bank = has_bank & self._windows_with_banks()[None]
        self._has_channel = [(b.bank.offset != ABSENT)[inputs.windows.recording] for b in self._banks]
        self._is_fitted = has_bank[:, 0]
        real = [is_real.any(1).cpu().numpy().reshape(len(scales), -1) for _, _, is_real in self._groups]
        self._has_group = np.stack(real, -1) if real else np.zeros((len(scales), self._n_windows, 0), dtype=bool)

    def present(self, fold: int, rows: IntArray) -> Present:
        """Return of what a fold's batch of these windows holds something real; of nothing: all that the fold has."""
        banks = self._with_channels(np.flatnonzero(self._has_bank[fold, rows].any(0)), rows)
        groups = tuple(np.flatnonzero(self._has_group[fold, rows].any(0)).tolist())
        if banks or groups:
            return banks, groups
        return self._with_channels(np.flatnonzero(self._is_fitted[fold])), tuple(range(len(self._groups)))

    def _with_channels(self, banks: IntArray, rows: IntArray | None = None) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Return banks with the channels that any recording of the windows has; None: all channels."""
        has = [self._has_channel[i] if rows is None else self._has_channel[i][rows] for i in banks]
        return tuple(
            (int(i), tuple(np.flatnonzero(has_channel.any(0)).tolist()))
            for i, has_channel in zip(banks, has, strict=True)
        )

    def batch(self, folds: Sequence[int], rows: Sequence[IntArray], present: Present) -> TokenInputs:
        """Return the inputs of K folds' windows, one fold after the other: K x B samples, from rows (B,) of each fold.

        ``present`` is what all these folds have; see :meth:`present`.
        """
        positions = np.concatenate([f * self._n_windows + r for f, r in zip(folds, rows, strict=True)])
        at = torch.from_numpy(positions.astype(np.int64)).to(self._device)
        sensors = tuple(self._patches(i, channels, at) for i, channels in present[0])
        chosen = [self._groups[i] for i in present[1]]
        return TokenInputs(sensors, tuple(FeatureGroup(name, values[at], real[at]) for name, values, real in chosen))

    def _patches(self, number: int, channels: tuple[int, ...], at: Tensor) -> SensorPatches:
        bank = self._banks[number]
        only = None if len(channels) == bank.bank.n_channels else np.array(channels, dtype=np.int64)
        return bank.patches(at, self._length, self._clip, only)

    def _windows_with_banks(self) -> NDArray[np.bool_]:
        """Return which windows have a real patch of each bank, (n_windows, n_banks)."""
        has = np.zeros((self._n_windows, len(self._banks)), dtype=bool)
        for start in range(0, self._n_windows, _CHUNK):
            at = torch.arange(start, min(start + _CHUNK, self._n_windows), device=self._device)
            for number, bank in enumerate(self._banks):
                patches = bank.patches(at, self._length, self._clip)
                has[start : start + _CHUNK, number] = patches.is_real.flatten(1).any(1).cpu().numpy()
        return has


def split_tensors(inputs: TokenInputs, n_folds: int) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], TokenInputs]]:
    """Return the tensors of a batch of ``n_folds`` x B windows, each (n_folds, B, ...), and what puts B back together.

    The latter makes a fold's TokenInputs from its part (B, ...) of each tensor.
    """
    groups: tuple[SensorPatches | FeatureGroup, ...] = (*inputs.sensors, *inputs.features)
    names = [[f.name for f in fields(part) if isinstance(getattr(part, f.name), Tensor)] for part in groups]
    tensors = [
        getattr(part, name).unflatten(0, (n_folds, -1))
        for part, names_of in zip(groups, names, strict=True)
        for name in names_of
    ]

    def join(parts: Sequence[Tensor]) -> TokenInputs:
        left = iter(parts)
        made: list[SensorPatches | FeatureGroup] = []
        for part, names_of in zip(groups, names, strict=True):
            values: dict[str, Any] = {name: next(left) for name in names_of}
            made.append(replace(part, **values))
        sensors = tuple(p for p in made if isinstance(p, SensorPatches))
        return TokenInputs(sensors, tuple(p for p in made if isinstance(p, FeatureGroup)))

    return tensors, join


def _for_folds(bank: PreparedArrays, maps: Sequence[tuple[Tensor, Tensor] | None]) -> PreparedArrays:
    """Return a prepared bank whose window tables hold every window once per fold, with the fold's own affine map.

    A fold none of whose subjects had the sensor has no map; it is never queried.
    """
    stacked = copy.copy(bank)
    for name in ("first", "begin", "length", "quality_begin", "quality_length"):
        setattr(stacked, name, torch.cat([getattr(bank, name)] * len(maps)))
    nothing = torch.zeros_like(bank.centre), torch.ones_like(bank.spread)
    stacked.centre = torch.cat([(nothing if m is None else m)[0] for m in maps])
    stacked.spread = torch.cat([(nothing if m is None else m)[1] for m in maps])
    return stacked


class StackedWeights:
    """Weights (F, P) of F networks, and the state of their optimiser.

    The networks, which are copied, are of one kind and device, in the same order of parameters. ``weight_decay`` acts
    on parameters with two axes or more; a step keeps ``average_decay`` of the old running mean.
    """

    _ARRAYS = ("values", "_first", "_second", "_mean", "_counts")

    def __init__(self, networks: Sequence[nn.Module], *, weight_decay: float, average_decay: float) -> None:
        by_network = [dict(network.named_parameters()) for network in networks]
        self.shapes = {name: tuple(value.shape) for name, value in by_network[0].items()}
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        self._ends = torch.tensor(sizes).cumsum(0).tolist()
        with torch.no_grad():
            self.values = torch.stack([torch.cat([p.flatten() for p in o.values()]) for o in by_network])
        device = self.values.device
        self._owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(device)
        decays = torch.tensor([weight_decay if len(shape) >= 2 else 0.0 for shape in self.shapes.values()])
        self._decay = decays.to(device)[self._owner]
        self._average_decay = average_decay
        self._first = torch.zeros_like(self.values)
        self._second = torch.zeros_like(self.values)
        self._mean = torch.zeros_like(self.values)
        self._counts = torch.zeros(len(by_network), len(sizes), dtype=torch.float64, device=device)
        self._n_steps = 0

    def __len__(self) -> int:
        return len(self.values)

    def views(self, values: Tensor) -> dict[str, Tensor]:
        """Return the parameters, by name, in rows of numbers: each (K, *shape) where ``values`` is (K, P)."""
        starts = [0, *self._ends[:-1]]
        return {
            name: values[:, start:end].view(len(values), *shape)
            for (name, shape), start, end in zip(self.shapes.items(), starts, self._ends, strict=True)
        }

    def leaves(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Return the parameters of some networks, each (K, *shape), of which gradients can be taken."""
        chosen = self.values if len(positions) == len(self) else self.values[list(positions)]
        return {name: part.detach().requires_grad_() for name, part in self.views(chosen).items()}

    def no_gradients(self) -> tuple[Tensor, Tensor]:
        """Return room for the gradients (F, P), and for which parameters have one (F, n_parameters)."""
        return torch.zeros_like(self.values), torch.zeros_like(self._counts, dtype=self.values.dtype)

    def rows_of(self, gradients: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Return the gradients of K networks, one (K, *shape) per parameter or None, as (K, P) and 1 or 0 of each."""
        n = next(len(gradient) for gradient in gradients if gradient is not None)
        starts = [0, *self._ends[:-1]]
        parts = [
            self.values.new_zeros(n, end - start) if gradient is None else gradient.reshape(n, -1)
            for gradient, start, end in zip(gradients, starts, self._ends, strict=True)
        ]
        has_gradient = [float(gradient is not None) for gradient in gradients]
        return torch.cat(parts, 1), torch.tensor(has_gradient, device=self.values.device).expand(n, -1)

    def step(self, gradients: Tensor, has_gradient: Tensor, rates: Sequence[float], largest_norm: float) -> None:
        """Clip every network's gradient, take one step of AdamW with its own rate, and update the running means.

        Gradients (F, P) are changed in place and 0 where there is none; ``has_gradient`` (F, n_parameters) is 1 or 0.
        """
        with torch.no_grad():
            norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            gradients *= (largest_norm / (norm + 1e-6)).clamp(max=1.0)
            self._counts += has_gradient
            rate = torch.tensor(rates, device=self.values.device)[:, None]
            # Corrections for the short start, one per network and parameter (float64), then spread over their numbers.
            n = self._counts.clamp(min=1.0)
            size = (has_gradient * rate / (1.0 - _BETA_1**n)).to(rate.dtype)[:, self._owner]
            root = (1.0 - _BETA_2**n).sqrt().to(rate.dtype)[:, self._owner]
            moved = has_gradient[:, self._owner]
            self.values.mul_(1.0 - rate * self._decay * moved)
            self._first.lerp_(gradients, moved * (1.0 - _BETA_1))
            self._second.lerp_(gradients.square_(), moved.mul_(1.0 - _BETA_2))
            self.values.sub_(size * self._first / (self._second.sqrt().div_(root).add_(_EPSILON)))
            self._mean.lerp_(self.values, 1.0 - self._average_decay)
        self._n_steps += 1

    def means(self, positions: Sequence[int]) -> Tensor:
        """Return the running means of some networks' weights, (K, P), corrected for their short start."""
        return self._mean[list(positions)] / (1.0 - self._average_decay**self._n_steps)

    def n_trained(self, position: int) -> int:
        """Return how many numbers of a network ever had a gradient."""
        return int((self._counts[position] > 0)[self._owner].sum())

    def keep(self, positions: Sequence[int]) -> None:
        """Leave only these networks; the others have stopped."""
        kept = list(positions)
        for name in self._ARRAYS:
            setattr(self, name, getattr(self, name)[kept].contiguous())

    def kept(self) -> dict[str, Tensor]:
        """Return its state as arrays by name."""
        arrays = {f"stack.{name}": getattr(self, name) for name in self._ARRAYS}
        return {**arrays, "stack.n_steps": torch.tensor(self._n_steps)}

    def take(self, arrays: Mapping[str, Tensor]) -> None:
        """Go on from the state that :meth:`kept` gave, which may be of fewer networks."""
        for name in self._ARRAYS:
            setattr(self, name, arrays[name].to(self.values.device))
        self._n_steps = int(arrays["n_steps"])
