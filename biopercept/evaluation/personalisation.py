"""What labels of one's own are worth, measured: a curve of gain over the general model against minutes of labels.

1. Subjects are dealt into folds; in each a general model is fitted on the other subjects alone.
2. Of each test subject the later windows are set apart to be scored, the same for all that follows. Before them, with
   a gap, lie the windows whose labels may be used: none (``label-free``: the subject's own first seconds scale the
   inputs), the first k of each class (``few-shot``), or all (``personal``).
3. The general model is adapted by each method, checked on the last of these labels, and kept as it was where that is
   not better or nothing could be checked; then the later windows are scored once.
4. Beside it stands a contrast that is no result: k windows drawn at random from the whole recording.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import Sessions
from biopercept.data.splits import STUDY, TIME, Fold
from biopercept.data.windows import FloatArray, IntArray
from biopercept.errors import SettingsError, StudyError
from biopercept.evaluation.metrics import Bootstrap, score_subject
from biopercept.evaluation.plan import EvaluationRequest, Plan, check_calibration, plan_evaluation
from biopercept.evaluation.runs import FoldRunOptions, PlainFold, RunFolder, fit_each
from biopercept.evaluation.settings import NONE
from biopercept.evaluation.time_split import require_one_classification
from biopercept.files import only_writer, write_json, write_table, write_text
from biopercept.parallel import Executor
from biopercept.progress import steps
from biopercept.report.curves import personal_page
from biopercept.results.curves import (
    ALL,
    CONTRAST,
    FEW,
    GENERAL,
    NO_LABELS,
    STAMP,
    TIERS,
    CurveScore,
    Gain,
    PersonalCurve,
    PersonalPoint,
    PersonalRow,
)
from biopercept.results.plan import SETTINGS_FILES
from biopercept.results.reading import few_subjects_warnings, row_of, write_result
from biopercept.sharing import joining
from biopercept.store.reading import StudyStore, open_store
from biopercept.training.adaptation import adapt, check_windows, fit_scratch, is_better
from biopercept.training.engine import Engine, engine_for, seed_for, threads
from biopercept.training.fitting import NetworkOnStudy, fit_perceiver_io
from biopercept.training.loop import FitRequest
from biopercept.training.objective import Objective, predict_windows
from biopercept.training.settings import ADAPT, ADAPTATIONS, CLASS, KEEP, METHODS, REFERENCE, SCRATCH
from biopercept.training.time_split import Course, Shots, course_of, gap_of, random_windows, set_aside, shots_of
from biopercept.typed_values import from_plain

TABLE, PAGE = "personalisation.csv", "personalisation.md"
LEAST_BOOTSTRAP = 2000
SCORES = ("balanced_accuracy", "auroc")


def personalise(request: EvaluationRequest, output: Path, **options: Unpack[FoldRunOptions]) -> PersonalCurve:
    """Run or resume the curve and return what ``personalisation.json`` holds.

    ``request.evaluation`` gives the folds over subjects, ``request.personalisation`` the rest. Written are
    ``personalisation.json``, ``.csv`` (a row per subject, tier, method and k), ``.md`` and a file per fold.

    Raises SettingsError where a setting does not go with it, or the folder holds something else or folds of other
    settings or data. Raises StudyError where subjects or windows do not suffice, or each file holds one class. Raises
    BusyError where another process is writing there. Raises UnfinishedError where folds are missing that other
    processes do.
    """
    if request.evaluation.n_bootstrap < LEAST_BOOTSTRAP:
        raise SettingsError(
            f"evaluation.n_bootstrap is {request.evaluation.n_bootstrap}; the curve needs at least {LEAST_BOOTSTRAP}"
        )
    kept = RunFolder(output, "personalisation", PersonalFold, folds_file=PersonalCurve.FOLDS)
    sharing = options.get("sharing")
    with open_store(request.store) as store, only_writer(output, is_shared=sharing is not None):
        plan = plan_personal_curve(store, request)
        people = output / kept.folds_folder / "people"
        clear = partial(kept.clear, (PersonalCurve.FILE, TABLE, PAGE, *SETTINGS_FILES))
        plan = replace(plan, request=replace(plan.request, people_folder=people))
        results = kept.run(plan, _fit_folds, clear, **options)
        with joining(sharing, output):
            curve = _document(store.name, plan, results)
            rows = [row_of(row) for row in curve.subjects]
            write_table(output / TABLE, ("participant_id", *list(rows[0])[1:]), [tuple(row.values()) for row in rows])
            write_result(output / PersonalCurve.FILE, curve)
            write_text(output / PAGE, personal_page(curve))
            shutil.rmtree(people, ignore_errors=True)
            return curve


@dataclass(frozen=True, eq=False)
class PersonalPlan(Plan):
    """The plan of a cross-validation, with every subject's windows in time and what is granted of it.

    ``shots`` are of the subjects that can be scored, ``not_scored`` says why the others cannot. ``reference_inputs``
    are the same windows scaled by each recording's first seconds; None where that tier is not wanted, or is what the
    general model does anyway.
    """

    courses: dict[str, Course] = field(default_factory=dict)
    shots: dict[str, Shots] = field(default_factory=dict)
    not_scored: dict[str, str] = field(default_factory=dict)
    gap_seconds: float = 0.0
    reference_inputs: WindowInputs | None = None

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        return {**super().identity(), "personalisation": asdict(self.request.personalisation)}

    def scored_rows_of(self, subject: str) -> IntArray:
        """Return the rows of a subject's scored windows."""
        return self.courses[subject].rows[self.shots[subject].scored]


