"""The plan of the curve over labels: folds over subjects, and of each subject what is granted and what is scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.planning import EvaluationRequest, Plan, check_calibration, plan_evaluation
from biopercept.evaluation.sensor_subsets import NONE
from biopercept.evaluation.time_planning import require_one_classification
from biopercept.learning.inputs import WindowInputs
from biopercept.learning.sessions import Sessions
from biopercept.learning.splits import TIME
from biopercept.personalising.chronology import Course, Shots, course_of, shots_of
from biopercept.personalising.settings import CLASS, REFERENCE, gap_of
from biopercept.store import StudyStore


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
    gap_seconds : float
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

    Raises
    ------
    StudyError
        Where each file holds one class, or nobody can be scored.
    SettingsError
        Where the model, the task, the split or the normalisation does not go with it.
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
        found = shots_of(course, settings, gap, is_scorable[course.rows])
        if isinstance(found, str):
            not_scored[subject] = found
        else:
            shots[subject] = found
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
