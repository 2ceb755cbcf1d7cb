"""How scores are made: split, folds, repetitions, bootstrap."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from biopercept.data.splits import K_FOLD, SPLITS, TIME
from biopercept.errors import SettingsError
from biopercept.evaluation.missing_sensors import MISSING_SENSORS, NONE
from biopercept.training.calibration import CalibrationSettings

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
        Mean signal quality below which the gated risk-coverage curve answers last, 0 to 1.
    calibration : str
        How probabilities are calibrated on subjects that the model was not fitted on: none, temperature or isotonic.
    calibration_folds : int
        Inner folds over the training side that calibration uses; 0 uses the fold's validation subjects.
    conformal_coverage : float
        Share of windows whose prediction set shall hold the true class; 0 makes no sets.
    folds_at_once : str
        stacked (the networks of several folds are fitted in one program), single (one by one), or auto: stacked where
        that was measured to be quicker: small networks, and on CUDA (see ``docs/speed.md``). Results differ by
        rounding alone; with both, ``--jobs`` runs several processes.
    stack_size : int
        Networks (folds times seeds) in one program, at most: bounds memory, and what an interruption loses. 0: 64 on
        CUDA, 8 on processors, whose caches hold no more.
    embargo_seconds : float
        Between earlier and later windows of ``time``; 0 is one window's length, and less is refused.
    earlier_share : float
        Part of a subject's windows that ``time`` learns from; moved to where every class lies on both sides.
    missing_sensors : str
        Whether the fitted models are asked again without some of the test subjects' sensors: none, single (all but
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
        allowed = (*SPLITS, TIME)
        if self.split not in allowed:
            raise SettingsError(f"evaluation.split is {self.split!r}; allowed are {', '.join(allowed)}")
        for name, least in (("n_folds", 2), ("n_seeds", 1), ("n_bootstrap", 100), ("stack_size", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"evaluation.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.folds_at_once not in FOLDS_AT_ONCE:
            raise SettingsError(
                f"evaluation.folds_at_once is {self.folds_at_once!r}; allowed are {', '.join(FOLDS_AT_ONCE)}"
            )
        if not 0 < self.label_share <= 1:
            raise SettingsError(f"evaluation.label_share is {self.label_share}; it must be above 0 and at most 1")
        if not 0 <= self.least_quality <= 1:
            raise SettingsError(f"evaluation.least_quality is {self.least_quality}; it must be from 0 to 1")
        if self.stratify and self.split != K_FOLD:
            raise SettingsError(f"evaluation.stratify balances the folds of k-fold; evaluation.split is {self.split!r}")
        if not (math.isfinite(self.embargo_seconds) and self.embargo_seconds >= 0):
            raise SettingsError(
                f"evaluation.embargo_seconds is {self.embargo_seconds}; it must be a number of at least 0"
            )
        if not 0 < self.earlier_share < 1:
            raise SettingsError(f"evaluation.earlier_share is {self.earlier_share}; it must be between 0 and 1")
        if self.missing_sensors not in MISSING_SENSORS:
            raise SettingsError(
                f"evaluation.missing_sensors is {self.missing_sensors!r}; allowed are {', '.join(MISSING_SENSORS)}"
            )
        _ = self.calibrating

    def identity(self) -> dict[str, Any]:
        """Return the settings that folds depend on; those of calibration only where it is asked for."""
        settings = asdict(self)
        del settings["least_quality"]  # it changes how folds are scored, not what they are
        del (
            settings["label_share"],
            settings["folds_at_once"],
            settings["stack_size"],
        )  # they stand by themselves, where they count
        if not self.stratify:
            del settings["stratify"]
        if self.split != TIME:
            del settings["embargo_seconds"], settings["earlier_share"]
        if self.missing_sensors == NONE:
            del settings["missing_sensors"]
        if not self.calibrating.is_wanted:
            for name in ("calibration", "calibration_folds", "conformal_coverage"):
                del settings[name]
        return settings

    @property
    def calibrating(self) -> CalibrationSettings:
        """Return what concerns calibration and prediction sets."""
        return CalibrationSettings(self.calibration, self.calibration_folds, self.conformal_coverage)
