"""Predict files and studies into a folder: a table per recording with its sidecar, and a summary of all; by task.

``KEY_predictions.tsv`` has a row per window, ``KEY_trace.tsv`` one per single time, ``summary.csv`` one per recording,
``failures.csv`` one per recording that could not be predicted. A model of several tasks writes a folder for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from biopercept.errors import SettingsError
from biopercept.files import write_table
from biopercept.inference.familiarity import NOT_KNOWN
from biopercept.inference.interchange import Interchange, clear, require_formats
from biopercept.inference.prediction import (
    NO_DISTANCE,
    PLAIN,
    Predictions,
    TaskPredictions,
    Trace,
    Truth,
    Ways,
    predict,
    require_abstention,
    require_this_version,
)
from biopercept.inference.shift import NONE, FloatArray, words_of
from biopercept.loaders.reading_process import end_reading
from biopercept.loaders.recognition import SignalOverride
from biopercept.prepare.recording import OF_A_MODEL, PrepareSettings, prepare_recording
from biopercept.prepare.sources import Failure, Source, outcome_of, sources_of
from biopercept.progress import each
from biopercept.recording import Recording, RecordingLabels
from biopercept.results.predictions import PredictionSidecar, TraceSidecar, write_sidecar
from biopercept.store.prepared import PreparedRecording
from biopercept.studies.labels import labels_of
from biopercept.studies.ratings import without_labels
from biopercept.tasks import Task
from biopercept.training.checkpoint import Checkpoint, load_model
from biopercept.training.engine import Engine, engine_for

_COUNTS = ("windows", "withheld", "modalities_used", "modalities_ignored")
SUMMARY_COLUMNS = ("participant_id", "session", "recording", *_COUNTS)
_FAMILIARITY = ("abstained", "unlike", "outside_range", "fitted_on", "remarks")
SHIFT_COLUMNS = ("adapt", "windows_moved")
"""Columns that follow where thresholds were moved: how, and of how many windows."""
_WRITTEN = (
    "*_predictions.tsv", "*_predictions.json", "*_trace.tsv", "*_trace.json", "summary.csv", "failures.csv",
    "report.html",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """What is predicted, by which model folder: recordings and study folders, of some subjects only or without some.

    ``ways`` are what is predicted beside the plain answers, and how these are changed. Predictions less sure than
    ``abstain_below`` (None: none), and with ``abstain_unlike`` of windows unlike those that the model knows or with a
    signal outside the range known, are withheld. ``overrides`` is what the user says of channels,
    ``also`` names formats of other tools (:mod:`biopercept.inference.interchange`).
    """

    model: Path
    paths: tuple[Path, ...]
    subjects: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    ways: Ways = PLAIN
    abstain_below: float | None = None
    abstain_unlike: bool = False
    device: str = "auto"
    overrides: Mapping[str, SignalOverride] = field(default_factory=dict)
    also: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RecordingDone:
    """How one recording went; ``failure`` says why it could not be predicted and is empty where it was.

    ``remarks`` say what is unlike what the model knows; ``n_abstained`` is over all tasks.
    ``predictions`` None where there are none.
    """

    title: str
    n_recordings: int
    n_windows: int = 0
    notes: tuple[str, ...] = ()
    failure: str = ""
    remarks: tuple[str, ...] = ()
    n_abstained: int = 0
    predictions: Predictions | None = field(default=None, repr=False)


@dataclass(eq=False)
class PredictedFiles:
    """What was written: the folder of each task's files, (recording, message) of each failure.

    ``warnings`` say why no truth could be written beside predictions, what is not known for the model, and how
    thresholds were moved.
    """

    folders: dict[str, Path]
    n_recordings: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


def predict_files(
    request: PredictionRequest, output: Path, *, on_recording: Callable[[RecordingDone], None] = lambda _: None
) -> PredictedFiles:
    """Write predictions of every recording into a folder, and return what was written; one that fails costs one row.

    What an earlier call wrote there is removed once the request is known to make sense.

    Raises CheckpointError where the folder is no model, or is damaged. Raises SettingsError where a subject or the
    device is unknown, the model reads other features than this version makes, or what is wanted needs another model.
    Raises OutputError where a file cannot be written.
    """
    checkpoint = load_model(request.model)
    _require_what_is_wanted(checkpoint, request)
    engine = engine_for(request.device)
    sources = sources_of(request.paths, request.subjects, request.excluded, request.overrides)
    names = [task.name for task in checkpoint.tasks]
    done = PredictedFiles({names[0]: output} if len(names) == 1 else {name: output / name for name in names})
    for folder in {output, *done.folders.values()}:
        for path in [path for pattern in _WRITTEN for path in folder.glob(pattern)]:
            path.unlink()
        clear(folder)
    others = {
        name: Interchange(request.also, folder, name, request.model.resolve().name)
        for name, folder in done.folders.items()
    }
    reader = _Reader(checkpoint, engine, request, sources)
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in names}
    for source in each("recordings", sources):
        predictions = outcome_of(_Reader.predict, reader, source)
        if isinstance(predictions, Failure):
            done.failures.append((source.title, predictions.reason))
            on_recording(RecordingDone(source.title, len(sources), failure=predictions.reason))
            continue
        predictions = predictions.abstaining(request.abstain_below, unlike=request.abstain_unlike)
        for name, folder in done.folders.items():
            write_predictions(predictions, name, folder, request.model.resolve().name)
            others[name].take(predictions, prediction_sidecar(predictions, predictions.tasks[name], "").columns)
            rows[name].append(summary_row(predictions, name))
        on_recording(
            RecordingDone(
                title=source.title,
                n_recordings=len(sources),
                n_windows=len(predictions.onset),
                notes=predictions.notes,
                remarks=tuple(remark for remark in predictions.remarks if remark != NOT_KNOWN),
                n_abstained=sum(of_task.n_abstained for of_task in predictions.tasks.values()),
                predictions=predictions,
            )
        )
    of_model = () if checkpoint.known is not None else (NOT_KNOWN,)
    done.n_recordings = len(sources) - len(done.failures)
    done.warnings = (*filter(None, reader.warnings), *of_model)
    for task in checkpoint.tasks:
        folder = done.folders[task.name]
        columns = summary_columns(task)
        if request.ways.adapt != NONE:
            columns, of_task = (*columns, *SHIFT_COLUMNS), rows[task.name]
            n_moved = sum(row[-1] > 0 for row in of_task)  # type: ignore[operator]
            done.warnings += (words_of(request.ways.adapt, n_moved, len(of_task), "recordings"),)
        write_table(folder / "summary.csv", columns, rows[task.name])
        write_table(folder / "failures.csv", ("recording", "message"), done.failures)
        others[task.name].close()
    return done


def _require_what_is_wanted(checkpoint: Checkpoint, request: PredictionRequest) -> None:
    """Refuse what the model cannot do, before anything is read or removed."""
    require_this_version(checkpoint, request.model.resolve().name)
    require_formats(request.also)
    request.ways.require(checkpoint)
    require_abstention(checkpoint.tasks, request.abstain_below)
    if request.abstain_unlike and checkpoint.known is None:
        raise SettingsError(NO_DISTANCE)
    if request.ways.every_seconds is not None and (request.abstain_unlike or request.abstain_below is not None):
        raise SettingsError(
            "--every cannot be combined with --abstain-below or --abstain-unlike: a prediction at a single time is the "
            "mean of several windows; leave one of them out"
        )


def _truth(source: Source, recording: Recording) -> Truth:
    """Return a recording's labels on its own clock, and the tasks of its study that say what they mean."""
    if source.study is None or source.entry is None:
        return Truth(RecordingLabels(recording.intervals, ratings=recording.ratings))
    labels = labels_of(source.study, source.entry)
    extra = tuple(i for i in recording.intervals if i not in labels.intervals)  # the condition
    labels = replace(labels, intervals=(*labels.intervals, *extra), ratings=recording.ratings)
    return Truth(labels, source.study.name, source.study.tasks)


