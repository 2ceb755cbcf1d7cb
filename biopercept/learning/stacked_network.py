"""One network run for several sets of weights at once, each on its own batch and with its own draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from biopercept.learning.class_objective import ClassObjective
from biopercept.learning.engine import Engine
from biopercept.learning.stacked_inputs import Present, StackedSource, split_tensors
from biopercept.learning.training import Network
from biopercept.learning.windows import IntArray
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
    objective : ClassObjective
    engine : Engine
    """

    def __init__(self, template: Network, source: StackedSource, objective: ClassObjective, engine: Engine) -> None:
        self.template = template
        self._source, self._objective, self._engine = source, objective, engine
        self._target = torch.from_numpy(objective.windows.target).to(engine.device)
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
        tensors, join = split_tensors(self._source.batch(folds, rows, present), len(folds))
        at = torch.from_numpy(np.stack(rows)).to(self._target.device)
        if present not in self._draws:
            self._draws[present] = self._asked_for(join([tensor[0] for tensor in tensors]))
        device = self._engine.device
        draws = [torch.stack([draw.take(device, noise) for noise in noises]) for draw in self._draws[present]]

        def loss_of(own: dict[str, Tensor], parts: list[Tensor], drawn: list[Tensor], label: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.template, own, (join(parts), ListedDraws(drawn)))
            return self._objective.loss_of(logits, label)

        with self._engine.autocast():
            losses: Tensor = vmap(loss_of)(weights, tensors, draws, self._target[at])
        return losses

    def probabilities(
        self, weights: dict[str, Tensor], present: Present, folds: Sequence[int], rows: Sequence[IntArray]
    ) -> NDArray[np.float64]:
        """Return class probabilities (K, longest, n_classes); a fold with fewer rows is filled up with its last."""
        self.template.eval()
        longest = max(len(own) for own in rows)
        filled = [np.concatenate([own, np.repeat(own[-1:], longest - len(own))]) for own in rows]
        tensors, join = split_tensors(self._source.batch(folds, filled, present), len(folds))

        def logits_of(own: dict[str, Tensor], parts: list[Tensor]) -> Tensor:
            logits: Tensor = functional_call(self.template, own, (join(parts),))
            return logits

        with torch.no_grad():
            told: NDArray[np.float64] = vmap(logits_of)(weights, tensors).double().softmax(-1).cpu().numpy()
        return told

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
