"""``predict``: recordings or a study in, timelines of predictions out; one that fails costs one row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal import print_json, progress, refuse_existing, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from biopercept.inference.prediction import PredictedNumbers, PredictedRecording, Trace, Truth
    from biopercept.recording import Recording
    from biopercept.store.prepared import PreparedRecording
    from biopercept.studies.structure import Entry, Study
    from biopercept.tasks import Task
    from biopercept.training.checkpoint import Checkpoint, TaskCheckpoint
    from biopercept.training.engine import Engine

    Loaded = tuple[Recording, Truth]
    Named = tuple[str, Callable[[], Loaded]]


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that train wrote.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", metavar="SECONDS", help="Also answer at times this far apart (densely trained models)."
        ),
    ] = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write a table of predictions for every recording, with a summary; of several tasks in a folder for each."""
    from dataclasses import replace

    from biopercept.errors import BioperceptError
    from biopercept.inference.prediction import require_dense
    from biopercept.prepare.recording import PrepareSettings, prepare_recording
    from biopercept.training.checkpoint import load_model
    from biopercept.training.engine import engine_for

    checkpoint = load_model(model)
    if every is not None:
        require_dense(checkpoint, model, every)
    engine = engine_for(device)
    refuse_existing(output, overwrite=overwrite)
    settings = PrepareSettings.from_plain_values(checkpoint.prepare)
    named = _recordings(paths, options.listed(subjects), options.listed(exclude_subjects) or ())
    folders = _folders(checkpoint, output)
    if overwrite:
        for folder in (output, *folders.values()):
            _clear(folder)
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in folders}
    failures: list[tuple[str, str]] = []
    warnings: dict[str, None] = {}
    sessions: dict[tuple[str, str], list[PreparedRecording]] = {}
    with progress(quiet=quiet) as bar:
        line = bar.add_task("predicting: recordings", total=len(named))
        for name, load in named:
            try:
                recording, truth = load()
                before = sessions.setdefault((recording.subject, recording.session), [])
                prepared = replace(prepare_recording(recording, settings), place=len(before))
                warnings.update(dict.fromkeys(truth.lacking(task) for task in _tasks(checkpoint)))
                predicted = _predicted(checkpoint, prepared, before, engine, truth, every)
                found = _written(predicted, folders, model.resolve().name)
                if checkpoint.normalisation.scope == "session":
                    before.append(prepared)
                for task, row in found.items():
                    rows[task].append(row)
                if bar.disable or verbose:
                    n_grid = int((~prepared.windows.is_labelled).sum())
                    say(f"{name}: {n_grid} windows", quiet=quiet)
                for note in prepared.notes if verbose else ():
                    say(f"{name}: {note}", quiet=quiet)
            except BioperceptError as fault:
                if fault.exit_code not in (1, 2):
                    raise
                failures.append((name, str(fault)))
                say(f"{name}: {fault}")
            bar.update(line, advance=1)
    _write_summaries(checkpoint, folders, rows, failures)
    for warning in filter(None, warnings):
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        n_done = len(next(iter(rows.values())))
        print_json({"output": str(output), "n_recordings": n_done, "n_failed": len(failures)})
    else:
        for folder in folders.values():
            typer.echo(str(folder / "summary.csv"))
    if failures:
        raise typer.Exit(1)


def _folders(checkpoint: Checkpoint | TaskCheckpoint, output: Path) -> dict[str, Path]:
    """Return the folder of each task's answers: the output itself where there is one task."""
    names = [task.name for task in _tasks(checkpoint)]
    return {names[0]: output} if len(names) == 1 else {name: output / name for name in names}


def _tasks(checkpoint: Checkpoint | TaskCheckpoint) -> list[Task]:
    from biopercept.training.checkpoint import Checkpoint

    return [checkpoint.task] if isinstance(checkpoint, Checkpoint) else list(checkpoint.tasks)


def _predicted(
    checkpoint: Checkpoint | TaskCheckpoint,
    prepared: PreparedRecording,
    before: list[PreparedRecording],
    engine: Engine,
    truth: Truth,
    every: float | None,
) -> dict[str, tuple[PredictedRecording | PredictedNumbers, Trace | None]]:
    """Return each task's answers for one recording, and its trace where one is asked for."""
    from biopercept.inference.prediction import predict_recording, predict_tasks
    from biopercept.training.checkpoint import Checkpoint

    if isinstance(checkpoint, Checkpoint):
        told = predict_recording(checkpoint, prepared, engine, truth=truth, before=before)
        return {checkpoint.task.name: (told, None)}
    found = predict_tasks(checkpoint, prepared, engine, truth=truth, every_seconds=every, before=before)
    return {answer.task.name: (answer.windows, answer.trace) for answer in found}


