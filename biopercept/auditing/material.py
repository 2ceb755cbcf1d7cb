"""What every probe works on: the labelled windows, folds over subjects, normalised features, and one way to score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from biopercept.auditing.settings import AuditSettings
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.fold_checks import check_classes_per_fold
from biopercept.evaluation.metrics import bootstrap_interval, score_subject
from biopercept.evaluation.planning import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.task_choice import choose_tasks
from biopercept.learning.engine import Engine, engine_for, seed_for
from biopercept.learning.fitting import FitRequest, Fitter
from biopercept.learning.normalisation import FloatArray
from biopercept.learning.sessions import Sessions
from biopercept.learning.splits import K_FOLD, Fold, make_folds, missing_folds
from biopercept.learning.windows import IntArray, WindowTable
from biopercept.store import StudyStore
from biopercept.windowed import Mask, WindowedRecording


@dataclass(frozen=True)
class LabelScore:
    """How well something tells the label.

    Attributes
    ----------
    value : float
        Balanced accuracy: the mean over subjects, or over all windows together where ``is_pooled``.
    ci95 : tuple of two floats
        Bootstrap over subjects.
    chance : float
        One over the number of classes that a subject has, averaged over subjects.
    n_subjects, n_windows : int
    per_subject : mapping of subject to float
        Empty where pooled.
    is_pooled : bool
        True where most subjects have one class only, so that no score per subject exists.
    """

    value: float
    ci95: tuple[float, float]
    chance: float
    n_subjects: int
    n_windows: int
    per_subject: Mapping[str, float] = field(default_factory=dict)
    is_pooled: bool = False

    def is_above_chance(self, margin: float) -> bool:
        """Return whether the whole interval lies more than ``margin`` above guessing."""
        return self.ci95[0] > self.chance + margin


@dataclass(frozen=True, eq=False)
class FoldValues:
    """Numbers about every window as one fold knows them.

    Attributes
    ----------
    training, test : int64 arrays
        Rows of the window table; no subject is in both.
    values : float64 array, shape (n_windows, n_columns)
        NaN where not defined.
    """

    training: IntArray
    test: IntArray
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Material:
    """The windows under audit, with folds over subjects that are the same for every probe.

    Attributes
    ----------
    plan : Plan
        Task, windows, normalisation and folds.
    settings : AuditSettings
    """

    plan: Plan
    settings: AuditSettings

    @property
    def windows(self) -> WindowTable:
        """Return the labelled windows."""
        return self.plan.windows

    @property
    def seed(self) -> int:
        """Return the seed of the run."""
        return self.plan.request.seed

    @property
    def n_bootstrap(self) -> int:
        """Return how often subjects are resampled for an interval."""
        return self.plan.request.evaluation.n_bootstrap

    @cached_property
    def engine(self) -> Engine:
        """Return the processor: probes are small."""
        return engine_for("cpu")

    @cached_property
    def recordings(self) -> tuple[WindowedRecording, ...]:
        """Return the recordings that have at least one labelled window, in order."""
        return tuple(self.windows.recordings[i] for i in np.unique(self.windows.recording))

    @cached_property
    def session_onset(self) -> FloatArray | None:
        """Return the seconds of recording in a window's session before it; None where recordings have no order."""
        try:
            earlier = Sessions.of(self.windows.recordings, "session").earlier
        except StudyError:
            return None
        spent = [sum(self.windows.recordings[i].duration_seconds for i in before) for before in earlier]
        onset: FloatArray = self.windows.onset + np.array(spent, dtype=np.float64)[self.windows.recording]
        return onset

    @cached_property
    def features(self) -> FloatArray:
        """Return the features scaled as a model of all subjects gets them, (n_windows, n_features)."""
        return self.plan.inputs.features(self.plan.inputs.fit(self.windows.subjects))

    @cached_property
    def fold_features(self) -> tuple[FoldValues, ...]:
        """Return per fold the features, scaled with statistics of its training subjects alone."""
        inputs = self.plan.inputs
        return tuple(
            FoldValues(
                self.windows.rows_of(fold.training),
                self.windows.rows_of(fold.test),
                inputs.features(inputs.fit(fold.training)),
            )
            for fold in self.plan.folds
        )

    def answers(self, fitter: Fitter) -> NDArray[np.float64]:
        """Return the probabilities (n_windows, n_classes) of a model fitted anew in each fold on the other subjects."""
        probabilities = np.full((len(self.windows), self.windows.only.n_classes), np.nan)
        for fold in self.plan.folds:
            request = FitRequest(
                self.plan.inputs,
                self.windows.rows_of(fold.training),
                np.empty(0, dtype=np.int64),
                self.plan.request.fit,
                self.engine,
                seed_for(self.seed, "audit", fold.name),
            )
            rows = self.windows.rows_of(fold.test)
            probabilities[rows] = fitter(request).probabilities(rows)
        return probabilities

    def score(self, probabilities: NDArray[np.float64]) -> LabelScore:
        """Return how well probabilities tell the label: per subject where that is defined, else pooled.

        Windows whose probabilities are NaN are left out.
        """
        windows = self.windows
        is_given = has_all_values(probabilities)
        found, chance = {}, []
        subjects = sorted({str(s) for s in windows.subject[is_given]})
        for subject in subjects:
            rows = windows.rows_of([subject])
            rows = rows[is_given[rows]]
            value = score_subject(subject, windows.only.values[rows], probabilities[rows]).balanced_accuracy
            if value is not None:
                found[subject] = value
                chance.append(1.0 / len(np.unique(windows.only.values[rows])))
        if len(found) < max(2, len(subjects) / 2):
            return self.pooled(probabilities)
        values = np.array(list(found.values()))
        interval = bootstrap_interval(values, seed=self.seed, n_bootstrap=self.n_bootstrap)
        n = int(is_given.sum())
        return LabelScore(float(values.mean()), interval, float(np.mean(chance)), len(found), n, found)

    def pooled(self, probabilities: NDArray[np.float64]) -> LabelScore:
        """Return the balanced accuracy over all windows together, its interval still a bootstrap over subjects."""
        windows, k = self.windows, self.windows.only.n_classes
        is_given = has_all_values(probabilities)
        subjects, owner = np.unique(windows.subject[is_given], return_inverse=True)
        target = windows.only.values[is_given]
        is_hit = probabilities[is_given].argmax(axis=1) == target
        counts, hits = np.zeros((len(subjects), k)), np.zeros((len(subjects), k))
        np.add.at(counts, (owner, target), 1.0)
        np.add.at(hits, (owner, target), is_hit)
        draws = np.random.default_rng(self.seed).integers(0, len(subjects), size=(self.n_bootstrap, len(subjects)))
        drawn = _mean_recall(hits[draws].sum(axis=1), counts[draws].sum(axis=1))
        low, high = np.percentile(drawn, [2.5, 97.5])
        value = float(_mean_recall(hits.sum(axis=0), counts.sum(axis=0)))
        chance = 1.0 / int((counts.sum(axis=0) > 0).sum())
        return LabelScore(value, (float(low), float(high)), chance, len(subjects), len(target), is_pooled=True)


