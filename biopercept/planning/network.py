"""The network's side of the plan, in one table: size, length of training, rate, people to stop by, repetitions.

Rows apply from the top; a later row that applies replaces what an earlier one set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

REPETITIONS = "evaluation.n_seeds"
"""The setting that multiplies the time: planned where networks are scored, and nowhere else."""
_BATCH = 64
_LEAST_UPDATES, _MOST_UPDATES = 300, 6000
_MOST_EPOCHS, _LEAST_EPOCHS, _USUAL_EPOCHS = 96, 6, 24
_FEW_PEOPLE = 60
"""Below these nobody is set aside to stop by, and raw waves are not read (docs/experiments/tuning.md)."""
_USUAL_FRACTION = 0.15
_CALIBRATION_FOLDS = 5
_MOST_SEEDS = 3
BUDGET_MINUTES = 190.0
"""Processor minutes that all folds of leave-one-subject-out may take: about an hour and a half on two cores."""
_MS_PER_WINDOW, _MS_PER_TOKEN = 2.5, 0.005
"""What a window costs in an epoch at the size below (2.4 and 2.6 on a busy Intel Xeon, 34 people with a wristband), and
each raw token beside. It is no measurement of this machine: what is planned must not depend on how busy one is."""


@dataclass(frozen=True)
class Size:
    """What the table reads: people, labelled windows of all of them, and raw tokens of a window."""

    n_people: int
    n_windows: int
    n_raw_tokens: int

    @property
    def n_training_windows(self) -> float:
        """Return the windows of a training side: all but one person's."""
        return self.n_windows * max(self.n_people - 1, 1) / max(self.n_people, 1)

    @property
    def updates_per_epoch(self) -> int:
        """Return the batches of an epoch."""
        return max(1, math.ceil(self.n_training_windows / _BATCH))

    def minutes(self, n_epochs: int) -> float:
        """Return about how many processor minutes leave-one-subject-out takes with one repetition."""
        milliseconds = _MS_PER_WINDOW + _MS_PER_TOKEN * self.n_raw_tokens
        return self.n_people * self.n_training_windows * n_epochs * milliseconds / 60_000


@dataclass(frozen=True)
class Row:
    """Settings for studies to which ``applies`` says yes; a value may be computed from the size."""

    applies: Callable[[Size], bool]
    settings: dict[str, Any]
    because: Callable[[Size], str]


def is_few(n_people: int) -> bool:
    """Return whether so few people took part that nobody is set aside, and raw waves are not read."""
    return n_people < _FEW_PEOPLE


def _is_few(size: Size) -> bool:
    return is_few(size.n_people)


def _epochs(size: Size) -> int:
    """Return how often a study is passed over: so often that updates suffice, and not more where nothing stops it."""
    fewest = max(_LEAST_EPOCHS, math.ceil(_LEAST_UPDATES / size.updates_per_epoch))
    wanted = fewest if _is_few(size) else max(_USUAL_EPOCHS, fewest)
    return min(wanted, max(_LEAST_EPOCHS, _MOST_UPDATES // size.updates_per_epoch), _MOST_EPOCHS)


def _seeds(size: Size) -> int:
    return max(1, min(_MOST_SEEDS, int(BUDGET_MINUTES / max(size.minutes(_epochs(size)), 1e-9))))


def _always(size: Size) -> bool:
    return True


TABLE: tuple[Row, ...] = (
    Row(
        _always,
        {"model.width": 64, "model.n_latents": 24, "model.n_layers": 3},
        lambda s: f"a small network for {s.n_people} people; half of it scored lower (docs/experiments/tuning.md)",
    ),
    Row(
        _always,
        {"model.linear_branch": True, "model.conv_branch": True},
        lambda s: "simpler models err differently than the network; the mean of all was better on all studies",
    ),
    Row(
        _always,
        {"training.learning_rate": 2e-3, "training.n_epochs": _epochs},
        lambda s: (
            f"{s.n_windows} windows make {s.updates_per_epoch} updates an epoch; "
            + (
                f"about {_LEAST_UPDATES} updates were enough in trials, and more overfitted"
                if _is_few(s)
                else "early stopping ends it"
            )
        ),
    ),
    Row(
        lambda s: not _is_few(s),
        {"training.validation_fraction": _USUAL_FRACTION},
        lambda s: f"of {s.n_people} people these are enough to stop by",
    ),
    Row(
        _is_few,
        {"training.validation_fraction": 0.0, "evaluation.calibration_folds": _CALIBRATION_FOLDS},
        lambda s: (
            f"of {s.n_people} people the few that could be set aside cost more than they tell; all are learnt from, "
            "and calibration, where it is wanted, learns from inner folds"
        ),
    ),
    Row(
        _always,
        {REPETITIONS: _seeds},
        lambda s: (
            f"leave-one-subject-out with these settings is estimated at {_shown(s.minutes(_epochs(s)))} of an Intel "
            f"Xeon a repetition; up to {_MOST_SEEDS} within {BUDGET_MINUTES:g} are averaged"
        ),
    ),
)


def network_settings(size: Size) -> Iterator[tuple[str, Any, str]]:
    """Give the settings of the table for a study of this size, with their reasons."""
    chosen: dict[str, tuple[Any, str]] = {}
    for row in TABLE:
        if row.applies(size):
            for setting, value in row.settings.items():
                chosen[setting] = (value(size) if callable(value) else value, row.because(size))
    yield from ((setting, value, because) for setting, (value, because) in chosen.items())


def _shown(minutes: float) -> str:
    whole = max(round(minutes), 1)
    return f"{whole} processor minute{'s' * (whole != 1)}"
