"""A finished cross-validation, read from its folder: scores, predictions, calibration, missing sensors, studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import StudyError
from biopercept.results.predictions import Predictions, predictions_of
from biopercept.results.reading import (
    Fields,
    ResultTable,
    ScoreEstimate,
    read_json,
    read_settings,
    read_table,
    read_text,
)

SCHEMA = 1
PROBES: tuple[str, ...] = ("dummy", "clock-only", "motion-only", "quality-only")
"""Models that must not be good: what they reach is not physiology."""
Interval = tuple[float, float]
RULES = ("confidence", "quality", "gated")


def read_scores(folder: Path) -> Fields:
    """Return the named values of a folder's ``scores.json``. Raises StudyError where it cannot be read."""
    return Fields(folder / "scores.json", read_json(folder / "scores.json"))


def load_cross_validation(folder: Path, name: str = "") -> CrossValidation:
    """Return the scores, subjects, predictions and settings of a finished cross-validation.

    Parameters
    ----------
    folder : Path
        Holds ``scores.json``, ``scores.csv``, ``predictions.csv``, ``folds.json`` and ``config.yaml``.
    name : str
        What the report calls it; the folder's own name where empty.

    Raises
    ------
    StudyError
        Where a file is missing, damaged, of another schema, or contradicts another.
    """
    scores = read_scores(folder)
    schema = scores.content.get("schema")
    if schema != SCHEMA:
        raise StudyError(f"{scores.path} has schema {schema!r}; this version of biopercept reads schema {SCHEMA}")
    classes = scores.texts("classes")
    if len(set(classes)) < 2 or len(set(classes)) != len(classes):
        raise StudyError(f"{scores.path} lists the classes {list(classes)!r}; two or more different ones are needed")
    table = read_table(folder / "predictions.csv")
    predictions = predictions_of(table, classes, needs_labels=True)
    subjects = _subjects(read_table(folder / "scores.csv"))
    _check_subjects(folder, subjects, predictions.keys)
    return CrossValidation(
        name=name or folder.resolve().name,
        folder=folder,
        model=scores.text("model"),
        task=scores.text("task"),
        classes=classes,
        split=scores.text("split"),
        n_subjects=scores.whole("n_subjects") or 0,
        n_windows=scores.whole("n_windows") or 0,
        n_folds=scores.whole("n_folds") or 0,
        normalisation=scores.text("normalisation"),
        is_transductive=scores.flag("transductive", default=False),
        seeds=scores.whole("seeds", optional=True) or 1,
        balanced_accuracy=scores.estimate("balanced_accuracy"),
        macro_f1=scores.estimate("macro_f1", optional=True),
        auroc=scores.estimate("auroc", optional=True),
        mcc=scores.estimate("mcc", optional=True),
        trust=trust_of(scores),
        sensor_subsets=subsets_of(scores),
        studies=studies_of(scores),
        subjects=subjects,
        predictions=predictions,
        is_label_the_file=scores.flag("label_is_file", default=False),
        parameters=scores.whole("parameters", optional=True),
        operations=scores.whole("operations_per_window", optional=True),
        seconds=scores.number("seconds"),
        window_seconds=scores.number("window_seconds"),
        step_seconds=scores.number("step_seconds"),
        brier=scores.number("brier"),
        ece=scores.number("ece"),
        chance={key: scores.part("chance").number(key) for key in scores.part("chance", optional=True).content},
        warnings=scores.texts("warnings", optional=True),
        left_out=_left_out(scores),
        by_class=_by_class(scores),
        fingerprint={key: str(value) for key, value in scores.part("fingerprint", optional=True).content.items()},
        labels=_labels(scores),
        config_text=read_text(folder / "config.yaml"),
        config=read_settings(folder / "config.yaml"),
    )


def _labels(scores: Fields) -> Labels | None:
    labels = scores.part("labels", optional=True)
    names = ("subjects_labelled", "subjects_of_training_side", "subjects_for_early_stopping")
    share, spans = labels.number("share"), [labels.interval(name) for name in names]
    if share is None or None in spans:
        return None
    labelled, everybody, aside = ((int(span[0]), int(span[1])) for span in spans if span is not None)
    return Labels(share, labelled, everybody, aside)


