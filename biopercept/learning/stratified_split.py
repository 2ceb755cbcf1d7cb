"""Folds of whole subjects with the classes balanced over them, dealt by scikit-learn's ``StratifiedGroupKFold``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biopercept.learning.splits import fold_name

_PARTS = 20
"""Rows that stand for one subject; its classes share them, each having at least one."""


def dealt_by_class(
    subjects: NDArray[np.str_], targets: Sequence[NDArray[np.int64]], n_folds: int, seed: int
) -> list[tuple[str, list[str]]]:
    """Return name and subjects, sorted, of each fold that somebody falls into, classes balanced over the folds.

    Every subject weighs the same however many windows it has, so that subjects with one class only are spread as well
    as the classes are. The folds depend on seed and on who is there with which share of each class, not on the order
    of the windows. Unlike folds dealt by identity they depend on everybody: a subject that is added or removed may move
    others. To keep folds, write them once and take them again (``cross-validate --folds-from``).

    Parameters
    ----------
    subjects : array of str, shape (n_windows,)
    targets : sequence of int64 arrays, shape (n_windows,)
        Class of each window in each task; below 0 where it has none.
    n_folds : int
    seed : int
    """
    from sklearn.model_selection import StratifiedGroupKFold

    owners: list[str] = []
    classes: list[int] = []
    first = 0
    for target in targets:
        n_classes = int(target.max(initial=-1)) + 1
        for subject in np.unique(subjects):
            held = target[(subjects == subject) & (target >= 0)]
            for index, count in enumerate(np.bincount(held, minlength=n_classes)):
                n_rows = max(1, round(_PARTS * count / len(held))) if count else 0
                owners += [str(subject)] * n_rows
                classes += [first + index] * n_rows
        first += n_classes
    who = np.array(owners, dtype=np.str_)
    split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a rare class lacks in some folds
        parts = [np.unique(who[test]).tolist() for _, test in split.split(np.zeros(len(who)), classes, who)]
    return [(fold_name(i, n_folds), [str(s) for s in part]) for i, part in enumerate(parts) if part]
