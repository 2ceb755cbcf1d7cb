"""``features``: what was measured of recordings or a study, as tables for a person's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.errors import SettingsError, count

from . import options
from .claims import claim, nothing_done
from .option_settings import refuse_two_values
from .terminal import print_json, recording_progress, safe_text, say

if TYPE_CHECKING:
    from biopercept.measures.around import Around
    from biopercept.measures.averages import MeanCourse
    from biopercept.measures.files import Measured, Pages
    from biopercept.prepare.recording import PrepareSettings


@dataclass(frozen=True)
class Rows:
    """What a row of the table is of."""

    window: Annotated[
        float | None, options.data_option("--window", metavar="SECONDS", help="A row per window of this length.")
    ] = None
    step: Annotated[
        float | None, options.data_option("--step", metavar="SECONDS", help="From one window's start to the next.")
    ] = None
    events: Annotated[
        Path | None, options.data_option("--events", metavar="STUDY", help="A row per event of this study instead.")
    ] = None
    whole: Annotated[bool, options.data_option("--whole", help="A row per recording instead.")] = False
    around: Annotated[
        list[str] | None,
        options.data_option("--around", metavar="EVENT", help="A row per event of this label; may be repeated."),
    ] = None
    before: Annotated[
        float | None, options.data_option("--before", metavar="SECONDS", help="Of --around: time before an event. [2]")
    ] = None
    after: Annotated[
        float | None, options.data_option("--after", metavar="SECONDS", help="Of --around: time after an event. [10]")
    ] = None
    hrv: Annotated[
        bool,
        options.data_option(
            "--hrv", help="Add all of neurokit2's heart rate variability; slow. Most of it needs --window 300."
        ),
    ] = False


@dataclass(frozen=True)
class FeaturesRun(options.Run):
    """How the command runs and what it says."""

    table: Annotated[str, options.run_option("--format", metavar="csv|tsv|parquet", help="How tables are written.")] = (
        "csv"
    )
    also: Annotated[
        str | None, options.run_option("--also", metavar="bids", help="For other tools: bids (derivatives).")
    ] = None
    pages: Annotated[
        bool, options.run_option("--pages", help="A page per recording: what was found, to be judged.")
    ] = False
    jobs: options.Jobs = 1
    verbose: options.Verbose = False


def features(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or study folders.")],
    output: options.Output,
    rows: Rows = Rows(),
    data: options.PeopleAndChannels = options.PeopleAndChannels(),
    preset: options.Preset = options.Preset(),
    run: FeaturesRun = FeaturesRun(),
) -> None:
    """Write heart rate, variability, skin responses, breathing and band power as tables, with a dictionary of columns.

    A row is of a window (60 s every 30 s, where nothing else is said), an event or a whole recording. Beats, skin
    responses and breaths come as tables of their own; around events (--around) there are averages by condition and a
    figure too. Exit code 1 where a recording could not be measured: it is named.
    With --pages, pages/ has a page of each recording: its signals with what was found in them.

    Example: biopercept features my-study -o features --window 60
    """
    from biopercept.measures.files import FeaturesRequest, write_features
    from biopercept.preprocessing.cleaning import signals_left_out
    from biopercept.preprocessing.derived import DEVICE_DISAGREES

    for name in options.listed(run.also) or ():
        if name != "bids":
            raise SettingsError(f"--also names {name!r}; allowed is bids; tables are csv, tsv or parquet by --format")
    claim(output, overwrite=run.overwrite, inputs=paths)
    request = FeaturesRequest(
        paths=tuple(paths),
        settings=_settings(rows, preset),
        rows=_kind(rows),
        events=rows.events,
        format=run.table,
        subjects=data.chosen,
        excluded=data.excluded,
        n_jobs=run.jobs,
        hrv=rows.hrv,
        around=_around(rows),
        pages=_pages() if run.pages else None,
        overrides=data.overrides,
        has_bids=bool(options.listed(run.also)),
    )
    notes: list[Sequence[str]] = []
    with recording_progress("measuring", quiet=run.quiet, verbose=run.verbose) as show:

        def on_recording(done: Measured, n_recordings: int) -> None:
            if done.features is not None:
                notes.append(done.features.notes)
            n_rows = 0 if done.features is None else len(done.features.label)
            show(done.source.title, n_recordings, count(n_rows, "row"), done.failure)
            for note in done.features.notes if done.features else ():
                if not run.verbose and DEVICE_DISAGREES not in note:
                    continue
                say(safe_text(f"{done.source.title}: {note}"), quiet=run.quiet)

        written = write_features(request, output, on_recording=on_recording)
    if not written.n_recordings:
        nothing_done(quiet=run.quiet)
    for sentence in () if run.verbose else signals_left_out(notes):
        say(f"warning: {sentence}", quiet=run.quiet)
    if written.courses:
        _draw(written.courses, written.classes, output)
    if run.as_json:
        n_done, n_failed = written.n_recordings, len(written.failures)
        print_json(
            {
                "table": str(written.table) if n_done else None,
                "n_recordings": n_done,
                "n_rows": written.n_rows,
                "n_failed": n_failed,
            }
        )
    elif written.n_recordings:
        typer.echo(str(written.table))
    if written.failures:
        raise typer.Exit(1)


def _draw(courses: tuple[MeanCourse, ...], classes: tuple[str, ...], output: Path) -> None:
    from biopercept.files import write_bytes
    from biopercept.report.around import around_figure

    write_bytes(output / "around.svg", around_figure(courses, classes).svg)


def _around(rows: Rows) -> Around | None:
    from biopercept.measures.around import Around

    if not rows.around:
        if (rows.before, rows.after) != (None, None):
            raise SettingsError("--before and --after are of events; name the events with --around EVENT")
        return None
    if rows.hrv:
        raise SettingsError("--hrv and --around contradict each other: a few seconds have no heart rate variability")
    return Around.of(rows.around, rows.before, rows.after)


def _pages() -> Pages:
    from biopercept.measures.files import Pages
    from biopercept.report.recordings.page import write_index, write_page

    return Pages(write_page, write_index)


def _kind(rows: Rows) -> str:
    from biopercept.measures.recording import EVENTS, WHOLE, WINDOWS

    given = [
        name
        for name, value in (
            ("--window/--step", rows.window or rows.step),
            ("--events", rows.events and not rows.around),
            ("--whole", rows.whole),
            ("--around", rows.around),
        )
        if value
    ]
    if len(given) > 1:
        raise SettingsError(
            f"{' and '.join(given)} contradict each other: a row is of a window, an event or a recording"
        )
    return EVENTS if rows.events or rows.around else WHOLE if rows.whole else WINDOWS


def _settings(rows: Rows, preset: options.Preset) -> PrepareSettings:
    given_rows = {"--events": rows.events, "--whole": rows.whole, "--around": rows.around}
    kinds = [name for name, value in given_rows.items() if value]
    given = {"length_seconds": rows.window, "step_seconds": rows.step}
    refuse_two_values(preset.overrides or (), {f"windows.{name}": value for name, value in given.items()})
    settings = preset.preparing("features", *kinds)
    for option, seconds in (("--window", rows.window), ("--step", rows.step)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise SettingsError(f"{option} is {seconds:g}; it must be a number of seconds above 0")
    windows = replace(settings.windows, **{name: value for name, value in given.items() if value is not None})
    return replace(settings, windows=windows)
