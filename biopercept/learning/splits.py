"""Which subjects train, stop training early, and are tested; decided by identity alone, before anything is fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from biopercept.errors import SettingsError

SUBJECT = "subject"
K_FOLD = "k-fold"
TIME = "time"
SPLITS = (SUBJECT, K_FOLD)
"""Splits over subjects; ``time`` is one within each subject (see :mod:`biopercept.evaluation.time_planning`)."""

MIN_LABELLED_TO_SET_ASIDE = 4
"""With fewer labelled subjects than this, of more, none is spared for early stopping."""


@dataclass(frozen=True)
class Fold:
    """One division of the subjects; the groups share nobody.

    Attributes
    ----------
    name : str
        Name of the fold, used for its files.
    training, validation, test : tuple of str
        Subjects that weights are fitted on, that early stopping looks at, and that are scored.
    unlabelled : tuple of str
        Subjects of the training side whose labels are not used: pretraining may read their signals, nothing else.
    """

    name: str
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()

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
        plain = asdict(self)
        if not self.unlabelled:
            del plain["unlabelled"]
        return plain


def identity_rank(subject: str, salt: str) -> str:
    """Return a hash that orders subjects at random but depends on nothing except the subject and the salt."""
    return hashlib.sha256(f"{salt}\0{subject}".encode()).hexdigest()


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

    Parameters
    ----------
    subjects : sequence of str
    split : str
        ``subject`` (leave one subject out) or ``k-fold`` (whole subjects, dealt at random by identity).
    n_folds : int
        Number of folds of ``k-fold``.
    seed : int
        Salt of the random order.
    validation_fraction : float
        Part of the fold's labelled subjects that early stopping looks at; at least one, 0 for none.
    label_share : float
        Part of the fold's remaining subjects that keep their labels; the others are ``unlabelled``. Where labels are
        scarce (a share below 1, fewer than 4 labelled subjects), nobody is set aside for early stopping.

    Raises
    ------
    SettingsError
        Where the split is unknown or there are too few subjects for it.
    """
    everyone = sorted(set(subjects))
    if split not in SPLITS:
        raise SettingsError(f"split is {split!r}; allowed are {', '.join(SPLITS)}")
    if len(everyone) < 3:
        raise SettingsError(
            f"{len(everyone)} subject{'s' * (len(everyone) != 1)} with labelled windows; "
            "cross-validation over subjects needs at least 3"
        )
    if split == SUBJECT:
        groups = [(subject, [subject]) for subject in everyone]
    else:
        if not 2 <= n_folds <= len(everyone):
            raise SettingsError(f"{n_folds} folds for {len(everyone)} subjects; allowed are 2 to {len(everyone)}")
        ranked = sorted(everyone, key=lambda s: identity_rank(s, f"fold-{seed}"))
        groups = [(f"{i + 1:02d}-of-{n_folds:02d}", sorted(ranked[i::n_folds])) for i in range(n_folds)]
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

    The subjects of a smaller share are among those of a larger one, and each fold draws anew by its own salt.

    >>> set(choose_labelled("abcdefgh", 0.25, 0)) < set(choose_labelled("abcdefgh", 0.5, 0))
    True
    """
    n = min(max(2, round(share * len(subjects))), len(subjects))
    ranked = sorted(subjects, key=lambda s: identity_rank(s, f"labelled-{salt}"))
    return tuple(sorted(ranked[:n]))


def choose_validation(subjects: Sequence[str], fraction: float, salt: object) -> tuple[str, ...]:
    """Return the subjects that early stopping looks at, chosen by identity from the training side.

    At least one where ``fraction`` is above 0, never so many that fewer than one is left to train on. Folds use
    salts of their own, so that not the same few people are kept from training in all of them.
    """
    if fraction <= 0 or len(subjects) < 2:
        return ()
    n = min(max(1, round(fraction * len(subjects))), len(subjects) - 1)
    ranked = sorted(subjects, key=lambda s: identity_rank(s, f"validation-{salt}"))
    return tuple(sorted(ranked[:n]))