def plan_personal_curve(store: StudyStore, request: EvaluationRequest) -> PersonalPlan:
    """Return the plan of the curve over labels.

    Raises StudyError where each file holds one class, or nobody can be scored. Raises SettingsError where the model,
    the task, the split or the normalisation does not go with it.
    """
    if request.model != "perceiver-io":
        raise SettingsError(f"personalise adapts perceiver-io; the model is {request.model}")
    if request.evaluation.split in (TIME, STUDY):
        raise SettingsError("personalise deals subjects into folds; set evaluation.split to k-fold or subject")
    if request.evaluation.missing_sensors != NONE:
        raise SettingsError(
            "personalise asks with all sensors; set evaluation.missing_sensors to none "
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
                "; where each class is one segment, personalisation.chronology=class orders windows within each class"
            )
        )
        raise StudyError(f"no subject can be scored: {'; '.join(dict.fromkeys(not_scored.values()))}{hint}")
    if settings.chronology == CLASS:
        warnings.append(
            "labelled come before scored windows within each class only: one segment of a class has windows on both "
            "sides, so gains hold for the rest of that segment and may not hold for another day"
        )
    if not_scored:
        who = ", ".join(f"{subject} ({why})" for subject, why in not_scored.items())
        warnings.append(f"{len(not_scored)} of {len(courses)} subjects are not scored: {who}")
    return plan.extended(
        PersonalPlan,
        warnings=tuple(warnings),
        courses=courses,
        shots=shots,
        not_scored=not_scored,
        gap_seconds=gap,
        reference_inputs=reference,
    )


def _after_reference(inputs: WindowInputs, scope: str) -> NDArray[np.bool_]:
    windows = inputs.windows
    sessions = Sessions.of(windows.recordings, scope)
    ends = sessions.reference_ends(windows.recordings, inputs.settings.reference_seconds)
    return np.asarray(windows.onset >= ends[windows.recording], dtype=bool)


@dataclass(frozen=True, eq=False)
class PersonalFold(PlainFold):
    """What one fold found: the values of a :class:`PersonalRow` per subject, tier, method and k.

    ``scored`` and ``granted`` are rows of the window table: scored, by subject; granted, by subject and k ("all": the
    personal tier). The parameters are those of the general model.
    """

    scored: dict[str, list[int]]
    granted: dict[str, dict[str, list[int]]]


