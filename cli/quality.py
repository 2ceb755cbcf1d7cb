"""``quality``: how good the signals of recordings or a study are, by channel and second, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .claims import claim, nothing_done
from .terminal import print_json, progress, say, without_name

if TYPE_CHECKING:
    from biopercept.measures.quality import Rated


@dataclass(frozen=True)
class QualityRun(options.Run):
    """How the command runs."""

    jobs: options.Jobs = 1


def quality(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or study folders.")],
    output: options.Output,
    data: options.PeopleAndChannels = options.PeopleAndChannels(),
    preset: options.Preset = options.Preset(),
    run: QualityRun = QualityRun(),
) -> None:
    """Write what is spoilt in each channel and why, as tables, a page to look at, and a dictionary of columns.

    quality.csv has a row per spoilt stretch, sensors.csv one per recording and sensor, quality.html shows both. Exit
    code 1 where a recording could not be read: it is named.

    Example: biopercept quality my-study -o quality
    """
    from biopercept.files import write_text
    from biopercept.measures.quality import QualityRequest, write_quality
    from biopercept.preprocessing.derived import DEVICE_DISAGREES
    from biopercept.report.recording_quality import quality_page

    claim(output, overwrite=run.overwrite, inputs=paths)
    cleaning = preset.preparing("quality").cleaning
    request = QualityRequest(tuple(paths), cleaning, data.chosen, data.excluded, run.jobs, data.overrides)
    with progress(quiet=run.quiet) as bar:
        line = bar.add_task("rating: recordings", total=None)

        def show(done: Rated, n_recordings: int) -> None:
            if done.quality is None:
                say(f"{done.source.title}: {without_name(done.failure, done.source.title)}")
            for note in done.quality.notes if done.quality is not None else ():
                if DEVICE_DISAGREES in note:
                    say(f"{done.source.title}: {note}", quiet=run.quiet)
            bar.update(line, total=n_recordings, advance=1)

        outcomes = write_quality(request, output, on_recording=show)
    failures = [(one.source.title, one.failure) for one in outcomes if one.quality is None]
    recordings = [one.quality for one in outcomes if one.quality is not None]
    if not recordings:
        nothing_done(quiet=run.quiet)
    page = output / "quality.html"
    write_text(page, quality_page(", ".join(path.resolve().name for path in paths), recordings, failures))
    if run.as_json:
        print_json(
            {"page": str(page) if recordings else None, "n_recordings": len(recordings), "n_failed": len(failures)}
        )
    elif recordings:
        typer.echo(str(page))
    if failures:
        raise typer.Exit(1)