def _left_out(scores: Fields) -> dict[str, int]:
    reasons = scores.part("n_windows_left_out", optional=True)
    return {reason: reasons.whole(reason) or 0 for reason in reasons.content}


def _by_class(scores: Fields) -> dict[str, dict[str, float | None]]:
    """Return what ``scores_by_class`` holds: per class a number, or an object of numbers."""
    by_class = scores.part("scores_by_class", optional=True)
    table: dict[str, dict[str, float | None]] = {}
    for label, value in by_class.content.items():
        if isinstance(value, dict):
            row = by_class.part(label)
            table[label] = {key: row.number(key) for key in row.content}
        else:
            table[label] = {"score": by_class.number(label)}
    return table


def _subjects(table: ResultTable) -> tuple[SubjectScore, ...]:
    """Return the rows of ``scores.csv``."""
    ids = table.texts("participant_id")
    folds = table.texts("fold", "")
    windows = table.numbers("n_windows")
    names = (
        "balanced_accuracy",
        "macro_f1",
        "auroc",
        "brier",
        "mcc",
        "ece",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
    )
    columns = {name: table.numbers(name, optional=name != "balanced_accuracy") for name in names}
    rows = []
    for place, participant in enumerate(ids):
        cells = {name: None if np.isnan(values[place]) else float(values[place]) for name, values in columns.items()}
        if np.isnan(windows[place]):
            raise StudyError(f"{table.path} has no n_windows for subject {participant!r}; a whole number is needed")
        low, high = cells.pop("balanced_accuracy_low"), cells.pop("balanced_accuracy_high")
        rows.append(
            SubjectScore(
                participant=participant,
                fold=folds[place],
                n_windows=int(windows[place]),
                ci95=None if low is None or high is None else (low, high),
                **cells,
            )
        )
    return tuple(rows)


def _check_subjects(folder: Path, subjects: tuple[SubjectScore, ...], keys: tuple[tuple[str, str, str], ...]) -> None:
    """Refuse a folder whose tables come from different runs."""
    scored = {subject.participant for subject in subjects}
    if len(scored) != len(subjects):
        raise StudyError(f"{folder / 'scores.csv'} has a subject twice; one row per subject is needed")
    if not scored:
        raise StudyError(f"{folder / 'scores.csv'} has no subject; run cross-validate again")
    stranger = sorted({key[0] for key in keys} - scored)
    if stranger:
        raise StudyError(
            f"{folder / 'predictions.csv'} has subject {stranger[0]!r}, which scores.csv lacks; "
            "the two files come from different runs, run cross-validate again"
        )


@dataclass(frozen=True)
class SubjectScore:
    """The scores of one held-out subject: a row of ``scores.csv``.

    Attributes
    ----------
    n_windows : int
        Scored windows.
    balanced_accuracy, macro_f1, auroc, brier, mcc, ece : float or None
        None where the score is not defined (one class only).
    ci95 : tuple of two floats, or None
        Interval of the balanced accuracy, where the file gives one
        (columns ``balanced_accuracy_low`` and ``balanced_accuracy_high``).
    """

    participant: str
    fold: str
    n_windows: int
    balanced_accuracy: float | None
    macro_f1: float | None = None
    auroc: float | None = None
    brier: float | None = None
    mcc: float | None = None
    ece: float | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Labels:
    """How many subjects of the training side kept their labels, lowest and highest over the folds.

    Attributes
    ----------
    share : float
        The share that was asked for; 1 is everybody.
    labelled, everybody, for_stopping : tuple of two ints
        Subjects with labels, of how many, and how many of those were set aside for early stopping.
    """

    share: float
    labelled: tuple[int, int]
    everybody: tuple[int, int]
    for_stopping: tuple[int, int]


