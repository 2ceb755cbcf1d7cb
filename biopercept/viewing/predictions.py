"""Predictions of one recording beside its signals: what ``predict`` wrote, or what a cross-validation left of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.recording import FloatArray
from biopercept.results.predictions import (
    PREFIX,
    SUFFIX,
    PredictionSidecar,
    RecordingKey,
    predictions_of,
)
from biopercept.results.reading import ResultTable, read_document, read_json, read_table

OF_FOLDS = "predictions.csv"
_TRACE = "_trace.tsv"
_NOT_LINES = ("onset", "n_windows", "label")


@dataclass(frozen=True, eq=False)
class PredictionTrack:
    """What one model said of a recording for one task, in time order: a window per row.

    ``values``, (n, n_lines), are the probabilities of ``classes``, or the number that is predicted and ``classes`` is
    empty; NaN where withheld, and then ``reason`` says why, where that is known. ``predicted`` and ``label`` are
    classes, empty where withheld or unknown; of numbers ``truth`` is what they are compared with. ``sets`` are the
    classes that may be true, where the model gives such sets; ``is_unlike``: the window is unlike what the model knows,
    where it says so. ``trace_seconds`` and ``trace_values``, (n, n_lines), are
    predictions at single times.
    """

    title: str
    classes: tuple[str, ...]
    column: str
    onset: FloatArray
    duration: FloatArray
    values: FloatArray
    predicted: tuple[str, ...]
    label: tuple[str, ...]
    truth: FloatArray
    reason: tuple[str, ...]
    sets: tuple[str, ...]
    is_unlike: NDArray[np.bool_]
    trace_seconds: FloatArray
    trace_values: FloatArray


class PredictionSource:
    """The predictions that lie in a folder, in folders of it by task, or in the table of a cross-validation.

    Raises StudyError where there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[RecordingKey, list[Path]] = {}
        places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []
        for path in (path for place in places for path in sorted(place.glob(f"*{SUFFIX}"))):
            self._tables.setdefault(_key_of(path), []).append(path)
        self._folds = [place / OF_FOLDS for place in places if (place / OF_FOLDS).is_file()]
        self._of_folds = [read_table(path) for path in self._folds]
        if not self._tables and not self._folds:
            raise StudyError(
                f"{folder} holds no predictions; give a folder that 'predict' wrote (*{SUFFIX}) or that "
                f"'cross-validate' wrote ({OF_FOLDS})"
            )

    def keys(self) -> tuple[RecordingKey, ...]:
        """Return the recordings that something is predicted of: participant, session, recording."""
        of_folds = (key for table in self._of_folds for key in _keys(table))
        return tuple(dict.fromkeys((*self._tables, *of_folds)))

    def of(self, key: RecordingKey) -> tuple[PredictionTrack, ...]:
        """Return the tracks of a recording; none where nothing is predicted of it.

        Raises StudyError where a table is damaged.
        """
        tracks = [_track_of_file(path, key) for path in self._tables.get(key, ())]
        for table in self._of_folds:
            rows = [row for row, other in zip(table.rows, _keys(table), strict=True) if other == key]
            if rows:
                part = ResultTable(table.path, table.columns, tuple(rows))
                name = f"{table.path.parent.resolve().name} (held-out folds)"
                tracks.append(_track(part, key, name, ""))
        return tuple(tracks)


def _keys(table: ResultTable) -> Iterator[RecordingKey]:
    return zip(table.texts("participant_id"), table.texts("session", ""), table.texts("recording"), strict=True)


def _sidecar(path: Path) -> PredictionSidecar | None:
    sidecar = path.with_suffix(".json")
    return read_document(sidecar, PredictionSidecar, read_json(sidecar), "predict") if sidecar.is_file() else None


def _key_of(path: Path) -> RecordingKey:
    named = _sidecar(path)
    if named is None:
        return (path.name.removesuffix(SUFFIX), "", "")
    return (named.participant_id, named.session, named.recording)


def _track_of_file(path: Path, key: RecordingKey) -> PredictionTrack:
    named = _sidecar(path)
    model = (named.model if named else "") or path.parent.resolve().name
    trace = path.with_name(path.name.removesuffix(SUFFIX) + _TRACE)
    return _track(read_table(path), key, model, (named.column or "") if named else "", trace)


def _track(
    table: ResultTable, key: RecordingKey, title: str, column: str, trace: Path | None = None
) -> PredictionTrack:
    classes = tuple(name[len(PREFIX) :] for name in table.columns if name.startswith(PREFIX))
    order = np.argsort(table.numbers("onset"), kind="stable")
    table = ResultTable(table.path, table.columns, tuple(table.rows[row] for row in order))
    n = len(table)
    onset, duration = table.numbers("onset"), table.numbers("duration")
    predicted, label, truth = ("",) * n, ("",) * n, np.full(n, np.nan)
    if classes:
        windows = predictions_of(table, classes, key=key)
        values, predicted, label = windows.probabilities, windows.predicted, windows.label
    else:
        values, truth = table.numbers("predicted")[:, None], table.numbers("label", optional=True)
    if np.isnan(onset).any() or np.isnan(duration).any():
        raise StudyError(f"{table.path} has a window without onset or duration; run the command that wrote it again")
    seconds, traced = _traced(trace, values.shape[1])
    is_unlike = (table.numbers("unlike", optional=True) > 0) | (table.numbers("outside_range", optional=True) > 0)
    return PredictionTrack(
        title, classes, column, onset, duration, values, predicted, label, truth,
        table.texts("reason", ""), table.texts("prediction_set", ""), is_unlike, seconds, traced,
    )  # fmt: skip


def _traced(path: Path | None, n_lines: int) -> tuple[FloatArray, NDArray[np.float64]]:
    if path is None or not path.is_file():
        return np.zeros(0), np.zeros((0, n_lines))
    table = read_table(path)
    names = [name for name in table.columns if name not in _NOT_LINES]
    if len(names) != n_lines:
        raise StudyError(f"{path} has {len(names)} columns of predictions and its windows {n_lines}; predict again")
    return table.numbers("onset"), np.stack([table.numbers(name) for name in names], axis=1)
