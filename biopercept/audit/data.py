"""What every probe works on: settings, labelled windows, folds over subjects, normalised features, one score.

Each threshold of the settings is explained in docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.audit.settings import AuditSettings
from biopercept.data.normalisation import Sessions
from biopercept.data.splits import K_FOLD, Fold, make_folds, stand_ins
from biopercept.data.windows import FloatArray, IntArray, WindowTable
from biopercept.errors import SettingsError, StudyError, count
from biopercept.evaluation.folds import check_classes_per_fold
from biopercept.evaluation.metrics import (
    Bootstrap,
    bootstrap_interval,
    number_scores,
    percentile_interval,
    score_numbers,
    score_subject,
)
from biopercept.evaluation.plan import EvaluationRequest, Plan, choose_tasks, plan_evaluation
from biopercept.report.text import score, with_interval
from biopercept.results.audit import Finding, Verdict
from biopercept.store.prepared import Mask, WindowedRecording
from biopercept.store.reading import StudyStore
from biopercept.training.engine import engine_for, seed_for
from biopercept.training.fitting import Fitter
from biopercept.training.lag import estimated_lags, lag_words, with_lags
from biopercept.training.loop import FitRequest

CONCORDANCE = "CCC"
FitClasses = Callable[[FloatArray, IntArray, IntArray], Any]
"""Gives the fitted classifier of values, labels and rows of training windows."""


@dataclass(frozen=True)
class ProbeScore:
    """How well something is read from something else: the label, whose a window is, or the time.

    Attributes
    ----------
    value : float
        Balanced accuracy, fraction of windows or correlation: the mean over subjects, or over all windows together
        where ``is_pooled``.
    ci95 : tuple of two floats
        Bootstrap over subjects.
    chance : float
        What guessing gives: one over the number of classes that a subject has, or of subjects; 0 for a correlation.
    per_subject : mapping of subject to float
        Empty where pooled.
    is_pooled : bool
        True where most subjects have one class only, so that no score per subject exists.
    p_value : float or None
        Fraction of circular shifts whose mean correlation is at least as high.
    name : str
        Of a label: balanced accuracy of classes, CCC (concordance) of numbers.
    """

    value: float
    ci95: tuple[float, float]
    chance: float
    n_subjects: int
    n_windows: int
    per_subject: Mapping[str, float] = field(default_factory=dict)
    is_pooled: bool = False
    p_value: float | None = None
    name: str = "balanced accuracy"

    def is_above_chance(self, margin: float) -> bool:
        """Return whether the whole interval lies more than ``margin`` above guessing."""
        return self.ci95[0] > self.chance + margin

    def is_readable(self, least: float) -> bool:
        """Return whether the whole interval passes ``least`` and few shifts reach as far (p < 0.05)."""
        return self.ci95[0] > least and self.p_value is not None and self.p_value < 0.05

    def above_chance(self, fraction: float) -> float:
        """Return a fraction corrected for guessing: 0 is guessing, 1 is always right."""
        return (fraction - self.chance) / (1.0 - self.chance)

    def finding(
        self, verdict: Verdict, sentence: str, details: Mapping[str, Any], *, probe: str, about: str, name: str
    ) -> Finding:
        """Return a probe's finding whose score this is, by its name; ``about`` is the subject matter."""
        return Finding(
            probe=probe,
            subject_matter=about,
            verdict=verdict,
            sentence=sentence,
            score_name=name,
            score=self.value,
            ci95=self.ci95,
            chance=self.chance,
            n_subjects=self.n_subjects,
            n_windows=self.n_windows,
            details=details,
        )


@dataclass(frozen=True, eq=False)
class FoldValues:
    """Numbers about every window as one fold knows them.

    ``training`` and ``test`` are rows of the window table, with no subject in both; values (n_windows, n_columns) are
    NaN where not defined.
    """

    training: IntArray
    test: IntArray
    values: FloatArray

    def with_values(self, values: FloatArray) -> FoldValues:
        """Return the fold with other values, its rows those that have all of them."""
        is_given = has_all_values(values)
        return FoldValues(self.training[is_given[self.training]], self.test[is_given[self.test]], values)


