"""Finding the results in a folder: one cross-validation, one folder of predictions, or a parent of several."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from biopercept.data.splits import Fold
from biopercept.errors import StudyError
from biopercept.results.audit import Audit
from biopercept.results.checksums import require_as_written
from biopercept.results.comparison import Comparison
from biopercept.results.cross_validation import SCORES_FILE, CrossValidation, NumberValidation, load_validation
from biopercept.results.curves import LearningCurve, PersonalCurve
from biopercept.results.explanation import Explanation
from biopercept.results.live import TABLE, LiveFolder, LiveSummary, load_live
from biopercept.results.predictions import SUFFIX, PredictionFolder, RecordingKey, load_predictions
from biopercept.results.reading import ResultTable, read_json, read_result, read_table
from biopercept.results.reconstruction import Reconstruction
from biopercept.typed_values import path_meant

_DEEPEST = 3
_MOST_FOLDERS = 5000
LOG_SUFFIX = ".log.csv"


@dataclass(frozen=True, kw_only=True)
class FoldsFile:
    """What is written before the first fold of a run: what the run is (settings, data, version), and its folds."""

    FILE: ClassVar[str] = "folds.json"
    SCHEMA: ClassVar[int] = 1
    COMMAND: ClassVar[str] = "cross-validate"

    run: Mapping[str, Any]
    folds: tuple[Fold, ...]


def load_results(folder: Path) -> Results:
    """Return every result in a folder and up to three levels below it; links are not followed.

    Raises StudyError where there is no such folder, nothing in it is a result, or a result is damaged.
    """
    if not folder.is_dir():
        if folder.is_file():
            raise StudyError(
                f"{folder} is a file; give a folder that cross-validate, predict or demo has written (a store is added "
                "with --with)"
            )
        raise StudyError(
            f"there is no folder {folder}; give one that cross-validate, predict or demo has written"
            f"{path_meant(folder)}"
        )
    by_kind: dict[str, list[Any]] = defaultdict(list)
    for path in folders_below(folder):
        name = path.relative_to(folder).as_posix() if path != folder else folder.resolve().name
        for kind, result in _results_in(path, name):
            by_kind[kind].append(result)
        for log in sorted(path.glob(f"*{LOG_SUFFIX}")):
            by_kind["logs"].append(PrepareLog(log.relative_to(folder).as_posix(), read_table(log)))
    if not by_kind:
        raise StudyError(
            f"{folder} holds no results; a report needs {SCORES_FILE} (cross-validate), {Audit.FILE} (audit), "
            f"{Comparison.FILE} (compare), {LearningCurve.FILE} (learning-curve), {PersonalCurve.FILE} (personalise), "
            f"{Explanation.FILE} (explain), {Reconstruction.FILE} (reconstruct), summary.csv with "
            f"failures.csv (predict), {LiveSummary.FILE} (live) or a {LOG_SUFFIX} table (prepare), there or up to "
            f"{_DEEPEST} folders below"
        )
    if not set(by_kind) - {"unfinished", "unfinished_curves"}:
        begun = [(name, "cross-validation", SCORES_FILE, "cross-validate") for name in by_kind["unfinished"]]
        begun += [
            (name, "curve over own labels", PersonalCurve.FILE, "personalise") for name in by_kind["unfinished_curves"]
        ]
        name, what, lacking, command = begun[0]
        raise StudyError(
            f"the {what} in {folder / name if name != folder.resolve().name else folder} has not finished (no "
            f"{lacking}); run the same {command} command again, it goes on where it stopped"
        )
    by_kind["cross_validations"].sort(key=lambda result: (result.is_probe, result.model, result.name))
    by_kind["number_validations"].sort(key=lambda result: (result.is_probe, result.task, result.model, result.name))
    return Results(name=folder.resolve().name, **{kind: tuple(results) for kind, results in by_kind.items()})


_FILES: dict[str, Any] = {
    "comparisons": Comparison,
    "personal_curves": PersonalCurve,
    "learning_curves": LearningCurve,
    "audits": Audit,
    "explanations": Explanation,
    "reconstructions": Reconstruction,
}
"""Kinds of result that are one file, by the field of :class:`Results` that holds them."""


def _results_in(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Give each result that lies directly in a folder, with the field of :class:`Results` that it belongs to."""
    require_as_written(folder)
    if (folder / SCORES_FILE).is_file():
        result = load_validation(folder, name)
        yield "number_validations" if isinstance(result, NumberValidation) else "cross_validations", result
    elif (folder / FoldsFile.FILE).is_file() and not _is_shared(folder):
        yield "unfinished", name
    for kind, file in _FILES.items():
        if (folder / file.FILE).is_file():
            yield kind, replace(read_result(folder / file.FILE, file), name=name)
    if (folder / PersonalCurve.FOLDS).is_file() and not (folder / PersonalCurve.FILE).is_file():
        yield "unfinished_curves", name
    has_tables = (folder / "summary.csv").is_file() and (folder / "failures.csv").is_file()
    if (folder / LiveSummary.FILE).is_file():
        yield "lives", load_live(folder, name)
    if has_tables or any(path.name != TABLE for path in folder.glob(f"*{SUFFIX}")):
        yield "predictions", load_predictions(folder, name)


