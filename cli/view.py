"""``view``: signals, labels, quality, beats and predictions of recordings in a window, or as pages for any browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biopercept.errors import SettingsError

from . import options
from .terminal import print_json, print_text, progress, say, without_name

if TYPE_CHECKING:
    from biopercept.viewing.files import Meant, Viewed


@dataclass(frozen=True)
class Viewing(options.People):
    """What is looked at, and what lies underneath."""

    recording: options.RecordingName = None
    predictions: Annotated[
        Path | None,
        options.data_option(
            "--predictions", metavar="DIR", help="What predict or cross-validate wrote, drawn underneath."
        ),
    ] = None


@dataclass(frozen=True)
class ViewRun(options.Run):
    """Where pages go and how the command runs."""

    html: options.Pages = None
    jobs: options.Jobs = 1


def view(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Recordings, a study folder, or a store.")],
    what: Viewing = Viewing(),
    run: ViewRun = ViewRun(),
) -> None:
    """Look at a recording: all signals on one time axis, with labels, quality, beats and predictions.

    Opens a window (pip install 'biopercept[desktop]'), in which recordings are corrected by hand as 'correct' does it.
    With --html it writes a page per recording instead, which opens offline in any browser, at most 10 MB: zoom, move,
    measure. Exit code 1 where a recording could not be read: it is named.

    Example: biopercept view S01.edf --html S01.html
    """
    from biopercept.viewing.files import Meant, ViewRequest, view

    meant = Meant(path, what.predictions, what.chosen, what.excluded, what.recording)
    if run.html is None:
        _open_window(meant, run)
        return
    request = ViewRequest(meant, run.html, run.overwrite, run.jobs)
    with progress(quiet=run.quiet) as bar:
        line = bar.add_task("pages: recordings", total=None)

        def show(done: Viewed, n_recordings: int) -> None:
            if done.failure:
                say(f"{done.title}: {without_name(done.failure, done.title)}")
            elif bar.disable:
                say(f"{done.title}: {done.size / 1e6:.1f} MB", quiet=run.quiet)
            if done.note:
                say(f"warning: {done.note}", quiet=run.quiet)
            bar.update(line, total=n_recordings, advance=1)

        outcomes = view(request, on_recording=show)
    pages = [str(one.page) for one in outcomes if one.page is not None]
    n_failed = len(outcomes) - len(pages)
    if run.as_json:
        print_json({"pages": pages, "n_failed": n_failed})
    else:
        for page in pages:
            print_text(page)
    if n_failed:
        raise typer.Exit(1)


def _open_window(meant: Meant, run: ViewRun) -> None:
    """Open the window; what is said of pages is refused."""
    from biopercept.desktop.opening import open_window

    of_pages = {"--overwrite": run.overwrite, "--jobs": run.jobs != 1, "--json": run.as_json}
    if given := [name for name, is_given in of_pages.items() if is_given]:
        raise SettingsError(f"{', '.join(given)}: of pages, and not of the window; add --html FILE for a page")
    open_window(meant)
