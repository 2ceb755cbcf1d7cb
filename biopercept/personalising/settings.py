"""How a model is made one person's own: with which labels, by which method, and how much of it is believed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from biopercept.errors import SettingsError

HEAD, LOW_RANK, FULL = "head", "low-rank", "full"
ADAPTATIONS = (HEAD, LOW_RANK, FULL)
"""Ways to adapt a fitted network to a person."""

REFERENCE, SCRATCH = "reference", "scratch"
METHODS = (REFERENCE, *ADAPTATIONS, SCRATCH)
"""What the curve compares: no label at all, the adaptations, and a network of the person alone."""

SUBJECT, CLASS = "subject", "class"
CHRONOLOGIES = (SUBJECT, CLASS)

KEEP, ADAPT = "keep", "adapt"
UNCHECKED = (KEEP, ADAPT)
"""What is done where the labels are too few to set any aside: the starting model is kept, or adapted unchecked."""


@dataclass(frozen=True)
class PersonalisationSettings:
    """How a network is adapted to one subject, and how the curve over labels is made.

    Attributes
    ----------
    methods : tuple of str
        Of the curve: reference (no label: a network that scales by each recording's first seconds), head, low-rank,
        full, scratch (a network fitted on the subject alone).
    k : tuple of int
        Labelled windows of each class, the first ones in time, that the curve grants.
    method : str
        Adaptation of ``train`` and ``cross-validate`` with a model to start from: head, low-rank or full.
    rank : int
        Of the update of each weight matrix (low-rank).
    n_steps : int
        Steps of an adaptation, at most; the best of them on the subject's validation windows is kept.
    learning_rate : float
        Peak of its cosine with warm-up (AdamW, no weight decay).
    batch_size : int
        Windows in a step, drawn so that the classes weigh the same.
    check_every : int
        Steps between two looks at the validation windows.
    unchecked : str
        Where the labels are too few to set validation windows aside: keep (the starting model, as it is) or adapt (a
        share of the steps is made, and what comes of it is stamped as unchecked).
    unchecked_share : float
        Part of ``n_steps`` that ``unchecked`` adapt makes.
    validation_fraction : float
        Part of each class's labelled windows, the last in time, that decides whether and when to stop.
    scratch_steps : int
        Steps that a network of one subject alone is given, at least.
    gap_seconds : float
        Between labelled and scored windows; 0 is one window's length, and less is refused.
    earlier_share : float
        Part of the subject's windows that lies before the scored part, at least, where that can be.
    chronology : str
        subject (every labelled window comes before every scored one) or class (within each class alone: for
        protocols that show a class once; a stage then has windows on both sides).
    """

    methods: tuple[str, ...] = METHODS
    k: tuple[int, ...] = (1, 3, 5, 10)
    method: str = LOW_RANK
    rank: int = 4
    n_steps: int = 40
    learning_rate: float = 5e-4
    batch_size: int = 16
    check_every: int = 5
    unchecked: str = KEEP
    unchecked_share: float = 0.25
    validation_fraction: float = 0.3
    scratch_steps: int = 200
    gap_seconds: float = 0.0
    earlier_share: float = 0.5
    chronology: str = SUBJECT

    def __post_init__(self) -> None:
        for name, allowed in (
            ("methods", METHODS),
            ("method", ADAPTATIONS),
            ("unchecked", UNCHECKED),
            ("chronology", CHRONOLOGIES),
        ):
            held = getattr(self, name)
            for value in held if isinstance(held, tuple) else (held,):
                if value not in allowed:
                    raise SettingsError(f"personalisation.{name} is {value!r}; allowed are {', '.join(allowed)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise SettingsError("personalisation.methods must name at least one method, each once")
        if not self.k or list(self.k) != sorted(set(self.k)) or self.k[0] < 1:
            raise SettingsError(f"personalisation.k is {list(self.k)}; rising whole numbers from 1 are needed")
        for name in ("rank", "n_steps", "batch_size", "check_every", "scratch_steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"personalisation.{name} is {getattr(self, name)}; it must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SettingsError(f"personalisation.learning_rate is {self.learning_rate}; it must be a number above 0")
        for name in ("validation_fraction", "earlier_share", "unchecked_share"):
            if not 0 < getattr(self, name) < 1:
                raise SettingsError(f"personalisation.{name} is {getattr(self, name)}; it must be between 0 and 1")
        if not (math.isfinite(self.gap_seconds) and self.gap_seconds >= 0):
            raise SettingsError(f"personalisation.gap_seconds is {self.gap_seconds}; it must be a number of at least 0")

    def described(self) -> dict[str, Any]:
        """Return the settings of one adaptation as plain values."""
        held = asdict(self)
        for name in ("methods", "k", "earlier_share", "chronology", "gap_seconds"):
            del held[name]
        return held


def gap_of(seconds: float, length_seconds: float, name: str) -> float:
    """Return a gap in seconds: the window's length where 0 is set.

    Parameters
    ----------
    seconds : float
        As set.
    length_seconds : float
        Of a window.
    name : str
        What the setting is called.

    Raises
    ------
    SettingsError
        Where it is shorter than a window.
    """
    if 0 < seconds < length_seconds:
        raise SettingsError(
            f"{name} is {seconds:g} s; it must be at least one window ({length_seconds:g} s), or 0 for just that"
        )
    return seconds or length_seconds
