"""Figures of a cross-validation: models, subjects, classes, reliability, risk, sensors, training, predicted numbers.

The little that a report counts by itself is here: the confusion matrix and the bins of the reliability curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import count, ranged
from biopercept.recording import FloatArray
from biopercept.report.drawing import BLUE, FAINT, GREEN, GRID, INK, RED, Drawing, FigureData, draw, name_rows, reach
from biopercept.report.scores import N_BINS, estimate, labels_of, pooled
from biopercept.report.text import score, shortened, span
from biopercept.results.cross_validation import CrossValidation, NumberValidation, SensorSubset
from biopercept.results.predictions import Predictions
from biopercept.results.training import TrainingCourse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_ROWS = 60
_MOST_DOTS = 5000
_LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 4, "borderaxespad": 0.2}
_LINES = {"confidence": (BLUE, "-"), "gated": (GREEN, "--"), "quality": (FAINT, "-.")}
_MOST_SUBSETS = 40


def models_figure(validations: Sequence[CrossValidation]) -> Drawing:
    """Return balanced accuracy of several models: every subject a dot, the mean with its 95 % interval."""
    names = labels_of(validations)
    level = validations[0].chance_level

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, run in enumerate(validations):
            dots = [s.balanced_accuracy for s in run.subjects if s.balanced_accuracy is not None]
            axes.scatter(dots, _spread(len(dots), row), s=9, color=FAINT, alpha=0.6, linewidths=0)
            _mean_with_interval(axes, run, row)
        name_rows(axes, [shortened(name, 30) for name in names])
        _score_axis(axes, level, "balanced accuracy (0 to 1)")
        axes.legend(**_LEGEND_ABOVE)

    below = ", ".join(f"{name} {estimate(run.balanced_accuracy)}" for name, run in zip(names, validations, strict=True))
    numbers = sorted({run.n_subjects for run in validations})
    subjects = " or ".join(f"{n:,}" for n in numbers)
    caption = (
        f"Mean over subjects with its 95 % bootstrap interval over n = {subjects} subjects; a grey dot is one subject; "
        f"the dashed line is guessing ({score(level)}). Probes (squares) must not be good. {below}."
    )
    rows = tuple(
        (name, s.participant, s.balanced_accuracy, s.n_windows)
        for name, run in zip(labels_of(validations), validations, strict=True)
        for s in run.subjects
    )
    data = FigureData(("model", "subject", "balanced accuracy", "windows"), rows)
    return draw("models", "Models side by side", caption, 0.9 + 0.42 * len(validations), paint).with_data(data)


def _spread(n: int, row: int) -> NDArray[np.float64]:
    """Return heights within a row, so that dots of the same score can be told apart."""
    steps = (np.arange(n) * 0.618) % 1.0
    return np.asarray(row + 0.14 + 0.2 * steps)


def _mean_with_interval(axes: Axes, run: CrossValidation, row: int) -> None:
    mean, ci95 = run.balanced_accuracy.mean, run.balanced_accuracy.ci95
    if mean is None:
        return
    shape, colour = ("s", INK) if run.is_probe else ("o", BLUE)
    kind = "probe" if run.is_probe else "model"
    label = f"{kind}: mean and 95 % interval" if _is_first(axes, kind) else None
    axes.errorbar([mean], [row], xerr=reach(mean, ci95), fmt=shape, color=colour, markersize=6, capsize=3, label=label)


def _is_first(axes: Axes, kind: str) -> bool:
    return not any(text.startswith(kind) for text in axes.get_legend_handles_labels()[1])


def _score_axis(axes: Axes, level: float, label: str) -> None:
    axes.axvline(level, color=INK, linestyle="--", linewidth=0.9, label=f"guessing ({score(level)})")
    axes.set_xlim(0.0, 1.02)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.grid(axis="x")
    axes.set_xlabel(label)


def subjects_figure(run: CrossValidation) -> Drawing:
    """Return balanced accuracy per subject, sorted, with the mean over subjects and its 95 % interval."""
    rows = sorted(
        (s for s in run.subjects if s.balanced_accuracy is not None),
        key=lambda s: (-(s.balanced_accuracy or 0.0), s.participant),
    )
    mean, ci95 = run.balanced_accuracy.mean, run.balanced_accuracy.ci95
    level = run.chance_level

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        values = np.array([s.balanced_accuracy or 0.0 for s in rows])
        is_low = values < level
        if ci95:
            axes.axvspan(*ci95, color=BLUE, alpha=0.13, linewidth=0, label="95 % interval of the mean")
        if mean is not None:
            axes.axvline(mean, color=BLUE, linewidth=1.4, label=f"mean over subjects ({score(mean)})")
        places = np.arange(len(rows))
        axes.scatter(values[~is_low], places[~is_low], s=26, color=BLUE, zorder=3, label="subject")
        if is_low.any():
            axes.scatter(
                values[is_low], places[is_low], s=30, color=RED, marker="v", zorder=3, label="subject below chance"
            )
        name_rows(axes, [shortened(name, 30) for name in _thinned([s.participant for s in rows])])
        _score_axis(axes, level, "balanced accuracy (0 to 1)")
        axes.grid(axis="y", linewidth=0.5)
        axes.legend(**{**_LEGEND_ABOVE, "ncols": 3})

    undefined = len(run.subjects) - len(rows)
    left = f" {count(undefined, 'subject')} without a defined score not drawn." if undefined else ""
    caption = (
        f"{run.model}: every subject as scored when held out, {count(len(rows), 'subject')}, "
        f"{count(run.n_windows, 'window')}; mean {estimate(run.balanced_accuracy)}, "
        f"{'the band is its 95 % bootstrap interval over subjects' if ci95 else 'without an interval'}.{left}"
    )
    height = 1.3 + 0.19 * min(max(len(rows), 3), _MOST_ROWS)
    data = FigureData(("subject", "balanced accuracy"), tuple((s.participant, s.balanced_accuracy) for s in rows))
    return draw("subjects", "Scores per subject", caption, height, paint).with_data(data)


def _thinned(names: Sequence[str]) -> list[str]:
    """Return names with all but every n-th emptied where there are too many to be read."""
    step = -(-len(names) // _MOST_ROWS)
    return [name if place % step == 0 else "" for place, name in enumerate(names)]


def confusion_figure(run: CrossValidation) -> Drawing:
    """Return the confusion matrix over all held-out windows, as counts and fractions of each true class."""
    counts = confusion_counts(run.predictions)
    total = int(counts.sum())
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [shortened(name, 18) for name in run.classes]
    n = len(names)
    side = 3.2 + 0.45 * min(n - 2, 10)

    def paint(figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        shades = LinearSegmentedColormap.from_list("share", ["#ffffff", "#9ecae1", "#08519c"])
        axes.imshow(fractions, cmap=shades, vmin=0, vmax=1)
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
            ink = "white" if fractions[row, column] > 0.55 else INK
            words = f"{100 * fractions[row, column]:.0f} %\n{counts[row, column]:,}"
            axes.text(column, row, words, ha="center", va="center", color=ink, fontsize=9 if n <= 6 else 7)

    caption = (
        f"{run.model}: {count(total, 'held-out window')} of {count(run.n_subjects, 'subject')}, each predicted by a "
        "model that never saw its subject's test windows. Percent of each row, and the number of windows."
    )
    cells = tuple((t, p, int(counts[i, j])) for i, t in enumerate(run.classes) for j, p in enumerate(run.classes))
    data = FigureData(("true class", "predicted class", "windows"), cells)
    return draw("confusion", "Confusion matrix", caption, side - 0.2, paint, width=side).with_data(data)


def reliability_figure(run: CrossValidation) -> Drawing | None:
    """Return predicted probability against what happened; None where no window has a probability."""
    bins = reliability_bins(run.predictions)
    if bins is None:
        return None
    is_binary = len(run.classes) == 2
    which = f"of “{shortened(run.classes[1])}”" if is_binary else "of the predicted class"
    truth = (
        f"fraction of windows that are “{shortened(run.classes[1])}”"
        if is_binary
        else "fraction of windows predicted right"
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
        f"{run.model}: {count(int(bins.n.sum()), 'held-out window')} in {count(len(bins.n), 'bin')} of about equal "
        f"size ({span((int(bins.n.min()), int(bins.n.max())))} windows each); points on the dashed line mean that a "
        f"probability can be read as one. Expected calibration error of the predicted class {score(run.ece)}, Brier "
        f"score {score(run.brier)} (0 is best). Windows of one subject are not independent, so the points carry no "
        "interval."
    )
    rows = tuple(zip(bins.predicted.tolist(), bins.observed.tolist(), bins.n.tolist(), strict=True))
    data = FigureData((f"predicted probability {which}", truth, "windows"), rows, ((truth, 1),))
    return draw("reliability", "Reliability of the probabilities", caption, 4.2, paint).with_data(data)


def risk_figure(run: CrossValidation) -> Drawing | None:
    """Return the fraction of wrong predictions among the most trusted windows; None where it is not known."""
    trust = run.risk_coverage
    if trust is None or not trust.curves:
        return None
    names = {
        "confidence": "most probable first",
        "gated": f"the same, quality below {score(trust.least_quality, 2)} last",
        "quality": "best signal first",
    }

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for rule, curve in trust.curves.items():
            colour, line = _LINES.get(rule, (INK, ":"))
            label = f"{names.get(rule, rule)} (area {score(curve.aurc)})"
            axes.plot(trust.coverage, curve.risk, color=colour, linestyle=line, marker="o", markersize=3, label=label)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("fraction of windows predicted (coverage)")
        axes.set_ylabel("fraction of predictions that are wrong (risk)")
        axes.grid()
        axes.legend(loc="best")

    caption = (
        f"{run.model}: {count(run.n_windows, 'held-out window')} of {count(run.n_subjects, 'subject')}. The left end "
        "predicts only the most trusted windows, the right end all. A curve that falls to the left says that trust is "
        "earned; a lower area is better. Over all windows, without interval."
    )
    risks = [curve.risk for curve in trust.curves.values()]
    columns = ("coverage (fraction of windows)", *(names.get(rule, rule) for rule in trust.curves))
    data = FigureData(
        columns, tuple(zip(trust.coverage, *risks, strict=True)), (("risk (fraction wrong)", len(risks)),)
    )
    return draw("risk-coverage", "Risk against coverage", caption, 3.4, paint).with_data(data)


def sensor_figure(run: CrossValidation) -> Drawing | None:
    """Return balanced accuracy with every set of sensors; None where it was not wanted.

    Of more than forty sets those with all sensors, without one, and with one alone are drawn.
    """
    drawn = _drawn(run.sensor_subsets)
    if not drawn:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, row in enumerate(drawn):
            mean = row.balanced_accuracy.mean
            if mean is None:
                continue
            bars = reach(mean, row.balanced_accuracy.ci95)
            colour = INK if row.sensors == "all" else BLUE
            axes.errorbar([mean], [place], xerr=bars, fmt="o", color=colour, markersize=5, capsize=3)
        axes.axvline(1.0 / len(run.classes), color=FAINT, linestyle="--", linewidth=1)
        if drawn[0].balanced_accuracy.mean is not None:
            axes.axvline(drawn[0].balanced_accuracy.mean, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(drawn)))
        axes.set_yticklabels([shortened(row.sensors, 34) for row in drawn])
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("balanced accuracy (0 to 1)")
        axes.grid(axis="x")

    guessing = score(1.0 / len(run.classes))
    caption = (
        f"{run.model}, fitted once in each fold with all sensors and asked with fewer about "
        f"{count(run.n_subjects, 'subject')}: mean over subjects with its 95 % bootstrap interval. The line is the "
        f"score with all sensors, the dashed one guessing ({guessing}). A sensor goes with all that is computed from "
        "it; windows with nothing left that the model reads are not scored."
    )
    rows = tuple(
        (row.sensors, row.balanced_accuracy.mean, *(row.balanced_accuracy.ci95 or (None, None)), row.n_windows)
        for row in drawn
    )
    data = FigureData(("sensors", "balanced accuracy", "low", "high", "windows"), rows)
    return draw("missing-sensors", "With fewer sensors", caption, 0.9 + 0.26 * len(drawn), paint).with_data(data)


def _drawn(subsets: tuple[SensorSubset, ...]) -> tuple[SensorSubset, ...]:
    if len(subsets) <= _MOST_SUBSETS:
        return subsets
    return tuple(row for row in subsets if row.sensors == "all" or row.sensors.startswith(("without ", "only ")))


def confusion_counts(predictions: Predictions) -> NDArray[np.int64]:
    """Return how many windows of each true class (rows) were predicted as each class (columns): (K, K).

    Windows without a true class or with a withheld prediction are not counted.
    """
    place = {name: number for number, name in enumerate(predictions.classes)}
    counts = np.zeros((len(place), len(place)), dtype=np.int64)
    for label, predicted in zip(predictions.label, predictions.predicted, strict=True):
        if label and predicted:
            counts[place[label], place[predicted]] += 1
    return counts


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Windows sorted by probability and cut into bins of about equal size, ``n`` windows each.

    ``predicted`` is the mean probability of a bin, ``observed`` the fraction of its windows where it came true;
    ``values`` is every window's probability.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    n: NDArray[np.int64]
    values: NDArray[np.float64]


def reliability_bins(predictions: Predictions, n_bins: int = N_BINS) -> ReliabilityBins | None:
    """Return the reliability curve: for two classes of the second one's probability, else of the predicted class's.

    Equal probabilities are never divided between bins, so a model that says one thing has one bin.
    None where no window has both a true class and a probability.
    """
    place = {name: number for number, name in enumerate(predictions.classes)}
    given = [row for row, (t, p) in enumerate(zip(predictions.label, predictions.predicted, strict=True)) if t and p]
    if not given:
        return None
    truth = np.array([place[predictions.label[row]] for row in given])
    chosen = np.array([place[predictions.predicted[row]] for row in given])
    if len(place) == 2:
        chosen = np.ones_like(chosen)
    values = predictions.probabilities[given, chosen]
    is_true = truth == chosen
    edges = np.quantile(values, np.linspace(0, 1, n_bins + 1)[1:-1])
    _, members = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    n = np.bincount(members)
    return ReliabilityBins(
        predicted=np.bincount(members, weights=values) / n,
        observed=np.bincount(members, weights=is_true) / n,
        n=n.astype(np.int64),
        values=values,
    )


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
        f"training loss: median {score(float(np.median(ends)))}, {ranged(score(min(ends)), score(max(ends)))}. "
        "A loss on training people says how training went, and nothing about people never seen."
    )
    return draw("training", "Training, epoch by epoch", caption, 3.2, paint).with_data(data)


def _by_epoch(course: TrainingCourse, losses: Sequence[float | None], last: int) -> FloatArray:
    values = np.full(last, np.nan)
    values[np.array(course.epochs) - 1] = [np.nan if loss is None else loss for loss in losses]
    return values


def _repeats(courses: Sequence[TrainingCourse]) -> bool:
    return any(course.repetition for course in courses)


def number_figure(run: NumberValidation) -> Drawing:
    """Return every held-out window as a dot: the study's number across, the predicted one up."""
    windows = run.predictions
    subject, label, predicted = windows.subject, windows.label, windows.predicted

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        both = np.concatenate([label, predicted])
        ends = [float(both.min()), float(both.max())]
        axes.plot(ends, ends, linestyle="--", color=INK, linewidth=0.9, label="predicted right")
        axes.scatter(label, predicted, s=8, color=FAINT, alpha=0.5, linewidths=0, label="window")
        subjects = np.unique(subject)
        across = [float(label[subject == s].mean()) for s in subjects]
        up = [float(predicted[subject == s].mean()) for s in subjects]
        axes.scatter(across, up, s=28, color=BLUE, zorder=3, label="mean of a subject")
        axes.set_xlabel("number in the study")
        axes.set_ylabel("predicted number")
        axes.grid()
        axes.legend(loc="best")

    caption = (
        f"{run.model}, task {run.task}, in units of {run.column}: {count(run.n_windows, 'held-out window')} of "
        f"{count(run.n_subjects, 'subject')}; mean absolute error {estimate(run.mae)} (mean over subjects, 95 % "
        f"bootstrap interval over subjects), pooled CCC {pooled(run.ccc)}."
    )
    rows = tuple(zip(subject.tolist(), label.tolist(), predicted.tolist(), strict=True))[:_MOST_DOTS]
    data = FigureData(("subject", f"{run.column} in the study", f"{run.column} predicted"), rows)
    return draw("predicted-numbers", f"Predicted and true {run.task}", caption, 4.4, paint, width=6.0).with_data(data)
