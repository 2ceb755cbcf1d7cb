"""Tables of predictions: ``predictions.csv`` of a cross-validation, and the folder that ``predict`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biopercept.errors import StudyError
from biopercept.files import write_json
from biopercept.results.reading import ResultTable, read_document, read_json, read_table
from biopercept.typed_values import omitted, to_plain

PREFIX = "probability_"
SUFFIX = "_predictions.tsv"
_SUM_TOLERANCE = 1e-3
_EMPTY = ("", "n/a")
_NUMBERS = ("predicted", "true")
RecordingKey = tuple[str, str, str]
"""Participant, session, recording."""


def predictions_of(
    table: ResultTable,
    classes: tuple[str, ...] | None = None,
    *,
    needs_labels: bool = False,
    key: RecordingKey | None = None,
) -> Predictions:
    """Return the windows of a table of predictions.

    Its columns are onset, duration, predicted, one ``probability_CLASS`` per class; optionally label and quality; and
    participant_id, session, recording unless ``key`` says whose windows they are. ``classes`` None takes them from the
    columns, in their order; ``needs_labels`` refuses a table without true classes.

    Raises StudyError where a column is missing, a class is not one of ``classes``, or probabilities are not
    probabilities.
    """
    if classes is None:
        classes = tuple(name[len(PREFIX) :] for name in table.columns if name.startswith(PREFIX))
    if not classes:
        raise StudyError(f"{table.path} has no column named {PREFIX}CLASS; run the command that writes it again")
    if key is None:
        sessions = table.texts("session", "")
        keys = tuple(zip(table.texts("participant_id"), sessions, table.texts("recording"), strict=True))
    else:
        keys = (key,) * len(table)
    predicted = _classes_of(table, "predicted", classes, is_required=True)
    return Predictions(
        classes=classes,
        keys=keys,
        onset=_known(table, "onset"),
        duration=_known(table, "duration"),
        label=_classes_of(table, "label", classes, is_required=needs_labels),
        predicted=predicted,
        probabilities=_probabilities(table, classes, predicted),
        quality=table.numbers("quality", optional=True),
    )


def _classes_of(table: ResultTable, column: str, classes: tuple[str, ...], *, is_required: bool) -> tuple[str, ...]:
    cells = table.texts(column, None if is_required else "")
    names = tuple("" if cell in _EMPTY and cell not in classes else cell for cell in cells)
    strangers = sorted(set(names) - set(classes) - {""})
    if strangers:
        raise StudyError(
            f"{table.path} has {strangers[0]!r} in column {column!r}; the classes are: {', '.join(classes)}"
        )
    return names


def _known(table: ResultTable, column: str) -> NDArray[np.float64]:
    values = table.numbers(column)
    if np.isnan(values).any():
        raise StudyError(
            f"{table.path} has no {column} in row {int(np.argmax(np.isnan(values))) + 1}; seconds are needed"
        )
    return values


def _probabilities(table: ResultTable, classes: tuple[str, ...], predicted: tuple[str, ...]) -> NDArray[np.float64]:
    """Return probabilities, shape (n, K); NaN in the rows whose prediction was withheld."""
    columns = np.stack([table.numbers(f"{PREFIX}{name}") for name in classes], axis=1)
    is_given = np.array([bool(name) for name in predicted], dtype=bool)
    with np.errstate(invalid="ignore"):
        is_wrong = ~((columns >= 0).all(axis=1) & (columns <= 1).all(axis=1))
        is_wrong |= ~(np.abs(columns.sum(axis=1) - 1) <= _SUM_TOLERANCE)
    bad = np.flatnonzero(is_wrong & is_given)
    if len(bad):
        raise StudyError(
            f"{table.path} has probabilities in row {int(bad[0]) + 1} that are not between 0 and 1 with sum 1; "
            "run the command that writes it again"
        )
    return np.where(is_given[:, None], columns, np.nan)


def load_predictions(folder: Path, name: str = "") -> PredictionFolder:
    """Return what ``predict`` wrote: a table per recording, the summary and the failures.

    Raises StudyError where ``summary.csv`` or ``failures.csv`` is missing, or a table is damaged.
    """
    recordings, sidecars = [], []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        table, sidecar = read_table(path), _sidecar_of(path)
        sidecars += [] if sidecar is None else [sidecar]
        if any(name.startswith(PREFIX) for name in table.columns) or "predicted" not in table.columns:
            recordings.append(predictions_of(table, key=_key_of(path, sidecar)))  # numbers are read by load_lines
    return PredictionFolder(
        name=name or folder.resolve().name,
        folder=folder,
        recordings=tuple(recordings),
        summary=read_table(folder / "summary.csv"),
        failures=read_table(folder / "failures.csv"),
        sidecars=tuple(sidecars),
    )


def _key_of(path: Path, sidecar: PredictionSidecar | None) -> RecordingKey:
    """Return whose predictions a file holds: from its JSON sidecar, or from its name where there is none."""
    if sidecar is None:
        return (path.name.removesuffix(SUFFIX), "", "")
    return (sidecar.participant_id, sidecar.session, sidecar.recording)


def _sidecar_of(path: Path) -> PredictionSidecar | None:
    sidecar = path.with_suffix(".json")
    return read_document(sidecar, PredictionSidecar, read_json(sidecar), "predict") if sidecar.is_file() else None


@dataclass(frozen=True, kw_only=True)
class PredictionSidecar:
    """The JSON file beside a table of ``predict``: whose it is, how it was made, and what its columns are.

    ``classes`` and ``notes`` are None for a regression, which has a ``column`` of the study, whose unit the numbers
    have. ``fitted_on`` is how it is known that the model was fitted to the person, empty where it is not; ``remarks``
    say what is unlike what the model knows. ``adapt`` says by which windows thresholds were moved,
    None where they were not; ``transductive`` stands where that was all of the recording.
    """

    participant_id: str
    session: str
    recording: str
    model: str = ""
    classes: tuple[str, ...] | None = omitted()
    column: str | None = omitted()
    modalities_used: tuple[str, ...] = ()
    modalities_ignored: tuple[str, ...] = ()
    fitted_on: str = ""
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] | None = omitted()
    adapt: str | None = omitted()
    transductive: bool | None = omitted()
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TraceSidecar:
    """The JSON file beside a table of predictions at single times."""

    model: str
    every_seconds: float
    columns: Mapping[str, str]


def write_sidecar(table: Path, sidecar: PredictionSidecar | TraceSidecar) -> None:
    """Write the sidecar of a table beside it. Raises OutputError where it cannot be written."""
    write_json(table.with_suffix(".json"), to_plain(sidecar))


@dataclass(frozen=True, eq=False)
class Predictions:
    """Windows with what was predicted for them, one entry per window in every field but ``classes``.

    ``onset`` and ``duration`` are seconds on the recording's clock. ``label`` is empty where the true class is not
    known, ``predicted`` where the prediction was withheld. ``probabilities``, (n, n_classes), are NaN where withheld,
    ``quality`` (in [0, 1]) is where it is not known.
    """

    classes: tuple[str, ...]
    keys: tuple[RecordingKey, ...]
    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    label: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: NDArray[np.float64]
    quality: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.keys)

    @property
    def recordings(self) -> tuple[RecordingKey, ...]:
        """Return the recordings, in the order in which they first appear."""
        return tuple(dict.fromkeys(self.keys))

    @property
    def has_labels(self) -> bool:
        """Return whether any window's true class is known."""
        return any(self.label)

    def of_recording(self, key: RecordingKey) -> Predictions:
        """Return the windows of one recording, in time order."""
        rows = np.array([row for row, other in enumerate(self.keys) if other == key], dtype=np.int64)
        rows = rows[np.argsort(self.onset[rows], kind="stable")]
        return replace(
            self,
            keys=tuple(self.keys[row] for row in rows),
            onset=self.onset[rows],
            duration=self.duration[rows],
            label=tuple(self.label[row] for row in rows),
            predicted=tuple(self.predicted[row] for row in rows),
            probabilities=self.probabilities[rows],
            quality=self.quality[rows],
        )


