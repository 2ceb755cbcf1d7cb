"""Reading from ``scores.json`` what a cross-validation says of its probabilities."""

from __future__ import annotations

from .fields import Fields
from .trust_results import SetCoverage, Trust

RULES = ("confidence", "quality", "gated")


def trust_of(scores: Fields) -> Trust:
    """Return what ``scores.json`` says of the probabilities; older files say less.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    curves = scores.part("risk_coverage", optional=True)
    coverage = curves.numbers("coverage", optional=True)
    risk = {rule: curves.part(rule).numbers("risk") for rule in RULES if rule in curves.content}
    for rule, values in risk.items():
        if len(values) != len(coverage):
            raise curves.fault(rule, "one risk for each coverage")
    return Trust(
        coverage=coverage,
        risk=risk,
        aurc={rule: curves.part(rule).known("aurc") for rule in risk},
        least_quality=curves.number("least_quality"),
        brier_ci95=scores.interval("brier_ci95"),
        ece_ci95=scores.interval("ece_ci95"),
        calibration=_calibration_words(scores),
        sets=_sets(scores),
    )


def _calibration_words(scores: Fields) -> str:
    if "calibration" not in scores.content:
        return ""
    held = scores.part("calibration")
    before = held.part("uncalibrated")
    return (
        f"Probabilities were calibrated ({held.text('method')}), learnt from {held.text('learnt_from')}, never from "
        f"those tested: before it, the Brier score was {before.known('brier'):.3f} and the calibration error "
        f"{before.known('ece'):.3f}."
    )


def _sets(scores: Fields) -> SetCoverage | None:
    if "conformal" not in scores.content:
        return None
    held = scores.part("conformal")
    coverage = held.part("coverage")
    return SetCoverage(
        target=held.known("target"),
        coverage=coverage.known("mean"),
        ci95=coverage.interval("ci95"),
        answered=held.known("answered"),
        mean_size=held.known("mean_size"),
        accuracy_of_answered=held.number("accuracy_of_answered"),
        learnt_from=held.text("learnt_from"),
    )
