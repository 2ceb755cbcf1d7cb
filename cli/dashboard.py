"""What ``live`` shows while it runs: on a terminal a panel, elsewhere a line for each prediction."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .terminal import safe_text, say, sparkline

if TYPE_CHECKING:
    from biopercept.inference.prediction import Predictions, TaskPredictions
    from biopercept.streaming.buffers import Stream
    from biopercept.streaming.following import Followed

_SHOWN = 60
_BAR = 30


class Dashboard:
    """Shows predictions as they come; ``n_shown`` counts them."""

    def __init__(self, model: str, panel: Any, *, quiet: bool) -> None:
        """Keep where it is drawn: ``panel`` is None where there is no terminal."""
        self.n_shown = 0
        self._model, self._panel, self._quiet = model, panel, quiet
        self._last: dict[str, deque[float]] = {}

    def show(self, one: Followed, streams: Sequence[Stream]) -> None:
        """Show one prediction, and how the streams are."""
        if not self.n_shown:
            for words in (*one.predictions.remarks, *one.predictions.notes):
                say(words, quiet=self._quiet)
        self.n_shown += 1
        if self._quiet:
            return
        if self._panel is None:
            say(f"{one.end:.1f} s: {_words(one.predictions)}{_missing(one)}")
            return
        for name, task in one.predictions.tasks.items():
            value = float(task.values[0, -1])
            self._last.setdefault(name, deque(maxlen=_SHOWN)).append(value)
        self._panel.update(self._table(one, streams), refresh=True)

    def close(self) -> None:
        """Stop drawing; what was drawn last stays."""
        if self._panel is not None:
            self._panel.stop()

    def _table(self, one: Followed, streams: Sequence[Stream]) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        of_tasks = Table(title=safe_text(f"{self._model}: {one.end:.0f} s"), title_justify="left")
        for heading in ("task", "predicted", "", "quality", f"last {_SHOWN}"):
            of_tasks.add_column(heading)
        for name, task in one.predictions.tasks.items():
            cells = (
                name,
                _predicted(task),
                _bar(task),
                f"{one.predictions.quality[0]:.2f}",
                sparkline(self._last[name]),
            )
            of_tasks.add_row(*(Text(safe_text(cell)) for cell in cells))
        of_streams = Table(title="streams", title_justify="left")
        for heading in ("name", "signals", "last sample", "state"):
            of_streams.add_column(heading)
        for stream in streams:
            age = one.end - stream.buffer.end_seconds
            names = " ".join(signal.name for signal in stream.signals)
            is_missing = all(signal.name in one.missing for signal in stream.signals)
            state = "missing" if is_missing else "there" if stream.is_there else "lost"
            cells = (stream.name, names, f"{max(age, 0):.1f} s ago" if math.isfinite(age) else "none", state)
            of_streams.add_row(*(Text(safe_text(cell)) for cell in cells))
        return Group(of_tasks, of_streams, Text(f"latency {1000 * one.latency_seconds:.0f} ms; Ctrl-C ends the run"))


def _words(predictions: Predictions) -> str:
    parts = [
        f"{f'{name} ' if len(predictions.tasks) > 1 else ''}{_predicted(task)}"
        for name, task in predictions.tasks.items()
    ]
    quality = float(predictions.quality[0])
    return ", ".join([*parts, *([] if math.isnan(quality) else [f"quality {quality:.2f}"])])


def _predicted(task: TaskPredictions) -> str:
    """Return what is predicted, and how sure it is; why it is withheld where it is."""
    if task.reason[0]:
        return f"withheld ({task.reason[0]})"
    predicted = task.predicted[0]
    if task.confidence is None:
        return f"{float(predicted):.3g}"
    among = f" of {{{task.sets[0]}}}" if task.sets else ""
    return f"{predicted} {task.confidence[0]:.2f}{among}"


def _bar(task: TaskPredictions) -> str:
    """Return the probability of the last class as a bar."""
    value = float(task.values[0, -1])
    if task.confidence is None or math.isnan(value):
        return ""
    n = round(value * _BAR)
    return "\u2588" * n + "\u00b7" * (_BAR - n)


def _missing(one: Followed) -> str:
    return f"; missing: {', '.join(one.missing)}" if one.missing else ""


@contextmanager
def dashboard(model: str, *, quiet: bool) -> Iterator[Dashboard]:
    """Give what shows predictions on stderr while the block runs."""
    from rich.console import Console
    from rich.live import Live

    screen = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if quiet or not screen.is_terminal:
        yield Dashboard(model, None, quiet=quiet)
        return
    with Live(console=screen, auto_refresh=False) as panel:
        yield Dashboard(model, panel, quiet=False)
