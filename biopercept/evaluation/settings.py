"""How scores are made: split, folds, repetitions, bootstrap."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from biopercept.data.splits import K_FOLD, SPLITS, TIME
from biopercept.errors import SettingsError
from biopercept.training.calibration import CalibrationSettings
from biopercept.typed_values import (
    BETWEEN_0_AND_1,
    FROM_0,
    FROM_0_TO_1,
    UP_TO_1,
    at_least,
    refuse_other_than,
    refuse_outside,
)

NONE, SINGLE, ALL = "none", "single", "all"
MISSING_SENSORS = (NONE, SINGLE, ALL)
FOLDS_AT_ONCE = ("auto", "stacked", "single")


@dataclass(frozen=True)
class EvaluationSettings:
    """How a cross-validation is run and scored.

    Attributes
    ----------
    split : str
        subject (leave one subject out), k-fold (whole subjects), study (leave one of several stores out) or time
        (later windows of each subject by its own earlier ones).
    n_folds : int
        Folds of ``k-fold``.
    stratify : bool
        Whether ``k-fold`` balances the classes over its folds; who is where then depends on who else is there.
    n_seeds : int
        Repetitions whose probabilities are averaged before scoring.
    n_bootstrap : int
        Resamples of the subjects for intervals.
    label_share : float
        Part of each fold's training subjects whose labels are used (at least 2 subjects); pretraining inside a fold
        reads the signals of the others too.
    least_quality : float
        Mean signal quality below which windows come last in the gated risk-coverage curve, 0 to 1.
    calibration : str
        How probabilities are calibrated on subjects that the model was not fitted on: none, temperature or isotonic.
    calibration_folds : int
        Inner folds over the training side that calibration uses; 0 uses the fold's validation subjects.
    conformal_coverage : float
        Fraction of windows whose prediction set shall hold the true class; 0 makes no sets.
    folds_at_once : str
        stacked (the networks of several folds are fitted in one program), single (one by one), or auto: stacked where
        that was measured to be quicker (see ``docs/experiments/speed.md``). Results differ by rounding alone.
    stack_size : int
        Networks (folds times seeds) in one program, at most: bounds memory, and what an interruption loses. 0: 64 on
        CUDA, 8 on processors, whose caches hold no more.
    embargo_seconds : float
        Between earlier and later windows of ``time``; 0 is one window's length, and less is refused.
    earlier_share : float
        Part of a subject's windows that ``time`` learns from; moved to where every class lies on both sides.
    missing_sensors : str
        Whether the fitted models also predict without some of the test subjects' sensors: none, single (all but
        each, and each alone) or all (every subset). Nothing is fitted for it.
    """

    split: str = "subject"
    n_folds: int = 5
    n_seeds: int = 1
    n_bootstrap: int = 2000
    label_share: float = 1.0
    least_quality: float = 0.5
    calibration: str = "none"
    calibration_folds: int = 0
    conformal_coverage: float = 0.0
    folds_at_once: str = "auto"
    stack_size: int = 0
    stratify: bool = False
    embargo_seconds: float = 0.0
    earlier_share: float = 0.6
    missing_sensors: str = NONE

    def __post_init__(self) -> None:
        choices = {"split": (*SPLITS, TIME), "folds_at_once": FOLDS_AT_ONCE, "missing_sensors": MISSING_SENSORS}
        refuse_other_than("evaluation", self, choices)
        ranges = {
            at_least(2): ("n_folds",),
            at_least(1): ("n_seeds",),
            at_least(100): ("n_bootstrap",),
            FROM_0: ("stack_size", "embargo_seconds"),
            FROM_0_TO_1: ("least_quality",),
            BETWEEN_0_AND_1: ("earlier_share",),
            UP_TO_1: ("label_share",),
        }
        refuse_outside("evaluation", self, ranges)
        if self.stratify and self.split != K_FOLD:
            raise SettingsError(f"evaluation.stratify balances the folds of k-fold; evaluation.split is {self.split!r}")
        _ = self.calibrating

    def identity(self) -> dict[str, Any]:
        """Return the settings that folds depend on; those of calibration only where it is asked for."""
        omitted = ["least_quality"]  # it changes how folds are scored, not what they are
        omitted += ["label_share", "folds_at_once", "stack_size"]  # they stand by themselves, where they count
        omitted += [] if self.stratify else ["stratify"]
        omitted += [] if self.split == TIME else ["embargo_seconds", "earlier_share"]
        omitted += [] if self.missing_sensors != NONE else ["missing_sensors"]
        if not self.calibrating.is_wanted:
            omitted += ["calibration", "calibration_folds", "conformal_coverage"]
        return {name: value for name, value in asdict(self).items() if name not in omitted}

    @property
    def calibrating(self) -> CalibrationSettings:
        """Return what concerns calibration and prediction sets."""
        return CalibrationSettings(self.calibration, self.calibration_folds, self.conformal_coverage)
