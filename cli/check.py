"""The command `check`: a study and its settings validated without running anything, every fault at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biopercept.errors import count

from . import options
from .terminal import print_json, print_text, safe_text

if TYPE_CHECKING:
    from biopercept.results.plan import SettingsPlan
    from biopercept.studies.entries import Span
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

    Shown is what follows from the data, setting by setting, and why.

    Headers tell of recordings that are empty, too short or cannot be read, and of labels beyond their ends; with
    --recordings every file is opened, and clocks that cannot be joined are found too.

    Example: biopercept check my-study --recordings
    """
    from biopercept.errors import SettingsError, StudyError
    from biopercept.planning.fingerprint import labels_without_windows
    from biopercept.planning.headers import MOST_LOOKED_AT, looked_at
    from biopercept.results.reading import document_of
    from biopercept.studies.entries import correction_faults, label_faults
    from biopercept.studies.labels import training_faults
    from biopercept.studies.loading import load_study
    from biopercept.studies.ratings import rated_signals
    from biopercept.studies.structure import StudyFaults
    from biopercept.studies.tables import told_once

    faults: list[str] = []
    notes: list[str] = []
    spans: dict[int, Span] = {}
    loaded = readable = None
    try:
        loaded = readable = load_study(study)
        faults.extend(training_faults(loaded))
    except StudyFaults as several:
        faults.extend(several.faults)
        readable = several.study
    except StudyError as fault:
        faults.append(str(fault))
    if readable is not None:
        malformed = tuple(correction_faults(readable))
        faults.extend(malformed)
        spans, of_files = _opened(readable, malformed) if recordings else looked_at(readable)
        faults.extend(of_files)
        if not recordings and rated_signals(readable.tasks):
            first = replace(readable, entries=readable.entries[:1])  # tells a wrong name; --recordings the rest
            faults.extend(fault for fault in _opened(first, malformed)[1] if fault not in of_files)
        for of_labels, beyond in (label_faults(readable.entries[place], span) for place, span in spans.items()):
            faults.extend(of_labels)
            notes.extend(beyond)
    plan = None
    try:
        if loaded is not None:
            settings, plan = preset.of_study(loaded, is_opened=recordings)
            faults.extend(_too_short(loaded, spans, settings.windows.length_seconds))
            notes.extend(labels_without_windows(loaded, settings.windows.length_seconds))
        elif preset.is_given:
            preset.load()
    except SettingsError as fault:
        faults.append(f"settings: {fault}")
    faults = list(told_once(faults))
    report = _report(loaded)
    if report:
        report["notes"] += told_once(notes)
        if not recordings and report["n_recordings"] > MOST_LOOKED_AT:
            report["notes"].append(f"files of {MOST_LOOKED_AT} recordings were looked at; --recordings opens all")
    if plan is not None:
        if plan.lines and not faults:  # of what is wrong no settings follow
            report["plan"] = document_of(plan)
        report["notes"] += [*plan.losses, *plan.warnings]
        faults.extend(plan.faults)
    if run.as_json:
        print_json({"study": str(study), "faults": faults, **report})
    else:
        _print(study, faults, report, plan)
    if faults:
        raise typer.Exit(2)


def _opened(study: Study, known: tuple[str, ...]) -> tuple[dict[int, Span], list[str]]:
    """Return where recordings begin and end, by their place, and a sentence for each that cannot be loaded.

    No sample is read that the format allows to leave; a fault that is known is not repeated.
    """
    from biopercept.errors import RecordingError
    from biopercept.prepare.sources import recording_of
    from biopercept.studies.entries import Span
    from biopercept.studies.ratings import rating_faults

    spans, faults = {}, []
    for place, entry in enumerate(study.entries):
        try:
            recording = recording_of(study, entry)
        except RecordingError as fault:
            if not any(one in str(fault) for one in known):
                faults.append(f"{entry.where}: {str(fault).removeprefix(f'{entry.title}: ')}")
            continue
        faults += (f"{entry.where}: {fault}" for fault in rating_faults(recording, study.tasks))
        if recording.signals:
            start = min(signal.start_seconds for signal in recording.signals)
            spans[place] = Span(start, max(signal.end_seconds for signal in recording.signals))
    return spans, faults


def _too_short(study: Study, spans: dict[int, Span], length: float) -> Iterator[str]:
    """Give a sentence for each recording that is shorter than a window."""
    for place, span in spans.items():
        if (span.end if span.is_exact else 1.5 * span.end) < length:
            yield (
                f"{study.entries[place].where}: it lasts {span.end:.0f} s, and one window has "
                f"{length:g} s: nothing could be cut of it; leave it out, or set windows.length_seconds below that"
            )


def _report(study: Study | None) -> dict[str, Any]:
    """Return what a readable study holds as plain values."""
    from biopercept.studies.entries import n_corrected, strange_corrections
    from biopercept.studies.labels import class_counts

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
            f"{safe_text(report['name'])}: {count(report['n_subjects'], 'subject')}, "
            f"{count(report['n_recordings'], 'recording')}, {count(report['n_files'], 'file')}"
        )
        if report["n_corrected"]:
            print_text(f"corrected by hand: {report['n_corrected']} recording{'s' * (report['n_corrected'] > 1)}")
        for task, counts in report["tasks"].items():
            shown = ", ".join(f"{label} in {n}" for label, n in counts.items())
            print_text(safe_text(f"task {task}: {shown or 'a number to predict'}{' subjects' if shown else ''}"))
        if plan is not None and "plan" in report:
            print_text("settings that follow from the data (--config auto), and why:")
            for row in plan.rows:
                print_text(f"  {safe_text(row)}")
        for note in report["notes"]:
            print_text(f"note: {safe_text(note)}")
    for fault in faults:
        print_text(f"fault: {safe_text(fault)}")
    n_faults = count(len(faults), "fault") if faults else "no fault"
    n_notes = len(report.get("notes", ()))
    noted = f"; {count(n_notes, 'note')} to read" if n_notes else ""
    print_text(f"{n_faults} in {safe_text(study)}{noted}")