@dataclass(frozen=True, eq=False)
class AuditData:
    """The windows under audit, with folds over subjects that are the same for every probe."""

    plan: Plan
    settings: AuditSettings

    @property
    def windows(self) -> WindowTable:
        """Return the labelled windows."""
        return self.plan.windows

    @property
    def is_of_numbers(self) -> bool:
        """Return whether the label is a number: scores are concordances then, of which guessing gives 0."""
        return not self.windows.only.task.is_classification

    @property
    def seed(self) -> int:
        """Return the seed of the run."""
        return self.plan.request.seed

    @property
    def n_bootstrap(self) -> int:
        """Return how often subjects are resampled for an interval."""
        return self.plan.request.evaluation.n_bootstrap

    @cached_property
    def recordings(self) -> tuple[WindowedRecording, ...]:
        """Return the recordings that have at least one labelled window, in order."""
        return tuple(self.windows.recordings[i] for i in np.unique(self.windows.recording))

    @cached_property
    def holds_one_class(self) -> Mask:
        """Return of each recording with labelled windows whether they have one class, (n_recordings,)."""
        windows = self.windows
        labels = (windows.only.values[windows.recording == i] for i in np.unique(windows.recording))
        return np.array([len(np.unique(of_recording)) == 1 for of_recording in labels], dtype=bool)

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

    def predict(self, fitter: Fitter) -> NDArray[np.float64]:
        """Return what models fitted on the other subjects of each fold predict: probabilities of classes, or a number.

        Shape (n_windows, n_values).
        """
        probabilities = np.full((len(self.windows), self.windows.only.task.n_values), np.nan)
        for fold in self.plan.folds:
            request = FitRequest(
                inputs=self.plan.inputs,
                training=self.windows.rows_of(fold.training),
                validation=np.empty(0, dtype=np.int64),
                settings=self.plan.request.fit,
                engine=engine_for("cpu"),  # probes are small
                seed=seed_for(self.seed, "audit", fold.name),
            )
            rows = self.windows.rows_of(fold.test)
            probabilities[rows] = fitter(request).predict(rows)
        return probabilities

    def fold_by_fold(self, folds: Sequence[FoldValues], labels: IntArray, fit: FitClasses) -> FloatArray:
        """Return what a model fitted on each fold's training windows predicts, as :meth:`predict` does.

        ``labels`` need not be the true ones. NaN for windows that no fold tests.
        """
        probabilities = np.full((len(labels), self.windows.only.task.n_values), np.nan)
        for fold in folds:
            if self.is_of_numbers:
                line = fit(fold.values[fold.training], labels[fold.training], fold.training)
                probabilities[fold.test, 0] = line.predict(fold.values[fold.test])
                continue
            known = np.unique(labels[fold.training])
            probabilities[fold.test] = 0.0
            if len(known) < 2:
                probabilities[fold.test, known] = 1.0
                continue
            classifier = fit(fold.values[fold.training], labels[fold.training], fold.training)
            probabilities[fold.test[:, None], known] = classifier.predict_proba(fold.values[fold.test])
        return probabilities

    def score(self, probabilities: NDArray[np.float64]) -> ProbeScore:
        """Return how well probabilities predict the label: per subject where that is defined, else pooled.

        Windows whose probabilities are NaN are excluded.
        """
        if self.is_of_numbers:
            return self.score_numbers(probabilities[:, 0], self.windows.only.values)
        windows = self.windows
        is_given = has_all_values(probabilities)
        per_subject, chance = {}, []
        subjects = sorted({str(s) for s in windows.subject[is_given]})
        for subject in subjects:
            rows = windows.rows_of([subject])
            rows = rows[is_given[rows]]
            value = score_subject(subject, windows.only.values[rows], probabilities[rows]).balanced_accuracy
            if value is not None:
                per_subject[subject] = value
                chance.append(1.0 / len(np.unique(windows.only.values[rows])))
        if len(per_subject) < max(2, len(subjects) / 2):
            return self.pooled(probabilities)
        return self.over_subjects(per_subject, chance=float(np.mean(chance)), n_windows=int(is_given.sum()))

    def score_numbers(self, predicted: FloatArray, label: FloatArray, *, is_pooled: bool = False) -> ProbeScore:
        """Return the concordance of numbers: per subject where that is defined for most, else pooled; NaN left out."""
        is_given = np.isfinite(predicted)
        subject, label, predicted = self.windows.subject[is_given], label[is_given], predicted[is_given]
        rows = {str(name): subject == name for name in np.unique(subject)}
        each = [score_numbers(name, label[at], predicted[at]) for name, at in rows.items()]
        per_subject = {one.participant: one.ccc for one in each if one.ccc is not None}
        if not is_pooled and len(per_subject) >= max(2, len(each) / 2):
            over = self.over_subjects(per_subject, chance=0.0, n_windows=len(label))
            return replace(over, name=CONCORDANCE)
        agreement = number_scores(subject, label, predicted, each, Bootstrap(self.seed, self.n_bootstrap))["ccc"]
        value = agreement.pooled or 0.0
        interval = agreement.pooled_ci95 or (value, value)
        return ProbeScore(value, interval, 0.0, len(each), len(label), is_pooled=True, name=CONCORDANCE)

    def over_subjects(
        self, per_subject: Mapping[str, float], *, chance: float, n_windows: int, p_value: float | None = None
    ) -> ProbeScore:
        """Return the mean over subjects with its bootstrap interval."""
        values = np.array(list(per_subject.values()))
        interval = bootstrap_interval(values, seed=self.seed, n_bootstrap=self.n_bootstrap)
        return ProbeScore(
            float(values.mean()), interval, chance, len(per_subject), n_windows, per_subject, p_value=p_value
        )

    def pooled(self, probabilities: NDArray[np.float64]) -> ProbeScore:
        """Return the balanced accuracy over all windows together, its interval still a bootstrap over subjects."""
        if self.is_of_numbers:
            return self.score_numbers(probabilities[:, 0], self.windows.only.values, is_pooled=True)
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
        value = float(_mean_recall(hits.sum(axis=0), counts.sum(axis=0)))
        chance = 1.0 / int((counts.sum(axis=0) > 0).sum())
        return ProbeScore(value, percentile_interval(drawn), chance, len(subjects), len(target), is_pooled=True)

    def reaches(self, probe: ProbeScore, baseline: ProbeScore) -> bool:
        """Return whether a probe is as good as a model, or within the margin of it."""
        return probe.value >= baseline.value - self.settings.margin


