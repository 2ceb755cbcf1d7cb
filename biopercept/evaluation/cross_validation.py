"""Cross-validation over subjects: every fold fitted on its own, finished folds kept, interrupted runs resumed.

1. The plan (task, windows, normalisation, folds) is settled and ``folds.json`` written before training.
2. Each fold is fitted on its training subjects, stopped early on its validation subjects, and its test
   subjects are predicted once; the fold's file is written whole when it is done.
3. When all folds are there, and only then, predictions are joined and scored.

The final model, for people who were in no fold, is trained on the same plan without folds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from biopercept.baselines.catalogue import require_known
from biopercept.data.joined import open_studies
from biopercept.data.splits import Fold
from biopercept.errors import SettingsError, StudyError, the_model
from biopercept.evaluation.fold_fits import FoldResult, fit_folds
from biopercept.evaluation.plan import EvaluationRequest, Plan, plan_evaluation
from biopercept.evaluation.runs import FoldRunOptions, RunFolder
from biopercept.evaluation.scoring import scored_part, write_all_scores
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.evaluation.time_split import plan_any, plan_personal
from biopercept.files import only_writer, write_text
from biopercept.parallel import Executor
from biopercept.results.checksums import require_as_written
from biopercept.results.cross_validation import SCORES_FILE, SENSORS_FILE, CrossValidation
from biopercept.results.plan import SETTINGS_FILES
from biopercept.results.reading import document_of, require_schema
from biopercept.results.training import LOG_FILE
from biopercept.sharing import joining
from biopercept.training.checkpoint import Checkpoint
from biopercept.training.final import Provenance, TrainingRequest, measured_modalities, train
from biopercept.training.loop import EpochReport
from biopercept.training.model_card import model_scores_sentence, scores_by_task

FitFolds = Callable[[Any, Sequence[Fold], int | Executor], Iterator[tuple[Fold, FoldResult]]]
"""Gives the results of folds of a plan as they are done, so many at once."""


def cross_validate(request: EvaluationRequest, output: Path, **options: Unpack[FoldRunOptions]) -> dict[str, Any]:
    """Run or resume a cross-validation in a folder and return the content of its ``scores.json``.

    Of several tasks each has its own in a folder of its name; all of them are returned.

    Raises SettingsError where the folder holds something else or folds of other settings or data, or a class has too
    few subjects. Raises BusyError where another process is writing there. Raises UnfinishedError where folds are
    missing that other processes do.
    """
    require_known(request.model)
    is_shared = options.get("sharing") is not None
    with open_studies(request.store, *request.more_stores) as store, only_writer(output, is_shared=is_shared):
        return run_and_score(plan_any(store, request), fit_folds, output, **options)


def run_and_score(plan: Plan, fit: FitFolds, output: Path, **options: Unpack[FoldRunOptions]) -> dict[str, Any]:
    """Run the folds of a plan, or go on with them, and write and return their scores; ``fit`` gives their results.

    Raises SettingsError where the folder holds something else or folds of other settings or data. Raises
    UnfinishedError where folds are missing that other processes do.
    """
    results = _run_folder(output).run(plan, fit, partial(clear_results, output), **options)
    with joining(options.get("sharing"), output):
        _write_log(output, results)
        return write_all_scores(*scored_part(plan, results), output, config_text=options.get("config_text", ""))


def _run_folder(output: Path) -> RunFolder[FoldResult]:
    return RunFolder(output, "cross-validation", FoldResult)


def clear_results(output: Path) -> None:
    """Remove the files of an earlier run, and only those, so that a run starts again."""
    for name in tasks_with_folder(output):
        if (output / name).is_dir() and not (output / name).is_symlink():
            _remove_results(output / name)
            if not any((output / name).iterdir()):
                (output / name).rmdir()
    _remove_results(output)


def tasks_with_folder(output: Path) -> tuple[str, ...]:
    """Return the tasks that a cross-validation of several tasks writes a folder for; none for one task."""
    try:
        names = json.loads((output / _run_folder(output).folds_file).read_text(encoding="utf-8"))["run"]["tasks"]
        return tuple(name for name in names if re.fullmatch(r"[\w-]+", name))
    except (OSError, ValueError, LookupError, TypeError):
        return ()


def _remove_results(output: Path) -> None:
    files = (
        "scores.json",
        "scores.csv",
        "predictions.csv",
        SENSORS_FILE,
        "groups.json",
        "groups.csv",
        "preparation.log.csv",
        *SETTINGS_FILES,
        LOG_FILE,
        "report.html",
    )
    _run_folder(output).clear(files, ("figures",))


def _write_log(output: Path, results: Sequence[FoldResult]) -> None:
    """Write ``log.jsonl``: a line per fold and repetition with the course of its training."""
    lines = [
        json.dumps({"fold": r.fold.name, "repetition": i, "seconds": round(r.seconds, 3), "history": history})
        for r in results
        for i, history in enumerate(r.history)
    ]
    write_text(output / LOG_FILE, "".join(f"{line}\n" for line in lines))


def train_on_store(
    request: EvaluationRequest,
    output: Path,
    *,
    is_personal: bool = False,
    scores: dict[str, Any] | None = None,
    on_epoch: EpochReport | None = None,
) -> Checkpoint:
    """Train the final model of the wanted subjects of a store, or of several, or of one subject, and return it saved.

    Of ``request.evaluation`` only calibration and prediction sets are read; ``training["warnings"]`` of the model says
    what to be wary of.

    A personal model is of the one wanted subject, by ``request.personalisation``; scores of a cross-validation
    (:func:`read_scores`) are for the card.

    Raises StudyError where a task or subject is unknown, windows do not suffice, stores cannot be joined, or the folder
    of scores holds none.
    Raises SettingsError, CheckpointError, TrainingError, OutputError: as :func:`biopercept.training.final.train`.
    Raises BusyError where another process is writing there.
    """
    calibrating = request.evaluation.calibrating
    evaluation = EvaluationSettings(
        calibration=calibrating.method,
        calibration_folds=calibrating.n_folds,
        conformal_coverage=calibrating.coverage,
    )
    request = replace(request, evaluation=evaluation)
    if is_personal and request.more_stores:
        raise SettingsError("--subject makes a model of one person; give the one store that holds them")
    with open_studies(request.store, *request.more_stores) as store, only_writer(output):
        first = next(iter(store.parts.values()))
        plan = plan_personal(store, request) if is_personal else plan_evaluation(store, request, needs_folds=False)
        provenance = Provenance(
            study=store.name,
            store_fingerprint=plan.store_fingerprint,
            prepare=dict(first.settings),
            modalities=measured_modalities(plan.windows.recordings),
            scores=scores,
            warnings=(*plan.warnings, *_check_scores(scores, plan)),
            plan=None if request.settings_plan is None else document_of(request.settings_plan),
            about={part.name: part.about for part in store.parts.values()},
            parts={part.name: part.fingerprint() for part in store.parts.values()} if request.more_stores else {},
        )
        training = TrainingRequest(
            inputs=plan.inputs,
            settings=request.fit,
            provenance=provenance,
            seed=request.seed,
            device=request.device,
            calibrating=calibrating,
            personalisation=request.personalisation if is_personal else None,
            on_epoch=on_epoch,
        )
        return train(training, output)


def _check_scores(scores: dict[str, Any] | None, plan: Plan) -> tuple[str, ...]:
    """Refuse scores of other tasks than are learnt for the card; return a warning where they are of another store."""
    by_task, names = {} if scores is None else scores_by_task(scores), [task.name for task in plan.windows.tasks]
    if by_task and not by_task.keys() & set(names):
        raise StudyError(
            f"the scores for the card are of {', '.join(by_task)} and the model learns {', '.join(names)}; give a "
            "cross-validation of the same task"
        )
    stores = {document["fingerprint"]["store"] for document in by_task.values()}
    if stores <= {plan.store_fingerprint}:
        return ()
    return ("the scores in the card are of another store than the model is trained on",)


def read_scores(folder: Path) -> dict[str, Any]:
    """Return the scores that a cross-validation wrote, of several tasks under ``tasks`` by name.

    Raises StudyError where the folder holds none, or one that was damaged, edited or written by a newer version.
    """

    def read(part: Path) -> dict[str, Any]:
        file = part / SCORES_FILE
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if "schema" in document:
            require_as_written(part)
            require_schema(file, document, CrossValidation.SCHEMA)
        model_scores_sentence(document)
        _ = document["task"], document["fingerprint"]["store"]
        if document.get("external") is not None:
            scored = the_model(document["external"]["model"], "the saved model")
            raise StudyError(
                f"{folder} holds the scores of {scored}, not of the model to be trained; give what cross-validate wrote"
            )
        return document

    try:
        names = tasks_with_folder(folder)
        return {"tasks": {name: read(folder / name) for name in names}} if names else read(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as fault:
        raise StudyError(f"{folder} has no readable scores.json; give what cross-validate wrote") from fault