_Key = tuple[str, str, str, int]  # subject, tier, method, k


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One repetition's probabilities of a subject's scored windows, and how they came about.

    ``labelled`` are the positions of the windows whose labels were used in the subject's :class:`Course`.
    """

    probabilities: FloatArray
    labelled: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    fell_back: bool = False
    is_checked: bool = True


def fit_personal_fold(plan: PersonalPlan, fold: Fold) -> PersonalFold:
    """Return every test subject's scores by every method; they depend on the plan and the fold alone."""
    started = time.perf_counter()
    request = plan.request
    subjects = [subject for subject in fold.test if subject in plan.shots]
    attempts: dict[_Key, list[_Attempt]] = defaultdict(list)
    kept, n_parameters = _KeptPeople(request.people_folder, fold), 0
    wanted = [(repetition, subject) for repetition in range(request.evaluation.n_seeds) for subject in subjects]
    n_before = sum(kept.has(*one) for one in wanted)
    with (
        threads(request.fit.training.n_threads),
        steps("people of the fold", len(wanted), done=n_before, is_kept=True) as done,
    ):
        for repetition in range(request.evaluation.n_seeds):
            if missing := [subject for subject in subjects if not kept.has(repetition, subject)]:
                general = _general(plan, fold, repetition)
                for subject in missing:
                    kept.keep(repetition, subject, dict(general.attempts(subject)), general.fitted.n_parameters)
                    done.advance(f"adapted to {subject}")
    for one in wanted:
        of_subject, n_parameters = kept.attempts(*one)
        for key, attempt in of_subject.items():
            attempts[key].append(attempt)
    rows = [_row(plan, *key, of_key) for key, of_key in attempts.items()]
    return PersonalFold(
        fold=fold,
        rows=tuple(sorted(rows, key=lambda row: (row["subject"], TIERS.index(row["tier"]), row["method"], row["k"]))),
        n_parameters=n_parameters,
        seconds=time.perf_counter() - started,
        scored={subject: plan.scored_rows_of(subject).tolist() for subject in subjects},
        granted={subject: _granted_rows(plan, subject) for subject in subjects},
    )


class _KeptPeople:
    """What is finished of a fold before all of it is: a file for each person and repetition; without a folder none."""

    def __init__(self, folder: Path | None, fold: Fold) -> None:
        self._folder, self._fold = folder, fold
        self._attempts: dict[tuple[int, str], tuple[dict[_Key, _Attempt], int]] = {}

    def has(self, repetition: int, subject: str) -> bool:
        """Return whether a person is finished, by this run or an earlier one."""
        if (repetition, subject) not in self._attempts and self._folder is not None:
            with suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: it is fitted again
                document = json.loads(self._path(repetition, subject).read_text(encoding="utf-8"))
                attempts = {
                    (subject, one["tier"], one["method"], one["k"]): _Attempt(
                        np.asarray(one["probabilities"], dtype=np.float64),
                        np.asarray(one["labelled"], dtype=np.int64),
                        one["fell_back"],
                        one["is_checked"],
                    )
                    for one in document["attempts"]
                }
                self._attempts[repetition, subject] = attempts, document["n_parameters"]
        return (repetition, subject) in self._attempts

    def keep(self, repetition: int, subject: str, attempts: dict[_Key, _Attempt], n_parameters: int) -> None:
        """Keep what was predicted of a person."""
        self._attempts[repetition, subject] = attempts, n_parameters
        if self._folder is None:
            return
        rows = [
            {"tier": tier, "method": method, "k": k, **asdict(attempt)}
            for (_, tier, method, k), attempt in attempts.items()
        ]
        for row in rows:
            row |= {"probabilities": row["probabilities"].tolist(), "labelled": row["labelled"].tolist()}
        write_json(self._path(repetition, subject), {"n_parameters": n_parameters, "attempts": rows})

    def attempts(self, repetition: int, subject: str) -> tuple[dict[_Key, _Attempt], int]:
        """Return what was predicted of a finished person, and the parameters of the general model."""
        return self._attempts[repetition, subject]

    def _path(self, repetition: int, subject: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._fold.name}-{repetition}-{subject}.json"


def _general(plan: PersonalPlan, fold: Fold, repetition: int) -> _General:
    """Return the general model of a fold, and where it is wanted that of inputs scaled by each recording's start."""
    fitted = _fit_general(plan, plan.inputs, fold, repetition)
    scaled = None if plan.reference_inputs is None else _fit_general(plan, plan.reference_inputs, fold, repetition)
    engine = engine_for(plan.request.device, plan.request.fit.training.precision)
    return _General(plan, fitted, engine, repetition, scaled)


