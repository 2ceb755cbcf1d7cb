"""``learning_curve.json`` and ``personalisation.json``: what labels of more people, or of one's own, are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from biopercept.results.reading import Estimate
from biopercept.typed_values import Check, Count, Interval, Span, omitted, unwritten

Tier = Literal["general", "label-free", "few-shot", "personal", "random-draw contrast"]
GENERAL: Tier = "general"
NO_LABELS: Tier = "label-free"
FEW: Tier = "few-shot"
ALL: Tier = "personal"
CONTRAST: Tier = "random-draw contrast"
TIERS: tuple[Tier, ...] = (GENERAL, NO_LABELS, FEW, ALL, CONTRAST)
"""What a row belongs to; the last is no result: its windows are drawn from anywhere, scored ones included."""
Method = Literal["general", "reference", "head", "low-rank", "full", "scratch"]
Chronology = Annotated[str, Check(lambda name: name in ("subject", "class"), "one of subject, class")]
STAMP = "CONTRAST, NOT A RESULT"


@dataclass(frozen=True, kw_only=True)
class LearningPoint:
    """The score of one task with the labels of a fraction (``share``) of each fold's training subjects.

    ``subjects_labelled`` is how many these are, lowest and highest over the folds.
    """

    share: float
    subjects_labelled: Span
    task: str
    score: Literal["balanced_accuracy", "mae"]
    mean: float | None
    ci95: Interval | None


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A finished folder of ``learning-curve``; ``name`` is its path below the folder that is reported."""

    FILE: ClassVar[str] = "learning_curve.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "learning-curve"

    model: str
    points: tuple[LearningPoint, ...]
    warnings: tuple[str, ...]
    name: str = unwritten("")

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError(f"no points; run {self.COMMAND} again")

    @property
    def questions(self) -> tuple[tuple[LearningPoint, ...], ...]:
        """Return the points of each task, by rising share."""
        names = dict.fromkeys((point.task, point.score) for point in self.points)
        ordered = sorted(self.points, key=lambda point: point.share)
        return tuple(tuple(p for p in ordered if (p.task, p.score) == name) for name in names)


@dataclass(frozen=True, kw_only=True)
class CurveScore(Estimate):
    """A score, or a difference of two, over subjects; ``n_below`` of them are below 0: of a gain, those who lose."""

    n_subjects: Count | None = None
    n_below: Count = 0


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A paired difference in both scores."""

    balanced_accuracy: CurveScore = CurveScore()
    auroc: CurveScore = CurveScore()


@dataclass(frozen=True, kw_only=True)
class PersonalPoint:
    """A point of the curve over a person's own labels.

    ``k`` are the labelled windows of each class, 0 where that is not what was granted. Minutes are means over subjects:
    of labels, and from the start until the last of them. The general model was kept after a check for
    ``n_subjects_fallen_back``; ``n_subjects_unchecked`` could not be checked. ``gain`` is over the general model on the
    same windows, ``over_chronological`` (of the contrast) its gain less that of the first windows. ``stamp`` is what is
    said of a point that is no result.
    """

    tier: Tier
    method: Method
    k: Count
    n_subjects: Count
    label_minutes: float
    elapsed_minutes: float
    n_subjects_fallen_back: Count
    n_subjects_unchecked: Count
    balanced_accuracy: CurveScore
    auroc: CurveScore
    gain: Gain = omitted(Gain())
    stamp: str = omitted("")
    over_chronological: Gain = omitted(Gain())

    def __post_init__(self) -> None:
        lacks_gain, lacks_stamp = self.tier != GENERAL and self.gain == Gain(), self.tier == CONTRAST and not self.stamp
        if lacks_gain or lacks_stamp:
            what = "gain" if lacks_gain else "stamp"
            raise ValueError(f"no {what} at a point of the tier {self.tier}; run {PersonalCurve.COMMAND} again")


@dataclass(frozen=True, kw_only=True)
class PersonalRow:
    """The scores of one subject at one point; ``is_checked`` says that there were labels to check on.

    Minutes are means over the repetitions, each of which draws the windows of the contrast again; in ``n_fallen_back``
    of them the general model was kept.
    """

    subject: str
    tier: Tier
    method: Method
    k: Count
    n_labelled: Count
    label_minutes: float
    elapsed_minutes: float
    n_scored: Count
    balanced_accuracy: float | None
    auroc: float | None
    brier: float | None
    n_fallen_back: Count
    is_checked: bool


@dataclass(frozen=True, kw_only=True)
class PersonalCurve:
    """A finished folder of ``personalise``; ``curve`` has exactly one point of the general model.

    ``gap_seconds`` lies between labelled and scored windows. The ``chronology`` is subject (every labelled window comes
    before every scored one) or class (within each class alone). ``settings`` say how subjects were adapted;
    ``parameters`` are those of the general model, and ``start_from`` the model whose weights it began with. ``name`` is
    the folder's path below the folder that is reported.
    """

    FILE: ClassVar[str] = "personalisation.json"
    FOLDS: ClassVar[str] = "personalisation_folds.json"
    """Written when a curve begins; without the curve beside it, it has not ended."""
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "personalise"

    study: str
    task: str
    classes: tuple[str, ...]
    split: str
    n_folds: Count
    n_subjects: Count
    not_scored: Mapping[str, str]
    n_scored_windows: Count
    window_seconds: float
    step_seconds: float
    gap_seconds: float
    chronology: Chronology
    normalisation: str
    seeds: Count
    seed: Count
    n_bootstrap: Count
    settings: Mapping[str, Any]
    parameters: Count
    seconds: float
    start_from: Mapping[str, Any] | None = omitted()
    curve: tuple[PersonalPoint, ...]
    subjects: tuple[PersonalRow, ...]
    warnings: tuple[str, ...]
    fingerprint: Mapping[str, str]
    name: str = unwritten("")

    def __post_init__(self) -> None:
        n_general = sum(point.tier == GENERAL for point in self.curve)
        if n_general != 1:
            raise ValueError(f"{n_general} points of the general model; one is needed")
        if self.unchecked not in ("keep", "adapt"):
            raise ValueError(f"{self.settings['unchecked']!r} for 'settings.unchecked'; one of keep, adapt is needed")

    @property
    def unchecked(self) -> str:
        """Return what was done with whom nothing could be checked: keep, or (files of before the setting) adapt."""
        return str(self.settings.get("unchecked", "adapt"))

    @property
    def general(self) -> PersonalPoint:
        """Return the point of the general model."""
        return next(point for point in self.curve if point.tier == GENERAL)

    @property
    def points(self) -> tuple[PersonalPoint, ...]:
        """Return the results: label-free, few-shot, personal."""
        return tuple(point for point in self.curve if point.tier not in (GENERAL, CONTRAST))

    @property
    def contrast(self) -> tuple[PersonalPoint, ...]:
        """Return the random draw, which is no result."""
        return tuple(point for point in self.curve if point.tier == CONTRAST)
