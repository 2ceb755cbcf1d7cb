"""Score the folds' predictions of each task: ``predictions.csv``, ``scores.csv``, ``scores.json``.

Several tasks have a sub-folder each; several studies are scored each by itself too; of a split in time the later parts
alone are scored; and the missing-sensor matrix says what each absence costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biopercept.data.views import measured_sensors
from biopercept.errors import StudyError, count
from biopercept.evaluation.fold_fits import FoldResult
from biopercept.evaluation.metrics import (
    auroc_score,
    chance_levels,
    level_scores,
    matthews_correlation,
    metrics_of,
    number_scores,
    score_subject,
)
from biopercept.evaluation.missing_sensors import WHOLE, sets_for
from biopercept.evaluation.plan import Plan
from biopercept.evaluation.settings import NONE
from biopercept.evaluation.time_split import renamed
from biopercept.evaluation.trust import (
    calibrated,
    pooled_probability_scores,
    prediction_sets,
    risk_coverage,
    scores_by_class,
    set_scores,
    trust_warnings,
)
from biopercept.files import write_table
from biopercept.results.cross_validation import (
    SCORES_FILE,
    SENSORS_FILE,
    ClassScore,
    CrossValidation,
    Labels,
    MissingSensors,
    NumberChance,
    NumberSubjectScore,
    NumberValidation,
    PooledClassScore,
    Score,
    SensorScore,
    SensorSubset,
    StudyScore,
    SubjectScore,
)
from biopercept.results.plan import write_settings
from biopercept.results.reading import (
    CountedEstimate,
    Estimate,
    document_of,
    few_subjects_warnings,
    write_result,
    write_rows,
)
from biopercept.tasks import ORDINAL, REGRESSION, Task
from biopercept.training.calibration import set_words
from biopercept.training.lag import lag_words

_MOST_NAMED_FOLDS = 10
_MOST_LAG_APART = 2.0
"""Lags of folds that lie further apart, seconds, are no property of the rating: folds share most of their people."""


def write_all_scores(
    plan: Plan, results: Sequence[FoldResult], output: Path, *, config_text: str = ""
) -> dict[str, Any]:
    """Score every task of a cross-validation and return what its ``scores.json`` holds.

    One task is written into ``output`` itself. Of several, each has a folder of its name with the same files and the
    settings, so that it is read and reported like any cross-validation; folds and log are shared. Returned are then
    ``tasks`` with the scores of each by name, and all their ``warnings``.

    Raises StudyError where a window was predicted twice or not at all. Raises OutputError where a file cannot be
    written.
    """
    plan = _at_lags(plan, results)
    tasks = plan.windows.tasks
    if len(tasks) == 1:
        return write_scores(*_one_task(plan, results, tasks[0]), output)
    scores = {}
    for task in tasks:
        write_settings(output / task.name, config_text, plan.request.settings_plan)
        scores[task.name] = write_scores(*_one_task(plan, results, task), output / task.name)
    warnings = dict.fromkeys(warning for document in scores.values() for warning in document["warnings"])
    return {"tasks": scores, "warnings": list(warnings)}


def _at_lags(plan: Plan, results: Sequence[FoldResult]) -> Plan:
    """Return the plan with the ratings of each fold's test subjects at the lag of its training subjects."""
    lags = {(name, lag) for result in results for name, lag in result.lags.items()}
    if not lags:
        return plan
    targets = dict(plan.windows.targets)
    for result in results:
        for name, lag in result.lags.items():
            one = targets[name]
            assert one.lagged is not None  # of every task whose lag was estimated
            values = one.values.copy()
            values[result.rows] = one.lagged[result.rows, one.task.lags.index(lag or 0.0)]
            targets[name] = replace(one, values=values)
    spans = [_lag_words(targets[name].task, name, results) for name in sorted({name for name, _ in lags})]
    windows = replace(plan.windows, targets=targets)
    return replace(plan, inputs=replace(plan.inputs, windows=windows), warnings=(*plan.warnings, *spans))


