"""Cross-validations and predictions of numbers as tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from biopercept.report.drawing import BLUE, FAINT, INK, Drawing, draw
from biopercept.report.tables import SPLITS, Table, estimate
from biopercept.report.text import NOT_DEFINED, count, score, with_interval
from biopercept.results.numbers import NumberLine, NumberValidation
from biopercept.results.reading import FEW_SUBJECTS, ScoreEstimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def number_table(validations: Sequence[NumberValidation]) -> Table:
    """Return a row per cross-validation of a regression: error and agreement with their 95 % intervals."""
    columns = (
        "Model", "Task", "Mean absolute error", "Error, pooled", "CCC per subject", "CCC pooled", "R2 per subject",
        "R2 pooled", "Worst subject (error)", "Answering the mean (error)", "Normalisation", "Split", "Subjects",
        "Windows",
    )  # fmt: skip
    rows = tuple(
        (
            f"{held.model} (probe)" if held.is_probe else held.model,
            f"{held.task}, in units of {held.column}",
            estimate(held.mae),
            _pooled(held, "mae"),
            estimate(held.ccc),
            _pooled(held, "ccc"),
            estimate(held.r2),
            _pooled(held, "r2"),
            score(held.mae.worst),
            score(held.training_mean_mae),
            f"{held.normalisation} (TRANSDUCTIVE)" if held.is_transductive else held.normalisation,
            SPLITS.get(held.split, held.split),
            f"{held.n_subjects:,}",
            f"{held.n_windows:,}",
        )
        for held in validations
    )
    title = "Predicted numbers: mean over subjects [95 % bootstrap interval over subjects]; pooled over all windows"
    return Table(title, columns, rows, (False, False) + (True,) * 8 + (False, False, True, True))


def _pooled(held: NumberValidation, name: str) -> str:
    found: ScoreEstimate = getattr(held, name)
    return with_interval(found.pooled, held.pooled_ci95[name])


def subject_numbers(held: NumberValidation) -> Table:
    """Return a row per held-out subject."""
    rows = tuple(
        (subject, n, *(score(float(v)) if v not in ("", "n/a") else NOT_DEFINED for v in values), fold)
        for subject, n, *values, fold in held.subjects
    )
    title = f"{held.model}, {held.task}: {count(len(rows), 'held-out subject')} (error in units of {held.column})"
    return Table(title, ("Subject", "Windows", "MAE", "CCC", "R2", "Fold"), rows, (False, *(True,) * 4, False))


def number_cautions(validations: Sequence[NumberValidation]) -> Iterator[tuple[bool, str]]:
    """Give what must be known before the numbers: whether it is grave, and the sentence."""
    for held in validations:
        for warning in held.warnings:
            yield any(word in warning.lower() for word in ("leak", "transductive")), warning
        if held.is_probe:
            continue
        if held.n_subjects < FEW_SUBJECTS and not any("intervals are rough" in w for w in held.warnings):
            yield False, f"Only {count(held.n_subjects, 'subject')}: small differences between models mean nothing."
        explained = held.pooled_ci95["r2"]
        if explained is None or explained[0] <= 0:
            yield (
                True,
                f"{held.model} is not shown to predict {held.task} better than one number for everybody: its pooled R2 "
                f"is {_pooled(held, 'r2')}.",
            )
        for probe in validations:
            same = (probe.task, probe.store) == (held.task, held.store)
            if probe.is_probe and same and (probe.mae.mean or 0.0) <= (held.mae.mean or 0.0):
                yield (
                    True,
                    f"The probe {probe.model} errs by {estimate(probe.mae)} in {held.task} where {held.model} errs by "
                    f"{estimate(held.mae)}: the model is no better than what knows nothing of the body.",
                )


def number_figure(held: NumberValidation) -> Drawing:
    """Return every held-out window as a dot: the study's number across, the predicted one up."""
    owners = sorted(set(held.owner))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        ends = [float(min(held.label.min(), held.predicted.min())), float(max(held.label.max(), held.predicted.max()))]
        axes.plot(ends, ends, linestyle="--", color=INK, linewidth=0.9, label="predicted right")
        axes.scatter(held.label, held.predicted, s=8, color=FAINT, alpha=0.5, linewidths=0, label="window")
        owner = np.array(held.owner)
        across = [float(held.label[owner == s].mean()) for s in owners]
        up = [float(held.predicted[owner == s].mean()) for s in owners]
        axes.scatter(across, up, s=28, color=BLUE, zorder=3, label="mean of a subject")
        axes.set_xlabel("number in the study")
        axes.set_ylabel("predicted number")
        axes.grid()
        axes.legend(loc="best")

    caption = (
        f"{held.model}, task {held.task}, in units of {held.column}: {count(held.n_windows, 'held-out window')} of "
        f"{count(held.n_subjects, 'subject')}; mean absolute error {estimate(held.mae)} (mean over subjects, 95 % "
        f"bootstrap interval over subjects), pooled CCC {_pooled(held, 'ccc')}."
    )
    return draw("predicted-numbers", f"Predicted and true {held.task}", caption, 4.4, paint, width=6.0)


def line_figure(line: NumberLine, name: str) -> Drawing:
    """Return one recording's answers over time, a line for each class or number."""
    shown = [place for place in range(len(line.names)) if np.isfinite(line.values[:, place]).any()]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place in shown:
            axes.plot(
                line.seconds / 60, line.values[:, place], linewidth=1.2, label=line.names[place].replace("_", " ")
            )
        axes.set_xlabel("time since the recording began (minutes)")
        axes.set_ylabel("probability (0 to 1)" if line.names[0].startswith("probability_") else "number")
        axes.grid()
        if shown:
            axes.legend(loc="best")

    kind = "single times, each the mean of the windows that hold it" if line.is_trace else "windows, at their middles"
    caption = f"{line.title}: answers for {count(len(line.seconds), 'time' if line.is_trace else 'window')}: {kind}."
    return draw(name, f"{'Trace' if line.is_trace else 'Numbers'} of {line.title}", caption, 2.6, paint)
