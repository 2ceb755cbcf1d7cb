"""What follows an event, drawn: the mean course of each series by condition, with its interval over subjects."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from biopercept.errors import count
from biopercept.measures.around import COURSE_UNITS, HEART_RATE, SKIN
from biopercept.measures.averages import MeanCourse
from biopercept.report.drawing import FAINT, INK, Drawing, FigureData, colours, draw
from biopercept.report.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {HEART_RATE: "heart rate", SKIN: "skin conductance"}
_LINES = ("-", "--", ":")
_PANEL_INCHES = 2.6


def around_figure(courses: Sequence[MeanCourse], classes: Sequence[str] = ()) -> Drawing:
    """Return a panel per series, a line per condition; a condition of one subject has a line and no interval.

    ``classes`` are those of the study's tasks, in their order: a condition has the colour that it has on every page.
    """
    series = [name for name in COURSE_UNITS if any(course.series == name for course in courses)]
    caption = _caption(courses)
    shades = colours(classes, (course.condition for course in courses))
    hatches = list(dict.fromkeys(hatch for _, hatch in shades.values()))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, series, strict=True):
            of_series = [course for course in courses if course.series == name]
            for course in of_series:
                colour, hatch = shades[course.condition]
                _line(axes, course, colour, _LINES[hatches.index(hatch) % len(_LINES)])
            axes.axvline(0.0, color=INK, linewidth=0.9)
            axes.axhline(0.0, color=FAINT, linewidth=0.8)
            axes.set_ylabel(f"change of {_WORDS[name]},\n{COURSE_UNITS[name]}")
            axes.grid(axis="y")
            _legend(axes, of_series)
        panels[-1].set_xlabel("seconds from the event")
        figure.supxlabel(textwrap.fill(caption, 140), x=0.01, ha="left", fontsize=7.5)

    height = _PANEL_INCHES * len(series) + 0.9
    columns = ("series", "condition", "seconds from the event", "mean change", "low", "high", "subjects", "events")
    rows = [
        (one.series, one.condition, *(float(v) for v in values), one.n_subjects, one.n_events)
        for one in courses
        for values in zip(one.offsets, one.mean, one.low, one.high, strict=True)
    ]
    return draw("around", "What follows the events", caption, height, paint).with_data(FigureData(columns, tuple(rows)))


def _line(axes: Axes, course: MeanCourse, colour: str, style: str) -> None:
    axes.plot(course.offsets, course.mean, color=colour, linestyle=style, linewidth=1.5)
    if np.isfinite(course.low).any():
        axes.fill_between(course.offsets, course.low, course.high, color=colour, alpha=0.18, linewidth=0)


def _legend(axes: Axes, courses: Sequence[MeanCourse]) -> None:
    """Name each line with its n; set afterwards, as matplotlib drops a label that begins with an underscore."""
    lines = axes.get_lines()[: len(courses)]
    legend = axes.legend(
        lines, [str(n) for n in range(len(lines))], loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2
    )
    for text, course in zip(legend.get_texts(), courses, strict=True):
        alone = ", no interval" if course.n_subjects == 1 else ""
        n = f"{count(course.n_subjects, 'subject')}{alone}, {count(course.n_events, 'event')}"
        text.set_text(f"{shortened(course.condition)} ({n})")


def _caption(courses: Sequence[MeanCourse]) -> str:
    """Return how the lines are to be read, and what the bands are."""
    alone = sorted({shortened(course.condition) for course in courses if course.n_subjects == 1})
    words = (
        "Mean over subjects of each subject's mean change from the time before the event, with its 95 % interval over "
        "subjects (Student's t). Events that leave the recording, or of which a fifth is masked, are left out."
    )
    if alone:
        words += f" Of one subject there is no interval: {', '.join(alone)}."
    return words
