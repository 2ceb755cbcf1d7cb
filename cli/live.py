"""``live``: a model on running streams, or on a recording that is replayed: a prediction a second, shown as it goes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .claims import claim
from .terminal import print_json, safe_text, say, sparkline

if TYPE_CHECKING:
    from biopercept.inference.prediction import Predictions, TaskPredictions
    from biopercept.streaming.buffers import Stream
    from biopercept.streaming.following import Followed
    from biopercept.streaming.live import LiveRequest

_SHOWN = 60
_BAR = 30


@dataclass(frozen=True)
class Streams:
    """What is followed: streams by name, or a recording that is given out again."""

    stream: Annotated[
        list[str] | None,
        options.data_option("--stream", metavar="NAME", help="A stream of the Lab Streaming Layer; may be repeated."),
    ] = None
    replay: Annotated[
        Path | None, options.data_option("--replay", metavar="FILE", help="A recording, given out as if it came now.")
    ] = None
    speed: Annotated[
        float | None,
        options.data_option("--speed", metavar="X", help="Of --replay: times as fast; inf: as fast as it goes."),
    ] = None
    wait: Annotated[
        float | None,
        options.data_option("--wait", metavar="SECONDS", help="Of --stream: how long streams are looked for (10)."),
    ] = None
    patience: Annotated[
        float | None,
        options.data_option("--patience", metavar="SECONDS", help="Of --stream: how long late samples have (1)."),
    ] = None

    def refuse_of_the_other(self) -> None:
        """Refuse options of the kind of source that is not given. Raises SettingsError."""
        from biopercept.errors import SettingsError
        from biopercept.studies.loading import is_study

        if self.replay is not None and is_study(self.replay):
            raise SettingsError(f"--replay {self.replay} is a study; give the file of one of its recordings")
        of_replay, of_stream = {"--speed": self.speed}, {"--wait": self.wait, "--patience": self.patience}
        for source, values in (("--replay", of_replay), ("--stream", of_stream)):
            is_given = self.replay is not None if source == "--replay" else bool(self.stream)
            for name, value in values.items():
                if value is not None and not is_given:
                    raise SettingsError(f"{name} is of {source}, which is not given; leave it out")


@dataclass(frozen=True)
class Following:
    """When a model predicts, which predictions are withheld, and where else they go."""

    every: Annotated[
        float, options.model_option("--every", metavar="SECONDS", help="Time from one prediction to the next.")
    ] = 1.0
    seconds: Annotated[
        float | None, options.model_option("--seconds", metavar="N", help="End after so many seconds of the streams.")
    ] = None
    context: Annotated[
        float, options.model_option("--context", metavar="SECONDS", help="Time before a window, cleaned with it.")
    ] = 60.0
    adapt: options.Adapt = "none"
    abstain_below: options.AbstainBelow = None
    abstain_unlike: options.AbstainUnlike = False
    outlet: Annotated[
        str | None,
        options.run_option("--outlet", metavar="NAME", help="Also give predictions out as a stream of this name."),
    ] = None


def live(
    model: options.SavedModel,
    output: options.Output,
    streams: Streams = Streams(),
    following: Following = Following(),
    channels: options.Channels = options.Channels(),
    run: options.ModelRun = options.ModelRun(),
) -> None:
    """Predict every second from running streams, or from a recording that is given out as if it came now.

    Example: biopercept live stress-wrist --replay S31_E4.zip --speed 20 -o live
    """
    from biopercept.results.live import LiveSummary
    from biopercept.results.reading import read_result
    from biopercept.streaming.live import follow_streams

    if streams.replay is not None:
        options.refuse_swapped("live", model, [streams.replay])
    streams.refuse_of_the_other()
    request = _request(model, streams, following, channels, run)
    claim(output, overwrite=run.overwrite, inputs=[] if streams.replay is None else [streams.replay])
    if run.overwrite:
        for path in [*output.glob("**/live_predictions.*"), *output.glob(LiveSummary.FILE)]:
            path.unlink()
    with dashboard(model.resolve().name, quiet=run.quiet or run.as_json) as screen:
        try:
            summary = follow_streams(request, output, screen.show)
        except KeyboardInterrupt:
            screen.close()
            if (done := output / LiveSummary.FILE).is_file():
                n = read_result(done, LiveSummary).predictions
                say(f"{n} predictions are written in {output}; the same command adds to them")
            raise
    if run.as_json:
        print_json(summary)
        return
    if not summary.predictions:
        say("the streams ended before the first window was full, so nothing was predicted", quiet=run.quiet)
        raise typer.Exit(1)
    latency = ", ".join(f"{name} {value:g}" for name, value in summary.latency_ms.items())
    say(
        f"{summary.predictions} predictions in {summary.seconds:g} s of the streams, {summary.withheld} withheld, "
        f"{summary.left_out} left out; latency in ms: {latency}",
        quiet=run.quiet,
    )
    for path in sorted(output.glob("**/live_predictions.tsv")):
        typer.echo(str(path))


def _request(
    model: Path, streams: Streams, following: Following, channels: options.Channels, run: options.ModelRun
) -> LiveRequest:
    from biopercept.streaming.following import FollowSettings
    from biopercept.streaming.live import LiveRequest

    name = "live" if streams.replay is None else streams.replay.resolve().name.split(".")[0]
    return LiveRequest(
        model=model,
        streams=tuple(streams.stream or ()),
        replay=streams.replay,
        speed=1.0 if streams.speed is None else streams.speed,
        wait_seconds=10.0 if streams.wait is None else streams.wait,
        patience_seconds=1.0 if streams.patience is None else streams.patience,
        context_seconds=following.context,
        follow=FollowSettings(
            every_seconds=following.every,
            most_seconds=following.seconds,
            abstain_below=following.abstain_below,
            abstain_unlike=following.abstain_unlike,
            subject=name,
            recording=name,
        ),
        outlet=following.outlet or "",
        adapt=following.adapt,
        device=run.device,
        overrides=channels.overrides,
    )


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
            row = (stream.name, names, f"{max(age, 0):.1f} s ago" if math.isfinite(age) else "none", state)
            of_streams.add_row(*(Text(safe_text(cell)) for cell in row))
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
