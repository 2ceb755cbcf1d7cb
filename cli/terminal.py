"""What commands share about the terminal: results to stdout, words and progress to stderr, names made safe."""

from __future__ import annotations

import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from biopercept.data.splits import Fold


def safe_text(text: object) -> str:
    """Return text from a file without control characters or direction marks, so that a terminal shows it as it is."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in str(text))


def say(message: str, *, quiet: bool = False) -> None:
    """Print one plain line to stderr."""
    if not quiet:
        print(safe_text(message), file=sys.stderr, flush=True)  # noqa: T201


def print_text(line: str) -> None:
    """Print one plain line of a result to stdout."""
    print(line)  # noqa: T201


def print_json(document: Any) -> None:
    """Print one JSON document to stdout: plain values, or a result as its file holds it."""
    if hasattr(document, "FILE"):
        from biopercept.results.reading import document_of

        document = document_of(document)
    print(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))  # noqa: T201


def console() -> Console:
    """Return a console for results on stdout that reads no markup from data."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, soft_wrap=False)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Give a progress bar on stderr: drawn on a terminal, silent elsewhere (commands `say` plain lines there)."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    screen = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as bar:
        yield bar


@contextmanager
def fold_progress(title: str, *, quiet: bool, verbose: bool) -> Iterator[Callable[..., None]]:
    """Show how many folds are done, on a terminal as a bar and elsewhere line by line; give what is told of each."""
    with progress(quiet=quiet) as bar:
        line = bar.add_task(title, total=None)

        def show(fold: Fold, was_done: bool, n_folds: int, where: str = "", n_rounds: int = 1) -> None:
            bar.update(line, total=n_folds * n_rounds, advance=1)
            if bar.disable or verbose:
                aside = f"; set aside for early stopping: {', '.join(fold.validation) or 'nobody'}" if verbose else ""
                aside += f"; labels of {', '.join(fold.fitting)}" if verbose and fold.unlabelled else ""
                state = "was done before" if was_done else "done"
                say(f"{where}fold {fold.name} {state} ({n_folds} in all){aside}", quiet=quiet)

        yield show


@contextmanager
def epoch_progress(title: str, n_epochs: int, *, quiet: bool, verbose: bool) -> Iterator[Callable[..., None]]:
    """Show how many epochs are done, on a terminal as a bar and elsewhere line by line, each with its losses."""
    with progress(quiet=quiet) as bar:
        line = bar.add_task(f"{title}: epochs", total=n_epochs)

        def show(epoch: int, loss: float, validation: float | None = None) -> None:
            bar.update(line, advance=1)
            if bar.disable or verbose:
                losses = f"loss {loss:.4f}"
                if validation is not None and not math.isnan(validation):  # NaN: nobody was set aside
                    losses = f"training loss {loss:.4f}, validation loss {validation:.4f}"
                say(f"epoch {epoch}: {losses}", quiet=quiet)

        yield show


@contextmanager
def recording_progress(title: str, *, quiet: bool, verbose: bool) -> Iterator[Callable[..., None]]:
    """Show how many recordings are done, on a terminal as a bar and elsewhere line by line; a failure always."""
    with progress(quiet=quiet) as bar:
        line = bar.add_task(f"{title}: recordings", total=None)

        def show(recording: str, n_recordings: int, words: str, failure: str = "") -> None:
            if failure:
                say(f"{recording}: {failure}")
            elif bar.disable or verbose:
                say(f"{recording}: {words}", quiet=quiet)
            bar.update(line, total=n_recordings, advance=1)

        yield show


def print_result(result: Any, page: str, output: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the warnings of a result, the result as its page or as JSON, and where it was written."""
    for warning in result.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json(result)
    else:
        print_text(page.rstrip("\n"))
    say(f"written: {output}", quiet=quiet)
