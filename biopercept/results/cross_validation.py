"""``scores.json`` and the tables beside it: finished cross-validations of classes and of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.results.checksums import require_as_written
from biopercept.results.groups import Groups, load_groups
from biopercept.results.plan import SettingsPlan, read_plan
from biopercept.results.predictions import Predictions, predictions_of
from biopercept.results.reading import (
    CountedEstimate,
    Estimate,
    read_json,
    read_result,
    read_rows,
    read_settings,
    read_table,
    read_text,
)
from biopercept.typed_values import Count, Interval, Span, omitted, unwritten, written_as

if TYPE_CHECKING:
    import pandas as pd

SCORES_FILE = "scores.json"
SENSORS_FILE = "missing_sensors.csv"
PROBES: tuple[str, ...] = ("dummy", "clock-only", "motion-only", "quality-only")
"""Models that must not be good: what they reach is not physiology."""
RULES = ("confidence", "quality", "gated")
"""Orders in which windows are trusted, each with a risk-coverage curve."""


@dataclass(frozen=True, kw_only=True)
class Score(Estimate):
    """A score over the subjects for whom it is defined; ``sd`` with n - 1, ``worst`` is the largest of an error."""

    sd: float | None = None
    median: float | None = None
    worst: float | None = None
    n_subjects: Count | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScore(Score):
    """A score of classes, with the number of subjects below chance."""

    subjects_below_chance: Count | None = None


@dataclass(frozen=True, kw_only=True)
class PooledClassScore(ClassScore):
    """The same, and the score over all windows of all subjects at once."""

    pooled: float | None = None


@dataclass(frozen=True, kw_only=True)
class PooledScore(Score):
    """A score of levels, and the score over all windows of all subjects at once."""

    pooled: float | None = None


@dataclass(frozen=True, kw_only=True)
class NumberScore(PooledScore):
    """A score of numbers; the interval of the pooled score resamples whole subjects."""

    pooled_ci95: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Subjects of a fold's training side, lowest and highest over the folds: with labels, all, for early stopping.

    ``share`` is the fraction with labels that was asked for, 1 for everybody. ``minutes_of_own_labels`` are those of a
    split in time: least and most labelled minutes of a subject.
    """

    share: float
    subjects_labelled: Span
    subjects_of_training_side: Span
    subjects_for_early_stopping: Span
    minutes_of_own_labels: Interval | None = omitted()


