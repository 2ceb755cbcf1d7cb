"""A fitted network adapted to one subject in few small steps; never worse than it was on that subject's own check.

1. The saved model must predict the same classes from the same kind of windows.
2. The labelled windows are divided in time: most are fitted on, the last of each class are checked on.
3. Head, low-rank updates or all weights take small seeded steps; every few steps the network is checked.
4. Kept is the step with the lowest check loss among those that are not less accurate there than the start, and the
   start itself (a *fall-back*) where no step is.

With too few labels to set any aside there is nothing to check on: the start is kept then, or, where
``personalisation.unchecked`` is adapt, a fraction of the steps is made (``unchecked_share``). Either way the result
says that it was not checked.

References
----------
E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, doi:10.48550/arXiv.2106.09685. Here
every linear layer is updated, without a scaling factor.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from biopercept.data.batches import TokenSource
from biopercept.data.views import visible_inputs
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import CheckpointError, SettingsError, TrainingError, the_model
from biopercept.progress import steps
from biopercept.training.checkpoint import PRETRAINED, Checkpoint, load_model, read_description, require_features
from biopercept.training.engine import Engine, seeded
from biopercept.training.fitting import FittedModel, NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import FitRequest, FittedNetwork, Optimisation, fewer_windows
from biopercept.training.objective import Objective, read_windows, values_of
from biopercept.training.settings import FULL, HEAD, KEEP, LOW_RANK, PersonalisationSettings, TrainingSettings

_WARMUP = 0.1


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network adapted to a subject.

    * ``network``: in evaluation mode; the starting network where it fell back.
    * ``n_steps``: steps whose weights were kept; 0 where it fell back.
    * ``fell_back``: the start was kept: no step was better on the check windows, or there were none and it was to be
      kept then.
    * ``is_checked``: there were check windows.
    * ``checks`` (tuple of (step, loss, balanced accuracy)): on the check windows; step 0 is the start.
    """

    network: nn.Module
    n_steps: int
    fell_back: bool
    is_checked: bool
    checks: tuple[tuple[int, float, float], ...] = ()


def adapt(start: nn.Module, source: TokenSource, request: FitRequest, settings: PersonalisationSettings) -> Adapted:
    """Return a network adapted to training windows by ``settings.method``, or as it was where that is no better.

    Better is decided on the request's validation windows, of which there may be none. ``start`` is a fitted network of
    one classification and is left as it is; ``source`` gives the windows scaled as it was trained. Of the request's
    training settings label smoothing and clipping are read.

    Where the memory of a card is too small for a batch, it begins anew with half as many windows in one, with a notice.

    Raises TrainingError where the loss is not finite. Raises SettingsError where not even one window has room on the
    card.
    """
    while True:
        try:
            return _adapted(start, source, request, settings)
        except torch.cuda.OutOfMemoryError as fault:
            settings = replace(settings, batch_size=fewer_windows(settings.batch_size, "personalisation", fault))


def _adapted(start: nn.Module, source: TokenSource, request: FitRequest, settings: PersonalisationSettings) -> Adapted:
    windows, fitting, checking, engine = request.inputs.windows, request.training, request.validation, request.engine
    if not len(checking) and settings.unchecked == KEEP:
        return _kept(start, engine, ())
    training = replace(
        request.settings.training, learning_rate=settings.learning_rate, weight_decay=0.0, warmup_fraction=_WARMUP
    )
    objective = Objective(windows, windows.tasks, training.label_smoothing)
    network = copy.deepcopy(start).to(engine.device)
    network.eval()
    checks = [(0, *check_windows(network, source, objective, checking))] if len(checking) else []
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    n_steps = settings.n_steps if len(checking) else max(1, round(settings.unchecked_share * settings.n_steps))
    with seeded(request.seed) as generator, steps("step", n_steps, is_result=False) as done:
        _choose_learnt(network, settings.method, settings.rank, generator)
        noise = torch.Generator(engine.device).manual_seed(request.seed)
        weights = objective.sampling_weights(fitting)
        optimisation = Optimisation(network, engine, training, n_steps)
        for step in range(1, n_steps + 1):
            network.train()
            drawn = torch.multinomial(weights, settings.batch_size, replacement=True, generator=generator)
            rows = fitting[drawn.numpy()]
            if not math.isfinite(optimisation.step(partial(objective.loss, network, source, rows, noise))):
                raise TrainingError(
                    f"the loss of adapting to {windows.subject[fitting[0]]} is not finite at step {step}; "
                    "lower personalisation.learning_rate"
                )
            if len(checking) and (step % settings.check_every == 0 or step == n_steps):
                checks.append((step, *check_windows(network, source, objective, checking)))
                if is_better(checks, best[0] if best else checks[0][1]):
                    best = (checks[-1][1], step, {k: v.clone() for k, v in network.state_dict().items()})
            done.advance()
    if len(checking):
        if best is None:
            return _kept(start, engine, tuple(checks))
        network.load_state_dict(best[2])
    merge_low_rank(network)
    plain = copy.deepcopy(start).to(engine.device)  # with its layers of the ordinary kind, in the ordinary order
    plain.load_state_dict(network.state_dict())
    return Adapted(plain.eval(), best[1] if best else n_steps, False, bool(len(checking)), tuple(checks))


