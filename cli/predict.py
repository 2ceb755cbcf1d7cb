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

    from biopercept.recording import Recording
    from biopercept.windowed import PreparedRecording

    Named = tuple[str, Callable[[], Recording]]


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder that train wrote.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or a study folder.")],
    output: options.Output,
    subjects: options.Subjects = None,
    exclude_subjects: options.ExcludeSubjects = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write a table of predictions for every recording, with a summary."""
    from dataclasses import replace

    from biopercept.errors import BioperceptError
    from biopercept.learning.checkpoint import load_checkpoint
    from biopercept.learning.engine import engine_for
    from biopercept.prediction import predict_recording, summary_row, write_prediction, write_summary
    from biopercept.prepare_recording import PrepareSettings, prepare_recording

    checkpoint = load_checkpoint(model)
    engine = engine_for(device)
    refuse_existing(output, overwrite=overwrite)
    settings = PrepareSettings.from_plain_values(checkpoint.prepare)
    named = _recordings(paths, options.listed(subjects), options.listed(exclude_subjects) or ())
    if overwrite:
        _clear(output)
    rows: list[tuple[object, ...]] = []
    failures: list[tuple[str, str]] = []
    sessions: dict[tuple[str, str], list[PreparedRecording]] = {}
    with progress(quiet=quiet) as bar:
        line = bar.add_task("predicting: recordings", total=len(named))
        for name, load in named:
            try:
                recording = load()
                before = sessions.setdefault((recording.subject, recording.session), [])
                prepared = replace(prepare_recording(recording, settings), place=len(before))
                predicted = predict_recording(
                    checkpoint, prepared, engine, intervals=recording.intervals, before=before
                )
                if checkpoint.normalisation.scope == "session":
                    before.append(prepared)
                write_prediction(predicted, output, model.resolve().name)
                rows.append(summary_row(predicted))
                if bar.disable or verbose:
                    say(f"{name}: {len(predicted.onset)} windows", quiet=quiet)
                for note in predicted.notes if verbose else ():
                    say(f"{name}: {note}", quiet=quiet)
            except BioperceptError as fault:
                if fault.exit_code not in (1, 2):
                    raise
                failures.append((name, str(fault)))
                say(f"{name}: {fault}")
            bar.update(line, advance=1)
    write_summary(output, tuple(checkpoint.task.classes), rows, failures)
    if as_json:
        print_json({"output": str(output), "n_recordings": len(rows), "n_failed": len(failures)})
    else:
        typer.echo(str(output / "summary.csv"))
    if failures:
        raise typer.Exit(1)


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


def _found(paths: list[Path]) -> Iterator[tuple[str, str, str, Callable[[], Recording]]]:
    """Give subject, key, name and loader of each recording; a study folder gives all of its recordings."""
    from functools import partial

    from biopercept.loaders.loading import load_recording
    from biopercept.studies.study import is_study, load_entry, load_study
    from biopercept.windowed import recording_key

    for path in paths:
        if not is_study(path):
            stem = _stem(path)
            yield stem, recording_key(stem, "", stem), str(path), partial(load_recording, path, subject=stem, name=stem)
            continue
        study = load_study(path)
        for entry in study.entries:
            key = recording_key(entry.subject, entry.session, entry.recording)
            yield entry.subject, key, entry.title, partial(load_entry, study, entry)


def _stem(path: Path) -> str:
    """Return the name of a file or folder up to its first dot."""
    return path.resolve().name.split(".")[0]


def _clear(output: Path) -> None:
    """Remove what an earlier predict wrote, and only that."""
    for pattern in ("*_predictions.tsv", "*_predictions.json", "summary.csv", "failures.csv", "report.html"):
        for path in output.glob(pattern):
            path.unlink()
