"""``live``: a model on running streams, or on a recording that is replayed: a prediction a second, as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .claims import claim
from .dashboard import dashboard
from .terminal import print_json, say

if TYPE_CHECKING:
    from biopercept.streaming.live import LiveRequest


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
        device=run.device,
        overrides=channels.overrides,
    )
