"""From the folds' predictions to the result files of each task: predictions.csv, scores.csv, scores.json.

Several tasks have a sub-folder each; several studies are scored each by itself too; of a split in time the later parts
alone are scored; and the missing-sensor matrix says what each absence costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biopercept.data.views import measured_sensors
from biopercept.errors import StudyError
from biopercept.evaluation.fold_fits import FoldResult
from biopercept.evaluation.metrics import (
    RegressionScores,
    SubjectScores,
    Summary,
    auroc_score,
    chance_levels,
    levels_document,
    matthews_correlation,
    numbers_document,
    score_numbers,
    score_subject,
    summarise,
)
from biopercept.evaluation.missing_sensors import NONE, WHOLE, asked_sets
from biopercept.evaluation.plan import Plan
from biopercept.evaluation.runs import SCHEMA
from biopercept.evaluation.time_split import TimePlan, renamed
from biopercept.evaluation.trust import prediction_sets, trust_document, trust_warnings
from biopercept.files import write_json, write_table, write_text
from biopercept.results.reading import few_subjects_warnings
from biopercept.tasks import ORDINAL, Task
from biopercept.training.adaptation import KEEP
from biopercept.training.calibration import set_words
from biopercept.training.checkpoint import versions

MISSING_FILE = "missing_sensors.csv"

_Row = tuple[str, str, int, int, int, float | None, float | None, float | None, float | None]


def write_scores(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    """Score all folds together, write the three files and return the content of ``scores.json``.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    probabilities, fold_names = joined(plan, results)
    windows = plan.windows
    per_subject = [
        score_subject(subject, windows.only.values[rows], probabilities[rows])
        for subject in windows.subjects
        for rows in [windows.rows_of([subject])]
    ]
    scores = _scores_document(plan, results, probabilities, per_subject)
    fold_of = {subject: result.fold.name for result in results for subject in result.fold.test}
    names = ("n_windows", "balanced_accuracy", "macro_f1", "auroc", "brier")
    columns = ("participant_id", *names, "fold", "mcc", "ece")
    write_table(
        output / "scores.csv",
        columns,
        [(s.subject, *(getattr(s, name) for name in names), fold_of[s.subject], s.mcc, s.ece) for s in per_subject],
    )
    write_missing_sensors(plan, results, output / MISSING_FILE)
    sets = prediction_sets(plan, results)
    _write_predictions(plan, probabilities, fold_names, sets, output / "predictions.csv")
    write_json(output / "scores.json", scores)
    return scores


