"""Cross-validations and predictions of numbers, read from their folders and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.results.cross_validation import PROBES, SCHEMA, StudyScore, read_scores, studies_of
from biopercept.results.reading import ScoreEstimate, read_table

KIND = "regression"


@dataclass(frozen=True, eq=False)
class NumberValidation:
    """A finished folder of ``cross-validate`` of a regression.

    Attributes
    ----------
    name : str
        The folder's path below the folder that is reported.
    model, task, column, split, normalisation : str
        ``column`` is the study's, whose unit the numbers have.
    mae, ccc, r2 : Estimate
        Over subjects, and pooled.
    pooled_ci95 : mapping of score name to interval or None
    training_mean_mae : float or None
        Error of always answering the mean of the training subjects.
    store : str
        Fingerprint of what was scored.
    owner : tuple of str
        Subject of each window.
    label, predicted : float64 arrays, shape (n_windows,)
    subjects : tuple of (participant, n_windows, mae, ccc, r2, fold)
    studies : tuple of StudyScore
        Scores of each of several studies; empty where one store was evaluated.
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
    mae: ScoreEstimate
    ccc: ScoreEstimate
    r2: ScoreEstimate
    pooled_ci95: dict[str, tuple[float, float] | None]
    training_mean_mae: float | None
    warnings: tuple[str, ...]
    store: str
    owner: tuple[str, ...]
    label: NDArray[np.float64]
    predicted: NDArray[np.float64]
    subjects: tuple[tuple[str, ...], ...]
    studies: tuple[StudyScore, ...] = ()

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
        studies_of(scores),
    )


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
    traces = []
    for path in sorted(folder.glob("*_trace.tsv"))[:limit]:
        table = read_table(path)
        names = tuple(name for name in table.columns if name not in ("onset", "n_windows"))
        values = np.stack([table.numbers(name) for name in names], axis=1)
        traces.append(NumberLine(path.name.removesuffix("_trace.tsv"), names, table.numbers("onset"), values, True))
    for path in sorted(folder.glob("*_predictions.tsv"))[:limit]:
        table = read_table(path)
        if not any(name.startswith("probability_") for name in table.columns):
            middle = table.numbers("onset") + table.numbers("duration") / 2
            values = np.stack([table.numbers("predicted"), table.numbers("label", optional=True)], axis=1)
            title = path.name.removesuffix("_predictions.tsv")
            traces.append(NumberLine(title, ("predicted", "true"), middle, values, False))
    return tuple(traces)
