"""The search space of ``tune --trials``: what is drawn at random, from where, and why each trial stays the same.

Trial n is drawn from a generator of its own (seed and n), so that more trials add to those done and move none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from biopercept.tuning.candidates import Draft

READ = ("features", "raw and derived", "derived and features", "all")
"""What of the signals the model reads; drawn as one choice, of which every study has something."""

MODES = ("causal", "global")
"""Normalisations that use nothing of a test recording's future."""


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely.

    Attributes
    ----------
    values : tuple of str
    """

    values: tuple[str, ...]

    def draw(self, random: np.random.Generator) -> str:
        """Return a value's text."""
        return self.values[int(random.integers(len(self.values)))]

    def words(self) -> str:
        """Return the range in words."""
        return f"one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Span:
    """A number between two edges, uniform or uniform in its logarithm, rounded to three digits.

    Attributes
    ----------
    low, high : float
    is_log : bool
    """

    low: float
    high: float
    is_log: bool = False

    def draw(self, random: np.random.Generator) -> str:
        """Return a value's text."""
        share = random.random()
        if self.is_log:
            return f"{math.exp(math.log(self.low) + share * math.log(self.high / self.low)):.3g}"
        return f"{self.low + share * (self.high - self.low):.3g}"

    def words(self) -> str:
        """Return the range in words."""
        return f"{self.low:g} to {self.high:g}, {'log-uniform' if self.is_log else 'uniform'}"


SPACE: dict[str, Choice | Span] = {
    "training.learning_rate": Span(2e-4, 4e-3, is_log=True),
    "training.weight_decay": Span(0.01, 0.3, is_log=True),
    "training.n_epochs": Choice(("16", "24", "32", "48")),
    "training.batch_size": Choice(("32", "64", "128")),
    "training.label_smoothing": Choice(("0.0", "0.05", "0.1")),
    "normalisation.mode": Choice(MODES),
    "tokens": Choice(READ),
    "tokens.modality_dropout": Span(0.0, 0.5),
    "tokens.channel_dropout": Span(0.0, 0.3),
    "tokens.time_dropout": Span(0.0, 0.3),
    "tokens.token_dropout": Span(0.0, 0.3),
    "model.width": Choice(("32", "48", "64", "96")),
    "model.n_latents": Choice(("8", "16", "24", "32")),
    "model.n_layers": Choice(("1", "2", "3", "4")),
    "model.feedforward_dropout": Span(0.0, 0.4),
    "model.head_dropout": Span(0.0, 0.5),
}
"""What is drawn, in the order of drawing; appended to only, as each draw moves those after it.

Edges lie around the presets, a factor of 4 on either side for rates. Widths are multiples of the preset's 4 heads.
"""


def random_trials(n_trials: int, seed: int) -> tuple[Draft, ...]:
    """Return the settings of the command as they are ("base"), and ``n_trials`` draws ("trial-001", ...).

    >>> [draft.name for draft in random_trials(2, 0)]
    ['base', 'trial-001', 'trial-002']
    """
    return (Draft("base"), *(_trial(number, seed) for number in range(1, n_trials + 1)))


def _trial(number: int, seed: int) -> Draft:
    random = np.random.default_rng([seed, number])
    drawn = {key: kind.draw(random) for key, kind in SPACE.items()}
    read = drawn.pop("tokens")
    for part in ("raw", "derived", "features"):
        drawn[f"tokens.{part}"] = "true" if read == "all" or part in read.split(" and ") else "false"
    return Draft(f"trial-{number:03d}", tuple(drawn.items()))