def _fit_general(plan: PersonalPlan, inputs: WindowInputs, fold: Fold, repetition: int) -> NetworkOnStudy:
    """Return the network of the fold's other subjects, as ``cross-validate`` fits it; no test subject touches it."""
    request, windows = plan.request, plan.windows
    training, validation = windows.rows_of(fold.training), windows.rows_of(fold.validation)
    if inputs is plan.reference_inputs:  # windows inside the reference were scaled by themselves
        is_after = _after_reference(plan.inputs, plan.normalisation.scope)
        training, validation = training[is_after[training]], validation[is_after[validation]]
    return fit_perceiver_io(
        FitRequest(
            inputs=inputs,
            training=training,
            validation=validation,
            settings=request.fit,
            engine=engine_for(request.device, request.fit.training.precision),
            seed=seed_for(request.seed, fold.name, repetition),
            unlabelled=fold.unlabelled,
        )
    )


@dataclass(frozen=True, eq=False)
class _General:
    """The general model of a fold, which predicts its test subjects and is adapted to them.

    ``scaled`` is that of inputs scaled by each recording's start, None where it is not wanted.
    """

    plan: PersonalPlan
    fitted: NetworkOnStudy
    engine: Engine
    repetition: int
    scaled: NetworkOnStudy | None = None

    def attempts(self, subject: str) -> Iterator[tuple[_Key, _Attempt]]:
        """Give what each tier and method predicts of a subject's scored windows."""
        plan, settings = self.plan, self.plan.request.personalisation
        course, shots = plan.courses[subject], plan.shots[subject]
        yield (subject, GENERAL, GENERAL, 0), _Attempt(self.fitted.predict(plan.scored_rows_of(subject)))
        grants: list[tuple[str, int, IntArray]] = [(FEW, k, labelled) for k, labelled in shots.first.items()]
        grants.append((ALL, 0, shots.earlier))
        for k in shots.first:
            drawn = random_windows(course, k, np.random.default_rng(self._seed(subject, "random draw", k)))
            if drawn is not None:
                grants.append((CONTRAST, k, drawn))
        for tier, k, labelled in grants:
            for method in settings.methods:
                if method in ADAPTATIONS:
                    yield (subject, tier, method, k), self._adapted(course, method, k, labelled)
        if SCRATCH in settings.methods:
            yield (subject, ALL, SCRATCH, 0), self._from_scratch(course, shots.earlier)
        if self.scaled is not None:
            yield (subject, NO_LABELS, REFERENCE, 0), _Attempt(self.scaled.predict(plan.scored_rows_of(subject)))

    def _seed(self, *parts: object) -> int:
        return seed_for(self.plan.request.seed, "personalise", self.repetition, *parts)

    def _request(self, course: Course, labelled: IntArray, *purpose: object) -> FitRequest:
        """Return what is fitted to a subject's labelled windows, the last of them set aside for checks."""
        request = self.plan.request
        fitting, checking = set_aside(course, labelled, request.personalisation.validation_fraction)
        return FitRequest(
            inputs=self.plan.inputs,
            training=course.rows[fitting],
            validation=course.rows[checking],
            settings=request.fit,
            engine=self.engine,
            seed=self._seed(course.subject, *purpose),
        )

    def _adapted(self, course: Course, method: str, k: int, labelled: IntArray) -> _Attempt:
        settings = replace(self.plan.request.personalisation, method=method)
        request = self._request(course, labelled, method, k)
        made = adapt(self.fitted.fitted.network, self.fitted.source, request, settings)
        rows, task = self.plan.scored_rows_of(course.subject), self.plan.task
        predicted = predict_windows(made.network, (task,), self.fitted.source, rows)[task.name]
        return _Attempt(predicted, labelled, made.fell_back, made.is_checked)

    def _from_scratch(self, course: Course, labelled: IntArray) -> _Attempt:
        """Return what a network of the subject alone predicts, or the general one where it is not shown better."""
        settings, windows = self.plan.request.personalisation, self.plan.windows
        request, scored = self._request(course, labelled, SCRATCH), self.plan.scored_rows_of(course.subject)
        rows = request.validation
        if not len(rows) and settings.unchecked == KEEP:
            return _Attempt(self.fitted.predict(scored), labelled, fell_back=True, is_checked=False)
        scratch = fit_scratch(request, settings.scratch_steps)
        if len(rows):
            objective = Objective(windows, windows.tasks, request.settings.training.label_smoothing)
            checks = [
                (step, *check_windows(model.fitted.network, model.source, objective, rows))
                for step, model in enumerate((self.fitted, scratch))
            ]
            if not is_better(checks, checks[0][1]):
                return _Attempt(self.fitted.predict(scored), labelled, fell_back=True)
        return _Attempt(scratch.predict(scored), labelled, is_checked=bool(len(rows)))


