"""Reading ``personalisation.json`` and ``learning_curve.json`` into checked curves."""

from __future__ import annotations

from pathlib import Path

from biopercept.errors import StudyError
from biopercept.results.reading import read_json

from .curve_results import CONTRAST, CurveScore, LearningCurve, LearningPoint, PersonalCurve, PersonalPoint
from .fields import Fields

PERSONAL_FILE, LEARNING_FILE = "personalisation.json", "learning_curve.json"
PERSONAL_FOLDS = "personalisation_folds.json"
"""Written when a curve over own labels begins; without the curve beside it, it has not ended."""
SCHEMA = 1
GENERAL = "general"
TIERS = (GENERAL, "label-free", "few-shot", "personal", CONTRAST)
METHODS = (GENERAL, "reference", "head", "low-rank", "full", "scratch")
CHRONOLOGIES = ("subject", "class")
UNCHECKED = ("keep", "adapt")
SCORES = ("balanced_accuracy", "mae")


def load_personal_curve(folder: Path, name: str = "") -> PersonalCurve:
    """Return what ``personalise`` wrote to a folder.

    Raises
    ------
    StudyError
        Where the file is missing, damaged or of another schema.
    """
    held = _opened(folder / PERSONAL_FILE, "personalise")
    points = [_personal_point(part) for part in held.parts("curve")]
    general = [point for point in points if point.tier == GENERAL]
    if len(general) != 1:
        raise StudyError(f"{held.path} has {len(general)} points of the general model; one is needed")
    settings = held.part("settings")
    return PersonalCurve(
        name=name or folder.resolve().name,
        study=held.text("study"),
        task=held.text("task"),
        normalisation=held.text("normalisation"),
        chronology=_one_of(held, "chronology", CHRONOLOGIES),
        # A file without the setting is of a version that adapted.
        unchecked=_one_of(settings, "unchecked", UNCHECKED) if "unchecked" in settings.content else "adapt",
        n_subjects=held.whole("n_subjects") or 0,
        n_not_scored=len(held.part("not_scored").content),
        n_scored_windows=held.whole("n_scored_windows") or 0,
        n_folds=held.whole("n_folds") or 0,
        seeds=held.whole("seeds") or 0,
        gap_seconds=held.known("gap_seconds"),
        general=general[0],
        points=tuple(point for point in points if point.tier not in (GENERAL, CONTRAST)),
        contrast=tuple(point for point in points if point.tier == CONTRAST),
        warnings=held.texts("warnings"),
    )


def load_learning_curve(folder: Path, name: str = "") -> LearningCurve:
    """Return what ``learning-curve`` wrote to a folder.

    Raises
    ------
    StudyError
        Where the file is missing, damaged or of another schema.
    """
    held = _opened(folder / LEARNING_FILE, "learning-curve")
    points = tuple(_learning_point(part) for part in held.parts("points"))
    if not points:
        raise StudyError(f"{held.path} has no points; run learning-curve again")
    return LearningCurve(name or folder.resolve().name, held.text("model"), points, held.texts("warnings"))


def _opened(path: Path, command: str) -> Fields:
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has schema {content.get('schema')!r}; this version of biopercept reads schema {SCHEMA}"
        )
    return Fields(path, content, command)


def _personal_point(part: Fields) -> PersonalPoint:
    tier = _one_of(part, "tier", TIERS)
    gain = part.part("gain", optional=tier == GENERAL)
    return PersonalPoint(
        tier=tier,
        method=_one_of(part, "method", METHODS),
        k=part.whole("k") or 0,
        n_subjects=part.whole("n_subjects") or 0,
        label_minutes=part.known("label_minutes"),
        elapsed_minutes=part.known("elapsed_minutes"),
        n_fallen_back=part.whole("n_subjects_fallen_back") or 0,
        n_unchecked=part.whole("n_subjects_unchecked") or 0,
        balanced_accuracy=_score(part, "balanced_accuracy"),
        auroc=_score(part, "auroc"),
        gain=CurveScore() if tier == GENERAL else _score(gain, "balanced_accuracy"),
        auroc_gain=CurveScore() if tier == GENERAL else _score(gain, "auroc"),
        added=_score(part.part("over_chronological"), "balanced_accuracy") if tier == CONTRAST else CurveScore(),
        stamp=part.text("stamp") if tier == CONTRAST else "",
    )


def _learning_point(part: Fields) -> LearningPoint:
    labelled = part.interval("subjects_labelled")
    if labelled is None:
        raise part.fault("subjects_labelled", "a list of two whole numbers")
    return LearningPoint(
        share=part.known("share"),
        subjects_labelled=(int(labelled[0]), int(labelled[1])),
        task=part.text("task"),
        score=_one_of(part, "score", SCORES),
        mean=part.number("mean"),
        ci95=part.interval("ci95"),
    )


def _score(held: Fields, name: str) -> CurveScore:
    part = held.part(name)
    return CurveScore(part.number("mean"), part.interval("ci95"), part.whole("n_below", optional=True) or 0)


def _one_of(held: Fields, name: str, allowed: tuple[str, ...]) -> str:
    value = held.text(name)
    if value not in allowed:
        raise held.fault(name, f"one of {', '.join(allowed)}")
    return value