_LONG_SECONDS = 6 * 3600


class SessionReader:
    """Loads and prepares one recording after the other as a model reads them, and keeps those that are read again."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._settings = PrepareSettings.from_plain_values(checkpoint.prepare)
        self._sessions: dict[tuple[str, str], list[PreparedRecording]] = {}

    def read(
        self, source: Source, following: Source | None = None
    ) -> tuple[Recording, PreparedRecording, tuple[PreparedRecording, ...]]:
        """Return a recording, as loaded and as prepared, and those of its session that were kept before it.

        ``following`` is the one that is read next: it is loaded while this one is worked with, where this is not long.
        """
        recording = without_labels(source.load(), self._checkpoint.tasks)
        before = self._sessions.get((recording.subject, recording.session), [])
        prepared = replace(prepare_recording(recording, self._settings, advice=OF_A_MODEL), place=len(before))
        if prepared.duration_seconds > _LONG_SECONDS:
            end_reading()  # what it keeps of a day would stay there until the next recording
        elif following is not None:
            following.read_ahead()
        return recording, prepared, tuple(before)

    def keep(self, prepared: PreparedRecording) -> None:
        """Keep a recording for those that come after it, where the model's normalisation reaches over a session."""
        if self._checkpoint.normalisation.scope == "session":
            self._sessions.setdefault((prepared.subject, prepared.session), []).append(prepared)


