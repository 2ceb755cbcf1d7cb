"""Figures of scores: models side by side, subjects, confusion matrix, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .counting import confusion_counts, reliability_bins
from .drawing import BLUE, FAINT, GRID, INK, RED, Drawing, draw
from .results import CrossValidation
from .tables import estimate, labels_of
from .text import count, score, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 60
_LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 4, "borderaxespad": 0.2}


def models_figure(validations: Sequence[CrossValidation]) -> Drawing:
    """Return balanced accuracy of several models: every subject a dot, the mean with its 95 % interval."""
    names = labels_of(validations)
    level = validations[0].chance_level

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, held in enumerate(validations):
            dots = [s.balanced_accuracy for s in held.subjects if s.balanced_accuracy is not None]
            axes.scatter(dots, _spread(len(dots), row), s=9, color=FAINT, alpha=0.6, linewidths=0)
            _mean_with_interval(axes, held, row)
        _row_names(axes, names)
        _score_axis(axes, level, "balanced accuracy (0 to 1)")
        axes.legend(**_LEGEND_ABOVE)

    below = ", ".join(
        f"{name} {estimate(held.balanced_accuracy)}" for name, held in zip(names, validations, strict=True)
    )
    numbers = sorted({held.n_subjects for held in validations})
    subjects = " or ".join(f"{n:,}" for n in numbers)
    caption = (
        f"Mean over subjects with its 95 % bootstrap interval over n = {subjects} subjects; a grey dot is one subject; "
        f"the dashed line is guessing ({score(level)}). Probes (squares) must not be good. {below}."
    )
    return draw("models", "Models side by side", caption, 0.9 + 0.42 * len(validations), paint)


def _spread(n: int, row: int) -> NDArray[np.float64]:
    """Return heights within a row, so that dots of the same score can be told apart."""
    steps = (np.arange(n) * 0.618) % 1.0
    return np.asarray(row + 0.14 + 0.2 * steps)


def _mean_with_interval(axes: Axes, held: CrossValidation, row: int) -> None:
    mean, ci95 = held.balanced_accuracy.mean, held.balanced_accuracy.ci95
    if mean is None:
        return
    shape, colour = ("s", INK) if held.is_probe else ("o", BLUE)
    kind = "probe" if held.is_probe else "model"
    label = f"{kind}: mean and 95 % interval" if _is_first(axes, kind) else None
    reach = [[mean - ci95[0]], [ci95[1] - mean]] if ci95 else None
    axes.errorbar([mean], [row], xerr=reach, fmt=shape, color=colour, markersize=6, capsize=3, label=label)


def _is_first(axes: Axes, kind: str) -> bool:
    return not any(text.startswith(kind) for text in axes.get_legend_handles_labels()[1])


def _row_names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels([shortened(name, 30) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _score_axis(axes: Axes, level: float, label: str) -> None:
    axes.axvline(level, color=INK, linestyle="--", linewidth=0.9, label=f"guessing ({score(level)})")
    axes.set_xlim(0.0, 1.02)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.grid(axis="x")
    axes.set_xlabel(label)


def subjects_figure(held: CrossValidation) -> Drawing:
    """Return balanced accuracy per subject, sorted, with the mean over subjects and its 95 % interval."""
    rows = sorted(
        (s for s in held.subjects if s.balanced_accuracy is not None),
        key=lambda s: (-(s.balanced_accuracy or 0.0), s.participant),
    )
    mean, ci95 = held.balanced_accuracy.mean, held.balanced_accuracy.ci95
    level = held.chance_level

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        values = np.array([s.balanced_accuracy or 0.0 for s in rows])
        is_low = values < level
        if ci95:
            axes.axvspan(*ci95, color=BLUE, alpha=0.13, linewidth=0, label="95 % interval of the mean")
        if mean is not None:
            axes.axvline(mean, color=BLUE, linewidth=1.4, label=f"mean over subjects ({score(mean)})")
        for place, subject in enumerate(rows):
            if subject.ci95:
                axes.plot(subject.ci95, [place, place], color=FAINT, linewidth=1.2)
        places = np.arange(len(rows))
        axes.scatter(values[~is_low], places[~is_low], s=26, color=BLUE, zorder=3, label="subject")
        if is_low.any():
            axes.scatter(
                values[is_low], places[is_low], s=30, color=RED, marker="v", zorder=3, label="subject below chance"
            )
        _row_names(axes, _thinned([s.participant for s in rows]))
        _score_axis(axes, level, "balanced accuracy (0 to 1)")
        axes.grid(axis="y", linewidth=0.5)
        axes.legend(**{**_LEGEND_ABOVE, "ncols": 3})

    bars = " A line through a dot is that subject's 95 % interval." if any(s.ci95 for s in rows) else ""
    undefined = len(held.subjects) - len(rows)
    left = f" {count(undefined, 'subject')} without a defined score not drawn." if undefined else ""
    caption = (
        f"{held.model}: every subject as scored when held out, n = {len(rows)} subjects, "
        f"{count(held.n_windows, 'window')}; "
        f"mean {estimate(held.balanced_accuracy)}, the band is its 95 % bootstrap interval over subjects.{bars}{left}"
    )
    height = 1.3 + 0.19 * min(max(len(rows), 3), _MOST_ROWS)
    return draw("subjects", "Scores per subject", caption, height, paint)


def _thinned(names: Sequence[str]) -> list[str]:
    """Return names with all but every n-th emptied where there are too many to be read."""
    step = -(-len(names) // _MOST_ROWS)
    return [name if place % step == 0 else "" for place, name in enumerate(names)]


def confusion_figure(held: CrossValidation) -> Drawing:
    """Return the confusion matrix over all held-out windows, as counts and shares of each true class."""
    counts = confusion_counts(held.predictions)
    total = int(counts.sum())
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name, 18) for name in held.classes]
    n = len(names)
    side = 3.2 + 0.45 * min(n - 2, 10)

    def paint(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        shades = LinearSegmentedColormap.from_list("share", ["#ffffff", "#9ecae1", "#08519c"])
        axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
        axes.set_xticks(range(n), names, rotation=0 if n <= 4 else 40, ha="center" if n <= 4 else "right")
        axes.set_yticks(range(n), names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GRID)
        axes.tick_params(which="minor", length=0)
        for row, column in np.ndindex(n, n) if n <= 12 else ():
            ink = "white" if shares[row, column] > 0.55 else INK
            words = f"{100 * shares[row, column]:.0f} %\n{counts[row, column]:,}"
            axes.text(column, row, words, ha="center", va="center", color=ink, fontsize=9 if n <= 6 else 7)

    caption = (
        f"{held.model}: {count(total, 'held-out window')} of {count(held.n_subjects, 'subject')}, each predicted "
        "by a model that "
        "never saw its subject's test windows. Percent of each row, and the number of windows."
    )
    return draw("confusion", "Confusion matrix", caption, side - 0.2, paint, width=side)


def reliability_figure(held: CrossValidation) -> Drawing | None:
    """Return predicted probability against what happened; None where no window has a probability."""
    bins = reliability_bins(held.predictions)
    if bins is None:
        return None
    is_binary = len(held.classes) == 2
    which = f"of “{shortened(held.classes[1])}”" if is_binary else "of the predicted class"
    truth = (
        f"share of windows that are “{shortened(held.classes[1])}”" if is_binary else "share of windows predicted right"
    )

    def paint(figure: Figure) -> None:
        curve, pile = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        curve.plot([0, 1], [0, 1], linestyle="--", color=INK, linewidth=0.9, label="perfectly calibrated")
        curve.plot(bins.predicted, bins.observed, color=BLUE, marker="o", markersize=5, label="model")
        curve.set_ylim(-0.02, 1.02)
        curve.set_xlim(-0.02, 1.02)
        curve.set_ylabel(truth)
        curve.grid()
        curve.legend(loc="upper left")
        pile.hist(bins.values, bins=np.linspace(0, 1, 41), color=FAINT)
        pile.set_ylabel("windows (count)")
        pile.set_xlabel(f"predicted probability {which}")
        pile.grid(axis="y")

    caption = (
        f"{held.model}: {count(int(bins.n.sum()), 'held-out window')} in {count(len(bins.n), 'bin')} of about "
        "equal size "
        f"({int(bins.n.min()):,} to {int(bins.n.max()):,} windows each); points on the dashed line mean that a "
        "probability can be "
        f"read as one. Expected calibration error of the predicted class {score(held.ece)}, Brier score "
        f"{score(held.brier)} (0 is best). "
        "Windows of one subject are not independent, so the points carry no interval."
    )
    return draw("reliability", "Reliability of the probabilities", caption, 4.2, paint)
