"""How the fits of a cross-validation went: the loss by epoch, a line per fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from biopercept.recording import FloatArray
from biopercept.report.drawing import BLUE, RED, Drawing, FigureData, draw
from biopercept.report.text import count, score
from biopercept.results.training import TrainingCourse

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_figure(courses: Sequence[TrainingCourse], model: str) -> Drawing | None:
    """Return the losses of each fit; None where no model was fitted in epochs."""
    if not courses:
        return None
    last = max(course.epochs[-1] for course in courses)
    training = [_by_epoch(course, course.training, last) for course in courses]
    validation = [_by_epoch(course, course.validation, last) for course in courses]
    has_validation = any(np.isfinite(values).any() for values in validation)
    epochs = np.arange(1, last + 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (seen, unseen) in enumerate(zip(training, validation, strict=True)):
            axes.plot(epochs, seen, color=BLUE, linewidth=1.0, alpha=0.6, label=None if place else "training people")
            if has_validation:
                label = None if place else "people set aside"
                axes.plot(epochs, unseen, color=RED, linewidth=1.0, alpha=0.6, linestyle="--", label=label)
        axes.set_xlabel("epoch (passes over the training windows)")
        axes.set_ylabel("loss (no unit, less is better)")
        axes.grid()
        axes.legend(loc="upper right")

    names = [
        f"fold {course.fold}" + (f", repetition {course.repetition + 1}" if _repeats(courses) else "")
        for course in courses
    ]
    panels = [("loss on training people", len(names))]
    columns = training
    if has_validation:
        panels.append(("loss on people set aside", len(names)))
        columns = [*training, *validation]
    shown = names * len(panels)
    data = FigureData(
        ("epoch", *shown),
        tuple(zip(epochs.tolist(), *(values.tolist() for values in columns), strict=True)),
        tuple(panels),
    )
    ends = np.array([course.training[-1] for course in courses])
    seen_by = (
        "the dashed lines are people of the training side who were set aside to say when to stop, never held-out ones"
        if has_validation
        else "nobody was set aside, so that every fit ran to its last epoch"
    )
    caption = (
        f"{model}: {count(len(courses), 'fit')} ({count(len({c.fold for c in courses}), 'fold')}), {seen_by}. Last "
        f"training loss: median {score(float(np.median(ends)))}, {score(min(ends))} to {score(max(ends))}. "
        "A loss on training people says how training went, and nothing about people never seen."
    )
    return draw("training", "Training, epoch by epoch", caption, 3.2, paint, data=data)


def _by_epoch(course: TrainingCourse, losses: Sequence[float | None], last: int) -> FloatArray:
    values = np.full(last, np.nan)
    values[np.array(course.epochs) - 1] = [np.nan if loss is None else loss for loss in losses]
    return values


def _repeats(courses: Sequence[TrainingCourse]) -> bool:
    return any(course.repetition for course in courses)
