"""The figure of risk against coverage, and the sentences about calibration and prediction sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .drawing import BLUE, FAINT, GREEN, INK, Drawing, draw
from .results import CrossValidation
from .text import count, score, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = {"confidence": (BLUE, "-"), "gated": (GREEN, "--"), "quality": (FAINT, "-.")}


def risk_figure(held: CrossValidation) -> Drawing | None:
    """Return the share of wrong answers among the most trusted windows; None where it is not known."""
    trust = held.trust
    if not trust.risk:
        return None
    names = {
        "confidence": "most probable first",
        "gated": f"the same, quality below {score(trust.least_quality, 2)} last",
        "quality": "best signal first",
    }

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for rule, risk in trust.risk.items():
            colour, line = _LINES.get(rule, (INK, ":"))
            label = f"{names.get(rule, rule)} (area {score(trust.aurc.get(rule))})"
            axes.plot(trust.coverage, risk, color=colour, linestyle=line, marker="o", markersize=3, label=label)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("share of windows answered (coverage)")
        axes.set_ylabel("share of answers that are wrong (risk)")
        axes.grid()
        axes.legend(loc="best")

    caption = (
        f"{held.model}: {count(held.n_windows, 'held-out window')} of {count(held.n_subjects, 'subject')}. The left "
        "end answers only the most trusted windows, the right end all. A curve that falls to the left says "
        "that trust is earned; a lower area is better. Over all windows, without interval."
    )
    return draw("risk-coverage", "Risk against coverage", caption, 3.4, paint)


def trust_sentences(held: CrossValidation) -> tuple[str, ...]:
    """Return what the calibration and the prediction sets did, in words; nothing where there were none."""
    trust, found = held.trust, []
    if trust.brier_ci95 is not None and trust.ece_ci95 is not None:
        found.append(
            f"Over all windows the Brier score is {with_interval(held.brier, trust.brier_ci95)} and the calibration "
            f"error {with_interval(held.ece, trust.ece_ci95)} (95 % bootstrap over subjects)."
        )
    if trust.calibration:
        found.append(trust.calibration)
    if trust.sets is not None:
        sets = trust.sets
        found.append(
            f"Prediction sets were asked to hold the true class in {sets.target:.0%} of a new person's windows. They "
            f"did in {with_interval(sets.coverage, sets.ci95)} (mean over {count(held.n_subjects, 'subject')}), with "
            f"{sets.mean_size:.2f} classes each; {sets.answered:.0%} of windows were answered by one class, "
            f"{score(sets.accuracy_of_answered)} of these rightly, the others abstained. Learnt from "
            f"{sets.learnt_from}."
        )
    return tuple(found)
