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
            f"{run.model} (probe)" if run.is_probe else run.model,
            f"{run.task}, in units of {run.column}",
            estimate(run.mae),
            _pooled(run, "mae"),
            estimate(run.ccc),
            _pooled(run, "ccc"),
            estimate(run.r2),
            _pooled(run, "r2"),
            score(run.mae.worst),
            score(run.training_mean_mae),
            f"{run.normalisation} (TRANSDUCTIVE)" if run.is_transductive else run.normalisation,
            SPLITS.get(run.split, run.split),
            f"{run.n_subjects:,}",
            f"{run.n_windows:,}",
        )
        for run in validations
    )
    title = "Predicted numbers: mean over subjects [95 % bootstrap interval over subjects]; pooled over all windows"
    return Table(title, columns, rows, (False, False) + (True,) * 8 + (False, False, True, True))


def _pooled(run: NumberValidation, name: str) -> str:
    estimate_of_name: ScoreEstimate = getattr(run, name)
    return with_interval(estimate_of_name.pooled, run.pooled_ci95[name])


def subject_numbers(run: NumberValidation) -> Table:
    """Return a row per held-out subject."""
    rows = tuple(
        (subject, n, *(score(float(v)) if v not in ("", "n/a") else NOT_DEFINED for v in values), fold)
        for subject, n, *values, fold in run.subjects
    )
    title = f"{run.model}, {run.task}: {count(len(rows), 'held-out subject')} (error in units of {run.column})"
    return Table(title, ("Subject", "Windows", "MAE", "CCC", "R2", "Fold"), rows, (False, *(True,) * 4, False))


def number_warnings(validations: Sequence[NumberValidation]) -> Iterator[tuple[bool, str]]:
    """Give what must be known before the numbers: whether it is grave, and the sentence."""
    for run in validations:
        for warning in run.warnings:
            yield any(word in warning.lower() for word in ("leak", "transductive")), warning
        if run.is_probe:
            continue
        if run.n_subjects < FEW_SUBJECTS and not any("intervals are rough" in w for w in run.warnings):
            yield (
                False,
                f"Only {count(run.n_subjects, 'subject')}: small differences between models mean nothing.",
            )
        explained = run.pooled_ci95["r2"]
        if explained is None or explained[0] <= 0:
            yield (
                True,
                f"{run.model} is not shown to predict {run.task} better than one number for everybody: its pooled R2 "
                f"is {_pooled(run, 'r2')}.",
            )
        for probe in validations:
            same = (probe.task, probe.store) == (run.task, run.store)
            if probe.is_probe and same and (probe.mae.mean or 0.0) <= (run.mae.mean or 0.0):
                yield (
                    True,
                    f"The probe {probe.model} errs by {estimate(probe.mae)} in {run.task} where {run.model} errs by "
                    f"{estimate(run.mae)}: the model is no better than what knows nothing of the body.",
                )


def number_figure(run: NumberValidation) -> Drawing:
    """Return every held-out window as a dot: the study's number across, the predicted one up."""
    owners = sorted(set(run.owner))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        ends = [
            float(min(run.label.min(), run.predicted.min())),
            float(max(run.label.max(), run.predicted.max())),
        ]
        axes.plot(ends, ends, linestyle="--", color=INK, linewidth=0.9, label="predicted right")
        axes.scatter(run.label, run.predicted, s=8, color=FAINT, alpha=0.5, linewidths=0, label="window")
        owner = np.array(run.owner)
        across = [float(run.label[owner == s].mean()) for s in owners]
        up = [float(run.predicted[owner == s].mean()) for s in owners]
        axes.scatter(across, up, s=28, color=BLUE, zorder=3, label="mean of a subject")
        axes.set_xlabel("number in the study")
        axes.set_ylabel("predicted number")
        axes.grid()
        axes.legend(loc="best")

    caption = (
        f"{run.model}, task {run.task}, in units of {run.column}: {count(run.n_windows, 'held-out window')} of "
        f"{count(run.n_subjects, 'subject')}; mean absolute error {estimate(run.mae)} (mean over subjects, 95 % "
        f"bootstrap interval over subjects), pooled CCC {_pooled(run, 'ccc')}."
    )
    return draw("predicted-numbers", f"Predicted and true {run.task}", caption, 4.4, paint, width=6.0)


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
