"""Cross-validation over subjects: every fold fitted anew, finished folds kept, interrupted runs resumed.

1. The plan (task, windows, normalisation, folds) is settled and ``folds.json`` written before training.
2. Each fold is fitted on its training subjects, stopped early on its validation subjects, and its test
   subjects are predicted once; the fold's file is written whole when it is done.
3. When all folds are there, and only then, predictions are joined and scored.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from biopercept.comparators.catalogue import require_known
from biopercept.errors import SettingsError
from biopercept.evaluation.folds import SCHEMA, FoldResult, fit_folds, fold_from_json, fold_to_json
from biopercept.evaluation.planning import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.task_scoring import write_all_scores
from biopercept.files import only_writer, write_json, write_text
from biopercept.learning.engine import engine_for
from biopercept.learning.splits import Fold
from biopercept.store import open_store

FOLDS_FILE, FOLDS_FOLDER = "folds.json", "folds"
FoldDone = Callable[[Fold, bool, int], None]


def cross_validate(
    request: EvaluationRequest,
    output: Path,
    *,
    n_jobs: int = 1,
    config_text: str = "",
    overwrite: bool = False,
    on_fold: FoldDone | None = None,
) -> dict[str, Any]:
    """Run or resume a cross-validation and return the content of its ``scores.json``.

    Of several tasks each has its own in a folder of its name; all of them are returned.

    Parameters
    ----------
    request : EvaluationRequest
    output : Path
        Result folder; folds finished in an earlier run of the same request are used again.
    n_jobs : int
        Folds fitted at once, each in a process of its own; results do not depend on it.
    config_text : str
        Effective settings (YAML), kept beside the results.
    overwrite : bool
        Remove the results of an earlier run, once it is sure that this one can begin.
    on_fold : callable, optional
        Told ``(fold, was_done_before, n_folds)`` as folds finish.

    Raises
    ------
    SettingsError
        Where the folder holds something else or folds of other settings or data, or a class has too few subjects.
    BusyError
        Where another process is writing there.
    """
    require_known(request.model)
    with open_store(request.store) as store, only_writer(output):
        plan = plan_evaluation(store, request)
        engine_for(request.device)
        _require_own(output, overwrite=overwrite)
        if overwrite:
            clear_results(output)
        _begin(plan, output)
        write_text(output / "config.yaml", config_text)
        results = _all_folds(plan, output, n_jobs, on_fold or (lambda fold, was_done, n: None))
        _write_log(output, results)
        return write_all_scores(plan, results, output, config_text=config_text)


def _all_folds(plan: Plan, output: Path, n_jobs: int, on_fold: FoldDone) -> tuple[FoldResult, ...]:
    """Return every fold's result: those of an earlier run from their files, the others fitted now."""
    paths = {fold: output / FOLDS_FOLDER / f"{index:03d}.json" for index, fold in enumerate(plan.folds, 1)}
    waiting = [fold for fold in plan.folds if not paths[fold].is_file()]
    for fold in plan.folds:
        if fold not in waiting:
            on_fold(fold, True, len(plan.folds))
    for fold, result in fit_folds(plan, waiting, n_jobs):
        write_json(paths[fold], fold_to_json(result))
        on_fold(fold, False, len(plan.folds))
    return tuple(_read_fold(paths[fold], fold) for fold in plan.folds)


def _read_fold(path: Path, fold: Fold) -> FoldResult:
    try:
        return fold_from_json(json.loads(path.read_text(encoding="utf-8")), fold)
    except (ValueError, KeyError, TypeError) as fault:
        raise SettingsError(f"{path} is damaged; delete it and run the same command again to fit this fold") from fault


def _require_own(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that is a file, or a folder with something in it that no cross-validation began."""
    if output.is_file():
        raise SettingsError(f"{output} is a file; choose a folder for the results")
    is_begun = (output / FOLDS_FILE).is_file() or not output.is_dir()
    if not is_begun and not overwrite and any(not path.name.startswith(".") for path in output.iterdir()):
        raise SettingsError(
            f"{output} is not empty and holds no cross-validation; choose another output or add --overwrite"
        )


def _begin(plan: Plan, output: Path) -> None:
    """Write the folds before training, or check that those of an earlier run are the same."""
    path = output / FOLDS_FILE
    folds = [asdict(fold) for fold in plan.folds]
    document = json.loads(json.dumps({"schema": SCHEMA, "run": plan.identity(), "folds": folds}))
    if not path.is_file():
        write_json(path, document)
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise SettingsError(f"{path} is not JSON ({fault}); choose another output or add --overwrite") from fault
    if earlier != document:
        was, now = earlier.get("run") if isinstance(earlier, dict) else None, document["run"]
        changed = [key for key in now if isinstance(was, dict) and was.get(key) != now[key]] or ["folds"]
        raise SettingsError(
            f"{output} holds a run with another {', '.join(changed)}; choose another output, "
            "or add --overwrite to start anew"
        )


def clear_results(output: Path) -> None:
    """Remove the files of an earlier run, and only those, so that a run starts anew."""
    for name in tasks_with_folder(output):
        if (output / name).is_dir() and not (output / name).is_symlink():
            _remove_results(output / name)
            if not any((output / name).iterdir()):
                (output / name).rmdir()
    _remove_results(output)


def tasks_with_folder(output: Path) -> tuple[str, ...]:
    """Return the tasks that a cross-validation of several tasks writes a folder for; none for one task."""
    try:
        names = json.loads((output / FOLDS_FILE).read_text(encoding="utf-8"))["run"]["tasks"]
        return tuple(name for name in names if re.fullmatch(r"[\w-]+", name))
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def _remove_results(output: Path) -> None:
    for name in ("scores.json", "scores.csv", "predictions.csv", FOLDS_FILE, "config.yaml", "log.jsonl", "report.html"):
        (output / name).unlink(missing_ok=True)
    for name in (FOLDS_FOLDER, "figures"):
        folder = output / name
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)


def _write_log(output: Path, results: Sequence[FoldResult]) -> None:
    """Write ``log.jsonl``: a line per fold and repetition with the course of its training."""
    lines = [
        json.dumps({"fold": r.fold.name, "repetition": i, "seconds": round(r.seconds, 3), "history": history})
        for r in results
        for i, history in enumerate(r.history)
    ]
    write_text(output / "log.jsonl", "\n".join(lines) + "\n")