class _Reader:
    """Predicts one recording after the other."""

    def __init__(
        self, checkpoint: Checkpoint, engine: Engine, request: PredictionRequest, sources: Sequence[Source]
    ) -> None:
        self._checkpoint, self._engine, self._request = checkpoint, engine, request
        self._sessions = SessionReader(checkpoint)
        self._following = dict(pairwise(sources))
        self._n_of_session = Counter(_session(source) for source in sources)
        self.warnings: dict[str, None] = {}

    def predict(self, source: Source) -> Predictions:
        recording, prepared, before = self._sessions.read(source, self._following.get(source))
        truth = _truth(source, recording)
        self.warnings.update(dict.fromkeys(truth.lacking(task) for task in self._checkpoint.tasks))
        predictions = predict(
            self._checkpoint,
            prepared,
            self._engine,
            truth=truth,
            before=before if self._n_of_session[_session(source)] > 1 else None,
            ways=self._request.ways,
        )
        self._sessions.keep(prepared)
        return predictions


def _session(source: Source) -> tuple[str, ...]:
    """Return what tells the sessions of recordings apart; each file that is given by itself is one."""
    return (source.key,) if source.entry is None else (source.entry.subject, source.entry.session)


def write_predictions(predictions: Predictions, task: str, folder: Path, model: str) -> Path:
    """Write the table of one task's predictions, and of its trace where there is one; return the first table's path.

    Raises OutputError where they cannot be written.
    """
    of_task, path = predictions.tasks[task], folder / f"{predictions.key}_predictions.tsv"
    write_sidecar(path, prediction_sidecar(predictions, of_task, model))
    columns = predictions.columns(task)
    cells = [[prediction_cell(name, value) for value in values] for name, values in columns.items()]
    write_table(path, tuple(columns), zip(*cells, strict=True), delimiter="\t")
    if of_task.trace is not None:
        _write_trace(of_task, of_task.trace, folder / f"{predictions.key}_trace.tsv", model)
    return path


def prediction_sidecar(predictions: Predictions, of_task: TaskPredictions, model: str) -> PredictionSidecar:
    """Return what stands beside a table of predictions of one task: whose they are, and what the columns are."""
    task, moved = of_task.task, of_task.shift
    meaning = "most probable class" if task.is_classification else f"in the unit of {task.quantity}"
    return PredictionSidecar(
        participant_id=predictions.subject,
        session=predictions.session,
        recording=predictions.recording,
        model=model,
        classes=tuple(task.classes) if task.is_classification else None,
        column=None if task.is_classification else task.quantity,
        modalities_used=tuple(predictions.used),
        modalities_ignored=tuple(predictions.ignored),
        fitted_on=predictions.familiarity.fitted_by,
        remarks=tuple(predictions.remarks),
        notes=tuple(predictions.notes),
        adapt=None if moved is None else predictions.adapt,
        transductive=True if predictions.is_transductive else None,
        columns={
            "onset": "start of the window, seconds from the recording's start",
            "duration": "length of the window, seconds",
            "predicted": f"{meaning}; empty where withheld",
            "quality": "mean signal quality, 0 (useless) to 1",
            "reason": "why no prediction is given; empty where one is",
            "label": "class of the labelled interval the window lies wholly inside, where known"
            if task.is_of_labels
            else f"{_truth_words(of_task)}, over the window",
            **(
                {"prediction_set": "classes that may be true; the prediction is withheld unless it is one"}
                if of_task.sets
                else {}
            ),
            **({} if moved is None else {"shift": f"added to the log odds: {_shift_words(predictions, moved)}"}),
            **_trust_columns(predictions, of_task),
        },
    )


def _shift_words(predictions: Predictions, moved: FloatArray) -> str:
    return words_of(predictions.adapt, int((moved != 0).sum()), len(moved), "windows")


def _trust_columns(predictions: Predictions, of_task: TaskPredictions) -> dict[str, str]:
    """Return what the columns are that say how sure a prediction is, and how like its window is to what is known."""
    columns = {}
    if of_task.confidence is not None:
        columns["confidence"] = (
            "highest of the probabilities; --abstain-below withholds predictions below a value of it"
        )
    if predictions.familiarity.is_known:
        columns |= {
            "distance": "Mahalanobis distance of the scaled features from those that the model knows, the largest of "
            "the sensors; about 1 % of the windows of new people like those that it was trained on are above 1; empty "
            "where no feature is defined",
            "unlike": "1 where the distance is above 1, else 0",
            "outside_range": "1 where a signal's root mean square or standard deviation in the window is outside the "
            "range that the model knows, in the signal's unit, else 0",
        }
    return columns


