"""A whole run of ``live``: the model, its source, the tables that are written as it goes, and its summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from biopercept.errors import SettingsError
from biopercept.inference.prediction import NO_DISTANCE, require_this_version
from biopercept.loaders.recognition import SignalOverride
from biopercept.prepare.sources import Stated, recording_at
from biopercept.results.live import LiveSummary
from biopercept.results.reading import write_result
from biopercept.streaming.buffers import Stream
from biopercept.streaming.following import Followed, Follower, FollowSettings
from biopercept.streaming.sources import Replay, Source
from biopercept.streaming.window import CONTEXT_SECONDS, WindowPredictor
from biopercept.streaming.writing import TABLE, LiveTable
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import engine_for

OnPrediction = Callable[[Followed, Sequence[Stream]], None]


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """What is followed, by which model folder: running streams by name, or one recording that is replayed.

    ``speed`` is of the replay. Streams are looked for during ``wait_seconds``, and samples that are late are waited for
    during ``patience_seconds``. ``context_seconds`` before a window are cleaned with it. ``outlet`` is the name of a
    stream of predictions, empty for none; ``overrides`` is what the user says of channels.
    """

    model: Path
    streams: tuple[str, ...] = ()
    replay: Path | None = None
    speed: float = 1.0
    wait_seconds: float = 10.0
    patience_seconds: float = 1.0
    context_seconds: float = CONTEXT_SECONDS
    follow: FollowSettings = field(default_factory=FollowSettings)
    outlet: str = ""
    device: str = "auto"
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse other than one kind of source. Raises SettingsError."""
        if bool(self.streams) == (self.replay is not None):
            raise SettingsError("give --stream NAME for running streams, or --replay FILE for a recording: one of both")
        if not 0 <= self.context_seconds < float("inf"):
            raise SettingsError(f"--context is {self.context_seconds:g}; it must be a number of seconds, 0 or more")


def follow_streams(request: LiveRequest, output: Path, on_prediction: OnPrediction = lambda *_: None) -> LiveSummary:
    """Predict until the source ends, write as it goes, and return what was done; also of a run that is interrupted.

    Raises CheckpointError where the folder is no model. Raises SettingsError where a stream is not there, or nothing of
    it can be read by the model. Raises RecordingError where the recording cannot be read. Raises OutputError where a
    file cannot be written; KeyboardInterrupt goes through, with all that was predicted written.
    """
    checkpoint, name = load_model(request.model), request.model.resolve().name
    require_this_version(checkpoint, name)
    request.follow.require(checkpoint)
    if request.follow.abstain_unlike and checkpoint.known is None:
        raise SettingsError(NO_DISTANCE)
    predictor = WindowPredictor(checkpoint, engine_for(request.device), request.context_seconds)
    predictor.rehearse()
    paths = table_paths(output, [task.name for task in checkpoint.tasks])
    tables = [LiveTable(path.parent, task, name) for task, path in paths.items()]
    with closing(_source(request, predictor)) as source:
        takers = [*(table.write for table in tables), *_outlets(request, checkpoint)]
        follower = Follower(checkpoint, predictor, source, request.follow)

        def take(one: Followed) -> None:
            for taker in takers:
                taker(one)

        try:
            with closing(follower.each(take)) as predictions:
                for one in predictions:
                    on_prediction(one, source.streams)
        finally:
            for table in tables:
                table.close()
            summary = follower.tally.summary(name, follower.seconds)
            summary = replace(summary, predictions=min(table.n_lines for table in tables))
            if summary.predictions:
                write_result(output / LiveSummary.FILE, summary)
    return summary


def table_paths(output: Path, checkpoint_tasks: Sequence[str]) -> dict[str, Path]:
    """Return the path of the table of each task: in the folder itself where there is one task."""
    if len(checkpoint_tasks) == 1:
        return {checkpoint_tasks[0]: output / TABLE}
    return {name: output / name / TABLE for name in checkpoint_tasks}


def _source(request: LiveRequest, predictor: WindowPredictor) -> Source:
    if request.replay is None:
        from biopercept.streaming.lsl import LslSource

        waits = (request.wait_seconds, request.patience_seconds)
        return LslSource(request.streams, predictor.kept_seconds, waits, request.overrides)
    stated = Stated(request.overrides) if request.overrides else None
    recording = recording_at(request.replay, request.follow.recording, stated)
    return Replay(recording, request.speed, predictor.kept_seconds)


def _outlets(request: LiveRequest, checkpoint: Checkpoint) -> list[Callable[[Followed], None]]:
    """Return what gives predictions out as a stream; nothing where none is wanted."""
    if not request.outlet:
        return []
    from biopercept.streaming.lsl import PredictionOutlet

    return [PredictionOutlet(request.outlet, checkpoint).give]