def _granted_rows(plan: PersonalPlan, subject: str) -> dict[str, list[int]]:
    course, shots = plan.courses[subject], plan.shots[subject]
    few = {str(k): course.rows[labelled].tolist() for k, labelled in shots.first.items()}
    return {**few, "all": course.rows[shots.earlier].tolist()}


def _row(
    plan: PersonalPlan, subject: str, tier: str, method: str, k: int, attempts: Sequence[_Attempt]
) -> dict[str, Any]:
    course, rows = plan.courses[subject], plan.scored_rows_of(subject)
    probabilities = np.mean([attempt.probabilities for attempt in attempts], axis=0)
    scores = score_subject(subject, plan.windows.only.values[rows], probabilities)
    elapsed = float(np.mean([course.minutes_until(attempt.labelled) for attempt in attempts]))
    if tier == NO_LABELS:
        elapsed = plan.normalisation.reference_seconds / 60.0
    return {
        "subject": subject,
        "tier": tier,
        "method": method,
        "k": k,
        "n_labelled": len(attempts[0].labelled),  # k of each class in every draw
        "label_minutes": round(float(np.mean([course.minutes(attempt.labelled) for attempt in attempts])), 3),
        "elapsed_minutes": round(elapsed, 3),
        "n_scored": len(rows),
        "balanced_accuracy": scores.balanced_accuracy,
        "auroc": scores.auroc,
        "brier": scores.brier,
        "n_fallen_back": sum(attempt.fell_back for attempt in attempts),
        "is_checked": attempts[-1].is_checked,
    }


def _plan_of(request: EvaluationRequest) -> PersonalPlan:
    return plan_personal_curve(open_store(request.store), request)


def _fit_folds(
    plan: PersonalPlan, folds: Sequence[Fold], n_jobs: int | Executor
) -> Iterator[tuple[Fold, PersonalFold]]:
    return fit_each(fit_personal_fold, _plan_of, plan, folds, n_jobs)


def _document(study: str, plan: PersonalPlan, results: Sequence[PersonalFold]) -> PersonalCurve:
    request, settings = plan.request, plan.request.personalisation
    rows = sorted((row for result in results for row in result.rows), key=lambda row: str(row["subject"]))
    curve = curve_of(rows, plan.bootstrap)
    warnings = list(plan.warnings)
    without = {k: [s for s, shots in plan.shots.items() if k not in shots.first] for k in settings.k}
    for k, subjects in without.items():
        if len(subjects) == len(plan.shots):
            warnings.append(
                f"k = {k} is not scored: nobody has that many windows of each class before what is scored; leave it "
                "out of personalisation.k"
            )
        elif subjects:
            warnings.append(
                f"k = {k} leaves {len(subjects)} of the {len(plan.shots)} scored subjects nothing to score and is not "
                f"scored for them ({', '.join(subjects)}); points of different k are then over different people"
            )
    warnings += unchecked_sentences(rows, settings.unchecked)
    warnings += few_subjects_warnings(len(plan.shots))
    return PersonalCurve(
        study=study,
        task=plan.task.name,
        classes=plan.windows.only.classes,
        split=request.evaluation.split,
        n_folds=len(plan.folds),
        n_subjects=len(plan.shots),
        not_scored=plan.not_scored,
        n_scored_windows=sum(len(shots.scored) for shots in plan.shots.values()),
        window_seconds=plan.windows.length_seconds,
        step_seconds=plan.inputs.step_seconds,
        gap_seconds=plan.gap_seconds,
        chronology=settings.chronology,
        normalisation=plan.normalisation.mode,
        seeds=request.evaluation.n_seeds,
        seed=request.seed,
        n_bootstrap=request.evaluation.n_bootstrap,
        settings=plan.identity()["personalisation"],
        parameters=max(result.n_parameters for result in results),
        seconds=round(sum(result.seconds for result in results), 1),
        start_from=plan.start,
        curve=curve,
        subjects=tuple(from_plain(PersonalRow, row) for row in rows),
        warnings=tuple(warnings),
        fingerprint=plan.fingerprint,
    )


