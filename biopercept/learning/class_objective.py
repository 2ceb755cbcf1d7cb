"""The classes of windows as a network learns them: how windows are drawn, the loss, and the answers it is scored by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biopercept.learning.layouts import in_order
from biopercept.learning.token_source import TokenSource
from biopercept.learning.windows import IntArray, WindowTable


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

    def sampling_weights(self, rows: IntArray) -> Tensor:
        """Return how often each window is drawn, (len(rows),)."""
        return cell_weights(self.windows.subject[rows], self.windows.target[rows])

    def loss(self, network: nn.Module, source: TokenSource, rows: IntArray, noise: torch.Generator) -> Tensor:
        """Return the loss of a batch, with its graph."""
        logits = in_order(source.layouts.parts(rows), lambda part: network(source.batch(rows[part]), noise))
        return self.loss_of(logits, torch.from_numpy(self.windows.target[rows]).to(source.device))

    def loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (B, n_classes) and classes (B,)."""
        return nn.functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)

    def validation_loss(self, network: nn.Module, source: TokenSource, rows: IntArray) -> float:
        """Return the log loss of the windows, every (subject, class) weighing the same."""
        return self.log_loss(predict_probabilities(network, source, rows), rows)

    def log_loss(self, probabilities: NDArray[np.float64], rows: IntArray) -> float:
        """Return the log loss of probabilities (len(rows), n_classes), every (subject, class) weighing the same."""
        target = self.windows.target[rows]
        losses = -np.log(np.clip(probabilities[np.arange(len(rows)), target], 1e-7, 1.0))
        return float(np.average(losses, weights=self.sampling_weights(rows).numpy()))


def cell_weights(subject: NDArray[np.str_], target: IntArray) -> Tensor:
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
