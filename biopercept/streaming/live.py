"""A whole run of ``live``: the model, its source, the tables that are written as it goes, and its summary.

Each line of a table is whole or not there, whatever ends the program. A table that is there is gone on with, where its
columns are the same: the column ``run`` counts, and times begin anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from biopercept.errors import OutputError, SettingsError
from biopercept.files import safe_cell, write_text
from biopercept.inference.prediction import NO_DISTANCE, Predictions, require_this_version
from biopercept.inference.prediction_files import prediction_cell, prediction_sidecar
from biopercept.inference.shift import NONE
from biopercept.loaders.recognition import SignalOverride
from biopercept.prepare.sources import Stated, recording_at
from biopercept.results.live import TABLE, LiveSummary
from biopercept.results.predictions import PredictionSidecar, write_sidecar
from biopercept.results.reading import write_result
from biopercept.streaming.buffers import Stream
from biopercept.streaming.following import Followed, Follower, FollowSettings
from biopercept.streaming.sources import Replay, Source
from biopercept.streaming.window import CONTEXT_SECONDS, WindowPredictor
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import engine_for

_SYNC_EVERY = 30
_LONGEST_LINE = 1 << 20

OnPrediction = Callable[[Followed, Sequence[Stream]], None]


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """What is followed, by which model folder: running streams by name, or one recording that is replayed.

    ``speed`` is of the replay. Streams are looked for during ``wait_seconds``, and samples that are late are waited for
    during ``patience_seconds``. ``context_seconds`` before a window are cleaned with it. ``outlet`` is the name of a
    stream of predictions, empty for none; ``adapt`` past moves the threshold by windows before; ``overrides`` is what
    the user says of channels.
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
    adapt: str = NONE
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
    predictor = WindowPredictor(checkpoint, engine_for(request.device), request.context_seconds, request.adapt)
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


class LiveTable:
    """The table of one task in a folder; opened with the first prediction, whose columns it has."""

    def __init__(self, folder: Path, task: str, model: str) -> None:
        """Keep where it will be; nothing is written yet."""
        self.path = folder / TABLE
        self._task, self._model = task, model
        self._handle: int | None = None
        self._run = 1
        self._begin = 0
        self.n_lines = 0

    def write(self, one: Followed) -> None:
        """Write one prediction. Raises OutputError where it cannot be written; what was written before stays whole."""
        columns = self._columns(one)
        if self._handle is None:
            self._open(tuple(columns), one.predictions)
        cells = [prediction_cell(name, value) for name, value in columns.items()]
        self._append("\t".join([str(self._run), *map(_plain, cells)]) + "\n")
        self.n_lines += 1
        if self.n_lines % _SYNC_EVERY == 0:
            self._sync()

    def close(self) -> None:
        """Have the disk take what was written, and count its lines: ``n_lines`` of this run."""
        if self._handle is not None:
            self._sync()
            with self.path.open("rb") as stream:  # an interruption may come between a line and its being counted
                stream.seek(self._begin)
                self.n_lines = sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))
            os.close(self._handle)
            self._handle = None

    def _columns(self, one: Followed) -> dict[str, Any]:
        columns = {name: values[0] for name, values in one.predictions.columns(self._task).items() if name != "label"}
        return columns | {"missing": " ".join(name.replace(" ", "_") for name in one.missing)}

    def _open(self, names: tuple[str, ...], predictions: Predictions) -> None:
        header = "\t".join(["run", *names]) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file() and self.path.stat().st_size:
                self._run = _go_on(self.path, header)
            else:
                write_text(self.path, header)
            write_sidecar(self.path, _sidecar(predictions, self._task, self._model))
            self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            self._begin = os.fstat(self._handle).st_size
        except OSError as fault:
            raise OutputError(f"cannot write {self.path}: {fault.strerror}; choose another output") from fault

    def _append(self, line: str) -> None:
        assert self._handle is not None
        content, before = line.encode(), os.fstat(self._handle).st_size
        try:
            written = os.write(self._handle, content)
            if written < len(content):
                raise OSError(28, "no room is left")
        except OSError as fault:
            os.ftruncate(self._handle, before)
            raise OutputError(
                f"cannot write {self.path}: {fault.strerror}; the {self.n_lines} lines before are whole; make room "
                "and run it again"
            ) from fault

    def _sync(self) -> None:
        assert self._handle is not None
        try:
            os.fsync(self._handle)
        except OSError as fault:
            raise OutputError(f"cannot write {self.path}: {fault.strerror}; make room and run it again") from fault


def _go_on(path: Path, header: str) -> int:
    """Return the number of the run that begins; a line that was not finished is cut off.

    Raises OutputError where the table has other columns.
    """
    with path.open("rb+") as stream:
        if stream.readline(_LONGEST_LINE).decode("utf-8", "replace") != header:
            fault = OutputError(f"{path} has other columns than this run; choose another output or add --overwrite")
            fault.exit_code = 2
            raise fault
        size = stream.seek(0, os.SEEK_END)
        tail_at = max(0, size - _LONGEST_LINE)
        stream.seek(tail_at)
        tail = stream.read()
        whole = tail[: tail.rindex(b"\n") + 1]
        stream.truncate(tail_at + len(whole))
    last = whole.rstrip(b"\n").rpartition(b"\n")[2].split(b"\t")[0]
    return int(last) + 1 if last.isdigit() else 1


def _plain(value: object) -> str:
    return safe_cell(value).replace("\t", " ").replace("\n", " ").replace("\r", " ")


def _sidecar(predictions: Predictions, task: str, model: str) -> PredictionSidecar:
    sidecar = prediction_sidecar(predictions, predictions.tasks[task], model)
    columns: Mapping[str, str] = {
        "run": "counts how often the command was begun for this table; times begin anew with each",
        **{name: words for name, words in sidecar.columns.items() if name != "label"},
        "missing": "signals of which no sample lies in the window, with blanks between",
    }
    return replace(sidecar, columns=columns)
