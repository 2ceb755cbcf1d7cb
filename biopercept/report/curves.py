"""The curves over labels as sentences, tables, figures and Markdown; the random draw is stamped in each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from biopercept.errors import count
from biopercept.report.drawing import BLUE, FAINT, GREEN, INK, RED, Drawing, FigureData, draw, reach
from biopercept.report.text import Table, interval_text, markdown, markdown_table, span, with_interval
from biopercept.results.curves import STAMP, CurveScore, LearningCurve, LearningPoint, PersonalCurve, PersonalPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SCORES = {"balanced_accuracy": "balanced accuracy", "mae": "mean absolute error"}
_COLOURS = {"reference": FAINT, "head": GREEN, "low-rank": RED, "full": BLUE, "scratch": INK}
_APART = 0.012  # of the axis: so that intervals of methods at the same minute lie side by side


def learning_sentence(curve: LearningCurve) -> str:
    """Return how the points are to be read together."""
    return (
        f"{curve.model} with the labels of more and more of the training subjects. The folds are the same at every "
        "share, everybody is tested at each, and who has labels at a smaller share has them at a larger one: points "
        "are over the same subjects and not independent."
    )


def learning_table(curve: LearningCurve) -> Table:
    """Return a row per share and task: subjects with labels, the score with its 95 % interval."""
    rows = [
        {
            "Share of labels": f"{point.share:g}",
            "Labelled subjects per fold": span(point.subjects_labelled),
            "Task": point.task,
            "Score": _SCORES[point.score],
            "Mean [95 % CI]": with_interval(point.mean, point.ci95),
        }
        for points in curve.questions
        for point in points
    ]
    title = f"Learning curve of {curve.model}: {count(len(rows), 'point')}, intervals over subjects"
    return Table.of(title, rows, ("Task", "Score"))


def learning_figures(curve: LearningCurve) -> tuple[Drawing, ...]:
    """Return a figure per task."""
    several = len(curve.questions) > 1
    return tuple(
        _figure(curve.model, points, f"-{number}" if several else "")
        for number, points in enumerate(curve.questions, 1)
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
            wide = [[at - low], [high - at]] if high > low else None
            axes.errorbar(
                [at], [mean], yerr=reach(mean, point.ci95), xerr=wide, fmt="o", color=BLUE, markersize=5, capsize=3
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("training subjects with labels, per fold")
        axes.set_ylabel(words)
        axes.grid(axis="y")

    points_text = "; ".join(
        f"{span(point.subjects_labelled)} subjects {with_interval(point.mean, point.ci95)}" for point in points[:6]
    )
    caption = (
        f"{model}, task {points[0].task}: mean {words} over the tested subjects with its 95 % bootstrap interval. A "
        f"point lies at the middle of the fewest and the most labelled subjects of a fold. {points_text}."
    )
    rows = tuple(
        (sum(point.subjects_labelled) / 2, mean, *(point.ci95 or (None, None)))
        for point, mean in sorted(known, key=lambda one: sum(one[0].subjects_labelled))
    )
    data = FigureData(
        ("labelled subjects per fold", words, "low", "high"), rows, ((words, 3),) if len(rows) > 1 else ()
    )
    title = f"Score against labelled subjects: {points[0].task}"
    return draw(f"learning-curve{suffix}", title, caption, 3.4, paint).with_data(data)


def learning_page(curve: LearningCurve) -> str:
    """Return the curve as a Markdown page."""
    warnings = "".join(f"\n{markdown(warning)}\n" for warning in curve.warnings)
    return (
        f"{textwrap.fill(markdown(learning_sentence(curve)), 120)}\n\n{markdown_table(learning_table(curve))}{warnings}"
    )


def personal_sentences(curve: PersonalCurve) -> tuple[str, ...]:
    """Return how the curve was made, and what was kept where nothing was shown to be better."""
    everybody = curve.n_subjects + len(curve.not_scored)
    order = {
        "subject": "Every labelled window of a subject comes before every scored one",
        "class": "Within each class labelled windows come before scored ones (a stage has windows on both sides)",
    }[curve.chronology]
    unchecked = {
        "keep": "the general model was kept",
        "adapt": "only a few steps were made and the point is UNCHECKED",
    }[curve.unchecked]
    accuracy, auroc = curve.general.balanced_accuracy, curve.general.auroc
    return (
        f"Study {curve.study}, task {curve.task}: {curve.n_subjects} of {count(everybody, 'subject')} scored, "
        f"{count(curve.n_folds, 'fold')} over subjects, normalisation {curve.normalisation}, "
        f"{count(curve.seeds, 'repetition')}, seed {curve.seed}. The general model was fitted on other people alone "
        f"and reaches a balanced accuracy of {with_interval(accuracy.mean, accuracy.ci95)} and an AUROC of "
        f"{with_interval(auroc.mean, auroc.ci95)}. {order}, with {curve.gap_seconds:g} s between them; the "
        f"{count(curve.n_scored_windows, 'scored window')} are the same for every k and method.",
        "Where adapting was not better on the last labels, which were kept out of the fit, the general model was kept "
        f"(fell back); where no label could be set aside to check on, {unchecked}. Gains are paired, with 95 % "
        "bootstrap intervals over subjects.",
    )


def personal_tables(curve: PersonalCurve) -> tuple[Table, ...]:
    """Return a row per tier, method and k; the contrast in a table of its own, stamped."""
    columns = (
        "Tier", "Method", "k", "Label minutes", "Until minute", "Subjects", "Balanced accuracy", "Gain", "AUROC gain",
        "Worse for", "Fell back", "Unchecked",
    )  # fmt: skip
    title = f"What labels of one's own are worth: gain over the general model, {count(curve.n_subjects, 'subject')}"
    rows = tuple(_row(point) for point in curve.points)
    tables = [Table(title, columns, rows, (False, False, *(True,) * 10))]
    if curve.contrast:
        title = (
            f"{_stamp(curve)}: windows drawn at random from the whole recording, scored ones included; the last column "
            "is what that adds"
        )
        drawn = [
            {
                "Method": point.method,
                "k": str(point.k),
                "Label minutes": f"{point.label_minutes:.1f}",
                "Subjects": f"{point.n_subjects:,}",
                "Gain": signed_interval(point.gain.balanced_accuracy),
                "AUROC gain": signed_interval(point.gain.auroc),
                "More than the first windows": signed_interval(point.over_chronological.balanced_accuracy),
            }
            for point in curve.contrast
        ]
        tables.append(Table.of(title, drawn, ("Method",)))
    return tuple(tables)


def brief_personal_tables(curve: PersonalCurve) -> tuple[Table, ...]:
    """Return the tables with the columns that go on a terminal; the others stand on the page."""
    brief = ("Method", "k", "Label minutes", "Subjects", "Gain", "AUROC gain", "More than the first windows")
    return tuple(table.of_columns(brief) for table in personal_tables(curve))


def personal_figure(curve: PersonalCurve) -> Drawing:
    """Return gain against minutes of labels: a line per method with its interval, the random draw dashed."""
    methods = [name for name in _COLOURS if any(point.method == name for point in curve.points)]
    longest = max((point.label_minutes for point in (*curve.points, *curve.contrast)), default=0.0) or 1.0

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=INK, linewidth=0.9)
        for place, method in enumerate(methods):
            shift = (place - (len(methods) - 1) / 2) * _APART * longest if method != "reference" else 0.0
            _line(axes, [point for point in curve.points if point.method == method], shift)
            drawn = [p for p in curve.contrast if p.method == method and p.gain.balanced_accuracy.mean is not None]
            axes.plot(
                [point.label_minutes + shift for point in drawn],
                [point.gain.balanced_accuracy.mean or 0.0 for point in drawn],
                color=_COLOURS[method], linestyle="--", marker="x", markersize=5, linewidth=1.0, alpha=0.75,
            )  # fmt: skip
        if curve.contrast:
            axes.plot([], [], color=FAINT, linestyle="--", marker="x", label=f"dashed: {_stamp(curve)}")
        axes.set_xlabel("minutes of the person's own labels (mean over subjects)")
        axes.set_ylabel("gain in balanced accuracy")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)

    caption = (
        f"Gain over the general model, paired within {count(curve.n_subjects, 'subject')}, with its 95 % bootstrap "
        "interval over subjects; the last point of a line rests on all earlier labels. Hollow: nothing could be "
        f"checked for somebody. {_largest(curve)}"
    )
    if curve.contrast:
        caption += (
            f" Dashed ({_stamp(curve)}): the same number of windows drawn at random from the whole recording, scored "
            "ones included; no deployed system has this."
        )
    return draw("own-labels", "Gain against minutes of one's own labels", caption, 4.0, paint)


def signed_interval(value: CurveScore) -> str:
    """Return a difference with its sign and its interval, or "n/a"."""
    return interval_text(value.mean, value.ci95, "{:+.3f}")


def _line(axes: Axes, points: Sequence[PersonalPoint], shift: float) -> None:
    """Draw one method by rising minutes: the line, every point with its interval, hollow where unchecked."""
    known = sorted(
        (p for p in points if p.gain.balanced_accuracy.mean is not None), key=lambda point: point.label_minutes
    )
    if not known:
        return
    colour = _COLOURS[known[0].method]
    across = [point.label_minutes + shift for point in known]
    means = [point.gain.balanced_accuracy.mean or 0.0 for point in known]
    axes.plot(across, means, color=colour, linewidth=1.4, label=known[0].method)
    for at, mean, point in zip(across, means, known, strict=True):
        bars = reach(mean, point.gain.balanced_accuracy.ci95)
        face = "white" if point.n_subjects_unchecked else colour
        axes.errorbar(
            [at], [mean], yerr=bars, fmt="o", color=colour, markerfacecolor=face, markersize=5, capsize=3, zorder=3
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
        signed_interval(point.gain.balanced_accuracy),
        signed_interval(point.gain.auroc),
        str(point.gain.balanced_accuracy.n_below),
        str(point.n_subjects_fallen_back),
        str(point.n_subjects_unchecked),
    )


def _largest(curve: PersonalCurve) -> str:
    """Return the result with the largest gain in words."""
    known = [point for point in curve.points if point.gain.balanced_accuracy.mean is not None]
    if not known:
        return "No gain is defined."
    best = max(known, key=lambda point: point.gain.balanced_accuracy.mean or 0.0)
    labels = {"few-shot": f"k = {best.k}", "personal": "all earlier labels"}.get(best.tier, "no labels")
    return f"The largest: {best.method} with {labels}, {signed_interval(best.gain.balanced_accuracy)}."


def _stamp(curve: PersonalCurve) -> str:
    """Return what the file stamps on the contrast, and this where it stamps nothing."""
    return next((point.stamp for point in curve.contrast if point.stamp), STAMP)


def personal_page(curve: PersonalCurve) -> str:
    """Return the Markdown page of the curve."""
    sentences = "\n\n".join(textwrap.fill(markdown(text), 120) for text in personal_sentences(curve))
    parts = ["# What labels of one's own are worth", sentences]
    if curve.warnings:
        parts.append("\n".join(f"- {markdown(warning)}" for warning in curve.warnings))
    tables = [markdown_table(table).rstrip("\n") for table in personal_tables(curve)]
    parts += ["## The curve", tables[0]]
    if curve.contrast:
        parts += [
            f"## {STAMP}: windows drawn at random",
            "The same k, drawn at random from the subject's full recording, so that labelled windows overlap the "
            "scored ones or are among them. Each repetition draws again, and minutes are means over the draws. No "
            "deployed system has this; the last column is what it adds.",
            tables[1],
        ]
    return "\n\n".join(parts) + "\n"