def has_all_values(values: FloatArray) -> Mask:
    """Return which rows have a number in every column, (n_rows,)."""
    return np.asarray(np.isfinite(values).all(axis=1), dtype=bool)


def has_values(values: FloatArray) -> Mask:
    """Return which rows have a number in any column, (n_rows,)."""
    return np.asarray(np.isfinite(values).any(axis=1), dtype=bool)


def _mean_recall(hits: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the mean over classes (the last axis) of hits over counts; classes without windows are left out."""
    recalls = np.divide(hits, counts, out=np.zeros_like(hits), where=counts > 0)
    mean: FloatArray = recalls.sum(axis=-1) / (counts > 0).sum(axis=-1)
    return mean


def gather(store: StudyStore, request: EvaluationRequest, settings: AuditSettings) -> Material:
    """Return the material of an audit; only features are read, no signal.

    Raises
    ------
    StudyError
        Where the task is unknown, or windows or subjects do not suffice for it.
    SettingsError
        Where there are too few subjects, or all subjects of a class fall into one fold.
    """
    tasks = choose_tasks(store, request.task)
    if len(tasks) > 1:
        raise StudyError(f"--task {request.task} names {len(tasks)} tasks; audit one at a time")
    if tasks[0].is_regression:
        raise StudyError(f"task {tasks[0].name!r} predicts a number; an audit looks at classes and levels")
    fit = replace(request.fit, tokens=replace(request.fit.tokens, raw=False, derived=False, features=True))
    evaluation = replace(request.evaluation, split=K_FOLD, n_seeds=1, label_share=1.0)
    plan = plan_evaluation(store, replace(request, fit=fit, evaluation=evaluation), needs_folds=False)
    n_folds = max(2, min(settings.n_folds, len(plan.windows.subjects)))
    folds = _folds(plan, n_folds)
    warnings = (*plan.warnings, *missing_folds(folds, K_FOLD, n_folds))
    return Material(replace(plan, folds=folds, warnings=warnings), settings)


def _folds(plan: Plan, n_used: int) -> tuple[Fold, ...]:
    subjects = plan.windows.subjects
    folds = make_folds(subjects, K_FOLD, n_folds=n_used, seed=plan.request.seed, validation_fraction=0.0)
    try:
        check_classes_per_fold(plan.windows, folds)
    except SettingsError as fault:
        raise SettingsError(
            f"with {n_used} folds over {len(subjects)} subjects a class has all its subjects in one fold; "
            "set audit.n_folds higher or give another --seed"
        ) from fault
    return folds
