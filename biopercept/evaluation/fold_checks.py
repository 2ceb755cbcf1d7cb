"""Folds whose training side could not teach what is tested are refused before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence

from biopercept.errors import SettingsError
from biopercept.learning.splits import Fold
from biopercept.learning.windows import WindowTable

_MORE_SUBJECTS = "--split subject or more folds, another --seed, a larger --label-share"


def check_classes_per_fold(windows: WindowTable, folds: Sequence[Fold], *, instead: str = _MORE_SUBJECTS) -> None:
    """Refuse folds whose training subjects lack a class: no model could learn it.

    Parameters
    ----------
    windows : WindowTable
    folds : sequence of Fold
    instead : str
        What the user may use, beside ``training.validation_fraction=0``.

    Raises
    ------
    SettingsError
        Naming the first such fold and class.
    """
    for fold in folds:
        trained = set(windows.only.values[windows.rows_of(fold.training)].tolist())
        for index, name in enumerate(windows.only.classes):
            if index not in trained:
                raise SettingsError(
                    f"fold {fold.name} has no training subject with class {name!r}; use {instead}, "
                    "or set training.validation_fraction=0"
                )


def check_numbers_per_fold(windows: WindowTable, folds: Sequence[Fold]) -> None:
    """Refuse folds of a regression whose training subjects all have one number: nothing could be learnt.

    Raises
    ------
    SettingsError
        Naming the first such fold.
    """
    targets = windows.only
    if not targets.task.is_regression:
        return
    for fold in folds:
        if len(set(targets.values[windows.rows_of(fold.training)].tolist())) < 2:
            raise SettingsError(
                f"the training subjects of fold {fold.name} have fewer than two numbers for task "
                f"{targets.task.name!r}; "
                "use more folds, another --seed, or set training.validation_fraction=0"
            )


def check_subjects_per_class(windows: WindowTable) -> None:
    """Refuse a class that only one subject has: in the fold that tests this subject nothing could be learnt of it.

    Raises
    ------
    SettingsError
        Naming the class and the subject.
    """
    for index, name in enumerate(windows.only.classes):
        owners = sorted({str(s) for s in windows.subject[windows.only.values == index]})
        if len(owners) < 2:
            who = owners[0] if owners else "nobody"
            raise SettingsError(f"class {name!r} has windows of {who} only; each class needs at least 2 subjects")
