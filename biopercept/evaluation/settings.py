"""How scores are made: split, folds, repetitions, bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

from biopercept.errors import SettingsError
from biopercept.learning.splits import SPLITS

FOLDS_AT_ONCE = ("auto", "stacked", "single")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a cross-validation is run and scored.

    Attributes
    ----------
    split : str
        subject (leave one subject out) or k-fold (whole subjects).
    n_folds : int
        Folds of ``k-fold``.
    n_seeds : int
        Repetitions whose probabilities are averaged before scoring.
    n_bootstrap : int
        Resamples of the subjects for intervals.
    label_share : float
        Part of each fold's training subjects whose labels are used (at least 2 subjects); pretraining inside a fold
        reads the signals of the others too.
    folds_at_once : str
        stacked (the networks of several folds are fitted in one program), single (one by one), or auto: stacked where
        that was measured to be quicker or, on CUDA, is expected to be (see ``Plan.stack_size``). Results differ by
        rounding alone; with both, ``--jobs`` runs several processes.
    stack_size : int
        Networks (folds times seeds) in one program: bounds memory, and what an interruption loses. 0: 64 on CUDA, 8
        on processors, whose caches hold no more.
    """

    split: str = "subject"
    n_folds: int = 5
    n_seeds: int = 1
    n_bootstrap: int = 2000
    label_share: float = 1.0
    folds_at_once: str = "auto"
    stack_size: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SettingsError(f"evaluation.split is {self.split!r}; allowed are {', '.join(SPLITS)}")
        for name, least in (("n_folds", 2), ("n_seeds", 1), ("n_bootstrap", 100), ("stack_size", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"evaluation.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.folds_at_once not in FOLDS_AT_ONCE:
            raise SettingsError(
                f"evaluation.folds_at_once is {self.folds_at_once!r}; allowed are {', '.join(FOLDS_AT_ONCE)}"
            )
        if not 0 < self.label_share <= 1:
            raise SettingsError(f"evaluation.label_share is {self.label_share}; it must be above 0 and at most 1")
