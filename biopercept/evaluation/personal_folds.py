"""One fold of the curve over labels: a general model of other people, then each test subject's own by every method.

Everything of a subject is scored on the same later windows. What is granted of a subject (labels of its first windows)
comes before them; the random draw, a contrast and never a result, takes its windows from anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import Sessions
from biopercept.data.splits import TIME, Fold
from biopercept.data.windows import IntArray
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.metrics import score_subject
from biopercept.evaluation.missing_sensors import NONE
from biopercept.evaluation.plan import EvaluationRequest, Plan, check_calibration, plan_evaluation
from biopercept.evaluation.time_split import require_one_classification
from biopercept.results.curves import ALL, CONTRAST, FEW, GENERAL, NO_LABELS, TIERS
from biopercept.store.reading import StudyStore
from biopercept.training.adaptation import adapt, check_windows, fit_scratch, is_better
from biopercept.training.engine import Engine, engine_for, seed_for, threads
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import Objective, predict_windows
from biopercept.training.settings import ADAPTATIONS, CLASS, KEEP, REFERENCE, SCRATCH
from biopercept.training.time_split import Course, Shots, course_of, gap_of, random_windows, set_aside, shots_of


@dataclass(frozen=True, eq=False)
class PersonalFold:
    """What one fold found.

    Attributes
    ----------
    rows : tuple of dict
        Per subject, tier, method and k: ``label_minutes``, ``elapsed_minutes``, ``n_labelled``, ``n_scored``,
        ``balanced_accuracy``, ``auroc``, ``n_fallen_back`` (of the repetitions: the general model was kept),
        ``is_checked`` (there were labels to check on). Minutes are means over the repetitions: each draws the windows
        of the contrast anew.
    scored, granted : dict
        Rows of the window table: scored, by subject; granted, by subject and k ("all": the personal tier).
    n_parameters : int
        Of the general model.
    """

    fold: Fold
    rows: tuple[dict[str, Any], ...]
    scored: dict[str, list[int]]
    granted: dict[str, dict[str, list[int]]]
    n_parameters: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        names = ("rows", "scored", "granted", "n_parameters", "seconds")
        return {"fold": self.fold.name, **{name: getattr(self, name) for name in names}}

    @staticmethod
    def from_json(document: dict[str, Any], fold: Fold) -> PersonalFold:
        """Return the result that :meth:`to_json` wrote."""
        return PersonalFold(
            fold,
            tuple(document["rows"]),
            document["scored"],
            document["granted"],
            document["n_parameters"],
            document["seconds"],
        )


@dataclass(eq=False)
class _Answers:
    """Probabilities about a subject's scored windows, over repetitions, and how they came about."""

    labelled: list[IntArray] = field(default_factory=list)
    probabilities: list[NDArray[np.float64]] = field(default_factory=list)
    n_fallen_back: int = 0
    is_checked: bool = True


_Key = tuple[str, str, str, int]  # subject, tier, method, k


def fit_personal_fold(plan: PersonalPlan, fold: Fold) -> PersonalFold:
    """Return every test subject's scores by every method; they depend on the plan and the fold alone."""
    started = time.perf_counter()
    request = plan.request
    subjects = [subject for subject in fold.test if subject in plan.shots]
    by_key: dict[_Key, _Answers] = {}
    n_parameters = 0
    if subjects:
        with threads(request.fit.training.n_threads):
            for repetition in range(request.evaluation.n_seeds):
                fitted = _fit_general(plan, plan.inputs, fold, repetition)
                n_parameters = fitted.n_parameters
                general = _General(plan, fitted, engine_for(request.device, request.fit.training.precision), repetition)
                for subject in subjects:
                    for key, labelled, probabilities, fell_back, is_checked in general.answers(subject):
                        outputs = by_key.setdefault(key, _Answers())
                        outputs.labelled.append(labelled)
                        outputs.probabilities.append(probabilities)
                        outputs.n_fallen_back += fell_back
                        outputs.is_checked = is_checked
                if plan.reference_inputs is not None:
                    scaled = _fit_general(plan, plan.reference_inputs, fold, repetition)
                    for subject in subjects:
                        key = (subject, NO_LABELS, REFERENCE, 0)
                        outputs = by_key.setdefault(key, _Answers())
                        outputs.labelled.append(np.zeros(0, dtype=np.int64))
                        outputs.probabilities.append(scaled.predict(_scored_rows(plan, subject)))
    rows = [_row(plan, *key, outputs) for key, outputs in by_key.items()]
    return PersonalFold(
        fold,
        tuple(sorted(rows, key=lambda row: (row["subject"], TIERS.index(row["tier"]), row["method"], row["k"]))),
        {subject: _scored_rows(plan, subject).tolist() for subject in subjects},
        {subject: _granted_rows(plan, subject) for subject in subjects},
        n_parameters,
        time.perf_counter() - started,
    )


