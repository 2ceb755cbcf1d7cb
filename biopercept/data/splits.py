"""Which subjects train, stop training early, and are tested; decided by identity alone, before anything is fitted.

A subject's position in a split is drawn from its identity, so that nobody else's coming or going changes it. Folds with
the classes balanced over them are dealt by scikit-learn's ``StratifiedGroupKFold``.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError
from biopercept.typed_values import did_you_mean, omitted, to_plain

SUBJECT = "subject"
K_FOLD = "k-fold"
STUDY = "study"
TIME = "time"
SPLITS = (SUBJECT, K_FOLD, STUDY)
"""Splits over subjects; ``time`` is one within each subject (see :mod:`biopercept.evaluation.time_split`)."""

MIN_LABELLED_TO_SET_ASIDE = 4
"""With fewer labelled subjects than this, of more, none is spared for early stopping."""
_PARTS = 20
"""Rows that stand for one subject; its classes share them, each having at least one."""
_NUMBERED = re.compile(r"^(?P<before>.*?)(?P<number>[0-9]{1,9})(?P<after>[^0-9]*)$", re.DOTALL)


@dataclass(frozen=True)
class Fold:
    """One division of the subjects; the groups share nobody.

    Training subjects are fitted on, validation subjects stop training early, test subjects are scored. Labels of
    ``unlabelled`` ones are not used: pretraining may read their signals, nothing else.
    """

    name: str
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = omitted(())

    def __post_init__(self) -> None:
        groups = (*self.training, *self.validation, *self.test, *self.unlabelled)
        if len(set(groups)) != len(groups):
            raise SettingsError(f"fold {self.name} has a subject on two sides; subjects must be on one side only")

    @property
    def fitting(self) -> tuple[str, ...]:
        """Return training and validation subjects: everybody whose labels may touch the model."""
        return tuple(sorted((*self.training, *self.validation)))

    def to_json(self) -> dict[str, Any]:
        """Return the fold as plain values; ``unlabelled`` only where there are some."""
        return {**to_plain(self)}


def make_folds(
    subjects: Sequence[str],
    split: str,
    *,
    n_folds: int = 5,
    seed: int = 0,
    validation_fraction: float = 0.15,
    label_share: float = 1.0,
) -> tuple[Fold, ...]:
    """Return the folds; their test groups together are every subject once.

    The fold that tests a subject is a pure function of its identity, the split, the seed and the number of folds:
    adding or removing a subject moves nobody else. Folds of ``k-fold`` may therefore differ in size (little where
    subjects are numbered without gaps, see :func:`identity_place`). Where nobody falls into one, somebody stands in
    (see :func:`dealt_by_identity`): there are as many folds as were wished for.

    Raises SettingsError where the split is unknown, or there are too few subjects for it.

    Parameters
    ----------
    split : str
        ``subject`` (leave one subject out) or ``k-fold`` (whole subjects, dealt by identity).
    validation_fraction : float
        Part of the fold's labelled subjects that early stopping looks at; at least one, 0 for none.
    label_share : float
        Part of the fold's remaining subjects that keep their labels; the others are ``unlabelled``. Where labels are
        scarce (a share below 1, fewer than 4 labelled subjects), nobody is set aside for early stopping.
    """
    everyone = sorted(set(subjects))
    if split not in (SUBJECT, K_FOLD):
        raise SettingsError(
            f"split is {split!r}; allowed are {SUBJECT}, {K_FOLD}{did_you_mean(split, (SUBJECT, K_FOLD))}"
        )
    if len(everyone) < 3:
        raise SettingsError(
            f"{len(everyone)} subject{'s' * (len(everyone) != 1)} with labelled windows; "
            "cross-validation over subjects needs at least 3"
        )
    if split == SUBJECT:
        groups = [(subject, [subject]) for subject in everyone]
    else:
        if not 2 <= n_folds <= len(everyone):
            raise SettingsError(
                f"{n_folds} folds for {len(everyone)} subjects; allowed are 2 to {len(everyone)} (--folds, "
                "evaluation.n_folds)"
            )
        groups = dealt_by_identity(everyone, n_folds, seed)
    return folds_of(groups, everyone, seed=seed, validation_fraction=validation_fraction, label_share=label_share)


def dealt_by_identity(subjects: Sequence[str], n_folds: int, salt: object) -> list[tuple[str, list[str]]]:
    """Return name and subjects, sorted, of each fold; with fewer subjects than folds, of those that somebody is in.

    A fold that nobody falls into gets one subject of a fold that has more, whose identity puts it first for that. Who
    is added later moves nobody but those who stand in: they go back once somebody falls into the fold.

    >>> dealt_by_identity(["S1", "S2", "S3", "S4"], 2, 0)
    [('01-of-02', ['S2', 'S3']), ('02-of-02', ['S1', 'S4'])]
    """
    groups: list[list[str]] = [[] for _ in range(n_folds)]
    for subject in sorted(subjects):
        groups[_own_fold(subject, n_folds, salt)].append(subject)
    names = [fold_name(i, n_folds) for i in range(n_folds)]
    for name, group in zip(names, groups, strict=True):
        spare = [] if group else [(subject, others) for others in groups if len(others) > 1 for subject in others]
        if spare:
            subject, home = min(spare, key=lambda one: identity_rank(one[0], f"stand-in-{salt}-{name}"))
            home.remove(subject)
            group.append(subject)
    return [(name, group) for name, group in zip(names, groups, strict=True) if group]


def _own_fold(subject: str, n_folds: int, salt: object) -> int:
    """Return the fold that a subject's identity puts it into, counted from 0."""
    return int(identity_place(subject, f"fold-{salt}", n_folds))


