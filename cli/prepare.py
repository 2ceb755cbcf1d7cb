"""The command `prepare`: a study loaded, cleaned, cut and stored in one HDF5 file; run it again to go on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biopercept.errors import count

from . import options, work_sharing
from .terminal import print_json, print_text, progress, safe_text, say

if TYPE_CHECKING:
    from biopercept.prepare.recording import PrepareSettings
    from biopercept.prepare.reuse import LogRow
    from biopercept.prepare.study import PrepareSummary
    from biopercept.results.plan import SettingsPlan
    from biopercept.studies.structure import Study


@dataclass(frozen=True)
class StudyRun(work_sharing.Shared, options.Printing):
    """How the command runs, on one machine or several; what an earlier run prepared is used again."""

    jobs: options.Jobs = 1
    overwrite: options.Overwrite = False
    quiet: options.Quiet = False
    verbose: options.Verbose = False


def prepare(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study folder or a BIDS data set.")],
    output: options.StoreOutput,
    restart: Annotated[bool, typer.Option("--restart", help="Use nothing that an earlier run prepared.")] = False,
    people: options.People = options.People(),
    preset: options.Preset = options.Preset(),
    run: StudyRun = StudyRun(),
) -> None:
    """Load, clean, cut and measure a whole study into one store; run again to go on where a run stopped.

    Windows follow from the study unless settings are given; 'biopercept check STUDY' shows how.

    Exit code 1 where some recordings failed: they are named here and in STORE.log.csv, and the others are stored. Why
    the windows are what they are stands in STORE.plan.json.

    Example: biopercept prepare my-study -o my-study.h5
    """
    from biopercept.loaders.reading_process import end_reading
    from biopercept.prepare.reuse import refuse_other_file
    from biopercept.prepare.study import PrepareRun, chosen_subjects, of_subjects, prepare_study
    from biopercept.results.plan import write_windows_plan
    from biopercept.studies.labels import training_faults
    from biopercept.studies.loading import load_study

    sharing, executor = run.sharing(*(["--restart"] if restart else [])), run.executor(run.jobs, output)
    preset.refuse_unread("prepare")
    refuse_other_file(output)
    loaded = load_study(study)
    for fault in training_faults(loaded):
        say(f"warning: {fault}", quiet=run.quiet)
    subjects = chosen_subjects(loaded, people.chosen, people.excluded)
    settings, plan = _settings(of_subjects(loaded, subjects), preset, quiet=run.quiet)
    end_reading()  # each recording is read where it is prepared
    alike: Counter[str] = Counter()
    with progress(quiet=run.quiet) as bar:
        task = bar.add_task("preparing", total=None)

        def show(n_done: int, n_all: int, row: LogRow) -> None:
            bar.update(task, completed=n_done, total=n_all, description=safe_text(row.title))
            line = f"[{n_done}/{n_all}] {_line(row)}"
            alike[row.message] += row.status == "failed"
            if row.status == "failed" and alike[row.message] > 1:
                pass  # a fault of many recordings is told once, and counted at the end
            elif row.status == "failed" and bar.disable:
                say(line)
            elif row.status == "failed":
                bar.console.print(safe_text(line), style="red", soft_wrap=True)
            elif run.verbose or (row.status == "prepared" and bar.disable):
                note = f"; {row.message}" if run.verbose and row.message else ""
                say(f"{line}{note}", quiet=run.quiet)

        summary = prepare_study(
            loaded,
            output,
            settings,
            subjects=subjects,
            run=PrepareRun(executor, restart, run.overwrite, sharing=sharing),
            on_progress=show,
        )
    if summary.store is not None:
        write_windows_plan(summary.log, plan if plan.lines else None)
    for fault, n in alike.items():
        if n > 1:
            say(f"failed: so too in {n - 1} more: {fault}")
    for warning in summary.warnings:
        say(f"warning: {warning}", quiet=run.quiet)
    if run.as_json:
        print_json(_document(summary))
    else:
        _print(summary)
    if n := summary.count("failed"):
        stored = "no store was written" if summary.store is None else "the others are in the store"
        say(
            f"biopercept: {n} of {len(summary.rows)} recordings failed ({safe_text(summary.log)} says why; {stored}), "
            "which is exit code 1; the same command without --collect tries them again",
        )
        raise typer.Exit(1)


def _settings(study: Study, preset: options.Preset, *, quiet: bool) -> tuple[PrepareSettings, SettingsPlan]:
    """Return how the study is cut and cleaned, and say what of it follows from the study, and what that loses."""
    from biopercept.planning.fingerprint import labels_without_windows
    from biopercept.studies.labels import labels_without_task

    settings, plan = preset.of_study(study, "prepare", is_opened=True)
    options.say_plan(plan.of(options.WINDOW_SETTINGS), quiet=quiet)
    lost = labels_without_windows(study, settings.windows.length_seconds)
    for sentence in (*labels_without_task(study), *plan.faults, *plan.losses, *lost):
        say(f"warning: {sentence}", quiet=quiet)
    return settings, plan


def _line(row: LogRow) -> str:
    if row.status == "failed":
        return f"failed: {row.message}"
    windows = f"{row.windows_labelled} labelled and {row.windows_grid} grid windows"
    return f"{row.title}: {windows}, {count(len(row.signals), 'signal')}, {row.seconds:.1f} s"


def _document(summary: PrepareSummary) -> dict[str, Any]:
    """Return what was done as plain values: counts by status, what was left out by reason, and who failed why."""
    return {
        "store": None if summary.store is None else str(summary.store),
        "log": str(summary.log),
        "seconds": round(summary.seconds, 1),
        "recordings": {status: summary.count(status) for status in ("prepared", "reused", "failed")},
        "left_out": _left_out(summary),
        "failures": {row.title: row.message for row in summary.rows if row.status == "failed"},
    }


def _left_out(summary: PrepareSummary) -> dict[str, int]:
    left_out: dict[str, int] = {}
    for row in summary.rows:
        for reason, n in row.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + n
    return dict(sorted(left_out.items()))


def _print(summary: PrepareSummary) -> None:
    counts = ", ".join(f"{summary.count(status)} {status}" for status in ("prepared", "reused", "failed"))
    print_text(f"{count(len(summary.rows), 'recording')}: {counts}; {summary.seconds:.1f} s")
    for reason, n in _left_out(summary).items():
        unit = "" if reason.startswith(("interval", "recording", "window")) else " windows"
        print_text(safe_text(f"left out: {reason}: {n}{unit}"))
    if summary.store is None:
        print_text(f"no store was written: not one recording could be prepared; see {safe_text(summary.log)}")
    else:
        print_text(f"store: {safe_text(summary.store)}; log: {safe_text(summary.log)}")
