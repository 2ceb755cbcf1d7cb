"""Which folds a cross-validation has: dealt by identity, by class or by study, or those of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from biopercept.errors import SettingsError
from biopercept.evaluation.given_folds import given_folds
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.learning.splits import STUDY, Fold, folds_of, make_folds, missing_folds
from biopercept.learning.stratified_split import dealt_by_class
from biopercept.learning.windows import WindowTable


def choose_folds(
    windows: WindowTable,
    evaluation: EvaluationSettings,
    *,
    seed: int,
    validation_fraction: float,
    studies: Mapping[str, Sequence[str]],
    folds_from: Path | None = None,
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """Return the folds and the warnings that every output carries because of them.

    Parameters
    ----------
    windows : WindowTable
    evaluation : EvaluationSettings
    seed : int
    validation_fraction : float
        Part of each fold's labelled subjects that early stopping looks at.
    studies : mapping of str to sequence of str
        Subjects by study.
    folds_from : Path, optional
        Result folder or ``folds.json`` of an earlier run whose folds are taken.

    Raises
    ------
    SettingsError
        Where the split does not fit the subjects or studies.
    """
    subjects, share = windows.subjects, evaluation.label_share
    sides = partial(folds_of, everyone=subjects, seed=seed, validation_fraction=validation_fraction, label_share=share)
    if folds_from is not None:
        return given_folds(
            folds_from, subjects, split=evaluation.split, validation_fraction=validation_fraction, label_share=share
        )
    if evaluation.split == STUDY:
        groups = [(name, [s for s in held if s in subjects]) for name, held in studies.items()]
        groups = [(name, held) for name, held in groups if held]
        if len(groups) < 2:
            raise SettingsError(
                "--split study tests each study by models of the others; give at least two stores with labelled windows"
            )
        return sides(groups), ()
    if evaluation.stratify:
        folds = sides(_by_class(windows, evaluation.n_folds, seed))
    else:
        folds = make_folds(
            subjects,
            evaluation.split,
            n_folds=evaluation.n_folds,
            seed=seed,
            validation_fraction=validation_fraction,
            label_share=share,
        )
    return folds, missing_folds(folds, evaluation.split, evaluation.n_folds)


def _by_class(windows: WindowTable, n_folds: int, seed: int) -> list[tuple[str, list[str]]]:
    for task in windows.tasks:
        if not task.is_classification:
            raise SettingsError(f"evaluation.stratify balances classes, and task {task.name!r} predicts a number")
    if not 2 <= n_folds <= len(windows.subjects):
        n = len(windows.subjects)
        raise SettingsError(f"{n_folds} folds for {n} subjects; allowed are 2 to {n}")
    groups = dealt_by_class(windows.subject, [targets.values for targets in windows.targets.values()], n_folds, seed)
    if len(groups) < 2:
        raise SettingsError(f"all {len(windows.subjects)} subjects fall into one of {n_folds} folds; use more folds")
    return groups