def _fit_general(plan: PersonalPlan, inputs: WindowInputs, fold: Fold, repetition: int) -> NetworkOnStudy:
    """Return the network of the fold's other subjects, as ``cross-validate`` fits it; no test subject touches it."""
    request, windows = plan.request, plan.windows
    training, validation = windows.rows_of(fold.training), windows.rows_of(fold.validation)
    if inputs is plan.reference_inputs:  # windows inside the reference were scaled by themselves
        is_after = plan.after_reference()
        training, validation = training[is_after[training]], validation[is_after[validation]]
    return fit_perceiver_io(
        FitRequest(
            inputs,
            training,
            validation,
            request.fit,
            engine_for(request.device, request.fit.training.precision),
            seed_for(request.seed, fold.name, repetition),
            None,
            fold.unlabelled,
        )
    )


@dataclass(frozen=True, eq=False)
class _General:
    """The general model of a fold, asked about its test subjects and adapted to them."""

    plan: PersonalPlan
    fitted: NetworkOnStudy
    engine: Engine
    repetition: int

    def answers(self, subject: str) -> Iterator[tuple[_Key, IntArray, NDArray[np.float64], bool, bool]]:
        """Give (key, labelled places, probabilities of the scored windows, fell back, was checked) by tier."""
        plan, settings = self.plan, self.plan.request.personalisation
        course, shots = plan.courses[subject], plan.shots[subject]
        nothing = np.zeros(0, dtype=np.int64)
        yield (subject, GENERAL, GENERAL, 0), nothing, self._asked(subject), False, True
        grants: list[tuple[str, int, IntArray]] = [(FEW, k, places) for k, places in shots.first.items()]
        grants.append((ALL, 0, shots.earlier))
        for k in shots.first:
            drawn = random_windows(course, k, np.random.default_rng(self._seed(subject, "random draw", k)))
            if drawn is not None:
                grants.append((CONTRAST, k, drawn))
        for tier, k, places in grants:
            parts = set_aside(course, places, settings.validation_fraction)
            for method in settings.methods:
                if method in ADAPTATIONS:
                    yield (subject, tier, method, k), places, *self._adapted(course, method, k, *parts)
        if SCRATCH in settings.methods:
            parts = set_aside(course, shots.earlier, settings.validation_fraction)
            yield (subject, ALL, SCRATCH, 0), shots.earlier, *self._from_scratch(course, *parts)

    def _asked(self, subject: str) -> NDArray[np.float64]:
        return self.fitted.predict(_scored_rows(self.plan, subject))

    def _request(self, fitting: IntArray, checking: IntArray, seed: int) -> FitRequest:
        return FitRequest(
            inputs=self.plan.inputs,
            training=fitting,
            validation=checking,
            settings=self.plan.request.fit,
            engine=self.engine,
            seed=seed,
        )

    def _seed(self, *parts: object) -> int:
        return seed_for(self.plan.request.seed, "personalise", self.repetition, *parts)

    def _adapted(
        self, course: Course, method: str, k: int, fitting: IntArray, checking: IntArray
    ) -> tuple[NDArray[np.float64], bool, bool]:
        request = self._request(course.rows[fitting], course.rows[checking], self._seed(course.subject, method, k))
        settings = replace(self.plan.request.personalisation, method=method)
        made = adapt(self.fitted.fitted.network, self.fitted.source, request, settings)
        rows = _scored_rows(self.plan, course.subject)
        task = self.plan.task
        predicted = predict_windows(made.network, (task,), self.fitted.source, rows)[task.name]
        return predicted, made.fell_back, made.is_checked

    def _from_scratch(
        self, course: Course, fitting: IntArray, checking: IntArray
    ) -> tuple[NDArray[np.float64], bool, bool]:
        """Return the answers of a network of the subject alone, or of the general one where it is not shown better."""
        request = self.plan.request
        rows, scored = course.rows[checking], _scored_rows(self.plan, course.subject)
        if not len(rows) and request.personalisation.unchecked == KEEP:
            return self.fitted.predict(scored), True, False
        fit_request = self._request(course.rows[fitting], rows, self._seed(course.subject, SCRATCH))
        scratch = fit_scratch(fit_request, request.personalisation.scratch_steps)
        if len(rows):
            objective = Objective(self.plan.windows, self.plan.windows.tasks, request.fit.training.label_smoothing)
            checks = [
                (step, *check_windows(model.fitted.network, model.source, objective, rows))
                for step, model in enumerate((self.fitted, scratch))
            ]
            if not is_better(checks, checks[0][1]):
                return self.fitted.predict(scored), True, True
        return scratch.predict(scored), False, bool(len(rows))