def _kept(start: nn.Module, engine: Engine, checks: tuple[tuple[int, float, float], ...]) -> Adapted:
    return Adapted(copy.deepcopy(start).to(engine.device).eval(), 0, True, bool(checks), checks)


def is_better(checks: list[tuple[int, float, float]], lowest: float) -> bool:
    """Return whether the last check has a loss below ``lowest`` and is no less accurate than the first, the start."""
    _, loss, accuracy = checks[-1]
    return loss < lowest and accuracy >= checks[0][2]


def check_windows(network: nn.Module, source: TokenSource, objective: Objective, rows: IntArray) -> tuple[float, float]:
    """Return log loss and balanced accuracy of a network for some windows."""
    outputs, target = read_windows(network, objective.tasks, source, rows), objective.windows.only.values[rows]
    [task] = objective.tasks
    is_right = values_of(task, outputs[task.name].double()).numpy().argmax(axis=1) == target
    recalls = [float(is_right[target == number].mean()) for number in np.unique(target)]
    return objective.loss_of_outputs(outputs, rows), float(np.mean(recalls))


def _choose_learnt(network: nn.Module, method: str, rank: int, generator: torch.Generator) -> None:
    """Let only what the method learns ask for gradients."""
    head = network.get_submodule("heads")
    if method == LOW_RANK:
        add_low_rank(network, rank, generator)
        for name, parameter in head.named_parameters():
            parameter.requires_grad_(name.endswith("bias") or parameter.requires_grad)
        return
    if method not in (HEAD, FULL):
        raise ValueError(f"no adaptation is called {method!r}")
    of_head = {id(parameter) for parameter in head.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(method == FULL or id(parameter) in of_head)


class LowRankUpdate(nn.Module):
    """A matrix (n_out, n_in) plus ``up @ down``; equal to the matrix, bit for bit, until ``up`` is changed."""

    def __init__(self, n_out: int, n_in: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(rank, n_out, n_in)
        self.up = nn.Parameter(torch.zeros(n_out, rank))
        self.down = nn.Parameter(torch.randn(rank, n_in, generator=generator) / math.sqrt(n_in))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated matrix."""
        return weight + self.up @ self.down


def add_low_rank(network: nn.Module, rank: int, generator: torch.Generator) -> list[nn.Parameter]:
    """Give every linear layer of a network a low-rank update of its weight and return what is to be learnt.

    The network's own weights no longer ask for gradients; the generator is on the CPU.
    """
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    learnt: list[nn.Parameter] = []
    for layer in [part for part in network.modules() if isinstance(part, nn.Linear)]:
        update = LowRankUpdate(layer.out_features, layer.in_features, rank, generator).to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", update)
        learnt += [update.up, update.down]
    return learnt


def merge_low_rank(network: nn.Module) -> None:
    """Write every update into its matrix, so that the network is an ordinary one again, with the same outputs."""
    for layer in [part for part in network.modules() if isinstance(part, nn.Linear)]:
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)


def load_starting_model(folder: Path) -> Checkpoint:
    """Return a model that can be adapted to a person.

    Raises CheckpointError where the folder is no model of one classification, or is damaged.
    """
    if read_description(folder)["kind"] == PRETRAINED:
        raise CheckpointError(
            f"{folder} was pretrained and predicts no task yet, so there is nothing to adapt or to fall back to; train "
            "it on other people first (train STORE --start-from MODEL --exclude-subjects ID)"
        )
    checkpoint = load_model(folder)
    if not checkpoint.is_one_classification:
        raise CheckpointError(
            f"{folder} predicts several tasks, ordered levels, numbers or single times; here a model of one "
            "classification of whole windows is needed"
        )
    return checkpoint


def require_fitting(checkpoint: Checkpoint, windows: WindowTable, folder: Path) -> None:
    """Refuse a model that predicts other classes, or reads other windows than these. Raises SettingsError."""
    [task], length = checkpoint.tasks, checkpoint.window_seconds
    if task.class_names != windows.only.classes:
        raise SettingsError(
            f"{the_model(folder)} predicts {', '.join(task.classes)} and this task has "
            f"{', '.join(windows.only.classes)}; they must be the same classes in the same order"
        )
    if length != windows.length_seconds:
        raise SettingsError(
            f"{the_model(folder)} reads windows of {length:g} s and the store has windows of "
            f"{windows.length_seconds:g} s; prepare the store with the model's settings"
        )
    require_features(folder.name, checkpoint.feature_names, windows.feature_names, "the store")
    if checkpoint.normalisation.is_transductive:
        raise SettingsError(
            f"{the_model(folder)} scales by whole recordings (normalisation recording), and a person's later windows "
            "lie in the recordings that it would adapt to; start from a model with another normalisation"
        )


@dataclass(frozen=True, eq=False)
class AdaptingFitter:
    """Fits a request by adapting a saved model to its windows; scaling and sensors are the model's own."""

    checkpoint: Checkpoint
    settings: PersonalisationSettings

    def adapt(self, request: FitRequest) -> tuple[Adapted, TokenSource]:
        """Return the model adapted to the request's windows, and their batches.

        Smoothing and clipping are those that the model was trained with.
        """
        checkpoint, inputs = self.checkpoint, request.inputs
        trained = checkpoint.training["settings"]
        training = replace(
            request.settings.training,
            label_smoothing=float(trained.get("label_smoothing", 0.0)),
            gradient_clip=float(trained.get("gradient_clip", 1.0)),
        )
        request = replace(request, settings=replace(request.settings, training=training))
        source = TokenSource(inputs, checkpoint.population, checkpoint.tokens, request.engine.device)
        return adapt(checkpoint.network, source, request, self.settings), source

    def __call__(self, request: FitRequest) -> FittedModel:
        """Return the model adapted to the request's windows, with as many parameters as the adaptation learns."""
        adapted, source = self.adapt(request)
        n_trained = 0 if adapted.fell_back else n_learnt(adapted, self.settings)
        fitted = FittedNetwork(adapted.network, self.checkpoint.population, (), adapted.n_steps, n_trained)
        return NetworkOnStudy(
            fitted,
            request.inputs.windows.tasks,
            source,
            request.fitting,
            fell_back=adapted.fell_back,
            is_fitted_to_validation=True,
        )


def fit_scratch(request: FitRequest, n_steps: int) -> NetworkOnStudy:
    """Return a network fitted from new weights on one subject's windows, in ``n_steps`` steps at least.

    The population part of the scaling is that of these windows; a model to start from and pretraining are not used.

    Raises TrainingError where the loss is not finite.
    """
    training = enough_steps(request.settings.training, len(request.training), n_steps)
    settings = replace(request.settings, training=training, start_from="", pretraining=None)
    visible = visible_inputs(request.inputs, np.concatenate([request.training, request.validation]))
    return fit_perceiver_io(replace(request, inputs=visible, settings=settings))


def enough_steps(training: TrainingSettings, n_windows: int, n_steps: int) -> TrainingSettings:
    """Return the settings with as many epochs as ``n_steps`` need; the patience grows in proportion.

    An epoch over the few windows of one person is a step or two: as many epochs as for a study would hardly begin.

    >>> enough_steps(TrainingSettings(n_epochs=16, batch_size=64, patience=6), 100, 200).n_epochs
    100
    """
    n_epochs = max(training.n_epochs, math.ceil(n_steps / max(1, math.ceil(n_windows / training.batch_size))))
    patience = max(training.patience, math.ceil(training.patience * n_epochs / training.n_epochs))
    return replace(training, n_epochs=n_epochs, patience=patience)


def n_learnt(adapted: Adapted, settings: PersonalisationSettings) -> int:
    """Return how many numbers the method learns."""
    network = adapted.network
    if settings.method == LOW_RANK:
        generator = torch.Generator()
        layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
        updates = [LowRankUpdate(x.out_features, x.in_features, settings.rank, generator) for x in layers]
        n = sum(parameter.numel() for update in updates for parameter in update.parameters())
        return n + int(network.get_submodule("heads").get_parameter("0.bias").numel())
    part = network.get_submodule("heads") if settings.method == HEAD else network
    return sum(parameter.numel() for parameter in part.parameters())