def subsets_of(scores: Fields) -> tuple[SensorSubset, ...]:
    """Return the rows of ``missing_sensors`` in their order; none where it was not asked.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    if "missing_sensors" not in scores.content:
        return ()
    return tuple(_subset(row) for row in scores.part("missing_sensors").parts("subsets"))


def _subset(fields: Fields) -> SensorSubset:
    parts = [fields.part(name) for name in ("balanced_accuracy", "auroc", "difference")]
    (accuracy, accuracy_ci95), (auroc, auroc_ci95), (difference, difference_ci95) = (
        (part.number("mean"), part.interval("ci95")) for part in parts
    )
    return SensorSubset(
        fields.text("sensors"),
        fields.whole("n_windows") or 0,
        parts[0].whole("n_subjects") or 0,
        accuracy,
        accuracy_ci95,
        auroc,
        auroc_ci95,
        difference,
        difference_ci95,
    )


@dataclass(frozen=True)
class SensorSubset:
    """Scores of the fitted models with one set of sensors.

    Attributes
    ----------
    name : str
        Such as "all", "without eda", "only ecg", "ecg + temp".
    n_windows : int
        Windows that had something left that the model reads; 0 where it cannot answer from these sensors at all.
    balanced_accuracy, auroc, difference : float or None
        Means over subjects; the difference is in balanced accuracy, paired, to all sensors on the same windows.
    balanced_accuracy_ci95, auroc_ci95, difference_ci95 : tuple of two floats, or None
    """

    name: str
    n_windows: int
    n_subjects: int
    balanced_accuracy: float | None
    balanced_accuracy_ci95: Interval | None
    auroc: float | None
    auroc_ci95: Interval | None
    difference: float | None
    difference_ci95: Interval | None


def studies_of(scores: Fields) -> tuple[StudyScore, ...]:
    """Return the studies of ``studies`` in their order; none where one store was evaluated.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    studies = scores.part("studies", optional=True)
    return tuple(_study(name, studies.part(name)) for name in studies.content)


def _study(name: str, fields: Fields) -> StudyScore:
    parts = {key: fields.part(key) for key in fields.content if key != "n_subjects"}
    estimates = {key: (part.number("mean"), part.interval("ci95")) for key, part in parts.items()}
    return StudyScore(name, fields.whole("n_subjects") or 0, estimates)


@dataclass(frozen=True)
class StudyScore:
    """The scores of the held-out subjects of one study.

    Attributes
    ----------
    scores : mapping of name to (mean, interval)
        Mean over the study's subjects and its 95 % bootstrap interval over them; None where not defined.
    """

    study: str
    n_subjects: int
    scores: Mapping[str, tuple[float | None, Interval | None]]


def trust_of(scores: Fields) -> Trust:
    """Return what ``scores.json`` says of the probabilities; older files say less.

    Raises
    ------
    StudyError
        Where a value is of another kind than it must be.
    """
    curves = scores.part("risk_coverage", optional=True)
    coverage = curves.numbers("coverage", optional=True)
    risk = {rule: curves.part(rule).numbers("risk") for rule in RULES if rule in curves.content}
    for rule, values in risk.items():
        if len(values) != len(coverage):
            raise curves.fault(rule, "one risk for each coverage")
    return Trust(
        coverage=coverage,
        risk=risk,
        aurc={rule: curves.part(rule).known("aurc") for rule in risk},
        least_quality=curves.number("least_quality"),
        brier_ci95=scores.interval("brier_ci95"),
        ece_ci95=scores.interval("ece_ci95"),
        calibration=_calibration_words(scores),
        sets=_sets(scores),
    )


def _calibration_words(scores: Fields) -> str:
    if "calibration" not in scores.content:
        return ""
    calibration = scores.part("calibration")
    before = calibration.part("uncalibrated")
    return (
        f"Probabilities were calibrated ({calibration.text('method')}), learnt from {calibration.text('learnt_from')}, "
        f"never from those tested: before it, the Brier score was {before.known('brier'):.3f} and the calibration "
        f"error {before.known('ece'):.3f}."
    )


def _sets(scores: Fields) -> SetCoverage | None:
    if "conformal" not in scores.content:
        return None
    sets = scores.part("conformal")
    coverage = sets.part("coverage")
    return SetCoverage(
        target=sets.known("target"),
        coverage=coverage.known("mean"),
        ci95=coverage.interval("ci95"),
        answered=sets.known("answered"),
        mean_size=sets.known("mean_size"),
        accuracy_of_answered=sets.number("accuracy_of_answered"),
        learnt_from=sets.text("learnt_from"),
    )