def fold_name(index: int, n_folds: int) -> str:
    """Return the name of a fold of several, counted from 0.

    >>> fold_name(0, 5)
    '01-of-05'
    """
    return f"{index + 1:02d}-of-{n_folds:02d}"


def stand_ins(folds: Sequence[Fold], n_folds: int, seed: int) -> tuple[str, ...]:
    """Return the warning that subjects stand in, in folds of ``k-fold`` by identity; none where nobody does."""
    words = [
        f"{fold.name} ({subject} stands in)"
        for fold in folds
        for subject in fold.test
        if fold_name(_own_fold(subject, n_folds, seed), n_folds) != fold.name
    ]
    if not words:
        return ()
    return (
        f"subjects are dealt into {n_folds} folds by identity, and nobody fell into {', '.join(words)}; who is added "
        "later may move them back: keep the folds with --folds-from",
    )


def folds_of(
    groups: Sequence[tuple[str, Sequence[str]]],
    everyone: Sequence[str],
    *,
    seed: int,
    validation_fraction: float,
    label_share: float = 1.0,
) -> tuple[Fold, ...]:
    """Return the folds that test these (name, subjects); the others of everyone (sorted) are the training side."""
    folds = []
    for name, test in groups:
        rest = [s for s in everyone if s not in test]
        labelled = choose_labelled(rest, label_share, f"{seed}-{name}")
        is_scarce = len(labelled) < min(len(rest), MIN_LABELLED_TO_SET_ASIDE)
        validation = () if is_scarce else choose_validation(labelled, validation_fraction, f"{seed}-{name}")
        training = tuple(s for s in labelled if s not in validation)
        folds.append(Fold(name, training, validation, tuple(test), tuple(s for s in rest if s not in labelled)))
    return tuple(folds)


def choose_labelled(subjects: Sequence[str], share: float, salt: object) -> tuple[str, ...]:
    """Return the subjects that keep their labels, sorted: ``share`` of them and at least 2, chosen by identity.

    The subjects of a smaller share are among those of a larger one; each fold draws by its own salt.

    >>> set(choose_labelled("abcdefgh", 0.25, 0)) < set(choose_labelled("abcdefgh", 0.5, 0))
    True
    """
    n = min(max(2, round(share * len(subjects))), len(subjects))
    ranked = sorted(subjects, key=lambda s: identity_rank(s, f"labelled-{salt}"))
    return tuple(sorted(ranked[:n]))