def _lag_words(task: Task, name: str, results: Sequence[FoldResult]) -> str:
    """Return the sentence on the lags that folds estimated, each by name where they are few."""
    every = {result.fold.name: result.lags[name] for result in results}
    lags = {fold: lag for fold, lag in every.items() if lag is not None}
    begin = f"the lag of rating {task.signal!r} was estimated on the training subjects of each fold: "
    if not lags:
        return f"{begin}{lag_words(None, task)}"
    untold = ""
    if len(lags) < len(every):
        untold = f"; in {len(every) - len(lags)} of {len(every)} folds {lag_words(None, task)}"
    low, high = min(lags.values()), max(lags.values())
    each = ", ".join(f"{fold}: {lag:g}" for fold, lag in lags.items())
    by_fold = f" ({each})" if len(lags) <= _MOST_NAMED_FOLDS and high > low else ""
    doubt = "; folds disagree, so these data hardly tell it" if high - low > _MOST_LAG_APART else ""
    lowest = f"{low:g} to " if high > low else ""
    return f"{begin}{lowest}{lag_words(high, task)}{by_fold}{doubt}{untold}"


def _one_task(plan: Plan, results: Sequence[FoldResult], task: Task) -> tuple[Plan, list[FoldResult]]:
    """Return the plan and the folds' results of one task: its own windows and its own columns of the predictions."""
    table, rows = plan.windows.of_task(task.name)
    first = sum(other.n_values for other in plan.windows.tasks[: plan.windows.tasks.index(task)])
    of_task = _results_at(rows, plan, results, slice(first, first + task.n_values))
    return replace(plan, task=task, inputs=replace(plan.inputs, windows=table)), of_task


def _results_at(
    rows: NDArray[np.int64], plan: Plan, results: Sequence[FoldResult], columns: slice = slice(None)
) -> list[FoldResult]:
    """Return the folds' results for the windows at ``rows``, numbered among these."""
    index = np.full(len(plan.windows), -1, dtype=np.int64)
    index[rows] = np.arange(len(rows))
    return [
        replace(r, rows=index[r.rows][is_there], probabilities=r.probabilities[is_there, columns])
        for r in results
        for is_there in [index[r.rows] >= 0]
    ]


