"""The command `check`: a study and its settings validated without running anything, every fault at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .terminal import print_json, print_text, safe_text

if TYPE_CHECKING:
    from biopercept.results.plan import SettingsPlan
    from biopercept.studies.structure import Study


def check(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study folder or a BIDS data set.")],
    recordings: Annotated[
        bool, typer.Option("--recordings", help="Open every recording, too, and place it on its clock.")
    ] = False,
    preset: options.Preset = options.Preset(),
    run: options.Printing = options.Printing(),
) -> None:
    """Validate a study and settings without running; all faults are listed at once. Exit code 2 where there is one.

    Shown is what follows from the data, setting by setting, and why; headers alone are read.

    With --recordings, files that cannot be read, clocks that cannot be joined and labels in another unit are found too.
    """
    from biopercept.errors import SettingsError, StudyError
    from biopercept.results.reading import document_of
    from biopercept.studies.labels import training_faults
    from biopercept.studies.loading import correction_faults, load_study
    from biopercept.studies.ratings import rated_signals
    from biopercept.studies.structure import StudyFaults
    from biopercept.studies.tables import told_once

    faults: list[str] = []
    loaded = None
    try:
        loaded = load_study(study)
        faults.extend(training_faults(loaded))
        malformed = tuple(correction_faults(loaded))
        faults.extend(told_once(malformed))
        if recordings:
            faults.extend(told_once(_faults_of_recordings(loaded, malformed)))
        elif rated_signals(loaded.tasks):
            first = replace(loaded, entries=loaded.entries[:1])  # tells a name that is not right; --recordings the rest
            faults.extend(_faults_of_recordings(first, malformed))
    except StudyFaults as several:
        faults.extend(several.faults)
    except StudyError as fault:
        faults.append(str(fault))
    plan = None
    try:
        if loaded is not None and not faults:
            _, plan = preset.of_study(loaded, is_opened=recordings)
        elif preset.is_given:
            preset.load()
    except SettingsError as fault:
        faults.append(f"settings: {fault}")
    report = _report(loaded)
    if plan is not None:
        if plan.lines:
            report["plan"] = document_of(plan)
        report["notes"] += [*plan.losses, *plan.warnings]
        faults.extend(plan.faults)
    if run.as_json:
        print_json({"study": str(study), "faults": faults, **report})
    else:
        _print(study, faults, report, plan)
    if faults:
        raise typer.Exit(2)


def _faults_of_recordings(study: Study, known: tuple[str, ...]) -> Iterator[str]:
    """Give a sentence for each recording that cannot be loaded for a fault that is not known.

    No sample is read that the format allows to leave.
    """
    from biopercept.errors import RecordingError
    from biopercept.prepare.sources import recording_of
    from biopercept.studies.ratings import rating_faults

    for entry in study.entries:
        try:
            recording = recording_of(study, entry)
            yield from (f"recordings.tsv, {entry.title}: {fault}" for fault in rating_faults(recording, study.tasks))
        except RecordingError as fault:
            if not any(one in str(fault) for one in known):
                yield f"recordings.tsv, {entry.title}: {str(fault).removeprefix(f'{entry.title}: ')}"


def _report(study: Study | None) -> dict[str, Any]:
    """Return what a readable study holds as plain values."""
    from biopercept.studies.labels import class_counts
    from biopercept.studies.loading import n_corrected, strange_corrections

    if study is None:
        return {}
    return {
        "name": study.name,
        "n_subjects": len(study.subjects),
        "n_recordings": len(study.entries),
        "n_files": sum(len(entry.files) for entry in study.entries),
        "n_corrected": n_corrected(study),
        "tasks": {
            name: {label: class_counts(study, task)[label] for label in task.class_names if task.is_of_labels}
            for name, task in study.tasks.items()
        },
        "notes": [*study.notes, *strange_corrections(study)],
    }


def _print(study: Path, faults: list[str], report: dict[str, Any], plan: SettingsPlan | None) -> None:
    if report:
        print_text(
            f"{safe_text(report['name'])}: {report['n_subjects']} subjects, {report['n_recordings']} recordings, "
            f"{report['n_files']} files"
        )
        if report["n_corrected"]:
            print_text(f"corrected by hand: {report['n_corrected']} recording{'s' * (report['n_corrected'] > 1)}")
        for task, counts in report["tasks"].items():
            shown = ", ".join(f"{label} in {count}" for label, count in counts.items())
            print_text(safe_text(f"task {task}: {shown or 'a number to predict'}{' subjects' if shown else ''}"))
        if plan is not None and plan.lines:
            print_text("settings that follow from the data (--config auto), and why:")
            for row in plan.rows:
                print_text(f"  {safe_text(row)}")
        for note in report["notes"]:
            print_text(f"note: {safe_text(note)}")
    for fault in faults:
        print_text(f"fault: {safe_text(fault)}")
    count = {0: "no fault", 1: "1 fault"}.get(len(faults), f"{len(faults)} faults")
    print_text(f"{count} in {safe_text(study)}")