def joined(plan: Plan, results: Sequence[FoldResult]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the probabilities of every window, (n_windows, n_classes), and the fold that tested it.

    Of a regression the numbers, (n_windows, 1).

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    """
    windows = plan.windows
    probabilities = np.full((len(windows), windows.only.task.n_values), np.nan)
    names = [""] * len(windows)
    for result in results:
        for row, answer in zip(result.rows, result.probabilities, strict=True):
            if names[row]:
                raise StudyError(
                    f"window {row} was tested in folds {names[row]} and {result.fold.name}; start anew with --overwrite"
                )
            names[row], probabilities[row] = result.fold.name, answer
    if "" in names:
        raise StudyError(f"{names.count('')} windows were tested in no fold; start anew with --overwrite")
    return probabilities, names


def _scores_document(
    plan: Plan, results: Sequence[FoldResult], probabilities: NDArray[np.float64], per_subject: Sequence[SubjectScores]
) -> dict[str, Any]:
    windows, request = plan.windows, plan.request
    evaluation = request.evaluation

    def over_subjects(name: str) -> dict[str, Any]:
        values = [getattr(s, name) for s in per_subject]
        chance = {"auroc": 0.5, "mcc": 0.0}.get(name, 1.0 / windows.only.n_classes)
        return _summary_document(
            summarise(values, chance=chance, seed=request.seed, n_bootstrap=evaluation.n_bootstrap)
        )

    auroc = over_subjects("auroc")
    auroc["pooled"] = auroc_score(windows.only.values, probabilities)
    mcc = over_subjects("mcc")
    mcc["pooled"] = matthews_correlation(windows.only.values, probabilities.argmax(axis=1))
    return {
        "schema": SCHEMA,
        "model": request.model,
        "task": plan.task.name,
        "classes": list(windows.only.classes),
        "split": evaluation.split,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "labels": plan.labels(),
        "window_seconds": windows.length_seconds,
        "step_seconds": plan.inputs.step_seconds,
        "normalisation": plan.normalisation.mode,
        "normalisation_scope": plan.normalisation.scope,
        "transductive": plan.normalisation.is_transductive,
        "seeds": evaluation.n_seeds,
        "seed": request.seed,
        "parameters": max(r.n_parameters for r in results),
        "operations_per_window": max((r.operations_per_window or 0 for r in results), default=0) or None,
        "seconds": round(sum(r.seconds for r in results), 1),
        "balanced_accuracy": over_subjects("balanced_accuracy"),
        "macro_f1": over_subjects("macro_f1"),
        "auroc": auroc,
        "mcc": mcc,
        **trust_document(plan, results, probabilities, per_subject),
        "chance": chance_levels(windows.subject, windows.only.values, windows.only.n_classes, seed=request.seed),
        "n_windows_left_out": windows.excluded,
        **_levels(plan, probabilities),
        **studies_document(plan, per_subject, ("balanced_accuracy", "macro_f1", "auroc")),
        **({} if plan.start is None else {"start_from": plan.start}),
        **missing_document(plan, results),
        "warnings": [*plan.warnings, *_score_warnings(per_subject), *trust_warnings(results)],
        "fingerprint": {"store": plan.store_fingerprint, **versions()},
    }


def _levels(plan: Plan, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return what an ordinal task has beside the scores of its classes."""
    if plan.task.kind != ORDINAL:
        return {}
    windows, request = plan.windows, plan.request
    found = levels_document(
        windows.subject,
        windows.only.values,
        probabilities,
        seed=request.seed,
        n_bootstrap=request.evaluation.n_bootstrap,
    )
    return {"kind": plan.task.kind, **found}


def _summary_document(summary: Summary) -> dict[str, Any]:
    document = asdict(summary)
    document["subjects_below_chance"] = document.pop("below_chance")
    document["ci95"] = None if summary.ci95 is None else list(summary.ci95)
    return document


def _score_warnings(per_subject: Sequence[SubjectScores]) -> list[str]:
    found = []
    undefined = [s.subject for s in per_subject if s.balanced_accuracy is None]
    if undefined:
        found.append(f"{len(undefined)} subjects have windows of one class only and no score: {', '.join(undefined)}")
    return [*found, *few_subjects_warnings(len(per_subject))]


def _write_predictions(
    plan: Plan,
    probabilities: NDArray[np.float64],
    folds: Sequence[str],
    sets: NDArray[np.bool_] | None,
    path: Path,
) -> None:
    windows = plan.windows
    quality = windows.quality()
    columns = ("participant_id", "session", "recording", "onset", "duration", "label", "predicted")
    rows = []
    for index in range(len(windows)):
        recording = windows.recordings[windows.recording[index]]
        rows.append(
            (
                recording.subject,
                recording.session,
                recording.recording,
                float(windows.onset[index]),
                windows.length_seconds,
                windows.only.classes[windows.only.values[index]],
                windows.only.classes[int(probabilities[index].argmax())],
                *(round(float(p), 6) for p in probabilities[index]),
                folds[index],
                round(float(quality[index]), 4) if np.isfinite(quality[index]) else None,
                *(() if sets is None else (set_words(windows.only.classes, sets[index]),)),
            )
        )
    more = () if sets is None else ("prediction_set",)
    write_table(path, (*columns, *(f"probability_{c}" for c in windows.only.classes), "fold", "quality", *more), rows)


def write_all_scores(
    plan: Plan, results: Sequence[FoldResult], output: Path, *, config_text: str = ""
) -> dict[str, Any]:
    """Score every task of a cross-validation and return what its ``scores.json`` holds.

    One task is written into ``output`` itself. Of several, each has a folder of its name with the same files and the
    settings, so that it is read and reported like any cross-validation; folds and log are shared.

    Returns
    -------
    dict
        The scores; of several tasks ``tasks`` with the scores of each by name, and all their ``warnings``.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    parts = [(task.name, *_one_task(plan, results, task)) for task in plan.windows.tasks]
    if len(parts) == 1:
        return _write_task(parts[0][1], parts[0][2], output)
    found = {}
    for name, part, own in parts:
        write_text(output / name / "config.yaml", config_text)
        found[name] = _write_task(part, own, output / name)
    warnings = dict.fromkeys(warning for scores in found.values() for warning in scores["warnings"])
    return {"tasks": found, "warnings": list(warnings)}


def _write_task(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    return (write_number_scores if plan.task.is_regression else write_scores)(plan, results, output)


def _one_task(plan: Plan, results: Sequence[FoldResult], task: Task) -> tuple[Plan, list[FoldResult]]:
    """Return the plan and the folds' answers of one task: its own windows and its own columns of the answers."""
    table, rows = plan.windows.of_task(task.name)
    place = np.full(len(plan.windows), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    first = sum(other.n_values for other in plan.windows.tasks[: plan.windows.tasks.index(task)])
    columns = slice(first, first + task.n_values)
    own = [
        replace(r, rows=place[r.rows][place[r.rows] >= 0], probabilities=r.probabilities[place[r.rows] >= 0, columns])
        for r in results
    ]
    return replace(plan, task=task, inputs=replace(plan.inputs, windows=table)), own


def write_number_scores(plan: Plan, results: Sequence[FoldResult], output: Path) -> dict[str, Any]:
    """Score a regression, write ``scores.csv``, ``predictions.csv`` and ``scores.json`` and return the last one.

    Raises
    ------
    StudyError
        Where a window was predicted twice or not at all.
    OutputError
        Where a file cannot be written.
    """
    answers, folds = joined(plan, results)
    windows, label, predicted = plan.windows, plan.windows.only.values, answers[:, 0]
    per_subject = [
        score_numbers(subject, label[rows], predicted[rows])
        for subject in windows.subjects
        for rows in [windows.rows_of([subject])]
    ]
    document = _document(plan, results, per_subject, numbers_document(
        windows.subject, label, predicted, per_subject,
        seed=plan.request.seed, n_bootstrap=plan.request.evaluation.n_bootstrap,
    ))  # fmt: skip
    fold_of = {subject: result.fold.name for result in results for subject in result.fold.test}
    write_table(
        output / "scores.csv",
        ("participant_id", "n_windows", "mae", "ccc", "r2", "fold"),
        [(s.subject, s.n_windows, s.mae, s.ccc, s.r2, fold_of[s.subject]) for s in per_subject],
    )
    _write_task_predictions(plan, predicted, folds, output / "predictions.csv")
    write_json(output / "scores.json", document)
    return document


def _document(
    plan: Plan,
    results: Sequence[FoldResult],
    per_subject: Sequence[RegressionScores],
    scores: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    windows, request = plan.windows, plan.request
    guessed = _error_of_the_mean(plan, per_subject)
    better = sum(s.mae < error * (1 - 1e-9) for s, error in zip(per_subject, guessed, strict=True))
    return {
        "schema": SCHEMA,
        "kind": plan.task.kind,
        "model": request.model,
        "task": plan.task.name,
        "column": plan.task.column,
        "split": request.evaluation.split,
        "n_subjects": len(windows.subjects),
        "n_windows": len(windows),
        "n_folds": len(plan.folds),
        "window_seconds": windows.length_seconds,
        "step_seconds": plan.inputs.step_seconds,
        "normalisation": plan.normalisation.mode,
        "normalisation_scope": plan.normalisation.scope,
        "transductive": plan.normalisation.is_transductive,
        "seeds": request.evaluation.n_seeds,
        "seed": request.seed,
        "parameters": max(r.n_parameters for r in results),
        "operations_per_window": max((r.operations_per_window or 0 for r in results), default=0) or None,
        "seconds": round(sum(r.seconds for r in results), 1),
        **scores,
        **studies_document(plan, per_subject, ("mae", "ccc")),
        "chance": {"training_mean_mae": float(np.mean(guessed)), "subjects_better_than_mean": better},
        "n_windows_left_out": windows.excluded,
        **({} if plan.start is None else {"start_from": plan.start}),
        "warnings": [*plan.warnings, *_warnings(per_subject)],
        "fingerprint": {"store": plan.store_fingerprint, **versions()},
    }


def _error_of_the_mean(plan: Plan, per_subject: Sequence[RegressionScores]) -> list[float]:
    """Return each subject's mean absolute error if the mean of its fold's training subjects were answered."""
    windows, value = plan.windows, plan.windows.only.values
    means = {s: float(value[windows.rows_of([s])].mean()) for s in windows.subjects}
    errors = []
    for scored in per_subject:
        fold = next(fold for fold in plan.folds if scored.subject in fold.test)
        guess = float(np.mean([means[s] for s in fold.fitting if s in means]))
        errors.append(float(np.abs(value[windows.rows_of([scored.subject])] - guess).mean()))
    return errors


def _warnings(per_subject: Sequence[RegressionScores]) -> list[str]:
    found = []
    constant = [s.subject for s in per_subject if s.r2 is None]
    if constant:
        found.append(f"{len(constant)} subjects have one number only, so they have no ccc and r2; read the pooled ones")
    return [*found, *few_subjects_warnings(len(per_subject))]


def _write_task_predictions(plan: Plan, predicted: np.ndarray, folds: Sequence[str], path: Path) -> None:
    windows, quality = plan.windows, plan.windows.quality()
    columns = ("participant_id", "session", "recording", "onset", "duration", "label", "predicted", "fold", "quality")
    rows = []
    for index in range(len(windows)):
        recording = windows.recordings[windows.recording[index]]
        rows.append(
            (
                recording.subject,
                recording.session,
                recording.recording,
                float(windows.onset[index]),
                windows.length_seconds,
                float(windows.only.values[index]),
                float(f"{predicted[index]:.7g}"),
                folds[index],
                round(float(quality[index]), 4) if np.isfinite(quality[index]) else None,
            )
        )
    write_table(path, columns, rows)


class OfSubject(Protocol):
    """Scores of one subject."""

    @property
    def subject(self) -> str:
        """Id of the participant, after its study's name."""


def studies_document(plan: Plan, per_subject: Sequence[OfSubject], names: Sequence[str]) -> dict[str, Any]:
    """Return what ``scores.json`` says of each study; nothing where one store was evaluated.

    Parameters
    ----------
    per_subject : sequence
        Scores of all subjects.
    names : sequence of str
        Scores that are told.
    """
    request = plan.request
    if not request.more_stores:
        return {}
    by_study: dict[str, list[OfSubject]] = {}
    for scored in per_subject:
        by_study.setdefault(scored.subject.rpartition("/")[0], []).append(scored)
    found: dict[str, Any] = {}
    for study, held in sorted(by_study.items()):
        found[study] = {"n_subjects": len(held)}
        for name in names:
            values = [getattr(scored, name) for scored in held]
            told = summarise(values, chance=0.0, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)
            found[study][name] = {"mean": told.mean, "ci95": None if told.ci95 is None else list(told.ci95)}
    return {"studies": found}


def missing_document(plan: Plan, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Return what ``scores.json`` says of missing sensors; nothing where that was not asked.

    Returns
    -------
    dict
        ``missing_sensors``: ``mode``, ``sensors``, and ``subsets``, each with its name, the sensors ``kept``, windows
        that had something left that the model reads, and over subjects balanced accuracy, AUROC and the paired
        ``difference`` in balanced accuracy to all sensors (and ``auroc_difference``) on the same windows, with 95 %
        bootstrap intervals. The difference is of the subjects who lost something.
    """
    if plan.request.evaluation.missing_sensors == NONE:
        return {}
    rows = _rows(plan, results)
    n_classes, request = plan.windows.only.n_classes, plan.request
    subsets = []
    for name, kept in asked_sets(request.evaluation.missing_sensors, plan.windows).items():
        own = [row for row in rows if row[1] == name]

        def over_subjects(column: int, chance: float, own: Sequence[_Row] = own) -> dict[str, Any]:
            values = [row[column] for row in own]
            found = summarise(values, chance=chance, seed=request.seed, n_bootstrap=request.evaluation.n_bootstrap)  # type: ignore[arg-type]
            return {
                "mean": found.mean,
                "ci95": None if found.ci95 is None else list(found.ci95),
                "n_subjects": found.n_subjects,
            }

        subsets.append(
            {
                "sensors": name,
                "kept": list(kept),
                "n_windows": sum(row[4] for row in own),
                "balanced_accuracy": over_subjects(5, 1.0 / n_classes),
                "auroc": over_subjects(6, 0.5),
                "difference": over_subjects(7, 0.0),
                "auroc_difference": over_subjects(8, 0.0),
            }
        )
    sensors = measured_sensors(plan.windows.recordings, plan.windows.feature_names)
    held = {"mode": request.evaluation.missing_sensors, "sensors": list(sensors), "subsets": subsets}
    return {"missing_sensors": held}


def write_missing_sensors(plan: Plan, results: Sequence[FoldResult], path: Path) -> None:
    """Write a row per subject and set of sensors; no file, and none of an earlier run, where that was not asked.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    if plan.request.evaluation.missing_sensors == NONE:
        return
    columns = (
        "participant_id", "sensors", "n_sensors", "n_windows", "n_windows_answered",
        "balanced_accuracy", "auroc", "difference", "auroc_difference",
    )  # fmt: skip
    write_table(path, columns, _rows(plan, results))


def _rows(plan: Plan, results: Sequence[FoldResult]) -> list[_Row]:
    sets = asked_sets(plan.request.evaluation.missing_sensors, plan.windows)
    rows: list[_Row] = []
    for result in results:
        assert result.fewer_sensors is not None  # part of what a finished fold of this run is
        for subject in result.fold.test:
            worn = _worn_by(plan, subject)
            own = plan.windows.subject[result.rows] == subject
            target = plan.windows.only.values[result.rows[own]]
            whole = result.fewer_sensors[WHOLE][own]
            for name, kept in sets.items():
                row = _row(subject, name, len(kept), target, result.fewer_sensors[name][own], whole)
                is_compared = name == WHOLE or not worn <= set(kept)
                rows.append(row if is_compared else (*row[:7], None, None))
    return sorted(rows, key=lambda row: row[0])  # a stable sort: sets stay in their order


def _worn_by(plan: Plan, subject: str) -> set[str]:
    """Return the sensors that a subject has: who never had what a set lacks cannot say what losing it costs."""
    recordings = [held for held in plan.windows.recordings if held.subject == subject]
    return set(measured_sensors(recordings, plan.windows.feature_names))


def _row(
    subject: str,
    name: str,
    n_sensors: int,
    target: NDArray[np.int64],
    answers: NDArray[np.float64],
    whole: NDArray[np.float64],
) -> _Row:
    """Return one subject's scores with a set of sensors, and less those with all sensors on the windows it answers."""
    has = np.isfinite(answers).all(axis=1)
    if not has.any():
        return subject, name, n_sensors, len(target), 0, None, None, None, None
    mine = score_subject(subject, target[has], answers[has])
    best = score_subject(subject, target[has], whole[has])
    return (
        subject,
        name,
        n_sensors,
        len(target),
        int(has.sum()),
        mine.balanced_accuracy,
        mine.auroc,
        _less(mine.balanced_accuracy, best.balanced_accuracy),
        _less(mine.auroc, best.auroc),
    )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def scored_part(plan: Plan, results: Sequence[FoldResult]) -> tuple[Plan, Sequence[FoldResult]]:
    """Return the plan and the folds' results with only the windows that are scored; those over subjects as they are."""
    if not isinstance(plan, TimePlan):
        return plan, results
    rows = np.sort(np.concatenate([plan.windows.rows_of(fold.test) for fold in plan.folds]))
    place = np.full(len(plan.windows), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    learnt = len(plan.windows) - len(rows)
    excluded = {"in the earlier part, which is learnt from": learnt}
    table = renamed(plan.windows, rows, list(plan.windows.subject[rows]), excluded)
    warnings = plan.warnings if plan.checkpoint is None else (*plan.warnings, *_fall_backs(plan, results))
    scored = replace(plan, inputs=replace(plan.inputs, windows=table), warnings=warnings)
    return scored, [replace(result, rows=place[result.rows]) for result in results]


def _fall_backs(plan: TimePlan, results: Sequence[FoldResult]) -> list[str]:
    """Return for whom the starting model was kept after a check, and for whom nothing could be checked."""
    settings = plan.request.personalisation
    fallen = [result.fold.name for result in results if result.n_fallen_back and result.fold.validation]
    unchecked = [result.fold.name for result in results if not result.fold.validation]
    who = f" ({', '.join(fallen)})" if fallen else ""
    n_seeds = plan.request.evaluation.n_seeds
    repeated = f" in one or more of {n_seeds} repetitions" if n_seeds > 1 else ""
    found = [
        f"adapted by {settings.method}: for {len(fallen)} of {len(results)} subjects{who} it was not better on their "
        f"own check windows{repeated}, and the starting model was kept"
    ]
    if unchecked:
        done = (
            "the starting model was kept (personalisation.unchecked=keep)"
            if settings.unchecked == KEEP
            else "UNCHECKED, only a few steps were made (personalisation.unchecked=adapt)"
        )
        found.append(
            f"no label could be set aside to check on for {len(unchecked)} of {len(results)} subjects "
            f"({', '.join(unchecked)}); {done}"
        )
    return found
