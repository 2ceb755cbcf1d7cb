"""One network run for several sets of weights at once, each on its own batch and with its own draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from biopercept.learning.engine import Engine
from biopercept.learning.stacked_inputs import Present, StackedSource, split_tensors
from biopercept.learning.task_objective import Objective
from biopercept.learning.training import Network
from biopercept.learning.windows import IntArray
from biopercept.model.biosignals import Outputs
from biopercept.model.dropout import Draw, ListedDraws
from biopercept.model.streaming import whole
from biopercept.model.tokens import TokenInputs


class StackedNetwork(Generic[Network]):
    """A network as a function of its weights, for K folds at once.

    Parameters
    ----------
    template : nn.Module
        Its parameters are never read.
    source : StackedSource
    objectives : sequence of Objective
        Of every fold; they differ in the scales of numbers alone.
    engine : Engine
    """

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
        """Return the training losses (K,) of K folds' batches, with their graph.

        Parameters
        ----------
        weights : dict of str to Tensor (K, ...)
        present : tuple
            What all these batches have; see :class:`StackedSource`.
        folds : sequence of int (K)
        rows : sequence of int64 arrays (B,)
        noises : sequence of torch.Generator
            From which each fold's network draws, in the order in which it would alone.
        """
        self.template.train()
        device = self._engine.device
        tensors, join = split_tensors(self._source.batch(folds, rows, present), len(folds))
        at, number = torch.from_numpy(np.stack(rows)).to(device), torch.tensor(folds, device=device)[:, None]
        truths = {name: values[number, at] for name, values in self._truths.items()}
        masks = {name: values[at] for name, values in self._masks.items()}
        if present not in self._draws:
            self._draws[present] = self._asked_for(join([tensor[0] for tensor in tensors]))
        draws = [torch.stack([draw.take(device, noise) for noise in noises]) for draw in self._draws[present]]

        def loss_of(
            own: dict[str, Tensor],
            parts: list[Tensor],
            drawn: list[Tensor],
            truth: dict[str, Tensor],
            mask: dict[str, Tensor],
        ) -> Tensor:
            given: Outputs = functional_call(self.template, own, (join(parts), ListedDraws(drawn)))
            return self._objective.loss_of(given.tasks, truth, mask)

        with self._engine.autocast():
            losses: Tensor = vmap(loss_of)(weights, tensors, draws, truths, masks)
        return losses

    def outputs(
        self, weights: dict[str, Tensor], present: Present, folds: Sequence[int], rows: Sequence[IntArray]
    ) -> dict[str, Tensor]:
        """Return outputs (K, longest, n_outputs) by task, on the CPU; fewer rows are filled up with their last."""
        self.template.eval()
        longest = max(len(own) for own in rows)
        filled = [np.concatenate([own, np.repeat(own[-1:], longest - len(own))]) for own in rows]
        tensors, join = split_tensors(self._source.batch(folds, filled, present), len(folds))

        def outputs_of(own: dict[str, Tensor], parts: list[Tensor]) -> dict[str, Tensor]:
            given: Outputs = functional_call(self.template, own, (join(parts),))
            return dict(given.tasks)

        with torch.no_grad():
            return {name: values.float().cpu() for name, values in vmap(outputs_of)(weights, tensors).items()}

    def _asked_for(self, inputs: TokenInputs) -> list[Draw]:
        """Return what the network draws for such a batch; it depends on shapes alone."""
        noted = ListedDraws()
        with torch.no_grad(), self._engine.autocast():
            self.template(inputs, noted)
        return noted.asked


@contextmanager
def together() -> Iterator[None]:
    """Let networks run under ``vmap``: reading in stretches cannot, nor can fused attention on processors and CUDA."""
    with whole(), sdpa_kernel(SDPBackend.MATH):
        yield
