"""One short training loop and one score for every experiment: labelled tokens in, accuracy with n and interval out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.networks import PlacedTokens

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledTokens:
    """Samples as sets of tokens with places, split into training and test.

    Attributes
    ----------
    values : float32 Tensor (n, N, V)
        What was measured at each place; V may be 0.
    positions : float32 Tensor (n or 1, N, A)
        Places, each axis from -1 to 1; one set for all samples where the first axis is 1.
    target : int64 Tensor (n,)
    training, test : int64 arrays
        Samples that weights are fitted on, and that are scored; they share none.
    """

    values: Tensor
    positions: Tensor
    target: Tensor
    classes: tuple[str, ...]
    training: IntArray
    test: IntArray

    def __post_init__(self) -> None:
        if len(np.intersect1d(self.training, self.test)):
            raise ValueError("training and test share samples")

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and positions of some samples, as the networks take them."""
        places = self.positions if len(self.positions) == 1 else self.positions[rows]
        return self.values[rows], places.expand(len(rows), -1, -1)

    @property
    def chance(self) -> float:
        """Return the accuracy on the test samples of always naming the commonest class of the training samples."""
        commonest = self.target[torch.from_numpy(self.training)].bincount().argmax()
        return float((self.target[torch.from_numpy(self.test)] == commonest).float().mean())


@dataclass(frozen=True)
class FitSchedule:
    """How long and how fast a network is fitted; nothing looks at the test samples.

    Attributes
    ----------
    n_steps, batch_size : int
        Batches, and samples in each; every sample is drawn once before any is drawn again.
    learning_rate : float
        Peak of a cosine schedule with warm-up (AdamW).
    """

    n_steps: int = 800
    batch_size: int = 50
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05


@dataclass(frozen=True)
class Accuracy:
    """Right answers among ``n`` test samples, with Wilson's 95 % interval."""

    n_right: int
    n: int

    @property
    def value(self) -> float:
        """Return the share of right answers."""
        return self.n_right / self.n

    @property
    def ci95(self) -> tuple[float, float]:
        """Return Wilson's interval, which is sound near 0 and 1 too.

        >>> [round(edge, 3) for edge in Accuracy(9, 10).ci95]
        [0.596, 0.982]
        """
        z2 = 1.959964**2
        centre = (self.n_right + z2 / 2) / (self.n + z2)
        half = math.sqrt(z2 * (self.value * (1 - self.value) / self.n + z2 / (4 * self.n**2))) / (1 + z2 / self.n)
        return max(0.0, centre - half), min(1.0, centre + half)

    def to_json(self) -> dict[str, object]:
        """Return the score as plain values."""
        return {"accuracy": self.value, "ci95": list(self.ci95), "n": self.n}


def fit_network(network: PlacedTokens, tokens: LabelledTokens, schedule: FitSchedule) -> None:
    """Fit a network on the training samples, drawing from torch's own generator, and leave it in evaluation mode."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    course = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, schedule.learning_rate, total_steps=schedule.n_steps, pct_start=0.1, cycle_momentum=False
    )
    network.train()
    for rows in islice(_batches(torch.from_numpy(tokens.training), schedule.batch_size), schedule.n_steps):
        logits = network(*tokens.at(rows))
        loss = nn.functional.cross_entropy(logits, tokens.target[rows], label_smoothing=schedule.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        course.step()
    network.eval()


def _batches(rows: Tensor, batch_size: int) -> Iterator[Tensor]:
    while True:
        yield from torch.split(rows[torch.randperm(len(rows))], batch_size)


def answers(network: PlacedTokens, tokens: LabelledTokens) -> Tensor:
    """Return the logits (n_test, K) of a fitted network on the test samples."""
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(tokens.test), 256)
        return torch.cat([network(*tokens.at(rows)) for rows in parts])


def score_answers(logits: Tensor, tokens: LabelledTokens) -> Accuracy:
    """Return the accuracy of logits (n_test, K) of the test samples."""
    n_right = int((logits.argmax(1) == tokens.target[torch.from_numpy(tokens.test)]).sum())
    return Accuracy(n_right, len(tokens.test))


def over_seeds(values: Sequence[float]) -> dict[str, object]:
    """Return the mean over seeds with Student's 95 % interval; no interval from one seed.

    >>> over_seeds([0.5])
    {'mean': 0.5, 'ci95': None, 'n_seeds': 1}
    """
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "ci95": None, "n_seeds": len(values)}
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return {"mean": mean, "ci95": [mean - half, mean + half], "n_seeds": len(values)}