def _is_shared(folder: Path) -> bool:
    """Return whether a folder holds the folds of several tasks that have all been scored in folders of their own."""
    run = read_json(folder / FoldsFile.FILE).get("run")
    tasks = run.get("tasks") if isinstance(run, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        return False
    return bool(tasks) and all((folder / name / SCORES_FILE).is_file() for name in tasks)


def folders_below(root: Path) -> Iterator[Path]:
    """Give the folder and those below it, sorted, no link followed and no hidden folder entered.

    Raises StudyError where there are more than 5000, or one cannot be looked into.
    """
    pending = [(root, 0)]
    seen = 0
    while pending:
        folder, depth = pending.pop(0)
        yield folder
        seen += 1
        if seen > _MOST_FOLDERS:
            raise StudyError(f"{root} holds more than {_MOST_FOLDERS} folders; give the folder of the results itself")
        if depth < _DEEPEST:
            pending += [(below, depth + 1) for below in _below(folder)]


def _below(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
    except OSError as fault:
        raise StudyError(f"cannot look into {folder}: {fault.strerror or fault}") from fault
    return [folder / name for name in names]


@dataclass(frozen=True, eq=False)
class PrepareLog:
    """The log table of ``prepare``, a row per recording; ``name`` is its path below the reported folder."""

    name: str
    table: ResultTable


@dataclass(frozen=True)
class Preparation:
    """How the preparation of one recording went; one that ``is_failed`` was not prepared, or not yet.

    ``kept`` are labelled windows in the store; None where the log does not say.
    """

    key: RecordingKey
    is_failed: bool
    kept: int | None
    left_out: Mapping[str, int]


def preparations_of(log: PrepareLog) -> tuple[Preparation, ...]:
    """Return a row per recording of a store's log.

    Raises StudyError where the log lacks a column that ``prepare`` writes, or a count is not a number.
    """
    table = log.table
    keys = zip(*(table.texts(name) for name in ("participant_id", "session", "recording")), strict=True)
    rows = zip(keys, table.texts("status"), table.numbers("windows_labelled"), table.texts("left_out"), strict=True)
    return tuple(
        Preparation(
            key=key,
            is_failed=status not in ("prepared", "reused"),
            kept=None if np.isnan(kept) else int(kept),
            left_out=_reasons(left_out),
        )
        for key, status, kept, left_out in rows
    )


def _reasons(cell: str) -> dict[str, int]:
    """Return {reason: n} of "reason: n; reason: n"."""
    pairs = (part.rpartition(": ") for part in cell.split("; "))
    return {reason: int(n) for reason, _, n in pairs if n.isdigit()}


@dataclass(frozen=True, eq=False)
class Results:
    """Everything found in a folder of results; the models proper come before the probes.

    ``unfinished`` and ``unfinished_curves`` are folders of cross-validations and of curves over own labels that have
    begun and not ended.
    """

    name: str
    cross_validations: tuple[CrossValidation, ...] = ()
    number_validations: tuple[NumberValidation, ...] = ()
    predictions: tuple[PredictionFolder, ...] = ()
    logs: tuple[PrepareLog, ...] = ()
    audits: tuple[Audit, ...] = ()
    unfinished: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    personal_curves: tuple[PersonalCurve, ...] = ()
    learning_curves: tuple[LearningCurve, ...] = ()
    unfinished_curves: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    reconstructions: tuple[Reconstruction, ...] = ()
    lives: tuple[LiveFolder, ...] = ()
