"""Predictions in the formats of other tools: BIDS derivatives, EDF+ and mne annotations, one tidy table for statistics.

They lie beside the tables that ``predict`` always writes, and hold the same numbers:

* ``bids``: a derivative data set in ``bids/``, a table of events for each recording with a ``desc-`` entity;
* ``edf``: ``KEY_annotations.edf``, EDF+ of annotations alone, for viewers of EDF; none where nothing is predicted;
* ``mne``: ``KEY-annot.fif``, for ``mne.read_annotations``;
* ``csv``, ``parquet``: ``tidy.csv`` and ``tidy.parquet``, of all recordings one row per window and class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from biopercept.derivatives import BIDS, Derivatives, clear_derivatives, plain_cell_of
from biopercept.errors import SettingsError, the_model
from biopercept.files import temporary_prefix, write_bytes, write_table
from biopercept.inference.prediction import Predictions
from biopercept.typed_values import did_you_mean

EDF, MNE, CSV, PARQUET = "edf", "mne", "csv", "parquet"
FORMATS = (BIDS, EDF, MNE, CSV, PARQUET)
TIDY_COLUMNS = (
    "participant_id",
    "session",
    "recording",
    "onset",
    "duration",
    "predicted",
    "label",
    "quality",
    "reason",
)
_WRITTEN = ("*_annotations.edf", "*-annot.fif", "tidy.csv", "tidy.parquet")


def require_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not known, or whose library is not there. Raises SettingsError."""
    for one in formats:
        if one not in FORMATS:
            raise SettingsError(f"--also names {one!r}; allowed are {', '.join(FORMATS)}{did_you_mean(one, FORMATS)}")
    for one, library, extra in ((EDF, "edfio", "edf"), (PARQUET, "pyarrow", "parquet")):
        if one in formats and find_spec(library) is None:
            raise SettingsError(f"--also {one} needs {library}: pip install 'biopercept[{extra}]'")


def clear(folder: Path) -> None:
    """Remove what an earlier call wrote in these formats."""
    for path in [path for pattern in _WRITTEN for path in folder.glob(pattern)]:
        path.unlink()
    clear_derivatives(folder)


@dataclass(eq=False)
class Interchange:
    """Writes the predictions of one task in other formats, a recording at a time; :meth:`close` writes what is of all.

    ``model`` is the model's name. Of a recording no more is kept than its rows of the tidy table.
    """

    formats: tuple[str, ...]
    folder: Path
    task: str
    model: str
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _columns: tuple[str, ...] = ()

    def take(self, predictions: Predictions, words: Mapping[str, str]) -> None:
        """Write a recording; ``words`` say what the columns of its table are.

        Raises SettingsError where two recordings have one name in BIDS. Raises OutputError where it cannot be written.
        """
        if BIDS in self.formats:
            self._bids(predictions, words)
        if EDF in self.formats:
            self._edf(predictions)
        if MNE in self.formats:
            self._mne(predictions)
        if CSV in self.formats or PARQUET in self.formats:
            self._columns, rows = tidy_rows(predictions, self.task)
            self._rows += rows

    def close(self) -> None:
        """Write what is of all recordings. Raises OutputError where it cannot be written."""
        if BIDS in self.formats:
            self._derivatives.describe()
        if CSV in self.formats:
            write_table(self.folder / "tidy.csv", self._columns, self._rows)
        if PARQUET in self.formats:
            write_bytes(self.folder / "tidy.parquet", _parquet(self._columns, self._rows))

    def _annotations(self, predictions: Predictions) -> list[tuple[float, float, str]]:
        """Return onset and duration (s) of each window whose prediction is given, and the class or number as text."""
        of_task = predictions.tasks[self.task]
        texts = (
            of_task.predicted if of_task.task.is_classification else [f"{value:.6g}" for value in of_task.values[:, 0]]
        )
        given = zip(predictions.onset, texts, of_task.reason, strict=True)
        length = predictions.length_seconds
        return [(float(onset), length, f"{self.task}: {text}") for onset, text, why in given if not why]

    def _edf(self, predictions: Predictions) -> None:
        import io

        import edfio

        marks = [edfio.EdfAnnotation(onset, duration, text) for onset, duration, text in self._annotations(predictions)]
        if not marks:  # a file without signals needs one
            return
        content = io.BytesIO()
        edfio.Edf([], annotations=marks).write(content)
        write_bytes(self.folder / f"{predictions.key}_annotations.edf", content.getvalue())

    def _mne(self, predictions: Predictions) -> None:
        import tempfile

        import mne

        marks = self._annotations(predictions)
        onset, duration, text = ([mark[part] for mark in marks] for part in range(3))
        with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
            path = Path(folder) / "predictions-annot.fif"
            mne.Annotations(onset, duration, text).save(path, verbose="error")
            write_bytes(self.folder / f"{predictions.key}-annot.fif", path.read_bytes())

    def _bids(self, predictions: Predictions, words: Mapping[str, str]) -> None:
        columns = dict(predictions.columns(self.task))
        columns = {
            "onset": columns.pop("onset"),
            "duration": columns.pop("duration"),
            "trial_type": columns["predicted"],
        } | {name: values for name, values in columns.items() if name != "predicted"}
        who = (predictions.subject, predictions.session, predictions.recording)
        self._derivatives.write(who, columns, self._sidecar(predictions, columns, words))

    def _sidecar(self, predictions: Predictions, columns: Iterable[str], words: Mapping[str, str]) -> dict[str, Any]:
        task = predictions.tasks[self.task].task
        described = {name: {"Description": words[name]} for name in columns if name in words}
        described |= {f"probability_{name}": {"Description": f"probability of {name!r}"} for name in task.class_names}
        levels = {"Levels": dict.fromkeys(task.class_names, f"class of task {self.task}")} if task.class_names else {}
        trial_type = {"Description": words["predicted"].partition(";")[0] + "; n/a where withheld", **levels}
        what = f"Predictions of task {self.task} by {the_model(self.model)}, a row for each window"
        return {"Description": what, "trial_type": trial_type, **described}

    @cached_property
    def _derivatives(self) -> Derivatives:
        return Derivatives(self.folder, self.task, f"predictions of task {self.task} by {the_model(self.model)}")


def tidy_rows(predictions: Predictions, task: str) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return columns and rows of a recording: a row per window and class with its probability, or per number."""
    of_task = predictions.tasks[task]
    names, who = of_task.task.class_names, (predictions.subject, predictions.session, predictions.recording)
    columns = (*TIDY_COLUMNS, "class", "probability") if names else TIDY_COLUMNS
    rows: list[tuple[object, ...]] = []
    labels, predicted = of_task.label, of_task.predicted
    for row, onset in enumerate(predictions.onset):
        cells = (predicted[row], labels[row], predictions.quality[row], of_task.reason[row])
        window = (*who, float(onset), predictions.length_seconds, *map(plain_cell_of, cells))
        values = of_task.values[row]
        rows += [(*window, name, plain_cell_of(values[k])) for k, name in enumerate(names)] if names else [window]
    return columns, rows


def plain_windows(predictions: Predictions, task: str) -> dict[str, Any]:
    """Return a recording's predictions as plain values for JSON: whose they are, and each column as a list."""
    columns = {name: [plain_cell_of(value) for value in values] for name, values in predictions.columns(task).items()}
    who = {"participant_id": predictions.subject, "session": predictions.session, "recording": predictions.recording}
    return {**who, "task": task, "windows": columns}


def _parquet(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    content = io.BytesIO()
    table = pyarrow.table({name: list(column) for name, column in zip(columns, values, strict=True)})
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()