def write_scores(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    """Score all folds of one task, write its files and return ``scores.json``; raises as :func:`write_all_scores`."""
    predicted, folds = joined(plan, results)
    windows, metrics = plan.windows, metrics_of(plan.task)
    fold_of = {subject: result.fold.name for result in results for subject in result.fold.test}
    per_subject = [
        replace(metrics.score(subject, windows.only.values[rows], predicted[rows]), fold=fold_of[subject])
        for subject in windows.subjects
        for rows in [windows.rows_of([subject])]
    ]
    scores = _SCORES.get(plan.task.kind, _class_scores)(plan, results, predicted, per_subject)
    write_rows(output / "scores.csv", per_subject)
    if plan.request.evaluation.missing_sensors != NONE:
        write_rows(output / SENSORS_FILE, _sensor_rows(plan, results))
    _write_predictions(plan, results, predicted, folds, output / "predictions.csv")
    write_result(output / SCORES_FILE, scores)
    return document_of(scores)


def joined(plan: Plan, results: Sequence[FoldResult]) -> tuple[NDArray[np.float64], list[str]]:
    """Return each window's probabilities (n_windows, n_classes) or number (n_windows, 1), and the fold that tested it.

    Raises StudyError where a window was predicted twice or not at all.
    """
    windows = plan.windows
    predicted = np.full((len(windows), windows.only.task.n_values), np.nan)
    names = [""] * len(windows)
    for result in results:
        for row, values in zip(result.rows, result.probabilities, strict=True):
            if names[row]:
                raise StudyError(
                    f"window {row} was tested in folds {names[row]} and {result.fold.name}; start again with "
                    "--overwrite"
                )
            names[row], predicted[row] = result.fold.name, values
    if "" in names:
        raise StudyError(f"{names.count('')} windows were tested in no fold; start again with --overwrite")
    return predicted, names


def _run(plan: Plan, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Return the fields that the scores of every kind of task have."""
    windows, request = plan.windows, plan.request
    return {
        "model": request.model,
        "study": plan.study,
        "task": plan.task.name,
        "split": plan.split,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "window_seconds": windows.length_seconds,
        "step_seconds": plan.inputs.step_seconds,
        "normalisation": plan.normalisation.mode,
        "normalisation_scope": plan.normalisation.scope,
        "is_transductive": plan.is_transductive,
        "seeds": request.evaluation.n_seeds,
        "seed": request.seed,
        "parameters": max(r.n_parameters for r in results),
        "operations_per_window": max((r.operations_per_window or 0 for r in results), default=0) or None,
        "seconds": round(sum(r.seconds for r in results), 1),
        "n_windows_left_out": windows.excluded,
        "start_from": plan.start,
        "external": plan.external,
        "fingerprint": plan.fingerprint,
    }


def _class_scores(
    plan: Plan,
    results: Sequence[FoldResult],
    probabilities: NDArray[np.float64],
    per_subject: Sequence[SubjectScore],
) -> CrossValidation:
    windows, bootstrap = plan.windows, plan.bootstrap
    subject, target, n_classes = windows.subject, windows.only.values, windows.only.n_classes

    def over_subjects(name: str, chance: float) -> ClassScore:
        return bootstrap.score([getattr(s, name) for s in per_subject], chance=chance)

    def error_within(name: str) -> Score:
        return Score.of(bootstrap.score([getattr(s, name) for s in per_subject], higher_is_better=False))

    levels = level_scores(subject, target, probabilities, bootstrap) if plan.task.kind == ORDINAL else {}
    errors = pooled_probability_scores(subject, target, probabilities, bootstrap)
    undefined = [s.participant for s in per_subject if s.balanced_accuracy is None]
    one = count(len(undefined), "subject has", "subjects have")
    one_class = f"{one} windows of one class only and no score: {', '.join(undefined)}"
    return CrossValidation(
        **_run(plan, results),
        classes=tuple(windows.only.classes),
        labels=Labels(**plan.labels()),
        balanced_accuracy=over_subjects("balanced_accuracy", 1.0 / n_classes),
        macro_f1=over_subjects("macro_f1", 1.0 / n_classes),
        auroc=PooledClassScore.of(over_subjects("auroc", 0.5), pooled=auroc_score(target, probabilities)),
        mcc=PooledClassScore.of(
            over_subjects("mcc", 0.0), pooled=matthews_correlation(target, probabilities.argmax(axis=1))
        ),
        brier=errors["brier"].value,
        brier_ci95=errors["brier"].ci95,
        brier_over_subjects=error_within("brier"),
        ece=errors["ece"].value,
        ece_ci95=errors["ece"].ci95,
        ece_over_subjects=error_within("ece"),
        scores_by_class=scores_by_class(windows.only.classes, target, probabilities),
        risk_coverage=risk_coverage(
            subject, target, probabilities, windows.quality(), plan.request.evaluation.least_quality, bootstrap
        ),
        calibration=calibrated(plan, results),
        conformal=set_scores(plan, results, bootstrap),
        chance=chance_levels(subject, target, n_classes, seed=bootstrap.seed),
        kind="ordinal" if plan.task.kind == ORDINAL else None,
        levels_mae=levels.get("levels_mae"),
        weighted_kappa=levels.get("weighted_kappa"),
        studies=_studies(plan, per_subject),
        missing_sensors=_missing_sensors(plan, results),
        warnings=(
            *plan.warnings,
            *((one_class,) if undefined else ()),
            *few_subjects_warnings(len(per_subject)),
            *trust_warnings(results),
        ),
    )


def _number_scores(
    plan: Plan,
    results: Sequence[FoldResult],
    predicted: NDArray[np.float64],
    per_subject: Sequence[NumberSubjectScore],
) -> NumberValidation:
    windows = plan.windows
    scores = number_scores(windows.subject, windows.only.values, predicted[:, 0], per_subject, plan.bootstrap)
    errors_of_mean = _errors_of_the_mean(plan, per_subject)
    better = sum(s.mae < error * (1 - 1e-9) for s, error in zip(per_subject, errors_of_mean, strict=True))
    n_constant = sum(s.r2 is None for s in per_subject)
    constant = f"{n_constant} subjects have one number only, so they have no ccc and r2; read the pooled ones"
    return NumberValidation(
        **_run(plan, results),
        mae=scores["mae"],
        ccc=scores["ccc"],
        r2=scores["r2"],
        kind="regression",
        column=plan.task.quantity,
        studies=_studies(plan, per_subject),
        chance=NumberChance(
            training_mean_mae=float(np.mean(errors_of_mean)), subjects_better_than_mean=better
        ),
        warnings=(
            *plan.warnings, *((constant,) if n_constant else ()), *few_subjects_warnings(len(per_subject))
        ),
    )  # fmt: skip


_SCORES: dict[str, Callable[..., CrossValidation | NumberValidation]] = {REGRESSION: _number_scores}


def _errors_of_the_mean(plan: Plan, per_subject: Sequence[NumberSubjectScore]) -> list[float]:
    """Return each subject's mean absolute error if the mean of its fold's training subjects were predicted."""
    windows, numbers = plan.windows, plan.windows.only.values
    errors = []
    for scored in per_subject:
        fold = next(fold for fold in plan.folds if scored.participant in fold.test)
        away = np.abs(numbers[windows.rows_of([scored.participant])] - plan.training_mean(fold))
        errors.append(float(away.mean()))
    return errors


def _studies(plan: Plan, per_subject: Sequence[SubjectScore | NumberSubjectScore]) -> dict[str, StudyScore]:
    """Return the scores of each of several studies; nothing where one store was evaluated."""
    by_study: dict[str, list[SubjectScore | NumberSubjectScore]] = {}
    for scored in per_subject if plan.request.more_stores else ():
        by_study.setdefault(scored.participant.rpartition("/")[0], []).append(scored)
    bootstrap, names = plan.bootstrap, metrics_of(plan.task).of_studies
    return {
        study: StudyScore(
            n_subjects=len(subjects),
            **{name: Estimate.of(bootstrap.score([getattr(s, name) for s in subjects])) for name in names},
        )
        for study, subjects in sorted(by_study.items())
    }


def _write_predictions(
    plan: Plan, results: Sequence[FoldResult], predicted: NDArray[np.float64], folds: Sequence[str], path: Path
) -> None:
    windows, quality = plan.windows, plan.windows.quality()
    recordings = [windows.recordings[number] for number in windows.recording]
    columns: dict[str, Sequence[object]] = {
        "participant_id": [recording.subject for recording in recordings],
        "session": [recording.session for recording in recordings],
        "recording": [recording.recording for recording in recordings],
        "onset": windows.onset.astype(float).tolist(),
        "duration": [windows.length_seconds] * len(windows),
        **metrics_of(plan.task).columns(windows.only.classes, windows.only.values, predicted),
        "fold": folds,
        "quality": [round(float(value), 4) if np.isfinite(value) else None for value in quality],
    }
    sets = prediction_sets(plan, results)
    if sets is not None:
        columns["prediction_set"] = [set_words(windows.only.classes, classes) for classes in sets]
    write_table(path, tuple(columns), list(zip(*columns.values(), strict=True)))


def _missing_sensors(plan: Plan, results: Sequence[FoldResult]) -> MissingSensors | None:
    """Return the missing-sensor matrix (None: not wanted); differences are of the subjects who lost something."""
    mode = plan.request.evaluation.missing_sensors
    if mode == NONE:
        return None
    rows, bootstrap = _sensor_rows(plan, results), plan.bootstrap
    names = ("balanced_accuracy", "auroc", "difference", "auroc_difference")
    subsets = []
    for sensors, kept in sets_for(mode, plan.windows).items():
        of_set = [row for row in rows if row.sensors == sensors]
        scores = {name: bootstrap.score([getattr(row, name) for row in of_set]) for name in names}
        subsets.append(
            SensorSubset(
                sensors=sensors,
                kept=tuple(kept),
                n_windows=sum(row.n_windows_answered for row in of_set),
                **{name: CountedEstimate.of(score) for name, score in scores.items()},
            )
        )
    sensors_of_study = measured_sensors(plan.windows.recordings, plan.windows.feature_names)
    return MissingSensors(mode=mode, sensors=tuple(sensors_of_study), subsets=tuple(subsets))


def _sensor_rows(plan: Plan, results: Sequence[FoldResult]) -> list[SensorScore]:
    """Return a row per subject and set of sensors, subjects sorted, sets in their order."""
    sets = sets_for(plan.request.evaluation.missing_sensors, plan.windows)
    rows: list[SensorScore] = []
    for result in results:
        assert result.fewer_sensors is not None  # part of what a finished fold of this run is
        for subject in result.fold.test:
            worn = _worn_by(plan, subject)
            is_subject = plan.windows.subject[result.rows] == subject
            target = plan.windows.only.values[result.rows[is_subject]]
            with_all = result.fewer_sensors[WHOLE][is_subject]
            for name, kept in sets.items():
                row = SensorScore(
                    participant=subject, sensors=name, n_sensors=len(kept), n_windows=len(target), n_windows_answered=0
                )
                row = _scored(row, target, result.fewer_sensors[name][is_subject], with_all)
                is_compared = name == WHOLE or not worn <= set(kept)
                rows.append(row if is_compared else replace(row, difference=None, auroc_difference=None))
    return sorted(rows, key=lambda row: row.participant)


def _worn_by(plan: Plan, subject: str) -> set[str]:
    recordings = [recording for recording in plan.windows.recordings if recording.subject == subject]
    return set(measured_sensors(recordings, plan.windows.feature_names))


def _scored(
    row: SensorScore, target: NDArray[np.int64], with_set: NDArray[np.float64], with_all: NDArray[np.float64]
) -> SensorScore:
    has = np.isfinite(with_set).all(axis=1)
    if not has.any():
        return row
    with_less = score_subject(row.participant, target[has], with_set[has])
    best = score_subject(row.participant, target[has], with_all[has])
    return replace(
        row,
        n_windows_answered=int(has.sum()),
        balanced_accuracy=with_less.balanced_accuracy,
        auroc=with_less.auroc,
        difference=_less(with_less.balanced_accuracy, best.balanced_accuracy),
        auroc_difference=_less(with_less.auroc, best.auroc),
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def scored_part(plan: Plan, results: Sequence[FoldResult]) -> tuple[Plan, Sequence[FoldResult]]:
    """Return the plan and the folds' results with only the windows that are scored; those over subjects as they are."""
    rows = plan.scored_rows
    if rows is None:
        return plan, results
    excluded = {"in the earlier part, which is learnt from": len(plan.windows) - len(rows)}
    table = renamed(plan.windows, rows, list(plan.windows.subject[rows]), excluded)
    warnings = plan.warnings_after({result.fold.name: result.n_fallen_back for result in results})
    scored = replace(plan, inputs=replace(plan.inputs, windows=table), warnings=warnings)
    return scored, _results_at(rows, plan, results)
