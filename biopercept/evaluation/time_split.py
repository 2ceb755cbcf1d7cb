"""The plan of a cross-validation in time: each subject's later windows, by a model of its own earlier ones.

1. A subject's labelled windows are put in order; the first part may be learnt from, the last is scored, and those that
   begin within the embargo between them are neither.
2. Of the first part the last windows of each class stop training early, or decide on falling back.
3. A fold is one subject. In the plan's table the learnt windows bear names of their own, so that every model, its
   scaling and its sampling take them for the training side; statistics are taken of these windows alone.
4. Who cannot be split so is named in a warning and not scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.baselines.catalogue import fitter_for
from biopercept.data.joined import Studies
from biopercept.data.splits import SUBJECT, TIME, Fold
from biopercept.data.views import visible_inputs
from biopercept.data.windows import IntArray, WindowTable
from biopercept.errors import SettingsError, StudyError, ranged
from biopercept.evaluation.missing_sensors import check_missing_sensors
from biopercept.evaluation.plan import EvaluationRequest, Plan, check_calibration, leak_warnings, plan_evaluation
from biopercept.training.adaptation import AdaptingFitter, enough_steps, load_starting_model, require_fitting
from biopercept.training.checkpoint import Checkpoint, load_start
from biopercept.training.fitting import Fitter
from biopercept.training.settings import KEEP
from biopercept.training.time_split import course_of, gap_of, set_aside, split_in_time


@dataclass(frozen=True, eq=False)
class TimePlan(Plan):
    """The plan of a split by time, with the minutes of labels that are learnt from by subject.

    ``checkpoint`` is the model that is adapted to each subject; None where each is fitted from new weights.
    """

    checkpoint: Checkpoint | None = None
    embargo_seconds: float = 0.0
    label_minutes: dict[str, float] = field(default_factory=dict)

    @cached_property
    def stack_size(self) -> int:
        """Return 0: subjects are fitted one by one."""
        return 0

    def fitter(self) -> Fitter:
        """Return what fits or adapts a subject's model."""
        if self.checkpoint is not None:
            return AdaptingFitter(self.checkpoint, self.request.personalisation)
        return fitter_for(self.request.model, self.windows)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for finished folds of an earlier run to be used again."""
        settings = asdict(self.request.personalisation)
        names = ["validation_fraction"]
        if self.checkpoint is not None:
            names += ["method", "rank", "n_steps", "learning_rate", "batch_size", "check_every"]
            names += ["unchecked", "unchecked_share"]
        return {**super().identity(), "personalisation": {name: settings[name] for name in names}}

    @property
    def scored_rows(self) -> IntArray:
        """Return the rows of the later windows."""
        return np.sort(np.concatenate([self.windows.rows_of(fold.test) for fold in self.folds]))

    def warnings_after(self, n_fallen_back: Mapping[str, int]) -> tuple[str, ...]:
        """Return the warnings, with those for whom the starting model was kept, and where nothing could be checked."""
        if self.checkpoint is None:
            return self.warnings
        settings, n_folds = self.request.personalisation, len(self.folds)
        fallen = [fold.name for fold in self.folds if n_fallen_back[fold.name] and fold.validation]
        unchecked = [fold.name for fold in self.folds if not fold.validation]
        who = f" ({', '.join(fallen)})" if fallen else ""
        n_seeds = self.request.evaluation.n_seeds
        repeated = f" in one or more of {n_seeds} repetitions" if n_seeds > 1 else ""
        warnings = [
            *self.warnings,
            f"adapted by {settings.method}: for {len(fallen)} of {n_folds} subjects{who} it was not better on their "
            f"own check windows{repeated}, and the starting model was kept",
        ]
        if unchecked:
            done = (
                "the starting model was kept (personalisation.unchecked=keep)"
                if settings.unchecked == KEEP
                else "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)"
            )
            warnings.append(
                f"no label could be set aside to check on for {len(unchecked)} of {n_folds} subjects "
                f"({', '.join(unchecked)}); {done}"
            )
        return tuple(warnings)

    def labels(self) -> dict[str, Any]:
        """Return that each fold rests on the labels of one subject, and how many minutes of them."""
        minutes = [round(m, 1) for m in sorted(self.label_minutes.values())]
        return {
            "share": 1.0,
            "subjects_labelled": [1, 1],
            "subjects_of_training_side": [1, 1],
            "subjects_for_early_stopping": [0, 0],
            "minutes_of_own_labels": [minutes[0], minutes[-1]],
        }


def plan_any(store: Studies, request: EvaluationRequest) -> Plan:
    """Return the plan of a cross-validation over subjects or in time; raises what these plans raise."""
    return plan_in_time(store, request) if request.evaluation.split == TIME else plan_evaluation(store, request)


def plan_in_time(store: Studies, request: EvaluationRequest) -> TimePlan:
    """Return the plan of a cross-validation in time.

    Raises StudyError where the task is no single classification, a file holds one class, or nobody can be split. Raises
    SettingsError where a setting does not go with a split within subjects. Raises CheckpointError where the model to
    start from cannot be read.
    """
    checkpoint = load_starting_model(Path(request.fit.start_from)) if request.fit.start_from else None
    request = _own_settings(request, checkpoint)
    over = replace(request, evaluation=replace(request.evaluation, split=SUBJECT, folds_at_once="single"))
    plan = plan_evaluation(store, over, needs_folds=False)
    require_one_classification(plan, "--split time")
    if plan.normalisation.is_transductive:
        raise SettingsError(
            "normalisation.mode is recording, which reads whole recordings, and a subject's later windows lie in the "
            "recordings that are learnt from; use causal, reference, global or raw"
        )
    windows, evaluation, personal = plan.windows, request.evaluation, request.personalisation
    check_missing_sensors(evaluation.missing_sensors, request.model, windows)
    embargo = gap_of(evaluation.embargo_seconds, windows.length_seconds, "evaluation.embargo_seconds")
    if checkpoint is not None:
        require_fitting(checkpoint, windows, Path(request.fit.start_from))
    rows: list[IntArray] = []
    names: list[str] = []
    folds, minutes, impossible = [], {}, {}
    n_embargoed, n_overlapping = 0, 0
    for subject in windows.subjects:
        course = course_of(windows, subject)
        split = split_in_time(course, evaluation.earlier_share, embargo)
        if isinstance(split, str):
            impossible[subject] = split
            continue
        fitting, checking = set_aside(course, split.earlier, personal.validation_fraction)
        sides = {f"{subject} | earlier": fitting, f"{subject} | check": checking, subject: split.later}
        for name, positions in sides.items():
            rows.append(course.rows[positions])
            names += [name] * len(positions)
        check = (f"{subject} | check",) if len(checking) else ()
        folds.append(Fold(subject, (f"{subject} | earlier",), check, (subject,)))
        minutes[subject] = course.minutes(split.earlier)
        n_embargoed += len(split.embargoed)
        n_overlapping += len(split.earlier) - len(fitting) - len(checking)
    if not folds:
        reasons = "; ".join(dict.fromkeys(impossible.values()))
        raise StudyError(f"no subject can be split by time: {reasons}; use --split subject")
    excluded = {
        "between the earlier and the later part": n_embargoed,
        "fitted windows that would overlap windows checked on": n_overlapping,
        "of subjects that cannot be split": sum(len(windows.rows_of([subject])) for subject in impossible),
    }
    table = renamed(windows, np.concatenate(rows), names, excluded)
    shortest = min(len(table.rows_of(fold.training)) for fold in folds)
    training = enough_steps(request.fit.training, shortest, personal.scratch_steps)
    request = replace(request, fit=replace(request.fit, training=training))
    return plan.extended(
        TimePlan,
        request=request,
        inputs=visible_inputs(replace(plan.inputs, windows=table)),
        folds=tuple(folds),
        warnings=(*plan.warnings, *_warnings(store, plan, request, impossible, minutes, embargo)),
        checkpoint=checkpoint,
        embargo_seconds=embargo,
        label_minutes=minutes,
    )


def _own_settings(request: EvaluationRequest, checkpoint: Checkpoint | None) -> EvaluationRequest:
    """Return the request as a model to start from needs it, once what makes no sense is refused."""
    evaluation = request.evaluation
    if request.more_stores or request.folds_from is not None:
        raise SettingsError("--split time divides each subject of one store; give one store, and no --folds-from")
    if request.fit.pretraining is not None:
        raise SettingsError(
            "--pretrain reads whole recordings, later part included; with --split time use --start-from"
        )
    if evaluation.label_share != 1:
        raise SettingsError("--label-share takes labels from subjects; with --split time set evaluation.earlier_share")
    if evaluation.calibrating.is_wanted:
        raise SettingsError(
            "calibration and prediction sets are learnt from people outside the fit, and a split by time has none; set "
            "evaluation.calibration=none and evaluation.conformal_coverage=0"
        )
    if evaluation.folds_at_once == "stacked":
        raise SettingsError(
            "evaluation.folds_at_once is stacked, and a split by time fits subjects one by one; use auto or single"
        )
    return _as_the_model(request, checkpoint)


def plan_personal(store: Studies, request: EvaluationRequest) -> Plan:
    """Return the plan of training a model of one subject: its windows, scaled as the model to start from scales.

    Raises StudyError where the subject is unknown or has one class, or each file holds one class. Raises SettingsError
    where the task is no single classification. Raises CheckpointError where the model to start from cannot be read.
    """
    checkpoint = load_starting_model(Path(request.fit.start_from)) if request.fit.start_from else None
    plan = plan_evaluation(store, _as_the_model(request, checkpoint), needs_folds=False)
    require_one_classification(plan, "--subject")
    check_calibration([plan.task], request.evaluation, "a model of one person")
    if checkpoint is None:
        return plan
    start = load_start(Path(request.fit.start_from))
    leaks = leak_warnings(store, start, plan.windows, "subjects that the model is for and is checked on")
    return replace(plan, warnings=(*plan.warnings, *leaks))


def _as_the_model(request: EvaluationRequest, checkpoint: Checkpoint | None) -> EvaluationRequest:
    """Return the request with the tokens, the network and the scaling of the model to start from."""
    if checkpoint is None:
        return request
    if request.is_normalisation_chosen and request.normalisation.mode != checkpoint.normalisation.mode:
        raise SettingsError(
            f"--normalisation is {request.normalisation.mode} and the model to start from scales by "
            f"{checkpoint.normalisation.mode}; leave the option out"
        )
    fit = replace(request.fit, tokens=checkpoint.tokens, model=checkpoint.model)
    return replace(request, fit=fit, normalisation=checkpoint.normalisation, is_normalisation_chosen=True)


def require_one_classification(plan: Plan, what: str) -> None:
    """Refuse numbers, several tasks, single times, and a task of which each file has one class, for what is named.

    Raises StudyError, SettingsError naming the task.
    """
    if len(plan.windows.tasks) != 1 or not plan.task.is_classification or plan.request.fit.training.dense_weight > 0:
        raise SettingsError(
            f"{what} asks for one classification of whole windows; give --task one name of such a task, and leave "
            "training.dense_weight at 0"
        )
    if plan.task.label_is_file:
        raise StudyError(
            f"each file has one class of task {plan.task.name!r}, so within a subject the file tells the label and "
            f"{what} is impossible; use cross-validate --split subject"
        )


def renamed(table: WindowTable, rows: IntArray, names: Sequence[str], excluded: dict[str, int]) -> WindowTable:
    """Return the windows at ``rows``, in the table's order, each under another name of its subject.

    ``excluded`` counts windows excluded beside those that the table counts, by reason.
    """
    order = np.argsort(rows, kind="stable")
    more = {reason: n for reason, n in excluded.items() if n}
    chosen = table.at(rows[order])
    targets = {name: replace(target, excluded={**target.excluded, **more}) for name, target in chosen.targets.items()}
    return replace(chosen, subject=np.array(names, dtype=np.str_)[order], targets=targets)


def _warnings(
    store: Studies,
    plan: Plan,
    request: EvaluationRequest,
    impossible: dict[str, str],
    minutes: dict[str, float],
    embargo: float,
) -> list[str]:
    least_and_most = ranged(f"{min(minutes.values()):.0f}", f"{max(minutes.values()):.0f}")
    warnings = [
        f"within subjects: {least_and_most} minute{'s' * (least_and_most != '1')} of the subject's own labels were "
        f"learnt from, and {embargo:g} s lie between them and what is scored; this says nothing about people never seen"
    ]
    if impossible:
        who = ", ".join(f"{subject} ({why})" for subject, why in impossible.items())
        warnings.append(
            f"{len(impossible)} of {len(plan.windows.subjects)} subjects cannot be split and are not scored: {who}"
        )
    if request.fit.start_from:
        seen = load_start(Path(request.fit.start_from)).overlap(store.name, store.fingerprint(), tuple(minutes))
        if seen:
            warnings.append(
                f"LEAK: the model started from had seen {len(seen)} of the {len(minutes)} scored subjects "
                f"({', '.join(seen)}), their scored windows included; start from a model trained without them "
                "(train --exclude-subjects)"
            )
    return warnings
