"""The learning curve as a table and a figure per task: score against the number of subjects with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .curve_results import LearningCurve, LearningPoint
from .drawing import BLUE, Drawing, draw
from .tables import Table
from .text import count, span, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = {"balanced_accuracy": "balanced accuracy", "mae": "mean absolute error"}


def learning_sentence(held: LearningCurve) -> str:
    """Return how the points are to be read together."""
    return (
        f"{held.model} with the labels of more and more of the training subjects. The folds are the same at every "
        "share, everybody is tested at each, and who has labels at a smaller share has them at a larger one: points "
        "are over the same subjects and not independent."
    )


def learning_table(held: LearningCurve) -> Table:
    """Return a row per share and task: subjects with labels, the score with its 95 % interval."""
    rows = tuple(
        (
            f"{point.share:g}",
            span(point.subjects_labelled),
            point.task,
            _SCORES[point.score],
            with_interval(point.mean, point.ci95),
        )
        for points in held.questions
        for point in points
    )
    columns = ("Share of labels", "Labelled subjects per fold", "Task", "Score", "Mean [95 % CI]")
    title = f"Learning curve of {held.model}: {count(len(rows), 'point')}, intervals over subjects"
    return Table(title, columns, rows, (True, True, False, False, True))


def learning_figures(held: LearningCurve) -> tuple[Drawing, ...]:
    """Return a figure per task."""
    several = len(held.questions) > 1
    return tuple(
        _figure(held.model, points, f"-{number}" if several else "") for number, points in enumerate(held.questions, 1)
    )


def _figure(model: str, points: tuple[LearningPoint, ...], suffix: str) -> Drawing:
    known = [(point, point.mean) for point in points if point.mean is not None]
    words = _SCORES[points[0].score]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        middle = [sum(point.subjects_labelled) / 2 for point, _ in known]
        axes.plot(middle, [mean for _, mean in known], color=BLUE, linewidth=1.4)
        for at, (point, mean) in zip(middle, known, strict=True):
            low, high = point.subjects_labelled
            reach = None if point.ci95 is None else [[mean - point.ci95[0]], [point.ci95[1] - mean]]
            wide = [[at - low], [high - at]] if high > low else None
            axes.errorbar([at], [mean], yerr=reach, xerr=wide, fmt="o", color=BLUE, markersize=5, capsize=3)
        axes.set_xlim(left=0)
        axes.set_xlabel("training subjects with labels, per fold")
        axes.set_ylabel(words)
        axes.grid(axis="y")

    told = "; ".join(
        f"{span(point.subjects_labelled)} subjects {with_interval(point.mean, point.ci95)}" for point in points[:6]
    )
    caption = (
        f"{model}, task {points[0].task}: mean {words} over the tested subjects with its 95 % bootstrap interval. A "
        f"point lies at the middle of the fewest and the most labelled subjects of a fold. {told}."
    )
    return draw(f"learning-curve{suffix}", f"Score against labelled subjects: {points[0].task}", caption, 3.4, paint)