def _truth_words(of_task: TaskPredictions) -> str:
    task, lag = of_task.task, of_task.lag_seconds
    of_rating = f", stated {lag:g} s later" if lag else ""
    given = f"{task.quantity} as the study gives it" if not task.is_classification else "class that the study gives"
    return f"{given}{of_rating}, where known"


def _write_trace(of_task: TaskPredictions, trace: Trace, path: Path, model: str) -> None:
    task = of_task.task
    columns = {
        "onset": "the time that is predicted, seconds from the recording's start",
        "n_windows": "windows that hold the time, whose predictions were averaged; each reads up to its own end",
        "label": f"{_truth_words(of_task)}, at the time",
    }
    write_sidecar(path, TraceSidecar(model=model, every_seconds=trace.every_seconds, columns=columns))
    names = [f"probability_{name}" for name in task.classes] or ["predicted"]
    rows = [
        (round(float(onset), 6), *map(_number, values), int(n), label if isinstance(label, str) else _number(label))
        for onset, values, n, label in zip(trace.onset, trace.values, trace.n_windows, trace.label, strict=True)
    ]
    write_table(path, ("onset", *names, "n_windows", "label"), rows, delimiter="\t")


def summary_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of ``summary.csv``.

    Counts and sensors, means and fractions of classes, or of numbers, then predictions withheld for want of sureness,
    fractions of windows unlike those known and with signals outside the range known, and what there is to say of both.
    """
    if not task.is_classification:
        return (*SUMMARY_COLUMNS, "mean", "lowest", "highest", *_FAMILIARITY)
    fractions, means = ([f"{word}_{c}" for c in task.classes] for word in ("share", "mean_probability"))
    return (*SUMMARY_COLUMNS, *fractions, *means, *_FAMILIARITY)


def summary_row(predictions: Predictions, task: str) -> tuple[object, ...]:
    """Return a recording's row of ``summary.csv``: see :func:`summary_columns`."""
    of_task = predictions.tasks[task]
    is_given = ~np.array([bool(why) for why in of_task.reason], dtype=bool)
    values, n_given = of_task.values[is_given], int(is_given.sum())
    if not n_given:
        statistics: list[float | None] = [None] * (
            len(summary_columns(of_task.task)) - len(SUMMARY_COLUMNS) - len(_FAMILIARITY)
        )
    elif of_task.task.is_classification:
        names = np.array(of_task.predicted)[is_given]
        fractions = [round(float((names == name).mean()), 4) for name in of_task.task.classes]
        statistics = [*fractions, *(round(float(mean), 4) for mean in values.mean(axis=0))]
    else:
        statistics = [_number(float(value)) for value in (values.mean(), values.min(), values.max())]
    moved, how = of_task.shift, f"{predictions.adapt}{' (TRANSDUCTIVE)' if predictions.is_transductive else ''}"
    return (
        predictions.subject,
        predictions.session,
        predictions.recording,
        len(is_given),
        len(is_given) - n_given,
        " ".join(predictions.used),
        " ".join(predictions.ignored),
        *statistics,
        of_task.n_abstained,
        *_familiarity_cells(predictions),
        *(() if moved is None else (how, int((moved != 0).sum()))),
    )


def _familiarity_cells(predictions: Predictions) -> tuple[object, ...]:
    of_recording = predictions.familiarity
    fractions: list[float | None] = [None, None]
    if of_recording.is_known:
        fractions = [round(float(rows.mean()), 4) for rows in (of_recording.is_unlike, of_recording.is_outside)]
    return (*fractions, of_recording.fitted_by, "; ".join(predictions.remarks))


def prediction_cell(column: str, value: Any) -> object:
    """Return a value of a table of predictions as it is written: probabilities and quality are rounded."""
    if isinstance(value, str):
        return value
    if column in ("onset", "duration"):
        return float(value)
    if column in ("unlike", "outside_range"):
        return int(value)
    if column in ("predicted", "label"):
        return _number(float(value))
    return None if np.isnan(value) else round(float(value), 4 if column == "quality" else 6)


def _number(value: float) -> float | None:
    """Return a number with six digits; None where it is not known."""
    return None if np.isnan(value) else float(f"{value:.6g}")
