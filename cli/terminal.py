"""What commands share about the terminal: results to stdout, words and progress to stderr, names made safe."""

from __future__ import annotations

import json
import math
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

_LEAST_DONE = 0.01
_LEAST_SECONDS = 2.0
"""Below these a time that is left would be a guess."""

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from biopercept.data.splits import Fold
    from biopercept.progress import Progress as Steps
    from biopercept.report.text import Table


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
    """Give a progress bar on stderr: drawn on a terminal, silent elsewhere (commands `say` plain lines there).

    Its first line follows the steps that the work itself says are done (:mod:`biopercept.progress`), down to epochs
    with their losses, and how long the rest will take at the pace so far.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from biopercept.progress import listening

    screen = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[part]}", markup=False),
    )
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as bar:
        add_task = bar.add_task
        bar.add_task = lambda *words, **fields: add_task(*words, **{"left": "", "part": "", **fields})  # type: ignore[method-assign]
        follow = _following(bar)
        with listening(follow):
            yield bar


def _following(bar: Progress) -> Callable[[Any], None]:
    """Return what shows the steps of the work on the first line of a bar."""
    begun: dict[str, Any] = {"steps": None, "at": 0.0}

    def follow(done: Steps) -> None:
        if bar.disable or not bar.task_ids or not done.open or done.open[0].total < 1:
            return
        outer, fraction = done.open[0], done.fraction
        if outer is not begun["steps"]:  # other work, with a pace of its own
            begun.update(steps=outer, at=time.monotonic())
            bar.update(bar.tasks[0].id, completed=0)
        seconds = seconds_left(time.monotonic() - begun["at"], done.fraction_before, fraction)
        left = "" if seconds is None else f"about {short_time(seconds)} left"
        line = bar.tasks[0].id
        shown = max(bar.tasks[0].completed, fraction * outer.total)
        bar.update(line, total=outer.total, completed=shown, left=left, part=safe_text(done.words))

    return follow


def seconds_left(elapsed: float, before: float, fraction: float) -> float | None:
    """Return how long the rest takes at the pace so far; None where too little is done to say.

    ``before`` is the fraction that an earlier run had done: it took no time in this one.

    >>> seconds_left(30.0, 0.5, 0.75), seconds_left(30.0, 0.5, 0.505)
    (30.0, None)
    """
    done = fraction - before
    return None if done < _LEAST_DONE or elapsed < _LEAST_SECONDS else elapsed * (1 - fraction) / done


def short_time(seconds: float) -> str:
    """Return a time in the unit that a person would say.

    >>> short_time(8.2), short_time(100), short_time(4000)
    ('9 s', '2 min', '1.1 h')
    """
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


def sparkline(values: Sequence[float]) -> str:
    """Return values as a line of bars from the lowest to the highest; a blank where one is NaN.

    >>> sparkline([0, 1, 2, float("nan"), 7])
    '▁▂▃ █'
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    steps, last = (len(BARS) / (high - low) if high > low else 0.0), len(BARS) - 1
    return "".join(BARS[min(int((v - low) * steps), last)] if math.isfinite(v) else " " for v in values)


@contextmanager
def fold_progress(title: str, *, quiet: bool, verbose: bool) -> Iterator[Callable[..., None]]:
    """Show how many folds are done, on a terminal as a bar and elsewhere line by line; give what is told of each."""
    with progress(quiet=quiet) as bar:
        bar.add_task(title, total=None)

        def show(fold: Fold, was_done: bool, n_folds: int, where: str = "") -> None:
            if bar.disable or verbose:
                aside = f"; set aside for early stopping: {', '.join(fold.validation) or 'nobody'}" if verbose else ""
                aside += f"; labels of {', '.join(fold.fitting)}" if verbose and fold.unlabelled else ""
                state = "was done before" if was_done else "done"
                say(f"{where}fold {fold.name} {state} ({n_folds} in all){aside}", quiet=quiet)

        yield show


@contextmanager
def epoch_progress(
    title: str, n_epochs: int, *, quiet: bool, verbose: bool, what: str = "epochs"
) -> Iterator[Callable[..., None]]:
    """Show how many epochs are done, on a terminal as a bar and elsewhere line by line, each with its losses."""
    with progress(quiet=quiet) as bar:
        bar.add_task(f"{title}: {what}", total=n_epochs)

        def show(epoch: int, loss: float, validation: float | None = None) -> None:
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
                say(f"{recording}: {without_name(failure, recording)}")
            elif bar.disable or verbose:
                say(f"{recording}: {words}", quiet=quiet)
            bar.update(line, total=n_recordings, advance=1)

        yield show


def without_name(failure: str, recording: str) -> str:
    """Return why a recording failed, without the name or path with which the sentence begins.

    >>> without_name("S01.edf: the file is empty", "rec/S01.edf"), without_name("S01.edf: it is empty", "S01 rest")
    ('the file is empty', 'S01.edf: it is empty')
    """
    name = recording.rpartition("/")[2]
    return failure.removeprefix(f"{recording}: ").removeprefix(f"{name}: ")


def print_result(result: Any, page: str | Sequence[str | Table], output: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the warnings of a result, the result as its page or as JSON, and where it was written.

    A page of several parts is sentences and tables, which are set for a terminal.
    """
    for warning in result.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if as_json:
        print_json(result)
    elif isinstance(page, str):
        print_text(page.rstrip("\n"))
    else:
        _print_parts(page)
    say(f"written: {output}", quiet=quiet)


def _print_parts(parts: Sequence[str | Table]) -> None:
    from biopercept.report.text import terminal_table

    screen = console()
    for part in parts:
        screen.print(safe_text(part) if isinstance(part, str) else terminal_table(part))
        screen.print()