@dataclass(frozen=True, kw_only=True)
class RiskCurve:
    """The fraction of wrong predictions at each coverage, the most trusted windows first, and the area under the curve.

    ``coverage_at_risk`` is the largest coverage with at most the risk that its key names.
    """

    risk: tuple[float, ...]
    aurc: float
    aurc_over_subjects: CountedEstimate = field(default_factory=CountedEstimate)
    coverage_at_risk: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Risk against coverage (fractions of windows that are predicted) by three orders of trust.

    In the gated order windows below ``least_quality`` come last.
    """

    coverage: tuple[float, ...]
    least_quality: float | None = None
    confidence: RiskCurve | None = omitted()
    quality: RiskCurve | None = omitted()
    gated: RiskCurve | None = omitted()

    def __post_init__(self) -> None:
        for rule, curve in self.curves.items():
            if len(curve.risk) != len(self.coverage):
                raise ValueError(f"{len(curve.risk)} risks of {rule} for {len(self.coverage)} coverages")

    @property
    def curves(self) -> dict[str, RiskCurve]:
        """Return the curve of each order that there is."""
        return {rule: curve for rule in RULES if (curve := getattr(self, rule)) is not None}


@dataclass(frozen=True, kw_only=True)
class PooledErrors:
    """Brier score and calibration error over all windows."""

    brier: float
    ece: float


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """How probabilities were calibrated, per fold where there is a list, and how they were before."""

    method: str
    learnt_from: str
    n_subjects: tuple[Count, ...] = ()
    temperatures: tuple[float | None, ...] | None = None
    uncalibrated: PooledErrors


@dataclass(frozen=True, kw_only=True)
class PredictionSets:
    """How prediction sets did on held-out subjects, asked for a coverage of ``target``.

    ``coverage`` is the mean over subjects of the fraction of windows whose set holds the true class, ``mean_size`` is
    in classes. ``answered``, ``abstained`` and ``empty`` are fractions of windows whose set is one class, is not, has
    none. ``thresholds`` are by fold; None where too few subjects were there to learn one.
    """

    target: float
    coverage: CountedEstimate
    coverage_of_windows: float | None = None
    worst_subject: float | None = None
    coverage_by_class: Mapping[str, float] = field(default_factory=dict)
    mean_size: float
    answered: float
    abstained: float | None = None
    empty: float | None = None
    accuracy_of_answered: float | None
    learnt_from: str
    n_subjects: tuple[Count, ...] = ()
    thresholds: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudyScore:
    """The scores of the held-out subjects of one of several studies; None for those of another kind of task."""

    n_subjects: Count
    balanced_accuracy: Estimate | None = omitted()
    macro_f1: Estimate | None = omitted()
    auroc: Estimate | None = omitted()
    mae: Estimate | None = omitted()
    ccc: Estimate | None = omitted()


@dataclass(frozen=True, kw_only=True)
class SensorSubset:
    """Scores of the fitted models with one set of sensors, such as "all", "without eda", "only ecg" or "ecg + temp".

    ``n_windows`` had something left that the model reads. Differences are to all sensors on the same windows, paired.
    """

    sensors: str
    kept: tuple[str, ...] = ()
    n_windows: Count
    balanced_accuracy: CountedEstimate
    auroc: CountedEstimate
    difference: CountedEstimate
    auroc_difference: CountedEstimate = field(default_factory=CountedEstimate)


@dataclass(frozen=True, kw_only=True)
class SensorScore:
    """One subject's scores with a set of sensors: a row of ``missing_sensors.csv``.

    Differences are to all sensors on the same windows; None where the subject loses none of its own.
    """

    participant: str = written_as("participant_id")
    sensors: str
    n_sensors: int
    n_windows: int
    n_windows_answered: int
    balanced_accuracy: float | None = None
    auroc: float | None = None
    difference: float | None = None
    auroc_difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class MissingSensors:
    """The missing-sensor matrix: which sets were asked for, the sensors of the study, and a row per set."""

    mode: str = ""
    sensors: tuple[str, ...] = ()
    subsets: tuple[SensorSubset, ...]


@dataclass(frozen=True, kw_only=True)
class SubjectScore:
    """The scores of one held-out subject: a row of ``scores.csv``; None where not defined (one class only).

    ``brier`` is half the mean squared distance of the probabilities from the label (0 is perfect, 1 worst; for two
    classes the usual Brier score). ``mcc`` is Matthews' correlation, ``ece`` the calibration error of the predicted
    class, which is rough with few windows.
    """

    participant: str = written_as("participant_id")
    n_windows: int
    balanced_accuracy: float | None
    macro_f1: float | None = None
    auroc: float | None = None
    brier: float | None = None
    fold: str = ""
    mcc: float | None = None
    ece: float | None = None


@dataclass(frozen=True, kw_only=True)
class NumberSubjectScore:
    """The scores of one held-out subject of a regression: a row of ``scores.csv``; None where not defined.

    ``mae`` is in the unit of what is predicted; ``ccc`` runs from -1 to 1; ``r2`` is 1 at best, 0 for the subject's own
    mean, and below 0 for worse.
    """

    participant: str = written_as("participant_id")
    n_windows: int
    mae: float
    ccc: float | None
    r2: float | None
    fold: str = ""


@dataclass(frozen=True, kw_only=True)
class FittedOn:
    """People that a saved model was fitted to: their study, the fingerprint of its store, how many."""

    study: str
    store: str
    n_subjects: Count


@dataclass(frozen=True, kw_only=True)
class ExternalModel:
    """The saved model whose scores these are, where people of another study were scored and nothing was fitted.

    ``model`` is the name of its folder. ``compared_by`` says how the scored people were compared with those that it was
    fitted to: by ``identity`` (study and subject), and by ``content`` of their recordings; ``seen`` are those of the
    scored whom it was fitted to. ``adapt``: its threshold was moved to each recording without labels, by the windows
    before each (past) or by all.
    """

    model: str
    weights_sha256: str
    fitted_on: tuple[FittedOn, ...]
    compared_by: tuple[str, ...]
    seen: tuple[str, ...] = ()
    adapt: str | None = omitted()


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """``scores.json`` of a task of classes or levels. All but ``name`` to ``config`` at the end stand in the file.

    ``study`` is empty in files of versions that did not write it, and of several stores joined their names with ``+``.
    ``is_transductive``: the inputs were scaled, or the threshold moved, by the tested subject's whole recording.
    ``operations_per_window`` are multiply-adds of one prediction by a network. ``seconds`` is the wall-clock time of
    all folds. ``brier`` and ``ece`` are over all windows, with intervals over subjects; ``..._over_subjects`` are the
    same scores within subjects. ``kind`` is None for classes without order; levels have two scores more. ``name`` is
    the folder's path below the folder that is reported, ``config`` the effective settings, ``config_text`` the same as
    YAML.
    """

    FILE: ClassVar[str] = SCORES_FILE
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "cross-validate"

    model: str
    study: str = omitted("")
    task: str
    classes: tuple[str, ...]
    split: str
    n_subjects: Count
    n_windows: Count
    n_folds: Count
    labels: Labels | None = None
    window_seconds: float | None = None
    step_seconds: float | None = None
    normalisation: str
    normalisation_scope: str | None = None
    is_transductive: bool = written_as("transductive", default=False)
    seeds: Count = 1
    seed: Count | None = None
    parameters: Count | None = None
    operations_per_window: Count | None = None
    seconds: float | None = None
    balanced_accuracy: ClassScore
    macro_f1: ClassScore = ClassScore()
    auroc: PooledClassScore = PooledClassScore()
    mcc: PooledClassScore = PooledClassScore()
    brier: float | None = None
    brier_ci95: Interval | None = None
    brier_over_subjects: Score = Score()
    ece: float | None = None
    ece_ci95: Interval | None = None
    ece_over_subjects: Score = Score()
    scores_by_class: Mapping[str, Mapping[str, int | float | None]] = field(default_factory=dict)
    risk_coverage: RiskCoverage | None = None
    calibration: Calibrated | None = omitted()
    conformal: PredictionSets | None = omitted()
    chance: Mapping[str, float | None] = field(default_factory=dict)
    n_windows_left_out: Mapping[str, Count] = field(default_factory=dict)
    kind: Literal["ordinal"] | None = omitted()
    levels_mae: PooledScore | None = omitted()
    weighted_kappa: PooledScore | None = omitted()
    studies: Mapping[str, StudyScore] = omitted({})
    start_from: Mapping[str, Any] | None = omitted()
    external: ExternalModel | None = omitted()
    missing_sensors: MissingSensors | None = omitted()
    warnings: tuple[str, ...] = ()
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    name: str = unwritten("")
    folder: Path = unwritten(Path())
    subjects: tuple[SubjectScore, ...] = unwritten(())
    predictions: Predictions = unwritten(None)
    config_text: str = unwritten("")
    plan: SettingsPlan | None = unwritten(None)
    groups: Groups | None = unwritten(None)
    config: Mapping[str, Any] = unwritten({})

    @property
    def is_probe(self) -> bool:
        """Return whether the model is a probe, which must not be good."""
        return self.model in PROBES

    @property
    def chance_level(self) -> float:
        """Return the balanced accuracy of guessing: one over the number of classes."""
        return 1.0 / len(self.classes)

    @property
    def study_names(self) -> tuple[str, ...]:
        """Return the study, or the studies that were joined, whose people were scored; none where it is not known."""
        return tuple(self.studies) or ((self.study,) if self.study else ())

    @property
    def sensor_subsets(self) -> tuple[SensorSubset, ...]:
        """Return the scores with fewer sensors; empty where they were not asked for."""
        return () if self.missing_sensors is None else self.missing_sensors.subsets


@dataclass(frozen=True, kw_only=True)
class NumberChance:
    """The mean absolute error of always predicting the training subjects' mean, and who is predicted better."""

    training_mean_mae: float | None = None
    subjects_better_than_mean: Count | None = None


