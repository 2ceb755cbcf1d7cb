"""The table and the figure of missing sensors: what is left of the score with every set of sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .drawing import BLUE, FAINT, INK, Drawing, draw
from .results import CrossValidation
from .sensor_results import SensorSubset
from .tables import Table
from .text import count, score, shortened, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 40


def sensor_table(held: CrossValidation) -> Table | None:
    """Return the scores with every set of sensors; None where it was not asked."""
    if not held.sensor_subsets:
        return None
    rows = tuple(
        (
            row.name,
            f"{row.n_subjects:,}",
            f"{row.n_windows:,}",
            with_interval(row.balanced_accuracy, row.balanced_accuracy_ci95),
            with_interval(row.auroc, row.auroc_ci95),
            "" if row.name == "all" else with_interval(row.difference, row.difference_ci95),
        )
        for row in held.sensor_subsets
    )
    columns = ("Sensors", "Subjects", "Windows", "Balanced accuracy", "AUROC", "Against all, paired")
    title = f"{held.model} with fewer sensors when tested, trained once with all: {count(len(rows), 'set')} of sensors"
    return Table(title, columns, rows, (False, True, True, True, True, True), fold_above=20)


def sensor_figure(held: CrossValidation) -> Drawing | None:
    """Return balanced accuracy with every set of sensors; None where it was not asked.

    Of more than forty sets those with all sensors, without one, and with one alone are drawn.
    """
    drawn = _drawn(held.sensor_subsets)
    if not drawn:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, row in enumerate(drawn):
            mean, ci95 = row.balanced_accuracy, row.balanced_accuracy_ci95
            if mean is None:
                continue
            reach = [[mean - ci95[0]], [ci95[1] - mean]] if ci95 else None
            colour = INK if row.name == "all" else BLUE
            axes.errorbar([mean], [place], xerr=reach, fmt="o", color=colour, markersize=5, capsize=3)
        axes.axvline(1.0 / len(held.classes), color=FAINT, linestyle="--", linewidth=1)
        if drawn[0].balanced_accuracy is not None:
            axes.axvline(drawn[0].balanced_accuracy, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(drawn)))
        axes.set_yticklabels([shortened(row.name, 34) for row in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("balanced accuracy (0 to 1)")
        axes.grid(axis="x")

    guessing = score(1.0 / len(held.classes))
    caption = (
        f"{held.model}, fitted once in each fold with all sensors and asked with fewer about "
        f"{count(held.n_subjects, 'subject')}: mean over subjects with its 95 % bootstrap interval. The line is the "
        f"score with all sensors, the dashed one guessing ({guessing}). A sensor goes with all that is computed from "
        "it; windows with nothing left that the model reads are not scored."
    )
    return draw("missing-sensors", "With fewer sensors", caption, 0.9 + 0.26 * len(drawn), paint)


def _drawn(subsets: tuple[SensorSubset, ...]) -> tuple[SensorSubset, ...]:
    if len(subsets) <= _MOST_ROWS:
        return subsets
    return tuple(row for row in subsets if row.name == "all" or row.name.startswith(("without ", "only ")))