def _written(
    predicted: dict[str, tuple[PredictedRecording | PredictedNumbers, Trace | None]],
    folders: dict[str, Path],
    model: str,
) -> dict[str, tuple[object, ...]]:
    """Write the answers for one recording and return its row of each task's summary."""
    from biopercept.inference.prediction import PredictedRecording
    from biopercept.inference.prediction_files import (
        number_row,
        summary_row,
        write_numbers,
        write_prediction,
        write_trace,
    )

    rows = {}
    for task, (told, trace) in predicted.items():
        if isinstance(told, PredictedRecording):
            write_prediction(told, folders[task], model)
            rows[task] = summary_row(told)
        else:
            write_numbers(told, folders[task], model)
            rows[task] = number_row(told)
        if trace is not None:
            write_trace(trace, folders[task], model)
    return rows


def _write_summaries(
    checkpoint: Checkpoint | TaskCheckpoint,
    folders: dict[str, Path],
    rows: dict[str, list[tuple[object, ...]]],
    failures: list[tuple[str, str]],
) -> None:
    from biopercept.files import write_table
    from biopercept.inference.prediction_files import NUMBER_COLUMNS, write_summary

    for task in _tasks(checkpoint):
        folder = folders[task.name]
        if task.is_regression:
            write_table(folder / "summary.csv", NUMBER_COLUMNS, rows[task.name])
            write_table(folder / "failures.csv", ("recording", "message"), failures)
        else:
            write_summary(folder, tuple(task.classes), rows[task.name], failures)


def _recordings(paths: list[Path], subjects: tuple[str, ...] | None, excluded: tuple[str, ...]) -> list[Named]:
    """Return the name of each recording that is wanted, and how to load it.

    Raises
    ------
    SettingsError
        Where a named subject has no recording, nothing is left, or two recordings would share an output file.
    """
    from biopercept.errors import SettingsError

    found = list(_found(paths))
    known = {subject for subject, _, _, _ in found}
    if unknown := sorted((set(subjects or ()) | set(excluded)) - known):
        raise SettingsError(f"no recording of subject {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    wanted = [row for row in found if (subjects is None or row[0] in subjects) and row[0] not in excluded]
    if not wanted:
        raise SettingsError("no recording is left; check --subjects and --exclude-subjects")
    taken: dict[str, str] = {}
    for _, key, name, _ in wanted:
        if key.lower() in taken:
            raise SettingsError(
                f"{taken[key.lower()]} and {name} would both be written to {key}_predictions.tsv; "
                "rename one, or predict them into two outputs"
            )
        taken[key.lower()] = name
    return [(name, load) for _, _, name, load in wanted]


def _found(paths: list[Path]) -> Iterator[tuple[str, str, str, Callable[[], Loaded]]]:
    """Give subject, key, name and loader of each recording; a study folder gives all of its recordings."""
    from functools import partial

    from biopercept.store.prepared import recording_key
    from biopercept.studies.loading import is_study, load_study

    for path in paths:
        if not is_study(path):
            stem = _stem(path)
            yield stem, recording_key(stem, "", stem), str(path), partial(_load_file, path, stem)
            continue
        study = load_study(path)
        for entry in study.entries:
            key = recording_key(entry.subject, entry.session, entry.recording)
            yield entry.subject, key, entry.title, partial(_load_entry, study, entry)


def _load_file(path: Path, stem: str) -> Loaded:
    from biopercept.inference.prediction import Truth
    from biopercept.loaders.loading import load_recording
    from biopercept.recording import RecordingLabels

    recording = load_recording(path, subject=stem, name=stem)
    return recording, Truth(RecordingLabels(recording.intervals))


def _load_entry(study: Study, entry: Entry) -> Loaded:
    """Return a study's recording with the labels on its own clock, and the tasks that say what they mean."""
    from dataclasses import replace

    from biopercept.inference.prediction import Truth
    from biopercept.studies.labels import labels_of
    from biopercept.studies.loading import load_entry

    recording = load_entry(study, entry)
    labels = labels_of(study, entry)
    extra = tuple(i for i in recording.intervals if i not in labels.intervals)  # the condition
    labels = replace(labels, intervals=(*labels.intervals, *extra), interval_values=labels.interval_values)
    return recording, Truth(labels, study.name, study.tasks)


def _stem(path: Path) -> str:
    """Return the name of a file or folder up to its first dot."""
    return path.resolve().name.split(".")[0]


def _clear(output: Path) -> None:
    """Remove what an earlier predict wrote, and only that."""
    for pattern in (
        "*_predictions.tsv",
        "*_predictions.json",
        "*_trace.tsv",
        "*_trace.json",
        "summary.csv",
        "failures.csv",
        "report.html",
    ):
        for path in output.glob(pattern):
            path.unlink()
