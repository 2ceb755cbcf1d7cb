"""Finding the results in a folder: one cross-validation, one folder of predictions, or a parent of several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from biopercept.errors import StudyError
from biopercept.results.audit import Audit
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import CrossValidation, load_cross_validation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.numbers import NumberValidation, is_of_numbers, load_number_validation
from biopercept.results.predictions import SUFFIX, PredictionFolder, load_predictions
from biopercept.results.reading import ResultTable, read_json, read_result, read_table

_DEEPEST = 3
_MOST_FOLDERS = 5000
LOG_SUFFIX = ".log.csv"


def load_results(folder: Path) -> Results:
    """Return every result in a folder and up to three levels below it; links are not followed.

    Parameters
    ----------
    folder : Path
        A folder of ``cross-validate``, ``compare``, ``learning-curve``, ``personalise`` or ``predict``, one that holds
        a store's log, or a parent of such folders.

    Raises
    ------
    StudyError
        Where there is no such folder, nothing in it is a result, or a result is damaged.
    """
    if not folder.is_dir():
        raise StudyError(f"there is no folder {folder}; give one that cross-validate, predict or demo has written")
    validations, predictions, logs, audits, unfinished, comparisons = [], [], [], [], [], []
    personal, learning, unfinished_curves = [], [], []
    for place in _folders(folder):
        name = place.relative_to(folder).as_posix() if place != folder else folder.resolve().name
        if (place / "scores.json").is_file():
            if not is_of_numbers(place):
                validations.append(load_cross_validation(place, name))
        elif (place / "folds.json").is_file() and not _is_shared(place):
            unfinished.append(name)
        if (place / Comparison.FILE).is_file():
            comparisons.append(replace(read_result(place / Comparison.FILE, Comparison), name=name))
        if (place / PersonalCurve.FILE).is_file():
            personal.append(replace(read_result(place / PersonalCurve.FILE, PersonalCurve), name=name))
        elif (place / PersonalCurve.FOLDS).is_file():
            unfinished_curves.append(name)
        if (place / LearningCurve.FILE).is_file():
            learning.append(replace(read_result(place / LearningCurve.FILE, LearningCurve), name=name))
        if any(place.glob(f"*{SUFFIX}")) or ((place / "summary.csv").is_file() and (place / "failures.csv").is_file()):
            predictions.append(load_predictions(place, name))
        if (place / Audit.FILE).is_file():
            audits.append(replace(read_result(place / Audit.FILE, Audit), name=name))
        for path in sorted(place.glob(f"*{LOG_SUFFIX}")):
            logs.append(PrepareLog(path.relative_to(folder).as_posix(), read_table(path)))
    numbers = load_numbers(folder)
    finished = (validations, predictions, logs, audits, comparisons, numbers, personal, learning)
    if not any(finished) and not unfinished and not unfinished_curves:
        raise StudyError(
            f"{folder} holds no results; a report needs scores.json (cross-validate), {Audit.FILE} (audit), "
            f"{Comparison.FILE} (compare), {LearningCurve.FILE} (learning-curve), {PersonalCurve.FILE} (personalise), "
            f"summary.csv with failures.csv (predict) or a {LOG_SUFFIX} table (prepare), there or up to {_DEEPEST} "
            "folders below"
        )
    if not any(finished):
        begun = [(name, "cross-validation", "scores.json", "cross-validate") for name in unfinished]
        begun += [(name, "curve over own labels", PersonalCurve.FILE, "personalise") for name in unfinished_curves]
        name, what, lacking, command = begun[0]
        raise StudyError(
            f"the {what} in {folder / name if name != folder.resolve().name else folder} has not finished (no "
            f"{lacking}); run the same {command} command again, it goes on where it stopped"
        )
    return Results(
        name=folder.resolve().name,
        cross_validations=tuple(sorted(validations, key=lambda one: (one.is_probe, one.model, one.name))),
        predictions=tuple(predictions),
        logs=tuple(logs),
        audits=tuple(audits),
        unfinished=tuple(unfinished),
        comparisons=tuple(comparisons),
        personal_curves=tuple(personal),
        learning_curves=tuple(learning),
        unfinished_curves=tuple(unfinished_curves),
    )


def load_numbers(folder: Path) -> tuple[NumberValidation, ...]:
    """Return every cross-validation of a regression in a folder and up to three levels below it, probes last.

    Raises
    ------
    StudyError
        Where one is damaged.
    """
    places = [place for place in _folders(folder) if (place / "scores.json").is_file() and is_of_numbers(place)]
    names = [p.relative_to(folder).as_posix() if p != folder else folder.resolve().name for p in places]
    validations = [load_number_validation(place, name) for place, name in zip(places, names, strict=True)]
    return tuple(sorted(validations, key=lambda one: (one.is_probe, one.task, one.model, one.name)))


def _is_shared(place: Path) -> bool:
    """Return whether a folder holds the folds of several tasks that have all been scored in folders of their own."""
    run = read_json(place / "folds.json").get("run")
    tasks = run.get("tasks") if isinstance(run, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        return False
    return bool(tasks) and all((place / name / "scores.json").is_file() for name in tasks)


def _folders(root: Path) -> Iterator[Path]:
    """Give the folder and those below it, sorted, no link followed and no hidden folder entered."""
    pending = [(root, 0)]
    seen = 0
    while pending:
        place, depth = pending.pop(0)
        yield place
        seen += 1
        if seen > _MOST_FOLDERS:
            raise StudyError(f"{root} holds more than {_MOST_FOLDERS} folders; give the folder of the results itself")
        if depth < _DEEPEST:
            pending += [(below, depth + 1) for below in _below(place)]


def _below(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
    except OSError as fault:
        raise StudyError(f"cannot look into {place}: {fault.strerror or fault}") from fault
    return [place / name for name in names]


@dataclass(frozen=True, eq=False)
class PrepareLog:
    """The log table that ``prepare`` writes beside a store: a row per recording.

    Attributes
    ----------
    name : str
        The file's path below the folder that is reported.
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
    unfinished : tuple of str
        Cross-validations below the folder that have begun and not ended.
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
