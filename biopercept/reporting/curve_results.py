"""What labels are worth, as results: the curve over a person's own labels, and the curve over labelled subjects."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]

CONTRAST = "random-draw contrast"
"""The tier that is no result: its windows are drawn from anywhere, scored ones included."""


@dataclass(frozen=True)
class CurveScore:
    """A score, or a difference of two, over subjects.

    Attributes
    ----------
    mean : float or None
        None where it is not defined.
    ci95 : tuple of two floats, or None
        95 % bootstrap interval over subjects.
    n_below : int
        Subjects below 0: of a gain those for whom it is a loss.
    """

    mean: float | None = None
    ci95: Interval | None = None
    n_below: int = 0


@dataclass(frozen=True)
class PersonalPoint:
    """A point of the curve over a person's own labels.

    Attributes
    ----------
    tier : str
        general, label-free, few-shot, personal or random-draw contrast.
    method : str
        general, reference, head, low-rank, full or scratch.
    k : int
        Labelled windows of each class; 0 where that is not what was granted.
    n_subjects : int
    label_minutes, elapsed_minutes : float
        Mean over subjects: minutes of labels, and from the start until the last of them.
    n_fallen_back, n_unchecked : int
        Subjects for whom the general model was kept after a check, and who could not be checked.
    balanced_accuracy, auroc : CurveScore
    gain, auroc_gain : CurveScore
        Over the general model, paired; in balanced accuracy and in AUROC. Empty for the general model itself.
    added : CurveScore
        Of the contrast: its gain in balanced accuracy less that of the first windows.
    stamp : str
        What the file says of a point that is no result; empty for results.
    """

    tier: str
    method: str
    k: int
    n_subjects: int
    label_minutes: float
    elapsed_minutes: float
    n_fallen_back: int
    n_unchecked: int
    balanced_accuracy: CurveScore
    auroc: CurveScore
    gain: CurveScore = CurveScore()
    auroc_gain: CurveScore = CurveScore()
    added: CurveScore = CurveScore()
    stamp: str = ""


@dataclass(frozen=True)
class PersonalCurve:
    """A finished folder of ``personalise``.

    Attributes
    ----------
    name, study, task, normalisation : str
    chronology : str
        subject (every labelled window comes before every scored one) or class (within each class alone).
    unchecked : str
        What was done with whom nothing could be checked: keep or adapt.
    n_subjects, n_not_scored, n_scored_windows, n_folds, seeds : int
    gap_seconds : float
        Between labelled and scored windows.
    general : PersonalPoint
    points : tuple of PersonalPoint
        Results: label-free, few-shot, personal.
    contrast : tuple of PersonalPoint
        The random draw, which is none.
    warnings : tuple of str
    """

    name: str
    study: str
    task: str
    normalisation: str
    chronology: str
    unchecked: str
    n_subjects: int
    n_not_scored: int
    n_scored_windows: int
    n_folds: int
    seeds: int
    gap_seconds: float
    general: PersonalPoint
    points: tuple[PersonalPoint, ...]
    contrast: tuple[PersonalPoint, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LearningPoint:
    """The score of one task with the labels of some of the training subjects.

    Attributes
    ----------
    share : float
        Part of each fold's training subjects whose labels were used.
    subjects_labelled : tuple of two ints
        How many these are, lowest and highest over the folds.
    task, score : str
        ``score`` is balanced_accuracy, or mae of a regression.
    mean : float or None
    ci95 : tuple of two floats, or None
        95 % bootstrap interval over subjects.
    """

    share: float
    subjects_labelled: tuple[int, int]
    task: str
    score: str
    mean: float | None
    ci95: Interval | None


@dataclass(frozen=True)
class LearningCurve:
    """A finished folder of ``learning-curve``.

    Attributes
    ----------
    name, model : str
    points : tuple of LearningPoint
    warnings : tuple of str
    """

    name: str
    model: str
    points: tuple[LearningPoint, ...]
    warnings: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[tuple[LearningPoint, ...], ...]:
        """Return the points of each task, by rising share."""
        names = dict.fromkeys((point.task, point.score) for point in self.points)
        ordered = sorted(self.points, key=lambda point: point.share)
        return tuple(tuple(p for p in ordered if (p.task, p.score) == name) for name in names)
