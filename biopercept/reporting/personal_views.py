"""The curve over a person's own labels as sentences, tables and a figure; the random draw is stamped in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .curve_results import CurveScore, PersonalCurve, PersonalPoint
from .drawing import BLUE, FAINT, GREEN, INK, RED, Drawing, draw
from .tables import Table
from .text import NOT_DEFINED, count, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAMP = "CONTRAST, NOT A RESULT"
_COLOURS = {"reference": FAINT, "head": GREEN, "low-rank": RED, "full": BLUE, "scratch": INK}
_APART = 0.012  # of the axis: so that intervals of methods at the same minute lie side by side


def personal_sentences(held: PersonalCurve) -> tuple[str, ...]:
    """Return how the curve was made, and what was kept where nothing was shown to be better."""
    everybody = held.n_subjects + held.n_not_scored
    order = {
        "subject": "Every labelled window of a subject comes before every scored one",
        "class": "Within each class labelled windows come before scored ones (a stage has windows on both sides)",
    }[held.chronology]
    unchecked = {
        "keep": "the general model was kept",
        "adapt": "only a few steps were made and the point is UNCHECKED",
    }[held.unchecked]
    general = held.general
    return (
        f"Study {held.study}, task {held.task}: {held.n_subjects} of {count(everybody, 'subject')} scored, "
        f"{count(held.n_folds, 'fold')} over subjects, normalisation {held.normalisation}, "
        f"{count(held.seeds, 'repetition')}. The general model was fitted on other people alone and reaches a balanced "
        f"accuracy of {with_interval(general.balanced_accuracy.mean, general.balanced_accuracy.ci95)} and an AUROC of "
        f"{with_interval(general.auroc.mean, general.auroc.ci95)}. {order}, with {held.gap_seconds:g} s between them; "
        f"the {count(held.n_scored_windows, 'scored window')} are the same for every k and method.",
        "Where adapting was not better on the last labels, which were kept out of the fit, the general model was kept "
        f"(fell back); where no label could be set aside to check on, {unchecked}. Gains are paired, with 95 % "
        "bootstrap intervals over subjects.",
    )


def personal_tables(held: PersonalCurve) -> tuple[Table, ...]:
    """Return a row per tier, method and k; the contrast in a table of its own, stamped."""
    columns = (
        "Tier", "Method", "k", "Label minutes", "Until minute", "Subjects", "Balanced accuracy", "Gain", "AUROC gain",
        "Worse for", "Fell back", "Unchecked",
    )  # fmt: skip
    title = f"What labels of one's own are worth: gain over the general model, {count(held.n_subjects, 'subject')}"
    rows = tuple(_row(point) for point in held.points)
    tables = [Table(title, columns, rows, (False, False, *(True,) * 10))]
    if held.contrast:
        heads = ("Method", "k", "Label minutes", "Subjects", "Gain", "AUROC gain", "More than the first windows")
        title = (
            f"{_stamp(held)}: windows drawn at random from the whole recording, scored ones included; the last column "
            "is what that adds"
        )
        drawn = tuple(
            (
                point.method,
                str(point.k),
                f"{point.label_minutes:.1f}",
                f"{point.n_subjects:,}",
                signed_interval(point.gain),
                signed_interval(point.auroc_gain),
                signed_interval(point.added),
            )
            for point in held.contrast
        )
        tables.append(Table(title, heads, drawn, (False, *(True,) * 6)))
    return tuple(tables)


def personal_figure(held: PersonalCurve) -> Drawing:
    """Return gain against minutes of labels: a line per method with its interval, the random draw dashed."""
    methods = [name for name in _COLOURS if any(point.method == name for point in held.points)]
    longest = max((point.label_minutes for point in (*held.points, *held.contrast)), default=0.0) or 1.0

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=INK, linewidth=0.9)
        for place, method in enumerate(methods):
            shift = (place - (len(methods) - 1) / 2) * _APART * longest if method != "reference" else 0.0
            _line(axes, [point for point in held.points if point.method == method], shift)
            drawn = [p for p in held.contrast if p.method == method and p.gain.mean is not None]
            axes.plot(
                [point.label_minutes + shift for point in drawn],
                [point.gain.mean or 0.0 for point in drawn],
                color=_COLOURS[method], linestyle="--", marker="x", markersize=5, linewidth=1.0, alpha=0.75,
            )  # fmt: skip
        if held.contrast:
            axes.plot([], [], color=FAINT, linestyle="--", marker="x", label=f"dashed: {_stamp(held)}")
        axes.set_xlabel("minutes of the person's own labels (mean over subjects)")
        axes.set_ylabel("gain in balanced accuracy")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)

    caption = (
        f"Gain over the general model, paired within {count(held.n_subjects, 'subject')}, with its 95 % bootstrap "
        "interval over subjects; the last point of a line rests on all earlier labels. Hollow: nothing could be "
        f"checked for somebody. {_largest(held)}"
    )
    if held.contrast:
        caption += (
            f" Dashed ({_stamp(held)}): the same number of windows drawn at random from the whole recording, scored "
            "ones included; no deployed system has this."
        )
    return draw("own-labels", "Gain against minutes of one's own labels", caption, 4.0, paint)


def signed_interval(held: CurveScore) -> str:
    """Return a difference with its sign and its interval, or "n/a"."""
    if held.mean is None:
        return NOT_DEFINED
    ends = "" if held.ci95 is None else f" [{held.ci95[0]:+.3f}, {held.ci95[1]:+.3f}]"
    return f"{held.mean:+.3f}{ends}"


def _line(axes: Axes, points: Sequence[PersonalPoint], shift: float) -> None:
    """Draw one method by rising minutes: the line, every point with its interval, hollow where unchecked."""
    known = sorted((p for p in points if p.gain.mean is not None), key=lambda point: point.label_minutes)
    if not known:
        return
    colour = _COLOURS[known[0].method]
    across = [point.label_minutes + shift for point in known]
    means = [point.gain.mean or 0.0 for point in known]
    axes.plot(across, means, color=colour, linewidth=1.4, label=known[0].method)
    for at, mean, point in zip(across, means, known, strict=True):
        ci95 = point.gain.ci95
        reach = None if ci95 is None else [[mean - ci95[0]], [ci95[1] - mean]]
        face = "white" if point.n_unchecked else colour
        axes.errorbar(
            [at], [mean], yerr=reach, fmt="o", color=colour, markerfacecolor=face, markersize=5, capsize=3, zorder=3
        )


def _row(point: PersonalPoint) -> tuple[str, ...]:
    granted = {"few-shot": str(point.k), "personal": "all"}.get(point.tier, "none")
    return (
        point.tier,
        point.method,
        granted,
        f"{point.label_minutes:.1f}",
        f"{point.elapsed_minutes:.1f}",
        f"{point.n_subjects:,}",
        with_interval(point.balanced_accuracy.mean, point.balanced_accuracy.ci95),
        signed_interval(point.gain),
        signed_interval(point.auroc_gain),
        str(point.gain.n_below),
        str(point.n_fallen_back),
        str(point.n_unchecked),
    )


def _largest(held: PersonalCurve) -> str:
    """Return the result with the largest gain in words."""
    known = [point for point in held.points if point.gain.mean is not None]
    if not known:
        return "No gain is defined."
    best = max(known, key=lambda point: point.gain.mean or 0.0)
    labels = {"few-shot": f"k = {best.k}", "personal": "all earlier labels"}.get(best.tier, "no labels")
    return f"The largest: {best.method} with {labels}, {signed_interval(best.gain)}."


def _stamp(held: PersonalCurve) -> str:
    """Return what the file stamps on the contrast, and this where it stamps nothing."""
    return next((point.stamp for point in held.contrast if point.stamp), STAMP)