@dataclass(frozen=True, eq=False)
class NumberPredictions:
    """Every held-out window of a regression: its subject, the true number and the predicted one, shape (n_windows,)."""

    subject: NDArray[np.str_]
    label: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NumberValidation:
    """``scores.json`` of a regression of a ``column`` of the study, whose unit the numbers have.

    All but ``name`` to ``predictions`` at the end stand in the file; ``name`` is the folder's path below the folder
    that is reported.
    """

    FILE: ClassVar[str] = SCORES_FILE
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "cross-validate"

    kind: Literal["regression"]
    model: str
    study: str = omitted("")
    task: str
    column: str
    split: str
    n_subjects: Count
    n_windows: Count
    n_folds: Count
    window_seconds: float | None = None
    step_seconds: float | None = None
    normalisation: str
    normalisation_scope: str | None = None
    is_transductive: bool = written_as("transductive", default=False)
    seeds: Count = 1
    seed: Count | None = None
    parameters: Count | None = None
    operations_per_window: Count | None = None
    seconds: float | None = None
    mae: NumberScore
    ccc: NumberScore
    r2: NumberScore
    studies: Mapping[str, StudyScore] = omitted({})
    chance: NumberChance = NumberChance()
    n_windows_left_out: Mapping[str, Count] = field(default_factory=dict)
    start_from: Mapping[str, Any] | None = omitted()
    external: ExternalModel | None = omitted()
    warnings: tuple[str, ...] = ()
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    name: str = unwritten("")
    folder: Path = unwritten(Path())
    subjects: tuple[NumberSubjectScore, ...] = unwritten(())
    predictions: NumberPredictions = unwritten(None)
    groups: Groups | None = unwritten(None)

    @property
    def is_probe(self) -> bool:
        """Return whether the model is a probe, which must not be good."""
        return self.model in PROBES


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a finished cross-validation or external validation: of each task what its files hold."""

    folder: Path
    tasks: Mapping[str, CrossValidation | NumberValidation]

    @property
    def only(self) -> CrossValidation | NumberValidation:
        """Return the result of the one task there is. Raises ValueError where there are several."""
        [result] = self.tasks.values()
        return result

    def to_frame(self) -> pd.DataFrame:
        """Return a row per task and subject: scores over the windows of a subject that the model had never seen."""
        import pandas as pd

        tables = [
            pd.read_csv(
                result.folder / "scores.csv",
                dtype={"participant_id": str, "fold": str},
                float_precision="round_trip",  # the quick ones die of an exponent that is far too large
            )
            for result in self.tasks.values()
        ]
        return pd.concat(tables, keys=self.tasks, names=["task", None]).reset_index(level="task")


def load_validation(folder: Path, name: str = "") -> CrossValidation | NumberValidation:
    """Return a finished cross-validation, of classes or of numbers; ``name`` as of :func:`load_cross_validation`.

    Raises StudyError where a file is missing, damaged, of another schema, or contradicts another.
    """
    if read_json(folder / SCORES_FILE).get("kind") != "regression":
        return load_cross_validation(folder, name)
    require_as_written(folder)
    scores = read_result(folder / SCORES_FILE, NumberValidation)
    table, subjects = read_table(folder / "predictions.csv"), read_rows(folder / "scores.csv", NumberSubjectScore)
    label, predicted = table.numbers("label"), table.numbers("predicted")
    if np.isnan(label).any() or np.isnan(predicted).any():
        raise StudyError(f"{table.path} lacks a number; run cross-validate again")
    names = table.texts("participant_id")
    _check_subjects(folder, [subject.participant for subject in subjects], set(names))
    return replace(
        scores,
        name=name or folder.resolve().name,
        folder=folder,
        subjects=subjects,
        predictions=NumberPredictions(np.array(names), label, predicted),
        groups=load_groups(folder),
    )


def load_sensor_scores(run: CrossValidation) -> tuple[SensorScore, ...]:
    """Return each subject's scores with every set of sensors; none where a cross-validation was not scored so.

    Raises StudyError where the table is missing or damaged.
    """
    return read_rows(run.folder / SENSORS_FILE, SensorScore) if run.missing_sensors is not None else ()


def load_cross_validation(folder: Path, name: str = "") -> CrossValidation:
    """Return the scores, subjects, predictions and settings of a finished cross-validation of classes.

    ``name`` is what the report calls it; the folder's own name where empty.

    Raises StudyError where a file is missing, damaged, of another schema, or contradicts another.
    """
    require_as_written(folder)
    scores = read_result(folder / SCORES_FILE, CrossValidation)
    if len(set(scores.classes)) < 2 or len(set(scores.classes)) != len(scores.classes):
        raise StudyError(
            f"{folder / SCORES_FILE} lists the classes {list(scores.classes)!r}; two or more different ones are needed"
        )
    predictions = predictions_of(read_table(folder / "predictions.csv"), scores.classes, needs_labels=True)
    subjects = read_rows(folder / "scores.csv", SubjectScore)
    _check_subjects(folder, [subject.participant for subject in subjects], {key[0] for key in predictions.keys})
    return replace(
        scores,
        name=name or folder.resolve().name,
        folder=folder,
        subjects=subjects,
        predictions=predictions,
        config_text=read_text(folder / "config.yaml"),
        plan=read_plan(folder),
        groups=load_groups(folder),
        config=read_settings(folder / "config.yaml"),
    )


def _check_subjects(folder: Path, scored: list[str], predicted: set[str]) -> None:
    """Refuse a folder whose tables come from different runs."""
    if len(set(scored)) != len(scored):
        raise StudyError(f"{folder / 'scores.csv'} has a subject twice; one row per subject is needed")
    if not scored:
        raise StudyError(f"{folder / 'scores.csv'} has no subject; run cross-validate again")
    if stranger := sorted(predicted - set(scored)):
        raise StudyError(
            f"{folder / 'predictions.csv'} has subject {stranger[0]!r}, which scores.csv lacks; "
            "the two files come from different runs, run cross-validate again"
        )
