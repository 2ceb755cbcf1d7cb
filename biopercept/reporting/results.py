"""What a folder of results holds, as frozen dataclasses: scores, predictions, logs of preparation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biopercept.results.audit import Audit
from biopercept.results.comparison import Comparison
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.reading import ResultTable

from .prediction_results import PredictionFolder, Predictions
from .sensor_results import SensorSubset
from .study_results import StudyScore
from .trust_results import Trust

PROBES: tuple[str, ...] = ("dummy", "clock-only", "motion-only", "quality-only")
"""Models that must not be good: what they reach is not physiology."""


@dataclass(frozen=True)
class Estimate:
    """A score over subjects.

    Attributes
    ----------
    mean : float or None
        Mean over subjects; None where the score is not defined.
    ci95 : tuple of two floats, or None
        95 % bootstrap interval over subjects.
    sd, median, worst : float or None
        Spread, median and lowest score over subjects.
    subjects_below_chance : int or None
    pooled : float or None
        The score over all windows of all subjects at once.
    n_subjects : int or None
        Subjects for whom the score is defined, where the file says so.
    """

    mean: float | None = None
    ci95: tuple[float, float] | None = None
    sd: float | None = None
    median: float | None = None
    worst: float | None = None
    subjects_below_chance: int | None = None
    pooled: float | None = None
    n_subjects: int | None = None


@dataclass(frozen=True)
class SubjectScore:
    """The scores of one held-out subject: a row of ``scores.csv``.

    Attributes
    ----------
    participant, fold : str
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


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A finished folder of ``cross-validate``.

    Attributes
    ----------
    name : str
        The folder's path below the folder that is reported.
    folder : Path
    model, task, split, normalisation : str
    classes : tuple of str
    n_subjects, n_windows, n_folds, seeds : int
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
    balanced_accuracy, macro_f1, auroc, mcc : Estimate
    trust : Trust
        What is known of its probabilities.
    window_seconds, step_seconds : float or None
        Length of a window and distance between two, seconds.
    brier, ece : float or None
    chance : mapping of name to score
    warnings : tuple of str
        What the cross-validation itself warned of.
    left_out : mapping of reason to number of windows
    by_class : mapping of class to (mapping of score name to value)
    fingerprint : mapping of name to text
        SHA-256 of the store, versions.
    subjects : tuple of SubjectScore
    predictions : Predictions
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
    balanced_accuracy: Estimate
    macro_f1: Estimate
    auroc: Estimate
    subjects: tuple[SubjectScore, ...]
    predictions: Predictions
    mcc: Estimate = field(default_factory=Estimate)
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


@dataclass(frozen=True, eq=False)
class PrepareLog:
    """The log table that ``prepare`` writes beside a store: a row per recording.

    Attributes
    ----------
    name : str
        The file's path below the folder that is reported.
    table : ResultTable
    """

    name: str
    table: ResultTable


@dataclass(frozen=True, eq=False)
class Results:
    """Everything found in a folder of results.

    Attributes
    ----------
    name : str
        Name of the folder.
    cross_validations : tuple of CrossValidation
        The models proper first, in alphabetical order, then the probes.
    predictions : tuple of PredictionFolder
    logs : tuple of PrepareLog
    audits : tuple of Audit
    unfinished : tuple of str
        Cross-validations below the folder that have begun and not ended.
    comparisons : tuple of Comparison
    personal_curves : tuple of PersonalCurve
    learning_curves : tuple of LearningCurve
    unfinished_curves : tuple of str
        Curves over own labels below the folder that have begun and not ended.
    """

    name: str
    cross_validations: tuple[CrossValidation, ...] = ()
    predictions: tuple[PredictionFolder, ...] = ()
    logs: tuple[PrepareLog, ...] = ()
    audits: tuple[Audit, ...] = ()
    unfinished: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    personal_curves: tuple[PersonalCurve, ...] = ()
    learning_curves: tuple[LearningCurve, ...] = ()
    unfinished_curves: tuple[str, ...] = ()