def choose_validation(subjects: Sequence[str], fraction: float, salt: object) -> tuple[str, ...]:
    """Return the subjects that early stopping looks at, sorted, chosen by identity from the training side.

    A subject is chosen where what it draws by its identity and the salt is below ``fraction`` (0: nobody): adding or
    removing another one does not change that. What cannot hold at the same time gives way: there is at least one, at
    least one is left to train on, and no more are chosen than twice the fraction. Folds use salts of their own, so that
    not the same few people are kept from training in all of them.
    """
    if fraction <= 0 or len(subjects) < 2:
        return ()
    n_places = max(1, round(1 / fraction))
    drawn = {s: identity_place(s, f"validation-{salt}", n_places) / n_places for s in subjects}
    ranked = sorted(drawn, key=lambda s: (drawn[s], s))
    n_below = sum(value < fraction for value in drawn.values())
    n = min(max(1, n_below), math.ceil(2 * fraction * len(ranked)), len(ranked) - 1)
    return tuple(sorted(ranked[:n]))


def dealt_by_class(
    subjects: NDArray[np.str_], targets: Sequence[NDArray[np.int64]], n_folds: int, seed: int
) -> list[tuple[str, list[str]]]:
    """Return name and subjects, sorted, of each fold that somebody falls into, classes balanced over the folds.

    Every subject weighs the same however many windows it has. Unlike folds dealt by identity these depend on everybody:
    a subject that is added or removed may move others. To keep folds, write them once and take them again
    (``cross-validate --folds-from``).

    ``targets`` has an array (n_windows,) for each task: the class of each window, below 0 where it has none.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    owners: list[str] = []
    classes: list[int] = []
    first = 0
    for target in targets:
        n_classes = int(target.max(initial=-1)) + 1
        for subject in np.unique(subjects):
            labels = target[(subjects == subject) & (target >= 0)]
            for index, count in enumerate(np.bincount(labels, minlength=n_classes)):
                n_rows = max(1, round(_PARTS * count / len(labels))) if count else 0
                owners += [str(subject)] * n_rows
                classes += [first + index] * n_rows
        first += n_classes
    who = np.array(owners, dtype=np.str_)
    split = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a rare class lacks in some folds
        parts = [np.unique(who[test]).tolist() for _, test in split.split(np.zeros(len(who)), classes, who)]
    return [(fold_name(i, n_folds), [str(s) for s in part]) for i, part in enumerate(parts) if part]


def identity_rank(subject: str, salt: str) -> str:
    """Return a hash that orders subjects at random but depends on nothing except the subject and the salt."""
    return hashlib.sha256(f"{salt}\0{subject}".encode()).hexdigest()


def identity_place(subject: str, salt: str, n_places: int) -> float:
    """Return where the subject is dealt, from 0 up to but without ``n_places``; its whole part is the position.

    It is a pure function of the arguments, uniform over the salts. Most studies number their subjects (S01, sub-014),
    and there it is dealt by blocks: of ``n_places`` numbers that follow each other, from 1 on, each gets another
    position, in an order that the salt shuffles for every block. So the positions of a study without gaps in its
    numbers are filled evenly although nobody's depends on who else is there; where numbers are missing, or names have
    none, they fill as by dice.

    >>> sorted(int(identity_place(f"S{i:02d}", "salt", 5)) for i in range(1, 11))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """
    within = int(identity_rank(subject, f"within-{salt}")[:13], 16) / 16**13
    numbered = _NUMBERED.match(subject)
    if numbered is None:
        return n_places * within
    block, position = divmod(int(numbered["number"]) - 1, n_places)
    family = f"{numbered['before']}\0{numbered['after']}\0{block}"
    shuffled = sorted(range(n_places), key=lambda number: identity_rank(f"{family}\0{number}", f"place-{salt}"))
    return shuffled[position] + within
