"""Which cross-validations can be compared: found in folders, and refused where they answer different questions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StudyError
from biopercept.report.scores import labels_of
from biopercept.report.text import count, listed, shown
from biopercept.results.cross_validation import CrossValidation
from biopercept.results.folder import FoldsFile, load_results
from biopercept.results.reading import read_result
from biopercept.typed_values import did_you_mean

METRICS = {"balanced_accuracy": True, "macro_f1": True, "auroc": True, "mcc": True, "brier": False, "ece": False}
"""Columns of ``scores.csv`` that can be compared, and whether more is better."""


@dataclass(frozen=True)
class Partition:
    """The folds of a cross-validation in order: sorted test subjects, and numbers of subjects fitted on."""

    tests: tuple[tuple[str, ...], ...]
    n_trained: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Matched:
    """Cross-validations of the same windows, subject by subject, each under a label that no other has.

    Attributes
    ----------
    subjects, left_out : tuple of str
        Whose score is defined in all of them, and whose is not.
    scores : float64 array, shape (n_subjects, n_validations)
    partitions : tuple of Partition
        Empty where the split is not k-fold.
    """

    validations: tuple[CrossValidation, ...]
    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    scores: NDArray[np.float64]
    partitions: tuple[Partition, ...]
    metric: str


def find_validations(folders: Sequence[Path]) -> tuple[tuple[CrossValidation, ...], tuple[str, ...]]:
    """Return the finished cross-validations in folders and below, and the names of those that have not finished.

    Raises StudyError where a folder holds no finished cross-validation, one is found twice, or fewer than two are left.
    """
    by_folder: dict[Path, CrossValidation] = {}
    unfinished: list[str] = []
    for folder in folders:
        results = load_results(folder)
        if not results.cross_validations:
            raise StudyError(
                f"{folder} holds no finished cross-validation (scores.json); give what cross-validate wrote"
            )
        unfinished += results.unfinished
        for run in results.cross_validations:
            path = run.folder.resolve()
            if path in by_folder:
                raise StudyError(f"{run.folder} is given twice; name each cross-validation once")
            by_folder[path] = run
    if len(by_folder) < 2:
        raise StudyError(
            f"{listed([str(f) for f in folders])} holds one cross-validation; a comparison needs at least two"
        )
    common = os.path.commonpath(by_folder)
    named = (replace(run, name=_name(path, common)) for path, run in by_folder.items())
    return tuple(named), tuple(unfinished)


def _name(path: Path, common: str) -> str:
    inside = path.relative_to(common).as_posix()
    return path.name if inside == "." else inside


def match(validations: Sequence[CrossValidation], metric: str) -> Matched:
    """Return the cross-validations side by side, their subjects in one order.

    Raises SettingsError where there is no such metric. Raises StudyError where two of them cannot be compared: another
    store, task, split, other subjects, windows or labels; or fewer than two subjects have a defined score.
    """
    if metric not in METRICS:
        raise SettingsError(f"metric is {metric!r}; allowed are {', '.join(METRICS)}{did_you_mean(metric, METRICS)}")
    for other in validations[1:]:
        require_comparable(validations[0], other)
    columns = [{s.participant: getattr(s, metric) for s in run.subjects} for run in validations]
    for run, column in zip(validations, columns, strict=True):
        if all(value is None for value in column.values()):
            raise StudyError(f"{run.name} has no {metric} of any subject in scores.csv; run cross-validate again")
    everyone = sorted(columns[0])
    subjects = tuple(s for s in everyone if all(column[s] is not None for column in columns))
    if len(subjects) < 2:
        raise StudyError(
            f"{count(len(subjects), 'subject')} of {len(everyone)} have a defined {metric} in all cross-validations; "
            "a paired comparison needs at least 2"
        )
    scores = np.array([[column[s] for column in columns] for s in subjects], dtype=np.float64)
    is_k_fold = validations[0].split == "k-fold"
    return Matched(
        tuple(validations),
        labels_of(validations),
        subjects,
        tuple(s for s in everyone if s not in subjects),
        scores,
        tuple(read_partition(run) for run in validations) if is_k_fold else (),
        metric,
    )


def require_comparable(one: CrossValidation, other: CrossValidation) -> None:
    """Refuse two cross-validations whose per-subject scores are no pairs: raises StudyError naming what differs."""
    names = f"{shown(one.name)} and {shown(other.name)}"
    for run in (one, other):
        if not run.fingerprint.get("store"):
            raise StudyError(f"{run.name} does not say which store it scored; run cross-validate again")
    if (one.task, one.classes) != (other.task, other.classes):
        raise StudyError(
            f"{names} answer different questions ({one.task}: {', '.join(one.classes)}; "
            f"{other.task}: {', '.join(other.classes)}); compare runs of one task"
        )
    if one.fingerprint["store"] != other.fingerprint["store"]:
        raise StudyError(f"{names} scored different stores; run cross-validate for both on the same store")
    if one.split != other.split:
        raise StudyError(
            f"{names} were split differently ({one.split}, {other.split}), so their models learnt from different "
            "numbers of people; run cross-validate for both with the same --split"
        )
    mine, theirs = ({s.participant for s in run.subjects} for run in (one, other))
    if mine != theirs:
        lacking = sorted(mine ^ theirs)
        raise StudyError(
            f"{names} scored different subjects ({listed(lacking)} in one only); run both with the same subjects"
        )
    _require_same_windows(one, other, names)


def _require_same_windows(one: CrossValidation, other: CrossValidation, names: str) -> None:
    first, second = _labelled_windows(one), _labelled_windows(other)
    if first.keys() != second.keys():
        n = len(first.keys() ^ second.keys())
        raise StudyError(
            f"{names} scored different windows ({len(first):,} and {len(second):,}, {n:,} in one only); "
            "run both with the same windows and normalisation"
        )
    changed = sum(first[key] != second[key] for key in first)
    if changed:
        raise StudyError(
            f"{names} scored the same windows with different labels ({changed:,} of {len(first):,}); "
            "run both on the same store and task"
        )


def _labelled_windows(run: CrossValidation) -> dict[tuple[tuple[str, str, str], float, float], str]:
    predictions = run.predictions
    keys = zip(predictions.keys, predictions.onset.tolist(), predictions.duration.tolist(), strict=True)
    return dict(zip(keys, predictions.label, strict=True))


def read_partition(run: CrossValidation) -> Partition:
    """Return the folds in ``folds.json`` of a cross-validation.

    Raises StudyError where the file is missing or damaged, or does not test every scored subject once.
    """
    path = run.folder / FoldsFile.FILE
    folds = read_result(path, FoldsFile).folds
    tests = tuple(tuple(sorted(fold.test)) for fold in folds)
    if sorted(s for test in tests for s in test) != sorted(s.participant for s in run.subjects):
        raise StudyError(
            f"{path} does not test each subject of scores.csv once; run cross-validate again with --overwrite"
        )
    n_trained = tuple(len(fold.fitting) for fold in folds)
    order = sorted(range(len(folds)), key=lambda number: tests[number])
    return Partition(tuple(tests[i] for i in order), tuple(n_trained[i] for i in order))


def index_of(reference: str, matched: Matched) -> int:
    """Return which cross-validation is meant by folder, name, model or label; SettingsError unless it is one."""
    ways = (
        [run.folder.resolve() == Path(reference).resolve() for run in matched.validations],
        [run.name == reference for run in matched.validations],
        [label == reference for label in matched.labels],
        [run.model == reference for run in matched.validations],
    )
    for hits in ways:
        if sum(hits) == 1:
            return hits.index(True)
        if sum(hits) > 1:
            names = ", ".join(run.name for run, hit in zip(matched.validations, hits, strict=True) if hit)
            raise SettingsError(f"--reference {reference} means several cross-validations: {names}; give the folder")
    known = ", ".join(run.name for run in matched.validations)
    raise SettingsError(f"--reference {reference} is none of the compared cross-validations: {known}")