def has_all_values(values: FloatArray) -> Mask:
    """Return which rows have a number in every column, (n_rows,)."""
    return np.asarray(np.isfinite(values).all(axis=1), dtype=bool)


def _mean_recall(hits: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the mean over classes (the last axis) of hits over counts; classes without windows are excluded."""
    recalls = np.divide(hits, counts, out=np.zeros_like(hits), where=counts > 0)
    mean: FloatArray = recalls.sum(axis=-1) / (counts > 0).sum(axis=-1)
    return mean


def gather(store: StudyStore, request: EvaluationRequest, settings: AuditSettings) -> AuditData:
    """Return what an audit looks at; only features are read, no signal.

    Raises StudyError where the task is unknown, or windows or subjects do not suffice for it. Raises SettingsError
    where there are too few subjects, or all subjects of a class fall into one fold.
    """
    tasks = choose_tasks(store, request.task)
    if len(tasks) > 1:
        raise StudyError(f"--task {request.task} names {len(tasks)} tasks; audit one at a time")
    fit = replace(request.fit, tokens=replace(request.fit.tokens, raw=False, derived=False, features=True))
    evaluation = replace(request.evaluation, split=K_FOLD, n_seeds=1, label_share=1.0)
    model = request.model if tasks[0].is_classification else "ridge"  # no model is fitted by its name here
    request = replace(request, model=model, fit=fit, evaluation=evaluation)
    plan = plan_evaluation(store, request, needs_folds=False)
    lagged = with_lags(plan.inputs, np.arange(len(plan.windows), dtype=np.int64))
    n_folds = max(2, min(settings.n_folds, len(plan.windows.subjects)))
    folds = _folds(plan, n_folds)
    lags = tuple(
        f"the lag of rating {plan.task.signal!r} was estimated on everybody for this audit: {lag_words(lag, plan.task)}"
        for lag in estimated_lags(plan.windows, lagged.windows).values()
    )
    plan = replace(plan, inputs=lagged)
    warnings = (*plan.warnings, *lags, *stand_ins(folds, n_folds, request.seed))
    return AuditData(replace(plan, folds=folds, warnings=warnings), settings)


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


def accuracy(reached: ProbeScore) -> str:
    """Return "a balanced accuracy of 0.935 [0.905, 0.960] in 34 subjects (guessing: 0.500)"."""
    pooled = " over all windows together" if reached.is_pooled else ""
    return (
        f"a {reached.name} of {with_interval(reached.value, reached.ci95)}{pooled} in "
        f"{count(reached.n_subjects, 'subject')} (guessing: {score(reached.chance)})"
    )


def filled_and_scaled(fold: FoldValues) -> FloatArray:
    """Return a fold's values, gaps filled by the training median and columns scaled by the training windows.

    Columns without a value, or without spread, in training are 0 everywhere.
    """
    training = fold.values[fold.training]
    has = np.isfinite(training).any(axis=0)
    values = np.zeros_like(fold.values)
    if has.any():
        median = np.nanmedian(training[:, has], axis=0)
        values[:, has] = np.where(np.isfinite(fold.values[:, has]), fold.values[:, has], median)
    mean, spread = values[fold.training].mean(axis=0), values[fold.training].std(axis=0)
    scaled: FloatArray = np.where(spread > 1e-9, (values - mean) / np.where(spread > 1e-9, spread, 1.0), 0.0)
    return np.clip(scaled, -10.0, 10.0)