def _scored_rows(plan: PersonalPlan, subject: str) -> IntArray:
    return plan.courses[subject].rows[plan.shots[subject].scored]


def _granted_rows(plan: PersonalPlan, subject: str) -> dict[str, list[int]]:
    course, shots = plan.courses[subject], plan.shots[subject]
    few = {str(k): course.rows[places].tolist() for k, places in shots.first.items()}
    return {**few, "all": course.rows[shots.earlier].tolist()}


def _row(plan: PersonalPlan, subject: str, tier: str, method: str, k: int, outputs: _Answers) -> dict[str, Any]:
    course, rows = plan.courses[subject], _scored_rows(plan, subject)
    scores = score_subject(subject, plan.windows.only.values[rows], np.mean(outputs.probabilities, axis=0))
    elapsed = float(np.mean([course.minutes_until(drawn) for drawn in outputs.labelled]))
    if tier == NO_LABELS:
        elapsed = plan.normalisation.reference_seconds / 60.0
    return {
        "subject": subject,
        "tier": tier,
        "method": method,
        "k": k,
        "n_labelled": len(outputs.labelled[0]),  # k of each class in every draw
        "label_minutes": round(float(np.mean([course.minutes(drawn) for drawn in outputs.labelled])), 3),
        "elapsed_minutes": round(elapsed, 3),
        "n_scored": len(rows),
        "balanced_accuracy": scores.balanced_accuracy,
        "auroc": scores.auroc,
        "brier": scores.brier,
        "n_fallen_back": outputs.n_fallen_back,
        "is_checked": outputs.is_checked,
    }


@dataclass(frozen=True, eq=False)
class PersonalPlan(Plan):
    """The plan of a cross-validation, with what is granted of each subject.

    Attributes
    ----------
    courses : dict of str to Course
        Every subject's windows in time.
    shots : dict of str to Shots
        Of the subjects that can be scored.
    not_scored : dict of str to str
        Why the others cannot.
    reference_inputs : WindowInputs or None
        The same windows scaled by each recording's first seconds; None where that tier is not asked for, or where it is
        what the general model does anyway.
    """

    courses: dict[str, Course] = field(default_factory=dict)
    shots: dict[str, Shots] = field(default_factory=dict)
    not_scored: dict[str, str] = field(default_factory=dict)
    gap_seconds: float = 0.0
    reference_inputs: WindowInputs | None = None

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        return {**super().identity(), "personalisation": asdict(self.request.personalisation)}

    def after_reference(self) -> NDArray[np.bool_]:
        """Return which windows begin after their recording's reference, (n_windows,)."""
        return _after_reference(self.inputs, self.normalisation.scope)