def curve_of(rows: Sequence[Mapping[str, Any]], bootstrap: Bootstrap) -> tuple[PersonalPoint, ...]:
    """Return a point for each tier, method and k: scores and gains over subjects, fall-backs, minutes of labels.

    A gain is paired with the general model on the same windows of the same subjects; ``over_chronological``, of the
    random-draw contrast, is its gain less that of the first windows. Fallen back are those checked and found no better;
    who could not be checked is counted apart, kept or not. ``rows`` are of :class:`PersonalFold`.
    """
    row_at = {(r["subject"], r["tier"], r["method"], r["k"]): r for r in rows}
    order = (GENERAL, *METHODS)
    keys = sorted(
        {(r["tier"], r["method"], r["k"]) for r in rows},
        key=lambda key: (TIERS.index(key[0]), order.index(key[1]), key[2]),
    )
    subjects = sorted({str(r["subject"]) for r in rows})

    def over_subjects(values: Sequence[float | None]) -> CurveScore:
        score = bootstrap.score(values)
        return CurveScore.of(score, n_below=score.subjects_below_chance)

    def gain(first: tuple[str, str, int], second: tuple[str, str, int]) -> Gain:
        return Gain(**{name: over_subjects(paired(first, second, name)) for name in SCORES})

    def paired(first: tuple[str, str, int], second: tuple[str, str, int], name: str) -> list[float | None]:
        both = [s for s in subjects if (s, *first) in row_at and (s, *second) in row_at]
        pairs = [(row_at[(s, *first)][name], row_at[(s, *second)][name]) for s in both]
        return [None if a is None or b is None else a - b for a, b in pairs]

    points = []
    for tier, method, k in keys:
        at_point = [row_at[(s, tier, method, k)] for s in subjects if (s, tier, method, k) in row_at]
        key, few = (tier, method, k), (FEW, method, k)
        points.append(
            PersonalPoint(
                tier=tier,
                method=method,
                k=k,
                n_subjects=len(at_point),
                label_minutes=sum(r["label_minutes"] for r in at_point) / len(at_point),
                elapsed_minutes=sum(r["elapsed_minutes"] for r in at_point) / len(at_point),
                n_subjects_fallen_back=sum(r["n_fallen_back"] > 0 and r["is_checked"] for r in at_point),
                n_subjects_unchecked=sum(not r["is_checked"] for r in at_point),
                balanced_accuracy=over_subjects([r["balanced_accuracy"] for r in at_point]),
                auroc=over_subjects([r["auroc"] for r in at_point]),
                gain=Gain() if tier == GENERAL else gain(key, (GENERAL, GENERAL, 0)),
                stamp=STAMP if tier == CONTRAST else "",
                over_chronological=gain(key, few) if tier == CONTRAST else Gain(),
            )
        )
    return tuple(points)


def unchecked_sentences(rows: Sequence[Mapping[str, Any]], unchecked: str) -> list[str]:
    """Return of which subjects nothing could be checked, by tier and k, and what was done with them."""
    done = {
        KEEP: "the general model was kept (personalisation.unchecked=keep)",
        ADAPT: "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)",
    }[unchecked]
    sentences = []
    granted = {(str(r["tier"]), int(r["k"])) for r in rows if r["tier"] in (FEW, ALL)}
    for tier, k in sorted(granted, key=lambda key: (TIERS.index(key[0]), key[1])):
        at_point = [r for r in rows if (r["tier"], r["k"]) == (tier, k)]
        everybody = sorted({str(r["subject"]) for r in at_point})
        without = sorted({str(r["subject"]) for r in at_point if not r["is_checked"]})
        if without:
            what = f"{tier}, k = {k}" if tier == FEW else f"{tier}, all earlier labels"
            who = f"all {len(everybody)} subjects" if without == everybody else f"{', '.join(without)}"
            sentences.append(f"{what}: no label could be set aside to check on for {who}; {done}")
    return sentences
