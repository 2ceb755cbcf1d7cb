"""Cross-validations and predictions of numbers: read from their folders, and shown as tables, figures and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError

from .drawing import BLUE, FAINT, INK, Drawing, draw
from .reading import read_table
from .results import PROBES, Estimate
from .score_files import SCHEMA, read_scores
from .tables import SPLITS, Table, estimate
from .text import NOT_DEFINED, count, score, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "regression"
_FEW_SUBJECTS = 20


@dataclass(frozen=True, eq=False)
class NumberValidation:
    """A finished folder of ``cross-validate`` of a regression.

    Attributes
    ----------
    name : str
        The folder's path below the folder that is reported.
    folder : Path
    model, task, column, split, normalisation : str
        ``column`` is the study's, whose unit the numbers have.
    is_transductive : bool
    n_subjects, n_windows, n_folds : int
    mae, ccc, r2 : Estimate
        Over subjects, and pooled.
    pooled_ci95 : mapping of score name to interval or None
    training_mean_mae : float or None
        Error of always answering the mean of the training subjects.
    warnings : tuple of str
    store : str
        Fingerprint of what was scored.
    owner : tuple of str
        Subject of each window.
    label, predicted : float64 arrays, shape (n_windows,)
    subjects : tuple of (participant, n_windows, mae, ccc, r2, fold)
    """

    name: str
    folder: Path
    model: str
    task: str
    column: str
    split: str
    normalisation: str
    is_transductive: bool
    n_subjects: int
    n_windows: int
    n_folds: int
    mae: Estimate
    ccc: Estimate
    r2: Estimate
    pooled_ci95: dict[str, tuple[float, float] | None]
    training_mean_mae: float | None
    warnings: tuple[str, ...]
    store: str
    owner: tuple[str, ...]
    label: NDArray[np.float64]
    predicted: NDArray[np.float64]
    subjects: tuple[tuple[str, ...], ...]

    @property
    def is_probe(self) -> bool:
        """Return whether the model is a probe, which must not be good."""
        return self.model in PROBES


def is_of_numbers(folder: Path) -> bool:
    """Return whether a folder's ``scores.json`` is of a regression. Raises StudyError where it cannot be read."""
    return read_scores(folder).content.get("kind") == KIND


def load_number_validation(folder: Path, name: str = "") -> NumberValidation:
    """Return the scores, subjects and predictions of a finished cross-validation of a regression.

    Raises
    ------
    StudyError
        Where a file is missing, damaged, of another schema, or contradicts another.
    """
    scores = read_scores(folder)
    if scores.content.get("schema") != SCHEMA:
        raise StudyError(f"{scores.path} has schema {scores.content.get('schema')!r}; this version reads {SCHEMA}")
    predictions, table = read_table(folder / "predictions.csv"), read_table(folder / "scores.csv")
    label, predicted = predictions.numbers("label"), predictions.numbers("predicted")
    if np.isnan(label).any() or np.isnan(predicted).any():
        raise StudyError(f"{predictions.path} lacks a number; run cross-validate again")
    owner = predictions.texts("participant_id")
    if stranger := sorted(set(owner) - set(table.texts("participant_id"))):
        raise StudyError(
            f"{predictions.path} has subject {stranger[0]!r}, which scores.csv lacks; run cross-validate again"
        )
    fingerprint = scores.part("fingerprint", optional=True)
    columns = ("participant_id", "n_windows", "mae", "ccc", "r2", "fold")
    return NumberValidation(
        name or folder.resolve().name,
        folder,
        scores.text("model"),
        scores.text("task"),
        scores.text("column"),
        scores.text("split"),
        scores.text("normalisation"),
        scores.flag("transductive", default=False),
        scores.whole("n_subjects") or 0,
        scores.whole("n_windows") or 0,
        scores.whole("n_folds") or 0,
        scores.estimate("mae"),
        scores.estimate("ccc"),
        scores.estimate("r2"),
        {key: scores.part(key).interval("pooled_ci95") for key in ("mae", "ccc", "r2")},
        scores.part("chance", optional=True).number("training_mean_mae"),
        scores.texts("warnings", optional=True),
        str(fingerprint.content.get("store", "")),
        owner,
        label,
        predicted,
        tuple(zip(*(table.texts(column) for column in columns), strict=True)),
    )


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
    found: Estimate = getattr(held, name)
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
        if held.n_subjects < _FEW_SUBJECTS and not any("intervals are rough" in w for w in held.warnings):
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


@dataclass(frozen=True, eq=False)
class NumberLine:
    """Numbers or probabilities over time of one recording, from a table that ``predict`` wrote.

    Attributes
    ----------
    title : str
        Name of the recording's file.
    names : tuple of str
        What each line is.
    seconds : float64 array, shape (n,)
    values : float64 array, shape (n, n_lines)
        NaN where withheld or unknown.
    is_trace : bool
        Answers at single times, not of windows.
    """

    title: str
    names: tuple[str, ...]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    is_trace: bool


def load_lines(folder: Path, limit: int) -> tuple[NumberLine, ...]:
    """Return the traces of a folder of ``predict``, and its predictions where they are numbers: the first of each.

    Raises
    ------
    StudyError
        Where a table is damaged.
    """
    found = []
    for path in sorted(folder.glob("*_trace.tsv"))[:limit]:
        table = read_table(path)
        names = tuple(name for name in table.columns if name not in ("onset", "n_windows"))
        values = np.stack([table.numbers(name) for name in names], axis=1)
        found.append(NumberLine(path.name.removesuffix("_trace.tsv"), names, table.numbers("onset"), values, True))
    for path in sorted(folder.glob("*_predictions.tsv"))[:limit]:
        table = read_table(path)
        if not any(name.startswith("probability_") for name in table.columns):
            middle = table.numbers("onset") + table.numbers("duration") / 2
            values = np.stack([table.numbers("predicted"), table.numbers("label", optional=True)], axis=1)
            title = path.name.removesuffix("_predictions.tsv")
            found.append(NumberLine(title, ("predicted", "true"), middle, values, False))
    return tuple(found)


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