def plan_personal_curve(store: StudyStore, request: EvaluationRequest) -> PersonalPlan:
    """Return the plan of the curve over labels.

    Raises StudyError where each file holds one class, or nobody can be scored. Raises SettingsError where the model,
    the task, the split or the normalisation does not go with it.
    """
    if request.model != "perceiver-io":
        raise SettingsError(f"personalise adapts perceiver-io; the model is {request.model}")
    if request.evaluation.split == TIME:
        raise SettingsError("personalise deals subjects into folds; set evaluation.split to k-fold or subject")
    if request.evaluation.missing_sensors != NONE:
        raise SettingsError(
            f"personalise asks with all sensors; set evaluation.missing_sensors to none "
            f"(it is {request.evaluation.missing_sensors})"
        )
    check_calibration((), request.evaluation, "the curve of personalise")
    single = replace(request, evaluation=replace(request.evaluation, folds_at_once="single"))
    plan = plan_evaluation(store, single)
    require_one_classification(plan, "personalise")
    if plan.normalisation.is_transductive:
        raise SettingsError(
            "normalisation.mode is recording, which reads what is scored; use causal, reference, global or raw"
        )
    settings = request.personalisation
    gap = gap_of(settings.gap_seconds, plan.windows.length_seconds, "personalisation.gap_seconds")
    warnings = list(plan.warnings)
    inputs = plan.inputs
    reference = None
    is_scorable = np.ones(len(plan.windows), dtype=bool)
    if REFERENCE in settings.methods and plan.normalisation.mode == REFERENCE:
        warnings.append("the general model scales by the reference already, so the tier without labels is that model")
    elif REFERENCE in settings.methods:
        is_scorable = _after_reference(inputs, plan.normalisation.scope)
        reference = replace(inputs, settings=replace(plan.normalisation, mode=REFERENCE))
    courses = {subject: course_of(plan.windows, subject) for subject in plan.windows.subjects}
    shots, not_scored = {}, {}
    for subject, course in courses.items():
        split = shots_of(course, settings, gap, is_scorable[course.rows])
        if isinstance(split, str):
            not_scored[subject] = split
        else:
            shots[subject] = split
    if not shots:
        hint = (
            ""
            if settings.chronology == CLASS
            else (
                "; where each class is one stretch, personalisation.chronology=class orders windows within each class"
            )
        )
        raise StudyError(f"no subject can be scored: {'; '.join(dict.fromkeys(not_scored.values()))}{hint}")
    if settings.chronology == CLASS:
        warnings.append(
            "labelled come before scored windows within each class only: one stretch of a class has windows on both "
            "sides, so gains hold for the rest of that stretch and may not hold for another day"
        )
    if not_scored:
        who = ", ".join(f"{subject} ({why})" for subject, why in not_scored.items())
        warnings.append(f"{len(not_scored)} of {len(courses)} subjects are not scored: {who}")
    return PersonalPlan(
        plan.request, plan.task, plan.normalisation, inputs, plan.folds, tuple(warnings), plan.store_fingerprint,
        plan.start, courses, shots, not_scored, gap, reference,
    )  # fmt: skip


def _after_reference(inputs: WindowInputs, scope: str) -> NDArray[np.bool_]:
    windows = inputs.windows
    sessions = Sessions.of(windows.recordings, scope)
    ends = sessions.reference_ends(windows.recordings, inputs.settings.reference_seconds)
    return np.asarray(windows.onset >= ends[windows.recording], dtype=bool)
