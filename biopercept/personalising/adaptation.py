"""A fitted network adapted to one subject in few small steps; never worse than it was on that subject's own check.

1. The labelled windows are divided in time: most are fitted on, the last of each class are checked on.
2. Head, low-rank updates or all weights take small seeded steps; every few steps the network is checked.
3. Kept is the step with the lowest check loss among those that are not less accurate there than the start, and the
   start itself (a *fall-back*) where no step is.

With too few labels to set any aside there is nothing to check on: the start is kept then, or, where
``personalisation.unchecked`` is adapt, a share of the steps is made (``unchecked_share``). Either way the result says
that it was not checked.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from biopercept.errors import TrainingError
from biopercept.learning.engine import Engine, seeded
from biopercept.learning.objectives import values_of
from biopercept.learning.optimisation import Optimisation
from biopercept.learning.task_objective import Objective, read_windows
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.personalising.low_rank import add_low_rank, merge_low_rank
from biopercept.personalising.settings import FULL, HEAD, KEEP, LOW_RANK, PersonalisationSettings

_WARMUP = 0.1


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network adapted to a subject.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode; the starting network where it fell back.
    n_steps : int
        Steps whose weights were kept; 0 where it fell back.
    fell_back : bool
        The start was kept: no step was better on the check windows, or there were none and it was to be kept then.
    is_checked : bool
        There were check windows.
    checks : tuple of (step, loss, balanced accuracy)
        On the check windows; step 0 is the start.
    """

    network: nn.Module
    n_steps: int
    fell_back: bool
    is_checked: bool
    checks: tuple[tuple[int, float, float], ...] = ()


def adapt(
    start: nn.Module,
    source: TokenSource,
    windows: WindowTable,
    fitting: IntArray,
    checking: IntArray,
    *,
    method: str,
    settings: PersonalisationSettings,
    label_smoothing: float,
    gradient_clip: float,
    engine: Engine,
    seed: int,
) -> Adapted:
    """Return the network adapted to the windows ``fitting``, or as it was where that is not better on ``checking``.

    Parameters
    ----------
    start : nn.Module
        A fitted network of one task; left as it is.
    source : TokenSource
        Batches of the windows, scaled as the network was trained.
    windows : WindowTable
    fitting, checking : int64 arrays
        Rows of the table; ``checking`` may be empty.
    method : str
        head, low-rank or full.
    settings : PersonalisationSettings
    label_smoothing, gradient_clip : float
        As the network was trained.
    engine : Engine
    seed : int
        Of draws and dropout; the same seed on the same machine gives the same weights.

    Raises
    ------
    TrainingError
        Where the loss is not finite.
    """
    if not len(checking) and settings.unchecked == KEEP:
        return _kept(start, engine, ())
    objective = Objective(windows, windows.tasks, label_smoothing)
    network = copy.deepcopy(start).to(engine.device)
    network.eval()
    checks = [(0, *check_windows(network, source, objective, checking))] if len(checking) else []
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    n_steps = settings.n_steps if len(checking) else max(1, round(settings.unchecked_share * settings.n_steps))
    with seeded(seed) as generator:
        _choose_learnt(network, method, settings.rank, generator)
        noise = torch.Generator(engine.device).manual_seed(seed)
        weights = objective.sampling_weights(fitting)
        optimisation = Optimisation(
            network,
            engine,
            learning_rate=settings.learning_rate,
            weight_decay=0.0,
            warmup_fraction=_WARMUP,
            gradient_clip=gradient_clip,
            n_steps=n_steps,
        )
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
    if len(checking):
        if best is None:
            return _kept(start, engine, tuple(checks))
        network.load_state_dict(best[2])
    merge_low_rank(network)
    plain = copy.deepcopy(start).to(engine.device)  # with its layers of the ordinary kind, in the ordinary order
    plain.load_state_dict(network.state_dict())
    return Adapted(plain.eval(), best[1] if best else n_steps, False, bool(len(checking)), tuple(checks))


def _kept(start: nn.Module, engine: Engine, checks: tuple[tuple[int, float, float], ...]) -> Adapted:
    """Return the start as it was; checked where it was looked at on check windows."""
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
    own = {id(parameter) for parameter in head.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(method == FULL or id(parameter) in own)