@dataclass(frozen=True, eq=False)
class PredictionFolder:
    """A folder of ``predict``: predictions per recording, a summary and the failures; ``name`` as in a report.

    ``sidecars`` say of each recording what made its predictions, and what to know of them.
    """

    name: str
    folder: Path
    recordings: tuple[Predictions, ...]
    summary: ResultTable
    failures: ResultTable
    sidecars: tuple[PredictionSidecar, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that made the predictions."""
        return tuple(sorted({one.model for one in self.sidecars if one.model}))


@dataclass(frozen=True, eq=False)
class NumberLine:
    """Numbers or probabilities over time of one recording, a line for each of ``names``, from a table of ``predict``.

    ``values`` have shape (n, n_lines), NaN where withheld or unknown. ``is_trace``: at single times, not of windows.
    """

    title: str
    names: tuple[str, ...]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    is_trace: bool


def load_lines(folder: Path, limit: int) -> tuple[NumberLine, ...]:
    """Return the traces of a folder of ``predict``, and its predictions where they are numbers: the first of each.

    Raises StudyError where a table is damaged.
    """
    lines = []
    for path in sorted(folder.glob("*_trace.tsv"))[:limit]:
        table = read_table(path)
        names = tuple(name for name in table.columns if name.startswith(PREFIX))
        columns = names or ("predicted", "label")  # the label beside probabilities is a class
        names = names or _NUMBERS
        values = np.stack([table.numbers(name, optional=name == "label") for name in columns], axis=1)
        lines.append(NumberLine(path.name.removesuffix("_trace.tsv"), names, table.numbers("onset"), values, True))
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:limit]:
        table = read_table(path)
        if not any(name.startswith(PREFIX) for name in table.columns):
            middle = table.numbers("onset") + table.numbers("duration") / 2
            values = np.stack([table.numbers("predicted"), table.numbers("label", optional=True)], axis=1)
            title = path.name.removesuffix(SUFFIX)
            lines.append(NumberLine(title, _NUMBERS, middle, values, False))
    return tuple(lines)