@dataclass(frozen=True)
class SetCoverage:
    """How prediction sets did on held-out subjects.

    Attributes
    ----------
    target : float
        Coverage asked for.
    coverage, ci95 : float, tuple of two floats or None
        Mean over subjects of the share of windows whose set holds the true class, with its interval.
    answered, mean_size : float
        Share of windows whose set is one class; classes per set.
    accuracy_of_answered : float or None
    """

    target: float
    coverage: float
    ci95: Interval | None
    answered: float
    mean_size: float
    accuracy_of_answered: float | None
    learnt_from: str


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of the probabilities; every part is empty where a file does not say it.

    Attributes
    ----------
    coverage : tuple of float
        Shares of windows answered.
    risk : mapping of rule to tuple of float
        Share of wrong answers among those answered, at each coverage.
    aurc : mapping of rule to float
        Area under each curve.
    least_quality : float or None
        Of the gated rule.
    brier_ci95, ece_ci95 : tuple of two floats, or None
    calibration : str
        How probabilities were calibrated, in words; empty where they were not.
    sets : SetCoverage or None
    """

    coverage: tuple[float, ...] = ()
    risk: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    aurc: Mapping[str, float] = field(default_factory=dict)
    least_quality: float | None = None
    brier_ci95: Interval | None = None
    ece_ci95: Interval | None = None
    calibration: str = ""
    sets: SetCoverage | None = None


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A finished folder of ``cross-validate``.

    Attributes
    ----------
    name : str
        The folder's path below the folder that is reported.
    is_transductive : bool
        The inputs were scaled with statistics of the tested subject's whole recording.
    is_label_the_file : bool
        Each file has one label, so that any statistic of a file gives the label away.
    parameters : int or None
        Trained numbers of the model.
    operations : int or None
        Multiply-adds of one window's answer, where the model is a network.
    seconds : float or None
        Wall-clock time of the whole cross-validation.
    trust : Trust
        What is known of its probabilities.
    window_seconds, step_seconds : float or None
        Length of a window and distance between two, seconds.
    brier, ece : float or None
    warnings : tuple of str
        What the cross-validation itself warned of.
    by_class : mapping of class to (mapping of score name to value)
    fingerprint : mapping of name to text
        SHA-256 of the store, versions.
    labels : Labels or None
        Whose labels were used; None where the file does not say.
    sensor_subsets : tuple of SensorSubset
        Scores with fewer sensors; empty where they were not asked for.
    studies : tuple of StudyScore
        Scores of each of several studies; empty where one store was evaluated.
    config_text : str
        The effective settings, as YAML; empty where the file is missing.
    config : mapping
        The same, parsed.
    """

    name: str
    folder: Path
    model: str
    task: str
    classes: tuple[str, ...]
    split: str
    n_subjects: int
    n_windows: int
    n_folds: int
    normalisation: str
    is_transductive: bool
    seeds: int
    balanced_accuracy: ScoreEstimate
    macro_f1: ScoreEstimate
    auroc: ScoreEstimate
    subjects: tuple[SubjectScore, ...]
    predictions: Predictions
    mcc: ScoreEstimate = field(default_factory=ScoreEstimate)
    trust: Trust = field(default_factory=Trust)
    sensor_subsets: tuple[SensorSubset, ...] = ()
    studies: tuple[StudyScore, ...] = ()
    is_label_the_file: bool = False
    parameters: int | None = None
    operations: int | None = None
    seconds: float | None = None
    window_seconds: float | None = None
    step_seconds: float | None = None
    brier: float | None = None
    ece: float | None = None
    chance: Mapping[str, float | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    by_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None
    config_text: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_probe(self) -> bool:
        """Return whether the model is a probe, which must not be good."""
        return self.model in PROBES

    @property
    def chance_level(self) -> float:
        """Return the balanced accuracy of guessing: one over the number of classes."""
        return 1.0 / len(self.classes)
